# SPDX-License-Identifier: Apache-2.0
"""`memwatch report`: what it says about ledgers, reports, folders and processes, and how it refuses
what it cannot read. The ledgers are made by tests/unit/ledger_builder.c, without the library.
"""

import collections
import gzip
import json
import os
import pathlib
import re
import subprocess
import time

import pytest

from conftest import BUILD, SANITIZE, load_report, report_schema

MAKE_LEDGER = BUILD / "tests" / "fuzz" / "make_ledger"
PID = 4242  # of the sample
START = 1750000000123


def make_ledger(path, *what):
    subprocess.run([MAKE_LEDGER, path, *(what or ["sample"])], check=True)
    return path


@pytest.fixture
def ledger(tmp_path):
    """A small ledger with something of everything."""
    return make_ledger(tmp_path / f"memwatch.node-7.example.rank3.{PID}.{START}.ledger")


@pytest.fixture
def as_json(memwatch):
    """as_json(subject) -> the valid report of it"""

    def run(subject):
        done = memwatch("report", "--format", "json", subject)
        assert done.returncode == 0, done.stderr
        report = json.loads(done.stdout)
        errors = [f"{e.json_path}: {e.message}" for e in report_schema().iter_errors(report)]
        assert not errors, errors
        return report

    return run


def patch(path, old, new):
    """Overwrites one text of a file by another of the same length."""
    data = path.read_bytes()
    assert data.count(old) >= 1 and len(old) == len(new)
    path.write_bytes(data.replace(old, new))


def held(rows):
    """Live bytes and blocks by device and space."""
    sums = collections.Counter()
    for row in rows:
        sums[row["device"], row["space"], "bytes"] += row["live_bytes"]
        sums[row["device"], row["space"], "blocks"] += row["live_blocks"]
    return +sums


# --- one process -------------------------------------------------------------------------------


def test_the_json_report_says_who_and_how(ledger, as_json):
    report = as_json(ledger)
    process = report["process"]
    assert process["argv"] == ["python3", "train.py", "--epochs=3"]
    assert (process["pid"], process["rank"], process["world_size"]) == (PID, 3, 8)
    assert process["start"] == {"utc": "2025-06-15T15:06:40.123Z", "monotonic_ns": 10**9}
    assert process["exit"] == {"kind": "unknown"}
    assert report["coverage"]["losses"]["unknown_frees"]["count"] == 7
    assert report["coverage"]["unwatched_lookups"][0]["name"] == "cuMemFancyNew"
    assert report["coverage"]["complete"] is False
    (failure,) = report["failures"]
    assert failure["result_name"] == "CUDA_ERROR_OUT_OF_MEMORY"
    assert failure["asked_bytes"] == 64 << 30


def test_threads_and_sites_add_up_to_the_totals(ledger, as_json):
    report = as_json(ledger)
    totals = held(report["totals"])
    shares = [share for thread in report["threads"] for share in thread["accounts"]]
    assert totals[0, "device", "bytes"] == (10 << 20) + 51200
    assert held(report["sites"]) == totals
    assert held(shares) == totals
    assert report["blocks"]["count"] == sum(row["live_blocks"] for row in report["totals"])


def test_pools_tell_what_is_used_and_what_is_reserved(ledger, as_json):
    (pool,) = as_json(ledger)["pools"]
    assert pool["used_bytes"] == 3 << 20
    assert pool["reserved_bytes"] == 32 << 20


def test_unattributed_is_what_was_neither_free_nor_ours_when_the_program_asked(
    ledger, as_json, memwatch
):
    (device, _) = as_json(ledger)["devices"]
    assert device["own_bytes"] == (10 << 20) + 51200 + (2 << 20), "live at the end"
    assert device["memory_info"]["own_bytes"] == 3 << 20, "live when it asked"
    assert device["unattributed_bytes"] == (1 << 30) - (3 << 20)
    assert "1021.00 MiB were not this process's allocations" in memwatch("report", ledger).stdout


def test_nothing_is_called_unattributed_if_it_is_not_known_what_was_ours_then(tmp_path, memwatch, as_json):
    ledger = make_ledger(tmp_path / "unknown.ledger", "unknown_own")
    (device, _) = as_json(ledger)["devices"]
    assert device["memory_info"]["own_bytes"] is None
    assert device["unattributed_bytes"] is None
    assert "this process's allocations" not in memwatch("report", ledger).stdout


def test_the_text_report_fits_a_terminal_and_tells_the_main_things(ledger, memwatch):
    done = memwatch("report", ledger)
    assert done.returncode == 0, done.stderr
    assert max(map(len, done.stdout.splitlines())) <= 80
    for told in (
        "python3 train.py --epochs=3",
        "rank 3 of 8",
        "10.05 MiB",
        "cudaMalloc",
        "loader",
        "CUDA_ERROR_OUT_OF_MEMORY",
        "asked for 64.00 GiB",
        "7 frees of pointers or handles that were not in the ledger",
        "cuMemFancyNew",
        "RTLD_DEEPBIND",
    ):
        assert told in done.stdout


def test_a_report_reads_like_the_ledger_it_was_made_of(ledger, memwatch, tmp_path):
    kept = tmp_path / "kept.json"
    assert memwatch("report", "--format=json", "--output", kept, ledger).returncode == 0
    assert memwatch("report", kept).stdout == memwatch("report", ledger).stdout


def test_names_cannot_give_orders_to_the_terminal(ledger, memwatch, as_json):
    patch(ledger, b"train.py", b"\x1b[2J\xc2\x9b\x07\x9b")
    patch(ledger, b"loader\0", b"\x1b]0;\x7f\r\0")
    done = memwatch("report", ledger)
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", done.stdout)
    assert as_json(ledger)["process"]["argv"][1] == "\x1b[2J\u009b\x07\ufffd"


def test_how_it_ended_is_told(ledger, memwatch, as_json):
    # Where exit_kind and exit_value stand in the header: behind magic, 16 sizes and life.
    for kind, value, told in ((1, 3, "exit code 3"), (2, 9, "signal 9 (SIGKILL)")):
        with open(ledger, "r+b") as file:
            file.seek(76)
            file.write(kind.to_bytes(4, "little") + value.to_bytes(4, "little"))
        assert told in memwatch("report", ledger).stdout
    assert as_json(ledger)["process"]["exit"] == {"kind": "signal", "signal": 9, "name": "SIGKILL"}


LONG = "/root/.cache/uv/environments/a-name-that-goes-on-and-on/bin/python"


@pytest.mark.parametrize("argv, told", [
    ([LONG, "examples/leak_fragments.py"], "python examples/leak_fragments.py"),
    ([LONG, "-X", "dev", "examples/leak_fragments.py", "--epochs"] + ["more"] * 9,
     "python -X dev examples/leak_fragments.py --epochs more"),
    ([LONG, "/home/ada" + "/folder" * 12 + "/train.py"], "python ...er/folder/"),
    ([LONG, "/home/ada" + "/folder" * 12 + "/train.py"], "folder/train.py"),
    (["bin/python3", "train.py"], "bin/python3 train.py"),
])
def test_the_program_s_line_never_cuts_off_the_script(argv, told, ledger, as_json, memwatch, tmp_path):
    report = as_json(ledger)
    report["process"]["argv"] = argv
    kept = tmp_path / "kept.json"
    kept.write_text(json.dumps(report))
    line = memwatch("report", kept).stdout.splitlines()[0]
    assert line.startswith("program   ") and told in line and len(line) <= 80, line


def as_text(report, memwatch, tmp_path, *options):
    kept = tmp_path / "kept.json"
    kept.write_text(json.dumps(report))
    done = memwatch("report", *options, kept)
    assert done.returncode == 0, done.stderr
    return done.stdout


TENSORS = {"device": 0, "space": "tensor", "counted_as_memory": False, "live_bytes": 0,
           "live_blocks": 0, "peak_bytes": 7 << 20, "peak_time": None, "allocations": 5000,
           "allocated_bytes": 9 << 20, "frees": 5000, "freed_bytes": 9 << 20, "failed": 0}


def test_by_thread_allocations_are_of_what_is_live_so_without_tensors(ledger, as_json, memwatch, tmp_path):
    report = as_json(ledger)
    row = lambda: re.search(r"^loader +.*$", as_text(report, memwatch, tmp_path), re.MULTILINE)[0]
    before = row()
    report["totals"].append(TENSORS)
    [thread] = [t for t in report["threads"] if t["name"] == "loader"]
    thread["accounts"].append(TENSORS)
    assert row() == before
    # What earlier threads of its block did is not told by space.
    thread["earlier"] |= {"threads": 1, "allocations": 3, "frees": 3}
    mine = [a for a in thread["accounts"] if a["space"] not in ("tensor", "mapped", "address")]
    allocations, frees = (sum(a[k] for a in mine) for k in ("allocations", "frees"))
    assert re.search(rf" <={allocations} +<={frees}$", row()), row()


def test_threads_that_have_no_row_are_told_of(ledger, as_json, memwatch, tmp_path):
    report = as_json(ledger)
    assert "that ended and hold" not in as_text(report, memwatch, tmp_path)
    report["threads"][0]["earlier"] |= {"threads": 1, "allocations": 3, "frees": 3}
    words = "and 1 that ended and holds nothing: 3 allocations, 3 frees\n"
    assert words in as_text(report, memwatch, tmp_path)
    report["threads"][1]["earlier"] |= {"threads": 2, "allocations": 4, "frees": 4}
    words = "and 3 that ended and hold nothing: 7 allocations, 7 frees\n"
    assert words in as_text(report, memwatch, tmp_path)


@pytest.mark.parametrize("live, first", [(0, "by site"), (1 << 20, "tensors by site")])
def test_a_table_of_tensors_that_are_gone_does_not_stand_before_live_memory(
    live, first, ledger, as_json, memwatch, tmp_path
):
    report = as_json(ledger)
    report["totals"].append(TENSORS | {"live_bytes": live})
    report["sites"].append(report["sites"][0] | {"space": "tensor", "live_bytes": live})
    text = as_text(report, memwatch, tmp_path)
    assert re.findall(r"^(?:tensors )?by site", text, re.MULTILINE)[0] == first
    assert len(re.findall(r"^(?:tensors )?by site", text, re.MULTILINE)) == 2


# --- --check -----------------------------------------------------------------------------------


def test_check_passes_a_ledger_that_agrees_with_itself(ledger, memwatch):
    done = memwatch("report", "--check", ledger)
    assert done.returncode == 0
    assert done.stdout.count("ok ") == 9 and "WRONG" not in done.stdout


def shorten_the_last_block(ledger):
    """The last record of 1 MiB in the place with number 1 becomes a byte shorter."""
    data = ledger.read_bytes()
    at = data.rindex((1 << 48 | 1 << 20).to_bytes(8, "little"))
    shorter = (1 << 48 | (1 << 20) - 1).to_bytes(8, "little")
    ledger.write_bytes(data[:at] + shorter + data[at + 8 :])


def test_check_finds_a_ledger_that_does_not(ledger, memwatch, tmp_path):
    shorten_the_last_block(ledger)
    done = memwatch("report", "--check", ledger)
    assert done.returncode == 1
    assert "WRONG" in done.stdout and "does not agree" in done.stdout
    # The text report warns, and a report made of it is as bad.
    assert "DOES NOT AGREE" in memwatch("report", ledger).stdout
    kept = tmp_path / "kept.json"
    memwatch("report", "--format=json", "-o", kept, ledger)
    assert memwatch("report", "--check", kept).returncode == 1


# --- what is refused ---------------------------------------------------------------------------


def header_number(path, offset, value):
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(value.to_bytes(4, "little"))


REFUSALS = {
    "a truncated ledger": (lambda p: os.truncate(p, 100_000), "cut short"),
    "a ledger cut within its header": (lambda p: os.truncate(p, 5000), "cut short"),
    "a later format": (lambda p: header_number(p, 8, 4), "a later version"),
    "an older format": (lambda p: header_number(p, 8, 1), "an older version"),
    "another byte order": (lambda p: header_number(p, 12, 0x04030201), "byte order"),
    "an overwritten header": (lambda p: header_number(p, 16, 0xFFFFFFFF), "header says"),
    "an empty file": (lambda p: os.truncate(p, 0), "not a memwatch ledger"),
    "another program's file": (lambda p: p.write_bytes(b"\x7fELF" * 1000), "not a memwatch ledger"),
    "JSON that is cut short": (lambda p: p.write_text('{"schema": "memw'), "cut short"),
    "JSON of others": (lambda p: p.write_text('{"schema": "b/1"}'), "not a memwatch report"),
    "a later report": (lambda p: p.write_text('{"schema": "memwatch-report/2"}'), "later version"),
}


def test_a_ledger_of_an_earlier_release_is_read_as_that_release_read_it(memwatch, tmp_path):
    """ledgers/format2: `driver_api leak` of examples/, recorded by the last library of format 2."""
    packed = pathlib.Path(__file__).parent / "ledgers" / "format2.ledger.gz"
    path = tmp_path / "memwatch.vm.1090.1795915314882.ledger"
    path.write_bytes(gzip.decompress(packed.read_bytes()))
    assert memwatch("report", "--check", path).returncode == 0
    (tmp_path / "report.json").write_text(memwatch("report", "--format", "json", path).stdout)
    report = load_report(tmp_path / "report.json")
    assert report["ledger"]["format"] == 2
    [total] = report["totals"]
    assert (total["live_bytes"], total["live_blocks"], total["peak_bytes"]) == (80 << 20, 10, 208 << 20)
    assert [s["live_blocks"] for s in report["sites"]] == [10, 0, 0]
    assert all(frame["module"] for frame in report["sites"][0]["frames"])
    assert report["torch"] is None
    assert report["coverage"]["tensors"]["state"] == "none"


@pytest.mark.parametrize("kind", REFUSALS)
def test_what_cannot_be_read_is_refused_in_one_line(kind, ledger, memwatch):
    damage, told = REFUSALS[kind]
    damage(ledger)
    for arguments in (["--format", "json"], ["--format", "text"], ["--check"]):
        done = memwatch("report", *arguments, ledger)
        assert done.returncode == 3
        assert done.stdout == ""
        assert done.stderr.count("\n") == 1
        assert str(ledger) in done.stderr and told in done.stderr


def test_a_report_with_members_of_wrong_types_is_no_crash(memwatch, tmp_path):
    path = tmp_path / "odd.json"
    odd = {"schema": "memwatch-report/1", "process": 7, "totals": [3, {"space": 1e300}]}
    path.write_text(json.dumps(odd))
    assert memwatch("report", path).returncode == 0


def test_nothing_there_is_told(memwatch, tmp_path):
    assert memwatch("report", tmp_path / "missing").returncode == 4
    assert memwatch("report", tmp_path).returncode == 4
    assert memwatch("report", "2147483646", cwd=tmp_path).returncode == 4


@pytest.mark.parametrize(
    "arguments", [[], ["--format", "xml", "a"], ["--wrong", "a"], ["a", "-o"]]
)
def test_wrong_usage_is_told(arguments, memwatch):
    done = memwatch("report", *arguments)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1 and "memwatch" in done.stderr


def test_a_wrong_format_is_told_with_those_that_there_are(memwatch):
    assert memwatch("report", "--format", "xml", "a").stderr == "memwatch: report: --format takes text or json, not 'xml'\n"


def test_output_that_cannot_be_written_is_told(ledger, memwatch):
    done = memwatch("report", "--output", "/dev/full", ledger)
    assert done.returncode == 3 and "cannot write" in done.stderr


# --- processes and folders ---------------------------------------------------------------------


def test_a_process_is_found_by_its_id(ledger, memwatch, as_json, tmp_path):
    by_ledger = memwatch("report", PID, env={"MEMWATCH_LEDGER_DIR": ledger.parent}, cwd="/")
    assert by_ledger.returncode == 0 and "train.py" in by_ledger.stdout
    folder = tmp_path / "reports"
    folder.mkdir()
    (folder / f"memwatch.node.{PID}.{START}.json").write_text(json.dumps(as_json(ledger)))
    ledger.unlink()
    by_report = memwatch("report", PID, cwd=folder)
    assert by_report.returncode == 0 and by_report.stdout == by_ledger.stdout


def test_sweep_turns_a_dead_process_s_ledger_into_its_report(ledger, memwatch, tmp_path):
    """The sample's own folder does not exist: the report goes to the user's state directory."""
    state = tmp_path / "state"
    done = memwatch("report", "--sweep", ledger.parent, env={"XDG_STATE_HOME": state})
    assert done.returncode == 0, done.stderr
    assert not ledger.exists()
    report = state / "memwatch" / (ledger.stem + ".json")
    assert report.stat().st_mode & 0o777 == 0o600
    assert json.loads(report.read_text())["process"]["pid"] == PID
    assert os.listdir(report.parent) == [report.name]


def test_a_folder_shows_each_process_and_what_cannot_be_read(tmp_path, memwatch, as_json):
    for rank in (10, 2):
        make_ledger(tmp_path / f"memwatch.h.rank{rank}.{rank}.{START}.ledger")
    done = memwatch("report", tmp_path)
    assert done.returncode == 0, done.stderr
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert "2 processes" in done.stdout
    summary = as_json(tmp_path)
    assert [row["file"].split(".")[2] for row in summary["reports"]] == ["rank2", "rank10"]
    # A peak of several spaces is a limit; a row's live bytes and its peak are of the same spaces.
    memory = [row for row in summary["reports"][0]["totals"] if row["counted_as_memory"]]
    live, peaks = (sum(row[key] for row in memory) / (1 << 20) for key in ("live_bytes", "peak_bytes"))
    lines = [line.split() for line in done.stdout.splitlines()]
    rows = [words for words in lines if "train.py" in words]
    assert [row[1:3] for row in rows] == [["4242", "train.py"]] * 2
    assert all(f" {live:.2f} MiB <={peaks:.2f} MiB " in " ".join(row) for row in rows), rows
    failures = [str(report["failures_total"]) for report in summary["reports"]]
    assert [row[-1] for row in rows] == failures, "each failed call once, in whatever spaces it failed"
    files = [words[0] for words in lines if words and words[0].endswith(".ledger")]
    assert files == [row["file"] for row in summary["reports"]]
    (device,) = [row for row in summary["totals"] if row["space"] == "device"]
    assert device["live_bytes"] == 2 * ((10 << 20) + 51200 + 4096)
    (tmp_path / f"memwatch.h.rank3.3.{START}.ledger").write_bytes(b"memwatch")
    done = memwatch("report", tmp_path)
    assert done.returncode == 3
    assert "rank3" in done.stderr and "2 processes" in done.stdout


def test_a_folder_check_names_the_ledger_that_fails(tmp_path, memwatch):
    good, bad = (make_ledger(tmp_path / f"memwatch.h.{pid}.{START}.ledger") for pid in (1, 2))
    shorten_the_last_block(bad)
    done = memwatch("report", "--check", tmp_path)
    assert done.returncode == 1
    assert bad.name in done.stderr and good.name not in done.stderr


# --- speed -------------------------------------------------------------------------------------

timed = pytest.mark.skipif(SANITIZE != "", reason="a sanitizer's checks take time of their own")


def seconds(memwatch, *arguments):
    begin = time.monotonic()
    done = memwatch(*arguments)
    assert done.returncode == 0, done.stderr
    return time.monotonic() - begin


@timed
def test_a_million_live_blocks_take_at_most_two_seconds(tmp_path, memwatch):
    ledger = make_ledger(tmp_path / "large.ledger", "blocks", "1000000")
    assert seconds(memwatch, "report", "--format", "json", ledger) <= 2


@timed
def test_a_folder_of_64_ranks_takes_at_most_three_seconds(tmp_path, memwatch):
    first = make_ledger(tmp_path / f"memwatch.h.rank0.1.{START}.ledger", "blocks", "10000")
    for rank in range(1, 64):
        os.link(first, tmp_path / f"memwatch.h.rank{rank}.{rank + 1}.{START}.ledger")
    assert seconds(memwatch, "report", tmp_path) <= 3


# --- the program -------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [[], ["run"], ["report"], ["doctor"], ["monitor"]])
def test_help_and_version_are_everywhere(command, memwatch):
    done = memwatch(*command, "--help")
    assert done.returncode == 0
    assert done.stdout.startswith("Usage: memwatch " + (command or ["COMMAND"])[0])
    assert max(map(len, done.stdout.splitlines())) <= 80
    done = memwatch(*command, "--version")
    assert done.returncode == 0 and re.fullmatch(r"memwatch [0-9.]+\n", done.stdout)


def test_a_command_that_is_none_is_told(memwatch):
    done = memwatch("explode")
    assert done.returncode == 2 and "explode" in done.stderr


def test_mutated_ledgers_and_reports_are_no_crash():
    """tests/fuzz/fuzz_reader.c, built with sanitizers, on a fixed number of inputs."""
    fuzz = BUILD / "tests" / "fuzz" / "fuzz_reader"
    environment = {**os.environ, "UBSAN_OPTIONS": "print_stacktrace=1"}
    environment.pop("LD_PRELOAD", None)
    done = subprocess.run([fuzz, "8000"], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-4000:]
    assert done.stdout == "8000 inputs read\n"

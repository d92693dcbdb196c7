# SPDX-License-Identifier: Apache-2.0
"""Who holds the memory: sites with their stacks, exact to the line, and how they are shown.

The first part reads ledgers made by tests/unit/ledger_builder.c, the second runs programs under the
library: C and C++ in all the ways in which their names and lines can be there or not.
"""

import collections
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

from conftest import BUILD, ROOT, needs_plain_build, report_schema
from stack_programs import CC, CUDA, CXX, SOURCES, build, line_of, shown

MAKE_LEDGER = BUILD / "tests" / "fuzz" / "make_ledger"
MIB = 1 << 20


def make_ledger(path, *what):
    subprocess.run([MAKE_LEDGER, path, *map(str, what or ["sample"])], check=True)
    return path


@pytest.fixture
def sample(tmp_path):
    """Seven sites; the largest has a stack of two Python and four native frames."""
    return make_ledger(tmp_path / "memwatch.h.4242.1750000000123.ledger")


@pytest.fixture
def as_json(memwatch):
    """as_json(subject, *options) -> the valid report of it"""

    def run(subject, *options, env=None):
        done = memwatch("report", "--format", "json", *options, subject, env=env)
        assert done.returncode == 0, done.stderr
        report = json.loads(done.stdout)
        some = {**report, "sites": report["sites"][:20]}  # a thousand take seconds
        errors = [f"{e.json_path}: {e.message}" for e in report_schema().iter_errors(some)]
        assert not errors, errors
        return report

    return run


@pytest.fixture
def as_text(memwatch):
    """as_text(subject, *options) -> the lines of the part about sites"""

    def run(subject, *options):
        done = memwatch("report", *options, subject)
        assert done.returncode == 0, done.stderr
        assert max(map(len, done.stdout.splitlines())) <= 80
        lines = done.stdout.splitlines()
        (first,) = [i for i, line in enumerate(lines) if re.match(r"by .* share ", line)]
        return lines[first : lines.index("", first)]

    return run


def names(lines):
    """The first column of a table of sites or groups."""
    return [line[:30].strip() for line in lines[1:] if not line.startswith((" ", "and "))]


# --- what a report says of sites ----------------------------------------------------------------


def test_a_site_tells_its_numbers(sample, as_json):
    site = as_json(sample)["sites"][0]
    assert (site["api"], site["driver_api"]) == ("cudaMalloc", "cuMemAlloc_v2")
    assert (site["device"], site["space"]) == (0, "device")
    assert (site["live_bytes"], site["live_blocks"]) == (7 * MIB, 7)
    assert (site["allocations"], site["frees"], site["failed"]) == (10, 3, 1)
    assert site["peak_bytes"] == 10 * MIB
    start = 10**9  # of the sample's clock
    since = {name: site[name]["monotonic_ns"] - start for name in
             ("first_allocation", "last_allocation", "oldest_block", "peak_time")}
    assert since == {
        "first_allocation": 10**6,
        "last_allocation": 10 * 10**6,
        "oldest_block": 4 * 10**6,
        "peak_time": 10 * 10**6,
    }
    assert site["lifetimes"] == [{"below_ms": 100, "blocks": 3}]
    assert site["overflow"] is False


def test_a_stack_has_python_and_native_frames_in_the_order_of_the_calls(sample, as_json):
    site = as_json(sample)["sites"][0]
    torch = {"kind": "native", "function": None, "file": None, "line": None,
             "module": "/opt/torch/lib/libtorch.so", "build_id": "01234567"}
    train = {"kind": "python", "file": "/home/ada/train.py"}
    assert site["frames"][:4] == [
        {**torch, "offset": "0x1233"},
        {**torch, "offset": "0x1566"},
        {**train, "function": "Model.forward", "line": 42},
        {**train, "function": "<module>", "line": 99},
    ]
    # The interpreter's own frames are there, but folded.
    assert [frame["module"] for frame in site["frames"][4:]] == ["/opt/python/bin/python3.11"] * 2
    assert all(frame["folded"] for frame in site["frames"][4:])
    assert site["frames"][site["where"]]["function"] == "Model.forward"


def test_the_largest_blocks_name_their_site(sample, as_json):
    report = as_json(sample)
    for block in report["blocks"]["largest"]:
        site = report["sites"][block["site"]]
        for name in ("api", "device", "space"):
            assert site[name] == block[name]


def test_where_stacks_come_from_is_told(sample, as_json, memwatch):
    stacks = as_json(sample)["coverage"]["stacks"]
    assert stacks == {
        "python": {"state": "live", "text": "CPython 3.11.7"},
        "native": {"state": "unavailable", "text": "no libunwind.so.8"},
    }
    text = memwatch("report", sample).stdout
    assert "Python stacks: CPython 3.11.7" in text
    assert "native stacks unavailable: no libunwind.so.8" in text
    assert "no names in /opt/torch/lib/libtorch.so: the file is not there" in text


def test_the_text_shows_the_line_and_the_chain(sample, as_text):
    lines = as_text(sample)
    assert re.fullmatch(
        r"train.py:42 in Model.forward +7.00 MiB +58.0% +7 +10.00 MiB +12 ms", lines[1]
    )
    assert lines[2:7] == [
        "    cudaMalloc, device 0, device: 10 allocated (10.00 MiB), 3 freed, 1 failed",
        "      libtorch.so+0x1233",
        "      libtorch.so+0x1566",
        "      train.py:42 in Model.forward",
        "      train.py:99 in <module>",
    ]
    assert "python3.11" not in "\n".join(lines)
    assert "      python3.11+0x4241" in as_text(sample, "--all-frames")


def test_a_report_shows_sites_like_the_ledger_it_was_made_of(sample, memwatch, tmp_path):
    kept = tmp_path / "kept.json"
    assert memwatch("report", "--format=json", "-o", kept, sample).returncode == 0
    for options in (["--all-frames"], ["--sort=age"], ["--group-by=line"], ["--group-by=device"],
                    ["--group-by=thread", "--sort=allocated"], ["--group-by=module", "--limit=2"]):
        of_ledger = memwatch("report", *options, sample)
        assert of_ledger.returncode == 0
        assert memwatch("report", *options, kept).stdout == of_ledger.stdout


def test_sites_are_sorted_as_asked_for(sample, as_text, as_json):
    by_key = {key: names(as_text(sample, "--sort", key)) for key in
              ("live", "peak", "allocated", "failed", "age")}
    forward = "train.py:42 in Model.forward"
    for key in ("live", "peak", "allocated", "failed"):
        assert by_key[key][0] == forward
    assert by_key["live"][1:3] == ["cuMemAllocAsync", "cuMemCreate"]
    # By the birth of the oldest block: 4, 11, 12, 13, 14, 15 ms.
    assert by_key["age"][:6] == [forward, "cuMemAlloc_v2", "cuMemAllocPitch_v2", "cuMemHostAlloc",
                                 "cuMemAllocAsync", "cuMemCreate"]
    # What is no memory of its own comes last, whatever its size.
    assert {order[-1] for order in by_key.values()} == {"cuMemMap"}
    assert [site["api"] for site in as_json(sample, "--sort=age")["sites"]][1] == "cuMemAlloc_v2"
    assert [site["api"] for site in as_json(sample)["sites"]][-1] == "cuMemMap"


def test_groups_add_up(sample, as_text):
    assert names(as_text(sample, "--group-by=line"))[0] == "train.py:42 in Model.forward"
    assert names(as_text(sample, "--group-by=function"))[0] == "Model.forward (train.py)"
    assert names(as_text(sample, "--group-by=module"))[0] == "/home/ada/train.py"
    assert names(as_text(sample, "--group-by=thread")) == [
        "python3 (4242)", "loader (4243)", "worker (4244)"]
    device = as_text(sample, "--group-by=device")
    assert names(device) == ["device 0", "host", "device 1", "device 0*"]
    assert re.match(r"device 0 +12.05 MiB +99.9% +10 ", device[1])


@pytest.fixture
def large(tmp_path):
    """2000 sites with stacks: site i holds 1000 * (i + 1) bytes; one more for what did not fit."""
    return make_ledger(tmp_path / "large.ledger", "sites", 2000)


def test_a_report_lists_the_largest_sites_and_sums_up_the_rest(large, as_json, as_text):
    report = as_json(large)
    assert len(report["sites"]) == 1000
    assert report["sites"][1]["live_bytes"] == 2000 * 1000
    assert report["sites"][-1]["live_bytes"] == 1002 * 1000
    rest = report["sites_omitted"]
    assert (rest["count"], rest["live_bytes"]) == (1001, 1000 * sum(range(1, 1002)))
    (total,) = report["totals"]
    assert total["live_bytes"] == rest["live_bytes"] + sum(s["live_bytes"] for s in report["sites"])
    assert [block["site"] for block in report["blocks"]["largest"]] == list(range(100))
    lines = as_text(large, "--limit=3")
    assert len(names(lines)) == 3
    assert lines[-2].startswith("and 9") and lines[-2].endswith("more sites: --limit shows them")
    assert lines[-1].startswith("and 1001 further sites with ")
    assert as_text(large, "--limit=999")[-2] == "and 1 more site: --limit shows it"
    assert len(names(as_text(large, "--group-by=line", "--limit=5000"))) > 500


def test_a_group_is_the_sum_of_its_sites(large, as_json, as_text):
    report = as_json(large)
    end = report["process"]["last_event"]["monotonic_ns"]
    blocks, live, age = collections.Counter(), collections.Counter(), collections.Counter()
    for site in report["sites"]:
        frame = site["frames"][site["where"]] if site["frames"] else {"function": "further"}
        blocks[frame["function"]] += site["live_blocks"]
        live[frame["function"]] += site["live_bytes"]
        ms = (end - site["oldest_block"]["monotonic_ns"]) // 10**6
        age[frame["function"]] = max(age[frame["function"]], ms)
    lines = as_text(large, "--group-by=function", "--limit=20")[1:21]
    shown = [re.split(r"  +", line) for line in lines]
    assert [row[0].split()[0] for row in shown] == [name for name, _ in live.most_common(20)]
    for name, _, _, count, peak, oldest in shown:
        name = name.split()[0]
        assert int(count) == blocks[name]
        assert peak.startswith("<=") == (blocks[name] > 1)  # a block a site
        assert oldest == f"{age[name]} ms" or age[name] >= 1000


def test_a_sum_of_peaks_is_not_more_than_there_ever_was(sample, as_json, as_text, tmp_path):
    report = as_json(sample)
    for site in report["sites"]:
        site.update(peak_bytes=12 * MIB, frames=report["sites"][0]["frames"], where=2)
    kept = tmp_path / "kept.json"
    kept.write_text(json.dumps(report))
    peaks = sum(row["peak_bytes"] for row in report["totals"] if row["counted_as_memory"])
    assert 12 * MIB < peaks < 24 * MIB
    assert f"<={peaks / MIB:.2f} MiB" in as_text(kept, "--group-by=line")[1]


def test_sites_that_found_no_room_say_so(large, as_json, as_text):
    (overflow,) = [site for site in as_json(large)["sites"] if site["overflow"]]
    assert overflow["live_bytes"] == 2001 * 1000
    assert overflow["frames"] == [] and overflow["where"] is None
    assert names(as_text(large))[0] == "further sites of cudaMalloc"


@needs_plain_build  # the frames' offsets fall on other functions of make_ledger in others
def test_a_deep_stack_shows_its_innermost_frames_and_the_program_s_own(large, as_text):
    lines = as_text(large, "--limit=2")
    chain = [line.strip() for line in lines if line.startswith("      ")]
    assert len(chain) == 10
    assert all(frame.startswith("make_ledger") for frame in chain[:3])
    assert chain[3] == "... 17 frames, shown with --all-frames"
    assert all(re.match(r"layer\d+.py:\d+ in Layer\d+.forward", frame) for frame in chain[4:9])
    assert chain[9] == "... 15 frames, shown with --all-frames"
    everything = as_text(large, "--limit=2", "--all-frames")
    assert len([line for line in everything if line.startswith("      ")]) == 40


def test_a_failed_call_has_its_stack_though_its_site_is_not_listed(large, as_json, memwatch):
    report = as_json(large)
    unlisted, listed = report["failures"]
    assert unlisted["site"] is None
    frame = unlisted["frames"][unlisted["where"]]
    assert (frame["function"], frame["line"]) == ("Layer0.forward", 100)
    assert len(unlisted["frames"]) >= 20
    assert report["sites"][listed["site"]]["live_bytes"] == 2000 * 1000
    assert listed["frames"] == []
    text = memwatch("report", large).stdout
    at = re.findall(r"^    at (.*)", text, re.MULTILINE)
    assert at == ["layer0.py:100 in Layer0.forward", at[1]] and at[1].startswith("layer")
    assert "called by layer" in text  # what the finding says of it
    (failed, *_) = as_json(large, "--sort=failed")["failures"]
    assert failed["site"] in (0, 1) and failed["frames"] == []


def test_holders_of_one_line_are_told_together(sample, as_json, memwatch, tmp_path):
    """One line reached by two ways is two sites; a reader of a finding wants the line's bytes."""
    report = as_json(sample)
    first, second, third = report["sites"][:3]
    second.update(frames=first["frames"], where=first["where"])
    (finding, *_) = report["findings"]
    finding["sites"] = [0, 1, 2]
    kept = tmp_path / "kept.json"

    def held():
        kept.write_text(json.dumps(report))
        text = " ".join(memwatch("report", kept).stdout.split())
        return re.search(r"held by (.*?\)); (cuMemCreate \(.*?\)) ", text).groups()

    assert first["live_bytes"] + second["live_bytes"] == 10 * MIB and third["api"] == "cuMemCreate"
    assert held() == ("train.py:42 in Model.forward (10.00 MiB, by 2 stacks)",
                      "cuMemCreate (2.00 MiB)")
    # Peaks of two sites need not have come together.
    first.update(live_bytes=0, peak_bytes=10 * MIB)
    second.update(live_bytes=0, peak_bytes=3 * MIB)
    assert held()[0] == ("train.py:42 in Model.forward (at its peak at most 13.00 MiB, by 2 "
                         "stacks)")


@pytest.mark.parametrize("file, function, shown", [
    ("/home/ada/train.py", "Model.forward", "train.py:1234 in Model.forward"),
    ("/proj/build/run/../../examples/loop.py", "f", ".../examples/loop.py:1234 in f"),
    ("/proj/build/run/../../examples/bindings.py", "call", "bindings.py:1234 in call"),
    ("examples/train_host.c", "allocate_batch", "train_host.c:1234 in alloca..."),
    ("/x/a_file_with_a_long_name.py", "call", "...le_with_a_long_name.py:1234"),
    ("/x/a_file_with_a_very_very_long_name.py", "call", "...very_very_long_name.py:1234"),
    (None, None, "...-x86_64-linux-gnu.so+0x1233"),
])
@pytest.mark.parametrize("option", ["site", "line"])
def test_a_line_s_number_is_never_cut(file, function, shown, option, sample, as_json, as_text,
                                      tmp_path):
    report = as_json(sample)
    report["process"]["cwd"] = "/proj/build/run"
    site = report["sites"][0]
    site["frames"] = [{**site["frames"][site["where"]], "file": file, "function": function,
                       "line": 1234}]
    site["where"] = 0
    if not file:
        module = "/v/site-packages/cydriver.cpython-311-x86_64-linux-gnu.so"
        site["frames"][0].update(kind="native", line=None, module=module, build_id="",
                                 offset="0x1233")
    kept = tmp_path / "kept.json"
    kept.write_text(json.dumps(report))
    assert names(as_text(kept, f"--group-by={option}"))[0] == shown


def test_several_reports_are_shown_one_after_another(sample, large, memwatch):
    one, other = (memwatch("report", path).stdout for path in (sample, large))
    done = memwatch("report", sample, large)
    assert (done.returncode, done.stdout) == (0, f"{one}\n{other}")
    done = memwatch("report", sample, "/nonexistent", large)
    assert done.returncode == 4 and "/nonexistent" in done.stderr
    assert one in done.stdout and other in done.stdout
    none = memwatch("report")
    assert none.returncode == 2 and "FILE, DIR or PID is needed" in none.stderr


@pytest.mark.parametrize("arguments, told", [
    (["--sort", "size"], "live, peak, allocated, failed or age"),
    (["--group-by", "stack"], "site, line, function, thread, device or module"),
    (["--limit", "0"], "a number from 1 on"),
    (["--limit", "-1"], "a number from 1 on"),
    (["--limit", "ten"], "a number from 1 on"),
    (["--limit", "99999999999999999999"], "a number from 1 on"),
    (["--debug-dir", "/nonexistent"], "/nonexistent"),
])
def test_a_wrong_option_is_told_in_one_line(arguments, told, sample, memwatch):
    done = memwatch("report", *arguments, sample)
    assert done.returncode == 2
    assert done.stdout == "" and done.stderr.count("\n") == 1
    assert told in done.stderr


@pytest.mark.parametrize("option", [["--sort", "peak"], ["--group-by", "line"], ["--limit", "3"],
                                    ["--all-frames"]])
def test_a_folder_has_no_sites_to_sort(option, sample, memwatch, tmp_path):
    done = memwatch("report", *option, tmp_path)
    assert done.returncode == 2 and done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert str(tmp_path) in line and "for the files in it" in line
    assert memwatch("report", *option, sample).returncode == 0


def test_a_report_that_is_not_there_yet_is_not_called_wrong(memwatch, tmp_path):
    """What a shell makes of `LD_PRELOAD=... program; memwatch report memwatch.*.json`."""
    done = memwatch("report", tmp_path / "memwatch.*.json")
    assert done.returncode == 4 and "a moment after its process has ended" in done.stderr


def test_json_is_one_document(sample, large, memwatch):
    done = memwatch("report", "--format", "json", sample, large)
    assert done.returncode == 2 and done.stdout == ""
    assert "give one FILE" in done.stderr


# --- programs -----------------------------------------------------------------------------------


CHAIN = [
    f"leaf:{line_of('chain.c', 'leaf')}",
    f"recursive:{line_of('chain.c', 'end of recursion')}",
    f"recursive:{line_of('chain.c', 'recursive')}",
    f"recursive:{line_of('chain.c', 'recursive')}",
    f"main:{line_of('chain.c', 'main')}",
]


def only_site(report):
    (site,) = report["sites"]
    return site


@needs_plain_build
@pytest.mark.parametrize("flags", [
    ["-O0", "-g"],
    ["-O2", "-g", "-fomit-frame-pointer"],
    ["-O2", "-g", "-fno-omit-frame-pointer"],
    ["-O2", "-g", "-no-pie"],
    ["-O2", "-gdwarf-4"],
    ["-O2", "-g", "-gsplit-dwarf"],
    ["-O2", "-g", "-Wl,--compress-debug-sections=zlib"],
], ids=" ".join)
def test_functions_and_lines_of_c_are_exact(flags, tmp_path, run_watched):
    program = build("chain.c", tmp_path / "chain", *flags)
    site = only_site(run_watched([program]).report)
    assert shown(site) == CHAIN
    assert {pathlib.Path(frame["file"]).name for frame in site["frames"]
            if not frame.get("folded")} == {"chain.c"}
    assert site["frames"][site["where"]]["function"] == "leaf"


@needs_plain_build
def test_functions_and_lines_of_another_compiler_are_exact(tmp_path, run_watched):
    """clang lists no compilation units by address."""
    program = tmp_path / "chain"
    subprocess.run(["clang", "-O2", "-g", SOURCES / "chain.c", "-o", program, *CUDA], check=True)
    assert shown(only_site(run_watched([program]).report)) == CHAIN


@needs_plain_build
@pytest.mark.parametrize("compiler", ["g++ -g", "clang++ -g", "g++ -g -gsplit-dwarf"])
def test_names_of_cpp_are_readable_and_inlined_functions_seen(compiler, tmp_path, run_watched):
    program = tmp_path / "templates"
    subprocess.run([*compiler.split(), "-O2", SOURCES / "templates.cpp", "-o", program, *CUDA],
                   check=True, cwd=tmp_path)
    report = run_watched([program]).report
    line = {mark: line_of("templates.cpp", mark) for mark in
            ("take", "grow", "hidden", "constructor", "virtual", "lambda")}
    virtual, constructor = sorted(report["sites"], key=lambda site: -site["allocations"])
    assert (virtual["allocations"], constructor["allocations"]) == (3, 1)
    take, grow, fill, from_lambda = shown(virtual)[:4]
    assert take.endswith(f"take:{line['take']}")
    assert virtual["frames"][[f.get("inlined", False) for f in virtual["frames"]].index(True)][
        "function"].endswith("take")
    assert grow == f"pool::Array<char>::grow:{line['grow']}"
    assert fill == f"pool::Derived::fill:{line['virtual']}"
    assert from_lambda.startswith("main::") and from_lambda.endswith(f":{line['lambda']}")
    take, grow, hidden, derived = shown(constructor)[:4]
    assert grow == f"pool::Array<double>::grow:{line['grow']}"
    assert hidden == f"pool::(anonymous namespace)::hidden:{line['hidden']}"
    assert derived == f"pool::Derived::Derived:{line['constructor']}"


@needs_plain_build
def test_names_of_rust_are_readable(tmp_path, run_watched):
    program = build("rust_names.c", tmp_path / "rust")
    functions = [frame["function"] for frame in only_site(run_watched([program]).report)["frames"]]
    assert functions[:2] == ["model::layer::forward", "model::train"]


@needs_plain_build
def test_a_call_through_an_inline_header_is_the_program_s(tmp_path, run_watched):
    """As cudaMalloc<int> of cuda_runtime.h."""
    headers = tmp_path / "cuda-13.0" / "include"
    headers.mkdir(parents=True)
    (headers / "typed.h").write_text(
        "#include <cuda.h>\n"
        "template <class T> CUresult typed(T *p, size_t n) { return cuMemAlloc(p, n); }\n")
    source, program = tmp_path / "train.cpp", tmp_path / "train"
    source.write_text(
        "#include <functional>\n#include <typed.h>\n"
        "static CUdeviceptr block;\n"
        "static void train() { if (typed(&block, 4096)) __builtin_trap(); }\n"
        "int main() {\n"
        "    CUcontext c;\n"
        "    if (cuInit(0) || cuDevicePrimaryCtxRetain(&c, 0) || cuCtxSetCurrent(c)) return 2;\n"
        "    std::function<void()> call = train;\n"
        "    call();\n"
        "    return 0;\n"
        "}\n")
    subprocess.run([*CXX, "-O0", "-g", source, "-o", program, "-I", headers, *CUDA], check=True)
    site = only_site(run_watched([program]).report)
    assert shown(site) == ["train:4", "main:9"]
    assert site["frames"][site["where"]]["function"] == "train"


# --- failed calls -------------------------------------------------------------------------------


@needs_plain_build
def test_a_failed_call_tells_the_line_that_made_it(tmp_path, run_watched, memwatch, as_json):
    program = build("fails.c", tmp_path / "fails")
    run = run_watched([program])
    assert run.returncode == 0, run.stderr
    lines = [line_of("fails.c", mark) for mark in ("too much", "some", "free")]
    where = [f"fails.c:{line} in {function}" for line, function in
             zip(lines, ("asks_for_too_much", "allocates", "frees"))]
    too_much, some, free = run.report["failures"]
    for failure, line in ((too_much, lines[0]), (some, lines[1])):
        site = run.report["sites"][failure["site"]]
        assert site["failed"] == 1 and failure["frames"] == []
        assert site["frames"][site["where"]]["line"] == line
    # A failed free is of no site: its stack is its own.
    assert free["site"] is None
    frees, main = shown(free)
    assert frees == f"frees:{lines[2]}" and main.startswith("main:")
    assert free["frames"][free["where"]]["function"] == "frees"

    (path,) = (run.folder / "reports").glob("*.json")
    text = memwatch("report", path).stdout
    assert re.findall(r"^    at (.*)", text, re.MULTILINE) == where
    finding = text.split("\nmemory ")[0]
    assert f"called by {where[1]}" in finding or f"called by {where[0]}" in finding
    # Also where there was no room for sites: what failed is more than the sum of all that came late.
    late = run_watched([program], env={"MEMWATCH_SITES": "1"})
    assert late.returncode == 0, late.stderr
    assert [failure["frames"][failure["where"]]["line"] for failure in late.report["failures"]
            ] == lines
    (kept,) = (late.folder / "reports").glob("*.json")
    text = memwatch("report", kept).stdout
    assert re.findall(r"^    at (.*)", text, re.MULTILINE) == where

    by_failed = memwatch("report", "--sort=failed", path).stdout
    first_two = re.findall(r"^(fails.c:\d+ in \S+) .* 1 +\S+", by_failed, re.MULTILINE)[:2]
    assert len(first_two) == 2 and first_two[0].startswith(f"fails.c:{lines[1]}")


# --- separate debug files -----------------------------------------------------------------------


def build_id(path):
    notes = subprocess.run(["readelf", "-n", path], capture_output=True, text=True, check=True)
    return re.search(r"Build ID: ([0-9a-f]+)", notes.stdout)[1]


@pytest.fixture
def stripped(tmp_path, run_watched):
    """(ledger of a killed run of chain.c, its stripped program, its debug file beside)

    The program as it was before is tmp_path / "whole".
    """
    folder = tmp_path / "program"
    folder.mkdir()
    program, debug = build("chain.c", folder / "chain"), folder / "chain.debug"
    shutil.copy(program, tmp_path / "whole")
    subprocess.run(["objcopy", "--only-keep-debug", program, debug], check=True)
    subprocess.run(["objcopy", "--strip-all", f"--add-gnu-debuglink={debug}", program], check=True)
    run = run_watched([program, "kill"], env={"MEMWATCH_MONITOR": "0"})
    (ledger,) = run.ledgers
    return ledger, program, debug


def in_tree(root, program, debug):
    id = build_id(program)
    target = root / ".build-id" / id[:2] / (id[2:] + ".debug")
    target.parent.mkdir(parents=True)
    debug.rename(target)


def in_cache(root, program, debug):
    target = root / build_id(program) / "debuginfo"
    target.parent.mkdir(parents=True)
    debug.rename(target)


def beside(root, program, debug):
    pass


def in_hidden_folder(root, program, debug):
    (debug.parent / ".debug").mkdir()
    debug.rename(debug.parent / ".debug" / debug.name)


def by_name(root, program, debug):
    root.mkdir(exist_ok=True)
    debug.rename(root / debug.name)


PLACES = {
    "beside the program": (beside, [], None),
    "in .debug beside the program": (in_hidden_folder, [], None),
    "in a tree of build-ids given by option": (in_tree, ["--debug-dir", "ROOT"], None),
    "in one given by the environment": (in_tree, [], {"MEMWATCH_DEBUG_DIR": "ROOT"}),
    "by its name in a folder given by option": (by_name, ["--debug-dir", "ROOT"], None),
    "in the cache of debuginfod": (in_cache, [], {"DEBUGINFOD_CACHE_PATH": "ROOT"}),
}


@needs_plain_build
@pytest.mark.parametrize("place", PLACES)
def test_a_separate_debug_file_is_found(place, stripped, as_json, tmp_path):
    ledger, program, debug = stripped
    put, options, env = PLACES[place]
    root = tmp_path / "root"
    put(root, program, debug)
    options = [str(root) if option == "ROOT" else option for option in options]
    env = {name: root for name in env} if env else None
    if options:
        assert shown(only_site(as_json(ledger)))[0] == "None:None"  # not without it
    assert shown(only_site(as_json(ledger, *options, env=env))) == CHAIN


@needs_plain_build
def test_a_report_gets_its_names_where_the_debug_files_are(stripped, memwatch, as_json, tmp_path):
    ledger, program, debug = stripped
    debug.rename(tmp_path / debug.name)
    kept = tmp_path / "kept.json"
    memwatch("report", "--format=json", "--output", kept, ledger)
    # As on another machine.
    ledger.unlink()
    program.unlink()
    site = only_site(as_json(kept))
    assert shown(site)[0] == "None:None"
    found = only_site(as_json(kept, "--debug-dir", tmp_path))
    assert shown(found) == CHAIN
    assert found["frames"][found["where"]]["function"] == "leaf"
    assert shown(only_site(as_json(kept, env={"MEMWATCH_DEBUG_DIR": tmp_path}))) == CHAIN


@needs_plain_build
def test_inlined_functions_come_into_a_report_that_had_none(tmp_path, run_watched, as_json):
    folder = tmp_path / "debug"
    folder.mkdir()
    program, debug = build("templates.cpp", tmp_path / "templates"), folder / "templates.debug"
    subprocess.run(["objcopy", "--only-keep-debug", program, debug], check=True)
    subprocess.run(["objcopy", "--strip-all", program], check=True)
    report = run_watched([program]).report
    site = max(report["sites"], key=lambda site: site["allocations"])
    site["where"] = 1  # the second frame, wherever it comes to stand
    kept = tmp_path / "kept.json"
    kept.write_text(json.dumps({**report, "sites": [site]}))
    found = only_site(as_json(kept, "--debug-dir", folder))
    assert [frame["function"] for frame in found["frames"]][:3] == [
        "pool::take", "pool::Array<char>::grow", "pool::Derived::fill"]
    assert found["frames"][0]["inlined"] is True
    assert found["where"] == 2
    # The debug file of another build is not believed here, either.
    build("templates.cpp", tmp_path / "other", "-O1", "-g")
    subprocess.run(["objcopy", "--only-keep-debug", tmp_path / "other", debug], check=True)
    assert only_site(as_json(kept, "--debug-dir", folder))["frames"] == site["frames"]


@needs_plain_build
def test_without_debug_files_the_module_and_offset_are_told(stripped, as_json, as_text):
    ledger, program, debug = stripped
    debug.unlink()
    frames = [f for f in only_site(as_json(ledger))["frames"] if not f.get("folded")]
    assert {frame["module"] for frame in frames} == {str(program)}
    assert {frame["build_id"] for frame in frames} == {build_id(program)}
    assert all(frame["function"] is None and frame["offset"] for frame in frames)
    assert re.match(r"chain\+0x[0-9a-f]+ ", as_text(ledger)[1])


@needs_plain_build
def test_a_debug_file_of_another_build_is_not_believed(stripped, as_json, tmp_path):
    ledger, program, debug = stripped
    build("chain.c", tmp_path / "other", "-O1", "-g")
    subprocess.run(["objcopy", "--only-keep-debug", tmp_path / "other", debug], check=True)
    assert {frame["line"] for frame in only_site(as_json(ledger))["frames"]
            if frame["module"] == str(program)} == {None}


@needs_plain_build
def test_a_program_that_was_replaced_is_not_believed(stripped, as_json, memwatch):
    ledger, program, _ = stripped
    program.unlink()
    build("chain.c", program, "-O1", "-g")
    report = as_json(ledger)
    assert {frame["function"] for frame in only_site(report)["frames"]
            if frame["module"] == str(program)} == {None}
    (module,) = [m for m in report["coverage"]["symbols"]["modules"] if m["path"] == str(program)]
    assert module["reason"] == "another build of the file is there now"
    assert module["reason"] in memwatch("report", ledger).stdout.replace("\n ", "")


@needs_plain_build
def test_a_program_that_is_gone_is_found_where_a_copy_is(stripped, as_json, tmp_path):
    ledger, program, debug = stripped
    program.unlink()
    debug.unlink()
    folder = tmp_path / "copies"
    folder.mkdir()
    (tmp_path / "whole").rename(folder / "chain")
    assert shown(only_site(as_json(ledger, "--debug-dir", folder))) == CHAIN
    deeper = tmp_path / "root" / program.parent.relative_to("/")
    deeper.mkdir(parents=True)
    (folder / "chain").rename(deeper / "chain")
    assert shown(only_site(as_json(ledger, "--debug-dir", tmp_path / "root"))) == CHAIN


# --- modules that come and go -------------------------------------------------------------------


@needs_plain_build
def test_a_frame_in_an_unloaded_library_is_exact(tmp_path, run_watched):
    plugin = build("plugin.c", tmp_path / "plugin.so", "-O2", "-g", "-shared", "-fPIC")
    program = build("unloads.c", tmp_path / "unloads")
    site = only_site(run_watched([program, plugin]).report)
    assert site["allocations"] == 3  # wherever it lay each time
    assert shown(site) == [
        f"allocate_block:{line_of('plugin.c', 'plugin')}",
        f"plugin_allocate:{line_of('plugin.c', 'entry')}",
        f"main:{line_of('unloads.c', 'call')}",
    ]


# --- limits -------------------------------------------------------------------------------------


def test_ten_thousand_sites_are_rendered_whole(tmp_path, memwatch):
    ledger = make_ledger(tmp_path / "large.ledger", "sites", 10000)
    done = memwatch("report", "--check", ledger)
    assert done.returncode == 0, done.stdout
    counts = collections.Counter(re.findall(r"^ok +(\d+) sites", done.stdout, re.MULTILINE))
    assert counts == {"10002": 4}

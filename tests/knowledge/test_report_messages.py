# SPDX-License-Identifier: Apache-2.0
"""What a watched program prints to standard error, and what its failed calls return, is recognised
in its report: which known error it is, what was really live when it was printed, and which numbers
cannot be true. Nothing is found where nothing is wrong."""

import json
import subprocess
import sys

import pytest

from conftest import BUILD, MEMWATCH, clean_environment, load_report, report_schema
from conftest import sanitizer_runtimes, wait_for

MIB, GIB = 1 << 20, 1 << 30
PRINTS = BUILD / "tests" / "hazards" / "prints"
MAKE_LEDGER = BUILD / "tests" / "fuzz" / "make_ledger"

# A Python program on the driver, as any may be: ctypes, and nothing of ours.
GPU = """
import ctypes, os, signal, sys, time
cuda = ctypes.CDLL("libcuda.so.1")
context, address = ctypes.c_void_p(), ctypes.c_uint64()
free, total = ctypes.c_size_t(), ctypes.c_size_t()
def allocate(bytes):
    assert cuda.cuInit(0) == 0
    assert cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0) == 0
    assert cuda.cuCtxSetCurrent(context) == 0
    return cuda.cuMemAlloc_v2(ctypes.byref(address), ctypes.c_size_t(bytes))
def say(text):
    print(text, file=sys.stderr, flush=True)
"""

MPS = (
    "RuntimeError: MPS backend out of memory (MPS allocated: 1.49 GiB, other allocations: "
    "67108914.49 GiB, max allowed: 30.19 GiB). Tried to allocate 9.19 MiB on private pool."
)
MPS_RECORD = "apple-mps/implausible-other-allocations"
OOM = (
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 64.00 GiB. GPU 0 has a total "
    "capacity of 16.00 GiB of which 15.99 GiB is free. Including non-PyTorch memory, this process "
    "has 5.00 MiB memory in use. Of the allocated memory 5.00 MiB is allocated by PyTorch, and "
    "0 bytes is reserved by PyTorch but unallocated."
)
OOM_RECORD = "torch/cuda-oom-capacity"


@pytest.fixture
def watch(run_watched):
    """watch(code, env=None) -> the result of a Python program that begins as GPU does"""
    return lambda code, env=None: run_watched([sys.executable, "-c", GPU + code], env=env)


@pytest.fixture
def run(tmp_path):
    """run(*command, options=()) -> (CompletedProcess, the reports) of `memwatch run`"""

    def run(*command, options=(), env=None):
        for name in ("reports", "ledgers"):
            (tmp_path / name).mkdir(exist_ok=True)
        environment = {
            **clean_environment(),
            "LD_PRELOAD": ":".join(sanitizer_runtimes()),
            "MEMWATCH_DIR": str(tmp_path / "reports"),
            "MEMWATCH_LEDGER_DIR": str(tmp_path / "ledgers"),
            "TMPDIR": str(tmp_path),
            "XDG_RUNTIME_DIR": str(tmp_path),
            **(env or {}),
        }
        done = subprocess.run(
            [MEMWATCH, "run", *options, "--", *map(str, command)],
            env=environment,
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=60,
        )
        wait_for(lambda: not list((tmp_path / "ledgers").iterdir()), "end of the ledgers")
        return done, [load_report(path) for path in sorted((tmp_path / "reports").glob("*.json"))]

    return run


def found(report, kind):
    return [finding for finding in report["findings"] if finding["type"] == kind]


def text_of(report):
    return "".join(message["text"] for message in report["messages"])


def evidence(finding, source, what):
    """The bytes of the one row of evidence that says that."""
    (row,) = [e for e in finding["evidence"] if e["source"] == source and what in e["what"]]
    return row["bytes"]


# --- known errors ------------------------------------------------------------------------------


def test_a_printed_error_is_recognised_with_what_was_live_when_it_was_printed(watch):
    report = watch(f"allocate(3 << 20)\nsay({MPS!r})\nallocate(5 << 20)").report
    (message,) = report["messages"]
    assert message["text"] == MPS + "\n"
    assert message["live_device_bytes"] == 3 * MIB
    assert report["messages_source"] == "library"
    (error,) = found(report, "known_error")
    assert (error["knowledge"], error["severity"]) == ([MPS_RECORD], "error")
    assert evidence(error, "ledger", "live on devices") == 3 * MIB
    assert evidence(error, "message", "request") == round(9.19 * MIB)
    assert "spawn" in error["do"][0]["action"]
    assert any("torch.cuda.empty_cache" in item["action"] for item in error["do_not"])
    (known,) = report["knowledge"]
    assert (known["id"], known["matched_by"]) == (MPS_RECORD, ["text"])
    assert any("32-bit" in claim["claim"] for claim in known["false_claims"])


def test_an_impossible_number_is_explained_fact_and_guess_apart(watch):
    report = watch(f"allocate(3 << 20)\nsay({MPS!r})").report
    (corruption,) = found(report, "counter_corruption")
    assert "67108914.49 GiB" in corruption["title"]
    for fact in ("0x0100000CFEEDFACF", "67108915.983 GiB", "67108914.493 GiB", "ARM64", "No overflow"):
        assert fact in corruption["explanation"]
    assert "fork" in corruption["hypothesis"] and "fork" not in corruption["explanation"]
    assert evidence(corruption, "ledger", "live on devices") == 3 * MIB
    assert corruption["knowledge"] == [MPS_RECORD]


FAILING = "allocate(5 << 20)\nassert allocate(64 << 30) == 2\n"
ASK = "allocate(3 << 20)\nassert cuda.cuMemGetInfo_v2(ctypes.byref(free), ctypes.byref(total)) == 0\n"


def test_text_and_return_code_that_agree_are_one_error_and_more_certain(watch):
    report = watch(f"{FAILING}say({OOM!r})\nsys.exit(1)").report
    (error,) = found(report, "known_error")
    assert error["knowledge"] == [OOM_RECORD]
    (known,) = report["knowledge"]
    assert known["matched_by"] == ["code", "text"]
    assert error["confidence"] > known["confidence"]
    assert evidence(error, "call", "asked for") == 64 * GIB
    assert evidence(error, "ledger", "live on devices") == 5 * MIB
    alone = watch(f"allocate(5 << 20)\nsay({OOM!r})\nsys.exit(1)").report
    assert found(alone, "known_error")[0]["confidence"] == known["confidence"]


def test_what_holds_the_memory_is_named_at_an_out_of_memory(watch):
    report = watch(f"{FAILING}say({OOM!r})\nsys.exit(1)").report
    (error,) = found(report, "known_error")
    first = report["sites"][error["sites"][0]]
    assert first["live_bytes"] == 5 * MIB


def test_errors_that_text_and_code_tell_come_before_those_of_text_alone(watch):
    report = watch(f"{FAILING}say({MPS!r})\nsay({OOM!r})\nsys.exit(1)").report
    assert [e["knowledge"] for e in found(report, "known_error")] == [[OOM_RECORD], [MPS_RECORD]]


def test_a_failure_without_words_is_known_by_its_code_and_a_warning_if_it_was_borne(watch):
    borne = watch(FAILING).report
    (error,) = found(borne, "known_error")
    assert (error["knowledge"], error["severity"]) == (["cuda/out-of-memory"], "warning")
    assert borne["knowledge"][0]["matched_by"] == ["code"]
    died = watch(f"{FAILING}sys.exit(1)").report
    assert found(died, "known_error")[0]["severity"] == "error"


def test_one_failure_that_ranks_repeat_is_one_error(watch):
    lines = [f"[rank{i}]: {OOM}" for i in range(4)]
    report = watch(f"allocate(1)\nfor line in {lines!r}: say(line)").report
    (error,) = found(report, "known_error")
    (row,) = [e for e in error["evidence"] if e["what"] == "repeated"]
    assert row["text"] == "4 messages of ranks 0, 1, 2, 3"


def test_a_traceback_is_one_message(watch):
    report = watch("allocate(1)\nraise RuntimeError('CUDA error: out of memory')").report
    (message,) = report["messages"]
    assert message["text"].startswith("Traceback") and message["text"].endswith("memory\n")
    assert report["messages_omitted"] == {"bytes": 0, "overwritten_bytes": 0}


def test_what_was_printed_before_a_kill_is_there(watch):
    result = watch(f"allocate(3 << 20)\nsay({OOM!r})\nos.kill(os.getpid(), signal.SIGKILL)")
    assert result.report["process"]["exit"]["kind"] == "signal"
    assert found(result.report, "known_error")[0]["knowledge"] == [OOM_RECORD]


UNLIMITED = (
    "Creating BFCArena for CudaPinned with following configs: initial_chunk_size_bytes: 1048576 "
    "max_dead_bytes_per_chunk: 134217728 initial_growth_chunk_size_bytes: 2097152 "
    "memory limit: 18446744073709551615 arena_extend_strategy: 0"
)


def test_the_largest_number_where_it_means_unlimited_is_only_a_note(watch):
    report = watch(f"allocate(1)\nsay({UNLIMITED!r})").report
    (note,) = report["findings"]
    assert (note["type"], note["severity"]) == ("known_error", "note")


def test_what_matters_most_comes_first(watch):
    code = f"{ASK}say({UNLIMITED!r})\nsay({MPS!r})"
    report = watch(code, env={"SIMGPU_LIE": "free=64G"}).report
    severities = [finding["severity"] for finding in report["findings"]]
    assert severities == ["error", "warning", "warning", "note"]


# --- what is kept ------------------------------------------------------------------------------


def test_of_more_text_than_there_is_room_for_the_last_is_kept(watch):
    code = f"allocate(1)\nfor i in range(4000): say(f'line {{i}} ' + 'x' * 90)\nsay({OOM!r})"
    report = watch(code).report
    text = text_of(report)
    assert text.endswith(OOM + "\n") and "line 3999 " in text and "line 1 " not in text
    assert len(text) <= 128 << 10
    assert report["messages_omitted"]["overwritten_bytes"] > 200_000
    assert found(report, "known_error")


def test_of_a_long_text_written_at_once_both_ends_are_kept(watch):
    code = f"allocate(1)\nos.write(2, b'begin ' + b'x' * 100000 + b'\\n' + {OOM.encode()!r} + b'\\n')"
    report = watch(code).report
    (message,) = report["messages"]
    assert message["text"].startswith("begin xxx") and message["text"].endswith(OOM + "\n")
    assert message["cut_bytes"] == 100000 + 7 + len(OOM) + 1 - 16384
    assert found(report, "known_error")[0]["knowledge"] == [OOM_RECORD]


def test_bytes_that_are_no_text_are_kept_and_hurt_nobody(watch, memwatch):
    code = "allocate(1)\nos.write(2, bytes(range(256)) * 8 + b'\\x1b[2J\\xff\\n')\nsys.exit(1)"
    result = watch(code)
    report = result.report
    assert len(text_of(report)) > 1000
    assert report["findings"] == []
    (path,) = (result.folder / "reports").iterdir()
    shown = memwatch("report", path).stdout
    assert not any(ord(c) < 32 and c != "\n" or c == "\x7f" for c in shown)


def test_if_it_shall_not_be_kept_nothing_is(watch, run):
    code = f"allocate(1)\nsay({OOM!r})"
    report = watch(code, env={"MEMWATCH_STDERR": "0"}).report
    assert (report["messages"], report["messages_source"], report["findings"]) == ([], None, [])
    for options, env in ((["--keep-stderr", "0"], {}), ([], {"MEMWATCH_STDERR": "0"})):
        _, reports = run(sys.executable, "-c", GPU + code, options=options, env=env)
        assert [report["messages"] for report in reports] == [[] for _ in reports]


# --- memwatch run ------------------------------------------------------------------------------


def test_what_stdio_prints_is_seen_by_run_and_by_run_alone(run_watched, run):
    assert run_watched([PRINTS, OOM]).report["messages"] == []
    _, (report,) = run(PRINTS, OOM)
    assert report["messages_source"] == "run"
    assert text_of(report) == OOM + "\n"
    assert found(report, "known_error")[0]["knowledge"] == [OOM_RECORD]


def test_run_sees_it_also_if_the_program_is_killed_at_once(run):
    done, (report,) = run(PRINTS, OOM, "kill")
    assert done.returncode == -9
    assert report["process"]["exit"]["kind"] == "signal"
    assert found(report, "known_error")[0]["knowledge"] == [OOM_RECORD]


@pytest.mark.parametrize("monitor", ["1", "0"], ids=["monitor", "no-monitor"])
def test_what_run_and_the_library_see_is_there_once_and_with_what_was_live(run, monitor):
    code = f"{GPU}say('before')\nallocate(3 << 20)\nsay({OOM!r})\nos.system('echo shell >&2')"
    _, (report,) = run(sys.executable, "-c", code, options=["--monitor", monitor])
    assert text_of(report) == f"before\n{OOM}\nshell\n"
    live = {m["text"]: m["live_device_bytes"] for m in report["messages"]}
    assert live == {"before\n": None, OOM + "\n": 3 * MIB, "shell\n": None}
    assert evidence(found(report, "known_error")[0], "ledger", "live on devices") == 3 * MIB


def test_what_a_program_prints_into_a_file_in_place_of_its_standard_error_is_not_lost(run):
    code = f"{GPU}allocate(1)\nsay('to run')\nos.dup2(os.open('log', os.O_CREAT | os.O_WRONLY), 2)\n"
    _, (report,) = run(sys.executable, "-c", f"{code}say({OOM!r})")
    assert text_of(report) == f"to run\n{OOM}\n"


def test_of_several_processes_on_the_gpu_each_has_its_own_text(run, tmp_path):
    (tmp_path / "rank.py").write_text(
        f"{GPU}allocate(1)\nsay(sys.argv[1])\ntime.sleep(0.5)\nsys.exit(int(sys.argv[1] != 'fine'))"
    )
    command = f"{sys.executable} rank.py fine & {sys.executable} rank.py '{OOM}'; wait"
    _, reports = run("sh", "-c", command)
    texts = {text_of(report): found(report, "known_error") for report in reports}
    assert set(texts) == {"fine\n", OOM + "\n"}
    assert texts["fine\n"] == [] and texts[OOM + "\n"]


def test_of_a_long_run_the_first_and_the_last_text_are_seen(run):
    code = f"{GPU}allocate(1)\nsay({MPS!r})\nfor i in range(9000): say(f'{{i}}' + 'x' * 99)\nsay({OOM!r})"
    _, (report,) = run(sys.executable, "-c", code)
    errors = {error["knowledge"][0] for error in found(report, "known_error")}
    assert errors == {MPS_RECORD, OOM_RECORD}
    assert report["messages_omitted"]["overwritten_bytes"] > 500_000


# --- what the driver told ----------------------------------------------------------------------

def test_a_clean_program_has_no_findings(watch, run_watched):
    report = watch(f"{ASK}say('epoch 1: loss 0.25, 12.0 GiB used')").report
    assert report["devices"][0]["memory_info"]["total_bytes"] == 16 * GIB
    assert (report["findings"], report["knowledge"]) == ([], [])
    pools = run_watched([BUILD / "tests" / "hazards" / "pool_figures"]).report
    assert pools["pools"][0]["reserved_bytes"] and pools["findings"] == []


@pytest.mark.parametrize(
    "lie, says",
    [
        ("free=sentinel", "Free memory of device 0 by cuMemGetInfo of 18446744073709551615 B"),
        ("total=sentinel", "Total memory of device 0 by cuMemGetInfo of 18446744073709551615 B"),
        ("free=64G", "Free memory of device 0 by cuMemGetInfo of 68719476736 B cannot be true"),
    ],
)
def test_a_number_of_the_driver_s_that_cannot_be_true_is_a_finding(watch, lie, says):
    report = watch(ASK, env={"SIMGPU_LIE": lie}).report
    (corruption,) = report["findings"]
    assert corruption["type"] == "counter_corruption"
    assert corruption["title"].startswith(says)
    assert evidence(corruption, "ledger", "live of this process") == 3 * MIB


@pytest.mark.parametrize("lie", ["total=12G,free=4G", "total=8G,free=0", "total=16G,free=16G"])
def test_less_than_the_device_has_is_nothing_unusual(watch, lie):
    """NVIDIA MPS and MIG tell a process of its share."""
    assert watch(ASK, env={"SIMGPU_LIE": lie}).report["findings"] == []


def figures(tmp_path, memwatch, *values):
    """The findings on a ledger whose program was told these figures of a device of 16 GiB."""
    path = tmp_path / "memwatch.h.4242.1750000000123.ledger"
    subprocess.run([MAKE_LEDGER, path, "figures", *map(str, values)], check=True)
    report = json.loads(memwatch("report", "--format", "json", path).stdout)
    assert not list(report_schema().iter_errors(report))
    return found(report, "counter_corruption")


@pytest.mark.parametrize("at", [2, 3, 4], ids=["pool used", "pool reserved", "graph used"])
@pytest.mark.parametrize("value", [2**64 - 51 * MIB, 0x0100000CFEEDFACF], ids=["underflow", "magic"])
def test_figures_of_pools_and_graphs_are_looked_at_too(tmp_path, memwatch, at, value):
    told = [15 * GIB, 16 * GIB, 3 * MIB, 32 * MIB, 2 * MIB]
    assert figures(tmp_path, memwatch, *told) == []
    told[at] = value
    (corruption,) = figures(tmp_path, memwatch, *told)
    assert str(value) in corruption["title"]
    assert ("51.00 MiB" if value > 2**63 else "0x0100000CFEEDFACF") in corruption["explanation"]


def test_in_a_forked_child_the_state_of_the_parent_is_considered(watch):
    code = f"""
allocate(3 << 20)
time.sleep(0.1)
child = os.fork()
if not child:
    assert cuda.cuMemAlloc_v2(ctypes.byref(address), 1) == 3
    say({MPS!r})
if child:
    time.sleep(1)
    os.waitpid(child, 0)
"""
    result = watch(code)
    reports = wait_for(lambda: len(result.reports) == 2 and result.reports, "two reports")
    wait_for(lambda: not result.ledgers, "end of the ledgers")
    (child,) = [r for r in result.reports.values() if r["process"]["pid"] != result.pid]
    (corruption,) = found(child, "counter_corruption")
    assert any(e["what"] == "fork" for e in corruption["evidence"])
    assert any("state of the parent" in (e["text"] or "") for e in corruption["evidence"])
    assert result.report["findings"] == []
    alone = watch(f"allocate(1)\nsay({MPS!r})").report
    assert not any(e["what"] == "fork" for e in found(alone, "counter_corruption")[0]["evidence"])


# --- the text report ---------------------------------------------------------------------------


def test_the_text_report_begins_with_what_was_found(watch, memwatch):
    result = watch(f"{FAILING}say({OOM!r})\nsys.exit(1)")
    assert result.report
    (path,) = (result.folder / "reports").iterdir()
    shown = memwatch("report", path).stdout
    assert max(map(len, shown.splitlines())) <= 80
    words = " ".join(shown.split())
    assert shown.index("findings") < shown.index("\nmemory")
    for told in (
        "error PyTorch: CUDA out of memory",
        "Tried to allocate 64.00 GiB",
        "asked for: 64.00 GiB",
        "live on devices when it was printed: 5.00 MiB",
        "do - ",
        "do not - ",
        f"memwatch kb show {OOM_RECORD} (known by its text and return code)",
        "last words on standard error",
    ):
        assert told in words

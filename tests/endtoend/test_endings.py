# SPDX-License-Identifier: Apache-2.0
"""However a program ends, its report is there, tells how, and says what the GPU's own books say; and
the program's own output and exit status are those of a run without the library."""

import os
import pathlib
import re
import signal
import subprocess
import sys

import pytest
from conftest import BUILD, SANITIZE, SIMGPU, compare_with_books, load_report, wait_for

ENDINGS = BUILD / "tests" / "endtoend" / "endings"
RANKS = {
    "RANK": ("LOCAL_RANK", "WORLD_SIZE"),
    "SLURM_PROCID": ("SLURM_LOCALID", "SLURM_NTASKS"),
    "OMPI_COMM_WORLD_RANK": ("OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_SIZE"),
}


@pytest.fixture
def end_both(run_watched):
    """end_both(argv, env=None) -> Result of the watched run, which must look as the bare one does"""

    def run(argv, env=None):
        bare = run_watched(argv, env=env, mode="none")
        watched = run_watched(argv, env=env)
        assert (watched.returncode, watched.stdout, watched.stderr) == (
            bare.returncode,
            bare.stdout,
            bare.stderr,
        )
        return watched

    return run


def final_reports(result, count):
    """All final reports of the run, by process id, when there are so many."""

    def found():
        reports = [load_report(path) for path in (result.folder / "reports").glob("memwatch.*.json")]
        return reports if len(reports) >= count and not result.ledgers else None

    reports = wait_for(found, f"{count} final reports")
    assert len(reports) == count
    return {report["process"]["pid"]: report for report in reports}


def check(report, books):
    compare_with_books(report, books)
    assert report["ledger"]["check"] == {"ok": True, "differences": []}
    assert report["coverage"]["losses"] == {}


def end_of(report):
    return {name: value for name, value in report["process"]["exit"].items() if name != "name"}


def live(report):
    return {(row["device"], row["space"]): row["live_bytes"] for row in report["totals"]}


def unless_sanitized_with(kinds, reason):
    return pytest.mark.skipif(SANITIZE in kinds, reason=f"SANITIZE={SANITIZE}: {reason}")


not_in_thread_sanitizer = unless_sanitized_with(
    ["thread"], "its runtime cannot be preloaded into other programs"
)
not_sanitized = unless_sanitized_with(
    ["thread", "address,undefined"], "a sanitizer mistakes what a cancelled thread leaves on its stack"
)

# --- one process -------------------------------------------------------------------------------

ONE_PROCESS = {
    "return": dict(kind="code", code=0),
    "exit": dict(kind="code", code=3),
    "_exit": dict(kind="code", code=4),
    "quick_exit": dict(kind="code", code=5),
    "segv": dict(kind="signal", signal=int(signal.SIGSEGV)),
    "abort": dict(kind="signal", signal=int(signal.SIGABRT)),
    "sigterm": dict(kind="signal", signal=int(signal.SIGTERM)),
    "sigkill": dict(kind="signal", signal=int(signal.SIGKILL)),
    "thread": dict(kind="code", code=3),
    "free-at-exit": dict(kind="code", code=0),
}


@pytest.mark.parametrize("ending", ONE_PROCESS)
def test_the_report_is_there_after_any_end_of_a_process(end_both, ending):
    result = end_both([ENDINGS, ending])
    reports = final_reports(result, 1)
    assert end_of(reports[result.pid]) == ONE_PROCESS[ending]
    check(reports[result.pid], result.books)
    assert live(reports[result.pid]) == {(0, "device"): 1 << 20, (-1, "pinned"): 4096}


def test_a_program_that_executes_another_one_has_a_report_of_what_it_did_itself(end_both):
    result = end_both([ENDINGS, "exec"])
    report = final_reports(result, 1)[result.pid]
    # The other program is soon over: whichever of the two ends the monitor comes to see is true.
    assert end_of(report) in (dict(kind="exec"), dict(kind="code", code=0))
    check(report, result.books)


def test_a_program_that_executes_itself_has_a_report_of_each_life(end_both):
    result = end_both([ENDINGS, "exec-itself"])

    def found():
        reports = [load_report(path) for path in (result.folder / "reports").glob("memwatch.*.json")]
        return reports if len(reports) == 2 and not result.ledgers else None

    reports = wait_for(found, "reports of both lives")
    assert [report["process"]["pid"] for report in reports] == [result.pid] * 2
    for report in reports:
        assert live(report) == {(0, "device"): 1 << 20, (-1, "pinned"): 4096}


def test_an_exception_in_python_leaves_a_report(end_both):
    program = """
import ctypes
cuda = ctypes.CDLL("libcuda.so.1")
context, address = ctypes.c_void_p(), ctypes.c_uint64()
assert cuda.cuInit(0) == 0
assert cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0) == 0
assert cuda.cuCtxSetCurrent(context) == 0
assert cuda.cuMemAlloc_v2(ctypes.byref(address), ctypes.c_size_t(12345)) == 0
raise RuntimeError("sorry")
"""
    result = end_both([sys.executable, "-c", program])
    assert "sorry" in result.stderr
    report = final_reports(result, 1)[result.pid]
    assert end_of(report) == dict(kind="code", code=1)
    check(report, result.books)


# --- several processes -------------------------------------------------------------------------


def test_a_forked_child_that_uses_the_gpu_has_a_report_of_its_own(end_both):
    result = end_both([ENDINGS, "fork-first"])
    assert "child: 6" in result.stdout
    reports = final_reports(result, 2)
    for pid, report in reports.items():
        check(report, result.books_of(pid))
    child = next(pid for pid in reports if pid != result.pid)
    assert reports[child]["process"]["ppid"] == result.pid
    assert end_of(reports[child]) == dict(kind="code", code=6)
    assert live(reports[child])[0, "device"] - live(reports[result.pid])[0, "device"] == 5000


def test_a_child_whose_driver_calls_fail_spoils_nothing_of_its_parent(end_both):
    result = end_both([ENDINGS, "fork-later"])
    assert "child: 7" in result.stdout
    reports = final_reports(result, 2)
    check(reports[result.pid], result.books)
    child = next(report for pid, report in reports.items() if pid != result.pid)
    assert not [bytes for bytes in live(child).values() if bytes], "the parent's memory is the parent's"
    assert [failure["result"] for failure in child["failures"]] == [3]


def test_a_forked_child_without_gpu_leaves_its_parents_recording_alone(end_both):
    result = end_both([ENDINGS, "fork-idle"])
    assert "child: 9" in result.stdout
    reports = final_reports(result, 1)
    check(reports[result.pid], result.books)
    assert end_of(reports[result.pid]) == dict(kind="code", code=0)


def test_a_daemon_is_recorded_though_its_starter_is_gone(end_both):
    result = end_both([ENDINGS, "daemon"])
    reports = final_reports(result, 1)
    (pid,) = reports
    assert pid != result.pid
    check(reports[pid], result.books_of(pid))


@not_in_thread_sanitizer
def test_programs_started_in_every_way_while_threads_allocate(end_both):
    """fork, vfork, posix_spawn and system work as ever, and what they run has no ledger."""
    result = end_both([ENDINGS, "start-programs"])
    assert result.returncode == 0
    reports = final_reports(result, 1)
    check(reports[result.pid], result.books)


# --- threads -----------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["threads-end", pytest.param("threads-cancelled", marks=not_sanitized)])
def test_what_a_thread_left_is_still_told_when_it_is_gone(end_both, ending):
    result = end_both([ENDINGS, ending])
    report = final_reports(result, 1)[result.pid]
    check(report, result.books)
    states = [thread["state"] for thread in report["threads"]]
    assert states.count("running") == 1, "of all threads the first lives to the end"
    assert sum(thread["live_bytes"] for thread in report["threads"]) == sum(live(report).values())


@not_sanitized
def test_a_thread_cancelled_anywhere_stops_nobody(end_both):
    """Asynchronous cancellation strikes at any instruction, within the library's own stores too.

    No lock may be held by the victim, the driver's neither: hence the driver without locks, which
    keeps no books."""
    env = {"LD_LIBRARY_PATH": f"{SIMGPU}/null:{SIMGPU}"}
    result = end_both([ENDINGS, "threads-cancelled-anywhere"], env=env)
    report = final_reports(result, 1)[result.pid]
    assert report["ledger"]["check"]["ok"], report["ledger"]["check"]
    assert end_of(report) == dict(kind="code", code=0)
    # Each of the 40 threads may have been in the midst of one block.
    device = next(row for row in report["totals"] if row["space"] == "device")
    assert (1 << 20) <= device["live_bytes"] - 900 <= (1 << 20) + 40 * 700


# --- many at once ------------------------------------------------------------------------------


def test_64_ranks_at_once_in_one_directory(start_watched, memwatch, tmp_path):
    (tmp_path / "reports").mkdir()
    (tmp_path / "ledgers").mkdir()
    env = {"MEMWATCH_DIR": tmp_path / "reports", "MEMWATCH_LEDGER_DIR": tmp_path / "ledgers", "WORLD_SIZE": 64}
    started = [start_watched([ENDINGS, "return"], env={**env, "RANK": rank}) for rank in range(64)]
    results = [run.finish() for run in started]
    assert {(result.returncode, result.stderr) for result in results} == {(0, "")}

    def found():
        paths = list((tmp_path / "reports").glob("memwatch.*.json"))
        return paths if len(paths) == 64 and not any((tmp_path / "ledgers").iterdir()) else None

    paths = wait_for(found, "64 final reports", timeout=30)
    reports = {report["process"]["rank"]: report for report in map(load_report, paths)}
    assert sorted(reports) == list(range(64))
    assert len({re.search(r"\.(rank\d+)\.", path.name)[1] for path in paths}) == 64
    for rank, result in enumerate(results):
        assert reports[rank]["process"]["pid"] == result.pid
        check(reports[rank], result.books)
    summary = memwatch("report", tmp_path / "reports")
    assert summary.returncode == 0 and "64" in summary.stdout


@pytest.mark.parametrize("variable", RANKS)
def test_the_rank_stands_in_the_files_name_and_in_the_report(run_watched, variable):
    local, world = RANKS[variable]
    result = run_watched([ENDINGS, "return"], env={variable: 7, local: 3, world: 16})
    report = result.report
    process = report["process"]
    assert (process["rank"], process["local_rank"], process["world_size"]) == (7, 3, 16)
    (path,) = (result.folder / "reports").glob("memwatch.*.json")
    assert f".rank7.{result.pid}." in path.name


# --- without the companion, and before the end -------------------------------------------------


@pytest.mark.parametrize("ending", ["return", "exit", "free-at-exit", "threads-end", "thread"])
def test_without_the_companion_a_normal_exit_writes_the_report(end_both, ending):
    result = end_both([ENDINGS, ending], env={"MEMWATCH_MONITOR": "0"})
    # It was there when the process had ended: nobody else will write it.
    assert not result.ledgers
    report = result.reports[result.pid]
    assert report["process"]["exit"]["kind"] == "ended"
    check(report, result.books)


@pytest.mark.parametrize("ending", ["segv", "sigkill", "_exit", "exec"])
def test_without_the_companion_any_other_end_leaves_the_ledger_to_be_reported(end_both, memwatch, ending):
    result = end_both([ENDINGS, ending], env={"MEMWATCH_MONITOR": "0"})
    assert result.reports == {}
    (ledger,) = result.ledgers
    text = memwatch("report", "--check", ledger)
    assert text.returncode == 0, text.stderr
    output = result.folder / "report.json"
    done = memwatch("report", "--format", "json", "--output", output, ledger)
    assert done.returncode == 0, done.stderr
    check(load_report(output), result.books)


def test_a_living_process_can_be_asked_for_its_report(start_watched, memwatch, tmp_path):
    started = start_watched([ENDINGS, "never"])
    assert started.process.stdout.readline() == "never\n"
    assert started.process.stdout.readline() == "ready\n"
    ledgers = {"MEMWATCH_LEDGER_DIR": started.folder / "ledgers"}
    output = tmp_path / "report.json"
    done = memwatch("report", "--format", "json", "--output", output, started.process.pid, env=ledgers)
    assert done.returncode == 0, done.stderr
    report = load_report(output)
    assert end_of(report) == dict(kind="running")
    assert live(report) == {(0, "device"): 1 << 20, (-1, "pinned"): 4096}
    text = memwatch("report", started.process.pid, env=ledgers)
    assert text.returncode == 0 and "it was running" in text.stdout
    os.kill(started.process.pid, signal.SIGKILL)
    result = started.finish()
    assert end_of(result.report) == dict(kind="signal", signal=int(signal.SIGKILL))

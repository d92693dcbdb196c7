# SPDX-License-Identifier: Apache-2.0
"""Programs that do with GPU memory, threads and processes what is hard to follow. Each must be
answered what it is answered without the library, and its report must say what the GPU's own books
say, number by number."""

import pytest

from conftest import BUILD, SANITIZE, compare_with_books, load_report, wait_for

MIB = 1 << 20
HAZARDS = BUILD / "tests" / "hazards"

# Program and arguments: environment.
HAZARDOUS = {
    "context_ends destroy": {},
    "context_ends destroy-other": {},
    "context_ends reset": {},
    "context_ends reset-other-device": {},
    "context_ends release": {},
    "frees_mixed": {},
    "frees_mixed, slow streams": {"SIMGPU_DELAY": "500"},
    "failures": {},
    "failures, of frees": {
        "SIMGPU_FAULT": "cuMemFree:7:1,cuMemFree:8:999,cuMemFreeHost:2,cuArrayDestroy:1"
        ",cuMemRelease:2"
    },
    "failures, of the first allocations": {"SIMGPU_FAULT": "cuMemAlloc:2:999,cuMemAlloc:9"},
    "capture one": {},
    "capture launched": {},
    "capture forked": {},
    "capture destroyed": {},
    "capture two-at-once": {},
    "capture failed": {},
    "virtual_memory": {},
    "virtual_memory, unmapping fails": {"SIMGPU_FAULT": "cuMemUnmap:4,cuMemUnmap:8"},
    "pools": {},
    "pools, slow streams": {"SIMGPU_DELAY": "500"},
    "devices": {},
    "runtime_devices": {},
    "late_frees": {},
    "deinitialized": {"SIMGPU_DEINIT": "1"},
    "threads ended": {},
    "threads short-lived": {},
    "fork among-threads": {},
    "fork and-exit": {},
    "fork first": {},
    "fork vfork": {},
    "signals first": {},
    "signals between": {},
    "keeps_errno": {},
}


# Where several threads allocate and free on one device nobody can say which of two calls came
# first, and the peak depends on it: it may differ by what the threads have in flight, in bytes.
IN_FLIGHT = {
    "threads ended": 8 * 4096,
    "fork among-threads": 3 * 4096,
    "signals between": MIB + 4096,
    "address_reuse": 4 * 4 * MIB,
}


def command(hazard, *more):
    program, *arguments = hazard.split(",")[0].split()
    return [HAZARDS / program, *arguments, *more]


def losses(report):
    return {name: loss["count"] for name, loss in report["coverage"]["losses"].items()}


def two_reports(result):
    """The final reports of a process and its child, by process id."""

    def final():
        return result.reports if not result.ledgers and len(result.reports) == 2 else None

    return wait_for(final, "report of each of two processes")


def assert_true_to_the_books(report, books, in_flight=0):
    for row in report["totals"]:
        peak = books[row["device"], row["space"]]["peak"]
        if abs(row["peak_bytes"] - peak) <= in_flight:
            row["peak_bytes"] = peak
    compare_with_books(report, books)
    assert report["ledger"]["check"] == {"ok": True, "differences": []}


@pytest.mark.parametrize("hazard", HAZARDOUS)
def test_nothing_is_lost_and_nothing_is_changed(run_watched, hazard):
    if hazard == "late_frees" and SANITIZE == "thread":
        pytest.skip("its runtime has left a thread before the last destructors of the thread's data")
    environment = HAZARDOUS[hazard]
    alone = run_watched(command(hazard), env=environment, mode="none")
    watched = run_watched(command(hazard), env=environment)

    assert alone.returncode == 0, alone.stdout + alone.stderr
    assert (watched.returncode, watched.stdout, watched.stderr) == (0, alone.stdout, alone.stderr)
    assert_true_to_the_books(watched.report, watched.books, IN_FLIGHT.get(hazard, 0))
    # A program that frees what is not there is told so in the report; nothing else may be lost.
    assert set(losses(watched.report)) <= {"unknown_frees"}


@pytest.mark.parametrize("slow", [None, "cuMemFree:1", "cuMemAlloc:1"])
def test_addresses_that_change_hands_at_once_are_not_lost(run_watched, slow):
    environment = {"SIMGPU_MEMORY": "60M", "SIMGPU_SLOW": slow}
    result = run_watched(command("address_reuse"), env=environment)
    assert result.returncode == 0, result.stderr
    assert_true_to_the_books(result.report, result.books, IN_FLIGHT["address_reuse"])
    assert losses(result.report) == {}


def test_frees_of_what_is_not_there_are_counted_apart(run_watched):
    report = run_watched(command("failures")).report

    # They failed, so they are failures of the program, not losses of ours.
    failed = {row["name"]: row["failed"] for row in report["coverage"]["entry_points"]}
    assert failed["cuMemFree_v2"] >= 4
    assert losses(report) == {}


def test_calls_before_the_driver_is_initialised_are_failures_of_the_program(run_watched):
    result = run_watched(command("failures early"))
    assert result.stdout == "cuMemAlloc(&block, MIB): 3\ncuMemFree(0x1000): 3\n"
    failures = result.report["failures"]
    assert [failure["result_name"] for failure in failures] == ["CUDA_ERROR_NOT_INITIALIZED"] * 2
    assert sum(row["live_blocks"] for row in result.report["totals"]) == 0


def test_each_process_of_a_shared_block_counts_its_own(run_watched):
    result = run_watched(command("ipc_twice"))
    assert result.returncode == 0, result.stderr
    assert "the same address: 1" in result.stdout
    child = int(result.stdout.split("child: ")[1])
    reports = two_reports(result)
    for pid in (result.pid, child):
        assert_true_to_the_books(reports[pid], result.books_of(pid))
    imported = [row for row in reports[child]["totals"] if row["space"] == "imported"]
    assert [(row["live_blocks"], row["allocations"]) for row in imported] == [(1, 2)]


def test_a_child_forked_before_the_gpu_was_used_has_a_report_of_its_own(run_watched):
    result = run_watched(command("fork first"))
    reports = two_reports(result)
    for pid, report in reports.items():
        assert_true_to_the_books(report, result.books_of(pid))
    live = sorted(sum(row["live_bytes"] for row in report["totals"]) for report in reports.values())
    assert live == [5 * MIB, 7 * MIB]


def test_exec_of_another_program_leaves_two_reports(run_watched, tmp_path):
    books = tmp_path / "second"
    result = run_watched(command("exec", books))
    assert result.returncode == 0, result.stderr

    def both():
        if result.ledgers:
            return None
        found = sorted((result.folder / "reports").glob("memwatch.*.json"))
        return [load_report(path) for path in found] if len(found) == 2 else None

    reports = wait_for(both, "report of each program")
    first, second = sorted(reports, key=lambda report: report["process"]["start"]["monotonic_ns"])
    assert first["process"]["exit"]["kind"] == "exec"
    assert second["process"]["exit"] == {"kind": "code", "code": 0}
    assert_true_to_the_books(first, result.books)
    import books as reader

    assert_true_to_the_books(second, reader.read(str(books)))


@pytest.mark.parametrize("slow", ["cuMemAllocHost", "cuMemFree"])
def test_a_thread_cancelled_within_a_call_costs_at_most_that_event(run_watched, slow):
    mode = {"cuMemAllocHost": "cancelled-allocation", "cuMemFree": "cancelled-free"}[slow]
    result = run_watched(command("threads", mode), env={"SIMGPU_SLOW": f"{slow}:20000"})
    assert result.returncode == 0, result.stderr
    report, books = result.report, result.books
    for row in report["totals"]:
        true = books[row["device"], row["space"]]
        assert abs(row["allocations"] - true["allocs"]) <= 1
        assert abs(row["frees"] - true["frees"]) <= 1
    assert set(losses(report)) <= {"unknown_frees"}


def test_a_handler_that_interrupts_an_allocation_breaks_nothing(run_watched):
    result = run_watched(command("signals interrupting"), env={"SIMGPU_SLOW": "cuMemAlloc:100"})
    assert (result.returncode, result.stdout) == (0, "handled: 1\n"), result.stderr
    assert result.report["ledger"]["check"]["ok"]


def test_a_plugin_may_allocate_in_its_constructor_while_others_allocate(run_watched):
    plugin = HAZARDS / "liballocates_in_constructor.so"
    result = run_watched(command("constructor", plugin), timeout=30)
    assert result.returncode == 0, result.stderr
    assert_true_to_the_books(result.report, result.books)

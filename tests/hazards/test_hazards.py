# SPDX-License-Identifier: Apache-2.0
"""What the library follows instead of asking the driver (contexts, captures, pools) stays true when
programs take unusual turns, and threads and processes may end in the middle of their allocations."""

import pytest

from conftest import BUILD, LIBRARY, SANITIZE, SIMGPU, compare_with_books, sanitizer_runtimes

HAZARDS = BUILD / "tests" / "hazards"
MIB, GIB = 1 << 20, 1 << 30

# Program and arguments: environment.
TURNS = {
    "context_stack none": {},
    "context_stack failing": {},
    "context_stack made-anew": {},
    "context_stack reset": {},
    "capture_mistakes wrong-stream": {},
    "capture_mistakes wrong-thread": {},
    "capture_mistakes never-joined": {},
    "capture_mistakes destroyed": {},
    "capture_per_thread": {},
    "unmap_odd": {"SIMGPU_FAULT": "cuMemUnmap:3:999"},
}


def command(turn, *more):
    program, *arguments = turn.split()
    return [HAZARDS / program, *arguments, *more]


def run_twice(run_watched, argv, env=None):
    """Runs without and with the library, which must not make a difference that the program sees."""
    alone = run_watched(argv, env=env, mode="none")
    watched = run_watched(argv, env=env)
    assert alone.returncode == 0, alone.stdout + alone.stderr
    assert (watched.returncode, watched.stdout, watched.stderr) == (0, alone.stdout, alone.stderr)
    return watched


def assert_true_to_the_books(result):
    compare_with_books(result.report, result.books)
    assert result.report["ledger"]["check"] == {"ok": True, "differences": []}
    assert result.report["coverage"]["losses"] == {}


@pytest.mark.parametrize("turn", TURNS)
def test_an_unusual_turn_is_followed(run_watched, turn):
    assert_true_to_the_books(run_twice(run_watched, command(turn), TURNS[turn]))


# --- what the driver tells ---------------------------------------------------------------------


def test_used_and_reserved_bytes_of_a_pool_are_reported_as_the_program_read_them(run_watched):
    result = run_watched(command("pool_figures"))
    assert result.returncode == 0, result.stderr
    assert_true_to_the_books(result)
    handle, *figures = result.stdout.split()
    [pool] = [pool for pool in result.report["pools"] if pool["handle"] == f"0x{handle}"]
    assert (pool["used_bytes"], pool["used_blocks"]) == (4 * MIB, 1)
    names = "reported_used", "reported_used_peak", "reserved", "reserved_peak"
    assert [pool[f"{name}_bytes"] for name in names] == [int(figure) for figure in figures]
    assert pool["reserved_bytes"] >= 16 * MIB
    assert pool["release_threshold"] == 64 * MIB


@pytest.mark.parametrize("lie", [None, "free=sentinel,total=sentinel", "free=20G,total=10G"])
def test_eighty_gibibytes_and_a_driver_that_lies_about_them(run_watched, lie):
    env = {"SIMGPU_MEMORY": "128G", **({"SIMGPU_LIE": lie} if lie else {})}
    result = run_twice(run_watched, command("memory_info"), env)
    assert_true_to_the_books(result)
    report = result.report
    [row] = [row for row in report["totals"] if row["space"] == "device"]
    assert (row["live_bytes"], row["peak_bytes"], row["failed"]) == (80 * GIB, 120 * GIB, 1)
    told = report["devices"][0]["memory_info"]
    first_line = result.stdout.splitlines()[0]
    assert f"{told['free_bytes']} of {told['total_bytes']}" == first_line
    assert told["own_bytes"] == 120 * GIB, "what it held when it asked, not what it holds at the end"
    if not lie:
        assert report["devices"][0]["unattributed_bytes"] == 0, "nobody else uses the simulated GPU"
    assert report["failures"][-1]["asked_bytes"] == 80 * GIB


# --- threads and processes that end ------------------------------------------------------------


@pytest.mark.skipif(SANITIZE == "thread", reason="its runtime hangs when cancelled at any instruction")
def test_threads_cancelled_at_any_instruction_leave_a_ledger_that_can_be_read(run_watched):
    environment = {"LD_LIBRARY_PATH": SIMGPU / "null"}
    result = run_watched(command("cancelled"), env=environment, timeout=30)
    assert (result.returncode, result.stdout) == (0, "all ended\n"), result.stderr
    report = result.report
    assert report["ledger"]["check"]["ok"], report["ledger"]["check"]["differences"]
    # Each cancelled thread can have left one block, and one event that was not recorded.
    [row] = [row for row in report["totals"] if row["space"] == "device"]
    assert 2 <= row["live_blocks"] <= 2 + 200
    blocks = [block["bytes"] for block in report["blocks"]["largest"]]
    assert blocks[:2] == [3 * MIB, MIB]


def test_exec_while_threads_allocate_leaves_a_report_of_all_but_the_interrupted_events(run_watched):
    result = run_watched(command("exec_busy"))
    assert (result.returncode, result.stdout) == (0, "another program\n"), result.stderr
    report = result.report
    assert report["ledger"]["check"]["ok"], report["ledger"]["check"]["differences"]
    [row] = [row for row in report["totals"] if row["space"] == "device"]
    true = result.books[0, "device"]
    assert abs(row["allocations"] - true["allocs"]) + abs(row["frees"] - true["frees"]) <= 3
    assert row["allocations"] >= 300


@pytest.mark.parametrize("monitor", [0, 1])
@pytest.mark.parametrize("end", ["at the end", "unloaded"])
def test_a_library_that_frees_in_its_destructor_has_leaked_nothing(run_watched, end, monitor):
    plugin = HAZARDS / "liblate_frees.so"
    argv = command("late_library", plugin, *(["unload"] if end == "unloaded" else []))
    result = run_watched(argv, env={"MEMWATCH_MONITOR": monitor})
    assert result.returncode == 0, result.stderr
    assert "freed by the library: 0" in result.stdout
    compare_with_books(result.report, result.books)
    assert result.report["blocks"]["count"] == 0


# --- threads that begin together ---------------------------------------------------------------


def slow_growth(milliseconds):
    """Surroundings in which the ledger's file and tables take that long to grow."""
    libraries = *sanitizer_runtimes(), LIBRARY, HAZARDS / "libslow_growth.so"
    return {"LD_PRELOAD": ":".join(map(str, libraries)), "SLOW_GROWTH_MS": milliseconds}


def counted_and_true(result):
    """Allocations and frees of device memory, ours and the GPU's. (Not the peak: what waits to be
    counted is counted one after the other.)"""
    [ours] = [row for row in result.report["totals"] if row["space"] == "device"]
    true = result.books[0, "device"]
    return (ours["allocations"], ours["frees"]), (true["allocs"], true["frees"])


@pytest.mark.parametrize("milliseconds", [0, 30, 300])
def test_no_event_is_lost_while_the_ledger_is_made_and_grows(run_watched, milliseconds):
    result = run_watched(command("many_sites"), slow_growth(milliseconds))
    assert (result.returncode, result.stderr) == (0, "")
    counted, true = counted_and_true(result)
    assert counted == true
    assert result.report["ledger"]["check"] == {"ok": True, "differences": []}
    assert result.report["coverage"]["losses"] == {}


def test_who_waited_five_seconds_for_the_ledger_goes_on_and_the_event_is_counted_as_lost(run_watched):
    result = run_watched(command("many_sites"), slow_growth(1500) | {"MEMWATCH_STACKS": "off"})
    assert result.returncode == 0
    counted, true = counted_and_true(result)
    lost = result.report["coverage"]["losses"]["waking"]["count"]
    assert lost == true[0] - counted[0] > 0

# SPDX-License-Identifier: Apache-2.0
"""The simulated driver itself: its books say what programs did, its errors and faults come when
they should, and it has the names and look-ups of NVIDIA's driver."""

import json
import re
import subprocess
import sys

import pytest

import books
import conftest

SCENARIOS = conftest.SIMGPU / "programs" / "scenarios"
DRIVER = conftest.SIMGPU / "libcuda.so.1"
NULL_DRIVER = conftest.SIMGPU / "null" / "libcuda.so.1"
KIB, MIB = 1 << 10, 1 << 20


@pytest.fixture
def run(tmp_path):
    """Runs a scenario; returns (what it printed, its books, its exit status)."""

    def run_scenario(name, expected_status=0, **options):
        path = tmp_path / "books.%p"
        environment = {**conftest.clean_environment(), "SIMGPU_BOOKS": str(path), **options}
        process = subprocess.Popen([SCENARIOS, name], env=environment, text=True,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        printed, complaint = process.communicate(timeout=120)
        assert process.returncode == expected_status, complaint
        return printed, lambda pid=process.pid: books.read(tmp_path / f"books.{pid}")

    return run_scenario


def live(rows):
    return {place: row["live"] for place, row in rows.items() if row["live"]}


def counts(row):
    return row["allocs"], row["frees"], row["failed"]


# What the scenario "families" asks for, by hand.
FAMILIES = {
    (0, "device"): 3 * MIB + 5 + 1024 * 7 + 700,
    (0, "managed"): 5000,
    (-1, "pinned"): 12345,
    (-1, "registered"): 8192,
    (0, "array"): 64 * 32 * 4 * 8 + (16 * 8 + 8 * 4 + 4 * 2) * 4,
}


def test_books_show_what_each_family_asked_for(run):
    _, read = run("families")
    held = live(read())
    assert held.pop((0, "pool_reserved")) == 2 * MIB
    assert held == FAMILIES


def test_books_balance_when_everything_is_freed(run):
    _, read = run("families_freed")
    rows = read()
    assert live(rows) == {}
    assert counts(rows[0, "device"]) == (3, 3, 0)
    assert rows[0, "device"]["peak"] == FAMILIES[0, "device"]
    assert rows[0, "device"]["allocated_bytes"] == FAMILIES[0, "device"]


def test_books_survive_a_kill(run):
    _, read = run("killed", expected_status=-9)
    assert live(read())[0, "device"] == FAMILIES[0, "device"]


def test_the_books_reader_prints_json(run, tmp_path):
    run("families")
    path = next(tmp_path.glob("books.*"))
    printed = subprocess.check_output([sys.executable, books.__file__, path], text=True)
    assert json.loads(printed)["-1 pinned"]["live"] == 12345


def test_wrong_calls_get_the_documented_errors(run):
    _, read = run("errors")
    rows = read()
    # Without a context, the device is not known.
    assert counts(rows[-1, "device"]) == (0, 0, 1)
    assert counts(rows[0, "device"]) == (0, 0, 2)


def test_memory_runs_out_at_the_set_size(run):
    _, read = run("out_of_memory", SIMGPU_MEMORY="16M")
    row = read()[0, "device"]
    assert counts(row) == (8 + 2048, 1, 3)
    assert row["live"] == 14 * MIB + 2048


def test_calls_fail_on_demand(run):
    printed, read = run("results_of_five", SIMGPU_FAULT="cuMemAlloc:2,cuMemAlloc:4+:999")
    assert printed.split() == ["0", "2", "0", "999", "999"]
    assert counts(read()[0, "device"]) == (2, 0, 3)


def test_a_fault_of_one_abi_leaves_the_others_alone(run):
    printed, _ = run("results_of_five", SIMGPU_FAULT="cuMemAlloc_v2:1:1,cuMemFree_v2:1")
    assert printed.split() == ["1", "0", "0", "0", "0"]


def test_memory_info_lies_on_demand(run):
    printed, _ = run("memory_info", SIMGPU_LIE="free=sentinel,total=5G")
    assert printed.split() == [str(2**64 - 1), str(5 << 30)]
    printed, _ = run("memory_info", SIMGPU_MEMORY="3G")
    assert printed.split() == [str(3 << 30)] * 2


def test_a_context_takes_memory_of_its_own_on_demand(run):
    printed, read = run("context_memory", SIMGPU_MEMORY="250M", SIMGPU_CONTEXT="100M")
    assert printed.split() == ["150", "50", "2", "150"]
    assert counts(read()[0, "device"]) == (0, 0, 0), "it is no allocation of the program's"
    printed, _ = run("green_context_memory", SIMGPU_MEMORY="250M", SIMGPU_CONTEXT="100M")
    assert printed.split() == ["150"] * 3, "a green context's memory is that of the primary one"


def test_calls_after_exit_began_are_refused_on_demand(run):
    assert run("after_exit_began", SIMGPU_DEINIT="1")[0].split() == ["4"]
    assert run("after_exit_began")[0].split() == ["0"]


@pytest.mark.parametrize("option, value", [
    ("SIMGPU_FAULT", "cuMemAlloc"),
    ("SIMGPU_FAULT", "cuMemAlloc:0"),
    ("SIMGPU_FAULT", "cuNoSuchThing:1"),
    ("SIMGPU_SLOW", "cuMemAlloc:soon"),
    ("SIMGPU_MEMORY", "12Q"),
    ("SIMGPU_CONTEXT", "much"),
    ("SIMGPU_DEVICES", "65"),
    ("SIMGPU_LIE", "used=1"),
    ("SIMGPU_BOOKS", "/nonexistent/books"),
])
def test_a_wrong_option_ends_the_process_and_is_named(option, value):
    environment = {**conftest.clean_environment(), option: value}
    process = subprocess.run([SCENARIOS, "families"], env=environment, text=True,
                             stderr=subprocess.PIPE)
    assert process.returncode == 2
    assert re.fullmatch(rf"simgpu: {option}=.*: expected .*\n", process.stderr)


def test_a_forked_child_is_not_initialised(run):
    _, read = run("child_of_fork")
    assert counts(read()[0, "device"]) == (1, 0, 0)


def test_look_ups_pick_the_abi_by_version_and_the_twin_by_flag(run):
    run("lookups")


def test_first_generation_abi_has_32_bit_pointers(run):
    _, read = run("legacy")
    assert counts(read()[0, "device"]) == (2, 1, 0)
    assert live(read())[0, "device"] == 3 * MIB


def test_physical_memory_lives_as_long_as_a_handle_or_a_mapping(run):
    _, read = run("virtual_memory", STOP_BEFORE_RELEASE="1")
    assert live(read()) == {(1, "physical"): 4 * MIB, (-1, "address"): 8 * MIB}
    _, read = run("virtual_memory")
    rows = read()
    assert live(rows) == {}
    assert rows[1, "mapped"]["peak"] == 4 * MIB
    assert counts(rows[1, "physical"]) == (1, 1, 1)
    assert counts(rows[-1, "imported"]) == (1, 1, 0)


def test_multicast_teams_are_counted(run):
    _, read = run("multicast", STOP_BEFORE_RELEASE="1")
    assert live(read()) == {(-1, "multicast"): 4 * MIB}
    _, read = run("multicast")
    assert live(read()) == {}


def test_pools_keep_memory_until_trimmed(run):
    _, read = run("pools")
    rows = read()
    assert live(rows) == {}
    assert rows[0, "device"]["peak"] == 9 * MIB
    assert rows[0, "pool_reserved"]["peak"] == 10 * MIB


def test_a_destroyed_pool_ends_with_its_last_block(run):
    _, read = run("destroyed_pool")
    assert live(read()) == {}


def test_contexts_take_their_plain_allocations_along(run):
    _, read = run("contexts")
    held = live(read())
    # The second device's pool outlives the context that was made for it.
    assert held[1, "device"] == 4000
    assert held[0, "device"] == 7000
    assert (-1, "pinned") not in held


def test_streams_complete_later_and_in_order(run):
    run("stream_order", SIMGPU_DELAY="20000")


def test_a_host_function_may_wait_for_the_caller(run):
    run("host_function")


def test_copies_move_data(run):
    run("copies")


def test_captured_allocations_are_graph_memory(run):
    _, read = run("captured_memory", KEEP_GRAPH="1")
    rows = read()
    # The one that was freed outside the graph left; the other stays until the graph ends.
    assert counts(rows[0, "graph"]) == (2, 1, 0)
    assert live(rows) == {(0, "graph"): MIB}
    _, read = run("captured_memory")
    assert live(read()) == {}


def test_captures_cross_streams_by_events(run):
    run("forked_capture")


def test_allocating_destroys_a_capture(run):
    _, read = run("allocation_while_capturing")
    assert counts(read()[0, "device"]) == (1, 0, 1)


def test_two_processes_share_memory(run):
    printed, read = run("between_processes", KEEP_OPEN="1")
    child = int(printed)
    assert counts(read()[0, "device"]) == (1, 1, 0)
    assert counts(read(child)[0, "imported"]) == (1, 0, 0)
    printed, read = run("between_processes")
    assert counts(read(int(printed))[0, "imported"]) == (1, 1, 0)


def test_imported_external_memory_counts_its_size_once(run):
    _, read = run("external_memory", STOP_BEFORE_RELEASE="1")
    row = read()[0, "imported"]
    assert (row["live"], counts(row)) == (MIB, (2, 0, 0))
    _, read = run("external_memory")
    assert counts(read()[0, "imported"]) == (2, 2, 0)


def test_eight_threads_at_once_lose_and_mix_up_nothing(run):
    printed, read = run("threads")
    row = read()[0, "device"]
    assert live(read()) == {}
    assert row["allocs"] == row["frees"] == 8 * 20000
    assert row["allocated_bytes"] == int(printed)


# --- names -------------------------------------------------------------------------------------


def exported(library):
    listing = subprocess.check_output(["nm", "-D", "--defined-only", library], text=True)
    return {line.split()[2] for line in listing.splitlines()}


@pytest.mark.parametrize("library", [DRIVER, NULL_DRIVER], ids=["driver", "null driver"])
def test_exports_exactly_what_the_header_declares(library):
    header = conftest.SIMGPU / "driver" / "cuda.i"
    declared = set(re.findall(r"\bCUresult\s+(cu[A-Z]\w*)\s*\(", header.read_text()))
    # cudaProfiler.h is not part of every package.
    declared |= {"cuProfilerInitialize", "cuProfilerStart", "cuProfilerStop"}
    assert len(declared) > 600
    assert {name for name in exported(library) if name.startswith("cu")} == declared


@pytest.mark.parametrize("library", [DRIVER, NULL_DRIVER], ids=["driver", "null driver"])
def test_needs_nothing_but_libc(library):
    if conftest.SANITIZE:
        pytest.skip("sanitizers add libraries of their own")
    dynamic = subprocess.check_output(["readelf", "-d", library], text=True)
    assert re.findall(r"\(NEEDED\).*\[(.*)\]", dynamic) == ["libc.so.6"]
    assert "Library soname: [libcuda.so.1]" in dynamic

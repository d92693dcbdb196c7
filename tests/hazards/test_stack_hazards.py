# SPDX-License-Identifier: Apache-2.0
"""Stacks of allocations from places where taking a stack is dangerous: no program hangs, crashes or
sees a difference, the totals are right, and the frames are those that were there."""

import subprocess
import sys

import pytest

from conftest import SANITIZE, clean_environment, needs_plain_build, wait_for
from test_hazards import HAZARDS, assert_true_to_the_books, command, run_twice

MIB = 1 << 20


def chains(report):
    """For each stack that something was allocated at, the functions' names, innermost first."""
    return [
        [frame["function"] for frame in site["frames"] if frame["kind"] == "native"]
        for site in report["sites"]
    ]


def contains_in_order(names, wanted):
    rest = iter(names)
    return all(name in rest for name in wanted)


def assert_seen(report, *wanted):
    found = chains(report)
    assert any(contains_in_order(names, wanted) for names in found), f"{wanted} not in {found}"


def run(run_watched, turn, env=None):
    result = run_twice(run_watched, command(turn), env)
    assert_true_to_the_books(result)
    return result.report


# --- the frames of odd stacks ------------------------------------------------------------------


def test_frames_without_frame_pointers_of_large_variable_and_aligned_size(run_watched):
    report = run(run_watched, "stack_places frames")
    way = ["in_an_aligned_frame", "in_a_frame_of_variable_size", "in_a_large_frame"]
    assert_seen(report, "allocate", *way, "main")


@pytest.mark.parametrize("stack", ["signal", "altstack"])
def test_a_signal_handler_that_allocates_is_shown_with_what_it_interrupted(run_watched, stack):
    report = run(run_watched, f"stack_places {stack}")
    assert_seen(report, "allocate", "handle", "be_interrupted", "interrupt", "main")


@pytest.mark.skipif("address" in SANITIZE, reason="its frames need more than the smallest stack")
def test_a_thread_with_the_smallest_stack_there_is(run_watched):
    report = run(run_watched, "stack_places tiny")
    assert_seen(report, "allocate", "allocate_in_a_thread")


@pytest.mark.skipif(
    SANITIZE == "thread", reason="its runtime has left a thread before the last of its destructors"
)
def test_destructors_of_thread_data_that_run_when_ours_has_run(run_watched):
    report = run(run_watched, "stack_places destructor")
    assert_seen(report, "allocate", "at_thread_exit")


# --- signals, exceptions, constructors, fork ---------------------------------------------------


def test_handlers_that_allocate_again_and_again(run_watched):
    result = run_twice(run_watched, command("signals between"))
    report = result.report
    assert report["ledger"]["check"]["ok"]
    assert report["coverage"]["losses"] == {}
    assert_seen(report, "handle", "main")


def test_destructors_that_allocate_while_an_exception_unwinds_the_stack(run_watched):
    result = run_twice(run_watched, command("stack_throw"))
    report = result.report
    assert report["ledger"]["check"]["ok"]
    assert report["coverage"]["losses"] == {}
    [row] = [row for row in report["totals"] if row["space"] == "device"]
    true = result.books[0, "device"]
    for ours, theirs in (("live_bytes", "live"), ("allocations", "allocs"), ("failed", "failed")):
        assert row[ours] == true[theirs]
    # A frame for each level that the unwinding has not left yet.
    for depth in range(1, 12):
        down = ["go_down"] * depth
        assert_seen(report, "Block::~Block", *down, "caught_in", "main")
        assert_seen(report, "KeepsABlock::~KeepsABlock", *down, "caught_in", "main")


def test_a_constructor_of_a_library_and_a_thread_that_it_waits_for(run_watched):
    """glibc holds the loader's lock all that time, and the thread never took a stack before."""
    plugin = HAZARDS / "liballocates_in_constructor.so"
    result = run_twice(run_watched, command("constructor", plugin))
    assert_true_to_the_books(result)
    report = result.report
    assert_seen(report, "allocate")  # the thread's
    modules = [[frame["module"] for frame in site["frames"]] for site in report["sites"]]
    constructors = [names for names in modules if str(plugin) in names]
    assert constructors, modules
    assert any(str(HAZARDS / "constructor") in names for names in constructors), modules


def test_a_forked_child_takes_stacks_of_its_own(run_watched):
    result = run_twice(run_watched, command("fork first"))
    both = wait_for(lambda: len(result.reports) == 2 and result.reports, "report of the child")
    for report in both.values():
        assert report["ledger"]["check"]["ok"]
        assert_seen(report, "fork_first", "main")


def test_children_of_a_process_whose_threads_take_stacks_all_the_time(run_watched):
    result = run_twice(run_watched, command("fork among-threads"))
    report = result.report
    assert report["ledger"]["check"]["ok"]
    assert_seen(report, "allocate")


# --- libraries that go -------------------------------------------------------------------------


@needs_plain_build
@pytest.mark.parametrize("door", ["linked", "own"])
def test_a_library_in_the_place_of_an_unloaded_one_is_told_from_it(run_watched, door):
    """The return addresses are the same; what is known of the first library's code would lead the
    walk through the second one's frames astray."""
    libraries = [HAZARDS / f"libstack_{name}.so" for name in ("one", "two")]
    result = run_twice(run_watched, command(f"stack_reload {door}", *libraries))
    assert result.stdout == "at the same address\n"
    assert_true_to_the_books(result)
    for library, name in zip(libraries, ("one", "two")):
        of_it = [
            site for site in result.report["sites"]
            if any(frame["module"] == str(library) for frame in site["frames"])
        ]
        assert of_it, f"no stack in {library}"
        for site in of_it:
            names = [frame["function"] for frame in site["frames"]]
            wanted = [f"innermost_{name}", f"between_{name}", "library_allocates", "main"]
            assert contains_in_order(names, wanted), names
            each = MIB if name == "one" else 2 * MIB
            assert site["allocated_bytes"] == site["allocations"] * each
        # Loaded four times, or three; each allocation is at one of the stacks that are right.
        assert sum(site["allocations"] for site in of_it) == 3 * (4 if name == "one" else 3)


# --- descriptors -------------------------------------------------------------------------------


def test_what_the_program_writes_to_its_files_is_all_that_is_in_them(run_watched):
    """A program that closes every descriptor gets the numbers anew; nothing here may use one that
    it believes to be its own."""
    result = run_twice(run_watched, command("stack_descriptors"))
    lines = result.stdout.splitlines()
    assert len(lines) == 8
    for line in lines:
        assert line.endswith(': 10 bytes, "0123456789", at 3')


# --- real programs -----------------------------------------------------------------------------

PYTHON_AT_WORK = """
import ctypes, json, re, sqlite3, threading
compare = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
numbers = (ctypes.c_int * 200)(*range(200, 0, -1))
def work(n):
    if n: return work(n - 1)
    db = sqlite3.connect(":memory:")
    db.create_function("half", 1, lambda x: [x] and x / 2)
    assert db.execute("select half(4)").fetchone() == (2.0,)
    value = lambda p: ctypes.cast(p, ctypes.POINTER(ctypes.c_int))[0]
    ctypes.CDLL(None).qsort(numbers, 200, 4, compare(lambda a, b: value(a) - value(b)))
    return json.loads(re.sub("x", "1", "[x, {}]"))
threads = [threading.Thread(target=work, args=(20,)) for _ in range(3)]
[t.start() for t in threads]
work(30)
[t.join() for t in threads]
"""


@needs_plain_build
@pytest.mark.parametrize("program", ["python", "compiler"])
def test_walks_of_real_programs_are_those_of_the_compilers_own_unwinder(tmp_path, program):
    source = tmp_path / "program.c"
    source.write_text("#include <stdio.h>\nint main(int c, char **v) { return printf(v[c - 1]); }\n")
    argv = {
        "python": [sys.executable, "-c", PYTHON_AT_WORK],
        "compiler": ["cc", "-O2", "-w", "-c", source, "-o", tmp_path / "program.o"],
    }[program]
    counts = tmp_path / "counts"
    env = {**clean_environment(), "LD_PRELOAD": HAZARDS / "libwalk_check.so", "WALK_CHECK": counts}
    done = subprocess.run(argv, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    walks, frames, different = (
        sum(column) for column in zip(*(map(int, line.split()) for line in counts.open()))
    )
    assert walks > 500
    assert frames > 10 * walks
    assert different == 0, done.stderr

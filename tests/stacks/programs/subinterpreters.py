# SPDX-License-Identifier: Apache-2.0
"""Other interpreters in the process.

Up to 3.11 a thread is known to C by the first interpreter that it ran; its frames are right but not
all there are, and are said to be unsure. Since 3.12 it is known by the one that it runs.
"""

import os
import sys
import threading

from frames import UNSURE, check, run

try:
    import _interpreters as interpreters
except ImportError:
    try:
        import _xxsubinterpreters as interpreters
    except ImportError:
        print("there are no subinterpreters in this build")
        sys.exit(77)

NEW = sys.version_info >= (3, 12)
FOLDER = os.path.dirname(os.path.abspath(__file__))

INSIDE = f"""
import sys
sys.path.insert(0, {FOLDER!r})
import frames

def deeper(n):
    return deeper(n - 1) if n else inside()

def inside():
    if {NEW}:
        frames.check(loops=False)
        return
    import ctypes
    buffer = ctypes.create_string_buffer(frames.SIZE)
    frames.RELEASED.walker_walk(buffer, frames.SIZE, 256)
    walked = frames.Walked(buffer.value.decode())
    assert walked.flags == frames.UNSURE, walked.flags
    names = [frame[2].rpartition(".")[2] for frame in walked.frames]
    assert "inside" not in names and "in_one" in names, names

frames.found()
deeper(10)
"""


def make():
    if sys.version_info >= (3, 13):
        return interpreters.create("legacy")
    if NEW:
        return interpreters.create(isolated=False)
    return interpreters.create() if sys.version_info < (3, 9) else interpreters.create(isolated=False)


def run_in(interpreter, source):
    """Raises what the source raises."""
    told = interpreters.run_string(interpreter, source) if not hasattr(
        interpreters, "exec"
    ) else interpreters.exec(interpreter, source)
    if told is not None:
        raise AssertionError(getattr(told, "formatted", told))


def before():
    check()


def in_one():
    interpreter = make()
    try:
        check(flags=0 if NEW else UNSURE)
        run_in(interpreter, INSIDE)
        check(flags=0 if NEW else UNSURE)
    finally:
        interpreters.destroy(interpreter)
    check(flags=0 if NEW else UNSURE)


def in_several_by_turns():
    several = [make() for _ in range(3)]
    for interpreter in several + several:
        run_in(interpreter, INSIDE.replace("in_one", "in_several_by_turns"))
        check(flags=0 if NEW else UNSURE)
    for interpreter in several:
        interpreters.destroy(interpreter)


def in_a_thread():
    failures = []

    def guarded():
        interpreter = make()
        try:
            run_in(interpreter, INSIDE.replace("in_one", "guarded"))
            check(flags=0 if NEW else UNSURE)
        except BaseException as error:
            failures.append(error)
        finally:
            interpreters.destroy(interpreter)

    thread = threading.Thread(target=guarded)
    thread.start()
    thread.join()
    check(flags=0 if NEW else UNSURE)
    if failures:
        raise failures[0]


run(before, in_one, in_several_by_turns, in_a_thread)

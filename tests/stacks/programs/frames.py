# SPDX-License-Identifier: Apache-2.0
"""The walk beside what Python itself says of the same moment. Runs on every Python from 3.8 on."""

import ctypes
import os
import sys
import threading
import traceback

WALKER = os.environ["WALKER"]
RELEASED = ctypes.CDLL(WALKER)  # ctypes gives the GIL back during a call
HELD = ctypes.PyDLL(WALKER)
for library in (RELEASED, HELD):
    library.walker_find.restype = library.walker_level.restype = ctypes.c_char_p

LIVE, UNAVAILABLE = "1", "3"
CUT, APPROXIMATE, UNSURE = 1, 4, 8

NEW_FRAMES = sys.version_info >= (3, 11)  # calls from Python to Python stay in one loop
SIZE = 1 << 18

compared = 0


def found():
    """Looks for the interpreter; the level's state and words."""
    state, _, words = RELEASED.walker_find().decode().partition(" ")
    return state, words


def level():
    state, _, words = RELEASED.walker_level().decode().partition(" ")
    return state, words


class Walked:
    """What one walk said."""

    def __init__(self, text):
        head, *frames = text.split("\x1e")
        words = head.split()
        self.flags, self.errno, self.loops = int(words[1]), int(words[3]), int(words[5])
        rows = [frame.split("\x1f") for frame in frames]
        self.entries = [row[0] == "1" for row in rows]
        self.frames = [(row[7], int(row[1]), row[6]) for row in rows]  # file, line, function
        self.first_lines = [int(row[2]) for row in rows]
        self.keys = [(row[3], row[4], row[5]) for row in rows]  # code, instruction, identity


def readable(text, size):
    """What a text becomes that goes into a report."""
    text = "".join("\ufffd" if "\ud800" <= c <= "\udfff" or c == "\0" else c for c in text)
    return text.encode()[: size - 1].decode(errors="ignore")


def said(frame):
    """What Python says: innermost first, as traceback.walk_stack goes."""
    frames = []
    for frame, line in traceback.walk_stack(frame):
        code = frame.f_code
        name = getattr(code, "co_qualname", code.co_name)
        frames.append((readable(code.co_filename, 1024), line or 0, readable(name, 256)))
    return frames


def check(walk=RELEASED.walker_walk, limit=256, loops=True, flags=0):
    """Walks and compares; the walk. loops=False where the native stack tells something else."""
    global compared
    buffer = ctypes.create_string_buffer(SIZE)
    # On one line, that both see this frame at the same place.
    n, expected = walk(buffer, SIZE, limit), said(sys._getframe())
    assert n >= 0, "a frame could not be described"
    walked = Walked(buffer.value.decode())
    depth = len(expected)
    assert walked.frames == expected[:limit], difference(walked.frames, expected[:limit])
    assert walked.errno == 1234, "errno was changed"
    assert bool(walked.flags & CUT) == (depth > limit), f"flags {walked.flags} at {depth} frames"
    assert walked.flags & ~CUT == flags, f"flags {walked.flags}"
    if depth <= limit:
        assert walked.entries[-1], "the oldest frame was not called from C"
        if not NEW_FRAMES:
            assert all(walked.entries), walked.entries
        # Since 3.14 the loop may be many functions that jump to one another.
        if loops and (walked.loops or sys.version_info < (3, 14)):
            assert sum(walked.entries) == walked.loops, (
                f"{walked.loops} loops on the native stack: "
                + difference(list(zip(walked.entries, walked.frames)), expected)
            )
    compared += 1
    return walked


def difference(walked, expected):
    rows = [f"{len(walked)} frames walked, {len(expected)} expected"]
    for i in range(max(len(walked), len(expected))):
        pair = [str(side[i]) if i < len(side) else "-" for side in (walked, expected)]
        rows.append(("  " if pair[0] == pair[1] else "* ") + "   expected ".join(pair))
    return "\n".join(rows)


def run(*cases):
    """Runs functions as cases; ends the program with 1 if one fails."""
    state, words = found()
    assert state == LIVE, words
    failed = 0
    # What fails in destructors, callbacks of the collector and threads goes nowhere else.
    lost = []
    sys.unraisablehook = lost.append
    threading.excepthook = lost.append
    for case in cases:
        try:
            case()
            if lost:
                raise lost.pop().exc_value
        except BaseException:
            failed += 1
            print(f"--- {case.__name__}")
            traceback.print_exc(file=sys.stdout)
    state, words = level()
    if state != LIVE:
        failed += 1
    print(f"{words}: {len(cases)} cases, {failed} failed, {compared} stacks compared")
    sys.exit(failed != 0)

# SPDX-License-Identifier: Apache-2.0
"""While the interpreter ends, and after it.

    ending.py [daemons]     with threads that are still in C then
"""

import atexit
import ctypes
import os
import sys
import threading
import time

from frames import RELEASED, SIZE, Walked, check, found

RELEASED.walker_watch_end()
found()
check()


def at_exit():
    check()
    print("atexit: the frames are right", flush=True)


class Last:
    """Dies with the module, when the interpreter is already finalizing."""

    # With all that it needs, since modules are being emptied.
    def __del__(
        self,
        walk=RELEASED.walker_walk,
        buffer=ctypes.create_string_buffer(SIZE),
        size=SIZE,
        Walked=Walked,
        this_frame=sys._getframe,
        finalizing=sys.is_finalizing,
        write=os.write,
    ):
        n, line = walk(buffer, size, 100), this_frame().f_lineno
        frames, expected, frame = Walked(buffer.value.decode()).frames, [], this_frame()
        while frame:
            code = frame.f_code
            name = getattr(code, "co_qualname", code.co_name)
            expected.append((code.co_filename, frame.f_lineno if expected else line, name))
            frame = frame.f_back
        right = "right" if n and frames == expected and finalizing() else f"{frames} {expected}"
        write(1, f"finalizing: the frames are {right}\n".encode())


def deeper(n, then):
    return deeper(n - 1, then) if n else then()


# Threads that C will not come back from before the process is gone.
def daemon():
    frames = RELEASED.walker_count()
    started.set()
    RELEASED.walker_walk_on(frames)


for depth in (0, 20, 100) if "daemons" in sys.argv else ():
    started = threading.Event()
    threading.Thread(target=deeper, args=(depth, daemon), daemon=True).start()
    started.wait()

atexit.register(at_exit)
last = Last()
time.sleep(0.05)

# SPDX-License-Identifier: Apache-2.0
"""A million walks while everything else goes on: collections, tracebacks, threads, new code.

    stress.py [WALKS]
"""

import ctypes
import functools
import gc
import sys
import threading
import time
import traceback

from frames import RELEASED, check, run

WALKS = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
AT_ONCE = 1000
THREADS = 4

RELEASED.walker_repeat.restype = ctypes.c_uint


def deeper(n, then):
    return deeper(n - 1, then) if n else then()


def generate(n, then):
    for _ in range(1):
        yield deeper(n, then)


class Object:
    def __init__(self, n, then):
        self.cycle = self
        self.result = next(generate(n, then)) if n % 2 else deeper(n, then)

    def __del__(self):
        check()


WAYS = [
    deeper,
    lambda n, then: next(generate(n, then)),
    lambda n, then: Object(n, then).result,
    lambda n, then: sorted([n], key=lambda n: deeper(n, then)),
    lambda n, then: [deeper(n, then) for _ in range(1)],
    functools.partial(deeper),
]


def collects(done):
    while not done.is_set():
        gc.collect()
        time.sleep(0.005)


def traces(done):
    while not done.is_set():
        # CPython 3.11 itself goes astray in the frames of a thread that runs on meanwhile: "'code'
        # object has no attribute 'f_lineno'", or a crash in traceback.walk_stack.
        astray = sys.version_info[:2] == (3, 11)
        for frame in [sys._getframe()] if astray else sys._current_frames().values():
            traceback.extract_stack(frame)
        time.sleep(0.001)


def compiles(done):
    i = 0
    while not done.is_set():
        i += 1
        space = {}
        exec(f"def f{i}(n):\n    return f{i}(n - 1) if n else n\nf{i}(20)", space)
        time.sleep(0.001)


def raises(done):
    def fails(n):
        if n:
            fails(n - 1)
        raise ValueError

    while not done.is_set():
        try:
            deeper(10, lambda: fails(20))
        except ValueError:
            traceback.format_exc()
        time.sleep(0.001)


def comes_and_goes(done):
    while not done.is_set():
        threads = [threading.Thread(target=deeper, args=(5, check)) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        time.sleep(0.01)


def walks_under_stress():
    done = threading.Event()
    failures, walked = [], []

    def walks(number):
        try:
            for i in range(WALKS // THREADS // AT_ONCE):
                depth, way = 1 + (7 * i + number) % 60, WAYS[i % len(WAYS)]
                way(depth, check)
                wrong = way(depth, lambda: RELEASED.walker_repeat(AT_ONCE))
                wrong = wrong[0] if isinstance(wrong, list) else wrong
                if way is not WAYS[3]:
                    assert wrong == 0, f"{wrong} of {AT_ONCE} walks differ"
                walked.append(AT_ONCE)
        except BaseException as error:
            failures.append(error)

    others = [
        threading.Thread(target=other, args=(done,))
        for other in (collects, traces, compiles, raises, comes_and_goes)
    ]
    walkers = [threading.Thread(target=walks, args=(number,)) for number in range(THREADS)]
    for thread in others + walkers:
        thread.start()
    for thread in walkers:
        thread.join()
    done.set()
    for thread in others:
        thread.join()
    if failures:
        raise failures[0]
    print(f"{sum(walked)} walks")
    assert sum(walked) > WALKS * 0.99


run(walks_under_stress)

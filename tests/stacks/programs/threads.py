# SPDX-License-Identifier: Apache-2.0
"""Each thread has frames of its own; a thread that Python does not know has none."""

import concurrent.futures
import ctypes
import queue
import threading
import time

from frames import HELD, RELEASED, check, run

DEPTHS = [3, 10, 30]


def deeper(n, then):
    return deeper(n - 1, then) if n else then()


def in_threads(*functions):
    """Runs them at the same time; raises what one of them raises."""
    failures = queue.SimpleQueue()
    barrier = threading.Barrier(len(functions))

    def guarded(function):
        try:
            barrier.wait()
            function()
        except BaseException as error:
            failures.put(error)

    threads = [threading.Thread(target=guarded, args=(function,)) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if not failures.empty():
        raise failures.get()


def threads():
    def walks(depth):
        for _ in range(20):
            for walk in (RELEASED.walker_walk, HELD.walker_walk, HELD.walker_walk_released):
                assert len(deeper(depth, lambda: check(walk)).frames) > depth

    in_threads(*[lambda depth=depth: walks(depth) for depth in DEPTHS])


def pools():
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        for _ in range(10):
            list(pool.map(lambda depth: deeper(depth, check), DEPTHS))
        pool.submit(check).result()


def timers():
    seen = []
    timer = threading.Timer(0, lambda: seen.append(check()))
    timer.start()
    timer.join()
    assert seen


def foreign():
    """Threads that C made: without Python, and with it for the time of a callback."""
    assert RELEASED.walker_foreign_thread() == 0
    failures = []

    @ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)
    def called(_):
        try:
            deeper(5, check)
        except BaseException as error:
            failures.append(error)

    library = ctypes.CDLL(None)
    thread = ctypes.c_ulong()
    for _ in range(3):
        assert library.pthread_create(ctypes.byref(thread), None, called, None) == 0
        assert library.pthread_join(thread, None) == 0
    if failures:
        raise failures[0]


def while_others_run():
    """A walk during a call that released the GIL sees this thread's frames, not the runner's."""
    done = threading.Event()

    def runs():
        while not done.is_set():
            deeper(50, lambda: sum(range(100)))

    runners = [threading.Thread(target=runs) for _ in range(2)]
    for runner in runners:
        runner.start()
    try:
        end = time.monotonic() + 0.3
        while time.monotonic() < end:
            deeper(7, check)
            assert RELEASED.walker_repeat(2000) == 0, "the frames changed while they were frozen"
    finally:
        done.set()
        for runner in runners:
            runner.join()


run(threads, pools, timers, foreign, while_others_run)

# SPDX-License-Identifier: Apache-2.0
"""A forked child, from the first moment on."""

import os
import sys
import threading
import warnings

from frames import RELEASED, check, run

warnings.simplefilter("ignore", DeprecationWarning)  # of forking with threads


def deeper(n, then):
    return deeper(n - 1, then) if n else then()


def fork_and_check():
    before = len(check().frames)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            # The handler of the C library ran before Python had put itself right. The thread that
            # forks was inside os.fork: its frames stand.
            assert RELEASED.walker_in_child() == before - 1
            check()
            deeper(10, check)
            thread = threading.Thread(target=lambda: deeper(3, check))
            thread.start()
            thread.join()
            status = 0
        except BaseException as error:
            print("in the child:", error)
        finally:
            sys.stdout.flush()
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0


def from_the_main_thread():
    RELEASED.walker_watch_fork()
    deeper(5, fork_and_check)


def from_another_thread():
    failures = []

    def guarded():
        try:
            deeper(5, fork_and_check)
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=guarded)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]


def while_others_run():
    done = threading.Event()
    runners = [
        threading.Thread(target=lambda: [deeper(20, int) for _ in iter(done.is_set, True)])
        for _ in range(3)
    ]
    for runner in runners:
        runner.start()
    try:
        for _ in range(5):
            deeper(5, fork_and_check)
    finally:
        done.set()
        for runner in runners:
            runner.join()


def of_a_child():
    child = os.fork()
    if child == 0:
        try:
            fork_and_check()
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0


run(from_the_main_thread, from_another_thread, while_others_run, of_a_child)

# SPDX-License-Identifier: Apache-2.0
"""Green threads: the frames of the one that runs."""

import threading

import greenlet
from frames import check, run


def deeper(n, then):
    return deeper(n - 1, then) if n else then()


# A greenlet's native stack goes on where it was started from: loops=False.
def walk():
    return check(loops=False)


def switches():
    walked = []

    def first(depth):
        for _ in range(5):
            walked.append(deeper(depth, walk))
            second_one.switch()

    def second():
        for _ in range(5):
            walked.append(walk())
            deeper(7, first_one.switch)
            walked.append(deeper(2, walk))

    first_one, second_one = greenlet.greenlet(first), greenlet.greenlet(second)
    deeper(4, lambda: first_one.switch(10))
    walk()
    assert len(walked) >= 10
    innermost = {tuple(frame[2] for frame in w.frames)[-1] for w in walked}
    assert any("first" in name for name in innermost), innermost
    assert any("second" in name for name in innermost), innermost


def many():
    def runs(n):
        for _ in range(3):
            deeper(n, walk)
            greenlet.getcurrent().parent.switch()

    all_of_them = [greenlet.greenlet(runs) for _ in range(20)]
    for _ in range(3):
        for n, one in enumerate(all_of_them):
            one.switch(*([n] if not one else []))
            walk()


def in_threads():
    failures = []

    def guarded():
        try:
            switches()
            many()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=guarded) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def generators_inside():
    def generate():
        for _ in range(3):
            yield walk()

    greenlet.greenlet(lambda: [len(w.frames) for w in generate()]).switch()


run(switches, many, in_threads, generators_inside)

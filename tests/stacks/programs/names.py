# SPDX-License-Identifier: Apache-2.0
"""What Python calls the thread: as threading.current_thread().name, or nothing, and never another.

Since 3.14 Python tells the name to the kernel, which is where it is taken from then.
"""

import _thread
import concurrent.futures
import ctypes
import os
import sys
import threading
import time

import frames
from frames import HELD, RELEASED, readable, run

TOLD_TO_KERNEL = sys.version_info >= (3, 14)
READ = not TOLD_TO_KERNEL and getattr(sys, "_is_gil_enabled", lambda: True)()
for library in (HELD, RELEASED):
    library.walker_thread_name.restype = ctypes.c_char_p


def check(name=None):
    name = threading.current_thread().name if name is None else name
    expected = readable(name, 256) if READ else ""
    for library in (HELD, RELEASED):
        buffer = ctypes.create_string_buffer(1024)
        said = library.walker_thread_name(buffer, 1024).decode()
        assert said == expected, f"{said!r}, not {expected!r}"
        frames.compared += 1


def in_thread(make=threading.Thread, then=check, **arguments):
    """Runs `then` in a thread; raises what it raised."""
    failures = []

    def guarded(*_):
        try:
            then()
        except BaseException as error:
            failures.append(error)

    thread = make(target=guarded, **arguments)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]


def names():
    in_thread()  # "Thread-1 (guarded)"
    for name in ("loader", "größe é", "загрузчик 関数", "𝒻𝓊𝓃𝒸", "x" * 255, "x" * 256, "é" * 500, " "):
        in_thread(name=name)


def no_names():
    check("")  # the main thread
    failures = []
    done = threading.Event()

    def guarded():
        try:
            check("")
        except BaseException as error:
            failures.append(error)
        done.set()

    _thread.start_new_thread(guarded, ())
    done.wait()
    thread = ctypes.c_ulong()
    foreign = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)(lambda _: guarded())
    assert ctypes.CDLL(None).pthread_create(ctypes.byref(thread), None, foreign, None) == 0
    assert ctypes.CDLL(None).pthread_join(thread, None) == 0
    if failures:
        raise failures[0]


def at_any_depth():
    def deeper(n):
        return deeper(n - 1) if n else check()

    for depth in (0, 50, 500):
        in_thread(then=lambda depth=depth: deeper(depth), name=f"{depth} deep")


def renamed():
    def renames():
        for name in ("a", "another name", "größe"):
            threading.current_thread().name = name
            check(name)

    in_thread(then=renames)


def pools():
    with concurrent.futures.ThreadPoolExecutor(3, thread_name_prefix="batches") as pool:
        list(pool.map(lambda _: check(), range(20)))
    in_thread(make=lambda target: threading.Timer(0, target))


class Many(threading.Thread):
    """More attributes than instances of a class share the names of."""

    def __init__(self, **arguments):
        for i in range(40):
            setattr(self, f"before_{i}", i)
        super().__init__(**arguments)
        for i in range(400):
            setattr(self, f"after_{i}", i)


class Slots(threading.Thread):
    __slots__ = ("one", "two")


class Own(threading.Thread):
    _name_of_ours = "not this"
    name_ = _nam = _names = "nor this"

    def run(self):
        super().run()


class Longer(threading.Thread):
    """Attributes that end as the one that holds the name, and stand before it."""

    def __init__(self, **arguments):
        self.worker_name = self.__name = "not this"
        super().__init__(**arguments)


class Mixed(dict, threading.Thread):
    def __init__(self, **arguments):
        dict.__init__(self)
        threading.Thread.__init__(self, **arguments)

    __hash__ = object.__hash__


def kinds_of_objects():
    for kind in (Many, Slots, Own, Longer, Mixed):
        for i in range(3):
            in_thread(make=kind, name=f"{kind.__name__} number {i}")


def attributes():
    def changes():
        me = threading.current_thread()
        check()
        vars(me)  # from here on there is a dictionary
        check()
        me.more = 1
        check()
        del me.more
        check()
        for i in range(100):
            setattr(me, f"x{i}", i)
        check()
        for i in range(100):
            delattr(me, f"x{i}")
        check()
        me.__dict__ = dict(me.__dict__)
        check()

    in_thread(then=changes, name="changes")
    in_thread(make=Many, then=changes, name="changes")


def while_it_changes():
    """Another thread gives this one attributes and takes them away. What is read then is its name
    or none: here the GIL is not held."""
    done = threading.Event()

    def changes(other):
        while not done.is_set():
            for i in range(60):
                setattr(other, f"x{i}", "y" * i)
            for i in range(60):
                delattr(other, f"x{i}")
            other.__dict__ = dict(other.__dict__)

    def reads():
        changer = threading.Thread(target=changes, args=(threading.current_thread(),))
        changer.start()
        try:
            end, said = time.monotonic() + 0.5, set()
            while time.monotonic() < end:
                buffer = ctypes.create_string_buffer(1024)
                for _ in range(200):
                    said.add(RELEASED.walker_thread_name(buffer, 1024))
            assert said <= {b"", b"is read"}, said
            assert not READ or b"is read" in said
        finally:
            done.set()
            changer.join()
        frames.compared += 1

    in_thread(then=reads, name="is read")


cases = [names, no_names, at_any_depth, renamed, pools, kinds_of_objects, attributes]
# To look at memory that is freed meanwhile is what an address sanitizer is there to find.
if "asan" not in os.environ.get("LD_PRELOAD", ""):
    cases.append(while_it_changes)
run(*cases)

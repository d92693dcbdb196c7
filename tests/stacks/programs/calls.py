# SPDX-License-Identifier: Apache-2.0
"""Every way in which Python code comes to be called."""

import asyncio
import contextlib
import functools
import gc
import operator
import sys

from frames import CUT, HELD, NEW_FRAMES, RELEASED, check, run


def deeper(n, then=check):
    if n:
        return deeper(n - 1, then)
    return then()


def functions():
    check()

    def inner(first, *rest, keyword=None, **more):
        return check()

    inner(1, 2, 3, keyword=4, more=5)
    inner(*[1], **{"more": 2})


def entries():
    """A call from Python stays in the loop since 3.11; one by way of C begins another."""
    plain = deeper(3).entries
    by_c = deeper(0, functools.partial(deeper, 1)).entries
    if NEW_FRAMES:
        assert plain[:5] == [False] * 5, plain
        assert by_c[:3] == [False, False, True], by_c


def recursion():
    assert len(deeper(150).frames) > 150
    for limit in (0, 1, 2, 20, 128):
        walked = deeper(150, functools.partial(check, limit=limit))
        assert len(walked.frames) == limit and walked.flags == CUT
    depth = len(check().frames)
    assert check(limit=depth).flags == 0
    assert check(limit=depth - 1).flags == CUT


def generators():
    def generate(n):
        for i in range(n):
            yield check()

    def delegate():
        got = yield from generate(2)
        check()
        yield got

    for _ in generate(3):
        pass
    list(generate(2))
    list(delegate())
    sum(len(w.frames) for w in generate(5))

    def coroutine():
        while True:
            got = yield
            check()
            if got == "inner":
                next(receiving)

    receiving = coroutine()
    next(receiving)
    outer = coroutine()
    next(outer)
    outer.send("inner")
    outer.send("plain")

    def ends():
        try:
            yield
        finally:
            check()

    ending = ends()
    next(ending)
    ending.close()
    thrown = ends()
    next(thrown)
    with contextlib.suppress(KeyError):
        thrown.throw(KeyError())

    # A frame that is on the stack in another place than where it was made.
    suspended = generate(3)
    next(suspended)

    def resumes(g):
        next(g)

    for _ in range(2):
        deeper(3, lambda: resumes(suspended))


def coroutines():
    class Awaitable:
        def __await__(self):
            check()
            yield
            return check()

    class Manager:
        async def __aenter__(self):
            check()

        async def __aexit__(self, *details):
            check()

    async def numbers():
        for i in range(3):
            check()
            await asyncio.sleep(0)
            yield i

    async def leaf():
        check()
        await asyncio.sleep(0)
        return check()

    async def middle():
        async with Manager():
            await leaf()
        async for _ in numbers():
            check()
        [i async for i in numbers()]
        return await leaf()

    async def main():
        await asyncio.gather(middle(), middle(), leaf())
        await asyncio.get_running_loop().run_in_executor(None, check)

    asyncio.run(main())
    by_hand = Awaitable().__await__()
    next(by_hand)
    with contextlib.suppress(StopIteration):
        next(by_hand)


def comprehensions():
    [check() for _ in range(2)]
    {check().flags for _ in range(2)}
    {i: check() for i in range(2)}
    list(check() for _ in range(2))
    [[check() for _ in range(2)] for _ in range(2)]
    [(lambda: check())() for _ in range(2)]


def lambdas():
    (lambda: check())()
    (lambda *a: (lambda: check())())(1)
    sorted([3, 1, 2], key=lambda x: (check(), x)[1])
    list(map(lambda x: check(), range(3)))
    functools.reduce(lambda a, b: (check(), a)[1], range(3))
    max([1, 2], key=lambda x: (check(), x)[1])


def classes():
    class Meta(type):
        def __new__(meta, name, bases, body):
            check()
            return super().__new__(meta, name, bases, body)

        def __call__(cls, *arguments):
            check()
            return super().__call__(*arguments)

    class Thing(metaclass=Meta):
        walked = check()

        class Inner:
            walked = check()

            def method(self):
                return check()

        def __init__(self, *arguments):
            check()

        def __len__(self):
            check()
            return 1

        def __getattr__(self, name):
            check()
            raise AttributeError(name)

        @property
        def value(self):
            return check()

        @staticmethod
        def static():
            return check()

        @classmethod
        def of_class(cls):
            return check()

        def __eq__(self, other):
            check()
            return True

        def __call__(self):
            return check()

    thing = Thing(1)
    thing.value, thing.static(), thing.of_class(), thing(), len(thing), thing == 1
    hasattr(thing, "absent")
    Thing.Inner().method()
    operator.methodcaller("static")(thing)

    class Descriptor:
        def __get__(self, instance, owner):
            return check()

        def __set_name__(self, owner, name):
            check()

    class Described:
        field = Descriptor()

    Described().field


def specialized():
    """Often enough that the interpreter has replaced instructions by special ones."""

    class Plain:
        def __init__(self, then):
            self.walked = then()

    class Child(Plain):
        def __init__(self, then):
            super().__init__(then)

    class Empty:
        def __getitem__(self, key):
            return key()

        @property
        def got(self):
            return check()

        def __add__(self, other):
            return check()

    empty = Empty()
    for i in range(200):
        rare = check if i % 20 == 0 else int
        Plain(rare)
        Child(rare)
        empty[rare]
        deeper(3, rare)
        for _ in (rare() for _ in range(2)):
            pass
        if i % 20 == 0:
            empty.got
            empty + 1


def decorators():
    def decorate(function):
        check()

        @functools.wraps(function)
        def wrapper(*a, **k):
            return function(*a, **k)

        return wrapper

    @decorate
    @decorate
    def decorated():
        return check()

    decorated()

    @functools.lru_cache(None)
    def cached(n):
        return check() if n == 0 else cached(n - 1)

    cached(5)

    @contextlib.contextmanager
    def context():
        check()
        yield
        check()

    with context():
        check()

    @functools.singledispatch
    def dispatched(x):
        return check()

    dispatched(1)


def executed():
    space = {"check": check}
    exec("check()", space)
    exec("\n\n\ncheck()\n\ncheck()", space)
    eval("check()", space)
    eval("[check() for i in range(2)]", space)
    exec("def made(n):\n  return check() if n == 0 else made(n - 1)\n\nmade(3)", space)
    exec(compile("\n" * 70000 + "check()", "far down", "exec"), space)
    source = "def long():\n" + "  x = 1\n" * 3000 + "  check()\n" * 2 + "  x = [\n\n\n   check()]\n"
    exec(compile(source, "long function", "exec"), space)
    space["long"]()
    # Lines that go backwards, and none at all.
    exec(compile("check(\n*\n[check(),\n\ncheck()][:0]\n)", "backwards", "exec"), space)
    if sys.version_info >= (3, 8):
        code = compile("check()", "renamed", "exec")
        exec(code.replace(co_name="anything else", co_firstlineno=1000), space)
    wide = "check(" + "\n" + " " * 300 + ")\n"
    exec(compile(wide + "x = 1;" * 400 + "check()", "wide", "exec"), space)


def unusual():
    """Exceptions, destructors, the garbage collector, tracing, hooks."""
    try:
        raise ValueError
    except ValueError:
        check()
    finally:
        check()

    class Dying:
        def __init__(self, cycle=False):
            self.cycle = self if cycle else None

        def __del__(self):
            check()

    Dying()
    x = Dying()
    x = None  # noqa: F841
    Dying(cycle=True)
    gc.collect()

    def collected(phase, info):
        # A function whose cells are still being made is none yet: it is left out, its loop is not.
        check(loops=False)

    threshold = gc.get_threshold()
    gc.callbacks.append(collected)
    gc.set_threshold(1)
    try:
        cell = []

        def makes_cells(a, b):
            c, d = [a], [b]

            def inside():
                return a, b, c, d, cell

            return inside

        for i in range(30):
            makes_cells(i, [i])()
            (lambda i: (lambda: i))([i])()
            list(i for j in [[1]] if (lambda: i))
    finally:
        gc.callbacks.remove(collected)
        gc.set_threshold(*threshold)

    def trace(frame, event, argument):
        check()
        return trace

    sys.settrace(trace)
    deeper(2, int)
    sys.settrace(None)
    sys.setprofile(lambda frame, event, argument: check() and None)
    deeper(2, int)
    sys.setprofile(None)
    check()


def ways_in():
    """With the GIL held, and released by ctypes or by the function itself."""
    for walk in (RELEASED.walker_walk, HELD.walker_walk, HELD.walker_walk_released):
        for depth in (0, 10):
            assert deeper(depth, lambda: check(walk)).frames


run(
    functions,
    entries,
    recursion,
    generators,
    coroutines,
    comprehensions,
    lambdas,
    classes,
    specialized,
    decorators,
    executed,
    unusual,
    ways_in,
)

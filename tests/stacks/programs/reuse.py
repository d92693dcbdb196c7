# SPDX-License-Identifier: Apache-2.0
"""Generated code that comes and goes at the same addresses is told apart.

What the ledger remembers of a frame it finds by three words: code, instruction, identity. The same
words must never stand for two descriptions.
"""

import gc
import sys
import types

from frames import check, run

ROUNDS = 60


def told_apart(make):
    """Calls make(i) for what to call, and lets go of it before the next one is made."""
    described, addresses, reused = {}, set(), 0
    for i in range(ROUNDS):
        function = make(i)
        walked = function()
        del function
        gc.collect(0)
        for key, frame in zip(walked.keys[1:], walked.frames[1:]):
            assert described.setdefault(key, frame) == frame, (
                f"{key} was {described[key]} and is now {frame}"
            )
        code = walked.keys[1][0]
        reused += code in addresses
        addresses.add(code)
    assert reused > ROUNDS // 4, f"only {reused} times at an address used before: nothing is tested"


def executed(source, path="<string>"):
    code = compile(source, path, "exec")

    def call():
        space = {"check": check}
        exec(code, space)
        return space["walked"]

    return call


def lines():
    told_apart(lambda i: executed("\n" * (i % 7) + "walked = check()"))


def lines_further_down():
    """The same first line, the same code, other lines."""
    told_apart(lambda i: executed("x = 1\n" * 40 + "\n" * (i % 7) + "walked = check()"))
    told_apart(lambda i: executed("x = 1" + "\n" * (1 + i % 5) + "\nx = 2;" * 40 + "walked = check()"))


def paths():
    """As a notebook numbers its cells."""
    told_apart(lambda i: executed("walked = check()", f"<cell {100 + i}>"))
    told_apart(lambda i: executed("walked = check()", f"/tmp/kernel_{1000 + i}.py"))
    told_apart(lambda i: executed("walked = check()", f"<céll {100 + i}>"))
    told_apart(lambda i: executed("walked = check()", f"<関数 {100 + i}>"))


def function_names():
    told_apart(lambda i: executed(f"def f{100 + i}(): return check()\nwalked = f{100 + i}()"))


def class_names():
    """The same function of another class: told from 3.11 on, where names are qualified."""
    told_apart(
        lambda i: executed(
            f"class C{100 + i}:\n def f(self): return check()\nwalked = C{100 + i}().f()"
        )
    )


def paths_and_class_names():
    """Both differ, each by a bit or two, which must not make up for one another."""
    for where in range(5):
        for step in (1, 2, 4, 8):

            def make(i):
                which = i // 2 % 2  # addresses may come again every second time
                return executed(
                    f"class Layer{which}:\n def forward(self): return check()\n"
                    f"walked = Layer{which}().forward()",
                    f"/tmp/made/{step * which}{'k' * where}.py",
                )

            told_apart(make)


def rebuilt():
    """As unpickled functions are: code objects made of their parts."""
    code = compile("check()", "<string>", "eval")

    def make(i):
        replaced = code.replace(
            co_filename=f"sent {100 + i}", co_name=f"f{100 + i}", co_firstlineno=i + 1
        )
        function = types.FunctionType(replaced, {"check": check})
        return lambda: function()

    told_apart(make)

    if sys.version_info >= (3, 10):
        tables = [compile("\n" * n + "(\ncheck())", "x", "eval").co_linetable for n in range(7)]

        def other_lines(i):
            table = bytes(bytearray(tables[i % 7]))
            function = types.FunctionType(code.replace(co_linetable=table), {"check": check})
            return lambda: function()

        told_apart(other_lines)


run(lines, lines_further_down, paths, function_names, class_names, paths_and_class_names, rebuilt)

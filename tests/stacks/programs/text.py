# SPDX-License-Identifier: Apache-2.0
"""Names and paths in every form in which Python keeps strings."""

import importlib.util
import os
import pathlib
import sys
import tempfile

from frames import check, run

NAMES = {
    "ASCII": "plain",
    "Latin-1": "größe_é",
    "two bytes a character": "функция_関数",
    "four bytes a character": "𝒻𝓊𝓃𝒸",
}


def names():
    for name in NAMES.values():
        space = {"check": check}
        exec(f"def {name}():\n    return check()", space)
        function = next(value for key, value in space.items() if key not in ("check", "__builtins__"))
        assert function().frames[1][2] == function.__code__.co_name


def qualified_names():
    class Außen:
        class Внутри:
            def μέθοδος(self):
                return (lambda: check())()

    walked = Außen.Внутри().μέθοδος()
    if sys.version_info >= (3, 11):
        expected = "qualified_names.<locals>.Außen.Внутри.μέθοδος"
        assert [frame[2] for frame in walked.frames[1:3]] == [expected + ".<locals>.<lambda>", expected]


def paths():
    with tempfile.TemporaryDirectory() as folder:
        for name in NAMES.values():
            path = pathlib.Path(folder, name + " with spaces", name + ".py")
            path.parent.mkdir()
            path.write_text("def imported(then):\n\n    return then()\n")
            for _ in range(2):  # the second time from what the first one compiled
                spec = importlib.util.spec_from_file_location("module", path)
                module = importlib.util.module_from_spec(spec)
                spec.loader.exec_module(module)
                assert module.imported(check).frames[1] == (str(path), 3, "imported")


def compiled_as(path):
    return eval(compile("check()", path, "eval"), {"check": check}).frames[1][0]


def odd_paths():
    for path in ("", "<string>", "a", "/" * 100, "line\nbreak", 'quote"\\', "\x7f\x01"):
        assert compiled_as(path) == path
    # What is not UTF-8 on disk, and what no text can hold.
    assert compiled_as(os.fsdecode(b"/bad/\xff\xfe.py")) == "/bad/\ufffd\ufffd.py"


def long_texts():
    """Cut, and between characters."""
    for letter in ("x", "ä", "関", "𝒻"):
        for length in (255, 256, 1022, 1023, 1024, 5000):
            cut = compiled_as(letter * length)
            assert len(cut.encode()) <= 1023 and cut == letter * len(cut)
            assert len(cut.encode()) > 1019 or len(cut) == length
        space = {"check": check}
        name = letter * 300
        exec(f"def {name}():\n    return check()", space)
        cut = space[name if name in space else next(reversed(space))]().frames[1][2]
        assert 252 <= len(cut.encode()) <= 255


def subclassed():
    """A str of a subclass, which Python accepts in a code object."""

    class Text(str):
        pass

    code = compile("check()", "x", "eval")
    for text in ("plain", "größe", "関数"):
        replaced = code.replace(co_name=Text(text), co_filename=Text(text + "/" + text))
        assert eval(replaced, {"check": check}).frames[1][0] == text + "/" + text


run(names, qualified_names, paths, odd_paths, long_texts, subclassed)

# SPDX-License-Identifier: Apache-2.0
"""Sites of Python programs: frames of both kinds in the order of the calls, threads by their names,
and what was held when Python ended, on every Python of this machine."""

import re
import sys

import pytest

from conftest import ROOT, compare_with_books, needs_plain_build
from stack_programs import build, line_of, shown

sys.path.insert(0, str(ROOT / "tests" / "stacks"))
from pythons import library_of, pythons  # noqa: E402

def build_plugin(folder):
    return build("plugin.c", folder / "libplugin.so", "-O2", "-g", "-shared", "-fPIC")


@pytest.fixture
def run_script(tmp_path, run_watched):
    """run_script(text, python) -> the run of a script that allocates by the plug-in, its argument"""

    def run(text, python):
        script = tmp_path / "train.py"
        script.write_text(text)
        return run_watched([python, script, build_plugin(tmp_path)])

    return run


@pytest.fixture
def text_of(memwatch):
    """text_of(run, *options) -> its report as text"""

    def text(run, *options):
        (report,) = (run.folder / "reports").glob("*.json")
        return memwatch("report", *options, report).stdout

    return text


PROGRAM = """
import ctypes, sys
plugin = ctypes.CDLL(sys.argv[1])
def allocate():
    return plugin.plugin_allocate(ctypes.c_size_t(1 << 20))  # line 5
callback = ctypes.CFUNCTYPE(ctypes.c_int)(allocate)
class Model:
    def inner(self):
        return plugin.plugin_call(callback)  # line 9
    def forward(self):
        return self.inner()  # line 11
def batches(model):
    for _ in range(2):
        yield model.forward()  # line 14
def train():
    return max(batches(Model()), key=lambda loss: loss)  # line 16
train()  # line 17
"""


@needs_plain_build
@pytest.mark.parametrize("python", [p for p in pythons() if p.supported], ids=str)
def test_python_and_native_frames_alternate_as_the_calls_did(python, run_script, text_of):
    """C called back by C that Python called: which Python frame ran above which C frame?"""
    run = run_script(PROGRAM, python.path)
    assert run.returncode == 0, run.stderr
    # The interpreter may reach the same Python frames by two ways of its own: then it is two sites.
    sites = run.report["sites"]
    assert sum(site["allocations"] for site in sites) == 2
    qualified = "Model." if python.minor >= 11 else ""
    expected = [
        f"allocate_block:{line_of('plugin.c', 'plugin')}",
        f"plugin_allocate:{line_of('plugin.c', 'entry')}",
        "allocate:5",
        f"plugin_call:{line_of('plugin.c', 'callback')}",
        f"{qualified}inner:9",
        f"{qualified}forward:11",
        "batches:14",
        "train:16",
        "<module>:17",
    ]
    for site in sites:
        assert shown(site) == expected
        assert site["frames"][site["where"]]["function"] == "allocate"
    text = text_of(run)
    assert len(re.findall("^train.py:5 in allocate ", text, re.MULTILINE)) == 1  # they look alike
    everything = text_of(run, "--all-frames")
    assert "_PyEval_EvalFrameDefault" in everything and "_PyEval" not in text


THREADS = """
import concurrent.futures, ctypes, sys, threading
plugin = ctypes.CDLL(sys.argv[1])
def allocate(*_):
    plugin.plugin_allocate(ctypes.c_size_t(1 << 20))
def run(name):
    thread = threading.Thread(target=allocate, name=name)
    thread.start()
    thread.join()
allocate()
run("loader")
run("größe é 関数 of the data set for training 1")
with concurrent.futures.ThreadPoolExecutor(1) as pool:
    list(pool.map(allocate, range(3)))
"""


@needs_plain_build
@pytest.mark.parametrize("python", [p for p in pythons() if p.supported], ids=str)
def test_threads_are_called_what_python_calls_them(python, run_script, text_of):
    run = run_script(THREADS, python.path)
    assert run.returncode == 0, run.stderr
    names = ["loader", "größe é 関数 of the data set for training 1", "ThreadPoolExecutor-0_0"]
    threads = {thread["python_name"]: thread for thread in run.report["threads"]}
    if python.minor >= 14 or python.free_threaded:
        assert set(threads) == {None}
        return
    assert set(threads) == {*names, None}
    assert threads[None]["tid"] == run.report["process"]["pid"]  # the main thread
    assert [threads[name]["live_blocks"] for name in names] == [1, 1, 3]
    text = text_of(run)
    for shown in ("loader  ", "größe é 関数...raining 1 ", "ThreadPoolExecutor-0_0 "):
        assert f"\n{shown}" in text
    by_thread = text_of(run, "--group-by=thread")
    tid = threads[names[2]]["tid"]
    assert re.search(rf"^Thread\S*0_0 \({tid}\) ", by_thread, re.MULTILINE)


ENDS = """
import atexit, ctypes, sys
plugin = ctypes.CDLL(sys.argv[1])
class Block:
    def __init__(self, bytes):
        plugin.plugin_allocate(ctypes.c_size_t(bytes))  # line 6
        self.address = ctypes.c_uint64.in_dll(plugin, "plugin_block").value
    def __del__(self, plugin=plugin, ctypes=ctypes):
        for _ in range(10):    # what it makes while Python ends, it did not hold before
            plugin.plugin_allocate(ctypes.c_size_t(1 << 25))
            plugin.plugin_free(ctypes.c_uint64.in_dll(plugin, "plugin_block"))
        plugin.plugin_free(ctypes.c_uint64(self.address))
def train():
    Block(1 << 22)             # let go at once
    let_go = Block(1 << 23)    # when the function returns
    return Block(1 << 20)
kept = [train(), Block(1 << 21)]
let_go = Block(1 << 24)
atexit.register(lambda: globals().pop("let_go"))
never_freed = plugin.plugin_allocate(ctypes.c_size_t(1 << 19))
"""


@needs_plain_build
@pytest.mark.parametrize("python", [p for p in pythons() if p.supported], ids=str)
def test_what_python_s_end_frees_was_held_to_the_end(python, run_script, text_of):
    """A script's globals are freed when the interpreter ends: that is no news of who holds memory."""
    run = run_script(ENDS, python.path)
    assert run.returncode == 0, run.stderr
    assert run.stderr == ""
    compare_with_books(run.report, run.books)
    (total,) = run.report["totals"]
    assert (total["live_bytes"], total["live_blocks"]) == (1 << 19, 1)
    assert (total["at_exit_bytes"], total["at_exit_blocks"]) == ((1 << 19) + (1 << 20) + (1 << 21), 3)
    for field in ("at_exit_bytes", "at_exit_blocks"):
        assert sum(site[field] for site in run.report["sites"]) == total[field]
    assert run.report["sites"][0]["at_exit_bytes"] == 1 << 21  # what held most, comes first

    text = text_of(run)
    assert re.search(r"^memory +at exit +blocks", text, re.MULTILINE)
    assert re.search(r"^device 0 +device +3.50 MiB +3 ", text, re.MULTILINE)
    assert re.search(r"^by site +at exit +share", text, re.MULTILINE)
    assert re.search(r"^train.py:6 in (Block.)?__init__ +2.00 MiB +57.1% +1 ", text, re.MULTILINE)
    assert re.search(r"^python\S* \(\d+\) +512.00 KiB +100.0% +1 ",
                     text_of(run, "--group-by", "thread"), re.MULTILINE)
    assert "at exit: held when Python began to end, before it freed what was left;" in text


@needs_plain_build
def test_a_python_that_is_killed_held_what_is_live(run_script, text_of):
    run = run_script(ENDS + "import os; os.kill(os.getpid(), 9)\n", sys.executable)
    (total,) = run.report["totals"]
    assert total["at_exit_bytes"] == total["live_bytes"] > 1 << 24
    assert "at exit" not in text_of(run)


EMBEDDED = """
class Block:
    def __init__(self):
        import ctypes
        self.plugin = ctypes.CDLL({plugin!r})
        self.plugin.plugin_allocate(ctypes.c_size_t(8 << 20))
        self.block = ctypes.c_uint64.in_dll(self.plugin, "plugin_block").value
        self.free = lambda free=self.plugin.plugin_free, c=ctypes.c_uint64: free(c(self.block))
    def __del__(self):
        self.free()
kept = Block()
"""


@needs_plain_build
@pytest.mark.parametrize("python", [p for p in pythons() if p.supported and library_of(p)], ids=str)
def test_a_python_that_ends_within_a_program_is_not_the_programs_end(
    python, tmp_path, run_watched, text_of
):
    embeds = build("embeds.c", tmp_path / "embeds")
    script = EMBEDDED.format(plugin=str(build_plugin(tmp_path)))
    env = {"PYTHONHOME": str(python.prefix)}

    ended = run_watched([embeds, library_of(python), 0, script], env=env)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    (total,) = ended.report["totals"]
    assert (total["live_bytes"], total["at_exit_bytes"]) == (0, 8 << 20)

    went_on = run_watched([embeds, library_of(python), 100, script], env=env)
    assert went_on.returncode == 0, went_on.stdout + went_on.stderr
    (total,) = went_on.report["totals"]
    assert total["live_bytes"] == total["at_exit_bytes"] == 0
    assert "at exit" not in text_of(went_on)


@needs_plain_build
def test_sites_that_are_only_summed_up_were_held_at_the_exit_too(run_script, text_of):
    run = run_script(ENDS.replace("for _ in range(10)", "for _ in ()") + """
for line in range(1100):
    exec(compile("\\n" * line + "kept.append(Block(4096))", "generated.py", "exec"))
""", sys.executable)
    assert run.returncode == 0, run.stderr
    (total,), omitted = run.report["totals"], run.report["sites_omitted"]
    assert omitted["count"] > 100 and omitted["at_exit_bytes"] > 100 * 4096
    listed = sum(site["at_exit_bytes"] for site in run.report["sites"])
    assert listed + omitted["at_exit_bytes"] == total["at_exit_bytes"] > 1100 * 4096
    assert re.search(r"further sites with \d+\.\d+ KiB at exit", text_of(run))

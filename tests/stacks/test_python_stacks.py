# SPDX-License-Identifier: Apache-2.0
"""On every Python of this machine the walk gives what Python itself says: file, line, function.

The programs in programs/ do the comparing, inside the interpreter under test; what is here starts
them and judges how they end.
"""

import fcntl
import importlib.util
import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest
from conftest import BUILD, DEPS, SANITIZE, clean_environment, sanitizer_runtimes
from pythons import NEWEST, OLDEST, library_of, pythons

HERE = pathlib.Path(__file__).resolve().parent
PROGRAMS = HERE / "programs"
WALKER = BUILD / "tests" / "stacks" / "walker.so"
EMBED = BUILD / "tests" / "stacks" / "embed"

SUPPORTED = [python for python in pythons() if python.supported]
REFUSED = [python for python in pythons() if not python.supported]

# Each program with how many stacks it must have compared to have tested anything.
COMPARED = {
    "calls": 200,
    "threads": 150,
    "text": 50,
    "reuse": 500,
    "names": 100,
    "forks": 6,
    "subinterpreters": 10,
    "stress": 1000,
}

# The last releases of greenlet for each version.
GREENLET = {8: "3.1.1", 9: "3.1.1"}
GREENLET_SINCE_3_10 = "3.3.0"

NO_PACKAGE = 77


def run(*command, **more):
    environment = clean_environment()
    for name in [name for name in environment if name.startswith("PYTHON")]:
        del environment[name]
    environment.update(
        WALKER=str(WALKER),
        PYTHONPATH=str(PROGRAMS),
        PYTHONDONTWRITEBYTECODE="1",
        LD_PRELOAD=":".join(sanitizer_runtimes()),
        TSAN_OPTIONS=environment.get("TSAN_OPTIONS", "") + ":die_after_fork=0",
    )
    environment.update(more)
    return subprocess.run(
        [str(part) for part in command],
        env=environment,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=200,
    )


def run_program(python, name, *arguments, **more):
    """Runs a program of programs/ and gives its output; the test fails if the program did."""
    done = run(python, "-X", "faulthandler", PROGRAMS / f"{name}.py", *arguments, **more)
    if done.returncode == NO_PACKAGE:
        pytest.skip(done.stdout.strip())
    if done.returncode != 0:
        pytest.fail(f"status {done.returncode}\n{done.stdout}{done.stderr}", pytrace=False)
    return done.stdout


def compared(output):
    return int(re.search(r"(\d+) stacks compared", output)[1])


@pytest.mark.parametrize("minor", range(OLDEST, NEWEST + 1), ids=lambda minor: f"3.{minor}")
def test_this_version_is_here(minor):
    """Says in the summary which versions the tests of this machine do not know about."""
    here = [str(python) for python in SUPPORTED if python.minor == minor]
    if not here:
        pytest.skip(f"no Python 3.{minor} here; MEMWATCH_TEST_PYTHONS can name one")
    print("found:", *here)


@pytest.mark.parametrize("program", COMPARED)
@pytest.mark.parametrize("python", SUPPORTED, ids=str)
def test_frames_are_what_python_says(python, program):
    if program == "forks" and SANITIZE == "thread":
        pytest.skip("ThreadSanitizer does not survive a fork with threads")
    assert compared(run_program(python.path, program)) >= COMPARED[program]


@pytest.mark.parametrize("python", SUPPORTED, ids=str)
def test_the_interpreter_may_end(python):
    lines = run_program(python.path, "ending").splitlines()
    assert lines == [
        "atexit: the frames are right",
        "finalizing: the frames are right",
        "frames after the end: 0",
    ]
    if SANITIZE == "thread":
        return  # which sees that nothing but time keeps these threads from what is freed
    # Freed thread states are not left as they were.
    lines = run_program(python.path, "ending", "daemons", MALLOC_PERTURB_="85").splitlines()
    assert lines[0] == "atexit: the frames are right"
    assert lines[-1] == "frames after the end: 0"


def greenlet_for(python):
    """A folder with greenlet for this Python; downloaded once, and kept with the build."""
    own = importlib.util.find_spec("greenlet")
    if python.minor == sys.version_info.minor and not python.free_threaded and own:
        return pathlib.Path(own.origin).parent.parent
    version = GREENLET.get(python.minor, GREENLET_SINCE_3_10)
    abi = f"cp3{python.minor}{'t' * python.free_threaded}"
    folder = DEPS / "deps" / f"greenlet-{version}-{abi}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(folder.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            what = ["--only-binary=:all:", "--no-deps", "--python-version", f"3.{python.minor}"]
            what += ["--implementation", "cp", "--abi", abi, f"greenlet=={version}"]
            unfinished = folder.with_suffix(".unfinished")
            done = subprocess.run(
                [*pip, "--target", unfinished, *what], capture_output=True, text=True
            )
            if done.returncode != 0:
                shutil.rmtree(unfinished, ignore_errors=True)
                reason = (done.stderr.strip() or "no reason").splitlines()[-1]
                pytest.skip(f"greenlet {version} for {abi} cannot be had: {reason}")
            unfinished.rename(folder)
    return folder


@pytest.mark.parametrize("python", SUPPORTED, ids=str)
def test_greenlets_have_frames_of_their_own(python):
    path = f"{PROGRAMS}:{greenlet_for(python)}"
    assert compared(run_program(python.path, "greenlets", PYTHONPATH=path)) >= 500


@pytest.mark.parametrize("python", SUPPORTED, ids=str)
def test_a_virtual_environment_is_no_other_python(python, tmp_path):
    done = run(python.path, "-m", "venv", "--without-pip", tmp_path / "venv")
    assert done.returncode == 0, done.stderr
    assert compared(run_program(tmp_path / "venv" / "bin" / "python", "calls")) > 200


@pytest.mark.parametrize("python", SUPPORTED, ids=str)
def test_a_python_that_was_moved_is_read(python, tmp_path):
    """As conda lays it out: a prefix with bin and lib, found from the program."""
    prefix = tmp_path / "environment"
    (prefix / "bin").mkdir(parents=True)
    (prefix / "lib").mkdir()
    name = f"python3.{python.minor}{'t' * python.free_threaded}"
    shutil.copy(os.path.realpath(python.path), prefix / "bin" / name)
    library = library_of(python)
    if library:
        shutil.copy(library, prefix / "lib")
    (prefix / "lib" / name).symlink_to(pathlib.Path(python.prefix) / "lib" / name)
    environment = {"LD_LIBRARY_PATH": str(prefix / "lib"), "PYTHONHOME": str(prefix)}
    done = run(prefix / "bin" / name, "-c", "import sys; print(sys.prefix)", **environment)
    assert done.stdout.strip() == str(prefix), done.stderr
    assert compared(run_program(prefix / "bin" / name, "calls", **environment)) > 200


@pytest.mark.parametrize("python", [p for p in SUPPORTED if library_of(p)], ids=str)
def test_a_program_may_load_and_unload_python(python):
    done = run(EMBED, WALKER, library_of(python), PYTHONHOME=python.prefix)
    assert (done.stdout, done.returncode) == ("ok\n", 0), done.stderr


@pytest.mark.parametrize("python", REFUSED, ids=str)
def test_other_pythons_are_refused_with_a_reason(python):
    state_and_words, frames = run_program_of_any(python)
    if python.implementation == "PyPy":
        expected = "3 PyPy, whose frames are not CPython's"
    elif python.minor < OLDEST:
        expected = "3 Python older than 3.8"
    elif python.minor > NEWEST:
        expected = f"3 CPython {python.version}: newer than what this library knows"
    else:
        expected = f"3 CPython {python.version}: built with Py_DEBUG"
    words = re.sub(r"(CPython 3\.(8|9|10))[.\d]*", r"\1", expected)
    assert (state_and_words, frames) == (words, "0 frames")


def run_program_of_any(python):
    done = run(python.path, PROGRAMS / "refused.py")
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()

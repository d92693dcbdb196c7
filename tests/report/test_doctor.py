# SPDX-License-Identifier: Apache-2.0
"""`memwatch doctor` says for this machine and a program what would be recorded and what not."""

import os
import re
import shutil
import subprocess
import sys

import pytest
from conftest import DEPS, LIBRARY, MEMWATCH, SANITIZE, SIMGPU
from conftest import clean_environment, sanitizer_runtimes

COMPILER = os.environ.get("CC", "cc").split()


@pytest.fixture
def doctor(memwatch, tmp_path):
    """doctor(*arguments, env=None) -> (exit status, output as one line a finding)"""

    def doctor(*arguments, env=None):
        preload = ":".join(sanitizer_runtimes())
        environment = {**({"LD_PRELOAD": preload} if preload else {}), **(env or {})}
        done = memwatch("doctor", *arguments, env=environment, cwd=tmp_path)
        for line in done.stdout.splitlines():
            assert len(line) <= 80 or len(line.split()) <= 3, "only a long word may stick out"
        unwrapped = re.sub(r"\n {10,}", " ", done.stdout)
        return done.returncode, unwrapped + done.stderr

    return doctor


@pytest.fixture
def compile(tmp_path):
    """compile(source, *flags) -> path of the program"""

    def compile(source, *flags, name="program"):
        path = tmp_path / name
        (tmp_path / f"{name}.c").write_text(source)
        subprocess.run([*COMPILER, "-o", path, tmp_path / f"{name}.c", *flags], check=True)
        return path

    return compile


def lines(text, mark):
    return [line.strip() for line in text.splitlines() if line.strip().startswith(mark)]


# --- the machine -------------------------------------------------------------------------------


def test_a_machine_where_everything_is_in_place_has_no_problem(doctor):
    code, text = doctor()
    assert lines(text, "PROBLEM") == []
    assert code == 0
    assert str(LIBRARY) in text and "it can be preloaded" in text


def test_the_driver_is_found_and_its_version_told(doctor):
    code, text = doctor()
    assert f"{SIMGPU}/libcuda.so" in text
    assert re.search(r"CUDA \d+\.\d+", text)


def test_without_a_driver_it_says_so_but_that_is_no_problem(doctor):
    code, text = doctor(env={"LD_LIBRARY_PATH": "/nowhere"})
    if "no driver" not in text:
        pytest.skip("this machine has a driver of its own")
    assert code == 0


def test_a_driver_that_crashes_does_not_take_the_doctor_along(doctor, compile, tmp_path):
    source = "__attribute__((constructor)) static void crash(void) { __builtin_trap(); }"
    compile(source, "-shared", "-fPIC", name="libcuda.so.1")
    code, text = doctor(env={"LD_LIBRARY_PATH": tmp_path})
    assert "loading it failed" in text
    assert "Limits" in text


def test_a_missing_library_is_a_problem(doctor):
    code, text = doctor(env={"MEMWATCH_LIBRARY": "/nowhere/libmemwatch.so"})
    assert code == 1
    assert any("MEMWATCH_LIBRARY" in line for line in lines(text, "PROBLEM"))


def test_a_library_that_cannot_be_loaded_is_a_problem(doctor, tmp_path):
    broken = tmp_path / "libmemwatch.so"
    broken.write_bytes(LIBRARY.read_bytes()[:100])
    code, text = doctor(env={"MEMWATCH_LIBRARY": broken})
    assert code == 1
    assert any(re.search("cannot be preloaded|ELF", line) for line in lines(text, "PROBLEM"))


def test_folders_are_told_with_their_free_space(doctor, tmp_path):
    code, text = doctor(env={"MEMWATCH_LEDGER_DIR": tmp_path, "MEMWATCH_DIR": tmp_path})
    assert re.search(rf"ok +{tmp_path}: [\d.]+ [KMGT]iB free", text)
    assert f"MEMWATCH_DIR={tmp_path}" in text


def test_a_folder_that_is_not_there_is_told(doctor):
    code, text = doctor(env={"MEMWATCH_LEDGER_DIR": "/nowhere/ledgers"})
    assert any("/nowhere/ledgers: No such file" in line for line in lines(text, "note"))


def test_switched_off_is_a_problem(doctor):
    code, text = doctor(env={"MEMWATCH_ENABLE": "0"})
    assert code == 1 and any("MEMWATCH_ENABLE=0" in line for line in lines(text, "PROBLEM"))


def test_limits_of_the_shell_are_told(tmp_path):
    done = subprocess.run(
        ["bash", "-c", f"ulimit -f 1000; exec {MEMWATCH} doctor"],
        env=clean_environment(),
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert "ulimit -f" in done.stdout


# --- a program ---------------------------------------------------------------------------------

CALLS_DRIVER = "extern int cuInit(unsigned); int main(void) { return cuInit(0); }"
CALLS_RUNTIME = "extern int cudaFree(void *); int main(void) { return cudaFree(0); }"
CALLS_NOTHING = "int main(void) { return 0; }"


def test_a_program_with_the_shared_runtime(doctor, compile):
    program = compile(CALLS_RUNTIME, f"{SIMGPU}/libcudart.so.13")
    code, text = doctor(program)
    assert code == 0
    assert re.search(r"CUDA runtime: .*libcudart\.so\.13", text)
    assert "program imports 1 function by name, such as cudaFree" in text


def test_a_program_with_the_static_runtime_also_when_stripped(doctor, compile):
    archives = [SIMGPU / "libcudart_static.a", *(DEPS / "deps").glob("**/libcudart_static.a")]
    libraries = ["-ldl", "-lpthread", "-lrt", "-lm", *([f"-fsanitize={SANITIZE}"] if SANITIZE else [])]
    for archive in archives:
        program = compile(CALLS_RUNTIME, archive, *libraries)
        for strip in (False, True):
            if strip:
                subprocess.run(["strip", program], check=True)
            code, text = doctor("--", program, "an", "argument")
            assert code == 0
            assert "CUDA runtime: static, within program" in text, archive
            assert "way to the driver, cuGetProcAddress: program asks the driver" in text, archive


def test_a_program_on_the_driver_api(doctor, compile):
    program = compile(CALLS_DRIVER, f"{SIMGPU}/libcuda.so.1")
    code, text = doctor(program)
    assert code == 0
    assert "no CUDA runtime: it uses the driver itself" in text
    assert "such as cuInit" in text


def test_a_dependency_that_is_missing_is_told(doctor, compile):
    program = compile(CALLS_RUNTIME, f"{SIMGPU}/libcudart.so.13")
    code, text = doctor(program, env={"LD_LIBRARY_PATH": "/nowhere"})
    if "libcudart.so.13, which it needs, is not found" not in text:
        assert re.search(r"CUDA runtime: /usr", text), "this machine has a runtime of its own"


def test_a_program_that_cannot_start_for_want_of_a_library_is_a_problem(doctor, compile, tmp_path):
    library = compile(
        "void needed(void) {}", "-shared", "-fPIC", "-Wl,-soname,libneeded.so.7", name="libneeded.so"
    )
    program = compile("void needed(void); int main(void) { needed(); }", library)
    started = subprocess.run([program], env=clean_environment(), capture_output=True)
    assert started.returncode == 127, "this program starts: the test has lost its eyes"
    code, text = doctor(program)
    assert code == 1
    assert any("libneeded.so.7" in line for line in lines(text, "PROBLEM"))

    library.rename(tmp_path / "libneeded.so.7")
    code, text = doctor(program, env={"LD_LIBRARY_PATH": tmp_path})
    assert code == 0 and lines(text, "PROBLEM") == []


def test_a_program_that_shows_no_cuda_may_still_load_it(doctor):
    code, text = doctor("true")
    assert code == 0
    assert "no sign of CUDA" in text


def test_a_static_program_is_a_problem(doctor, compile):
    for flag in ("-static", "-static-pie"):
        code, text = doctor(compile(CALLS_NOTHING, flag))
        assert code == 1
        assert any("statically" in line for line in lines(text, "PROBLEM"))


def test_a_32_bit_program_is_a_problem(doctor, compile, tmp_path):
    program = compile(CALLS_NOTHING)
    # The loader looks at the class before anything else: so does the doctor.
    source = tmp_path / "small.s"
    source.write_text(
        ".globl _start\n_start: nop\n" '.section .interp,"a"\n.asciz "/lib/ld-linux.so.2"\n'
    )
    made = subprocess.run(
        [*COMPILER, "-m32", "-nostdlib", "-o", program, source], capture_output=True
    )
    if made.returncode:
        pytest.skip("this compiler makes no 32-bit programs")
    code, text = doctor(program)
    assert code == 1
    assert any("32-bit" in line for line in lines(text, "PROBLEM"))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a setuid program of another user")
def test_a_setuid_program_is_a_problem(doctor, compile):
    program = compile(CALLS_NOTHING)
    os.chown(program, 12345, 12345)
    program.chmod(0o4755)
    code, text = doctor(program)
    assert code == 1
    assert any("setuid" in line for line in lines(text, "PROBLEM"))


def test_a_script_is_followed_to_its_interpreter(doctor, tmp_path):
    script = tmp_path / "script"
    script.write_text("#!/usr/bin/env -S LANG=C sh -e\n")
    script.chmod(0o755)
    code, text = doctor(script)
    assert code == 0
    assert f"a script: {shutil.which('sh')} runs it" in text


def test_a_user_of_dlmopen_is_told(doctor, compile):
    source = """
#define _GNU_SOURCE
#include <dlfcn.h>
int main(void) { return dlmopen(LM_ID_NEWLM, "libm.so.6", RTLD_NOW) == 0; }
"""
    code, text = doctor(compile(source, "-ldl"))
    assert any("dlmopen" in line and "program" in line for line in lines(text, "note"))


# --- a Python -----------------------------------------------------------------------------------


@pytest.fixture
def environment(tmp_path):
    """environment(torch's version.py) -> the python of a virtual environment with such a PyTorch"""

    def environment(version_py, home=tmp_path / "environment"):
        python = home / "bin" / "python"
        python.parent.mkdir(parents=True)
        python.symlink_to(os.path.realpath(sys.executable))
        (home / "pyvenv.cfg").write_text("home = /usr/bin\n")
        package = home / "lib" / f"python3.{sys.version_info[1]}" / "site-packages" / "torch"
        package.mkdir(parents=True)
        (package / "version.py").write_text(version_py)
        return python

    return environment


def test_of_a_python_it_says_whether_its_lines_are_read(doctor, compile):
    code, text = doctor(os.path.realpath(sys.executable))
    assert code == 0
    assert f"Python 3.{sys.version_info[1]}: its lines are read" in text
    for name, words in (
        ("python3.7", "Python 3.7: its lines are not read"),
        ("python3.99", "Python 3.99: its lines are not read"),
        ("python", "does not tell its version"),
    ):
        code, text = doctor(compile(CALLS_NOTHING, name=name))
        assert code == 0 and any(words in line for line in lines(text, "note")), text
    code, text = doctor(compile(CALLS_NOTHING, name="trainer"))
    assert "Python 3" not in text


def test_a_program_with_an_interpreter_within_is_told_by_its_library(doctor, compile, tmp_path):
    library = tmp_path / "libpython3.12.so.1.0"
    (tmp_path / "python.c").write_text("int Py_IsInitialized(void) { return 0; }")
    subprocess.run(
        [*COMPILER, "-shared", "-fPIC", "-o", library, tmp_path / "python.c", f"-Wl,-soname,{library.name}"],
        check=True,
    )
    source = "int Py_IsInitialized(void);\nint main(void) { return Py_IsInitialized(); }"
    program = compile(source, library, name="embeds")
    code, text = doctor(program, env={"LD_LIBRARY_PATH": tmp_path})
    assert "Python 3.12: its lines are read" in text


@pytest.mark.parametrize(
    "version_py, mark, words",
    [
        (
            "__version__ = '2.9.1+cu130'\ncuda: Optional[str] = '13.0'\nhip: Optional[str] = None\n",
            "ok",
            "PyTorch 2.9.1+cu130 in {folder}: its tensors are recorded",
        ),
        ("__version__ = '1.13.1'\ncuda = None\nhip = '5.2'\n", "ok", "PyTorch 1.13.1 in {folder}"),
        ("__version__ = '2.9.1+cpu'\ncuda = None\nhip = None\n", "note", "is built for no GPU"),
        ("__version__ = '1.5.0'\ncuda = '10.1'\n", "note", "1.6 and later are"),
    ],
)
def test_the_pytorch_of_an_environment_is_told(doctor, environment, version_py, mark, words):
    python = environment(version_py)
    code, text = doctor(python)
    folder = next(python.parent.parent.glob("lib/*/site-packages"))
    assert code == 0
    assert any(words.format(folder=folder) in line for line in lines(text, mark)), text


def test_what_pythonpath_names_comes_before_the_environment(doctor, environment, tmp_path):
    python = environment("__version__ = '2.9.1'\ncuda = '13.0'\n")
    (tmp_path / "first" / "torch").mkdir(parents=True)
    (tmp_path / "first" / "torch" / "version.py").write_text("__version__ = '2.1.0'\ncuda = '12.1'\n")
    code, text = doctor(python, env={"PYTHONPATH": f"/nowhere:{tmp_path / 'first'}"})
    assert "PyTorch 2.1.0 in" in text and "2.9.1" not in text


@pytest.mark.parametrize(
    "arguments, missing",
    [
        (["train.py"], True),
        (["-u", "-X", "dev", "-Wignore", "train.py", "--epochs"], True),
        (["here.py", "train.py"], False),
        (["-m", "train.py"], False),
        (["-um", "train.py"], False),
        (["-c", "train.py"], False),
        (["-W", "ignore"], False),
        (["-"], False),
    ],
)
def test_a_script_that_is_not_there_is_a_problem(doctor, tmp_path, arguments, missing):
    (tmp_path / "here.py").touch()
    code, text = doctor("--", os.path.realpath(sys.executable), *arguments)
    assert code == int(missing)
    assert any("no script train.py" in line for line in lines(text, "PROBLEM")) == missing


def test_a_script_that_starts_a_python_leaves_open_which(doctor, tmp_path):
    script = tmp_path / "python3"
    script.write_text("#!/bin/sh\nexec /opt/python/bin/python3\n")
    script.chmod(0o755)
    train = tmp_path / "train.py"
    train.write_text("#!/usr/bin/env python3\n")
    train.chmod(0o755)
    for program in (script, train):
        code, text = doctor(program, "nowhere.py", env={"PATH": f"{tmp_path}:{os.environ['PATH']}"})
        assert code == 0
        assert any(f"which Python {script} starts" in line for line in lines(text, "note"))


def test_what_is_never_seen_is_said(doctor):
    code, text = doctor("true")
    for word in ("RTLD_DEEPBIND", "dlmopen", "setuid", "other processes", "kernels", "static"):
        assert word in text[text.index("Never seen") :]


def test_the_program_is_not_run(doctor, compile, tmp_path):
    program = compile('#include <stdio.h>\nint main(void) { fclose(fopen("was-run", "w")); }')
    doctor("--", program)
    assert not (tmp_path / "was-run").exists()


def test_a_missing_program_gives_4(doctor):
    code, text = doctor("no-such-program-anywhere")
    assert code == 4
    assert "no-such-program-anywhere" in text


@pytest.mark.parametrize(
    "content", [b"", b"\x7fELF", b"\x7fELF" + b"\xff" * 200, b"#!\n", b"#! /nowhere\n"]
)
def test_a_file_that_is_no_program_is_a_problem_not_a_crash(doctor, tmp_path, content):
    path = tmp_path / "file"
    path.write_bytes(content)
    path.chmod(0o755)
    code, text = doctor(path)
    assert code == 1


def test_a_damaged_program_never_crashes_the_doctor(doctor, compile):
    program = compile(CALLS_NOTHING)
    good = program.read_bytes()
    places = [*range(16, 64, 3), *range(64, 1200, 97), len(good) - 600, len(good) - 60]
    for at in places:
        program.write_bytes(good[:at] + b"\xff" * 8 + good[at + 8 :])
        code, text = doctor(program)
        assert code in (0, 1), f"byte {at}"
    for length in (0, 63, 64, 200, 1000, len(good) // 2, len(good) - 1):
        program.write_bytes(good[:length])
        code, text = doctor(program)
        assert code in (0, 1), f"length {length}"


def test_wrong_use_gives_2_and_help_fits_a_terminal(memwatch):
    assert memwatch("doctor", "--no-such-option").returncode == 2
    done = memwatch("doctor", "--help")
    assert done.returncode == 0
    assert max(map(len, done.stdout.splitlines())) <= 80

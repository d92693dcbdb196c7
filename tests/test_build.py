# SPDX-License-Identifier: Apache-2.0
"""What is true of the built library and of the build itself, whatever the code does."""

import os
import re
import shutil
import subprocess

import pytest

from conftest import BUILD, DEPS, LIBRARY, ROOT, SANITIZE, clean_environment, needs_plain_build

# Every toolchain and every Python wheel of the manylinux2014 generation promises this much.
OLDEST_GLIBC = (2, 17)

# libdl is a part of glibc: before 2.34 dlsym lived there.
LIBC = re.compile(r"^(libc\.so\.6|libdl\.so\.2|ld-linux.*)$")


def output(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def make(*arguments):
    """make in the source tree, apart from any make that runs the tests."""
    done = subprocess.run(
        ["make", "-C", ROOT, "--no-print-directory", f"DEPS_DIR={DEPS}", *arguments],
        env=clean_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout + done.stderr



@needs_plain_build
def test_library_needs_libc_alone():
    needed = re.findall(r"\(NEEDED\).*\[(.*)\]", output("readelf", "-dW", LIBRARY))
    assert "libc.so.6" in needed
    assert [name for name in needed if not LIBC.match(name)] == []


@needs_plain_build
def test_library_runs_on_old_glibc():
    versions = re.findall(r"GLIBC_(\d+(?:\.\d+)+)", output("objdump", "-T", LIBRARY))
    assert versions, "objdump names no glibc version: the test has lost its eyes"
    newer = {v for v in versions if tuple(map(int, v.split("."))) > OLDEST_GLIBC}
    assert newer == set()


def test_library_asks_for_no_executable_stack_and_no_text_relocations():
    dynamic = output("readelf", "-ldW", LIBRARY)
    stack = next(line for line in dynamic.splitlines() if "GNU_STACK" in line)
    assert "RWE" not in stack
    assert "TEXTREL" not in dynamic


@needs_plain_build
@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_builds_without_a_warning(tmp_path, compiler):
    """Warnings are errors already; a tool that only prints one is caught by the output."""
    assert shutil.which(compiler), f"{compiler} is missing: run `make deps`"
    # The fuzz target without its sanitizers, which add time here and no warning.
    said = make(f"B={tmp_path}/build", f"CC={compiler}", "FUZZ_FLAGS=-O1", "everything")
    assert "warning:" not in said.lower()


@needs_plain_build
def test_install_puts_each_file_in_its_place(tmp_path):
    make(f"B={BUILD}", f"DESTDIR={tmp_path}", "PREFIX=/opt/mw", "install")

    files = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if not p.is_dir()}
    assert files == {
        "opt/mw/bin/memwatch",
        "opt/mw/lib/libmemwatch.so",
        "opt/mw/lib/pkgconfig/libmemwatch.pc",
        "opt/mw/share/memwatch/schema.json",
    }


@needs_plain_build
def test_pkg_config_tells_what_to_preload_and_the_version(tmp_path, monkeypatch):
    make(f"B={BUILD}", f"PREFIX={tmp_path}/mw", "install")

    monkeypatch.setenv("PKG_CONFIG_PATH", f"{tmp_path}/mw/lib/pkgconfig")
    preload = output("pkg-config", "--variable=preload", "libmemwatch").strip()
    version = output("pkg-config", "--modversion", "libmemwatch").strip()
    assert os.path.isfile(preload)
    assert version in output(f"{tmp_path}/mw/bin/memwatch", "--version")


def test_installed_program_finds_the_installed_library(tmp_path, run_watched):
    make(f"B={BUILD}", f"SANITIZE={SANITIZE}", f"PREFIX={tmp_path}/mw", "install")

    program = [tmp_path / "mw/bin/memwatch", "run", "--", BUILD / "examples/driver_api", "leak"]
    result = run_watched(program, mode="none")
    assert result.returncode == 0, result.stderr
    assert len(result.reports) == 1


def test_second_make_has_nothing_to_do():
    make(f"B={BUILD}", f"SANITIZE={SANITIZE}", "-q", "everything")


def test_second_make_deps_downloads_nothing():
    assert "Nothing to be done" in make("deps")


def test_sources_are_formatted():
    make("check-format")


def test_readme_tells_every_option():
    options = (ROOT / "interpose" / "options.def").read_text()
    names = re.findall(r'^OPTION\(\w+, "(\w+)"', options, re.MULTILINE)
    readme = (ROOT / "README.md").read_text()
    assert names, "options.def has no OPTION rows: the test has lost its eyes"
    assert [name for name in names if f"| `{name}` |" not in readme] == []

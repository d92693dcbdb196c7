# SPDX-License-Identifier: Apache-2.0
"""On AArch64 memwatch sees what it sees on x86-64. Run by tests/arm64/run, which builds for it."""

import os
import pathlib
import re
import shutil
import subprocess

import pytest

from conftest import MEMWATCH, REPORT_TIMEOUT, compare_with_books, load_report
from hazards import look_ups

ARM64 = pathlib.Path(os.environ["ARM64"])
LIBRARY, SIMGPU, HAZARDS = ARM64 / "libmemwatch.so", ARM64 / "simgpu", ARM64 / "tests" / "hazards"
QEMU = shutil.which("qemu-aarch64-static") or shutil.which("qemu-aarch64")
SYSROOT = "/usr/aarch64-linux-gnu"


def plugin(kind):
    return HAZARDS / f"libdoor_{kind}.so"


@pytest.fixture
def run_arm64(run_watched):
    """run_arm64(argv, *libraries to preload) -> Result"""

    def run(argv, *preload):
        inside = [f"LD_LIBRARY_PATH={SIMGPU}", f"LD_PRELOAD={':'.join(map(str, preload))}"]
        qemu = [QEMU, "-L", SYSROOT, *(word for pair in inside for word in ("-E", pair))]
        env = {"MEMWATCH_MONITOR": "0", "LD_LIBRARY_PATH": None}
        return run_watched([*qemu, *argv], env=env, mode="none", timeout=120)

    return run


def report_of(result):
    """From the ledger that is left: qemu starts no companion program (clone with CLONE_VM)."""
    (ledger,) = result.ledgers
    path = result.folder / "report.json"
    command = [MEMWATCH, "report", "--format", "json", "-o", path, ledger]
    subprocess.run(command, check=True, timeout=REPORT_TIMEOUT)
    return load_report(path)


def needed_versions(path):
    listing = subprocess.check_output(["readelf", "-VW", str(path)], text=True)
    return {tuple(map(int, v.split("."))) for v in re.findall(r"GLIBC_(\d+(?:\.\d+)+)", listing)}


def test_the_library_runs_on_old_glibc():
    assert max(needed_versions(LIBRARY)) == (2, 17)


@pytest.mark.parametrize("kind", ["linked", "dlsym", "resolver", "constructor"])
def test_plugins_are_seen_whatever_way_they_find_their_functions(run_arm64, kind):
    result = run_arm64([HAZARDS / "door_plugin", "local", plugin(kind)], LIBRARY)
    assert result.returncode == 0, result.stdout + result.stderr
    compare_with_books(report_of(result), result.books)


@pytest.mark.parametrize("kind", ["linked", "dlsym"])
def test_deep_bound_plugins_are_counted(run_arm64, kind):
    argv = [HAZARDS / "door_plugin", "local", plugin("resolver"), "deep", plugin(kind)]
    result = run_arm64(argv, LIBRARY)
    assert result.returncode == 0, result.stdout + result.stderr
    assert report_of(result)["coverage"]["deepbind"]["count"] == 1


@pytest.mark.parametrize("order", ["before us", "behind us"])
def test_another_tools_wrappers_keep_their_place(run_arm64, order):
    tools = [plugin("foreign"), LIBRARY]
    argv = [HAZARDS / "door_plugin", "local", plugin("linked")]
    bare = run_arm64(argv, plugin("foreign"))
    result = run_arm64(argv, *(tools if order == "before us" else reversed(tools)))
    assert "saw 3 allocations and 1 frees" in bare.stdout
    assert (result.stdout, result.returncode) == (bare.stdout, 0)
    compare_with_books(report_of(result), result.books)


@pytest.mark.parametrize("program", ["door_threads", "door_early"])
def test_early_and_simultaneous_look_ups(run_arm64, program):
    result = run_arm64([HAZARDS / program], LIBRARY)
    assert result.returncode == 0, result.stdout + result.stderr
    compare_with_books(report_of(result), result.books)


def test_a_program_without_cuda_is_told_so(run_arm64):
    """And RTLD_NEXT means behind the caller, here as there."""
    argv = [HAZARDS / "door_absent"]
    bare, result = run_arm64(argv, plugin("next")), run_arm64(argv, LIBRARY, plugin("next"))
    assert "page size and one: 4097" in bare.stdout
    assert (result.stdout, result.returncode) == (bare.stdout, 0)


def test_dlopen_follows_the_callers_own_runpath(run_arm64, tmp_path):
    (tmp_path / "beside").mkdir()
    outer = shutil.copy(plugin("runpath"), tmp_path)
    shutil.copy(plugin("dlsym"), tmp_path / "beside" / "libdoor_part.so")
    result = run_arm64([HAZARDS / "door_plugin", "local", outer], LIBRARY)
    assert result.returncode == 0, result.stdout + result.stderr
    compare_with_books(report_of(result), result.books)


def test_every_look_up_gives_the_function_that_it_gives_without_us():
    driver = SIMGPU / "libcuda.so.1"
    argv = [HAZARDS / "door_lookups", driver, *look_ups.VERSIONS.split()]
    asked = "\n".join(look_ups.names_to_ask(driver)) + "\n"

    def ask(preload):
        inside = ["-E", f"LD_PRELOAD={preload}", "-E", f"LD_LIBRARY_PATH={SIMGPU}"]
        command = [QEMU, "-L", SYSROOT, *inside, *argv]
        done = subprocess.run(command, input=asked, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    look_ups.compare(driver, LIBRARY, ask(""), ask(LIBRARY))


def test_an_example_reports_its_leak(run_arm64):
    result = run_arm64([ARM64 / "examples" / "driver_api", "leak"], LIBRARY)
    assert result.returncode == 0, result.stdout + result.stderr
    compare_with_books(report_of(result), result.books)

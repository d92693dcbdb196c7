# SPDX-License-Identifier: Apache-2.0
"""The simulated CUDA runtime: it has the names of NVIDIA's, reaches the driver the way NVIDIA's
does, and unmodified programs, in C and for nvcc, run on it."""

import collections
import re
import subprocess

import pytest

import conftest

PROGRAMS = conftest.SIMGPU / "runtime" / "programs"
RELEASES = ("11.0", "12", "13")
KINDS = (*RELEASES, "static", "per-thread")
MIB = 1 << 20

# What each family of programs/families.c asks for, by device and space.
FAMILIES = {
    "linear": {(0, "device"): 3 * MIB + 1000},
    "pitched": {(0, "device"): None},
    "volumes": {(0, "device"): None},
    # 16x4 + 8x4x2 + (32x32 + 16x16 + 8x8) elements of two floats
    "arrays": {(0, "array"): 8 * (64 + 64 + 1024 + 256 + 64)},
    "host": {(-1, "pinned"): 12000, (-1, "registered"): 8192},
    "managed": {(0, "managed"): MIB},
    "stream-ordered": {(0, "device"): 2 * MIB + 3000 + 4000},
    "default-stream": {(0, "device"): MIB, (-1, "pinned"): 4096},
    "graphs": {(0, "graph"): 5 * MIB, (1, "graph"): MIB},
    "capture": {(0, "graph"): 6 * MIB},
    "ipc": {(0, "device"): MIB},
    "devices": {(0, "device"): MIB, (1, "device"): 2 * MIB},
    "reset": {(0, "device"): 3 * MIB},
    "threads": {(0, "device"): 400 * 1000, (1, "device"): 400 * 1000},
    "external": {(0, "imported"): 2 * MIB},
    "host-calls": {},
    "entry-points": {},
    "kernel": {},
}


def exported(library):
    """{name: version} of a shared library's functions."""
    listing = subprocess.check_output(["nm", "-D", "--defined-only", library], text=True)
    names = {}
    for line in listing.splitlines():
        _, kind, symbol = line.split()
        if kind in "TW":
            name, _, version = symbol.partition("@")
            names[name] = version.lstrip("@")
    return names


def nvidia(release):
    folder = conftest.DEPS / "deps" / f"cuda{release.split('.')[0]}"
    return folder / "lib" / f"libcudart.so.{release}", folder / "include"


# --- names -------------------------------------------------------------------------------------


@pytest.mark.parametrize("release", RELEASES)
def test_every_name_the_headers_declare_is_exported_with_the_releases_version(release):
    _, headers = nvidia(release)
    source = subprocess.check_output(
        ["cc", "-E", "-P", "-x", "c", headers / "cuda_runtime_api.h"], text=True
    )
    declared = set(re.findall(r"\b(cuda[A-Z]\w*)\s*\([^;]*\)\s*;", source))
    ours = exported(conftest.SIMGPU / f"libcudart.so.{release}")
    assert len(declared) > 250
    assert not declared - ours.keys()
    assert {version for name, version in ours.items()} == {f"libcudart.so.{release}"}


@pytest.mark.parametrize("release", RELEASES)
def test_exports_what_nvidias_library_exports_and_nothing_else(release):
    library, _ = nvidia(release)
    if not library.exists():
        pytest.skip(f"{library} is not there: run `make deps`")
    ours = exported(conftest.SIMGPU / f"libcudart.so.{release}").keys()
    theirs = {name for name in exported(library) if re.match(r"(__)?cuda", name)}
    assert ours == theirs


def test_a_program_with_the_static_archive_shows_no_runtime_name():
    names = exported(PROGRAMS / "families.static")  # linked with -rdynamic
    assert "main" in names
    assert not [name for name in names if "cuda" in name]


# --- the way to the driver ---------------------------------------------------------------------


def look_ups(run_watched, kind):
    """[(arity, version, flags, name)] that a program's first call makes of a driver that has
    nothing but the look-up, and the rest of its output."""
    path = f"{PROGRAMS / 'door'}:{conftest.SIMGPU}"
    result = run_watched(
        [PROGRAMS / f"errors.{kind}", "first-call"], {"LD_LIBRARY_PATH": path}, mode="none"
    )
    assert result.returncode == 0, result.stderr
    lines = result.stdout.split("\n")
    asked = [re.fullmatch(r"([45]) (\d+) (\d+) (\w*)", line) for line in lines]
    return (
        [(int(m[1]), int(m[2]), int(m[3]), m[4]) for m in asked if m],
        [line for line, match in zip(lines, asked) if not match],
    )


@pytest.mark.parametrize("kind", KINDS)
def test_all_driver_functions_come_from_one_look_up_function(run_watched, kind):
    asked, said = look_ups(run_watched, kind)
    assert {row[0] for row in asked} == {4 if kind == "11.0" else 5}
    assert asked[0][1:] == (0, 0, ""), "the first look-up has an empty name"
    assert len(asked) > 250
    assert not [row for row in asked if re.search(r"_v\d$|_pt[ds][sz]$", row[3])]
    flags = collections.defaultdict(set)
    for _, _, flag, name in asked:
        flags[name].add(flag)
    assert flags["cuMemAllocAsync"] == {0, 2}, "stream calls: both kinds of default stream"
    assert flags["cuMemAlloc"] == {0}
    assert (3020, 0) in [(row[1], row[2]) for row in asked if row[3] == "cuMemAlloc"]
    assert "malloc: cudaErrorCallRequiresNewerDriver" in said


@pytest.mark.parametrize("kind", ("11.0", "13", "static"))
def test_the_driver_is_searched_for_one_symbol(run_watched, kind):
    name = "cuGetProcAddress" if kind == "11.0" else "cuGetProcAddress_v2"
    result = run_watched(
        [PROGRAMS / f"errors.{kind}", "first-call"], {"LD_DEBUG": "symbols"}, mode="none"
    )
    searched = re.findall(r"symbol=(cu[A-Z]\w*);.*file=\S*libcuda\.so", result.stderr)
    assert searched == [name]


def test_without_a_driver_calls_say_that_the_driver_is_insufficient(run_watched, tmp_path):
    (tmp_path / "libcudart.so.13").symlink_to(conftest.SIMGPU / "libcudart.so.13")
    result = run_watched(
        [PROGRAMS / "errors.13", "first-call"], {"LD_LIBRARY_PATH": tmp_path}, mode="none"
    )
    assert "malloc: cudaErrorInsufficientDriver" in result.stdout
    assert "driver version: cudaSuccess" in result.stdout
    assert "version: 0" in result.stdout


def test_an_older_driver_is_insufficient(run_watched):
    environment = {"SIMGPU_VERSION": "12080"}
    for release, answer in (("13", "cudaErrorInsufficientDriver"), ("12", "cudaSuccess")):
        program = [PROGRAMS / f"errors.{release}", "first-call"]
        result = run_watched(program, environment, mode="none")
        assert f"malloc: {answer}" in result.stdout, release


# --- programs ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_c_program_gets_what_it_asks_for_and_gives_it_back(run_watched, family, kind):
    expected = dict(FAMILIES[family])
    if kind == "11.0":
        expected.pop((1, "graph"), None)  # made by a function that CUDA 11 does not have
    result = run_watched([PROGRAMS / f"families.{kind}", family], mode="none")
    assert result.returncode == 0, result.stderr
    books = result.books
    for key, asked in expected.items():
        allocated = books[key]["allocated_bytes"]
        assert allocated == asked if asked is not None else allocated > 0, key
    assert {key: row["live"] for key, row in books.items() if row["live"]} == {}
    used = {key for key, row in books.items() if row["allocs"] and key[1] != "pool_reserved"}
    assert used == expected.keys()


@pytest.mark.parametrize("kind", ("shared", "static", "per-thread"))
def test_a_program_compiled_by_nvcc_runs(run_watched, kind):
    program = PROGRAMS / f"kernels.{kind}"
    if not program.exists():
        pytest.skip("nvcc is not installed")
    needed = subprocess.check_output(["readelf", "-d", program], text=True)
    assert ("libcudart" in needed) == (kind != "static")
    result = run_watched([program], mode="none")
    assert result.returncode == 0, result.stderr
    # Device variables and kernels are no allocations.
    assert {key for key, row in result.books.items() if row["allocs"]} == {(0, "device")}


# --- errors ------------------------------------------------------------------------------------


def situation(run_watched, name, env=None, kind="13"):
    result = run_watched([PROGRAMS / f"errors.{kind}", name], env, mode="none")
    assert result.returncode == 0, result.stderr
    return [line.split(": ") for line in result.stdout.splitlines()]


@pytest.mark.parametrize("kind", KINDS)
def test_each_thread_has_a_last_error_that_reading_clears(run_watched, kind):
    assert situation(run_watched, "last", kind=kind) == [
        ["malloc", "cudaErrorMemoryAllocation"],
        ["get device", "cudaSuccess"],
        ["peek", "cudaErrorMemoryAllocation"],
        ["another thread's last", "cudaSuccess"],
        ["last", "cudaErrorMemoryAllocation"],
        ["last again", "cudaSuccess"],
    ]


def test_an_error_that_leaves_the_gpu_unusable_stays(run_watched):
    assert situation(run_watched, "lasting", {"SIMGPU_FAULT": "cuCtxSynchronize:1:700"}) == [
        ["malloc", "cudaSuccess"],
        ["synchronize", "cudaErrorIllegalAddress"],
        ["last", "cudaErrorIllegalAddress"],
        ["last again", "cudaErrorIllegalAddress"],
        ["free", "cudaErrorIllegalAddress"],
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_asking_for_the_device_is_one_call_of_the_driver(run_watched, kind):
    """As with NVIDIA's 11.0, 12 and 13."""
    fault = {"SIMGPU_FAULT": "cuCtxGetCurrent:1+:999,cuCtxGetDevice:3:999"}
    assert situation(run_watched, "device", fault, kind) == [
        ["set device", "cudaSuccess"],
        ["get device", "cudaSuccess"],
        ["get device", "cudaSuccess"],
        ["get device", "cudaErrorUnknown"],
        ["found", "1"],
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_a_current_context_that_another_thread_destroyed_is_told(run_watched, kind):
    assert situation(run_watched, "destroyed", kind=kind) == [
        ["first call", "cudaSuccess"],
        ["get device", "cudaSuccess"],
        ["found", "1"],
        ["get device", "cudaErrorContextIsDestroyed"],
        ["reset", "cudaErrorContextIsDestroyed"],
    ]


def test_after_a_fork_the_child_has_no_gpu(run_watched):
    assert situation(run_watched, "forked") == [
        ["parent", "cudaSuccess"],
        ["child", "cudaErrorInitializationError"],
        ["parent", "cudaSuccess"],
    ]


def test_calls_after_the_runtime_went_say_that_it_is_unloading(run_watched):
    # In one program, destructors have an order; a shared runtime's would be after the program's.
    assert situation(run_watched, "at-exit", kind="static") == [
        ["malloc", "cudaSuccess"],
        ["at exit", "cudaErrorCudartUnloading"],
    ]

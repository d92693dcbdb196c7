# SPDX-License-Identifier: Apache-2.0
"""Every byte is counted exactly once, whichever way the program comes by the function it calls.

The programs call every row of the table of entry points (driver_rows.c, runtime_rows.c) through one
door. Afterwards the report must say what the simulated GPU's own books say, number by number.
"""

import re
import subprocess

import pytest
from conftest import BUILD, ROOT, compare_with_books

PROGRAMS = BUILD / "tests" / "endtoend"

# How a program gets at a function: what it is for the user, program, argument.
DRIVER_DOORS = {
    "linked with libcuda": ("driver_rows_linked", "symbol"),
    "dlopen and dlsym": ("driver_rows", "dlsym"),
    "cuGetProcAddress of CUDA 12 and 13": ("driver_rows", "getproc"),
    "cuGetProcAddress of CUDA 11": ("driver_rows", "getproc_v1"),
    "cuGetProcAddress, linked": ("driver_rows_linked", "getproc"),
    "cudaGetDriverEntryPointByVersion": ("driver_rows", "runtime"),
}
RUNTIME_DOORS = {
    "linked with libcudart.so.11.0": ("runtime_rows_11.0", "symbol"),
    "linked with libcudart.so.12": ("runtime_rows_12", "symbol"),
    "linked with libcudart.so.13": ("runtime_rows_13", "symbol"),
    "static cudart": ("runtime_rows_static", "symbol"),
    "dlopen and dlsym of libcudart": ("runtime_rows", "dlsym"),
}
THREADS = (1, 8)
ENDS = ("leak", "free")


def rows(layer):
    """The names of the table's rows, as the preprocessor sees them."""
    source = (
        "#define DRIVER(symbol, ...) @driver symbol@\n#define RUNTIME(symbol, ...) @runtime symbol@\n"
        f'#include "{ROOT}/interpose/entrypoints.def"\n'
    )
    text = subprocess.run(
        ["cc", "-E", "-P", "-"], input=source, text=True, check=True, capture_output=True
    ).stdout
    return re.findall(rf"@{layer}\s+(\w+)\s*@", text)


@pytest.fixture
def run_rows(run_watched):
    """run_rows(program, door, threads, end) -> (Result, {row: how often the program called it})"""

    def run(program, door, threads, end):
        # One device more than the threads use: the one that the program resets at the end.
        result = run_watched(
            [PROGRAMS / program, door, threads, end], env={"SIMGPU_DEVICES": 3, "SIMGPU_MEMORY": "64G"}
        )
        assert (result.returncode, result.stderr) == (0, ""), result.stderr
        calls = dict(line.split() for line in result.stdout.splitlines())
        return result, {symbol: int(count) for symbol, count in calls.items()}

    return run


def check_report(result, end):
    report = result.report
    compare_with_books(report, result.books)
    assert report["ledger"]["check"] == {"ok": True, "differences": []}
    live = {row["space"] for row in report["totals"] if row["live_bytes"]}
    assert live == set() if end == "free" else live >= {"device", "registered", "array"}
    assert report["coverage"]["losses"] == {}
    return report


# What the doors and the runtime call themselves.
ALSO_CALLED_BY_OTHERS = {"cuGetProcAddress", "cuGetProcAddress_v2", "cuDriverGetVersion"}


def check_calls(report, layer, calls, threads):
    """Each call counted once, but for the few before the first allocation: nothing was recorded yet."""
    seen = report["coverage"]["entry_points"]
    counted = {row["name"]: row["calls"] for row in seen if row["layer"] == layer}
    wrong = {
        symbol: f"{made} made, {counted.get(symbol, 0)} counted"
        for symbol, made in calls.items()
        if symbol not in ALSO_CALLED_BY_OTHERS and not made - 2 * threads <= counted.get(symbol, 0) <= made
    }
    assert wrong == {}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("threads", THREADS)
@pytest.mark.parametrize("door", DRIVER_DOORS)
def test_every_row_of_the_driver_api_is_counted_as_the_gpu_counts(run_rows, door, threads, end):
    result, calls = run_rows(*DRIVER_DOORS[door], threads, end)
    assert [symbol for symbol in rows("driver") if not calls.get(symbol)] == []
    report = check_report(result, end)
    check_calls(report, "driver", calls, threads)


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("threads", THREADS)
@pytest.mark.parametrize("door", RUNTIME_DOORS)
def test_every_row_of_the_runtime_api_is_counted_as_the_gpu_counts(run_rows, door, threads, end):
    result, calls = run_rows(*RUNTIME_DOORS[door], threads, end)
    assert [symbol for symbol in rows("runtime") if not calls.get(symbol)] == []
    report = check_report(result, end)
    apis = {site["api"] for site in report["sites"]}
    if door == "static cudart":
        # Its symbols are seen by nobody, but all that it calls of the driver.
        assert apis >= {"cuMemAlloc_v2", "cuMemHostAlloc"}
        assert not [api for api in apis if api.startswith("cuda")]
    else:
        check_calls(report, "runtime", calls, threads)
        assert apis >= {"cudaMalloc", "cudaMallocHost", "cudaMallocArray"}


@pytest.mark.parametrize("door", ["linked with libcuda", "cuGetProcAddress of CUDA 12 and 13"])
def test_a_process_that_shares_its_memory_is_counted_by_itself(run_rows, door):
    """Memory imported from another process is that one's; each has a report of its own."""
    result, _ = run_rows(*DRIVER_DOORS[door], 1, "leak")
    assert result.report
    others = [pid for pid in result.reports if pid != result.pid]
    assert len(others) == 1
    compare_with_books(result.reports[others[0]], result.books_of(others[0]))

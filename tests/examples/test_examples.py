# SPDX-License-Identifier: Apache-2.0
"""Each example, unchanged, under the library, with each of its endings: the report must be there,
must say how the process ended, and must agree with the GPU's own books."""

import os
import shutil
import signal
import sys

import pytest

from conftest import BUILD, ROOT, compare_with_books

sys.path.insert(0, str(ROOT / "examples"))
from training import BATCH_BYTES, ENDINGS, STEPS, WEIGHT_BYTES  # noqa: E402

EXAMPLES = {
    "driver_api": [BUILD / "examples/driver_api"],
    "train_host": [BUILD / "examples/train_host"],
    "train_static": [BUILD / "examples/train_static"],
    "train_shared": [BUILD / "examples/train_shared"],
    "bindings": [sys.executable, ROOT / "examples/bindings.py"],
    "numba_loop": [sys.executable, ROOT / "examples/numba_loop.py"],
}

STATUS = {
    "ok": 0,
    "leak": 0,
    "oom": 1,
    "crash": -signal.SIGSEGV,
    "abort": -signal.SIGABRT,
}


def command(example, ending):
    program = EXAMPLES[example][0]
    if not os.path.exists(program):
        nvcc = os.environ.get("NVCC") or shutil.which("nvcc")
        assert example.startswith("train_s") and not nvcc, f"{program} was not built"
        pytest.skip(f"{example} needs nvcc, which is not here; train_host is its host part in C")
    return [*EXAMPLES[example], ending]


def total(report, device, space):
    rows = [r for r in report["totals"] if (r["device"], r["space"]) == (device, space)]
    return rows[0]


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("example", EXAMPLES)
def test_example_is_watched_to_its_end(run_watched, example, ending):
    result = run_watched(command(example, ending))

    assert result.returncode == STATUS[ending], result.stderr
    compare_with_books(result.report, result.books)
    device = total(result.report, 0, "device")
    # The two lasting buffers and at least one batch were there at once.
    assert device["peak_bytes"] >= 2 * WEIGHT_BYTES + BATCH_BYTES
    assert (device["failed"] > 0) == (ending == "oom")
    if ending in ("crash", "abort"):
        assert device["live_bytes"] >= 2 * WEIGHT_BYTES + BATCH_BYTES


@pytest.mark.parametrize("example", ["driver_api", "train_host"])
def test_leak_is_in_the_report_to_the_byte(run_watched, example):
    leaked = total(run_watched(command(example, "leak")).report, 0, "device")
    freed = total(run_watched(command(example, "ok")).report, 0, "device")

    assert leaked["live_bytes"] == STEPS * BATCH_BYTES
    assert freed["live_bytes"] == 0


@pytest.mark.parametrize("example", EXAMPLES)
def test_example_is_the_same_without_the_library(run_watched, example):
    alone = run_watched(command(example, "ok"), mode="none")
    watched = run_watched(command(example, "ok"))

    assert (watched.returncode, watched.stdout) == (alone.returncode, alone.stdout)
    assert not alone.reports, "a report without the library"


def test_out_of_memory_names_the_request_that_failed(run_watched):
    report = run_watched(command("driver_api", "oom"), env={"SIMGPU_MEMORY": "1G"}).report

    # 128 MiB of weights, then 8, 16 … 256 MiB: the batch of 512 MiB is the first that does not fit.
    failure = report["failures"][-1]
    assert failure["asked_bytes"] == 512 << 20
    assert failure["live_bytes"] == (128 + 504) << 20


def test_memwatch_run_gives_the_same_report(run_watched):
    watched = [BUILD / "memwatch", "run", "--", *command("driver_api", "crash")]
    result = run_watched(watched, mode="none")

    assert result.returncode == -signal.SIGSEGV, result.stderr
    (report,) = result.reports.values()
    compare_with_books(report, result.books_of(report["process"]["pid"]))
    assert report["process"]["exit"]["signal"] == signal.SIGSEGV

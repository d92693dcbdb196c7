# SPDX-License-Identifier: Apache-2.0
"""tests/gpu/run, whose rows only a real GPU can fill, comes to its verdicts on the simulated one: what
holds is told with its figures, what does not hold fails the run, and a row without its needs is
skipped with the reason."""

import re
import subprocess
import sys

import pytest

from conftest import BUILD, ROOT, clean_environment
from . import judging

RUN = ROOT / "tests" / "gpu" / "run"


def gpu_run(*arguments, env=None):
    """(status, {row: (verdict, what it tells)}, the last line)"""
    done = subprocess.run([sys.executable, RUN, *map(str, arguments)], text=True, timeout=300,
                          env={**clean_environment(), "B": str(BUILD), **(env or {})},
                          capture_output=True, cwd="/")
    assert not done.stderr, done.stderr
    lines = re.findall(r"^(\w+) +(holds|skipped|FAILED) +(.+)$", done.stdout, re.MULTILINE)
    return done.returncode, {row: (verdict, told) for row, verdict, told in lines}, \
        done.stdout.splitlines()[-1]


def test_without_a_gpu_every_row_is_skipped_and_says_why():
    status, rows, last = gpu_run(env={"LD_LIBRARY_PATH": ""})
    if rows["train"][0] != "skipped":
        pytest.skip("this machine has a GPU")
    assert status == 0 and len(rows) > 10
    assert {verdict for verdict, _ in rows.values()} == {"skipped"}
    assert all(told.startswith("no GPU: ") for _, told in rows.values())
    assert last == f"gpu: 0 holds, {len(rows)} skipped, 0 FAILED"


def test_rows_that_hold_tell_their_figures():
    wanted = {
        "train": r"most is held by train.py:\d+; tensors [\d.]+ MiB, segments [\d.]+ MiB, as PyTorch says",
        "leak_cache": r"leak_cache.py:\d+ comes first; .*",
        "cublas": r"4.00 MiB attributed to it",
        "cudnn": r"1.00 MiB attributed to it",
        "nccl": r"4.00 MiB attributed to it",
        "numba": r"64.00 MiB at script.py:3",
        "unattributed": r"[\d.]+ MiB used − [\d.]+ MiB recorded = 500.00 MiB unattributed: before the "
                        r"program 0.00 MiB, its context 500.00 MiB, code and libraries 0.00 MiB",
        "overhead": r"\d+\.\d % of \d+ steps/s, median of 1 pairs .*",
    }
    only = [argument for row in wanted for argument in ("--only", row)]
    status, rows, _ = gpu_run("--simgpu", "--pairs", 1, "--steps", 10, *only,
                              env={"SIMGPU_CONTEXT": "500M"})
    assert status == 0 and set(rows) == set(wanted), rows
    for row, told in wanted.items():
        assert rows[row][0] == "holds" and re.fullmatch(told, rows[row][1]), rows[row]


def test_a_row_without_its_framework_is_skipped():
    status, rows, _ = gpu_run("--simgpu", "--only", "jax", "--only", "cupy")
    assert status == 0
    for module_name in ("jax", "cupy"):
        assert rows[module_name][0] == "skipped"
        assert rows[module_name][1].startswith(f"{module_name} is in none of these Pythons: ")


def test_what_does_not_hold_fails_the_run(tmp_path):
    """Here the GPU says that less is in use than was allocated."""
    status, rows, last = gpu_run("--simgpu", "--only", "unattributed", env={"SIMGPU_LIE": "free=16G"})
    assert status == 1 and last == "gpu: 0 holds, 0 skipped, 1 FAILED"
    assert rows["unattributed"][0] == "FAILED" and "recorded, but the device has only" in rows["unattributed"][1]


def frame(path):
    return {"module": path}


@pytest.mark.parametrize("modules, library", [
    (["/l/libcublasLt.so.13", "/l/libcublas.so.13", "/l/libtorch_cuda.so"], "cublas"),
    (["/usr/lib/libcuda.so.1", "/l/libcudnn_engines_precompiled.so.9", "/l/libcudnn.so.9"], "cudnn"),
    (["/l/libnccl.so.2", "/l/libtorch_cuda.so"], "nccl"),
    (["/l/libc10_cuda.so", "/l/libtorch_cuda.so", None], None),
])
def test_an_allocation_is_attributed_to_the_library_that_made_it(modules, library):
    assert judging.library_of({"frames": [*map(frame, modules), {"kind": "python"}]}) == library

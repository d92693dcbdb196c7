# SPDX-License-Identifier: Apache-2.0
"""Scripts run by PyTorch's CUDA wheel on the simulated GPU, bare and under the library."""

import dataclasses
import json
import os
import pathlib
import re
import textwrap

import pytest

import conftest as shared

RUN_ON_SIMGPU = pathlib.Path(__file__).resolve().parent / "run-on-simgpu"

# What the scripts share: they leave their result in `answer`, any JSON. One that must die with its
# tensors alive calls leave().
HEAD = """
import json, os, sys, time
import torch
answer = None
def leave():
    torch.cuda.synchronize()
    print("ANSWER " + json.dumps(answer), flush=True)
    os._exit(0)
"""
# PyTorch's autograd threads abort the process if Python ends while they still clean up after
# backward(); nothing tells when they are done.
TAIL = """
if __name__ == "__main__":
    print("ANSWER " + json.dumps(answer), flush=True)
    time.sleep(0.2)
"""


@dataclasses.dataclass
class TorchRun:
    """One script's run under the library."""

    answer: object
    report: dict
    others: list  # the reports of its children
    stderr: str

    def total(self, device, space):
        """The report's totals of a device and space; None if it has none."""
        rows = [r for r in self.report["totals"] if (r["device"], r["space"]) == (device, space)]
        return rows[0] if rows else None


def answer_of(result):
    assert result.returncode == 0, f"status {result.returncode}\n{result.stdout}{result.stderr}"
    lines = [line for line in result.stdout.splitlines() if line.startswith("ANSWER ")]
    assert len(lines) == 1, result.stdout
    return json.loads(lines[0].removeprefix("ANSWER "))


@pytest.fixture
def torch_run(run_watched, tmp_path):
    """torch_run(script, env=None) -> TorchRun

    The script runs twice, without and with the library: both must come to the same answer, print
    the same errors, and the report must agree with the books of the simulated GPU.
    """

    def run(script, env=None, timeout=120):
        program = tmp_path / "script.py"
        program.write_text(HEAD + textwrap.dedent(script) + TAIL)
        env = {"B": shared.BUILD, **(env or {})}
        bare, watched = (
            run_watched([RUN_ON_SIMGPU, program], env=env, mode=mode, timeout=timeout)
            for mode in ("none", "preload")
        )
        answer, report = answer_of(watched), watched.report
        others = [other for pid, other in watched.reports.items() if pid != watched.pid]
        found = TorchRun(answer, report, others, watched.stderr)
        assert found.answer == answer_of(bare), "the library changed what the script came to"
        # But for times and process ids.
        assert re.sub(r"\d+", "N", watched.stderr) == re.sub(r"\d+", "N", bare.stderr)
        shared.compare_with_books(found.report, watched.books)
        return found

    return run

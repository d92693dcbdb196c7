# SPDX-License-Identifier: Apache-2.0
"""The examples that train with PyTorch: the clean one is accused of nothing, and for each of the
classic mistakes the report names first the line that made it."""

import signal

import pytest

from conftest import compare_with_books

from .conftest import RUN_ON_SIMGPU
from .judging import (
    EXAMPLES, LEAKS, differences_to_torch, ending, first_line, guilty_line, kill_at_the_end,
    line_that_holds_most, line_with, most_when_memory_ran_out, read_totals,
)


@pytest.fixture
def run_example(run_watched, tmp_path):
    """run_example(name, *arguments, env=None, kill=None) -> (result, PyTorch's own totals)"""

    def run(name, *arguments, env=None, kill=None):
        env = {**ending(tmp_path / "totals.%p", kill), **(env or {})}
        result = run_watched([RUN_ON_SIMGPU, EXAMPLES / name, *arguments], env=env, timeout=120)
        return result, read_totals(tmp_path / f"totals.{result.pid}")

    return run


def agrees_with_torch_and_the_gpu(result, totals):
    assert not differences_to_torch(result.report, totals)
    compare_with_books(result.report, result.books)


@pytest.mark.parametrize("leak", LEAKS)
def test_killed_at_its_end_the_guilty_line_holds_most(run_example, leak):
    result, totals = run_example(f"leak_{leak}.py", kill=kill_at_the_end(leak))
    assert result.returncode == -signal.SIGKILL, result.stderr
    agrees_with_torch_and_the_gpu(result, totals)
    assert first_line(result.report, LEAKS[leak]) == guilty_line(leak)


@pytest.mark.parametrize("leak", [leak for leak in LEAKS if leak != "fragments"])
def test_after_its_exit_the_guilty_line_held_most(run_example, leak):
    """Python frees the program's objects as it ends: the report tells what was held before."""
    result, totals = run_example(f"leak_{leak}.py")
    assert result.returncode == 0, result.stderr
    assert first_line(result.report, LEAKS[leak]) == guilty_line(leak)
    compare_with_books(result.report, result.books)
    held = {t["device"]: t["at_exit_bytes"] for t in result.report["totals"] if t["space"] == "tensor"}
    assert [held.get(device, 0) for device in range(len(totals))] == [own for own, _ in totals]


def test_out_of_memory_by_fragmentation_names_who_lies_in_the_middle(run_example, memwatch):
    result, _ = run_example("leak_fragments.py")
    assert result.returncode == 1
    assert most_when_memory_ran_out(result.report) == guilty_line("fragments")
    (refused,) = result.report["torch"]["out_of_memory"]
    unused = refused["reserved_bytes"] - refused["allocated_bytes"]
    assert unused > 0.9 * refused["reserved_bytes"], "it is not by fragmentation"

    (path,) = (result.folder / "reports").glob("*.json")
    (finding,) = result.report["findings"]
    assert finding["type"] == "out_of_memory" and finding["knowledge"] == ["torch/cuda-oom-capacity"]
    text = memwatch("report", path).stdout
    assert f"held then by {guilty_line('fragments')} in train" in text, text
    made_segments = line_with("leak_fragments.py", "torch.zeros(1536, 1 << 20")
    assert f"held by {made_segments}" not in text and f"held by examples/{made_segments}" not in text


def accusations(result, memwatch):
    """What a report says that could be taken for the news of a leak."""
    findings = result.report["findings"]  # which waits for the report
    (path,) = (result.folder / "reports").glob("*.json")
    text = memwatch("report", path).stdout
    return findings + [line for line in text.splitlines() if "leak" in line.lower()]


@pytest.mark.parametrize("settings", ["", "expandable_segments:True", "backend:cudaMallocAsync"])
def test_a_clean_training_is_accused_of_nothing(run_example, memwatch, tmp_path, settings):
    """Its allocator keeps segments, the driver's pool and pinned memory to the end: as it should."""
    checkpoint = tmp_path / "model.pt"
    result, totals = run_example("train.py", "--steps", 50, "--checkpoint", checkpoint,
                                 env={"PYTORCH_CUDA_ALLOC_CONF": settings})
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("held out") == 2 and checkpoint.stat().st_size > 1 << 20
    assert accusations(result, memwatch) == []
    (_, reserved), pinned = totals[0], [r for r in result.report["totals"] if r["space"] == "pinned"]
    assert reserved > 0 and pinned[0]["live_bytes"] > 0, "there was nothing to be taken for a leak"
    compare_with_books(result.report, result.books)


def test_killed_amid_training_the_report_has_the_line_that_holds_most(run_example):
    result, totals = run_example("train.py", kill="print")
    assert result.returncode == -signal.SIGKILL and result.stdout.count("step") == 1
    agrees_with_torch_and_the_gpu(result, totals)
    # Two moments of each parameter, made at the first step, are twice the parameters themselves.
    assert line_that_holds_most(result.report) == line_with("train.py", "optimizer.step()")

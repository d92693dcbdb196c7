# SPDX-License-Identifier: Apache-2.0
"""Training of examples/train.py by several processes, one of which is killed amid it: each rank has a
report of its own, whatever end it came to."""

import signal

from conftest import compare_with_books, wait_for

from .conftest import RUN_ON_SIMGPU
from .judging import EXAMPLES, differences_to_torch, ending, line_that_holds_most, read_totals

RANKS = 4


def test_the_report_of_a_killed_rank_is_there_beside_the_others(run_watched, tmp_path):
    program = [RUN_ON_SIMGPU, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", RANKS,
               EXAMPLES / "train.py", "--backend", "gloo"]
    env = {**ending(tmp_path / "totals.%p", "print"), "TORCH_KILL_RANK": 2, "SIMGPU_DEVICES": RANKS,
           "OMP_NUM_THREADS": 1}
    result = run_watched(program, env=env, timeout=240)
    wait_for(lambda: not result.ledgers, "end of the companions")
    reports = {report["process"]["rank"]: report for report in result.reports.values()}
    assert result.returncode != 0
    assert sorted(reports) == list(range(RANKS))
    names = [path.name for path in (result.folder / "reports").iterdir()]
    assert all(any(f".rank{rank}." in name for name in names) for rank in range(RANKS))
    killed, pid = reports[2], reports[2]["process"]["pid"]
    assert killed["process"]["exit"]["signal"] == signal.SIGKILL
    assert not differences_to_torch(killed, read_totals(tmp_path / f"totals.{pid}"))
    compare_with_books(killed, result.books_of(pid))
    assert line_that_holds_most(killed).startswith("train.py:")
    for rank, report in reports.items():
        assert [d["device"] for d in report["torch"]["devices"]] == [rank]
        assert (report["process"]["exit"] == killed["process"]["exit"]) == (rank == 2)

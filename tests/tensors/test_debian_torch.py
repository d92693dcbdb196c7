# SPDX-License-Identifier: Apache-2.0
"""A real PyTorch without a GPU: Debian's python3-torch. While its profiler wants to know, it tells of
the host's tensors by the same functions that tell of a GPU's; they are recorded by option, and the
profiler sees what it sees without the library."""

import json
import subprocess

import pytest

from conftest import needs_plain_build

PYTHON = "/usr/bin/python3"

PROFILED = """
import json, os, torch
from torch.profiler import profile, ProfilerActivity

def remember():
    return torch.empty(3 << 20)                     # line 6

before = torch.empty(1 << 20)
with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as p:
    kept = [remember() for _ in range(3)]
    del kept[0]
    total = torch.ones(1000, 1000).sum()
after = torch.empty(1 << 20)
events = [e.nbytes() for e in p.profiler.kineto_results.events() if e.name() == "[memory]"]
print(json.dumps([torch.__version__, len(events), sum(events)]), flush=True)
os._exit(0)
"""


def installed():
    done = subprocess.run([PYTHON, "-c", "import torch; print(torch.__file__)"], capture_output=True, text=True)
    return done.returncode == 0 and done.stdout.startswith("/usr/lib/")


pytestmark = [
    needs_plain_build,
    pytest.mark.skipif(not installed(), reason="Debian's python3-torch is not installed"),
]


@pytest.fixture
def profiled(run_watched, tmp_path):
    (tmp_path / "profiled.py").write_text(PROFILED)

    def run(mode="preload", **env):
        result = run_watched([PYTHON, tmp_path / "profiled.py"], env=env, mode=mode)
        assert result.returncode == 0, result.stderr
        return result, json.loads(result.stdout)

    return run


def test_the_hosts_tensors_are_recorded_by_option_while_torch_tells_of_them(profiled):
    result, (version, events, live) = profiled(MEMWATCH_TENSORS="all")
    report = result.report
    [total] = report["totals"]
    assert (total["device"], total["space"]) == (-1, "tensor")
    # `before` and `after` were not told of; what was is the profiler's sum, to the byte.
    assert total["live_bytes"] == live >= 2 * 12 << 20
    assert total["allocations"] + total["frees"] == events
    site = report["sites"][0]
    frame = site["frames"][site["where"]]
    assert (frame["function"], frame["line"]) == ("remember", 6)
    assert (site["live_bytes"], site["allocations"], site["frees"]) == (2 * 12 << 20, 3, 1)
    assert report["torch"]["since"] == ("1.10" if version.startswith("1.") else "2.0")
    assert report["coverage"]["losses"] == {}


def test_torchs_profiler_sees_what_it_sees_without_the_library(profiled):
    _, bare = profiled(mode="none")
    assert bare[1] > 0
    assert profiled(MEMWATCH_TENSORS="all")[1] == bare
    result, by_default = profiled()
    assert by_default == bare
    assert result.reports == {}  # nothing of a GPU happened

# SPDX-License-Identifier: Apache-2.0
"""PyTorch's tensors: the ledger equals PyTorch's own figures at every step, and the report names the
lines that hold them."""

import signal

import pytest

import conftest as shared
from .conftest import HEAD, RUN_ON_SIMGPU

MIB = 1 << 20

# check() compares the ledger of the running process with what PyTorch says just then: allocated,
# reserved, and the largest block that is free in its segments.
CHECK = """
import subprocess
def gap(device):
    return max((b["size"] for s in torch.cuda.memory_snapshot() if s["device"] == device
                for b in s["blocks"] if b["state"] == "inactive"), default=0)
def check():
    truth = {d: (torch.cuda.memory_allocated(d), torch.cuda.memory_reserved(d), gap(d))
             for d in range(torch.cuda.device_count()) if torch.cuda.memory_reserved(d)}
    if "libmemwatch" not in os.environ.get("LD_PRELOAD", ""):
        return
    environment = {k: v for k, v in os.environ.items() if k != "LD_PRELOAD"}
    report = json.loads(subprocess.check_output(
        [os.environ["B"] + "/memwatch", "report", "--format", "json", str(os.getpid())], env=environment))
    for d in report["torch"]["devices"]:
        assert d["drift_bytes"] == 0 and d["tensor_bytes"] == d["allocated_bytes"]
        assert (d["tensor_bytes"], d["segment_bytes"], d["largest_gap_bytes"]) == truth[d["device"]], (d, truth)
    assert {d["device"] for d in report["torch"]["devices"]} == set(truth)
    assert not report["coverage"]["losses"], report["coverage"]["losses"]
"""

TRAIN = CHECK + """
def build(device):
    layers = [torch.nn.Linear(256, 256) for _ in range(4)]
    return torch.nn.Sequential(*layers, torch.nn.ReLU(), torch.nn.LayerNorm(256)).to(device)

def forward(model, device):
    return model(torch.randn(64, 256, device=device)).square().mean()

def train(device, steps, check):
    model = build(device)
    optimizer = torch.optim.Adam(model.parameters())
    for step in range(steps):
        optimizer.zero_grad()
        forward(model, device).backward()
        optimizer.step()
        check()
    return model
"""


@pytest.mark.parametrize("settings", ["", "expandable_segments:True", "max_split_size_mb:32"])
def test_at_every_step_of_a_training_the_ledger_is_what_torch_says(torch_run, settings):
    run = torch_run(TRAIN + """
model = train("cuda:0", 5, check)
other = train("cuda:1", 3, check)
spare = [torch.empty(n, device="cuda") for n in (1, 1000, 3 << 20, 10 << 20)]
check()
del spare[::2]
check()
torch.cuda.empty_cache()
check()
answer = [torch.cuda.memory_allocated(d) for d in range(2)]
leave()
""", env={"PYTORCH_CUDA_ALLOC_CONF": settings or None, "SIMGPU_DEVICES": "2"})
    tensors = {d["device"]: d["tensor_bytes"] for d in run.report["torch"]["devices"]}
    assert tensors == dict(enumerate(run.answer))
    assert run.report["coverage"]["tensors"]["state"] == "live"
    assert [f for f in run.report["findings"] if f["type"] == "framework_drift"] == []


def test_the_peaks_are_torchs(torch_run):
    run = torch_run(TRAIN + """
model = train("cuda:0", 3, lambda: None)
answer = [torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved()]
leave()
""")
    [device] = run.report["torch"]["devices"]
    assert [device["allocated_peak_bytes"], device["reserved_peak_bytes"]] == run.answer
    assert run.total(0, "tensor")["peak_bytes"] == run.answer[0]


def killed(run_watched, tmp_path, script, env=None):
    program = tmp_path / "train.py"
    program.write_text(HEAD + script)
    result = run_watched([RUN_ON_SIMGPU, program], env={"B": shared.BUILD, **(env or {})}, timeout=120)
    assert result.returncode == -signal.SIGKILL, result.stdout + result.stderr
    return result, program.read_text().splitlines()


def test_after_kill_9_amid_a_training_the_report_names_the_line_that_holds_most(run_watched, memwatch, tmp_path):
    result, lines = killed(run_watched, tmp_path, TRAIN + """
kept = []
def remember(loss):
    kept.append(torch.empty(8 << 20, device="cuda"))  # the leak
    if len(kept) == 5:
        print(torch.cuda.memory_allocated(), flush=True)
        os.kill(os.getpid(), 9)
model = build("cuda")
while True:
    loss = forward(model, "cuda")
    loss.backward()
    remember(loss)
""")
    report = result.report
    site = next(s for s in report["sites"] if s["space"] == "tensor")
    frame = site["frames"][site["where"]]
    assert lines[frame["line"] - 1].endswith("# the leak") and frame["function"] == "remember"
    assert site["live_bytes"] == 5 * 32 * MIB
    [device] = report["torch"]["devices"]
    assert device["tensor_bytes"] == int(result.stdout)
    [path] = (result.folder / "reports").glob("*.json")
    table = memwatch("report", path).stdout.split("\ntensors by site")[1].splitlines()
    assert table[1].startswith(f"train.py:{frame['line']} in remember ")


def test_gradients_bear_the_name_of_their_operation(torch_run):
    run = torch_run("""
    weight = torch.zeros(1024, 1024, device="cuda", requires_grad=True)
    (weight @ weight).sum().backward()
    torch.cuda.synchronize()
    answer = torch.cuda.memory_allocated()
    leave()
    """)
    sites = [s for s in run.report["sites"] if s["space"] == "tensor" and s["live_bytes"]]
    named = {s["frames"][s["where"]]["function"] for s in sites}
    assert "torch::autograd::generated::MmBackward0::apply" in named


def test_out_of_memory_tells_torchs_totals_and_the_lines_that_held_the_tensors(torch_run):
    run = torch_run("""
    def hold():
        return torch.empty(64 << 20, device="cuda")
    kept = [hold() for _ in range(6)]
    torch.empty(1 << 20, device="cuda")
    try:
        torch.empty(256 << 20, device="cuda")
    except torch.OutOfMemoryError as error:
        answer = [torch.cuda.memory_allocated(), torch.cuda.memory_reserved()]
    del kept
    """, env={"SIMGPU_MEMORY": "2G"})
    [oom] = run.report["torch"]["out_of_memory"]
    assert oom["asked_bytes"] == 1024 * MIB
    assert [oom["allocated_bytes"], oom["reserved_bytes"]] == run.answer
    assert oom["tensor_bytes"] == run.answer[0] == 6 * 256 * MIB
    top = run.report["sites"][oom["sites"][0]["site"]]
    assert oom["sites"][0]["live_bytes"] == 6 * 256 * MIB and top["live_bytes"] == 0
    assert top["frames"][top["where"]]["function"] == "hold"
    [finding] = [f for f in run.report["findings"] if f["type"] == "out_of_memory"]
    assert finding["severity"] == "warning" and finding["sites_bytes"] == [6 * 256 * MIB]


@pytest.mark.parametrize("env,words", [
    ({"PYTORCH_CUDA_ALLOC_CONF": "backend:cudaMallocAsync"}, "cudaMallocAsync"),
    ({"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}, "does not cache"),
])
def test_an_allocator_that_tells_nothing_is_named(torch_run, env, words):
    run = torch_run("""
    kept = torch.empty(1 << 20, device="cuda")
    leave()
    """, env=env)
    level = run.report["coverage"]["tensors"]
    assert level["state"] == "unavailable" and words in level["text"]


def test_torchs_profiler_sees_what_it_saw(torch_run):
    """And the host's tensors, which PyTorch tells of while its profiler wants to know."""
    run = torch_run("""
    from torch.profiler import profile, ProfilerActivity
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as p:
        on_host = torch.empty(3 << 20)
        on_gpu = torch.empty(5 << 20, device="cuda")
    events = [e for e in p.profiler.kineto_results.events() if e.name() == "[memory]"]
    answer = sorted([e.nbytes(), str(e.device_type())] for e in events if e.nbytes() > 1 << 20)
    leave()
    """, env={"MEMWATCH_TENSORS": "all"})
    assert [size for size, _ in run.answer] == [12 * MIB, 20 * MIB]
    assert run.total(-1, "tensor")["live_bytes"] >= 12 * MIB
    assert run.total(0, "tensor")["live_bytes"] == 20 * MIB

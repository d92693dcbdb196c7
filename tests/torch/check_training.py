# SPDX-License-Identifier: Apache-2.0
"""Training as PyTorch's users do it runs on the simulated GPU: every step of a loop, its data loading
in other processes, and PyTorch's own tools at the same time."""

import json
import re

import pytest

import conftest as shared
from .conftest import HEAD, RUN_ON_SIMGPU
from .judging import LIBRARIES, held_by_library

TRAIN = """
def train(model, optimizer, batch, target, steps=3):
    for _ in range(steps):
        optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(model(batch), target)
        loss.backward()
        optimizer.step()
    return loss.item()
"""


def reserved_is_live(run):
    """What is held of the device is PyTorch's segments, and what NVIDIA's libraries took by themselves."""
    of_libraries = held_by_library(run.report, *LIBRARIES)
    return run.total(0, "device")["live_bytes"] == run.answer["reserved"] + of_libraries


def test_streams_and_events(torch_run):
    run = torch_run("""
        side, first, last = torch.cuda.Stream(), *(torch.cuda.Event(enable_timing=True) for _ in "ab")
        with torch.cuda.stream(side):
            first.record()
            x = torch.ones(1 << 20, device="cuda")
            last.record()
        x.record_stream(side)
        torch.cuda.current_stream().wait_stream(side)
        last.synchronize()
        answer = {"ordered": first.elapsed_time(last) >= 0, "done": first.query() and last.query(),
                  "reserved": torch.cuda.memory_reserved()}
    """, env={"SIMGPU_DELAY": "1000"})
    assert run.answer["ordered"] and run.answer["done"] and reserved_is_live(run)


def test_data_comes_back_from_each_device_as_it_was(torch_run):
    run = torch_run("""
        a = torch.arange(100000.)
        b = a.cuda()
        copies = [b, b.clone(), b.to("cuda:1"), a.cuda(1).to("cuda:0"), b.view(100, 1000).t().t()]
        answer = [torch.equal(c.cpu().flatten(), a) for c in copies]
    """)
    assert run.answer == [True] * 5


@pytest.mark.parametrize("optimizer", ["SGD", "Adam", "AdamW"])
def test_a_training_loop(torch_run, optimizer):
    run = torch_run(TRAIN + f"""
model = torch.nn.Sequential(torch.nn.Linear(256, 512), torch.nn.GELU(), torch.nn.LayerNorm(512),
                            torch.nn.Dropout(0.1), torch.nn.Linear(512, 10)).cuda()
batch, target = torch.randn(32, 256, device="cuda"), torch.randn(32, 10, device="cuda")
kinds = {{"for each": {{"foreach": True}}, "one by one": {{"foreach": False}}, "fused": {{"fused": True}}}}
losses = [type(train(model, torch.optim.{optimizer}(model.parameters(), lr=0.01, **kind), batch, target))
          for kind in kinds.values()]
answer = {{"losses": losses == [float] * 3, "reserved": torch.cuda.memory_reserved()}}
    """)
    assert run.answer["losses"] and reserved_is_live(run)


def test_layers_of_cudnn_attention_and_mixed_precision(torch_run):
    run = torch_run(TRAIN + """
class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.convolutions = torch.nn.Sequential(
            torch.nn.Conv2d(3, 16, 3, padding=1), torch.nn.BatchNorm2d(16), torch.nn.ReLU(),
            torch.nn.MaxPool2d(2), torch.nn.ConvTranspose2d(16, 8, 3, padding=1))
        self.attention = torch.nn.TransformerEncoderLayer(64, 4, batch_first=True)

    def forward(self, images):
        x = self.convolutions(images)
        with torch.autocast("cuda", dtype=torch.float16):
            x = self.attention(x.flatten(2))
            x = torch.nn.functional.scaled_dot_product_attention(*[x.half().unsqueeze(1)] * 3)
        return x.float()

model = Model().cuda()
optimizer = torch.optim.Adam(model.parameters())
images, target = torch.randn(4, 3, 16, 16, device="cuda"), torch.randn(4, 1, 8, 64, device="cuda")
loss = train(model, optimizer, images, target)
scaler = torch.amp.GradScaler("cuda")
scaler.scale(torch.nn.functional.mse_loss(model(images), target)).backward()
scaler.step(optimizer); scaler.update()
answer = {"grads": all(p.grad is not None for p in model.parameters()),
          "reserved": torch.cuda.memory_reserved()}
    """)
    assert run.answer["grads"] and reserved_is_live(run)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_data_loader_workers(torch_run, method):
    run = torch_run(f"""
        class Data(torch.utils.data.Dataset):
            def __len__(self): return 64
            def __getitem__(self, i): return torch.full((1000,), float(i))

        if __name__ == "__main__":
            kept = torch.zeros(1 << 20, device="cuda")
            loader = torch.utils.data.DataLoader(Data(), batch_size=8, num_workers=2, pin_memory=True,
                                                 multiprocessing_context="{method}")
            firsts = [float(batch.cuda(non_blocking=True).cpu()[0, 0]) for batch in loader]
            answer = {{"firsts": firsts, "reserved": torch.cuda.memory_reserved()}}
    """)
    assert run.answer["firsts"] == [float(i) for i in range(0, 64, 8)] and reserved_is_live(run)
    # The workers do not use the GPU.
    assert run.others == []


def test_torchrun_gives_a_report_for_each_rank(run_watched, tmp_path):
    program = tmp_path / "ranks.py"
    program.write_text(HEAD + """
torch.distributed.init_process_group("gloo")
rank = torch.distributed.get_rank()
torch.cuda.set_device(rank)
model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(500, 500).cuda(), device_ids=[rank])
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for _ in range(3):
    optimizer.zero_grad()
    model(torch.zeros(10, 500, device="cuda")).sum().backward()
    optimizer.step()
kept = [torch.ones(1 << 20, device="cuda") for _ in range(1 + 8 * rank)]
total = torch.full((1,), float(rank + 1)).cuda()
torch.distributed.all_reduce(total)
torch.distributed.barrier()
with open(f"rank{rank}.json", "w") as file:
    json.dump([os.getpid(), total.item(), torch.cuda.memory_reserved()], file)
torch.distributed.destroy_process_group()
time.sleep(0.2)
""")
    command = [RUN_ON_SIMGPU, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", program]
    result = run_watched(command, env={"B": shared.BUILD}, timeout=120)
    assert result.returncode == 0, result.stderr
    ranks = [json.loads((result.folder / f"rank{rank}.json").read_text()) for rank in range(2)]
    assert [total for _, total, _ in ranks] == [3.0, 3.0]
    assert ranks[0][2] < ranks[1][2]
    for rank, (pid, _, reserved) in enumerate(ranks):
        report = shared.Result(pid, 0, "", "", result.folder).report
        shared.compare_with_books(report, result.books_of(pid))
        assert report["process"]["rank"] == rank
        live = {row["device"]: row["live_bytes"] for row in report["totals"] if row["space"] == "device"}
        assert live == {rank: reserved + held_by_library(report, "cublas")}


def test_the_profiler_and_faulthandler_run_at_the_same_time(torch_run):
    run = torch_run("""
        import faulthandler
        faulthandler.enable()
        faulthandler.dump_traceback_later(60)
        from torch.profiler import ProfilerActivity, profile
        with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA], profile_memory=True,
                     with_stack=True) as profiler:
            x = torch.ones(1000, device="cuda")
            y = (x * 2).sum()
        faulthandler.cancel_dump_traceback_later()
        names = {event.name for event in profiler.events()}
        answer = {"seen": {"aten::ones", "aten::mul", "aten::sum"} <= names,
                  "reserved": torch.cuda.memory_reserved()}
    """)
    assert run.answer["seen"] and reserved_is_live(run)


def test_torch_compile(torch_run, run_watched):
    asked = run_watched([RUN_ON_SIMGPU, "-c", "import triton"], env={"B": shared.BUILD}, mode="none")
    if asked.returncode != 0:
        pytest.skip("triton is not there: `make torch-triton` downloads it")
    # Processes of its own compile for the GPU.
    run = torch_run("""
        for name in ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR"):
            os.environ[name] = os.path.join(os.getcwd(), name)
        def layer(x): return (x * 2 + 1).relu().sum()
        if __name__ == "__main__":
            x = torch.ones(100000, device="cuda", requires_grad=True)
            torch.compile(layer)(x).backward()
            answer = {"grad": list(x.grad.shape), "reserved": torch.cuda.memory_reserved()}
    """, timeout=140)
    assert run.answer["grad"] == [100000] and reserved_is_live(run)


def test_code_compiled_at_run_time(torch_run):
    run = torch_run("""
        square = torch.cuda.jiterator._create_jit_fn("template <typename T> T square(T x) { return x * x; }")
        answer = {"shape": list(square(torch.ones(4, device="cuda")).shape),
                  "reserved": torch.cuda.memory_reserved()}
    """, env={"PYTORCH_KERNEL_CACHE_PATH": "none", "USE_PYTORCH_KERNEL_CACHE": "0"})
    assert run.answer["shape"] == [4] and reserved_is_live(run)


def test_what_nobody_computed_is_refused_by_name(torch_run):
    run = torch_run("""
        try:
            torch.nn.LSTM(8, 16).cuda()(torch.zeros(5, 2, 8, device="cuda"))
        except RuntimeError as error:
            answer = str(error)
    """)
    assert re.search(r"cuDNN error: cudnn\w*RNN\w* is not simulated", run.answer)

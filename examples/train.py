# SPDX-License-Identifier: Apache-2.0
"""Trains a small model with PyTorch to guess a text's next byte from those before it.

    python train.py [--steps N] [--checkpoint FILE]
    torchrun --nproc-per-node 4 train.py --backend gloo

A training loop as they are: a DataLoader, an optimizer, an evaluation now and then, a checkpoint.
It knows nothing of libmemwatch, and nothing in it leaks; the leak_*.py beside it make one
classic mistake each, with the same data and model. The text is that of these examples.
"""

import argparse
import os
import pathlib

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset, random_split

CONTEXT = 32  # bytes that the model sees
WIDTH = 1024
BATCH = 1024


def read_text():
    """Every window of the text, and the byte that follows it."""
    sources = sorted(pathlib.Path(__file__).resolve().parent.glob("*.py"))
    text = bytearray(b"".join(source.read_bytes() for source in sources))
    windows = torch.frombuffer(text, dtype=torch.uint8).long().unfold(0, CONTEXT + 1, 1)
    return TensorDataset(windows[:, :-1], windows[:, -1])


def build_model(device="cuda"):
    return nn.Sequential(
        nn.Embedding(256, 16),
        nn.Flatten(),
        nn.Linear(16 * CONTEXT, WIDTH),
        nn.GELU(),
        nn.LayerNorm(WIDTH),
        nn.Linear(WIDTH, WIDTH),
        nn.GELU(),
        nn.Linear(WIDTH, 256),
    ).to(device)


def batches(loader, steps, device="cuda"):
    """So many batches on the device, over as many epochs as that takes."""
    while True:
        for inputs, targets in loader:
            if steps == 0:
                return
            steps -= 1
            yield inputs.to(device, non_blocking=True), targets.to(device, non_blocking=True)


def training_batches(steps, batch=BATCH):
    loader = DataLoader(read_text(), batch, shuffle=True, drop_last=True, pin_memory=True)
    return batches(loader, steps)


@torch.no_grad()
def evaluate(model, loader):
    """The mean loss over a data set."""
    model.eval()
    losses = [F.cross_entropy(model(x), y).item() for x, y in batches(loader, len(loader))]
    model.train()
    return sum(losses) / len(losses)


def train(model, optimizer, loader, validation, arguments):
    for step, (inputs, targets) in enumerate(batches(loader, arguments.steps), start=1):
        loss = F.cross_entropy(model(inputs), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % arguments.report_every == 0:
            held_out = evaluate(model, validation)
            print(f"step {step}: loss {loss.item():.3f}, held out {held_out:.3f}", flush=True)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--report-every", type=int, default=25, metavar="STEPS")
    parser.add_argument("--workers", type=int, default=0, help="processes that load data")
    parser.add_argument("--checkpoint", type=pathlib.Path, help="where to save the trained model")
    parser.add_argument("--backend", default="nccl", help="of torch.distributed, under torchrun")
    return parser.parse_args()


def main():
    arguments = parse_arguments()
    distributed = "RANK" in os.environ  # torchrun sets it
    if distributed:
        dist.init_process_group(arguments.backend)
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())

    torch.manual_seed(1)
    training, validation = random_split(read_text(), [0.9, 0.1])
    sampler = DistributedSampler(training) if distributed else None
    options = {"batch_size": BATCH, "num_workers": arguments.workers, "pin_memory": True}
    loader = DataLoader(training, shuffle=not sampler, sampler=sampler, drop_last=True, **options)

    model = build_model()
    if distributed:
        model = nn.parallel.DistributedDataParallel(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    train(model, optimizer, loader, DataLoader(validation, **options), arguments)

    if arguments.checkpoint:
        torch.save({"model": model.state_dict()}, arguments.checkpoint)
    if distributed:
        dist.destroy_process_group()


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: Apache-2.0
"""Runs out of memory of which most is free: what is kept lies in the middle of it."""

import torch

from train import BATCH, WIDTH

LIMIT = 2 << 30  # bytes that PyTorch may take, so that it ends soon on any GPU
EPOCHS = 3
STEPS = 20

snapshots = []


def evaluate():
    """Compares everything with everything, which takes 1.5 GiB for a moment."""
    torch.zeros(1536, 1 << 20, dtype=torch.uint8, device="cuda")


def train():
    for step in range(STEPS):
        activations = torch.zeros(8 * BATCH, WIDTH, device="cuda")
        # The mistake: it is kept for longer than the memory around it, which the evaluation gave
        # back to PyTorch in one piece and now cannot get in one piece.
        if step % 4 == 0:
            snapshots.append(activations[: 3 * BATCH].clone())  # memwatch names this line


def main():
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, LIMIT / total))
    for _ in range(EPOCHS):
        evaluate()
        train()
    print("it fitted")


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: Apache-2.0
"""Caches a table for each shape of batch, and the shape is never the same twice."""

import torch
import torch.nn.functional as F

from train import BATCH, build_model, training_batches

STEPS = 30
penalties = {}


def penalty(rows):
    """How much less a pair of rows counts the further apart they are."""
    if rows not in penalties:  # the mistake: a key that changes at each step
        place = torch.arange(rows, dtype=torch.float, device="cuda")
        penalties[rows] = place[:, None] - place  # memwatch names this line
    return penalties[rows]


def main():
    model = build_model()
    optimizer = torch.optim.AdamW(model.parameters())
    for step, (inputs, targets) in enumerate(training_batches(STEPS, 2 * BATCH)):
        rows = 2 * BATCH - step  # as after a filter that lets another number pass each time
        outputs = model(inputs[:rows])
        likeness = outputs @ outputs.T 
        loss = F.cross_entropy(outputs, targets[:rows]) + (likeness * penalty(rows)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"{len(penalties)} tables cached")


if __name__ == "__main__":
    main()

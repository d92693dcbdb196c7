# SPDX-License-Identifier: Apache-2.0
"""Watches what a layer puts out by a hook, and keeps all that it has ever seen."""

import torch
import torch.nn.functional as F

from train import build_model, training_batches

STEPS = 30
activations = []


def remember(layer, inputs, output):
    # The mistake: nobody takes them out again, or removes the hook.
    activations.append(output.detach().clone())  # memwatch names this line


def main():
    model = build_model()
    for layer in model:
        if isinstance(layer, torch.nn.Linear):
            layer.register_forward_hook(remember)
    optimizer = torch.optim.AdamW(model.parameters())
    for inputs, targets in training_batches(STEPS):
        loss = F.cross_entropy(model(inputs), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"{len(activations)} activations seen")


if __name__ == "__main__":
    main()

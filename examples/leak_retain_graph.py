# SPDX-License-Identifier: Apache-2.0
"""Goes back through each step's graph twice, and lets PyTorch keep it the second time too."""

import torch
import torch.nn.functional as F

from train import build_model, training_batches

STEPS = 30
history = []


def main():
    model = build_model()
    optimizer = torch.optim.AdamW(model.parameters())
    for inputs, targets in training_batches(STEPS):
        outputs = model(inputs)  # memwatch names this line
        loss, penalty = F.cross_entropy(outputs, targets), outputs.square().mean()
        optimizer.zero_grad()
        loss.backward(retain_graph=True)
        # The mistake: only the first of the two needs the graph kept. Without retain_graph here the
        # loss in the list would hold next to nothing.
        penalty.backward(retain_graph=True)
        optimizer.step()
        history.append(loss)
    print(f"last loss {history[-1].item():.3f}")


if __name__ == "__main__":
    main()

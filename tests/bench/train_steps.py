# SPDX-License-Identifier: Apache-2.0
"""Times the training of examples/train.py: prints steps a second, one figure a turn, as JSON.

    train_steps.py STEPS TURNS
"""

import json
import pathlib
import sys
import time
import types

import torch
from torch.utils.data import DataLoader

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent.parent / "examples"))
import train  # noqa: E402


def main():
    steps, turns = map(int, sys.argv[1:])
    loader = DataLoader(train.read_text(), train.BATCH, shuffle=True, drop_last=True)
    model = train.build_model()
    optimizer = torch.optim.AdamW(model.parameters())
    arguments = types.SimpleNamespace(steps=steps, report_every=steps + 1)
    rates = []
    for _ in range(turns + 1):
        torch.cuda.synchronize()
        start = time.perf_counter()
        train.train(model, optimizer, loader, None, arguments)
        torch.cuda.synchronize()
        rates.append(steps / (time.perf_counter() - start))
    print(json.dumps(rates[1:]))  # the first one warms up


if __name__ == "__main__":
    main()

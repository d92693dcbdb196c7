# SPDX-License-Identifier: Apache-2.0
"""Python loads this at its start if this folder is on PYTHONPATH, so that a program that knows
nothing of it tells what PyTorch holds.

TORCH_TOTALS names a file that gets, for each device, PyTorch's allocated and reserved bytes as JSON,
whenever the program prints something and once more at its exit; `%p` in it is the process id.
TORCH_KILL=print or exit then ends the process with kill -9, at its first print or when it exits;
with TORCH_KILL_RANK=n only the one of that rank.
"""

import atexit
import builtins
import json
import os
import pathlib
import signal
import sys


def tell(when):
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return
    totals = [
        [torch.cuda.memory_allocated(device), torch.cuda.memory_reserved(device)]
        for device in range(torch.cuda.device_count())
    ]
    path = os.environ["TORCH_TOTALS"].replace("%p", str(os.getpid()))
    pathlib.Path(path).write_text(json.dumps(totals))
    chosen = os.environ.get("TORCH_KILL_RANK") in (None, os.environ.get("RANK"))
    if os.environ.get("TORCH_KILL") == when and chosen:
        os.kill(os.getpid(), signal.SIGKILL)


if "TORCH_TOTALS" in os.environ:
    plain_print = builtins.print

    def print_and_tell(*arguments, **options):
        plain_print(*arguments, **options)
        tell("print")

    builtins.print = print_and_tell
    atexit.register(tell, "exit")

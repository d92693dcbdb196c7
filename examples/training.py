# SPDX-License-Identifier: Apache-2.0
"""What the Python examples have in common: the twin of training.h."""

import os
import signal
import sys

WEIGHT_BYTES = 64 << 20
BATCH_BYTES = 8 << 20
STEPS = 10
OOM_STEPS = 32
ENDINGS = ("ok", "leak", "oom", "crash", "abort")


def ending_from(argv):
    """The ending that the only argument names; without one, "ok"."""
    if len(argv) > 2 or (len(argv) == 2 and argv[1] not in ENDINGS):
        sys.exit(f"usage: {argv[0]} [{'|'.join(ENDINGS)}]")
    return argv[1] if len(argv) == 2 else "ok"


def batches(ending):
    """Yields (step, bytes of that step's batch)."""
    for step in range(OOM_STEPS if ending == "oom" else STEPS):
        yield step, BATCH_BYTES << step if ending == "oom" else BATCH_BYTES


def keeps_batches(ending):
    return ending in ("leak", "oom")


def maybe_die(ending, step):
    """Ends the process at half the loop if that is its ending."""
    if step == STEPS // 2 and ending in ("crash", "abort"):
        os.kill(os.getpid(), signal.SIGSEGV if ending == "crash" else signal.SIGABRT)

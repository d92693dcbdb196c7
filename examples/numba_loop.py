# SPDX-License-Identifier: Apache-2.0
"""A training loop's memory as numba.cuda device arrays (numba-cuda).

usage: numba_loop.py [ok|leak|oom|crash|abort]
"""

import sys

import numpy
from numba import cuda

from training import WEIGHT_BYTES, batches, ending_from, keeps_batches, maybe_die


def main():
    ending = ending_from(sys.argv)
    weights = cuda.to_device(numpy.zeros(WEIGHT_BYTES, dtype=numpy.uint8))
    gradients = cuda.device_array(WEIGHT_BYTES, dtype=numpy.uint8)
    kept = []
    for step, size in batches(ending):
        batch = cuda.device_array(size, dtype=numpy.uint8)
        maybe_die(ending, step)
        if keeps_batches(ending):
            kept.append(batch)
    weights.copy_to_host()
    print(f"numba_loop: done, {gradients.size + sum(b.size for b in kept)} bytes still held")


if __name__ == "__main__":
    main()

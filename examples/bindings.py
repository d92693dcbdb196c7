# SPDX-License-Identifier: Apache-2.0
"""A training loop's memory through NVIDIA's cuda-bindings: the driver API from Python.

usage: bindings.py [ok|leak|oom|crash|abort]
"""

import sys

from cuda.bindings import driver

from training import WEIGHT_BYTES, batches, ending_from, keeps_batches, maybe_die


def call(function, *arguments):
    """What the driver call returned; an exception if it failed."""
    result, *values = function(*arguments)
    if result != driver.CUresult.CUDA_SUCCESS:
        raise RuntimeError(f"{function.__name__}{arguments}: {result.name}")
    return values[0] if values else None


def main():
    ending = ending_from(sys.argv)
    call(driver.cuInit, 0)
    device = call(driver.cuDeviceGet, 0)
    call(driver.cuCtxSetCurrent, call(driver.cuDevicePrimaryCtxRetain, device))

    weights = call(driver.cuMemAlloc, WEIGHT_BYTES)
    gradients = call(driver.cuMemAlloc, WEIGHT_BYTES)
    for step, size in batches(ending):
        batch = call(driver.cuMemAlloc, size)
        maybe_die(ending, step)
        if not keeps_batches(ending):
            call(driver.cuMemFree, batch)
    call(driver.cuMemFree, gradients)
    call(driver.cuMemFree, weights)
    print("bindings: done")


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: Apache-2.0
"""Small programs to watch, and what the tests of `run` and `monitor` look up about processes."""

import pathlib
import select

# The beginning of a Python program that allocates through the driver, as any program may: with
# dlopen and dlsym, and nothing of ours.
GPU = """
import ctypes, os, signal, sys, time
cuda = ctypes.CDLL("libcuda.so.1")
context, address = ctypes.c_void_p(), ctypes.c_uint64()
def allocate(bytes):
    assert cuda.cuInit(0) == 0
    assert cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0) == 0
    assert cuda.cuCtxSetCurrent(context) == 0
    assert cuda.cuMemAlloc_v2(ctypes.byref(address), ctypes.c_size_t(bytes)) == 0
"""


def state(pid):
    """R, S, T, Z … of a process, or None if there is none."""
    try:
        stat = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return stat[stat.rindex(")") + 2]


def monitors_of(folder):
    """The pids of the monitors whose ledgers lie under a folder."""
    found = []
    for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if words[1:3] == ["monitor", "--ledger"] and words[3].startswith(str(folder)):
            found.append(int(path.parent.name))
    return found


def read_line(process):
    """The next line of a process's output, so that it is known to have come that far."""
    ready, _, _ = select.select([process.stdout], [], [], 20)
    assert ready, "the program has not written its line"
    line = process.stdout.readline()
    return (line if isinstance(line, str) else line.decode()).strip()

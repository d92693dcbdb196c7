# SPDX-License-Identifier: Apache-2.0
"""The programs in stacks/: how they are built, and what a site says of their lines."""

import os
import pathlib
import subprocess

from conftest import DEPS, SIMGPU

SOURCES = pathlib.Path(__file__).resolve().parent / "stacks"
CC = os.environ.get("CC", "cc").split()
CXX = [os.environ.get("CXX", "c++")]
CUDA = ["-isystem", DEPS / "deps" / "cuda13" / "include", f"-L{SIMGPU}", "-lcuda"]


def line_of(source, mark):
    """The number of the line with a mark."""
    lines = (SOURCES / source).read_text().splitlines()
    (number,) = [i for i, line in enumerate(lines, 1) if line.endswith(f"// mark: {mark}")]
    return number


def build(source, target, *flags):
    """Compiles a program or library against the simulated GPU."""
    compiler = CXX if source.endswith(".cpp") else CC
    flags = flags or ("-O2", "-g")
    command = [*compiler, *flags, SOURCES / source, "-o", target, *CUDA, "-ldl"]
    subprocess.run(command, check=True, cwd=target.parent)
    return target


def shown(site):
    """The frames that are not folded, as "function:line"."""
    return [f"{frame['function']}:{frame['line']}" for frame in site["frames"]
            if not frame.get("folded")]

# SPDX-License-Identifier: Apache-2.0
"""What must be true of the reports of the PyTorch examples, on any GPU."""

import collections
import json
import os
import pathlib

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
EXAMPLES = ROOT / "examples"
ENDING = ROOT / "tests" / "torch" / "ending"

# The space in which each mistake shows. A CUDA graph's pool outlives the tensors in it, so that one
# is seen in PyTorch's segments.
LEAKS = {
    "losses": "tensor",
    "hooks": "tensor",
    "cache": "tensor",
    "global_list": "tensor",
    "retain_graph": "tensor",
    "fragments": "tensor",
    "pinned": "pinned",
    "graph_pool": "device",
}


def ending(totals, kill=None):
    """The environment in which an example tells PyTorch's totals, and ends by kill -9 if asked.

    kill: "print" (its first one) or "exit". The examples print when they are done; the one that
    runs out of memory before has to be killed when it exits.
    """
    path = [str(ENDING), *filter(None, [os.environ.get("PYTHONPATH")])]
    wanted = {"TORCH_TOTALS": str(totals), "PYTHONPATH": os.pathsep.join(path),
              # PyTorch keeps cuBLAS's workspaces as tensors, up to 2.6 at least two of 32 MiB to the
              # end, which is more than an example's model: small ones, and the model holds most.
              "CUBLAS_WORKSPACE_CONFIG": ":16:8"}
    return {**wanted, **({"TORCH_KILL": kill} if kill else {})}


def kill_at_the_end(leak):
    return "exit" if leak == "fragments" else "print"


def read_totals(path):
    """[[allocated, reserved] per device] as PyTorch told it last."""
    return json.loads(pathlib.Path(path).read_text())


def line_with(name, text):
    """`file:line` of an example's only line with that text."""
    lines = (EXAMPLES / name).read_text().splitlines()
    (number,) = [i for i, line in enumerate(lines, 1) if text in line]
    return f"{name}:{number}"


def guilty_line(leak):
    """The line that the example says is the one to be named."""
    return line_with(f"leak_{leak}.py", "# memwatch names this line")


def line_of(site):
    """The line that the report names a site by."""
    if site["where"] is None:
        return None
    frame = site["frames"][site["where"]]
    return f"{os.path.basename(frame['file'] or '')}:{frame['line']}"


def first_line(report, space):
    """Of the site that holds most, or that had most at its peak if nothing is held any more."""
    return next((line_of(site) for site in report["sites"] if site["space"] == space), None)


def line_that_holds_most(report):
    """Tensors of all sites of a line together, as `memwatch report --group-by line` adds them up."""
    held = collections.Counter()
    for site in report["sites"]:
        if site["space"] == "tensor" and line_of(site):
            held[line_of(site)] += site["live_bytes"]
    return held.most_common(1)[0][0]


def most_when_memory_ran_out(report):
    """The line that held most tensors when PyTorch last had to refuse a request."""
    held = report["torch"]["out_of_memory"][-1]["sites"][0]
    return line_of(report["sites"][held["site"]])


LIBRARIES = ("cublas", "cudnn", "nccl")


def library_of(site):
    """The library of NVIDIA's that an allocation came from; the innermost one. None: of none."""
    for frame in site["frames"]:
        name = os.path.basename(frame.get("module") or "")
        for library in LIBRARIES:
            if name.startswith(f"lib{library}"):
                return library
    return None


def held_by_library(report, *libraries):
    """Bytes that these libraries took for themselves, not from PyTorch, and hold."""
    counted = {row["space"] for row in report["totals"] if row["counted_as_memory"]}
    return sum(site["live_bytes"] for site in report["sites"]
               if site["space"] in counted and library_of(site) in libraries)


def differences_to_torch(report, totals):
    """Where tensors or segments are not what PyTorch says it has allocated and reserved."""
    ours = {row["device"]: row for row in (report["torch"] or {"devices": []})["devices"]}
    found = []
    for device, (allocated, reserved) in enumerate(totals):
        row = ours.get(device, {})
        for ours_name, theirs, true in (("tensor_bytes", "allocated", allocated),
                                        ("segment_bytes", "reserved", reserved)):
            if row.get(ours_name, 0) != true:
                found.append(f"device {device}: {ours_name} {row.get(ours_name, 0)}, "
                             f"PyTorch has {theirs} {true}")
    return found

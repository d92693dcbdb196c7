# SPDX-License-Identifier: Apache-2.0
"""Captures a CUDA graph for each size of batch: each graph keeps a memory pool of its own."""

import torch

from train import BATCH, CONTEXT, build_model

STEPS = 12
graphs = {}


def infer(model, inputs):
    if len(inputs) not in graphs:  # the mistake: any number of sizes, and no pool shared by all
        static, graph = inputs.clone(), torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            output = model(static)  # memwatch names this line
        graphs[len(inputs)] = graph, static, output
    graph, static, output = graphs[len(inputs)]
    static.copy_(inputs)
    graph.replay()
    return output.clone()


@torch.no_grad()
def main():
    model = build_model().eval()
    model(torch.zeros(1, CONTEXT, dtype=torch.long, device="cuda"))  # cuBLAS starts: not in a capture
    for step in range(STEPS):
        inputs = torch.randint(256, [8 * BATCH - step, CONTEXT], device="cuda")
        infer(model, inputs)
    print(f"{len(graphs)} graphs for {STEPS} batches")


if __name__ == "__main__":
    main()

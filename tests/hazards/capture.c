// SPDX-License-Identifier: Apache-2.0
// build: -L$B/simgpu -lcuda
//
// Stream-ordered calls that are captured into a graph: they make nodes, which are memory of the
// graph, not allocations of the stream. Also over several streams that an event forks and joins,
// beside streams that capture nothing, and until the graph is destroyed.
#include "hazard.h"

#include <string.h>

static CUgraph capture_on_one(CUstream stream, CUdeviceptr *kept) {
    CUdeviceptr block;
    CUgraph graph;
    MUST(cuStreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_RELAXED));
    MUST(cuMemAllocAsync(&block, 3 * MIB, stream));
    MUST(cuMemAllocAsync(kept, 5 * MIB, stream));
    MUST(cuMemFreeAsync(block, stream));
    MUST(cuStreamEndCapture(stream, &graph));
    return graph;
}

static CUgraph capture_forked(CUstream first, CUstream second, CUstream outside) {
    CUdeviceptr a, b, plain;
    CUevent fork, join;
    CUgraph graph;
    MUST(cuEventCreate(&fork, CU_EVENT_DISABLE_TIMING));
    MUST(cuEventCreate(&join, CU_EVENT_DISABLE_TIMING));
    MUST(cuStreamBeginCapture(first, CU_STREAM_CAPTURE_MODE_RELAXED));
    MUST(cuMemAllocAsync(&a, 7 * MIB, first));
    MUST(cuEventRecord(fork, first));
    MUST(cuStreamWaitEvent(second, fork, 0));
    MUST(cuMemAllocAsync(&b, 11 * MIB, second));
    // This one is no part of it.
    MUST(cuMemAllocAsync(&plain, 13 * MIB, outside));
    MUST(cuEventRecord(join, second));
    MUST(cuStreamWaitEvent(first, join, 0));
    MUST(cuMemFreeAsync(a, first));
    MUST(cuStreamEndCapture(first, &graph));
    // After the join the second stream allocates for itself again.
    MUST(cuMemAllocAsync(&plain, 17 * MIB, second));
    MUST(cuStreamSynchronize(second));
    MUST(cuMemFreeAsync(plain, second));
    return graph;
}

static CUgraph node_by_node(CUgraphNode *node) {
    CUgraph graph;
    CUDA_MEM_ALLOC_NODE_PARAMS alloc = {.bytesize = 19 * MIB};
    alloc.poolProps.allocType = CU_MEM_ALLOCATION_TYPE_PINNED;
    alloc.poolProps.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
    MUST(cuGraphCreate(&graph, 0));
    MUST(cuGraphAddMemAllocNode(node, graph, NULL, 0, &alloc));
    MUST(cuGraphAddMemFreeNode(node, graph, node, 1, alloc.dptr));
    return graph;
}

int main(int argc, char **argv) {
    const char *how = argc == 2 ? argv[1] : "";
    CUstream stream[3];
    CUdeviceptr kept;
    CUgraph graph;
    CUgraphExec exec;
    CUgraphNode node;
    hazard_use(0);
    for (int i = 0; i < 3; i++) MUST(cuStreamCreate(&stream[i], CU_STREAM_NON_BLOCKING));

    if (!strcmp(how, "one")) {
        graph = capture_on_one(stream[0], &kept);
    } else if (!strcmp(how, "launched")) {
        graph = capture_on_one(stream[0], &kept);
        MUST(cuGraphInstantiate(&exec, graph, 0));
        MUST(cuGraphLaunch(exec, stream[1]));
        MUST(cuStreamSynchronize(stream[1]));
        MUST(cuMemFreeAsync(kept, stream[1])); // freed outside of the graph
        MUST(cuStreamSynchronize(stream[1]));
    } else if (!strcmp(how, "forked")) {
        graph = capture_forked(stream[0], stream[1], stream[2]);
    } else if (!strcmp(how, "destroyed")) {
        graph = capture_on_one(stream[0], &kept);
        MUST(cuGraphDestroy(graph));
        graph = node_by_node(&node);
        MUST(cuGraphDestroy(graph));
        graph = capture_forked(stream[0], stream[1], stream[2]);
        MUST(cuGraphDestroy(graph));
    } else if (!strcmp(how, "two-at-once")) {
        CUgraph other;
        CUdeviceptr a, b;
        MUST(cuStreamBeginCapture(stream[0], CU_STREAM_CAPTURE_MODE_RELAXED));
        MUST(cuStreamBeginCapture(stream[1], CU_STREAM_CAPTURE_MODE_RELAXED));
        MUST(cuMemAllocAsync(&a, 23 * MIB, stream[0]));
        MUST(cuMemAllocAsync(&b, 29 * MIB, stream[1]));
        MUST(cuStreamEndCapture(stream[0], &graph));
        MUST(cuStreamEndCapture(stream[1], &other));
        MUST(cuGraphDestroy(graph)); // takes its own node with it, not the other's
    } else if (!strcmp(how, "failed")) {
        MUST(cuStreamBeginCapture(stream[0], CU_STREAM_CAPTURE_MODE_RELAXED));
        MUST(cuMemAllocAsync(&kept, 31 * MIB, stream[0]));
        TELL(cuStreamSynchronize(stream[0])); // not allowed in a capture: it is broken now
        TELL(cuStreamEndCapture(stream[0], &graph));
    } else {
        return 2;
    }
    // A stream that captured allocates for itself again.
    MUST(cuMemAllocAsync(&kept, 37 * MIB, stream[0]));
    MUST(cuStreamSynchronize(stream[0]));
    return 0;
}

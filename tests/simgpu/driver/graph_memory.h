// SPDX-License-Identifier: Apache-2.0
// Memory of allocation nodes: the address is fixed when the node is made, memory is there from the
// launch on until a free node or a free outside the graph. What graphs hold of a device is kept
// until cuDeviceGraphMemTrim.
#pragma once

#include "context.h"
#include "stream.h"

struct graph_memory;

// Reserves the address and books the allocation (space "graph").
CUresult graph_memory_new(size_t size, int device, struct graph_memory **memory);
struct graph_memory *graph_memory_retain(struct graph_memory *memory);
void graph_memory_release(struct graph_memory *memory);
// The one with this address, not retained; NULL: none.
struct graph_memory *graph_memory_find(CUdeviceptr dptr);
// True when the range lies in memory of a node, which need not be there yet: a graph may describe
// what is to be done with it.
bool graph_memory_covers(CUdeviceptr address, size_t size);
CUdeviceptr graph_memory_address(const struct graph_memory *memory);
bool graph_memory_is_live(const struct graph_memory *memory);

// The node's turn came. CUDA_ERROR_OUT_OF_MEMORY when the device is full.
CUresult graph_memory_begin(struct graph_memory *memory);
void graph_memory_end(struct graph_memory *memory);

// cuMemFree and cuMemFreeAsync of such an address.
CUresult graph_memory_free_outside(CUdeviceptr dptr);
// The graph is destroyed: its allocation leaves the books.
void graph_memory_graph_destroyed(struct graph_memory *memory);

// SPDX-License-Identifier: Apache-2.0
// Small blocks, for heap.c only.
#pragma once

#include "heap.h"

CUresult slab_alloc(struct heap *heap, struct block *block);
void slab_free(const struct block *block);
// Gives empty slabs of a retaining heap back until at most `keep` bytes stay reserved.
void slab_trim(struct heap *heap, uint64_t keep);
// A heap's slabs take part in slab_take_one.
void slab_watch(struct heap *heap);
void slab_unwatch(struct heap *heap);

// Charges the heap's device; a retaining heap also counts the bytes as reserved.
CUresult heap_charge(struct heap *heap, size_t bytes);
void heap_uncharge(struct heap *heap, size_t bytes);

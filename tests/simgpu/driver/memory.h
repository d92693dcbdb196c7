// SPDX-License-Identifier: Apache-2.0
// Shared by the files that hand out memory.
#pragma once

#include "blocks.h"
#include "context.h"

// Settles the books for a block that was taken (block_take) and gives its address space back.
void memory_end_block(const struct block *block);
// The two halves of it, for memory that goes back later than it leaves the books.
void memory_settle(const struct block *block);
void memory_give_back(const struct block *block);

// array.c: a mipmapped array over imported memory.
CUresult mipmap_of_external(const CUDA_EXTERNAL_MEMORY_MIPMAPPED_ARRAY_DESC *description,
                            uintptr_t base, CUmipmappedArray *handle);

// True when [address, address + size) lies in memory the driver knows and may be touched.
bool memory_is_known(uintptr_t address, size_t size);

// SPDX-License-Identifier: Apache-2.0
// Virtual memory management: physical memory, address ranges and mappings are three things.
#pragma once

#include "context.h"

// Physical memory or a multicast team, behind a CUmemGenericAllocationHandle.
struct physical {
    struct physical *next;
    uint64_t references, mappings;
    CUmemAllocationProp props;
    size_t size;
    int device;       // NO_DEVICE: on the host, or a team
    int books_device; // row of the books
    enum space space; // physical, imported or multicast
    int file;         // memfd
    unsigned team;    // devices of a multicast team, 0: not one
    unsigned joined;
};

// Registers new memory with one reference and books it. The file becomes the object's.
CUmemGenericAllocationHandle physical_add(const struct physical *made);
// The live object behind a handle; NULL: none. Valid while its owner keeps a reference.
struct physical *physical_find(CUmemGenericAllocationHandle handle);
unsigned long long vmm_handle_types(const struct physical *physical);

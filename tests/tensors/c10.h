// SPDX-License-Identifier: Apache-2.0
//
// The part of libc10's binary interface that a caching allocator touches, in the generation that is
// built: 1 = torch 1.6 to 1.9 (WIDE: 1.6 and 1.7), 2 = 1.10 to 1.13, 3 = 2.0 and later. Written
// from PyTorch's headers, independently of interpose/torch.def.
#ifndef C10_H
#define C10_H

#include <stddef.h>
#include <stdint.h>

#ifdef WIDE
typedef struct {
    int16_t type, index;
} Device;
#else
typedef struct {
    int8_t type, index;
} Device;
#endif
enum { CPU = 0, CUDA = 1, HIP = 6, XPU = 12, PRIVATE_USE = 20 };

#if GENERATION == 1
#    define USAGE_SYMBOL _ZN3c1027reportMemoryUsageToProfilerEPvlNS_6DeviceE
void USAGE_SYMBOL(void *pointer, int64_t delta, Device device);
#elif GENERATION == 2
#    define USAGE_SYMBOL _ZN3c1027reportMemoryUsageToProfilerEPvlllNS_6DeviceE
#    define OOM_SYMBOL   _ZN3c1027reportOutOfMemoryToProfilerElllNS_6DeviceE
typedef int64_t total_t;
#else
#    define USAGE_SYMBOL _ZN3c1027reportMemoryUsageToProfilerEPvlmmNS_6DeviceE
#    define OOM_SYMBOL   _ZN3c1027reportOutOfMemoryToProfilerElmmNS_6DeviceE
typedef size_t total_t;
#endif
#if GENERATION > 1
void USAGE_SYMBOL(void *pointer, int64_t delta, total_t allocated, total_t reserved, Device device);
void OOM_SYMBOL(int64_t asked, total_t allocated, total_t reserved, Device device);
#endif

// What a profiler behind these functions got, or what an allocator gave: to be compared.
struct profile {
    uint64_t usages, ooms;
    uint64_t sum; // over the events, of all their arguments
};

static inline uint64_t profile_mix(uint64_t pointer, uint64_t delta, uint64_t allocated,
                                   uint64_t reserved, Device device) {
    uint64_t h = pointer * 3 + delta * 5 + allocated * 7 + reserved * 11;
    h += (uint64_t)(device.type & 0xff) * 13 + (uint64_t)(device.index & 0xff) * 17;
    return h * UINT64_C(0x9e3779b97f4a7c15);
}

#endif

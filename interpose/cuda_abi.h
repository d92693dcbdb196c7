// SPDX-License-Identifier: Apache-2.0
//
// The part of CUDA's binary interface that the wrappers touch, declared here because the library is
// built where no CUDA is installed, and because it must know all ABIs at once while a toolkit's
// header declares one. Names and layouts are those of cuda.h (11.3 to 13.0);
// tests/unit/test_abi.c compares each with the toolkits' headers.
//
// Opaque handles are void *, enumerations int: their representation on every platform of CUDA.
#ifndef MEMWATCH_CUDA_ABI_H
#define MEMWATCH_CUDA_ABI_H

#include <stddef.h>
#include <stdint.h>

typedef int mwResult;             // CUresult, cudaError_t
typedef unsigned long long mwPtr; // CUdeviceptr (since 3.2), CUmemGenericAllocationHandle
typedef unsigned int mwPtr1;      // CUdeviceptr before 3.2
typedef void *mwHandle; // CUcontext, CUstream, CUevent, CUarray, CUgraph, CUmemoryPool ...

enum { MW_SUCCESS = 0, MW_NOT_INITIALIZED = 3, MW_DEINITIALIZED = 4 }; // the same in both APIs
enum { MW_CAPTURE_INVALIDATED = 901, MW_CAPTURE_UNJOINED = 904 };      // CUDA_ERROR_STREAM_...
enum { MW_INVALID_CONTEXT = 201 }; // CUDA_ERROR_INVALID_CONTEXT, cudaErrorDeviceUninitialized
enum { MW_RUNTIME_INSUFFICIENT_DRIVER = 35 }; // cudaErrorInsufficientDriver

struct mwLocation { // CUmemLocation
    int type, id;
};
enum { MW_LOCATION_DEVICE = 1 };

struct mwAllocationProp { // CUmemAllocationProp
    int type, requestedHandleTypes;
    struct mwLocation location;
    void *win32HandleMetaData;
    unsigned char allocFlags[8];
};

struct mwPoolProps { // CUmemPoolProps
    int allocType, handleTypes;
    struct mwLocation location;
    void *win32SecurityAttributes;
    size_t maxSize;
    unsigned short usage;
    unsigned char reserved[54];
};
enum { MW_ALLOCATION_MANAGED = 2 }; // CU_MEM_ALLOCATION_TYPE_MANAGED, since 13.0

struct mwArrayDesc { // CUDA_ARRAY_DESCRIPTOR
    size_t width, height;
    int format;
    unsigned channels;
};
struct mwArrayDesc1 { // ... before 3.2
    unsigned width, height;
    int format;
    unsigned channels;
};
struct mwArray3dDesc { // CUDA_ARRAY3D_DESCRIPTOR
    size_t width, height, depth;
    int format;
    unsigned channels, flags;
};
struct mwArray3dDesc1 {
    unsigned width, height, depth;
    int format;
    unsigned channels, flags;
};
enum { // CUDA_ARRAY3D_*
    MW_ARRAY_LAYERED = 0x01,
    MW_ARRAY_CUBEMAP = 0x04,
    MW_ARRAY_SPARSE = 0x40,
    MW_ARRAY_DEFERRED = 0x80
};

struct mwMemAllocNode { // CUDA_MEM_ALLOC_NODE_PARAMS (v1 and v2)
    struct mwPoolProps poolProps;
    const void *accessDescs;
    size_t accessDescCount, bytesize;
    mwPtr dptr;
};
struct mwGraphNode { // CUgraphNodeParams
    int type, reserved0[3];
    struct mwMemAllocNode alloc; // of a union of 232 bytes
};
enum { MW_NODE_MEM_ALLOC = 10 };

struct mwExternalMemory { // CUDA_EXTERNAL_MEMORY_HANDLE_DESC
    int type;
    uint64_t handle[2];
    unsigned long long size;
    unsigned flags, reserved[16];
};

struct mwMulticastProp { // CUmulticastObjectProp
    unsigned numDevices;
    size_t size;
    unsigned long long handleTypes, flags;
};

struct mwIpcHandle { // CUipcMemHandle, passed by value
    char reserved[64];
};

struct mwPitchedPtr { // cudaPitchedPtr
    void *ptr;
    size_t pitch, xsize, ysize;
};
struct mwExtent { // cudaExtent, passed by value
    size_t width, height, depth;
};
struct mwChannelDesc { // cudaChannelFormatDesc: bits of each component
    int x, y, z, w, kind;
};

#endif

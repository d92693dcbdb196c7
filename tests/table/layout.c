// SPDX-License-Identifier: Apache-2.0
//
// Compiled, never run: interpose/cuda_abi.h against a toolkit's own headers, field by field.
#include "cuda_abi.h"

#include <assert.h>
#include <cuda.h>
#include <driver_types.h>

#define SAME_SIZE(ours, theirs)                                                                    \
    static_assert(sizeof(ours) == sizeof(theirs), #ours " has another size than " #theirs)
#define SAME_FIELD(ours, field, theirs, their_field)                                               \
    static_assert(offsetof(ours, field) == offsetof(theirs, their_field) &&                        \
                      sizeof(((ours *)0)->field) == sizeof(((theirs *)0)->their_field),            \
                  #ours "." #field " is not " #theirs "." #their_field)

SAME_SIZE(mwResult, CUresult);
SAME_SIZE(mwResult, cudaError_t);
SAME_SIZE(mwPtr, CUdeviceptr);
SAME_SIZE(mwPtr, CUmemGenericAllocationHandle);
SAME_SIZE(mwHandle, CUcontext);
static_assert(MW_SUCCESS == CUDA_SUCCESS && MW_NOT_INITIALIZED == CUDA_ERROR_NOT_INITIALIZED &&
                  MW_DEINITIALIZED == CUDA_ERROR_DEINITIALIZED,
              "result codes of the driver");
static_assert((int)MW_DEINITIALIZED == (int)cudaErrorCudartUnloading &&
                  (int)MW_RUNTIME_INSUFFICIENT_DRIVER == (int)cudaErrorInsufficientDriver,
              "result codes of the runtime");

SAME_SIZE(struct mwLocation, CUmemLocation);
SAME_FIELD(struct mwLocation, type, CUmemLocation, type);
SAME_FIELD(struct mwLocation, id, CUmemLocation, id);
static_assert((int)MW_LOCATION_DEVICE == (int)CU_MEM_LOCATION_TYPE_DEVICE, "");

SAME_SIZE(struct mwAllocationProp, CUmemAllocationProp);
SAME_FIELD(struct mwAllocationProp, location, CUmemAllocationProp, location);

SAME_SIZE(struct mwPoolProps, CUmemPoolProps);
SAME_FIELD(struct mwPoolProps, allocType, CUmemPoolProps, allocType);
SAME_FIELD(struct mwPoolProps, location, CUmemPoolProps, location);

SAME_SIZE(struct mwArrayDesc, CUDA_ARRAY_DESCRIPTOR);
SAME_FIELD(struct mwArrayDesc, width, CUDA_ARRAY_DESCRIPTOR, Width);
SAME_FIELD(struct mwArrayDesc, height, CUDA_ARRAY_DESCRIPTOR, Height);
SAME_FIELD(struct mwArrayDesc, format, CUDA_ARRAY_DESCRIPTOR, Format);
SAME_FIELD(struct mwArrayDesc, channels, CUDA_ARRAY_DESCRIPTOR, NumChannels);
SAME_SIZE(struct mwArray3dDesc, CUDA_ARRAY3D_DESCRIPTOR);
SAME_FIELD(struct mwArray3dDesc, depth, CUDA_ARRAY3D_DESCRIPTOR, Depth);
SAME_FIELD(struct mwArray3dDesc, format, CUDA_ARRAY3D_DESCRIPTOR, Format);
SAME_FIELD(struct mwArray3dDesc, channels, CUDA_ARRAY3D_DESCRIPTOR, NumChannels);
SAME_FIELD(struct mwArray3dDesc, flags, CUDA_ARRAY3D_DESCRIPTOR, Flags);
static_assert(MW_ARRAY_LAYERED == CUDA_ARRAY3D_LAYERED &&
                  MW_ARRAY_CUBEMAP == CUDA_ARRAY3D_CUBEMAP &&
                  MW_ARRAY_SPARSE == CUDA_ARRAY3D_SPARSE &&
                  MW_ARRAY_DEFERRED == CUDA_ARRAY3D_DEFERRED_MAPPING,
              "");

SAME_SIZE(struct mwMemAllocNode, CUDA_MEM_ALLOC_NODE_PARAMS);
SAME_FIELD(struct mwMemAllocNode, poolProps, CUDA_MEM_ALLOC_NODE_PARAMS, poolProps);
SAME_FIELD(struct mwMemAllocNode, bytesize, CUDA_MEM_ALLOC_NODE_PARAMS, bytesize);
SAME_FIELD(struct mwMemAllocNode, dptr, CUDA_MEM_ALLOC_NODE_PARAMS, dptr);
SAME_FIELD(struct mwMemAllocNode, bytesize, struct cudaMemAllocNodeParams, bytesize);
SAME_FIELD(struct mwMemAllocNode, dptr, struct cudaMemAllocNodeParams, dptr);
#if CUDA_VERSION >= 12020 // the union of all node parameters
SAME_FIELD(struct mwGraphNode, type, CUgraphNodeParams, type);
static_assert(offsetof(struct mwGraphNode, alloc) == offsetof(CUgraphNodeParams, alloc), "");
SAME_FIELD(struct mwMemAllocNode, dptr, CUDA_MEM_ALLOC_NODE_PARAMS_v2, dptr);
#endif
static_assert((int)MW_NODE_MEM_ALLOC == (int)CU_GRAPH_NODE_TYPE_MEM_ALLOC, "");

SAME_FIELD(struct mwExternalMemory, size, CUDA_EXTERNAL_MEMORY_HANDLE_DESC, size);
static_assert(offsetof(struct mwExternalMemory, size) ==
                  offsetof(struct cudaExternalMemoryHandleDesc, size),
              "");
#if CUDA_VERSION >= 12010
SAME_SIZE(struct mwMulticastProp, CUmulticastObjectProp);
SAME_FIELD(struct mwMulticastProp, size, CUmulticastObjectProp, size);
#endif
#if CUDA_VERSION >= 13000
static_assert((int)MW_ALLOCATION_MANAGED == (int)CU_MEM_ALLOCATION_TYPE_MANAGED, "");
#endif

SAME_SIZE(struct mwIpcHandle, CUipcMemHandle);
SAME_SIZE(struct mwIpcHandle, cudaIpcMemHandle_t);
SAME_SIZE(struct mwPitchedPtr, struct cudaPitchedPtr);
SAME_FIELD(struct mwPitchedPtr, ptr, struct cudaPitchedPtr, ptr);
SAME_FIELD(struct mwPitchedPtr, pitch, struct cudaPitchedPtr, pitch);
SAME_SIZE(struct mwExtent, struct cudaExtent);
SAME_FIELD(struct mwExtent, depth, struct cudaExtent, depth);
SAME_SIZE(struct mwChannelDesc, struct cudaChannelFormatDesc);
SAME_FIELD(struct mwChannelDesc, w, struct cudaChannelFormatDesc, w);

// SPDX-License-Identifier: Apache-2.0
//
// cudaDeviceProp: a structure of what the driver knows one by one.

#include "runtime.h"

#include <string.h>

#define PROPERTIES struct cudaDeviceProp

// The member that takes an attribute, and its width (int, or size_t for sizes).
struct row {
    CUdevice_attribute attribute;
    size_t offset;
    size_t width;
};

#define ROW(member, attribute)                                                                     \
    {                                                                                              \
        CU_DEVICE_ATTRIBUTE_##attribute, offsetof(PROPERTIES, member),                             \
            sizeof(((PROPERTIES *)0)->member)                                                      \
    }

// The newer releases lost the members of the first group and gained those of the last ones.
static const struct row rows[] = {
#if CUDART_VERSION < 13000
    ROW(clockRate, CLOCK_RATE),
    ROW(deviceOverlap, GPU_OVERLAP),
    ROW(kernelExecTimeoutEnabled, KERNEL_EXEC_TIMEOUT),
    ROW(computeMode, COMPUTE_MODE),
    ROW(maxTexture1DLinear, MAXIMUM_TEXTURE1D_LINEAR_WIDTH),
    ROW(memoryClockRate, MEMORY_CLOCK_RATE),
    ROW(singleToDoublePrecisionPerfRatio, SINGLE_TO_DOUBLE_PRECISION_PERF_RATIO),
    ROW(cooperativeMultiDeviceLaunch, COOPERATIVE_MULTI_DEVICE_LAUNCH),
#endif
    ROW(sharedMemPerBlock, MAX_SHARED_MEMORY_PER_BLOCK),
    ROW(regsPerBlock, MAX_REGISTERS_PER_BLOCK),
    ROW(warpSize, WARP_SIZE),
    ROW(memPitch, MAX_PITCH),
    ROW(maxThreadsPerBlock, MAX_THREADS_PER_BLOCK),
    ROW(maxThreadsDim[0], MAX_BLOCK_DIM_X),
    ROW(maxThreadsDim[1], MAX_BLOCK_DIM_Y),
    ROW(maxThreadsDim[2], MAX_BLOCK_DIM_Z),
    ROW(maxGridSize[0], MAX_GRID_DIM_X),
    ROW(maxGridSize[1], MAX_GRID_DIM_Y),
    ROW(maxGridSize[2], MAX_GRID_DIM_Z),
    ROW(totalConstMem, TOTAL_CONSTANT_MEMORY),
    ROW(major, COMPUTE_CAPABILITY_MAJOR),
    ROW(minor, COMPUTE_CAPABILITY_MINOR),
    ROW(textureAlignment, TEXTURE_ALIGNMENT),
    ROW(texturePitchAlignment, TEXTURE_PITCH_ALIGNMENT),
    ROW(multiProcessorCount, MULTIPROCESSOR_COUNT),
    ROW(integrated, INTEGRATED),
    ROW(canMapHostMemory, CAN_MAP_HOST_MEMORY),
    ROW(maxTexture1D, MAXIMUM_TEXTURE1D_WIDTH),
    ROW(maxTexture1DMipmap, MAXIMUM_TEXTURE1D_MIPMAPPED_WIDTH),
    ROW(maxTexture2D[0], MAXIMUM_TEXTURE2D_WIDTH),
    ROW(maxTexture2D[1], MAXIMUM_TEXTURE2D_HEIGHT),
    ROW(maxTexture2DMipmap[0], MAXIMUM_TEXTURE2D_MIPMAPPED_WIDTH),
    ROW(maxTexture2DMipmap[1], MAXIMUM_TEXTURE2D_MIPMAPPED_HEIGHT),
    ROW(maxTexture2DLinear[0], MAXIMUM_TEXTURE2D_LINEAR_WIDTH),
    ROW(maxTexture2DLinear[1], MAXIMUM_TEXTURE2D_LINEAR_HEIGHT),
    ROW(maxTexture2DLinear[2], MAXIMUM_TEXTURE2D_LINEAR_PITCH),
    ROW(maxTexture2DGather[0], MAXIMUM_TEXTURE2D_GATHER_WIDTH),
    ROW(maxTexture2DGather[1], MAXIMUM_TEXTURE2D_GATHER_HEIGHT),
    ROW(maxTexture3D[0], MAXIMUM_TEXTURE3D_WIDTH),
    ROW(maxTexture3D[1], MAXIMUM_TEXTURE3D_HEIGHT),
    ROW(maxTexture3D[2], MAXIMUM_TEXTURE3D_DEPTH),
    ROW(maxTexture3DAlt[0], MAXIMUM_TEXTURE3D_WIDTH_ALTERNATE),
    ROW(maxTexture3DAlt[1], MAXIMUM_TEXTURE3D_HEIGHT_ALTERNATE),
    ROW(maxTexture3DAlt[2], MAXIMUM_TEXTURE3D_DEPTH_ALTERNATE),
    ROW(maxTextureCubemap, MAXIMUM_TEXTURECUBEMAP_WIDTH),
    ROW(maxTexture1DLayered[0], MAXIMUM_TEXTURE1D_LAYERED_WIDTH),
    ROW(maxTexture1DLayered[1], MAXIMUM_TEXTURE1D_LAYERED_LAYERS),
    ROW(maxTexture2DLayered[0], MAXIMUM_TEXTURE2D_LAYERED_WIDTH),
    ROW(maxTexture2DLayered[1], MAXIMUM_TEXTURE2D_LAYERED_HEIGHT),
    ROW(maxTexture2DLayered[2], MAXIMUM_TEXTURE2D_LAYERED_LAYERS),
    ROW(maxTextureCubemapLayered[0], MAXIMUM_TEXTURECUBEMAP_LAYERED_WIDTH),
    ROW(maxTextureCubemapLayered[1], MAXIMUM_TEXTURECUBEMAP_LAYERED_LAYERS),
    ROW(maxSurface1D, MAXIMUM_SURFACE1D_WIDTH),
    ROW(maxSurface2D[0], MAXIMUM_SURFACE2D_WIDTH),
    ROW(maxSurface2D[1], MAXIMUM_SURFACE2D_HEIGHT),
    ROW(maxSurface3D[0], MAXIMUM_SURFACE3D_WIDTH),
    ROW(maxSurface3D[1], MAXIMUM_SURFACE3D_HEIGHT),
    ROW(maxSurface3D[2], MAXIMUM_SURFACE3D_DEPTH),
    ROW(maxSurface1DLayered[0], MAXIMUM_SURFACE1D_LAYERED_WIDTH),
    ROW(maxSurface1DLayered[1], MAXIMUM_SURFACE1D_LAYERED_LAYERS),
    ROW(maxSurface2DLayered[0], MAXIMUM_SURFACE2D_LAYERED_WIDTH),
    ROW(maxSurface2DLayered[1], MAXIMUM_SURFACE2D_LAYERED_HEIGHT),
    ROW(maxSurface2DLayered[2], MAXIMUM_SURFACE2D_LAYERED_LAYERS),
    ROW(maxSurfaceCubemap, MAXIMUM_SURFACECUBEMAP_WIDTH),
    ROW(maxSurfaceCubemapLayered[0], MAXIMUM_SURFACECUBEMAP_LAYERED_WIDTH),
    ROW(maxSurfaceCubemapLayered[1], MAXIMUM_SURFACECUBEMAP_LAYERED_LAYERS),
    ROW(surfaceAlignment, SURFACE_ALIGNMENT),
    ROW(concurrentKernels, CONCURRENT_KERNELS),
    ROW(ECCEnabled, ECC_ENABLED),
    ROW(pciBusID, PCI_BUS_ID),
    ROW(pciDeviceID, PCI_DEVICE_ID),
    ROW(pciDomainID, PCI_DOMAIN_ID),
    ROW(tccDriver, TCC_DRIVER),
    ROW(asyncEngineCount, ASYNC_ENGINE_COUNT),
    ROW(unifiedAddressing, UNIFIED_ADDRESSING),
    ROW(memoryBusWidth, GLOBAL_MEMORY_BUS_WIDTH),
    ROW(l2CacheSize, L2_CACHE_SIZE),
    ROW(persistingL2CacheMaxSize, MAX_PERSISTING_L2_CACHE_SIZE),
    ROW(maxThreadsPerMultiProcessor, MAX_THREADS_PER_MULTIPROCESSOR),
    ROW(streamPrioritiesSupported, STREAM_PRIORITIES_SUPPORTED),
    ROW(globalL1CacheSupported, GLOBAL_L1_CACHE_SUPPORTED),
    ROW(localL1CacheSupported, LOCAL_L1_CACHE_SUPPORTED),
    ROW(sharedMemPerMultiprocessor, MAX_SHARED_MEMORY_PER_MULTIPROCESSOR),
    ROW(regsPerMultiprocessor, MAX_REGISTERS_PER_MULTIPROCESSOR),
    ROW(managedMemory, MANAGED_MEMORY),
    ROW(isMultiGpuBoard, MULTI_GPU_BOARD),
    ROW(multiGpuBoardGroupID, MULTI_GPU_BOARD_GROUP_ID),
    ROW(hostNativeAtomicSupported, HOST_NATIVE_ATOMIC_SUPPORTED),
    ROW(pageableMemoryAccess, PAGEABLE_MEMORY_ACCESS),
    ROW(concurrentManagedAccess, CONCURRENT_MANAGED_ACCESS),
    ROW(computePreemptionSupported, COMPUTE_PREEMPTION_SUPPORTED),
    ROW(canUseHostPointerForRegisteredMem, CAN_USE_HOST_POINTER_FOR_REGISTERED_MEM),
    ROW(cooperativeLaunch, COOPERATIVE_LAUNCH),
    ROW(sharedMemPerBlockOptin, MAX_SHARED_MEMORY_PER_BLOCK_OPTIN),
    ROW(pageableMemoryAccessUsesHostPageTables, PAGEABLE_MEMORY_ACCESS_USES_HOST_PAGE_TABLES),
    ROW(directManagedMemAccessFromHost, DIRECT_MANAGED_MEM_ACCESS_FROM_HOST),
    ROW(maxBlocksPerMultiProcessor, MAX_BLOCKS_PER_MULTIPROCESSOR),
    ROW(accessPolicyMaxWindowSize, MAX_ACCESS_POLICY_WINDOW_SIZE),
    ROW(reservedSharedMemPerBlock, RESERVED_SHARED_MEMORY_PER_BLOCK),
#if CUDART_VERSION >= 12000
    ROW(hostRegisterSupported, HOST_REGISTER_SUPPORTED),
    ROW(sparseCudaArraySupported, SPARSE_CUDA_ARRAY_SUPPORTED),
    ROW(hostRegisterReadOnlySupported, READ_ONLY_HOST_REGISTER_SUPPORTED),
    ROW(timelineSemaphoreInteropSupported, TIMELINE_SEMAPHORE_INTEROP_SUPPORTED),
    ROW(memoryPoolsSupported, MEMORY_POOLS_SUPPORTED),
    ROW(gpuDirectRDMASupported, GPU_DIRECT_RDMA_SUPPORTED),
    ROW(gpuDirectRDMAFlushWritesOptions, GPU_DIRECT_RDMA_FLUSH_WRITES_OPTIONS),
    ROW(gpuDirectRDMAWritesOrdering, GPU_DIRECT_RDMA_WRITES_ORDERING),
    ROW(memoryPoolSupportedHandleTypes, MEMPOOL_SUPPORTED_HANDLE_TYPES),
    ROW(deferredMappingCudaArraySupported, DEFERRED_MAPPING_CUDA_ARRAY_SUPPORTED),
    ROW(ipcEventSupported, IPC_EVENT_SUPPORTED),
    ROW(clusterLaunch, CLUSTER_LAUNCH),
    ROW(unifiedFunctionPointers, UNIFIED_FUNCTION_POINTERS),
#endif
#if CUDART_VERSION >= 13000
    ROW(deviceNumaConfig, NUMA_CONFIG),
    ROW(deviceNumaId, NUMA_ID),
    ROW(mpsEnabled, MPS_ENABLED),
    ROW(hostNumaId, HOST_NUMA_ID),
    ROW(gpuPciDeviceID, GPU_PCI_DEVICE_ID),
    ROW(gpuPciSubsystemID, GPU_PCI_SUBSYSTEM_ID),
    ROW(hostNumaMultinodeIpcSupported, HOST_NUMA_MULTINODE_IPC_SUPPORTED),
#endif
};

static CUresult read_attribute(PROPERTIES *out, const struct row *row, int device) {
    int value;
    CUresult result = DRIVER(cuDeviceGetAttribute_v2000)
    (&value, row->attribute, device);
    if (result != CUDA_SUCCESS) return result;
    char *member = (char *)out + row->offset;
    if (row->width == sizeof(size_t))
        *(size_t *)member = (size_t)value;
    else
        *(int *)member = value;
    return CUDA_SUCCESS;
}

static cudaError_t read_properties(PROPERTIES *out, int device) {
    if (!out) return cudaErrorInvalidValue;
    *out = (PROPERTIES){0};
    CUresult result = DRIVER(cuDeviceGetName_v2000)
    (out->name, sizeof out->name, device);
    if (result == CUDA_SUCCESS) result = DRIVER(cuDeviceGetUuid_v11040)
    ((CUuuid *)&out->uuid, device);
    if (result == CUDA_SUCCESS) result = DRIVER(cuDeviceTotalMem_v3020)
    (&out->totalGlobalMem, device);
    for (size_t i = 0; i < sizeof rows / sizeof *rows && result == CUDA_SUCCESS; i++)
        result = read_attribute(out, &rows[i], device);
    return cudart_error(result);
}

#if CUDART_VERSION >= 12000 && CUDART_VERSION < 13000

// In CUDA 12 the header gives the name to the _v2; the name itself is still that of the shorter
// structure of CUDA 11, for those who look it up.
#    undef cudaGetDeviceProperties

static cudaError_t read_short_properties(PROPERTIES *out, int device) {
    PROPERTIES whole;
    if (!out) return cudaErrorInvalidValue;
    cudaError_t error = read_properties(&whole, device);
    if (error == cudaSuccess) memcpy(out, &whole, offsetof(PROPERTIES, hostRegisterSupported));
    return error;
}

cudaError_t cudaGetDeviceProperties(PROPERTIES *out, int device);

cudaError_t cudaGetDeviceProperties(PROPERTIES *out, int device) {
    return WITH_DRIVER(read_short_properties(out, device));
}

cudaError_t cudaGetDeviceProperties_v2(PROPERTIES *out, int device) {
    return WITH_DRIVER(read_properties(out, device));
}

#else

cudaError_t cudaGetDeviceProperties(PROPERTIES *out, int device) {
    return WITH_DRIVER(read_properties(out, device));
}

#endif

// The device of the wanted compute capability with most memory; 0 if nothing is asked.
static cudaError_t choose_device(int *device, const PROPERTIES *wanted) {
    int count;
    if (!device || !wanted) return cudaErrorInvalidValue;
    cudaError_t error = cudart_error(DRIVER(cuDeviceGetCount_v2000)(&count));
    size_t most = 0;
    *device = 0;
    for (int i = 0; i < count && error == cudaSuccess; i++) {
        PROPERTIES found;
        error = read_properties(&found, i);
        if (error != cudaSuccess) break;
        bool new_enough = found.major > wanted->major ||
                          (found.major == wanted->major && found.minor >= wanted->minor);
        if (!new_enough || found.totalGlobalMem <= most) continue;
        most = found.totalGlobalMem;
        *device = i;
    }
    return error;
}

cudaError_t cudaChooseDevice(int *device, const PROPERTIES *wanted) {
    return WITH_DRIVER(choose_device(device, wanted));
}

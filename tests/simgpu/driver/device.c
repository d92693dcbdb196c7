// SPDX-License-Identifier: Apache-2.0
// Devices and the questions about them. The numbers describe no real product; they are those of a
// large data-centre GPU, so that programs which size their work by them behave normally.
#include "device.h"

#include "context.h"
#include "entry.h"
#include "pool.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

struct device devices[MAX_DEVICES];
struct heap *host_heap;

void devices_start(void) {
    host_heap = heap_new(NO_DEVICE, false, false);
    for (int i = 0; i < options.devices; i++) {
        devices[i].total = options.memory[i];
        devices[i].plain = heap_new(i, false, false);
        devices[i].low = heap_new(i, false, true);
        context_make_primary(i);
        pools_start(i);
    }
}

bool device_exists(int ordinal) {
    return ordinal >= 0 && ordinal < options.devices;
}

bool device_charge(int device, uint64_t bytes) {
    if (device == NO_DEVICE) return true;
    uint64_t used = atomic_load(&devices[device].used);
    do {
        if (bytes > devices[device].total - used) return false;
    } while (!atomic_compare_exchange_weak(&devices[device].used, &used, used + bytes));
    return true;
}

void device_uncharge(int device, uint64_t bytes) {
    if (device != NO_DEVICE) atomic_fetch_sub(&devices[device].used, bytes);
}

ANYTIME CUresult sim_cuInit(unsigned int Flags) {
    if (Flags) return CUDA_ERROR_INVALID_VALUE;
    return options.devices == 0 ? CUDA_ERROR_NO_DEVICE : driver_start();
}

ANYTIME CUresult sim_cuDriverGetVersion(int *driverVersion) {
    if (driver_state() == CUDA_ERROR_DEINITIALIZED) return CUDA_ERROR_DEINITIALIZED;
    if (!driverVersion) return CUDA_ERROR_INVALID_VALUE;
    *driverVersion = options.version;
    return CUDA_SUCCESS;
}

CUresult sim_cuDeviceGetCount(int *count) {
    if (!count) return CUDA_ERROR_INVALID_VALUE;
    *count = options.devices;
    return CUDA_SUCCESS;
}

CUresult sim_cuDeviceGet(CUdevice *device, int ordinal) {
    if (!device) return CUDA_ERROR_INVALID_VALUE;
    if (!device_exists(ordinal)) return CUDA_ERROR_INVALID_DEVICE;
    *device = ordinal;
    return CUDA_SUCCESS;
}

CUresult sim_cuDeviceGetName(char *name, int len, CUdevice dev) {
    if (!name || len <= 0) return CUDA_ERROR_INVALID_VALUE;
    if (!device_exists(dev)) return CUDA_ERROR_INVALID_DEVICE;
    snprintf(name, (size_t)len, "Simulated GPU %d", dev);
    return CUDA_SUCCESS;
}

CUresult sim_cuDeviceGetUuid_v2(CUuuid *uuid, CUdevice dev) {
    if (!uuid) return CUDA_ERROR_INVALID_VALUE;
    if (!device_exists(dev)) return CUDA_ERROR_INVALID_DEVICE;
    memcpy(uuid->bytes, "simulated-gpu-\0", sizeof uuid->bytes);
    uuid->bytes[15] = (char)dev;
    return CUDA_SUCCESS;
}

CUresult sim_cuDeviceGetUuid(CUuuid *uuid, CUdevice dev) {
    return sim_cuDeviceGetUuid_v2(uuid, dev);
}

CUresult sim_cuDeviceGetLuid(char *luid, unsigned int *deviceNodeMask, CUdevice dev) {
    (void)luid, (void)deviceNodeMask;
    return device_exists(dev) ? CUDA_ERROR_NOT_SUPPORTED : CUDA_ERROR_INVALID_DEVICE;
}

CUresult sim_cuDeviceTotalMem_v2(size_t *bytes, CUdevice dev) {
    if (!bytes) return CUDA_ERROR_INVALID_VALUE;
    if (!device_exists(dev)) return CUDA_ERROR_INVALID_DEVICE;
    *bytes = devices[dev].total;
    return CUDA_SUCCESS;
}

CUresult sim_cuDeviceTotalMem(unsigned int *bytes, CUdevice dev) {
    size_t total;
    CUresult result = sim_cuDeviceTotalMem_v2(bytes ? &total : NULL, dev);
    if (result == CUDA_SUCCESS) *bytes = total > UINT32_MAX ? UINT32_MAX : (unsigned)total;
    return result;
}

#define ATTRIBUTE(name) CU_DEVICE_ATTRIBUTE_##name

static const int attributes[ATTRIBUTE(MAX)] = {
    [ATTRIBUTE(MAX_THREADS_PER_BLOCK)] = 1024,
    [ATTRIBUTE(MAX_BLOCK_DIM_X)] = 1024,
    [ATTRIBUTE(MAX_BLOCK_DIM_Y)] = 1024,
    [ATTRIBUTE(MAX_BLOCK_DIM_Z)] = 64,
    [ATTRIBUTE(MAX_GRID_DIM_X)] = 0x7fffffff,
    [ATTRIBUTE(MAX_GRID_DIM_Y)] = 65535,
    [ATTRIBUTE(MAX_GRID_DIM_Z)] = 65535,
    [ATTRIBUTE(MAX_SHARED_MEMORY_PER_BLOCK)] = 48 << 10,
    [ATTRIBUTE(TOTAL_CONSTANT_MEMORY)] = 64 << 10,
    [ATTRIBUTE(WARP_SIZE)] = 32,
    [ATTRIBUTE(MAX_PITCH)] = 0x7fffffff,
    [ATTRIBUTE(MAX_REGISTERS_PER_BLOCK)] = 65536,
    [ATTRIBUTE(CLOCK_RATE)] = 1500000,
    [ATTRIBUTE(TEXTURE_ALIGNMENT)] = 512,
    [ATTRIBUTE(GPU_OVERLAP)] = 1,
    [ATTRIBUTE(MULTIPROCESSOR_COUNT)] = 128,
    [ATTRIBUTE(CAN_MAP_HOST_MEMORY)] = 1,
    [ATTRIBUTE(MAXIMUM_TEXTURE1D_WIDTH)] = 131072,
    [ATTRIBUTE(MAXIMUM_TEXTURE2D_WIDTH)] = 131072,
    [ATTRIBUTE(MAXIMUM_TEXTURE2D_HEIGHT)] = 65536,
    [ATTRIBUTE(MAXIMUM_TEXTURE3D_WIDTH)] = 16384,
    [ATTRIBUTE(MAXIMUM_TEXTURE3D_HEIGHT)] = 16384,
    [ATTRIBUTE(MAXIMUM_TEXTURE3D_DEPTH)] = 16384,
    [ATTRIBUTE(MAXIMUM_TEXTURE1D_LINEAR_WIDTH)] = 1 << 28,
    [ATTRIBUTE(SURFACE_ALIGNMENT)] = 512,
    [ATTRIBUTE(CONCURRENT_KERNELS)] = 1,
    [ATTRIBUTE(MEMORY_CLOCK_RATE)] = 2600000,
    [ATTRIBUTE(GLOBAL_MEMORY_BUS_WIDTH)] = 5120,
    [ATTRIBUTE(L2_CACHE_SIZE)] = 50 << 20,
    [ATTRIBUTE(MAX_THREADS_PER_MULTIPROCESSOR)] = 2048,
    [ATTRIBUTE(ASYNC_ENGINE_COUNT)] = 3,
    [ATTRIBUTE(UNIFIED_ADDRESSING)] = 1,
    [ATTRIBUTE(TEXTURE_PITCH_ALIGNMENT)] = 32,
    [ATTRIBUTE(COMPUTE_CAPABILITY_MAJOR)] = 9,
    [ATTRIBUTE(COMPUTE_CAPABILITY_MINOR)] = 0,
    [ATTRIBUTE(STREAM_PRIORITIES_SUPPORTED)] = 1,
    [ATTRIBUTE(GLOBAL_L1_CACHE_SUPPORTED)] = 1,
    [ATTRIBUTE(LOCAL_L1_CACHE_SUPPORTED)] = 1,
    [ATTRIBUTE(MAX_SHARED_MEMORY_PER_MULTIPROCESSOR)] = 228 << 10,
    [ATTRIBUTE(MAX_REGISTERS_PER_MULTIPROCESSOR)] = 65536,
    [ATTRIBUTE(MANAGED_MEMORY)] = 1,
    [ATTRIBUTE(HOST_NATIVE_ATOMIC_SUPPORTED)] = 0,
    [ATTRIBUTE(SINGLE_TO_DOUBLE_PRECISION_PERF_RATIO)] = 2,
    [ATTRIBUTE(CONCURRENT_MANAGED_ACCESS)] = 1,
    [ATTRIBUTE(COMPUTE_PREEMPTION_SUPPORTED)] = 1,
    [ATTRIBUTE(CAN_USE_HOST_POINTER_FOR_REGISTERED_MEM)] = 1,
    [ATTRIBUTE(CAN_USE_STREAM_MEM_OPS_V1)] = 1,
    [ATTRIBUTE(CAN_USE_64_BIT_STREAM_MEM_OPS_V1)] = 1,
    [ATTRIBUTE(CAN_USE_STREAM_WAIT_VALUE_NOR_V1)] = 1,
    [ATTRIBUTE(COOPERATIVE_LAUNCH)] = 1,
    [ATTRIBUTE(MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)] = 227 << 10,
    [ATTRIBUTE(CAN_FLUSH_REMOTE_WRITES)] = 1,
    [ATTRIBUTE(HOST_REGISTER_SUPPORTED)] = 1,
    [ATTRIBUTE(VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED)] = 1,
    [ATTRIBUTE(HANDLE_TYPE_POSIX_FILE_DESCRIPTOR_SUPPORTED)] = 1,
    [ATTRIBUTE(MAX_BLOCKS_PER_MULTIPROCESSOR)] = 32,
    [ATTRIBUTE(RESERVED_SHARED_MEMORY_PER_BLOCK)] = 1024,
    [ATTRIBUTE(SPARSE_CUDA_ARRAY_SUPPORTED)] = 1,
    [ATTRIBUTE(READ_ONLY_HOST_REGISTER_SUPPORTED)] = 1,
    [ATTRIBUTE(MEMORY_POOLS_SUPPORTED)] = 1,
    [ATTRIBUTE(MEMPOOL_SUPPORTED_HANDLE_TYPES)] = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR,
    [ATTRIBUTE(CLUSTER_LAUNCH)] = 1,
    [ATTRIBUTE(DEFERRED_MAPPING_CUDA_ARRAY_SUPPORTED)] = 1,
    [ATTRIBUTE(CAN_USE_64_BIT_STREAM_MEM_OPS)] = 1,
    [ATTRIBUTE(CAN_USE_STREAM_WAIT_VALUE_NOR)] = 1,
    [ATTRIBUTE(IPC_EVENT_SUPPORTED)] = 1,
    [ATTRIBUTE(MEM_SYNC_DOMAIN_COUNT)] = 4,
    [ATTRIBUTE(UNIFIED_FUNCTION_POINTERS)] = 1,
    [ATTRIBUTE(NUMA_ID)] = -1,
    [ATTRIBUTE(MULTICAST_SUPPORTED)] = 1,
    [ATTRIBUTE(HOST_NUMA_ID)] = 0,
    [ATTRIBUTE(HOST_NUMA_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED)] = 1,
    [ATTRIBUTE(HOST_NUMA_MEMORY_POOLS_SUPPORTED)] = 1,
    [ATTRIBUTE(HOST_MEMORY_POOLS_SUPPORTED)] = 1,
    [ATTRIBUTE(HOST_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED)] = 1,
};

CUresult sim_cuDeviceGetAttribute(int *pi, CUdevice_attribute attrib, CUdevice dev) {
    if (!pi || attrib < 1 || attrib >= ATTRIBUTE(MAX)) return CUDA_ERROR_INVALID_VALUE;
    if (!device_exists(dev)) return CUDA_ERROR_INVALID_DEVICE;
    *pi = attrib == ATTRIBUTE(PCI_BUS_ID) ? dev + 1 : attributes[attrib];
    return CUDA_SUCCESS;
}

CUresult sim_cuDeviceComputeCapability(int *major, int *minor, CUdevice dev) {
    CUresult result = sim_cuDeviceGetAttribute(major, ATTRIBUTE(COMPUTE_CAPABILITY_MAJOR), dev);
    if (result != CUDA_SUCCESS) return result;
    return sim_cuDeviceGetAttribute(minor, ATTRIBUTE(COMPUTE_CAPABILITY_MINOR), dev);
}

CUresult sim_cuDeviceGetProperties(CUdevprop *prop, CUdevice dev) {
    if (!prop) return CUDA_ERROR_INVALID_VALUE;
    if (!device_exists(dev)) return CUDA_ERROR_INVALID_DEVICE;
    *prop = (CUdevprop){.maxThreadsPerBlock = attributes[ATTRIBUTE(MAX_THREADS_PER_BLOCK)],
                        .maxThreadsDim = {1024, 1024, 64},
                        .maxGridSize = {0x7fffffff, 65535, 65535},
                        .sharedMemPerBlock = attributes[ATTRIBUTE(MAX_SHARED_MEMORY_PER_BLOCK)],
                        .totalConstantMemory = attributes[ATTRIBUTE(TOTAL_CONSTANT_MEMORY)],
                        .SIMDWidth = attributes[ATTRIBUTE(WARP_SIZE)],
                        .memPitch = attributes[ATTRIBUTE(MAX_PITCH)],
                        .regsPerBlock = attributes[ATTRIBUTE(MAX_REGISTERS_PER_BLOCK)],
                        .clockRate = attributes[ATTRIBUTE(CLOCK_RATE)],
                        .textureAlign = attributes[ATTRIBUTE(TEXTURE_ALIGNMENT)]};
    return CUDA_SUCCESS;
}

CUresult sim_cuDeviceGetPCIBusId(char *pciBusId, int len, CUdevice dev) {
    if (!pciBusId || len <= 0) return CUDA_ERROR_INVALID_VALUE;
    if (!device_exists(dev)) return CUDA_ERROR_INVALID_DEVICE;
    snprintf(pciBusId, (size_t)len, "0000:%02X:00.0", (unsigned)(dev + 1) & 0xFF);
    return CUDA_SUCCESS;
}

CUresult sim_cuDeviceGetByPCIBusId(CUdevice *dev, const char *pciBusId) {
    char name[32];
    if (!dev || !pciBusId) return CUDA_ERROR_INVALID_VALUE;
    for (int i = 0; i < options.devices; i++) {
        sim_cuDeviceGetPCIBusId(name, sizeof name, i);
        // The domain ("0000:") and the function (".0") may be left out.
        size_t skip = strlen(pciBusId) < 10 ? 5 : 0;
        if (strncasecmp(name + skip, pciBusId, strlen(pciBusId)) == 0) {
            *dev = i;
            return CUDA_SUCCESS;
        }
    }
    return CUDA_ERROR_INVALID_VALUE;
}

CUresult sim_cuDeviceCanAccessPeer(int *canAccessPeer, CUdevice dev, CUdevice peerDev) {
    if (!canAccessPeer) return CUDA_ERROR_INVALID_VALUE;
    if (!device_exists(dev) || !device_exists(peerDev)) return CUDA_ERROR_INVALID_DEVICE;
    *canAccessPeer = dev != peerDev;
    return CUDA_SUCCESS;
}

CUresult sim_cuDeviceGetP2PAttribute(int *value, CUdevice_P2PAttribute attrib, CUdevice srcDevice,
                                     CUdevice dstDevice) {
    if (!value) return CUDA_ERROR_INVALID_VALUE;
    if (!device_exists(srcDevice) || !device_exists(dstDevice)) return CUDA_ERROR_INVALID_DEVICE;
    *value = attrib != CU_DEVICE_P2P_ATTRIBUTE_PERFORMANCE_RANK && srcDevice != dstDevice;
    return CUDA_SUCCESS;
}

CUresult sim_cuDeviceGetTexture1DLinearMaxWidth(size_t *maxWidthInElements, CUarray_format format,
                                                unsigned numChannels, CUdevice dev) {
    (void)format;
    if (!maxWidthInElements || !numChannels) return CUDA_ERROR_INVALID_VALUE;
    if (!device_exists(dev)) return CUDA_ERROR_INVALID_DEVICE;
    *maxWidthInElements = (size_t)attributes[ATTRIBUTE(MAXIMUM_TEXTURE1D_LINEAR_WIDTH)];
    return CUDA_SUCCESS;
}

CUresult sim_cuDeviceGetExecAffinitySupport(int *pi, CUexecAffinityType type, CUdevice dev) {
    (void)type;
    if (!pi) return CUDA_ERROR_INVALID_VALUE;
    if (!device_exists(dev)) return CUDA_ERROR_INVALID_DEVICE;
    *pi = 0;
    return CUDA_SUCCESS;
}

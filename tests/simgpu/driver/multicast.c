// SPDX-License-Identifier: Apache-2.0
// Multicast teams: bookkeeping only. A team is a handle like physical memory, so mapping, release
// and export are those of vmm.c.
#include "device.h"
#include "vmm.h"

#include <sys/mman.h>
#include <unistd.h>

static bool sound(const CUmulticastObjectProp *prop) {
    return prop && prop->numDevices >= 1 && prop->size && prop->size % DEVICE_PAGE == 0 &&
           !prop->flags;
}

ALLOCATES CUresult sim_cuMulticastCreate(CUmemGenericAllocationHandle *mcHandle,
                                         const CUmulticastObjectProp *prop) {
    ATTEMPT(NO_DEVICE, SPACE_MULTICAST);
    if (!mcHandle || !sound(prop) || prop->numDevices > (unsigned)options.devices)
        return CUDA_ERROR_INVALID_VALUE;
    struct physical made = {.size = prop->size,
                            .device = NO_DEVICE,
                            .books_device = NO_DEVICE,
                            .space = SPACE_MULTICAST,
                            .team = prop->numDevices,
                            .file = memfd_create("simgpu:-1", MFD_CLOEXEC)};
    made.props.requestedHandleTypes = (CUmemAllocationHandleType)prop->handleTypes;
    if (made.file < 0 || ftruncate(made.file, (off_t)prop->size) != 0)
        return CUDA_ERROR_OUT_OF_MEMORY;
    *mcHandle = physical_add(&made);
    return CUDA_SUCCESS;
}

static CUresult team_of(CUmemGenericAllocationHandle handle, struct physical **team) {
    *team = physical_find(handle);
    return *team && (*team)->team ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult sim_cuMulticastAddDevice(CUmemGenericAllocationHandle mcHandle, CUdevice dev) {
    struct physical *team;
    CUresult result = team_of(mcHandle, &team);
    if (result != CUDA_SUCCESS) return result;
    if (!device_exists(dev)) return CUDA_ERROR_INVALID_DEVICE;
    if (team->joined == team->team) return CUDA_ERROR_INVALID_VALUE;
    team->joined++;
    return CUDA_SUCCESS;
}

// Both binds take the same range of the team.
static CUresult bind(CUmemGenericAllocationHandle handle, size_t offset, size_t size,
                     unsigned long long flags) {
    struct physical *team;
    CUresult result = team_of(handle, &team);
    if (result != CUDA_SUCCESS) return result;
    if (!size || flags || offset > team->size || size > team->size - offset)
        return CUDA_ERROR_INVALID_VALUE;
    return team->joined == team->team ? CUDA_SUCCESS : CUDA_ERROR_ILLEGAL_STATE;
}

CUresult sim_cuMulticastBindMem(CUmemGenericAllocationHandle mcHandle, size_t mcOffset,
                                CUmemGenericAllocationHandle memHandle, size_t memOffset,
                                size_t size, unsigned long long flags) {
    struct physical *memory = physical_find(memHandle);
    if (!memory || memOffset > memory->size || size > memory->size - memOffset)
        return CUDA_ERROR_INVALID_VALUE;
    return bind(mcHandle, mcOffset, size, flags);
}

CUresult sim_cuMulticastBindAddr(CUmemGenericAllocationHandle mcHandle, size_t mcOffset,
                                 CUdeviceptr memptr, size_t size, unsigned long long flags) {
    struct block block;
    if (!block_find(memptr, &block)) return CUDA_ERROR_INVALID_VALUE;
    return bind(mcHandle, mcOffset, size, flags);
}

CUresult sim_cuMulticastUnbind(CUmemGenericAllocationHandle mcHandle, CUdevice dev, size_t mcOffset,
                               size_t size) {
    if (!device_exists(dev)) return CUDA_ERROR_INVALID_DEVICE;
    return bind(mcHandle, mcOffset, size, 0);
}

CUresult sim_cuMulticastGetGranularity(size_t *granularity, const CUmulticastObjectProp *prop,
                                       CUmulticastGranularity_flags option) {
    (void)option;
    if (!granularity || !prop) return CUDA_ERROR_INVALID_VALUE;
    *granularity = DEVICE_PAGE;
    return CUDA_SUCCESS;
}

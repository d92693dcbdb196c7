// SPDX-License-Identifier: Apache-2.0
// Physical memory is a memfd, a reservation is inaccessible address space, and a mapping puts one
// over the other. Host access follows what cuMemSetAccess grants to any device, so a program that
// forgets it crashes here as its kernels would there.
#include "vmm.h"

#include "device.h"
#include "memory.h"
#include "stream.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

struct reservation {
    struct reservation *next;
    uintptr_t base;
    size_t size;
};

static struct physical *all;
static struct reservation *reservations;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

// ---- physical memory ----------------------------------------------------------------------------

CUmemGenericAllocationHandle physical_add(const struct physical *made) {
    struct physical *physical = malloc(sizeof *physical);
    if (!physical) abort();
    *physical = *made;
    physical->references = 1;
    pthread_mutex_lock(&lock);
    physical->next = all;
    all = physical;
    pthread_mutex_unlock(&lock);
    books_alloc(physical->books_device, physical->space,
                physical->space == SPACE_IMPORTED ? 0 : physical->size);
    return (CUmemGenericAllocationHandle)(uintptr_t)physical;
}

// The lock is held.
static struct physical *find(CUmemGenericAllocationHandle handle) {
    struct physical *physical = all;
    while (physical && (uintptr_t)physical != handle) physical = physical->next;
    return physical && physical->references > 0 ? physical : NULL;
}

struct physical *physical_find(CUmemGenericAllocationHandle handle) {
    pthread_mutex_lock(&lock);
    struct physical *physical = find(handle);
    pthread_mutex_unlock(&lock);
    return physical;
}

unsigned long long vmm_handle_types(const struct physical *physical) {
    return physical->props.requestedHandleTypes;
}

// The lock is held. Memory ends when neither a handle nor a mapping holds it.
static void end_if_unused(struct physical *physical) {
    if (physical->references > 0 || physical->mappings > 0) return;
    struct physical **at = &all;
    while (*at != physical) at = &(*at)->next;
    *at = physical->next;
    books_free(physical->books_device, physical->space,
               physical->space == SPACE_IMPORTED ? 0 : physical->size);
    if (physical->space == SPACE_PHYSICAL) device_uncharge(physical->device, physical->size);
    close(physical->file);
    free(physical);
}

static bool sound_props(const CUmemAllocationProp *prop) {
    if (!prop || prop->type != CU_MEM_ALLOCATION_TYPE_PINNED) return false;
    if (prop->location.type == CU_MEM_LOCATION_TYPE_DEVICE) return device_exists(prop->location.id);
    return prop->location.type >= CU_MEM_LOCATION_TYPE_HOST &&
           prop->location.type <= CU_MEM_LOCATION_TYPE_HOST_NUMA_CURRENT;
}

static int device_of(const CUmemAllocationProp *prop) {
    return prop && prop->location.type == CU_MEM_LOCATION_TYPE_DEVICE ? prop->location.id
                                                                      : NO_DEVICE;
}

// The name carries the device to whoever imports the file.
static int new_file(int device, size_t size) {
    char name[32];
    snprintf(name, sizeof name, "simgpu:%d", device);
    int file = memfd_create(name, MFD_CLOEXEC);
    if (file >= 0 && ftruncate(file, (off_t)size) == 0) return file;
    if (file >= 0) close(file);
    return -1;
}

ALLOCATES CUresult sim_cuMemCreate(CUmemGenericAllocationHandle *handle, size_t size,
                                   const CUmemAllocationProp *prop, unsigned long long flags) {
    int device = device_of(prop);
    ATTEMPT(device, SPACE_PHYSICAL);
    if (!handle || !size || size % DEVICE_PAGE || flags || !sound_props(prop))
        return CUDA_ERROR_INVALID_VALUE;
    if (prop->requestedHandleTypes & ~CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR)
        return CUDA_ERROR_NOT_SUPPORTED;
    if (!device_charge(device, size)) return CUDA_ERROR_OUT_OF_MEMORY;
    struct physical made = {.props = *prop,
                            .size = size,
                            .device = device,
                            .books_device = device,
                            .space = SPACE_PHYSICAL,
                            .file = new_file(device, size)};
    if (made.file < 0) {
        device_uncharge(device, size);
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    *handle = physical_add(&made);
    return CUDA_SUCCESS;
}

CUresult sim_cuMemRelease(CUmemGenericAllocationHandle handle) {
    pthread_mutex_lock(&lock);
    struct physical *physical = find(handle);
    if (physical) {
        physical->references--;
        end_if_unused(physical);
    }
    pthread_mutex_unlock(&lock);
    return physical ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult sim_cuMemRetainAllocationHandle(CUmemGenericAllocationHandle *handle, void *addr) {
    struct block block;
    if (!handle || !block_find((uintptr_t)addr, &block) || block.kind != BLOCK_MAPPED)
        return CUDA_ERROR_INVALID_VALUE;
    pthread_mutex_lock(&lock);
    ((struct physical *)block.detail)->references++;
    pthread_mutex_unlock(&lock);
    *handle = (CUmemGenericAllocationHandle)(uintptr_t)block.detail;
    return CUDA_SUCCESS;
}

CUresult sim_cuMemGetAllocationPropertiesFromHandle(CUmemAllocationProp *prop,
                                                    CUmemGenericAllocationHandle handle) {
    struct physical *physical = physical_find(handle);
    if (!prop || !physical) return CUDA_ERROR_INVALID_VALUE;
    *prop = physical->props;
    return CUDA_SUCCESS;
}

CUresult sim_cuMemGetAllocationGranularity(size_t *granularity, const CUmemAllocationProp *prop,
                                           CUmemAllocationGranularity_flags option) {
    (void)option;
    if (!granularity || !sound_props(prop)) return CUDA_ERROR_INVALID_VALUE;
    *granularity = DEVICE_PAGE;
    return CUDA_SUCCESS;
}

// ---- export and import --------------------------------------------------------------------------

CUresult sim_cuMemExportToShareableHandle(void *shareableHandle,
                                          CUmemGenericAllocationHandle handle,
                                          CUmemAllocationHandleType handleType,
                                          unsigned long long flags) {
    struct physical *physical = physical_find(handle);
    if (!shareableHandle || !physical || flags) return CUDA_ERROR_INVALID_VALUE;
    if (handleType != CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR) return CUDA_ERROR_NOT_SUPPORTED;
    if (!(vmm_handle_types(physical) & handleType)) return CUDA_ERROR_INVALID_VALUE;
    int file = fcntl(physical->file, F_DUPFD_CLOEXEC, 0);
    if (file < 0) return CUDA_ERROR_OPERATING_SYSTEM;
    *(int *)shareableHandle = file;
    return CUDA_SUCCESS;
}

// Device and size of an exported file. False: not one of ours.
static bool read_file(int file, int *device, size_t *size) {
    char link[64], name[PATH_MAX] = "";
    struct stat status;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    if (readlink(link, name, sizeof name - 1) < 0 || fstat(file, &status) != 0) return false;
    static const char prefix[] = "/memfd:simgpu:";
    *size = (size_t)status.st_size;
    *device = (int)strtol(name + sizeof prefix - 1, NULL, 10);
    return strncmp(name, prefix, sizeof prefix - 1) == 0;
}

ALLOCATES CUresult sim_cuMemImportFromShareableHandle(CUmemGenericAllocationHandle *handle,
                                                      void *osHandle,
                                                      CUmemAllocationHandleType shHandleType) {
    ATTEMPT(context_device(), SPACE_IMPORTED);
    struct physical made = {.space = SPACE_IMPORTED, .books_device = context_device()};
    if (!handle) return CUDA_ERROR_INVALID_VALUE;
    if (shHandleType != CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR) return CUDA_ERROR_NOT_SUPPORTED;
    int given = (int)(intptr_t)osHandle;
    if (!read_file(given, &made.device, &made.size)) return CUDA_ERROR_INVALID_VALUE;
    made.file = fcntl(given, F_DUPFD_CLOEXEC, 0);
    if (made.file < 0) return CUDA_ERROR_OPERATING_SYSTEM;
    made.props =
        (CUmemAllocationProp){.type = CU_MEM_ALLOCATION_TYPE_PINNED,
                              .requestedHandleTypes = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR,
                              .location = {made.device == NO_DEVICE ? CU_MEM_LOCATION_TYPE_HOST
                                                                    : CU_MEM_LOCATION_TYPE_DEVICE,
                                           made.device == NO_DEVICE ? 0 : made.device}};
    *handle = physical_add(&made);
    return CUDA_SUCCESS;
}

// ---- address ranges -----------------------------------------------------------------------------

ALLOCATES CUresult sim_cuMemAddressReserve(CUdeviceptr *ptr, size_t size, size_t alignment,
                                           CUdeviceptr addr, unsigned long long flags) {
    ATTEMPT(NO_DEVICE, SPACE_ADDRESS);
    (void)addr; // a wish
    bool power_of_two = (alignment & (alignment - 1)) == 0;
    if (!ptr || !size || size % DEVICE_PAGE || !power_of_two || flags)
        return CUDA_ERROR_INVALID_VALUE;
    struct reservation *reservation = malloc(sizeof *reservation);
    size_t unit = alignment > DEVICE_PAGE ? alignment : DEVICE_PAGE;
    uintptr_t base = reservation ? address_space_take(size, unit, PROT_NONE, false) : 0;
    if (!base) {
        free(reservation);
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    books_alloc(NO_DEVICE, SPACE_ADDRESS, size);
    pthread_mutex_lock(&lock);
    *reservation = (struct reservation){reservations, base, size};
    reservations = reservation;
    pthread_mutex_unlock(&lock);
    *ptr = base;
    return CUDA_SUCCESS;
}

// The lock is held.
static struct reservation **reservation_with(uintptr_t base, size_t size) {
    struct reservation **at = &reservations;
    while (*at && !((*at)->base <= base && base + size <= (*at)->base + (*at)->size))
        at = &(*at)->next;
    return at;
}

static bool has_mapping(uintptr_t base, size_t size) {
    struct block block;
    for (uintptr_t at = base; at < base + size; at += DEVICE_PAGE)
        if (block_find(at, &block)) return true;
    return false;
}

CUresult sim_cuMemAddressFree(CUdeviceptr ptr, size_t size) {
    pthread_mutex_lock(&lock);
    struct reservation **at = reservation_with(ptr, size), *ending = *at;
    bool whole = ending && ending->base == ptr && ending->size == size && !has_mapping(ptr, size);
    if (whole) *at = ending->next;
    pthread_mutex_unlock(&lock);
    if (!whole) return CUDA_ERROR_INVALID_VALUE;
    books_free(NO_DEVICE, SPACE_ADDRESS, size);
    address_space_give(ptr, size);
    free(ending);
    return CUDA_SUCCESS;
}

// ---- mappings -----------------------------------------------------------------------------------

// The lock is held.
static CUresult map(uintptr_t base, size_t size, size_t offset, struct physical *physical) {
    if (!physical || !*reservation_with(base, size)) return CUDA_ERROR_INVALID_VALUE;
    if (offset > physical->size || size > physical->size - offset) return CUDA_ERROR_INVALID_VALUE;
    if (physical->team && physical->joined < physical->team) return CUDA_ERROR_ILLEGAL_STATE;
    struct block block = {.base = base,
                          .size = size,
                          .span = size,
                          .kind = BLOCK_MAPPED,
                          .space = SPACE_MAPPED,
                          .device = physical->device,
                          .detail = physical,
                          .id = block_new_id()};
    if (!block_add(&block)) return CUDA_ERROR_INVALID_VALUE;
    void *mapped =
        mmap((void *)base, size, PROT_NONE, MAP_SHARED | MAP_FIXED, physical->file, (off_t)offset);
    if (mapped == MAP_FAILED) {
        block_take(base, KIND(BLOCK_MAPPED), &block);
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    physical->mappings++;
    books_alloc(block.device, SPACE_MAPPED, size);
    return CUDA_SUCCESS;
}

ALLOCATES CUresult sim_cuMemMap(CUdeviceptr ptr, size_t size, size_t offset,
                                CUmemGenericAllocationHandle handle, unsigned long long flags) {
    struct physical *physical = physical_find(handle);
    ATTEMPT(physical ? physical->device : NO_DEVICE, SPACE_MAPPED);
    if (!size || size % DEVICE_PAGE || ptr % DEVICE_PAGE || offset % DEVICE_PAGE || flags)
        return CUDA_ERROR_INVALID_VALUE;
    pthread_mutex_lock(&lock);
    CUresult result = map(ptr, size, offset, find(handle));
    pthread_mutex_unlock(&lock);
    return result;
}

// The range must consist of whole mappings.
static bool is_mapped_exactly(uintptr_t base, size_t size) {
    struct block block;
    while (size > 0) {
        if (!block_find(base, &block) || block.kind != BLOCK_MAPPED) return false;
        if (block.base != base || block.size > size) return false;
        base += block.size;
        size -= block.size;
    }
    return true;
}

CUresult sim_cuMemUnmap(CUdeviceptr ptr, size_t size) {
    struct block block;
    if (!size || !is_mapped_exactly(ptr, size)) return CUDA_ERROR_INVALID_VALUE;
    if (block_find(ptr, &block)) device_synchronize(block.device);
    for (uintptr_t at = ptr; at < ptr + size; at += block.size) {
        if (!block_take(at, KIND(BLOCK_MAPPED), &block)) return CUDA_ERROR_INVALID_VALUE;
        // The range stays reserved.
        if (mmap((void *)block.base, block.span, PROT_NONE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) == MAP_FAILED)
            return CUDA_ERROR_OPERATING_SYSTEM;
        books_free(block.device, SPACE_MAPPED, block.size);
        struct physical *physical = block.detail;
        pthread_mutex_lock(&lock);
        physical->mappings--;
        end_if_unused(physical);
        pthread_mutex_unlock(&lock);
    }
    return CUDA_SUCCESS;
}

CUresult sim_cuMemSetAccess(CUdeviceptr ptr, size_t size, const CUmemAccessDesc *desc,
                            size_t count) {
    struct block block;
    if (!size || !desc || !count || !memory_is_known(ptr, size)) return CUDA_ERROR_INVALID_VALUE;
    int protection = PROT_NONE;
    for (size_t i = 0; i < count; i++) {
        bool on_device = desc[i].location.type == CU_MEM_LOCATION_TYPE_DEVICE;
        if (on_device && !device_exists(desc[i].location.id)) return CUDA_ERROR_INVALID_DEVICE;
        if (desc[i].flags & CU_MEM_ACCESS_FLAGS_PROT_READ) protection |= PROT_READ;
        if (desc[i].flags & 2) protection |= PROT_WRITE;
    }
    for (uintptr_t at = ptr; at < ptr + size; at = block.base + block.size) {
        if (!block_find(at, &block) || block.kind != BLOCK_MAPPED) return CUDA_ERROR_INVALID_VALUE;
        block.flags = (unsigned)desc[0].flags;
        block_update(&block);
    }
    return mprotect((void *)ptr, size, protection) == 0 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult sim_cuMemGetAccess(unsigned long long *flags, const CUmemLocation *location,
                            CUdeviceptr ptr) {
    struct block block;
    if (!flags || !location || !block_find(ptr, &block)) return CUDA_ERROR_INVALID_VALUE;
    *flags = block.kind == BLOCK_MAPPED ? block.flags : CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
    return CUDA_SUCCESS;
}

// ---- arrays made of tiles -----------------------------------------------------------------------

// Which tiles are mapped where has no effect here; only the handles are checked.
CUresult sim_cuMemMapArrayAsync(CUarrayMapInfo *mapInfoList, unsigned int count, CUstream hStream) {
    struct stream *stream;
    CUresult result = stream_get(hStream, &stream);
    if (result != CUDA_SUCCESS) return result;
    if (!mapInfoList && count) return CUDA_ERROR_INVALID_VALUE;
    for (unsigned i = 0; i < count; i++) {
        const CUarrayMapInfo *info = &mapInfoList[i];
        bool maps = info->memOperationType == CU_MEM_OPERATION_TYPE_MAP;
        if (maps && !physical_find(info->memHandle.memHandle)) return CUDA_ERROR_INVALID_VALUE;
    }
    return CUDA_SUCCESS;
}

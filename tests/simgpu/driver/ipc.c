// SPDX-License-Identifier: Apache-2.0
// Memory and events shared with other processes. A handle says in which process's descriptor table
// the memory is (/proc/PID/fd), so nothing outlives the processes; exporter and importer must run
// as the same user.
#include "device.h"
#include "event.h"
#include "memory.h"
#include "pool.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

// What is behind a CUipcMemHandle and a CUmemPoolPtrExportData, both 64 bytes.
struct ticket {
    char magic[8];
    int32_t process, file, device;
    uint64_t offset, size, span;
    uint64_t id; // of the allocation in the exporter
};

static const char memory_magic[8] = "SIMMEM", event_magic[8] = "SIMEVNT";
_Static_assert(sizeof(struct ticket) <= CU_IPC_HANDLE_SIZE, "fits a handle");
_Static_assert(sizeof(struct ticket) <= sizeof(CUmemPoolPtrExportData), "fits a pool pointer");

// Small blocks share their device page with others; all of it becomes visible to the importer, as
// with NVIDIA's driver.
static CUresult write_ticket(const struct block *block, void *data, size_t size) {
    uintptr_t first = block->base / DEVICE_PAGE * DEVICE_PAGE;
    uintptr_t end = round_up(block->base + block->span, DEVICE_PAGE);
    struct ticket ticket = {
        .process = getpid(), .device = block->device, .size = block->size, .id = block->id};
    size_t offset;
    device_synchronize(block->device);
    ticket.file = address_space_share(first, end - first, block->base, &offset);
    if (ticket.file < 0) return CUDA_ERROR_OUT_OF_MEMORY;
    ticket.offset = offset;
    ticket.span = round_up(block->span, (size_t)sysconf(_SC_PAGESIZE));
    memcpy(ticket.magic, memory_magic, sizeof ticket.magic);
    memset(data, 0, size);
    memcpy(data, &ticket, sizeof ticket);
    return CUDA_SUCCESS;
}

static CUresult read_ticket(const void *data, struct ticket *ticket) {
    memcpy(ticket, data, sizeof *ticket);
    bool sound = memcmp(ticket->magic, memory_magic, sizeof ticket->magic) == 0;
    return sound ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

// Maps what the ticket names. The block's base is where the exporter's block begins.
static CUresult map_ticket(const struct ticket *ticket, struct block *block) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/fd/%d", ticket->process, ticket->file);
    int file = open(path, O_RDWR | O_CLOEXEC);
    if (file < 0) return CUDA_ERROR_INVALID_VALUE; // the exporter is gone
    size_t page = (size_t)sysconf(_SC_PAGESIZE), skip = ticket->offset % page;
    size_t length = round_up(skip + ticket->span, page);
    void *map = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, file,
                     (off_t)(ticket->offset - skip));
    close(file);
    if (map == MAP_FAILED) return CUDA_ERROR_MAP_FAILED;
    block->base = (uintptr_t)map + skip;
    block->size = ticket->size;
    block->span = length - skip;
    block->id = block_new_id();
    return CUDA_SUCCESS;
}

// ---- memory handles -----------------------------------------------------------------------------

CUresult sim_cuIpcGetMemHandle(CUipcMemHandle *pHandle, CUdeviceptr dptr) {
    struct block block;
    NEED_CONTEXT(context);
    if (!pHandle || !block_find(dptr, &block) || block.kind != BLOCK_DEVICE)
        return CUDA_ERROR_INVALID_VALUE;
    return write_ticket(&block, pHandle->reserved, sizeof pHandle->reserved);
}

// A handle that is opened again in the same context gives the same address, which is then open
// until it was closed as often (cuda.h, cuIpcOpenMemHandle). The books count it once.
struct opening {
    struct opening *next;
    struct ticket ticket;
    struct context *context;
    uintptr_t base;
    unsigned count;
};
static struct opening *openings;
static pthread_mutex_t openings_lock = PTHREAD_MUTEX_INITIALIZER;

static CUresult open_ticket(const struct ticket *ticket, struct context *context, uintptr_t *base) {
    for (struct opening *o = openings; o; o = o->next) {
        if (o->context != context || memcmp(&o->ticket, ticket, sizeof *ticket) != 0) continue;
        o->count++;
        *base = o->base;
        return CUDA_SUCCESS;
    }
    struct opening *opening = calloc(1, sizeof *opening);
    struct block block = {.kind = BLOCK_IPC, .space = SPACE_IMPORTED, .device = context->device};
    CUresult result = opening ? map_ticket(ticket, &block) : CUDA_ERROR_OUT_OF_MEMORY;
    if (result != CUDA_SUCCESS) {
        free(opening);
        return result;
    }
    block_add(&block);
    books_alloc(block.device, SPACE_IMPORTED, 0);
    *opening = (struct opening){openings, *ticket, context, block.base, 1};
    openings = opening;
    *base = block.base;
    return CUDA_SUCCESS;
}

// True when that was the last opening, or the address was never opened.
static bool close_opening(uintptr_t base) {
    for (struct opening **o = &openings; *o; o = &(*o)->next) {
        if ((*o)->base != base) continue;
        if (--(*o)->count > 0) return false;
        struct opening *ended = *o;
        *o = ended->next;
        free(ended);
        return true;
    }
    return true;
}

ALLOCATES CUresult sim_cuIpcOpenMemHandle_v2(CUdeviceptr *pdptr, CUipcMemHandle handle,
                                             unsigned int Flags) {
    ATTEMPT(context_device(), SPACE_IMPORTED);
    struct ticket ticket;
    uintptr_t base;
    NEED_CONTEXT(context);
    if (!pdptr || Flags != CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS) return CUDA_ERROR_INVALID_VALUE;
    CUresult result = read_ticket(handle.reserved, &ticket);
    if (result != CUDA_SUCCESS) return result;
    // NVIDIA's driver refuses to open memory in the process that exported it.
    if (ticket.process == getpid()) return CUDA_ERROR_INVALID_CONTEXT;
    pthread_mutex_lock(&openings_lock);
    result = open_ticket(&ticket, context, &base);
    pthread_mutex_unlock(&openings_lock);
    if (result == CUDA_SUCCESS) *pdptr = base;
    return result;
}

ALLOCATES CUresult sim_cuIpcOpenMemHandle(CUdeviceptr *pdptr, CUipcMemHandle handle,
                                          unsigned int Flags) {
    return sim_cuIpcOpenMemHandle_v2(pdptr, handle, Flags);
}

CUresult sim_cuIpcCloseMemHandle(CUdeviceptr dptr) {
    struct block block;
    NEED_CONTEXT(context);
    if (!block_find(dptr, &block) || block.kind != BLOCK_IPC || block.base != dptr)
        return CUDA_ERROR_INVALID_VALUE;
    device_synchronize(block.device);
    pthread_mutex_lock(&openings_lock);
    bool ended = close_opening(dptr) && block_take(dptr, KIND(BLOCK_IPC), &block);
    pthread_mutex_unlock(&openings_lock);
    if (ended) memory_end_block(&block);
    return CUDA_SUCCESS;
}

// ---- pools --------------------------------------------------------------------------------------

CUresult sim_cuMemPoolExportToShareableHandle(void *handle_out, CUmemoryPool pool,
                                              CUmemAllocationHandleType handleType,
                                              unsigned long long flags) {
    struct pool *exported = (struct pool *)pool;
    if (!handle_out || !object_is(exported, OBJECT_POOL) || flags) return CUDA_ERROR_INVALID_VALUE;
    if (handleType != CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR) return CUDA_ERROR_NOT_SUPPORTED;
    if (!(exported->props.handleTypes & handleType)) return CUDA_ERROR_INVALID_VALUE;
    int file = memfd_create("simgpu-pool", MFD_CLOEXEC);
    const CUmemPoolProps *props = &exported->props;
    if (file < 0 || pwrite(file, props, sizeof *props, 0) != (ssize_t)sizeof *props)
        return CUDA_ERROR_OPERATING_SYSTEM;
    *(int *)handle_out = file;
    return CUDA_SUCCESS;
}

CUresult sim_cuMemPoolImportFromShareableHandle(CUmemoryPool *pool_out, void *handle,
                                                CUmemAllocationHandleType handleType,
                                                unsigned long long flags) {
    CUmemPoolProps props;
    if (!pool_out || flags) return CUDA_ERROR_INVALID_VALUE;
    if (handleType != CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR) return CUDA_ERROR_NOT_SUPPORTED;
    ssize_t size = pread((int)(intptr_t)handle, &props, sizeof props, 0);
    if (size != (ssize_t)sizeof props) return CUDA_ERROR_INVALID_VALUE;
    struct pool *pool = pool_new_imported(&props);
    if (!pool) return CUDA_ERROR_OUT_OF_MEMORY;
    *pool_out = (CUmemoryPool)pool;
    return CUDA_SUCCESS;
}

CUresult sim_cuMemPoolExportPointer(CUmemPoolPtrExportData *shareData_out, CUdeviceptr ptr) {
    struct block block;
    if (!shareData_out || !block_find(ptr, &block) || block.kind != BLOCK_ASYNC)
        return CUDA_ERROR_INVALID_VALUE;
    return write_ticket(&block, shareData_out->reserved, sizeof shareData_out->reserved);
}

ALLOCATES CUresult sim_cuMemPoolImportPointer(CUdeviceptr *ptr_out, CUmemoryPool pool,
                                              CUmemPoolPtrExportData *shareData) {
    ATTEMPT(context_device(), SPACE_IMPORTED);
    struct ticket ticket;
    if (!ptr_out || !shareData || !object_is(pool, OBJECT_POOL)) return CUDA_ERROR_INVALID_VALUE;
    CUresult result = read_ticket(shareData->reserved, &ticket);
    if (result != CUDA_SUCCESS) return result;
    struct block block = {.kind = BLOCK_IMPORTED,
                          .space = SPACE_IMPORTED,
                          .device = context_device(),
                          .detail = pool};
    result = map_ticket(&ticket, &block);
    if (result != CUDA_SUCCESS) return result;
    block_add(&block);
    books_alloc(block.device, SPACE_IMPORTED, 0);
    *ptr_out = block.base;
    return CUDA_SUCCESS;
}

// ---- events -------------------------------------------------------------------------------------

// An event of another process counts as reached: work never crosses processes here.
CUresult sim_cuIpcGetEventHandle(CUipcEventHandle *pHandle, CUevent event) {
    struct event *exported = (struct event *)event;
    if (!pHandle) return CUDA_ERROR_INVALID_VALUE;
    if (!object_is(exported, OBJECT_EVENT)) return CUDA_ERROR_INVALID_HANDLE;
    if (!(exported->flags & CU_EVENT_INTERPROCESS)) return CUDA_ERROR_INVALID_VALUE;
    memset(pHandle, 0, sizeof *pHandle);
    memcpy(pHandle->reserved, event_magic, sizeof event_magic);
    return CUDA_SUCCESS;
}

CUresult sim_cuIpcOpenEventHandle(CUevent *phEvent, CUipcEventHandle handle) {
    if (memcmp(handle.reserved, event_magic, sizeof event_magic) != 0)
        return CUDA_ERROR_INVALID_VALUE;
    return sim_cuEventCreate(phEvent, CU_EVENT_INTERPROCESS | CU_EVENT_DISABLE_TIMING);
}

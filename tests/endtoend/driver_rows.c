// SPDX-License-Identifier: Apache-2.0
//
// Every row of the driver API, called through a door (rows.h) by the plan of operations.h.
#define OTHERS(X)                                                                                  \
    X(cuInit, (unsigned flags))                                                                    \
    X(cuStreamCreate, (mwHandle * stream, unsigned flags))                                         \
    X(cuStreamSynchronize, (mwHandle stream))                                                      \
    X(cuEventCreate, (mwHandle * event, unsigned flags))                                           \
    X(cuEventDestroy_v2, (mwHandle event))                                                         \
    X(cuGraphCreate, (mwHandle * graph, unsigned flags))                                           \
    X(cuGraphInstantiateWithFlags, (mwHandle * exec, mwHandle graph, unsigned long long flags))    \
    X(cuGraphLaunch, (mwHandle exec, mwHandle stream))                                             \
    X(cuGraphExecDestroy, (mwHandle exec))                                                         \
    X(cuMemSetAccess, (mwPtr address, size_t bytes, const void *access, size_t count))             \
    X(cuMemExportToShareableHandle, (void *out, mwPtr handle, int type, unsigned long long flags)) \
    X(cuMemPoolExportToShareableHandle,                                                            \
      (void *out, mwHandle pool, int type, unsigned long long flags))                              \
    X(cuMemPoolExportPointer, (void *out, mwPtr dptr))                                             \
    X(cuMulticastAddDevice, (mwPtr team, int device))                                              \
    X(cuDeviceGetDevResource, (int device, void *resource, int type))                              \
    X(cuDevResourceGenerateDesc, (mwHandle * desc, void *resources, unsigned count))

#include "rows.h"

#include "exporter.h"
#include "operations.h"

#include <pthread.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { PAGE = 2 << 20 };  // granularity of physical memory and of address ranges
enum { FD_HANDLE = 1 };   // CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR
enum { PINNED_TYPE = 1 }; // CU_MEM_ALLOCATION_TYPE_PINNED

static size_t in_pages(size_t bytes) {
    return (bytes + PAGE - 1) / PAGE * PAGE;
}

static struct mwLocation on(int device) {
    return (struct mwLocation){MW_LOCATION_DEVICE, device};
}

void prepare(void) {
    exporter_start();
}

void begin(struct worker *w) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, find_others);
    MUST(other.cuInit(0));
    MUST(CALL(cuDevicePrimaryCtxRetain, &w->context, w->device));
    MUST(CALL(cuCtxSetCurrent, w->context));
    MUST(other.cuStreamCreate(&w->stream, 1));
}

// ---- linear and pitched ------------------------------------------------------------------------

static void linear(const struct worker *w, struct thing *t) {
    (void)w;
    mwPtr1 narrow;
    if (t->variant) {
        MUST(CALL(cuMemAlloc_v2, &t->key, t->bytes));
    } else {
        MUST(CALL(cuMemAlloc, &narrow, (unsigned)t->bytes));
        t->key = narrow;
    }
}

static void pitched(const struct worker *w, struct thing *t) {
    (void)w;
    mwPtr1 narrow;
    unsigned narrow_pitch;
    size_t pitch;
    if (t->variant) {
        MUST(CALL(cuMemAllocPitch_v2, &t->key, &pitch, t->bytes, 3, 4));
    } else {
        MUST(CALL(cuMemAllocPitch, &narrow, &narrow_pitch, (unsigned)t->bytes, 5, 16));
        t->key = narrow;
    }
}

static void free_linear(const struct worker *w, struct thing *t) {
    (void)w;
    if (t->variant)
        MUST(CALL(cuMemFree_v2, t->key));
    else
        MUST(CALL(cuMemFree, (mwPtr1)t->key));
}

static void managed(const struct worker *w, struct thing *t) {
    (void)w;
    MUST(CALL(cuMemAllocManaged, &t->key, t->bytes, 1));
}

static void free_managed(const struct worker *w, struct thing *t) {
    (void)w;
    MUST(CALL(cuMemFree_v2, t->key));
}

// ---- host --------------------------------------------------------------------------------------

static void pinned(const struct worker *w, struct thing *t) {
    (void)w;
    switch (t->variant) {
    case 0:
        MUST(CALL(cuMemAllocHost, &t->pointer, (unsigned)t->bytes));
        break;
    case 1:
        MUST(CALL(cuMemAllocHost_v2, &t->pointer, t->bytes));
        break;
    default:
        MUST(CALL(cuMemHostAlloc, &t->pointer, t->bytes, 1));
    }
}

static void free_pinned(const struct worker *w, struct thing *t) {
    (void)w;
    MUST(CALL(cuMemFreeHost, t->pointer));
}

static void registered(const struct worker *w, struct thing *t) {
    (void)w;
    t->pointer = aligned_alloc(4096, (t->bytes + 4095) / 4096 * 4096);
    if (t->variant)
        MUST(CALL(cuMemHostRegister_v2, t->pointer, t->bytes, 0));
    else
        MUST(CALL(cuMemHostRegister, t->pointer, t->bytes, 0));
}

static void unregister(const struct worker *w, struct thing *t) {
    (void)w;
    MUST(CALL(cuMemHostUnregister, t->pointer));
    free(t->pointer);
}

// ---- arrays ------------------------------------------------------------------------------------

enum { U8 = 1, FLOAT = 0x20, BC1 = 0x91, BC7 = 0x9d, NV12 = 0xb0 }; // CU_AD_FORMAT_*

static void array(const struct worker *w, struct thing *t) {
    (void)w;
    unsigned width = (unsigned)t->bytes / 16;
    const struct mwArrayDesc1 narrow = {width, 7, U8, 4};
    const struct mwArrayDesc plain = {width, 0, FLOAT, 2};
    const struct mwArray3dDesc1 narrow3d = {width, 5, 3, FLOAT, 1, 0};
    const struct mwArray3dDesc solids[] = {
        {width, 5, 3, FLOAT, 4, 0},
        {width, 9, 6, U8, 2, MW_ARRAY_LAYERED},
        {64, 64, 6, FLOAT, 1, MW_ARRAY_CUBEMAP},
        {width, 13, 0, BC1, 4, 0},
        {width, 13, 0, BC7, 4, 0},
        {width * 2, 16, 0, NV12, 3, 0},
    };
    switch (t->variant) {
    case 0:
        MUST(CALL(cuArrayCreate, &t->pointer, &narrow));
        break;
    case 1:
        MUST(CALL(cuArrayCreate_v2, &t->pointer, &plain));
        break;
    case 2:
        MUST(CALL(cuArray3DCreate, &t->pointer, &narrow3d));
        break;
    default:
        MUST(CALL(cuArray3DCreate_v2, &t->pointer, &solids[t->variant - 3]));
    }
}

static void destroy_array(const struct worker *w, struct thing *t) {
    (void)w;
    MUST(CALL(cuArrayDestroy, t->pointer));
}

static void mipmap(const struct worker *w, struct thing *t) {
    unsigned width = (unsigned)t->bytes / 16;
    const struct mwArray3dDesc kinds[] = {
        {width, 40, 0, FLOAT, 4, 0},
        {width, 33, 17, U8, 1, 0},
        {width, 32, 5, U8, 4, MW_ARRAY_LAYERED},
        {256, 256, 0, U8, 4, MW_ARRAY_SPARSE},
    };
    MUST(CALL(cuMipmappedArrayCreate, &t->pointer, &kinds[t->variant], 4));
    if (kinds[t->variant].flags != MW_ARRAY_SPARSE) return;
    // A list of nothing: which tiles are backed makes no difference to any count.
    CALL(cuMemMapArrayAsync, NULL, 0, w->stream);
    CALL(cuMemMapArrayAsync_ptsz, NULL, 0, w->stream);
}

static void destroy_mipmap(const struct worker *w, struct thing *t) {
    (void)w;
    MUST(CALL(cuMipmappedArrayDestroy, t->pointer));
}

// ---- stream-ordered memory and pools -----------------------------------------------------------

static mwHandle default_pool(const struct worker *w) {
    mwHandle pool;
    MUST(CALL(cuDeviceGetDefaultMemPool, &pool, w->device));
    return pool;
}

static void stream_ordered(const struct worker *w, struct thing *t) {
    mwHandle pool = default_pool(w);
    switch (t->variant) {
    case 0:
        MUST(CALL(cuMemAllocAsync, &t->key, t->bytes, w->stream));
        break;
    case 1:
        MUST(CALL(cuMemAllocAsync_ptsz, &t->key, t->bytes, w->stream));
        break;
    case 2:
        MUST(CALL(cuMemAllocFromPoolAsync, &t->key, t->bytes, pool, w->stream));
        break;
    case 3:
        MUST(CALL(cuMemAllocFromPoolAsync_ptsz, &t->key, t->bytes, pool, w->stream));
        break;
    default: // plain memory, freed in stream order
        MUST(CALL(cuMemAlloc_v2, &t->key, t->bytes));
    }
}

static void free_stream_ordered(const struct worker *w, struct thing *t) {
    if (t->variant == 2) // and the reverse
        MUST(CALL(cuMemFree_v2, t->key));
    else if (t->variant == 1)
        MUST(CALL(cuMemFreeAsync_ptsz, t->key, w->stream));
    else
        MUST(CALL(cuMemFreeAsync, t->key, w->stream));
}

enum { RELEASE_THRESHOLD = 4, RESERVED_NOW, RESERVED_HIGH, USED_NOW, USED_HIGH };

static mwHandle new_pool(struct mwLocation location, int handle_types) {
    struct mwPoolProps props = {
        .allocType = PINNED_TYPE, .handleTypes = handle_types, .location = location};
    uint64_t keep = UINT64_MAX;
    mwHandle pool;
    MUST(CALL(cuMemPoolCreate, &pool, &props));
    MUST(CALL(cuMemPoolSetAttribute, pool, RELEASE_THRESHOLD, &keep));
    return pool;
}

// variant 0: a pool on the device; 1: one on the host
static void pool(const struct worker *w, struct thing *t) {
    t->pointer = new_pool(t->variant ? (struct mwLocation){2, 0} : on(w->device), 0);
    MUST(CALL(cuMemAllocFromPoolAsync, &t->key, t->bytes, t->pointer, w->stream));
    MUST(CALL(cuMemAllocFromPoolAsync, &t->other, 2 * t->bytes, t->pointer, w->stream));
    for (int attribute = RELEASE_THRESHOLD; attribute <= USED_HIGH; attribute++) {
        uint64_t value;
        MUST(CALL(cuMemPoolGetAttribute, t->pointer, attribute, &value));
    }
}

static void end_pool(const struct worker *w, struct thing *t) {
    MUST(CALL(cuMemFreeAsync, t->other, w->stream));
    MUST(CALL(cuMemPoolTrimTo, t->pointer, 0));
    MUST(CALL(cuMemPoolDestroy, t->pointer)); // a block of it is still out
    MUST(CALL(cuMemFreeAsync, t->key, w->stream));
}

// Setting what is set already, so that no other thread's allocations go elsewhere.
static void ask_for_pools(const struct worker *w, struct thing *t) {
    (void)t;
    mwHandle pool;
    struct mwLocation here = on(w->device);
    MUST(CALL(cuDeviceGetMemPool, &pool, w->device));
    MUST(CALL(cuDeviceSetMemPool, w->device, pool));
    MUST(CALL(cuMemGetDefaultMemPool, &pool, &here, PINNED_TYPE));
    MUST(CALL(cuMemGetMemPool, &pool, &here, PINNED_TYPE));
    MUST(CALL(cuMemSetMemPool, &here, PINNED_TYPE, pool));
}

static void nothing(const struct worker *w, struct thing *t) {
    (void)w;
    (void)t;
}

static void import_from_pool(const struct worker *w, struct thing *t) {
    struct shared_pool shared;
    exporter_pool(w->device, t->bytes, &shared);
    mwHandle imported;
    MUST(CALL(cuMemPoolImportFromShareableHandle, &imported, (void *)(intptr_t)shared.fd, FD_HANDLE,
              0));
    close(shared.fd);
    t->pointer = imported;
    MUST(CALL(cuMemPoolImportPointer, &t->key, imported, &shared.pointer));
}

static void end_import_from_pool(const struct worker *w, struct thing *t) {
    MUST(CALL(cuMemFreeAsync, t->key, w->stream));
    MUST(CALL(cuMemPoolDestroy, t->pointer));
}

// ---- virtual memory management -----------------------------------------------------------------

static mwPtr create(const struct worker *w, size_t bytes) {
    mwPtr handle;
    struct mwAllocationProp prop = {
        .type = PINNED_TYPE, .requestedHandleTypes = FD_HANDLE, .location = on(w->device)};
    MUST(CALL(cuMemCreate, &handle, bytes, &prop, 0));
    return handle;
}

static void physical(const struct worker *w, struct thing *t) {
    t->key = create(w, in_pages(t->bytes));
}

static void release(const struct worker *w, struct thing *t) {
    (void)w;
    MUST(CALL(cuMemRelease, t->key));
}

// Two mappings end to end in one range. Variant 0 keeps the handle until the end, 1 releases it
// while mapped, 2 takes a second reference by address.
static void mapped(const struct worker *w, struct thing *t) {
    size_t bytes = in_pages(t->bytes);
    t->key = create(w, bytes);
    MUST(CALL(cuMemAddressReserve, &t->other, 2 * bytes, 0, 0, 0));
    for (size_t at = 0; at < 2 * bytes; at += bytes)
        MUST(CALL(cuMemMap, t->other + at, bytes, 0, t->key, 0));
    struct {
        struct mwLocation location;
        int flags;
    } readwrite = {on(w->device), 3};
    MUST(other.cuMemSetAccess(t->other, 2 * bytes, &readwrite, 1));
    if (t->variant == 1) MUST(CALL(cuMemRelease, t->key));
    if (t->variant == 2) {
        mwPtr again;
        MUST(CALL(cuMemRetainAllocationHandle, &again, (void *)(uintptr_t)t->other));
        MUST(CALL(cuMemRelease, again));
    }
}

static void unmap(const struct worker *w, struct thing *t) {
    (void)w;
    size_t bytes = in_pages(t->bytes);
    MUST(CALL(cuMemUnmap, t->other, 2 * bytes));
    MUST(CALL(cuMemAddressFree, t->other, 2 * bytes));
    if (t->variant != 1) MUST(CALL(cuMemRelease, t->key));
}

static void import_handle(const struct worker *w, struct thing *t) {
    int fd;
    t->key = create(w, in_pages(t->bytes));
    MUST(other.cuMemExportToShareableHandle(&fd, t->key, FD_HANDLE, 0));
    MUST(CALL(cuMemImportFromShareableHandle, &t->other, (void *)(intptr_t)fd, FD_HANDLE));
    close(fd);
}

static void end_import_handle(const struct worker *w, struct thing *t) {
    (void)w;
    MUST(CALL(cuMemRelease, t->other));
    MUST(CALL(cuMemRelease, t->key));
}

static void multicast(const struct worker *w, struct thing *t) {
    size_t bytes = in_pages(t->bytes);
    struct mwMulticastProp prop = {1, bytes, 0, 0};
    MUST(CALL(cuMulticastCreate, &t->key, &prop));
    MUST(other.cuMulticastAddDevice(t->key, w->device));
    t->other = create(w, bytes);
    MUST(CALL(cuMulticastBindMem, t->key, 0, t->other, 0, bytes, 0));
    MUST(CALL(cuMulticastUnbind, t->key, w->device, 0, bytes));
    CALL(cuMulticastBindAddr, t->key, 0, 0, bytes, 0); // no such address
}

static void end_multicast(const struct worker *w, struct thing *t) {
    (void)w;
    MUST(CALL(cuMemRelease, t->other));
    MUST(CALL(cuMemRelease, t->key));
}

// ---- memory of others --------------------------------------------------------------------------

static void open_ipc(const struct worker *w, struct thing *t) {
    struct mwIpcHandle handle;
    exporter_memory(w->device, t->bytes, &handle);
    if (t->variant)
        MUST(CALL(cuIpcOpenMemHandle_v2, &t->key, handle, 1));
    else
        MUST(CALL(cuIpcOpenMemHandle, &t->key, handle, 1));
}

static void close_ipc(const struct worker *w, struct thing *t) {
    (void)w;
    MUST(CALL(cuIpcCloseMemHandle, t->key));
}

// variant 0: the memory alone; 1: a buffer in it; 2: a mipmapped array in it
static void external(const struct worker *w, struct thing *t) {
    (void)w;
    size_t bytes = in_pages(t->bytes);
    struct {
        unsigned long long offset, size;
        unsigned flags, reserved[16];
    } buffer = {.size = bytes / 2};
    struct {
        unsigned long long offset;
        struct mwArray3dDesc array;
        unsigned levels, reserved[16];
    } levels = {.array = {64, 64, 0, U8, 4, 0}, .levels = 2};
    int fd = memfd_create("external", 0);
    MUST(ftruncate(fd, (off_t)bytes));
    struct mwExternalMemory desc = {.type = 1, .handle = {(unsigned)fd}, .size = bytes};
    MUST(CALL(cuImportExternalMemory, &t->pointer, &desc)); // the descriptor is the driver's now
    if (t->variant == 1) MUST(CALL(cuExternalMemoryGetMappedBuffer, &t->key, t->pointer, &buffer));
    if (t->variant == 2)
        MUST(CALL(cuExternalMemoryGetMappedMipmappedArray, &t->more, t->pointer, &levels));
}

static void end_external(const struct worker *w, struct thing *t) {
    (void)w;
    if (t->variant == 1) MUST(CALL(cuMemFree_v2, t->key));
    if (t->variant == 2) MUST(CALL(cuMipmappedArrayDestroy, t->more));
    MUST(CALL(cuDestroyExternalMemory, t->pointer));
}

// Without a graphics API there is no resource to map: the calls must pass, and change nothing.
static void graphics(const struct worker *w, struct thing *t) {
    (void)t;
    mwHandle none = NULL;
    CALL(cuGraphicsMapResources, 0, &none, w->stream);
    CALL(cuGraphicsMapResources_ptsz, 0, &none, w->stream);
    CALL(cuGraphicsUnmapResources, 0, &none, w->stream);
    CALL(cuGraphicsUnmapResources_ptsz, 0, &none, w->stream);
    CALL(cuGraphicsUnregisterResource, none);
}

// ---- graphs ------------------------------------------------------------------------------------

union node_params { // CUgraphNodeParams is larger than what a wrapper needs of it
    struct mwGraphNode node;
    char whole[256];
};

static mwPtr add_alloc_node(const struct worker *w, mwHandle graph, unsigned how, size_t bytes,
                            mwHandle *node) {
    union node_params params = {
        .node = {
            .type = MW_NODE_MEM_ALLOC,
            .alloc = {.poolProps = {.allocType = PINNED_TYPE, .location = on(w->device)},
                      .bytesize = bytes},
        }};
    if (how == 0)
        MUST(CALL(cuGraphAddMemAllocNode, node, graph, NULL, 0, &params.node.alloc));
    else if (how == 1)
        MUST(CALL(cuGraphAddNode, node, graph, NULL, 0, &params.node));
    else
        MUST(CALL(cuGraphAddNode_v2, node, graph, NULL, NULL, 0, &params.node));
    return params.node.alloc.dptr;
}

// Variants 0 to 2: the node is freed in the graph; 3: its memory is freed outside, after a launch.
static void graph(const struct worker *w, struct thing *t) {
    mwHandle node, free_node;
    MUST(other.cuGraphCreate(&t->pointer, 0));
    t->key = add_alloc_node(w, t->pointer, t->variant % 3, t->bytes, &node);
    if (t->variant < 3) MUST(CALL(cuGraphAddMemFreeNode, &free_node, t->pointer, &node, 1, t->key));
    MUST(other.cuGraphInstantiateWithFlags(&t->more, t->pointer, 0));
    MUST(other.cuGraphLaunch(t->more, w->stream));
    MUST(other.cuStreamSynchronize(w->stream));
}

static void end_graph(const struct worker *w, struct thing *t) {
    uint64_t used;
    if (t->variant == 3) MUST(CALL(cuMemFree_v2, t->key));
    MUST(other.cuGraphExecDestroy(t->more));
    MUST(CALL(cuGraphDestroy, t->pointer));
    MUST(CALL(cuDeviceGetGraphMemAttribute, w->device, 0, &used));
    MUST(CALL(cuDeviceGraphMemTrim, w->device));
}

enum { RELAXED = 2 }; // CU_STREAM_CAPTURE_MODE_RELAXED: other threads may do as they like

// What the streams of a capture allocate becomes nodes; a second stream joins by an event.
static void captured(const struct worker *w, struct thing *t) {
    mwHandle joined, event;
    MUST(other.cuStreamCreate(&joined, 1));
    MUST(other.cuEventCreate(&event, 0));
    switch (t->variant) {
    case 0:
        MUST(CALL(cuStreamBeginCapture_v2, w->stream, RELAXED));
        MUST(CALL(cuMemAllocAsync, &t->key, t->bytes, w->stream));
        MUST(CALL(cuEventRecord, event, w->stream));
        MUST(CALL(cuStreamWaitEvent, joined, event, 0));
        MUST(CALL(cuMemAllocAsync, &t->other, t->bytes, joined));
        MUST(CALL(cuEventRecord, event, joined));
        MUST(CALL(cuStreamWaitEvent, w->stream, event, 0));
        MUST(CALL(cuMemFreeAsync, t->key, w->stream));
        MUST(CALL(cuStreamEndCapture, w->stream, &t->pointer));
        break;
    case 1:
        MUST(CALL(cuStreamBeginCapture_v2_ptsz, w->stream, RELAXED));
        MUST(CALL(cuMemAllocAsync_ptsz, &t->key, t->bytes, w->stream));
        MUST(CALL(cuEventRecord_ptsz, event, w->stream));
        MUST(CALL(cuStreamWaitEvent_ptsz, joined, event, 0));
        MUST(CALL(cuEventRecordWithFlags, event, joined, 0));
        MUST(CALL(cuStreamWaitEvent, w->stream, event, 0));
        MUST(CALL(cuStreamEndCapture_ptsz, w->stream, &t->pointer));
        break;
    default:
        MUST(other.cuGraphCreate(&t->pointer, 0));
        if (t->variant == 2)
            MUST(CALL(cuStreamBeginCaptureToGraph, w->stream, t->pointer, NULL, NULL, 0, RELAXED));
        else
            MUST(CALL(cuStreamBeginCaptureToGraph_ptsz, w->stream, t->pointer, NULL, NULL, 0,
                      RELAXED));
        MUST(CALL(cuMemAllocAsync, &t->key, t->bytes, w->stream));
        MUST(CALL(cuEventRecordWithFlags_ptsz, event, w->stream, 0));
        MUST(CALL(cuMemFreeAsync_ptsz, t->key, w->stream));
        MUST(CALL(cuStreamEndCapture, w->stream, &t->pointer));
    }
    if (t->variant)
        MUST(CALL(cuStreamDestroy_v2, joined));
    else
        MUST(CALL(cuStreamDestroy, joined));
    MUST(other.cuEventDestroy_v2(event));
}

static void end_captured(const struct worker *w, struct thing *t) {
    (void)w;
    MUST(CALL(cuGraphDestroy, t->pointer));
}

// The first ABI captures in global mode: any plain allocation elsewhere would be an error.
static void captured_globally(const struct worker *w, struct thing *t) {
    if (t->variant)
        MUST(CALL(cuStreamBeginCapture_ptsz, w->stream));
    else
        MUST(CALL(cuStreamBeginCapture, w->stream));
    MUST(CALL(cuMemAllocFromPoolAsync, &t->key, t->bytes, default_pool(w), w->stream));
    MUST(CALL(cuStreamEndCapture, w->stream, &t->pointer));
}

// ---- contexts ----------------------------------------------------------------------------------

static mwHandle create_context(const struct worker *w, unsigned how) {
    mwHandle context = NULL;
    if (how == 0)
        MUST(CALL(cuCtxCreate, &context, 0, w->device));
    else if (how == 1)
        MUST(CALL(cuCtxCreate_v2, &context, 0, w->device));
    else if (how == 2)
        MUST(CALL(cuCtxCreate_v3, &context, NULL, 0, 0, w->device));
    else
        MUST(CALL(cuCtxCreate_v4, &context, NULL, 0, w->device));
    return context;
}

// Memory of every kind in a context of its own, which ends with it.
static void context(const struct worker *w, struct thing *t) {
    struct mwArrayDesc desc = {64, 8, FLOAT, 1};
    mwHandle array, current;
    mwPtr dptr;
    void *host;
    int device;
    t->pointer = create_context(w, t->variant);
    MUST(CALL(cuMemAlloc_v2, &dptr, t->bytes));
    MUST(CALL(cuMemAllocManaged, &dptr, t->bytes, 1));
    MUST(CALL(cuMemHostAlloc, &host, t->bytes, 0));
    MUST(CALL(cuArrayCreate_v2, &array, &desc));
    MUST(CALL(cuCtxGetDevice, &device));
    MUST(CALL(cuCtxSetLimit, 0, 2048));
    MUST(CALL(cuCtxPopCurrent_v2, &current));
    MUST(CALL(cuCtxPushCurrent_v2, current));
    MUST(CALL(cuMemAllocAsync, &t->key, t->bytes, w->stream)); // survives the context
    MUST(CALL(cuCtxPopCurrent, &current));
    MUST(CALL(cuCtxPushCurrent, current));
    MUST(CALL(cuCtxPopCurrent, &current));
    MUST(CALL(cuCtxGetCurrent, &current));
}

static void end_context(const struct worker *w, struct thing *t) {
    if (t->variant % 2)
        MUST(CALL(cuCtxDestroy, t->pointer));
    else
        MUST(CALL(cuCtxDestroy_v2, t->pointer));
    MUST(CALL(cuMemFreeAsync, t->key, w->stream));
}

// A context that is attached to once more ends with the second detach, at the end of the process
// here: attaching is deprecated since CUDA 4.0.
static void attached(const struct worker *w, struct thing *t) {
    mwHandle same, current;
    t->pointer = create_context(w, 1);
    MUST(CALL(cuMemAlloc_v2, &t->key, t->bytes));
    MUST(CALL(cuCtxAttach, &same, 0));
    MUST(CALL(cuCtxDetach, same));
    MUST(CALL(cuCtxPopCurrent_v2, &current));
}

static void end_attached(const struct worker *w, struct thing *t) {
    (void)w;
    MUST(CALL(cuMemFree_v2, t->key));
}

// The worker's primary context loses its memory: variants 0 and 1 by its last release, after which
// stream-ordered memory is still there, 2 and 3 by a reset. Its streams go as well.
static void reset(const struct worker *w, struct thing *t) {
    mwHandle context;
    void *host;
    MUST(CALL(cuMemAlloc_v2, &t->key, t->bytes));
    MUST(CALL(cuMemAllocHost_v2, &host, t->bytes));
    MUST(CALL(cuMemAllocAsync, &t->key, t->bytes, NULL));
    switch (t->variant) {
    case 0:
        MUST(CALL(cuDevicePrimaryCtxRelease, w->device));
        break;
    case 1:
        MUST(CALL(cuDevicePrimaryCtxRelease_v2, w->device));
        break;
    case 2:
        MUST(CALL(cuDevicePrimaryCtxReset, w->device));
        break;
    default:
        MUST(CALL(cuDevicePrimaryCtxReset_v2, w->device));
    }
    MUST(CALL(cuDevicePrimaryCtxRetain, &context, w->device));
    MUST(CALL(cuCtxSetCurrent, context));
}

// A share of the device's multiprocessors, with the memory of the primary context.
static void green(const struct worker *w, struct thing *t) {
    char resource[256] = {0}; // CUdevResource
    mwHandle desc, context;
    MUST(other.cuDeviceGetDevResource(w->device, resource, 1));
    MUST(other.cuDevResourceGenerateDesc(&desc, resource, 1));
    MUST(CALL(cuGreenCtxCreate, &t->pointer, desc, w->device, 1));
    MUST(CALL(cuCtxFromGreenCtx, &context, t->pointer));
    MUST(CALL(cuCtxPushCurrent_v2, context));
    MUST(CALL(cuMemAlloc_v2, &t->key, t->bytes));
    MUST(CALL(cuCtxPopCurrent_v2, &context));
}

static void end_green(const struct worker *w, struct thing *t) {
    (void)w;
    MUST(CALL(cuGreenCtxDestroy, t->pointer));
    MUST(CALL(cuMemFree_v2, t->key));
}

// ---- code, questions, look-ups -----------------------------------------------------------------

static const char image[] = ".version 8.0\n.target sm_80\n.address_size 64\n";

static void code(const struct worker *w, struct thing *t) {
    (void)w;
    (void)t;
    mwHandle module, library;
    MUST(CALL(cuModuleLoadData, &module, image));
    MUST(CALL(cuModuleUnload, module));
    MUST(CALL(cuModuleLoadDataEx, &module, image, 0, NULL, NULL));
    MUST(CALL(cuModuleUnload, module));
    MUST(CALL(cuLibraryLoadData, &library, image, NULL, NULL, 0, NULL, NULL, 0));
    MUST(CALL(cuLibraryUnload, library));
    CALL(cuModuleLoadFatBinary, &module, image);
    CALL(cuModuleLoad, &module, "/nowhere");
    CALL(cuLibraryLoadFromFile, &library, "/nowhere", NULL, NULL, 0, NULL, NULL, 0);
}

static void questions(const struct worker *w, struct thing *t) {
    (void)t;
    unsigned narrow, narrow_total;
    size_t wide, wide_total;
    char name[64];
    int version, status;
    void *found;
    MUST(CALL(cuMemGetInfo, &narrow, &narrow_total));
    MUST(CALL(cuMemGetInfo_v2, &wide, &wide_total));
    MUST(CALL(cuDeviceTotalMem, &narrow, w->device));
    MUST(CALL(cuDeviceTotalMem_v2, &wide, w->device));
    MUST(CALL(cuDeviceGetName, name, sizeof name, w->device));
    MUST(CALL(cuDriverGetVersion, &version));
    MUST(CALL(cuGetProcAddress, "cuMemAlloc", &found, 11030, 0));
    MUST(CALL(cuGetProcAddress_v2, "cuMemFree", &found, 12000, 0, &status));
}

// ---- failures ----------------------------------------------------------------------------------

enum { FAR_TOO_MUCH = 46 }; // log2 of more bytes than any device has

void fail_calls(const struct worker *w) {
    const size_t much = (size_t)1 << FAR_TOO_MUCH;
    struct mwAllocationProp prop = {.type = PINNED_TYPE, .location = on(w->device)};
    mwPtr dptr;
    MUST_FAIL(CALL(cuMemAlloc_v2, &dptr, much));
    MUST_FAIL(CALL(cuMemAlloc_v2, NULL, 100));
    MUST_FAIL(CALL(cuMemAlloc_v2, &dptr, 0));
    MUST_FAIL(CALL(cuMemAllocManaged, NULL, 100, 1));
    MUST_FAIL(CALL(cuMemHostAlloc, NULL, 100, 0));
    MUST_FAIL(CALL(cuMemAllocAsync, &dptr, much, w->stream));
    MUST_FAIL(CALL(cuMemCreate, &dptr, much, &prop, 0));
    MUST_FAIL(CALL(cuMemFree_v2, 12345));
    MUST_FAIL(CALL(cuMemFreeHost, &dptr));
    MUST_FAIL(CALL(cuMemHostUnregister, &dptr));
    MUST_FAIL(CALL(cuMemFreeAsync, 12345, w->stream));
    MUST_FAIL(CALL(cuMemRelease, 12345));
    MUST_FAIL(CALL(cuMemUnmap, 12345, PAGE));
    MUST_FAIL(CALL(cuMemAddressFree, 12345, PAGE));
    MUST(CALL(cuMemFree_v2, 0));
}

#define COUNT(list) (sizeof(list) / sizeof(list)[0])

const struct operation operations[] = {
    {"linear", 2, linear, free_linear},
    {"pitched", 2, pitched, free_linear},
    {"managed", 1, managed, free_managed},
    {"pinned", 3, pinned, free_pinned},
    {"registered", 2, registered, unregister},
    {"array", 9, array, destroy_array},
    {"mipmapped array", 4, mipmap, destroy_mipmap},
    {"stream-ordered", 5, stream_ordered, free_stream_ordered},
    {"pool", 2, pool, end_pool},
    {"pools asked for", 1, ask_for_pools, nothing},
    {"imported pool", 1, import_from_pool, end_import_from_pool},
    {"physical", 1, physical, release},
    {"mapped", 3, mapped, unmap},
    {"imported handle", 1, import_handle, end_import_handle},
    {"multicast", 1, multicast, end_multicast},
    {"ipc", 2, open_ipc, close_ipc},
    {"external memory", 3, external, end_external},
    {"graphics", 1, graphics, nothing},
    {"graph", 4, graph, end_graph},
    {"capture", 4, captured, end_captured},
    {"context", 4, context, end_context},
    {"green context", 1, green, end_green},
    {"code", 1, code, nothing},
    {"questions", 1, questions, nothing},
};
const unsigned operation_count = COUNT(operations);

const struct operation operations_alone[] = {
    {"capture in global mode", 2, captured_globally, end_captured},
    {"attached context", 1, attached, end_attached},
    {"reset", 4, reset, nothing},
};
const unsigned operation_alone_count = COUNT(operations_alone);

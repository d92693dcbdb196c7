// SPDX-License-Identifier: Apache-2.0
//
// Every row of the runtime API, called through a door (rows.h) by the plan of operations.h. Linked
// with each libcudart, and with the static one; unlinked for dlsym.
#define OTHERS(X)                                                                                  \
    X(cudaStreamCreate, (mwHandle * stream))                                                       \
    X(cudaMemPoolCreate, (mwHandle * pool, const void *props))                                     \
    X(cudaMemPoolDestroy, (mwHandle pool))                                                         \
    X(cudaMemPoolImportFromShareableHandle,                                                        \
      (mwHandle * pool, void *handle, int type, unsigned flags))                                   \
    X(cudaGraphCreate, (mwHandle * graph, unsigned flags))

#include "rows.h"

#include "exporter.h"
#include "operations.h"

#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

enum { PAGE = 2 << 20 };
enum { FD_HANDLE = 1, PINNED_TYPE = 1 };

void prepare(void) {
    exporter_start();
}

void begin(struct worker *w) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, find_others);
    MUST(CALL(cudaSetDevice, w->device));
    MUST(other.cudaStreamCreate(&w->stream));
}

// ---- linear, pitched, managed ------------------------------------------------------------------

static void linear(const struct worker *w, struct thing *t) {
    (void)w;
    size_t pitch;
    struct mwPitchedPtr pitched;
    switch (t->variant) {
    case 0:
        MUST(CALL(cudaMalloc, &t->pointer, t->bytes));
        break;
    case 1:
        MUST(CALL(cudaMallocPitch, &t->pointer, &pitch, t->bytes, 5));
        break;
    case 2:
        MUST(CALL(cudaMalloc3D, &pitched, (struct mwExtent){t->bytes, 5, 2}));
        t->pointer = pitched.ptr;
        break;
    default:
        MUST(CALL(cudaMallocManaged, &t->pointer, t->bytes, 1));
    }
}

static void free_linear(const struct worker *w, struct thing *t) {
    (void)w;
    MUST(CALL(cudaFree, t->pointer));
}

// ---- host --------------------------------------------------------------------------------------

static void pinned(const struct worker *w, struct thing *t) {
    (void)w;
    if (t->variant)
        MUST(CALL(cudaHostAlloc, &t->pointer, t->bytes, 1));
    else
        MUST(CALL(cudaMallocHost, &t->pointer, t->bytes));
}

static void free_pinned(const struct worker *w, struct thing *t) {
    (void)w;
    MUST(CALL(cudaFreeHost, t->pointer));
}

static void registered(const struct worker *w, struct thing *t) {
    (void)w;
    t->pointer = aligned_alloc(4096, (t->bytes + 4095) / 4096 * 4096);
    MUST(CALL(cudaHostRegister, t->pointer, t->bytes, 0));
}

static void unregister(const struct worker *w, struct thing *t) {
    (void)w;
    MUST(CALL(cudaHostUnregister, t->pointer));
    free(t->pointer);
}

// ---- arrays ------------------------------------------------------------------------------------

static const struct mwChannelDesc float4 = {32, 32, 32, 32, 2}, byte = {8, 0, 0, 0, 1};

static void array(const struct worker *w, struct thing *t) {
    (void)w;
    size_t width = t->bytes / 16;
    switch (t->variant) {
    case 0:
        MUST(CALL(cudaMallocArray, &t->pointer, &float4, width, 0, 0));
        break;
    case 1:
        MUST(CALL(cudaMallocArray, &t->pointer, &byte, width, 9, 0));
        break;
    case 2:
        MUST(CALL(cudaMalloc3DArray, &t->pointer, &byte, (struct mwExtent){width, 7, 5}, 0));
        break;
    default:
        MUST(CALL(cudaMalloc3DArray, &t->pointer, &float4, (struct mwExtent){width, 7, 5},
                  MW_ARRAY_LAYERED));
    }
}

static void free_array(const struct worker *w, struct thing *t) {
    (void)w;
    MUST(CALL(cudaFreeArray, t->pointer));
}

static void mipmap(const struct worker *w, struct thing *t) {
    (void)w;
    struct mwExtent extent = {t->bytes / 16, 40, t->variant ? 20 : 0};
    MUST(CALL(cudaMallocMipmappedArray, &t->pointer, &byte, extent, 4, 0));
}

static void free_mipmap(const struct worker *w, struct thing *t) {
    (void)w;
    MUST(CALL(cudaFreeMipmappedArray, t->pointer));
}

// ---- stream-ordered memory and pools -----------------------------------------------------------

static mwHandle new_pool(int device) {
    struct mwPoolProps props = {.allocType = PINNED_TYPE, .location = {MW_LOCATION_DEVICE, device}};
    mwHandle pool;
    MUST(other.cudaMemPoolCreate(&pool, &props));
    return pool;
}

static void stream_ordered(const struct worker *w, struct thing *t) {
    t->more = new_pool(w->device);
    switch (t->variant) {
    case 0:
        MUST(CALL(cudaMallocAsync, &t->pointer, t->bytes, w->stream));
        break;
    case 1:
        MUST(CALL(cudaMallocAsync_ptsz, &t->pointer, t->bytes, w->stream));
        break;
    case 2:
        MUST(CALL(cudaMallocFromPoolAsync, &t->pointer, t->bytes, t->more, w->stream));
        break;
    default:
        MUST(CALL(cudaMallocFromPoolAsync_ptsz, &t->pointer, t->bytes, t->more, w->stream));
    }
}

static void free_stream_ordered(const struct worker *w, struct thing *t) {
    if (t->variant == 0)
        MUST(CALL(cudaFreeAsync, t->pointer, w->stream));
    else if (t->variant == 1)
        MUST(CALL(cudaFreeAsync_ptsz, t->pointer, w->stream));
    else
        MUST(CALL(cudaFree, t->pointer));
    MUST(other.cudaMemPoolDestroy(t->more));
}

static void import_from_pool(const struct worker *w, struct thing *t) {
    struct shared_pool shared;
    exporter_pool(w->device, t->bytes, &shared);
    MUST(other.cudaMemPoolImportFromShareableHandle(&t->more, (void *)(intptr_t)shared.fd,
                                                    FD_HANDLE, 0));
    close(shared.fd);
    MUST(CALL(cudaMemPoolImportPointer, &t->pointer, t->more, &shared.pointer));
}

static void end_import_from_pool(const struct worker *w, struct thing *t) {
    MUST(CALL(cudaFreeAsync, t->pointer, w->stream));
    MUST(other.cudaMemPoolDestroy(t->more));
}

// ---- memory of others --------------------------------------------------------------------------

static void open_ipc(const struct worker *w, struct thing *t) {
    struct mwIpcHandle handle;
    exporter_memory(w->device, t->bytes, &handle);
    MUST(CALL(cudaIpcOpenMemHandle, &t->pointer, handle, 1));
}

static void close_ipc(const struct worker *w, struct thing *t) {
    (void)w;
    MUST(CALL(cudaIpcCloseMemHandle, t->pointer));
}

static void external(const struct worker *w, struct thing *t) {
    (void)w;
    size_t bytes = (t->bytes + PAGE - 1) / PAGE * PAGE;
    struct {
        unsigned long long offset, size;
        unsigned flags, reserved[16];
    } buffer = {.size = bytes / 2};
    struct { // cudaExternalMemoryMipmappedArrayDesc
        unsigned long long offset;
        struct mwChannelDesc format;
        struct mwExtent extent;
        unsigned flags, levels, reserved[16];
    } levels = {.format = byte, .extent = {64, 64, 0}, .levels = 2};
    int fd = memfd_create("external", 0);
    MUST(ftruncate(fd, (off_t)bytes));
    struct mwExternalMemory desc = {.type = 1, .handle = {(unsigned)fd}, .size = bytes};
    MUST(CALL(cudaImportExternalMemory, &t->more, &desc));
    if (t->variant == 1)
        MUST(CALL(cudaExternalMemoryGetMappedBuffer, &t->pointer, t->more, &buffer));
    if (t->variant == 2)
        MUST(CALL(cudaExternalMemoryGetMappedMipmappedArray, &t->pointer, t->more, &levels));
}

static void end_external(const struct worker *w, struct thing *t) {
    (void)w;
    if (t->variant == 1) MUST(CALL(cudaFree, t->pointer));
    if (t->variant == 2) MUST(CALL(cudaFreeMipmappedArray, t->pointer));
    MUST(CALL(cudaDestroyExternalMemory, t->more));
}

// ---- graphs, devices ---------------------------------------------------------------------------

static void graph(const struct worker *w, struct thing *t) {
    struct mwMemAllocNode params = {
        .poolProps = {.allocType = PINNED_TYPE, .location = {MW_LOCATION_DEVICE, w->device}},
        .bytesize = t->bytes};
    mwHandle node;
    MUST(other.cudaGraphCreate(&t->pointer, 0));
    MUST(CALL(cudaGraphAddMemAllocNode, &node, t->pointer, NULL, 0, &params));
}

static void end_graph(const struct worker *w, struct thing *t) {
    (void)w;
    MUST(CALL(cudaGraphDestroy, t->pointer));
}

static void reset(const struct worker *w, struct thing *t) {
    void *p;
    MUST(CALL(cudaSetDevice, w->device));
    MUST(CALL(cudaMalloc, &t->pointer, t->bytes));
    MUST(CALL(cudaMallocHost, &p, t->bytes));
    MUST(CALL(cudaMallocAsync, &p, t->bytes, NULL));
    MUST(CALL(cudaDeviceReset));
}

static void nothing(const struct worker *w, struct thing *t) {
    (void)w;
    (void)t;
}

// ---- failures ----------------------------------------------------------------------------------

void fail_calls(const struct worker *w) {
    const size_t much = (size_t)1 << 46;
    void *p;
    MUST_FAIL(CALL(cudaMalloc, &p, much));
    MUST_FAIL(CALL(cudaMallocAsync, &p, much, w->stream));
    MUST_FAIL(CALL(cudaFree, (void *)12345));
    MUST_FAIL(CALL(cudaFreeHost, &p));
    MUST_FAIL(CALL(cudaHostUnregister, &p));
    MUST_FAIL(CALL(cudaFreeAsync, (void *)12345, w->stream));
    MUST(CALL(cudaFree, NULL));
}

#define COUNT(list) (sizeof(list) / sizeof(list)[0])

const struct operation operations[] = {
    {"linear", 4, linear, free_linear},
    {"pinned", 2, pinned, free_pinned},
    {"registered", 1, registered, unregister},
    {"array", 4, array, free_array},
    {"mipmapped array", 2, mipmap, free_mipmap},
    {"stream-ordered", 4, stream_ordered, free_stream_ordered},
    {"imported pool", 1, import_from_pool, end_import_from_pool},
    {"ipc", 1, open_ipc, close_ipc},
    {"external memory", 3, external, end_external},
    {"graph", 1, graph, end_graph},
};
const unsigned operation_count = COUNT(operations);

const struct operation operations_alone[] = {
    {"reset", 2, reset, nothing},
};
const unsigned operation_alone_count = COUNT(operations_alone);

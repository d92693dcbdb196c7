// SPDX-License-Identifier: Apache-2.0
// What test_simgpu_driver.py runs against the simulated driver: `scenarios NAME`, one function
// each. A scenario checks results on the spot and leaves it to the test to read the books.
#define _GNU_SOURCE
#include <cuda.h>

#include <dlfcn.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define MIB ((size_t)1 << 20)

#define EXPECT(call, wanted)                                                                       \
    do {                                                                                           \
        int got_ = (int)(call), wanted_ = (int)(wanted);                                           \
        if (got_ != wanted_) {                                                                     \
            fprintf(stderr, "%s:%d: %s is %d, not %d\n", __FILE__, __LINE__, #call, got_,          \
                    wanted_);                                                                      \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)
#define OK(call)        EXPECT(call, CUDA_SUCCESS)
#define TRUE(condition) EXPECT(!!(condition), 1)

static CUcontext begin(void) {
    CUcontext context;
    OK(cuInit(0));
    OK(cuDevicePrimaryCtxRetain(&context, 0));
    OK(cuCtxSetCurrent(context));
    return context;
}

static size_t free_bytes(void) {
    size_t free, total;
    OK(cuMemGetInfo(&free, &total));
    return free;
}

// ---- allocation families ------------------------------------------------------------------------

static struct {
    CUdeviceptr linear, pitched, managed, async;
    void *pinned;
    CUarray array;
    CUmipmappedArray mipmap;
    char registered[8192];
} made;

static void allocate_families(void) {
    size_t pitch;
    begin();
    OK(cuMemAlloc(&made.linear, 3 * MIB + 5));
    OK(cuMemAllocPitch(&made.pitched, &pitch, 1000, 7, 4));
    TRUE(pitch == 1024);
    OK(cuMemAllocManaged(&made.managed, 5000, CU_MEM_ATTACH_GLOBAL));
    OK(cuMemAllocAsync(&made.async, 700, NULL));
    OK(cuMemHostAlloc(&made.pinned, 12345, 0));
    OK(cuMemHostRegister(made.registered, sizeof made.registered, 0));
    CUDA_ARRAY3D_DESCRIPTOR volume = {64, 32, 4, CU_AD_FORMAT_FLOAT, 2, 0};
    OK(cuArray3DCreate(&made.array, &volume));
    CUDA_ARRAY3D_DESCRIPTOR image = {16, 8, 0, CU_AD_FORMAT_UNSIGNED_INT8, 4, 0};
    OK(cuMipmappedArrayCreate(&made.mipmap, &image, 3));
}

static void families(void) {
    allocate_families();
}

static void families_freed(void) {
    size_t before;
    begin();
    before = free_bytes();
    allocate_families();
    OK(cuMemFree(made.linear));
    OK(cuMemFree(made.pitched));
    OK(cuMemFree(made.managed));
    OK(cuMemFreeAsync(made.async, NULL));
    OK(cuMemFreeHost(made.pinned));
    OK(cuMemHostUnregister(made.registered));
    OK(cuArrayDestroy(made.array));
    OK(cuMipmappedArrayDestroy(made.mipmap));
    OK(cuStreamSynchronize(NULL));
    TRUE(free_bytes() == before);
    EXPECT(cuMemFree(made.linear), CUDA_ERROR_INVALID_VALUE);
}

static void killed(void) {
    allocate_families();
    raise(SIGKILL);
}

// ---- results ------------------------------------------------------------------------------------

static void errors(void) {
    CUdeviceptr p;
    EXPECT(cuMemAlloc(&p, 4), CUDA_ERROR_NOT_INITIALIZED);
    OK(cuInit(0));
    EXPECT(cuMemAlloc(&p, 4), CUDA_ERROR_INVALID_CONTEXT);
    begin();
    EXPECT(cuMemAlloc(NULL, 4), CUDA_ERROR_INVALID_VALUE);
    EXPECT(cuMemAlloc(&p, 0), CUDA_ERROR_INVALID_VALUE);
    EXPECT(cuMemFree(0x1234), CUDA_ERROR_INVALID_VALUE);
    EXPECT(cuMemFreeHost(&p), CUDA_ERROR_INVALID_VALUE);
    EXPECT(cuMemHostUnregister(&p), CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED);
    EXPECT(cuStreamDestroy((CUstream) & (CUdeviceptr[8]){0}), CUDA_ERROR_INVALID_HANDLE);
    OK(cuMemFree(0));
    const char *text;
    OK(cuGetErrorString(CUDA_ERROR_OUT_OF_MEMORY, &text));
    EXPECT(strcmp(text, "out of memory"), 0);
    OK(cuGetErrorName(CUDA_ERROR_OUT_OF_MEMORY, &text));
    EXPECT(strcmp(text, "CUDA_ERROR_OUT_OF_MEMORY"), 0);
}

// The device has 16 MiB: eight pages.
static void out_of_memory(void) {
    CUdeviceptr page[9], small;
    begin();
    for (int i = 0; i < 8; i++) OK(cuMemAlloc(&page[i], 2 * MIB));
    TRUE(free_bytes() == 0);
    EXPECT(cuMemAlloc(&page[8], 2 * MIB), CUDA_ERROR_OUT_OF_MEMORY);
    EXPECT(cuMemAlloc(&small, 1), CUDA_ERROR_OUT_OF_MEMORY);
    OK(cuMemFree(page[3]));
    // Small allocations share a page.
    for (int i = 0; i < 2048; i++) OK(cuMemAlloc(&small, 1));
    TRUE(free_bytes() == 0);
    EXPECT(cuMemAlloc(&page[8], (size_t)1 << 62), CUDA_ERROR_OUT_OF_MEMORY);
}

static void results_of_five(void) {
    CUdeviceptr p;
    begin();
    for (int i = 0; i < 5; i++) printf("%d ", cuMemAlloc(&p, 1000));
    puts("");
}

static void memory_info(void) {
    size_t free, total;
    begin();
    OK(cuMemGetInfo(&free, &total));
    printf("%zu %zu\n", free, total);
}

// Prints how many MiB are free: with the primary context, with another, without it again.
static void context_memory(void) {
    CUcontext contexts[2];
    size_t free, total;
    begin();
    OK(cuMemGetInfo(&free, &total));
    printf("%zu\n", free >> 20);
    OK(cuCtxCreate(&contexts[0], NULL, 0, 0));
    OK(cuMemGetInfo(&free, &total));
    printf("%zu %d\n", free >> 20, cuCtxCreate(&contexts[1], NULL, 0, 0));
    OK(cuDevicePrimaryCtxRetain(&contexts[1], 0)); // though there is no room: it has its memory
    OK(cuCtxDestroy(contexts[0]));
    OK(cuMemGetInfo(&free, &total));
    printf("%zu\n", free >> 20);
}

// Prints how many MiB are free while green contexts alone keep the primary one alive, and after.
static void green_context_memory(void) {
    CUdevResource resource;
    CUdevResourceDesc description;
    CUgreenCtx green;
    CUcontext context;
    size_t free, total;
    OK(cuInit(0));
    OK(cuDeviceGetDevResource(0, &resource, CU_DEV_RESOURCE_TYPE_SM));
    OK(cuDevResourceGenerateDesc(&description, &resource, 1));
    for (int i = 0; i < 2; i++) {
        OK(cuGreenCtxCreate(&green, description, 0, CU_GREEN_CTX_DEFAULT_STREAM));
        OK(cuCtxFromGreenCtx(&context, green));
        OK(cuCtxSetCurrent(context));
        OK(cuMemGetInfo(&free, &total));
        printf("%zu\n", free >> 20);
        OK(cuGreenCtxDestroy(green));
    }
    OK(cuDevicePrimaryCtxRetain(&context, 0));
    OK(cuCtxSetCurrent(context));
    OK(cuMemGetInfo(&free, &total));
    printf("%zu\n", free >> 20);
}

static CUdeviceptr late_pointer;

static void free_late(void) {
    printf("%d\n", cuMemFree(late_pointer));
}

static void after_exit_began(void) {
    atexit(free_late); // before cuInit, so it runs after the driver's own end
    begin();
    OK(cuMemAlloc(&late_pointer, 1000));
}

static void child_of_fork(void) {
    CUdeviceptr p;
    int status, version;
    begin();
    if (fork() == 0) {
        EXPECT(cuMemAlloc(&p, 1000), CUDA_ERROR_NOT_INITIALIZED);
        EXPECT(cuInit(0), CUDA_ERROR_NOT_INITIALIZED);
        OK(cuDriverGetVersion(&version));
        _exit(0);
    }
    wait(&status);
    EXPECT(status, 0);
    OK(cuMemAlloc(&p, 1000));
}

// ---- look-ups -----------------------------------------------------------------------------------

static void *look_up(const char *name, int version, int flags, int wanted_status) {
    CUdriverProcAddressQueryResult status;
    void *found;
    OK(cuGetProcAddress(name, &found, version, flags, &status));
    EXPECT(status, wanted_status);
    return found;
}

static void lookups(void) {
    void *driver = dlopen("libcuda.so.1", RTLD_NOW | RTLD_NOLOAD);
    TRUE(driver);
    TRUE(look_up("cuMemAlloc", 13000, 0, 0) == dlsym(driver, "cuMemAlloc_v2"));
    TRUE(look_up("cuMemAlloc", 3010, 0, 0) == dlsym(driver, "cuMemAlloc"));
    TRUE(look_up("cuCtxCreate", 3020, 0, 0) == dlsym(driver, "cuCtxCreate_v2"));
    TRUE(look_up("cuCtxCreate", 11040, 0, 0) == dlsym(driver, "cuCtxCreate_v3"));
    TRUE(look_up("cuCtxCreate", 12050, 0, 0) == dlsym(driver, "cuCtxCreate_v4"));
    TRUE(look_up("cuMemFreeAsync", 12000, 1, 0) == dlsym(driver, "cuMemFreeAsync"));
    TRUE(look_up("cuMemFreeAsync", 12000, 2, 0) == dlsym(driver, "cuMemFreeAsync_ptsz"));
    TRUE(look_up("cuMemAlloc", 12000, 2, 0) == dlsym(driver, "cuMemAlloc_v2"));
    TRUE(look_up("cuGetProcAddress", 11030, 0, 0) == dlsym(driver, "cuGetProcAddress"));
    TRUE(look_up("cuGetProcAddress", 12000, 0, 0) == dlsym(driver, "cuGetProcAddress_v2"));
    TRUE(!look_up("", 0, 0, CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND));
    TRUE(!look_up("cuMemAlloc_v2", 13000, 0, CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND));
    TRUE(!look_up("cuMemFreeAsync", 11000, 0, CU_GET_PROC_ADDRESS_VERSION_NOT_SUFFICIENT));
}

// CUDA 2.x: device pointers and sizes of 32 bits.
static void legacy(void) {
    CUresult (*alloc)(unsigned *, unsigned) = look_up("cuMemAlloc", 2000, 0, 0);
    CUresult (*copy)(unsigned, const void *, unsigned) = look_up("cuMemcpyHtoD", 2000, 0, 0);
    CUresult (*range)(unsigned *, unsigned *, unsigned) =
        look_up("cuMemGetAddressRange", 2000, 0, 0);
    CUresult (*release)(unsigned) = look_up("cuMemFree", 2000, 0, 0);
    unsigned p, base, size;
    begin();
    OK(alloc(&p, 100000));
    OK(copy(p, "words", 6));
    EXPECT(memcmp((void *)(uintptr_t)p, "words", 6), 0);
    OK(range(&base, &size, p + 99));
    TRUE(base == p && size == 100000);
    OK(release(p));
    OK(alloc(&p, 3 * MIB));
}

// ---- virtual memory -----------------------------------------------------------------------------

static void virtual_memory(void) {
    CUmemAllocationProp prop = {.type = CU_MEM_ALLOCATION_TYPE_PINNED,
                                .requestedHandleTypes = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR,
                                .location = {CU_MEM_LOCATION_TYPE_DEVICE, 1}};
    CUmemAccessDesc access = {prop.location, CU_MEM_ACCESS_FLAGS_PROT_READWRITE};
    CUmemGenericAllocationHandle memory, again, imported;
    CUdeviceptr range;
    int file;
    OK(cuInit(0)); // no context, as NCCL does it
    EXPECT(cuMemCreate(&memory, 1000, &prop, 0), CUDA_ERROR_INVALID_VALUE);
    OK(cuMemCreate(&memory, 4 * MIB, &prop, 0));
    OK(cuMemAddressReserve(&range, 8 * MIB, 0, 0, 0));
    OK(cuMemMap(range + 2 * MIB, 4 * MIB, 0, memory, 0));
    OK(cuMemSetAccess(range + 2 * MIB, 4 * MIB, &access, 1));
    memset((void *)(range + 2 * MIB), 7, 4 * MIB);
    EXPECT(cuMemAddressFree(range, 8 * MIB), CUDA_ERROR_INVALID_VALUE); // still mapped
    OK(cuMemExportToShareableHandle(&file, memory, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0));
    OK(cuMemImportFromShareableHandle(&imported, (void *)(intptr_t)file,
                                      CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR));
    close(file);
    OK(cuMemRelease(imported));
    OK(cuMemRelease(memory)); // before the unmap: the mapping keeps it
    OK(cuMemRetainAllocationHandle(&again, (void *)(range + 3 * MIB)));
    TRUE(again == memory);
    OK(cuMemUnmap(range + 2 * MIB, 4 * MIB));
    if (getenv("STOP_BEFORE_RELEASE")) return;
    OK(cuMemRelease(again));
    EXPECT(cuMemRelease(again), CUDA_ERROR_INVALID_VALUE);
    OK(cuMemAddressFree(range, 8 * MIB));
}

static void multicast(void) {
    CUmulticastObjectProp prop = {.numDevices = 2, .size = 4 * MIB};
    CUmemGenericAllocationHandle team;
    OK(cuInit(0));
    OK(cuMulticastCreate(&team, &prop));
    OK(cuMulticastAddDevice(team, 0));
    OK(cuMulticastAddDevice(team, 1));
    if (!getenv("STOP_BEFORE_RELEASE")) OK(cuMemRelease(team));
}

// ---- pools --------------------------------------------------------------------------------------

static uint64_t pool_value(CUmemoryPool pool, CUmemPool_attribute attribute) {
    uint64_t value;
    OK(cuMemPoolGetAttribute(pool, attribute, &value));
    return value;
}

static void pools(void) {
    CUmemoryPool pool;
    CUdeviceptr a, b;
    uint64_t keep = UINT64_MAX;
    begin();
    OK(cuDeviceGetDefaultMemPool(&pool, 0));
    OK(cuMemPoolSetAttribute(pool, CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, &keep));
    OK(cuMemAllocAsync(&a, 3 * MIB, NULL));
    OK(cuMemAllocAsync(&b, 5 * MIB, NULL));
    TRUE(pool_value(pool, CU_MEMPOOL_ATTR_USED_MEM_CURRENT) == 8 * MIB);
    TRUE(pool_value(pool, CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT) == 10 * MIB);
    OK(cuMemFreeAsync(a, NULL));
    OK(cuMemFree(b)); // either kind of free takes either kind of memory
    OK(cuStreamSynchronize(NULL));
    TRUE(pool_value(pool, CU_MEMPOOL_ATTR_USED_MEM_CURRENT) == 0);
    TRUE(pool_value(pool, CU_MEMPOOL_ATTR_USED_MEM_HIGH) == 8 * MIB);
    TRUE(pool_value(pool, CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT) == 10 * MIB);
    OK(cuMemAllocAsync(&a, 9 * MIB, NULL)); // from what was kept
    TRUE(pool_value(pool, CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT) == 10 * MIB);
    OK(cuMemFreeAsync(a, NULL));
    OK(cuMemPoolTrimTo(pool, 4 * MIB));
    TRUE(pool_value(pool, CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT) == 4 * MIB);
    keep = 0;
    OK(cuMemPoolSetAttribute(pool, CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, &keep));
    OK(cuCtxSynchronize());
    TRUE(pool_value(pool, CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT) == 0);
}

static void destroyed_pool(void) {
    CUmemPoolProps props = {.allocType = CU_MEM_ALLOCATION_TYPE_PINNED,
                            .location = {CU_MEM_LOCATION_TYPE_DEVICE, 0}};
    CUmemoryPool pool;
    CUdeviceptr p;
    begin();
    size_t before = free_bytes();
    OK(cuMemPoolCreate(&pool, &props));
    OK(cuMemAllocFromPoolAsync(&p, MIB, pool, NULL));
    OK(cuMemPoolDestroy(pool));
    memset((void *)p, 1, MIB); // blocks stay valid
    EXPECT(cuMemAllocFromPoolAsync(&p, MIB, pool, NULL), CUDA_ERROR_INVALID_VALUE);
    OK(cuMemFreeAsync(p, NULL));
    TRUE(free_bytes() == before);
}

static void contexts(void) {
    CUcontext context;
    CUdeviceptr plain, pooled;
    void *pinned;
    OK(cuInit(0));
    OK(cuCtxCreate(&context, NULL, 0, 1));
    OK(cuMemAlloc(&plain, 1000));
    OK(cuMemHostAlloc(&pinned, 2000, 0));
    OK(cuMemAllocAsync(&pooled, 4000, NULL));
    OK(cuCtxDestroy(context));
    EXPECT(cuCtxSynchronize(), CUDA_ERROR_INVALID_CONTEXT);
    begin();
    OK(cuMemAlloc(&plain, 3 * MIB));
    OK(cuMemAllocAsync(&pooled, 5000, NULL));
    OK(cuDevicePrimaryCtxReset(0));
    EXPECT(cuMemAlloc(&plain, 1000), CUDA_ERROR_CONTEXT_IS_DESTROYED);
    begin();
    OK(cuMemAlloc(&plain, 7000));
}

// ---- streams ------------------------------------------------------------------------------------

static void tell(void *data) {
    *(_Atomic int *)data = 1;
}

// Run with a delay of 20 ms.
static void stream_order(void) {
    CUstream stream, other;
    CUevent event;
    CUdeviceptr p;
    _Atomic int told = 0;
    char text[8] = "before";
    begin();
    OK(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
    OK(cuStreamCreate(&other, CU_STREAM_NON_BLOCKING));
    OK(cuEventCreate(&event, 0));
    OK(cuMemAlloc(&p, 8));
    OK(cuMemcpyHtoD(p, text, 8));
    OK(cuMemsetD8Async(p, 'x', 6, stream));
    OK(cuEventRecord(event, stream));
    EXPECT(cuStreamQuery(stream), CUDA_ERROR_NOT_READY);
    EXPECT(cuEventQuery(event), CUDA_ERROR_NOT_READY);
    OK(cuStreamWaitEvent(other, event, 0));
    OK(cuMemcpyDtoHAsync(text, p, 8, other));
    OK(cuLaunchHostFunc(other, tell, (void *)&told));
    EXPECT(told, 0);
    OK(cuStreamSynchronize(other));
    EXPECT(told, 1);
    OK(cuEventQuery(event));
    EXPECT(memcmp(text, "xxxxxx", 6), 0);
    // A free waits for what still uses the memory.
    OK(cuMemsetD8Async(p, 'y', 8, stream));
    OK(cuMemFree(p));
    OK(cuStreamQuery(stream));
}

// The function waits for the thread that queued it, as it may.
static void wait_for_caller(void *data) {
    while (!*(_Atomic int *)data) usleep(1000);
}

static void host_function(void) {
    _Atomic int released = 0;
    CUstream stream;
    begin();
    OK(cuStreamCreate(&stream, 0));
    OK(cuLaunchHostFunc(stream, wait_for_caller, (void *)&released));
    EXPECT(cuStreamQuery(stream), CUDA_ERROR_NOT_READY);
    released = 1;
    OK(cuStreamSynchronize(stream));
}

static void copies(void) {
    CUDA_ARRAY3D_DESCRIPTOR shape = {4, 3, 2, CU_AD_FORMAT_UNSIGNED_INT16, 1, 0};
    unsigned short out[2][3][4], in[2][3][4];
    CUarray array;
    CUdeviceptr p;
    size_t pitch;
    begin();
    for (int i = 0; i < 24; i++) ((unsigned short *)in)[i] = (unsigned short)(i * 3);
    OK(cuArray3DCreate(&array, &shape));
    CUDA_MEMCPY3D to_array = {.srcMemoryType = CU_MEMORYTYPE_HOST,
                              .srcHost = in,
                              .dstMemoryType = CU_MEMORYTYPE_ARRAY,
                              .dstArray = array,
                              .WidthInBytes = 8,
                              .Height = 3,
                              .Depth = 2};
    OK(cuMemcpy3D(&to_array));
    CUDA_MEMCPY3D to_host = {.srcMemoryType = CU_MEMORYTYPE_ARRAY,
                             .srcArray = array,
                             .dstMemoryType = CU_MEMORYTYPE_HOST,
                             .dstHost = out,
                             .WidthInBytes = 8,
                             .Height = 3,
                             .Depth = 2};
    OK(cuMemcpy3D(&to_host));
    EXPECT(memcmp(in, out, sizeof in), 0);
    OK(cuMemAllocPitch(&p, &pitch, 8, 6, 4));
    OK(cuMemsetD2D32(p, pitch, 0xAABBCCDD, 2, 6));
    EXPECT(*(unsigned *)(p + 5 * pitch + 4), 0xAABBCCDD);
    EXPECT(cuMemcpyDtoH(out, p, 7 * pitch), CUDA_ERROR_INVALID_VALUE); // beyond the end
}

// ---- graphs -------------------------------------------------------------------------------------

static uint64_t graph_value(CUgraphMem_attribute attribute) {
    uint64_t value;
    OK(cuDeviceGetGraphMemAttribute(0, attribute, &value));
    return value;
}

static void captured_memory(void) {
    CUstream stream;
    CUgraph graph;
    CUgraphExec exec;
    CUgraphNode nodes[5];
    CUdeviceptr kept, given;
    size_t count = 5;
    begin();
    OK(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
    OK(cuStreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_GLOBAL));
    OK(cuMemAllocAsync(&kept, 3 * MIB, stream));
    OK(cuMemAllocAsync(&given, MIB, stream));
    OK(cuMemsetD8Async(given, 'g', MIB, stream));
    OK(cuMemcpyDtoDAsync(kept, given, MIB, stream));
    OK(cuMemFreeAsync(given, stream));
    OK(cuStreamEndCapture(stream, &graph));
    OK(cuGraphGetNodes(graph, nodes, &count));
    EXPECT(count, 5);
    TRUE(graph_value(CU_GRAPH_MEM_ATTR_USED_MEM_CURRENT) == 0); // no memory before the launch
    OK(cuGraphInstantiate(&exec, graph, 0));
    OK(cuGraphLaunch(exec, stream));
    OK(cuStreamSynchronize(stream));
    EXPECT(((char *)kept)[MIB - 1], 'g');
    memset((void *)kept, 1, 3 * MIB);
    TRUE(graph_value(CU_GRAPH_MEM_ATTR_USED_MEM_CURRENT) == 4 * MIB);
    TRUE(graph_value(CU_GRAPH_MEM_ATTR_RESERVED_MEM_CURRENT) == 6 * MIB);
    EXPECT(cuGraphLaunch(exec, stream), CUDA_ERROR_INVALID_VALUE); // not freed since
    OK(cuMemFreeAsync(kept, stream));
    OK(cuGraphLaunch(exec, stream));
    OK(cuMemFree(kept));
    OK(cuDeviceGraphMemTrim(0));
    TRUE(graph_value(CU_GRAPH_MEM_ATTR_RESERVED_MEM_CURRENT) == 0);
    OK(cuGraphExecDestroy(exec));
    if (!getenv("KEEP_GRAPH")) OK(cuGraphDestroy(graph));
}

// An observer that allocated inside a capture would destroy it; so does the program itself.
static void allocation_while_capturing(void) {
    CUstream stream;
    CUgraph graph;
    CUdeviceptr p;
    begin();
    OK(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
    OK(cuStreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_GLOBAL));
    EXPECT(cuMemAlloc(&p, 1000), CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    EXPECT(cuStreamEndCapture(stream, &graph), CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
    OK(cuMemAlloc(&p, 1000));
    OK(cuStreamDestroy(stream));
    // The default stream waits for blocking streams, which a capturing one cannot have.
    OK(cuStreamCreate(&stream, CU_STREAM_DEFAULT));
    OK(cuStreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_RELAXED));
    EXPECT(cuMemsetD8Async(p, 0, 8, NULL), CUDA_ERROR_STREAM_CAPTURE_IMPLICIT);
    EXPECT(cuStreamEndCapture(stream, &graph), CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
}

static void forked_capture(void) {
    CUstream one, two;
    CUevent there, back;
    CUgraph graph;
    CUgraphExec exec;
    CUdeviceptr p;
    size_t edges;
    begin();
    OK(cuMemAlloc(&p, 64));
    OK(cuStreamCreate(&one, 0));
    OK(cuStreamCreate(&two, 0));
    OK(cuEventCreate(&there, 0));
    OK(cuEventCreate(&back, 0));
    OK(cuStreamBeginCapture(one, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL));
    OK(cuMemsetD8Async(p, 'a', 32, one));
    OK(cuEventRecord(there, one));
    OK(cuStreamWaitEvent(two, there, 0));
    OK(cuMemsetD8Async(p + 32, 'b', 32, two));
    OK(cuEventRecord(back, two));
    OK(cuStreamWaitEvent(one, back, 0));
    OK(cuMemcpyDtoDAsync(p, p + 32, 1, one));
    OK(cuStreamEndCapture(one, &graph));
    OK(cuGraphGetEdges(graph, NULL, NULL, NULL, &edges));
    EXPECT(edges, 3);
    memset((void *)p, 0, 64);
    OK(cuGraphInstantiate(&exec, graph, 0));
    OK(cuGraphLaunch(exec, one));
    OK(cuStreamSynchronize(one));
    EXPECT(((char *)p)[0], 'b');
    EXPECT(((char *)p)[1], 'a');
}

// ---- other processes ----------------------------------------------------------------------------

// The child is forked before cuInit, so both sides have a driver of their own.
static void between_processes(void) {
    int to_child[2], to_parent[2], status;
    CUipcMemHandle handle;
    CUdeviceptr p;
    char done;
    EXPECT(pipe(to_child), 0);
    EXPECT(pipe(to_parent), 0);
    pid_t child = fork();
    if (child == 0) {
        begin();
        EXPECT(read(to_child[0], &handle, sizeof handle), sizeof handle);
        OK(cuIpcOpenMemHandle(&p, handle, CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS));
        EXPECT(memcmp((void *)p, "parent", 6), 0);
        memcpy((void *)p, "child!", 6);
        if (!getenv("KEEP_OPEN")) OK(cuIpcCloseMemHandle(p));
        EXPECT(write(to_parent[1], "x", 1), 1);
        exit(0);
    }
    begin();
    OK(cuMemAlloc(&p, 5000)); // shares its page with others
    memcpy((void *)p, "parent", 6);
    OK(cuIpcGetMemHandle(&handle, p));
    EXPECT(write(to_child[1], &handle, sizeof handle), sizeof handle);
    EXPECT(read(to_parent[0], &done, 1), 1);
    EXPECT(memcmp((void *)p, "child!", 6), 0);
    OK(cuMemFree(p));
    EXPECT(waitpid(child, &status, 0), child);
    EXPECT(status, 0);
    printf("%d\n", child);
}

static void external_memory(void) {
    int file = memfd_create("external", 0);
    CUexternalMemory memory;
    CUdeviceptr p;
    begin();
    EXPECT(ftruncate(file, MIB), 0);
    EXPECT(pwrite(file, "data", 4, 4096), 4);
    CUDA_EXTERNAL_MEMORY_HANDLE_DESC desc = {
        .type = CU_EXTERNAL_MEMORY_HANDLE_TYPE_OPAQUE_FD, .handle.fd = file, .size = MIB};
    CUDA_EXTERNAL_MEMORY_BUFFER_DESC part = {.offset = 4096, .size = 100};
    OK(cuImportExternalMemory(&memory, &desc));
    OK(cuExternalMemoryGetMappedBuffer(&p, memory, &part));
    EXPECT(memcmp((void *)p, "data", 4), 0);
    if (getenv("STOP_BEFORE_RELEASE")) return;
    OK(cuMemFree(p));
    OK(cuDestroyExternalMemory(memory));
}

// ---- threads ------------------------------------------------------------------------------------

enum { THREADS = 8, ROUNDS = 20000, HELD = 64 };

static CUcontext shared_context;
static _Atomic uint64_t allocated;

// Every block carries its owner's mark at both ends: two threads with the same memory would see it.
static void *hammer(void *data) {
    unsigned state = (unsigned)(uintptr_t)data * 7919 + 1;
    struct {
        CUdeviceptr p;
        size_t size;
    } held[HELD] = {{0, 0}};
    OK(cuCtxSetCurrent(shared_context));
    for (int i = 0; i < ROUNDS; i++) {
        int at = rand_r(&state) % HELD;
        bool async = rand_r(&state) % 2;
        if (held[at].p) {
            TRUE(*(uint64_t *)held[at].p == (uintptr_t)data);
            TRUE(*(uint64_t *)(held[at].p + held[at].size - 8) == (uintptr_t)data);
            if (async)
                OK(cuMemFreeAsync(held[at].p, CU_STREAM_PER_THREAD));
            else
                OK(cuMemFree(held[at].p));
        }
        size_t size = (size_t)8 << rand_r(&state) % (i % 100 ? 12 : 20);
        if (async)
            OK(cuMemAllocAsync(&held[at].p, size, CU_STREAM_PER_THREAD));
        else
            OK(cuMemAlloc(&held[at].p, size));
        held[at].size = size;
        *(uint64_t *)held[at].p = *(uint64_t *)(held[at].p + size - 8) = (uintptr_t)data;
        allocated += size;
    }
    for (int i = 0; i < HELD; i++)
        if (held[i].p) OK(cuMemFree(held[i].p));
    return NULL;
}

static void threads(void) {
    pthread_t thread[THREADS];
    shared_context = begin();
    size_t before = free_bytes();
    for (uintptr_t i = 0; i < THREADS; i++)
        EXPECT(pthread_create(&thread[i], NULL, hammer, (void *)(i + 1)), 0);
    for (int i = 0; i < THREADS; i++) pthread_join(thread[i], NULL);
    OK(cuCtxSynchronize());
    TRUE(free_bytes() == before);
    printf("%llu\n", (unsigned long long)allocated);
}

// -------------------------------------------------------------------------------------------------

#define SCENARIO(name)                                                                             \
    { #name, name }

static const struct {
    const char *name;
    void (*run)(void);
} scenarios[] = {
    SCENARIO(families),
    SCENARIO(families_freed),
    SCENARIO(killed),
    SCENARIO(errors),
    SCENARIO(out_of_memory),
    SCENARIO(results_of_five),
    SCENARIO(memory_info),
    SCENARIO(context_memory),
    SCENARIO(green_context_memory),
    SCENARIO(after_exit_began),
    SCENARIO(child_of_fork),
    SCENARIO(lookups),
    SCENARIO(legacy),
    SCENARIO(virtual_memory),
    SCENARIO(multicast),
    SCENARIO(pools),
    SCENARIO(destroyed_pool),
    SCENARIO(contexts),
    SCENARIO(stream_order),
    SCENARIO(host_function),
    SCENARIO(copies),
    SCENARIO(captured_memory),
    SCENARIO(forked_capture),
    SCENARIO(allocation_while_capturing),
    SCENARIO(between_processes),
    SCENARIO(external_memory),
    SCENARIO(threads),
};

int main(int argc, char **argv) {
    for (size_t i = 0; argc == 2 && i < sizeof scenarios / sizeof *scenarios; i++) {
        if (strcmp(scenarios[i].name, argv[1]) != 0) continue;
        scenarios[i].run();
        return 0;
    }
    fprintf(stderr, "usage: scenarios NAME; the names are at the end of scenarios.c\n");
    return 2;
}

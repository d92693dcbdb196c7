// SPDX-License-Identifier: Apache-2.0
//
// One family of the runtime API per run, named by the argument: each function is called as a
// program would, what it gives is used and checked, and everything is given back. The same source
// is built against each CUDA release; the test compares the simulated GPU's books with what a
// family asks for.

#define _GNU_SOURCE // memfd_create

#include <cuda_runtime_api.h>

#include <dlfcn.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define MIB ((size_t)1 << 20)

#define MUST(call)                                                                                 \
    do {                                                                                           \
        cudaError_t error_ = (call);                                                               \
        if (error_ != cudaSuccess) {                                                               \
            fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #call,                          \
                    cudaGetErrorName(error_));                                                     \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #condition);              \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

static void check_bytes(const void *memory, int value, size_t count) {
    const unsigned char *bytes = memory;
    for (size_t i = 0; i < count; i++) CHECK(bytes[i] == (unsigned char)value);
}

static void linear(void) {
    void *a, *b, *nothing = &a;
    char host[4096];
    MUST(cudaMalloc(&a, 3 * MIB));
    MUST(cudaMalloc(&b, 1000));
    MUST(cudaMalloc(&nothing, 0));
    CHECK(nothing == NULL);
    memset(host, 7, sizeof host);
    MUST(cudaMemcpy(a, host, sizeof host, cudaMemcpyHostToDevice));
    MUST(cudaMemset((char *)a + 1000, 9, 1000));
    MUST(cudaMemcpy(b, (char *)a + 500, 1000, cudaMemcpyDeviceToDevice));
    memset(host, 0, sizeof host);
    MUST(cudaMemcpy(host, b, 1000, cudaMemcpyDefault));
    check_bytes(host, 7, 500);
    check_bytes(host + 500, 9, 500);

    struct cudaPointerAttributes about;
    MUST(cudaPointerGetAttributes(&about, (char *)a + 5));
    CHECK(about.type == cudaMemoryTypeDevice && about.device == 0);
    MUST(cudaPointerGetAttributes(&about, host));
    CHECK(about.type == cudaMemoryTypeUnregistered && about.device == cudaInvalidDeviceId);

    size_t before, after, total;
    MUST(cudaMemGetInfo(&after, &total));
    MUST(cudaFree(a));
    MUST(cudaMemGetInfo(&before, &total));
    CHECK(before >= after + 3 * MIB && before <= total);
    MUST(cudaFree(b));
    MUST(cudaFree(NULL));
}

static void pitched(void) {
    void *rows;
    size_t pitch;
    char host[20 * 10];
    MUST(cudaMallocPitch(&rows, &pitch, 100, 50));
    CHECK(pitch >= 100);
    MUST(cudaMemset2D(rows, pitch, 3, 100, 50));
    memset(host, 5, sizeof host);
    MUST(cudaMemcpy2D((char *)rows + pitch + 1, pitch, host, 20, 20, 10, cudaMemcpyHostToDevice));
    memset(host, 0, sizeof host);
    MUST(cudaMemcpy2D(host, 20, rows, pitch, 20, 2, cudaMemcpyDeviceToHost));
    check_bytes(host, 3, 21);
    check_bytes(host + 21, 5, 19);
    CHECK(cudaMemcpy2D(host, 10, rows, pitch, 20, 2, cudaMemcpyDeviceToHost) ==
          cudaErrorInvalidPitchValue);
    MUST(cudaFree(rows));
}

static void volumes(void) {
    struct cudaPitchedPtr volume;
    struct cudaExtent extent = {.width = 64, .height = 8, .depth = 4};
    char host[64 * 8 * 4] = {0};
    MUST(cudaMalloc3D(&volume, extent));
    CHECK(volume.pitch >= 64 && volume.xsize == 64 && volume.ysize == 8);
    MUST(cudaMemset3D(volume, 4, extent));
    struct cudaMemcpy3DParms copy = {
        .srcPtr = volume,
        .dstPtr = {.ptr = host, .pitch = 64, .xsize = 64, .ysize = 8},
        .extent = extent,
        .kind = cudaMemcpyDeviceToHost,
    };
    MUST(cudaMemcpy3D(&copy));
    check_bytes(host, 4, sizeof host);
    MUST(cudaFree(volume.ptr));
}

static void arrays(void) {
    struct cudaChannelFormatDesc floats =
        cudaCreateChannelDesc(32, 32, 0, 0, cudaChannelFormatKindFloat);
    cudaArray_t flat, deep, level;
    cudaMipmappedArray_t mipmapped;
    char host[16 * 8 * 4] = {0};
    MUST(cudaMallocArray(&flat, &floats, 16, 4, cudaArrayDefault));
    memset(host, 6, sizeof host);
    MUST(cudaMemcpy2DToArray(flat, 0, 0, host, 128, 128, 4, cudaMemcpyHostToDevice));
    memset(host, 0, sizeof host);
    MUST(cudaMemcpy2DFromArray(host, 128, flat, 0, 1, 128, 2, cudaMemcpyDeviceToHost));
    check_bytes(host, 6, 256);

    struct cudaChannelFormatDesc desc;
    struct cudaExtent extent;
    unsigned flags;
    MUST(cudaArrayGetInfo(&desc, &extent, &flags, flat));
    CHECK(desc.x == 32 && desc.y == 32 && desc.z == 0 && desc.f == cudaChannelFormatKindFloat);
    CHECK(extent.width == 16 && extent.height == 4 && extent.depth == 0);

    MUST(cudaMalloc3DArray(&deep, &floats, (struct cudaExtent){.width = 8, .height = 4, .depth = 2},
                           0));
    MUST(cudaMallocMipmappedArray(&mipmapped, &floats,
                                  (struct cudaExtent){.width = 32, .height = 32}, 3, 0));
    MUST(cudaGetMipmappedArrayLevel(&level, mipmapped, 1));
    MUST(cudaArrayGetInfo(NULL, &extent, NULL, level));
    CHECK(extent.width == 16 && extent.height == 16);
    struct cudaChannelFormatDesc odd =
        cudaCreateChannelDesc(7, 0, 0, 0, cudaChannelFormatKindSigned);
    CHECK(cudaMallocArray(&level, &odd, 4, 4, 0) == cudaErrorInvalidChannelDescriptor);
    MUST(cudaFreeMipmappedArray(mipmapped));
    MUST(cudaFreeArray(deep));
    MUST(cudaFreeArray(flat));
    MUST(cudaFreeArray(NULL));
}

static void host(void) {
    void *a, *b, *on_device;
    unsigned flags;
    struct cudaPointerAttributes about;
    MUST(cudaMallocHost(&a, 5000));
    MUST(cudaHostAlloc(&b, 7000, cudaHostAllocMapped | cudaHostAllocPortable));
    MUST(cudaHostGetDevicePointer(&on_device, b, 0));
    MUST(cudaHostGetFlags(&flags, b));
    CHECK(on_device && flags & cudaHostAllocMapped);
    memset(a, 1, 5000);
    memset(b, 1, 7000);
    MUST(cudaPointerGetAttributes(&about, a));
    CHECK(about.type == cudaMemoryTypeHost && about.hostPointer == a);

    void *pages = aligned_alloc(4096, 8192);
    MUST(cudaHostRegister(pages, 8192, cudaHostRegisterDefault));
    CHECK(cudaHostRegister(pages, 8192, 0) == cudaErrorHostMemoryAlreadyRegistered);
    MUST(cudaHostUnregister(pages));
    free(pages);
    MUST(cudaFreeHost(b));
    MUST(cudaFreeHost(a));
    MUST(cudaFreeHost(NULL));
}

static void managed(void) {
    void *memory;
    struct cudaPointerAttributes about;
    MUST(cudaMallocManaged(&memory, MIB, cudaMemAttachGlobal));
    memset(memory, 2, MIB);
    MUST(cudaPointerGetAttributes(&about, memory));
    CHECK(about.type == cudaMemoryTypeManaged);
#if CUDART_VERSION >= 13000
    struct cudaMemLocation device = {.type = cudaMemLocationTypeDevice, .id = 0};
    MUST(cudaMemAdvise(memory, MIB, cudaMemAdviseSetPreferredLocation, device));
    MUST(cudaMemPrefetchAsync(memory, MIB, device, 0, 0));
#else
    MUST(cudaMemAdvise(memory, MIB, cudaMemAdviseSetPreferredLocation, 0));
    MUST(cudaMemPrefetchAsync(memory, MIB, 0, 0));
#endif
    MUST(cudaDeviceSynchronize());
    check_bytes(memory, 2, 100);
    MUST(cudaFree(memory));
}

static void stream_ordered(void) {
    cudaStream_t stream;
    cudaEvent_t start, end;
    cudaMemPool_t pool, own;
    void *a, *b, *c;
    float milliseconds;
    uint64_t threshold = UINT64_MAX, reserved;
    MUST(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    MUST(cudaEventCreate(&start));
    MUST(cudaEventCreateWithFlags(&end, cudaEventBlockingSync));
    MUST(cudaEventRecord(start, stream));
    MUST(cudaDeviceGetDefaultMemPool(&pool, 0));
    MUST(cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &threshold));
    MUST(cudaMallocAsync(&a, 2 * MIB, stream));
    MUST(cudaMemsetAsync(a, 1, MIB, stream));
    MUST(cudaFreeAsync(a, stream));
    MUST(cudaStreamSynchronize(stream));
    MUST(cudaMemPoolGetAttribute(pool, cudaMemPoolAttrReservedMemCurrent, &reserved));
    CHECK(reserved >= 2 * MIB);
    MUST(cudaMemPoolTrimTo(pool, 0));
    MUST(cudaMemPoolGetAttribute(pool, cudaMemPoolAttrReservedMemCurrent, &reserved));
    CHECK(reserved == 0);

    struct cudaMemPoolProps props = {
        .allocType = cudaMemAllocationTypePinned,
        .location = {.type = cudaMemLocationTypeDevice, .id = 0},
    };
    MUST(cudaMemPoolCreate(&own, &props));
    MUST(cudaMallocFromPoolAsync(&b, 3000, own, stream));
    MUST(cudaFree(b)); // freed as ordinary memory
    MUST(cudaMalloc(&c, 4000));
    MUST(cudaFreeAsync(c, stream)); // and the other way round
    MUST(cudaEventRecord(end, stream));
    MUST(cudaEventSynchronize(end));
    MUST(cudaEventElapsedTime(&milliseconds, start, end));
    MUST(cudaMemPoolDestroy(own));
    MUST(cudaEventDestroy(start));
    MUST(cudaEventDestroy(end));
    MUST(cudaStreamDestroy(stream));
}

// The default stream's memory: under per-thread default streams these are other functions.
static void default_stream(void) {
    void *memory, *pinned;
    MUST(cudaMallocHost(&pinned, 4096));
    MUST(cudaMallocAsync(&memory, MIB, 0));
    MUST(cudaMemsetAsync(memory, 8, 4096, 0));
    MUST(cudaMemcpyAsync(pinned, memory, 4096, cudaMemcpyDeviceToHost, 0));
    MUST(cudaFreeAsync(memory, 0));
    MUST(cudaStreamSynchronize(0));
    check_bytes(pinned, 8, 4096);
    MUST(cudaFreeHost(pinned));
}

static void add_one(void *counter) {
    ++*(int *)counter;
}

// The way to add nodes of any type, with a memory node (since CUDA 12).
static void add_general_node(cudaGraph_t graph) {
#if CUDART_VERSION >= 12000
    cudaGraphNode_t allocation, release;
    struct cudaGraphNodeParams wanted = {
        .type = cudaGraphNodeTypeMemAlloc,
        .alloc = {.poolProps = {.allocType = cudaMemAllocationTypePinned,
                                .location = {.type = cudaMemLocationTypeDevice, .id = 1}},
                  .bytesize = MIB}};
#    if CUDART_VERSION >= 13000
    MUST(cudaGraphAddNode(&allocation, graph, NULL, NULL, 0, &wanted));
#    else
    MUST(cudaGraphAddNode(&allocation, graph, NULL, 0, &wanted));
#    endif
    CHECK(wanted.alloc.dptr);
    MUST(cudaGraphAddMemFreeNode(&release, graph, &allocation, 1, wanted.alloc.dptr));
#else
    (void)graph;
#endif
}

static void graphs(void) {
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    cudaGraphNode_t allocation, call, release;
    cudaStream_t stream;
    int calls = 0;
    struct cudaMemAllocNodeParams wanted = {
        .poolProps = {.allocType = cudaMemAllocationTypePinned,
                      .location = {.type = cudaMemLocationTypeDevice, .id = 0}},
        .bytesize = 5 * MIB,
    };
    struct cudaHostNodeParams host_call = {.fn = add_one, .userData = &calls};
    MUST(cudaStreamCreate(&stream));
    MUST(cudaGraphCreate(&graph, 0));
    MUST(cudaGraphAddMemAllocNode(&allocation, graph, NULL, 0, &wanted));
    CHECK(wanted.dptr);
    MUST(cudaGraphAddHostNode(&call, graph, &allocation, 1, &host_call));
    MUST(cudaGraphAddMemFreeNode(&release, graph, &call, 1, wanted.dptr));
    add_general_node(graph);
    MUST(cudaGraphInstantiateWithFlags(&exec, graph, 0));
    MUST(cudaGraphLaunch(exec, stream));
    MUST(cudaGraphLaunch(exec, stream));
    MUST(cudaStreamSynchronize(stream));
    CHECK(calls == 2);
    MUST(cudaGraphExecDestroy(exec));
    MUST(cudaGraphDestroy(graph));
    MUST(cudaDeviceGraphMemTrim(0));
    MUST(cudaDeviceGraphMemTrim(1));
    MUST(cudaStreamDestroy(stream));
}

static void capture(void) {
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    cudaStream_t stream;
    enum cudaStreamCaptureStatus status;
    void *memory;
    size_t nodes = 0;
    MUST(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    MUST(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
    MUST(cudaMallocAsync(&memory, 6 * MIB, stream));
    MUST(cudaMemsetAsync(memory, 1, MIB, stream));
    MUST(cudaFreeAsync(memory, stream));
    MUST(cudaStreamIsCapturing(stream, &status));
    CHECK(status == cudaStreamCaptureStatusActive);
    MUST(cudaStreamEndCapture(stream, &graph));
    MUST(cudaGraphGetNodes(graph, NULL, &nodes));
    CHECK(nodes == 3);
#if CUDART_VERSION >= 12000
    MUST(cudaGraphInstantiate(&exec, graph, 0));
#else
    MUST(cudaGraphInstantiate(&exec, graph, NULL, NULL, 0));
#endif
    MUST(cudaGraphLaunch(exec, stream));
    MUST(cudaStreamSynchronize(stream));
    MUST(cudaGraphExecDestroy(exec));
    MUST(cudaGraphDestroy(graph));
    MUST(cudaStreamDestroy(stream));
}

// The other process opens the memory by its handle and sees what is in it.
static int ipc_child(int from_parent) {
    cudaIpcMemHandle_t handle;
    void *memory;
    unsigned char bytes[100];
    CHECK(read(from_parent, &handle, sizeof handle) == (ssize_t)sizeof handle);
    MUST(cudaIpcOpenMemHandle(&memory, handle, cudaIpcMemLazyEnablePeerAccess));
    MUST(cudaMemcpy(bytes, memory, sizeof bytes, cudaMemcpyDeviceToHost));
    check_bytes(bytes, 11, sizeof bytes);
    MUST(cudaIpcCloseMemHandle(memory));
    return 0;
}

static void ipc(void) {
    int ends[2], status;
    void *memory;
    cudaIpcMemHandle_t handle;
    CHECK(pipe(ends) == 0);
    pid_t child = fork(); // before the first call: afterwards a child has no GPU
    CHECK(child >= 0);
    if (child == 0) exit(ipc_child(ends[0]));
    MUST(cudaMalloc(&memory, MIB));
    MUST(cudaMemset(memory, 11, MIB));
    MUST(cudaIpcGetMemHandle(&handle, memory));
    CHECK(write(ends[1], &handle, sizeof handle) == (ssize_t)sizeof handle);
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    MUST(cudaFree(memory));
}

static void devices(void) {
    int count, device, value, version;
    struct cudaDeviceProp properties;
    void *on_second, *on_first;
    char bus_id[32], host[10];
    MUST(cudaGetDeviceCount(&count));
    CHECK(count == 2);
    MUST(cudaRuntimeGetVersion(&version));
    CHECK(version == CUDART_VERSION);
    MUST(cudaGetDeviceProperties(&properties, 1));
    CHECK(properties.totalGlobalMem > 0 && properties.warpSize == 32 && properties.name[0]);
    MUST(cudaDeviceGetAttribute(&value, cudaDevAttrComputeCapabilityMajor, 1));
    CHECK(value == properties.major);
    MUST(cudaDeviceGetPCIBusId(bus_id, sizeof bus_id, 1));
    MUST(cudaDeviceGetByPCIBusId(&device, bus_id));
    CHECK(device == 1);

    MUST(cudaMalloc(&on_first, MIB));
    MUST(cudaSetDevice(1));
    MUST(cudaMalloc(&on_second, 2 * MIB));
    MUST(cudaGetDevice(&device));
    CHECK(device == 1);
    MUST(cudaMemset(on_second, 12, MIB));
    MUST(cudaDeviceCanAccessPeer(&value, 1, 0));
    MUST(cudaDeviceEnablePeerAccess(0, 0));
    CHECK(cudaDeviceEnablePeerAccess(0, 0) == cudaErrorPeerAccessAlreadyEnabled);
    MUST(cudaMemcpyPeer(on_first, 0, on_second, 1, MIB));
    MUST(cudaMemcpy(host, on_first, sizeof host, cudaMemcpyDefault));
    check_bytes(host, 12, sizeof host);
    CHECK(cudaSetDevice(2) == cudaErrorInvalidDevice);
    MUST(cudaFree(on_second));
    MUST(cudaSetDevice(0));
    MUST(cudaFree(on_first));
}

static void callback(cudaStream_t stream, cudaError_t status, void *order) {
    (void)stream;
    CHECK(status == cudaSuccess);
    *(int *)order = *(int *)order * 10 + 2;
}

static void first_call(void *order) {
    *(int *)order = *(int *)order * 10 + 1;
}

static void host_calls(void) {
    cudaStream_t stream;
    int order = 0;
    MUST(cudaStreamCreateWithPriority(&stream, cudaStreamNonBlocking, 0));
    MUST(cudaLaunchHostFunc(stream, first_call, &order));
    MUST(cudaStreamAddCallback(stream, callback, &order, 0));
    MUST(cudaStreamSynchronize(stream));
    MUST(cudaStreamQuery(stream));
    CHECK(order == 12);
    MUST(cudaStreamDestroy(stream));
}

static void external(void) {
    int fd = memfd_create("external", 0);
    CHECK(fd >= 0 && ftruncate(fd, 2 * MIB) == 0);
    cudaExternalMemory_t memory;
    void *mapped;
    struct cudaExternalMemoryHandleDesc desc = {
        .type = cudaExternalMemoryHandleTypeOpaqueFd, .handle.fd = fd, .size = 2 * MIB};
    struct cudaExternalMemoryBufferDesc part = {.offset = MIB, .size = MIB};
    MUST(cudaImportExternalMemory(&memory, &desc));
    MUST(cudaExternalMemoryGetMappedBuffer(&mapped, memory, &part));
    MUST(cudaMemset(mapped, 13, MIB));
    MUST(cudaFree(mapped));
    MUST(cudaDestroyExternalMemory(memory));
}

static cudaError_t entry_point(const char *name, void **function, unsigned long long flags) {
#if CUDART_VERSION >= 13000
    enum cudaDriverEntryPointQueryResult found;
    return cudaGetDriverEntryPointByVersion(name, function, 12080, flags, &found);
#elif CUDART_VERSION >= 12000
    enum cudaDriverEntryPointQueryResult found;
    return cudaGetDriverEntryPoint(name, function, flags, &found);
#else
    return cudaGetDriverEntryPoint(name, function, flags);
#endif
}

// Driver functions by base name are the driver's own exported ones, of the right version and kind.
static void entry_points(void) {
    void *function;
    void *driver = dlopen("libcuda.so.1", RTLD_NOW);
#ifdef CUDA_API_PER_THREAD_DEFAULT_STREAM
    const char *by_default = "cuMemAllocAsync_ptsz";
#else
    const char *by_default = "cuMemAllocAsync";
#endif
    MUST(entry_point("cuMemAlloc", &function, cudaEnableDefault));
    CHECK(function == dlsym(driver, "cuMemAlloc_v2"));
    MUST(entry_point("cuMemAllocAsync", &function, cudaEnableDefault));
    CHECK(function == dlsym(driver, by_default));
    MUST(entry_point("cuMemAllocAsync", &function, cudaEnablePerThreadDefaultStream));
    CHECK(function == dlsym(driver, "cuMemAllocAsync_ptsz"));
    entry_point("cuNoSuchFunction", &function, cudaEnableDefault);
    CHECK(function == NULL);
    CHECK(entry_point("", &function, cudaEnableDefault) == cudaErrorInvalidValue);
}

// What nvcc generates for a kernel and a variable, written out: so every release's form of loading
// is used, whatever compiler is installed.
void **__cudaRegisterFatBinary(void *code);
void __cudaRegisterFatBinaryEnd(void **image);
void __cudaUnregisterFatBinary(void **image);
void __cudaRegisterFunction(void **image, const char *host, char *device, const char *name,
                            int threads, uint3 *tid, uint3 *bid, dim3 *block, dim3 *grid,
                            int *warp_size);
void __cudaRegisterVar(void **image, char *host, char *device, const char *name, int external,
                       size_t size, int constant, int global);
unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, size_t shared, cudaStream_t stream);
cudaError_t __cudaPopCallConfiguration(dim3 *grid, dim3 *block, size_t *shared, void *stream);

static void kernel_host_side(void) {
    dim3 grid, block;
    size_t shared;
    cudaStream_t stream;
    MUST(__cudaPopCallConfiguration(&grid, &block, &shared, &stream));
    CHECK(grid.x == 4 && block.y == 2 && shared == 64 && stream == 0);
    MUST(cudaLaunchKernel((const void *)kernel_host_side, grid, block, NULL, shared, stream));
}

static void use_kernel(const char *shadow) {
    char bytes[16] = "fifteen letters";
    CHECK(__cudaPushCallConfiguration((dim3){4, 1, 1}, (dim3){8, 2, 1}, 64, 0) == 0);
    kernel_host_side();
    MUST(cudaMemcpyToSymbol(shadow, bytes, sizeof bytes, 0, cudaMemcpyHostToDevice));
    memset(bytes, 0, sizeof bytes);
    MUST(cudaMemcpyFromSymbol(bytes, shadow, 7, 8, cudaMemcpyDeviceToHost));
    CHECK(strcmp(bytes, "letters") == 0);
    CHECK(cudaMemcpyToSymbol(shadow, bytes, 16, 1, cudaMemcpyDefault) == cudaErrorInvalidValue);
    MUST(cudaDeviceSynchronize());
}

static void kernel(void) {
    static char code[64] = "device code", variable[16];
    struct cudaFuncAttributes attributes;
    void **image = __cudaRegisterFatBinary(code);
    __cudaRegisterFunction(image, (const char *)kernel_host_side, NULL, "kernel", -1, NULL, NULL,
                           NULL, NULL, NULL);
    __cudaRegisterVar(image, variable, NULL, "variable", 0, sizeof variable, 0, 0);
    __cudaRegisterFatBinaryEnd(image);
    use_kernel(variable);
    MUST(cudaDeviceReset());
    use_kernel(variable);
    MUST(cudaSetDevice(1));
    use_kernel(variable);
    MUST(cudaFuncGetAttributes(&attributes, (const void *)kernel_host_side));
    __cudaUnregisterFatBinary(image);
    CHECK(cudaFuncGetAttributes(&attributes, (const void *)kernel_host_side) ==
          cudaErrorInvalidDeviceFunction);
    void *address;
    CHECK(cudaGetSymbolAddress(&address, variable) == cudaErrorInvalidSymbol);
}

// Each thread has its own device from its first call on, made by all at once.
static void *own_device(void *number) {
    int device = (int)(intptr_t)number % 2, found;
    MUST(cudaSetDevice(device));
    for (int i = 0; i < 100; i++) {
        void *memory;
        MUST(cudaMalloc(&memory, 1000));
        MUST(cudaGetDevice(&found));
        CHECK(found == device);
        struct cudaPointerAttributes about;
        MUST(cudaPointerGetAttributes(&about, memory));
        CHECK(about.device == device);
        MUST(cudaFree(memory));
    }
    return NULL;
}

static void threads(void) {
    pthread_t running[8];
    for (intptr_t i = 0; i < 8; i++)
        CHECK(pthread_create(&running[i], NULL, own_device, (void *)i) == 0);
    for (int i = 0; i < 8; i++) CHECK(pthread_join(running[i], NULL) == 0);
}

// What a reset takes is not freed by the program; the next call starts anew.
static void reset(void) {
    void *memory;
    MUST(cudaMalloc(&memory, MIB));
    MUST(cudaDeviceReset());
    MUST(cudaMalloc(&memory, 2 * MIB));
    MUST(cudaFree(memory));
    MUST(cudaDeviceReset());
}

static const struct {
    const char *name;
    void (*run)(void);
} families[] = {
    {"linear", linear},
    {"pitched", pitched},
    {"volumes", volumes},
    {"arrays", arrays},
    {"host", host},
    {"managed", managed},
    {"graphs", graphs},
    {"capture", capture},
    {"ipc", ipc},
    {"devices", devices},
    {"reset", reset},
    {"stream-ordered", stream_ordered},
    {"default-stream", default_stream},
    {"host-calls", host_calls},
    {"external", external},
    {"entry-points", entry_points},
    {"kernel", kernel},
    {"threads", threads},
};

int main(int argc, char **argv) {
    for (size_t i = 0; i < sizeof families / sizeof *families; i++) {
        if (argc != 2 || strcmp(argv[1], families[i].name) != 0) continue;
        families[i].run();
        CHECK(cudaGetLastError() == cudaSuccess || strcmp(argv[1], "linear") != 0);
        return 0;
    }
    fprintf(stderr, "usage: families FAMILY\n");
    return 2;
}

// SPDX-License-Identifier: Apache-2.0
//
// Uses GPU memory from several threads: faults [-l] [-w FIFO] [-c FILE] BLOCKS. Holds some blocks,
// says "ready", goes on allocating and freeing, frees the first ones, holds BLOCKS blocks at once,
// frees them. Prints how many calls failed and how many changed errno, so that a run in which
// something goes wrong in the recorder can be compared with one that has no recorder.
//   -l       linear memory only: for other kinds the simulated GPU needs descriptors and files
//   -w FIFO  when ready, waits until somebody has opened and closed FIFO
//   -c FILE  when ready, closes all descriptors but the standard ones and has FILE in their places
// build: -lcuda
#include <cuda.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { THREADS = 3, ROUNDS = 1500, HELD = 64, EARLY = 2000, AN_ERRNO = 77 };

static bool linear_only;
static CUcontext context;
static atomic_int failed, errno_changed;

// One call: its result counted, errno looked at.
#define CALL(call) (errno = AN_ERRNO, count(call))

static int count(CUresult result) {
    if (errno != AN_ERRNO) atomic_fetch_add(&errno_changed, 1);
    if (result != CUDA_SUCCESS) atomic_fetch_add(&failed, 1);
    return result == CUDA_SUCCESS;
}

static CUdeviceptr allocate(size_t bytes) {
    CUdeviceptr dptr = 0;
    CALL(cuMemAlloc(&dptr, bytes));
    return dptr;
}

static void use_virtual_memory(void) {
    CUmemAllocationProp prop = {.type = CU_MEM_ALLOCATION_TYPE_PINNED,
                                .location = {.type = CU_MEM_LOCATION_TYPE_DEVICE}};
    const size_t bytes = 4 << 20;
    CUmemGenericAllocationHandle handle;
    CUdeviceptr address;
    if (!CALL(cuMemCreate(&handle, bytes, &prop, 0))) return;
    if (!CALL(cuMemAddressReserve(&address, bytes, 0, 0, 0))) return;
    CALL(cuMemMap(address, bytes, 0, handle, 0));
    CALL(cuMemRelease(handle));
    CALL(cuMemUnmap(address, bytes));
    CALL(cuMemAddressFree(address, bytes));
}

static void use_pool(void) {
    CUmemPoolProps props = {.allocType = CU_MEM_ALLOCATION_TYPE_PINNED,
                            .location = {.type = CU_MEM_LOCATION_TYPE_DEVICE}};
    CUmemoryPool pool;
    CUstream stream;
    CUdeviceptr dptr;
    if (!CALL(cuMemPoolCreate(&pool, &props))) return;
    if (!CALL(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING))) return;
    if (CALL(cuMemAllocFromPoolAsync(&dptr, 5000, pool, stream)))
        CALL(cuMemFreeAsync(dptr, stream));
    CALL(cuStreamSynchronize(stream));
    CALL(cuStreamDestroy(stream));
    CALL(cuMemPoolDestroy(pool));
}

static void use_host_memory(void) {
    static _Thread_local char page[8192] __attribute__((aligned(4096)));
    CUdeviceptr managed;
    void *host;
    if (CALL(cuMemAllocHost(&host, 4096))) CALL(cuMemFreeHost(host));
    if (CALL(cuMemAllocManaged(&managed, 4096, CU_MEM_ATTACH_GLOBAL))) CALL(cuMemFree(managed));
    if (CALL(cuMemHostRegister(page, 4096, 0))) CALL(cuMemHostUnregister(page));
}

static void *churn(void *unused) {
    CUdeviceptr held[HELD] = {0};
    (void)unused;
    CALL(cuCtxSetCurrent(context));
    for (int i = 0; i < ROUNDS; i++) {
        CUdeviceptr *slot = &held[i % HELD];
        if (*slot) CALL(cuMemFree(*slot));
        *slot = allocate(256 + (size_t)i);
        if (!linear_only) use_host_memory();
        if (i % 16) continue;
        if (!linear_only) use_virtual_memory();
        if (!linear_only) use_pool();
        allocate((size_t)1 << 60);        // more than there is
        CALL(cuMemFree((CUdeviceptr)64)); // never allocated
    }
    for (int i = 0; i < HELD; i++)
        if (held[i]) CALL(cuMemFree(held[i]));
    return NULL;
}

static void churn_in_threads(void) {
    pthread_t thread[THREADS];
    for (int i = 0; i < THREADS; i++)
        if (pthread_create(&thread[i], NULL, churn, NULL) != 0) thread[i] = pthread_self();
    for (int i = 0; i < THREADS; i++)
        if (pthread_equal(thread[i], pthread_self()))
            churn(NULL); // no more threads for us: the same calls, one after the other
        else
            pthread_join(thread[i], NULL);
}

static void wait_until_closed(const char *fifo) {
    char byte;
    int fd = open(fifo, O_RDONLY);
    if (fd < 0) return;
    while (read(fd, &byte, 1) > 0) {
    }
    close(fd);
}

static void replace_descriptors(const char *path) {
    int file = open(path, O_RDWR);
    if (file < 0) abort();
    for (int fd = STDERR_FILENO + 1; fd < 2000; fd++)
        if (fd != file) dup2(file, fd);
}

static CUdeviceptr *hold(size_t blocks) {
    CUdeviceptr *held = calloc(blocks, sizeof *held);
    if (!held) abort();
    for (size_t i = 0; i < blocks; i++) held[i] = allocate(512);
    return held;
}

static void let_go(CUdeviceptr *held, size_t blocks) {
    for (size_t i = 0; i < blocks; i++) CALL(cuMemFree(held[i]));
    free(held);
}

static int usage(void) {
    fprintf(stderr, "usage: faults [-l] [-w FIFO] [-c FILE] BLOCKS\n");
    return 2;
}

int main(int argc, char **argv) {
    const char *fifo = NULL, *file = NULL;
    for (int option; (option = getopt(argc, argv, "lw:c:")) != -1;) switch (option) {
        case 'l':
            linear_only = true;
            break;
        case 'w':
            fifo = optarg;
            break;
        case 'c':
            file = optarg;
            break;
        default:
            return usage();
        }
    if (optind + 1 != argc) return usage();
    CALL(cuInit(0));
    CALL(cuDevicePrimaryCtxRetain(&context, 0));
    CALL(cuCtxSetCurrent(context));
    CUdeviceptr *early = hold(EARLY);
    puts("ready");
    fflush(stdout);
    if (fifo) wait_until_closed(fifo);
    if (file) replace_descriptors(file);
    churn_in_threads();
    let_go(early, EARLY);
    size_t blocks = strtoul(argv[optind], NULL, 10);
    let_go(hold(blocks), blocks);
    printf("failed: %d, errno changed: %d\n", failed, errno_changed);
    return 3;
}

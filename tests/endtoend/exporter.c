// SPDX-License-Identifier: Apache-2.0
//
// The process that shares its memory (exporter.h): it answers requests over a socket until this
// process has ended.
#include "exporter.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { FD_HANDLE = 1, PINNED_TYPE = 1 }; // as in driver_rows.c

struct request {
    bool pool;
    int device;
    size_t bytes;
};

static int requests;
static pthread_mutex_t one_at_a_time = PTHREAD_MUTEX_INITIALIZER;

static _Noreturn void fail(const char *what) {
    fprintf(stderr, "exporter: %s failed\n", what);
    exit(1);
}

// ---- the other process -------------------------------------------------------------------------

// Its calls of the driver: all return an mwResult, and their arguments are integers and pointers.
#define DRIVER(symbol, ...)                                                                        \
    do {                                                                                           \
        mwResult (*call_)() = (mwResult(*)())dlsym(dlopen("libcuda.so.1", RTLD_NOW), #symbol);     \
        if (!call_ || call_(__VA_ARGS__) != 0) fail(#symbol);                                      \
    } while (0)

static void allocate(const struct request *r, struct mwIpcHandle *handle) {
    mwPtr dptr;
    DRIVER(cuMemAlloc_v2, &dptr, r->bytes);
    DRIVER(cuIpcGetMemHandle, handle, dptr);
}

static void allocate_in_pool(const struct request *r, struct shared_pool *shared) {
    struct mwPoolProps props = {.allocType = PINNED_TYPE,
                                .handleTypes = FD_HANDLE,
                                .location = {MW_LOCATION_DEVICE, r->device}};
    mwHandle pool;
    mwPtr dptr;
    DRIVER(cuMemPoolCreate, &pool, &props);
    DRIVER(cuMemAllocFromPoolAsync, &dptr, r->bytes, pool, NULL);
    DRIVER(cuMemPoolExportToShareableHandle, &shared->fd, pool, FD_HANDLE, 0ull);
    DRIVER(cuMemPoolExportPointer, shared->pointer, dptr);
}

static void answer(int socket, const void *data, size_t size, int fd) {
    struct iovec part = {(void *)data, size};
    char space[CMSG_SPACE(sizeof fd)] = {0};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    if (fd >= 0) {
        message.msg_control = space;
        message.msg_controllen = sizeof space;
        struct cmsghdr *control = CMSG_FIRSTHDR(&message);
        *control = (struct cmsghdr){CMSG_LEN(sizeof fd), SOL_SOCKET, SCM_RIGHTS};
        memcpy(CMSG_DATA(control), &fd, sizeof fd);
    }
    if (sendmsg(socket, &message, 0) < 0) fail("sendmsg");
}

static _Noreturn void serve(int socket) {
    struct request r;
    mwHandle context;
    while (recv(socket, &r, sizeof r, 0) == sizeof r) {
        DRIVER(cuInit, 0);
        DRIVER(cuDevicePrimaryCtxRetain, &context, r.device);
        DRIVER(cuCtxSetCurrent, context);
        if (r.pool) {
            struct shared_pool pool = {.fd = -1};
            allocate_in_pool(&r, &pool);
            answer(socket, &pool, sizeof pool, pool.fd);
            close(pool.fd);
        } else {
            struct mwIpcHandle handle;
            allocate(&r, &handle);
            answer(socket, &handle, sizeof handle, -1);
        }
    }
    exit(0);
}

// ---- this process ------------------------------------------------------------------------------

void exporter_start(void) {
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair)) fail("socketpair");
    pid_t child = fork();
    if (child < 0) fail("fork");
    close(pair[child ? 1 : 0]);
    if (!child) serve(pair[1]);
    requests = pair[0];
}

// The descriptor that came along, or -1.
static int ask(const struct request *r, void *data, size_t size) {
    int fd = -1;
    struct iovec part = {data, size};
    char space[CMSG_SPACE(sizeof fd)];
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = space, .msg_controllen = sizeof space};
    pthread_mutex_lock(&one_at_a_time);
    if (send(requests, r, sizeof *r, 0) != sizeof *r) fail("send");
    if (recvmsg(requests, &message, 0) != (ssize_t)size) fail("recvmsg");
    pthread_mutex_unlock(&one_at_a_time);
    struct cmsghdr *control = CMSG_FIRSTHDR(&message);
    if (control) memcpy(&fd, CMSG_DATA(control), sizeof fd);
    return fd;
}

void exporter_memory(int device, size_t bytes, struct mwIpcHandle *handle) {
    ask(&(struct request){false, device, bytes}, handle, sizeof *handle);
}

void exporter_pool(int device, size_t bytes, struct shared_pool *pool) {
    int fd = ask(&(struct request){true, device, bytes}, pool, sizeof *pool);
    pool->fd = fd;
}

// SPDX-License-Identifier: Apache-2.0
//
// Another tool's preload library that makes file space and address space slow to come by, as a busy
// disk or a machine short of memory does: each posix_fallocate and each anonymous mmap takes
// SLOW_GROWTH_MS milliseconds longer.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

static void be_slow(void) {
    const char *ms = getenv("SLOW_GROWTH_MS");
    if (ms) usleep((useconds_t)atoi(ms) * 1000);
}

int posix_fallocate(int fd, off_t offset, off_t bytes) {
    int (*next)(int, off_t, off_t) =
        (int (*)(int, off_t, off_t))dlsym(RTLD_NEXT, "posix_fallocate");
    be_slow();
    return next(fd, offset, bytes);
}

void *mmap(void *at, size_t bytes, int protection, int flags, int fd, off_t offset) {
    if (flags & MAP_NORESERVE && fd < 0) be_slow();
    return (void *)syscall(SYS_mmap, at, bytes, protection, flags, fd, offset);
}

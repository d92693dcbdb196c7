// SPDX-License-Identifier: Apache-2.0
//
// A disk that hangs: who begins to write a report waits until the file SLOW_REPORT is removed, and
// tells by SLOW_REPORT with ".waits" behind it that it does. Preloaded into `memwatch`.
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static void hang(void) {
    const char *until = getenv("SLOW_REPORT");
    char waits[4096];
    if (!until || snprintf(waits, sizeof waits, "%s.waits", until) >= (int)sizeof waits) return;
    syscall(SYS_openat, AT_FDCWD, waits, O_WRONLY | O_CREAT, 0600);
    while (access(until, F_OK) == 0) usleep(10000);
}

static int open_slowly(const char *path, int flags, int mode) {
    static const char ending[] = ".tmp";
    size_t n = strlen(path), m = sizeof ending - 1;
    if (flags & O_CREAT && n > m && !strcmp(path + n - m, ending)) hang();
    return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

#define OPEN(name)                                                                                 \
    int name(const char *path, int flags, ...) {                                                   \
        va_list more;                                                                              \
        va_start(more, flags);                                                                     \
        int mode = flags & O_CREAT ? va_arg(more, int) : 0;                                        \
        va_end(more);                                                                              \
        return open_slowly(path, flags, mode);                                                     \
    }
OPEN(open)
OPEN(open64)

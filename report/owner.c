// SPDX-License-Identifier: Apache-2.0
//
// Who a ledger belongs to, and how that process ended (owner.h).
#include "owner.h"

#include "../interpose/ledger_format.h"
#include "memwatch.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

// The fields up to the names stand at fixed offsets in every file of these formats: structs grow at
// their end only.
#define IDENTITY_BYTES offsetof(struct mw_header, boot_id)

// An open ledger, or -1. No link is followed but /proc's, to what this process has open.
static int open_ledger(const char *ledger, int mode, struct owner *out) {
    static const char own[] = "/proc/self/fd/";
    int follow = strncmp(ledger, own, sizeof own - 1) ? O_NOFOLLOW : 0;
    int fd = open(ledger, mode | O_CLOEXEC | O_NONBLOCK | follow);
    if (fd < 0) return -1;
    struct mw_header h;
    struct stat st;
    // In a folder that all may write to, somebody else's file may bear the name of ours.
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || st.st_uid != geteuid() ||
        pread(fd, &h, IDENTITY_BYTES, 0) != (ssize_t)IDENTITY_BYTES ||
        memcmp(h.magic, MW_MAGIC, sizeof h.magic) != 0 || h.format < MW_FORMAT_OLDEST ||
        h.format > MW_FORMAT || h.order != MW_ORDER) {
        close(fd);
        return -1;
    }
    *out = (struct owner){(pid_t)h.pid, h.start_ticks, h.start_monotonic_ns, h.life, h.exit_kind};
    return fd;
}

bool owner_read(const char *ledger, struct owner *out) {
    int fd = open_ledger(ledger, O_RDONLY, out);
    if (fd < 0) return false;
    close(fd);
    return true;
}

// A ledger is made read-only (interpose/ledger.c says why).
static int open_to_write(const char *ledger, struct owner *out) {
    int fd = open_ledger(ledger, O_RDONLY, out);
    if (fd < 0) return -1;
    fchmod(fd, 0600);
    close(fd);
    fd = open_ledger(ledger, O_RDWR, out);
    if (fd >= 0) fchmod(fd, 0400);
    return fd;
}

static bool store_exit(const char *ledger, uint32_t kind, int32_t value) {
    struct owner owner;
    int fd = open_to_write(ledger, &owner);
    if (fd < 0) return false;
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    uint64_t now = (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
    uint64_t ended = now > owner.start_monotonic_ns ? now - owner.start_monotonic_ns : 0;
    // The kind last: a reader that sees it finds the rest in place.
    bool ok = owner.exit_kind != MW_EXIT_UNKNOWN ||
              (pwrite(fd, &ended, sizeof ended, offsetof(struct mw_header, ended_ns)) ==
                   (ssize_t)sizeof ended &&
               pwrite(fd, &value, sizeof value, offsetof(struct mw_header, exit_value)) ==
                   (ssize_t)sizeof value &&
               pwrite(fd, &kind, sizeof kind, offsetof(struct mw_header, exit_kind)) ==
                   (ssize_t)sizeof kind);
    close(fd);
    return ok;
}

bool owner_ended(const char *ledger, int status) {
    if (WIFSIGNALED(status)) return store_exit(ledger, MW_EXIT_SIGNAL, WTERMSIG(status));
    return store_exit(ledger, MW_EXIT_CODE, WEXITSTATUS(status));
}

bool owner_executed(const char *ledger) {
    return store_exit(ledger, MW_EXIT_EXEC, 0);
}

// The start time in memwatch.<host>[.rank<N>].<pid>.<start unix ms>.ledger if the pid is this one,
// else 0. Hosts may hold dots, so the name is read from its end.
static uint64_t started_ms(const char *name, pid_t pid) {
    if (strncmp(name, "memwatch.", 9) != 0) return 0;
    const char *dots[3]; // before the suffix, the time, the pid
    const char *end = name + strlen(name);
    for (int i = 0; i < 3; i++) {
        while (end > name && *--end != '.') {
        }
        if (end == name) return 0;
        dots[i] = end;
    }
    if (strcmp(dots[0], ".ledger") != 0) return 0;
    char *stop;
    if (strtol(dots[2] + 1, &stop, 10) != pid || stop != dots[1]) return 0;
    uint64_t ms = strtoull(dots[1] + 1, &stop, 10);
    return stop == dots[0] ? ms : 0;
}

bool owner_find(pid_t pid, uint64_t start_ticks, char *path, size_t bytes) {
    const char *places[LEDGER_FOLDERS];
    size_t count = ledger_folders(places);
    uint64_t latest = 0; // a process that executed another program may have several
    for (size_t i = 0; i < count; i++) {
        DIR *dir = opendir(places[i]);
        for (struct dirent *e; dir && (e = readdir(dir));) {
            struct owner owner;
            char candidate[PATH_MAX];
            uint64_t ms = started_ms(e->d_name, pid);
            int n = snprintf(candidate, sizeof candidate, "%s/%s", places[i], e->d_name);
            if (ms <= latest || n >= (int)bytes || n >= (int)sizeof candidate) continue;
            if (!owner_read(candidate, &owner) || owner.pid != pid) continue;
            if (owner.start_ticks && start_ticks && owner.start_ticks != start_ticks) continue;
            memcpy(path, candidate, (size_t)n + 1);
            latest = ms;
        }
        if (dir) closedir(dir);
    }
    return latest > 0;
}

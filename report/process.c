// SPDX-License-Identifier: Apache-2.0
//
// Processes that are not ours (process.h). Everything comes from /proc and from pidfds; each fact
// that depends on a kernel version says which.
#include "process.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

// PIDFD_GET_INFO and its first struct (64 bytes), include/uapi/linux/pidfd.h of Linux 6.15. Spelled
// out here because the headers of Debian 12 and Ubuntu 24.04 are older than many kernels.
struct pidfd_info_v0 {
    uint64_t mask, cgroup;
    uint32_t pid, tgid, ppid, ids[8];
    int32_t exit_code;
};
static_assert(sizeof(struct pidfd_info_v0) == 64, "PIDFD_INFO_SIZE_VER0");
#define PIDFD_GET_INFO_V0  _IOWR(0xFF, 11, struct pidfd_info_v0)
#define PIDFD_INFO_EXIT_V0 (UINT64_C(1) << 3)

// /proc/PID/stat is one line; a name of 64 bytes and 52 numbers of 20 digits fit twice over.
static bool read_small(const char *path, char *text, size_t bytes) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return false;
    ssize_t n = read(fd, text, bytes - 1);
    close(fd);
    if (n <= 0) return false;
    text[n] = '\0';
    return true;
}

// The kernel shows field 52 (exit_code) to those who may trace the process and 0 to others, and
// does not say which. For a zombie the rule is: same user, or privileged.
static bool may_see_status(pid_t pid) {
    char path[32];
    struct stat st;
    snprintf(path, sizeof path, "/proc/%d", (int)pid);
    return geteuid() == 0 || (stat(path, &st) == 0 && st.st_uid == geteuid());
}

bool process_read_stat(pid_t pid, struct process_stat *out) {
    char path[40], text[2048];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    if (!read_small(path, text, sizeof text)) return false;
    // The name (field 2) may hold spaces and brackets; the last bracket ends it.
    char *at = strrchr(text, ')');
    if (!at || at[1] != ' ') return false;
    *out = (struct process_stat){.state = at[2]};
    char *save = NULL, *word = strtok_r(at + 2, " ", &save);
    for (int field = 3; word; word = strtok_r(NULL, " ", &save), field++) {
        if (field == 4) out->ppid = (pid_t)strtol(word, NULL, 10);
        if (field == 22) out->start_ticks = strtoull(word, NULL, 10);
        if (field == 52) out->status = (int)strtol(word, NULL, 10);
    }
    out->status_known = out->state == 'Z' && (out->status || may_see_status(pid));
    return true;
}

// A zombie may be only the first thread of a process whose other threads go on.
static bool has_other_threads(pid_t pid) {
    char path[40];
    snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
    DIR *dir = opendir(path);
    if (!dir) return false;
    int tasks = 0;
    for (struct dirent *e; (e = readdir(dir));) tasks += e->d_name[0] != '.';
    closedir(dir);
    return tasks > 1;
}

enum process_life process_life(pid_t pid, uint64_t start_ticks) {
    struct process_stat st;
    if (!process_read_stat(pid, &st)) {
        bool proc = access("/proc/self/stat", R_OK) == 0;
        bool somebody = kill(pid, 0) == 0 || errno == EPERM;
        return !proc && somebody ? PROCESS_RUNNING : PROCESS_GONE;
    }
    if (start_ticks && st.start_ticks != start_ticks) return PROCESS_GONE;
    if (st.state == 'X') return PROCESS_GONE;
    if (st.state == 'Z' && !has_other_threads(pid)) return PROCESS_ZOMBIE;
    return PROCESS_RUNNING;
}

int process_open(pid_t pid) {
    return (int)syscall(SYS_pidfd_open, pid, 0);
}

bool process_exit_status(int pidfd, int *status) {
    struct pidfd_info_v0 info = {.mask = PIDFD_INFO_EXIT_V0};
    if (ioctl(pidfd, PIDFD_GET_INFO_V0, &info) != 0) return false;
    if (!(info.mask & PIDFD_INFO_EXIT_V0)) return false;
    *status = info.exit_code;
    return true;
}

int process_maps(pid_t pid, const char *basename) {
    char path[40];
    snprintf(path, sizeof path, "/proc/%d/maps", (int)pid);
    FILE *maps = fopen(path, "re");
    if (!maps) return -1;
    char *line = NULL;
    size_t room = 0;
    int found = -1; // an ending process has no mappings at all: that tells nothing
    while (found != 1 && getline(&line, &room, maps) > 0) {
        const char *slash = strrchr(line, '/');
        size_t n = strlen(basename);
        found = slash && strncmp(slash + 1, basename, n) == 0 && strchr(" \n", slash[1 + n]);
    }
    if (ferror(maps)) found = -1;
    free(line);
    fclose(maps);
    return found;
}

static void close_between(unsigned first, unsigned last) {
    if (first > last || syscall(SYS_close_range, first, last, 0u) == 0) return;
    for (unsigned fd = first; fd <= last && fd < 4096; fd++) close((int)fd); // before Linux 5.9
}

void process_close_all_but(const int *keep, size_t count, bool standard) {
    // The lowest that is kept, of those that are left.
    for (unsigned from = standard ? STDERR_FILENO + 1 : 0;;) {
        unsigned next = ~0u;
        for (size_t i = 0; i < count; i++)
            if (keep[i] >= 0 && (unsigned)keep[i] >= from && (unsigned)keep[i] < next)
                next = (unsigned)keep[i];
        if (next > from) close_between(from, next == ~0u ? next : next - 1);
        if (next == ~0u) return;
        from = next + 1;
    }
}

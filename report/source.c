// SPDX-License-Identifier: Apache-2.0
//
// Files and processes → documents (source.h).
#include "source.h"

#include "owner.h"
#include "process.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

// Reports of 65536 threads have about this size; what is larger was not made by us.
#define MAX_JSON_BYTES (UINT64_C(512) << 20)

// ---- ledgers --------------------------------------------------------------------------------

static bool same_boot(const struct mw_header *h) {
    char now[sizeof h->boot_id] = "";
    int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    if (fd < 0) return true;
    ssize_t n = read(fd, now, sizeof now - 1);
    close(fd);
    if (n > 0 && now[n - 1] == '\n') now[n - 1] = '\0';
    return n <= 0 || !h->boot_id[0] || !strcmp(now, h->boot_id);
}

// The owner holds a record lock on the file while it lives. It may have lost it by closing all its
// descriptors; then its pid, its start and its mappings tell.
static bool owner_alive(const char *path, const struct mw_header *h) {
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 1};
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    bool locked = fd >= 0 && fcntl(fd, F_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
    if (fd >= 0) close(fd);
    if (locked) return true;
    if (h->exit_kind != MW_EXIT_UNKNOWN || !same_boot(h)) return false;
    const char *slash = strrchr(path, '/');
    return process_life((pid_t)h->pid, h->start_ticks) == PROCESS_RUNNING &&
           process_maps((pid_t)h->pid, slash ? slash + 1 : path) != 0;
}

static enum exit_code read_ledger(const char *path, const struct naming *naming,
                                  struct source *out) {
    struct model *m = allocate(1, sizeof *m);
    enum reader_status status = model_read(m, path);
    enum exit_code code = EXIT_OK;
    if (status == READER_OK) {
        out->alive = owner_alive(path, &m->reader.header);
        check_model(m, &out->check);
        out->report = report_document(m, &out->check, path, out->alive, naming);
        model_free(m);
    } else {
        const char *hint = status == READER_DAMAGED ? "; nothing of it can be trusted" : "";
        snprintf(out->error, sizeof out->error, "%s%s", m->reader.error, hint);
        code = status == READER_MISSING ? EXIT_NOTHING : EXIT_DAMAGED;
    }
    free(m);
    return code;
}

// ---- reports --------------------------------------------------------------------------------

static enum exit_code damaged(struct source *out, const char *what) {
    snprintf(out->error, sizeof out->error, "%s", what);
    return EXIT_DAMAGED;
}

// The whole file, terminated. The caller frees.
static char *read_file(int fd, uint64_t bytes) {
    char *text = malloc(bytes + 1);
    uint64_t n = 0;
    while (text && n < bytes) {
        ssize_t got = read(fd, text + n, bytes - n);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) break;
        n += (uint64_t)got;
    }
    if (text) text[n] = '\0';
    return text;
}

static enum exit_code read_report(int fd, uint64_t bytes, struct source *out) {
    if (bytes > MAX_JSON_BYTES) return damaged(out, "too large for a memwatch report");
    char *text = read_file(fd, bytes);
    cJSON *report = text ? cJSON_Parse(text) : NULL;
    free(text);
    if (!report) return damaged(out, "neither a ledger nor JSON, or cut short");
    const char *schema = json_text(report, "schema");
    const char *family = "memwatch-report/";
    if (schema && !strcmp(schema, MEMWATCH_SCHEMA)) {
        out->report = report;
        return EXIT_OK;
    }
    bool newer = schema && !strncmp(schema, family, strlen(family));
    cJSON_Delete(report);
    return damaged(out, newer ? "a report of a later version: use a later memwatch to read it"
                              : "JSON, but not a memwatch report");
}

// Both kinds of file tell what they are by their first byte.
enum exit_code source_read(const char *path, const struct naming *naming, struct source *out) {
    memset(out, 0, sizeof *out);
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    struct stat st;
    char first = 0;
    bool json = fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) &&
                pread(fd, &first, 1, 0) == 1 && first == '{';
    enum exit_code code = EXIT_OK;
    if (json) code = read_report(fd, (uint64_t)st.st_size, out);
    if (fd >= 0) close(fd);
    if (json) return code;
    out->is_ledger = true;
    return read_ledger(path, naming, out);
}

void source_free(struct source *source) {
    cJSON_Delete(source->report);
    source->report = NULL;
}

// ---- finding --------------------------------------------------------------------------------

static bool has_ends(const char *name, const char *front, const char *back) {
    size_t n = strlen(name), f = strlen(front), b = strlen(back);
    return n > f + b && !strncmp(name, front, f) && !strcmp(name + n - b, back);
}
bool is_ledger_name(const char *name) {
    return has_ends(name, "memwatch.", ".ledger");
}
bool is_report_name(const char *name) {
    return has_ends(name, "memwatch.", ".json");
}

// The start time in memwatch.<host>[.rank<N>].<pid>.<unix ms>.json if the pid is this one, else 0.
// Hosts may hold dots, so it is read from its end.
static unsigned long long report_of(const char *name, long pid) {
    char text[NAME_MAX + 1], *end;
    if (!is_report_name(name) || snprintf(text, sizeof text, "%s", name) > NAME_MAX) return 0;
    *strrchr(text, '.') = '\0';
    char *ms = strrchr(text, '.');
    *ms = '\0';
    char *number = strrchr(text, '.');
    if (!number || strtol(number + 1, &end, 10) != pid || *end || end == number + 1) return 0;
    return strtoull(ms + 1, &end, 10);
}

bool source_find(long pid, char *path, size_t bytes) {
    if (owner_find((pid_t)pid, 0, path, bytes)) return true;
    struct report_folders folders;
    char cwd[PATH_MAX];
    const char *configured = getenv("MEMWATCH_DIR");
    unsigned long long latest = 0;
    report_folders(configured ? configured : "", getcwd(cwd, sizeof cwd) ? cwd : "", &folders);
    for (size_t i = 0; i < folders.count; i++) {
        DIR *dir = opendir(folders.path[i]);
        for (struct dirent *e; dir && (e = readdir(dir));) {
            unsigned long long ms = report_of(e->d_name, pid);
            if (ms <= latest) continue;
            if (snprintf(path, bytes, "%s/%s", folders.path[i], e->d_name) < (int)bytes)
                latest = ms;
        }
        if (dir) closedir(dir);
    }
    return latest > 0;
}

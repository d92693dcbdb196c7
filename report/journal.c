// SPDX-License-Identifier: Apache-2.0
//
// The list of ledgers and reports of one `memwatch run` (journal.h). A line is
//
//     ledger's path <tab> report's path or nothing <tab> live bytes, live blocks, lost events
//
// Paths with a tab or a line feed are left out: then `run` finds the ledger by the process's id, or
// says nothing of it.
#define _GNU_SOURCE // mkostemp
#include "journal.h"

#include "memwatch.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define VARIABLE "MEMWATCH_RUN"

// Seconds. The monitor of a program that ends with its killed run still reads what was captured.
#define LEFT_AFTER 60

static int descriptor = -1;

bool journal_create(void) {
    const char *const places[] = {getenv("XDG_RUNTIME_DIR"), getenv("TMPDIR"), "/dev/shm", "/tmp"};
    unsetenv(VARIABLE); // of a run around this one
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        char path[PATH_MAX];
        if (!places[i] || places[i][0] != '/') continue;
        if (snprintf(path, sizeof path, "%s/memwatch-run.XXXXXX", places[i]) >= (int)sizeof path)
            continue;
        int made = mkostemp(path, O_CLOEXEC);
        if (made < 0) continue;
        // Not one of the standard three, which may be closed and shall stay so.
        int fd = fcntl(made, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
        close(made);
        journal_sweep(places[i]);
        // Without a lock a sweep of others would take it after a minute of silence.
        if (flock(fd, LOCK_EX | LOCK_NB) == 0 && setenv(VARIABLE, path, 1) == 0) {
            descriptor = fd;
            return true;
        }
        if (fd >= 0) close(fd);
        unlink(path);
    }
    return false;
}

int journal_descriptor(void) {
    return descriptor;
}

bool journal_is_kept(void) {
    const char *path = getenv(VARIABLE);
    return path && access(path, W_OK) == 0;
}

void journal_note(const char *ledger, const struct rendered *rendered) {
    static const struct rendered nothing;
    const struct rendered *r = rendered ? rendered : &nothing;
    const char *path = getenv(VARIABLE);
    char line[PATH_MAX + sizeof r->path + 100];
    if (!path || strpbrk(ledger, "\t\n") || strpbrk(r->path, "\t\n")) return;
    int n = snprintf(line, sizeof line, "%s\t%s\t%" PRIu64 " %" PRIu64 " %" PRIu64 "\n", ledger,
                     r->path, r->live_bytes, r->live_blocks, r->losses);
    if (n >= (int)sizeof line) return;
    int fd = open(path, O_WRONLY | O_APPEND | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0) return;
    // A line that could not be written costs a line of the summary, nothing else.
    ssize_t written = write(fd, line, (size_t)n);
    (void)written;
    close(fd);
}

struct journal_entry *journal_entry(struct journal *list, const char *ledger) {
    for (size_t i = 0; i < list->count; i++)
        if (strcmp(list->entry[i].ledger, ledger) == 0) return &list->entry[i];
    struct journal_entry *grown = realloc(list->entry, (list->count + 1) * sizeof *grown);
    if (!grown) return NULL;
    list->entry = grown;
    char *name = strdup(ledger);
    if (!name) return NULL;
    grown[list->count] = (struct journal_entry){.ledger = name};
    return &grown[list->count++];
}

void journal_rendered(struct journal_entry *entry, const struct rendered *rendered) {
    free(entry->report);
    entry->report = strdup(rendered->path);
    entry->live_bytes = rendered->live_bytes;
    entry->live_blocks = rendered->live_blocks;
    entry->losses = rendered->losses;
}

// One line, cut at its tabs. A line without its end is one whose writer was killed in the middle.
static void read_line(struct journal *list, char *line) {
    struct rendered r = {0};
    char *report = strchr(line, '\t'), *numbers = report ? strchr(report + 1, '\t') : NULL;
    if (!numbers || !strchr(numbers, '\n')) return;
    *report++ = *numbers++ = '\0';
    struct journal_entry *e = journal_entry(list, line);
    if (!e) return;
    e->watched = true;
    if (!*report || strlen(report) >= sizeof r.path) return;
    strcpy(r.path, report);
    if (sscanf(numbers, "%" SCNu64 "%" SCNu64 "%" SCNu64, &r.live_bytes, &r.live_blocks,
               &r.losses) == 3)
        journal_rendered(e, &r);
}

void journal_read(struct journal *list) {
    const char *path = getenv(VARIABLE);
    FILE *file = path ? fopen(path, "re") : NULL;
    if (!file) return;
    char *line = NULL;
    size_t room = 0;
    while (getline(&line, &room, file) > 0) read_line(list, line);
    free(line);
    fclose(file);
}

void journal_free(struct journal *list) {
    for (size_t i = 0; i < list->count; i++) {
        free(list->entry[i].ledger);
        free(list->entry[i].report);
    }
    free(list->entry);
    *list = (struct journal){0};
}

// ---- what killed runs leave -----------------------------------------------------------------

// The files of a run, the journal last: as long as it is there the others are found.
static const char *const kinds[] = {"orders", "stderr", "run"};
#define KINDS (sizeof kinds / sizeof kinds[0])

static bool is_left(int folder, const char *name, const char *which) {
    struct stat st;
    bool quiet = true;
    int fd = openat(folder, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0) return false;
    bool ours = fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_uid == geteuid();
    for (size_t i = 0; i < KINDS && ours; i++) {
        char other[64];
        snprintf(other, sizeof other, "memwatch-%s.%s", kinds[i], which);
        if (fstatat(folder, other, &st, AT_SYMLINK_NOFOLLOW) == 0)
            quiet &= st.st_mtime + LEFT_AFTER < time(NULL);
    }
    bool left = ours && quiet && flock(fd, LOCK_EX | LOCK_NB) == 0;
    close(fd);
    return left;
}

size_t journal_sweep(const char *folder) {
    static const char prefix[] = "memwatch-run.";
    DIR *dir = opendir(folder);
    size_t runs = 0;
    for (struct dirent *e; dir && (e = readdir(dir));) {
        const char *which = e->d_name + sizeof prefix - 1;
        if (strncmp(e->d_name, prefix, sizeof prefix - 1) != 0 || strlen(which) != 6 ||
            !is_left(dirfd(dir), e->d_name, which))
            continue;
        for (size_t i = 0; i < KINDS; i++) {
            char name[64];
            snprintf(name, sizeof name, "memwatch-%s.%s", kinds[i], which);
            unlinkat(dirfd(dir), name, 0);
        }
        runs++;
    }
    if (dir) closedir(dir);
    return runs;
}

bool journal_beside(const char *what, char *path, size_t bytes) {
    static const char name[] = "/memwatch-run.";
    const char *journal = getenv(VARIABLE), *at = journal ? strstr(journal, name) : NULL;
    // The last one: a folder may be called so.
    for (const char *next = at; next; next = strstr(next + 1, name)) at = next;
    if (!at) return false;
    int n = snprintf(path, bytes, "%.*s/memwatch-%s.%s", (int)(at - journal), journal, what,
                     at + sizeof name - 1);
    return n > 0 && (size_t)n < bytes;
}

void journal_remove(void) {
    const char *path = getenv(VARIABLE);
    if (path) unlink(path);
    unsetenv(VARIABLE);
}

// SPDX-License-Identifier: Apache-2.0
//
// A ledger becomes a report file (memwatch.h).
//
// Several may render the same ledger at once: the monitor, `memwatch run`, somebody with `memwatch
// report`. Each writes a file of its own beside the final name and renames it, so that the final
// name always holds a whole report; and all make the same one, from the same file. Only one that
// was begun before the process's end is another, and may come last, for its disk is slow: so from
// the renaming to the ledger's removal its maker holds a lock on the ledger, and an interim report
// is renamed only if it gets that lock and the ledger still has its name.
#include "capture.h"
#include "emit.h"
#include "memwatch.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

__attribute__((format(printf, 2, 3))) static void explain(struct rendered *out, const char *format,
                                                          ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(out->error, sizeof out->error, format, arguments);
    va_end(arguments);
}

static bool write_all(int fd, const char *text, size_t bytes) {
    while (bytes) {
        ssize_t n = write(fd, text, bytes);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return false;
        text += n;
        bytes -= (size_t)n;
    }
    return true;
}

// The lock, for `ms` milliseconds at most. A file system without such locks does without.
static bool lock_ledger(int fd, int ms) {
    while (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        if (errno != EWOULDBLOCK) return true;
        if (ms <= 0) return false;
        poll(NULL, 0, 10);
        ms -= 10;
    }
    return true;
}

// A report on its way.
struct making {
    const char *ledger; // its name
    int fd;             // the open ledger
    bool has_name;      // or had, when it was opened
    bool interim;       // another report comes later
    bool too_late;      // that one was there first
};

#define LOCK_MS 1000

static bool may_be_renamed(struct making *of) {
    struct stat st;
    if (!of->interim) return lock_ledger(of->fd, LOCK_MS), true;
    of->too_late =
        !lock_ledger(of->fd, 0) || (of->has_name && fstat(of->fd, &st) == 0 && st.st_nlink == 0);
    return !of->too_late;
}

// Writes `path` at once or not at all. errno tells why not.
static bool write_beside(const char *path, const char *text, struct making *of) {
    char beside[PATH_MAX + 32];
    int n = snprintf(beside, sizeof beside, "%s.%d.tmp", path, (int)getpid());
    if (n >= (int)sizeof beside) return errno = ENAMETOOLONG, false;
    unlink(beside); // of an earlier process with our pid
    int fd = open(beside, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0) return false;
    // No fsync: it may take seconds, which somebody may be waiting, and what it would survive, the
    // machine's end, the ledger does not survive either. A full network disk shows in close.
    bool ok = write_all(fd, text, strlen(text));
    int error = errno;
    if (close(fd) != 0 && ok) ok = false, error = errno;
    if (ok && !may_be_renamed(of)) ok = false, error = EEXIST;
    if (ok && rename(beside, path) != 0) ok = false, error = errno;
    if (!ok) unlink(beside);
    errno = error;
    return ok;
}

// The ledger's file name with another ending.
static void report_name(const char *ledger, char out[NAME_MAX + 8]) {
    const char *slash = strrchr(ledger, '/'), *name = slash ? slash + 1 : ledger;
    size_t n = strnlen(name, NAME_MAX);
    if (n > 7 && !strcmp(name + n - 7, ".ledger")) n -= 7;
    snprintf(out, NAME_MAX + 8, "%.*s.json", (int)n, name);
}

static bool write_somewhere(const struct model *m, struct making *of, const char *text,
                            struct rendered *out) {
    const struct mw_header *h = &m->reader.header;
    struct report_folders folders;
    char name[NAME_MAX + 8];
    report_name(of->ledger, name);
    report_folders(h->report_dir, h->cwd, &folders);
    for (size_t i = 0; i < folders.count; i++) {
        const char *slash = strcmp(folders.path[i], "/") ? "/" : "";
        snprintf(out->path, sizeof out->path, "%s%s%s", folders.path[i], slash, name);
        errno = EACCES;
        if (report_folder_ready(&folders, i) && write_beside(out->path, text, of)) return true;
        explain(out, "cannot write %.300s: %s", out->path, strerror(errno));
        if (of->too_late) break;
    }
    out->path[0] = '\0';
    return false;
}

static void sum_up(const struct model *m, struct rendered *out) {
    for (unsigned i = 0; i < m->accounts; i++) {
        if (!space_is_memory(m->account[i].space)) continue;
        struct held held = held_sum(&m->account[i].held, &m->account[i].ended);
        out->live_bytes += held.bytes;
        out->live_blocks += held.blocks;
    }
    // The other losses are no events, or of events that were recorded without their site, say, or
    // their stack: `coverage` of the report tells of them.
    static const enum mw_loss missing[] = {
        MW_LOSS_RECORDS, MW_LOSS_CELLS,   MW_LOSS_UNKNOWN_FREES,  MW_LOSS_REUSED_KEYS,
        MW_LOSS_WAKING,  MW_LOSS_TENSORS, MW_LOSS_UNKNOWN_TENSORS};
    for (size_t i = 0; i < sizeof missing / sizeof missing[0]; i++)
        out->losses += m->reader.header.losses[missing[i]];
}

// How long the names of native frames may take. In a report that will be written again, few of
// them may be missing for a while.
#define NAMING_MS         5000
#define NAMING_INTERIM_MS 2000

// What was learnt for the last report of this ledger is known for the next one, also of libraries
// whose files are gone by then.
static struct resolver *resolver_for(const char *ledger) {
    static struct resolver *kept;
    static char of[PATH_MAX];
    if (kept && !strcmp(of, ledger)) return kept;
    if (kept) resolver_free(kept);
    snprintf(of, sizeof of, "%s", ledger);
    return kept = resolver_new(NULL);
}

enum exit_code render_ledger(const char *ledger, const char *file, enum rendering rendering,
                             struct rendered *out) {
    struct model *m = allocate(1, sizeof *m);
    bool interim = rendering == RENDER_INTERIM;
    struct making making = {.ledger = ledger,
                            .fd = open(file, O_RDONLY | O_CLOEXEC | O_NONBLOCK),
                            .has_name = strcmp(file, ledger) == 0,
                            .interim = interim};
    struct check check;
    memset(out, 0, sizeof *out);
    if (model_read(m, file) != READER_OK) {
        explain(out, "%s", m->reader.error);
        free(m);
        if (making.fd >= 0) close(making.fd);
        return EXIT_DAMAGED;
    }
    check_model(m, &check);
    capture_supersede(m, ledger);
    struct naming naming = {resolver_for(ledger), interim ? NAMING_INTERIM_MS : NAMING_MS,
                            SORT_LIVE};
    cJSON *report = report_document(m, &check, ledger, interim, &naming);
    char *text = cJSON_PrintBuffered(report, 1 << 16, true);
    sum_up(m, out);
    enum exit_code code = EXIT_NOTHING;
    if (!text)
        explain(out, "out of memory");
    else if (write_somewhere(m, &making, text, out))
        code = EXIT_OK;
    if (code == EXIT_OK) out->error[0] = '\0';
    if (code == EXIT_OK && !interim && making.has_name) unlink(ledger);
    if (making.fd >= 0) close(making.fd); // and with it the lock
    free(text);
    cJSON_Delete(report);
    model_free(m);
    free(m);
    return code;
}

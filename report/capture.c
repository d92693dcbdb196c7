// SPDX-License-Identifier: Apache-2.0
//
// The file of what was read of standard error (capture.h).
//
// It is written with pwrite and never mapped: a file that somebody cuts must not end the process
// that the program's output goes through. In the order of writing a reader that comes in between
// always finds whole messages: first the ring's position moves, so that what will be overwritten is
// not looked at any more, then the text comes, then the commit word.
#define _GNU_SOURCE // memmem
#include "capture.h"

#include "journal.h"
#include "memwatch.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define WORD sizeof(uint64_t)

static_assert(offsetof(struct capture_file, first) == 4096, "");
static_assert(offsetof(struct capture_file, last) % WORD == 0, "");

bool capture_path(char path[CAPTURE_PATH]) {
    return journal_beside("stderr", path, CAPTURE_PATH);
}
bool capture_orders_path(char path[CAPTURE_PATH]) {
    return journal_beside("orders", path, CAPTURE_PATH);
}

// ---- writing --------------------------------------------------------------------------------

static void put(int fd, const void *bytes, size_t n, uint64_t offset) {
    for (size_t done = 0; fd >= 0 && done < n;) {
        ssize_t written = pwrite(fd, (const char *)bytes + done, n - done, (off_t)(offset + done));
        if (written < 0 && errno == EINTR) continue;
        if (written <= 0) return; // no room: it is not kept
        done += (size_t)written;
    }
}

static void put_word(int fd, uint64_t word, uint64_t offset) {
    put(fd, &word, sizeof word, offset);
}

#define PUT_FIELD(w, field, value) put_word((w)->fd, value, offsetof(struct capture_file, field))

bool capture_create(const char *path, int *fd) {
    *fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (*fd < 0) return false;
    if (ftruncate(*fd, sizeof(struct capture_file)) == 0) {
        put(*fd, CAPTURE_MAGIC, sizeof CAPTURE_MAGIC - 1, 0);
        return true;
    }
    int error = errno;
    close(*fd);
    unlink(path);
    errno = error;
    return false;
}

// A ring in the file: where it is, its size, and where its next message begins.
struct ring {
    int fd;
    uint64_t offset, size, *position;
};

static void put_around(const struct ring *r, uint64_t at, const void *bytes, size_t n) {
    uint64_t words = r->offset + MW_RING_HEAD, from = at & (r->size - 1);
    size_t first = n < r->size - from ? n : (size_t)(r->size - from);
    put(r->fd, bytes, first, words + from);
    put(r->fd, (const char *)bytes + first, n - first, words);
}

static size_t rounded(size_t bytes) {
    return (bytes + WORD - 1) & ~(WORD - 1);
}

static void put_message(const struct ring *r, uint64_t now, const char *text, size_t bytes) {
    struct mw_message m = {.when_ns = now,
                           .live_device = MESSAGE_LIVE_UNKNOWN,
                           .live_host = MESSAGE_LIVE_UNKNOWN,
                           .bytes = (uint32_t)bytes};
    uint64_t at = *r->position, commit = at + 1;
    *r->position += sizeof m + rounded(bytes);
    put_word(r->fd, *r->position, r->offset + offsetof(struct mw_ring, written));
    put_around(r, at, &m, sizeof m);
    put_around(r, at + sizeof m, text, bytes);
    put_around(r, at, &commit, sizeof commit);
}

void capture_write(struct capture_writer *w, const char *text, size_t bytes) {
    const struct ring first = {w->fd, offsetof(struct capture_file, first), CAPTURE_FIRST,
                               &w->first};
    const struct ring last = {w->fd, offsetof(struct capture_file, last), CAPTURE_LAST, &w->last};
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    uint64_t now = (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
    while (bytes && w->fd >= 0) {
        size_t n = bytes < CAPTURE_PIECE ? bytes : CAPTURE_PIECE;
        uint64_t room = w->first_full ? 0 : CAPTURE_FIRST - w->first;
        // The first ring is filled to its end, and never written again.
        if (room < sizeof(struct mw_message) + WORD) {
            w->first_full = true;
            put_message(&last, now, text, n);
        } else {
            if (n > room - sizeof(struct mw_message)) n = room - sizeof(struct mw_message);
            put_message(&first, now, text, n);
        }
        text += n;
        bytes -= n;
    }
}

// What it was writing when it died has no commit word.
void capture_resume(struct capture_writer *w) {
    const struct {
        uint64_t *to, offset;
    } fields[] = {{&w->begun, offsetof(struct capture_file, begun)},
                  {&w->done, offsetof(struct capture_file, done)},
                  {&w->first, offsetof(struct capture_file, first.written)},
                  {&w->last, offsetof(struct capture_file, last.written)}};
    for (size_t i = 0; i < sizeof fields / sizeof fields[0] && w->fd >= 0; i++)
        if (pread(w->fd, fields[i].to, sizeof *fields[i].to, (off_t)fields[i].offset) !=
            (ssize_t)sizeof *fields[i].to) {
            close(w->fd);
            w->fd = -1;
        }
    // The first ring is not begun again once the second one was.
    w->first_full = w->last != 0;
}

void capture_begin_round(struct capture_writer *w) {
    PUT_FIELD(w, begun, ++w->begun);
}
void capture_end_round(struct capture_writer *w) {
    w->done = w->begun;
    PUT_FIELD(w, done, w->done);
}
void capture_ended(struct capture_writer *w) {
    PUT_FIELD(w, ended, 1);
}

// ---- reading --------------------------------------------------------------------------------

// The file, if it is one of ours.
static int open_capture(void) {
    char path[CAPTURE_PATH], magic[sizeof CAPTURE_MAGIC - 1];
    if (!capture_path(path)) return -1;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
    struct stat st;
    if (fd < 0) return -1;
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) &&
        pread(fd, magic, sizeof magic, 0) == (ssize_t)sizeof magic &&
        !memcmp(magic, CAPTURE_MAGIC, sizeof magic))
        return fd;
    close(fd);
    return -1;
}

static bool read_counts(int fd, struct capture_file *out) {
    const size_t n = offsetof(struct capture_file, reserved);
    return pread(fd, out, n, 0) == (ssize_t)n;
}

static bool order(char what) {
    char path[CAPTURE_PATH];
    struct stat st;
    if (!capture_orders_path(path)) return false;
    int fd = open(path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
    bool given = fd >= 0 && fstat(fd, &st) == 0 && S_ISFIFO(st.st_mode) && write(fd, &what, 1) == 1;
    if (fd >= 0) close(fd);
    return given;
}

// A round that had begun before the order was given may have missed the last text: the next one
// counts.
static bool round_done(int fd, uint64_t begun) {
    struct capture_file now;
    return !read_counts(fd, &now) || now.ended || now.done > begun;
}

bool capture_flush(unsigned ms) {
    int fd = open_capture();
    struct capture_file before;
    bool done = fd < 0 || !read_counts(fd, &before) || before.ended || !order(ORDER_FLUSH);
    for (unsigned waited = 0; !done && waited < ms; waited++) {
        poll(NULL, 0, 1);
        done = round_done(fd, before.begun);
    }
    if (fd >= 0) close(fd);
    return done;
}

// Is this the ledger of the only process of the run that is known to have used a GPU?
static bool is_alone(const char *ledger) {
    struct journal list = {0};
    journal_read(&list);
    bool alone = list.count == 1 && !strcmp(list.entry[0].ledger, ledger);
    journal_free(&list);
    return alone;
}

#define FLUSH_MS 1000

void capture_supersede(struct model *m, const char *ledger) {
    char path[CAPTURE_PATH];
    if (!capture_path(path) || !is_alone(ledger)) return;
    capture_flush(FLUSH_MS);
    int fd = open_capture();
    if (fd < 0) return;
    capture_merge(&m->messages, fd, m->reader.header.start_monotonic_ns);
    close(fd);
}

// ---- two streams that are mostly one --------------------------------------------------------

// All that was captured, in one piece, and where in it each message begins.
struct stream {
    const struct messages *captured;
    char *text;
    size_t bytes, *start;
};

static struct stream stream_of(const struct messages *captured, struct messages *owner) {
    struct stream s = {.captured = captured,
                       .start = allocate(captured->count + 1, sizeof *s.start)};
    for (size_t i = 0; i < captured->count; i++) s.bytes += captured->item[i].bytes;
    s.text = messages_buffer(owner, s.bytes + 1);
    for (size_t i = 0, at = 0; i < captured->count; i++) {
        s.start[i] = at;
        memcpy(s.text + at, captured->item[i].text, captured->item[i].bytes);
        at += captured->item[i].bytes;
    }
    s.start[captured->count] = s.bytes;
    return s;
}

// Adds the stream's bytes from `from` to `to`, about which nothing more is known than when they
// came.
static void add_plain(struct messages *out, const struct stream *s, size_t from, size_t to,
                      size_t *piece) {
    while (from < to) {
        while (s->start[*piece + 1] <= from) ++*piece;
        size_t end = s->start[*piece + 1] < to ? s->start[*piece + 1] : to;
        struct message one = s->captured->item[*piece];
        one.text = s->text + from;
        one.bytes = one.head = end - from;
        messages_add(out, &one);
        from = end;
    }
}

static bool earlier(uint64_t a, uint64_t b) {
    return (int64_t)(a - b) < 0; // times may lie before the ledger's zero
}

// Of what the ring has, mostly all was captured: each of its messages is looked for behind the one
// before. What is not found (the program had put a file in the place of descriptor 2, or it came
// between the first and the last text that were kept) goes in by its time.
static void merge(struct messages *out, const struct messages *ring, const struct stream *s) {
    size_t at = 0, piece = 0;
    for (size_t i = 0; i < ring->count; i++) {
        const struct message *m = &ring->item[i];
        if (!m->bytes) continue;
        const char *found = memmem(s->text + at, s->bytes - at, m->text, m->head);
        if (!found) {
            size_t to = at;
            for (size_t k = piece; k < s->captured->count; k++)
                if (earlier(s->captured->item[k].when_ns, m->when_ns)) to = s->start[k + 1];
            if (to > at) add_plain(out, s, at, to, &piece);
            if (to > at) at = to;
            messages_add(out, m);
            continue;
        }
        size_t begin = (size_t)(found - s->text);
        add_plain(out, s, at, begin, &piece);
        struct message one = *m;
        one.text = found;
        one.bytes = one.head; // of a text that was cut the rest follows as it was captured
        one.cut = 0;
        messages_add(out, &one);
        at = begin + m->head;
    }
    add_plain(out, s, at, s->bytes, &piece);
}

void capture_merge(struct messages *ring, int fd, uint64_t start_monotonic_ns) {
    struct messages captured = {0}, out = {.source = MESSAGES_CAPTURE};
    const size_t first = offsetof(struct capture_file, first),
                 last = offsetof(struct capture_file, last);
    messages_ring(&captured, fd, first, last - first, CAPTURE_FIRST);
    messages_ring(&captured, fd, last, sizeof(struct capture_file) - last, CAPTURE_LAST);
    for (size_t i = 0; i < captured.count; i++) captured.item[i].when_ns -= start_monotonic_ns;
    if (captured.count) {
        out.buffer = ring->buffer; // the texts of the ring's messages live on
        out.buffers = ring->buffers;
        struct stream s = stream_of(&captured, &out);
        merge(&out, ring, &s);
        out.missing = captured.missing;
        free(s.start);
        free(ring->item);
        *ring = out;
    }
    messages_free(&captured);
}

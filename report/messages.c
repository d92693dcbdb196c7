// SPDX-License-Identifier: Apache-2.0
//
// A ring of text → messages (messages.h).
//
// Whoever writes may be at work, and pread copies in no particular order. So the ring is read
// twice: a message counts if the first copy has its commit word, and its text comes from the second
// copy, which was begun later. Then the writers' position is read once more: what lies further back
// than a whole ring may have been overwritten meanwhile.
#include "messages.h"

#include "memwatch.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// More than any writer of ours makes.
#define RING_MOST (UINT64_C(16) << 20)
#define WORD      sizeof(uint64_t)

static bool read_at(int fd, void *out, size_t bytes, uint64_t offset) {
    for (size_t done = 0; done < bytes;) {
        ssize_t n = pread(fd, (char *)out + done, bytes - done, (off_t)(offset + done));
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return false;
        done += (size_t)n;
    }
    return true;
}

static bool read_written(int fd, uint64_t offset, uint64_t *out) {
    return read_at(fd, out, sizeof *out, offset + offsetof(struct mw_ring, written));
}

// Copies out of a ring, whose size is a power of two, from a position on.
static void copy_out(const char *ring, uint64_t size, uint64_t at, void *out, size_t bytes) {
    size_t from = (size_t)(at & (size - 1)), first = (size_t)size - from;
    if (first > bytes) first = bytes;
    memcpy(out, ring + from, first);
    memcpy((char *)out + first, ring, bytes - first);
}

void messages_add(struct messages *m, const struct message *one) {
    if (m->count == m->room) {
        size_t room = m->room ? 2 * m->room : 64;
        struct message *more = realloc(m->item, room * sizeof *more);
        if (!more) exit(fail(EXIT_DAMAGED, "out of memory"));
        m->item = more;
        m->room = room;
    }
    m->item[m->count++] = *one;
}

char *messages_buffer(struct messages *m, size_t bytes) {
    char **more = realloc(m->buffer, (m->buffers + 1) * sizeof *more);
    if (!more) exit(fail(EXIT_DAMAGED, "out of memory"));
    m->buffer = more;
    return m->buffer[m->buffers++] = allocate(bytes, 1);
}

// The two copies of a ring, and where in them messages may be.
struct ring {
    const char *commits, *content;
    uint64_t size, from, to; // positions
};

// Is there a whole message at this position?
static bool message_at(const struct ring *r, uint64_t at, struct mw_message *out) {
    uint64_t commit, left = r->to - at;
    if (left < sizeof *out) return false;
    copy_out(r->commits, r->size, at, &commit, sizeof commit);
    if (commit != at + 1) return false;
    copy_out(r->content, r->size, at, out, sizeof *out);
    uint64_t bytes = ((uint64_t)out->bytes + WORD - 1) & ~(uint64_t)(WORD - 1);
    return bytes <= left - sizeof *out;
}

static void add_messages(struct messages *m, const struct ring *r) {
    char *text = messages_buffer(m, (size_t)r->size);
    size_t used = 0;
    for (uint64_t at = r->from; r->to - at >= sizeof(struct mw_message);) {
        struct mw_message head;
        if (!message_at(r, at, &head)) {
            at += WORD;
            continue;
        }
        // Messages follow one another without overlap, so their texts fit into the ring's size.
        copy_out(r->content, r->size, at + sizeof head, text + used, head.bytes);
        messages_add(m, &(struct message){.when_ns = head.when_ns,
                                          .live_device = head.live_device,
                                          .live_host = head.live_host,
                                          .tid = head.tid,
                                          .cut = head.cut,
                                          .head = head.cut ? head.bytes / 2 : head.bytes,
                                          .text = text + used,
                                          .bytes = head.bytes});
        used += head.bytes;
        at += sizeof head + ((head.bytes + WORD - 1) & ~(uint64_t)(WORD - 1));
    }
}

bool messages_ring(struct messages *out, int fd, uint64_t offset, uint64_t room, uint64_t size) {
    uint64_t before, after;
    if (size < WORD || size > RING_MOST || size & (size - 1) || room < MW_RING_HEAD ||
        room - MW_RING_HEAD < size || !read_written(fd, offset, &before))
        return false;
    char *copies = allocate(2, (size_t)size);
    bool ok = read_at(fd, copies, (size_t)size, offset + MW_RING_HEAD) &&
              read_at(fd, copies + size, (size_t)size, offset + MW_RING_HEAD) &&
              read_written(fd, offset, &after);
    if (ok) {
        struct ring r = {copies, copies + size, size, 0, before & ~(uint64_t)(WORD - 1)};
        if (after > size) r.from = (after - size + WORD - 1) & ~(uint64_t)(WORD - 1);
        // A position that a writer of ours never comes to would wrap the sums above.
        ok = before < UINT64_MAX / 2 && after < UINT64_MAX / 2;
        if (ok && r.from < r.to) add_messages(out, &r);
        if (ok) out->missing += r.from;
    }
    free(copies);
    return ok;
}

void messages_read(const struct reader *r, struct messages *out) {
    memset(out, 0, sizeof *out);
    for (unsigned i = 0; i < MW_CHUNKS; i++) {
        const struct mw_chunk *c = &r->header.chunk[i];
        if (c->kind != MW_CHUNK_MESSAGES) continue;
        messages_ring(out, r->fd, c->offset, c->bytes, c->count);
        break;
    }
    if (out->count) out->source = MESSAGES_RING;
}

void messages_free(struct messages *m) {
    for (size_t i = 0; i < m->buffers; i++) free(m->buffer[i]);
    free(m->buffer);
    free(m->item);
    memset(m, 0, sizeof *m);
}

// SPDX-License-Identifier: Apache-2.0
//
// What a program wrote to standard error, as far as it was kept: the ring in its ledger
// (interpose/messages.c), or what `memwatch run` read along (capture.h). Both have the layout of
// struct mw_ring in ledger_format.h.
//
// Hostile input like all of a ledger: any bytes give some messages or none, never more text than
// the ring has room for.
#ifndef MEMWATCH_MESSAGES_H
#define MEMWATCH_MESSAGES_H

#include "reader.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MESSAGE_LIVE_UNKNOWN UINT64_MAX

// What one call wrote.
struct message {
    uint64_t when_ns;                // since the ledger was made; modulo 2^64 if it was before
    uint64_t live_device, live_host; // bytes of owned memory then, or MESSAGE_LIVE_UNKNOWN
    uint32_t tid;                    // 0 = not known
    uint32_t cut;                    // bytes left out behind the first `head` ones
    size_t head;                     // = bytes if nothing was left out
    const char *text;                // `bytes` bytes of anything, not terminated
    size_t bytes;
};

enum message_source {
    MESSAGES_NONE, // none were kept, or none were written
    MESSAGES_RING,
    MESSAGES_CAPTURE
};

struct messages {
    enum message_source source;
    struct message *item; // in the order in which they were written
    size_t count;
    uint64_t missing; // bytes of the ring, with their heads, that later messages overwrote
    size_t room;      // of `item`
    char **buffer;    // what the texts point into
    size_t buffers;
};

// Adds the messages of a ring: `room` bytes at `offset` of a file, of which the ring's own count of
// bytes is `size`. False: there is no ring in it, or it cannot be read. The writer may be at work.
bool messages_ring(struct messages *out, int fd, uint64_t offset, uint64_t room, uint64_t size);

// The ring of a ledger that is open. Without one, or if it cannot be read, *out is empty.
void messages_read(const struct reader *r, struct messages *out);

// A copy of a message, behind the others; its text must belong to one of the buffers.
void messages_add(struct messages *m, const struct message *one);
// A buffer of zeros for texts, which messages_free() frees.
char *messages_buffer(struct messages *m, size_t bytes);

// Makes *m empty, too.
void messages_free(struct messages *m);

#endif

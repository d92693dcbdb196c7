// SPDX-License-Identifier: Apache-2.0
//
// What `memwatch run` read of its program's standard error, in a file that lies beside the journal
// as long as `run` lives: the first text and the last, in two rings of the ledger's layout
// (ledger_format.h). Here a text's time is CLOCK_MONOTONIC itself, and what was live is not known.
//
// One process writes it (relay.h); whoever renders a report meanwhile reads it.
#ifndef MEMWATCH_CAPTURE_H
#define MEMWATCH_CAPTURE_H

#include "model.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CAPTURE_MAGIC "mwstderr"
#define CAPTURE_FIRST (UINT32_C(64) << 10)  // bytes of the ring that keeps the first text
#define CAPTURE_LAST  (UINT32_C(256) << 10) // and of the one that keeps the last
#define CAPTURE_PIECE (UINT32_C(16) << 10)  // of text in a message, at most

struct capture_file {
    char magic[8];
    // Rounds of reading all there is, begun and done: see capture_flush.
    uint64_t begun, done;
    uint64_t ended; // 1: nobody is left who could write
    char reserved[4064];
    struct mw_ring first;
    char first_words[CAPTURE_FIRST];
    struct mw_ring last;
    char last_words[CAPTURE_LAST];
};

// ---- writing --------------------------------------------------------------------------------

struct capture_writer {
    int fd; // -1: nothing is kept
    uint64_t begun, done, first, last;
    bool first_full;
};

// A new file, 0600, in *fd. False: it could not be made, errno tells why.
bool capture_create(const char *path, int *fd);
// Text that was read now, of any length. What cannot be written is not kept.
void capture_write(struct capture_writer *w, const char *text, size_t bytes);
// Goes on in the file where another process, now dead, left off.
void capture_resume(struct capture_writer *w);
void capture_begin_round(struct capture_writer *w);
void capture_end_round(struct capture_writer *w);
void capture_ended(struct capture_writer *w);

// ---- reading --------------------------------------------------------------------------------

// Puts what was captured in the place of the messages of the ledger's ring, which still tell by
// whom and when a text was written and what was live; of these, what was not captured stays. Does
// nothing outside of `memwatch run`, and if several processes of the run used a GPU: then nobody
// knows whose text it is, and each has its own ring.
void capture_supersede(struct model *m, const char *ledger);

// The same with a given file.
void capture_merge(struct messages *ring, int fd, uint64_t start_monotonic_ns);

// Waits until all text that was written before has been read, at most so long. False: it has not.
bool capture_flush(unsigned ms);

// The two files' names: what was read, and the pipe that takes orders. False outside of `run`.
#define CAPTURE_PATH 4096
bool capture_path(char path[CAPTURE_PATH]);
bool capture_orders_path(char path[CAPTURE_PATH]);

// Orders, one byte each.
#define ORDER_FLUSH  'f'
#define ORDER_RESIZE 'w' // the terminal has another size; flushes, too

#endif

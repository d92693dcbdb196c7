// SPDX-License-Identifier: Apache-2.0
//
// Makes ledger files without the library: by the words of ledger_format.h, written by other code,
// so that the reader is tested against the contract and not against the writer. Not thread-safe; no
// function fails (the process ends if there is no memory, asserts guard the tests' own mistakes).
#ifndef LEDGER_BUILDER_H
#define LEDGER_BUILDER_H

#include "../../interpose/ledger_format.h"

#include <stdbool.h>
#include <stddef.h>

struct builder {
    char *image; // the file
    size_t bytes;
    struct mw_header *header; // these six point into the image, at the first chunk of their kind
    struct mw_thread *thread; // block 0 is the shared one
    struct mw_site *site;
    struct mw_place *place;
    struct mw_api *api;
    struct mw_record *record;
    unsigned threads, sites, places, apis; // in use; site 0 and place 0 are
    unsigned pages;                        // of cells in use
    size_t arena, arena_end;               // file offsets: the next object, the chunk's end
    size_t records;                        // slots in use, from 0
    unsigned max_threads, max_slots;
};

// A ledger of a process that has just begun to be watched.
void builder_init(struct builder *b, unsigned max_threads, unsigned max_slots);
void builder_free(struct builder *b);

// Each returns an index.
unsigned builder_api(struct builder *b, const char *name, enum mw_layer layer);
unsigned builder_account(struct builder *b, int device, enum mw_space space);
unsigned builder_site(struct builder *b, unsigned api, unsigned driver_api, int device,
                      enum mw_space space);
unsigned builder_place(struct builder *b, int device, uint64_t context, uint64_t stream,
                       uint64_t pool);
unsigned builder_thread(struct builder *b, unsigned tid, const char *name);

// An allocation as the library books it: cell, record, account. Returns the record's slot.
size_t builder_alloc(struct builder *b, unsigned thread, unsigned site, unsigned place,
                     enum mw_class class_, uint64_t key, uint64_t bytes, uint64_t asked);
// A free of that record by any thread.
void builder_release(struct builder *b, unsigned thread, size_t slot);
// A failed allocation.
void builder_fail(struct builder *b, unsigned thread, unsigned site, uint64_t asked,
                  uint32_t result);

// The thread's cell for a site, made if there is none. Pointers into the image may move.
struct mw_cell *builder_cell(struct builder *b, unsigned thread, unsigned site);
struct mw_site *builder_site_at(const struct builder *b, unsigned site);

// Objects of the arena; each returns a reference. Pointers into the image may move.
uint32_t builder_string(struct builder *b, const char *text);
uint32_t builder_code(struct builder *b, const char *file, const char *name, unsigned first_line);
uint32_t builder_module(struct builder *b, const char *path, uint64_t offset, const void *build_id,
                        unsigned build_id_bytes);
// Frames as struct mw_stack has them, innermost first.
uint32_t builder_stack(struct builder *b, const uint64_t *python, unsigned pythons,
                       const uint64_t *native, unsigned natives, unsigned flags);
#define PYTHON_FRAME(code, line, entry) ((uint64_t)(entry) << 63 | (uint64_t)(line) << 32 | (code))
#define NATIVE_FRAME(module, offset)    ((uint64_t)(module) << 32 | (offset))

// A ring for messages, of `size` bytes (a power of two), whose writers have come to position
// `written` already. Pointers into the image move.
void builder_ring(struct builder *b, unsigned size, uint64_t written);
// A message as the library keeps it; returns its position. when_ns, live_… and tid as in `head`.
uint64_t builder_message(struct builder *b, const struct mw_message *head, const char *text);
// The ring, after a builder_ring().
struct mw_ring *builder_ring_at(const struct builder *b);

// Appends a chunk of zeros and enters it into the directory. Pointers into the image move.
void *builder_chunk(struct builder *b, enum mw_chunk_kind kind, unsigned count, size_t bytes);

// Writes the image, or its first `bytes`. False: could not.
bool builder_save(const struct builder *b, const char *path, size_t bytes);

// A small process with something of everything: two devices, three threads, pools, a pitched block,
// physical memory and its mapping, frees across threads, failures, look-ups, losses.
void builder_sample(struct builder *b);

#endif

// SPDX-License-Identifier: Apache-2.0
//
// One ledger, understood: what its process held and did, by account (device and space), by site and
// by thread, each number derived twice where the file allows it.
//
// The records are the truth about what is live (`held`); the counters tell totals (`tally`), and,
// by subtraction, what is live once more. check.c compares the two.
#ifndef MEMWATCH_MODEL_H
#define MEMWATCH_MODEL_H

#include "frames.h"
#include "messages.h"
#include "torch.h"

// Counted: all events since the ledger was made.
struct tally {
    uint64_t allocations, allocated_bytes, frees, freed_bytes, failed;
};

// Found in the record table.
struct held {
    uint64_t blocks, bytes;
};

// A (device, space) pair. Entries of the file with the same pair are one here.
struct model_account {
    int device;          // -1: memory of no device
    enum mw_space space; // MW_SPACE_NONE: what found no room in the table of accounts
    uint64_t live_bytes; // by the counters that the peak is taken from: bound less slack
    uint64_t peak_bytes, peak_ms;
    struct tally tally;
    struct held held;
    struct held ended; // what Python's end freed
};

// One place of a program that allocates. Entries of the file that say the same are one here.
struct model_site {
    int api, driver_api; // index into model.api; -1 = not told
    unsigned account;    // index into model.account
    uint32_t stack;      // reference in the arena; 0 = none
    bool overflow;       // several sites: those that found no room in the table
    enum torch_origin origin;
    struct tally tally;
    struct held held;
    struct held ended;               // what Python's end freed
    uint64_t live_bytes;             // by the counters that the peak is taken from
    uint64_t peak_bytes, peak_ms;    // at least the true peak: see struct mw_site, bound_peaks
    uint32_t first_ms, last_ms;      // of its allocations, if there are any
    uint64_t oldest_ms;              // birth of the oldest live block; UINT64_MAX = not known
    uint64_t lifetime[MW_LIFETIMES]; // of its freed blocks, by MW_LIFETIME_ENDS
};

// What a thread has of an account.
struct model_share {
    struct tally tally;                  // done by this thread
    uint64_t own_frees, own_bytes;       // of those frees: of its own blocks
    uint64_t remote_frees, remote_bytes; // of its blocks, by other threads
    struct held held;                    // allocated by this thread
};

struct model_thread {
    enum mw_thread_state state;
    uint32_t tid, earlier; // `earlier`: ended threads whose totals are in this block's, too
    uint32_t in_flight;    // blocks of the event that it is at, 0 = none
    uint64_t started_ns, ended_ns;
    char name[17];             // as the kernel knows it
    uint32_t python_name;      // a string of the arena: what Python calls it; 0 = nothing
    struct tally before;       // of the earlier threads
    struct model_share *share; // [accounts]
};

struct model_block {
    struct reader_record record;
    uint32_t site, thread; // indices into model.site and model.thread
    uint32_t place;        // index into model.place
};
#define LARGEST_BLOCKS 100u
#define MODEL_NO_SITE  UINT32_MAX

struct model {
    struct reader reader; // closed; its header stays
    struct model_account *account;
    struct model_site *site;
    struct model_thread *thread;
    struct mw_place *place;
    struct held *place_held; // per place, without graph nodes: what pools hold
    struct mw_api *api;      // names terminated
    struct arena arena;      // what the sites' stacks refer to
    struct messages messages;
    uint32_t failure_site[MW_FAILURES]; // of the header's failures: index into site; MODEL_NO_SITE
    struct torch torch;
    unsigned accounts, sites, threads, places, apis;
    uint64_t calls[MW_APIS];                    // of each entry point
    struct model_block largest[LARGEST_BLOCKS]; // sorted, largest first
    unsigned largest_count;
    uint64_t records; // live, in all accounts
    uint64_t misfits; // live records and counters whose site, thread, place or account is none
    uint64_t broken_stacks; // of sites: they refer to what is not in the arena
    uint64_t inflight; // blocks that may be half booked: of threads between two stores of one event
    uint64_t moved;    // events that happened while the file was read
    uint64_t last_ns;  // the latest time in the file
};

// Reads a ledger. On failure *m holds nothing but m->reader.status and .error. Not thread-safe for
// one model; the caller frees with model_free.
enum reader_status model_read(struct model *m, const char *path);
void model_free(struct model *m);

// Names of spaces as in reports; whether a space counts as memory of this process.
const char *space_name(enum mw_space space);
bool space_is_memory(enum mw_space space);

// Bytes that the program asked for, in a record that may hold more (pitch).
uint64_t record_bytes(const struct reader_record *r);
uint64_t record_asked(const struct reader_record *r);

// What the counters say is live: of a tally, of a thread's share. Modulo 2^64.
uint64_t tally_live(const struct tally *t);
uint64_t share_live(const struct model_share *s);

void tally_add(struct tally *to, const struct tally *t);

// The sum of both: of what is live and what Python's end freed, what was held at the exit.
struct held held_sum(const struct held *a, const struct held *b);

#endif

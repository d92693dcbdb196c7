// SPDX-License-Identifier: Apache-2.0
//
// The ledger as the wrappers see it: blocks are born, taken and put back; everything else is how.
//
// All functions here may be called from any thread at any time once mw_awake() said yes, including
// from thread-exit destructors; none takes a lock, allocates with malloc, calls the driver or
// changes errno. They make no system call, but when a table grows, when a thread gets its block,
// and sched_yield for a thread that stopped amid what they need. Not from signal handlers that
// interrupt the ledger itself: the depth in mw_self keeps those out.
#ifndef MEMWATCH_LEDGER_H
#define MEMWATCH_LEDGER_H

#include "ledger_format.h"

#include <stdbool.h>

// What every event runs, and what it reads and next to nothing changes: side by side, in a few
// pages and lines of the caches, which the program empties between one event and the next.
#define MW_HOT __attribute__((section(".text.hot")))
#ifdef __SANITIZE_ADDRESS__ // which guards no variable that says where it lies
#    define MW_READ_MOSTLY
#else
#    define MW_READ_MOSTLY __attribute__((section("mw_read_mostly")))
#endif

#define MW_INLINE      static inline __attribute__((always_inline))
#define mw_likely(x)   __builtin_expect(!!(x), 1)
#define mw_unlikely(x) __builtin_expect(!!(x), 0)

// Relaxed accesses, for fields with one writer or whose order does not matter.
#define mw_get(p)        atomic_load_explicit((p), memory_order_relaxed)
#define mw_set(p, v)     atomic_store_explicit((p), (v), memory_order_relaxed)
#define mw_add(p, v)     atomic_fetch_add_explicit((p), (v), memory_order_relaxed)
#define mw_own_add(p, v) mw_set((p), mw_get(p) + (v)) // single writer: no locked instruction

// A fence for readers in other processes, which ThreadSanitizer can neither see nor check.
#ifdef __SANITIZE_THREAD__
#    define mw_fence(order) ((void)0)
#else
#    define mw_fence(order) atomic_thread_fence(order)
#endif

// ---- the file (ledger.c) --------------------------------------------------------------------

// The mapped file. Valid while awake; a forked child gets another one.
extern struct mw_header *mw_ledger;

// Counts the ledgers made by this process and its ancestors since the program started. What a
// thread remembers is about one of them: a forked child's ledger may be mapped at the parent's
// address.
extern uint32_t mw_ledger_epoch;

struct mw_ledger_place {
    const char *path;   // file to create
    uint64_t max_bytes; // size cap
    uint32_t sites;     // most sites kept apart
    int fd;             // -1: create `path` (O_EXCL); else an open, empty file
};
// Creates and maps the file with its first chunks and fills the layout part of the header; `life`
// stays MW_LIFE_NONE. Returns the descriptor (close-on-exec, above 1000 if possible), or -errno.
int mw_ledger_create(const struct mw_ledger_place *place);

// Undoes mw_ledger_create but for the file's name. Nobody may be using the ledger.
void mw_ledger_discard(void);

// Appends a chunk of `count` entries of `stride` bytes. Returns its address, or NULL (counted as
// MW_LOSS_GROWTH). The chunk is visible to readers on return. Callers make sure that one thread
// grows a table at a time.
void *mw_ledger_grow(enum mw_chunk_kind kind, uint32_t count, uint64_t bytes);

static inline void mw_lost(enum mw_loss what, uint64_t n) {
    mw_add(&mw_ledger->losses[what], n);
}

// Milliseconds and nanoseconds since the ledger was made (CLOCK_MONOTONIC_COARSE: a vDSO read).
uint64_t mw_now_ns(void);

// ---- records (records.c) --------------------------------------------------------------------

// A record outside the table.
struct mw_taken {
    uint64_t key; // folded
    enum mw_class class_;
    uint64_t size, owner, birth; // as in struct mw_record; size == 0 && owner == 0: nothing
    uint64_t taken_ns;           // when it was taken out, as mw_now_ns
    bool found;
};
static inline uint64_t mw_taken_bytes(const struct mw_taken *t) {
    return t->size & MW_MAX_BYTES;
}
static inline uint32_t mw_taken_place(const struct mw_taken *t) {
    return (uint32_t)(t->size >> 48);
}
static inline uint32_t mw_taken_site(const struct mw_taken *t) {
    return (uint32_t)t->owner;
}
static inline unsigned mw_taken_flags(const struct mw_taken *t) {
    return (unsigned)(t->owner >> 48);
}
static inline uint32_t mw_taken_thread(const struct mw_taken *t) {
    return t->owner >> 32 & 0xffff;
}

uint64_t mw_records_bytes(uint32_t slots); // of the next segment, overflow counts included
bool mw_records_open(void *segment, uint32_t slots); // registers a segment made by mw_ledger_grow
void mw_records_reset(void);                         // forgets all segments (a new ledger follows)

// Starts to load what the insertion of that key will need; does not wait for it.
void mw_record_fetch(enum mw_class class_, uint64_t key);
// Inserts. A record with that key that was there is taken out and returned in *stale (found =
// true): its free was missed. False: no room even after growing.
bool mw_record_insert(const struct mw_taken *record, struct mw_taken *stale);
// Takes the record out, if there is one.
bool mw_record_take(enum mw_class class_, uint64_t key, struct mw_taken *out);
// Looks without taking. The result may be gone already.
bool mw_record_find(enum mw_class class_, uint64_t key, struct mw_taken *out);
// Adds `delta` to the record's reference count (the `extra` field); takes it out when that
// reaches 0 and says so by *ended. False: no such record.
bool mw_record_refer(enum mw_class class_, uint64_t key, int delta, struct mw_taken *out,
                     bool *ended);
// Calls `match` for every live record and takes those it says yes to; `each` gets what was taken.
// Linear in the table: only for calls that end a whole context or graph.
void mw_records_take_all(bool (*match)(const struct mw_taken *, void *),
                         void (*each)(const struct mw_taken *), void *context);

// ---- counters (counters.c) ------------------------------------------------------------------

// What a wrapper knows of an allocation.
struct mw_birth {
    enum mw_space space;
    enum mw_class class_;
    uint64_t key, bytes, asked;
    int device;                     // ordinal, -1 = host or unknown
    uint64_t context, stream, pool; // handles, 0 = none
    uint16_t api, driver_api;
    uint16_t flags;      // MW_FLAG_*
    uint64_t references; // 1 for what is counted by references, else 0
    uint64_t parent;     // of a mapping: the physical memory's handle
};
#define MW_NO_API UINT16_MAX

// What a thread is in the middle of, and what it has at hand for its next event: in one cache line,
// since at each event it has left the nearest cache. Zero at a thread's start.
struct mw_self {
    alignas(64) struct mw_thread *block; // of the ledger of that epoch
    struct mw_cell *cell; // the last that was used, of site `site_index`; NULL = none
    struct mw_site *site; // that site's entry
    uint32_t epoch, site_index;
    uint16_t index;   // of the block; 0 = shared
    uint16_t account; // of the site, whose own line others change
    bool retry;       // block 0 only until this call is done
    bool ended;       // the thread ran its exit handler
    uint8_t driver;   // depth of wrapped driver calls and tensor events
    uint8_t runtime;  // depth of wrapped runtime calls
    uint16_t label;   // row of the runtime call around, + 1; 0 = none
    bool booked;      // a driver event was booked inside the runtime call
};
static_assert(sizeof(struct mw_self) == 64, "one cache line");
extern _Thread_local __attribute__((tls_model("initial-exec"))) struct mw_self mw_self;

struct mw_thread *mw_claim_block(void); // for mw_thread_block alone: gives the thread another one
// This thread's block, claimed at first use. Never NULL while awake (block 0 in the worst case).
MW_INLINE struct mw_thread *mw_thread_block(void) {
    return mw_likely(mw_self.epoch == mw_ledger_epoch) ? mw_self.block : mw_claim_block();
}
void mw_counters_init(void);  // once, from the constructor: makes the key for thread exits
bool mw_counters_reset(void); // makes the tables of a new ledger; false: no room

void mw_born(const struct mw_birth *birth);     // after a successful allocation
uint64_t mw_account_live(unsigned account);     // bytes; other threads' events just now aside
void mw_freed(const struct mw_taken *taken);    // after the real free succeeded
void mw_put_back(const struct mw_taken *taken); // after the real free failed
void mw_counters_publish(void); // a new ledger gets the calls counted before it was made
// For mw_count_call (shapes.h), where a thread has no block of its own: before there is a ledger,
// and where none is to be.
void mw_count_call_seldom(unsigned api);
// How many events may be half-booked from here on; 0 = all is settled.
MW_INLINE void mw_in_flight(unsigned events) {
    struct mw_thread *t = mw_thread_block();
    // Release, so that the counters' stores are done when it falls.
    if (mw_likely(mw_self.index))
        atomic_store_explicit(&t->in_flight, events, memory_order_release);
}
// Moves a record that was taken out to the same place but in another pool or graph, and back into
// the table.
void mw_move_to_pool(const struct mw_taken *taken, uint64_t pool);

// A failed call. `asked` 0 = not an allocation. Counted on the site if it would have allocated.
void mw_failed(const struct mw_birth *birth, uint32_t result, bool allocation);

// A request that no call of a driver stands for: counted on the site, no failed call. Returns the
// account.
unsigned mw_refused(const struct mw_birth *birth, uint32_t *tid);

uint64_t mw_site_live(uint32_t site); // bytes; other threads' events just now aside

// ---- interned tables (sites.c) --------------------------------------------------------------

bool mw_sites_reset(uint32_t limit); // makes the tables of a new ledger; false: no room

// Each finds the entry, or makes it.
unsigned mw_account_of(int device, enum mw_space space);
uint32_t mw_site_of(const struct mw_birth *birth, uint32_t stack);
uint32_t mw_place_of(const struct mw_birth *birth);

// The sites of an account that hold most, largest first; returns how many. Which they are is told
// by `bound`, so one may be missing that holds more by some slack. Linear in the table.
struct mw_site_bytes {
    uint32_t site;
    uint64_t bytes;
};
unsigned mw_top_sites(unsigned account, struct mw_site_bytes *top, unsigned most);

// An index out of range gives entry 0.
struct mw_site *mw_site_at(uint32_t index);
const struct mw_place *mw_place_at(uint32_t index);

// Tables that grow by doubling: chunk k holds first << k entries.
MW_INLINE uint32_t mw_level_of(uint32_t index, uint32_t first) {
    return 31u - (uint32_t)__builtin_clz(index / first + 1);
}
MW_INLINE uint32_t mw_level_start(uint32_t level, uint32_t first) {
    return first * ((1u << level) - 1);
}

// Likewise, with two chunks of each size, where what is made in advance is much: chunk k holds
// first << k / 2 entries.
MW_INLINE uint32_t mw_half_level_start(uint32_t level, uint32_t first) {
    return mw_level_start(level / 2, 2 * first) + (level & 1 ? first << level / 2 : 0);
}
MW_INLINE uint32_t mw_half_level_of(uint32_t index, uint32_t first) {
    uint32_t level = 2 * mw_level_of(index, 2 * first);
    return level + (index >= mw_half_level_start(level + 1, first));
}

#endif

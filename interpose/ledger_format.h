// SPDX-License-Identifier: Apache-2.0
//
// The ledger file's layout: the contract between the library that writes it inside the watched
// process (interpose/ledger.c) and the program that reads it (report/reader.c).
//
// Why a file and why so plain: the watched process can end at any instruction (kill -9, the
// out-of-memory killer), and what it had stored by then is all there will ever be. So the file is
// always complete: no buffers to flush, no index to close. Every number needed for a report stands
// in it, names included; a reader needs nothing from the machine or the process.
//
//     0                 struct mw_header     identity, devices, accounts, losses, chunk directory
//     header.chunk[i]   array of one kind    threads, further cells, sites, places, API names,
//                                            record segments, the arena of stacks and names
//
// Who may write what. A chunk is published by storing its `kind` last (release). Fields marked
// "owner" are written by one thread with plain relaxed stores; "shared" ones by atomic
// read-modify-write. All integers are in the byte order of the machine; MW_ORDER tells a foreign
// one.
//
// Times are nanoseconds or milliseconds since `start_monotonic_ns` (CLOCK_MONOTONIC), sizes bytes.
// A struct may grow at its end: the header tells each size as the writer knew it, and a reader
// uses the smaller of that and its own.
#ifndef MEMWATCH_LEDGER_FORMAT_H
#define MEMWATCH_LEDGER_FORMAT_H

#include <assert.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#define MW_MAGIC  "memwatch"
#define MW_FORMAT 3u
// The oldest format that is still read. 3 added the space of tensors, their class of keys, the
// layer of frameworks and MW_CHUNK_TORCH; all else is as in 2.
#define MW_FORMAT_OLDEST 2u
#define MW_ORDER         0x01020304u

// What kind of memory a byte is. Separate ledgers: never added to one another.
// X(identifier, name in reports, is it memory of a device or of the host that this process owns)
#define MW_SPACES(X)                                                                               \
    X(DEVICE, "device", 1)         /* linear, pitched and stream-ordered device memory */          \
    X(MANAGED, "managed", 1)       /* cuMemAllocManaged: residency is another matter */            \
    X(PINNED, "pinned", 1)         /* page-locked host memory made by the driver */                \
    X(REGISTERED, "registered", 0) /* the caller's own pages, locked: nothing is allocated */      \
    X(ARRAY, "array", 1)           /* arrays and mipmapped arrays, texel bytes */                  \
    X(PHYSICAL, "physical", 1)     /* cuMemCreate: live while handles + mappings > 0 */            \
    X(MAPPED, "mapped", 0)         /* address ranges backed by physical memory */                  \
    X(ADDRESS, "address", 0)       /* cuMemAddressReserve: address space only */                   \
    X(IMPORTED, "imported", 0)     /* owned by another process or API */                           \
    X(GRAPH, "graph", 0)           /* memory nodes: backed by the device's graph pool */           \
    X(MULTICAST, "multicast", 0)   /* multicast objects */                                         \
    X(TENSOR, "tensor", 0)         /* a framework's own blocks: they lie inside device memory */

enum mw_space {
    MW_SPACE_NONE,
#define X(id, name, owned) MW_SPACE_##id,
    MW_SPACES(X)
#undef X
        MW_SPACE_COUNT
};

// Is memory of this space certainly on its device, and this process's own there? Managed memory may
// be on the host, a mapping is not memory of its own.
static inline int mw_space_on_device(unsigned space) {
    return space == MW_SPACE_DEVICE || space == MW_SPACE_ARRAY || space == MW_SPACE_PHYSICAL;
}

// ---------------------------------------------------------------------------------------------
// Records: one per live block or handle, 32 bytes, in open-addressing segments.
//
//   commit   state:2 | generation:10 | class:4 | key:48        stored last, with release
//   size     place:16 | bytes:48
//   owner    flags:16 | thread:16 | site:32
//   birth    extra:24 | milliseconds:40          for MW_CLASS_MAPPING: 0:16 | handle's key:48
//
// Only the commit word decides: FREE → BUSY → LIVE → BUSY → FREE, with a new generation at each
// birth. A reader that sees LIVE, reads the rest and sees the same commit word again has a
// consistent record. BUSY is stored by compare-and-swap, by the thread that fills or empties the
// slot; a killed one leaves nothing but a slot that is never used again. flags: MW_FLAG_*. `extra`
// is the count of references and mappings (physical memory), or the slack of a pitched allocation:
// bytes counted minus bytes asked, as mantissa:19 << exponent:5.
struct mw_record {
    _Atomic uint64_t commit, size, owner, birth;
};
static_assert(sizeof(struct mw_record) == 32, "two records a cache line");

#define MW_BIRTH_MASK ((UINT64_C(1) << 40) - 1) // of the milliseconds

#define MW_FLAG_STREAM_ORDERED 1u // made by an asynchronous call: survives its context
#define MW_FLAG_LATE           2u // made while Python was ending

enum mw_state { MW_FREE, MW_BUSY, MW_LIVE };

// Key spaces. Addresses share one (unified addressing keeps device, managed and pinned apart);
// handles are opaque numbers that may equal an address.
enum mw_class {
    MW_CLASS_ADDRESS = 1, // device, managed and pinned pointers, imported mappings, graph nodes
    MW_CLASS_REGISTERED,  // host pointers given to cuMemHostRegister
    MW_CLASS_ARRAY,       // CUarray, CUmipmappedArray
    MW_CLASS_HANDLE,      // CUmemGenericAllocationHandle: physical and multicast
    MW_CLASS_MAPPING,     // start of a mapped range
    MW_CLASS_RANGE,       // start of a reserved address range
    MW_CLASS_EXTERNAL,    // CUexternalMemory
    MW_CLASS_RESOURCE,    // CUgraphicsResource
    MW_CLASS_TENSOR,      // a framework's block: see mw_tensor_key
};

#define MW_KEY_BITS  48
#define MW_KEY_MASK  ((UINT64_C(1) << MW_KEY_BITS) - 1)
#define MW_MAX_BYTES ((UINT64_C(1) << 48) - 1)

static inline uint64_t mw_commit(enum mw_state state, unsigned generation, enum mw_class class_,
                                 uint64_t key) {
    return (uint64_t)state << 62 | (uint64_t)(generation & 0x3ff) << 52 |
           (uint64_t)(class_ & 15) << MW_KEY_BITS | (key & MW_KEY_MASK);
}
static inline enum mw_state mw_commit_state(uint64_t c) {
    return (enum mw_state)(c >> 62);
}
static inline unsigned mw_commit_generation(uint64_t c) {
    return (unsigned)(c >> 52) & 0x3ff;
}
static inline enum mw_class mw_commit_class(uint64_t c) {
    return (enum mw_class)((c >> MW_KEY_BITS) & 15);
}
static inline uint64_t mw_commit_key(uint64_t c) {
    return c & MW_KEY_MASK;
}

// 48 bits hold every user-space address of x86-64 and AArch64 that a program does not ask for by
// hint. Longer handles are folded; two that fold alike would share a record (MW_LOSS_FOLDED
// counts).
static inline uint64_t mw_fold_key(uint64_t key) {
    return (key & MW_KEY_MASK) ^ (key >> MW_KEY_BITS) * UINT64_C(0x9e3779b1);
}

// A tensor's key: the framework's pointer, and in the low bits, which no allocator's pointers use,
// its device, since two devices may have a block at the same address.
#define MW_TENSOR_DEVICE_BITS 4u
static inline uint64_t mw_tensor_key(uint64_t pointer, int device) {
    return pointer ^ ((unsigned)device & ((1u << MW_TENSOR_DEVICE_BITS) - 1));
}
static inline uint64_t mw_tensor_pointer(uint64_t key) {
    return key >> MW_TENSOR_DEVICE_BITS << MW_TENSOR_DEVICE_BITS;
}

static inline uint64_t mw_pack_slack(uint64_t slack) {
    unsigned exponent = 0;
    while (slack >> exponent >= UINT64_C(1) << 19) exponent++;
    return (slack >> exponent) << 5 | exponent;
}
static inline uint64_t mw_unpack_slack(uint64_t packed) {
    return (packed >> 5 & 0x7ffff) << (packed & 31);
}

// A segment of n slots (a power of two) is the records, then a struct mw_bucket for each
// MW_BUCKET_SLOTS slots, which only the library uses.
// tag: a byte of the hash of the key that is in the slot, or was there last; 0 = none.
// overflow: how many live records had their home in this bucket or before and lie behind it. A
// search goes on to the next bucket only while it is not zero, so a search for an unknown key stays
// short however long the process has run.
#define MW_BUCKET_SLOTS 4u
struct mw_bucket {
    _Atomic uint8_t tag[MW_BUCKET_SLOTS];
    _Atomic uint16_t overflow;
    uint16_t reserved;
};
static_assert(sizeof(struct mw_bucket) == 8, "eight buckets a cache line");

// ---------------------------------------------------------------------------------------------
// Threads and their counters.
#define MW_ACCOUNTS      64u // distinct (device, space) pairs; the last one takes what does not fit
#define MW_APIS          256u  // rows of the table of entry points
#define MW_PAGE_BYTES    4096u // of cells
#define MW_CELLS         32u   // cells in a page
#define MW_PAGE_CHILDREN 4u
#define MW_LIFETIMES     10u

// Upper ends of the lifetimes' classes in milliseconds; the last class has none.
#define MW_LIFETIME_ENDS                                                                           \
    { 1, 10, 100, 1000, 10000, 60000, 600000, 3600000, 86400000 }

// One thread's events at one site. Owner only. All are totals since the thread's block was first
// used; `live` is derived. A site's live bytes are Σ over threads of in - own - foreign.
struct mw_cell {
    _Atomic uint32_t site;      // index + 1; 0 = unused. Stored last
    _Atomic uint32_t next_page; // in the first MW_PAGE_CHILDREN cells of a page: see mw_cell_page
    _Atomic uint64_t allocations, bytes_in;
    _Atomic uint64_t own_frees, own_bytes;         // frees by this thread of blocks it allocated
    _Atomic uint64_t foreign_frees, foreign_bytes; // frees by this thread of other threads' blocks
    _Atomic uint64_t failed;
    // Of the site's `bound`, bytes that this thread freed and may allocate again.
    _Atomic uint64_t slack;
    _Atomic uint32_t first_ms, last_ms; // of an allocation here; saturated
    // How long the blocks lived that this thread freed: counts by MW_LIFETIME_ENDS. Wrap modulo
    // 2^32.
    _Atomic uint32_t lifetime[MW_LIFETIMES];
    _Atomic uint32_t slack_limit; // bytes: see site_sub in counters.c
    uint32_t reserved;
};
static_assert(sizeof(struct mw_cell) == 128, "two cache lines");

// Pages form a tree of a thread's own: the page in its block is the root, and who finds no cell in
// a page goes on to one of its MW_PAGE_CHILDREN children by the next bits of the site's hash.
// next_page is index + 1 of a page in the cell chunks, counted in their order; 0 = none.
struct mw_cell_page {
    struct mw_cell cell[MW_CELLS];
};
static_assert(sizeof(struct mw_cell_page) == MW_PAGE_BYTES, "");

enum mw_thread_state {
    MW_THREAD_UNUSED,
    MW_THREAD_RUNNING,
    MW_THREAD_ENDED, // may be taken over by a new thread once nothing of it is live
    MW_THREAD_SHARED // block 0: threads that found no block of their own; its fields are shared
};

// What others freed of this thread's blocks. Shared.
struct mw_remote {
    _Atomic uint64_t bytes, frees;
};

struct mw_thread {
    _Atomic uint32_t state; // enum mw_thread_state
    _Atomic uint32_t tid;
    _Atomic uint32_t earlier;   // how many ended threads used this block before
    _Atomic uint32_t in_flight; // events that this thread may have half-booked just now
    _Atomic uint64_t started_ns, ended_ns;
    char name[16];
    // Totals of the earlier threads: what to subtract from the cells for the present one.
    _Atomic uint64_t before_allocations, before_bytes, before_frees, before_freed_bytes;
    uint64_t reserved0;
    _Atomic uint32_t python_name; // what Python calls it: a string of the arena, 0 = nothing
    uint32_t reserved1[41];
    struct mw_remote remote[MW_ACCOUNTS];
    _Atomic uint64_t calls[MW_APIS]; // calls of each entry point that came through a wrapper
    // Bytes of an account's `bound` that this thread holds but does not use: what it freed and may
    // allocate again without touching a shared line. Stealable: changed by atomic operations only.
    _Atomic uint64_t slack[MW_ACCOUNTS];
    uint64_t reserved2[32];
    struct mw_cell_page cells;
};
static_assert(offsetof(struct mw_thread, remote) == 256, "owner's lines and others' lines apart");
static_assert(sizeof(struct mw_thread) == 8192, "two pages");

// ---------------------------------------------------------------------------------------------
// Interned tables: an entry is claimed by compare-and-swap of `state` 0 → 1, filled, then 2
// (ready).

#define MW_NO_STACK 0u         // none was to be had
#define MW_OVERFLOW UINT32_MAX // the stacks that came after the table of sites was full, together

#define MW_SITE_SLACK (UINT64_C(1) << 20) // bytes

// A site: who allocates. api is what the program called (cudaMalloc), driver_api the driver entry
// point that did it (cuMemAlloc_v2), equal when the program called the driver itself. Two entries
// may say the same (threads that met at its first allocation): a reader adds them up.
struct mw_site {
    _Atomic uint32_t state;
    uint16_t api, driver_api; // rows of the API chunk
    uint16_t account;
    uint16_t reserved0;
    uint32_t stack; // reference to a struct mw_stack in the arena, or MW_NO_STACK, MW_OVERFLOW
    // As an account's, but slack is never taken back: `peak` is what was live at most, plus what
    // threads kept as slack at that moment, which is at most an eighth of the peak and
    // MW_SITE_SLACK each. Exact where one thread uses the site. Shared.
    _Atomic uint64_t bound, peak, peak_ms;
    // Of the frees: what Python's end, which lets go of every object, freed of what was there when
    // it began. Shared. Zero in files of before there was this; see also python_went_on.
    _Atomic uint64_t exit_bytes, exit_blocks;
    uint64_t reserved;
};
static_assert(sizeof(struct mw_site) == 64, "one cache line");

// ---------------------------------------------------------------------------------------------
// The arena: chunks (MW_CHUNK_ARENA) of objects that never change once something refers to them.
//
// A reference is the object's offset in the file divided by 8; 0 refers to nothing. Objects are
// aligned to 8 bytes and lie within one chunk. The writer completes an object before it stores the
// first reference to it, so that an object of a killed writer is one that nothing refers to.
// Equal objects are the same object, but for threads that met.
enum mw_object_kind { MW_STRING = 1, MW_CODE, MW_MODULE, MW_STACK };

struct mw_object {
    uint16_t kind;  // enum mw_object_kind
    uint16_t bytes; // of the whole object, before alignment
};

struct mw_string { // UTF-8, not terminated, cut at a code point
    struct mw_object object;
    char bytes[];
};
#define MW_STRING_MAX 1024u // bytes of text

struct mw_code { // a Python function, class body or module
    struct mw_object object;
    uint32_t file, name; // strings; the name is the qualified one where the interpreter has it
    uint32_t first_line;
};

struct mw_module { // a loaded object file at one place
    struct mw_object object;
    uint32_t path;          // string; 0 = code outside any file (made at run time)
    uint64_t base;          // address in memory - base = address as in the file's own symbol table
    uint64_t offset;        // a frame's offset + this = address in the file
    uint8_t build_id_bytes; // 0 = none
    uint8_t reserved[7];
    uint8_t build_id[32];
};

// The frames of one stack, innermost first: Python's, then native ones.
//   python  entry:1 | line:31 | code:32     line 0 = not known. entry: called from C, so the next
//                                           frame belongs to an earlier run of the interpreter
//   native  module:32 | offset:32           where calls return to, also of the innermost
struct mw_stack {
    struct mw_object object;
    uint8_t python, native; // counts
    uint16_t flags;         // MW_STACK_*
    uint64_t frame[];
};
#define MW_STACK_PYTHON_CUT  1u // there were more Python frames
#define MW_STACK_NATIVE_CUT  2u
#define MW_STACK_APPROXIMATE 4u // a Python line is its function's first (free-threaded 3.14)
#define MW_STACK_UNSURE      8u // Python's part may be another interpreter's (to 3.11, subinterpreters)
#define MW_STACK_DEPTH       128u // most frames of a kind

// Where a block lives: context, stream and pool as the driver's handles (0 = none or unknown).
struct mw_place {
    _Atomic uint32_t state;
    int16_t device; // -1 = host or unknown
    uint16_t reserved;
    uint64_t context, stream, pool; // pool: CUmemoryPool, or the CUgraph of a memory node
};
static_assert(sizeof(struct mw_place) == 32, "half a line");

// One entry point of the table, as the writer knew it.
enum mw_layer { MW_LAYER_DRIVER = 1, MW_LAYER_RUNTIME, MW_LAYER_FRAMEWORK };
struct mw_api {
    char name[52]; // exported symbol; of a framework its name in C++
    uint8_t layer; // enum mw_layer
    uint8_t reserved[3];
    // Version of CUDA, or of the framework, that introduced this ABI: 1000 * major + 10 * minor.
    uint32_t since;
    uint32_t reserved1;
};
static_assert(sizeof(struct mw_api) == 64, "");

// One (device, space) pair. Shared. `bound` is the live bytes plus every thread's slack, so
//     live = bound - sum of slack <= bound <= peak
// holds without a shared counter of live bytes that all threads would fight for. A thread that
// would carry `bound` above `peak` first takes everybody's slack away, so that bound = live, and
// only then raises the peak. So the peak is exact, but for what other threads freed in that very
// moment, and the slack of a thread that was ended amid such a move. Slack on its way is in
// neither; `settling` and `settled` count such moves as they begin and end, so that none is
// overlooked; of threads that were ended amid one, `given_up` are not waited for.
struct mw_account {
    _Atomic uint32_t state;
    int16_t device; // ordinal; -1 = host, or a device that could not be told
    uint8_t space;  // enum mw_space
    uint8_t reserved;
    _Atomic uint64_t bound, peak, peak_ms, settling, settled, given_up;
    uint64_t reserved1;
};
static_assert(sizeof(struct mw_account) == 64, "one cache line each: no false sharing");

// ---------------------------------------------------------------------------------------------
// Observations: what the program itself was told by the driver. Shared, last writer wins.
#define MW_DEVICES 32u
struct mw_device { // index = ordinal
    _Atomic uint32_t known;
    uint32_t reserved;
    char name[104];
    _Atomic uint64_t total;                                  // cuDeviceTotalMem
    _Atomic uint64_t info_free, info_total, info_ns, info_n; // last cuMemGetInfo, calls counted
    _Atomic uint64_t graph_used, graph_used_high, graph_reserved, graph_reserved_high, graph_ns;
    _Atomic uint64_t limits[8], limits_set; // cuCtxSetLimit by CUlimit; bit i set = limits[i] known
    // What this process had live on the device at that last cuMemGetInfo, in the spaces of
    // mw_space_on_device, + 1; 0 = not known: an earlier library wrote this.
    _Atomic uint64_t info_own;
};
static_assert(sizeof(struct mw_device) == 272, "");

#define MW_CONTEXTS 64u
struct mw_context {
    _Atomic uint32_t state; // 0 unused, 1 being filled, 2 live, 3 ended
    _Atomic int16_t device;
    _Atomic uint16_t primary;
    _Atomic uint64_t handle;
    _Atomic uint64_t created_ns, ended_ns;
};
static_assert(sizeof(struct mw_context) == 32, "");

#define MW_POOLS 128u
struct mw_pool {
    _Atomic uint32_t state; // as mw_context
    _Atomic int16_t device;
    _Atomic uint8_t imported;
    _Atomic uint8_t space; // enum mw_space of its memory
    _Atomic uint64_t handle;
    // Attributes as the program last read them; observed_ns 0 = it never did.
    _Atomic uint64_t used, used_high, reserved_bytes, reserved_high, release_threshold, observed_ns;
};
static_assert(sizeof(struct mw_pool) == 64, "");

// The last failed calls, a ring: slot = ordinal % MW_FAILURES. `sequence` is 2·ordinal + 1 while it
// is filled and 2·ordinal + 2 once whole, so that a torn one can be told.
#define MW_FAILURES 32u
struct mw_failure {
    _Atomic uint64_t sequence;
    _Atomic uint64_t when_ns;
    _Atomic uint64_t asked;       // bytes; 0 = not known or not an allocation
    _Atomic uint64_t key;         // pointer or handle of a failed free, else 0
    _Atomic uint64_t live;        // bytes live in this account at that moment
    _Atomic uint64_t device_free; // what cuMemGetInfo last said, UINT64_MAX = never asked
    _Atomic uint32_t result;      // CUresult or cudaError_t, as returned
    _Atomic uint16_t api, driver_api;
    _Atomic uint16_t account, thread;
    _Atomic uint32_t tid;
    _Atomic uint32_t site;  // index + 1; 0 = not an allocation, or not told
    _Atomic uint32_t stack; // as in struct mw_site, also of what is not an allocation
};
static_assert(sizeof(struct mw_failure) == 72, "");

// Look-ups of names that sound like memory and are not in the table: what we may have missed.
#define MW_LOOKUPS 256u
struct mw_lookup {
    _Atomic uint32_t count; // 0 = unused
    uint32_t door;          // enum mw_door
    char name[56];
};
static_assert(sizeof(struct mw_lookup) == 64, "");

enum mw_door { MW_DOOR_SYMBOL, MW_DOOR_DLSYM, MW_DOOR_GETPROC, MW_DOOR_GETPROC_V2, MW_DOOR_COUNT };

// What could not be recorded, each a count of events. X(identifier, words for the report)
#define MW_LOSSES(X)                                                                               \
    X(RECORDS, "allocations not recorded: the record table was full or could not grow")            \
    X(RECORD_BYTES, "bytes of allocations not recorded")                                           \
    X(SITES, "events put on the overflow site")                                                    \
    X(PLACES, "events whose context, stream or pool was not kept")                                 \
    X(ACCOUNTS, "events put on the overflow account")                                              \
    X(THREADS, "threads that share one block of counters")                                         \
    X(CELLS, "events missing from a thread's counters")                                            \
    X(UNKNOWN_FREES, "frees of pointers or handles that were not in the ledger")                   \
    X(REUSED_KEYS, "addresses handed out again while still recorded: a free was missed")           \
    X(FOLDED, "handles longer than 48 bits, folded")                                               \
    X(LOOKUPS, "unwatched look-ups not listed")                                                    \
    X(GROWTH, "times the file could not grow")                                                     \
    X(CONTEXTS, "contexts or pools not listed")                                                    \
    X(STACKS, "events whose stack could not be kept")                                              \
    X(WAKING, "events during which the ledger was still being made")                               \
    X(TENSORS, "tensor events amid another event of their thread, not recorded")                   \
    X(UNKNOWN_TENSORS, "frees of tensors that were not in the ledger")
enum mw_loss {
#define X(id, text) MW_LOSS_##id,
    MW_LOSSES(X)
#undef X
        MW_LOSS_COUNT
};
static_assert(MW_LOSS_COUNT <= 32, "");

// Where stacks come from, and if not, why.
enum mw_level_kind { MW_LEVEL_PYTHON, MW_LEVEL_NATIVE, MW_LEVEL_COUNT = 4 };
enum mw_level_state {
    MW_LEVEL_NONE, // not there: no interpreter was seen
    MW_LEVEL_LIVE,
    MW_LEVEL_OFF,        // by option
    MW_LEVEL_UNAVAILABLE // `words` tells why
};
struct mw_level {
    _Atomic uint32_t state; // enum mw_level_state; stored after the words
    char words[124];        // what it is ("CPython 3.11.7"), or the reason
};
static_assert(sizeof(struct mw_level) == 128, "");

// What the program wrote to standard error, a ring of 8-byte words (MW_CHUNK_MESSAGES; its count is
// the ring's size in bytes, a power of two, and the words follow the chunk's first MW_RING_HEAD
// bytes). A message is a struct mw_message and its text, rounded up to words, at `written` modulo
// the size; it may wrap at any word. A whole one has its own position + 1 as `commit`; who finds
// another value there, for a writer was killed or is not yet done, looks on at the next word.
struct mw_ring {
    _Atomic uint64_t written; // position of the next message, only growing
    uint64_t reserved[7];
};
#define MW_RING_HEAD sizeof(struct mw_ring)
struct mw_message {
    _Atomic uint64_t commit; // stored last
    uint64_t when_ns;
    uint64_t live_device, live_host; // bytes of owned memory at that moment, on devices and pinned
    uint32_t bytes, cut;             // of text kept here; what was left out behind its first half
    uint32_t tid, reserved;
};
static_assert(sizeof(struct mw_message) == 48, "whole words");

// ---------------------------------------------------------------------------------------------
// What PyTorch says of its own books (MW_CHUNK_TORCH, one struct mw_torch).

enum mw_tensors { MW_TENSORS_GPU, MW_TENSORS_ALL, MW_TENSORS_OFF }; // MEMWATCH_TENSORS

// The totals of a device as the last event told them; that event is included. Written by who holds
// the allocator's mutex of that device. index = torch's, which is the driver's ordinal.
struct mw_torch_device {
    _Atomic uint32_t known; // 0 = no event yet; 1 = without totals (torch before 1.10); 2 = with
    uint32_t reserved0;
    _Atomic uint64_t allocated, reserved_bytes;
    _Atomic uint64_t allocated_peak, reserved_peak;
    _Atomic uint64_t
        before; // allocated before the first event that was seen; 0 = seen from the start
    uint64_t reserved[2];
};
static_assert(sizeof(struct mw_torch_device) == 64, "one cache line each");

// Memory that torch could not get, a ring as that of the failures: what it asked for, what it said
// of its books, and the sites that held most tensors on that device just then, largest first.
#define MW_OOMS      8u
#define MW_OOM_SITES 16u
struct mw_oom {
    _Atomic uint64_t sequence; // as in struct mw_failure
    uint64_t when_ns;
    uint64_t asked, allocated, reserved_bytes; // UINT64_MAX = not told
    uint64_t live;                             // bytes of tensors live on the device, by our books
    int32_t device;
    uint32_t tid;
    uint64_t reserved[1];
    struct {
        uint32_t site, reserved; // index + 1; 0 = none
        uint64_t bytes;
    } site[MW_OOM_SITES];
};
static_assert(sizeof(struct mw_oom) == 64 + 16 * MW_OOM_SITES, "");

struct mw_torch {
    uint32_t bytes;   // of this struct as the writer knew it
    uint32_t tensors; // enum mw_tensors
    // libc10 as it was last seen loaded: which of the rows of torch.def it defines, a bit each; of
    // which of them several libraries of that name are there, so that events are not forwarded.
    _Atomic uint32_t defined, ambiguous;
    char path[240];
    char allocator[240]; // PYTORCH_CUDA_ALLOC_CONF or PYTORCH_ALLOC_CONF; "" = not set
    uint32_t no_caching; // PYTORCH_NO_CUDA_MEMORY_CACHING is set
    uint32_t reserved0;
    _Atomic uint64_t ooms; // in all
    struct mw_torch_device device[MW_DEVICES];
    struct mw_oom oom[MW_OOMS];
};
static_assert(sizeof(struct mw_torch) == 512 + 64 * MW_DEVICES + (64 + 16 * MW_OOM_SITES) * MW_OOMS,
              "");

// ---------------------------------------------------------------------------------------------
// The header.
enum mw_chunk_kind {
    MW_CHUNK_NONE,
    MW_CHUNK_THREADS,
    MW_CHUNK_CELLS,
    MW_CHUNK_SITES,
    MW_CHUNK_PLACES,
    MW_CHUNK_APIS,
    MW_CHUNK_RECORDS,
    MW_CHUNK_ARENA,
    MW_CHUNK_MESSAGES,
    MW_CHUNK_TORCH,
};
struct mw_chunk {
    uint64_t offset, bytes; // in the file; a multiple of 4096 each
    uint32_t count;         // entries; for records: slots
    _Atomic uint32_t kind;  // stored last
};
static_assert(sizeof(struct mw_chunk) == 24, "");
#define MW_CHUNKS 128u

enum mw_life {
    MW_LIFE_NONE,
    MW_LIFE_READY,  // header complete, events are counted
    MW_LIFE_EXITING // exit handlers run: what is still live now is live at exit
};

enum mw_exit_kind { MW_EXIT_UNKNOWN, MW_EXIT_CODE, MW_EXIT_SIGNAL, MW_EXIT_EXEC };

struct mw_header {
    char magic[8];
    uint32_t format, order;
    // Sizes of the structs as the writer knew them.
    uint32_t header_bytes, thread_bytes, cell_bytes, site_bytes, place_bytes, api_bytes;
    uint32_t record_bytes, account_bytes, device_bytes, context_bytes, pool_bytes, failure_bytes;
    uint32_t lookup_bytes, chunk_bytes;
    _Atomic uint32_t life; // enum mw_life
    _Atomic uint32_t exit_kind;
    _Atomic int32_t exit_value; // exit code or signal; stored before exit_kind, by who reaped it

    uint32_t pid, ppid, uid;
    uint64_t start_ticks;        // field 22 of /proc/PID/stat; 0 = no /proc
    uint64_t start_monotonic_ns; // CLOCK_MONOTONIC when the ledger was made: the file's time zero
    uint64_t start_realtime_ns;  // CLOCK_REALTIME at that moment
    int32_t rank, local_rank, world_size; // -1 = not told
    uint32_t argv_bytes;                  // used part of argv
    _Atomic uint64_t exiting_ns;          // when the exit handlers ran
    _Atomic uint64_t ended_ns; // when the process was found dead; by who stores exit_kind
    char boot_id[40];
    char version[24]; // of the library
    char host[72];
    char exe[512], cwd[512], report_dir[512]; // report_dir: MEMWATCH_DIR, may be empty
    char argv[4096];                          // NUL-separated, cut at the end if too long

    _Atomic uint64_t file_bytes; // length in use
    _Atomic uint64_t losses[32]; // by enum mw_loss
    _Atomic int32_t growth_errno;
    _Atomic uint32_t deepbinds;      // dlopen calls with RTLD_DEEPBIND
    _Atomic uint32_t doors[8];       // look-ups answered with a wrapper, by enum mw_door
    _Atomic uint32_t driver_version; // as cuDriverGetVersion told the program; 0 = never asked
    uint32_t level_bytes;            // size of struct mw_level as the writer knew it
    char deepbind_path[256];         // the first such library
    char driver_path[256];           // object whose functions are wrapped; "" = never seen
    _Atomic uint64_t failures_total;
    _Atomic uint64_t api_failed[MW_APIS];
    // The program allocated again after Python had ended: its end was not the program's, and what
    // sites have of it means nothing.
    _Atomic uint32_t python_went_on;

    alignas(64) struct mw_account account[MW_ACCOUNTS];
    struct mw_device device[MW_DEVICES];
    struct mw_context context[MW_CONTEXTS];
    struct mw_pool pool[MW_POOLS];
    struct mw_failure failure[MW_FAILURES];
    struct mw_lookup lookup[MW_LOOKUPS];
    struct mw_chunk chunk[MW_CHUNKS];
    struct mw_level level[MW_LEVEL_COUNT];
};
static_assert(offsetof(struct mw_header, account) % 64 == 0, "");
static_assert(sizeof(struct mw_header) <= 65536, "");
#define MW_HEADER_BYTES 65536u // the first chunk begins here

#endif

// SPDX-License-Identifier: Apache-2.0
//
// The record table: one lock-free open-addressing table of live blocks, in segments that are
// appended as it fills. It lies in the ledger file, so it is also the truth that reports are made
// from. Layout and protocol: ledger_format.h.
//
// Why this structure. An allocator never hands out an address twice without a free between, so two
// live records never have the same key, and an insertion may take any free slot without looking
// for its key elsewhere. Hence a plain compare-and-swap per slot is enough, a thread that stops
// anywhere blocks nobody, and a forked or killed process leaves nothing locked. Each bucket counts
// the records that overflowed past it, instead of leaving tombstones: a search for an unknown key
// stays short for ever.
//
// A search compares tags, two bytes a slot, which stay in the cache where the records do not, and
// looks at a record only where a tag fits. A freed slot keeps its tag: an allocator hands out the
// same addresses again and again, and a key that comes back finds its old slot by it. So once a
// program has reached its size next to no tag changes; threads read the lines of the tags, and what
// goes from one's cache to another's is the record alone.
//
// A slot is claimed by one compare-and-swap of its commit word (FREE or LIVE -> BUSY); only who
// claimed it writes its record and its tag, but for the count of references (mw_record_refer).
//
// Memory order. A slot is claimed with acquire and given back with release, so what a thread does
// to a record happens before what the next one does. The release fence behind a claim makes a
// reader in another process that sees a store of what follows also see that the slot was BUSY. LIVE
// is stored with release, after the rest; a thread that is told of the key by the one that inserted
// it also sees its tag.
//
// Segments double the total each time: 64 Ki slots, 64 Ki, 128 Ki, ... so right after growth, at
// 0.86 full before, a live block costs 2 * 34 / 0.86 = 79 bytes. An insertion tries a key's home
// bucket in every segment, newest first, before it goes on to the neighbours of any: with so many
// choices nearly everything is at home even when the table is almost full, overflow counts stay at
// zero, and what comes back moves into the newest, largest segment until that is used up. A search
// starts the loads of all home buckets together.
#include "ledger.h"

#include "map.h"

#define MAX_SEGMENTS 20
#define FIRST_SLOTS  (64u * 1024)
#define LOAD_PERCENT 86u
#define PROBES       4u  // buckets that an insertion tries in each segment
#define PROBES_MAX   64u // ... while another thread is growing the table, or it cannot grow

struct segment {
    alignas(32) struct mw_record *slots; // (none crosses a line)
    struct mw_bucket *buckets;
    uint32_t bucket_mask;
    uint32_t shift; // 64 - log2(buckets)
};
static_assert(sizeof(struct segment) == 32, "two in a line");

// How full the table is, told by every 64th key: to count them all would be a cache line that every
// thread changes at every event. Bits of the hash that neither the tag nor the home is made of.
#define SAMPLING 64u

// What every event reads; and, in a line of its own, what every 64th changes. (Hence the padding.)
MW_READ_MOSTLY static struct { // NOLINT(clang-analyzer-optin.performance.Padding)
    // NULL = none yet. Stored with release after the segment is filled in.
    alignas(64) struct segment *_Atomic newest;
    _Atomic uint32_t growing;     // the number of segments for which growth was begun
    _Atomic uint32_t sampled_max; // from so many on the table grows
    struct segment segment[MAX_SEGMENTS];
    alignas(64) _Atomic uint32_t sampled; // live records of sampled keys
} table;

// Brings a line that is about to be changed, in one trip: a load would bring it shared, and the
// store that follows would have to ask again for it alone. (Compilers take the builtin for a load
// unless they are told of a processor that knows better; the others take the instruction for none.)
MW_INLINE void prefetch_to_change(const void *line) {
#ifdef __x86_64__
    __asm__ volatile("prefetchw %0" : : "m"(*(const char *)line));
#else
    __builtin_prefetch(line, 1);
#endif
}

static uint32_t segment_count(void) {
    const struct segment *newest = atomic_load_explicit(&table.newest, memory_order_acquire);
    return newest ? (uint32_t)(newest - table.segment) + 1 : 0;
}

MW_INLINE bool is_sampled(uint64_t hash) {
    return (hash >> 40) % SAMPLING == 0;
}

// Mixed well, not just multiplied: a product sends addresses that lie a power of two apart, as
// those of two threads' arenas may, to homes a fixed distance apart, at worst all on the same
// lines.
MW_INLINE uint64_t hash_key(enum mw_class class_, uint64_t key) {
    return mw_mix(key ^ (uint64_t)class_ << 57, 0);
}

MW_INLINE uint32_t home_bucket(const struct segment *s, uint64_t hash) {
    return (uint32_t)(hash >> s->shift);
}

#define NO_TAG 0
// The home comes from the top bits of the hash, the tag from the middle.
MW_INLINE uint8_t tag_of(uint64_t hash) {
    uint8_t tag = (uint8_t)(hash >> 32);
    return tag == NO_TAG ? 1 : tag;
}

// The slot of a bucket that an insertion tries first. A bucket's records are two lines, and while
// the table is not full this tells in most cases which of them a key is in.
MW_INLINE unsigned favourite(uint64_t hash) {
    return (unsigned)(hash >> 30) % 2 * (MW_BUCKET_SLOTS / 2);
}

// Where a bucket is: its tags, and its records.
struct bucket_parts {
    struct mw_bucket *tags;
    struct mw_record *slots;
};
MW_INLINE struct bucket_parts bucket_at(const struct segment *s, uint32_t number) {
    size_t n = number & s->bucket_mask;
    return (struct bucket_parts){s->buckets + n, s->slots + n * MW_BUCKET_SLOTS};
}

// A bucket is looked at with one load of all its eight bytes, which is atomic on every machine that
// we run on; its parts are only ever changed one by one.
typedef uint64_t __attribute__((may_alias)) bucket_word;

MW_INLINE uint64_t look(const struct mw_bucket *b) {
    return __atomic_load_n((const bucket_word *)b, __ATOMIC_ACQUIRE);
}

MW_INLINE bool overflowed(uint64_t look) {
    return (uint16_t)(look >> 32) != 0;
}

// Which slots have that tag: the top bit of each slot's byte.
MW_INLINE uint32_t slots_tagged(uint64_t look, uint8_t tag) {
    uint32_t differ = (uint32_t)look ^ tag * 0x01010101u;
    return ~(((differ & 0x7f7f7f7f) + 0x7f7f7f7f) | differ | 0x7f7f7f7f);
}
MW_INLINE unsigned first_slot(uint32_t slots) {
    return (unsigned)__builtin_ctz(slots) / 8;
}

bool mw_records_open(void *memory, uint32_t slots) {
    uint32_t n = segment_count();
    if (n == MAX_SEGMENTS) return false;
    uint32_t buckets = slots / MW_BUCKET_SLOTS;
    struct segment *s = &table.segment[n];
    s->slots = memory;
    s->buckets = (struct mw_bucket *)(s->slots + slots);
    s->bucket_mask = buckets - 1;
    s->shift = (uint32_t)__builtin_clz(buckets) + 33;
    mw_set(&table.growing, n + 1);
    mw_add(&table.sampled_max, slots / SAMPLING * LOAD_PERCENT / 100);
    atomic_store_explicit(&table.newest, s, memory_order_release);
    return true;
}

void mw_records_reset(void) {
    mw_set(&table.newest, NULL);
    mw_set(&table.growing, 0);
    mw_set(&table.sampled, 0);
    mw_set(&table.sampled_max, 0);
}

uint64_t mw_records_bytes(uint32_t slots) {
    return (uint64_t)slots * sizeof(struct mw_record) +
           (uint64_t)(slots / MW_BUCKET_SLOTS) * sizeof(struct mw_bucket);
}

// One thread grows; the others do not wait for it but search further for a free slot meanwhile.
// `growing` keeps its value when growth fails, so that a file that cannot grow is not tried again
// at each allocation. True if there are more segments than `seen`.
static bool grow(uint32_t seen) {
    uint32_t expected = seen;
    if (seen >= MAX_SEGMENTS) return false;
    if (!atomic_compare_exchange_strong(&table.growing, &expected, seen + 1))
        return segment_count() > seen;
    uint32_t slots = seen < 2 ? FIRST_SLOTS : FIRST_SLOTS << (seen - 1);
    void *memory = mw_ledger_grow(MW_CHUNK_RECORDS, slots, mw_records_bytes(slots));
    return memory && mw_records_open(memory, slots);
}

static void count_overflow(struct segment *s, uint32_t home, uint32_t probes, int delta) {
    for (uint32_t i = 0; i < probes; i++)
        mw_add(&bucket_at(s, home + i).tags->overflow, (uint16_t)delta);
}

MW_INLINE void load_fields(struct mw_record *r, struct mw_taken *out) {
    out->size = mw_get(&r->size);
    out->owner = mw_get(&r->owner);
    out->birth = mw_get(&r->birth);
}

// A slot as it was seen.
struct slot {
    struct segment *segment;
    struct mw_record *record;
    _Atomic uint8_t *tag;
    uint64_t commit;
};
MW_INLINE struct slot slot_in(struct segment *s, struct bucket_parts b, unsigned i,
                              memory_order order) {
    struct mw_record *record = &b.slots[i];
    return (struct slot){s, record, &b.tags->tag[i], atomic_load_explicit(&record->commit, order)};
}

// Where a live record is.
struct position {
    struct slot at;
    uint64_t hash;
    uint32_t probes; // buckets behind its home
};

// True: nobody else touches the slot until its commit word is stored.
MW_INLINE bool claim(struct mw_record *record, uint64_t seen) {
    uint64_t busy = mw_commit(MW_BUSY, mw_commit_generation(seen), 0, 0);
    return atomic_compare_exchange_strong_explicit(&record->commit, &seen, busy,
                                                   memory_order_acquire, memory_order_relaxed);
}

// Takes out what was found at `p`, unless somebody else did meanwhile.
MW_INLINE bool take_at(const struct position *p, uint64_t now_ns, struct mw_taken *out) {
    struct mw_record *record = p->at.record;
    uint64_t commit = p->at.commit;
    if (!claim(record, commit)) return false;
    *out = (struct mw_taken){.key = mw_commit_key(commit),
                             .class_ = mw_commit_class(commit),
                             .taken_ns = now_ns,
                             .found = true};
    load_fields(record, out);
    if (mw_unlikely(p->probes))
        count_overflow(p->at.segment, home_bucket(p->at.segment, p->hash), p->probes, -1);
    if (mw_unlikely(is_sampled(p->hash))) mw_add(&table.sampled, -1);
    if (mw_unlikely(p->probes)) mw_set(p->at.tag, NO_TAG); // where none would look for it
    commit = mw_commit(MW_FREE, mw_commit_generation(commit), 0, 0);
    atomic_store_explicit(&record->commit, commit, memory_order_release);
    return true;
}

// The record of a key in one bucket, if it is there. If not, and `old` is not NULL and not yet
// found, the slot where it was before, if that is still free.
MW_INLINE bool bucket_find(struct segment *in, struct bucket_parts b, uint64_t seen,
                           uint64_t wanted, uint64_t hash, struct slot *out, struct slot *old) {
    const uint64_t generation_mask = UINT64_C(0x3ff) << 52;
    for (uint32_t slots = slots_tagged(seen, tag_of(hash)); slots; slots &= slots - 1) {
        struct slot s = slot_in(in, b, first_slot(slots), memory_order_acquire);
        if ((s.commit & ~generation_mask) == wanted) {
            *out = s;
            return true;
        }
        if (old && !old->record && mw_commit_state(s.commit) == MW_FREE) *old = s;
    }
    return false;
}

// Behind its home, where next to nothing is.
static __attribute__((noinline)) bool find_behind(struct segment *s, uint64_t wanted,
                                                  struct position *out) {
    for (uint32_t probe = 1; probe < PROBES_MAX; probe++) {
        struct bucket_parts b = bucket_at(s, home_bucket(s, out->hash) + probe);
        uint64_t seen = look(b.tags);
        out->probes = probe;
        if (bucket_find(s, b, seen, wanted, out->hash, &out->at, NULL)) return true;
        if (!overflowed(seen)) return false;
    }
    return false;
}

// Where a search begins: the home of the hash in the newest segment, where most keys are. NULL =
// there is no segment.
struct start {
    struct segment *segment;
    struct bucket_parts bucket;
};

MW_INLINE struct start begin(uint64_t hash) {
    struct start start = {NULL, {NULL, NULL}};
    start.segment = atomic_load_explicit(&table.newest, memory_order_acquire);
    if (mw_unlikely(!start.segment)) return start;
    start.bucket = bucket_at(start.segment, home_bucket(start.segment, hash));
    return start;
}

// Starts to load what a search will look at: tags and records come from memory, or from another
// core, side by side and not one after the other. While the table is small only the record's likely
// line: to take others away from a core that needs them would cost more.
MW_INLINE void fetch(struct start start, uint64_t hash) {
    if (mw_unlikely(!start.segment)) return;
    __builtin_prefetch(start.bucket.tags);
    prefetch_to_change(start.bucket.slots + favourite(hash));
    if (start.segment > &table.segment[1])
        prefetch_to_change(start.bucket.slots + (favourite(hash) ^ MW_BUCKET_SLOTS / 2));
    for (const struct segment *older = table.segment; older < start.segment; older++)
        __builtin_prefetch(bucket_at(older, home_bucket(older, hash)).tags);
}

MW_HOT void mw_record_fetch(enum mw_class class_, uint64_t key) {
    uint64_t hash = hash_key(class_, mw_fold_key(key));
    fetch(begin(hash), hash);
}

// Fills in *out, where `hash` stands; *old as bucket_find.
MW_INLINE bool find(struct start start, enum mw_class class_, uint64_t key, struct position *out,
                    struct slot *old) {
    const uint64_t wanted = mw_commit(MW_LIVE, 0, class_, key), hash = out->hash;
    struct segment *s = start.segment;
    struct bucket_parts b = start.bucket;
    if (mw_unlikely(!s)) return false;
    for (;;) {
        uint64_t seen = look(b.tags);
        out->probes = 0;
        if (bucket_find(s, b, seen, wanted, hash, &out->at, old)) return true;
        if (mw_unlikely(overflowed(seen)) && find_behind(s, wanted, out)) return true;
        if (s == table.segment) return false;
        s--;
        b = bucket_at(s, home_bucket(s, hash));
    }
}

// Puts a record into a slot that was free, `probes` buckets behind its home, unless somebody else
// claims it.
MW_INLINE bool put(const struct slot *into, const struct mw_taken *record, uint64_t hash,
                   uint32_t probes) {
    struct mw_record *r = into->record;
    struct segment *s = into->segment;
    if (mw_unlikely(!claim(r, into->commit))) return false;
    if (mw_unlikely(probes)) count_overflow(s, home_bucket(s, hash), probes, +1);
    if (mw_unlikely(mw_get(into->tag) != tag_of(hash))) mw_set(into->tag, tag_of(hash));
    mw_fence(memory_order_release);
    mw_set(&r->size, record->size);
    mw_set(&r->owner, record->owner);
    mw_set(&r->birth, record->birth);
    uint64_t commit =
        mw_commit(MW_LIVE, mw_commit_generation(into->commit) + 1, record->class_, record->key);
    atomic_store_explicit(&r->commit, commit, memory_order_release);
    return true;
}

// Slots that nobody will come back to are taken first.
MW_INLINE bool bucket_insert(struct segment *s, struct bucket_parts b, uint32_t probes,
                             const struct mw_taken *record, uint64_t hash) {
    for (unsigned k = 0; k < 2 * MW_BUCKET_SLOTS; k++) {
        unsigned i = k % MW_BUCKET_SLOTS ^ favourite(hash);
        if (k < MW_BUCKET_SLOTS && mw_get(&b.tags->tag[i]) != NO_TAG) continue;
        struct slot here = slot_in(s, b, i, memory_order_relaxed);
        if (mw_commit_state(here.commit) == MW_FREE && put(&here, record, hash, probes))
            return true;
    }
    return false;
}

// Back to where the key was before. But the newest segment is where searches begin: if its bucket
// has a slot that was never used, and the old one is in a smaller segment, the key moves there once
// and for all, and its tag in the old slot, which would lead searches astray, goes.
MW_INLINE bool return_to(const struct slot *before, struct start start,
                         const struct mw_taken *record, uint64_t hash) {
    if (mw_likely(before->segment->bucket_mask == start.segment->bucket_mask) ||
        !slots_tagged(look(start.bucket.tags), NO_TAG))
        return put(before, record, hash, 0);
    if (claim(before->record, before->commit)) {
        mw_set(before->tag, NO_TAG);
        atomic_store_explicit(&before->record->commit, before->commit, memory_order_release);
    }
    return false;
}

static __attribute__((noinline)) bool insert_anywhere(const struct mw_taken *record,
                                                      uint64_t hash) {
    for (uint32_t probes = PROBES;;) {
        uint32_t n = segment_count();
        for (uint32_t probe = 0; probe < probes; probe++)
            for (uint32_t i = n; i-- > 0;) {
                struct segment *s = &table.segment[i];
                struct bucket_parts b = bucket_at(s, home_bucket(s, hash) + probe);
                if (bucket_insert(s, b, probe, record, hash)) return true;
            }
        if (grow(n)) continue;
        if (probes == PROBES_MAX) break;
        probes = PROBES_MAX;
    }
    if (is_sampled(hash)) mw_add(&table.sampled, -1);
    return false;
}

MW_HOT bool mw_record_insert(const struct mw_taken *record, struct mw_taken *stale) {
    struct position same = {.hash = hash_key(record->class_, record->key)};
    struct slot before = {.record = NULL};
    struct start start = begin(same.hash);
    stale->found = false;
    while (mw_unlikely(find(start, record->class_, record->key, &same, &before)) &&
           !take_at(&same, mw_now_ns(), stale))
        start = begin(same.hash);
    if (mw_unlikely(is_sampled(same.hash)) &&
        mw_add(&table.sampled, 1) >= mw_get(&table.sampled_max))
        grow(segment_count());
    return (mw_likely(before.record) && mw_likely(return_to(&before, start, record, same.hash))) ||
           (mw_likely(start.segment) &&
            mw_likely(bucket_insert(start.segment, start.bucket, 0, record, same.hash))) ||
           insert_anywhere(record, same.hash);
}

MW_HOT bool mw_record_take(enum mw_class class_, uint64_t key, struct mw_taken *out) {
    out->found = false;
    key = mw_fold_key(key);
    struct position found = {.hash = hash_key(class_, key)};
    struct start start = begin(found.hash);
    fetch(start, found.hash);
    uint64_t now_ns = mw_now_ns(); // while the record is on its way
    while (find(start, class_, key, &found, NULL)) {
        if (take_at(&found, now_ns, out)) return true;
        // A lost race means that another thread took this very record: look again, for there might
        // be a second one of that key when a free was missed.
        start = begin(found.hash);
    }
    return false;
}

bool mw_record_find(enum mw_class class_, uint64_t key, struct mw_taken *out) {
    out->found = false;
    key = mw_fold_key(key);
    struct position found = {.hash = hash_key(class_, key)};
    while (find(begin(found.hash), class_, key, &found, NULL)) {
        out->key = key;
        out->class_ = class_;
        load_fields(found.at.record, out);
        mw_fence(memory_order_acquire); // the second look must not move up
        if (mw_get(&found.at.record->commit) == found.at.commit) return out->found = true;
    }
    return false;
}

bool mw_record_refer(enum mw_class class_, uint64_t key, int delta, struct mw_taken *out,
                     bool *ended) {
    const uint64_t one = UINT64_C(1) << 40;
    *ended = false;
    key = mw_fold_key(key);
    struct position found = {.hash = hash_key(class_, key)};
    while (find(begin(found.hash), class_, key, &found, NULL)) {
        struct mw_record *record = found.at.record;
        uint64_t birth = mw_get(&record->birth);
        uint64_t count = birth >> 40;
        if (delta < 0 && count <= 1) {
            if (!take_at(&found, mw_now_ns(), out)) continue;
            return *ended = true;
        }
        uint64_t changed = delta < 0 ? birth - one : birth + one;
        if (atomic_compare_exchange_strong_explicit(&record->birth, &birth, changed,
                                                    memory_order_acq_rel, memory_order_relaxed)) {
            *out = (struct mw_taken){.key = key, .class_ = class_, .found = true};
            load_fields(record, out);
            return true;
        }
    }
    out->found = false;
    return false;
}

void mw_records_take_all(bool (*match)(const struct mw_taken *, void *),
                         void (*each)(const struct mw_taken *), void *context) {
    uint32_t n = segment_count();
    for (uint32_t k = 0; k < n; k++) {
        struct segment *s = &table.segment[k];
        uint32_t slots = (s->bucket_mask + 1) * MW_BUCKET_SLOTS;
        for (uint32_t i = 0; i < slots; i++) {
            uint32_t bucket = i / MW_BUCKET_SLOTS;
            struct slot slot =
                slot_in(s, bucket_at(s, bucket), i % MW_BUCKET_SLOTS, memory_order_acquire);
            if (mw_commit_state(slot.commit) != MW_LIVE) continue;
            struct mw_taken t = {.key = mw_commit_key(slot.commit),
                                 .class_ = mw_commit_class(slot.commit),
                                 .found = true};
            load_fields(slot.record, &t);
            mw_fence(memory_order_acquire); // the second look must not move up
            if (mw_get(&slot.record->commit) != slot.commit || !match(&t, context)) continue;
            uint64_t hash = hash_key(t.class_, t.key);
            struct position found = {slot, hash, (bucket - home_bucket(s, hash)) & s->bucket_mask};
            // Somebody scribbled over a key that lies so far from its home.
            if (found.probes >= PROBES_MAX) continue;
            if (take_at(&found, mw_now_ns(), &t)) each(&t);
        }
    }
}

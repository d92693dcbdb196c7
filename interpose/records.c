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
// Everything but the record itself goes through the tags, two bytes a slot, which stay in the cache
// where the records do not: a search compares tags and looks at a record only where one fits; an
// insertion or removal is one compare-and-swap of a tag byte, and then plain stores.
//
// Memory order. A tag is taken (0 -> 1 or T -> 1) with acquire and given back with release, so what
// a thread does to a record happens before what the next one does. The release fence before an
// insertion's stores makes a reader in another process that sees one of them also see that the slot
// was FREE before. LIVE is stored with release, after the rest.
//
// Segments double the total each time: 64 Ki slots, 64 Ki, 128 Ki, ... so right after growth, at
// about 0.83 full before, a live block costs 2 * 34 / 0.83 = 82 bytes. Newest first for both
// insertion and search: churn moves everything into the largest one. A search starts the loads of
// all home buckets together.
#include "ledger.h"

#define MAX_SEGMENTS 20
#define FIRST_SLOTS  (64u * 1024)
#define PROBES       6u  // buckets that an insertion tries in a segment: 24 slots
#define PROBES_MAX   64u // ... while another thread is growing the table, or it cannot grow
#define NEWEST                                                                                     \
    2u // segments that an insertion tries: three quarters of the table. If both are
       // full around the key's home the table grows, at about 0.83 of them

struct segment {
    struct mw_record *slots;
    struct mw_bucket *buckets;
    uint32_t bucket_mask;
    uint32_t shift; // 64 - log2(buckets)
};

static struct segment segments[MAX_SEGMENTS];
static _Atomic uint32_t segment_count; // stored with release after the segment is filled in
static _Atomic uint32_t growing;       // the number of segments for which growth was begun

MW_INLINE uint64_t hash_key(enum mw_class class_, uint64_t key) {
    return (key ^ (uint64_t)class_ << 57) * UINT64_C(0x9e3779b97f4a7c15);
}

MW_INLINE uint32_t home_bucket(const struct segment *s, uint64_t hash) {
    return (uint32_t)(hash >> s->shift);
}

enum { TAG_FREE, TAG_BUSY, TAG_FIRST };
// The home comes from the top bits of the hash, the tag from the middle: the lowest bits of a
// product are those of the key, and addresses are aligned.
MW_INLINE uint8_t tag_of(uint64_t hash) {
    uint8_t tag = (uint8_t)(hash >> 32);
    return tag < TAG_FIRST ? tag + TAG_FIRST : tag;
}

MW_INLINE struct mw_bucket *tags_at(const struct segment *s, uint32_t bucket) {
    return &s->buckets[bucket & s->bucket_mask];
}

MW_INLINE bool change_tag(_Atomic uint8_t *tag, uint8_t from, uint8_t to) {
    return atomic_compare_exchange_strong_explicit(tag, &from, to, memory_order_acquire,
                                                   memory_order_relaxed);
}

MW_INLINE struct mw_record *bucket_at(const struct segment *s, uint32_t bucket) {
    return s->slots + (size_t)(bucket & s->bucket_mask) * MW_BUCKET_SLOTS;
}

bool mw_records_open(void *memory, uint32_t slots) {
    uint32_t n = mw_get(&segment_count);
    if (n == MAX_SEGMENTS) return false;
    uint32_t buckets = slots / MW_BUCKET_SLOTS;
    struct segment *s = &segments[n];
    s->slots = memory;
    s->buckets = (struct mw_bucket *)(s->slots + slots);
    s->bucket_mask = buckets - 1;
    s->shift = (uint32_t)__builtin_clz(buckets) + 33;
    mw_set(&growing, n + 1);
    atomic_store_explicit(&segment_count, n + 1, memory_order_release);
    return true;
}

void mw_records_reset(void) {
    mw_set(&segment_count, 0);
    mw_set(&growing, 0);
}

uint64_t mw_records_bytes(uint32_t slots) {
    return (uint64_t)slots * sizeof(struct mw_record) +
           slots / MW_BUCKET_SLOTS * sizeof(struct mw_bucket);
}

// One thread grows; the others do not wait for it but search further for a free slot meanwhile.
// `growing` keeps its value when growth fails, so that a file that cannot grow is not tried again
// at each allocation. True if there are more segments than `seen`.
static bool grow(uint32_t seen) {
    uint32_t expected = seen;
    if (seen >= MAX_SEGMENTS) return false;
    if (!atomic_compare_exchange_strong(&growing, &expected, seen + 1))
        return mw_get(&segment_count) > seen;
    uint32_t slots = seen < 2 ? FIRST_SLOTS : FIRST_SLOTS << (seen - 1);
    void *memory = mw_ledger_grow(MW_CHUNK_RECORDS, slots, mw_records_bytes(slots));
    return memory && mw_records_open(memory, slots);
}

static void count_overflow(struct segment *s, uint32_t home, uint32_t probes, int delta) {
    for (uint32_t i = 0; i < probes; i++) mw_add(&tags_at(s, home + i)->overflow, (uint16_t)delta);
}

static void load_fields(struct mw_record *r, struct mw_taken *out) {
    out->size = mw_get(&r->size);
    out->owner = mw_get(&r->owner);
    out->birth = mw_get(&r->birth);
}

// Where a live record is.
struct position {
    struct segment *segment;
    struct mw_record *slot;
    _Atomic uint8_t *tag;
    uint64_t commit;
    uint32_t home, probes;
    uint8_t tag_value;
};

// Takes out what was found at `p`, unless somebody else did meanwhile.
static bool take_at(const struct position *p, struct mw_taken *out) {
    if (!change_tag(p->tag, p->tag_value, TAG_BUSY)) return false;
    if (mw_get(&p->slot->commit) != p->commit) { // another record with the same tag by now
        atomic_store_explicit(p->tag, p->tag_value, memory_order_release);
        return false;
    }
    *out = (struct mw_taken){
        .key = mw_commit_key(p->commit), .class_ = mw_commit_class(p->commit), .found = true};
    load_fields(p->slot, out);
    mw_set(&p->slot->commit, mw_commit(MW_FREE, mw_commit_generation(p->commit), 0, 0));
    if (p->probes) count_overflow(p->segment, p->home, p->probes, -1);
    atomic_store_explicit(p->tag, TAG_FREE, memory_order_release);
    return true;
}

// The record of a key in one bucket, if it is there.
MW_INLINE bool bucket_find(struct segment *s, uint32_t home, uint32_t probe, enum mw_class class_,
                           uint64_t key, uint8_t tag, struct position *out) {
    const uint64_t generation_mask = UINT64_C(0x3ff) << 52;
    const uint64_t wanted = mw_commit(MW_LIVE, 0, class_, key);
    struct mw_bucket *b = tags_at(s, home + probe);
    for (uint32_t i = 0; i < MW_BUCKET_SLOTS; i++) {
        if (atomic_load_explicit(&b->tag[i], memory_order_acquire) != tag) continue;
        struct mw_record *r = bucket_at(s, home + probe) + i;
        uint64_t commit = atomic_load_explicit(&r->commit, memory_order_acquire);
        if ((commit & ~generation_mask) != wanted) continue;
        *out = (struct position){s, r, &b->tag[i], commit, home, probe, tag};
        return true;
    }
    return false;
}

static void fill_slot(struct mw_record *r, const struct mw_taken *record) {
    unsigned generation = mw_commit_generation(mw_get(&r->commit)) + 1;
    atomic_thread_fence(memory_order_release);
    mw_set(&r->size, record->size);
    mw_set(&r->owner, record->owner);
    mw_set(&r->birth, record->birth);
    atomic_store_explicit(&r->commit, mw_commit(MW_LIVE, generation, record->class_, record->key),
                          memory_order_release);
}

static bool segment_insert(struct segment *s, const struct mw_taken *record, uint64_t hash,
                           uint32_t probes, struct mw_taken *stale) {
    uint32_t home = home_bucket(s, hash);
    uint8_t tag = tag_of(hash);
    __builtin_prefetch(bucket_at(s, home), 1);
    for (uint32_t probe = 0; probe < probes; probe++) {
        struct mw_bucket *b = tags_at(s, home + probe);
        struct position old;
        if (mw_unlikely(bucket_find(s, home, probe, record->class_, record->key, tag, &old)) &&
            !stale->found)
            take_at(&old, stale);
        for (uint32_t i = 0; i < MW_BUCKET_SLOTS; i++) {
            if (mw_get(&b->tag[i]) != TAG_FREE || !change_tag(&b->tag[i], TAG_FREE, TAG_BUSY))
                continue;
            if (probe) count_overflow(s, home, probe, +1);
            fill_slot(bucket_at(s, home + probe) + i, record);
            atomic_store_explicit(&b->tag[i], tag, memory_order_release);
            return true;
        }
    }
    return false;
}

bool mw_record_insert(const struct mw_taken *record, struct mw_taken *stale) {
    uint64_t hash = hash_key(record->class_, record->key);
    stale->found = false;
    uint32_t probes = PROBES;
    for (;;) {
        uint32_t n = atomic_load_explicit(&segment_count, memory_order_acquire);
        uint32_t oldest = probes == PROBES && n > NEWEST ? n - NEWEST : 0;
        for (uint32_t i = n; i-- > oldest;)
            if (mw_likely(segment_insert(&segments[i], record, hash, probes, stale))) return true;
        if (grow(n)) continue;
        if (probes == PROBES_MAX) return false;
        probes = PROBES_MAX;
    }
}

MW_INLINE bool segment_find(struct segment *s, enum mw_class class_, uint64_t key, uint64_t hash,
                            struct position *out) {
    uint32_t home = home_bucket(s, hash);
    for (uint32_t probe = 0; probe < PROBES_MAX; probe++) {
        if (bucket_find(s, home, probe, class_, key, tag_of(hash), out)) return true;
        if (!mw_get(&tags_at(s, home + probe)->overflow)) return false;
    }
    return false;
}

static bool find(enum mw_class class_, uint64_t key, struct position *out) {
    uint64_t hash = hash_key(class_, key);
    uint32_t n = atomic_load_explicit(&segment_count, memory_order_acquire);
    if (n > 1)
        for (uint32_t i = 0; i < n; i++)
            __builtin_prefetch(tags_at(&segments[i], home_bucket(&segments[i], hash)));
    for (uint32_t i = n; i-- > 0;)
        if (segment_find(&segments[i], class_, key, hash, out)) return true;
    return false;
}

bool mw_record_take(enum mw_class class_, uint64_t key, struct mw_taken *out) {
    struct position at;
    out->found = false;
    key = mw_fold_key(key);
    // A lost race means that another thread took this very record: look again, for there might be
    // a second one of that key when a free was missed.
    while (find(class_, key, &at))
        if (take_at(&at, out)) return true;
    return false;
}

bool mw_record_find(enum mw_class class_, uint64_t key, struct mw_taken *out) {
    struct position at;
    out->found = false;
    key = mw_fold_key(key);
    while (find(class_, key, &at)) {
        out->key = key;
        out->class_ = class_;
        load_fields(at.slot, out);
        atomic_thread_fence(memory_order_acquire); // the second look must not move up
        if (mw_get(&at.slot->commit) == at.commit) return out->found = true;
    }
    return false;
}

bool mw_record_refer(enum mw_class class_, uint64_t key, int delta, struct mw_taken *out,
                     bool *ended) {
    const uint64_t one = UINT64_C(1) << 40;
    struct position at;
    *ended = false;
    key = mw_fold_key(key);
    while (find(class_, key, &at)) {
        uint64_t birth = mw_get(&at.slot->birth);
        uint64_t count = birth >> 40;
        if (delta < 0 && count <= 1) {
            if (!take_at(&at, out)) continue;
            return *ended = true;
        }
        uint64_t changed = delta < 0 ? birth - one : birth + one;
        if (atomic_compare_exchange_strong_explicit(&at.slot->birth, &birth, changed,
                                                    memory_order_acq_rel, memory_order_relaxed)) {
            *out = (struct mw_taken){.key = key, .class_ = class_, .found = true};
            load_fields(at.slot, out);
            return true;
        }
    }
    out->found = false;
    return false;
}

void mw_records_take_all(bool (*match)(const struct mw_taken *, void *),
                         void (*each)(const struct mw_taken *), void *context) {
    uint32_t n = atomic_load_explicit(&segment_count, memory_order_acquire);
    for (uint32_t k = 0; k < n; k++) {
        struct segment *s = &segments[k];
        uint32_t slots = (s->bucket_mask + 1) * MW_BUCKET_SLOTS;
        for (uint32_t i = 0; i < slots; i++) {
            uint64_t c = atomic_load_explicit(&s->slots[i].commit, memory_order_acquire);
            if (mw_commit_state(c) != MW_LIVE) continue;
            struct mw_taken t = {
                .key = mw_commit_key(c), .class_ = mw_commit_class(c), .found = true};
            load_fields(&s->slots[i], &t);
            if (!match(&t, context)) continue;
            uint64_t hash = hash_key(t.class_, t.key);
            uint32_t home = home_bucket(s, hash);
            uint32_t bucket = i / MW_BUCKET_SLOTS;
            struct position at = {
                s,           &s->slots[i], &s->buckets[bucket].tag[i % MW_BUCKET_SLOTS],
                c,           home,         (bucket - home) & s->bucket_mask,
                tag_of(hash)};
            if (take_at(&at, &t)) each(&t);
        }
    }
}

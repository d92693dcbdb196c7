// SPDX-License-Identifier: Apache-2.0
//
// The interned tables: accounts, sites and places. Small, only growing, named by content.
//
// Accounts and places are open-addressing tables in the file. Sites are appended, and the way from
// content to index is this process's own map (map.h), since their number is the number of distinct
// stacks. An entry is filled before anything refers to it; threads that meet at the first event of
// one site or place may store it twice, and a reader adds them up. Not so accounts: a sum of two
// peaks would be wrong.
//
// Bounded: when the table of sites is full, an event goes to the site of its API and account with
// the stack MW_OVERFLOW, and only if that cannot be had to site 0.
#include "ledger.h"
#include "map.h"

#include <string.h>

#define FIRST_SITES    256u
#define SITE_LEVELS    10u   // 256 << 9 in the last: more than any limit
#define OVERFLOW_SITES 1024u // kept for MW_OVERFLOW beyond the limit
#define PLACES         1024u

static struct mw_site *site_chunk[SITE_LEVELS];
static _Atomic uint32_t site_levels; // begun
static _Atomic uint32_t sites_used;
static uint32_t site_limit;
static struct mw_map site_index;
static struct mw_place *places;

// What this thread interned last. Valid for one ledger (`epoch`).
static _Thread_local __attribute__((tls_model("initial-exec"))) struct {
    uint32_t epoch;
    uint32_t site, stack, apis; // the site of that stack and those entry points in `account`, or
#define NO_APIS UINT32_MAX      // none
    uint16_t account;
    int16_t account_device; // of `account`
    uint8_t space;          // of `account`; MW_SPACE_NONE: neither that nor the site stands
    bool has_place;
    uint16_t place;
    int16_t device;                 // of `place`
    uint64_t context, stream, pool; // of `place`
} last;

static void remember_this_ledger(void) {
    memset(&last, 0, sizeof last);
    last.epoch = mw_ledger_epoch;
}

static void begin_level(uint32_t level) {
    uint32_t expected = level, count = FIRST_SITES << level;
    if (level >= SITE_LEVELS || !atomic_compare_exchange_strong(&site_levels, &expected, level + 1))
        return;
    struct mw_site *chunk =
        mw_ledger_grow(MW_CHUNK_SITES, count, (uint64_t)count * sizeof(struct mw_site));
    __atomic_store_n(&site_chunk[level], chunk, __ATOMIC_RELEASE);
}

bool mw_sites_reset(uint32_t limit) {
    memset(site_chunk, 0, sizeof site_chunk);
    mw_map_reset(&site_index);
    mw_set(&site_levels, 0);
    mw_set(&sites_used, 1);
    site_limit = limit;
    begin_level(0);
    places = mw_ledger_grow(MW_CHUNK_PLACES, PLACES, PLACES * sizeof *places);
    if (!site_chunk[0] || !places) return false;
    // Entry 0 of each: what does not fit, what is not known.
    *site_chunk[0] = (struct mw_site){.state = 2,
                                      .api = UINT16_MAX,
                                      .driver_api = UINT16_MAX,
                                      .account = MW_ACCOUNTS - 1,
                                      .stack = MW_OVERFLOW};
    places[0] = (struct mw_place){.state = 2, .device = -1};
    struct mw_account *rest = &mw_ledger->account[MW_ACCOUNTS - 1];
    rest->device = -1;
    atomic_store_explicit(&rest->state, 2, memory_order_release);
    return true;
}

// ---- accounts --------------------------------------------------------------------------------

// What says which account an entry is, stored as one word: two entries for one account would have
// a peak each, and a sum of peaks that were never reached together.
union account_name {
    struct {
        uint32_t state;
        int16_t device;
        uint8_t space, reserved;
    } part;
    uint64_t word;
};
static_assert(offsetof(struct mw_account, device) == 4 && offsetof(struct mw_account, space) == 6,
              "as in struct mw_account");
typedef uint64_t __attribute__((may_alias)) aliased_word;

unsigned mw_account_of(int device, enum mw_space space) {
    const union account_name name = {.part = {2, (int16_t)device, (uint8_t)space, 0}};
    for (unsigned i = 0; i < MW_ACCOUNTS - 1; i++) {
        aliased_word *word = (aliased_word *)&mw_ledger->account[i].state;
        aliased_word seen = __atomic_load_n(word, __ATOMIC_ACQUIRE);
        if (!seen && __atomic_compare_exchange_n(word, &seen, name.word, false, __ATOMIC_ACQ_REL,
                                                 __ATOMIC_ACQUIRE))
            return i;
        if (seen == name.word) return i;
    }
    mw_lost(MW_LOSS_ACCOUNTS, 1);
    return MW_ACCOUNTS - 1;
}

// ---- sites -----------------------------------------------------------------------------------

// Indices that were read from the file are checked like any input: somebody may have scribbled over
// it, and the watched program must not suffer from that.
struct mw_site *mw_site_at(uint32_t index) {
    uint32_t level = mw_level_of(index, FIRST_SITES);
    struct mw_site *chunk =
        level < SITE_LEVELS ? __atomic_load_n(&site_chunk[level], __ATOMIC_ACQUIRE) : NULL;
    return mw_likely(chunk) ? chunk + (index - mw_level_start(level, FIRST_SITES)) : site_chunk[0];
}

static bool is_site(const struct mw_site *s, const struct mw_site *wanted) {
    return s->stack == wanted->stack && s->api == wanted->api &&
           s->driver_api == wanted->driver_api && s->account == wanted->account;
}

static uint32_t new_site(const struct mw_site *site, uint32_t limit) {
    uint32_t index = mw_get(&sites_used), level;
    do {
        level = mw_level_of(index, FIRST_SITES);
        // A reader numbers the sites by the order of their chunks: none may be passed over.
        if (index >= limit || level >= SITE_LEVELS ||
            !__atomic_load_n(&site_chunk[level], __ATOMIC_ACQUIRE))
            return 0;
    } while (!atomic_compare_exchange_weak(&sites_used, &index, index + 1));
    // Who takes the entry at three quarters of a level makes the next, before it is needed.
    if (index == mw_level_start(level, FIRST_SITES) + (FIRST_SITES << level) / 4 * 3)
        begin_level(level + 1);
    struct mw_site *s = mw_site_at(index);
    s->api = site->api;
    s->driver_api = site->driver_api;
    s->account = site->account;
    s->stack = site->stack;
    atomic_store_explicit(&s->state, 2, memory_order_release);
    return index;
}

static uint32_t find_site(const struct mw_site *site) {
    uint64_t hash =
        mw_hash(site->stack, (uint64_t)site->api << 32 | site->driver_api << 16 | site->account);
    struct mw_map_search search = {0};
    uint32_t index;
    while (mw_map_find(&site_index, hash, &search, &index))
        if (is_site(mw_site_at(index), site)) return index;
    bool overflow = site->stack == MW_OVERFLOW;
    index = new_site(site, site_limit + (overflow ? OVERFLOW_SITES : 0));
    if (index) {
        mw_map_add(&site_index, hash, index);
        return index;
    }
    if (overflow) return 0;
    mw_lost(MW_LOSS_SITES, 1);
    struct mw_site rest = *site;
    rest.stack = MW_OVERFLOW;
    return find_site(&rest);
}

static uint32_t apis_of(const struct mw_birth *b) {
    return (uint32_t)b->api << 16 | b->driver_api;
}

// Of an account, or a site, that took what did not fit nothing is remembered: each of its events is
// counted as a loss.
static __attribute__((noinline)) uint32_t another_site(const struct mw_birth *b, uint32_t stack) {
    if (last.epoch != mw_ledger_epoch) remember_this_ledger();
    if (last.account_device != b->device || last.space != b->space)
        last.account = (uint16_t)mw_account_of(b->device, b->space);
    const struct mw_site site = {
        .api = b->api, .driver_api = b->driver_api, .account = last.account, .stack = stack};
    last.site = find_site(&site);
    last.stack = stack;
    last.apis = mw_site_at(last.site)->stack == stack ? apis_of(b) : NO_APIS;
    last.account_device = (int16_t)b->device;
    last.space = last.account == MW_ACCOUNTS - 1 ? MW_SPACE_NONE : (uint8_t)b->space;
    return last.site;
}

MW_HOT uint32_t mw_site_of(const struct mw_birth *b, uint32_t stack) {
    if (mw_likely(last.epoch == mw_ledger_epoch && last.stack == stack && last.apis == apis_of(b) &&
                  last.account_device == b->device && last.space == b->space))
        return last.site;
    return another_site(b, stack);
}

static void put_in_order(struct mw_site_bytes *top, unsigned count, unsigned most,
                         struct mw_site_bytes one) {
    unsigned i = count < most ? count : most - 1;
    for (; i && top[i - 1].bytes < one.bytes; i--) top[i] = top[i - 1];
    top[i] = one;
}

unsigned mw_top_sites(unsigned account, struct mw_site_bytes *top, unsigned most) {
    unsigned n = 0;
    uint32_t used = mw_get(&sites_used);
    for (uint32_t i = 0; i < used; i++) {
        const struct mw_site *s = mw_site_at(i);
        uint64_t bound = mw_get(&s->bound);
        if (!bound || s->account != account ||
            atomic_load_explicit(&s->state, memory_order_acquire) != 2 ||
            (n == most && top[most - 1].bytes >= bound))
            continue;
        put_in_order(top, n, most, (struct mw_site_bytes){i, bound});
        if (n < most) n++;
    }
    for (unsigned i = 0; i < n; i++) {
        struct mw_site_bytes one = {top[i].site, mw_site_live(top[i].site)};
        put_in_order(top, i, most, one);
    }
    while (n && !top[n - 1].bytes) n--;
    return n;
}

// ---- places ----------------------------------------------------------------------------------

const struct mw_place *mw_place_at(uint32_t index) {
    return &places[index < PLACES ? index : 0];
}

static bool is_place(const struct mw_place *p, const struct mw_birth *b) {
    return p->context == b->context && p->stream == b->stream && p->pool == b->pool &&
           p->device == b->device;
}

static uint32_t find_place(const struct mw_birth *b) {
    uint64_t hash = (b->context ^ b->stream * 3 ^ b->pool * 5) + (uint64_t)b->device;
    hash = hash * UINT64_C(0x9e3779b97f4a7c15) >> 32;
    for (uint32_t i = 0; i < PLACES; i++) {
        struct mw_place *p = &places[(hash + i) % PLACES];
        uint32_t state = atomic_load_explicit(&p->state, memory_order_acquire);
        if (state == 0) {
            if (!atomic_compare_exchange_strong(&p->state, &state, 1)) continue;
            p->device = (int16_t)b->device;
            p->context = b->context;
            p->stream = b->stream;
            p->pool = b->pool;
            atomic_store_explicit(&p->state, 2, memory_order_release);
        } else if (state != 2 || !is_place(p, b)) {
            continue;
        }
        return (uint32_t)(p - places);
    }
    mw_lost(MW_LOSS_PLACES, 1);
    return 0;
}

MW_HOT uint32_t mw_place_of(const struct mw_birth *b) {
    if (mw_unlikely(last.epoch != mw_ledger_epoch)) remember_this_ledger();
    if (mw_likely(last.has_place && last.context == b->context && last.stream == b->stream &&
                  last.pool == b->pool && last.device == b->device))
        return last.place;
    last.place = (uint16_t)find_place(b);
    last.has_place = is_place(mw_place_at(last.place), b); // else the next is counted as lost, too
    last.context = b->context;
    last.stream = b->stream;
    last.pool = b->pool;
    last.device = (int16_t)b->device;
    return last.place;
}

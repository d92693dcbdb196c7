// SPDX-License-Identifier: Apache-2.0
//
// Who allocated what: per-thread blocks of counters, and the events that change them.
//
// Every total is kept by the thread that causes it, with plain stores into its own cache lines; a
// reader adds them up. Shared are only the bound and peak of an account or a site, which threads
// touch when their slack does not do, and what others freed of a thread's blocks.
//
// A block of a thread that ended is taken over by a new thread once nothing of it is live: a
// program that makes a million short threads needs one block. Its totals stay, and what the present
// thread did is the difference to the `before_` fields.
#include "floor.h"
#include "ledger.h"
#include "stacks.h"
#include "startup.h"
#include "wake.h"

#include <sched.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define FIRST_THREADS 32u
#define LEVELS        11u // 32 << 10 blocks at most in the last chunk: 65504 in all

static struct mw_thread *thread_chunk[LEVELS];
static _Atomic uint32_t thread_level; // chunks made, of which the last may be in the making
static _Atomic uint32_t threads_used; // blocks handed out at least once
static _Atomic uint32_t recycle_from; // where the next search for an ended block begins

#define CELL_LEVELS 28u // 32 << 13 pages in the last: 2 GiB in all
#define FIRST_PAGES 32u
#define MAX_DEPTH   15u // of a thread's tree of pages: a hash has two bits for each level
#define TRIES       64u // of what another thread is in the midst of, with a sched_yield between
static struct mw_cell_page *page_chunk[CELL_LEVELS];
static _Atomic uint32_t page_level; // chunks made or in the making
static _Atomic uint32_t page_end;   // the level that could not be made
static _Atomic uint32_t pages_used;

MW_READ_MOSTLY static _Atomic bool python_ended; // its end freed something of this ledger

_Thread_local __attribute__((tls_model("initial-exec"))) struct mw_self mw_self;

MW_STARTUP static pthread_key_t exit_key;
MW_STARTUP static bool exit_key_made;

// Indices that were read from the file are checked like any input: somebody may have scribbled over
// it, and the watched program must not suffer from that.
static struct mw_thread *thread_at(uint32_t index) {
    uint32_t level = mw_level_of(index, FIRST_THREADS);
    if (level >= LEVELS) return NULL;
    struct mw_thread *chunk = __atomic_load_n(&thread_chunk[level], __ATOMIC_ACQUIRE);
    return chunk ? chunk + (index - mw_level_start(level, FIRST_THREADS)) : NULL;
}

// Levels are begun in their order: a reader numbers the pages by the order of their chunks.
static void begin_pages(uint32_t level) {
    uint32_t expected = level, count = FIRST_PAGES << level / 2;
    if (level >= CELL_LEVELS || !atomic_compare_exchange_strong(&page_level, &expected, level + 1))
        return;
    void *chunk =
        mw_ledger_grow(MW_CHUNK_CELLS, count, (uint64_t)count * sizeof(struct mw_cell_page));
    if (!chunk) mw_set(&page_end, level);
    __atomic_store_n(&page_chunk[level], chunk, __ATOMIC_RELEASE);
}

bool mw_counters_reset(void) {
    memset(thread_chunk, 0, sizeof thread_chunk);
    memset(page_chunk, 0, sizeof page_chunk);
    thread_chunk[0] =
        mw_ledger_grow(MW_CHUNK_THREADS, FIRST_THREADS, FIRST_THREADS * sizeof(struct mw_thread));
    if (!thread_chunk[0]) return false;
    mw_set(&thread_level, 1);
    mw_set(&threads_used, 1);
    mw_set(&recycle_from, 1);
    mw_set(&page_level, 0);
    mw_set(&page_end, CELL_LEVELS);
    mw_set(&pages_used, 0);
    begin_pages(0);
    if (!page_chunk[0]) return false;
    mw_set(&thread_chunk[0]->state, MW_THREAD_SHARED);
    mw_set(&python_ended, false);
    return true;
}

// ---- threads ---------------------------------------------------------------------------------

static struct mw_cell_page *page_at(uint32_t index) {
    uint32_t level = mw_half_level_of(index, FIRST_PAGES);
    struct mw_cell_page *chunk =
        level < CELL_LEVELS ? __atomic_load_n(&page_chunk[level], __ATOMIC_ACQUIRE) : NULL;
    return chunk ? chunk + (index - mw_half_level_start(level, FIRST_PAGES)) : NULL;
}

// Sums over a block's cells: what its threads did, in all.
struct sums {
    uint64_t allocations, bytes, frees, freed_bytes, own_frees;
};

// `pages` bounds the walk: the tree is in the file, where anybody may have tied it into knots. Such
// a block is not taken over again.
static void sum_page(const struct mw_cell_page *page, struct sums *s, uint32_t *pages) {
    if (!*pages) {
        s->allocations = UINT64_MAX;
        return;
    }
    --*pages;
    for (uint32_t i = 0; i < MW_CELLS; i++) {
        const struct mw_cell *c = &page->cell[i];
        s->allocations += mw_get(&c->allocations);
        s->bytes += mw_get(&c->bytes_in);
        s->own_frees += mw_get(&c->own_frees);
        s->frees += mw_get(&c->own_frees) + mw_get(&c->foreign_frees);
        s->freed_bytes += mw_get(&c->own_bytes) + mw_get(&c->foreign_bytes);
    }
    for (uint32_t i = 0; i < MW_PAGE_CHILDREN && *pages; i++) {
        uint32_t child = mw_get(&page->cell[i].next_page);
        const struct mw_cell_page *next = child ? page_at(child - 1) : NULL;
        if (next) sum_page(next, s, pages);
    }
}

static struct sums sum_cells(const struct mw_thread *t) {
    struct sums s = {0};
    uint32_t pages = mw_get(&pages_used) + 2;
    sum_page(&t->cells, &s, &pages);
    return s;
}

static bool holds_nothing(const struct mw_thread *t, const struct sums *s) {
    uint64_t gone = s->own_frees;
    for (uint32_t i = 0; i < MW_ACCOUNTS; i++) gone += mw_get(&t->remote[i].frees);
    return gone == s->allocations;
}

// A block whose thread ended and of which nothing is live. Looks at a bounded number, from a moving
// start: a thread's first allocation must not get slower with the number of threads there were.
static struct mw_thread *recycle(uint32_t *index) {
    uint32_t used = mw_get(&threads_used);
    for (uint32_t tries = 0; tries < 32 && tries < used; tries++) {
        uint32_t i = mw_add(&recycle_from, 1) % used;
        struct mw_thread *t = i ? thread_at(i) : NULL;
        uint32_t ended = MW_THREAD_ENDED;
        // A thread that was cancelled within an event left it half-booked, which must stay told.
        if (!t || mw_get(&t->state) != MW_THREAD_ENDED || mw_get(&t->in_flight)) continue;
        struct sums s = sum_cells(t);
        if (!holds_nothing(t, &s) ||
            !atomic_compare_exchange_strong(&t->state, &ended, MW_THREAD_RUNNING))
            continue;
        mw_set(&t->before_allocations, s.allocations);
        mw_set(&t->before_bytes, s.bytes);
        mw_set(&t->before_frees, s.frees);
        mw_set(&t->before_freed_bytes, s.freed_bytes);
        mw_own_add(&t->earlier, 1);
        *index = i;
        return t;
    }
    return NULL;
}

// The next unused block. The chunk that holds it may be in the making by another thread: then this
// one shares block 0 until its next call (*soon).
static struct mw_thread *fresh_block(uint32_t *index, bool *soon) {
    uint32_t i = mw_get(&threads_used);
    for (;;) {
        uint32_t level = mw_level_of(i, FIRST_THREADS);
        if (level >= LEVELS) return NULL;
        if (!__atomic_load_n(&thread_chunk[level], __ATOMIC_ACQUIRE)) {
            uint32_t expected = level;
            if (!atomic_compare_exchange_strong(&thread_level, &expected, level + 1)) {
                *soon = true;
                return NULL;
            }
            uint32_t count = FIRST_THREADS << level;
            void *chunk =
                mw_ledger_grow(MW_CHUNK_THREADS, count, (uint64_t)count * sizeof(struct mw_thread));
            if (!chunk) return NULL;
            __atomic_store_n(&thread_chunk[level], chunk, __ATOMIC_RELEASE);
        }
        if (atomic_compare_exchange_weak(&threads_used, &i, i + 1)) break;
    }
    *index = i;
    struct mw_thread *t = thread_at(i);
    mw_set(&t->state, MW_THREAD_RUNNING);
    return t;
}

struct mw_thread *mw_claim_block(void) {
    if (exit_key_made && !mw_self.ended) pthread_setspecific(exit_key, &mw_self);
    uint32_t index = 0;
    struct mw_thread *t = NULL;
    mw_self.retry = false;
    // A thread that already ran its exit handlers shares block 0: no handler would end its block.
    if (!mw_self.ended) {
        t = recycle(&index);
        if (!t) t = fresh_block(&index, &mw_self.retry);
        if (!t && !mw_self.retry) mw_lost(MW_LOSS_THREADS, 1);
    }
    if (t) {
        mw_set(&t->started_ns, mw_now_ns());
        mw_set(&t->ended_ns, 0);
        prctl(PR_GET_NAME, t->name);
        mw_set(&t->tid, (uint32_t)syscall(SYS_gettid));
        mw_set(&t->python_name, mw_stacks_thread_name());
    } else {
        t = thread_chunk[0];
    }
    mw_self.epoch = mw_ledger_epoch;
    mw_self.block = t;
    mw_self.index = (uint16_t)index;
    mw_self.cell = NULL;
    return t;
}

// Runs at a thread's exit. Events may still come from destructors that run after this one: they go
// to block 0.
static void thread_exits(void *unused) {
    (void)unused;
    // Not awake: a forked child that made no ledger yet, and the block is its parent's.
    bool mine = mw_awake() && mw_self.epoch == mw_ledger_epoch && mw_self.index;
    mw_self.epoch = 0;
    mw_self.ended = true;
    if (!mine) return;
    mw_set(&mw_self.block->ended_ns, mw_now_ns());
    atomic_store_explicit(&mw_self.block->state, MW_THREAD_ENDED, memory_order_release);
}

MW_STARTUP_CODE void mw_counters_init(void) {
    // Made before the program's own keys, so its index is low enough that pthread_setspecific needs
    // no memory for it.
    exit_key_made = pthread_key_create && pthread_setspecific &&
                    pthread_key_create(&exit_key, thread_exits) == 0;
}

// Calls before there was a ledger: a program asks for devices and contexts before it allocates.
static _Atomic uint64_t early_calls[MW_APIS];

void mw_counters_publish(void) {
    for (unsigned i = 0; i < MW_APIS; i++)
        mw_add(&thread_chunk[0]->calls[i],
               atomic_exchange_explicit(&early_calls[i], 0, memory_order_relaxed));
}

void mw_count_call_seldom(unsigned api) {
    if (mw_unlikely(!mw_awake())) {
        mw_add(&early_calls[api], 1);
        return;
    }
    struct mw_thread *t = mw_thread_block();
    if (mw_self.index)
        mw_own_add(&t->calls[api], 1);
    else
        mw_add(&t->calls[api], 1);
    if (mw_self.retry) mw_self.epoch = 0; // this call is booked: the next one claims again
}

// ---- cells -----------------------------------------------------------------------------------

// The next unused page. Events of a thread that finds none are missing from its counters, so a
// level is begun when the one before is half used, and one that is still in the making is waited
// for a little.
static struct mw_cell_page *fresh_page(uint32_t *index) {
    uint32_t i = mw_get(&pages_used), level;
    unsigned tries = 0;
    do {
        level = mw_half_level_of(i, FIRST_PAGES);
        if (level >= mw_get(&page_end)) return NULL;
        while (!__atomic_load_n(&page_chunk[level], __ATOMIC_ACQUIRE)) {
            if (tries++ == TRIES || level >= mw_get(&page_end)) return NULL;
            sched_yield();
        }
    } while (!atomic_compare_exchange_weak(&pages_used, &i, i + 1));
    if (i == mw_half_level_start(level, FIRST_PAGES) + (FIRST_PAGES << level / 2) / 2)
        begin_pages(level + 1);
    *index = i;
    return page_at(i);
}

// A page's cell for a site, looked for in the few cells that its hash names.
static struct mw_cell *cell_in(struct mw_cell_page *page, uint32_t hash, uint32_t site) {
    for (uint32_t i = 0; i < 4; i++) {
        struct mw_cell *c = &page->cell[(hash + i) % MW_CELLS];
        uint32_t have = mw_get(&c->site);
        if (have == 0 && atomic_compare_exchange_strong_explicit(
                             &c->site, &have, site + 1, memory_order_release, memory_order_relaxed))
            return c;
        if (have == site + 1) return c;
    }
    return NULL;
}

// Where in a page of that depth a site's cells begin: not by the bits that led to the page, which
// all sites in it share.
static uint32_t hash_cell(uint32_t site, unsigned depth) {
    return (uint32_t)((site + depth) * UINT64_C(0xff51afd7ed558ccd) >> 40);
}

// Puts this thread's cell for a site, and the site, into mw_self. False: no cell can be had
// (counted).
static bool find_cell(uint32_t site) {
    struct mw_cell_page *page = &mw_thread_block()->cells;
    uint32_t hash = (uint32_t)(site * UINT64_C(0x9e3779b97f4a7c15) >> 32);
    struct mw_cell *c = cell_in(page, site, site);
    for (unsigned depth = 0; !c && depth < MAX_DEPTH; depth++) {
        _Atomic uint32_t *link = &page->cell[hash >> 2 * depth & (MW_PAGE_CHILDREN - 1)].next_page;
        uint32_t next = mw_get(link), fresh = 0;
        page = next ? page_at(next - 1) : fresh_page(&fresh);
        if (!page) break;
        // A block 0 is shared: another thread may have hung a page there meanwhile. Then that one
        // is used, and the fresh one is never.
        if (!next && !atomic_compare_exchange_strong(link, &next, fresh + 1))
            page = page_at(next - 1);
        if (!page) break;
        c = cell_in(page, hash_cell(site, depth + 1), site);
    }
    if (!c) {
        mw_lost(MW_LOSS_CELLS, 1);
        return false;
    }
    mw_self.cell = c;
    mw_self.site_index = site;
    mw_self.site = mw_site_at(site);
    mw_self.account = mw_self.site->account % MW_ACCOUNTS;
    return true;
}

// A thread's cell for a site, if it has one.
static const struct mw_cell *known_cell(const struct mw_thread *t, uint32_t site) {
    const struct mw_cell_page *page = &t->cells;
    uint32_t hash = (uint32_t)(site * UINT64_C(0x9e3779b97f4a7c15) >> 32), begin = site;
    for (unsigned depth = 0; page && depth <= MAX_DEPTH; depth++) {
        for (uint32_t i = 0; i < 4; i++) {
            const struct mw_cell *c = &page->cell[(begin + i) % MW_CELLS];
            uint32_t have = mw_get(&c->site);
            if (have == site + 1) return c;
            if (!have) return NULL; // it would have been taken
        }
        uint32_t next = mw_get(&page->cell[hash >> 2 * depth & (MW_PAGE_CHILDREN - 1)].next_page);
        page = next ? page_at(next - 1) : NULL;
        begin = hash_cell(site, depth + 1);
    }
    return NULL;
}

uint64_t mw_site_live(uint32_t site) {
    uint64_t live = mw_get(&mw_site_at(site)->bound);
    uint32_t used = mw_get(&threads_used);
    for (uint32_t i = 0; i < used; i++) {
        const struct mw_thread *t = thread_at(i);
        const struct mw_cell *c = t ? known_cell(t, site) : NULL;
        if (c) live -= mw_get(&c->slack);
    }
    return (int64_t)live > 0 ? live : 0;
}

// A site as an event uses it: its entry, and this thread's cell, NULL if none can be had.
struct counted {
    struct mw_site *site;
    struct mw_cell *cell;
    unsigned account;
};
MW_INLINE struct counted counted_at(uint32_t index) {
    bool at_hand = mw_self.cell && mw_self.site_index == index;
    if (mw_likely(at_hand || find_cell(index)))
        return (struct counted){mw_self.site, mw_self.cell, mw_self.account};
    struct mw_site *site = mw_site_at(index);
    return (struct counted){site, NULL, site->account % MW_ACCOUNTS};
}

MW_INLINE void tally(_Atomic uint64_t *counter, uint64_t n) {
    if (mw_likely(mw_self.index))
        mw_own_add(counter, n);
    else
        mw_add(counter, n);
}

// ---- events ----------------------------------------------------------------------------------

// What a thread keeps to itself of what it freed, at most. More of it is seldomer a meeting at the
// account; but a slack that a stopped thread has taken and not yet subtracted is what a peak can be
// wrong by.
#define ACCOUNT_SLACK (UINT64_C(16) << 20)

// Slack on its way back to `bound` is in neither, for some nanoseconds. `settling` is counted up
// before such moves and `settled` after.
static void move_back(struct mw_account *a, _Atomic uint64_t *slack) {
    // Who sees that a slack is gone, or what it changed in `bound`, also sees that the move began.
    uint64_t taken = atomic_exchange_explicit(slack, 0, memory_order_acq_rel);
    atomic_fetch_sub_explicit(&a->bound, taken, memory_order_release);
}

static void take_all_slack(struct mw_account *a, unsigned account) {
    uint32_t used = mw_get(&threads_used);
    mw_add(&a->settling, 1);
    for (uint32_t i = 0; i < used; i++) {
        struct mw_thread *t = thread_at(i);
        if (t && mw_get(&t->slack[account])) move_back(a, &t->slack[account]);
    }
    atomic_fetch_add_explicit(&a->settled, 1, memory_order_release);
}

// `bound`, after all slack was moved there or without the slacks, as it was while none was on its
// way. A thread in the midst of such a move was interrupted there, so it is let go on. One that was
// ended there (pthread_cancel) is in all tries, and not waited for again; what is told is too high
// by its slack.
static uint64_t settled_bound(unsigned account, bool move_slack) {
    struct mw_account *a = &mw_ledger->account[account];
    uint64_t bound = 0, moves, fewest = UINT64_MAX;
    for (unsigned tries = 0; tries < TRIES; tries++) {
        if (tries) sched_yield();
        if (move_slack) take_all_slack(a, account);
        uint64_t settled = atomic_load_explicit(&a->settled, memory_order_acquire);
        bound = atomic_load_explicit(&a->bound, memory_order_acquire);
        uint32_t used = move_slack ? 0 : mw_get(&threads_used);
        for (uint32_t i = 0; i < used; i++) {
            struct mw_thread *t = thread_at(i);
            if (t) bound -= atomic_load_explicit(&t->slack[account], memory_order_acquire);
        }
        moves = mw_get(&a->settling) - settled;
        if (moves < fewest) fewest = moves;
        if (mw_likely(moves <= mw_get(&a->given_up))) break;
    }
    // Also downwards: one that was given up came back.
    if (mw_unlikely(fewest != mw_get(&a->given_up))) mw_set(&a->given_up, fewest);
    return bound;
}

uint64_t mw_account_live(unsigned account) {
    uint64_t live = settled_bound(account, false);
    return (int64_t)live > 0 ? live : 0; // what others did amid the reading
}

static void account_add(struct mw_thread *self_block, unsigned account, uint64_t bytes) {
    struct mw_account *a = &mw_ledger->account[account];
    _Atomic uint64_t *slack = &self_block->slack[account];
    uint64_t have = mw_get(slack);
    while (have >= bytes)
        if (atomic_compare_exchange_weak_explicit(slack, &have, have - bytes, memory_order_relaxed,
                                                  memory_order_relaxed))
            return;
    if (have) have = atomic_exchange_explicit(slack, 0, memory_order_relaxed);
    uint64_t need =
        bytes - have; // wraps if a block 0 shared with others gave more: then it is given back
    uint64_t bound = atomic_fetch_add_explicit(&a->bound, need, memory_order_release) + need;
    uint64_t peak = mw_get(&a->peak);
    if (mw_likely(bound <= peak)) return;
    // Slack that others gained since it was taken is in that, and becomes part of the peak: who
    // allocates from slack does not look at the peak.
    bound = settled_bound(account, true);
    while (bound > peak)
        if (atomic_compare_exchange_weak_explicit(&a->peak, &peak, bound, memory_order_relaxed,
                                                  memory_order_relaxed)) {
            mw_set(&a->peak_ms, mw_now_ns() / 1000000);
            return;
        }
}

static void account_sub(struct mw_thread *self_block, unsigned account, uint64_t bytes) {
    _Atomic uint64_t *slack = &self_block->slack[account];
    uint64_t kept = mw_add(slack, bytes) + bytes;
    if (mw_likely(kept <= ACCOUNT_SLACK)) return;
    struct mw_account *a = &mw_ledger->account[account];
    mw_add(&a->settling, 1);
    move_back(a, slack);
    atomic_fetch_add_explicit(&a->settled, 1, memory_order_release);
}

// The same for a site, but the slack lies in the thread's own cell, where nobody takes it back: the
// peak of a site that several threads use is too high by what the others keep at that moment. So a
// thread keeps no more than an eighth of the peak, and no more than MW_SITE_SLACK: who allocates
// larger blocks than that pays for a shared line each time, which beside such an allocation is
// nothing. Slack is also taken in advance, an eighth of what there is left up to the peak, so that
// threads that only allocate seldom meet at the site.
static uint64_t site_slack(uint64_t bytes) {
    return bytes / 8 < MW_SITE_SLACK ? bytes / 8 : MW_SITE_SLACK;
}

static void site_add(struct mw_site *site, struct mw_cell *c, uint64_t bytes) {
    bool own = c && mw_self.index; // a shared block's cells have several writers: no slack there
    uint64_t have = own ? mw_get(&c->slack) : 0;
    if (mw_likely(have >= bytes)) {
        mw_set(&c->slack, have - bytes);
        return;
    }
    uint64_t need = bytes - have, peak = mw_get(&site->peak);
    int64_t room = (int64_t)(peak - mw_get(&site->bound) - need);
    uint64_t ahead = own && room > 0 ? site_slack((uint64_t)room) : 0;
    if (ahead < bytes) ahead = 0;
    uint64_t bound = mw_add(&site->bound, need + ahead) + need + ahead;
    if (own) mw_set(&c->slack, ahead);
    while (mw_unlikely(bound > peak))
        if (atomic_compare_exchange_weak_explicit(&site->peak, &peak, bound, memory_order_relaxed,
                                                  memory_order_relaxed)) {
            mw_set(&site->peak_ms, mw_now_ns() / 1000000);
            return;
        }
}

static void site_sub(struct mw_site *site, struct mw_cell *c, uint64_t bytes) {
    uint64_t kept = bytes;
    if (c && mw_self.index) {
        kept += mw_get(&c->slack);
        // The limit as it was when this thread last looked at the site, whose line others change.
        if (mw_unlikely(kept > mw_get(&c->slack_limit)))
            mw_set(&c->slack_limit, (uint32_t)site_slack(mw_get(&site->peak)));
        bool keeps = kept <= mw_get(&c->slack_limit);
        mw_set(&c->slack, keeps ? kept : 0);
        if (mw_likely(keeps)) return;
    }
    mw_add(&site->bound, -kept);
}

// The classes of lifetimes: see MW_LIFETIME_ENDS.
static void tally_lifetime(struct mw_cell *c, const struct mw_taken *t) {
    static const uint64_t ends[MW_LIFETIMES - 1] = MW_LIFETIME_ENDS;
    if (t->class_ == MW_CLASS_MAPPING) return; // whose record has no room for a time
    uint64_t lived = t->taken_ns / 1000000 - (t->birth & MW_BIRTH_MASK);
    unsigned i = 0;
    while (i < MW_LIFETIMES - 1 && lived >= ends[i]) i++;
    if (mw_likely(mw_self.index))
        mw_own_add(&c->lifetime[i], 1);
    else
        mw_add(&c->lifetime[i], 1);
}

MW_HOT static void settle_free(const struct mw_taken *t) {
    uint64_t bytes = mw_taken_bytes(t);
    uint32_t index = mw_taken_site(t), owner = mw_taken_thread(t);
    struct mw_thread *block = mw_thread_block();
    struct counted at = counted_at(index);
    struct mw_site *site = at.site;
    struct mw_cell *c = at.cell;
    unsigned account = at.account;
    // A shared block's frees are all "foreign" to it: its users cannot be told apart.
    bool own = owner == mw_self.index;
    if (c) {
        tally(own ? &c->own_frees : &c->foreign_frees, 1);
        tally(own ? &c->own_bytes : &c->foreign_bytes, bytes);
        tally_lifetime(c, t);
    }
    if (!own || !c) {
        struct mw_thread *owners = thread_at(owner);
        struct mw_remote *r = &(owners ? owners : thread_chunk[0])->remote[account];
        mw_add(&r->bytes, bytes);
        mw_add(&r->frees, 1);
    }
    site_sub(site, c, bytes);
    account_sub(block, account, bytes);
    if (mw_unlikely(mw_stacks_python_ends()) && !(mw_taken_flags(t) & MW_FLAG_LATE)) {
        mw_set(&python_ended, true);
        mw_add(&site->exit_bytes, bytes);
        mw_add(&site->exit_blocks, 1);
    }
}

// Of a new block: was it made while Python was ending?
static unsigned late(void) {
    if (mw_unlikely(mw_stacks_python_ends())) return MW_FLAG_LATE;
    if (mw_unlikely(mw_get(&python_ended))) {
        mw_set(&mw_ledger->python_went_on, 1);
        mw_set(&python_ended, false); // told: the header's line is everybody's
    }
    return 0;
}

// Saturated: 49 days.
static uint32_t short_ms(uint64_t ms) {
    return ms < UINT32_MAX ? (uint32_t)ms : UINT32_MAX;
}

static void tally_birth(struct mw_cell *c, uint64_t bytes, uint64_t ms) {
    // A block 0's users may both be first: either time will do.
    if (mw_unlikely(!mw_get(&c->allocations))) mw_set(&c->first_ms, short_ms(ms));
    mw_set(&c->last_ms, short_ms(ms));
    tally(&c->allocations, 1);
    tally(&c->bytes_in, bytes);
}

static uint32_t stack_of(const struct mw_birth *b) {
    return mw_stack_here(b->space == MW_SPACE_TENSOR);
}

MW_HOT void mw_born(const struct mw_birth *b) {
    mw_record_fetch(b->class_, b->key);
    struct mw_thread *block = mw_thread_block();
    uint32_t index = mw_site_of(b, stack_of(b)), place = mw_place_of(b);
    uint64_t bytes = b->bytes < MW_MAX_BYTES ? b->bytes : MW_MAX_BYTES;
    uint64_t extra =
        b->references ? b->references : mw_pack_slack(bytes > b->asked ? bytes - b->asked : 0);
    uint64_t ms = mw_now_ns() / 1000000;
    struct mw_taken record = {
        .key = mw_fold_key(b->key),
        .class_ = b->class_,
        .size = (uint64_t)place << 48 | bytes,
        .owner = (uint64_t)(b->flags | late()) << 48 | (uint64_t)mw_self.index << 32 | index,
        .birth = extra << 40 | (ms & MW_BIRTH_MASK),
    };
    if (b->class_ == MW_CLASS_MAPPING) record.birth = mw_fold_key(b->parent);
    if (mw_unlikely(b->key >> MW_KEY_BITS)) mw_lost(MW_LOSS_FOLDED, 1);
    struct mw_taken stale;
    mw_in_flight(1);
    bool recorded = mw_record_insert(&record, &stale);
    if (mw_unlikely(!recorded)) {
        mw_lost(MW_LOSS_RECORDS, 1);
        mw_lost(MW_LOSS_RECORD_BYTES, bytes);
    }
    struct counted at = counted_at(index);
    if (mw_likely(recorded)) {
        if (mw_likely(at.cell)) tally_birth(at.cell, bytes, ms);
        site_add(at.site, at.cell, bytes);
        account_add(block, at.account, bytes);
    }
    if (mw_unlikely(stale.found)) {
        mw_lost(MW_LOSS_REUSED_KEYS, 1);
        settle_free(&stale);
    }
    mw_in_flight(0);
}

MW_HOT void mw_freed(const struct mw_taken *taken) {
    if (taken->found) settle_free(taken);
}

void mw_put_back(const struct mw_taken *taken) {
    struct mw_taken stale;
    if (taken->found) {
        if (!mw_record_insert(taken, &stale)) settle_free(taken);
        if (mw_unlikely(stale.found)) settle_free(&stale);
    }
}

void mw_move_to_pool(const struct mw_taken *taken, uint64_t pool) {
    const struct mw_place *old = mw_place_at(mw_taken_place(taken));
    // No stream: a graph's memory is not bound to the one that it was captured on.
    struct mw_birth b = {.device = old->device, .context = old->context, .pool = pool};
    struct mw_taken moved = *taken;
    mw_thread_block();
    moved.size = (uint64_t)mw_place_of(&b) << 48 | mw_taken_bytes(taken);
    mw_put_back(&moved);
}

unsigned mw_refused(const struct mw_birth *b, uint32_t *tid) {
    struct mw_thread *t = mw_thread_block();
    struct counted at = counted_at(mw_site_of(b, stack_of(b)));
    if (at.cell) tally(&at.cell->failed, 1);
    *tid = mw_get(&t->tid);
    return at.account;
}

void mw_failed(const struct mw_birth *b, uint32_t result, bool allocation) {
    struct mw_header *h = mw_ledger;
    struct mw_thread *t = mw_thread_block();
    unsigned account = MW_ACCOUNTS - 1;
    uint32_t stack = stack_of(b), site = 0;
    if (allocation) {
        site = mw_site_of(b, stack);
        struct counted at = counted_at(site);
        if (at.cell) tally(&at.cell->failed, 1);
        account = at.account;
    }
    mw_add(&h->api_failed[b->api], 1);
    uint64_t ordinal = mw_add(&h->failures_total, 1);
    struct mw_failure *f = &h->failure[ordinal % MW_FAILURES];
    mw_set(&f->sequence, 2 * ordinal + 1);
    mw_fence(memory_order_release); // a reader must not see new fields under an old number
    mw_set(&f->when_ns, mw_now_ns());
    mw_set(&f->asked, allocation ? b->asked : 0);
    mw_set(&f->key, allocation ? 0 : b->key);
    mw_set(&f->live, mw_account_live(account));
    bool known =
        b->device >= 0 && b->device < (int)MW_DEVICES && mw_get(&h->device[b->device].info_n);
    mw_set(&f->device_free, known ? mw_get(&h->device[b->device].info_free) : UINT64_MAX);
    mw_set(&f->result, result);
    mw_set(&f->api, b->api);
    mw_set(&f->driver_api, b->driver_api);
    mw_set(&f->account, (uint16_t)account);
    mw_set(&f->thread, mw_self.index);
    mw_set(&f->tid, mw_get(&t->tid));
    mw_set(&f->site, allocation ? site + 1 : 0);
    mw_set(&f->stack, stack);
    atomic_store_explicit(&f->sequence, 2 * ordinal + 2, memory_order_release);
}

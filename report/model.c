// SPDX-License-Identifier: Apache-2.0
//
// Checked structs → what a process held and did (model.h).
//
// A reading of a busy process is not a photograph: events happen while we read. So the counters are
// looked at again after the records; if they moved, everything is read anew, a few times, and what
// still moved in the last reading is told (`moved`), for check.c to allow as much.
#define _GNU_SOURCE // qsort_r
#include "model.h"

#include "memwatch.h"

#include <stdlib.h>
#include <string.h>

#define ATTEMPTS        4
#define THREADS_AT_ONCE 32u
#define NOWHERE         UINT32_MAX // in a map from the file's indices to the model's

// What is needed only while reading.
struct reading {
    struct model *m;
    struct reader *r;
    uint32_t account_of[MW_ACCOUNTS];
    uint32_t *site_of, *thread_of;
    struct mw_site *raw_site;
    uint8_t *page_seen;   // a page of cells belongs to one thread
    uint32_t *page_queue; // of pages to be read
    uint64_t events;      // that the threads had counted
    struct torch_ranges ranges;
};

static const struct {
    const char *name;
    bool memory;
} spaces[MW_SPACE_COUNT] = {[MW_SPACE_NONE] = {"other", false},
#define X(id, name, owned) [MW_SPACE_##id] = {name, owned},
                            MW_SPACES(X)
#undef X
};

const char *space_name(enum mw_space space) {
    return spaces[space].name;
}
bool space_is_memory(enum mw_space space) {
    return spaces[space].memory;
}

uint64_t record_bytes(const struct reader_record *r) {
    return r->size & MW_MAX_BYTES;
}

uint64_t record_asked(const struct reader_record *r) {
    uint64_t bytes = record_bytes(r), slack = 0;
    // Of these two classes the field has another meaning.
    if (r->class_ != MW_CLASS_HANDLE && r->class_ != MW_CLASS_MAPPING)
        slack = mw_unpack_slack(r->birth >> 40);
    return slack <= bytes ? bytes - slack : bytes;
}

uint64_t tally_live(const struct tally *t) {
    return t->allocated_bytes - t->freed_bytes;
}

uint64_t share_live(const struct model_share *s) {
    return s->tally.allocated_bytes - s->own_bytes - s->remote_bytes;
}

void tally_add(struct tally *to, const struct tally *t) {
    to->allocations += t->allocations;
    to->allocated_bytes += t->allocated_bytes;
    to->frees += t->frees;
    to->freed_bytes += t->freed_bytes;
    to->failed += t->failed;
}

struct held held_sum(const struct held *a, const struct held *b) {
    return (struct held){a->blocks + b->blocks, a->bytes + b->bytes};
}

static void hold(struct held *held, uint64_t bytes) {
    held->blocks++;
    held->bytes += bytes;
}

static void note_time(struct model *m, uint64_t ns) {
    if (ns > m->last_ns) m->last_ns = ns;
}

// ---- accounts, sites, places, names ---------------------------------------------------------

static uint32_t account_for(struct model *m, int device, enum mw_space space) {
    for (unsigned i = 0; i < m->accounts; i++)
        if (m->account[i].device == device && m->account[i].space == space) return i;
    m->account[m->accounts] = (struct model_account){.device = device, .space = space};
    return m->accounts++;
}

static void read_accounts(struct reading *g) {
    const struct mw_account *raw = g->m->reader.header.account;
    g->m->account = allocate(MW_ACCOUNTS, sizeof g->m->account[0]);
    for (unsigned i = 0; i < MW_ACCOUNTS; i++) {
        g->account_of[i] = NOWHERE;
        if (raw[i].state != 2 || raw[i].space >= MW_SPACE_COUNT) continue;
        g->account_of[i] = account_for(g->m, raw[i].device, raw[i].space);
        struct model_account *a = &g->m->account[g->account_of[i]];
        a->live_bytes += raw[i].bound; // less the threads' slack: add_thread
        // Of two entries with the same pair the sum is an upper limit: they need not have had
        // their peaks at the same time.
        a->peak_bytes += raw[i].peak;
        if (raw[i].peak_ms > a->peak_ms) a->peak_ms = raw[i].peak_ms;
        note_time(g->m, raw[i].peak_ms * 1000000);
    }
}

static int by_content(const void *a, const void *b, void *reading) {
    const struct reading *g = reading;
    const struct mw_site *x = &g->raw_site[*(const uint32_t *)a],
                         *y = &g->raw_site[*(const uint32_t *)b];
    uint32_t of_x = g->account_of[x->account], of_y = g->account_of[y->account];
    if (x->api != y->api) return x->api < y->api ? -1 : 1;
    if (x->driver_api != y->driver_api) return x->driver_api < y->driver_api ? -1 : 1;
    if (of_x != of_y) return of_x < of_y ? -1 : 1;
    return stack_compare(&g->m->arena, x->stack, y->stack);
}

static int api_index(const struct model *m, uint16_t api) {
    return api < m->apis ? api : -1;
}

// The arena as it is after the sites were read: whatever these refer to was there before them, but
// perhaps in a chunk that the directory did not show yet. The header's tables stay as they were.
static bool read_arena(struct reading *g) {
    uint32_t tables[READER_KINDS];
    memcpy(tables, g->r->count, sizeof tables);
    if (reader_refresh(g->r) != READER_OK) return false;
    memcpy(g->r->count, tables, sizeof tables);
    return reader_arena(g->r, &g->m->arena);
}

static void add_site(struct model *m, const struct mw_site *raw, unsigned account) {
    bool overflow = raw->stack == MW_OVERFLOW;
    m->site[m->sites++] = (struct model_site){.api = api_index(m, raw->api),
                                              .driver_api = api_index(m, raw->driver_api),
                                              .account = account,
                                              .stack = overflow ? MW_NO_STACK : raw->stack,
                                              .overflow = overflow,
                                              .first_ms = UINT32_MAX,
                                              .oldest_ms = UINT64_MAX};
}

static bool read_raw_sites(struct reading *g) {
    uint32_t count = g->r->count[MW_CHUNK_SITES];
    g->raw_site = allocate(count, sizeof g->raw_site[0]);
    g->site_of = allocate(count, sizeof g->site_of[0]);
    g->m->site = allocate(count, sizeof g->m->site[0]);
    return reader_entries(g->r, MW_CHUNK_SITES, 0, count, g->raw_site);
}

// Equal entries of the file become one: two threads may have interned the same site at once.
static void unite_sites(struct reading *g, uint32_t count) {
    struct model *m = g->m;
    uint32_t *order = allocate(count, sizeof *order), ready = 0;
    for (uint32_t i = 0; i < count; i++) {
        struct mw_site *s = &g->raw_site[i];
        g->site_of[i] = NOWHERE;
        if (s->state != 2) continue;
        bool told = s->stack != MW_NO_STACK && s->stack != MW_OVERFLOW;
        if (told && !stack_whole(&m->arena, s->stack)) m->broken_stacks++;
        if (s->account < MW_ACCOUNTS && g->account_of[s->account] != NOWHERE)
            order[ready++] = i;
        else
            m->misfits++;
    }
    qsort_r(order, ready, sizeof *order, by_content, g);
    for (uint32_t i = 0; i < ready; i++) {
        const struct mw_site *s = &g->raw_site[order[i]];
        if (!i || by_content(&order[i - 1], &order[i], g) != 0)
            add_site(m, s, g->account_of[s->account]);
        struct model_site *site = &m->site[m->sites - 1];
        site->live_bytes += s->bound; // less the threads' slack: add_cell
        // As with accounts, the sum of two peaks is an upper limit.
        site->peak_bytes += s->peak;
        site->ended = held_sum(&site->ended, &(struct held){s->exit_blocks, s->exit_bytes});
        if (s->peak_ms > site->peak_ms) site->peak_ms = s->peak_ms;
        note_time(m, s->peak_ms * 1000000);
        g->site_of[order[i]] = m->sites - 1;
    }
    for (uint32_t i = 0; i < m->sites; i++) m->site[i].origin = torch_origin(m, i);
    free(order);
}

static bool read_tables(struct reading *g) {
    struct model *m = g->m;
    m->apis = g->r->count[MW_CHUNK_APIS];
    m->places = g->r->count[MW_CHUNK_PLACES];
    m->api = allocate(m->apis, sizeof m->api[0]);
    m->place = allocate(m->places, sizeof m->place[0]);
    m->place_held = allocate(m->places, sizeof m->place_held[0]);
    read_accounts(g);
    if (!reader_entries(g->r, MW_CHUNK_APIS, 0, m->apis, m->api) ||
        !reader_entries(g->r, MW_CHUNK_PLACES, 0, m->places, m->place))
        return false;
    for (unsigned i = 0; i < m->apis; i++) m->api[i].name[sizeof m->api[i].name - 1] = '\0';
    if (!read_raw_sites(g) || !read_arena(g)) return false;
    unite_sites(g, g->r->count[MW_CHUNK_SITES]);
    return true;
}

// ---- threads --------------------------------------------------------------------------------

typedef void cell_visitor(struct reading *, const struct mw_cell *, void *);

static void visit_page(struct reading *g, const struct mw_cell_page *page, uint32_t *queued,
                       cell_visitor *each, void *argument) {
    unsigned cells = reader_page_cells(g->r);
    for (unsigned i = 0; i < cells; i++) {
        struct mw_cell cell = reader_cell(g->r, page, i);
        if (cell.site) each(g, &cell, argument);
        // Each page is read once, whatever circles a damaged file shows.
        uint32_t next = i < MW_PAGE_CHILDREN ? cell.next_page : 0;
        if (!next || next > g->r->count[MW_CHUNK_CELLS] || g->page_seen[next - 1]) continue;
        g->page_seen[next - 1] = 1;
        g->page_queue[(*queued)++] = next - 1;
    }
}

// Calls `each` for the cells of a thread, wherever they are.
static bool walk_cells(struct reading *g, const struct mw_thread *t, cell_visitor *each,
                       void *argument) {
    uint32_t queued = 0;
    struct mw_cell_page page;
    visit_page(g, &t->cells, &queued, each, argument);
    for (uint32_t i = 0; i < queued; i++) {
        if (!reader_entries(g->r, MW_CHUNK_CELLS, g->page_queue[i], 1, &page)) return false;
        visit_page(g, &page, &queued, each, argument);
    }
    return true;
}

static bool walk_threads(struct reading *g,
                         bool (*each)(struct reading *, uint32_t index, const struct mw_thread *)) {
    uint32_t count = g->r->count[MW_CHUNK_THREADS];
    struct mw_thread *block = allocate(THREADS_AT_ONCE, sizeof *block);
    bool ok = true;
    free(g->page_seen);
    free(g->page_queue);
    g->page_seen = allocate(g->r->count[MW_CHUNK_CELLS], 1);
    g->page_queue = allocate(g->r->count[MW_CHUNK_CELLS], sizeof g->page_queue[0]);
    for (uint32_t from = 0; ok && from < count; from += THREADS_AT_ONCE) {
        uint32_t n = count - from < THREADS_AT_ONCE ? count - from : THREADS_AT_ONCE;
        ok = reader_entries(g->r, MW_CHUNK_THREADS, from, n, block);
        for (uint32_t i = 0; ok && i < n; i++)
            if (block[i].state != MW_THREAD_UNUSED) ok = each(g, from + i, &block[i]);
    }
    free(block);
    return ok;
}

static void add_to_site(struct model_site *site, const struct mw_cell *c,
                        const struct tally *tally) {
    tally_add(&site->tally, tally);
    site->live_bytes -= c->slack;
    if (tally->allocations && c->first_ms < site->first_ms) site->first_ms = c->first_ms;
    if (tally->allocations && c->last_ms > site->last_ms) site->last_ms = c->last_ms;
    for (unsigned i = 0; i < MW_LIFETIMES; i++) site->lifetime[i] += c->lifetime[i];
}

static void add_cell(struct reading *g, const struct mw_cell *c, void *argument) {
    struct model *m = g->m;
    struct model_thread *t = argument;
    struct tally tally = {c->allocations, c->bytes_in, c->own_frees + c->foreign_frees,
                          c->own_bytes + c->foreign_bytes, c->failed};
    g->events += tally.allocations + tally.frees;
    uint32_t raw = c->site - 1;
    uint32_t site = raw < g->r->count[MW_CHUNK_SITES] ? g->site_of[raw] : NOWHERE;
    if (site == NOWHERE) {
        m->misfits++;
        return;
    }
    struct model_share *share = &t->share[m->site[site].account];
    add_to_site(&m->site[site], c, &tally);
    note_time(m, tally.allocations ? c->last_ms * UINT64_C(1000000) : 0);
    tally_add(&m->account[m->site[site].account].tally, &tally);
    tally_add(&share->tally, &tally);
    share->own_frees += c->own_frees;
    share->own_bytes += c->own_bytes;
}

// What stands in the block by account: frees of its blocks by others, and the slack.
static void add_accounts(struct reading *g, const struct mw_thread *raw, struct model_thread *t) {
    for (unsigned i = 0; i < MW_ACCOUNTS; i++) {
        uint64_t bytes = raw->remote[i].bytes, frees = raw->remote[i].frees;
        uint32_t account = g->account_of[i];
        if (account == NOWHERE) {
            if (bytes || frees || raw->slack[i]) g->m->misfits++;
            continue;
        }
        t->share[account].remote_bytes += bytes;
        t->share[account].remote_frees += frees;
        g->m->account[account].live_bytes -= raw->slack[i];
    }
}

static bool add_thread(struct reading *g, uint32_t index, const struct mw_thread *raw) {
    struct model *m = g->m;
    if (raw->state > MW_THREAD_SHARED) m->misfits++;
    struct model_thread *t = &m->thread[m->threads];
    *t = (struct model_thread){
        .state = raw->state,
        .tid = raw->tid,
        .earlier = raw->earlier,
        .in_flight = raw->in_flight,
        .started_ns = raw->started_ns,
        .ended_ns = raw->ended_ns,
        .python_name = raw->python_name,
        .before = {raw->before_allocations, raw->before_bytes, raw->before_frees,
                   raw->before_freed_bytes, 0},
        .share = allocate(m->accounts, sizeof(struct model_share)),
    };
    memcpy(t->name, raw->name, sizeof raw->name);
    g->thread_of[index] = m->threads++;
    note_time(m, t->started_ns);
    note_time(m, t->ended_ns);
    for (unsigned i = 0; i < MW_APIS; i++) m->calls[i] += raw->calls[i];
    add_accounts(g, raw, t);
    return walk_cells(g, raw, add_cell, t);
}

static bool read_threads(struct reading *g) {
    uint32_t count = g->r->count[MW_CHUNK_THREADS];
    g->thread_of = allocate(count, sizeof g->thread_of[0]);
    memset(g->thread_of, 0xff, count * sizeof g->thread_of[0]); // NOWHERE
    g->m->thread = allocate(count, sizeof g->m->thread[0]);
    return walk_threads(g, add_thread);
}

static void add_events(struct reading *g, const struct mw_cell *c, void *unused) {
    (void)unused;
    g->events += c->allocations + c->own_frees + c->foreign_frees;
}

static bool look_again(struct reading *g, uint32_t index, const struct mw_thread *raw) {
    struct model *m = g->m;
    uint32_t known = g->thread_of[index];
    if (known == NOWHERE)
        g->events++; // began meanwhile: its events follow
    else if (raw->in_flight > m->thread[known].in_flight)
        m->thread[known].in_flight = raw->in_flight;
    return walk_cells(g, raw, add_events, NULL);
}

// What is known of a site's peak from above: it is not more than was ever allocated there, nor than
// was live in all of its account.
static void bound_peaks(struct model *m) {
    for (unsigned i = 0; i < m->sites; i++) {
        struct model_site *s = &m->site[i];
        uint64_t most = m->account[s->account].peak_bytes;
        bool all = !m->reader.header.losses[MW_LOSS_CELLS]; // are in the tally
        if (all && s->tally.allocated_bytes < most) most = s->tally.allocated_bytes;
        if (s->peak_bytes > most) s->peak_bytes = most;
    }
}

// ---- records --------------------------------------------------------------------------------

// The largest blocks, as a heap whose root is the smallest of them.
static bool smaller(const struct model_block *a, const struct model_block *b) {
    uint64_t x = record_bytes(&a->record), y = record_bytes(&b->record);
    if (x != y) return x < y;
    return a->record.key > b->record.key; // for equal sizes the lowest keys, so that order is fixed
}

static void keep_largest(struct model *m, const struct model_block *block) {
    struct model_block *heap = m->largest;
    unsigned i;
    if (m->largest_count < LARGEST_BLOCKS) {
        for (i = m->largest_count++; i && smaller(block, &heap[(i - 1) / 2]); i = (i - 1) / 2)
            heap[i] = heap[(i - 1) / 2];
    } else {
        if (!smaller(&heap[0], block)) return;
        for (i = 0; 2 * i + 1 < LARGEST_BLOCKS;) {
            unsigned child = 2 * i + 1;
            if (child + 1 < LARGEST_BLOCKS && smaller(&heap[child + 1], &heap[child])) child++;
            if (!smaller(&heap[child], block)) break;
            heap[i] = heap[child];
            i = child;
        }
    }
    heap[i] = *block;
}

static int largest_first(const void *a, const void *b) {
    return smaller(a, b) ? 1 : -1;
}

static void add_record(void *context, const struct reader_record *record) {
    struct reading *g = context;
    struct model *m = g->m;
    uint32_t site = (uint32_t)record->owner, thread = record->owner >> 32 & 0xffff;
    uint32_t place = (uint32_t)(record->size >> 48);
    uint64_t bytes = record_bytes(record);
    site = site < g->r->count[MW_CHUNK_SITES] ? g->site_of[site] : NOWHERE;
    thread = thread < g->r->count[MW_CHUNK_THREADS] ? g->thread_of[thread] : NOWHERE;
    m->records++;
    if (site == NOWHERE || thread == NOWHERE || place >= m->places) {
        m->misfits++;
        return;
    }
    unsigned account = m->site[site].account;
    hold(&m->account[account].held, bytes);
    hold(&m->site[site].held, bytes);
    hold(&m->thread[thread].share[account].held, bytes);
    if (m->account[account].space != MW_SPACE_GRAPH) hold(&m->place_held[place], bytes);
    if (record->class_ != MW_CLASS_MAPPING) { // which has its physical memory's handle instead
        uint64_t born_ms = record->birth & ((UINT64_C(1) << 40) - 1);
        note_time(m, born_ms * 1000000);
        if (born_ms < m->site[site].oldest_ms) m->site[site].oldest_ms = born_ms;
    }
    torch_note(&g->ranges, m, site, record);
    keep_largest(m, &(struct model_block){*record, site, thread, place});
}

// ---- PyTorch --------------------------------------------------------------------------------

static void read_torch(struct reading *g) {
    struct torch *t = &g->m->torch;
    t->there = reader_torch(g->r, &t->told);
    for (unsigned i = 0; i < MW_OOMS; i++) {
        struct mw_oom *o = &t->told.oom[i];
        if (o->sequence) note_time(g->m, o->when_ns);
        for (unsigned k = 0; k < MW_OOM_SITES; k++) {
            uint32_t raw = o->site[k].site - 1; // none: beyond every table
            uint32_t site = raw < g->r->count[MW_CHUNK_SITES] ? g->site_of[raw] : NOWHERE;
            o->site[k].site = site + 1; // NOWHERE: none
        }
    }
    torch_add_up(g->m, &g->ranges);
}

// ---- the whole ------------------------------------------------------------------------------

static void note_header_times(struct model *m) {
    const struct mw_header *h = &m->reader.header;
    note_time(m, h->exiting_ns);
    for (unsigned i = 0; i < MW_FAILURES; i++)
        if (h->failure[i].sequence) note_time(m, h->failure[i].when_ns);
    for (unsigned i = 0; i < MW_DEVICES; i++) note_time(m, h->device[i].info_ns);
    for (unsigned i = 0; i < MW_CONTEXTS; i++) note_time(m, h->context[i].ended_ns);
}

// As the header has them now.
static void place_failures(struct reading *g) {
    for (unsigned i = 0; i < MW_FAILURES; i++) {
        uint32_t raw = g->m->reader.header.failure[i].site - 1; // 0 - 1 is no index
        bool known = raw < g->r->count[MW_CHUNK_SITES] && g->site_of[raw] != NOWHERE;
        g->m->failure_site[i] = known ? g->site_of[raw] : MODEL_NO_SITE;
    }
}

// What Python's end freed is a part of what was freed, and was told before that.
static void add_up_ended(struct model *m) {
    for (uint32_t i = 0; i < m->sites; i++) {
        struct model_site *s = &m->site[i];
        bool part = s->ended.bytes <= s->tally.freed_bytes && s->ended.blocks <= s->tally.frees;
        if (!part) m->misfits++;
        if (!part || m->reader.header.python_went_on) s->ended = (struct held){0};
        struct model_account *a = &m->account[s->account];
        a->ended = held_sum(&a->ended, &s->ended);
    }
}

static bool read_once(struct reading *g) {
    struct model *m = g->m;
    uint32_t tables[READER_KINDS];
    memcpy(tables, g->r->count, sizeof tables);
    if (!read_tables(g) || !read_threads(g)) return false;
    bound_peaks(m);
    add_up_ended(m);
    uint64_t before = g->events;
    if (!reader_records(g->r, add_record, g)) return false;
    // Failures and how it ended may have changed, too: the later header is the better one, but for
    // the accounts, which are in the model already.
    if (reader_refresh(g->r) != READER_OK) return false;
    bool grown = memcmp(tables, g->r->count, sizeof tables) != 0;
    memcpy(g->r->count, tables, sizeof tables);
    place_failures(g);
    messages_read(g->r, &m->messages);
    read_torch(g);
    g->events = 0;
    if (!walk_threads(g, look_again)) return false;
    // Modulo 2^64 it is small for a file that makes sense. A table that grew: events, though we do
    // not know how many; the next attempt will.
    m->moved = g->events - before + grown;
    for (unsigned i = 0; i < m->threads; i++) {
        const struct model_thread *t = &m->thread[i];
        m->inflight += t->in_flight;
        // Threads that share a block cannot mark what they are at.
        if (t->state == MW_THREAD_SHARED)
            for (unsigned a = 0; a < m->accounts; a++)
                if (t->share[a].tally.allocations || t->share[a].tally.frees) {
                    m->inflight += m->reader.header.losses[MW_LOSS_THREADS];
                    break;
                }
    }
    qsort(m->largest, m->largest_count, sizeof m->largest[0], largest_first);
    note_header_times(m);
    return true;
}

// All but the reader.
static void release(struct model *m) {
    for (unsigned i = 0; i < m->threads; i++) free(m->thread[i].share);
    free(m->account);
    free(m->site);
    free(m->thread);
    free(m->place);
    free(m->place_held);
    free(m->api);
    arena_free(&m->arena);
    messages_free(&m->messages);
    memset((char *)m + sizeof m->reader, 0, sizeof *m - sizeof m->reader);
}

void model_free(struct model *m) {
    reader_close(&m->reader);
    release(m);
}

enum reader_status model_read(struct model *m, const char *path) {
    memset(m, 0, sizeof *m);
    if (reader_open(&m->reader, path) != READER_OK) return m->reader.status;
    bool ok = true;
    for (int attempt = 1; ok; attempt++) {
        struct reading g = {.m = m, .r = &m->reader};
        ok = read_once(&g);
        free(g.site_of);
        free(g.thread_of);
        free(g.raw_site);
        free(g.page_seen);
        free(g.page_queue);
        free(g.ranges.item);
        if (!ok || !m->moved || attempt == ATTEMPTS) break;
        release(m);
        ok = reader_refresh(&m->reader) == READER_OK;
    }
    reader_close(&m->reader);
    if (!ok) release(m);
    return ok ? READER_OK : m->reader.status;
}

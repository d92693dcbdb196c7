// SPDX-License-Identifier: Apache-2.0
//
// Does the ledger agree with itself? (check.h)
//
// The same bytes are counted in four ways: the record of each live block, the cells of the thread
// that allocated or freed them (summed by site and by account), what is left to each thread, and
// the counter behind the peak. In a process that ended by itself all agree to the byte. One that
// was killed stopped between two stores: each thread that says so (in_flight) may be wrong by the
// one event it was at, and so by one block in one account, one site and one thread. While a process
// runs, the events that happened during the reading count likewise.
#include "check.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

__attribute__((format(printf, 2, 3))) static void tell(struct check *c, const char *format, ...) {
    if (c->lines == CHECK_LINES) return;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(c->line[c->lines], sizeof c->line[0], format, arguments);
    va_end(arguments);
    c->lines++;
}

static struct check_row *add_row(struct check *c, const char *holds, uint64_t allowed) {
    struct check_row *row = &c->row[c->rows++];
    *row = (struct check_row){.holds = holds, .allowed = allowed};
    return row;
}

static uint64_t distance(uint64_t a, uint64_t b) {
    return a > b ? a - b : b - a;
}

// Counters against records. True if they differ. Every block too many or too few takes one event.
static bool compare(struct check_row *row, uint64_t blocks, uint64_t bytes,
                    const struct held *held) {
    uint64_t apart = distance(blocks, held->blocks);
    if (!apart && bytes != held->bytes) apart = 1;
    row->compared++;
    row->differing += apart;
    return apart != 0;
}

static void tell_difference(struct check *c, const char *who, const struct model_account *a,
                            uint64_t blocks, uint64_t bytes, const struct held *held) {
    tell(c,
         "%s, device %d %s: counted %" PRId64 " bytes in %" PRId64 " blocks, recorded %" PRIu64
         " in %" PRIu64,
         who, a->device, space_name(a->space), (int64_t)bytes, (int64_t)blocks, held->bytes,
         held->blocks);
}

static void check_accounts(const struct model *m, struct check *c) {
    struct check_row *sums =
        add_row(c, "accounts: the threads' counters sum up to the records", c->in_flight);
    struct check_row *running =
        add_row(c, "accounts: the running counters equal the records", c->in_flight);
    struct check_row *peaks =
        add_row(c, "accounts: the peak is not below what is live", c->in_flight);
    for (unsigned i = 0; i < m->accounts; i++) {
        const struct model_account *a = &m->account[i];
        uint64_t blocks = a->tally.allocations - a->tally.frees, bytes = tally_live(&a->tally);
        if (compare(sums, blocks, bytes, &a->held))
            tell_difference(c, "sum of threads", a, blocks, bytes, &a->held);
        if (compare(running, a->held.blocks, a->live_bytes, &a->held))
            tell_difference(c, "running counter", a, a->held.blocks, a->live_bytes, &a->held);
        peaks->compared++;
        if (a->peak_bytes >= a->held.bytes) continue;
        peaks->differing++;
        tell(c, "device %d %s: the peak is %" PRIu64 " bytes, %" PRIu64 " are live", a->device,
             space_name(a->space), a->peak_bytes, a->held.bytes);
    }
}

static void check_sites(const struct model *m, struct check *c) {
    struct check_row *sums = add_row(c, "sites: their counters equal the records", c->in_flight);
    struct check_row *running =
        add_row(c, "sites: the running counters equal the records", c->in_flight);
    struct check_row *peaks = add_row(c, "sites: the peak is not below what is live", c->in_flight);
    struct check_row *stacks = add_row(c, "sites: their stacks are whole", 0);
    for (unsigned i = 0; i < m->sites; i++) {
        const struct model_site *s = &m->site[i];
        const struct model_account *a = &m->account[s->account];
        uint64_t blocks = s->tally.allocations - s->tally.frees, bytes = tally_live(&s->tally);
        char name[80];
        snprintf(name, sizeof name, "site %u, %s", i, s->api >= 0 ? m->api[s->api].name : "other");
        if (compare(sums, blocks, bytes, &s->held))
            tell_difference(c, name, a, blocks, bytes, &s->held);
        if (compare(running, s->held.blocks, s->live_bytes, &s->held))
            tell_difference(c, name, a, s->held.blocks, s->live_bytes, &s->held);
        peaks->compared++;
        if (s->peak_bytes >= s->held.bytes) continue;
        peaks->differing++;
        tell(c, "%s: the peak is %" PRIu64 " bytes, %" PRIu64 " are live", name, s->peak_bytes,
             s->held.bytes);
    }
    stacks->compared = m->sites;
    stacks->differing = m->broken_stacks;
    if (m->broken_stacks)
        tell(c, "%" PRIu64 " sites refer to stacks that are not in the file", m->broken_stacks);
}

static void check_threads(const struct model *m, struct check *c) {
    struct check_row *row =
        add_row(c, "shares of threads in accounts equal the records", c->in_flight);
    for (unsigned i = 0; i < m->threads; i++)
        for (unsigned a = 0; a < m->accounts; a++) {
            const struct model_share *s = &m->thread[i].share[a];
            uint64_t blocks = s->tally.allocations - s->own_frees - s->remote_frees;
            char name[32];
            snprintf(name, sizeof name, "thread %u", m->thread[i].tid);
            if (compare(row, blocks, share_live(s), &s->held))
                tell_difference(c, name, &m->account[a], blocks, share_live(s), &s->held);
        }
}

static void check_records(const struct model *m, struct check *c) {
    struct check_row *row =
        add_row(c, "records name a site, a thread and a place that exist", m->moved);
    row->compared = m->records;
    row->differing = m->misfits;
    if (m->misfits)
        tell(c,
             "%" PRIu64 " records or counters name a site, thread, place or account that is not "
             "in the file",
             m->misfits);
}

void check_model(const struct model *m, struct check *out) {
    memset(out, 0, sizeof *out);
    // Events without a counter (MW_LOSS_CELLS) stay wrong for ever.
    out->in_flight = m->inflight + m->moved + m->reader.header.losses[MW_LOSS_CELLS];
    check_records(m, out);
    check_accounts(m, out);
    check_sites(m, out);
    check_threads(m, out);
    out->ok = true;
    for (unsigned i = 0; i < out->rows; i++) {
        struct check_row *row = &out->row[i];
        row->ok = row->differing <= row->allowed;
        out->ok = out->ok && row->ok;
    }
}

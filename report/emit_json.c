// SPDX-License-Identifier: Apache-2.0
//
// The JSON report of one process: memwatch-report/1, described and checked by schema.json.
//
// Rules of the format: bytes are exact integers; addresses and handles are texts ("0x7f…"), since
// they are names and not numbers; a time is UTC with milliseconds and CLOCK_MONOTONIC in
// nanoseconds; null is "not known", 0 is zero; lists that can be long are sorted by live bytes.
#define _GNU_SOURCE // sigabbrev_np
#include "emit_parts.h"

#include "findings.h"
#include "memwatch.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

static const struct mw_header *header_of(const struct model *m) {
    return &m->reader.header;
}

// ---- pieces ---------------------------------------------------------------------------------

// `ns` since the ledger was made.
void emit_time(cJSON *object, const char *name, const struct model *m, uint64_t ns) {
    const struct mw_header *h = header_of(m);
    uint64_t utc_ms = (h->start_realtime_ns + ns) / 1000000;
    time_t seconds = (time_t)(utc_ms / 1000);
    struct tm tm;
    char day[32], text[48];
    if (!gmtime_r(&seconds, &tm) || !strftime(day, sizeof day, "%Y-%m-%dT%H:%M:%S", &tm)) {
        json_add_null(object, name);
        return;
    }
    snprintf(text, sizeof text, "%s.%03uZ", day, (unsigned)(utc_ms % 1000));
    cJSON *time = json_add_object(object, name);
    json_add_text(time, "utc", text);
    json_add_u64(time, "monotonic_ns", h->start_monotonic_ns + ns);
}

void emit_time_if(cJSON *object, const char *name, const struct model *m, bool known, uint64_t ns) {
    if (known)
        emit_time(object, name, m, ns);
    else
        json_add_null(object, name);
}

// 0 = it never was.
static void add_time(cJSON *object, const char *name, const struct model *m, uint64_t ns) {
    emit_time_if(object, name, m, ns != 0, ns);
}

void emit_api(cJSON *object, const char *name, const struct model *m, int api) {
    json_add_text(object, name, api >= 0 ? m->api[api].name : NULL);
}

void emit_pair(cJSON *object, int device, enum mw_space space) {
    json_add_i64(object, "device", device);
    json_add_text(object, "space", space_name(space));
}

void emit_tally(cJSON *object, const struct tally *t) {
    json_add_u64(object, "allocations", t->allocations);
    json_add_u64(object, "allocated_bytes", t->allocated_bytes);
    json_add_u64(object, "frees", t->frees);
    json_add_u64(object, "freed_bytes", t->freed_bytes);
    json_add_u64(object, "failed", t->failed);
}

void emit_held(cJSON *object, const struct held *held) {
    json_add_u64(object, "live_bytes", held->bytes);
    json_add_u64(object, "live_blocks", held->blocks);
}

void emit_held_at_exit(cJSON *object, const struct held *held, const struct held *ended) {
    struct held then = held_sum(held, ended);
    emit_held(object, held);
    json_add_u64(object, "at_exit_bytes", then.bytes);
    json_add_u64(object, "at_exit_blocks", then.blocks);
}

// ---- process --------------------------------------------------------------------------------

static void add_argv(cJSON *object, const struct mw_header *h) {
    cJSON *argv = json_add_array(object, "argv");
    const char *end = h->argv + h->argv_bytes;
    for (const char *a = h->argv; a < end; a += strnlen(a, (size_t)(end - a)) + 1)
        json_add_bytes(argv, NULL, a, (size_t)(end - a));
    // The library keeps the beginning of a longer command line.
    json_add_bool(object, "argv_complete", h->argv_bytes < sizeof h->argv);
}

static void add_exit(cJSON *object, const struct mw_header *h, bool alive) {
    static const char *const told[] = {
        [MW_EXIT_CODE] = "code", [MW_EXIT_SIGNAL] = "signal", [MW_EXIT_EXEC] = "exec"};
    cJSON *exit = json_add_object(object, "exit");
    const char *kind = h->exit_kind < sizeof told / sizeof told[0] ? told[h->exit_kind] : NULL;
    if (!kind) kind = alive ? "running" : h->life == MW_LIFE_EXITING ? "ended" : "unknown";
    json_add_text(exit, "kind", kind);
    if (h->exit_kind == MW_EXIT_CODE) json_add_i64(exit, "code", h->exit_value);
    if (h->exit_kind != MW_EXIT_SIGNAL) return;
    const char *abbreviation = sigabbrev_np(h->exit_value);
    char name[32];
    snprintf(name, sizeof name, "SIG%s", abbreviation ? abbreviation : "");
    json_add_i64(exit, "signal", h->exit_value);
    json_add_text(exit, "name", abbreviation ? name : NULL);
}

static void add_rank(cJSON *object, const char *name, int32_t rank) {
    if (rank >= 0)
        json_add_i64(object, name, rank);
    else
        json_add_null(object, name);
}

static void add_process(cJSON *report, const struct model *m, bool alive) {
    const struct mw_header *h = header_of(m);
    cJSON *process = json_add_object(report, "process");
    json_add_u64(process, "pid", h->pid);
    json_add_u64(process, "ppid", h->ppid);
    json_add_u64(process, "uid", h->uid);
    add_argv(process, h);
    json_add_text(process, "exe", h->exe);
    json_add_text(process, "cwd", h->cwd);
    json_add_text(process, "host", h->host);
    json_add_text(process, "boot_id", h->boot_id);
    add_rank(process, "rank", h->rank);
    add_rank(process, "local_rank", h->local_rank);
    add_rank(process, "world_size", h->world_size);
    emit_time(process, "start", m, 0);
    add_time(process, "end", m, h->ended_ns ? h->ended_ns : h->exiting_ns);
    add_time(process, "last_event", m, m->last_ns);
    add_exit(process, h, alive);
}

// ---- devices, contexts, pools ---------------------------------------------------------------

// What of a device this process is known to hold.
static uint64_t own_bytes(const struct model *m, int device) {
    uint64_t bytes = 0;
    for (unsigned i = 0; i < m->accounts; i++) {
        const struct model_account *a = &m->account[i];
        if (a->device == device && mw_space_on_device(a->space)) bytes += a->held.bytes;
    }
    return bytes;
}

// What is in use on a device and not this process's can only be told of the moment when it asked.
static void add_memory_info(cJSON *object, const struct model *m, const struct mw_device *d) {
    if (!d->info_n) {
        json_add_null(object, "memory_info");
        json_add_null(object, "unattributed_bytes");
        return;
    }
    cJSON *info = json_add_object(object, "memory_info");
    json_add_u64(info, "free_bytes", d->info_free);
    json_add_u64(info, "total_bytes", d->info_total);
    json_add_u64(info, "calls", d->info_n);
    emit_time(info, "time", m, d->info_ns);
    if (!d->info_own) {
        json_add_null(info, "own_bytes");
        json_add_null(object, "unattributed_bytes");
        return;
    }
    uint64_t own = d->info_own - 1;
    json_add_u64(info, "own_bytes", own);
    json_add_i64(object, "unattributed_bytes", (int64_t)(d->info_total - d->info_free - own));
}

static void add_graph_memory(cJSON *object, const struct model *m, const struct mw_device *d) {
    if (!d->graph_ns) {
        json_add_null(object, "graph_memory");
        return;
    }
    cJSON *graph = json_add_object(object, "graph_memory");
    json_add_u64(graph, "used_bytes", d->graph_used);
    json_add_u64(graph, "used_peak_bytes", d->graph_used_high);
    json_add_u64(graph, "reserved_bytes", d->graph_reserved);
    json_add_u64(graph, "reserved_peak_bytes", d->graph_reserved_high);
    emit_time(graph, "time", m, d->graph_ns);
}

static void add_limits(cJSON *object, const struct mw_device *d) {
    // By value of CUlimit (cuda.h).
    static const char *const names[8] = {"stack_size",
                                         "printf_fifo_size",
                                         "malloc_heap_size",
                                         "dev_runtime_sync_depth",
                                         "dev_runtime_pending_launch_count",
                                         "max_l2_fetch_granularity",
                                         "persisting_l2_cache_size",
                                         "shmem_size"};
    cJSON *limits = json_add_object(object, "limits");
    for (unsigned i = 0; i < 8; i++)
        if (d->limits_set >> i & 1) json_add_u64(limits, names[i], d->limits[i]);
}

static bool device_known(const struct model *m, unsigned device) {
    for (unsigned i = 0; i < m->accounts; i++)
        if (m->account[i].device == (int)device) return true;
    return header_of(m)->device[device].known;
}

static void add_devices(cJSON *report, const struct model *m) {
    cJSON *devices = json_add_array(report, "devices");
    for (unsigned i = 0; i < MW_DEVICES; i++) {
        const struct mw_device *d = &header_of(m)->device[i];
        if (!device_known(m, i)) continue;
        cJSON *device = json_add_object(devices, NULL);
        json_add_u64(device, "ordinal", i);
        json_add_text(device, "name", d->name);
        if (d->total)
            json_add_u64(device, "total_bytes", d->total);
        else
            json_add_null(device, "total_bytes");
        json_add_u64(device, "own_bytes", own_bytes(m, (int)i));
        add_memory_info(device, m, d);
        add_graph_memory(device, m, d);
        add_limits(device, d);
    }
}

static void add_contexts(cJSON *report, const struct model *m) {
    cJSON *contexts = json_add_array(report, "contexts");
    for (unsigned i = 0; i < MW_CONTEXTS; i++) {
        const struct mw_context *c = &header_of(m)->context[i];
        if (c->state < 2) continue;
        cJSON *context = json_add_object(contexts, NULL);
        json_add_handle(context, "handle", c->handle);
        json_add_i64(context, "device", c->device);
        json_add_bool(context, "primary", c->primary);
        json_add_bool(context, "live", c->state == 2);
        add_time(context, "created", m, c->created_ns);
        add_time(context, "ended", m, c->ended_ns);
    }
}

// What the records say is allocated from a pool.
static struct held pool_held(const struct model *m, uint64_t handle) {
    struct held held = {0};
    for (unsigned i = 0; i < m->places; i++)
        if (m->place[i].pool == handle) {
            held.blocks += m->place_held[i].blocks;
            held.bytes += m->place_held[i].bytes;
        }
    return held;
}

static void add_pool(cJSON *pools, const struct model *m, const struct mw_pool *p) {
    struct held held = pool_held(m, p->handle);
    bool read = p->observed_ns != 0;
    cJSON *pool = json_add_object(pools, NULL);
    json_add_handle(pool, "handle", p->handle);
    emit_pair(pool, p->device, p->space < MW_SPACE_COUNT ? p->space : MW_SPACE_NONE);
    json_add_bool(pool, "imported", p->imported);
    json_add_bool(pool, "live", p->state == 2);
    json_add_u64(pool, "used_bytes", held.bytes);
    json_add_u64(pool, "used_blocks", held.blocks);
    const struct {
        const char *name;
        uint64_t value;
    } reported[] = {{"reported_used_bytes", p->used},
                    {"reported_used_peak_bytes", p->used_high},
                    {"reserved_bytes", p->reserved_bytes},
                    {"reserved_peak_bytes", p->reserved_high}};
    // The program read some of them: those it did not are zero, which no pool in use ever is.
    for (unsigned i = 0; i < sizeof reported / sizeof reported[0]; i++)
        if (read && reported[i].value)
            json_add_u64(pool, reported[i].name, reported[i].value);
        else
            json_add_null(pool, reported[i].name);
    if (p->release_threshold)
        json_add_u64(pool, "release_threshold", p->release_threshold);
    else
        json_add_null(pool, "release_threshold");
    add_time(pool, "observed", m, p->observed_ns);
}

static bool pool_listed(const struct model *m, uint64_t handle) {
    for (unsigned i = 0; i < MW_POOLS; i++)
        if (header_of(m)->pool[i].state >= 2 && header_of(m)->pool[i].handle == handle) return true;
    return false;
}

static void add_pools(cJSON *report, const struct model *m) {
    cJSON *pools = json_add_array(report, "pools");
    for (unsigned i = 0; i < MW_POOLS; i++)
        if (header_of(m)->pool[i].state >= 2) add_pool(pools, m, &header_of(m)->pool[i]);
    // Pools that only blocks tell of: the table of pools was full.
    for (unsigned i = 0; i < m->places; i++) {
        const struct mw_place *p = &m->place[i];
        bool before = !p->pool || !m->place_held[i].blocks || pool_listed(m, p->pool);
        for (unsigned k = 0; k < i && !before; k++)
            before = m->place[k].pool == p->pool && m->place_held[k].blocks;
        struct mw_pool unlisted = {.state = 2, .device = p->device, .handle = p->pool};
        if (!before) add_pool(pools, m, &unlisted);
    }
}

// ---- totals, threads, blocks ----------------------------------------------------------------

static void add_totals(cJSON *report, const struct model *m) {
    cJSON *totals = json_add_array(report, "totals");
    for (unsigned i = 0; i < m->accounts; i++) {
        const struct model_account *a = &m->account[i];
        if (a->space == MW_SPACE_NONE && !a->tally.allocations && !a->held.blocks &&
            !a->tally.failed)
            continue;
        cJSON *total = json_add_object(totals, NULL);
        emit_pair(total, a->device, a->space);
        json_add_bool(total, "counted_as_memory", space_is_memory(a->space));
        emit_held_at_exit(total, &a->held, &a->ended);
        json_add_u64(total, "peak_bytes", a->peak_bytes);
        emit_time_if(total, "peak_time", m, a->peak_bytes, a->peak_ms * 1000000);
        emit_tally(total, &a->tally);
    }
}

static int more_first(uint64_t a, uint64_t b) {
    return a < b ? 1 : a > b ? -1 : 0;
}

// In the spaces that are memory of this process.
static struct held thread_memory(const struct model *m, const struct model_thread *t) {
    struct held held = {0};
    for (unsigned i = 0; i < m->accounts; i++)
        if (space_is_memory(m->account[i].space)) {
            held.blocks += t->share[i].held.blocks;
            held.bytes += t->share[i].held.bytes;
        }
    return held;
}

static struct tally thread_tally(const struct model *m, const struct model_thread *t) {
    struct tally sum = {0};
    for (unsigned i = 0; i < m->accounts; i++) tally_add(&sum, &t->share[i].tally);
    return sum;
}

static void add_shares(cJSON *object, const struct model *m, const struct model_thread *t) {
    cJSON *accounts = json_add_array(object, "accounts");
    for (unsigned i = 0; i < m->accounts; i++) {
        const struct model_share *s = &t->share[i];
        if (!s->held.blocks && !s->tally.allocations && !s->tally.frees && !s->tally.failed)
            continue;
        cJSON *account = json_add_object(accounts, NULL);
        emit_pair(account, m->account[i].device, m->account[i].space);
        emit_held(account, &s->held);
        emit_tally(account, &s->tally);
    }
}

// Of ended threads whose block of counters this thread took over. Their blocks had all been freed.
static void add_earlier(cJSON *object, const struct model_thread *t) {
    cJSON *earlier = json_add_object(object, "earlier");
    json_add_u64(earlier, "threads", t->earlier);
    json_add_u64(earlier, "allocations", t->before.allocations);
    json_add_u64(earlier, "allocated_bytes", t->before.allocated_bytes);
    json_add_u64(earlier, "frees", t->before.frees);
    json_add_u64(earlier, "freed_bytes", t->before.freed_bytes);
}

static const char *thread_state(enum mw_thread_state state) {
    if (state == MW_THREAD_SHARED) return "shared";
    return state == MW_THREAD_ENDED ? "ended" : "running";
}

static void add_thread(cJSON *threads, const struct model *m, const struct model_thread *t) {
    struct held memory = thread_memory(m, t);
    cJSON *thread = json_add_object(threads, NULL);
    json_add_u64(thread, "tid", t->tid);
    json_add_text(thread, "name", t->name);
    struct span python = string_at(&m->arena, t->python_name);
    if (python.length)
        json_add_bytes(thread, "python_name", python.bytes, python.length);
    else
        json_add_null(thread, "python_name");
    json_add_text(thread, "state", thread_state(t->state));
    add_time(thread, "started", m, t->started_ns);
    add_time(thread, "ended", m, t->ended_ns);
    emit_held(thread, &memory);
    add_earlier(thread, t);
    add_shares(thread, m, t);
}

// A thread and what it is sorted by, so that sorting does not add up again and again.
struct ranked {
    const struct model_thread *thread;
    uint64_t live, allocated;
};

static int threads_by_live(const void *x, const void *y) {
    const struct ranked *a = x, *b = y;
    int order = more_first(a->live, b->live);
    if (!order) order = more_first(a->allocated, b->allocated);
    return order ? order : a->thread < b->thread ? -1 : a->thread > b->thread;
}

static void add_threads(cJSON *report, const struct model *m) {
    cJSON *threads = json_add_array(report, "threads");
    struct ranked *order = allocate(m->threads, sizeof *order);
    unsigned n = 0;
    for (unsigned i = 0; i < m->threads; i++) {
        const struct model_thread *t = &m->thread[i];
        struct tally sum = thread_tally(m, t);
        struct held memory = thread_memory(m, t);
        // The shared block is always there, though threads rarely need it.
        if (t->state == MW_THREAD_SHARED && !sum.allocations && !sum.frees && !sum.failed) continue;
        order[n++] = (struct ranked){t, memory.bytes, sum.allocated_bytes};
    }
    qsort(order, n, sizeof *order, threads_by_live);
    for (unsigned i = 0; i < n; i++) add_thread(threads, m, order[i].thread);
    free(order);
}

static void add_block(cJSON *list, const struct model *m, const struct model_block *b,
                      const int *position) {
    const struct model_site *site = &m->site[b->site];
    const struct model_account *account = &m->account[site->account];
    const struct mw_place *place = &m->place[b->place];
    cJSON *block = json_add_object(list, NULL);
    bool tensor = b->record.class_ == MW_CLASS_TENSOR;
    json_add_handle(block, "key", tensor ? mw_tensor_pointer(b->record.key) : b->record.key);
    json_add_u64(block, "bytes", record_bytes(&b->record));
    json_add_u64(block, "asked_bytes", record_asked(&b->record));
    emit_pair(block, account->device, account->space);
    emit_api(block, "api", m, site->api);
    if (position[b->site] >= 0)
        json_add_i64(block, "site", position[b->site]);
    else
        json_add_null(block, "site");
    json_add_u64(block, "tid", m->thread[b->thread].tid);
    json_add_handle(block, "context", place->context);
    json_add_handle(block, "stream", place->stream);
    json_add_handle(block, "pool", place->pool);
    if (b->record.class_ == MW_CLASS_MAPPING) { // has its physical memory's handle instead
        json_add_null(block, "age_ms");
        return;
    }
    uint64_t born_ms = b->record.birth & ((UINT64_C(1) << 40) - 1), now_ms = m->last_ns / 1000000;
    json_add_u64(block, "age_ms", now_ms > born_ms ? now_ms - born_ms : 0);
}

// `position`: where each site stands in the report's list.
static void add_blocks(cJSON *report, const struct model *m, const int *position) {
    cJSON *blocks = json_add_object(report, "blocks");
    json_add_u64(blocks, "count", m->records);
    cJSON *largest = json_add_array(blocks, "largest");
    for (unsigned i = 0; i < m->largest_count; i++) add_block(largest, m, &m->largest[i], position);
}

// ---- failures -------------------------------------------------------------------------------

static const char *result_name(uint32_t result, bool runtime) {
    switch (result) {
#define RESULT(number, driver_name, runtime_name)                                                  \
    case number:                                                                                   \
        return runtime ? runtime_name : driver_name;
#include "results.def"
#undef RESULT
    }
    return NULL;
}

// The stack is its site's, if that is listed and has one: the site of what found no room has none.
static void add_failing_stack(cJSON *failure, const struct model *m, const struct mw_failure *f,
                              const int *position, struct resolver *resolver) {
    uint32_t site = m->failure_site[f - header_of(m)->failure];
    int listed = site == MODEL_NO_SITE ? -1 : position[site];
    if (listed >= 0)
        json_add_i64(failure, "site", listed);
    else
        json_add_null(failure, "site");
    bool told = listed >= 0 && m->site[site].stack != MW_NO_STACK;
    emit_stack(failure, m, resolver, told ? MW_NO_STACK : f->stack);
}

static void add_failure(cJSON *failures, const struct model *m, const struct mw_failure *f,
                        const int *position, struct resolver *resolver) {
    const struct mw_header *h = header_of(m);
    int api = f->api < m->apis ? f->api : -1, driver = f->driver_api < m->apis ? f->driver_api : -1;
    bool runtime = driver >= 0 && m->api[driver].layer == MW_LAYER_RUNTIME;
    const struct mw_account *a =
        &h->account[f->account < MW_ACCOUNTS ? f->account : MW_ACCOUNTS - 1];
    bool allocation = a->state == 2 && a->space != MW_SPACE_NONE && a->space < MW_SPACE_COUNT;
    cJSON *failure = json_add_object(failures, NULL);
    emit_time(failure, "time", m, f->when_ns);
    emit_api(failure, "api", m, api);
    emit_api(failure, "driver_api", m, driver);
    json_add_u64(failure, "result", f->result);
    json_add_text(failure, "result_name", result_name(f->result, runtime));
    if (f->asked)
        json_add_u64(failure, "asked_bytes", f->asked);
    else
        json_add_null(failure, "asked_bytes");
    json_add_handle(failure, "key", f->key);
    if (allocation) {
        emit_pair(failure, a->device, a->space);
        json_add_u64(failure, "live_bytes", f->live);
    } else {
        json_add_null(failure, "device");
        json_add_null(failure, "space");
        json_add_null(failure, "live_bytes");
    }
    if (f->device_free != UINT64_MAX)
        json_add_u64(failure, "device_free_bytes", f->device_free);
    else
        json_add_null(failure, "device_free_bytes");
    json_add_u64(failure, "tid", f->tid);
    add_failing_stack(failure, m, f, position, resolver);
}

// The ring holds the last ones; oldest first. listed[i] gets where the ring's i-th stands in the
// report's list; -1 = it does not.
static void add_failures(cJSON *report, const struct model *m, const int *position,
                         struct resolver *resolver, int listed[MW_FAILURES]) {
    const struct mw_header *h = header_of(m);
    uint64_t total = h->failures_total, first = total > MW_FAILURES ? total - MW_FAILURES : 0;
    json_add_u64(report, "failures_total", total);
    cJSON *failures = json_add_array(report, "failures");
    int n = 0;
    for (unsigned i = 0; i < MW_FAILURES; i++) listed[i] = -1;
    for (uint64_t ordinal = first; ordinal - first < MW_FAILURES && ordinal != total; ordinal++) {
        const struct mw_failure *f = failure_at(h, ordinal);
        if (!f) continue;
        add_failure(failures, m, f, position, resolver);
        listed[ordinal % MW_FAILURES] = n++;
    }
}

// ---- coverage -------------------------------------------------------------------------------

static const char *const door_names[MW_DOOR_COUNT] = {
    [MW_DOOR_SYMBOL] = "symbol",
    [MW_DOOR_DLSYM] = "dlsym",
    [MW_DOOR_GETPROC] = "cuGetProcAddress",
    [MW_DOOR_GETPROC_V2] = "cuGetProcAddress_v2",
};

static const char *layer_name(unsigned layer) {
    static const char *const names[] = {[MW_LAYER_DRIVER] = "driver",
                                        [MW_LAYER_RUNTIME] = "runtime",
                                        [MW_LAYER_FRAMEWORK] = "framework"};
    return names[layer >= MW_LAYER_DRIVER && layer <= MW_LAYER_FRAMEWORK ? layer : MW_LAYER_DRIVER];
}

static void add_entry_points(cJSON *coverage, const struct model *m) {
    json_add_u64(coverage, "entry_points_known", m->apis);
    cJSON *list = json_add_array(coverage, "entry_points");
    for (unsigned i = 0; i < m->apis && i < MW_APIS; i++) {
        const struct mw_api *api = &m->api[i];
        uint64_t failed = header_of(m)->api_failed[i];
        if (!m->calls[i] && !failed) continue;
        cJSON *entry = json_add_object(list, NULL);
        json_add_text(entry, "name", api->name);
        json_add_text(entry, "layer", layer_name(api->layer));
        json_add_u64(entry, "calls", m->calls[i]);
        json_add_u64(entry, "failed", failed);
    }
}

static unsigned add_lookups(cJSON *coverage, const struct mw_header *h) {
    cJSON *list = json_add_array(coverage, "unwatched_lookups");
    unsigned n = 0;
    for (unsigned i = 0; i < MW_LOOKUPS; i++) {
        const struct mw_lookup *l = &h->lookup[i];
        if (!l->count) continue;
        cJSON *lookup = json_add_object(list, NULL);
        json_add_text(lookup, "name", l->name);
        json_add_text(lookup, "door", l->door < MW_DOOR_COUNT ? door_names[l->door] : NULL);
        json_add_u64(lookup, "count", l->count);
        n++;
    }
    return n;
}

static const struct {
    const char *name, *text;
} loss_words[MW_LOSS_COUNT] = {
#define X(id, text) [MW_LOSS_##id] = {#id, text},
    MW_LOSSES(X)
#undef X
};

// Returns how many kinds there were.
static unsigned add_losses(cJSON *coverage, const struct mw_header *h) {
    cJSON *losses = json_add_object(coverage, "losses");
    unsigned n = 0;
    for (unsigned i = 0; i < MW_LOSS_COUNT; i++) {
        if (!h->losses[i]) continue;
        char name[32];
        snprintf(name, sizeof name, "%s", loss_words[i].name);
        for (char *c = name; *c; c++)
            if (*c >= 'A' && *c <= 'Z') *c += 'a' - 'A';
        cJSON *loss = json_add_object(losses, name);
        json_add_u64(loss, "count", h->losses[i]);
        json_add_text(loss, "text", loss_words[i].text);
        n++;
    }
    return n;
}

static void add_levels(cJSON *coverage, const struct mw_header *h) {
    static const char *const names[MW_LEVEL_COUNT] = {
        [MW_LEVEL_PYTHON] = "python", [MW_LEVEL_NATIVE] = "native"};
    static const char *const states[] = {[MW_LEVEL_NONE] = "none",
                                         [MW_LEVEL_LIVE] = "live",
                                         [MW_LEVEL_OFF] = "off",
                                         [MW_LEVEL_UNAVAILABLE] = "unavailable"};
    cJSON *stacks = json_add_object(coverage, "stacks");
    for (unsigned i = 0; i < MW_LEVEL_COUNT; i++) {
        const struct mw_level *l = &h->level[i];
        if (!names[i]) continue;
        cJSON *level = json_add_object(stacks, names[i]);
        unsigned state = l->state <= MW_LEVEL_UNAVAILABLE ? l->state : MW_LEVEL_UNAVAILABLE;
        json_add_text(level, "state", states[state]);
        json_add_text(level, "text", l->words);
    }
}

static void add_symbols(cJSON *coverage, const struct resolver *resolver) {
    cJSON *symbols = json_add_object(coverage, "symbols");
    json_add_bool(symbols, "complete", resolver_complete(resolver));
    emit_modules(symbols, resolver);
}

static void add_coverage(cJSON *report, const struct model *m, const struct resolver *resolver) {
    const struct mw_header *h = header_of(m);
    cJSON *coverage = json_add_object(report, "coverage");
    cJSON *doors = json_add_object(coverage, "doors");
    for (unsigned i = 0; i < MW_DOOR_COUNT; i++) json_add_u64(doors, door_names[i], h->doors[i]);
    cJSON *driver = json_add_object(coverage, "driver");
    json_add_text(driver, "path", h->driver_path);
    if (h->driver_version)
        json_add_u64(driver, "version", h->driver_version);
    else
        json_add_null(driver, "version");
    add_entry_points(coverage, m);
    unsigned lookups = add_lookups(coverage, h);
    cJSON *deepbind = json_add_object(coverage, "deepbind");
    json_add_u64(deepbind, "count", h->deepbinds);
    json_add_text(deepbind, "first", h->deepbind_path);
    add_levels(coverage, h);
    add_symbols(coverage, resolver);
    emit_torch_level(coverage, m);
    unsigned losses = add_losses(coverage, h);
    json_add_bool(coverage, "complete", !lookups && !h->deepbinds && !losses);
}

// ---- the document ---------------------------------------------------------------------------

static void add_ledger(cJSON *report, const struct model *m, const struct check *c,
                       const char *path) {
    cJSON *ledger = json_add_object(report, "ledger");
    json_add_text(ledger, "path", path);
    json_add_u64(ledger, "bytes", m->reader.file_bytes);
    json_add_u64(ledger, "format", header_of(m)->format);
    json_add_u64(ledger, "in_flight", c->in_flight);
    cJSON *check = json_add_object(ledger, "check");
    json_add_bool(check, "ok", c->ok);
    cJSON *differences = json_add_array(check, "differences");
    for (unsigned i = 0; i < c->lines; i++) json_add_text(differences, NULL, c->line[i]);
}

cJSON *report_document(const struct model *m, const struct check *c, const char *path, bool alive,
                       const struct naming *naming) {
    int *position = allocate(m->sites, sizeof *position), failure_position[MW_FAILURES];
    cJSON *report = cJSON_CreateObject();
    json_add_text(report, "schema", MEMWATCH_SCHEMA);
    cJSON *memwatch = json_add_object(report, "memwatch");
    json_add_text(memwatch, "version", MEMWATCH_VERSION);
    json_add_text(memwatch, "library_version", header_of(m)->version);
    add_process(report, m, alive);
    add_devices(report, m);
    add_totals(report, m);
    add_contexts(report, m);
    add_pools(report, m);
    emit_sites(report, m, naming, position);
    add_threads(report, m);
    add_blocks(report, m, position);
    add_failures(report, m, position, naming->resolver, failure_position);
    emit_torch(report, m, position);
    emit_messages(report, m);
    emit_findings(report, m, path, position, failure_position);
    add_coverage(report, m, naming->resolver);
    add_ledger(report, m, c, path);
    free(position);
    return report;
}

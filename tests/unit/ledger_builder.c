// SPDX-License-Identifier: Apache-2.0
//
// Ledger files for tests (ledger_builder.h).
#include "ledger_builder.h"

#include <assert.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FIRST_SITES    256u // chunks of sites and of pages double, as the library's do
#define FIRST_PAGES    16u
#define MAX_PLACES     1024u
#define ARENA_BYTES    (256u << 10)                  // a chunk
#define LIFETIME_CLASS 2                             // of every block that is freed: 10 to 100 ms
#define START_NS       UINT64_C(1750000000123000000) // 2025-06-15T15:06:40.123Z

// Growing moves the image: the chunks in the directory say where everything is.
static void point(struct builder *b) {
    b->header = (struct mw_header *)b->image;
    b->thread = NULL;
    b->site = NULL;
    for (unsigned i = 0; i < MW_CHUNKS; i++) {
        const struct mw_chunk *c = &b->header->chunk[i];
        void *at = b->image + c->offset;
        // Of each kind the first chunk is the one that the functions below fill.
        if (c->kind == MW_CHUNK_THREADS && !b->thread) b->thread = at;
        if (c->kind == MW_CHUNK_SITES && !b->site) b->site = at;
        if (c->kind == MW_CHUNK_PLACES) b->place = at;
        if (c->kind == MW_CHUNK_APIS) b->api = at;
        if (c->kind == MW_CHUNK_RECORDS) b->record = at;
    }
}

void *builder_chunk(struct builder *b, enum mw_chunk_kind kind, unsigned count, size_t bytes) {
    size_t offset = b->bytes, rounded = (bytes + 4095) & ~(size_t)4095;
    b->image = realloc(b->image, offset + rounded);
    if (!b->image) abort();
    memset(b->image + offset, 0, rounded);
    b->bytes += rounded;
    b->header = (struct mw_header *)b->image;
    unsigned i = 0;
    while (b->header->chunk[i].kind) i++;
    assert(i < MW_CHUNKS);
    b->header->chunk[i] = (struct mw_chunk){offset, rounded, count, kind};
    b->header->file_bytes = b->bytes;
    point(b);
    return b->image + offset;
}

static void fill_header(struct mw_header *h) {
    memcpy(h->magic, MW_MAGIC, sizeof h->magic);
    h->format = MW_FORMAT;
    h->order = MW_ORDER;
    h->header_bytes = sizeof(struct mw_header);
    h->thread_bytes = sizeof(struct mw_thread);
    h->cell_bytes = sizeof(struct mw_cell);
    h->site_bytes = sizeof(struct mw_site);
    h->place_bytes = sizeof(struct mw_place);
    h->api_bytes = sizeof(struct mw_api);
    h->record_bytes = sizeof(struct mw_record);
    h->account_bytes = sizeof(struct mw_account);
    h->device_bytes = sizeof(struct mw_device);
    h->context_bytes = sizeof(struct mw_context);
    h->pool_bytes = sizeof(struct mw_pool);
    h->failure_bytes = sizeof(struct mw_failure);
    h->lookup_bytes = sizeof(struct mw_lookup);
    h->chunk_bytes = sizeof(struct mw_chunk);
    h->level_bytes = sizeof(struct mw_level);
    h->life = MW_LIFE_READY;
    h->pid = 4242;
    h->ppid = 1;
    h->start_ticks = 1; // no process of today has it
    h->start_monotonic_ns = 1000000000;
    h->start_realtime_ns = START_NS;
    h->rank = h->local_rank = h->world_size = -1;
    strcpy(h->version, "0.1.0");
    strcpy(h->host, "node-7.example");
    strcpy(h->exe, "/usr/bin/python3.11");
    strcpy(h->cwd, "/nonexistent");
    static const char argv[] = "python3\0train.py\0--epochs=3";
    memcpy(h->argv, argv, sizeof argv);
    h->argv_bytes = sizeof argv;
}

void builder_init(struct builder *b, unsigned max_threads, unsigned max_slots) {
    memset(b, 0, sizeof *b);
    b->image = calloc(1, MW_HEADER_BYTES);
    if (!b->image) abort();
    b->bytes = MW_HEADER_BYTES;
    b->max_threads = max_threads;
    b->max_slots = max_slots;
    fill_header((struct mw_header *)b->image);
    builder_chunk(b, MW_CHUNK_THREADS, max_threads, max_threads * sizeof(struct mw_thread));
    builder_chunk(b, MW_CHUNK_SITES, FIRST_SITES, FIRST_SITES * sizeof(struct mw_site));
    builder_chunk(b, MW_CHUNK_PLACES, MAX_PLACES, MAX_PLACES * sizeof(struct mw_place));
    builder_chunk(b, MW_CHUNK_RECORDS, max_slots,
                  max_slots * sizeof(struct mw_record) +
                      max_slots / MW_BUCKET_SLOTS * sizeof(struct mw_bucket));
    builder_chunk(b, MW_CHUNK_APIS, MW_APIS, MW_APIS * sizeof(struct mw_api));
    b->header->chunk[4].count = 0; // names so far
    struct mw_account *rest = &b->header->account[MW_ACCOUNTS - 1];
    *rest = (struct mw_account){.state = 2, .device = -1};
    b->site[0] = (struct mw_site){.state = 2,
                                  .api = UINT16_MAX,
                                  .driver_api = UINT16_MAX,
                                  .account = MW_ACCOUNTS - 1,
                                  .stack = MW_OVERFLOW};
    b->place[0] = (struct mw_place){.state = 2, .device = -1};
    b->thread[0].state = MW_THREAD_SHARED;
    b->sites = b->places = b->threads = 1;
}

void builder_free(struct builder *b) {
    free(b->image);
}

unsigned builder_api(struct builder *b, const char *name, enum mw_layer layer) {
    struct mw_api *api = &b->api[b->apis];
    snprintf(api->name, sizeof api->name, "%s", name);
    api->layer = layer;
    api->since = 11000;
    b->header->chunk[4].count = b->apis + 1;
    return b->apis++;
}

unsigned builder_account(struct builder *b, int device, enum mw_space space) {
    struct mw_account *a = b->header->account;
    unsigned i = 0;
    while (a[i].state && (a[i].device != device || a[i].space != space)) i++;
    assert(i < MW_ACCOUNTS);
    if (!a[i].state)
        a[i] = (struct mw_account){.state = 2, .device = (int16_t)device, .space = (uint8_t)space};
    return i;
}

// An entry of a table that several chunks make up; NULL = past their end.
static void *entry_at(const struct builder *b, enum mw_chunk_kind kind, unsigned index,
                      size_t bytes) {
    for (unsigned i = 0; i < MW_CHUNKS; i++) {
        const struct mw_chunk *c = &b->header->chunk[i];
        if (c->kind != kind) continue;
        if (index < c->count) return b->image + c->offset + index * bytes;
        index -= c->count;
    }
    return NULL;
}

struct mw_site *builder_site_at(const struct builder *b, unsigned site) {
    return entry_at(b, MW_CHUNK_SITES, site, sizeof(struct mw_site));
}

unsigned builder_site(struct builder *b, unsigned api, unsigned driver_api, int device,
                      enum mw_space space) {
    // As many again as there are.
    if (!builder_site_at(b, b->sites))
        builder_chunk(b, MW_CHUNK_SITES, b->sites + FIRST_SITES,
                      (b->sites + FIRST_SITES) * sizeof(struct mw_site));
    *builder_site_at(b, b->sites) =
        (struct mw_site){.state = 2,
                         .api = (uint16_t)api,
                         .driver_api = (uint16_t)driver_api,
                         .account = (uint16_t)builder_account(b, device, space)};
    return b->sites++;
}

unsigned builder_place(struct builder *b, int device, uint64_t context, uint64_t stream,
                       uint64_t pool) {
    assert(b->places < MAX_PLACES);
    b->place[b->places] = (struct mw_place){
        .state = 2, .device = (int16_t)device, .context = context, .stream = stream, .pool = pool};
    return b->places++;
}

unsigned builder_thread(struct builder *b, unsigned tid, const char *name) {
    assert(b->threads < b->max_threads);
    struct mw_thread *t = &b->thread[b->threads];
    t->state = MW_THREAD_RUNNING;
    t->tid = tid;
    t->started_ns = 1000000 * b->threads;
    snprintf(t->name, sizeof t->name, "%s", name);
    return b->threads++;
}

static struct mw_cell *cell_in(struct mw_cell_page *page, unsigned site) {
    for (unsigned i = 0; i < MW_CELLS; i++) {
        struct mw_cell *c = &page->cell[(site + i) % MW_CELLS];
        if (c->site && c->site != site + 1) continue;
        if (!c->site) c->first_ms = UINT32_MAX;
        c->site = site + 1;
        return c;
    }
    return NULL;
}

// A page of its own for whoever found none free. Returns its index.
static unsigned new_page(struct builder *b) {
    if (!entry_at(b, MW_CHUNK_CELLS, b->pages, sizeof(struct mw_cell_page)))
        builder_chunk(b, MW_CHUNK_CELLS, b->pages + FIRST_PAGES,
                      (b->pages + FIRST_PAGES) * sizeof(struct mw_cell_page));
    return b->pages++;
}

struct mw_cell *builder_cell(struct builder *b, unsigned thread, unsigned site) {
    unsigned path = site / MW_CELLS, index = 0;
    for (unsigned depth = 0;; depth++, path /= MW_PAGE_CHILDREN) {
        struct mw_cell_page *page =
            depth ? entry_at(b, MW_CHUNK_CELLS, index, sizeof *page) : &b->thread[thread].cells;
        struct mw_cell *c = cell_in(page, site);
        if (c) return c;
        struct mw_cell *branch = &page->cell[path % MW_PAGE_CHILDREN];
        size_t at = (size_t)((char *)branch - b->image);
        unsigned next = branch->next_page ? branch->next_page - 1 : new_page(b);
        branch = (struct mw_cell *)(b->image + at);
        branch->next_page = next + 1;
        index = next;
    }
}

// ---- the arena ------------------------------------------------------------------------------

static uint32_t add_object(struct builder *b, enum mw_object_kind kind, const void *object,
                           size_t bytes) {
    struct mw_object head = {(uint16_t)kind, (uint16_t)bytes};
    size_t room = (bytes + 7) & ~(size_t)7;
    if (b->arena_end - b->arena < room) {
        b->arena = b->bytes;
        builder_chunk(b, MW_CHUNK_ARENA, ARENA_BYTES / 8, ARENA_BYTES);
        b->arena_end = b->bytes;
    }
    memcpy(b->image + b->arena, object, bytes);
    memcpy(b->image + b->arena, &head, sizeof head);
    b->arena += room;
    return (uint32_t)((b->arena - room) / 8);
}

uint32_t builder_string(struct builder *b, const char *text) {
    char object[sizeof(struct mw_string) + MW_STRING_MAX];
    size_t n = strlen(text);
    assert(n <= MW_STRING_MAX);
    memcpy(object + sizeof(struct mw_string), text, n);
    return add_object(b, MW_STRING, object, sizeof(struct mw_string) + n);
}

uint32_t builder_code(struct builder *b, const char *file, const char *name, unsigned first_line) {
    struct mw_code code = {.first_line = first_line};
    code.file = builder_string(b, file);
    code.name = builder_string(b, name);
    return add_object(b, MW_CODE, &code, sizeof code);
}

uint32_t builder_module(struct builder *b, const char *path, uint64_t offset, const void *build_id,
                        unsigned build_id_bytes) {
    struct mw_module module = {.offset = offset, .build_id_bytes = (uint8_t)build_id_bytes};
    assert(build_id_bytes <= sizeof module.build_id);
    if (build_id_bytes) memcpy(module.build_id, build_id, build_id_bytes);
    if (path) module.path = builder_string(b, path);
    return add_object(b, MW_MODULE, &module, sizeof module);
}

uint32_t builder_stack(struct builder *b, const uint64_t *python, unsigned pythons,
                       const uint64_t *native, unsigned natives, unsigned flags) {
    union {
        struct mw_stack stack;
        char room[sizeof(struct mw_stack) + 2 * MW_STACK_DEPTH * sizeof(uint64_t)];
    } object = {.stack = {.python = (uint8_t)pythons,
                          .native = (uint8_t)natives,
                          .flags = (uint16_t)flags}};
    assert(pythons <= MW_STACK_DEPTH && natives <= MW_STACK_DEPTH);
    if (pythons) memcpy(object.stack.frame, python, pythons * sizeof *python);
    if (natives) memcpy(object.stack.frame + pythons, native, natives * sizeof *native);
    return add_object(b, MW_STACK, &object,
                      sizeof object.stack + (pythons + natives) * sizeof(uint64_t));
}

// ---- events ---------------------------------------------------------------------------------

size_t builder_alloc(struct builder *b, unsigned thread, unsigned site, unsigned place,
                     enum mw_class class_, uint64_t key, uint64_t bytes, uint64_t asked) {
    assert(b->records < b->max_slots);
    size_t slot = b->records++;
    uint64_t extra = class_ == MW_CLASS_HANDLE ? 1 : mw_pack_slack(bytes - asked);
    struct mw_record *r = &b->record[slot];
    r->size = (uint64_t)place << 48 | bytes;
    r->owner = (uint64_t)thread << 32 | site;
    r->birth = class_ == MW_CLASS_MAPPING ? key : extra << 40 | (slot + 1);
    r->commit = mw_commit(MW_LIVE, 1, class_, mw_fold_key(key));
    struct mw_cell *c = builder_cell(b, thread, site);
    c->allocations++;
    c->bytes_in += bytes;
    if (c->first_ms > slot + 1) c->first_ms = (uint32_t)slot + 1;
    c->last_ms = (uint32_t)slot + 1;
    struct mw_site *s = builder_site_at(b, site);
    s->bound += bytes;
    if (s->bound > s->peak) {
        s->peak = s->bound;
        s->peak_ms = slot + 1;
    }
    struct mw_account *a = &b->header->account[s->account];
    a->bound += bytes;
    if (a->bound > a->peak) {
        a->peak = a->bound;
        a->peak_ms = slot + 1;
    }
    return slot;
}

void builder_release(struct builder *b, unsigned thread, size_t slot) {
    struct mw_record *r = &b->record[slot];
    uint32_t site = (uint32_t)r->owner, owner = (uint32_t)(r->owner >> 32) & 0xffff;
    uint64_t bytes = r->size & MW_MAX_BYTES;
    r->commit = mw_commit(MW_FREE, mw_commit_generation(r->commit), 0, 0);
    struct mw_cell *c = builder_cell(b, thread, site);
    struct mw_site *s = builder_site_at(b, site);
    c->lifetime[LIFETIME_CLASS]++;
    s->bound -= bytes;
    if (owner == thread) {
        c->own_frees++;
        c->own_bytes += bytes;
    } else {
        c->foreign_frees++;
        c->foreign_bytes += bytes;
        b->thread[owner].remote[s->account].frees++;
        b->thread[owner].remote[s->account].bytes += bytes;
    }
    b->header->account[s->account].bound -= bytes;
}

void builder_fail(struct builder *b, unsigned thread, unsigned site, uint64_t asked,
                  uint32_t result) {
    builder_cell(b, thread, site)->failed++;
    const struct mw_site *s = builder_site_at(b, site);
    b->header->api_failed[s->api]++;
    uint64_t ordinal = b->header->failures_total++;
    struct mw_failure *f = &b->header->failure[ordinal % MW_FAILURES];
    f->sequence = 2 * ordinal + 2;
    f->when_ns = 5000000 + ordinal;
    f->asked = asked;
    f->key = 0;
    f->live = b->header->account[s->account].bound;
    f->device_free = UINT64_MAX;
    f->result = result;
    f->api = s->api;
    f->driver_api = s->driver_api;
    f->account = s->account;
    f->thread = (uint16_t)thread;
    f->tid = b->thread[thread].tid;
    f->site = site + 1;
    f->stack = s->stack;
}

// ---- messages -------------------------------------------------------------------------------

static const struct mw_chunk *ring_chunk(const struct builder *b) {
    const struct mw_chunk *c = b->header->chunk;
    while (c->kind && c->kind != MW_CHUNK_MESSAGES) c++;
    assert(c->kind);
    return c;
}

struct mw_ring *builder_ring_at(const struct builder *b) {
    return (struct mw_ring *)(b->image + ring_chunk(b)->offset);
}

void builder_ring(struct builder *b, unsigned size, uint64_t written) {
    struct mw_ring *ring = builder_chunk(b, MW_CHUNK_MESSAGES, size, MW_RING_HEAD + size);
    ring->written = written;
}

uint64_t builder_message(struct builder *b, const struct mw_message *head, const char *text) {
    struct mw_ring *ring = builder_ring_at(b);
    unsigned size = ring_chunk(b)->count, bytes = (head->bytes + 7) & ~7u;
    char *words = (char *)ring + MW_RING_HEAD;
    struct mw_message m = *head;
    uint64_t at = ring->written;
    ring->written += sizeof m + bytes;
    m.commit = at + 1;
    for (unsigned i = 0; i < sizeof m + bytes; i++) {
        char byte = 0;
        if (i < sizeof m)
            byte = ((const char *)&m)[i];
        else if (i - sizeof m < head->bytes)
            byte = text[i - sizeof m];
        words[(at + i) & (size - 1)] = byte;
    }
    return at;
}

bool builder_save(const struct builder *b, const char *path, size_t bytes) {
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0) return false;
    bool ok = true;
    for (size_t done = 0; ok && done < bytes;) {
        ssize_t n = write(fd, b->image + done, bytes - done);
        ok = n > 0;
        done += ok ? (size_t)n : 0;
    }
    return close(fd) == 0 && ok;
}

static void sample_surroundings(struct builder *b) {
    struct mw_header *h = b->header;
    h->rank = 3;
    h->local_rank = 1;
    h->world_size = 8;
    h->driver_version = 13000;
    strcpy(h->driver_path, "/usr/lib/x86_64-linux-gnu/libcuda.so.1");
    h->doors[MW_DOOR_DLSYM] = 2;
    h->doors[MW_DOOR_GETPROC_V2] = 300;
    h->deepbinds = 1;
    strcpy(h->deepbind_path, "/opt/plug-in.so");
    h->losses[MW_LOSS_UNKNOWN_FREES] = 7;
    h->lookup[0] = (struct mw_lookup){.count = 2, .door = MW_DOOR_GETPROC_V2};
    strcpy(h->lookup[0].name, "cuMemFancyNew");
    h->level[MW_LEVEL_PYTHON] = (struct mw_level){MW_LEVEL_LIVE, "CPython 3.11.7"};
    h->level[MW_LEVEL_NATIVE] = (struct mw_level){MW_LEVEL_UNAVAILABLE, "no libunwind.so.8"};
    struct mw_device *d = &h->device[0];
    d->known = 1;
    strcpy(d->name, "Simulated GPU");
    d->total = UINT64_C(16) << 30;
    d->info_free = UINT64_C(15) << 30;
    d->info_total = UINT64_C(16) << 30;
    d->info_ns = 4000000;
    d->info_n = 1;
    d->info_own = (3 << 20) + 1;
    d->limits[2] = 8 << 20;
    d->limits_set = 4;
    h->context[0] = (struct mw_context){
        .state = 2, .device = 0, .primary = 1, .handle = 0xc0, .created_ns = 500};
    h->pool[0] = (struct mw_pool){.state = 2,
                                  .device = 0,
                                  .space = MW_SPACE_DEVICE,
                                  .handle = 0x900,
                                  .used = 3 << 20,
                                  .reserved_bytes = 32 << 20,
                                  .observed_ns = 4500000};
}

// Python's train.py calls a module in C, which reaches cudaMalloc through a C++ library.
static uint32_t sample_stack(struct builder *b) {
    static const unsigned char build_id[] = {0x01, 0x23, 0x45, 0x67};
    uint32_t forward = builder_code(b, "/home/ada/train.py", "Model.forward", 40);
    uint32_t whole = builder_code(b, "/home/ada/train.py", "<module>", 1);
    uint32_t torch = builder_module(b, "/opt/torch/lib/libtorch.so", 0x1000, build_id, 4);
    uint32_t python = builder_module(b, "/opt/python/bin/python3.11", 0, NULL, 0);
    const uint64_t pythons[] = {PYTHON_FRAME(forward, 42, 0), PYTHON_FRAME(whole, 99, 1)};
    const uint64_t natives[] = {NATIVE_FRAME(torch, 0x234), NATIVE_FRAME(torch, 0x567),
                                NATIVE_FRAME(python, 0x4242), NATIVE_FRAME(python, 0x1000)};
    return builder_stack(b, pythons, 2, natives, 4, 0);
}

// Standard error: an error that matches the failed call, one with a number that cannot be true,
// bytes that are no text, a long text that was cut. The ring has been filled several times.
static void sample_messages(struct builder *b, uint32_t tid) {
    static const char broken[] = "\x1b[31m 10%|#   |\r 20%|##  |\0\xff\xfe\n";
    static const char *const texts[] = {
        "Traceback (most recent call last):\n",
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 64.00 GiB. GPU 0 has a "
        "total capacity of 16.00 GiB of which 15.00 GiB is free. Including non-PyTorch memory, "
        "this process has 10.05 MiB memory in use. Of the allocated memory 3.00 MiB is allocated "
        "by PyTorch, and 7.00 MiB is reserved by PyTorch but unallocated.\n",
        ("RuntimeError: MPS backend out of memory (MPS allocated: 1.49 GiB, other allocations: "
         "67108914.49 GiB, max allowed: 30.19 GiB). Tried to allocate 9.19 MiB on private "
         "pool.\n")};
    builder_ring(b, 4096, 3 * 4096 - 200);
    struct mw_message m = {.live_device = 10 << 20, .live_host = 12345, .tid = tid};
    for (unsigned i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        m.when_ns = 5100000 + i;
        m.bytes = (uint32_t)strlen(texts[i]);
        builder_message(b, &m, texts[i]);
    }
    m.bytes = sizeof broken - 1;
    builder_message(b, &m, broken);
    m.bytes = 32;
    m.cut = 70000;
    builder_message(b, &m, "begins with this.ends like that\n");
}

void builder_sample(struct builder *b) {
    enum { MALLOC, DRIVER_MALLOC, PITCH, HOST, ASYNC, CREATE, MAP, NAMES };
    static const char *const names[NAMES] = {
        "cudaMalloc",  "cuMemAlloc_v2", "cuMemAllocPitch_v2", "cuMemHostAlloc", "cuMemAllocAsync",
        "cuMemCreate", "cuMemMap"};
    builder_init(b, 8, 1024);
    for (unsigned i = 0; i < NAMES; i++)
        builder_api(b, names[i], i ? MW_LAYER_DRIVER : MW_LAYER_RUNTIME);
    sample_surroundings(b);
    unsigned main_thread = builder_thread(b, 4242, "python3");
    unsigned loader = builder_thread(b, 4243, "loader");
    unsigned ended = builder_thread(b, 4244, "worker");
    unsigned place = builder_place(b, 0, 0xc0, 0x51, 0);
    unsigned other = builder_place(b, 1, 0xc1, 0, 0), pool = builder_place(b, 0, 0xc0, 0x51, 0x900);
    unsigned runtime = builder_site(b, MALLOC, DRIVER_MALLOC, 0, MW_SPACE_DEVICE);
    uint32_t stack = sample_stack(b); // which may move the sites
    builder_site_at(b, runtime)->stack = stack;
    unsigned second = builder_site(b, DRIVER_MALLOC, DRIVER_MALLOC, 1, MW_SPACE_DEVICE);
    unsigned pitched = builder_site(b, PITCH, PITCH, 0, MW_SPACE_DEVICE);
    unsigned host = builder_site(b, HOST, HOST, -1, MW_SPACE_PINNED);
    unsigned async = builder_site(b, ASYNC, ASYNC, 0, MW_SPACE_DEVICE);
    unsigned create = builder_site(b, CREATE, CREATE, 0, MW_SPACE_PHYSICAL);
    unsigned map = builder_site(b, MAP, MAP, 0, MW_SPACE_MAPPED);

    size_t slot[10];
    for (unsigned i = 0; i < 10; i++)
        slot[i] = builder_alloc(b, i % 2 ? loader : main_thread, runtime, place, MW_CLASS_ADDRESS,
                                0x7f0000000000 + i * 0x100000, 1 << 20, 1 << 20);
    builder_release(b, main_thread, slot[0]);
    builder_release(b, main_thread, slot[1]); // of the loader's
    builder_release(b, ended, slot[2]);
    builder_alloc(b, main_thread, second, other, MW_CLASS_ADDRESS, 0x7f1000000000, 4096, 4096);
    builder_alloc(b, loader, pitched, place, MW_CLASS_ADDRESS, 0x7f2000000000, 512 * 100,
                  500 * 100);
    builder_alloc(b, loader, host, 0, MW_CLASS_ADDRESS, 0x7f3000000000, 12345, 12345);
    builder_alloc(b, main_thread, async, pool, MW_CLASS_ADDRESS, 0x7f4000000000, 3 << 20, 3 << 20);
    builder_alloc(b, main_thread, create, place, MW_CLASS_HANDLE, 0x55, 2 << 20, 2 << 20);
    builder_alloc(b, main_thread, map, place, MW_CLASS_MAPPING, 0x7f5000000000, 2 << 20, 2 << 20);
    builder_fail(b, loader, runtime, UINT64_C(64) << 30, 2);
    b->thread[main_thread].calls[MALLOC] = 5;
    b->thread[loader].calls[MALLOC] = 6;
    b->thread[ended].state = MW_THREAD_ENDED;
    b->thread[ended].ended_ns = 6000000;
    sample_messages(b, 4243);
}

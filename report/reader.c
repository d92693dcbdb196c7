// SPDX-License-Identifier: Apache-2.0
//
// Ledger file → checked structs (reader.h).
//
// Layout differences. A struct may have grown since the file was written, or since this program
// was: the header tells the writer's sizes. Entries are therefore copied one by one, the smaller of
// the two sizes, into zeroed structs. In the header itself only the arrays at its end move; the
// fields before them keep their places for ever.
//
// Consistency. The writer may be at work, and pread copies in no particular order, so one read of a
// record proves nothing, even if its commit word says LIVE before and after. Each block is read
// three times: a record counts if its commit word (state, generation, key) is the same in the first
// and the third copy; then it did not change in between, and the second copy's fields belong to it.
#include "reader.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define RECORDS_AT_ONCE 8192u
#define COPIES          3 // of each block of records, see above
#define ARENA_UNIT      8u

// Two thousand million live blocks. A sparse file of any size costs nothing to make, but reading it
// would take for ever.
#define MAX_FILE_BYTES (UINT64_C(64) << 30)

// What a table's entries are: `size_at` is where the header tells the writer's size, `oldest` the
// size in the first version of the format, which no writer goes below.
struct layout {
    const char *name;
    size_t size_at, ours, oldest;
    uint32_t most; // entries that an index can name, at most
};
#define LAYOUT(name, type, field, oldest, most)                                                    \
    { name, offsetof(struct mw_header, field), sizeof(struct type), oldest, most }
static const struct layout tables[READER_KINDS] = {
    [MW_CHUNK_THREADS] = LAYOUT("threads", mw_thread, thread_bytes, 8192, 1u << 16),
    // Its entries are pages: see stride_of().
    [MW_CHUNK_CELLS] = LAYOUT("cells", mw_cell, cell_bytes, 128, 1u << 22),
    [MW_CHUNK_SITES] = LAYOUT("sites", mw_site, site_bytes, 64, 1u << 20),
    [MW_CHUNK_PLACES] = LAYOUT("places", mw_place, place_bytes, 32, 1u << 16),
    [MW_CHUNK_APIS] = LAYOUT("entry points", mw_api, api_bytes, 64, 1u << 16),
    [MW_CHUNK_RECORDS] = LAYOUT("records", mw_record, record_bytes, 32, UINT32_MAX),
    // References count in units of 8 bytes. No size of the header's own: ARENA_UNIT.
    [MW_CHUNK_ARENA] = {"units of the arena", 0, ARENA_UNIT, ARENA_UNIT, UINT32_MAX},
};

// The arrays at the header's end, in file order.
static const struct array {
    struct layout layout;
    size_t at; // in our struct
    unsigned count;
} arrays[] = {
    {LAYOUT("accounts", mw_account, account_bytes, 64, 0), offsetof(struct mw_header, account),
     MW_ACCOUNTS},
    {LAYOUT("devices", mw_device, device_bytes, 272, 0), offsetof(struct mw_header, device),
     MW_DEVICES},
    {LAYOUT("contexts", mw_context, context_bytes, 32, 0), offsetof(struct mw_header, context),
     MW_CONTEXTS},
    {LAYOUT("pools", mw_pool, pool_bytes, 64, 0), offsetof(struct mw_header, pool), MW_POOLS},
    {LAYOUT("failures", mw_failure, failure_bytes, 72, 0), offsetof(struct mw_header, failure),
     MW_FAILURES},
    {LAYOUT("look-ups", mw_lookup, lookup_bytes, 64, 0), offsetof(struct mw_header, lookup),
     MW_LOOKUPS},
    {LAYOUT("chunks", mw_chunk, chunk_bytes, 24, 0), offsetof(struct mw_header, chunk), MW_CHUNKS},
    {LAYOUT("levels", mw_level, level_bytes, 128, 0), offsetof(struct mw_header, level),
     MW_LEVEL_COUNT},
};
#define ARRAYS       (sizeof arrays / sizeof arrays[0])
#define ARRAYS_BEGIN offsetof(struct mw_header, account)

__attribute__((format(printf, 3, 4))) static enum reader_status
failed(struct reader *r, enum reader_status status, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(r->error, sizeof r->error, format, arguments);
    va_end(arguments);
    return r->status = status;
}

static bool read_at(struct reader *r, void *out, size_t bytes, uint64_t offset) {
    for (size_t done = 0; done < bytes;) {
        ssize_t n = pread(r->fd, (char *)out + done, bytes - done, (off_t)(offset + done));
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) {
            failed(r, READER_UNREADABLE, "reading at byte %llu: %s",
                   (unsigned long long)(offset + done), strerror(errno));
            return false;
        }
        if (n == 0) {
            failed(r, READER_DAMAGED, "cut short: it ends at byte %llu, where more was promised",
                   (unsigned long long)(offset + done));
            return false;
        }
        done += (size_t)n;
    }
    return true;
}

static uint32_t writer_size(const struct reader *r, const struct layout *layout) {
    uint32_t size;
    if (!layout->size_at) return (uint32_t)layout->ours;
    memcpy(&size, (const char *)&r->header + layout->size_at, sizeof size);
    return size;
}

// The size of one entry in the file.
static size_t stride_of(const struct reader *r, enum mw_chunk_kind kind) {
    return kind == MW_CHUNK_CELLS ? MW_PAGE_BYTES : writer_size(r, &tables[kind]);
}

static bool sizes_plausible(struct reader *r, const struct layout *layout) {
    uint32_t size = writer_size(r, layout);
    // A page has at least one cell.
    uint32_t most = layout == &tables[MW_CHUNK_CELLS] ? MW_PAGE_BYTES : MW_HEADER_BYTES;
    if (size >= layout->oldest && size <= most && size % 8 == 0) return true;
    failed(r, READER_DAMAGED, "the header says that an entry of the %s has %u bytes", layout->name,
           size);
    return false;
}

#define TERMINATE(text) ((text)[sizeof(text) - 1] = '\0')

static void terminate_texts(struct mw_header *h) {
    TERMINATE(h->boot_id);
    TERMINATE(h->version);
    TERMINATE(h->host);
    TERMINATE(h->exe);
    TERMINATE(h->cwd);
    TERMINATE(h->report_dir);
    TERMINATE(h->argv);
    TERMINATE(h->deepbind_path);
    TERMINATE(h->driver_path);
    if (h->argv_bytes > sizeof h->argv) h->argv_bytes = sizeof h->argv;
    for (unsigned i = 0; i < MW_DEVICES; i++) TERMINATE(h->device[i].name);
    for (unsigned i = 0; i < MW_LOOKUPS; i++) TERMINATE(h->lookup[i].name);
    for (unsigned i = 0; i < MW_LEVEL_COUNT; i++) TERMINATE(h->level[i].words);
}

// The fields before the arrays are in `r->header`; checks what they say about the file.
static bool identity_plausible(struct reader *r) {
    const struct mw_header *h = &r->header;
    if (memcmp(h->magic, MW_MAGIC, sizeof h->magic) != 0) {
        failed(r, READER_FOREIGN, "not a memwatch ledger");
    } else if (h->order != MW_ORDER) {
        failed(r, READER_VERSION,
               "a ledger of a machine with another byte order: read it on such a machine");
    } else if (h->format < MW_FORMAT_OLDEST || h->format > MW_FORMAT) {
        failed(
            r, READER_VERSION,
            "a ledger of format %u, made by %s version; this program reads formats %u to %u: use "
            "the memwatch program that came with the library",
            h->format, h->format < MW_FORMAT ? "an older" : "a later", MW_FORMAT_OLDEST, MW_FORMAT);
    } else if (h->header_bytes < ARRAYS_BEGIN || h->header_bytes > MW_HEADER_BYTES) {
        failed(r, READER_DAMAGED, "the header says that it has %u bytes", h->header_bytes);
    } else if (h->life != MW_LIFE_READY && h->life != MW_LIFE_EXITING) {
        failed(r, READER_DAMAGED, "never completed: its process ended, or failed, while making it");
    } else {
        return true;
    }
    return false;
}

#define RING_TRIES 4

// Reads an entry between two looks at its sequence number, which is its first field: one that was
// changed meanwhile is read anew, and given up as empty after a few times. (A single read tells
// nothing of the order in which the kernel copied its bytes.)
static bool read_entry(struct reader *r, void *entry, size_t bytes, uint64_t offset) {
    uint64_t before, after;
    for (int i = 0; i < RING_TRIES; i++) {
        if (!read_at(r, &before, sizeof before, offset)) return false;
        atomic_thread_fence(memory_order_acquire);
        if (!read_at(r, entry, bytes, offset)) return false;
        atomic_thread_fence(memory_order_acquire);
        if (!read_at(r, &after, sizeof after, offset)) return false;
        if (before == after && *(uint64_t *)entry == after) return true;
    }
    *(uint64_t *)entry = 0;
    return true;
}

// A ring of failed calls or refusals that its writers may be at: every entry that is not empty.
static bool read_ring(struct reader *r, void *ring, size_t ours, unsigned count, uint64_t offset,
                      size_t theirs) {
    for (unsigned i = 0; i < count; i++) {
        void *entry = (char *)ring + i * ours;
        if (*(uint64_t *)entry &&
            !read_entry(r, entry, ours < theirs ? ours : theirs, offset + i * theirs))
            return false;
    }
    return true;
}

static enum reader_status read_header(struct reader *r) {
    char *raw = malloc(MW_HEADER_BYTES);
    memset(&r->header, 0, sizeof r->header);
    if (!raw) return failed(r, READER_UNREADABLE, "out of memory");
    bool ok = r->file_bytes >= sizeof MW_MAGIC - 1 && read_at(r, raw, sizeof MW_MAGIC - 1, 0);
    if (!ok || memcmp(raw, MW_MAGIC, sizeof MW_MAGIC - 1) != 0) {
        free(raw);
        return failed(r, READER_FOREIGN, "not a memwatch ledger");
    }
    ok = read_at(r, raw, MW_HEADER_BYTES, 0);
    if (ok) memcpy(&r->header, raw, ARRAYS_BEGIN);
    ok = ok && identity_plausible(r);
    for (unsigned k = MW_CHUNK_THREADS; ok && k < READER_KINDS; k++)
        ok = sizes_plausible(r, &tables[k]);
    size_t at = ARRAYS_BEGIN;
    for (size_t a = 0; ok && a < ARRAYS; a++) {
        ok = sizes_plausible(r, &arrays[a].layout);
        if (!ok) break;
        size_t theirs = writer_size(r, &arrays[a].layout), ours = arrays[a].layout.ours;
        if (at + theirs * arrays[a].count > r->header.header_bytes) {
            failed(r, READER_DAMAGED, "the header is too small for its table of %s",
                   arrays[a].layout.name);
            ok = false;
            break;
        }
        for (unsigned i = 0; i < arrays[a].count; i++)
            memcpy((char *)&r->header + arrays[a].at + i * ours, raw + at + i * theirs,
                   ours < theirs ? ours : theirs);
        if (arrays[a].at == offsetof(struct mw_header, failure))
            ok = read_ring(r, r->header.failure, ours, MW_FAILURES, at, theirs);
        at += theirs * arrays[a].count;
    }
    free(raw);
    if (!ok) return r->status;
    terminate_texts(&r->header);
    return READER_OK;
}

static int by_offset(const void *a, const void *b) {
    const struct mw_chunk *x = a, *y = b;
    return x->offset < y->offset ? -1 : x->offset > y->offset;
}

// Chunks lie behind the header, inside the file and apart from one another: so that what is read
// is bounded by the file's size.
static bool chunks_apart(struct reader *r) {
    struct mw_chunk sorted[MW_CHUNKS];
    memcpy(sorted, r->header.chunk, sizeof sorted);
    qsort(sorted, MW_CHUNKS, sizeof sorted[0], by_offset);
    uint64_t end = MW_HEADER_BYTES;
    for (unsigned i = 0; i < MW_CHUNKS; i++) {
        const struct mw_chunk *c = &sorted[i];
        if (c->kind == MW_CHUNK_NONE) continue;
        if (c->offset < end || c->offset % 8 != 0) {
            failed(r, READER_DAMAGED, "the chunk at byte %llu overlaps what is before it",
                   (unsigned long long)c->offset);
            return false;
        }
        if (c->offset > r->file_bytes || c->bytes > r->file_bytes - c->offset) {
            failed(r, READER_DAMAGED, "cut short: it has %llu bytes, a chunk ends at byte %llu",
                   (unsigned long long)r->file_bytes, (unsigned long long)(c->offset + c->bytes));
            return false;
        }
        end = c->offset + c->bytes;
    }
    return true;
}

static enum reader_status read_directory(struct reader *r) {
    if (!chunks_apart(r)) return r->status;
    memset(r->extents, 0, sizeof r->extents);
    memset(r->count, 0, sizeof r->count);
    for (unsigned i = 0; i < MW_CHUNKS; i++) {
        const struct mw_chunk *c = &r->header.chunk[i];
        // A kind of a later version: it holds what this program does not know of.
        if (c->kind == MW_CHUNK_NONE || c->kind >= READER_KINDS) continue;
        if (c->count > c->bytes / stride_of(r, c->kind))
            return failed(r, READER_DAMAGED, "the chunk at byte %llu is too small for its %u %s",
                          (unsigned long long)c->offset, c->count, tables[c->kind].name);
        uint32_t have = r->count[c->kind], room = tables[c->kind].most - have;
        uint32_t count = c->count < room ? c->count : room;
        r->extent[c->kind][r->extents[c->kind]++] = (struct extent){c->offset, have, count};
        r->count[c->kind] += count;
    }
    return READER_OK;
}

static enum reader_status file_size(struct reader *r) {
    struct stat st;
    if (fstat(r->fd, &st) != 0) return failed(r, READER_UNREADABLE, "%s", strerror(errno));
    r->file_bytes = (uint64_t)st.st_size;
    if (r->file_bytes > MAX_FILE_BYTES)
        return failed(r, READER_DAMAGED, "larger than any ledger: %llu bytes",
                      (unsigned long long)r->file_bytes);
    return READER_OK;
}

enum reader_status reader_refresh(struct reader *r) {
    enum reader_status status = file_size(r);
    if (status == READER_OK) status = read_header(r);
    // Again: a living file may have grown by a chunk that the header already tells.
    if (status == READER_OK) status = file_size(r);
    return status == READER_OK ? read_directory(r) : status;
}

enum reader_status reader_open(struct reader *r, const char *path) {
    memset(r, 0, sizeof *r);
    // A named pipe must not make us wait for a writer.
    r->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (r->fd < 0)
        return failed(r, errno == ENOENT || errno == ENOTDIR ? READER_MISSING : READER_UNREADABLE,
                      "%s", strerror(errno));
    struct stat st;
    enum reader_status status;
    if (fstat(r->fd, &st) == 0 && !S_ISREG(st.st_mode))
        status = failed(r, READER_UNREADABLE, "not a regular file");
    else
        status = reader_refresh(r);
    if (status != READER_OK) reader_close(r);
    return status;
}

void reader_close(struct reader *r) {
    if (r->fd >= 0) close(r->fd);
    r->fd = -1;
}

static size_t entry_bytes(enum mw_chunk_kind kind) {
    return kind == MW_CHUNK_CELLS ? sizeof(struct mw_cell_page) : tables[kind].ours;
}

// Copies `n` entries of one extent, from entry `skip` of it.
static bool copy_entries(struct reader *r, enum mw_chunk_kind kind, const struct extent *e,
                         uint32_t skip, uint32_t n, char *out) {
    size_t theirs = stride_of(r, kind), ours = entry_bytes(kind);
    uint64_t offset = e->offset + (uint64_t)skip * theirs;
    if (theirs == ours) return read_at(r, out, n * ours, offset);
    char *raw = malloc(n * theirs);
    if (!raw) failed(r, READER_UNREADABLE, "out of memory");
    bool ok = raw && read_at(r, raw, n * theirs, offset);
    for (uint32_t i = 0; ok && i < n; i++)
        memcpy(out + i * ours, raw + i * theirs, ours < theirs ? ours : theirs);
    free(raw);
    return ok;
}

bool reader_entries(struct reader *r, enum mw_chunk_kind kind, uint32_t first, uint32_t n,
                    void *out) {
    size_t bytes = entry_bytes(kind);
    memset(out, 0, n * bytes);
    for (unsigned i = 0; i < r->extents[kind]; i++) {
        const struct extent *e = &r->extent[kind][i];
        uint64_t from = first > e->first ? first : e->first;
        uint64_t to = (uint64_t)e->first + e->count;
        if (to > (uint64_t)first + n) to = (uint64_t)first + n;
        if (from >= to) continue;
        if (!copy_entries(r, kind, e, (uint32_t)(from - e->first), (uint32_t)(to - from),
                          (char *)out + (from - first) * bytes))
            return false;
    }
    return true;
}

unsigned reader_page_cells(const struct reader *r) {
    return MW_PAGE_BYTES / r->header.cell_bytes;
}

struct mw_cell reader_cell(const struct reader *r, const struct mw_cell_page *page, unsigned i) {
    size_t theirs = r->header.cell_bytes;
    struct mw_cell cell = {0};
    memcpy(&cell, (const char *)page + i * theirs, theirs < sizeof cell ? theirs : sizeof cell);
    return cell;
}

// ---- the arena ------------------------------------------------------------------------------

static int by_place(const void *a, const void *b) {
    const struct arena_chunk *x = a, *y = b;
    return x->offset < y->offset ? -1 : x->offset > y->offset;
}

bool reader_arena(struct reader *r, struct arena *out) {
    uint64_t left = READER_ARENA_MOST;
    out->chunks = 0;
    for (unsigned i = 0; i < r->extents[MW_CHUNK_ARENA]; i++) {
        const struct extent *e = &r->extent[MW_CHUNK_ARENA][i];
        uint64_t bytes = (uint64_t)e->count * ARENA_UNIT;
        if (!bytes || bytes > left) continue;
        struct arena_chunk chunk = {e->offset, bytes, malloc(bytes)};
        if (!chunk.memory) {
            failed(r, READER_UNREADABLE, "out of memory");
            return false;
        }
        out->chunk[out->chunks++] = chunk;
        left -= bytes;
        if (!read_at(r, chunk.memory, bytes, e->offset)) return false;
    }
    qsort(out->chunk, out->chunks, sizeof out->chunk[0], by_place);
    return true;
}

void arena_free(struct arena *arena) {
    for (unsigned i = 0; i < arena->chunks; i++) free(arena->chunk[i].memory);
    arena->chunks = 0;
}

// The chunk that holds a byte of the file, or NULL.
static const struct arena_chunk *chunk_of(const struct arena *arena, uint64_t offset) {
    unsigned low = 0, high = arena->chunks;
    while (low < high) {
        unsigned middle = (low + high) / 2;
        const struct arena_chunk *c = &arena->chunk[middle];
        if (offset < c->offset)
            high = middle;
        else if (offset - c->offset < c->bytes)
            return c;
        else
            low = middle + 1;
    }
    return NULL;
}

const void *arena_object(const struct arena *arena, uint32_t reference, enum mw_object_kind kind,
                         size_t *bytes) {
    static const size_t least[] = {[MW_STRING] = sizeof(struct mw_string),
                                   [MW_CODE] = sizeof(struct mw_code),
                                   [MW_MODULE] = sizeof(struct mw_module),
                                   [MW_STACK] = sizeof(struct mw_stack)};
    uint64_t offset = (uint64_t)reference * ARENA_UNIT;
    const struct arena_chunk *c = reference ? chunk_of(arena, offset) : NULL;
    if (!c) return NULL;
    // A chunk's offset and size are multiples of 8, so the object's first eight bytes are within.
    uint64_t left = c->bytes - (offset - c->offset);
    const struct mw_object *object = (const void *)(c->memory + (offset - c->offset));
    if (object->kind != kind || object->bytes > left || object->bytes < least[kind]) return NULL;
    if (kind == MW_STACK) {
        const struct mw_stack *stack = (const void *)object;
        size_t frames = (size_t)stack->python + stack->native;
        if (object->bytes < sizeof *stack + frames * sizeof stack->frame[0]) return NULL;
    }
    *bytes = object->bytes;
    return object;
}

// ---- PyTorch's part -------------------------------------------------------------------------

bool reader_torch(struct reader *r, struct mw_torch *out) {
    memset(out, 0, sizeof *out);
    for (unsigned i = 0; i < MW_CHUNKS; i++) {
        const struct mw_chunk *c = &r->header.chunk[i];
        uint32_t bytes;
        if (c->kind != MW_CHUNK_TORCH || c->bytes < sizeof bytes) continue;
        if (!read_at(r, &bytes, sizeof bytes, c->offset)) return false;
        if (bytes > c->bytes) bytes = (uint32_t)c->bytes;
        if (bytes > sizeof *out) bytes = sizeof *out;
        if (!read_at(r, out, bytes, c->offset)) return false;
        unsigned whole = bytes < sizeof *out ? 0 : MW_OOMS;
        if (!read_ring(r, out->oom, sizeof out->oom[0], whole,
                       c->offset + offsetof(struct mw_torch, oom), sizeof out->oom[0]))
            return false;
        TERMINATE(out->path);
        TERMINATE(out->allocator);
        return bytes >= offsetof(struct mw_torch, device);
    }
    return false;
}

// ---- records --------------------------------------------------------------------------------

// The words of a record, as they stand in the file.
struct raw_record {
    uint64_t commit, size, owner, birth;
};

static struct raw_record raw_at(const char *block, size_t stride, uint32_t i) {
    struct raw_record raw;
    memcpy(&raw, block + i * stride, sizeof raw);
    return raw;
}

bool reader_records(struct reader *r, void (*each)(void *, const struct reader_record *),
                    void *context) {
    size_t stride = stride_of(r, MW_CHUNK_RECORDS), block = RECORDS_AT_ONCE * stride;
    char *memory = malloc(block * COPIES);
    if (!memory) {
        failed(r, READER_UNREADABLE, "out of memory");
        return false;
    }
    char *fields = memory + block, *last = memory + 2 * block;
    bool ok = true;
    for (unsigned x = 0; ok && x < r->extents[MW_CHUNK_RECORDS]; x++) {
        const struct extent *e = &r->extent[MW_CHUNK_RECORDS][x];
        for (uint64_t from = 0; ok && from < e->count; from += RECORDS_AT_ONCE) {
            uint32_t n =
                e->count - from < RECORDS_AT_ONCE ? (uint32_t)(e->count - from) : RECORDS_AT_ONCE;
            for (unsigned c = 0; ok && c < COPIES; c++)
                ok = read_at(r, memory + c * block, n * stride, e->offset + from * stride);
            for (uint32_t i = 0; ok && i < n; i++) {
                struct raw_record raw = raw_at(memory, stride, i);
                if (mw_commit_state(raw.commit) != MW_LIVE) continue;
                if (raw_at(last, stride, i).commit != raw.commit) continue;
                struct raw_record whole = raw_at(fields, stride, i);
                struct reader_record record = {mw_commit_key(raw.commit), whole.size, whole.owner,
                                               whole.birth, mw_commit_class(raw.commit)};
                each(context, &record);
            }
        }
    }
    free(memory);
    return ok;
}

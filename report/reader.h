// SPDX-License-Identifier: Apache-2.0
//
// The bytes of a ledger file, checked: what model.c builds on.
//
// The file is hostile input. It may be truncated, scribbled over, made by somebody else, or change
// and shrink while it is read. So it is read with pread and never mapped (a mapped file that
// shrinks is a SIGBUS), each offset and count is checked against the file before it is used, memory
// is bounded by the file's size, and every text is terminated. What comes out of here is
// well-formed but not yet plausible: an index in an entry may still name nothing.
#ifndef MEMWATCH_READER_H
#define MEMWATCH_READER_H

#include "../interpose/ledger_format.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum reader_status {
    READER_OK,
    READER_MISSING,    // no such file
    READER_UNREADABLE, // not allowed, not a regular file, a read error
    READER_FOREIGN,    // not a ledger
    READER_VERSION,    // a ledger of another format or another byte order
    READER_DAMAGED     // a ledger, but cut short or overwritten
};

// One chunk of the file: entries first .. first + count - 1 of its table.
struct extent {
    uint64_t offset;
    uint32_t first, count;
};

#define READER_KINDS (MW_CHUNK_ARENA + 1)

struct reader {
    struct mw_header header; // in this program's layout, whatever the writer's; texts terminated
    uint64_t file_bytes;
    struct extent extent[READER_KINDS][MW_CHUNKS];
    unsigned extents[READER_KINDS];
    uint32_t count[READER_KINDS]; // entries in all
    int fd;
    enum reader_status status; // of the last failure
    char error[256];           // what and where, without the file's name
};

// Opens and checks a file, whose writer may still run. On failure nothing is left open.
enum reader_status reader_open(struct reader *r, const char *path);
void reader_close(struct reader *r);

// Reads header and directory again, of the same file: what its writer has changed since.
enum reader_status reader_refresh(struct reader *r);

// Entries `first` .. `first + n - 1` of a table into `out`, each `bytes` long in this program's
// layout: what the writer did not know is zero. Entries past the table's end come out zero. For
// MW_CHUNK_CELLS an entry is a page, as it stands in the file: see reader_cell. Not for records and
// the arena.
bool reader_entries(struct reader *r, enum mw_chunk_kind kind, uint32_t first, uint32_t n,
                    void *out);

// How many cells a page has, and the i-th of them in this program's layout.
unsigned reader_page_cells(const struct reader *r);
struct mw_cell reader_cell(const struct reader *r, const struct mw_cell_page *page, unsigned i);

// The arena's chunks as they are now, in memory: from `offset` in the file on, `bytes` long. At
// most READER_ARENA_MOST bytes in all; what is beyond is left out. False: the file could not be
// read. The caller frees with arena_free.
#define READER_ARENA_MOST (UINT64_C(256) << 20)
struct arena_chunk {
    uint64_t offset, bytes;
    char *memory;
};
struct arena {
    struct arena_chunk chunk[MW_CHUNKS]; // by ascending offset
    unsigned chunks;
};
bool reader_arena(struct reader *r, struct arena *out);
void arena_free(struct arena *arena);

// The object that a reference names, if it is one of that kind and lies whole within a chunk; else
// NULL. It has at least the bytes of this kind's struct, and *bytes gets how many there are.
const void *arena_object(const struct arena *arena, uint32_t reference, enum mw_object_kind kind,
                         size_t *bytes);

// What PyTorch told, texts terminated; what the writer did not know is zero. False: it is not
// there.
bool reader_torch(struct reader *r, struct mw_torch *out);

// A record that was LIVE when it was read, consistent in itself.
struct reader_record {
    uint64_t key, size, owner, birth;
    enum mw_class class_;
};

// Calls `each` for every live record. False: the file could not be read to its end.
bool reader_records(struct reader *r,
                    void (*each)(void *context, const struct reader_record *record), void *context);

#endif

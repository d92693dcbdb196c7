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
    READER_NEWER,      // a ledger of a later format or another byte order
    READER_DAMAGED     // a ledger, but cut short or overwritten
};

// One chunk of the file: entries first .. first + count - 1 of its table.
struct extent {
    uint64_t offset;
    uint32_t first, count;
};

#define READER_KINDS (MW_CHUNK_RECORDS + 1)

struct reader {
    int fd;
    uint64_t file_bytes;
    struct mw_header header; // in this program's layout, whatever the writer's; texts terminated
    struct extent extent[READER_KINDS][MW_CHUNKS];
    unsigned extents[READER_KINDS];
    uint32_t count[READER_KINDS]; // entries in all
    enum reader_status status;    // of the last failure
    char error[256];              // what and where, without the file's name
};

// Opens and checks a file, whose writer may still run. On failure nothing is left open.
enum reader_status reader_open(struct reader *r, const char *path);
void reader_close(struct reader *r);

// Reads header and directory again, of the same file: what its writer has changed since.
enum reader_status reader_refresh(struct reader *r);

// Entries `first` .. `first + n - 1` of a table into `out`, each `bytes` long in this program's
// layout: what the writer did not know is zero. Entries past the table's end come out zero. For
// MW_CHUNK_CELLS an entry is a page. Not for records.
bool reader_entries(struct reader *r, enum mw_chunk_kind kind, uint32_t first, uint32_t n,
                    void *out);

// A record that was LIVE when it was read, consistent in itself.
struct reader_record {
    uint64_t key, size, owner, birth;
    enum mw_class class_;
};

// Calls `each` for every live record. False: the file could not be read to its end.
bool reader_records(struct reader *r,
                    void (*each)(void *context, const struct reader_record *record), void *context);

#endif

// SPDX-License-Identifier: Apache-2.0
//
// PyTorch's books beside ours: what its allocators told (struct mw_torch), and what the records say
// of the segments that they hold and of the tensors that lie in them.
#ifndef MEMWATCH_TORCH_H
#define MEMWATCH_TORCH_H

#include "reader.h"

struct held;
struct model;
struct reader_record;

// What a device's records say.
struct torch_device {
    uint64_t segment_bytes, segments; // memory of the driver that torch's allocator took
    uint64_t largest_gap;             // between tensors, within one segment
    bool gap_known;
};

struct torch {
    bool there;           // the ledger has a part of torch's; else all is zero
    struct mw_torch told; // texts terminated; sites of an out-of-memory as model's, + 1
    bool segments_known;  // false: of some memory it is not known who took it
    struct torch_device device[MW_DEVICES];
};

// Where live tensors and segments lie, collected while the records are read.
struct torch_range;
struct torch_ranges {
    struct torch_range *item;
    size_t count, room;
};

// Whose memory a site's is, by its native stack.
enum torch_origin {
    TORCH_NOT,     // others', or no memory that tensors may lie in
    TORCH_SEGMENT, // PyTorch's caching allocator called the driver or the runtime
    TORCH_UNKNOWN  // there is no native stack
};
enum torch_origin torch_origin(const struct model *m, uint32_t site);

void torch_note(struct torch_ranges *ranges, const struct model *m, uint32_t site,
                const struct reader_record *record);
// Fills in m->torch.device from the ranges, and frees them.
void torch_add_up(struct model *m, struct torch_ranges *ranges);

// ---- for reports -----------------------------------------------------------------------------

// Are tensor events recorded, and if not, why? Returns a state as in schema.json's `level`.
#define TORCH_TEXT 512
const char *torch_level(const struct model *m, char text[TORCH_TEXT]);

// How many events there were; the first version of PyTorch that calls what was called, 0 = none
// did.
uint64_t torch_events(const struct model *m);
unsigned torch_since(const struct model *m);

// Not several in one process, whose totals would take turns.
bool torch_is_one(const struct model *m);

// Which devices have something to tell.
bool torch_device_known(const struct model *m, unsigned device);
// Of tensors live on a device, by the records.
struct held torch_tensors(const struct model *m, unsigned device);
// *drift = what PyTorch says is allocated less what its events sum up to. False: they cannot be
// compared (it told no total, or it had allocated before the first event that was seen, or there
// are several of it).
bool torch_drift(const struct model *m, unsigned device, int64_t *drift);

// The i-th of the requests that could not be met, oldest first; NULL: it was being written.
const struct mw_oom *torch_oom(const struct model *m, unsigned i);
unsigned torch_ooms(const struct model *m); // that are kept

#endif

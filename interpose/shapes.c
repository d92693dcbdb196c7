// SPDX-License-Identifier: Apache-2.0
//
// What the wrappers do around the real call; the words are listed in shapes.h.
//
// The order against the real call is what keeps "one live record an address" true without any
// ordering between threads: a record is taken out before the real free (afterwards another thread
// may already have got the same address) and put back if that fails; an allocation is recorded
// after the real call (before it there is no address).
#include "shapes.h"

// ---- taking out and settling -----------------------------------------------------------------

MW_HOT void mw_take(struct mw_call *call, enum mw_class class_, uint64_t key) {
    if (!call->outer || !key) return;
    call->pending = true;
    call->key = key;
    if (!mw_awake()) return;
    mw_in_flight(1);
    mw_record_take(class_, key, &call->taken);
}

// As mw_take for what lives until its last reference is gone. While others remain nothing is taken,
// and a failed call gives the reference back.
void mw_unrefer(struct mw_call *call, enum mw_class class_, uint64_t key) {
    bool ended;
    if (!call->outer || !key) return;
    call->pending = true;
    call->key = key;
    if (!mw_awake()) return;
    mw_in_flight(1);
    if (mw_record_refer(class_, key, -1, &call->taken, &ended) && !ended) {
        call->taken.found = false;
        call->referred = (uint8_t)class_;
    }
}

static struct mw_birth failed_free(const struct mw_call *call) {
    uint16_t label = mw_self.label;
    return (struct mw_birth){.key = call->key,
                             .device = mw_context_device(),
                             .api = label ? (uint16_t)(label - 1) : call->api,
                             .driver_api = call->api};
}

MW_HOT void mw_settle(struct mw_call *call) {
    struct mw_taken unused;
    bool ended;
    if (!call->pending || !mw_awake()) return;
    mw_self.booked = true;
    if (call->result == MW_SUCCESS) {
        if (!call->taken.found && !call->referred) mw_lost(MW_LOSS_UNKNOWN_FREES, 1);
        mw_freed(&call->taken);
        mw_in_flight(0);
        return;
    }
    if (call->referred)
        mw_record_refer((enum mw_class)call->referred, call->key, +1, &unused, &ended);
    // After the driver was torn down every call fails with this: the memory is gone with the
    // process, which is neither a leak nor a failure worth keeping.
    if (call->result != MW_DEINITIALIZED) {
        struct mw_birth what = failed_free(call);
        mw_failed(&what, (uint32_t)call->result, false);
    }
    mw_put_back(&call->taken);
    mw_in_flight(0);
}

// ---- allocations -----------------------------------------------------------------------------

MW_HOT void mw_allocated(struct mw_call *call, struct mw_birth *birth) {
    if (!call->outer) return;
    if (call->result == MW_DEINITIALIZED || !(mw_awake() || mw_wake())) return;
    uint16_t label = mw_self.label;
    birth->api = label ? (uint16_t)(label - 1) : call->api;
    birth->driver_api = call->api;
    mw_self.booked = true;
    // No context is current, so no device is: what ours was guessed from says nothing.
    if (call->result == MW_INVALID_CONTEXT) birth->device = -1;
    if (call->result != MW_SUCCESS)
        mw_failed(birth, (uint32_t)call->result, true);
    else if (birth->key)
        mw_born(birth);
}

// Opening the same memory again gives the same address and counts references.
void mw_imported(struct mw_call *call, enum mw_class class_, uint64_t key, uint64_t bytes) {
    struct mw_taken known;
    bool ended;
    if (!call->outer) return;
    if (MW_SUCCESS == call->result && mw_awake() &&
        mw_record_refer(class_, key, +1, &known, &ended)) {
        mw_self.booked = true;
        return;
    }
    struct mw_birth birth = mw_here(MW_SPACE_IMPORTED, class_, key, bytes);
    birth.references = 1;
    mw_allocated(call, &birth);
}

void mw_stream_ordered(struct mw_call *call, uint64_t key, uint64_t bytes, uint64_t pool,
                       uint64_t stream, uint64_t captured_as) {
    if (!call->outer) return;
    bool node = mw_capturing(captured_as);
    enum mw_space space = node ? MW_SPACE_GRAPH : mw_pool_space(pool);
    struct mw_birth birth = mw_here(space, MW_CLASS_ADDRESS, key, bytes);
    if (space != MW_SPACE_PINNED) birth.device = mw_pool_device(pool, birth.device);
    birth.stream = node ? captured_as : stream;
    birth.pool = node ? 0 : pool;
    birth.flags = MW_FLAG_STREAM_ORDERED;
    if (node && call->result == MW_SUCCESS) mw_node_captured();
    mw_allocated(call, &birth);
}

void mw_resources(struct mw_call *call, unsigned count, mwHandle *resources, bool mapped) {
    if (!call->outer || call->result != MW_SUCCESS || !resources) return;
    for (unsigned i = 0; i < count; i++) {
        uint64_t key = (uintptr_t)resources[i];
        if (mapped) {
            mw_imported(call, MW_CLASS_RESOURCE, key, 0);
        } else if (mw_awake()) {
            struct mw_taken taken;
            mw_in_flight(1);
            mw_record_take(MW_CLASS_RESOURCE, key, &taken);
            mw_freed(&taken);
            mw_in_flight(0);
        }
    }
}

// ---- virtual memory management ---------------------------------------------------------------

void mw_retained(struct mw_call *call, uint64_t handle) {
    struct mw_taken unused;
    bool ended;
    if (!call->outer || call->result != MW_SUCCESS || !mw_awake()) return;
    mw_record_refer(MW_CLASS_HANDLE, handle, +1, &unused, &ended);
}

void mw_mapped(struct mw_call *call, uint64_t address, uint64_t bytes, uint64_t handle) {
    if (!call->outer) return;
    struct mw_birth birth = mw_here(MW_SPACE_MAPPED, MW_CLASS_MAPPING, address, bytes);
    struct mw_taken physical;
    bool ended, found = false;
    if (mw_awake())
        found = call->result == MW_SUCCESS
                    ? mw_record_refer(MW_CLASS_HANDLE, handle, +1, &physical, &ended)
                    : mw_record_find(MW_CLASS_HANDLE, handle, &physical);
    birth.device = found ? mw_place_at(mw_taken_place(&physical))->device : -1;
    birth.context = 0;
    birth.parent = handle;
    mw_allocated(call, &birth);
}

// One unmapping: the mapping's own bytes, and a reference of the memory behind it.
static void settle_mapping(const struct mw_taken *mapping) {
    struct mw_taken physical;
    bool ended;
    mw_freed(mapping);
    if (mw_record_refer(MW_CLASS_HANDLE, mapping->birth & MW_KEY_MASK, -1, &physical, &ended) &&
        ended)
        mw_freed(&physical);
}

// A range may hold several mappings, end to end.
static void take_mappings(struct mw_unmapped *u, unsigned max) {
    u->count = 0;
    while (u->bytes && u->count < max) {
        struct mw_taken *m = &u->mapping[u->count];
        if (!mw_record_take(MW_CLASS_MAPPING, u->address, m)) return;
        uint64_t bytes = mw_taken_bytes(m);
        u->count++;
        u->address += bytes;
        u->bytes = bytes && bytes < u->bytes ? u->bytes - bytes : 0;
    }
}

void mw_unmap(struct mw_call *call, uint64_t address, uint64_t bytes, struct mw_unmapped *u) {
    u->count = 0;
    u->address = address;
    u->bytes = bytes;
    if (!call->outer || !mw_awake()) return;
    call->pending = true;
    call->key = address;
    mw_in_flight(MW_TAKEN_MAX + 1); // each mapping, and the memory behind one
    take_mappings(u, MW_TAKEN_MAX);
}

void mw_unmapped(struct mw_call *call, struct mw_unmapped *u) {
    if (!call->pending) return;
    if (call->result != MW_SUCCESS) {
        for (unsigned i = 0; i < u->count; i++) mw_put_back(&u->mapping[i]);
        mw_in_flight(0);
        struct mw_birth what = failed_free(call);
        mw_failed(&what, (uint32_t)call->result, false);
        return;
    }
    if (!u->count) mw_lost(MW_LOSS_UNKNOWN_FREES, 1);
    // What did not fit before the call is taken now: nobody can map these addresses again before
    // the program's own call has returned, since it is the program that chooses them.
    while (u->count) {
        for (unsigned i = 0; i < u->count; i++) settle_mapping(&u->mapping[i]);
        take_mappings(u, MW_TAKEN_MAX);
    }
    mw_in_flight(0);
}

// ---- pools -----------------------------------------------------------------------------------

static void pool_in(uint64_t pool, const struct mwLocation *location, int type) {
    bool device = location->type == MW_LOCATION_DEVICE;
    mw_pool_seen(pool, device ? location->id : -1, false);
    if (type == MW_ALLOCATION_MANAGED)
        mw_pool_kind(pool, MW_SPACE_MANAGED);
    else if (!device)
        mw_pool_kind(pool, MW_SPACE_PINNED);
}

void mw_pool_created(uint64_t pool, const struct mwPoolProps *props) {
    pool_in(pool, &props->location, props->allocType);
}

void mw_pool_of(uint64_t pool, const struct mwLocation *location, int type) {
    pool_in(pool, location, type);
}

// ---- arrays ----------------------------------------------------------------------------------

// CUarray_format → bits of one channel, or for formats of a fixed layout of the whole texel
// (channels then do not multiply). From cuda.h's descriptions of CU_AD_FORMAT_*.
struct format {
    unsigned char first, last;
    unsigned char bits;
    bool whole;  // bits are a texel's
    bool blocks; // compressed: bits are a 4 x 4 block's
};
static const struct format formats[] = {
    {0x01, 0x01, 8, false, false},  {0x02, 0x02, 16, false, false}, {0x03, 0x03, 32, false, false},
    {0x08, 0x08, 8, false, false},  {0x09, 0x09, 16, false, false}, {0x0a, 0x0a, 32, false, false},
    {0x10, 0x10, 16, false, false}, {0x20, 0x20, 32, false, false}, {0x50, 0x50, 32, true, false},
    {0x91, 0x92, 64, true, true},  // BC1
    {0x93, 0x96, 128, true, true}, // BC2, BC3
    {0x97, 0x98, 64, true, true},  // BC4
    {0x99, 0x9e, 128, true, true}, // BC5, BC6H, BC7
    {0xc0, 0xc0, 8, true, false},   {0xc1, 0xc1, 16, true, false},  {0xc2, 0xc2, 32, true, false},
    {0xc3, 0xc3, 16, true, false},  {0xc4, 0xc4, 32, true, false},  {0xc5, 0xc5, 64, true, false},
    {0xc6, 0xc6, 8, true, false},   {0xc7, 0xc7, 16, true, false},  {0xc8, 0xc8, 32, true, false},
    {0xc9, 0xc9, 16, true, false},  {0xca, 0xca, 32, true, false},  {0xcb, 0xcb, 64, true, false},
    {0xb0, 0xb0, 12, true, false},                                 // NV12: 8-bit 4:2:0
    {0x9f, 0x9f, 24, true, false},  {0xa1, 0xa1, 24, true, false}, // P010, P016: 16-bit 4:2:0
    {0xa2, 0xa2, 16, true, false},                                 // NV16: 8-bit 4:2:2
    {0xa3, 0xa4, 32, true, false},                                 // P210, P216
    {0xa5, 0xa5, 16, true, false},                                 // YUY2
    {0xa6, 0xa7, 32, true, false},                                 // Y210, Y216
    {0xa8, 0xa9, 32, true, false},                                 // AYUV, Y410
    {0xb1, 0xb1, 64, true, false},                                 // Y416
    {0xb2, 0xb2, 24, true, false},  {0xb3, 0xb3, 48, true, false}, // Y444 planar, 8 and 10 bits
};

static const struct format *format_of(int code) {
    for (size_t i = 0; i < sizeof formats / sizeof formats[0]; i++)
        if (code >= formats[i].first && code <= formats[i].last) return &formats[i];
    return NULL;
}

uint64_t mw_array_bytes(const struct mwArray3dDesc *desc, unsigned levels) {
    const struct format *f = format_of(desc->format);
    if (!f || desc->flags & (MW_ARRAY_SPARSE | MW_ARRAY_DEFERRED)) return 0;
    uint64_t bits = f->whole ? f->bits : (uint64_t)f->bits * desc->channels, total = 0;
    uint64_t w = desc->width, h = desc->height ? desc->height : 1,
             d = desc->depth ? desc->depth : 1;
    bool layers = desc->flags & (MW_ARRAY_LAYERED | MW_ARRAY_CUBEMAP);
    for (unsigned level = 0; level < levels && level < 32; level++) {
        uint64_t cells = f->blocks ? (w + 3) / 4 * ((h + 3) / 4) : w * h;
        total += cells * d * bits / 8;
        w = w > 1 ? w / 2 : 1;
        h = h > 1 ? h / 2 : 1;
        if (!layers) d = d > 1 ? d / 2 : 1; // the depth of layers is their number
    }
    return total;
}

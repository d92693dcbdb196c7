// SPDX-License-Identifier: Apache-2.0
//
// The shapes of entry points: what the words in entrypoints.def's `before` and `after` columns do.
//
// Each word is a macro over one function, so that the table reads as a table. A function gets the
// call's state and the values it needs; outputs of the driver are looked at only after success and
// only if the caller gave a place for them. None runs for a nested call (`outer` false): what is
// made inside a wrapped call on the same thread is part of it and counted once.
#ifndef MEMWATCH_SHAPES_H
#define MEMWATCH_SHAPES_H

#include "context.h"
#include "cuda_abi.h"
#include "doors.h"
#include "entrypoints.h"
#include "ledger.h"
#include "wake.h"

// A call of a wrapped entry point.
MW_INLINE void mw_count_call(unsigned api) {
    if (mw_likely(mw_awake() && mw_self.epoch == mw_ledger_epoch && mw_self.index))
        mw_own_add(&mw_self.block->calls[api], 1);
    else
        mw_count_call_seldom(api);
}

#define MW_TAKEN_MAX 16 // mappings that one cuMemUnmap takes out before the real call

struct mw_call {
    uint16_t api; // row
    bool outer;   // book this call
    bool pending; // records were taken, or looked for: settle them
    mwResult result;
    uint8_t referred; // class of a record that lost a reference but lives on; 0 = none
    uint64_t key;     // what a free was given
    struct mw_taken taken;
};

// What cuMemUnmap needs besides: the ranges that it unmapped.
struct mw_unmapped {
    uint64_t address, bytes; // what is left to take after the call
    unsigned count;
    struct mw_taken mapping[MW_TAKEN_MAX];
};

// What a context or graph that ends takes with it, until the call has returned.
struct mw_ended {
    struct mw_taken *taken; // mapped, of `room` entries
    uint64_t count, room;
    bool partly;   // there was no room for all
    bool last;     // of a primary context: this release or reset ends it
    bool released; // a reference of it was counted down
};

// ---- before ----
void mw_take(struct mw_call *call, enum mw_class class_, uint64_t key);
void mw_unrefer(struct mw_call *call, enum mw_class class_, uint64_t key);
void mw_unmap(struct mw_call *call, uint64_t address, uint64_t bytes, struct mw_unmapped *out);
// ends.c
void mw_context_ends(struct mw_call *call, uint64_t context, struct mw_ended *ended);
void mw_context_detaches(struct mw_call *call, uint64_t context, struct mw_ended *ended);
void mw_primary_ends(struct mw_call *call, int device, bool reset, struct mw_ended *ended);
void mw_graph_ends(struct mw_call *call, uint64_t graph, struct mw_ended *ended);

// ---- after ----
void mw_settle(struct mw_call *call);
void mw_unmapped(struct mw_call *call, struct mw_unmapped *list);
// Books an allocation, or its failure. `birth` needs space, class, key, bytes and what else is
// known; api, driver_api and asked (if 0) are filled in here.
void mw_allocated(struct mw_call *call, struct mw_birth *birth);
void mw_imported(struct mw_call *call, enum mw_class class_, uint64_t key, uint64_t bytes);
// `stream` is the handle, for the report; `captured_as` its name here (STREAM).
void mw_stream_ordered(struct mw_call *call, uint64_t key, uint64_t bytes, uint64_t pool,
                       uint64_t stream, uint64_t captured_as);
void mw_mapped(struct mw_call *call, uint64_t address, uint64_t bytes, uint64_t handle);
void mw_retained(struct mw_call *call, uint64_t handle);
// ends.c; `ended` is NULL where nothing was taken before the call
void mw_context_gone(struct mw_call *call, uint64_t context, struct mw_ended *ended);
void mw_context_attached(void);
void mw_context_detached(struct mw_call *call, uint64_t context, struct mw_ended *ended);
void mw_primary_gone(struct mw_call *call, int device, bool reset, struct mw_ended *ended);
void mw_node_captured(void);
void mw_capture_ended(struct mw_call *call, uint64_t stream, uint64_t graph);
void mw_stream_destroyed(struct mw_call *call, uint64_t stream);
void mw_graph_gone(struct mw_call *call, uint64_t graph, struct mw_ended *ended);

void mw_resources(struct mw_call *call, unsigned count, mwHandle *resources, bool mapped);
void mw_pool_created(uint64_t pool, const struct mwPoolProps *props);
void mw_pool_of(uint64_t pool, const struct mwLocation *location, int type);
// Texel bytes of an array over all its levels; 0 for sparse and deferred-mapping arrays.
uint64_t mw_array_bytes(const struct mwArray3dDesc *desc, unsigned levels);

// A plain block of the thread's current context.
MW_INLINE struct mw_birth mw_here(enum mw_space space, enum mw_class class_, uint64_t key,
                                  uint64_t bytes) {
    bool host = space == MW_SPACE_PINNED || space == MW_SPACE_REGISTERED ||
                space == MW_SPACE_ADDRESS || space == MW_SPACE_MULTICAST;
    return (struct mw_birth){.space = space,
                             .class_ = class_,
                             .key = key,
                             .bytes = bytes,
                             .asked = bytes,
                             .device = host ? -1 : mw_context_device(),
                             .context = mw_context_current()};
}

MW_INLINE struct mwArray3dDesc mw_array_desc(size_t w, size_t h, size_t d, int format,
                                             unsigned channels, unsigned flags) {
    return (struct mwArray3dDesc){w, h, d, format, channels, flags};
}

// The functions whose names end so take stream 0 for the calling thread's own default stream.
#define MW_PER_THREAD(name)                                                                        \
    (sizeof(#name) > 5 && !__builtin_strcmp(&#name[sizeof(#name) - 6], "_ptsz"))

// Threads' own default streams share their handles (0 there, CU_STREAM_PER_THREAD = 2 everywhere);
// here each is told apart by an address of its thread.
MW_INLINE uint64_t mw_stream(uint64_t handle, bool per_thread) {
    bool own = handle == 2 || (handle == 0 && per_thread);
    return mw_unlikely(own) ? (uint64_t)(uintptr_t)&mw_self : handle;
}
#define STREAM(handle) mw_stream((uintptr_t)(handle), per_thread)

#define MW_OK (call.outer && call.result == MW_SUCCESS)
// An output: looked at only after success, and only if the caller gave a place for it.
#define OUT(p) (call.result == MW_SUCCESS && (p) ? (uint64_t)(uintptr_t) * (p) : 0)
#define _

// ---- the words of the `before` column ----
#define TAKE(class, key)    mw_take(&call, MW_CLASS_##class, (uint64_t)(uintptr_t)(key))
#define UNREFER(class, key) mw_unrefer(&call, MW_CLASS_##class, (uint64_t)(uintptr_t)(key))
#define TAKE_UNLESS_CAPTURING(key, stream)                                                         \
    if (!mw_capturing(STREAM(stream))) TAKE(ADDRESS, key)
#define CONTEXT_ENDS(context)                                                                      \
    struct mw_ended ended;                                                                         \
    mw_context_ends(&call, (uintptr_t)(context), &ended)
#define CONTEXT_DETACHES(context)                                                                  \
    struct mw_ended ended;                                                                         \
    mw_context_detaches(&call, (uintptr_t)(context), &ended)
#define PRIMARY_ENDS(device, reset)                                                                \
    struct mw_ended ended;                                                                         \
    mw_primary_ends(&call, device, reset, &ended)
#define GRAPH_ENDS(graph)                                                                          \
    struct mw_ended ended;                                                                         \
    mw_graph_ends(&call, (uintptr_t)(graph), &ended)
#define UNMAP(address, bytes)                                                                      \
    struct mw_unmapped unmapped;                                                                   \
    mw_unmap(&call, address, bytes, &unmapped)

// ---- the words of the `after` column ----
#define SETTLE mw_settle(&call)
#define ALLOC(space, out, bytes)                                                                   \
    struct mw_birth birth = mw_here(MW_SPACE_##space, MW_CLASS_ADDRESS, OUT(out), bytes);          \
    mw_allocated(&call, &birth)
#define PITCHED(out, pitch, width, height)                                                         \
    struct mw_birth birth = mw_here(MW_SPACE_DEVICE, MW_CLASS_ADDRESS, OUT(out),                   \
                                    (MW_OK ? OUT(pitch) : (uint64_t)(width)) * (height));          \
    birth.asked = (uint64_t)(width) * (height);                                                    \
    mw_allocated(&call, &birth)
#define PITCHED3D(out, extent)                                                                     \
    uint64_t rows = (extent).height * (extent).depth;                                              \
    struct mw_birth birth =                                                                        \
        mw_here(MW_SPACE_DEVICE, MW_CLASS_ADDRESS, (out) ? (uintptr_t)(out)->ptr : 0,              \
                (MW_OK && (out) ? (out)->pitch : (extent).width) * rows);                          \
    birth.asked = (extent).width * rows;                                                           \
    mw_allocated(&call, &birth)
#define REGISTERED(p, bytes)                                                                       \
    struct mw_birth birth =                                                                        \
        mw_here(MW_SPACE_REGISTERED, MW_CLASS_REGISTERED, (uintptr_t)(p), bytes);                  \
    mw_allocated(&call, &birth)
#define ARRAY3D_BYTES(out, bytes)                                                                  \
    struct mw_birth birth = mw_here(MW_SPACE_ARRAY, MW_CLASS_ARRAY, OUT(out), bytes);              \
    mw_allocated(&call, &birth)
#define ARRAY2D(out, desc)                                                                         \
    struct mwArray3dDesc full = mw_array_desc(0, 0, 0, 0, 0, 0);                                   \
    if (desc)                                                                                      \
        full =                                                                                     \
            mw_array_desc((desc)->width, (desc)->height, 0, (desc)->format, (desc)->channels, 0);  \
    ARRAY3D_BYTES(out, mw_array_bytes(&full, 1))
#define ARRAY3D(out, desc, levels)                                                                 \
    struct mwArray3dDesc full = mw_array_desc(0, 0, 0, 0, 0, 0);                                   \
    if (desc)                                                                                      \
        full = mw_array_desc((desc)->width, (desc)->height, (desc)->depth, (desc)->format,         \
                             (desc)->channels, (desc)->flags);                                     \
    ARRAY3D_BYTES(out, mw_array_bytes(&full, levels))
#define CHANNEL_ARRAY(out, desc, extent, levels, flags)                                            \
    /* channel formats of the runtime: the bits of one texel, any format of that size serves */    \
    uint64_t texel = (desc) ? (uint64_t)((desc)->x + (desc)->y + (desc)->z + (desc)->w) / 8 : 0;   \
    struct mwExtent size = (extent);                                                               \
    struct mwArray3dDesc full = mw_array_desc(size.width, size.height, size.depth, 1, 1, flags);   \
    ARRAY3D_BYTES(out, mw_array_bytes(&full, levels) * texel)
#define STREAM_ORDERED(out, bytes, pool, stream)                                                   \
    mw_stream_ordered(&call, OUT(out), bytes, pool, (uintptr_t)(stream), STREAM(stream))
#define PHYSICAL(out, bytes_, prop)                                                                \
    struct mw_birth birth = mw_here(MW_SPACE_PHYSICAL, MW_CLASS_HANDLE, OUT(out), bytes_);         \
    birth.device =                                                                                 \
        (prop) && (prop)->location.type == MW_LOCATION_DEVICE ? (prop)->location.id : -1;          \
    birth.context = 0; /* needs none, and outlives any */                                          \
    birth.references = 1;                                                                          \
    mw_allocated(&call, &birth)
#define MULTICAST(out, prop)                                                                       \
    struct mw_birth birth =                                                                        \
        mw_here(MW_SPACE_MULTICAST, MW_CLASS_HANDLE, OUT(out), (prop) ? (prop)->size : 0);         \
    birth.context = 0;                                                                             \
    birth.references = 1;                                                                          \
    mw_allocated(&call, &birth)
#define RANGE(out, bytes_)                                                                         \
    struct mw_birth birth = mw_here(MW_SPACE_ADDRESS, MW_CLASS_RANGE, OUT(out), bytes_);           \
    birth.context = 0;                                                                             \
    mw_allocated(&call, &birth)
#define RETAINED(out)                   mw_retained(&call, OUT(out))
#define MAPPED(address, bytes, handle)  mw_mapped(&call, address, bytes, handle)
#define UNMAPPED                        mw_unmapped(&call, &unmapped)
#define IMPORTED(class, out, bytes)     mw_imported(&call, MW_CLASS_##class, OUT(out), bytes)
#define RESOURCES_MAPPED(count, list)   mw_resources(&call, count, list, true)
#define RESOURCES_UNMAPPED(count, list) mw_resources(&call, count, list, false)

#define GRAPH_NODE(graph, params)                                                                  \
    struct mw_birth birth =                                                                        \
        mw_here(MW_SPACE_GRAPH, MW_CLASS_ADDRESS, (params) && MW_OK ? (params)->dptr : 0,          \
                (params) ? (params)->bytesize : 0);                                                \
    if (params) birth.device = (params)->poolProps.location.id;                                    \
    birth.context = 0;                                                                             \
    birth.pool = (uintptr_t)(graph);                                                               \
    mw_allocated(&call, &birth)
#define GRAPH_ANY_NODE(graph, params)                                                              \
    if ((params) && (params)->type == MW_NODE_MEM_ALLOC) {                                         \
        struct mwMemAllocNode *alloc = &(params)->alloc;                                           \
        GRAPH_NODE(graph, alloc);                                                                  \
    }
#define GRAPH_DESTROYED(graph, ended) mw_graph_gone(&call, (uintptr_t)(graph), ended)
#define GRAPH_MEMORY(device, attribute, value)                                                     \
    if (MW_OK && (value)) mw_device_graph(device, attribute, *(const uint64_t *)(value))
#define CAPTURE_BEGUN(stream)                                                                      \
    if (MW_OK) mw_capture_begin(STREAM(stream))
#define CAPTURE_ENDED(stream, graph) mw_capture_ended(&call, STREAM(stream), OUT(graph))
#define STREAM_DESTROYED(stream)     mw_stream_destroyed(&call, (uintptr_t)(stream))
#define EVENT_RECORDED(event, stream)                                                              \
    if (MW_OK) mw_capture_record(STREAM(stream), (uintptr_t)(event))
#define EVENT_AWAITED(event, stream)                                                               \
    if (MW_OK) mw_capture_wait(STREAM(stream), (uintptr_t)(event))

#define POOL_CREATED(out, props)                                                                   \
    if (MW_OK && (out) && (props)) mw_pool_created(OUT(out), props)
#define POOL_DESTROYED(pool)                                                                       \
    if (MW_OK) mw_pool_ended((uintptr_t)(pool))
#define POOL_IMPORTED(out)                                                                         \
    if (MW_OK && (out)) mw_pool_seen(OUT(out), mw_context_device(), true)
#define POOL_DEFAULT(out, device)                                                                  \
    if (MW_OK && (out)) mw_pool_seen(OUT(out), device, false)
#define POOL_CURRENT(pool, device)                                                                 \
    if (MW_OK) {                                                                                   \
        mw_pool_seen(pool, device, false);                                                         \
        mw_pool_set_current(device, pool);                                                         \
    }
#define POOL_OF(pool, location, type)                                                              \
    if (MW_OK && (location)) mw_pool_of(pool, location, type)
#define POOL_GET(pool, attribute, value)                                                           \
    if (MW_OK && (value) && (attribute) >= 4)                                                      \
    mw_pool_attribute((uintptr_t)(pool), attribute, *(const uint64_t *)(value))
#define POOL_SET(pool, attribute, value)                                                           \
    if (MW_OK && (value) && (attribute) == 4) /* CU_MEMPOOL_ATTR_RELEASE_THRESHOLD */              \
    mw_pool_attribute((uintptr_t)(pool), attribute, *(const uint64_t *)(value))

#define CONTEXT_CREATED(out, device)                                                               \
    if (MW_OK && (out)) {                                                                          \
        mw_context_created(OUT(out), device, false);                                               \
        mw_context_push(OUT(out));                                                                 \
    }
#define CONTEXT_DESTROYED(context) mw_context_gone(&call, (uintptr_t)(context), &ended)
#define CONTEXT_ATTACHED                                                                           \
    if (MW_OK) mw_context_attached()
#define CONTEXT_DETACHED(context) mw_context_detached(&call, (uintptr_t)(context), &ended)
#define CONTEXT_PUSHED(context)                                                                    \
    if (MW_OK) mw_context_push((uintptr_t)(context))
#define CONTEXT_POPPED                                                                             \
    if (MW_OK) mw_context_pop()
#define CONTEXT_SWITCHED(context)                                                                  \
    if (MW_OK) mw_context_switch((uintptr_t)(context))
#define CONTEXT_SET(context)                                                                       \
    if (MW_OK) mw_context_set(context)
#define CONTEXT_ON(out)                                                                            \
    if (MW_OK && (out)) mw_context_on_device(*(out))
#define PRIMARY_RETAINED(out, device)                                                              \
    if (MW_OK && (out)) {                                                                          \
        mw_context_created(OUT(out), device, true);                                                \
        mw_context_retained(device);                                                               \
    }
#define PRIMARY_GONE(device, reset) mw_primary_gone(&call, device, reset, &ended)
#define GREEN_CREATED(out, device)                                                                 \
    if (MW_OK && (out)) mw_context_created(OUT(out), device, false)
// Its memory belongs to the primary context and stays.
#define GREEN_DESTROYED(green)                                                                     \
    if (MW_OK) mw_context_ended((uintptr_t)(green))
#define LIMIT(limit, value)                                                                        \
    if (MW_OK) mw_device_limit(mw_context_device(), (unsigned)(limit), value)
#define RUNTIME_DEVICE(device)                                                                     \
    if (MW_OK) mw_context_runtime_device(device)
#define RUNTIME_RESET mw_primary_gone(&call, mw_context_device(), true, NULL)

#define MEMORY_INFO(available, total)                                                              \
    if (MW_OK && (available) && (total)) mw_device_info(mw_context_device(), *(available), *(total))
#define DEVICE_TOTAL(device, out)                                                                  \
    if (MW_OK && (out)) mw_device_total(device, *(out))
#define DEVICE_NAME(device, name, length)                                                          \
    if (MW_OK && (name) && (length) > 0) mw_device_name(device, name)
#define DRIVER_VERSION(out)                                                                        \
    if (MW_OK && (out)) mw_driver_version(*(out))
#define ROUTE(out, name, door)                                                                     \
    if (call.result == MW_SUCCESS && (out) && *(out)) *(out) = mw_doors_route(*(out), name, door)

#endif

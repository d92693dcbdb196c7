// SPDX-License-Identifier: Apache-2.0
//
// The ends of contexts and graphs, each of which ends many records at once.
//
// As with a single free they are taken out before the real call: as soon as that has destroyed a
// context, other threads get its addresses again, and would meet the old records. They wait in
// memory of our own until it is known whether the call succeeded. Where there is none (ulimit -v),
// the rest is taken afterwards.
#include "shapes.h"

#include <errno.h>
#include <sys/mman.h>

typedef bool matcher(const struct mw_taken *, void *);

#define FIRST_ROOM 1024u

static bool make_room(struct mw_ended *e) {
    uint64_t room = e->room ? 2 * e->room : FIRST_ROOM;
    size_t before = e->room * sizeof *e->taken, bytes = room * sizeof *e->taken;
    int saved = errno;
    void *p = e->room
                  ? mremap(e->taken, before, bytes, MREMAP_MAYMOVE)
                  : mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    errno = saved;
    if (p == MAP_FAILED) return false;
    e->taken = p;
    e->room = room;
    return true;
}

struct collection {
    matcher *match;
    void *argument;
    struct mw_ended *ended;
};

static _Thread_local __attribute__((tls_model("initial-exec"))) struct mw_ended *collecting;

static bool can_collect(const struct mw_taken *t, void *argument) {
    const struct collection *c = argument;
    if (!c->match(t, c->argument)) return false;
    if (c->ended->count < c->ended->room || make_room(c->ended)) {
        mw_in_flight((uint32_t)c->ended->count + 1);
        return true;
    }
    c->ended->partly = true;
    return false;
}

static void collect(const struct mw_taken *t) {
    collecting->taken[collecting->count++] = *t;
}

static void take_ended(struct mw_call *call, matcher *match, void *argument, struct mw_ended *e) {
    if (!call->outer || !mw_awake()) return;
    struct collection c = {match, argument, e};
    collecting = e;
    mw_records_take_all(can_collect, collect, &c);
}

// `ended` NULL: nothing was taken before the call.
static void settle_ended(struct mw_call *call, matcher *match, void *argument, struct mw_ended *e) {
    if (!call->outer || !mw_awake()) return;
    bool succeeded = call->result == MW_SUCCESS;
    for (uint64_t i = 0; e && i < e->count; i++) (succeeded ? mw_freed : mw_put_back)(&e->taken[i]);
    if (succeeded && (!e || e->partly)) {
        mw_in_flight(1);
        mw_records_take_all(match, mw_freed, argument);
    }
    mw_in_flight(0);
    if (e && e->room) munmap(e->taken, e->room * sizeof *e->taken);
}

// ---- contexts --------------------------------------------------------------------------------

static enum mw_space space_of(const struct mw_taken *t) {
    return mw_ledger->account[mw_site_at(mw_taken_site(t))->account % MW_ACCOUNTS].space;
}

struct ending {
    uint64_t context;
    int device;
    bool stream_ordered; // those of the device too
};

static bool ends_with_context(const struct mw_taken *t, void *argument) {
    const struct ending *e = argument;
    const struct mw_place *place = mw_place_at(mw_taken_place(t));
    enum mw_space space = space_of(t);
    if (space == MW_SPACE_GRAPH || space == MW_SPACE_MAPPED || space == MW_SPACE_PHYSICAL ||
        space == MW_SPACE_ADDRESS || space == MW_SPACE_MULTICAST)
        return false;
    if (t->class_ == MW_CLASS_HANDLE) return false; // imported physical memory
    if (mw_taken_flags(t) & MW_FLAG_STREAM_ORDERED)
        return e->stream_ordered && place->device == e->device;
    // Where the context was never seen, the device must do.
    return place->context ? place->context == e->context
                          : e->device >= 0 && place->device == e->device;
}

static const struct mw_ended none;

void mw_context_ends(struct mw_call *call, uint64_t context, struct mw_ended *ended) {
    *ended = none;
    struct ending e = {context, -1, false};
    take_ended(call, ends_with_context, &e, ended);
}

void mw_context_gone(struct mw_call *call, uint64_t context, struct mw_ended *ended) {
    struct ending e = {context, -1, false};
    settle_ended(call, ends_with_context, &e, ended);
    if (!call->outer || call->result != MW_SUCCESS) return;
    mw_context_ended(context);
    if (mw_context_current() == context) mw_context_pop();
}

static _Atomic bool attach_seen;

void mw_context_attached(void) {
    mw_set(&attach_seen, true);
}

// A context ends with its last detach. Attaching was deprecated in CUDA 4.0: its counts are not
// followed, and a program that does it keeps its records.
void mw_context_detaches(struct mw_call *call, uint64_t context, struct mw_ended *ended) {
    *ended = none;
    if (!mw_get(&attach_seen)) mw_context_ends(call, context, ended);
}

void mw_context_detached(struct mw_call *call, uint64_t context, struct mw_ended *ended) {
    if (!mw_get(&attach_seen)) mw_context_gone(call, context, ended);
}

void mw_primary_ends(struct mw_call *call, int device, bool reset, struct mw_ended *ended) {
    *ended = none;
    if (!call->outer || device < 0) return;
    int left = reset ? 0 : mw_context_released(device);
    ended->last = left == 0;
    ended->released = left >= 0;
    struct ending e = {mw_context_primary(device), device, reset};
    if (ended->last) take_ended(call, ends_with_context, &e, ended);
}

void mw_primary_gone(struct mw_call *call, int device, bool reset, struct mw_ended *ended) {
    if (!call->outer || device < 0) return;
    struct ending e = {mw_context_primary(device), device, reset};
    if (reset) mw_self.booked = true;
    if (!ended || ended->last) settle_ended(call, ends_with_context, &e, ended);
    if (reset && call->result == MW_SUCCESS) mw_context_forgotten(device);
    if (!reset && ended && ended->released && call->result != MW_SUCCESS)
        mw_context_retained(device);
}

// ---- captures and graphs ---------------------------------------------------------------------

static _Atomic uint32_t nodes_without_graph; // made by captures that have not ended

void mw_node_captured(void) {
    mw_add(&nodes_without_graph, 1);
}

struct adoption {
    uint64_t stream, graph;
};

static bool captured_on(const struct mw_taken *t, void *argument) {
    const struct adoption *a = argument;
    const struct mw_place *place = mw_place_at(mw_taken_place(t));
    return space_of(t) == MW_SPACE_GRAPH && !place->pool &&
           mw_capture_origin(place->stream) == a->stream + 1;
}

static _Thread_local __attribute__((tls_model("initial-exec"))) uint64_t adopting_graph;
static void adopt(const struct mw_taken *t) {
    mw_move_to_pool(t, adopting_graph);
}

// Of the errors of cuStreamEndCapture only these end the capture. After the others (another
// stream's or thread's capture, no place for the answer) it goes on.
static bool ends_capture(mwResult result) {
    return result == MW_SUCCESS || result == MW_CAPTURE_INVALIDATED ||
           result == MW_CAPTURE_UNJOINED;
}

// The nodes that a capture made belong to the graph it gives. A capture that failed ends as well,
// and its nodes with it.
void mw_capture_ended(struct mw_call *call, uint64_t stream, uint64_t graph) {
    if (!call->outer || !ends_capture(call->result)) return;
    if (mw_capture_origin(stream) != stream + 1) return;
    if (mw_get(&nodes_without_graph) && mw_awake()) {
        struct adoption a = {stream, graph};
        adopting_graph = graph;
        mw_in_flight(1);
        mw_records_take_all(captured_on, graph ? adopt : mw_freed, &a);
        mw_in_flight(0);
    }
    mw_capture_end(stream);
    if (!mw_any_capture()) mw_set(&nodes_without_graph, 0);
}

// A stream that ends takes the capture that began on it along; its handle may come back for
// another.
void mw_stream_destroyed(struct mw_call *call, uint64_t stream) {
    if (!mw_any_capture() || call->result != MW_SUCCESS) return;
    mw_capture_ended(call, stream, 0);
    mw_capture_leave(stream);
}

static bool node_of(const struct mw_taken *t, void *argument) {
    return mw_place_at(mw_taken_place(t))->pool == *(const uint64_t *)argument &&
           space_of(t) == MW_SPACE_GRAPH;
}

// Whether any memory of graphs is live: most graphs have none, and looking costs a walk.
static bool any_graph_memory(void) {
    for (unsigned i = 0; i < MW_ACCOUNTS; i++) {
        const struct mw_account *a = &mw_ledger->account[i];
        if (mw_get(&a->state) == 2 && a->space == MW_SPACE_GRAPH && mw_get(&a->bound)) return true;
    }
    return false;
}

void mw_graph_ends(struct mw_call *call, uint64_t graph, struct mw_ended *ended) {
    *ended = none;
    if (mw_awake() && any_graph_memory()) take_ended(call, node_of, &graph, ended);
}

void mw_graph_gone(struct mw_call *call, uint64_t graph, struct mw_ended *ended) {
    if (mw_awake() && (ended || any_graph_memory())) settle_ended(call, node_of, &graph, ended);
}

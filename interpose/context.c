// SPDX-License-Identifier: Apache-2.0
//
// Devices, contexts, pools and captures, as far as the program's own calls tell of them.
//
// A hook must not ask the driver anything, so what a block's device is has to be known beforehand:
// contexts and pools are noted when they are made or handed out, and each thread's current context
// is followed through the calls that change it. Contexts are made long before the first
// allocation, hence before there is a ledger: so the tables are static, out of reach of whoever
// writes into the file, too, and the ledger has a copy for its readers. Who changes an entry copies
// it afterwards if there is a ledger; who makes the ledger copies all after having said so. With a
// full fence between the two steps on both sides no change falls between them.
//
// Every table is small and append-only (claim by compare-and-swap, ready by release store); a
// handle that the driver reuses finds its old entry and revives it.
#include "context.h"

#include "wake.h"

#include <string.h>

static struct mw_device devices[MW_DEVICES];
static struct mw_context contexts[MW_CONTEXTS];
static struct mw_pool pools[MW_POOLS];
static _Atomic uint32_t driver_version;

static _Atomic uint64_t current_pool[MW_DEVICES]; // 0 = never told
static _Atomic int32_t primary_references[MW_DEVICES];

// Word by word, since other threads may be at the same entry; until the copy is what was copied.
static void copy_entry(void *to, const void *from, size_t bytes) {
    const uint64_t *source = from;
    uint64_t *copy = to;
    bool same = false;
    for (int tries = 0; tries < 4 && !same; tries++) {
        same = true;
        for (size_t i = 0; i < bytes / sizeof *source; i++) {
            uint64_t word = __atomic_load_n(&source[i], __ATOMIC_RELAXED);
            if (__atomic_load_n(&copy[i], __ATOMIC_RELAXED) == word) continue;
            __atomic_store_n(&copy[i], word, __ATOMIC_RELAXED);
            same = false;
        }
    }
}

static bool has_copies(void) {
    atomic_thread_fence(memory_order_seq_cst);
    return mw_awake();
}

// Brings the ledger's copy of a changed entry up to date.
#define SHOW(table, entry)                                                                         \
    if (has_copies()) copy_entry(&mw_ledger->table[(entry)-table##s], entry, sizeof *(entry))

void mw_context_publish(struct mw_header *h) {
    atomic_thread_fence(memory_order_seq_cst);
    copy_entry(h->device, devices, sizeof devices);
    for (unsigned i = 0; i < MW_CONTEXTS; i++)
        if (atomic_load_explicit(&contexts[i].state, memory_order_acquire) >= 2)
            copy_entry(&h->context[i], &contexts[i], sizeof contexts[i]);
    for (unsigned i = 0; i < MW_POOLS; i++)
        if (atomic_load_explicit(&pools[i].state, memory_order_acquire) >= 2)
            copy_entry(&h->pool[i], &pools[i], sizeof pools[i]);
    mw_set(&h->driver_version, mw_get(&driver_version));
}

static struct mw_device *device_at(int device) {
    if (device < 0 || device >= (int)MW_DEVICES) return NULL;
    mw_set(&devices[device].known, 1);
    return &devices[device];
}

static uint64_t now(void) {
    return mw_awake() ? mw_now_ns() : 0;
}

static void overflowed(void) {
    if (mw_awake()) mw_lost(MW_LOSS_CONTEXTS, 1);
}

// ---- contexts --------------------------------------------------------------------------------

#define STACK 8
static _Thread_local __attribute__((tls_model("initial-exec"))) struct {
    uint64_t stack[STACK];  // stack[0] is the current context
    int16_t told_device;    // device of the current context as cuCtxGetDevice told it, + 1
    int16_t runtime_device; // as cudaSetDevice told it, + 1
} thread;

static struct mw_context *find_context(uint64_t handle) {
    struct mw_context *table = contexts;
    for (unsigned i = 0; i < MW_CONTEXTS; i++) {
        uint32_t state = atomic_load_explicit(&table[i].state, memory_order_acquire);
        if (state == 0) break;
        if (state >= 2 && mw_get(&table[i].handle) == handle) return &table[i];
    }
    return NULL;
}

void mw_context_created(uint64_t handle, int device, bool primary) {
    struct mw_context *c = find_context(handle);
    struct mw_context *table = contexts;
    for (unsigned i = 0; !c && i < MW_CONTEXTS; i++) {
        uint32_t state = 0;
        if (atomic_compare_exchange_strong(&table[i].state, &state, 1)) c = &table[i];
    }
    if (!c) {
        overflowed();
        return;
    }
    // Retained again. Otherwise the end of an earlier context with this handle was missed.
    if (mw_get(&c->state) == 2 && mw_get(&c->device) == device && mw_get(&c->primary) == primary)
        return;
    mw_set(&c->device, (int16_t)device);
    mw_set(&c->primary, primary);
    mw_set(&c->handle, handle);
    mw_set(&c->created_ns, now());
    mw_set(&c->ended_ns, 0);
    atomic_store_explicit(&c->state, 2, memory_order_release);
    SHOW(context, c);
    struct mw_device *d = device_at(device);
    if (d) SHOW(device, d);
}

void mw_context_ended(uint64_t handle) {
    struct mw_context *c = find_context(handle);
    if (!c) return;
    mw_set(&c->ended_ns, now());
    mw_set(&c->state, 3);
    SHOW(context, c);
}

int mw_context_device_of(uint64_t handle) {
    const struct mw_context *c = handle ? find_context(handle) : NULL;
    return c ? mw_get(&c->device) : -1;
}

uint64_t mw_context_primary(int device) {
    const struct mw_context *table = contexts;
    for (unsigned i = 0; i < MW_CONTEXTS; i++)
        if (atomic_load_explicit(&table[i].state, memory_order_acquire) >= 2 &&
            mw_get(&table[i].primary) && mw_get(&table[i].device) == device)
            return mw_get(&table[i].handle);
    return 0;
}

// The one device that all contexts seen so far are on, or -1.
static int only_device(void) {
    const struct mw_context *table = contexts;
    int device = -1;
    for (unsigned i = 0; i < MW_CONTEXTS; i++) {
        uint32_t state = atomic_load_explicit(&table[i].state, memory_order_acquire);
        if (state == 0) break;
        if (state != 2) continue;
        int on = mw_get(&table[i].device);
        if (device >= 0 && on != device) return -1;
        device = on;
    }
    return device;
}

uint64_t mw_context_current(void) {
    return thread.stack[0];
}

int mw_context_device(void) {
    if (thread.told_device) return thread.told_device - 1;
    int device = mw_context_device_of(thread.stack[0]);
    if (device < 0 && thread.runtime_device) device = thread.runtime_device - 1;
    if (device < 0) return only_device();
    thread.told_device = (int16_t)(device + 1);
    return device;
}

void mw_context_set(uint64_t handle) {
    if (thread.stack[0] == handle) return;
    thread.stack[0] = handle;
    thread.told_device = 0;
}

void mw_context_push(uint64_t handle) {
    memmove(thread.stack + 1, thread.stack, (STACK - 1) * sizeof thread.stack[0]);
    thread.stack[0] = handle;
    thread.told_device = 0;
}

void mw_context_pop(void) {
    memmove(thread.stack, thread.stack + 1, (STACK - 1) * sizeof thread.stack[0]);
    thread.stack[STACK - 1] = 0;
    thread.told_device = 0;
}

// cuCtxSetCurrent(NULL) is documented to be a pop.
void mw_context_switch(uint64_t handle) {
    if (handle)
        mw_context_set(handle);
    else
        mw_context_pop();
}

void mw_context_on_device(int device) {
    if (device >= 0 && device < (int)MW_DEVICES) thread.told_device = (int16_t)(device + 1);
}

void mw_context_runtime_device(int device) {
    if (device < 0 || device >= (int)MW_DEVICES) return;
    thread.runtime_device = (int16_t)(device + 1);
    thread.told_device = 0;
}

void mw_context_retained(int device) {
    if (device >= 0 && device < (int)MW_DEVICES) mw_add(&primary_references[device], 1);
}

// A release whose retain was not seen (cudart may retain through a private table) never ends
// anything: the count stops at zero.
int mw_context_released(int device) {
    if (device < 0 || device >= (int)MW_DEVICES) return -1;
    int32_t n = mw_get(&primary_references[device]);
    while (n > 0)
        if (atomic_compare_exchange_weak(&primary_references[device], &n, n - 1)) return n - 1;
    return -1;
}

void mw_context_forgotten(int device) {
    if (device >= 0 && device < (int)MW_DEVICES) mw_set(&primary_references[device], 0);
}

// ---- devices ---------------------------------------------------------------------------------

void mw_device_name(int device, const char *name) {
    struct mw_device *d = device_at(device);
    if (!d) return;
    for (size_t i = 0; name[i] && i < sizeof d->name - 1; i++)
        __atomic_store_n(&d->name[i], name[i], __ATOMIC_RELAXED);
    SHOW(device, d);
}

void mw_device_total(int device, uint64_t total) {
    struct mw_device *d = device_at(device);
    if (!d) return;
    mw_set(&d->total, total);
    SHOW(device, d);
}

// Live of this process on a device. Before there is a ledger nothing was allocated.
static uint64_t own_live(int device) {
    uint64_t bytes = 0;
    for (unsigned i = 0; mw_awake() && i < MW_ACCOUNTS; i++) {
        const struct mw_account *a = &mw_ledger->account[i];
        if (mw_get(&a->state) && a->device == device && mw_space_on_device(a->space))
            bytes += mw_account_live(i);
    }
    return bytes;
}

void mw_device_info(int device, uint64_t free_bytes, uint64_t total) {
    struct mw_device *d = device_at(device);
    if (!d) return;
    mw_set(&d->info_own, own_live(device) + 1);
    mw_set(&d->info_free, free_bytes);
    mw_set(&d->info_total, total);
    mw_set(&d->info_ns, now());
    mw_add(&d->info_n, 1);
    SHOW(device, d);
}

void mw_device_limit(int device, unsigned limit, uint64_t value) {
    struct mw_device *d = limit < 8 ? device_at(device) : NULL;
    if (!d) return;
    mw_set(&d->limits[limit], value);
    atomic_fetch_or_explicit(&d->limits_set, UINT64_C(1) << limit, memory_order_relaxed);
    SHOW(device, d);
}

// Values of CUgraphMem_attribute (cuda.h): used current, used high, reserved current, reserved
// high.
void mw_device_graph(int device, int attribute, uint64_t value) {
    struct mw_device *d = device_at(device);
    if (!d) return;
    _Atomic uint64_t *fields[] = {&d->graph_used, &d->graph_used_high, &d->graph_reserved,
                                  &d->graph_reserved_high};
    if (attribute < 0 || attribute >= 4) return;
    mw_set(fields[attribute], value);
    mw_set(&d->graph_ns, now());
    SHOW(device, d);
}

void mw_driver_version(int version) {
    mw_set(&driver_version, (uint32_t)version);
    if (has_copies()) mw_set(&mw_ledger->driver_version, (uint32_t)version);
}

// ---- pools -----------------------------------------------------------------------------------

static struct mw_pool *find_pool(uint64_t handle) {
    struct mw_pool *table = pools;
    for (unsigned i = 0; i < MW_POOLS; i++) {
        uint32_t state = atomic_load_explicit(&table[i].state, memory_order_acquire);
        if (state == 0) break;
        if (state >= 2 && mw_get(&table[i].handle) == handle) return &table[i];
    }
    return NULL;
}

void mw_pool_seen(uint64_t handle, int device, bool imported) {
    struct mw_pool *p = find_pool(handle);
    struct mw_pool *table = pools;
    for (unsigned i = 0; !p && i < MW_POOLS; i++) {
        uint32_t state = 0;
        if (atomic_compare_exchange_strong(&table[i].state, &state, 1)) p = &table[i];
    }
    if (!p) {
        overflowed();
        return;
    }
    if (mw_get(&p->state) == 2) return;
    mw_set(&p->device, (int16_t)device);
    mw_set(&p->imported, imported);
    mw_set(&p->space, MW_SPACE_DEVICE);
    mw_set(&p->handle, handle);
    mw_set(&p->observed_ns, 0);
    atomic_store_explicit(&p->state, 2, memory_order_release);
    SHOW(pool, p);
}

void mw_pool_kind(uint64_t handle, enum mw_space space) {
    struct mw_pool *p = find_pool(handle);
    if (!p) return;
    mw_set(&p->space, (uint8_t)space);
    SHOW(pool, p);
}

enum mw_space mw_pool_space(uint64_t handle) {
    const struct mw_pool *p = handle ? find_pool(handle) : NULL;
    return p ? (enum mw_space)mw_get(&p->space) : MW_SPACE_DEVICE;
}

void mw_pool_ended(uint64_t handle) {
    struct mw_pool *p = find_pool(handle);
    if (p) {
        mw_set(&p->state, 3);
        SHOW(pool, p);
    }
    // A device whose current pool is destroyed goes back to its default one.
    for (unsigned i = 0; i < MW_DEVICES; i++) {
        uint64_t current = handle;
        atomic_compare_exchange_strong(&current_pool[i], &current, 0);
    }
}

int mw_pool_device(uint64_t handle, int otherwise) {
    const struct mw_pool *p = handle ? find_pool(handle) : NULL;
    return p ? mw_get(&p->device) : otherwise;
}

// Values of CUmemPool_attribute (cuda.h).
void mw_pool_attribute(uint64_t handle, int attribute, uint64_t value) {
    struct mw_pool *p = find_pool(handle);
    if (!p) return;
    switch (attribute) {
    case 4:
        mw_set(&p->release_threshold, value);
        SHOW(pool, p);
        return;
    case 5:
        mw_set(&p->reserved_bytes, value);
        break;
    case 6:
        mw_set(&p->reserved_high, value);
        break;
    case 7:
        mw_set(&p->used, value);
        break;
    case 8:
        mw_set(&p->used_high, value);
        break;
    default:
        return;
    }
    uint64_t t = now();
    mw_set(&p->observed_ns, t ? t : 1); // 0 means never
    SHOW(pool, p);
}

uint64_t mw_pool_current(int device) {
    return device >= 0 && device < (int)MW_DEVICES ? mw_get(&current_pool[device]) : 0;
}

void mw_pool_set_current(int device, uint64_t handle) {
    if (device >= 0 && device < (int)MW_DEVICES) mw_set(&current_pool[device], handle);
}

// ---- captures --------------------------------------------------------------------------------
//
// A stream is capturing from cuStreamBeginCapture to cuStreamEndCapture, and so is every stream
// that waits for an event recorded in a capturing one. Asking the driver would cost a call and
// could disturb a capture, so the fork-join rule is followed here. With no capture under way, which
// is nearly always, each of these is one load.

#define CAPTURES 64
struct captured {
    _Atomic uint64_t handle; // a stream's + 1 (the default stream's handle is 0), or an event's
    _Atomic uint64_t origin; // the stream whose capture it belongs to, + 1
};
static struct captured capturing_streams[CAPTURES], captured_events[CAPTURES];
static _Atomic uint32_t captures; // begun and not ended

static struct captured *find_captured(struct captured *table, uint64_t handle) {
    for (unsigned i = 0; i < CAPTURES; i++)
        if (mw_get(&table[i].handle) == handle) return &table[i];
    return NULL;
}

static bool add_captured(struct captured *table, uint64_t handle, uint64_t origin) {
    struct captured *c = find_captured(table, handle);
    for (unsigned i = 0; !c && i < CAPTURES; i++) {
        uint64_t none = 0;
        if (atomic_compare_exchange_strong(&table[i].handle, &none, handle)) c = &table[i];
    }
    if (c)
        mw_set(&c->origin, origin);
    else
        overflowed();
    return c;
}

void mw_capture_begin(uint64_t stream) {
    if (add_captured(capturing_streams, stream + 1, stream + 1)) mw_add(&captures, 1);
}

void mw_capture_end(uint64_t stream) {
    if (mw_capture_origin(stream) != stream + 1) return;
    mw_add(&captures, -1);
    struct captured *tables[] = {capturing_streams, captured_events};
    for (unsigned t = 0; t < 2; t++)
        for (unsigned i = 0; i < CAPTURES; i++)
            if (mw_get(&tables[t][i].origin) == stream + 1) {
                mw_set(&tables[t][i].origin, 0);
                mw_set(&tables[t][i].handle, 0);
            }
}

bool mw_capturing(uint64_t stream) {
    return mw_unlikely(mw_get(&captures) != 0) && find_captured(capturing_streams, stream + 1);
}

bool mw_any_capture(void) {
    return mw_get(&captures) != 0;
}

uint64_t mw_capture_origin(uint64_t stream) {
    const struct captured *c = find_captured(capturing_streams, stream + 1);
    return c ? mw_get(&c->origin) : 0;
}

void mw_capture_leave(uint64_t stream) {
    if (mw_likely(!mw_get(&captures))) return;
    struct captured *c = find_captured(capturing_streams, stream + 1);
    if (!c) return;
    mw_set(&c->origin, 0);
    mw_set(&c->handle, 0);
}

void mw_capture_record(uint64_t stream, uint64_t event) {
    if (mw_likely(!mw_get(&captures))) return;
    const struct captured *c = find_captured(capturing_streams, stream + 1);
    struct captured *e = find_captured(captured_events, event);
    if (c)
        add_captured(captured_events, event, mw_get(&c->origin));
    else if (e)
        mw_set(&e->handle, 0); // recorded anew outside of any capture
}

void mw_capture_wait(uint64_t stream, uint64_t event) {
    if (mw_likely(!mw_get(&captures))) return;
    const struct captured *c = find_captured(captured_events, event);
    if (c) add_captured(capturing_streams, stream + 1, mw_get(&c->origin));
}

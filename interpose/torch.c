// SPDX-License-Identifier: Apache-2.0
//
// Tensor events: each block that PyTorch's caching allocators hand out and take back, with torch's
// own totals, and each request that they had to refuse.
//
// The allocators of CUDA, HIP and XPU call c10::reportMemoryUsageToProfiler for every block,
// whether a profiler is on or not: that is asked inside. libc10 exports it and everybody, libc10
// included, calls it through the dynamic linker, so that a definition in a preloaded library is the
// one that is called. Ours passes the call on to libc10's, whose profiler gets what it would have
// got, and then records.
//
// The allocator holds its mutex of that device meanwhile. So on the way of an event there is no
// lock, no allocation, no dl function and nothing that waits; and events of one device come one
// after another, in the order of torch's books, so the totals that stand in the ledger are those of
// its last event. A pointer is reported as freed before the mutex is let go, hence before another
// thread can be given it: a record is taken out here when its key is still its own.
//
// Where there is no original (torch_find.c) the event is recorded and not passed on.
//
// Tensors lie inside the driver's blocks, so they have a space of their own, never added to others.
#include "torch.h"

#include "shapes.h"
#include "text.h"

#include <stdlib.h>

#define EXPORTED __attribute__((visibility("default")))

#define MW_NO_TOTAL UINT64_MAX

MW_READ_MOSTLY static struct mw_torch *ledger; // torch's part of the file; NULL = none

// ---- the ledger's part -----------------------------------------------------------------------

static void copy(char *to, size_t room, const char *from) {
    struct mw_text t = mw_text(to, room);
    if (from) mw_put(&t, from);
}

bool mw_torch_begin(const struct mw_options *options) {
    __atomic_store_n(&ledger, NULL, __ATOMIC_RELAXED); // a forked child has its parent's
    struct mw_torch *l = mw_ledger_grow(MW_CHUNK_TORCH, 1, sizeof *l);
    if (!l) return false;
    l->bytes = sizeof *l;
    l->tensors = (uint32_t)options->tensors;
    const char *settings = getenv("PYTORCH_CUDA_ALLOC_CONF");
    copy(l->allocator, sizeof l->allocator, settings ? settings : getenv("PYTORCH_ALLOC_CONF"));
    l->no_caching = getenv("PYTORCH_NO_CUDA_MEMORY_CACHING") != NULL;
    mw_torch_found(l);
    __atomic_store_n(&ledger, l, __ATOMIC_RELEASE);
    return true;
}

void mw_torch_publish(void) {
    struct mw_torch *l = __atomic_load_n(&ledger, __ATOMIC_ACQUIRE);
    if (l && mw_awake()) mw_torch_found(l);
}

// MEMWATCH_TENSORS, which an event needs to know before the options are read: an event that nobody
// wants must not wake us.
static enum mw_tensors tensors(void) {
    MW_READ_MOSTLY static _Atomic int known = -1;
    int answer = mw_get(&known);
    if (mw_unlikely(answer < 0)) mw_set(&known, answer = mw_option_tensors());
    return (enum mw_tensors)answer;
}

// ---- devices ---------------------------------------------------------------------------------

enum { TORCH_CPU = 0, TORCH_CUDA = 1, TORCH_HIP = 6, TORCH_XPU = 12 }; // c10::DeviceType

// The two layouts of Device under the oldest symbol: {type, index} in two bytes, with anything in
// the bytes above, or in four. An index of the wide kind is in the third byte, and the second is
// then zero.
MW_INLINE struct mwTorchDevice narrow(struct mwTorchDeviceWide wide) {
    struct mwTorchDevice d = {(int8_t)wide.type, (int8_t)(wide.type >> 8)};
    if (!d.index && wide.index > 0 && wide.index < (int)MW_DEVICES) d.index = (int8_t)wide.index;
    return d;
}

// The ordinal that is recorded, -1 for the host; -2 if events of that device are not wanted. An
// index that is not set stands for the first device.
#define UNWANTED (-2)
MW_INLINE int wanted_device(struct mwTorchDevice d) {
    const uint32_t gpus = 1u << TORCH_CUDA | 1u << TORCH_HIP | 1u << TORCH_XPU;
    enum mw_tensors which = tensors();
    if (mw_unlikely(which == MW_TENSORS_OFF)) return UNWANTED;
    if (mw_likely((uint8_t)d.type < 32 && gpus >> d.type & 1)) return d.index > 0 ? d.index : 0;
    return d.type == TORCH_CPU && which == MW_TENSORS_ALL ? -1 : UNWANTED;
}

// ---- events ----------------------------------------------------------------------------------

struct usage {
    const void *pointer;
    int64_t delta;
    uint64_t allocated, reserved;
    int device;
};

static void raise_to(_Atomic uint64_t *peak, uint64_t value) {
    uint64_t have = mw_get(peak);
    while (mw_unlikely(value > have))
        if (atomic_compare_exchange_weak_explicit(peak, &have, value, memory_order_relaxed,
                                                  memory_order_relaxed))
            return;
}

MW_INLINE struct mw_torch_device *device_at(int device) {
    struct mw_torch *l = ledger;
    return l && device >= 0 && device < (int)MW_DEVICES ? &l->device[device] : NULL;
}

static __attribute__((noinline)) void first_event(struct mw_torch_device *d,
                                                  const struct usage *u) {
    bool told = u->allocated != MW_NO_TOTAL;
    // Without totals all that is known is that a forked child did not see its parent's events.
    uint64_t before = told ? u->allocated - (uint64_t)u->delta : mw_ledger_epoch > 1;
    mw_set(&d->before, before);
    atomic_store_explicit(&d->known, told ? 2 : 1, memory_order_release);
}

MW_INLINE void keep_totals(struct mw_torch_device *d, const struct usage *u) {
    if (mw_unlikely(!mw_get(&d->known))) first_event(d, u);
    if (u->allocated == MW_NO_TOTAL) return;
    mw_set(&d->allocated, u->allocated);
    mw_set(&d->reserved_bytes, u->reserved);
    raise_to(&d->allocated_peak, u->allocated);
    raise_to(&d->reserved_peak, u->reserved);
}

// A tensor of before the first event is none that we lost.
static bool seen_from_the_start(int device) {
    struct mw_torch_device *d = device_at(device);
    return d && !mw_get(&d->before);
}

MW_INLINE void freed(const struct usage *u) {
    struct mw_taken taken;
    mw_record_take(MW_CLASS_TENSOR, mw_tensor_key((uintptr_t)u->pointer, u->device), &taken);
    if (mw_unlikely(!taken.found) && seen_from_the_start(u->device))
        mw_lost(MW_LOSS_UNKNOWN_TENSORS, 1);
    mw_freed(&taken);
}

MW_INLINE struct mw_birth birth_of(const struct usage *u, uint16_t api, uint64_t bytes) {
    return (struct mw_birth){.space = MW_SPACE_TENSOR,
                             .class_ = MW_CLASS_TENSOR,
                             .key = mw_tensor_key((uintptr_t)u->pointer, u->device),
                             .bytes = bytes,
                             .asked = bytes,
                             .device = u->device,
                             .api = api,
                             .driver_api = api};
}

// What comes amid an event of the same thread is from a signal handler, or from a callback within a
// driver's call: the ledger is not touched then.
MW_INLINE bool begin_event(uint16_t api) {
    bool outer = mw_self.driver++ == 0;
    if (mw_likely(outer))
        mw_count_call(api);
    else
        mw_lost(MW_LOSS_TENSORS, 1);
    return outer;
}
static void end_event(void) {
    mw_self.driver--;
}

// The arguments stay in the registers in which the function got them.
MW_HOT static void record_usage(const void *pointer, int64_t delta, uint64_t allocated,
                                uint64_t reserved, int device, uint16_t api) {
    const struct usage u = {pointer, delta, allocated, reserved, device};
    if (!delta || !(mw_awake() || (delta > 0 && mw_wake()))) return;
    if (begin_event(api)) {
        struct mw_torch_device *d = device_at(device);
        mw_in_flight(1);
        if (mw_likely(d)) keep_totals(d, &u);
        if (delta > 0) {
            struct mw_birth birth = birth_of(&u, api, (uint64_t)delta);
            mw_born(&birth); // no more in flight behind it
        } else {
            freed(&u);
            mw_in_flight(0);
        }
    }
    end_event();
}

static void keep_refusal(struct mw_torch *l, const struct usage *u, unsigned account,
                         uint32_t tid) {
    struct mw_site_bytes top[MW_OOM_SITES];
    unsigned n = mw_top_sites(account, top, MW_OOM_SITES);
    uint64_t ordinal = mw_add(&l->ooms, 1);
    struct mw_oom *o = &l->oom[ordinal % MW_OOMS];
    mw_set(&o->sequence, 2 * ordinal + 1);
    mw_fence(memory_order_release); // a reader must not see new fields under an old number
    o->when_ns = mw_now_ns();
    o->asked = (uint64_t)u->delta;
    o->allocated = u->allocated;
    o->reserved_bytes = u->reserved;
    o->live = mw_account_live(account);
    o->device = u->device;
    o->tid = tid;
    for (unsigned i = 0; i < MW_OOM_SITES; i++) {
        o->site[i].site = i < n ? top[i].site + 1 : 0;
        o->site[i].bytes = i < n ? top[i].bytes : 0;
    }
    atomic_store_explicit(&o->sequence, 2 * ordinal + 2, memory_order_release);
}

static void record_refusal(const struct usage *u, uint16_t api, uint16_t site_api) {
    if (!(mw_awake() || mw_wake())) return;
    if (begin_event(api)) {
        struct mw_torch_device *d = device_at(u->device);
        uint64_t bytes = u->delta > 0 ? (uint64_t)u->delta : 0;
        struct mw_birth birth = birth_of(u, site_api, bytes);
        if (d) keep_totals(d, &(struct usage){.allocated = u->allocated, .reserved = u->reserved});
        uint32_t tid;
        unsigned account = mw_refused(&birth, &tid);
        if (ledger) keep_refusal(ledger, u, account, tid);
    }
    end_event();
}

#define USAGE(pointer_, delta_, allocated_, reserved_, device_)                                    \
    int wanted = wanted_device(device_);                                                           \
    if (wanted != UNWANTED) record_usage(pointer_, delta_, allocated_, reserved_, wanted, api)
#define OUT_OF_MEMORY(site, asked, allocated_, reserved_, device_)                                 \
    struct usage u = {NULL, asked, allocated_, reserved_, wanted_device(device_)};                 \
    if (u.device != UNWANTED) record_refusal(&u, api, MW_API_##site)

#define TORCH(symbol, name, since, parameters, arguments, event)                                   \
    EXPORTED MW_HOT void symbol parameters {                                                       \
        const uint16_t api = MW_API_##symbol;                                                      \
        void *real = mw_torch_original_of(api);                                                    \
        if (mw_likely(real)) ((void(*) parameters)real) arguments;                                 \
        event;                                                                                     \
    }
#include "torch.def"

// SPDX-License-Identifier: Apache-2.0
//
// The wrappers of the runtime API: labels.
//
// Every runtime call that changes memory reaches the driver on the same thread, and the driver's
// wrapper books it. Here only the name that the program used is put down for it. Where no driver
// event was seen inside (a runtime whose look-ups bypassed us: RTLD_DEEPBIND), the runtime call is
// booked itself; so each byte is counted once. For frees this must be known before the call: a
// record that a runtime row made is taken out here, any other by the driver's wrapper.
//
// Each row is exported under the symbol version of every libcudart: a process may hold several, and
// a call bound to cudaMalloc@libcudart.so.12 must end in that library.
#include "shapes.h"

static bool made_by_runtime(enum mw_class class_, uint64_t key) {
    struct mw_taken t;
    return mw_awake() && mw_record_find(class_, key, &t) &&
           mw_site_at(mw_taken_site(&t))->driver_api >= MW_API_DRIVER_ROWS;
}

static void runtime_take(struct mw_call *call, enum mw_class class_, uint64_t key) {
    if (call->outer && made_by_runtime(class_, key)) mw_take(call, class_, key);
}

static void runtime_unrefer(struct mw_call *call, enum mw_class class_, uint64_t key) {
    if (call->outer && made_by_runtime(class_, key)) mw_unrefer(call, class_, key);
}

// The shapes' words, for a call that may have been booked inside.
#undef TAKE
#undef UNREFER
#define TAKE(class, key)    runtime_take(&call, MW_CLASS_##class, (uint64_t)(uintptr_t)(key))
#define UNREFER(class, key) runtime_unrefer(&call, MW_CLASS_##class, (uint64_t)(uintptr_t)(key))

MW_INLINE void runtime_begin(struct mw_call *call, uint16_t api) {
    call->api = api;
    call->outer = mw_self.runtime++ == 0 && mw_self.driver == 0;
    call->pending = false;
    call->referred = 0;
    call->taken.found = false;
    if (!call->outer) return;
    mw_self.label = (uint16_t)(api + 1);
    mw_self.booked = false;
}

// Between the real call and `after`: from here on the call books only what the driver did not.
MW_INLINE void runtime_returned(struct mw_call *call) {
    if (call->outer) mw_count_call(call->api);
    if (mw_self.booked && !call->pending) call->outer = false;
}

MW_INLINE mwResult runtime_end(const struct mw_call *call) {
    if (--mw_self.runtime == 0) mw_self.label = 0;
    return call->result;
}

MW_INLINE void *next_definition(unsigned slot) {
    void *real = atomic_load_explicit(&mw_next[slot], memory_order_acquire);
    return mw_likely(real) ? real : mw_doors_next(slot);
}

#define WRAPPER(name, suffix, version, index, parameters, arguments, before, after)                \
    __attribute__((visibility("default"))) mwResult name##suffix parameters {                      \
        void *real = next_definition(MW_API_##name + (index)*MW_RUNTIME_ROWS);                     \
        if (mw_unlikely(!real)) return MW_RUNTIME_INSUFFICIENT_DRIVER;                             \
        __attribute__((unused)) const bool per_thread = MW_PER_THREAD(name);                       \
        struct mw_call call;                                                                       \
        runtime_begin(&call, MW_API_##name);                                                       \
        before;                                                                                    \
        call.result = ((mwResult(*) parameters)real)arguments;                                     \
        runtime_returned(&call);                                                                   \
        after;                                                                                     \
        return runtime_end(&call);                                                                 \
    }                                                                                              \
    __asm__(".symver " #name #suffix ", " #name version);

// Default version (@@): what an unversioned reference or look-up binds to.
#define DRIVER(name, ...)
#define RUNTIME(name, parameters, arguments, before, after)                                        \
    WRAPPER(name, _11, "@libcudart.so.11.0", 0, parameters, arguments, before, after)              \
    WRAPPER(name, _12, "@libcudart.so.12", 1, parameters, arguments, before, after)                \
    WRAPPER(name, _13, "@@libcudart.so.13", 2, parameters, arguments, before, after)
#include "entrypoints.def"

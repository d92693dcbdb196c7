// SPDX-License-Identifier: Apache-2.0
//
// The wrappers of the driver API: one macro over the rows of entrypoints.def.
//
// A wrapper calls the real function with its arguments as they are and returns its result as it is;
// around that the words of the row's `before` and `after` columns run (shapes.h). It is the driver
// that keeps the books: a runtime call around it only lends its name.
#include "shapes.h"

#define EXPORTED __attribute__((visibility("default")))

// A call made on this thread inside a wrapped one is part of it: another tool between us and the
// driver, or a callback. It reaches the driver, but is not counted again.
MW_INLINE void driver_begin(struct mw_call *call, uint16_t api) {
    call->api = api;
    call->outer = mw_self.driver++ == 0;
    call->pending = false;
    call->referred = 0;
    call->taken.found = false;
}

MW_INLINE mwResult driver_end(const struct mw_call *call) {
    if (call->outer) mw_count_call(call->api);
    mw_self.driver--;
    return call->result;
}

// Where there is no driver at all, a name that the program found here answers as the driver does
// before cuInit.
#define WRAPPER(name, api_, target, parameters, arguments, before, after)                          \
    mwResult name parameters {                                                                     \
        void *real = (target);                                                                     \
        if (mw_unlikely(!real)) return MW_NOT_INITIALIZED;                                         \
        __attribute__((unused)) const bool per_thread = MW_PER_THREAD(api_);                       \
        struct mw_call call;                                                                       \
        driver_begin(&call, api_);                                                                 \
        before;                                                                                    \
        call.result = ((mwResult(*) parameters)real)arguments;                                     \
        after;                                                                                     \
        return driver_end(&call);                                                                  \
    }

MW_INLINE void *next_definition(unsigned row) {
    void *real = atomic_load_explicit(&mw_next[row], memory_order_acquire);
    return mw_likely(real) ? real : mw_doors_next(row);
}

#define RUNTIME(name, ...)
#define DRIVER(name, since, parameters, arguments, before, after)                                  \
    EXPORTED WRAPPER(name, MW_API_##name, next_definition(MW_API_##name), parameters, arguments,   \
                     before, after)                                                                \
        WRAPPER(name##_routed, MW_API_##name,                                                      \
                atomic_load_explicit(&mw_driver[MW_API_##name], memory_order_acquire), parameters, \
                arguments, before, after)
#include "entrypoints.def"

// SPDX-License-Identifier: Apache-2.0
// The life of the driver in a process: fresh, up after cuInit, dead in a forked child of an
// initialised process, and (on request) dead once exit began, as NVIDIA's driver is.
#include "entry.h"

#include "device.h"
#include "options.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

enum { FRESH, UP, FORKED, ENDED };

static _Atomic int life = FRESH;
static __thread struct call *current_call;

CUresult driver_state(void) {
    switch (atomic_load_explicit(&life, memory_order_acquire)) {
    case UP:
        return CUDA_SUCCESS;
    case ENDED:
        return CUDA_ERROR_DEINITIALIZED;
    default:
        return CUDA_ERROR_NOT_INITIALIZED;
    }
}

static void end_driver(void) {
    if (options.deinitialises) atomic_store(&life, ENDED);
}

// NVIDIA's driver ends in an exit handler registered by cuInit; the destructor covers processes
// that never called it.
__attribute__((destructor)) static void unload(void) {
    end_driver();
}

static void forget_in_child(void) {
    if (atomic_load(&life) == UP) atomic_store(&life, FORKED);
}

static void start(void) {
    if (atomic_load(&life) != FRESH) return;
    books_open(options.books, options.devices);
    devices_start();
    pthread_atfork(NULL, NULL, forget_in_child);
    if (options.deinitialises) atexit(end_driver);
    atomic_store_explicit(&life, UP, memory_order_release);
}

CUresult driver_start(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, start);
    return driver_state();
}

const char *call_name(void) {
    return current_call ? current_call->api->name : "internal";
}

bool call_is_per_thread(void) {
    return current_call && (current_call->api->flags & API_PER_THREAD);
}

CUresult call_begin(struct call *call, unsigned api) {
    options_read();
    *call = (struct call){.outer = current_call, .api = &apis[api], .attempts_space = -1};
    current_call = call;
    CUresult state = driver_state();
    if (state != CUDA_SUCCESS && !(call->api->flags & API_ANYTIME)) return state;
    CUresult fault = options_disturb(api);
    if (!(call->api->flags & API_ALLOCATES)) return fault;
    call->fault = fault;
    return CUDA_SUCCESS;
}

CUresult call_attempts(int device, enum space space) {
    if (!current_call) return CUDA_SUCCESS;
    current_call->attempts_device = device;
    current_call->attempts_space = (int)space;
    CUresult fault = current_call->fault;
    current_call->fault = CUDA_SUCCESS;
    return fault;
}

CUresult call_end(struct call *call, CUresult result) {
    current_call = call->outer;
    // The behaviour returned before it said what it would allocate: the fault wins all the same.
    if (call->fault != CUDA_SUCCESS) result = call->fault;
    if (result != CUDA_SUCCESS && call->attempts_space >= 0)
        books_failed(call->attempts_device, (enum space)call->attempts_space);
    return result;
}

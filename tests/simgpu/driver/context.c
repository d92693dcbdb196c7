// SPDX-License-Identifier: Apache-2.0
// Contexts. A primary context is one object for the life of the process; its id changes whenever it
// ends, so nothing made in one life is mistaken for something of the next.
#include "context.h"

#include "device.h"
#include "pool.h"

#include <stdlib.h>
#include <string.h>

#define DEEPEST 64

// Allocated at a thread's first context: thread-local storage of a library that is loaded late is
// scarce.
static __thread struct context **stack;
static __thread int depth;
static _Atomic unsigned long long last_id;
static struct context *all;
static pthread_rwlock_t all_lock = PTHREAD_RWLOCK_INITIALIZER;

static struct context *new_context(int device, unsigned flags) {
    struct context *context = object_new(OBJECT_CONTEXT, sizeof *context);
    if (!context) return NULL;
    context->device = device;
    context->owner = context;
    context->flags = flags;
    context->id = atomic_fetch_add(&last_id, 1) + 1;
    context->limits[CU_LIMIT_STACK_SIZE] = 1024;
    context->limits[CU_LIMIT_PRINTF_FIFO_SIZE] = 1 << 20;
    context->limits[CU_LIMIT_MALLOC_HEAP_SIZE] = 8 << 20;
    context->limits[CU_LIMIT_DEV_RUNTIME_SYNC_DEPTH] = 2;
    context->limits[CU_LIMIT_DEV_RUNTIME_PENDING_LAUNCH_COUNT] = 2048;
    context->limits[CU_LIMIT_MAX_L2_FETCH_GRANULARITY] = 64;
    pthread_mutex_init(&context->lock, NULL);
    streams_start_context(context);
    pthread_rwlock_wrlock(&all_lock);
    context->next = all;
    all = context;
    pthread_rwlock_unlock(&all_lock);
    return context;
}

static void delete_context(struct context *context) {
    pthread_rwlock_wrlock(&all_lock);
    struct context **at = &all;
    while (*at != context) at = &(*at)->next;
    *at = context->next;
    pthread_rwlock_unlock(&all_lock);
    object_delete(context, OBJECT_CONTEXT);
}

void contexts_visit(int device, CUresult (*visit)(struct context *)) {
    pthread_rwlock_rdlock(&all_lock);
    for (struct context *context = all; context; context = context->next)
        if (context->device == device) visit(context);
    pthread_rwlock_unlock(&all_lock);
}

void context_make_primary(int device) {
    struct context *context = new_context(device, 0);
    if (!context) abort();
    context->primary = true;
    devices[device].primary = context;
}

bool context_is_live(const struct context *context) {
    return object_is(context, OBJECT_CONTEXT) &&
           (!context->primary || atomic_load(&context->retains) > 0);
}

CUresult context_current(struct context **context) {
    *context = depth > 0 ? stack[depth - 1] : NULL;
    if (!*context) return CUDA_ERROR_INVALID_CONTEXT;
    return context_is_live(*context) ? CUDA_SUCCESS : CUDA_ERROR_CONTEXT_IS_DESTROYED;
}

int context_device(void) {
    struct context *context;
    return context_current(&context) == CUDA_SUCCESS ? context->device : NO_DEVICE;
}

static void end_context(struct context *context, bool pools) {
    streams_synchronize(context);
    memory_end_context(context, pools);
    arrays_end_context(context);
    streams_end_context(context);
    context->id = atomic_fetch_add(&last_id, 1) + 1;
}

// ---- create and destroy -------------------------------------------------------------------------

static CUresult push(struct context *context) {
    if (!stack && !(stack = calloc(DEEPEST, sizeof *stack))) return CUDA_ERROR_OUT_OF_MEMORY;
    if (depth == DEEPEST) return CUDA_ERROR_OUT_OF_MEMORY;
    stack[depth++] = context;
    return CUDA_SUCCESS;
}

static CUresult create(CUcontext *pctx, unsigned flags, CUdevice dev) {
    if (!pctx) return CUDA_ERROR_INVALID_VALUE;
    if (!device_exists(dev)) return CUDA_ERROR_INVALID_DEVICE;
    if (!device_charge(dev, options.context)) return CUDA_ERROR_OUT_OF_MEMORY;
    struct context *context = new_context(dev, flags);
    if (!context) {
        device_uncharge(dev, options.context);
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    atomic_store(&context->retains, 1);
    *pctx = (CUcontext)context;
    CUresult result = push(context);
    if (result != CUDA_SUCCESS) sim_cuCtxDestroy_v2(*pctx);
    return result;
}

CUresult sim_cuCtxCreate(CUcontext *pctx, unsigned int flags, CUdevice dev) {
    return create(pctx, flags, dev);
}

CUresult sim_cuCtxCreate_v2(CUcontext *pctx, unsigned int flags, CUdevice dev) {
    return create(pctx, flags, dev);
}

CUresult sim_cuCtxCreate_v3(CUcontext *pctx, CUexecAffinityParam *paramsArray, int numParams,
                            unsigned int flags, CUdevice dev) {
    if (numParams < 0 || (numParams > 0 && !paramsArray)) return CUDA_ERROR_INVALID_VALUE;
    return create(pctx, flags, dev);
}

CUresult sim_cuCtxCreate_v4(CUcontext *pctx, CUctxCreateParams *ctxCreateParams, unsigned int flags,
                            CUdevice dev) {
    (void)ctxCreateParams;
    return create(pctx, flags, dev);
}

CUresult sim_cuCtxDestroy_v2(CUcontext ctx) {
    struct context *context = (struct context *)ctx;
    if (!object_is(context, OBJECT_CONTEXT) || context->primary || context->owner != context)
        return CUDA_ERROR_INVALID_CONTEXT;
    end_context(context, false);
    device_uncharge(context->device, options.context);
    delete_context(context);
    if (depth > 0 && stack[depth - 1] == context) depth--;
    return CUDA_SUCCESS;
}

CUresult sim_cuCtxDestroy(CUcontext ctx) {
    return sim_cuCtxDestroy_v2(ctx);
}

CUresult sim_cuCtxAttach(CUcontext *pctx, unsigned int flags) {
    if (!pctx || flags) return CUDA_ERROR_INVALID_VALUE;
    NEED_CONTEXT(context);
    atomic_fetch_add(&context->retains, 1);
    *pctx = (CUcontext)context;
    return CUDA_SUCCESS;
}

CUresult sim_cuCtxDetach(CUcontext ctx) {
    struct context *context = (struct context *)ctx;
    if (!context_is_live(context) || context->primary) return CUDA_ERROR_INVALID_CONTEXT;
    if (atomic_fetch_sub(&context->retains, 1) > 1) return CUDA_SUCCESS;
    return sim_cuCtxDestroy_v2(ctx);
}

// A primary context has its memory of the device from the first retain to the last release.
static CUresult retain(struct context *primary) {
    static pthread_mutex_t first = PTHREAD_MUTEX_INITIALIZER;
    pthread_mutex_lock(&first);
    bool room = atomic_load(&primary->retains) || device_charge(primary->device, options.context);
    if (room) atomic_fetch_add(&primary->retains, 1);
    pthread_mutex_unlock(&first);
    return room ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

struct context *context_new_green(struct context *primary) {
    if (retain(primary) != CUDA_SUCCESS) return NULL;
    struct context *green = new_context(primary->device, primary->flags);
    if (!green) {
        sim_cuDevicePrimaryCtxRelease_v2(primary->device);
        return NULL;
    }
    green->owner = primary;
    atomic_store(&green->retains, 1);
    return green;
}

void context_delete_green(struct context *green) {
    int device = green->device;
    streams_synchronize(green);
    streams_end_context(green);
    delete_context(green);
    sim_cuDevicePrimaryCtxRelease_v2(device);
}

// ---- primary contexts ---------------------------------------------------------------------------

CUresult sim_cuDevicePrimaryCtxRetain(CUcontext *pctx, CUdevice dev) {
    if (!pctx) return CUDA_ERROR_INVALID_VALUE;
    if (!device_exists(dev)) return CUDA_ERROR_INVALID_DEVICE;
    CUresult result = retain(devices[dev].primary);
    if (result == CUDA_SUCCESS) *pctx = (CUcontext)devices[dev].primary;
    return result;
}

CUresult sim_cuDevicePrimaryCtxRelease_v2(CUdevice dev) {
    if (!device_exists(dev)) return CUDA_ERROR_INVALID_DEVICE;
    struct context *context = devices[dev].primary;
    int retains = atomic_load(&context->retains);
    do {
        if (retains == 0) return CUDA_ERROR_INVALID_CONTEXT;
    } while (!atomic_compare_exchange_weak(&context->retains, &retains, retains - 1));
    if (retains > 1) return CUDA_SUCCESS;
    end_context(context, false);
    device_uncharge(dev, options.context);
    return CUDA_SUCCESS;
}

CUresult sim_cuDevicePrimaryCtxRelease(CUdevice dev) {
    return sim_cuDevicePrimaryCtxRelease_v2(dev);
}

// The count of retains survives a reset in the API's description; the context is nevertheless dead
// until it is retained again, which is why it is set to zero here.
CUresult sim_cuDevicePrimaryCtxReset_v2(CUdevice dev) {
    if (!device_exists(dev)) return CUDA_ERROR_INVALID_DEVICE;
    struct context *context = devices[dev].primary;
    end_context(context, true);
    if (atomic_exchange(&context->retains, 0)) device_uncharge(dev, options.context);
    context->flags = 0;
    return CUDA_SUCCESS;
}

CUresult sim_cuDevicePrimaryCtxReset(CUdevice dev) {
    return sim_cuDevicePrimaryCtxReset_v2(dev);
}

CUresult sim_cuDevicePrimaryCtxSetFlags_v2(CUdevice dev, unsigned int flags) {
    if (!device_exists(dev)) return CUDA_ERROR_INVALID_DEVICE;
    devices[dev].primary->flags = flags;
    return CUDA_SUCCESS;
}

CUresult sim_cuDevicePrimaryCtxSetFlags(CUdevice dev, unsigned int flags) {
    if (device_exists(dev) && atomic_load(&devices[dev].primary->retains) > 0)
        return CUDA_ERROR_PRIMARY_CONTEXT_ACTIVE;
    return sim_cuDevicePrimaryCtxSetFlags_v2(dev, flags);
}

CUresult sim_cuDevicePrimaryCtxGetState(CUdevice dev, unsigned int *flags, int *active) {
    if (!flags || !active) return CUDA_ERROR_INVALID_VALUE;
    if (!device_exists(dev)) return CUDA_ERROR_INVALID_DEVICE;
    *flags = devices[dev].primary->flags;
    *active = atomic_load(&devices[dev].primary->retains) > 0;
    return CUDA_SUCCESS;
}

// ---- the current context ------------------------------------------------------------------------

CUresult sim_cuCtxPushCurrent_v2(CUcontext ctx) {
    if (!context_is_live((struct context *)ctx)) return CUDA_ERROR_INVALID_CONTEXT;
    return push((struct context *)ctx);
}

CUresult sim_cuCtxPushCurrent(CUcontext ctx) {
    return sim_cuCtxPushCurrent_v2(ctx);
}

CUresult sim_cuCtxPopCurrent_v2(CUcontext *pctx) {
    if (depth == 0) return CUDA_ERROR_INVALID_CONTEXT;
    depth--;
    if (pctx) *pctx = (CUcontext)stack[depth];
    return CUDA_SUCCESS;
}

CUresult sim_cuCtxPopCurrent(CUcontext *pctx) {
    return sim_cuCtxPopCurrent_v2(pctx);
}

CUresult sim_cuCtxSetCurrent(CUcontext ctx) {
    if (ctx && !context_is_live((struct context *)ctx)) return CUDA_ERROR_INVALID_CONTEXT;
    if (!ctx) {
        if (depth > 0) depth--;
        return CUDA_SUCCESS;
    }
    if (depth == 0) return push((struct context *)ctx);
    stack[depth - 1] = (struct context *)ctx;
    return CUDA_SUCCESS;
}

CUresult sim_cuCtxGetCurrent(CUcontext *pctx) {
    if (!pctx) return CUDA_ERROR_INVALID_VALUE;
    *pctx = depth > 0 ? (CUcontext)stack[depth - 1] : NULL;
    return CUDA_SUCCESS;
}

// ---- questions and settings ---------------------------------------------------------------------

// Functions that take a context or NULL for the current one.
static CUresult given_or_current(CUcontext ctx, struct context **context) {
    if (!ctx) return context_current(context);
    *context = (struct context *)ctx;
    return context_is_live(*context) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_CONTEXT;
}

CUresult sim_cuCtxGetDevice_v2(CUdevice *device, CUcontext ctx) {
    struct context *context;
    CUresult result = given_or_current(ctx, &context);
    if (result != CUDA_SUCCESS) return result;
    if (!device) return CUDA_ERROR_INVALID_VALUE;
    *device = context->device;
    return CUDA_SUCCESS;
}

CUresult sim_cuCtxGetDevice(CUdevice *device) {
    return sim_cuCtxGetDevice_v2(device, NULL);
}

CUresult sim_cuCtxSynchronize_v2(CUcontext ctx) {
    struct context *context;
    CUresult result = given_or_current(ctx, &context);
    if (result != CUDA_SUCCESS) return result;
    streams_synchronize(context);
    pools_synchronized(context->device);
    return CUDA_SUCCESS;
}

CUresult sim_cuCtxSynchronize(void) {
    return sim_cuCtxSynchronize_v2(NULL);
}

CUresult sim_cuCtxGetFlags(unsigned int *flags) {
    NEED_CONTEXT(context);
    if (!flags) return CUDA_ERROR_INVALID_VALUE;
    *flags = context->flags;
    return CUDA_SUCCESS;
}

CUresult sim_cuCtxSetFlags(unsigned int flags) {
    NEED_CONTEXT(context);
    context->flags = flags;
    return CUDA_SUCCESS;
}

CUresult sim_cuCtxGetId(CUcontext ctx, unsigned long long *ctxId) {
    struct context *context;
    CUresult result = given_or_current(ctx, &context);
    if (result != CUDA_SUCCESS) return result;
    if (!ctxId) return CUDA_ERROR_INVALID_VALUE;
    *ctxId = context->id;
    return CUDA_SUCCESS;
}

CUresult sim_cuCtxGetApiVersion(CUcontext ctx, unsigned int *version) {
    struct context *context;
    CUresult result = given_or_current(ctx, &context);
    if (result != CUDA_SUCCESS) return result;
    if (!version) return CUDA_ERROR_INVALID_VALUE;
    *version = 3020;
    return CUDA_SUCCESS;
}

CUresult sim_cuCtxSetLimit(CUlimit limit, size_t value) {
    NEED_CONTEXT(context);
    if (limit >= CU_LIMIT_MAX) return CUDA_ERROR_UNSUPPORTED_LIMIT;
    context->limits[limit] = value;
    return CUDA_SUCCESS;
}

CUresult sim_cuCtxGetLimit(size_t *pvalue, CUlimit limit) {
    NEED_CONTEXT(context);
    if (!pvalue) return CUDA_ERROR_INVALID_VALUE;
    if (limit >= CU_LIMIT_MAX) return CUDA_ERROR_UNSUPPORTED_LIMIT;
    *pvalue = context->limits[limit];
    return CUDA_SUCCESS;
}

CUresult sim_cuCtxGetCacheConfig(CUfunc_cache *pconfig) {
    NEED_CONTEXT(context);
    if (!pconfig) return CUDA_ERROR_INVALID_VALUE;
    *pconfig = CU_FUNC_CACHE_PREFER_NONE;
    return CUDA_SUCCESS;
}

CUresult sim_cuCtxGetSharedMemConfig(CUsharedconfig *pConfig) {
    NEED_CONTEXT(context);
    if (!pConfig) return CUDA_ERROR_INVALID_VALUE;
    *pConfig = CU_SHARED_MEM_CONFIG_FOUR_BYTE_BANK_SIZE;
    return CUDA_SUCCESS;
}

CUresult sim_cuCtxGetStreamPriorityRange(int *leastPriority, int *greatestPriority) {
    NEED_CONTEXT(context);
    if (leastPriority) *leastPriority = 0;
    if (greatestPriority) *greatestPriority = -5;
    return CUDA_SUCCESS;
}

// ---- peers --------------------------------------------------------------------------------------

CUresult sim_cuCtxEnablePeerAccess(CUcontext peerContext, unsigned int Flags) {
    NEED_CONTEXT(context);
    struct context *peer = (struct context *)peerContext;
    if (Flags) return CUDA_ERROR_INVALID_VALUE;
    if (!context_is_live(peer)) return CUDA_ERROR_INVALID_CONTEXT;
    if (peer->device == context->device) return CUDA_ERROR_INVALID_DEVICE;
    uint64_t bit = 1ull << peer->device;
    uint64_t before = atomic_fetch_or(&context->peers, bit);
    return before & bit ? CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED : CUDA_SUCCESS;
}

CUresult sim_cuCtxDisablePeerAccess(CUcontext peerContext) {
    NEED_CONTEXT(context);
    struct context *peer = (struct context *)peerContext;
    if (!context_is_live(peer)) return CUDA_ERROR_INVALID_CONTEXT;
    uint64_t bit = 1ull << peer->device;
    uint64_t before = atomic_fetch_and(&context->peers, ~bit);
    return before & bit ? CUDA_SUCCESS : CUDA_ERROR_PEER_ACCESS_NOT_ENABLED;
}

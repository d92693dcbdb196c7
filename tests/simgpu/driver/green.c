// SPDX-License-Identifier: Apache-2.0
// Green contexts: a share of a device's multiprocessors with the memory of its primary context.
// Shares have no effect here.
#include "context.h"
#include "device.h"
#include "stream.h"

#include <stdlib.h>
#include <string.h>

static void describe(CUdevResource *resource, unsigned multiprocessors) {
    memset(resource, 0, sizeof *resource);
    resource->type = CU_DEV_RESOURCE_TYPE_SM;
    resource->sm.smCount = multiprocessors;
}

CUresult sim_cuDeviceGetDevResource(CUdevice device, CUdevResource *resource,
                                    CUdevResourceType type) {
    if (!resource) return CUDA_ERROR_INVALID_VALUE;
    if (!device_exists(device)) return CUDA_ERROR_INVALID_DEVICE;
    if (type != CU_DEV_RESOURCE_TYPE_SM) return CUDA_ERROR_INVALID_RESOURCE_TYPE;
    describe(resource, 128);
    return CUDA_SUCCESS;
}

CUresult sim_cuDevSmResourceSplitByCount(CUdevResource *result, unsigned int *nbGroups,
                                         const CUdevResource *input, CUdevResource *remaining,
                                         unsigned int useFlags, unsigned int minCount) {
    (void)useFlags;
    if (!nbGroups || !input || minCount > input->sm.smCount) return CUDA_ERROR_INVALID_VALUE;
    if (input->type != CU_DEV_RESOURCE_TYPE_SM) return CUDA_ERROR_INVALID_RESOURCE_TYPE;
    unsigned size = minCount < 8 ? 8 : (unsigned)round_up(minCount, 8);
    unsigned most = input->sm.smCount / size;
    if (!result || *nbGroups > most) *nbGroups = most;
    for (unsigned i = 0; result && i < *nbGroups; i++) describe(&result[i], size);
    if (remaining) describe(remaining, input->sm.smCount - *nbGroups * size);
    return CUDA_SUCCESS;
}

CUresult sim_cuDevResourceGenerateDesc(CUdevResourceDesc *phDesc, CUdevResource *resources,
                                       unsigned int nbResources) {
    if (!phDesc || !resources || !nbResources) return CUDA_ERROR_INVALID_VALUE;
    *phDesc = object_new(OBJECT_RESOURCES, sizeof(struct object));
    return *phDesc ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

CUresult sim_cuGreenCtxCreate(CUgreenCtx *phCtx, CUdevResourceDesc desc, CUdevice dev,
                              unsigned int flags) {
    if (!phCtx || !object_is(desc, OBJECT_RESOURCES) || flags != CU_GREEN_CTX_DEFAULT_STREAM)
        return CUDA_ERROR_INVALID_VALUE;
    if (!device_exists(dev)) return CUDA_ERROR_INVALID_DEVICE;
    struct context *green = context_new_green(devices[dev].primary);
    if (!green) return CUDA_ERROR_OUT_OF_MEMORY;
    *phCtx = (CUgreenCtx)green;
    return CUDA_SUCCESS;
}

static bool is_green(const struct context *context) {
    return object_is(context, OBJECT_CONTEXT) && context->owner != context;
}

CUresult sim_cuGreenCtxDestroy(CUgreenCtx hCtx) {
    if (!is_green((struct context *)hCtx)) return CUDA_ERROR_INVALID_CONTEXT;
    context_delete_green((struct context *)hCtx);
    return CUDA_SUCCESS;
}

CUresult sim_cuCtxFromGreenCtx(CUcontext *pContext, CUgreenCtx hCtx) {
    if (!pContext) return CUDA_ERROR_INVALID_VALUE;
    if (!is_green((struct context *)hCtx)) return CUDA_ERROR_INVALID_CONTEXT;
    *pContext = (CUcontext)hCtx;
    return CUDA_SUCCESS;
}

CUresult sim_cuGreenCtxGetId(CUgreenCtx greenCtx, unsigned long long *greenCtxId) {
    if (!greenCtxId) return CUDA_ERROR_INVALID_VALUE;
    if (!is_green((struct context *)greenCtx)) return CUDA_ERROR_INVALID_CONTEXT;
    *greenCtxId = ((struct context *)greenCtx)->id;
    return CUDA_SUCCESS;
}

CUresult sim_cuGreenCtxGetDevResource(CUgreenCtx hCtx, CUdevResource *resource,
                                      CUdevResourceType type) {
    if (!is_green((struct context *)hCtx)) return CUDA_ERROR_INVALID_CONTEXT;
    return sim_cuDeviceGetDevResource(((struct context *)hCtx)->device, resource, type);
}

CUresult sim_cuCtxGetDevResource(CUcontext hCtx, CUdevResource *resource, CUdevResourceType type) {
    if (!context_is_live((struct context *)hCtx)) return CUDA_ERROR_INVALID_CONTEXT;
    return sim_cuDeviceGetDevResource(((struct context *)hCtx)->device, resource, type);
}

CUresult sim_cuGreenCtxStreamCreate(CUstream *phStream, CUgreenCtx greenCtx, unsigned int flags,
                                    int priority) {
    if (!is_green((struct context *)greenCtx)) return CUDA_ERROR_INVALID_CONTEXT;
    if (!phStream || flags != CU_STREAM_NON_BLOCKING) return CUDA_ERROR_INVALID_VALUE;
    *phStream = (CUstream)stream_new((struct context *)greenCtx, flags, priority);
    return *phStream ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

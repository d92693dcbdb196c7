// SPDX-License-Identifier: Apache-2.0
// Texture and surface objects: they remember what they were made of, which is all a program without
// running kernels can see.
#include "context.h"

struct texture {
    struct object object;
    CUDA_RESOURCE_DESC resource;
    CUDA_TEXTURE_DESC texture;
    CUDA_RESOURCE_VIEW_DESC view;
    bool has_view;
};

static struct texture *texture_of(unsigned long long handle) {
    struct texture *texture = (struct texture *)(uintptr_t)handle;
    return object_is(texture, OBJECT_TEXTURE) ? texture : NULL;
}

CUresult sim_cuTexObjectCreate(CUtexObject *pTexObject, const CUDA_RESOURCE_DESC *pResDesc,
                               const CUDA_TEXTURE_DESC *pTexDesc,
                               const CUDA_RESOURCE_VIEW_DESC *pResViewDesc) {
    NEED_CONTEXT(context);
    if (!pTexObject || !pResDesc || !pTexDesc) return CUDA_ERROR_INVALID_VALUE;
    struct texture *texture = object_new(OBJECT_TEXTURE, sizeof *texture);
    if (!texture) return CUDA_ERROR_OUT_OF_MEMORY;
    texture->resource = *pResDesc;
    texture->texture = *pTexDesc;
    texture->has_view = pResViewDesc != NULL;
    if (pResViewDesc) texture->view = *pResViewDesc;
    *pTexObject = (CUtexObject)(uintptr_t)texture;
    return CUDA_SUCCESS;
}

CUresult sim_cuTexObjectDestroy(CUtexObject texObject) {
    if (!texture_of(texObject)) return CUDA_ERROR_INVALID_HANDLE;
    object_delete(texture_of(texObject), OBJECT_TEXTURE);
    return CUDA_SUCCESS;
}

CUresult sim_cuTexObjectGetResourceDesc(CUDA_RESOURCE_DESC *pResDesc, CUtexObject texObject) {
    struct texture *texture = texture_of(texObject);
    if (!texture || !pResDesc) return CUDA_ERROR_INVALID_VALUE;
    *pResDesc = texture->resource;
    return CUDA_SUCCESS;
}

CUresult sim_cuTexObjectGetTextureDesc(CUDA_TEXTURE_DESC *pTexDesc, CUtexObject texObject) {
    struct texture *texture = texture_of(texObject);
    if (!texture || !pTexDesc) return CUDA_ERROR_INVALID_VALUE;
    *pTexDesc = texture->texture;
    return CUDA_SUCCESS;
}

CUresult sim_cuTexObjectGetResourceViewDesc(CUDA_RESOURCE_VIEW_DESC *pResViewDesc,
                                            CUtexObject texObject) {
    struct texture *texture = texture_of(texObject);
    if (!texture || !pResViewDesc || !texture->has_view) return CUDA_ERROR_INVALID_VALUE;
    *pResViewDesc = texture->view;
    return CUDA_SUCCESS;
}

CUresult sim_cuSurfObjectCreate(CUsurfObject *pSurfObject, const CUDA_RESOURCE_DESC *pResDesc) {
    CUDA_TEXTURE_DESC none = {0};
    return sim_cuTexObjectCreate(pSurfObject, pResDesc, &none, NULL);
}

CUresult sim_cuSurfObjectDestroy(CUsurfObject surfObject) {
    return sim_cuTexObjectDestroy(surfObject);
}

CUresult sim_cuSurfObjectGetResourceDesc(CUDA_RESOURCE_DESC *pResDesc, CUsurfObject surfObject) {
    return sim_cuTexObjectGetResourceDesc(pResDesc, surfObject);
}

CUresult sim_cuTexRefCreate(CUtexref *pTexRef) {
    NEED_CONTEXT(context);
    if (!pTexRef) return CUDA_ERROR_INVALID_VALUE;
    *pTexRef = object_new(OBJECT_TEXTURE, sizeof(struct texture));
    return *pTexRef ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

CUresult sim_cuTexRefDestroy(CUtexref hTexRef) {
    return sim_cuTexObjectDestroy((CUtexObject)(uintptr_t)hTexRef);
}

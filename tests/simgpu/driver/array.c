// SPDX-License-Identifier: Apache-2.0
// Arrays and mipmapped arrays: linear storage behind a handle.
#include "array.h"

#include "capture.h"
#include "device.h"

#include <string.h>

#define MOST_LEVELS 32

struct mipmap {
    struct object object;
    struct mipmap *next;
    struct context *context;
    CUDA_ARRAY3D_DESCRIPTOR descriptor;
    unsigned levels;
    size_t bytes;
    uintptr_t base;
    struct array *views[MOST_LEVELS];
    bool is_imported; // of external memory: books nothing
};

static struct array *arrays;
static struct mipmap *mipmaps;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

// ---- sizes --------------------------------------------------------------------------------------

struct format {
    CUarray_format format;
    unsigned bits; // per channel, per texel, or per 4x4 block
    enum { PER_CHANNEL, PER_TEXEL, PER_BLOCK } unit;
};

#define FORMAT(name, bits, unit)                                                                   \
    { CU_AD_FORMAT_##name, bits, unit }

static const struct format formats[] = {
    FORMAT(UNSIGNED_INT8, 8, PER_CHANNEL),
    FORMAT(UNSIGNED_INT16, 16, PER_CHANNEL),
    FORMAT(UNSIGNED_INT32, 32, PER_CHANNEL),
    FORMAT(SIGNED_INT8, 8, PER_CHANNEL),
    FORMAT(SIGNED_INT16, 16, PER_CHANNEL),
    FORMAT(SIGNED_INT32, 32, PER_CHANNEL),
    FORMAT(HALF, 16, PER_CHANNEL),
    FORMAT(FLOAT, 32, PER_CHANNEL),
    FORMAT(UNORM_INT8X1, 8, PER_TEXEL),
    FORMAT(UNORM_INT8X2, 16, PER_TEXEL),
    FORMAT(UNORM_INT8X4, 32, PER_TEXEL),
    FORMAT(UNORM_INT16X1, 16, PER_TEXEL),
    FORMAT(UNORM_INT16X2, 32, PER_TEXEL),
    FORMAT(UNORM_INT16X4, 64, PER_TEXEL),
    FORMAT(SNORM_INT8X1, 8, PER_TEXEL),
    FORMAT(SNORM_INT8X2, 16, PER_TEXEL),
    FORMAT(SNORM_INT8X4, 32, PER_TEXEL),
    FORMAT(SNORM_INT16X1, 16, PER_TEXEL),
    FORMAT(SNORM_INT16X2, 32, PER_TEXEL),
    FORMAT(SNORM_INT16X4, 64, PER_TEXEL),
    FORMAT(BC1_UNORM, 64, PER_BLOCK),
    FORMAT(BC1_UNORM_SRGB, 64, PER_BLOCK),
    FORMAT(BC2_UNORM, 128, PER_BLOCK),
    FORMAT(BC2_UNORM_SRGB, 128, PER_BLOCK),
    FORMAT(BC3_UNORM, 128, PER_BLOCK),
    FORMAT(BC3_UNORM_SRGB, 128, PER_BLOCK),
    FORMAT(BC4_UNORM, 64, PER_BLOCK),
    FORMAT(BC4_SNORM, 64, PER_BLOCK),
    FORMAT(BC5_UNORM, 128, PER_BLOCK),
    FORMAT(BC5_SNORM, 128, PER_BLOCK),
    FORMAT(BC6H_UF16, 128, PER_BLOCK),
    FORMAT(BC6H_SF16, 128, PER_BLOCK),
    FORMAT(BC7_UNORM, 128, PER_BLOCK),
    FORMAT(BC7_UNORM_SRGB, 128, PER_BLOCK),
    FORMAT(NV12, 12, PER_TEXEL),
    FORMAT(P010, 24, PER_TEXEL),
    FORMAT(P016, 24, PER_TEXEL),
    FORMAT(NV16, 16, PER_TEXEL),
    FORMAT(P210, 32, PER_TEXEL),
    FORMAT(P216, 32, PER_TEXEL),
    FORMAT(YUY2, 16, PER_TEXEL),
    FORMAT(Y210, 32, PER_TEXEL),
    FORMAT(Y216, 32, PER_TEXEL),
    FORMAT(AYUV, 32, PER_TEXEL),
    FORMAT(Y410, 32, PER_TEXEL),
    FORMAT(Y416, 64, PER_TEXEL),
    FORMAT(Y444_PLANAR8, 24, PER_TEXEL),
    FORMAT(Y444_PLANAR10, 48, PER_TEXEL),
    FORMAT(YUV444_8bit_SemiPlanar, 24, PER_TEXEL),
    FORMAT(YUV444_16bit_SemiPlanar, 48, PER_TEXEL),
    FORMAT(UNORM_INT_101010_2, 32, PER_TEXEL),
};

static const struct format *find_format(CUarray_format format) {
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++)
        if (formats[i].format == format) return &formats[i];
    return NULL;
}

static size_t at_least_one(size_t value) {
    return value ? value : 1;
}

// Bytes of a row and number of rows of one slice.
static void measure(const CUDA_ARRAY3D_DESCRIPTOR *d, size_t *row, size_t *rows) {
    const struct format *format = find_format(d->Format);
    size_t bits = format->bits * (format->unit == PER_CHANNEL ? (size_t)d->NumChannels : 1);
    if (format->unit == PER_BLOCK) {
        *row = (d->Width + 3) / 4 * bits / 8;
        *rows = (at_least_one(d->Height) + 3) / 4;
    } else {
        *row = d->Width * bits / 8;
        *rows = at_least_one(d->Height);
    }
}

static size_t level_bytes(const CUDA_ARRAY3D_DESCRIPTOR *d) {
    size_t row, rows;
    measure(d, &row, &rows);
    return row * rows * at_least_one(d->Depth);
}

// Layers and faces do not shrink from level to level.
static CUDA_ARRAY3D_DESCRIPTOR level_of(const CUDA_ARRAY3D_DESCRIPTOR *d, unsigned level) {
    CUDA_ARRAY3D_DESCRIPTOR smaller = *d;
    bool layers = d->Flags & (CUDA_ARRAY3D_LAYERED | CUDA_ARRAY3D_CUBEMAP);
    smaller.Width = at_least_one(d->Width >> level);
    if (d->Height) smaller.Height = at_least_one(d->Height >> level);
    if (d->Depth && !layers) smaller.Depth = at_least_one(d->Depth >> level);
    return smaller;
}

static bool owns_memory(const CUDA_ARRAY3D_DESCRIPTOR *d) {
    return !(d->Flags & (CUDA_ARRAY3D_SPARSE | CUDA_ARRAY3D_DEFERRED_MAPPING));
}

static bool is_sound(const CUDA_ARRAY3D_DESCRIPTOR *d) {
    const struct format *format = d ? find_format(d->Format) : NULL;
    bool channels = d && d->NumChannels >= 1 && d->NumChannels <= 4;
    bool cube = d && d->Flags & CUDA_ARRAY3D_CUBEMAP;
    if (!format || !channels || !d->Width || (d->Depth && !d->Height && !(d->Flags & 1)))
        return false;
    return !cube || (d->Width == d->Height && d->Depth % 6 == 0);
}

// ---- storage ------------------------------------------------------------------------------------

static CUresult take_storage(struct context *context, size_t bytes, uintptr_t *base) {
    struct block block = {
        .size = bytes, .kind = BLOCK_ARRAY, .space = SPACE_ARRAY, .device = context->device};
    *base = 0;
    if (bytes) {
        CUresult result = heap_alloc(devices[context->device].plain, &block);
        if (result != CUDA_SUCCESS) return result;
        *base = block.base;
    }
    books_alloc(context->device, SPACE_ARRAY, bytes);
    return CUDA_SUCCESS;
}

static void give_storage(struct context *context, size_t bytes, uintptr_t base) {
    struct block block;
    books_free(context->device, SPACE_ARRAY, bytes);
    if (base && block_take(base, KIND(BLOCK_ARRAY), &block)) heap_free(&block);
}

static void lay_out(struct array *array) {
    size_t rows;
    measure(&array->descriptor, &array->pitch, &rows);
    array->slice = array->pitch * rows;
}

bool array_is(CUarray handle) {
    return object_is(handle, OBJECT_ARRAY);
}

bool array_side(CUarray handle, size_t x, size_t y, size_t z, struct copy_side *side) {
    struct array *array = (struct array *)handle;
    side->pitch = array->pitch;
    side->slice = array->slice;
    side->base = array->base + x + y * array->pitch + z * array->slice;
    return array->base != 0;
}

// ---- arrays -------------------------------------------------------------------------------------

static CUresult create(CUarray *handle, const CUDA_ARRAY3D_DESCRIPTOR *descriptor) {
    NEED_CONTEXT(context);
    if (!handle || !is_sound(descriptor)) return CUDA_ERROR_INVALID_VALUE;
    CUresult result = capture_forbids_unsafe();
    if (result != CUDA_SUCCESS) return result;
    struct array *array = object_new(OBJECT_ARRAY, sizeof *array);
    if (!array) return CUDA_ERROR_OUT_OF_MEMORY;
    array->context = context->owner;
    array->descriptor = *descriptor;
    array->bytes = owns_memory(descriptor) ? level_bytes(descriptor) : 0;
    result = take_storage(context, array->bytes, &array->base);
    if (result != CUDA_SUCCESS) {
        object_delete(array, OBJECT_ARRAY);
        return result;
    }
    lay_out(array);
    pthread_mutex_lock(&lock);
    array->next = arrays;
    arrays = array;
    pthread_mutex_unlock(&lock);
    *handle = (CUarray)array;
    return CUDA_SUCCESS;
}

ALLOCATES CUresult sim_cuArray3DCreate_v2(CUarray *pHandle,
                                          const CUDA_ARRAY3D_DESCRIPTOR *pAllocateArray) {
    ATTEMPT(context_device(), SPACE_ARRAY);
    return create(pHandle, pAllocateArray);
}

ALLOCATES CUresult sim_cuArray3DCreate(CUarray *pHandle,
                                       const CUDA_ARRAY3D_DESCRIPTOR_v1 *pAllocateArray) {
    ATTEMPT(context_device(), SPACE_ARRAY);
    if (!pAllocateArray) return CUDA_ERROR_INVALID_VALUE;
    CUDA_ARRAY3D_DESCRIPTOR wide = {pAllocateArray->Width,       pAllocateArray->Height,
                                    pAllocateArray->Depth,       pAllocateArray->Format,
                                    pAllocateArray->NumChannels, pAllocateArray->Flags};
    return create(pHandle, &wide);
}

ALLOCATES CUresult sim_cuArrayCreate_v2(CUarray *pHandle,
                                        const CUDA_ARRAY_DESCRIPTOR *pAllocateArray) {
    ATTEMPT(context_device(), SPACE_ARRAY);
    if (!pAllocateArray) return CUDA_ERROR_INVALID_VALUE;
    CUDA_ARRAY3D_DESCRIPTOR deep = {.Width = pAllocateArray->Width,
                                    .Height = pAllocateArray->Height,
                                    .Format = pAllocateArray->Format,
                                    .NumChannels = pAllocateArray->NumChannels};
    return create(pHandle, &deep);
}

ALLOCATES CUresult sim_cuArrayCreate(CUarray *pHandle,
                                     const CUDA_ARRAY_DESCRIPTOR_v1 *pAllocateArray) {
    ATTEMPT(context_device(), SPACE_ARRAY);
    if (!pAllocateArray) return CUDA_ERROR_INVALID_VALUE;
    CUDA_ARRAY3D_DESCRIPTOR deep = {.Width = pAllocateArray->Width,
                                    .Height = pAllocateArray->Height,
                                    .Format = pAllocateArray->Format,
                                    .NumChannels = pAllocateArray->NumChannels};
    return create(pHandle, &deep);
}

// The lock is held.
static void unlink_array(struct array *array) {
    struct array **at = &arrays;
    while (*at && *at != array) at = &(*at)->next;
    if (*at) *at = array->next;
}

CUresult sim_cuArrayDestroy(CUarray hArray) {
    struct array *array = (struct array *)hArray;
    if (!array_is(hArray)) return CUDA_ERROR_INVALID_HANDLE;
    if (array->owner) return CUDA_ERROR_INVALID_VALUE; // a level belongs to its mipmapped array
    device_synchronize(array->context->device);
    pthread_mutex_lock(&lock);
    unlink_array(array);
    pthread_mutex_unlock(&lock);
    give_storage(array->context, array->bytes, array->base);
    object_delete(array, OBJECT_ARRAY);
    return CUDA_SUCCESS;
}

CUresult sim_cuArray3DGetDescriptor_v2(CUDA_ARRAY3D_DESCRIPTOR *pArrayDescriptor, CUarray hArray) {
    if (!pArrayDescriptor) return CUDA_ERROR_INVALID_VALUE;
    if (!array_is(hArray)) return CUDA_ERROR_INVALID_HANDLE;
    *pArrayDescriptor = ((struct array *)hArray)->descriptor;
    return CUDA_SUCCESS;
}

CUresult sim_cuArray3DGetDescriptor(CUDA_ARRAY3D_DESCRIPTOR_v1 *pArrayDescriptor, CUarray hArray) {
    if (!pArrayDescriptor) return CUDA_ERROR_INVALID_VALUE;
    if (!array_is(hArray)) return CUDA_ERROR_INVALID_HANDLE;
    const CUDA_ARRAY3D_DESCRIPTOR *d = &((struct array *)hArray)->descriptor;
    *pArrayDescriptor =
        (CUDA_ARRAY3D_DESCRIPTOR_v1){(unsigned)d->Width, (unsigned)d->Height, (unsigned)d->Depth,
                                     d->Format,          d->NumChannels,      d->Flags};
    return CUDA_SUCCESS;
}

CUresult sim_cuArrayGetDescriptor_v2(CUDA_ARRAY_DESCRIPTOR *pArrayDescriptor, CUarray hArray) {
    if (!pArrayDescriptor) return CUDA_ERROR_INVALID_VALUE;
    if (!array_is(hArray)) return CUDA_ERROR_INVALID_HANDLE;
    const CUDA_ARRAY3D_DESCRIPTOR *d = &((struct array *)hArray)->descriptor;
    *pArrayDescriptor = (CUDA_ARRAY_DESCRIPTOR){d->Width, d->Height, d->Format, d->NumChannels};
    return CUDA_SUCCESS;
}

CUresult sim_cuArrayGetDescriptor(CUDA_ARRAY_DESCRIPTOR_v1 *pArrayDescriptor, CUarray hArray) {
    CUDA_ARRAY_DESCRIPTOR d;
    CUresult result = sim_cuArrayGetDescriptor_v2(pArrayDescriptor ? &d : NULL, hArray);
    if (result != CUDA_SUCCESS) return result;
    *pArrayDescriptor =
        (CUDA_ARRAY_DESCRIPTOR_v1){(unsigned)d.Width, (unsigned)d.Height, d.Format, d.NumChannels};
    return CUDA_SUCCESS;
}

static CUresult requirements(CUDA_ARRAY_MEMORY_REQUIREMENTS *out, size_t bytes) {
    if (!out) return CUDA_ERROR_INVALID_VALUE;
    *out = (CUDA_ARRAY_MEMORY_REQUIREMENTS){.size = round_up(bytes, 65536), .alignment = 65536};
    return CUDA_SUCCESS;
}

CUresult sim_cuArrayGetMemoryRequirements(CUDA_ARRAY_MEMORY_REQUIREMENTS *memoryRequirements,
                                          CUarray array, CUdevice device) {
    if (!array_is(array)) return CUDA_ERROR_INVALID_HANDLE;
    if (!device_exists(device)) return CUDA_ERROR_INVALID_DEVICE;
    return requirements(memoryRequirements, level_bytes(&((struct array *)array)->descriptor));
}

// A tile of 64 KiB, whatever the texel; nothing depends on its shape.
static CUresult sparse_properties(CUDA_ARRAY_SPARSE_PROPERTIES *out, unsigned flags,
                                  unsigned levels) {
    if (!out || !(flags & CUDA_ARRAY3D_SPARSE)) return CUDA_ERROR_INVALID_VALUE;
    *out = (CUDA_ARRAY_SPARSE_PROPERTIES){
        .tileExtent = {128, 128, 1}, .miptailFirstLevel = levels, .miptailSize = 0};
    return CUDA_SUCCESS;
}

CUresult sim_cuArrayGetSparseProperties(CUDA_ARRAY_SPARSE_PROPERTIES *sparseProperties,
                                        CUarray array) {
    if (!array_is(array)) return CUDA_ERROR_INVALID_HANDLE;
    return sparse_properties(sparseProperties, ((struct array *)array)->descriptor.Flags, 1);
}

// ---- mipmapped arrays ---------------------------------------------------------------------------

static CUresult create_mipmap(struct context *context, const CUDA_ARRAY3D_DESCRIPTOR *descriptor,
                              unsigned levels, struct mipmap **made) {
    if (!is_sound(descriptor) || !levels || levels > MOST_LEVELS) return CUDA_ERROR_INVALID_VALUE;
    struct mipmap *mipmap = object_new(OBJECT_MIPMAP, sizeof *mipmap);
    if (!mipmap) return CUDA_ERROR_OUT_OF_MEMORY;
    mipmap->context = context->owner;
    mipmap->descriptor = *descriptor;
    size_t longest = at_least_one(descriptor->Width) | descriptor->Height | descriptor->Depth;
    unsigned most = 64 - (unsigned)__builtin_clzll(longest);
    mipmap->levels = levels < most ? levels : most;
    for (unsigned i = 0; i < mipmap->levels && owns_memory(descriptor); i++) {
        CUDA_ARRAY3D_DESCRIPTOR level = level_of(descriptor, i);
        mipmap->bytes += level_bytes(&level);
    }
    *made = mipmap;
    return CUDA_SUCCESS;
}

static void link_mipmap(struct mipmap *mipmap) {
    pthread_mutex_lock(&lock);
    mipmap->next = mipmaps;
    mipmaps = mipmap;
    pthread_mutex_unlock(&lock);
}

ALLOCATES CUresult sim_cuMipmappedArrayCreate(CUmipmappedArray *pHandle,
                                              const CUDA_ARRAY3D_DESCRIPTOR *pMipmappedArrayDesc,
                                              unsigned int numMipmapLevels) {
    ATTEMPT(context_device(), SPACE_ARRAY);
    struct mipmap *mipmap;
    NEED_CONTEXT(context);
    if (!pHandle) return CUDA_ERROR_INVALID_VALUE;
    CUresult result = create_mipmap(context, pMipmappedArrayDesc, numMipmapLevels, &mipmap);
    if (result != CUDA_SUCCESS) return result;
    result = take_storage(context, mipmap->bytes, &mipmap->base);
    if (result != CUDA_SUCCESS) {
        object_delete(mipmap, OBJECT_MIPMAP);
        return result;
    }
    link_mipmap(mipmap);
    *pHandle = (CUmipmappedArray)mipmap;
    return CUDA_SUCCESS;
}

CUresult mipmap_of_external(const CUDA_EXTERNAL_MEMORY_MIPMAPPED_ARRAY_DESC *description,
                            uintptr_t base, CUmipmappedArray *handle) {
    struct mipmap *mipmap;
    NEED_CONTEXT(context);
    CUresult result =
        create_mipmap(context, &description->arrayDesc, description->numLevels, &mipmap);
    if (result != CUDA_SUCCESS) return result;
    mipmap->base = base;
    mipmap->is_imported = true;
    books_alloc(context->device, SPACE_IMPORTED, 0);
    link_mipmap(mipmap);
    *handle = (CUmipmappedArray)mipmap;
    return CUDA_SUCCESS;
}

CUresult sim_cuMipmappedArrayGetLevel(CUarray *pLevelArray, CUmipmappedArray hMipmappedArray,
                                      unsigned int level) {
    struct mipmap *mipmap = (struct mipmap *)hMipmappedArray;
    if (!object_is(mipmap, OBJECT_MIPMAP)) return CUDA_ERROR_INVALID_HANDLE;
    if (!pLevelArray || level >= mipmap->levels) return CUDA_ERROR_INVALID_VALUE;
    pthread_mutex_lock(&lock);
    struct array *view = mipmap->views[level];
    if (!view && (view = object_new(OBJECT_ARRAY, sizeof *view))) {
        view->context = mipmap->context;
        view->owner = mipmap;
        view->descriptor = level_of(&mipmap->descriptor, level);
        view->base = mipmap->base;
        for (unsigned i = 0; i < level && mipmap->base; i++) {
            CUDA_ARRAY3D_DESCRIPTOR larger = level_of(&mipmap->descriptor, i);
            view->base += level_bytes(&larger);
        }
        lay_out(view);
        mipmap->views[level] = view;
    }
    pthread_mutex_unlock(&lock);
    *pLevelArray = (CUarray)view;
    return view ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

static void end_mipmap(struct mipmap *mipmap) {
    for (unsigned i = 0; i < mipmap->levels; i++)
        if (mipmap->views[i]) object_delete(mipmap->views[i], OBJECT_ARRAY);
    if (mipmap->is_imported)
        books_free(mipmap->context->device, SPACE_IMPORTED, 0);
    else
        give_storage(mipmap->context, mipmap->bytes, mipmap->base);
    object_delete(mipmap, OBJECT_MIPMAP);
}

// The lock is held.
static void unlink_mipmap(struct mipmap *mipmap) {
    struct mipmap **at = &mipmaps;
    while (*at && *at != mipmap) at = &(*at)->next;
    if (*at) *at = mipmap->next;
}

CUresult sim_cuMipmappedArrayDestroy(CUmipmappedArray hMipmappedArray) {
    struct mipmap *mipmap = (struct mipmap *)hMipmappedArray;
    if (!object_is(mipmap, OBJECT_MIPMAP)) return CUDA_ERROR_INVALID_HANDLE;
    device_synchronize(mipmap->context->device);
    pthread_mutex_lock(&lock);
    unlink_mipmap(mipmap);
    pthread_mutex_unlock(&lock);
    end_mipmap(mipmap);
    return CUDA_SUCCESS;
}

CUresult
sim_cuMipmappedArrayGetMemoryRequirements(CUDA_ARRAY_MEMORY_REQUIREMENTS *memoryRequirements,
                                          CUmipmappedArray mipmap, CUdevice device) {
    if (!object_is(mipmap, OBJECT_MIPMAP)) return CUDA_ERROR_INVALID_HANDLE;
    if (!device_exists(device)) return CUDA_ERROR_INVALID_DEVICE;
    const struct mipmap *m = (const struct mipmap *)mipmap;
    size_t bytes = 0;
    for (unsigned i = 0; i < m->levels; i++) {
        CUDA_ARRAY3D_DESCRIPTOR level = level_of(&m->descriptor, i);
        bytes += level_bytes(&level);
    }
    return requirements(memoryRequirements, bytes);
}

CUresult sim_cuMipmappedArrayGetSparseProperties(CUDA_ARRAY_SPARSE_PROPERTIES *sparseProperties,
                                                 CUmipmappedArray mipmap) {
    if (!object_is(mipmap, OBJECT_MIPMAP)) return CUDA_ERROR_INVALID_HANDLE;
    const struct mipmap *m = (const struct mipmap *)mipmap;
    return sparse_properties(sparseProperties, m->descriptor.Flags, m->levels);
}

// ---- the end of a context -----------------------------------------------------------------------

void arrays_end_context(struct context *context) {
    for (;;) {
        pthread_mutex_lock(&lock);
        struct array *array = arrays;
        while (array && array->context != context) array = array->next;
        if (array) unlink_array(array);
        pthread_mutex_unlock(&lock);
        if (!array) break;
        give_storage(context, array->bytes, array->base);
        object_delete(array, OBJECT_ARRAY);
    }
    for (;;) {
        pthread_mutex_lock(&lock);
        struct mipmap *mipmap = mipmaps;
        while (mipmap && mipmap->context != context) mipmap = mipmap->next;
        if (mipmap) unlink_mipmap(mipmap);
        pthread_mutex_unlock(&lock);
        if (!mipmap) return;
        end_mipmap(mipmap);
    }
}

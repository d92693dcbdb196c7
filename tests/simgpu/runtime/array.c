// SPDX-License-Identifier: Apache-2.0
//
// Arrays. The driver describes elements by a format and a number of channels, the runtime by the
// bits of each channel and their kind; the flags are the same.

#include "runtime.h"

// The formats whose channels a runtime descriptor spells out.
static const struct {
    CUarray_format format;
    int bits;
    enum cudaChannelFormatKind kind;
} channel_formats[] = {
    {CU_AD_FORMAT_UNSIGNED_INT8, 8, cudaChannelFormatKindUnsigned},
    {CU_AD_FORMAT_UNSIGNED_INT16, 16, cudaChannelFormatKindUnsigned},
    {CU_AD_FORMAT_UNSIGNED_INT32, 32, cudaChannelFormatKindUnsigned},
    {CU_AD_FORMAT_SIGNED_INT8, 8, cudaChannelFormatKindSigned},
    {CU_AD_FORMAT_SIGNED_INT16, 16, cudaChannelFormatKindSigned},
    {CU_AD_FORMAT_SIGNED_INT32, 32, cudaChannelFormatKindSigned},
    {CU_AD_FORMAT_HALF, 16, cudaChannelFormatKindFloat},
    {CU_AD_FORMAT_FLOAT, 32, cudaChannelFormatKindFloat},
};

// The formats that have a kind of their own: first and last kind, format of the first, from which
// both enumerations count up together.
static const struct {
    enum cudaChannelFormatKind first, last;
    CUarray_format format;
} whole_formats[] = {
    {cudaChannelFormatKindNV12, cudaChannelFormatKindNV12, CU_AD_FORMAT_NV12},
    {cudaChannelFormatKindUnsignedNormalized8X1, cudaChannelFormatKindSignedNormalized16X4,
     CU_AD_FORMAT_UNORM_INT8X1},
    {cudaChannelFormatKindUnsignedBlockCompressed1,
     cudaChannelFormatKindUnsignedBlockCompressed7SRGB, CU_AD_FORMAT_BC1_UNORM},
};

enum {
    CHANNEL_FORMATS = sizeof channel_formats / sizeof *channel_formats,
    WHOLE_FORMATS = sizeof whole_formats / sizeof *whole_formats,
};

// The number of leading channels that have bits: all of the same width, and no gap.
static unsigned count_channels(const struct cudaChannelFormatDesc *desc) {
    const int bits[] = {desc->x, desc->y, desc->z, desc->w};
    unsigned count = 0;
    while (count < 4 && bits[count] == desc->x) count++;
    for (unsigned i = count; i < 4; i++)
        if (bits[i] != 0) return 0;
    return desc->x > 0 ? count : 0;
}

bool cudart_array_format(const struct cudaChannelFormatDesc *desc, CUDA_ARRAY3D_DESCRIPTOR *array) {
    array->NumChannels = count_channels(desc);
    for (int i = 0; i < WHOLE_FORMATS; i++) {
        if (desc->f < whole_formats[i].first || desc->f > whole_formats[i].last) continue;
        array->Format =
            (CUarray_format)(whole_formats[i].format + desc->f - whole_formats[i].first);
        return array->NumChannels > 0;
    }
    for (int i = 0; i < CHANNEL_FORMATS; i++) {
        if (desc->f != channel_formats[i].kind || desc->x != channel_formats[i].bits) continue;
        array->Format = channel_formats[i].format;
        return array->NumChannels == 1 || array->NumChannels == 2 || array->NumChannels == 4;
    }
    return false;
}

static struct cudaChannelFormatDesc channels(int count, int bits, enum cudaChannelFormatKind kind) {
    struct cudaChannelFormatDesc desc = {.f = kind};
    int *const members[] = {&desc.x, &desc.y, &desc.z, &desc.w};
    for (int i = 0; i < count && i < 4; i++) *members[i] = bits;
    return desc;
}

// The way back; normalised and compressed elements have 8 bits a channel unless they say 16.
static bool channel_desc(const CUDA_ARRAY3D_DESCRIPTOR *array, struct cudaChannelFormatDesc *desc) {
    int count = (int)array->NumChannels;
    for (int i = 0; i < CHANNEL_FORMATS; i++) {
        if (array->Format != channel_formats[i].format) continue;
        *desc = channels(count, channel_formats[i].bits, channel_formats[i].kind);
        return true;
    }
    for (int i = 0; i < WHOLE_FORMATS; i++) {
        int offset = (int)array->Format - (int)whole_formats[i].format;
        int kind = (int)whole_formats[i].first + offset;
        if (offset < 0 || kind > (int)whole_formats[i].last) continue;
        bool wide = (kind >= cudaChannelFormatKindUnsignedNormalized16X1 &&
                     kind <= cudaChannelFormatKindUnsignedNormalized16X4) ||
                    (kind >= cudaChannelFormatKindSignedNormalized16X1 &&
                     kind <= cudaChannelFormatKindSignedNormalized16X4);
        *desc = channels(count, wide ? 16 : 8, (enum cudaChannelFormatKind)kind);
        return true;
    }
    return false;
}

static cudaError_t describe(const struct cudaChannelFormatDesc *desc, struct cudaExtent extent,
                            unsigned flags, CUDA_ARRAY3D_DESCRIPTOR *array) {
    if (!desc) return cudaErrorInvalidValue;
    *array = (CUDA_ARRAY3D_DESCRIPTOR){
        .Width = extent.width,
        .Height = extent.height,
        .Depth = extent.depth,
        .Flags = flags,
    };
    return cudart_array_format(desc, array) ? cudaSuccess : cudaErrorInvalidChannelDescriptor;
}

static cudaError_t create(cudaArray_t *array, const struct cudaChannelFormatDesc *desc,
                          struct cudaExtent extent, unsigned flags) {
    CUDA_ARRAY3D_DESCRIPTOR wanted;
    if (!array) return cudaErrorInvalidValue;
    cudaError_t error = describe(desc, extent, flags, &wanted);
    if (error != cudaSuccess) return error;
    return cudart_error(DRIVER(cuArray3DCreate_v3020)((CUarray *)array, &wanted));
}

cudaError_t cudaMallocArray(cudaArray_t *array, const struct cudaChannelFormatDesc *desc,
                            size_t width, size_t height, unsigned flags) {
    struct cudaExtent extent = {.width = width, .height = height};
    return IN_CONTEXT(create(array, desc, extent, flags));
}

cudaError_t cudaMalloc3DArray(cudaArray_t *array, const struct cudaChannelFormatDesc *desc,
                              struct cudaExtent extent, unsigned flags) {
    return IN_CONTEXT(create(array, desc, extent, flags));
}

static cudaError_t create_mipmapped(cudaMipmappedArray_t *array,
                                    const struct cudaChannelFormatDesc *desc,
                                    struct cudaExtent extent, unsigned levels, unsigned flags) {
    CUDA_ARRAY3D_DESCRIPTOR wanted;
    if (!array) return cudaErrorInvalidValue;
    cudaError_t error = describe(desc, extent, flags, &wanted);
    if (error != cudaSuccess) return error;
    return cudart_error(
        DRIVER(cuMipmappedArrayCreate_v5000)((CUmipmappedArray *)array, &wanted, levels));
}

cudaError_t cudaMallocMipmappedArray(cudaMipmappedArray_t *array,
                                     const struct cudaChannelFormatDesc *desc,
                                     struct cudaExtent extent, unsigned levels, unsigned flags) {
    return IN_CONTEXT(create_mipmapped(array, desc, extent, levels, flags));
}

cudaError_t cudaFreeArray(cudaArray_t array) {
    return IN_CONTEXT(array ? DRIVER(cuArrayDestroy_v2000)((CUarray)array) : CUDA_SUCCESS);
}

cudaError_t cudaFreeMipmappedArray(cudaMipmappedArray_t array) {
    return IN_CONTEXT(array ? DRIVER(cuMipmappedArrayDestroy_v5000)((CUmipmappedArray)array)
                            : CUDA_SUCCESS);
}

// --- questions ----------------------------------------------------------------------------------

static cudaError_t get_info(struct cudaChannelFormatDesc *desc, struct cudaExtent *extent,
                            unsigned *flags, cudaArray_const_t array) {
    CUDA_ARRAY3D_DESCRIPTOR found;
    struct cudaChannelFormatDesc channels;
    CUresult result = DRIVER(cuArray3DGetDescriptor_v3020)
    (&found, (CUarray)array);
    if (result != CUDA_SUCCESS) return cudart_error(result);
    if (!channel_desc(&found, &channels)) return cudaErrorInvalidChannelDescriptor;
    if (desc) *desc = channels;
    if (extent)
        *extent =
            (struct cudaExtent){.width = found.Width, .height = found.Height, .depth = found.Depth};
    if (flags) *flags = found.Flags;
    return cudaSuccess;
}

cudaError_t cudaArrayGetInfo(struct cudaChannelFormatDesc *desc, struct cudaExtent *extent,
                             unsigned *flags, cudaArray_t array) {
    return IN_CONTEXT(get_info(desc, extent, flags, array));
}

cudaError_t cudaGetChannelDesc(struct cudaChannelFormatDesc *desc, cudaArray_const_t array) {
    return IN_CONTEXT(desc ? get_info(desc, NULL, NULL, array) : cudaErrorInvalidValue);
}

cudaError_t cudart_element_size(cudaArray_const_t array, size_t *bytes) {
    struct cudaChannelFormatDesc desc = {0};
    cudaError_t error = get_info(&desc, NULL, NULL, array);
    *bytes = (size_t)(desc.x + desc.y + desc.z + desc.w) / 8;
    return error;
}

struct cudaChannelFormatDesc cudaCreateChannelDesc(int x, int y, int z, int w,
                                                   enum cudaChannelFormatKind kind) {
    return (struct cudaChannelFormatDesc){.x = x, .y = y, .z = z, .w = w, .f = kind};
}

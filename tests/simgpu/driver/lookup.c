// SPDX-License-Identifier: Apache-2.0
// cuGetProcAddress. Observed on drivers 535, 550 and 555: only base names are known, the answer is
// the newest ABI not newer than the version asked, every pointer equals an exported symbol, and the
// result is success even when nothing was found (the pointer is then NULL).
#include "lookup.h"

#include "entry.h"
#include "options.h"

#include <string.h>

static const struct lookup_row *first_row(const char *base) {
    unsigned low = 0, high = lookup_row_count;
    while (low < high) {
        unsigned middle = (low + high) / 2;
        if (strcmp(lookup_rows[middle].base, base) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == lookup_row_count || strcmp(lookup_rows[low].base, base) != 0) return NULL;
    return &lookup_rows[low];
}

static CUresult look_up(const char *symbol, void **pfn, int version, cuuint64_t flags,
                        CUdriverProcAddressQueryResult *status) {
    if (!symbol || !pfn || (flags & ~(cuuint64_t)3)) return CUDA_ERROR_INVALID_VALUE;
    bool per_thread = flags & CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM;
    if (version > options.version) version = options.version;

    const struct lookup_row *row = first_row(symbol), *best = NULL;
    const struct lookup_row *end = lookup_rows + lookup_row_count;
    CUdriverProcAddressQueryResult found =
        row ? CU_GET_PROC_ADDRESS_VERSION_NOT_SUFFICIENT : CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND;
    // Rows of the legacy stream come first, so a later per-thread row replaces them.
    for (; row && row < end && strcmp(row->base, symbol) == 0; row++)
        if (row->version <= version && (per_thread || !row->per_thread)) best = row;
    *pfn = best ? best->entry : NULL;
    if (status) *status = best ? CU_GET_PROC_ADDRESS_SUCCESS : found;
    return CUDA_SUCCESS;
}

ANYTIME CUresult sim_cuGetProcAddress(const char *symbol, void **pfn, int cudaVersion,
                                      cuuint64_t flags) {
    return look_up(symbol, pfn, cudaVersion, flags, NULL);
}

ANYTIME CUresult sim_cuGetProcAddress_v2(const char *symbol, void **pfn, int cudaVersion,
                                         cuuint64_t flags,
                                         CUdriverProcAddressQueryResult *symbolStatus) {
    return look_up(symbol, pfn, cudaVersion, flags, symbolStatus);
}

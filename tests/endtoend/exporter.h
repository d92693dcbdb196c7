// SPDX-License-Identifier: Apache-2.0
//
// Another process that owns GPU memory and shares it: what this process then imports is memory of
// others. It is forked, so it must be started before this process uses the GPU.
#ifndef MEMWATCH_TEST_EXPORTER_H
#define MEMWATCH_TEST_EXPORTER_H

#include "cuda_abi.h"

struct shared_pool {
    int fd;           // of the pool, for cuMemPoolImportFromShareableHandle; the caller closes it
    char pointer[64]; // CUmemPoolPtrExportData of an allocation in it
};

void exporter_start(void);
// Each call gives a new allocation. Any thread may call; failures end the program.
void exporter_memory(int device, size_t bytes, struct mwIpcHandle *handle);
void exporter_pool(int device, size_t bytes, struct shared_pool *pool);

#endif

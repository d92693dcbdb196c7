// SPDX-License-Identifier: Apache-2.0
// The books file. Rows are updated by relaxed atomics: each number stands alone, and a reader that
// needs a consistent picture reads when the process is quiet or dead. MAP_SHARED on a real file is
// what makes them survive SIGKILL.
#include "books.h"

#include "options.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct row {
    int32_t device;
    uint32_t space;
    _Atomic uint64_t live, peak, allocated_bytes, allocs, frees, failed;
};

struct books {
    char magic[8];
    uint32_t version, rows;
    struct row row[];
};

static struct books *books;
static int devices;

void books_open(const char *path, int device_count) {
    uint32_t rows = (uint32_t)(device_count + 1) * SPACE_COUNT;
    size_t size = sizeof(struct books) + rows * sizeof(struct row);
    int file = -1;
    if (path) {
        char name[4096];
        option_path(path, name, sizeof name);
        file = open(name, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
        if (file < 0 || ftruncate(file, (off_t)size) != 0)
            option_fail("SIMGPU_BOOKS", name, "a file this process can write");
    }
    void *map = mmap(NULL, size, PROT_READ | PROT_WRITE,
                     file < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED, file, 0);
    if (map == MAP_FAILED)
        option_fail("SIMGPU_BOOKS", path ? path : "", "a file that can be mapped");
    if (file >= 0) close(file);

    struct books *fresh = map;
    for (uint32_t i = 0; i < rows; i++) {
        fresh->row[i].device = (int32_t)(i / SPACE_COUNT) + NO_DEVICE;
        fresh->row[i].space = i % SPACE_COUNT;
    }
    fresh->version = 1;
    fresh->rows = rows;
    memcpy(fresh->magic, "SIMBOOKS", sizeof fresh->magic);
    devices = device_count;
    books = fresh;
}

static struct row *row_of(int device, enum space space) {
    if (device < NO_DEVICE || device >= devices) device = NO_DEVICE;
    return &books->row[(device - NO_DEVICE) * SPACE_COUNT + (int)space];
}

static void raise_peak(struct row *row, uint64_t live) {
    uint64_t peak = atomic_load_explicit(&row->peak, memory_order_relaxed);
    while (live > peak &&
           !atomic_compare_exchange_weak_explicit(&row->peak, &peak, live, memory_order_relaxed,
                                                  memory_order_relaxed)) {
    }
}

void books_move(int device, enum space space, int64_t delta) {
    struct row *row = row_of(device, space);
    uint64_t before = atomic_fetch_add_explicit(&row->live, (uint64_t)delta, memory_order_relaxed);
    if (delta > 0) raise_peak(row, before + (uint64_t)delta);
}

void books_alloc(int device, enum space space, uint64_t bytes) {
    struct row *row = row_of(device, space);
    atomic_fetch_add_explicit(&row->allocs, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&row->allocated_bytes, bytes, memory_order_relaxed);
    books_move(device, space, (int64_t)bytes);
    trace_change(device, space, '+', bytes);
}

void books_free(int device, enum space space, uint64_t bytes) {
    struct row *row = row_of(device, space);
    atomic_fetch_add_explicit(&row->frees, 1, memory_order_relaxed);
    atomic_fetch_sub_explicit(&row->live, bytes, memory_order_relaxed);
    trace_change(device, space, '-', bytes);
}

void books_failed(int device, enum space space) {
    atomic_fetch_add_explicit(&row_of(device, space)->failed, 1, memory_order_relaxed);
    trace_change(device, space, '!', 0);
}

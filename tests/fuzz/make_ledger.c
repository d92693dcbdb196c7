// SPDX-License-Identifier: Apache-2.0
//
// Writes a ledger for the tests of `memwatch report`:
//
//   make_ledger FILE sample          a small one with something of everything
//   make_ledger FILE blocks COUNT    COUNT live blocks in 8 threads
//   make_ledger FILE sites COUNT     COUNT sites with stacks of 20 Python and 20 native frames, of
//                                    which site i holds 1000 * (i + 1) bytes, and one for the
//                                    sites that found no room
//   make_ledger FILE figures FREE TOTAL POOL_USED POOL_RESERVED GRAPH_USED
//                                    the sample, of whose device 0 (16 GiB) the program was told
//                                    these figures
#include "../unit/ledger_builder.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void many_blocks(struct builder *b, unsigned count) {
    unsigned slots = 65536;
    while (slots < count + count / 4) slots *= 2;
    builder_init(b, 16, slots);
    unsigned api = builder_api(b, "cuMemAlloc_v2", MW_LAYER_DRIVER);
    unsigned place = builder_place(b, 0, 0xc0, 0, 0), thread[8], site[8];
    for (unsigned i = 0; i < 8; i++) {
        thread[i] = builder_thread(b, 100 + i, "worker");
        site[i] = builder_site(b, api, api, (int)i, MW_SPACE_DEVICE);
    }
    for (unsigned i = 0; i < count; i++)
        builder_alloc(b, thread[i % 8], site[i / 8 % 8], place, MW_CLASS_ADDRESS,
                      0x7f0000000000 + (uint64_t)i * 512, 256 + i % 1000, 256 + i % 1000);
}

#define DEPTH 20u

// Many functions, of which each stack has some; native ones are code of this program.
static uint32_t stack_of(struct builder *b, unsigned site, const uint32_t *code, uint32_t module) {
    uint64_t python[DEPTH], native[DEPTH];
    for (unsigned i = 0; i < DEPTH; i++) {
        unsigned function = (site * 7 + i * 13) % 500;
        python[i] = PYTHON_FRAME(code[function], 100 + site % 50 + i, i == DEPTH - 1);
        native[i] = NATIVE_FRAME(module, 0x1000 + (site * 31 + i * 97) % 0x4000);
    }
    return builder_stack(b, python, DEPTH, native, DEPTH, 0);
}

static void many_sites(struct builder *b, unsigned count) {
    char self[PATH_MAX] = "/";
    uint32_t code[500];
    builder_init(b, 4, 65536);
    unsigned api = builder_api(b, "cudaMalloc", MW_LAYER_RUNTIME);
    unsigned place = builder_place(b, 0, 0xc0, 0, 0), thread = builder_thread(b, 100, "main");
    if (!realpath("/proc/self/exe", self)) perror("/proc/self/exe");
    uint32_t module = builder_module(b, self, 0, NULL, 0);
    for (unsigned i = 0; i < 500; i++) {
        char name[64], file[64];
        snprintf(name, sizeof name, "Layer%u.forward", i);
        snprintf(file, sizeof file, "/home/ada/model/layer%u.py", i / 20);
        code[i] = builder_code(b, file, name, 10);
    }
    for (unsigned i = 0; i <= count; i++) {
        unsigned site = builder_site(b, api, api, 0, MW_SPACE_DEVICE);
        uint32_t stack = i < count ? stack_of(b, i, code, module) : MW_OVERFLOW;
        builder_site_at(b, site)->stack = stack;
        builder_alloc(b, thread, site, place, MW_CLASS_ADDRESS, 0x7f0000000000 + i * UINT64_C(4096),
                      1000 * (i + 1), 1000 * (i + 1));
    }
    // At the smallest site and the largest but one.
    builder_fail(b, thread, 1, UINT64_C(1) << 40, 2);
    builder_fail(b, thread, count, UINT64_C(1) << 40, 2);
}

static void told(struct builder *b, char **figure) {
    builder_sample(b);
    builder_ring_at(b)->written = 0; // and it said nothing
    struct mw_device *d = &b->header->device[0];
    struct mw_pool *p = &b->header->pool[0];
    _Atomic uint64_t *to[] = {&d->info_free, &d->info_total, &p->used, &p->reserved_bytes,
                              &d->graph_used};
    for (unsigned i = 0; i < sizeof to / sizeof to[0]; i++) *to[i] = strtoull(figure[i], NULL, 0);
    d->graph_ns = 1;
    p->release_threshold = UINT64_MAX; // keeps all
}

int main(int argc, char **argv) {
    struct builder b;
    if (argc == 3 && !strcmp(argv[2], "sample")) {
        builder_sample(&b);
    } else if (argc == 3 && !strcmp(argv[2], "unknown_own")) {
        builder_sample(&b);
        b.header->device[0].info_own = 0;
    } else if (argc == 4 && !strcmp(argv[2], "blocks")) {
        many_blocks(&b, (unsigned)strtoul(argv[3], NULL, 10));
    } else if (argc == 4 && !strcmp(argv[2], "sites")) {
        many_sites(&b, (unsigned)strtoul(argv[3], NULL, 10));
    } else if (argc == 8 && !strcmp(argv[2], "figures")) {
        told(&b, argv + 3);
    } else {
        fputs("usage: make_ledger FILE sample | unknown_own | blocks COUNT | sites COUNT | figures "
              "...\n",
              stderr);
        return 2;
    }
    if (!builder_save(&b, argv[1], b.bytes)) {
        perror(argv[1]);
        return 1;
    }
    builder_free(&b);
    return 0;
}

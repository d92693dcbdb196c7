// SPDX-License-Identifier: Apache-2.0
//
// Writes a ledger for the tests of `memwatch report`: make_ledger FILE sample, or
// make_ledger FILE blocks COUNT for a large one of COUNT live blocks in 8 threads.
#include "../unit/ledger_builder.h"

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

int main(int argc, char **argv) {
    struct builder b;
    if (argc == 3 && !strcmp(argv[2], "sample")) {
        builder_sample(&b);
    } else if (argc == 4 && !strcmp(argv[2], "blocks")) {
        many_blocks(&b, (unsigned)strtoul(argv[3], NULL, 10));
    } else {
        fputs("usage: make_ledger FILE sample | make_ledger FILE blocks COUNT\n", stderr);
        return 2;
    }
    if (!builder_save(&b, argv[1], b.bytes)) {
        perror(argv[1]);
        return 1;
    }
    builder_free(&b);
    return 0;
}

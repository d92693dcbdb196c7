// SPDX-License-Identifier: Apache-2.0
//
// Whatever a ledger or a report file holds, reading it, checking it and printing it in every way
// must neither crash nor hang nor read a byte that is not its own. Built with the address and
// undefined-behaviour sanitizers, which end the program at the first such byte.
//
//   fuzz_reader [COUNT [SEED]]   reads COUNT mutations of a ledger and of a report, always the same
//                                for the same seed: what `make test` does
//   with -fsanitize=fuzzer -DLIBFUZZER (clang) it is a libFuzzer target instead; a good first input
//   is what `make_ledger FILE sample` writes
#define _GNU_SOURCE // memfd_create
#include "../unit/ledger_builder.h"
#include "emit.h"
#include "source.h"
#include "summary.h"

#include <assert.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static FILE *nowhere;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char path[64];
    struct source s;
    struct summary sum;
    if (!nowhere) nowhere = fopen("/dev/null", "w");
    int fd = memfd_create("input", MFD_CLOEXEC);
    if (!nowhere || fd < 0 || write(fd, data, size) != (ssize_t)size) abort();
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    // Names of native frames are not looked for: whose files would that read?
    struct naming naming = {resolver_new(NULL), 0, (enum sort_key)(size % SORTS)};
    enum exit_code code = source_read(path, &naming, &s);
    summary_begin(&sum, nowhere, "folder");
    if (code == EXIT_OK) {
        struct view view = {(enum sort_key)(size % SORTS), GROUP_SITE, 1 + size % 20, size % 2};
        report_resolve(s.report, &naming);
        for (; view.group < GROUPS; view.group++) print_report(nowhere, s.report, &view);
        summary_add(&sum, "file", s.report, s.check.ok);
        char *text = cJSON_PrintBuffered(s.report, 4096, true);
        assert(text);
        free(text);
    } else {
        assert(!s.report && s.error[0]); // a refusal has a reason
        summary_add_unreadable(&sum, "file", s.error);
    }
    cJSON_Delete(summary_end(&sum));
    source_free(&s);
    resolver_free(naming.resolver);
    close(fd);
    return 0;
}

#ifndef LIBFUZZER

static uint64_t state;

// xorshift64*: the same numbers everywhere.
static uint64_t number(void) {
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return state * UINT64_C(2685821657736338717);
}

static uint64_t below(uint64_t n) {
    return number() % n;
}

// Numbers at which bounds break.
static uint64_t boundary(void) {
    static const uint64_t values[] = {0,          1,          2,          63,         64,
                                      255,        256,        4095,       4096,       65535,
                                      65536,      0x7fffffff, 0x80000000, 0xfffffff8, 0xffffffff,
                                      1ull << 32, 1ull << 48, 1ull << 62, ~0ull - 7,  ~0ull};
    return values[below(sizeof values / sizeof values[0])] + (below(4) ? 0 : below(17) - 8);
}

static size_t torch_at; // where torch's part is

// Where a mutation strikes: the parts of the file that decide something, more often than the rest.
static size_t somewhere(const struct builder *b, size_t size) {
    const struct {
        size_t from, bytes;
    } parts[] = {
        {0, 256},
        {offsetof(struct mw_header, chunk), 6 * sizeof(struct mw_chunk)},
        {offsetof(struct mw_header, account), sizeof b->header->account},
        {offsetof(struct mw_header, failure), sizeof b->header->failure},
        {offsetof(struct mw_header, losses), 512},
        {(size_t)((char *)b->thread - b->image), 4 * sizeof(struct mw_thread)},
        {(size_t)((char *)b->site - b->image), 16 * sizeof(struct mw_site)},
        {(size_t)((char *)b->place - b->image), 8 * sizeof(struct mw_place)},
        {(size_t)((char *)b->record - b->image), 32 * sizeof(struct mw_record)},
        {(size_t)((char *)b->api - b->image), 8 * sizeof(struct mw_api)},
        {b->arena - 1024, 1024}, // objects
        {offsetof(struct mw_header, level), sizeof b->header->level},
        {offsetof(struct mw_header, pool), 4 * sizeof(struct mw_pool)},
        {offsetof(struct mw_header, device), 2 * sizeof(struct mw_device)},
        {(size_t)((char *)builder_ring_at(b) - b->image), MW_RING_HEAD + 4096},
        {torch_at, sizeof(struct mw_torch)},
        {0, size},
    };
    size_t i = below(sizeof parts / sizeof parts[0]);
    return (parts[i].from + below(parts[i].bytes)) % size;
}

static void mutate_ledger(const struct builder *b, uint8_t *data, size_t size) {
    for (uint64_t n = 1 + below(6); n; n--) {
        size_t at = somewhere(b, size);
        uint64_t value = below(3) ? boundary() : number();
        size_t bytes = (size_t)1 << below(4);
        if (below(4)) at -= at % bytes;
        if (below(3) == 0)
            data[at] ^= 1 << below(8);
        else
            memcpy(data + at, &value, bytes <= size - at ? bytes : size - at);
    }
}

static void mutate_text(uint8_t *data, size_t size) {
    static const char telling[] = "{}[]\",:0123456789-+eEtfn\\u\x1b\x80\xc2\xff";
    for (uint64_t n = 1 + below(8); n; n--) {
        size_t at = below(size), bytes = below(size - at);
        if (below(3))
            data[at] = (uint8_t)telling[below(sizeof telling)];
        else
            memmove(data + at, data + below(size - bytes), bytes);
    }
}

// Tensors on two devices, one of which refused something.
static void add_torch(struct builder *b) {
    unsigned api = builder_api(b, "c10::reportMemoryUsageToProfiler", MW_LAYER_FRAMEWORK);
    for (int device = 0; device < 2; device++) {
        unsigned site = builder_site(b, api, api, device, MW_SPACE_TENSOR);
        for (unsigned i = 0; i < 5; i++)
            builder_alloc(b, 1, site, 0, MW_CLASS_TENSOR,
                          mw_tensor_key(0x7f0000000000 + 4096 * i, device), 1024, 1024);
    }
    struct mw_torch *t = builder_chunk(b, MW_CHUNK_TORCH, 1, sizeof *t);
    torch_at = (size_t)((char *)t - b->image);
    t->bytes = sizeof *t;
    t->defined = 4;
    t->ooms = 2;
    t->device[0] =
        (struct mw_torch_device){.known = 2, .allocated = 5120, .reserved_bytes = 1 << 21};
    t->device[1] = (struct mw_torch_device){.known = 1};
    for (unsigned i = 0; i < 2; i++) {
        t->oom[i] = (struct mw_oom){.sequence = 2 * i + 2, .asked = 1 << 30, .live = 5120};
        t->oom[i].site[0].site = 1 + i;
    }
}

// The sample as a report.
static char *report_text(const struct builder *b) {
    char path[64];
    struct source s;
    int fd = memfd_create("sample", MFD_CLOEXEC);
    if (fd < 0 || write(fd, b->image, b->bytes) != (ssize_t)b->bytes) abort();
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    struct naming naming = {.resolver = resolver_new(NULL)};
    if (source_read(path, &naming, &s) != EXIT_OK) abort();
    char *text = cJSON_PrintBuffered(s.report, 4096, true);
    source_free(&s);
    resolver_free(naming.resolver);
    close(fd);
    return text;
}

int main(int argc, char **argv) {
    unsigned long count = argc > 1 ? strtoul(argv[1], NULL, 10) : 4000;
    struct builder b;
    state = argc > 2 ? strtoul(argv[2], NULL, 10) : 20250615;
    builder_sample(&b);
    struct mw_cell_page *page = builder_chunk(&b, MW_CHUNK_CELLS, 16, 16 * sizeof *page);
    b.thread[1].cells.cell[2].next_page = 4; // page 3, then page 5
    page[3].cell[1].next_page = 6;
    add_torch(&b);
    char *text = report_text(&b);
    size_t bytes = strlen(text);
    uint8_t *data = allocate(b.bytes > bytes ? b.bytes : bytes, 1);
    for (unsigned long i = 0; i < count; i++) {
        bool ledger = i % 4 != 0;
        size_t size = ledger ? b.bytes : bytes;
        memcpy(data, ledger ? b.image : text, size);
        if (ledger)
            mutate_ledger(&b, data, size);
        else
            mutate_text(data, size);
        LLVMFuzzerTestOneInput(data, below(16) ? size : below(size + 1));
    }
    printf("%lu inputs read\n", count);
    free(data);
    free(text);
    builder_free(&b);
    fclose(nowhere);
    return 0;
}

#endif

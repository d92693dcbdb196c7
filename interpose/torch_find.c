// SPDX-License-Identifier: Apache-2.0
//
// Where the functions are that the hooks of torch.c stand for.
//
// They cannot be asked of RTLD_NEXT: Python loads libc10 with RTLD_LOCAL, out of which nothing is
// found. So they are looked for among the loaded objects (symbols.c), when the doors notice that
// some have come or gone, and at the first event if they did not: that takes the lock of the
// loader's list once, which an exception that is thrown there takes, too.
//
// What was loaded with the program is in everybody's scope, so the first definition there is what
// the dynamic linker would have taken. Of what was loaded later each caller would have got its own
// library's: with one definition that is known, with several it is not (two packages that bring a
// libc10 each), and events are not passed on to the wrong profiler. Nor where nothing is found.
//
// As doors.c this runs before a sanitizer's runtime does.
#include "torch.h"

#include "doors.h"
#include "symbols.h"
#include "text.h"

#include <errno.h>
#include <sys/auxv.h>

enum { ROWS = MW_API_ROWS - MW_API_TORCH_FIRST };
static_assert(ROWS <= 32, "a bit each");
static const char symbols[ROWS][56] = {
// not as pointers, which would have to be relocated
#define TORCH(symbol, ...) #symbol,
#include "torch.def"
#undef TORCH
};

MW_READ_MOSTLY mw_pointer mw_torch_original[ROWS];
static _Atomic bool asked; // at an event, whether a function is there that the doors did not notice

// What was last seen, for the ledger.
static struct {
    _Atomic uint32_t defined, ambiguous;
    char path[sizeof((struct mw_torch *)0)->path];
} seen;

struct pass {
    uintptr_t linker; // load address of the dynamic linker, the last that was loaded at the start
    bool after_us, later;
    void *found[ROWS];
    uint32_t in_scope, ambiguous;
};

static void note_path(const char *path) {
    static _Atomic bool noted;
    if (atomic_exchange(&noted, true)) return;
    struct mw_text t = mw_text(seen.path, sizeof seen.path);
    mw_put(&t, path);
}

static int look_in(struct dl_phdr_info *info, size_t size, void *data) {
    (void)size;
    struct pass *p = data;
    struct mw_elf object;
    if (!mw_elf_read(&object, info)) return 0;
    if (mw_doors_is_this(&object)) p->after_us = true;
    if (mw_doors_is_this(&object) || mw_doors_is_a_copy(&object)) return 0;
    for (unsigned i = 0; p->after_us && i < ROWS; i++) {
        void *found = mw_elf_find(&object, mw_elf_name(symbols[i]), NULL);
        if (!found) continue;
        if (p->found[i]) {
            if (!(p->in_scope >> i & 1)) p->ambiguous |= 1u << i;
            continue;
        }
        p->found[i] = found;
        if (!p->later) p->in_scope |= 1u << i;
        note_path(object.path);
    }
    if (object.bias == p->linker) p->later = true;
    return 0;
}

void mw_torch_found(struct mw_torch *out) {
    for (size_t i = 0; i < sizeof out->path; i++) out->path[i] = seen.path[i];
    mw_set(&out->ambiguous, mw_get(&seen.ambiguous));
    mw_set(&out->defined, mw_get(&seen.defined));
}

void mw_torch_look(void) {
    struct pass p = {.linker = getauxval(AT_BASE)};
    void *held[ROWS];
    uint32_t defined = 0;
    int saved = errno;
    // A slot is only changed from what it held before the pass: if another thread changed it
    // meanwhile, that one knows as much.
    for (unsigned i = 0; i < ROWS; i++) held[i] = atomic_load(&mw_torch_original[i]);
    dl_iterate_phdr(look_in, &p);
    for (unsigned i = 0; i < ROWS; i++) {
        void *found = p.ambiguous >> i & 1 ? NULL : p.found[i];
        if (p.found[i]) defined |= 1u << i;
        if (held[i] && !found) atomic_store(&asked, false); // unloaded: it may come again
        if (found != held[i])
            atomic_compare_exchange_strong(&mw_torch_original[i], &held[i], found);
    }
    mw_set(&seen.ambiguous, p.ambiguous);
    mw_set(&seen.defined, defined);
    mw_torch_publish();
    errno = saved;
}

void *mw_torch_look_once(unsigned row) {
    if (atomic_load(&asked)) return NULL;
    mw_torch_look();
    atomic_store(&asked, true);
    return atomic_load(&mw_torch_original[row]);
}

void mw_torch_closed(void) {
    if (mw_get(&seen.defined)) mw_torch_look();
}

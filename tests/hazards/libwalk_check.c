// SPDX-License-Identifier: Apache-2.0
// build: -D_GNU_SOURCE -I. -ldl -lgcc_s
//
// Preloaded into any program: at every seventh malloc walks the stack, and compares what was found
// with what the compiler's own unwinder finds. Tells at the end, in a line appended to the file
// WALK_CHECK, how many walks there were and how many differed.
#include "interpose/cfi.c"
#include "interpose/stack_native.c"
#include "interpose/symbols.c"

#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unwind.h>

#define MOST 1024u

extern const char __ehdr_start[] __attribute__((visibility("hidden")));
extern const char _end[] __attribute__((visibility("hidden")));

bool mw_doors_is_ours(const void *pointer) {
    return (const char *)pointer >= __ehdr_start && (const char *)pointer < _end;
}

struct found {
    uintptr_t pc[MOST];
    unsigned count;
};

static _Unwind_Reason_Code note_frame(struct _Unwind_Context *context, void *data) {
    struct found *f = data;
    int exact = 0;
    uintptr_t pc = _Unwind_GetIPInfo(context, &exact);
    if (exact) pc++;
    if (pc && f->count < MOST && !mw_doors_is_ours((const void *)(pc - 1))) f->pc[f->count++] = pc;
    return _URC_NO_REASON;
}

static _Atomic unsigned long walks, frames, different;
static _Thread_local bool inside;

static void tell_difference(const struct found *ours, const struct found *theirs) {
    unsigned i = 0;
    while (i < ours->count && i < theirs->count && ours->pc[i] == theirs->pc[i]) i++;
    Dl_info last = {0};
    if (i) dladdr((void *)(ours->pc[i - 1] - 1), &last);
    fprintf(stderr, "walk_check: %u frames, libgcc %u; they part after %u, in %s at %lx\n",
            ours->count, theirs->count, i, last.dli_fname ? last.dli_fname : "?",
            i ? ours->pc[i - 1] - (uintptr_t)last.dli_fbase : 0);
}

static void compare(void) {
    static struct mw_level level;
    static _Thread_local unsigned turn;
    if (inside || turn++ % 7) return;
    inside = true;
    struct found ours = {.count = 0}, theirs = {.count = 0};
    bool cut;
    if (!mw_native_ready) mw_native_find(&level);
    _Unwind_Backtrace(note_frame, &theirs);
    ours.count = mw_native_walk(ours.pc, MOST, &cut);
    walks++;
    frames += ours.count;
    if (ours.count != theirs.count || memcmp(ours.pc, theirs.pc, ours.count * sizeof *ours.pc)) {
        if (different++ < 3) tell_difference(&ours, &theirs);
    }
    inside = false;
}

void *malloc(size_t bytes) {
    static void *(*real)(size_t);
    if (!real) real = (void *(*)(size_t))dlsym(RTLD_NEXT, "malloc");
    void *block = real(bytes);
    compare();
    return block;
}

__attribute__((destructor)) static void tell(void) {
    char line[128];
    const char *path = getenv("WALK_CHECK");
    inside = true;
    int fd = path ? open(path, O_WRONLY | O_APPEND | O_CREAT, 0600) : -1;
    int n = snprintf(line, sizeof line, "%lu %lu %lu\n", walks, frames, different);
    if (fd < 0 || write(fd, line, (size_t)n) != n) abort();
    close(fd);
}

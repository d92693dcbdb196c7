// SPDX-License-Identifier: Apache-2.0
//
// The stack of an event: walked each time, described once.
//
// A walk gives raw words: code objects and instructions of Python, return addresses of native code.
// Their hash leads to the stack in the arena, so that an event of a known stack costs the walk and
// one look-up. Only for a new hash is it walked again, to keep the frames, and described: names,
// lines and modules are copied into the arena at once, while the frames stand, so that the file
// says everything after the process is gone.
//
// Several raw stacks may be one described stack (two instructions of one line); the arena makes
// them one. A raw hash holds as long as what it was made of: code objects are told from others that
// later lie at their address by mw_python_frame.identity, native addresses by the generation of the
// loaded modules.
#include "stacks.h"

#include "arena.h"
#include "ledger.h"
#include "map.h"
#include "stack_native.h"
#include "stack_python.h"
#include "wake.h"

#include <errno.h>
#include <string.h>

MW_READ_MOSTLY static struct mw_stack_options wanted;
MW_READ_MOSTLY static struct mw_map known; // hash of a raw stack → reference
// The generation of loaded objects for which an interpreter was found that is to be asked, 0 =
// there is none. In another one it may have been unloaded.
MW_READ_MOSTLY static _Atomic uint64_t python_at;
MW_READ_MOSTLY static const uintptr_t *python_end; // its mw_python_end_mark, stored before

static void set_level(enum mw_level_kind kind, enum mw_level_state state) {
    atomic_store_explicit(&mw_ledger->level[kind].state, state, memory_order_release);
}

// Release: who takes the interpreter for this generation's sees it.
static void python_is_at(uint64_t now) {
    __atomic_store_n(&python_end, mw_python_end_mark(), __ATOMIC_RELAXED);
    atomic_store_explicit(&python_at, mw_python_ready ? now : 0, memory_order_release);
}

static _Atomic bool looking; // one thread at a time

void mw_stacks_look(void) {
    if (!mw_awake() || !wanted.python) return; // in this order: what is wanted stands once awake
    if (atomic_exchange_explicit(&looking, true, memory_order_acquire)) return;
    int saved = errno;
    uint64_t now = mw_native_generation();
    mw_python_find(&mw_ledger->level[MW_LEVEL_PYTHON]);
    python_is_at(now);
    errno = saved;
    atomic_store_explicit(&looking, false, memory_order_release);
}

// In a forked child nothing is looked for: the lock of the loader's list may have been somebody's
// at the fork. What the parent found is still there.
static void begin_python(bool again) {
    struct mw_level *level = &mw_ledger->level[MW_LEVEL_PYTHON];
    mw_set(&looking, false);
    if (again)
        mw_python_inherit(level);
    else
        mw_python_find(level);
    python_is_at(mw_native_generation());
}

void mw_stacks_begin(const struct mw_stack_options *options) {
    static bool again; // in a forked child
    wanted = *options;
    if (again) mw_native_forked();
    mw_map_reset(&known);
    if (wanted.python || wanted.native) mw_arena_reset();
    if (wanted.native)
        mw_native_find(&mw_ledger->level[MW_LEVEL_NATIVE]);
    else
        set_level(MW_LEVEL_NATIVE, MW_LEVEL_OFF);
    if (wanted.python) {
        begin_python(again);
    } else {
        mw_set(&python_at, 0);
        set_level(MW_LEVEL_PYTHON, MW_LEVEL_OFF);
    }
    again = true;
}

// ---- describing ------------------------------------------------------------------------------

static uint64_t describe_python(const struct mw_python_frame *frame) {
    struct mw_python_place place;
    struct mw_code code = {.object = {MW_CODE, sizeof code}};
    if (!mw_python_describe(frame, &place)) memset(&place, 0, sizeof place);
    code.file = mw_intern_string(place.file, place.file_bytes);
    code.name = mw_intern_string(place.name, place.name_bytes);
    code.first_line = place.first_line;
    uint64_t line = place.line & INT32_MAX;
    return (uint64_t)frame->entry << 63 | line << 32 | mw_intern(&code.object);
}

static uint64_t describe_native(uintptr_t pc) {
    struct mw_native_module loaded;
    struct mw_module module = {.object = {MW_MODULE, sizeof module}};
    if (mw_native_module_at(pc, &loaded)) {
        // The loader has no name for the program itself. (The header may be scribbled over.)
        const char *path = *loaded.path ? loaded.path : mw_ledger->exe;
        module.path = mw_intern_string(path, (unsigned)strnlen(path, MW_STRING_MAX));
        module.base = loaded.base;
        module.build_id_bytes = loaded.build_id_bytes;
        memcpy(module.build_id, loaded.build_id, sizeof module.build_id);
    }
    uint64_t address = pc - module.base;
    module.offset = address & ~(uint64_t)UINT32_MAX;
    return (uint64_t)mw_intern(&module.object) << 32 | (address & UINT32_MAX);
}

// What was walked: how many frames the interpreter has, and those that the unwinder gave.
struct walked {
    struct mw_walk python;
    const uintptr_t *pc;
    unsigned frames, pcs;
};

static __attribute__((noinline)) uint32_t describe(const struct walked *w) {
    struct mw_python_frame frame[wanted.python_depth + 1];
    struct mw_walk again = {0};
    union {
        struct mw_stack stack;
        char room[sizeof(struct mw_stack) + 2 * MW_STACK_DEPTH * sizeof(uint64_t)];
    } object;
    struct mw_stack *stack = &object.stack;
    unsigned n = 0;
    // The interpreter may have begun to end meanwhile; then this thread's frames are not to be had.
    if (w->frames && (mw_python_walk(frame, wanted.python_depth, &again) != w->frames ||
                      again.hash != w->python.hash))
        return MW_NO_STACK;
    for (unsigned i = 0; i < w->frames; i++) {
        stack->frame[n] = describe_python(&frame[i]);
        if (!(uint32_t)stack->frame[n++]) return MW_NO_STACK;
    }
    for (unsigned i = 0; i < w->pcs; i++) {
        stack->frame[n] = describe_native(w->pc[i]);
        if (!(stack->frame[n++] >> 32)) return MW_NO_STACK;
    }
    stack->object.kind = MW_STACK;
    stack->object.bytes = (uint16_t)(sizeof *stack + n * sizeof(uint64_t));
    stack->python = (uint8_t)w->frames;
    stack->native = (uint8_t)w->pcs;
    stack->flags = (uint16_t)w->python.flags;
    return mw_intern(&stack->object);
}

// ---- walking ---------------------------------------------------------------------------------

// Two hashes of the native frames side by side, in turns: one would be a chain of products that
// each wait for the one before.
static uint64_t hash_walked(const struct walked *w, uint64_t generation) {
    uint64_t h = mw_hash(w->python.hash, (uint64_t)w->frames << 32 | w->python.flags);
    if (!w->pcs) return h;
    uint64_t g = mw_hash(h ^ w->pcs, generation);
    unsigned i;
    for (i = 0; i + 1 < w->pcs; i += 2) {
        h = mw_hash(h, w->pc[i]);
        g = mw_hash(g, w->pc[i + 1]);
    }
    if (i < w->pcs) h = mw_hash(h, w->pc[i]);
    return mw_hash(h, g);
}

// Is there an interpreter to ask, for this generation of loaded objects?
MW_INLINE bool python_is_here(uint64_t generation) {
    return mw_likely(atomic_load_explicit(&python_at, memory_order_acquire) == generation);
}

MW_HOT bool mw_stacks_python_ends(void) {
    if (!python_is_here(mw_native_generation())) return false;
    const uintptr_t *end = __atomic_load_n(&python_end, __ATOMIC_RELAXED);
    return mw_unlikely(end && __atomic_load_n(end, __ATOMIC_RELAXED)) &&
           mw_python_phase() == MW_PYTHON_ENDS;
}

uint32_t mw_stacks_thread_name(void) {
    char name[256];
    if (!python_is_here(mw_native_generation())) return 0;
    return mw_intern_string(name, mw_python_thread_name(name, sizeof name));
}

MW_HOT uint32_t mw_stack_here(bool tensor) {
    if (mw_unlikely(!wanted.python && !wanted.native)) return MW_NO_STACK;
    uintptr_t pc[wanted.native_depth + 1];
    struct walked w = {.pc = pc};
    uint64_t generation = mw_native_generation();
    if (python_is_here(generation)) w.frames = mw_python_walk(NULL, wanted.python_depth, &w.python);
    bool native = wanted.native && (!tensor || wanted.native_of_tensors || !w.frames);
    if (native && mw_likely(mw_native_ready)) {
        bool cut = false;
        w.pcs = mw_native_walk(pc, wanted.native_depth, &cut);
        if (cut) w.python.flags |= MW_STACK_NATIVE_CUT;
    }
    if (!w.frames && !w.pcs) return MW_NO_STACK;
    // Asked again: an unloading may have begun during the walk.
    bool settled = !((generation = mw_native_generation()) & MW_UNSETTLED);
    uint64_t hash = hash_walked(&w, generation);
    uint32_t stack;
    if (mw_likely(mw_map_find_one(&known, hash, &stack))) return stack;
    stack = describe(&w);
    if (!stack)
        mw_lost(MW_LOSS_STACKS, 1);
    else if (settled) // else the hash would never come again
        mw_map_add(&known, hash, stack);
    return stack;
}

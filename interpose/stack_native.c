// SPDX-License-Identifier: Apache-2.0
//
// Native stacks: from a frame to its caller by the call frame information that every compiler puts
// beside its code (cfi.c), remembered by address.
//
// Why not by a library. libunwind's unw_backtrace, the fastest there is, was tried: it keeps a pipe
// in the process for testing addresses, and after the program has closed "all" descriptors it goes
// on to write into, and read from, whatever file got the numbers; it needs malloc and 256 KiB in
// each thread, its locks, and for a function without .eh_frame it opens the object's file; what it
// knows about an address it still believes when another object lies there; and few containers have
// it. libgcc's unwinder takes ten times as long. Frame pointers are missing in most of what is
// watched.
//
// So what a hook does here is: a look-up in a table and two or three loads a frame.
//
// A rule, how to leave the code at an address, is a word. It goes into a table that all threads
// share and that only has room for what is true: an entry says for which generation of loaded
// objects it was found, and counts for that one alone. An object that holds a frame of the walker's
// own stack is loaded while the walk lasts, so what the walk finds is true while it lasts, and for
// the generation that it asked for at its start if that was not amid an unloading.
//
// Generations. Only an unloading makes something false. The doors count each dlclose when it begins
// and when it has returned. In between nothing is remembered or believed, as nobody knows when the
// address space is given up and who maps something there next; a thread that runs code of the new
// object came to it through the loader's lock, and so sees at least the beginning. Objects may also
// be unloaded past the doors (by the C library itself, in another namespace, by a pointer to
// dlclose that came from its own handle). That is noticed when an object turns up where another one
// was, at the first address that no rule is known for, or when a walk goes astray.
//
// Memory. A walk must not fault, whatever the tables say: before a word outside the stretch of
// stack that this thread knows to be readable is read, the kernel is asked. So it is once for each
// page, and not at all when a thread allocates at similar depths.
//
// Nothing here holds a lock or waits. A thread that is stopped for ever within (cancelled, or left
// behind by fork) leaves at most one entry of the table unused.
#include "stack_native.h"

#include "cfi.h"
#include "doors.h"
#include "ledger.h"
#include "symbols.h"
#include "text.h"

#include <errno.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/syscall.h>
#include <unistd.h>

MW_READ_MOSTLY bool mw_native_ready;

// ---- generations -----------------------------------------------------------------------------

MW_READ_MOSTLY struct mw_generation mw_generation = {.present = 1};
static _Atomic uint64_t unloaded; // objects, ever, when they were last counted
static _Atomic uint64_t asked;    // while there was no generation

// dl_iterate_phdr takes a lock of the loader's, which a forked child may have inherited locked.
static bool may_iterate = true;

uint64_t mw_unsettled_generation(void) {
    return MW_UNSETTLED | mw_add(&asked, 1);
}

static int count_unloads(struct dl_phdr_info *info, size_t size, void *count) {
    (void)size;
    *(uint64_t *)count = info->dlpi_subs;
    return 1;
}

// Sees whether objects were unloaded since it last did. Two threads at once may both have unloaded
// and count the same: the one that finds that new counted after both had.
static bool unloads_are_noticed(void) {
    uint64_t count = 0;
    if (!may_iterate) return false;
    dl_iterate_phdr(count_unloads, &count);
    if (atomic_exchange(&unloaded, count) == count) return false;
    mw_add(&mw_generation.present, 1);
    return true;
}

void mw_native_closing(void) {
    atomic_fetch_add(&mw_generation.closing, 1);
}

void mw_native_closed(void) {
    if (mw_native_ready) unloads_are_noticed();
    // None is under way in the child of a thread that forked within one: see mw_native_forked.
    if (mw_get(&mw_generation.closing))
        atomic_fetch_sub_explicit(&mw_generation.closing, 1, memory_order_release);
}

// ---- objects ---------------------------------------------------------------------------------

// <dlfcn.h> of glibc 2.35. The two architectures have neither of the optional fields.
struct found_object {
    unsigned long long flags;
    uintptr_t start, end;
    struct link_map *map;
    uintptr_t eh_frame_header;
    unsigned long long reserved[7];
};
static int (*find_object)(void *address, struct found_object *out);

struct object {
    struct mw_cfi_object cfi;
    uintptr_t base;
    const char *path;
    const ElfW(Phdr) * segments; // NULL: not readable
    size_t segment_count;
};

// The loader's answer has no program headers, but the first segment begins with the file's header.
static void find_segments(struct object *o) {
    const ElfW(Ehdr) *header = (const void *)o->cfi.start;
    uintptr_t room = o->cfi.end - o->cfi.start;
    if (room < 4096 || memcmp(header->e_ident, ELFMAG, SELFMAG) != 0 ||
        header->e_phentsize != sizeof(ElfW(Phdr)) ||
        header->e_phoff + header->e_phnum * sizeof(ElfW(Phdr)) > 4096)
        return;
    o->segments = (const void *)(o->cfi.start + header->e_phoff);
    o->segment_count = header->e_phnum;
}

struct object_search {
    uintptr_t address;
    struct object *out;
    bool found;
};

static int is_it_this(struct dl_phdr_info *info, size_t size, void *data) {
    (void)size;
    struct object_search *s = data;
    struct object o = {.cfi = {.start = UINTPTR_MAX},
                       .base = info->dlpi_addr,
                       .path = info->dlpi_name ? info->dlpi_name : "",
                       .segments = info->dlpi_phdr,
                       .segment_count = info->dlpi_phnum};
    for (size_t i = 0; i < o.segment_count; i++) {
        const ElfW(Phdr) *p = &o.segments[i];
        uintptr_t start = o.base + p->p_vaddr, end = start + p->p_memsz;
        if (p->p_type == PT_GNU_EH_FRAME) o.cfi.header = start;
        if (p->p_type != PT_LOAD) continue;
        if (start < o.cfi.start) o.cfi.start = start;
        if (end > o.cfi.end) o.cfi.end = end;
        if (s->address >= start && s->address < end) s->found = true;
    }
    if (s->found) *s->out = o;
    return s->found;
}

static bool object_at(uintptr_t address, struct object *o) {
    if (mw_likely(find_object)) {
        struct found_object f;
        if (find_object((void *)address, &f) != 0) return false;
        *o = (struct object){.cfi = {f.start, f.end, f.eh_frame_header},
                             .base = f.map->l_addr,
                             .path = f.map->l_name};
        find_segments(o);
        return true;
    }
    struct object_search s = {.address = address, .out = o};
    if (may_iterate) dl_iterate_phdr(is_it_this, &s);
    return s.found;
}

// The note is "GNU", type 3 (NT_GNU_BUILD_ID); each part is padded to 4 bytes.
static unsigned build_id_in(const struct object *o, const ElfW(Phdr) * p, uint8_t *out,
                            unsigned room) {
    uintptr_t at = o->base + p->p_vaddr, end = at + p->p_filesz;
    if (at < o->cfi.start || end > o->cfi.end || end < at) return 0;
    while (end - at >= sizeof(ElfW(Nhdr))) {
        const ElfW(Nhdr) *note = (const void *)at;
        uintptr_t name = at + sizeof *note, id = name + (((uintptr_t)note->n_namesz + 3) & ~3ul);
        if (id > end || note->n_descsz > end - id) return 0;
        if (note->n_type == NT_GNU_BUILD_ID && note->n_namesz == 4 &&
            memcmp((const void *)name, "GNU", 4) == 0) {
            unsigned bytes = note->n_descsz < room ? note->n_descsz : room;
            memcpy(out, (const void *)id, bytes);
            return bytes;
        }
        at = id + (((uintptr_t)note->n_descsz + 3) & ~3ul);
        if (at > end) return 0;
    }
    return 0;
}

static unsigned build_id(const struct object *o, uint8_t *out, unsigned room) {
    unsigned bytes = 0;
    for (size_t i = 0; i < o->segment_count && !bytes; i++)
        if (o->segments[i].p_type == PT_NOTE) bytes = build_id_in(o, &o->segments[i], out, room);
    return bytes;
}

bool mw_native_module_at(uintptr_t pc, struct mw_native_module *out) {
    struct object o;
    if (!object_at(pc, &o)) return false;
    *out = (struct mw_native_module){o.path, o.base, o.cfi.start, o.cfi.end, 0, {0}};
    out->build_id_bytes = (uint8_t)build_id(&o, out->build_id, sizeof out->build_id);
    return true;
}

// ---- objects that were unloaded past the doors --------------------------------------------------

// The objects that rules were found in. When the list is full, such changes are no longer noticed.
#define SEEN 512u
static struct {
    _Atomic uintptr_t start, end; // end is stored last; 0 = unused or gone
    _Atomic uint64_t identity;
} seen[SEEN];
static _Atomic uint32_t seen_count;

static uint64_t identity_of(const struct object *o) {
    uint64_t id[4] = {0}, h = o->base ^ o->cfi.end ^ o->cfi.header << 1;
    build_id(o, (uint8_t *)id, sizeof id);
    for (size_t i = 0; i < 4; i++) h = (h ^ id[i]) * UINT64_C(0x9e3779b97f4a7c15) ^ h >> 29;
    return h;
}

static bool is_still_there(uintptr_t start, uint64_t identity) {
    struct object o;
    return object_at(start, &o) && o.cfi.start == start && identity_of(&o) == identity;
}

static void note_object(const struct object *o) {
    uint64_t identity = identity_of(o);
    uint32_t count = mw_get(&seen_count);
    for (uint32_t i = 0; i < count && i < SEEN; i++) {
        uintptr_t end = atomic_load_explicit(&seen[i].end, memory_order_acquire);
        uintptr_t start = mw_get(&seen[i].start);
        uint64_t its_identity = mw_get(&seen[i].identity);
        if (o->cfi.start >= end || o->cfi.end <= start) continue;
        if (o->cfi.start == start && its_identity == identity) return;
        // What the kernel loads may have gaps, in which others lie.
        if (is_still_there(start, its_identity)) continue;
        mw_set(&seen[i].end, 0);
        mw_add(&mw_generation.present, 1);
    }
    uint32_t i = count < SEEN ? mw_add(&seen_count, 1) : SEEN;
    if (i >= SEEN) return;
    mw_set(&seen[i].start, o->cfi.start);
    mw_set(&seen[i].identity, identity);
    atomic_store_explicit(&seen[i].end, o->cfi.end, memory_order_release);
}

// ---- memory ----------------------------------------------------------------------------------

#define PAGE     4096u
#define FAR      (16u * PAGE)
#define MOST_OWN (256u * PAGE) // deeper, and each walk asks the kernel

// What this thread knows to be readable: of the stack that it walks just now, and of its own, which
// stays as long as the thread does. Other stacks (of coroutines) may go and shorter ones come at
// the same place, so nothing of them is believed in the next walk.
static _Thread_local __attribute__((tls_model("initial-exec"))) struct {
    volatile uintptr_t low, high, own_low, own_high;
} stack;

// A signal handler may walk in between, so the stretch is empty while it changes.
static void set_stretch(uintptr_t low, uintptr_t high) {
    stack.high = 0;
    stack.low = low;
    stack.high = high;
}

// A page at the far end of this thread's own stack: the kernel puts random bytes there for the
// first thread, and thread libraries put the thread-local variables of others there.
static uintptr_t own_end(void) {
    uintptr_t random = (uintptr_t)getauxval(AT_RANDOM), mine = (uintptr_t)&stack;
    bool first = (pid_t)syscall(SYS_gettid) == getpid();
    return (first ? random : mine) & ~(uintptr_t)(PAGE - 1);
}

// The kernel reads the new signal mask before it looks at what to do with it, and -1 is nothing
// that it knows: a bad address is EFAULT, a good one EINVAL. Address 0 would be no mask.
static bool kernel_can_read(uintptr_t address) {
    int saved = errno;
    if (!address) return false;
    bool bad = syscall(SYS_rt_sigprocmask, -1, address, NULL, 8) == -1 && errno == EFAULT;
    errno = saved;
    return !bad;
}

static bool all_readable(uintptr_t from, uintptr_t to) {
    for (uintptr_t page = from; page < to; page += PAGE)
        if (!kernel_can_read(page)) return false;
    return true;
}

// The first walk of a thread, or one that is deeper than those before: is this its own stack,
// without a gap up to what is known of it?
static __attribute__((noinline)) bool is_own(uintptr_t page) {
    uintptr_t end = stack.own_high ? stack.own_low : own_end();
    if (page >= end || end - page > MOST_OWN || !all_readable(page, end)) return false;
    if (!stack.own_high) stack.own_high = end;
    stack.own_low = page;
    return true;
}

// Begins a walk: sp is in use, so its page is there.
static void stand_on(uintptr_t sp) {
    uintptr_t page = sp & ~(uintptr_t)(PAGE - 1);
    if (mw_likely(page >= stack.own_low && page < stack.own_high) || is_own(page))
        set_stretch(stack.own_low, stack.own_high);
    else
        set_stretch(page, page + PAGE);
}

static __attribute__((noinline)) bool look_at(uintptr_t address) {
    uintptr_t page = address & ~(uintptr_t)(PAGE - 1), high = stack.high;
    if (page >= high && page - high <= FAR) {
        if (!all_readable(high, page + PAGE)) return false;
        set_stretch(stack.low, page + PAGE);
        return true;
    }
    return kernel_can_read(page);
}

// Reads a word of a stack; false if that cannot be. By hand, because a sanitizer would find that
// the variable there is not ours.
MW_INLINE bool load_word(uintptr_t address, uintptr_t *out) {
    if (mw_unlikely(address & 7)) return false;
    if (mw_unlikely(address < stack.low || address >= stack.high) && !look_at(address))
        return false;
#ifdef __x86_64__
    __asm__("mov %1, %0" : "=r"(*out) : "m"(*(const uintptr_t *)address));
#else
    __asm__("ldr %0, %1" : "=r"(*out) : "Q"(*(const uintptr_t *)address));
#endif
    return true;
}

// ---- rules -----------------------------------------------------------------------------------

// struct mw_cfi_step in a word: the flags, three places of 3 bits, three offsets in words of 8
// bytes. 0 is no rule: code that belongs to no object.
typedef uint64_t rule;
enum {
    RULE = 1,        // there is one
    OURS = 2,        // this library's code
    GUESS = 4,       // nothing is said about this code: it may have a frame pointer
    INTERRUPTED = 8, // see struct mw_cfi_step
    CFA_FROM_FP = 16,
    CFA_LOADED = 32,
    FP_PLACE = 6, // shifts
    RA_PLACE = 9,
    CFA_AT = 12,
    FP_AT = 29,
    RA_AT = 46,
    OFFSET_BITS = 17,
};

static rule pack_offset(int32_t offset, unsigned shift) {
    return ((uint64_t)(offset / 8) & ((1u << OFFSET_BITS) - 1)) << shift;
}
MW_INLINE intptr_t offset_in(rule r, unsigned shift) {
    return ((int64_t)(r << (64 - OFFSET_BITS - shift)) >> (64 - OFFSET_BITS)) * 8;
}
MW_INLINE unsigned place_in(rule r, unsigned shift) {
    return r >> shift & 7;
}

static rule pack(const struct mw_cfi_step *s) {
    return RULE | (s->interrupted ? INTERRUPTED : 0u) | (s->cfa_from_fp ? CFA_FROM_FP : 0u) |
           (s->cfa_loaded ? CFA_LOADED : 0u) | (rule)s->fp_place << FP_PLACE |
           (rule)s->ra_place << RA_PLACE | pack_offset(s->cfa, CFA_AT) | pack_offset(s->fp, FP_AT) |
           pack_offset(s->ra, RA_AT);
}

// The code that a signal handler returns to. It has no table entry to be relied on where the kernel
// brings it along (AArch64) and none at all in musl; what it finds on the stack is the kernel's
// struct rt_sigframe, which is an ABI.
static bool returns_from_signal(uintptr_t pc, struct mw_cfi_step *s) {
#ifdef __x86_64__
    static const uint8_t code[] = {0x48, 0xc7, 0xc0, 15, 0, 0, 0, 0x0f, 0x05}; // mov $15, %rax
                                                                               // syscall
    enum { REGISTERS = 40, FP = REGISTERS + 10 * 8, SP = FP + 5 * 8, PC = SP + 8 };
#else
    static const uint8_t code[] = {0x68, 0x11, 0x80, 0xd2,
                                   0x01, 0,    0,    0xd4}; // mov x8, #139; svc #0
    enum { REGISTERS = 128 + 184, FP = REGISTERS + 29 * 8, SP = FP + 2 * 8, PC = SP + 8 };
#endif
    if (!kernel_can_read(pc & ~(uintptr_t)7) ||
        !kernel_can_read((pc + sizeof code) & ~(uintptr_t)7) ||
        memcmp((const void *)pc, code, sizeof code) != 0)
        return false;
    *s = (struct mw_cfi_step){.cfa_loaded = true,
                              .interrupted = true,
                              .fp_place = MW_CFI_AT_SP,
                              .ra_place = MW_CFI_AT_SP,
                              .cfa = SP,
                              .fp = FP,
                              .ra = PC};
    return true;
}

static rule find_rule(uintptr_t pc) {
    struct object o;
    struct mw_cfi_step step;
    bool known = object_at(pc, &o);
    if (known) note_object(&o);
    // pc + 1: nothing was called, so this is where the return address points.
    if (returns_from_signal(pc + 1, &step)) return pack(&step);
    if (!known) return 0;
    rule r = mw_cfi_find(&o.cfi, pc, &step) ? pack(&step) : RULE | GUESS;
    return mw_doors_is_ours((const void *)pc) ? r | OURS : r;
}

// Two a cache line. `address` is stored last when an entry is made; while it is BUSY its maker
// alone touches the rest. An entry of an earlier generation is free for others.
#define RULES  8192u
#define PROBES 6u
#define BUSY   1u
static struct entry {
    _Alignas(32) _Atomic uintptr_t address;
    _Atomic rule rule;
    _Atomic uint64_t generation;
} rules[RULES];

MW_INLINE uint32_t slot_of(uintptr_t pc) {
    return (uint32_t)(pc * UINT64_C(0x9e3779b97f4a7c15) >> 51);
}
static_assert(RULES == 1u << (64 - 51), "as many as slot_of tells apart");

static void keep(uintptr_t pc, rule r, uint64_t now) {
    for (uint32_t i = 0, at = slot_of(pc); i < PROBES; i++, at++) {
        struct entry *e = &rules[at % RULES];
        uintptr_t have = atomic_load_explicit(&e->address, memory_order_acquire);
        if (have == pc && mw_get(&e->generation) == now) return;
        if (have == BUSY || (have && mw_get(&e->generation) >= now)) continue;
        if (!atomic_compare_exchange_strong(&e->address, &have, BUSY)) continue;
        // In this order, for readers that began while this was another entry: see rule_at.
        atomic_store_explicit(&e->rule, r, memory_order_release);
        atomic_store_explicit(&e->generation, now, memory_order_release);
        atomic_store_explicit(&e->address, pc, memory_order_release);
        return;
    }
}

// The slow way: looked for, and kept if it will stay true.
static __attribute__((noinline)) rule learn(uintptr_t pc, uint64_t now) {
    rule r = find_rule(pc);
    if (r && !(now & MW_UNSETTLED) && mw_native_generation() == now) keep(pc, r, now);
    return r;
}

MW_INLINE rule rule_at(uintptr_t pc, uint64_t now) {
    for (uint32_t i = 0, at = slot_of(pc); i < PROBES; i++, at++) {
        const struct entry *e = &rules[at % RULES];
        uintptr_t have = atomic_load_explicit(&e->address, memory_order_acquire);
        if (have == pc) {
            // An entry is only taken over from an earlier generation. So if this is the present
            // one's and the address is still this one, so was the rule between.
            uint64_t its = atomic_load_explicit(&e->generation, memory_order_acquire);
            rule r = atomic_load_explicit(&e->rule, memory_order_acquire);
            if (mw_likely(its == now && mw_get(&e->address) == pc)) return r;
        }
        if (!have) break;
    }
    return learn(pc, now);
}

// ---- walking ---------------------------------------------------------------------------------

// lr: the return address of a frame that has not stored it; only of the innermost, or an
// interrupted one, on AArch64. 0 = not known.
struct frame {
    uintptr_t pc, sp, fp, lr;
};

// Return addresses may be signed on AArch64; processors that cannot sign take this for nothing.
MW_INLINE uintptr_t unsigned_address(uintptr_t address) {
#ifdef __aarch64__
    register uintptr_t x30 __asm__("x30") = address;
    __asm__("hint #7" : "+r"(x30)); // xpaclri
    return x30;
#else
    return address;
#endif
}

MW_INLINE bool load_from(unsigned place, intptr_t offset, uintptr_t cfa, const struct frame *f,
                         uintptr_t *out) {
    uintptr_t from = place == MW_CFI_AT_CFA ? cfa : place == MW_CFI_AT_FP ? f->fp : f->sp;
    return load_word(from + (uintptr_t)offset, out);
}

// To the caller by a rule. False: the stack does not bear it out.
MW_INLINE bool step(struct frame *f, rule r) {
    uintptr_t cfa = (r & CFA_FROM_FP ? f->fp : f->sp) + (uintptr_t)offset_in(r, CFA_AT);
    if (mw_unlikely(r & CFA_LOADED) && !load_word(cfa, &cfa)) return false;
    // The stack grows downwards; only a signal handler may be on another one.
    if (mw_unlikely(cfa <= f->sp && !(r & INTERRUPTED))) {
        // A leaf function of AArch64 has no frame.
        if (cfa != f->sp || place_in(r, RA_PLACE) != MW_CFI_KEPT) return false;
    }
    struct frame caller = {.sp = cfa, .fp = f->fp};
    unsigned ra_place = place_in(r, RA_PLACE), fp_place = place_in(r, FP_PLACE);
    if (mw_unlikely(ra_place == MW_CFI_KEPT)) {
        if (!f->lr) return false;
        caller.pc = f->lr;
    } else if (!load_from(ra_place, offset_in(r, RA_AT), cfa, f, &caller.pc)) {
        return false;
    }
    if (fp_place == MW_CFI_LOST)
        caller.fp = 0;
    else if (fp_place != MW_CFI_KEPT &&
             !load_from(fp_place, offset_in(r, FP_AT), cfa, f, &caller.fp))
        return false;
#ifdef __aarch64__
    // x30 is the word after x29 in what the signal saved.
    if (r & INTERRUPTED && !load_from(fp_place, offset_in(r, FP_AT) + 8, cfa, f, &caller.lr))
        return false;
    caller.lr = unsigned_address(caller.lr);
#endif
    caller.pc = unsigned_address(caller.pc);
    *f = caller;
    return true;
}

// To the caller by the frame pointer, if there seems to be one: it points to the caller's, and
// beside that is the return address.
#define LARGEST_FRAME ((uintptr_t)1 << 20)
static bool step_by_frame_pointer(struct frame *f) {
    uintptr_t record = f->fp;
    if (record < f->sp || record - f->sp > LARGEST_FRAME || !load_word(record, &f->fp) ||
        !load_word(record + 8, &f->pc))
        return false;
    f->sp = record + 16;
    f->lr = 0;
    f->pc = unsigned_address(f->pc);
    return true;
}

#define MOST_OURS 64u // frames of this library within one stack

struct walk {
    uintptr_t *pc;
    unsigned limit, count;
    bool cut;    // there were more frames
    bool astray; // it did not end where the code says that a stack ends
};

MW_HOT static void walk_from(struct frame f, struct walk *w) {
    uint64_t now = mw_native_generation();
    unsigned count = 0;
    bool guessed = false;
    w->count = 0;
    w->cut = w->astray = false;
    for (unsigned frames = 0; frames < w->limit + MOST_OURS; frames++) {
        rule r = rule_at(f.pc - 1, now);
        if (!(r & OURS)) {
            if (mw_unlikely(count == w->limit)) {
                w->cut = true;
                return;
            }
            w->pc[count++] = f.pc;
        }
        // Frames that the frame pointer led to count if it leads back to code that is known.
        bool known = r && !(r & GUESS);
        if (mw_likely(known || !guessed)) w->count = count;
        if (mw_unlikely(known && place_in(r, RA_PLACE) == MW_CFI_LOST)) return; // the outermost
        if (mw_unlikely(!(known ? step(&f, r) : step_by_frame_pointer(&f)))) {
            w->astray = w->cut = true;
            return;
        }
        if (mw_unlikely(!f.pc)) { // the outermost of code that says nothing; or a stray zero
            w->astray = true;
            return;
        }
        guessed = !known;
        if (mw_unlikely(r & INTERRUPTED)) f.pc++;
    }
}

MW_HOT unsigned mw_native_walk(uintptr_t *pc, unsigned limit, bool *cut) {
    struct frame f = {.lr = 0};
#ifdef __x86_64__
    __asm__ volatile("mov %%rbp, %0\n\tmov %%rsp, %1\n\tlea 0(%%rip), %2"
                     : "=&r"(f.fp), "=&r"(f.sp), "=&r"(f.pc));
#else
    __asm__ volatile("mov %0, x29\n\tmov %1, sp\n\tadr %2, ."
                     : "=&r"(f.fp), "=&r"(f.sp), "=&r"(f.pc));
#endif
    f.pc++; // not a return address
    struct walk w = {.pc = pc, .limit = limit};
    stand_on(f.sp);
    walk_from(f, &w);
    if (mw_unlikely(w.astray) && unloads_are_noticed()) walk_from(f, &w);
    *cut = w.cut;
    return w.count;
}

// ---- start -----------------------------------------------------------------------------------

static int look_for_find_object(struct dl_phdr_info *info, size_t size, void *unused) {
    (void)size, (void)unused;
    struct mw_elf object;
    if (!mw_elf_read(&object, info)) return 0;
    void *found = mw_elf_find(&object, mw_elf_name("_dl_find_object"), "GLIBC_2.35");
    if (found) find_object = (int (*)(void *, struct found_object *))found;
    return found != NULL;
}

void mw_native_forked(void) {
    mw_set(&mw_generation.closing, 0);
    may_iterate = find_object;
}

void mw_native_find(struct mw_level *level) {
    int saved = errno;
    uintptr_t pc[1];
    bool cut;
    if (!find_object && may_iterate) dl_iterate_phdr(look_for_find_object, NULL);
    mw_native_ready = mw_native_walk(pc, 1, &cut) > 0;
    struct mw_text words = mw_text(level->words, sizeof level->words);
    if (mw_native_ready) {
        mw_put(&words, "call frame information of the loaded objects");
        if (!find_object) mw_put(&words, ", found by dl_iterate_phdr");
    } else {
        mw_put(&words, "the library has no call frame information: it was stripped of .eh_frame");
    }
    atomic_store_explicit(&level->state, mw_native_ready ? MW_LEVEL_LIVE : MW_LEVEL_UNAVAILABLE,
                          memory_order_release);
    errno = saved;
}

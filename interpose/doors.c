// SPDX-License-Identifier: Apache-2.0
//
// The doors: every way in which a program comes by the address of a function that we wrap.
//
//   the symbol       linked programs: our exported wrappers stand first in load order
//   dlsym            here and in doors.S
//   cuGetProcAddress and _v2, themselves wrapped: cudart fetches all of its driver functions so
//
// Route by pointer, never by name: the real resolver is asked first, and its answer is exchanged
// only if it is the very address of a function that a wrapper forwards to. A base name says
// nothing: which ABI a look-up means depends on version, flags and driver. Whatever is not
// recognised goes to the program as it came, and is put on a list if it sounds like memory.
//
// What is known of the loaded objects stands in the `next` and `driver` slots of the table, which
// are filled for all rows at once whenever objects have come or gone since. Nothing else is
// remembered, so nothing depends on the order or the number of look-ups.
//
// Look-ups happen before our constructor, inside other libraries' constructors, and while a
// sanitizer's runtime is half set up: no malloc, no lock and no libc function on these ways but
// dl_iterate_phdr (and dlvsym: see mw_doors_real).
#include "doors.h"

#include "floor.h"
#include "options.h"
#include "stack_native.h"
#include "stacks.h"
#include "startup.h"
#include "symbols.h"
#include "text.h"
#include "torch.h"

#include <dlfcn.h>
#include <errno.h>

struct mw_doors_seen mw_doors_seen;

// The C library's own, for the tail jumps of doors.S.
MW_STARTUP mw_pointer mw_real_dlsym, mw_real_dlopen;
MW_STARTUP static mw_pointer real_dlclose;
typedef void *(*find_function)(void *handle, const char *name);

// Bounds of this library in memory, from the linker.
extern const char __ehdr_start[] __attribute__((visibility("hidden")));
extern const char _end[] __attribute__((visibility("hidden")));

#define SONAME "libmemwatch.so"

#define MW_DEEPBIND 8 // RTLD_DEEPBIND of glibc; musl has no such flag and ignores the bit

static void *load(mw_pointer *slot) {
    return atomic_load_explicit(slot, memory_order_acquire);
}

bool mw_doors_is_ours(const void *pointer) {
    return (uintptr_t)pointer >= (uintptr_t)__ehdr_start && (uintptr_t)pointer < (uintptr_t)_end;
}

bool mw_doors_is_this(const struct mw_elf *object) {
    return mw_elf_contains(object, __ehdr_start);
}

bool mw_doors_is_a_copy(const struct mw_elf *object) {
    return object->soname && mw_same(object->soname, SONAME);
}

// ---- the next definition after us ------------------------------------------------------------

struct search {
    struct mw_elf_name name;
    bool after_us;
    void *found;
};

static int look_behind_us(struct dl_phdr_info *info, size_t size, void *data) {
    (void)size;
    struct search *s = data;
    struct mw_elf object;
    if (!mw_elf_read(&object, info)) return 0;
    if (mw_doors_is_this(&object))
        s->after_us = true;
    else if (s->after_us && !mw_doors_is_a_copy(&object))
        s->found = mw_elf_find(&object, s->name, NULL);
    return s->found != NULL;
}

// The first definition of any version behind us in load order.
static void *behind_us(const char *name) {
    struct search s = {.name = mw_elf_name(name)};
    dl_iterate_phdr(look_behind_us, &s);
    return s.found;
}

// ---- libc's own ----------------------------------------------------------------------------

#ifdef MW_FLOOR
MW_FLOORED(dlvsym)
#    pragma weak dlvsym
#endif

// The definitions behind us in load order: libc's own, or those of another tool that stands between
// us and libc, which thereby keeps its place. dlvsym passes over such a tool, so it only gives a
// dlsym to ask. glibc keeps the oldest version for good, so that cannot fail and leave a message
// for the program's next dlerror. It is preferred to reading the symbol tables because a
// sanitizer's runtime intercepts dl_iterate_phdr and asks for dlsym before that interceptor works.
// There is no dlvsym in musl, nor before glibc 2.34 in a program without libdl.
MW_STARTUP_CODE void mw_doors_real(mw_pointer *real, const char *name) {
    if (atomic_load_explicit(real, memory_order_relaxed)) return;
    void *libc_dlsym = NULL;
#ifdef MW_FLOOR
    MW_STARTUP static mw_pointer known;
    MW_STARTUP static char name_of_it[] = "dlsym", oldest[] = MW_FLOOR;
    libc_dlsym = load(&known);
    if (!libc_dlsym && dlvsym) {
        libc_dlsym = dlvsym(RTLD_NEXT, name_of_it, oldest);
        atomic_store_explicit(&known, libc_dlsym, memory_order_release);
    }
#endif
    void *found = libc_dlsym ? ((find_function)libc_dlsym)(RTLD_NEXT, name) : behind_us(name);
    atomic_store_explicit(real, found, memory_order_release);
}

// Before the first use of a door, by the door: most processes use none. Idempotent, lock-free.
__attribute__((visibility("hidden"))) void mw_doors_init(void) {
    mw_doors_real(&mw_real_dlsym, "dlsym");
    mw_doors_real(&mw_real_dlopen, "dlopen");
    mw_doors_real(&real_dlclose, "dlclose");
}

// ---- a second copy of this library -----------------------------------------------------------

static int look_before_us(struct dl_phdr_info *info, size_t size, void *data) {
    (void)size;
    bool *found = data;
    struct mw_elf object;
    if (!mw_elf_read(&object, info)) return 0;
    if (mw_doors_is_this(&object)) return 1;
    if (mw_doors_is_a_copy(&object)) *found = true;
    return *found;
}

// Load order does not change, so the answer is kept: 0 = not asked yet, 1 = no, 2 = yes.
bool mw_doors_second_copy(void) {
    static _Atomic int known;
    int answer = atomic_load_explicit(&known, memory_order_relaxed);
    if (!answer) {
        bool found = false;
        dl_iterate_phdr(look_before_us, &found);
        answer = 1 + found;
        atomic_store_explicit(&known, answer, memory_order_relaxed);
    }
    return answer == 2;
}

// ---- names -----------------------------------------------------------------------------------

// cuGetProcAddress is asked for base names ("cuMemAlloc" means cuMemAlloc_v2), dlsym for symbols.
static bool name_fits(const char *symbol, const char *name, enum mw_door door) {
    while (*name && *symbol == *name) symbol++, name++;
    return !*name && (!*symbol || door != MW_DOOR_DLSYM);
}

static bool fits_a_row(const char *name, enum mw_door door) {
    for (unsigned i = 0; i < MW_ENTRIES; i++)
        if (name_fits(mw_entry(i).name, name, door)) return true;
    return false;
}

// ---- what is loaded --------------------------------------------------------------------------

// A second source of functions besides `next`: the load address of the object whose definitions
// stand in the `driver` slots, 0 = none. It is the first one found that a look-up reaches although
// something else stands before it: libcuda behind another tool's wrappers, or a second libcuda.
// (The libcuda of WSL loads a second one too, but asks it only for cuInit, which is no row.)
static _Atomic uintptr_t driver_at;

// How many objects had ever been loaded and unloaded when the slots were last filled. Both counts
// only grow, so the sum stays the same only while nothing happens. musl never unloads.
static _Atomic uint64_t learned;

static int count_changes(struct dl_phdr_info *info, size_t size, void *data) {
    (void)size;
    *(uint64_t *)data = info->dlpi_adds + info->dlpi_subs;
    return 1;
}

static uint64_t changes(void) {
    uint64_t n = 0;
    dl_iterate_phdr(count_changes, &n);
    return n;
}

// One pass over the loaded objects. A slot is only changed from what it held before the pass: if
// another thread changed it meanwhile, that one knows as much.
struct pass {
    uintptr_t driver;
    bool after_us;
    uint32_t hash[MW_ENTRIES];
    void *next[MW_ENTRIES]; // what the slots held; once settled, SETTLED
    void *driver_slot[MW_ENTRIES];
};

static char settled;
#define SETTLED ((void *)&settled)

static void settle(mw_pointer *slot, void **held, void *found) {
    if (found != *held) atomic_compare_exchange_strong(slot, held, found);
    *held = SETTLED;
}

static int fill_from(struct dl_phdr_info *info, size_t size, void *data) {
    (void)size;
    struct pass *p = data;
    struct mw_elf object;
    if (!mw_elf_read(&object, info)) return 0;
    if (mw_doors_is_this(&object)) {
        p->after_us = true;
        return 0;
    }
    if (mw_doors_is_a_copy(&object)) return 0;
    bool is_driver = p->driver && object.bias == p->driver;
    for (unsigned i = 0; (is_driver || p->after_us) && i < MW_ENTRIES; i++) {
        const struct mw_entry e = mw_entry(i);
        bool wanted = p->after_us && p->next[i] != SETTLED;
        if (!wanted && !(is_driver && e.driver)) continue;
        void *found = mw_elf_find(&object, (struct mw_elf_name){e.name, p->hash[i]}, e.version);
        if (found && wanted) settle(e.next, &p->next[i], found);
        if (found && is_driver && e.driver) settle(e.driver, &p->driver_slot[i], found);
    }
    return 0;
}

static void fill_slots(void) {
    struct pass p = {.driver = atomic_load(&driver_at)};
    for (unsigned i = 0; i < MW_ENTRIES; i++) {
        const struct mw_entry e = mw_entry(i);
        p.hash[i] = mw_elf_name(e.name).hash;
        p.next[i] = load(e.next);
        p.driver_slot[i] = e.driver ? load(e.driver) : NULL;
    }
    dl_iterate_phdr(fill_from, &p);
    // What was not found any more has been unloaded.
    bool driver_there = false;
    for (unsigned i = 0; i < MW_ENTRIES; i++) {
        const struct mw_entry e = mw_entry(i);
        if (p.next[i] != SETTLED) settle(e.next, &p.next[i], NULL);
        if (!e.driver) continue;
        if (p.driver_slot[i] == SETTLED)
            driver_there = true;
        else
            settle(e.driver, &p.driver_slot[i], NULL);
    }
    if (!driver_there) atomic_compare_exchange_strong(&driver_at, &p.driver, 0);
}

// Fills the slots if objects have come or gone.
static void catch_up(void) {
    uint64_t now = changes();
    if (now == atomic_load_explicit(&learned, memory_order_acquire)) return;
    fill_slots();
    atomic_store_explicit(&learned, now, memory_order_release);
    mw_torch_look();
    mw_stacks_look();
}

struct owner_search {
    const void *pointer;
    const char *name;
    enum mw_door door;
    uintptr_t found; // the object that defines a row of that name at that address
    char path[sizeof mw_doors_seen.driver_path];
};

static int look_for_owner(struct dl_phdr_info *info, size_t size, void *data) {
    (void)size;
    struct owner_search *s = data;
    struct mw_elf object;
    if (!mw_elf_read(&object, info) || !mw_elf_contains(&object, s->pointer)) return 0;
    for (unsigned i = 0; i < MW_ENTRIES && !s->found; i++) {
        const struct mw_entry e = mw_entry(i);
        if (e.driver && name_fits(e.name, s->name, s->door) &&
            mw_elf_find(&object, mw_elf_name(e.name), e.version) == s->pointer)
            s->found = object.bias;
    }
    struct mw_text t = mw_text(s->path, sizeof s->path);
    mw_put(&t, object.path);
    return 1;
}

static void note_driver_path(const char *path) {
    struct mw_text t = mw_text(mw_doors_seen.driver_path, sizeof mw_doors_seen.driver_path);
    mw_put(&t, path);
}

// A pointer that no slot holds: if it is a function of the table all the same, its object becomes
// the driver. True if the slots hold it now. (Whoever loses the race for the same object fills the
// slots as well: they may be needed before the winner is done.)
static bool adopt(const void *pointer, const char *name, enum mw_door door) {
    struct owner_search s = {.pointer = pointer, .name = name, .door = door};
    uintptr_t before = 0;
    if (!fits_a_row(name, door)) return false;
    dl_iterate_phdr(look_for_owner, &s);
    if (!s.found) return false;
    if (atomic_compare_exchange_strong(&driver_at, &before, s.found))
        note_driver_path(s.path);
    else if (before != s.found)
        return false;
    fill_slots();
    return true;
}

// Which library it is that we watch, for the report.
static void note_first_driver(const struct mw_entry *entry, const void *pointer) {
    if (!entry->driver || mw_doors_seen.driver_path[0]) return;
    struct owner_search s = {.pointer = pointer, .name = entry->name, .door = MW_DOOR_DLSYM};
    dl_iterate_phdr(look_for_owner, &s);
    note_driver_path(s.path);
}

// A reference without a version may reach the wrapper of a version that is not loaded. Then any
// definition serves, but is not kept: the library of the right version may come yet.
void *mw_doors_next(unsigned index) {
    const struct mw_entry e = mw_entry(index);
    catch_up();
    void *next = load(e.next);
    if (!next) return behind_us(e.name);
    note_first_driver(&e, next);
    atomic_fetch_add_explicit(&mw_doors_seen.answered[MW_DOOR_SYMBOL], 1, memory_order_relaxed);
    mw_doors_changed();
    return next;
}

// ---- look-ups that we do not follow ----------------------------------------------------------

// Driver functions whose names sound like memory and that neither give nor take any. Only the
// driver's: what a runtime function allocates is seen where it reaches the driver.
// Words, each with its terminator, the last one empty: pointers to them would have to be relocated
// in every process.
static const char sounds_like_memory[] = "Mem\0Array\0Pool\0Ipc\0Import\0Multicast\0Heap\0";
static const char harmless[] =
    // move, fill or place what is there
    "Memcpy\0Memset\0MemAdvise\0MemPrefetch\0MemDiscard\0MemRange\0MemBatchDecompress\0"
    "StreamAttachMem\0MemOp\0"
    // tell something about it
    "GetAccess\0GetAddressRange\0GetDescriptor\0GetSparseProperties\0GetMemoryRequirements\0"
    "GetPlane\0ArrayGetLevel\0GetGranularity\0AllocationGranularity\0PropertiesFromHandle\0"
    "NodeGetParams\0MemHostGet\0MemGetAttribute\0GetMappedArray\0GetMappedMipmappedArray\0"
    // let others use it: the importing side is the one that is watched
    "SetAccess\0PoolExport\0MemExport\0IpcGetMemHandle\0MemGetHandleForAddressRange\0"
    "MulticastAddDevice\0"
    // no memory in the sense of this library
    "SharedMem\0SMem\0RefSet\0RefGet\0EventHandle\0ExternalSemaphore\0DumpToMemory\0"
    "SetGraphMemAttribute\0";

static bool contains(const char *text, const char *part) {
    for (; *text; text++) {
        size_t i = 0;
        while (part[i] && text[i] == part[i]) i++;
        if (!part[i]) return true;
    }
    return false;
}

static bool contains_any(const char *text, const char *words) {
    for (; *words; words++) {
        if (contains(text, words)) return true;
        while (*words) words++;
    }
    return false;
}

static bool is_driver_name(const char *name) {
    return name[0] == 'c' && name[1] == 'u' && name[2] >= 'A' && name[2] <= 'Z';
}

// A slot is claimed by its name's hash, then filled; its count, stored last, makes it readable. Who
// meets a slot that is just being filled leaves its own count out.
static void note_unwatched(const char *name, enum mw_door door) {
    static _Atomic uint32_t claimed[MW_LOOKUPS];
    if (!is_driver_name(name) || !contains_any(name, sounds_like_memory) ||
        contains_any(name, harmless))
        return;
    uint32_t hash = mw_elf_name(name).hash | 1;
    for (unsigned i = 0; i < MW_LOOKUPS; i++) {
        unsigned at = (hash + i) % MW_LOOKUPS;
        struct mw_lookup *slot = &mw_doors_seen.unwatched[at];
        uint32_t owner = 0;
        if (atomic_compare_exchange_strong(&claimed[at], &owner, hash)) {
            struct mw_text t = mw_text(slot->name, sizeof slot->name);
            mw_put(&t, name);
            slot->door = door;
            atomic_store_explicit(&slot->count, 1, memory_order_release);
            return;
        }
        if (owner != hash) continue;
        if (atomic_load_explicit(&slot->count, memory_order_acquire))
            atomic_fetch_add_explicit(&slot->count, 1, memory_order_relaxed);
        return;
    }
    atomic_fetch_add_explicit(&mw_doors_seen.unwatched_lost, 1, memory_order_relaxed);
}

// ---- routing ---------------------------------------------------------------------------------

static void *wrapper_of(const void *pointer, const char *name, enum mw_door door) {
    for (unsigned i = 0; i < MW_ENTRIES; i++) {
        const struct mw_entry e = mw_entry(i);
        bool is_next = load(e.next) == pointer;
        if (!is_next && (!e.driver || load(e.driver) != pointer)) continue;
        if (!name_fits(e.name, name, door)) continue;
        note_first_driver(&e, pointer);
        return is_next ? e.wrapper : e.routed;
    }
    return NULL;
}

void *mw_doors_route(void *pointer, const char *name, enum mw_door door) {
    if (!pointer || mw_doors_second_copy()) return pointer;
    int saved = errno;
    void *answer = pointer;
    if (!name) name = "";
    if (!mw_doors_is_ours(pointer)) {
        catch_up();
        answer = wrapper_of(pointer, name, door);
        if (!answer && adopt(pointer, name, door)) answer = wrapper_of(pointer, name, door);
    }
    if (answer)
        atomic_fetch_add_explicit(&mw_doors_seen.answered[door], 1, memory_order_relaxed);
    else
        note_unwatched(name, door);
    mw_doors_changed();
    errno = saved;
    return answer ? answer : pointer;
}

// ---- what doors.S calls ----------------------------------------------------------------------

// What the program would have found in the global scope without us. A failure leaves its message
// for dlerror.
static void *global_without_us(const char *name) {
    return ((find_function)load(&mw_real_dlsym))(RTLD_NEXT, name);
}

// dlsym with a handle, for a name like cuX or cudaX. The handle of the program itself stands for
// the global scope, where the first to be found is our wrapper: then the answer is the wrapper of
// what stands behind us there, or nothing.
__attribute__((visibility("hidden"))) void *mw_doors_dlsym(void *handle, const char *name) {
    mw_doors_init();
    find_function real = (find_function)load(&mw_real_dlsym);
    void *found = real ? real(handle, name) : NULL;
    if (!found || !mw_doors_is_ours(found)) return mw_doors_route(found, name, MW_DOOR_DLSYM);
    void *behind = global_without_us(name);
    void *answer = mw_doors_route(behind, name, MW_DOOR_DLSYM);
    return answer == behind && behind ? found : answer;
}

static int look_at_all_others(struct dl_phdr_info *info, size_t size, void *data) {
    (void)size;
    struct search *s = data;
    struct mw_elf object;
    if (mw_elf_read(&object, info) && !mw_doors_is_this(&object) && !mw_doors_is_a_copy(&object))
        s->found = mw_elf_find(&object, s->name, NULL);
    return s->found != NULL;
}

// RTLD_DEFAULT depends on who asks, so the real dlsym must be jumped to, and finds our wrapper.
// True if it must not, since without us nobody would have answered: there is no CUDA in the
// process.
__attribute__((visibility("hidden"))) bool mw_doors_nobody_has(const char *name) {
    mw_doors_init();
    if (!fits_a_row(name, MW_DOOR_DLSYM) || !load(&mw_real_dlsym) || global_without_us(name))
        return false;
    struct search s = {.name = mw_elf_name(name)};
    dl_iterate_phdr(look_at_all_others, &s);
    return !s.found;
}

// dlopen with RTLD_DEEPBIND: such a library looks in itself first, so its calls pass us by. Returns
// the flags to open it with.
__attribute__((visibility("hidden"))) int mw_doors_deepbind(const char *path, int flags) {
    if (atomic_fetch_add(&mw_doors_seen.deepbinds, 1) == 0 && path) {
        struct mw_text t = mw_text(mw_doors_seen.deepbind_path, sizeof mw_doors_seen.deepbind_path);
        mw_put(&t, path);
    }
    mw_doors_changed();
    // Asked here, long before the options are read: plug-ins are opened before the first event.
    return mw_option_deepbind() ? flags & ~MW_DEEPBIND : flags;
}

// Calls through the exported symbols do not pass a look-up, so a library that was unloaded, and
// perhaps loaded again elsewhere, is noticed here. dlclose does not depend on who calls it.
__attribute__((visibility("default"))) int dlclose(void *handle) {
    mw_doors_init();
    int (*real)(void *) = (int (*)(void *))load(&real_dlclose);
    mw_native_closing();
    int result = real ? real(handle) : 0;
    int saved = errno;
    mw_native_closed();
    mw_stacks_look();
    if (atomic_load_explicit(&learned, memory_order_acquire)) catch_up();
    mw_torch_closed();
    errno = saved;
    return result;
}

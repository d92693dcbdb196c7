// SPDX-License-Identifier: Apache-2.0
// links: interpose/cfi.c interpose/symbols.c
// includes: interpose/stack_native.c
// build: -D_GNU_SOURCE -fomit-frame-pointer -fno-optimize-sibling-calls -Wl,--build-id=0x6d77
//
// A walk must give the very return addresses that the functions on the stack have, through code
// without frame pointers, with frames of variable size, of the C library and of signal handlers;
// and must do no harm where what is known about the code is wrong.
//
// Included, not linked: what older C libraries lack is taken away here, and false rules are laid.
#include "stack_native.c"

#include <execinfo.h>
#include <limits.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/mman.h>

#include <cmocka.h>

#define NOINLINE __attribute__((noinline))
#define CALLER   ((uintptr_t)__builtin_return_address(0))

// Functions of this section are taken for the library's own.
#define OWN __attribute__((noinline, section("own_code")))
extern const char __start_own_code[], __stop_own_code[];

bool mw_doors_is_ours(const void *pointer) {
    return (const char *)pointer >= __start_own_code && (const char *)pointer < __stop_own_code;
}

// ---- walking ---------------------------------------------------------------------------------

#define MOST 512u
static struct {
    uintptr_t pc[MOST]; // as walked
    unsigned count;
    bool cut;
    uintptr_t expected[MOST]; // return addresses, as the functions themselves know them
    unsigned expected_count;
} taken;

static void expect_frame(uintptr_t return_address) {
    taken.expected[taken.expected_count++] = return_address;
}

// The walk's own frame comes first, then this one; from then on all must be as expected.
static unsigned limit = MOST;

static NOINLINE void take(void) {
    uintptr_t caller = CALLER;
    taken.count = mw_native_walk(taken.pc, limit, &taken.cut);
    memmove(&taken.expected[1], taken.expected, taken.expected_count++ * sizeof caller);
    taken.expected[0] = caller;
}

// The functions noted themselves from the outermost to the innermost.
static void assert_as_expected(void) {
    unsigned n = taken.expected_count;
    assert_true(taken.count >= n + 2);
    assert_int_equal(taken.pc[2], taken.expected[0]);
    for (unsigned i = 1; i < n; i++) assert_int_equal(taken.pc[2 + i], taken.expected[n - i]);
}

typedef void (*next_function)(unsigned depth);
static next_function const *way; // who calls whom

static inline __attribute__((always_inline)) void go_on(unsigned depth) {
    if (way[depth])
        way[depth](depth + 1);
    else
        take();
    __asm__ volatile("");
}

static NOINLINE void plain(unsigned depth) {
    expect_frame(CALLER);
    go_on(depth);
}

static NOINLINE void large_frame(unsigned depth) {
    volatile char room[100000];
    room[depth] = 1;
    expect_frame(CALLER);
    go_on(depth);
    if (room[depth] != 1) abort();
}

static NOINLINE void frame_of_variable_size(unsigned depth) {
    volatile char *room = __builtin_alloca(depth * 1000 + (unsigned)rand() % 5000);
    room[0] = 1;
    expect_frame(CALLER);
    go_on(depth);
    if (room[0] != 1) abort();
}

// The compiler moves the stack pointer to a multiple of 256: the frame's size is not known, and
// with alloca neither is its place.
static NOINLINE void aligned_frame(unsigned depth) {
    volatile _Alignas(256) char room[256];
    volatile char *more = __builtin_alloca(depth * 100 + 1);
    room[0] = more[0] = 1;
    expect_frame(CALLER);
    go_on(depth);
    if (room[0] != 1 || more[0] != 1) abort();
}

static NOINLINE void many_locals(unsigned depth) {
    volatile uint64_t a = depth, b = a * 3, c = b * 5, d = c * 7;
    expect_frame(CALLER);
    go_on(depth);
    if (a + b + c + d == 1) abort();
}

static NOINLINE void many_arguments(unsigned depth, ...) {
    va_list list;
    va_start(list, depth);
    expect_frame(CALLER);
    go_on(depth);
    va_end(list);
}
static NOINLINE void with_many_arguments(unsigned depth) {
    expect_frame(CALLER);
    many_arguments(depth, 1, 2.0, 3, 4.0, 5, 6.0, 7, 8.0, 9, 10.0, 11, 12.0);
    __asm__ volatile("");
}

static NOINLINE void recursive(unsigned depth) {
    static _Thread_local unsigned times;
    expect_frame(CALLER);
    if (++times % 20)
        recursive(depth);
    else
        go_on(depth);
    __asm__ volatile("");
}

static NOINLINE void go(next_function const *functions) {
    way = functions;
    taken.expected_count = 0;
    go_on(0);
}

static void walk_the_way(next_function const *functions) {
    go(functions);
    assert_as_expected();
}

static void test_every_frame_is_there_whatever_the_functions_are_like(void **state) {
    (void)state;
    static next_function const kinds[] = {plain,         large_frame, frame_of_variable_size,
                                          aligned_frame, many_locals, with_many_arguments,
                                          recursive};
    enum { KINDS = sizeof kinds / sizeof kinds[0] };
    for (unsigned i = 0; i < KINDS; i++) walk_the_way((next_function const[]){kinds[i], NULL});
    srand(1);
    for (int round = 0; round < 500; round++) {
        next_function random[9] = {NULL};
        for (unsigned i = 0; i < 8; i++) random[i] = kinds[(unsigned)rand() % KINDS];
        walk_the_way(random);
    }
}

static OWN void own_function(unsigned depth) {
    go_on(depth);
}

static void test_our_own_frames_are_left_out_wherever_they_are(void **state) {
    (void)state;
    // A plain function between two of ours returns into one: that frame is not there.
    go((next_function const[]){plain, own_function, plain, own_function, NULL});
    for (unsigned i = 0; i < taken.count; i++)
        assert_false(mw_doors_is_ours((const void *)(taken.pc[i] - 1)));
    unsigned with_ours = taken.count;
    go((next_function const[]){plain, plain, plain, plain, NULL});
    assert_as_expected();
    assert_int_equal(with_ours, taken.count - 2);
}

static void test_a_stack_deeper_than_the_limit_is_cut_at_its_outer_end(void **state) {
    (void)state;
    static next_function const deep[] = {recursive, recursive, NULL};
    go(deep);
    assert_as_expected();
    assert_false(taken.cut);
    unsigned all = taken.count;
    uintptr_t whole[MOST];
    memcpy(whole, taken.pc, sizeof whole);
    assert_true(all > 40);
    for (limit = 0; limit <= all + 1; limit++) {
        go(deep);
        assert_int_equal(taken.count, limit < all ? limit : all);
        assert_int_equal(taken.cut, limit < all);
        // The outermost frames may have other return addresses: the calls above are others.
        for (unsigned i = 0; i < taken.count && i < 40; i++)
            assert_int_equal(taken.pc[i], whole[i]);
    }
    limit = MOST;
}

// glibc's own walk, by libgcc.
static int compare_with_backtrace(const void *a, const void *b) {
    uintptr_t pc[MOST];
    void *theirs[MOST];
    bool cut;
    unsigned n = mw_native_walk(pc, MOST, &cut);
    unsigned their_count = (unsigned)backtrace(theirs, MOST);
    // Ours begins with the walk itself, theirs here, or in a sanitizer's backtrace. Within this
    // function they differ by the call.
    assert_true(n == their_count + 1 || n == their_count);
    for (unsigned i = 1; i <= n - 2; i++)
        assert_int_equal(pc[n - i], (uintptr_t)theirs[their_count - i]);
    return *(const int *)a - *(const int *)b;
}

static void test_frames_of_the_c_library_are_passed_through(void **state) {
    (void)state;
    int numbers[100];
    for (int i = 0; i < 100; i++) numbers[i] = (i * 37) % 100;
    qsort(numbers, 100, sizeof *numbers, compare_with_backtrace);
    assert_int_equal(numbers[99], 99);
}

// ---- signals and threads ---------------------------------------------------------------------

static void handler(int signal_number) {
    (void)signal_number;
    take();
}

// The frames that were expected when the signal came are there, in order, behind the handler's.
static void assert_passes_through_the_signal(void) {
    unsigned n = taken.expected_count, at = 2;
    while (at < taken.count && taken.pc[at] != taken.expected[n - 1]) at++;
    assert_true(at < taken.count);
    for (unsigned i = 1; i < n; i++, at++) assert_int_equal(taken.pc[at], taken.expected[n - i]);
}

static NOINLINE void be_interrupted(unsigned depth) {
    (void)depth;
    expect_frame(CALLER);
    raise(SIGUSR1);
    __asm__ volatile("");
}

static void interrupt(int flags) {
    struct sigaction action = {.sa_handler = handler, .sa_flags = flags}, before;
    sigaction(SIGUSR1, &action, &before);
    go((next_function const[]){plain, aligned_frame, many_locals, be_interrupted, NULL});
    sigaction(SIGUSR1, &before, NULL);
    assert_passes_through_the_signal();
}

static void test_a_handler_leads_to_what_it_interrupted(void **state) {
    (void)state;
    interrupt(0);
}

static void test_also_from_a_stack_of_its_own(void **state) {
    (void)state;
    char room[32768];
    stack_t own = {.ss_sp = room, .ss_size = sizeof room}, before;
    sigaltstack(&own, &before);
    interrupt(SA_ONSTACK);
    sigaltstack(&before, NULL);
    void *far = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    own = (stack_t){.ss_sp = far, .ss_size = 65536};
    sigaltstack(&own, NULL);
    interrupt(SA_ONSTACK);
    sigaltstack(&before, NULL);
    munmap(far, 65536);
}

// A function that is interrupted at its very first instruction has built no frame yet.
void traps_at_once(void);
__asm__(".text\n.globl traps_at_once\n.type traps_at_once, %function\ntraps_at_once:\n"
        ".cfi_startproc\n"
#ifdef __x86_64__
        "ud2\n"
#else
        ".inst 0\n"
#endif
        ".cfi_endproc\n.size traps_at_once, . - traps_at_once\n");

static sigjmp_buf after_trap;

static void trap_handler(int signal_number) {
    handler(signal_number);
    siglongjmp(after_trap, 1);
}

static NOINLINE void call_the_trap(unsigned depth) {
    (void)depth;
    expect_frame(CALLER);
    traps_at_once();
    abort();
}

static void test_the_caller_of_an_interrupted_leaf_is_not_lost(void **state) {
    (void)state;
    struct sigaction action = {.sa_handler = trap_handler}, before;
    sigaction(SIGILL, &action, &before);
    if (!sigsetjmp(after_trap, 1)) go((next_function const[]){plain, call_the_trap, NULL});
    sigaction(SIGILL, &before, NULL);
    assert_passes_through_the_signal();
    unsigned at = 0;
    while (at < taken.count && taken.pc[at] != (uintptr_t)traps_at_once + 1) at++;
    assert_true(at + 2 < taken.count);
    // Between the trap and the caller's caller there is exactly the caller.
    assert_int_equal(taken.pc[at + 2], taken.expected[1 + taken.expected_count - 2]);
}

static void *walk_in_a_thread(void *ok) {
    int saved = errno = 4711;
    uintptr_t pc[64];
    bool cut;
    unsigned n = mw_native_walk(pc, 64, &cut);
    *(bool *)ok = n >= 2 && !cut && errno == saved;
    return NULL;
}

static void test_the_smallest_thread_there_can_be_has_room_for_a_walk(void **state) {
    (void)state;
    for (int i = 0; i < 50; i++) {
        bool ok = false;
        pthread_t thread;
        pthread_attr_t attributes;
        pthread_attr_init(&attributes);
        assert_int_equal(pthread_attr_setstacksize(&attributes, (size_t)PTHREAD_STACK_MIN), 0);
        assert_int_equal(pthread_create(&thread, &attributes, walk_in_a_thread, &ok), 0);
        pthread_join(thread, NULL);
        assert_true(ok);
    }
}

// ---- false rules -----------------------------------------------------------------------------

// A page that faults, with a mapped one before it.
static char *before_a_hole(void) {
    char *two = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    mprotect(two + 4096, 4096, PROT_NONE);
    return two;
}

static NOINLINE void lay_and_walk(struct mw_cfi_step step) {
    uintptr_t pc[MOST];
    bool cut;
    mw_add(&mw_generation.present, 1);
    // What this function's caller is said to be like.
    keep(CALLER - 1, pack(&step), mw_native_generation());
    mw_native_walk(pc, MOST, &cut);
}

static void test_no_false_rule_makes_a_walk_fault(void **state) {
    (void)state;
    static const int32_t offsets[] = {0, 8, 16, 4096, 65536, 262144, -8, -4096, -262144};
    enum { OFFSETS = sizeof offsets / sizeof *offsets };
    for (unsigned i = 0; i < OFFSETS * OFFSETS * 2 * 2 * 5; i++) {
        unsigned n = i;
        struct mw_cfi_step s = {.cfa = offsets[n % OFFSETS]};
        s.ra = offsets[(n /= OFFSETS) % OFFSETS];
        s.cfa_from_fp = (n /= OFFSETS) % 2;
        s.cfa_loaded = (n /= 2) % 2;
        s.fp_place = (uint8_t)((n / 2) % 5);
        s.ra_place = (uint8_t)((n / 2 + 1) % 5);
        lay_and_walk(s);
    }
    mw_add(&mw_generation.present, 1);
}

static void test_only_what_can_be_read_is_read(void **state) {
    (void)state;
    char *hole = before_a_hole();
    uintptr_t word, at = (uintptr_t)hole;
    const struct {
        uintptr_t address;
        bool readable;
    } cases[] = {{at, true},      {at + 4088, true}, {at + 4096, false}, {at + 8184, false},
                 {at + 1, false}, {8, false},        {0, false},         {UINTPTR_MAX - 7, false}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_int_equal(load_word(cases[i].address, &word), cases[i].readable);
    // Also not as the next page of a stretch that is known.
    stand_on(at);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_int_equal(load_word(cases[i].address, &word), cases[i].readable);
    munmap(hole, 8192);
}

// ---- modules ---------------------------------------------------------------------------------

static int compare_module(struct dl_phdr_info *info, size_t size, void *count) {
    (void)size;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *p = &info->dlpi_phdr[i];
        struct mw_native_module m;
        if (p->p_type != PT_LOAD) continue;
        uintptr_t start = info->dlpi_addr + p->p_vaddr, address = start + p->p_memsz / 2;
        assert_true(mw_native_module_at(address, &m));
        assert_int_equal(m.base, info->dlpi_addr);
        assert_string_equal(m.path, info->dlpi_name);
        assert_true(m.start <= start && m.end >= start + p->p_memsz);
        ++*(int *)count;
    }
    return 0;
}

static void check_modules(void) {
    static const uint8_t id[] = {0x6d, 0x77};
    int count = 0;
    struct mw_native_module m;
    dl_iterate_phdr(compare_module, &count);
    assert_true(count >= 8);
    assert_true(mw_native_module_at((uintptr_t)check_modules, &m));
    assert_int_equal(m.build_id_bytes, sizeof id);
    assert_memory_equal(m.build_id, id, sizeof id);
    void *made_at_run_time =
        mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_false(mw_native_module_at((uintptr_t)made_at_run_time, &m));
    assert_false(mw_native_module_at(0, &m));
    assert_false(mw_native_module_at((uintptr_t)&count, &m));
    munmap(made_at_run_time, 4096);
}

static void test_an_address_leads_to_its_module_and_build_id(void **state) {
    (void)state;
    check_modules();
}

static void test_also_where_the_c_library_is_too_old_for_find_object(void **state) {
    (void)state;
    int (*have)(void *, struct found_object *) = find_object;
    find_object = NULL;
    mw_add(&mw_generation.present, 1); // forget all rules,
    mw_set(&seen_count, 0); // and objects: the bounds that dl_iterate_phdr tells are narrower
    check_modules();
    walk_the_way((next_function const[]){plain, aligned_frame, frame_of_variable_size, NULL});
    // In a forked child the loader's lock may be held by nobody: only what is known helps.
    may_iterate = false;
    walk_the_way((next_function const[]){plain, aligned_frame, frame_of_variable_size, NULL});
    may_iterate = true;
    mw_set(&seen_count, 0);
    find_object = have;
}

// ---- generations -----------------------------------------------------------------------------

// As if an object had been unloaded since they were last counted.
static void unload(void) {
    mw_add(&unloaded, 1);
}

static void test_the_generation_changes_when_something_was_unloaded_and_only_then(void **state) {
    (void)state;
    unloads_are_noticed();
    uint64_t before = mw_native_generation();
    assert_int_equal(mw_native_generation(), before);
    mw_native_closing();
    mw_native_closed(); // the library is still in use
    assert_int_equal(mw_native_generation(), before);
    mw_native_closing();
    unload();
    mw_native_closed();
    assert_int_not_equal(mw_native_generation(), before);
    assert_int_equal(mw_native_generation(), mw_native_generation());
}

static void test_while_something_is_being_unloaded_nothing_is_kept(void **state) {
    (void)state;
    uint64_t seen[6];
    seen[0] = mw_native_generation();
    mw_native_closing();
    seen[1] = mw_native_generation();
    mw_native_closing();
    seen[2] = mw_native_generation();
    walk_the_way((next_function const[]){plain, large_frame, NULL});
    unload();
    mw_native_closed();
    seen[3] = mw_native_generation();
    mw_native_closed();
    seen[4] = mw_native_generation();
    mw_native_closing();
    seen[5] = mw_native_generation();
    mw_native_closed();
    for (int i = 0; i < 6; i++)
        for (int j = 0; j < i; j++) assert_int_not_equal(seen[i], seen[j]);
}

static void test_a_walk_that_goes_astray_looks_whether_an_object_is_gone(void **state) {
    (void)state;
    static next_function const functions[] = {plain, large_frame, NULL};
    go(functions);
    unsigned whole = taken.count;
    uintptr_t inner = taken.pc[1] - 1;
    unloads_are_noticed();
    mw_add(&mw_generation.present, 1);
    keep(inner, pack(&(struct mw_cfi_step){.cfa = 1 << 18}), mw_native_generation());
    go(functions); // nothing was unloaded: the rule is believed
    assert_true(taken.count < whole);
    assert_true(taken.cut);
    unload();
    go(functions);
    assert_as_expected();
    assert_int_equal(taken.count, whole);
    assert_false(taken.cut);
}

// Two objects, one after the other, at one address. Nobody told us of the change.
static struct found_object there;
static int find_in_there(void *address, struct found_object *out) {
    if ((uintptr_t)address < there.start || (uintptr_t)address >= there.end) return -1;
    *out = there;
    return 0;
}

static void test_an_object_in_the_place_of_another_is_noticed(void **state) {
    (void)state;
    int (*have)(void *, struct found_object *) = find_object;
    static char room[3 * 4096];
    struct link_map map = {.l_addr = (uintptr_t)room, .l_name = "one"};
    there =
        (struct found_object){.start = (uintptr_t)room, .end = (uintptr_t)room + 8192, .map = &map};
    find_object = find_in_there;
    assert_int_equal(find_rule(there.start + 100), RULE | GUESS);
    uint64_t first = mw_native_generation();
    assert_int_equal(find_rule(there.start + 200), RULE | GUESS);
    assert_int_equal(mw_native_generation(), first);
    // Another layout at the same place,
    there.end += 4096;
    find_rule(there.start + 100);
    uint64_t second = mw_native_generation();
    assert_int_not_equal(second, first);
    find_rule(there.start + 300);
    assert_int_equal(mw_native_generation(), second);
    // the same layout, but other contents,
    there.eh_frame_header = there.start + 4096;
    find_rule(there.start + 100);
    uint64_t third = mw_native_generation();
    assert_int_not_equal(third, second);
    // and one that begins within where the other was.
    there.start += 4096;
    find_rule(there.start + 100);
    assert_int_not_equal(mw_native_generation(), third);
    find_object = have;
}

static int begin(void **state) {
    (void)state;
    static struct mw_level level;
    errno = 4711;
    mw_native_find(&level);
    assert_int_equal(errno, 4711);
    assert_true(mw_native_ready);
    assert_int_equal(level.state, MW_LEVEL_LIVE);
    assert_true(level.words[0]);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_frame_is_there_whatever_the_functions_are_like),
        cmocka_unit_test(test_our_own_frames_are_left_out_wherever_they_are),
        cmocka_unit_test(test_a_stack_deeper_than_the_limit_is_cut_at_its_outer_end),
        cmocka_unit_test(test_frames_of_the_c_library_are_passed_through),
        cmocka_unit_test(test_a_handler_leads_to_what_it_interrupted),
        cmocka_unit_test(test_also_from_a_stack_of_its_own),
        cmocka_unit_test(test_the_caller_of_an_interrupted_leaf_is_not_lost),
        cmocka_unit_test(test_the_smallest_thread_there_can_be_has_room_for_a_walk),
        cmocka_unit_test(test_no_false_rule_makes_a_walk_fault),
        cmocka_unit_test(test_only_what_can_be_read_is_read),
        cmocka_unit_test(test_an_address_leads_to_its_module_and_build_id),
        cmocka_unit_test(test_also_where_the_c_library_is_too_old_for_find_object),
        cmocka_unit_test(test_the_generation_changes_when_something_was_unloaded_and_only_then),
        cmocka_unit_test(test_while_something_is_being_unloaded_nothing_is_kept),
        cmocka_unit_test(test_a_walk_that_goes_astray_looks_whether_an_object_is_gone),
        cmocka_unit_test(test_an_object_in_the_place_of_another_is_noticed),
    };
    return cmocka_run_group_tests(tests, begin, NULL);
}

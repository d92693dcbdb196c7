// SPDX-License-Identifier: Apache-2.0
// links: report/merge.c report/frames.c report/reader.c report/places.c
// links: tests/unit/ledger_builder.c
//
// The order of merged stacks: each Python frame stands where the interpreter ran it, for every
// version's way of running; where the two lists tell different stories, the order is still one that
// can be true. And what is folded away. The names of native frames are the test's own: an address
// stands for a name.
#include "ledger_builder.h"
#include "merge.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

// ---- a resolver that knows by heart ---------------------------------------------------------

// The address of a call is one before the address that it returns to.
#define CALL(i) (0x100 + (i)-1)
static const char *const names[] = {"cudaMalloc",
                                    "_PyEval_EvalFrameDefault",
                                    "PyObject_Vectorcall",
                                    "at::empty",
                                    "_start",
                                    "main",
                                    "_TAIL_CALL_CALL_FUNCTION",
                                    "_PyEval_EvalFrameDefault.cold",
                                    "Pyramid_build",
                                    "cudaMalloc<int>",
                                    "cudaMallocOrDie",
                                    "std::vector",
                                    "train",
                                    NULL};
enum {
    MALLOC,
    EVAL,
    VECTORCALL,
    EMPTY,
    START,
    MAIN,
    TAIL,
    COLD,
    PYRAMID,
    TYPED,
    OR_DIE,
    VECTOR,
    TRAIN,
    NAMELESS
};
static const char *const files[NAMELESS] = {[TYPED] = "/opt/toolkit/include/cuda_runtime.h",
                                            [OR_DIE] = "/proj/check.cpp",
                                            [VECTOR] = "/usr/include/c++/12/bits/stl_vector.h",
                                            [TRAIN] = "/proj/train.cpp"};

uint32_t resolver_ask(struct resolver *resolver, const struct native_frame *frame,
                      const char *cwd) {
    (void)resolver;
    assert_string_equal(cwd, "/work");
    return (uint32_t)frame->address;
}

bool resolver_name(const struct resolver *resolver, uint32_t question, unsigned i,
                   struct name *out) {
    (void)resolver;
    *out = (struct name){0};
    size_t index = question - CALL(0);
    assert_true(index < sizeof names / sizeof names[0]);
    if (i || !names[index]) return false;
    // As symbolize.c: a clone has the name of what it is cloned from.
    *out = (struct name){
        .function = index == COLD ? names[EVAL] : names[index], .file = files[index], .line = 7};
    return true;
}

// ---- stacks ---------------------------------------------------------------------------------

static struct builder b;
static struct arena arena;
static char path[] = "/tmp/memwatch.merge.XXXXXX";
static struct merged_frame merged[MERGED_MOST];
static unsigned count;

static int set_up(void **state) {
    (void)state;
    builder_init(&b, 2, 4);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    arena_free(&arena);
    builder_free(&b);
    return 0;
}

// Python frames are told by names, "+" at the end marks an entry; native ones by module and name.
struct call {
    const char *module;
    int name;
};

// The merged stack as words, folded frames in brackets.
static char words[4096];

static void merge(const char *const *python, const struct call *native, unsigned flags) {
    uint64_t pythons[MW_STACK_DEPTH], natives[MW_STACK_DEPTH];
    unsigned p = 0, n = 0;
    for (; python[p]; p++) {
        char name[64];
        snprintf(name, sizeof name, "%s", python[p]);
        bool entry = name[strlen(name) - 1] == '+';
        if (entry) name[strlen(name) - 1] = '\0';
        bool frozen = !strncmp(name, "import", 6), library = !strncmp(name, "lib", 3);
        const char *file = frozen    ? "<frozen importlib._bootstrap>"
                           : library ? "/usr/lib/python3/dist-packages/lib.py"
                                     : "/proj/train.py";
        pythons[p] = PYTHON_FRAME(builder_code(&b, file, name, 1), 10 + p, entry);
    }
    for (; native[n].module; n++)
        natives[n] = NATIVE_FRAME(builder_module(&b, native[n].module, 0, NULL, 0),
                                  0x100 + (unsigned)native[n].name);
    uint32_t stack = builder_stack(&b, pythons, p, natives, n, flags);
    struct reader r;
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    assert_true(builder_save(&b, path, b.bytes));
    assert_int_equal(reader_open(&r, path), READER_OK);
    arena_free(&arena);
    assert_true(reader_arena(&r, &arena));
    reader_close(&r);
    unlink(path);
    strcpy(path + strlen(path) - 6, "XXXXXX");
    merge_ask(NULL, &arena, stack_at(&arena, stack), "/work");
    count = merge_frames(NULL, &arena, stack_at(&arena, stack), "/work", merged);
    words[0] = '\0';
    for (unsigned i = 0; i < count; i++) {
        const struct merged_frame *f = &merged[i];
        size_t used = strlen(words);
        snprintf(words + used, sizeof words - used, "%s%s%.*s%s", i ? " " : "",
                 f->folded ? "[" : "", f->function.length ? (int)f->function.length : 1,
                 f->function.length ? f->function.bytes : "?", f->folded ? "]" : "");
    }
}

#define PYTHON(...) ((const char *const[]){__VA_ARGS__ __VA_OPT__(, ) NULL})
#define NATIVE(...) ((const struct call[]){__VA_ARGS__ __VA_OPT__(, ){NULL, 0}})

#define EXE   "/usr/bin/python3.11"
#define TORCH "/opt/torch/lib/libtorch.so"
#define LIBC  "/lib/x86_64-linux-gnu/libc.so.6"

static void python_frames_stand_where_the_interpreter_ran_them(void **state) {
    (void)state;
    // inner() and outer() in one run of the loop; C code called them from the module's run.
    merge(PYTHON("inner", "outer+", "module+"),
          NATIVE({TORCH, EMPTY}, {EXE, EVAL}, {TORCH, MALLOC}, {EXE, EVAL}, {EXE, MAIN}), 0);
    assert_string_equal(words, "at::empty inner outer [_PyEval_EvalFrameDefault] cudaMalloc module "
                               "[_PyEval_EvalFrameDefault] [main]");
}

static void before_3_11_each_frame_has_a_run_of_its_own(void **state) {
    (void)state;
    merge(PYTHON("inner+", "outer+"),
          NATIVE({TORCH, EMPTY}, {EXE, EVAL}, {EXE, VECTORCALL}, {EXE, EVAL}), 0);
    assert_string_equal(words, "at::empty inner [_PyEval_EvalFrameDefault] [PyObject_Vectorcall] "
                               "outer [_PyEval_EvalFrameDefault]");
}

static void a_part_of_the_loop_is_the_loop(void **state) {
    (void)state;
    merge(PYTHON("inner+", "outer+"),
          NATIVE({TORCH, EMPTY}, {EXE, COLD}, {TORCH, MALLOC}, {EXE, EVAL}), 0);
    assert_string_equal(words, "at::empty inner [_PyEval_EvalFrameDefault] cudaMalloc outer "
                               "[_PyEval_EvalFrameDefault]");
    // Tail calls: the part stands above the loop that began it, or alone.
    merge(PYTHON("inner+", "outer+"),
          NATIVE({EXE, TAIL}, {EXE, EVAL}, {TORCH, MALLOC}, {EXE, TAIL}), 0);
    assert_string_equal(words, "inner [_TAIL_CALL_CALL_FUNCTION] [_PyEval_EvalFrameDefault] "
                               "cudaMalloc outer [_TAIL_CALL_CALL_FUNCTION]");
}

static void frames_beyond_a_cut_keep_their_order(void **state) {
    (void)state;
    merge(PYTHON("a+", "b+", "c+"), NATIVE({TORCH, EMPTY}, {EXE, EVAL}, {TORCH, MALLOC}),
          MW_STACK_NATIVE_CUT);
    assert_string_equal(words, "at::empty a [_PyEval_EvalFrameDefault] cudaMalloc b c");
    merge(PYTHON("a+", "b"),
          NATIVE({EXE, EVAL}, {TORCH, EMPTY}, {EXE, EVAL}, {TORCH, MALLOC}, {EXE, EVAL}),
          MW_STACK_PYTHON_CUT);
    assert_string_equal(words,
                        "a [_PyEval_EvalFrameDefault] at::empty b [_PyEval_EvalFrameDefault] "
                        "cudaMalloc [_PyEval_EvalFrameDefault]");
}

static void a_run_whose_entry_is_not_known_is_a_run(void **state) {
    (void)state;
    merge(PYTHON("a+", "b"), NATIVE({EXE, EVAL}, {TORCH, EMPTY}, {EXE, EVAL}), 0);
    assert_string_equal(words,
                        "a [_PyEval_EvalFrameDefault] at::empty b [_PyEval_EvalFrameDefault]");
}

static void lists_that_do_not_match_are_not_mixed(void **state) {
    (void)state;
    // More runs than entries: whose is whose?
    merge(PYTHON("a", "b+"),
          NATIVE({TORCH, EMPTY}, {EXE, VECTORCALL}, {EXE, EVAL}, {TORCH, MALLOC}, {EXE, EVAL}), 0);
    assert_string_equal(words, "at::empty a b [PyObject_Vectorcall] [_PyEval_EvalFrameDefault] "
                               "cudaMalloc [_PyEval_EvalFrameDefault]");
    // Fewer.
    merge(PYTHON("a+", "b+"), NATIVE({TORCH, EMPTY}, {EXE, VECTORCALL}, {EXE, EVAL}), 0);
    assert_string_equal(words, "at::empty a b [PyObject_Vectorcall] [_PyEval_EvalFrameDefault]");
    // An interpreter without symbols.
    merge(PYTHON("a+", "b+"), NATIVE({TORCH, EMPTY}, {EXE, NAMELESS}, {TORCH, MALLOC}), 0);
    assert_string_equal(words, "at::empty a b [?] cudaMalloc");
}

static void a_stack_of_one_kind_is_what_it_is(void **state) {
    (void)state;
    merge(PYTHON("a", "b+"), NATIVE(), 0);
    assert_string_equal(words, "a b");
    merge(
        PYTHON(),
        NATIVE({TORCH, EMPTY}, {"/proj/program", MAIN}, {LIBC, NAMELESS}, {"/proj/program", START}),
        0);
    assert_string_equal(words, "at::empty main [?] [_start]");
    // Without symbols the function that libc was started by is where the program began.
    merge(PYTHON(), NATIVE({"/proj/program", MAIN}, {LIBC, NAMELESS}, {"/proj/program", NAMELESS}),
          0);
    assert_string_equal(words, "main [?] [?]");
    merge(PYTHON(), NATIVE(), 0);
    assert_int_equal(count, 0);
    assert_int_equal(merge_where(merged, 0), -1);
}

static void plumbing_is_folded_where_it_tells_nothing(void **state) {
    (void)state;
    merge(PYTHON("importer", "module+"),
          NATIVE({"/opt/libmemwatch.so", MALLOC}, {"/usr/lib/libcudart.so.13", MALLOC},
                 {"/usr/lib/libffi.so.8", NAMELESS}, {"/lib/_ctypes.cpython-311.so", NAMELESS},
                 {"/opt/conda/lib/libpython3.13t.so.1.0", EVAL}, {EXE, MAIN}, {LIBC, NAMELESS}),
          0);
    assert_string_equal(words, "[cudaMalloc] [cudaMalloc] [?] [?] [importer] module "
                               "[_PyEval_EvalFrameDefault] [main] [?]");
    // libc in the middle of a stack: qsort calls back.
    merge(PYTHON(),
          NATIVE({"/proj/program", EMPTY}, {LIBC, NAMELESS}, {"/proj/program", MAIN},
                 {LIBC, NAMELESS}),
          0);
    assert_string_equal(words, "at::empty ? main [?]");
    // The interpreter within another program, by its functions' names; pyramids are none of it.
    merge(PYTHON("a+"),
          NATIVE({"/opt/blender", VECTORCALL}, {"/opt/blender", PYRAMID}, {"/opt/blender", EVAL}),
          0);
    assert_string_equal(words, "[PyObject_Vectorcall] Pyramid_build a [_PyEval_EvalFrameDefault]");
    // No Python frames were to be had: then the interpreter's are better than nothing.
    merge(PYTHON(), NATIVE({EXE, VECTORCALL}, {EXE, EVAL}, {LIBC, NAMELESS}, {EXE, START}), 0);
    assert_string_equal(words, "PyObject_Vectorcall _PyEval_EvalFrameDefault [?] [_start]");
    merge(PYTHON("import+"), NATIVE({EXE, EVAL}), 0);
    assert_string_equal(words, "import [_PyEval_EvalFrameDefault]");
}

static void the_program_s_own_line_stands_for_the_stack(void **state) {
    (void)state;
    merge(PYTHON("libtorch_nn", "forward", "module+"), NATIVE({TORCH, EMPTY}, {EXE, EVAL}), 0);
    assert_string_equal(words, "at::empty libtorch_nn forward module [_PyEval_EvalFrameDefault]");
    assert_int_equal(merge_where(merged, count), 2);
    merge(PYTHON("lib_a", "lib_b+"), NATIVE({TORCH, EMPTY}, {EXE, EVAL}), 0);
    assert_int_equal(merge_where(merged, count), 1);
    merge(PYTHON(), NATIVE({TORCH, NAMELESS}, {TORCH, EMPTY}, {"/proj/program", MAIN}), 0);
    assert_int_equal(merge_where(merged, count), 1); // the first with a line
    merge(PYTHON(), NATIVE({TORCH, NAMELESS}, {TORCH, NAMELESS}), 0);
    assert_int_equal(merge_where(merged, count), 0);
}

static void what_cuda_and_headers_do_inside_is_folded(void **state) {
    (void)state;
    // A cudart linked into the program: by names; the toolkit's inline code: by file.
    merge(PYTHON(),
          NATIVE({"/proj/program", NAMELESS}, {"/proj/program", MALLOC}, {"/proj/program", TYPED},
                 {"/proj/program", VECTOR}, {"/proj/program", TRAIN}),
          0);
    assert_string_equal(words, "[?] [cudaMalloc] [cudaMalloc<int>] [std::vector] train");
    assert_int_equal(merge_where(merged, count), 4);
    // The program's own function may be called as if it were CUDA's.
    merge(PYTHON(), NATIVE({"/proj/program", MALLOC}, {"/proj/program", OR_DIE}), 0);
    assert_string_equal(words, "[cudaMalloc] cudaMallocOrDie");
    // A callback is the program's, whoever called it.
    merge(PYTHON(), NATIVE({"/proj/program", TRAIN}, {"/proj/program", MALLOC}), 0);
    assert_string_equal(words, "train cudaMalloc");
    // Nothing else is there.
    merge(PYTHON(), NATIVE({"/proj/program", MALLOC}), 0);
    assert_string_equal(words, "cudaMalloc");
    // A package's module without names, with Python above it.
#define BINDINGS "/usr/lib/python3/site-packages/cuda/cydriver.cpython-311-x86_64-linux-gnu.so"
    merge(PYTHON("call+"), NATIVE({BINDINGS, NAMELESS}, {BINDINGS, EMPTY}, {EXE, EVAL}), 0);
    assert_string_equal(words, "[?] at::empty call [_PyEval_EvalFrameDefault]");
}

static void headers_are_told_from_the_program_s_files(void **state) {
    (void)state;
    static const struct {
        const char *file;
        bool header;
    } cases[] = {
        {"/usr/local/cuda/include/cuda_runtime.h", true},
        {"/usr/local/cuda-12.4/targets/x86_64-linux/include/cuda/std/span", true},
        {"/home/ada/deps/cuda13/include/cooperative_groups.h", true},
        {"/opt/hpc/cuda/12.4/include/cufft.h", true},
        {"/opt/cccl/thrust/thrust/detail/vector_base.h", true},
        {"/usr/include/thrust/device_vector.h", true},
        {"/usr/include/c++/12/bits/stl_vector.h", true},
        {"/opt/conda/lib/gcc/x/12/../../../../include/c++/12/memory", true},
        {"/usr/lib/llvm-14/include/c++/v1/vector", true},
        {"bits/stl_vector.h", true},
        {"/v/lib/python3.11/site-packages/torch/include/ATen/ops/empty.h", true},
        {"/home/ada/cuda-app/include/pool.h", false},
        {"/home/ada/cuda/train.cu", false},
        {"/home/ada/thrust/main.cpp", false},
        {"/home/ada/include/cuda/pool.h", false},
        {"/home/ada/c++/train.cpp", false},
        {"train.cpp", false},
        {"", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct span span = {cases[i].file, strlen(cases[i].file)};
        if (merge_is_header(span) != cases[i].header) fail_msg("%s", cases[i].file);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(python_frames_stand_where_the_interpreter_ran_them),
        TEST(before_3_11_each_frame_has_a_run_of_its_own),
        TEST(a_part_of_the_loop_is_the_loop),
        TEST(frames_beyond_a_cut_keep_their_order),
        TEST(a_run_whose_entry_is_not_known_is_a_run),
        TEST(lists_that_do_not_match_are_not_mixed),
        TEST(a_stack_of_one_kind_is_what_it_is),
        TEST(plumbing_is_folded_where_it_tells_nothing),
        TEST(the_program_s_own_line_stands_for_the_stack),
        TEST(what_cuda_and_headers_do_inside_is_folded),
        TEST(headers_are_told_from_the_program_s_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

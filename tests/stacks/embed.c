// SPDX-License-Identifier: Apache-2.0
//
// A program that loads Python as a plug-in: before, during, after, and again.
//
//   embed WALKER LIBPYTHON
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *(*find)(void);
static unsigned (*count)(void);

static void *symbol(void *library, const char *name) {
    void *found = dlsym(library, name);
    if (!found) printf("no %s\n", name), exit(2);
    return found;
}

static void expect(const char *when, const char *level, unsigned frames) {
    const char *told = find();
    unsigned n = count();
    if (strncmp(told, level, strlen(level)) != 0 || n != frames) {
        printf("%s: level \"%s\", %u frames\n", when, told, n);
        exit(1);
    }
}

static void *load(const char *library) {
    void *python = dlopen(library, RTLD_NOW | RTLD_GLOBAL);
    if (!python) puts(dlerror()), exit(2);
    return python;
}

int main(int argc, char **argv) {
    setvbuf(stdout, NULL, _IONBF, 0);
    void *walker = argc == 3 ? dlopen(argv[1], RTLD_NOW) : NULL;
    if (!walker) return puts(dlerror()), 2;
    find = (const char *(*)(void))symbol(walker, "walker_find");
    count = (unsigned (*)(void))symbol(walker, "walker_count");
    expect("before there is a Python", "0 ", 0);
    for (int i = 0; i < 2; i++) {
        void *python = load(argv[2]);
        expect("loaded", "1 CPython 3.", 0);
        dlclose(python);
        if (dlopen(argv[2], RTLD_NOW | RTLD_NOLOAD)) return puts("it cannot be unloaded"), 2;
        expect("unloaded", "0 ", 0);
    }

    void *python = load(argv[2]);
    void (*initialize)(int) = (void (*)(int))symbol(python, "Py_InitializeEx");
    int (*finalize)(void) = (int (*)(void))symbol(python, "Py_FinalizeEx");
    int (*run)(const char *, void *) =
        (int (*)(const char *, void *))symbol(python, "PyRun_SimpleStringFlags");
    // Twice, but once with frames: 3.12.1 itself does not survive importing ctypes twice.
    for (int i = 0; i < 2; i++) {
        expect("not initialized", "1 CPython 3.", 0);
        initialize(0);
        expect("initialized, no frame", "1 CPython 3.", 0);
        if (run(i ? "x = 1"
                  : "import frames\n"
                    "class A:\n"
                    "    def method(self):\n"
                    "        frames.check()\n"
                    "        frames.check(frames.HELD.walker_walk)\n"
                    "A().method()\n"
                    "assert frames.compared == 2\n",
                NULL))
            return 1;
        expect("between two runs", "1 CPython 3.", 0);
        finalize();
        expect("finalized", "1 CPython 3.", 0);
    }
    return puts("ok"), 0;
}

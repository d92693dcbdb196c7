// SPDX-License-Identifier: Apache-2.0
//
// Loads plug-ins that use the GPU, in the ways in which programs load plug-ins.
//
//   door_plugin MODE PLUGIN [MODE PLUGIN]...
//     local, global, deep    dlopen with RTLD_LOCAL, RTLD_GLOBAL, RTLD_DEEPBIND
//     namespace              dlmopen: libraries of its own, libc included
//     reload                 three times: dlopen, work, dlclose; each time at another address
#define _GNU_SOURCE
#include <dlfcn.h>
#include <link.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

static void *load(const char *mode, const char *path) {
    if (strcmp(mode, "global") == 0) return dlopen(path, RTLD_NOW | RTLD_GLOBAL);
#ifdef RTLD_DEEPBIND
    if (strcmp(mode, "deep") == 0) return dlopen(path, RTLD_NOW | RTLD_DEEPBIND);
    if (strcmp(mode, "namespace") == 0) return dlmopen(LM_ID_NEWLM, path, RTLD_NOW);
#endif
    return dlopen(path, RTLD_NOW);
}

static int work(const char *mode, const char *path, void **library) {
    *library = load(mode, path);
    if (!*library) {
        fprintf(stderr, "%s\n", dlerror());
        return -1;
    }
    int (*plugin_work)(void) = (int (*)(void))dlsym(*library, "plugin_work");
    return plugin_work ? plugin_work() : -2;
}

static int find_driver(struct dl_phdr_info *object, size_t size, void *base) {
    (void)size;
    if (!strstr(object->dlpi_name, "libcuda.so")) return 0;
    *(void **)base = (void *)object->dlpi_addr;
    return 1;
}

// Unloads the plug-in, and the driver with it; the driver's place is taken, so that it comes back
// elsewhere. True if it was unloaded.
static bool unload(void *library) {
    void *base = NULL, *still = NULL;
    dl_iterate_phdr(find_driver, &base);
    dlclose(library);
    dl_iterate_phdr(find_driver, &still);
    if (!base || still) return false;
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE;
    return mmap(base, 4096, PROT_NONE, flags, -1, 0) == base;
}

int main(int argc, char **argv) {
    int result = 0;
    for (int i = 1; i + 1 < argc; i += 2) {
        bool reload = strcmp(argv[i], "reload") == 0;
        for (int turn = 0; turn < (reload ? 3 : 1); turn++) {
            void *library;
            int one = work(argv[i], argv[i + 1], &library);
            printf("%s: %d\n", strrchr(argv[i + 1], '/') + 1, one);
            if (one) result = 1;
            if (reload && library && !unload(library)) result = 2;
        }
    }
    return result;
}

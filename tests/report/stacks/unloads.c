// SPDX-License-Identifier: Apache-2.0
//
// Loads a plug-in, lets it allocate, unloads it, and so again. "kill": as in chain.c.
#include <dlfcn.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>

int main(int argc, char **argv) {
    for (int i = 0; i < 3; i++) {
        void *plugin = dlopen(argv[1], RTLD_NOW);
        int (*allocate)(size_t);
        *(void **)&allocate = plugin ? dlsym(plugin, "plugin_allocate") : NULL;
        if (!allocate || allocate(4096)) return 2; // mark: call
        dlclose(plugin);
        // What lay there is taken by something else, so that it comes to another place.
        mmap(NULL, 1 << 16, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    }
    if (argc > 2 && !strcmp(argv[2], "kill")) raise(SIGKILL);
    return 0;
}

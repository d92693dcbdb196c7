// SPDX-License-Identifier: Apache-2.0
// build: -Wl,--enable-new-dtags,-rpath,\$ORIGIN/beside
//
// A library that loads its parts from a folder beside it, which only its own DT_RUNPATH names:
// cuDNN is built so. The loader follows that path only if it takes this library for the caller of
// dlopen.
#include <dlfcn.h>

int plugin_work(void) {
    void *part = dlopen("libdoor_part.so", RTLD_NOW);
    int (*work)(void) = part ? (int (*)(void))dlsym(part, "plugin_work") : 0;
    return work ? work() : -6;
}

// SPDX-License-Identifier: Apache-2.0
//
// A driver of tomorrow: it has functions that memwatch has never heard of. One may allocate, and
// must be reported as unwatched; two cannot, and must not.
#define _GNU_SOURCE
#include <dlfcn.h>

int cuMemAllocOfTomorrow(void), cuMemcpyOfTomorrow(void), cuLaunchOfTomorrow(void);
int cuMemAllocOfTomorrow(void) {
    return 1;
}
int cuMemcpyOfTomorrow(void) {
    return 2;
}
int cuLaunchOfTomorrow(void) {
    return 3;
}

int plugin_work(void) {
    static const char *const asked[] = {"cuMemAllocOfTomorrow", "cuMemcpyOfTomorrow",
                                        "cuLaunchOfTomorrow", "cuMemAllocOfTomorrow",
                                        "cuMemAllocOfNever"};
    Dl_info self;
    int found = 0;
    dladdr((void *)plugin_work, &self);
    void *library = dlopen(self.dli_fname, RTLD_NOW);
    for (int i = 0; i < 5; i++) found += dlsym(library, asked[i]) != 0;
    return found == 4 ? 0 : -1;
}

// SPDX-License-Identifier: Apache-2.0
//
// Starts a real libcudart, as far as it comes without a GPU, and prints what its functions answer.
//
//   startup LIBCUDART
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

int main(int argc, char **argv) {
    if (argc < 2) return 2;
    void *library = dlopen(argv[1], RTLD_NOW);
    if (!library) {
        fprintf(stderr, "%s\n", dlerror());
        return 1;
    }
    int (*allocate)(void **, size_t) = (int (*)(void **, size_t))dlsym(library, "cudaMalloc");
    int (*release)(void *) = (int (*)(void *))dlsym(library, "cudaFree");
    int (*version)(int *) = (int (*)(int *))dlsym(library, "cudaDriverGetVersion");
    int (*last)(void) = (int (*)(void))dlsym(library, "cudaGetLastError");
    Dl_info info = {0};
    void *pointer = NULL;
    int driver = -1;
    printf("cudaDriverGetVersion %d", version(&driver));
    printf(" %d\n", driver);
    printf("cudaMalloc %d\n", allocate(&pointer, 4096));
    printf("cudaGetLastError %d\n", last());
    printf("cudaFree %d\n", release(NULL));
    dladdr((void *)allocate, &info);
    fprintf(stderr, "cudaMalloc is in %s\n", info.dli_fname);
    return 0;
}

// SPDX-License-Identifier: Apache-2.0
// build: -L$B/simgpu -l:libcudart.so.12
//
// A program with CUDA runtime 12 loads a plug-in that is linked with runtime 13 (its argument).
// Each must go on reaching its own: the one's error is not the other's.
#include <dlfcn.h>
#include <stddef.h>
#include <stdio.h>

// As runtime 12 declares them; the header at hand may be another's.
extern int cudaMalloc(void **pointer, size_t bytes);
extern int cudaFree(void *pointer);
extern int cudaGetLastError(void);

int main(int argc, char **argv) {
    void *a = NULL, *b = NULL;
    if (argc < 2) return 2;
    void *library = dlopen(argv[1], RTLD_NOW);
    if (!library) {
        fprintf(stderr, "%s\n", dlerror());
        return 2;
    }
    int (*fail)(void) = (int (*)(void))dlsym(library, "plugin_fail");
    int (*work)(void) = (int (*)(void))dlsym(library, "plugin_work");
    int (*error)(void) = (int (*)(void))dlsym(library, "plugin_error");
    int ours = cudaMalloc(&a, 1 << 20);
    int theirs = fail();
    printf("12: %d, 13: %d\n", ours, theirs);
    int our_error = cudaGetLastError();
    printf("last error of 12: %d, of 13: %d\n", our_error, error());
    ours = cudaMalloc(&b, (size_t)1 << 50);
    our_error = cudaGetLastError();
    printf("12: %d, last error of 12: %d, of 13: %d\n", ours, our_error, error());
    theirs = work();
    ours = cudaFree(a);
    printf("12: %d, 13: %d\n", ours, theirs);
    return 0;
}

// SPDX-License-Identifier: Apache-2.0
//
// A chain of calls down to an allocation: static, recursive and called through a pointer. The test
// finds the lines by their marks. "kill" ends it with its ledger left behind.
#include <cuda.h>
#include <signal.h>
#include <string.h>

static CUdeviceptr block;

__attribute__((noinline)) static int leaf(size_t bytes) {
    int result = cuMemAlloc(&block, bytes); // mark: leaf
    __asm__ volatile("" ::: "memory");
    return result;
}

__attribute__((noinline)) int recursive(int depth);
int recursive(int depth) {
    int result;
    if (depth)
        result = recursive(depth - 1); // mark: recursive
    else
        result = leaf(4096); // mark: end of recursion
    __asm__ volatile("" ::: "memory");
    return result;
}

static int (*volatile through)(int) = recursive;

int main(int argc, char **argv) {
    CUcontext context;
    if (cuInit(0) || cuDevicePrimaryCtxRetain(&context, 0) || cuCtxSetCurrent(context)) return 2;
    int result = through(2); // mark: main
    if (argc > 1 && !strcmp(argv[1], "kill")) raise(SIGKILL);
    return result;
}

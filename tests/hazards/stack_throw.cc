// SPDX-License-Identifier: Apache-2.0
// build: -L$B/simgpu -lcuda -pthread
//
// Exceptions: destructors that allocate and free while the stack is being unwound, and errors of
// the GPU that are thrown and caught.
#include "hazard.h"

#include <stdexcept>
#include <thread>
#include <vector>

#define NOINLINE __attribute__((noinline))

struct Block {
    CUdeviceptr address;
    explicit Block(size_t bytes) : address(hazard_block(bytes)) {}
    NOINLINE ~Block() {
        MUST(cuMemFree(hazard_block(MIB)));
        MUST(cuMemFree(address));
    }
};

struct KeepsABlock {
    NOINLINE ~KeepsABlock() { hazard_block(4096); }
};

NOINLINE static void fail() {
    CUdeviceptr block;
    CUresult result = cuMemAlloc(&block, (size_t)1 << 60);
    if (result != CUDA_SUCCESS) throw std::runtime_error("no memory");
}

NOINLINE static void go_down(int depth) {
    Block block(8192);
    KeepsABlock kept;
    if (depth)
        go_down(depth - 1);
    else
        fail();
}

static int caught_in(int rounds) {
    int caught = 0;
    for (int i = 0; i < rounds; i++) {
        try {
            go_down(10);
        } catch (const std::runtime_error &) {
            caught++;
        }
    }
    return caught;
}

int main() {
    CUcontext context = hazard_use(0);
    int caught = caught_in(20);
    std::vector<std::thread> threads;
    for (int i = 0; i < 3; i++)
        threads.emplace_back([=] {
            MUST(cuCtxSetCurrent(context));
            if (caught_in(20) != 20) exit(3);
        });
    for (std::thread &thread : threads) thread.join();
    printf("caught: %d\n", caught);
    return 0;
}

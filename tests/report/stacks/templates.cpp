// SPDX-License-Identifier: Apache-2.0
//
// C++: a template's member, a function inlined into it, a lambda, an anonymous namespace, a
// constructor, a virtual function.
#include <cuda.h>

namespace pool {

static CUdeviceptr blocks[16];
static int used;

__attribute__((always_inline)) inline void take(size_t bytes) {
    if (cuMemAlloc(&blocks[used++], bytes)) __builtin_trap(); // mark: take
    __asm__ volatile("" ::: "memory");
}

template <typename Element> struct Array {
    __attribute__((noinline)) void grow(size_t count) {
        take(count * sizeof(Element)); // mark: grow
        __asm__ volatile("" ::: "memory");
    }
};

namespace {
__attribute__((noinline)) void hidden() {
    Array<double>().grow(1000); // mark: hidden
    __asm__ volatile("" ::: "memory");
}
} // namespace

struct Base {
    virtual void fill() = 0;
};
struct Derived : Base {
    __attribute__((noinline)) Derived() {
        hidden(); // mark: constructor
        __asm__ volatile("" ::: "memory");
    }
    __attribute__((noinline)) void fill() override {
        Array<char>().grow(5000); // mark: virtual
        __asm__ volatile("" ::: "memory");
    }
};

} // namespace pool

int main() {
    CUcontext context;
    if (cuInit(0) || cuDevicePrimaryCtxRetain(&context, 0) || cuCtxSetCurrent(context)) return 2;
    pool::Derived derived;
    pool::Base *volatile base = &derived;
    auto lambda = [base](int times) __attribute__((noinline)) {
        for (volatile int i = 0; i < times; i++) base->fill(); // mark: lambda
    };
    lambda(3);
    return 0;
}

// SPDX-License-Identifier: Apache-2.0
//
// What programs compiled by nvcc announce before main: their images, and for each kernel and device
// variable the host address that stands for it. The functions are declared by what nvcc generates
// (crt/host_runtime.h), which no C file can include.

#include "image.h"

#include <pthread.h>
#include <search.h>
#include <stdlib.h>

struct symbol {
    const void *host; // the key: a host function, or the host's shadow of a variable
    struct image *image;
    const char *name; // in the image; lives in the program
    size_t size;      // of a variable
    bool is_variable;
    void **managed;      // where the program reads the address of a managed variable
    struct symbol *next; // of the same image
};

// The tree of all symbols by host address, and everything in images.
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static void *symbols;

static int by_host(const void *a, const void *b) {
    const void *left = ((const struct symbol *)a)->host, *right = ((const struct symbol *)b)->host;
    return (left > right) - (left < right);
}

static struct symbol *find(const void *host) {
    struct symbol key = {.host = host};
    struct symbol **found = tfind(&key, &symbols, by_host);
    return found ? *found : NULL;
}

// Program start has nobody to report to; a symbol that could not be stored is not found later.
static void add(struct image *image, const struct symbol *symbol) {
    struct symbol *added = malloc(sizeof *added);
    if (!image || !added) {
        free(added);
        return;
    }
    *added = *symbol;
    added->image = image;
    pthread_mutex_lock(&lock);
    added->next = image->symbols;
    image->symbols = added;
    if (added->host) tsearch(added, &symbols, by_host);
    pthread_mutex_unlock(&lock);
}

cudaError_t cudart_function(const void *host, CUfunction *function) {
    pthread_mutex_lock(&lock);
    struct symbol *symbol = find(host);
    bool known = symbol && !symbol->is_variable;
    cudaError_t error = known ? cudart_image_function(symbol->image, symbol->name, function)
                              : cudaErrorInvalidDeviceFunction;
    pthread_mutex_unlock(&lock);
#if CUDART_VERSION >= 12000
    // Since CUDA 12 a kernel's handle is as good as its host function.
    if (!known && host && DRIVER(cuKernelGetFunction_v12000)(function, (CUkernel)host) == 0)
        return cudaSuccess;
#endif
    return error;
}

cudaError_t cudart_variable(const void *host, CUdeviceptr *address, size_t *size) {
    pthread_mutex_lock(&lock);
    struct symbol *symbol = find(host);
    cudaError_t error = cudaErrorInvalidSymbol;
    if (symbol && symbol->is_variable) {
        error = cudart_image_variable(symbol->image, symbol->name, address, size);
        // The simulated driver does not read images: it gives every variable the same room.
        if (error == cudaSuccess && *size < symbol->size) error = cudaErrorInvalidSymbol;
        *size = symbol->size;
    }
    pthread_mutex_unlock(&lock);
    return error;
}

static cudaError_t address_of(void **address, const void *host) {
    CUdeviceptr found;
    size_t size;
    if (!address) return cudaErrorInvalidValue;
    cudaError_t error = cudart_variable(host, &found, &size);
    if (error == cudaSuccess) *address = (void *)found;
    return error;
}

static cudaError_t size_of(size_t *size, const void *host) {
    CUdeviceptr found;
    return size ? cudart_variable(host, &found, size) : cudaErrorInvalidValue;
}

cudaError_t cudaGetSymbolAddress(void **address, const void *symbol) {
    return IN_CONTEXT(address_of(address, symbol));
}

cudaError_t cudaGetSymbolSize(size_t *size, const void *symbol) {
    return IN_CONTEXT(size_of(size, symbol));
}

static cudaError_t function_by_symbol(cudaFunction_t *function, const void *symbol) {
    return function ? cudart_function(symbol, (CUfunction *)function) : cudaErrorInvalidValue;
}

cudaError_t cudaGetFuncBySymbol(cudaFunction_t *function, const void *symbol) {
    return IN_CONTEXT(function_by_symbol(function, symbol));
}

#if CUDART_VERSION >= 12000
static cudaError_t kernel_by_symbol(cudaKernel_t *kernel, const void *host) {
    if (!kernel) return cudaErrorInvalidValue;
    pthread_mutex_lock(&lock);
    struct symbol *symbol = find(host);
    cudaError_t error = cudaErrorInvalidDeviceFunction;
    if (symbol && !symbol->is_variable)
        error = cudart_image_kernel(symbol->image, symbol->name, (CUkernel *)kernel);
    pthread_mutex_unlock(&lock);
    return error;
}

cudaError_t cudaGetKernel(cudaKernel_t *kernel, const void *host) {
    return IN_CONTEXT(kernel_by_symbol(kernel, host));
}

cudaError_t __cudaGetKernel(cudaKernel_t *kernel, const void *host);

cudaError_t __cudaGetKernel(cudaKernel_t *kernel, const void *host) {
    return cudaGetKernel(kernel, host);
}
#endif

// --- called by generated code -------------------------------------------------------------------

void **__cudaRegisterFatBinary(void *code);
void __cudaRegisterFatBinaryEnd(void **handle);
void __cudaUnregisterFatBinary(void **handle);
void __cudaRegisterFunction(void **handle, const char *host, char *device, const char *name,
                            int thread_limit, uint3 *tid, uint3 *bid, dim3 *block, dim3 *grid,
                            int *warp_size);
void __cudaRegisterVar(void **handle, char *host, char *device, const char *name, int external,
                       size_t size, int constant, int global);
void __cudaRegisterManagedVar(void **handle, void **host, char *device, const char *name,
                              int external, size_t size, int constant, int global);
void __cudaRegisterHostVar(void);
void __cudaRegisterUnifiedTable(void);
void __cudaRegisterTexture(void);
void __cudaRegisterSurface(void);
char __cudaInitModule(void **handle);

void **__cudaRegisterFatBinary(void *code) {
    struct image *image = calloc(1, sizeof *image);
    if (image) image->code = code;
    return (void **)image;
}

void __cudaRegisterFatBinaryEnd(void **handle) {
    (void)handle;
}

void __cudaRegisterFunction(void **handle, const char *host, char *device, const char *name,
                            int thread_limit, uint3 *tid, uint3 *bid, dim3 *block, dim3 *grid,
                            int *warp_size) {
    (void)device, (void)thread_limit, (void)tid, (void)bid;
    (void)block, (void)grid, (void)warp_size;
    add((struct image *)handle, &(struct symbol){.host = host, .name = name});
}

void __cudaRegisterVar(void **handle, char *host, char *device, const char *name, int external,
                       size_t size, int constant, int global) {
    (void)device, (void)external, (void)constant, (void)global;
    add((struct image *)handle,
        &(struct symbol){.host = host, .name = name, .size = size, .is_variable = true});
}

// The host address of a managed variable is its memory, which there is only once the module is.
void __cudaRegisterManagedVar(void **handle, void **host, char *device, const char *name,
                              int external, size_t size, int constant, int global) {
    (void)device, (void)external, (void)constant, (void)global;
    add((struct image *)handle,
        &(struct symbol){.managed = host, .name = name, .size = size, .is_variable = true});
}

// Symbols that only kernels use, and kernels do nothing here. Callers pass arguments, which the C
// calling conventions let a function ignore; no header says which.
void __cudaRegisterHostVar(void) {}
#if CUDART_VERSION >= 12000
void __cudaRegisterUnifiedTable(void) {}
#else
void __cudaRegisterTexture(void) {}
void __cudaRegisterSurface(void) {}
#endif

static void place_managed(struct symbol *symbol) {
    CUdeviceptr address;
    size_t size;
    if (cudart_image_variable(symbol->image, symbol->name, &address, &size) != cudaSuccess) return;
    *symbol->managed = (void *)address;
    symbol->host = (void *)address;
    tsearch(symbol, &symbols, by_host);
}

// Before the first access to a managed variable of the image. The answer means: need not be called
// again.
char __cudaInitModule(void **handle) {
    struct image *image = (struct image *)handle;
    if (!image || cudart_record(cudart_enter_context()) != cudaSuccess) return 0;
    pthread_mutex_lock(&lock);
    for (struct symbol *symbol = image->symbols; symbol; symbol = symbol->next)
        if (symbol->managed && !symbol->host) place_managed(symbol);
    pthread_mutex_unlock(&lock);
    return 1;
}

void __cudaUnregisterFatBinary(void **handle) {
    struct image *image = (struct image *)handle;
    if (!image) return;
    pthread_mutex_lock(&lock);
    for (struct symbol *symbol = image->symbols, *next; symbol; symbol = next) {
        next = symbol->next;
        if (symbol->host) tdelete(symbol, &symbols, by_host);
        free(symbol);
    }
    cudart_image_unload(image);
    pthread_mutex_unlock(&lock);
    free(image);
}

// SPDX-License-Identifier: Apache-2.0
// Modules, libraries, functions and kernels. Images are not looked into: every name asked for
// exists. A function is a no-op with its name, a global variable is memory of a fixed size, made at
// the first question.
#include "device.h"
#include "memory.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define GLOBAL_SIZE 4096

// CUmodule and CUlibrary are the same here, as are CUfunction and CUkernel.
struct named {
    struct named *next;
    char *name;
    uintptr_t address; // of a global variable
};

struct module {
    struct object object;
    struct context *context; // NULL for a library: independent of contexts
    struct function *functions;
    struct named *globals;
    pthread_mutex_t lock;
};

struct function {
    struct object object;
    struct function *next;
    struct module *module;
    char *name;
    int attributes[CU_FUNC_ATTRIBUTE_MAX];
};

static CUresult load(struct context *context, void **handle, const void *image) {
    if (!handle || !image) return CUDA_ERROR_INVALID_VALUE;
    struct module *module = object_new(OBJECT_MODULE, sizeof *module);
    if (!module) return CUDA_ERROR_OUT_OF_MEMORY;
    module->context = context;
    pthread_mutex_init(&module->lock, NULL);
    *handle = module;
    return CUDA_SUCCESS;
}

static CUresult load_module(CUmodule *module, const void *image) {
    NEED_CONTEXT(context);
    return load(context, (void **)module, image);
}

static CUresult load_file(struct context *context, void **handle, const char *name) {
    if (!handle || !name) return CUDA_ERROR_INVALID_VALUE;
    return access(name, R_OK) == 0 ? load(context, handle, name) : CUDA_ERROR_FILE_NOT_FOUND;
}

static void unload(struct module *module) {
    for (struct function *f = module->functions, *next; f; f = next) {
        next = f->next;
        free(f->name);
        object_delete(f, OBJECT_FUNCTION);
    }
    for (struct named *global = module->globals, *next; global; global = next) {
        struct block block;
        next = global->next;
        if (block_take(global->address, KIND(BLOCK_GLOBAL), &block)) heap_free(&block);
        free(global->name);
        free(global);
    }
    object_delete(module, OBJECT_MODULE);
}

static CUresult get_function(void *handle, const char *name, void **function) {
    struct module *module = handle;
    if (!object_is(module, OBJECT_MODULE)) return CUDA_ERROR_INVALID_HANDLE;
    if (!name || !function) return CUDA_ERROR_INVALID_VALUE;
    pthread_mutex_lock(&module->lock);
    struct function *found = module->functions;
    while (found && strcmp(found->name, name) != 0) found = found->next;
    if (!found && (found = object_new(OBJECT_FUNCTION, sizeof *found))) {
        found->module = module;
        found->name = strdup(name);
        found->attributes[CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK] = 1024;
        found->attributes[CU_FUNC_ATTRIBUTE_NUM_REGS] = 32;
        found->attributes[CU_FUNC_ATTRIBUTE_PTX_VERSION] = 90;
        found->attributes[CU_FUNC_ATTRIBUTE_BINARY_VERSION] = 90;
        found->attributes[CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES] = 48 << 10;
        found->next = module->functions;
        module->functions = found;
    }
    pthread_mutex_unlock(&module->lock);
    *function = found;
    return found ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

// Variables belong to no space of the books: programs do not allocate them.
static CUresult get_global(void *handle, const char *name, CUdeviceptr *dptr, size_t *bytes) {
    struct module *module = handle;
    NEED_CONTEXT(context);
    if (!object_is(module, OBJECT_MODULE)) return CUDA_ERROR_INVALID_HANDLE;
    if (!name || (!dptr && !bytes)) return CUDA_ERROR_INVALID_VALUE;
    CUresult result = CUDA_SUCCESS;
    pthread_mutex_lock(&module->lock);
    struct named *global = module->globals;
    while (global && strcmp(global->name, name) != 0) global = global->next;
    if (!global) {
        struct block block = {.size = GLOBAL_SIZE, .kind = BLOCK_GLOBAL, .device = context->device};
        result = heap_alloc(devices[context->device].plain, &block);
        if (result == CUDA_SUCCESS && (global = malloc(sizeof *global))) {
            *global = (struct named){module->globals, strdup(name), block.base};
            module->globals = global;
            memset((void *)block.base, 0, GLOBAL_SIZE);
        }
    }
    pthread_mutex_unlock(&module->lock);
    if (!global) return CUDA_ERROR_OUT_OF_MEMORY;
    if (dptr) *dptr = global->address;
    if (bytes) *bytes = GLOBAL_SIZE;
    return result;
}

// ---- modules ------------------------------------------------------------------------------------

CUresult sim_cuModuleLoad(CUmodule *module, const char *fname) {
    NEED_CONTEXT(context);
    return load_file(context, (void **)module, fname);
}

CUresult sim_cuModuleLoadData(CUmodule *module, const void *image) {
    return load_module(module, image);
}

CUresult sim_cuModuleLoadDataEx(CUmodule *module, const void *image, unsigned int numOptions,
                                CUjit_option *options, void **optionValues) {
    (void)numOptions, (void)options, (void)optionValues;
    return load_module(module, image);
}

CUresult sim_cuModuleLoadFatBinary(CUmodule *module, const void *fatCubin) {
    return load_module(module, fatCubin);
}

CUresult sim_cuModuleUnload(CUmodule hmod) {
    NEED_CONTEXT(context);
    if (!object_is(hmod, OBJECT_MODULE)) return CUDA_ERROR_INVALID_HANDLE;
    unload((struct module *)hmod);
    return CUDA_SUCCESS;
}

CUresult sim_cuModuleGetFunction(CUfunction *hfunc, CUmodule hmod, const char *name) {
    return get_function(hmod, name, (void **)hfunc);
}

CUresult sim_cuModuleGetGlobal_v2(CUdeviceptr *dptr, size_t *bytes, CUmodule hmod,
                                  const char *name) {
    return get_global(hmod, name, dptr, bytes);
}

CUresult sim_cuModuleGetGlobal(CUdeviceptr_v1 *dptr, unsigned int *bytes, CUmodule hmod,
                               const char *name) {
    CUdeviceptr wide;
    size_t size;
    CUresult result = get_global(hmod, name, &wide, &size);
    if (result != CUDA_SUCCESS) return result;
    if (dptr) *dptr = (CUdeviceptr_v1)wide;
    if (bytes) *bytes = (unsigned)size;
    return CUDA_SUCCESS;
}

CUresult sim_cuModuleGetLoadingMode(CUmoduleLoadingMode *mode) {
    if (!mode) return CUDA_ERROR_INVALID_VALUE;
    *mode = CU_MODULE_LAZY_LOADING;
    return CUDA_SUCCESS;
}

// ---- libraries ----------------------------------------------------------------------------------

CUresult sim_cuLibraryLoadData(CUlibrary *library, const void *code, CUjit_option *jitOptions,
                               void **jitOptionsValues, unsigned int numJitOptions,
                               CUlibraryOption *libraryOptions, void **libraryOptionValues,
                               unsigned int numLibraryOptions) {
    (void)jitOptions, (void)jitOptionsValues, (void)numJitOptions;
    (void)libraryOptions, (void)libraryOptionValues, (void)numLibraryOptions;
    return load(NULL, (void **)library, code);
}

CUresult sim_cuLibraryLoadFromFile(CUlibrary *library, const char *fileName,
                                   CUjit_option *jitOptions, void **jitOptionsValues,
                                   unsigned int numJitOptions, CUlibraryOption *libraryOptions,
                                   void **libraryOptionValues, unsigned int numLibraryOptions) {
    (void)jitOptions, (void)jitOptionsValues, (void)numJitOptions;
    (void)libraryOptions, (void)libraryOptionValues, (void)numLibraryOptions;
    return load_file(NULL, (void **)library, fileName);
}

CUresult sim_cuLibraryUnload(CUlibrary library) {
    if (!object_is(library, OBJECT_MODULE)) return CUDA_ERROR_INVALID_HANDLE;
    unload((struct module *)library);
    return CUDA_SUCCESS;
}

CUresult sim_cuLibraryGetKernel(CUkernel *pKernel, CUlibrary library, const char *name) {
    return get_function(library, name, (void **)pKernel);
}

CUresult sim_cuLibraryGetModule(CUmodule *pMod, CUlibrary library) {
    if (!pMod) return CUDA_ERROR_INVALID_VALUE;
    if (!object_is(library, OBJECT_MODULE)) return CUDA_ERROR_INVALID_HANDLE;
    *pMod = (CUmodule)library;
    return CUDA_SUCCESS;
}

CUresult sim_cuLibraryGetGlobal(CUdeviceptr *dptr, size_t *bytes, CUlibrary library,
                                const char *name) {
    return get_global(library, name, dptr, bytes);
}

CUresult sim_cuLibraryGetManaged(CUdeviceptr *dptr, size_t *bytes, CUlibrary library,
                                 const char *name) {
    return get_global(library, name, dptr, bytes);
}

// ---- functions and kernels ----------------------------------------------------------------------

CUresult sim_cuKernelGetFunction(CUfunction *pFunc, CUkernel kernel) {
    NEED_CONTEXT(context);
    if (!pFunc) return CUDA_ERROR_INVALID_VALUE;
    if (!object_is(kernel, OBJECT_FUNCTION)) return CUDA_ERROR_INVALID_HANDLE;
    *pFunc = (CUfunction)kernel;
    return CUDA_SUCCESS;
}

CUresult sim_cuKernelGetLibrary(CUlibrary *pLib, CUkernel kernel) {
    if (!pLib) return CUDA_ERROR_INVALID_VALUE;
    if (!object_is(kernel, OBJECT_FUNCTION)) return CUDA_ERROR_INVALID_HANDLE;
    *pLib = (CUlibrary)((struct function *)kernel)->module;
    return CUDA_SUCCESS;
}

CUresult sim_cuFuncGetModule(CUmodule *hmod, CUfunction hfunc) {
    return sim_cuKernelGetLibrary((CUlibrary *)hmod, (CUkernel)hfunc);
}

CUresult sim_cuFuncGetName(const char **name, CUfunction hfunc) {
    if (!name || !object_is(hfunc, OBJECT_FUNCTION)) return CUDA_ERROR_INVALID_VALUE;
    *name = ((struct function *)hfunc)->name;
    return CUDA_SUCCESS;
}

CUresult sim_cuKernelGetName(const char **name, CUkernel hfunc) {
    return sim_cuFuncGetName(name, (CUfunction)hfunc);
}

CUresult sim_cuFuncIsLoaded(CUfunctionLoadingState *state, CUfunction function) {
    if (!state || !object_is(function, OBJECT_FUNCTION)) return CUDA_ERROR_INVALID_VALUE;
    *state = CU_FUNCTION_LOADING_STATE_LOADED;
    return CUDA_SUCCESS;
}

CUresult sim_cuFuncLoad(CUfunction function) {
    return object_is(function, OBJECT_FUNCTION) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult sim_cuFuncGetAttribute(int *pi, CUfunction_attribute attrib, CUfunction hfunc) {
    if (!pi || (unsigned)attrib >= CU_FUNC_ATTRIBUTE_MAX) return CUDA_ERROR_INVALID_VALUE;
    if (!object_is(hfunc, OBJECT_FUNCTION)) return CUDA_ERROR_INVALID_HANDLE;
    *pi = ((struct function *)hfunc)->attributes[attrib];
    return CUDA_SUCCESS;
}

CUresult sim_cuFuncSetAttribute(CUfunction hfunc, CUfunction_attribute attrib, int value) {
    if ((unsigned)attrib >= CU_FUNC_ATTRIBUTE_MAX) return CUDA_ERROR_INVALID_VALUE;
    if (!object_is(hfunc, OBJECT_FUNCTION)) return CUDA_ERROR_INVALID_HANDLE;
    ((struct function *)hfunc)->attributes[attrib] = value;
    return CUDA_SUCCESS;
}

CUresult sim_cuKernelGetAttribute(int *pi, CUfunction_attribute attrib, CUkernel kernel,
                                  CUdevice dev) {
    if (!device_exists(dev)) return CUDA_ERROR_INVALID_DEVICE;
    return sim_cuFuncGetAttribute(pi, attrib, (CUfunction)kernel);
}

CUresult sim_cuKernelSetAttribute(CUfunction_attribute attrib, int val, CUkernel kernel,
                                  CUdevice dev) {
    if (!device_exists(dev)) return CUDA_ERROR_INVALID_DEVICE;
    return sim_cuFuncSetAttribute((CUfunction)kernel, attrib, val);
}

// ---- linking ------------------------------------------------------------------------------------

CUresult sim_cuLinkCreate_v2(unsigned int numOptions, CUjit_option *options, void **optionValues,
                             CUlinkState *stateOut) {
    (void)numOptions, (void)options, (void)optionValues;
    NEED_CONTEXT(context);
    if (!stateOut) return CUDA_ERROR_INVALID_VALUE;
    *stateOut = object_new(OBJECT_LINK, sizeof(struct object));
    return *stateOut ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

CUresult sim_cuLinkAddData_v2(CUlinkState state, CUjitInputType type, void *data, size_t size,
                              const char *name, unsigned int numOptions, CUjit_option *options,
                              void **optionValues) {
    (void)type, (void)size, (void)name, (void)numOptions, (void)options, (void)optionValues;
    if (!object_is(state, OBJECT_LINK)) return CUDA_ERROR_INVALID_HANDLE;
    return data ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult sim_cuLinkAddFile_v2(CUlinkState state, CUjitInputType type, const char *path,
                              unsigned int numOptions, CUjit_option *options, void **optionValues) {
    (void)type, (void)numOptions, (void)options, (void)optionValues;
    if (!object_is(state, OBJECT_LINK)) return CUDA_ERROR_INVALID_HANDLE;
    return path && access(path, R_OK) == 0 ? CUDA_SUCCESS : CUDA_ERROR_FILE_NOT_FOUND;
}

CUresult sim_cuLinkComplete(CUlinkState state, void **cubinOut, size_t *sizeOut) {
    static char cubin[] = "simulated";
    if (!object_is(state, OBJECT_LINK)) return CUDA_ERROR_INVALID_HANDLE;
    if (!cubinOut) return CUDA_ERROR_INVALID_VALUE;
    *cubinOut = cubin;
    if (sizeOut) *sizeOut = sizeof cubin;
    return CUDA_SUCCESS;
}

CUresult sim_cuLinkDestroy(CUlinkState state) {
    if (!object_is(state, OBJECT_LINK)) return CUDA_ERROR_INVALID_HANDLE;
    object_delete(state, OBJECT_LINK);
    return CUDA_SUCCESS;
}

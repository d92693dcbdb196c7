// SPDX-License-Identifier: Apache-2.0
//
// The simulated libnvidia-ml.so.1, which comes with every driver: the functions by which frameworks
// count devices without initialising CUDA and ask who uses their memory. A device is the driver's
// of the same number; the only process on it is the one that asks.
//
// NVIDIA's header is in no package that the build uses otherwise, so the few types stand here.

#include "simgpu.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#define API __attribute__((visibility("default"))) nvmlReturn_t

typedef enum {
    NVML_SUCCESS = 0,
    NVML_ERROR_INVALID_ARGUMENT = 2,
    NVML_ERROR_NOT_SUPPORTED = 3,
    NVML_ERROR_NOT_FOUND = 6,
    NVML_ERROR_INSUFFICIENT_SIZE = 7,
} nvmlReturn_t;

// Device n is the address n + 1: any other is none.
typedef struct nvmlDevice *nvmlDevice_t;

typedef struct {
    unsigned long long total, free, used;
} nvmlMemory_t;

typedef struct {
    unsigned gpu, memory;
} nvmlUtilization_t;

// The first version of a row, and what the later ones add to it.
typedef struct {
    unsigned pid;
    unsigned long long usedGpuMemory;
} nvmlProcessInfo_v1_t;

typedef struct {
    nvmlProcessInfo_v1_t process;
    unsigned gpuInstanceId, computeInstanceId;
} nvmlProcessInfo_t;

static bool memory_of(nvmlDevice_t device, uint64_t *total, uint64_t *used) {
    return simgpu_memory((int)((uintptr_t)device - 1), total, used);
}

static bool exists(nvmlDevice_t device) {
    uint64_t total, used;
    return memory_of(device, &total, &used);
}

static nvmlReturn_t answer(char *out, unsigned length, const char *text) {
    if (!out) return NVML_ERROR_INVALID_ARGUMENT;
    if (strlen(text) >= length) return NVML_ERROR_INSUFFICIENT_SIZE;
    strcpy(out, text);
    return NVML_SUCCESS;
}

API nvmlInit(void) {
    return NVML_SUCCESS;
}

API nvmlInit_v2(void) {
    return NVML_SUCCESS;
}

API nvmlInitWithFlags(unsigned flags) {
    (void)flags;
    return NVML_SUCCESS;
}

API nvmlShutdown(void) {
    return NVML_SUCCESS;
}

__attribute__((visibility("default"))) const char *nvmlErrorString(nvmlReturn_t result) {
    switch (result) {
    case NVML_SUCCESS:
        return "Success";
    case NVML_ERROR_INVALID_ARGUMENT:
        return "Invalid Argument";
    case NVML_ERROR_NOT_SUPPORTED:
        return "Not Supported";
    case NVML_ERROR_NOT_FOUND:
        return "Not Found";
    case NVML_ERROR_INSUFFICIENT_SIZE:
        return "Insufficient Size";
    }
    return "Unknown Error";
}

API nvmlSystemGetCudaDriverVersion(int *version) {
    if (!version) return NVML_ERROR_INVALID_ARGUMENT;
    *version = simgpu_version();
    return NVML_SUCCESS;
}

API nvmlSystemGetCudaDriverVersion_v2(int *version) {
    return nvmlSystemGetCudaDriverVersion(version);
}

API nvmlSystemGetDriverVersion(char *version, unsigned length) {
    return answer(version, length, "simulated");
}

API nvmlDeviceGetCount_v2(unsigned *count) {
    if (!count) return NVML_ERROR_INVALID_ARGUMENT;
    for (*count = 0; exists((nvmlDevice_t)(uintptr_t)(*count + 1)); ++*count) {
    }
    return NVML_SUCCESS;
}

API nvmlDeviceGetHandleByIndex_v2(unsigned index, nvmlDevice_t *device) {
    if (!device || !exists((nvmlDevice_t)(uintptr_t)(index + 1)))
        return NVML_ERROR_INVALID_ARGUMENT;
    *device = (nvmlDevice_t)(uintptr_t)(index + 1);
    return NVML_SUCCESS;
}

API nvmlDeviceGetIndex(nvmlDevice_t device, unsigned *index) {
    if (!index || !exists(device)) return NVML_ERROR_INVALID_ARGUMENT;
    *index = (unsigned)((uintptr_t)device - 1);
    return NVML_SUCCESS;
}

API nvmlDeviceGetName(nvmlDevice_t device, char *name, unsigned length) {
    char text[32];
    if (!exists(device)) return NVML_ERROR_INVALID_ARGUMENT;
    simgpu_name((int)((uintptr_t)device - 1), text, sizeof text);
    return answer(name, length, text);
}

API nvmlDeviceGetUUID(nvmlDevice_t device, char *uuid, unsigned length) {
    unsigned char b[16];
    char text[64];
    if (!exists(device)) return NVML_ERROR_INVALID_ARGUMENT;
    simgpu_uuid((int)((uintptr_t)device - 1), b);
    snprintf(text, sizeof text,
             "GPU-%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", b[0], b[1],
             b[2], b[3], b[4], b[5], b[6], b[7], b[8], b[9], b[10], b[11], b[12], b[13], b[14],
             b[15]);
    return answer(uuid, length, text);
}

// The first device for which `text_of` gives the wanted text.
static nvmlReturn_t find(const char *wanted, nvmlDevice_t *device,
                         nvmlReturn_t (*text_of)(nvmlDevice_t, char *, unsigned)) {
    char text[96];
    if (!wanted || !device) return NVML_ERROR_INVALID_ARGUMENT;
    for (uintptr_t i = 1; text_of((nvmlDevice_t)i, text, sizeof text) == NVML_SUCCESS; i++) {
        if (strcasecmp(text, wanted)) continue;
        *device = (nvmlDevice_t)i;
        return NVML_SUCCESS;
    }
    return NVML_ERROR_NOT_FOUND;
}

static nvmlReturn_t bus_id(nvmlDevice_t device, char *out, unsigned length) {
    if (!exists(device)) return NVML_ERROR_INVALID_ARGUMENT;
    simgpu_bus_id((int)((uintptr_t)device - 1), out, length);
    return NVML_SUCCESS;
}

API nvmlDeviceGetHandleByUUID(const char *uuid, nvmlDevice_t *device) {
    return find(uuid, device, nvmlDeviceGetUUID);
}

// The domain may have eight digits or four.
API nvmlDeviceGetHandleByPciBusId_v2(const char *id, nvmlDevice_t *device) {
    const char *domain_end = id ? strchr(id, ':') : NULL;
    if (domain_end && domain_end - id == 8) id += 4;
    return find(id, device, bus_id);
}

API nvmlDeviceGetMemoryInfo(nvmlDevice_t device, nvmlMemory_t *memory) {
    uint64_t total, used;
    if (!memory || !memory_of(device, &total, &used)) return NVML_ERROR_INVALID_ARGUMENT;
    *memory = (nvmlMemory_t){.total = total, .free = total - used, .used = used};
    return NVML_SUCCESS;
}

API nvmlDeviceGetUtilizationRates(nvmlDevice_t device, nvmlUtilization_t *rates) {
    if (!rates || !exists(device)) return NVML_ERROR_INVALID_ARGUMENT;
    *rates = (nvmlUtilization_t){0};
    return NVML_SUCCESS;
}

// *count: room in, rows out. No rows asked for: how many there are.
static nvmlReturn_t processes(nvmlDevice_t device, unsigned *count, void *rows, size_t row_size) {
    uint64_t total, used;
    if (!count || !memory_of(device, &total, &used)) return NVML_ERROR_INVALID_ARGUMENT;
    unsigned room = *count;
    *count = used > 0;
    if (*count > room) return NVML_ERROR_INSUFFICIENT_SIZE;
    if (*count == 0) return NVML_SUCCESS;
    if (!rows) return NVML_ERROR_INVALID_ARGUMENT;
    nvmlProcessInfo_t row = {.process = {.pid = (unsigned)getpid(), .usedGpuMemory = used},
                             .gpuInstanceId = ~0u,
                             .computeInstanceId = ~0u};
    memcpy(rows, &row, row_size);
    return NVML_SUCCESS;
}

API nvmlDeviceGetComputeRunningProcesses(nvmlDevice_t device, unsigned *count, void *rows) {
    return processes(device, count, rows, sizeof(nvmlProcessInfo_v1_t));
}

API nvmlDeviceGetComputeRunningProcesses_v2(nvmlDevice_t device, unsigned *count, void *rows) {
    return processes(device, count, rows, sizeof(nvmlProcessInfo_t));
}

API nvmlDeviceGetComputeRunningProcesses_v3(nvmlDevice_t device, unsigned *count, void *rows) {
    return processes(device, count, rows, sizeof(nvmlProcessInfo_t));
}

// There are no links between devices.
API nvmlDeviceGetNvLinkRemoteDeviceType(nvmlDevice_t device, unsigned link, int *type) {
    (void)device, (void)link, (void)type;
    return NVML_ERROR_NOT_SUPPORTED;
}

API nvmlDeviceGetNvLinkRemotePciInfo_v2(nvmlDevice_t device, unsigned link, void *pci) {
    (void)device, (void)link, (void)pci;
    return NVML_ERROR_NOT_SUPPORTED;
}

// All versions start with their number, whose low three bytes are the size; state 0 of what follows
// says that there is no fabric.
API nvmlDeviceGetGpuFabricInfoV(nvmlDevice_t device, unsigned *version) {
    if (!version || !exists(device)) return NVML_ERROR_INVALID_ARGUMENT;
    unsigned size = *version & 0xFFFFFF;
    if (size < sizeof *version || size > 1024) return NVML_ERROR_INVALID_ARGUMENT;
    memset(version + 1, 0, size - sizeof *version);
    return NVML_SUCCESS;
}

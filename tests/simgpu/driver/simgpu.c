// SPDX-License-Identifier: Apache-2.0
// The answers for the simulated NVML, from what the behaviours know, not through the entries.
#include "simgpu.h"

#include "device.h"

#include "api.h"

#define FOR_NVML __attribute__((visibility("default")))

FOR_NVML bool simgpu_memory(int device, uint64_t *total, uint64_t *used) {
    options_read();
    if (!device_exists(device)) return false;
    *total = options.memory[device];
    *used = atomic_load(&devices[device].used);
    return true;
}

FOR_NVML void simgpu_name(int device, char *name, size_t size) {
    sim_cuDeviceGetName(name, (int)size, device);
}

FOR_NVML void simgpu_bus_id(int device, char *id, size_t size) {
    sim_cuDeviceGetPCIBusId(id, (int)size, device);
}

FOR_NVML void simgpu_uuid(int device, unsigned char uuid[16]) {
    sim_cuDeviceGetUuid_v2((CUuuid *)uuid, device);
}

FOR_NVML int simgpu_version(void) {
    options_read();
    return options.version;
}

// SPDX-License-Identifier: Apache-2.0
// What the simulated driver tells the simulated NVML (../nvml), which must answer before cuInit and
// must not call the API: a call would be seen by whoever watches the program, and real ones make
// none.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// All by device number; false if there is no such device.
bool simgpu_memory(int device, uint64_t *total, uint64_t *used);

void simgpu_name(int device, char *name, size_t size);
void simgpu_bus_id(int device, char *id, size_t size);
void simgpu_uuid(int device, unsigned char uuid[16]);

// What cuDriverGetVersion answers.
int simgpu_version(void);

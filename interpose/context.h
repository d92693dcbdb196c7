// SPDX-License-Identifier: Apache-2.0
//
// What the program's own calls tell of devices, contexts and pools. See context.c.
#ifndef MEMWATCH_CONTEXT_H
#define MEMWATCH_CONTEXT_H

#include "ledger_format.h"

#include <stdbool.h>

// The thread's current context as its calls left it. 0 and -1 where they do not tell.
uint64_t mw_context_current(void);
int mw_context_device(void);

void mw_context_created(uint64_t context, int device, bool primary);
void mw_context_ended(uint64_t context);
// The primary context of a device, 0 if it was never seen.
uint64_t mw_context_primary(int device);
int mw_context_device_of(uint64_t context); // -1: not seen

void mw_context_set(uint64_t context);    // learned from cuCtxGetCurrent
void mw_context_switch(uint64_t context); // cuCtxSetCurrent
void mw_context_push(uint64_t context);   // cuCtxPushCurrent, cuCtxCreate
void mw_context_pop(void);
void mw_context_on_device(int device);      // cuCtxGetDevice told the device of the current context
void mw_context_runtime_device(int device); // cudaSetDevice: used while no context was seen

// References of primary contexts. A release returns how many are left of those seen, -1 if there
// was none to release.
void mw_context_retained(int device);
int mw_context_released(int device);
void mw_context_forgotten(int device); // by a reset, which ends them all

void mw_device_name(int device, const char *name);
void mw_device_total(int device, uint64_t total);
void mw_device_info(int device, uint64_t free, uint64_t total);
void mw_device_limit(int device, unsigned limit, uint64_t value);
void mw_device_graph(int device, int attribute, uint64_t value); // CUgraphMem_attribute
void mw_driver_version(int version);

void mw_pool_seen(uint64_t pool, int device, bool imported);
void mw_pool_ended(uint64_t pool);
int mw_pool_device(uint64_t pool, int otherwise);
enum mw_space mw_pool_space(uint64_t pool);
void mw_pool_kind(uint64_t pool, enum mw_space space); // of pools that are not of device memory
void mw_pool_attribute(uint64_t pool, int attribute, uint64_t value); // CUmemPool_attribute
// The pool that cuMemAllocAsync uses on a device: as the program set or asked it, 0 = unknown.
uint64_t mw_pool_current(int device);
void mw_pool_set_current(int device, uint64_t pool);

// A new ledger gets what was seen before it was made.
void mw_context_publish(struct mw_header *header);

// Streams that capture into a graph: memory calls on them make nodes, not memory.
void mw_capture_begin(uint64_t stream);
void mw_capture_end(uint64_t stream);
bool mw_capturing(uint64_t stream);
bool mw_any_capture(void);
uint64_t mw_capture_origin(uint64_t stream);             // + 1; 0 = not capturing
void mw_capture_leave(uint64_t stream);                  // destroyed
void mw_capture_record(uint64_t stream, uint64_t event); // cuEventRecord
void mw_capture_wait(uint64_t stream, uint64_t event);   // cuStreamWaitEvent

#endif

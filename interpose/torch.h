// SPDX-License-Identifier: Apache-2.0
//
// PyTorch's tensor events. See torch.c.
#ifndef MEMWATCH_TORCH_H
#define MEMWATCH_TORCH_H

#include "entrypoints.h"
#include "ledger.h"
#include "options.h"

#include <stddef.h>
#include <stdint.h>

// c10::Device, by value: a struct and no integer, since a compiler may take the upper bits of a
// narrow integer for extended already, and those of a small struct are undefined.
struct mwTorchDevice {
    int8_t type, index;
};
// As torch 1.6 and 1.7 had it; 1.8 and 1.9 pass the other one under the same symbol.
struct mwTorchDeviceWide {
    int16_t type, index;
};

// The hooks.
#define TORCH(symbol, name, since, parameters, ...) void symbol parameters;
#include "torch.def"
#undef TORCH

// ---- what they forward to (torch_find.c) -----------------------------------------------------

extern mw_pointer mw_torch_original[]; // by row of torch.def; NULL = not there, or not seen

// Looks which of the functions are loaded. The doors call it when objects have come or gone: it
// takes the lock of the loader's list. Any thread; errno is preserved.
void mw_torch_look(void);
// The doors tell of each dlclose that has returned.
void mw_torch_closed(void);
// An event came for a function that is not known: looks, the first time.
void *mw_torch_look_once(unsigned row);
// Copies what was seen last.
void mw_torch_found(struct mw_torch *out);

MW_INLINE void *mw_torch_original_of(unsigned api) {
    unsigned row = api - MW_API_TORCH_FIRST;
    void *real = atomic_load_explicit(&mw_torch_original[row], memory_order_acquire);
    return mw_likely(real) ? real : mw_torch_look_once(row);
}

// ---- the ledger's part (torch.c) -------------------------------------------------------------

// For a new ledger, once: makes it. False: there was no room.
bool mw_torch_begin(const struct mw_options *options);
// What was found has changed. No-op without a ledger.
void mw_torch_publish(void);

#endif

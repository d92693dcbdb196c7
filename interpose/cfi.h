// SPDX-License-Identifier: Apache-2.0
//
// How to leave a function: the call frame information that compilers put beside the code
// (.eh_frame, found through .eh_frame_hdr), read for one address. See cfi.c.
#ifndef MEMWATCH_CFI_H
#define MEMWATCH_CFI_H

#include <stdbool.h>
#include <stdint.h>

// A loaded object. `header` is its PT_GNU_EH_FRAME segment; 0 = it has none.
struct mw_cfi_object {
    uintptr_t start, end; // what the loader mapped for it
    uintptr_t header;
};

// Where the caller's value of a register is. The offset is added to the register that is named.
enum mw_cfi_place {
    MW_CFI_KEPT,   // in the register itself
    MW_CFI_AT_CFA, // in memory at the canonical frame address + offset
    MW_CFI_AT_FP,  // in memory at the frame pointer + offset
    MW_CFI_AT_SP,
    MW_CFI_LOST, // nowhere; of the return address: there is no caller
};

// The step from a frame to its caller. The canonical frame address (CFA) is the caller's stack
// pointer: sp or fp + cfa, or the word that lies there (`cfa_loaded`).
struct mw_cfi_step {
    bool cfa_from_fp, cfa_loaded;
    bool interrupted; // the caller was interrupted by a signal: its pc is no return address
    uint8_t fp_place, ra_place; // enum mw_cfi_place: the caller's frame pointer, its pc
    int32_t cfa, fp, ra;        // offsets in bytes, multiples of 8
};

// False: nothing is said about that address, or it is beyond the three registers that are followed
// (a few functions with variable-size vectors, prologues that realign the stack). `pc` is an
// address within the instruction: of a call, the return address - 1. Reads the object's mapping and
// nothing else: no lock, no allocation, no call. About a microsecond.
bool mw_cfi_find(const struct mw_cfi_object *object, uintptr_t pc, struct mw_cfi_step *step);

#endif

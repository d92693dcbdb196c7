// SPDX-License-Identifier: Apache-2.0
// build: -L$B/simgpu -lcuda -fomit-frame-pointer -fno-optimize-sibling-calls
//
// One of two libraries that stack_reload loads at the same address, one after the other: the same
// but for the names and for the sizes of the frames, which differ where the return addresses are
// the same.
#define THIS  one
#define FRAME 4096
#include "stack_library.h"

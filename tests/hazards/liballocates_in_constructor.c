// SPDX-License-Identifier: Apache-2.0
// build: -L$B/simgpu -lcuda -pthread
//
// A plug-in whose constructor allocates, and does not end before the other thread has allocated
// too: whoever takes one of the dynamic linker's locks in an allocation hangs there.
#include "hazard.h"

#include <stdatomic.h>
#include <unistd.h>

extern _Atomic int constructor_runs, other_is_done;

__attribute__((constructor)) static void construct(void) {
    hazard_block(3 * MIB);
    atomic_store(&constructor_runs, 1);
    for (int i = 0; i < 10000 && !atomic_load(&other_is_done); i++) usleep(1000);
    if (!atomic_load(&other_is_done)) {
        fprintf(stderr, "the other thread could not allocate while a constructor ran\n");
        _exit(3);
    }
    hazard_block(5 * MIB);
}

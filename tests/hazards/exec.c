// SPDX-License-Identifier: Apache-2.0
// build: -L$B/simgpu -lcuda
//
// A process that uses the GPU and then becomes another program, under the same process id, which
// uses it too.
#include "hazard.h"

#include <unistd.h>

int main(int argc, char **argv) {
    hazard_use(0);
    if (argc == 2) {
        hazard_block(3 * MIB);
        setenv("SIMGPU_BOOKS", argv[1], 1); // the second program's books
        execl(argv[0], argv[0], NULL);
        return 127;
    }
    hazard_block(5 * MIB);
    return 0;
}

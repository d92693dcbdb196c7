// SPDX-License-Identifier: Apache-2.0
// build: -L$B/simgpu -lcuda
//
// Prints to standard error as C programs do, which no preloaded library sees: prints TEXT [kill]
#include "hazard.h"

#include <signal.h>
#include <unistd.h>

int main(int argc, char **argv) {
    hazard_use(0);
    hazard_block(3 * MIB);
    if (argc > 1) fprintf(stderr, "%s\n", argv[1]);
    if (argc > 2) kill(getpid(), SIGKILL);
    return 0;
}

// SPDX-License-Identifier: Apache-2.0
// build: -L$B/simgpu -lcuda
//
// A process that uses the GPU and then becomes another program, under the same process id, which
// uses it too. The second program waits for the report of the first: that one has ended.
#include "hazard.h"

#include <dirent.h>
#include <string.h>
#include <unistd.h>

static int reports(const char *folder) {
    int n = 0;
    DIR *files = opendir(folder);
    for (struct dirent *e; files && (e = readdir(files));) n += strstr(e->d_name, ".json") != NULL;
    if (files) closedir(files);
    return n;
}

int main(int argc, char **argv) {
    hazard_use(0);
    if (argc == 2) {
        hazard_block(3 * MIB);
        setenv("SIMGPU_BOOKS", argv[1], 1); // the second program's books
        execl(argv[0], argv[0], NULL);
        return 127;
    }
    hazard_block(5 * MIB);
    const char *folder = getenv("MEMWATCH_DIR");
    for (int i = 0; folder && i < 1000 && !reports(folder); i++) usleep(10000);
    return 0;
}

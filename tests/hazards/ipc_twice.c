// SPDX-License-Identifier: Apache-2.0
// build: -L$B/simgpu -lcuda
//
// Memory of another process, opened twice: the second opening gives the same address and counts, so
// that it is open until it was closed twice. The process that owns it is the one that counts bytes.
#include "hazard.h"

#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static int import(int from) {
    CUipcMemHandle handle;
    CUdeviceptr first, second;
    if (read(from, &handle, sizeof handle) != sizeof handle) return 2;
    hazard_use(0);
    hazard_block(MIB);
    MUST(cuIpcOpenMemHandle(&first, handle, CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS));
    MUST(cuIpcOpenMemHandle(&second, handle, CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS));
    printf("the same address: %d\n", first == second);
    MUST(cuIpcCloseMemHandle(first));
    MUST(cuIpcCloseMemHandle(second));
    TELL(cuIpcCloseMemHandle(second));
    MUST(cuIpcOpenMemHandle(&first, handle, CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS));
    return 0; // and this one is left open
}

int main(void) {
    int pipe_ends[2], status;
    if (pipe(pipe_ends) != 0) return 2;
    pid_t child = fork(); // before the first GPU call, so it has a GPU of its own
    if (child == 0) return import(pipe_ends[0]);

    CUipcMemHandle handle;
    hazard_use(0);
    CUdeviceptr block = hazard_block(6 * MIB);
    MUST(cuIpcGetMemHandle(&handle, block));
    if (write(pipe_ends[1], &handle, sizeof handle) != sizeof handle) return 2;
    if (waitpid(child, &status, 0) != child || status != 0) return 3;
    printf("child: %d\n", (int)child);
    MUST(cuMemFree(block));
    return 0;
}

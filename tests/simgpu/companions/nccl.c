// SPDX-License-Identifier: Apache-2.0
//
// The part of NCCL that behaviours.def cannot say: a communicator knows its rank and size. The
// ranks never hear of one another, for collectives do nothing.

#include "companion.h"

typedef struct {
    char internal[128];
} ncclUniqueId;

typedef struct communicator {
    void *memory; // first: companion_take and companion_give
    int rank, size;
} * ncclComm_t;

enum { BUFFER = 4 << 20 }; // NCCL_BUFFSIZE's default

enum { SUCCESS = 0, SYSTEM_ERROR = 2 };

static int new_communicator(ncclComm_t *out, int size, int rank) {
    ncclComm_t made = malloc(sizeof *made);
    if (!made) return SYSTEM_ERROR;
    *made = (struct communicator){.rank = rank, .size = size};
    *out = made;
    companion_take((long)out, BUFFER);
    return SUCCESS;
}

COMPANION(int, ncclCommInitRank, (ncclComm_t * out, int size, ncclUniqueId id, int rank)) {
    (void)id;
    return new_communicator(out, size, rank);
}

COMPANION(int, ncclCommInitRankConfig,
          (ncclComm_t * out, int size, ncclUniqueId id, int rank, void *config)) {
    (void)id, (void)config;
    return new_communicator(out, size, rank);
}

COMPANION(int, ncclCommInitRankScalable,
          (ncclComm_t * out, int size, int rank, int ids, ncclUniqueId *id, void *config)) {
    (void)ids, (void)id, (void)config;
    return new_communicator(out, size, rank);
}

COMPANION(int, ncclCommInitAll, (ncclComm_t * out, int size, const int *devices)) {
    int result = SUCCESS, before;
    bool known = cudaGetDevice(&before) == 0; // not where there is no GPU
    for (int rank = 0; rank < size && result == SUCCESS; rank++) {
        if (known) cudaSetDevice(devices ? devices[rank] : rank);
        result = new_communicator(&out[rank], size, rank);
    }
    if (known) cudaSetDevice(before);
    return result;
}

COMPANION(int, ncclCommUserRank, (ncclComm_t communicator, int *rank)) {
    *rank = communicator->rank;
    return SUCCESS;
}

COMPANION(int, ncclCommCount, (ncclComm_t communicator, int *size)) {
    *size = communicator->size;
    return SUCCESS;
}

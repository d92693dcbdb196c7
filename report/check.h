// SPDX-License-Identifier: Apache-2.0
//
// The ledger's invariant: per device and space, what threads, sites and the running counters say is
// live equals what the records say. See check.c for what a killed or busy writer may leave.
#ifndef MEMWATCH_CHECK_H
#define MEMWATCH_CHECK_H

#include "model.h"

#define CHECK_LINES 32u // differences told in words; more are only counted

// One comparison over all accounts, sites or threads, or one property of the file.
struct check_row {
    const char *holds;  // in words, to follow the number `compared`
    uint64_t compared;  // how many were looked at
    uint64_t differing; // by how many blocks
    uint64_t allowed;   // for events in flight
    bool ok;
};
#define CHECK_ROWS 9u

struct check {
    bool ok;
    uint64_t in_flight; // events that may be half recorded: the tolerance
    struct check_row row[CHECK_ROWS];
    unsigned rows;
    char line[CHECK_LINES][160]; // what differs
    unsigned lines;
};

void check_model(const struct model *m, struct check *out);

#endif

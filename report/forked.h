// SPDX-License-Identifier: Apache-2.0
//
// Was a process forked, without executing anything, from one that had used a GPU? The driver's
// state is of no use there, and numbers read from it are not the child's.
#ifndef MEMWATCH_FORKED_H
#define MEMWATCH_FORKED_H

#include "model.h"

// By the parent's ledger, which lies beside this one as long as the parent lives. False also if it
// is not there.
bool forked_from_watched(const struct model *m, const char *ledger);

#endif

// SPDX-License-Identifier: Apache-2.0
//
// Which known errors a process ran into: what it printed and what its failed calls returned, looked
// up in the knowledge (knowledge/match.h, knowledge/incidents.h).
#ifndef MEMWATCH_RECOGNISE_H
#define MEMWATCH_RECOGNISE_H

#include "incidents.h"
#include "model.h"

struct recognised {
    const struct incident *incident;
    enum severity severity;        // the incident's; lower for a code without consequences
    unsigned evidence;             // enum incident_evidence: text and call may agree
    const struct message *message; // in which the incident's text begins; NULL: none did
    const struct mw_failure *call; // the last failed call that belongs to it; NULL: none does
    uint64_t calls;                // of these, among the failures that the ledger kept
};

struct recognition {
    const struct knowledge *knowledge; // NULL: there was nothing to look up
    struct incidents *incidents;
    struct recognised *item; // those that matter most first
    size_t count;
    uint64_t left_out; // messages of known errors beyond what can be told apart
};

// The caller frees with recognition_free; *m must outlive it. What is known is loaded when it is
// first needed and kept: for one thread at a time.
void recognise(const struct model *m, struct recognition *out);
void recognition_free(struct recognition *r);

// The failed call with this ordinal, if the ledger has it whole; else NULL. The ones kept are the
// last MW_FAILURES of header.failures_total.
const struct mw_failure *failure_at(const struct mw_header *h, uint64_t ordinal);

#endif

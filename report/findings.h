// SPDX-License-Identifier: Apache-2.0
//
// Findings: what a report concludes from what was recorded. Each says what is the case (title,
// severity, confidence), why we say so (explanation, evidence with its sources), where (sites),
// what is known about it (knowledge), what to do and what not to do. A guess stands apart, in
// `hypothesis`.
//
// A finding is built as JSON at once: finding_new, then what there is to add.
#ifndef MEMWATCH_FINDINGS_H
#define MEMWATCH_FINDINGS_H

#include "json.h"
#include "model.h"
#include "recognise.h"

// What a report lists; the rest is counted. Ranks that fail in turn are one incident each already.
#define FINDINGS_LISTED 100

// What the functions that look for findings are given.
struct inquiry {
    const struct model *m;
    const char *ledger;          // path
    const int *position;         // where each site stands in the report; -1: it does not
    const int *failure_position; // likewise each of the header's failures
    const struct recognition *recognition;
    cJSON *findings;
};

// ---- building one (findings.c) --------------------------------------------------------------

// Where evidence comes from: the `source` of schema.json.
#define SOURCE_MESSAGE   "message"   // what the program printed
#define SOURCE_LEDGER    "ledger"    // what we recorded
#define SOURCE_CALL      "call"      // what a failed call asked for and returned
#define SOURCE_DRIVER    "driver"    // what the driver told the program
#define SOURCE_FRAMEWORK "framework" // what the program's framework says of itself

struct finding_words {
    const char *title; // one sentence, without a full stop
    // Facts, and what would explain them; NULL or "": nothing.
    const char *explanation, *hypothesis;
};

// `confidence` from 0 to 1: how sure it is that this is the case.
cJSON *finding_new(cJSON *findings, const char *type, enum severity severity, double confidence,
                   const struct finding_words *words);

// A number of bytes; a text, of any bytes. `what` says what it is, in a few words.
void finding_bytes(cJSON *finding, const char *what, uint64_t bytes, const char *source);
void finding_text(cJSON *finding, const char *what, const char *text, size_t length,
                  const char *source);
// A text that states a number of bytes.
void finding_stated(cJSON *finding, const char *what, const char *text, uint64_t bytes,
                    const char *source);

// The sites that hold most device memory, or, if most of what was live then is gone, held most at
// their peak.
void finding_top_sites(cJSON *finding, const struct inquiry *q, uint64_t live_then);
// The failed call that it is about.
void finding_failure(cJSON *finding, const struct inquiry *q, const struct mw_failure *call);
// A site that held that much at the moment of the finding; the first ones are listed.
void finding_site(cJSON *finding, const struct inquiry *q, uint32_t site, uint64_t bytes);
// Refers to a record, with what it says helps and does not.
void finding_knowledge(cJSON *finding, const struct record *record);
// The device that a message or call speaks of, as the driver described it to the program. -1: the
// only one that is known, if it is the only one.
void finding_device(cJSON *finding, const struct model *m, int device);

// ---- looking for them -----------------------------------------------------------------------

void find_known_errors(const struct inquiry *q);       // known_errors.c
void find_counter_corruption(const struct inquiry *q); // corruption.c

void find_framework_drift(const struct inquiry *q); // torch_findings.c
void find_framework_oom(const struct inquiry *q);

// The request that PyTorch had to refuse and that this error is about, if it is: of the same
// device, and just after the failed call or just before the message. NULL: none is.
const struct mw_oom *framework_oom_of(const struct inquiry *q, const struct recognised *r,
                                      int device);
// The same, of the device that the error names; NULL also for errors of another kind.
const struct mw_oom *known_error_oom(const struct inquiry *q, const struct recognised *r);
// The same, if that request has a finding of its own and the error is certainly its: then that
// finding tells the error's evidence, too, and the error has none. What happened once is told once.
const struct mw_oom *framework_oom_telling(const struct inquiry *q, const struct recognised *r);

// What a known error says of itself, and what shows that it happened. `asked`: what the size that a
// failed call asked for is called.
struct finding_words known_error_words(const struct recognised *r);
void known_error_evidence(cJSON *finding, const struct inquiry *q, const struct recognised *r,
                          const char *asked);
// Who held PyTorch's tensors when it refused that request.
void finding_tensors(cJSON *finding, const struct inquiry *q, const struct mw_oom *o);

// Adds `findings`, `findings_omitted` and `knowledge` to a report.
void emit_findings(cJSON *report, const struct model *m, const char *ledger, const int *position,
                   const int *failure_position);

// Adds `messages` and `messages_omitted` (emit_messages.c).
void emit_messages(cJSON *report, const struct model *m);

#endif

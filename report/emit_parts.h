// SPDX-License-Identifier: Apache-2.0
//
// What the files share that make the JSON report: emit_json.c, which has these functions,
// emit_sites.c.
#ifndef MEMWATCH_EMIT_PARTS_H
#define MEMWATCH_EMIT_PARTS_H

#include "emit.h"

// `ns` since the ledger was made.
void emit_time(cJSON *object, const char *name, const struct model *m, uint64_t ns);
// null if `known` is false.
void emit_time_if(cJSON *object, const char *name, const struct model *m, bool known, uint64_t ns);
void emit_api(cJSON *object, const char *name, const struct model *m, int api);
void emit_pair(cJSON *object, int device, enum mw_space space);
void emit_tally(cJSON *object, const struct tally *t);
void emit_held(cJSON *object, const struct held *held);
// And what was held when Python began to end: with what its end freed.
void emit_held_at_exit(cJSON *object, const struct held *held, const struct held *ended);

// ---- sites (emit_sites.c) -------------------------------------------------------------------

#define SITES_LISTED 1000u // the rest is summed up: a report must not grow without bound

// Adds `sites` and `sites_omitted` to a report. position[i] gets where model site i stands in the
// list; -1 = it does not. The resolver will have been asked about their frames and those of
// failures.
void emit_sites(cJSON *report, const struct model *m, const struct naming *naming, int *position);

// Adds a stack to an object: `frames`, `where`, `stack_cut`, `stack_unsure`.
void emit_stack(cJSON *object, const struct model *m, struct resolver *resolver,
                uint32_t reference);

// Adds `modules` to an object: where the names of native frames come from, and where not.
void emit_modules(cJSON *object, const struct resolver *resolver);

// ---- PyTorch (emit_torch.c) -----------------------------------------------------------------

// Adds `torch` to a report, null where there is none; adds `tensors` to its coverage.
void emit_torch(cJSON *report, const struct model *m, const int *position);
void emit_torch_level(cJSON *coverage, const struct model *m);

#endif

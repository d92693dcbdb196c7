// SPDX-License-Identifier: Apache-2.0
//
// The part of cuDNN that behaviours.def cannot say: reading attributes of the graph API, in which a
// caller builds descriptors, asks for engines to run them with, and runs a plan. The answers are
// the least that works: one engine without notes or knobs, whose plan wants a workspace.

#include "companion.h"

// Numbered by cudnn_graph.h.
enum {
    ENGINEHEUR_RESULTS = 202,
    ENGINECFG_ENGINE = 300,
    ENGINECFG_WORKSPACE_SIZE = 303,
    ENGINECFG_SHARED_MEMORY_USED = 304,
    EXECUTION_PLAN_WORKSPACE_SIZE = 402,
    OPERATIONGRAPH_ENGINE_GLOBAL_COUNT = 802,
    ENGINE_GLOBAL_INDEX = 1301,
};

enum { TYPE_INT32 = 23 };

// Attributes that are one number.
static const struct {
    int name;
    int64_t value;
} numbers[] = {
    {ENGINECFG_WORKSPACE_SIZE, 1 << 20},
    {ENGINECFG_SHARED_MEMORY_USED, 0},
    {EXECUTION_PLAN_WORKSPACE_SIZE, 1 << 20},
    {OPERATIONGRAPH_ENGINE_GLOBAL_COUNT, 1},
    {ENGINE_GLOBAL_INDEX, 0},
};

// The descriptors that a caller asks for are its own, waiting in the array: they are left as they
// are. *count is how many there are, which may be more than were asked for.
COMPANION(int, cudnnBackendGetAttribute,
          (void *descriptor, int name, int type, int64_t room, int64_t *count, void *array)) {
    (void)descriptor;
    int64_t found = name == ENGINEHEUR_RESULTS || name == ENGINECFG_ENGINE;
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        if (numbers[i].name != name) continue;
        found = 1;
        if (room < 1 || !array) continue;
        if (type == TYPE_INT32)
            *(int32_t *)array = (int32_t)numbers[i].value;
        else
            *(int64_t *)array = numbers[i].value;
    }
    if (count) *count = found;
    return 0;
}

// SPDX-License-Identifier: Apache-2.0
// Events. One that was recorded in a capturing stream stands for nodes, not for work.
#pragma once

#include "stream.h"

struct event {
    struct object object;
    struct context *context;
    unsigned flags;
    pthread_mutex_t lock;
    struct fence *fence;        // of the last record; NULL before the first
    unsigned long long capture; // id of the one it was last recorded in; 0: none
    struct node **captured;     // the nodes that stream then ended in
    size_t captured_count;
};

void event_set_captured(struct event *event, unsigned long long capture, struct node **nodes,
                        size_t count);

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "stream.h"

struct event {
    struct object object;
    struct context *context;
    unsigned flags;
    pthread_mutex_t lock;
    struct fence *fence;     // of the last record; NULL before the first
    struct capture *capture; // last recorded in a capturing stream
    struct node **captured;  // the nodes that stream then ended in
    size_t captured_count;
};

void event_set_captured(struct event *event, struct capture *capture, struct node **nodes,
                        size_t count);

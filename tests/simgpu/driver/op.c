// SPDX-License-Identifier: Apache-2.0
// What streams do when an operation's turn comes, and fences.
#include "stream.h"

#include "graph_memory.h"
#include "memory.h"

#include <stdlib.h>
#include <string.h>

struct fence {
    _Atomic int references;
    _Atomic bool reached;
    struct timespec time;
};

// One condition for all fences: they are reached rarely compared with the memory calls that this
// driver exists for.
static pthread_mutex_t fence_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t fence_changed = PTHREAD_COND_INITIALIZER;

struct fence *fence_new(void) {
    struct fence *fence = calloc(1, sizeof *fence);
    if (!fence) abort();
    fence->references = 1;
    return fence;
}

struct fence *fence_retain(struct fence *fence) {
    if (fence) atomic_fetch_add(&fence->references, 1);
    return fence;
}

void fence_release(struct fence *fence) {
    if (fence && atomic_fetch_sub(&fence->references, 1) == 1) free(fence);
}

bool fence_is_reached(struct fence *fence) {
    return atomic_load(&fence->reached);
}

struct timespec fence_time(struct fence *fence) {
    return fence->time;
}

static void fence_reach(struct fence *fence) {
    clock_gettime(CLOCK_MONOTONIC, &fence->time);
    pthread_mutex_lock(&fence_lock);
    atomic_store(&fence->reached, true);
    pthread_cond_broadcast(&fence_changed);
    pthread_mutex_unlock(&fence_lock);
}

void fence_wait(struct fence *fence) {
    if (fence_is_reached(fence)) return;
    pthread_mutex_lock(&fence_lock);
    while (!fence_is_reached(fence)) pthread_cond_wait(&fence_changed, &fence_lock);
    pthread_mutex_unlock(&fence_lock);
}

static void run_copy(const struct copy *copy) {
    for (size_t z = 0; z < copy->depth; z++) {
        const char *from = (const char *)copy->from.base + z * copy->from.slice;
        char *to = (char *)copy->to.base + z * copy->to.slice;
        for (size_t y = 0; y < copy->height; y++)
            memmove(to + y * copy->to.pitch, from + y * copy->from.pitch, copy->width);
    }
}

static void run_fill(const struct fill *fill) {
    for (size_t y = 0; y < fill->height; y++) {
        char *row = (char *)fill->base + y * fill->pitch;
        if (fill->element == 1) {
            memset(row, (int)fill->value, fill->width);
            continue;
        }
        for (size_t x = 0; x < fill->width; x++)
            memcpy(row + x * fill->element, &fill->value, fill->element);
    }
}

static bool value_arrived(const struct op *op) {
    uint64_t now = op->value.wide ? *(volatile uint64_t *)op->value.address
                                  : *(volatile uint32_t *)op->value.address;
    uint64_t mask = op->value.wide ? UINT64_MAX : UINT32_MAX, value = op->value.value & mask;
    uint64_t distance = (now - value) & mask;
    switch (op->value.flags & 3) {
    case CU_STREAM_WAIT_VALUE_GEQ:
        return distance <= mask / 2;
    case CU_STREAM_WAIT_VALUE_EQ:
        return now == value;
    case CU_STREAM_WAIT_VALUE_AND:
        return (now & value) != 0;
    default:
        return (~(now | value) & mask) != 0;
    }
}

static void run_wait_value(const struct op *op) {
    while (!value_arrived(op)) {
        struct timespec pause = {0, 100000};
        nanosleep(&pause, NULL);
    }
}

static void run_write_value(const struct op *op) {
    if (op->value.wide)
        atomic_store((_Atomic uint64_t *)op->value.address, op->value.value);
    else
        atomic_store((_Atomic uint32_t *)op->value.address, (uint32_t)op->value.value);
}

void op_run(const struct op *op) {
    switch (op->kind) {
    case OP_NOTHING:
        break;
    case OP_COPY:
        run_copy(&op->copy);
        break;
    case OP_FILL:
        run_fill(&op->fill);
        break;
    case OP_HOST:
        op->host.function(op->host.data);
        break;
    case OP_CALLBACK:
        op->callback.function(op->callback.stream, CUDA_SUCCESS, op->callback.data);
        break;
    case OP_SIGNAL:
        fence_reach(op->fence);
        fence_release(op->fence);
        break;
    case OP_WAIT:
        fence_wait(op->fence);
        fence_release(op->fence);
        break;
    case OP_WRITE_VALUE:
        run_write_value(op);
        break;
    case OP_WAIT_VALUE:
        run_wait_value(op);
        break;
    case OP_GRAPH_FREE:
        graph_memory_end(op->memory);
        graph_memory_release(op->memory);
        break;
    case OP_GIVE_BACK:
        memory_give_back(&op->block);
        break;
    }
}

struct op op_again(const struct op *op) {
    struct op again = *op;
    if (op->kind == OP_SIGNAL || op->kind == OP_WAIT) fence_retain(again.fence);
    return again;
}

// SPDX-License-Identifier: Apache-2.0
// One free list per kind under one lock: handles are made and ended rarely compared with memory.
#include "object.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

static struct object *spare[OBJECT_KINDS];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static uint32_t magic_of(enum object_kind kind) {
    return 0x51A70000u + (uint32_t)kind;
}

void *object_new(enum object_kind kind, size_t size) {
    pthread_mutex_lock(&lock);
    struct object *object = spare[kind];
    if (object) spare[kind] = object->next_free;
    pthread_mutex_unlock(&lock);
    if (object)
        memset(object, 0, size);
    else if (!(object = calloc(1, size)))
        return NULL;
    object->magic = magic_of(kind);
    return object;
}

bool object_is(const void *handle, enum object_kind kind) {
    const struct object *object = handle;
    // Small numbers are the special stream handles.
    return (uintptr_t)handle >= 4096 && object->magic == magic_of(kind);
}

void object_delete(void *handle, enum object_kind kind) {
    struct object *object = handle;
    object->magic = 0;
    pthread_mutex_lock(&lock);
    object->next_free = spare[kind];
    spare[kind] = object;
    pthread_mutex_unlock(&lock);
}

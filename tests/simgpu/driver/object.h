// SPDX-License-Identifier: Apache-2.0
// Handles. An object's memory is never given back to libc, only reused for the same kind: so a
// stale handle can be looked at safely and is answered with an error, as NVIDIA's driver mostly
// does, instead of crashing the test that passes one on purpose.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum object_kind {
    OBJECT_CONTEXT,
    OBJECT_STREAM,
    OBJECT_EVENT,
    OBJECT_POOL,
    OBJECT_ARRAY,
    OBJECT_MIPMAP,
    OBJECT_MODULE,
    OBJECT_FUNCTION,
    OBJECT_GRAPH,
    OBJECT_NODE,
    OBJECT_GRAPH_EXEC,
    OBJECT_EXTERNAL,
    OBJECT_SEMAPHORE,
    OBJECT_USER_OBJECT,
    OBJECT_LINK,
    OBJECT_RESOURCES,
    OBJECT_TEXTURE,
    OBJECT_KINDS
};

struct object {
    uint32_t magic; // kind-dependent while alive
    struct object *next_free;
};

// Zeroed; `size` must be the same for every object of a kind. NULL when out of host memory.
void *object_new(enum object_kind kind, size_t size);
// False for NULL and for dead or foreign handles.
bool object_is(const void *handle, enum object_kind kind);
void object_delete(void *handle, enum object_kind kind);

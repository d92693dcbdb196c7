// SPDX-License-Identifier: Apache-2.0
// Graphs: nodes with operations, and the edges between them, kept at the node they lead to.
#pragma once

#include "graph_memory.h"
#include "stream.h"

struct graph;

struct node {
    struct object object;
    struct graph *graph;
    struct node *copied_from; // in a clone or an executable graph
    CUgraphNodeType type;
    CUgraphNodeParams params;
    struct op op;
    struct graph_memory *memory; // of an allocation or a free node
    struct graph *child;
    bool is_disabled;
    struct node **after;
    CUgraphEdgeData *edges;
    size_t after_count;
};

struct user_object {
    struct object object;
    void *data;
    CUhostFn destroy;
    _Atomic unsigned references;
};

struct held_object {
    struct held_object *next;
    struct user_object *object;
    unsigned references;
};

struct graph {
    struct object object;
    struct node **nodes;
    size_t count, capacity;
    struct held_object *held;
    bool is_child;      // ends with the node it belongs to
    bool has_memory;    // allocation or free nodes: no copies, one executable at a time
    bool is_executable; // the copy inside a CUgraphExec
    int executables;
};

struct graph *graph_new(void);
void graph_delete(struct graph *graph);
// Adds a node; all arguments are copied, what op references is taken over.
struct node *graph_add(struct graph *graph, CUgraphNodeType type, const CUgraphNodeParams *params,
                       const struct op *op, struct node *const *after, size_t after_count);
// Adds a node of any kind from its description (memory nodes return their address in it).
CUresult graph_add_described(CUgraphNode *handle, struct graph *graph, struct node *const *after,
                             size_t count, CUgraphNodeParams *params);
// Adds an edge. False: it would close a circle, or crosses graphs.
bool graph_connect(struct node *from, struct node *to, const CUgraphEdgeData *edge);
bool graph_reaches(const struct node *from, const struct node *to);
// All nodes, each after those it depends on; the caller frees the array.
struct node **graph_order(const struct graph *graph);
// A copy whose nodes remember what they were copied from. Only executable copies may share memory
// nodes with the original.
struct graph *graph_copy(const struct graph *graph, bool executable);
// The operation that parameters stand for.
CUresult node_op(const CUgraphNodeParams *params, struct op *op);

void user_object_release(struct user_object *object, unsigned count);

// One lock for the shape of all graphs and captures; launches do not take it for long.
extern pthread_mutex_t graph_lock;

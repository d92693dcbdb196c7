// SPDX-License-Identifier: Apache-2.0
// Making, copying and ending graphs. The functions that add and change nodes are in graph_nodes.c,
// executable graphs in graph_exec.c.
#include "graph.h"

#include <stdlib.h>
#include <string.h>

// Recursive: ending a graph ends its children and may release objects of the program.
pthread_mutex_t graph_lock = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;

struct graph *graph_new(void) {
    return object_new(OBJECT_GRAPH, sizeof(struct graph));
}

static void *copy_of(const void *data, size_t size) {
    void *copy = malloc(size ? size : 1);
    if (!copy) abort();
    if (size) memcpy(copy, data, size);
    return copy;
}

struct node *graph_add(struct graph *graph, CUgraphNodeType type, const CUgraphNodeParams *params,
                       const struct op *op, struct node *const *after, size_t after_count) {
    struct node *node = object_new(OBJECT_NODE, sizeof *node);
    if (!node) abort();
    node->graph = graph;
    node->type = type;
    if (params) node->params = *params;
    node->params.type = type;
    node->op = *op;
    node->after = copy_of(after, after_count * sizeof *after);
    node->after_count = after_count;
    node->edges = calloc(after_count + 1, sizeof *node->edges);
    pthread_mutex_lock(&graph_lock);
    if (graph->count == graph->capacity) {
        graph->capacity = graph->capacity ? graph->capacity * 2 : 16;
        graph->nodes = realloc(graph->nodes, graph->capacity * sizeof *graph->nodes);
    }
    if (!graph->nodes || !node->edges) abort();
    graph->nodes[graph->count++] = node;
    pthread_mutex_unlock(&graph_lock);
    return node;
}

bool graph_reaches(const struct node *from, const struct node *to) {
    if (from == to) return true;
    for (size_t i = 0; i < to->after_count; i++)
        if (graph_reaches(from, to->after[i])) return true;
    return false;
}

static size_t index_of(const struct graph *graph, const struct node *node) {
    size_t i = 0;
    while (graph->nodes[i] != node) i++;
    return i;
}

bool graph_connect(struct node *from, struct node *to, const CUgraphEdgeData *edge) {
    if (from->graph != to->graph || graph_reaches(to, from)) return false;
    to->after = realloc(to->after, (to->after_count + 1) * sizeof *to->after);
    to->edges = realloc(to->edges, (to->after_count + 2) * sizeof *to->edges);
    if (!to->after || !to->edges) abort();
    to->edges[to->after_count] = edge ? *edge : (CUgraphEdgeData){0};
    to->after[to->after_count++] = from;
    return true;
}

static void end_node(struct node *node) {
    if (node->type == CU_GRAPH_NODE_TYPE_MEM_ALLOC && !node->graph->is_executable)
        graph_memory_graph_destroyed(node->memory);
    else
        graph_memory_release(node->memory);
    if (node->op.kind == OP_SIGNAL || node->op.kind == OP_WAIT) fence_release(node->op.fence);
    if (node->child) graph_delete(node->child);
    free(node->after);
    free(node->edges);
    object_delete(node, OBJECT_NODE);
}

void graph_delete(struct graph *graph) {
    pthread_mutex_lock(&graph_lock);
    for (size_t i = 0; i < graph->count; i++) end_node(graph->nodes[i]);
    while (graph->held) {
        struct held_object *held = graph->held;
        graph->held = held->next;
        user_object_release(held->object, held->references);
        free(held);
    }
    free(graph->nodes);
    object_delete(graph, OBJECT_GRAPH);
    pthread_mutex_unlock(&graph_lock);
}

static void order_from(struct node *node, struct node **ordered, size_t *count) {
    for (size_t i = 0; i < *count; i++)
        if (ordered[i] == node) return;
    for (size_t i = 0; i < node->after_count; i++) order_from(node->after[i], ordered, count);
    ordered[(*count)++] = node;
}

struct node **graph_order(const struct graph *graph) {
    struct node **ordered = malloc((graph->count + 1) * sizeof *ordered);
    size_t count = 0;
    if (!ordered) abort();
    for (size_t i = 0; i < graph->count; i++) order_from(graph->nodes[i], ordered, &count);
    return ordered;
}

struct graph *graph_copy(const struct graph *graph, bool executable) {
    struct graph *copy = graph_new();
    if (!copy) return NULL;
    copy->is_executable = executable;
    copy->has_memory = graph->has_memory;
    pthread_mutex_lock(&graph_lock);
    for (size_t i = 0; i < graph->count; i++) {
        struct node *node = graph->nodes[i];
        struct op op = op_again(&node->op);
        struct node *twin =
            graph_add(copy, node->type, &node->params, &op, node->after, node->after_count);
        twin->copied_from = node;
        twin->memory = graph_memory_retain(node->memory);
        if (node->after_count)
            memcpy(twin->edges, node->edges, node->after_count * sizeof *node->edges);
        if (node->child) {
            twin->child = graph_copy(node->child, executable);
            twin->child->is_child = true;
            twin->params.graph.graph = (CUgraph)twin->child;
        }
    }
    for (size_t i = 0; i < copy->count; i++)
        for (size_t k = 0; k < copy->nodes[i]->after_count; k++) {
            struct node **dependency = &copy->nodes[i]->after[k];
            *dependency = copy->nodes[index_of(graph, *dependency)];
        }
    pthread_mutex_unlock(&graph_lock);
    return copy;
}

static CUresult given_graph(CUgraph handle, struct graph **graph) {
    *graph = (struct graph *)handle;
    return object_is(*graph, OBJECT_GRAPH) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult sim_cuGraphCreate(CUgraph *phGraph, unsigned int flags) {
    if (!phGraph || flags) return CUDA_ERROR_INVALID_VALUE;
    struct graph *graph = graph_new();
    if (!graph) return CUDA_ERROR_OUT_OF_MEMORY;
    *phGraph = (CUgraph)graph;
    return CUDA_SUCCESS;
}

CUresult sim_cuGraphDestroy(CUgraph hGraph) {
    struct graph *graph;
    CUresult result = given_graph(hGraph, &graph);
    if (result != CUDA_SUCCESS) return result;
    if (graph->is_child) return CUDA_ERROR_INVALID_VALUE;
    graph_delete(graph);
    return CUDA_SUCCESS;
}

CUresult sim_cuGraphClone(CUgraph *phGraphClone, CUgraph originalGraph) {
    struct graph *graph;
    CUresult result = given_graph(originalGraph, &graph);
    if (result != CUDA_SUCCESS) return result;
    if (!phGraphClone) return CUDA_ERROR_INVALID_VALUE;
    if (graph->has_memory) return CUDA_ERROR_NOT_SUPPORTED;
    *phGraphClone = (CUgraph)graph_copy(graph, false);
    return *phGraphClone ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

CUresult sim_cuGraphNodeFindInClone(CUgraphNode *phNode, CUgraphNode hOriginalNode,
                                    CUgraph hClonedGraph) {
    struct graph *graph;
    CUresult result = given_graph(hClonedGraph, &graph);
    if (result != CUDA_SUCCESS) return result;
    if (!phNode) return CUDA_ERROR_INVALID_VALUE;
    for (size_t i = 0; i < graph->count; i++) {
        if (graph->nodes[i]->copied_from != (struct node *)hOriginalNode) continue;
        *phNode = (CUgraphNode)graph->nodes[i];
        return CUDA_SUCCESS;
    }
    return CUDA_ERROR_INVALID_VALUE;
}

// ---- questions about the shape ------------------------------------------------------------------

// The convention of all lists: with no array only the number is told; a larger array is filled up
// with NULL.
static CUresult list_nodes(struct node *const *nodes, size_t count, CUgraphNode *out,
                           size_t *out_count) {
    if (!out_count) return CUDA_ERROR_INVALID_VALUE;
    for (size_t i = 0; out && i < *out_count; i++)
        out[i] = i < count ? (CUgraphNode)nodes[i] : NULL;
    if (!out || *out_count > count) *out_count = count;
    return CUDA_SUCCESS;
}

CUresult sim_cuGraphGetNodes(CUgraph hGraph, CUgraphNode *nodes, size_t *numNodes) {
    struct graph *graph;
    CUresult result = given_graph(hGraph, &graph);
    return result == CUDA_SUCCESS ? list_nodes(graph->nodes, graph->count, nodes, numNodes)
                                  : result;
}

// Collects the nodes the test selects and lists them.
static CUresult list_selected(struct graph *graph, bool (*selects)(struct node *, void *),
                              void *data, CUgraphNode *out, size_t *count) {
    struct node **found = malloc((graph->count + 1) * sizeof *found);
    if (!found) return CUDA_ERROR_OUT_OF_MEMORY;
    size_t n = 0;
    for (size_t i = 0; i < graph->count; i++)
        if (selects(graph->nodes[i], data)) found[n++] = graph->nodes[i];
    CUresult result = list_nodes(found, n, out, count);
    free(found);
    return result;
}

static bool is_root(struct node *node, void *data) {
    (void)data;
    return node->after_count == 0;
}

CUresult sim_cuGraphGetRootNodes(CUgraph hGraph, CUgraphNode *rootNodes, size_t *numRootNodes) {
    struct graph *graph;
    CUresult result = given_graph(hGraph, &graph);
    if (result != CUDA_SUCCESS) return result;
    return list_selected(graph, is_root, NULL, rootNodes, numRootNodes);
}

CUresult sim_cuGraphGetEdges_v2(CUgraph hGraph, CUgraphNode *from, CUgraphNode *to,
                                CUgraphEdgeData *edgeData, size_t *numEdges) {
    struct graph *graph;
    CUresult result = given_graph(hGraph, &graph);
    if (result != CUDA_SUCCESS) return result;
    if (!numEdges || !from != !to) return CUDA_ERROR_INVALID_VALUE;
    size_t found = 0;
    for (size_t i = 0; i < graph->count; i++) {
        struct node *node = graph->nodes[i];
        for (size_t k = 0; k < node->after_count; k++, found++) {
            if (!from || found >= *numEdges) continue;
            from[found] = (CUgraphNode)node->after[k];
            to[found] = (CUgraphNode)node;
            if (edgeData) edgeData[found] = node->edges[k];
        }
    }
    if (!from || *numEdges > found) *numEdges = found;
    return CUDA_SUCCESS;
}

CUresult sim_cuGraphGetEdges(CUgraph hGraph, CUgraphNode *from, CUgraphNode *to, size_t *numEdges) {
    return sim_cuGraphGetEdges_v2(hGraph, from, to, NULL, numEdges);
}

CUresult sim_cuGraphNodeGetDependencies_v2(CUgraphNode hNode, CUgraphNode *dependencies,
                                           CUgraphEdgeData *edgeData, size_t *numDependencies) {
    struct node *node = (struct node *)hNode;
    if (!object_is(node, OBJECT_NODE) || !numDependencies) return CUDA_ERROR_INVALID_VALUE;
    for (size_t i = 0; edgeData && i < node->after_count && i < *numDependencies; i++)
        edgeData[i] = node->edges[i];
    return list_nodes(node->after, node->after_count, dependencies, numDependencies);
}

CUresult sim_cuGraphNodeGetDependencies(CUgraphNode hNode, CUgraphNode *dependencies,
                                        size_t *numDependencies) {
    return sim_cuGraphNodeGetDependencies_v2(hNode, dependencies, NULL, numDependencies);
}

static bool depends_on(struct node *node, void *data) {
    for (size_t i = 0; i < node->after_count; i++)
        if (node->after[i] == data) return true;
    return false;
}

CUresult sim_cuGraphNodeGetDependentNodes(CUgraphNode hNode, CUgraphNode *dependentNodes,
                                          size_t *numDependentNodes) {
    struct node *node = (struct node *)hNode;
    if (!object_is(node, OBJECT_NODE)) return CUDA_ERROR_INVALID_VALUE;
    return list_selected(node->graph, depends_on, node, dependentNodes, numDependentNodes);
}

CUresult sim_cuGraphNodeGetDependentNodes_v2(CUgraphNode hNode, CUgraphNode *dependentNodes,
                                             CUgraphEdgeData *edgeData, size_t *numDependentNodes) {
    CUresult result = sim_cuGraphNodeGetDependentNodes(hNode, dependentNodes, numDependentNodes);
    if (result == CUDA_SUCCESS && edgeData && dependentNodes)
        memset(edgeData, 0, *numDependentNodes * sizeof *edgeData);
    return result;
}

CUresult sim_cuGraphNodeGetType(CUgraphNode hNode, CUgraphNodeType *type) {
    struct node *node = (struct node *)hNode;
    if (!type || !object_is(node, OBJECT_NODE)) return CUDA_ERROR_INVALID_VALUE;
    *type = node->type;
    return CUDA_SUCCESS;
}

CUresult sim_cuGraphAddDependencies_v2(CUgraph hGraph, const CUgraphNode *from,
                                       const CUgraphNode *to, const CUgraphEdgeData *edgeData,
                                       size_t numDependencies) {
    struct graph *graph;
    CUresult result = given_graph(hGraph, &graph);
    if (result != CUDA_SUCCESS) return result;
    if (numDependencies && (!from || !to)) return CUDA_ERROR_INVALID_VALUE;
    pthread_mutex_lock(&graph_lock);
    for (size_t i = 0; i < numDependencies && result == CUDA_SUCCESS; i++) {
        bool nodes = object_is(from[i], OBJECT_NODE) && object_is(to[i], OBJECT_NODE);
        if (!nodes || !graph_connect((struct node *)from[i], (struct node *)to[i],
                                     edgeData ? &edgeData[i] : NULL))
            result = CUDA_ERROR_INVALID_VALUE;
    }
    pthread_mutex_unlock(&graph_lock);
    return result;
}

CUresult sim_cuGraphAddDependencies(CUgraph hGraph, const CUgraphNode *from, const CUgraphNode *to,
                                    size_t numDependencies) {
    return sim_cuGraphAddDependencies_v2(hGraph, from, to, NULL, numDependencies);
}

static bool disconnect(struct node *from, struct node *to) {
    for (size_t i = 0; i < to->after_count; i++) {
        if (to->after[i] != from) continue;
        size_t rest = --to->after_count - i;
        memmove(&to->after[i], &to->after[i + 1], rest * sizeof *to->after);
        memmove(&to->edges[i], &to->edges[i + 1], rest * sizeof *to->edges);
        return true;
    }
    return false;
}

CUresult sim_cuGraphRemoveDependencies_v2(CUgraph hGraph, const CUgraphNode *from,
                                          const CUgraphNode *to, const CUgraphEdgeData *edgeData,
                                          size_t numDependencies) {
    (void)edgeData;
    struct graph *graph;
    CUresult result = given_graph(hGraph, &graph);
    if (result != CUDA_SUCCESS) return result;
    if ((numDependencies && (!from || !to)) || graph->has_memory) return CUDA_ERROR_INVALID_VALUE;
    pthread_mutex_lock(&graph_lock);
    for (size_t i = 0; i < numDependencies && result == CUDA_SUCCESS; i++)
        if (!object_is(to[i], OBJECT_NODE) ||
            !disconnect((struct node *)from[i], (struct node *)to[i]))
            result = CUDA_ERROR_INVALID_VALUE;
    pthread_mutex_unlock(&graph_lock);
    return result;
}

CUresult sim_cuGraphRemoveDependencies(CUgraph hGraph, const CUgraphNode *from,
                                       const CUgraphNode *to, size_t numDependencies) {
    return sim_cuGraphRemoveDependencies_v2(hGraph, from, to, NULL, numDependencies);
}

CUresult sim_cuGraphDestroyNode(CUgraphNode hNode) {
    struct node *node = (struct node *)hNode;
    if (!object_is(node, OBJECT_NODE)) return CUDA_ERROR_INVALID_VALUE;
    struct graph *graph = node->graph;
    if (graph->has_memory) return CUDA_ERROR_NOT_SUPPORTED;
    pthread_mutex_lock(&graph_lock);
    for (size_t i = 0; i < graph->count; i++) disconnect(node, graph->nodes[i]);
    size_t at = index_of(graph, node);
    memmove(&graph->nodes[at], &graph->nodes[at + 1], (--graph->count - at) * sizeof node);
    end_node(node);
    pthread_mutex_unlock(&graph_lock);
    return CUDA_SUCCESS;
}

// ---- user objects -------------------------------------------------------------------------------

void user_object_release(struct user_object *object, unsigned count) {
    if (atomic_fetch_sub(&object->references, count) > count) return;
    object->destroy(object->data);
    object_delete(object, OBJECT_USER_OBJECT);
}

CUresult sim_cuUserObjectCreate(CUuserObject *object_out, void *ptr, CUhostFn destroy,
                                unsigned int initialRefcount, unsigned int flags) {
    if (!object_out || !destroy || !initialRefcount || flags != CU_USER_OBJECT_NO_DESTRUCTOR_SYNC)
        return CUDA_ERROR_INVALID_VALUE;
    struct user_object *object = object_new(OBJECT_USER_OBJECT, sizeof *object);
    if (!object) return CUDA_ERROR_OUT_OF_MEMORY;
    object->data = ptr;
    object->destroy = destroy;
    atomic_store(&object->references, initialRefcount);
    *object_out = (CUuserObject)object;
    return CUDA_SUCCESS;
}

CUresult sim_cuUserObjectRetain(CUuserObject object, unsigned int count) {
    if (!object_is(object, OBJECT_USER_OBJECT) || !count) return CUDA_ERROR_INVALID_VALUE;
    atomic_fetch_add(&((struct user_object *)object)->references, count);
    return CUDA_SUCCESS;
}

CUresult sim_cuUserObjectRelease(CUuserObject object, unsigned int count) {
    if (!object_is(object, OBJECT_USER_OBJECT) || !count) return CUDA_ERROR_INVALID_VALUE;
    user_object_release((struct user_object *)object, count);
    return CUDA_SUCCESS;
}

CUresult sim_cuGraphRetainUserObject(CUgraph graph, CUuserObject object, unsigned int count,
                                     unsigned int flags) {
    struct graph *holder;
    CUresult result = given_graph(graph, &holder);
    if (result != CUDA_SUCCESS) return result;
    if (!object_is(object, OBJECT_USER_OBJECT) || !count) return CUDA_ERROR_INVALID_VALUE;
    struct held_object *held = malloc(sizeof *held);
    if (!held) return CUDA_ERROR_OUT_OF_MEMORY;
    if (!(flags & CU_GRAPH_USER_OBJECT_MOVE)) sim_cuUserObjectRetain(object, count);
    pthread_mutex_lock(&graph_lock);
    *held = (struct held_object){holder->held, (struct user_object *)object, count};
    holder->held = held;
    pthread_mutex_unlock(&graph_lock);
    return CUDA_SUCCESS;
}

CUresult sim_cuGraphReleaseUserObject(CUgraph graph, CUuserObject object, unsigned int count) {
    struct graph *holder;
    CUresult result = given_graph(graph, &holder);
    if (result != CUDA_SUCCESS) return result;
    pthread_mutex_lock(&graph_lock);
    struct held_object **at = &holder->held, *held;
    while ((held = *at) &&
           (held->object != (struct user_object *)object || held->references < count))
        at = &held->next;
    if (held && (held->references -= count) == 0) *at = held->next;
    pthread_mutex_unlock(&graph_lock);
    if (!held) return CUDA_ERROR_INVALID_VALUE;
    if (held->references == 0) free(held);
    user_object_release((struct user_object *)object, count);
    return CUDA_SUCCESS;
}

// SPDX-License-Identifier: Apache-2.0
// Adding nodes to graphs and changing their parameters. Every node kind is described by a
// CUgraphNodeParams, whichever function made it; node_op says what such a description does.
#include "copy.h"
#include "device.h"
#include "event.h"
#include "graph.h"

#include <string.h>

static CUresult event_op(CUevent handle, enum op_kind kind, struct op *op) {
    struct event *event = (struct event *)handle;
    if (!object_is(event, OBJECT_EVENT)) return CUDA_ERROR_INVALID_HANDLE;
    op->kind = kind;
    op->fence = NULL; // made anew at each launch
    return CUDA_SUCCESS;
}

CUresult node_op(const CUgraphNodeParams *params, struct op *op) {
    *op = (struct op){.kind = OP_NOTHING};
    switch (params->type) {
    case CU_GRAPH_NODE_TYPE_MEMCPY:
        return copy_from_description(&params->memcpy.copyParams, op);
    case CU_GRAPH_NODE_TYPE_MEMSET:
        return fill_from_params(&params->memset, op);
    case CU_GRAPH_NODE_TYPE_HOST:
        if (!params->host.fn) return CUDA_ERROR_INVALID_VALUE;
        op->kind = OP_HOST;
        op->host.function = params->host.fn;
        op->host.data = params->host.userData;
        return CUDA_SUCCESS;
    case CU_GRAPH_NODE_TYPE_KERNEL:
        return object_is(params->kernel.func, OBJECT_FUNCTION) || params->kernel.kern
                   ? CUDA_SUCCESS
                   : CUDA_ERROR_INVALID_VALUE;
    case CU_GRAPH_NODE_TYPE_EVENT_RECORD:
        return event_op(params->eventRecord.event, OP_SIGNAL, op);
    case CU_GRAPH_NODE_TYPE_WAIT_EVENT:
        return event_op(params->eventWait.event, OP_WAIT, op);
    case CU_GRAPH_NODE_TYPE_EMPTY:
    case CU_GRAPH_NODE_TYPE_EXT_SEMAS_SIGNAL:
    case CU_GRAPH_NODE_TYPE_EXT_SEMAS_WAIT:
    case CU_GRAPH_NODE_TYPE_BATCH_MEM_OP:
        return CUDA_SUCCESS;
    default:
        return CUDA_ERROR_NOT_SUPPORTED;
    }
}

// ---- adding -------------------------------------------------------------------------------------

static CUresult check_graph(CUgraph handle, const CUgraphNode *after, size_t count) {
    if (!object_is(handle, OBJECT_GRAPH) || (count && !after)) return CUDA_ERROR_INVALID_VALUE;
    for (size_t i = 0; i < count; i++) {
        struct node *node = (struct node *)after[i];
        if (!object_is(node, OBJECT_NODE) || node->graph != (struct graph *)handle)
            return CUDA_ERROR_INVALID_VALUE;
    }
    return CUDA_SUCCESS;
}

static CUresult add_alloc(struct graph *graph, CUDA_MEM_ALLOC_NODE_PARAMS *params,
                          struct node *const *after, size_t count, struct node **node) {
    struct graph_memory *memory;
    bool on_device = params->poolProps.location.type == CU_MEM_LOCATION_TYPE_DEVICE;
    if (!params->bytesize || !on_device || !device_exists(params->poolProps.location.id))
        return CUDA_ERROR_INVALID_VALUE;
    CUresult result = graph_memory_new(params->bytesize, params->poolProps.location.id, &memory);
    if (result != CUDA_SUCCESS) return result;
    params->dptr = graph_memory_address(memory);
    CUgraphNodeParams all = {.type = CU_GRAPH_NODE_TYPE_MEM_ALLOC};
    memcpy(&all.alloc, params, sizeof *params);
    struct op op = {.kind = OP_NOTHING};
    *node = graph_add(graph, CU_GRAPH_NODE_TYPE_MEM_ALLOC, &all, &op, after, count);
    (*node)->memory = memory;
    graph->has_memory = true;
    return CUDA_SUCCESS;
}

static CUresult add_free(struct graph *graph, CUdeviceptr dptr, struct node *const *after,
                         size_t count, struct node **node) {
    struct graph_memory *memory = graph_memory_retain(graph_memory_find(dptr));
    if (!memory) return CUDA_ERROR_INVALID_VALUE;
    CUgraphNodeParams all = {.type = CU_GRAPH_NODE_TYPE_MEM_FREE, .free = {dptr}};
    struct op op = {.kind = OP_NOTHING};
    *node = graph_add(graph, CU_GRAPH_NODE_TYPE_MEM_FREE, &all, &op, after, count);
    (*node)->memory = memory;
    graph->has_memory = true;
    return CUDA_SUCCESS;
}

static CUresult add_child(struct graph *graph, CUgraphNodeParams *params, struct node *const *after,
                          size_t count, struct node **node) {
    struct graph *child = (struct graph *)params->graph.graph;
    bool moves = params->graph.ownership == CU_GRAPH_CHILD_GRAPH_OWNERSHIP_MOVE;
    if (!object_is(child, OBJECT_GRAPH) || child == graph || (child->has_memory && !moves))
        return CUDA_ERROR_INVALID_VALUE;
    if (!moves && !(child = graph_copy(child, false))) return CUDA_ERROR_OUT_OF_MEMORY;
    child->is_child = true;
    params->graph.graph = (CUgraph)child;
    struct op op = {.kind = OP_NOTHING};
    *node = graph_add(graph, CU_GRAPH_NODE_TYPE_GRAPH, params, &op, after, count);
    (*node)->child = child;
    graph->has_memory |= child->has_memory;
    return CUDA_SUCCESS;
}

// All ways to add a node come here.
static CUresult add(CUgraphNode *handle, CUgraph graph, const CUgraphNode *after, size_t count,
                    CUgraphNodeParams *params) {
    struct graph *to = (struct graph *)graph;
    struct node *node = NULL, *const *nodes = (struct node *const *)after;
    struct op op;
    if (!handle || !params) return CUDA_ERROR_INVALID_VALUE;
    CUresult result = check_graph(graph, after, count);
    if (result != CUDA_SUCCESS) return result;
    switch (params->type) {
    case CU_GRAPH_NODE_TYPE_MEM_ALLOC: {
        CUDA_MEM_ALLOC_NODE_PARAMS alloc;
        memcpy(&alloc, &params->alloc, sizeof alloc);
        result = add_alloc(to, &alloc, nodes, count, &node);
        if (result == CUDA_SUCCESS) params->alloc.dptr = alloc.dptr;
        break;
    }
    case CU_GRAPH_NODE_TYPE_MEM_FREE:
        result = add_free(to, params->free.dptr, nodes, count, &node);
        break;
    case CU_GRAPH_NODE_TYPE_GRAPH:
        result = add_child(to, params, nodes, count, &node);
        break;
    default:
        result = node_op(params, &op);
        if (result == CUDA_SUCCESS) node = graph_add(to, params->type, params, &op, nodes, count);
    }
    if (result == CUDA_SUCCESS) *handle = (CUgraphNode)node;
    return result;
}

CUresult graph_add_described(CUgraphNode *handle, struct graph *graph, struct node *const *after,
                             size_t count, CUgraphNodeParams *params) {
    return add(handle, (CUgraph)graph, (const CUgraphNode *)after, count, params);
}

static int device_of(const CUgraphNodeParams *params) {
    return params ? params->alloc.poolProps.location.id : NO_DEVICE;
}

ALLOCATES CUresult sim_cuGraphAddNode_v2(CUgraphNode *phGraphNode, CUgraph hGraph,
                                         const CUgraphNode *dependencies,
                                         const CUgraphEdgeData *dependencyData,
                                         size_t numDependencies, CUgraphNodeParams *nodeParams) {
    if (nodeParams && nodeParams->type == CU_GRAPH_NODE_TYPE_MEM_ALLOC)
        ATTEMPT(device_of(nodeParams), SPACE_GRAPH);
    CUresult result = add(phGraphNode, hGraph, dependencies, numDependencies, nodeParams);
    if (result == CUDA_SUCCESS && dependencyData && numDependencies)
        memcpy(((struct node *)*phGraphNode)->edges, dependencyData,
               numDependencies * sizeof *dependencyData);
    return result;
}

ALLOCATES CUresult sim_cuGraphAddNode(CUgraphNode *phGraphNode, CUgraph hGraph,
                                      const CUgraphNode *dependencies, size_t numDependencies,
                                      CUgraphNodeParams *nodeParams) {
    return sim_cuGraphAddNode_v2(phGraphNode, hGraph, dependencies, NULL, numDependencies,
                                 nodeParams);
}

ALLOCATES CUresult sim_cuGraphAddMemAllocNode(CUgraphNode *phGraphNode, CUgraph hGraph,
                                              const CUgraphNode *dependencies,
                                              size_t numDependencies,
                                              CUDA_MEM_ALLOC_NODE_PARAMS *nodeParams) {
    ATTEMPT(nodeParams ? nodeParams->poolProps.location.id : NO_DEVICE, SPACE_GRAPH);
    struct node *node;
    if (!phGraphNode || !nodeParams) return CUDA_ERROR_INVALID_VALUE;
    CUresult result = check_graph(hGraph, dependencies, numDependencies);
    if (result != CUDA_SUCCESS) return result;
    result = add_alloc((struct graph *)hGraph, nodeParams, (struct node *const *)dependencies,
                       numDependencies, &node);
    if (result == CUDA_SUCCESS) *phGraphNode = (CUgraphNode)node;
    return result;
}

CUresult sim_cuGraphAddMemFreeNode(CUgraphNode *phGraphNode, CUgraph hGraph,
                                   const CUgraphNode *dependencies, size_t numDependencies,
                                   CUdeviceptr dptr) {
    CUgraphNodeParams params = {.type = CU_GRAPH_NODE_TYPE_MEM_FREE, .free = {dptr}};
    return add(phGraphNode, hGraph, dependencies, numDependencies, &params);
}

CUresult sim_cuGraphAddChildGraphNode(CUgraphNode *phGraphNode, CUgraph hGraph,
                                      const CUgraphNode *dependencies, size_t numDependencies,
                                      CUgraph childGraph) {
    CUgraphNodeParams params = {.type = CU_GRAPH_NODE_TYPE_GRAPH, .graph = {.graph = childGraph}};
    return add(phGraphNode, hGraph, dependencies, numDependencies, &params);
}

CUresult sim_cuGraphAddEmptyNode(CUgraphNode *phGraphNode, CUgraph hGraph,
                                 const CUgraphNode *dependencies, size_t numDependencies) {
    CUgraphNodeParams params = {.type = CU_GRAPH_NODE_TYPE_EMPTY};
    return add(phGraphNode, hGraph, dependencies, numDependencies, &params);
}

CUresult sim_cuGraphAddEventRecordNode(CUgraphNode *phGraphNode, CUgraph hGraph,
                                       const CUgraphNode *dependencies, size_t numDependencies,
                                       CUevent event) {
    CUgraphNodeParams params = {.type = CU_GRAPH_NODE_TYPE_EVENT_RECORD, .eventRecord = {event}};
    return add(phGraphNode, hGraph, dependencies, numDependencies, &params);
}

CUresult sim_cuGraphAddEventWaitNode(CUgraphNode *phGraphNode, CUgraph hGraph,
                                     const CUgraphNode *dependencies, size_t numDependencies,
                                     CUevent event) {
    CUgraphNodeParams params = {.type = CU_GRAPH_NODE_TYPE_WAIT_EVENT, .eventWait = {event}};
    return add(phGraphNode, hGraph, dependencies, numDependencies, &params);
}

// ---- the older per-kind structures, all shorter than the members of CUgraphNodeParams
// --------------

static void describe_kernel(CUgraphNodeParams *p, const void *given, size_t size) {
    p->type = CU_GRAPH_NODE_TYPE_KERNEL;
    memcpy(&p->kernel, given, size);
}

static void describe_memcpy(CUgraphNodeParams *p, const CUDA_MEMCPY3D *given, CUcontext context) {
    p->type = CU_GRAPH_NODE_TYPE_MEMCPY;
    p->memcpy.copyParams = *given;
    p->memcpy.copyCtx = context;
}

static void describe_memset(CUgraphNodeParams *p, const CUDA_MEMSET_NODE_PARAMS *given,
                            CUcontext context) {
    p->type = CU_GRAPH_NODE_TYPE_MEMSET;
    memcpy(&p->memset, given, sizeof *given);
    p->memset.ctx = context;
}

static void describe_host(CUgraphNodeParams *p, const CUDA_HOST_NODE_PARAMS *given) {
    p->type = CU_GRAPH_NODE_TYPE_HOST;
    p->host.fn = given->fn;
    p->host.userData = given->userData;
}

CUresult sim_cuGraphAddKernelNode_v2(CUgraphNode *phGraphNode, CUgraph hGraph,
                                     const CUgraphNode *dependencies, size_t numDependencies,
                                     const CUDA_KERNEL_NODE_PARAMS *nodeParams) {
    CUgraphNodeParams params = {0};
    if (!nodeParams) return CUDA_ERROR_INVALID_VALUE;
    describe_kernel(&params, nodeParams, sizeof *nodeParams);
    return add(phGraphNode, hGraph, dependencies, numDependencies, &params);
}

CUresult sim_cuGraphAddKernelNode(CUgraphNode *phGraphNode, CUgraph hGraph,
                                  const CUgraphNode *dependencies, size_t numDependencies,
                                  const CUDA_KERNEL_NODE_PARAMS_v1 *nodeParams) {
    CUgraphNodeParams params = {0};
    if (!nodeParams) return CUDA_ERROR_INVALID_VALUE;
    describe_kernel(&params, nodeParams, sizeof *nodeParams);
    return add(phGraphNode, hGraph, dependencies, numDependencies, &params);
}

CUresult sim_cuGraphAddMemcpyNode(CUgraphNode *phGraphNode, CUgraph hGraph,
                                  const CUgraphNode *dependencies, size_t numDependencies,
                                  const CUDA_MEMCPY3D *copyParams, CUcontext ctx) {
    CUgraphNodeParams params = {0};
    if (!copyParams) return CUDA_ERROR_INVALID_VALUE;
    describe_memcpy(&params, copyParams, ctx);
    return add(phGraphNode, hGraph, dependencies, numDependencies, &params);
}

CUresult sim_cuGraphAddMemsetNode(CUgraphNode *phGraphNode, CUgraph hGraph,
                                  const CUgraphNode *dependencies, size_t numDependencies,
                                  const CUDA_MEMSET_NODE_PARAMS *memsetParams, CUcontext ctx) {
    CUgraphNodeParams params = {0};
    if (!memsetParams) return CUDA_ERROR_INVALID_VALUE;
    describe_memset(&params, memsetParams, ctx);
    return add(phGraphNode, hGraph, dependencies, numDependencies, &params);
}

CUresult sim_cuGraphAddHostNode(CUgraphNode *phGraphNode, CUgraph hGraph,
                                const CUgraphNode *dependencies, size_t numDependencies,
                                const CUDA_HOST_NODE_PARAMS *nodeParams) {
    CUgraphNodeParams params = {0};
    if (!nodeParams) return CUDA_ERROR_INVALID_VALUE;
    describe_host(&params, nodeParams);
    return add(phGraphNode, hGraph, dependencies, numDependencies, &params);
}

// ---- reading and changing -----------------------------------------------------------------------

static struct node *node_of(CUgraphNode handle, CUgraphNodeType type) {
    struct node *node = (struct node *)handle;
    return object_is(node, OBJECT_NODE) && node->type == type ? node : NULL;
}

static CUresult change(CUgraphNode handle, const CUgraphNodeParams *params) {
    struct op op;
    struct node *node = node_of(handle, params->type);
    if (!node) return CUDA_ERROR_INVALID_VALUE;
    CUresult result = node_op(params, &op);
    if (result != CUDA_SUCCESS) return result;
    node->params = *params;
    node->op = op;
    return CUDA_SUCCESS;
}

CUresult sim_cuGraphNodeSetParams(CUgraphNode hNode, CUgraphNodeParams *nodeParams) {
    return nodeParams ? change(hNode, nodeParams) : CUDA_ERROR_INVALID_VALUE;
}

// Copies the part of a node's parameters that a kind's own structure shows.
#define READ_PARAMETERS(handle, constant, member, out)                                             \
    do {                                                                                           \
        struct node *node_ = node_of(handle, CU_GRAPH_NODE_TYPE_##constant);                       \
        if (!node_ || !(out)) return CUDA_ERROR_INVALID_VALUE;                                     \
        memcpy(out, &node_->params.member, sizeof *(out));                                         \
        return CUDA_SUCCESS;                                                                       \
    } while (0)

CUresult sim_cuGraphMemcpyNodeGetParams(CUgraphNode hNode, CUDA_MEMCPY3D *nodeParams) {
    READ_PARAMETERS(hNode, MEMCPY, memcpy.copyParams, nodeParams);
}

CUresult sim_cuGraphMemsetNodeGetParams(CUgraphNode hNode, CUDA_MEMSET_NODE_PARAMS *nodeParams) {
    READ_PARAMETERS(hNode, MEMSET, memset, nodeParams);
}

CUresult sim_cuGraphHostNodeGetParams(CUgraphNode hNode, CUDA_HOST_NODE_PARAMS *nodeParams) {
    READ_PARAMETERS(hNode, HOST, host, nodeParams);
}

CUresult sim_cuGraphKernelNodeGetParams_v2(CUgraphNode hNode, CUDA_KERNEL_NODE_PARAMS *nodeParams) {
    READ_PARAMETERS(hNode, KERNEL, kernel, nodeParams);
}

CUresult sim_cuGraphKernelNodeGetParams(CUgraphNode hNode, CUDA_KERNEL_NODE_PARAMS_v1 *nodeParams) {
    READ_PARAMETERS(hNode, KERNEL, kernel, nodeParams);
}

CUresult sim_cuGraphMemAllocNodeGetParams(CUgraphNode hNode,
                                          CUDA_MEM_ALLOC_NODE_PARAMS *params_out) {
    READ_PARAMETERS(hNode, MEM_ALLOC, alloc, params_out);
}

CUresult sim_cuGraphMemFreeNodeGetParams(CUgraphNode hNode, CUdeviceptr *dptr_out) {
    READ_PARAMETERS(hNode, MEM_FREE, free.dptr, dptr_out);
}

CUresult sim_cuGraphChildGraphNodeGetGraph(CUgraphNode hNode, CUgraph *phGraph) {
    READ_PARAMETERS(hNode, GRAPH, graph.graph, phGraph);
}

CUresult sim_cuGraphEventRecordNodeGetEvent(CUgraphNode hNode, CUevent *event_out) {
    READ_PARAMETERS(hNode, EVENT_RECORD, eventRecord.event, event_out);
}

CUresult sim_cuGraphEventWaitNodeGetEvent(CUgraphNode hNode, CUevent *event_out) {
    READ_PARAMETERS(hNode, WAIT_EVENT, eventWait.event, event_out);
}

CUresult sim_cuGraphMemcpyNodeSetParams(CUgraphNode hNode, const CUDA_MEMCPY3D *nodeParams) {
    CUgraphNodeParams params = {0};
    if (!nodeParams) return CUDA_ERROR_INVALID_VALUE;
    describe_memcpy(&params, nodeParams, NULL);
    return change(hNode, &params);
}

CUresult sim_cuGraphMemsetNodeSetParams(CUgraphNode hNode,
                                        const CUDA_MEMSET_NODE_PARAMS *nodeParams) {
    CUgraphNodeParams params = {0};
    if (!nodeParams) return CUDA_ERROR_INVALID_VALUE;
    describe_memset(&params, nodeParams, NULL);
    return change(hNode, &params);
}

CUresult sim_cuGraphHostNodeSetParams(CUgraphNode hNode, const CUDA_HOST_NODE_PARAMS *nodeParams) {
    CUgraphNodeParams params = {0};
    if (!nodeParams) return CUDA_ERROR_INVALID_VALUE;
    describe_host(&params, nodeParams);
    return change(hNode, &params);
}

CUresult sim_cuGraphKernelNodeSetParams_v2(CUgraphNode hNode,
                                           const CUDA_KERNEL_NODE_PARAMS *nodeParams) {
    CUgraphNodeParams params = {0};
    if (!nodeParams) return CUDA_ERROR_INVALID_VALUE;
    describe_kernel(&params, nodeParams, sizeof *nodeParams);
    return change(hNode, &params);
}

CUresult sim_cuGraphKernelNodeSetParams(CUgraphNode hNode,
                                        const CUDA_KERNEL_NODE_PARAMS_v1 *nodeParams) {
    CUgraphNodeParams params = {0};
    if (!nodeParams) return CUDA_ERROR_INVALID_VALUE;
    describe_kernel(&params, nodeParams, sizeof *nodeParams);
    return change(hNode, &params);
}

CUresult sim_cuGraphEventRecordNodeSetEvent(CUgraphNode hNode, CUevent event) {
    CUgraphNodeParams params = {.type = CU_GRAPH_NODE_TYPE_EVENT_RECORD, .eventRecord = {event}};
    return change(hNode, &params);
}

CUresult sim_cuGraphEventWaitNodeSetEvent(CUgraphNode hNode, CUevent event) {
    CUgraphNodeParams params = {.type = CU_GRAPH_NODE_TYPE_WAIT_EVENT, .eventWait = {event}};
    return change(hNode, &params);
}

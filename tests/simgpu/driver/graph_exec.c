// SPDX-License-Identifier: Apache-2.0
// Executable graphs: a copy of the graph that launches submit node by node to one stream.
#include "event.h"
#include "graph.h"

#include <stdlib.h>
#include <string.h>

struct graph_exec {
    struct object object;
    struct graph *copy, *source;
    unsigned long long flags;
};

static CUresult given_exec(CUgraphExec handle, struct graph_exec **exec) {
    *exec = (struct graph_exec *)handle;
    return object_is(*exec, OBJECT_GRAPH_EXEC) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

static CUresult instantiate(CUgraphExec *handle, CUgraph graph, unsigned long long flags) {
    struct graph *source = (struct graph *)graph;
    if (!handle || !object_is(source, OBJECT_GRAPH)) return CUDA_ERROR_INVALID_VALUE;
    // A graph that owns memory may have one executable graph at a time.
    if (source->has_memory && source->executables > 0) return CUDA_ERROR_NOT_SUPPORTED;
    struct graph_exec *exec = object_new(OBJECT_GRAPH_EXEC, sizeof *exec);
    if (!exec || !(exec->copy = graph_copy(source, true))) return CUDA_ERROR_OUT_OF_MEMORY;
    exec->source = source;
    exec->flags = flags;
    source->executables++;
    *handle = (CUgraphExec)exec;
    return CUDA_SUCCESS;
}

CUresult sim_cuGraphInstantiateWithFlags(CUgraphExec *phGraphExec, CUgraph hGraph,
                                         unsigned long long flags) {
    return instantiate(phGraphExec, hGraph, flags);
}

CUresult sim_cuGraphInstantiate_v2(CUgraphExec *phGraphExec, CUgraph hGraph,
                                   CUgraphNode *phErrorNode, char *logBuffer, size_t bufferSize) {
    if (phErrorNode) *phErrorNode = NULL;
    if (logBuffer && bufferSize) logBuffer[0] = '\0';
    return instantiate(phGraphExec, hGraph, 0);
}

CUresult sim_cuGraphInstantiate(CUgraphExec *phGraphExec, CUgraph hGraph, CUgraphNode *phErrorNode,
                                char *logBuffer, size_t bufferSize) {
    return sim_cuGraphInstantiate_v2(phGraphExec, hGraph, phErrorNode, logBuffer, bufferSize);
}

CUresult sim_cuGraphInstantiateWithParams(CUgraphExec *phGraphExec, CUgraph hGraph,
                                          CUDA_GRAPH_INSTANTIATE_PARAMS *instantiateParams) {
    if (!instantiateParams) return CUDA_ERROR_INVALID_VALUE;
    CUresult result = instantiate(phGraphExec, hGraph, instantiateParams->flags);
    instantiateParams->hErrNode_out = NULL;
    instantiateParams->result_out =
        result == CUDA_SUCCESS ? CUDA_GRAPH_INSTANTIATE_SUCCESS : CUDA_GRAPH_INSTANTIATE_ERROR;
    return result;
}

CUresult sim_cuGraphExecGetFlags(CUgraphExec hGraphExec, cuuint64_t *flags) {
    struct graph_exec *exec;
    CUresult result = given_exec(hGraphExec, &exec);
    if (result != CUDA_SUCCESS) return result;
    if (!flags) return CUDA_ERROR_INVALID_VALUE;
    *flags = exec->flags;
    return CUDA_SUCCESS;
}

CUresult sim_cuGraphExecDestroy(CUgraphExec hGraphExec) {
    struct graph_exec *exec;
    CUresult result = given_exec(hGraphExec, &exec);
    if (result != CUDA_SUCCESS) return result;
    if (object_is(exec->source, OBJECT_GRAPH) && exec->source->executables > 0)
        exec->source->executables--;
    graph_delete(exec->copy);
    object_delete(exec, OBJECT_GRAPH_EXEC);
    return CUDA_SUCCESS;
}

// ---- launch -------------------------------------------------------------------------------------

// Applies to every allocation node of the graph and of its children, until one fails.
static CUresult each_allocation(struct graph *graph, CUresult (*visit)(struct graph_memory *)) {
    CUresult result = CUDA_SUCCESS;
    for (size_t i = 0; i < graph->count && result == CUDA_SUCCESS; i++) {
        struct node *node = graph->nodes[i];
        if (node->type == CU_GRAPH_NODE_TYPE_MEM_ALLOC) result = visit(node->memory);
        if (node->child) result = each_allocation(node->child, visit);
    }
    return result;
}

static CUresult end_memory(struct graph_memory *memory) {
    graph_memory_end(memory);
    return CUDA_SUCCESS;
}

static CUresult refuse_live(struct graph_memory *memory) {
    return graph_memory_is_live(memory) ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;
}

// Memory of the last launch must be free again, or is freed now if the graph was made that way.
static CUresult begin_memory(struct graph_exec *exec, struct stream *stream) {
    stream_synchronize(stream);
    if (exec->flags & CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH)
        each_allocation(exec->copy, end_memory);
    CUresult result = each_allocation(exec->copy, refuse_live);
    if (result != CUDA_SUCCESS) return result;
    result = each_allocation(exec->copy, graph_memory_begin);
    if (result != CUDA_SUCCESS) each_allocation(exec->copy, end_memory);
    return result;
}

static void submit_event(struct stream *stream, CUevent handle, bool records) {
    struct event *event = (struct event *)handle;
    struct op op = {.kind = records ? OP_SIGNAL : OP_WAIT};
    pthread_mutex_lock(&event->lock);
    if (records) {
        op.fence = fence_new();
        fence_release(event->fence);
        event->fence = fence_retain(op.fence);
    } else {
        op.fence = fence_retain(event->fence);
    }
    pthread_mutex_unlock(&event->lock);
    if (op.fence) stream_submit(stream, &op);
}

static void submit_node(struct stream *stream, struct node *node);

static void submit_graph(struct stream *stream, struct graph *graph) {
    struct node **ordered = graph_order(graph);
    for (size_t i = 0; i < graph->count; i++)
        if (!ordered[i]->is_disabled) submit_node(stream, ordered[i]);
    free(ordered);
}

static void submit_node(struct stream *stream, struct node *node) {
    struct op op = node->op;
    switch (node->type) {
    case CU_GRAPH_NODE_TYPE_GRAPH:
        submit_graph(stream, node->child);
        break;
    case CU_GRAPH_NODE_TYPE_MEM_ALLOC:
        break; // done when the launch was called
    case CU_GRAPH_NODE_TYPE_EVENT_RECORD:
        submit_event(stream, node->params.eventRecord.event, true);
        break;
    case CU_GRAPH_NODE_TYPE_WAIT_EVENT:
        submit_event(stream, node->params.eventWait.event, false);
        break;
    case CU_GRAPH_NODE_TYPE_MEM_FREE:
        op.kind = OP_GRAPH_FREE;
        op.memory = graph_memory_retain(node->memory);
        stream_submit(stream, &op);
        break;
    default:
        stream_submit(stream, &op);
        break;
    }
}

static CUresult launch(CUgraphExec handle, CUstream stream_handle) {
    struct graph_exec *exec;
    struct stream *stream;
    CUresult result = given_exec(handle, &exec);
    if (result == CUDA_SUCCESS) result = stream_get(stream_handle, &stream);
    if (result != CUDA_SUCCESS) return result;
    if (stream->capture) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    if (exec->copy->has_memory) result = begin_memory(exec, stream);
    if (result == CUDA_SUCCESS) submit_graph(stream, exec->copy);
    return result;
}

CUresult sim_cuGraphLaunch(CUgraphExec hGraphExec, CUstream hStream) {
    return launch(hGraphExec, hStream);
}

CUresult sim_cuGraphUpload(CUgraphExec hGraphExec, CUstream hStream) {
    struct graph_exec *exec;
    struct stream *stream;
    CUresult result = given_exec(hGraphExec, &exec);
    return result == CUDA_SUCCESS ? stream_get(hStream, &stream) : result;
}

// ---- changing -----------------------------------------------------------------------------------

// The node of the executable graph that was copied from a node of the source.
static struct node *twin_of(struct graph *graph, CUgraphNode original) {
    for (size_t i = 0; i < graph->count; i++) {
        struct node *node = graph->nodes[i];
        if (node->copied_from == (struct node *)original) return node;
        struct node *inner = node->child ? twin_of(node->child, original) : NULL;
        if (inner) return inner;
    }
    return NULL;
}

static CUresult find_twin(CUgraphExec handle, CUgraphNode original, struct node **twin) {
    struct graph_exec *exec;
    CUresult result = given_exec(handle, &exec);
    if (result != CUDA_SUCCESS) return result;
    *twin = twin_of(exec->copy, original);
    return *twin ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult sim_cuGraphExecNodeSetParams(CUgraphExec hGraphExec, CUgraphNode hNode,
                                      CUgraphNodeParams *nodeParams) {
    struct node *twin;
    struct op op;
    CUresult result = find_twin(hGraphExec, hNode, &twin);
    if (result != CUDA_SUCCESS) return result;
    if (!nodeParams || nodeParams->type != twin->type) return CUDA_ERROR_INVALID_VALUE;
    result = node_op(nodeParams, &op);
    if (result != CUDA_SUCCESS) return result;
    twin->params = *nodeParams;
    twin->op = op;
    return CUDA_SUCCESS;
}

CUresult sim_cuGraphExecKernelNodeSetParams_v2(CUgraphExec hGraphExec, CUgraphNode hNode,
                                               const CUDA_KERNEL_NODE_PARAMS *nodeParams) {
    CUgraphNodeParams params = {.type = CU_GRAPH_NODE_TYPE_KERNEL};
    if (!nodeParams) return CUDA_ERROR_INVALID_VALUE;
    memcpy(&params.kernel, nodeParams, sizeof *nodeParams);
    return sim_cuGraphExecNodeSetParams(hGraphExec, hNode, &params);
}

CUresult sim_cuGraphExecKernelNodeSetParams(CUgraphExec hGraphExec, CUgraphNode hNode,
                                            const CUDA_KERNEL_NODE_PARAMS_v1 *nodeParams) {
    CUgraphNodeParams params = {.type = CU_GRAPH_NODE_TYPE_KERNEL};
    if (!nodeParams) return CUDA_ERROR_INVALID_VALUE;
    memcpy(&params.kernel, nodeParams, sizeof *nodeParams);
    return sim_cuGraphExecNodeSetParams(hGraphExec, hNode, &params);
}

CUresult sim_cuGraphExecMemcpyNodeSetParams(CUgraphExec hGraphExec, CUgraphNode hNode,
                                            const CUDA_MEMCPY3D *copyParams, CUcontext ctx) {
    CUgraphNodeParams params = {.type = CU_GRAPH_NODE_TYPE_MEMCPY};
    if (!copyParams) return CUDA_ERROR_INVALID_VALUE;
    params.memcpy.copyParams = *copyParams;
    params.memcpy.copyCtx = ctx;
    return sim_cuGraphExecNodeSetParams(hGraphExec, hNode, &params);
}

CUresult sim_cuGraphExecMemsetNodeSetParams(CUgraphExec hGraphExec, CUgraphNode hNode,
                                            const CUDA_MEMSET_NODE_PARAMS *memsetParams,
                                            CUcontext ctx) {
    CUgraphNodeParams params = {.type = CU_GRAPH_NODE_TYPE_MEMSET};
    if (!memsetParams) return CUDA_ERROR_INVALID_VALUE;
    memcpy(&params.memset, memsetParams, sizeof *memsetParams);
    params.memset.ctx = ctx;
    return sim_cuGraphExecNodeSetParams(hGraphExec, hNode, &params);
}

CUresult sim_cuGraphExecHostNodeSetParams(CUgraphExec hGraphExec, CUgraphNode hNode,
                                          const CUDA_HOST_NODE_PARAMS *nodeParams) {
    CUgraphNodeParams params = {.type = CU_GRAPH_NODE_TYPE_HOST};
    if (!nodeParams) return CUDA_ERROR_INVALID_VALUE;
    params.host.fn = nodeParams->fn;
    params.host.userData = nodeParams->userData;
    return sim_cuGraphExecNodeSetParams(hGraphExec, hNode, &params);
}

CUresult sim_cuGraphExecEventRecordNodeSetEvent(CUgraphExec hGraphExec, CUgraphNode hNode,
                                                CUevent event) {
    CUgraphNodeParams params = {.type = CU_GRAPH_NODE_TYPE_EVENT_RECORD, .eventRecord = {event}};
    return sim_cuGraphExecNodeSetParams(hGraphExec, hNode, &params);
}

CUresult sim_cuGraphExecEventWaitNodeSetEvent(CUgraphExec hGraphExec, CUgraphNode hNode,
                                              CUevent event) {
    CUgraphNodeParams params = {.type = CU_GRAPH_NODE_TYPE_WAIT_EVENT, .eventWait = {event}};
    return sim_cuGraphExecNodeSetParams(hGraphExec, hNode, &params);
}

CUresult sim_cuGraphNodeSetEnabled(CUgraphExec hGraphExec, CUgraphNode hNode,
                                   unsigned int isEnabled) {
    struct node *twin;
    CUresult result = find_twin(hGraphExec, hNode, &twin);
    if (result != CUDA_SUCCESS) return result;
    if (twin->type > CU_GRAPH_NODE_TYPE_MEMSET) return CUDA_ERROR_INVALID_VALUE;
    twin->is_disabled = !isEnabled;
    return CUDA_SUCCESS;
}

CUresult sim_cuGraphNodeGetEnabled(CUgraphExec hGraphExec, CUgraphNode hNode,
                                   unsigned int *isEnabled) {
    struct node *twin;
    CUresult result = find_twin(hGraphExec, hNode, &twin);
    if (result != CUDA_SUCCESS) return result;
    if (!isEnabled) return CUDA_ERROR_INVALID_VALUE;
    *isEnabled = !twin->is_disabled;
    return CUDA_SUCCESS;
}

static bool same_shape(const struct graph *a, const struct graph *b) {
    if (a->count != b->count) return false;
    for (size_t i = 0; i < a->count; i++) {
        const struct node *x = a->nodes[i], *y = b->nodes[i];
        if (x->type != y->type || x->after_count != y->after_count) return false;
        if (x->child && !same_shape(x->child, y->child)) return false;
    }
    return true;
}

CUresult sim_cuGraphExecUpdate_v2(CUgraphExec hGraphExec, CUgraph hGraph,
                                  CUgraphExecUpdateResultInfo *resultInfo) {
    struct graph_exec *exec;
    struct graph *graph = (struct graph *)hGraph;
    CUresult result = given_exec(hGraphExec, &exec);
    if (result != CUDA_SUCCESS) return result;
    if (!object_is(graph, OBJECT_GRAPH) || !resultInfo) return CUDA_ERROR_INVALID_VALUE;
    // Memory nodes keep their address, so a graph that owns some only fits its own executable.
    bool fits = same_shape(exec->copy, graph) && (!graph->has_memory || graph == exec->source);
    *resultInfo =
        (CUgraphExecUpdateResultInfo){.result = fits ? CU_GRAPH_EXEC_UPDATE_SUCCESS
                                                     : CU_GRAPH_EXEC_UPDATE_ERROR_TOPOLOGY_CHANGED};
    if (!fits) return CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE;
    struct graph *fresh = graph_copy(graph, true);
    if (!fresh) return CUDA_ERROR_OUT_OF_MEMORY;
    // The handles of the graph first instantiated stay the names of the nodes.
    for (size_t i = 0; i < fresh->count; i++)
        fresh->nodes[i]->copied_from = exec->copy->nodes[i]->copied_from;
    graph_delete(exec->copy);
    exec->copy = fresh;
    return CUDA_SUCCESS;
}

CUresult sim_cuGraphExecUpdate(CUgraphExec hGraphExec, CUgraph hGraph, CUgraphNode *hErrorNode_out,
                               CUgraphExecUpdateResult *updateResult_out) {
    CUgraphExecUpdateResultInfo info;
    if (!hErrorNode_out || !updateResult_out) return CUDA_ERROR_INVALID_VALUE;
    CUresult result = sim_cuGraphExecUpdate_v2(hGraphExec, hGraph, &info);
    *hErrorNode_out = NULL;
    *updateResult_out =
        result == CUDA_ERROR_INVALID_VALUE ? CU_GRAPH_EXEC_UPDATE_ERROR : info.result;
    return result;
}

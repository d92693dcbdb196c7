// SPDX-License-Identifier: Apache-2.0
//
// Graph nodes whose parameters the driver wants in another form: with a context, with a CUfunction
// in place of the host function, or as a full copy descriptor. All others are in forward.def.

#include "runtime.h"

#if CUDART_VERSION >= 12000
typedef CUDA_KERNEL_NODE_PARAMS_v2 kernel_params;
#else
typedef CUDA_KERNEL_NODE_PARAMS_v1 kernel_params;
#endif

static cudaError_t current_context(CUcontext *context) {
    return cudart_error(DRIVER(cuCtxGetCurrent_v4000)(context));
}

// --- kernels ------------------------------------------------------------------------------------

static cudaError_t describe_kernel(const struct cudaKernelNodeParams *given,
                                   kernel_params *wanted) {
    if (!given) return cudaErrorInvalidValue;
    *wanted = (kernel_params){
        .gridDimX = given->gridDim.x,
        .gridDimY = given->gridDim.y,
        .gridDimZ = given->gridDim.z,
        .blockDimX = given->blockDim.x,
        .blockDimY = given->blockDim.y,
        .blockDimZ = given->blockDim.z,
        .sharedMemBytes = given->sharedMemBytes,
        .kernelParams = given->kernelParams,
        .extra = given->extra,
    };
    return cudart_function(given->func, &wanted->func);
}

static cudaError_t add_kernel(cudaGraphNode_t *node, cudaGraph_t graph,
                              const cudaGraphNode_t *after, size_t count,
                              const struct cudaKernelNodeParams *params) {
    kernel_params wanted;
    cudaError_t error = describe_kernel(params, &wanted);
    if (error != cudaSuccess) return error;
#if CUDART_VERSION >= 12000
    return cudart_error(DRIVER(cuGraphAddKernelNode_v12000)(node, graph, after, count, &wanted));
#else
    return cudart_error(DRIVER(cuGraphAddKernelNode_v10000)(node, graph, after, count, &wanted));
#endif
}

cudaError_t cudaGraphAddKernelNode(cudaGraphNode_t *node, cudaGraph_t graph,
                                   const cudaGraphNode_t *after, size_t count,
                                   const struct cudaKernelNodeParams *params) {
    return IN_CONTEXT(add_kernel(node, graph, after, count, params));
}

static cudaError_t set_kernel(cudaGraphNode_t node, const struct cudaKernelNodeParams *params) {
    kernel_params wanted;
    cudaError_t error = describe_kernel(params, &wanted);
    if (error != cudaSuccess) return error;
#if CUDART_VERSION >= 12000
    return cudart_error(DRIVER(cuGraphKernelNodeSetParams_v12000)(node, &wanted));
#else
    return cudart_error(DRIVER(cuGraphKernelNodeSetParams_v10000)(node, &wanted));
#endif
}

cudaError_t cudaGraphKernelNodeSetParams(cudaGraphNode_t node,
                                         const struct cudaKernelNodeParams *params) {
    return IN_CONTEXT(set_kernel(node, params));
}

static cudaError_t set_exec_kernel(cudaGraphExec_t exec, cudaGraphNode_t node,
                                   const struct cudaKernelNodeParams *params) {
    kernel_params wanted;
    cudaError_t error = describe_kernel(params, &wanted);
    if (error != cudaSuccess) return error;
#if CUDART_VERSION >= 12000
    return cudart_error(DRIVER(cuGraphExecKernelNodeSetParams_v12000)(exec, node, &wanted));
#else
    return cudart_error(DRIVER(cuGraphExecKernelNodeSetParams_v10010)(exec, node, &wanted));
#endif
}

cudaError_t cudaGraphExecKernelNodeSetParams(cudaGraphExec_t exec, cudaGraphNode_t node,
                                             const struct cudaKernelNodeParams *params) {
    return IN_CONTEXT(set_exec_kernel(exec, node, params));
}

// --- copies -------------------------------------------------------------------------------------

static cudaError_t add_copy(cudaGraphNode_t *node, cudaGraph_t graph, const cudaGraphNode_t *after,
                            size_t count, const struct cudaMemcpy3DParms *params) {
    CUDA_MEMCPY3D wanted;
    CUcontext context;
    cudaError_t error = cudart_copy_3d(params, &wanted);
    if (error == cudaSuccess) error = current_context(&context);
    if (error != cudaSuccess) return error;
    return cudart_error(
        DRIVER(cuGraphAddMemcpyNode_v10000)(node, graph, after, count, &wanted, context));
}

cudaError_t cudaGraphAddMemcpyNode(cudaGraphNode_t *node, cudaGraph_t graph,
                                   const cudaGraphNode_t *after, size_t count,
                                   const struct cudaMemcpy3DParms *params) {
    return IN_CONTEXT(add_copy(node, graph, after, count, params));
}

// A range as a volume of one row.
static struct cudaMemcpy3DParms one_row(void *to, const void *from, size_t bytes,
                                        enum cudaMemcpyKind kind) {
    return (struct cudaMemcpy3DParms){
        .srcPtr = {.ptr = (void *)from, .pitch = bytes, .xsize = bytes, .ysize = 1},
        .dstPtr = {.ptr = to, .pitch = bytes, .xsize = bytes, .ysize = 1},
        .extent = {.width = bytes, .height = 1, .depth = 1},
        .kind = kind,
    };
}

cudaError_t cudaGraphAddMemcpyNode1D(cudaGraphNode_t *node, cudaGraph_t graph,
                                     const cudaGraphNode_t *after, size_t count, void *to,
                                     const void *from, size_t bytes, enum cudaMemcpyKind kind) {
    struct cudaMemcpy3DParms row = one_row(to, from, bytes, kind);
    return IN_CONTEXT(add_copy(node, graph, after, count, &row));
}

static cudaError_t set_copy(cudaGraphNode_t node, const struct cudaMemcpy3DParms *params) {
    CUDA_MEMCPY3D wanted;
    cudaError_t error = cudart_copy_3d(params, &wanted);
    if (error != cudaSuccess) return error;
    return cudart_error(DRIVER(cuGraphMemcpyNodeSetParams_v10000)(node, &wanted));
}

cudaError_t cudaGraphMemcpyNodeSetParams(cudaGraphNode_t node,
                                         const struct cudaMemcpy3DParms *params) {
    return IN_CONTEXT(set_copy(node, params));
}

cudaError_t cudaGraphMemcpyNodeSetParams1D(cudaGraphNode_t node, void *to, const void *from,
                                           size_t bytes, enum cudaMemcpyKind kind) {
    struct cudaMemcpy3DParms row = one_row(to, from, bytes, kind);
    return IN_CONTEXT(set_copy(node, &row));
}

static cudaError_t set_exec_copy(cudaGraphExec_t exec, cudaGraphNode_t node,
                                 const struct cudaMemcpy3DParms *params) {
    CUDA_MEMCPY3D wanted;
    CUcontext context;
    cudaError_t error = cudart_copy_3d(params, &wanted);
    if (error == cudaSuccess) error = current_context(&context);
    if (error != cudaSuccess) return error;
    return cudart_error(
        DRIVER(cuGraphExecMemcpyNodeSetParams_v10020)(exec, node, &wanted, context));
}

cudaError_t cudaGraphExecMemcpyNodeSetParams(cudaGraphExec_t exec, cudaGraphNode_t node,
                                             const struct cudaMemcpy3DParms *params) {
    return IN_CONTEXT(set_exec_copy(exec, node, params));
}

cudaError_t cudaGraphExecMemcpyNodeSetParams1D(cudaGraphExec_t exec, cudaGraphNode_t node, void *to,
                                               const void *from, size_t bytes,
                                               enum cudaMemcpyKind kind) {
    struct cudaMemcpy3DParms row = one_row(to, from, bytes, kind);
    return IN_CONTEXT(set_exec_copy(exec, node, &row));
}

// --- fills --------------------------------------------------------------------------------------

_Static_assert(sizeof(struct cudaMemsetParams) == sizeof(CUDA_MEMSET_NODE_PARAMS_v1), "layout");

static cudaError_t add_fill(cudaGraphNode_t *node, cudaGraph_t graph, const cudaGraphNode_t *after,
                            size_t count, const struct cudaMemsetParams *params) {
    CUcontext context;
    cudaError_t error = current_context(&context);
    if (error != cudaSuccess) return error;
    return cudart_error(DRIVER(cuGraphAddMemsetNode_v10000)(
        node, graph, after, count, (const CUDA_MEMSET_NODE_PARAMS_v1 *)params, context));
}

cudaError_t cudaGraphAddMemsetNode(cudaGraphNode_t *node, cudaGraph_t graph,
                                   const cudaGraphNode_t *after, size_t count,
                                   const struct cudaMemsetParams *params) {
    return IN_CONTEXT(add_fill(node, graph, after, count, params));
}

static cudaError_t set_exec_fill(cudaGraphExec_t exec, cudaGraphNode_t node,
                                 const struct cudaMemsetParams *params) {
    CUcontext context;
    cudaError_t error = current_context(&context);
    if (error != cudaSuccess) return error;
    return cudart_error(DRIVER(cuGraphExecMemsetNodeSetParams_v10020)(
        exec, node, (const CUDA_MEMSET_NODE_PARAMS_v1 *)params, context));
}

cudaError_t cudaGraphExecMemsetNodeSetParams(cudaGraphExec_t exec, cudaGraphNode_t node,
                                             const struct cudaMemsetParams *params) {
    return IN_CONTEXT(set_exec_fill(exec, node, params));
}

// --- nodes of any type --------------------------------------------------------------------------

#if CUDART_VERSION >= 12000

_Static_assert(sizeof(struct cudaGraphNodeParams) == sizeof(CUgraphNodeParams), "layout");

// The driver's members are the runtime's, in the same places, and behind them a context.
static cudaError_t describe_node(const struct cudaGraphNodeParams *given,
                                 CUgraphNodeParams *wanted) {
    CUcontext context;
    if (!given) return cudaErrorInvalidValue;
    __builtin_memcpy(wanted, given, sizeof *wanted);
    cudaError_t error = current_context(&context);
    if (error != cudaSuccess) return error;
    switch (given->type) {
    case cudaGraphNodeTypeKernel:
        return cudart_function(given->kernel.func, &wanted->kernel.func);
    case cudaGraphNodeTypeMemcpy:
        wanted->memcpy.copyCtx = context;
        return cudart_copy_3d(&given->memcpy.copyParams, &wanted->memcpy.copyParams);
    case cudaGraphNodeTypeMemset:
        wanted->memset.ctx = context;
        return cudaSuccess;
    case cudaGraphNodeTypeConditional:
        wanted->conditional.ctx = context;
        return cudaSuccess;
    default:
        return cudaSuccess;
    }
}

// What the driver writes back: the address of a memory node, the body of a conditional one.
static void give_back(struct cudaGraphNodeParams *given, const CUgraphNodeParams *wanted) {
    if (given->type == cudaGraphNodeTypeMemAlloc)
        given->alloc.dptr = (void *)wanted->alloc.dptr;
    else if (given->type == cudaGraphNodeTypeConditional)
        given->conditional.phGraph_out = wanted->conditional.phGraph_out;
}

static cudaError_t add_node(cudaGraphNode_t *node, cudaGraph_t graph, const cudaGraphNode_t *after,
                            const cudaGraphEdgeData *edges, size_t count,
                            struct cudaGraphNodeParams *params) {
    CUgraphNodeParams wanted;
    cudaError_t error = describe_node(params, &wanted);
    if (error != cudaSuccess) return error;
    error = cudart_error(DRIVER(cuGraphAddNode_v12030)(
        node, graph, after, (const CUgraphEdgeData *)edges, count, &wanted));
    if (error == cudaSuccess) give_back(params, &wanted);
    return error;
}

#    if CUDART_VERSION >= 13000

cudaError_t cudaGraphAddNode(cudaGraphNode_t *node, cudaGraph_t graph, const cudaGraphNode_t *after,
                             const cudaGraphEdgeData *edges, size_t count,
                             struct cudaGraphNodeParams *params) {
    return IN_CONTEXT(add_node(node, graph, after, edges, count, params));
}

#    else

cudaError_t cudaGraphAddNode(cudaGraphNode_t *node, cudaGraph_t graph, const cudaGraphNode_t *after,
                             size_t count, struct cudaGraphNodeParams *params) {
    return IN_CONTEXT(add_node(node, graph, after, NULL, count, params));
}

cudaError_t cudaGraphAddNode_v2(cudaGraphNode_t *node, cudaGraph_t graph,
                                const cudaGraphNode_t *after, const cudaGraphEdgeData *edges,
                                size_t count, struct cudaGraphNodeParams *params) {
    return IN_CONTEXT(add_node(node, graph, after, edges, count, params));
}

#    endif

static cudaError_t create_condition(cudaGraphConditionalHandle *handle, cudaGraph_t graph,
                                    unsigned value, unsigned flags) {
    CUcontext context;
    cudaError_t error = current_context(&context);
    if (error != cudaSuccess) return error;
    return cudart_error(DRIVER(cuGraphConditionalHandleCreate_v12030)(
        (CUgraphConditionalHandle *)handle, graph, context, value, flags));
}

cudaError_t cudaGraphConditionalHandleCreate(cudaGraphConditionalHandle *handle, cudaGraph_t graph,
                                             unsigned value, unsigned flags) {
    return IN_CONTEXT(create_condition(handle, graph, value, flags));
}

#endif

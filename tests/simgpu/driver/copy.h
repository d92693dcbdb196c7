// SPDX-License-Identifier: Apache-2.0
// What descriptions of copies and fills mean; the API calls and graph nodes share it.
#pragma once

#include "stream.h"

// The operation a copy description stands for. CUDA_ERROR_INVALID_VALUE when it is wrong.
CUresult copy_from_description(const CUDA_MEMCPY3D *description, struct op *op);
// Same for a memset.
CUresult fill_from_params(const CUDA_MEMSET_NODE_PARAMS_v2 *params, struct op *op);

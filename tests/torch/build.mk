# SPDX-License-Identifier: Apache-2.0
#
# PyTorch on the simulated GPU: an environment with its wheel, outside the tree, and the companion
# libraries that the wheel needs, made for it (tests/simgpu/companions). `make torch` is all that
# run-on-simgpu needs; nothing else depends on it.

TORCH_VERSION ?= $(shell cat tests/torch/version)
TORCH_HOME    ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/memwatch

TORCH_ENV        := $(TORCH_HOME)/torch-$(TORCH_VERSION)
TORCH_COMPANIONS := $(B)/simgpu/torch-$(TORCH_VERSION)
COMPANIONS_SRC   := tests/simgpu/companions

.PHONY: torch torch-environment torch-triton torch-built test-torch
torch-triton: $(TORCH_ENV)/triton
torch-environment: $(TORCH_ENV)/ready

torch: $(DEPS_TEST) $(TORCH_ENV)/ready
	$(SUBMAKE) torch-built

torch-built: all $(TORCH_COMPANIONS)/built \
             $(addprefix $(B)/simgpu/,libcuda.so.1 libnvidia-ml.so.1 $(addprefix libcudart.so.,11.0 12 13))

test-torch: torch
	$(BUILD_ENV) TORCH_VERSION=$(TORCH_VERSION) TORCH_HOME='$(TORCH_HOME)' \
	    $(PYTHON) -m pytest -n $(JOBS) $(PYTEST_ARGS) tests/torch/check_*.py

$(TORCH_ENV)/ready: tests/torch/environment tests/torch/requirements.txt
	@tests/torch/environment $(TORCH_ENV) $(TORCH_VERSION)

$(TORCH_ENV)/triton: $(TORCH_ENV)/ready
	@tests/torch/environment $(TORCH_ENV) $(TORCH_VERSION) triton

$(TORCH_COMPANIONS)/built: $(TORCH_ENV)/ready $(wildcard $(COMPANIONS_SRC)/*) $(B)/simgpu/libcudart_static.a
	@rm -rf $(@D)
	$(TORCH_ENV)/bin/python $(COMPANIONS_SRC)/generate.py --cc '$(CC)' --output $(@D) \
	    --runtime $(B)/simgpu/libcudart_static.a torch
	@touch $@

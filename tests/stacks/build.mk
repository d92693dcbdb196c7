# SPDX-License-Identifier: Apache-2.0
#
# The walk of Python frames, without the rest of the library, for ctypes; and a program that loads
# Python as a plug-in.

STACKS_OUT := $(B)/tests/stacks
WALKER_C   := tests/stacks/walker.c interpose/stack_python.c interpose/python_find.c \
              interpose/python_place.c interpose/python_thread.c interpose/symbols.c
ALL += $(STACKS_OUT)/walker.so $(STACKS_OUT)/embed

$(STACKS_OUT)/walker.so: $(WALKER_C) $(wildcard interpose/*.h interpose/*.def)
	@mkdir -p $(@D)
	$(CC) $(WARN) $(CFLAGS) $(INTERPOSE_FLAGS) -fvisibility=default -D_GNU_SOURCE -Iinterpose -shared \
	    $(WALKER_C) -o $@ $(LDFLAGS) -pthread -ldl

$(STACKS_OUT)/embed: tests/stacks/embed.c
	@mkdir -p $(@D)
	$(CC) $(WARN) $(CFLAGS) $< -o $@ $(LDFLAGS) -ldl

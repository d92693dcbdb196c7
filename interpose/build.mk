# SPDX-License-Identifier: Apache-2.0
#
# libmemwatch.so: what runs inside the watched process. Needs libc alone.
#
# -fno-semantic-interposition and -Bsymbolic-functions: our own calls to a wrapper's name never
# leave the library. No stack protector hooks: nothing that would add a symbol to the NEEDED or
# imported lists. The unwind tables are what native stacks are taken by (stack_native.c), and they
# lead through our own frames. What preloading costs a program that we have nothing to do in:
# noseparate-code, two mappings less, saves a sixth of it; norelro, no mapping that is split and one
# page less that is touched, another sixth; nostartfiles, four symbols less that are looked up in
# vain and a page less that is touched, a twentieth. Read-only relocations would protect little here:
# the tables that every call goes through are pointers to functions in writable memory anyway.
INTERPOSE_C   := $(wildcard interpose/*.c)
INTERPOSE_OBJ := $(INTERPOSE_C:%.c=$(B)/%.o) $(B)/interpose/doors_asm.o
INTERPOSE_FLAGS := -fPIC -fvisibility=hidden -ftls-model=initial-exec -fno-plt \
                   -fno-semantic-interposition -fasynchronous-unwind-tables

# These run before a sanitizer's runtime is set up.
$(addprefix $(B)/interpose/,doors.o symbols.o torch_find.o): INTERPOSE_FLAGS += -fno-sanitize=all

$(B)/interpose/%.o: interpose/%.c
	@mkdir -p $(@D)
	$(CC) $(WARN) $(CFLAGS) $(INTERPOSE_FLAGS) -D_GNU_SOURCE -MMD -MP -c $< -o $@

$(B)/interpose/doors_asm.o: interpose/doors.S
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -fPIC -MMD -MP -c $< -o $@

$(B)/libmemwatch.so: $(INTERPOSE_OBJ) interpose/libmemwatch.map
	$(CC) $(CFLAGS) $(LDFLAGS) -shared -nostartfiles -o $@ $(INTERPOSE_OBJ) -Wl,-soname,libmemwatch.so \
	    -Wl,--version-script=interpose/libmemwatch.map -Wl,-z,now,-z,norelro,-z,nodelete,-z,defs \
	    -Wl,-z,noseparate-code -Wl,-Bsymbolic-functions -Wl,--exclude-libs,ALL -Wl,--as-needed -pthread

ALL += $(B)/libmemwatch.so
-include $(INTERPOSE_OBJ:.o=.d)

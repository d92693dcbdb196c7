# SPDX-License-Identifier: Apache-2.0
#
# $(B)/memwatch: every .c file of this folder, and the knowledge library. Of interpose/ it uses
# ledger_format.h, the contract, and options.def, for the help.

MEMWATCH_OBJECTS := $(patsubst report/%.c,$(B)/report/%.o,$(wildcard report/*.c))
MEMWATCH_PACKAGES := libcjson libelf libdw libpcre2-8
# libiberty, binutils' demangler, is a static library that pkg-config does not know.
MEMWATCH_LIBS = $(shell pkg-config --libs $(MEMWATCH_PACKAGES)) -liberty -ldl

$(B)/memwatch: $(MEMWATCH_OBJECTS) $(B)/libknowledge.a
	$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(MEMWATCH_LIBS)

$(B)/report/%.o: report/%.c Makefile
	@mkdir -p $(@D)
	$(CC) $(WARN) $(CFLAGS) -Iknowledge $(shell pkg-config --cflags $(MEMWATCH_PACKAGES)) -MMD -MP -c -o $@ $<

-include $(MEMWATCH_OBJECTS:.o=.d)

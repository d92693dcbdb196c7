# SPDX-License-Identifier: Apache-2.0
#
# $(B)/memwatch: every .c file of this folder. Of interpose/ it uses ledger_format.h, the contract,
# and options.def, for the help.

MEMWATCH_OBJECTS := $(patsubst report/%.c,$(B)/report/%.o,$(wildcard report/*.c))
MEMWATCH_PACKAGES := libcjson libelf

$(B)/memwatch: $(MEMWATCH_OBJECTS)
	$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(shell pkg-config --libs $(MEMWATCH_PACKAGES)) -ldl

$(B)/report/%.o: report/%.c Makefile
	@mkdir -p $(@D)
	$(CC) $(WARN) $(CFLAGS) $(shell pkg-config --cflags $(MEMWATCH_PACKAGES)) -MMD -MP -c -o $@ $<

-include $(MEMWATCH_OBJECTS:.o=.d)

# SPDX-License-Identifier: Apache-2.0
#
# $(B)/libknowledge.a: every .c file of this folder, with the records inside. A library of its own:
# it knows nothing of ledgers or reports.

KNOWLEDGE_OBJECTS := $(patsubst knowledge/%.c,$(B)/knowledge/%.o,$(wildcard knowledge/*.c))
KNOWLEDGE_PACKAGES := libcjson libpcre2-8

$(B)/libknowledge.a: $(KNOWLEDGE_OBJECTS) $(B)/knowledge/records.o
	@rm -f $@
	$(AR) rcs $@ $^

$(B)/knowledge/%.o: knowledge/%.c Makefile
	@mkdir -p $(@D)
	$(CC) $(WARN) $(CFLAGS) $(shell pkg-config --cflags $(KNOWLEDGE_PACKAGES)) -MMD -MP -c -o $@ $<

-include $(KNOWLEDGE_OBJECTS:.o=.d)

# Name and text of each record, each ended by a NUL byte. Indentation, which no text of JSON reaches
# into, is left out. The folder is a prerequisite so that a removed record is noticed.
RECORDS := $(sort $(wildcard knowledge/records/*.json))

$(B)/knowledge/records.bundle: $(RECORDS) knowledge/records
	@mkdir -p $(@D)
	@for record in $(notdir $(RECORDS)); do \
	    printf '%s\0' "$$record" && sed 's/^ *//' "knowledge/records/$$record" && printf '\0' || exit; \
	done >$@

$(B)/knowledge/records.o: knowledge/bundled.S $(B)/knowledge/records.bundle
	$(CC) -I$(B) -c -o $@ $<

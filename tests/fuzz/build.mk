# SPDX-License-Identifier: Apache-2.0
#
# The fuzz target of the reader, always with sanitizers, and the program that makes ledgers for the
# tests of `memwatch report`.

FUZZED := $(addprefix report/,reader.c model.c check.c json.c emit_json.c emit_text.c source.c \
            summary.c places.c owner.c process.c units.c)
FUZZ_FLAGS := -O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all
ALL += $(B)/tests/fuzz/fuzz_reader $(B)/tests/fuzz/make_ledger

FUZZ_BUILD = $(CC) $(WARN) -Ireport $(shell pkg-config --cflags libcjson)

$(B)/tests/fuzz/fuzz_reader: tests/fuzz/fuzz_reader.c tests/unit/ledger_builder.c $(FUZZED) \
    tests/unit/ledger_builder.h $(wildcard report/*.h) interpose/ledger_format.h
	@mkdir -p $(@D)
	$(FUZZ_BUILD) $(FUZZ_FLAGS) $(filter %.c,$^) -o $@ $(shell pkg-config --libs libcjson)

$(B)/tests/fuzz/make_ledger: tests/fuzz/make_ledger.c tests/unit/ledger_builder.c \
    tests/unit/ledger_builder.h interpose/ledger_format.h
	@mkdir -p $(@D)
	$(FUZZ_BUILD) $(CFLAGS) $(LDFLAGS) $(filter %.c,$^) -o $@

# SPDX-License-Identifier: Apache-2.0
#
# The fuzz target of the reader, always with sanitizers, and the program that makes ledgers for the
# tests of `memwatch report`.

FUZZED := $(addprefix report/,reader.c messages.c frames.c model.c torch.c check.c json.c emit_json.c \
            emit_sites.c emit_torch.c torch_findings.c emit_messages.c emit_text.c text_torch.c text_sites.c text_findings.c view.c merge.c \
            resolver.c resolve_report.c symbolize.c debug_files.c source.c summary.c places.c \
            owner.c process.c units.c findings.c recognise.c known_errors.c corruption.c forked.c \
            kb.c advice.c advice_json.c advice_numbers.c paragraph.c) $(wildcard knowledge/*.c)
FUZZ_FLAGS := -O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all
ALL += $(B)/tests/fuzz/fuzz_reader $(B)/tests/fuzz/make_ledger

FUZZ_BUILD = $(CC) $(WARN) -Ireport -Iknowledge $(shell pkg-config --cflags $(MEMWATCH_PACKAGES))

$(B)/tests/fuzz/fuzz_reader: tests/fuzz/fuzz_reader.c tests/unit/ledger_builder.c $(FUZZED) \
    tests/unit/ledger_builder.h $(wildcard report/*.h knowledge/*.h) interpose/ledger_format.h \
    $(B)/knowledge/records.o
	@mkdir -p $(@D)
	$(FUZZ_BUILD) $(FUZZ_FLAGS) $(filter %.c %.o,$^) -o $@ $(MEMWATCH_LIBS)

$(B)/tests/fuzz/make_ledger: tests/fuzz/make_ledger.c tests/unit/ledger_builder.c \
    tests/unit/ledger_builder.h interpose/ledger_format.h
	@mkdir -p $(@D)
	$(FUZZ_BUILD) $(CFLAGS) $(LDFLAGS) $(filter %.c,$^) -o $@

# The fuzz target of the number parser and the classifier.
ALL += $(B)/tests/fuzz/fuzz_number

$(B)/tests/fuzz/fuzz_number: tests/fuzz/fuzz_number.c \
    $(addprefix knowledge/,number.c counters.c counters_text.c roles.c) $(wildcard knowledge/*.h)
	@mkdir -p $(@D)
	$(CC) $(WARN) -Iknowledge $(FUZZ_FLAGS) $(filter %.c,$^) -o $@

# The fuzz target of the record loader, the templates and the lint.
ALL += $(B)/tests/fuzz/fuzz_record

$(B)/tests/fuzz/fuzz_record: tests/fuzz/fuzz_record.c \
    $(addprefix knowledge/,record.c template.c lint.c) $(wildcard knowledge/*.h knowledge/*.def)
	@mkdir -p $(@D)
	$(CC) $(WARN) -Iknowledge $(shell pkg-config --cflags $(KNOWLEDGE_PACKAGES)) $(FUZZ_FLAGS) \
	    $(filter %.c,$^) -o $@ $(shell pkg-config --libs $(KNOWLEDGE_PACKAGES))

# The fuzz target of the matcher, of incidents and of how they are printed.
ALL += $(B)/tests/fuzz/fuzz_match

$(B)/tests/fuzz/fuzz_match: tests/fuzz/fuzz_match.c $(B)/knowledge/records.o \
    $(wildcard knowledge/*.c) $(addprefix report/,advice.c advice_json.c advice_numbers.c json.c \
    paragraph.c places.c) $(wildcard knowledge/*.h knowledge/*.def report/*.h)
	@mkdir -p $(@D)
	$(CC) $(WARN) -Iknowledge -Ireport -I$(B) $(shell pkg-config --cflags $(KNOWLEDGE_PACKAGES)) \
	    $(FUZZ_FLAGS) $(filter %.c %.o,$^) -o $@ $(shell pkg-config --libs $(KNOWLEDGE_PACKAGES))

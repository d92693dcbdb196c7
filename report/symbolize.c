// SPDX-License-Identifier: Apache-2.0
//
// Symbols and lines by libdw (symbolize.h).
//
// libdw's own look-ups go through all symbols, or through all entries of a compilation unit, at
// each address. Thousands of frames are to be named, so each table is read once and searched
// afterwards: the file's symbols, the units' ranges, and of each unit that is asked for the ranges
// of its functions.
#define _GNU_SOURCE // tdestroy
#include "symbolize.h"

#include "memwatch.h"

#include <dwarf.h>
#include <elfutils/libdw.h>
#include <elfutils/libdwfl.h>
#include <libiberty/demangle.h>
#include <search.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX_DEPTH   64u // of nested scopes; deeper ones are left out
#define MAX_INLINED 32u

struct named {
    uint64_t address, size;
    const char *name; // in the file's string table
    int rank;         // of those at one address the highest is told
};

// Addresses from `low` up to but not including `high`.
struct range {
    uint64_t low, high;
    Dwarf_Off die; // of a function or of a unit
};
struct ranges {
    struct range *at;
    size_t count, room;
};

// A compilation unit.
struct unit {
    Dwarf_Off offset;
    Dwarf_Die die, scopes; // `scopes` is another one where the entries are in a file of their own
    struct ranges functions;
};

struct object {
    const struct debug_search *search;
    const struct build *build;
    const char *reason;
    Dwfl *dwfl;
    Dwfl_Module *module;
    struct named *symbol;
    size_t symbols;
    Dwarf *dwarf;
    Dwarf_Addr bias;
    struct ranges unit_ranges;
    void *units; // tsearch tree of struct unit
    bool symbols_read, dwarf_read, unit_ranges_read;
};

// ---- opening --------------------------------------------------------------------------------

static int find_debuginfo(Dwfl_Module *module, void **userdata, const char *module_name,
                          Dwarf_Addr base, const char *path, const char *link, GElf_Word crc,
                          char **found) {
    (void)module, (void)module_name, (void)base;
    const struct object *object = *userdata;
    return debug_open_symbols(object->search, object->build, path, link, crc, found);
}

static int find_no_elf(Dwfl_Module *module, void **userdata, const char *module_name,
                       Dwarf_Addr base, char **path, Elf **elf) {
    (void)module, (void)userdata, (void)module_name, (void)base, (void)path, (void)elf;
    return -1;
}

struct object *object_open(const struct debug_search *search, const struct build *build) {
    static const Dwfl_Callbacks callbacks = {.find_elf = find_no_elf,
                                             .find_debuginfo = find_debuginfo,
                                             .section_address = dwfl_offline_section_address};
    struct object *object = allocate(1, sizeof *object);
    void **userdata;
    object->search = search;
    object->build = build;
    int fd = debug_open_object(search, build, &object->reason);
    if (fd < 0) return object;
    object->reason = "the file is damaged or no ELF file";
    object->dwfl = dwfl_begin(&callbacks);
    if (object->dwfl)
        // At the addresses that stand in the file itself.
        object->module = dwfl_report_elf(object->dwfl, "object", build->path, fd, 0, true);
    if (!object->module) {
        close(fd);
        return object;
    }
    dwfl_report_end(object->dwfl, NULL, NULL);
    dwfl_module_info(object->module, &userdata, NULL, NULL, NULL, NULL, NULL, NULL);
    *userdata = object;
    object->reason = NULL;
    return object;
}

static void free_unit(void *unit) {
    free(((struct unit *)unit)->functions.at);
    free(unit);
}

void object_close(struct object *object) {
    tdestroy(object->units, free_unit);
    free(object->unit_ranges.at);
    free(object->symbol);
    if (object->dwfl) dwfl_end(object->dwfl);
    free(object);
}

const char *object_reason(const struct object *object) {
    return object->reason;
}

static void read_dwarf(struct object *object) {
    if (object->dwarf_read) return;
    object->dwarf_read = true;
    if (object->module) object->dwarf = dwfl_module_getdwarf(object->module, &object->bias);
}

bool object_has_lines(struct object *object) {
    read_dwarf(object);
    return object->dwarf != NULL;
}

// ---- names ----------------------------------------------------------------------------------

static bool is_mangled(const char *name) {
    return name[0] == '_' && (name[1] == 'Z' || name[1] == 'R');
}

struct text {
    char *out;
    size_t used, room;
};

static void append(const char *part, size_t bytes, void *context) {
    struct text *text = context;
    size_t n = text->room - text->used < bytes ? text->room - text->used : bytes;
    memcpy(text->out + text->used, part, n);
    text->used += n;
}

// Clones that a compiler makes of a function: foo.cold is foo.
static size_t without_clone(const char *name) {
    static const char *const suffixes[] = {".cold",      ".part.", ".isra.",     ".constprop.",
                                           ".lto_priv.", ".llvm.", ".localalias"};
    size_t n = strlen(name);
    for (size_t i = 0; i < sizeof suffixes / sizeof suffixes[0]; i++) {
        const char *at = strstr(name + (n > 0), suffixes[i]);
        if (at && (size_t)(at - name) < n) n = (size_t)(at - name);
    }
    return n;
}

// The name as in the source, without parameters. Into a buffer of bounded size, since a short
// mangled name can stand for one of any length.
static void demangle(const char *name, char out[SYMBOL_NAME]) {
    char plain[4096];
    struct text text = {out, 0, SYMBOL_NAME - 1};
    size_t n = without_clone(name);
    bool done = false;
    if (n < sizeof plain && is_mangled(name)) {
        memcpy(plain, name, n);
        plain[n] = '\0';
        done = rust_demangle_callback(plain, DMGL_NO_OPTS, append, &text) != 0;
        if (!done) {
            text.used = 0;
            done = cplus_demangle_v3_callback(plain, DMGL_NO_OPTS, append, &text) != 0;
        }
    }
    if (!done || !text.used) {
        text.used = 0;
        append(name, n, &text);
    }
    out[text.used] = '\0';
}

static int by_address(const void *x, const void *y) {
    const struct named *a = x, *b = y;
    if (a->address != b->address) return a->address < b->address ? -1 : 1;
    return a->rank - b->rank;
}

static bool is_function(const GElf_Sym *symbol, const char *name) {
    int type = GELF_ST_TYPE(symbol->st_info);
    // Functions written in assembler often have no type; "$x" and the like mark kinds of code.
    bool may_be = type == STT_FUNC || type == STT_GNU_IFUNC ||
                  (type == STT_NOTYPE && GELF_ST_BIND(symbol->st_info) != STB_LOCAL);
    return may_be && name && *name && *name != '$';
}

// How far it reaches: to the end of its section where it does not say. 0 = it is no code.
static uint64_t size_of(const GElf_Sym *symbol, GElf_Addr address, Elf *elf, GElf_Word index) {
    GElf_Shdr section;
    if (symbol->st_size) return symbol->st_size;
    Elf_Scn *found = elf ? elf_getscn(elf, index) : NULL;
    if (!found || !gelf_getshdr(found, &section) || !(section.sh_flags & SHF_EXECINSTR)) return 0;
    uint64_t offset = address - section.sh_addr;
    return offset < section.sh_size ? section.sh_size - offset : 0;
}

static void read_symbols(struct object *object) {
    if (object->symbols_read) return;
    object->symbols_read = true;
    int count = object->module ? dwfl_module_getsymtab(object->module) : 0;
    if (count <= 0) return;
    object->symbol = allocate((size_t)count, sizeof object->symbol[0]);
    for (int i = 0; i < count; i++) {
        GElf_Sym symbol;
        GElf_Addr address;
        GElf_Word section;
        Elf *elf = NULL;
        const char *name =
            dwfl_module_getsym_info(object->module, i, &symbol, &address, &section, &elf, NULL);
        if (!is_function(&symbol, name) || section == SHN_UNDEF || section == SHN_ABS) continue;
        uint64_t size = size_of(&symbol, address, elf, section);
        int bind = GELF_ST_BIND(symbol.st_info);
        int rank = bind == STB_GLOBAL ? 2 : bind == STB_WEAK ? 1 : 0;
        if (size) object->symbol[object->symbols++] = (struct named){address, size, name, rank};
    }
    qsort(object->symbol, object->symbols, sizeof object->symbol[0], by_address);
}

// The symbol whose code an address is in.
static const struct named *symbol_at(struct object *object, uint64_t address) {
    read_symbols(object);
    size_t low = 0, high = object->symbols;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (object->symbol[middle].address <= address)
            low = middle + 1;
        else
            high = middle;
    }
    // Of several at one address the last; a local label within a function hides it not.
    for (unsigned tries = 0; low && tries < 8; low--, tries++) {
        const struct named *s = &object->symbol[low - 1];
        if (address - s->address < s->size) return s;
    }
    return NULL;
}

bool object_name(struct object *object, uint64_t address, char out[SYMBOL_NAME]) {
    const struct named *symbol = symbol_at(object, address);
    if (!symbol) return false;
    demangle(symbol->name, out);
    return true;
}

// ---- ranges ---------------------------------------------------------------------------------

static void add_ranges(struct ranges *ranges, Dwarf_Die *die, Dwarf_Off offset) {
    Dwarf_Addr base, low, high;
    for (ptrdiff_t at = 0; (at = dwarf_ranges(die, at, &base, &low, &high)) > 0;) {
        // Functions that the linker dropped are left at address 0.
        if (low == 0 || low >= high) continue;
        if (ranges->count == ranges->room) {
            ranges->room = ranges->room ? 2 * ranges->room : 64;
            ranges->at = realloc(ranges->at, ranges->room * sizeof ranges->at[0]);
            if (!ranges->at) exit(fail(EXIT_DAMAGED, "out of memory"));
        }
        ranges->at[ranges->count++] = (struct range){low, high, offset};
    }
}

static int by_low(const void *x, const void *y) {
    const struct range *a = x, *b = y;
    return a->low < b->low ? -1 : a->low > b->low;
}

static void sort_ranges(struct ranges *ranges) {
    if (ranges->count) qsort(ranges->at, ranges->count, sizeof ranges->at[0], by_low);
}

// The range that holds an address. Ranges of units and of functions do not overlap in a file that
// makes sense; of those that do the nearest few are looked at.
static const struct range *range_at(const struct ranges *ranges, uint64_t address) {
    size_t low = 0, high = ranges->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (ranges->at[middle].low <= address)
            low = middle + 1;
        else
            high = middle;
    }
    for (unsigned tries = 0; low && tries < 8; low--, tries++)
        if (address < ranges->at[low - 1].high) return &ranges->at[low - 1];
    return NULL;
}

// ---- units and functions --------------------------------------------------------------------

static int by_offset(const void *x, const void *y) {
    const struct unit *a = x, *b = y;
    return a->offset < b->offset ? -1 : a->offset > b->offset;
}

// What may hold functions. Bodies of functions, too: local classes and nested functions.
static bool may_hold_functions(int tag) {
    switch (tag) {
    case DW_TAG_namespace:
    case DW_TAG_module:
    case DW_TAG_subprogram:
    case DW_TAG_lexical_block:
    case DW_TAG_try_block:
    case DW_TAG_catch_block:
    case DW_TAG_class_type:
    case DW_TAG_structure_type:
    case DW_TAG_union_type:
        return true;
    }
    return false;
}

static void collect_functions(struct unit *unit, Dwarf_Die *parent, unsigned depth) {
    Dwarf_Die child;
    if (depth > MAX_DEPTH || dwarf_child(parent, &child) != 0) return;
    do {
        int tag = dwarf_tag(&child);
        if (tag == DW_TAG_subprogram) add_ranges(&unit->functions, &child, dwarf_dieoffset(&child));
        if (may_hold_functions(tag)) collect_functions(unit, &child, depth + 1);
    } while (dwarf_siblingof(&child, &child) == 0);
}

// Not all compilers list their units by address (.debug_aranges): then the units tell.
static bool find_unit(struct object *object, uint64_t address, Dwarf_Die *out) {
    if (dwarf_addrdie(object->dwarf, address, out)) return true;
    if (!object->unit_ranges_read) {
        object->unit_ranges_read = true;
        Dwarf_CU *unit = NULL;
        Dwarf_Die die;
        while (dwarf_get_units(object->dwarf, unit, &unit, NULL, NULL, &die, NULL) == 0)
            add_ranges(&object->unit_ranges, &die, dwarf_dieoffset(&die));
        sort_ranges(&object->unit_ranges);
    }
    const struct range *range = range_at(&object->unit_ranges, address);
    return range && dwarf_offdie(object->dwarf, range->die, out);
}

static struct unit *unit_at(struct object *object, uint64_t address) {
    Dwarf_Die die;
    uint8_t type = 0;
    if (!find_unit(object, address, &die)) return NULL;
    struct unit key = {.offset = dwarf_dieoffset(&die)};
    struct unit **node = tsearch(&key, &object->units, by_offset);
    if (!node) return NULL;
    if (*node != &key) return *node;
    struct unit *unit = *node = allocate(1, sizeof *unit);
    *unit = (struct unit){.offset = key.offset, .die = die, .scopes = die};
    Dwarf_Die split;
    // Compiled with -gsplit-dwarf: the entries are in a .dwo file.
    if (dwarf_cu_info(die.cu, NULL, &type, NULL, &split, NULL, NULL, NULL) == 0 &&
        type == DW_UT_skeleton && dwarf_tag(&split) == DW_TAG_compile_unit)
        unit->scopes = split;
    collect_functions(unit, &unit->scopes, 0);
    sort_ranges(&unit->functions);
    return unit;
}

// The inlined functions that hold an address, outermost first.
static unsigned find_inlined(Dwarf_Die *scope, uint64_t address, Dwarf_Die *out, unsigned limit,
                             unsigned depth) {
    Dwarf_Die child;
    if (!limit || depth > MAX_DEPTH || dwarf_child(scope, &child) != 0) return 0;
    do {
        int tag = dwarf_tag(&child);
        bool inlined = tag == DW_TAG_inlined_subroutine;
        bool block =
            tag == DW_TAG_lexical_block || tag == DW_TAG_try_block || tag == DW_TAG_catch_block;
        if ((!inlined && !block) || dwarf_haspc(&child, address) <= 0) continue;
        if (inlined) *out = child;
        return inlined + find_inlined(&child, address, out + inlined, limit - inlined, depth + 1);
    } while (dwarf_siblingof(&child, &child) == 0);
    return 0;
}

// ---- what stands there ----------------------------------------------------------------------

static void put(char *out, size_t room, const char *text) {
    snprintf(out, room, "%s", text ? text : "");
}

static const char *linkage_name(Dwarf_Die *die) {
    Dwarf_Attribute attribute;
    if (dwarf_attr_integrate(die, DW_AT_linkage_name, &attribute) ||
        dwarf_attr_integrate(die, DW_AT_MIPS_linkage_name, &attribute))
        return dwarf_formstring(&attribute);
    return NULL;
}

static void put_inlined(Dwarf_Die *die, char out[SYMBOL_NAME]) {
    const char *linkage = linkage_name(die);
    if (linkage)
        demangle(linkage, out);
    else
        put(out, SYMBOL_NAME, dwarf_diename(die));
}

// gcc gives functions that only their file can see no linkage name; the symbol table knows the
// whole name ("main::{lambda()#1}::operator()", not "operator()").
static void put_function(struct object *object, uint64_t address, Dwarf_Die *die,
                         char out[SYMBOL_NAME]) {
    const struct named *symbol = NULL;
    if (!die || !linkage_name(die)) symbol = symbol_at(object, address);
    if (die && (!symbol || !is_mangled(symbol->name))) put_inlined(die, out);
    if (symbol && !out[0]) demangle(symbol->name, out);
}

static unsigned number_of(Dwarf_Die *die, unsigned name) {
    Dwarf_Attribute attribute;
    Dwarf_Word value;
    if (!dwarf_attr(die, name, &attribute) || dwarf_formudata(&attribute, &value) != 0) return 0;
    return (unsigned)value;
}

// Where an inlined function was called.
static void put_call(struct unit *unit, Dwarf_Die *inlined, struct symbol *out) {
    Dwarf_Files *files;
    size_t count;
    out->line = number_of(inlined, DW_AT_call_line);
    if (dwarf_getsrcfiles(&unit->scopes, &files, &count) != 0) return;
    size_t file = number_of(inlined, DW_AT_call_file);
    if (file < count) put(out->file, sizeof out->file, dwarf_filesrc(files, file, NULL, NULL));
}

static void put_line(struct unit *unit, uint64_t address, struct symbol *out) {
    Dwarf_Line *line = dwarf_getsrc_die(&unit->die, address);
    int number = 0;
    if (!line || dwarf_lineno(line, &number) != 0) return;
    out->line = number > 0 ? (unsigned)number : 0;
    put(out->file, sizeof out->file, dwarf_linesrc(line, NULL, NULL));
}

unsigned object_symbols(struct object *object, uint64_t address, struct symbol *out,
                        unsigned limit) {
    read_dwarf(object);
    if (!object->dwarf || !limit) return 0;
    uint64_t there = address - object->bias;
    struct unit *unit = unit_at(object, there);
    if (!unit) return 0;
    const struct range *range = range_at(&unit->functions, there);
    Dwarf_Die function, inlined[MAX_INLINED];
    unsigned n = 0;
    if (limit > MAX_INLINED) limit = MAX_INLINED;
    bool named =
        range && dwarf_offdie(dwarf_cu_getdwarf(unit->scopes.cu), range->die, &function) != NULL;
    if (named) n = find_inlined(&function, there, inlined, limit - 1, 0);
    for (unsigned i = 0; i <= n; i++) out[i] = (struct symbol){.inlined = i < n};
    put_line(unit, there, &out[0]);
    for (unsigned i = 0; i < n; i++) {
        Dwarf_Die *die = &inlined[n - 1 - i];
        put_inlined(die, out[i].function);
        put_call(unit, die, &out[i + 1]);
    }
    put_function(object, address, named ? &function : NULL, out[n].function);
    return n + 1;
}

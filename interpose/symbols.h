// SPDX-License-Identifier: Apache-2.0
//
// The dynamic symbol tables of the objects loaded in this process, read in place. See symbols.c.
#ifndef MEMWATCH_SYMBOLS_H
#define MEMWATCH_SYMBOLS_H

#include <link.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// One loaded object. Everything points into the object itself, so it holds only as long as the
// object stays loaded: inside a dl_iterate_phdr callback.
struct mw_elf {
    const char *path;   // as the dynamic linker names it; "" for the program itself
    const char *soname; // NULL if it has none
    ElfW(Addr) bias;    // what the linker added to the addresses in the file
    const ElfW(Phdr) * segments;
    size_t segment_count;
    const ElfW(Sym) * symbols;
    const char *strings;
    const ElfW(Half) * versions; // of each symbol; NULL if the object has no versions
    const ElfW(Verdef) * version_definitions;
    size_t version_count;
    const uint32_t *gnu_hash; // one of the two is there
    const uint32_t *hash;
};

// A name with its hash, so that it can be looked up in many objects at the price of one.
struct mw_elf_name {
    const char *text;
    uint32_t hash; // of the DT_GNU_HASH kind
};

struct mw_elf_name mw_elf_name(const char *text);

// False if the object has no dynamic symbol table.
bool mw_elf_read(struct mw_elf *object, const struct dl_phdr_info *info);

bool mw_elf_contains(const struct mw_elf *object, const void *address);

// The address of a function or variable that the object exports; NULL if it does not. With a
// version: the definition of exactly that version, or any in an object without versions. With NULL:
// the default version, else any.
void *mw_elf_find(const struct mw_elf *object, struct mw_elf_name name, const char *version);

#endif

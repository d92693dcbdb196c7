// SPDX-License-Identifier: Apache-2.0
//
// Symbol look-up without the dynamic linker's help.
//
// dlsym and its kin are no use to us: they take a lock that glibc holds while it runs the
// constructors of a dlopen, so a hook on another thread would wait for foreign code; they cannot
// leave out one object; musl has no dlvsym. dl_iterate_phdr, which both C libraries let through,
// tells where each object's dynamic section is, and the rest is the System V ABI's and the GNU
// hash table's published format.
//
// No libc function is called here, since it runs before libc's interceptors of a sanitizer do.
#include "symbols.h"

#include "text.h"

#define VERSION_HIDDEN 0x8000u // in .gnu.version: not the default version of this name

struct mw_elf_name mw_elf_name(const char *text) {
    uint32_t hash = 5381;
    for (const char *c = text; *c; c++) hash = hash * 33 + (unsigned char)*c;
    return (struct mw_elf_name){text, hash};
}

// glibc stores relocated addresses in the dynamic section where that is writable; musl, and glibc
// for the kernel's vDSO, leave what the file says. What is below the load address is not relocated.
static const void *table(const struct mw_elf *object, ElfW(Addr) address) {
    return (const void *)(address < object->bias ? address + object->bias : address);
}

bool mw_elf_read(struct mw_elf *object, const struct dl_phdr_info *info) {
    *object = (struct mw_elf){.path = info->dlpi_name ? info->dlpi_name : "",
                              .bias = info->dlpi_addr,
                              .segments = info->dlpi_phdr,
                              .segment_count = info->dlpi_phnum};
    const ElfW(Dyn) *dynamic = NULL;
    for (size_t i = 0; i < object->segment_count; i++) {
        const ElfW(Phdr) *segment = &object->segments[i];
        if (segment->p_type == PT_DYNAMIC)
            dynamic = (const void *)(object->bias + segment->p_vaddr);
    }
    size_t soname = 0;
    for (; dynamic && dynamic->d_tag != DT_NULL; dynamic++) {
        const void *at = table(object, dynamic->d_un.d_ptr);
        switch (dynamic->d_tag) {
        case DT_SYMTAB:
            object->symbols = at;
            break;
        case DT_STRTAB:
            object->strings = at;
            break;
        case DT_GNU_HASH:
            object->gnu_hash = at;
            break;
        case DT_HASH:
            object->hash = at;
            break;
        case DT_VERSYM:
            object->versions = at;
            break;
        case DT_VERDEF:
            object->version_definitions = at;
            break;
        case DT_VERDEFNUM:
            object->version_count = dynamic->d_un.d_val;
            break;
        case DT_SONAME:
            soname = dynamic->d_un.d_val;
            break;
        }
    }
    // Symbol versions that are only needed, not defined, do not tell definitions apart.
    if (!object->version_definitions) object->versions = NULL;
    if (object->strings && soname) object->soname = object->strings + soname;
    return object->symbols && object->strings && (object->gnu_hash || object->hash);
}

bool mw_elf_contains(const struct mw_elf *object, const void *address) {
    ElfW(Addr) offset = (ElfW(Addr))address - object->bias;
    for (size_t i = 0; i < object->segment_count; i++) {
        const ElfW(Phdr) *segment = &object->segments[i];
        if (segment->p_type == PT_LOAD && offset >= segment->p_vaddr &&
            offset - segment->p_vaddr < segment->p_memsz)
            return true;
    }
    return false;
}

static const char *version_name(const struct mw_elf *object, unsigned index) {
    const ElfW(Verdef) *definition = object->version_definitions;
    for (size_t i = 0; i < object->version_count; i++) {
        if ((definition->vd_ndx & ~VERSION_HIDDEN) == index) {
            const ElfW(Verdaux) *first =
                (const void *)((const char *)definition + definition->vd_aux);
            return object->strings + first->vda_name;
        }
        definition = (const void *)((const char *)definition + definition->vd_next);
    }
    return "";
}

// How well a symbol answers a question. ACCEPTABLE: where nothing better is there. The dynamic
// linker too lets an unversioned symbol (VER_NDX_GLOBAL) stand for each version that is asked for.
enum match { OTHER, ACCEPTABLE, EXACT };

static enum match match(const struct mw_elf *object, size_t index, const char *name,
                        const char *version) {
    const ElfW(Sym) *symbol = &object->symbols[index];
    unsigned type = symbol->st_info & 15, binding = symbol->st_info >> 4;
    if (symbol->st_shndx == SHN_UNDEF || symbol->st_value == 0 || binding == STB_LOCAL ||
        (type != STT_FUNC && type != STT_OBJECT && type != STT_NOTYPE) ||
        !mw_same(object->strings + symbol->st_name, name))
        return OTHER;
    if (!object->versions) return EXACT;
    unsigned entry = object->versions[index];
    if (!version) return entry & VERSION_HIDDEN ? ACCEPTABLE : EXACT;
    if (entry == VER_NDX_GLOBAL) return ACCEPTABLE;
    return mw_same(version_name(object, entry & ~VERSION_HIDDEN), version) ? EXACT : OTHER;
}

// The best of the symbols seen so far.
struct search {
    const struct mw_elf *object;
    const char *name, *version;
    size_t best;
    enum match how;
};

static bool consider(struct search *s, size_t index) {
    enum match how = match(s->object, index, s->name, s->version);
    if (how > s->how) {
        s->how = how;
        s->best = index;
    }
    return s->how == EXACT;
}

// Header, Bloom filter of words, buckets, then one hash a symbol whose lowest bit ends a chain.
static void search_gnu(struct search *s, uint32_t hash) {
    const uint32_t *header = s->object->gnu_hash;
    uint32_t bucket_count = header[0], first = header[1], words = header[2], shift = header[3];
    const ElfW(Addr) *filter = (const void *)(header + 4);
    const uint32_t *buckets = (const void *)(filter + words);
    const uint32_t *hashes = buckets + bucket_count;
    const unsigned bits = 8 * sizeof *filter;
    if (!bucket_count) return;
    ElfW(Addr) word = filter[hash / bits & (words - 1)];
    if (!(word >> hash % bits & word >> (hash >> shift) % bits & 1)) return;
    uint32_t index = buckets[hash % bucket_count];
    if (index < first) return; // an empty bucket
    for (;; index++) {
        uint32_t there = hashes[index - first];
        if ((there | 1) == (hash | 1) && consider(s, index)) return;
        if (there & 1) return;
    }
}

static void search_sysv(struct search *s) {
    const uint32_t *header = s->object->hash, *buckets = header + 2;
    if (!header[0]) return;
    const uint32_t *chain = buckets + header[0];
    uint32_t hash = 0;
    for (const char *c = s->name; *c; c++) {
        hash = (hash << 4) + (unsigned char)*c;
        hash ^= hash >> 24 & 0xf0;
    }
    for (uint32_t index = buckets[(hash & 0x0fffffff) % header[0]]; index; index = chain[index])
        if (consider(s, index)) return;
}

void *mw_elf_find(const struct mw_elf *object, struct mw_elf_name name, const char *version) {
    struct search s = {object, name.text, version, 0, OTHER};
    if (object->gnu_hash)
        search_gnu(&s, name.hash);
    else
        search_sysv(&s);
    return s.how == OTHER ? NULL : (void *)(object->bias + object->symbols[s.best].st_value);
}

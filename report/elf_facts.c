// SPDX-License-Identifier: Apache-2.0
//
// What an ELF file says about how it would reach the GPU driver (elf_facts.h).
#define _GNU_SOURCE // memmem
#include "elf_facts.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <gelf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// cuMemAlloc but not cublasCreate, cudaMalloc but not cudnnCreate.
static void count_import(struct elf_facts *f, const char *name) {
    struct elf_imports *kind = NULL;
    if (strncmp(name, "cuda", 4) == 0 && isupper((unsigned char)name[4]))
        kind = &f->runtime;
    else if (strncmp(name, "cu", 2) == 0 && isupper((unsigned char)name[2]))
        kind = &f->driver;
    if (kind && kind->count++ == 0) snprintf(kind->example, sizeof kind->example, "%s", name);
    f->dlsym |= strcmp(name, "dlsym") == 0 || strcmp(name, "dlvsym") == 0;
    f->dlmopen |= strcmp(name, "dlmopen") == 0;
}

static void read_symbols(Elf *elf, Elf_Scn *section, const GElf_Shdr *header, struct elf_facts *f) {
    Elf_Data *data = elf_getdata(section, NULL);
    size_t count = data && header->sh_entsize ? header->sh_size / header->sh_entsize : 0;
    for (size_t i = 0; i < count; i++) {
        GElf_Sym symbol;
        if (!gelf_getsym(data, (int)i, &symbol)) return;
        const char *name = elf_strptr(elf, header->sh_link, symbol.st_name);
        if (!name) continue;
        if (header->sh_type == SHT_DYNSYM && symbol.st_shndx == SHN_UNDEF) count_import(f, name);
        // Every object file of NVIDIA's archive has local names of this kind.
        f->static_cudart |= strncmp(name, "libcudart_static_", 17) == 0;
    }
}

static void read_dynamic(Elf *elf, Elf_Scn *section, const GElf_Shdr *header, struct elf_facts *f) {
    Elf_Data *data = elf_getdata(section, NULL);
    size_t count = data && header->sh_entsize ? header->sh_size / header->sh_entsize : 0;
    for (size_t i = 0; i < count; i++) {
        GElf_Dyn entry;
        if (!gelf_getdyn(data, (int)i, &entry) || entry.d_tag == DT_NULL) return;
        if (entry.d_tag != DT_NEEDED && entry.d_tag != DT_SONAME) continue;
        const char *name = elf_strptr(elf, header->sh_link, entry.d_un.d_val);
        if (!name) continue;
        if (entry.d_tag == DT_SONAME)
            snprintf(f->soname, sizeof f->soname, "%s", name);
        else if (f->needed_count < ELF_NEEDED_MAX && (f->needed[f->needed_count] = strdup(name)))
            f->needed_count++;
    }
}

static bool has_text(const Elf_Data *data, const char *text) {
    return data->d_buf && memmem(data->d_buf, data->d_size, text, strlen(text));
}

// Texts stay in a file whose symbols were stripped.
static void read_texts(Elf_Scn *section, struct elf_facts *f) {
    Elf_Data *data = elf_rawdata(section, NULL);
    if (!data) return;
    f->names_get_proc |= has_text(data, "cuGetProcAddress");
    f->names_driver |= has_text(data, "libcuda.so");
    f->names_errors |= has_text(data, "cudaErrorMemoryAllocation");
}

static void read_segments(Elf *elf, struct elf_facts *f) {
    size_t count = 0;
    bool dynamic = false;
    elf_getphdrnum(elf, &count);
    for (size_t i = 0; i < count; i++) {
        GElf_Phdr segment;
        if (!gelf_getphdr(elf, (int)i, &segment)) break;
        dynamic |= segment.p_type == PT_DYNAMIC;
        if (segment.p_type != PT_INTERP) continue;
        Elf_Data *data =
            elf_getdata_rawchunk(elf, (int64_t)segment.p_offset, segment.p_filesz, ELF_T_BYTE);
        if (data && data->d_buf)
            snprintf(f->interpreter, sizeof f->interpreter, "%.*s", (int)data->d_size,
                     (const char *)data->d_buf);
    }
    GElf_Ehdr header;
    if (!gelf_getehdr(elf, &header)) return;
    // A static position-independent program has a dynamic segment but no name and no dependency; a
    // library without dependencies is no program: it has a soname.
    bool fixed = header.e_type == ET_EXEC;
    bool movable = header.e_type == ET_DYN && header.e_entry && !f->soname[0];
    f->is_static = !f->interpreter[0] && ((fixed && !dynamic) || (movable && !f->needed_count));
    f->executable = f->interpreter[0] || f->is_static;
}

static void read_sections(Elf *elf, struct elf_facts *f) {
    for (Elf_Scn *section = NULL; (section = elf_nextscn(elf, section));) {
        GElf_Shdr header;
        if (!gelf_getshdr(section, &header)) continue;
        if (header.sh_type == SHT_DYNSYM || header.sh_type == SHT_SYMTAB)
            read_symbols(elf, section, &header, f);
        else if (header.sh_type == SHT_DYNAMIC)
            read_dynamic(elf, section, &header, f);
        else if (header.sh_type == SHT_PROGBITS && !(header.sh_flags & SHF_EXECINSTR) &&
                 header.sh_flags & SHF_ALLOC)
            read_texts(section, f);
    }
}

const char *elf_facts_read(const char *path, struct elf_facts *out) {
    *out = (struct elf_facts){0};
    elf_version(EV_CURRENT);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return strerror(errno);
    Elf *elf = elf_begin(fd, ELF_C_READ_MMAP, NULL);
    GElf_Ehdr header;
    const char *error = NULL;
    if (!elf || elf_kind(elf) != ELF_K_ELF || !gelf_getehdr(elf, &header)) {
        error = "not an ELF file";
    } else {
        out->bits = gelf_getclass(elf) == ELFCLASS32 ? 32 : 64;
        out->machine = header.e_machine;
        read_sections(elf, out);
        read_segments(elf, out);
        // What any CUDA runtime has, and hardly anything else: the names of its errors, the
        // driver's file, and the one function that it looks up there. Its own library has them,
        // too.
        out->static_cudart |= out->names_errors && out->names_driver && out->names_get_proc;
        if (strncmp(out->soname, "libcudart.", 10) == 0) out->static_cudart = false;
    }
    if (elf) elf_end(elf);
    close(fd);
    return error;
}

void elf_facts_free(struct elf_facts *facts) {
    for (size_t i = 0; i < facts->needed_count; i++) free(facts->needed[i]);
    facts->needed_count = 0;
}

const char *elf_machine_name(int machine) {
    static char other[32];
    switch (machine) {
    case EM_X86_64:
        return "x86-64";
    case EM_386:
        return "x86";
    case EM_AARCH64:
        return "AArch64";
    case EM_ARM:
        return "ARM";
    case EM_PPC64:
        return "POWER";
    case EM_RISCV:
        return "RISC-V";
    }
    snprintf(other, sizeof other, "machine %d", machine);
    return other;
}

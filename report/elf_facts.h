// SPDX-License-Identifier: Apache-2.0
//
// What an ELF file says about how it would reach the GPU driver. Read with libelf; nothing of the
// file is executed.
#ifndef MEMWATCH_ELF_FACTS_H
#define MEMWATCH_ELF_FACTS_H

#include <stdbool.h>
#include <stddef.h>

#define ELF_NEEDED_MAX 256

// How many functions of one kind it imports by name, and one of them.
struct elf_imports {
    unsigned count;
    char example[64];
};

struct elf_facts {
    int bits;    // 32 or 64
    int machine; // EM_* of <elf.h>
    bool
        executable; // not a library: it has a start address and a program interpreter, or is static
    bool is_static; // no dynamic loader: nothing can be preloaded
    char interpreter[256];
    char soname[128];
    char *needed[ELF_NEEDED_MAX]; // direct dependencies; owned
    size_t needed_count;

    struct elf_imports driver;  // cuMemAlloc_v2, …
    struct elf_imports runtime; // cudaMalloc, …
    bool dlsym, dlmopen;        // imports it
    bool names_get_proc;        // has the text "cuGetProcAddress": looks functions up in the driver
    bool names_driver;          // has the text "libcuda.so"
    bool names_errors;          // has the name of a runtime error as text
    bool static_cudart;         // has the CUDA runtime within (libcudart_static.a)
};

// NULL if all is well, else why not in a few words: "not an ELF file", or errno's text. Free with
// elf_facts_free in any case.
const char *elf_facts_read(const char *path, struct elf_facts *out);
void elf_facts_free(struct elf_facts *facts);

// "x86-64", "AArch64", … or "machine 123" (a static buffer: not thread-safe).
const char *elf_machine_name(int machine);

#endif

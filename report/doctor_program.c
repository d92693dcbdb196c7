// SPDX-License-Identifier: Apache-2.0
//
// memwatch doctor, the half about a program: can the library be preloaded into it, by which ways
// does it reach the driver, and which of its doings stay unseen. The program is read, not run; its
// dependencies are told by the dynamic loader as ldd asks it (LD_TRACE_LOADED_OBJECTS): it maps
// them, also past one that is missing, and runs none.
#include "doctor.h"

#include "elf_facts.h"

#include <ctype.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#define SCRIPT_DEPTH 4 // as the kernel follows interpreters of interpreters

static const char *basename_of(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

// As execvp looks for it.
static bool find_in_path(const char *command, char out[PATH_MAX]) {
    struct stat st;
    if (strchr(command, '/'))
        return snprintf(out, PATH_MAX, "%s", command) < PATH_MAX && stat(out, &st) == 0 &&
               S_ISREG(st.st_mode);
    const char *path = getenv("PATH");
    for (const char *p = path ? path : "/bin:/usr/bin"; *command;) {
        size_t n = strcspn(p, ":");
        if (snprintf(out, PATH_MAX, "%.*s/%s", (int)n, n ? p : ".", command) < PATH_MAX &&
            access(out, X_OK) == 0 && stat(out, &st) == 0 && S_ISREG(st.st_mode))
            return true;
        if (!p[n]) break;
        p += n + 1;
    }
    return false;
}

// The program that a script's first line names; `env` is looked through. False: not a script.
static bool script_interpreter(const char *path, char out[PATH_MAX]) {
    char line[512];
    FILE *file = fopen(path, "re");
    size_t n = file ? fread(line, 1, sizeof line - 1, file) : 0;
    if (file) fclose(file);
    line[n] = '\0';
    if (strncmp(line, "#!", 2) != 0) return false;
    line[strcspn(line, "\n")] = '\0';
    char *save = NULL, *word = strtok_r(line + 2, " \t", &save);
    if (!word) return false;
    if (strcmp(basename_of(word), "env") == 0) do
            word = strtok_r(NULL, " \t", &save);
        while (word && (*word == '-' || strchr(word, '=')));
    return word && find_in_path(word, out);
}

// ---- can it be preloaded --------------------------------------------------------------------

static bool gains_privileges(const char *path) {
    struct stat st;
    if (stat(path, &st) != 0) return false;
    if (st.st_mode & S_ISUID && st.st_uid != getuid()) return true;
    if (st.st_mode & S_ISGID && st.st_gid != getgid()) return true;
    return getuid() != 0 && getxattr(path, "security.capability", NULL, 0) > 0;
}

static bool can_be_preloaded(const char *path, const struct elf_facts *program,
                             const char *library) {
    struct elf_facts own;
    bool known = *library && !elf_facts_read(library, &own);
    bool other = known && (own.bits != program->bits || own.machine != program->machine);
    if (known) elf_facts_free(&own);
    if (!program->executable) {
        tell(PROBLEM, "it is a library, not a program");
        return false;
    }
    const char *machine = elf_machine_name(program->machine);
    if (other)
        tell(PROBLEM,
             "it is %d-bit, for %s, and the library is not: the loader says so in one "
             "line and runs it without",
             program->bits, machine);
    if (program->is_static)
        tell(PROBLEM, "it is linked statically: there is no dynamic loader that could preload "
                      "anything; what it starts can be recorded");
    if (gains_privileges(path))
        tell(PROBLEM, "it gains privileges (setuid, setgid or file capabilities): the loader "
                      "ignores LD_PRELOAD; run it as the user it becomes");
    if (other || program->is_static || gains_privileges(path)) return false;
    tell(OK, "%d-bit, %s, loaded by %s", program->bits, machine, program->interpreter);
    return true;
}

// ---- by which ways does it reach the driver --------------------------------------------------

// What was found in the program and in the libraries that it needs, and where first.
struct ways {
    struct elf_imports imports;
    char importer[128];
    char dlsym_user[128], get_proc_user[128], dlmopen_user[128], static_runtime[128];
    char shared_runtime[PATH_MAX], libpython[PATH_MAX];
};

static void note_first(char *where, size_t bytes, bool yes, const char *name) {
    if (yes && !*where) snprintf(where, bytes, "%s", name);
}

static void add_object(struct ways *w, const char *path, const struct elf_facts *f) {
    const char *name = basename_of(path);
    const struct elf_imports *imports = f->runtime.count ? &f->runtime : &f->driver;
    if (imports->count && !w->imports.count) {
        w->imports = *imports;
        snprintf(w->importer, sizeof w->importer, "%s", name);
    }
    if (strncmp(name, "libcudart.so", 12) == 0)
        note_first(w->shared_runtime, sizeof w->shared_runtime, true, path);
    note_first(w->libpython, sizeof w->libpython, strncmp(name, "libpython3", 10) == 0, path);
    note_first(w->static_runtime, sizeof w->static_runtime, f->static_cudart, name);
    note_first(w->dlsym_user, sizeof w->dlsym_user, f->dlsym && f->names_driver, name);
    note_first(w->get_proc_user, sizeof w->get_proc_user, f->names_get_proc, name);
    // NVIDIA's runtime imports dlmopen, too, but opens the driver with dlopen.
    bool is_runtime = f->static_cudart || strncmp(name, "libcudart.so", 12) == 0;
    note_first(w->dlmopen_user, sizeof w->dlmopen_user, f->dlmopen && !is_runtime, name);
}

// The loader named in the file is executed: only one of the system's.
static bool is_system_loader(const char *interpreter) {
    static const char *const folders[] = {"/lib", "/usr/lib", "/nix/store/", "/gnu/store/"};
    for (size_t i = 0; i < sizeof folders / sizeof folders[0]; i++)
        if (strncmp(interpreter, folders[i], strlen(folders[i])) == 0)
            return strncmp(basename_of(interpreter), "ld-", 3) == 0 &&
                   access(interpreter, X_OK) == 0;
    return false;
}

// One line of its list: "libX.so.1 => /path/libX.so.1 (0x…)", "libX.so.1 => not found".
static void add_dependency(struct ways *w, char *line) {
    char *arrow = strstr(line, " => ");
    if (!arrow) return;
    *arrow = '\0';
    char *path = arrow + 4, *end = strrchr(path, '(');
    while (isspace((unsigned char)*line)) line++;
    if (strncmp(path, "not found", 9) == 0) {
        tell(PROBLEM, "%s, which it needs, is not found (LD_LIBRARY_PATH?): it cannot start", line);
        if (strncmp(line, "libcudart.so", 12) == 0)
            note_first(w->shared_runtime, sizeof w->shared_runtime, true, line);
        return;
    }
    if (end && end > path) end[-1] = '\0';
    struct elf_facts facts;
    if (*path == '/' && !elf_facts_read(path, &facts)) add_object(w, path, &facts);
    elf_facts_free(&facts);
}

static void add_dependencies(struct ways *w, char *path, struct elf_facts *program) {
    static char text[1 << 18];
    if (!is_system_loader(program->interpreter) ||
        capture((char *[]){"/usr/bin/env", "LD_TRACE_LOADED_OBJECTS=1", program->interpreter, path,
                           NULL},
                text, sizeof text) < 0) {
        tell(NOTE, "its loader %s is not one of the system's: its libraries are not examined",
             program->interpreter);
        return;
    }
    char *save = NULL;
    for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
        add_dependency(w, line);
}

static void tell_runtime(const struct ways *w) {
    if (*w->shared_runtime) tell(OK, "CUDA runtime: %s", w->shared_runtime);
    if (*w->static_runtime) tell(OK, "CUDA runtime: static, within %s", w->static_runtime);
    if (*w->shared_runtime || *w->static_runtime) return;
    if (w->imports.count || *w->dlsym_user || *w->get_proc_user)
        tell(OK, "no CUDA runtime: it uses the driver itself");
    else
        tell(NOTE, "no sign of CUDA in it or in the libraries it needs; what it loads while it "
                   "runs, as Python does, is recorded all the same");
}

static void tell_way(const char *way, const char *user, const char *how) {
    if (*user)
        tell(OK, "way to the driver, %s: %s %s", way, user, how);
    else
        tell(OK, "way to the driver, %s: watched too, in case it is used later", way);
}

static void tell_ways(const struct ways *w) {
    char how[160];
    tell_runtime(w);
    snprintf(how, sizeof how, "imports %u function%s by name, such as %s", w->imports.count,
             w->imports.count == 1 ? "" : "s", w->imports.example);
    tell_way("linked functions", w->importer, how);
    tell_way("dlsym", w->dlsym_user, "opens libcuda.so by itself");
    tell_way("cuGetProcAddress", w->get_proc_user, "asks the driver for its functions");
    if (*w->dlmopen_user)
        tell(NOTE, "%s can open namespaces of its own (dlmopen): a driver loaded there is not seen",
             w->dlmopen_user);
}

static void tell_unseen(void) {
    heading("Never seen, whatever the program");
    tell(NOTE,
         "what the driver needs for itself (contexts, kernels' code and stacks, malloc within "
         "kernels) and the memory of other processes: the report gives them together, as "
         "`unattributed`, if the program asked cuMemGetInfo");
    tell(NOTE, "calls by name from a plug-in opened with RTLD_DEEPBIND, which binds to the driver "
               "before us: counted in the report; MEMWATCH_DEEPBIND=clear makes them seen");
    tell(NOTE, "a driver loaded into a namespace of its own (dlmopen); programs started from it "
               "that are static, setuid, or for another machine");
}

bool doctor_program(char *const argv[], const char *library) {
    char path[PATH_MAX], interpreter[PATH_MAX];
    if (!find_in_path(argv[0], path)) return false;
    char *const *arguments = argv + 1;
    heading("Program %s", path);
    char python[PATH_MAX] = ""; // a script of that name, as pyenv's
    unsigned minor;
    for (int depth = 0; depth < SCRIPT_DEPTH && script_interpreter(path, interpreter); depth++) {
        tell(OK, "a script: %s runs it", interpreter);
        if (is_python(path, &minor)) memcpy(python, path, sizeof python);
        memcpy(path, interpreter, sizeof path);
        arguments = NULL;
    }
    struct elf_facts program;
    const char *error = elf_facts_read(path, &program);
    if (error) {
        tell(PROBLEM, "%s: %s", path, error);
    } else if (can_be_preloaded(path, &program, library)) {
        struct ways ways = {0};
        add_object(&ways, path, &program);
        add_dependencies(&ways, path, &program);
        tell_ways(&ways);
        doctor_python(path, ways.libpython, arguments);
        if (*python && !is_python(path, &minor))
            tell(NOTE,
                 "which Python %s starts is not known: name that one, as `%s -c \"import sys; "
                 "print(sys.executable)\"` tells it",
                 python, python);
    }
    elf_facts_free(&program);
    tell_unseen();
    return true;
}

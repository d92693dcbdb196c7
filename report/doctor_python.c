// SPDX-License-Identifier: Apache-2.0
//
// memwatch doctor, what it adds of a Python: are its lines read, is there a PyTorch whose tensors
// are recorded, is the script there. Names and files are looked at; nothing is run.
#include "doctor.h"

#include "../interpose/python_layout.h" // which versions are read

#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// ---- which one ------------------------------------------------------------------------------

bool is_python(const char *path, unsigned *minor) {
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    if (strncmp(name, "lib", 3) == 0) name += 3;
    if (strncmp(name, "python", 6) != 0) return false;
    *minor = strncmp(name, "python3.", 8) == 0 ? (unsigned)strtoul(name + 8, NULL, 10) : 0;
    return true;
}

static void tell_version(unsigned minor) {
    if (!minor)
        tell(NOTE,
             "a Python whose name does not tell its version; the lines of 3.%d to 3.%d are read",
             MW_PYTHON_OLDEST, MW_PYTHON_NEWEST);
    else if (minor < MW_PYTHON_OLDEST || minor > MW_PYTHON_NEWEST)
        tell(NOTE,
             "Python 3.%u: its lines are not read, those of 3.%d to 3.%d are; its stacks are "
             "of native code alone",
             minor, MW_PYTHON_OLDEST, MW_PYTHON_NEWEST);
    else
        tell(OK, "Python 3.%u: its lines are read", minor);
}

// ---- PyTorch --------------------------------------------------------------------------------

struct torch {
    char version[64];
    bool gpu; // built for one
};

// A line "name = 'text'", perhaps with a type: the text, NULL if it is another line or None.
static const char *assigned(char *line, const char *name) {
    size_t n = strlen(name);
    if (strncmp(line, name, n) != 0 || !strchr(" :=", line[n])) return NULL;
    char *text = strpbrk(line, "'\""), *end = text ? strchr(text + 1, *text) : NULL;
    if (!end) return NULL;
    *end = '\0';
    return text + 1;
}

// What the file says that its build left in the package.
static bool read_torch(const char *folder, struct torch *out) {
    static const char *const gpus[] = {"cuda", "hip", "xpu"};
    char path[PATH_MAX], line[256];
    *out = (struct torch){0};
    if (snprintf(path, sizeof path, "%s/torch/version.py", folder) >= (int)sizeof path)
        return false;
    FILE *file = fopen(path, "re");
    if (!file) return false;
    while (fgets(line, sizeof line, file)) {
        const char *version = assigned(line, "__version__");
        if (version) snprintf(out->version, sizeof out->version, "%s", version);
        for (size_t i = 0; i < sizeof gpus / sizeof gpus[0]; i++)
            if (assigned(line, gpus[i])) out->gpu = true;
    }
    fclose(file);
    return *out->version;
}

// True if there is one in that folder.
__attribute__((format(printf, 1, 2))) static bool torch_in(const char *format, ...) {
    char folder[PATH_MAX];
    struct torch torch;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(folder, sizeof folder, format, arguments);
    va_end(arguments);
    if (!read_torch(folder, &torch)) return false;
    unsigned major = 0, minor = 0;
    sscanf(torch.version, "%u.%u", &major, &minor);
    if (!torch.gpu)
        tell(NOTE, "PyTorch %s in %s is built for no GPU", torch.version, folder);
    else if (major < 1 || (major == 1 && minor < 6))
        tell(NOTE, "PyTorch %s in %s: its tensors are not recorded, those of 1.6 and later are",
             torch.version, folder);
    else
        tell(OK, "PyTorch %s in %s: its tensors are recorded", torch.version, folder);
    return true;
}

// Of /usr/bin/python3: /usr.
static void prefix_of(const char *program, char out[PATH_MAX]) {
    snprintf(out, PATH_MAX, "%s", program);
    for (int up = 0; up < 2; up++) {
        char *slash = strrchr(out, '/');
        if (slash) *slash = '\0';
    }
}

static bool is_environment(const char *prefix) {
    char path[PATH_MAX];
    return snprintf(path, sizeof path, "%s/pyvenv.cfg", prefix) < (int)sizeof path &&
           access(path, F_OK) == 0;
}

// The folders that Python looks through, in its order. `program` is called as the user does: a
// virtual environment is told by where its link to the interpreter lies.
static void look_for_torch(const char *program, const char *resolved, unsigned minor) {
    char prefix[PATH_MAX];
    const char *p = getenv("PYTHONPATH"), *home = getenv("HOME");
    while (p && *p) {
        int n = (int)strcspn(p, ":");
        if (n && torch_in("%.*s", n, p)) return;
        p += n + (p[n] == ':');
    }
    prefix_of(program, prefix);
    if (torch_in("%s/lib/python3.%u/site-packages", prefix, minor) || is_environment(prefix))
        return;
    if (home && torch_in("%s/.local/lib/python3.%u/site-packages", home, minor)) return;
    prefix_of(resolved, prefix);
    if (torch_in("%s/lib/python3.%u/site-packages", prefix, minor)) return;
    if (strcmp(prefix, "/usr") != 0) return; // Debian's:
    if (!torch_in("/usr/local/lib/python3.%u/dist-packages", minor))
        torch_in("/usr/lib/python3/dist-packages");
}

// ---- the script -----------------------------------------------------------------------------

// The script among Python's arguments; NULL: none, as with -m, -c, or what is typed in.
static const char *script_of(char *const arguments[]) {
    for (; *arguments; arguments++) {
        const char *a = *arguments;
        if (a[0] != '-') return a;
        if (!a[1]) return NULL;
        if (a[1] == '-') {
            if (strcmp(a, "--check-hash-based-pycs") == 0 && arguments[1]) arguments++;
            continue;
        }
        const char *last = strpbrk(a, "cmWX"); // what follows one of these is its own
        if (last && (*last == 'c' || *last == 'm')) return NULL;
        if (last && !last[1] && arguments[1]) arguments++;
    }
    return NULL;
}

void doctor_python(const char *program, const char *library, char *const arguments[]) {
    char resolved[PATH_MAX];
    unsigned minor = 0;
    if (!realpath(program, resolved)) return;
    bool itself = is_python(resolved, &minor);
    if (!itself && !is_python(library, &minor)) return;
    if (itself && !minor && *library) is_python(library, &minor);
    tell_version(minor);
    if (!itself) return;
    if (minor) look_for_torch(program, resolved, minor);
    const char *script = arguments ? script_of(arguments) : NULL;
    if (script && access(script, F_OK) != 0)
        tell(PROBLEM, "there is no script %s here: Python will end at once", script);
}

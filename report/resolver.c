// SPDX-License-Identifier: Apache-2.0
//
// The resolver (resolver.h).
//
// The child looks everything up twice: first the names in symbol tables, which is quick, then debug
// information, which may take long; so when the time is over at least the names are there. It sends
// each answer at once over a pipe. If it dies, the object file that it was at is left out and
// another child goes on.
#define _GNU_SOURCE // pipe2
#include "resolver.h"

#include "memwatch.h"
#include "symbolize.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MAX_NAMES   32u   // of one frame
#define MAX_MODULES 4096u // object files; more are not looked at

struct module {
    char *path, *cwd;
    unsigned char *id;
    size_t path_bytes, id_bytes;
    char *reason; // owned
    bool lines, broken;
};

struct question {
    uint32_t module;
    bool named, done; // looked up in the symbol table, in the debug information
    uint64_t address;
    char *answer; // as the child packed it: see pack_name; NULL = nothing
    uint32_t answer_bytes;
};

struct resolver {
    char *debug_dir;
    struct module *module;
    uint32_t modules;
    struct question *question;
    uint32_t questions;
    uint32_t *index; // hash table of questions' numbers + 1
    uint32_t slots;  // a power of two, more than twice the questions
    bool complete;
};

static uint64_t now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static void *grown(void *old, uint32_t count, size_t bytes) {
    // Doubles whenever the count is a power of two.
    if (count & (count - 1)) return old;
    void *larger = realloc(old, (count ? 2 * (size_t)count : 1) * bytes);
    if (!larger) exit(fail(EXIT_DAMAGED, "out of memory"));
    return larger;
}

struct resolver *resolver_new(const char *debug_dir) {
    struct resolver *r = allocate(1, sizeof *r);
    const char *dir = debug_dir ? debug_dir : getenv("MEMWATCH_DEBUG_DIR");
    r->debug_dir = dir && *dir ? strdup(dir) : NULL;
    r->complete = true;
    return r;
}

void resolver_free(struct resolver *r) {
    for (uint32_t i = 0; i < r->modules; i++) {
        free(r->module[i].path);
        free(r->module[i].cwd);
        free(r->module[i].id);
        free(r->module[i].reason);
    }
    for (uint32_t i = 0; i < r->questions; i++) free(r->question[i].answer);
    free(r->module);
    free(r->question);
    free(r->index);
    free(r->debug_dir);
    free(r);
}

// ---- asking ---------------------------------------------------------------------------------

static bool is_module(const struct module *m, const struct native_frame *frame, const char *cwd) {
    return m->id_bytes == frame->build.length && m->path_bytes == frame->path.length &&
           (!m->id_bytes || !memcmp(m->id, frame->build.bytes, m->id_bytes)) &&
           (!frame->path.length || !memcmp(m->path, frame->path.bytes, frame->path.length)) &&
           !strcmp(m->cwd, cwd);
}

static uint32_t module_of(struct resolver *r, const struct native_frame *frame, const char *cwd) {
    // Neighbours in a stack are often of one module: the last one asked for is looked at first.
    for (uint32_t i = r->modules; i; i--)
        if (is_module(&r->module[i - 1], frame, cwd)) return i - 1;
    if (r->modules == MAX_MODULES) return MAX_MODULES - 1;
    r->module = grown(r->module, r->modules, sizeof r->module[0]);
    struct module *m = &r->module[r->modules];
    *m = (struct module){.path = allocate(frame->path.length + 1, 1),
                         .cwd = strdup(cwd),
                         .id = allocate(frame->build.length + 1, 1),
                         .path_bytes = frame->path.length,
                         .id_bytes = frame->build.length};
    if (r->modules == MAX_MODULES - 1) { // stands for all that follow
        m->broken = true;
        m->reason = strdup("one of more object files than are looked at");
    }
    if (frame->path.length) memcpy(m->path, frame->path.bytes, frame->path.length);
    if (frame->build.length) memcpy(m->id, frame->build.bytes, frame->build.length);
    if (!m->cwd) exit(fail(EXIT_DAMAGED, "out of memory"));
    return r->modules++;
}

static uint32_t *slot_of(const struct resolver *r, uint32_t module, uint64_t address) {
    uint64_t hash =
        (address + module * UINT64_C(0x9e3779b97f4a7c15)) * UINT64_C(0xff51afd7ed558ccd);
    for (uint32_t i = (uint32_t)(hash >> 32);; i++) {
        uint32_t *slot = &r->index[i & (r->slots - 1)];
        const struct question *q = *slot ? &r->question[*slot - 1] : NULL;
        if (!q || (q->module == module && q->address == address)) return slot;
    }
}

static void grow_index(struct resolver *r) {
    free(r->index);
    r->slots = r->slots ? 2 * r->slots : 256;
    r->index = allocate(r->slots, sizeof r->index[0]);
    for (uint32_t i = 0; i < r->questions; i++)
        *slot_of(r, r->question[i].module, r->question[i].address) = i + 1;
}

uint32_t resolver_ask(struct resolver *r, const struct native_frame *frame, const char *cwd) {
    uint32_t module = module_of(r, frame, cwd);
    if (2 * (r->questions + 1) > r->slots) grow_index(r);
    uint32_t *slot = slot_of(r, module, frame->address);
    if (*slot) return *slot - 1;
    r->question = grown(r->question, r->questions, sizeof r->question[0]);
    r->question[r->questions] = (struct question){.module = module, .address = frame->address};
    *slot = ++r->questions;
    return r->questions - 1;
}

// ---- messages -------------------------------------------------------------------------------

enum message_kind {
    AT_MODULE,  // the child begins with an object file
    REASON,     // the object file has no names: text
    HAS_LINES,  // the object file has line numbers
    NAMED,      // answer from the symbol table; may be empty
    SYMBOLIZED, // answer from the debug information; if empty the one before stands
    DONE
};
struct message {
    uint32_t kind, index, bytes; // index of a module or question; then so many bytes
};
#define MAX_MESSAGE (MAX_NAMES * (SYMBOL_NAME + SYMBOL_FILE + 8) + sizeof(struct message))

// line:31 | inlined:1, function, 0, file, 0
static size_t pack_name(char *out, const struct symbol *s) {
    uint32_t head = s->line << 1 | s->inlined;
    size_t function = strlen(s->function) + 1, file = strlen(s->file) + 1;
    memcpy(out, &head, sizeof head);
    memcpy(out + sizeof head, s->function, function);
    memcpy(out + sizeof head + function, s->file, file);
    return sizeof head + function + file;
}

bool resolver_name(const struct resolver *r, uint32_t question, unsigned i, struct name *out) {
    const struct question *q = &r->question[question];
    const char *at = q->answer, *end = at + q->answer_bytes;
    *out = (struct name){0};
    if (!at) return false;
    for (;; i--) {
        uint32_t head;
        if (at == end) return false;
        memcpy(&head, at, sizeof head);
        const char *function = at + sizeof head, *file = function + strlen(function) + 1;
        *out = (struct name){*function ? function : NULL, *file ? file : NULL, head >> 1, head & 1};
        if (!i) return true;
        at = file + strlen(file) + 1;
    }
}

// Only what pack_name may have made is kept: the child worked on files that nobody checked.
static bool is_packed(const char *bytes, size_t count) {
    while (count) {
        if (count <= sizeof(uint32_t)) return false;
        bytes += sizeof(uint32_t), count -= sizeof(uint32_t);
        for (int text = 0; text < 2; text++) {
            size_t n = strnlen(bytes, count) + 1;
            if (n > count) return false;
            bytes += n, count -= n;
        }
    }
    return true;
}

// ---- the child ------------------------------------------------------------------------------

struct worker {
    const struct resolver *resolver;
    struct debug_search *search; // of each module
    struct build *build;
    struct object **object;
    FILE *out;
};

static void send_message(struct worker *w, enum message_kind kind, uint32_t index,
                         const void *bytes, size_t count) {
    struct message m = {kind, index, (uint32_t)count};
    fwrite(&m, sizeof m, 1, w->out);
    if (count) fwrite(bytes, 1, count, w->out);
}

static struct object *object_of(struct worker *w, uint32_t module) {
    const struct module *m = &w->resolver->module[module];
    send_message(w, AT_MODULE, module, NULL, 0);
    fflush(w->out); // if it is the last that is heard of us
    if (w->object[module]) return w->object[module];
    w->search[module] = (struct debug_search){w->resolver->debug_dir, *m->cwd ? m->cwd : NULL};
    w->build[module] = (struct build){m->path, m->id, m->id_bytes};
    struct object *object = w->object[module] = object_open(&w->search[module], &w->build[module]);
    const char *reason = object_reason(object);
    if (reason) send_message(w, REASON, module, reason, strlen(reason) + 1);
    return object;
}

static void name_all(struct worker *w) {
    const struct resolver *r = w->resolver;
    uint32_t at = UINT32_MAX;
    struct object *object = NULL;
    for (uint32_t i = 0; i < r->questions; i++) {
        const struct question *q = &r->question[i];
        if (q->named || r->module[q->module].broken) continue;
        if (q->module != at) object = object_of(w, at = q->module);
        struct symbol symbol = {.line = 0};
        char packed[sizeof symbol + 8];
        size_t n =
            object_name(object, q->address, symbol.function) ? pack_name(packed, &symbol) : 0;
        send_message(w, NAMED, i, packed, n);
    }
}

static void symbolize_all(struct worker *w) {
    const struct resolver *r = w->resolver;
    static struct symbol symbol[MAX_NAMES];
    static char packed[MAX_MESSAGE];
    bool *told = allocate(r->modules, sizeof *told);
    uint32_t at = UINT32_MAX;
    struct object *object = NULL;
    for (uint32_t i = 0; i < r->questions; i++) {
        const struct question *q = &r->question[i];
        if (q->done || r->module[q->module].broken) continue;
        if (q->module != at) object = object_of(w, at = q->module);
        if (!told[at] && object_has_lines(object)) send_message(w, HAS_LINES, at, NULL, 0);
        told[at] = true;
        unsigned names = object_symbols(object, q->address, symbol, MAX_NAMES);
        size_t bytes = 0;
        for (unsigned k = 0; k < names; k++) bytes += pack_name(packed + bytes, &symbol[k]);
        send_message(w, SYMBOLIZED, i, packed, bytes);
    }
    free(told);
}

// Of all processes around this one is the first that may go when memory runs out, and it leaves
// no core file.
static void be_modest(pid_t parent) {
    struct rlimit none = {0, 0}, files;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(1);
    setrlimit(RLIMIT_CORE, &none);
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (fd >= 0) {
        ssize_t ignored = write(fd, "1000", 4);
        (void)ignored;
        close(fd);
    }
}

static void work(const struct resolver *r, int fd) {
    static char buffer[1 << 12]; // small: what is in it is lost with us
    struct worker w = {r, allocate(r->modules, sizeof *w.search),
                       allocate(r->modules, sizeof *w.build),
                       allocate(r->modules, sizeof(struct object *)), fdopen(fd, "w")};
    if (!w.out) return;
    setvbuf(w.out, buffer, _IOFBF, sizeof buffer);
    name_all(&w);
    symbolize_all(&w);
    send_message(&w, DONE, 0, NULL, 0);
    fflush(w.out);
}

// ---- the parent -----------------------------------------------------------------------------

// Returns whether it was the last message. `at` gets the module that the child is at.
static bool take(struct resolver *r, const struct message *m, const char *bytes, uint32_t *at) {
    bool of_question = m->kind == NAMED || m->kind == SYMBOLIZED;
    if (m->index >= (of_question ? r->questions : r->modules)) return m->kind == DONE;
    struct question *q = &r->question[m->index];
    struct module *module = &r->module[m->index];
    switch (m->kind) {
    case AT_MODULE:
        *at = m->index;
        break;
    case REASON:
        free(module->reason);
        module->reason = strndup(bytes, m->bytes);
        break;
    case HAS_LINES:
        module->lines = true;
        break;
    case NAMED:
    case SYMBOLIZED:
        q->named = true;
        q->done |= m->kind == SYMBOLIZED;
        if (!m->bytes || !is_packed(bytes, m->bytes)) break;
        free(q->answer);
        q->answer = allocate(m->bytes, 1);
        q->answer_bytes = m->bytes;
        memcpy(q->answer, bytes, m->bytes);
        break;
    case DONE:
        return true;
    default:
        break;
    }
    return false;
}

enum outcome { FINISHED, DIED, OVERTIME };

static enum outcome listen_to(struct resolver *r, int fd, uint64_t deadline, uint32_t *at) {
    size_t room = 2 * MAX_MESSAGE, used = 0;
    char *buffer = allocate(room, 1);
    enum outcome outcome = DIED;
    for (;;) {
        struct pollfd readable = {fd, POLLIN, 0};
        uint64_t now = now_ms();
        int ready = now < deadline ? poll(&readable, 1, (int)(deadline - now)) : 0;
        if (ready < 0 && errno == EINTR) continue;
        if (ready <= 0) {
            outcome = OVERTIME;
            break;
        }
        ssize_t n = read(fd, buffer + used, room - used);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) break;
        used += (size_t)n;
        size_t from = 0;
        bool last = false;
        struct message m;
        while (!last && used - from >= sizeof m) {
            memcpy(&m, buffer + from, sizeof m);
            if (m.bytes > MAX_MESSAGE || used - from < sizeof m + m.bytes) break;
            last = take(r, &m, buffer + from + sizeof m, at);
            from += sizeof m + m.bytes;
        }
        memmove(buffer, buffer + from, used - from);
        used -= from;
        if (last || used == room) { // a message that fits nowhere is none of ours
            outcome = last ? FINISHED : DIED;
            break;
        }
    }
    free(buffer);
    return outcome;
}

static enum outcome run_child(struct resolver *r, uint64_t deadline, uint32_t *at) {
    int ends[2];
    pid_t parent = getpid();
    *at = UINT32_MAX;
    if (pipe2(ends, O_CLOEXEC) != 0) return DIED;
    pid_t child = fork();
    if (child == 0) {
        close(ends[0]);
        be_modest(parent);
        work(r, ends[1]);
        _exit(0);
    }
    close(ends[1]);
    enum outcome outcome = child > 0 ? listen_to(r, ends[0], deadline, at) : DIED;
    close(ends[0]);
    if (child > 0) {
        // Also one that finished: it would take its time to unmap what it mapped.
        kill(child, SIGKILL);
        while (waitpid(child, NULL, 0) < 0 && errno == EINTR) {
        }
    }
    return outcome;
}

static bool anything_to_do(const struct resolver *r) {
    for (uint32_t i = 0; i < r->questions; i++)
        if (!r->question[i].done && !r->module[r->question[i].module].broken) return true;
    return false;
}

void resolver_run(struct resolver *r, unsigned limit_ms) {
    uint64_t deadline = now_ms() + limit_ms;
    for (uint32_t at; limit_ms && anything_to_do(r);) {
        enum outcome outcome = run_child(r, deadline, &at);
        if (outcome != DIED || at == UINT32_MAX) break;
        r->module[at].broken = true;
        if (!r->module[at].reason) r->module[at].reason = strdup("it could not be read");
    }
    r->complete = !anything_to_do(r);
}

unsigned resolver_modules(const struct resolver *r) {
    return r->modules;
}

struct resolver_module resolver_module(const struct resolver *r, unsigned i) {
    const struct module *m = &r->module[i];
    return (struct resolver_module){
        m->path, {(const char *)m->id, m->id_bytes}, m->reason, m->lines};
}

bool resolver_complete(const struct resolver *r) {
    return r->complete;
}

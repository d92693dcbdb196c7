// SPDX-License-Identifier: Apache-2.0
// Reading the options, and the two that disturb calls: faults and slowness. Rules are resolved to
// API indices when read, so that an undisturbed API costs one load per call.
#include "options.h"

#include "entry.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct options options = {.devices = 2, .version = 13000};

// One SIMGPU_FAULT or SIMGPU_SLOW item. Several rules of one API form a list.
struct rule {
    struct rule *next;
    char *api;
    _Atomic uint64_t calls;
    uint64_t fails_at; // 0: a slowness rule
    bool onwards;
    CUresult code;
    uint64_t sleep_us;
};

struct disturbance {
    struct disturbance *next;
    struct rule *rule;
};

static struct disturbance **disturbances; // by API index; NULL: no rule at all
static int trace_file = -1;

_Noreturn void option_fail(const char *name, const char *value, const char *expected) {
    dprintf(STDERR_FILENO, "simgpu: %s=%s: expected %s\n", name, value, expected);
    _exit(2);
}

void option_path(const char *pattern, char *path, size_t size) {
    size_t used = 0;
    path[0] = '\0';
    while (*pattern && used + 1 < size) {
        if (pattern[0] == '%' && pattern[1] == 'p') {
            used += (size_t)snprintf(path + used, size - used, "%d", (int)getpid());
            pattern += 2;
        } else {
            path[used++] = *pattern++;
            path[used] = '\0';
        }
    }
}

static uint64_t parse_number(const char *name, const char *text, char **end, const char *expected) {
    if (*text < '0' || *text > '9') option_fail(name, text, expected);
    return strtoull(text, end, 10);
}

static uint64_t whole_number(const char *name, const char *text, const char *expected) {
    char *end;
    uint64_t number = parse_number(name, text, &end, expected);
    if (*end) option_fail(name, text, expected);
    return number;
}

static uint64_t parse_size(const char *name, const char *text) {
    static const char expected[] = "a number of bytes, with K, M, G or T";
    char *end;
    uint64_t number = parse_number(name, text, &end, expected);
    static const char units[] = "KMGT";
    const char *unit = *end ? strchr(units, *end) : NULL;
    if (unit) {
        number <<= 10 * (unit - units + 1);
        end++;
    }
    if (*end) option_fail(name, text, expected);
    return number;
}

static void read_memory(const char *text) {
    for (int i = 0; i < MAX_DEVICES; i++) options.memory[i] = 16ull << 30;
    if (!text) return;
    char *list = strdup(text), *rest = list, *item;
    uint64_t size = 0;
    int device = 0;
    while ((item = strsep(&rest, ",")) && device < MAX_DEVICES)
        options.memory[device++] = size = parse_size("SIMGPU_MEMORY", item);
    while (device < MAX_DEVICES) options.memory[device++] = size;
    free(list);
}

static void read_lie(const char *text) {
    char *list = strdup(text ? text : ""), *rest = list, *item;
    while ((item = strsep(&rest, ",")) && *item) {
        char *value = strchr(item, '=');
        bool is_free = strncmp(item, "free=", 5) == 0;
        if (!value || (!is_free && strncmp(item, "total=", 6) != 0))
            option_fail("SIMGPU_LIE", text, "free=BYTES,total=BYTES");
        value++;
        uint64_t number =
            strcmp(value, "sentinel") == 0 ? UINT64_MAX : parse_size("SIMGPU_LIE", value);
        *(is_free ? &options.lie_free : &options.lie_total) = number;
        *(is_free ? &options.lies_free : &options.lies_total) = true;
    }
    free(list);
}

// A rule for a base name holds for all its ABIs and twins; an ABI's own name for that one only.
static void add_rule(const char *option, const char *text, struct rule *rule) {
    bool known = false;
    if (!disturbances) disturbances = calloc(api_count, sizeof *disturbances);
    for (unsigned i = 0; i < api_count; i++) {
        if (strcmp(rule->api, apis[i].base) != 0 && strcmp(rule->api, apis[i].name) != 0) continue;
        struct disturbance *entry = malloc(sizeof *entry);
        *entry = (struct disturbance){disturbances[i], rule};
        disturbances[i] = entry;
        known = true;
    }
    if (!known) option_fail(option, text, "the name of a driver function");
}

static void read_rules(const char *option, const char *text) {
    static const char fault_form[] = "FUNCTION:N[:CODE] or FUNCTION:N+[:CODE], N from 1";
    bool is_fault = strcmp(option, "SIMGPU_FAULT") == 0;
    const char *expected = is_fault ? fault_form : "FUNCTION:MICROSECONDS";
    char *list = strdup(text ? text : ""), *rest = list, *item;
    while ((item = strsep(&rest, ",")) && *item) {
        struct rule *rule = calloc(1, sizeof *rule);
        rule->api = strdup(strsep(&item, ":"));
        char *number = strsep(&item, ":"), *end;
        if (!number) option_fail(option, text, expected);
        uint64_t value = parse_number(option, number, &end, expected);
        rule->onwards = is_fault && *end == '+';
        if (end[rule->onwards] || (is_fault && value == 0) || (!is_fault && item))
            option_fail(option, text, expected);
        rule->code = CUDA_ERROR_OUT_OF_MEMORY;
        if (item) rule->code = (CUresult)whole_number(option, item, expected);
        *(is_fault ? &rule->fails_at : &rule->sleep_us) = value;
        add_rule(option, text, rule);
    }
    free(list);
}

static void read_all(void) {
    const char *text;
    if ((text = getenv("SIMGPU_DEVICES"))) {
        uint64_t count = whole_number("SIMGPU_DEVICES", text, "a number of devices");
        if (count > MAX_DEVICES) option_fail("SIMGPU_DEVICES", text, "at most 64 devices");
        options.devices = (int)count;
    }
    if ((text = getenv("SIMGPU_VERSION"))) {
        options.version = (int)whole_number("SIMGPU_VERSION", text, "a version such as 13000");
    }
    if ((text = getenv("SIMGPU_CONTEXT"))) options.context = parse_size("SIMGPU_CONTEXT", text);
    if ((text = getenv("SIMGPU_DELAY"))) {
        options.delay_ns = 1000 * whole_number("SIMGPU_DELAY", text, "microseconds");
    }
    if ((text = getenv("SIMGPU_DEINIT"))) {
        options.deinitialises = whole_number("SIMGPU_DEINIT", text, "0 or 1") != 0;
    }
    read_memory(getenv("SIMGPU_MEMORY"));
    read_lie(getenv("SIMGPU_LIE"));
    read_rules("SIMGPU_FAULT", getenv("SIMGPU_FAULT"));
    read_rules("SIMGPU_SLOW", getenv("SIMGPU_SLOW"));
    options.books = getenv("SIMGPU_BOOKS");
    if ((text = getenv("SIMGPU_TRACE"))) {
        char path[4096];
        option_path(text, path, sizeof path);
        trace_file = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
        if (trace_file < 0) option_fail("SIMGPU_TRACE", path, "a file this process can write");
    }
}

void options_read(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, read_all);
}

CUresult options_disturb(unsigned api) {
    if (__builtin_expect(!disturbances, 1)) return CUDA_SUCCESS;
    CUresult code = CUDA_SUCCESS;
    for (struct disturbance *d = disturbances[api]; d; d = d->next) {
        struct rule *rule = d->rule;
        uint64_t call = atomic_fetch_add_explicit(&rule->calls, 1, memory_order_relaxed) + 1;
        if (rule->fails_at == 0) {
            struct timespec pause = {(time_t)(rule->sleep_us / 1000000),
                                     (long)(rule->sleep_us % 1000000) * 1000};
            nanosleep(&pause, NULL);
        } else if (call == rule->fails_at || (rule->onwards && call > rule->fails_at)) {
            code = rule->code;
        }
    }
    return code;
}

void trace_change(int device, enum space space, char change, uint64_t bytes) {
    static const char *const names[SPACE_COUNT] = {
        "device", "managed", "pinned",   "registered", "array",     "physical",
        "mapped", "address", "imported", "graph",      "multicast", "pool_reserved"};
    if (__builtin_expect(trace_file < 0, 1)) return;
    dprintf(trace_file, "%d %s device=%d %s %c%llu\n", (int)getpid(), call_name(), device,
            names[space], change, (unsigned long long)bytes);
}

// SPDX-License-Identifier: Apache-2.0
//
// A report for people: at most 80 columns, byte counts in binary units, what is long cut to the
// largest. It is made from the JSON, which may come from anywhere: whatever is missing is left out,
// and no control character of a name reaches the terminal.
#include "emit.h"

#include "units.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define COLUMNS 80
#define LISTED  10 // threads, failures
#define TEXT    FIT_TEXT

#define COMMAND (COLUMNS - 10) // columns behind "program"

#define DEVICE_TEXT 32

// ---- pieces ---------------------------------------------------------------------------------

const char *fit(char out[TEXT], const char *text, unsigned width) {
    size_t n = 0, cut = 0;
    unsigned columns = 0;
    if (!text) text = "?";
    if (width > COLUMNS) width = COLUMNS;
    for (const unsigned char *s = (const unsigned char *)text; *s; s++) {
        bool begins = (*s & 0xc0) != 0x80;
        if (begins && columns == width) {
            strcpy(out + cut, "...");
            return out;
        }
        columns += begins;
        if (begins && columns == width - 2) cut = n; // here the dots would fit
        // C1 control characters are U+0080 to U+009F: C2 80 to C2 9F.
        bool c1 = *s == 0xc2 && s[1] >= 0x80 && s[1] < 0xa0;
        bool control = *s < 0x20 || *s == 0x7f || c1;
        out[n++] = control ? '?' : (char)*s;
        if (c1) s++;
        if (n + 8 >= TEXT) break;
    }
    out[n] = '\0';
    return out;
}

unsigned fit_columns(const char *fitted) {
    unsigned columns = 0;
    for (; *fitted; fitted++) columns += ((unsigned char)*fitted & 0xc0) != 0x80;
    return columns;
}

void print_wrapped(FILE *out, const char *text, unsigned indent) {
    char clean[TEXT], part[COLUMNS + 1];
    size_t room = COLUMNS - indent;
    while (*text) {
        size_t n = strlen(text);
        if (n > room) {
            n = room;
            while (n && text[n] != ' ') n--;
            if (!n) n = room; // a word that is longer than a line
        }
        snprintf(part, sizeof part, "%.*s", (int)n, text);
        fprintf(out, "%*s%s\n", (int)indent, "", fit(clean, part, (unsigned)room));
        text += n;
        while (*text == ' ') text++;
    }
}

static const char *device_name(char out[DEVICE_TEXT], int64_t device) {
    if (device < 0)
        snprintf(out, DEVICE_TEXT, "host");
    else
        snprintf(out, DEVICE_TEXT, "device %" PRId64, device);
    return out;
}

static const char *bytes_of(const cJSON *object, const char *name, char out[BYTES_TEXT]) {
    return bytes_text(json_u64(object, name), out);
}

static void heading(FILE *out, const char *text) {
    fprintf(out, "\n%s\n", text);
}

// "12.345 s", "3 h 12 min".
static void print_duration(FILE *out, uint64_t ns) {
    double s = (double)ns / 1e9;
    if (s < 120)
        fprintf(out, "%.3f s", s);
    else if (s < 7200)
        fprintf(out, "%.1f min", s / 60);
    else
        fprintf(out, "%.1f h", s / 3600);
}

// ---- process --------------------------------------------------------------------------------

static const char *word_at(const cJSON *argv, int index) {
    const cJSON *word = cJSON_GetArrayItem(argv, index);
    return cJSON_IsString(word) ? word->valuestring : "?";
}

static const char *basename_of(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash && slash[1] ? slash + 1 : path;
}

int program_word(const cJSON *argv) {
    int words = cJSON_GetArraySize(argv), i = 1;
    if (!words) return -1;
    if (strncmp(basename_of(word_at(argv, 0)), "python", 6) != 0) return 0;
    for (; i < words && word_at(argv, i)[0] == '-'; i++) {
        const char *option = word_at(argv, i);
        if (!strcmp(option, "-c") || !option[1]) return 0; // the program is in no file
        // These have a word of their own behind them, which of -m is the program.
        if (!strcmp(option, "-m") || !strcmp(option, "-W") || !strcmp(option, "-X")) i++;
        if (!strcmp(option, "-m")) break;
    }
    return i < words ? i : 0;
}

const char *program_name(const cJSON *process) {
    const cJSON *argv = json_get(process, "argv");
    int word = program_word(argv);
    const char *path = word < 0 ? json_text(process, "exe") : word_at(argv, word);
    return path ? basename_of(path) : NULL;
}

// The words of argv in a line. In a `tight` one folders are left out: all of an interpreter's, and
// of what it runs as many as do not fit.
static size_t command_line(const cJSON *argv, bool tight, char *line, size_t room) {
    size_t n = 0;
    int words = cJSON_GetArraySize(argv), program = program_word(argv);
    for (int i = 0; i < words && n < room - 1; i++) {
        const char *text = word_at(argv, i), *dots = "";
        if (tight && i == 0) text = basename_of(text);
        if (tight && i == program && n + 1 + fit_columns(text) > COMMAND) {
            size_t width = n + 5 < COMMAND ? COMMAND - n - 4 : 0; // behind " ..."
            const char *base = basename_of(text);
            while (text < base && fit_columns(text) > width) text++;
            while (((unsigned char)*text & 0xc0) == 0x80) text++; // no part of a character
            dots = "...";
        }
        n += (size_t)snprintf(line + n, room - n, "%s%s%s", n ? " " : "", dots, text);
    }
    return n;
}

static void print_command(FILE *out, const cJSON *process) {
    char line[2048], cut[TEXT];
    const cJSON *argv = json_get(process, "argv");
    const char *exe = json_text(process, "exe");
    size_t n = command_line(argv, false, line, sizeof line);
    if (n > COMMAND) command_line(argv, true, line, sizeof line);
    fprintf(out, "program   %s\n", fit(cut, n ? line : exe, COMMAND));
}

static void print_end(FILE *out, const cJSON *process) {
    const cJSON *end = json_get(process, "exit");
    const char *kind = json_text(end, "kind");
    char name[TEXT];
    if (!kind) kind = "unknown";
    fputs("ended     ", out);
    if (!strcmp(kind, "code")) {
        fprintf(out, "with exit code %" PRId64, json_i64(end, "code"));
    } else if (!strcmp(kind, "signal")) {
        fprintf(out, "killed by signal %" PRId64, json_i64(end, "signal"));
        if (json_text(end, "name")) fprintf(out, " (%s)", fit(name, json_text(end, "name"), 20));
    } else if (!strcmp(kind, "exec")) {
        fputs("by executing another program", out);
    } else if (!strcmp(kind, "running")) {
        fputs("not yet when this was written: it was running", out);
    } else if (!strcmp(kind, "ended")) {
        fputs("through its exit handlers, exit code not known", out);
    } else {
        fputs("in a way that is not known", out);
    }
    fputs("\n", out);
}

static void print_times(FILE *out, const cJSON *process) {
    const cJSON *start = json_get(process, "start"), *end = json_get(process, "end"),
                *last = json_get(process, "last_event");
    char utc[TEXT];
    if (!start) return;
    fprintf(out, "recorded  from %s", fit(utc, json_text(start, "utc"), 30));
    const cJSON *until = cJSON_IsObject(end) ? end : last;
    uint64_t from = json_u64(start, "monotonic_ns"), to = json_u64(until, "monotonic_ns");
    if (cJSON_IsObject(until) && to >= from) {
        fputs(until == end ? " until its end, " : " until the last event, ", out);
        print_duration(out, to - from);
    }
    fputs("\n", out);
}

static void print_process(FILE *out, const cJSON *report) {
    const cJSON *process = json_get(report, "process");
    char host[TEXT];
    print_command(out, process);
    fprintf(out, "process   %" PRIu64 " on %s", json_u64(process, "pid"),
            fit(host, json_text(process, "host"), 30));
    if (json_is_number(process, "rank")) fprintf(out, ", rank %" PRIu64, json_u64(process, "rank"));
    if (json_is_number(process, "world_size"))
        fprintf(out, " of %" PRIu64, json_u64(process, "world_size"));
    fputs("\n", out);
    print_end(out, process);
    print_times(out, process);
}

// ---- totals, devices, pools -----------------------------------------------------------------

static void print_totals(FILE *out, const cJSON *report) {
    const cJSON *total;
    bool aside = false, exit = python_freed_at_exit(report);
    fprintf(out, "\n%-9s %-11s %11s %9s %11s %11s %9s\n", "memory", "", exit ? "at exit" : "live",
            "blocks", "peak", "allocations", "failed");
    cJSON_ArrayForEach(total, json_get(report, "totals")) {
        char device[DEVICE_TEXT], space[TEXT], live[BYTES_TEXT], peak[BYTES_TEXT];
        bool memory = json_is_true(total, "counted_as_memory");
        aside |= !memory;
        char name[16];
        snprintf(name, sizeof name, "%s%s", fit(space, json_text(total, "space"), 10),
                 memory ? "" : "*");
        fprintf(out, "%-9s %-11s %11s %9" PRIu64 " %11s %11" PRIu64 " %9" PRIu64 "\n",
                device_name(device, json_i64(total, "device")), name,
                bytes_text(held_bytes(total), live), held_blocks(total),
                bytes_of(total, "peak_bytes", peak), json_u64(total, "allocations"),
                json_u64(total, "failed"));
    }
    if (aside) fputs(NO_MEMORY_OF_ITS_OWN, out);
    if (exit)
        fputs("at exit: held when Python began to end, before it freed what was left; what "
              "functions\n"
              "         held until they returned: --sort peak\n",
              out);
}

static void print_devices(FILE *out, const cJSON *report) {
    const cJSON *device;
    cJSON_ArrayForEach(device, json_get(report, "devices")) {
        char name[TEXT], a[BYTES_TEXT], b[BYTES_TEXT];
        const cJSON *info = json_get(device, "memory_info");
        if (!cJSON_IsObject(info) && !json_text(device, "name")) continue;
        fprintf(out, "\ndevice %" PRIu64, json_u64(device, "ordinal"));
        if (json_text(device, "name"))
            fprintf(out, "  %s", fit(name, json_text(device, "name"), 40));
        if (json_is_number(device, "total_bytes"))
            fprintf(out, ", %s", bytes_of(device, "total_bytes", a));
        fputs("\n", out);
        if (!cJSON_IsObject(info)) continue;
        fprintf(out, "  the program was told: %s free of %s\n", bytes_of(info, "free_bytes", a),
                bytes_of(info, "total_bytes", b));
        int64_t rest = json_i64(device, "unattributed_bytes");
        // A report of an earlier release compared it with what was live at the end.
        if (rest > 0 && json_is_number(info, "own_bytes"))
            fprintf(out,
                    "  of what was in use then, %s were not this process's allocations:\n"
                    "  the driver's own, other processes, pool reserves\n",
                    bytes_text((uint64_t)rest, a));
    }
}

static void print_pools(FILE *out, const cJSON *report) {
    const cJSON *pools = json_get(report, "pools"), *pool;
    unsigned n = 0;
    cJSON_ArrayForEach(pool, pools) {
        char device[DEVICE_TEXT], handle[TEXT], used[BYTES_TEXT], reserved[BYTES_TEXT];
        if (!json_u64(pool, "used_bytes") && !json_is_number(pool, "reserved_bytes")) continue;
        if (!n++)
            fprintf(out, "\n%-20s %-9s %13s %9s %13s\n", "pools", "", "used", "blocks", "reserved");
        fprintf(out, "%-20s %-9s %13s %9" PRIu64 " %13s\n",
                fit(handle, json_text(pool, "handle"), 18),
                device_name(device, json_i64(pool, "device")), bytes_of(pool, "used_bytes", used),
                json_u64(pool, "used_blocks"),
                json_is_number(pool, "reserved_bytes") ? bytes_of(pool, "reserved_bytes", reserved)
                                                       : "not asked");
    }
}

// ---- threads, failures ----------------------------------------------------------------------

static void print_rest(FILE *out, int all, const char *what) {
    if (all > LISTED)
        fprintf(out, "and %d more %s%s: see the JSON\n", all - LISTED, what,
                all - LISTED == 1 ? "" : "s");
}

// Where that many columns of a text end.
static size_t bytes_of_columns(const char *text, unsigned columns) {
    size_t n = 0;
    while (text[n] && (((unsigned char)text[n] & 0xc0) == 0x80 || columns--)) n++;
    return n;
}

const char *thread_label(const cJSON *thread, unsigned width, char out[FIT_TEXT]) {
    const char *python = json_text(thread, "python_name"),
               *name = python ? python : json_text(thread, "name");
    unsigned columns = name ? fit_columns(name) : 0, dots = 3;
    if (columns <= width) return fit(out, name, width);
    unsigned end = (width - dots) / 2, begin = width - dots - end;
    char cut[FIT_TEXT];
    snprintf(cut, sizeof cut, "%.*s...%s", (int)bytes_of_columns(name, begin), name,
             name + bytes_of_columns(name, columns - end));
    return fit(out, cut, width);
}

#define THREAD_WIDTH 22

// What a thread did in the spaces that are memory, as its live bytes are of those. What earlier
// threads of its block did is known of all spaces together only, so where there are others
// (tensors), it cannot be taken off.
struct thread_deeds {
    uint64_t allocations, frees;
    bool with_earlier;
};

static struct thread_deeds deeds_of(const cJSON *report, const cJSON *thread) {
    struct thread_deeds d = {0};
    const cJSON *account, *earlier = json_get(thread, "earlier");
    bool others = false;
    cJSON_ArrayForEach(account, json_get(thread, "accounts")) {
        if (!counted_as_memory(report, account)) {
            others |= json_u64(account, "allocations") || json_u64(account, "frees");
            continue;
        }
        d.allocations += json_u64(account, "allocations");
        d.frees += json_u64(account, "frees");
    }
    uint64_t allocations = json_u64(earlier, "allocations"), frees = json_u64(earlier, "frees");
    d.with_earlier = others && (allocations || frees);
    if (!d.with_earlier) d.allocations -= allocations, d.frees -= frees;
    return d;
}

// Threads that ended and hold nothing have no row: others went on with their counters.
static void print_earlier(FILE *out, const cJSON *threads) {
    uint64_t count = 0, allocations = 0, frees = 0;
    const cJSON *thread;
    cJSON_ArrayForEach(thread, threads) {
        const cJSON *earlier = json_get(thread, "earlier");
        count += json_u64(earlier, "threads");
        allocations += json_u64(earlier, "allocations");
        frees += json_u64(earlier, "frees");
    }
    if (count)
        fprintf(out,
                "and %" PRIu64 " that ended and hold%s nothing: %" PRIu64 " allocations, %" PRIu64
                " frees\n",
                count, count == 1 ? "s" : "", allocations, frees);
}

static void print_threads(FILE *out, const cJSON *report) {
    const cJSON *threads = json_get(report, "threads"), *thread;
    const char *kind = json_text(json_get(json_get(report, "process"), "exit"), "kind");
    bool alive = kind && !strcmp(kind, "running"); // of a dead process no thread is running
    int n = 0;
    if (!cJSON_GetArraySize(threads)) return;
    fprintf(out, "\n%-*s %7s %-7s %11s %8s %11s %8s\n", THREAD_WIDTH, "by thread", "tid", "",
            "live", "blocks", "allocations", "frees");
    cJSON_ArrayForEach(thread, threads) {
        char name[TEXT], state[TEXT], live[BYTES_TEXT];
        if (n++ == LISTED) break;
        struct thread_deeds did = deeds_of(report, thread);
        char allocations[24], frees[24];
        const char *most = did.with_earlier ? "<=" : "";
        snprintf(allocations, sizeof allocations, "%s%" PRIu64, most, did.allocations);
        snprintf(frees, sizeof frees, "%s%" PRIu64, most, did.frees);
        const char *life = json_text(thread, "state");
        if (!alive && life && !strcmp(life, "running")) life = "";
        thread_label(thread, THREAD_WIDTH, name);
        fprintf(out, "%-*s %7" PRIu64 " %-7s %11s %8" PRIu64 " %11s %8s\n",
                THREAD_WIDTH + (int)(strlen(name) - fit_columns(name)), name,
                json_u64(thread, "tid"), fit(state, life, 7), bytes_of(thread, "live_bytes", live),
                json_u64(thread, "live_blocks"), allocations, frees);
    }
    print_rest(out, cJSON_GetArraySize(threads), "thread");
    print_earlier(out, threads);
}

static void print_failures(FILE *out, const cJSON *report) {
    const cJSON *failures = json_get(report, "failures"), *failure;
    uint64_t total = json_u64(report, "failures_total");
    int skip = cJSON_GetArraySize(failures) - LISTED;
    if (!total) return;
    fprintf(out, "\nfailed calls: %" PRIu64 "%s\n", total,
            total > LISTED ? ", the last ones:" : "");
    cJSON_ArrayForEach(failure, failures) {
        char api[TEXT], result[TEXT], number[24], a[BYTES_TEXT], b[BYTES_TEXT];
        if (skip-- > 0) continue;
        snprintf(number, sizeof number, "%" PRIu64, json_u64(failure, "result"));
        const char *name = json_text(failure, "result_name");
        fprintf(out, "  %s: %s\n", fit(api, json_text(failure, "api"), 34),
                fit(result, name ? name : number, 42));
        if (json_is_number(failure, "asked_bytes"))
            fprintf(out, "    asked for %s with %s live", bytes_of(failure, "asked_bytes", a),
                    bytes_of(failure, "live_bytes", b));
        if (json_is_number(failure, "asked_bytes") && json_is_number(failure, "device_free_bytes"))
            fprintf(out, ", %s last said to be free", bytes_of(failure, "device_free_bytes", a));
        if (json_is_number(failure, "asked_bytes"))
            fputs("\n", out);
        else if (json_text(failure, "key"))
            fprintf(out, "    of %s\n", fit(api, json_text(failure, "key"), 20));
        char label[FIT_TEXT];
        if (failure_label(report, failure, label)) fprintf(out, "    at %s\n", label);
    }
}

// ---- coverage -------------------------------------------------------------------------------

static void print_level(FILE *out, const char *name, const cJSON *level) {
    const char *state = json_text(level, "state"), *text = json_text(level, "text");
    char line[1024];
    if (!state || !strcmp(state, "none")) return;
    bool live = !strcmp(state, "live");
    snprintf(line, sizeof line, "%s%s%s%s%s", name, live ? "" : " ", live ? "" : state,
             text ? ": " : "", text ? text : "");
    if (!live || text) print_wrapped(out, line, 2);
}

static void print_levels(FILE *out, const cJSON *coverage) {
    const cJSON *stacks = json_get(coverage, "stacks");
    print_level(out, "Python stacks", json_get(stacks, "python"));
    print_level(out, "native stacks", json_get(stacks, "native"));
    print_level(out, "tensors", json_get(coverage, "tensors"));
}

// Where names of native frames are missing, and why.
static void print_symbols(FILE *out, const cJSON *coverage) {
    const cJSON *symbols = json_get(coverage, "symbols"), *module;
    int n = 0;
    if (cJSON_IsFalse(json_get(symbols, "complete")))
        fputs("  names of native frames are missing: finding them took too long\n", out);
    cJSON_ArrayForEach(module, json_get(symbols, "modules")) {
        const char *path = json_text(module, "path"), *reason = json_text(module, "reason");
        char line[1024];
        // What has no folder is no file (linux-vdso.so.1).
        if (!path || !reason || !strchr(path, '/') || n++ == LISTED) continue;
        snprintf(line, sizeof line, "no names in %s: %s", path, reason);
        print_wrapped(out, line, 2);
    }
}

static void print_coverage(FILE *out, const cJSON *report) {
    const cJSON *coverage = json_get(report, "coverage"), *loss, *lookup;
    const cJSON *losses = json_get(coverage, "losses"),
                *lookups = json_get(coverage, "unwatched_lookups"),
                *deepbind = json_get(coverage, "deepbind");
    heading(out, "what was seen");
    fprintf(out, "  %d of %" PRIu64 " watched entry points were called\n",
            cJSON_GetArraySize(json_get(coverage, "entry_points")),
            json_u64(coverage, "entry_points_known"));
    print_levels(out, coverage);
    print_symbols(out, coverage);
    if (json_is_true(coverage, "complete")) fputs("  nothing is known to be missing\n", out);
    cJSON_ArrayForEach(loss, losses) {
        char text[512];
        const char *words = json_text(loss, "text");
        snprintf(text, sizeof text, "%" PRIu64 " %s", json_u64(loss, "count"),
                 words ? words : loss->string);
        print_wrapped(out, text, 2);
    }
    int n = cJSON_GetArraySize(lookups), listed = 0;
    if (n) fprintf(out, "  looked up, sounding like memory, but not watched: %d\n", n);
    cJSON_ArrayForEach(lookup, lookups) {
        char name[TEXT];
        if (listed++ == LISTED) break;
        fprintf(out, "    %s\n", fit(name, json_text(lookup, "name"), 60));
    }
    if (json_u64(deepbind, "count")) {
        char path[TEXT];
        fprintf(out,
                "  loaded with RTLD_DEEPBIND, so that direct calls are not seen, unless under\n"
                "  MEMWATCH_DEEPBIND=clear: %" PRIu64 ", the first\n    %s\n",
                json_u64(deepbind, "count"), fit(path, json_text(deepbind, "first"), 74));
    }
}

static void print_check(FILE *out, const cJSON *report) {
    const cJSON *ledger = json_get(report, "ledger"), *check = json_get(ledger, "check"), *line;
    if (!cJSON_IsBool(json_get(check, "ok"))) return;
    uint64_t in_flight = json_u64(ledger, "in_flight");
    if (json_is_true(check, "ok")) {
        fputs("  the ledger agrees with itself", out);
        if (in_flight) fprintf(out, ", but for events under way: %" PRIu64, in_flight);
        fputs("\n", out);
        return;
    }
    fputs("  THE LEDGER DOES NOT AGREE WITH ITSELF: do not rely on these numbers\n", out);
    cJSON_ArrayForEach(line, json_get(check, "differences")) if (cJSON_IsString(line))
        print_wrapped(out, line->valuestring, 4);
}

void print_report(FILE *out, const cJSON *report, const struct view *view) {
    print_process(out, report);
    print_findings(out, report);
    print_totals(out, report);
    print_devices(out, report);
    print_pools(out, report);
    print_torch(out, report);
    print_sites(out, report, view);
    print_threads(out, report);
    print_failures(out, report);
    print_last_words(out, report);
    print_coverage(out, report);
    print_check(out, report);
}

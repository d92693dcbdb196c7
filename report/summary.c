// SPDX-License-Identifier: Apache-2.0
//
// The ranks of a job side by side (summary.h).
//
// Sums are by space, not by device: device 0 of one process need not be device 0 of another (hosts,
// CUDA_VISIBLE_DEVICES). Peaks of several spaces or processes were at different times, so their sum
// is an upper limit only, and said to be one.
#include "summary.h"

#include "emit.h"
#include "memwatch.h"
#include "units.h"

#include <inttypes.h>
#include <string.h>

#define TABLE "%4s %7s  %-18s %-13s %11s %13s %6s\n"

void summary_begin(struct summary *s, FILE *table, const char *folder) {
    memset(s, 0, sizeof *s);
    s->table = table;
    s->document = cJSON_CreateObject();
    json_add_text(s->document, "schema", MEMWATCH_FOLDER_SCHEMA);
    json_add_text(s->document, "folder", folder);
    s->list = json_add_array(s->document, "reports");
    s->unreadable = json_add_array(s->document, "unreadable");
}

// What is counted as memory, or tensors, which lie in it: in all spaces and devices together.
struct sums {
    uint64_t live, peaks;
    unsigned spaces; // that have a peak: of one, `peaks` is the peak
};

static void add_total(struct summary *s, const cJSON *total) {
    const char *space = json_text(total, "space");
    unsigned i = 0;
    while (i < s->spaces && space && strcmp(s->space[i].space, space) != 0) i++;
    if (!space || strlen(space) >= sizeof s->space[0].space || i == SUMMARY_SPACES) return;
    struct summary_space *to = &s->space[i];
    if (i == s->spaces) {
        s->spaces++;
        strcpy(to->space, space);
        to->memory = json_is_true(total, "counted_as_memory");
    }
    uint64_t peak = json_u64(total, "peak_bytes");
    to->live += json_u64(total, "live_bytes");
    to->live_blocks += json_u64(total, "live_blocks");
    to->held += held_bytes(total);
    to->blocks += held_blocks(total);
    to->allocations += json_u64(total, "allocations");
    to->failed += json_u64(total, "failed");
    if (peak > to->highest_peak) to->highest_peak = peak;
}

static struct sums sum_up(const cJSON *report, bool tensors) {
    struct sums sums = {0};
    const cJSON *total;
    cJSON_ArrayForEach(total, json_get(report, "totals")) {
        const char *space = json_text(total, "space");
        bool tensor = space && !strcmp(space, "tensor");
        if (tensors ? !tensor : !json_is_true(total, "counted_as_memory")) continue;
        sums.live += held_bytes(total);
        sums.peaks += json_u64(total, "peak_bytes");
        sums.spaces += json_u64(total, "peak_bytes") != 0;
    }
    return sums;
}

static const char *ending(const cJSON *process, char out[32]) {
    const cJSON *exit = json_get(process, "exit");
    const char *kind = json_text(exit, "kind");
    if (kind && !strcmp(kind, "code"))
        snprintf(out, 32, "exit code %" PRId64, json_i64(exit, "code"));
    else if (kind && !strcmp(kind, "signal"))
        snprintf(out, 32, "signal %" PRId64, json_i64(exit, "signal"));
    else
        snprintf(out, 32, "%s", kind ? kind : "unknown");
    return out;
}

// Of a peak that is a sum of peaks: it was at most that.
static const char *peak_text(const struct sums *sums, char out[BYTES_TEXT + 2]) {
    char bytes[BYTES_TEXT];
    snprintf(out, BYTES_TEXT + 2, "%s%s", sums->spaces > 1 ? "<=" : "",
             bytes_text(sums->peaks, bytes));
    return out;
}

static void print_line(const struct summary *s, const char *file, const cJSON *report, bool holds) {
    const cJSON *process = json_get(report, "process");
    struct sums sums = sum_up(report, false), tensors = sum_up(report, true);
    char rank[24] = "-", pid[24], end[32], program[FIT_TEXT], cut[FIT_TEXT], failed[24];
    char live[BYTES_TEXT], peak[BYTES_TEXT + 2];
    if (s->reports == 1)
        fprintf(s->table, TABLE, "rank", "pid", "program", "ended", "held", "peak", "failed");
    if (json_is_number(process, "rank"))
        snprintf(rank, sizeof rank, "%" PRIu64, json_u64(process, "rank"));
    snprintf(pid, sizeof pid, "%" PRIu64, json_u64(process, "pid"));
    // Not the sum of what failed in each space: a tensor's failure is a segment's, too.
    snprintf(failed, sizeof failed, "%" PRIu64, json_u64(report, "failures_total"));
    fprintf(s->table, TABLE, rank, pid, fit(program, program_name(process), 18),
            fit(cut, ending(process, end), 13), bytes_text(sums.live, live), peak_text(&sums, peak),
            failed);
    if (tensors.spaces)
        fprintf(s->table, "%33s%-13s %11s %13s\n", "", "tensors in it",
                bytes_text(tensors.live, live), peak_text(&tensors, peak));
    fprintf(s->table, "      %s\n", fit(cut, file, 74)); // which names the host, too
    if (!holds) fputs("      its ledger does not agree with itself\n", s->table);
    if (!json_is_true(json_get(report, "coverage"), "complete"))
        fputs("      incomplete: see `coverage` of its report\n", s->table);
}

void summary_add(struct summary *s, const char *file, const cJSON *report, bool check_holds) {
    const cJSON *total;
    s->reports++;
    cJSON_ArrayForEach(total, json_get(report, "totals")) add_total(s, total);
    if (s->table) print_line(s, file, report, check_holds);
    cJSON *entry = json_add_object(s->list, NULL);
    json_add_text(entry, "file", file);
    const char *const copied[] = {"process", "totals", "failures_total"};
    for (unsigned i = 0; i < sizeof copied / sizeof copied[0]; i++) {
        const cJSON *item = json_get(report, copied[i]);
        if (item) cJSON_AddItemToObject(entry, copied[i], cJSON_Duplicate(item, true));
    }
    json_add_bool(entry, "complete", json_is_true(json_get(report, "coverage"), "complete"));
    json_add_bool(entry, "check_ok", check_holds);
}

void summary_add_unreadable(struct summary *s, const char *file, const char *error) {
    cJSON *entry = json_add_object(s->unreadable, NULL);
    json_add_text(entry, "file", file);
    json_add_text(entry, "error", error);
}

static void print_totals(const struct summary *s) {
    bool views = false;
    fprintf(s->table, "\n%u process%s%*s%11s %9s %13s %11s %8s\n", s->reports,
            s->reports == 1 ? "" : "es", 6, "", "held", "blocks", "highest peak", "allocations",
            "failed");
    for (unsigned i = 0; i < s->spaces; i++) {
        const struct summary_space *t = &s->space[i];
        char name[FIT_TEXT], live[BYTES_TEXT], peak[BYTES_TEXT], space[sizeof t->space + 1];
        snprintf(space, sizeof space, "%s%s", t->space, t->memory ? "" : "*");
        views |= !t->memory;
        fprintf(s->table, "%-17s%11s %9" PRIu64 " %13s %11" PRIu64 " %8" PRIu64 "\n",
                fit(name, space, 16), bytes_text(t->held, live), t->blocks,
                bytes_text(t->highest_peak, peak), t->allocations, t->failed);
    }
    if (views) fputs(NO_MEMORY_OF_ITS_OWN, s->table);
}

cJSON *summary_end(struct summary *s) {
    if (s->table && s->reports) print_totals(s);
    cJSON *totals = json_add_array(s->document, "totals");
    for (unsigned i = 0; i < s->spaces; i++) {
        const struct summary_space *t = &s->space[i];
        cJSON *total = json_add_object(totals, NULL);
        json_add_text(total, "space", t->space);
        json_add_bool(total, "counted_as_memory", t->memory);
        json_add_u64(total, "live_bytes", t->live);
        json_add_u64(total, "live_blocks", t->live_blocks);
        json_add_u64(total, "at_exit_bytes", t->held);
        json_add_u64(total, "at_exit_blocks", t->blocks);
        json_add_u64(total, "highest_peak_bytes", t->highest_peak);
        json_add_u64(total, "allocations", t->allocations);
        json_add_u64(total, "failed", t->failed);
    }
    return s->document;
}

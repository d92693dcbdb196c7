// SPDX-License-Identifier: Apache-2.0
//
// The reports at the end of `memwatch run`: who writes them, when they are there, a line for each.
//
// Monitors write them; each has told the journal which ledger it watches. What has no monitor (it
// was switched off, or could not be started) is rendered here, at once; what its monitor has not
// rendered within ten seconds, too. Both may happen: a report is renamed into place, and the same
// ledger gives the same report.
#include "../interpose/ledger_format.h"
#include "memwatch.h"
#include "owner.h"
#include "process.h"
#include "run.h"
#include "units.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

// How long, in milliseconds from the program's end.
#define MONITOR_STARTS 500   // until a monitor that was just started has told the journal
#define NOTE_FOLLOWS   1000  // from the removal of a ledger to the note of its report
#define LATE_ENDS      300   // for descendants that die of the same cause
#define MONITOR_ENDS   10000 // for a monitor to render

enum fate { PENDING, DONE, ABANDONED, LIVING };

void run_reports_ended(struct journal *list, pid_t pid, int status) {
    struct process_stat st = {0};
    char ledger[PATH_MAX];
    process_read_stat(pid, &st);
    if (!owner_find(pid, st.start_ticks, ledger, sizeof ledger)) return;
    owner_ended(ledger, status);
    journal_entry(list, ledger);
}

static uint64_t now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

// What is to be done about one ledger, this many milliseconds after the program's end.
static enum fate fate_of(const struct journal_entry *e, bool monitors, uint64_t ms) {
    struct owner owner;
    if (e->report) return DONE;
    if (access(e->ledger, F_OK) != 0) return ms < NOTE_FOLLOWS ? PENDING : DONE;
    if (!owner_read(e->ledger, &owner)) return ABANDONED; // rendering it will say what is wrong
    if (owner.exit_kind == MW_EXIT_UNKNOWN &&
        process_life(owner.pid, owner.start_ticks) == PROCESS_RUNNING)
        return ms < LATE_ENDS ? PENDING : LIVING;
    if (!monitors) return ABANDONED;
    return ms < (e->watched ? MONITOR_ENDS : MONITOR_STARTS) ? PENDING : ABANDONED;
}

// Renders what nobody else will. True if some ledger is still worth waiting for.
static bool settle(struct journal *list, bool monitors, uint64_t ms) {
    bool pending = false;
    for (size_t i = 0; i < list->count; i++) {
        struct journal_entry *e = &list->entry[i];
        enum fate fate = e->failed ? DONE : fate_of(e, monitors, ms);
        pending |= fate == PENDING;
        if (fate != ABANDONED) continue;
        if (!e->watched) journal_note(e->ledger, NULL); // that it is of this run (capture.h)
        struct rendered rendered;
        enum exit_code code = render_ledger(e->ledger, e->ledger, RENDER_FINAL, &rendered);
        if (code == EXIT_OK)
            journal_rendered(e, &rendered);
        else if (access(e->ledger, F_OK) == 0) {
            // Else its monitor was faster than we thought, and its note follows.
            e->failed = true;
            fail(code, "no report of %s: %s", e->ledger, rendered.error);
        }
    }
    return pending;
}

static void print_line(const struct journal_entry *e) {
    char live[BYTES_TEXT];
    if (e->report) {
        fprintf(stderr, "memwatch: %s: %s held in %" PRIu64 " block%s", e->report,
                bytes_text(e->live_bytes, live), e->live_blocks, e->live_blocks == 1 ? "" : "s");
        if (e->losses)
            fprintf(stderr, ", %" PRIu64 " event%s not recorded", e->losses,
                    e->losses == 1 ? "" : "s");
        fputs("\n", stderr);
    } else if (!e->failed && access(e->ledger, F_OK) == 0) {
        fprintf(stderr, "memwatch: a process lives on: `memwatch report %s`\n", e->ledger);
    }
}

void run_reports_finish(struct journal *list, const struct run_options *options,
                        bool (*idle)(void *), void *argument) {
    const char *monitor = getenv("MEMWATCH_MONITOR");
    bool monitors = !monitor || strcmp(monitor, "0") != 0;
    uint64_t start = now_ms();
    for (bool wait = true; wait;) {
        journal_read(list);
        wait = settle(list, monitors, now_ms() - start) && idle(argument);
    }
    if (options->quiet) return;
    for (size_t i = 0; i < list->count; i++) print_line(&list->entry[i]);
    const char *enable = getenv("MEMWATCH_ENABLE");
    if (!list->count && enable && strcmp(enable, "0") == 0)
        fputs("memwatch: nothing was recorded: MEMWATCH_ENABLE=0\n", stderr);
    else if (!list->count)
        fputs("memwatch: no use of a GPU was seen; `memwatch doctor -- COMMAND` tells why it might "
              "not be\n",
              stderr);
}

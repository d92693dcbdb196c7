// SPDX-License-Identifier: Apache-2.0
//
// What the parts of the `memwatch` program share: the subcommands, the exit codes, the way to say
// that something went wrong, and the one way a ledger becomes a report.
#ifndef MEMWATCH_H
#define MEMWATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MEMWATCH_SCHEMA        "memwatch-report/1"
#define MEMWATCH_FOLDER_SCHEMA "memwatch-folder/1"

// `memwatch --help` documents these.
enum exit_code {
    EXIT_OK = 0,
    EXIT_FINDING = 1, // a check did not hold
    EXIT_USAGE = 2,
    EXIT_DAMAGED = 3, // a file that is not readable, damaged, foreign or of another version
    EXIT_NOTHING = 4, // nothing there to report
    // memwatch run, as env(1), nohup(1) and timeout(1) have it:
    EXIT_RUN_FAILED = 125,
    EXIT_NOT_EXECUTABLE = 126,
    EXIT_NOT_FOUND = 127
};

// A subcommand. argv[0] is its name; each handles its own --help. Returns an exit code.
int cmd_run(int argc, char **argv);
int cmd_monitor(int argc, char **argv);
int cmd_report(int argc, char **argv);
int cmd_doctor(int argc, char **argv);
int cmd_diagnose(int argc, char **argv);
int cmd_explain(int argc, char **argv);
int cmd_kb(int argc, char **argv);

// Prints "memwatch: " and one line on standard error; returns `code`, for `return fail(...)`.
__attribute__((format(printf, 2, 3))) int fail(enum exit_code code, const char *format, ...);

// Zeroed memory for `count` entries, never NULL: without memory the program ends with a line and
// EXIT_DAMAGED. The caller frees.
void *allocate(size_t count, size_t bytes);

// ---- rendering (render.c) -------------------------------------------------------------------

// What was rendered, for the line that `memwatch run` prints.
struct rendered {
    char path[4096];      // of the report; "" if none was written
    uint64_t live_bytes;  // memory of this process, in the spaces counted as memory, together with
    uint64_t live_blocks; // what Python's end freed
    uint64_t losses;      // events that are missing, not those of which only a part is
    char error[512];      // why it failed, one line without "memwatch: "; "" if it did not
};

enum rendering {
    RENDER_INTERIM, // the process lives: the ledger stays, the report will be written again
    RENDER_FINAL    // the process is over: once the report is on disk, the ledger is removed
};

// Reads a ledger and writes its report, whose name is made of the ledger's: beside the final name
// first, then renamed, mode 0600. How the process ended is taken from the ledger (owner.h stores it
// there); nothing else is told. The report's folder: the ledger's own MEMWATCH_DIR, else the
// process's working directory, else the user's state directory, else /tmp: the first that can be
// written to. Prints nothing. `file`: where the ledger can be opened; not `ledger` if somebody
// removed that name. Returns EXIT_OK, EXIT_DAMAGED (not readable as a ledger: it stays where it is)
// or EXIT_NOTHING (no folder could be written to, `error` tells the last one's reason, and the
// ledger stays; or RENDER_INTERIM and there is a final report already).
enum exit_code render_ledger(const char *ledger, const char *file, enum rendering rendering,
                             struct rendered *out);

// ---- where files lie (places.c) -------------------------------------------------------------

// The folders where the library may have put a ledger, in the order in which it tries them, as this
// process's environment tells. Entries are never NULL or "". The strings belong to the environment.
#define LEDGER_FOLDERS 7
size_t ledger_folders(const char *out[LEDGER_FOLDERS]);

// The folders to try for a report, in order. `configured` and `cwd` may be "" or relative paths,
// which are skipped (a configured one is relative to `cwd`).
#define REPORT_FOLDERS 4
struct report_folders {
    char path[REPORT_FOLDERS][1024];
    bool may_make[REPORT_FOLDERS]; // configured and state folders; others exist or do not count
    size_t count;
};
void report_folders(const char *configured, const char *cwd, struct report_folders *out);

// Can this process create files there? Makes the folder if it is missing and may be made.
bool report_folder_ready(const struct report_folders *folders, size_t i);
bool folder_writable(const char *folder);

#endif

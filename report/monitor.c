// SPDX-License-Identifier: Apache-2.0
//
// memwatch monitor: the companion of one watched process. It waits for the end, learns how it was,
// and makes the report; now and then it writes one before, in case the end takes us along (the
// whole container, the whole machine).
//
// It must not be noticed: it holds no descriptor of the watched process (somebody may wait for the
// end of its output), no folder (somebody may want to unmount it), no terminal; it prints nothing;
// signals meant for the terminal's or the job's processes do not end it before its work is done.
#include "../interpose/ledger_format.h"
#include "journal.h"
#include "memwatch.h"
#include "owner.h"
#include "process.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define TICK_MS        1000 // looks whether another program was executed
#define OLD_KERNEL_MS  100  // looks whether the process lives, where there is no pidfd
#define FIRST_REPORT_S 10
#define INTERVAL_S     60
#define STATUS_MS      1000 // how long its parent is given to reap it

struct monitor {
    char ledger[PATH_MAX];
    const char *basename; // in ledger
    char descriptor[32];  // ledger_fd as a path, once the ledger has lost its name; else empty
    pid_t pid;
    uint64_t start_ticks;
    unsigned interval_s; // 0 = no reports before the end
    bool now;            // no waiting: the process is in its exit handlers and waits for us
    int ledger_fd;
    int pidfd;  // opened by the library before the process went on, or by us; -1: old kernel
    int events; // inotify: the ledger was closed, by exec or exit, or unlinked; -1 = none
    int terms;  // signalfd
    uint64_t next_report_ms;
};

enum news { NEWS_NONE, NEWS_ENDED, NEWS_EXECUTED };

static uint64_t now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

// ---- going unnoticed ------------------------------------------------------------------------

// Closes all descriptors but the standard ones and, if it is one, the pidfd, which becomes 3.
static void close_inherited(int *pidfd) {
    char path[40], target[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", *pidfd);
    ssize_t n = *pidfd > STDERR_FILENO ? readlink(path, target, sizeof target - 1) : -1;
    target[n > 0 ? n : 0] = '\0';
    bool keep = strstr(target, "pidfd") != NULL; // anon_inode:[pidfd], pidfd:[123]
    if (keep && *pidfd != 3) keep = dup2(*pidfd, 3) == 3;
    *pidfd = keep ? 3 : -1;
    unsigned first = keep ? 4 : 3;
    if (syscall(SYS_close_range, first, ~0u, 0u) == 0) return;
    long most = sysconf(_SC_OPEN_MAX);
    for (long fd = first; fd < (most > 0 && most < 65536 ? most : 65536); fd++) close((int)fd);
}

static void detach(void) {
    setsid(); // fails if we lead a session already: as well
    if (chdir("/") != 0) return;
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null < 0) return;
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) dup2(null, fd);
    if (null > STDERR_FILENO) close(null);
}

// Blocks all signals. SIGTERM is read: a batch system sends it to all processes of a job shortly
// before it kills them.
static int take_signals(void) {
    sigset_t all, term;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    sigemptyset(&term);
    sigaddset(&term, SIGTERM);
    return signalfd(-1, &term, SFD_CLOEXEC | SFD_NONBLOCK);
}

// ---- watching -------------------------------------------------------------------------------

static int watch_file(const char *path) {
    int fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    if (fd >= 0 && inotify_add_watch(fd, path, IN_CLOSE_WRITE | IN_ATTRIB) < 0) {
        close(fd);
        fd = -1;
    }
    return fd;
}

// Was there something to read?
static bool drain(int fd) {
    char buffer[4096];
    bool any = false;
    while (fd >= 0 && read(fd, buffer, sizeof buffer) > 0) any = true;
    return any;
}

// Did the process go on as another program? Its lock on the ledger is gone then, since the
// descriptor is close-on-exec; but a program may also have closed all descriptors that it does not
// know. The mapping tells the two apart.
static bool has_executed(const struct monitor *m) {
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 1};
    if (fcntl(m->ledger_fd, F_GETLK, &lock) == 0 && lock.l_type != F_UNLCK) return false;
    return process_maps(m->pid, m->basename) == 0 &&
           process_life(m->pid, m->start_ticks) == PROCESS_RUNNING;
}

static bool has_no_name(const struct monitor *m) {
    struct stat st;
    return fstat(m->ledger_fd, &st) == 0 && st.st_nlink == 0;
}

// The path by which the ledger can be opened.
static const char *ledger_file(const struct monitor *m) {
    return *m->descriptor ? m->descriptor : m->ledger;
}

static enum news look(struct monitor *m) {
    if (m->pidfd < 0 && process_life(m->pid, m->start_ticks) != PROCESS_RUNNING) return NEWS_ENDED;
    // Somebody removed a ledger that is in use: from here on only the process and we have it. (Who
    // has made the report removes it as well, but that is after the end.)
    if (!*m->descriptor && has_no_name(m) &&
        process_life(m->pid, m->start_ticks) == PROCESS_RUNNING)
        snprintf(m->descriptor, sizeof m->descriptor, "/proc/self/fd/%d", m->ledger_fd);
    return has_executed(m) ? NEWS_EXECUTED : NEWS_NONE;
}

static void report_now(struct monitor *m) {
    struct rendered rendered;
    render_ledger(m->ledger, ledger_file(m), RENDER_INTERIM, &rendered);
    m->next_report_ms = m->interval_s ? now_ms() + m->interval_s * UINT64_C(1000) : UINT64_MAX;
}

static enum news wait_for_news(struct monitor *m) {
    struct pollfd fds[] = {{m->pidfd, POLLIN, 0}, {m->terms, POLLIN, 0}, {m->events, POLLIN, 0}};
    for (;;) {
        poll(fds, 3, m->pidfd >= 0 ? TICK_MS : OLD_KERNEL_MS);
        if (fds[0].revents) return NEWS_ENDED;
        drain(m->events);
        enum news news = look(m);
        if (news) return news;
        // What was read tells, not what woke us: SIGTERM may have come since.
        if (drain(m->terms) || now_ms() >= m->next_report_ms) report_now(m);
    }
}

// ---- the end --------------------------------------------------------------------------------

// Has somebody stored how it ended, or can we tell? The kernel tells by the zombie's line in /proc,
// and after the zombie is gone by the pidfd of a new kernel.
static bool learn_end(const struct monitor *m) {
    struct owner owner;
    struct process_stat st;
    int status;
    if (owner_read(ledger_file(m), &owner) && owner.exit_kind != MW_EXIT_UNKNOWN) return true;
    if (process_read_stat(m->pid, &st) && st.status_known &&
        (!m->start_ticks || st.start_ticks == m->start_ticks)) {
        owner_ended(ledger_file(m), st.status);
        return true;
    }
    if (m->pidfd >= 0 && process_exit_status(m->pidfd, &status)) {
        owner_ended(ledger_file(m), status);
        return true;
    }
    return false;
}

static void note_end(const struct monitor *m) {
    uint64_t deadline = now_ms() + STATUS_MS;
    while (!learn_end(m) && now_ms() < deadline) {
        // Reaped, and no one knows: nobody ever will. Whoever reaped it and stores it (memwatch
        // run) has done so before, and a new kernel's pidfd has it at once.
        if (process_life(m->pid, m->start_ticks) == PROCESS_GONE) {
            learn_end(m);
            return;
        }
        poll(NULL, 0, 5);
    }
}

static void watch(struct monitor *m) {
    journal_note(m->ledger, NULL);
    bool given = m->pidfd >= 0;
    if (!given) m->pidfd = process_open(m->pid);
    m->events = watch_file(m->ledger);
    unsigned first = m->interval_s < FIRST_REPORT_S ? m->interval_s : FIRST_REPORT_S;
    m->next_report_ms = m->interval_s ? now_ms() + first * UINT64_C(1000) : UINT64_MAX;
    enum process_life life = process_life(m->pid, m->start_ticks);
    if (life == PROCESS_GONE && m->pidfd >= 0 && !given) {
        close(m->pidfd); // of the process that has this pid now
        m->pidfd = -1;
    }
    enum news news = life == PROCESS_RUNNING ? wait_for_news(m) : NEWS_ENDED;
    if (news == NEWS_EXECUTED)
        owner_executed(ledger_file(m));
    else
        note_end(m);
    if (!*m->descriptor && has_no_name(m)) return; // somebody was faster
    struct rendered rendered;
    if (render_ledger(m->ledger, ledger_file(m), RENDER_FINAL, &rendered) == EXIT_OK)
        journal_note(m->ledger, &rendered);
}

// The process is about to end and waits for us. `memwatch run` will know how it ended: then this
// report is only what is left if that is killed, too.
static void report_before_end(const struct monitor *m) {
    struct rendered rendered;
    bool more_to_come = journal_is_kept();
    if (more_to_come) journal_note(m->ledger, NULL);
    enum rendering rendering = more_to_come ? RENDER_INTERIM : RENDER_FINAL;
    render_ledger(m->ledger, m->ledger, rendering, &rendered);
}

// ---- command line ---------------------------------------------------------------------------

static const char help[] =
    "Usage: memwatch monitor --ledger FILE --pid PID [OPTION]...\n"
    "\n"
    "Waits for the end of process PID and makes a report of its ledger FILE. The\n"
    "library starts it by itself; there is no need to call it by hand.\n"
    "\n"
    "      --interval SECONDS  write the report before the end, too, this often (60;\n"
    "                          0: never)\n"
    "      --now               do not wait: PID is ending\n"
    "      --pidfd FD          an inherited pidfd of PID: tells how PID ended even if\n"
    "                          that is before the monitor has begun\n"
    "  -h, --help              this text\n"
    "\n"
    "Exit status: 0, 2 wrong usage, 3 FILE is not a ledger of PID.\n";

static bool number(const char *text, unsigned long most, unsigned long *out) {
    char *end;
    errno = 0;
    *out = strtoul(text, &end, 10);
    return *text >= '0' && *text <= '9' && *end == '\0' && !errno && *out <= most;
}

// -1: go on.
static int read_command_line(int argc, char **argv, struct monitor *m) {
    static const struct option options[] = {{"ledger", required_argument, NULL, 'l'},
                                            {"pid", required_argument, NULL, 'p'},
                                            {"interval", required_argument, NULL, 'i'},
                                            {"now", no_argument, NULL, 'n'},
                                            {"pidfd", required_argument, NULL, 'f'},
                                            {"help", no_argument, NULL, 'h'},
                                            {0}};
    const char *ledger = NULL;
    unsigned long pid = 0, interval = INTERVAL_S, pidfd;
    optind = 1;
    opterr = 0;
    for (int c; (c = getopt_long(argc, argv, "h", options, NULL)) != -1;) {
        bool ok = c != '?';
        if (c == 'h') {
            fputs(help, stdout);
            return EXIT_OK;
        }
        if (c == 'l') ledger = optarg;
        if (c == 'n') m->now = true;
        if (c == 'p') ok = number(optarg, INT_MAX, &pid) && pid;
        if (c == 'i') ok = number(optarg, 1000000, &interval);
        if (c == 'f' && (ok = number(optarg, INT_MAX, &pidfd))) m->pidfd = (int)pidfd;
        if (!ok)
            return fail(EXIT_USAGE, "monitor: wrong argument '%s'; see `memwatch monitor --help`",
                        argv[optind - 1]);
    }
    if (!ledger || !pid || optind < argc)
        return fail(EXIT_USAGE, "monitor: --ledger and --pid are needed; see --help");
    if (!realpath(ledger, m->ledger))
        return fail(EXIT_DAMAGED, "monitor: %s: %s", ledger, strerror(errno));
    m->pid = (pid_t)pid;
    m->interval_s = (unsigned)interval;
    m->basename = strrchr(m->ledger, '/') + 1;
    return -1;
}

int cmd_monitor(int argc, char **argv) {
    static struct monitor m;
    m = (struct monitor){.pidfd = -1, .events = -1};
    int code = read_command_line(argc, argv, &m);
    if (code >= 0) return code;
    struct owner owner;
    if (!owner_read(m.ledger, &owner) || owner.pid != m.pid)
        return fail(EXIT_DAMAGED, "monitor: %s is not a ledger of process %d", m.ledger,
                    (int)m.pid);
    m.start_ticks = owner.start_ticks;
    // Before the end the descriptor on which the process waits for our end must stay.
    if (!m.now) close_inherited(&m.pidfd);
    detach();
    m.terms = take_signals();
    m.ledger_fd = open(m.ledger, O_RDONLY | O_CLOEXEC);
    if (m.now)
        report_before_end(&m);
    else
        watch(&m);
    return EXIT_OK;
}

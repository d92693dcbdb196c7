// SPDX-License-Identifier: Apache-2.0
//
// memwatch run: a program under the recorder, as if `memwatch run --` were not in front of it.
//
// The program inherits standard input and output, and a standard error that is read along
// (relay.h); it stays in our process group and so in the terminal's foreground, and gets every
// signal that is sent to us. What the terminal sends (Ctrl-C, Ctrl-Z) reaches the whole group,
// hence the program itself: that is not passed on a second time. When the program stops we stop, so
// that the shell sees its job stopped; when it ends we end in the same way, by the same signal if
// it was one.
//
// All signals are blocked and taken one by one with sigwaitinfo: there is no handler, nothing is
// interrupted, and dispositions stay as they were, for the program to inherit.
//
// Being the subreaper of all descendants, we also reap those that lose their parent, and so know
// how they ended.
#define _GNU_SOURCE // pipe2, sigwaitinfo's SI_ codes
#include "run.h"

#include "journal.h"
#include "memwatch.h"
#include "process.h"
#include "relay.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

struct run {
    struct run_options options;
    struct journal reports; // of the processes that we reaped
    struct relay relay;
    pid_t child;     // 0 when reaped
    int status;      // of the child, as wait(2) gives it
    bool stopping;   // a stop signal was passed on: follow the child when it stops
    sigset_t before; // the mask we were started with
    struct sigaction before_chld;
};

// ---- the child ------------------------------------------------------------------------------

static enum exit_code exec_failure_code(int error) {
    return error == ENOENT || error == ENOTDIR ? EXIT_NOT_FOUND : EXIT_NOT_EXECUTABLE;
}

// The child's end of the pipe: tells why the program could not be executed.
static _Noreturn void become_command(const struct run *run, int failure) {
    sigaction(SIGCHLD, &run->before_chld, NULL);
    sigprocmask(SIG_SETMASK, &run->before, NULL);
    relay_become(&run->relay);
    execvp(run->options.command[0], run->options.command);
    int error = errno;
    ssize_t ignored = write(failure, &error, sizeof error);
    (void)ignored;
    _exit(exec_failure_code(error));
}

// Starts the program. 0, or the exit code after a line on standard error.
static int start(struct run *run) {
    int failure[2], error = 0;
    if (pipe2(failure, O_CLOEXEC) != 0)
        return fail(EXIT_RUN_FAILED, "run: no pipe: %s", strerror(errno));
    run->child = fork();
    if (run->child == 0) become_command(run, failure[1]);
    if (run->child < 0)
        return fail(EXIT_RUN_FAILED, "run: cannot start a process: %s", strerror(errno));
    close(failure[1]);
    relay_started(&run->relay);
    // End of file: the exec went well and closed the pipe.
    ssize_t n = read(failure[0], &error, sizeof error);
    close(failure[0]);
    if (n != (ssize_t)sizeof error) return 0;
    waitpid(run->child, NULL, 0);
    return fail(exec_failure_code(error), "run: cannot execute '%s': %s", run->options.command[0],
                strerror(error));
}

// A reader of the program's output waits for the end of file until the last holder has closed it:
// that must be the program. Only standard error is still ours, for the lines at the end.
static void let_go_of_pipes(const struct run *run) {
    int keep[RELAY_DESCRIPTORS + 1] = {journal_descriptor()};
    size_t count = 1 + relay_descriptors(&run->relay, keep + 1);
    process_close_all_but(keep, count, true);
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null < 0) return;
    dup2(null, STDIN_FILENO);
    dup2(null, STDOUT_FILENO);
    if (run->options.quiet) dup2(null, STDERR_FILENO);
    if (null > STDERR_FILENO) close(null);
}

// ---- signals --------------------------------------------------------------------------------

// What the kernel sends to us alone, such as the alarm that a shell's `timeout` idiom sets before
// it executes us: the program would have got it. Everything else that the kernel sends comes from
// the terminal and reaches the whole process group.
static bool is_for_us_alone(int sig) {
    return sig == SIGALRM || sig == SIGVTALRM || sig == SIGPROF;
}

static void pass_on(struct run *run, const siginfo_t *info) {
    int sig = info->si_signo;
    if (!run->child || info->si_pid == getpid()) return;
    if (info->si_code > 0 && !is_for_us_alone(sig)) return;
    if (sig == SIGTSTP || sig == SIGTTIN || sig == SIGTTOU) run->stopping = true;
    if (info->si_code == SI_QUEUE)
        sigqueue(run->child, sig, info->si_value);
    else
        kill(run->child, sig);
}

static bool in_foreground(void) {
    int terminal = open("/dev/tty", O_RDONLY | O_NOCTTY | O_CLOEXEC);
    if (terminal < 0) return false;
    bool yes = tcgetpgrp(terminal) == getpgrp();
    close(terminal);
    return yes;
}

// Stops us as the program was stopped, so that the shell takes the terminal back. Not when somebody
// stopped just the program from outside: who continues just the program would leave us stopped.
static void follow_stop(struct run *run, int sig) {
    bool by_terminal = sig == SIGTTIN || sig == SIGTTOU;
    if (!run->stopping && !by_terminal && !in_foreground()) return;
    run->stopping = false;
    // The default action of SIGTSTP, other than SIGSTOP's, leaves us running where nobody could
    // ever continue us: in a process group without a shell above it.
    struct sigaction standard = {.sa_handler = SIG_DFL}, before;
    sigset_t stop, blocked;
    sigemptyset(&stop);
    sigaddset(&stop, SIGTSTP);
    sigaction(SIGTSTP, &standard, &before);
    kill(getpid(), SIGTSTP);
    sigprocmask(SIG_UNBLOCK, &stop, &blocked); // here we stop
    sigprocmask(SIG_SETMASK, &blocked, NULL);
    sigaction(SIGTSTP, &before, NULL);
}

static int wait_status(const siginfo_t *info) {
    if (info->si_code == CLD_EXITED) return (info->si_status & 0xff) << 8;
    return info->si_status | (info->si_code == CLD_DUMPED ? 0x80 : 0);
}

// Takes what SIGCHLD announced; several may have been merged into one. A dead child keeps its pid
// and its entry in /proc until it is reaped: until then its ledger can be told from others.
static void children_changed(struct run *run) {
    siginfo_t info = {0};
    while (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid) {
        int status = wait_status(&info);
        if (info.si_pid == run->relay.copier)
            relay_ended(&run->relay, status);
        else
            run_reports_ended(&run->reports, info.si_pid, status);
        if (info.si_pid == run->child) {
            run->child = 0;
            run->status = status;
        }
        waitpid(info.si_pid, NULL, 0);
        info.si_pid = 0;
    }
    if (run->child && waitid(P_PID, (id_t)run->child, &info, WSTOPPED | WNOHANG) == 0 &&
        info.si_pid)
        follow_stop(run, info.si_status);
}

// While reports are awaited: orphans are still reaped, and who wants us to end need not wait.
static bool keep_waiting(void *argument) {
    struct run *run = argument;
    sigset_t all;
    sigfillset(&all);
    struct timespec pause = {.tv_nsec = 10000000};
    int sig = sigtimedwait(&all, NULL, &pause);
    if (sig == SIGCHLD) children_changed(run);
    return sig != SIGINT && sig != SIGTERM && sig != SIGHUP && sig != SIGQUIT;
}

// Ends as the program ended.
static int end_alike(int status) {
    if (!WIFSIGNALED(status)) return WEXITSTATUS(status);
    int sig = WTERMSIG(status);
    struct rlimit no_core = {0, 0};
    setrlimit(RLIMIT_CORE, &no_core);
    prctl(PR_SET_DUMPABLE, 0);
    struct sigaction standard = {.sa_handler = SIG_DFL};
    sigaction(sig, &standard, NULL);
    sigset_t unblock;
    sigemptyset(&unblock);
    sigaddset(&unblock, sig);
    kill(getpid(), sig);
    sigprocmask(SIG_UNBLOCK, &unblock, NULL);
    return 128 + sig; // as the first process of a container, which no signal ends
}

int cmd_run(int argc, char **argv) {
    struct run run = {0};
    int code = run_options(argc, argv, &run.options);
    if (code >= 0) return code;
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &run.before);
    // Ignored, it would make the kernel reap our children.
    struct sigaction standard = {.sa_handler = SIG_DFL};
    sigaction(SIGCHLD, &standard, &run.before_chld);
    journal_create();
    run.relay = (struct relay){.end = -1, .orders = -1, .kept = RELAY_NOTHING_KEPT};
    if (!run.options.pass_stderr) relay_start(&run.relay, run.options.all_stderr);
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    code = start(&run);
    if (code == 0) {
        let_go_of_pipes(&run);
        while (run.child) {
            siginfo_t info;
            int sig = sigwaitinfo(&all, &info);
            if (sig == SIGCHLD)
                children_changed(&run);
            else if (sig > 0)
                pass_on(&run, &info);
            if (sig == SIGWINCH && info.si_code > 0 && run.child)
                relay_resized(&run.relay, run.child);
        }
        relay_settle(&run.relay, keep_waiting, &run);
        if (run.relay.why[0] && !run.options.quiet)
            fail(EXIT_OK, "run: standard error was not read along: %s", run.relay.why);
        run_reports_finish(&run.reports, &run.options, keep_waiting, &run);
    }
    relay_remove();
    journal_remove();
    journal_free(&run.reports);
    return code ? code : end_alike(run.status);
}

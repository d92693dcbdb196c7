// SPDX-License-Identifier: Apache-2.0
//
// Standard error, read along (relay.h).
//
// It must not be noticed. Bytes pass unchanged and at once. What the program would have met at the
// real descriptor it meets here: if its reader is gone, ours ends, too, and the program gets its
// SIGPIPE; if its reader is slow, so are we. The copying process is in a session of its own, so
// that no signal of the terminal ends or stops it, and blocks all others but SIGKILL and SIGSTOP.
// If it is killed, another one goes on: `run` has the ends, too. What it had read and not written
// is lost, 64 KiB at most.
//
// What a program can notice: descriptor 2 is a pipe instead of a file or a socket, or a terminal
// that is not its controlling one, from which nothing can be read. Who minds says --no-stderr.
#define _GNU_SOURCE // pipe2, ptsname_r
#include "relay.h"

#include "journal.h"
#include "memwatch.h"
#include "process.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#define BUFFER 65536
// A round of reading ends here at the latest: pipes and terminals hold less, so what was there when
// it began has been read, though others go on writing.
#define ROUND_BYTES (UINT64_C(1) << 20)
// How long `run` waits for a reader that does not read. The copying process does not give up.
#define SETTLE_MS 10000

// ---- the copying process --------------------------------------------------------------------

enum outcome { AGAIN, NOTHING, END };

// Waits for whom we share a descriptor with that does not block.
static bool write_all(int fd, const char *text, size_t bytes) {
    while (bytes) {
        ssize_t n = write(fd, text, bytes);
        if (n < 0 && errno == EAGAIN) {
            struct pollfd p = {.fd = fd, .events = POLLOUT};
            poll(&p, 1, -1);
        } else if (n < 0 && errno != EINTR) {
            return false;
        } else if (n > 0) {
            text += n;
            bytes -= (size_t)n;
        }
    }
    return true;
}

// EIO when reading: a pseudo-terminal without holders. EPIPE, EIO when writing: nobody will ever
// read this. A full disk costs a message, which the program would have lost, too; but of standard
// output a program must learn that it is lost.
static enum outcome copy_some(struct copier *c, uint64_t *copied) {
    static char buffer[BUFFER];
    ssize_t n = read(c->in, buffer, sizeof buffer);
    if (n < 0 && errno == EINTR) return AGAIN;
    if (n < 0 && errno == EAGAIN) return NOTHING;
    if (n <= 0) return END;
    *copied += (uint64_t)n;
    capture_write(&c->capture, buffer, (size_t)n);
    if (write_all(c->out, buffer, (size_t)n)) return AGAIN;
    return errno == EPIPE || errno == EIO || c->both ? END : AGAIN;
}

static enum outcome copy_all(struct copier *c) {
    enum outcome outcome = AGAIN;
    for (uint64_t copied = 0; outcome == AGAIN && copied < ROUND_BYTES;)
        outcome = copy_some(c, &copied);
    return outcome;
}

static void take_size(int from, int to) {
    struct winsize size;
    if (ioctl(from, TIOCGWINSZ, &size) == 0) ioctl(to, TIOCSWINSZ, &size);
}

static enum outcome obey(struct copier *c) {
    char order[64];
    ssize_t n = read(c->orders, order, sizeof order);
    if (n <= 0) return AGAIN;
    capture_begin_round(&c->capture);
    if (c->terminal && memchr(order, ORDER_RESIZE, (size_t)n)) take_size(c->out, c->in);
    enum outcome outcome = copy_all(c);
    capture_end_round(&c->capture);
    return outcome;
}

static void copy_until_end(struct copier *c) {
    struct pollfd p[] = {{c->in, POLLIN, 0}, {c->orders, POLLIN, 0}};
    for (enum outcome outcome = AGAIN; outcome != END;) {
        p[0].revents = p[1].revents = 0;
        if (poll(p, 2, -1) < 0) continue;
        if (p[1].revents & POLLIN) outcome = obey(c);
        if (outcome != END && p[0].revents) outcome = copy_all(c);
    }
}

// Holds nothing of anybody's but the two ends, the file and the orders, and the run's files as ours
// (journal.h): who waits for the end of the program's output shall not wait for ours.
static void let_go_of_all_but(const struct copier *c) {
    const int keep[] = {c->in, c->out, c->orders, c->capture.fd, journal_descriptor()};
    process_close_all_but(keep, sizeof keep / sizeof keep[0], false);
    if (chdir("/") != 0) return; // then a folder stays in use: no reason not to copy
}

static _Noreturn void copy(struct copier *c) {
    setsid();
    prctl(PR_SET_NAME, "memwatch-stderr");
    let_go_of_all_but(c);
    copy_until_end(c);
    capture_ended(&c->capture);
    _exit(0);
}

// The process's id, negative if none could be made.
static pid_t start_copier(struct copier *c) {
    pid_t child = fork();
    if (child == 0) copy(c);
    return child;
}

// ---- what the program gets ------------------------------------------------------------------

__attribute__((format(printf, 2, 3))) static bool pass(struct relay *r, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(r->why, sizeof r->why, format, arguments);
    va_end(arguments);
    return false;
}

// Nothing is done to the bytes on their way: the real terminal will do that. Else a line's end
// would become \r\n twice.
static bool make_terminal(struct relay *r, struct copier *c) {
    char name[64];
    struct termios mode;
    c->in = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
    if (c->in < 0 || grantpt(c->in) != 0 || unlockpt(c->in) != 0 ||
        ptsname_r(c->in, name, sizeof name) != 0)
        return pass(r, "no pseudo-terminal: %s", strerror(errno));
    r->end = open(name, O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (r->end < 0) return pass(r, "%s: %s", name, strerror(errno));
    if (tcgetattr(STDERR_FILENO, &mode) != 0) return pass(r, "tcgetattr: %s", strerror(errno));
    mode.c_oflag &= ~(tcflag_t)OPOST;
    if (tcsetattr(r->end, TCSANOW, &mode) != 0) return pass(r, "tcsetattr: %s", strerror(errno));
    take_size(STDERR_FILENO, c->in);
    c->terminal = r->terminal = true;
    return true;
}

static bool make_pipe(struct relay *r, struct copier *c) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) return pass(r, "no pipe: %s", strerror(errno));
    c->in = ends[0];
    r->end = ends[1];
    // Of this end alone: the program's stays as programs expect it.
    fcntl(c->in, F_SETFL, O_NONBLOCK);
    return true;
}

enum kinship { STRANGERS, ONE_FILE, ONE_SOCKET, ONE_TERMINAL };

// Are standard output and standard error one file (`> log 2>&1`)? Then both go the same way, or
// what is printed to the one would overtake what was printed to the other.
static enum kinship kinship(void) {
    struct stat out, err;
    int flags = fcntl(STDOUT_FILENO, F_GETFL);
    if (fstat(STDOUT_FILENO, &out) != 0 || fstat(STDERR_FILENO, &err) != 0 || flags < 0 ||
        (flags & O_ACCMODE) == O_RDONLY || out.st_dev != err.st_dev || out.st_ino != err.st_ino)
        return STRANGERS;
    if (S_ISSOCK(err.st_mode)) return ONE_SOCKET;
    if (isatty(STDERR_FILENO)) return ONE_TERMINAL;
    return S_ISREG(err.st_mode) || S_ISFIFO(err.st_mode) ? ONE_FILE : STRANGERS;
}

static bool make_ends(struct relay *r, struct copier *c, bool insist) {
    int flags = fcntl(STDERR_FILENO, F_GETFL);
    if (flags < 0 || (flags & O_ACCMODE) == O_RDONLY) return false; // closed: it shall stay so
    // Ours may be closed at the end; not one of the standard three, which may be closed, too.
    c->out = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    if (c->out < 0) return pass(r, "%s", strerror(errno));
    switch (kinship()) {
    case ONE_TERMINAL:
        return insist && make_terminal(r, c);
    case ONE_SOCKET: // with which a program may do what only sockets can
        return pass(r, "it is one socket with standard output");
    case ONE_FILE:
        r->both = c->both = true;
        break;
    case STRANGERS:
        break;
    }
    return isatty(STDERR_FILENO) ? make_terminal(r, c) : make_pipe(r, c);
}

// Opened for both, the pipe never ends.
static bool open_orders(const char *path, struct copier *c) {
    c->orders = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC | O_NOFOLLOW);
    return c->orders >= 0;
}

static bool make_files(struct relay *r, struct copier *c) {
    char path[CAPTURE_PATH], orders[CAPTURE_PATH];
    if (!capture_path(path) || !capture_orders_path(orders))
        return pass(r, "no folder for a temporary file can be written to");
    if (!capture_create(path, &c->capture.fd)) return pass(r, "%.100s: %s", path, strerror(errno));
    if (mkfifo(orders, 0600) != 0 || !open_orders(orders, c))
        return pass(r, "%.100s: %s", orders, strerror(errno));
    int fd = open(orders, O_WRONLY | O_NONBLOCK | O_CLOEXEC | O_NOFOLLOW);
    // Not one of the standard three, which may be closed.
    r->orders = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    int error = errno;
    if (fd >= 0) close(fd);
    return r->orders >= 0 || pass(r, "%.100s: %s", orders, strerror(error));
}

static void close_if(int *fd) {
    if (*fd >= 0) close(*fd);
    *fd = -1;
}

static void let_go_of_ends(struct copier *c) {
    close_if(&c->in);
    close_if(&c->out);
    close_if(&c->orders);
    close_if(&c->capture.fd);
}

void relay_start(struct relay *r, bool insist) {
    struct copier *c = &r->kept;
    *r = (struct relay){.end = -1, .orders = -1, .kept = RELAY_NOTHING_KEPT};
    bool made = make_ends(r, c, insist) && make_files(r, c);
    if (made && (r->copier = start_copier(c)) < 0) made = pass(r, "no process could be started");
    close_if(&c->orders); // that the copying process has gone can be told by that
    if (made) return;
    let_go_of_ends(c);
    close_if(&r->end);
    close_if(&r->orders);
    relay_remove();
    r->copier = 0;
    r->both = r->terminal = false;
}

void relay_ended(struct relay *r, int status) {
    char orders[CAPTURE_PATH];
    struct copier *c = &r->kept;
    r->copier = 0;
    // By itself it ends when nobody is left who could write, or who would read.
    if (WIFSIGNALED(status) && capture_orders_path(orders) && open_orders(orders, c)) {
        capture_resume(&c->capture);
        r->copier = start_copier(c);
        close_if(&c->orders);
    }
    if (r->copier > 0) return;
    r->copier = 0;
    let_go_of_ends(c);
}

size_t relay_descriptors(const struct relay *r, int fd[RELAY_DESCRIPTORS]) {
    const int all[RELAY_DESCRIPTORS] = {r->orders, r->kept.in, r->kept.out, r->kept.capture.fd};
    memcpy(fd, all, sizeof all);
    return RELAY_DESCRIPTORS;
}

void relay_become(const struct relay *r) {
    if (r->end < 0) return;
    dup2(r->end, STDERR_FILENO);
    if (r->both) dup2(r->end, STDOUT_FILENO);
}

void relay_started(struct relay *r) {
    close_if(&r->end);
}

// ---- orders ---------------------------------------------------------------------------------

void relay_resized(const struct relay *r, pid_t program) {
    char order = ORDER_RESIZE;
    if (!r->terminal || r->orders < 0 || write(r->orders, &order, 1) != 1) return;
    capture_flush(100);
    kill(program, SIGWINCH);
}

static uint64_t now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

void relay_settle(const struct relay *r, bool (*idle)(void *), void *argument) {
    if (r->orders < 0) return;
    for (uint64_t end = now_ms() + SETTLE_MS; r->copier && now_ms() < end;)
        if (capture_flush(20) || !idle(argument)) return;
}

void relay_remove(void) {
    char path[CAPTURE_PATH];
    if (capture_path(path)) unlink(path);
    if (capture_orders_path(path)) unlink(path);
}

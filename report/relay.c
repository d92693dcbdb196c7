// SPDX-License-Identifier: Apache-2.0
//
// Standard error, read along (relay.h).
//
// It must not be noticed. Bytes pass unchanged and at once. What the program would have met at the
// real descriptor it meets here: if its reader is gone, ours ends, too, and the program gets its
// SIGPIPE; if its reader is slow, so are we. The copying process is in a session of its own, so
// that no signal of the terminal ends or stops it, and blocks all others but SIGKILL and SIGSTOP.
//
// What a program can notice: descriptor 2 is a pipe instead of a file or a socket, or a terminal
// that is not its controlling one, from which nothing can be read. Who minds says --no-stderr.
#define _GNU_SOURCE // pipe2, ptsname_r
#include "relay.h"

#include "capture.h"
#include "memwatch.h"

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

struct copier {
    int in, out, orders;
    bool both, terminal;
    struct capture_writer capture;
};

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

static int by_number(const void *a, const void *b) {
    return *(const int *)a - *(const int *)b;
}

static void close_between(unsigned first, unsigned last) {
    if (first > last || syscall(SYS_close_range, first, last, 0u) == 0) return;
    for (unsigned fd = first; fd <= last && fd < 4096; fd++) close((int)fd); // before Linux 5.9
}

// Holds nothing of anybody's but the two ends, the file and the orders: who waits for the end of
// the program's output shall not wait for ours.
static void let_go_of_all_but(const struct copier *c) {
    int keep[] = {c->in, c->out, c->orders, c->capture.fd};
    size_t n = sizeof keep / sizeof keep[0];
    unsigned from = 0;
    qsort(keep, n, sizeof keep[0], by_number);
    for (size_t i = 0; i < n; i++) {
        if (keep[i] > 0) close_between(from, (unsigned)keep[i] - 1);
        if (keep[i] >= 0) from = (unsigned)keep[i] + 1;
    }
    close_between(from, ~0u);
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

// As a grandchild, the copying process is an orphan at once. False: no process could be made.
static bool start_copier(struct copier *c) {
    pid_t child = fork();
    if (child == 0) {
        pid_t grandchild = fork();
        if (grandchild == 0) copy(c);
        _exit(grandchild < 0);
    }
    int status = 1;
    while (child > 0 && waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    return child > 0 && status == 0;
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
    c->out = STDERR_FILENO;
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

static bool make_files(struct relay *r, struct copier *c) {
    char path[CAPTURE_PATH], orders[CAPTURE_PATH];
    if (!capture_path(path) || !capture_orders_path(orders))
        return pass(r, "no folder for a temporary file can be written to");
    if (!capture_create(path, &c->capture.fd)) return pass(r, "%.100s: %s", path, strerror(errno));
    // Opened for both, it never ends.
    if (mkfifo(orders, 0600) != 0 ||
        (c->orders = open(orders, O_RDWR | O_NONBLOCK | O_CLOEXEC | O_NOFOLLOW)) < 0)
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

void relay_start(struct relay *r, bool insist) {
    struct copier c = {.in = -1, .orders = -1, .capture.fd = -1};
    *r = (struct relay){.end = -1, .orders = -1};
    bool started = make_ends(r, &c, insist) && make_files(r, &c) &&
                   (start_copier(&c) || pass(r, "no process could be started"));
    close_if(&c.in);
    close_if(&c.orders);
    close_if(&c.capture.fd);
    if (started) return;
    close_if(&r->end);
    close_if(&r->orders);
    relay_remove();
    r->both = r->terminal = false;
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

// Does the copying process live? It alone reads orders.
static bool is_copied(const struct relay *r) {
    struct pollfd p = {.fd = r->orders, .events = POLLOUT};
    return poll(&p, 1, 0) >= 0 && !(p.revents & (POLLERR | POLLHUP | POLLNVAL));
}

void relay_settle(const struct relay *r, bool (*idle)(void *), void *argument) {
    if (r->orders < 0) return;
    for (uint64_t end = now_ms() + SETTLE_MS; is_copied(r) && now_ms() < end;)
        if (capture_flush(20) || !idle(argument)) return;
}

void relay_remove(void) {
    char path[CAPTURE_PATH];
    if (capture_path(path)) unlink(path);
    if (capture_orders_path(path)) unlink(path);
}

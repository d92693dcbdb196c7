// SPDX-License-Identifier: Apache-2.0
//
// What preloading a library into a program that never touches a GPU costs, and that nothing is left
// of it.
//
//     exec LIBRARY COUNT
//
// Starts itself COUNT times with LIBRARY preloaded and COUNT times without, in turns, each time to
// do nothing, and takes the time from the start to the end. Answers one line of JSON: the tenth
// percentiles in microseconds, and how many threads and orphaned processes there were.
#include <dirent.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static _Noreturn void fail(const char *what) {
    perror(what);
    exit(2);
}

static double now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static int count_threads(void) {
    int n = 0;
    DIR *tasks = opendir("/proc/self/task");
    for (struct dirent *e; tasks && (e = readdir(tasks));) n += e->d_name[0] != '.';
    return n;
}

static int run_child(const char *preload, char *what) {
    char *environment[] = {(char *)preload, NULL}, *arguments[] = {"exec", what, NULL};
    pid_t pid;
    int status;
    if (posix_spawn(&pid, "/proc/self/exe", NULL, NULL, arguments, environment) != 0)
        fail("posix_spawn");
    if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status)) fail("waitpid");
    return WEXITSTATUS(status);
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double p10(double *times, size_t n) {
    qsort(times, n, sizeof *times, ascending);
    return times[n / 10];
}

int main(int argc, char **argv) {
    if (argc == 2) return strcmp(argv[1], "count") ? 0 : count_threads();
    if (argc != 3) fail("usage: exec LIBRARY COUNT");
    size_t n = (size_t)atol(argv[2]);
    double *bare = calloc(n, sizeof *bare), *watched = calloc(n, sizeof *watched);
    char preload[4096];
    if (!n || !bare || !watched) fail("calloc");
    snprintf(preload, sizeof preload, "LD_PRELOAD=%s", argv[1]);
    // Whoever a child leaves behind becomes a child of this process.
    prctl(PR_SET_CHILD_SUBREAPER, 1);

    for (size_t i = 0; i < n; i++) {
        double start = now_us();
        run_child(NULL, "nothing");
        double middle = now_us();
        run_child(preload, "nothing");
        bare[i] = middle - start;
        watched[i] = now_us() - middle;
    }
    int threads = run_child(preload, "count"), orphans = 0;
    while (waitpid(-1, NULL, __WALL) > 0) orphans++;
    printf("{\"bare\": %.1f, \"watched\": %.1f, \"threads\": %d, \"orphans\": %d}\n", p10(bare, n),
           p10(watched, n), threads, orphans);
    return 0;
}

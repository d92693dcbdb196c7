// SPDX-License-Identifier: Apache-2.0
//
// memwatch doctor: what would be recorded on this machine, and what not, and why. Everything is
// tried rather than concluded from version numbers: the library is loaded, the folders are written
// to, the kernel's features are used. Nothing is changed, and no GPU is initialised.
#define _GNU_SOURCE // dladdr, MADV_WIPEONFORK
#include "doctor.h"

#include "elf_facts.h"
#include "library.h"
#include "memwatch.h"
#include "process.h"
#include "units.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <glob.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

// ---- printing -------------------------------------------------------------------------------

static unsigned problem_count;

unsigned problems(void) {
    return problem_count;
}

void heading(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fputs("\n", stdout);
    vprintf(format, arguments);
    fputs("\n", stdout);
    va_end(arguments);
}

void tell(enum verdict verdict, const char *format, ...) {
    static const char *const marks[] = {"ok", "note", "PROBLEM"};
    enum { INDENT = 11, COLUMNS = 80 };
    char text[4096];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    problem_count += verdict == PROBLEM;
    printf("  %-8s", marks[verdict]);
    int column = INDENT - 1;
    char *save = NULL;
    for (char *word = strtok_r(text, " \n", &save); word; word = strtok_r(NULL, " \n", &save)) {
        int n = (int)strlen(word);
        if (column + 1 + n > COLUMNS && column > INDENT)
            column = printf("\n%*s", INDENT - 1, "") - 1;
        column += printf(" %s", word);
    }
    fputs("\n", stdout);
}

int capture(char *const argv[], char *out, size_t bytes) {
    int ends[2], status = -1;
    size_t used = 0;
    out[0] = '\0';
    fflush(stdout);
    if (pipe2(ends, O_CLOEXEC) != 0) return -1;
    pid_t child = fork();
    if (child == 0) {
        alarm(10); // survives exec
        dup2(ends[1], STDOUT_FILENO);
        dup2(ends[1], STDERR_FILENO);
        execv(argv[0], argv);
        _exit(127);
    }
    close(ends[1]);
    for (ssize_t n; child > 0 && (n = read(ends[0], out + used, bytes - 1 - used)) > 0;)
        used += (size_t)n;
    out[used] = '\0';
    close(ends[0]);
    return child > 0 && waitpid(child, &status, 0) == child ? status : -1;
}

// ---- the library ----------------------------------------------------------------------------

// The loader's only sign that it could not preload is a line on standard error.
static void try_preload(const char *library) {
    char text[2048], self[PATH_MAX];
    program_path(self);
    const char *before = getenv("LD_PRELOAD");
    char *saved = before ? strdup(before) : NULL, *list = library_preload_list(library);
    if (list) setenv("LD_PRELOAD", list, 1);
    int status = capture((char *[]){self, "--version", NULL}, text, sizeof text);
    if (saved)
        setenv("LD_PRELOAD", saved, 1);
    else
        unsetenv("LD_PRELOAD");
    free(saved);
    free(list);
    char *line = strstr(text, "ERROR: ld.so");
    if (line) line[strcspn(line, "\n")] = '\0';
    if (line)
        tell(PROBLEM, "it cannot be preloaded: %s", line);
    else if (WIFSIGNALED(status))
        tell(PROBLEM, "signal %d ended a program with it preloaded", WTERMSIG(status));
    else if (status)
        tell(PROBLEM, "a program with it preloaded failed (%d)", WEXITSTATUS(status));
    else
        tell(OK, "it can be preloaded");
}

static void examine_library(char library[PATH_MAX]) {
    heading("Library");
    if (!library_find(library)) {
        library[0] = '\0';
        tell(PROBLEM, "libmemwatch.so is neither beside this program nor in ../lib; "
                      "set MEMWATCH_LIBRARY to its path");
        return;
    }
    struct elf_facts facts;
    const char *error = elf_facts_read(library, &facts);
    if (error)
        tell(PROBLEM, "%s: %s", library, error);
    else
        tell(OK, "%s (%s)", library, elf_machine_name(facts.machine));
    for (size_t i = 0; i < facts.needed_count; i++)
        if (strncmp(facts.needed[i], "libc.", 5) != 0 && strncmp(facts.needed[i], "ld-", 3) != 0 &&
            strncmp(facts.needed[i], "libdl.", 6) != 0)
            tell(NOTE, "it needs %s, which every program then loads", facts.needed[i]);
    elf_facts_free(&facts);
    if (strpbrk(library, PRELOAD_SEPARATORS))
        tell(PROBLEM, "its path has a space or a colon, which separate names in LD_PRELOAD: "
                      "link or copy it elsewhere and set MEMWATCH_LIBRARY");
    else if (!error)
        try_preload(library);
    const char *preload = getenv("LD_PRELOAD");
    if (preload && *preload) tell(NOTE, "LD_PRELOAD is set already: %s", preload);
}

// ---- folders --------------------------------------------------------------------------------

// With less room than this the library passes a folder by (has_room in interpose/wake.c).
#define LEDGER_ROOM (UINT64_C(16) << 20)

static void examine_ledger_folders(void) {
    heading("Ledger (while a program runs), in the first folder that will do");
    const char *folders[LEDGER_FOLDERS];
    size_t count = ledger_folders(folders), usable = 0;
    for (size_t i = 0; i < count; i++) {
        struct statvfs fs;
        char room[BYTES_TEXT];
        if (statvfs(folders[i], &fs) != 0) {
            tell(NOTE, "%s: %s", folders[i], strerror(errno));
            continue;
        }
        uint64_t bytes = (uint64_t)fs.f_bavail * fs.f_frsize;
        bool writable = folder_writable(folders[i]);
        bool roomy = bytes >= LEDGER_ROOM;
        usable += writable;
        tell(writable && roomy ? OK : NOTE, "%s: %s free%s%s", folders[i], bytes_text(bytes, room),
             writable ? "" : ", not writable",
             roomy ? "" : "; a container's /dev/shm grows with --shm-size");
    }
    if (!usable) tell(PROBLEM, "none can be written to; set MEMWATCH_LEDGER_DIR");
}

static void examine_report_folders(void) {
    heading("Reports, in the first folder that will do");
    const char *configured = getenv("MEMWATCH_DIR");
    char cwd[PATH_MAX];
    if (!getcwd(cwd, sizeof cwd)) cwd[0] = '\0';
    struct report_folders folders;
    report_folders(configured ? configured : "", cwd, &folders);
    for (size_t i = 0; i < folders.count; i++)
        if (report_folder_ready(&folders, i)) {
            tell(OK, "%s", folders.path[i]);
            return;
        } else
            tell(NOTE, "%s is not writable", folders.path[i]);
    tell(PROBLEM, "none can be written to; set MEMWATCH_DIR");
}

// ---- kernel ---------------------------------------------------------------------------------

static bool kernel_tells_exit_status(void) {
    pid_t child = fork();
    if (child == 0) _exit(7);
    int fd = child > 0 ? process_open(child) : -1;
    int status = 0;
    if (child > 0) waitpid(child, NULL, 0);
    bool told = fd >= 0 && process_exit_status(fd, &status) && WEXITSTATUS(status) == 7;
    if (fd >= 0) close(fd);
    return told;
}

static bool kernel_wipes_on_fork(void) {
    long page = sysconf(_SC_PAGESIZE);
    void *p = mmap(NULL, (size_t)page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) return false;
    bool ok = madvise(p, (size_t)page, MADV_WIPEONFORK) == 0;
    munmap(p, (size_t)page);
    return ok;
}

static void examine_kernel(void) {
    struct utsname system;
    uname(&system);
    heading("Kernel (%s %s, %s)", system.sysname, system.release, system.machine);
    int fd = process_open(getpid());
    if (fd >= 0)
        tell(OK, "the end of a process is noticed at once (pidfd)");
    else
        tell(NOTE, "no pidfd (%s): the end of a process is noticed within 0.1 s", strerror(errno));
    if (fd >= 0) close(fd);
    if (kernel_tells_exit_status())
        tell(OK, "exit codes and signals of any process are known (PIDFD_INFO_EXIT)");
    else
        tell(NOTE, "before Linux 6.15 the exit code of a process is sometimes not known; under "
                   "`memwatch run` it is");
    if (kernel_wipes_on_fork())
        tell(OK, "forked children are noticed in every case");
    else
        tell(NOTE, "no MADV_WIPEONFORK: children made by a bare clone system call are not told "
                   "from their parent");
    if (access("/proc/self/stat", R_OK) != 0)
        tell(NOTE, "/proc is not mounted: reports lack the command line, and the execution of "
                   "another program is not noticed");
}

// ---- driver ---------------------------------------------------------------------------------

struct driver {
    char path[PATH_MAX];
    char error[512];
    int version; // as cuDriverGetVersion gives it: 1000 * major + 10 * minor
};

// In a child process: a damaged driver must not take the doctor along.
static void load_driver(struct driver *out) {
    void *handle = dlopen("libcuda.so.1", RTLD_LAZY | RTLD_LOCAL);
    if (!handle) {
        const char *error = dlerror();
        snprintf(out->error, sizeof out->error, "%s", error ? error : "dlopen failed");
        return;
    }
    int (*version)(int *) = (int (*)(int *))dlsym(handle, "cuDriverGetVersion");
    Dl_info info;
    char real[PATH_MAX];
    if (version && dladdr((void *)version, &info) && info.dli_fname)
        snprintf(out->path, sizeof out->path, "%s",
                 realpath(info.dli_fname, real) ? real : info.dli_fname);
    if (version) version(&out->version);
}

static bool find_driver(struct driver *out) {
    struct driver *shared =
        mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED) return false;
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        alarm(10);
        load_driver(shared);
        _exit(0);
    }
    int status = -1;
    if (child > 0) waitpid(child, &status, 0);
    *out = *shared;
    munmap(shared, sizeof *shared);
    if (status != 0)
        snprintf(out->error, sizeof out->error, "loading it failed (status %d)", status);
    return status == 0 && out->path[0];
}

static void tell_first_line(const char *path) {
    char line[256];
    FILE *file = fopen(path, "re");
    if (file && fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = '\0';
        tell(OK, "%s", line);
    }
    if (file) fclose(file);
}

static void examine_driver(void) {
    static const char *const nodes[] = {"/dev/nvidia[0-9]*", "/dev/nvgpu*", "/dev/dxg"};
    heading("GPU driver");
    struct driver driver = {0};
    if (find_driver(&driver))
        tell(OK, "%s, CUDA %d.%d", driver.path, driver.version / 1000, driver.version % 1000 / 10);
    else
        tell(NOTE, "no driver: %s", driver.error);
    tell_first_line("/proc/driver/nvidia/version");
    size_t count = 0;
    for (size_t i = 0; i < sizeof nodes / sizeof nodes[0]; i++) {
        glob_t found = {0};
        if (glob(nodes[i], 0, NULL, &found) == 0) count += found.gl_pathc;
        globfree(&found);
    }
    if (count)
        tell(OK, "%zu GPU device node%s in /dev", count, count == 1 ? "" : "s");
    else
        tell(NOTE, "no GPU device node in /dev");
    const char *pipe = getenv("CUDA_MPS_PIPE_DIRECTORY");
    char control[PATH_MAX];
    snprintf(control, sizeof control, "%s/control", pipe && *pipe ? pipe : "/tmp/nvidia-mps");
    if (access(control, F_OK) == 0)
        tell(NOTE,
             "NVIDIA MPS serves in %s: what this program allocates is recorded, what its "
             "server needs is not",
             control);
}

// ---- limits ---------------------------------------------------------------------------------

static bool read_number(const char *path, unsigned long long *out) {
    FILE *file = fopen(path, "re");
    bool ok = file && fscanf(file, "%llu", out) == 1; // "max" is no number: no limit
    if (file) fclose(file);
    return ok;
}

static void examine_limits(void) {
    static const struct {
        int resource;
        const char *flag, *meaning;
    } limits[] = {
        {RLIMIT_FSIZE, "-f", "the ledger cannot grow beyond that; later blocks are only counted"},
        {RLIMIT_AS, "-v", "the ledger takes at most an eighth of that"},
    };
    static const char *const memory[] = {"/sys/fs/cgroup/memory.max",
                                         "/sys/fs/cgroup/memory/memory.limit_in_bytes"};
    char text[BYTES_TEXT];
    heading("Limits");
    unsigned before = 0;
    for (size_t i = 0; i < sizeof limits / sizeof limits[0]; i++) {
        struct rlimit limit;
        if (getrlimit(limits[i].resource, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) continue;
        before++;
        tell(NOTE, "ulimit %s is %s: %s", limits[i].flag, bytes_text(limit.rlim_cur, text),
             limits[i].meaning);
    }
    for (size_t i = 0; i < sizeof memory / sizeof memory[0]; i++) {
        unsigned long long bytes;
        if (!read_number(memory[i], &bytes) || bytes >= UINT64_C(1) << 60) continue;
        before++;
        tell(NOTE,
             "memory of this container is limited to %s; a ledger in /dev/shm counts as "
             "memory",
             bytes_text(bytes, text));
    }
    if (!before) tell(OK, "none that matter");
}

static void examine_options(void) {
    static const char *const variables[] = {
#define OPTION(id, variable, kind, otherwise, help) variable,
#include "../interpose/options.def"
#undef OPTION
    };
    heading("Options in the environment");
    unsigned set = 0;
    for (size_t i = 0; i < sizeof variables / sizeof variables[0]; i++) {
        const char *value = getenv(variables[i]);
        if (!value) continue;
        set++;
        tell(NOTE, "%s=%s", variables[i], value);
    }
    const char *enable = getenv("MEMWATCH_ENABLE");
    if (enable && strcmp(enable, "0") == 0) tell(PROBLEM, "MEMWATCH_ENABLE=0: nothing is recorded");
    if (!set) tell(OK, "none: the defaults hold");
}

// ---- command line ---------------------------------------------------------------------------

static const char help[] =
    "Usage: memwatch doctor [[--] PROGRAM [ARGUMENT]...]\n"
    "\n"
    "Says for this machine, and for PROGRAM, what would be recorded, what would not,\n"
    "and why. PROGRAM is looked up as a shell does; it is read, not run. Each line is\n"
    "marked ok, note, or PROBLEM: as it is, nothing will be recorded.\n"
    "\n"
    "  -h, --help   this text\n"
    "\n"
    "Exit status: 0, 1 there is a PROBLEM, 2 wrong usage, 4 PROGRAM was not found.\n";

int cmd_doctor(int argc, char **argv) {
    static const struct option options[] = {{"help", no_argument, NULL, 'h'}, {0}};
    optind = 1;
    opterr = 0;
    for (int c; (c = getopt_long(argc, argv, "+h", options, NULL)) != -1;) {
        if (c != 'h')
            return fail(EXIT_USAGE, "doctor: unknown option %s; see `memwatch doctor --help`",
                        argv[optind - 1]);
        fputs(help, stdout);
        return EXIT_OK;
    }
    char self[PATH_MAX], library[PATH_MAX];
    program_path(self);
    printf("memwatch %s (%s)\n", MEMWATCH_VERSION, self);
    examine_library(library);
    examine_ledger_folders();
    examine_report_folders();
    examine_kernel();
    examine_driver();
    examine_limits();
    examine_options();
    if (argv[optind] && !doctor_program(argv + optind, library))
        return fail(EXIT_NOTHING, "doctor: there is no program %s", argv[optind]);
    return problems() ? EXIT_FINDING : EXIT_OK;
}

// SPDX-License-Identifier: Apache-2.0
//
// Inert → awake, and the ends.
//
// LD_PRELOAD puts the library into every shell, compiler and git of a job. In those it must cost
// nothing: the constructor makes one thread key, looks up two functions, and that is all. The
// ledger, its file and the companion process are made at the first event worth recording.
//
// fork: the wake word lies in a page that the kernel zeroes in the child, so the child is inert
// until an event of its own and then makes its own ledger; the parent's stays the parent's (its
// mapping is inherited but nobody writes to it any more). exec: a new image starts with nothing.
// Exit: the destructor marks the ledger, and renders it if there is no companion. Any other death
// needs nothing from us: the file has been complete all along.
#include "wake.h"

#include "context.h"
#include "doors.h"
#include "entrypoints.h"
#include "floor.h"
#include "messages.h"
#include "monitor.h"
#include "options.h"
#include "stacks.h"
#include "startup.h"
#include "text.h"
#include "torch.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#ifndef MADV_WIPEONFORK
#    define MADV_WIPEONFORK 18 // Linux 4.14
#endif
#ifndef RENAME_NOREPLACE
#    define RENAME_NOREPLACE 1 // Linux 3.15
#endif
#ifndef SYS_renameat2
#    ifdef __x86_64__
#        define SYS_renameat2 316
#    else
#        define SYS_renameat2 276 // the number of AArch64 and newer architectures
#    endif
#endif
#ifndef MEMWATCH_VERSION
#    define MEMWATCH_VERSION "0"
#endif

#define PATH_BYTES 512

// Off until the constructor ran, and for good if it cannot; then inert until the first mw_wake.
MW_STARTUP static _Atomic uint32_t word_before_wake = MW_OFF;
MW_READ_MOSTLY _Atomic uint32_t *mw_wake_word = &word_before_wake;

static void start(void);

static char ledger_path[PATH_BYTES + 128];
static char unfinished_path[PATH_BYTES + 136]; // what it is called until it is complete
static char companion[PATH_BYTES];
static bool companion_runs;
MW_STARTUP static struct mw_options options;

// ---- who we are ------------------------------------------------------------------------------

static size_t read_file(const char *path, char *buffer, size_t size) {
    size_t n = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    while (fd >= 0 && n < size) {
        ssize_t got = read(fd, buffer + n, size - n);
        if (got <= 0) break;
        n += (size_t)got;
    }
    if (fd >= 0) close(fd);
    return n;
}

// Field 22 of /proc/self/stat: the start in clock ticks since boot, which with the pid names a
// process for good. The second field may hold spaces and parentheses: count from the last ')'.
static uint64_t start_ticks(void) {
    char stat[1024];
    size_t n = read_file("/proc/self/stat", stat, sizeof stat - 1);
    stat[n] = 0;
    const char *p = strrchr(stat, ')');
    for (int field = 2; p && field < 22; field++) {
        p = strchr(p, ' ');
        if (p) p++;
    }
    uint64_t ticks = 0;
    for (; p && *p >= '0' && *p <= '9'; p++) ticks = ticks * 10 + (uint64_t)(*p - '0');
    return ticks;
}

static int environment_number(const char *const names[]) {
    for (; *names; names++) {
        const char *value = getenv(*names);
        uint64_t n;
        if (value && mw_number(value, 1u << 30, &n)) return (int)n;
    }
    return -1;
}

static void copy_text(char *to, size_t size, const char *from) {
    struct mw_text t = mw_text(to, size);
    mw_put(&t, from);
}

static void fill_identity(struct mw_header *h) {
    static const char *const rank[] = {"RANK", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK", NULL};
    static const char *const local[] = {"LOCAL_RANK", "SLURM_LOCALID", "OMPI_COMM_WORLD_LOCAL_RANK",
                                        NULL};
    static const char *const world[] = {"WORLD_SIZE", "SLURM_NTASKS", "OMPI_COMM_WORLD_SIZE", NULL};
    h->pid = (uint32_t)getpid();
    h->ppid = (uint32_t)getppid();
    h->uid = (uint32_t)getuid();
    h->start_ticks = start_ticks();
    h->rank = environment_number(rank);
    h->local_rank = environment_number(local);
    h->world_size = environment_number(world);
    copy_text(h->version, sizeof h->version, MEMWATCH_VERSION);
    copy_text(h->report_dir, sizeof h->report_dir, options.dir);
    size_t n = read_file("/proc/sys/kernel/random/boot_id", h->boot_id, sizeof h->boot_id - 1);
    if (n && h->boot_id[n - 1] == '\n') h->boot_id[n - 1] = 0;
    ssize_t length = readlink("/proc/self/exe", h->exe, sizeof h->exe - 1);
    if (length < 0) h->exe[0] = 0;
    if (!getcwd(h->cwd, sizeof h->cwd)) h->cwd[0] = 0;
    h->argv_bytes = (uint32_t)read_file("/proc/self/cmdline", h->argv, sizeof h->argv);
    struct utsname host;
    if (uname(&host) == 0) copy_text(h->host, sizeof h->host, host.nodename);
}

// The names of the table's rows: the file must be readable without this library.
static bool write_api_names(void) {
    struct mw_api *api = mw_ledger_grow(MW_CHUNK_APIS, MW_API_ROWS, MW_API_ROWS * sizeof *api);
    if (!api) return false;
    for (unsigned i = 0; i < MW_API_ROWS; i++) {
        struct mw_api_row row = mw_api_row(i);
        copy_text(api[i].name, sizeof api[i].name, row.name);
        api[i].layer = row.layer;
        api[i].since = row.since;
    }
    return true;
}

// ---- making the ledger -----------------------------------------------------------------------

static void file_name(struct mw_text *t, const char *folder, unsigned attempt) {
    static const char *const rank_names[] = {"RANK", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK", NULL};
    struct utsname host;
    struct timespec now;
    int rank = environment_number(rank_names);
    clock_gettime(CLOCK_REALTIME, &now);
    mw_put(t, folder);
    mw_put(t, "/memwatch.");
    mw_put(t, uname(&host) == 0 && host.nodename[0] ? host.nodename : "localhost");
    if (rank >= 0) {
        mw_put(t, ".rank");
        mw_put_number(t, (uint64_t)rank);
    }
    mw_put(t, ".");
    mw_put_number(t, (uint64_t)getpid());
    mw_put(t, ".");
    mw_put_number(t, (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000 + attempt);
    mw_put(t, ".ledger");
}

// A tmpfs page never waits for a disk; but /dev/shm of a container may be tiny and is charged to
// the job, so it must have several times the room that the start needs.
static bool has_room(const char *folder) {
    struct statvfs s;
    return statvfs(folder, &s) == 0 && (uint64_t)s.f_bavail * s.f_frsize >= UINT64_C(16) << 20;
}

static int create_in(const char *folder) {
    for (unsigned attempt = 0; attempt < 8; attempt++) {
        struct mw_text t = mw_text(ledger_path, sizeof ledger_path);
        if (*folder != '/') { // the program may change its directory
            char here[PATH_BYTES];
            if (!getcwd(here, sizeof here)) return -errno;
            mw_put(&t, here);
            mw_put(&t, "/");
        }
        file_name(&t, folder, attempt);
        if (t.full) return -ENAMETOOLONG;
        t = mw_text(unfinished_path, sizeof unfinished_path);
        mw_put(&t, ledger_path);
        mw_put(&t, ".new");
        struct mw_ledger_place place = {unfinished_path, options.ledger_max << 20,
                                        (uint32_t)options.sites, -1};
        int fd = mw_ledger_create(&place);
        if (fd != -EEXIST) return fd;
    }
    return -EEXIST;
}

static int create_ledger(void) {
    if (*options.ledger_dir) {
        int fd = create_in(options.ledger_dir);
        if (fd >= 0) return fd;
    }
    const char *runtime = getenv("XDG_RUNTIME_DIR"), *temporary = getenv("TMPDIR");
    // Not XDG_RUNTIME_DIR first: it is removed when the user's last session ends, and a program
    // that was left running would lose its ledger.
    const char *folders[] = {"/dev/shm", runtime, temporary, "/tmp", options.dir, "."};
    for (size_t i = 0; i < sizeof folders / sizeof folders[0]; i++) {
        if (!folders[i] || !*folders[i] || !has_room(folders[i])) continue;
        int fd = create_in(folders[i]);
        if (fd >= 0) return fd;
    }
    return -1;
}

// A record lock vanishes with the process, is not inherited by a forked child, and tells whoever
// asks that the owner is alive (flock and open-file-description locks stay with children).
static void lock_ledger(int fd) {
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 1};
    fcntl(fd, F_SETLK, &lock);
}

// As an orphan the companion becomes a child of the process that adopts orphans. If that is this
// one (PID 1 of a container, a subreaper), the program's own wait() would wait for a process that
// waits for the program, and PID 1's end is the companion's too.
static bool adopts_orphans(void) {
    int subreaper = 0;
    prctl(PR_GET_CHILD_SUBREAPER, &subreaper);
    return getpid() == 1 || subreaper;
}

static void start_monitor(void) {
    companion_runs = false;
    if (!options.monitor || adopts_orphans() ||
        !mw_companion_find(options.program, companion, sizeof companion))
        return;
    char pid[24];
    struct mw_text t = mw_text(pid, sizeof pid);
    mw_put_number(&t, (uint64_t)getpid());
    char *const arguments[] = {"memwatch", "monitor", "--ledger", ledger_path, "--pid",
                               pid,        "--pidfd", "3",        NULL};
    companion_runs = mw_companion_start(companion, arguments, false);
}

// The name may be taken by a process with the same pid in another namespace: its ledger stays.
static bool take_name(void) {
    size_t length = strlen(ledger_path);
    for (int c = 'a'; c <= 'z'; c++) {
        // Not link and unlink: /proc/PID/maps would go on showing the first name, as deleted, and
        // there the monitor looks whether the process still has its ledger.
        if (syscall(SYS_renameat2, AT_FDCWD, unfinished_path, AT_FDCWD, ledger_path,
                    RENAME_NOREPLACE) == 0)
            return true;
        if (errno != EEXIST) break;
        ledger_path[length - sizeof ".ledger"] = (char)c; // the last digit of the time
    }
    return rename(unfinished_path, ledger_path) == 0; // an old kernel or file system
}

// The words of MEMWATCH_STACKS, in options.def's order.
static void begin_stacks(void) {
    static const struct mw_stack_options words[] = {
        {.python = true, .native = true}, {.python = true}, {.native = true}, {.python = false}};
    struct mw_stack_options o = words[options.stacks];
    o.native_of_tensors = options.tensor_stacks;
    o.python_depth = (unsigned)options.python_depth;
    o.native_depth = (unsigned)options.native_depth;
    mw_stacks_begin(&o);
}

// Threads that asked for what the doors saw to be copied into the ledger (mw_doors_changed).
static _Atomic uint32_t publishing;

static bool make_ledger(void) {
    mw_options_read(&options, true);
    if (!options.enable) return false;
    int fd = create_ledger();
    if (fd < 0) return false;
    lock_ledger(fd);
    fill_identity(mw_ledger);
    mw_set(&publishing, 0); // a forked child may have left its parent in the midst of it
    mw_context_publish(mw_ledger);
    mw_counters_publish();
    bool complete = write_api_names();
    // After what a report cannot do without: there may be no room for more.
    begin_stacks();
    mw_torch_begin(&options);
    if (options.keep_stderr) mw_messages_begin();
    atomic_store_explicit(&mw_ledger->life, MW_LIFE_READY, memory_order_release);
    // The file gets its name when a reader can use it: a process may be killed here as well.
    complete = complete && take_name();
    if (!complete) {
        unlink(unfinished_path);
        mw_ledger_discard(); // its room, too: the disk may be full
    }
    return complete;
}

// A kernel before 4.14 cannot zero the page in a child; there an atfork handler does, which sees
// fork() but not a raw clone. (pthread_atfork is a static function of each library in glibc; this
// is what it calls. Weak: musl has none, and a program of musl may find this library, too.)
extern int __register_atfork(void (*)(void), void (*)(void), void (*)(void), void *)
    __attribute__((weak));
// What tells this library's handlers from others', in place of the compiler's: without its startup
// files the dynamic linker has less to do in every process.
__attribute__((visibility("hidden"))) void *__dso_handle = &__dso_handle;

static void forked_child(void) {
    atomic_store(mw_wake_word, MW_INERT);
}

// The word that the state stands in from now on; NULL: stay off.
static _Atomic uint32_t *wake_page(void) {
    _Atomic uint32_t *now = __atomic_load_n(&mw_wake_word, __ATOMIC_ACQUIRE);
    if (now != &word_before_wake) return now;
    // A library that is linked allocates in a constructor, and those run before ours.
    if (mw_get(&word_before_wake) == MW_OFF) start();
    if (mw_get(&word_before_wake) == MW_OFF) return NULL;
    int saved = errno;
    void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    bool made = page != MAP_FAILED, wiped = made && madvise(page, 4096, MADV_WIPEONFORK) == 0;
    if (!made) {
        mw_set(&word_before_wake, MW_OFF);
        now = NULL;
    } else if (__atomic_compare_exchange_n(&mw_wake_word, &now, page, false, __ATOMIC_ACQ_REL,
                                           __ATOMIC_ACQUIRE)) {
        now = page; // zero: MW_INERT
        if (!wiped && __register_atfork) __register_atfork(NULL, NULL, forked_child, &__dso_handle);
    } else { // another thread's is there
        munmap(page, 4096);
    }
    errno = saved;
    return now;
}

// Another thread is making the ledger, which takes a millisecond, or as long as the file system of
// a busy machine needs. Our event must not be lost: wait, but not for ever, since that thread may
// be in need of something that the program holds.
#define PATIENCE_MS 5000
static _Atomic uint32_t given_up;

// By who gave up, after that, and by who is done, after that: one of them sees both.
static void tell_given_up(void) {
    if (!mw_awake()) return;
    uint32_t events = atomic_exchange(&given_up, 0);
    if (events) mw_lost(MW_LOSS_WAKING, events);
}

static bool wait_for_waker(_Atomic uint32_t *word) {
    uint32_t state = MW_WAKING;
    int saved = errno;
    // Once only: who comes after one that gave up does not wait.
    for (uint64_t us = 0, pause = 100;
         state == MW_WAKING && us < PATIENCE_MS * 1000 && !mw_get(&given_up); us += pause) {
        clock_nanosleep(CLOCK_MONOTONIC, 0, &(struct timespec){0, (long)pause * 1000}, NULL);
        if (us > 10000) pause = 1000;
        state = atomic_load_explicit(word, memory_order_acquire);
    }
    errno = saved;
    if (state == MW_WAKING) {
        atomic_fetch_add(&given_up, 1);
        tell_given_up();
    }
    return state == MW_AWAKE;
}

bool mw_wake(void) {
    uint32_t state = MW_INERT;
    _Atomic uint32_t *word = wake_page();
    if (!word) return false;
    if (!atomic_compare_exchange_strong(word, &state, MW_WAKING))
        return state == MW_AWAKE || (state == MW_WAKING && wait_for_waker(word));
    int saved = errno, cancel = 0;
    uint64_t before = mw_block_signals();
    if (pthread_setcancelstate) pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel);
    bool made = !mw_doors_second_copy() && make_ledger();
    atomic_store_explicit(word, made ? MW_AWAKE : MW_OFF, memory_order_release);
    if (made) {
        mw_context_publish(mw_ledger); // what others noted meanwhile
        mw_doors_changed();
        mw_torch_publish();
        tell_given_up();
        start_monitor();
    }
    if (pthread_setcancelstate) pthread_setcancelstate(cancel, NULL);
    mw_restore_signals(before);
    errno = saved;
    return made;
}

static void publish_doors(struct mw_header *h) {
    for (int i = 0; i < MW_DOOR_COUNT; i++)
        mw_set(&h->doors[i], mw_get(&mw_doors_seen.answered[i]));
    mw_set(&h->deepbinds, mw_get(&mw_doors_seen.deepbinds));
    memcpy(h->deepbind_path, mw_doors_seen.deepbind_path, sizeof h->deepbind_path);
    memcpy(h->driver_path, mw_doors_seen.driver_path, sizeof h->driver_path);
    for (unsigned i = 0; i < MW_LOOKUPS; i++) {
        uint32_t count =
            atomic_load_explicit(&mw_doors_seen.unwatched[i].count, memory_order_acquire);
        if (!count || mw_get(&h->lookup[i].count) == count) continue;
        h->lookup[i].door = mw_doors_seen.unwatched[i].door;
        memcpy(h->lookup[i].name, mw_doors_seen.unwatched[i].name, sizeof h->lookup[i].name);
        atomic_store_explicit(&h->lookup[i].count, count, memory_order_release);
    }
    mw_set(&h->losses[MW_LOSS_LOOKUPS], mw_get(&mw_doors_seen.unwatched_lost));
}

// Whoever comes while another thread copies leaves the work to that one, which then copies again.
void mw_doors_changed(void) {
    if (!mw_awake() || mw_add(&publishing, 1) != 0) return;
    uint32_t asked;
    do {
        asked = atomic_load_explicit(&publishing, memory_order_acquire);
        publish_doors(mw_ledger);
    } while (!atomic_compare_exchange_strong(&publishing, &asked, 0));
}

// ---- start and end ---------------------------------------------------------------------------

static void mark_exit(void) {
    mw_set(&mw_ledger->exiting_ns, mw_now_ns());
    atomic_store_explicit(&mw_ledger->life, MW_LIFE_EXITING, memory_order_release);
}

// Without a companion the report is made here, as late as can be: destructors of other libraries
// free memory after ours has run.
MW_STARTUP_CODE static void render(void *unused) {
    (void)unused;
    if (!mw_ledger || !mw_awake() || companion_runs) return;
    if (!mw_companion_find(options.program, companion, sizeof companion)) return;
    mark_exit();
    char pid[24];
    struct mw_text t = mw_text(pid, sizeof pid);
    mw_put_number(&t, (uint64_t)getpid());
    char *const arguments[] = {"memwatch", "monitor", "--ledger", ledger_path,
                               "--pid",    pid,       "--now",    NULL};
    mw_companion_start(companion, arguments, true);
}

// Handlers of exit run in reverse. glibc registers the one that runs all destructors after the
// constructors of what is preloaded, so that one registered there comes behind it; it must belong
// to no library, or our destructor would bring it forward. (musl: all handlers, then all
// destructors.)
extern int __cxa_atexit(void (*)(void *), void *, void *);

__attribute__((constructor)) static void start(void) {
    MW_STARTUP static _Atomic bool started;
    // In a setuid program the environment is not trusted: stay off.
    if (atomic_exchange(&started, true) || getauxval(AT_SECURE)) return;
    mw_messages_init();
    mw_counters_init();
    __cxa_atexit(render, NULL, NULL);
    mw_set(&word_before_wake, MW_INERT);
}

__attribute__((destructor)) static void end(void) {
    if (mw_ledger && mw_awake()) mark_exit();
}

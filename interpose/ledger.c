// SPDX-License-Identifier: Apache-2.0
//
// The ledger file: made at the first GPU event, mapped once, grown by appending.
//
// One mapping of reserved address space for the whole life: nothing ever moves, so no pointer into
// it needs a lock. File space is always allocated before it is touched (posix_fallocate): a store
// into a hole of a full disk would be a SIGBUS in the watched program, an allocation that fails is
// a counted loss.
#include "ledger.h"
#include "startup.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define FIRST_SLOTS (64u * 1024)
#define MIB         (UINT64_C(1) << 20)

MW_READ_MOSTLY struct mw_header *mw_ledger;
MW_READ_MOSTLY uint32_t mw_ledger_epoch;

static int ledger_fd = -1;
static dev_t ledger_device; // with ledger_inode: which file that was
static ino_t ledger_inode;
static uint64_t reserved_bytes; // of address space
MW_READ_MOSTLY static uint64_t time_zero_ns;
static _Atomic uint32_t chunk_claims;
// The header's file_bytes, out of reach of whoever writes into the file: pointers come of it.
static _Atomic uint64_t used_bytes;

MW_HOT uint64_t mw_now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &t);
    uint64_t now = (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
    return now > time_zero_ns ? now - time_zero_ns : 0; // the coarse clock lags the fine one
}

// Keeps the descriptor out of the way of programs that close or reuse low numbers.
static int move_high(int fd) {
    int high = fcntl(fd, F_DUPFD_CLOEXEC, 1000);
    if (high < 0) return fd;
    close(fd);
    return high;
}

// Allocates file space. A file beyond the process's size limit (ulimit -f) would bring it SIGXFSZ,
// so the limit is looked at first.
static int allocate(int fd, uint64_t offset, uint64_t bytes) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY &&
        offset + bytes > limit.rlim_cur)
        return EFBIG;
    int saved = errno;
    int error = posix_fallocate(fd, (off_t)offset, (off_t)bytes);
    errno = saved;
    return error;
}

// fstat is a function of glibc 2.33; the system call fills the same struct on x86-64 and AArch64.
static bool status(int fd, struct stat *st) {
    return syscall(SYS_fstat, fd, st) == 0;
}

// A program that closes all descriptors may get our number for a file of its own, which must not
// be made longer.
static bool is_ledger(int fd) {
    struct stat st;
    int saved = errno;
    bool is = status(fd, &st) && st.st_dev == ledger_device && st.st_ino == ledger_inode;
    errno = saved;
    return is;
}

// Reserves address space for the whole future of the file; less where the process is limited
// (ulimit -v), and then the file just cannot grow as far. Only what is in the file is ever touched.
static struct mw_header *reserve(int fd, uint64_t max_bytes) {
    uint64_t want = max_bytes;
    struct rlimit limit;
    // Never more than an eighth of a limited address space: the rest is the program's.
    if (getrlimit(RLIMIT_AS, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY &&
        want > limit.rlim_cur / 8)
        want = limit.rlim_cur / 8;
    for (; want >= 4 * MIB; want /= 2) {
        void *p = mmap(NULL, want, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
        if (p != MAP_FAILED) {
            reserved_bytes = want;
            return p;
        }
    }
    return NULL;
}

static void fill_layout(struct mw_header *h) {
    memcpy(h->magic, MW_MAGIC, sizeof h->magic);
    h->format = MW_FORMAT;
    h->order = MW_ORDER;
    h->header_bytes = sizeof(struct mw_header);
    h->thread_bytes = sizeof(struct mw_thread);
    h->cell_bytes = sizeof(struct mw_cell);
    h->site_bytes = sizeof(struct mw_site);
    h->place_bytes = sizeof(struct mw_place);
    h->api_bytes = sizeof(struct mw_api);
    h->record_bytes = sizeof(struct mw_record);
    h->account_bytes = sizeof(struct mw_account);
    h->device_bytes = sizeof(struct mw_device);
    h->context_bytes = sizeof(struct mw_context);
    h->pool_bytes = sizeof(struct mw_pool);
    h->failure_bytes = sizeof(struct mw_failure);
    h->lookup_bytes = sizeof(struct mw_lookup);
    h->chunk_bytes = sizeof(struct mw_chunk);
    h->level_bytes = sizeof(struct mw_level);
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    h->start_realtime_ns = (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
    clock_gettime(CLOCK_MONOTONIC, &t);
    h->start_monotonic_ns = (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
    time_zero_ns = h->start_monotonic_ns;
    mw_set(&h->file_bytes, MW_HEADER_BYTES);
    mw_set(&used_bytes, MW_HEADER_BYTES);
}

int mw_ledger_create(const struct mw_ledger_place *place) {
    // Read-only for everybody else, since a file that is made shorter under its mapping would bring
    // the program SIGBUS. (Who may do anything can do that, too.)
    int fd = place->fd >= 0
                 ? place->fd
                 : open(place->path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0400);
    struct stat st;
    if (fd < 0) return -errno;
    fd = move_high(fd);
    int error = !status(fd, &st) ? errno : allocate(fd, 0, MW_HEADER_BYTES);
    struct mw_header *h = error ? NULL : reserve(fd, place->max_bytes);
    if (!error && !h) error = ENOMEM;
    if (!error) {
        ledger_fd = fd;
        ledger_device = st.st_dev;
        ledger_inode = st.st_ino;
        mw_set(&chunk_claims, 0);
        mw_records_reset();
        fill_layout(h);
        mw_ledger = h;
        mw_ledger_epoch++;
        bool tables = mw_counters_reset() && mw_sites_reset(place->sites);
        void *records =
            tables ? mw_ledger_grow(MW_CHUNK_RECORDS, FIRST_SLOTS, mw_records_bytes(FIRST_SLOTS))
                   : NULL;
        if (records) {
            mw_records_open(records, FIRST_SLOTS);
            return fd;
        }
        error = mw_get(&h->growth_errno);
        mw_ledger = NULL;
        munmap(h, reserved_bytes);
    }
    if (place->fd < 0) unlink(place->path);
    close(fd);
    return -error;
}

void mw_ledger_discard(void) {
    munmap(mw_ledger, reserved_bytes);
    close(ledger_fd);
    mw_ledger = NULL;
}

void *mw_ledger_grow(enum mw_chunk_kind kind, uint32_t count, uint64_t bytes) {
    struct mw_header *h = mw_ledger;
    bytes = (bytes + 4095) & ~UINT64_C(4095);
    uint64_t offset = mw_get(&used_bytes);
    int error = is_ledger(ledger_fd) ? 0 : EBADF;
    // What does not fit takes nothing away from smaller growth later.
    do
        if (offset + bytes > reserved_bytes) error = ENOSPC;
    while (!error && !atomic_compare_exchange_weak(&used_bytes, &offset, offset + bytes));
    if (!error) {
        mw_add(&h->file_bytes, bytes);
        error = allocate(ledger_fd, offset, bytes);
    }
    uint32_t claim = error ? MW_CHUNKS : mw_add(&chunk_claims, 1);
    if (claim >= MW_CHUNKS) {
        mw_set(&h->growth_errno, error ? error : ENOSPC);
        mw_lost(MW_LOSS_GROWTH, 1);
        return NULL;
    }
    struct mw_chunk *chunk = &h->chunk[claim];
    chunk->offset = offset;
    chunk->bytes = bytes;
    chunk->count = count;
    atomic_store_explicit(&chunk->kind, kind, memory_order_release);
    return (char *)h + offset;
}

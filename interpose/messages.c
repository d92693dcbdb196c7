// SPDX-License-Identifier: Apache-2.0
//
// What the program writes to standard error, kept in a ring in the ledger.
//
// The error that ends a run is mostly a text that Python or a framework prints at the very end. It
// is kept as it is: a report finds the known error in it, no process being watched does. Kept is
// what passes through write and writev on descriptor 2; the C library's own stdio makes its system
// calls without a symbol that could be interposed, so fprintf(stderr) is only seen by `memwatch
// run`.
//
// write may be called from signal handlers, and so may this: atomic operations on the ring, nothing
// else. Two writers never wait for each other; one that is overtaken by a whole ring of text while
// it copies garbles some of that text, which the reader bears.
#include "messages.h"

#include "doors.h"
#include "ledger.h"
#include "startup.h"
#include "wake.h"

#include <errno.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define RING_BYTES (UINT64_C(128) << 10)
#define TEXT_MAX   (UINT64_C(16) << 10) // of one write: its first and its last half of this are kept

MW_STARTUP static mw_pointer real_write, real_writev;
static struct mw_ring *ring; // of the ledger; NULL = messages are not kept

MW_STARTUP_CODE void mw_messages_init(void) {
    MW_STARTUP static char one[] = "write", several[] = "writev";
    mw_doors_real(&real_write, one);
    mw_doors_real(&real_writev, several);
}

void mw_messages_begin(void) {
    ring = mw_ledger_grow(MW_CHUNK_MESSAGES, RING_BYTES, MW_RING_HEAD + RING_BYTES);
}

// ---- the ring --------------------------------------------------------------------------------

typedef uint64_t __attribute__((may_alias)) ring_word;

static ring_word *word_at(uint64_t position) {
    // Whole words, whatever somebody wrote into `written`.
    return (ring_word *)((char *)ring + MW_RING_HEAD +
                         (position & (RING_BYTES - 1) & ~UINT64_C(7)));
}

static void sum_live(struct mw_message *m) {
    static const bool owned[] = {false,
#define X(id, name, owned) owned,
                                 MW_SPACES(X)
#undef X
    };
    for (unsigned i = 0; i < MW_ACCOUNTS; i++) {
        const struct mw_account *a = &mw_ledger->account[i];
        if (!mw_get(&a->state) || a->space >= MW_SPACE_COUNT || !owned[a->space]) continue;
        *(a->space == MW_SPACE_PINNED ? &m->live_host : &m->live_device) += mw_account_live(i);
    }
}

// Adding up takes time that grows with the number of threads, so a flood of messages has it done
// for the first few in a tick of the clock only.
#define SUMS_A_TICK 16u
static void know_live(struct mw_message *m) {
    static _Atomic uint64_t tick, device, host;
    static _Atomic uint32_t sums;
    if (atomic_exchange_explicit(&tick, m->when_ns, memory_order_relaxed) != m->when_ns)
        mw_set(&sums, 0);
    if (mw_add(&sums, 1) >= SUMS_A_TICK) {
        m->live_device = mw_get(&device);
        m->live_host = mw_get(&host);
        return;
    }
    sum_live(m);
    mw_set(&device, m->live_device);
    mw_set(&host, m->live_host);
}

// The text of one call comes in pieces (writev); positions in it run over all of them.
struct text {
    const struct iovec *piece;
    int pieces;
};

// Copies `bytes` bytes of the text from `from` on to the ring, as whole words.
static void copy(uint64_t to, const struct text *text, uint64_t from, uint64_t bytes) {
    union {
        char byte[8];
        uint64_t word;
    } next = {.word = 0};
    unsigned filled = 0;
    for (int i = 0; i < text->pieces && bytes; i++) {
        const struct iovec *p = &text->piece[i];
        for (uint64_t at = from < p->iov_len ? from : p->iov_len; at < p->iov_len && bytes; at++) {
            next.byte[filled++] = ((const char *)p->iov_base)[at];
            bytes--;
            if (filled < 8 && bytes) continue;
            *word_at(to) = next.word;
            to += 8;
            filled = 0;
            next.word = 0;
        }
        from -= from < p->iov_len ? from : p->iov_len;
    }
}

static void keep(const struct text *text, uint64_t length) {
    struct mw_message m = {.when_ns = mw_now_ns(), .tid = (uint32_t)syscall(SYS_gettid)};
    m.bytes = (uint32_t)(length < TEXT_MAX ? length : TEXT_MAX);
    m.cut = (uint32_t)(length - m.bytes < UINT32_MAX ? length - m.bytes : UINT32_MAX);
    know_live(&m);
    uint64_t size = sizeof m + ((m.bytes + 7u) & ~UINT64_C(7));
    uint64_t at = mw_add(&ring->written, size);
    const ring_word *head = (const ring_word *)&m;
    __atomic_store_n(word_at(at), 0, __ATOMIC_RELAXED);
    for (unsigned i = 1; i < sizeof m / 8; i++) *word_at(at + i * 8) = head[i];
    uint64_t first = m.cut ? TEXT_MAX / 2 : m.bytes;
    copy(at + sizeof m, text, 0, first);
    copy(at + sizeof m + first, text, length - (m.bytes - first), m.bytes - first);
    __atomic_store_n(word_at(at), at + 1, __ATOMIC_RELEASE);
}

static void note(int fd, const struct iovec *pieces, int count, ssize_t written) {
    if (fd != STDERR_FILENO || written <= 0 || !mw_awake() || !ring) return;
    int saved = errno;
    keep(&(struct text){pieces, count}, (uint64_t)written);
    errno = saved;
}

// ---- the doors -------------------------------------------------------------------------------

static void *real(mw_pointer *slot, const char *name) {
    void *function = atomic_load_explicit(slot, memory_order_acquire);
    if (mw_unlikely(!function)) { // a constructor that runs before ours
        mw_doors_real(slot, name);
        function = atomic_load_explicit(slot, memory_order_acquire);
    }
    return function;
}

__attribute__((visibility("default"))) ssize_t write(int fd, const void *bytes, size_t count) {
    ssize_t (*function)(int, const void *, size_t) = real(&real_write, "write");
    if (mw_unlikely(!function)) return syscall(SYS_write, fd, bytes, count);
    if (mw_likely(fd != STDERR_FILENO)) return function(fd, bytes, count);
    ssize_t written = function(fd, bytes, count);
    note(fd, &(struct iovec){(void *)bytes, count}, 1, written);
    return written;
}

__attribute__((visibility("default"))) ssize_t writev(int fd, const struct iovec *pieces,
                                                      int count) {
    ssize_t (*function)(int, const struct iovec *, int) = real(&real_writev, "writev");
    if (mw_unlikely(!function)) return syscall(SYS_writev, fd, pieces, count);
    if (mw_likely(fd != STDERR_FILENO)) return function(fd, pieces, count);
    ssize_t written = function(fd, pieces, count);
    note(fd, pieces, count, written);
    return written;
}

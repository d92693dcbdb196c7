// SPDX-License-Identifier: Apache-2.0
// links: report/reader.c report/messages.c report/places.c tests/unit/ledger_builder.c
//
// What a program wrote to standard error comes out of the ring as it went in, wherever the ring
// wraps and whoever was killed while writing; whatever else a ring holds gives no message, and no
// crash.
#include "../../report/messages.h" // interpose has one, too
#include "ledger_builder.h"

#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define RING 1024u

static char path[] = "/tmp/memwatch.messages.XXXXXX";
static struct builder b;
static struct messages m;

static int set_up(void **state) {
    (void)state;
    strcpy(path + sizeof path - 7, "XXXXXX");
    int fd = mkstemp(path);
    if (fd < 0) return -1;
    close(fd);
    builder_init(&b, 4, 64);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    messages_free(&m);
    builder_free(&b);
    return unlink(path);
}

static uint64_t write_text(const char *text, size_t bytes, uint32_t cut) {
    static const struct mw_message head = {
        .when_ns = 77, .live_device = 1000, .live_host = 20, .tid = 4242};
    struct mw_message one = head;
    one.bytes = (uint32_t)bytes;
    one.cut = cut;
    return builder_message(&b, &one, text);
}

static uint64_t say(const char *text) {
    return write_text(text, strlen(text), 0);
}

// Saves what `b` is now and reads its messages.
static void read_now(void) {
    struct reader r;
    assert_true(builder_save(&b, path, b.bytes));
    assert_int_equal(reader_open(&r, path), READER_OK);
    messages_free(&m);
    messages_read(&r, &m);
    reader_close(&r);
}

static void assert_said(size_t i, const char *text) {
    assert_true(i < m.count);
    assert_int_equal(m.item[i].bytes, strlen(text));
    assert_memory_equal(m.item[i].text, text, strlen(text));
}

// A word of the ring, by the position that its writer knows.
static uint64_t *word_at(uint64_t position) {
    return (uint64_t *)((char *)builder_ring_at(&b) + MW_RING_HEAD + (position & (RING - 1)));
}

// ---- what is understood ---------------------------------------------------------------------

static void a_message_is_what_was_written_with_time_thread_and_live_bytes(void **state) {
    (void)state;
    builder_ring(&b, RING, 0);
    say("one\n");
    say("");
    say("a longer one, of more than one word\n");
    read_now();
    assert_int_equal(m.source, MESSAGES_RING);
    assert_int_equal(m.count, 3);
    assert_said(0, "one\n");
    assert_said(1, "");
    assert_said(2, "a longer one, of more than one word\n");
    assert_int_equal(m.item[2].when_ns, 77);
    assert_int_equal(m.item[2].tid, 4242);
    assert_int_equal(m.item[2].live_device, 1000);
    assert_int_equal(m.item[2].live_host, 20);
    assert_int_equal(m.missing, 0);
}

static void a_ledger_without_a_ring_has_no_messages(void **state) {
    (void)state;
    read_now();
    assert_int_equal(m.source, MESSAGES_NONE);
    assert_int_equal(m.count, 0);
}

static void the_ring_may_wrap_at_any_word(void **state) {
    (void)state;
    builder_ring(&b, RING, 0);
    for (uint64_t start = 0; start <= RING; start += 8) {
        memset(word_at(0), 0, RING);
        builder_ring_at(&b)->written = 5 * RING + start;
        say("the first message, across the end of the ring or not\n");
        say("the second\n");
        read_now();
        assert_int_equal(m.count, 2);
        assert_said(0, "the first message, across the end of the ring or not\n");
        assert_said(1, "the second\n");
    }
}

static void of_more_text_than_the_ring_holds_the_last_is_kept(void **state) {
    (void)state;
    char text[64];
    builder_ring(&b, RING, 0);
    for (int i = 0; i < 1000; i++) {
        snprintf(text, sizeof text, "message number %d\n", i);
        say(text);
    }
    read_now();
    assert_true(m.count >= RING / 80 - 1 && m.count <= RING / 48);
    for (size_t i = 0; i < m.count; i++) {
        snprintf(text, sizeof text, "message number %d\n", (int)(1000 - m.count + i));
        assert_said(i, text);
    }
    assert_int_equal(m.missing, builder_ring_at(&b)->written - RING);
}

static void of_a_text_that_was_cut_both_halves_are_told_apart(void **state) {
    (void)state;
    builder_ring(&b, RING, 0);
    write_text("begins so ends so", 17, 5000);
    write_text("whole", 5, 0);
    read_now();
    assert_int_equal(m.item[0].cut, 5000);
    assert_int_equal(m.item[0].head, 8);
    assert_int_equal(m.item[1].head, 5);
}

static void bytes_of_any_value_are_kept(void **state) {
    (void)state;
    char text[256];
    for (int i = 0; i < 256; i++) text[i] = (char)i;
    builder_ring(&b, RING, RING - 104);
    write_text(text, sizeof text, 0);
    read_now();
    assert_int_equal(m.count, 1);
    assert_memory_equal(m.item[0].text, text, sizeof text);
}

// ---- writers that were killed or are at work ------------------------------------------------

static void a_message_that_was_never_completed_is_left_out_and_the_next_is_found(void **state) {
    (void)state;
    builder_ring(&b, RING, RING - 96);
    say("before\n");
    uint64_t torn = say("this one was being written\n");
    say("after\n");
    for (uint64_t word = 0; word < 3; word++) {
        *word_at(torn) = word == 1 ? torn + 2 : word * RING; // nothing, another's, an older round's
        read_now();
        assert_int_equal(m.count, 2);
        assert_said(0, "before\n");
        assert_said(1, "after\n");
    }
}

static void a_text_that_looks_like_a_message_is_text(void **state) {
    (void)state;
    builder_ring(&b, RING, 0);
    struct mw_message forged = {.commit = sizeof(struct mw_message) + 1, .bytes = 8};
    write_text((const char *)&forged, sizeof forged, 0);
    say("after\n");
    read_now();
    assert_int_equal(m.count, 2);
    assert_int_equal(m.item[0].bytes, sizeof forged);
    assert_said(1, "after\n");
}

// So large that a copy of it takes longer than a message.
#define LARGE (256u << 10)

static atomic_bool stop;
static char *shared; // the ring, mapped

// As the library writes, with texts that tell whether they are whole.
static void *write_all_the_time(void *unused) {
    (void)unused;
    struct mw_ring *ring = (struct mw_ring *)shared;
    for (uint64_t n = 0; !stop; n++) {
        struct mw_message one = {.tid = (uint32_t)n, .bytes = 8 * (uint32_t)(1 + n % 12)};
        uint64_t at = atomic_fetch_add(&ring->written, sizeof one + one.bytes);
        char *words = shared + MW_RING_HEAD;
#define WORD(position) ((_Atomic uint64_t *)(words + ((position) & (LARGE - 1))))
        atomic_store_explicit(WORD(at), 0, memory_order_relaxed);
        for (unsigned i = 1; i < sizeof one / 8; i++)
            atomic_store_explicit(WORD(at + i * 8), ((uint64_t *)&one)[i], memory_order_relaxed);
        for (unsigned i = 0; i < one.bytes; i += 8)
            atomic_store_explicit(WORD(at + sizeof one + i), n, memory_order_relaxed);
        atomic_store_explicit(WORD(at), at + 1, memory_order_release);
    }
    return NULL;
}

static void messages_read_while_others_are_written_are_whole(void **state) {
    (void)state;
    builder_ring(&b, LARGE, 0);
    assert_true(builder_save(&b, path, b.bytes));
    int fd = open(path, O_RDWR | O_CLOEXEC);
    char *map = mmap(NULL, b.bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    assert_ptr_not_equal(map, MAP_FAILED);
    close(fd);
    shared = map + ((char *)builder_ring_at(&b) - b.image);
    pthread_t writer;
    struct reader r;
    size_t seen = 0;
    stop = false;
    assert_int_equal(reader_open(&r, path), READER_OK);
    assert_int_equal(pthread_create(&writer, NULL, write_all_the_time, NULL), 0);
    for (int i = 0; i < 300 || (seen < 1000 && i < 20000); i++) {
        messages_free(&m);
        messages_read(&r, &m);
        seen += m.count;
        for (size_t k = 0; k < m.count; k++)
            for (size_t at = 0; at < m.item[k].bytes; at += 8) {
                uint64_t word;
                memcpy(&word, m.item[k].text + at, 8);
                if ((uint32_t)word != m.item[k].tid) stop = true;
                assert_int_equal((uint32_t)word, m.item[k].tid);
            }
    }
    stop = true;
    pthread_join(writer, NULL);
    reader_close(&r);
    munmap(map, b.bytes);
    assert_true(seen >= 1000);
}

// ---- what is no ring ------------------------------------------------------------------------

static struct mw_chunk *ring_chunk(void) {
    struct mw_chunk *c = b.header->chunk;
    while (c->kind != MW_CHUNK_MESSAGES) c++;
    return c;
}

static void a_ring_of_an_impossible_size_has_no_messages(void **state) {
    (void)state;
    static const uint32_t sizes[] = {0, 1, 7, 1000, 4096, 1u << 30, 1u << 31, UINT32_MAX};
    builder_ring(&b, RING, 0);
    say("a text\n");
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        ring_chunk()->count = sizes[i];
        read_now();
        assert_int_equal(m.count, 0);
    }
    ring_chunk()->count = RING;
    read_now();
    assert_int_equal(m.count, 1);
}

static void a_position_that_no_writer_comes_to_is_no_crash(void **state) {
    (void)state;
    static const uint64_t positions[] = {
        1,          7,          RING + 3,     UINT32_MAX, 1ull << 62, (1ull << 63) - 8,
        1ull << 63, ~0ull - 64, ~0ull - RING, ~0ull};
    builder_ring(&b, RING, 0);
    say("a text\n");
    for (size_t i = 0; i < sizeof positions / sizeof positions[0]; i++) {
        builder_ring_at(&b)->written = positions[i];
        read_now();
        assert_int_equal(m.count, 0);
    }
}

static void a_length_beyond_what_was_written_is_not_believed(void **state) {
    (void)state;
    static const uint32_t lengths[] = {9, 1000, 1024, 1025, UINT32_MAX - 7, UINT32_MAX};
    builder_ring(&b, RING, 2 * RING);
    uint64_t at = say("a text\n");
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        ((struct mw_message *)word_at(at))->bytes = lengths[i];
        read_now();
        assert_int_equal(m.count, 0);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(a_message_is_what_was_written_with_time_thread_and_live_bytes),
        TEST(a_ledger_without_a_ring_has_no_messages),
        TEST(the_ring_may_wrap_at_any_word),
        TEST(of_more_text_than_the_ring_holds_the_last_is_kept),
        TEST(of_a_text_that_was_cut_both_halves_are_told_apart),
        TEST(bytes_of_any_value_are_kept),
        TEST(a_message_that_was_never_completed_is_left_out_and_the_next_is_found),
        TEST(a_text_that_looks_like_a_message_is_text),
        TEST(messages_read_while_others_are_written_are_whole),
        TEST(a_ring_of_an_impossible_size_has_no_messages),
        TEST(a_position_that_no_writer_comes_to_is_no_crash),
        TEST(a_length_beyond_what_was_written_is_not_believed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

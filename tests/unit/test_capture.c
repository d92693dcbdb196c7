// SPDX-License-Identifier: Apache-2.0
// links: report/capture.c report/messages.c report/journal.c report/places.c
//
// What `memwatch run` keeps of standard error is what was printed first and last, to the byte; and
// put together with what the library kept of it, nothing is there twice and nothing is lost.
#include "capture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define START UINT64_C(1000000) // of the ledger, on the clock of what was captured

static char path[64];
static struct capture_writer writer;
static struct messages ring;

static int set_up(void **state) {
    (void)state;
    strcpy(path, "/tmp/memwatch.capture.XXXXXX");
    int fd = mkstemp(path);
    if (fd < 0) return -1;
    close(fd);
    unlink(path);
    writer = (struct capture_writer){.fd = -1};
    memset(&ring, 0, sizeof ring);
    return capture_create(path, &writer.fd) ? 0 : -1;
}

static int tear_down(void **state) {
    (void)state;
    messages_free(&ring);
    close(writer.fd);
    return unlink(path);
}

static void print(const char *text) {
    capture_write(&writer, text, strlen(text));
}

// A message that the library kept.
static void keep(const char *text, uint64_t when_ns) {
    struct message one = {.when_ns = when_ns, .tid = 7, .live_device = 99, .text = text};
    one.bytes = one.head = strlen(text);
    ring.source = MESSAGES_RING;
    messages_add(&ring, &one);
}

static char *joined(void) {
    size_t bytes = 0;
    for (size_t i = 0; i < ring.count; i++) bytes += ring.item[i].bytes;
    char *text = calloc(bytes + 1, 1);
    for (size_t i = 0, at = 0; i < ring.count; at += ring.item[i++].bytes)
        memcpy(text + at, ring.item[i].text, ring.item[i].bytes);
    return text;
}

static void assert_text(const char *wanted) {
    char *text = joined();
    assert_string_equal(text, wanted);
    free(text);
}

static void what_was_printed_is_what_is_read_whatever_the_pieces(void **state) {
    (void)state;
    char *all = calloc(50000, 1);
    for (unsigned i = 0; i < 49999; i++) all[i] = (char)('a' + i * 7 % 26);
    for (size_t at = 0, n = 1; at < 49999; at += n, n = n * 3 % 40009 + 1) {
        if (n > 49999 - at) n = 49999 - at;
        capture_write(&writer, all + at, n);
    }
    capture_merge(&ring, writer.fd, START);
    assert_int_equal(ring.source, MESSAGES_CAPTURE);
    assert_int_equal(ring.missing, 0);
    assert_text(all);
    free(all);
}

static void of_more_than_there_is_room_for_the_first_and_the_last_are_kept(void **state) {
    (void)state;
    size_t lines = 40000, bytes = lines * 16;
    char *all = calloc(bytes + 1, 1);
    for (size_t i = 0; i < lines; i++) {
        snprintf(all + 16 * i, 17, "line %10zu\n", i);
        capture_write(&writer, all + 16 * i, 16);
    }
    capture_merge(&ring, writer.fd, START);
    char *text = joined();
    size_t kept = strlen(text), first = 0, last = 0;
    while (first < kept && text[first] == all[first]) first++;
    while (last < kept && text[kept - 1 - last] == all[bytes - 1 - last]) last++;
    // Each line has a head of 48 bytes.
    assert_in_range(first, CAPTURE_FIRST / 4 - 64, CAPTURE_FIRST / 4 + 64);
    assert_in_range(last, CAPTURE_LAST / 4 - 64, CAPTURE_LAST / 4 + 64);
    assert_int_equal(first / 16 + last / 16, kept / 16);
    assert_true(ring.missing >= bytes - kept);
    free(text);
    free(all);
}

static void what_both_saw_is_there_once_and_tells_what_was_live(void **state) {
    (void)state;
    print("stdio one\nwritten one\n");
    print("writ");
    print("ten two\nstdio two\n");
    keep("written one\n", 10);
    keep("written two\n", 20);
    capture_merge(&ring, writer.fd, START);
    assert_text("stdio one\nwritten one\nwritten two\nstdio two\n");
    static const struct {
        const char *text;
        uint32_t tid;
        uint64_t live;
    } wanted[] = {{"stdio one\n", 0, MESSAGE_LIVE_UNKNOWN},
                  {"written one\n", 7, 99},
                  {"written two\n", 7, 99},
                  {"stdio two\n", 0, MESSAGE_LIVE_UNKNOWN}};
    assert_int_equal(ring.count, 4);
    for (size_t i = 0; i < 4; i++) {
        assert_memory_equal(ring.item[i].text, wanted[i].text, ring.item[i].bytes);
        assert_int_equal(ring.item[i].tid, wanted[i].tid);
        assert_int_equal(ring.item[i].live_device, wanted[i].live);
    }
}

static void repeated_texts_are_not_taken_for_one(void **state) {
    (void)state;
    for (int i = 0; i < 5; i++) {
        print("\n");
        print("again\n");
        keep("again\n", 10 + i);
        keep("\n", 10 + i);
    }
    capture_merge(&ring, writer.fd, START);
    assert_text("\nagain\n\nagain\n\nagain\n\nagain\n\nagain\n\n");
}

// A program puts a file in the place of descriptor 2, and later takes it back.
static void what_only_the_library_saw_stays_at_its_time(void **state) {
    (void)state;
    struct timespec pause = {.tv_nsec = 2000000}, now;
    print("first\n");
    nanosleep(&pause, NULL);
    clock_gettime(CLOCK_MONOTONIC, &now);
    uint64_t between = (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec - START;
    nanosleep(&pause, NULL);
    print("last\n");
    keep("elsewhere\n", between);
    capture_merge(&ring, writer.fd, START);
    assert_text("first\nelsewhere\nlast\n");
}

static void if_nothing_was_captured_the_library_s_messages_stay(void **state) {
    (void)state;
    keep("elsewhere\n", 10);
    capture_merge(&ring, writer.fd, START);
    assert_int_equal(ring.source, MESSAGES_RING);
    assert_text("elsewhere\n");
}

static void times_count_from_the_ledger_s_start(void **state) {
    (void)state;
    struct timespec now;
    print("text");
    clock_gettime(CLOCK_MONOTONIC, &now);
    uint64_t after = (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec - START;
    capture_merge(&ring, writer.fd, START);
    assert_true(after - ring.item[0].when_ns < 1000000000);
}

static void a_file_that_is_cut_is_no_crash(void **state) {
    (void)state;
    print("text");
    for (off_t size = sizeof(struct capture_file); size > 0; size /= 3) {
        assert_int_equal(ftruncate(writer.fd, size), 0);
        capture_merge(&ring, writer.fd, START);
        messages_free(&ring);
    }
    print("more text, which is not kept well");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(what_was_printed_is_what_is_read_whatever_the_pieces),
        TEST(of_more_than_there_is_room_for_the_first_and_the_last_are_kept),
        TEST(what_both_saw_is_there_once_and_tells_what_was_live),
        TEST(repeated_texts_are_not_taken_for_one),
        TEST(what_only_the_library_saw_stays_at_its_time),
        TEST(if_nothing_was_captured_the_library_s_messages_stay),
        TEST(times_count_from_the_ledger_s_start),
        TEST(a_file_that_is_cut_is_no_crash),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

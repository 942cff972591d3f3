/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * A disk that really is full: a tmpfs of 3 MiB, where one can be mounted. Enqueues are answered
 * with 13 and why; what makes room goes on, and then messages do again; nothing is lost.
 */
#include "store_rig.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <unistd.h>

enum {
    BIG = 65536,
    SMALL_DISK = 3 << 20
};

static const char *file;
static char folder[160];
static fila_broker *broker;
static bool mounted;

static void set_up(void)
{
    file = new_path();
    (void)snprintf(folder, sizeof folder, "%s", file);
    *strrchr(folder, '/') = '\0';
    mounted = unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
              mount("tmpfs", folder, "tmpfs", 0, "size=3m") == 0;
    if (mounted) {
        broker = must_open(file, 5);
        must_create(broker, "q", 600000);
    }
}

static void tear_down(void)
{
    fila_broker_free(broker);
    remove_path();
    if (mounted) {
        (void)umount(folder);
        (void)rmdir(folder);
    }
}

TestSuite(full, .init = set_up, .fini = tear_down);

#define NEEDS_A_DISK()                           \
    if (!mounted) {                              \
        cr_skip("no tmpfs can be mounted here"); \
    }

/* ---- Filling it ---- */

static fila_status put(size_t len)
{
    static char bytes[BIG];
    fila_request request = {.call = FILA_CALL_ENQUEUE};
    fila_error error;
    char text[FILA_ERROR_TEXT];
    request.as.enqueue.queue = fila_view_of("q");
    request.as.enqueue.payload = (fila_view){bytes, len};
    (void)ask_call(broker, &request, &error);
    if (error.code != FILA_OK) {
        (void)snprintf(text, sizeof text, "%s: cannot write: the disk is full", file);
        cr_expect(eq(int, error.code, FILA_INTERNAL));
        cr_expect(eq(int, error.wire_code, 13));
        cr_expect(eq(str, (char *)error.text, text));
    }
    return error.code;
}

/* Enqueues until it is refused; how many were not. */
static uint64_t fill(size_t len)
{
    uint64_t confirmed = 0;
    while (put(len) == FILA_OK) {
        confirmed++;
        cr_assert(lt(u64, confirmed, SMALL_DISK / len), "3 MiB are full at last");
    }
    return confirmed;
}

/* Somebody else takes what is left, to the last byte. Returns the name. */
static const char *take_all(void)
{
    static char name[200];
    static const char bytes[4096];
    (void)snprintf(name, sizeof name, "%s/other", folder);
    int fd = open(name, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    cr_assert(ge(int, fd, 0));
    while (write(fd, bytes, sizeof bytes) > 0) {
    }
    (void)close(fd);
    return name;
}

/* Takes and acks `count` messages. */
static void take(struct reader *reader, uint64_t count)
{
    struct got got;
    for (uint64_t i = 0; i < count; i++) {
        cr_assert(next_message(reader, 20000, &got), "message %llu", (unsigned long long)i);
        must_settle(broker, FILA_CALL_ACK, "q", got.id);
    }
}

/* The same with a stream of its own, which leaves nothing leased when it takes all. */
static void drain(uint64_t count)
{
    struct reader *reader = reader_open(broker, "q");
    take(reader, count);
    reader_close(reader);
}

static void reopen(void)
{
    fila_broker_free(broker);
    broker = must_open(file, 5);
}

/* Until enqueues are taken again: it is tried four times a second. */
static void wait_until_well(void)
{
    int64_t until = fila_now() + 30 * FILA_S;
    struct timespec pause = {0, 20000000};
    while (put(16) != FILA_OK) {
        cr_assert(lt(i64, fila_now(), until));
        (void)nanosleep(&pause, NULL);
    }
}

/* ---- What must go on ---- */

Test(full, enqueues_are_refused_and_well_again)
{
    NEEDS_A_DISK();
    uint64_t confirmed = fill(BIG);
    cr_expect(gt(u64, confirmed, 8));
    cr_expect(eq(u64, depth_of(broker, "q"), confirmed), "what was answered with 13 is not there");
    cr_assert(mount(NULL, folder, NULL, MS_REMOUNT, "size=16m") == 0);
    wait_until_well();
    for (int i = 0; i < 40; i++) {
        cr_assert(eq(int, put(BIG), FILA_OK));
    }
    reopen();
    cr_expect(eq(u64, depth_of(broker, "q"), confirmed + 41));
}

Test(full, acks_go_on_and_make_room)
{
    NEEDS_A_DISK();
    for (int round = 0; round < 4; round++) {
        uint64_t confirmed = fill(BIG);
        cr_assert(
            gt(u64, confirmed, round ? 2 : 8), "%llu in round %d", (unsigned long long)confirmed,
            round);
        drain(confirmed);
        cr_assert(eq(u64, depth_of(broker, "q"), 0));
    }
    reopen();
    cr_expect(eq(u64, depth_of(broker, "q"), 0));
    cr_expect(eq(int, put(BIG), FILA_OK));
}

/* Not this program's fault: it had no warning. */
Test(full, somebody_else_takes_the_last_byte)
{
    NEEDS_A_DISK();
    uint64_t confirmed = 0;
    for (; confirmed < 200; confirmed++) {
        cr_assert(eq(int, put(1024), FILA_OK));
    }
    const char *other = take_all();
    struct reader *reader = reader_open(broker, "q");
    take(reader, 100);
    uint64_t more = fill(1024); /* in the place of those */
    take(reader, more + 50);
    cr_expect(eq(u64, depth_of(broker, "q"), 50));
    take(reader, 50);
    reader_close(reader);
    reopen();
    cr_expect(eq(u64, depth_of(broker, "q"), 0));
    (void)unlink(other);
    wait_until_well();
}

Test(full, what_changes_no_size_goes_on)
{
    NEEDS_A_DISK();
    fila_error error;
    struct got got;
    must_set(broker, "old", "setting");
    (void)fill(BIG);
    (void)take_all();
    struct reader *reader = reader_open(broker, "q");
    cr_assert(next_message(reader, 20000, &got));
    for (uint32_t attempt = 1; attempt < 50; attempt++) {
        must_settle(broker, FILA_CALL_NACK, "q", got.id);
        do { /* the others are before it */
            cr_assert(next_message(reader, 20000, &got));
            if (got.attempts == 0) {
                must_settle(broker, FILA_CALL_ACK, "q", got.id);
            }
        } while (got.attempts == 0);
        cr_expect(eq(u32, got.attempts, attempt));
    }
    must_settle(broker, FILA_CALL_ACK, "q", got.id);
    reader_close(reader);
    must_set(broker, "old", "");
    cr_expect(
        eq(int, simple_call(broker, FILA_CALL_GET_STATS, "none", &error), FILA_QUEUE_NOT_FOUND),
        "%s", error.text);
    cr_expect(eq(int, simple_call(broker, FILA_CALL_DELETE_QUEUE, "q", &error), FILA_OK));
    reopen();
    expect_config(broker, "old", "");
    cr_expect(
        ne(int, simple_call(broker, FILA_CALL_GET_STATS, "q", &error), FILA_OK), "it is deleted");
}

/* There is no reserve to be had then: it can be read at least, and waits for room. */
Test(full, a_start_on_a_full_disk)
{
    NEEDS_A_DISK();
    uint64_t confirmed = fill(BIG);
    fila_broker_free(broker);
    const char *other = take_all();
    broker = must_open(file, 5);
    cr_expect(eq(u64, depth_of(broker, "q"), confirmed));
    cr_expect(eq(int, put(16), FILA_INTERNAL));
    (void)unlink(other);
    wait_until_well();
    drain(confirmed + 1);
    reopen();
    cr_expect(eq(u64, depth_of(broker, "q"), 0));
}

Test(full, nothing_is_left_beside_the_file)
{
    NEEDS_A_DISK();
    char name[200];
    (void)snprintf(name, sizeof name, "%s-reserve", file);
    cr_expect(access(name, F_OK) != 0);
    (void)fill(BIG);
    cr_expect(access(name, F_OK) != 0);
}

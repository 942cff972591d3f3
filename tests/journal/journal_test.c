/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * The journal: what is put comes back after the process, from every state that a kill can leave.
 */
#include "base/clock.h"
#include "journal/file.h"
#include "journal/journal.h"
#include "journal/record.h"

#include <criterion/criterion.h>

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>
#include <zlib.h>

static char dir[] = "/tmp/fila-journal-XXXXXX";
static atomic_int downs;
static atomic_int ups;
static atomic_int losses;
static atomic_int last_value;

static void on_event(void *user, enum fw_journal_event event, int64_t value)
{
    (void)user;
    atomic_fetch_add(
        event == FW_JOURNAL_DOWN ? &downs
        : event == FW_JOURNAL_UP ? &ups
                                 : &losses,
        1);
    atomic_store(&last_value, (int)value);
}

static void setup(void)
{
    cr_assert_not_null(mkdtemp(dir));
}

static char *path_of(const char *name)
{
    static char path[128];
    (void)snprintf(path, sizeof(path), "%s/%s", dir, name);
    return path;
}

static void teardown(void)
{
    (void)unlink(path_of("journal"));
    (void)unlink(path_of("journal.new"));
    (void)rmdir(dir);
}

TestSuite(journal, .init = setup, .fini = teardown);

static struct fw_journal *open_with(
    struct fw_journal_options options,
    struct fw_journal_report *report)
{
    struct fw_journal *journal = NULL;
    fila_error error = FILA_ERROR_INIT;
    options.dir = dir;
    options.on_event = on_event;
    cr_assert_eq(fw_journal_open(&options, &journal, report, &error), FILA_OK, "%s", error.text);
    return journal;
}

static struct fw_journal *open_it(struct fw_journal_report *report)
{
    return open_with((struct fw_journal_options){0}, report);
}

static struct fw_journal_entry entry(const char *id, uint32_t tries)
{
    return (struct fw_journal_entry){
        .served = fila_view_of("orders"),
        .queue = fila_view_of("orders"),
        .id = fila_view_of(id),
        .tries = tries,
        .attempt_seen = 7,
        .not_before = 123 * FILA_S,
        .done = 0,
        .doomed = 2,
    };
}

static void put(struct fw_journal *journal, const char *id, uint32_t tries)
{
    struct fw_journal_entry e = entry(id, tries);
    if (tries == 0) {
        e.not_before = 0;
        e.doomed = 0;
    }
    fw_journal_put(journal, &e);
}

static bool is_text(fila_view view, const char *text)
{
    return view.len == strlen(text) && memcmp(view.data, text, view.len) == 0;
}

Test(journal, what_is_put_comes_back)
{
    struct fw_journal_report report;
    struct fw_journal *journal = open_it(&report);
    cr_assert_eq(report.messages, 0);
    cr_assert_eq(report.cut_bytes, 0);
    put(journal, "a", 1);
    struct fw_journal_entry other = entry("b", 3);
    other.queue = fila_view_of("orders.dlq");
    other.done = 3;
    fw_journal_put(journal, &other);
    put(journal, "a", 2);
    fw_journal_commit(journal);
    fw_journal_close(journal);

    journal = open_it(&report);
    cr_assert_eq(report.messages, 2);
    cr_assert_eq(report.cut_bytes, 0);
    cr_assert_not(report.rebooted);
    size_t count;
    struct fw_journal_entry *all = fw_journal_load(journal, fila_view_of("orders"), &count);
    cr_assert_eq(count, 2);
    cr_assert(is_text(all[0].id, "b") && is_text(all[0].queue, "orders.dlq"));
    cr_assert(is_text(all[0].served, "orders"));
    cr_assert_eq(all[0].tries, 3);
    cr_assert_eq(all[0].done, 3);
    cr_assert(is_text(all[1].id, "a") && is_text(all[1].queue, "orders"));
    cr_assert_eq(all[1].tries, 2);
    cr_assert_eq(all[1].attempt_seen, 7);
    cr_assert_eq(all[1].not_before, 123 * FILA_S);
    cr_assert_eq(all[1].doomed, 2);
    free(all);
    cr_assert_null(fw_journal_load(journal, fila_view_of("other"), &count));
    cr_assert_eq(count, 0);
    fw_journal_close(journal);
}

Test(journal, what_is_forgotten_does_not)
{
    struct fw_journal_report report;
    struct fw_journal *journal = open_it(&report);
    put(journal, "a", 1);
    put(journal, "b", 1);
    fw_journal_commit(journal);
    fw_journal_sync(journal);
    put(journal, "a", 0);
    fw_journal_commit(journal);
    fw_journal_close(journal);
    journal = open_it(&report);
    cr_assert_eq(report.messages, 1);
    fw_journal_close(journal);
}

Test(journal, done_and_acked_at_once_never_reaches_the_disk)
{
    struct fw_journal_report report;
    struct fw_journal *journal =
        open_with((struct fw_journal_options){.gather = 10 * FILA_S}, &report);
    struct fw_journal_stats before = fw_journal_stats(journal);
    for (int i = 0; i < 1000; i++) {
        char id[16];
        (void)snprintf(id, sizeof(id), "m%d", i);
        put(journal, id, 1);
        put(journal, id, 0);
        fw_journal_commit(journal);
    }
    fw_journal_sync(journal);
    struct fw_journal_stats after = fw_journal_stats(journal);
    cr_assert_eq(after.groups, before.groups);
    cr_assert_eq(after.bytes, before.bytes);
    fw_journal_close(journal);
}

Test(journal, a_group_is_one_write)
{
    struct fw_journal_report report;
    struct fw_journal *journal =
        open_with((struct fw_journal_options){.gather = 10 * FILA_S}, &report);
    for (int i = 0; i < 1000; i++) {
        char id[16];
        (void)snprintf(id, sizeof(id), "m%d", i);
        put(journal, id, 1);
        fw_journal_commit(journal);
    }
    fw_journal_sync(journal);
    struct fw_journal_stats stats = fw_journal_stats(journal);
    cr_assert_eq(stats.groups, 1);
    cr_assert_eq(stats.lost, 0);
    fw_journal_close(journal);
    journal = open_it(&report);
    cr_assert_eq(report.messages, 1000);
    fw_journal_close(journal);
}

/* ---- Damage ---- */

static size_t read_file(uint8_t *data, size_t room)
{
    int fd = open(path_of("journal"), O_RDONLY);
    ssize_t n = read(fd, data, room);
    (void)close(fd);
    cr_assert_geq(n, 0);
    return (size_t)n;
}

static void write_file(const uint8_t *data, size_t size)
{
    int fd = open(path_of("journal"), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    cr_assert_eq(write(fd, data, size), (ssize_t)size);
    (void)close(fd);
}

enum {
    RECORDS = 5
};

/* A journal of RECORDS messages; where each record ends. */
static size_t small_journal(uint8_t *data, size_t room, size_t ends[RECORDS])
{
    struct fw_journal_report report;
    struct fw_journal *journal = open_it(&report);
    for (int i = 0; i < RECORDS; i++) {
        char id[16];
        (void)snprintf(id, sizeof(id), "message-%d", i);
        put(journal, id, 1);
        fw_journal_commit(journal);
    }
    fw_journal_close(journal);
    size_t size = read_file(data, room);
    size_t at = FW_JOURNAL_HEAD;
    for (int i = 0; i < RECORDS; i++) {
        struct fw_journal_entry e;
        size_t used;
        cr_assert_eq(fw_record_get(data + at, size - at, &e, &used), FW_RECORD_GOOD);
        at += used;
        ends[i] = at;
    }
    cr_assert_eq(at, size);
    return size;
}

Test(journal, is_cut_at_every_byte_and_read_as_far_as_it_goes)
{
    uint8_t data[1024];
    size_t ends[RECORDS];
    size_t size = small_journal(data, sizeof(data), ends);
    for (size_t cut = 0; cut <= size; cut++) {
        struct fw_journal_report report;
        uint32_t whole = 0;
        size_t good = cut < FW_JOURNAL_HEAD ? 0 : FW_JOURNAL_HEAD;
        for (int i = 0; i < RECORDS && ends[i] <= cut; i++) {
            whole++;
            good = ends[i];
        }
        write_file(data, cut);
        fw_journal_close(open_it(&report));
        cr_assert_eq(report.messages, whole, "cut at %zu: %u", cut, report.messages);
        cr_assert_eq(report.cut_bytes, cut - good, "cut at %zu: %lu", cut, report.cut_bytes);
        fw_journal_close(open_it(&report)); /* and the next one finds it whole */
        cr_assert_eq(report.messages, whole);
        cr_assert_eq(report.cut_bytes, 0);
    }
}

Test(journal, a_flipped_bit_ends_it_and_never_lies)
{
    uint8_t data[1024];
    size_t ends[RECORDS];
    size_t size = small_journal(data, sizeof(data), ends);
    struct fw_boot boot = fw_boot_now();
    for (size_t bit = 0; bit < size * 8; bit++) {
        uint8_t copy[1024];
        struct fw_journal_report report;
        struct fw_journal_table *table = fw_journal_table_new(100, SIZE_MAX);
        memcpy(copy, data, size);
        copy[bit / 8] ^= (uint8_t)(1 << bit % 8);
        fw_journal_file_parse(copy, size, &boot, 0, table, &report);
        uint32_t before = 0;
        for (int i = 0; i < RECORDS && ends[i] <= bit / 8; i++) {
            before++;
        }
        cr_assert_eq(report.messages, before, "bit %zu", bit);
        cr_assert_gt(report.cut_bytes, 0);
        fw_journal_table_free(table);
    }
}

Test(journal, a_file_that_is_none_is_replaced)
{
    struct fw_journal_report report;
    write_file((const uint8_t *)"this is no journal, and it is longer than a head", 48);
    struct fw_journal *journal = open_it(&report);
    cr_assert_eq(report.messages, 0);
    cr_assert_eq(report.cut_bytes, 48);
    put(journal, "a", 1);
    fw_journal_commit(journal);
    fw_journal_close(journal);
    fw_journal_close(open_it(&report));
    cr_assert_eq(report.messages, 1);
}

/* Its checksum fits, and it was never one of ours. */
Test(journal, a_record_whose_lengths_do_not_add_up_ends_it)
{
    uint8_t data[256];
    struct fw_journal_entry e = entry("some-id", 1);
    struct fw_journal_entry found;
    size_t used;
    size_t size = fw_record_size(&e);
    fw_record_put(&e, data);
    cr_assert_eq(fw_record_get(data, size, &found, &used), FW_RECORD_GOOD);
    data[FW_RECORD_HEAD + 6]--; /* of the id's length */
    uint32_t sum =
        htole32((uint32_t)crc32(0, data + FW_RECORD_HEAD, (unsigned)(size - FW_RECORD_HEAD)));
    memcpy(data + 4, &sum, sizeof(sum));
    cr_assert_eq(fw_record_get(data, size, &found, &used), FW_RECORD_TORN);
}

/* Another program's file, whose checksum happens to be in the right place. */
Test(journal, a_head_of_another_kind_is_none)
{
    uint8_t data[1024];
    size_t ends[RECORDS];
    size_t size = small_journal(data, sizeof(data), ends);
    struct fw_journal_report report;
    data[7] = '2'; /* of a later version, say */
    uint32_t sum = htole32((uint32_t)crc32(0, data, 32));
    memcpy(data + 32, &sum, sizeof(sum));
    write_file(data, size);
    struct fw_journal *journal = open_it(&report);
    cr_assert_eq(report.messages, 0);
    cr_assert_eq(report.cut_bytes, size);
    fw_journal_close(journal);
}

/* ---- Bounds ---- */

/* What was changed again is not the oldest any more. */
Test(journal, the_one_that_changed_longest_ago_goes_first)
{
    struct fw_journal_report report;
    struct fw_journal *journal = open_with((struct fw_journal_options){.limit = 2}, &report);
    size_t count;
    static const char *const order[] = {"a", "b", "a", "c"};
    for (int i = 0; i < 4; i++) {
        put(journal, order[i], 1);
        fw_journal_commit(journal);
        fw_journal_sync(journal);
    }
    struct fw_journal_entry *all = fw_journal_load(journal, fila_view_of("orders"), &count);
    cr_assert_eq(count, 2);
    cr_assert(is_text(all[0].id, "a") && is_text(all[1].id, "c"));
    free(all);
    fw_journal_close(journal);
}

/* A file that has grown large because much is known is not rewritten for each group. */
Test(journal, is_rewritten_only_when_most_of_it_is_stale)
{
    struct fw_journal_report report;
    struct fw_journal *journal =
        open_with((struct fw_journal_options){.least_file = 1, .gather = 1}, &report);
    for (int i = 0; i < 64; i++) {
        char id[16];
        (void)snprintf(id, sizeof(id), "m%d", i);
        put(journal, id, 1);
        fw_journal_commit(journal);
        fw_journal_sync(journal);
    }
    cr_assert_lt(fw_journal_stats(journal).rewrites, 8);
    fw_journal_close(journal);
}

/* It waits for more: what comes meanwhile is one group with it. */
Test(journal, a_group_is_collected_for_a_while)
{
    struct fw_journal_report report;
    struct fw_journal *journal =
        open_with((struct fw_journal_options){.gather = 100 * FILA_S}, &report);
    put(journal, "a", 1);
    fw_journal_commit(journal);
    for (int i = 0; i < 100; i++) {
        cr_assert_eq(fw_journal_stats(journal).groups, 0);
        (void)usleep(1000);
    }
    fw_journal_close(journal);
    fw_journal_close(open_it(&report));
    cr_assert_eq(report.messages, 1);
}

Test(journal, keeps_the_newest_messages_and_a_file_of_twice_their_size)
{
    struct fw_journal_report report;
    struct fw_journal *journal = open_with(
        (struct fw_journal_options){.limit = 50, .least_file = 2048, .gather = 1}, &report);
    for (int i = 0; i < 3000; i++) {
        char id[16];
        (void)snprintf(id, sizeof(id), "m%d", i);
        put(journal, id, 1);
        fw_journal_commit(journal);
        if (i % 20 == 0) {
            fw_journal_sync(journal);
            struct fw_journal_stats stats = fw_journal_stats(journal);
            cr_assert_leq(stats.file_bytes, 2 * (50 * 64 + 50 * 64), "%lu", stats.file_bytes);
        }
    }
    fw_journal_sync(journal);
    cr_assert_gt(fw_journal_stats(journal).rewrites, 5);
    fw_journal_close(journal);
    journal = open_with((struct fw_journal_options){.limit = 50}, &report);
    cr_assert_eq(report.messages, 50);
    size_t count;
    struct fw_journal_entry *all = fw_journal_load(journal, fila_view_of("orders"), &count);
    cr_assert_eq(count, 50);
    cr_assert(is_text(all[0].id, "m2950") && is_text(all[49].id, "m2999"));
    free(all);
    fw_journal_close(journal);
}

/* Names may be long: the bytes are bounded too. */
Test(journal, keeps_no_more_bytes_than_it_may)
{
    static char name[1001];
    struct fw_journal_report report;
    struct fw_journal *journal = open_with(
        (struct fw_journal_options){.most_bytes = 20000, .least_file = 1, .gather = 1}, &report);
    memset(name, 'n', 1000);
    for (int i = 0; i < 200; i++) {
        (void)snprintf(name, sizeof(name), "%03d", i);
        name[3] = 'n';
        put(journal, name, 1);
        fw_journal_commit(journal);
        fw_journal_sync(journal);
        cr_assert_leq(fw_journal_stats(journal).file_bytes, FW_JOURNAL_HEAD + 2 * 20000 + 1100);
    }
    fw_journal_close(journal);
    fw_journal_close(open_with((struct fw_journal_options){.most_bytes = 20000}, &report));
    cr_assert_gt(report.messages, 15);
    cr_assert_lt(report.messages, 20);
}

Test(journal, a_message_with_too_long_a_name_is_left_out_and_counted)
{
    struct fw_journal_report report;
    struct fw_journal *journal = open_it(&report);
    char *name = malloc(70000);
    memset(name, 'x', 70000);
    struct fw_journal_entry e = entry("a", 1);
    e.id = (fila_view){name, 70000};
    fw_journal_put(journal, &e);
    e.id.len = 65535;
    fw_journal_put(journal, &e);
    fw_journal_commit(journal);
    fw_journal_sync(journal);
    cr_assert_eq(fw_journal_stats(journal).lost, 1);
    cr_assert_eq(atomic_load(&losses), 1);
    fw_journal_close(journal);
    fw_journal_close(open_it(&report));
    cr_assert_eq(report.messages, 1);
    free(name);
}

/* ---- A full disk ---- */

static void limit_files(rlim_t bytes)
{
    struct rlimit limit = {.rlim_cur = bytes, .rlim_max = RLIM_INFINITY};
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

static void wait_for(atomic_int *count)
{
    for (int i = 0; atomic_load(count) == 0; i++) {
        cr_assert_lt(i, 20000, "it never came");
        (void)usleep(1000);
    }
}

/* The disk has room again, but it is not tried all the time. */
Test(journal, a_full_disk_is_tried_again_in_a_while)
{
    struct fw_journal_report report;
    (void)signal(SIGXFSZ, SIG_IGN);
    struct fw_journal *journal =
        open_with((struct fw_journal_options){.gather = 1, .retry = 1000 * FILA_S}, &report);
    limit_files(FW_JOURNAL_HEAD + 10);
    put(journal, "a", 1);
    fw_journal_commit(journal);
    fw_journal_sync(journal);
    cr_assert(fw_journal_stats(journal).down);
    limit_files(RLIM_INFINITY);
    put(journal, "b", 1);
    fw_journal_commit(journal);
    fw_journal_sync(journal);
    cr_assert(fw_journal_stats(journal).down);
    cr_assert_eq(atomic_load(&ups), 0);
    fw_journal_close(journal);
}

/* A new file that cannot be written leaves the old one as it was, and after a write that failed
 * half way nothing follows the torn record. */
Test(journal, a_failed_write_spoils_nothing)
{
    uint8_t before[1024];
    uint8_t after[1024];
    uint64_t bytes;
    struct fw_journal_file file;
    struct fw_journal_table *table = fw_journal_table_new(10, SIZE_MAX);
    struct fw_journal_entry a = entry("a", 1);
    struct fw_journal_entry b = entry("b", 1);
    (void)signal(SIGXFSZ, SIG_IGN);
    cr_assert(fw_journal_file_init(&file, dir));
    cr_assert(fw_journal_table_put(table, &a));
    cr_assert_eq(fw_journal_file_rewrite(&file, table), 0);
    size_t size = read_file(before, sizeof(before));
    cr_assert(fw_journal_table_put(table, &b));
    limit_files(FW_JOURNAL_HEAD + 10);
    cr_assert_eq(fw_journal_file_rewrite(&file, table), EFBIG);
    cr_assert_eq(read_file(after, sizeof(after)), size);
    cr_assert_eq(memcmp(before, after, size), 0);
    limit_files(size + 10);
    cr_assert(fw_journal_table_put(table, &b));
    cr_assert_eq(fw_journal_file_append(&file, table, &bytes), EFBIG);
    cr_assert_lt(file.fd, 0, "it would be written on");
    limit_files(RLIM_INFINITY);
    fw_journal_file_fini(&file);
    fw_journal_table_free(table);
}

static atomic_bool disk_hangs;

static void hang(void *user, enum fw_journal_event event, int64_t value)
{
    on_event(user, event, value);
    while (event == FW_JOURNAL_DOWN && atomic_load(&disk_hangs)) {
        (void)usleep(1000);
    }
}

/* While its thread stands still, what waits for it is bounded, and what was dropped is told. */
Test(journal, what_waits_for_a_disk_that_hangs_is_bounded)
{
    struct fw_journal_report report;
    struct fw_journal *journal = NULL;
    char *name = malloc(65000);
    struct fw_journal_entry e = entry("a", 1);
    (void)signal(SIGXFSZ, SIG_IGN);
    struct fw_journal_options options = {.dir = dir, .gather = 1, .on_event = hang};
    cr_assert_eq(fw_journal_open(&options, &journal, &report, NULL), FILA_OK);
    atomic_store(&disk_hangs, true);
    limit_files(FW_JOURNAL_HEAD + 10);
    put(journal, "first", 1);
    fw_journal_commit(journal);
    wait_for(&downs);
    memset(name, 'x', 65000);
    e.id = (fila_view){name, 65000};
    for (int i = 0; i < 320; i++) { /* some 20 MB */
        (void)snprintf(name, 65000, "%d", i);
        fw_journal_put(journal, &e);
        fw_journal_commit(journal);
    }
    atomic_store(&disk_hangs, false);
    fw_journal_sync(journal);
    cr_assert_gt(fw_journal_stats(journal).lost, 0);
    cr_assert_gt(atomic_load(&losses), 0);
    limit_files(RLIM_INFINITY);
    fw_journal_close(journal);
    free(name);
}

Test(journal, a_full_disk_is_told_once_and_healed)
{
    struct fw_journal_report report;
    (void)signal(SIGXFSZ, SIG_IGN); /* then write fails with EFBIG, half way if need be */
    struct fw_journal *journal =
        open_with((struct fw_journal_options){.gather = 1, .retry = 10 * FILA_MS}, &report);
    put(journal, "before", 1);
    fw_journal_commit(journal);
    fw_journal_sync(journal);
    limit_files(FW_JOURNAL_HEAD + 80); /* within the second record */
    put(journal, "during", 2);
    fw_journal_commit(journal);
    fw_journal_sync(journal);
    cr_assert_eq(atomic_load(&downs), 1);
    cr_assert_eq(atomic_load(&last_value), EFBIG);
    cr_assert(fw_journal_stats(journal).down);
    put(journal, "before", 0);
    put(journal, "later", 3);
    fw_journal_commit(journal);
    fw_journal_sync(journal);
    (void)usleep(30000); /* some tries that fail are no news */
    cr_assert_eq(atomic_load(&downs), 1);
    cr_assert_eq(atomic_load(&ups), 0);
    limit_files(RLIM_INFINITY);
    wait_for(&ups);
    cr_assert_eq(atomic_load(&last_value), 2);
    fw_journal_sync(journal);
    cr_assert_not(fw_journal_stats(journal).down);
    put(journal, "after", 4);
    fw_journal_commit(journal);
    fw_journal_close(journal);
    fw_journal_close(open_it(&report));
    cr_assert_eq(report.messages, 3);
    cr_assert_eq(report.cut_bytes, 0);
}

Test(journal, a_disk_that_is_full_from_the_start_stops_nothing)
{
    struct fw_journal_report report;
    (void)signal(SIGXFSZ, SIG_IGN);
    limit_files(8);
    struct fw_journal *journal =
        open_with((struct fw_journal_options){.retry = 10 * FILA_MS}, &report);
    cr_assert_eq(atomic_load(&downs), 1);
    put(journal, "a", 1);
    fw_journal_commit(journal);
    fw_journal_sync(journal);
    limit_files(RLIM_INFINITY);
    wait_for(&ups);
    fw_journal_close(journal);
    fw_journal_close(open_it(&report));
    cr_assert_eq(report.messages, 1);
}

/* ---- Another boot ---- */

Test(journal, times_are_carried_over_a_reboot_by_wall_clock)
{
    static const struct {
        int64_t not_before;
        int64_t expected;
    } rows[] = {
        {100 * FILA_S, 0},                            /* has passed while it was down */
        {1000 * FILA_S, 10 * FILA_S},                 /* 1000 + 5000 - 5990 */
        {90000 * FILA_S, 5 * FILA_S + 3600 * FILA_S}, /* no longer than an hour from now */
        {INT64_MAX, 0},                               /* nonsense */
        {0, 0},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        uint8_t data[1024];
        struct fw_journal_report report;
        struct fw_journal_file file;
        struct fw_journal_table *table = fw_journal_table_new(10, SIZE_MAX);
        struct fw_journal_entry e = entry("a", 1);
        e.not_before = rows[i].not_before;
        cr_assert(fw_journal_file_init(&file, dir));
        memset(file.boot.id, 1, FW_BOOT_SIZE);
        file.boot.wall_offset = 5000 * FILA_S;
        cr_assert(fw_journal_table_put(table, &e));
        cr_assert_eq(fw_journal_file_rewrite(&file, table), 0);
        fw_journal_file_fini(&file);
        fw_journal_table_free(table);

        struct fw_boot boot = {.id = {2}, .wall_offset = 5990 * FILA_S};
        table = fw_journal_table_new(10, SIZE_MAX);
        size_t size = read_file(data, sizeof(data));
        fw_journal_file_parse(data, size, &boot, 5 * FILA_S, table, &report);
        cr_assert(report.rebooted);
        size_t count;
        struct fw_journal_entry *all = fw_journal_table_copy(table, fila_view_of("orders"), &count);
        cr_assert_eq(count, 1);
        cr_assert_eq(all[0].not_before, rows[i].expected, "row %zu: %ld", i, all[0].not_before);
        free(all);
        fw_journal_table_free(table);
    }
}

/* Without /proc no boot is known: then times go by the wall clock, the same boot or not. */
Test(journal, times_of_an_unknown_boot_go_by_the_wall_clock)
{
    uint8_t data[1024];
    struct fw_journal_report report;
    struct fw_journal_file file;
    struct fw_journal_table *table = fw_journal_table_new(10, SIZE_MAX);
    struct fw_journal_entry e = entry("a", 1);
    e.not_before = 100 * 24 * 3600 * FILA_S; /* it had been up for 100 days */
    cr_assert(fw_journal_file_init(&file, dir));
    memset(file.boot.id, 0, FW_BOOT_SIZE);
    file.boot.wall_offset = 5000 * FILA_S;
    cr_assert(fw_journal_table_put(table, &e));
    cr_assert_eq(fw_journal_file_rewrite(&file, table), 0);
    fw_journal_file_fini(&file);
    fw_journal_table_free(table);
    struct fw_boot boot = {.id = {0}, .wall_offset = 5000 * FILA_S + e.not_before};
    table = fw_journal_table_new(10, SIZE_MAX);
    size_t size = read_file(data, sizeof(data));
    fw_journal_file_parse(data, size, &boot, FILA_S, table, &report);
    cr_assert(report.rebooted);
    size_t count;
    struct fw_journal_entry *all = fw_journal_table_copy(table, fila_view_of("orders"), &count);
    cr_assert_eq(count, 1);
    cr_assert_eq(all[0].not_before, 0);
    free(all);
    fw_journal_table_free(table);
}

/* ---- Names ---- */

static void put_named(struct fw_journal *journal, const char *served, const char *queue, uint32_t n)
{
    struct fw_journal_entry e = entry("id", n);
    e.served = fila_view_of(served);
    e.queue = fila_view_of(queue);
    fw_journal_put(journal, &e);
}

/* No name is a file's, so none can meet another's: slashes, dots, any bytes, 255 of them. */
Test(journal, queues_of_any_name_are_apart)
{
    static char longest[256];
    static char nearly[256];
    static const char *const names[][2] = {
        {"a/b", "a/b"},    {"a", "b"},         {"ab", "c"},  {"a", "bc"},
        {"a/b", "a_b"},    {"a_b", "a_b"},     {"..", ".."}, {"journal", "lock"},
        {"\xc3\xa4", "x"}, {"a\xcc\x88", "x"}, {"A", "b"},   {longest, longest},
        {nearly, nearly},  {longest, nearly},
    };
    struct fw_journal_report report;
    struct fw_journal *journal = open_it(&report);
    memset(longest, 'q', 255);
    memset(nearly, 'q', 254);
    for (uint32_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        put_named(journal, names[i][0], names[i][1], i + 1);
    }
    fw_journal_commit(journal);
    fw_journal_close(journal);
    journal = open_it(&report);
    cr_assert_eq(report.messages, sizeof(names) / sizeof(names[0]));
    for (uint32_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        size_t count;
        unsigned found = 0;
        struct fw_journal_entry *all = fw_journal_load(journal, fila_view_of(names[i][0]), &count);
        for (size_t j = 0; j < count; j++) {
            cr_assert(is_text(all[j].served, names[i][0]));
            found += is_text(all[j].queue, names[i][1]) && all[j].tries == i + 1;
        }
        cr_assert_eq(found, 1, "row %u", i);
        free(all);
    }
    fw_journal_close(journal);
}

/* A journal of other queues, or of a config of yesterday, is no obstacle, and is kept: they may be
 * served again. */
Test(journal, of_another_config_keeps_its_messages)
{
    struct fw_journal_report report;
    struct fw_journal *journal = open_it(&report);
    size_t count;
    put(journal, "a", 3);
    fw_journal_commit(journal);
    fw_journal_close(journal);
    journal = open_it(&report);
    cr_assert_null(fw_journal_load(journal, fila_view_of("invoices"), &count));
    put_named(journal, "invoices", "invoices", 1);
    fw_journal_commit(journal);
    fw_journal_close(journal);
    journal = open_it(&report);
    struct fw_journal_entry *all = fw_journal_load(journal, fila_view_of("orders"), &count);
    cr_assert_eq(count, 1);
    cr_assert_eq(all[0].tries, 3);
    free(all);
    fw_journal_close(journal);
}

/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * The crash record: who ran when a process died. The processes that die are children.
 */
#include "journal/crash.h"

#include <criterion/criterion.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zlib.h>

static char dir[] = "/tmp/fila-crash-XXXXXX";

static const char *path_of(const char *name)
{
    static char path[128];
    (void)snprintf(path, sizeof(path), "%s/%s", dir, name);
    return path;
}

static void setup(void)
{
    cr_assert_not_null(mkdtemp(dir));
}

static void teardown(void)
{
    (void)unlink(path_of("running"));
    (void)unlink(path_of("running.new"));
    (void)rmdir(dir);
}

TestSuite(crash, .init = setup, .fini = teardown);

static struct fw_crash *open_it(struct fw_crash_report *report)
{
    struct fw_crash *crash = NULL;
    fila_error error = FILA_ERROR_INIT;
    cr_assert_eq(fw_crash_open(dir, &crash, report, &error), FILA_OK, "%s", error.text);
    return crash;
}

static uint32_t begin(struct fw_crash *crash, const char *id, bool alone)
{
    fila_view queue = {"q", 1};
    return fw_crash_begin(crash, queue, queue, fila_view_of(id), alone);
}

/* Runs in a process of its own that then dies as it stands. */
static struct fw_crash_report dies(void (*body)(struct fw_crash *crash))
{
    struct fw_crash_report report;
    pid_t child = fork();
    if (child == 0) {
        struct fw_crash *crash = open_it(&report);
        body(crash);
        _exit(0);
    }
    cr_assert_eq(waitpid(child, NULL, 0), child);
    fw_crash_close(open_it(&report));
    return report;
}

static uint32_t crashes_of(const char *id)
{
    struct fw_crash_report report;
    struct fw_crash_suspect suspect;
    struct fw_crash *crash = open_it(&report);
    uint32_t at = 0;
    uint32_t crashes = UINT32_MAX; /* not suspected */
    while (fw_crash_next(crash, &at, &suspect)) {
        if (suspect.id.len == strlen(id) && memcmp(suspect.id.data, id, suspect.id.len) == 0) {
            crashes = suspect.crashes;
        }
    }
    fw_crash_close(crash);
    return crashes;
}

static void three_run_one_ends(struct fw_crash *crash)
{
    (void)begin(crash, "a", false);
    uint32_t b = begin(crash, "b", false);
    (void)begin(crash, "c", false);
    fw_crash_end(crash, b);
}

Test(crash, what_ran_is_suspected)
{
    struct fw_crash_report report = dies(three_run_one_ends);
    cr_assert_eq(report.running, 2);
    cr_assert_eq(report.suspects, 2);
    cr_assert_eq(report.convicted, 0);
    cr_assert_eq(crashes_of("a"), 0);
    cr_assert_eq(crashes_of("b"), UINT32_MAX);
    cr_assert_eq(crashes_of("c"), 0);
}

static void a_alone(struct fw_crash *crash)
{
    (void)begin(crash, "a", true);
}

static void a_in_company(struct fw_crash *crash)
{
    fw_crash_company(crash, begin(crash, "a", true));
}

static void a_alone_to_its_end(struct fw_crash *crash)
{
    fw_crash_end(crash, begin(crash, "a", true));
    (void)begin(crash, "d", false);
}

static void a_alone_cut_short(struct fw_crash *crash)
{
    fw_crash_cut(crash, begin(crash, "a", true));
    (void)begin(crash, "d", false);
}

static void a_in_company_to_its_end(struct fw_crash *crash)
{
    uint32_t run = begin(crash, "a", true);
    fw_crash_company(crash, run);
    fw_crash_end(crash, run);
}

static void a_with_others_to_its_end(struct fw_crash *crash)
{
    fw_crash_end(crash, begin(crash, "a", false));
}

Test(crash, only_one_alone_counts_and_two_are_enough)
{
    (void)dies(three_run_one_ends);
    cr_assert_eq(dies(a_in_company).convicted, 0);
    cr_assert_eq(crashes_of("a"), 0);
    (void)dies(a_alone);
    cr_assert_eq(crashes_of("a"), 1);
    struct fw_crash_report report = dies(a_alone);
    cr_assert_eq(crashes_of("a"), 2);
    cr_assert_eq(crashes_of("c"), 0);
    cr_assert_eq(report.convicted, 1);
    cr_assert_eq(report.suspects, 2);
}

Test(crash, one_that_ran_alone_to_its_end_is_cleared)
{
    (void)dies(three_run_one_ends);
    (void)dies(a_with_others_to_its_end);
    cr_assert_eq(crashes_of("a"), 0);
    (void)dies(a_alone_to_its_end);
    cr_assert_eq(crashes_of("a"), UINT32_MAX);
    cr_assert_eq(crashes_of("c"), 0);
    cr_assert_eq(crashes_of("d"), 0);
}

Test(crash, one_that_was_told_to_stop_is_not_cleared)
{
    (void)dies(three_run_one_ends);
    (void)dies(a_alone);
    cr_assert_eq(dies(a_alone_cut_short).running, 1, "the run that was cut is over");
    cr_assert_eq(crashes_of("a"), 1);
    cr_assert_eq(crashes_of("d"), 0);
    cr_assert_eq(dies(a_alone).convicted, 1);
}

Test(crash, one_that_kept_the_others_waiting_too_long_is_cleared_too)
{
    (void)dies(three_run_one_ends);
    (void)dies(a_in_company_to_its_end);
    cr_assert_eq(crashes_of("a"), UINT32_MAX);
    cr_assert_eq(crashes_of("c"), 0);
}

Test(crash, one_that_is_settled_is_acquitted)
{
    struct fw_crash_report report;
    fila_view queue = {"q", 1};
    (void)dies(three_run_one_ends);
    struct fw_crash *crash = open_it(&report);
    fw_crash_acquit(crash, queue, queue, fila_view_of("a"));
    fw_crash_acquit(crash, queue, queue, fila_view_of("nobody"));
    fw_crash_close(crash);
    cr_assert_eq(crashes_of("a"), UINT32_MAX);
    cr_assert_eq(crashes_of("c"), 0);
}

Test(crash, an_end_in_good_order_accuses_nobody)
{
    struct fw_crash_report report;
    struct fw_crash *crash = open_it(&report);
    three_run_one_ends(crash);
    fw_crash_close(crash);
    fw_crash_close(open_it(&report));
    cr_assert_eq(report.running, 0);
    cr_assert_eq(report.suspects, 0);
}

Test(crash, what_does_not_fit_is_not_recorded)
{
    struct fw_crash_report report;
    struct fw_crash *crash = open_it(&report);
    char name[FW_CRASH_NAMES + 1];
    memset(name, 'x', sizeof(name));
    name[FW_CRASH_NAMES - 2] = '\0';
    cr_assert_neq(begin(crash, name, false), 0);
    name[FW_CRASH_NAMES - 2] = 'x';
    name[FW_CRASH_NAMES - 1] = '\0';
    cr_assert_eq(begin(crash, name, false), 0);
    for (int i = 1; i < FW_CRASH_RUNS; i++) {
        cr_assert_neq(begin(crash, "b", false), 0);
    }
    cr_assert_eq(begin(crash, "b", false), 0, "no slot is free");
    fw_crash_end(crash, 5);
    cr_assert_eq(begin(crash, "b", false), 5);
    fw_crash_end(crash, 0); /* one that was not recorded */
    fw_crash_cut(crash, 0);
    fw_crash_company(crash, 0);
    fw_crash_close(crash);
}

static uint8_t *read_file(size_t *ret_size)
{
    uint8_t *data = aligned_alloc(64, 4 << 20);
    int fd = open(path_of("running"), O_RDONLY);
    ssize_t n = read(fd, data, 4 << 20);
    (void)close(fd);
    *ret_size = n > 0 ? (size_t)n : 0;
    return data;
}

Test(crash, the_machine_going_down_is_no_crash_and_damage_is_left_out)
{
    struct fw_crash_report report;
    struct fw_crash_suspect found[8];
    size_t size;
    pid_t child = fork();
    if (child == 0) {
        three_run_one_ends(open_it(&report));
        _exit(0);
    }
    cr_assert_eq(waitpid(child, NULL, 0), child);
    uint8_t *data = read_file(&size);
    uint8_t boot[16];
    memcpy(boot, data + 8, sizeof(boot));
    cr_assert_eq(fw_crash_parse(data, size, boot, found, 8, &report), 2);
    cr_assert_eq(fw_crash_parse(data, size, boot, found, 1, &report), 1);
    cr_assert_eq(report.dropped, 1);
    boot[3] ^= 1;
    cr_assert_eq(fw_crash_parse(data, size, boot, found, 8, &report), 0);
    cr_assert_eq(report.running, 2);
    boot[3] ^= 1;
    data[FW_CRASH_HEAD + 30] ^= 4; /* in the name of the first run */
    cr_assert_eq(fw_crash_parse(data, size, boot, found, 8, &report), 1);
    cr_assert_eq(report.dropped, 1);
    cr_assert_eq(fw_crash_parse(data, size - 1, boot, found, 8, &report), 0);
    cr_assert_eq(report.dropped, 1);
    data[0] = 'f';
    cr_assert_eq(fw_crash_parse(data, size, boot, found, 8, &report), 0);
    free(data);
}

Test(crash, a_full_disk_is_an_error_at_the_opening_not_a_signal_later)
{
    struct fw_crash *crash = NULL;
    struct fw_crash_report report;
    fila_error error = FILA_ERROR_INIT;
    char expected[256];
    struct rlimit limit = {.rlim_cur = 65536, .rlim_max = RLIM_INFINITY};
    (void)signal(SIGXFSZ, SIG_IGN);
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    cr_assert_eq(fw_crash_open(dir, &crash, &report, &error), FILA_INVALID_ARGUMENT);
    (void)snprintf(
        expected, sizeof(expected), "cannot make \"%s/running.new\": File too large", dir);
    cr_assert_str_eq(error.text, expected);
    cr_assert_neq(access(path_of("running.new"), F_OK), 0);
}

/* A slot whose checksum fits, and whose lengths run over it. */
Test(crash, names_that_run_over_their_slot_accuse_nobody)
{
    enum {
        SIZE = FW_CRASH_HEAD + (FW_CRASH_RUNS + FW_CRASH_SUSPECTS) * FW_CRASH_SLOT
    };

    static const uint8_t boot[16];
    uint8_t *file = aligned_alloc(64, SIZE);
    uint8_t *slot = file + FW_CRASH_HEAD;
    const uint32_t running = 0x52554e31;
    const uint16_t longest = UINT16_MAX;
    struct fw_crash_suspect found[4];
    struct fw_crash_report report;
    memset(file, 0, SIZE);
    memcpy(file, "FILARUN1", 8);
    memcpy(slot, &running, sizeof(running));
    memcpy(slot + 12, &longest, sizeof(longest));
    uint32_t sum = (uint32_t)crc32(0, slot + 8, FW_CRASH_SLOT - 8);
    memcpy(slot + 4, &sum, sizeof(sum));
    cr_assert_eq(fw_crash_parse(file, SIZE, boot, found, 4, &report), 0);
    cr_assert_eq(report.dropped, 1);
    free(file);
}

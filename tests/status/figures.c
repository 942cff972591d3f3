/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * The parts that pages are made of: numbers, histograms, times in ids, texts of strangers.
 */
#include "base/clock.h"
#include "rig.h"
#include "status/writer.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include <stdio.h>
#include <stdlib.h>

static char *written(void (*write)(struct fw_writer *, int64_t), int64_t number)
{
    struct fw_writer out = {0};
    size_t len = 0;
    write(&out, number);
    return fw_writer_take(&out, &len);
}

static void write_unsigned(struct fw_writer *out, int64_t number)
{
    fw_write_unsigned(out, (uint64_t)number);
}

Test(figures, numbers)
{
    static const struct {
        int64_t ns;
        const char *text;
    } ROWS[] = {
        {0, "0"},
        {FILA_S, "1"},
        {FILA_S / 2, "0.5"},
        {5 * FILA_S / 2, "2.5"},
        {1, "0.000000001"},
        {123456789, "0.123456789"},
        {100000000, "0.1"},
        {-3 * FILA_S, "-3"},
        {-FILA_MS, "-0.001"},
        {INT64_MAX, "9223372036.854775807"},
        {INT64_MIN, "-9223372036.854775808"},
    };

    for (size_t i = 0; i < sizeof ROWS / sizeof *ROWS; i++) {
        char *text = written(fw_write_seconds, ROWS[i].ns);
        cr_expect(eq(str, text, (char *)ROWS[i].text));
        free(text);
    }
    char *text = written(write_unsigned, -1);
    cr_expect(eq(str, text, "18446744073709551615"));
    free(text);
}

Test(figures, histogram_edges_belong_to_their_bucket)
{
    static const struct fw_histogram_edges *const ALL[] = {
        &FW_EDGES_RUN, &FW_EDGES_SETTLE, &FW_EDGES_AGE, &FW_EDGES_LEASE};
    for (size_t e = 0; e < 4; e++) {
        struct fw_histogram h = {0};
        int64_t sum = 0;
        cr_assert(le(u32, ALL[e]->count, FW_HISTOGRAM_EDGES));
        for (uint32_t i = 0; i < ALL[e]->count; i++) {
            cr_expect(i == 0 || ALL[e]->ns[i] > ALL[e]->ns[i - 1], "edges %zu do not ascend", e);
            fw_histogram_add(&h, ALL[e], ALL[e]->ns[i]);     /* at most: in it */
            fw_histogram_add(&h, ALL[e], ALL[e]->ns[i] + 1); /* more: in the next */
            sum += 2 * ALL[e]->ns[i] + 1;
        }
        cr_expect(eq(u64, h.counts[0], 1));
        for (uint32_t i = 1; i < ALL[e]->count; i++) {
            cr_expect(eq(u64, h.counts[i], 2));
        }
        cr_expect(eq(u64, h.counts[ALL[e]->count], 1));
        cr_expect(eq(u64, fw_histogram_count(&h), 2 * ALL[e]->count));
        cr_expect(eq(i64, h.sum, sum));
    }
}

Test(figures, time_of_an_id)
{
    static const struct {
        const char *id;
        int64_t ms;
    } ROWS[] = {
        {"018bcfe5-6800-7000-8000-000000000000", INT64_C(1700000000000)},
        {"018BCFE5-6800-7fff-8000-000000000000", INT64_C(1700000000000)},
        {"018bcfe5-6800-4000-8000-000000000000", 0}, /* version 4 has no time */
        {"018bcfe5-6800-7000-8000-00000000000", 0},
        {"018bcfe5x6800-7000-8000-000000000000", 0},
        {"018bcfeg-6800-7000-8000-000000000000", 0},
        {"", 0},
    };

    for (size_t i = 0; i < sizeof ROWS / sizeof *ROWS; i++) {
        cr_expect(eq(i64, fw_id_time_ms(fila_view_of(ROWS[i].id)), ROWS[i].ms), "%s", ROWS[i].id);
    }
}

static char *cleaned(const char *data, size_t len, size_t limit)
{
    struct fw_snapshot *s = fw_snapshot_new();
    char *copy = strdup(fw_snapshot_text(s, (fila_view){data, len}, limit));
    fw_snapshot_free(s);
    return copy;
}

Test(figures, texts_of_strangers)
{
    static const struct {
        const char *data;
        size_t limit;
        const char *text;
    } ROWS[] = {
        {"plain", 100, "plain"},
        {"a\nb\tc\x01", 100, "a b c?"},
        {"gr\xc3\xbc\xc3\x9f", 100, "gr\xc3\xbc\xc3\x9f"},
        {"gr\xc3\xbc", 3, "gr"}, /* never half a character */
        {"\xc3", 100, "?"},
        {"\xff\xfe", 100, "??"},
        {"\xc0\xaf", 100, "??"},           /* overlong */
        {"\xed\xa0\x80", 100, "???"},      /* a surrogate */
        {"\xf4\x90\x80\x80", 100, "????"}, /* beyond Unicode */
        {"\xe2\x80\xae"
         "txt",
         100, "???txt"},         /* turns the reading direction */
        {"\xc2\x85", 100, "??"}, /* a control character of two bytes */
        {"\xf0\x9f\x98\x80", 100, "\xf0\x9f\x98\x80"},
        {"abcdef", 3, "abc"},
        {"", 100, ""},
    };

    for (size_t i = 0; i < sizeof ROWS / sizeof *ROWS; i++) {
        char *text = cleaned(ROWS[i].data, strlen(ROWS[i].data), ROWS[i].limit);
        cr_expect(eq(str, text, (char *)ROWS[i].text), "row %zu", i);
        free(text);
    }
}

Test(figures, sums_of_a_queue_that_was_restarted)
{
    struct fw_snapshot *s = rig_snapshot(3);
    struct fw_arena memory = {0};
    uint32_t count = 0;
    s->queues[1].queue = "q0"; /* the one that drains beside the new one */
    s->queues[1].stats.held = 2;
    s->queues[1].stats.received = 9;
    s->queues[1].troubles[FW_TROUBLE_PAUSED].since = 5;
    s->queues[2].queue = "q0";
    s->queues[2].gone = true;
    const struct fw_queue_status **list = fw_snapshot_merged(s, &memory, &count);
    cr_assert(eq(u32, count, 1));
    cr_expect(not(list[0]->gone));
    cr_expect(eq(u64, list[0]->stats.received, 23));
    cr_expect(eq(u64, list[0]->stats.finished[FW_ACKED], 21));
    cr_expect(eq(u32, list[0]->stats.held, 2));
    cr_expect(eq(u32, list[0]->concurrency, 6));
    cr_expect(eq(u64, fw_histogram_count(&list[0]->counters.handler_duration), 21));
    cr_expect(eq(i64, list[0]->troubles[FW_TROUBLE_PAUSED].since, 5));
    s->queues[0].gone = true; /* the sum is named by one that is served, wherever it stands */
    list = fw_snapshot_merged(s, &memory, &count);
    cr_assert(eq(u32, count, 1));
    cr_expect(not(list[0]->gone));
    cr_expect(eq(u64, list[0]->stats.received, 23));
    s->queues[1].handler = "http"; /* another handler: a series of its own */
    (void)fw_snapshot_merged(s, &memory, &count);
    cr_expect(eq(u32, count, 2));
    fw_arena_free(&memory);
    fw_snapshot_free(s);
}

/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * Lines byte for byte, and the folding of repeats on a clock of the test's own.
 */
#include "base/clock.h"
#include "log/fold.h"
#include "log/format.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include <jansson.h>
#include <math.h>

#define WALL INT64_C(1735689599042) /* 2024-12-31T23:59:59.042Z */

struct golden {
    const char *what;
    enum fw_event event;
    const char *text;
    struct fw_field fields[5];
    size_t count;
    const char *as_text;
    const char *as_json;
};

#define BYTES(literal) ((fila_view){literal, sizeof(literal) - 1})

static struct golden *goldens(size_t *ret_count)
{
    static struct golden rows[16];
    size_t n = 0;
    rows[n++] = (struct golden){
        "plain",
        FW_EVENT_STREAM_OPEN,
        "the stream is open",
        {fw_str("queue", "orders"), fw_int("attempt", -3), fw_real("rate", 0.5)},
        3,
        "2024-12-31T23:59:59.042Z INFO  STREAM-OPEN the stream is open queue=orders attempt=-3 "
        "rate=0.5\n",
        "{\"ts\":\"2024-12-31T23:59:59.042Z\",\"level\":\"info\",\"event\":\"STREAM-OPEN\",\"msg\":"
        "\"the stream is open\",\"queue\":\"orders\",\"attempt\":-3,\"rate\":0.5}\n"};
    rows[n++] = (struct golden){
        "quotes, empty and absent",
        FW_EVENT_MESSAGE_DEAD,
        "say \"x\" \\",
        {fw_str("error", "a \"b\" \\ c"), fw_str("empty", ""), fw_str("absent", NULL),
         fw_str("eq", "a=b")},
        4,
        "2024-12-31T23:59:59.042Z ERROR MESSAGE-DEAD say \"x\" \\ error=\"a \\\"b\\\" \\\\ c\" "
        "empty=\"\" eq=\"a=b\"\n",
        "{\"ts\":\"2024-12-31T23:59:59.042Z\",\"level\":\"error\",\"event\":\"MESSAGE-DEAD\","
        "\"msg\":\"say \\\"x\\\" \\\\\",\"error\":\"a \\\"b\\\" \\\\ c\",\"empty\":\"\","
        "\"eq\":\"a=b\"}\n"};
    rows[n++] = (struct golden){
        "controls and terminal escapes",
        FW_EVENT_HANDLER_LOG,
        "one\ntwo\t\033[31mred\r",
        {fw_text("error", BYTES("\0\x7f\n"))},
        1,
        "2024-12-31T23:59:59.042Z INFO  HANDLER-LOG one\\ntwo\\t\\u001b[31mred\\r "
        "error=\"\\u0000\\u007f\\n\"\n",
        "{\"ts\":\"2024-12-31T23:59:59.042Z\",\"level\":\"info\",\"event\":\"HANDLER-LOG\","
        "\"msg\":\"one\\ntwo\\t\\u001b[31mred\\r\",\"error\":\"\\u0000\\u007f\\n\"}\n"};
    rows[n++] = (struct golden){
        "C1, separators, direction",
        FW_EVENT_HANDLER_LOG,
        "a\xc2\x85|b\u2028c\u202ed\ufeff",
        {{0}},
        0,
        "2024-12-31T23:59:59.042Z INFO  HANDLER-LOG a\\u0085|b\\u2028c\\u202ed\\ufeff\n",
        "{\"ts\":\"2024-12-31T23:59:59.042Z\",\"level\":\"info\",\"event\":\"HANDLER-LOG\","
        "\"msg\":\"a\\u0085|b\\u2028c\\u202ed\\ufeff\"}\n"};
    rows[n++] = (struct golden){
        "valid UTF-8 stays",
        FW_EVENT_STREAM_OPEN,
        "Grüße \u20ac \U0001f980",
        {fw_str("queue", "ø")},
        1,
        "2024-12-31T23:59:59.042Z INFO  STREAM-OPEN Grüße \u20ac \U0001f980 queue=\"ø\"\n",
        "{\"ts\":\"2024-12-31T23:59:59.042Z\",\"level\":\"info\",\"event\":\"STREAM-OPEN\","
        "\"msg\":\"Grüße \u20ac \U0001f980\",\"queue\":\"ø\"}\n"};
    rows[n++] = (struct golden){
        "stray, overlong, surrogate, too high, cut",
        FW_EVENT_STREAM_OPEN,
        "\x80|\xc0\xaf|\xed\xa0\x80|\xf4\x90\x80\x80|\xe2\x82",
        {{0}},
        0,
        "2024-12-31T23:59:59.042Z INFO  STREAM-OPEN "
        "\ufffd|\ufffd\ufffd|\ufffd\ufffd\ufffd|\ufffd\ufffd\ufffd\ufffd|\ufffd\ufffd\n",
        "{\"ts\":\"2024-12-31T23:59:59.042Z\",\"level\":\"info\",\"event\":\"STREAM-OPEN\","
        "\"msg\":\"\ufffd|\ufffd\ufffd|\ufffd\ufffd\ufffd|\ufffd\ufffd\ufffd\ufffd|\ufffd\ufffd\"}"
        "\n"};
    rows[n++] = (struct golden){
        "numbers that JSON does not have",
        FW_EVENT_MESSAGE_DONE,
        "x",
        {fw_real("a", INFINITY), fw_real("b", NAN), fw_int("c", INT64_MIN), fw_real("d", 1e300)},
        4,
        "2024-12-31T23:59:59.042Z DEBUG MESSAGE-DONE x a=null b=null c=-9223372036854775808 "
        "d=1e+300\n",
        "{\"ts\":\"2024-12-31T23:59:59.042Z\",\"level\":\"debug\",\"event\":\"MESSAGE-DONE\","
        "\"msg\":\"x\",\"a\":null,\"b\":null,\"c\":-9223372036854775808,\"d\":1e+300}\n"};
    *ret_count = n;
    return rows;
}

Test(format, goldens)
{
    size_t count = 0;
    const struct golden *rows = goldens(&count);
    for (size_t i = 0; i < count; i++) {
        char buffer[FW_LOG_LINE_SIZE + 1];
        const struct fw_log_line line = {WALL,  rows[i].event,  fila_view_of(rows[i].text),
                                         false, rows[i].fields, rows[i].count};
        size_t len = fw_log_as_text(&line, false, buffer);
        buffer[len] = '\0';
        cr_expect(eq(str, buffer, (char *)rows[i].as_text), "%s", rows[i].what);
        len = fw_log_as_json(&line, buffer);
        buffer[len] = '\0';
        cr_expect(eq(str, buffer, (char *)rows[i].as_json), "%s", rows[i].what);
        json_t *json = json_loads(buffer, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, NULL);
        cr_expect(json != NULL, "%s: a JSON reader takes it", rows[i].what);
        json_decref(json);
    }
    cr_assert(eq(sz, count, 7));
}

Test(format, colour)
{
    char buffer[FW_LOG_LINE_SIZE + 1];
    const struct fw_field field = fw_str("queue", "a b");
    const struct fw_log_line line = {
        WALL, FW_EVENT_STREAM_END, fila_view_of("it ended"), false, &field, 1};
    buffer[fw_log_as_text(&line, true, buffer)] = '\0';
    cr_assert(
        eq(str, buffer,
           "\033[2m2024-12-31T23:59:59.042Z\033[0m \033[33mWARN  STREAM-END\033[0m it ended "
           "\033[2mqueue=\033[0m\"a b\"\n"));
}

/* Every length of a value around the limit, of one, two, three and six bytes a character: the line
 * is whole UTF-8, valid JSON, says that it was cut exactly when it was, and loses no more than one
 * character's room. */
Test(format, long_lines_are_cut_at_a_character)
{
    static const char *const units[] = {"x", "\u00e9", "\u20ac", "\033", "\""};
    static const size_t written[] = {1, 2, 3, 6, 2}; /* bytes of each in the line */
    static char value[3 * 4200];
    for (size_t u = 0; u < sizeof units / sizeof *units; u++) {
        size_t unit = strlen(units[u]);
        for (size_t n = 3800 / written[u]; n < 4200 / written[u]; n++) {
            char buffer[FW_LOG_LINE_SIZE + 1];
            for (size_t i = 0; i < n; i++) {
                memcpy(value + i * unit, units[u], unit);
            }
            const struct fw_field fields[] = {
                fw_text("error", (fila_view){value, n * unit}), fw_int("attempt", 7)};
            const struct fw_log_line line = {
                WALL, FW_EVENT_MESSAGE_FAILED, fila_view_of("no"), false, fields, 2};
            size_t len = fw_log_as_json(&line, buffer);
            cr_assert(le(sz, len, FW_LOG_LINE_SIZE));
            cr_assert(eq(chr, buffer[len - 1], '\n'));
            json_t *json = json_loadb(buffer, len, 0, NULL);
            cr_assert(json != NULL, "unit %zu, %zu of them: %.*s", u, n, (int)len, buffer);
            bool cut = json_is_true(json_object_get(json, "truncated"));
            size_t kept = json_string_length(json_object_get(json, "error"));
            cr_assert(eq(int, kept == n * unit && json_object_get(json, "attempt"), !cut));
            cr_assert(kept % unit == 0);
            cr_assert(gt(sz, len, cut ? FW_LOG_LINE_SIZE - 64 : 0));
            json_decref(json);
            len = fw_log_as_text(&line, true, buffer);
            cr_assert(le(sz, len, FW_LOG_LINE_SIZE));
            cr_assert(eq(ptr, memchr(buffer, '\n', len), buffer + len - 1));
        }
    }
}

/* Whatever comes in: valid JSON (its reader checks UTF-8), and no control character in a text line.
 */
Test(format, any_bytes)
{
    uint64_t random = 88172645463325252;
    for (int round = 0; round < 20000; round++) {
        char bytes[48];
        char buffer[FW_LOG_LINE_SIZE];
        for (size_t i = 0; i < sizeof bytes; i++) {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            bytes[i] = (char)(random >> (round % 3 * 8)); /* also runs that are nearly UTF-8 */
            if (round % 2 && i % 3) {
                bytes[i] = (char)(0x80 | (bytes[i] & 0x3f));
            }
        }
        const struct fw_field field = fw_text("error", (fila_view){bytes + 24, 24});
        const struct fw_log_line line = {WALL, FW_EVENT_HANDLER_LOG, {bytes, 24}, false, &field, 1};
        size_t len = fw_log_as_json(&line, buffer);
        json_t *json = json_loadb(buffer, len, JSON_ALLOW_NUL, NULL);
        cr_assert(json != NULL, "%.*s", (int)len, buffer);
        json_decref(json);
        len = fw_log_as_text(&line, false, buffer);
        for (size_t i = 0; i + 1 < len; i++) {
            cr_assert(ge(int, (unsigned char)buffer[i], 0x20));
            cr_assert(ne(int, (unsigned char)buffer[i], 0x7f));
        }
    }
}

Test(format, a_cut_text_says_so)
{
    char buffer[FW_LOG_LINE_SIZE + 1];
    const struct fw_field field = fw_int("n", 1);
    struct fw_log_line line = {WALL, FW_EVENT_INTERNAL, fila_view_of("ab"), true, &field, 1};
    buffer[fw_log_as_text(&line, false, buffer)] = '\0';
    cr_assert(eq(str, buffer, "2024-12-31T23:59:59.042Z ERROR INTERNAL ab ...(cut)\n"));
}

Test(format, before_1970_and_far_away)
{
    char buffer[FW_LOG_LINE_SIZE];
    const int64_t times[] = {INT64_MIN, -1, 0, INT64_MAX};
    for (size_t i = 0; i < 4; i++) {
        const struct fw_log_line line = {times[i], FW_EVENT_INTERNAL, {NULL, 0}, false, NULL, 0};
        cr_assert(lt(sz, fw_log_as_text(&line, false, buffer), 200));
    }
}

Test(events, every_event_is_complete_and_ids_are_unique)
{
    for (unsigned i = 0; i < FW_EVENT_COUNT; i++) {
        const char *id = fw_event_id((enum fw_event)i);
        cr_expect(id && *id && strspn(id, "ABCDEFGHIJKLMNOPQRSTUVWXYZ-") == strlen(id), "%s", id);
        cr_expect(lt(int, (int)fw_event_level((enum fw_event)i), FW_LOG_OFF));
        const char *meaning = fw_event_meaning((enum fw_event)i);
        const char *remedy = fw_event_remedy((enum fw_event)i);
        cr_expect(meaning[strlen(meaning) - 1] == '.', "%s: %s", id, meaning);
        cr_expect(remedy[strlen(remedy) - 1] == '.', "%s: %s", id, remedy);
        for (unsigned j = 0; j < i; j++) {
            cr_expect(ne(str, (char *)id, (char *)fw_event_id((enum fw_event)j)));
        }
    }
}

/* ---- Folding ---- */

static struct fw_log_line line_of(
    enum fw_event event,
    const char *text,
    const struct fw_field *fields,
    size_t count)
{
    struct fw_log_line line = {WALL, event, fila_view_of(text), false, fields, count};
    return line;
}

Test(fold, the_first_is_written_the_rest_counted_for_a_second)
{
    static struct fw_fold fold;
    struct fw_fold_entry summary;
    const struct fw_field a[] = {fw_str("queue", "orders"), fw_int("duration_ms", 3)};
    const struct fw_field b[] = {fw_str("queue", "orders"), fw_int("duration_ms", 4)};
    const struct fw_log_line first = line_of(FW_EVENT_STREAM_END, "ended", a, 2);
    const struct fw_log_line again = line_of(FW_EVENT_STREAM_END, "ended", b, 2);
    cr_assert(fw_fold_admit(&fold, FILA_S, &first, &summary));
    for (int i = 1; i < 1000; i++) {
        cr_assert(not(fw_fold_admit(&fold, FILA_S + i * FILA_MS, &again, &summary)));
    }
    cr_assert(not(fw_fold_take(&fold, 2 * FILA_S - 1, &summary)));
    cr_assert(fw_fold_take(&fold, 2 * FILA_S, &summary));
    cr_expect(eq(u32, summary.repeats, 999));
    cr_expect(eq(int, summary.event, FW_EVENT_STREAM_END));
    cr_expect(summary.text_len == 5 && memcmp(summary.text, "ended", 5) == 0);
    cr_expect(summary.queue_len == 6 && memcmp(summary.queue, "orders", 6) == 0);
    cr_assert(not(fw_fold_take(&fold, INT64_MAX, &summary)));
    cr_assert(fw_fold_admit(&fold, 2 * FILA_S, &again, &summary));
    cr_expect(eq(u32, summary.repeats, 0));
}

Test(fold, a_late_repeat_brings_the_count_with_it)
{
    static struct fw_fold fold;
    struct fw_fold_entry summary;
    const struct fw_log_line line = line_of(FW_EVENT_STREAM_END, "ended", NULL, 0);
    cr_assert(fw_fold_admit(&fold, FILA_S, &line, &summary));
    cr_assert(not(fw_fold_admit(&fold, FILA_S, &line, &summary)));
    cr_assert(fw_fold_admit(&fold, 5 * FILA_S, &line, &summary));
    cr_expect(eq(u32, summary.repeats, 1));
    cr_assert(not(fw_fold_take(&fold, INT64_MAX, &summary)));
}

Test(fold, a_second_is_over_when_it_is)
{
    static struct fw_fold fold;
    struct fw_fold_entry summary;
    const struct fw_log_line line = line_of(FW_EVENT_STREAM_END, "ended", NULL, 0);
    cr_assert(eq(int, fw_fold_admit(&fold, FILA_S, &line, &summary), 1));
    cr_assert(eq(int, fw_fold_admit(&fold, 2 * FILA_S, &line, &summary), 1));
    cr_assert(eq(int, fw_fold_admit(&fold, 3 * FILA_S - 1, &line, &summary), 0));
}

Test(fold, what_differs_is_not_folded)
{
    static struct fw_fold fold;
    struct fw_fold_entry summary;
    const struct fw_field base[] = {fw_str("message_id", "1"), fw_int("attempt", 1)};
    const struct fw_field id[] = {fw_str("message_id", "2"), fw_int("attempt", 1)};
    const struct fw_field number[] = {fw_str("message_id", "1"), fw_int("attempt", 2)};
    const struct fw_field name[] = {fw_str("queue", "1"), fw_int("attempt", 1)};
    const struct fw_log_line lines[] = {
        line_of(FW_EVENT_MESSAGE_FAILED, "no", base, 2),
        line_of(FW_EVENT_MESSAGE_DEAD, "no", base, 2),
        line_of(FW_EVENT_MESSAGE_FAILED, "yes", base, 2),
        line_of(FW_EVENT_MESSAGE_FAILED, "no", id, 2),
        line_of(FW_EVENT_MESSAGE_FAILED, "no", number, 2),
        line_of(FW_EVENT_MESSAGE_FAILED, "no", name, 2),
        line_of(FW_EVENT_MESSAGE_FAILED, "no", base, 1),
    };
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        cr_expect(fw_fold_admit(&fold, FILA_S, &lines[i], &summary), "line %zu", i);
        cr_expect(eq(u32, summary.repeats, 0));
    }
}

/* However lines fall into slots, each is written or counted, once. */
Test(fold, the_account_is_exact)
{
    static struct fw_fold fold;
    struct fw_fold_entry summary;
    uint64_t in = 0;
    uint64_t out = 0;
    for (int64_t now = 1; now < 20 * FILA_S; now += 7 * FILA_MS + 13) {
        char id[24];
        (void)snprintf(id, sizeof id, "%d", (int)((uint64_t)now * 2654435761u >> 7 & 255));
        const struct fw_field field = fw_str("error", id);
        const struct fw_log_line line = line_of(FW_EVENT_SETTLE_ERROR, "x", &field, 1);
        for (int i = 0; i < 3; i++) {
            in++;
            out += fw_fold_admit(&fold, now, &line, &summary);
            out += summary.repeats;
        }
        while (fw_fold_take(&fold, now, &summary)) {
            out += summary.repeats;
        }
    }
    while (fw_fold_take(&fold, INT64_MAX, &summary)) {
        out += summary.repeats;
    }
    cr_assert(eq(u64, in, out));
    cr_assert(gt(u64, in, 8000));
}

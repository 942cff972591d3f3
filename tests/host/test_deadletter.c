/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * The dead-letter copy's headers: delivery-engine.md rule 11, conventions.md.
 */
#include "host/deadletter.h"
#include "wire/codec.h"
#include "wire/message.h"

#include <criterion/criterion.h>

#include <stdio.h>
#include <stdlib.h>

static void nothing(void *owner)
{
    (void)owner;
}

static fila_message *message(const fila_header *headers, size_t count, const char *queue)
{
    struct fila_message_fields fields = {
        .id = fila_view_of("0192f0c0-0000-7000-8000-000000000001"),
        .queue = fila_view_of(queue),
        .fairness_key = fila_view_of("tenant-7"),
        .payload = fila_view_of("body"),
        .weight = 1,
        .headers = headers,
        .header_count = count,
    };
    return fila_message_make(&fields, nothing, NULL);
}

static fila_view value_of(const fila_header *headers, size_t count, const char *key)
{
    fila_view none = {NULL, 0};
    for (size_t i = 0; i < count; i++) {
        if (headers[i].key.len == strlen(key) &&
            memcmp(headers[i].key.data, key, headers[i].key.len) == 0) {
            return headers[i].value;
        }
    }
    return none;
}

static void assert_value(
    const fila_header *headers,
    size_t count,
    const char *key,
    const char *wanted)
{
    fila_view v = value_of(headers, count, key);
    cr_assert(
        v.len == strlen(wanted) && memcmp(v.data, wanted, v.len) == 0,
        "%s is \"%.*s\", wanted \"%s\"", key, (int)v.len, v.data ? v.data : "", wanted);
}

Test(deadletter, says_what_it_was_and_why)
{
    fila_header own[] = {{fila_view_of("trace"), fila_view_of("abc")}};
    fila_message *m = message(own, 1, "orders");
    struct fw_dead_letter_facts facts = {FW_CAUSE_CRASH, 5, "signal 11"};
    fila_header *headers = NULL;
    size_t count = 0;
    cr_assert_eq(fw_dead_letter_headers(m, &facts, &headers, &count), FILA_OK);
    cr_assert_eq(count, 8);
    assert_value(headers, count, "trace", "abc");
    assert_value(headers, count, "x-fila-dead-letter-reason", "signal 11");
    assert_value(headers, count, "x-fila-dead-letter-cause", "crash");
    assert_value(headers, count, "x-fila-dead-letter-attempts", "5");
    assert_value(headers, count, "x-fila-dead-letter-queue", "orders");
    assert_value(headers, count, "x-fila-dead-letter-fairness-key", "tenant-7");
    assert_value(
        headers, count, "x-fila-dead-letter-message-id", "0192f0c0-0000-7000-8000-000000000001");
    fila_view time = value_of(headers, count, "x-fila-dead-letter-time");
    int year = 0;
    cr_assert_eq(time.len, strlen("2026-01-02T03:04:05.678Z"));
    cr_assert(
        sscanf(time.data, "%4d-", &year) == 1 && year >= 2024, "time is %.*s", (int)time.len,
        time.data);
    free(headers);
    fila_message_free(m);
}

Test(deadletter, a_second_death_replaces_the_first_ones_headers)
{
    fila_header own[] = {
        {fila_view_of("x-fila-dead-letter-reason"), fila_view_of("old")},
        {fila_view_of("x-fila-dead-letter-anything"), fila_view_of("old")},
        {fila_view_of("x-fila-dead"), fila_view_of("not ours")},
    };
    fila_message *m = message(own, 3, "orders");
    struct fw_dead_letter_facts facts = {FW_CAUSE_REJECT, 1, "new"};
    fila_header *headers = NULL;
    size_t count = 0;
    cr_assert_eq(fw_dead_letter_headers(m, &facts, &headers, &count), FILA_OK);
    cr_assert_eq(count, 8);
    assert_value(headers, count, "x-fila-dead", "not ours");
    assert_value(headers, count, "x-fila-dead-letter-reason", "new");
    cr_assert_null(value_of(headers, count, "x-fila-dead-letter-anything").data);
    free(headers);
    fila_message_free(m);
}

Test(deadletter, stays_under_a_kibibyte_and_valid_with_the_longest_texts)
{
    char reason[4352];
    char queue[2001];
    for (size_t i = 0; i + 2 < sizeof reason;
         i += 2) { /* two bytes a character: every odd cut is wrong */
        memcpy(reason + i, "\xc3\xa9", 3);
    }
    memset(queue, 'q', sizeof queue - 1);
    queue[sizeof queue - 1] = '\0';
    memcpy(reason, "exit status 3: ", 15);
    memcpy(reason + strlen(reason) - 4, "last", 5);
    for (size_t shift = 0; shift < 3; shift++) {
        fila_message *m = message(NULL, 0, queue);
        struct fw_dead_letter_facts facts = {FW_CAUSE_UNAVAILABLE, UINT32_MAX, reason + shift};
        fila_header *headers = NULL;
        size_t count = 0;
        size_t bytes = 0;
        cr_assert_eq(fw_dead_letter_headers(m, &facts, &headers, &count), FILA_OK);
        for (size_t i = 0; i < count; i++) {
            bytes += headers[i].key.len + headers[i].value.len;
        }
        cr_assert_leq(bytes, 1024, "%zu bytes of headers", bytes);
        fila_view why = value_of(headers, count, "x-fila-dead-letter-reason");
        cr_assert(memcmp(why.data + why.len - 4, "last", 4) == 0, "the end of the reason is kept");
        cr_assert(memcmp(why.data, &"exit status 3: "[shift], 10) == 0, "and its beginning");
        free(headers);
        fila_message_free(m);
    }
}

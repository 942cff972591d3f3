/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "executor/testlog.h"
#include "plugin/one.h"

#include <criterion/criterion.h>

TestSuite(handler_log, .timeout = 60);

static const fila_header HEADERS[] = {{{"a", 1}, {"b", 1}}, {{"c", 1}, {"", 0}}};

static void run(const one_options options, const char *payload, size_t len)
{
    fila_error error = FILA_ERROR_INIT;
    cr_assert_eq(one_open(TEST_PLUGINS "/log.so", options, &error), FILA_OK, "%s", error.text);
    struct one_result result = one_run(&(struct one_message){
        .payload = payload,
        .payload_len = len,
        .headers = HEADERS,
        .header_count = 2,
        .fairness_key = "blue",
        .attempt = 3,
    });
    cr_assert_eq(result.kind, FW_ACK);
    one_close();
}

Test(handler_log, says_the_facts_and_keeps_the_payload_private)
{
    run(NULL, "secret", 6);
    cr_assert_eq(testlog_count(FW_EVENT_HANDLER_LOG), 1);
    cr_assert_str_eq(
        testlog_last(FW_EVENT_HANDLER_LOG),
        "payload of 6 bytes, 2 headers, key \"blue\" queue=orders handler=log "
        "message_id=019a0000-0000-7000-8000-000000000001 attempt=3");
}

Test(handler_log, shows_what_it_is_told_to)
{
    static const one_options OPTIONS = {"payload=4B", "level=warn", "prefix=orders: "};
    run(OPTIONS, "a\0\nbc", 5);
    const char *line = testlog_last(FW_EVENT_HANDLER_WARN);
    const char *wanted = "orders: payload of 5 bytes, 2 headers, key \"blue\": a..b... queue=";
    cr_assert_eq(strncmp(line, wanted, strlen(wanted)), 0, "%s", line);
}

Test(handler_log, bounds_what_it_shows)
{
    static const one_options OPTIONS = {"payload=4080B"};
    static char big[1 << 20];
    memset(big, 'x', sizeof big);
    run(OPTIONS, big, sizeof big);
    cr_assert_eq(testlog_count(FW_EVENT_HANDLER_LOG), 1);
    run(OPTIONS, "", 0);
    cr_assert_eq(testlog_count(FW_EVENT_HANDLER_LOG), 2);
}

Test(handler_log, refuses_a_level_that_is_none)
{
    static const one_options OPTIONS = {"level=loud"};
    fila_error error = FILA_ERROR_INIT;
    cr_assert_eq(one_open(TEST_PLUGINS "/log.so", OPTIONS, &error), FILA_INVALID_ARGUMENT);
    cr_assert_str_eq(error.text, "handler log: level is none of debug, info, warn, error");
}

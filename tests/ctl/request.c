/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * Requests to the control socket: what is taken, and the words with which the rest is refused.
 */
#include "ctl/request.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include <stdio.h>
#include <string.h>

static bool parse(const char *line, struct fw_ctl_request *request, char why[256])
{
    why[0] = '\0';
    return fw_ctl_parse(line, strlen(line), request, why, 256);
}

Test(request, every_verb)
{
    struct fw_ctl_request r;
    char why[256];
    char line[128];
    for (int i = 0; i < FW_CTL_VERB_COUNT; i++) {
        const char *name = fw_ctl_verb_name((enum fw_ctl_verb)i);
        const char *more = i == FW_CTL_LOGLEVEL ? ",\"level\":\"warn\""
                           : i == FW_CTL_SET    ? ",\"queue\":\"q\",\"rate\":0"
                                                : "";
        (void)snprintf(line, sizeof line, "{\"do\":\"%s\"%s}", name, more);
        cr_expect(parse(line, &r, why), "%s: %s", line, why);
        cr_expect(eq(int, r.verb, i));
    }
}

Test(request, what_it_says_is_what_comes_out)
{
    struct fw_ctl_request r;
    char why[256];
    cr_assert(parse("{\"do\":\"pause\",\"queue\":\"a \\\"b\\\"\"}", &r, why));
    cr_expect(eq(str, r.queue, "a \"b\""));
    cr_assert(parse("{\"do\":\"pause\"}", &r, why));
    cr_expect(eq(str, r.queue, ""));
    cr_assert(parse("{\"do\":\"set\",\"queue\":\"q\",\"rate\":2.5,\"concurrency\":7}", &r, why));
    cr_expect(r.has_rate);
    cr_expect(eq(dbl, r.rate, 2.5));
    cr_expect(eq(u32, r.concurrency, 7));
    cr_assert(parse("{\"do\":\"set\",\"queue\":\"q\",\"concurrency\":1}", &r, why));
    cr_expect(not(r.has_rate));
    cr_assert(parse("{\"do\":\"loglevel\",\"level\":\"off\"}", &r, why));
    cr_expect(eq(int, r.level, FW_LOG_OFF));
    cr_assert(parse("{\"do\":\"tap\"}", &r, why));
    cr_expect(eq(u32, r.per_second, 10));
    cr_expect(not(r.payload));
    cr_assert(parse("{\"do\":\"tap\",\"per_second\":1000,\"payload\":true}", &r, why));
    cr_expect(eq(u32, r.per_second, 1000));
    cr_expect(r.payload);
}

struct refusal {
    const char *line;
    const char *why;
};

Test(request, refusals)
{
    static const struct refusal ROWS[] = {
        {"[]", "a request is one JSON object with \"do\""},
        {"{}", "a request is one JSON object with \"do\""},
        {"{\"do\":7}",
         "\"do\" is one of status, pause, resume, drain, reload, loglevel, set, tap, dump"},
        {"{\"do\":\"stop\"}",
         "\"do\" is one of status, pause, resume, drain, reload, loglevel, set, tap, dump"},
        {"{\"do\":\"drain\",\"queue\":\"q\"}", "drain takes no \"queue\""},
        {"{\"do\":\"pause\",\"rate\":1}", "pause takes no \"rate\""},
        {"{\"do\":\"pause\",\"queue\":\"\"}", "\"queue\" is a name of 1 to 1023 bytes"},
        {"{\"do\":\"pause\",\"queue\":[]}", "\"queue\" is a name of 1 to 1023 bytes"},
        {"{\"do\":\"loglevel\"}", "loglevel wants a \"level\""},
        {"{\"do\":\"loglevel\",\"level\":\"loud\"}",
         "\"level\" is one of debug, info, warn, error, off"},
        {"{\"do\":\"set\",\"rate\":1}", "set wants a \"queue\""},
        {"{\"do\":\"set\",\"queue\":\"q\"}", "set wants a \"rate\" or a \"concurrency\""},
        {"{\"do\":\"set\",\"queue\":\"q\",\"rate\":-1}",
         "\"rate\" is a number from 0 (no limit) to 1000000"},
        {"{\"do\":\"set\",\"queue\":\"q\",\"rate\":\"1\"}",
         "\"rate\" is a number from 0 (no limit) to 1000000"},
        {"{\"do\":\"set\",\"queue\":\"q\",\"concurrency\":0}",
         "\"concurrency\" is a whole number from 1 to 4096"},
        {"{\"do\":\"set\",\"queue\":\"q\",\"concurrency\":1.5}",
         "\"concurrency\" is a whole number from 1 to 4096"},
        {"{\"do\":\"tap\",\"per_second\":1001}", "\"per_second\" is a whole number from 1 to 1000"},
        {"{\"do\":\"tap\",\"payload\":1}", "\"payload\" is true or false"},
        {"{\"do\":\"tap\",\"do\":\"drain\"}", "no JSON: duplicate object key near '\"do\"'"},
        {"{\"do\":\"tap\"} x", "no JSON: end of file expected near 'x'"},
    };
    struct fw_ctl_request r;
    char why[256];
    for (size_t i = 0; i < sizeof ROWS / sizeof *ROWS; i++) {
        cr_expect(not(parse(ROWS[i].line, &r, why)), "taken: %s", ROWS[i].line);
        cr_expect(eq(str, why, (char *)ROWS[i].why), "%s", ROWS[i].line);
    }
}

Test(request, too_long)
{
    struct fw_ctl_request r;
    char why[256];
    char line[FW_CTL_LINE_SIZE + 2];
    memset(line, ' ', sizeof line);
    memcpy(line, "{\"do\":\"drain\"}", 14);
    cr_expect(fw_ctl_parse(line, FW_CTL_LINE_SIZE, &r, why, sizeof why));
    cr_expect(not(fw_ctl_parse(line, FW_CTL_LINE_SIZE + 1, &r, why, sizeof why)));
    cr_expect(eq(str, why, "a request is at most 4096 bytes"));
}

/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "fila/client.h"

#include <criterion/criterion.h>

static const char *const URLS[] = {"grpc://a:1", "grpc://b:1", "grpc://c:1"};

static fila_endpoints *three(void)
{
    fila_endpoints *endpoints = NULL;
    cr_assert_eq(fila_endpoints_new(URLS, 3, 100, 1000, 7, &endpoints, NULL), FILA_OK);
    return endpoints;
}

static void expect(fila_endpoints *endpoints, int64_t now, const char *url)
{
    uint32_t wait = 1;
    cr_expect_str_eq(fila_endpoints_pick(endpoints, now, &wait), url, "at %lld", (long long)now);
    cr_expect_eq(wait, 0);
}

Test(endpoints, the_first_until_it_fails_then_the_next)
{
    fila_endpoints *endpoints = three();
    expect(endpoints, 0, "grpc://a:1");
    expect(endpoints, 0, "grpc://a:1");
    fila_endpoints_failed(endpoints, "grpc://a:1", 0);
    expect(endpoints, 0, "grpc://b:1");
    expect(endpoints, 5000, "grpc://b:1");
    fila_endpoints_worked(endpoints, "grpc://b:1");
    expect(endpoints, 100000, "grpc://b:1");
    fila_endpoints_failed(endpoints, "grpc://b:1", 100000);
    expect(endpoints, 100000, "grpc://c:1");
    fila_endpoints_free(endpoints);
    fila_endpoints_free(NULL);
}

Test(endpoints, all_failed_the_one_whose_pause_ends_first)
{
    fila_endpoints *endpoints = three();
    uint32_t wait = 0;
    fila_endpoints_failed(endpoints, "grpc://a:1", 0);
    fila_endpoints_failed(endpoints, "grpc://b:1", 1000);
    fila_endpoints_failed(endpoints, "grpc://c:1", 2000);
    fila_endpoints_failed(endpoints, "grpc://a:1", 2000);
    fila_endpoints_failed(endpoints, "grpc://a:1", 2000);
    fila_endpoints_failed(endpoints, "grpc://a:1", 2000);
    expect(endpoints, 2000, "grpc://b:1");
    fila_endpoints_failed(endpoints, "grpc://b:1", 2000);
    cr_expect_str_eq(fila_endpoints_pick(endpoints, 2000, &wait), "grpc://c:1");
    cr_expect(wait >= 50 && wait <= 100, "%u", wait);
    expect(endpoints, 2000 + wait, "grpc://c:1");
    fila_endpoints_free(endpoints);
}

Test(endpoints, pauses_double_and_end_with_success)
{
    const char *const one[] = {"embedded:"};
    fila_endpoints *endpoints = NULL;
    const uint32_t most[] = {100, 200, 400, 800, 1000, 1000};
    uint32_t wait = 0;
    cr_assert_eq(fila_endpoints_new(one, 1, 100, 1000, 3, &endpoints, NULL), FILA_OK);
    for (size_t i = 0; i < sizeof most / sizeof *most; i++) {
        fila_endpoints_failed(endpoints, "embedded:", 0);
        cr_expect_str_eq(fila_endpoints_pick(endpoints, 0, &wait), "embedded:");
        cr_expect(wait >= most[i] / 2 && wait <= most[i], "%zu: %u", i, wait);
    }
    fila_endpoints_worked(endpoints, "embedded:");
    expect(endpoints, 0, "embedded:");
    fila_endpoints_failed(endpoints, "embedded:", 0);
    (void)fila_endpoints_pick(endpoints, 0, &wait);
    cr_expect(wait <= 100);
    fila_endpoints_free(endpoints);
}

Test(endpoints, a_leader_is_followed_and_forgotten_when_it_fails)
{
    fila_endpoints *endpoints = three();
    cr_expect(fila_endpoints_redirect(endpoints, "grpc://a:1", "leader:5555"));
    expect(endpoints, 0, "grpc://leader:5555");
    fila_endpoints_worked(endpoints, "grpc://leader:5555");
    expect(endpoints, 0, "grpc://leader:5555");
    uint32_t wait = 0;
    fila_endpoints_failed(endpoints, fila_endpoints_pick(endpoints, 0, &wait), 0);
    expect(endpoints, 0, "grpc://a:1");
    fila_endpoints_free(endpoints);
}

Test(endpoints, redirects_in_a_row_are_counted)
{
    fila_endpoints *endpoints = three();
    cr_expect(fila_endpoints_redirect(endpoints, "grpc://a:1", "b:1"));
    cr_expect(fila_endpoints_redirect(endpoints, "grpc://b:1", "c:1"));
    cr_expect(fila_endpoints_redirect(endpoints, "grpc://c:1", "a:1"));
    cr_expect(!fila_endpoints_redirect(endpoints, "grpc://a:1", "b:1"));
    expect(endpoints, 0, "grpc://a:1");
    fila_endpoints_failed(endpoints, "grpc://a:1", 0);
    expect(endpoints, 0, "grpc://b:1");
    cr_expect(fila_endpoints_redirect(endpoints, "grpc://b:1", "x:1"), "counted anew");
    fila_endpoints_free(endpoints);
}

Test(endpoints, what_is_no_leader_is_not_followed)
{
    static const char *const bad[] = {"",         "leader",          "leader:",      ":5555",
                                      "leader:0", "leader:65536",    "0.0.0.0:5555", "[::]:5555",
                                      "a b:1",    "http://leader:1", "a:1"};
    fila_endpoints *endpoints = three();
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        cr_expect(!fila_endpoints_redirect(endpoints, "grpc://a:1", bad[i]), "%s", bad[i]);
    }
    cr_expect(!fila_endpoints_redirect(endpoints, "embedded:", "leader:5555"));
    expect(endpoints, 0, "grpc://a:1");
    fila_endpoints_free(endpoints);
}

Test(endpoints, bad_lists)
{
    const char *const holes[] = {"grpc://a:1", "", "grpc://c:1"};
    fila_endpoints *endpoints = NULL;
    fila_error error = FILA_ERROR_INIT;
    cr_expect_eq(fila_endpoints_new(URLS, 0, 1, 1, 1, &endpoints, &error), FILA_INVALID_ARGUMENT);
    cr_expect_str_eq(error.text, "no broker URL");
    cr_expect_eq(fila_endpoints_new(holes, 3, 1, 1, 1, &endpoints, &error), FILA_INVALID_ARGUMENT);
    cr_expect_str_eq(error.text, "broker URL 2 of 3 is empty");
    cr_expect_eq(endpoints, NULL);
}

/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "plugin/counters.h"

#include "fila/plugin.h"

#include <criterion/criterion.h>

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

TestSuite(counters, .timeout = 60);

static void print(void *user, const char *name, uint64_t value)
{
    char *all = user;
    size_t len = strlen(all);
    (void)snprintf(all + len, 4096 - len, "%s=%" PRIu64 ";", name, value);
}

Test(counters, count_by_name)
{
    char all[4096] = "";
    struct fw_counters *counters = fw_counters_new();
    cr_assert(fw_counters_add(counters, "pages", 2));
    cr_assert(fw_counters_add(counters, "bytes_read", UINT64_C(1) << 40));
    cr_assert(fw_counters_add(counters, "pages", 3));
    cr_assert(fw_counters_add(counters, "zero", 0), "a counter can be shown before it counts");
    fw_counters_each(counters, print, all);
    cr_assert_str_eq(all, "pages=5;bytes_read=1099511627776;zero=0;");
    fw_counters_free(counters);
    fw_counters_free(NULL);
}

Test(counters, refuse_what_is_no_name)
{
    static const char *const NAMES[] = {"",     "Pages",     "9pages", "_pages", "pa ges",
                                        "pa-g", "p\xc3\xa4", "a\n",    "a{b}",   NULL};
    char all[4096] = "";
    char longest[FILA_COUNTER_NAME_MAX + 2];
    struct fw_counters *counters = fw_counters_new();
    for (size_t i = 0; NAMES[i]; i++) {
        cr_expect_not(fw_counters_add(counters, NAMES[i], 1), "%s", NAMES[i]);
    }
    cr_expect_not(fw_counters_add(counters, NULL, 1));
    cr_expect_not(fw_counters_add(NULL, "pages", 1), "a handler without counters");
    memset(longest, 'a', sizeof longest);
    longest[FILA_COUNTER_NAME_MAX + 1] = '\0';
    cr_expect_not(fw_counters_add(counters, longest, 1));
    fw_counters_each(counters, print, all);
    cr_assert_str_eq(all, "");
    longest[FILA_COUNTER_NAME_MAX] = '\0';
    cr_expect(fw_counters_add(counters, longest, 1));
    fw_counters_free(counters);
}

Test(counters, are_bounded)
{
    struct fw_counters *counters = fw_counters_new();
    char name[32];
    for (unsigned i = 0; i < FILA_COUNTERS_MAX; i++) {
        (void)snprintf(name, sizeof name, "c%u", i);
        cr_assert(fw_counters_add(counters, name, i));
    }
    cr_assert_not(fw_counters_add(counters, "one_more", 1));
    cr_assert(fw_counters_add(counters, "c0", 7), "those that are there go on");
    fw_counters_free(counters);
}

static void *count(void *arg)
{
    char name[32];
    for (unsigned i = 0; i < 20000; i++) {
        (void)snprintf(name, sizeof name, "c%u", i % 40);
        (void)fw_counters_add(arg, name, 1);
    }
    return NULL;
}

static void sum(void *user, const char *name, uint64_t value)
{
    (void)name;
    *(uint64_t *)user += value;
}

/* Each name was made once, and nothing got lost: 32 names of the 40 count, 2,000 each. */
Test(counters, count_from_many_threads)
{
    struct fw_counters *counters = fw_counters_new();
    pthread_t threads[4];
    uint64_t total = 0;
    for (int i = 0; i < 4; i++) {
        cr_assert_eq(pthread_create(&threads[i], NULL, count, counters), 0);
    }
    for (int i = 0; i < 4; i++) {
        (void)pthread_join(threads[i], NULL);
    }
    fw_counters_each(counters, sum, &total);
    cr_assert_eq(total, (uint64_t)4 * FILA_COUNTERS_MAX * 500);
    fw_counters_free(counters);
}

/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "executor/executor.h"

#include <criterion/criterion.h>

#include <pthread.h>

TestSuite(done, .timeout = 30);

static void count_wake(void *user)
{
    ++*(int *)user;
}

Test(done, gives_back_in_the_order_of_pushing)
{
    struct fw_done_list list = {0};
    struct fw_job jobs[3] = {0};

    cr_assert_null(fw_done_take(&list));
    for (int i = 0; i < 3; i++) {
        fw_done_push(&list, &jobs[i]);
    }
    struct fw_job *job = fw_done_take(&list);
    for (int i = 0; i < 3; i++, job = job->next) {
        cr_assert_eq(job, &jobs[i]);
    }
    cr_assert_null(job);
    cr_assert_null(fw_done_take(&list));
}

Test(done, wakes_once_per_sleep_and_only_then)
{
    int wakes = 0;
    struct fw_done_list list = {.wake = count_wake, .user = &wakes};
    struct fw_job jobs[4] = {0};

    fw_done_push(&list, &jobs[0]);
    cr_assert_eq(wakes, 0, "nobody sleeps");
    cr_assert_not(fw_done_sleep_begin(&list), "there is a result: do not block");
    fw_done_push(&list, &jobs[1]);
    cr_assert_eq(wakes, 0, "a refused sleep is none");
    (void)fw_done_take(&list);

    cr_assert(fw_done_sleep_begin(&list));
    fw_done_push(&list, &jobs[2]);
    fw_done_push(&list, &jobs[3]);
    cr_assert_eq(wakes, 1);
    fw_done_sleep_end(&list);
    (void)fw_done_take(&list);

    cr_assert(fw_done_sleep_begin(&list));
    fw_done_sleep_end(&list);
    fw_done_push(&list, &jobs[0]);
    cr_assert_eq(wakes, 1, "awake again");
}

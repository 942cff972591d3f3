/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "executor.h"

/* All orders here are sequentially consistent: `head` and `sleeping` are each written by one side
 * and then the other one is read, and one of the two sides must see the other's write. */

void fw_done_push(struct fw_done_list *list, struct fw_job *job)
{
    struct fw_job *head = atomic_load_explicit(&list->head, memory_order_relaxed);
    do {
        job->next = head;
    } while (!atomic_compare_exchange_weak(&list->head, &head, job));

    if (atomic_load(&list->sleeping) && atomic_exchange(&list->sleeping, false)) {
        list->wake(list->user);
    }
}

struct fw_job *fw_done_take(struct fw_done_list *list)
{
    struct fw_job *newest = NULL;
    struct fw_job *oldest = NULL;

    if (atomic_load_explicit(&list->head, memory_order_relaxed)) {
        newest = atomic_exchange(&list->head, NULL);
    }
    while (newest) {
        struct fw_job *job = newest;
        newest = job->next;
        job->next = oldest;
        oldest = job;
    }
    return oldest;
}

bool fw_done_sleep_begin(struct fw_done_list *list)
{
    atomic_store(&list->sleeping, true);
    if (!atomic_load(&list->head)) {
        return true;
    }
    atomic_store(&list->sleeping, false);
    return false;
}

void fw_done_sleep_end(struct fw_done_list *list)
{
    atomic_store_explicit(&list->sleeping, false, memory_order_relaxed);
}

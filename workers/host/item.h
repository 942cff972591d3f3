/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * All that one delivery needs on its way, in one block out of its queue's pool: the job that runs
 * it, the settlement that ends it, the dead-letter copy. Private to queue*.c. Thread: I/O, except
 * `job` while the executor has it.
 */
#ifndef FW_HOST_ITEM_H
#define FW_HOST_ITEM_H

#include "executor/executor.h"
#include "src/transport.h"

struct fw_queue;
struct fw_sending;

/* Who still uses an item. It is free when the engine has finished it and this is 0. */
enum {
    FW_ITEM_HELD = 1,
    FW_ITEM_RUNNING = 2,
    FW_ITEM_SETTLING = 4,
    FW_ITEM_PUBLISHING = 8
};

struct fw_item {
    struct fw_job job;
    struct fila_settle settle;
    struct fila_publish publish;
    struct fw_queue *queue;
    struct fw_item *next_free;
    fila_message *message;
    fila_header *copy_headers;  /* of the dead-letter copy under way */
    struct fw_sending *sending; /* publish.c: what the handler published, under way */
    int64_t settle_sent;
    int64_t publish_sent;
    int64_t read_at;
    int64_t run_at;    /* when the last run was asked for; 0 = none was */
    int64_t lease_end; /* earliest, as of then */
    int64_t ran_ns;    /* of the last run */
    bool first_run;
    uint32_t crash_run; /* its slot in the crash record while it runs, 0 = none */
    unsigned used_by;
};

struct fw_item_chunk;

/* Never gives memory back before it is freed as a whole. */
struct fw_item_pool {
    struct fw_item *free;
    struct fw_item_chunk *chunks;
};

/* NULL without memory. All zero but `queue`. */
struct fw_item *fw_item_take(struct fw_item_pool *pool, struct fw_queue *queue);
void fw_item_give(struct fw_item_pool *pool, struct fw_item *item);
/* Frees everything, messages of items still in use included. */
void fw_item_pool_fini(struct fw_item_pool *pool);

static inline struct fw_item *fw_item_of_job(struct fw_job *job)
{
    return (struct fw_item *)job->user;
}

#endif

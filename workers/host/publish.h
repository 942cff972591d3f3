/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * Sending what a handler published (delivery-engine.md rule 3: an ack only after all of it is
 * confirmed). The engine hears of the handler's ack only once the broker has every message of its
 * outbox; until then the delivery runs, for the engine. So a crash at any instruction leaves the
 * delivery unacked, and what was published already is published again by its next try.
 *
 * Operation. fw_queue_done -> fw_publish_start -> transport -> all confirmed: the verdict; refused
 * for good (no such queue, no right, too large): FW_RETRY with the reason; no answer, no broker:
 * what failed, and only that, is sent again after 0.1 s doubling to 2 s until the run's deadline,
 * then FW_UNAVAILABLE, which burns no try.
 *
 * Safety. I/O thread; private to queue*.c. The item stays in use (FW_ITEM_RUNNING) until the
 * verdict is given.
 */
#ifndef FW_HOST_PUBLISH_H
#define FW_HOST_PUBLISH_H

#include "item.h"

struct fw_queue;

/* Sends item->job.outbox. False: there is none, or its verdict is no ack; nothing was done. Else
 * fw_queue_verdict follows, once. */
bool fw_publish_start(struct fw_queue *queue, struct fw_item *item);
/* Sends again what is due. In a turn, before the engine's commands. */
void fw_publish_pump(struct fw_queue *queue, int64_t now);
/* When fw_publish_pump has something to do; FILA_NEVER if nothing waits. */
int64_t fw_publish_wake_at(const struct fw_queue *queue);
/* The engine wants the run to stop: whether that is for us. What is under way is waited for,
 * nothing is sent again. */
bool fw_publish_cancel(struct fw_queue *queue, struct fw_item *item);
/* Frees what an item still has. */
void fw_publish_free(struct fw_item *item);

#endif

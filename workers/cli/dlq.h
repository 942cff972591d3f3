/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * What `fila-worker dlq` does (dlq_show.c, dlq_redrive.c); dlq.c reads the command line. Thread:
 * main.
 */
#ifndef FW_CLI_DLQ_H
#define FW_CLI_DLQ_H

#include "fila/client.h"

struct fw_dlq {
    fila_client *client;
    char name[1024];   /* of the dead-letter queue */
    char parent[1024]; /* of the queue it belongs to */
    uint64_t limit;    /* 0 = not given */
    uint64_t payload;  /* bytes to show */
    bool json;
    uint32_t consumers; /* of the dead-letter queue when fw_dlq_waiting asked, so without ours */
};

/* Each returns the exit status. */
int fw_dlq_ls(struct fw_dlq *dlq);
int fw_dlq_show(struct fw_dlq *dlq);
int fw_dlq_redrive(struct fw_dlq *dlq);

/* Messages in the dead-letter queue that nobody holds. 0, or the exit status when it cannot be
 * told. */
int fw_dlq_waiting(struct fw_dlq *dlq, uint64_t *ret_count);

/* Closes our consumer, and waits (2 s at most) until the broker has noticed: what is put back
 * before that would be leased to it again. */
void fw_dlq_let_go(struct fw_dlq *dlq, fila_consumer *consumer);

#endif

/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * What the parts of `fila-worker queue` share: queue.c (the verb; ls, create, delete),
 * queue_stats.c and queue_config.c. Each part returns the exit status. Thread: main.
 */
#ifndef FW_CLI_QUEUE_H
#define FW_CLI_QUEUE_H

#include "connect.h"

#include <jansson.h>

struct queue_verb {
    struct fw_cli_target target;
    fila_client *client;
    const char *name; /* of the queue; NULL where there is none */
    char **words;     /* behind the sub-verb */
    int word_count;
    bool json;
    bool watch;
    int64_t interval; /* ns */
    uint64_t count;   /* of looks; 0 = without end */
    uint64_t visibility_timeout_ms;
    const char *on_enqueue;
    const char *on_failure;
};

/* Makes a call and waits; on failure says why. */
int fw_cli_queue_call(
    const struct queue_verb *v,
    const fila_request *request,
    fila_reply **ret_reply);
/* Prints a line of JSON, and frees it; takes NULL. */
void fw_cli_queue_json(json_t *value);
json_t *fw_cli_queue_text(fila_view v);

int fw_cli_queue_stats(struct queue_verb *v);
int fw_cli_queue_config(struct queue_verb *v);

#endif

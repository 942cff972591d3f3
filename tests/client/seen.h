/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * What callbacks saw, for a test to wait on.
 */
#ifndef TESTS_CLIENT_SEEN_H
#define TESTS_CLIENT_SEEN_H

#include "fila/client.h"

#include <pthread.h>

#define SEEN_MAX 256

struct seen {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    unsigned replies;
    unsigned errors;
    fila_reply *reply; /* the last one, copied */
    fila_error error;  /* the last one */
    pthread_t thread;  /* of the last callback */
    unsigned messages;
    char ids[SEEN_MAX][FILA_ID_SIZE]; /* of the first ones */
    unsigned ends;
    fila_error end;
};

void seen_init(struct seen *seen);
void seen_clear(struct seen *seen); /* frees what it holds */

/* Callbacks for fila_call_start and fila_consumer_open, with a struct seen as user. */
void seen_reply(void *user, const fila_reply *reply, const fila_error *error);
extern const fila_consumer_events SEEN_EVENTS;

/* Wait until there were that many; counts are read without the lock afterwards. */
void seen_wait_calls(struct seen *seen, unsigned replies_and_errors);
void seen_wait_messages(struct seen *seen, unsigned messages);
void seen_wait_end(struct seen *seen);

#endif

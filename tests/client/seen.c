/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "seen.h"

void seen_init(struct seen *seen)
{
    memset(seen, 0, sizeof *seen);
    (void)pthread_mutex_init(&seen->lock, NULL);
    (void)pthread_cond_init(&seen->changed, NULL);
}

void seen_clear(struct seen *seen)
{
    fila_reply_free(seen->reply);
    seen->reply = NULL;
}

static void tell(struct seen *seen)
{
    seen->thread = pthread_self();
    (void)pthread_cond_broadcast(&seen->changed);
    (void)pthread_mutex_unlock(&seen->lock);
}

void seen_reply(void *user, const fila_reply *reply, const fila_error *error)
{
    struct seen *seen = user;
    (void)pthread_mutex_lock(&seen->lock);
    if (reply) {
        fila_reply_free(seen->reply);
        seen->reply = fila_reply_copy(reply);
        seen->replies++;
    }
    if (error) {
        seen->error = *error;
        seen->errors++;
    }
    tell(seen);
}

static void on_message(void *user, fila_message *message)
{
    struct seen *seen = user;
    fila_view id = fila_message_id(message);
    (void)pthread_mutex_lock(&seen->lock);
    if (seen->messages < SEEN_MAX && id.len < FILA_ID_SIZE) {
        memcpy(seen->ids[seen->messages], id.data, id.len);
    }
    seen->messages++;
    tell(seen);
    fila_message_free(message);
}

static void on_end(void *user, const fila_error *why)
{
    struct seen *seen = user;
    (void)pthread_mutex_lock(&seen->lock);
    seen->ends++;
    seen->end = *why;
    tell(seen);
}

const fila_consumer_events SEEN_EVENTS = {on_message, on_end};

static void wait_for(struct seen *seen, const unsigned *a, const unsigned *b, unsigned count)
{
    (void)pthread_mutex_lock(&seen->lock);
    while (*a + (b ? *b : 0) < count) {
        (void)pthread_cond_wait(&seen->changed, &seen->lock);
    }
    (void)pthread_mutex_unlock(&seen->lock);
}

void seen_wait_calls(struct seen *seen, unsigned replies_and_errors)
{
    wait_for(seen, &seen->replies, &seen->errors, replies_and_errors);
}

void seen_wait_messages(struct seen *seen, unsigned messages)
{
    wait_for(seen, &seen->messages, NULL, messages);
}

void seen_wait_end(struct seen *seen)
{
    wait_for(seen, &seen->ends, NULL, 1);
}

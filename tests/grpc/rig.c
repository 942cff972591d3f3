/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "rig.h"

#include <stdio.h>
#include <stdlib.h>

fila_client_options rig_options(int port)
{
    static char url[64];
    fila_client_options options = FILA_CLIENT_OPTIONS_INIT;
    (void)snprintf(url, sizeof url, "grpc://127.0.0.1:%d", port);
    options.url = url;
    return options;
}

struct fila_transport *rig_open(const fila_client_options *options)
{
    struct fila_transport *t = NULL;
    fila_error error = FILA_ERROR_INIT;
    if (fila_grpc_transport.open(options, &t, &error)) {
        (void)fprintf(stderr, "open: %s\n", error.text);
        abort();
    }
    return t;
}

void rig_close(struct fila_transport *t)
{
    t->ops->shutdown(t);
    while (t->ops->run(t, fila_now() + FILA_S)) {
    }
    t->ops->free(t);
}

bool rig_until(struct fila_transport *t, const unsigned *counter, unsigned count, int ms)
{
    int64_t until = fila_now() + ms * FILA_MS;
    while (*counter < count && fila_now() < until) {
        t->ops->run(t, until);
    }
    return *counter >= count;
}

void rig_for(struct fila_transport *t, int ms)
{
    unsigned never = 0;
    (void)rig_until(t, &never, 1, ms);
}

static void on_opened(void *user, int64_t now)
{
    struct watch *w = user;
    w->opened++;
    w->opened_at = now;
}

static void on_message(void *user, fila_message *owned, const struct fila_read *read)
{
    struct watch *w = user;
    if (w->messages >= MOST_MESSAGES) {
        abort();
    }
    w->reads[w->messages] = *read;
    w->kept[w->messages++] = owned;
}

static void on_ended(void *user, const fila_error *why)
{
    struct watch *w = user;
    w->ended++;
    w->why = *why;
}

void watch_open(struct fila_transport *t, struct watch *w, uint32_t credits)
{
    static const struct fila_stream_events events = {on_opened, on_message, on_ended};
    struct fila_stream_params params = {.window = w->window, .events = &events, .user = w};
    params.queue = fila_view_of("orders");
    if (t->ops->open_stream(t, &params, &w->stream, &w->why)) {
        (void)fprintf(stderr, "open_stream: %s\n", w->why.text);
        abort();
    }
    if (credits) {
        t->ops->grant(w->stream, credits);
    }
}

void watch_free(struct watch *w)
{
    for (unsigned i = 0; i < w->messages; i++) {
        fila_message_free(w->kept[i]);
    }
    free(w);
}

static void settled(struct fila_settle *item)
{
    struct ask *a = item->user;
    a->done++;
}

static void published(struct fila_publish *item)
{
    struct ask *a = item->user;
    a->done++;
}

static void answered(struct fila_unary *item, const fila_reply *reply)
{
    struct ask *a = item->user;
    a->reply = reply ? fila_reply_copy(reply) : NULL;
    a->done++;
}

void ask_settle(
    struct fila_transport *t,
    struct ask *a,
    enum fila_settle_kind kind,
    const char *id,
    int ms)
{
    a->settle = (struct fila_settle){.kind = kind, .done = settled, .user = a};
    a->settle.queue = fila_view_of("orders");
    a->settle.receipt = fila_view_of(id);
    a->settle.reason = fila_view_of("because");
    a->settle.deadline = fila_now() + ms * FILA_MS;
    t->ops->settle(t, &a->settle);
}

void ask_publish(
    struct fila_transport *t,
    struct ask *a,
    const char *queue,
    fila_view payload,
    int ms)
{
    a->publish = (struct fila_publish){.done = published, .user = a};
    a->publish.queue = fila_view_of(queue);
    a->publish.payload = payload;
    a->publish.deadline = fila_now() + ms * FILA_MS;
    t->ops->publish(t, &a->publish);
}

void ask_call(struct fila_transport *t, struct ask *a, const fila_request *request, int ms)
{
    a->unary = (struct fila_unary){.request = request, .done = answered, .user = a};
    a->unary.deadline = fila_now() + ms * FILA_MS;
    t->ops->unary(t, &a->unary);
}

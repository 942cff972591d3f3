/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "server.h"

static struct server_call *take(struct fb_server *server)
{
    pthread_mutex_lock(&server->inbox.lock);
    struct server_call *call = server->inbox.first;
    if (call) {
        call->in_inbox = false;
        server->inbox.first = call->next;
    }
    if (!server->inbox.first) {
        server->inbox.last = &server->inbox.first;
    }
    pthread_mutex_unlock(&server->inbox.lock);
    return call;
}

static void on_wake(void *owner, bool ok)
{
    (void)ok;
    for (struct server_call *call; (call = take(owner));) {
        if (call->stream) {
            server_stream_wake(call->stream);
        } else {
            server_call_answer(call);
        }
    }
}

bool server_inbox_init(struct fb_server *server)
{
    server->on_wake = (struct server_event){on_wake, server};
    server->inbox.last = &server->inbox.first;
    return pthread_mutex_init(&server->inbox.lock, NULL) == 0;
}

void server_inbox_fini(struct fb_server *server)
{
    pthread_mutex_destroy(&server->inbox.lock);
}

void server_inbox_put(struct server_call *call)
{
    struct fb_server *server = call->server;
    pthread_mutex_lock(&server->inbox.lock);
    if (!call->in_inbox) { /* a stream's end may be told while its messages still are */
        bool was_empty = !server->inbox.first;
        call->next = NULL;
        call->in_inbox = true;
        *server->inbox.last = call;
        server->inbox.last = &call->next;
        if (was_empty) {
            server_batch(call, NULL, 0, &server->on_wake);
        }
    }
    pthread_mutex_unlock(&server->inbox.lock);
}

bool server_inbox_holds(struct server_call *call)
{
    pthread_mutex_lock(&call->server->inbox.lock);
    bool holds = call->in_inbox;
    pthread_mutex_unlock(&call->server->inbox.lock);
    return holds;
}

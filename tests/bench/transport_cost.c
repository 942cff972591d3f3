/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * The same loop as bare_loop.c over the gRPC transport of core/src: every message is acked at once,
 * and freed when its ack is answered. Options and output: see loop_report.h.
 */
#include "loop_report.h"
#include "src/transport.h"

struct ack {
    struct fila_settle settle;
    struct ack *next;
    fila_message *message;
    int64_t since;
};

static struct loop loop;
static struct fila_transport *transport;
static struct fila_stream *stream;
static struct ack *spare;
static bool stopping;

static void on_acked(struct fila_settle *item)
{
    struct ack *a = item->user;
    if (item->result != FILA_SETTLE_OK && !stopping) {
        (void)fprintf(stderr, "transport_cost: %s\n", item->error.text);
        _exit(1);
    }
    fila_message_free(a->message);
    a->next = spare;
    spare = a;
    if (stopping) {
        return;
    }
    if (loop_acked(&loop, a->since)) {
        loop_print(&loop);
        stopping = true;
        transport->ops->shutdown(transport);
    } else {
        transport->ops->grant(stream, 1);
    }
}

static void on_opened(void *user, int64_t now)
{
    (void)user;
    (void)now;
}

static void on_message(void *user, fila_message *owned, const struct fila_read *read)
{
    struct ack *a = spare;
    (void)user;
    spare = a->next;
    a->message = owned;
    a->since = read->read_at;
    a->settle.kind = FILA_SETTLE_ACK;
    a->settle.queue = fila_message_queue(owned);
    a->settle.receipt = fila_message_id(owned);
    a->settle.deadline = read->read_at + 5 * FILA_S;
    a->settle.done = on_acked;
    a->settle.user = a;
    a->settle.next = NULL;
    transport->ops->settle(transport, &a->settle);
}

static void on_ended(void *user, const fila_error *why)
{
    (void)user;
    if (!stopping) {
        (void)fprintf(stderr, "transport_cost: the stream ended: %s\n", why->text);
        _exit(1);
    }
}

int main(int argc, char **argv)
{
    static const struct fila_stream_events events = {on_opened, on_message, on_ended};
    fila_client_options options = FILA_CLIENT_OPTIONS_INIT;
    fila_error error = FILA_ERROR_INIT;
    char url[300];
    loop = loop_init(argc, argv);
    (void)snprintf(url, sizeof url, "grpc://%s", loop.address);
    options.url = url;
    options.calls_in_flight = loop.in_flight;
    options.window = loop.window;
    struct fila_stream_params params = {.queue = fila_view_of(loop.queue), .events = &events};
    if (fila_grpc_transport.open(&options, &transport, &error) ||
        transport->ops->open_stream(transport, &params, &stream, &error)) {
        (void)fprintf(stderr, "transport_cost: %s\n", error.text);
        return 1;
    }
    struct ack *all = calloc(loop.in_flight, sizeof *all);
    for (unsigned i = 0; i < loop.in_flight; i++) {
        all[i].next = spare;
        spare = &all[i];
    }
    transport->ops->grant(stream, loop.in_flight);
    while (fila_transport_run(transport, fila_now() + FILA_S)) {
    }
    transport->ops->free(transport);
    free(all);
    return 0;
}

/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * What a held message costs: a message is a view into the buffer that gRPC read it in, so one that
 * waits for its retry while all that came with it is done keeps the whole buffer alive. Measured
 * with and without fila_message_detach, on small messages of which one in `EACH` is held.
 */
#include "fila/broker.h"
#include "rig.h"
#include "wire/message.h"

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    MESSAGES = 8192,
    EACH = 32, /* 256 bytes on the wire: about as many lie in a read buffer of 8 KiB */
    HELD = MESSAGES / EACH,
    PAYLOAD = 100,
    AT_ONCE = 64
};

struct held {
    fila_message *kept[HELD];
    unsigned count;
    unsigned messages;
};

static void on_opened(void *user, int64_t now)
{
    (void)user;
    (void)now;
}

static void on_message(void *user, fila_message *message, const struct fila_read *read)
{
    struct held *h = user;
    (void)read;
    if (h->messages++ % EACH == EACH / 2 && h->count < HELD) {
        h->kept[h->count++] = message;
    } else {
        fila_message_free(message);
    }
}

static void on_ended(void *user, const fila_error *why)
{
    (void)user;
    (void)why;
}

static void fail(const char *what)
{
    (void)fprintf(stderr, "held_memory: %s\n", what);
    exit(1);
}

static void ask_all(struct fila_transport *t)
{
    static struct ask asks[AT_ONCE];
    static char payload[PAYLOAD];
    for (int i = 0; i < MESSAGES / AT_ONCE; i++) {
        memset(asks, 0, sizeof asks);
        for (int j = 0; j < AT_ONCE; j++) {
            ask_publish(t, &asks[j], "orders", (fila_view){payload, PAYLOAD}, 60000);
        }
        for (int j = 0; j < AT_ONCE; j++) {
            if (!rig_until(t, &asks[j].done, 1, 60000) || asks[j].publish.error.code) {
                fail("a message was not taken");
            }
        }
    }
}

static void fill(struct fila_transport *t)
{
    struct ask a = {0};
    fila_request request = {.call = FILA_CALL_CREATE_QUEUE};
    request.as.create_queue.name = fila_view_of("orders");
    ask_call(t, &a, &request, 60000);
    if (!rig_until(t, &a.done, 1, 60000) || a.unary.error.code) {
        fail("no queue");
    }
    fila_reply_free(a.reply);
    ask_all(t);
}

static long in_use(void)
{
    return (long)mallinfo2().uordblks;
}

static long resident_kib(void)
{
    char line[128];
    long kib = 0;
    FILE *f = fopen("/proc/self/status", "r");
    (void)malloc_trim(0);
    while (f && fgets(line, sizeof line, f)) {
        (void)sscanf(line, "VmRSS: %ld", &kib); /* NOLINT(cert-err34-c): 0 of a line that is none */
    }
    if (f) {
        (void)fclose(f);
    }
    return kib;
}

static int judge(long before, long after)
{
    printf(
        "%d held of %d messages of %d bytes: %ld bytes each as they came, %ld detached\n", HELD,
        MESSAGES, PAYLOAD, before / HELD, after / HELD);
    if (before == 0) {
        printf("(this allocator does not tell)\n");
        return 0;
    }
    if (after / HELD > 2 * 256 + 256) { /* the bytes, the message itself, and the allocator's own */
        fail("a detached message keeps more than itself");
    }
    if (before < 4 * after) {
        fail("nothing was pinned: then detaching is not needed");
    }
    return 0;
}

static void measure(struct held *h, long *ret_before, long *ret_after)
{
    long rss = resident_kib();
    long held = in_use();
    unsigned copied = 0;
    for (unsigned i = 0; i < HELD; i++) { /* one that came in two reads is a copy already */
        copied += fila_message_detach(h->kept[i]);
        if (fila_message_payload(h->kept[i]).len != PAYLOAD) {
            fail("one says something else");
        }
    }
    long detached = in_use();
    if (copied < HELD / 2) {
        fail("they were not detached");
    }
    printf("RSS: %ld KiB, detached %ld KiB\n", rss, resident_kib());
    for (unsigned i = 0; i < HELD; i++) {
        fila_message_free(h->kept[i]);
    }
    long none = in_use();
    *ret_before = held - none;
    *ret_after = detached - none;
}

int main(void)
{
    static struct held held;
    static const struct fila_stream_events EVENTS = {on_opened, on_message, on_ended};
    fila_broker *broker = NULL;
    fila_broker_options options = FILA_BROKER_OPTIONS_INIT;
    fila_error error = FILA_ERROR_INIT;
    options.listen = "127.0.0.1:0";
    if (fila_broker_open(&options, &broker, &error)) {
        fail(error.text);
    }
    fila_client_options client = rig_options(fila_broker_port(broker));
    struct fila_transport *t = rig_open(&client);
    fill(t);
    struct fila_stream_params params = {
        .queue = fila_view_of("orders"), .events = &EVENTS, .user = &held};
    struct fila_stream *stream = NULL;
    if (t->ops->open_stream(t, &params, &stream, &error)) {
        fail(error.text);
    }
    t->ops->grant(stream, MESSAGES);
    if (!rig_until(t, &held.messages, MESSAGES, 60000) || held.count != HELD) {
        fail("not all came");
    }
    long before = 0;
    long after = 0;
    measure(&held, &before, &after);
    int status = judge(before, after);
    rig_close(t);
    fila_broker_free(broker);
    return status;
}

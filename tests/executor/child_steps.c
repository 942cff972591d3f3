/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * A plugin for the tests of children: does what the payload says.
 *
 *     tell      rejects; the reason is all that it sees of the message
 *     cancel    waits on cancel_fd; then a retry, whose reason says what `cancelled` said
 *     defer     completed as done by a thread of its own
 *     early     completed as rejected before `handle` returns
 *     later     a retry after 1.5 s, caused by a timeout
 *     crash     aborts
 *     wait F    waits until the file F is gone, whatever happens; then as "pid"
 *     pid       rejects; the reason is the process id
 *     count N V     counts "steps" N times; then does V
 *     publish V S.. publishes messages of S bytes each, numbered in their first; then does V
 *               V: ack, reject, or crash
 */
#include <fila/plugin.h>

#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct deferred {
    const fila_delivery *delivery;
    const fila_services *services;
};

static int is(const fila_delivery *d, const char *word)
{
    return d->payload_len >= strlen(word) && !memcmp(d->payload, word, strlen(word));
}

static int say(const fila_delivery *d, const fila_services *s, const char *text, int verdict)
{
    s->reason(s, d, text);
    return verdict;
}

static int tell(const fila_delivery *d, const fila_services *s)
{
    char text[512];
    size_t cursor = 0;
    size_t key_len = 0;
    size_t value_len = 0;
    const char *key = NULL;
    const char *value = NULL;
    int len = snprintf(
        text, sizeof text, "%.*s %.*s %.*s attempt %u of %zu bytes, %s", (int)d->queue_len,
        d->queue, (int)d->id_len, d->id, (int)d->fairness_key_len, d->fairness_key, d->attempt,
        d->payload_len, s->deadline_ms(d) > 0 ? "in time" : "late");
    while (s->next_header(d, &cursor, &key, &key_len, &value, &value_len)) {
        len += snprintf(
            text + len, sizeof text - (size_t)len, " %.*s=%.*s", (int)key_len, key, (int)value_len,
            value);
    }
    s->log(s, d, FILA_LOG_WARN, "it was told");
    return say(d, s, text, FILA_REJECT);
}

static int wait_for_cancel(const fila_delivery *d, const fila_services *s)
{
    struct pollfd fd = {.fd = s->cancel_fd(d), .events = POLLIN};
    while (!s->cancelled(d)) {
        (void)poll(&fd, 1, 10000);
        fd.fd = s->cancel_fd(d);
    }
    return say(d, s, s->deadline_ms(d) > 0 ? "cancelled in time" : "cancelled late", FILA_RETRY);
}

static void *complete(void *arg)
{
    struct deferred *deferred = arg;
    (void)deferred->services->complete(deferred->delivery, FILA_ACK, NULL);
    free(deferred);
    return NULL;
}

static int defer(const fila_delivery *d, const fila_services *s)
{
    struct deferred *deferred = malloc(sizeof *deferred);
    pthread_t thread;
    if (!deferred) {
        return FILA_RETRY;
    }
    *deferred = (struct deferred){d, s};
    if (pthread_create(&thread, NULL, complete, deferred)) {
        abort();
    }
    (void)pthread_detach(thread);
    return FILA_DEFER;
}

static void wait_until_gone(const fila_delivery *d)
{
    char path[256];
    (void)snprintf(
        path, sizeof path, "%.*s", (int)(d->payload_len - 5), (const char *)d->payload + 5);
    while (!access(path, F_OK)) {
        (void)usleep(20000);
    }
}

static int conclude(const char *how)
{
    if (!strcmp(how, "crash")) {
        abort();
    }
    return strcmp(how, "ack") ? FILA_REJECT : FILA_ACK;
}

static int count(const fila_delivery *d, const fila_services *s)
{
    char text[64];
    char how[16] = "";
    int times = 0;
    (void)snprintf(text, sizeof text, "%.*s", (int)d->payload_len, (const char *)d->payload);
    if (sscanf(text, "count %d %15s", &times, how) != 2) { // NOLINT(cert-err34-c)
        return FILA_REJECT;
    }
    for (int i = 0; i < times; i++) {
        (void)s->counter(s, "steps", 1);
    }
    return conclude(how);
}

/* Byte `i` of message `number` is number + i, so that parts out of place are seen. */
static int publish_one(const fila_delivery *d, const fila_services *s, int number, size_t size)
{
    fila_publication p = FILA_PUBLICATION_INIT;
    uint8_t *payload = malloc(size + 1);
    if (!payload) {
        return FILA_PUBLISH_NO_MEMORY;
    }
    for (size_t i = 0; i < size; i++) {
        payload[i] = (uint8_t)((size_t)number + i);
    }
    p.queue = "copies";
    p.queue_len = 6;
    p.payload = payload;
    p.payload_len = size;
    int result = s->publish(d, &p);
    free(payload);
    return result;
}

static int publish(const fila_delivery *d, const fila_services *s)
{
    char text[256];
    char how[16] = "";
    int at = 0;
    int more = 0;
    size_t size = 0;
    (void)snprintf(text, sizeof text, "%.*s", (int)d->payload_len, (const char *)d->payload);
    if (sscanf(text, "publish %15s%n", how, &at) != 1) {
        return FILA_RETRY;
    }
    for (int i = 0; sscanf(text + at, "%zu%n", &size, &more) == 1; i++) { // NOLINT(cert-err34-c)
        at += more;
        if (publish_one(d, s, i, size) != FILA_PUBLISH_TAKEN) {
            return FILA_RETRY;
        }
    }
    return conclude(how);
}

static int handle(void *self, const fila_delivery *d, const fila_services *s)
{
    char text[32];
    (void)self;
    if (is(d, "tell")) {
        return tell(d, s);
    }
    if (is(d, "cancel")) {
        return wait_for_cancel(d, s);
    }
    if (is(d, "defer")) {
        return defer(d, s);
    }
    if (is(d, "early")) {
        return s->complete(d, FILA_REJECT, "early") ? FILA_ACK : FILA_DEFER;
    }
    if (is(d, "later")) {
        s->retry_after(d, 1500);
        s->cause(d, FILA_CAUSE_TIMEOUT);
        return FILA_RETRY;
    }
    if (is(d, "crash")) {
        abort();
    }
    if (is(d, "count ")) {
        return count(d, s);
    }
    if (is(d, "publish ")) {
        return publish(d, s);
    }
    if (is(d, "wait ")) {
        wait_until_gone(d);
    }
    (void)snprintf(text, sizeof text, "%d", (int)getpid());
    return say(d, s, text, FILA_REJECT);
}

static int probe(void *self, const fila_services *s)
{
    const fila_option_value *answer = s->option(s, "answer");
    (void)self;
    while (answer->integer > 1) {
        (void)sleep(1);
    }
    return (int)answer->integer;
}

static const fila_option OPTIONS[] = {
    {"answer", FILA_OPTION_INT, 0, "1", 0, 2, "Of the probe; 2: it hangs."},
};

FILA_PLUGIN_DEFINE({
    FILA_PLUGIN_HEAD,
    .name = "steps",
    .version = "1.0",
    .options = OPTIONS,
    .option_count = FILA_COUNT(OPTIONS),
    .handle = handle,
    .probe = probe,
})

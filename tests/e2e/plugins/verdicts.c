/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * A plugin for the end-to-end tests: the payload says which verdict it gives.
 *
 *     ack retry reject nonsense   that verdict (nonsense: 42)
 *     defer                       taken; completed as done by a thread of its own
 *     unavailable                 at first; done the second time
 *     crash                       ends the process
 *     count N                     ack if the message has N headers, else reject
 *     bytes N                     ack if N bytes follow the newline, else reject
 */
#include <fila/plugin.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct verdicts {
    const char *greeting;
};

struct deferred {
    const fila_delivery *delivery;
    const fila_services *services;
};

static atomic_int unavailable_times;

static int starts_with(const fila_delivery *d, const char *word)
{
    size_t length = strlen(word);
    return d->payload_len >= length && memcmp(d->payload, word, length) == 0;
}

static int say(
    const struct verdicts *self,
    const fila_delivery *d,
    const fila_services *s,
    const char *what,
    int verdict)
{
    char text[160];
    (void)snprintf(text, sizeof text, "%s: %s", self->greeting, what);
    s->reason(s, d, text);
    return verdict;
}

static void *complete_later(void *argument)
{
    struct deferred *deferred = argument;
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
    if (pthread_create(&thread, NULL, complete_later, deferred) != 0) {
        free(deferred);
        return FILA_RETRY;
    }
    (void)pthread_detach(thread);
    return FILA_DEFER;
}

static size_t count_headers(const fila_delivery *d, const fila_services *s)
{
    size_t cursor = 0;
    size_t count = 0;
    size_t key_len = 0;
    size_t value_len = 0;
    const char *key = NULL;
    const char *value = NULL;
    while (s->next_header(d, &cursor, &key, &key_len, &value, &value_len) == 1) {
        count++;
    }
    return count;
}

static int check_number(const fila_delivery *d, size_t skip, size_t have)
{
    char digits[24] = {0};
    size_t length = d->payload_len - skip;
    if (length >= sizeof digits) {
        length = sizeof digits - 1;
    }
    memcpy(digits, d->payload + skip, length);
    return strtoull(digits, NULL, 10) == have ? FILA_ACK : FILA_REJECT;
}

static int check_bytes(const fila_delivery *d)
{
    const uint8_t *newline = memchr(d->payload, '\n', d->payload_len);
    if (!newline) {
        return FILA_REJECT;
    }
    return check_number(d, 6, d->payload_len - (size_t)(newline + 1 - d->payload));
}

static int handle(void *instance, const fila_delivery *d, const fila_services *s)
{
    const struct verdicts *self = instance;
    if (starts_with(d, "ack")) {
        return FILA_ACK;
    }
    if (starts_with(d, "retry")) {
        return say(self, d, s, "not now", FILA_RETRY);
    }
    if (starts_with(d, "reject")) {
        return say(self, d, s, "rejected", FILA_REJECT);
    }
    if (starts_with(d, "unavailable")) {
        return atomic_fetch_add(&unavailable_times, 1) ? FILA_ACK : FILA_UNAVAILABLE;
    }
    if (starts_with(d, "crash")) {
        abort();
    }
    if (starts_with(d, "defer")) {
        return defer(d, s);
    }
    if (starts_with(d, "count ")) {
        return check_number(d, 6, count_headers(d, s));
    }
    if (starts_with(d, "bytes ")) {
        return check_bytes(d);
    }
    return 42;
}

static int init(const fila_services *s, void **ret_self)
{
    struct verdicts *self = calloc(1, sizeof *self);
    if (!self) {
        return -1;
    }
    self->greeting = s->option(s, "greeting")->string;
    *ret_self = self;
    return 0;
}

static const fila_option OPTIONS[] = {
    {"greeting", FILA_OPTION_STRING, 0, "hello", 0, 0, "What reasons begin with."},
};

FILA_PLUGIN_DEFINE({
    FILA_PLUGIN_HEAD,
    .name = "verdicts",
    .version = "1.0",
    .description = "Does what the payload says.",
    .options = OPTIONS,
    .option_count = 1,
    .init = init,
    .handle = handle,
    .close = free,
})

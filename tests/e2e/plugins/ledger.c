/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * A plugin for the end-to-end tests that writes down what it ran: one line "PAYLOAD ATTEMPT ID
 * BUILD" for each run that succeeds, appended to a file with one write(2), at its end. How long it
 * takes, and how often it fails, are options. A payload that begins with
 *
 *     f   always fails
 *     r   fails at its first attempt
 *     p   is also published to the queue "out"
 */
#include <fila/plugin.h>

#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#ifndef LEDGER_BUILD
#    define LEDGER_BUILD "one"
#endif

struct ledger {
    int fd;
    int64_t run_ms;
    int64_t fail_every;
    atomic_int runs;
};

static void pass(int64_t ms)
{
    struct timespec time = {(time_t)(ms / 1000), (long)(ms % 1000) * 1000000L};
    while (ms > 0 && nanosleep(&time, &time)) {
    }
}

static int publish(const fila_delivery *d, const fila_services *s)
{
    fila_publication copy = FILA_PUBLICATION_INIT;
    copy.queue = "out";
    copy.queue_len = 3;
    copy.payload = d->payload;
    copy.payload_len = d->payload_len;
    return s->publish(d, &copy) == FILA_PUBLISH_TAKEN ? FILA_ACK : FILA_RETRY;
}

static int handle(void *instance, const fila_delivery *d, const fila_services *s)
{
    struct ledger *self = instance;
    char line[256];
    pass(self->run_ms);
    int number = atomic_fetch_add(&self->runs, 1) + 1;
    char kind = d->payload_len ? (char)d->payload[0] : '?';
    if ((self->fail_every && number % self->fail_every == 0) || kind == 'f' ||
        (kind == 'r' && d->attempt == 1)) {
        s->reason(s, d, "it was its turn to fail");
        return FILA_RETRY;
    }
    int length = snprintf(
        line, sizeof line, "%.*s %u %.*s " LEDGER_BUILD "\n",
        (int)(d->payload_len < 100 ? d->payload_len : 100), (const char *)d->payload, d->attempt,
        (int)(d->id_len < 64 ? d->id_len : 64), d->id);
    if (length < 0 || write(self->fd, line, (size_t)length) != (ssize_t)length) {
        s->reason(s, d, "the ledger cannot be written");
        return FILA_RETRY;
    }
    return kind == 'p' ? publish(d, s) : FILA_ACK;
}

static int init(const fila_services *s, void **ret_self)
{
    struct ledger *self = calloc(1, sizeof *self);
    if (!self) {
        return -1;
    }
    pass(s->option(s, "init")->integer);
    self->run_ms = s->option(s, "run")->integer;
    self->fail_every = s->option(s, "fail_every")->integer;
    self->fd = open(s->option(s, "file")->string, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    if (self->fd < 0) {
        s->reason(s, NULL, "the ledger cannot be opened");
        free(self);
        return -1;
    }
    *ret_self = self;
    return 0;
}

static void end(void *instance)
{
    struct ledger *self = instance;
    (void)close(self->fd);
    free(self);
}

static const fila_option OPTIONS[] = {
    {"file", FILA_OPTION_STRING, FILA_OPTION_REQUIRED, NULL, 0, 0, "Where runs are written down."},
    {"init", FILA_OPTION_DURATION, 0, "0s", 0, 3600000, "How long it takes to get ready."},
    {"run", FILA_OPTION_DURATION, 0, "0s", 0, 3600000, "How long each run takes."},
    {"fail_every", FILA_OPTION_INT, 0, "0", 0, 1000000, "Every so manieth run fails; 0 = none."},
};

FILA_PLUGIN_DEFINE({
    FILA_PLUGIN_HEAD,
    .name = "ledger",
    .version = LEDGER_BUILD,
    .description = "Writes down what it ran.",
    .options = OPTIONS,
    .option_count = FILA_COUNT(OPTIONS),
    .init = init,
    .handle = handle,
    .close = end,
})

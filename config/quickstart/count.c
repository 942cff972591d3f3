/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * The quickstart's handler plugin: counts the lines of each message, and lets the first try of some
 * fail so that a retry can be seen. Built with one command:
 *
 *     cc -shared -fPIC -Iplugins/include -o count.so config/quickstart/count.c
 */
#include <fila/plugin.h>

#include <stdio.h>
#include <stdlib.h>

/* One for each worker thread, so nothing needs a lock. */
struct count {
    const fila_services *services;
    int64_t fail_every;
    unsigned long files;
    unsigned long lines;
};

static int init(const fila_services *services, void **ret_self)
{
    struct count *self = calloc(1, sizeof *self);
    if (!self) {
        services->reason(services, NULL, "no memory");
        return -1;
    }
    self->services = services;
    self->fail_every = services->option(services, "fail_every")->integer;
    *ret_self = self;
    return 0;
}

static int fails_at_first(const struct count *self, const fila_delivery *delivery)
{
    unsigned sum = 0;
    for (size_t i = 0; i < delivery->id_len; i++) {
        sum = sum * 31 + (unsigned char)delivery->id[i];
    }
    return self->fail_every > 0 && delivery->attempt == 1 && sum % (unsigned)self->fail_every == 0;
}

static int handle(void *instance, const fila_delivery *delivery, const fila_services *services)
{
    struct count *self = instance;
    if (fails_at_first(self, delivery)) {
        services->reason(services, delivery, "this one fails at its first try, as fail_every says");
        return FILA_RETRY;
    }
    for (size_t i = 0; i < delivery->payload_len; i++) {
        self->lines += delivery->payload[i] == '\n';
    }
    self->files++;
    return FILA_ACK;
}

static void finish(void *instance)
{
    struct count *self = instance;
    char text[80];
    (void)snprintf(text, sizeof text, "counted %lu lines in %lu files", self->lines, self->files);
    self->services->log(self->services, NULL, FILA_LOG_INFO, text);
    free(self);
}

static const fila_option OPTIONS[] = {
    {"fail_every", FILA_OPTION_INT, 0, "0", 0, 1000000,
     "The first try of about every nth message fails; 0 = none does."},
};

FILA_PLUGIN_DEFINE({
    FILA_PLUGIN_HEAD,
    .name = "count",
    .version = "1.0",
    .description = "Counts the lines of messages.",
    .options = OPTIONS,
    .option_count = FILA_COUNT(OPTIONS),
    .init = init,
    .handle = handle,
    .close = finish,
})

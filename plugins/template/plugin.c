/* SPDX-License-Identifier: AGPL-3.0-or-later WITH fila-plugin-exception */
/* @NAME@: a handler for fila-worker. Replace what handle does; it may carry any licence.
 *
 * plugins/README.md of fila-worker explains every part; fila/plugin.h is the whole interface.
 */
#include <fila/plugin.h>

#include <stdio.h>
#include <stdlib.h>

/* One instance for each worker thread, so nothing in here needs a lock. */
struct instance {
    const char *greeting;
    int64_t most; /* bytes */
};

static int @IDENT@_init(const fila_services *services, void **ret_self)
{
    struct instance *self = calloc(1, sizeof *self);
    if (!self) {
        services->reason(services, NULL, "out of memory");
        return 1;
    }
    self->greeting = services->option(services, "greeting")->string;
    self->most = services->option(services, "most")->integer;
    *ret_self = self;
    return 0;
}

/* The verdict: FILA_ACK (done), FILA_RETRY, FILA_REJECT (dead letter), FILA_UNAVAILABLE (a dependency
 * is down), FILA_DEFER (services->complete follows). A message may come twice. */
static int @IDENT@_handle(void *instance, const fila_delivery *delivery, const fila_services *services)
{
    struct instance *self = instance;
    char line[200];

    if (delivery->payload_len == 0) {
        services->reason(services, delivery, "the message is empty");
        return FILA_REJECT;
    }
    if (delivery->payload_len > (size_t)self->most) {
        services->reason(services, delivery, "the message is over `most`");
        return FILA_REJECT;
    }
    (void)snprintf(line, sizeof line, "%.100s, %zu bytes", self->greeting, delivery->payload_len);
    services->log(services, delivery, FILA_LOG_INFO, line);
    (void)services->counter(services, "bytes", delivery->payload_len);
    return FILA_ACK;
}

static void @IDENT@_close(void *instance)
{
    free(instance);
}

/* Checked and printed by the worker: what reaches init is right. */
static const fila_option OPTIONS[] = {
    {"greeting", FILA_OPTION_STRING, 0, "Hello", 0, 0, "What each line begins with."},
    {"most", FILA_OPTION_SIZE, 0, "1MiB", 1, 16777216, "The largest message that is taken."},
};

FILA_PLUGIN_DEFINE({
    FILA_PLUGIN_HEAD,
    .name = "@NAME@",
    .version = "0.1",
    .description = "Greets each message.",
    .options = OPTIONS,
    .option_count = FILA_COUNT(OPTIONS),
    .init = @IDENT@_init,
    .handle = @IDENT@_handle,
    .close = @IDENT@_close,
})

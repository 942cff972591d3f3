/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * A plugin of ABI 1.1, kept as a binary (abi-1.1.x86_64.so): it must run on every later host of
 * major 1. It uses what 1.1 brought, publish and counter; abi-1.0.c has the rest.
 *
 * The binary is never made again. It was made with gcc 12.2 on Debian 12 by
 *
 *     gcc -O2 -shared -fPIC -fvisibility=hidden -s -I1.1 -Wl,--no-undefined \
 *         -o abi-1.1.x86_64.so abi-1.1.c
 *
 * where 1.1/fila/plugin.h is plugin-1.1.h beside it.
 */
#include <fila/plugin.h>

#include <string.h>

/* The answers to what is no publication and no counter. */
static int answers_are_right(const fila_delivery *d, const fila_services *services)
{
    fila_publication none = FILA_PUBLICATION_INIT;
    fila_publication cut = FILA_PUBLICATION_INIT;
    cut.size = sizeof cut - 1;
    cut.queue = "out";
    cut.queue_len = 3;
    return services->publish(d, &none) == FILA_PUBLISH_INVALID &&
           services->publish(d, &cut) == FILA_PUBLISH_INVALID &&
           services->counter(services, "No Name", 1) == -1;
}

static int kept_handle(void *self, const fila_delivery *d, const fila_services *services)
{
    const char *queue = services->option(services, "to")->string;
    const fila_publication_header headers[] = {
        {FILA_TEXT("from"), d->queue, d->queue_len},
        {FILA_TEXT("empty"), NULL, 0},
    };
    fila_publication copy = FILA_PUBLICATION_INIT;
    (void)self;
    if (services->size < sizeof *services || services->abi_minor < 1 ||
        !answers_are_right(d, services)) {
        services->reason(services, d, "the services are not those of 1.1");
        return FILA_REJECT;
    }
    copy.queue = queue;
    copy.queue_len = strlen(queue);
    copy.headers = headers;
    copy.header_count = FILA_COUNT(headers);
    copy.payload = d->payload;
    copy.payload_len = d->payload_len;
    if (services->publish(d, &copy) != FILA_PUBLISH_TAKEN ||
        services->counter(services, "copies", 1) || services->counter(services, "copies", 2)) {
        services->reason(services, d, "it is not taken");
        return FILA_RETRY;
    }
    return FILA_ACK;
}

static const fila_option OPTIONS[] = {
    {"to", FILA_OPTION_STRING, 0, "out", 0, 0, "A queue."},
};

FILA_PLUGIN_DEFINE({
    FILA_PLUGIN_HEAD,
    .name = "kept-1.1",
    .version = "1.1",
    .options = OPTIONS,
    .option_count = FILA_COUNT(OPTIONS),
    .handle = kept_handle,
})

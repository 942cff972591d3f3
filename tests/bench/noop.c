/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * The handler that does nothing: what is left is the cost of the host.
 */
#include <fila/plugin.h>

static int handle(void *self, const fila_delivery *delivery, const fila_services *services)
{
    (void)self;
    (void)delivery;
    (void)services;
    return FILA_ACK;
}

FILA_PLUGIN_DEFINE({
    FILA_PLUGIN_HEAD,
    .flags = FILA_PLUGIN_THREAD_SAFE,
    .name = "noop",
    .version = "1.0",
    .description = "Acks everything.",
    .handle = handle,
})

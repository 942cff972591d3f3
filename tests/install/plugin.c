/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include <fila/plugin.h>

static int handle(void *self, const fila_delivery *delivery, const fila_services *services)
{
    (void)self;
    (void)services;
    return delivery->payload_len ? FILA_ACK : FILA_REJECT;
}

FILA_PLUGIN_DEFINE({FILA_PLUGIN_HEAD, .name = "mine", .version = "1.0", .handle = handle})

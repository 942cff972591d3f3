/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "server/rig.h"

#include <stdio.h>
#include <stdlib.h>

struct rig rig_open(void)
{
    struct rig rig = {.fake = fake_new()};
    fila_error error;
    if (fb_server_start(rig.fake, "127.0.0.1:0", &rig.server, &error)) {
        (void)fprintf(stderr, "%s\n", error.text);
        abort();
    }
    rig.client = raw_open_port(fb_server_port(rig.server));
    return rig;
}

void rig_close(struct rig *rig)
{
    raw_close(rig->client);
    fb_server_stop(rig->server);
    fake_close(rig->fake);
    fb_server_free(rig->server);
    fake_free(rig->fake);
}

fila_request rig_enqueue(const char *queue, const char *payload, size_t len)
{
    return (fila_request){
        .call = FILA_CALL_ENQUEUE,
        .as.enqueue = {.queue = fila_view_of(queue), .payload = {payload, len}},
    };
}

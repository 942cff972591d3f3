/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "embedded.h"

#include "log/log.h"

#include <string.h>

static const char SCHEME[] = "embedded:";

bool fw_embedded_url(const char *url)
{
    return strncmp(url, SCHEME, sizeof SCHEME - 1) == 0;
}

bool fw_embedded_has_file(const char *url)
{
    const char *path = url + sizeof SCHEME - 1;
    return fw_embedded_url(url) && *path != '\0' && *path != '?';
}

void fw_embedded_script_failed(void *user, const fila_script_failure *failure)
{
    (void)user;
    FW_LOG(
        failure->bypassed ? FW_EVENT_SCRIPT_BYPASSED : FW_EVENT_SCRIPT_FAILED,
        failure->bypassed ? "a queue's scripts fail and are bypassed for a while"
                          : "a queue's script failed",
        fw_text("queue", failure->queue), fw_str("hook", failure->hook),
        fw_str("error", failure->text));
}

fila_status fw_embedded_open(const char *url, fila_broker **ret_broker, fila_error *reterr)
{
    fila_broker_options options = FILA_BROKER_OPTIONS_INIT;
    options.on_script_failure = fw_embedded_script_failed;
    return fila_broker_open_url(url, &options, ret_broker, reterr);
}

/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "embedded.h"

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

fila_status fw_embedded_open(const char *url, fila_broker **ret_broker, fila_error *reterr)
{
    return fila_broker_open_url(url, ret_broker, reterr);
}

/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "embedded.h"

#include "base/error.h"

#include <stdio.h>

static const char SCHEME[] = "embedded:";
static const char LISTEN[] = "listen=";

enum {
    ADDRESS_SIZE = 256
};

bool fw_embedded_url(const char *url)
{
    return strncmp(url, SCHEME, sizeof SCHEME - 1) == 0;
}

static fila_status parse(const char *url, char listen[ADDRESS_SIZE], fila_error *reterr)
{
    const char *path = url + sizeof SCHEME - 1;
    size_t path_len = strcspn(path, "?");
    const char *query = path[path_len] ? path + path_len + 1 : "";
    listen[0] = '\0';
    if (path_len) {
        return fila_fail(
            reterr, FILA_UNSUPPORTED,
            "\"%s\": this build's embedded broker keeps messages in memory only; use \"embedded:\" without a path",
            url);
    }
    if (!query[0]) {
        return FILA_OK;
    }
    if (strncmp(query, LISTEN, sizeof LISTEN - 1) != 0) {
        return fila_fail(
            reterr, FILA_INVALID_ARGUMENT,
            "\"%s\": unknown parameter \"%s\"; the one there is: ?listen=HOST:PORT", url, query);
    }
    int length = snprintf(listen, ADDRESS_SIZE, "%s", query + sizeof LISTEN - 1);
    if (length <= 0 || length >= ADDRESS_SIZE) {
        return fila_fail(reterr, FILA_INVALID_ARGUMENT, "\"%s\": listen wants HOST:PORT", url);
    }
    return FILA_OK;
}

fila_status fw_embedded_open(const char *url, fila_broker **ret_broker, fila_error *reterr)
{
    char listen[ADDRESS_SIZE];
    fila_status status = parse(url, listen, reterr);
    if (status != FILA_OK) {
        return status;
    }
    fila_broker_options options = FILA_BROKER_OPTIONS_INIT;
    options.listen = listen[0] ? listen : NULL;
    return fila_broker_open(&options, ret_broker, reterr);
}

/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "transport.h"

#include "base/error.h"

#include <ctype.h>
#include <strings.h>

#define FORMS "accepted: grpc://HOST:PORT, grpc://unix:/PATH, embedded:"

static const struct fila_transport_ops *const TRANSPORTS[] = {
    &fila_grpc_transport,
    &fila_embedded_transport,
    NULL,
};

/* Schemes that users will come with, and that this build does not speak. */
static const char *const UNSUPPORTED[] = {"grpcs", "fila", "filas", NULL};

/* The letters before the first colon; empty when there is none, or other characters. */
static fila_view scheme_of(const char *url)
{
    fila_view scheme = {url, 0};
    while (isalnum((unsigned char)url[scheme.len])) {
        scheme.len++;
    }
    if (url[scheme.len] != ':') {
        scheme.len = 0;
    }
    return scheme;
}

static bool same(fila_view scheme, const char *name)
{
    return scheme.len == strlen(name) && !strncasecmp(scheme.data, name, scheme.len);
}

fila_status fila_client_options_complete(
    const fila_client_options *options,
    fila_client_options *ret_options,
    fila_error *reterr)
{
    fila_client_options all = FILA_CLIENT_OPTIONS_INIT;
    if (!options || options->size < offsetof(fila_client_options, api_key) ||
        options->size > sizeof all) {
        return fila_fail(
            reterr, FILA_INVALID_ARGUMENT,
            "options of size %zu, this library knows %zu: use FILA_CLIENT_OPTIONS_INIT",
            options ? options->size : 0, sizeof all);
    }
    memcpy(&all, options, options->size);
    all.size = sizeof all;
    *ret_options = all;
    return FILA_OK;
}

static fila_status not_there(const char *url, fila_view scheme, fila_error *reterr)
{
    for (size_t i = 0; UNSUPPORTED[i]; i++) {
        if (same(scheme, UNSUPPORTED[i])) {
            return fila_fail(
                reterr, FILA_UNSUPPORTED, "URL \"%s\": this build has no %s transport; " FORMS, url,
                UNSUPPORTED[i]);
        }
    }
    return fila_fail(reterr, FILA_INVALID_ARGUMENT, "URL \"%s\" names no transport; " FORMS, url);
}

bool fila_url_is_embedded(const char *url)
{
    return url && same(scheme_of(url), "embedded");
}

fila_status fila_transport_open(
    const fila_client_options *options,
    struct fila_transport **ret_transport,
    fila_error *reterr)
{
    fila_client_options all = FILA_CLIENT_OPTIONS_INIT;
    fila_status status = fila_client_options_complete(options, &all, reterr);
    if (status) {
        return status;
    }
    if (!all.url || !all.url[0]) {
        return fila_fail(reterr, FILA_INVALID_ARGUMENT, "no broker URL; " FORMS);
    }
    fila_view scheme = scheme_of(all.url);
    for (size_t i = 0; TRANSPORTS[i]; i++) {
        if (same(scheme, TRANSPORTS[i]->scheme)) {
            return TRANSPORTS[i]->open(&all, ret_transport, reterr);
        }
    }
    return not_there(all.url, scheme, reterr);
}

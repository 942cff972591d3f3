/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "base/error.h"
#include "broker.h"

#include <stdlib.h>
#include <string.h>

static const char SCHEME[] = "embedded:";

/* The value of `name=VALUE` if `parameter` is that, else NULL. */
static const char *value_of(const char *parameter, const char *name)
{
    size_t len = strlen(name);
    return strncmp(parameter, name, len) == 0 && parameter[len] == '=' ? parameter + len + 1 : NULL;
}

static fila_status read_parameter(
    const char *url,
    const char *parameter,
    fila_broker_options *options,
    fila_error *reterr)
{
    const char *value = value_of(parameter, "listen");
    if (value) {
        options->listen = value;
        return *value ? FILA_OK
                      : fila_fail(
                            reterr, FILA_INVALID_ARGUMENT, "\"%s\": listen wants HOST:PORT", url);
    }
    value = value_of(parameter, "sync");
    if (!value) {
        return fila_fail(
            reterr, FILA_INVALID_ARGUMENT,
            "\"%s\": unknown parameter \"%s\"; there are listen=HOST:PORT and sync=full|normal",
            url, parameter);
    }
    if (strcmp(value, "full") != 0 && strcmp(value, "normal") != 0) {
        return fila_fail(
            reterr, FILA_INVALID_ARGUMENT, "\"%s\": sync is full or normal, not \"%s\"", url,
            value);
    }
    options->sync = strcmp(value, "full") == 0 ? FILA_SYNC_FULL : FILA_SYNC_NORMAL;
    return FILA_OK;
}

/* Cuts `text`, the URL without its scheme, into what the options point to. */
static fila_status read_url(
    const char *url,
    char *text,
    fila_broker_options *options,
    fila_error *reterr)
{
    char *query = strchr(text, '?');
    fila_status status = FILA_OK;
    if (query) {
        *query++ = '\0';
    }
    options->path = *text ? text : NULL;
    while (status == FILA_OK && query && *query) {
        char *parameter = query;
        query = strchr(parameter, '&');
        if (query) {
            *query++ = '\0';
        }
        status = read_parameter(url, parameter, options, reterr);
    }
    return status;
}

fila_status fila_broker_open_url(
    const char *url,
    const fila_broker_options *given,
    fila_broker **ret_broker,
    fila_error *reterr)
{
    fila_broker_options options = FILA_BROKER_OPTIONS_INIT;
    fila_status status = given ? fb_options_read(given, &options, reterr) : FILA_OK;
    char *text;
    if (status != FILA_OK) {
        return status;
    }
    if (strncmp(url, SCHEME, sizeof SCHEME - 1) != 0) {
        return fila_fail(
            reterr, FILA_INVALID_ARGUMENT, "\"%s\" does not begin with %s", url, SCHEME);
    }
    text = strdup(url + sizeof SCHEME - 1);
    if (!text) {
        return fila_fail(reterr, FILA_NO_MEMORY, "no memory for a broker");
    }
    status = read_url(url, text, &options, reterr);
    if (status == FILA_OK) {
        status = fila_broker_open(&options, ret_broker, reterr);
    }
    free(text);
    return status;
}

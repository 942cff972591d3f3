/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "connect.h"

#include "cli.h"
#include "config/config.h"
#include "readfile.h"

#include <errno.h>
#include <stdlib.h>

enum {
    URL_SIZE = 1024,
    KEY_FILE_MAX = 65536,
    ANSWER_WITHIN_MS = 2000 /* where there is another broker to ask */
};

static const char DEFAULT_BROKER[] = "grpc://localhost:5555";

bool fw_cli_target_option(struct fw_cli_target *target, int option)
{
    switch (option) {
    case FW_OPT_BROKER:
        target->broker = optarg;
        return true;
    case FW_OPT_CONFIG:
        target->config = optarg;
        return true;
    default:
        return false;
    }
}

/* A config is used when it was named; one that merely lies around may belong to something else and
 * must not stop us. */
static int load(const char *verb, const struct fw_cli_target *target, struct fw_config **ret_config)
{
    struct fw_diagnostics diagnostics = {0};
    const char *path = fw_config_find(target->config);
    int status = 0;
    if (!path) {
        return target->config
                   ? fw_cli_fail(verb, FW_EXIT_CONFIG, "no config file %s", target->config)
                   : 0;
    }
    struct fw_config_overrides none = {0};
    bool ok = fw_config_load(path, &none, ret_config, &diagnostics);
    if (!ok && !target->config) {
        (void)fprintf(
            stderr, "fila-worker %s: %s cannot be used (see fila-worker check): trying %s\n", verb,
            path, DEFAULT_BROKER);
    }
    if (!ok && target->config) {
        const struct fw_diagnostic *d = diagnostics.count ? &diagnostics.items[0] : NULL;
        status = d ? fw_cli_fail(
                         verb, FW_EXIT_CONFIG, "%s:%u: %s: %s", d->file, d->line, d->key, d->text)
                   : fw_cli_fail(verb, FW_EXIT_CONFIG, "%s cannot be used", path);
    }
    fw_diagnostics_free(&diagnostics);
    return status;
}

/* The broker inside a worker is reached where that worker lets it listen. */
static int reachable(const char *verb, const char *url, char *out, size_t size)
{
    static const char LISTEN[] = "listen=";
    const char *listen = strstr(url, LISTEN);
    if (strncmp(url, "embedded:", 9) != 0) {
        (void)snprintf(out, size, "%s", url);
        return 0;
    }
    if (!listen) {
        return fw_cli_fail(
            verb, FW_EXIT_USAGE,
            "the broker is \"%s\", inside the worker's own process; let it listen "
            "(broker = \"embedded:?listen=127.0.0.1:5555\") and give --broker grpc://127.0.0.1:5555",
            url);
    }
    (void)snprintf(out, size, "grpc://%s", listen + sizeof LISTEN - 1);
    return 0;
}

/* The key's file without its line end; NULL with errno when it cannot be read. */
static char *read_key_file(const char *path)
{
    size_t len = 0;
    char *text = fw_cli_read_file(path, KEY_FILE_MAX, &len);
    while (text && len > 0 && (text[len - 1] == '\n' || text[len - 1] == '\r')) {
        text[--len] = '\0';
    }
    return text;
}

/* The key as the worker takes it: a config already has what the environment says. *ret_key may
 * point into the config, the environment, or *ret_owned. */
static int find_key(
    const char *verb,
    const struct fw_config *config,
    const char **ret_key,
    char **ret_owned)
{
    const char *own = getenv("FILA_WORKER_API_KEY"); /* NOLINT(concurrency-mt-unsafe): at start */
    const char *common = getenv("FILA_API_KEY");     /* NOLINT(concurrency-mt-unsafe): at start */
    const char *path = getenv("FILA_API_KEY_FILE");  /* NOLINT(concurrency-mt-unsafe): at start */
    if (config || own || (common && *common)) {
        *ret_key = config ? config->api_key : own ? own : common;
        return 0;
    }
    if (path && *path) {
        *ret_key = *ret_owned = read_key_file(path);
        if (!*ret_owned) {
            return fw_cli_fail(
                verb, FW_EXIT_CONFIG, "FILA_API_KEY_FILE: cannot read %s: %s", path,
                strerrordesc_np(errno));
        }
    }
    return 0;
}

/* One URL of a list with commas, or of a config. False = no more. */
static bool take_url(
    const char **rest,
    const struct fw_config *config,
    size_t index,
    char url[URL_SIZE])
{
    if (!*rest) {
        bool more = config && index < config->broker_count;
        (void)snprintf(url, URL_SIZE, "%s", more ? config->brokers[index] : "");
        return more;
    }
    *rest += strspn(*rest, " \t,");
    size_t len = strcspn(*rest, ",");
    const char *from = *rest;
    *rest += len;
    while (len && (from[len - 1] == ' ' || from[len - 1] == '\t')) {
        len--;
    }
    (void)snprintf(url, URL_SIZE, "%.*s", (int)len, from);
    return len > 0;
}

/* Whether somebody is there: any answer will do, a refusal too. */
static bool answers(fila_client *client)
{
    fila_error error = FILA_ERROR_INIT;
    fila_request request = {.call = FILA_CALL_LIST_QUEUES, .timeout_ms = ANSWER_WITHIN_MS};
    return fila_call_wait(client, &request, NULL, &error) == FILA_OK ||
           (error.code != FILA_BROKER_UNAVAILABLE && error.code != FILA_TIMEOUT);
}

/* The first that answers; the first of all when none does: its error is then the verb's own. */
static int open_first(
    const char *verb,
    const char *list,
    const struct fw_config *config,
    const char *key,
    fila_client **ret_client)
{
    char given[URL_SIZE];
    char url[URL_SIZE + 8];
    fila_client *first = NULL;
    const char *rest = list;
    int status = 0;
    for (size_t i = 0; status == 0 && take_url(&rest, config, i, given); i++) {
        fila_client *client = NULL;
        fila_error error = FILA_ERROR_INIT;
        fila_client_options options = FILA_CLIENT_OPTIONS_INIT;
        status = reachable(verb, given, url, sizeof url);
        options.url = url;
        options.api_key = key && *key ? key : NULL;
        if (status == 0 && fila_client_open(&options, &client, &error) != FILA_OK) {
            status = fw_cli_fail(verb, FW_EXIT_USAGE, "%s", error.text);
        }
        bool alone = i == 0 && (list ? !strchr(list, ',') : config->broker_count == 1);
        if (status == 0 && (alone || answers(client))) {
            fila_client_free(first);
            *ret_client = client;
            return 0;
        }
        if (first) {
            fila_client_free(client);
        } else {
            first = client;
        }
    }
    if (status == 0 && !first) {
        status = fw_cli_usage(verb, "the broker's URL is empty");
    }
    if (status != 0) {
        fila_client_free(first);
        return status;
    }
    *ret_client = first;
    return 0;
}

int fw_cli_connect(const char *verb, const struct fw_cli_target *target, fila_client **ret_client)
{
    const char *key = NULL;
    char *owned = NULL;
    struct fw_config *config = NULL;
    const char *variable =
        getenv("FILA_WORKER_BROKER"); /* NOLINT(concurrency-mt-unsafe): at start */
    const char *broker = target->broker ? target->broker : variable && *variable ? variable : NULL;
    int status = broker && !target->config ? 0 : load(verb, target, &config);
    if (!broker && !config) {
        broker = DEFAULT_BROKER;
    }
    if (status == 0) {
        status = find_key(verb, config, &key, &owned);
    }
    if (status == 0) {
        status = open_first(verb, broker, config, key, ret_client);
    }
    free(owned);
    fw_config_free(config);
    return status;
}

int fw_cli_call_failed(const char *verb, const char *what, const fila_error *error)
{
    bool nobody = error->code == FILA_BROKER_UNAVAILABLE || error->code == FILA_TIMEOUT;
    return fw_cli_fail(
        verb, nobody ? FW_EXIT_UNREACHABLE : FW_EXIT_FAILED, "%s: %s%s%s", what,
        fila_status_name(error->code), error->text[0] ? ": " : "", error->text);
}

void fw_cli_print_text(FILE *out, fila_view text)
{
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.data[i];
        if (c == '\\' || c < 0x20 || c == 0x7f) {
            (void)fprintf(out, "\\x%02x", c);
        } else {
            (void)fputc(c, out);
        }
    }
}

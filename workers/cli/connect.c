/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "connect.h"

#include "cli.h"
#include "config/config.h"

#include <stdlib.h>

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
    if (!fw_config_load(path, &none, ret_config, &diagnostics) && target->config) {
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

static char *read_key_file(const char *path)
{
    char *text = NULL;
    size_t size = 0;
    FILE *file = fopen(path, "re");
    ssize_t n = file ? getline(&text, &size, file) : -1;
    if (file) {
        (void)fclose(file);
    }
    while (n > 0 && (text[n - 1] == '\n' || text[n - 1] == '\r')) {
        text[--n] = '\0';
    }
    if (n < 0) {
        free(text);
        text = NULL;
    }
    return text;
}

int fw_cli_connect(const char *verb, const struct fw_cli_target *target, fila_client **ret_client)
{
    char url[512];
    char *key = NULL;
    struct fw_config *config = NULL;
    fila_client_options options = FILA_CLIENT_OPTIONS_INIT;
    fila_error error = FILA_ERROR_INIT;
    const char *broker = target->broker ? target->broker : getenv("FILA_WORKER_BROKER");
    int status = broker && !target->config ? 0 : load(verb, target, &config);
    if (!broker) {
        broker = config ? config->brokers[0] : DEFAULT_BROKER;
    }
    if (status == 0) {
        status = reachable(verb, broker, url, sizeof url);
    }
    if (status == 0) {
        options.url = url;
        options.api_key = getenv("FILA_API_KEY");
        if (!options.api_key && getenv("FILA_API_KEY_FILE")) {
            options.api_key = key = read_key_file(getenv("FILA_API_KEY_FILE"));
        }
        if (!options.api_key && config && config->api_key[0]) {
            options.api_key = config->api_key;
        }
        if (fila_client_open(&options, ret_client, &error) != FILA_OK) {
            status = fw_cli_fail(verb, FW_EXIT_USAGE, "%s", error.text);
        }
    }
    free(key);
    fw_config_free(config);
    return status;
}

int fw_cli_call_failed(const char *verb, const char *what, const fila_error *error)
{
    bool nobody = error->code == FILA_UNAVAILABLE || error->code == FILA_TIMEOUT;
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

/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * A program that starts as a Fila server does, with the embedded broker inside: it reads
 * ./fila.toml (contract chapter E, as far as the broker has it), keeps its data in FILA_DATA_DIR
 * where the build has a durable store, and ends at SIGTERM once its clients have gone. So what
 * starts real servers is itself tested where there is none.
 */
#include "fila/broker.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

/* The text behind `key = ` in the line, without quotes; NULL: another line. */
static char *value_of(char *line, const char *key)
{
    size_t len = strlen(key);
    if (strncmp(line, key, len) != 0 || strncmp(line + len, " = ", 3) != 0) {
        return NULL;
    }
    char *value = line + len + 3;
    value += *value == '"';
    value[strcspn(value, "\"\n")] = '\0';
    return value;
}

static void read_number(char *line, const char *key, uint32_t *ret)
{
    const char *value = value_of(line, key);
    if (value) {
        *ret = (uint32_t)strtoul(value, NULL, 10);
    }
}

static bool read_config(fila_broker_options *options, char *ret_address, size_t size)
{
    char line[256];
    FILE *file = fopen("fila.toml", "r");
    bool found = false;
    while (file && fgets(line, sizeof line, file)) {
        const char *address = value_of(line, "listen_addr");
        if (address) {
            (void)snprintf(ret_address, size, "%s", address);
            found = true;
        }
        read_number(line, "command_channel_capacity", &options->command_capacity);
        read_number(line, "quantum", &options->quantum);
        read_number(line, "idle_timeout_ms", &options->idle_timeout_ms);
    }
    if (file) {
        (void)fclose(file);
    }
    return found;
}

int main(void)
{
    fila_broker_options options = FILA_BROKER_OPTIONS_INIT;
    fila_broker *broker = NULL;
    fila_error error = FILA_ERROR_INIT;
    char address[256];
    char path[512];
    const char *data = getenv("FILA_DATA_DIR");
    sigset_t set;
    int got = 0;
    if (!read_config(&options, address, sizeof address) || !data) {
        (void)fprintf(stderr, "no listen_addr in ./fila.toml, or no FILA_DATA_DIR\n");
        return 1;
    }
    (void)mkdir(data, 0777);
    (void)snprintf(path, sizeof path, "%s/broker.db", data);
    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGTERM);
    (void)sigprocmask(SIG_BLOCK, &set, NULL);
    options.listen = address;
    options.path = HAS_STORE ? path : NULL;
    if (fila_broker_open(&options, &broker, &error)) {
        (void)fprintf(stderr, "%s\n", error.text);
        return 1;
    }
    (void)sigwait(&set, &got);
    (void)fila_broker_drain(broker, -1);
    fila_broker_free(broker);
    return 0;
}

/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * A program that starts as a Fila server does, with the embedded broker inside: it reads the
 * listen_addr out of ./fila.toml and serves until killed. So what starts real servers is itself
 * tested where there is none.
 */
#include "fila/broker.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

static bool read_address(char *ret_address, size_t size)
{
    char line[256];
    FILE *file = fopen("fila.toml", "r");
    bool found = false;
    while (file && !found && fgets(line, sizeof line, file)) {
        static const char prefix[] = "listen_addr = \"";
        char *end = strrchr(line, '"');
        if (!strncmp(line, prefix, sizeof prefix - 1) && end) {
            *end = '\0';
            (void)snprintf(ret_address, size, "%s", line + sizeof prefix - 1);
            found = true;
        }
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
    sigset_t set;
    int got = 0;
    if (!read_address(address, sizeof address) || !getenv("FILA_DATA_DIR")) {
        (void)fprintf(stderr, "no listen_addr in ./fila.toml, or no FILA_DATA_DIR\n");
        return 1;
    }
    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGTERM);
    (void)sigprocmask(SIG_BLOCK, &set, NULL);
    options.listen = address;
    if (fila_broker_open(&options, &broker, &error)) {
        (void)fprintf(stderr, "%s\n", error.text);
        return 1;
    }
    (void)sigwait(&set, &got);
    fila_broker_free(broker);
    return 0;
}

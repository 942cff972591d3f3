/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * The embedded broker, listening, for server.sh: as stub_server, it prints the port as its
 * first line and ends when its standard input does.
 *
 *   serve_broker ADDRESS
 */
#include <fila/broker.h>

#include <stdio.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    fila_broker_options options = FILA_BROKER_OPTIONS_INIT;
    fila_broker *broker;
    fila_error error;
    char byte;
    if (argc != 2) {
        (void)fprintf(stderr, "usage: serve_broker ADDRESS\n");
        return 64;
    }
    options.listen = argv[1];
    if (fila_broker_open(&options, &broker, &error)) {
        (void)fprintf(stderr, "serve_broker: %s\n", error.text);
        return 1;
    }
    (void)printf("%u\n", fila_broker_port(broker));
    (void)fflush(stdout);
    while (read(STDIN_FILENO, &byte, 1) > 0) {
    }
    fila_broker_free(broker);
    return 0;
}

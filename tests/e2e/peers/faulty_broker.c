/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * The embedded broker in a process of its own, with its faults scripted through standard input. For
 * end-to-end tests: `fila-worker broker` serves, this one misbehaves on demand.
 *
 *     error|lose|delay|hang|cut|freeze CALL [queue=Q] [nth=N] [count=N] [code=N] [delay=MS]
 *                                           [after=N]
 *     clear
 *     left
 *
 * nth and count are 1 unless given; count=0 is for ever. Each line is answered by "ok", by "left N"
 * (how many faults are not used up) or by "error: why". Ends at the end of its input.
 */
#include "fila/broker.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *name;
    fila_fault_kind kind;
} KINDS[] = {
    {"error", FILA_FAULT_ERROR}, {"lose", FILA_FAULT_LOSE_REPLY}, {"delay", FILA_FAULT_DELAY},
    {"hang", FILA_FAULT_HANG},   {"cut", FILA_FAULT_CUT},         {"freeze", FILA_FAULT_FREEZE},
};

static bool kind_of(const char *word, fila_fault *fault)
{
    for (size_t i = 0; i < sizeof KINDS / sizeof *KINDS; i++) {
        if (word && strcmp(word, KINDS[i].name) == 0) {
            fault->kind = KINDS[i].kind;
            return true;
        }
    }
    return false;
}

static bool call_of(const char *word, fila_fault *fault)
{
    for (int call = 0; call < FILA_CALL_COUNT; call++) {
        if (word && strcmp(word, fila_call_name((fila_call)call)) == 0) {
            fault->call = (fila_call)call;
            return true;
        }
    }
    return false;
}

static bool set(fila_fault *fault, const char *word)
{
    const char *equals = strchr(word, '=');

    const struct {
        const char *name;
        uint32_t *at;
    } numbers[] = {
        {"nth=", &fault->nth},
        {"count=", &fault->count},
        {"delay=", &fault->delay_ms},
        {"after=", &fault->after_messages},
    };

    if (!equals) {
        return false;
    }
    unsigned long value = strtoul(equals + 1, NULL, 10);
    if (strncmp(word, "queue=", 6) == 0) {
        fault->queue = equals + 1;
        return true;
    }
    if (strncmp(word, "code=", 5) == 0) {
        fault->wire_code = (int)value;
        return true;
    }
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        if (strncmp(word, numbers[i].name, strlen(numbers[i].name)) == 0) {
            *numbers[i].at = (uint32_t)value;
            return true;
        }
    }
    return false;
}

static void obey(fila_broker *broker, char *line)
{
    fila_fault fault = {.size = sizeof fault, .nth = 1, .count = 1};
    fila_error error = FILA_ERROR_INIT;
    char *rest = NULL;
    const char *word = strtok_r(line, " \n", &rest);
    if (word && strcmp(word, "clear") == 0) {
        fila_broker_clear_faults(broker);
        (void)puts("ok");
        return;
    }
    if (word && strcmp(word, "left") == 0) {
        (void)printf("left %zu\n", fila_broker_faults_left(broker));
        return;
    }
    bool good = kind_of(word, &fault) && call_of(strtok_r(NULL, " \n", &rest), &fault);
    while (good && (word = strtok_r(NULL, " \n", &rest))) {
        good = set(&fault, word);
    }
    if (!good) {
        (void)puts("error: no such fault");
    } else if (fila_broker_add_fault(broker, &fault, &error) != FILA_OK) {
        (void)printf("error: %s\n", error.text);
    } else {
        (void)puts("ok");
    }
}

int main(int argc, char **argv)
{
    fila_broker_options options = FILA_BROKER_OPTIONS_INIT;
    fila_broker *broker = NULL;
    fila_error error = FILA_ERROR_INIT;
    char line[512];
    options.listen = argc > 1 ? argv[1] : "127.0.0.1:0";
    (void)signal(SIGPIPE, SIG_IGN);
    if (fila_broker_open(&options, &broker, &error) != FILA_OK) {
        (void)fprintf(stderr, "%s\n", error.text);
        return 1;
    }
    (void)printf("listening on 127.0.0.1:%u\n", fila_broker_port(broker));
    (void)fflush(stdout);
    while (fgets(line, sizeof line, stdin)) {
        obey(broker, line);
        (void)fflush(stdout);
    }
    fila_broker_free(broker);
    return 0;
}

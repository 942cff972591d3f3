/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * fila-worker: picks the verb. Without one, `run`.
 */
#include "cli/cli.h"
#include "executor/process/handler.h"
#include "plugin/lastwords.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

struct verb {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *help;
};

static const struct verb VERBS[] = {
    {"run", fw_cli_run, "consume the queues of a config file (the default)"},
    {"check", fw_cli_check, "say what is wrong with a config file"},
    {"explain", fw_cli_explain, "print a config as understood, and where each value comes from"},
    {"broker", fw_cli_broker, "run the embedded broker alone"},
    {"enqueue", fw_cli_enqueue, "put messages into a queue"},
    {"queue", fw_cli_queue, "ls, create, delete, stats"},
    {"ctl", fw_cli_ctl,
     "orders to a running worker: status, pause, resume, set, reload, drain, tap"},
    {"dlq", fw_cli_dlq, "ls, show, redrive dead letters"},
    {"handlers", fw_cli_handlers, "what can handle messages, and with which options"},
    {"new", fw_cli_new, "make a plugin's folder, or a config, to begin with"},
    {"plugin", fw_cli_plugin, "info, verify: what a plugin is, and whether a worker would like it"},
    {"try", fw_cli_try, "one message through a handler, without a broker"},
    {"healthcheck", fw_cli_healthcheck, "ask a running worker whether it is ready"},
    {"version", fw_cli_version, "version and plugin ABI"},
};

enum {
    VERB_COUNT = sizeof VERBS / sizeof *VERBS
};

static int help(FILE *out)
{
    (void)fputs(
        "usage: fila-worker [VERB] [options]\n"
        "\n"
        "A worker host for Fila message queues: reads a config, consumes its queues, hands each message to a handler,\n"
        "and acks, retries or dead-letters it by what the handler says.\n"
        "\n",
        out);
    for (int i = 0; i < VERB_COUNT; i++) {
        (void)fprintf(out, "  %-11s %s\n", VERBS[i].name, VERBS[i].help);
    }
    (void)fputs("\nfila-worker VERB --help tells more.\n", out);
    return 0;
}

/* A closed standard descriptor would be given to a socket or a file of ours, and the log or a
 * handler's output would go there. */
static void open_standard(void)
{
    int fd = 0;
    do {
        fd = open("/dev/null", O_RDWR);
    } while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd >= 0) {
        (void)close(fd);
    }
}

int main(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "run";
    if (strcmp(name, "__handler") == 0) { /* a child of `run`: no verb for people */
        return fw_handler_main(argc - 1, argv + 1);
    }
    open_standard();
    fw_last_words_install();
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || strcmp(name, "help") == 0) {
        (void)help(stdout);
        return fw_cli_finish("help", FW_EXIT_OK);
    }
    if (strcmp(name, "--version") == 0) {
        name = "version";
    }
    for (int i = 0; i < VERB_COUNT; i++) {
        if (strcmp(name, VERBS[i].name) == 0) {
            return argc > 1 ? VERBS[i].run(argc - 1, argv + 1) : VERBS[i].run(argc, argv);
        }
    }
    if (name[0] == '-') { /* options without a verb are those of `run` */
        return fw_cli_run(argc, argv);
    }
    (void)fprintf(stderr, "fila-worker: unknown verb \"%s\"\n\n", name);
    (void)help(stderr);
    return FW_EXIT_USAGE;
}

/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "cli.h"
#include "host/host.h"
#include "host/init.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

static const char HELP[] =
    "usage: fila-worker run [--config FILE] [options]\n"
    "\n"
    "Consumes the queues of the config file until a signal ends it.\n"
    "\n"
    "  --config FILE      default: $FILA_WORKER_CONFIG, ./fila-worker.cfg, /etc/fila-worker/fila-worker.cfg\n"
    "  --broker URL       instead of the file's: grpc://HOST:PORT, grpc://unix:/path, embedded:\n"
    "  --set PATH=VALUE   instead of the file's, e.g. --set drain_timeout=10s; may be repeated\n"
    "  --log-level LEVEL  debug, info, warn, error\n"
    "  --log-format FORM  text, json, auto\n"
    "  --require-broker   exit 69 when no stream opens within 10 s\n"
    "\n"
    "Signals: TERM, INT drain (a second one: return everything and exit); HUP reload; TSTP, CONT pause, go on;\n"
    "USR1 everything held, and what each thread does and where, into the log (DUMP).\n"
    "Exit status: 0 drained clean; 64 usage; 66 handler missing or refused; 69 no broker (--require-broker);\n"
    "70 internal; 75 drain deadline passed, all returned; 76 passed, some could not be; 78 config invalid.\n";

enum {
    OPT_CONFIG = 1000,
    OPT_BROKER,
    OPT_SET,
    OPT_LEVEL,
    OPT_FORMAT,
    OPT_REQUIRE,
    OPT_HELP
};

static const struct option OPTIONS[] = {
    {"config", required_argument, NULL, OPT_CONFIG},
    {"broker", required_argument, NULL, OPT_BROKER},
    {"set", required_argument, NULL, OPT_SET},
    {"log-level", required_argument, NULL, OPT_LEVEL},
    {"log-format", required_argument, NULL, OPT_FORMAT},
    {"require-broker", no_argument, NULL, OPT_REQUIRE},
    {"help", no_argument, NULL, OPT_HELP},
    {NULL, 0, NULL, 0},
};

/* -1 = go on; else the exit status to end with. */
static int parse(int argc, char **argv, struct fw_host_options *options, const char **sets)
{
    int option = 0;
    opterr = 0;
    /* NOLINTNEXTLINE(concurrency-mt-unsafe): main thread */
    while ((option = getopt_long(argc, argv, ":", OPTIONS, NULL)) != -1) {
        switch (option) {
        case OPT_CONFIG:
            options->config_path = optarg;
            break;
        case OPT_BROKER:
            options->overrides.broker = optarg;
            break;
        case OPT_SET:
            sets[options->overrides.set_count++] = optarg;
            break;
        case OPT_LEVEL:
            options->overrides.log_level = optarg;
            break;
        case OPT_FORMAT:
            options->overrides.log_format = optarg;
            break;
        case OPT_REQUIRE:
            options->require_broker = true;
            break;
        case OPT_HELP:
            (void)fputs(HELP, stdout);
            return fw_cli_finish("run", FW_EXIT_OK);
        default:
            return fw_cli_bad_option("run", option, argv);
        }
    }
    if (optind < argc) {
        return fw_cli_usage(
            "run", "unexpected argument \"%s\" (a config file is given with --config)",
            argv[optind]);
    }
    return -1;
}

int fw_cli_run(int argc, char **argv)
{
    struct fw_host_options options = {0};
    const char **sets = calloc((size_t)argc + 1, sizeof *sets);
    if (!sets) {
        return fw_cli_fail("run", FW_EXIT_INTERNAL, "no memory");
    }
    options.overrides.sets = sets;
    int status = parse(argc, argv, &options, sets);
    if (status < 0 && !fw_init_stood_by(&status)) {
        status = fw_host_run(&options);
    }
    free(sets);
    return status;
}

/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "fila/broker.h"

#include "cli.h"

#include <getopt.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char HELP[] =
    "usage: fila-worker broker [--listen HOST:PORT] [--data FILE [--sync full|normal]]\n"
    "\n"
    "Runs the embedded broker alone until TERM or INT, in memory or with a file that keeps everything. It speaks the\n"
    "protocol of a Fila server (gRPC).\n"
    "Prints one line on standard output when it serves: \"listening on HOST:PORT\".\n"
    "\n"
    "  --listen HOST:PORT  default 127.0.0.1:5555; port 0 takes a free one; unix:/path is a socket\n"
    "  --data FILE         keeps queues, messages and leases in FILE (SQLite); what was answered outlives a crash\n"
    "  --sync full|normal  full (the default): also a loss of power; normal: faster, a killed process only\n"
    "  --idle-timeout MS   idle time after which expired leases are taken back (100)\n"
    "  --quantum N         of the deficit round robin over fairness keys (1000)\n";

enum {
    OPT_LISTEN = 1000,
    OPT_DATA,
    OPT_SYNC,
    OPT_IDLE,
    OPT_QUANTUM,
    OPT_HELP
};

static const struct option OPTIONS[] = {
    {"listen", required_argument, NULL, OPT_LISTEN},
    {"data", required_argument, NULL, OPT_DATA},
    {"sync", required_argument, NULL, OPT_SYNC},
    {"idle-timeout", required_argument, NULL, OPT_IDLE},
    {"quantum", required_argument, NULL, OPT_QUANTUM},
    {"help", no_argument, NULL, OPT_HELP},
    {NULL, 0, NULL, 0},
};

static bool number(const char *text, uint32_t max, uint32_t *ret)
{
    char *end = NULL;
    unsigned long n = strtoul(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end || n == 0 || n > max) {
        return false;
    }
    *ret = (uint32_t)n;
    return true;
}

static int parse(int argc, char **argv, fila_broker_options *options)
{
    int option = 0;
    opterr = 0;
    /* NOLINTNEXTLINE(concurrency-mt-unsafe): main thread */
    while ((option = getopt_long(argc, argv, ":", OPTIONS, NULL)) != -1) {
        switch (option) {
        case OPT_LISTEN:
            options->listen = optarg;
            break;
        case OPT_DATA:
            options->path = optarg;
            break;
        case OPT_SYNC:
            if (strcmp(optarg, "full") != 0 && strcmp(optarg, "normal") != 0) {
                return fw_cli_usage("broker", "--sync \"%s\" is neither full nor normal", optarg);
            }
            options->sync = optarg[0] == 'n' ? FILA_SYNC_NORMAL : FILA_SYNC_FULL;
            break;
        case OPT_IDLE:
            if (!number(optarg, 3600000, &options->idle_timeout_ms)) {
                return fw_cli_usage(
                    "broker",
                    "--idle-timeout \"%s\" is no number of milliseconds from 1 to 3600000", optarg);
            }
            break;
        case OPT_QUANTUM:
            if (!number(optarg, 1000000000, &options->quantum)) {
                return fw_cli_usage(
                    "broker", "--quantum \"%s\" is no number from 1 to 1000000000", optarg);
            }
            break;
        case OPT_HELP:
            (void)fputs(HELP, stdout);
            return fw_cli_finish("broker", FW_EXIT_OK);
        default:
            return fw_cli_bad_option("broker", option, argv);
        }
    }
    if (optind < argc) {
        return fw_cli_usage("broker", "unexpected argument \"%s\"", argv[optind]);
    }
    return -1;
}

static void say_ready(const fila_broker_options *options, const fila_broker *broker)
{
    const char *colon = strrchr(options->listen, ':');
    uint16_t port = fila_broker_port(broker);
    if (port) {
        (void)printf(
            "listening on %.*s:%u\n", (int)(colon - options->listen), options->listen, port);
    } else {
        (void)printf("listening on %s\n", options->listen);
    }
    (void)fflush(stdout);
}

/* As a Fila server: until the last client has gone. A second signal ends it at once. */
static void drain(fila_broker *broker, const sigset_t *set)
{
    const struct timespec now = {0, 0};
    for (int waits = 0; !fila_broker_drain(broker, 100); waits++) {
        if (sigtimedwait(set, NULL, &now) > 0) {
            return;
        }
        if (waits == 10) {
            (void)fputs(
                "fila-worker broker: clients are connected still; a second signal ends it at once\n",
                stderr);
        }
    }
}

int fw_cli_broker(int argc, char **argv)
{
    fila_broker_options options = FILA_BROKER_OPTIONS_INIT;
    fila_broker *broker = NULL;
    fila_error error = FILA_ERROR_INIT;
    sigset_t set;
    int number_of_signal = 0;
    options.listen = "127.0.0.1:5555";
    int status = parse(argc, argv, &options);
    if (status >= 0) {
        return status;
    }
    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGTERM);
    (void)sigaddset(&set, SIGINT);
    (void)pthread_sigmask(SIG_BLOCK, &set, NULL);
    (void)signal(SIGPIPE, SIG_IGN);
    (void)signal(SIGXFSZ, SIG_IGN); /* a file at its limit is a full disk */
    if (fila_broker_open(&options, &broker, &error) != FILA_OK) {
        return fw_cli_fail("broker", FW_EXIT_UNREACHABLE, "%s", error.text);
    }
    say_ready(&options, broker);
    (void)sigwait(&set, &number_of_signal);
    drain(broker, &set);
    fila_broker_free(broker);
    return FW_EXIT_OK;
}

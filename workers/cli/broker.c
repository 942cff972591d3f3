/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "fila/broker.h"

#include "cli.h"
#include "config/broker_config.h"
#include "host/embedded.h"
#include "log/log.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static const char HELP[] =
    "usage: fila-worker broker [--listen HOST:PORT] [--data FILE [--sync full|normal]] [--config FILE] ...\n"
    "\n"
    "Runs the embedded broker alone until TERM or INT, in memory or with a file that keeps everything. It speaks the\n"
    "protocol of a Fila server (gRPC).\n"
    "Prints one line on standard output when it serves: \"listening on HOST:PORT\".\n"
    "\n"
    "  --listen HOST:PORT  default 127.0.0.1:5555; port 0 takes a free one; unix:/path is a socket\n"
    "  --data FILE         keeps queues, messages and leases in FILE (SQLite); what was answered outlives a crash\n"
    "                      (also: $FILA_DATA_DIR/broker.db, where that is set)\n"
    "  --sync full|normal  full (the default): also a loss of power; normal: faster, a killed process only\n"
    "  --idle-timeout T    idle time after which expired leases are taken back (100ms)\n"
    "  --quantum N         of the deficit round robin over fairness keys (1000)\n"
    "  --chaos SPEC        faults on purpose, for tests: see below\n"
    "  --log-level LEVEL   debug, info, warn, error, off; on standard error. --log-format auto|text|json\n"
    "  --config FILE       a file with these as keys, and a few more: config/REFERENCE.md\n"
    "\n"
    "SPEC is RULE;RULE;... with a rule for each fault:\n"
    "\n"
    "  CALL[/QUEUE]:FAULT[@WHEN]...\n"
    "\n"
    "  CALL   enqueue consume ack nack create-queue delete-queue set-config get-config list-config stats redrive\n"
    "         list-queues, or any. /QUEUE: only where the call names that queue\n"
    "  FAULT  error=CODE        refuse it with that gRPC code, by number or name (unavailable)\n"
    "         lose[=CODE]       do it, and answer as if it had failed (unavailable)\n"
    "         delay=TIME        do it, answer later. TIME: 200ms, 5s, 1min\n"
    "         hang              never answer\n"
    "         half-open[=TIME]  do it; then its connection is dead for TIME, or for good, but not closed: no call and\n"
    "                           no keepalive ping is answered\n"
    "         stall=TIME        the whole broker stands still before it, on every connection\n"
    "         crash             it is killed (SIGKILL) before it is done; crash-after: when it is done, before the answer\n"
    "     and of consume alone:\n"
    "         cut[=CODE]        the stream ends (unavailable; 0 = in good order); cut,after=N: after N messages\n"
    "         freeze            the stream stays open and silent; freeze,after=N and half-open,after=N: after N messages\n"
    "         late=TIME         each message comes so much later; late=0s..2s: a random time, so they overtake each other\n"
    "  WHEN   N, N-M, N-: the Nth use, or a range of them. P%: a share of them, at random\n"
    "  seed=N as a rule of its own: the same seed and the same calls meet the same faults. Without one a random seed is\n"
    "         taken, and logged.\n"
    "\n"
    "  --chaos \"ack:lose@10%; enqueue/orders:error=resource-exhausted@100-200; seed=7\"\n"
    "  --chaos \"consume:cut=0,after=500@2-; any:stall=10s@1000; consume:late=0s..3s@20%\"\n"
    "  --chaos \"enqueue:crash-after@5000\"\n"
    "\n"
    "Exit status: 0 after TERM or INT; 64 usage; 69 cannot listen, or cannot use the file; 78 the config file is wrong.\n";

enum {
    OPT_CONFIG = 1000,
    OPT_HELP,
    OPT_KEY /* and those behind it: the nth of KEYS */
};

/* The options that are keys of the config. */
static const char *const KEYS[][2] = {
    {"--listen", "listen"},       {"--data", "data"},
    {"--sync", "sync"},           {"--idle-timeout", "idle_timeout"},
    {"--quantum", "quantum"},     {"--chaos", "chaos"},
    {"--log-level", "log.level"}, {"--log-format", "log.format"},
};

#define KEY_COUNT (sizeof KEYS / sizeof *KEYS)

static const struct option OPTIONS[] = {
    {"listen", required_argument, NULL, OPT_KEY},
    {"data", required_argument, NULL, OPT_KEY + 1},
    {"sync", required_argument, NULL, OPT_KEY + 2},
    {"idle-timeout", required_argument, NULL, OPT_KEY + 3},
    {"quantum", required_argument, NULL, OPT_KEY + 4},
    {"chaos", required_argument, NULL, OPT_KEY + 5},
    {"log-level", required_argument, NULL, OPT_KEY + 6},
    {"log-format", required_argument, NULL, OPT_KEY + 7},
    {"config", required_argument, NULL, OPT_CONFIG},
    {"help", no_argument, NULL, OPT_HELP},
    {NULL, 0, NULL, 0},
};

/* What the command line says. */
struct given {
    const char *file;
    struct fw_broker_override overrides[KEY_COUNT];
    size_t count;
    bool has_data;
    char idle[32]; /* --idle-timeout 100, as it was written before it had units */
};

static void take_key(struct given *given, size_t key, const char *value)
{
    size_t at = 0;
    while (at < given->count && given->overrides[at].option != KEYS[key][0]) {
        at++; /* given again: the last counts */
    }
    given->count += at == given->count;
    if (strcmp(KEYS[key][1], "idle_timeout") == 0 && *value &&
        value[strspn(value, "0123456789")] == '\0') {
        (void)snprintf(given->idle, sizeof given->idle, "%.20sms", value);
        value = given->idle;
    }
    given->has_data = given->has_data || strcmp(KEYS[key][1], "data") == 0;
    given->overrides[at] = (struct fw_broker_override){KEYS[key][1], KEYS[key][0], value};
}

static int parse(int argc, char **argv, struct given *given)
{
    int option = 0;
    opterr = 0;
    /* NOLINTNEXTLINE(concurrency-mt-unsafe): main thread */
    while ((option = getopt_long(argc, argv, ":", OPTIONS, NULL)) != -1) {
        if (option >= OPT_KEY && option < OPT_KEY + (int)KEY_COUNT) {
            take_key(given, (size_t)(option - OPT_KEY), optarg);
        } else if (option == OPT_CONFIG) {
            given->file = optarg;
        } else if (option == OPT_HELP) {
            (void)fputs(HELP, stdout);
            return fw_cli_finish("broker", FW_EXIT_OK);
        } else {
            return fw_cli_bad_option("broker", option, argv);
        }
    }
    if (optind < argc) {
        return fw_cli_usage("broker", "unexpected argument \"%s\"", argv[optind]);
    }
    return -1;
}

/* The text of --chaos with a mark under what is wrong with it. */
static void point_at_chaos(const struct given *given)
{
    for (size_t i = 0; i < given->count; i++) {
        size_t at = 0;
        if (strcmp(given->overrides[i].path, "chaos") == 0 &&
            fila_chaos_check(given->overrides[i].value, &at, NULL) != FILA_OK &&
            !strpbrk(given->overrides[i].value, "\t\r\n")) {
            (void)fprintf(stderr, "    %s\n    %*s^\n", given->overrides[i].value, (int)at, "");
        }
    }
}

/* 64 when only the command line is to blame. */
static int report(const struct given *given, const struct fw_diagnostics *diagnostics)
{
    int status = FW_EXIT_USAGE;
    for (size_t i = 0; i < diagnostics->count; i++) {
        const struct fw_diagnostic *d = &diagnostics->items[i];
        fw_diagnostic_print(stderr, d);
        if (d->is_error && strcmp(d->file, "command line") != 0) {
            status = FW_EXIT_CONFIG;
        }
    }
    point_at_chaos(given);
    return status;
}

static void make_options(const struct fw_broker_config *config, fila_broker_options *options)
{
    options->listen = config->listen;
    options->path = *config->data ? config->data : NULL;
    options->sync = (fila_sync)config->sync;
    options->quantum = config->quantum;
    options->idle_timeout_ms = (uint32_t)(config->idle_timeout / 1000000);
    options->command_capacity = config->command_capacity;
    options->script_timeout_ms = (uint32_t)(config->script_timeout / 1000000);
    options->script_memory = (uint32_t)config->script_memory;
    options->script_failures = config->script_failures;
    options->script_cooldown_ms = (uint32_t)(config->script_cooldown / 1000000);
    options->on_script_failure = fw_embedded_script_failed;
    options->chaos = *config->chaos ? config->chaos : NULL;
}

static void say_ready(const fila_broker_options *options, const fila_broker *broker)
{
    char address[300];
    const char *colon = strrchr(options->listen, ':');
    uint16_t port = fila_broker_port(broker);
    if (port) {
        (void)snprintf(
            address, sizeof address, "%.*s:%u", (int)(colon - options->listen), options->listen,
            port);
    } else {
        (void)snprintf(address, sizeof address, "%s", options->listen);
    }
    FW_LOG(
        FW_EVENT_BROKER_READY, "the broker serves", fw_str("address", address),
        fw_str("data", options->path ? options->path : "in memory"));
    if (options->chaos) {
        char seed[24];
        (void)snprintf(seed, sizeof seed, "%" PRIu64, fila_broker_chaos_seed(broker));
        FW_LOG(
            FW_EVENT_BROKER_CHAOS, "the broker makes faults on purpose",
            fw_str("chaos", options->chaos), fw_str("seed", seed));
    }
    (void)printf("listening on %s\n", address);
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

/* Until one of `stop`, which are blocked. */
static int serve(const fila_broker_options *options, const sigset_t *stop)
{
    fila_broker *broker = NULL;
    fila_error error = FILA_ERROR_INIT;
    int number_of_signal = 0;
    if (fila_broker_open(options, &broker, &error) != FILA_OK) {
        return fw_cli_fail("broker", FW_EXIT_UNREACHABLE, "%s", error.text);
    }
    say_ready(options, broker);
    (void)sigwait(stop, &number_of_signal);
    drain(broker, stop);
    fila_broker_free(broker);
    return FW_EXIT_OK;
}

/* Before there are threads. */
static void block_signals(sigset_t *ret_stop)
{
    (void)sigemptyset(ret_stop);
    (void)sigaddset(ret_stop, SIGTERM);
    (void)sigaddset(ret_stop, SIGINT);
    (void)pthread_sigmask(SIG_BLOCK, ret_stop, NULL);
    (void)signal(SIGPIPE, SIG_IGN);
    (void)signal(SIGXFSZ, SIG_IGN); /* a file at its limit is a full disk */
}

/* As a Fila server, which makes its folder. An error shows when the file is opened. */
static void make_data_folder(const struct given *given)
{
    const char *folder = getenv("FILA_DATA_DIR"); /* NOLINT(concurrency-mt-unsafe): at start */
    if (folder && *folder && !given->has_data) {
        (void)mkdir(folder, 0700);
    }
}

int fw_cli_broker(int argc, char **argv)
{
    struct given given = {0};
    struct fw_broker_source source = {.check_chaos = fila_chaos_check};
    struct fw_broker_config *config = NULL;
    struct fw_diagnostics diagnostics = {0};
    fila_broker_options options = FILA_BROKER_OPTIONS_INIT;
    sigset_t stop;
    int status = parse(argc, argv, &given);
    if (status >= 0) {
        return status;
    }
    block_signals(&stop);
    source.path = given.file;
    source.overrides = given.overrides;
    source.override_count = given.count;
    if (fw_broker_config_load(&source, &config, &diagnostics)) {
        (void)report(&given, &diagnostics); /* warnings */
        fw_log_init((enum fw_log_level)config->log_level, (enum fw_log_format)config->log_format);
        make_options(config, &options);
        make_data_folder(&given);
        status = serve(&options, &stop);
    } else {
        status = report(&given, &diagnostics);
    }
    fw_diagnostics_free(&diagnostics);
    fw_broker_config_free(config);
    return status;
}

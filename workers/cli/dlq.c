/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "dlq.h"

#include "cli.h"
#include "connect.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

static const char HELP[] =
    "usage: fila-worker dlq ls | show QUEUE | redrive QUEUE | export QUEUE | import QUEUE [FILE]   [options]\n"
    "\n"
    "QUEUE is the queue whose dead letters are meant, or the dead-letter queue itself (QUEUE.dlq).\n"
    "\n"
    "  ls              dead-letter queues and how many messages are in each\n"
    "  show QUEUE      the messages: why they died, headers, payload\n"
    "    --payload N   at most so many bytes of each payload (1024)\n"
    "    --hex         payloads in hexadecimal, texts too\n"
    "  redrive QUEUE   put them back into their queue. Stopped with Ctrl-C it ends between two messages; killed, the\n"
    "                  message at hand may be in both queues, and no other\n"
    "    --dry-run     only say how many\n"
    "  export QUEUE    whole messages as lines of JSON (a payload that is no text in hexadecimal)\n"
    "    --out FILE    into a new file (standard output)\n"
    "    --take        and out of the dead-letter queue, once they are on disk\n"
    "  import QUEUE [FILE]  lines of an export into QUEUE's dead-letter queue, under new ids\n"
    "    --from-line N go on where an import ended (1)\n"
    "\n"
    "Of show, redrive and export:\n"
    "  --limit N       at most so many (show: 10; else all)\n"
    "  --cause CAUSE   only those that died of it: retry, reject, timeout, crash, ...; \"broker\" = moved by the broker\n"
    "  --header NAME=VALUE  only those that have this header\n"
    "  --json          for programs: show prints one object a line\n" FW_CLI_TARGET_HELP "\n"
    "Reading leases messages: what is not taken is put back at the end, with an attempt more; what the broker had buffered\n"
    "for us beyond that (up to some 200) shows up again after the dead-letter queue's visibility timeout (30s).\n";

enum {
    OPT_LIMIT = FW_OPT_FIRST_OWN,
    OPT_PAYLOAD,
    OPT_HEX,
    OPT_DRY_RUN,
    OPT_OUT,
    OPT_TAKE,
    OPT_FROM_LINE,
    OPT_CAUSE,
    OPT_HEADER
};

static const struct option OPTIONS[] = {
    {"limit", required_argument, NULL, OPT_LIMIT},
    {"payload", required_argument, NULL, OPT_PAYLOAD},
    {"hex", no_argument, NULL, OPT_HEX},
    {"dry-run", no_argument, NULL, OPT_DRY_RUN},
    {"out", required_argument, NULL, OPT_OUT},
    {"take", no_argument, NULL, OPT_TAKE},
    {"from-line", required_argument, NULL, OPT_FROM_LINE},
    {"cause", required_argument, NULL, OPT_CAUSE},
    {"header", required_argument, NULL, OPT_HEADER},
    {"json", no_argument, NULL, FW_OPT_JSON},
    {"help", no_argument, NULL, FW_OPT_HELP},
    FW_CLI_TARGET_OPTIONS,
    {NULL, 0, NULL, 0},
};

struct sub_verb {
    const char *name;
    int (*run)(struct fw_dlq *dlq);
    int arguments;    /* after the verb: at least the queue's name, if any */
    unsigned options; /* those of its own: bits by number, from OPT_LIMIT */
};

#define BIT(option) (1u << (unsigned)((option)-OPT_LIMIT))
#define CHOICE      (BIT(OPT_LIMIT) | BIT(OPT_CAUSE) | BIT(OPT_HEADER))

static const struct sub_verb VERBS[] = {
    {"ls", fw_dlq_ls, 0, 0},
    {"show", fw_dlq_show, 1, CHOICE | BIT(OPT_PAYLOAD) | BIT(OPT_HEX)},
    {"redrive", fw_dlq_redrive, 1, CHOICE | BIT(OPT_DRY_RUN)},
    {"export", fw_dlq_export, 1, CHOICE | BIT(OPT_OUT) | BIT(OPT_TAKE)},
    {"import", fw_dlq_import, 2, BIT(OPT_FROM_LINE)},
};

static volatile sig_atomic_t interrupted;

static void interrupt(int number)
{
    (void)number;
    interrupted = 1;
}

bool fw_dlq_interrupted(void)
{
    return interrupted != 0;
}

static int take_number(const char *option, const char *text, uint64_t *ret)
{
    char *end = NULL;
    unsigned long long n = strtoull(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end) {
        return fw_cli_usage("dlq", "%s \"%s\" is no number", option, text);
    }
    *ret = n;
    return -1;
}

/* -1 = taken. */
static int take_option(struct fw_dlq *dlq, int option)
{
    int status = -1;
    switch (option) {
    case OPT_LIMIT:
        status = take_number("--limit", optarg, &dlq->limit);
        if (status < 0 && dlq->limit == 0) {
            status = fw_cli_usage("dlq", "--limit must be at least 1");
        }
        break;
    case OPT_PAYLOAD:
        status = take_number("--payload", optarg, &dlq->payload);
        break;
    case OPT_FROM_LINE:
        status = take_number("--from-line", optarg, &dlq->from_line);
        break;
    case OPT_HEX:
        dlq->hex = true;
        break;
    case OPT_DRY_RUN:
        dlq->dry_run = true;
        break;
    case OPT_OUT:
        dlq->file = optarg;
        break;
    case OPT_TAKE:
        dlq->take = true;
        break;
    case OPT_CAUSE:
        dlq->cause = optarg;
        break;
    default:
        dlq->header = optarg;
        if (strchr(optarg, '=') == NULL) {
            status = fw_cli_usage("dlq", "--header \"%s\" is not NAME=VALUE", optarg);
        }
        break;
    }
    return status;
}

static int parse(
    int argc,
    char **argv,
    struct fw_dlq *dlq,
    struct fw_cli_target *target,
    unsigned *ret_options)
{
    int option = 0;
    int status = -1;
    opterr = 0;
    /* NOLINTNEXTLINE(concurrency-mt-unsafe): main thread */
    while (status < 0 && (option = getopt_long(argc, argv, ":", OPTIONS, NULL)) != -1) {
        if (fw_cli_target_option(target, option)) {
            continue;
        }
        if (option >= OPT_LIMIT) {
            *ret_options |= BIT(option);
            status = take_option(dlq, option);
            continue;
        }
        switch (option) {
        case FW_OPT_JSON:
            dlq->json = true;
            break;
        case FW_OPT_HELP:
            (void)fputs(HELP, stdout);
            return fw_cli_finish("dlq", FW_EXIT_OK);
        default:
            return fw_cli_bad_option("dlq", option, argv);
        }
    }
    return status;
}

static const struct sub_verb *find(const char *name)
{
    for (size_t i = 0; i < sizeof VERBS / sizeof *VERBS; i++) {
        if (strcmp(VERBS[i].name, name) == 0) {
            return &VERBS[i];
        }
    }
    return NULL;
}

static bool name_queues(struct fw_dlq *dlq, const char *name)
{
    static const char SUFFIX[] = ".dlq";
    const size_t suffix = sizeof SUFFIX - 1;
    size_t len = strlen(name);
    bool is_dlq = len > suffix && strcmp(name + len - suffix, SUFFIX) == 0;
    size_t parent = is_dlq ? len - suffix : len;
    if (parent + suffix >= sizeof dlq->name) {
        return false;
    }
    memcpy(dlq->parent, name, parent);
    dlq->parent[parent] = '\0';
    memcpy(dlq->name, name, parent);
    memcpy(dlq->name + parent, SUFFIX, sizeof SUFFIX);
    return true;
}

/* Whether the words fit the verb; -1 = they do. */
static int check_words(
    int argc,
    char **argv,
    struct fw_dlq *dlq,
    const struct sub_verb *verb,
    unsigned options)
{
    int given = argc - optind - 1;
    if (given > verb->arguments || given < (verb->arguments > 0)) {
        return fw_cli_usage(
            "dlq", "%s takes %s", verb->name,
            verb->arguments == 0   ? "no arguments"
            : verb->arguments == 1 ? "the name of one queue"
                                   : "the name of one queue, and a file");
    }
    if (given > 0 && !name_queues(dlq, argv[optind + 1])) {
        return fw_cli_usage("dlq", "the queue's name is longer than this verb can handle");
    }
    if (given > 1 && strcmp(argv[optind + 2], "-") != 0) {
        dlq->file = argv[optind + 2];
    }
    for (size_t i = 0; i < sizeof OPTIONS / sizeof *OPTIONS && OPTIONS[i].name != NULL; i++) {
        if (OPTIONS[i].val >= OPT_LIMIT && (options & ~verb->options & BIT(OPTIONS[i].val)) != 0) {
            return fw_cli_usage("dlq", "%s takes no --%s", verb->name, OPTIONS[i].name);
        }
    }
    return -1;
}

static void catch_signals(void)
{
    struct sigaction action = {.sa_handler = interrupt, .sa_flags = (int)SA_RESETHAND};
    (void)sigemptyset(&action.sa_mask);
    (void)sigaction(SIGINT, &action, NULL);
    (void)sigaction(SIGTERM, &action, NULL);
    (void)signal(SIGPIPE, SIG_IGN); /* what is read is put back */
}

static int run(struct fw_dlq *dlq, const struct fw_cli_target *target, const struct sub_verb *verb)
{
    int status = fw_cli_connect("dlq", target, &dlq->client);
    if (status == 0) {
        catch_signals();
        status = verb->run(dlq);
        fila_client_free(dlq->client);
        if (status == 0 && interrupted) {
            status = fw_cli_fail("dlq", FW_EXIT_FAILED, "interrupted");
        }
    }
    return fw_cli_finish("dlq", status);
}

int fw_cli_dlq(int argc, char **argv)
{
    struct fw_cli_target target = {0};
    struct fw_dlq *dlq = calloc(1, sizeof *dlq);
    unsigned options = 0;
    if (!dlq) {
        return fw_cli_fail("dlq", FW_EXIT_INTERNAL, "no memory");
    }
    dlq->payload = 1024;
    int status = parse(argc, argv, dlq, &target, &options);
    const char *name = status < 0 && optind < argc ? argv[optind] : "";
    const struct sub_verb *verb = find(name);
    if (status < 0 && !verb) {
        status = fw_cli_usage("dlq", "\"%s\" is none of: ls, show, redrive, export, import", name);
    } else if (status < 0) {
        status = check_words(argc, argv, dlq, verb, options);
        status = status < 0 ? run(dlq, &target, verb) : status;
    }
    free(dlq);
    return status;
}

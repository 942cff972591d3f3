/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "dlq.h"

#include "cli.h"
#include "connect.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

static const char HELP[] =
    "usage: fila-worker dlq ls | show QUEUE | redrive QUEUE   [options]\n"
    "\n"
    "QUEUE is the queue whose dead letters are meant, or the dead-letter queue itself (QUEUE.dlq).\n"
    "\n"
    "  ls              dead-letter queues and how many messages are in each\n"
    "  show QUEUE      the messages: why they died, headers, payload. Looking leases them: they are put back at once,\n"
    "                  with an attempt more, and what the broker had buffered for us (up to some 200) shows up again\n"
    "                  after the dead-letter queue's visibility timeout (30s)\n"
    "    --limit N     at most so many (10)\n"
    "    --payload N   at most so many bytes of each payload (1024)\n"
    "  redrive QUEUE   put them back into their queue\n"
    "    --limit N     at most so many (all)\n"
    "  --json          for programs: show prints one object a line\n" FW_CLI_TARGET_HELP;

enum {
    OPT_LIMIT = FW_OPT_FIRST_OWN,
    OPT_PAYLOAD
};

static const struct option OPTIONS[] = {
    {"limit", required_argument, NULL, OPT_LIMIT},
    {"payload", required_argument, NULL, OPT_PAYLOAD},
    {"json", no_argument, NULL, FW_OPT_JSON},
    {"help", no_argument, NULL, FW_OPT_HELP},
    FW_CLI_TARGET_OPTIONS,
    {NULL, 0, NULL, 0},
};

struct sub_verb {
    const char *name;
    int (*run)(struct fw_dlq *dlq);
    bool wants_name;
};

static const struct sub_verb VERBS[] = {
    {"ls", fw_dlq_ls, false},
    {"show", fw_dlq_show, true},
    {"redrive", fw_dlq_redrive, true},
};

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

static int parse(int argc, char **argv, struct fw_dlq *dlq, struct fw_cli_target *target)
{
    int option = 0;
    int status = -1;
    opterr = 0;
    /* NOLINTNEXTLINE(concurrency-mt-unsafe): main thread */
    while (status < 0 && (option = getopt_long(argc, argv, ":", OPTIONS, NULL)) != -1) {
        if (fw_cli_target_option(target, option)) {
            continue;
        }
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

int fw_cli_dlq(int argc, char **argv)
{
    struct fw_cli_target target = {0};
    struct fw_dlq *dlq = calloc(1, sizeof *dlq);
    if (!dlq) {
        return fw_cli_fail("dlq", FW_EXIT_INTERNAL, "no memory");
    }
    dlq->payload = 1024;
    int status = parse(argc, argv, dlq, &target);
    const char *name = status < 0 && optind < argc ? argv[optind] : "";
    const struct sub_verb *verb = find(name);
    if (status < 0 && !verb) {
        status = fw_cli_usage("dlq", "\"%s\" is none of: ls, show, redrive", name);
    } else if (status < 0 && argc - optind != (verb->wants_name ? 2 : 1)) {
        status = fw_cli_usage(
            "dlq", "%s takes %s", name,
            verb->wants_name ? "the name of one queue" : "no arguments");
    } else if (status < 0 && verb->wants_name && !name_queues(dlq, argv[optind + 1])) {
        status = fw_cli_usage("dlq", "the queue's name is longer than this verb can handle");
    }
    if (status < 0) {
        status = fw_cli_connect("dlq", &target, &dlq->client);
        if (status == 0) {
            status = verb->run(dlq);
            fila_client_free(dlq->client);
        }
        status = fw_cli_finish("dlq", status);
    }
    free(dlq);
    return status;
}

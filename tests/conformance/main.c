/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "conformance/conformance.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

static const char HELP[] =
    "usage: conformance [--target embedded|grpc|server]... [--only ROW]... [--jobs N] [--list] [--facts] [--quiet]\n"
    "\n"
    "Runs a row for each fact of the contract against the embedded broker in process, over gRPC, and the\n"
    "Fila server that FILA_SERVER_BIN names (all that there are, unless told). Prints each row that differs\n"
    "with what was expected and what was seen. ROW may end with an asterisk. --list and --facts run nothing:\n"
    "they print the rows, and what each fact of the contract says with the rows that show it. Rows that signal or restart\n"
    "the broker's process run `fila-worker broker` from FILA_WORKER. With FILA_STAND_IN set the server is a\n"
    "stand-in with the embedded broker inside, and deviates as that does.\n"
    "Exit status: 0 no row differs, 1 some do, 77 the target cannot be had.\n";

static const struct rows *const TABLES[] = {
    &ROWS_CODES, &ROWS_WIRE, &ROWS_PIPE, &ROWS_LIFE, &ROWS_QUEUES, &ROWS_SCRIPTS, &ROWS_HINTS,
};

static const char *const TARGETS[] = {"embedded", "grpc", "server"};
static const char *const TITLES[] = {
    "the embedded broker, in process", "the embedded broker over gRPC", "the Fila server"};

struct suite {
    const struct row **rows;
    bool *chosen;
    size_t count;
    int jobs;
    bool quiet;
};

/* ---- The rows ---- */

static void gather(struct suite *suite)
{
    for (size_t i = 0; i < sizeof TABLES / sizeof TABLES[0]; i++) {
        suite->count += TABLES[i]->count;
    }
    suite->rows = calloc(suite->count + 1, sizeof(const struct row *));
    suite->chosen = calloc(suite->count + 1, sizeof *suite->chosen);
    if (!suite->rows || !suite->chosen) {
        abort();
    }
    size_t at = 0;
    for (size_t i = 0; i < sizeof TABLES / sizeof TABLES[0]; i++) {
        for (size_t j = 0; j < TABLES[i]->count; j++) {
            suite->rows[at++] = &TABLES[i]->rows[j];
        }
    }
}

static const struct row *find(const struct suite *suite, const char *id, size_t *ret_at)
{
    for (size_t i = 0; i < suite->count; i++) {
        if (strcmp(suite->rows[i]->id, id) == 0) {
            *ret_at = i;
            return suite->rows[i];
        }
    }
    return NULL;
}

/* Whether `id` belongs to the fact: the same, or continued behind a point. */
static bool belongs(const char *id, const char *fact)
{
    size_t len = strlen(fact);
    return strncmp(id, fact, len) == 0 && (id[len] == '\0' || id[len] == '.');
}

/* The next of a claim's rows, from `*at` on; false when there is none. */
static bool next_id(const char **at, char ret_id[80])
{
    size_t len;
    *at += strspn(*at, " ");
    len = strcspn(*at, " ");
    (void)snprintf(ret_id, 80, "%.*s", (int)len, *at);
    *at += len;
    return len > 0;
}

/* Claims whose rows are not there: how many. */
static unsigned check_claims(const struct suite *suite)
{
    unsigned wrong = 0;
    for (const struct claim *claim = CONTRACT; claim->fact; claim++) {
        const char *rows = claim->rows;
        char id[80];
        size_t at;
        unsigned named = 0;
        for (; next_id(&rows, id); named++) {
            if (!find(suite, id, &at)) {
                (void)printf(
                    "  MISSING   %s: %s: there is no row %s\n", claim->fact, claim->says, id);
                wrong++;
            }
        }
        if (named == 0) {
            (void)printf("  MISSING   %s: %s: no row\n", claim->fact, claim->says);
            wrong++;
        }
    }
    return wrong;
}

/* Whether the row belongs to a fact of the contract, and a claim names it. */
static bool is_claimed(const char *id)
{
    bool known = false;
    bool named = false;
    for (const struct claim *claim = CONTRACT; claim->fact; claim++) {
        const char *rows = claim->rows;
        char named_id[80];
        known |= belongs(id, claim->fact);
        while (next_id(&rows, named_id)) {
            named |= strcmp(named_id, id) == 0;
        }
    }
    return known && named;
}

/* Facts without a row, rows of no fact, names twice, references to nowhere: how many. */
static unsigned check_coverage(const struct suite *suite)
{
    unsigned wrong = check_claims(suite);
    size_t at;
    for (size_t i = 0; i < suite->count; i++) {
        const struct row *row = suite->rows[i];
        bool one = !!row->run + !!row->unseen + !!row->see == 1;
        if (!is_claimed(row->id) || !one || find(suite, row->id, &at) != row ||
            (row->see && !find(suite, row->see, &at))) {
            (void)printf(
                "  WRONG     %s: a row of no fact, twice, or that refers to no row\n", row->id);
            wrong++;
        }
    }
    return wrong;
}

static void print_facts(const struct suite *suite)
{
    for (const struct claim *claim = CONTRACT; claim->fact; claim++) {
        const char *rows = claim->rows;
        char id[80];
        size_t at;
        (void)printf("%-16s %s\n", claim->fact, claim->says);
        while (next_id(&rows, id)) {
            const struct row *row = find(suite, id, &at);
            if (row && row->unseen) {
                (void)printf("%-16s   not shown: %s\n", "", row->unseen);
            } else if (row) {
                (void)printf(
                    "%-16s   %s%s%s\n", "", id, row->deviates ? ": not so, " : "",
                    row->deviates ? row->deviates : "");
            }
        }
    }
}

static bool matches(const char *id, const char *pattern)
{
    size_t len = strlen(pattern);
    return len && pattern[len - 1] == '*' ? strncmp(id, pattern, len - 1) == 0
                                          : strcmp(id, pattern) == 0;
}

static bool choose(struct suite *suite, const char *pattern)
{
    bool any = false;
    for (size_t i = 0; i < suite->count; i++) {
        if (matches(suite->rows[i]->id, pattern)) {
            suite->chosen[i] = any = true;
        }
    }
    return any;
}

/* A row that is shown by another brings that along. */
static void choose_shown(struct suite *suite)
{
    for (size_t i = 0; i < suite->count; i++) {
        size_t at;
        if (suite->chosen[i] && suite->rows[i]->see && find(suite, suite->rows[i]->see, &at)) {
            suite->chosen[at] = true;
        }
    }
}

const char *not_here(const struct row *row, enum target target)
{
    if (row->flags & ROW_FAULT && target == TARGET_SERVER) {
        return "scripts a fault, which the embedded broker alone has";
    }
    if (row->flags & ROW_WIRE && target == TARGET_EMBEDDED) {
        return "looks at gRPC itself";
    }
    if (row->flags & ROW_SCRIPT && target != TARGET_SERVER && !HAS_SCRIPTS) {
        return "this build has no queue scripts";
    }
    if (row->flags & ROW_DATA && target == TARGET_GRPC && !HAS_STORE) {
        return "this build has no durable store";
    }
    if (row->flags & ROW_PROCESS && target == TARGET_EMBEDDED) {
        return "signals the broker's process, which is the client's own here";
    }
    if (row->flags & ROW_PROCESS && target == TARGET_GRPC && !getenv("FILA_WORKER")) {
        return "FILA_WORKER names no fila-worker";
    }
    return NULL;
}

/* ---- Printing ---- */

static void list(const struct suite *suite)
{
    for (size_t i = 0; i < suite->count; i++) {
        const struct row *row = suite->rows[i];
        const char *why = row->unseen ? row->unseen : row->what;
        (void)printf(
            "%-34s %s%s\n", row->id,
            row->see      ? "see "
            : row->unseen ? "(unseen) "
                          : "",
            row->see ? row->see : why);
    }
}

/* `shower`: the row itself, or the one that shows it. */
static void print_row(
    const char *id,
    const struct row *shower,
    const struct result *result,
    bool quiet)
{
    switch (result->outcome) {
    case OUTCOME_PASS:
        if (!quiet) {
            (void)printf("  pass      %-34s %s\n", id, shower->what);
        }
        break;
    case OUTCOME_DEVIATES:
        (void)printf("  deviates  %-34s %s\n", id, shower->deviates);
        break;
    default:
        (void)printf(
            "  DIFFERS   %-34s %s\n            expected: %s\n            got:      %s\n", id,
            shower->what, result->expected, result->got);
    }
}

struct tally {
    unsigned passed;
    unsigned differ;
    unsigned deviate;
    unsigned elsewhere;
    unsigned unseen;
};

static void print_all(const struct suite *suite, const struct plan *plan, struct tally *tally)
{
    for (size_t i = 0; i < suite->count; i++) {
        const struct row *row = suite->rows[i];
        size_t shown = i;
        if (!suite->chosen[i]) {
            continue;
        }
        if (row->see) {
            (void)find(suite, row->see, &shown);
        }
        const struct row *shower = suite->rows[shown];
        const char *why = shower->unseen ? shower->unseen : not_here(shower, plan->target);
        if (why) {
            tally->unseen += shower->unseen != NULL;
            tally->elsewhere += !shower->unseen;
            if (!suite->quiet) {
                (void)printf(
                    "  %-9s %-34s %s\n", shower->unseen ? "unseen" : "not here", row->id, why);
            }
            continue;
        }
        const struct result *result = &plan->results[shown];
        tally->passed += result->outcome == OUTCOME_PASS;
        tally->deviate += result->outcome == OUTCOME_DEVIATES;
        tally->differ += result->outcome != OUTCOME_PASS && result->outcome != OUTCOME_DEVIATES;
        print_row(row->id, shower, result, suite->quiet);
    }
}

/* True if no row differs. */
static bool run(const struct suite *suite, enum target target)
{
    struct tally tally = {0};
    struct plan plan = {
        .target = target,
        .rows = suite->rows,
        .results = calloc(suite->count, sizeof *plan.results),
        .chosen = suite->chosen,
        .count = suite->count,
        .jobs = suite->jobs,
    };
    if (!plan.results) {
        abort();
    }
    (void)printf("conformance of %s\n", TITLES[target]);
    run_plan(&plan);
    print_all(suite, &plan, &tally);
    (void)printf(
        "%u passed, %u failed, %u deviate on purpose, %u not here, %u unseen by a client\n",
        tally.passed, tally.differ, tally.deviate, tally.elsewhere, tally.unseen);
    (void)fflush(stdout);
    free(plan.results);
    return tally.differ == 0;
}

/* ---- The command line ---- */

static int usage(const char *what, const char *value)
{
    (void)fprintf(stderr, "conformance: %s%s\n%s", what, value, HELP);
    return 64;
}

struct options {
    bool targets[TARGET_COUNT];
    bool any_target;
    bool any_row;
    bool list;
    bool facts;
};

static int parse(int argc, char **argv, struct suite *suite, struct options *options)
{
    static const struct option names[] = {
        {"target", required_argument, NULL, 't'},
        {"only", required_argument, NULL, 'o'},
        {"jobs", required_argument, NULL, 'j'},
        {"list", no_argument, NULL, 'l'},
        {"quiet", no_argument, NULL, 'q'},
        {"facts", no_argument, NULL, 'f'},
        {NULL, 0, NULL, 0},
    };
    int option;
    while ((option = getopt_long(argc, argv, "", names, NULL)) != -1) {
        bool found = false;
        switch (option) {
        case 't':
            for (size_t i = 0; i < TARGET_COUNT; i++) {
                if (strcmp(optarg, TARGETS[i]) == 0) {
                    options->targets[i] = options->any_target = found = true;
                }
            }
            if (!found) {
                return usage("no such target: ", optarg);
            }
            break;
        case 'o':
            options->any_row = true;
            if (!choose(suite, optarg)) {
                return usage("no such row: ", optarg);
            }
            break;
        case 'j':
            suite->jobs = atoi(optarg);
            break;
        case 'l':
            options->list = true;
            break;
        case 'f':
            options->facts = true;
            break;
        case 'q':
            suite->quiet = true;
            break;
        default:
            return usage("", "");
        }
    }
    return optind < argc || suite->jobs < 1 ? usage("unexpected arguments", "") : 0;
}

int main(int argc, char **argv)
{
    struct suite suite = {.jobs = 6};
    struct options options = {.any_row = false};
    bool good = true;
    bool any = false;
    gather(&suite);
    int status = parse(argc, argv, &suite, &options);
    if (status) {
        return status;
    }
    if (!options.any_row) {
        (void)choose(&suite, "*");
    }
    choose_shown(&suite);
    if (options.list) {
        list(&suite);
    }
    if (options.facts) {
        print_facts(&suite);
    }
    good = check_coverage(&suite) == 0;
    for (size_t i = 0; i < TARGET_COUNT && !options.list && !options.facts; i++) {
        if ((options.any_target && !options.targets[i]) ||
            (i == TARGET_SERVER && !real_server_wanted())) {
            continue;
        }
        any = true;
        good = run(&suite, (enum target)i) && good;
    }
    free(suite.rows);
    free(suite.chosen);
    if (!any && !options.list && !options.facts) {
        (void)printf("skipped: FILA_SERVER_BIN names no Fila server\n");
        return good ? 77 : 1;
    }
    return good ? 0 : 1;
}

/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * The simulator's command line; tests/sim.sh is its front.
 */
#include "sim/sim.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int usage(void)
{
    (void)fprintf(
        stderr, "usage: sim --seeds N [--from S]   N random worlds, from seed S (1) on\n"
                "       sim --seed S [--trace]     one of them again; [--until SECONDS]\n"
                "       sim --scenarios            the specification's table\n"
                "       sim --scenario NAME [--trace]\n");
    return 64;
}

static double seconds(int64_t time)
{
    return (double)time / (double)FILA_S;
}

static void print_config(const struct sim_config *c)
{
    const struct fw_delivery_config *e = &c->engine;
    printf(
        "%u messages of %u B each %gs, %u workers, VT %gs, round trip %gs, window %u\n"
        "engine: timeout %gs concurrency %u streams %u prefetch %u bytes %" PRIu64
        " attempts %u first %gs max %gs deliveries %u dead_letter %d surplus %d unsure %d lanes %d"
        " rate %g in flight %u probe %d\n"
        "handler: %g to %gs, long %g of %gs, fail %g reject %g poison %g crash %g after %g "
        "stubborn %g, down %g-%gs\n"
        "faults: until %gs, lost %g %g slow %g to %gs refused %g publish %g denied %g-%gs, each: cut "
        "%gs kill %gs drain %gs pause %gs reload %gs pressure %gs, path %g-%gs, late %gs\n",
        c->messages, c->size, seconds(c->interval), c->workers, seconds(c->broker_vt),
        seconds(2 * c->latency), c->window, seconds(e->timeout), e->concurrency, e->streams,
        e->prefetch, e->prefetch_bytes, e->retry_attempts, seconds(e->retry_first),
        seconds(e->retry_max), e->max_deliveries, (int)e->dead_letter, (int)e->surplus,
        (int)e->unsure_lease, e->lanes, e->rate, e->settle_in_flight, e->has_probe,
        seconds(c->run_min), seconds(c->run_max), c->long_run, seconds(c->long_for), c->fail,
        c->reject, c->poison, c->crash, c->retry_after, c->ignores_stop,
        seconds(c->dependency_down.from), seconds(c->dependency_down.until), seconds(c->faults_end),
        c->lose_request, c->lose_answer, c->slow, seconds(c->slow_for), c->refuse,
        c->publish_unknown, seconds(c->publish_denied.from), seconds(c->publish_denied.until),
        seconds(c->cut_each), seconds(c->kill_each), seconds(c->drain_each), seconds(c->pause_each),
        seconds(c->reload_each), seconds(c->pressure_each), seconds(c->path_down.from),
        seconds(c->path_down.until), seconds(c->late_wake));
}

static bool run_seed(uint64_t seed, struct sim_figures *ret_figures)
{
    struct sim_config config = sim_random(seed);
    return sim_run(&config, ret_figures);
}

/* For people: on a terminal, some times a second. */
static void progress(uint64_t done, uint64_t count, uint64_t failed)
{
    static int64_t next;

    enum {
        WIDTH = 40
    };

    if (!isatty(STDERR_FILENO) || (fila_now() < next && done < count)) {
        return;
    }
    next = fila_now() + 200 * FILA_MS;
    int full = (int)(done * WIDTH / count);
    (void)fprintf(
        stderr, "\r[%.*s%*s] %" PRIu64 " of %" PRIu64 " seeds, %" PRIu64 " failed ", full,
        "########################################", WIDTH - full, "", done, count, failed);
    if (done == count) {
        (void)fprintf(stderr, "\n");
    }
}

static int run_seeds(uint64_t from, uint64_t count)
{
    uint64_t failed = 0;
    uint64_t events = 0;
    uint64_t received = 0;
    uint64_t outcomes[FW_OUTCOME_COUNT] = {0};
    for (uint64_t seed = from; seed < from + count; seed++) {
        struct sim_figures figures = {0};
        progress(seed - from, count, failed);
        if (!run_seed(seed, &figures)) {
            failed++;
            (void)fprintf(stderr, "replay it: tests/sim.sh --seed %" PRIu64 "\n", seed);
            if (failed >= 5) {
                break;
            }
        }
        if (figures.events > 1000000) {
            printf("seed %" PRIu64 ": %" PRIu64 " events\n", seed, figures.events);
        }
        events += figures.events;
        received += figures.received;
        for (int i = 0; i < FW_OUTCOME_COUNT; i++) {
            outcomes[i] += figures.outcomes[i];
        }
    }
    progress(count, count, failed);
    printf(
        "%" PRIu64 " seeds from %" PRIu64 ", %" PRIu64 " failed; %" PRIu64 " events, %" PRIu64
        " deliveries:",
        count, from, failed, events, received);
    for (int i = 0; i < FW_OUTCOME_COUNT; i++) {
        printf(" %s %" PRIu64, fw_outcome_name((enum fw_outcome)i), outcomes[i]);
    }
    printf("\n");
    return failed == 0 ? 0 : 1;
}

int main(int argc, char **argv)
{
    uint64_t seed = 0;
    uint64_t seeds = 0;
    uint64_t from = 1;
    const char *scenario = NULL;
    double until = 0;
    bool all = false;
    bool trace = false;
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (strcmp(argv[i], "--trace") == 0) {
            trace = true;
        } else if (strcmp(argv[i], "--scenarios") == 0) {
            all = true;
        } else if (value == NULL) {
            return usage();
        } else if (strcmp(argv[i], "--seed") == 0) {
            seed = strtoull(argv[++i], NULL, 10);
        } else if (strcmp(argv[i], "--seeds") == 0) {
            seeds = strtoull(argv[++i], NULL, 10);
        } else if (strcmp(argv[i], "--from") == 0) {
            from = strtoull(argv[++i], NULL, 10);
        } else if (strcmp(argv[i], "--until") == 0) {
            until = strtod(argv[++i], NULL);
        } else if (strcmp(argv[i], "--scenario") == 0) {
            scenario = argv[++i];
        } else {
            return usage();
        }
    }
    if (seeds > 0) {
        return run_seeds(from, seeds);
    }
    if (scenario != NULL || all) {
        return sim_scenarios(scenario, trace) ? 0 : 1;
    }
    if (seed > 0) {
        struct sim_figures figures = {0};
        struct sim_config config = sim_random(seed);
        print_config(&config);
        config.trace = trace;
        config.limit = until > 0 ? (int64_t)(until * (double)FILA_S) : config.limit;
        bool fine = sim_run(&config, &figures);
        printf(
            "seed %" PRIu64 ": %s, %" PRIu64 " events\n", seed, fine ? "fine" : "FAILED",
            figures.events);
        return fine ? 0 : 1;
    }
    return usage();
}

/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * The specification's scenario table: each row with its figures, asserted within bounds.
 */
#include "sim/sim.h"

#include <stdio.h>
#include <string.h>

static double seconds(int64_t time)
{
    return (double)time / (double)FILA_S;
}

void sim_expect(struct sim_judge *judge, const char *what, double value, double low, double high)
{
    bool fine = value >= low && value <= high;
    printf("    %-44s %12.3f  (%g to %g)%s\n", what, value, low, high, fine ? "" : "  FAILED");
    judge->fine = judge->fine && fine;
}

static uint64_t through(const struct sim_figures *f)
{
    return f->outcomes[FW_ACKED] + f->outcomes[FW_DEAD_LETTERED] + f->outcomes[FW_DROPPED];
}

static double each(uint64_t count, uint64_t of)
{
    return of > 0 ? (double)count / (double)of : 0;
}

static void all_done(
    struct sim_judge *judge,
    const struct sim_config *c,
    const struct sim_figures *f)
{
    sim_expect(judge, "messages through", f->gone, c->messages, c->messages);
    sim_expect(judge, "most runs of one id at once", f->most_concurrent, 0, 1);
}

/* ---- An overleased queue ---- */

static void overleased(struct sim_config *c)
{
    c->messages = 10000;
    c->run_min = c->run_max = 5 * FILA_S;
    c->limit = 4000 * FILA_S;
    c->keep_going = true;
    c->check_each = 16;
}

static void judge_overleased(
    struct sim_judge *judge,
    const struct sim_config *c,
    const struct sim_figures *f)
{
    double ideal = seconds(c->limit) * 0.4;
    sim_expect(judge, "share of 0.4/s", (double)through(f) / ideal, 0.995, 1.001);
    sim_expect(judge, "nacks for each message done", each(f->nacks, through(f)), 0, 30);
    sim_expect(judge, "dead-lettered", (double)f->copies, 0, 0);
    sim_expect(judge, "flushes", (double)f->flushes, 50, 500);
    sim_expect(judge, "age p99, s", seconds(f->age_p99), 0, 4000);
    sim_expect(judge, "overtaken, share of messages", each(f->overtaken, through(f)), 0.1, 1);
    sim_expect(
        judge, "OVERLEASED names, s", seconds(f->notice_values[FW_NOTICE_OVERLEASED]), 450, 650);
}

/* What OVERLEASED names ends it: the same again with that visibility timeout. */
static void judge_named(
    struct sim_judge *judge,
    const struct sim_config *c,
    const struct sim_figures *f)
{
    struct sim_config again = *c;
    struct sim_figures healed = {0};
    int64_t named = f->notice_values[FW_NOTICE_OVERLEASED];
    sim_expect(judge, "OVERLEASED", (double)f->notices[FW_NOTICE_OVERLEASED], 1, 5);
    sim_expect(judge, "it names, s", seconds(named), seconds(c->broker_vt) * 1.2, 200);
    again.broker_vt = named;
    again.engine.visibility_timeout = named;
    again.engine.timeout = c->engine.timeout > 0 ? c->engine.timeout : c->broker_vt / 2;
    again.limit = c->limit + 4 * named;
    judge->fine = sim_run(&again, &healed) && judge->fine;
    sim_expect(judge, "OVERLEASED with that", (double)healed.notices[FW_NOTICE_OVERLEASED], 0, 0);
    sim_expect(judge, "nacks for each message done, before", each(f->nacks, through(f)), 1, 30);
    sim_expect(judge, "and with that", each(healed.nacks, through(&healed)), 0, 2);
}

static void short_vt(struct sim_config *c)
{
    c->messages = 5000;
    c->broker_vt = c->engine.visibility_timeout = 5 * FILA_S;
    c->run_min = 50 * FILA_MS;
    c->run_max = 150 * FILA_MS;
    c->engine.concurrency = 2;
    c->limit = 200 * FILA_S;
    c->keep_going = true;
    c->check_each = 16;
}

static void four_streams(struct sim_config *c)
{
    short_vt(c);
    c->broker_vt = c->engine.visibility_timeout = 10 * FILA_S;
    c->engine.streams = 4;
}

static void few_lanes(struct sim_config *c)
{
    short_vt(c);
    c->engine.lanes = true;
    c->engine.concurrency = 16;
    c->keys = 2;
}

static void failing_often(struct sim_config *c)
{
    short_vt(c);
    c->fail = 0.5;
    c->engine.retry_first = 100 * FILA_MS;
}

static void well_leased(struct sim_config *c)
{
    overleased(c);
    c->broker_vt = 530 * FILA_S;
    c->engine.visibility_timeout = 530 * FILA_S;
    c->engine.timeout = 15 * FILA_S;
}

static void judge_well_leased(
    struct sim_judge *judge,
    const struct sim_config *c,
    const struct sim_figures *f)
{
    sim_expect(
        judge, "share of 0.4/s", (double)through(f) / (seconds(c->limit) * 0.4), 0.995, 1.001);
    sim_expect(judge, "nacks", (double)f->nacks, 0, 0);
    sim_expect(judge, "flushes", (double)f->flushes, 0, 0);
    sim_expect(judge, "age p99, s", seconds(f->age_p99), 0, 4000);
    sim_expect(judge, "overtaken", (double)f->overtaken, 0, 0);
}

/* ---- Long handlers, half of them failing ---- */

static void half_failing(struct sim_config *c)
{
    c->messages = 12;
    c->engine.concurrency = 1;
    c->run_min = c->run_max = 12 * FILA_S;
    c->fail = 0.5;
    c->limit = 7200 * FILA_S;
}

static void judge_half_failing(
    struct sim_judge *judge,
    const struct sim_config *c,
    const struct sim_figures *f)
{
    all_done(judge, c, f); /* that none is dead-lettered before its tries is an invariant */
    sim_expect(judge, "tries of one message, at most", f->most_tries, 1, 5);
    sim_expect(judge, "runs", (double)f->runs, 12, 60);
    sim_expect(judge, "nacks for each message", each(f->nacks, c->messages), 0, 10);
}

/* ---- A quiet queue ---- */

static void quiet(struct sim_config *c, int64_t vt)
{
    c->messages = 60;
    c->interval = 60 * FILA_S;
    c->broker_vt = vt;
    c->engine.visibility_timeout = vt;
    c->run_min = c->run_max = 50 * FILA_MS;
    c->cut_each = 40 * FILA_S;
    c->cut_exactly = true;
    c->faults_end = 4000 * FILA_S;
    c->limit = 4000 * FILA_S;
}

static void quiet_30(struct sim_config *c)
{
    quiet(c, 30 * FILA_S);
}

static void quiet_5(struct sim_config *c)
{
    quiet(c, 5 * FILA_S);
}

static void quiet_3(struct sim_config *c)
{
    quiet(c, 3 * FILA_S);
}

static void quiet_1(struct sim_config *c)
{
    quiet(c, FILA_S);
}

static void judge_quiet(
    struct sim_judge *judge,
    const struct sim_config *c,
    const struct sim_figures *f)
{
    all_done(judge, c, f);
    sim_expect(judge, "runs", (double)f->runs, c->messages, c->messages);
    sim_expect(judge, "nacks", (double)f->nacks, 0, 0);
    sim_expect(judge, "streams opened", (double)f->streams_opened, 80, 95);
}

/* ---- A busy queue ---- */

static void busy(struct sim_config *c)
{
    c->messages = 100000;
    c->engine.concurrency = 8;
    c->broker_cost = 120 * FILA_US;
    c->cost_of_lease = 60;
    c->check_each = 64;
}

static void judge_busy(
    struct sim_judge *judge,
    const struct sim_config *c,
    const struct sim_figures *f)
{
    all_done(judge, c, f);
    double rate = (double)c->messages / seconds(f->took);
    sim_expect(judge, "messages a second", rate, 6000, 10000);
    sim_expect(judge, "share of what the slots could do", rate / 8000, 0.75, 1.3);
    sim_expect(judge, "most leases", f->most_leased, 1, 450);
    sim_expect(judge, "nacks", (double)f->nacks, 0, 0);
}

/* ---- Several workers ---- */

static void several(struct sim_config *c, uint32_t workers)
{
    c->messages = 100 * workers;
    c->workers = workers;
    c->stuck_workers = 1;
    c->kill_once = 20 * FILA_S;
    c->run_min = 10 * FILA_MS;
    c->run_max = 2 * FILA_S;
    c->faults_end = 30 * FILA_S;
    c->limit = 3600 * FILA_S;
}

static void five(struct sim_config *c)
{
    several(c, 5);
}

static void twenty(struct sim_config *c)
{
    several(c, 20);
}

static void judge_several(
    struct sim_judge *judge,
    const struct sim_config *c,
    const struct sim_figures *f)
{
    all_done(judge, c, f);
    sim_expect(judge, "took, s", seconds(f->took), 50, 300);
    sim_expect(
        judge, "run again after a success", (double)f->runs_after_success, 0, 2 * c->workers);
    sim_expect(judge, "stray nacks", (double)f->stray_nacks, 0, 0);
    sim_expect(judge, "nacks for each message", each(f->nacks, c->messages), 0, 5);
}

/* ---- Answers lost and slow ---- */

static void lossy(struct sim_config *c)
{
    c->messages = 1500;
    c->broker_vt = 10 * FILA_S;
    c->engine.visibility_timeout = 10 * FILA_S;
    c->run_min = c->run_max = 150 * FILA_MS;
    c->lose_answer = 0.1;
    c->slow = 0.1;
    c->slow_for = 2 * FILA_S;
    c->faults_end = 3600 * FILA_S;
}

static void judge_lossy(
    struct sim_judge *judge,
    const struct sim_config *c,
    const struct sim_figures *f)
{
    all_done(judge, c, f);
    sim_expect(judge, "took, s", seconds(f->took), 100, 140);
    sim_expect(judge, "VT-SHORT", (double)f->notices[FW_NOTICE_VT_SHORT], 0, 0);
    sim_expect(judge, "run again after a success", (double)f->runs_after_success, 0, 0);
}

/* ---- A wrong visibility timeout ---- */

static void wrong_vt(struct sim_config *c)
{
    c->messages = 2000;
    c->broker_vt = 10 * FILA_S;
    c->run_min = 2 * FILA_S;
    c->run_max = 4 * FILA_S;
    c->engine.concurrency = 4;
    c->no_lease_truth = true;
    c->limit = 7200 * FILA_S;
}

static void judge_wrong_vt(
    struct sim_judge *judge,
    const struct sim_config *c,
    const struct sim_figures *f)
{
    (void)c;
    sim_expect(judge, "messages through", f->gone, c->messages, c->messages);
    sim_expect(judge, "VT-SHORT", (double)f->notices[FW_NOTICE_VT_SHORT], 1, 20);
    sim_expect(judge, "VT seen, s", seconds(f->notice_values[FW_NOTICE_VT_SHORT]), 9, 13);
    sim_expect(judge, "acks that were gone, share of runs", each(f->acked_gone, f->runs), 0, 0.02);
    sim_expect(judge, "run again after a success", each(f->runs_after_success, f->runs), 0, 0.02);
}

/* ---- A dependency that is down ---- */

static void down(struct sim_config *c)
{
    c->messages = 300;
    c->interval = FILA_S;
    c->run_min = c->run_max = 100 * FILA_MS;
    c->dependency_down = (struct sim_span){10 * FILA_S, 310 * FILA_S};
}

static void down_probe(struct sim_config *c)
{
    down(c);
    c->engine.has_probe = true;
}

static void judge_down(
    struct sim_judge *judge,
    const struct sim_config *c,
    const struct sim_figures *f)
{
    all_done(judge, c, f);
    sim_expect(judge, "took, s", seconds(f->took), 310, 700);
    sim_expect(judge, "tries, at most", f->most_tries, 0, 0);
    sim_expect(judge, "BREAKER-OPEN", (double)f->notices[FW_NOTICE_BREAKER_OPEN], 1, 2);
    sim_expect(judge, "runs while it was down", (double)(f->runs - c->messages), 10, 60);
    sim_expect(judge, "nacks for each message", each(f->nacks, c->messages), 0, 3);
}

/* ---- A window too small for the path ---- */

static void far_and_large(struct sim_config *c)
{
    c->messages = 500;
    c->size = 65536;
    c->latency = 50 * FILA_MS;
    c->jitter = FILA_MS;
    c->run_min = c->run_max = 10 * FILA_MS;
    c->engine.concurrency = 4;
}

static void judge_far(
    struct sim_judge *judge,
    const struct sim_config *c,
    const struct sim_figures *f)
{
    all_done(judge, c, f);
    sim_expect(judge, "took, s", seconds(f->took), 5, 200);
    sim_expect(judge, "PIPE-SLOW", (double)f->notices[FW_NOTICE_PIPE_SLOW], 1, 8);
    sim_expect(
        judge, "window, KiB", (double)f->notice_values[FW_NOTICE_PIPE_SLOW] / 1024, 32, 4096);
}

/* ---- A dead-letter queue that refuses ---- */

static void refusing(struct sim_config *c)
{
    c->messages = 100;
    c->poison = 0.3;
    c->fail = 0.1;
    c->engine.retry_attempts = 3;
    c->run_min = c->run_max = 20 * FILA_MS;
    c->publish_denied = (struct sim_span){0, 300 * FILA_S};
}

static void judge_refusing(
    struct sim_judge *judge,
    const struct sim_config *c,
    const struct sim_figures *f)
{
    all_done(judge, c, f); /* nothing lost is an invariant */
    sim_expect(judge, "took, s", seconds(f->took), 300, 500);
    sim_expect(judge, "tries, at most", f->most_tries, 3, 3);
    sim_expect(
        judge, "copies for each dead letter", each(f->copies, f->outcomes[FW_DEAD_LETTERED]), 1, 1);
    sim_expect(judge, "DLQ-REFUSED", (double)f->notices[FW_NOTICE_DLQ_REFUSED], 20, 1000);
    sim_expect(judge, "nacks for each dead letter", each(f->nacks, f->copies), 0, 20);
}

/* ---- Links that break ---- */

static void breaking(struct sim_config *c)
{
    c->messages = 2000;
    c->interval = 100 * FILA_MS;
    c->run_min = c->run_max = 20 * FILA_MS;
    c->cut_each = 2 * FILA_S;
    c->cut_exactly = true;
    c->faults_end = 200 * FILA_S;
}

static void judge_breaking(
    struct sim_judge *judge,
    const struct sim_config *c,
    const struct sim_figures *f)
{
    all_done(judge, c, f);
    sim_expect(judge, "took, s", seconds(f->took), 200, 330);
    sim_expect(
        judge, "leases run out, for each stream", each(f->expiries, f->streams_opened), 0, 60);
    sim_expect(judge, "nacks for each message", each(f->nacks, c->messages), 0, 0.5);
}

static void outage(struct sim_config *c)
{
    c->messages = 3000;
    c->interval = 20 * FILA_MS;
    c->run_min = c->run_max = 10 * FILA_MS;
    c->path_down = (struct sim_span){20 * FILA_S, 28 * FILA_S};
}

static void judge_outage(
    struct sim_judge *judge,
    const struct sim_config *c,
    const struct sim_figures *f)
{
    all_done(judge, c, f);
    sim_expect(judge, "took, s", seconds(f->took), 59, 90);
    sim_expect(judge, "leases run out", (double)f->expiries, 0, 300);
    sim_expect(judge, "nacks for each message", each(f->nacks, c->messages), 0, 0.2);
    sim_expect(judge, "streams opened", (double)f->streams_opened, 2, 3);
}

static const struct sim_scenario scenarios[] = {
    {"overleased", "handler 5 s, concurrency 2, VT 30 s, 10,000 waiting, 1 KiB: 4,000 s of it",
     overleased, judge_overleased},
    {"well-leased", "the same with VT 530 s", well_leased, judge_well_leased},
    {"named-short", "handler 100 ms, concurrency 2, VT 5 s; then with the VT that OVERLEASED names",
     short_vt, judge_named},
    {"named-streams", "the same with 4 streams, VT 10 s", four_streams, judge_named},
    {"named-lanes", "the same with 2 lanes for 16 slots", few_lanes, judge_named},
    {"named-failing", "the same with half of the runs failing", failing_often, judge_named},
    {"half-failing", "handler 12 s, concurrency 1, 12 messages, half of the runs fail",
     half_failing, judge_half_failing},
    {"quiet-30", "one message a minute, VT 30 s, the stream cut each 40 s", quiet_30, judge_quiet},
    {"quiet-5", "one message a minute, VT 5 s", quiet_5, judge_quiet},
    {"quiet-3", "one message a minute, VT 3 s", quiet_3, judge_quiet},
    {"quiet-1", "one message a minute, VT 1 s", quiet_1, judge_quiet},
    {"busy", "1 ms handlers, concurrency 8, 100,000 waiting", busy, judge_busy},
    {"five-workers", "5 mixed workers, one stuck, one killed and restarted", five, judge_several},
    {"twenty-workers", "20 mixed workers, one stuck, one killed and restarted", twenty,
     judge_several},
    {"lossy", "10 % of answers lost, 10 % slow, VT 10 s, 1,500 messages", lossy, judge_lossy},
    {"wrong-vt", "broker VT 10 s, configured 30 s", wrong_vt, judge_wrong_vt},
    {"down", "dependency down for 300 s, no probe", down, judge_down},
    {"down-probe", "dependency down for 300 s, with probe", down_probe, judge_down},
    {"far-and-large", "64 KiB messages, 16 KiB window, round trip 100 ms, VT 30 s", far_and_large,
     judge_far},
    {"refusing", "dead-letter queue refusing for 300 s", refusing, judge_refusing},
    {"breaking", "a link that breaks each 2 s", breaking, judge_breaking},
    {"outage", "a path outage of 8 s", outage, judge_outage},
};

static bool play(const struct sim_scenario *scenario, bool trace)
{
    struct sim_config config = sim_defaults();
    struct sim_figures figures = {0};
    struct sim_judge judge = {.fine = true};
    config.name = scenario->name;
    scenario->make(&config);
    config.trace = trace;
    printf("%s: %s\n", scenario->name, scenario->what);
    if (!sim_run(&config, &figures)) {
        return false;
    }
    scenario->judge(&judge, &config, &figures);
    return judge.fine;
}

bool sim_scenarios(const char *only, bool trace)
{
    bool fine = true;
    bool found = false;
    for (size_t i = 0; i < sizeof(scenarios) / sizeof(scenarios[0]); i++) {
        if (only == NULL || strcmp(only, scenarios[i].name) == 0) {
            found = true;
            fine = play(&scenarios[i], trace) && fine;
        }
    }
    for (const struct sim_scenario *pitfall = sim_pitfalls; pitfall->name != NULL; pitfall++) {
        if (only == NULL || strcmp(only, pitfall->name) == 0) {
            found = true;
            fine = play(pitfall, trace) && fine;
        }
    }
    if (!found) {
        (void)fprintf(stderr, "no scenario \"%s\"\n", only);
    }
    return fine && found;
}

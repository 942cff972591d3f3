/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * What a Fila broker does to workers (contract, chapter I), as far as it concerns delivery: each
 * pitfall as a scenario of its own, with its figures. Those that the specification's table has
 * already are there: a stuck worker's share (I17) in five-workers, streams that break (I10, I11,
 * I14) in breaking and outage, leases that slow the broker (I23) in busy.
 */
#include "sim/sim.h"

static double seconds(int64_t time)
{
    return (double)time / (double)FILA_S;
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
    sim_expect(judge, "run again after a success", (double)f->runs_after_success, 0, 0);
    sim_expect(judge, "nacks that hit another's lease", (double)f->stray_nacks, 0, 0);
}

static void vt(struct sim_config *c, int64_t time)
{
    c->broker_vt = time;
    c->engine.visibility_timeout = time;
}

/* ---- I1: the lease ages in buffers; stale copies ---- */

static void stale_copies(struct sim_config *c)
{
    c->messages = 300;
    vt(c, FILA_S);
    c->run_min = c->run_max = 30 * FILA_MS;
    c->limit = 600 * FILA_S;
}

static void judge_stale(
    struct sim_judge *judge,
    const struct sim_config *c,
    const struct sim_figures *f)
{
    all_done(judge, c, f);
    sim_expect(judge, "took, s (4.5 of work)", seconds(f->took), 4.5, 15);
    sim_expect(judge, "deliveries for each message", each(f->received, c->messages), 1, 20);
    sim_expect(judge, "runs", (double)f->runs, c->messages, c->messages + 5);
}

/* ---- I2: what is leased to a stream that is not read ---- */

static void not_read(struct sim_config *c)
{
    c->messages = 20000;
    c->size = 100;
    c->cost_of_lease = 1;
    c->stuck_workers = 1;
    c->limit = 12 * FILA_S; /* before any of it is given back */
    c->keep_going = true;
    c->check_each = 16;
}

static void judge_not_read(
    struct sim_judge *judge,
    const struct sim_config *c,
    const struct sim_figures *f)
{
    (void)c;
    sim_expect(judge, "leased to it, at most (24,000 by default)", f->most_leased, 130, 700);
    sim_expect(judge, "nacks", (double)f->nacks, 0, 0);
}

/* ---- I3: leases run out late on a busy broker ---- */

static void busy_broker(struct sim_config *c)
{
    c->messages = 3000;
    c->workers = 2;
    c->run_min = 40 * FILA_MS; /* never 100 ms without an ack */
    c->run_max = 60 * FILA_MS;
    c->kill_once = 20 * FILA_S;
    c->faults_end = 30 * FILA_S;
}

static void judge_busy_broker(
    struct sim_judge *judge,
    const struct sim_config *c,
    const struct sim_figures *f)
{
    sim_expect(judge, "messages through", f->gone, c->messages, c->messages);
    sim_expect(judge, "took, s (40 of work)", seconds(f->took), 40, 90);
    sim_expect(judge, "leases run out (a pipe is stranded)", (double)f->expiries, 100, 260);
    sim_expect(judge, "nacks", (double)f->nacks, 0, 0);
}

/* ---- I4: an ack that is GONE: counted, and never an error ---- */

static void gone_acks(struct sim_config *c)
{
    c->messages = 500;
    vt(c, 10 * FILA_S);
    c->run_min = c->run_max = 20 * FILA_MS;
    c->lose_answer = 0.5; /* so the second one finds no lease */
    c->faults_end = 3600 * FILA_S;
}

static void judge_gone_acks(
    struct sim_judge *judge,
    const struct sim_config *c,
    const struct sim_figures *f)
{
    all_done(judge, c, f);
    sim_expect(judge, "runs", (double)f->runs, c->messages, c->messages);
    sim_expect(judge, "acked", (double)f->outcomes[FW_ACKED], c->messages, c->messages);
    sim_expect(judge, "acks that were gone", (double)f->acked_gone, 200, 800);
    sim_expect(judge, "acks for each message", each(f->acks, c->messages), 1.5, 3);
    sim_expect(judge, "VT-SHORT", (double)f->notices[FW_NOTICE_VT_SHORT], 0, 0);
}

/* ---- I5: no fencing: nothing is nacked late ---- */

static void overrunning(struct sim_config *c)
{
    c->messages = 200;
    c->workers = 3;
    vt(c, 2 * FILA_S);
    c->run_min = c->run_max = 20 * FILA_MS;
    c->long_run = 0.2;
    c->long_for = 5 * FILA_S; /* over deadline and lease */
    c->ignores_stop = 1;
    c->engine.concurrency = 4;
    c->limit = 3600 * FILA_S;
}

static void judge_overrunning(
    struct sim_judge *judge,
    const struct sim_config *c,
    const struct sim_figures *f)
{
    sim_expect(judge, "messages through", f->gone, c->messages, c->messages);
    sim_expect(judge, "nacks that hit another's lease", (double)f->stray_nacks, 0, 0);
    sim_expect(judge, "leases run out", (double)f->expiries, 20, 2000);
    sim_expect(judge, "runs for each message", each(f->runs, c->messages), 1, 4);
}

/* ---- I6: a nack comes back at once ---- */

static void hot_loop(struct sim_config *c)
{
    c->messages = 1;
    c->poison = 1;
    c->engine.dead_letter = FW_DEAD_LETTER_NONE;
    c->engine.retry_attempts = 0;
    c->run_min = c->run_max = FILA_MS;
    c->limit = 3600 * FILA_S;
    c->keep_going = true;
}

static void judge_hot_loop(
    struct sim_judge *judge,
    const struct sim_config *c,
    const struct sim_figures *f)
{
    (void)c;
    sim_expect(judge, "runs in an hour (6,000,000 with plain nacks)", (double)f->runs, 60, 140);
    sim_expect(judge, "nacks in an hour", (double)f->nacks, 60, 180);
}

/* ---- I7: a message that crashes its worker comes round for ever ---- */

static void crash_loop(struct sim_config *c)
{
    c->messages = 100;
    vt(c, 5 * FILA_S);
    c->run_min = c->run_max = 100 * FILA_MS;
    c->engine.concurrency = 4;
    c->kills = 0.03;
    c->state = true;
    c->limit = 3600 * FILA_S;
}

static void judge_crash_loop(
    struct sim_judge *judge,
    const struct sim_config *c,
    const struct sim_figures *f)
{
    sim_expect(judge, "messages through", f->gone, c->messages, c->messages);
    sim_expect(judge, "quarantined", (double)f->quarantined, 1, 8);
    sim_expect(
        judge, "processes killed, for each of them", each(f->process_kills, f->quarantined), 2, 3);
    sim_expect(judge, "in the dead-letter queue", (double)f->copies, (double)f->quarantined, 20);
    sim_expect(judge, "run again after a success", (double)f->runs_after_success, 0, 0);
    sim_expect(judge, "took, s", seconds(f->took), 10, 200);
}

/* ---- I8: the script's delay counts for nothing, and it moves messages by itself ---- */

static void script(struct sim_config *c)
{
    c->messages = 200;
    vt(c, 10 * FILA_S);
    c->run_min = c->run_max = 20 * FILA_MS;
    c->poison = 0.2;
    c->engine.dead_letter = FW_DEAD_LETTER_BROKER;
    c->script = true;
    c->script_attempts = 4;
}

static void judge_script(
    struct sim_judge *judge,
    const struct sim_config *c,
    const struct sim_figures *f)
{
    all_done(judge, c, f);
    sim_expect(judge, "moved by the broker", (double)f->moved, 20, 60);
    sim_expect(judge, "copies by the worker", (double)f->copies, 0, 0);
    sim_expect(
        judge, "runs for each that was moved", each(f->runs - (c->messages - f->moved), f->moved),
        1, 4);
    sim_expect(judge, "nacks for each that was moved", each(f->nacks, f->moved), 1, 5);
    sim_expect(judge, "took, s (backoffs of 1, 2 and 4 s)", seconds(f->took), 4, 30);
}

/* ---- I9: a restart strands what the broker had buffered ---- */

static void rolling(struct sim_config *c)
{
    c->messages = 3000;
    c->workers = 3;
    c->run_min = c->run_max = 300 * FILA_MS;
    c->engine.concurrency = 4;
    c->drain_each = 5 * FILA_S;
    c->faults_end = 60 * FILA_S;
}

static void judge_rolling(
    struct sim_judge *judge,
    const struct sim_config *c,
    const struct sim_figures *f)
{
    all_done(judge, c, f);
    sim_expect(judge, "took, s (75 of work)", seconds(f->took), 75, 160);
    sim_expect(
        judge, "leases run out, for each stream", each(f->expiries, f->streams_opened), 1, 220);
    sim_expect(judge, "lease_lost", (double)f->outcomes[FW_LEASE_LOST], 0, 0);
}

/* ---- I10, I11: streams that end in good order, again and again ---- */

static void reconnects(struct sim_config *c)
{
    c->messages = 600;
    c->interval = 200 * FILA_MS;
    c->run_min = c->run_max = 20 * FILA_MS;
    c->cut_each = 500 * FILA_MS;
    c->cut_exactly = true;
    c->cut_closes = true;
    c->faults_end = 120 * FILA_S;
}

static void judge_reconnects(
    struct sim_judge *judge,
    const struct sim_config *c,
    const struct sim_figures *f)
{
    all_done(judge, c, f);
    sim_expect(judge, "runs", (double)f->runs, c->messages, c->messages);
    sim_expect(judge, "streams opened (240 without a pause)", (double)f->streams_opened, 8, 60);
    sim_expect(judge, "leases run out, for each", each(f->expiries, f->streams_opened), 0, 60);
    sim_expect(judge, "nacks", (double)f->nacks, 0, 0);
    sim_expect(judge, "took, s (120 of enqueueing)", seconds(f->took), 120, 240);
}

/* ---- I13: a server in SIGTERM: the stream lives, calls hang ---- */

static void sigterm(struct sim_config *c)
{
    c->messages = 1500;
    c->interval = 50 * FILA_MS;
    vt(c, 10 * FILA_S);
    c->run_min = c->run_max = 20 * FILA_MS;
    c->calls_down = (struct sim_span){20 * FILA_S, 40 * FILA_S};
}

static void judge_sigterm(
    struct sim_judge *judge,
    const struct sim_config *c,
    const struct sim_figures *f)
{
    all_done(judge, c, f);
    sim_expect(judge, "runs", (double)f->runs, c->messages, c->messages);
    sim_expect(judge, "took, s (75 of enqueueing)", seconds(f->took), 75, 100);
    sim_expect(judge, "acks for each message", each(f->acks, c->messages), 1, 3);
    sim_expect(judge, "VT-SHORT", (double)f->notices[FW_NOTICE_VT_SHORT], 0, 0);
}

/* ---- I14: a link that is half open, for six visibility timeouts ---- */

static void half_open(struct sim_config *c)
{
    c->messages = 1200;
    c->interval = 100 * FILA_MS;
    vt(c, 10 * FILA_S);
    c->run_min = c->run_max = 20 * FILA_MS;
    c->path_down = (struct sim_span){20 * FILA_S, 80 * FILA_S};
}

static void judge_half_open(
    struct sim_judge *judge,
    const struct sim_config *c,
    const struct sim_figures *f)
{
    all_done(judge, c, f);
    sim_expect(judge, "runs", (double)f->runs, c->messages, c->messages + 5);
    sim_expect(judge, "nacks", (double)f->nacks, 0, 0);
    sim_expect(judge, "streams opened", (double)f->streams_opened, 2, 4);
    sim_expect(judge, "took, s (120 of enqueueing)", seconds(f->took), 119, 160);
}

/* ---- I18: the broker refuses calls ---- */

static void overloaded(struct sim_config *c)
{
    c->messages = 1000;
    c->fail = 0.2;
    c->poison = 0.05;
    c->run_min = c->run_max = 20 * FILA_MS;
    c->engine.concurrency = 4;
    c->refuse = 0.5;
    c->faults_end = 3600 * FILA_S;
}

static void judge_overloaded(
    struct sim_judge *judge,
    const struct sim_config *c,
    const struct sim_figures *f)
{
    all_done(judge, c, f);
    sim_expect(judge, "acks for each message", each(f->acks, c->messages), 1, 3);
    sim_expect(
        judge, "copies for each dead letter", each(f->copies, f->outcomes[FW_DEAD_LETTERED]), 1, 1);
}

/* ---- I19: a publish of unknown outcome is published again, an ack is asked again ---- */

static void unknown(struct sim_config *c)
{
    c->messages = 500;
    c->poison = 0.3;
    c->engine.retry_attempts = 2;
    c->engine.retry_first = 100 * FILA_MS;
    c->run_min = c->run_max = 10 * FILA_MS;
    c->publish_unknown = 0.3;
    c->lose_answer = 0.2;
    c->faults_end = 3600 * FILA_S;
}

static void judge_unknown(
    struct sim_judge *judge,
    const struct sim_config *c,
    const struct sim_figures *f)
{
    all_done(judge, c, f); /* one copy more for each unknown publish at most: an invariant */
    sim_expect(
        judge, "copies for each dead letter", each(f->copies, f->outcomes[FW_DEAD_LETTERED]), 1,
        2.5);
}

/* ---- I22: the API key is revoked while the stream is open ---- */

static void revoked(struct sim_config *c)
{
    c->messages = 600;
    c->interval = 100 * FILA_MS;
    vt(c, 10 * FILA_S);
    c->run_min = c->run_max = 20 * FILA_MS;
    c->calls_denied = (struct sim_span){20 * FILA_S, 50 * FILA_S};
}

static void judge_revoked(
    struct sim_judge *judge,
    const struct sim_config *c,
    const struct sim_figures *f)
{
    all_done(judge, c, f);
    sim_expect(judge, "runs", (double)f->runs, c->messages, c->messages);
    sim_expect(judge, "took, s (60 of enqueueing)", seconds(f->took), 60, 80);
}

/* ---- I24: the broker's clock jumps: every lease is over at once ---- */

static void clock_jump(struct sim_config *c)
{
    c->messages = 1000;
    c->interval = 50 * FILA_MS;
    c->run_min = 50 * FILA_MS;
    c->run_max = 2 * FILA_S;
    c->engine.concurrency = 8;
    c->broker_restart_each = 15 * FILA_S;
    c->broker_down_for = 200 * FILA_MS;
    c->broker_forgets_leases = true;
    c->no_lease_truth = true;
    c->faults_end = 60 * FILA_S;
}

static void judge_clock_jump(
    struct sim_judge *judge,
    const struct sim_config *c,
    const struct sim_figures *f)
{
    sim_expect(judge, "messages through", f->gone, c->messages, c->messages);
    sim_expect(judge, "took, s (50 of enqueueing)", seconds(f->took), 50, 200);
    sim_expect(judge, "most runs of one id at once", f->most_concurrent, 0, 1);
    sim_expect(judge, "run again after a success", (double)f->runs_after_success, 0, 0);
}

const struct sim_scenario sim_pitfalls[] = {
    {"stale-copies", "I1: 300 messages, VT 1 s, 30 ms each: they expire in the buffers",
     stale_copies, judge_stale},
    {"not-read", "I2: a stream that nobody reads, 20,000 messages of 100 B", not_read,
     judge_not_read},
    {"busy-broker", "I3: a worker is killed while the broker is never idle", busy_broker,
     judge_busy_broker},
    {"gone-acks", "I4: half of the answers to acks are lost", gone_acks, judge_gone_acks},
    {"overrunning", "I5: 3 workers, handlers that overrun their lease and do not stop", overrunning,
     judge_overrunning},
    {"hot-loop", "I6: one message that always fails, for an hour", hot_loop, judge_hot_loop},
    {"crash-loop", "I7: 3 % of the messages kill their worker, each time", crash_loop,
     judge_crash_loop},
    {"script", "I8: dead letters by the broker's script, at the fourth attempt", script,
     judge_script},
    {"rolling", "I9: 3 workers, one of them restarted each 5 s", rolling, judge_rolling},
    {"reconnects", "I10, I11: for 120 s each stream ends with OK after 0.5 s", reconnects,
     judge_reconnects},
    {"sigterm", "I13: for 20 s the stream delivers and calls hang", sigterm, judge_sigterm},
    {"half-open", "I14: for 60 s the link is half open, VT 10 s", half_open, judge_half_open},
    {"overloaded", "I18: half of the calls are refused", overloaded, judge_overloaded},
    {"unknown", "I19: 30 % of the publishes and 20 % of the acks without an answer", unknown,
     judge_unknown},
    {"revoked", "I22: the API key is revoked for 30 s, the stream stays", revoked, judge_revoked},
    {"clock-jump", "I24: every lease is over at once, each 15 s", clock_jump, judge_clock_jump},
    {NULL, NULL, NULL, NULL},
};

/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * A configuration drawn from a seed: from an idle queue to one that is hopelessly overleased, with
 * few faults or all of them at once.
 */
#include "sim/sim.h"

struct dice {
    uint64_t state;
};

static uint64_t roll(struct dice *dice)
{
    uint64_t x = dice->state += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

static uint64_t below(struct dice *dice, uint64_t limit)
{
    return roll(dice) % limit;
}

static bool one_in(struct dice *dice, uint64_t times)
{
    return below(dice, times) == 0;
}

/* Small ones as likely as large ones: between low and high, by octaves. */
static int64_t octaves(struct dice *dice, int64_t low, int64_t high)
{
    int64_t value = low;
    while (value < high && !one_in(dice, 6)) {
        value *= 2;
    }
    value += (int64_t)below(dice, (uint64_t)value);
    return value < high ? value : high;
}

static sim_chance maybe(struct dice *dice, double most)
{
    return one_in(dice, 2) ? 0 : most * (double)below(dice, 1000) / 1000;
}

static void draw_engine(struct dice *dice, struct sim_config *c)
{
    struct fw_delivery_config *e = &c->engine;
    e->visibility_timeout = c->broker_vt;
    e->concurrency = 1 + (uint32_t)below(dice, one_in(dice, 3) ? 16 : 4);
    e->streams = one_in(dice, 3) ? 1 + (uint32_t)below(dice, SIM_STREAMS_MAX) : 1;
    e->prefetch = one_in(dice, 3) ? e->concurrency + e->streams + (uint32_t)below(dice, 20) : 0;
    e->prefetch_bytes = one_in(dice, 4) ? c->size * (1 + below(dice, 20)) : UINT64_C(64) << 20;
    e->timeout =
        one_in(dice, 2) ? 0 : c->broker_vt / 4 + (int64_t)below(dice, (uint64_t)c->broker_vt / 3);
    e->retry_attempts = 1 + (uint32_t)below(dice, 5);
    e->retry_first = octaves(dice, 10 * FILA_MS, c->broker_vt);
    e->retry_max = octaves(dice, e->retry_first, 2 * c->broker_vt + e->retry_first);
    e->max_deliveries = one_in(dice, 5) ? 3 + (uint32_t)below(dice, 10) : 0;
    e->dead_letter = (enum fw_dead_letter)below(dice, 4);
    e->surplus = one_in(dice, 3) ? FW_SURPLUS_EXPIRE : FW_SURPLUS_NACK;
    e->unsure_lease = one_in(dice, 3) ? FW_UNSURE_SKIP : FW_UNSURE_RUN;
    e->lanes = one_in(dice, 3);
    e->rate = one_in(dice, 6) ? 20 + (double)below(dice, 200) : 0;
    e->settle_in_flight = one_in(dice, 3) ? 64 + (uint32_t)below(dice, 200) : 256;
    e->breaker_probe = octaves(dice, 100 * FILA_MS, 5 * FILA_S);
    e->breaker_max = octaves(dice, e->breaker_probe, 20 * FILA_S);
    e->has_probe = one_in(dice, 2);
    c->script = e->dead_letter == FW_DEAD_LETTER_BROKER;
    c->script_attempts = 2 + (uint32_t)below(dice, 6);
}

static void draw_handler(struct dice *dice, struct sim_config *c)
{
    const struct fw_delivery_config *e = &c->engine;
    bool ends = e->dead_letter != FW_DEAD_LETTER_NONE;
    int64_t timeout = e->timeout > 0 ? e->timeout : e->visibility_timeout / 2;
    c->run_min = octaves(dice, 10 * FILA_US, timeout / 4);
    c->run_max = octaves(dice, c->run_min, timeout - timeout / 8);
    c->long_run = maybe(dice, 0.1);
    c->long_for = timeout / 2 + (int64_t)below(dice, (uint64_t)(2 * c->broker_vt));
    c->fail = maybe(dice, 0.5);
    c->reject = ends ? maybe(dice, 0.2) : 0;
    c->poison = ends ? maybe(dice, 0.2) : 0;
    c->crash = maybe(dice, 0.1);
    c->retry_after = maybe(dice, 0.3);
    c->ignores_stop = maybe(dice, 0.1);
    c->state = one_in(dice, 2);
    c->journal_lag = one_in(dice, 2) ? octaves(dice, FILA_MS, c->broker_vt) : 0;
    c->kills = c->state && ends && one_in(dice, 6) ? 0.05 * (double)below(dice, 1000) / 1000 : 0;
    c->max_running = one_in(dice, 4) ? 1 + (uint32_t)below(dice, c->workers * e->concurrency) : 0;
    if (one_in(dice, 4)) {
        c->dependency_down.from = (int64_t)below(dice, (uint64_t)(5 * c->broker_vt));
        c->dependency_down.until = c->dependency_down.from +
                                   octaves(dice, FILA_S, 20 * c->broker_vt);
    }
}

static void draw_faults(struct dice *dice, struct sim_config *c)
{
    int64_t vt = c->broker_vt;
    c->faults_end = one_in(dice, 4) ? 0 : (int64_t)below(dice, (uint64_t)(20 * vt));
    c->lose_request = maybe(dice, 0.2);
    c->lose_answer = maybe(dice, 0.2);
    c->slow = maybe(dice, 0.3);
    c->slow_for = octaves(dice, 10 * FILA_MS, 2 * vt);
    c->refuse = maybe(dice, 0.3);
    c->publish_unknown = maybe(dice, 0.5);
    c->cut_each = one_in(dice, 3) ? octaves(dice, 500 * FILA_MS, 10 * vt) : 0;
    c->kill_each = one_in(dice, 4) ? octaves(dice, vt / 2, 10 * vt) : 0;
    c->drain_each = one_in(dice, 4) ? octaves(dice, vt / 2, 10 * vt) : 0;
    c->pause_each = one_in(dice, 5) ? octaves(dice, vt / 2, 10 * vt) : 0;
    c->reload_each = one_in(dice, 5) ? octaves(dice, vt / 4, 10 * vt) : 0;
    c->pressure_each = one_in(dice, 5) ? octaves(dice, vt / 4, 5 * vt) : 0;
    c->broker_restart_each = one_in(dice, 6) ? octaves(dice, vt, 10 * vt) : 0;
    c->broker_down_for = octaves(dice, 10 * FILA_MS, vt);
    c->broker_forgets_leases = one_in(dice, 3);
    c->late_wake = one_in(dice, 4) ? octaves(dice, 100 * FILA_US, 200 * FILA_MS) : 0;
    if (one_in(dice, 5)) {
        c->path_down.from = (int64_t)below(dice, (uint64_t)(5 * vt));
        c->path_down.until = c->path_down.from + octaves(dice, FILA_S, 3 * vt);
    }
    if (one_in(dice, 6)) {
        c->publish_denied.from = (int64_t)below(dice, (uint64_t)(3 * vt));
        c->publish_denied.until = c->publish_denied.from + octaves(dice, FILA_S, 10 * vt);
    }
}

/* No more messages than can be worked off in some 30 visibility timeouts: overload is wanted, but
 * not for ever. */
static void limit_work(struct sim_config *c)
{
    int64_t mean = (c->run_min + c->run_max) / 2 +
                   (int64_t)(c->long_run * (double)(c->broker_vt / 2));
    int64_t slots = (int64_t)c->engine.concurrency * c->workers;
    slots = c->max_running > 0 && c->max_running < slots ? c->max_running : slots;
    int64_t most = 30 * c->broker_vt * slots / (3 * mean + 1) + 1;
    if (c->messages > most) {
        c->messages = (uint32_t)most;
    }
}

/* Now and then one message a minute, or a long queue of quick ones; and no crash record where two
 * unlucky kills would keep a message aside for ever. */
static void draw_shape(struct dice *dice, struct sim_config *c)
{
    if (c->kill_each > 0 && c->engine.dead_letter == FW_DEAD_LETTER_NONE) {
        c->state = false;
    }
    if (one_in(dice, 25)) {
        c->interval = octaves(dice, c->broker_vt, 60 * FILA_S);
        c->messages = 1 + (uint32_t)below(dice, 30);
    } else if (one_in(dice, 500)) {
        c->interval = 0;
        c->messages = (uint32_t)octaves(dice, 10000, 100000);
        c->run_max = octaves(dice, c->run_min, 2 * FILA_MS);
        c->run_min = c->run_min < c->run_max ? c->run_min : c->run_max;
        c->check_each = 64;
        if (c->messages > 60000) { /* tries of so many are not all remembered (rule 6) */
            c->fail = c->poison = c->crash = c->kills = 0;
        }
    } else if (one_in(dice, 10)) { /* handlers that take longer than their deadline, always */
        c->messages = 1 + (uint32_t)below(dice, 20);
        c->long_run = 0.5;
        c->long_for = octaves(dice, c->broker_vt / 2, 4 * c->broker_vt);
    }
}

struct sim_config sim_random(uint64_t seed)
{
    static const int64_t timeouts[] = {FILA_S, 2 * FILA_S, 5 * FILA_S, 10 * FILA_S, 30 * FILA_S};
    struct dice dice = {.state = seed * UINT64_C(0xd1342543de82ef95) + 1};
    struct sim_config c = sim_defaults();
    c.name = "random";
    c.seed = seed;
    c.broker_vt = timeouts[below(&dice, 5)];
    c.size = (uint32_t)octaves(&dice, 64, one_in(&dice, 5) ? 65536 : 4096);
    c.messages = (uint32_t)octaves(&dice, 1, one_in(&dice, 8) ? 2000 : 300);
    c.interval = one_in(&dice, 2) ? 0 : octaves(&dice, FILA_MS, c.broker_vt / 2);
    c.keys = 1 + (uint32_t)below(&dice, one_in(&dice, 2) ? 4 : 200);
    c.workers = one_in(&dice, 3) ? 2 + (uint32_t)below(&dice, 4) : 1;
    c.latency = octaves(&dice, 50 * FILA_US, c.broker_vt / 50);
    c.jitter = (int64_t)below(&dice, (uint64_t)c.latency);
    c.window = one_in(&dice, 4) ? 65536 : 16384;
    draw_engine(&dice, &c);
    draw_handler(&dice, &c);
    draw_faults(&dice, &c);
    draw_shape(&dice, &c);
    limit_work(&c);
    c.limit = 1000000 * FILA_S;
    return c;
}

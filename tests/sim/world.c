/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "sim/world.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

static bool before(const struct event *a, const struct event *b)
{
    return a->at != b->at ? a->at < b->at : a->seq < b->seq;
}

void sim_at(
    struct world *w,
    int64_t at,
    sim_fire_fn *fire,
    void *object,
    uint64_t life,
    int64_t value)
{
    if (w->event_count == w->event_capacity) {
        w->event_capacity = w->event_capacity == 0 ? 1024 : 2 * w->event_capacity;
        w->events = realloc(w->events, w->event_capacity * sizeof(*w->events));
        if (w->events == NULL) {
            abort();
        }
    }
    struct event event = {
        .at = at < w->now ? w->now : at,
        .seq = ++w->event_seq,
        .fire = fire,
        .object = object,
        .life = life,
        .value = value,
    };
    size_t i = w->event_count++;
    for (; i > 0 && before(&event, &w->events[(i - 1) / 2]); i = (i - 1) / 2) {
        w->events[i] = w->events[(i - 1) / 2];
    }
    w->events[i] = event;
}

static struct event take_event(struct world *w)
{
    struct event first = w->events[0];
    struct event last = w->events[--w->event_count];
    size_t i = 0;
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= w->event_count) {
            break;
        }
        if (child + 1 < w->event_count && before(&w->events[child + 1], &w->events[child])) {
            child++;
        }
        if (!before(&w->events[child], &last)) {
            break;
        }
        w->events[i] = w->events[child];
        i = child;
    }
    w->events[i] = last;
    return first;
}

static void print_entry(const struct world *w, const struct trace_entry *entry)
{
    (void)fprintf(stderr, "%14.6f ", (double)(entry->at - w->start) / (double)FILA_S);
    if (entry->worker != UINT32_MAX) {
        (void)fprintf(stderr, "w%-2u ", entry->worker);
    } else {
        (void)fprintf(stderr, "    ");
    }
    (void)fprintf(stderr, "%-22s", entry->what);
    if (entry->message != UINT32_MAX) {
        (void)fprintf(stderr, " #%u", entry->message);
    }
    (void)fprintf(stderr, " %" PRId64 "\n", entry->value);
}

void sim_trace(struct world *w, const char *what, uint32_t worker, uint32_t message, int64_t value)
{
    struct trace_entry *entry = &w->trace[w->traced++ % SIM_TRACE];
    *entry = (struct trace_entry){
        .at = w->now, .what = what, .worker = worker, .message = message, .value = value};
    if (w->config.trace) {
        print_entry(w, entry);
    }
}

void sim_fail(struct world *w, const char *format, ...)
{
    va_list args;
    if (w->failed) {
        return;
    }
    w->failed = true;
    uint64_t first = w->traced > SIM_TRACE ? w->traced - SIM_TRACE : 0;
    for (uint64_t i = first; i < w->traced && !w->config.trace; i++) {
        print_entry(w, &w->trace[i % SIM_TRACE]);
    }
    (void)fprintf(
        stderr, "FAILED %s, seed %" PRIu64 ", at %.6f s: ", w->config.name, w->config.seed,
        (double)(w->now - w->start) / (double)FILA_S);
    va_start(args, format);
    (void)vfprintf(stderr, format, args);
    va_end(args);
    (void)fprintf(stderr, "\n");
}

uint64_t sim_draw(struct world *w)
{
    uint64_t x = w->random += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

int64_t sim_between(struct world *w, int64_t low, int64_t high)
{
    return high <= low ? low : low + (int64_t)(sim_draw(w) % (uint64_t)(high - low + 1));
}

bool sim_happens(struct world *w, sim_chance chance)
{
    return chance > 0 && (double)(sim_draw(w) >> 11) * 0x1p-53 < chance;
}

bool sim_faults(const struct world *w)
{
    return w->now < w->start + w->config.faults_end && !w->over;
}

bool sim_within(const struct world *w, struct sim_span span)
{
    int64_t time = w->now - w->start;
    return time >= span.from && time < span.until;
}

bool sim_path_down(const struct world *w)
{
    return w->now < w->broker_down_until || sim_within(w, w->config.path_down);
}

int64_t sim_delay(struct world *w)
{
    return w->config.latency + sim_between(w, 0, w->config.jitter);
}

/* The work is done: the workers stop. */
static void all_gone(struct world *w)
{
    w->over = true;
    w->figures.took = w->now - w->start;
    sim_trace(w, "all gone", UINT32_MAX, UINT32_MAX, 0);
    for (uint32_t i = 0; i < w->config.workers; i++) {
        if (w->workers[i].engine != NULL) {
            sim_worker_drain(&w->workers[i], 20 * FILA_S);
        }
    }
}

void sim_gone(struct world *w, uint32_t message)
{
    if (!w->messages[message].gone) {
        w->messages[message].gone = true;
        w->last_gone = w->now;
        w->gone++;
    }
}

/* ---- Operators ---- */

static int64_t next_in(struct world *w, int64_t mean)
{
    return mean / 2 + sim_between(w, 0, mean);
}

static struct sim_worker *any_worker(struct world *w)
{
    return &w->workers[sim_draw(w) % w->config.workers];
}

void sim_restart(struct world *w, struct event *event)
{
    struct sim_worker *worker = event->object;
    if (worker->engine == NULL && !w->over && !sim_worker_start(worker)) {
        sim_fail(w, "no memory");
    }
}

static void kill_one(struct world *w, struct event *event)
{
    struct sim_worker *worker = any_worker(w);
    if (!sim_faults(w)) {
        return;
    }
    if (worker->engine != NULL) {
        sim_worker_kill(worker);
        sim_at(w, w->now + sim_between(w, 0, 5 * FILA_S), sim_restart, worker, 0, 0);
    }
    sim_at(w, w->now + next_in(w, w->config.kill_each), kill_one, event->object, 0, 0);
}

static void kill_once(struct world *w, struct event *event)
{
    struct sim_worker *worker = &w->workers[w->config.workers - 1];
    (void)event;
    if (worker->engine != NULL) {
        sim_worker_kill(worker);
        sim_at(w, w->now + 5 * FILA_S, sim_restart, worker, 0, 0);
    }
}

static void drain_one(struct world *w, struct event *event)
{
    struct sim_worker *worker = any_worker(w);
    if (!sim_faults(w)) {
        return;
    }
    if (worker->engine != NULL && !worker->draining) {
        sim_worker_drain(worker, sim_between(w, 0, 25 * FILA_S));
    }
    sim_at(w, w->now + next_in(w, w->config.drain_each), drain_one, event->object, 0, 0);
}

static void cut_one(struct world *w, struct event *event)
{
    struct sim_worker *worker = any_worker(w);
    if (!sim_faults(w)) {
        return;
    }
    if (worker->engine != NULL) {
        sim_stream_cut(&worker->streams[sim_draw(w) % worker->config.streams], true);
    }
    int64_t pause = w->config.cut_exactly ? w->config.cut_each : next_in(w, w->config.cut_each);
    sim_at(w, w->now + pause, cut_one, event->object, 0, 0);
}

static void pause_one(struct world *w, struct event *event)
{
    struct sim_worker *worker = any_worker(w);
    for (uint32_t i = 0; i < w->config.workers && !sim_faults(w); i++) {
        if (w->workers[i].paused && w->workers[i].engine != NULL) {
            w->workers[i].paused = false;
            fw_delivery_resume(w->workers[i].engine, w->now);
            sim_worker_take(&w->workers[i]);
        }
    }
    if (!sim_faults(w)) {
        return;
    }
    if (worker->engine != NULL && !worker->draining) {
        worker->paused = !worker->paused;
        sim_trace(w, worker->paused ? "pause" : "resume", worker->index, UINT32_MAX, 0);
        if (worker->paused) {
            fw_delivery_pause(worker->engine, w->now);
        } else {
            fw_delivery_resume(worker->engine, w->now);
        }
        sim_worker_take(worker);
    }
    sim_at(w, w->now + next_in(w, w->config.pause_each), pause_one, event->object, 0, 0);
}

static void press_one(struct world *w, struct event *event)
{
    struct sim_worker *worker = any_worker(w);
    for (uint32_t i = 0; i < w->config.workers && !sim_faults(w); i++) {
        if (w->workers[i].pressed && w->workers[i].engine != NULL) {
            w->workers[i].pressed = false;
            fw_delivery_pressure(w->workers[i].engine, w->now, false);
            sim_worker_take(&w->workers[i]);
        }
    }
    if (!sim_faults(w)) {
        return;
    }
    if (worker->engine != NULL) {
        worker->pressed = !worker->pressed;
        sim_trace(w, "memory pressure", worker->index, UINT32_MAX, worker->pressed);
        fw_delivery_pressure(worker->engine, w->now, worker->pressed);
        sim_worker_take(worker);
    }
    sim_at(w, w->now + next_in(w, w->config.pressure_each), press_one, event->object, 0, 0);
}

/* Other numbers for what may change without changing what the checks know. */
static void reload_one(struct world *w, struct event *event)
{
    struct sim_worker *worker = any_worker(w);
    if (!sim_faults(w)) {
        return;
    }
    if (worker->engine != NULL) {
        struct fw_delivery_config *config = &worker->config;
        config->concurrency = 1 + (uint32_t)(sim_draw(w) % 8);
        config->prefetch = 0;
        config->streams = 1 + (uint32_t)(sim_draw(w) % SIM_STREAMS_MAX);
        sim_trace(w, "reload", worker->index, UINT32_MAX, config->concurrency);
        fw_delivery_reconfigure(worker->engine, w->now, config);
        sim_worker_take(worker);
    }
    sim_at(w, w->now + next_in(w, w->config.reload_each), reload_one, event->object, 0, 0);
}

/* What was leased is to be had again, as after a failover to a node that knows no leases. */
static void forget_leases(struct world *w)
{
    for (uint32_t i = 0; i < w->enqueued; i++) {
        struct sim_message *m = &w->messages[i];
        fila_view id = {m->id, strlen(m->id)};
        if (!m->gone && fq_find(w->broker, id, NULL) == FQ_LEASED) {
            fila_view reason = fila_view_of("fila-worker: returned unstarted");
            m->strays = true; /* no engine can know */
            w->figures.nacks_done += fq_nack(w->broker, w->now, sim_queue(), id, reason) == FILA_OK;
        }
    }
}

/* The broker is down for a while; what was on its way to it is lost. */
static void restart_broker(struct world *w, struct event *event)
{
    if (!sim_faults(w)) {
        return;
    }
    w->broker_down_until = w->now + sim_between(w, 0, w->config.broker_down_for);
    sim_trace(w, "broker restart", UINT32_MAX, UINT32_MAX, w->broker_down_until - w->now);
    for (uint32_t i = 0; i < w->config.workers; i++) {
        for (uint32_t j = 0; j < SIM_STREAMS_MAX; j++) {
            if (w->workers[i].engine != NULL) {
                sim_stream_cut(&w->workers[i].streams[j], true);
            }
        }
    }
    if (w->config.broker_forgets_leases) {
        forget_leases(w);
    }
    sim_at(
        w, w->now + next_in(w, w->config.broker_restart_each), restart_broker, event->object, 0, 0);
}

static void plan(struct world *w, int64_t each, sim_fire_fn *fire)
{
    if (each > 0) {
        sim_at(w, w->now + next_in(w, each), fire, NULL, 0, 0);
    }
}

static void path_down(struct world *w, struct event *event)
{
    (void)event;
    for (uint32_t i = 0; i < w->config.workers; i++) {
        for (uint32_t j = 0; j < SIM_STREAMS_MAX; j++) {
            if (w->workers[i].engine != NULL) {
                sim_stream_cut(&w->workers[i].streams[j], true);
            }
        }
    }
}

/* ---- Messages in ---- */

static void make_message(struct world *w, uint32_t index)
{
    struct sim_message *m = &w->messages[index];
    struct fq_enqueue in = {
        .queue = sim_queue(),
        .payload = {(const char *)&index, sizeof(index)},
    };
    m->lane = w->config.keys > 0 ? (uint32_t)(sim_draw(w) % w->config.keys) : 0;
    m->poison = sim_happens(w, w->config.poison);
    m->rejects = sim_happens(w, w->config.reject);
    m->kills = sim_happens(w, w->config.kills);
    m->enqueued = w->now;
    m->there = true;
    if (fq_enqueue(w->broker, w->now, w->now / FILA_MS, &in, m->id) != FILA_OK) {
        sim_fail(w, "the broker refuses a message");
    }
    w->enqueued++;
}

static void enqueue(struct world *w, struct event *event)
{
    do {
        make_message(w, w->enqueued);
    } while (w->config.interval == 0 && w->enqueued < w->config.messages && !w->failed);
    if (w->enqueued < w->config.messages) {
        sim_at(w, w->now + w->config.interval, enqueue, event->object, 0, 0);
    }
    sim_broker_turn(w);
}

/* ---- The run ---- */

static bool open_world(struct world *w, const struct sim_config *config)
{
    w->config = *config;
    w->start = 1000 * FILA_S;
    w->now = w->start;
    w->random = config->seed * UINT64_C(0x2545f4914f6cdd1d) + 12345;
    w->messages = calloc(config->messages, sizeof(*w->messages));
    if (w->messages == NULL || !sim_broker_open(w)) {
        return false;
    }
    if (config->max_running > 0) {
        w->shared = fw_shared_new(config->max_running);
        if (w->shared == NULL) {
            return false;
        }
    }
    sim_at(w, w->now, enqueue, NULL, 0, 0);
    for (uint32_t i = 0; i < config->workers; i++) {
        struct sim_worker *worker = &w->workers[i];
        worker->world = w;
        worker->index = i;
        worker->stuck = i < config->stuck_workers;
        worker->seen = calloc(config->messages, sizeof(*worker->seen));
        if (worker->seen == NULL || !sim_state_init(&worker->state, config->messages) ||
            !sim_worker_start(worker)) {
            return false;
        }
    }
    plan(w, config->kill_each, kill_one);
    if (config->kill_once > 0) {
        sim_at(w, w->start + config->kill_once, kill_once, NULL, 0, 0);
    }
    plan(w, config->drain_each, drain_one);
    plan(w, config->broker_restart_each, restart_broker);
    plan(w, config->cut_each, cut_one);
    plan(w, config->pause_each, pause_one);
    plan(w, config->reload_each, reload_one);
    plan(w, config->pressure_each, press_one);
    if (config->path_down.until > 0) {
        sim_at(w, w->start + config->path_down.from, path_down, NULL, 0, 0);
    }
    return true;
}

static int by_value(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a;
    int64_t y = *(const int64_t *)b;
    return x < y ? -1 : x > y;
}

static void figure_expiries(struct world *w)
{
    uint64_t attempts = 0;
    for (uint32_t i = 0; i < w->config.messages; i++) {
        attempts += w->messages[i].attempts;
    }
    if (attempts > w->figures.nacks_done) {
        w->figures.expiries = attempts - w->figures.nacks_done;
    }
}

static void figure_ages(struct world *w)
{
    int64_t *ages = malloc(w->config.messages * sizeof(*ages));
    size_t count = 0;
    for (uint32_t i = 0; ages != NULL && i < w->config.messages; i++) {
        if (w->messages[i].first_start != 0) {
            ages[count++] = w->messages[i].first_start - w->messages[i].enqueued;
        }
    }
    if (count > 0) {
        qsort(ages, count, sizeof(*ages), by_value);
        w->figures.age_p50 = ages[count / 2];
        w->figures.age_p99 = ages[count * 99 / 100];
    }
    free(ages);
}

static void close_world(struct world *w)
{
    for (uint32_t i = 0; i < w->config.workers; i++) {
        struct sim_worker *worker = &w->workers[i];
        if (worker->engine != NULL) {
            sim_worker_end(worker);
        }
        free(worker->seen);
        sim_state_fini(&worker->state);
    }
    fw_shared_free(w->shared);
    sim_broker_close(w);
    for (size_t i = 0; i < w->event_count; i++) {
        sim_call_forget(&w->events[i]);
    }
    while (w->free_deliveries != NULL) {
        struct sim_delivery *d = w->free_deliveries;
        w->free_deliveries = d->next;
        free(d);
    }
    while (w->free_copies != NULL) {
        struct sim_copy *copy = w->free_copies;
        w->free_copies = copy->next;
        free(copy);
    }
    free(w->events);
    free(w->messages);
    free(w);
}

static bool is_over(const struct world *w)
{
    if (!w->over) {
        return false;
    }
    for (uint32_t i = 0; i < w->config.workers; i++) {
        if (w->workers[i].engine != NULL) {
            return false;
        }
    }
    return true;
}

static void run(struct world *w)
{
    int64_t limit = w->start + w->config.limit;
    while (!w->failed && w->event_count > 0 && !is_over(w)) {
        struct event event = take_event(w);
        if (event.at > limit) {
            if (!w->config.keep_going) {
                sim_fail(
                    w, "not over in time: %u of %u messages through", w->gone, w->config.messages);
            }
            sim_call_forget(&event);
            return;
        }
        w->now = event.at;
        w->figures.events++;
        event.fire(w, &event);
        if (!w->over && w->gone == w->config.messages) {
            all_gone(w);
        }
    }
    if (!w->failed && !is_over(w)) {
        sim_fail(w, "nothing happens any more: %u of %u through", w->gone, w->config.messages);
    }
}

bool sim_run(const struct sim_config *config, struct sim_figures *ret_figures)
{
    struct world *w = calloc(1, sizeof(*w));
    if (w == NULL || !open_world(w, config)) {
        return false;
    }
    run(w);
    sim_check_end(w);
    figure_ages(w);
    figure_expiries(w);
    w->figures.gone = w->gone;
    int64_t slots = (int64_t)w->config.engine.concurrency * w->config.workers;
    if (w->last_run_end > w->start && slots > 0) {
        w->figures.busy = (double)w->slots_used / (double)slots /
                          (double)(w->last_run_end - w->start);
    }
    *ret_figures = w->figures;
    bool fine = !w->failed;
    close_world(w);
    return fine;
}

struct sim_config sim_defaults(void)
{
    return (struct sim_config){
        .name = "defaults",
        .seed = 1,
        .messages = 100,
        .size = 1024,
        .keys = 16,
        .broker_vt = 30 * FILA_S,
        .workers = 1,
        .engine =
            {
                .visibility_timeout = 30 * FILA_S,
                .concurrency = 2,
                .streams = 1,
                .prefetch_bytes = UINT64_C(64) << 20,
                .retry_attempts = 5,
                .retry_first = FILA_S,
                .retry_max = 60 * FILA_S,
                .breaker_failures = 10,
                .breaker_probe = 5 * FILA_S,
                .breaker_max = 120 * FILA_S,
                .settle_in_flight = 256,
                .seed = 1,
            },
        .latency = 200 * FILA_US,
        .jitter = 100 * FILA_US,
        .window = 16384,
        .run_min = FILA_MS,
        .run_max = FILA_MS,
        .limit = 3600 * FILA_S,
        .check_each = 1,
    };
}

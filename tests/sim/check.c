/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * The invariants of the specification, against the truth.
 */
#include "sim/world.h"

#include <inttypes.h>
#include <string.h>

static bool bounded_tries(const struct fw_delivery_config *config)
{
    return config->dead_letter == FW_DEAD_LETTER_WORKER ||
           config->dead_letter == FW_DEAD_LETTER_DROP;
}

/* Nothing is fenced: a nack of another process, late on its way, has ended a lease of this message.
 * The engine cannot know it, and its window is wrong then. */
static bool was_hit(const struct sim_delivery *d)
{
    const struct sim_message *m = &d->worker->world->messages[d->message];
    return m->strays || (m->stray_process != 0 && m->stray_process != d->worker->process);
}

/* Runs in the process that the worker belongs to; those that a drain's deadline gave up do not
 * count. */
static uint32_t process_running(const struct sim_worker *worker)
{
    const struct world *w = worker->world;
    uint32_t running = worker->running - worker->given_up;
    for (uint32_t i = 0; w->shared != NULL && i < w->config.workers; i++) {
        const struct sim_worker *other = &w->workers[i];
        if (other != worker && other->engine != NULL) {
            running += other->running - other->given_up;
        }
    }
    return running;
}

static void check_run(struct sim_delivery *d, const struct fw_command *command)
{
    struct sim_worker *worker = d->worker;
    struct world *w = worker->world;
    struct sim_seen *seen = &worker->seen[d->message];
    bool over = seen->succeeded || seen->published || seen->rejected || command->attempt == 1;
    if (over && was_hit(d)) { /* a copy that nobody could foresee, after its ack was OK */
        seen->succeeded = seen->published = seen->rejected = false;
        seen->tries = command->attempt - 1; /* whatever its engine still knows */
        seen->spaced_until = 0;
    }
    const struct sim_message *m = &w->messages[d->message];
    const struct fw_delivery_config *config = &worker->config;
    int64_t timeout = config->timeout > 0 ? config->timeout : config->visibility_timeout / 2;
    if (seen->running) {
        sim_fail(w, "w%u: #%u runs twice at once", worker->index, d->message);
    }
    if (config->lanes && worker->lane_running[m->lane] > 0) {
        sim_fail(w, "w%u: two of lane %u run at once", worker->index, m->lane);
    }
    if (worker->alone > 0 || (command->alone && process_running(worker) > 0)) {
        sim_fail(
            w, "w%u: #%u runs beside a suspect that is to run alone", worker->index, d->message);
    }
    if (command->alone != seen->suspect) {
        sim_fail(
            w, "w%u: #%u runs %s, it is %s suspect", worker->index, d->message,
            command->alone ? "alone" : "in company", seen->suspect ? "a" : "no");
    }
    if (w->config.max_running > 0 && process_running(worker) >= w->config.max_running) {
        sim_fail(w, "w%u: #%u is one run too many over all", worker->index, d->message);
    }
    if (worker->running >= config->concurrency) {
        sim_fail(w, "w%u: more runs than slots", worker->index);
    }
    if (w->now < seen->spaced_until) {
        sim_fail(w, "w%u: #%u runs before its backoff is over", worker->index, d->message);
    }
    if (command->attempt != seen->tries + 1) {
        sim_fail(
            w, "w%u: #%u runs as attempt %u, it is the %u", worker->index, d->message,
            command->attempt, seen->tries + 1);
    }
    if (seen->succeeded || seen->published) {
        sim_fail(w, "w%u: #%u runs again after it was done", worker->index, d->message);
    }
    if (bounded_tries(config) && config->retry_attempts > 0 &&
        (seen->tries >= config->retry_attempts || seen->rejected)) {
        sim_fail(w, "w%u: #%u runs more often than its tries", worker->index, d->message);
    }
    if (worker->draining || worker->paused) {
        sim_fail(w, "w%u: #%u starts although nothing should", worker->index, d->message);
    }
    if (command->deadline <= w->now || command->deadline > w->now + timeout ||
        command->deadline > seen->latest_read + config->visibility_timeout) {
        sim_fail(w, "w%u: #%u has a wrong deadline", worker->index, d->message);
    }
}

static void check_ack(struct sim_delivery *d)
{
    struct world *w = d->worker->world;
    struct sim_message *m = &w->messages[d->message];
    const struct sim_seen *seen = &d->worker->seen[d->message];
    const struct fw_delivery_config *config = &d->worker->config;
    bool exhausted = (config->retry_attempts > 0 && seen->tries >= config->retry_attempts) ||
                     (config->max_deliveries > 0 && seen->tries >= 2);
    if (config->dead_letter == FW_DEAD_LETTER_DROP &&
        (seen->rejected || exhausted || seen->crashes >= 2)) {
        m->dropped = true;
    } else if (!seen->succeeded && !seen->published) {
        sim_fail(w, "w%u: #%u is acked undone", d->worker->index, d->message);
    }
}

static void check_nack(struct sim_delivery *d, const struct fw_command *command)
{
    struct world *w = d->worker->world;
    const struct sim_seen *seen = &d->worker->seen[d->message];
    if (d->nack_unknown) {
        sim_fail(w, "w%u: #%u is nacked a second time", d->worker->index, d->message);
    }
    if (d->run != 0) {
        sim_fail(w, "w%u: #%u is nacked while it runs", d->worker->index, d->message);
    }
    if (w->config.no_lease_truth || was_hit(d)) {
        return;
    }
    if (w->now >= seen->lease_end) {
        sim_fail(
            w, "w%u: #%u is nacked %" PRId64 " us after its lease", d->worker->index, d->message,
            (w->now - seen->lease_end) / FILA_US);
    }
    if (command->deadline > seen->lease_end) {
        sim_fail(
            w, "w%u: #%u: the nack's deadline is %" PRId64 " us after its lease", d->worker->index,
            d->message, (command->deadline - seen->lease_end) / FILA_US);
    }
}

static void check_publish(struct sim_delivery *d, const struct fw_command *command)
{
    struct sim_worker *worker = d->worker;
    struct world *w = worker->world;
    const struct sim_seen *seen = &d->worker->seen[d->message];
    const struct fw_delivery_config *config = &d->worker->config;
    uint32_t enough = config->retry_attempts;
    if (config->max_deliveries > 0 && enough > 2) {
        enough = 2;
    }
    if (command->cause == FW_CAUSE_POISON) {
        w->figures.quarantined++;
        if (seen->crashes < 2) {
            sim_fail(w, "w%u: #%u is quarantined without reason", worker->index, d->message);
        }
    } else if (!seen->rejected && seen->tries < enough) {
        sim_fail(
            w, "w%u: #%u is dead-lettered after %u tries", d->worker->index, d->message,
            seen->tries);
    }
    if (!w->config.no_lease_truth && !was_hit(d) && w->now >= seen->lease_end) {
        sim_fail(w, "w%u: #%u is dead-lettered after its lease", d->worker->index, d->message);
    }
}

static void check_finish(struct sim_delivery *d, const struct fw_command *command)
{
    struct world *w = d->worker->world;
    bool at_the_end = d->worker->draining && w->now >= d->worker->drain_deadline;
    if (d->finished) {
        sim_fail(w, "w%u: #%u is finished twice", d->worker->index, d->message);
    }
    if ((d->run != 0 || d->asked) && !at_the_end) {
        sim_fail(
            w, "w%u: #%u is finished %s with something under way", d->worker->index, d->message,
            fw_outcome_name(command->outcome));
    }
}

void sim_check_command(struct sim_worker *worker, const struct fw_command *command)
{
    struct world *w = worker->world;
    struct sim_delivery *d = command->user;
    if (command->kind == FW_COMMAND_RUN ||
        (command->kind >= FW_COMMAND_ACK && command->kind <= FW_COMMAND_PUBLISH)) {
        if (d->run != 0 || d->asked || d->finished) {
            sim_fail(w, "w%u: #%u is in use already", worker->index, d->message);
        }
        if (command->deadline <= w->now && !worker->draining) {
            sim_fail(w, "w%u: #%u: the deadline is over", worker->index, d->message);
        }
    }
    switch (command->kind) {
    case FW_COMMAND_RUN:
        check_run(d, command);
        break;
    case FW_COMMAND_ACK:
        check_ack(d);
        break;
    case FW_COMMAND_NACK:
    case FW_COMMAND_REJECT:
        check_nack(d, command);
        break;
    case FW_COMMAND_PUBLISH:
        check_publish(d, command);
        break;
    case FW_COMMAND_FINISH:
        check_finish(d, command);
        break;
    default:
        break;
    }
}

/* The least that a message waits after its nth try. */
static int64_t least_backoff(const struct fw_delivery_config *config, uint32_t tries)
{
    int64_t wait = config->retry_first;
    for (uint32_t i = 1; i < tries && wait < config->retry_max; i++) {
        wait *= 2;
    }
    return (wait < config->retry_max ? wait : config->retry_max) / 2;
}

void sim_check_verdict(struct sim_delivery *d, const struct fw_verdict *verdict)
{
    struct sim_worker *worker = d->worker;
    struct world *w = worker->world;
    struct sim_seen *seen = &worker->seen[d->message];
    const struct fw_delivery_config *config = &worker->config;
    int64_t timeout = config->timeout > 0 ? config->timeout : config->visibility_timeout / 2;
    bool cut = d->cancelled ||
               (verdict->cause == FW_CAUSE_TIMEOUT && d->deadline < d->started + timeout);
    if (verdict->kind == FW_ACK) {
        seen->succeeded = true;
        w->messages[d->message].succeeded = true;
        return;
    }
    if (verdict->kind == FW_UNAVAILABLE || (cut && verdict->kind != FW_REJECT)) {
        return;
    }
    seen->tries++;
    seen->rejected |= verdict->kind == FW_REJECT;
    seen->spaced_until = w->now +
                         (verdict->delay > 0 ? verdict->delay : least_backoff(config, seen->tries));
    if (seen->tries > w->figures.most_tries) {
        w->figures.most_tries = seen->tries;
    }
}

static void check_bounds(struct sim_worker *worker)
{
    struct world *w = worker->world;
    struct fw_delivery_stats stats = fw_delivery_stats(worker->engine);
    uint32_t prefetch = worker->config.prefetch;
    if (prefetch == 0) {
        prefetch = worker->config.concurrency > 2 ? 2 * worker->config.concurrency : 4;
    }
    worker->flushed = worker->flushed || stats.flushing;
    if (!worker->flushed && w->config.reload_each == 0 && stats.prefetched > prefetch) {
        sim_fail(w, "w%u: %u read, %u allowed", worker->index, stats.prefetched, prefetch);
    }
    if (prefetch > worker->most_prefetch) { /* what was granted before a reload still comes */
        worker->most_prefetch = prefetch;
    }
    prefetch = worker->most_prefetch;
    if (!worker->flushed &&
        stats.held_bytes > worker->config.prefetch_bytes +
                               (uint64_t)w->config.size * (prefetch + 1 + stats.settling)) {
        sim_fail(w, "w%u: %" PRIu64 " bytes held", worker->index, stats.held_bytes);
    }
    if (worker->under_way > worker->config.settle_in_flight) {
        sim_fail(w, "w%u: too many settlements under way", worker->index);
    }
}

void sim_check_worker(struct sim_worker *worker)
{
    struct world *w = worker->world;
    uint32_t each = w->config.check_each > 0 ? w->config.check_each : 1;
    if (worker->engine != NULL && each > 1) {
        worker->flushed = worker->flushed || fw_delivery_stats(worker->engine).flushing;
    }
    if (worker->engine == NULL || w->figures.events % each != 0) {
        return;
    }
    const char *wrong = fw_delivery_check(worker->engine);
    if (wrong != NULL) {
        sim_fail(w, "w%u: %s", worker->index, wrong);
    }
    check_bounds(worker);
}

static void check_message(struct world *w, uint32_t index, bool one_process)
{
    const struct sim_message *m = &w->messages[index];
    if (w->over && !m->gone) {
        sim_fail(w, "#%u is not through", index);
    }
    if (m->there && !m->gone &&
        fq_find(w->broker, (fila_view){m->id, strlen(m->id)}, NULL) == FQ_GONE) {
        sim_fail(w, "#%u is lost", index);
    }
    if (w->config.state && m->killed > 3 * w->config.workers) {
        sim_fail(w, "#%u killed %u processes", index, m->killed);
    }
    if (one_process && !m->strays && m->copies > 1 + m->unknown_publishes) {
        sim_fail(
            w, "#%u has %u copies, %u publishes were of unknown outcome", index, m->copies,
            m->unknown_publishes);
    }
}

void sim_check_end(struct world *w)
{
    const struct sim_config *config = &w->config;
    bool one_process = config->workers == 1 && config->kill_each == 0 && config->drain_each == 0 &&
                       config->kills == 0;
    for (uint32_t i = 0; i < config->messages && !w->failed; i++) {
        check_message(w, i, one_process);
    }
    const char *wrong = fq_check(w->broker);
    if (wrong != NULL) {
        sim_fail(w, "the broker: %s", wrong);
    }
}

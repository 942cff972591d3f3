/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "run.h"

#include "base/clock.h"
#include "log/log.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static_assert((int)FW_ACK == FILA_ACK && (int)FW_RETRY == FILA_RETRY, "one numbering of verdicts");
static_assert((int)FW_REJECT == FILA_REJECT && FW_UNAVAILABLE == 3 && FILA_UNAVAILABLE == 3, "");

static uint64_t state_of(uint64_t generation, enum fw_phase phase)
{
    return generation << FW_PHASE_BITS | phase;
}

static enum fw_phase phase_of(uint64_t state)
{
    return (enum fw_phase)(state & FW_PHASE_MASK);
}

/* Under runs->mutex. */
static void set_phase(struct fw_run *run, enum fw_phase phase)
{
    atomic_store(&run->state, state_of(fw_run_generation(run), phase));
}

static char *take_text(char **text)
{
    char *taken = *text;
    *text = NULL;
    return taken;
}

/* ---- Messages that outlive their job ---- */

static void hold_release(struct fw_hold *hold)
{
    if (atomic_fetch_sub(&hold->refs, 1) == 1) {
        fila_message_free(hold->message);
        free(hold);
    }
}

void fw_job_free_message(struct fw_job *job)
{
    if (job->hold) {
        hold_release(job->hold);
        job->hold = NULL;
    } else {
        fila_message_free(job->message);
    }
    job->message = NULL;
}

/* One more owner of the job's message: this run. */
static bool hold_message(struct fw_run *run)
{
    struct fw_job *job = run->job;
    if (!job->hold) {
        job->hold = malloc(sizeof *job->hold);
        if (!job->hold) {
            return false;
        }
        *job->hold = (struct fw_hold){.message = job->message};
        atomic_init(&job->hold->refs, 1);
    }
    (void)atomic_fetch_add(&job->hold->refs, 1);
    run->hold = job->hold;
    return true;
}

/* Under runs->mutex: the handler of a lost run let go of it. */
static void let_go(struct fw_run *run)
{
    free(take_text(&run->reason));
    fw_outgoing_free(fw_outbox_take(&run->outbox, fw_run_generation(run)));
    hold_release(run->hold);
    run->hold = NULL;
    set_phase(run, FW_PHASE_IDLE);
    (void)atomic_fetch_sub(&run->runs->lost, 1);
}

/* ---- Verdicts ---- */

#define LOG_RUN(run, event, text, ...)                                                    \
    FW_LOG(                                                                               \
        event, text, fw_str("queue", (run)->runs->queue),                                 \
        fw_text("message_id", (fila_view){(run)->delivery->id, (run)->delivery->id_len}), \
        fw_int("attempt", (run)->delivery->attempt), __VA_ARGS__)

static char *late_reason(const struct fw_run *run, int64_t deadline)
{
    char text[96];
    (void)snprintf(
        text, sizeof text, "no verdict by its deadline of %" PRId64 " ms",
        (deadline - run->started) / FILA_MS);
    return strdup(text);
}

static enum fw_cause cause_of(const struct fw_run *run, int verdict, bool late)
{
    switch (verdict) {
    case FILA_ACK:
        return FW_CAUSE_NONE;
    case FILA_REJECT:
        return FW_CAUSE_REJECT;
    case FILA_UNAVAILABLE:
        return FW_CAUSE_UNAVAILABLE;
    default:
        if (run->cause == FILA_CAUSE_CRASH) {
            return FW_CAUSE_CRASH;
        }
        return late || run->cause == FILA_CAUSE_TIMEOUT ? FW_CAUSE_TIMEOUT : FW_CAUSE_RETRY;
    }
}

static int known_verdict(const struct fw_run *run, int verdict)
{
    if (verdict >= FILA_ACK && verdict <= FILA_UNAVAILABLE) {
        return verdict;
    }
    LOG_RUN(
        run, FW_EVENT_HANDLER_VERDICT, "the handler's answer is no verdict; taken as a retry",
        fw_int("verdict", verdict));
    return FILA_RETRY;
}

/* What was published is kept with an ack, else thrown away. */
static struct fw_outgoing *take_outbox(struct fw_run *run, bool keep)
{
    struct fw_outgoing *list = fw_outbox_take(&run->outbox, fw_run_generation(run));
    if (!keep) {
        fw_outgoing_free(list);
        list = NULL;
    }
    return list;
}

/* Fills the job's verdict. The run is the caller's alone. */
static void fill_verdict(struct fw_run *run, int verdict, char *reason, int64_t now)
{
    struct fw_job *job = run->job;
    int64_t deadline = atomic_load_explicit(&run->deadline, memory_order_relaxed);
    bool late = now >= deadline;
    verdict = known_verdict(run, verdict);
    job->verdict = (struct fw_verdict){
        .kind = (enum fw_verdict_kind)verdict,
        .cause = cause_of(run, verdict, late),
        .delay = verdict == FILA_RETRY || verdict == FILA_UNAVAILABLE ? run->delay : 0,
        .started = run->started,
        .ended = now,
    };
    if (late && verdict == FILA_ACK) { /* of failures the host logs the cause */
        LOG_RUN(
            run, FW_EVENT_HANDLER_TIMEOUT, "the handler succeeded after its deadline",
            fw_int("duration_ms", (now - run->started) / FILA_MS));
    }
    if (verdict == FILA_ACK) {
        free(reason);
        reason = NULL;
    } else if (!reason && late) {
        reason = late_reason(run, deadline);
    }
    job->reason = reason;
    job->outbox = take_outbox(run, verdict == FILA_ACK);
    atomic_store_explicit(&job->run, NULL, memory_order_relaxed);
}

void fw_job_refuse(struct fw_done_list *done, struct fw_job *job, const char *reason)
{
    job->verdict = (struct fw_verdict){.kind = FW_RETRY, .cause = FW_CAUSE_NONE};
    job->reason = strdup(reason);
    fw_done_push(done, job);
}

/* ---- The life of a run ---- */

static void fill_delivery(fila_delivery *delivery, const struct fw_job *job)
{
    fila_view queue = fila_message_queue(job->message);
    fila_view id = fila_message_id(job->message);
    fila_view payload = fila_message_payload(job->message);
    fila_view key = fila_message_fairness_key(job->message);
    delivery->attempt = job->attempt;
    delivery->queue = queue.data;
    delivery->queue_len = queue.len;
    delivery->id = id.data;
    delivery->id_len = id.len;
    delivery->payload = (const uint8_t *)payload.data;
    delivery->payload_len = payload.len;
    delivery->fairness_key = key.data;
    delivery->fairness_key_len = key.len;
    delivery->enqueued_ms = fila_message_enqueued_ms(job->message);
}

void fw_run_start(struct fw_run *run, struct fw_job *job, int64_t now)
{
    uint64_t generation = fw_run_generation(run) + 1;
    fila_delivery *delivery = &run->deliveries[generation % FW_RUN_DELIVERIES];
    fill_delivery(delivery, job);
    run->delivery = delivery;
    run->job = job;
    run->message = job->message;
    run->started = now;
    run->delay = 0;
    run->cause = 0;
    atomic_store_explicit(&run->deadline, job->deadline, memory_order_relaxed);
    job->generation = generation;
    atomic_store(&run->state, state_of(generation, FW_PHASE_RUNNING));
    atomic_store(&job->run, run);
    if (atomic_load(&job->cancelled)) {
        fw_run_cancel(run, generation);
    }
}

/* Under runs->mutex. */
static enum fw_run_after finish_slowly(struct fw_run *run, int verdict, struct fw_job **ret_job)
{
    switch (phase_of(atomic_load(&run->state))) {
    case FW_PHASE_RUNNING:
        if (verdict == FILA_DEFER) {
            set_phase(run, FW_PHASE_DEFERRED);
            fw_runs_defer(run);
            return FW_RUN_KEPT;
        }
        fill_verdict(
            run, verdict, take_text(&run->reason), fila_now()); /* not given up after all */
        *ret_job = run->job;
        set_phase(run, FW_PHASE_IDLE);
        return FW_RUN_OVER;
    case FW_PHASE_COMPLETED:
        if (verdict != FILA_DEFER) {
            LOG_RUN(
                run, FW_EVENT_HANDLER_VERDICT,
                "the handler completed the message and returned a verdict; the former counts",
                fw_int("verdict", verdict));
        }
        free(take_text(&run->reason));
        fill_verdict(run, run->verdict, take_text(&run->complete_reason), fila_now());
        *ret_job = run->job;
        set_phase(run, FW_PHASE_IDLE);
        fw_runs_put_spare(run);
        return FW_RUN_KEPT;
    case FW_PHASE_LOST:
        if (verdict == FILA_DEFER) {
            set_phase(run, FW_PHASE_LOST_DEFERRED);
            return FW_RUN_WAS_LOST_KEPT;
        }
        let_go(run);
        return FW_RUN_WAS_LOST;
    default: /* LOST_COMPLETED */
        let_go(run);
        return FW_RUN_WAS_LOST;
    }
}

enum fw_run_after fw_run_finish(struct fw_run *run, int verdict)
{
    uint64_t running = state_of(fw_run_generation(run), FW_PHASE_RUNNING);
    struct fw_runs *runs = run->runs;
    struct fw_job *job = NULL;

    if (verdict != FILA_DEFER &&
        atomic_compare_exchange_strong(
            &run->state, &running, state_of(running >> FW_PHASE_BITS, FW_PHASE_IDLE))) {
        job = run->job;
        fill_verdict(run, verdict, take_text(&run->reason), fila_now());
        fw_done_push(runs->done, job);
        return FW_RUN_OVER;
    }
    (void)pthread_mutex_lock(&runs->mutex);
    enum fw_run_after after = finish_slowly(run, verdict, &job);
    (void)pthread_mutex_unlock(&runs->mutex);
    if (job) {
        fw_done_push(runs->done, job);
    }
    return after;
}

void fw_run_cancel(struct fw_run *run, uint64_t generation)
{
    uint64_t before = atomic_load(&run->cancelled);
    while (before < generation &&
           !atomic_compare_exchange_weak(&run->cancelled, &before, generation)) {
    }
    if (atomic_load(&run->fd_armed) == generation) {
        (void)!write(run->cancel_fd, &(uint64_t){1}, sizeof(uint64_t));
    }
}

/* Under runs->mutex: the job of a run that is lost from now on goes back as a timeout. */
static void time_out(struct fw_run *run, int64_t now)
{
    struct fw_job *job = run->job;
    int64_t deadline = atomic_load_explicit(&run->deadline, memory_order_relaxed);
    job->verdict = (struct fw_verdict){
        .kind = FW_RETRY, .cause = FW_CAUSE_TIMEOUT, .started = run->started, .ended = now};
    job->reason = late_reason(run, deadline);
    atomic_store_explicit(&job->run, NULL, memory_order_relaxed);
    run->job = NULL;
    (void)atomic_fetch_add(&run->runs->lost, 1);
    fw_done_push(run->runs->done, job);
}

/* Under runs->mutex: as time_out, of a run that has a verdict by complete, but whose `handle` does
 * not return. */
static void end_completed(struct fw_run *run, int64_t now)
{
    struct fw_job *job = run->job;
    fill_verdict(run, run->verdict, take_text(&run->complete_reason), now);
    run->job = NULL;
    (void)atomic_fetch_add(&run->runs->lost, 1);
    fw_done_push(run->runs->done, job);
}

static void log_stuck(const struct fw_run *run, int64_t now)
{
    LOG_RUN(
        run, FW_EVENT_HANDLER_STUCK,
        "the handler does not return; its message is given up and a new thread takes its place",
        fw_int("duration_ms", (now - run->started) / FILA_MS));
}

bool fw_run_give_up(struct fw_run *run, uint64_t generation, int64_t now)
{
    struct fw_runs *runs = run->runs;
    uint64_t running = state_of(generation, FW_PHASE_RUNNING);
    bool given_up = false;

    (void)pthread_mutex_lock(&runs->mutex);
    /* Once it is LOST, the handler may return, but not end the run: it waits for the mutex. */
    if (atomic_compare_exchange_strong(
            &run->state, &running, state_of(generation, FW_PHASE_LOST))) {
        given_up = hold_message(run);
        if (given_up) {
            log_stuck(run, now);
            time_out(run, now);
        } else {
            set_phase(run, FW_PHASE_RUNNING);
        }
    } else if (running == state_of(generation, FW_PHASE_COMPLETED) && hold_message(run)) {
        given_up = true;
        log_stuck(run, now);
        set_phase(run, FW_PHASE_LOST_COMPLETED);
        end_completed(run, now);
    }
    (void)pthread_mutex_unlock(&runs->mutex);
    return given_up;
}

bool fw_run_give_up_deferred(struct fw_run *run, int64_t now)
{
    if (!hold_message(run)) {
        return false;
    }
    set_phase(run, FW_PHASE_LOST_DEFERRED);
    time_out(run, now);
    fw_runs_undefer(run);
    return true;
}

/* Under runs->mutex. 0 = taken; *ret_job is to be pushed. */
static int complete_locked(
    const fila_delivery *delivery,
    int verdict,
    char **reason,
    struct fw_job **ret_job)
{
    struct fw_run *run = fw_run_of(delivery);
    uint64_t state = atomic_load(&run->state);
    uint64_t generation = state >> FW_PHASE_BITS;
    if (delivery != &run->deliveries[generation % FW_RUN_DELIVERIES]) {
        return -1; /* an earlier one: it is long over */
    }
    switch (phase_of(state)) {
    case FW_PHASE_RUNNING:
        if (!atomic_compare_exchange_strong(
                &run->state, &state, state_of(generation, FW_PHASE_COMPLETED))) {
            return -1; /* `handle` has just returned a verdict */
        }
        run->verdict = verdict;
        run->complete_reason = take_text(reason);
        return 0;
    case FW_PHASE_DEFERRED:
        free(take_text(&run->reason));
        fill_verdict(run, verdict, take_text(reason), fila_now());
        *ret_job = run->job;
        set_phase(run, FW_PHASE_IDLE);
        fw_runs_undefer(run);
        fw_runs_put_spare(run);
        return 0;
    case FW_PHASE_LOST:
        set_phase(run, FW_PHASE_LOST_COMPLETED);
        return -1;
    case FW_PHASE_LOST_DEFERRED:
        let_go(run);
        fw_runs_put_spare(run);
        return -1;
    default:
        return -1;
    }
}

int fw_run_publish(const fila_delivery *delivery, const fila_publication *publication)
{
    struct fw_run *run = fw_run_of(delivery);
    uint64_t state = atomic_load(&run->state);
    uint64_t generation = state >> FW_PHASE_BITS;
    enum fw_phase phase = phase_of(state);
    struct fw_outgoing *outgoing = NULL;
    if (delivery != &run->deliveries[generation % FW_RUN_DELIVERIES] ||
        (phase != FW_PHASE_RUNNING && phase != FW_PHASE_DEFERRED)) {
        return FILA_PUBLISH_OVER;
    }
    int result = fw_outgoing_make(publication, run->message, &outgoing);
    if (result == FILA_PUBLISH_TAKEN && !fw_outbox_add(&run->outbox, generation, outgoing)) {
        fw_outgoing_free(outgoing);
        result = FILA_PUBLISH_TOO_LARGE;
    }
    return result;
}

int fw_run_complete(const fila_delivery *delivery, int verdict, const char *reason)
{
    struct fw_runs *runs = fw_run_of(delivery)->runs;
    char *copy = fw_reason_copy(reason);
    struct fw_job *job = NULL;

    (void)pthread_mutex_lock(&runs->mutex);
    int result = complete_locked(delivery, verdict, &copy, &job);
    if (job) {
        fw_done_push(runs->done, job);
    }
    (void)pthread_mutex_unlock(&runs->mutex);
    free(copy);
    return result;
}

/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "base/error.h"
#include "broker.h"
#include "commit.h"

#include <stdlib.h>
#include <utlist.h>

#define NO_LIMIT UINT64_MAX

static void tell(struct fb_consumer *consumer)
{
    consumer->told = true;
    consumer->events->ready(consumer->user);
}

static bool may_take(const struct fb_consumer *consumer)
{
    return !consumer->ended && consumer->left > 0 && consumer->quiet_until == 0;
}

void fb_streams_notify(fila_broker *broker)
{
    struct fq_consumer *slots;
    while ((slots = fq_next_ready(broker->engine))) {
        struct fb_consumer *consumer = fq_consumer_user(slots);
        if (consumer->late) {
            consumer->quiet_until = 0; /* what is not late overtakes */
        }
        if (may_take(consumer) && !consumer->told) {
            tell(consumer);
        }
    }
}

int64_t fb_streams_wake(fila_broker *broker, int64_t now)
{
    struct fb_consumer *consumer;
    int64_t next = FILA_NEVER;
    DL_FOREACH(broker->consumers, consumer)
    {
        if (consumer->quiet_until == 0) {
            continue;
        }
        if (consumer->quiet_until > now) {
            next = consumer->quiet_until < next ? consumer->quiet_until : next;
            continue;
        }
        consumer->quiet_until = 0;
        if (may_take(consumer) && !consumer->told) {
            tell(consumer);
        }
    }
    return next;
}

void fb_streams_move(fila_broker *broker)
{
    struct fb_consumer *consumer;
    DL_FOREACH(broker->consumers, consumer)
    {
        fila_view queue;
        struct fq_consumer *slots = NULL;
        if (!consumer->slots) {
            continue;
        }
        queue = fq_consumer_queue(consumer->slots);
        if (fq_consumer_open(broker->engine, fila_now(), queue, consumer, &slots) != FILA_OK) {
            (void)fila_fail(&consumer->end, FILA_NO_MEMORY, "no memory for a consumer");
            consumer->ended = true;
            tell(consumer);
        }
        consumer->slots = slots;
    }
}

/* Forgets the slots; their leases stay. Lock held. */
static void unregister(struct fb_consumer *consumer)
{
    if (consumer->slots) {
        fq_consumer_close(consumer->broker->engine, fila_now(), consumer->slots);
        consumer->slots = NULL;
    }
}

/* `consumer->end` is set. Lock held. */
static void end_stream(struct fb_consumer *consumer)
{
    if (!consumer->ended) {
        consumer->ended = true;
        unregister(consumer);
        tell(consumer);
    }
}

void fb_streams_end(fila_broker *broker)
{
    struct fb_consumer *consumer;
    DL_FOREACH(broker->consumers, consumer)
    {
        if (!consumer->ended) {
            (void)fb_refuse(
                &consumer->end, FILA_BROKER_UNAVAILABLE, fila_view_of("the broker was closed"));
            end_stream(consumer);
        }
    }
}

/* What the fault that its Consume met makes of a stream. */
static void apply_fault(struct fb_consumer *consumer, const fila_fault *fault, int64_t now)
{
    consumer->left = NO_LIMIT;
    switch (fault->kind) {
    case FILA_FAULT_DELAY:
        consumer->quiet_until = now + (int64_t)fault->delay_ms * FILA_MS;
        break;
    case FILA_FAULT_CUT:
        consumer->cut = true;
        consumer->left = fault->after_messages;
        (void)fila_fail_wire(
            &consumer->end, FILA_CALL_CONSUME, fault->wire_code,
            fila_view_of(fault->wire_code ? "scripted fault" : ""));
        break;
    case FILA_FAULT_FREEZE:
        consumer->left = fault->after_messages;
        break;
    case FILA_FAULT_LATE:
        consumer->late = fb_late_new(fault); /* without memory nothing is late */
        break;
    case FILA_FAULT_STALL: /* has been */
    case FILA_FAULT_CRASH:
    case FILA_FAULT_CRASH_AFTER:
    case FILA_FAULT_ERROR:
    case FILA_FAULT_LOSE_REPLY:
    case FILA_FAULT_HANG:
    case FILA_FAULT_HALF_OPEN: /* the front end's */
    default:
        break;
    }
}

/* Registers the consumer with the engine, as far as its fault lets it. Lock held. */
static fila_status start(
    struct fb_consumer *consumer,
    fila_view queue,
    const fila_fault *fault,
    fila_error *reterr)
{
    fila_broker *broker = consumer->broker;
    int64_t now = fila_now();
    apply_fault(consumer, fault, now);
    if (fault->kind != FILA_FAULT_HANG &&
        fq_consumer_open(broker->engine, now, queue, consumer, &consumer->slots) != FILA_OK) {
        return fila_fail(reterr, FILA_NO_MEMORY, "no memory for a consumer");
    }
    if (fault->kind == FILA_FAULT_CRASH_AFTER) {
        fb_crash();
    }
    if (fault->kind == FILA_FAULT_LOSE_REPLY) {
        unregister(consumer);
        return fila_fail_wire(
            reterr, FILA_CALL_CONSUME, fault->wire_code, fila_view_of("scripted fault"));
    }
    DL_APPEND(broker->consumers, consumer);
    return FILA_OK;
}

static fila_status open_locked(
    struct fb_consumer *consumer,
    fila_view queue,
    struct fb_consumer **ret_consumer,
    fila_error *reterr)
{
    fila_broker *broker = consumer->broker;
    fila_fault fault = fb_faults_use(broker, FILA_CALL_CONSUME, queue);
    fila_status status;
    if (broker->closed) {
        return fb_refuse(reterr, FILA_BROKER_UNAVAILABLE, fila_view_of("the broker was closed"));
    }
    if (fault.kind == FILA_FAULT_ERROR) {
        return fila_fail_wire(
            reterr, FILA_CALL_CONSUME, fault.wire_code, fila_view_of("scripted fault"));
    }
    status = fb_check_queue(queue, reterr);
    if (status == FILA_OK && broker->commit) {
        status = fb_commit_check(broker->commit, reterr);
    }
    if (status == FILA_OK) {
        status = start(consumer, queue, &fault, reterr);
    }
    if (status == FILA_OK) {
        *ret_consumer = consumer;
        if (consumer->cut && consumer->left == 0) {
            end_stream(consumer);
        }
        if (consumer->quiet_until) {
            fb_alarm(broker, consumer->quiet_until);
        }
    }
    fb_settle(broker);
    return status;
}

fila_status fb_consumer_open(
    fila_broker *broker,
    fila_view queue,
    const struct fb_consumer_events *events,
    void *user,
    struct fb_consumer **ret_consumer,
    fila_error *reterr)
{
    struct fb_consumer *consumer = calloc(1, sizeof *consumer);
    fila_status status;
    if (!consumer) {
        return fila_fail(reterr, FILA_NO_MEMORY, "no memory for a consumer");
    }
    consumer->broker = broker;
    consumer->events = events;
    consumer->user = user;
    status = fb_enter(broker, reterr);
    if (status == FILA_OK) {
        (void)pthread_mutex_lock(&broker->lock);
        status = open_locked(consumer, queue, ret_consumer, reterr);
        (void)pthread_mutex_unlock(&broker->lock);
        fb_leave(broker);
    }
    if (status != FILA_OK) {
        fb_late_free(consumer->late);
        free(consumer);
    }
    /* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): the list of consumers has it */
    return status;
}

static void fill_delivery(const struct fq_delivery *taken, struct fb_delivery *ret_delivery)
{
    ret_delivery->fields = taken->fields;
    ret_delivery->ref = taken->message;
    ret_delivery->lease_end = taken->lease_end;
}

/* The next message, unless it is late: then the stream is quiet until it is due. */
static bool take(struct fb_consumer *consumer, struct fq_delivery *ret_taken)
{
    int64_t due = FILA_NEVER;
    if (!consumer->late) {
        return fq_take(consumer->slots, ret_taken);
    }
    if (fb_late_take(consumer->late, consumer->slots, fila_now(), ret_taken, &due)) {
        return true;
    }
    if (due != FILA_NEVER) {
        consumer->quiet_until = due;
        fb_alarm(consumer->broker, due);
    }
    return false;
}

static enum fb_take take_locked(
    struct fb_consumer *consumer,
    struct fb_delivery *ret_delivery,
    fila_error *ret_end)
{
    struct fq_delivery taken;
    if (consumer->ended) {
        *ret_end = consumer->end;
        return FB_TAKE_END;
    }
    if (!may_take(consumer) || !consumer->slots || !take(consumer, &taken)) {
        consumer->told = false;
        return FB_TAKE_EMPTY;
    }
    fill_delivery(&taken, ret_delivery);
    if (consumer->left != NO_LIMIT) {
        consumer->left--;
    }
    if (consumer->cut && consumer->left == 0) {
        end_stream(consumer);
    }
    return FB_TAKE_MESSAGE;
}

enum fb_take fb_consumer_take(
    struct fb_consumer *consumer,
    struct fb_delivery *ret_delivery,
    fila_error *ret_end)
{
    fila_broker *broker = consumer->broker;
    enum fb_take what;
    (void)pthread_mutex_lock(&broker->lock);
    what = take_locked(consumer, ret_delivery, ret_end);
    fb_settle(broker);
    (void)pthread_mutex_unlock(&broker->lock);
    return what;
}

bool fb_consumer_ended(struct fb_consumer *consumer, fila_error *ret_end)
{
    fila_broker *broker = consumer->broker;
    bool ended;
    (void)pthread_mutex_lock(&broker->lock);
    ended = consumer->ended;
    if (ended) {
        *ret_end = consumer->end;
    }
    (void)pthread_mutex_unlock(&broker->lock);
    return ended;
}

void fb_delivery_release(struct fb_delivery *delivery)
{
    fq_message_unref(delivery->ref);
    delivery->ref = NULL;
}

void fb_consumer_close(struct fb_consumer *consumer)
{
    fila_broker *broker = consumer->broker;
    (void)pthread_mutex_lock(&broker->lock);
    unregister(consumer);
    DL_DELETE(broker->consumers, consumer);
    fb_late_free(consumer->late);
    fb_settle(broker);
    (void)pthread_mutex_unlock(&broker->lock);
    free(consumer);
}

/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "server/fake_broker.h"

#include "base/error.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

struct call {
    struct call *next;
    fb_reply_fn on_reply;
    void *user;
    fila_call kind;
};

struct batch {
    struct batch *next;
    size_t count;
    size_t payload;
};

struct fb_consumer {
    struct fb_consumer *next;
    struct fila_broker *fake;
    struct fb_consumer_events events;
    void *user;
    char queue[64];
    struct batch *batches;
    size_t taken;
    bool told; /* `ready` was called, and take has not said empty since */
    bool has_end;
    fila_error end;
};

struct message {
    struct fila_broker *fake;
    char id[40];
    char payload[];
};

struct fila_broker {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    pthread_t thread;
    bool stop;
    bool closed;
    struct call *late;
    struct call *held;
    size_t held_count;
    size_t answered;
    fila_error fail;
    struct fb_consumer *consumers;
    size_t consumer_count;
    size_t outstanding;
    size_t taken;
    bool gate;     /* calls of "gate" do not return */
    bool at_gate;  /* one is there */
    size_t served; /* calls, in the order of `order` */
    char order[FAKE_ORDER];
};

static _Noreturn void fatal(const char *what)
{
    (void)fprintf(stderr, "fake broker: %s\n", what);
    abort();
}

static bool named(fila_view view, const char *name)
{
    return view.len == strlen(name) && memcmp(view.data, name, view.len) == 0;
}

static _Noreturn struct fila_broker *no_broker(void)
{
    fatal("no broker");
}

/* ---- Calls ---- */

static void answer(struct fila_broker *fake, const struct call *call, fila_status code)
{
    fila_reply reply = {.call = call->kind};
    fila_error error = FILA_ERROR_INIT;
    if (code == FILA_OK) {
        pthread_mutex_lock(&fake->lock);
        fake->answered++;
        pthread_mutex_unlock(&fake->lock);
        if (call->kind == FILA_CALL_ENQUEUE) {
            reply.as.enqueue.message_id = fila_view_of("01890a5d-ac96-774b-bcce-b302099a8057");
        }
    } else {
        (void)fila_fail(&error, code, "closed");
    }
    call->on_reply(call->user, &reply, &error);
}

static void *late_thread(void *arg)
{
    struct fila_broker *fake = arg;
    pthread_mutex_lock(&fake->lock);
    while (!fake->stop || fake->late) {
        struct call *call = fake->late;
        if (!call) {
            pthread_cond_wait(&fake->changed, &fake->lock);
            continue;
        }
        fake->late = call->next;
        pthread_mutex_unlock(&fake->lock);
        answer(fake, call, FILA_OK);
        free(call);
        pthread_mutex_lock(&fake->lock);
    }
    pthread_mutex_unlock(&fake->lock);
    return NULL;
}

/* Keeps a call for later; false if the broker is closed. */
static bool keep(struct fila_broker *fake, struct call call, struct call **list)
{
    struct call *copy = malloc(sizeof *copy);
    if (!copy) {
        fatal("no memory");
    }
    *copy = call;
    pthread_mutex_lock(&fake->lock);
    bool closed = fake->closed;
    if (!closed) {
        copy->next = *list;
        *list = copy;
        fake->held_count += list == &fake->held;
        pthread_cond_broadcast(&fake->changed);
    }
    pthread_mutex_unlock(&fake->lock);
    if (closed) {
        free(copy);
    }
    return !closed;
}

static fila_view queue_of(const fila_request *request)
{
    switch (request->call) {
    case FILA_CALL_ENQUEUE:
        return request->as.enqueue.queue;
    case FILA_CALL_ACK:
    case FILA_CALL_NACK:
        return request->as.settle.queue;
    case FILA_CALL_DELETE_QUEUE:
    case FILA_CALL_GET_STATS:
        return request->as.queue.queue;
    default:
        return fila_view_of("");
    }
}

/* Notes the call by the first letter of its queue, and keeps it at the gate. */
static void note(struct fila_broker *fake, fila_view queue)
{
    pthread_mutex_lock(&fake->lock);
    if (fake->served < FAKE_ORDER && queue.len) {
        fake->order[fake->served++] = queue.data[0];
    }
    fake->at_gate |= named(queue, "gate") && fake->gate;
    pthread_cond_broadcast(&fake->changed);
    while (named(queue, "gate") && fake->gate) {
        pthread_cond_wait(&fake->changed, &fake->lock);
    }
    pthread_mutex_unlock(&fake->lock);
}

void fake_gate(struct fila_broker *fake, bool closed)
{
    pthread_mutex_lock(&fake->lock);
    fake->gate = closed;
    pthread_cond_broadcast(&fake->changed);
    pthread_mutex_unlock(&fake->lock);
}

void fake_wait_gate(struct fila_broker *fake)
{
    pthread_mutex_lock(&fake->lock);
    while (!fake->at_gate) {
        pthread_cond_wait(&fake->changed, &fake->lock);
    }
    pthread_mutex_unlock(&fake->lock);
}

size_t fake_order(struct fila_broker *fake, char *ret_order)
{
    pthread_mutex_lock(&fake->lock);
    size_t served = fake->served;
    memcpy(ret_order, fake->order, served);
    pthread_mutex_unlock(&fake->lock);
    return served;
}

void fb_call(fila_broker *broker, const fila_request *request, fb_reply_fn on_reply, void *user)
{
    struct fila_broker *fake = broker ? broker : no_broker();
    note(fake, queue_of(request));
    struct call call = {NULL, on_reply, user, request->call};
    fila_view queue = queue_of(request);
    struct call **list = named(queue, "late")   ? &fake->late
                         : named(queue, "held") ? &fake->held
                                                : NULL;
    if (named(queue, "fail")) {
        on_reply(user, NULL, &fake->fail);
    } else if (!list) {
        answer(fake, &call, FILA_OK);
    } else if (!keep(fake, call, list)) {
        answer(fake, &call, FILA_BROKER_UNAVAILABLE);
    }
}

void fake_answer_held(struct fila_broker *fake, fila_status code)
{
    pthread_mutex_lock(&fake->lock);
    struct call *call = fake->held;
    fake->held = NULL;
    fake->held_count = 0;
    pthread_mutex_unlock(&fake->lock);
    for (struct call *next; call; call = next) {
        next = call->next;
        answer(fake, call, code);
        free(call);
    }
}

void fake_close(struct fila_broker *fake)
{
    pthread_mutex_lock(&fake->lock);
    fake->closed = true;
    pthread_mutex_unlock(&fake->lock);
    fake_answer_held(fake, FILA_BROKER_UNAVAILABLE);
}

void fake_fail_with(struct fila_broker *fake, const fila_error *error)
{
    fake->fail = *error;
}

bool fb_meets_half_open(
    fila_broker *broker,
    const fila_request *request,
    struct fb_half_open *ret_how)
{
    (void)broker;
    (void)request;
    (void)ret_how;
    return false;
}

/* ---- Consumers ---- */

fila_status fb_consumer_open(
    fila_broker *broker,
    fila_view queue,
    const struct fb_consumer_events *events,
    void *user,
    struct fb_consumer **ret_consumer,
    fila_error *reterr)
{
    struct fila_broker *fake = broker ? broker : no_broker();
    struct fb_consumer *consumer = calloc(1, sizeof *consumer);
    if (!consumer || queue.len >= sizeof consumer->queue) {
        fatal("no consumer");
    }
    if (named(queue, "fail")) {
        free(consumer);
        *reterr = fake->fail;
        return reterr->code;
    }
    consumer->fake = fake;
    consumer->events = *events;
    consumer->user = user;
    memcpy(consumer->queue, queue.data, queue.len);
    pthread_mutex_lock(&fake->lock);
    consumer->next = fake->consumers;
    fake->consumers = consumer;
    fake->consumer_count++;
    pthread_cond_broadcast(&fake->changed);
    pthread_mutex_unlock(&fake->lock);
    *ret_consumer = consumer;
    return FILA_OK;
}

static void fill(struct fb_consumer *consumer, size_t payload, struct fb_delivery *ret)
{
    struct message *message = malloc(sizeof *message + payload);
    if (!message) {
        fatal("no memory");
    }
    message->fake = consumer->fake;
    (void)snprintf(
        message->id, sizeof message->id, "00000000-0000-7000-8000-%012zu", consumer->taken);
    for (size_t i = 0; i < payload; i++) {
        message->payload[i] = (char)((i * 7 + consumer->taken) & 255);
    }
    consumer->taken++;
    consumer->fake->outstanding++;
    consumer->fake->taken++;
    *ret = (struct fb_delivery){
        .fields =
            {
                .id = fila_view_of(message->id),
                .queue = fila_view_of(consumer->queue),
                .fairness_key = fila_view_of("default"),
                .payload = {message->payload, payload},
                .weight = 1,
            },
        .ref = message,
    };
}

enum fb_take fb_consumer_take(
    struct fb_consumer *consumer,
    struct fb_delivery *ret_delivery,
    fila_error *ret_end)
{
    enum fb_take what = FB_TAKE_EMPTY;
    pthread_mutex_lock(&consumer->fake->lock);
    struct batch *batch = consumer->batches;
    if (batch) {
        fill(consumer, batch->payload, ret_delivery);
        if (--batch->count == 0) {
            consumer->batches = batch->next;
            free(batch);
        }
        what = FB_TAKE_MESSAGE;
    } else if (consumer->has_end) {
        *ret_end = consumer->end;
        what = FB_TAKE_END;
    } else {
        consumer->told = false;
    }
    pthread_mutex_unlock(&consumer->fake->lock);
    return what;
}

void fb_delivery_release(struct fb_delivery *delivery)
{
    struct message *message = delivery->ref;
    struct fila_broker *fake = message->fake;
    pthread_mutex_lock(&fake->lock);
    fake->outstanding--;
    pthread_cond_broadcast(&fake->changed);
    pthread_mutex_unlock(&fake->lock);
    memset(message->payload, 0xEE, delivery->fields.payload.len); /* a late reader will be seen */
    free(message);
}

void fb_consumer_close(struct fb_consumer *consumer)
{
    struct fila_broker *fake = consumer->fake;
    pthread_mutex_lock(&fake->lock);
    struct fb_consumer **at = &fake->consumers;
    while (*at && *at != consumer) {
        at = &(*at)->next;
    }
    if (!*at) {
        fatal("a consumer was closed twice");
    }
    *at = consumer->next;
    fake->consumer_count--;
    pthread_cond_broadcast(&fake->changed);
    pthread_mutex_unlock(&fake->lock);
    for (struct batch *batch = consumer->batches, *next; batch; batch = next) {
        next = batch->next;
        free(batch);
    }
    free(consumer);
}

static void tell(struct fb_consumer *consumer)
{
    if (!consumer->told) {
        consumer->told = true;
        consumer->events.ready(consumer->user);
    }
}

void fake_push(struct fila_broker *fake, const char *queue, size_t count, size_t payload)
{
    pthread_mutex_lock(&fake->lock);
    for (struct fb_consumer *to = fake->consumers; to; to = to->next) {
        struct batch *batch = calloc(1, sizeof *batch);
        struct batch **last = &to->batches;
        if (!batch) {
            fatal("no memory");
        }
        if (strcmp(to->queue, queue) != 0) {
            free(batch);
            continue;
        }
        while (*last) {
            last = &(*last)->next;
        }
        *batch = (struct batch){NULL, count, payload};
        *last = batch;
        tell(to);
    }
    pthread_mutex_unlock(&fake->lock);
}

void fake_end(struct fila_broker *fake, const char *queue, const fila_error *how)
{
    pthread_mutex_lock(&fake->lock);
    for (struct fb_consumer *to = fake->consumers; to; to = to->next) {
        if (strcmp(to->queue, queue) == 0) {
            to->has_end = true;
            to->end = *how;
            tell(to);
        }
    }
    pthread_mutex_unlock(&fake->lock);
}

/* ---- Life ---- */

struct fila_broker *fake_new(void)
{
    struct fila_broker *fake = calloc(1, sizeof *fake);
    if (!fake) {
        fatal("no memory");
    }
    pthread_mutex_init(&fake->lock, NULL);
    pthread_cond_init(&fake->changed, NULL);
    if (pthread_create(&fake->thread, NULL, late_thread, fake)) {
        fatal("no thread");
    }
    return fake;
}

void fake_free(struct fila_broker *fake)
{
    pthread_mutex_lock(&fake->lock);
    fake->stop = true;
    pthread_cond_broadcast(&fake->changed);
    pthread_mutex_unlock(&fake->lock);
    pthread_join(fake->thread, NULL);
    (void)fake_wait_outstanding(fake, 0); /* gRPC's own threads may hold some a moment longer */
    if (fake->outstanding || fake->consumer_count || fake->held_count) {
        fatal("the server has not given everything back");
    }
    pthread_cond_destroy(&fake->changed);
    pthread_mutex_destroy(&fake->lock);
    free(fake);
}

/* ---- Counts ---- */

static size_t count_of(struct fila_broker *fake, const size_t *number)
{
    pthread_mutex_lock(&fake->lock);
    size_t value = *number;
    pthread_mutex_unlock(&fake->lock);
    return value;
}

size_t fake_calls(struct fila_broker *fake)
{
    return count_of(fake, &fake->answered);
}

size_t fake_held(struct fila_broker *fake)
{
    return count_of(fake, &fake->held_count);
}

size_t fake_outstanding(struct fila_broker *fake)
{
    return count_of(fake, &fake->outstanding);
}

size_t fake_consumers(struct fila_broker *fake)
{
    return count_of(fake, &fake->consumer_count);
}

size_t fake_taken(struct fila_broker *fake)
{
    return count_of(fake, &fake->taken);
}

/* ---- Waiting ---- */

static bool wait_until(struct fila_broker *fake, const size_t *number, size_t value)
{
    struct timespec until;
    int late = 0;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 10;
    pthread_mutex_lock(&fake->lock);
    while (*number != value && !late) {
        late = pthread_cond_timedwait(&fake->changed, &fake->lock, &until);
    }
    bool reached = *number == value;
    pthread_mutex_unlock(&fake->lock);
    return reached;
}

bool fake_wait_held(struct fila_broker *fake, size_t count)
{
    return wait_until(fake, &fake->held_count, count);
}

bool fake_wait_consumers(struct fila_broker *fake, size_t count)
{
    return wait_until(fake, &fake->consumer_count, count);
}

bool fake_wait_outstanding(struct fila_broker *fake, size_t count)
{
    return wait_until(fake, &fake->outstanding, count);
}

/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "service.h"

#include "base/error.h"
#include "broker.h"
#include "commit.h"

#include <stdio.h>
#include <stdlib.h>
#include <utlist.h>

#define CONFIG_KEY_MAX    256
#define CONFIG_VALUE_MAX  1024
#define VISIBILITY_MIN_MS 1000

/* ---- Refusals ---- */

/* The longest part of `text` that fits and ends with a whole UTF-8 character. */
static size_t fitting(fila_view text, size_t room)
{
    size_t len = text.len;
    if (len > room) {
        len = room;
        while (len > 0 && ((unsigned char)text.data[len] & 0xc0) == 0x80) {
            len--;
        }
    }
    return len;
}

fila_status fb_refuse(fila_error *reterr, fila_status code, fila_view text)
{
    if (reterr) {
        size_t len = fitting(text, sizeof reterr->text - 1);
        (void)fila_fail(reterr, code, "%s", "");
        reterr->wire_code = fila_wire_code(code);
        if (len) {
            memcpy(reterr->text, text.data, len);
        }
        reterr->text[len] = '\0';
    }
    return code;
}

static fila_status malformed(fila_error *reterr, const char *text)
{
    return fb_refuse(reterr, FILA_INVALID_ARGUMENT, fila_view_of(text));
}

static fila_status too_long(fila_error *reterr, const char *what, size_t len, size_t max)
{
    char text[FILA_ERROR_TEXT];
    (void)snprintf(text, sizeof text, "%s of %zu bytes: at most %zu are allowed", what, len, max);
    return malformed(reterr, text);
}

static fila_status no_memory(fila_error *reterr)
{
    return fb_refuse(reterr, FILA_NO_MEMORY, fila_view_of("the broker is out of memory"));
}

fila_status fb_check_queue(fila_view queue, fila_error *reterr)
{
    if (queue.len == 0) {
        return malformed(reterr, "the queue name is empty");
    }
    if (queue.len > FB_NAME_MAX) {
        return too_long(reterr, "a queue name", queue.len, FB_NAME_MAX);
    }
    return FILA_OK;
}

/* ---- One call ---- */

/* A call on its way: what it asks, and what it is answered with. */
struct call {
    fila_broker *broker;
    const fila_request *request;
    fila_status status;
    fila_reply reply;
    fila_error error;
    struct fq_message *message; /* ENQUEUE: made before the lock is taken */
    struct fb_scripts *scripts; /* CREATE_QUEUE: the same; the queue's once it is created */
    fila_status script_status;  /* whether they compile: told when all else is well */
    void *block;                /* what `reply` points into; freed after the answer */
    char id[FQ_ID_SIZE];
    char value[CONFIG_VALUE_MAX]; /* not cleared for each call, nor what follows */
    fila_error script_error;
};

/* What the engine said, in words (contract A2: often just a name). */
static fila_status outcome(struct call *call, fila_status status, fila_view text)
{
    if (status == FILA_NO_MEMORY) {
        return no_memory(&call->error);
    }
    return status == FILA_OK ? FILA_OK : fb_refuse(&call->error, status, text);
}

/* ---- Enqueue, ack, nack ---- */

static fila_status check_enqueue(struct call *call)
{
    const fila_request *request = call->request;
    struct fq_enqueue in = {
        request->as.enqueue.queue, request->as.enqueue.headers, request->as.enqueue.header_count,
        request->as.enqueue.payload};
    fila_status status = fb_check_queue(in.queue, &call->error);
    if (status != FILA_OK) {
        return status;
    }
    call->message = fq_message_new(&in);
    return call->message ? FILA_OK : no_memory(&call->error);
}

static fila_status run_enqueue(struct call *call, int64_t now)
{
    fila_status status =
        fq_enqueue_made(call->broker->engine, now, fila_wall_ms(), call->message, call->id);
    if (status == FILA_OK) {
        call->message = NULL;
        call->reply.as.enqueue.message_id = fila_view_of(call->id);
    }
    return outcome(call, status, call->request->as.enqueue.queue);
}

static fila_status check_settle(struct call *call)
{
    fila_view id = call->request->as.settle.message_id;
    uint8_t parsed[16];
    fila_status status = fb_check_queue(call->request->as.settle.queue, &call->error);
    if (status != FILA_OK) {
        return status;
    }
    if (id.len == 0) {
        return malformed(&call->error, "the message id is empty");
    }
    return fq_id_parse(id, parsed) ? FILA_OK : malformed(&call->error, "the message id is no UUID");
}

static fila_status run_settle(struct call *call, int64_t now)
{
    const fila_request *request = call->request;
    fila_view queue = request->as.settle.queue;
    fila_view id = request->as.settle.message_id;
    struct fq_engine *engine = call->broker->engine;
    char text[FILA_ERROR_TEXT] = "";
    fila_status status = request->call == FILA_CALL_ACK
                             ? fq_ack(engine, now, queue, id)
                             : fq_nack(engine, now, queue, id, request->as.settle.error);
    if (status == FILA_MESSAGE_NOT_FOUND) {
        int room = (int)fitting(queue, 150);
        (void)snprintf(
            text, sizeof text, "message %.*s has no lease in queue %.*s", (int)id.len, id.data,
            room, queue.data);
    }
    return outcome(call, status, fila_view_of(text));
}

/* ---- Queues ---- */

static fila_status check_create(struct call *call)
{
    const fila_request *request = call->request;
    uint64_t visibility = request->as.create_queue.visibility_timeout_ms;
    if (request->as.create_queue.name.len == 0) {
        return malformed(&call->error, "the queue name is empty");
    }
    if (request->as.create_queue.name.len > FB_NAME_MAX) {
        return fb_check_queue(request->as.create_queue.name, &call->error);
    }
    if (visibility != 0 && visibility < VISIBILITY_MIN_MS) {
        return malformed(&call->error, "visibility_timeout_ms must be 0 or at least 1000");
    }
    call->script_status = fb_lua_compile(
        call->broker->lua, request->as.create_queue.on_enqueue_script,
        request->as.create_queue.on_failure_script, &call->scripts, &call->script_error);
    return FILA_OK;
}

static fila_status run_create(struct call *call, int64_t now)
{
    fila_view name = call->request->as.create_queue.name;
    uint64_t ms = call->request->as.create_queue.visibility_timeout_ms;
    uint64_t most = (uint64_t)(INT64_MAX / FILA_MS);
    struct fq_queue_options options = {
        .visibility_timeout = (int64_t)(ms < most ? ms : most) * FILA_MS,
        .scripts = call->scripts,
        .on_enqueue = call->request->as.create_queue.on_enqueue_script,
        .on_failure = call->request->as.create_queue.on_failure_script,
    };
    fila_status status;
    if (call->script_status != FILA_OK && !fq_exists(call->broker->engine, name)) {
        fila_view text = fila_view_of(call->script_error.text);
        return fb_refuse(&call->error, call->script_status, text);
    }
    status = fq_create_queue(call->broker->engine, now, name, &options);
    if (status == FILA_OK) {
        call->scripts = NULL;
        call->reply.as.create_queue.queue_id = name;
    }
    return outcome(call, status, name);
}

static fila_status check_queue_call(struct call *call)
{
    return fb_check_queue(call->request->as.queue.queue, &call->error);
}

static fila_status run_delete(struct call *call, int64_t now)
{
    fila_view name = call->request->as.queue.queue;
    return outcome(call, fq_delete_queue(call->broker->engine, now, name), name);
}

static fila_status run_stats(struct call *call, int64_t now)
{
    fila_view name = call->request->as.queue.queue;
    return outcome(
        call, fq_get_stats(call->broker->engine, now, name, &call->reply, &call->block), name);
}

static fila_status run_list_queues(struct call *call, int64_t now)
{
    return outcome(
        call, fq_list_queues(call->broker->engine, now, &call->reply, &call->block),
        fila_view_of(""));
}

static fila_status check_redrive(struct call *call)
{
    return fb_check_queue(call->request->as.redrive.dlq_queue, &call->error);
}

static fila_status run_redrive(struct call *call, int64_t now)
{
    fila_view name = call->request->as.redrive.dlq_queue;
    fila_status status = fq_redrive(
        call->broker->engine, now, name, call->request->as.redrive.count,
        &call->reply.as.redrive.redriven);
    if (status == FILA_PARENT_NOT_FOUND) {
        name.len -= strlen(".dlq");
    }
    return outcome(call, status, name);
}

/* ---- Config ---- */

static fila_status check_config(struct call *call)
{
    fila_view key = call->request->as.config.key;
    if (key.len == 0 && call->request->call != FILA_CALL_LIST_CONFIG) {
        return malformed(&call->error, "the config key is empty");
    }
    if (key.len > CONFIG_KEY_MAX) {
        return too_long(
            &call->error,
            call->request->call == FILA_CALL_LIST_CONFIG ? "a config prefix" : "a config key",
            key.len, CONFIG_KEY_MAX);
    }
    if (call->request->call == FILA_CALL_SET_CONFIG &&
        call->request->as.config.value.len > CONFIG_VALUE_MAX) {
        return too_long(
            &call->error, "a config value", call->request->as.config.value.len, CONFIG_VALUE_MAX);
    }
    return FILA_OK;
}

static fila_status run_set_config(struct call *call, int64_t now)
{
    return outcome(
        call,
        fq_set_config(
            call->broker->engine, now, call->request->as.config.key,
            call->request->as.config.value),
        fila_view_of("a throttle's value must be \"<rate per second>,<burst>\": two numbers, "
                     "finite and not negative"));
}

static fila_status run_get_config(struct call *call, int64_t now)
{
    fila_view value = fq_get_config(call->broker->engine, now, call->request->as.config.key);
    size_t len = value.len < sizeof call->value ? value.len : sizeof call->value;
    if (len) {
        memcpy(call->value, value.data, len);
    }
    call->reply.as.get_config.value = (fila_view){call->value, len};
    return FILA_OK;
}

static fila_status run_list_config(struct call *call, int64_t now)
{
    return outcome(
        call,
        fq_list_config(
            call->broker->engine, now, call->request->as.config.key, &call->reply, &call->block),
        fila_view_of(""));
}

/* ---- What there is ---- */

static fila_status check_nothing(struct call *call)
{
    (void)call;
    return FILA_OK;
}

static fila_status check_unimplemented(struct call *call)
{
    char text[FILA_ERROR_TEXT];
    (void)snprintf(
        text, sizeof text, "this broker does not have %s", fila_call_name(call->request->call));
    return fb_refuse(&call->error, FILA_UNIMPLEMENTED, fila_view_of(text));
}

struct call_row {
    fila_status (*check)(struct call *call);            /* without the lock: the arguments alone */
    fila_status (*run)(struct call *call, int64_t now); /* with the lock */
};

static const struct call_row ROWS[FILA_CALL_COUNT] = {
    [FILA_CALL_ENQUEUE] = {check_enqueue, run_enqueue},
    [FILA_CALL_CONSUME] = {check_unimplemented, NULL},
    [FILA_CALL_ACK] = {check_settle, run_settle},
    [FILA_CALL_NACK] = {check_settle, run_settle},
    [FILA_CALL_CREATE_QUEUE] = {check_create, run_create},
    [FILA_CALL_DELETE_QUEUE] = {check_queue_call, run_delete},
    [FILA_CALL_SET_CONFIG] = {check_config, run_set_config},
    [FILA_CALL_GET_CONFIG] = {check_config, run_get_config},
    [FILA_CALL_LIST_CONFIG] = {check_config, run_list_config},
    [FILA_CALL_GET_STATS] = {check_queue_call, run_stats},
    [FILA_CALL_REDRIVE] = {check_redrive, run_redrive},
    [FILA_CALL_LIST_QUEUES] = {check_nothing, run_list_queues},
    [FILA_CALL_CREATE_API_KEY] = {check_unimplemented, NULL},
    [FILA_CALL_REVOKE_API_KEY] = {check_unimplemented, NULL},
    [FILA_CALL_LIST_API_KEYS] = {check_unimplemented, NULL},
    [FILA_CALL_SET_ACL] = {check_unimplemented, NULL},
    [FILA_CALL_GET_ACL] = {check_unimplemented, NULL},
};

/* ---- Answers ---- */

fila_status fb_enter(fila_broker *broker, fila_error *reterr)
{
    if (atomic_fetch_add(&broker->waiting, 1) >= broker->command_capacity) {
        fb_leave(broker);
        return fb_refuse(
            reterr, FILA_OVERLOADED, fila_view_of("the broker's command queue is full"));
    }
    return FILA_OK;
}

void fb_leave(fila_broker *broker)
{
    (void)atomic_fetch_sub(&broker->waiting, 1);
}

void fb_answer_parked(fila_broker *broker, struct fb_parked *parked)
{
    fb_leave(broker);
    parked->on_reply(parked->user, parked->reply, &parked->error);
    fila_reply_free(parked->reply);
    free(parked);
}

/* Puts a parked answer into the list, which is in the order of the times. Lock held. */
void fb_park(fila_broker *broker, struct fb_parked *parked)
{
    struct fb_parked *before = broker->parked;
    while (before && before->due <= parked->due) {
        before = before->next;
    }
    if (before) {
        DL_PREPEND_ELEM(broker->parked, before, parked);
    } else {
        DL_APPEND(broker->parked, parked);
    }
}

/* Keeps a copy of the call's answer until `due`. Lock held. False without memory. */
static bool park(struct call *call, int64_t due, fb_reply_fn on_reply, void *user)
{
    struct fb_parked *parked = calloc(1, sizeof *parked);
    if (!parked) {
        return false;
    }
    parked->due = due;
    parked->on_reply = on_reply;
    parked->user = user;
    parked->error = call->error;
    if (call->status == FILA_OK && due != FILA_NEVER) {
        parked->reply = fila_reply_copy(&call->reply);
        if (!parked->reply) {
            free(parked);
            return false;
        }
    }
    fb_park(call->broker, parked);
    return true;
}

/* The answer waits until what was done is durable, and until `due`. Lock held. True: it waits. */
static bool hold(struct call *call, int64_t due, fb_reply_fn on_reply, void *user)
{
    if (fb_commit_hold(call->broker->commit, &call->reply, &call->error, due, on_reply, user)) {
        return true;
    }
    call->status = no_memory(&call->error); /* it was done, but is not durable yet */
    call->error.outcome_unknown = true;
    return false;
}

/* fb_reply_fn of FILA_FAULT_CRASH_AFTER. */
static void crash_instead(void *user, const fila_reply *reply, const fila_error *error)
{
    (void)user;
    (void)reply;
    (void)error;
    fb_crash();
}

/* What a call that adds something adds to a file, about; 0: it adds nothing. */
static size_t growth(const struct call *call)
{
    const fila_request *request = call->request;
    const struct fq_engine *engine = call->broker->engine;
    size_t bytes = 256;
    switch (request->call) {
    case FILA_CALL_ENQUEUE:
        for (size_t i = 0; i < request->as.enqueue.header_count; i++) {
            const fila_header *header = &request->as.enqueue.headers[i];
            bytes += header->key.len + header->value.len + 8;
        }
        bytes += request->as.enqueue.payload.len;
        return fq_exists(engine, request->as.enqueue.queue) ? bytes : 0;
    case FILA_CALL_CREATE_QUEUE:
        bytes += request->as.create_queue.on_enqueue_script.len +
                 request->as.create_queue.on_failure_script.len;
        return fq_exists(engine, request->as.create_queue.name) ? 0 : bytes;
    case FILA_CALL_SET_CONFIG:
        return request->as.config.value.len ? bytes + request->as.config.value.len : 0;
    default:
        return 0;
    }
}

/* Whether the store can take the call. Lock held. */
static fila_status check_store(struct call *call)
{
    struct fb_commit *commit = call->broker->commit;
    fila_status status = fb_commit_check(commit, &call->error);
    if (status == FILA_OK && fb_commit_is_full(commit)) {
        status = fb_commit_take_room(commit, growth(call), &call->error);
    }
    return status;
}

/* Checks and runs the call as its fault lets it; true: it is parked. Lock held. */
static bool execute(struct call *call, fb_reply_fn on_reply, void *user)
{
    fila_broker *broker = call->broker;
    const fila_request *request = call->request;
    fila_fault fault = fb_faults_use(broker, request->call, fb_queue_of(request));
    int64_t now = fila_now();
    if (fault.kind == FILA_FAULT_HANG) {
        return park(call, FILA_NEVER, on_reply, user);
    }
    if (call->status == FILA_OK && broker->commit) {
        call->status = check_store(call);
    }
    if (call->status == FILA_OK && fault.kind != FILA_FAULT_ERROR) {
        call->status = ROWS[request->call].run(call, now);
    }
    if (fault.kind == FILA_FAULT_ERROR || fault.kind == FILA_FAULT_LOSE_REPLY) {
        call->status = fila_fail_wire(
            &call->error, request->call, fault.wire_code, fila_view_of("scripted fault"));
    }
    if (fault.kind == FILA_FAULT_CRASH_AFTER &&
        !(broker->commit && fb_commit_pending(broker->commit))) {
        fb_crash();
    }
    on_reply = fault.kind == FILA_FAULT_CRASH_AFTER ? crash_instead : on_reply;
    int64_t due = fault.kind == FILA_FAULT_DELAY ? now + (int64_t)fault.delay_ms * FILA_MS : 0;
    if (broker->commit && fb_commit_pending(broker->commit)) {
        return hold(call, due, on_reply, user);
    }
    return due && park(call, due, on_reply, user);
}

static bool execute_locked(struct call *call, fb_reply_fn on_reply, void *user)
{
    fila_broker *broker = call->broker;
    bool parked = false;
    (void)pthread_mutex_lock(&broker->lock);
    if (broker->closed) {
        call->status =
            fb_refuse(&call->error, FILA_BROKER_UNAVAILABLE, fila_view_of("the broker was closed"));
    } else {
        parked = execute(call, on_reply, user);
        fb_settle(broker);
    }
    (void)pthread_mutex_unlock(&broker->lock);
    return parked;
}

void fb_call(fila_broker *broker, const fila_request *request, fb_reply_fn on_reply, void *user)
{
    struct call call;
    bool entered;
    bool parked = false;
    memset(&call, 0, offsetof(struct call, value));
    call.broker = broker;
    call.request = request;
    call.reply.call = request->call;
    call.status = (unsigned)request->call < FILA_CALL_COUNT
                      ? ROWS[request->call].check(&call)
                      : malformed(&call.error, "no such call");
    entered = fb_enter(broker, call.status == FILA_OK ? &call.error : NULL) == FILA_OK;
    if (!entered && call.status == FILA_OK) {
        call.status = FILA_OVERLOADED;
    }
    if (entered && (unsigned)request->call < FILA_CALL_COUNT) {
        parked = execute_locked(&call, on_reply, user);
    }
    if (entered && !parked) {
        fb_leave(broker);
    }
    if (!parked) {
        on_reply(user, call.status == FILA_OK ? &call.reply : NULL, &call.error);
    }
    fq_message_unref(call.message);
    fb_scripts_free(call.scripts);
    free(call.block);
}

/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "stub.h"

#include "wire/codec.h"

#include <grpc/byte_buffer.h>
#include <grpc/byte_buffer_reader.h>
#include <grpc/grpc.h>
#include <grpc/grpc_security.h>

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#define SLOTS 16 /* calls of each kind that can arrive at once */

struct tag {
    void (*fire)(struct tag *tag, bool ok);
};

struct call {
    struct tag arrived;
    struct tag closed;
    struct tag wrote;
    struct stub *stub;
    fila_call method;
    grpc_call *call;
    gpr_timespec deadline;
    grpc_metadata_array metadata;
    grpc_byte_buffer *request;
    grpc_byte_buffer *reply;
    struct stub_stream script;
    size_t next;
    grpc_metadata leader;
    int was_cancelled;
    int parties; /* batches that are not done */
    bool over;
};

struct stub {
    grpc_server *server;
    grpc_completion_queue *queue;
    void *methods[FILA_CALL_COUNT];
    pthread_t thread;
    int port;
    struct tag down;
    atomic_uint sent;
    atomic_bool stopping;

    struct {
        pthread_mutex_t lock;
        pthread_cond_t changed;
        unsigned calls[FILA_CALL_COUNT];
        unsigned cancelled;
        fila_view requests[FILA_CALL_COUNT];
        char key[256];
        struct stub_answer answers[FILA_CALL_COUNT];
        struct stub_stream script;
    } locked;
};

static void start(struct call *c, const grpc_op *ops, size_t count, struct tag *tag)
{
    c->parties++;
    if (grpc_call_start_batch(c->call, ops, count, tag, NULL) != GRPC_CALL_OK) {
        abort();
    }
}

static grpc_byte_buffer *buffer_of(fila_view bytes)
{
    grpc_slice slice = grpc_slice_from_copied_buffer(bytes.data ? bytes.data : "", bytes.len);
    grpc_byte_buffer *buffer = grpc_raw_byte_buffer_create(&slice, 1);
    grpc_slice_unref(slice);
    return buffer;
}

static void request_next(struct call *c)
{
    grpc_metadata_array_init(&c->metadata);
    if (atomic_load(&c->stub->stopping) ||
        grpc_server_request_registered_call(
            c->stub->server, c->stub->methods[c->method], &c->call, &c->deadline, &c->metadata,
            &c->request, c->stub->queue, c->stub->queue, &c->arrived) != GRPC_CALL_OK) {
        grpc_metadata_array_destroy(&c->metadata);
        free(c);
    }
}

static void leave(struct call *c)
{
    if (--c->parties == 0) {
        grpc_call_unref(c->call);
        c->call = NULL;
        request_next(c);
    }
}

/* ---- Unary calls ---- */

static void on_answered(struct tag *tag, bool ok)
{
    struct call *c = (struct call *)((char *)tag - offsetof(struct call, closed));
    (void)ok;
    grpc_byte_buffer_destroy(c->reply);
    c->reply = NULL;
    leave(c);
}

static void answer(struct call *c, const struct stub_answer *how)
{
    fila_reply reply = {.call = c->method};
    grpc_slice text = grpc_slice_from_copied_string(how->text ? how->text : "");
    grpc_op ops[4] = {
        {.op = GRPC_OP_RECV_CLOSE_ON_SERVER,
         .data.recv_close_on_server.cancelled = &c->was_cancelled},
        {.op = GRPC_OP_SEND_INITIAL_METADATA},
        {.op = GRPC_OP_SEND_STATUS_FROM_SERVER,
         .data.send_status_from_server =
             {.status = (grpc_status_code)how->status, .status_details = &text}},
        {.op = GRPC_OP_SEND_MESSAGE},
    };
    c->closed.fire = on_answered;
    if (how->hang) {
        start(c, ops, 1, &c->closed);
    } else if (how->status || how->no_reply) {
        start(c, ops, 3, &c->closed);
    } else {
        if (c->method == FILA_CALL_ENQUEUE) {
            reply.as.enqueue.message_id = fila_view_of("stub-id");
        }
        fila_view bytes = {how->reply, how->reply_len};
        char room[256];
        if (!how->reply) {
            bytes = (fila_view){room, fila_reply_size(&reply)};
            fila_reply_write(&reply, (uint8_t *)room);
        }
        c->reply = buffer_of(bytes);
        ops[3].data.send_message.send_message = c->reply;
        start(c, ops, 4, &c->closed);
    }
    grpc_slice_unref(text);
}

/* ---- Streams ---- */

static void write_on(struct call *c)
{
    size_t rounds = c->script.rounds ? c->script.rounds : 1;
    if (c->over || c->script.silent) {
        return;
    }
    if (c->next < c->script.count * rounds) {
        (void)usleep(c->script.delay_ms * 1000);
        c->reply = buffer_of(c->script.messages[c->next++ % c->script.count]);
        grpc_op op = {.op = GRPC_OP_SEND_MESSAGE, .data.send_message.send_message = c->reply};
        start(c, &op, 1, &c->wrote);
        return;
    }
    if (!c->script.end) {
        return;
    }
    c->over = true;
    grpc_slice text = grpc_slice_from_copied_string(c->script.text ? c->script.text : "");
    /* Both in one batch and nothing between them: gRPC makes it trailers alone. */
    grpc_op ops[2] = {
        {.op = GRPC_OP_SEND_INITIAL_METADATA}, {.op = GRPC_OP_SEND_STATUS_FROM_SERVER}};
    grpc_op *op = &ops[1];
    op->data.send_status_from_server.status = (grpc_status_code)c->script.status;
    op->data.send_status_from_server.status_details = &text;
    if (c->script.leader) {
        c->leader.key = grpc_slice_from_static_string("x-fila-leader-addr");
        c->leader.value = grpc_slice_from_static_string(c->script.leader);
        op->data.send_status_from_server.trailing_metadata_count = 1;
        op->data.send_status_from_server.trailing_metadata = &c->leader;
    }
    if (c->script.no_headers) {
        start(c, ops, 2, &c->wrote);
    } else {
        start(c, op, 1, &c->wrote);
    }
    grpc_slice_unref(text);
}

static void on_wrote(struct tag *tag, bool ok)
{
    struct call *c = (struct call *)((char *)tag - offsetof(struct call, wrote));
    if (c->reply) {
        atomic_fetch_add(&c->stub->sent, ok ? 1 : 0);
        grpc_byte_buffer_destroy(c->reply);
        c->reply = NULL;
    }
    if (ok) {
        write_on(c);
    }
    leave(c);
}

static void on_stream_closed(struct tag *tag, bool ok)
{
    struct call *c = (struct call *)((char *)tag - offsetof(struct call, closed));
    struct stub *stub = c->stub;
    (void)ok;
    c->over = true;
    pthread_mutex_lock(&stub->locked.lock);
    stub->locked.cancelled += c->was_cancelled ? 1 : 0;
    pthread_cond_broadcast(&stub->locked.changed);
    pthread_mutex_unlock(&stub->locked.lock);
    leave(c);
}

static void begin_stream(struct call *c)
{
    grpc_op closed = {.op = GRPC_OP_RECV_CLOSE_ON_SERVER};
    grpc_op headers = {.op = GRPC_OP_SEND_INITIAL_METADATA};
    closed.data.recv_close_on_server.cancelled = &c->was_cancelled;
    c->closed.fire = on_stream_closed;
    c->next = 0;
    c->over = false;
    start(c, &closed, 1, &c->closed);
    if (c->script.no_headers) {
        write_on(c); /* the status alone: trailers only */
    } else if (!c->script.silent) {
        start(c, &headers, 1, &c->wrote);
    }
}

/* ---- Arrivals ---- */

static void note(struct call *c, struct stub_answer *ret_answer)
{
    struct stub *stub = c->stub;
    grpc_byte_buffer_reader reader;
    fila_view *last = &stub->locked.requests[c->method];
    pthread_mutex_lock(&stub->locked.lock);
    stub->locked.calls[c->method]++;
    if (c->request && grpc_byte_buffer_reader_init(&reader, c->request)) {
        grpc_slice all = grpc_byte_buffer_reader_readall(&reader);
        char *copy = malloc(GRPC_SLICE_LENGTH(all) + 1);
        memcpy(copy, GRPC_SLICE_START_PTR(all), GRPC_SLICE_LENGTH(all));
        stub_message_free(*last);
        *last = (fila_view){copy, GRPC_SLICE_LENGTH(all)};
        grpc_slice_unref(all);
        grpc_byte_buffer_reader_destroy(&reader);
    }
    stub->locked.key[0] = '\0';
    for (size_t i = 0; i < c->metadata.count; i++) {
        const grpc_metadata *m = &c->metadata.metadata[i];
        if (grpc_slice_str_cmp(m->key, "authorization") == 0) {
            (void)snprintf(
                stub->locked.key, sizeof stub->locked.key, "%.*s", (int)GRPC_SLICE_LENGTH(m->value),
                (const char *)GRPC_SLICE_START_PTR(m->value));
        }
    }
    *ret_answer = stub->locked.answers[c->method];
    c->script = stub->locked.script;
    pthread_cond_broadcast(&stub->locked.changed);
    pthread_mutex_unlock(&stub->locked.lock);
}

static void on_arrived(struct tag *tag, bool ok)
{
    struct call *c = (struct call *)tag;
    struct stub_answer how = {0};
    if (ok) {
        note(c, &how);
    }
    grpc_metadata_array_destroy(&c->metadata);
    if (!ok) {
        free(c);
        return;
    }
    grpc_byte_buffer_destroy(c->request);
    c->request = NULL;
    if (c->method == FILA_CALL_CONSUME) {
        begin_stream(c);
    } else {
        answer(c, &how);
    }
}

static void *serve(void *arg)
{
    struct stub *stub = arg;
    for (;;) {
        grpc_event e =
            grpc_completion_queue_next(stub->queue, gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL);
        if (e.type == GRPC_QUEUE_SHUTDOWN) {
            return NULL;
        }
        struct tag *tag = e.tag;
        tag->fire(tag, e.success != 0);
    }
}

static void on_down(struct tag *tag, bool ok)
{
    struct stub *stub = (struct stub *)((char *)tag - offsetof(struct stub, down));
    (void)ok;
    grpc_completion_queue_shutdown(stub->queue);
}

/* ---- For tests ---- */

/* gRPC takes what it only reads as char *. */
static char *plain(const char *text)
{
    union {
        const char *in;
        char *out;
    } both = {text};

    return both.out;
}

struct stub *stub_start(const char *address)
{
    static const struct {
        const char *key;
        int value;
    } wanted[] = {
        {GRPC_ARG_ALLOW_REUSEPORT, 0},
        {GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH, -1},
        {GRPC_ARG_HTTP2_MAX_PING_STRIKES, 0},
        {GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 10},
    };

    grpc_arg list[4] = {{0}};
    grpc_channel_args args = {4, list};
    struct stub *stub = calloc(1, sizeof *stub);
    grpc_init();
    for (size_t i = 0; i < args.num_args; i++) {
        list[i].type = GRPC_ARG_INTEGER;
        list[i].key = plain(wanted[i].key);
        list[i].value.integer = wanted[i].value;
    }
    pthread_mutex_init(&stub->locked.lock, NULL);
    pthread_cond_init(&stub->locked.changed, NULL);
    stub->server = grpc_server_create(&args, NULL);
    stub->queue = grpc_completion_queue_create_for_next(NULL);
    grpc_server_register_completion_queue(stub->server, stub->queue, NULL);
    for (int m = 0; m < FILA_CALL_COUNT; m++) {
        stub->methods[m] = grpc_server_register_method(
            stub->server, fila_call_path((fila_call)m), NULL,
            GRPC_SRM_PAYLOAD_READ_INITIAL_BYTE_BUFFER, 0);
    }
    grpc_server_credentials *credentials = grpc_insecure_server_credentials_create();
    stub->port = grpc_server_add_http2_port(stub->server, address, credentials);
    grpc_server_credentials_release(credentials);
    if (!stub->port) {
        (void)fprintf(stderr, "stub: cannot listen on %s\n", address);
        abort();
    }
    grpc_server_start(stub->server);
    for (int n = 0; n < FILA_CALL_COUNT * SLOTS; n++) {
        struct call *c = calloc(1, sizeof *c);
        c->stub = stub;
        c->method = (fila_call)(n % FILA_CALL_COUNT);
        c->arrived.fire = on_arrived;
        c->wrote.fire = on_wrote;
        request_next(c);
    }
    stub->down.fire = on_down;
    pthread_create(&stub->thread, NULL, serve, stub);
    return stub;
}

int stub_port(const struct stub *stub)
{
    return stub->port;
}

void stub_stop(struct stub *stub)
{
    if (!stub) {
        return;
    }
    atomic_store(&stub->stopping, true);
    grpc_server_shutdown_and_notify(stub->server, stub->queue, &stub->down);
    grpc_server_cancel_all_calls(stub->server);
    pthread_join(stub->thread, NULL);
    grpc_server_destroy(stub->server);
    grpc_completion_queue_destroy(stub->queue);
    grpc_shutdown();
    for (int m = 0; m < FILA_CALL_COUNT; m++) {
        stub_message_free(stub->locked.requests[m]);
    }
    pthread_mutex_destroy(&stub->locked.lock);
    pthread_cond_destroy(&stub->locked.changed);
    free(stub);
}

void stub_answer(struct stub *stub, fila_call call, const struct stub_answer *how)
{
    pthread_mutex_lock(&stub->locked.lock);
    stub->locked.answers[call] = *how;
    pthread_mutex_unlock(&stub->locked.lock);
}

void stub_stream(struct stub *stub, const struct stub_stream *script)
{
    pthread_mutex_lock(&stub->locked.lock);
    stub->locked.script = *script;
    pthread_mutex_unlock(&stub->locked.lock);
}

static bool wait_for(struct stub *stub, const unsigned *counter, unsigned count, int ms)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += ms / 1000;
    until.tv_nsec += (long)(ms % 1000) * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    pthread_mutex_lock(&stub->locked.lock);
    while (*counter < count &&
           pthread_cond_timedwait(&stub->locked.changed, &stub->locked.lock, &until) == 0) {
    }
    bool enough = *counter >= count;
    pthread_mutex_unlock(&stub->locked.lock);
    return enough;
}

unsigned stub_calls(struct stub *stub, fila_call call)
{
    pthread_mutex_lock(&stub->locked.lock);
    unsigned count = stub->locked.calls[call];
    pthread_mutex_unlock(&stub->locked.lock);
    return count;
}

bool stub_wait_calls(struct stub *stub, fila_call call, unsigned count, int ms)
{
    return wait_for(stub, &stub->locked.calls[call], count, ms);
}

bool stub_wait_cancelled(struct stub *stub, unsigned count, int ms)
{
    return wait_for(stub, &stub->locked.cancelled, count, ms);
}

unsigned stub_sent(struct stub *stub)
{
    return atomic_load(&stub->sent);
}

fila_view stub_request(struct stub *stub, fila_call call)
{
    pthread_mutex_lock(&stub->locked.lock);
    fila_view view = stub->locked.requests[call];
    pthread_mutex_unlock(&stub->locked.lock);
    return view;
}

const char *stub_key(struct stub *stub)
{
    return stub->locked.key;
}

pid_t stub_fork(const struct stub_stream *script, int *ret_port)
{
    int ends[2];
    if (pipe(ends) != 0) {
        abort();
    }
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        struct stub *stub = stub_start("127.0.0.1:0");
        stub_stream(stub, script);
        if (write(ends[1], &stub->port, sizeof stub->port) != sizeof stub->port) {
            _exit(1);
        }
        for (;;) {
            pause();
        }
    }
    close(ends[1]);
    if (pid < 0 || read(ends[0], ret_port, sizeof *ret_port) != sizeof *ret_port) {
        abort();
    }
    close(ends[0]);
    return pid;
}

fila_view stub_message(const char *id, const char *queue, size_t payload, size_t headers)
{
    fila_header *list = calloc(headers + 1, sizeof *list);
    char *names = malloc(headers * 16 + 1);
    for (size_t i = 0; i < headers; i++) {
        int len = snprintf(names + i * 16, 16, "h%zu", i);
        list[i].key = (fila_view){names + i * 16, (size_t)len};
        list[i].value = fila_view_of("value");
    }
    struct fila_message_fields fields = {
        .id = fila_view_of(id),
        .queue = fila_view_of(queue),
        .fairness_key = fila_view_of("default"),
        .payload = {NULL, payload},
        .weight = 1,
        .headers = list,
        .header_count = headers,
    };
    size_t head = fila_delivery_head_size(&fields);
    char *bytes = malloc(head + payload + 1);
    fila_delivery_head_write(&fields, (uint8_t *)bytes);
    memset(bytes + head, 'p', payload);
    free(names);
    free(list);
    return (fila_view){bytes, head + payload};
}

void stub_message_free(fila_view message)
{
    free(plain(message.data));
}

/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * The broker as its front ends see it: the gRPC server (server_*.c) and the in-process transport
 * (core/src). It guards the deterministic queue engine (queue.h) with one lock, keeps its clock,
 * and applies scripted faults.
 *
 * Properties. A call is answered exactly once, by its callback, on any thread: inline when the
 * answer is at once, later when it waits (a delay fault; a durable store's commit). A hanging call
 * (FILA_FAULT_HANG) is answered at close, with FILA_BROKER_UNAVAILABLE.
 *
 * Operation. A front end opens one consumer per Consume stream and takes messages from it when told
 * that some are there. What was taken is on its way to the client; what is leased but not taken
 * waits in the consumer's slots (64+1+64, contract A5). Requests and replies are the public structs
 * of fila/client.h: front ends only translate.
 *
 * Safety. Callbacks run with no broker lock held, except `ready`, which runs under it and must only
 * note and wake.
 */
#ifndef FILA_BROKER_SERVICE_H
#define FILA_BROKER_SERVICE_H

#include "fila/broker.h"
#include "wire/message.h"

struct fb_consumer;

/* `error` has code FILA_OK on success, else `reply` is NULL; `text` of an error is what a Fila
 * server sends (contract A2: often just a name). Both are borrowed for the time of the call. */
typedef void (*fb_reply_fn)(void *user, const fila_reply *reply, const fila_error *error);

/* One unary call: checked, executed and answered in the order of contract A2. All of `request` is
 * read before it returns. Thread: any. */
void fb_call(fila_broker *broker, const fila_request *request, fb_reply_fn on_reply, void *user);

/* What a front end makes of a connection (FILA_FAULT_HALF_OPEN). */
struct fb_half_open {
    uint32_t ms; /* 0 = for good */
    uint32_t after_messages;
};

/* Front ends with connections ask before each call, Consume included: counts a use of these faults,
 * and says whether the call meets one. Thread: any. */
bool fb_meets_half_open(
    fila_broker *broker,
    const fila_request *request,
    struct fb_half_open *ret_how);

/* A message out of a consumer's slots. The views live until fb_delivery_release. */
struct fb_delivery {
    struct fila_message_fields fields; /* queue: the DLQ's name for a moved message */
    void *ref;                         /* the stored message's reference */
    int64_t lease_end; /* CLOCK_BOOTTIME ns: it is taken back at an idle tick at or after this */
};

struct fb_consumer_events {
    /* Messages may be taken. Called under the broker's lock, on any thread: note it and wake
     * yourself. Not called again until fb_consumer_take has returned FB_TAKE_EMPTY, except once
     * more for the stream's end. The first call may come before fb_consumer_open returns. */
    void (*ready)(void *user);
};

enum fb_take {
    FB_TAKE_MESSAGE, /* *ret_delivery is filled; release it */
    FB_TAKE_EMPTY,   /* nothing now; `ready` will tell */
    FB_TAKE_END      /* the stream is over: *ret_end says how (FILA_OK: in good order) */
};

/* Opens a consumer: contract A4. Errors as Consume's row in A2, scripted ones included. Thread:
 * any. */
fila_status fb_consumer_open(
    fila_broker *broker,
    fila_view queue,
    const struct fb_consumer_events *events,
    void *user,
    struct fb_consumer **ret_consumer,
    fila_error *reterr);

enum fb_take fb_consumer_take(
    struct fb_consumer *consumer,
    struct fb_delivery *ret_delivery,
    fila_error *ret_end);

/* Whether fb_consumer_take would say FB_TAKE_END, without taking anything: for front ends that may
 * take no message now. */
bool fb_consumer_ended(struct fb_consumer *consumer, fila_error *ret_end);

/* May be called on any thread, once per delivery. */
void fb_delivery_release(struct fb_delivery *delivery);

/* Forgets the consumer. Its leases are not released (contract A6). No `ready` after it returns. */
void fb_consumer_close(struct fb_consumer *consumer);

/* ---- The gRPC server, started and stopped by fila_broker_open / close / free ---- */

struct fb_server;

/* Listens on `address` and serves `broker` from threads of its own (server.h). Errors:
 * FILA_BROKER_UNAVAILABLE with address and cause. */
FILA_NODISCARD fila_status fb_server_start(
    fila_broker *broker,
    const char *address,
    struct fb_server **ret_server,
    fila_error *reterr);
uint16_t fb_server_port(const struct fb_server *server);
/* As SIGTERM at a Fila server (contract A4.7): GOAWAY to everybody, no new calls or connections,
 * but the port stays bound and streams go on. Never blocks; may be repeated. */
void fb_server_drain(struct fb_server *server);
/* Waits up to `ms` (-1: for ever) until a server that drains or stops has no connection left. */
bool fb_server_wait(struct fb_server *server, int ms);
void fb_server_stop(
    struct fb_server *server); /* never blocks; all streams end, calls are cancelled */
void fb_server_free(struct fb_server *server); /* waits; takes NULL */

#endif

/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "server.h"

#include "base/error.h"

#include <grpc/grpc_security.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- Start ---- */

/* What requests may take in gRPC's buffers before this side sees them: without it one client that
 * announces a message of 4 GiB gets that much. Over it, gRPC breaks off streams. */
static grpc_resource_quota *make_quota(void)
{
    grpc_resource_quota *quota = grpc_resource_quota_create("fila-server");
    grpc_resource_quota_resize(quota, (size_t)SERVER_BUFFER_MIB << 20);
    return quota;
}

/* As a Fila server where a client can tell (contract A4.8), and nothing that costs without being
 * asked for. The minimal stack has no receive limit: server_unary.c has. The BDP probe stays on:
 * without it gRPC's connection window is 64 KiB for good, a Fila server's is 1 MiB. */
static grpc_server *make_grpc(void)
{
    struct {
        char key[64];
        int value;
    } set[] = {
        {GRPC_ARG_MINIMAL_STACK, 1},
        {GRPC_ARG_ENABLE_CHANNELZ, 0},
        {GRPC_ARG_ALLOW_REUSEPORT, 0},
        {GRPC_ARG_MAX_CONCURRENT_STREAMS, SERVER_MAX_PER_CONNECTION},
        {GRPC_ARG_MAX_METADATA_SIZE, 16384},
        {GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, 1 << 20},
        {GRPC_ARG_HTTP2_WRITE_BUFFER_SIZE, 8192}, /* what is leased ahead: contract A5 */
        {GRPC_ARG_HTTP2_MAX_PING_STRIKES, 0},
        {GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 0},
        {GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1},
    };

    enum {
        COUNT = sizeof set / sizeof set[0]
    };

    char quota_key[] = GRPC_ARG_RESOURCE_QUOTA;
    grpc_resource_quota *quota = make_quota();
    grpc_arg args[COUNT + 1];
    for (size_t i = 0; i < COUNT; i++) {
        args[i] = (grpc_arg){GRPC_ARG_INTEGER, set[i].key, {.integer = set[i].value}};
    }
    args[COUNT] = (grpc_arg){
        GRPC_ARG_POINTER, quota_key, {.pointer = {quota, grpc_resource_quota_arg_vtable()}}};
    grpc_channel_args all = {COUNT + 1, args};
    grpc_server *grpc = grpc_server_create(&all, NULL);
    grpc_resource_quota_unref(quota);
    return grpc;
}

static void open_grpc(struct fb_server *server)
{
    server->queue = grpc_completion_queue_create_for_next(NULL);
    server->grpc = make_grpc();
    grpc_server_register_completion_queue(server->grpc, server->queue, NULL);
    server_register(server);
    grpc_server_start(server->grpc);
}

/* After the last event. */
static void close_grpc(struct fb_server *server)
{
    grpc_server_destroy(server->grpc);
    grpc_completion_queue_destroy(server->queue);
}

/* Ends a server whose thread did not start. */
static void abandon(struct fb_server *server)
{
    fb_server_stop(server);
    while (!server->down) {
        grpc_event event =
            grpc_completion_queue_next(server->queue, gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL);
        struct server_event *what = event.tag;
        what->run(what->owner, event.success);
    }
    grpc_completion_queue_shutdown(server->queue);
    while (
        grpc_completion_queue_next(server->queue, gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL).type !=
        GRPC_QUEUE_SHUTDOWN) {
    }
    close_grpc(server);
}

static void free_memory(struct fb_server *server)
{
    for (struct server_call *call = server->pool, *next; call; call = next) {
        next = call->next;
        free(call);
    }
    free(server->peers);
    free(server->joined);
    server_listener_fini(&server->listener);
    server_inbox_fini(server);
    server_threads_fini(server);
    free(server);
}

/* Starts gRPC and the thread, which leaves all signals to the program's own threads. */
static fila_status start(struct fb_server *server, const char *address, fila_error *reterr)
{
    sigset_t all;
    sigset_t before;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    fila_status status = server_listen(server, address, reterr);
    if (status == FILA_OK) {
        grpc_init();
        open_grpc(server);
        status = server_start_threads(server, reterr);
        if (status == FILA_OK && (status = server_accept_start(server, reterr))) {
            fb_server_stop(server);
            server_join_threads(server);
            close_grpc(server);
            grpc_shutdown();
        } else if (status) {
            abandon(server);
            grpc_shutdown();
        }
    }
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    return status;
}

fila_status fb_server_start(
    fila_broker *broker,
    const char *address,
    struct fb_server **ret_server,
    fila_error *reterr)
{
    struct fb_server *server = calloc(1, sizeof *server);
    if (!server || !server_inbox_init(server)) {
        free(server);
        return fila_fail(reterr, FILA_NO_MEMORY, "no memory for a server");
    }
    server->broker = broker;
    server_threads_init(server);
    server_listener_init(&server->listener);
    server->last_ready = &server->first_ready;
    fila_status status = start(server, address, reterr);
    if (status) {
        free_memory(server);
        return status;
    }
    *ret_server = server;
    return FILA_OK;
}

/* ---- The rest ---- */

uint16_t fb_server_port(const struct fb_server *server)
{
    return server->port;
}

void fb_server_drain(struct fb_server *server)
{
    if (!atomic_exchange(&server->draining, true)) {
        server_accept_stop(server);
        grpc_server_shutdown_and_notify(server->grpc, server->queue, &server->on_down);
    }
}

bool fb_server_wait(struct fb_server *server, int ms)
{
    return server_wait_end(server, ms);
}

void fb_server_stop(struct fb_server *server)
{
    if (!atomic_exchange(&server->stopping, true)) {
        fb_server_drain(server);
        server_accept_close(server);
        grpc_server_cancel_all_calls(server->grpc);
    }
}

void fb_server_free(struct fb_server *server)
{
    if (!server) {
        return;
    }
    fb_server_stop(server);
    server_accept_join(server);
    server_join_threads(server);
    close_grpc(server);
    grpc_shutdown();
    free_memory(server);
}

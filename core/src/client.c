/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "base/clock.h"
#include "base/error.h"
#include "client_impl.h"
#include "fila/broker.h"

#include <assert.h>
#include <signal.h>
#include <stdlib.h>
#include <utlist.h>

/* What the inbox is once nothing is taken any more. */
static struct fc_op end_mark;

bool fc_on_own_thread(const fila_client *client)
{
    return pthread_equal(client->thread, pthread_self()) != 0;
}

fila_status fc_fail_closed(fila_error *reterr)
{
    fila_status status =
        fila_fail(reterr, FILA_CLOSED, "the client was closed before this was sent");
    if (reterr) {
        reterr->outcome_unknown = false;
    }
    return status;
}

/* ---- The I/O thread ---- */

/* The list as it was posted: it comes with the latest first. */
static struct fc_op *reversed(struct fc_op *op)
{
    struct fc_op *out = NULL;
    while (op) {
        struct fc_op *next = op->next;
        op->next = out;
        out = op;
        op = next;
    }
    return out;
}

static void run_ops(fila_client *client, struct fc_op *replacement, bool closed)
{
    struct fc_op *op = reversed(atomic_exchange(&client->inbox, replacement));
    while (op) {
        struct fc_op *next = op->next; /* `run` may free or post it again */
        op->run(client, op, closed);
        op = next;
    }
}

void fc_move_in(fila_client *client, struct fc_tenant *tenant)
{
    DL_APPEND(client->tenants, tenant);
}

void fc_move_out(fila_client *client, struct fc_tenant *tenant)
{
    DL_DELETE(client->tenants, tenant);
}

static int64_t next_step(const fila_client *client)
{
    int64_t at = FILA_NEVER;
    const struct fc_tenant *tenant;
    DL_FOREACH(client->tenants, tenant)
    {
        at = tenant->wake_at < at ? tenant->wake_at : at;
    }
    return at;
}

static void step_tenants(fila_client *client)
{
    struct fc_tenant *tenant;
    struct fc_tenant *next;
    int64_t now = client->tenants ? fila_now() : 0;
    DL_FOREACH_SAFE(client->tenants, tenant, next)
    {
        if (tenant->wake_at <= now) {
            tenant->wake_at = FILA_NEVER;
            tenant->step(tenant, now);
        }
    }
}

static void end_tenants(fila_client *client)
{
    while (client->tenants) {
        struct fc_tenant *tenant = client->tenants;
        fc_move_out(client, tenant);
        tenant->end(tenant);
    }
}

static bool something_to_do(fila_client *client, bool shut)
{
    return atomic_load(&client->inbox) != NULL || (!shut && atomic_load(&client->closing));
}

static void *io_main(void *user)
{
    fila_client *client = user;
    bool shut = false;
    bool more = true;
    while (more) {
        bool closing = atomic_load(&client->closing);
        run_ops(client, NULL, closing);
        if (closing && !shut) {
            shut = true;
            client->transport->ops->shutdown(client->transport);
        }
        atomic_store(&client->sleeping, true);
        int64_t until = something_to_do(client, shut) ? 0 : next_step(client);
        more = fila_transport_run(client->transport, until);
        atomic_store(&client->sleeping, false);
        if (more && !shut) {
            step_tenants(client);
        }
    }
    atomic_store(&client->closing, true);
    end_tenants(client);
    run_ops(client, &end_mark, true);
    return NULL;
}

bool fc_post(fila_client *client, struct fc_op *op)
{
    struct fc_op *head = atomic_load(&client->inbox);
    do {
        if (head == &end_mark || atomic_load(&client->closing)) {
            return false;
        }
        op->next = head;
    } while (!atomic_compare_exchange_weak(&client->inbox, &head, op));
    if (!fc_on_own_thread(client) && atomic_exchange(&client->sleeping, false)) {
        fila_transport_wake(client->transport);
    }
    return true;
}

/* ---- Opening and closing ---- */

/* With all signals blocked: they are the program's business. */
static int start_thread(fila_client *client)
{
    sigset_t all;
    sigset_t before;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    int failure = pthread_create(&client->thread, NULL, io_main, client);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (!failure) {
        (void)pthread_setname_np(client->thread, "fila-client");
    }
    return failure;
}

fila_status fc_open_over(
    struct fila_transport *transport,
    const fila_client_options *options,
    fila_client **ret_client,
    fila_error *reterr)
{
    fila_client *client = calloc(1, sizeof *client);
    if (!client) {
        return fila_fail(reterr, FILA_NO_MEMORY, "a client");
    }
    client->transport = transport;
    client->call_timeout_ms = options->call_timeout_ms;
    int failure = start_thread(client);
    if (failure) {
        free(client);
        return fila_fail(reterr, FILA_NO_MEMORY, "no thread: %s", strerrordesc_np(failure));
    }
    *ret_client = client;
    return FILA_OK;
}

/* `embedded:` or `embedded:PATH` without a broker: one of the client's own. */
static fila_status own_broker(
    fila_client_options *options,
    struct fila_broker **ret_broker,
    fila_error *reterr)
{
    *ret_broker = NULL;
    if (fila_url_is_embedded(options->url) && !options->broker) {
        fila_status status = fila_broker_open_url(options->url, NULL, ret_broker, reterr);
        options->broker = *ret_broker;
        return status;
    }
    return FILA_OK;
}

fila_status fila_client_open(
    const fila_client_options *options,
    fila_client **ret_client,
    fila_error *reterr)
{
    fila_client_options all;
    struct fila_broker *broker = NULL;
    struct fila_transport *transport = NULL;
    fila_status status = fila_client_options_complete(options, &all, reterr);
    if (status) {
        return status;
    }
    if (!all.call_timeout_ms) {
        return fila_fail(reterr, FILA_INVALID_ARGUMENT, "call_timeout_ms is 0");
    }
    status = own_broker(&all, &broker, reterr);
    if (!status) {
        status = fila_transport_open(&all, &transport, reterr);
    }
    if (!status) {
        status = fc_open_over(transport, &all, ret_client, reterr);
    }
    if (status) {
        if (transport) {
            transport->ops->free(transport);
        }
        fila_broker_free(broker);
        return status;
    }
    (*ret_client)->own_broker = broker;
    return FILA_OK;
}

void fila_client_close(fila_client *client)
{
    if (!atomic_exchange(&client->closing, true) && atomic_exchange(&client->sleeping, false)) {
        fila_transport_wake(client->transport);
    }
}

void fila_client_free(fila_client *client)
{
    if (!client) {
        return;
    }
    assert(!fc_on_own_thread(client));
    fila_client_close(client);
    (void)pthread_join(client->thread, NULL);
    client->transport->ops->free(client->transport);
    fila_broker_free(client->own_broker);
    free(client);
}

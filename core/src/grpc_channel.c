/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "grpc_internal.h"

#include <grpc/grpc_security.h>

#include <stdlib.h>

/* How long one attempt to connect may take. C core calls it a backoff; its default is 20 s, and as
 * low as the backoff itself a distant broker would never be reached. */
#define CONNECT_MS 5000
/* The pause after the first failed attempt; it grows by 1.6 up to reconnect_max_ms. */
#define FIRST_BACKOFF_MS 200
#define MOST_ARGS        20

struct args {
    grpc_arg list[MOST_ARGS];
    size_t count;
};

/* C core takes keys and strings as char * but only reads them. */
static char *plain(const char *text)
{
    union {
        const char *in;
        char *out;
    } both = {text};

    return both.out;
}

static void set(struct args *args, const char *key, uint32_t value)
{
    grpc_arg *a = &args->list[args->count++];
    a->type = GRPC_ARG_INTEGER;
    a->key = plain(key);
    a->value.integer = value > INT32_MAX ? INT32_MAX : (int)value;
}

static void set_text(struct args *args, const char *key, const char *value)
{
    grpc_arg *a = &args->list[args->count++];
    a->type = GRPC_ARG_STRING;
    a->key = plain(key);
    a->value.string = plain(value);
}

static grpc_channel *connect_with(
    const struct fg_transport *t,
    const struct fg_address *address,
    uint32_t window)
{
    uint32_t most = t->reconnect_max_ms > FIRST_BACKOFF_MS ? t->reconnect_max_ms : FIRST_BACKOFF_MS;
    struct args args = {.count = 0};
    /* Lean: no retries (a hidden second send), no channelz, no filters that we do without. */
    set(&args, GRPC_ARG_ENABLE_RETRIES, 0);
    set(&args, GRPC_ARG_MINIMAL_STACK, 1);
    set(&args, GRPC_ARG_ENABLE_CHANNELZ, 0);
    set(&args, GRPC_ARG_DISABLE_CLIENT_AUTHORITY_FILTER, 1); /* each call names its own */
    set(&args, GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    set(&args, GRPC_ARG_ENABLE_HTTP_PROXY, 0);
    set(&args, GRPC_ARG_SERVICE_CONFIG_DISABLE_RESOLUTION, 1);
    set_text(&args, GRPC_ARG_PRIMARY_USER_AGENT_STRING, "libfila/" FILA_VERSION);
    /* Bounded leases: the window stays what it is told to be. */
    set(&args, GRPC_ARG_HTTP2_BDP_PROBE, 0);
    set(&args, GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, window);
    set(&args, GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
    if (t->keepalive_ms) {
        set(&args, GRPC_ARG_KEEPALIVE_TIME_MS, t->keepalive_ms);
        set(&args, GRPC_ARG_KEEPALIVE_TIMEOUT_MS, t->keepalive_timeout_ms);
        set(&args, GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
    }
    set(&args, GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, FIRST_BACKOFF_MS);
    set(&args, GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, CONNECT_MS);
    set(&args, GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, most);
    set(&args, GRPC_ARG_DNS_MIN_TIME_BETWEEN_RESOLUTIONS_MS, most);

    grpc_channel_args list = {args.count, args.list};
    grpc_channel_credentials *credentials = grpc_insecure_credentials_create();
    grpc_channel *channel = grpc_channel_create(address->target, credentials, &list);
    grpc_channel_credentials_release(credentials);
    return channel;
}

struct fg_channel *fg_channel_use(
    struct fg_transport *transport,
    const struct fg_address *address,
    uint32_t window)
{
    if (transport->main && window == transport->window && address == &transport->address) {
        transport->main->users++;
        return transport->main;
    }
    struct fg_channel *c = calloc(1, sizeof *c);
    if (!c) {
        return NULL;
    }
    c->users = 1;
    c->channel = connect_with(transport, address, window);
    if (!c->channel) {
        free(c);
        return NULL;
    }
    return c;
}

void fg_channel_leave(struct fg_channel *channel)
{
    if (channel && --channel->users == 0) {
        grpc_channel_destroy(channel->channel);
        free(channel);
    }
}

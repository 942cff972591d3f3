/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "base/error.h"
#include "grpc_internal.h"
#include "wire/codec.h"

#include <grpc/support/alloc.h>

#include <stdio.h>

#define LEADER_KEY "x-fila-leader-addr"

/* What C core 1.51 says while it connects, and what that means. */
static const struct {
    const char *part;
    const char *meaning;
} CONNECTING[] = {
    {"Failed parsing HTTP/2", "it does not speak HTTP/2: an HTTP/1 server, or no Fila broker"},
    {"http1.x server", "it does not speak HTTP/2: an HTTP/1 server, or no Fila broker"},
    {"Socket closed", "it hung up before HTTP/2 began: a TLS port, or no Fila broker"},
    {"Connection reset by peer", "it hung up before HTTP/2 began: a TLS port, or no Fila broker"},
    {"before receiving SETTINGS",
     "it accepts connections but does not answer: frozen, stopping, or no "
     "Fila broker"},
};

/* What it says when a connection breaks under a call. */
static const char *const BREAKING[] = {
    "Socket closed",        "Connection reset by peer", "keepalive watchdog timeout",
    "Broken pipe",          "Connection timed out",     "Endpoint closing",
    "Endpoint read failed", "GOAWAY received",          "Transport closed",
    "ping timeout",         "No route to host",         "Network is unreachable",
};

static fila_view view_of(const grpc_slice *slice)
{
    return (fila_view){(const char *)GRPC_SLICE_START_PTR(*slice), GRPC_SLICE_LENGTH(*slice)};
}

/* What C core says of a call for which it has found no connection. */
static const char *const UNCONNECTED[] = {
    "failed to connect to all addresses",
    "DNS resolution failed",
    "empty address list",
};

static bool was_sent(const struct fg_transport *transport, grpc_call *call, fila_view text)
{
    bool unconnected = false;
    for (size_t i = 0; i < sizeof UNCONNECTED / sizeof *UNCONNECTED; i++) {
        size_t len = strlen(UNCONNECTED[i]);
        unconnected = unconnected ||
                      (text.len >= len && memcmp(text.data, UNCONNECTED[i], len) == 0);
    }
    char *peer = unconnected ? grpc_call_get_peer(call) : NULL;
    bool sent = !peer || strcmp(peer, transport->address.target) != 0;
    gpr_free(peer);
    return sent;
}

static bool contains(fila_view text, const char *part)
{
    return text.len && memmem(text.data, text.len, part, strlen(part)) != NULL;
}

/* What stands behind the last `mark`, or all of it. */
static fila_view behind_last(fila_view text, const char *mark)
{
    size_t len = strlen(mark);
    for (size_t at = text.len; at >= len && len; at--) {
        if (memcmp(text.data + at - len, mark, len) == 0) {
            return (fila_view){text.data + at, text.len - at};
        }
    }
    return text;
}

static void no_connection(const struct fg_transport *t, fila_view text, fila_error *ret)
{
    fila_view cause = behind_last(text, ": ");
    const char *meaning = NULL;
    for (size_t i = 0; i < sizeof CONNECTING / sizeof *CONNECTING && !meaning; i++) {
        meaning = contains(text, CONNECTING[i].part) ? CONNECTING[i].meaning : NULL;
    }
    if (contains(text, "DNS resolution failed")) {
        (void)fila_fail(
            ret, FILA_BROKER_UNAVAILABLE, "no connection to %s: the name cannot be resolved (%.*s)",
            t->address.name, (int)cause.len, cause.data);
    } else if (meaning) {
        (void)fila_fail(
            ret, FILA_BROKER_UNAVAILABLE, "no connection to %s: %s", t->address.name, meaning);
    } else {
        (void)fila_fail(
            ret, FILA_BROKER_UNAVAILABLE, "no connection to %s: %.*s", t->address.name,
            (int)cause.len, cause.data);
    }
    ret->wire_code = GRPC_STATUS_UNAVAILABLE;
    ret->outcome_unknown = false;
}

static bool broke(fila_view text)
{
    for (size_t i = 0; i < sizeof BREAKING / sizeof *BREAKING; i++) {
        if (contains(text, BREAKING[i])) {
            return true;
        }
    }
    return false;
}

/* How many bytes at `text` are one good character: 0 when they are none, or a control character. */
static size_t character(const char *text)
{
    unsigned char first = (unsigned char)text[0];
    size_t len = first < 0x80 ? 1 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
    bool good = first >= 0x20 && first != 0x7f && strnlen(text, len) == len;
    return good && fila_utf8_valid(text, len) ? len : 0;
}

/* The text came from the peer, and may have been cut: one line of good UTF-8 of it. */
static void clean(char *text)
{
    char *end = text + strlen(text);
    for (char *at = text; at < end;) {
        size_t len = character(at);
        if (!len) {
            *at = (unsigned char)*at < 0x80 ? ' ' : '?';
        }
        at += len ? len : 1;
    }
}

void fg_explain(
    const struct fg_transport *transport,
    fila_call method,
    grpc_call *call,
    grpc_status_code status,
    const grpc_slice *details,
    fila_error *ret_error)
{
    fila_view text = view_of(details);
    if (status == GRPC_STATUS_UNAVAILABLE && !was_sent(transport, call, text)) {
        no_connection(transport, text, ret_error);
    } else if (status == GRPC_STATUS_UNAVAILABLE && broke(text)) {
        (void)fila_fail(
            ret_error, FILA_BROKER_UNAVAILABLE, "the connection to %s broke: %.*s",
            transport->address.name, (int)text.len, text.data);
        ret_error->wire_code = GRPC_STATUS_UNAVAILABLE;
    } else {
        (void)fila_fail_wire(ret_error, method, (int)status, text);
        if (text.len == 0) {
            (void)snprintf(
                ret_error->text, sizeof ret_error->text,
                "%.180s answered with gRPC status %d and no text", transport->address.name,
                (int)status);
        }
    }
    clean(ret_error->text);
}

void fg_read_leader(const grpc_metadata_array *trailing, fila_error *error)
{
    if (error->wire_code != GRPC_STATUS_UNAVAILABLE) {
        return;
    }
    for (size_t i = 0; i < trailing->count; i++) {
        fila_view key = view_of(&trailing->metadata[i].key);
        fila_view value = view_of(&trailing->metadata[i].value);
        if (key.len != sizeof LEADER_KEY - 1 || memcmp(key.data, LEADER_KEY, key.len) != 0) {
            continue;
        }
        error->code = FILA_NOT_LEADER;
        error->outcome_unknown = false;
        if (value.len < sizeof error->leader && fg_is_host_port(value)) {
            memcpy(error->leader, value.data, value.len);
            error->leader[value.len] = '\0';
        }
        return;
    }
}

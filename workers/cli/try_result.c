/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * What `try` says of a message that went through.
 */
#include "base/clock.h"
#include "cli.h"
#include "executor/outbox.h"
#include "try.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

enum {
    STATUS_RETRY = 75,
    STATUS_REJECT = 65,
    STATUS_UNAVAILABLE = 69
};

static const char *verdict_name(enum fw_verdict_kind kind)
{
    static const char *const NAMES[] = {"ack", "retry", "reject", "unavailable"};
    return NAMES[kind];
}

static int exit_status(enum fw_verdict_kind kind)
{
    static const int STATUSES[] = {FW_EXIT_OK, STATUS_RETRY, STATUS_REJECT, STATUS_UNAVAILABLE};
    return STATUSES[kind];
}

static double duration_ms(const struct fw_try_result *result)
{
    return (double)(result->verdict.ended - result->verdict.started) / (double)FILA_MS;
}

/* ---- For programs ---- */

/* A payload that is no text is not shown: jansson gives NULL, which becomes null. */
static json_t *text_json(fila_view text)
{
    json_t *value = json_stringn(text.len ? text.data : "", text.len);
    return value ? value : json_null();
}

static json_t *outbox_json(const struct fw_outgoing *outbox)
{
    json_t *all = json_array();
    for (const struct fw_outgoing *o = outbox; o; o = o->next) {
        json_t *headers = json_object();
        for (size_t i = 0; i < o->header_count; i++) {
            const fila_header *h = &o->headers[i];
            (void)json_object_setn_new(headers, h->key.data, h->key.len, text_json(h->value));
        }
        (void)json_array_append_new(
            all,
            json_pack(
                "{s:s%,s:o,s:I,s:o}", "queue", o->queue.data, o->queue.len, "headers", headers,
                "payload_bytes", (json_int_t)o->payload.len, "payload", text_json(o->payload)));
    }
    return all;
}

static json_t *counters_json(const struct fw_try_result *result)
{
    json_t *all = json_object();
    for (unsigned i = 0; i < result->counter_count; i++) {
        (void)json_object_set_new(
            all, result->counters[i].name, json_integer((json_int_t)result->counters[i].value));
    }
    return all;
}

static void tell_json(const struct fw_try_result *result)
{
    const struct fw_verdict *verdict = &result->verdict;
    json_t *all = json_pack(
        "{s:s,s:s?,s:s?,s:o,s:f,s:o,s:o}", "verdict", verdict_name(verdict->kind), "cause",
        verdict->cause ? fw_cause_name(verdict->cause) : NULL, "reason", result->reason,
        "retry_after_ms",
        verdict->delay ? json_integer((json_int_t)(verdict->delay / FILA_MS)) : json_null(),
        "duration_ms", duration_ms(result), "published", outbox_json(result->outbox), "counters",
        counters_json(result));
    (void)json_dumpf(all, stdout, JSON_COMPACT | JSON_REAL_PRECISION(6));
    (void)putchar('\n');
    json_decref(all);
}

/* ---- For people ---- */

static void tell_text(const struct fw_try_result *result)
{
    const char *verdict = verdict_name(result->verdict.kind);
    const char *cause = fw_cause_name(result->verdict.cause);
    bool told = result->verdict.cause && strcmp(cause, verdict) != 0;
    (void)printf(
        "%s%s%s%s in %.1f ms%s%s\n", verdict, told ? " (" : "", told ? cause : "", told ? ")" : "",
        duration_ms(result), result->reason ? ": " : "", result->reason ? result->reason : "");
    if (result->verdict.delay) {
        (void)printf(
            "asks for a retry after %lld ms\n", (long long)(result->verdict.delay / FILA_MS));
    }
    for (const struct fw_outgoing *o = result->outbox; o; o = o->next) {
        (void)printf(
            "publishes to %.*s: payload of %zu bytes, %zu headers\n", (int)o->queue.len,
            o->queue.data, o->payload.len, o->header_count);
    }
    for (unsigned i = 0; i < result->counter_count; i++) {
        (void)printf(
            "counts %s: %llu\n", result->counters[i].name,
            (unsigned long long)result->counters[i].value);
    }
}

int fw_try_tell(const struct fw_try *request, const struct fw_try_result *result)
{
    (request->json ? tell_json : tell_text)(result);
    return exit_status(result->verdict.kind);
}

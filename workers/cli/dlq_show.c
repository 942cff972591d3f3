/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "base/clock.h"
#include "cli.h"
#include "connect.h"
#include "dlq.h"
#include "host/deadletter.h"
#include "wire/codec.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum {
    WAIT_MS = 2000,
    DEFAULT_LIMIT = 10
};

int fw_dlq_waiting(struct fw_dlq *dlq, uint64_t *ret_count)
{
    fila_reply *reply = NULL;
    fila_error error = FILA_ERROR_INIT;
    fila_request request = {
        .call = FILA_CALL_GET_STATS, .as.queue = {.queue = fila_view_of(dlq->name)}};
    if (fila_call_wait(dlq->client, &request, &reply, &error) != FILA_OK) {
        return fw_cli_call_failed("dlq", dlq->name, &error);
    }
    const fila_queue_stats *s = &reply->as.stats;
    *ret_count = s->depth > s->in_flight ? s->depth - s->in_flight : 0;
    dlq->consumers = s->active_consumers;
    fila_reply_free(reply);
    return 0;
}

void fw_dlq_let_go(struct fw_dlq *dlq, fila_consumer *consumer)
{
    const struct timespec pause = {0, 10000000};
    fila_request request = {
        .call = FILA_CALL_GET_STATS, .as.queue = {.queue = fila_view_of(dlq->name)}};
    fila_consumer_free(consumer);
    for (int64_t until = fila_now() + 2 * FILA_S; fila_now() < until;) {
        fila_reply *reply = NULL;
        fila_error error = FILA_ERROR_INIT;
        if (fila_call_wait(dlq->client, &request, &reply, &error) != FILA_OK) {
            return;
        }
        bool gone = reply->as.stats.active_consumers <= dlq->consumers;
        fila_reply_free(reply);
        if (gone) {
            return;
        }
        (void)nanosleep(&pause, NULL);
    }
}

int fw_dlq_ls(struct fw_dlq *dlq)
{
    fila_reply *reply = NULL;
    fila_error error = FILA_ERROR_INIT;
    fila_request request = {.call = FILA_CALL_LIST_QUEUES};
    if (fila_call_wait(dlq->client, &request, &reply, &error) != FILA_OK) {
        return fw_cli_call_failed("dlq", "broker", &error);
    }
    json_t *list = dlq->json ? json_array() : NULL;
    if (!dlq->json) {
        (void)printf("%10s %10s  %s\n", "MESSAGES", "IN FLIGHT", "DEAD-LETTER QUEUE");
    }
    for (size_t i = 0; i < reply->as.list_queues.count; i++) {
        const fila_queue_info *q = &reply->as.list_queues.queues[i];
        if (q->name.len < 4 || memcmp(q->name.data + q->name.len - 4, ".dlq", 4) != 0) {
            continue;
        }
        if (dlq->json) {
            json_t *name = json_stringn(q->name.data, q->name.len);
            json_t *row = json_pack(
                "{s:o,s:I,s:I}", "queue", name ? name : json_null(), "depth", (json_int_t)q->depth,
                "in_flight", (json_int_t)q->in_flight);
            (void)json_array_append_new(list, row);
        } else {
            (void)printf("%10" PRIu64 " %10" PRIu64 "  ", q->depth, q->in_flight);
            fw_cli_print_text(stdout, q->name);
            (void)putchar('\n');
        }
    }
    if (list) {
        (void)json_dumpf(list, stdout, JSON_COMPACT);
        (void)putchar('\n');
    }
    json_decref(list);
    fila_reply_free(reply);
    return 0;
}

/* ---- One message ---- */

/* At most `max` bytes; a text ends with a whole character. */
static size_t cut(fila_view p, uint64_t max, bool text)
{
    size_t shown = p.len < max ? p.len : (size_t)max;
    while (text && shown && shown < p.len && ((unsigned char)p.data[shown] & 0xC0u) == 0x80u) {
        shown--;
    }
    return shown;
}

static void show_payload(const fila_message *m, uint64_t max)
{
    fila_view p = fila_message_payload(m);
    bool text = fila_utf8_valid(p.data, p.len) && (!p.len || !memchr(p.data, 0, p.len));
    size_t shown = cut(p, max, text);
    (void)printf("  payload (%zu bytes%s):\n", p.len, shown < p.len ? ", cut" : "");
    if (text) {
        (void)printf("    ");
        fw_cli_print_text(stdout, (fila_view){p.data, shown});
        (void)putchar('\n');
        return;
    }
    for (size_t at = 0; at < shown; at += 16) {
        (void)printf("    %06zx ", at);
        for (size_t i = at; i < shown && i < at + 16; i++) {
            (void)printf(" %02x", (unsigned char)p.data[i]);
        }
        (void)putchar('\n');
    }
}

static void show_text(const struct fw_dlq *dlq, const fila_message *m)
{
    fila_view id = fila_message_id(m);
    size_t cursor = 0;
    (void)printf(
        "%.*s  deliveries from here: %u\n", (int)id.len, id.data, fila_message_attempt_count(m));
    for (fila_header h; fila_message_next_header(m, &cursor, &h);) {
        bool ours = fw_dead_letter_header(h.key);
        size_t skip = ours ? sizeof FW_DEAD_LETTER_PREFIX - 1 : 0;
        (void)printf("  %s", ours ? "" : "header ");
        fw_cli_print_text(stdout, (fila_view){h.key.data + skip, h.key.len - skip});
        (void)printf(": ");
        fw_cli_print_text(stdout, h.value);
        (void)putchar('\n');
    }
    show_payload(m, dlq->payload);
}

static json_t *json_view(fila_view v)
{
    json_t *value = json_stringn(v.data ? v.data : "", v.len);
    return value ? value : json_null();
}

static json_t *hex(fila_view bytes)
{
    static const char DIGITS[] = "0123456789abcdef";
    char *text = malloc(2 * bytes.len + 1);
    json_t *value = NULL;
    for (size_t i = 0; text && i < bytes.len; i++) {
        text[2 * i] = DIGITS[((unsigned char)bytes.data[i]) >> 4];
        text[2 * i + 1] = DIGITS[bytes.data[i] & 15];
    }
    value = text ? json_stringn(text, 2 * bytes.len) : json_null();
    free(text);
    return value;
}

static void set_header(json_t *object, fila_header h, size_t skip)
{
    char key[256];
    size_t len = h.key.len - skip;
    if (len < sizeof key) {
        memcpy(key, h.key.data + skip, len);
        key[len] = '\0';
        (void)json_object_set_new(object, key, json_view(h.value));
    }
}

static void show_json(const struct fw_dlq *dlq, const fila_message *m)
{
    size_t cursor = 0;
    json_t *why = json_object();
    json_t *headers = json_object();
    fila_view payload = fila_message_payload(m);
    bool text = fila_utf8_valid(payload.data, payload.len);
    fila_view shown = {payload.data, cut(payload, dlq->payload, text)};
    for (fila_header h; fila_message_next_header(m, &cursor, &h);) {
        bool ours = fw_dead_letter_header(h.key);
        set_header(ours ? why : headers, h, ours ? sizeof FW_DEAD_LETTER_PREFIX - 1 : 0);
    }
    json_t *line = json_pack(
        "{s:o,s:o,s:I,s:o,s:o,s:I,s:o}", "id", json_view(fila_message_id(m)), "queue",
        json_view(fila_message_queue(m)), "attempt_count",
        (json_int_t)fila_message_attempt_count(m), "dead_letter", why, "headers", headers,
        "payload_bytes", (json_int_t)payload.len, text ? "payload" : "payload_hex",
        text ? json_view(shown) : hex(shown));
    if (line) {
        (void)json_dumpf(line, stdout, JSON_COMPACT);
        (void)putchar('\n');
    }
    json_decref(line);
}

/* ---- All of them ---- */

static int read_all(struct fw_dlq *dlq, fila_message **held, uint64_t want, uint64_t *ret_count)
{
    fila_consumer *consumer = NULL;
    fila_error error = FILA_ERROR_INIT;
    if (fila_consumer_open(dlq->client, fila_view_of(dlq->name), NULL, NULL, &consumer, &error) !=
        FILA_OK) {
        return fw_cli_call_failed("dlq", dlq->name, &error);
    }
    fila_status status = FILA_OK;
    while (*ret_count < want && status == FILA_OK) {
        status = fila_consumer_next(consumer, WAIT_MS, &held[*ret_count], &error);
        *ret_count += status == FILA_OK;
    }
    fw_dlq_let_go(dlq, consumer);
    return status == FILA_OK || status == FILA_TIMEOUT
               ? 0
               : fw_cli_call_failed("dlq", dlq->name, &error);
}

static void put_back(struct fw_dlq *dlq, const fila_message *m)
{
    fila_error error = FILA_ERROR_INIT;
    fila_view why = fila_view_of("fila-worker: looked at by dlq show");
    if (fila_nack(dlq->client, fila_message_queue(m), fila_message_id(m), why, &error) != FILA_OK &&
        error.code != FILA_MESSAGE_NOT_FOUND) {
        (void)fw_cli_fail(
            "dlq", 0,
            "could not put one back at once (%s): it comes back after the visibility timeout",
            error.text);
    }
}

int fw_dlq_show(struct fw_dlq *dlq)
{
    uint64_t waiting = 0;
    uint64_t count = 0;
    int status = fw_dlq_waiting(dlq, &waiting);
    if (status) {
        return status;
    }
    uint64_t limit = dlq->limit ? dlq->limit : DEFAULT_LIMIT;
    uint64_t want = waiting < limit ? waiting : limit;
    fila_message **held = calloc((size_t)want + 1, sizeof(fila_message *));
    if (!held) {
        return fw_cli_fail("dlq", FW_EXIT_INTERNAL, "no memory for %" PRIu64 " messages", want);
    }
    if (want) {
        status = read_all(dlq, held, want, &count);
    }
    for (uint64_t i = 0; i < count; i++) { /* before a reader that goes away can end us */
        put_back(dlq, held[i]);
    }
    for (uint64_t i = 0; i < count; i++) {
        (void)(dlq->json ? show_json(dlq, held[i]) : show_text(dlq, held[i]));
        fila_message_free(held[i]);
    }
    if (!dlq->json) {
        (void)printf(
            "%" PRIu64 " of %" PRIu64 " dead letters of \"%s\"\n", count, waiting, dlq->parent);
    }
    free(held);
    return status;
}

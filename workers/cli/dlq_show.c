/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "cli.h"
#include "connect.h"
#include "dlq.h"
#include "host/deadletter.h"
#include "wire/codec.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    DEFAULT_LIMIT = 10
};

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

static void show_payload(const struct fw_dlq *dlq, const fila_message *m)
{
    fila_view p = fila_message_payload(m);
    bool text = !dlq->hex && fila_utf8_valid(p.data, p.len) &&
                (!p.len || !memchr(p.data, 0, p.len));
    size_t shown = p.len < dlq->payload ? p.len : (size_t)dlq->payload;
    while (text && shown < p.len && shown > 0 && ((unsigned char)p.data[shown] & 0xC0u) == 0x80u) {
        shown--; /* a text ends with a whole character */
    }
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
    show_payload(dlq, m);
}

/* ---- All of them ---- */

struct show {
    fila_message **chosen;
    uint64_t count;
    uint64_t room;
};

static enum fw_dlq_step collect(struct fw_dlq_scan *scan, fila_message *m, int *ret_status)
{
    struct show *show = scan->user;
    (void)ret_status;
    if (!fw_dlq_chooses(scan->dlq, m)) {
        fila_message_free(m);
        return FW_DLQ_KEEP;
    }
    show->chosen[show->count++] = m;
    scan->enough = show->count == show->room;
    return FW_DLQ_KEEP;
}

/* Printed when all has been put back: a reader that goes away may end us. */
int fw_dlq_show(struct fw_dlq *dlq)
{
    struct show show = {.room = dlq->limit ? dlq->limit : DEFAULT_LIMIT};
    struct fw_dlq_scan scan = {
        .dlq = dlq,
        .doing = "read",
        .why = "fila-worker: looked at by dlq show",
        .each = collect,
        .user = &show};
    show.chosen = show.room < SIZE_MAX / sizeof(fila_message *)
                      ? calloc((size_t)show.room, sizeof(fila_message *))
                      : NULL;
    if (!show.chosen) {
        return fw_cli_fail(
            "dlq", FW_EXIT_INTERNAL, "no memory for %" PRIu64 " messages", show.room);
    }
    int status = fw_dlq_scan(&scan);
    for (uint64_t i = 0; i < show.count; i++) {
        if (dlq->json) {
            (void)fw_dlq_print_json(stdout, show.chosen[i], dlq->payload, true);
        } else {
            show_text(dlq, show.chosen[i]);
        }
        fila_message_free(show.chosen[i]);
    }
    if (!dlq->json) {
        (void)printf(
            "%" PRIu64 " of %" PRIu64 " dead letters of \"%s\"\n", show.count, scan.waiting,
            dlq->parent);
    }
    free(show.chosen);
    return status;
}

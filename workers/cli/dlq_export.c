/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * export: dead letters as lines of JSON, left where they are or, with --take, acked once they are
 * on disk. import: such lines back into a dead-letter queue, from where `redrive` takes them.
 */
#include "cli.h"
#include "connect.h"
#include "dlq.h"
#include "progress.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum {
    BATCH = 64 /* messages to one sync */
};

#define LONGEST_LINE (UINT64_C(64) << 20) /* a message is at most 4 MiB: hex, headers, escapes */

struct export
{
    FILE *out;
    uint64_t count;
    fila_message *batch[BATCH]; /* with --take: written, not yet acked */
    size_t batched;
};

static const char *name_of(const struct fw_dlq *dlq)
{
    return dlq->file != NULL ? dlq->file : "standard output";
}

/* To the disk, as far as it is one. */
static bool is_safe(FILE *out)
{
    return fflush(out) == 0 && (fsync(fileno(out)) == 0 || errno == EINVAL || errno == EROFS);
}

/* Acks what was written; what cannot be is kept, so that it shows up again. */
static int settle(const struct fw_dlq *dlq, struct export *x)
{
    int status = 0;
    fila_error error = FILA_ERROR_INIT;
    if (x->batched > 0 && !is_safe(x->out)) {
        status = fw_cli_fail("dlq", FW_EXIT_FAILED, "%s: %s", name_of(dlq), strerrordesc_np(errno));
    }
    for (size_t i = 0; i < x->batched; i++) {
        const fila_message *m = x->batch[i];
        if (status == 0 &&
            fila_ack(dlq->client, fila_message_queue(m), fila_message_id(m), &error) != FILA_OK) {
            status = fw_cli_call_failed(
                "dlq", "some are written, but not taken out of the dead-letter queue", &error);
        }
        fila_message_free(x->batch[i]);
    }
    x->batched = 0;
    return status;
}

static enum fw_dlq_step one(struct fw_dlq_scan *scan, fila_message *m, int *ret_status)
{
    struct export *x = scan->user;
    const struct fw_dlq *dlq = scan->dlq;
    if (!fw_dlq_chooses(dlq, m)) {
        fila_message_free(m);
        return FW_DLQ_KEEP;
    }
    if (!fw_dlq_print_json(x->out, m, UINT64_MAX, false)) {
        *ret_status =
            fw_cli_fail("dlq", FW_EXIT_FAILED, "%s: %s", name_of(dlq), strerrordesc_np(errno));
        fila_message_free(m);
        return FW_DLQ_KEEP;
    }
    scan->enough = ++x->count == dlq->limit;
    if (!dlq->take) {
        fila_message_free(m);
        return FW_DLQ_KEEP;
    }
    x->batch[x->batched++] = m;
    if (x->batched == BATCH) {
        *ret_status = settle(dlq, x);
    }
    return FW_DLQ_SETTLED; /* an ack that fails leaves it to its lease */
}

int fw_dlq_export(struct fw_dlq *dlq)
{
    struct export x = {.out = stdout};
    struct fw_dlq_scan scan = {
        .dlq = dlq,
        .doing = "exported",
        .why = "fila-worker: read by dlq export",
        .each = one,
        .user = &x};
    if (dlq->file != NULL) {
        x.out = fopen(dlq->file, "wxe");
    }
    if (x.out == NULL) {
        return fw_cli_fail(
            "dlq", FW_EXIT_FAILED, "%s: %s", dlq->file,
            errno == EEXIST ? "it is there already, and is not overwritten"
                            : strerrordesc_np(errno));
    }
    int status = fw_dlq_scan(&scan);
    int last = settle(dlq, &x);
    status = status ? status : last;
    if (!is_safe(x.out) && status == 0) {
        status = fw_cli_fail("dlq", FW_EXIT_FAILED, "%s: %s", name_of(dlq), strerrordesc_np(errno));
    }
    if (x.out != stdout && fclose(x.out) != 0 && status == 0) {
        status = fw_cli_fail("dlq", FW_EXIT_FAILED, "%s: %s", dlq->file, strerrordesc_np(errno));
    }
    (void)fprintf(
        stderr, "%" PRIu64 " of %" PRIu64 " dead letters of \"%s\" %s\n", x.count, scan.waiting,
        dlq->parent, dlq->take ? "taken out" : "exported");
    return status;
}

/* ---- Import ---- */

static int import_line(const struct fw_dlq *dlq, const char *text, size_t len, uint64_t number)
{
    char why[256];
    char id[FILA_ID_SIZE];
    struct fw_dlq_line line;
    fila_error error = FILA_ERROR_INIT;
    if (!fw_dlq_read_json(text, len, &line, why, sizeof why)) {
        return fw_cli_fail("dlq", FW_EXIT_FAILED, "line %" PRIu64 ": %s", number, why);
    }
    fila_status status = fila_enqueue(
        dlq->client, fila_view_of(dlq->name), line.headers, line.header_count, line.payload, id,
        &error);
    fw_dlq_line_free(&line);
    return status == FILA_OK ? 0 : fw_cli_call_failed("dlq", dlq->name, &error);
}

/* Lines until one fails; *ret_next is the first that is not in the queue. */
static int import_all(const struct fw_dlq *dlq, FILE *in, uint64_t *ret_next, uint64_t *ret_count)
{
    char *line = NULL;
    size_t room = 0;
    int status = 0;
    uint64_t number = 1;
    struct fw_progress progress;
    fw_progress_start(&progress, "imported", 0);
    for (; status == 0 && !fw_dlq_interrupted(); number++) {
        errno = 0;
        ssize_t len = getline(&line, &room, in);
        if (len < 0) {
            if (ferror(in)) {
                status = fw_cli_fail(
                    "dlq", FW_EXIT_FAILED, "line %" PRIu64 ": %s", number, strerrordesc_np(errno));
            }
            break;
        }
        if (number < dlq->from_line || line[strspn(line, " \t\r\n")] == '\0') {
            continue;
        }
        status = (uint64_t)len > LONGEST_LINE
                     ? fw_cli_fail(
                           "dlq", FW_EXIT_FAILED,
                           "line %" PRIu64 " is longer than a message can be", number)
                     : import_line(dlq, line, (size_t)len, number);
        if (status != 0) {
            break;
        }
        fw_progress_set(&progress, ++*ret_count);
    }
    fw_progress_end(&progress);
    free(line);
    *ret_next = number;
    return status;
}

int fw_dlq_import(struct fw_dlq *dlq)
{
    uint64_t next = 0;
    uint64_t count = 0;
    FILE *in = dlq->file != NULL ? fopen(dlq->file, "re") : stdin;
    if (in == NULL) {
        return fw_cli_fail("dlq", FW_EXIT_FAILED, "%s: %s", dlq->file, strerrordesc_np(errno));
    }
    int status = import_all(dlq, in, &next, &count);
    if (in != stdin) {
        (void)fclose(in);
    }
    (void)fprintf(stderr, "%" PRIu64 " imported into \"%s\"\n", count, dlq->name);
    if (status != 0 || fw_dlq_interrupted()) {
        (void)fprintf(stderr, "fila-worker dlq: go on with --from-line %" PRIu64 "\n", next);
    }
    return status;
}

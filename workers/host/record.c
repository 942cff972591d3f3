/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "record.h"

#include "base/clock.h"

#include <stdio.h>
#include <stdlib.h>

void fw_record_fini(struct fw_record *record)
{
    free(record->recent);
    record->recent = NULL;
}

/* The wall clock by CLOCK_BOOTTIME, set again each second: ages need no more. */
static int64_t wall_ms(struct fw_record *record, int64_t now)
{
    if (record->wall_at == 0 || now - record->wall_at > FILA_S) {
        record->wall_at = now;
        record->wall_offset = fila_wall_ms() - now / FILA_MS;
    }
    return record->wall_offset + now / FILA_MS;
}

void fw_record_read(struct fw_record *record, struct fw_item *item, int64_t now)
{
    int64_t enqueued = fw_id_time_ms(fila_message_id(item->message));
    item->read_at = now;
    item->run_at = 0;
    if (enqueued) {
        int64_t age = wall_ms(record, now) - enqueued;
        fw_histogram_add(&record->counters.message_age, &FW_EDGES_AGE, age > 0 ? age * FILA_MS : 0);
    }
}

void fw_record_result(struct fw_record *record, const struct fw_item *item)
{
    const struct fw_verdict *v = &item->job.verdict;
    struct fw_queue_counters *c = &record->counters;
    if (v->started == 0) {
        return;
    }
    fw_histogram_add(&c->handler_duration, &FW_EDGES_RUN, v->ended - v->started);
    fw_histogram_add(&c->lease_at_start, &FW_EDGES_LEASE, item->lease_end - v->started);
    if (item->first_run) {
        fw_histogram_add(&c->queue_wait, &FW_EDGES_RUN, v->started - item->read_at);
    }
    if (v->kind == FW_UNAVAILABLE) {
        (void)snprintf(
            record->unavailable, sizeof record->unavailable, "%s",
            item->job.reason ? item->job.reason : "");
    }
}

static bool is_failed_try(const struct fw_verdict *v)
{
    return v->kind != FW_ACK && v->cause != FW_CAUSE_NONE && v->cause != FW_CAUSE_UNAVAILABLE;
}

enum fw_failing_change fw_record_try(
    struct fw_record *record,
    const struct fw_job *job,
    int64_t now)
{
    const struct fw_verdict *v = &job->verdict;
    if (v->started != 0 && v->kind == FW_ACK) {
        bool failing = record->failed_in_row >= FW_FAILING_TRIES;
        record->failed_in_row = 0;
        return failing ? FW_FAILING_ENDED : FW_FAILING_SAME;
    }
    if (v->started == 0 || !is_failed_try(v)) {
        return FW_FAILING_SAME;
    }
    record->failing_since = record->failed_in_row ? record->failing_since : now;
    record->failing_last = now;
    record->failed_in_row += record->failed_in_row < UINT32_MAX;
    (void)snprintf(record->failing, sizeof record->failing, "%s", job->reason ? job->reason : "");
    return record->failed_in_row == FW_FAILING_TRIES ? FW_FAILING_BEGAN : FW_FAILING_SAME;
}

void fw_record_settled(struct fw_record *record, const struct fila_settle *settle, int64_t took)
{
    if (settle->result == FILA_SETTLE_OK) {
        fw_histogram_add(&record->counters.settle_duration, &FW_EDGES_SETTLE, took);
        return;
    }
    enum fw_settle_call call = settle->kind == FILA_SETTLE_ACK ? FW_CALL_ACK : FW_CALL_NACK;
    fila_status code = settle->error.code;
    if (settle->result == FILA_SETTLE_GONE && code == FILA_OK) {
        code = FILA_MESSAGE_NOT_FOUND;
    }
    record->counters.settle_errors[call][code < FILA_STATUS_COUNT ? code : FILA_INTERNAL]++;
}

void fw_record_published(struct fw_record *record, const fila_error *error, int64_t now)
{
    if (error->code == FILA_OK) {
        record->dlq_since = 0;
        return;
    }
    record->counters.settle_errors[FW_CALL_PUBLISH][error->code]++;
    record->dlq_last = now;
    (void)snprintf(record->dlq_text, sizeof record->dlq_text, "%s", error->text);
}

static size_t keep(char *room, size_t size, const char *data, size_t len)
{
    size_t kept = len < size ? len : size;
    memcpy(room, data, kept);
    return kept;
}

void fw_record_failure(
    struct fw_record *record,
    enum fw_event event,
    const struct fw_item *item,
    enum fw_cause cause)
{
    if (!record->recent) {
        record->recent = calloc(FW_RECENT, sizeof *record->recent);
    }
    if (!record->recent) {
        return;
    }
    struct fw_recent *r = &record->recent[record->recent_next];
    fila_view id = fila_message_id(item->message);
    const char *text = item->job.reason ? item->job.reason : "";
    r->event = event;
    r->cause = cause;
    r->attempt = item->job.attempt;
    r->wall_ms = fila_wall_ms();
    r->id_len = keep(r->id, sizeof r->id, id.data, id.len);
    r->text_len = keep(r->text, sizeof r->text, text, strlen(text));
    record->recent_next = (record->recent_next + 1) % FW_RECENT;
    record->recent_count += record->recent_count < FW_RECENT;
}

void fw_record_notice(struct fw_record *record, const struct fw_command *notice, int64_t now)
{
    switch (notice->notice) {
    case FW_NOTICE_RECONNECT:
        record->counters.reconnects++;
        record->down_since = record->down_since ? record->down_since : now;
        break;
    case FW_NOTICE_VT_SHORT:
        record->vt_short_since = record->vt_short_since ? record->vt_short_since : now;
        break;
    case FW_NOTICE_DLQ_REFUSED:
    case FW_NOTICE_DLQ_TOO_LARGE:
        record->dlq_since = record->dlq_since ? record->dlq_since : now;
        record->dlq_last = now;
        break;
    case FW_NOTICE_OVERLEASED:
        record->overleased_since = now;
        record->overleased_vt = notice->value;
        break;
    default:
        break;
    }
}

/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * What a queue notes of itself for those who watch it: histograms, recent failures, and since when
 * something is wrong. Written by queue*.c as things happen, copied into a snapshot by
 * queue_status.c. Thread: I/O.
 *
 * Cost: a message that goes well costs five histogram entries, and no system call; memory for
 * failures is taken at the first one.
 */
#ifndef FW_HOST_RECORD_H
#define FW_HOST_RECORD_H

#include "item.h"
#include "status/snapshot.h"

/* One failure, its texts cut. */
struct fw_recent {
    enum fw_event event;
    enum fw_cause cause;
    uint32_t attempt;
    int64_t wall_ms;
    size_t id_len;
    size_t text_len;
    char id[64];
    char text[FW_SNAPSHOT_TEXT];
};

struct fw_record {
    struct fw_queue_counters counters;
    struct fw_recent *recent; /* a ring of FW_RECENT; NULL = none so far */
    uint32_t recent_next;
    uint32_t recent_count;
    int64_t wall_at;     /* when wall_offset was taken */
    int64_t wall_offset; /* ms since 1970 less ms of CLOCK_BOOTTIME */

    /* 0, or since when. */
    int64_t down_since;
    int64_t missing_since;
    int64_t vt_short_since;
    int64_t dlq_since;
    int64_t dlq_last;
    int64_t overleased_since;
    int64_t given_up_since;
    int64_t stuck_since;
    int64_t overleased_vt;              /* the visibility timeout that would end it */
    char dlq_text[FILA_ERROR_TEXT];     /* why the last one was refused */
    char unavailable[FW_SNAPSHOT_TEXT]; /* the last reason of FILA_UNAVAILABLE */

    uint32_t failed_in_row;         /* tries that failed, none having succeeded since */
    int64_t failing_since;          /* the first of them */
    int64_t failing_last;           /* the last one */
    char failing[FW_SNAPSHOT_TEXT]; /* and its reason */
};

/* So many failed tries in a row, and the handler is said to be failing. */
#define FW_FAILING_TRIES 10

enum fw_failing_change {
    FW_FAILING_SAME,
    FW_FAILING_BEGAN,
    FW_FAILING_ENDED
};

void fw_record_fini(struct fw_record *record);

/* A message was read. */
void fw_record_read(struct fw_record *record, struct fw_item *item, int64_t now);

/* It is started; `lease_end`: the earliest. */
static inline void fw_record_start(struct fw_item *item, int64_t now, int64_t lease_end)
{
    item->first_run = item->run_at == 0;
    item->run_at = now;
    item->lease_end = lease_end;
}

/* Its handler is through with it (or never had it: then nothing is noted). */
void fw_record_result(struct fw_record *record, const struct fw_item *item);
/* The same result, as one of a row of failures or their end. Unavailability is the breaker's. */
enum fw_failing_change fw_record_try(
    struct fw_record *record,
    const struct fw_job *job,
    int64_t now);
/* An ack or nack was answered. */
void fw_record_settled(struct fw_record *record, const struct fila_settle *settle, int64_t took);
/* A dead-letter copy was answered. */
void fw_record_published(struct fw_record *record, const fila_error *error, int64_t now);
/* A failure that was logged as `event`. */
void fw_record_failure(
    struct fw_record *record,
    enum fw_event event,
    const struct fw_item *item,
    enum fw_cause cause);
/* What the engine has to say. */
void fw_record_notice(struct fw_record *record, const struct fw_command *notice, int64_t now);

#endif

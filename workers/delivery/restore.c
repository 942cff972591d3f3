/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "delivery/internal.h"

enum {
    CRASHES_ENOUGH = 2 /* while alone: the message is poison (15) */
};

static void record(
    struct fw_delivery *e,
    const struct fw_held *h,
    bool done,
    enum fw_outcome outcome)
{
    const struct fw_id *id = h->id;
    if (!e->config.journal) {
        return;
    }
    fw_emit(
        e, &(struct fw_command){
               .kind = FW_COMMAND_RECORD,
               .user = h->user,
               .attempt = id->tries,
               .deadline = id->not_before,
               .seen = id->attempt_seen,
               .cause = id->doomed,
               .done = done,
               .outcome = outcome});
}

void fw_record(struct fw_delivery *e, const struct fw_held *h)
{
    record(e, h, h->id->done, h->id->done_as);
}

void fw_record_done(struct fw_delivery *e, const struct fw_held *h, enum fw_outcome outcome)
{
    record(e, h, true, outcome);
}

/* The entry of an id that no delivery refers to yet; NULL without memory. */
static struct fw_id *entry_of(struct fw_delivery *e, const struct fw_restored *restored)
{
    struct fw_arrival arrival = {
        .queue = restored->queue,
        .queue_len = restored->queue_len,
        .id = restored->id,
        .id_len = restored->id_len,
    };
    return fw_ids_take(&e->ids, &arrival);
}

void fw_delivery_restore(
    struct fw_delivery *engine,
    int64_t now,
    const struct fw_restored *restored)
{
    struct fw_id *id = entry_of(engine, restored);
    if (id == NULL) {
        return;
    }
    engine->now = fw_max(engine->now, now);
    id->tries = restored->tries;
    id->attempt_seen = restored->seen;
    id->seen_at = engine->now;
    id->not_before = restored->not_before;
    id->doomed = restored->doomed;
    id->done = restored->done;
    id->done_as = restored->done_as;
    fw_ids_drop(&engine->ids, id, engine->now);
}

void fw_delivery_suspect(
    struct fw_delivery *engine,
    int64_t now,
    const struct fw_restored *suspect,
    uint32_t crashes)
{
    struct fw_id *id = entry_of(engine, suspect);
    if (id == NULL) {
        return;
    }
    engine->now = fw_max(engine->now, now);
    id->suspect = crashes < CRASHES_ENOUGH;
    if (!id->suspect) { /* what is done is acked on sight all the same */
        id->doomed = FW_CAUSE_POISON;
        id->tries = id->tries > crashes ? id->tries : crashes;
    }
    fw_ids_drop(&engine->ids, id, engine->now);
}

/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "delivery/internal.h"

/* Neither dead-lettered nor dropped: again, at the slowest pace. */
static void retry_slowly(struct fw_delivery *e, struct fw_held *h)
{
    h->id->doomed = FW_CAUSE_NONE;
    h->id->not_before = e->now + fw_slowest_backoff(e);
    fw_record(e, h);
    fw_wait(e, h, h->id->not_before, FW_THEN_RUN);
}

/* It stays what it is, and is asked about again at the slowest pace; until then it waits like an
 * unstarted one. */
static void keep_aside(struct fw_delivery *e, struct fw_held *h)
{
    h->refused = true;
    h->cause = FW_CAUSE_NONE;
    h->id->not_before = e->now + fw_slowest_backoff(e);
    fw_record(e, h);
    fw_wait(e, h, h->id->not_before, FW_THEN_PUBLISH);
}

/* Whether it must not run again whatever the config says of dead letters. */
static bool stays_doomed(const struct fw_delivery *e, enum fw_cause cause)
{
    return e->config.dead_letter == FW_DEAD_LETTER_WORKER || cause == FW_CAUSE_POISON;
}

void fw_dead_letter(struct fw_delivery *e, struct fw_held *h, enum fw_cause cause)
{
    h->cause = cause;
    if (e->config.dead_letter == FW_DEAD_LETTER_DROP) {
        fw_record_done(e, h, FW_DROPPED);
        fw_settle(e, h, FW_COMMAND_ACK, FW_DROPPED); /* an ack may always be sent */
        return;
    }
    bool none = e->config.dead_letter == FW_DEAD_LETTER_NONE;
    h->id->doomed = none && !stays_doomed(e, cause) ? FW_CAUSE_NONE : cause;
    fw_record(e, h);
    if (!fw_certain(e, h)) {
        fw_lose(e, h);
    } else if (none && stays_doomed(e, cause)) {
        keep_aside(e, h);
    } else if (none) {
        retry_slowly(e, h);
    } else if (e->config.dead_letter == FW_DEAD_LETTER_BROKER) {
        if (!stays_doomed(e, cause)) { /* if the script lets it come back, it runs */
            h->id->doomed = FW_CAUSE_NONE;
            fw_record(e, h);
        }
        fw_settle(e, h, FW_COMMAND_REJECT, FW_DEAD_LETTERED);
    } else {
        fw_publish(e, h);
    }
}

void fw_publish(struct fw_delivery *e, struct fw_held *h)
{
    fw_move(e, h, FW_PUBLISHING);
    fw_account(e, h, FW_ACCOUNT_SETTLING);
    h->sends++;
    fw_emit(
        e, &(struct fw_command){
               .kind = FW_COMMAND_PUBLISH,
               .user = h->user,
               .deadline = fw_call_deadline(e),
               .cause = h->cause,
               .attempt = h->id->tries});
}

static void refused(struct fw_delivery *e, struct fw_held *h, bool too_large)
{
    fw_notice(e, too_large ? FW_NOTICE_DLQ_TOO_LARGE : FW_NOTICE_DLQ_REFUSED, h->user, 0);
    if (too_large && h->cause != FW_CAUSE_POISON) {
        retry_slowly(e, h);
        return;
    }
    keep_aside(e, h);
}

void fw_published(struct fw_delivery *e, struct fw_held *h, enum fw_settled result, bool too_large)
{
    switch (result) {
    case FW_SETTLED_OK:
        fw_record_done(e, h, FW_DEAD_LETTERED);
        fw_settle(e, h, FW_COMMAND_ACK, FW_DEAD_LETTERED);
        break;
    case FW_SETTLED_UNKNOWN:
    case FW_SETTLED_RETRY:
        h->id->not_before = e->now + fw_backoff(e, h->sends);
        fw_wait(e, h, h->id->not_before, FW_THEN_PUBLISH);
        break;
    case FW_SETTLED_GONE:
    case FW_SETTLED_DENIED:
        refused(e, h, too_large);
        break;
    }
}

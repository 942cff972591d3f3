/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "delivery/internal.h"

/* Neither dead-lettered nor dropped: again, at the slowest pace. */
static void retry_slowly(struct fw_delivery *e, struct fw_held *h)
{
    h->id->doomed = FW_CAUSE_NONE;
    h->id->not_before = e->now + fw_slowest_backoff(e);
    fw_wait(e, h, h->id->not_before, FW_THEN_RUN);
}

void fw_dead_letter(struct fw_delivery *e, struct fw_held *h, enum fw_cause cause)
{
    h->cause = cause;
    if (e->config.dead_letter == FW_DEAD_LETTER_DROP) {
        fw_settle(e, h, FW_COMMAND_ACK, FW_DROPPED); /* an ack may always be sent */
        return;
    }
    h->id->doomed = e->config.dead_letter == FW_DEAD_LETTER_NONE ? FW_CAUSE_NONE : cause;
    if (!fw_certain(e, h)) {
        fw_lose(e, h);
    } else if (e->config.dead_letter == FW_DEAD_LETTER_NONE) {
        retry_slowly(e, h);
    } else if (e->config.dead_letter == FW_DEAD_LETTER_BROKER) {
        h->id->doomed = FW_CAUSE_NONE; /* if the script lets it come back, it runs */
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
    h->refused = true;
    h->cause = FW_CAUSE_NONE;
    h->id->not_before = e->now + fw_slowest_backoff(e);
    fw_wait(e, h, h->id->not_before, FW_THEN_PUBLISH);
}

void fw_published(struct fw_delivery *e, struct fw_held *h, enum fw_settled result, bool too_large)
{
    switch (result) {
    case FW_SETTLED_OK:
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

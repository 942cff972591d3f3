/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "delivery/delivery.h"

const char *fw_outcome_name(enum fw_outcome outcome)
{
    switch (outcome) {
    case FW_ACKED:
        return "acked";
    case FW_RETRIED:
        return "retried";
    case FW_DEAD_LETTERED:
        return "dead_lettered";
    case FW_DROPPED:
        return "dropped";
    case FW_RETURNED:
        return "returned";
    case FW_LEFT:
        return "left";
    case FW_LEASE_LOST:
        return "lease_lost";
    case FW_DUPLICATE:
        return "duplicate";
    case FW_OUTCOME_COUNT:
        break;
    }
    return "unknown";
}

const char *fw_cause_name(enum fw_cause cause)
{
    switch (cause) {
    case FW_CAUSE_NONE:
        return "none";
    case FW_CAUSE_RETRY:
        return "retry";
    case FW_CAUSE_REJECT:
        return "reject";
    case FW_CAUSE_UNAVAILABLE:
        return "unavailable";
    case FW_CAUSE_TIMEOUT:
        return "timeout";
    case FW_CAUSE_CRASH:
        return "crash";
    case FW_CAUSE_POISON:
        return "poison";
    case FW_CAUSE_COUNT:
        break;
    }
    return "unknown";
}

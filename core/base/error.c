/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "error.h"

#include <stdarg.h>
#include <stdio.h>

struct status_row {
    const char *name;
    int wire_code;
    bool retryable;
    bool outcome_unknown;
};

static const struct status_row ROWS[FILA_STATUS_COUNT] = {
    [FILA_OK] = {"ok", 0, false, false},
    [FILA_INVALID_ARGUMENT] = {"invalid argument", 3, false, false},
    [FILA_QUEUE_NOT_FOUND] = {"queue not found", 5, false, false},
    [FILA_MESSAGE_NOT_FOUND] = {"message not found", 5, false, false},
    [FILA_KEY_NOT_FOUND] = {"API key not found", 5, false, false},
    [FILA_QUEUE_EXISTS] = {"queue exists", 6, false, false},
    [FILA_PARENT_NOT_FOUND] = {"parent queue not found", 9, false, false},
    [FILA_UNAUTHENTICATED] = {"unauthenticated", 16, false, false},
    [FILA_DENIED] = {"permission denied", 7, false, false},
    [FILA_OVERLOADED] = {"overloaded", 8, true, false},
    [FILA_TOO_LARGE] = {"too large", 11, false, false},
    [FILA_NOT_LEADER] = {"not the leader", 14, true, false},
    [FILA_BROKER_UNAVAILABLE] = {"unavailable", 14, true, true},
    [FILA_TIMEOUT] = {"timeout", 4, true, true},
    [FILA_CANCELLED] = {"cancelled", 1, false, true},
    [FILA_UNIMPLEMENTED] = {"unimplemented", 12, false, false},
    [FILA_INTERNAL] = {"internal error", 13, true, true},
    [FILA_PROTOCOL] = {"protocol error", 13, false, true},
    [FILA_CLOSED] = {"closed", 1, false, true},
    [FILA_UNSUPPORTED] = {"unsupported", 12, false, false},
    [FILA_NO_MEMORY] = {"out of memory", 13, true, false},
};

static const char *const CALLS[FILA_CALL_COUNT] = {
    "Enqueue",      "Consume",      "Ack",         "Nack",     "CreateQueue", "DeleteQueue",
    "SetConfig",    "GetConfig",    "ListConfig",  "GetStats", "Redrive",     "ListQueues",
    "CreateApiKey", "RevokeApiKey", "ListApiKeys", "SetAcl",   "GetAcl",
};

const char *fila_status_name(fila_status status)
{
    return (unsigned)status < FILA_STATUS_COUNT ? ROWS[status].name : "unknown status";
}

const char *fila_call_name(fila_call call)
{
    return (unsigned)call < FILA_CALL_COUNT ? CALLS[call] : "unknown call";
}

int fila_wire_code(fila_status status)
{
    return (unsigned)status < FILA_STATUS_COUNT ? ROWS[status].wire_code : 2;
}

static void fill(fila_error *reterr, fila_status code, int wire_code)
{
    reterr->code = code;
    reterr->wire_code = wire_code;
    reterr->retryable = ROWS[code].retryable;
    reterr->outcome_unknown = ROWS[code].outcome_unknown;
    reterr->leader[0] = '\0';
}

fila_status fila_fail(fila_error *reterr, fila_status code, const char *format, ...)
{
    if (reterr) {
        va_list args;
        fill(reterr, code, -1);
        va_start(args, format);
        (void)vsnprintf(reterr->text, sizeof reterr->text, format, args);
        va_end(args);
    }
    return code;
}

static fila_status not_found(fila_call call)
{
    switch (call) {
    case FILA_CALL_ACK:
    case FILA_CALL_NACK:
        return FILA_MESSAGE_NOT_FOUND;
    case FILA_CALL_REVOKE_API_KEY:
    case FILA_CALL_SET_ACL:
    case FILA_CALL_GET_ACL:
        return FILA_KEY_NOT_FOUND;
    default:
        return FILA_QUEUE_NOT_FOUND;
    }
}

static fila_status meaning(fila_call call, int wire_code)
{
    switch (wire_code) {
    case 0:
        return FILA_OK;
    case 1:
    case 4:
        return FILA_TIMEOUT;
    case 3:
        return FILA_INVALID_ARGUMENT;
    case 5:
        return not_found(call);
    case 6:
        return FILA_QUEUE_EXISTS;
    case 7:
        return FILA_DENIED;
    case 8:
        return FILA_OVERLOADED;
    case 9:
        return FILA_PARENT_NOT_FOUND;
    case 11:
        return FILA_TOO_LARGE;
    case 12:
        return FILA_UNIMPLEMENTED;
    case 14:
        return FILA_BROKER_UNAVAILABLE;
    case 16:
        return FILA_UNAUTHENTICATED;
    default:
        return FILA_INTERNAL;
    }
}

fila_status fila_fail_wire(fila_error *reterr, fila_call call, int wire_code, fila_view text)
{
    fila_status code = meaning(call, wire_code);
    if (reterr) {
        size_t len = text.len < sizeof reterr->text - 1 ? text.len : sizeof reterr->text - 1;
        fill(reterr, code, wire_code);
        if (len) {
            memcpy(reterr->text, text.data, len);
        }
        reterr->text[len] = '\0';
    }
    return code;
}

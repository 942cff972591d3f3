/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * One request on the control socket: a line with a JSON object, such as
 *
 *     {"do":"pause","queue":"orders"}
 *     {"do":"set","queue":"orders","rate":2.5}
 *     {"do":"tap","queue":"orders","per_second":5,"payload":true}
 *
 * The input is not trusted: every key and type is checked, and what is not known is refused. Pure.
 * Thread: any.
 */
#ifndef FW_CTL_REQUEST_H
#define FW_CTL_REQUEST_H

#include "log/log.h"

/* The longest line, its newline included. */
#define FW_CTL_LINE_SIZE 4096
#define FW_CTL_NAME_SIZE 1024

enum fw_ctl_verb {
    FW_CTL_STATUS,
    FW_CTL_PAUSE,    /* queue, or all */
    FW_CTL_RESUME,   /* queue, or all */
    FW_CTL_DRAIN,    /* the worker stops, as by SIGTERM */
    FW_CTL_RELOAD,   /* as by SIGHUP; answered when it is over */
    FW_CTL_LOGLEVEL, /* level; until the next reload */
    FW_CTL_SET,      /* queue, rate or concurrency; until the next reload */
    FW_CTL_TAP,      /* messages as they end, sampled, until the client goes */
    FW_CTL_DUMP,     /* the in-flight table into the log */
    FW_CTL_VERB_COUNT
};

struct fw_ctl_request {
    enum fw_ctl_verb verb;
    char queue[FW_CTL_NAME_SIZE]; /* "" = all */
    enum fw_log_level level;
    bool has_rate;
    double rate;          /* starts a second; 0 = no limit */
    uint32_t concurrency; /* 0 = not given */
    uint32_t per_second;  /* of tap: at most so many; 1 to 1000 */
    bool payload;         /* of tap: payloads and headers too */
};

/* False: `ret_why` says what is wrong. */
bool fw_ctl_parse(
    const char *line,
    size_t len,
    struct fw_ctl_request *ret_request,
    char *ret_why,
    size_t size);

const char *fw_ctl_verb_name(enum fw_ctl_verb verb);

#endif

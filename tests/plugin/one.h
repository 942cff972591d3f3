/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * One message after the other through a handler, without a broker: load, bind, run, wait. For the
 * one test that runs in this process.
 */
#ifndef ONE_H
#define ONE_H

#include "executor/executor.h"
#include "plugin/loader.h"

/* Options, as text; the list ends with NULL:
 *     "name=value"    as in quotes
 *     "name:=value"   as a bare number or boolean
 *     "name[]=value"  one more string of a list
 *     "name[]"        an empty list */
typedef const char *one_options[12];

struct one_message {
    const char *payload;
    size_t payload_len;
    const fila_header *headers;
    size_t header_count;
    const char *fairness_key;
    uint32_t attempt;   /* 0 = 1 */
    int64_t timeout_ms; /* 0 = 20 s */
};

struct one_result {
    enum fw_verdict_kind kind;
    enum fw_cause cause;
    int64_t took_ms;
    char reason[FW_REASON_SIZE]; /* "" = none */
};

/* FILA_OK; or what refused it, with the text in *reterr (of the first problem for options: "key:
 * text"). */
fila_status one_open(const char *plugin, const one_options options, fila_error *reterr);
struct one_result one_run(const struct one_message *message);
/* For those who want to look on: starts it, later waits. */
void one_submit(const struct one_message *message);
void one_cancel(void);
struct one_result one_await(void);
void one_close(void);

#endif

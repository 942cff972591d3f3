/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * One config file: its text, where each setting stands in it, and libconfig's tree of it; and the
 * list of what is to be said about all files (the report). Internal to workers/config.
 */
#ifndef FW_CONFIG_SOURCE_H
#define FW_CONFIG_SOURCE_H

#include "arena.h"
#include "config.h"

/* 1-based; 0 = not known. Columns count bytes. */
struct fw_position {
    unsigned line;
    unsigned column;
};

/* A setting, or an item of a list or array. */
struct fw_node {
    struct fw_position key; /* of an item: its value */
    struct fw_position value;
    const char *raw; /* a scalar's value as written (of joined strings: the first) */
    size_t raw_len;
    const char *name; /* not terminated; NULL for items */
    size_t name_len;
};

struct fw_source {
    const struct fw_source *next; /* read before this one */
    const char *path;
    const char *text; /* terminated, ends with a newline */
    size_t len;
    struct fw_node
        *nodes; /* in the order of the text: the order in which libconfig's tree is walked */
    size_t node_count;
};

struct fw_report {
    struct fw_arena arena;
    const struct fw_source *sources; /* files read, to quote their lines */
    struct fw_diagnostic *items;
    size_t count;
    size_t errors;
    size_t left_out; /* beyond FW_REPORT_LIMIT: counted only */
};

#define FW_REPORT_LIMIT 200

/* Where something is: a file's name, or of what is no file ("environment"). */
struct fw_where {
    const char *name;
    struct fw_position at;
};

FILA_PRINTF(4, 5)
void fw_report_error(
    struct fw_report *report,
    struct fw_where where,
    const char *key,
    const char *format,
    ...);
FILA_PRINTF(4, 5)
void fw_report_warning(
    struct fw_report *report,
    struct fw_where where,
    const char *key,
    const char *format,
    ...);
/* Hands everything over, sorted by file and line; the report is empty afterwards. */
void fw_report_finish(struct fw_report *report, struct fw_diagnostics *ret_diagnostics);

/* Checks the text before libconfig sees it: says where and why it is no config, with the likely
 * cause, refuses what libconfig would take in silence (numbers that do not fit, @include, a comment
 * that is never closed), and notes where everything stands. What it accepts libconfig accepts.
 * False: it reported one error, or there was no memory. */
bool fw_syntax_check(struct fw_source *source, struct fw_arena *arena, struct fw_report *report);

#endif

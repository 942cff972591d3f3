/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * The property table: every key of the config file with its type, place, default, range and
 * meaning. The parser, the overrides, `explain`, the reference and its test all read it; nothing
 * else knows a key. Internal to workers/config. Constant: any thread.
 */
#ifndef FW_CONFIG_TABLE_H
#define FW_CONFIG_TABLE_H

#include "config.h"

enum fw_kind {
    FW_KIND_TEXT,
    FW_KIND_COUNT,    /* uint32_t */
    FW_KIND_DURATION, /* int64_t, ns */
    FW_KIND_SIZE,     /* uint64_t, bytes */
    FW_KIND_REAL,     /* double */
    FW_KIND_CHOICE,   /* an enum */
    FW_KIND_URLS,     /* one text or a list: const char *const *, and a size_t in `count_offset` */
    FW_KIND_LANE,     /* enum fw_lane_kind, and the header's name in `count_offset` */
    FW_KIND_FILES,    /* one text or a list: not kept */
    FW_KIND_GROUPS,   /* `queues` */
    FW_KIND_HANDLER   /* `handler` */
};

#define FW_PROPERTY_SECRET    1u /* masked wherever it is shown */
#define FW_PROPERTY_REQUIRED  2u
#define FW_PROPERTY_NOT_EMPTY 4u
#define FW_PROPERTY_NAME      8u  /* a name that goes to the broker: at most 65,535 bytes */
#define FW_PROPERTY_PLANNED   32u /* a name that is settled, but this version does not act on it */
#define FW_PROPERTY_COMPUTED  16u /* the default depends on other keys: `fallback` describes it */

struct fw_choice {
    const char *name; /* NULL ends the list */
    unsigned value;
};

struct fw_property {
    const char *path; /* "http.listen"; relative to its entry for a key of `queues` */
    enum fw_kind kind;
    unsigned flags;
    size_t offset;
    size_t count_offset;
    const char *fallback; /* the default as written in a file, without quotes */
    int64_t min;          /* of numbers, ns and bytes */
    int64_t max;
    const struct fw_choice *choices;
    const char *variable; /* an environment variable besides FILA_WORKER_<PATH>, or NULL */
    const char *help;
};

struct fw_table {
    const struct fw_property *rows;
    size_t count;
};

extern const struct fw_choice fw_log_levels[];
extern const struct fw_choice fw_log_formats[];
extern const struct fw_table fw_broker_table; /* offsets in struct fw_broker_config */
extern const struct fw_table fw_root_table;   /* offsets in struct fw_config */
extern const struct fw_table fw_queue_table;  /* offsets in struct fw_queue_config */

/* The row of that path, or NULL. */
const struct fw_property *fw_table_find(const struct fw_table *table, const char *path);
/* Whether `path` is a group: some row's path starts with it and a point. */
bool fw_table_is_group(const struct fw_table *table, const char *path);
/* The known path or group that `path` was probably meant to be; false (and "") when there is none.
 */
#define FW_PATH_SIZE 64
bool fw_table_nearest(const struct fw_table *table, const char *path, char ret_path[FW_PATH_SIZE]);
/* One that is not in a group of `queues`, and one value: has a twin in the environment. */
bool fw_property_has_variable(const struct fw_property *property);
/* "FILA_WORKER_HTTP_LISTEN". */
void fw_property_variable(const struct fw_property *property, char *ret_name, size_t size);

/* Edit distance with swaps of neighbours, without regard to case; for texts under 64 bytes, else
 * 1000. */
unsigned fw_distance(const char *a, const char *b);
/* Whether a slip of the keyboard explains `written` for `known`. */
bool fw_is_near(const char *written, const char *known);

#endif

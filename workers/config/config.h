/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * The worker's config as understood: what conventions.md (Config file) lists, with defaults,
 * expansion, units and ranges applied. Parser, validator, `explain` and the generated reference all
 * come from one property table (table.c).
 *
 * Times are ns, sizes bytes. Strings are owned by the config, never NULL, "" when not set.
 * Immutable once loaded: any thread may read it.
 */
#ifndef FW_CONFIG_H
#define FW_CONFIG_H

#include "delivery/delivery.h"
#include "fila/client.h"
#include "log/log.h"

#include <stdio.h>

enum fw_isolation {
    FW_ISOLATION_THREADS,
    FW_ISOLATION_PROCESS
};

enum fw_missing_queue {
    FW_MISSING_WAIT,
    FW_MISSING_FAIL,
    FW_MISSING_CREATE
};

enum fw_lane_kind {
    FW_LANE_NONE,
    FW_LANE_FAIRNESS_KEY,
    FW_LANE_HEADER
};

/* One option of a handler as written in the file, for the plugin's own table to check. */
struct fw_handler_option {
    const char *name;
    const char *const *values; /* one, or a list's */
    size_t count;
    bool is_list;
    bool is_string; /* written in quotes (after expansion), else as a bare number or boolean */
    bool is_secret; /* its name or source says so: masked wherever config is printed */
    const char *file;
    unsigned line;
};

struct fw_queue_config {
    const char *queue;
    const char *file; /* where this queue is configured */
    unsigned line;
    const char *handler_plugin; /* a shipped handler's name, or a path */
    const struct fw_handler_option *handler_options;
    size_t handler_option_count;
    enum fw_isolation isolation;
    int64_t start_timeout;     /* of a handler's init */
    uint32_t recycle_messages; /* with FW_ISOLATION_PROCESS; 0 = never */
    uint64_t recycle_rss;      /* the same */
    uint32_t stuck_limit; /* threads lost to hanging handlers that are still "live"; resolved */
    uint32_t concurrency; /* 0 resolved to the CPUs granted */
    uint32_t streams;
    uint32_t prefetch;
    uint64_t prefetch_bytes;
    int64_t visibility_timeout;
    int64_t timeout;
    enum fw_lane_kind lane;
    const char *lane_header;
    double rate;
    uint32_t retry_attempts;
    int64_t retry_first;
    int64_t retry_max;
    uint32_t max_deliveries;
    enum fw_dead_letter dead_letter;
    const char *dead_letter_queue; /* default resolved: "<queue>.dlq" */
    enum fw_surplus surplus;
    enum fw_unsure_lease unsure_lease;
    uint32_t breaker_failures;
    int64_t breaker_probe;
    int64_t breaker_max;
    enum fw_missing_queue missing_queue;
    const char *on_enqueue_script; /* with missing_queue = "create" */
    const char *on_failure_script;
};

struct fw_config {
    const char *file;           /* the main file */
    const char *const *brokers; /* URLs */
    size_t broker_count;
    const char *api_key; /* secret */
    const char *tls_ca;
    const char *tls_cert;
    const char *tls_key;
    struct fw_queue_config *queues;
    size_t queue_count;
    uint32_t max_running;
    int64_t drain_timeout;
    const char *state_dir;
    const char *http_listen;
    const char *ctl_socket; /* "auto": see ctl/path.h */
    enum fw_log_level log_level;
    enum fw_log_format log_format;
    const char *const *secret_variables; /* names of environment variables used in ${...}: not
                                            passed to children */
    size_t secret_variable_count;
    void *arena;
};

/* One thing to say about a config. */
struct fw_diagnostic {
    bool is_error; /* else a warning */
    const char *file;
    unsigned line;      /* 0 = the file as a whole, or the environment */
    const char *key;    /* "queues[0].timeout", or "" */
    const char *text;   /* what is wrong, the value, the accepted range, the nearest known key */
    unsigned column;    /* 1-based, in bytes; 0 = none */
    const char *source; /* that line of the file, or "" */
};

struct fw_diagnostics {
    struct fw_diagnostic *items;
    size_t count;
    size_t errors;
    size_t left_out; /* beyond the first 200: counted, not kept */
    void *arena;
};

/* Command-line and environment values that override the file; NULL = not given. */
struct fw_config_overrides {
    const char *broker;
    const char *log_level;
    const char *log_format;
    const char *const *sets; /* "path=value" words, e.g. "http.listen=" */
    size_t set_count;
};

/* Finds the file: `given`, else $FILA_WORKER_CONFIG, else ./fila-worker.cfg, else
 * /etc/fila-worker/fila-worker.cfg. NULL when there is none. */
const char *fw_config_find(const char *given);

/* Reads `path` and everything it includes. On errors *ret_config stays unset and `ret_diagnostics`
 * has at least one error. Warnings may come with success. All errors of all files are reported, not
 * only the first. Free both. */
FILA_NODISCARD bool fw_config_load(
    const char *path,
    const struct fw_config_overrides *overrides,
    struct fw_config **ret_config,
    struct fw_diagnostics *ret_diagnostics);
void fw_config_free(struct fw_config *config);
void fw_diagnostics_free(struct fw_diagnostics *diagnostics);
/* `FILE:LINE: error: KEY: TEXT`, then the line and a mark under the place, where they are known. */
void fw_diagnostic_print(FILE *out, const struct fw_diagnostic *diagnostic);

/* Prints the config as understood, as a file that could be read again or as JSON, with the origin
 * of each value (default, FILE:LINE, environment, command line). Secrets are "***". False without
 * memory. */
FILA_NODISCARD bool fw_config_explain(FILE *out, const struct fw_config *config, bool json);
/* Makes `explain` mask that option of that queue's handler: for what the handler's own table calls
 * a secret. Only while no other thread reads the config. */
void fw_config_mask(struct fw_config *config, size_t queue, const char *option);
/* Prints the reference of all keys (config/REFERENCE.md). False without memory. */
FILA_NODISCARD bool fw_config_reference(FILE *out);

/* The engine's view of a queue. */
struct fw_delivery_config fw_config_delivery(const struct fw_queue_config *queue);

#endif

/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * What `fila-worker broker` is told, by its options, the environment and a file of its own
 * (--config), in that order; all by one property table, so that errors read as those of the
 * worker's config. Thread: any, except that the environment must not change meanwhile.
 */
#ifndef FW_CONFIG_BROKER_CONFIG_H
#define FW_CONFIG_BROKER_CONFIG_H

#include "config.h"

struct fw_broker_config {
    const char *listen;
    const char *data; /* "" = in memory */
    unsigned sync;    /* a fila_sync */
    uint32_t quantum;
    int64_t idle_timeout; /* ns */
    uint32_t command_capacity;
    const char *chaos;      /* "" = none */
    bool chaos_is_option;   /* given on the command line */
    int64_t script_timeout; /* ns */
    uint64_t script_memory; /* bytes */
    uint32_t script_failures;
    int64_t script_cooldown; /* ns */
    unsigned log_level;      /* an enum fw_log_level */
    unsigned log_format;     /* an enum fw_log_format */
    void *arena;
};

/* An option of the command line: sets the key `path`, and is called `option` in errors. */
struct fw_broker_override {
    const char *path;
    const char *option;
    const char *value;
};

struct fw_broker_source {
    const char *path; /* a file; NULL = none */
    const struct fw_broker_override *overrides;
    size_t override_count;
    fila_status (*check_chaos)(const char *spec, size_t *ret_at, fila_error *reterr);
};

/* As fw_config_load. */
FILA_NODISCARD bool fw_broker_config_load(
    const struct fw_broker_source *source,
    struct fw_broker_config **ret_config,
    struct fw_diagnostics *ret_diagnostics);
void fw_broker_config_free(struct fw_broker_config *config); /* takes NULL */

#endif

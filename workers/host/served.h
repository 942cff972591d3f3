/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * The queues being served, as the supervisor keeps them: each with its plugin and the config that
 * it was made from. Load, reload by difference, retire. Thread: supervisor.
 */
#ifndef FW_HOST_SERVED_H
#define FW_HOST_SERVED_H

#include "io.h"

/* A config and how many served queues still point into it. Freed with the last. */
struct fw_config_ref {
    struct fw_config *config;
    unsigned users;
};

enum fw_served_state {
    FW_SERVED_NEW,
    FW_SERVED_ACTIVE,
    FW_SERVED_DRAINING
};

struct fw_served {
    struct fw_served *next;
    struct fw_queue *queue;
    struct fw_plugin_file *file;
    struct fw_plugin *plugin;
    const struct fw_queue_config *config;
    struct fw_config_ref *ref;
    enum fw_served_state state;
};

/* What all served queues of a host finished with; kept when they go. */
struct fw_account {
    uint64_t received;
    uint64_t finished[FW_OUTCOME_COUNT];
    uint64_t not_returned;
    bool cut_off;
    bool stuck;
};

/* The config takes a first user, given back with fw_config_ref_release. NULL without memory (the
 * config is then freed). */
struct fw_config_ref *fw_config_ref_new(struct fw_config *config);
void fw_config_ref_release(struct fw_config_ref *ref);

/* What queues are made from. */
struct fw_served_source {
    struct fw_io *io;
    struct fw_config_ref *ref;
    bool own_broker; /* make a queue that is missing */
    /* Called about every 50 ms while a handler's init takes its time, so that signals are served;
     * false gives up. */
    bool (*go_on)(void *user);
    void *user;
};

/* Loads the plugin of one queue, binds its options, starts its executor; does not hand it to the
 * I/O thread. Logs what is wrong (PLUGIN-REFUSED). NULL on failure, with the queue and the reason.
 */
struct fw_served *fw_served_load(
    const struct fw_served_source *source,
    const struct fw_queue_config *config,
    fila_error *reterr);

/* Takes back what the I/O thread has let go of, or never had: adds it to the account, stops its
 * executor, frees it. */
void fw_served_retire(
    struct fw_served *served,
    struct fw_io *io,
    struct fw_account *account,
    int64_t deadline);

/* Whether a handler did not return from its init or its last run, so that a thread of it lives on.
 */
bool fw_served_abandoned(void);

/* What a reload did. */
struct fw_reload_result {
    unsigned added;
    unsigned changed;
    unsigned restarted;
    unsigned removed;
};

/* Serves source->ref instead of what is served: queues whose handler is the same go on with their
 * streams, others are drained until `deadline` and replaced. All or nothing: false when a new
 * handler cannot be loaded (the reason says which, and why), and nothing has changed. */
bool fw_served_reload(
    struct fw_served **list,
    const struct fw_served_source *source,
    int64_t deadline,
    struct fw_reload_result *ret_result,
    fila_error *reterr);

#endif

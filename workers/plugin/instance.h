/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * One instance of a plugin: what its `init` made, and the services that need no message (option,
 * log, environment, reason of a failed init). Whoever runs messages adds the others to `services`
 * between fw_instance_prepare and fw_instance_open.
 *
 * Thread: an instance is prepared, opened, used and closed by one thread at a time, or, of a
 * thread-safe plugin, used by many.
 */
#ifndef FW_INSTANCE_H
#define FW_INSTANCE_H

#include "loader.h"

#define FW_INIT_REASON_SIZE 512

struct fw_instance {
    fila_services services; /* services.host is this instance */
    const struct fw_plugin *plugin;
    const char *queue; /* for logs; NULL = none */
    void *self;
    char reason[FW_INIT_REASON_SIZE]; /* what `init` said */
};

/* `plugin` and `queue` outlive the instance, which must stay where it is. */
void fw_instance_prepare(
    struct fw_instance *instance,
    const struct fw_plugin *plugin,
    const char *queue);

/* Calls `init`. FILA_INVALID_ARGUMENT with the handler's own reason when it fails; then the
 * instance is not to be closed. May block. */
FILA_NODISCARD fila_status fw_instance_open(struct fw_instance *instance, fila_error *reterr);
void fw_instance_close(struct fw_instance *instance);

#endif

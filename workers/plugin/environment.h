/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * The environment that children of handlers may see. Internal to workers/plugin.
 */
#ifndef FW_ENVIRONMENT_H
#define FW_ENVIRONMENT_H

#include "config/arena.h"

/* This process's environment without FILA_API_KEY*, FILA_TLS_KEY and the `secrets`; copied, ended
 * by NULL. NULL without memory. Reads environ: not while another thread changes it. */
const char *const *fw_child_environment(
    struct fw_arena *arena,
    const char *const *secrets,
    size_t secret_count);

#endif

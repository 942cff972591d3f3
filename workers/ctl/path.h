/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * Where the control socket is. Thread: any.
 */
#ifndef FW_CTL_PATH_H
#define FW_CTL_PATH_H

#include "config/config.h"

/* Room for a path of a unix socket. */
#define FW_CTL_PATH_SIZE 108

/* Of `ctl.socket`; with "auto", fila-worker.ctl in the first that there is of $RUNTIME_DIRECTORY
 * (systemd's), state_dir and $XDG_RUNTIME_DIR. "" = off. False: too long for a socket. */
bool fw_ctl_path(const struct fw_config *config, char ret_path[FW_CTL_PATH_SIZE]);

#endif

/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * The broker inside the worker: what an `embedded:` URL asks for.
 * Thread: any.
 */
#ifndef FW_HOST_EMBEDDED_H
#define FW_HOST_EMBEDDED_H

#include "fila/broker.h"

bool fw_embedded_url(const char *url);

/* Whether it keeps its messages in a file. */
bool fw_embedded_has_file(const char *url);

/* fila_broker_options.on_script_failure: logs it. */
void fw_embedded_script_failed(void *user, const fila_script_failure *failure);

/* Starts the broker of `embedded:[PATH][?listen=ADDRESS&sync=full|normal]`. Errors: as
 * fila_broker_open_url. */
FILA_NODISCARD fila_status
fw_embedded_open(const char *url, fila_broker **ret_broker, fila_error *reterr);

#endif

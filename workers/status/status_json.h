/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * The status page as JSON, for the page for people, for `ctl status` and for scripts. Pure. Times
 * are durations in ms (`_ms`) or instants in RFC 3339; nothing in it is a secret or a payload.
 * Thread: any.
 */
#ifndef FW_STATUS_JSON_H
#define FW_STATUS_JSON_H

#include "status/snapshot.h"

/* malloc'ed, with its length; NULL without memory. */
char *fw_status_page(const struct fw_snapshot *snapshot, size_t *ret_len);

#endif

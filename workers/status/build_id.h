/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * The build id that the linker gave to loaded code. Thread: any.
 */
#ifndef FW_STATUS_BUILD_ID_H
#define FW_STATUS_BUILD_ID_H

#include <stddef.h>

/* Of the object that `code` lies in, in hex; "" when it has none. Longer ones are cut to `size`. */
void fw_build_id(const void *code, char *ret_hex, size_t size);

#endif

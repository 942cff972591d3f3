/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * A small file as a whole. Thread: any.
 */
#ifndef FW_CLI_READFILE_H
#define FW_CLI_READFILE_H

#include <stddef.h>

/* The file's bytes and a terminating zero, freed with free(); NULL with errno set (EFBIG over `max`
 * bytes). */
char *fw_cli_read_file(const char *path, size_t max, size_t *ret_len);

#endif

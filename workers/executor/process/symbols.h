/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * Names of places in an ELF file, for stacks in the log; the file is not trusted. Thread: any.
 */
#ifndef FW_PROCESS_SYMBOLS_H
#define FW_PROCESS_SYMBOLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The function that has the address (as linked, not as loaded). False: none, or it is stripped. */
bool fw_symbol_find(int fd, uint64_t address, char *ret_name, size_t size, uint64_t *ret_offset);

#define FW_BUILD_ID_SIZE 65 /* in hex, cut off */

/* "" without one. */
void fw_file_build_id(int fd, char ret_id[FW_BUILD_ID_SIZE]);

#endif

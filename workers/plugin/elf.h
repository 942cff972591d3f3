/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * Reads a plugin's descriptor out of the bytes of a shared object, without loading it. The input is
 * not trusted: every offset and count is checked. Pure; any thread.
 */
#ifndef FW_ELF_H
#define FW_ELF_H

#include "fila/plugin.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FW_ELF_ERROR_SIZE 160

/* The numbers at the start of a descriptor: the same in every ABI, so that any host can say what
 * does not fit. */
struct fw_descriptor_head {
    uint32_t magic;
    uint16_t abi_major;
    uint16_t abi_minor;
    uint32_t plugin_size;
    uint32_t option_size;
    uint32_t delivery_size;
    uint32_t services_size;
    uint32_t flags;
    uint32_t option_count;
};

/* Finds `fila_plugin_descriptor` in the file and reads its head. False: `reterr` says what is
 * wrong, as "field: it is X, this host's is Y". */
bool fw_elf_descriptor(
    const uint8_t *bytes,
    size_t len,
    struct fw_descriptor_head *ret_head,
    char reterr[FW_ELF_ERROR_SIZE]);

/* Whether this host can use a plugin with such a head. */
bool fw_descriptor_check(const struct fw_descriptor_head *head, char reterr[FW_ELF_ERROR_SIZE]);

#endif

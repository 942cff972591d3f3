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

#define FW_ELF_NEEDED_MAX   64
#define FW_ELF_BUILD_ID_MAX 32

/* What a file says of itself besides its descriptor. */
struct fw_elf_facts {
    char build_id[2 * FW_ELF_BUILD_ID_MAX + 1]; /* hexadecimal; "" = none */
    bool executable_stack;
    bool text_relocations;
};

struct fw_elf_symbol {
    const char *name; /* these point into the file's bytes */
    bool defined;     /* else it is asked of others */
    bool weak;        /* or unique: of C++ templates and inline functions */
};

struct fw_elf_visitor {
    void (*symbol)(void *user, const struct fw_elf_symbol *symbol); /* each that others can see */
    void (*needed)(void *user, const char *library);
    void *user;
};

/* Calls the visitor with the libraries that the file needs, then with its symbols. False as
 * fw_elf_descriptor. */
bool fw_elf_facts(
    const uint8_t *bytes,
    size_t len,
    const struct fw_elf_visitor *visitor,
    struct fw_elf_facts *ret_facts,
    char reterr[FW_ELF_ERROR_SIZE]);

/* Whether this host can use a plugin with such a head. */
bool fw_descriptor_check(const struct fw_descriptor_head *head, char reterr[FW_ELF_ERROR_SIZE]);

#endif

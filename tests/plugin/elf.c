/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "plugin/elf.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static size_t lengths; /* so that every name is read to its end */

static void note_symbol(void *user, const struct fw_elf_symbol *symbol)
{
    (void)user;
    lengths += strlen(symbol->name);
}

static void note_needed(void *user, const char *library)
{
    (void)user;
    lengths += strlen(library);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct fw_elf_visitor visitor = {.symbol = note_symbol, .needed = note_needed};
    struct fw_elf_facts facts;
    struct fw_descriptor_head head;
    char text[FW_ELF_ERROR_SIZE];
    if (fw_elf_descriptor(data, size, &head, text)) {
        (void)fw_descriptor_check(&head, text);
    }
    (void)fw_elf_facts(data, size, &visitor, &facts, text);
    return 0;
}

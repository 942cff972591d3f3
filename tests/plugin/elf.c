/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "plugin/elf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fw_descriptor_head head;
    char text[FW_ELF_ERROR_SIZE];
    if (fw_elf_descriptor(data, size, &head, text)) {
        (void)fw_descriptor_check(&head, text);
    }
    return 0;
}

/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * Reading a shared object's tables out of its bytes, every offset checked. Internal to elf.c and
 * elf_facts.c; any thread.
 */
#ifndef FW_ELF_FILE_H
#define FW_ELF_FILE_H

#include "plugin/elf.h"

#include <elf.h>
#include <link.h>

typedef ElfW(Ehdr) elf_header;
typedef ElfW(Phdr) elf_segment;
typedef ElfW(Dyn) elf_dynamic;
typedef ElfW(Sym) elf_symbol;

struct fw_elf_file {
    const uint8_t *bytes;
    size_t len;
    elf_header header;
    char *reterr;
};

/* What the dynamic section says. */
struct fw_elf_dynamic {
    uint64_t symbols;
    uint64_t strings;
    uint64_t strings_len;
    uint64_t gnu_hash;
    uint64_t hash;
    uint64_t needed[FW_ELF_NEEDED_MAX]; /* offsets into the strings */
    size_t needed_count;
    bool text_relocations;
};

struct fw_elf_names {
    struct fw_elf_dynamic dynamic;
    size_t symbols; /* file offset of the dynamic symbol table */
    size_t symbol_count;
    size_t strings;
    size_t strings_len;
};

/* False: it is not all inside the file. */
bool fw_elf_read_at(const struct fw_elf_file *file, size_t offset, void *ret, size_t size);
bool fw_elf_segment_at(const struct fw_elf_file *file, size_t index, elf_segment *ret_segment);
/* Where in the file the `size` bytes are that get loaded at that address. */
bool fw_elf_offset_of(
    const struct fw_elf_file *file,
    uint64_t address,
    uint64_t size,
    size_t *ret_offset);

/* False: file->reterr says why. */
bool fw_elf_check_header(struct fw_elf_file *file);
bool fw_elf_find_names(const struct fw_elf_file *file, struct fw_elf_names *ret_names);

#endif

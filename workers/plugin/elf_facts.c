/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "plugin/elf_file.h"

#include <stdio.h>
#include <string.h>

/* A name of the string table that ends within it; NULL otherwise. */
static const char *name_at(
    const struct fw_elf_file *file,
    const struct fw_elf_names *names,
    uint64_t offset)
{
    const char *strings = (const char *)file->bytes + names->strings;
    bool ends = offset < names->strings_len &&
                memchr(strings + offset, '\0', names->strings_len - (size_t)offset);
    return ends ? strings + offset : NULL;
}

static void visit_symbols(
    const struct fw_elf_file *file,
    const struct fw_elf_names *names,
    const struct fw_elf_visitor *visitor)
{
    elf_symbol symbol;
    for (size_t i = 1; i < names->symbol_count; i++) {
        if (!fw_elf_read_at(file, names->symbols + i * sizeof symbol, &symbol, sizeof symbol)) {
            return;
        }
        const char *name = name_at(file, names, symbol.st_name);
        unsigned bind = symbol.st_info >> 4;
        unsigned visibility = symbol.st_other & 3;
        if (!name || !*name || bind == STB_LOCAL || visibility == STV_HIDDEN ||
            visibility == STV_INTERNAL) {
            continue;
        }
        visitor->symbol(
            visitor->user, &(struct fw_elf_symbol){
                               .name = name,
                               .defined = symbol.st_shndx != SHN_UNDEF,
                               .weak = bind != STB_GLOBAL,
                           });
    }
}

/* The notes of one segment, for the build-id. */
static void read_notes(
    const struct fw_elf_file *file,
    const elf_segment *segment,
    struct fw_elf_facts *facts)
{
    ElfW(Nhdr) note;
    size_t at = 0;
    while (at + sizeof note <= segment->p_filesz && segment->p_offset <= file->len &&
           fw_elf_read_at(file, (size_t)segment->p_offset + at, &note, sizeof note)) {
        size_t name = at + sizeof note;
        size_t desc = name + ((size_t)note.n_namesz + 3) / 4 * 4;
        uint8_t id[FW_ELF_BUILD_ID_MAX];
        size_t len = note.n_descsz < sizeof id ? note.n_descsz : sizeof id;
        char owner[4];
        if (note.n_type == NT_GNU_BUILD_ID && note.n_namesz == sizeof owner &&
            fw_elf_read_at(file, (size_t)segment->p_offset + name, owner, sizeof owner) &&
            !memcmp(owner, "GNU", sizeof owner) &&
            fw_elf_read_at(file, (size_t)segment->p_offset + desc, id, len)) {
            for (size_t i = 0; i < len; i++) {
                (void)snprintf(facts->build_id + 2 * i, 3, "%02x", id[i]);
            }
        }
        at = desc + ((size_t)note.n_descsz + 3) / 4 * 4;
    }
}

static void read_segments(const struct fw_elf_file *file, struct fw_elf_facts *facts)
{
    elf_segment segment;
    facts->executable_stack = true; /* what a file without the header gets */
    for (size_t i = 0; i < file->header.e_phnum && fw_elf_segment_at(file, i, &segment); i++) {
        if (segment.p_type == PT_GNU_STACK) {
            facts->executable_stack = (segment.p_flags & PF_X) != 0;
        } else if (segment.p_type == PT_NOTE) {
            read_notes(file, &segment, facts);
        }
    }
}

bool fw_elf_facts(
    const uint8_t *bytes,
    size_t len,
    const struct fw_elf_visitor *visitor,
    struct fw_elf_facts *ret_facts,
    char reterr[FW_ELF_ERROR_SIZE])
{
    struct fw_elf_file file = {.bytes = bytes, .len = len, .reterr = reterr};
    struct fw_elf_names names = {.symbols = 0};
    if (!fw_elf_check_header(&file) || !fw_elf_find_names(&file, &names)) {
        return false;
    }
    *ret_facts = (struct fw_elf_facts){.text_relocations = names.dynamic.text_relocations};
    read_segments(&file, ret_facts);
    for (size_t i = 0; i < names.dynamic.needed_count; i++) {
        const char *name = name_at(&file, &names, names.dynamic.needed[i]);
        if (name) {
            visitor->needed(visitor->user, name);
        }
    }
    visit_symbols(&file, &names, visitor);
    return true;
}

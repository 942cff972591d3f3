/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * The file is read, never mapped: it may be cut short while we look. Counts and offsets are what
 * the file says, so each read is bounded and a wrong one ends the search.
 */
#include "process.h"

#include <elf.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef ElfW(Ehdr) elf_header;
typedef ElfW(Shdr) elf_section;
typedef ElfW(Sym) elf_symbol;
typedef ElfW(Nhdr) elf_note;

#define TABLE_LIMIT   ((size_t)64 * 1024 * 1024)
#define SECTION_LIMIT 4096u
#define NOTE_LIMIT    4096u

/* malloc'ed; NULL when it is not all there. */
static void *read_part(int fd, uint64_t offset, size_t size, size_t limit)
{
    if (!size || size > limit) {
        return NULL;
    }
    char *bytes = malloc(size + 1);
    if (bytes && pread(fd, bytes, size, (off_t)offset) != (ssize_t)size) {
        free(bytes);
        return NULL;
    }
    if (bytes) {
        bytes[size] = '\0';
    }
    return bytes;
}

static elf_section *read_sections(int fd, uint32_t *ret_count)
{
    elf_header header;
    if (pread(fd, &header, sizeof header, 0) != (ssize_t)sizeof header ||
        memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 || header.e_shentsize != sizeof(elf_section)) {
        return NULL;
    }
    *ret_count = header.e_shnum;
    return read_part(
        fd, header.e_shoff, header.e_shnum * sizeof(elf_section),
        SECTION_LIMIT * sizeof(elf_section));
}

static const elf_symbol *search(const elf_symbol *symbols, size_t count, uint64_t address)
{
    for (size_t i = 0; i < count; i++) {
        const elf_symbol *symbol = &symbols[i];
        if (ELF64_ST_TYPE(symbol->st_info) == STT_FUNC && symbol->st_shndx != SHN_UNDEF &&
            address >= symbol->st_value && address - symbol->st_value < symbol->st_size) {
            return symbol;
        }
    }
    return NULL;
}

/* Where a name goes, and the distance of an address from it. */
struct place {
    char *name;
    size_t size;
    uint64_t offset;
};

static bool find_in(
    int fd,
    const elf_section *table,
    const elf_section *strings,
    uint64_t address,
    struct place *ret)
{
    elf_symbol *symbols = read_part(fd, table->sh_offset, table->sh_size, TABLE_LIMIT);
    char *names = read_part(fd, strings->sh_offset, strings->sh_size, TABLE_LIMIT);
    const elf_symbol *found = NULL;
    if (symbols && names) {
        found = search(symbols, table->sh_size / sizeof *symbols, address);
    }
    if (found && found->st_name < strings->sh_size) {
        (void)snprintf(ret->name, ret->size, "%s", names + found->st_name);
        ret->offset = address - found->st_value;
    } else {
        found = NULL;
    }
    free(symbols);
    free(names);
    return found && *ret->name;
}

bool fw_symbol_find(int fd, uint64_t address, char *ret_name, size_t size, uint64_t *ret_offset)
{
    static const uint32_t KINDS[] = {SHT_SYMTAB, SHT_DYNSYM}; /* the first has static ones */
    uint32_t count = 0;
    elf_section *sections = read_sections(fd, &count);
    struct place place = {ret_name, size, 0};
    bool found = false;
    for (size_t kind = 0; sections && kind < 2 && !found; kind++) {
        for (uint32_t i = 0; i < count && !found; i++) {
            if (sections[i].sh_type == KINDS[kind] && sections[i].sh_link < count) {
                found = find_in(fd, &sections[i], &sections[sections[i].sh_link], address, &place);
            }
        }
    }
    free(sections);
    if (found) {
        *ret_offset = place.offset;
    }
    return found;
}

static bool read_note(const char *bytes, size_t len, char ret_id[FW_BUILD_ID_SIZE])
{
    elf_note note;
    for (size_t at = 0; len - at >= sizeof note;) {
        memcpy(&note, bytes + at, sizeof note);
        at += sizeof note;
        size_t name = ((size_t)note.n_namesz + 3) & ~(size_t)3;
        size_t body = ((size_t)note.n_descsz + 3) & ~(size_t)3;
        if (name > len - at || body > len - at - name) {
            return false;
        }
        if (note.n_type == NT_GNU_BUILD_ID && note.n_namesz == 4 && !memcmp(bytes + at, "GNU", 4)) {
            for (size_t i = 0; i < note.n_descsz && 2 * i + 2 < FW_BUILD_ID_SIZE; i++) {
                (void)snprintf(
                    ret_id + 2 * i, 3, "%02x", (unsigned)(unsigned char)bytes[at + name + i]);
            }
            return true;
        }
        at += name + body;
    }
    return false;
}

void fw_file_build_id(int fd, char ret_id[FW_BUILD_ID_SIZE])
{
    uint32_t count = 0;
    elf_section *sections = read_sections(fd, &count);
    bool found = false;
    *ret_id = '\0';
    for (uint32_t i = 0; sections && i < count && !found; i++) {
        if (sections[i].sh_type == SHT_NOTE) {
            char *bytes = read_part(fd, sections[i].sh_offset, sections[i].sh_size, NOTE_LIMIT);
            found = bytes && read_note(bytes, sections[i].sh_size, ret_id);
            free(bytes);
        }
    }
    free(sections);
}

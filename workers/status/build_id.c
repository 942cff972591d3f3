/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "status/build_id.h"

#include <elf.h>
#include <link.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

struct search {
    uintptr_t code;
    char *hex;
    size_t size;
};

static bool contains(const struct dl_phdr_info *info, uintptr_t code)
{
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *p = &info->dlpi_phdr[i];
        uintptr_t start = info->dlpi_addr + p->p_vaddr;
        if (p->p_type == PT_LOAD && code >= start && code - start < p->p_memsz) {
            return true;
        }
    }
    return false;
}

static size_t padded(size_t len)
{
    return (len + 3) & ~(size_t)3;
}

/* The notes of one segment, as the dynamic loader has mapped them. */
static bool read_notes(const struct search *search, const unsigned char *at, size_t left)
{
    ElfW(Nhdr) note;
    while (left >= sizeof note) {
        memcpy(&note, at, sizeof note);
        size_t len = sizeof note + padded(note.n_namesz) + padded(note.n_descsz);
        if (len > left) {
            return false;
        }
        const unsigned char *id = at + sizeof note + padded(note.n_namesz);
        if (note.n_type == NT_GNU_BUILD_ID && note.n_namesz == 4 &&
            memcmp(at + sizeof note, "GNU", 4) == 0) {
            for (size_t i = 0; i < note.n_descsz && 2 * i + 2 < search->size; i++) {
                (void)snprintf(search->hex + 2 * i, 3, "%02x", id[i]);
            }
            return true;
        }
        at += len;
        left -= len;
    }
    return false;
}

static int look_at(struct dl_phdr_info *info, size_t size, void *user)
{
    const struct search *search = user;
    (void)size;
    if (!contains(info, search->code)) {
        return 0;
    }
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *p = &info->dlpi_phdr[i];
        uintptr_t start = info->dlpi_addr + p->p_vaddr;
        /* NOLINTNEXTLINE(performance-no-int-to-ptr): where the loader says that it is */
        const unsigned char *notes = (const unsigned char *)start;
        if (p->p_type == PT_NOTE && read_notes(search, notes, p->p_memsz)) {
            break;
        }
    }
    return 1;
}

void fw_build_id(const void *code, char *ret_hex, size_t size)
{
    struct search search = {(uintptr_t)code, ret_hex, size};
    ret_hex[0] = '\0';
    (void)dl_iterate_phdr(look_at, &search);
}

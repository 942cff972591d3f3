/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "plugin/elf_file.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#if defined(__x86_64__) && defined(__LP64__)
#    define HOST_MACHINE EM_X86_64
#elif defined(__aarch64__)
#    define HOST_MACHINE EM_AARCH64
#elif defined(__riscv)
#    define HOST_MACHINE EM_RISCV
#elif defined(__powerpc64__)
#    define HOST_MACHINE EM_PPC64
#elif defined(__s390x__)
#    define HOST_MACHINE EM_S390
#elif defined(__i386__)
#    define HOST_MACHINE EM_386
#elif defined(__arm__)
#    define HOST_MACHINE EM_ARM
#else
#    define HOST_MACHINE EM_NONE /* not known: dlopen judges */
#endif

#define HOST_CLASS (sizeof(void *) == 8 ? ELFCLASS64 : ELFCLASS32)
#define HOST_DATA  (__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? ELFDATA2LSB : ELFDATA2MSB)

static bool __attribute__((format(printf, 2, 3)))
refuse(const struct fw_elf_file *file, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    (void)vsnprintf(file->reterr, FW_ELF_ERROR_SIZE, format, args);
    va_end(args);
    return false;
}

bool fw_elf_read_at(const struct fw_elf_file *file, size_t offset, void *ret, size_t size)
{
    if (offset > file->len || file->len - offset < size) {
        return false;
    }
    memcpy(ret, file->bytes + offset, size);
    return true;
}

bool fw_elf_segment_at(const struct fw_elf_file *file, size_t index, elf_segment *ret_segment)
{
    size_t offset = (size_t)file->header.e_phoff;
    if (offset > file->len) {
        return false;
    }
    return fw_elf_read_at(
        file, offset + index * sizeof *ret_segment, ret_segment, sizeof *ret_segment);
}

/* Where in the file the `size` bytes are that get loaded at that address. */
bool fw_elf_offset_of(
    const struct fw_elf_file *file,
    uint64_t address,
    uint64_t size,
    size_t *ret_offset)
{
    elf_segment segment;
    for (size_t i = 0; i < file->header.e_phnum && fw_elf_segment_at(file, i, &segment); i++) {
        if (segment.p_type != PT_LOAD || address < segment.p_vaddr ||
            address - segment.p_vaddr > segment.p_filesz ||
            size > segment.p_filesz - (address - segment.p_vaddr)) {
            continue;
        }
        uint64_t offset = segment.p_offset + (address - segment.p_vaddr);
        if (segment.p_offset > file->len || offset > file->len || size > file->len - offset) {
            return false;
        }
        *ret_offset = (size_t)offset;
        return true;
    }
    return false;
}

bool fw_elf_check_header(struct fw_elf_file *file)
{
    const uint8_t *ident = file->bytes;
    if (file->len < EI_NIDENT || memcmp(ident, ELFMAG, SELFMAG) != 0) {
        return refuse(file, "it is no shared object: it does not start with the ELF magic");
    }
    if (ident[EI_CLASS] != HOST_CLASS) {
        return refuse(file, "ELF class: it is %d, this host's is %d", ident[EI_CLASS], HOST_CLASS);
    }
    if (ident[EI_DATA] != HOST_DATA) {
        return refuse(
            file, "ELF byte order: it is %d, this host's is %d", ident[EI_DATA], HOST_DATA);
    }
    if (!fw_elf_read_at(file, 0, &file->header, sizeof file->header)) {
        return refuse(file, "it is cut short: %zu bytes", file->len);
    }
    if (HOST_MACHINE != EM_NONE && file->header.e_machine != HOST_MACHINE) {
        return refuse(
            file, "ELF machine: it is %u, this host's is %u", file->header.e_machine, HOST_MACHINE);
    }
    if (file->header.e_type != ET_DYN) {
        return refuse(
            file, "ELF type: it is %u, a shared object's is %u", file->header.e_type, ET_DYN);
    }
    if (file->header.e_phentsize != sizeof(elf_segment) || file->header.e_phnum == PN_XNUM) {
        return refuse(
            file, "ELF program headers: their size is %u, this host's is %zu",
            file->header.e_phentsize, sizeof(elf_segment));
    }
    return true;
}

/* How many symbols there are is only known from the hash table. */
static bool count_by_gnu_hash(const struct fw_elf_file *file, uint64_t address, size_t *ret_count)
{
    size_t at = 0;
    uint32_t head[4]; /* buckets, first symbol, bloom words, shift */
    uint32_t last = 0;
    if (!fw_elf_offset_of(file, address, sizeof head, &at) ||
        !fw_elf_read_at(file, at, head, sizeof head)) {
        return false;
    }
    size_t buckets = at + sizeof head + (size_t)head[2] * sizeof(ElfW(Addr));
    for (uint32_t i = 0; i < head[0]; i++) {
        uint32_t bucket = 0;
        if (!fw_elf_read_at(file, buckets + (size_t)i * 4, &bucket, sizeof bucket)) {
            return false;
        }
        last = bucket > last ? bucket : last;
    }
    if (last < head[1]) {
        *ret_count = head[1];
        return true;
    }
    size_t chains = buckets + (size_t)head[0] * 4;
    for (uint32_t link = 0; !(link & 1); last++) {
        if (!fw_elf_read_at(file, chains + (size_t)(last - head[1]) * 4, &link, sizeof link)) {
            return false;
        }
    }
    *ret_count = last;
    return true;
}

static bool count_by_hash(const struct fw_elf_file *file, uint64_t address, size_t *ret_count)
{
    size_t at = 0;
    uint32_t head[2]; /* buckets, chains: one for each symbol */
    if (!fw_elf_offset_of(file, address, sizeof head, &at) ||
        !fw_elf_read_at(file, at, head, sizeof head)) {
        return false;
    }
    *ret_count = head[1];
    return true;
}

static void note_entry(struct fw_elf_dynamic *dynamic, const elf_dynamic *entry)
{
    switch (entry->d_tag) {
    case DT_SYMTAB:
        dynamic->symbols = entry->d_un.d_ptr;
        break;
    case DT_STRTAB:
        dynamic->strings = entry->d_un.d_ptr;
        break;
    case DT_STRSZ:
        dynamic->strings_len = entry->d_un.d_val;
        break;
    case DT_GNU_HASH:
        dynamic->gnu_hash = entry->d_un.d_ptr;
        break;
    case DT_HASH:
        dynamic->hash = entry->d_un.d_ptr;
        break;
    case DT_TEXTREL:
        dynamic->text_relocations = true;
        break;
    default:
        break;
    }
}

static bool read_dynamic(const struct fw_elf_file *file, struct fw_elf_dynamic *ret_dynamic)
{
    elf_segment segment;
    for (size_t i = 0; i < file->header.e_phnum; i++) {
        if (!fw_elf_segment_at(file, i, &segment)) {
            return refuse(file, "it is cut short: %zu bytes", file->len);
        }
        if (segment.p_type != PT_DYNAMIC) {
            continue;
        }
        elf_dynamic entry = {.d_tag = DT_NULL};
        for (size_t at = 0; at + sizeof entry <= segment.p_filesz; at += sizeof entry) {
            if (segment.p_offset > file->len ||
                !fw_elf_read_at(file, (size_t)segment.p_offset + at, &entry, sizeof entry)) {
                return refuse(file, "it is cut short: %zu bytes", file->len);
            }
            if (entry.d_tag == DT_NULL) {
                break;
            }
            if (entry.d_tag == DT_NEEDED && ret_dynamic->needed_count < FW_ELF_NEEDED_MAX) {
                ret_dynamic->needed[ret_dynamic->needed_count++] = entry.d_un.d_val;
            }
            note_entry(ret_dynamic, &entry);
        }
        return true;
    }
    return refuse(file, "it has no dynamic section");
}

bool fw_elf_find_names(const struct fw_elf_file *file, struct fw_elf_names *ret_names)
{
    struct fw_elf_dynamic *dynamic = &ret_names->dynamic;
    size_t count = 0;
    if (!read_dynamic(file, dynamic)) {
        return false;
    }
    bool counted = dynamic->hash ? count_by_hash(file, dynamic->hash, &count)
                                 : count_by_gnu_hash(file, dynamic->gnu_hash, &count);
    if (!counted || count > file->len / sizeof(elf_symbol) ||
        !fw_elf_offset_of(
            file, dynamic->symbols, count * sizeof(elf_symbol), &ret_names->symbols) ||
        !fw_elf_offset_of(file, dynamic->strings, dynamic->strings_len, &ret_names->strings)) {
        return refuse(file, "its table of symbols is broken, or it is cut short");
    }
    ret_names->symbol_count = count;
    ret_names->strings_len = (size_t)dynamic->strings_len;
    return true;
}

static bool named(const struct fw_elf_file *file, const struct fw_elf_names *names, uint32_t name)
{
    static const char WANTED[] = FILA_PLUGIN_SYMBOL;
    return name <= names->strings_len && names->strings_len - name >= sizeof WANTED &&
           !memcmp(file->bytes + names->strings + name, WANTED, sizeof WANTED);
}

static bool find_symbol(const struct fw_elf_file *file, elf_symbol *ret_symbol)
{
    struct fw_elf_names names = {0};
    if (!fw_elf_find_names(file, &names)) {
        return false;
    }
    for (size_t i = 0; i < names.symbol_count; i++) {
        if (fw_elf_read_at(
                file, names.symbols + i * sizeof *ret_symbol, ret_symbol, sizeof *ret_symbol) &&
            ret_symbol->st_shndx != SHN_UNDEF && named(file, &names, ret_symbol->st_name)) {
            return true;
        }
    }
    return refuse(file, "it exports no " FILA_PLUGIN_SYMBOL ": it is no handler of fila/plugin.h");
}

bool fw_elf_descriptor(
    const uint8_t *bytes,
    size_t len,
    struct fw_descriptor_head *ret_head,
    char reterr[FW_ELF_ERROR_SIZE])
{
    struct fw_elf_file file = {.bytes = bytes, .len = len, .reterr = reterr};
    elf_symbol symbol = {0};
    size_t offset = 0;

    if (!fw_elf_check_header(&file) || !find_symbol(&file, &symbol)) {
        return false;
    }
    if (symbol.st_size < sizeof *ret_head) {
        return refuse(
            &file, FILA_PLUGIN_SYMBOL ": its size is %llu, the least is %zu",
            (unsigned long long)symbol.st_size, sizeof *ret_head);
    }
    if (!fw_elf_offset_of(&file, symbol.st_value, sizeof *ret_head, &offset)) {
        return refuse(
            &file, FILA_PLUGIN_SYMBOL " is not in the file's data: it must be a constant");
    }
    memcpy(ret_head, bytes + offset, sizeof *ret_head);
    if (ret_head->magic == FILA_PLUGIN_MAGIC && ret_head->plugin_size > symbol.st_size) {
        return refuse(
            &file, "plugin_size: it is %u, the size of " FILA_PLUGIN_SYMBOL " is %llu",
            ret_head->plugin_size, (unsigned long long)symbol.st_size);
    }
    return true;
}

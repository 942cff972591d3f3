/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "page.h"
#include "plugin/elf.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

struct names {
    char text[256]; /* the first few, with commas */
    unsigned count;
    unsigned symbols;
};

static bool is_expected(const char *name)
{
    return !strcmp(name, FILA_PLUGIN_SYMBOL) || !strcmp(name, "_init") || !strcmp(name, "_fini") ||
           !strcmp(name, "__bss_start") || !strcmp(name, "_edata") || !strcmp(name, "_end");
}

/* Weak ones are templates and inline functions of C++, the same wherever they come from. */
static void note_symbol(void *user, const struct fw_elf_symbol *symbol)
{
    struct names *names = user;
    names->symbols++;
    if (!symbol->defined || symbol->weak || is_expected(symbol->name)) {
        return;
    }
    size_t len = strlen(names->text);
    if (names->count++ < 6) {
        (void)snprintf(
            names->text + len, sizeof names->text - len, "%s%s", len ? ", " : "", symbol->name);
    }
}

static void note_needed(void *user, const char *library)
{
    (void)user;
    (void)library;
}

static void check_symbols(struct fw_verify_report *report, const uint8_t *bytes, size_t len)
{
    struct names names = {.count = 0};
    const struct fw_elf_visitor visitor = {note_symbol, note_needed, &names};
    struct fw_elf_facts facts;
    char why[FW_ELF_ERROR_SIZE];
    if (!fw_elf_facts(bytes, len, &visitor, &facts, why)) {
        fw_verify_add(report, FW_VERIFY_FILE, FW_VERIFY_REFUSED, "%s", why);
        return;
    }
    if (names.count) {
        fw_verify_add(
            report, FW_VERIFY_FILE, FW_VERIFY_EXPORTS, "%u symbols are exported besides %s: %s%s",
            names.count, FILA_PLUGIN_SYMBOL, names.text, names.count > 6 ? ", ..." : "");
    }
    if (facts.executable_stack) {
        fw_verify_add(report, FW_VERIFY_FILE, FW_VERIFY_EXECUTABLE_STACK, "it asks for one");
    }
    if (facts.text_relocations) {
        fw_verify_add(report, FW_VERIFY_FILE, FW_VERIFY_TEXT_RELOCATIONS, "it has some");
    }
    (void)snprintf(report->build_id, sizeof report->build_id, "%s", facts.build_id);
    (void)snprintf(
        report->notes[FW_VERIFY_FILE], sizeof report->notes[FW_VERIFY_FILE],
        "owner, mode, descriptor, %u symbols", names.symbols);
}

/* Everybody else is refused by the loader. A group of the owner's number is the owner's own, as
 * Linux systems make one for each user. */
static void check_group(struct fw_verify_report *report, const char *path, const char *kind)
{
    struct stat st;
    if (!stat(path, &st) && (st.st_mode & S_IWGRP) && st.st_gid != 0 && st.st_gid != st.st_uid) {
        fw_verify_add(
            report, FW_VERIFY_FILE, FW_VERIFY_GROUP_WRITABLE,
            "the %s may be written by group %u: its mode is %04o (%s)", kind, (unsigned)st.st_gid,
            (unsigned)st.st_mode & 07777u, path);
    }
}

static void check_groups(struct fw_verify_report *report)
{
    char folder[PATH_MAX];
    check_group(report, report->path, "file");
    (void)snprintf(folder, sizeof folder, "%s", report->path);
    char *slash = strrchr(folder, '/');
    if (slash) {
        slash[slash == folder] = '\0';
        check_group(report, folder, "folder");
    }
}

static void check_bytes(struct fw_verify_report *report)
{
    struct stat st;
    int fd = open(report->path, O_RDONLY | O_CLOEXEC);
    void *bytes = MAP_FAILED;
    if (fd >= 0 && !fstat(fd, &st)) {
        bytes = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    }
    if (bytes != MAP_FAILED) {
        check_symbols(report, bytes, (size_t)st.st_size);
        (void)munmap(bytes, (size_t)st.st_size);
    }
    if (fd >= 0) {
        (void)close(fd);
    }
}

bool fw_verify_file(const struct fw_verify_options *options, struct fw_verify_report *report)
{
    fila_error error = FILA_ERROR_INIT;
    report->results[FW_VERIFY_FILE] = FW_VERIFY_OK;
    (void)snprintf(report->path, sizeof report->path, "%s", options->name);
    if (fw_plugin_inspect(options->name, report->path, &error)) {
        fw_verify_add(report, FW_VERIFY_FILE, FW_VERIFY_REFUSED, "%s", error.text);
        return false;
    }
    check_groups(report);
    check_bytes(report);
    return true;
}

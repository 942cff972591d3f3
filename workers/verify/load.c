/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "plugin/elf.h"
#include "state.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define LIBRARIES (FW_ELF_NEEDED_MAX + 1)

struct fw_plugin *fw_verify_open(
    struct fw_verify_page *page,
    const struct fw_verify_options *options)
{
    struct fw_plugin_file *file = NULL;
    struct fw_plugin *plugin = NULL;
    char why[FW_VERIFY_TEXT];
    fila_error error = FILA_ERROR_INIT;
    fw_verify_stage(page, "loading it (its constructors)");
    if (fw_plugin_open(options->name, &file, &error)) {
        fw_verify_note(page, FW_VERIFY_REFUSED, "%s", error.text);
    } else if (!options->bind(options->user, file, &plugin, why)) {
        fw_verify_note(page, FW_VERIFY_OPTIONS_UNFIT, "%s", why);
    }
    page->stop = !plugin;
    fw_plugin_close(file);
    return plugin;
}

/* ---- Undefined references ---- */

struct search {
    void *libraries[LIBRARIES];
    unsigned count;
    unsigned missing;
    char text[300];
};

static void open_library(void *user, const char *name)
{
    struct search *search = user;
    void *library = dlopen(name, RTLD_LAZY | RTLD_NOLOAD);
    if (library && search->count < LIBRARIES) {
        search->libraries[search->count++] = library;
    }
}

/* A sanitizer's runtime is in the program, by design: without it the file could not be loaded. */
static bool is_sanitizer(const char *name)
{
    static const char *const PREFIXES[] = {"__asan_", "__ubsan_",  "__tsan_",
                                           "__lsan_", "__sancov_", "__sanitizer_"};
    for (size_t i = 0; i < sizeof PREFIXES / sizeof PREFIXES[0]; i++) {
        if (!strncmp(name, PREFIXES[i], strlen(PREFIXES[i]))) {
            return true;
        }
    }
    return false;
}

static void look_up(void *user, const struct fw_elf_symbol *symbol)
{
    struct search *search = user;
    if (symbol->defined || symbol->weak || is_sanitizer(symbol->name)) {
        return;
    }
    for (unsigned i = 0; i < search->count; i++) {
        (void)dlerror(); // NOLINT(concurrency-mt-unsafe): per thread in glibc
        if (dlsym(search->libraries[i], symbol->name)) {
            return;
        }
    }
    size_t len = strlen(search->text);
    if (search->missing++ < 6) {
        (void)snprintf(
            search->text + len, sizeof search->text - len, "%s%s", len ? ", " : "", symbol->name);
    }
}

static void check_undefined(struct fw_verify_page *page, const char *path)
{
    struct search search = {.count = 0};
    const struct fw_elf_visitor visitor = {look_up, open_library, &search};
    struct fw_elf_facts facts;
    char why[FW_ELF_ERROR_SIZE];
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st)) {
        return;
    }
    void *bytes = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    (void)close(fd);
    if (bytes == MAP_FAILED) {
        return;
    }
    open_library(&search, "libc.so.6");
    (void)fw_elf_facts(bytes, (size_t)st.st_size, &visitor, &facts, why);
    if (search.missing) {
        fw_verify_note(
            page, FW_VERIFY_UNDEFINED, "neither libc nor a library that it names has %s%s",
            search.text, search.missing > 6 ? ", ..." : "");
    }
    (void)munmap(bytes, (size_t)st.st_size);
}

/* ---- The table of options ---- */

/* What is wrong with it has been refused already; this is what could be better. */
static void check_options(struct fw_verify_page *page, const fila_plugin *table)
{
    for (uint32_t i = 0; i < table->option_count; i++) {
        const fila_option *option = &table->options[i];
        if (!option->help || !*option->help) {
            fw_verify_note(page, FW_VERIFY_OPTION_HELP, "the option %s has none", option->name);
        }
        if ((option->flags & FILA_OPTION_REQUIRED) && option->fallback) {
            fw_verify_note(
                page, FW_VERIFY_OPTION_DEFAULT, "the option %s is required and has one",
                option->name);
        }
    }
}

static void describe(struct fw_verify_page *page, const fila_plugin *table)
{
    (void)snprintf(page->name, sizeof page->name, "%s", table->name);
    (void)snprintf(page->version, sizeof page->version, "%s", table->version);
    (void)snprintf(
        page->note, sizeof page->note, "constructors, references, %u options", table->option_count);
}

void fw_verify_load(struct fw_verify_page *page, const struct fw_verify_options *options)
{
    struct fw_verify_state before;
    fw_verify_state_take(&before);
    struct fw_plugin *plugin = fw_verify_open(page, options);
    fw_verify_state_compare(page, &before, "loading it");
    if (!plugin) {
        return;
    }
    describe(page, &plugin->table);
    check_options(page, &plugin->table);
    check_undefined(page, plugin->path);
    fw_plugin_free(plugin);
}

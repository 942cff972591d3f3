/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "cli.h"
#include "connect.h"
#include "describe.h"
#include "plugin.h"
#include "plugin/elf.h"
#include "plugin/loader.h"
#include "readfile.h"

#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define VERB     "plugin info"
#define FILE_MAX ((size_t)512 << 20)

static const char HELP[] =
    "usage: fila-worker plugin info NAME|FILE.so [--json]\n"
    "\n"
    "What a plugin says of itself: its descriptor (read before anything of it is run), the ABI that it was built with,\n"
    "its slots and options, the libraries that it needs, the symbols that it exports.\n"
    "\n"
    "  --json   for programs\n"
    "\n"
    "Exit status: 0; 66 when a worker would refuse it.\n";

static const struct option OPTIONS[] = {
    {"json", no_argument, NULL, FW_OPT_JSON},
    {"help", no_argument, NULL, FW_OPT_HELP},
    {NULL, 0, NULL, 0},
};

/* What the file's bytes say. */
struct facts {
    struct fw_descriptor_head head;
    struct fw_elf_facts elf;
    json_t *needed;
    json_t *exported;
};

static void note_symbol(void *user, const struct fw_elf_symbol *symbol)
{
    struct facts *facts = user;
    if (symbol->defined && !symbol->weak) {
        (void)json_array_append_new(facts->exported, json_string(symbol->name));
    }
}

static void note_needed(void *user, const char *library)
{
    struct facts *facts = user;
    (void)json_array_append_new(facts->needed, json_string(library));
}

static bool read_facts(const char *path, struct facts *facts)
{
    size_t len = 0;
    char why[FW_ELF_ERROR_SIZE];
    const struct fw_elf_visitor visitor = {note_symbol, note_needed, facts};
    char *bytes = fw_cli_read_file(path, FILE_MAX, &len);
    bool read = bytes && fw_elf_descriptor((const uint8_t *)bytes, len, &facts->head, why) &&
                fw_elf_facts((const uint8_t *)bytes, len, &visitor, &facts->elf, why);
    free(bytes);
    return read;
}

static json_t *slots_json(const fila_plugin *table)
{
    json_t *slots = json_array();

    const struct {
        const char *name;
        bool there;
    } slot_list[] = {
        {"init", table->init != NULL},
        {"handle", true},
        {"close", table->close != NULL},
        {"probe", table->probe != NULL},
    };

    for (size_t i = 0; i < sizeof slot_list / sizeof slot_list[0]; i++) {
        if (slot_list[i].there) {
            (void)json_array_append_new(slots, json_string(slot_list[i].name));
        }
    }
    return slots;
}

static json_t *describe(const fila_plugin *table, const char *path, const struct facts *facts)
{
    char abi[24];
    (void)snprintf(
        abi, sizeof abi, "%u.%u", (unsigned)facts->head.abi_major, (unsigned)facts->head.abi_minor);
    return json_pack(
        "{s:s,s:s,s:s,s:s,s:s,s:s,s:b,s:o,s:o,s:O,s:O}", "name", table->name, "version",
        table->version, "description", table->description, "path", path, "abi", abi, "build_id",
        facts->elf.build_id, "thread_safe", (table->flags & FILA_PLUGIN_THREAD_SAFE) != 0, "slots",
        slots_json(table), "options", fw_cli_options_json(table), "needed", facts->needed,
        "exported", facts->exported);
}

static void print_value(const char *key, const json_t *value)
{
    if (json_is_array(value)) {
        (void)printf("%-12s", key);
        for (size_t i = 0; i < json_array_size(value); i++) {
            (void)printf(" %s", json_string_value(json_array_get(value, i)));
        }
        (void)printf("%s\n", json_array_size(value) ? "" : " -");
    } else if (json_is_boolean(value)) {
        (void)printf("%-12s %s\n", key, json_is_true(value) ? "yes" : "no");
    } else {
        const char *text = json_string_value(value);
        (void)printf("%-12s %s\n", key, text && *text ? text : "-");
    }
}

static int show(const char *name, bool json)
{
    struct fw_plugin_file *file = NULL;
    fila_error error = FILA_ERROR_INIT;
    struct facts facts = {.needed = json_array(), .exported = json_array()};
    json_t *all = NULL;
    int status = FW_EXIT_OK;
    if (fw_plugin_open(name, &file, &error)) {
        status = fw_cli_fail(VERB, FW_EXIT_PLUGIN, "%s", error.text);
    } else if (!read_facts(fw_plugin_path(file), &facts)) {
        status = fw_cli_fail(VERB, FW_EXIT_PLUGIN, "%s: it cannot be read", fw_plugin_path(file));
    } else if (!(all = describe(fw_plugin_table(file), fw_plugin_path(file), &facts))) {
        status = fw_cli_fail(VERB, FW_EXIT_PLUGIN, "its texts are not UTF-8");
    } else if (json) {
        (void)json_dumpf(all, stdout, JSON_COMPACT);
        (void)putchar('\n');
    } else {
        const char *key;
        json_t *value;
        json_object_foreach(all, key, value)
        {
            if (strcmp(key, "options") != 0) {
                print_value(key, value);
            }
        }
        fw_cli_options_print(fw_plugin_table(file));
    }
    json_decref(all);
    json_decref(facts.needed);
    json_decref(facts.exported);
    fw_plugin_close(file);
    return status;
}

int fw_cli_plugin_info(int argc, char **argv)
{
    bool json = false;
    opterr = 0;
    /* NOLINTNEXTLINE(concurrency-mt-unsafe): main thread */
    for (int option; (option = getopt_long(argc, argv, ":", OPTIONS, NULL)) != -1;) {
        switch (option) {
        case FW_OPT_JSON:
            json = true;
            break;
        case FW_OPT_HELP:
            (void)fputs(HELP, stdout);
            return fw_cli_finish(VERB, FW_EXIT_OK);
        default:
            return fw_cli_bad_option(VERB, option, argv);
        }
    }
    if (argc - optind != 1) {
        return fw_cli_usage(VERB, "it takes one file");
    }
    return fw_cli_finish(VERB, show(argv[optind], json));
}

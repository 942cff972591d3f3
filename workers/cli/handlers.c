/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "cli.h"
#include "connect.h"
#include "describe.h"
#include "plugin/loader.h"

#include <jansson.h>
#include <limits.h>
#include <stdio.h>

static const char HELP[] =
    "usage: fila-worker handlers [--json]\n"
    "       fila-worker handlers NAME|FILE.so [--json]\n"
    "\n"
    "Lists the handlers that a config can name, or the options of one of them. Handlers are searched in\n"
    "$FILA_WORKER_PLUGIN_PATH (folders, joined by ':'), then beside the program.\n"
    "\n"
    "  --json   for programs\n";

static const struct option OPTIONS[] = {
    {"json", no_argument, NULL, FW_OPT_JSON},
    {"help", no_argument, NULL, FW_OPT_HELP},
    {NULL, 0, NULL, 0},
};

struct listing {
    json_t *json; /* NULL: as text */
    size_t count;
};

static json_t *describe(const fila_plugin *table, const char *path)
{
    return json_pack(
        "{s:s,s:s,s:s,s:s,s:b}", "name", table->name, "version", table->version, "description",
        table->description, "path", path, "thread_safe",
        (table->flags & FILA_PLUGIN_THREAD_SAFE) != 0);
}

static void list_one(void *user, const char *name, const char *path)
{
    struct listing *listing = user;
    struct fw_plugin_file *file = NULL;
    fila_error error = FILA_ERROR_INIT;
    if (fw_plugin_open(path, &file, &error)) {
        (void)fw_cli_fail("handlers", 0, "%s: %s", name, error.text);
        return;
    }
    const fila_plugin *table = fw_plugin_table(file);
    listing->count++;
    if (listing->json) {
        (void)json_array_append_new(listing->json, describe(table, fw_plugin_path(file)));
    } else {
        (void)printf("%-12s %-8s %s\n", name, table->version, table->description);
    }
    fw_plugin_close(file);
}

static int print_json(json_t *value)
{
    if (!value || json_dumpf(value, stdout, JSON_COMPACT)) {
        json_decref(value);
        return fw_cli_fail("handlers", FW_EXIT_INTERNAL, "out of memory");
    }
    (void)putchar('\n');
    json_decref(value);
    return FW_EXIT_OK;
}

static int list(bool json)
{
    struct listing listing = {.json = json ? json_array() : NULL};
    char folders[4 * PATH_MAX];
    fw_plugin_each(list_one, &listing);
    if (json) {
        return print_json(listing.json);
    }
    if (!listing.count) {
        fw_plugin_search_path(folders, sizeof folders);
        return fw_cli_fail("handlers", FW_EXIT_PLUGIN, "there are none in %s", folders);
    }
    return FW_EXIT_OK;
}

/* ---- One ---- */

static int show_json(const struct fw_plugin_file *file)
{
    const fila_plugin *table = fw_plugin_table(file);
    json_t *all = describe(table, fw_plugin_path(file));
    (void)json_object_set_new(all, "options", fw_cli_options_json(table));
    return print_json(all);
}

static int show_text(const struct fw_plugin_file *file)
{
    const fila_plugin *table = fw_plugin_table(file);
    const char *path = fw_plugin_path(file);
    (void)printf("%s %s: %s\n%s\n", table->name, table->version, table->description, path);
    (void)printf(
        "one instance %s\n",
        table->flags & FILA_PLUGIN_THREAD_SAFE ? "for all threads" : "per thread");
    fw_cli_options_print(table);
    return FW_EXIT_OK;
}

static int show(const char *name, bool json)
{
    struct fw_plugin_file *file = NULL;
    fila_error error = FILA_ERROR_INIT;
    if (fw_plugin_open(name, &file, &error)) {
        return fw_cli_fail("handlers", FW_EXIT_PLUGIN, "%s", error.text);
    }
    int status = json ? show_json(file) : show_text(file);
    fw_plugin_close(file);
    return status;
}

int fw_cli_handlers(int argc, char **argv)
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
            return fw_cli_finish("handlers", FW_EXIT_OK);
        default:
            return fw_cli_bad_option("handlers", option, argv);
        }
    }
    if (argc - optind > 1) {
        return fw_cli_usage("handlers", "unexpected argument \"%s\"", argv[optind + 1]);
    }
    return fw_cli_finish("handlers", optind < argc ? show(argv[optind], json) : list(json));
}

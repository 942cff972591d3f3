/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "cli.h"
#include "load.h"
#include "plugin/loader.h"

#include <stdio.h>

static const char HELP[] =
    "usage: fila-worker explain [--config FILE] [--json]\n"
    "\n"
    "Prints the config as it is understood, with all defaults, and where each value comes from: the file and line, a variable,\n"
    "an option, or the default. Secrets are shown as ***. What it prints is a config file itself.\n"
    "\n" FW_CLI_LOAD_HELP "  --json             for programs: \"config\", and \"origins\" by key\n"
    "\n"
    "Exit status: 0; 78 the config cannot be used (fila-worker check says all about it); 64 usage.\n";

enum {
    OPT_JSON = 1000,
    OPT_HELP
};

static const struct option OPTIONS[] = {
    FW_CLI_LOAD_OPTIONS,
    {"json", no_argument, NULL, OPT_JSON},
    {"help", no_argument, NULL, OPT_HELP},
    {NULL, 0, NULL, 0},
};

/* -1 = go on; else the exit status to end with. */
static int parse(int argc, char **argv, struct fw_cli_source *source, bool *json)
{
    int option = 0;
    opterr = 0;
    /* NOLINTNEXTLINE(concurrency-mt-unsafe): main thread */
    while ((option = getopt_long(argc, argv, ":", OPTIONS, NULL)) != -1) {
        if (fw_cli_source_option(source, option)) {
            continue;
        }
        switch (option) {
        case OPT_JSON:
            *json = true;
            break;
        case OPT_HELP:
            (void)fputs(HELP, stdout);
            return fw_cli_finish("explain", FW_EXIT_OK);
        default:
            return fw_cli_bad_option("explain", option, argv);
        }
    }
    return optind == argc
               ? -1
               : fw_cli_usage(
                     "explain", "unexpected argument \"%s\" (a config file is given with --config)",
                     argv[optind]);
}

/* A handler that cannot be loaded is no reason not to explain: its options are then masked by their
 * names alone. */
static void mask_secrets(struct fw_config *config)
{
    for (size_t i = 0; i < config->queue_count; i++) {
        struct fw_plugin_file *file = NULL;
        if (fw_plugin_open(config->queues[i].handler_plugin, &file, NULL) != FILA_OK) {
            continue;
        }
        const fila_plugin *table = fw_plugin_table(file);
        for (uint32_t k = 0; k < table->option_count; k++) {
            if (table->options[k].flags & FILA_OPTION_SECRET) {
                fw_config_mask(config, i, table->options[k].name);
            }
        }
        fw_plugin_close(file);
    }
}

static int run(const struct fw_cli_source *source, bool json)
{
    struct fw_config *config = NULL;
    struct fw_diagnostics diagnostics;
    int status = FW_EXIT_CONFIG;
    bool ok = fw_cli_source_load(source, &config, &diagnostics);
    for (size_t i = 0; i < diagnostics.count; i++) {
        fw_diagnostic_print(stderr, &diagnostics.items[i]);
    }
    if (ok) {
        mask_secrets(config);
        status = fw_config_explain(stdout, config, json)
                     ? fw_cli_finish("explain", FW_EXIT_OK)
                     : fw_cli_fail("explain", FW_EXIT_INTERNAL, "out of memory");
    }
    fw_diagnostics_free(&diagnostics);
    fw_config_free(config);
    return status;
}

int fw_cli_explain(int argc, char **argv)
{
    struct fw_cli_source source;
    bool json = false;
    if (!fw_cli_source_init(&source, argc)) {
        return fw_cli_fail("explain", FW_EXIT_INTERNAL, "out of memory");
    }
    int status = parse(argc, argv, &source, &json);
    if (status < 0) {
        status = run(&source, json);
    }
    fw_cli_source_fini(&source);
    return status;
}

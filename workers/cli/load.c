/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "load.h"

#include <stdlib.h>

bool fw_cli_source_init(struct fw_cli_source *source, int argc)
{
    memset(source, 0, sizeof *source);
    source->sets = calloc((size_t)argc + 1, sizeof *source->sets);
    source->overrides.sets = source->sets;
    return source->sets != NULL;
}

void fw_cli_source_fini(struct fw_cli_source *source)
{
    free(source->sets);
}

bool fw_cli_source_option(struct fw_cli_source *source, int option)
{
    switch (option) {
    case FW_OPT_LOAD_CONFIG:
        source->path = optarg;
        return true;
    case FW_OPT_LOAD_BROKER:
        source->overrides.broker = optarg;
        return true;
    case FW_OPT_LOAD_SET:
        source->sets[source->overrides.set_count++] = optarg;
        return true;
    case FW_OPT_LOAD_LEVEL:
        source->overrides.log_level = optarg;
        return true;
    case FW_OPT_LOAD_FORMAT:
        source->overrides.log_format = optarg;
        return true;
    default:
        return false;
    }
}

bool fw_cli_source_load(
    const struct fw_cli_source *source,
    struct fw_config **ret_config,
    struct fw_diagnostics *ret_diagnostics)
{
    return fw_config_load(
        fw_config_find(source->path), &source->overrides, ret_config, ret_diagnostics);
}

/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "loader.h"

#include <libconfig.h>

/* A group being read into an object by a table. */
struct group {
    const struct fw_table *table;
    void *object;
    struct fw_origin *origins; /* by row */
    const char *prefix;        /* of keys in diagnostics: "", "queues[0]." */
    const char *path;          /* of this group in the table: "", "retry." */
};

static const struct fw_node *node_of(config_setting_t *setting)
{
    return config_setting_get_hook(setting);
}

static struct fw_where key_place(const struct fw_loader *loader, config_setting_t *setting)
{
    return (struct fw_where){.name = loader->source->path, .at = node_of(setting)->key};
}

static struct fw_where value_place(const struct fw_loader *loader, config_setting_t *setting)
{
    return (struct fw_where){.name = loader->source->path, .at = node_of(setting)->value};
}

/* What stands there, for a message. */
static const char *found(struct fw_loader *loader, config_setting_t *setting)
{
    const struct fw_node *node = node_of(setting);
    switch (config_setting_type(setting)) {
    case CONFIG_TYPE_GROUP:
        return "a group { }";
    case CONFIG_TYPE_LIST:
        return "a list ( )";
    case CONFIG_TYPE_ARRAY:
        return "an array [ ]";
    case CONFIG_TYPE_STRING:
        return "text";
    case CONFIG_TYPE_BOOL:
        return config_setting_get_bool(setting) ? "true" : "false";
    default:
        return fw_arena_print(
            &loader->report->arena, "the number %.*s",
            (int)(node->raw_len < 60 ? node->raw_len : 60), node->raw);
    }
}

static void wrong_type(
    struct fw_loader *loader,
    config_setting_t *setting,
    const char *key,
    const struct fw_property *row)
{
    fw_report_error(
        loader->report, value_place(loader, setting), key, "expected %s, found %s",
        fw_value_expected(&loader->report->arena, row), found(loader, setting));
}

static const char *raw_text(struct fw_loader *loader, config_setting_t *setting)
{
    const struct fw_node *node = node_of(setting);
    return fw_arena_copy(&loader->report->arena, node->raw, node->raw_len);
}

static void set_string(
    struct fw_loader *loader,
    const struct fw_target *target,
    config_setting_t *setting)
{
    const char *text = config_setting_get_string(setting);
    if (fw_expand(loader, target->where, target->key, text, NULL, &text)) {
        fw_value_set_text(loader, target, text);
    }
}

static void set_number(
    struct fw_loader *loader,
    const struct fw_target *target,
    config_setting_t *setting)
{
    bool is_float = config_setting_type(setting) == CONFIG_TYPE_FLOAT;
    enum fw_kind kind = target->row->kind;
    if (kind == FW_KIND_DURATION || kind == FW_KIND_SIZE) { /* says which unit is missing */
        fw_value_set_text(loader, target, raw_text(loader, setting));
    } else if (is_float && kind == FW_KIND_REAL) {
        fw_value_set_real(loader, target, config_setting_get_float(setting));
    } else if (!is_float && (kind == FW_KIND_COUNT || kind == FW_KIND_REAL)) {
        fw_value_set_integer(loader, target, config_setting_get_int64(setting));
    } else {
        wrong_type(loader, setting, target->key, target->row);
    }
}

/* The texts of a text or a list of texts, expanded; false: reported. */
static bool texts_of(
    struct fw_loader *loader,
    config_setting_t *setting,
    const char *key,
    const struct fw_property *row,
    const char ***ret_texts,
    size_t *ret_count)
{
    bool is_text = config_setting_type(setting) == CONFIG_TYPE_STRING;
    if (!is_text && !config_setting_is_list(setting) && !config_setting_is_array(setting)) {
        wrong_type(loader, setting, key, row);
        return false;
    }
    size_t count = is_text ? 1 : (size_t)config_setting_length(setting);
    const char **texts = fw_arena_alloc(loader->arena, count + 1, sizeof *texts);
    bool ok = texts != NULL;
    for (size_t i = 0; ok && i < count; i++) {
        config_setting_t *item = is_text ? setting : config_setting_get_elem(setting, (unsigned)i);
        if (config_setting_type(item) != CONFIG_TYPE_STRING) {
            wrong_type(loader, item, key, row);
            return false;
        }
        const char *text = config_setting_get_string(item);
        ok = fw_expand(loader, value_place(loader, item), key, text, NULL, &text);
        texts[i] = ok ? fw_arena_copy(loader->arena, text, strlen(text)) : "";
    }
    *ret_texts = texts;
    *ret_count = count;
    return ok;
}

static void set_value(
    struct fw_loader *loader,
    const struct fw_target *target,
    config_setting_t *setting)
{
    const char **texts = NULL;
    size_t count = 0;
    if (target->row->kind == FW_KIND_URLS) {
        if (texts_of(loader, setting, target->key, target->row, &texts, &count)) {
            fw_value_set_urls(loader, target, texts, count);
        }
        return;
    }
    switch (config_setting_type(setting)) {
    case CONFIG_TYPE_STRING:
        set_string(loader, target, setting);
        return;
    case CONFIG_TYPE_INT:
    case CONFIG_TYPE_INT64:
    case CONFIG_TYPE_FLOAT:
        set_number(loader, target, setting);
        return;
    default:
        wrong_type(loader, setting, target->key, target->row);
    }
}

static void read_include(struct fw_loader *loader, config_setting_t *setting)
{
    const struct fw_property *row = fw_table_find(&fw_root_table, "include");
    if (texts_of(loader, setting, "include", row, &loader->patterns, &loader->pattern_count)) {
        loader->include_where = value_place(loader, setting);
    }
}

/* ---- handler ---- */

static const char *option_text(
    struct fw_loader *loader,
    config_setting_t *item,
    const char *key,
    bool *ret_from_file)
{
    const char *text = NULL;
    switch (config_setting_type(item)) {
    case CONFIG_TYPE_STRING:
        text = config_setting_get_string(item);
        if (!fw_expand(loader, value_place(loader, item), key, text, ret_from_file, &text)) {
            return NULL;
        }
        return fw_arena_copy(loader->arena, text, strlen(text));
    case CONFIG_TYPE_BOOL:
        return config_setting_get_bool(item) ? "true" : "false";
    case CONFIG_TYPE_INT:
    case CONFIG_TYPE_INT64:
    case CONFIG_TYPE_FLOAT:
        return fw_arena_copy(loader->arena, node_of(item)->raw, node_of(item)->raw_len);
    default:
        fw_report_error(
            loader->report, value_place(loader, item), key,
            "expected text, a number, a boolean or a list of texts, found %s", found(loader, item));
        return NULL;
    }
}

/* Options whose names promise a secret are masked like those whose value came from a file. */
static bool sounds_secret(const char *name)
{
    static const char *const words[] = {"password", "passwd",  "passphrase", "secret", "token",
                                        "apikey",   "api_key", "credential", "private"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (strcasestr(name, words[i])) {
            return true;
        }
    }
    return false;
}

static bool read_option(
    struct fw_loader *loader,
    config_setting_t *setting,
    const char *key,
    struct fw_handler_option *option)
{
    bool is_list = config_setting_is_list(setting) || config_setting_is_array(setting);
    size_t count = is_list ? (size_t)config_setting_length(setting) : 1;
    const char **values = fw_arena_alloc(loader->arena, count + 1, sizeof *values);
    const char *name = config_setting_name(setting);
    bool from_file = false;
    bool all_strings = true;
    for (size_t i = 0; values && i < count; i++) {
        config_setting_t *item = is_list ? config_setting_get_elem(setting, (unsigned)i) : setting;
        bool secret = false;
        values[i] = option_text(loader, item, key, &secret);
        all_strings = all_strings && config_setting_type(item) == CONFIG_TYPE_STRING;
        from_file = from_file || secret;
        if (!values[i]) {
            return false;
        }
    }
    *option = (struct fw_handler_option){
        .name = fw_arena_copy(loader->arena, name, strlen(name)),
        .values = values,
        .count = count,
        .is_list = is_list,
        .is_string = all_strings,
        .is_secret = from_file || sounds_secret(name),
        .file = loader->source->path,
        .line = node_of(setting)->key.line,
    };
    return values != NULL;
}

static void read_plugin(
    struct fw_loader *loader,
    struct fw_queue_config *queue,
    config_setting_t *setting,
    const char *key)
{
    struct fw_where where = value_place(loader, setting);
    if (config_setting_type(setting) != CONFIG_TYPE_STRING) {
        fw_report_error(
            loader->report, where, key, "expected text in quotes, found %s",
            found(loader, setting));
        return;
    }
    const char *text = config_setting_get_string(setting);
    if (!fw_expand(loader, where, key, text, NULL, &text)) {
        return;
    }
    if (!*text) {
        fw_report_error(loader->report, where, key, "must not be empty");
    }
    queue->handler_plugin = fw_arena_copy(loader->arena, text, strlen(text));
}

static void read_handler(
    struct fw_loader *loader,
    struct fw_queue_config *queue,
    config_setting_t *setting,
    const char *prefix)
{
    const struct fw_property *row = fw_table_find(&fw_queue_table, "handler");
    const char *key = fw_arena_print(&loader->report->arena, "%shandler", prefix);
    if (!config_setting_is_group(setting)) {
        wrong_type(loader, setting, key, row);
        return;
    }
    struct fw_handler_option *options = NULL;
    for (unsigned i = 0; i < (unsigned)config_setting_length(setting); i++) {
        config_setting_t *member = config_setting_get_elem(setting, i);
        const char *name = config_setting_name(member);
        const char *path = fw_arena_print(&loader->report->arena, "%s.%s", key, name);
        if (strcmp(name, "plugin") == 0) {
            read_plugin(loader, queue, member, path);
            continue;
        }
        struct fw_handler_option *grown =
            fw_arena_grow(loader->arena, options, queue->handler_option_count, sizeof *options);
        if (!grown) {
            return;
        }
        options = grown;
        if (read_option(loader, member, path, &options[queue->handler_option_count])) {
            queue->handler_option_count++;
        }
    }
    queue->handler_options = options;
    if (!config_setting_get_member(setting, "plugin")) {
        fw_report_error(
            loader->report, value_place(loader, setting), key,
            "plugin is missing: the name of a shipped handler, or the path of a shared object");
        queue->handler_plugin = "";
    }
}

/* ---- Groups ---- */

static void unknown_key(
    struct fw_loader *loader,
    const struct group *group,
    config_setting_t *setting,
    const char *path,
    const char *key)
{
    bool in_queue = group->table == &fw_queue_table;
    const struct fw_table *other = in_queue ? &fw_root_table : &fw_queue_table;
    char nearest[FW_PATH_SIZE];
    struct fw_where where = key_place(loader, setting);
    if (fw_table_nearest(group->table, path, nearest)) {
        fw_report_error(loader->report, where, key, "unknown key; did you mean \"%s\"?", nearest);
    } else if (
        loader->root == &fw_root_table &&
        (fw_table_find(other, path) || fw_table_is_group(other, path))) {
        fw_report_error(
            loader->report, where, key, "unknown key here; it belongs %s",
            in_queue ? "to the top of the file" : "into an entry of `queues`");
    } else {
        fw_report_error(loader->report, where, key, "unknown key");
    }
}

/* NOLINTBEGIN(misc-no-recursion): the depth of the file is bounded by the syntax check */
static void read_queues(struct fw_loader *loader, config_setting_t *setting);

static void read_group(
    struct fw_loader *loader,
    const struct group *group,
    config_setting_t *setting)
{
    for (unsigned i = 0; i < (unsigned)config_setting_length(setting); i++) {
        config_setting_t *member = config_setting_get_elem(setting, i);
        struct fw_arena *arena = &loader->report->arena;
        const char *path = fw_arena_print(arena, "%s%s", group->path, config_setting_name(member));
        const char *key = fw_arena_print(arena, "%s%s", group->prefix, path);
        const struct fw_property *row = fw_table_find(group->table, path);
        if (row && row->kind == FW_KIND_GROUPS) {
            read_queues(loader, member);
        } else if (row && row->kind == FW_KIND_FILES) {
            read_include(loader, member);
        } else if (row && row->kind == FW_KIND_HANDLER) {
            read_handler(loader, group->object, member, group->prefix);
        } else if (row) {
            const struct fw_node *node = node_of(member);
            const struct fw_target target = {
                .row = row,
                .object = group->object,
                .origin = &group->origins[row - group->table->rows],
                .key = key,
                .where = value_place(loader, member),
                .from = {FW_ORIGIN_FILE, loader->source->path, node->value}};
            set_value(loader, &target, member);
        } else if (!fw_table_is_group(group->table, path)) {
            unknown_key(loader, group, member, path, key);
        } else if (!config_setting_is_group(member)) {
            fw_report_error(
                loader->report, value_place(loader, member), key,
                "expected a group: %s = { ... };, found %s", config_setting_name(member),
                found(loader, member));
        } else {
            struct group inner = *group;
            inner.path = fw_arena_print(arena, "%s.", path);
            read_group(loader, &inner, member);
        }
    }
}

static void add_queue(
    struct fw_loader *loader,
    const struct fw_queue_config *queue,
    struct fw_origin *origins)
{
    struct fw_config *config = loader->config;
    struct fw_queue_config *queues =
        fw_arena_grow(loader->arena, config->queues, config->queue_count, sizeof *queues);
    struct fw_origin **all = fw_arena_grow(
        loader->arena, loader->memory->queue_origins, config->queue_count, sizeof(*all));
    if (queues && all) {
        config->queues = queues;
        loader->memory->queue_origins = all;
        queues[config->queue_count] = *queue;
        all[config->queue_count++] = origins;
    }
}

static void read_queue(struct fw_loader *loader, config_setting_t *setting, unsigned index)
{
    const char *prefix = fw_arena_print(&loader->report->arena, "queues[%u].", index);
    struct fw_origin *origins =
        fw_arena_alloc(loader->arena, fw_queue_table.count, sizeof *origins);
    struct fw_queue_config queue = {
        .file = loader->source->path,
        .line = node_of(setting)->value.line,
        .handler_plugin = "",
        .lane_header = ""};
    if (!origins) {
        return;
    }
    for (size_t i = 0; i < fw_queue_table.count; i++) {
        fw_value_set_default(loader, &fw_queue_table.rows[i], &queue);
    }
    const struct group group = {&fw_queue_table, &queue, origins, prefix, ""};
    read_group(loader, &group, setting);
    static const char *const required[] = {"queue", "handler"};
    for (size_t i = 0; i < 2; i++) {
        if (!config_setting_get_member(setting, required[i])) {
            fw_report_error(
                loader->report, value_place(loader, setting),
                fw_arena_print(&loader->report->arena, "queues[%u]", index), "`%s` is missing: %s",
                required[i],
                i == 0 ? "the name of the queue to consume" : "handler = { plugin = \"...\"; };");
        }
    }
    add_queue(loader, &queue, origins);
}

static void read_queues(struct fw_loader *loader, config_setting_t *setting)
{
    const struct fw_property *row = fw_table_find(&fw_root_table, "queues");
    if (!config_setting_is_list(setting)) {
        wrong_type(loader, setting, "queues", row);
        return;
    }
    for (unsigned i = 0; i < (unsigned)config_setting_length(setting); i++) {
        config_setting_t *item = config_setting_get_elem(setting, i);
        if (config_setting_is_group(item)) {
            read_queue(loader, item, i);
        } else {
            fw_report_error(
                loader->report, value_place(loader, item),
                fw_arena_print(&loader->report->arena, "queues[%u]", i),
                "expected a group { queue = \"...\"; handler = { ... }; }, found %s",
                found(loader, item));
        }
    }
}

static void read_included(struct fw_loader *loader, config_setting_t *root)
{
    for (unsigned i = 0; i < (unsigned)config_setting_length(root); i++) {
        config_setting_t *member = config_setting_get_elem(root, i);
        const char *name = config_setting_name(member);
        if (strcmp(name, "queues") == 0) {
            read_queues(loader, member);
        } else {
            fw_report_error(
                loader->report, key_place(loader, member), name,
                "an included file takes `queues` only; this belongs into %s", loader->config->file);
        }
    }
}

/* Ties each setting of the tree to its place in the text: both are in the same order. */
static bool tie(config_setting_t *setting, struct fw_source *source, size_t *next)
{
    if (!config_setting_is_aggregate(setting)) {
        return true;
    }
    for (unsigned i = 0; i < (unsigned)config_setting_length(setting); i++) {
        config_setting_t *member = config_setting_get_elem(setting, i);
        if (*next == source->node_count) {
            return false;
        }
        config_setting_set_hook(member, &source->nodes[(*next)++]);
        if (!tie(member, source, next)) {
            return false;
        }
    }
    return true;
}

/* NOLINTEND(misc-no-recursion) */

void fw_tree_read(struct fw_loader *loader, struct fw_source *source, bool is_main)
{
    const struct fw_where top = {.name = source->path};
    config_t tree;
    size_t next = 0;
    config_init(&tree);
    loader->source = source;
    if (!config_read_string(&tree, source->text)) {
        fw_report_error(
            loader->report,
            (struct fw_where){.name = source->path, .at = {(unsigned)config_error_line(&tree), 0}},
            "", "%s", config_error_text(&tree));
    } else if (!tie(config_root_setting(&tree), source, &next) || next != source->node_count) {
        fw_report_error(
            loader->report, top, "", "libconfig reads this file in another way than it is written");
    } else if (is_main) {
        const struct group group = {
            loader->root, loader->root_object, loader->root_origins, "", ""};
        read_group(loader, &group, config_root_setting(&tree));
    } else {
        read_included(loader, config_root_setting(&tree));
    }
    config_destroy(&tree);
}

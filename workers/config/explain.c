/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "loader.h"

#include <jansson.h>
#include <stdio.h>

#define COMMENT_COLUMN 52

/* One object (the root, or a queue) being printed. */
struct view {
    struct fw_arena *arena;
    const struct fw_config *config;
    const struct fw_table *table;
    const void *object;
    const struct fw_origin *origins;
    int indent;
    FILE *out;
    json_t *json;         /* in JSON: the object that is filled ... */
    json_t *json_origins; /* ... and where each value came from, by full path */
    const char *prefix;
};

static const char *origin_text(struct fw_arena *arena, const struct fw_origin *origin)
{
    switch (origin->kind) {
    case FW_ORIGIN_FILE:
        return fw_arena_print(arena, "%s:%u", origin->name, origin->at.line);
    case FW_ORIGIN_ENVIRONMENT:
        return fw_arena_print(arena, "environment %s", origin->name);
    case FW_ORIGIN_COMMAND_LINE:
        return fw_arena_print(arena, "command line %s", origin->name);
    case FW_ORIGIN_DEFAULT:
        break;
    }
    return "default";
}

static const char *masked(const char *text)
{
    return *text ? "***" : "";
}

/* A text as the config file writes it. */
static const char *quoted(struct fw_arena *arena, const char *text)
{
    char *copy = fw_arena_alloc(arena, 4 * strlen(text) + 3, 1);
    size_t len = 0;
    if (!copy) {
        return "";
    }
    copy[len++] = '"';
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        if (c == '"' || c == '\\') {
            copy[len++] = '\\';
        }
        if (c == '$') {
            copy[len++] = '$';
        }
        if (c < 0x20 || c == 0x7f) {
            len += (size_t)sprintf(copy + len, "\\x%02x", c);
        } else {
            copy[len++] = (char)c;
        }
    }
    copy[len] = '"';
    return copy;
}

static const char *quoted_list(struct fw_arena *arena, const char *const *texts, size_t count)
{
    const char *list = "(";
    for (size_t i = 0; i < count; i++) {
        list = fw_arena_print(arena, "%s%s%s", list, i ? ", " : " ", quoted(arena, texts[i]));
    }
    return fw_arena_print(arena, "%s )", list);
}

static bool is_bare(enum fw_kind kind)
{
    return kind == FW_KIND_COUNT || kind == FW_KIND_REAL;
}

/* ---- Text ---- */

static void line(const struct view *v, const char *name, const char *value, const char *origin)
{
    int len = fprintf(v->out, "%*s%s = %s;", v->indent, "", name, value);
    int pad = len < COMMENT_COLUMN ? COMMENT_COLUMN - len : 1;
    (void)fprintf(v->out, "%*s# %s\n", pad, "", origin);
}

static void print_handler(const struct view *v, const struct fw_queue_config *queue)
{
    struct view inner = *v;
    inner.indent += 2;
    (void)fprintf(v->out, "%*shandler = {\n", v->indent, "");
    (void)fprintf(
        v->out, "%*splugin = %s;\n", inner.indent, "", quoted(v->arena, queue->handler_plugin));
    for (size_t i = 0; i < queue->handler_option_count; i++) {
        const struct fw_handler_option *o = &queue->handler_options[i];
        const char *value = o->is_secret   ? "\"***\""
                            : o->is_list   ? quoted_list(v->arena, o->values, o->count)
                            : o->is_string ? quoted(v->arena, o->values[0])
                                           : o->values[0];
        line(&inner, o->name, value, fw_arena_print(v->arena, "%s:%u", o->file, o->line));
    }
    (void)fprintf(v->out, "%*s};\n", v->indent, "");
}

static const char *value_of(const struct view *v, const struct fw_property *row)
{
    if (row->kind == FW_KIND_URLS) {
        return v->config->broker_count == 1
                   ? quoted(v->arena, v->config->brokers[0])
                   : quoted_list(v->arena, v->config->brokers, v->config->broker_count);
    }
    const char *text = fw_value_text(v->arena, row, v->object);
    text = row->flags & FW_PROPERTY_SECRET ? masked(text) : text;
    return is_bare(row->kind) ? text : quoted(v->arena, text);
}

/* NOLINTBEGIN(misc-no-recursion): queues hold no queues */
static void print_queues(const struct view *v);

/* "retry.first": the length of "retry", 0 without a group. */
static size_t group_len(const struct fw_property *row)
{
    const char *point = strchr(row->path, '.');
    return point ? (size_t)(point - row->path) : 0;
}

static bool same_group(const struct fw_property *a, const struct fw_property *b)
{
    return group_len(a) == group_len(b) && strncmp(a->path, b->path, group_len(a)) == 0;
}

static void print_object(const struct view *v)
{
    for (size_t i = 0; i < v->table->count; i++) {
        const struct fw_property *row = &v->table->rows[i];
        size_t group = group_len(row);
        struct view inner = *v;
        inner.indent += group ? 2 : 0;
        if (group && (i == 0 || !same_group(row, row - 1))) {
            (void)fprintf(v->out, "%*s%.*s = {\n", v->indent, "", (int)group, row->path);
        }
        if (row->kind == FW_KIND_GROUPS) {
            print_queues(v);
        } else if (row->kind == FW_KIND_HANDLER) {
            print_handler(v, v->object);
        } else if (row->kind != FW_KIND_FILES) {
            line(
                &inner, row->path + (group ? group + 1 : 0), value_of(v, row),
                origin_text(v->arena, &v->origins[i]));
        }
        if (group && (i + 1 == v->table->count || !same_group(row, row + 1))) {
            (void)fprintf(v->out, "%*s};\n", v->indent, "");
        }
    }
}

static struct view queue_view(const struct view *root, size_t index)
{
    const struct fw_config_memory *memory = root->config->arena;
    struct view v = *root;
    v.table = &fw_queue_table;
    v.object = &root->config->queues[index];
    v.origins = memory->queue_origins[index];
    return v;
}

static void print_queues(const struct view *v)
{
    (void)fprintf(v->out, "queues = (\n");
    for (size_t i = 0; i < v->config->queue_count; i++) {
        struct view queue = queue_view(v, i);
        queue.indent = 4;
        (void)fprintf(v->out, "  {\n");
        print_object(&queue);
        (void)fprintf(v->out, "  }%s\n", i + 1 < v->config->queue_count ? "," : "");
    }
    (void)fprintf(v->out, ");\n");
}

/* NOLINTEND(misc-no-recursion) */

/* ---- JSON ---- */

/* Texts can hold any bytes by \x escapes; JSON cannot. */
static json_t *json_text(struct fw_arena *arena, const char *text)
{
    json_t *json = json_string(text);
    if (!json) {
        char *copy = fw_arena_alloc(arena, strlen(text) + 1, 1);
        for (size_t i = 0; copy && text[i]; i++) {
            copy[i] = '?';
            if ((unsigned char)text[i] < 0x80) {
                copy[i] = text[i];
            }
        }
        json = json_string(copy ? copy : "");
    }
    return json;
}

static json_t *json_option_value(const struct view *v, const struct fw_handler_option *o, size_t i)
{
    const char *text = o->values[i];
    if (o->is_secret || o->is_string || o->is_list) { /* a list is one of texts, however written */
        return json_text(v->arena, o->is_secret ? masked(text) : text);
    }
    if (strcmp(text, "true") == 0 || strcmp(text, "false") == 0) {
        return json_boolean(*text == 't');
    }
    json_t *number = json_loads(text, JSON_DECODE_ANY, NULL);
    return number ? number : json_text(v->arena, text); /* hexadecimal, or +5 */
}

static void set_origin(const struct view *v, const char *path, const char *origin)
{
    (void)json_object_set_new(
        v->json_origins, fw_arena_print(v->arena, "%s%s", v->prefix, path),
        json_text(v->arena, origin));
}

static json_t *json_handler(const struct view *v, const struct fw_queue_config *queue)
{
    json_t *handler = json_object();
    (void)json_object_set_new(handler, "plugin", json_text(v->arena, queue->handler_plugin));
    for (size_t i = 0; i < queue->handler_option_count; i++) {
        const struct fw_handler_option *o = &queue->handler_options[i];
        json_t *value = o->is_list ? json_array() : json_option_value(v, o, 0);
        for (size_t k = 0; o->is_list && k < o->count; k++) {
            (void)json_array_append_new(value, json_option_value(v, o, k));
        }
        (void)json_object_set_new(handler, o->name, value);
        set_origin(
            v, fw_arena_print(v->arena, "handler.%s", o->name),
            fw_arena_print(v->arena, "%s:%u", o->file, o->line));
    }
    return handler;
}

static json_t *json_value(const struct view *v, const struct fw_property *row)
{
    if (row->kind == FW_KIND_URLS) {
        json_t *list = json_array();
        for (size_t i = 0; i < v->config->broker_count; i++) {
            (void)json_array_append_new(list, json_text(v->arena, v->config->brokers[i]));
        }
        return list;
    }
    const char *text = fw_value_text(v->arena, row, v->object);
    if (is_bare(row->kind)) {
        return json_loads(text, JSON_DECODE_ANY, NULL);
    }
    return json_text(v->arena, row->flags & FW_PROPERTY_SECRET ? masked(text) : text);
}

/* NOLINTBEGIN(misc-no-recursion): queues hold no queues */
static json_t *json_queues(const struct view *root);

static void fill_json(const struct view *v)
{
    for (size_t i = 0; i < v->table->count; i++) {
        const struct fw_property *row = &v->table->rows[i];
        size_t group = group_len(row);
        const char *name = row->path + (group ? group + 1 : 0);
        json_t *object = v->json;
        if (group) {
            const char *key = fw_arena_copy(v->arena, row->path, group);
            if (!json_object_get(v->json, key)) {
                (void)json_object_set_new(v->json, key, json_object());
            }
            object = json_object_get(v->json, key);
        }
        if (row->kind == FW_KIND_GROUPS) {
            (void)json_object_set_new(object, name, json_queues(v));
        } else if (row->kind == FW_KIND_HANDLER) {
            (void)json_object_set_new(object, name, json_handler(v, v->object));
        } else if (row->kind != FW_KIND_FILES) {
            (void)json_object_set_new(object, name, json_value(v, row));
            set_origin(v, row->path, origin_text(v->arena, &v->origins[i]));
        }
    }
}

static json_t *json_queues(const struct view *root)
{
    json_t *list = json_array();
    for (size_t i = 0; i < root->config->queue_count; i++) {
        struct view queue = queue_view(root, i);
        queue.json = json_object();
        queue.prefix = fw_arena_print(root->arena, "queues[%zu].", i);
        fill_json(&queue);
        (void)json_array_append_new(list, queue.json);
    }
    return list;
}

/* NOLINTEND(misc-no-recursion) */

static bool print_json(struct view *root)
{
    root->json = json_object();
    root->json_origins = json_object();
    fill_json(root);
    json_t *all = json_pack(
        "{s:o, s:o, s:o}", "file", json_text(root->arena, root->config->file), "config", root->json,
        "origins", root->json_origins);
    bool ok = all && json_dumpf(all, root->out, JSON_INDENT(2)) == 0;
    (void)fputc('\n', root->out);
    json_decref(all);
    return ok;
}

bool fw_config_explain(FILE *out, const struct fw_config *config, bool json)
{
    const struct fw_config_memory *memory = config->arena;
    struct fw_arena arena = {NULL, false};
    struct view root = {
        .arena = &arena,
        .config = config,
        .table = &fw_root_table,
        .object = config,
        .origins = memory->root_origins,
        .out = out,
        .prefix = ""};
    bool ok = true;
    if (json) {
        ok = print_json(&root);
    } else {
        (void)fprintf(out, "# %s as understood, and where each value comes from\n", config->file);
        print_object(&root);
    }
    ok = ok && !arena.failed;
    fw_arena_free(&arena);
    return ok;
}

void fw_config_mask(struct fw_config *config, size_t queue, const char *option)
{
    const struct fw_queue_config *q = &config->queues[queue];
    struct fw_handler_option *options = NULL;
    memcpy(
        &options, &q->handler_options, sizeof options); /* the config's own, and not yet shared */
    for (size_t i = 0; i < q->handler_option_count; i++) {
        if (strcmp(options[i].name, option) == 0) {
            options[i].is_secret = true;
        }
    }
}

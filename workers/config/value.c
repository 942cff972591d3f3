/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "loader.h"
#include "units.h"
#include "wire/codec.h"

#include <inttypes.h>
#include <stdio.h>

_Static_assert(sizeof(enum fw_isolation) == sizeof(unsigned), "choices are stored as unsigned");
_Static_assert(sizeof(enum fw_log_level) == sizeof(unsigned), "choices are stored as unsigned");
_Static_assert(sizeof(enum fw_dead_letter) == sizeof(unsigned), "choices are stored as unsigned");

static void *field(const struct fw_target *target)
{
    return (unsigned char *)target->object + target->row->offset;
}

static void came_from(const struct fw_target *target)
{
    *target->origin = target->from;
}

/* A value for a message: never a secret one. */
static const char *shown(const struct fw_target *target, const char *text)
{
    return target->row->flags & FW_PROPERTY_SECRET ? "***" : text;
}

const char *fw_value_range(struct fw_arena *arena, const struct fw_property *row)
{
    char min[FW_UNIT_TEXT_SIZE];
    char max[FW_UNIT_TEXT_SIZE];
    switch (row->kind) {
    case FW_KIND_DURATION:
        fw_format_duration(row->min, min);
        fw_format_duration(row->max, max);
        break;
    case FW_KIND_SIZE:
        fw_format_size(row->min, min);
        fw_format_size(row->max, max);
        break;
    case FW_KIND_COUNT:
    case FW_KIND_REAL:
        (void)snprintf(min, sizeof min, "%" PRId64, row->min);
        (void)snprintf(max, sizeof max, "%" PRId64, row->max);
        break;
    default:
        return "";
    }
    return fw_arena_print(arena, "%s to %s", min, max);
}

static const char *choice_list(struct fw_arena *arena, const struct fw_choice *choices)
{
    const char *list = "";
    for (const struct fw_choice *c = choices; c->name; c++) {
        list = fw_arena_print(
            arena, "%s%s\"%s\"", list,
            c == choices ? ""
            : c[1].name  ? ", "
                         : " or ",
            c->name);
    }
    return list;
}

const char *fw_value_expected(struct fw_arena *arena, const struct fw_property *row)
{
    switch (row->kind) {
    case FW_KIND_TEXT:
        return "text in quotes";
    case FW_KIND_COUNT:
        return "a whole number";
    case FW_KIND_DURATION:
        return "a duration such as \"30s\"";
    case FW_KIND_SIZE:
        return "a size such as \"64MiB\"";
    case FW_KIND_REAL:
        return "a number";
    case FW_KIND_CHOICE:
        return choice_list(arena, row->choices);
    case FW_KIND_LANE:
        return "\"none\", \"fairness_key\" or \"header:NAME\"";
    case FW_KIND_URLS:
    case FW_KIND_FILES:
        return "text in quotes, or a list of such";
    case FW_KIND_GROUPS:
        return "a list of groups: queues = ( { ... } );";
    case FW_KIND_HANDLER:
        return "a group: handler = { plugin = \"...\"; };";
    }
    return "";
}

static void out_of_range(
    struct fw_loader *loader,
    const struct fw_target *target,
    const char *written)
{
    fw_report_error(
        loader->report, target->where, target->key, "%s is out of range: %s", written,
        fw_value_range(&loader->report->arena, target->row));
}

static const char *number_text(struct fw_arena *arena, const struct fw_property *row, int64_t value)
{
    char text[FW_UNIT_TEXT_SIZE];
    if (row->kind == FW_KIND_DURATION) {
        fw_format_duration(value, text);
    } else if (row->kind == FW_KIND_SIZE) {
        fw_format_size(value, text);
    } else {
        (void)snprintf(text, sizeof text, "%" PRId64, value);
    }
    return fw_arena_copy(arena, text, strlen(text));
}

void fw_value_set_integer(struct fw_loader *loader, const struct fw_target *target, int64_t value)
{
    const struct fw_property *row = target->row;
    if (row->kind == FW_KIND_REAL) {
        fw_value_set_real(loader, target, (double)value);
        return;
    }
    if (value < row->min || value > row->max) {
        out_of_range(loader, target, number_text(&loader->report->arena, row, value));
        return;
    }
    uint32_t count = (uint32_t)value;
    uint64_t size = (uint64_t)value;
    if (row->kind == FW_KIND_COUNT) {
        memcpy(field(target), &count, sizeof count);
    } else if (row->kind == FW_KIND_SIZE) {
        memcpy(field(target), &size, sizeof size);
    } else {
        memcpy(field(target), &value, sizeof value);
    }
    came_from(target);
}

void fw_value_set_real(struct fw_loader *loader, const struct fw_target *target, double value)
{
    if (!(value >= (double)target->row->min && value <= (double)target->row->max)) {
        out_of_range(loader, target, fw_arena_print(&loader->report->arena, "%g", value));
        return;
    }
    memcpy(field(target), &value, sizeof value);
    came_from(target);
}

static void set_choice(struct fw_loader *loader, const struct fw_target *target, const char *text)
{
    const char *guess = NULL;
    for (const struct fw_choice *c = target->row->choices; c->name; c++) {
        if (strcmp(c->name, text) == 0) {
            memcpy(field(target), &c->value, sizeof c->value);
            came_from(target);
            return;
        }
        guess = fw_is_near(text, c->name) ? c->name : guess;
    }
    fw_report_error(
        loader->report, target->where, target->key, "\"%.60s\" is not one of %s%s%s%s", text,
        choice_list(&loader->report->arena, target->row->choices), guess ? "; did you mean \"" : "",
        guess ? guess : "", guess ? "\"?" : "");
}

static void set_lane(struct fw_loader *loader, const struct fw_target *target, const char *text)
{
    enum fw_lane_kind kind = FW_LANE_NONE;
    const char *header = "";
    if (strcmp(text, "fairness_key") == 0) {
        kind = FW_LANE_FAIRNESS_KEY;
    } else if (strncmp(text, "header:", 7) == 0 && text[7]) {
        kind = FW_LANE_HEADER;
        header = fw_arena_copy(loader->arena, text + 7, strlen(text + 7));
    } else if (strcmp(text, "none") != 0) {
        fw_report_error(
            loader->report, target->where, target->key, "\"%.60s\" is not %s", text,
            fw_value_expected(&loader->report->arena, target->row));
        return;
    }
    memcpy(field(target), &kind, sizeof kind);
    memcpy((unsigned char *)target->object + target->row->count_offset, &header, sizeof header);
    came_from(target);
}

void fw_value_set_urls(
    struct fw_loader *loader,
    const struct fw_target *target,
    const char *const *urls,
    size_t count)
{
    const char **copies = fw_arena_alloc(loader->arena, count ? count : 1, sizeof *copies);
    for (size_t i = 0; copies && i < count; i++) {
        copies[i] = fw_arena_copy(loader->arena, urls[i], strlen(urls[i]));
    }
    if (!copies) {
        return;
    }
    memcpy(field(target), &copies, sizeof copies);
    memcpy((unsigned char *)target->object + target->row->count_offset, &count, sizeof count);
    came_from(target);
}

static void set_string(struct fw_loader *loader, const struct fw_target *target, const char *text)
{
    size_t len = strlen(text);
    if ((target->row->flags & FW_PROPERTY_NOT_EMPTY) && len == 0) {
        fw_report_error(loader->report, target->where, target->key, "must not be empty");
        return;
    }
    if ((target->row->flags & FW_PROPERTY_NAME) && len > UINT16_MAX) {
        fw_report_error(
            loader->report, target->where, target->key,
            "a name of %zu bytes: the broker takes up to 65535", len);
        return;
    }
    if ((target->row->flags & FW_PROPERTY_NAME) && !fila_utf8_valid(text, len)) {
        fw_report_error(loader->report, target->where, target->key, "is not UTF-8");
        return;
    }
    const char *copy = fw_arena_copy(loader->arena, text, len);
    memcpy(field(target), &copy, sizeof copy);
    came_from(target);
}

void fw_value_set_text(struct fw_loader *loader, const struct fw_target *target, const char *text)
{
    char error[FW_UNIT_ERROR_SIZE];
    int64_t integer = 0;
    double real = 0;
    bool ok = false;
    switch (target->row->kind) {
    case FW_KIND_TEXT:
        set_string(loader, target, text);
        return;
    case FW_KIND_URLS:
        fw_value_set_urls(loader, target, &text, 1);
        return;
    case FW_KIND_CHOICE:
        set_choice(loader, target, text);
        return;
    case FW_KIND_LANE:
        set_lane(loader, target, text);
        return;
    case FW_KIND_REAL:
        if (fw_parse_real(text, &real, error)) {
            fw_value_set_real(loader, target, real);
            return;
        }
        break;
    case FW_KIND_DURATION:
        ok = fw_parse_duration(text, &integer, error);
        break;
    case FW_KIND_SIZE:
        ok = fw_parse_size(text, &integer, error);
        break;
    case FW_KIND_COUNT:
        ok = fw_parse_integer(text, &integer, error);
        break;
    default:
        return;
    }
    if (ok) {
        fw_value_set_integer(loader, target, integer);
        return;
    }
    fw_report_error(loader->report, target->where, target->key, "%s", shown(target, error));
}

void fw_value_set_default(struct fw_loader *loader, const struct fw_property *row, void *object)
{
    struct fw_origin origin;
    const struct fw_target target = {
        .row = row, .object = object, .origin = &origin, .key = row->path, .where = {.name = ""}};
    const char *text = row->fallback;
    if (row->kind == FW_KIND_FILES || row->kind == FW_KIND_GROUPS || row->kind == FW_KIND_HANDLER) {
        return;
    }
    if (row->flags & (FW_PROPERTY_COMPUTED | FW_PROPERTY_REQUIRED)) {
        if (row->kind == FW_KIND_TEXT) {
            const char *none = "";
            memcpy(field(&target), &none, sizeof none);
        }
        return;
    }
    if (strchr(text, '$') && !fw_expand(loader, target.where, row->path, text, NULL, &text)) {
        return;
    }
    fw_value_set_text(loader, &target, text);
}

static const char *choice_name(const struct fw_choice *choices, unsigned value)
{
    for (const struct fw_choice *c = choices; c->name; c++) {
        if (c->value == value) {
            return c->name;
        }
    }
    return "";
}

static const char *lane_text(
    struct fw_arena *arena,
    const struct fw_property *row,
    const unsigned char *at,
    const void *object)
{
    enum fw_lane_kind lane = FW_LANE_NONE;
    const char *header = NULL;
    memcpy(&lane, at, sizeof lane);
    memcpy(&header, (const unsigned char *)object + row->count_offset, sizeof header);
    return lane == FW_LANE_NONE           ? "none"
           : lane == FW_LANE_FAIRNESS_KEY ? "fairness_key"
                                          : fw_arena_print(arena, "header:%s", header);
}

const char *fw_value_text(struct fw_arena *arena, const struct fw_property *row, const void *object)
{
    const unsigned char *at = (const unsigned char *)object + row->offset;
    char text[FW_UNIT_TEXT_SIZE];
    const char *string = NULL;
    uint32_t count = 0;
    int64_t wide = 0;
    double real = 0;
    switch (row->kind) {
    case FW_KIND_TEXT:
        memcpy(&string, at, sizeof string);
        return string;
    case FW_KIND_COUNT:
        memcpy(&count, at, sizeof count);
        return number_text(arena, row, count);
    case FW_KIND_DURATION:
    case FW_KIND_SIZE:
        memcpy(&wide, at, sizeof wide);
        return number_text(arena, row, wide);
    case FW_KIND_REAL:
        memcpy(&real, at, sizeof real);
        fw_format_real(real, text);
        return fw_arena_copy(arena, text, strlen(text));
    case FW_KIND_CHOICE:
        memcpy(&count, at, sizeof count);
        return choice_name(row->choices, count);
    case FW_KIND_LANE:
        return lane_text(arena, row, at, object);
    default:
        return "";
    }
}

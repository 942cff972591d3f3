/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "plugin/options.h"

#include "base/clock.h"
#include "config/units.h"
#include "plugin/loader.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

const char *fw_option_type_name(uint32_t type)
{
    switch (type) {
    case FILA_OPTION_STRING:
        return "string";
    case FILA_OPTION_BOOL:
        return "bool";
    case FILA_OPTION_INT:
        return "int";
    case FILA_OPTION_FLOAT:
        return "float";
    case FILA_OPTION_DURATION:
        return "duration";
    case FILA_OPTION_SIZE:
        return "size";
    case FILA_OPTION_STRINGS:
        return "strings";
    default:
        return "unknown";
    }
}

/* ---- Ranges ---- */

static const char *bound_text(const fila_option *option, double bound, char text[FW_UNIT_TEXT_SIZE])
{
    switch (option->type) {
    case FILA_OPTION_DURATION:
        fw_format_duration((int64_t)bound * FILA_MS, text);
        break;
    case FILA_OPTION_SIZE:
        fw_format_size((int64_t)bound, text);
        break;
    default:
        fw_format_real(bound, text);
        break;
    }
    return text;
}

void fw_option_range(const fila_option *option, char *ret_text, size_t size)
{
    char min[FW_UNIT_TEXT_SIZE];
    char max[FW_UNIT_TEXT_SIZE];
    bool ranged = option->min != 0 || option->max != 0;
    bool number = option->type >= FILA_OPTION_INT && option->type <= FILA_OPTION_SIZE;
    *ret_text = '\0';
    if (ranged && number) {
        (void)snprintf(
            ret_text, size, "%s to %s", bound_text(option, option->min, min),
            bound_text(option, option->max, max));
    }
}

static bool in_range(
    const fila_option *option,
    double value,
    const char *text,
    struct fw_arena *arena,
    const char **ret_why)
{
    char range[2 * FW_UNIT_TEXT_SIZE + 8];
    fw_option_range(option, range, sizeof range);
    if (!*range || (value >= option->min && value <= option->max)) {
        return true;
    }
    *ret_why = fw_arena_print(arena, "%s is out of range; it takes %s", text, range);
    return false;
}

/* ---- Values ---- */

static bool parse_bool(const char *text, int64_t *ret_value)
{
    if (!strcmp(text, "true") || !strcmp(text, "false")) {
        *ret_value = *text == 't';
        return true;
    }
    return false;
}

static bool parse_number(
    const fila_option *option,
    const char *text,
    struct fw_arena *arena,
    fila_option_value *value,
    const char **ret_why)
{
    char why[FW_UNIT_ERROR_SIZE];
    bool parsed;
    switch (option->type) {
    case FILA_OPTION_INT:
        parsed = fw_parse_integer(text, &value->integer, why);
        break;
    case FILA_OPTION_FLOAT:
        parsed = fw_parse_real(text, &value->real, why);
        break;
    case FILA_OPTION_DURATION:
        parsed = fw_parse_duration(text, &value->integer, why);
        value->integer /= FILA_MS;
        break;
    default:
        parsed = fw_parse_size(text, &value->integer, why);
        break;
    }
    if (!parsed) {
        *ret_why = fw_arena_copy(arena, why, strlen(why));
        return false;
    }
    double number = option->type == FILA_OPTION_FLOAT ? value->real : (double)value->integer;
    return in_range(option, number, text, arena, ret_why);
}

static bool parse_strings(
    const struct fw_handler_option *given,
    struct fw_arena *arena,
    fila_option_value *value,
    const char **ret_why)
{
    const char **strings = fw_arena_alloc(arena, given->count + 1, sizeof *strings);
    if (!strings || given->count > UINT32_MAX) {
        *ret_why = "out of memory";
        return false;
    }
    for (size_t i = 0; i < given->count; i++) {
        strings[i] = fw_arena_copy(arena, given->values[i], strlen(given->values[i]));
    }
    value->strings = strings;
    value->count = (uint32_t)given->count;
    return true;
}

bool fw_option_parse(
    const fila_option *option,
    const struct fw_handler_option *given,
    struct fw_arena *arena,
    fila_option_value *ret_value,
    const char **ret_why)
{
    fila_option_value value = {.type = option->type};
    bool right = true;
    *ret_why = "";
    if (option->type == FILA_OPTION_STRINGS) {
        right = parse_strings(given, arena, &value, ret_why);
        if (right && !value.count && (option->flags & FILA_OPTION_REQUIRED)) {
            *ret_why = "the list is empty; it takes at least one string";
            right = false;
        }
    } else if (given->is_list || given->count != 1) {
        *ret_why = fw_arena_print(
            arena, "it is a list; it takes one %s", fw_option_type_name(option->type));
        right = false;
    } else if (option->type == FILA_OPTION_STRING) {
        value.string = fw_arena_copy(arena, given->values[0], strlen(given->values[0]));
        if (!given->is_string) {
            *ret_why = fw_arena_print(
                arena, "%s is no string; write it in quotes: \"%s\"", value.string, value.string);
            right = false;
        }
    } else if (option->type == FILA_OPTION_BOOL) {
        right = parse_bool(given->values[0], &value.integer);
        if (!right) {
            *ret_why = fw_arena_print(arena, "\"%s\" is neither true nor false", given->values[0]);
        }
    } else {
        right = parse_number(option, given->values[0], arena, &value, ret_why);
    }
    if (right) {
        *ret_value = value;
    }
    return right;
}

/* A default of a list is "" (an empty one) or a single string. */
static struct fw_handler_option written_default(const fila_option *option)
{
    bool empty = option->type == FILA_OPTION_STRINGS && !*option->fallback;
    return (struct fw_handler_option){
        .name = option->name,
        .values = &option->fallback,
        .count = empty ? 0 : 1,
        .is_string = true,
    };
}

fila_option_value fw_option_default(const fila_option *option, struct fw_arena *arena)
{
    fila_option_value value = {0};
    const char *why;
    if (option->fallback) {
        struct fw_handler_option given = written_default(option);
        (void)fw_option_parse(option, &given, arena, &value, &why);
    }
    return value;
}

/* ---- The table ---- */

static bool check_default(const fila_option *option, char *ret_text, size_t size)
{
    struct fw_arena arena = {0};
    struct fw_handler_option given = written_default(option);
    fila_option_value value;
    const char *why = "";
    bool right = fw_option_parse(option, &given, &arena, &value, &why);
    if (!right) {
        (void)snprintf(ret_text, size, "options: the default of %s: %s", option->name, why);
    }
    fw_arena_free(&arena);
    return right;
}

static bool name_is_sound(const char *name)
{
    return name && *name && strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_-") == strlen(name);
}

bool fw_option_check(const fila_plugin *table, uint32_t index, char *ret_text, size_t size)
{
    const fila_option *option = &table->options[index];
    if (!name_is_sound(option->name) || !strcmp(option->name, "plugin")) {
        (void)snprintf(
            ret_text, size,
            "options: the name of number %" PRIu32 " is not of a-z 0-9 _ -, or is \"plugin\"",
            index);
        return false;
    }
    for (uint32_t i = 0; i < index; i++) {
        if (!strcmp(table->options[i].name, option->name)) {
            (void)snprintf(ret_text, size, "options: %s is there twice", option->name);
            return false;
        }
    }
    if (option->type < FILA_OPTION_STRING || option->type > FILA_OPTION_STRINGS) {
        (void)snprintf(
            ret_text, size, "options: the type of %s: it is %" PRIu32 ", known are %u to %u",
            option->name, option->type, FILA_OPTION_STRING, FILA_OPTION_STRINGS);
        return false;
    }
    if (option->min > option->max) {
        (void)snprintf(ret_text, size, "options: %s: its min is over its max", option->name);
        return false;
    }
    return !option->fallback || check_default(option, ret_text, size);
}

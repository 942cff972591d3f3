/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "source.h"

#include <stdio.h>
#include <stdlib.h>

/* What is left to say when there is no memory to say it with. */
static struct fw_diagnostic no_memory_item = {true, "", 0, "", "out of memory", 0, ""};

static const char *line_text(struct fw_report *report, const char *path, unsigned line)
{
    const struct fw_source *source = report->sources;
    while (source && strcmp(source->path, path) != 0) {
        source = source->next;
    }
    const char *at = source ? source->text : NULL;
    for (unsigned i = 1; at && i < line; i++) {
        at = strchr(at, '\n');
        at = at ? at + 1 : NULL;
    }
    return at && line ? fw_arena_copy(&report->arena, at, strcspn(at, "\r\n")) : "";
}

static void add(
    struct fw_report *report,
    bool is_error,
    struct fw_where where,
    const char *key,
    const char *text)
{
    report->errors += is_error;
    if (report->count >= FW_REPORT_LIMIT) {
        report->left_out++;
        return;
    }
    struct fw_diagnostic *items =
        fw_arena_grow(&report->arena, report->items, report->count, sizeof *items);
    if (!items) {
        return;
    }
    report->items = items;
    items[report->count++] = (struct fw_diagnostic){
        .is_error = is_error,
        .file = fw_arena_copy(&report->arena, where.name, strlen(where.name)),
        .line = where.at.line,
        .key = fw_arena_copy(&report->arena, key, strlen(key)),
        .text = text,
        .column = where.at.column,
        .source = line_text(report, where.name, where.at.line),
    };
}

void fw_report_error(
    struct fw_report *report,
    struct fw_where where,
    const char *key,
    const char *format,
    ...)
{
    va_list args;
    va_start(args, format);
    add(report, true, where, key, fw_arena_vprint(&report->arena, format, args));
    va_end(args);
}

void fw_report_warning(
    struct fw_report *report,
    struct fw_where where,
    const char *key,
    const char *format,
    ...)
{
    va_list args;
    va_start(args, format);
    add(report, false, where, key, fw_arena_vprint(&report->arena, format, args));
    va_end(args);
}

/* Same file: by place, what has none last. Different files: as they came. */
static bool goes_before(const struct fw_diagnostic *a, const struct fw_diagnostic *b)
{
    unsigned x = a->line ? a->line : ~0u;
    unsigned y = b->line ? b->line : ~0u;
    return strcmp(a->file, b->file) == 0 && (x < y || (x == y && a->column < b->column));
}

static void sort(struct fw_diagnostic *items, size_t count)
{
    for (size_t i = 1; i < count; i++) {
        struct fw_diagnostic item = items[i];
        size_t at = i;
        for (; at > 0 && goes_before(&item, &items[at - 1]); at--) {
            items[at] = items[at - 1];
        }
        items[at] = item;
    }
}

void fw_report_finish(struct fw_report *report, struct fw_diagnostics *ret_diagnostics)
{
    struct fw_arena *arena = malloc(sizeof *arena);
    memset(ret_diagnostics, 0, sizeof *ret_diagnostics);
    if (!arena || report->arena.failed) {
        free(arena);
        fw_arena_free(&report->arena);
        ret_diagnostics->items = &no_memory_item;
        ret_diagnostics->count = 1;
        ret_diagnostics->errors = 1;
        return;
    }
    sort(report->items, report->count);
    *arena = report->arena;
    ret_diagnostics->items = report->items;
    ret_diagnostics->count = report->count;
    ret_diagnostics->errors = report->errors;
    ret_diagnostics->left_out = report->left_out;
    ret_diagnostics->arena = arena;
}

void fw_diagnostics_free(struct fw_diagnostics *diagnostics)
{
    if (diagnostics->arena) {
        fw_arena_free(diagnostics->arena);
        free(diagnostics->arena);
    }
    memset(diagnostics, 0, sizeof *diagnostics);
}

/* A mark under the column: tabs stay tabs, and a character of several bytes is one place. */
static void print_caret(FILE *out, const char *source, unsigned column)
{
    (void)fputs("    ", out);
    for (unsigned i = 0; i + 1 < column && source[i]; i++) {
        if (((unsigned char)source[i] & 0xc0) != 0x80) {
            (void)fputc(source[i] == '\t' ? '\t' : ' ', out);
        }
    }
    (void)fputs("^\n", out);
}

/* Other people's bytes on a terminal: no control characters. */
static void print_safe(FILE *out, const char *text)
{
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        (void)fputc((c < 0x20 && c != '\t') || c == 0x7f ? '?' : c, out);
    }
}

void fw_diagnostic_print(FILE *out, const struct fw_diagnostic *d)
{
    if (*d->file) {
        print_safe(out, d->file);
        if (d->line) {
            (void)fprintf(out, ":%u", d->line);
        }
        (void)fputs(": ", out);
    }
    (void)fputs(d->is_error ? "error: " : "warning: ", out);
    if (*d->key) {
        print_safe(out, d->key);
        (void)fputs(": ", out);
    }
    print_safe(out, d->text);
    (void)fputc('\n', out);
    if (*d->source && d->column && strlen(d->source) <= 200) {
        (void)fputs("    ", out);
        print_safe(out, d->source);
        (void)fputc('\n', out);
        print_caret(out, d->source, d->column);
    }
}

/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "metrics_internal.h"

#include <stdlib.h>

#define PREFIX "fila_worker_"

enum {
    LINES_OF_A_QUEUE = 140 /* a little more than it has without troubles of its own */
};

/* ---- Lines ---- */

/* Room for a line with so much text beside its name, labels and number; NULL without memory. */
static char *line_begin(struct fw_page *page, fila_view labels, size_t more)
{
    char *at = fw_writer_room(&page->out, page->name.len + labels.len + FW_NUMBER_SIZE + more + 16);
    return at ? fw_put(at, page->name.data, page->name.len) : NULL;
}

static char *labels_put(char *at, fila_view labels)
{
    if (labels.len) {
        *at++ = '{';
        at = fw_put(at, labels.data, labels.len);
        *at++ = '}';
    }
    *at++ = ' ';
    return at;
}

static void line_end(struct fw_page *page, char *at)
{
    *at++ = '\n';
    page->out.len = (size_t)(at - page->out.data);
}

void fw_sample(struct fw_page *page, fila_view labels, uint64_t number)
{
    char *at = line_begin(page, labels, 0);
    if (at) {
        line_end(page, fw_put_unsigned(labels_put(at, labels), number));
    }
}

void fw_sample_seconds(struct fw_page *page, fila_view labels, int64_t ns)
{
    char *at = line_begin(page, labels, 0);
    if (at) {
        line_end(page, fw_put_seconds(labels_put(at, labels), ns));
    }
}

/* The page's own words need no escapes, texts of others may. */
static char *label_put(char *at, const char *key, const char *value)
{
    at = fw_put(at, key, strlen(key));
    at = fw_put(at, "=\"", 2);
    for (const char *p = value; *p; p++) {
        char c = *p;
        if (c == '\\' || c == '"' || c == '\n') {
            *at++ = '\\';
            c = (char)(c == '\n' ? 'n' : c);
        }
        *at++ = c;
    }
    *at++ = '"';
    return at;
}

static size_t label_size(const char *key, const char *value)
{
    return strlen(key) + 2 * strlen(value) + 4;
}

void fw_sample_with(
    struct fw_page *page,
    fila_view labels,
    const char *key,
    const char *value,
    uint64_t number)
{
    char *at = line_begin(page, labels, label_size(key, value));
    if (!at) {
        return;
    }
    *at++ = '{';
    if (labels.len) {
        at = fw_put(at, labels.data, labels.len);
        *at++ = ',';
    }
    at = fw_put(label_put(at, key, value), "} ", 2);
    line_end(page, fw_put_unsigned(at, number));
}

void fw_sample_with_two(
    struct fw_page *page,
    fila_view labels,
    const struct fw_label *first,
    const struct fw_label *second,
    uint64_t number)
{
    char *at = line_begin(
        page, labels,
        label_size(first->key, first->value) + label_size(second->key, second->value));
    if (!at) {
        return;
    }
    *at++ = '{';
    at = fw_put(at, labels.data, labels.len);
    *at++ = ',';
    at = label_put(at, first->key, first->value);
    *at++ = ',';
    at = fw_put(label_put(at, second->key, second->value), "} ", 2);
    line_end(page, fw_put_unsigned(at, number));
}

/* ---- Histograms ---- */

static void make_edges(struct fw_edge_texts *texts, const struct fw_histogram_edges *edges)
{
    texts->of = edges;
    for (uint32_t i = 0; i <= edges->count; i++) {
        char *at = fw_put(texts->text[i], ",le=\"", 5);
        at = i < edges->count ? fw_put_seconds(at, edges->ns[i]) : fw_put(at, "+Inf", 4);
        at = fw_put(at, "\"} ", 3);
        texts->len[i] = (size_t)(at - texts->text[i]);
    }
}

/* A line of the family's name with a suffix, up to its number. */
static char *suffixed(struct fw_page *page, fila_view labels, const char *suffix)
{
    char *at = line_begin(page, labels, 8);
    return at ? labels_put(fw_put(at, suffix, strlen(suffix)), labels) : NULL;
}

static void totals(struct fw_page *page, fila_view labels, int64_t ns, uint64_t count)
{
    char *at = suffixed(page, labels, "_sum");
    if (at) {
        line_end(page, fw_put_seconds(at, ns));
    }
    at = suffixed(page, labels, "_count");
    if (at) {
        line_end(page, fw_put_unsigned(at, count));
    }
}

void fw_sample_histogram(
    struct fw_page *page,
    fila_view labels,
    const struct fw_histogram *histogram,
    const struct fw_histogram_edges *edges)
{
    struct fw_edge_texts *texts = &page->edges;
    uint64_t sum = 0;
    if (texts->of != edges) {
        make_edges(texts, edges);
    }
    for (uint32_t i = 0; i <= edges->count; i++) {
        char *at = line_begin(page, labels, sizeof texts->text[0] + 8);
        if (!at) {
            return;
        }
        sum += histogram->counts[i];
        at = fw_put(at, "_bucket{", 8);
        at = fw_put(at, labels.data, labels.len);
        at = fw_put(at, texts->text[i], texts->len[i]);
        line_end(page, fw_put_unsigned(at, sum));
    }
    totals(page, labels, histogram->sum, sum);
}

/* ---- The page ---- */

/* Texts that every line of a queue has, once. */
static void make_labels(struct fw_page *page)
{
    page->labels = fw_arena_alloc(&page->memory, page->queue_count, sizeof *page->labels);
    for (uint32_t i = 0; i < page->queue_count && !page->memory.failed; i++) {
        const struct fw_queue_status *q = page->queues[i];
        size_t size = label_size("queue", q->queue) + label_size("handler", q->handler) + 1;
        char *text = fw_arena_alloc(&page->memory, size, 1);
        if (text) {
            char *at = label_put(text, "queue", q->queue);
            *at++ = ',';
            at = label_put(at, "handler", q->handler);
            page->labels[i] = (fila_view){text, (size_t)(at - text)};
        }
    }
}

/* Room for all of it at once, so that it is not moved while it grows. */
static void make_room(struct fw_page *page)
{
    size_t bytes = 16384;
    for (uint32_t i = 0; i < page->queue_count && page->labels; i++) {
        bytes += LINES_OF_A_QUEUE * (page->labels[i].len + 64);
    }
    (void)fw_writer_room(&page->out, bytes);
}

static void head(struct fw_page *page, const struct fw_family *f)
{
    fw_write(&page->out, "# HELP ", 7);
    fw_write(&page->out, page->name.data, page->name.len);
    fw_write(&page->out, " ", 1);
    fw_write_text(&page->out, f->help);
    fw_write(&page->out, "\n# TYPE ", 8);
    fw_write(&page->out, page->name.data, page->name.len);
    fw_write(&page->out, " ", 1);
    fw_write_text(&page->out, f->type);
    fw_write(&page->out, "\n", 1);
}

static void family(struct fw_page *page, const struct fw_family *f)
{
    char full[128];
    bool usual = strncmp(f->name, "process_", 8) == 0;
    size_t prefix = usual ? 0 : sizeof PREFIX - 1;
    size_t len = strlen(f->name);
    memcpy(full, PREFIX, prefix);
    memcpy(full + prefix, f->name, len);
    page->name = (fila_view){full, prefix + len};
    head(page, f);
    if (f->of == FW_OF_WORKER) {
        f->write(page, NULL, (fila_view){NULL, 0});
    }
    for (uint32_t i = 0; f->of != FW_OF_WORKER && i < page->queue_count; i++) {
        if (f->of == FW_OF_QUEUE || !page->queues[i]->gone) {
            f->write(page, page->queues[i], page->labels[i]);
        }
    }
    page->name = (fila_view){NULL, 0};
}

char *fw_metrics_page(
    const struct fw_snapshot *snapshot,
    const struct fw_process_figures *process,
    size_t *ret_len)
{
    struct fw_page page = {.snapshot = snapshot, .process = process};
    page.queues = fw_snapshot_merged(snapshot, &page.memory, &page.queue_count);
    make_labels(&page);
    make_room(&page);
    page.out.failed = page.out.failed || page.memory.failed;
    for (size_t i = 0; i < fw_family_count && !page.out.failed; i++) {
        family(&page, &fw_families[i]);
    }
    fw_arena_free(&page.memory);
    return fw_writer_take(&page.out, ret_len);
}

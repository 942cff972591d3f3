/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "metrics_internal.h"

#include <stdlib.h>

#define PREFIX "fila_worker_"

void fw_write_label(struct fw_writer *out, const char *key, const char *value)
{
    fw_write_text(out, key);
    fw_write(out, "=\"", 2);
    for (const char *p = value; *p;) {
        size_t plain = strcspn(p, "\\\"\n");
        fw_write(out, p, plain);
        p += plain;
        if (*p) {
            fw_write(out, *p == '\n' ? "\\n" : *p == '"' ? "\\\"" : "\\\\", 2);
            p++;
        }
    }
    fw_write(out, "\"", 1);
}

static void name(struct fw_page *page, const char *suffix)
{
    fw_write_text(&page->out, page->name);
    fw_write_text(&page->out, suffix);
}

static void labels_end(struct fw_page *page, const char *labels)
{
    if (*labels) {
        fw_write(&page->out, "{", 1);
        fw_write_text(&page->out, labels);
        fw_write(&page->out, "} ", 2);
    } else {
        fw_write(&page->out, " ", 1);
    }
}

void fw_sample(struct fw_page *page, const char *labels, uint64_t number)
{
    name(page, "");
    labels_end(page, labels);
    fw_write_unsigned(&page->out, number);
    fw_write(&page->out, "\n", 1);
}

void fw_sample_seconds(struct fw_page *page, const char *labels, int64_t ns)
{
    name(page, "");
    labels_end(page, labels);
    fw_write_seconds(&page->out, ns);
    fw_write(&page->out, "\n", 1);
}

void fw_sample_with(
    struct fw_page *page,
    const char *labels,
    const char *key,
    const char *value,
    uint64_t number)
{
    name(page, "");
    fw_write(&page->out, "{", 1);
    if (*labels) {
        fw_write_text(&page->out, labels);
        fw_write(&page->out, ",", 1);
    }
    fw_write_label(&page->out, key, value);
    fw_write(&page->out, "} ", 2);
    fw_write_unsigned(&page->out, number);
    fw_write(&page->out, "\n", 1);
}

static void bucket(struct fw_page *page, const char *labels, const int64_t *edge, uint64_t number)
{
    name(page, "_bucket{");
    fw_write_text(&page->out, labels);
    fw_write(&page->out, ",le=\"", 5);
    if (edge) {
        fw_write_seconds(&page->out, *edge);
    } else {
        fw_write(&page->out, "+Inf", 4);
    }
    fw_write(&page->out, "\"} ", 3);
    fw_write_unsigned(&page->out, number);
    fw_write(&page->out, "\n", 1);
}

void fw_sample_histogram(
    struct fw_page *page,
    const char *labels,
    const struct fw_histogram *histogram,
    const struct fw_histogram_edges *edges)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < edges->count; i++) {
        sum += histogram->counts[i];
        bucket(page, labels, &edges->ns[i], sum);
    }
    sum += histogram->counts[edges->count];
    bucket(page, labels, NULL, sum);
    name(page, "_sum");
    labels_end(page, labels);
    fw_write_seconds(&page->out, histogram->sum);
    fw_write(&page->out, "\n", 1);
    name(page, "_count");
    labels_end(page, labels);
    fw_write_unsigned(&page->out, sum);
    fw_write(&page->out, "\n", 1);
}

/* Texts that every line of a queue has, once. */
static void make_labels(struct fw_page *page)
{
    page->labels = fw_arena_alloc(&page->memory, page->queue_count, sizeof(char *));
    for (uint32_t i = 0; i < page->queue_count && !page->memory.failed; i++) {
        struct fw_writer out = {0};
        fw_write_label(&out, "queue", page->queues[i].queue);
        fw_write(&out, ",", 1);
        fw_write_label(&out, "handler", page->queues[i].handler);
        page->memory.failed = page->memory.failed || out.failed;
        if (!out.failed) {
            page->labels[i] = fw_arena_copy(&page->memory, out.data, out.len);
        }
        fw_writer_fini(&out);
    }
}

static void family(struct fw_page *page, const struct fw_family *f)
{
    char full[128];
    bool usual = strncmp(f->name, "process_", 8) == 0;
    size_t prefix = usual ? 0 : sizeof PREFIX - 1;
    memcpy(full, PREFIX, prefix);
    memcpy(full + prefix, f->name, strlen(f->name) + 1);
    page->name = full;
    fw_write_text(&page->out, "# HELP ");
    fw_write_text(&page->out, full);
    fw_write(&page->out, " ", 1);
    fw_write_text(&page->out, f->help);
    fw_write_text(&page->out, "\n# TYPE ");
    fw_write_text(&page->out, full);
    fw_write(&page->out, " ", 1);
    fw_write_text(&page->out, f->type);
    fw_write(&page->out, "\n", 1);
    if (f->of == FW_OF_WORKER) {
        f->write(page, NULL, "");
    }
    for (uint32_t i = 0; f->of != FW_OF_WORKER && i < page->queue_count; i++) {
        if (f->of == FW_OF_QUEUE || !page->queues[i].gone) {
            f->write(page, &page->queues[i], page->labels[i]);
        }
    }
    page->name = NULL;
}

char *fw_metrics_page(
    const struct fw_snapshot *snapshot,
    const struct fw_process_figures *process,
    size_t *ret_len)
{
    struct fw_page page = {.snapshot = snapshot, .process = process};
    page.queues = fw_snapshot_merged(snapshot, &page.memory, &page.queue_count);
    make_labels(&page);
    page.out.failed = page.memory.failed;
    for (size_t i = 0; i < fw_family_count && !page.out.failed; i++) {
        family(&page, &fw_families[i]);
    }
    fw_arena_free(&page.memory);
    return fw_writer_take(&page.out, ret_len);
}

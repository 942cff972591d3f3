/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "fold.h"

#include "base/clock.h"

#define WINDOW FILA_S

static uint64_t mix(uint64_t hash, const void *data, size_t len)
{
    const unsigned char *bytes = data;
    for (size_t i = 0; i < len; i++) {
        hash = (hash ^ bytes[i]) * UINT64_C(0x100000001b3); /* FNV-1a */
    }
    return hash;
}

static bool is_measure(const struct fw_field *field)
{
    size_t len = strlen(field->name);
    return field->kind == FW_FIELD_REAL || (len > 3 && strcmp(field->name + len - 3, "_ms") == 0);
}

static uint64_t key_of(const struct fw_log_line *line)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    hash = mix(hash, &line->event, sizeof line->event);
    hash = mix(hash, line->text.data, line->text.len);
    for (size_t i = 0; i < line->field_count; i++) {
        const struct fw_field *field = &line->fields[i];
        if (is_measure(field)) {
            continue;
        }
        hash = mix(hash, field->name, strlen(field->name) + 1);
        hash = mix(hash, &field->integer, sizeof field->integer);
        hash = mix(hash, &field->text.len, sizeof field->text.len);
        hash = mix(hash, field->text.data, field->text.len);
    }
    return hash;
}

static size_t keep(char *to, size_t size, fila_view from)
{
    size_t len = from.len < size ? from.len : size;
    if (len) {
        memcpy(to, from.data, len);
    }
    return len;
}

static void remember(
    struct fw_fold_entry *entry,
    int64_t now,
    uint64_t key,
    const struct fw_log_line *line)
{
    entry->key = key;
    entry->since = now;
    entry->repeats = 0;
    entry->event = line->event;
    entry->text_len = keep(entry->text, sizeof entry->text, line->text);
    entry->queue_len = 0;
    for (size_t i = 0; i < line->field_count; i++) {
        if (strcmp(line->fields[i].name, "queue") == 0) {
            entry->queue_len = keep(entry->queue, sizeof entry->queue, line->fields[i].text);
        }
    }
}

bool fw_fold_admit(
    struct fw_fold *fold,
    int64_t now,
    const struct fw_log_line *line,
    struct fw_fold_entry *ret_summary)
{
    uint64_t key = key_of(line);
    struct fw_fold_entry *entry = &fold->entries[(key ^ key >> 32) % FW_FOLD_SLOTS];
    ret_summary->repeats = 0;
    if (entry->since != 0 && entry->key == key && now - entry->since < WINDOW) {
        entry->repeats++;
        if (fold->due == 0 || entry->since + WINDOW < fold->due) {
            fold->due = entry->since + WINDOW;
        }
        return false;
    }
    if (entry->repeats > 0) {
        *ret_summary = *entry;
    }
    remember(entry, now, key, line);
    return true;
}

bool fw_fold_take(struct fw_fold *fold, int64_t now, struct fw_fold_entry *ret_summary)
{
    if (fold->due == 0 || now < fold->due) {
        return false;
    }
    int64_t next = 0;
    for (size_t i = 0; i < FW_FOLD_SLOTS; i++) {
        struct fw_fold_entry *entry = &fold->entries[i];
        if (entry->repeats == 0) {
            continue;
        }
        if (now >= entry->since && now - entry->since >= WINDOW) {
            *ret_summary = *entry;
            entry->repeats = 0;
            entry->since = 0;
            return true;
        }
        if (next == 0 || entry->since + WINDOW < next) {
            next = entry->since + WINDOW;
        }
    }
    fold->due = next;
    return false;
}

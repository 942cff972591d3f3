/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "ctl/tap.h"

#include "base/clock.h"

#include <jansson.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    ROOM = 64 /* lines that wait for the watcher */
};

struct fw_tap {
    char *queue;
    uint32_t per_second;
    bool payload;
    int64_t second; /* I/O thread: the second that `taken` counts in */
    uint32_t taken;

    struct {
        pthread_mutex_t lock;
        pthread_cond_t come;
        char *lines[ROOM];
        uint32_t first;
        uint32_t count;
        uint64_t skipped; /* since the last line that was written */
    } locked;
};

struct fw_tap *fw_tap_new(const struct fw_tap_options *options)
{
    struct fw_tap *tap = calloc(1, sizeof *tap);
    char *queue = strdup(options->queue);
    pthread_condattr_t attributes;
    if (!tap || !queue) {
        free(tap);
        free(queue);
        return NULL;
    }
    tap->queue = queue;
    tap->per_second = options->per_second;
    tap->payload = options->payload;
    (void)pthread_mutex_init(&tap->locked.lock, NULL);
    (void)pthread_condattr_init(&attributes);
    (void)pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&tap->locked.come, &attributes);
    (void)pthread_condattr_destroy(&attributes);
    return tap;
}

void fw_tap_free(struct fw_tap *tap)
{
    if (!tap) {
        return;
    }
    for (uint32_t i = 0; i < tap->locked.count; i++) {
        free(tap->locked.lines[(tap->locked.first + i) % ROOM]);
    }
    (void)pthread_cond_destroy(&tap->locked.come);
    (void)pthread_mutex_destroy(&tap->locked.lock);
    free(tap->queue);
    free(tap);
}

/* Bytes as text where they are UTF-8, else in hex. */
static void put_bytes(json_t *object, const char *key, fila_view bytes, size_t limit)
{
    size_t len = !bytes.data ? 0 : bytes.len < limit ? bytes.len : limit;
    json_t *text = json_stringn(bytes.data ? bytes.data : "", len);
    if (text) {
        (void)json_object_set_new(object, key, text);
        return;
    }
    char name[64];
    char *hex = malloc(2 * len + 1);
    for (size_t i = 0; hex && bytes.data && i < len; i++) {
        (void)snprintf(hex + 2 * i, 3, "%02x", (unsigned char)bytes.data[i]);
    }
    (void)snprintf(name, sizeof name, "%s_hex", key);
    (void)json_object_set_new(object, name, hex ? json_string(hex) : NULL);
    free(hex);
}

static void put_message(json_t *line, const fila_message *message)
{
    json_t *headers = json_object();
    fila_header header;
    size_t cursor = 0;
    while (fila_message_next_header(message, &cursor, &header)) {
        char key[256];
        (void)snprintf(key, sizeof key, "%.*s", (int)header.key.len, header.key.data);
        put_bytes(headers, key, header.value, FW_TAP_PAYLOAD);
    }
    (void)json_object_set_new(line, "headers", headers);
    put_bytes(line, "payload", fila_message_payload(message), FW_TAP_PAYLOAD);
}

static json_t *make_line(const struct fw_tap *tap, const struct fw_tapped *t)
{
    json_t *line = json_object();
    (void)json_object_set_new(line, "at_ms", json_integer(fila_wall_ms()));
    put_bytes(line, "queue", fila_view_of(t->queue), 1024);
    put_bytes(line, "id", fila_message_id(t->message), 256);
    put_bytes(line, "fairness_key", fila_message_fairness_key(t->message), 256);
    (void)json_object_set_new(line, "outcome", json_string(fw_outcome_name(t->outcome)));
    (void)json_object_set_new(line, "attempt", json_integer(t->attempt));
    (void)json_object_set_new(line, "duration_ms", json_real((double)t->ran_ns / FILA_MS));
    (void)json_object_set_new(
        line, "bytes", json_integer((json_int_t)fila_message_payload(t->message).len));
    if (t->cause != FW_CAUSE_NONE) {
        (void)json_object_set_new(line, "cause", json_string(fw_cause_name(t->cause)));
        put_bytes(line, "error", fila_view_of(t->reason ? t->reason : ""), 512);
    }
    if (tap->payload) {
        put_message(line, t->message);
    }
    return line;
}

static void skip(struct fw_tap *tap)
{
    (void)pthread_mutex_lock(&tap->locked.lock);
    tap->locked.skipped++;
    (void)pthread_mutex_unlock(&tap->locked.lock);
}

static void put(struct fw_tap *tap, json_t *line)
{
    (void)pthread_mutex_lock(&tap->locked.lock);
    if (tap->locked.count == ROOM) {
        tap->locked.skipped++;
    } else {
        (void)json_object_set_new(
            line, "skipped_before", json_integer((json_int_t)tap->locked.skipped));
        char *text = json_dumps(line, JSON_COMPACT);
        if (text) {
            tap->locked.lines[(tap->locked.first + tap->locked.count++) % ROOM] = text;
            tap->locked.skipped = 0;
            (void)pthread_cond_signal(&tap->locked.come);
        }
    }
    (void)pthread_mutex_unlock(&tap->locked.lock);
}

void fw_tap_offer(struct fw_tap *tap, int64_t now, const struct fw_tapped *tapped)
{
    if (tap->queue[0] && strcmp(tap->queue, tapped->queue) != 0) {
        return;
    }
    if (now / FILA_S != tap->second) {
        tap->second = now / FILA_S;
        tap->taken = 0;
    }
    if (tap->taken >= tap->per_second) {
        skip(tap);
        return;
    }
    tap->taken++;
    json_t *line = make_line(tap, tapped);
    put(tap, line);
    json_decref(line);
}

char *fw_tap_take(struct fw_tap *tap, int patience_ms)
{
    struct timespec until;
    (void)clock_gettime(CLOCK_MONOTONIC, &until);
    int64_t end = (int64_t)until.tv_sec * FILA_S + until.tv_nsec + patience_ms * FILA_MS;
    until = (struct timespec){.tv_sec = end / FILA_S, .tv_nsec = end % FILA_S};
    char *line = NULL;
    int error = 0;
    (void)pthread_mutex_lock(&tap->locked.lock);
    while (tap->locked.count == 0 && error == 0) {
        error = pthread_cond_timedwait(&tap->locked.come, &tap->locked.lock, &until);
    }
    if (tap->locked.count) {
        line = tap->locked.lines[tap->locked.first];
        tap->locked.first = (tap->locked.first + 1) % ROOM;
        tap->locked.count--;
    }
    (void)pthread_mutex_unlock(&tap->locked.lock);
    return line;
}

/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "outbox.h"

#include "wire/codec.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#define HEADERS_MAX 4096u
/* Of one message on the wire: 4 MiB, less what the encoding adds at most. */
#define MESSAGE_MAX ((size_t)4 * 1024 * 1024 - (size_t)16 * 1024)
#define ENCODING    16u /* of a header */

/* Where fila_publication of ABI 1.1, which had it first, ended: later fields are there only when
 * its size says so. */
#define PUBLICATION_SIZE_MIN (offsetof(fila_publication, payload_len) + sizeof(size_t))

static const char TRACEPARENT[] = "traceparent";
static const char TRACESTATE[] = "tracestate";

static bool is_text(const char *text, size_t len)
{
    return !len || (text && fila_utf8_valid(text, len));
}

static bool headers_are_sound(const fila_publication *p)
{
    if (p->header_count > HEADERS_MAX || (p->header_count && !p->headers)) {
        return false;
    }
    for (uint32_t i = 0; i < p->header_count; i++) {
        const fila_publication_header *h = &p->headers[i];
        if (!h->key_len || !is_text(h->key, h->key_len) || !is_text(h->value, h->value_len)) {
            return false;
        }
    }
    return true;
}

static bool is_sound(const fila_publication *p)
{
    return p && p->size >= PUBLICATION_SIZE_MIN && p->queue_len &&
           is_text(p->queue, p->queue_len) && (!p->payload_len || p->payload) &&
           headers_are_sound(p);
}

/* ---- Traces ---- */

struct trace {
    fila_header headers[2];
    size_t count;
};

static bool has_trace(const fila_publication *p)
{
    for (uint32_t i = 0; i < p->header_count; i++) {
        const fila_publication_header *h = &p->headers[i];
        if (h->key_len == sizeof TRACEPARENT - 1 && !memcmp(h->key, TRACEPARENT, h->key_len)) {
            return true;
        }
    }
    return false;
}

static struct trace trace_of(const fila_publication *p, const fila_message *about)
{
    struct trace trace = {.count = 0};
    fila_view parent;
    fila_view state;
    if (about && !has_trace(p) && fila_message_header(about, fila_view_of(TRACEPARENT), &parent)) {
        trace.headers[trace.count++] = (fila_header){fila_view_of(TRACEPARENT), parent};
        if (fila_message_header(about, fila_view_of(TRACESTATE), &state)) {
            trace.headers[trace.count++] = (fila_header){fila_view_of(TRACESTATE), state};
        }
    }
    return trace;
}

/* ---- Copies ---- */

static size_t header_bytes(const fila_publication *p, const struct trace *trace)
{
    size_t bytes = 0;
    for (uint32_t i = 0; i < p->header_count; i++) {
        bytes += p->headers[i].key_len + p->headers[i].value_len;
    }
    for (size_t i = 0; i < trace->count; i++) {
        bytes += trace->headers[i].key.len + trace->headers[i].value.len;
    }
    return bytes;
}

static fila_view copy(char **room, const char *text, size_t len)
{
    fila_view view = {*room, len};
    if (len) {
        memcpy(*room, text, len);
    }
    *room += len;
    return view;
}

static void fill(struct fw_outgoing *outgoing, const fila_publication *p, const struct trace *trace)
{
    fila_header *headers = (fila_header *)(outgoing + 1);
    size_t n = 0;
    char *room = (char *)(headers + p->header_count + trace->count);
    for (uint32_t i = 0; i < p->header_count; i++, n++) {
        headers[n].key = copy(&room, p->headers[i].key, p->headers[i].key_len);
        headers[n].value = copy(&room, p->headers[i].value, p->headers[i].value_len);
    }
    for (size_t i = 0; i < trace->count; i++, n++) {
        headers[n].key = copy(&room, trace->headers[i].key.data, trace->headers[i].key.len);
        headers[n].value = copy(&room, trace->headers[i].value.data, trace->headers[i].value.len);
    }
    outgoing->headers = headers;
    outgoing->header_count = n;
    outgoing->queue = copy(&room, p->queue, p->queue_len);
    outgoing->payload = copy(&room, (const char *)p->payload, p->payload_len);
}

int fw_outgoing_make(
    const fila_publication *publication,
    const fila_message *about,
    struct fw_outgoing **ret_outgoing)
{
    if (!is_sound(publication)) {
        return FILA_PUBLISH_INVALID;
    }
    if (publication->payload_len > MESSAGE_MAX) {
        return FILA_PUBLISH_TOO_LARGE;
    }
    struct trace trace = trace_of(publication, about);
    size_t count = publication->header_count + trace.count;
    size_t bytes = header_bytes(publication, &trace) + publication->queue_len +
                   publication->payload_len;
    if (bytes + count * ENCODING > MESSAGE_MAX) {
        return FILA_PUBLISH_TOO_LARGE;
    }
    struct fw_outgoing *outgoing = malloc(sizeof *outgoing + count * sizeof(fila_header) + bytes);
    if (!outgoing) {
        return FILA_PUBLISH_NO_MEMORY;
    }
    *outgoing = (struct fw_outgoing){.bytes = bytes};
    fill(outgoing, publication, &trace);
    *ret_outgoing = outgoing;
    return FILA_PUBLISH_TAKEN;
}

void fw_outgoing_free(struct fw_outgoing *list)
{
    while (list) {
        struct fw_outgoing *next = list->next;
        free(list);
        list = next;
    }
}

/* ---- The outbox: newest first ---- */

void fw_outbox_init(struct fw_outbox *outbox)
{
    (void)pthread_mutex_init(&outbox->mutex, NULL);
    atomic_init(&outbox->newest, NULL);
}

void fw_outbox_fini(struct fw_outbox *outbox)
{
    fw_outgoing_free(atomic_load(&outbox->newest));
    (void)pthread_mutex_destroy(&outbox->mutex);
}

/* Under the mutex. */
static bool push(struct fw_outbox *outbox, uint64_t generation, struct fw_outgoing *outgoing)
{
    struct fw_outgoing *newest = atomic_load(&outbox->newest);
    bool ours = newest && newest->generation == generation;
    outgoing->total_count = (ours ? newest->total_count : 0) + 1;
    outgoing->total_bytes = (ours ? newest->total_bytes : 0) + outgoing->bytes;
    if (outgoing->total_count > FILA_PUBLISH_MESSAGES_MAX ||
        outgoing->total_bytes > FILA_PUBLISH_BYTES_MAX) {
        return false;
    }
    outgoing->generation = generation;
    outgoing->next = newest;
    atomic_store(&outbox->newest, outgoing);
    return true;
}

bool fw_outbox_add(struct fw_outbox *outbox, uint64_t generation, struct fw_outgoing *outgoing)
{
    (void)pthread_mutex_lock(&outbox->mutex);
    bool added = push(outbox, generation, outgoing);
    (void)pthread_mutex_unlock(&outbox->mutex);
    return added;
}

static struct fw_outgoing *take_all(struct fw_outbox *outbox)
{
    if (!atomic_load_explicit(&outbox->newest, memory_order_relaxed)) {
        return NULL;
    }
    (void)pthread_mutex_lock(&outbox->mutex);
    struct fw_outgoing *newest = atomic_load(&outbox->newest);
    atomic_store(&outbox->newest, NULL);
    (void)pthread_mutex_unlock(&outbox->mutex);
    return newest;
}

struct fw_outgoing *fw_outbox_take(struct fw_outbox *outbox, uint64_t generation)
{
    struct fw_outgoing *oldest = NULL;
    struct fw_outgoing *newest = take_all(outbox);
    while (newest) {
        struct fw_outgoing *next = newest->next;
        newest->next = NULL;
        if (newest->generation == generation) {
            newest->next = oldest;
            oldest = newest;
        } else {
            fw_outgoing_free(newest);
        }
        newest = next;
    }
    return oldest;
}

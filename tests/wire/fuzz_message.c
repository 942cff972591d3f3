/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * fila_message_read on any bytes: no read outside them (they are an allocation of their own), and
 * what it makes of them is what protobuf-c makes of them wherever both accept. Bytes in which a
 * submessage comes twice are not compared: merging, protobuf-c 1.4 takes a number that is missing
 * in the later one for 0, and an empty text in it for none.
 */
#include "fila/v1/service.pb-c.h"
#include "wire/pb.h"

#include <stdio.h>
#include <stdlib.h>

#define CHECK(condition)                                                          \
    do {                                                                          \
        if (!(condition)) {                                                       \
            (void)fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
            abort();                                                              \
        }                                                                         \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* protobuf-c ends text at its first zero byte. */
static void same(fila_view ours, const char *theirs)
{
    size_t len = strlen(theirs);
    CHECK(len <= ours.len);
    CHECK(!len || !memcmp(ours.data, theirs, len));
    CHECK(len == ours.len || ours.data[len] == 0);
}

static void same_headers(const fila_message *ours, const Fila__V1__Message *theirs)
{
    fila_header header;
    size_t cursor = 0;
    for (size_t i = 0; i < theirs->n_headers; i++) {
        CHECK(fila_message_next_header(ours, &cursor, &header));
        same(header.key, theirs->headers[i]->key);
        same(header.value, theirs->headers[i]->value);
    }
    CHECK(!fila_message_next_header(ours, &cursor, &header));
}

static void same_metadata(const fila_message *ours, const Fila__V1__MessageMetadata *theirs)
{
    fila_view key;
    size_t cursor = 0;
    if (!theirs) {
        CHECK(!fila_message_queue(ours).len && !fila_message_fairness_key(ours).len);
        return;
    }
    same(fila_message_queue(ours), theirs->queue_id);
    same(fila_message_fairness_key(ours), theirs->fairness_key);
    CHECK(fila_message_weight(ours) == theirs->weight);
    CHECK(fila_message_attempt_count(ours) == theirs->attempt_count);
    for (size_t i = 0; i < theirs->n_throttle_keys; i++) {
        CHECK(fila_message_next_throttle_key(ours, &cursor, &key));
        same(key, theirs->throttle_keys[i]);
    }
    CHECK(!fila_message_next_throttle_key(ours, &cursor, &key));
}

static void same_message(const fila_message *ours, const Fila__V1__ConsumeResponse *theirs)
{
    CHECK(theirs->message);
    same(fila_message_id(ours), theirs->message->id);
    CHECK(fila_message_payload(ours).len == theirs->message->payload.len);
    CHECK(
        !theirs->message->payload.len ||
        !memcmp(
            fila_message_payload(ours).data, theirs->message->payload.data,
            theirs->message->payload.len));
    same_headers(ours, theirs->message);
    same_metadata(ours, theirs->message->metadata);
}

/* How often that field comes, and what it holds the last time. */
static unsigned count(fila_view bytes, uint32_t tag, fila_view *ret_last)
{
    struct pb_reader reader = pb_read_view(bytes);
    struct pb_field field;
    unsigned times = 0;
    while (reader.at < reader.end && !pb_next(&reader, &field)) {
        if (field.tag == tag) {
            times++;
            *ret_last = field.bytes;
        }
    }
    return times;
}

static bool merged(const uint8_t *data, size_t size)
{
    fila_view bytes = {(const char *)data, size};
    return count(bytes, PB_TAG(1, PB_BYTES), &bytes) > 1 ||
           count(bytes, PB_TAG(4, PB_BYTES), &bytes) > 1;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *bytes = malloc(size ? size : 1);
    fila_message *message = NULL;
    fila_error error = FILA_ERROR_INIT;
    memcpy(bytes, data, size);
    fila_status status = fila_message_read(bytes, size, free, bytes, &message, &error);
    CHECK(status == FILA_OK || status == FILA_PROTOCOL);
    CHECK(!status || strlen(error.text) > 10);
    Fila__V1__ConsumeResponse *theirs = fila__v1__consume_response__unpack(NULL, size, data);
    if (message && theirs && !merged(data, size)) {
        same_message(message, theirs);
    }
    if (theirs) {
        fila__v1__consume_response__free_unpacked(theirs, NULL);
    }
    if (message) {
        (void)fila_message_enqueued_ms(message);
        fila_message_free(message);
    } else {
        free(bytes);
    }
    return 0;
}

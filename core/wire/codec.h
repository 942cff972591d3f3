/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * Fila's protobuf messages (contract A1) to and from the public structs of fila/client.h, for both
 * sides: the gRPC client transport and the gRPC server. The hot ones (Enqueue, Ack, Nack,
 * ConsumeResponse) are written and walked by hand straight from the bytes; the rest go through
 * protobuf-c.
 *
 * Thread: any. Nothing here allocates on the hot path. Input is untrusted: every length is checked,
 * unknown fields are skipped, and text fields must be UTF-8 (a Fila server answers 13 otherwise;
 * protobuf-c does not check).
 */
#ifndef FILA_WIRE_CODEC_H
#define FILA_WIRE_CODEC_H

#include "fila/client.h"
#include "message.h"

/* "/fila.v1.FilaService/Enqueue", ...; never NULL for a valid call. */
const char *fila_call_path(fila_call call);

/* Memory that a decoded struct points into, besides the input bytes. Zero-initialize; free when
 * done with the struct. */
struct fila_scratch {
    void *chunks;
};

void fila_scratch_free(struct fila_scratch *scratch);

/* Client: bytes of a request (CONSUME included: as.queue.queue), then the bytes themselves into
 * `out` of that size. */
size_t fila_request_size(const fila_request *request);
void fila_request_write(const fila_request *request, uint8_t *out);

/* Server: views point into `bytes` or `scratch`. FILA_PROTOCOL when undecodable or not UTF-8;
 * FILA_NO_MEMORY. */
FILA_NODISCARD fila_status fila_request_read(
    fila_call call,
    const uint8_t *bytes,
    size_t len,
    struct fila_scratch *scratch,
    fila_request *ret_request,
    fila_error *reterr);

/* Server: the reply to a unary call. */
size_t fila_reply_size(const fila_reply *reply);
void fila_reply_write(const fila_reply *reply, uint8_t *out);

/* Client: as fila_request_read. */
FILA_NODISCARD fila_status fila_reply_read(
    fila_call call,
    const uint8_t *bytes,
    size_t len,
    struct fila_scratch *scratch,
    fila_reply *ret_reply,
    fila_error *reterr);

/* Server: a ConsumeResponse in two parts, so that a large payload needs no copy: the bytes before
 * the payload (the tag and length of the payload field included), then the payload itself. The
 * fields that protobuf numbers after it go before it, which every parser accepts. */
size_t fila_delivery_head_size(const struct fila_message_fields *fields);
void fila_delivery_head_write(const struct fila_message_fields *fields, uint8_t *out);

/* Client: a message out of the bytes of a ConsumeResponse, zero-copy: `release(owner)` is called
 * when the message is freed (not on failure). FILA_OK with *ret_message NULL: an empty frame, to be
 * skipped (contract A4.3). FILA_PROTOCOL. */
FILA_NODISCARD fila_status fila_message_read(
    const uint8_t *bytes,
    size_t len,
    void (*release)(void *owner),
    void *owner,
    fila_message **ret_message,
    fila_error *reterr);

/* Whether `len` bytes are well-formed UTF-8 (RFC 3629). */
bool fila_utf8_valid(const char *bytes, size_t len);

#endif

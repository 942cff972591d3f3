/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * A ConsumeResponse into a fila_message. One pass checks everything and notes where things are;
 * only when a submessage comes more than once, so that its parts must be merged, a second one fills
 * arrays.
 */
#include "base/error.h"
#include "message_impl.h"
#include "pb.h"

#include <stdlib.h>

struct pass {
    struct fila_message_fields fields;
    fila_view walk_headers;
    fila_view walk_throttles;
    unsigned bodies; /* how often the submessages came */
    unsigned metas;
    fila_header *headers; /* second pass: room for what the first one counted */
    fila_view *throttles;
};

/* The rest of `outer` from the field that was just read (and starts at `start`) on. */
static fila_view rest(fila_view outer, const uint8_t *start)
{
    fila_view view = {(const char *)start, outer.len - (size_t)((const char *)start - outer.data)};
    return view;
}

static pb_problem on_throttle(struct pass *pass, const struct pb_field *field, fila_view remaining)
{
    fila_view key;
    if (!pass->walk_throttles.data) {
        pass->walk_throttles = remaining;
    }
    pb_problem problem = pb_text(field, &key);
    if (pass->throttles) {
        pass->throttles[pass->fields.throttle_key_count] = key;
    }
    pass->fields.throttle_key_count++;
    return problem;
}

static pb_problem read_metadata(struct pass *pass, fila_view bytes)
{
    struct pb_reader reader = pb_read_view(bytes);
    struct pb_field field = {0};
    pb_problem problem = NULL;
    while (!problem && reader.at < reader.end) {
        const uint8_t *start = reader.at;
        if ((problem = pb_next(&reader, &field))) {
            break;
        }
        switch (field.tag) {
        case PB_TAG(1, PB_BYTES):
            problem = pb_text(&field, &pass->fields.fairness_key);
            break;
        case PB_TAG(2, PB_VARINT):
            pass->fields.weight = (uint32_t)field.number;
            break;
        case PB_TAG(3, PB_BYTES):
            problem = on_throttle(pass, &field, rest(bytes, start));
            break;
        case PB_TAG(4, PB_VARINT):
            pass->fields.attempt_count = (uint32_t)field.number;
            break;
        case PB_TAG(5, PB_BYTES):
            problem = pb_text(&field, &pass->fields.queue);
            break;
        default:
            problem = pb_other(&field, 5);
        }
    }
    return problem;
}

static pb_problem on_header(struct pass *pass, const struct pb_field *field, fila_view remaining)
{
    fila_header header;
    if (!pass->walk_headers.data) {
        pass->walk_headers = remaining;
    }
    pb_problem problem = pb_header(field->bytes, &header);
    if (pass->headers) {
        pass->headers[pass->fields.header_count] = header;
    }
    pass->fields.header_count++;
    return problem;
}

static pb_problem read_body(struct pass *pass, fila_view bytes)
{
    struct pb_reader reader = pb_read_view(bytes);
    struct pb_field field = {0};
    pb_problem problem = NULL;
    while (!problem && reader.at < reader.end) {
        const uint8_t *start = reader.at;
        if ((problem = pb_next(&reader, &field))) {
            break;
        }
        switch (field.tag) {
        case PB_TAG(1, PB_BYTES):
            problem = pb_text(&field, &pass->fields.id);
            break;
        case PB_TAG(2, PB_BYTES):
            problem = on_header(pass, &field, rest(bytes, start));
            break;
        case PB_TAG(3, PB_BYTES):
            pass->fields.payload = field.bytes;
            break;
        case PB_TAG(4, PB_BYTES):
            pass->metas++;
            problem = read_metadata(pass, field.bytes);
            break;
        case PB_TAG(5, PB_BYTES): /* timestamps: known servers send none, and nobody asks */
            break;
        default:
            problem = pb_other(&field, 5);
        }
    }
    return problem;
}

static pb_problem read_response(struct pass *pass, const uint8_t *bytes, size_t len)
{
    struct pb_reader reader = pb_read(bytes, len);
    struct pb_field field = {0};
    while (reader.at < reader.end) {
        pb_problem problem = pb_next(&reader, &field);
        if (!problem && field.tag == PB_TAG(1, PB_BYTES)) {
            pass->bodies++;
            problem = read_body(pass, field.bytes);
        } else if (!problem) {
            problem = pb_other(&field, 1);
        }
        if (problem) {
            return problem;
        }
    }
    return NULL;
}

/* The message's parts came in pieces: arrays behind it in the same allocation. */
static fila_message *merged(struct pass *pass, const uint8_t *bytes, size_t len)
{
    size_t headers = pass->fields.header_count;
    size_t throttles = pass->fields.throttle_key_count;
    size_t room = headers * sizeof(fila_header) + throttles * sizeof(fila_view);
    fila_message *message = malloc(sizeof *message + room);
    if (message) {
        struct pass second = {.headers = (fila_header *)(message + 1)};
        second.throttles = (fila_view *)(second.headers + headers);
        (void)read_response(&second, bytes, len); /* the same bytes were good just now */
        second.fields.headers = second.headers;
        second.fields.throttle_keys = second.throttles;
        *message = (fila_message){.fields = second.fields};
    }
    return message;
}

static fila_message *walked(const struct pass *pass)
{
    fila_message *message = malloc(sizeof *message);
    if (message) {
        *message = (fila_message){
            .fields = pass->fields,
            .walk_headers = pass->walk_headers,
            .walk_throttles = pass->walk_throttles,
        };
    }
    return message;
}

fila_status fila_message_read(
    const uint8_t *bytes,
    size_t len,
    void (*release)(void *owner),
    void *owner,
    fila_message **ret_message,
    fila_error *reterr)
{
    struct pass pass = {0};
    pb_problem problem = read_response(&pass, bytes, len);
    if (problem) {
        return fila_fail(reterr, FILA_PROTOCOL, "ConsumeResponse of %zu bytes: %s", len, problem);
    }
    if (!pass.fields.id.len) {
        *ret_message = NULL;
        return FILA_OK;
    }
    fila_message *message = pass.bodies > 1 || pass.metas > 1 ? merged(&pass, bytes, len)
                                                              : walked(&pass);
    if (!message) {
        return fila_fail(reterr, FILA_NO_MEMORY, "a message of %zu bytes", len);
    }
    message->release = release;
    message->owner = owner;
    message->pins = release &&
                    release != free; /* else the copy of exactly its bytes, or the caller's */
    *ret_message = message;
    return FILA_OK;
}

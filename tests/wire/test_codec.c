/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * Our codec against protobuf-c's own encoding, both ways, and what both must refuse.
 */
#include "base/error.h"
#include "fila/v1/service.pb-c.h"
#include "pairs.h"
#include "wire/codec.h"
#include "wire/copy.h"

#include <criterion/criterion.h>

#include <stdio.h>
#include <stdlib.h>

static struct pair pairs[PAIRS_MAX];

static uint8_t *write_request(const fila_request *request, size_t *ret_len)
{
    *ret_len = fila_request_size(request);
    uint8_t *bytes = malloc(*ret_len + 1);
    bytes[*ret_len] = 0xa5;
    fila_request_write(request, bytes);
    cr_assert(bytes[*ret_len] == 0xa5, "wrote past its size");
    return bytes;
}

static uint8_t *write_reply(const fila_reply *reply, size_t *ret_len)
{
    *ret_len = fila_reply_size(reply);
    uint8_t *bytes = malloc(*ret_len + 1);
    bytes[*ret_len] = 0xa5;
    fila_reply_write(reply, bytes);
    cr_assert(bytes[*ret_len] == 0xa5, "wrote past its size");
    return bytes;
}

static void expect_bytes(
    const char *what,
    const char *name,
    const struct pair *pair,
    uint8_t *bytes,
    size_t len)
{
    cr_expect(
        len == pair->len && !memcmp(bytes, pair->bytes, len),
        "%s %s: %zu bytes, protobuf-c has %zu", what, name, len, pair->len);
    free(bytes);
}

Test(codec, requests_both_ways)
{
    size_t count = make_request_pairs(pairs);
    unsigned calls = 0;
    for (size_t i = 0; i < count; i++) {
        struct fila_scratch scratch = {0};
        fila_request read;
        fila_error error;
        size_t len = 0;
        uint8_t *bytes = write_request(&pairs[i].request, &len);
        expect_bytes("wrote", pairs[i].name, &pairs[i], bytes, len);
        fila_status status = fila_request_read(
            pairs[i].request.call, pairs[i].bytes, pairs[i].len, &scratch, &read, &error);
        cr_assert(status == FILA_OK, "%s: %s", pairs[i].name, status ? error.text : "");
        bytes = write_request(&read, &len);
        expect_bytes("read", pairs[i].name, &pairs[i], bytes, len);
        calls |= 1u << read.call;
        fila_scratch_free(&scratch);
    }
    cr_expect(calls == (1u << FILA_CALL_COUNT) - 1, "a call has no pair: %x", calls);
    free_pairs(pairs, count);
}

Test(codec, replies_both_ways)
{
    size_t count = make_reply_pairs(pairs);
    unsigned calls = 1u << FILA_CALL_CONSUME;
    for (size_t i = 0; i < count; i++) {
        struct fila_scratch scratch = {0};
        fila_reply read;
        fila_error error;
        size_t len = 0;
        uint8_t *bytes = write_reply(&pairs[i].reply, &len);
        expect_bytes("wrote", pairs[i].name, &pairs[i], bytes, len);
        fila_status status = fila_reply_read(
            pairs[i].reply.call, pairs[i].bytes, pairs[i].len, &scratch, &read, &error);
        cr_assert(status == FILA_OK, "%s: %s", pairs[i].name, status ? error.text : "");
        bytes = write_reply(&read, &len);
        expect_bytes("read", pairs[i].name, &pairs[i], bytes, len);
        calls |= 1u << read.call;
        fila_scratch_free(&scratch);
    }
    cr_expect(calls == (1u << FILA_CALL_COUNT) - 1, "a call has no pair: %x", calls);
    free_pairs(pairs, count);
}

Test(codec, copies_outlive_the_original)
{
    size_t count = make_request_pairs(pairs);
    for (size_t i = 0; i < count; i++) {
        struct fila_scratch scratch = {0};
        fila_request read;
        fila_request copy;
        size_t len = 0;
        cr_assert(!fila_request_read(
            pairs[i].request.call, pairs[i].bytes, pairs[i].len, &scratch, &read, NULL));
        void *memory = malloc(fila_request_copy_size(&read) + 1);
        fila_request_copy_into(&read, memory, &copy);
        uint8_t *original = memcpy(malloc(pairs[i].len + 1), pairs[i].bytes, pairs[i].len);
        memset(pairs[i].bytes, 0xee, pairs[i].len);
        fila_scratch_free(&scratch);
        uint8_t *bytes = write_request(&copy, &len);
        cr_expect(len == pairs[i].len && !memcmp(bytes, original, len), "%s", pairs[i].name);
        free(bytes);
        free(original);
        free(memory);
    }
    free_pairs(pairs, count);
}

Test(codec, reply_copies_outlive_the_original)
{
    size_t count = make_reply_pairs(pairs);
    for (size_t i = 0; i < count; i++) {
        struct fila_scratch scratch = {0};
        fila_reply read;
        size_t len = 0;
        cr_assert(!fila_reply_read(
            pairs[i].reply.call, pairs[i].bytes, pairs[i].len, &scratch, &read, NULL));
        fila_reply *copy = fila_reply_copy(&read);
        uint8_t *original = memcpy(malloc(pairs[i].len + 1), pairs[i].bytes, pairs[i].len);
        memset(pairs[i].bytes, 0xee, pairs[i].len);
        fila_scratch_free(&scratch);
        uint8_t *bytes = write_reply(copy, &len);
        cr_expect(len == pairs[i].len && !memcmp(bytes, original, len), "%s", pairs[i].name);
        free(bytes);
        free(original);
        fila_reply_free(copy);
    }
    free_pairs(pairs, count);
}

/* Every cut of every message is either refused as FILA_PROTOCOL or is itself a message. */
Test(codec, truncation_never_reads_past_the_end)
{
    size_t count = make_request_pairs(pairs);
    unsigned refused = 0;
    for (size_t i = 0; i < count; i++) {
        for (size_t len = 0; len < pairs[i].len; len++) {
            struct fila_scratch scratch = {0};
            fila_request read;
            fila_error error;
            uint8_t *exact = memcpy(malloc(len ? len : 1), pairs[i].bytes, len);
            fila_status status =
                fila_request_read(pairs[i].request.call, exact, len, &scratch, &read, &error);
            cr_assert(status == FILA_OK || status == FILA_PROTOCOL);
            refused += status == FILA_PROTOCOL;
            fila_scratch_free(&scratch);
            free(exact);
        }
    }
    cr_expect(refused > 200, "%u", refused);
    free_pairs(pairs, count);
}

struct bad {
    fila_call call;
    const char *bytes;
    size_t len;
    const char *text;
};

#define BAD(call, bytes, text)                           \
    {                                                    \
        FILA_CALL_##call, bytes, sizeof(bytes) - 1, text \
    }

Test(codec, malformed_requests)
{
    static const struct bad rows[] = {
        BAD(ENQUEUE, "\x0a", "EnqueueRequest of 1 bytes: a field runs past the end"),
        BAD(ENQUEUE,
            "\x0a\x05"
            "abc",
            "EnqueueRequest of 5 bytes: a field runs past the end"),
        BAD(ENQUEUE, "\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
            "EnqueueRequest of 11 bytes: a field runs past the end"),
        BAD(ENQUEUE, "\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02",
            "EnqueueRequest of 11 bytes: a number has more than 64 bits"),
        BAD(ENQUEUE, "\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
            "EnqueueRequest of 12 bytes: a number has more than 64 bits"),
        BAD(ENQUEUE, "\x00\x00",
            "EnqueueRequest of 2 bytes: a field has an impossible number or type"),
        BAD(ENQUEUE, "\x0b\x0c",
            "EnqueueRequest of 2 bytes: a field has an impossible number or type"),
        BAD(ENQUEUE, "\x0e", "EnqueueRequest of 1 bytes: a field has an impossible number or type"),
        BAD(ENQUEUE, "\x80\x80\x80\x80\x10\x00",
            "EnqueueRequest of 6 bytes: a field has an impossible number or type"),
        BAD(ENQUEUE, "\x08\x01", "EnqueueRequest of 2 bytes: a field has the wrong type"),
        BAD(ENQUEUE, "\x18\x01", "EnqueueRequest of 2 bytes: a field has the wrong type"),
        BAD(ENQUEUE, "\x0a\x01\xff", "EnqueueRequest of 3 bytes: a text field is not UTF-8"),
        BAD(ENQUEUE, "\x12\x03\x0a\x01\xc0",
            "EnqueueRequest of 5 bytes: a text field is not UTF-8"),
        BAD(ENQUEUE, "\x12\x03\x12\x01\xc0",
            "EnqueueRequest of 5 bytes: a text field is not UTF-8"),
        BAD(ENQUEUE, "\x12\x02\x0a\x01", "EnqueueRequest of 4 bytes: a field runs past the end"),
        BAD(ENQUEUE, "\x12\x02\x10\x01", "EnqueueRequest of 4 bytes: a field has the wrong type"),
        BAD(CONSUME, "\x0a\x01\x80", "ConsumeRequest of 3 bytes: a text field is not UTF-8"),
        BAD(ACK, "\x12\x01\x80", "AckRequest of 3 bytes: a text field is not UTF-8"),
        BAD(NACK, "\x1a\x01\x80", "NackRequest of 3 bytes: a text field is not UTF-8"),
        BAD(NACK, "\x1d\x01\x00\x00\x00", "NackRequest of 5 bytes: a field has the wrong type"),
        BAD(DELETE_QUEUE, "\x0a\x01\x80",
            "DeleteQueueRequest of 3 bytes: a text field is not UTF-8"),
        BAD(GET_STATS, "\x09\x01", "GetStatsRequest of 2 bytes: a field runs past the end"),
        BAD(CREATE_QUEUE, "\x0a\x01\xff",
            "CreateQueueRequest of 3 bytes: a text field is not UTF-8"),
        BAD(CREATE_QUEUE, "\x12\x03\x0a\x01\xff",
            "CreateQueueRequest of 5 bytes: a text field is not UTF-8"),
        BAD(CREATE_QUEUE,
            "\x0a\x03"
            "a\0b",
            "CreateQueueRequest of 5 bytes: a text field has a zero byte"),
        BAD(CREATE_QUEUE, "\x08\x01", "CreateQueueRequest of 2 bytes: a field has the wrong type"),
        BAD(CREATE_QUEUE, "\x12\x05\x0a",
            "CreateQueueRequest of 3 bytes: a field runs past the end"),
        BAD(SET_ACL, "\x12\x03\x12\x01\xff", "SetAclRequest of 5 bytes: a text field is not UTF-8"),
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct fila_scratch scratch = {0};
        fila_request read = {.call = FILA_CALL_LIST_QUEUES};
        fila_error error = FILA_ERROR_INIT;
        fila_status status = fila_request_read(
            rows[i].call, (const uint8_t *)rows[i].bytes, rows[i].len, &scratch, &read, &error);
        cr_expect_eq((int)status, FILA_PROTOCOL, "row %zu", i);
        cr_expect_str_eq(error.text, rows[i].text, "row %zu", i);
        cr_expect(read.call == FILA_CALL_LIST_QUEUES, "row %zu: written on failure", i);
        fila_scratch_free(&scratch);
    }
}

Test(codec, malformed_replies)
{
    static const struct bad rows[] = {
        BAD(ENQUEUE, "\x0a\x01\xff", "EnqueueResponse of 3 bytes: a text field is not UTF-8"),
        BAD(ENQUEUE, "\x08\x01", "EnqueueResponse of 2 bytes: a field has the wrong type"),
        BAD(ACK, "\x0a", "AckResponse of 1 bytes: a field runs past the end"),
        BAD(NACK, "\x0a", "NackResponse of 1 bytes: a field runs past the end"),
        BAD(CONSUME, "", "Consume has no unary answer"),
        BAD(GET_STATS,
            "\x0a\x01"
            "a",
            "GetStatsResponse of 3 bytes: a field has the wrong type"),
        BAD(GET_STATS, "\x32\x03\x0a\x01\xff",
            "GetStatsResponse of 5 bytes: a text field is not UTF-8"),
        BAD(LIST_QUEUES, "\x0a\x03\x0a\x01\xff",
            "ListQueuesResponse of 5 bytes: a text field is not UTF-8"),
        BAD(LIST_CONFIG, "\x0a\x7f", "ListConfigResponse of 2 bytes: a field runs past the end"),
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct fila_scratch scratch = {0};
        fila_reply read;
        fila_error error = FILA_ERROR_INIT;
        fila_status status = fila_reply_read(
            rows[i].call, (const uint8_t *)rows[i].bytes, rows[i].len, &scratch, &read, &error);
        cr_expect_eq((int)status, FILA_PROTOCOL, "row %zu", i);
        cr_expect_str_eq(error.text, rows[i].text, "row %zu", i);
        fila_scratch_free(&scratch);
    }
}

/* Fields with numbers of a later contract, of every type, before and after the known one. */
Test(codec, unknown_fields_are_skipped)
{
#define UNKNOWN                  \
    "\x98\x06\x01"               \
    "\x99\x06\1\2\3\4\5\6\7\x08" \
    "\x9a\x06\x02\xff\xff"       \
    "\x9d\x06\1\2\3\4"
    static const char bytes[] = UNKNOWN "\x0a\x01q" UNKNOWN;
    const fila_call calls[] = {
        FILA_CALL_ENQUEUE, FILA_CALL_CONSUME, FILA_CALL_ACK, FILA_CALL_NACK, FILA_CALL_CREATE_QUEUE,
    };
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        struct fila_scratch scratch = {0};
        fila_request read;
        fila_error error = FILA_ERROR_INIT;
        fila_status status = fila_request_read(
            calls[i], (const uint8_t *)bytes, sizeof bytes - 1, &scratch, &read, &error);
        cr_assert(status == FILA_OK, "%s: %s", fila_call_name(calls[i]), error.text);
        cr_expect(fila_request_size(&read) == (calls[i] == FILA_CALL_CREATE_QUEUE ? 5 : 3));
        fila_scratch_free(&scratch);
    }
}

Test(codec, ten_thousand_headers)
{
    enum {
        COUNT = 10000
    };

    static fila_header headers[COUNT];
    static char keys[COUNT][8];
    for (int i = 0; i < COUNT; i++) {
        (void)snprintf(keys[i], sizeof keys[i], "k%d", i);
        headers[i] = (fila_header){fila_view_of(keys[i]), fila_view_of(keys[i] + 1)};
    }
    fila_request request = {
        .call = FILA_CALL_ENQUEUE, .as.enqueue = {{"q", 1}, headers, COUNT, {0}}};
    struct fila_scratch scratch = {0};
    fila_request read;
    size_t len = 0;
    uint8_t *bytes = write_request(&request, &len);
    cr_assert(!fila_request_read(FILA_CALL_ENQUEUE, bytes, len, &scratch, &read, NULL));
    cr_assert_eq(read.as.enqueue.header_count, COUNT);
    cr_expect(!memcmp(read.as.enqueue.headers[9999].value.data, "9999", 4));
    fila_scratch_free(&scratch);
    free(bytes);
}

Test(codec, paths)
{
    cr_expect_str_eq(fila_call_path(FILA_CALL_ACK), "/fila.v1.FilaService/Ack");
    cr_expect_str_eq(fila_call_path(FILA_CALL_GET_ACL), "/fila.v1.FilaAdmin/GetAcl");
    cr_expect(fila_call_path(FILA_CALL_COUNT) == NULL);
    for (int call = 0; call < FILA_CALL_COUNT; call++) {
        const char *path = fila_call_path((fila_call)call);
        const char *name = fila_call_name((fila_call)call);
        cr_expect_str_eq(strrchr(path, '/') + 1, name);
    }
}

/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "fila/v1/service.pb-c.h"
#include "wire/codec.h"
#include "wire/message.h"

#include <criterion/criterion.h>

#include <stdio.h>
#include <stdlib.h>

#define ID "0190d2f0-7c1e-7a3b-8f00-0123456789ab"

#define V(text) ((fila_view){(text), sizeof(text) - 1})

static int released;

static void release(void *owner)
{
    released++;
    free(owner);
}

static bool is(fila_view view, const char *text)
{
    return view.len == strlen(text) && (!view.len || !memcmp(view.data, text, view.len));
}

/* Takes over `bytes`. */
static fila_message *read_owned(uint8_t *bytes, size_t len)
{
    fila_message *message = NULL;
    fila_error error = FILA_ERROR_INIT;
    fila_status status = fila_message_read(bytes, len, release, bytes, &message, &error);
    cr_assert(status == FILA_OK, "%s", error.text);
    cr_assert(message != NULL);
    return message;
}

static fila_message *read_literal(const char *bytes, size_t len)
{
    return read_owned(memcpy(malloc(len), bytes, len), len);
}

static bool same_view(fila_view a, fila_view b)
{
    return a.len == b.len && (!a.len || !memcmp(a.data, b.data, a.len));
}

static void expect_same(const fila_message *a, const fila_message *b)
{
    fila_header ah = {{0}, {0}}, bh = {{0}, {0}};
    fila_view ak = {0}, bk = {0};
    size_t at = 0, bt = 0;
    bool more;
    cr_expect(same_view(fila_message_id(a), fila_message_id(b)));
    cr_expect(same_view(fila_message_queue(a), fila_message_queue(b)));
    cr_expect(same_view(fila_message_payload(a), fila_message_payload(b)));
    cr_expect(same_view(fila_message_fairness_key(a), fila_message_fairness_key(b)));
    cr_expect_eq(fila_message_weight(a), fila_message_weight(b));
    cr_expect_eq(fila_message_attempt_count(a), fila_message_attempt_count(b));
    do {
        more = fila_message_next_header(a, &at, &ah);
        cr_assert_eq(more, fila_message_next_header(b, &bt, &bh));
        cr_expect(!more || (same_view(ah.key, bh.key) && same_view(ah.value, bh.value)));
    } while (more);
    at = bt = 0;
    do {
        more = fila_message_next_throttle_key(a, &at, &ak);
        cr_assert_eq(more, fila_message_next_throttle_key(b, &bt, &bk));
        cr_expect(!more || same_view(ak, bk));
    } while (more);
}

static uint8_t *pack_full(size_t *ret_len)
{
    Fila__V1__ConsumeResponse response = FILA__V1__CONSUME_RESPONSE__INIT;
    Fila__V1__Message message = FILA__V1__MESSAGE__INIT;
    Fila__V1__MessageMetadata metadata = FILA__V1__MESSAGE_METADATA__INIT;
    Fila__V1__MessageTimestamps timestamps = FILA__V1__MESSAGE_TIMESTAMPS__INIT;
    Google__Protobuf__Timestamp stamp = GOOGLE__PROTOBUF__TIMESTAMP__INIT;
    Fila__V1__Message__HeadersEntry entry[3] = {
        FILA__V1__MESSAGE__HEADERS_ENTRY__INIT,
        FILA__V1__MESSAGE__HEADERS_ENTRY__INIT,
        FILA__V1__MESSAGE__HEADERS_ENTRY__INIT,
    };
    Fila__V1__Message__HeadersEntry *entries[] = {&entry[0], &entry[1], &entry[2]};
    char *throttles[] = {"api", "", "db"};
    entry[0].key = "a";
    entry[0].value = "1";
    entry[1].key = "b";
    entry[2].key = "a";
    entry[2].value = "3";
    stamp.seconds = 5;
    timestamps.enqueued_at = &stamp;
    metadata.fairness_key = "tenant-7";
    metadata.weight = 3;
    metadata.n_throttle_keys = 3;
    metadata.throttle_keys = throttles;
    metadata.attempt_count = 200;
    metadata.queue_id = "orders.dlq";
    message.id = ID;
    message.n_headers = 3;
    message.headers = entries;
    message.payload = (ProtobufCBinaryData){5, (uint8_t *)"a\0b\xff!"};
    message.metadata = &metadata;
    message.timestamps = &timestamps;
    response.message = &message;
    uint8_t *bytes = malloc(fila__v1__consume_response__get_packed_size(&response));
    *ret_len = fila__v1__consume_response__pack(&response, bytes);
    return bytes;
}

static void expect_full(const fila_message *m)
{
    fila_header header;
    fila_view view;
    size_t cursor = 0;
    cr_expect(is(fila_message_id(m), ID));
    cr_expect(is(fila_message_queue(m), "orders.dlq"));
    cr_expect(is(fila_message_fairness_key(m), "tenant-7"));
    cr_expect_eq(fila_message_weight(m), 3);
    cr_expect_eq(fila_message_attempt_count(m), 200);
    cr_expect(
        fila_message_payload(m).len == 5 && !memcmp(fila_message_payload(m).data, "a\0b\xff!", 5));
    cr_expect_eq(fila_message_enqueued_ms(m), 0x0190d2f07c1e);
    cr_assert(fila_message_next_header(m, &cursor, &header));
    cr_expect(is(header.key, "a") && is(header.value, "1"));
    cr_assert(fila_message_next_header(m, &cursor, &header));
    cr_expect(is(header.key, "b") && is(header.value, ""));
    cr_assert(fila_message_next_header(m, &cursor, &header));
    cr_expect(is(header.key, "a") && is(header.value, "3"));
    cr_expect(!fila_message_next_header(m, &cursor, &header));
    cr_expect(!fila_message_next_header(m, &cursor, &header));
    cursor = 0;
    cr_assert(fila_message_next_throttle_key(m, &cursor, &view));
    cr_expect(is(view, "api"));
    cr_assert(fila_message_next_throttle_key(m, &cursor, &view));
    cr_expect(is(view, ""));
    cr_assert(fila_message_next_throttle_key(m, &cursor, &view));
    cr_expect(is(view, "db"));
    cr_expect(!fila_message_next_throttle_key(m, &cursor, &view));
    cr_expect(fila_message_header(m, V("a"), &view) && is(view, "3"), "the last one counts");
    cr_expect(fila_message_header(m, V("b"), &view) && is(view, ""));
    cr_expect(!fila_message_header(m, V("c"), &view));
}

Test(message, read_what_protobuf_c_wrote)
{
    size_t len = 0;
    uint8_t *bytes = pack_full(&len);
    fila_message *message = read_owned(bytes, len);
    expect_full(message);
    cr_expect_eq(released, 0);
    fila_message_free(message);
    cr_expect_eq(released, 1);
    fila_message_free(NULL);
}

static const fila_view THROTTLES[] = {{"api", 3}, {"", 0}, {"db", 2}};
static const fila_header HEADERS[] = {{{"a", 1}, {"1", 1}}, {{"b", 1}, {0}}, {{"a", 1}, {"3", 1}}};
static const struct fila_message_fields FULL = {
    .id = {ID, 36},
    .queue = {"orders.dlq", 10},
    .fairness_key = {"tenant-7", 8},
    .payload = {"a\0b\xff!", 5},
    .weight = 3,
    .attempt_count = 200,
    .throttle_keys = THROTTLES,
    .throttle_key_count = 3,
    .headers = HEADERS,
    .header_count = 3,
};

Test(message, made_without_a_wire)
{
    fila_message *message = fila_message_make(&FULL, release, malloc(1));
    expect_full(message);
    fila_message_free(message);
    cr_expect_eq(released, 1);
}

static uint8_t *write_delivery(const struct fila_message_fields *fields, size_t *ret_len)
{
    size_t head = fila_delivery_head_size(fields);
    uint8_t *bytes = malloc(head + fields->payload.len + 1);
    bytes[head] = 0xa5;
    fila_delivery_head_write(fields, bytes);
    cr_assert(bytes[head] == 0xa5, "wrote past its size");
    if (fields->payload.len) {
        memcpy(bytes + head, fields->payload.data, fields->payload.len);
    }
    *ret_len = head + fields->payload.len;
    return bytes;
}

Test(message, delivery_is_read_by_protobuf_c_and_by_us)
{
    size_t len = 0;
    uint8_t *bytes = write_delivery(&FULL, &len);
    Fila__V1__ConsumeResponse *response = fila__v1__consume_response__unpack(NULL, len, bytes);
    cr_assert(response && response->message && response->message->metadata);
    cr_expect_str_eq(response->message->id, ID);
    cr_expect_eq(response->message->n_headers, 3);
    cr_expect_str_eq(response->message->headers[2]->value, "3");
    cr_expect_eq(response->message->payload.len, 5);
    cr_expect(!memcmp(response->message->payload.data, "a\0b\xff!", 5));
    cr_expect_str_eq(response->message->metadata->fairness_key, "tenant-7");
    cr_expect_eq(response->message->metadata->weight, 3);
    cr_expect_eq(response->message->metadata->n_throttle_keys, 3);
    cr_expect_eq(response->message->metadata->attempt_count, 200);
    cr_expect_str_eq(response->message->metadata->queue_id, "orders.dlq");
    cr_expect(response->message->timestamps == NULL);
    fila__v1__consume_response__free_unpacked(response, NULL);
    fila_message *message = read_owned(bytes, len);
    expect_full(message);
    fila_message_free(message);
}

Test(message, delivery_of_large_and_empty_payloads)
{
    const size_t sizes[] = {0, 1, 127, 128, 16383, 16384, 4u << 20};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct fila_message_fields fields = FULL;
        size_t len = 0;
        char *payload = memset(malloc(sizes[i] + 1), 'x', sizes[i]);
        fields.payload = (fila_view){payload, sizes[i]};
        uint8_t *bytes = write_delivery(&fields, &len);
        fila_message *message = read_owned(bytes, len);
        cr_expect_eq(fila_message_payload(message).len, sizes[i]);
        cr_expect(is(fila_message_queue(message), "orders.dlq"));
        fila_message_free(message);
        free(payload);
    }
}

Test(message, empty_frames_are_no_messages)
{
    static const struct {
        const char *bytes;
        size_t len;
    } rows[] = {
        {"", 0},
        {"\x0a\x00", 2},
        {"\x0a\x03\x1a\x01x", 5}, /* a payload without an id */
        {"\x12\x02hi", 4},        /* only a field of a later contract */
    };

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        fila_message *message = (fila_message *)&rows;
        cr_expect(!fila_message_read(
            (const uint8_t *)rows[i].bytes, rows[i].len, release, NULL, &message, NULL));
        cr_expect(message == NULL, "row %zu", i);
    }
    cr_expect_eq(released, 0);
}

/* Two messages in one buffer, as gRPC reads them: what one says after the other's bytes are gone.
 */
static void check_detached(uint8_t *bytes, size_t len)
{
    size_t room = 4096;
    uint8_t *buffer = calloc(1, room);
    memcpy(buffer + 1000, bytes, len);
    fila_message *as_it_was = read_owned(bytes, len);
    fila_message *message = NULL;
    fila_error error = FILA_ERROR_INIT;
    cr_assert_eq(fila_message_read(buffer + 1000, len, release, buffer, &message, &error), FILA_OK);
    released = 0;
    cr_assert(fila_message_detach(message));
    cr_assert_eq(released, 1, "the buffer is let go");
    cr_assert_not(fila_message_detach(message), "it pins nothing any more");
    expect_same(message, as_it_was);
    fila_message_free(message);
    cr_assert_eq(released, 1);
    fila_message_free(as_it_was);
}

Test(message, detached_says_the_same_and_lets_the_buffer_go)
{
    size_t len = 0;
    uint8_t *bytes = pack_full(&len);
    check_detached(bytes, len);
}

Test(message, detached_that_came_in_pieces)
{
    size_t len = 0;
    uint8_t *once = pack_full(&len);
    uint8_t *twice = malloc(2 * len);
    memcpy(twice, once, len);
    memcpy(twice + len, once, len);
    free(once);
    check_detached(twice, 2 * len);
}

Test(message, detached_with_an_id_alone)
{
    static const char ALONE[] = "\x0a\x04\x0a\x02id";
    check_detached(memcpy(malloc(sizeof ALONE - 1), ALONE, sizeof ALONE - 1), sizeof ALONE - 1);
}

/* About as large as what it was received in: copying it gains nothing. */
Test(message, a_large_one_is_not_detached)
{
    Fila__V1__ConsumeResponse response = FILA__V1__CONSUME_RESPONSE__INIT;
    Fila__V1__Message inner = FILA__V1__MESSAGE__INIT;
    inner.id = ID;
    inner.payload = (ProtobufCBinaryData){40000, calloc(1, 40000)};
    response.message = &inner;
    uint8_t *bytes = malloc(fila__v1__consume_response__get_packed_size(&response));
    size_t len = fila__v1__consume_response__pack(&response, bytes);
    free(inner.payload.data);
    fila_message *message = read_owned(bytes, len);
    released = 0;
    cr_assert_not(fila_message_detach(message));
    cr_assert_eq(released, 0);
    cr_assert_eq(fila_message_payload(message).len, 40000);
    fila_message_free(message);
}

/* Made without a wire, it pins nothing. */
Test(message, made_ones_are_not_detached)
{
    struct fila_message_fields fields = {.id = V(ID), .payload = V("hello")};
    fila_message *message = fila_message_make(&fields, NULL, NULL);
    cr_assert_not(fila_message_detach(message));
    cr_assert(is(fila_message_payload(message), "hello"));
    fila_message_free(message);
}

/* A protobuf reader merges a submessage that comes twice: later scalars win, lists grow. */
Test(message, repeated_submessages_are_merged)
{
    Fila__V1__ConsumeResponse *merged = NULL;
    uint8_t buffer[512];
    size_t len = 0;
    struct fila_message_fields first = FULL;
    struct fila_message_fields second = {
        .queue = {"other", 5},
        .attempt_count = 7,
        .headers = HEADERS,
        .header_count = 1,
        .throttle_keys = THROTTLES,
        .throttle_key_count = 1};
    len = fila_delivery_head_size(&first);
    fila_delivery_head_write(&first, buffer);
    memcpy(buffer + len, first.payload.data, first.payload.len);
    len += first.payload.len;
    fila_delivery_head_write(&second, buffer + len);
    len += fila_delivery_head_size(&second);
    merged = fila__v1__consume_response__unpack(NULL, len, buffer);
    cr_assert(merged && merged->message);
    fila_message *message = read_literal((const char *)buffer, len);
    fila_header header;
    size_t cursor = 0;
    size_t headers = 0;
    while (fila_message_next_header(message, &cursor, &header)) {
        cr_assert(headers < merged->message->n_headers);
        cr_expect(is(header.key, merged->message->headers[headers]->key));
        cr_expect(is(header.value, merged->message->headers[headers]->value));
        headers++;
    }
    cr_expect_eq(headers, 4);
    fila_view key;
    size_t keys = 0;
    for (cursor = 0; fila_message_next_throttle_key(message, &cursor, &key);) {
        cr_expect(is(key, merged->message->metadata->throttle_keys[keys++]));
    }
    cr_expect_eq(keys, 4);
    cr_expect(is(fila_message_id(message), ID));
    cr_expect(is(fila_message_queue(message), "other"));
    cr_expect(is(fila_message_fairness_key(message), "tenant-7"));
    cr_expect_eq(fila_message_attempt_count(message), 7);
    cr_expect_eq(fila_message_weight(message), 3);
    cr_expect_eq(fila_message_payload(message).len, 5);
    fila_message_free(message);
    fila__v1__consume_response__free_unpacked(merged, NULL);
}

Test(message, malformed)
{
    static const struct {
        const char *bytes;
        size_t len;
        const char *problem;
    } rows[] = {

#define ROW(bytes, problem) {bytes, sizeof(bytes) - 1, problem}
        ROW("\x0a", "a field runs past the end"),
        ROW("\x0a\x02\x0a", "a field runs past the end"),
        ROW("\x08\x01", "a field has the wrong type"),
        ROW("\x0a\x02\x08\x01", "a field has the wrong type"),
        ROW("\x0a\x03\x0a\x01\xff", "a text field is not UTF-8"),
        ROW("\x0a\x05\x12\x03\x0a\x01\xff", "a text field is not UTF-8"),
        ROW("\x0a\x04\x12\x02\x0a\x05", "a field runs past the end"),
        ROW("\x0a\x05\x22\x03\x0a\x01\xff", "a text field is not UTF-8"),
        ROW("\x0a\x05\x22\x03\x1a\x01\xff", "a text field is not UTF-8"),
        ROW("\x0a\x05\x22\x03\x2a\x01\xff", "a text field is not UTF-8"),
        ROW("\x0a\x05\x22\x03\x12\x01\x61", "a field has the wrong type"),
        ROW("\x0a\x03\x22\x01\x20", "a field runs past the end"),
        ROW("\x0a\x0e\x22\x0c\x20\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
            "a number has more than 64 bits"),
        ROW("\x0a\x02\x28\x01", "a field has the wrong type"),
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        fila_message *message = NULL;
        fila_error error = FILA_ERROR_INIT;
        char want[128];
        (void)snprintf(
            want, sizeof want, "ConsumeResponse of %zu bytes: %s", rows[i].len, rows[i].problem);
        fila_status status = fila_message_read(
            (const uint8_t *)rows[i].bytes, rows[i].len, release, NULL, &message, &error);
        cr_expect_eq((int)status, FILA_PROTOCOL, "row %zu", i);
        cr_expect_str_eq(error.text, want, "row %zu", i);
        cr_expect(message == NULL);
    }
    cr_expect_eq(released, 0, "no release on failure");
}

Test(message, ten_thousand_headers_are_walked_once)
{
    enum {
        COUNT = 10000
    };

    static fila_header headers[COUNT];
    static char keys[COUNT][8];
    struct fila_message_fields fields = FULL;
    for (int i = 0; i < COUNT; i++) {
        (void)snprintf(keys[i], sizeof keys[i], "k%d", i);
        headers[i] = (fila_header){fila_view_of(keys[i]), fila_view_of(keys[i] + 1)};
    }
    fields.headers = headers;
    fields.header_count = COUNT;
    size_t len = 0;
    uint8_t *bytes = write_delivery(&fields, &len);
    fila_message *message = read_owned(bytes, len);
    fila_header header;
    size_t count = 0;
    size_t last = 0;
    for (size_t cursor = 0; fila_message_next_header(message, &cursor, &header); count++) {
        cr_assert(cursor > last && cursor - last < 32, "a step walks one entry");
        last = cursor;
        cr_assert(is(header.key, keys[count]));
    }
    cr_expect_eq(count, COUNT);
    fila_view value;
    cr_expect(fila_message_header(message, V("k9999"), &value) && is(value, "9999"));
    fila_message_free(message);
}

Test(message, enqueued_ms_is_read_from_a_version_7_id_only)
{
    static const struct {
        const char *id;
        int64_t ms;
    } rows[] = {
        {"0190d2f0-7c1e-7a3b-8f00-0123456789ab", 0x0190d2f07c1e},
        {"0190D2F0-7C1E-7A3B-8F00-0123456789AB", 0x0190d2f07c1e},
        {"0190d2f0-7c1e-4a3b-8f00-0123456789ab", 0},
        {"0190d2f0x7c1e-7a3b-8f00-0123456789ab", 0},
        {"0190d2g0-7c1e-7a3b-8f00-0123456789ab", 0},
        {"0190d2f0-7c1e-7a3b-8f00-0123456789a-", 0},
        {"0190d2f07c1e7a3b8f000123456789ab", 0},
        {"x", 0},
    };

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct fila_message_fields fields = {.id = fila_view_of(rows[i].id)};
        fila_message *message = fila_message_make(&fields, NULL, NULL);
        cr_expect_eq(fila_message_enqueued_ms(message), rows[i].ms, "%s", rows[i].id);
        fila_message_free(message);
    }
}

Test(message, utf8)
{
    static const struct {
        const char *bytes;
        size_t len;
        bool valid;
    } rows[] = {
        {"", 0, true},
        {"plain ascii of more than eight bytes", 36, true},
        {"a\0b", 3, true},
        {"\x7f", 1, true},
        {"\x80", 1, false},
        {"\xc2\x80", 2, true},
        {"\xdf\xbf", 2, true},
        {"\xc0\x80", 2, false},
        {"\xc1\xbf", 2, false},
        {"\xc2", 1, false},
        {"\xc2\x41", 2, false},
        {"\xe0\xa0\x80", 3, true},
        {"\xe0\x9f\xbf", 3, false},
        {"\xed\x9f\xbf", 3, true},
        {"\xed\xa0\x80", 3, false},
        {"\xee\x80\x80", 3, true},
        {"\xef\xbf\xbf", 3, true},
        {"\xe1\x80", 2, false},
        {"\xe1\x80\x41", 3, false},
        {"\xf0\x90\x80\x80", 4, true},
        {"\xf0\x8f\xbf\xbf", 4, false},
        {"\xf4\x8f\xbf\xbf", 4, true},
        {"\xf4\x90\x80\x80", 4, false},
        {"\xf5\x80\x80\x80", 4, false},
        {"\xf1\x80\x80", 3, false},
        {"\xff", 1, false},
        {"12345678\xc3\xa9"
         "2345678\xe2\x82\xac",
         20, true},
        {"12345678\xc3\xa9"
         "2345678\xe2\x82",
         19, false},
        {"1234567\xc3", 8, false},
    };

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        cr_expect(fila_utf8_valid(rows[i].bytes, rows[i].len) == rows[i].valid, "row %zu", i);
    }
}

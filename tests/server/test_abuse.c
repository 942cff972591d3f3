/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * Clients that speak something else, break off, flood or never read. In each case the server goes
 * on serving others, within bounds, and stops when told.
 */
#include "base/clock.h"
#include "server/h2_socket.h"
#include "server/rig.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

static const char ENQUEUE[] = "/fila.v1.FilaService/Enqueue";

enum {
    H2_CONTINUATION = 9,
    H2_PADDING = 1 << 20
};

static const char CONSUME[] = "/fila.v1.FilaService/Consume";

static void check_served(struct rig *rig)
{
    fila_request request = rig_enqueue("q", "x", 1);
    struct raw_end end = raw_request(rig->client, &request);
    cr_expect(eq(int, end.code, 0), "%s", end.text);
    raw_end_free(&end);
}

/* The same when calls of a flood are still on their way in: they are held, and others refused,
 * until the server is through with them. */
static void check_served_in_the_end(struct rig *rig)
{
    fila_request request = rig_enqueue("q", "x", 1);
    int64_t give_up = fila_now() + 60 * FILA_S;
    int code = 8;
    while (code == 8 && fila_now() < give_up) {
        fake_answer_held(rig->fake, FILA_OK);
        struct raw_end end = raw_request(rig->client, &request);
        code = end.code;
        cr_expect(code == 0 || code == 8, "%d %s", code, end.text);
        raw_end_free(&end);
    }
    cr_expect(eq(int, code, 0));
}

#if defined(__SANITIZE_ADDRESS__)
#    define SANITIZED true
#elif defined(__has_feature)
#    if __has_feature(address_sanitizer)
#        define SANITIZED true
#    endif
#endif
#ifndef SANITIZED
#    define SANITIZED false
#endif

/* Resident memory of this process in MiB; 0 under sanitizers, whose memory says nothing. */
static long resident(void)
{
    if (SANITIZED) {
        return 0;
    }
    char line[128];
    char *second;
    FILE *file = fopen("/proc/self/statm", "r");
    cr_assert(file && fgets(line, sizeof line, file));
    (void)fclose(file);
    second = strchr(line, ' ');
    cr_assert(second != NULL);
    return strtol(second, NULL, 10) * sysconf(_SC_PAGESIZE) >> 20;
}

Test(server_abuse, other_protocols_are_sent_away)
{
    static const struct {
        const char *bytes;
        size_t len;
    } rows[] = {
        {"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", 35},
        {"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 11}, /* TLS */
        {"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 32},
        {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff\xff\xff\xff\xff\xff", 33},
        {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\1\1\4\0\0\0\1\xff", 34}, /* bad HPACK */
    };
    struct rig rig = rig_open();
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char rest[4096];
        int fd = tcp_connect(fb_server_port(rig.server));
        cr_assert(eq(sz, (size_t)send(fd, rows[i].bytes, rows[i].len, MSG_NOSIGNAL), rows[i].len));
        ssize_t n = 1;
        while (n > 0) {
            n = recv(fd, rest, sizeof rest, 0);
        }
        cr_expect(n == 0 || errno == ECONNRESET, "row %zu: the connection stays open", i);
        (void)close(fd);
        check_served(&rig);
    }
    rig_close(&rig);
}

Test(server_abuse, a_silent_connection_does_not_hold_the_stop)
{
    struct rig rig = rig_open();
    int silent = tcp_connect(fb_server_port(rig.server));
    int half = tcp_connect(fb_server_port(rig.server));
    int open = h2_connect(fb_server_port(rig.server));
    cr_assert(eq(int, (int)send(half, "PRI * HT", 8, MSG_NOSIGNAL), 8));
    check_served(&rig);
    rig_close(&rig);
    (void)close(silent);
    (void)close(half);
    (void)close(open);
}

Test(server_abuse, settings_are_those_of_a_fila_server)
{
    struct rig rig = rig_open();
    int fd = h2_connect(fb_server_port(rig.server));
    struct h2_frame frame;
    long window = -1;
    long concurrent = -1;
    cr_assert(h2_read(fd, &frame));
    cr_assert(eq(int, frame.type, H2_SETTINGS));
    for (size_t i = 0; i + 6 <= frame.len; i += 6) {
        const uint8_t *p = frame.payload + i;
        long value = (long)p[2] << 24 | (long)p[3] << 16 | (long)p[4] << 8 | p[5];
        window = p[0] == 0 && p[1] == 4 ? value : window;
        concurrent = p[0] == 0 && p[1] == 3 ? value : concurrent;
    }
    cr_expect(ge(long, window, 1048576));   /* that of a Fila server; the BDP probe starts higher */
    cr_expect(eq(long, concurrent, 11000)); /* a Fila server tells none */
    (void)close(fd);
    rig_close(&rig);
}

Test(server_abuse, pings_at_any_rate_are_answered)
{
    enum {
        PINGS = 500
    };
    struct rig rig = rig_open();
    int fd = h2_connect(fb_server_port(rig.server));
    struct h2_frame frame;
    int answered = 0;
    for (int i = 0; i < PINGS; i++) {
        cr_assert(h2_write(fd, H2_PING, 0, 0, "12345678", 8));
    }
    while (answered < PINGS && h2_read(fd, &frame)) {
        cr_assert(ne(int, frame.type, H2_GOAWAY));
        answered += frame.type == H2_PING && frame.flags == 1;
    }
    cr_expect(eq(int, answered, PINGS));
    (void)close(fd);
    rig_close(&rig);
}

Test(server_abuse, a_client_that_is_gone_ends_its_streams)
{
    struct rig rig = rig_open();
    int fd = h2_connect(fb_server_port(rig.server));
    for (uint32_t i = 0; i < 10; i++) {
        cr_assert(h2_request(fd, 2 * i + 1, CONSUME, "\x0a\x01q", 3));
    }
    cr_assert(fake_wait_consumers(rig.fake, 10));
    fake_push(rig.fake, "q", 100, 50000);
    (void)close(fd);
    cr_expect(fake_wait_consumers(rig.fake, 0));
    cr_expect(fake_wait_outstanding(rig.fake, 0));
    check_served(&rig);
    rig_close(&rig);
}

/* The default window of HTTP/2 is 65,535 bytes, gRPC's buffer before it 32,768. */
Test(server_abuse, a_client_that_does_not_read_is_sent_a_window_full)
{
    struct rig rig = rig_open();
    int fd = h2_connect(fb_server_port(rig.server));
    cr_assert(h2_request(fd, 1, CONSUME, "\x0a\x01q", 3));
    cr_assert(fake_wait_consumers(rig.fake, 1));
    fake_push(rig.fake, "q", 100000, 1024);
    for (int i = 0; i < 100; i++) {
        check_served(&rig);
    }
    cr_expect(lt(sz, fake_taken(rig.fake), 120));
    cr_expect(gt(sz, fake_taken(rig.fake), 50));
    (void)close(fd);
    cr_expect(fake_wait_consumers(rig.fake, 0));
    rig_close(&rig);
}

/* ---- Requests that are HTTP/2, and no gRPC ---- */

struct odd_request {
    const char *what;
    uint8_t headers[64];
    size_t headers_len;
    size_t padding;      /* bytes of one more header, in CONTINUATION frames */
    const uint8_t *body; /* with the message's five bytes before it; NULL: the headers end it */
    size_t body_len;
    unsigned empty_frames; /* DATA without data, before the body */
};

#define METHOD_POST 0x83
#define SCHEME_HTTP 0x86
#define ENQUEUE_PATH                                                                               \
    0x04, 28, '/', 'f', 'i', 'l', 'a', '.', 'v', '1', '.', 'F', 'i', 'l', 'a', 'S', 'e', 'r', 'v', \
        'i', 'c', 'e', '/', 'E', 'n', 'q', 'u', 'e', 'u', 'e'
#define CONTENT_TYPE(...) 0x0f, 0x10, __VA_ARGS__
#define GRPC              16, 'a', 'p', 'p', 'l', 'i', 'c', 'a', 't', 'i', 'o', 'n', '/', 'g', 'r', 'p', 'c'
#define TEXT              10, 't', 'e', 'x', 't', '/', 'p', 'l', 'a', 'i', 'n'

static void send_headers(int fd, const struct odd_request *odd)
{
    static uint8_t block[H2_PADDING + 128];
    size_t len = odd->headers_len;
    int end = odd->body ? 0 : 1;
    memcpy(block, odd->headers, len);
    if (odd->padding) { /* a literal "x" of so many bytes, not indexed */
        size_t rest = odd->padding - 127;
        const uint8_t head[] = {
            0x00,
            1,
            'x',
            0x7f,
            (uint8_t)(rest & 127) | 128,
            (uint8_t)(rest >> 7 & 127) | 128,
            (uint8_t)(rest >> 14)};
        memcpy(block + len, head, sizeof head);
        memset(block + len + sizeof head, 'y', odd->padding);
        len += sizeof head + odd->padding;
    }
    for (size_t at = 0; at < len; at += 16384) {
        size_t part = len - at < 16384 ? len - at : 16384;
        int last = at + part == len ? 4 : 0;
        if (!h2_write(
                fd, at ? H2_CONTINUATION : H2_HEADERS, at ? last : last | end, 1, block + at,
                part)) {
            return; /* it was closed: as good an answer */
        }
    }
}

/* Sends it, and waits until the server has ended the stream, or the connection. */
static void expect_an_end(struct rig *rig, const struct odd_request *odd)
{
    struct h2_frame frame;
    bool ended = false;
    int fd = h2_connect(fb_server_port(rig->server));
    send_headers(fd, odd);
    for (unsigned i = 0; i < odd->empty_frames; i++) {
        (void)h2_write(fd, H2_DATA, 0, 1, NULL, 0);
    }
    if (odd->body) {
        (void)h2_write(fd, H2_DATA, 1, 1, odd->body, odd->body_len);
    }
    int64_t until = fila_now() + 9 * FILA_S;
    while (!ended && h2_read(fd, &frame)) {
        ended = frame.type == H2_GOAWAY ||
                (frame.stream == 1 && (frame.type == H2_RST || frame.flags & 1));
    }
    cr_expect(lt(i64, fila_now(), until), "%s: not ended", odd->what);
    (void)close(fd);
    check_served(rig);
}

Test(server_abuse, what_is_no_grpc_is_ended)
{
    static const uint8_t good[] = {0, 0, 0, 0, 3, 0x0a, 1, 'q'};
    static const uint8_t compressed[] = {1, 0, 0, 0, 3, 0x0a, 1, 'q'};
    static const uint8_t cut_off[] = {0, 0, 0, 1, 0, 0x0a, 1, 'q'};
    static const uint8_t two[] = {0, 0, 0, 0, 3, 0x0a, 1, 'q', 0, 0, 0, 0, 3, 0x0a, 1, 'q'};
    static const uint8_t head_only[] = {0, 0, 0};
    static const uint8_t reserved[] = {0xff, 0, 0, 0, 3, 0x0a, 1, 'q'};
#define ODD(WHAT, PADDING, BODY, EMPTY, ...)                                                     \
    {                                                                                            \
        WHAT, {__VA_ARGS__}, sizeof((uint8_t[]){__VA_ARGS__}), PADDING, BODY, sizeof BODY, EMPTY \
    }
    static const struct odd_request odds[] = {
        ODD("a text", 0, good, 0, METHOD_POST, SCHEME_HTTP, ENQUEUE_PATH, CONTENT_TYPE(TEXT)),
        ODD("no content type", 0, good, 0, METHOD_POST, SCHEME_HTTP, ENQUEUE_PATH),
        ODD("GET", 0, good, 0, 0x82, SCHEME_HTTP, ENQUEUE_PATH, CONTENT_TYPE(GRPC)),
        ODD("no path", 0, good, 0, METHOD_POST, SCHEME_HTTP, CONTENT_TYPE(GRPC)),
        ODD("headers of 20 KiB", 20480, good, 0, METHOD_POST, SCHEME_HTTP, ENQUEUE_PATH,
            CONTENT_TYPE(GRPC)),
        ODD("headers of 1 MiB", H2_PADDING, good, 0, METHOD_POST, SCHEME_HTTP, ENQUEUE_PATH,
            CONTENT_TYPE(GRPC)),
        ODD("empty frames", 0, good, 2000, METHOD_POST, SCHEME_HTTP, ENQUEUE_PATH,
            CONTENT_TYPE(GRPC)),
        ODD("compressed, by nothing", 0, compressed, 0, METHOD_POST, SCHEME_HTTP, ENQUEUE_PATH,
            CONTENT_TYPE(GRPC)),
        ODD("a message cut off", 0, cut_off, 0, METHOD_POST, SCHEME_HTTP, ENQUEUE_PATH,
            CONTENT_TYPE(GRPC)),
        ODD("two messages", 0, two, 0, METHOD_POST, SCHEME_HTTP, ENQUEUE_PATH, CONTENT_TYPE(GRPC)),
        ODD("half a length", 0, head_only, 0, METHOD_POST, SCHEME_HTTP, ENQUEUE_PATH,
            CONTENT_TYPE(GRPC)),
        ODD("reserved flags", 0, reserved, 0, METHOD_POST, SCHEME_HTTP, ENQUEUE_PATH,
            CONTENT_TYPE(GRPC)),
        {"no body",
         {METHOD_POST, SCHEME_HTTP, ENQUEUE_PATH, CONTENT_TYPE(GRPC)},
         2 + 30 + 19,
         0,
         NULL,
         0,
         0},
        {"rubbish for headers", {0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, 6, 0, NULL, 0, 0},
    };
    struct rig rig = rig_open();
    for (size_t i = 0; i < sizeof odds / sizeof odds[0]; i++) {
        expect_an_end(&rig, &odds[i]);
    }
    rig_close(&rig);
}

/* A connection whose client has acknowledged the server's settings. */
static int connect_and_agree(struct rig *rig)
{
    struct h2_frame frame;
    int fd = h2_connect(fb_server_port(rig->server));
    cr_assert(h2_read(fd, &frame) && frame.type == H2_SETTINGS);
    cr_assert(h2_write(fd, H2_SETTINGS, 1, 0, NULL, 0));
    return fd;
}

/* Writes requests, as long as the connection's window lasts and is renewed, until `count` are out
 * or the server takes no more. Reads only when it must. */
static uint32_t flood(int fd, const char *path, const char *message, uint32_t count)
{
    struct pollfd writable = {.fd = fd, .events = POLLOUT};
    size_t len = strlen(message);
    size_t window = 65535;
    uint32_t sent = 0;
    while (sent < count) {
        struct h2_frame frame;
        if (window < len + 5) {
            if (!h2_read(fd, &frame)) {
                break;
            }
            if (frame.type == H2_WINDOW && frame.stream == 0) {
                window += (size_t)frame.payload[1] << 16 | (size_t)frame.payload[2] << 8 |
                          frame.payload[3];
            }
            continue;
        }
        if (poll(&writable, 1, 1000) != 1 || !h2_request(fd, 2 * sent + 1, path, message, len)) {
            break;
        }
        window -= len + 5;
        sent++;
    }
    return sent;
}

Test(server_abuse, a_flood_of_calls_is_bounded)
{
    struct rig rig = rig_open();
    check_served(&rig);
    long before = resident();
    int fd = connect_and_agree(&rig);
    uint32_t sent = flood(fd, ENQUEUE, "\x0a\x04held", 200000);
    cr_expect(ge(u32, sent, 11000));
    cr_expect(le(sz, fake_held(rig.fake), 10000));
    cr_expect(lt(long, resident() - before, 300));
    (void)close(fd);
    check_served_in_the_end(&rig);
    rig_close(&rig);
}

Test(server_abuse, a_flood_of_streams_is_bounded)
{
    struct rig rig = rig_open();
    check_served(&rig);
    long before = resident();
    int fd = connect_and_agree(&rig);
    uint32_t sent = flood(fd, CONSUME, "\x0a\x01q", 100000);
    cr_expect(ge(u32, sent, 11000));
    cr_expect(le(sz, fake_consumers(rig.fake), 10000));
    cr_expect(lt(long, resident() - before, 300));
    (void)close(fd);
    cr_expect(fake_wait_consumers(rig.fake, 0));
    check_served(&rig);
    rig_close(&rig);
}

/* A client that acknowledges no settings, minds no window and reads nothing. */
static void flood_blindly(const char *path, const char *message, bool reset)
{
    struct rig rig = rig_open();
    check_served(&rig);
    long before = resident();
    int fd = h2_connect(fb_server_port(rig.server));
    struct pollfd writable = {.fd = fd, .events = POLLOUT};
    uint32_t count = SANITIZED ? 10000 : 80000;
    for (uint32_t i = 0; i < count && poll(&writable, 1, 5000) == 1; i++) {
        if (!h2_request(fd, 2 * i + 1, path, message, strlen(message)) ||
            (reset && !h2_write(fd, H2_RST, 0, 2 * i + 1, "\0\0\0\x08", 4))) {
            break;
        }
    }
    cr_expect(lt(long, resident() - before, 400)); /* 600 and more without the relief */
    (void)close(fd);
    check_served_in_the_end(&rig);
    rig_close(&rig);
}

Test(server_abuse, a_blind_flood_of_calls_is_bounded)
{
    flood_blindly(ENQUEUE, "\x0a\x04held", false);
}

Test(server_abuse, a_blind_flood_of_streams_is_bounded)
{
    flood_blindly(CONSUME, "\x0a\x01q", false);
}

Test(server_abuse, a_blind_flood_of_cancelled_calls_is_bounded)
{
    flood_blindly(ENQUEUE, "\x0a\x01q", true);
}

/* Each request is cancelled as soon as it is out, which no limit of open calls sees. */
Test(server_abuse, a_flood_of_cancelled_calls_is_survived)
{
    struct rig rig = rig_open();
    int fd = connect_and_agree(&rig);
    for (uint32_t i = 0; i < 5000; i++) {
        cr_assert(h2_request(fd, 2 * i + 1, i % 2 ? ENQUEUE : CONSUME, "\x0a\x01q", 3));
        cr_assert(h2_write(fd, H2_RST, 0, 2 * i + 1, "\0\0\0\x08", 4));
    }
    check_served(&rig);
    (void)close(fd);
    cr_expect(fake_wait_consumers(rig.fake, 0));
    rig_close(&rig);
}

/* Sends DATA of one endless message as the windows allow; returns the MiB that were taken. */
static size_t send_giant(int fd)
{
    static uint8_t data[16384] = {0, 0xff, 0xff, 0xff, 0xff}; /* 4 GiB - 1 */
    uint8_t headers[512];
    struct h2_frame frame;
    size_t sent = 0;
    long window = 65535; /* of the connection */
    long room = 1 << 20; /* of the stream */
    cr_assert(h2_write(fd, H2_HEADERS, 4, 1, headers, h2_headers(ENQUEUE, headers)));
    while (sent < (size_t)1 << 32) {
        if (window >= (long)sizeof data && room >= (long)sizeof data) {
            cr_assert(h2_write(fd, H2_DATA, 0, 1, data, sizeof data));
            memset(data, 0, 5);
            sent += sizeof data;
            window -= (long)sizeof data;
            room -= (long)sizeof data;
            continue;
        }
        cr_assert(h2_read(fd, &frame));
        const uint8_t *p = frame.payload;
        if (frame.type == H2_WINDOW) {
            *(frame.stream ? &room : &window) += (long)p[0] << 24 | (long)p[1] << 16 |
                                                 (long)p[2] << 8 | p[3];
        } else if (frame.type == H2_RST || frame.type == H2_GOAWAY || frame.type == H2_HEADERS) {
            break;
        } else if ((frame.type == H2_PING || frame.type == H2_SETTINGS) && frame.flags == 0) {
            cr_assert(h2_write(fd, frame.type, 1, 0, p, frame.type == H2_PING ? frame.len : 0));
        }
    }
    return sent >> 20;
}

Test(server_abuse, an_endless_message_is_broken_off)
{
    struct rig rig = rig_open();
    int fd = h2_connect(fb_server_port(rig.server));
    cr_expect(lt(sz, send_giant(fd), 600));
    check_served(&rig);
    (void)close(fd);
    rig_close(&rig);
}

Test(server_abuse, a_stop_amid_a_flood)
{
    struct rig rig = rig_open();
    int fd = h2_connect(fb_server_port(rig.server));
    (void)flood(fd, ENQUEUE, "\x0a\x04late", 5000);
    (void)flood(fd, CONSUME, "\x0a\x01q", 10); /* the stream numbers are used: a protocol error */
    rig_close(&rig);
    (void)close(fd);
}

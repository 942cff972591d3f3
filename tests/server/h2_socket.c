/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "server/h2_socket.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

int tcp_connect(uint16_t port)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct timeval limit = {.tv_sec = 10};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof to)) {
        perror("connect");
        abort();
    }
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    return fd;
}

static bool write_all(int fd, const void *bytes, size_t len)
{
    const char *at = bytes;
    while (len) {
        ssize_t n = send(fd, at, len, MSG_NOSIGNAL);
        if (n <= 0) {
            return false;
        }
        at += n;
        len -= (size_t)n;
    }
    return true;
}

bool h2_write(int fd, int type, int flags, uint32_t stream, const void *payload, size_t len)
{
    uint8_t frame[9 + 16384];
    const uint8_t head[9] = {
        (uint8_t)(len >> 16),    (uint8_t)(len >> 8),    (uint8_t)len,
        (uint8_t)type,           (uint8_t)flags,         (uint8_t)(stream >> 24),
        (uint8_t)(stream >> 16), (uint8_t)(stream >> 8), (uint8_t)stream,
    };
    if (len > sizeof frame - sizeof head) {
        abort();
    }
    memcpy(frame, head, sizeof head);
    if (len) {
        memcpy(frame + sizeof head, payload, len);
    }
    return write_all(fd, frame, sizeof head + len);
}

int h2_connect(uint16_t port)
{
    static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    int fd = tcp_connect(port);
    if (!write_all(fd, preface, sizeof preface - 1) || !h2_write(fd, H2_SETTINGS, 0, 0, NULL, 0)) {
        abort();
    }
    return fd;
}

static uint8_t *literal(uint8_t *out, const char *text)
{
    uint8_t *at = out + 1;
    while (*text) {
        *at++ = (uint8_t)*text++;
    }
    *out = (uint8_t)(at - out - 1);
    return at;
}

size_t h2_headers(const char *path, uint8_t *out)
{
    uint8_t *at = out;
    *at++ = 0x83; /* :method POST */
    *at++ = 0x86; /* :scheme http */
    *at++ = 0x04;
    at = literal(at, path);
    *at++ = 0x01; /* :authority */
    at = literal(at, "localhost");
    *at++ = 0x0f; /* content-type */
    *at++ = 0x10;
    at = literal(at, "application/grpc");
    *at++ = 0x00;
    at = literal(at, "te");
    at = literal(at, "trailers");
    return (size_t)(at - out);
}

bool h2_request(int fd, uint32_t stream, const char *path, const void *message, size_t len)
{
    uint8_t headers[512];
    uint8_t data[5 + 1024] = {0, 0, 0, (uint8_t)(len >> 8), (uint8_t)len};
    if (len > sizeof data - 5) {
        abort();
    }
    memcpy(data + 5, message, len);
    return h2_write(fd, H2_HEADERS, 4, stream, headers, h2_headers(path, headers)) &&
           h2_write(fd, H2_DATA, 1, stream, data, 5 + len);
}

static bool read_all(int fd, void *out, size_t len)
{
    char *at = out;
    while (len) {
        ssize_t n = recv(fd, at, len, 0);
        if (n <= 0) {
            return false;
        }
        at += n;
        len -= (size_t)n;
    }
    return true;
}

bool h2_read(int fd, struct h2_frame *ret_frame)
{
    uint8_t head[9];
    if (!read_all(fd, head, sizeof head)) {
        return false;
    }
    ret_frame->len = (size_t)head[0] << 16 | (size_t)head[1] << 8 | head[2];
    ret_frame->type = head[3];
    ret_frame->flags = head[4];
    ret_frame->stream = (uint32_t)(head[5] & 127) << 24 | (uint32_t)head[6] << 16 |
                        (uint32_t)head[7] << 8 | head[8];
    if (ret_frame->len >= sizeof ret_frame->payload) {
        abort();
    }
    return read_all(fd, ret_frame->payload, ret_frame->len);
}

/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "grpc_url.h"

#include "base/error.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <strings.h>
#include <sys/un.h>

#define SCHEME       "grpc://"
#define FORMS        "accepted: grpc://HOST[:PORT], grpc://[IPV6][:PORT], grpc://unix:/PATH"
#define LONGEST_HOST 253

enum host_kind {
    HOST_BAD,
    HOST_NAME,
    HOST_IPV4,
    HOST_IPV6 /* in brackets */
};

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_name_byte(char c)
{
    return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' ||
           c == '_' || c == '.';
}

/* 0 when it is no port. */
static unsigned port_of(fila_view text)
{
    unsigned port = 0;
    if (text.len == 0 || text.len > 5) {
        return 0;
    }
    for (size_t i = 0; i < text.len; i++) {
        if (!is_digit(text.data[i])) {
            return 0;
        }
        port = port * 10 + (unsigned)(text.data[i] - '0');
    }
    return port <= 65535 ? port : 0;
}

static bool is_address(int family, fila_view text)
{
    char copy[INET6_ADDRSTRLEN];
    struct in6_addr out;
    if (text.len == 0 || text.len >= sizeof copy || memchr(text.data, '\0', text.len)) {
        return false;
    }
    memcpy(copy, text.data, text.len);
    copy[text.len] = '\0';
    return inet_pton(family, copy, &out) == 1;
}

static enum host_kind kind_of(fila_view host)
{
    bool only_numbers = true;
    if (host.len == 0 || host.len > LONGEST_HOST) {
        return HOST_BAD;
    }
    if (host.data[0] == '[') {
        fila_view inner = {host.data + 1, host.len - 2};
        bool closed = host.len > 2 && host.data[host.len - 1] == ']';
        return closed && is_address(AF_INET6, inner) ? HOST_IPV6 : HOST_BAD;
    }
    for (size_t i = 0; i < host.len; i++) {
        if (!is_name_byte(host.data[i])) {
            return HOST_BAD;
        }
        only_numbers = only_numbers && (is_digit(host.data[i]) || host.data[i] == '.');
    }
    if (only_numbers) {
        return is_address(AF_INET, host) ? HOST_IPV4 : HOST_BAD;
    }
    return host.data[0] == '.' || host.data[0] == '-' ? HOST_BAD : HOST_NAME;
}

/* Cuts HOST[:PORT] in two; *ret_port is empty without a colon, and then *ret_colon is false. */
static void split(fila_view text, fila_view *ret_host, fila_view *ret_port, bool *ret_colon)
{
    size_t end = 0;
    if (text.len && text.data[0] == '[') {
        const char *close = memchr(text.data, ']', text.len);
        end = close ? (size_t)(close - text.data) + 1 : text.len;
    } else {
        const char *colon = memchr(text.data, ':', text.len);
        end = colon ? (size_t)(colon - text.data) : text.len;
    }
    *ret_host = (fila_view){text.data, end};
    *ret_colon = end < text.len && text.data[end] == ':';
    *ret_port = *ret_colon ? (fila_view){text.data + end + 1, text.len - end - 1}
                           : (fila_view){text.data + end, 0};
    if (end < text.len && !*ret_colon) {
        ret_host->len = 0; /* something behind the bracket */
    }
}

static fila_status parse_unix(const char *url, struct fg_address *ret, fila_error *reterr)
{
    static const char hex[] = "0123456789ABCDEF";
    const char *path = url + sizeof SCHEME - 1 + sizeof "unix:" - 1;
    size_t room = sizeof((struct sockaddr_un *)NULL)->sun_path;
    size_t at = 0;
    if (path[0] != '/') {
        return fila_fail(
            reterr, FILA_INVALID_ARGUMENT,
            "URL \"%s\": the socket's path must begin with /; " FORMS, url);
    }
    if (strlen(path) >= room) {
        return fila_fail(
            reterr, FILA_INVALID_ARGUMENT,
            "URL \"%s\": the socket's path has %zu bytes, at most %zu are possible", url,
            strlen(path), room - 1);
    }
    (void)snprintf(ret->name, sizeof ret->name, "unix:%s", path);
    (void)snprintf(ret->authority, sizeof ret->authority, "localhost");
    at = (size_t)snprintf(ret->target, sizeof ret->target, "unix://");
    for (const char *p = path; *p; p++) {
        if (is_name_byte(*p) || *p == '/') {
            ret->target[at++] = *p;
        } else {
            ret->target[at++] = '%';
            ret->target[at++] = hex[(unsigned char)*p >> 4];
            ret->target[at++] = hex[(unsigned char)*p & 15];
        }
    }
    ret->target[at] = '\0';
    return FILA_OK;
}

static fila_status bad_host(const char *url, fila_view host, fila_view all, fila_error *reterr)
{
    if (is_address(AF_INET6, all)) {
        return fila_fail(
            reterr, FILA_INVALID_ARGUMENT,
            "URL \"%s\": an IPv6 address needs brackets: grpc://[%.*s]", url, (int)all.len,
            all.data);
    }
    if (host.len == 0) {
        return fila_fail(reterr, FILA_INVALID_ARGUMENT, "URL \"%s\" names no host; " FORMS, url);
    }
    return fila_fail(
        reterr, FILA_INVALID_ARGUMENT, "URL \"%s\": \"%.*s\" is no host name or address; " FORMS,
        url, (int)host.len, host.data);
}

fila_status fg_address_parse(const char *url, struct fg_address *ret_address, fila_error *reterr)
{
    static const char *const prefix[] = {
        [HOST_NAME] = "dns", [HOST_IPV4] = "ipv4", [HOST_IPV6] = "ipv6"};
    fila_view rest = {0}, host = {0}, port_text = {0};
    bool has_port = false;
    if (!url || strncasecmp(url, SCHEME, sizeof SCHEME - 1) != 0) {
        return fila_fail(
            reterr, FILA_INVALID_ARGUMENT, "URL \"%s\" does not begin with " SCHEME "; " FORMS,
            url ? url : "");
    }
    rest = fila_view_of(url + sizeof SCHEME - 1);
    if (strncmp(rest.data, "unix:", 5) == 0 && !port_of((fila_view){rest.data + 5, rest.len - 5})) {
        return parse_unix(url, ret_address, reterr);
    }
    if (memchr(rest.data, '@', rest.len)) {
        return fila_fail(
            reterr, FILA_INVALID_ARGUMENT,
            "the URL has user information before an @; a key belongs into api_key");
    }
    if (rest.len && rest.data[rest.len - 1] == '/') {
        rest.len--;
    }
    split(rest, &host, &port_text, &has_port);
    enum host_kind kind = kind_of(host);
    if (kind == HOST_BAD || (has_port && kind == HOST_NAME && is_address(AF_INET6, rest))) {
        return bad_host(url, host, rest, reterr);
    }
    unsigned port = has_port ? port_of(port_text) : FG_DEFAULT_PORT;
    if (port == 0) {
        return fila_fail(
            reterr, FILA_INVALID_ARGUMENT, "URL \"%s\": \"%.*s\" is no port; it must be 1 to 65535",
            url, (int)port_text.len, port_text.data);
    }
    (void)snprintf(
        ret_address->name, sizeof ret_address->name, "%.*s:%u", (int)host.len, host.data, port);
    (void)snprintf(
        ret_address->target, sizeof ret_address->target, "%s:///%s", prefix[kind],
        ret_address->name);
    memcpy(ret_address->authority, ret_address->name, sizeof ret_address->authority);
    return FILA_OK;
}

static bool is_wildcard(enum host_kind kind, fila_view host)
{
    static const struct in6_addr any6; /* all zero */
    char copy[INET6_ADDRSTRLEN + 2];
    struct in6_addr out6;
    struct in_addr out4;
    fila_view text = kind == HOST_IPV6 ? (fila_view){host.data + 1, host.len - 2} : host;
    if (kind == HOST_NAME) {
        return false;
    }
    memcpy(copy, text.data, text.len);
    copy[text.len] = '\0';
    if (kind == HOST_IPV6) {
        return inet_pton(AF_INET6, copy, &out6) == 1 && memcmp(&out6, &any6, sizeof any6) == 0;
    }
    return inet_pton(AF_INET, copy, &out4) == 1 && out4.s_addr == 0;
}

bool fg_is_host_port(fila_view text)
{
    fila_view host = {0}, port = {0};
    bool has_port = false;
    split(text, &host, &port, &has_port);
    enum host_kind kind = kind_of(host);
    return kind != HOST_BAD && has_port && port_of(port) != 0 && !is_wildcard(kind, host);
}

/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * The grpc:// URLs: what they name, and what is said about those that name nothing.
 */
#include "src/grpc_url.h"
#include "src/transport.h"

#include <criterion/criterion.h>

#include <string.h>

TestSuite(url, .timeout = 10);

Test(url, good_ones)
{
    static const struct {
        const char *url;
        const char *target;
        const char *name;
    } rows[] = {
        {"grpc://localhost:5555", "dns:///localhost:5555", "localhost:5555"},
        {"GRPC://localhost:5555", "dns:///localhost:5555", "localhost:5555"},
        {"grpc://localhost", "dns:///localhost:5555", "localhost:5555"},
        {"grpc://fila-0.fila.svc:1/", "dns:///fila-0.fila.svc:1", "fila-0.fila.svc:1"},
        {"grpc://my_host:65535", "dns:///my_host:65535", "my_host:65535"},
        {"grpc://127.0.0.1:80", "ipv4:///127.0.0.1:80", "127.0.0.1:80"},
        {"grpc://10.0.0.1", "ipv4:///10.0.0.1:5555", "10.0.0.1:5555"},
        {"grpc://[::1]:5556", "ipv6:///[::1]:5556", "[::1]:5556"},
        {"grpc://[fe80::2]", "ipv6:///[fe80::2]:5555", "[fe80::2]:5555"},
        {"grpc://unix:77", "dns:///unix:77", "unix:77"},
        {"grpc://unix:/run/fila.sock", "unix:///run/fila.sock", "unix:/run/fila.sock"},
        {"grpc://unix:/tmp/a b%c", "unix:///tmp/a%20b%25c", "unix:/tmp/a b%c"},
    };

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct fg_address address;
        fila_error error = FILA_ERROR_INIT;
        cr_expect_eq(
            fg_address_parse(rows[i].url, &address, &error), FILA_OK, "%s: %s", rows[i].url,
            error.text);
        cr_expect_str_eq(address.target, rows[i].target);
        cr_expect_str_eq(address.name, rows[i].name);
    }
}

#define FORMS "accepted: grpc://HOST[:PORT], grpc://[IPV6][:PORT], grpc://unix:/PATH"

Test(url, bad_ones)
{
    static const struct {
        const char *url;
        const char *text;
    } rows[] = {
        {NULL, "URL \"\" does not begin with grpc://; " FORMS},
        {"", "URL \"\" does not begin with grpc://; " FORMS},
        {"localhost:5555", "URL \"localhost:5555\" does not begin with grpc://; " FORMS},
        {"grpc:localhost", "URL \"grpc:localhost\" does not begin with grpc://; " FORMS},
        {"grpc://", "URL \"grpc://\" names no host; " FORMS},
        {"grpc:///", "URL \"grpc:///\" names no host; " FORMS},
        {"grpc://:5555", "URL \"grpc://:5555\" names no host; " FORMS},
        {"grpc://a b", "URL \"grpc://a b\": \"a b\" is no host name or address; " FORMS},
        {"grpc://host/path",
         "URL \"grpc://host/path\": \"host/path\" is no host name or address; " FORMS},
        {"grpc://host?x=1",
         "URL \"grpc://host?x=1\": \"host?x=1\" is no host name or address; " FORMS},
        {"grpc://.host", "URL \"grpc://.host\": \".host\" is no host name or address; " FORMS},
        {"grpc://300.1.1.1",
         "URL \"grpc://300.1.1.1\": \"300.1.1.1\" is no host name or address; " FORMS},
        {"grpc://127.1:80",
         "URL \"grpc://127.1:80\": \"127.1\" is no host name or address; " FORMS},
        {"grpc://::1", "URL \"grpc://::1\": an IPv6 address needs brackets: grpc://[::1]"},
        {"grpc://fe80::1",
         "URL \"grpc://fe80::1\": an IPv6 address needs brackets: grpc://[fe80::1]"},
        {"grpc://[::1", "URL \"grpc://[::1\": \"[::1\" is no host name or address; " FORMS},
        {"grpc://[::1]5", "URL \"grpc://[::1]5\" names no host; " FORMS},
        {"grpc://[::g]:1", "URL \"grpc://[::g]:1\": \"[::g]\" is no host name or address; " FORMS},
        {"grpc://host:", "URL \"grpc://host:\": \"\" is no port; it must be 1 to 65535"},
        {"grpc://host:0", "URL \"grpc://host:0\": \"0\" is no port; it must be 1 to 65535"},
        {"grpc://host:65536",
         "URL \"grpc://host:65536\": \"65536\" is no port; it must be 1 to 65535"},
        {"grpc://host:5a", "URL \"grpc://host:5a\": \"5a\" is no port; it must be 1 to 65535"},
        {"grpc://host:-1", "URL \"grpc://host:-1\": \"-1\" is no port; it must be 1 to 65535"},
        {"grpc://a:1:2", "URL \"grpc://a:1:2\": \"1:2\" is no port; it must be 1 to 65535"},
        {"grpc://user:secret@host",
         "the URL has user information before an @; a key belongs into api_key"},
        {"grpc://unix:fila.sock",
         "URL \"grpc://unix:fila.sock\": the socket's path must begin with /; " FORMS},
    };

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct fg_address address = {.name = "untouched"};
        fila_error error = FILA_ERROR_INIT;
        cr_expect_eq(
            fg_address_parse(rows[i].url, &address, &error), FILA_INVALID_ARGUMENT, "%s",
            rows[i].url);
        cr_expect_str_eq(error.text, rows[i].text);
        cr_expect_str_eq(address.name, "untouched");
    }
}

Test(url, a_socket_path_has_a_limit)
{
    char url[200] = "grpc://unix:/";
    struct fg_address address;
    fila_error error = FILA_ERROR_INIT;
    memset(url + 13, 'x', 106);
    cr_expect_eq(fg_address_parse(url, &address, &error), FILA_OK);
    memset(url + 13, 'x', 107);
    cr_expect_eq(fg_address_parse(url, &address, &error), FILA_INVALID_ARGUMENT);
    cr_expect(
        strstr(error.text, "the socket's path has 108 bytes, at most 107 are possible"), "%s",
        error.text);
}

Test(url, who_may_be_a_leader)
{
    static const struct {
        const char *text;
        bool good;
    } rows[] = {
        {"node-2:5555", true},      {"10.0.0.2:5555", true},
        {"[fd00::2]:5555", true},   {"0.0.0.0:5555", false},
        {"[::]:5555", false},       {"[0::0]:5555", false},
        {"node-2", false},          {"node-2:", false},
        {":5555", false},           {"", false},
        {"http://node-2:1", false}, {"a b:1", false},
        {"node-2:99999", false},    {"node-2:1\n", false},
    };

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        cr_expect_eq(fg_is_host_port(fila_view_of(rows[i].text)), rows[i].good, "%s", rows[i].text);
    }
}

static void refuses(fila_client_options options, const char *text)
{
    struct fila_transport *t = NULL;
    fila_error error = FILA_ERROR_INIT;
    cr_expect_eq(fila_grpc_transport.open(&options, &t, &error), FILA_INVALID_ARGUMENT, "%s", text);
    cr_expect_str_eq(error.text, text);
    cr_expect_null(t);
}

Test(url, options_out_of_range)
{
    fila_client_options good = FILA_CLIENT_OPTIONS_INIT;
    good.url = "grpc://localhost";
    fila_client_options o = good;
    o.tls_ca = "/etc/ca.pem";
    refuses(o, "TLS files are given, but the URL \"grpc://localhost\" is not encrypted");
    o = good;
    o.api_key = "sec ret";
    refuses(o, "the API key holds a space, a control character or one that is not ASCII");
    o = good;
    o.calls_in_flight = 0;
    refuses(o, "calls_in_flight is 0; it must be 1 to 4096");
    o = good;
    o.window = 100;
    refuses(o, "window is 100 bytes; it must be 1024 to 1073741824");
    o = good;
    o.receive_limit = 0;
    refuses(o, "receive_limit is 0 bytes");
    o = good;
    o.keepalive_timeout_ms = 0;
    refuses(o, "keepalive_ms is 10000, but keepalive_timeout_ms is 0");
}

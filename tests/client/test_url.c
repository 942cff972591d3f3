/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * Which URLs and options open a client, and what is said about the others.
 */
#include "fila/client.h"

#include <criterion/criterion.h>

#include <stdio.h>

#define FORMS "accepted: grpc://HOST:PORT, grpc://unix:/PATH, embedded:"

struct row {
    const char *url;
    fila_status code;
    const char *text;
};

Test(url, those_that_no_transport_takes)
{
    static const struct row rows[] = {
        {NULL, FILA_INVALID_ARGUMENT, "no broker URL; " FORMS},
        {"", FILA_INVALID_ARGUMENT, "no broker URL; " FORMS},
        {"localhost", FILA_INVALID_ARGUMENT, "URL \"localhost\" names no transport; " FORMS},
        {"localhost:5555", FILA_INVALID_ARGUMENT,
         "URL \"localhost:5555\" names no transport; " FORMS},
        {"http://h:1", FILA_INVALID_ARGUMENT, "URL \"http://h:1\" names no transport; " FORMS},
        {"://h:1", FILA_INVALID_ARGUMENT, "URL \"://h:1\" names no transport; " FORMS},
        {" grpc://h:1", FILA_INVALID_ARGUMENT, "URL \" grpc://h:1\" names no transport; " FORMS},
        {"grpcs://h:1", FILA_UNSUPPORTED,
         "URL \"grpcs://h:1\": this build has no grpcs transport; " FORMS},
        {"fila://h:1", FILA_UNSUPPORTED,
         "URL \"fila://h:1\": this build has no fila transport; " FORMS},
        {"FILAS://h:1", FILA_UNSUPPORTED,
         "URL \"FILAS://h:1\": this build has no filas transport; " FORMS},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        fila_client_options options = FILA_CLIENT_OPTIONS_INIT;
        fila_client *client = NULL;
        fila_error error = FILA_ERROR_INIT;
        options.url = rows[i].url;
        cr_expect_eq(fila_client_open(&options, &client, &error), rows[i].code, "row %zu", i);
        cr_expect_str_eq(error.text, rows[i].text);
        cr_expect_eq(client, NULL);
    }
}

Test(url, a_url_longer_than_the_error_text)
{
    char url[1024];
    fila_client_options options = FILA_CLIENT_OPTIONS_INIT;
    fila_client *client = NULL;
    fila_error error = FILA_ERROR_INIT;
    memset(url, 'u', sizeof url - 1);
    url[sizeof url - 1] = '\0';
    options.url = url;
    cr_expect_eq(fila_client_open(&options, &client, &error), FILA_INVALID_ARGUMENT);
    cr_expect_eq(strlen(error.text), FILA_ERROR_TEXT - 1);
}

Test(url, options)
{
    fila_client_options options = FILA_CLIENT_OPTIONS_INIT;
    fila_client *client = NULL;
    fila_error error = FILA_ERROR_INIT;
    char want[128];
    options.url = "embedded:";
    options.call_timeout_ms = 0;
    cr_expect_eq(fila_client_open(&options, &client, &error), FILA_INVALID_ARGUMENT);
    cr_expect_str_eq(error.text, "call_timeout_ms is 0");
    const size_t sizes[] = {0, 8, sizeof options + 1};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        options.size = sizes[i];
        (void)snprintf(
            want, sizeof want,
            "options of size %zu, this library knows %zu: use FILA_CLIENT_OPTIONS_INIT", sizes[i],
            sizeof options);
        cr_expect_eq(fila_client_open(&options, &client, &error), FILA_INVALID_ARGUMENT);
        cr_expect_str_eq(error.text, want);
    }
}

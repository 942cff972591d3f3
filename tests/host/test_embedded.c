/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * embedded: URLs, row by row.
 */
#include "host/embedded.h"

#include <criterion/criterion.h>

#include <stdio.h>
#include <unistd.h>

struct row {
    const char *url;
    fila_status status;
    const char *text; /* of the error; NULL = none */
};

static const struct row ROWS[] = {
    {"embedded:", FILA_OK, NULL},
    {"embedded:?listen=127.0.0.1:0", FILA_OK, NULL},
    {"embedded:?listen=127.0.0.1:0&sync=normal", FILA_OK, NULL},
    {"embedded:?sync=full", FILA_OK, NULL},
    {"embedded:?port=1", FILA_INVALID_ARGUMENT,
     "\"embedded:?port=1\": unknown parameter \"port=1\"; there are listen=HOST:PORT and sync=full|normal"},
    {"embedded:?sync=off", FILA_INVALID_ARGUMENT,
     "\"embedded:?sync=off\": sync is full or normal, not \"off\""},
    {"embedded:?listen=", FILA_INVALID_ARGUMENT, "\"embedded:?listen=\": listen wants HOST:PORT"},
};

Test(embedded, urls)
{
    for (size_t i = 0; i < sizeof ROWS / sizeof *ROWS; i++) {
        fila_broker *broker = NULL;
        fila_error error = FILA_ERROR_INIT;
        fila_status status = fw_embedded_open(ROWS[i].url, &broker, &error);
        cr_expect_eq(status, ROWS[i].status, "%s gave %s", ROWS[i].url, fila_status_name(status));
        cr_expect_str_eq(error.text, ROWS[i].text ? ROWS[i].text : "");
        cr_expect_eq(broker != NULL, ROWS[i].status == FILA_OK);
        fila_broker_free(broker);
    }
}

Test(embedded, knows_its_own_urls)
{
    cr_expect(fw_embedded_url("embedded:"));
    cr_expect(fw_embedded_url("embedded:?listen=:0"));
    cr_expect_not(fw_embedded_url("grpc://embedded:5555"));
    cr_expect(fw_embedded_has_file("embedded:x.db?listen=:0"));
    cr_expect_not(fw_embedded_has_file("embedded:?listen=:0"));
    cr_expect_not(fw_embedded_has_file("embedded:"));
}

Test(embedded, listens_on_a_free_port)
{
    fila_broker *broker = NULL;
    fila_error error = FILA_ERROR_INIT;
    cr_assert_eq(
        fw_embedded_open("embedded:?listen=127.0.0.1:0", &broker, &error), FILA_OK, "%s",
        error.text);
    cr_expect_gt(fila_broker_port(broker), 0);
    fila_broker_free(broker);
}

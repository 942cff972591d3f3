/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * URLs and leader hints of any bytes: a target that is made is one line within its bounds, names
 * the host, and what names a leader also makes a URL.
 */
#include "src/grpc_url.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool ok)
{
    if (!ok) {
        abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fg_address address = {.name = ""};
    fila_error error = FILA_ERROR_INIT;
    char *url = malloc(size + 16);
    memcpy(url, data, size);
    url[size] = '\0';
    if (fg_address_parse(url, &address, &error) == FILA_OK) {
        must(strlen(address.target) < sizeof address.target);
        must(strlen(address.name) > 0 && strlen(address.authority) > 0);
        must(strstr(address.target, ":///") != NULL);
    } else {
        must(error.code == FILA_INVALID_ARGUMENT && strlen(error.text) > 0);
        must(address.name[0] == '\0');
    }
    fila_view hint = {(const char *)data, size};
    if (fg_is_host_port(hint)) {
        (void)snprintf(url, size + 16, "grpc://%.*s", (int)size, (const char *)data);
        must(fg_address_parse(url, &address, &error) == FILA_OK);
        must(strlen(address.name) <= size);
    }
    free(url);
    return 0;
}

/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * A build without libmicrohttpd.
 */
#include "base/error.h"
#include "http/http.h"

bool fw_http_available(void)
{
    return false;
}

fila_status fw_http_start(
    const struct fw_http_options *options,
    struct fw_http **ret_http,
    fila_error *reterr)
{
    (void)options;
    (void)ret_http;
    return fila_fail(
        reterr, FILA_UNSUPPORTED, "this build has no HTTP (it was made without libmicrohttpd)");
}

void fw_http_stop(struct fw_http *http)
{
    (void)http;
}

/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * A plugin that was compiled against an earlier minor of the ABI runs on this host: kept/ has the
 * binaries, with their sources and how they were made.
 */
#include "plugin/one.h"

#include <criterion/criterion.h>

#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__) && defined(__LP64__) && defined(__GLIBC__)

TestSuite(kept, .timeout = 60);

Test(kept, abi_1_0_runs)
{
    fila_error error = FILA_ERROR_INIT;
    (void)setenv("FILA_API_KEY", "secret", 1); // NOLINT(concurrency-mt-unsafe)
    (void)setenv("PASSED", "through", 1);      // NOLINT(concurrency-mt-unsafe)
    const one_options options = {"word=old", "pause=250ms"};
    cr_assert_eq(
        one_open(TEST_KEPT "/abi-1.0.x86_64.so", options, &error), FILA_OK, "%s", error.text);
    const fila_header headers[] = {{fila_view_of("who"), fila_view_of("Ishmael")}};
    struct one_result result = one_run(&(struct one_message){
        .payload = "call me",
        .payload_len = 7,
        .headers = headers,
        .header_count = 1,
        .fairness_key = "sea",
        .attempt = 3,
    });
    cr_expect_eq(result.kind, FW_RETRY);
    cr_expect_eq(result.cause, FW_CAUSE_CRASH);
    cr_expect_str_eq(
        result.reason, "old 250 1, who=Ishmael, call me of orders try 3 key sea, 1 0 1");
    result = one_run(&(struct one_message){.payload = "x", .payload_len = 1, .fairness_key = ""});
    cr_expect_eq(result.kind, FW_ACK, "deferred and completed: %s", result.reason);
    one_close();
}

Test(kept, abi_1_0_has_its_options_checked)
{
    fila_error error = FILA_ERROR_INIT;
    const one_options options = {"word=old", "pause=1ms"};
    cr_assert_eq(one_open(TEST_KEPT "/abi-1.0.x86_64.so", options, &error), FILA_INVALID_ARGUMENT);
    cr_assert_str_eq(error.text, "pause: 1ms is out of range; it takes 100ms to 1min");
}

#endif

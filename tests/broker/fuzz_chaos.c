/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * Faults as text: whatever the text, it is read or refused, and an error is inside of it.
 */
#include "broker/broker.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *spec = malloc(size + 1);
    fila_error error = FILA_ERROR_INIT;
    size_t at = 0;
    if (!spec) {
        return 0;
    }
    if (size) {
        memcpy(spec, data, size);
    }
    spec[size] = '\0';
    if (fila_chaos_check(spec, &at, &error) == FILA_OK) {
        struct fb_chaos_rule rule;
        uint64_t seed = 0;
        size_t next = 0;
        while (fb_chaos_next(spec, &next, &rule, &seed, NULL)) {
            if (next <= at || rule.fault.nth == 0 || rule.fault.kind == 0 ||
                rule.queue.len > strlen(spec)) {
                abort();
            }
            at = next;
        }
        if (next != strlen(spec)) {
            abort();
        }
    } else if (at > strlen(spec) || error.text[0] == '\0') {
        abort();
    }
    free(spec);
    return 0;
}

/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * Requests to the control socket: whatever the bytes are, they are refused with a reason, or make a
 * request that is within its bounds.
 */
#include "ctl/request.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fw_ctl_request request;
    char why[256] = "";
    char *line = malloc(size + 1); /* exactly: a read past the end is found */
    if (!line) {
        return 0;
    }
    if (size) {
        memcpy(line, data, size);
    }
    if (fw_ctl_parse(line, size, &request, why, sizeof why)) {
        if (request.verb >= FW_CTL_VERB_COUNT || request.per_second < 1 ||
            request.per_second > 1000 || request.concurrency > 4096 || !(request.rate >= 0) ||
            memchr(request.queue, '\0', sizeof request.queue) == NULL) {
            abort();
        }
    } else if (why[0] == '\0') {
        abort();
    }
    free(line);
    return 0;
}

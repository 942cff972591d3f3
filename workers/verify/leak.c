/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "leak.h"

#include "state.h"

#include <inttypes.h>

#define LEAST    8u  /* steps that tell anything */
#define SMALLEST 16u /* bytes a step: the least that malloc gives */

void fw_verify_leak_begin(struct fw_verify_leak *leak)
{
    leak->done = 0;
    leak->at[0] = fw_verify_allocated();
}

void fw_verify_leak_step(struct fw_verify_leak *leak)
{
    if (leak->done < FW_VERIFY_LEAK_STEPS) {
        leak->done++;
        leak->at[leak->done] = fw_verify_allocated();
    }
}

void fw_verify_leak_end(const struct fw_verify_leak *leak, struct fw_verify_page *page)
{
    size_t quarter = leak->done / 4;
    uint64_t least = UINT64_MAX;
    for (size_t i = 1; i < 4; i++) { /* the first quarter fills caches */
        uint64_t from = leak->at[i * quarter];
        uint64_t to = leak->at[(i + 1) * quarter];
        uint64_t growth = to > from ? to - from : 0;
        least = growth < least ? growth : least;
    }
    if (leak->done >= LEAST && least / quarter >= SMALLEST) {
        fw_verify_note(
            page, FW_VERIFY_LEAK, "%s: about %" PRIu64 " bytes each time", leak->name,
            least / quarter);
    }
}

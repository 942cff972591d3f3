/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * What each path answers. Pages that need a look at the worker are made at most once in
 * FW_PAGE_FRESH and shared by all who ask meanwhile; what is on its way to slow readers is bounded
 * by FW_PAGES_BYTES (beyond it, the page that there is goes out again, however old). Thread: HTTP.
 */
#ifndef FW_HTTP_ANSWER_H
#define FW_HTTP_ANSWER_H

#include "base/clock.h"
#include "status/snapshot.h"

#include <microhttpd.h>

#define FW_PAGE_FRESH  (100 * FILA_MS)
#define FW_PAGES_BYTES (6U << 20)

enum fw_page_kind {
    FW_PAGE_LIVEZ,
    FW_PAGE_READYZ,
    FW_PAGE_STARTUPZ,
    FW_PAGE_METRICS,
    FW_PAGE_STATUS,
    FW_PAGE_VERSION,
    FW_PAGE_PEOPLE,
    FW_PAGE_COUNT
};

struct fw_kept_page {
    struct MHD_Response *response; /* NULL = none yet */
    unsigned status;
    int64_t made_at;
};

/* Zero-initialize, then set source and loopback. */
struct fw_answers {
    const struct fw_status_source *source;
    bool loopback; /* then only names of this machine are answered (DNS rebinding) */
    size_t bytes;  /* of all pages that some client still reads, or that are kept */
    struct fw_kept_page pages[FW_PAGE_COUNT];
};

enum MHD_Result fw_answer(
    struct fw_answers *answers,
    struct MHD_Connection *connection,
    const char *path,
    const char *method);

/* After the daemon has ended. */
void fw_answers_fini(struct fw_answers *answers);

#endif

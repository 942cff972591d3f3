/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "base/error.h"
#include "page.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#define ROW(name, id, error, why, remedy) [FW_VERIFY_##name] = {id, error, why, remedy},
static const struct fw_verify_row ROWS[FW_VERIFY_FINDING_COUNT] = {FW_VERIFY_FINDINGS(ROW)};
#undef ROW

const struct fw_verify_row *fw_verify_row(enum fw_verify_finding finding)
{
    return &ROWS[finding];
}

const char *fw_verify_check_name(enum fw_verify_check check)
{
    static const char *const NAMES[] = {"file", "load", "life", "messages", "time", "threads"};
    return NAMES[check];
}

static bool known(
    const struct fw_verify_report *report,
    enum fw_verify_finding finding,
    const char *what)
{
    for (unsigned i = 0; i < report->count; i++) {
        if (report->items[i].finding == finding && !strcmp(report->items[i].what, what)) {
            return true;
        }
    }
    return false;
}

void fw_verify_add(
    struct fw_verify_report *report,
    enum fw_verify_check check,
    enum fw_verify_finding finding,
    const char *format,
    ...)
{
    struct fw_verify_item item = {.check = check, .finding = finding};
    va_list args;
    va_start(args, format);
    (void)vsnprintf(item.what, sizeof item.what, format, args);
    va_end(args);
    bool is_error = ROWS[finding].is_error;
    enum fw_verify_result result = is_error ? FW_VERIFY_FAILED : FW_VERIFY_WARNED;
    if (report->results[check] < result) {
        report->results[check] = result;
    }
    if (report->count == FW_VERIFY_ITEMS || known(report, finding, item.what)) {
        return;
    }
    report->items[report->count++] = item;
    report->errors += is_error;
    report->warnings += !is_error;
}

struct step {
    enum fw_verify_check check;
    fw_verify_body *body;
};

static void run_children(
    const struct fw_verify_options *options,
    struct fw_verify_page *page,
    struct fw_verify_report *report)
{
    static const struct step STEPS[] = {
        {FW_VERIFY_LOAD, fw_verify_load},         {FW_VERIFY_LIFE, fw_verify_life},
        {FW_VERIFY_MESSAGES, fw_verify_messages}, {FW_VERIFY_TIME, fw_verify_time},
        {FW_VERIFY_THREADS, fw_verify_threads},
    };
    for (size_t i = 0; i < sizeof STEPS / sizeof STEPS[0]; i++) {
        fw_verify_child(options, STEPS[i].check, STEPS[i].body, page, report);
        if (page->stop) {
            return;
        }
    }
}

fila_status fw_verify(
    const struct fw_verify_options *options,
    struct fw_verify_report *ret_report,
    fila_error *reterr)
{
    struct fw_verify_page *page =
        mmap(NULL, sizeof *page, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED) {
        return fila_fail(reterr, FILA_NO_MEMORY, "out of memory");
    }
    *ret_report = (struct fw_verify_report){.count = 0};
    if (fw_verify_file(options, ret_report)) {
        run_children(options, page, ret_report);
    }
    (void)munmap(page, sizeof *page);
    return FILA_OK;
}

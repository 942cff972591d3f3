/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * What lies in a state folder may be anything: the journal's reader and the crash record's take
 * what is whole and drop the rest. What the journal took, written and read again, is the same.
 */
#include "journal/crash.h"
#include "journal/file.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void journal(const uint8_t *data, size_t size)
{
    struct fw_boot boot = {.id = {0}};
    struct fw_journal_report first;
    struct fw_journal_report second;
    struct fw_journal_table *table = fw_journal_table_new(64, SIZE_MAX);
    struct fw_journal_table *again = fw_journal_table_new(64, SIZE_MAX);
    fw_journal_file_parse(data, size, &boot, 0, table, &first);
    size_t bytes = fw_journal_table_bytes(table);
    uint8_t *copy = malloc(FW_JOURNAL_HEAD + bytes);
    if (first.messages > 0) {
        memcpy(copy, data, FW_JOURNAL_HEAD);
        fw_journal_table_write_all(table, copy + FW_JOURNAL_HEAD);
        fw_journal_file_parse(copy, FW_JOURNAL_HEAD + bytes, &boot, 0, again, &second);
        if (second.messages > first.messages || second.cut_bytes != 0 ||
            (!first.rebooted && second.messages != first.messages)) {
            abort();
        }
    }
    free(copy);
    fw_journal_table_free(table);
    fw_journal_table_free(again);
}

/* The input lies at the start of the file, and again where the suspects are. */
static void crash(const uint8_t *data, size_t size)
{
    enum {
        WHOLE = FW_CRASH_HEAD + (FW_CRASH_RUNS + FW_CRASH_SUSPECTS) * FW_CRASH_SLOT,
        SUSPECTS = FW_CRASH_HEAD + FW_CRASH_RUNS * FW_CRASH_SLOT
    };

    static uint8_t file[WHOLE] __attribute__((aligned(64)));
    static const uint8_t boot[16];
    struct fw_crash_suspect found[16];
    struct fw_crash_report report;
    size_t part = size < 4096 ? size : 4096;
    memset(file, 0, FW_CRASH_HEAD);
    memcpy(file, "FILARUN1", 8);
    if (part > 0) {
        memcpy(file + FW_CRASH_HEAD, data, part);
        memcpy(file + SUSPECTS, data, part);
    }
    uint32_t count = fw_crash_parse(file, sizeof(file), boot, found, 16, &report);
    for (uint32_t i = 0; i < count; i++) {
        if (found[i].served.len + found[i].queue.len + found[i].id.len > FW_CRASH_NAMES) {
            abort();
        }
    }
    if (part > 0) {
        memset(file + FW_CRASH_HEAD, 0, part);
        memset(file + SUSPECTS, 0, part);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    journal(data, size);
    crash(data, size);
    return 0;
}

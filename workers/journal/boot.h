/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * Which boot of the machine this is. CLOCK_BOOTTIME means something within one boot only, and what
 * ran when the machine went down was not its killer. Thread: any.
 */
#ifndef FW_JOURNAL_BOOT_H
#define FW_JOURNAL_BOOT_H

#include <stdint.h>

enum {
    FW_BOOT_SIZE = 16
};

struct fw_boot {
    uint8_t id[FW_BOOT_SIZE]; /* all zero: not known */
    int64_t wall_offset;      /* wall clock less CLOCK_BOOTTIME, ns */
};

struct fw_boot fw_boot_now(void);

#endif

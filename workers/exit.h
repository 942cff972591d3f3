/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * Exit statuses of the program, as conventions.md lists them (sysexits.h where it has one).
 */
#ifndef FW_EXIT_H
#define FW_EXIT_H

enum fw_exit {
    FW_EXIT_OK = 0,
    FW_EXIT_FAILED = 1, /* the verb did not reach what it was for, e.g. `try` without an ack */
    FW_EXIT_USAGE = 64,
    FW_EXIT_PLUGIN = 66,      /* plugin missing or refused; an input file that cannot be read */
    FW_EXIT_UNREACHABLE = 69, /* no broker, or the broker refused */
    FW_EXIT_INTERNAL = 70,
    FW_EXIT_LATE = 75,      /* drain deadline passed, all left-overs returned */
    FW_EXIT_LATE_LEFT = 76, /* passed, and some could not be returned */
    FW_EXIT_CONFIG = 78
};

#endif

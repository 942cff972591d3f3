/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * A SQLite VFS over the real one, in which the nth thing that reaches the disk goes wrong: the
 * write fails, or the disk is full, or the process is gone. So a test meets each of them exactly,
 * and a crash at every one.
 *
 * What counts as an operation: each write, truncation, sync and deletion of a file. Thread: the
 * counters are atomic; plans are made while nothing runs, or by the one who stores.
 */
#ifndef TESTS_STORE_FAULTY_VFS_H
#define TESTS_STORE_FAULTY_VFS_H

#include <stdbool.h>
#include <stdint.h>

enum faulty_kind {
    FAULTY_NOTHING,
    FAULTY_EXIT,       /* _exit(FAULTY_STATUS) instead of it */
    FAULTY_EXIT_HALF,  /* half of a write is done first */
    FAULTY_EXIT_AFTER, /* it is done first */
    FAULTY_FULL,       /* it, and all until faulty_heal, fail: the disk is full */
    FAULTY_FULL_HALF,  /* the same, and half of the first write is done */
    FAULTY_ERROR,      /* it, and all until faulty_heal, fail: input/output error */
    FAULTY_SYNC_ERROR  /* syncs fail until faulty_heal */
};

#define FAULTY_STATUS 77

/* Becomes the default VFS; once. False if SQLite refuses. */
bool faulty_install(void);
/* The nth operation from now (1 = the next) goes wrong. */
void faulty_plan(enum faulty_kind kind, uint64_t nth);
void faulty_heal(void);
/* Operations since the start. */
uint64_t faulty_count(void);
/* How often something failed since the start. */
uint64_t faulty_failures(void);

#endif

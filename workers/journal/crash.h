/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * The crash record: which messages ran when the process died, and which of those have been tried
 * alone since.
 *
 * Properties. A mapped file of fixed size (1 MiB, allocated, so that a full disk cannot kill the
 * process later): a slot for each run, written before the run begins and cleared after it. A
 * store into memory, no system call, no lock.
 *
 * Operation. At the opening, what the last process left running are the suspects: each may have
 * killed it. One that ran alone did: that counts as a crash. Whoever serves a queue asks for its
 * suspects, runs each with nothing beside it (`alone`), and dead-letters those with
 * FW_CRASHES_ENOUGH crashes. A suspect that came to its end is none any more; one that a drain
 * stopped before is. What ran when the machine went down (another boot) is not suspected. A run
 * whose names do not fit its slot, or that finds no slot free, is not recorded: it cannot be found
 * out.
 *
 * What it cannot tell: who killed the process. A `kill -9` looks like a crash; it takes two of
 * them while the same message runs alone to blame it wrongly.
 *
 * Safety. One thread at a time: the opener's, then the owner's.
 */
#ifndef FW_JOURNAL_CRASH_H
#define FW_JOURNAL_CRASH_H

#include "fila/client.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    FW_CRASHES_ENOUGH = 2,
    FW_CRASH_RUNS = 2048, /* slots */
    FW_CRASH_SUSPECTS = 2048,
    FW_CRASH_SLOT = 256,                /* bytes of a slot */
    FW_CRASH_HEAD = 4096,               /* bytes before the first */
    FW_CRASH_NAMES = FW_CRASH_SLOT - 20 /* bytes of served queue, queue and id in all */
};

struct fw_crash;

/* A message that may have killed a process. The texts live as long as the record is open. */
struct fw_crash_suspect {
    fila_view served; /* the queue as configured */
    fila_view queue;  /* the message's own */
    fila_view id;
    uint32_t crashes; /* while it ran alone */
};

struct fw_crash_report {
    uint32_t running;   /* when the last process died */
    uint32_t suspects;  /* now */
    uint32_t convicted; /* of those, with FW_CRASHES_ENOUGH */
    uint32_t dropped;   /* damaged, or there was no room for them */
};

/* FILA_INVALID_ARGUMENT: the file cannot be made, for the reason in the text (a full disk, too);
 * FILA_NO_MEMORY. */
FILA_NODISCARD fila_status fw_crash_open(
    const char *dir,
    struct fw_crash **ret_crash,
    struct fw_crash_report *ret_report,
    fila_error *reterr);
/* In good order: what still runs did not crash. Takes NULL. */
void fw_crash_close(struct fw_crash *crash);

/* The next suspect of any queue; begin with *at = 0. False: there are no more. */
bool fw_crash_next(
    const struct fw_crash *crash,
    uint32_t *at,
    struct fw_crash_suspect *ret_suspect);

/* A run begins. The slot's number for the calls below, 0 = not recorded. */
uint32_t fw_crash_begin(
    struct fw_crash *crash,
    fila_view served,
    fila_view queue,
    fila_view id,
    bool alone);
/* Others run beside it from now on: if the process dies, that is no proof. */
void fw_crash_company(struct fw_crash *crash, uint32_t run);
/* The run is over. One that began alone came to its end: it is no suspect any more. */
void fw_crash_end(struct fw_crash *crash, uint32_t run);
/* The run is over because it was told to stop (a drain): what it would have done later nobody
 * knows, so a suspect stays one. */
void fw_crash_cut(struct fw_crash *crash, uint32_t run);
/* Its dead letter is confirmed, or it is known to be done: no suspect any more. */
void fw_crash_acquit(struct fw_crash *crash, fila_view served, fila_view queue, fila_view id);

/* For tests: makes of a file's bytes what an opening makes of them: the suspects that it would
 * have, at most `room`. */
uint32_t fw_crash_parse(
    const uint8_t *data,
    size_t size,
    const uint8_t boot[16],
    struct fw_crash_suspect *ret_suspects,
    uint32_t room,
    struct fw_crash_report *ret_report);

#endif

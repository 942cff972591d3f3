/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * The journal: what a worker knows of messages and would lose with its process. Which are done
 * although the broker may not know it yet; how often one has failed, and when it may run again.
 *
 * Properties. Append-only, each record with a checksum, written in groups with one fdatasync each.
 * Bounded: `limit` messages and `most_bytes`, the file some twice what they take. Who puts never
 * waits for the disk: a thread of the journal's own writes. What is put and taken back within one
 * group (a message that is done and acked at once) never reaches the disk.
 *
 * Operation. fw_journal_open reads what is there, cuts a torn tail, and writes a new file of what
 * still counts (to a new name, then renamed, the folder synced). Then the owner puts entries and
 * commits them at the end of each of its turns. When the disk is full or broken, the journal says
 * FW_JOURNAL_DOWN, goes on in memory, and tries to write a whole new file each few seconds; when
 * that works it says FW_JOURNAL_UP. It never stops the work.
 *
 * What it cannot cover: the last group (some ms, and as long as the disk takes to sync it) is lost
 * with a killed process, so a message that was done in that time may run again; a handler that was
 * killed half way has done half its work; and a message that another worker gets is not in this
 * one's journal. At least once stays at least once: the journal makes repetitions rare, handlers
 * still have to bear them.
 *
 * Safety. fw_journal_put and _commit: one thread, the owner. The others: see there.
 */
#ifndef FW_JOURNAL_H
#define FW_JOURNAL_H

#include "fila/client.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct fw_journal;

/* What is known of one message. All numbers 0: nothing, it is to be forgotten. The texts are
 * copied; none may be over 65,535 bytes (such a message is not kept). */
struct fw_journal_entry {
    fila_view served; /* the queue as configured */
    fila_view queue;  /* the message's own; with its id the name of the message */
    fila_view id;
    uint32_t tries;
    uint32_t attempt_seen; /* the broker's attempt count, highest seen */
    int64_t not_before;    /* CLOCK_BOOTTIME ns, 0 = none */
    uint8_t done;          /* 0, or 1 + the outcome that its ack makes */
    uint8_t doomed;        /* 0, or the cause for which it is dead-lettered without running */
};

enum fw_journal_event {
    FW_JOURNAL_DOWN, /* nothing is written any more; value: errno */
    FW_JOURNAL_UP,   /* it is again; value: messages in the new file */
    FW_JOURNAL_LOST  /* changes that were dropped for want of memory, or because the disk hangs;
                        value: their number */
};

/* On the journal's thread: note it, log it, do not wait. */
typedef void fw_journal_event_fn(void *user, enum fw_journal_event event, int64_t value);

struct fw_journal_options {
    const char *dir;     /* ours alone: see lock.h */
    uint32_t limit;      /* messages; 0 = 65,536 */
    size_t most_bytes;   /* of their records; 0 = 64 MiB */
    int64_t gather;      /* ns that a group is collected; 0 = 5 ms */
    int64_t retry;       /* ns between tries while it is down; 0 = 5 s */
    uint32_t least_file; /* bytes below which the file is not rewritten; 0 = 1 MiB */
    fw_journal_event_fn *on_event;
    void *user;
};

/* What was found at the opening. */
struct fw_journal_report {
    uint32_t messages;
    uint64_t cut_bytes; /* of a torn tail, or of a file that is none */
    bool rebooted;      /* the file is of an earlier boot: times were carried over by wall clock */
};

struct fw_journal_stats {
    uint64_t groups; /* written and synced */
    uint64_t bytes;  /* written, rewriting included */
    uint64_t rewrites;
    uint64_t lost;
    uint64_t file_bytes;
    bool down;
};

/* A disk that is full or broken is no error here (FW_JOURNAL_DOWN follows). FILA_NO_MEMORY;
 * FILA_INVALID_ARGUMENT: the path is too long. */
FILA_NODISCARD fila_status fw_journal_open(
    const struct fw_journal_options *options,
    struct fw_journal **ret_journal,
    struct fw_journal_report *ret_report,
    fila_error *reterr);
/* Writes what was committed, then ends the thread. Takes NULL. */
void fw_journal_close(struct fw_journal *journal);

/* Never blocks but for the length of a memcpy. */
void fw_journal_put(struct fw_journal *journal, const struct fw_journal_entry *entry);
/* Hands over what was put; the thread is woken if it sleeps. */
void fw_journal_commit(struct fw_journal *journal);

/* Waits until what was committed is on the disk, or cannot get there. Any thread but the owner. */
void fw_journal_sync(struct fw_journal *journal);
/* What is known of one served queue, oldest change first, in one block for free(); NULL when
 * nothing is (or no memory). May wait for a rewriting of the file: any thread but the owner. */
struct fw_journal_entry *fw_journal_load(
    struct fw_journal *journal,
    fila_view served,
    size_t *ret_count);
struct fw_journal_stats fw_journal_stats(struct fw_journal *journal); /* any thread */

#endif

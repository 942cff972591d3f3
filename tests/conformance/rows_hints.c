/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * Contract I, the pitfalls: most are consequences of facts that have a row already.
 */
#include "conformance/conformance.h"

#define SEE(ID, OTHER)         \
    {                          \
        .id = ID, .see = OTHER \
    }
#define UNSEEN(ID, WHY)         \
    {                           \
        .id = ID, .unseen = WHY \
    }

static const struct row ROWS[] = {
    SEE("I1", "A5.stale"),
    SEE("I2", "A5.small-window.1-KiB"),
    SEE("I3", "B5.traffic"),
    SEE("I4.duplicate", "B11.not-found"),
    SEE("I4.expired", "B11.reclaimed"),
    SEE("I5.ack", "B11.old-ack"),
    SEE("I5.nack", "B11.old-nack"),
    SEE("I6", "B7.loop"),
    SEE("I7", "B13.by-hand"),
    SEE("I8", "B7.script"),
    SEE("I9", "A6.disconnect.leases"),
    SEE("I10", "A6.disconnect.cycles"),
    UNSEEN(
        "I11",
        "ends of streams in a cluster, and of a dead scheduler; the fault FILA_FAULT_CUT makes them"),
    SEE("I12", "A4.4.missing-queue"),
    SEE("I13", "A4.7.calls"),
    SEE("I14", "A4.8.pings"),
    UNSEEN("I15", "the binary protocol"),
    SEE("I16", "A5.full"),
    SEE("I17", "A6.rotation.slow"),
    SEE("I18.overload", "A2.overload.scripted"),
    SEE("I18.limit", "A7.poison.client"),
    SEE("I19.enqueue", "B17.lost-reply"),
    SEE("I19.nack", "B11.old-nack"),
    SEE("I20", "B13.by-hand"),
    UNSEEN("I21", "a single node names no leader"),
    UNSEEN("I22", "API keys: an issue of their own"),
    UNSEEN("I23", "the server's log and load; nothing of it reaches a client"),
    UNSEEN(
        "I24",
        "needs the wall clock to jump; leases of this broker run on a clock that does not"),
    SEE("I25", "A7.names.long"),
    UNSEEN("I26", "a list of the facts above"),
};

const struct rows ROWS_HINTS = {ROWS, sizeof ROWS / sizeof ROWS[0]};

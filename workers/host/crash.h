/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * Named instants at which a worker of the fault tests dies as by kill -9, to show that no message
 * is lost at any of them (tests/faults.sh). Only in builds with -DFILA_CRASH_POINTS=ON; in others
 * nothing of this is compiled. FILA_CRASH_AT="NAME:N" in the environment: at the Nth passage.
 * Thread: any.
 */
#ifndef FW_HOST_CRASH_H
#define FW_HOST_CRASH_H

/* The fault tests read the names from here. */
#define FW_CRASH_POINTS(X)                          \
    X(STREAM_OPENED, "stream-opened")               \
    X(AFTER_READ, "after-read")                     \
    X(BEFORE_RUN, "before-run")                     \
    X(RUN_HANDED_OVER, "run-handed-over")           \
    X(AFTER_RUN, "after-run")                       \
    X(BEFORE_ACK, "before-ack")                     \
    X(ACK_HANDED_OVER, "ack-handed-over")           \
    X(ACK_ANSWERED, "ack-answered")                 \
    X(BEFORE_NACK, "before-nack")                   \
    X(NACK_ANSWERED, "nack-answered")               \
    X(BEFORE_DEAD_LETTER, "before-dead-letter")     \
    X(DEAD_LETTER_ANSWERED, "dead-letter-answered") \
    X(BEFORE_PUBLISH, "before-publish")             \
    X(PUBLISH_ANSWERED, "publish-answered")         \
    X(BEFORE_FINISH, "before-finish")               \
    X(BEFORE_RELOAD, "before-reload")               \
    X(AMID_RELOAD, "amid-reload")                   \
    X(DRAIN_BEGUN, "drain-begun")                   \
    X(DRAINED, "drained")

enum fw_crash_point {
#define FW_CRASH_ENUM(name, text) FW_CRASH_##name,
    FW_CRASH_POINTS(FW_CRASH_ENUM)
#undef FW_CRASH_ENUM
    FW_CRASH_COUNT
};

#ifdef FILA_CRASH_POINTS
void fw_crash_point(enum fw_crash_point point);
#    define FW_CRASH(name) fw_crash_point(FW_CRASH_##name)
#else
#    define FW_CRASH(name) ((void)0)
#endif

#endif

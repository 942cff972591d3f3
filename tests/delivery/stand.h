/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * A test stand for the delivery engine: a virtual clock, short names for events, and the commands
 * that came out, taken one by one by their kind. Every stand checks after each event that received
 * = finished + held. Thread: one.
 */
#ifndef TESTS_DELIVERY_STAND_H
#define TESTS_DELIVERY_STAND_H

#include "base/clock.h"
#include "delivery/delivery.h"

enum {
    STAND_COMMANDS = 4096
};

struct stand {
    struct fw_delivery *engine;
    int64_t now;
    struct fw_pipe pipe;
    struct fw_command commands[STAND_COMMANDS];
    unsigned count;
    bool quiet; /* messages come into an empty pipe (the receive stood waiting) */
};

/* The defaults of the config file: VT 30 s, timeout 15 s, concurrency 1, and so on. */
struct fw_delivery_config stand_config(void);
/* A new engine at 1,000 s, its first stream open 10 ms after that, at rest since. */
struct stand *stand_new(const struct fw_delivery_config *config);
void stand_free(struct stand *stand);

/* The stream ends and is opened again, with stand->pipe as it is by now. */
void stand_reopen(struct stand *stand);

/* Moves the clock on, calling the engine's timer whenever it is due. */
void stand_pass(struct stand *stand, int64_t time);
void stand_until(struct stand *stand, int64_t now);

/* A message of 1 KiB is read. `user` names it; its id is `id`. */
void stand_read(struct stand *stand, void *user, const char *id, uint32_t attempt_count);
void stand_read_full(struct stand *stand, uint32_t stream, const struct fw_arrival *arrival);
void stand_verdict(struct stand *stand, void *user, enum fw_verdict_kind kind, int64_t took);
void stand_cause(
    struct stand *stand,
    void *user,
    enum fw_verdict_kind kind,
    enum fw_cause cause,
    int64_t took);
void stand_settled(struct stand *stand, void *user, enum fw_settled result);
void stand_published(struct stand *stand, void *user, enum fw_settled result);
void stand_open(struct stand *stand, uint32_t stream);
void stand_end(struct stand *stand, uint32_t stream, enum fw_stream_end how);
/* After an event that the test made itself. */
void stand_collect(struct stand *stand);

/* Takes the oldest command of that kind out of what came; false when there is none. */
bool stand_take(struct stand *stand, enum fw_command_kind kind, struct fw_command *ret_command);
/* The same for one delivery. */
bool stand_take_of(
    struct stand *stand,
    enum fw_command_kind kind,
    const void *user,
    struct fw_command *ret_command);
bool stand_notice(struct stand *stand, enum fw_notice notice, int64_t *ret_value);
/* How many of that kind came and were not taken. */
unsigned stand_count(const struct stand *stand, enum fw_command_kind kind);
void stand_forget(struct stand *stand); /* all that came so far */

/* Fails the test unless the delivery was finished so, and takes that command. */
void stand_finished(struct stand *stand, void *user, enum fw_outcome outcome);
void stand_not_finished(const struct stand *stand, const void *user);
/* Fails the test unless it runs, with that attempt; returns the deadline. */
int64_t stand_runs(struct stand *stand, void *user, uint32_t attempt);

#endif

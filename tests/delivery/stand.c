/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "stand.h"

#include <criterion/criterion.h>

#include <stdlib.h>
#include <string.h>

struct fw_delivery_config stand_config(void)
{
    return (struct fw_delivery_config){
        .visibility_timeout = 30 * FILA_S,
        .concurrency = 1,
        .streams = 1,
        .prefetch_bytes = 64U << 20,
        .retry_attempts = 5,
        .retry_first = FILA_S,
        .retry_max = 60 * FILA_S,
        .breaker_failures = 10,
        .breaker_probe = 5 * FILA_S,
        .breaker_max = 120 * FILA_S,
        .settle_in_flight = 256,
        .seed = 1,
    };
}

static void check(const struct stand *stand)
{
    struct fw_delivery_stats stats = fw_delivery_stats(stand->engine);
    uint64_t finished = 0;
    for (int i = 0; i < FW_OUTCOME_COUNT; i++) {
        finished += stats.finished[i];
    }
    cr_assert_eq(stats.received, finished + stats.held);
    const char *wrong = fw_delivery_check(stand->engine);
    cr_assert_null(wrong, "%s", wrong);
}

void stand_collect(struct stand *stand)
{
    struct fw_command command;
    while (fw_delivery_next(stand->engine, &command)) {
        cr_assert_lt(stand->count, STAND_COMMANDS);
        stand->commands[stand->count++] = command;
    }
    check(stand);
}

struct stand *stand_new(const struct fw_delivery_config *config)
{
    struct stand *stand = calloc(1, sizeof(*stand));
    struct fw_command command;
    cr_assert_not_null(stand);
    stand->now = 1000 * FILA_S;
    stand->pipe =
        (struct fw_pipe){.slots = 130, .bytes = 65536, .window = 16384, .round_trip = FILA_MS};
    stand->quiet = true;
    stand->engine = fw_delivery_new(config, stand->now);
    cr_assert_not_null(stand->engine);
    stand_collect(stand);
    while (stand_take(stand, FW_COMMAND_OPEN_STREAM, &command)) {
        stand->now += 10 * FILA_MS;
        stand_open(stand, command.stream);
    }
    stand_pass(stand, FILA_S);
    return stand;
}

void stand_free(struct stand *stand)
{
    fw_delivery_free(stand->engine);
    free(stand);
}

void stand_until(struct stand *stand, int64_t now)
{
    int idle = 0;
    for (;;) {
        int64_t wake = fw_delivery_wake_at(stand->engine);
        if (wake > now) {
            break;
        }
        idle = wake <= stand->now ? idle + 1 : 0;
        cr_assert_lt(idle, 100, "the engine asks to be woken again and again");
        stand->now = wake > stand->now ? wake : stand->now;
        fw_delivery_timer(stand->engine, stand->now);
        stand_collect(stand);
    }
    stand->now = now;
}

void stand_pass(struct stand *stand, int64_t time)
{
    stand_until(stand, stand->now + time);
}

void stand_read_full(struct stand *stand, uint32_t stream, const struct fw_arrival *arrival)
{
    fw_delivery_message(stand->engine, stand->now, stream, arrival);
    stand_collect(stand);
}

void stand_read(struct stand *stand, void *user, const char *id, uint32_t attempt_count)
{
    struct fw_arrival arrival = {
        .user = user,
        .queue = "q",
        .queue_len = 1,
        .id = id,
        .id_len = strlen(id),
        .attempt_count = attempt_count,
        .size = 1024,
        .wire_size = 1024,
        .waiting_since = stand->quiet ? stand->now - FILA_S : stand->now,
    };
    stand_read_full(stand, 0, &arrival);
}

void stand_cause(
    struct stand *stand,
    void *user,
    enum fw_verdict_kind kind,
    enum fw_cause cause,
    int64_t took)
{
    struct fw_verdict verdict = {
        .kind = kind, .cause = cause, .started = stand->now - took, .ended = stand->now};
    fw_delivery_verdict(stand->engine, stand->now, user, &verdict);
    stand_collect(stand);
}

void stand_verdict(struct stand *stand, void *user, enum fw_verdict_kind kind, int64_t took)
{
    stand_cause(stand, user, kind, FW_CAUSE_NONE, took);
}

void stand_settled(struct stand *stand, void *user, enum fw_settled result)
{
    fw_delivery_settled(stand->engine, stand->now, user, result, FILA_MS);
    stand_collect(stand);
}

void stand_published(struct stand *stand, void *user, enum fw_settled result)
{
    fw_delivery_published(stand->engine, stand->now, user, result, false);
    stand_collect(stand);
}

void stand_open(struct stand *stand, uint32_t stream)
{
    fw_delivery_stream_open(stand->engine, stand->now, stream, &stand->pipe);
    stand_collect(stand);
}

void stand_reopen(struct stand *stand)
{
    stand_end(stand, 0, FW_STREAM_CLOSED);
    while (!stand_take(stand, FW_COMMAND_OPEN_STREAM, NULL)) {
        stand_pass(stand, 10 * FILA_MS);
    }
    stand_open(stand, 0);
}

void stand_end(struct stand *stand, uint32_t stream, enum fw_stream_end how)
{
    fw_delivery_stream_end(stand->engine, stand->now, stream, how);
    stand_collect(stand);
}

static void take_at(struct stand *stand, unsigned index, struct fw_command *ret_command)
{
    if (ret_command != NULL) {
        *ret_command = stand->commands[index];
    }
    stand->count--;
    memmove(
        &stand->commands[index], &stand->commands[index + 1],
        (stand->count - index) * sizeof(stand->commands[0]));
}

bool stand_take(struct stand *stand, enum fw_command_kind kind, struct fw_command *ret_command)
{
    for (unsigned i = 0; i < stand->count; i++) {
        if (stand->commands[i].kind == kind) {
            take_at(stand, i, ret_command);
            return true;
        }
    }
    return false;
}

bool stand_take_of(
    struct stand *stand,
    enum fw_command_kind kind,
    const void *user,
    struct fw_command *ret_command)
{
    for (unsigned i = 0; i < stand->count; i++) {
        if (stand->commands[i].kind == kind && stand->commands[i].user == user) {
            take_at(stand, i, ret_command);
            return true;
        }
    }
    return false;
}

bool stand_notice(struct stand *stand, enum fw_notice notice, int64_t *ret_value)
{
    for (unsigned i = 0; i < stand->count; i++) {
        if (stand->commands[i].kind == FW_COMMAND_NOTICE && stand->commands[i].notice == notice) {
            if (ret_value != NULL) {
                *ret_value = stand->commands[i].value;
            }
            take_at(stand, i, NULL);
            return true;
        }
    }
    return false;
}

unsigned stand_count(const struct stand *stand, enum fw_command_kind kind)
{
    unsigned count = 0;
    for (unsigned i = 0; i < stand->count; i++) {
        count += stand->commands[i].kind == kind;
    }
    return count;
}

void stand_forget(struct stand *stand)
{
    stand->count = 0;
}

void stand_finished(struct stand *stand, void *user, enum fw_outcome outcome)
{
    struct fw_command command;
    cr_assert(stand_take_of(stand, FW_COMMAND_FINISH, user, &command), "it is not finished");
    cr_assert_str_eq(fw_outcome_name(command.outcome), fw_outcome_name(outcome));
}

void stand_not_finished(const struct stand *stand, const void *user)
{
    for (unsigned i = 0; i < stand->count; i++) {
        const struct fw_command *command = &stand->commands[i];
        cr_assert(
            command->kind != FW_COMMAND_FINISH || command->user != user, "finished: %s",
            fw_outcome_name(command->outcome));
    }
}

int64_t stand_runs(struct stand *stand, void *user, uint32_t attempt)
{
    struct fw_command command;
    cr_assert(stand_take_of(stand, FW_COMMAND_RUN, user, &command), "it does not run");
    cr_assert_eq(command.attempt, attempt);
    return command.deadline;
}

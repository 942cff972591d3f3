/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "delivery/internal.h"

#include <stdlib.h>

enum {
    SPARE = 64,  /* for streams, notices and the like */
    PER_HELD = 5 /* commands that one event can cause for one delivery, and then some */
};

static bool grow(struct fw_commands *commands, uint32_t wanted)
{
    uint32_t capacity = commands->capacity == 0 ? SPARE : commands->capacity;
    uint32_t count = commands->tail - commands->head;
    while (capacity < wanted) {
        capacity *= 2;
    }
    if (capacity == commands->capacity) {
        return true;
    }
    struct fw_command *ring = malloc(capacity * sizeof(*ring));
    if (ring == NULL) {
        return false;
    }
    for (uint32_t i = 0; i < count; i++) {
        ring[i] = commands->ring[(commands->head + i) & (commands->capacity - 1)];
    }
    free(commands->ring);
    commands->ring = ring;
    commands->capacity = capacity;
    commands->head = 0;
    commands->tail = count;
    return true;
}

bool fw_commands_reserve(struct fw_commands *commands, uint32_t held)
{
    return grow(commands, commands->tail - commands->head + held * PER_HELD + SPARE);
}

void fw_commands_fini(struct fw_commands *commands)
{
    free(commands->ring);
    *commands = (struct fw_commands){0};
}

void fw_emit(struct fw_delivery *e, const struct fw_command *command)
{
    struct fw_commands *commands = &e->commands;
    if (commands->tail - commands->head == commands->capacity &&
        !grow(commands, commands->capacity + 1)) {
        abort(); /* only an owner that takes no commands gets here: see fw_commands_reserve */
    }
    commands->ring[commands->tail++ & (commands->capacity - 1)] = *command;
}

bool fw_commands_take(struct fw_commands *commands, struct fw_command *ret_command)
{
    if (commands->head == commands->tail) {
        return false;
    }
    *ret_command = commands->ring[commands->head++ & (commands->capacity - 1)];
    return true;
}

void fw_notice(struct fw_delivery *e, enum fw_notice notice, void *user, int64_t value)
{
    fw_emit(
        e, &(struct fw_command){
               .kind = FW_COMMAND_NOTICE, .notice = notice, .user = user, .value = value});
}

/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * A broker with a file in a test's hand: opened, closed, opened again.
 */
#ifndef TESTS_STORE_RIG_H
#define TESTS_STORE_RIG_H

#include "broker/service_rig.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include <stdio.h>
#include <stdlib.h>

/* A path in a folder of its own that does not exist yet; both go with the test's process... */
const char *new_path(void);
/* ...when this is called: removes what new_path made. */
void remove_path(void);

fila_broker *must_open(const char *path, uint32_t idle_timeout_ms);
/* The text of the refusal to open it. */
const char *refusal(const char *path, fila_status *ret_status);

/* A message, as a consumer gets it. */
struct got {
    char id[40];
    char payload[64];
    char queue[64];
    char key[32];
    char header[64]; /* "key=value" of the first */
    uint32_t attempts;
    int64_t lease_end;
};

/* Waits up to `ms` for the next message; false if none came. */
bool next_message(struct reader *reader, int ms, struct got *ret_got);
void must_get(struct reader *reader, const char *payload, struct got *ret_got);
void must_settle(fila_broker *broker, fila_call call, const char *queue, const char *id);
fila_status settle(fila_broker *broker, fila_call call, const char *queue, const char *id);
uint64_t depth_of(fila_broker *broker, const char *queue);
uint64_t in_flight_of(fila_broker *broker, const char *queue);
fila_status simple_call(
    fila_broker *broker,
    fila_call call,
    const char *name,
    fila_error *ret_error);
void must_set(fila_broker *broker, const char *key, const char *value);
/* Compares what the broker has for the key. */
void expect_config(fila_broker *broker, const char *key, const char *value);

#endif

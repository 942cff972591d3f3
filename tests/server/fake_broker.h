/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * A stand-in for the broker behind the gRPC server (broker/service.h) that does exactly what a test
 * says: answers on another thread, holds answers back, pushes messages from any thread, ends
 * streams with any error, and counts what the server has not given back.
 *
 * The queue of a call chooses its answer: "late" is answered on a thread of its own, "held" when
 * fake_answer_held says so, "fail" with the error of fake_fail_with, and all others at once.
 */
#ifndef TESTS_SERVER_FAKE_BROKER_H
#define TESTS_SERVER_FAKE_BROKER_H

#include "broker/service.h"

struct fila_broker *fake_new(void);
/* Waits for its thread. Everything must have been given back. */
void fake_free(struct fila_broker *fake);

/* What calls and Consume of the queue "fail" are answered with. */
void fake_fail_with(struct fila_broker *fake, const fila_error *error);
/* Answers the calls held so far: FILA_OK, or FILA_BROKER_UNAVAILABLE "closed". */
void fake_answer_held(struct fila_broker *fake, fila_status code);
/* Answers them with FILA_BROKER_UNAVAILABLE, and holds no more. */
void fake_close(struct fila_broker *fake);
size_t fake_held(struct fila_broker *fake);  /* calls held now */
size_t fake_calls(struct fila_broker *fake); /* calls answered with FILA_OK */
/* Waits until `count` calls are held; false after 10 s. */
bool fake_wait_held(struct fila_broker *fake, size_t count);

enum {
    FAKE_ORDER = 16384 /* calls whose order is kept */
};

/* While the gate is closed a call of the queue "gate" does not return, and so keeps the server's
 * thread. */
void fake_gate(struct fila_broker *fake, bool closed);
void fake_wait_gate(struct fila_broker *fake); /* until one is there */
/* The calls so far, by the first letter of their queue, in order; how many. `ret_order` has room
 * for FAKE_ORDER. */
size_t fake_order(struct fila_broker *fake, char *ret_order);

/* Gives every consumer of `queue` `count` messages of `payload` bytes, from this thread. Payload
 * byte i is (i * 7 + message number) & 255, ids are numbered from 0 by consumer. */
void fake_push(struct fila_broker *fake, const char *queue, size_t count, size_t payload);
/* Ends all streams of `queue` behind the messages that they have. */
void fake_end(struct fila_broker *fake, const char *queue, const fila_error *how);
bool fake_wait_consumers(struct fila_broker *fake, size_t count); /* false after 10 s */
size_t fake_outstanding(struct fila_broker *fake);                /* taken, not released */
size_t fake_consumers(struct fila_broker *fake);
size_t fake_taken(struct fila_broker *fake); /* messages taken so far */
bool fake_wait_outstanding(struct fila_broker *fake, size_t count);

#endif

/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * A transport that does only what the test says, when it says so. What the client asks for is
 * numbered from 0 in the order of its asking; the test waits for the nth of a kind, and makes
 * things happen to it. Thread: all functions here, any.
 */
#ifndef TESTS_CLIENT_FAKE_TRANSPORT_H
#define TESTS_CLIENT_FAKE_TRANSPORT_H

#include "src/transport.h"

struct fake;

/* `automatic`: calls are answered by themselves (Enqueue with the payload as id), and each credit
 * of a stream brings a message with a running number as id. */
struct fake *fake_new(bool automatic);
struct fila_transport *fake_transport(struct fake *fake);

/* Waits until the client has made that call (a publish counts as Enqueue), and gives a copy of it.
 * Owned by the fake. */
const fila_request *fake_wait_call(struct fake *fake, unsigned nth);
int64_t fake_call_deadline(struct fake *fake, unsigned nth);
void fake_answer(struct fake *fake, unsigned nth, const fila_reply *reply);
void fake_fail(struct fake *fake, unsigned nth, fila_status code, const char *text);
/* The same, of known outcome. */
void fake_fail_unsent(struct fake *fake, unsigned nth, fila_status code, const char *text);
unsigned fake_calls(struct fake *fake);   /* so far */
unsigned fake_batches(struct fake *fake); /* of publishes, so far */

/* Waits until the client has opened that stream; the queue's name, owned by the fake. */
const char *fake_wait_stream(struct fake *fake, unsigned nth);
/* Streams are refused from now on; FILA_OK = no longer. */
void fake_refuse_streams(struct fake *fake, fila_status code);
/* Waits until at least that much was granted in all. */
void fake_wait_credits(struct fake *fake, unsigned stream, uint32_t credits);
uint32_t fake_credits(struct fake *fake, unsigned stream);
void fake_deliver(struct fake *fake, unsigned stream, const char *id);
void fake_end(struct fake *fake, unsigned stream, fila_status code, const char *text);
/* Waits until the client has cancelled it. With fake_hold_cancel first, messages still come, and
 * its end is the test's doing. */
void fake_wait_cancel(struct fake *fake, unsigned stream);
void fake_hold_cancel(struct fake *fake);

/* Counted over all fakes: what must be 0 in the end. */
int fake_messages_alive(void);
int fake_transports_alive(void);

#endif

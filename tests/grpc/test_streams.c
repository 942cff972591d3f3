/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * Consume streams over the gRPC transport, against the scripted server.
 */
#include "rig.h"
#include "stub.h"

#include <criterion/criterion.h>

#include <stdlib.h>

TestSuite(streams, .timeout = 30);

Test(streams, hands_out_a_message_for_each_credit_and_no_more)
{
    struct stub *stub = stub_start("127.0.0.1:0");
    fila_view message = stub_message("id-1", "orders", 1024, 2);
    stub_stream(stub, &(struct stub_stream){.messages = &message, .count = 1, .rounds = 100});
    fila_client_options options = rig_options(stub_port(stub));
    struct fila_transport *t = rig_open(&options);
    struct watch *w = calloc(1, sizeof *w);
    watch_open(t, w, 3);

    cr_assert(rig_until(t, &w->messages, 3, 5000));
    rig_for(t, 100);
    cr_assert_eq(w->messages, 3);
    cr_assert_eq(w->opened, 1);
    t->ops->grant(w->stream, 2);
    cr_assert(rig_until(t, &w->messages, 5, 5000));
    rig_for(t, 100);
    cr_assert_eq(w->messages, 5);
    cr_assert_eq(fila_message_payload(w->kept[4]).len, 1024);
    cr_assert_eq(w->reads[4].wire_size, message.len + 5);

    t->ops->cancel_stream(w->stream);
    cr_assert(rig_until(t, &w->ended, 1, 5000));
    cr_assert_eq(w->why.code, FILA_CANCELLED);
    cr_assert_eq(w->messages, 5);
    cr_assert(stub_wait_cancelled(stub, 1, 5000));
    rig_close(t);
    watch_free(w);
    stub_stop(stub);
    free((void *)(uintptr_t)message.data);
}

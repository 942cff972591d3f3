/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * A node of a cluster that leads no queue: it refuses each Consume with 14, naming the leader that
 * is its argument (HOST:PORT; "" = it does not know one), and answers every other call with OK. For
 * end-to-end tests. Ends at the end of its input, saying how many Consume calls it refused.
 */
#include "grpc/stub.h"

#include <stdio.h>

int main(int argc, char **argv)
{
    struct stub_stream script = {
        .end = true,
        .status = 14,
        .text = "not the leader",
        .leader = argc > 1 && argv[1][0] ? argv[1] : NULL,
        .no_headers = true,
    };
    struct stub *stub = stub_start("127.0.0.1:0");
    stub_stream(stub, &script);
    (void)printf("listening on 127.0.0.1:%d\n", stub_port(stub));
    (void)fflush(stdout);
    while (getchar() != EOF) {
    }
    (void)printf("refused %u\n", stub_calls(stub, FILA_CALL_CONSUME));
    stub_stop(stub);
    return 0;
}

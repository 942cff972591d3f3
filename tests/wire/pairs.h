/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * The same requests and replies written down twice, once in the public structs and once in
 * protobuf-c's, so that each codec checks the other.
 */
#ifndef TESTS_WIRE_PAIRS_H
#define TESTS_WIRE_PAIRS_H

#include "wire/codec.h"

struct pair {
    const char *name;
    fila_request request; /* in request pairs */
    fila_reply reply;     /* in reply pairs */
    uint8_t *bytes;       /* protobuf-c's encoding */
    size_t len;
};

#define PAIRS_MAX 32

/* Fill `pairs` (PAIRS_MAX of them) and return how many; static memory. */
size_t make_request_pairs(struct pair *pairs);
size_t make_reply_pairs(struct pair *pairs);
void free_pairs(struct pair *pairs, size_t count);

#endif

/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * The dead-letter copy that the worker publishes: the message's own headers and payload, and the
 * x-fila-dead-letter-* headers of conventions.md that say why and what it was. `dlq redrive` undoes
 * it with the same list of names. Thread: any.
 */
#ifndef FW_HOST_DEADLETTER_H
#define FW_HOST_DEADLETTER_H

#include "delivery/delivery.h"
#include "fila/client.h"

/* All of them begin with this. */
#define FW_DEAD_LETTER_PREFIX "x-fila-dead-letter-"

struct fw_dead_letter_facts {
    enum fw_cause cause;
    uint32_t attempts;
    const char *reason; /* zero-terminated; cut so that the added headers stay under 1 KiB in all */
};

/* The headers of the copy in one allocation that *ret_headers begins, freed with free(). Views
 * point into it and into the message. FILA_NO_MEMORY. */
FILA_NODISCARD fila_status fw_dead_letter_headers(
    const fila_message *message,
    const struct fw_dead_letter_facts *facts,
    fila_header **ret_headers,
    size_t *ret_count);

/* Whether a header is one of ours: left out of the copy, and taken off again by redrive. */
bool fw_dead_letter_header(fila_view key);

#endif

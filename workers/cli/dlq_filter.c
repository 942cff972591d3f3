/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "dlq.h"
#include "host/deadletter.h"

static bool is(fila_view text, const char *word, size_t len)
{
    return text.len == len && memcmp(text.data, word, len) == 0;
}

static bool find(const fila_message *m, const char *key, size_t len, fila_view *ret_value)
{
    size_t cursor = 0;
    for (fila_header h; fila_message_next_header(m, &cursor, &h);) {
        if (is(h.key, key, len)) {
            *ret_value = h.value;
            return true;
        }
    }
    return false;
}

bool fw_dlq_is_copy(const fila_message *message)
{
    size_t cursor = 0;
    for (fila_header h; fila_message_next_header(message, &cursor, &h);) {
        if (fw_dead_letter_header(h.key)) {
            return true;
        }
    }
    return false;
}

fila_view fw_dlq_cause(const fila_message *message)
{
    static const char KEY[] = FW_DEAD_LETTER_PREFIX "cause";
    fila_view cause = fila_view_of(fw_dlq_is_copy(message) ? "" : "broker");
    (void)find(message, KEY, sizeof KEY - 1, &cause);
    return cause;
}

bool fw_dlq_chooses(const struct fw_dlq *dlq, const fila_message *message)
{
    fila_view value;
    if (dlq->cause != NULL && !is(fw_dlq_cause(message), dlq->cause, strlen(dlq->cause))) {
        return false;
    }
    if (dlq->header == NULL) {
        return true;
    }
    const char *equals = strchr(dlq->header, '=');
    return find(message, dlq->header, (size_t)(equals - dlq->header), &value) &&
           is(value, equals + 1, strlen(equals + 1));
}

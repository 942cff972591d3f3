/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "trace.h"

enum {
    VERSION_LEN = 3, /* "00-" */
    TRACE_LEN = 32,
    LEAST_LEN = 55 /* 00-TRACE-PARENT-FLAGS; later versions may be longer */
};

static bool is_hex(const char *text, size_t len)
{
    bool zero = true;
    for (size_t i = 0; i < len; i++) {
        bool digit = text[i] >= '0' && text[i] <= '9';
        if (!digit && !(text[i] >= 'a' && text[i] <= 'f')) {
            return false;
        }
        zero = zero && text[i] == '0';
    }
    return !zero; /* all zeros is "none" in the standard */
}

fila_view fw_trace_id(const fila_message *message)
{
    fila_view value = {NULL, 0};
    if (!fila_message_header(message, fila_view_of("traceparent"), &value) ||
        value.len < LEAST_LEN || value.data[2] != '-' ||
        value.data[VERSION_LEN + TRACE_LEN] != '-' ||
        !is_hex(value.data + VERSION_LEN, TRACE_LEN)) {
        return (fila_view){NULL, 0};
    }
    return (fila_view){value.data + VERSION_LEN, TRACE_LEN};
}

/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "exec.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char HEADER[] = "FILA_HEADER_";
static const char *const TRUNCATED = "FILA_HEADERS_TRUNCATED=1";

/* Length of NAME in "NAME=VALUE". */
static size_t name_len(const char *variable)
{
    return strcspn(variable, "=");
}

static bool same_name(const char *a, const char *b)
{
    size_t len = name_len(a);
    return len == name_len(b) && !memcmp(a, b, len);
}

/* Those that speak of a message: one that is inherited speaks of another. */
static bool is_ours(const char *variable)
{
    static const char *const NAMES[] = {
        "FILA_QUEUE",       "FILA_MESSAGE_ID",   "FILA_ATTEMPT",
        "FILA_DEADLINE_MS", "FILA_FAIRNESS_KEY", "FILA_HEADERS_TRUNCATED",
    };
    if (!strncmp(variable, HEADER, sizeof HEADER - 1)) {
        return true;
    }
    for (size_t i = 0; i < sizeof NAMES / sizeof NAMES[0]; i++) {
        if (same_name(variable, NAMES[i])) {
            return true;
        }
    }
    return false;
}

static void set_fixed(struct environment *environment, const char *variable)
{
    for (size_t i = 0; i < environment->fixed; i++) {
        const char *there = environment->variables[i];
        if (there && same_name(there, variable)) {
            environment->variables[i] = variable;
            return;
        }
    }
    environment->variables[environment->fixed++] = variable;
}

bool environment_init(
    struct environment *environment,
    const char *const *inherited,
    const fila_option_value *own,
    char *ret_why,
    size_t size)
{
    size_t count = 0;
    while (inherited && inherited[count]) {
        count++;
    }
    size_t room = count + own->count + FACTS_MAX + HEADERS_MAX + 1;
    environment->variables = calloc(room, sizeof *environment->variables);
    if (!environment->variables) {
        (void)snprintf(ret_why, size, "out of memory");
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        if (!is_ours(inherited[i])) {
            environment->variables[environment->fixed++] = inherited[i];
        }
    }
    for (uint32_t i = 0; i < own->count; i++) {
        if (!strchr(own->strings[i], '=') || own->strings[i][0] == '=') {
            (void)snprintf(
                ret_why, size, "environment: \"%.100s\" is not of the form NAME=VALUE",
                own->strings[i]);
            return false;
        }
        set_fixed(environment, own->strings[i]);
    }
    return true;
}

void environment_fini(struct environment *environment)
{
    free(environment->variables);
}

const char *environment_get(const struct environment *environment, const char *name)
{
    for (size_t i = 0; i < environment->fixed; i++) {
        if (same_name(environment->variables[i], name)) {
            return environment->variables[i] + name_len(name) + 1;
        }
    }
    return NULL;
}

/* ---- Of a message ---- */

static void add_fact(
    struct environment *environment,
    const char *name,
    const char *value,
    size_t len)
{
    char *at = environment->facts + environment->facts_len;
    size_t room = FACTS_SIZE - environment->facts_len;
    int written = snprintf(at, room, "%s=%.*s", name, (int)len, len ? value : "");
    if (written >= 0 && (size_t)written < room) {
        environment->variables[environment->count++] = at;
        environment->facts_len += (size_t)written + 1;
    }
}

static void add_number(struct environment *environment, const char *name, int64_t number)
{
    char text[24];
    int len = snprintf(text, sizeof text, "%" PRId64, number);
    add_fact(environment, name, text, (size_t)len);
}

static char name_byte(char c)
{
    if (c >= 'a' && c <= 'z') {
        return (char)(c - 'a' + 'A');
    }
    return (char)((c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ? c : '_');
}

static uint32_t hash_name(const char *name, size_t len)
{
    uint32_t hash = 2166136261u;
    for (size_t i = 0; i < len; i++) {
        hash = (hash ^ (unsigned char)name[i]) * 16777619u;
    }
    return hash;
}

/* Of headers whose variables have the same name the last one counts. */
static bool set_header(struct environment *environment, const char *variable)
{
    uint32_t slot = hash_name(variable, name_len(variable)) % HASH_SLOTS;
    while (environment->slots[slot]) {
        size_t at = environment->header_first + environment->slots[slot] - 1;
        if (same_name(environment->variables[at], variable)) {
            environment->variables[at] = variable;
            return true;
        }
        slot = (slot + 1) % HASH_SLOTS;
    }
    size_t index = environment->count - environment->header_first;
    if (index == HEADERS_MAX) {
        return false;
    }
    environment->slots[slot] = (uint16_t)(index + 1);
    environment->variables[environment->count++] = variable;
    return true;
}

struct header {
    const char *key;
    size_t key_len;
    const char *value;
    size_t value_len;
};

/* False: it does not fit, or cannot be a C string. */
static bool add_header(struct environment *environment, const struct header *header)
{
    size_t left = HEADERS_SIZE - environment->headers_len;
    size_t fixed = sizeof HEADER - 1 + 2; /* '=' and the zero */
    if (left < fixed || left - fixed < header->key_len ||
        left - fixed - header->key_len < header->value_len ||
        (header->value_len && memchr(header->value, '\0', header->value_len))) {
        return false;
    }
    char *variable = environment->headers + environment->headers_len;
    char *at = variable + sizeof HEADER - 1;
    memcpy(variable, HEADER, sizeof HEADER - 1);
    for (size_t i = 0; i < header->key_len; i++) {
        *at++ = name_byte(header->key[i]);
    }
    *at++ = '=';
    if (header->value_len) {
        memcpy(at, header->value, header->value_len);
    }
    at[header->value_len] = '\0';
    if (!set_header(environment, variable)) {
        return false;
    }
    environment->headers_len += fixed + header->key_len + header->value_len;
    return true;
}

/* Whether all of them are in. */
static bool add_headers(
    struct environment *environment,
    const fila_delivery *delivery,
    const fila_services *services)
{
    struct header header;
    size_t cursor = 0;
    bool all = true;
    while (services->next_header(
        delivery, &cursor, &header.key, &header.key_len, &header.value, &header.value_len)) {
        if (environment->headers_len == 0) {
            memset(environment->slots, 0, sizeof environment->slots);
        }
        all &= add_header(environment, &header);
    }
    return all;
}

char *const *environment_of(
    struct environment *environment,
    const fila_delivery *delivery,
    const fila_services *services,
    int64_t left_ms)
{
    environment->count = environment->fixed;
    environment->facts_len = 0;
    environment->headers_len = 0;
    add_fact(environment, "FILA_QUEUE", delivery->queue, delivery->queue_len);
    add_fact(environment, "FILA_MESSAGE_ID", delivery->id, delivery->id_len);
    add_number(environment, "FILA_ATTEMPT", delivery->attempt);
    add_number(environment, "FILA_DEADLINE_MS", left_ms > 0 ? left_ms : 0);
    add_fact(environment, "FILA_FAIRNESS_KEY", delivery->fairness_key, delivery->fairness_key_len);
    size_t mark = environment->count++; /* the place of FILA_HEADERS_TRUNCATED */
    environment->header_first = environment->count;
    bool all = add_headers(environment, delivery, services);
    environment->variables[mark] = TRUNCATED;
    if (all) {
        environment->variables[mark] = environment->variables[--environment->count];
    }
    environment->variables[environment->count] = NULL;
    return exec_words(environment->variables);
}

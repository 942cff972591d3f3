/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "ctl/request.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

/* Which keys a verb takes. */
enum {
    KEY_QUEUE = 1,
    KEY_LEVEL = 2,
    KEY_SET = 4,
    KEY_TAP = 8
};

struct verb_row {
    const char *name;
    unsigned keys;
};

static const struct verb_row VERBS[FW_CTL_VERB_COUNT] = {
    [FW_CTL_STATUS] = {"status", 0},
    [FW_CTL_PAUSE] = {"pause", KEY_QUEUE},
    [FW_CTL_RESUME] = {"resume", KEY_QUEUE},
    [FW_CTL_DRAIN] = {"drain", 0},
    [FW_CTL_RELOAD] = {"reload", 0},
    [FW_CTL_LOGLEVEL] = {"loglevel", KEY_LEVEL},
    [FW_CTL_SET] = {"set", KEY_QUEUE | KEY_SET},
    [FW_CTL_TAP] = {"tap", KEY_QUEUE | KEY_TAP},
    [FW_CTL_DUMP] = {"dump", 0},
};

struct reader {
    struct fw_ctl_request *request;
    unsigned keys;
    bool has_level;
    char *why;
    size_t size;
};

const char *fw_ctl_verb_name(enum fw_ctl_verb verb)
{
    return VERBS[verb].name;
}

FILA_PRINTF(2, 3) static bool wrong(const struct reader *r, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    (void)vsnprintf(r->why, r->size, format, args);
    va_end(args);
    return false;
}

static bool read_verb(struct reader *r, const json_t *value)
{
    const char *name = json_string_value(value);
    for (int i = 0; name && i < FW_CTL_VERB_COUNT; i++) {
        if (strcmp(name, VERBS[i].name) == 0) {
            r->request->verb = (enum fw_ctl_verb)i;
            r->keys = VERBS[i].keys;
            return true;
        }
    }
    return wrong(
        r, "\"do\" is one of status, pause, resume, drain, reload, loglevel, set, tap, dump");
}

static bool read_queue(struct reader *r, const json_t *value)
{
    size_t len = json_string_length(value);
    if (!json_is_string(value) || len == 0 || len >= FW_CTL_NAME_SIZE) {
        return wrong(r, "\"queue\" is a name of 1 to %d bytes", FW_CTL_NAME_SIZE - 1);
    }
    memcpy(r->request->queue, json_string_value(value), len + 1);
    return true;
}

static bool read_level(struct reader *r, const json_t *value)
{
    static const char *const NAMES[] = {"debug", "info", "warn", "error", "off"};
    const char *name = json_string_value(value);
    for (int i = FW_LOG_DEBUG; name && i <= FW_LOG_OFF; i++) {
        if (strcmp(name, NAMES[i]) == 0) {
            r->request->level = (enum fw_log_level)i;
            r->has_level = true;
            return true;
        }
    }
    return wrong(r, "\"level\" is one of debug, info, warn, error, off");
}

static bool read_rate(struct reader *r, const json_t *value)
{
    double rate = json_number_value(value);
    if (!json_is_number(value) || !(rate >= 0.0) || rate > 1e6) {
        return wrong(r, "\"rate\" is a number from 0 (no limit) to 1000000");
    }
    r->request->rate = rate;
    r->request->has_rate = true;
    return true;
}

static bool read_whole(
    struct reader *r,
    const char *key,
    const json_t *value,
    uint32_t most,
    uint32_t *ret_number)
{
    json_int_t number = json_integer_value(value);
    if (!json_is_integer(value) || number < 1 || number > (json_int_t)most) {
        return wrong(r, "\"%s\" is a whole number from 1 to %u", key, (unsigned)most);
    }
    *ret_number = (uint32_t)number;
    return true;
}

static bool read_payload(struct reader *r, const json_t *value)
{
    if (!json_is_boolean(value)) {
        return wrong(r, "\"payload\" is true or false");
    }
    r->request->payload = json_is_true(value);
    return true;
}

static bool read_key(struct reader *r, const char *key, const json_t *value)
{
    if (strcmp(key, "queue") == 0 && (r->keys & KEY_QUEUE)) {
        return read_queue(r, value);
    }
    if (strcmp(key, "level") == 0 && (r->keys & KEY_LEVEL)) {
        return read_level(r, value);
    }
    if (strcmp(key, "rate") == 0 && (r->keys & KEY_SET)) {
        return read_rate(r, value);
    }
    if (strcmp(key, "concurrency") == 0 && (r->keys & KEY_SET)) {
        return read_whole(r, key, value, 4096, &r->request->concurrency);
    }
    if (strcmp(key, "per_second") == 0 && (r->keys & KEY_TAP)) {
        return read_whole(r, key, value, 1000, &r->request->per_second);
    }
    if (strcmp(key, "payload") == 0 && (r->keys & KEY_TAP)) {
        return read_payload(r, value);
    }
    return wrong(r, "%s takes no \"%.64s\"", VERBS[r->request->verb].name, key);
}

static bool is_complete(struct reader *r)
{
    const struct fw_ctl_request *q = r->request;
    if (q->verb == FW_CTL_LOGLEVEL && !r->has_level) {
        return wrong(r, "loglevel wants a \"level\"");
    }
    if (q->verb == FW_CTL_SET && !q->queue[0]) {
        return wrong(r, "set wants a \"queue\"");
    }
    if (q->verb == FW_CTL_SET && !q->has_rate && !q->concurrency) {
        return wrong(r, "set wants a \"rate\" or a \"concurrency\"");
    }
    return true;
}

static bool read_object(struct reader *r, json_t *root)
{
    const char *key = NULL;
    json_t *value = NULL;
    json_t *verb = json_object_get(root, "do");
    if (!json_is_object(root) || !verb) {
        return wrong(r, "a request is one JSON object with \"do\"");
    }
    if (!read_verb(r, verb)) {
        return false;
    }
    json_object_foreach(root, key, value)
    {
        if (value != verb && !read_key(r, key, value)) {
            return false;
        }
    }
    return is_complete(r);
}

bool fw_ctl_parse(
    const char *line,
    size_t len,
    struct fw_ctl_request *ret_request,
    char *ret_why,
    size_t size)
{
    json_error_t error;
    struct fw_ctl_request request = {.per_second = 10};
    struct reader r = {.request = &request, .why = ret_why, .size = size};
    if (len > FW_CTL_LINE_SIZE) {
        return wrong(&r, "a request is at most %d bytes", FW_CTL_LINE_SIZE);
    }
    json_t *root = json_loadb(line, len, JSON_REJECT_DUPLICATES, &error);
    if (!root) {
        return wrong(&r, "no JSON: %s", error.text);
    }
    bool ok = read_object(&r, root);
    json_decref(root);
    if (ok) {
        *ret_request = request;
    }
    return ok;
}

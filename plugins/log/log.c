/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * The handler `log`: says what it got, and acks. It is also the example that plugins/README.md
 * walks through: it has all the parts of a handler, and each of them small.
 */
#include <fila/plugin.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LINE_SIZE   8192
#define PAYLOAD_MAX 4096

/* One instance: what the options say. */
struct logger {
    int level;
    size_t payload_bytes;
    const char *prefix;
    char line[LINE_SIZE]; /* one thread at a time uses an instance: no lock, no allocation */
};

static const char *const LEVELS[] = {"debug", "info", "warn", "error"};

static int level_of(const char *name)
{
    for (int i = FILA_LOG_DEBUG; i <= FILA_LOG_ERROR; i++) {
        if (!strcmp(name, LEVELS[i])) {
            return i;
        }
    }
    return -1;
}

static int logger_init(const fila_services *services, void **ret_self)
{
    struct logger *logger = calloc(1, sizeof *logger);
    if (!logger) {
        services->reason(services, NULL, "out of memory");
        return -1;
    }
    logger->level = level_of(services->option(services, "level")->string);
    logger->payload_bytes = (size_t)services->option(services, "payload")->integer;
    logger->prefix = services->option(services, "prefix")->string;
    if (logger->level < 0) {
        services->reason(services, NULL, "level is none of debug, info, warn, error");
        free(logger);
        return -1;
    }
    *ret_self = logger;
    return 0;
}

static unsigned count_headers(const fila_delivery *delivery, const fila_services *services)
{
    const char *key;
    const char *value;
    size_t key_len;
    size_t value_len;
    size_t cursor = 0;
    unsigned count = 0;
    while (services->next_header(delivery, &cursor, &key, &key_len, &value, &value_len)) {
        count++;
    }
    return count;
}

/* Payloads are any bytes, a line is text. */
static void append_payload(struct logger *logger, size_t len, const fila_delivery *delivery)
{
    size_t shown = delivery->payload_len;
    if (shown > logger->payload_bytes) {
        shown = logger->payload_bytes;
    }
    for (size_t i = 0; i < shown && len + 2 < LINE_SIZE; i++) {
        uint8_t byte = delivery->payload[i];
        logger->line[len++] = (char)(byte < ' ' || byte == 0x7f ? '.' : byte);
    }
    if (shown < delivery->payload_len && len + 4 < LINE_SIZE) {
        memcpy(logger->line + len, "...", 3);
        len += 3;
    }
    logger->line[len] = '\0';
}

static int logger_handle(void *self, const fila_delivery *delivery, const fila_services *services)
{
    struct logger *logger = self;
    int key_len = delivery->fairness_key_len > 256 ? 256 : (int)delivery->fairness_key_len;
    int len = snprintf(
        logger->line, LINE_SIZE - PAYLOAD_MAX,
        "%.512spayload of %zu bytes, %u headers, key \"%.*s\"%s", logger->prefix,
        delivery->payload_len, count_headers(delivery, services), key_len,
        key_len ? delivery->fairness_key : "", logger->payload_bytes ? ": " : "");
    if (logger->payload_bytes) {
        append_payload(logger, (size_t)len, delivery);
    }
    services->log(services, delivery, logger->level, logger->line);
    return FILA_ACK;
}

static void logger_close(void *self)
{
    free(self);
}

static const fila_option OPTIONS[] = {
    {"level", FILA_OPTION_STRING, 0, "info", 0, 0, "Of its lines: debug, info, warn or error."},
    {"payload", FILA_OPTION_SIZE, 0, "0B", 0, PAYLOAD_MAX - 16,
     "How much of the payload is shown; it may be private, so none of it by default."},
    {"prefix", FILA_OPTION_STRING, 0, "", 0, 0, "Put before each line."},
};

FILA_PLUGIN_DEFINE({
    FILA_PLUGIN_HEAD,
    .name = "log",
    .version = "1.0",
    .description = "Logs the facts of each message and acks it.",
    .options = OPTIONS,
    .option_count = FILA_COUNT(OPTIONS),
    .init = logger_init,
    .handle = logger_handle,
    .close = logger_close,
})

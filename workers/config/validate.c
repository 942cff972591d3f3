/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "base/clock.h"
#include "cgroup.h"
#include "loader.h"
#include "units.h"

#include <stdio.h>

/* What is looked at: the root, or one queue. */
struct scope {
    struct fw_loader *loader;
    const struct fw_table *table;
    const struct fw_origin *origins;
    const char *prefix;
    struct fw_where group; /* where the queue's entry stands */
};

static const struct fw_origin *origin_of(const struct scope *s, const char *path)
{
    return &s->origins[fw_table_find(s->table, path) - s->table->rows];
}

static bool is_given(const struct scope *s, const char *path)
{
    return origin_of(s, path)->kind != FW_ORIGIN_DEFAULT;
}

/* Where a value came from; for a default, the group that should have it. */
static struct fw_where where(const struct scope *s, const char *path)
{
    const struct fw_origin *origin = origin_of(s, path);
    switch (origin->kind) {
    case FW_ORIGIN_ENVIRONMENT:
        return (struct fw_where){.name = "environment"};
    case FW_ORIGIN_COMMAND_LINE:
        return (struct fw_where){.name = "command line"};
    case FW_ORIGIN_FILE:
        return (struct fw_where){.name = origin->name, .at = origin->at};
    case FW_ORIGIN_DEFAULT:
        break;
    }
    return s->group;
}

static const char *key(const struct scope *s, const char *path)
{
    const struct fw_origin *origin = origin_of(s, path);
    if (origin->kind == FW_ORIGIN_ENVIRONMENT || origin->kind == FW_ORIGIN_COMMAND_LINE) {
        return origin->name;
    }
    return fw_arena_print(&s->loader->report->arena, "%s%s", s->prefix, path);
}

#define ERROR(s, path, ...) \
    fw_report_error((s)->loader->report, where(s, path), key(s, path), __VA_ARGS__)
#define WARN(s, path, ...) \
    fw_report_warning((s)->loader->report, where(s, path), key(s, path), __VA_ARGS__)

/* ---- The root ---- */

static bool is_port(const char *text)
{
    size_t len = strspn(text, "0123456789");
    unsigned port = 0;
    for (size_t i = 0; i < len && i < 6; i++) {
        port = port * 10 + (unsigned)(text[i] - '0');
    }
    return len > 0 && len < 6 && text[len] == '\0' && port <= UINT16_MAX;
}

/* HOST:PORT, [IPv6]:PORT or, where a host may be left out, :PORT. */
static bool is_address(const char *text, bool host_optional)
{
    const char *colon = strrchr(text, ':');
    if (!colon || !is_port(colon + 1)) {
        return false;
    }
    size_t host = (size_t)(colon - text);
    if (host == 0) {
        return host_optional;
    }
    if (*text == '[') {
        return host > 3 && text[host - 1] == ']' &&
               strspn(text + 1, "0123456789abcdefABCDEF:.%") >= host - 2;
    }
    return strcspn(text, ":/ []") == host;
}

/* A URL for a message; one with user information may hold a password. */
static const char *shown(const char *url)
{
    return strchr(url, '@') ? "***" : url;
}

static void check_broker_url(const struct scope *s, const char *url)
{
    static const char *const schemes[] = {"grpc", "grpcs", "fila", "filas"};
    const char *forms = "grpc://HOST:PORT, grpcs://HOST:PORT, fila://HOST:PORT, "
                        "filas://HOST:PORT, embedded: or embedded:FILE";
    if (strncmp(url, "embedded:", 9) == 0) {
        return;
    }
    for (size_t i = 0; i < sizeof schemes / sizeof *schemes; i++) {
        size_t len = strlen(schemes[i]);
        if (strncmp(url, schemes[i], len) != 0 || strncmp(url + len, "://", 3) != 0) {
            continue;
        }
        const char *rest = url + len + 3;
        const char *colon = strrchr(rest, ':');
        bool has_port = colon && colon[1] != '/' && !strpbrk(colon, "]/");
        if (!*rest || strpbrk(rest, " \t\n@") || strstr(rest, "://") ||
            (has_port && !is_port(colon + 1))) {
            /* not repeated: it may hold a password */
            ERROR(s, "broker", "not an address: write %s://HOST:PORT", schemes[i]);
        }
        return; /* the transport looks closer */
    }
    if (!strstr(url, "://") && is_address(url, false)) {
        ERROR(
            s, "broker", "\"%.200s\" has no scheme; did you mean \"grpc://%.200s\"?", shown(url),
            shown(url));
        return;
    }
    ERROR(s, "broker", "\"%.200s\" is no broker: %s", shown(url), forms);
}

static void check_brokers(const struct scope *s)
{
    const struct fw_config *config = s->loader->config;
    bool plain = false;
    if (config->broker_count == 0 || !*config->brokers[0]) {
        ERROR(s, "broker", "no broker: write a URL such as \"grpc://localhost:5555\"");
        return;
    }
    for (size_t i = 0; i < config->broker_count; i++) {
        const char *url = config->brokers[i];
        check_broker_url(s, url);
        plain = plain || strncmp(url, "grpc:", 5) == 0 || strncmp(url, "fila:", 5) == 0;
        if (config->broker_count > 1 && strncmp(url, "embedded:", 9) == 0) {
            ERROR(s, "broker", "an embedded broker stands alone: there is nowhere to fail over to");
        }
        for (size_t j = 0; j < i; j++) {
            if (strcmp(url, config->brokers[j]) == 0) {
                WARN(s, "broker", "\"%.200s\" is listed twice", url);
            }
        }
    }
    if (plain && (is_given(s, "tls.ca") || is_given(s, "tls.cert")) &&
        (*config->tls_ca || *config->tls_cert)) {
        WARN(s, "broker", "`tls` has no effect on this URL; grpcs:// and filas:// use it");
    }
}

static void check_api_key(const struct scope *s)
{
    for (const char *c = s->loader->config->api_key; *c; c++) {
        if ((unsigned char)*c <= ' ' || (unsigned char)*c >= 0x7f) {
            ERROR(s, "api_key", "holds a blank or a character that is not ASCII");
            return;
        }
    }
}

static void check_tls(const struct scope *s)
{
    const struct fw_config *config = s->loader->config;
    if (*config->tls_cert && !*config->tls_key) {
        ERROR(s, "tls.cert", "needs tls.key too");
    }
    if (*config->tls_key && !*config->tls_cert) {
        ERROR(s, "tls.key", "needs tls.cert too");
    }
}

static void check_listen(const struct scope *s)
{
    const char *listen = s->loader->config->http_listen;
    if (!*listen || is_address(listen, true)) {
        return;
    }
    if (is_port(listen)) {
        ERROR(
            s, "http.listen", "\"%s\" has no host; did you mean \"127.0.0.1:%s\"?", listen, listen);
        return;
    }
    ERROR(
        s, "http.listen", "\"%.200s\" is no address: HOST:PORT, [IPv6]:PORT, or \"\" for none",
        listen);
}

static void check_drain(const struct scope *s)
{
    char text[FW_UNIT_TEXT_SIZE];
    if (s->loader->config->drain_timeout <= 2 * FILA_S) {
        fw_format_duration(s->loader->config->drain_timeout, text);
        ERROR(
            s, "drain_timeout",
            "%s is too short: it must be over 2s, which are for returning what is left", text);
    }
}

/* ---- A queue ---- */

static bool ends_with(const char *text, const char *end)
{
    size_t len = strlen(text);
    size_t end_len = strlen(end);
    return len >= end_len && strcmp(text + len - end_len, end) == 0;
}

static void check_dead_letter(const struct scope *s, struct fw_queue_config *q)
{
    bool by_worker = q->dead_letter == FW_DEAD_LETTER_WORKER;
    bool is_named = *q->dead_letter_queue != '\0';
    if (!is_named) {
        q->dead_letter_queue = fw_arena_print(s->loader->arena, "%s.dlq", q->queue);
    }
    if (!by_worker && is_named) {
        WARN(s, "dead_letter_queue", "has no effect without dead_letter = \"worker\"");
    }
    if (by_worker && is_named && strcmp(q->dead_letter_queue, q->queue) == 0) {
        ERROR(
            s, "dead_letter_queue",
            "a queue cannot be its own dead-letter queue: a message that never works would go round "
            "for ever");
    }
    if (by_worker && !is_named && ends_with(q->queue, ".dlq")) {
        ERROR(
            s, "dead_letter",
            "\"%.200s\" is a dead-letter queue and has none of its own: set dead_letter = \"none\" "
            "(retry for ever) or \"drop\", or name a dead_letter_queue",
            q->queue);
    }
    if (by_worker && strlen(q->dead_letter_queue) > UINT16_MAX) {
        ERROR(
            s, "dead_letter_queue", "a name of %zu bytes: the broker takes up to 65535",
            strlen(q->dead_letter_queue));
    }
    if (q->dead_letter == FW_DEAD_LETTER_BROKER && is_given(s, "retry.attempts")) {
        WARN(
            s, "retry.attempts",
            "has no effect with dead_letter = \"broker\": the queue's on_failure script counts");
    }
    if (!is_given(s, "surplus")) {
        q->surplus = q->dead_letter == FW_DEAD_LETTER_BROKER ? FW_SURPLUS_EXPIRE : FW_SURPLUS_NACK;
    }
}

static void check_order(
    const struct scope *s,
    const char *low_path,
    int64_t low,
    const char *high_path,
    int64_t high)
{
    char low_text[FW_UNIT_TEXT_SIZE];
    char high_text[FW_UNIT_TEXT_SIZE];
    if (low > high) {
        fw_format_duration(low, low_text);
        fw_format_duration(high, high_text);
        const char *path = is_given(s, low_path) ? low_path : high_path;
        ERROR(s, path, "%s = %s is over %s = %s", low_path, low_text, high_path, high_text);
    }
}

static void check_scripts(const struct scope *s, const struct fw_queue_config *q)
{
    static const char *const paths[] = {"on_enqueue_script", "on_failure_script"};
    const char *const scripts[] = {q->on_enqueue_script, q->on_failure_script};
    for (size_t i = 0; i < 2; i++) {
        if (*scripts[i] && q->missing_queue != FW_MISSING_CREATE) {
            WARN(s, paths[i], "has no effect without missing_queue = \"create\"");
        }
    }
}

/* What the broker asks of a queue that is to be created. */
static void check_creation(const struct scope *s, const struct fw_queue_config *q)
{
    char text[FW_UNIT_TEXT_SIZE];
    if (q->missing_queue == FW_MISSING_CREATE && q->visibility_timeout < FILA_S) {
        fw_format_duration(q->visibility_timeout, text);
        ERROR(
            s, "visibility_timeout",
            "%s: with missing_queue = \"create\" it must be at least 1s, the least that a broker "
            "gives a queue",
            text);
    }
    check_scripts(s, q);
}

/* The one place that asks the delivery engine whether it can work with these numbers. Its text
 * starts with the key that it is about; of several, what the user wrote is blamed. */
static void check_delivery(const struct scope *s, const struct fw_queue_config *q)
{
    struct fw_delivery_config config = fw_config_delivery(q);
    const char *path = "visibility_timeout";
    char text[512];
    if (!fw_delivery_config_problem(&config, text, sizeof text)) {
        return;
    }
    for (size_t i = 0; i < fw_queue_table.count; i++) {
        const char *name = fw_queue_table.rows[i].path;
        if (strncmp(text, name, strlen(name)) == 0 && is_given(s, name)) {
            path = name;
        }
    }
    ERROR(s, path, "%s", text);
}

static void resolve(struct fw_queue_config *q, uint32_t cpus)
{
    if (q->concurrency == 0) {
        q->concurrency = cpus;
    }
    if (q->prefetch == 0) {
        q->prefetch = 2 * q->concurrency > 4 ? 2 * q->concurrency : 4;
        q->prefetch = q->prefetch > q->streams ? q->prefetch : q->streams;
    }
    if (q->timeout == 0) {
        q->timeout = q->visibility_timeout / 2;
    }
    if (q->stuck_limit == 0 && q->isolation == FW_ISOLATION_THREADS) {
        q->stuck_limit = 2 * q->concurrency > 8 ? 2 * q->concurrency : 8;
    }
}

static struct fw_where entry_of(const struct fw_queue_config *queue)
{
    return (struct fw_where){.name = queue->file, .at = {queue->line, 0}};
}

static void check_queue(struct fw_loader *loader, size_t index, uint32_t cpus)
{
    struct fw_queue_config *q = &loader->config->queues[index];
    size_t first = 0; /* of its file: keys count from there */
    while (strcmp(loader->config->queues[first].file, q->file) != 0) {
        first++;
    }
    const struct scope scope = {
        loader, &fw_queue_table, loader->memory->queue_origins[index],
        fw_arena_print(&loader->report->arena, "queues[%zu].", index - first), entry_of(q)};
    size_t errors = loader->report->errors;
    check_order(&scope, "retry.first", q->retry_first, "retry.max", q->retry_max);
    check_order(&scope, "breaker.probe", q->breaker_probe, "breaker.max", q->breaker_max);
    check_dead_letter(&scope, q);
    check_creation(&scope, q);
    if (q->isolation == FW_ISOLATION_THREADS && (q->recycle_messages || q->recycle_rss)) {
        const char *name = q->recycle_messages ? "recycle_messages" : "recycle_rss";
        fw_report_error(
            loader->report, where(&scope, name), key(&scope, name),
            "it needs isolation = \"process\": threads are not replaced");
    }
    if (q->isolation == FW_ISOLATION_PROCESS && q->stuck_limit) {
        fw_report_error(
            loader->report, where(&scope, "stuck_limit"), key(&scope, "stuck_limit"),
            "it needs isolation = \"threads\": a child that hangs is killed");
    }
    resolve(q, cpus);
    if (loader->report->errors == errors) {
        check_delivery(&scope, q);
    }
    for (size_t i = 0; i < index; i++) {
        const struct fw_queue_config *other = &loader->config->queues[i];
        if (*q->queue && strcmp(other->queue, q->queue) == 0) {
            fw_report_warning(
                loader->report, where(&scope, "queue"), key(&scope, "queue"),
                "\"%.200s\" is also consumed by the entry at %s:%u: each gets a part of its messages",
                q->queue, other->file, other->line);
            break;
        }
    }
}

void fw_validate(struct fw_loader *loader)
{
    struct fw_config *config = loader->config;
    const struct scope root = {
        loader, &fw_root_table, loader->memory->root_origins, "", {.name = config->file}};
    if (loader->arena->failed || loader->report->arena.failed) {
        return; /* fields may be missing */
    }
    check_brokers(&root);
    check_api_key(&root);
    check_tls(&root);
    check_listen(&root);
    check_drain(&root);
    if (config->queue_count == 0 && loader->report->errors == 0) {
        fw_report_error(
            loader->report, root.group, "queues",
            "no queue to consume: add queues = ( { queue = \"NAME\"; handler = { plugin = "
            "\"log\"; }; } );");
    }
    uint32_t cpus = fw_cpus_granted("");
    for (size_t i = 0; i < config->queue_count; i++) {
        check_queue(loader, i, cpus);
    }
}

struct fw_delivery_config fw_config_delivery(const struct fw_queue_config *queue)
{
    return (struct fw_delivery_config){
        .visibility_timeout = queue->visibility_timeout,
        .timeout = queue->timeout,
        .concurrency = queue->concurrency,
        .streams = queue->streams,
        .prefetch = queue->prefetch,
        .prefetch_bytes = queue->prefetch_bytes,
        .retry_attempts = queue->retry_attempts,
        .retry_first = queue->retry_first,
        .retry_max = queue->retry_max,
        .max_deliveries = queue->max_deliveries,
        .dead_letter = queue->dead_letter,
        .surplus = queue->surplus,
        .unsure_lease = queue->unsure_lease,
        .lanes = queue->lane != FW_LANE_NONE,
        .rate = queue->rate,
        .breaker_failures = queue->breaker_failures,
        .breaker_probe = queue->breaker_probe,
        .breaker_max = queue->breaker_max,
        .settle_in_flight = 256,
    };
}

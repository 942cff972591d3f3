/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * Sums that no key is wrong in by itself: leases against handler time, drain against what a run may
 * take, descriptors, memory. Each finding names the inequality that fails and a value that passes.
 */
#include "base/clock.h"
#include "check.h"
#include "config/units.h"
#include "fila/plugin.h"

#include <inttypes.h>

/* What a stopped worker needs after its drain: a second for handlers that ran over it, and its own
 * end (host/supervisor.c). */
#define AFTER_DRAIN (2 * FILA_S)
/* The last of a drain is for returning what is left (conventions.md). */
#define FOR_RETURNING (2 * FILA_S)

enum {
    PIPE_SLOTS = 64 + 1 + 64 + 1, /* leased ahead on one Fila stream (delivery-engine.md) */
    MOST_SLOTS = 1000,            /* more is not advised */
    OWN_DESCRIPTORS = 32,         /* of an idle worker, connections included: 10 to 20 */
    RUN_DESCRIPTORS = 6,          /* of a running command or child process */
    PREFETCH_LEAST = 65536        /* config/table.c */
};

struct text {
    char text[FW_UNIT_TEXT_SIZE];
};

static struct text duration(int64_t ns)
{
    struct text text;
    fw_format_duration(ns / FILA_MS * FILA_MS, text.text);
    return text;
}

static struct text size_of(uint64_t bytes)
{
    struct text text;
    const uint64_t unit = bytes >= UINT64_C(4) << 20 ? UINT64_C(1) << 20 : UINT64_C(1) << 10;
    fw_format_size((int64_t)(bytes / unit * unit), text.text);
    return text;
}

static int64_t larger(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static int64_t timeout_of(const struct fw_queue_config *q)
{
    return q->timeout > 0 ? q->timeout : q->visibility_timeout / 2;
}

/* The least visibility timeout, in whole seconds, that leaves as much. */
static int64_t vt_for(int64_t work)
{
    int64_t vt = (work + FILA_S - 1) / FILA_S * FILA_S;
    while (fw_delivery_usable(vt) < work) {
        vt += larger(FILA_S, (work - fw_delivery_usable(vt)) / FILA_S * FILA_S);
    }
    return vt;
}

/* What a full pipe and the prefetch take to be worked off: the engine's rule 8. */
static int64_t work_off(const struct fw_queue_config *q, int64_t concurrency, int64_t time)
{
    int64_t prefetch = larger(q->prefetch, concurrency > q->concurrency ? 2 * concurrency : 0);
    return ((int64_t)q->streams * PIPE_SLOTS + prefetch) * time / concurrency + time;
}

/* "concurrency = N, " with the least that passes, or nothing. */
static const char *enough_slots(
    struct fw_findings *findings,
    const struct fw_queue_config *q,
    int64_t time,
    int64_t lease)
{
    for (int64_t slots = q->concurrency + 1; slots <= MOST_SLOTS; slots++) {
        if (work_off(q, slots, time) <= lease) {
            return fw_arena_print(&findings->arena, "concurrency = %" PRId64 ", ", slots);
        }
    }
    return "";
}

static void check_leases(
    struct fw_findings *findings,
    const struct fw_queue_config *q,
    const char *key,
    int64_t time)
{
    int64_t pipe = (int64_t)q->streams * PIPE_SLOTS;
    int64_t work = work_off(q, q->concurrency, time);
    int64_t lease = fw_delivery_usable(q->visibility_timeout);
    if (work <= lease) {
        return;
    }
    int64_t longest = lease * q->concurrency / (pipe + q->prefetch + q->concurrency);
    fw_findings_add(
        findings, false, q->file, q->line, key,
        "a long queue is leased faster than it is handled: (%" PRId64 " leased ahead + prefetch "
        "%" PRIu32 ") x %s / concurrency %" PRIu32 " + %s = %s > the %s that a lease leaves: the "
        "rest is returned, and handled out of order. Passes: visibility_timeout = \"%s\" (here and "
        "of the queue), %sor handlers of %s",
        pipe, q->prefetch, duration(time).text, q->concurrency, duration(time).text,
        duration(work).text, duration(lease).text, duration(vt_for(work)).text,
        enough_slots(findings, q, time, lease), duration(longest).text);
}

/* With a timeout over what a run takes, and the visibility timeout that this wants, if that is more
 * than now. */
static void report_cut(
    struct fw_findings *findings,
    const struct fw_queue_config *q,
    const char *key,
    int64_t time)
{
    int64_t enough = (time / FILA_S + 1) * FILA_S;
    int64_t vt = vt_for(enough + 1);
    const char *with = vt <= q->visibility_timeout
                           ? ""
                           : fw_arena_print(
                                 &findings->arena,
                                 " with visibility_timeout = \"%s\" (here and of the queue)",
                                 duration(vt).text);
    fw_findings_add(
        findings, false, q->file, q->line, key,
        "every run is cut: handlers of %s >= timeout %s. Passes: timeout = \"%s\"%s",
        duration(time).text, duration(timeout_of(q)).text, duration(enough).text, with);
}

/* Tries and the backoffs between them in one lease: the engine's rule 6. */
static void check_tries(
    struct fw_findings *findings,
    const struct fw_queue_config *q,
    const char *key,
    int64_t time)
{
    int64_t backoffs = 0;
    int64_t wait = q->retry_first;
    for (uint32_t i = 1; i < q->retry_attempts && backoffs < INT64_MAX / 4; i++) {
        backoffs += wait;
        wait = wait < q->retry_max / 2 ? 2 * wait : q->retry_max;
    }
    int64_t work = backoffs + (int64_t)q->retry_attempts * time;
    int64_t lease = fw_delivery_usable(q->visibility_timeout);
    if (q->retry_attempts < 2 || work <= lease) {
        return;
    }
    fw_findings_add(
        findings, false, q->file, q->line, key,
        "the tries of a failing message do not fit one lease: %" PRIu32
        " x %s + backoffs %s = %s > "
        "the %s that a lease leaves: with several workers each counts its own. Passes: "
        "visibility_timeout = \"%s\" (here and of the queue)",
        q->retry_attempts, duration(time).text, duration(backoffs).text, duration(work).text,
        duration(lease).text, duration(vt_for(work)).text);
}

static void check_drain(struct fw_findings *findings, const struct fw_config *config, int64_t grace)
{
    for (size_t i = 0; i < config->queue_count; i++) {
        const struct fw_queue_config *q = &config->queues[i];
        int64_t needed = timeout_of(q) + FOR_RETURNING;
        if (needed > config->drain_timeout) {
            fw_findings_add(
                findings, false, q->file, q->line,
                fw_arena_print(&findings->arena, "queue \"%s\"", q->queue),
                "a stop cuts runs short: timeout %s + %s for returning > drain_timeout %s. Passes: "
                "drain_timeout = \"%s\", or timeout = \"%s\"",
                duration(timeout_of(q)).text, duration(FOR_RETURNING).text,
                duration(config->drain_timeout).text, duration(needed).text,
                duration(larger(config->drain_timeout - FOR_RETURNING, FILA_MS)).text);
        }
    }
    if (grace > 0 && config->drain_timeout + AFTER_DRAIN > grace) {
        fw_findings_add(
            findings, false, config->file, 0, "drain_timeout",
            "the worker is killed before its drain is over: drain_timeout %s + %s > the grace "
            "period %s. Passes: drain_timeout = \"%s\", or a grace period of %s",
            duration(config->drain_timeout).text, duration(AFTER_DRAIN).text, duration(grace).text,
            duration(larger(grace - AFTER_DRAIN, FILA_S)).text,
            duration(config->drain_timeout + AFTER_DRAIN).text);
    }
}

static bool runs_processes(const struct fw_queue_config *q)
{
    return q->isolation == FW_ISOLATION_PROCESS || strcmp(q->handler_plugin, "exec") == 0;
}

static void check_descriptors(
    struct fw_findings *findings,
    const struct fw_config *config,
    uint64_t limit)
{
    uint64_t needed = OWN_DESCRIPTORS;
    for (size_t i = 0; i < config->queue_count; i++) {
        const struct fw_queue_config *q = &config->queues[i];
        needed += 2 + (runs_processes(q) ? (uint64_t)q->concurrency * RUN_DESCRIPTORS : 0);
    }
    if (needed > limit) {
        fw_findings_add(
            findings, false, config->file, 0, "queues",
            "descriptors may run out: about %" PRIu64 " for the worker, its queues and %d for each "
            "running command > the limit of %" PRIu64 ". Passes: ulimit -n %" PRIu64
            " (LimitNOFILE= of a systemd unit), or less concurrency",
            needed, RUN_DESCRIPTORS, limit, needed);
    }
}

/* What a running message publishes is kept until the broker has it. Those that are shipped publish
 * nothing. */
static uint64_t published_by(const struct fw_queue_config *q)
{
    bool silent = strcmp(q->handler_plugin, "exec") == 0 || strcmp(q->handler_plugin, "log") == 0;
    return silent ? 0 : (uint64_t)q->concurrency * FILA_PUBLISH_BYTES_MAX;
}

static void check_memory(
    struct fw_findings *findings,
    const struct fw_config *config,
    uint64_t limit)
{
    uint64_t held = 0;
    uint64_t published = 0;
    uint64_t most = limit / 4 * 3;
    for (size_t i = 0; i < config->queue_count; i++) {
        held += 2 * config->queues[i].prefetch_bytes; /* those waiting for a retry have as much */
        published += published_by(&config->queues[i]);
    }
    if (held + published <= most) {
        return;
    }
    uint64_t left = published < most ? (most - published) / (2 * config->queue_count) : 0;
    fw_findings_add(
        findings, false, config->file, 0, "queues",
        "messages alone may fill the memory: 2 x prefetch_bytes = %s over all queues + %s that "
        "running messages may publish (%s each, where a handler publishes) > 3/4 of the %s that "
        "this process may use. Passes: %s%s%s",
        size_of(held).text, size_of(published).text, size_of(FILA_PUBLISH_BYTES_MAX).text,
        size_of(limit).text, left >= PREFETCH_LEAST ? "prefetch_bytes = \"" : "less concurrency",
        left >= PREFETCH_LEAST ? size_of(left).text : "",
        left >= PREFETCH_LEAST ? "\" for each queue" : "");
}

void fw_check_sums(
    struct fw_findings *findings,
    const struct fw_config *config,
    const struct fw_surroundings *around)
{
    for (size_t i = 0; i < config->queue_count && around->handler_time > 0; i++) {
        const struct fw_queue_config *q = &config->queues[i];
        const char *key = fw_arena_print(&findings->arena, "queue \"%s\"", q->queue);
        if (around->handler_time >= timeout_of(q)) {
            report_cut(findings, q, key, around->handler_time);
            continue;
        }
        check_leases(findings, q, key, around->handler_time);
        check_tries(findings, q, key, around->handler_time);
    }
    check_drain(findings, config, around->grace);
    check_descriptors(findings, config, around->descriptors);
    check_memory(findings, config, around->memory);
}

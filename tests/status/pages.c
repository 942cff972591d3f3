/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * The pages as wholes: health with its culprits, metrics line by line, JSON that parses.
 */
#include "base/clock.h"
#include "rig.h"
#include "status/health.h"
#include "status/metrics.h"
#include "status/status_json.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include <jansson.h>
#include <stdlib.h>

static char *ready_text(const struct fw_snapshot *s, bool *ret_ready)
{
    struct fw_writer out = {0};
    size_t len = 0;
    *ret_ready = fw_health_ready(s, &out);
    return fw_writer_take(&out, &len);
}

static void expect_ready(const struct fw_snapshot *s, bool ready, const char *text)
{
    bool got = false;
    char *said = ready_text(s, &got);
    cr_expect(eq(int, got, ready), "%s", said);
    cr_expect(eq(str, said, (char *)text));
    free(said);
}

Test(pages, ready_or_the_culprit)
{
    struct fw_snapshot *s = rig_snapshot(2);
    expect_ready(s, true, "ok\n");
    expect_ready(NULL, false, "the I/O thread does not answer\n");

    s->queues[1].troubles[FW_TROUBLE_BREAKER_OPEN] =
        (struct fw_trouble_state){88 * FILA_S, "the database is away"};
    expect_ready(
        s, false,
        "queue \"q1\": breaker_open for 12 s: the database is away (BREAKER-OPEN: Repair the "
        "dependency, which the reason names; trials go on by themselves. A restart of the worker "
        "helps nothing.)\n");
    s->queues[1].stats.draining = true; /* one that a reload has ended is no culprit */
    expect_ready(s, true, "ok\n");
    s->queues[1].stats.draining = false;
    s->queues[1].gone = true;
    expect_ready(s, true, "ok\n");

    s->queues[0].troubles[FW_TROUBLE_OVERLEASED] = (struct fw_trouble_state){1, "x"};
    expect_ready(s, true, "ok\n"); /* told elsewhere: the queue does its work */
    s->queues[0].troubles[FW_TROUBLE_PAUSED] = (struct fw_trouble_state){FILA_S, ""};
    s->draining = true;
    s->now = 10000 * FILA_S;
    expect_ready(
        s, false,
        "draining: the worker is stopping\n"
        "queue \"q0\": paused for 2 h (QUEUE-PAUSED: `fila-worker ctl resume`, or SIGCONT.)\n");
    s->draining = false;
    s->start_took = 0;
    s->queues[0].troubles[FW_TROUBLE_PAUSED].since = 0;
    expect_ready(s, false, "starting: handlers are being loaded\n");
    fw_snapshot_free(s);
}

static void expect_live(const struct fw_snapshot *s, bool supervisor, bool live, const char *text)
{
    struct fw_writer out = {0};
    size_t len = 0;
    cr_expect(eq(int, fw_health_live(s, supervisor, &out), live));
    char *said = fw_writer_take(&out, &len);
    cr_expect(eq(str, said, (char *)text));
    free(said);
}

Test(pages, live_or_the_culprit)
{
    struct fw_snapshot *s = rig_snapshot(1);
    expect_live(s, true, true, "ok\n");
    expect_live(NULL, true, false, "the I/O thread does not answer\n");
    expect_live(s, false, false, "the supervisor thread does not answer\n");
    s->queues[0].stuck_limit = 8;
    s->queues[0].stuck = 8;
    s->queues[0].troubles[FW_TROUBLE_STUCK] =
        (struct fw_trouble_state){10 * FILA_S, "8 did not return"};
    expect_live(s, true, true, "ok\n");
    s->queues[0].stuck = 9;
    expect_live(
        s, true, false,
        "queue \"q0\": handler_stuck for 90 s: 8 did not return (HANDLER-STUCK: Restart the "
        "worker: until then the thread is lost. With isolation = \"process\" such a handler is "
        "killed by itself.)\n");
    fw_snapshot_free(s);
}

static char *metrics(const struct fw_snapshot *s)
{
    struct fw_process_figures process = {.cpu_ns = 1500 * FILA_MS, .started = 1.5};
    size_t len = 0;
    char *page = fw_metrics_page(s, &process, &len);
    cr_assert(page != NULL);
    cr_assert(eq(sz, len, strlen(page)));
    return page;
}

Test(pages, metrics_lines)
{
    static const char *const LINES[] = {
        ("# TYPE fila_worker_messages_received_total counter\n"
         "fila_worker_messages_received_total{queue=\"a\\\\b\\\"c\\nd\",handler=\"exec\"} 7\n"),
        "fila_worker_messages_finished_total{queue=\"a\\\\b\\\"c\\nd\",handler=\"exec\",outcome=\"acked\"} 7\n",
        "_bucket{queue=\"a\\\\b\\\"c\\nd\",handler=\"exec\",le=\"0.0005\"} 0\n",
        "_bucket{queue=\"a\\\\b\\\"c\\nd\",handler=\"exec\",le=\"0.001\"} 1\n",
        "_bucket{queue=\"a\\\\b\\\"c\\nd\",handler=\"exec\",le=\"0.005\"} 5\n",
        "_bucket{queue=\"a\\\\b\\\"c\\nd\",handler=\"exec\",le=\"+Inf\"} 7\n",
        "handler_duration_seconds_sum{queue=\"a\\\\b\\\"c\\nd\",handler=\"exec\"} 0.028\n",
        "settle_errors_total{queue=\"a\\\\b\\\"c\\nd\",handler=\"exec\",call=\"nack\",code=\"timeout\"} 3\n",
        "fila_worker_breaker_state{queue=\"a\\\\b\\\"c\\nd\",handler=\"exec\"} 2\n",
        "trouble=\"visibility_timeout_short\"} 1\n",
        "fila_worker_handler_counter_total{queue=\"a\\\\b\\\"c\\nd\",handler=\"exec\",name=\"thumbs\"} 4\n",
        "fila_worker_plugin_info{queue=\"a\\\\b\\\"c\\nd\",handler=\"exec\",version=\"1.0\",build_id=\"abcd\"} 1\n",
        "fila_worker_ready 1\n",
        "fila_worker_draining 0\n",
        "process_cpu_seconds_total 1.5\n",
        "process_start_time_seconds 1.5\n",
    };
    struct fw_handler_counter counter = {"thumbs", 4};
    struct fw_snapshot *s = rig_snapshot(1);
    struct fw_queue_status *q = &s->queues[0];
    q->queue = "a\\b\"c\nd";
    q->counters.settle_errors[FW_CALL_NACK][FILA_TIMEOUT] = 3;
    q->look.breaker_since = 1;
    q->look.breaker_trial = true;
    q->troubles[FW_TROUBLE_VT_SHORT].since = 1;
    q->handler_counters = &counter;
    q->handler_counter_count = 1;
    char *page = metrics(s);
    for (size_t i = 0; i < sizeof LINES / sizeof *LINES; i++) {
        cr_expect(strstr(page, LINES[i]) != NULL, "missing: %s", LINES[i]);
    }
    free(page);
    fw_snapshot_free(s);
}

Test(pages, metrics_of_what_is_gone_are_counters_only)
{
    struct fw_snapshot *s = rig_snapshot(1);
    s->queues[0].gone = true;
    char *page = metrics(s);
    cr_expect(strstr(page, "messages_received_total{queue=\"q0\",handler=\"exec\"} 7\n") != NULL);
    cr_expect(strstr(page, "fila_worker_running{") == NULL);
    cr_expect(strstr(page, "fila_worker_stream_up{") == NULL);
    free(page);
    fw_snapshot_free(s);
}

Test(pages, status_is_json)
{
    struct fw_held_status held = {
        .id = "m",
        .phase = FW_HELD_RUNNING,
        .tries = 2,
        .read_at = 90 * FILA_S,
        .run_at = 95 * FILA_S,
        .lease_end = 99 * FILA_S,
        .enqueued_ms = INT64_C(1699999990000)};
    struct fw_recent_status recent = {
        .event = FW_EVENT_MESSAGE_DEAD,
        .wall_ms = INT64_C(1699999999123),
        .id = "\xc3\xbc\"",
        .attempt = 5,
        .cause = "retry",
        .text = "</script>"};
    struct fw_stream_status stream = {.up = true, .opens = 1, .code = "", .error = ""};
    struct fw_snapshot *s = rig_snapshot(1);
    s->queues[0].held_list = &held;
    s->queues[0].held_count = 1;
    s->queues[0].stats.held = 3;
    s->queues[0].recent_list = &recent;
    s->queues[0].recent_count = 1;
    s->queues[0].stream_list = &stream;
    size_t len = 0;
    json_error_t error;
    char *page = fw_status_page(s, &len);
    json_t *root = json_loadb(page, len, 0, &error);
    cr_assert(root != NULL, "%s", error.text);
    json_t *queue = json_array_get(json_object_get(root, "queues"), 0);
    json_t *first = json_array_get(json_object_get(queue, "held"), 0);
    cr_expect(eq(i64, json_integer_value(json_object_get(first, "lease_left_ms")), -1000));
    cr_expect(eq(i64, json_integer_value(json_object_get(first, "running_ms")), 5000));
    cr_expect(eq(i64, json_integer_value(json_object_get(first, "age_ms")), 10000));
    bool cut = json_is_true(json_object_get(queue, "held_cut"));
    cr_expect(cut);
    json_t *failure = json_array_get(json_object_get(queue, "recent"), 0);
    char *at = strdup(json_string_value(json_object_get(failure, "at")));
    char *why = strdup(json_string_value(json_object_get(failure, "error")));
    cr_expect(eq(str, at, "2023-11-14T22:13:19.123Z"));
    cr_expect(eq(str, why, "</script>"));
    free(at);
    free(why);
    bool ready = json_is_true(json_object_get(root, "ready"));
    cr_expect(ready);
    json_decref(root);
    free(page);
    fw_snapshot_free(s);
}

/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * Every metric family, in the order of the page, with what writes its samples.
 */
#include "base/clock.h"
#include "metrics_internal.h"

#include <stdio.h>

/* ---- Messages ---- */

static void received(struct fw_page *page, const struct fw_queue_status *q, fila_view labels)
{
    fw_sample(page, labels, q->stats.received);
}

static void finished(struct fw_page *page, const struct fw_queue_status *q, fila_view labels)
{
    for (int o = 0; o < FW_OUTCOME_COUNT; o++) {
        fw_sample_with(
            page, labels, "outcome", fw_outcome_name((enum fw_outcome)o), q->stats.finished[o]);
    }
}

static void failures(struct fw_page *page, const struct fw_queue_status *q, fila_view labels)
{
    for (int c = FW_CAUSE_NONE + 1; c < FW_CAUSE_COUNT; c++) {
        fw_sample_with(
            page, labels, "cause", fw_cause_name((enum fw_cause)c), q->stats.failures[c]);
    }
}

static void handler_duration(
    struct fw_page *page,
    const struct fw_queue_status *q,
    fila_view labels)
{
    fw_sample_histogram(page, labels, &q->counters.handler_duration, &FW_EDGES_RUN);
}

static void queue_wait(struct fw_page *page, const struct fw_queue_status *q, fila_view labels)
{
    fw_sample_histogram(page, labels, &q->counters.queue_wait, &FW_EDGES_RUN);
}

static void message_age(struct fw_page *page, const struct fw_queue_status *q, fila_view labels)
{
    fw_sample_histogram(page, labels, &q->counters.message_age, &FW_EDGES_AGE);
}

static void lease_at_start(struct fw_page *page, const struct fw_queue_status *q, fila_view labels)
{
    fw_sample_histogram(page, labels, &q->counters.lease_at_start, &FW_EDGES_LEASE);
}

static void settle_duration(struct fw_page *page, const struct fw_queue_status *q, fila_view labels)
{
    fw_sample_histogram(page, labels, &q->counters.settle_duration, &FW_EDGES_SETTLE);
}

/* Only those that have happened: three calls times twenty codes would be 60 lines a queue. */
static void settle_errors(struct fw_page *page, const struct fw_queue_status *q, fila_view labels)
{
    for (int call = 0; call < FW_CALL_COUNT; call++) {
        const char *name = fw_settle_call_name((enum fw_settle_call)call);
        for (int code = 1; code < FILA_STATUS_COUNT; code++) {
            if (q->counters.settle_errors[call][code]) {
                const struct fw_label of = {"code", fila_status_name((fila_status)code)};
                fw_sample_with_two(
                    page, labels, &(struct fw_label){"call", name}, &of,
                    q->counters.settle_errors[call][code]);
            }
        }
    }
}

/* ---- Now ---- */

static void held(struct fw_page *page, const struct fw_queue_status *q, fila_view labels)
{
    fw_sample(page, labels, q->stats.held);
}

static void held_bytes(struct fw_page *page, const struct fw_queue_status *q, fila_view labels)
{
    fw_sample(page, labels, q->stats.held_bytes);
}

static void running(struct fw_page *page, const struct fw_queue_status *q, fila_view labels)
{
    fw_sample(page, labels, q->stats.running);
}

static void retry_waiting(struct fw_page *page, const struct fw_queue_status *q, fila_view labels)
{
    fw_sample(page, labels, q->stats.retry_waiting);
}

static void slots(struct fw_page *page, const struct fw_queue_status *q, fila_view labels)
{
    fw_sample(page, labels, q->concurrency);
}

static void stuck(struct fw_page *page, const struct fw_queue_status *q, fila_view labels)
{
    fw_sample(page, labels, q->stuck);
}

static void stream_up(struct fw_page *page, const struct fw_queue_status *q, fila_view labels)
{
    fw_sample(page, labels, q->stats.streams_up);
}

static void reconnects(struct fw_page *page, const struct fw_queue_status *q, fila_view labels)
{
    fw_sample(page, labels, q->counters.reconnects);
}

static void breaker_state(struct fw_page *page, const struct fw_queue_status *q, fila_view labels)
{
    fw_sample(page, labels, !q->look.breaker_since ? 0 : !q->look.breaker_trial ? 1 : 2);
}

static void trouble(struct fw_page *page, const struct fw_queue_status *q, fila_view labels)
{
    for (int t = 0; t < FW_TROUBLE_COUNT; t++) {
        fw_sample_with(
            page, labels, "trouble", fw_trouble_name((enum fw_trouble)t),
            q->troubles[t].since != 0);
    }
}

static void visibility_timeout(
    struct fw_page *page,
    const struct fw_queue_status *q,
    fila_view labels)
{
    fw_sample_seconds(page, labels, q->look.visibility_timeout);
}

static void children(struct fw_page *page, const struct fw_queue_status *q, fila_view labels)
{
    for (int c = 0; c < FW_CHILD_STATES && q->has_children; c++) {
        fw_sample_with(page, labels, "state", q->children[c].name, q->children[c].value);
    }
}

static void child_exits(struct fw_page *page, const struct fw_queue_status *q, fila_view labels)
{
    for (int c = 0; c < FW_CHILD_CAUSES && q->has_children; c++) {
        fw_sample_with(page, labels, "cause", q->child_exits[c].name, q->child_exits[c].value);
    }
}

static void handler_counter(struct fw_page *page, const struct fw_queue_status *q, fila_view labels)
{
    for (uint32_t c = 0; c < q->handler_counter_count; c++) {
        fw_sample_with(
            page, labels, "name", q->handler_counters[c].name, q->handler_counters[c].value);
    }
}

static void plugin_info(struct fw_page *page, const struct fw_queue_status *q, fila_view labels)
{
    const struct fw_label version = {"version", q->handler_version};
    const struct fw_label build = {"build_id", q->handler_build_id};
    fw_sample_with_two(page, labels, &version, &build, 1);
}

/* ---- The worker ---- */

static void ready(struct fw_page *page, const struct fw_queue_status *q, fila_view labels)
{
    (void)q;
    fw_sample(page, labels, page->snapshot->start_took != 0);
}

static void draining(struct fw_page *page, const struct fw_queue_status *q, fila_view labels)
{
    (void)q;
    fw_sample(page, labels, page->snapshot->draining);
}

static void reloads(struct fw_page *page, const struct fw_queue_status *q, fila_view labels)
{
    (void)q;
    fw_sample_with(page, labels, "result", "done", page->snapshot->reloads_done);
    fw_sample_with(page, labels, "result", "refused", page->snapshot->reloads_refused);
}

static void build_info(struct fw_page *page, const struct fw_queue_status *q, fila_view labels)
{
    (void)q;
    fw_sample_with(page, labels, "version", FILA_WORKER_VERSION, 1);
}

static void cpu(struct fw_page *page, const struct fw_queue_status *q, fila_view labels)
{
    (void)q;
    fw_sample_seconds(page, labels, page->process->cpu_ns);
}

static void resident(struct fw_page *page, const struct fw_queue_status *q, fila_view labels)
{
    (void)q;
    fw_sample(page, labels, page->process->resident_bytes);
}

static void virtual_memory(struct fw_page *page, const struct fw_queue_status *q, fila_view labels)
{
    (void)q;
    fw_sample(page, labels, page->process->virtual_bytes);
}

static void threads(struct fw_page *page, const struct fw_queue_status *q, fila_view labels)
{
    (void)q;
    fw_sample(page, labels, page->process->threads);
}

static void open_fds(struct fw_page *page, const struct fw_queue_status *q, fila_view labels)
{
    (void)q;
    fw_sample(page, labels, page->process->open_fds);
}

static void max_fds(struct fw_page *page, const struct fw_queue_status *q, fila_view labels)
{
    (void)q;
    fw_sample(page, labels, page->process->max_fds);
}

static void start_time(struct fw_page *page, const struct fw_queue_status *q, fila_view labels)
{
    (void)q;
    fw_sample_seconds(page, labels, (int64_t)(page->process->started * 1000) * FILA_MS);
}

const struct fw_family fw_families[] = {
    {"messages_received_total", "counter",
     "Messages read from the broker; equals finished plus held.", FW_OF_QUEUE, received},
    {"messages_finished_total", "counter", "Deliveries that are over, by how they ended.",
     FW_OF_QUEUE, finished},
    {"handler_failures_total", "counter", "Tries that failed, by cause.", FW_OF_QUEUE, failures},
    {"handler_duration_seconds", "histogram", "How long a handler ran over one message.",
     FW_OF_QUEUE, handler_duration},
    {"queue_wait_seconds", "histogram", "From a message's being read to its first start.",
     FW_OF_QUEUE, queue_wait},
    {"message_age_seconds", "histogram",
     "From a message's being enqueued (by its id) to its being read.", FW_OF_QUEUE, message_age},
    {"lease_remaining_at_start_seconds", "histogram",
     "What was left of a message's lease, at the least, when it was started.", FW_OF_QUEUE,
     lease_at_start},
    {"settle_duration_seconds", "histogram", "From an ack or nack to its confirmation.",
     FW_OF_QUEUE, settle_duration},
    {"settle_errors_total", "counter",
     "Acks, nacks and dead-letter copies that were not confirmed, by the broker's answer.",
     FW_OF_QUEUE, settle_errors},
    {"held", "gauge", "Messages read and not finished.", FW_OF_QUEUE, held},
    {"held_bytes", "gauge", "Bytes of the messages held.", FW_OF_SERVED, held_bytes},
    {"running", "gauge", "Messages that a handler is at work on.", FW_OF_SERVED, running},
    {"retry_waiting", "gauge", "Failed messages that wait out their backoff.", FW_OF_SERVED,
     retry_waiting},
    {"slots", "gauge", "Messages that may run at once.", FW_OF_SERVED, slots},
    {"stuck_handlers", "gauge", "Handlers that did not return long after their deadline.",
     FW_OF_SERVED, stuck},
    {"children", "gauge", "Processes that run handlers (isolation = \"process\").", FW_OF_SERVED,
     children},
    {"child_exits_total", "counter", "Such processes that have ended, by cause.", FW_OF_SERVED,
     child_exits},
    {"stream_up", "gauge", "Consume streams that are open.", FW_OF_SERVED, stream_up},
    {"reconnects_total", "counter", "Streams that ended and had to be opened again.", FW_OF_QUEUE,
     reconnects},
    {"breaker_state", "gauge",
     "0 closed, 1 open (a dependency is down), 2 open with a trial under way.", FW_OF_SERVED,
     breaker_state},
    {"trouble", "gauge",
     "1 while the queue has this trouble; /readyz says which make it not ready.", FW_OF_SERVED,
     trouble},
    {"visibility_timeout_seconds", "gauge",
     "The visibility timeout reckoned with: shorter than configured when leases were seen to end sooner.",
     FW_OF_SERVED, visibility_timeout},
    {"handler_counter_total", "counter", "What a handler counts itself, by its own names.",
     FW_OF_SERVED, handler_counter},
    {"plugin_info", "gauge", "The handler plugin of a queue.", FW_OF_SERVED, plugin_info},
    {"ready", "gauge", "1 once every handler is loaded and every stream has been asked for.",
     FW_OF_WORKER, ready},
    {"draining", "gauge", "1 while the worker stops.", FW_OF_WORKER, draining},
    {"reloads_total", "counter", "Reloads of the config.", FW_OF_WORKER, reloads},
    {"build_info", "gauge", "The version of fila-worker.", FW_OF_WORKER, build_info},
    {"process_cpu_seconds_total", "counter", "CPU time of the process, user and system.",
     FW_OF_WORKER, cpu},
    {"process_resident_memory_bytes", "gauge", "Resident memory.", FW_OF_WORKER, resident},
    {"process_virtual_memory_bytes", "gauge", "Virtual memory.", FW_OF_WORKER, virtual_memory},
    {"process_threads", "gauge", "Threads.", FW_OF_WORKER, threads},
    {"process_open_fds", "gauge", "Open file descriptors.", FW_OF_WORKER, open_fds},
    {"process_max_fds", "gauge", "File descriptors that may be open.", FW_OF_WORKER, max_fds},
    {"process_start_time_seconds", "gauge", "When the process started, since 1970.", FW_OF_WORKER,
     start_time},
};

const size_t fw_family_count = sizeof fw_families / sizeof *fw_families;

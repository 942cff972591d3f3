/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * Every metric family, in the order of the page, with what writes its samples.
 */
#include "base/clock.h"
#include "metrics_internal.h"

#include <stdio.h>

#define EACH(page, i, q)                              \
    const struct fw_queue_status *q = (page)->queues; \
    for (uint32_t i = 0; i < (page)->queue_count; i++, q++)

/* What a queue has while it is served; the sums of those that are gone have only counters. */
#define EACH_SERVED(page, i, q) \
    EACH(page, i, q)            \
    if (!q->gone)

/* ---- Messages ---- */

static void received(struct fw_page *page)
{
    EACH(page, i, q)
    {
        fw_sample(page, page->labels[i], q->stats.received);
    }
}

static void finished(struct fw_page *page)
{
    EACH(page, i, q)
    {
        for (int o = 0; o < FW_OUTCOME_COUNT; o++) {
            fw_sample_with(
                page, page->labels[i], "outcome", fw_outcome_name((enum fw_outcome)o),
                q->stats.finished[o]);
        }
    }
}

static void failures(struct fw_page *page)
{
    EACH(page, i, q)
    {
        for (int c = FW_CAUSE_NONE + 1; c < FW_CAUSE_COUNT; c++) {
            fw_sample_with(
                page, page->labels[i], "cause", fw_cause_name((enum fw_cause)c),
                q->stats.failures[c]);
        }
    }
}

static void handler_duration(struct fw_page *page)
{
    EACH(page, i, q)
    {
        fw_sample_histogram(page, page->labels[i], &q->counters.handler_duration, &FW_EDGES_RUN);
    }
}

static void queue_wait(struct fw_page *page)
{
    EACH(page, i, q)
    {
        fw_sample_histogram(page, page->labels[i], &q->counters.queue_wait, &FW_EDGES_RUN);
    }
}

static void message_age(struct fw_page *page)
{
    EACH(page, i, q)
    {
        fw_sample_histogram(page, page->labels[i], &q->counters.message_age, &FW_EDGES_AGE);
    }
}

static void lease_at_start(struct fw_page *page)
{
    EACH(page, i, q)
    {
        fw_sample_histogram(page, page->labels[i], &q->counters.lease_at_start, &FW_EDGES_LEASE);
    }
}

static void settle_duration(struct fw_page *page)
{
    EACH(page, i, q)
    {
        fw_sample_histogram(page, page->labels[i], &q->counters.settle_duration, &FW_EDGES_SETTLE);
    }
}

/* Only those that have happened: three calls times twenty codes would be 60 lines a queue. */
static void settle_errors(struct fw_page *page)
{
    EACH(page, i, q)
    {
        for (int call = 0; call < FW_CALL_COUNT; call++) {
            struct fw_writer labels = {0};
            fw_write_text(&labels, page->labels[i]);
            fw_write(&labels, ",", 1);
            fw_write_label(&labels, "call", fw_settle_call_name((enum fw_settle_call)call));
            fw_write(&labels, "", 1);
            page->out.failed = page->out.failed || labels.failed;
            for (int code = 1; code < FILA_STATUS_COUNT && !labels.failed; code++) {
                if (q->counters.settle_errors[call][code]) {
                    fw_sample_with(
                        page, labels.data, "code", fila_status_name((fila_status)code),
                        q->counters.settle_errors[call][code]);
                }
            }
            fw_writer_fini(&labels);
        }
    }
}

/* ---- Now ---- */

static void held(struct fw_page *page)
{
    EACH(page, i, q)
    {
        fw_sample(page, page->labels[i], q->stats.held);
    }
}

static void held_bytes(struct fw_page *page)
{
    EACH_SERVED(page, i, q)
    {
        fw_sample(page, page->labels[i], q->stats.held_bytes);
    }
}

static void running(struct fw_page *page)
{
    EACH_SERVED(page, i, q)
    {
        fw_sample(page, page->labels[i], q->stats.running);
    }
}

static void retry_waiting(struct fw_page *page)
{
    EACH_SERVED(page, i, q)
    {
        fw_sample(page, page->labels[i], q->stats.retry_waiting);
    }
}

static void slots(struct fw_page *page)
{
    EACH_SERVED(page, i, q)
    {
        fw_sample(page, page->labels[i], q->concurrency);
    }
}

static void stuck(struct fw_page *page)
{
    EACH_SERVED(page, i, q)
    {
        fw_sample(page, page->labels[i], q->stuck);
    }
}

static void stream_up(struct fw_page *page)
{
    EACH_SERVED(page, i, q)
    {
        fw_sample(page, page->labels[i], q->stats.streams_up);
    }
}

static void reconnects(struct fw_page *page)
{
    EACH(page, i, q)
    {
        fw_sample(page, page->labels[i], q->counters.reconnects);
    }
}

static void breaker_state(struct fw_page *page)
{
    EACH_SERVED(page, i, q)
    {
        fw_sample(
            page, page->labels[i],
            !q->look.breaker_since   ? 0
            : !q->look.breaker_trial ? 1
                                     : 2);
    }
}

static void trouble(struct fw_page *page)
{
    EACH_SERVED(page, i, q)
    {
        for (int t = 0; t < FW_TROUBLE_COUNT; t++) {
            fw_sample_with(
                page, page->labels[i], "trouble", fw_trouble_name((enum fw_trouble)t),
                q->troubles[t].since != 0);
        }
    }
}

static void visibility_timeout(struct fw_page *page)
{
    EACH_SERVED(page, i, q)
    {
        fw_sample_seconds(page, page->labels[i], q->look.visibility_timeout);
    }
}

static void children(struct fw_page *page)
{
    EACH_SERVED(page, i, q)
    {
        for (int c = 0; c < FW_CHILD_STATES && q->has_children; c++) {
            fw_sample_with(
                page, page->labels[i], "state", q->children[c].name, q->children[c].value);
        }
    }
}

static void child_exits(struct fw_page *page)
{
    EACH_SERVED(page, i, q)
    {
        for (int c = 0; c < FW_CHILD_CAUSES && q->has_children; c++) {
            fw_sample_with(
                page, page->labels[i], "cause", q->child_exits[c].name, q->child_exits[c].value);
        }
    }
}

static void handler_counter(struct fw_page *page)
{
    EACH_SERVED(page, i, q)
    {
        for (uint32_t c = 0; c < q->handler_counter_count; c++) {
            fw_sample_with(
                page, page->labels[i], "name", q->handler_counters[c].name,
                q->handler_counters[c].value);
        }
    }
}

static void plugin_info(struct fw_page *page)
{
    EACH_SERVED(page, i, q)
    {
        struct fw_writer labels = {0};
        fw_write_text(&labels, page->labels[i]);
        fw_write(&labels, ",", 1);
        fw_write_label(&labels, "version", q->handler_version);
        fw_write(&labels, "", 1);
        page->out.failed = page->out.failed || labels.failed;
        if (!labels.failed) {
            fw_sample_with(page, labels.data, "build_id", q->handler_build_id, 1);
        }
        fw_writer_fini(&labels);
    }
}

/* ---- The worker ---- */

static void ready(struct fw_page *page)
{
    fw_sample(page, "", page->snapshot->start_took != 0);
}

static void draining(struct fw_page *page)
{
    fw_sample(page, "", page->snapshot->draining);
}

static void reloads(struct fw_page *page)
{
    fw_sample_with(page, "", "result", "done", page->snapshot->reloads_done);
    fw_sample_with(page, "", "result", "refused", page->snapshot->reloads_refused);
}

static void build_info(struct fw_page *page)
{
    fw_sample_with(page, "", "version", FILA_WORKER_VERSION, 1);
}

static void cpu(struct fw_page *page)
{
    fw_sample_seconds(page, "", page->process->cpu_ns);
}

static void resident(struct fw_page *page)
{
    fw_sample(page, "", page->process->resident_bytes);
}

static void virtual_memory(struct fw_page *page)
{
    fw_sample(page, "", page->process->virtual_bytes);
}

static void threads(struct fw_page *page)
{
    fw_sample(page, "", page->process->threads);
}

static void open_fds(struct fw_page *page)
{
    fw_sample(page, "", page->process->open_fds);
}

static void max_fds(struct fw_page *page)
{
    fw_sample(page, "", page->process->max_fds);
}

static void start_time(struct fw_page *page)
{
    fw_sample_seconds(page, "", (int64_t)(page->process->started * 1000) * FILA_MS);
}

const struct fw_family fw_families[] = {
    {"messages_received_total", "counter",
     "Messages read from the broker; equals finished plus held.", received},
    {"messages_finished_total", "counter", "Deliveries that are over, by how they ended.",
     finished},
    {"handler_failures_total", "counter", "Tries that failed, by cause.", failures},
    {"handler_duration_seconds", "histogram", "How long a handler ran over one message.",
     handler_duration},
    {"queue_wait_seconds", "histogram", "From a message's being read to its first start.",
     queue_wait},
    {"message_age_seconds", "histogram",
     "From a message's being enqueued (by its id) to its being read.", message_age},
    {"lease_remaining_at_start_seconds", "histogram",
     "What was left of a message's lease, at the least, when it was started.", lease_at_start},
    {"settle_duration_seconds", "histogram", "From an ack or nack to its confirmation.",
     settle_duration},
    {"settle_errors_total", "counter",
     "Acks, nacks and dead-letter copies that were not confirmed, by the broker's answer.",
     settle_errors},
    {"held", "gauge", "Messages read and not finished.", held},
    {"held_bytes", "gauge", "Bytes of the messages held.", held_bytes},
    {"running", "gauge", "Messages that a handler is at work on.", running},
    {"retry_waiting", "gauge", "Failed messages that wait out their backoff.", retry_waiting},
    {"slots", "gauge", "Messages that may run at once.", slots},
    {"stuck_handlers", "gauge", "Handlers that did not return long after their deadline.", stuck},
    {"children", "gauge", "Processes that run handlers (isolation = \"process\").", children},
    {"child_exits_total", "counter", "Such processes that have ended, by cause.", child_exits},
    {"stream_up", "gauge", "Consume streams that are open.", stream_up},
    {"reconnects_total", "counter", "Streams that ended and had to be opened again.", reconnects},
    {"breaker_state", "gauge",
     "0 closed, 1 open (a dependency is down), 2 open with a trial under way.", breaker_state},
    {"trouble", "gauge",
     "1 while the queue has this trouble; /readyz says which make it not ready.", trouble},
    {"visibility_timeout_seconds", "gauge",
     "The visibility timeout reckoned with: shorter than configured when leases were seen to end sooner.",
     visibility_timeout},
    {"handler_counter_total", "counter", "What a handler counts itself, by its own names.",
     handler_counter},
    {"plugin_info", "gauge", "The handler plugin of a queue.", plugin_info},
    {"ready", "gauge", "1 once every handler is loaded and every stream has been asked for.",
     ready},
    {"draining", "gauge", "1 while the worker stops.", draining},
    {"reloads_total", "counter", "Reloads of the config.", reloads},
    {"build_info", "gauge", "The version of fila-worker.", build_info},
    {"process_cpu_seconds_total", "counter", "CPU time of the process, user and system.", cpu},
    {"process_resident_memory_bytes", "gauge", "Resident memory.", resident},
    {"process_virtual_memory_bytes", "gauge", "Virtual memory.", virtual_memory},
    {"process_threads", "gauge", "Threads.", threads},
    {"process_open_fds", "gauge", "Open file descriptors.", open_fds},
    {"process_max_fds", "gauge", "File descriptors that may be open.", max_fds},
    {"process_start_time_seconds", "gauge", "When the process started, since 1970.", start_time},
};

const size_t fw_family_count = sizeof fw_families / sizeof *fw_families;

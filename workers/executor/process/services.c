/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "base/clock.h"
#include "handler.h"
#include "log/log.h"
#include "plugin/counters.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* services->host is the instance, which is inside the handler. */
static struct fw_handler *handler_of(const fila_services *services)
{
    struct fw_instance *instance = services->host;
    return (struct fw_handler *)((char *)instance - offsetof(struct fw_handler, instance));
}

/* fw_run_of(delivery)->runs is inside the handler, too. */
static struct fw_handler *handler_of_delivery(const fila_delivery *delivery)
{
    struct fw_runs *runs = fw_run_of(delivery)->runs;
    return (struct fw_handler *)((char *)runs - offsetof(struct fw_handler, runs));
}

/* One message at a time: a delivery that is not over is the current run's. */
static int service_cancelled(const fila_delivery *delivery)
{
    struct fw_handler *handler = handler_of_delivery(delivery);
    uint64_t id = atomic_load_explicit(&handler->current, memory_order_relaxed);
    uint64_t cancelled =
        atomic_load_explicit(&handler->area.control->cancelled, memory_order_relaxed);
    return (id && cancelled == id) ||
           fila_now() >= atomic_load_explicit(&fw_run_of(delivery)->deadline, memory_order_relaxed);
}

/* What is about this run, or a later one, stays there to be seen. */
static void drop_cancels(struct fw_handler *handler, uint64_t id)
{
    uint64_t about;
    while (recv(handler->cancel_fd, &about, sizeof about, MSG_PEEK | MSG_DONTWAIT) ==
               (ssize_t)sizeof about &&
           about < id) {
        (void)recv(handler->cancel_fd, &about, sizeof about, MSG_DONTWAIT);
    }
}

static int service_cancel_fd(const fila_delivery *delivery)
{
    struct fw_handler *handler = handler_of_delivery(delivery);
    drop_cancels(handler, atomic_load(&handler->current));
    return handler->cancel_fd;
}

/* Handlers that never ask for the descriptor must not fill it. */
void fw_handler_forget_cancels(struct fw_handler *handler, uint64_t id)
{
    uint64_t cancelled = atomic_load(&handler->area.control->cancelled);
    if (cancelled != handler->cancelled) {
        handler->cancelled = cancelled;
        drop_cancels(handler, id);
    }
}

/* The worker ends a child whose message is over its deadline; one that completes it after all, a
 * little late, has its answer: the message is given up. */
static int service_complete(const fila_delivery *delivery, int verdict, const char *reason)
{
    struct fw_run *run = fw_run_of(delivery);
    int64_t now = fila_now();
    (void)pthread_mutex_lock(&run->runs->mutex);
    if (run->delivery == delivery &&
        (atomic_load(&run->state) & FW_PHASE_MASK) == FW_PHASE_DEFERRED &&
        now >= atomic_load(&run->deadline)) {
        (void)fw_run_give_up_deferred(run, now);
    }
    (void)pthread_mutex_unlock(&run->runs->mutex);
    return fw_run_complete(delivery, verdict, reason);
}

void fw_handler_services(struct fw_handler *handler, fila_services *services)
{
    (void)handler_of(services);
    (void)handler;
    fw_run_services(services);
    services->complete = service_complete;
    services->cancelled = service_cancelled;
    services->cancel_fd = service_cancel_fd;
}

/* ---- What goes before a result ---- */

static void publish_one(struct fw_handler *handler, uint64_t id, const struct fw_outgoing *outgoing)
{
    struct fw_buffer *buffer = &handler->buffer;
    struct fw_packet packet = {.type = FW_PACKET_PUBLISH, .id = id};
    buffer->len = 0;
    fw_outgoing_write(buffer, outgoing);
    if (buffer->failed) {
        _exit(EXIT_FAILURE); /* no memory: nothing may be acked that was not sent */
    }
    packet.publish.total = (uint32_t)buffer->len;
    for (size_t at = 0; at < buffer->len; at += packet.publish.part.len) {
        size_t left = buffer->len - at;
        packet.publish.offset = (uint32_t)at;
        packet.publish.part.data = (const char *)buffer->bytes + at;
        packet.publish.part.len = left < FW_PUBLISH_PART ? left : FW_PUBLISH_PART;
        fw_handler_send(handler, &packet);
    }
}

void fw_handler_publish(struct fw_handler *handler, uint64_t id, const struct fw_outgoing *list)
{
    for (; list; list = list->next) {
        publish_one(handler, id, list);
    }
}

struct counting {
    struct fw_handler *handler;
    size_t index;
};

static void count_one(void *user, const char *name, uint64_t value)
{
    struct counting *counting = user;
    uint64_t *known = &counting->handler->counted[counting->index++];
    if (value != *known) {
        struct fw_packet packet = {.type = FW_PACKET_COUNT};
        packet.count.name = fila_view_of(name);
        packet.count.delta = value - *known;
        *known = value;
        fw_handler_send(counting->handler, &packet);
    }
}

void fw_handler_count(struct fw_handler *handler)
{
    struct counting counting = {.handler = handler};
    fw_counters_each(handler->plugin->counters, count_one, &counting);
}

/* ---- The log ---- */

/* What the worker knows by itself. */
static bool is_known(const char *name)
{
    return !strcmp(name, "queue") || !strcmp(name, "handler") || !strcmp(name, "message_id") ||
           !strcmp(name, "attempt");
}

static void send_line(
    void *user,
    enum fw_event event,
    const struct fw_field *fields,
    size_t count,
    const char *text)
{
    char line[8192];
    int len = snprintf(line, sizeof line, "%s", text);
    for (size_t i = 0; i < count && len > 0 && (size_t)len < sizeof line; i++) {
        const struct fw_field *field = &fields[i];
        size_t room = sizeof line - (size_t)len;
        if (is_known(field->name) || field->kind == FW_FIELD_REAL) {
            continue;
        }
        len += field->kind == FW_FIELD_INT
                   ? snprintf(line + len, room, " %s=%" PRId64, field->name, field->integer)
                   : snprintf(
                         line + len, room, " %s=%.*s", field->name, (int)field->text.len,
                         field->text.data);
    }
    struct fw_packet packet = {.type = FW_PACKET_LOG};
    packet.log.event = (uint32_t)event;
    packet.log.text = fila_view_of(line);
    fw_handler_send(user, &packet);
}

void fw_handler_log(struct fw_handler *handler)
{
    fw_log_to(send_line, handler);
}

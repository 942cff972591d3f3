/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "base/clock.h"
#include "run.h"
#include "wire/codec.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* Brokers take UTF-8 only: what is none becomes '?'. */
static void make_utf8(char *text, size_t len)
{
    for (size_t at = 0; at < len;) {
        unsigned char lead = (unsigned char)text[at];
        size_t size = lead < 0x80 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
        if (size <= len - at && fila_utf8_valid(text + at, size)) {
            at += size;
        } else {
            text[at++] = '?';
        }
    }
}

char *fw_reason_copy(const char *text)
{
    char *copy = text && *text ? strndup(text, FW_REASON_SIZE - 1) : NULL;
    if (copy) {
        make_utf8(copy, strlen(copy));
    }
    return copy;
}

static void service_reason(
    const fila_services *services,
    const fila_delivery *delivery,
    const char *text)
{
    if (!delivery) {
        struct fw_instance *instance = services->host;
        (void)snprintf(instance->reason, sizeof instance->reason, "%s", text ? text : "");
        return;
    }
    struct fw_run *run = fw_run_of(delivery);
    free(run->reason);
    run->reason = fw_reason_copy(text);
}

static void service_retry_after(const fila_delivery *delivery, int64_t ms)
{
    const int64_t most = INT64_C(7) * 24 * 3600 * 1000;
    int64_t bounded = ms < 0 ? 0 : ms > most ? most : ms;
    fw_run_of(delivery)->delay = bounded * FILA_MS;
}

static int service_next_header(
    const fila_delivery *delivery,
    size_t *cursor,
    const char **ret_key,
    size_t *ret_key_len,
    const char **ret_value,
    size_t *ret_value_len)
{
    fila_header header;
    if (!fila_message_next_header(fw_run_of(delivery)->message, cursor, &header)) {
        return 0;
    }
    *ret_key = header.key.data;
    *ret_key_len = header.key.len;
    *ret_value = header.value.data;
    *ret_value_len = header.value.len;
    return 1;
}

static int64_t service_deadline_ms(const fila_delivery *delivery)
{
    int64_t deadline = atomic_load_explicit(&fw_run_of(delivery)->deadline, memory_order_relaxed);
    int64_t left = deadline - fila_now();
    return left < 0 ? -1 - (-1 - left) / FILA_MS : left / FILA_MS;
}

static int service_cancelled(const fila_delivery *delivery)
{
    struct fw_run *run = fw_run_of(delivery);
    return atomic_load_explicit(&run->cancelled, memory_order_relaxed) == fw_run_generation(run) ||
           fila_now() >= atomic_load_explicit(&run->deadline, memory_order_relaxed);
}

static void service_cause(const fila_delivery *delivery, uint32_t cause)
{
    fw_run_of(delivery)->cause = cause;
}

static int service_cancel_fd(const fila_delivery *delivery)
{
    struct fw_run *run = fw_run_of(delivery);
    uint64_t count;
    if (run->cancel_fd < 0) {
        run->cancel_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    } else {
        (void)!read(run->cancel_fd, &count, sizeof count);
    }
    if (run->cancel_fd >= 0) {
        atomic_store(&run->fd_armed, fw_run_generation(run));
        if (service_cancelled(delivery)) {
            (void)!write(run->cancel_fd, &(uint64_t){1}, sizeof(uint64_t));
        }
    }
    return run->cancel_fd;
}

void fw_run_services(fila_services *services)
{
    services->reason = service_reason;
    services->retry_after = service_retry_after;
    services->next_header = service_next_header;
    services->deadline_ms = service_deadline_ms;
    services->cancelled = service_cancelled;
    services->complete = fw_run_complete;
    services->cause = service_cause;
    services->cancel_fd = service_cancel_fd;
    services->publish = fw_run_publish;
}

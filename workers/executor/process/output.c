/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "log/log.h"
#include "process.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#define CHUNKS_AT_ONCE 4  /* before others have their turn */
#define LINES_A_SECOND 50 /* that are logged */

static void keep_tail(struct fw_output *output, const char *bytes, size_t len)
{
    if (len >= FW_TAIL_SIZE) {
        memcpy(output->tail, bytes + len - FW_TAIL_SIZE, FW_TAIL_SIZE);
        output->tail_len = FW_TAIL_SIZE;
        return;
    }
    size_t room = FW_TAIL_SIZE - output->tail_len;
    if (len > room) {
        memmove(output->tail, output->tail + (len - room), output->tail_len - (len - room));
        output->tail_len -= len - room;
    }
    memcpy(output->tail + output->tail_len, bytes, len);
    output->tail_len += len;
}

static bool may_log(struct fw_output *output)
{
    int64_t second = fila_now() / FILA_S;
    if (second != output->second) {
        output->second = second;
        output->lines = 0;
    }
    return output->lines++ < LINES_A_SECOND;
}

void fw_output_clean(char *text, size_t len)
{
    for (char *zero = text; len && (zero = memchr(zero, '\0', len - (size_t)(zero - text)));) {
        *zero = '\xff';
    }
}

static void log_line(struct fw_child *child)
{
    struct fw_output *output = &child->output;
    fila_view text = {output->line, output->line_len};
    output->line_len = 0;
    if (!text.len || !fw_log_enabled(fw_event_level(FW_EVENT_CHILD_OUTPUT))) {
        return;
    }
    if (!may_log(output)) {
        output->left_out++;
        return;
    }
    const struct fw_field fields[] = {
        fw_str("queue", child->process->queue), fw_str("handler", child->process->handler),
        fw_int("pid", child->pid), fw_int("lines_left_out", (int64_t)output->left_out)};
    size_t count = output->left_out ? 4 : 3;
    output->left_out = 0;
    fw_output_clean(output->line, text.len);
    fw_log(FW_EVENT_CHILD_OUTPUT, fields, count, "%.*s", (int)text.len, text.data);
}

static void take_lines(struct fw_child *child, const char *bytes, size_t len)
{
    struct fw_output *output = &child->output;
    while (len) {
        const char *end = memchr(bytes, '\n', len);
        size_t part = end ? (size_t)(end - bytes) : len;
        size_t room = sizeof output->line - output->line_len;
        size_t kept = part < room ? part : room; /* the rest of a long line is cut off */
        memcpy(output->line + output->line_len, bytes, kept);
        output->line_len += kept;
        if (!end) {
            return;
        }
        log_line(child);
        bytes += part + 1;
        len -= part + 1;
    }
}

bool fw_output_read(struct fw_child *child)
{
    char *chunk = child->process->chunk;
    struct fw_output *output = &child->output;
    (void)pthread_mutex_lock(&child->process->locked.mutex);
    uint64_t run = child->locked.id;
    (void)pthread_mutex_unlock(&child->process->locked.mutex);
    if (run != output->run) { /* what an earlier message wrote says nothing of this one */
        output->run = run;
        output->tail_len = 0;
    }
    for (int i = 0; i < CHUNKS_AT_ONCE; i++) {
        ssize_t len = read(output->fd, chunk, FW_CHUNK_SIZE);
        if (len <= 0) {
            return len < 0 && (errno == EAGAIN || errno == EINTR);
        }
        keep_tail(output, chunk, (size_t)len);
        take_lines(child, chunk, (size_t)len);
    }
    return true;
}

void fw_output_end(struct fw_child *child)
{
    struct fw_output *output = &child->output;
    output->second = 0;
    log_line(child);
    if (output->left_out) {
        FW_LOG_CHILD(
            child, FW_EVENT_CHILD_OUTPUT, "it wrote more lines than are logged",
            fw_int("lines_left_out", (int64_t)output->left_out));
    }
    (void)close(output->fd); /* which also ends the watching */
    output->fd = -1;
}

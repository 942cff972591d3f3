/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "process.h"

#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

/* A text that is made piece by piece, and cut off where its room ends. */
struct text {
    char *at;
    size_t left;
};

static void __attribute__((format(printf, 2, 3))) say(struct text *text, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int len = vsnprintf(text->at, text->left, format, args);
    va_end(args);
    size_t done = len < 0 ? 0 : (size_t)len < text->left ? (size_t)len : text->left - 1;
    text->at += done;
    text->left -= done;
}

static const char *signal_name(int number, char buffer[16])
{
    const char *name = sigabbrev_np(number);
    if (!name) {
        (void)snprintf(buffer, 16, "%d", number);
        return buffer;
    }
    (void)snprintf(buffer, 16, "SIG%s", name);
    return buffer;
}

/* ---- What the child's own handler of signals tells ---- */

static fila_view base_name(fila_view path)
{
    const char *slash = memrchr(path.data, '/', path.len);
    if (slash) {
        path.len -= (size_t)(slash + 1 - path.data);
        path.data = slash + 1;
    }
    return path;
}

/* Loaded by its path, or, once replaced, by the descriptor that the child had. */
static bool is_plugin(const struct fw_child *child, fila_view module)
{
    const char *path = child->generation->path;
    return (module.len == strlen(path) && !memcmp(module.data, path, module.len)) ||
           (module.len >= 14 && !memcmp(module.data, "/proc/self/fd/", 14));
}

static void say_frame(struct text *text, const struct fw_child *child, const struct fw_frame *frame)
{
    char name[128];
    uint64_t offset = 0;
    fila_view module = base_name(
        is_plugin(child, frame->module) ? fila_view_of(child->generation->path) : frame->module);
    if (!module.len) {
        say(text, "0x%" PRIx64, frame->offset);
        return;
    }
    if (is_plugin(child, frame->module) &&
        fw_symbol_find(child->generation->fd, frame->offset, name, sizeof name, &offset)) {
        say(text, "%s+0x%" PRIx64 " ", name, offset);
    }
    say(text, "(%.*s+0x%" PRIx64 ")", (int)module.len, module.data, frame->offset);
}

void fw_reason_crash(struct fw_child *child, const struct fw_packet *packet)
{
    struct text text = {child->crash, sizeof child->crash};
    int number = packet->crash.number;
    bool plugin_seen = false;
    child->told_crash = true;
    child->crash_id = packet->id;
    child->crash_signal = number;
    child->crash[0] = '\0';
    if (number == SIGSEGV || number == SIGBUS) {
        say(&text, " at address 0x%" PRIx64, packet->crash.address);
    }
    if (packet->crash.other_thread) {
        say(&text, " in a thread of the plugin's own");
    }
    for (uint32_t i = 0; i < packet->crash.frame_count; i++) {
        const struct fw_frame *frame = &packet->crash.frames[i];
        bool plugin = is_plugin(child, frame->module);
        if (plugin_seen && !plugin && !frame->module.len) {
            break; /* the way to the plugin is ours */
        }
        plugin_seen = plugin_seen || plugin;
        say(&text, i ? " < " : ", in ");
        say_frame(&text, child, frame);
    }
}

/* ---- How it ended ---- */

static void say_end(struct text *text, const struct fw_child *child, int code, int status, bool oom)
{
    char buffer[16];
    if (code == CLD_EXITED) {
        say(text, "the handler's process ended itself with status %d", status);
    } else if (oom) {
        say(text, "the kernel killed the handler's process: out of memory (the cgroup's oom_kill "
                  "count has grown)");
    } else if (status == SIGKILL && !child->overdue && !child->rubbish) {
        say(text, "the handler's process was killed by SIGKILL, which this worker did not send: by "
                  "hand, or by the kernel for lack of memory");
    } else {
        say(text, "the handler crashed: %s", signal_name(status, buffer));
        if (child->told_crash && child->crash_signal == status) {
            say(text, "%s", child->crash);
        }
    }
}

/* The last lines, on one. */
static void say_tail(struct text *text, const struct fw_output *output)
{
    const char *tail = output->tail;
    size_t len = output->tail_len;
    while (len && (tail[len - 1] == '\n' || tail[len - 1] == ' ')) {
        len--;
    }
    if (!len) {
        return;
    }
    say(text, "; its last output: ");
    for (size_t i = 0; i < len && text->left > 1; i++) {
        unsigned char byte = (unsigned char)tail[i];
        char shown = tail[i];
        if (byte < 0x20) {
            shown = ' ';
        }
        if (byte == '\n') {
            shown = '|';
        }
        *text->at++ = shown;
        text->left--;
    }
    *text->at = '\0';
}

void fw_reason_end(
    const struct fw_child *child,
    int code,
    int status,
    bool oom,
    char *ret_text,
    size_t size)
{
    struct text text = {ret_text, size};
    const struct fw_generation *generation = child->generation;
    fila_view name = base_name(fila_view_of(generation->path));
    *ret_text = '\0';
    if (child->rubbish) {
        say(&text, "the handler's process was killed: %s", child->fault);
    } else {
        say_end(&text, child, code, status, oom);
    }
    say(&text, "; plugin %s", name.data);
    if (*generation->build_id) {
        say(&text, ", build id %s", generation->build_id);
    }
    say_tail(&text, &child->output);
}

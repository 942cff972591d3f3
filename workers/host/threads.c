/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "threads.h"

#include "base/clock.h"
#include "executor/process/symbols.h"
#include "log/log.h"
#include "plugin/stacks.h"
#include "status/build_id.h"

#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <inttypes.h>
#include <link.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PATIENCE (300 * FILA_MS)

enum {
    NAME_SIZE = 32,
    STATE_AFTER_NAME = 2, /* ") S" in /proc/self/task/ID/stat */
    STACK_SIZE = 3000     /* of a line of 4 KiB */
};

struct text {
    char data[STACK_SIZE];
    size_t len;
};

__attribute__((format(printf, 2, 3))) static void say(struct text *text, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int len = vsnprintf(text->data + text->len, sizeof text->data - text->len, format, args);
    va_end(args);
    size_t left = sizeof text->data - text->len;
    text->len += len < 0 ? 0 : (size_t)len < left ? (size_t)len : left - 1;
}

/* The name of the function, if the file is still the one that was loaded. */
static bool name_of(
    const char *file,
    const void *code,
    uint64_t address,
    char *ret_name,
    size_t size)
{
    char loaded[FW_BUILD_ID_SIZE];
    char found[FW_BUILD_ID_SIZE];
    uint64_t offset = 0;
    int fd = open(file, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return false;
    }
    fw_build_id(code, loaded, sizeof loaded);
    fw_file_build_id(fd, found);
    bool named = strcmp(loaded, found) == 0 && fw_symbol_find(fd, address, ret_name, size, &offset);
    (void)close(fd);
    return named;
}

/* "name (file+0x12)". Of a return address the call before it is meant. */
static void say_frame(struct text *text, uintptr_t address, bool is_call)
{
    struct dl_find_object found;
    char name[128];
    /* NOLINTNEXTLINE(performance-no-int-to-ptr): an address of code */
    void *code = (void *)(is_call ? address - 1 : address);
    if (_dl_find_object(code, &found) || !found.dlfo_link_map) {
        say(text, "0x%" PRIxPTR, address);
        return;
    }
    bool own = *found.dlfo_link_map->l_name == '\0';
    const char *file = own ? "/proc/self/exe" : found.dlfo_link_map->l_name;
    const char *slash = strrchr(file, '/');
    uint64_t offset = (uintptr_t)code - found.dlfo_link_map->l_addr;
    if (name_of(file, code, offset, name, sizeof name)) {
        say(text, "%s ", name);
    }
    say(text, "(%s+0x%" PRIx64 ")",
        own     ? "fila-worker"
        : slash ? slash + 1
                : file,
        (uint64_t)(address - found.dlfo_link_map->l_addr));
}

static void say_stack(struct text *text, const struct fw_stack *stack)
{
    for (uint32_t i = 0; i < stack->frame_count; i++) {
        say(text, "%s", i ? " < " : "");
        say_frame(text, stack->frames[i], i > 0);
    }
}

static size_t read_file(pid_t thread, const char *name, char *ret_text, size_t size)
{
    char path[64];
    (void)snprintf(path, sizeof path, "/proc/self/task/%d/%s", (int)thread, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, ret_text, size - 1);
    if (fd >= 0) {
        (void)close(fd);
    }
    size_t len = n > 0 ? (size_t)n : 0;
    len -= len && ret_text[len - 1] == '\n';
    ret_text[len] = '\0';
    return len;
}

/* What the kernel says that it does: R runs, S sleeps, D waits for a disk. */
static const char *state_of(pid_t thread)
{
    char line[512];
    (void)read_file(thread, "stat", line, sizeof line);
    const char *end = strrchr(line, ')');
    switch (end && end[1] ? end[STATE_AFTER_NAME] : '?') {
    case 'R':
        return "runs";
    case 'S':
        return "sleeps";
    case 'D':
        return "waits for a device";
    default:
        return "other";
    }
}

static void dump_one(int64_t number, pid_t thread)
{
    static const struct fw_stack NONE;
    struct text text = {.len = 0};
    struct fw_stack stack = NONE;
    char name[NAME_SIZE];
    const char *state = state_of(thread); /* before it is woken to answer */
    (void)read_file(thread, "comm", name, sizeof name);
    switch (fw_stack_take(thread, PATIENCE, &stack)) {
    case FW_STACK_TAKEN:
        say_stack(&text, &stack);
        break;
    case FW_STACK_NOT_ASKED:
        say(&text, "not asked");
        break;
    case FW_STACK_SILENT:
        say(&text, "no answer within %d ms", (int)(PATIENCE / FILA_MS));
        break;
    }
    struct fw_field fields[10] = {
        fw_int("dump", number), fw_str("thread", name), fw_int("thread_id", thread),
        fw_str("state", state)};
    size_t count = 4;
    if (stack.doing[0]) {
        fields[count++] = fw_str("doing", stack.doing);
        fields[count++] = fw_str("plugin", stack.plugin);
        fields[count++] = fw_str("queue", stack.queue[0] ? stack.queue : NULL);
        fields[count++] = fw_str("message_id", stack.message_id[0] ? stack.message_id : NULL);
    }
    if (stack.since) {
        fields[count++] = fw_int("running_ms", (fila_now() - stack.since) / FILA_MS);
    }
    fields[count++] = fw_text("stack", (fila_view){text.data, text.len});
    fw_log(FW_EVENT_DUMP, fields, count, "thread");
}

void fw_threads_dump(int64_t number)
{
    DIR *folder = opendir("/proc/self/task");
    const struct dirent *entry = NULL;
    /* NOLINTNEXTLINE(concurrency-mt-unsafe): a folder stream of its own */
    while (folder && (entry = readdir(folder))) {
        if (entry->d_name[0] != '.') {
            dump_one(number, (pid_t)strtol(entry->d_name, NULL, 10));
        }
    }
    if (folder) {
        (void)closedir(folder);
    }
}

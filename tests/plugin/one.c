/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "plugin/one.h"

#include "base/clock.h"
#include "base/error.h"
#include "wire/message.h"

#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    OPTIONS_MAX = 16
};

static struct {
    struct fw_plugin *plugin;
    struct fw_executor *executor;
    struct fw_done_list done;
    sem_t woken;
    struct fw_job job;
} one;

static void wake(void *user)
{
    (void)user;
    (void)sem_post(&one.woken);
}

struct converted {
    struct fw_handler_option items[OPTIONS_MAX];
    char names[OPTIONS_MAX][32];
    const char *values[OPTIONS_MAX][OPTIONS_MAX];
    size_t count;
};

static bool same_list(const struct converted *to, const char *name, bool is_list)
{
    return to->count && is_list && to->items[to->count - 1].is_list &&
           !strcmp(to->names[to->count - 1], name);
}

static void convert_one(const char *text, struct converted *to)
{
    char name[32];
    size_t len = strcspn(text, ":[=");
    bool is_list = text[len] == '[';
    const char *value = strchr(text, '=');
    (void)snprintf(name, sizeof name, "%.*s", (int)len, text);
    if (!same_list(to, name, is_list)) {
        size_t at = to->count++;
        memcpy(to->names[at], name, sizeof name);
        to->items[at] = (struct fw_handler_option){
            .name = to->names[at],
            .values = to->values[at],
            .is_list = is_list,
            .is_string = text[len] != ':',
            .file = "test.cfg",
            .line = (unsigned)at + 1,
        };
    }
    struct fw_handler_option *item = &to->items[to->count - 1];
    if (value) {
        to->values[to->count - 1][item->count++] = value + 1;
    }
}

static void convert(const char *const *options, struct converted *to)
{
    for (; options && *options; options++) {
        convert_one(*options, to);
    }
}

static fila_status bind_options(
    const struct fw_plugin_file *file,
    const one_options options,
    fila_error *reterr)
{
    static const char *const SECRETS[] = {"SECRET_OF_CONFIG"};
    struct converted converted = {.count = 0};
    convert(options, &converted);
    struct fw_plugin_problems problems;
    struct fw_plugin_binding binding = {
        .options = converted.items,
        .option_count = converted.count,
        .secret_variables = SECRETS,
        .secret_variable_count = 1,
    };
    fila_status status = fw_plugin_bind(file, &binding, &one.plugin, &problems);
    if (problems.count) {
        (void)fila_fail(reterr, status, "%s: %s", problems.items[0].key, problems.items[0].text);
    }
    fw_plugin_problems_free(&problems);
    return status;
}

fila_status one_open(const char *plugin, const one_options options, fila_error *reterr)
{
    struct fw_plugin_file *file = NULL;
    fila_status status = fw_plugin_open(plugin, &file, reterr);
    if (status) {
        return status;
    }
    status = bind_options(file, options, reterr);
    fw_plugin_close(file); /* what is bound does not need it */
    if (status) {
        return status;
    }
    (void)sem_init(&one.woken, 0, 0);
    one.done = (struct fw_done_list){.wake = wake};
    struct fw_executor_options with = {
        .queue = "orders",
        .plugin = one.plugin,
        .concurrency = 1,
        .done = &one.done,
    };
    status = fw_executor_start(&with, &one.executor, reterr);
    if (status) {
        fw_plugin_free(one.plugin);
    }
    return status;
}

void one_submit(const struct one_message *message)
{
    struct fila_message_fields fields = {
        .id = fila_view_of("019a0000-0000-7000-8000-000000000001"),
        .queue = fila_view_of("orders"),
        .fairness_key = fila_view_of(message->fairness_key),
        .payload = {message->payload, message->payload_len},
        .headers = message->headers,
        .header_count = message->header_count,
    };
    int64_t timeout = message->timeout_ms ? message->timeout_ms : 20000;
    one.job = (struct fw_job){
        .message = fila_message_make(&fields, NULL, NULL),
        .attempt = message->attempt ? message->attempt : 1,
        .deadline = fila_now() + timeout * FILA_MS,
    };
    if (!one.job.message) {
        abort();
    }
    fw_executor_submit(one.executor, &one.job);
}

void one_cancel(void)
{
    fw_executor_cancel(one.executor, &one.job);
}

struct one_result one_await(void)
{
    struct fw_job *job;
    while (!(job = fw_done_take(&one.done))) {
        if (fw_done_sleep_begin(&one.done)) {
            (void)sem_wait(&one.woken);
        }
        fw_done_sleep_end(&one.done);
    }
    struct one_result result = {
        .kind = job->verdict.kind,
        .cause = job->verdict.cause,
        .took_ms = (job->verdict.ended - job->verdict.started) / FILA_MS,
    };
    (void)snprintf(result.reason, sizeof result.reason, "%s", job->reason ? job->reason : "");
    free(job->reason);
    fw_job_free_message(job);
    return result;
}

struct one_result one_run(const struct one_message *message)
{
    one_submit(message);
    return one_await();
}

void one_close(void)
{
    if (fw_executor_stop(one.executor, fila_now() + 10 * FILA_S)) {
        fw_plugin_free(one.plugin);
    }
}

/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * Many commands at once on several threads: each is reaped by the thread that started it, whatever
 * the others do. Also for ThreadSanitizer.
 */
#include "base/clock.h"
#include "executor/executor.h"
#include "plugin/loader.h"
#include "wire/message.h"

#include <errno.h>
#include <poll.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>

enum {
    THREADS = 8
};

static sem_t woken;

static void wake(void *user)
{
    (void)user;
    (void)sem_post(&woken);
}

/* The payload says how to end. */
static const char *const PAYLOADS[] = {
    "exit 0", "exit 65", "kill -KILL $$", "exit 7", "sleep 0.01; exit 69"};

static enum fw_cause CAUSES[] = {
    FW_CAUSE_NONE, FW_CAUSE_REJECT, FW_CAUSE_CRASH, FW_CAUSE_RETRY, FW_CAUSE_UNAVAILABLE};

static struct fw_plugin *open_plugin(const char *path)
{
    static const char *const COMMAND[] = {"/bin/sh"};
    const struct fw_handler_option options[] = {
        {.name = "command", .values = COMMAND, .count = 1, .is_list = true, .is_string = true}};
    const struct fw_plugin_binding binding = {.options = options, .option_count = 1};
    struct fw_plugin_file *file = NULL;
    struct fw_plugin *plugin = NULL;
    struct fw_plugin_problems problems = {0};
    fila_error error = FILA_ERROR_INIT;
    if (fw_plugin_open(path, &file, &error) || fw_plugin_bind(file, &binding, &plugin, &problems)) {
        (void)fprintf(stderr, "%s\n", error.text);
        exit(1);
    }
    fw_plugin_close(file);
    fw_plugin_problems_free(&problems);
    return plugin;
}

static struct fw_job *new_job(int i)
{
    struct fw_job *job = calloc(1, sizeof *job);
    const struct fila_message_fields fields = {
        .id = fila_view_of("019a0000-0000-7000-8000-000000000001"),
        .queue = fila_view_of("orders"),
        .payload = fila_view_of(PAYLOADS[i % 5]),
    };
    if (!job || !(job->message = fila_message_make(&fields, NULL, NULL))) {
        abort();
    }
    job->deadline = fila_now() + 60 * FILA_S;
    job->user = &CAUSES[i % 5];
    return job;
}

static int take_results(struct fw_done_list *done, int *wrong)
{
    int count = 0;
    struct fw_job *job = fw_done_take(done);
    if (!job && fw_done_sleep_begin(done)) {
        (void)sem_wait(&woken);
    }
    fw_done_sleep_end(done);
    for (struct fw_job *next = NULL; job; job = next) {
        next = job->next;
        *wrong += job->verdict.cause != *(const enum fw_cause *)job->user;
        fw_job_free_message(job);
        free(job->reason);
        free(job);
        count++;
    }
    return count;
}

int main(int argc, char **argv)
{
    int total = argc > 2 ? atoi(argv[2]) : 200; // NOLINT(cert-err34-c)
    struct fw_plugin *plugin = open_plugin(argv[1]);
    struct fw_done_list done = {.wake = wake};
    struct fw_executor *executor = NULL;
    struct fw_executor_options options = {
        .queue = "orders", .plugin = plugin, .concurrency = THREADS, .done = &done};
    fila_error error = FILA_ERROR_INIT;
    int returned = 0;
    int wrong = 0;

    fw_log_init(FW_LOG_OFF, FW_LOG_TEXT);
    (void)sem_init(&woken, 0, 0);
    if (fw_executor_start(&options, &executor, &error)) {
        (void)fprintf(stderr, "%s\n", error.text);
        return 1;
    }
    for (int submitted = 0; returned < total;) {
        while (submitted < total && submitted - returned < THREADS) {
            fw_executor_submit(executor, new_job(submitted++));
        }
        returned += take_results(&done, &wrong);
    }
    bool stopped = fw_executor_stop(executor, fila_now() + 10 * FILA_S);
    fw_plugin_free(plugin);
    bool children = waitpid(-1, NULL, WNOHANG) >= 0 || errno != ECHILD;
    (void)printf(
        "%d commands, %d wrong, stop %d, children left %d\n", returned, wrong, stopped, children);
    return wrong || !stopped || children;
}

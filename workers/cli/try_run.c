/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "base/clock.h"
#include "cli.h"
#include "plugin/counters.h"
#include "try.h"
#include "wire/message.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

/* Made like a broker's, so that a handler that looks at it sees what it will see. */
static void make_id(char ret_id[37])
{
    uint64_t ms = (uint64_t)fila_wall_ms();
    (void)snprintf(
        ret_id, 37, "%08x-%04x-7000-8000-%012x", (unsigned)(ms >> 16), (unsigned)(ms & 0xffff),
        (unsigned)getpid());
}

static void wake(void *user)
{
    (void)!write(*(int *)user, &(uint64_t){1}, sizeof(uint64_t));
}

struct wait {
    struct fw_executor *executor;
    struct fw_done_list *done;
    struct fw_job *job;
    int woken;   /* eventfd */
    int signals; /* signalfd */
    bool cancelled;
};

/* The first signal cancels, the second one ends the program the hard way. */
static void on_signal(struct wait *wait)
{
    struct signalfd_siginfo info;
    if (read(wait->signals, &info, sizeof info) != (ssize_t)sizeof info) {
        return;
    }
    if (wait->cancelled) {
        _exit(128 + (int)info.ssi_signo);
    }
    wait->cancelled = true;
    fw_executor_cancel(wait->executor, wait->job);
}

static void await_result(struct wait *wait)
{
    while (!fw_done_take(wait->done)) {
        struct pollfd fds[] = {
            {.fd = wait->woken, .events = POLLIN},
            {.fd = wait->signals, .events = POLLIN},
        };
        if (fw_done_sleep_begin(wait->done)) {
            (void)poll(fds, 2, -1);
        }
        fw_done_sleep_end(wait->done);
        if (fds[0].revents) {
            (void)!read(wait->woken, &(uint64_t){0}, sizeof(uint64_t));
        }
        if (fds[1].revents) {
            on_signal(wait);
        }
    }
}

static int signal_descriptor(void)
{
    sigset_t set;
    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGINT);
    (void)sigaddset(&set, SIGTERM);
    (void)pthread_sigmask(SIG_BLOCK, &set, NULL);
    return signalfd(-1, &set, SFD_CLOEXEC);
}

static void note_counter(void *user, const char *name, uint64_t value)
{
    struct fw_try_result *result = user;
    if (result->counter_count < FILA_COUNTERS_MAX) {
        struct fw_try_counter *counter = &result->counters[result->counter_count++];
        (void)snprintf(counter->name, sizeof counter->name, "%s", name);
        counter->value = value;
    }
}

static int run_job(
    const struct fw_try *request,
    const struct fw_plugin *plugin,
    const struct fw_try_handler *handler,
    struct fw_job *job,
    struct fw_try_result *ret_result)
{
    fila_error error = FILA_ERROR_INIT;
    int woken = eventfd(0, EFD_CLOEXEC);
    struct fw_done_list done = {.wake = wake, .user = &woken};
    struct wait wait = {.done = &done, .job = job, .woken = woken, .signals = signal_descriptor()};
    struct fw_executor_options options = {
        .queue = request->queue,
        .plugin = plugin,
        .process = handler->in_child ? &handler->process : NULL,
        .concurrency = 1,
        .done = &done,
    };
    if (fw_executor_start(&options, &wait.executor, &error)) {
        (void)close(woken);
        (void)close(wait.signals);
        return handler->told ? handler->refused
                             : fw_cli_fail("try", FW_EXIT_PLUGIN, "%s", error.text);
    }
    job->deadline = fila_now() + request->timeout;
    fw_executor_submit(wait.executor, job);
    await_result(&wait);
    ret_result->verdict = job->verdict;
    ret_result->reason = job->reason;
    ret_result->outbox = job->outbox;
    ret_result->cancelled = wait.cancelled;
    fw_counters_each(fw_executor_counters(wait.executor), note_counter, ret_result);
    fw_job_free_message(job);
    (void)fw_executor_stop(wait.executor, fila_now() + FILA_S);
    (void)close(woken);
    (void)close(wait.signals);
    return FW_EXIT_OK;
}

static int (*wrapped_handle)(void *, const fila_delivery *, const fila_services *);

/* Where --gdb stops: one step before the handler. */
__attribute__((noinline)) int fw_try_handle(
    void *self,
    const fila_delivery *delivery,
    const fila_services *services)
{
    return wrapped_handle(self, delivery, services);
}

int fw_try_run(
    const struct fw_try *request,
    const struct fw_try_handler *handler,
    fila_view payload,
    struct fw_try_result *ret_result)
{
    char id[37];
    make_id(id);
    struct fila_message_fields fields = {
        .id = fila_view_of(id),
        .queue = fila_view_of(request->queue),
        .fairness_key = fila_view_of(request->key),
        .payload = payload,
        .attempt_count = request->attempt - 1,
        .headers = request->headers,
        .header_count = request->header_count,
    };
    struct fw_plugin stopped = {0};
    struct fw_job job = {.attempt = request->attempt};
    if (handler->plugin) {
        stopped = *handler->plugin;
        wrapped_handle = stopped.table.handle;
        stopped.table.handle = fw_try_handle;
    }
    job.message = fila_message_make(&fields, NULL, NULL);
    if (!job.message) {
        return fw_cli_fail("try", FW_EXIT_INTERNAL, "out of memory");
    }
    int status = run_job(request, handler->plugin ? &stopped : NULL, handler, &job, ret_result);
    if (job.message) {
        fila_message_free(job.message);
    }
    return status;
}

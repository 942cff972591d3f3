/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "exec.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXIT_REJECT      65 /* EX_DATAERR */
#define EXIT_UNAVAILABLE 69 /* EX_UNAVAILABLE */

/* What is kept free at the end of the time that the host gives: its clock and ours must agree that
 * it was in time. */
#define MARGIN_MS 200

struct runner {
    struct command command;
    struct environment environment;
    int64_t kill_after;
    bool log_output;
    struct tail tail;
    struct lines lines;
    char reason[REASON_SIZE];
};

static void runner_free(struct runner *runner)
{
    command_free(&runner->command);
    environment_fini(&runner->environment);
    free(runner);
}

static int64_t option_number(const fila_services *services, const char *name)
{
    return services->option(services, name)->integer;
}

static const char *option_text(const fila_services *services, const char *name)
{
    return services->option(services, name)->string;
}

static bool runner_set(struct runner *runner, const fila_services *services, char *why, size_t size)
{
    bool cleared = option_number(services, "clear_environment");
    const char *output = option_text(services, "stdout");
    runner->kill_after = option_number(services, "kill_after");
    runner->log_output = !strcmp(output, "log");
    if (!runner->log_output && strcmp(output, "discard") != 0) {
        (void)snprintf(why, size, "stdout: \"%.40s\" is neither \"discard\" nor \"log\"", output);
        return false;
    }
    if (!environment_init(
            &runner->environment, cleared ? NULL : services->environment(services),
            services->option(services, "environment"), why, size)) {
        return false;
    }
    const struct command_request request = {
        .words = services->option(services, "command"),
        .shell = option_number(services, "shell"),
        .directory = option_text(services, "directory"),
        .path_variable = environment_get(&runner->environment, "PATH"),
    };
    return command_find(&runner->command, &request, why, size);
}

static int exec_init(const fila_services *services, void **ret_self)
{
    char why[512] = "out of memory";
    struct runner *runner = calloc(1, sizeof *runner);
    if (!runner || !runner_set(runner, services, why, sizeof why)) {
        services->reason(services, NULL, why);
        if (runner) {
            runner_free(runner);
        }
        return -1;
    }
    *ret_self = runner;
    return 0;
}

/* ---- Verdicts ---- */

/* "what: the end of its standard error" */
__attribute__((format(printf, 4, 5))) static void give_reason(
    struct runner *runner,
    const fila_delivery *delivery,
    const fila_services *services,
    const char *format,
    ...)
{
    va_list args;
    va_start(args, format);
    int len = vsnprintf(runner->reason, REASON_SIZE - TAIL_SIZE - 3, format, args);
    va_end(args);
    size_t at = len < 0 ? 0 : (size_t)len;
    at = at < REASON_SIZE - TAIL_SIZE - 4 ? at : REASON_SIZE - TAIL_SIZE - 4;
    size_t told = tail_text(&runner->tail, runner->reason + at + 2, REASON_SIZE - at - 2);
    if (told) {
        memcpy(runner->reason + at, ": ", 2);
    } else {
        runner->reason[at] = '\0';
    }
    services->reason(services, delivery, runner->reason);
}

static const char *signal_name(int number)
{
    const char *name = sigabbrev_np(number);
    return name ? name : "?";
}

/* A command that was told to end may well say 0 without having done its work. */
static int verdict_of_ended(
    struct runner *runner,
    const struct child_result *result,
    const fila_delivery *delivery,
    const fila_services *services,
    int64_t took)
{
    give_reason(
        runner, delivery, services, "%s after %" PRId64 " ms, ended with SIG%s",
        result->late ? "no result" : "stopped by the worker", took,
        result->killed ? "KILL" : "TERM");
    if (result->late) {
        services->cause(delivery, FILA_CAUSE_TIMEOUT);
    }
    return FILA_RETRY;
}

static int verdict_of(
    struct runner *runner,
    const struct child_result *result,
    const fila_delivery *delivery,
    const fila_services *services,
    int64_t took)
{
    bool exited = result->end == CHILD_EXITED;
    if (result->ended_by_us && (!exited || result->status == EXIT_SUCCESS)) {
        return verdict_of_ended(runner, result, delivery, services, took);
    }
    if (!exited) {
        services->cause(delivery, FILA_CAUSE_CRASH);
        give_reason(
            runner, delivery, services, "ended by signal %d (SIG%s)%s", result->status,
            signal_name(result->status), result->dumped_core ? ", core dumped" : "");
        return FILA_RETRY;
    }
    if (result->status == EXIT_SUCCESS) {
        return FILA_ACK;
    }
    give_reason(runner, delivery, services, "exit status %d", result->status);
    return result->status == EXIT_REJECT        ? FILA_REJECT
           : result->status == EXIT_UNAVAILABLE ? FILA_UNAVAILABLE
                                                : FILA_RETRY;
}

/* It was there when the worker started: taken for something that comes back. E2BIG is the message's
 * own doing. */
static int verdict_of_failed_start(
    struct runner *runner,
    int error,
    const fila_delivery *delivery,
    const fila_services *services)
{
    char text[128];
    give_reason(
        runner, delivery, services, "cannot start %.100s: %s%s", runner->command.path,
        strerror_r(error, text, sizeof text),
        error == ENOEXEC ? " (a script needs a first line such as #!/bin/sh)" : "");
    return error == E2BIG ? FILA_RETRY : FILA_UNAVAILABLE;
}

static int exec_handle(void *self, const fila_delivery *delivery, const fila_services *services)
{
    struct runner *runner = self;
    int64_t left = services->deadline_ms(delivery);
    int64_t margin = left / 10 < MARGIN_MS ? left / 10 : MARGIN_MS;
    int64_t kill_after = left / 4 < runner->kill_after ? left / 4 : runner->kill_after;
    struct child_task task = {
        .command = &runner->command,
        .delivery = delivery,
        .services = services,
        .term_at = margin + kill_after,
        .kill_at = margin,
        .log_output = runner->log_output,
        .tail = &runner->tail,
        .lines = &runner->lines,
    };
    struct child_result result;
    runner->tail.at = 0;
    runner->tail.full = false;
    runner->lines.services = services;
    runner->lines.delivery = delivery;
    runner->lines.len = 0;
    runner->lines.total = 0;
    task.environment =
        environment_of(&runner->environment, delivery, services, left - task.term_at);
    int error = child_run(&task, &result);
    return error ? verdict_of_failed_start(runner, error, delivery, services)
                 : verdict_of(
                       runner, &result, delivery, services, left - services->deadline_ms(delivery));
}

static void exec_close(void *self)
{
    runner_free(self);
}

static const fila_option OPTIONS[] = {
    {"command", FILA_OPTION_STRINGS, FILA_OPTION_REQUIRED, NULL, 0, 0,
     "The program and its arguments; one without a '/' is searched in PATH."},
    {"shell", FILA_OPTION_BOOL, 0, "false", 0, 0,
     "Hand the first string to /bin/sh -c; the others are its $1, $2, ..."},
    {"directory", FILA_OPTION_STRING, 0, "", 0, 0,
     "Where the command runs; empty = where the worker does."},
    {"environment", FILA_OPTION_STRINGS, 0, "", 0, 0,
     "NAME=VALUE strings that are added to its environment, or replace what is there."},
    {"clear_environment", FILA_OPTION_BOOL, 0, "false", 0, 0,
     "Pass on nothing of the worker's own environment."},
    {"kill_after", FILA_OPTION_DURATION, 0, "1s", 0, 60000,
     "From SIGTERM to SIGKILL; both come before the timeout ends, so this time is taken from it."},
    {"stdout", FILA_OPTION_STRING, 0, "discard", 0, 0,
     "Of its standard output: discard, or log (at level debug)."},
};

FILA_PLUGIN_DEFINE({
    FILA_PLUGIN_HEAD,
    .name = "exec",
    .version = "1.0",
    .description = "Runs a command for each message: payload on standard input, verdict by exit "
                   "status (0 done, 65 reject, 69 unavailable, else retry).",
    .options = OPTIONS,
    .option_count = FILA_COUNT(OPTIONS),
    .init = exec_init,
    .handle = exec_handle,
    .close = exec_close,
})

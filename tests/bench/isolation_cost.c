/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * What isolation costs per message of 1 KiB: a plugin that does nothing, in threads and in
 * children, with the same feeding; beside a bare echo over a SEQPACKET socket pair between two
 * processes, which is what any such isolation has to pay. CPU of this process and its children.
 *
 *     isolation_cost PLUGIN.so [MESSAGES] [BYTES]
 *
 * The last line is the ratio: (children - threads) / echo. Rounds alternate; medians.
 */
#include "base/clock.h"
#include "executor/executor.h"
#include "executor/process/handler.h"
#include "plugin/loader.h"
#include "wire/message.h"

#include <errno.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    ROUNDS = 5,
    HELD = 4,
    WORKERS = 2
};

static sem_t woken;
static char *payload;
static size_t payload_len = 1024;

static void wake(void *user)
{
    (void)user;
    (void)sem_post(&woken);
}

static int64_t cpu_of(int who)
{
    struct rusage usage;
    (void)getrusage(who, &usage);
    return ((int64_t)usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * FILA_S +
           ((int64_t)usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * FILA_US;
}

/* Children count once they have been waited for. */
static int64_t cpu(void)
{
    return cpu_of(RUSAGE_SELF) + cpu_of(RUSAGE_CHILDREN);
}

/* ---- The bare echo ---- */

static void echo(int fd)
{
    char bytes[65536];
    ssize_t len;
    while ((len = recv(fd, bytes, sizeof bytes, 0)) > 0) {
        (void)send(fd, bytes, 64, MSG_NOSIGNAL); /* an answer is short */
    }
    _exit(0);
}

static int64_t bare(long messages)
{
    int pair[2];
    char answer[64];
    int64_t began = cpu();
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair)) {
        abort();
    }
    pid_t pid = fork();
    if (pid == 0) {
        (void)close(pair[0]);
        echo(pair[1]);
    }
    (void)close(pair[1]);
    for (long i = 0; i < messages; i++) {
        if (send(pair[0], payload, payload_len < 1024 ? payload_len : 1024, MSG_NOSIGNAL) < 0 ||
            recv(pair[0], answer, sizeof answer, 0) < 0) {
            abort();
        }
    }
    (void)close(pair[0]);
    (void)waitpid(pid, NULL, 0);
    return cpu() - began;
}

/* ---- The executor ---- */

static struct fw_job *take(struct fw_done_list *done)
{
    struct fw_job *job;
    while (!(job = fw_done_take(done))) {
        if (fw_done_sleep_begin(done)) {
            while (sem_wait(&woken) && errno == EINTR) {
            }
        }
        fw_done_sleep_end(done);
    }
    return job;
}

/* As the I/O thread does: takes what has come back, hands out as much. */
static void feed(struct fw_executor *executor, struct fw_done_list *done, long messages)
{
    const struct fila_message_fields fields = {
        .id = {"019a0000-0000-7000-8000-000000000001", 36},
        .queue = {"orders", 6},
        .fairness_key = {"default", 7},
        .payload = {payload, payload_len},
    };
    struct fw_job jobs[HELD];
    struct fw_job *chain = NULL;
    for (int i = 0; i < HELD; i++) {
        jobs[i] = (struct fw_job){
            .message = fila_message_make(&fields, NULL, NULL), .attempt = 1, .next = chain};
        chain = &jobs[i];
    }
    long submitted = 0;
    for (long returned = 0; returned < messages;) {
        struct fw_job *batch = NULL;
        while (chain && submitted < messages) {
            struct fw_job *job = chain;
            chain = job->next;
            job->next = batch;
            job->deadline = fila_now() + 30 * FILA_S;
            batch = job;
            submitted++;
        }
        fw_executor_submit(executor, batch);
        for (struct fw_job *job = take(done), *next = NULL; job; job = next) {
            next = job->next;
            if (job->verdict.kind != FW_ACK) {
                (void)fprintf(stderr, "a message failed: %s\n", job->reason ? job->reason : "");
                exit(1);
            }
            job->next = chain;
            chain = job;
            returned++;
        }
    }
    for (int i = 0; i < HELD; i++) {
        fw_job_free_message(&jobs[i]);
    }
}

static int64_t isolated(const char *path, const struct fw_plugin *plugin, long messages)
{
    struct fw_done_list done = {.wake = wake};
    struct fw_executor *executor = NULL;
    fila_error error = FILA_ERROR_INIT;
    const struct fw_process_options process = {.handler = path};
    const struct fw_executor_options options = {
        .queue = "orders",
        .plugin = plugin,
        .process = plugin ? NULL : &process,
        .concurrency = WORKERS,
        .done = &done,
    };
    int64_t began = cpu();
    if (fw_executor_start(&options, &executor, &error)) {
        (void)fprintf(stderr, "%s\n", error.text);
        exit(1);
    }
    feed(executor, &done, messages);
    (void)fw_executor_stop(executor, fila_now() + 10 * FILA_S);
    return cpu() - began;
}

/* Less what a start and a stop cost. */
static double per_message(const char *path, const struct fw_plugin *plugin, long messages)
{
    int64_t few = isolated(path, plugin, messages / 10);
    int64_t many = isolated(path, plugin, messages + messages / 10);
    return (double)(many - few) / (double)messages;
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values)
{
    qsort(values, ROUNDS, sizeof *values, by_size);
    return values[ROUNDS / 2];
}

static struct fw_plugin *load(const char *path)
{
    struct fw_plugin_file *file = NULL;
    struct fw_plugin *plugin = NULL;
    struct fw_plugin_problems problems = {0};
    const struct fw_plugin_binding binding = {0};
    fila_error error = FILA_ERROR_INIT;
    if (fw_plugin_open(path, &file, &error) || fw_plugin_bind(file, &binding, &plugin, &problems)) {
        (void)fprintf(stderr, "%s\n", error.text);
        exit(1);
    }
    fw_plugin_problems_free(&problems);
    fw_plugin_close(file);
    return plugin;
}

int main(int argc, char **argv)
{
    if (argc > 1 && !strcmp(argv[1], "__handler")) {
        return fw_handler_main(argc - 1, argv + 1);
    }
    if (argc < 2) {
        (void)fprintf(stderr, "usage: isolation_cost PLUGIN.so [MESSAGES] [BYTES]\n");
        return 64;
    }
    long messages = argc > 2 ? strtol(argv[2], NULL, 10) : 50000;
    payload_len = argc > 3 ? strtoul(argv[3], NULL, 10) : payload_len;
    payload = calloc(1, payload_len);
    struct fw_plugin *plugin = load(argv[1]);
    double echo_ns[ROUNDS];
    double threads_ns[ROUNDS];
    double children_ns[ROUNDS];
    (void)sem_init(&woken, 0, 0);
    for (int i = 0; i < ROUNDS; i++) {
        echo_ns[i] = (double)bare(messages) / (double)messages;
        threads_ns[i] = per_message(argv[1], plugin, messages);
        children_ns[i] = per_message(argv[1], NULL, messages);
        (void)printf(
            "round %d: echo %.0f ns, threads %.0f ns, children %.0f ns CPU a message\n", i + 1,
            echo_ns[i], threads_ns[i], children_ns[i]);
        (void)fflush(stdout);
    }
    double echo_median = median(echo_ns);
    double threads = median(threads_ns);
    double children = median(children_ns);
    (void)printf(
        "%zu bytes: echo %.0f, threads %.0f, children %.0f ns; (children - threads) / echo = %.2f\n",
        payload_len, echo_median, threads, children, (children - threads) / echo_median);
    fw_plugin_free(plugin);
    free(payload);
    return 0;
}

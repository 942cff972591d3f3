/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * What the pool costs per message: a no-op handler called from a loop, and through the executor in
 * batches of 16 with 64 messages held. Instructions of user space over all threads where the
 * machine counts them (perf events), and CPU time.
 *
 *     bench_executor [MESSAGES] [THREADS]
 */
#include "base/clock.h"
#include "executor/executor.h"
#include "plugin/loader.h"
#include "wire/message.h"

#include <linux/perf_event.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
    HELD = 64,
    BATCH = 16
};

static sem_t woken;
static char payload[1024];

static int handle(void *self, const fila_delivery *d, const fila_services *s)
{
    (void)self;
    (void)s;
    return d->payload_len == sizeof payload ? FILA_ACK : FILA_RETRY;
}

static void wake(void *user)
{
    (void)user;
    (void)sem_post(&woken);
}

static int counter(void)
{
    struct perf_event_attr what = {
        .type = PERF_TYPE_HARDWARE,
        .size = sizeof what,
        .config = PERF_COUNT_HW_INSTRUCTIONS,
        .inherit = 1,
        .exclude_kernel = 1,
        .exclude_hv = 1,
    };
    return (int)syscall(SYS_perf_event_open, &what, 0, -1, -1, 0);
}

static uint64_t instructions(int fd)
{
    uint64_t count = 0;
    return fd >= 0 && read(fd, &count, sizeof count) == (ssize_t)sizeof count ? count : 0;
}

static int64_t cpu_ns(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (int64_t)t.tv_sec * FILA_S + t.tv_nsec;
}

static void make_jobs(struct fw_job jobs[HELD])
{
    static const struct fila_message_fields FIELDS = {
        .id = {"019a0000-0000-7000-8000-000000000001", 36},
        .queue = {"orders", 6},
        .payload = {payload, sizeof payload},
    };
    for (int i = 0; i < HELD; i++) {
        jobs[i] = (struct fw_job){.message = fila_message_make(&FIELDS, NULL, NULL), .attempt = 1};
        if (!jobs[i].message) {
            abort();
        }
    }
}

/* What a program without a pool does with a message. */
static void bare(struct fw_job jobs[HELD], long messages)
{
    fila_delivery d = {.size = sizeof d};
    for (long i = 0; i < messages; i++) {
        const fila_message *m = jobs[i % HELD].message;
        fila_view id = fila_message_id(m);
        fila_view body = fila_message_payload(m);
        d.id = id.data;
        d.id_len = id.len;
        d.payload = (const uint8_t *)body.data;
        d.payload_len = body.len;
        if (handle(NULL, &d, NULL)) {
            abort();
        }
    }
}

static struct fw_job *take(struct fw_done_list *done)
{
    struct fw_job *job;
    while (!(job = fw_done_take(done))) {
        if (fw_done_sleep_begin(done)) {
            (void)sem_wait(&woken);
        }
        fw_done_sleep_end(done);
    }
    return job;
}

static void pooled(
    struct fw_executor *executor,
    struct fw_done_list *done,
    struct fw_job jobs[HELD],
    long messages)
{
    struct fw_job *free_jobs = NULL;
    long submitted = 0;
    for (int i = 0; i < HELD; i++) {
        jobs[i].next = free_jobs;
        free_jobs = &jobs[i];
    }
    for (long returned = 0; returned < messages;) {
        while (free_jobs && submitted < messages) {
            struct fw_job *chain = NULL;
            for (int i = 0; i < BATCH && free_jobs && submitted < messages; i++, submitted++) {
                struct fw_job *job = free_jobs;
                free_jobs = job->next;
                job->next = chain;
                job->deadline = fila_now() + 30 * FILA_S;
                chain = job;
            }
            fw_executor_submit(executor, chain);
        }
        for (struct fw_job *job = take(done), *next = NULL; job; job = next) {
            next = job->next;
            job->next = free_jobs;
            free_jobs = job;
            returned++;
        }
    }
}

static void print(const char *name, long messages, uint64_t instr, int64_t cpu, int64_t wall)
{
    (void)printf(
        "%-8s %8.0f instructions, %7.0f ns CPU, %9.0f messages/s\n", name,
        (double)instr / (double)messages, (double)cpu / (double)messages,
        (double)messages * (double)FILA_S / (double)wall);
}

int main(int argc, char **argv)
{
    long messages = argc > 1 ? atol(argv[1]) : 200000;         // NOLINT(cert-err34-c)
    uint32_t threads = argc > 2 ? (uint32_t)atoi(argv[2]) : 2; // NOLINT(cert-err34-c)
    struct fw_plugin plugin = {
        .table = {FILA_PLUGIN_HEAD, .name = "noop", .handle = handle}, .path = ""};
    struct fw_done_list done = {.wake = wake};
    struct fw_executor *executor = NULL;
    struct fw_job jobs[HELD];
    struct fw_executor_options options = {
        .queue = "orders", .plugin = &plugin, .concurrency = threads, .done = &done};
    int fd = counter();

    (void)sem_init(&woken, 0, 0);
    make_jobs(jobs);
    if (fw_executor_start(&options, &executor, NULL)) {
        return 1;
    }
    for (int round = 0; round < 3; round++) {
        uint64_t i0 = instructions(fd);
        int64_t c0 = cpu_ns();
        int64_t t0 = fila_now();
        bare(jobs, messages);
        print("bare", messages, instructions(fd) - i0, cpu_ns() - c0, fila_now() - t0);
        i0 = instructions(fd);
        c0 = cpu_ns();
        t0 = fila_now();
        pooled(executor, &done, jobs, messages);
        print("pooled", messages, instructions(fd) - i0, cpu_ns() - c0, fila_now() - t0);
    }
    bool stopped = fw_executor_stop(executor, fila_now() + FILA_S);
    for (int i = 0; i < HELD; i++) {
        fw_job_free_message(&jobs[i]);
    }
    return !stopped;
}

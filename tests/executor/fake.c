/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "executor/fake.h"

#include "base/clock.h"
#include "log/log.h"
#include "wire/message.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

struct fake fake;

static struct fw_job *pending; /* taken from the done list and not handed out yet */
static int fail_init_from;

int act_verdict(struct step *step, void *self, const fila_delivery *d, const fila_services *s)
{
    (void)self;
    if (step->reason) {
        s->reason(s, d, step->reason);
    }
    return step->verdict;
}

int act_block(struct step *step, void *self, const fila_delivery *d, const fila_services *s)
{
    step->delivery = d;
    step->services = s;
    step->self = self;
    (void)sem_post(&step->entered);
    while (sem_wait(&step->go)) {
    }
    return step->verdict;
}

static int fake_handle(void *self, const fila_delivery *d, const fila_services *s)
{
    struct step *step;
    memcpy(&step, d->payload, sizeof step);
    return step->act(step, self, d, s);
}

static int fake_init(const fila_services *s, void **ret_self)
{
    int nth = atomic_fetch_add(&fake.inits, 1) + 1;
    if (fail_init_from && nth >= fail_init_from) {
        s->reason(s, NULL, "the fake has had enough");
        return -1;
    }
    *ret_self = malloc(16); /* so that a missing close is a leak */
    return 0;
}

static void fake_close(void *self)
{
    free(self);
    (void)atomic_fetch_add(&fake.closes, 1);
}

static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;

void fake_probe_gate(bool open)
{
    if (open) {
        (void)pthread_mutex_unlock(&gate);
    } else {
        (void)pthread_mutex_lock(&gate);
    }
}

static int fake_probe(void *self, const fila_services *s)
{
    (void)self;
    (void)s;
    (void)pthread_mutex_lock(&gate);
    (void)pthread_mutex_unlock(&gate);
    return 1;
}

static void wake(void *user)
{
    (void)user;
    (void)sem_post(&fake.woken);
}

fila_status fake_try_start(const struct fake_options *options, fila_error *reterr)
{
    fake.plugin.table = (fila_plugin){
        FILA_PLUGIN_HEAD,    .flags = options->flags,
        .name = "fake",      .version = "1",
        .init = fake_init,   .handle = fake_handle,
        .close = fake_close, .probe = options->probe ? fake_probe : NULL,
    };
    fake.plugin.path = "";
    fake.done = (struct fw_done_list){.wake = wake};
    (void)sem_init(&fake.woken, 0, 0);
    fail_init_from = options->fail_init_from;
    struct fw_executor_options with = {
        .queue = "orders",
        .plugin = &fake.plugin,
        .concurrency = options->concurrency,
        .done = &fake.done,
        .stuck_after = options->stuck_after,
        .probe_timeout = options->probe_timeout,
    };
    return fw_executor_start(&with, &fake.executor, reterr);
}

void fake_start(const struct fake_options *options)
{
    fila_error error = FILA_ERROR_INIT;
    if (fake_try_start(options, &error)) {
        (void)fprintf(stderr, "start: %s\n", error.text);
        abort();
    }
}

struct body {
    struct step *step; /* the payload */
    fila_header headers[];
};

fila_message *fake_message(struct step *step, uint32_t headers)
{
    struct body *body = malloc(sizeof *body + headers * sizeof(fila_header));
    if (!body) {
        abort();
    }
    body->step = step;
    for (uint32_t i = 0; i < headers; i++) {
        body->headers[i] = (fila_header){{"key", 3}, {"value", 5}};
    }
    struct fila_message_fields fields = {
        .id = fila_view_of("019a0000-0000-7000-8000-000000000001"),
        .queue = fila_view_of("orders"),
        .fairness_key = fila_view_of("fair"),
        .payload = {(const char *)&body->step, sizeof(struct step *)},
        .headers = body->headers,
        .header_count = headers,
    };
    fila_message *message = fila_message_make(&fields, free, body);
    if (!message) {
        abort();
    }
    return message;
}

void fake_job(struct step *step, int64_t deadline)
{
    (void)sem_init(&step->entered, 0, 0);
    (void)sem_init(&step->go, 0, 0);
    step->act = step->act ? step->act : act_verdict;
    step->job.message = fake_message(step, 2);
    step->job.deadline = deadline;
    step->job.attempt = 1;
    step->job.user = step;
}

void fake_submit(struct step *step, int64_t deadline)
{
    fake_job(step, deadline);
    fw_executor_submit(fake.executor, &step->job);
}

struct fw_job *fake_result(void)
{
    struct timespec until;
    (void)clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 10;
    while (!pending && !(pending = fw_done_take(&fake.done))) {
        if (fw_done_sleep_begin(&fake.done)) {
            if (sem_timedwait(&fake.woken, &until)) {
                return NULL;
            }
        }
        fw_done_sleep_end(&fake.done);
    }
    struct fw_job *job = pending;
    pending = job->next;
    job->next = NULL;
    return job;
}

void fake_free(struct fw_job *job)
{
    fw_job_free_message(job);
    free(job->reason);
    job->reason = NULL;
}

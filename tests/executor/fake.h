/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * An executor with a handler that does what each message says: the payload of a message is a
 * struct step in memory. And the I/O thread's side: a done list that can be waited on.
 */
#ifndef FAKE_H
#define FAKE_H

#include "executor/executor.h"
#include "plugin/loader.h"

#include <semaphore.h>

struct step {
    int (*act)(struct step *step, void *self, const fila_delivery *d, const fila_services *s);
    int verdict;
    const char *reason;
    int64_t number;
    sem_t entered; /* posted by blocking acts when they are inside */
    sem_t go;      /* waited for by them */
    const fila_delivery *delivery;
    const fila_services *services;
    void *self;
    struct fw_job job;
};

/* Acts. */
int act_verdict(struct step *step, void *self, const fila_delivery *d, const fila_services *s);
/* Posts `entered`, waits for `go`, returns `verdict`. */
int act_block(struct step *step, void *self, const fila_delivery *d, const fila_services *s);

struct fake {
    struct fw_plugin plugin;
    struct fw_executor *executor;
    struct fw_done_list done;
    sem_t woken;
    atomic_int inits;
    atomic_int closes;
};

extern struct fake fake; /* of the one test that runs in this process */

struct fake_options {
    uint32_t concurrency;
    uint32_t flags;
    int64_t stuck_after;
    int fail_init_from; /* the nth init and those after it fail; 0 = none */
    bool probe;
    int64_t probe_timeout;
};

/* While closed (initially open), probes hang in it. */
void fake_probe_gate(bool open);

/* Starts it; aborts the test when that fails. */
void fake_start(const struct fake_options *options);
fila_status fake_try_start(const struct fake_options *options, fila_error *reterr);

/* A message whose payload is `step`, with `headers` of them. */
fila_message *fake_message(struct step *step, uint32_t headers);
void fake_job(struct step *step, int64_t deadline);
void fake_submit(struct step *step, int64_t deadline);

/* Waits for the next result, in the way of the I/O thread; NULL after 10 s. */
struct fw_job *fake_result(void);
void fake_free(struct fw_job *job);

#endif

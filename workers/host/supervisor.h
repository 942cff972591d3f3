/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * What the supervisor's files share: supervisor.c (start, signals, the loop), supervisor_reload.c
 * (the config, the first time and again) and supervisor_stop.c (drain, account, exit status).
 * Thread: main, but for what is atomic.
 */
#ifndef FW_HOST_SUPERVISOR_H
#define FW_HOST_SUPERVISOR_H

#include "base/clock.h"
#include "fila/broker.h"
#include "host.h"
#include "orders.h"
#include "served.h"

#include <pthread.h>
#include <stdatomic.h>

/* How long a stop waits for handlers that ran over the drain deadline. */
#define FW_HOST_STUCK_GRACE FILA_S

/* What the HTTP thread may know of the supervisor. */
struct fw_host_published {
    _Atomic int64_t start_took;     /* 0 = not ready yet */
    _Atomic int64_t drain_deadline; /* 0 = not draining */
    atomic_uint_fast64_t reloads_done;
    atomic_uint_fast64_t reloads_refused;
    _Atomic uint64_t config_hash;
    _Atomic int64_t beat_asked; /* when; 0 = no question is open */
};

/* A running worker. */
struct fw_host {
    const struct fw_host_options *options;
    struct fw_config_ref *config;       /* what is served */
    struct fw_config_ref *first_config; /* what the I/O thread was started with */
    fila_broker *broker;
    struct fw_state state;
    struct fw_io *io;
    struct fw_served *served;
    struct fw_account account;
    int event_fd; /* the I/O thread has news */
    int signal_fd;
    int exit_status; /* of a stop that was no signal's wish; 0 = none */
    bool draining;
    bool ready;
    int64_t drain_deadline;
    int64_t started_at;
    int stop_signals[2]; /* that came while a handler's init was waited for; 0 = none */
    bool reload_asked;   /* in the same time */
    atomic_bool stream_up;
    atomic_bool queue_missing;
    atomic_bool io_failed;
    _Atomic int64_t dumps;
    struct fw_http *http;
    struct fw_orders orders;
    struct fw_host_published published;
    struct fw_status_source source;

    struct {
        pthread_mutex_t lock;
        struct fw_queue *drained; /* let go by the I/O thread, not yet retired */
    } locked;
};

/* Serves signals while a handler's init, or the check of a config, takes its time: for `go_on`
 * callbacks, `user` is the host. False: a stop was asked for. */
bool fw_host_go_on(void *user);
/* What queues of that config are made from. */
struct fw_served_source fw_host_source(struct fw_host *host, struct fw_config_ref *ref);

/* Reads the config file, and logs what is wrong with it. NULL = it cannot be used. */
struct fw_config_ref *fw_host_load_config(const struct fw_host *host);
/* Of the config as understood, with its secrets masked. */
uint64_t fw_host_hash_config(const struct fw_config *config);
/* As SIGHUP asks for; logs how it went. */
void fw_host_reload(struct fw_host *host);

/* A stop begins, or hurries if it has begun. */
void fw_host_drain(struct fw_host *host, const char *why);
/* A stop that is no signal's wish. */
void fw_host_stop_with(struct fw_host *host, int exit_status, const char *why);
/* Takes back the queues that the I/O thread has let go of. */
void fw_host_retire_drained(struct fw_host *host);
int fw_host_final_status(const struct fw_host *host);
/* The account, as the last line. */
void fw_host_last_words(const struct fw_host *host, int status);

#endif

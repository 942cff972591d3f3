/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "base/error.h"
#include "server.h"

#include <errno.h>
#include <time.h>

enum {
    CHECK_MS = 200
}; /* how long the thread may be away before the relief looks after it */

static void on_down(void *owner, bool ok)
{
    struct fb_server *server = owner;
    (void)ok;
    server->down = true;
}

void server_finish_turn(struct fb_server *server)
{
    server_run_ready(server);
    if (server->down && server->slots == 0 && !server->closing) {
        server->closing = true;
        grpc_completion_queue_shutdown(server->queue);
    }
}

/* Handles one event, with the turn. */
static void handle(struct fb_server *server, const grpc_event *event)
{
    struct server_event *what = event->tag;
    what->run(what->owner, event->success);
    server_finish_turn(server);
}

void server_take_turn(struct fb_server *server)
{
    pthread_mutex_lock(&server->turn);
    atomic_store_explicit(&server->self, pthread_self(), memory_order_relaxed);
}

/* Since the last batch of calls that waited. */
struct progress {
    unsigned events;
    unsigned looks; /* that found no event */
};

/* Serves a batch of those that wait. */
static void serve_waiting(struct fb_server *server)
{
    struct server_call *call;
    for (int i = 0; i < SERVER_BATCH && (call = server_peer_next(server)); i++) {
        server_serve(call);
    }
    server_run_ready(server);
}

/* What is between two looks at the events: the next one, or some of the calls that wait if there is
 * none or many were handled since the last batch. The first look that finds none has not looked at
 * the connections: answers that were started in between have woken it. */
static void step(struct fb_server *server, const grpc_event *event, struct progress *progress)
{
    if (event->type == GRPC_OP_COMPLETE) {
        handle(server, event);
        progress->events++;
        progress->looks = 0;
    } else {
        progress->looks++;
    }
    if (server->waiting && (progress->looks == 2 || progress->events >= SERVER_EVENTS)) {
        serve_waiting(server);
        server->round++;
        *progress = (struct progress){0, 0};
    }
}

void server_serve_events(struct fb_server *server)
{
    struct progress progress = {0, 0};
    bool idle = true;
    for (;;) {
        grpc_event event = grpc_completion_queue_next(
            server->queue,
            idle ? gpr_inf_future(GPR_CLOCK_MONOTONIC) : gpr_inf_past(GPR_CLOCK_MONOTONIC), NULL);
        if (event.type == GRPC_QUEUE_SHUTDOWN) {
            return;
        }
        server_take_turn(server);
        step(server, &event, &progress);
        idle = server->waiting == 0;
        atomic_fetch_add_explicit(&server->turns, 1, memory_order_relaxed);
        pthread_mutex_unlock(&server->turn);
    }
}

static void *serve(void *arg)
{
    struct fb_server *server = arg;
    server_take_turn(server);
    for (unsigned kind = 0; kind < SERVER_KINDS; kind++) {
        server_post(server, kind);
    }
    pthread_mutex_unlock(&server->turn);
    server_serve_events(server);
    pthread_mutex_lock(&server->end.lock);
    server->end.over = true;
    pthread_cond_broadcast(&server->end.told);
    pthread_mutex_unlock(&server->end.lock);
    return NULL;
}

/* ---- The relief ---- */

/* Tells the thread, which may sleep by now, of calls that have come to wait: by an event. */
static void tell_of_waiting(struct fb_server *server)
{
    server_take_turn(server);
    if (server->waiting) {
        server_batch(server->peers[server->first_turn].first, NULL, 0, &server->on_wake);
    }
    pthread_mutex_unlock(&server->turn);
}

/* Serves what is there while the thread does not come back; false once the queue is shut down. */
static bool relieve(struct fb_server *server, unsigned turns)
{
    struct progress progress = {0, 0};
    while (atomic_load_explicit(&server->turns, memory_order_relaxed) == turns) {
        grpc_event event =
            grpc_completion_queue_next(server->queue, gpr_inf_past(GPR_CLOCK_MONOTONIC), NULL);
        if (event.type == GRPC_QUEUE_SHUTDOWN) {
            return false;
        }
        server_take_turn(server);
        bool done = event.type == GRPC_QUEUE_TIMEOUT && server->waiting == 0;
        step(server, &event, &progress);
        pthread_mutex_unlock(&server->turn);
        if (done) {
            return true;
        }
    }
    tell_of_waiting(server);
    return true;
}

static struct timespec after_ms(long ms)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += ms / 1000;
    until.tv_nsec += ms % 1000 * 1000000L;
    until.tv_sec += until.tv_nsec / 1000000000L;
    until.tv_nsec %= 1000000000L;
    return until;
}

/* Sleeps; true if the server has ended meanwhile. */
static bool rest(struct fb_server *server)
{
    struct timespec until = after_ms((long)atomic_load(&server->relief.check_ms));
    int late = 0;
    pthread_mutex_lock(&server->relief.lock);
    while (!server->relief.over && late != ETIMEDOUT) {
        late = pthread_cond_timedwait(&server->relief.wake, &server->relief.lock, &until);
    }
    bool over = server->relief.over;
    pthread_mutex_unlock(&server->relief.lock);
    return over;
}

static void *stand_by(void *arg)
{
    struct fb_server *server = arg;
    unsigned seen = 0;
    while (!rest(server)) {
        unsigned turns = atomic_load_explicit(&server->turns, memory_order_relaxed);
        server_thaw(server);
        if (turns == seen && !relieve(server, turns)) {
            break;
        }
        seen = turns;
    }
    return NULL;
}

/* ---- Their life ---- */

void server_threads_init(struct fb_server *server)
{
    pthread_condattr_t monotonic;
    server->on_down = (struct server_event){on_down, server};
    atomic_init(&server->relief.check_ms, 200);
    pthread_mutex_init(&server->turn, NULL);
    pthread_mutex_init(&server->relief.lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&server->relief.wake, &monotonic);
    pthread_mutex_init(&server->end.lock, NULL);
    pthread_cond_init(&server->end.told, &monotonic);
    pthread_condattr_destroy(&monotonic);
}

void server_threads_fini(struct fb_server *server)
{
    pthread_cond_destroy(&server->end.told);
    pthread_mutex_destroy(&server->end.lock);
    pthread_cond_destroy(&server->relief.wake);
    pthread_mutex_destroy(&server->relief.lock);
    pthread_mutex_destroy(&server->turn);
}

static void end_relief(struct fb_server *server)
{
    pthread_mutex_lock(&server->relief.lock);
    server->relief.over = true;
    pthread_cond_signal(&server->relief.wake);
    pthread_mutex_unlock(&server->relief.lock);
    pthread_join(server->relief.thread, NULL);
}

fila_status server_start_threads(struct fb_server *server, fila_error *reterr)
{
    if (pthread_create(&server->relief.thread, NULL, stand_by, server)) {
        return fila_fail(reterr, FILA_NO_MEMORY, "cannot start a thread");
    }
    if (pthread_create(&server->thread, NULL, serve, server)) {
        end_relief(server);
        return fila_fail(reterr, FILA_NO_MEMORY, "cannot start a thread");
    }
    (void)pthread_setname_np(server->thread, "fila-server");
    (void)pthread_setname_np(server->relief.thread, "fila-relief");
    return FILA_OK;
}

bool server_wait_end(struct fb_server *server, int ms)
{
    struct timespec until = after_ms(ms < 0 ? 0 : ms);
    int late = 0;
    pthread_mutex_lock(&server->end.lock);
    while (!server->end.over && late != ETIMEDOUT) {
        late = ms < 0 ? pthread_cond_wait(&server->end.told, &server->end.lock)
                      : pthread_cond_timedwait(&server->end.told, &server->end.lock, &until);
    }
    bool over = server->end.over;
    pthread_mutex_unlock(&server->end.lock);
    return over;
}

void server_join_threads(struct fb_server *server)
{
    pthread_join(server->thread, NULL);
    end_relief(server);
}

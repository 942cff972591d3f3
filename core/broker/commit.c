/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "commit.h"

#include "base/error.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <utlist.h>

#define RETRY_NS (250 * FILA_MS)

/* An answer that waits. What has no body and no error is its call alone. */
struct held_answer {
    struct held_answer *next;
    fb_reply_fn on_reply;
    void *user;
    int64_t due;
    fila_call call;
    char id[FQ_ID_SIZE]; /* ENQUEUE */
    fila_reply *reply;   /* a copy, where there is more in it */
    fila_error *error;
};

struct fb_commit {
    fila_broker *broker;
    struct fb_store *store;
    char *path;
    pthread_t thread;
    struct fq_config config; /* of the engine, should it be made again */
    struct fq_group group;   /* the thread's own: what is being stored */
    /* Under the broker's lock: */
    pthread_cond_t work;
    bool idle;    /* the thread waits on `work` */
    bool over;    /* it is to end when nothing is left */
    bool storing; /* a group is on its way */
    bool failed;  /* one could not be stored: `cause` */
    int64_t room; /* for new messages; INT64_MAX: the disk is not full */
    int64_t used; /* by the open group */
    struct held_answer *first;
    struct held_answer **last;
    fila_error cause;
};

static int64_t to_wall(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * FILA_S + t.tv_nsec - fila_now();
}

/* ---- Answers ---- */

static bool has_body(fila_call call)
{
    switch (call) {
    case FILA_CALL_ACK:
    case FILA_CALL_NACK:
    case FILA_CALL_DELETE_QUEUE:
    case FILA_CALL_SET_CONFIG:
        return false;
    default:
        return true;
    }
}

static void held_free(struct held_answer *held)
{
    fila_reply_free(held->reply);
    free(held->error);
    free(held);
}

static bool keep(struct held_answer *held, const fila_reply *reply, const fila_error *error)
{
    if (error->code != FILA_OK) {
        held->error = malloc(sizeof *held->error);
        if (held->error) {
            *held->error = *error;
        }
        return held->error != NULL;
    }
    held->call = reply->call;
    if (reply->call == FILA_CALL_ENQUEUE) {
        memcpy(held->id, reply->as.enqueue.message_id.data, FQ_ID_SIZE - 1);
        held->id[FQ_ID_SIZE - 1] = '\0';
    } else if (has_body(reply->call)) {
        held->reply = fila_reply_copy(reply);
        return held->reply != NULL;
    }
    return true;
}

bool fb_commit_hold(
    struct fb_commit *commit,
    const fila_reply *reply,
    const fila_error *error,
    int64_t due,
    fb_reply_fn on_reply,
    void *user)
{
    struct held_answer *held = malloc(sizeof *held);
    if (!held) {
        return false;
    }
    held->next = NULL;
    held->on_reply = on_reply;
    held->user = user;
    held->due = due;
    held->reply = NULL;
    held->error = NULL;
    if (!keep(held, reply, error)) {
        held_free(held);
        return false;
    }
    *commit->last = held;
    commit->last = &held->next;
    return true;
}

/* A reply that has no copy. */
static void fill_reply(const struct held_answer *held, fila_reply *ret_reply)
{
    memset(ret_reply, 0, sizeof *ret_reply);
    ret_reply->call = held->call;
    if (held->call == FILA_CALL_ENQUEUE) {
        ret_reply->as.enqueue.message_id = (fila_view){held->id, FQ_ID_SIZE - 1};
    }
}

static void give(const struct held_answer *held)
{
    static const fila_error fine = {.code = FILA_OK};
    fila_reply reply;
    if (held->error) {
        held->on_reply(held->user, NULL, held->error);
        return;
    }
    if (held->reply) {
        held->on_reply(held->user, held->reply, &fine);
        return;
    }
    fill_reply(held, &reply);
    held->on_reply(held->user, &reply, &fine);
}

/* Has the ticker give it when it is due. False without memory: then it is given early. */
static bool delay(fila_broker *broker, struct held_answer *held)
{
    struct fb_parked *parked = calloc(1, sizeof *parked);
    if (!parked) {
        return false;
    }
    parked->due = held->due;
    parked->on_reply = held->on_reply;
    parked->user = held->user;
    if (held->error) {
        parked->error = *held->error;
    } else {
        fila_reply reply;
        fill_reply(held, &reply);
        parked->reply = held->reply ? held->reply : fila_reply_copy(&reply);
        held->reply = NULL;
        if (!parked->reply) {
            free(parked);
            return false;
        }
    }
    (void)pthread_mutex_lock(&broker->lock);
    fb_park(broker, parked);
    fb_alarm(broker, parked->due);
    (void)pthread_mutex_unlock(&broker->lock);
    return true;
}

static void give_all(struct fb_commit *commit, struct held_answer *first)
{
    fila_broker *broker = commit->broker;
    while (first) {
        struct held_answer *held = first;
        first = held->next;
        if (held->due <= fila_now() || !delay(broker, held)) {
            fb_leave(broker);
            give(held);
        }
        held_free(held);
    }
}

/* Everything that waits; lock held. */
static struct held_answer *take_answers(struct fb_commit *commit)
{
    struct held_answer *first = commit->first;
    commit->first = NULL;
    commit->last = &commit->first;
    return first;
}

static void refuse_all(struct fb_commit *commit, struct held_answer *first, const fila_error *cause)
{
    while (first) {
        struct held_answer *held = first;
        first = held->next;
        fb_leave(commit->broker);
        held->on_reply(held->user, NULL, cause);
        held_free(held);
    }
}

/* ---- The engine, made from the file ---- */

/* A queue's scripts from their sources, for the engine that is being filled. */
static fila_status compile(
    void *user,
    fila_view on_enqueue,
    fila_view on_failure,
    void **ret_scripts,
    fila_error *reterr)
{
    const fila_broker *broker = user;
    struct fb_scripts *scripts = NULL;
    fila_status status = fb_lua_compile(broker->lua, on_enqueue, on_failure, &scripts, reterr);
    if (status == FILA_OK) {
        *ret_scripts = scripts;
    }
    return status;
}

static fila_status fill_engine(
    struct fb_commit *commit,
    struct fq_engine *engine,
    fila_error *reterr)
{
    struct fb_store_load load = {
        .engine = engine,
        .now = fila_now(),
        .to_wall = to_wall(),
        .user = commit->broker,
        .compile = fb_lua_is_there() ? compile : NULL,
    };
    fq_journal_start(engine);
    return fb_store_load(commit->store, &load, reterr);
}

/* The streams go over to the new engine; lock held. */
static void adopt(struct fb_commit *commit, struct fq_engine *engine)
{
    fila_broker *broker = commit->broker;
    struct fq_engine *old = broker->engine;
    broker->engine = engine;
    fb_streams_move(broker);
    fq_free(old);
}

/* Tries to write, and if that works starts anew from the file. No lock held. */
static void recover(struct fb_commit *commit)
{
    fila_broker *broker = commit->broker;
    struct fq_engine *engine = NULL;
    int64_t room;
    fila_error error;
    fila_status status = fb_store_probe(commit->store, &error);
    if (status == FILA_OK) {
        commit->config.seed = fb_make_seed(0);
        engine = fq_new(&commit->config, fila_now());
        status = engine ? fill_engine(commit, engine, &error)
                        : fila_fail(&error, FILA_NO_MEMORY, "no memory for a broker");
    }
    room = fb_store_room(commit->store);
    (void)pthread_mutex_lock(&broker->lock);
    if (status == FILA_OK) {
        adopt(commit, engine);
        commit->failed = false;
        commit->room = room;
        commit->used = 0;
        fb_settle(broker);
    } else {
        commit->cause = error;
    }
    (void)pthread_mutex_unlock(&broker->lock);
    if (status != FILA_OK) {
        fq_free(engine);
    }
}

/* ---- The thread ---- */

bool fb_commit_pending(const struct fb_commit *commit)
{
    return !commit->failed &&
           (commit->storing || commit->first || fq_journal_dirty(commit->broker->engine));
}

fila_status fb_commit_check(const struct fb_commit *commit, fila_error *reterr)
{
    return commit->failed ? fb_refuse(reterr, FILA_INTERNAL, fila_view_of(commit->cause.text))
                          : FILA_OK;
}

bool fb_commit_is_full(const struct fb_commit *commit)
{
    return commit->room != INT64_MAX;
}

fila_status fb_commit_take_room(struct fb_commit *commit, size_t bytes, fila_error *reterr)
{
    char text[FILA_ERROR_TEXT];
    if (bytes && (uint64_t)commit->used + bytes > (uint64_t)commit->room) {
        (void)snprintf(text, sizeof text, "%s: cannot write: the disk is full", commit->path);
        return fb_refuse(reterr, FILA_INTERNAL, fila_view_of(text));
    }
    commit->used += (int64_t)bytes;
    return FILA_OK;
}

/* Looks what room there is. No lock held. */
static void look_for_room(struct fb_commit *commit)
{
    int64_t room = fb_store_room(commit->store);
    (void)pthread_mutex_lock(&commit->broker->lock);
    commit->room = room;
    (void)pthread_mutex_unlock(&commit->broker->lock);
}

static bool has_work(const struct fb_commit *commit)
{
    return !commit->failed && (commit->first || fq_journal_dirty(commit->broker->engine));
}

void fb_commit_wake(struct fb_commit *commit)
{
    if (commit->idle && has_work(commit)) {
        commit->idle = false;
        (void)pthread_cond_signal(&commit->work);
    }
}

/* Waits for something to store, or to try again; lock held. */
static void wait_for_work(struct fb_commit *commit)
{
    pthread_mutex_t *lock = &commit->broker->lock;
    struct timespec until;
    int late = 0;
    bool tries = commit->failed || commit->room != INT64_MAX;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += (time_t)((until.tv_nsec + RETRY_NS) / FILA_S);
    until.tv_nsec = (until.tv_nsec + RETRY_NS) % FILA_S;
    commit->idle = true;
    while (commit->idle && !has_work(commit) && !commit->over && late == 0) {
        late = tries ? pthread_cond_timedwait(&commit->work, lock, &until)
                     : pthread_cond_wait(&commit->work, lock);
    }
    commit->idle = false;
}

/* Gives up the engine; lock held. What waits for the open group is among the answers that fail. */
static void fail(struct fb_commit *commit, struct held_answer **answers, const fila_error *cause)
{
    struct held_answer **end = answers;
    while (*end) {
        end = &(*end)->next;
    }
    *end = take_answers(commit);
    commit->failed = true;
    commit->cause = *cause;
}

/* Stores what has piled up and answers for it. Enters and leaves with the lock. */
static void commit_once(struct fb_commit *commit)
{
    fila_broker *broker = commit->broker;
    struct held_answer *answers = take_answers(commit);
    bool any = fq_journal_take(broker->engine, &commit->group);
    int64_t room;
    fila_error error;
    fila_error refusal;
    fila_status status = FILA_OK;
    commit->storing = true;
    commit->used = 0;
    (void)pthread_mutex_unlock(&broker->lock);
    if (any) {
        status = fb_store_write(commit->store, &commit->group, to_wall(), &error);
    }
    (void)pthread_mutex_lock(&broker->lock);
    commit->storing = false;
    if (status != FILA_OK) {
        fail(commit, &answers, &error);
        (void)fb_commit_check(commit, &refusal);
    } else if (any) {
        fq_journal_durable(broker->engine, commit->group.number);
        fb_settle(broker);
    }
    (void)pthread_mutex_unlock(&broker->lock);
    if (status == FILA_OK) {
        give_all(commit, answers);
        fb_store_rest(commit->store);
    } else {
        refuse_all(commit, answers, &refusal);
    }
    fq_group_clear(&commit->group);
    room = fb_store_room(commit->store);
    (void)pthread_mutex_lock(&broker->lock);
    commit->room = room;
}

static void *run(void *arg)
{
    struct fb_commit *commit = arg;
    fila_broker *broker = commit->broker;
    (void)pthread_mutex_lock(&broker->lock);
    while (!commit->over || has_work(commit)) {
        if (has_work(commit)) {
            commit_once(commit);
            continue;
        }
        wait_for_work(commit);
        if ((commit->failed || commit->room != INT64_MAX) && !commit->over) {
            bool failed = commit->failed;
            (void)pthread_mutex_unlock(&broker->lock);
            (failed ? recover : look_for_room)(commit);
            (void)pthread_mutex_lock(&broker->lock);
        }
    }
    (void)pthread_mutex_unlock(&broker->lock);
    return NULL;
}

/* ---- Its life ---- */

fila_status fb_commit_open(
    fila_broker *broker,
    const fila_broker_options *options,
    const struct fq_config *config,
    fila_error *reterr)
{
    struct fb_commit *commit = calloc(1, sizeof *commit);
    fila_status status;
    if (!commit || !fb_init_cond(&commit->work)) {
        free(commit);
        return fila_fail(reterr, FILA_NO_MEMORY, "no memory for a broker");
    }
    commit->broker = broker;
    commit->config = *config;
    commit->last = &commit->first;
    commit->path = strdup(options->path);
    if (!commit->path) {
        fb_commit_free(commit);
        return fila_fail(reterr, FILA_NO_MEMORY, "no memory for a broker");
    }
    status = fb_store_open(options->path, options->sync, &commit->store, reterr);
    if (status == FILA_OK) {
        status = fill_engine(commit, broker->engine, reterr);
    }
    if (status != FILA_OK) {
        fb_commit_free(commit);
        return status;
    }
    commit->room = fb_store_room(commit->store);
    broker->commit = commit;
    return FILA_OK;
}

bool fb_commit_start(struct fb_commit *commit)
{
    return fb_start_thread(&commit->thread, run, commit, "fila-store");
}

void fb_commit_stop(struct fb_commit *commit)
{
    fila_broker *broker = commit->broker;
    (void)pthread_mutex_lock(&broker->lock);
    commit->over = true;
    (void)pthread_cond_signal(&commit->work);
    (void)pthread_mutex_unlock(&broker->lock);
    (void)pthread_join(commit->thread, NULL);
}

void fb_commit_free(struct fb_commit *commit)
{
    if (commit) {
        fq_group_free(&commit->group);
        fb_store_close(commit->store);
        free(commit->path);
        (void)pthread_cond_destroy(&commit->work);
        free(commit);
    }
}

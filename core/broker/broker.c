/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "broker.h"

#include "base/error.h"
#include "commit.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/random.h>
#include <utlist.h>

/* ---- The ticker ---- */

void fb_alarm(fila_broker *broker, int64_t due)
{
    if (due < broker->alarm) {
        broker->alarm = due;
        (void)pthread_cond_signal(&broker->changed);
    }
}

void fb_settle(fila_broker *broker)
{
    fb_streams_notify(broker);
    fb_alarm(broker, fq_wake_at(broker->engine));
    if (broker->parked && broker->parked->due != FILA_NEVER) {
        fb_alarm(broker, broker->parked->due);
    }
    if (broker->commit) {
        fb_commit_wake(broker->commit);
    }
}

/* Sleeps until `alarm`, or until it is moved forward. Waits on the monotonic clock, which
 * pthread_cond_timedwait can: after a suspend it may be late by what was left. */
static void sleep_until_alarm(fila_broker *broker)
{
    struct timespec until;
    int64_t wait = broker->alarm - fila_now();
    if (broker->alarm == FILA_NEVER) {
        (void)pthread_cond_wait(&broker->changed, &broker->lock);
        return;
    }
    if (wait <= 0) {
        return;
    }
    clock_gettime(CLOCK_MONOTONIC, &until);
    wait = wait < 1000 * FILA_S ? wait : 1000 * FILA_S;
    until.tv_sec += (time_t)((until.tv_nsec + wait) / FILA_S);
    until.tv_nsec = (until.tv_nsec + wait) % FILA_S;
    (void)pthread_cond_timedwait(&broker->changed, &broker->lock, &until);
}

/* Takes the first parked answer that is due, or any when the broker is closed. */
static struct fb_parked *next_due(fila_broker *broker, int64_t now)
{
    struct fb_parked *parked = broker->parked;
    if (!parked || (!broker->closed && parked->due > now)) {
        return NULL;
    }
    DL_DELETE(broker->parked, parked);
    return parked;
}

static void answer_due(fila_broker *broker, int64_t now)
{
    struct fb_parked *parked;
    while ((parked = next_due(broker, now))) {
        bool lost = broker->closed;
        (void)pthread_mutex_unlock(&broker->lock);
        if (lost) {
            fila_reply_free(parked->reply);
            parked->reply = NULL;
            (void)fb_refuse(
                &parked->error, FILA_BROKER_UNAVAILABLE, fila_view_of("the broker was closed"));
        }
        fb_answer_parked(broker, parked);
        (void)pthread_mutex_lock(&broker->lock);
    }
}

static void *tick(void *arg)
{
    fila_broker *broker = arg;
    (void)pthread_mutex_lock(&broker->lock);
    while (!broker->closed) {
        int64_t now = fila_now();
        fq_tick(broker->engine, now);
        broker->alarm = fb_streams_wake(broker, now);
        fb_settle(broker);
        if (broker->parked && broker->parked->due <= now) {
            answer_due(broker, now);
            continue;
        }
        sleep_until_alarm(broker);
    }
    answer_due(broker, FILA_NEVER);
    (void)pthread_mutex_unlock(&broker->lock);
    return NULL;
}

/* ---- Open ---- */

fila_status fb_options_read(
    const fila_broker_options *given,
    fila_broker_options *ret_options,
    fila_error *reterr)
{
    static const fila_broker_options defaults = FILA_BROKER_OPTIONS_INIT;
    const size_t first_size = offsetof(fila_broker_options, path); /* before it had a path */
    *ret_options = defaults;
    if (given && (given->size < first_size || given->size > sizeof *ret_options)) {
        return fila_fail(
            reterr, FILA_INVALID_ARGUMENT, "options size is %zu: must be %zu", given->size,
            sizeof *ret_options);
    }
    if (given) {
        memcpy(ret_options, given, given->size);
    }
    if (ret_options->sync != FILA_SYNC_FULL && ret_options->sync != FILA_SYNC_NORMAL) {
        return fila_fail(
            reterr, FILA_INVALID_ARGUMENT, "sync is %d: must be FILA_SYNC_FULL or FILA_SYNC_NORMAL",
            (int)ret_options->sync);
    }
    if (ret_options->quantum == 0) {
        return fila_fail(reterr, FILA_INVALID_ARGUMENT, "quantum is 0: must be at least 1");
    }
    if (ret_options->idle_timeout_ms == 0) {
        return fila_fail(reterr, FILA_INVALID_ARGUMENT, "idle_timeout_ms is 0: must be at least 1");
    }
    if (ret_options->command_capacity == 0) {
        return fila_fail(
            reterr, FILA_INVALID_ARGUMENT, "command_capacity is 0: must be at least 1");
    }
    if (ret_options->script_timeout_ms == 0 || ret_options->script_failures == 0) {
        return fila_fail(
            reterr, FILA_INVALID_ARGUMENT, "%s is 0: must be at least 1",
            ret_options->script_timeout_ms ? "script_failures" : "script_timeout_ms");
    }
    return FILA_OK;
}

uint64_t fb_make_seed(uint64_t wanted)
{
    uint64_t seed = wanted;
    if (wanted == 0 && getrandom(&seed, sizeof seed, 0) != (ssize_t)sizeof seed) {
        seed = (uint64_t)fila_now() ^ (uint64_t)fila_wall_ms() << 20;
    }
    return seed;
}

bool fb_init_cond(pthread_cond_t *cond)
{
    pthread_condattr_t attributes;
    bool ok;
    if (pthread_condattr_init(&attributes) != 0) {
        return false;
    }
    ok = pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC) == 0 &&
         pthread_cond_init(cond, &attributes) == 0;
    (void)pthread_condattr_destroy(&attributes);
    return ok;
}

bool fb_start_thread(pthread_t *ret_thread, void *(*run)(void *), void *arg, const char *name)
{
    sigset_t all;
    sigset_t before;
    bool started;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    started = pthread_create(ret_thread, NULL, run, arg) == 0;
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (started) {
        (void)pthread_setname_np(*ret_thread, name);
    }
    return started;
}

/* What a script's fila.get sees. Lock held: scripts run inside commands. */
static fila_view get_for_script(void *user, fila_view key)
{
    const fila_broker *broker = user;
    return fq_peek_config(broker->engine, key);
}

static void tell_script_failure(void *user, const fila_script_failure *failure)
{
    const fila_broker *broker = user;
    if (broker->on_script_failure) {
        broker->on_script_failure(broker->user, failure);
    }
}

static struct fb_lua *make_lua(fila_broker *broker, const fila_broker_options *options)
{
    struct fb_lua_options lua = {
        .timeout_ms = options->script_timeout_ms,
        .memory_limit = options->script_memory,
        .breaker_failures = options->script_failures,
        .breaker_cooldown = (int64_t)options->script_cooldown_ms * FILA_MS,
        .user = broker,
        .now = fila_now,
        .get = get_for_script,
        .failed = tell_script_failure,
    };
    broker->on_script_failure = options->on_script_failure;
    broker->user = options->user;
    return fb_lua_new(&lua);
}

/* The engine is made of `ret_config` also when it is made again from its file. */
static bool make_engine(
    fila_broker *broker,
    const fila_broker_options *options,
    struct fq_config *ret_config)
{
    ret_config->quantum = options->quantum;
    ret_config->idle_timeout = (int64_t)options->idle_timeout_ms * FILA_MS;
    ret_config->seed = fb_make_seed(options->seed);
    broker->lua = make_lua(broker, options);
    if (!broker->lua) {
        return false;
    }
    fb_lua_hooks(broker->lua, &ret_config->hooks);
    broker->engine = fq_new(ret_config, fila_now());
    return broker->engine != NULL;
}

/* A broker without threads yet, and with nothing in it; NULL without memory. */
static fila_broker *make(const fila_broker_options *options, struct fq_config *ret_config)
{
    fila_broker *broker = calloc(1, sizeof *broker);
    if (!broker) {
        return NULL;
    }
    broker->command_capacity = options->command_capacity;
    broker->alarm = FILA_NEVER;
    if (!make_engine(broker, options, ret_config) || !fb_init_cond(&broker->changed)) {
        fq_free(broker->engine);
        fb_lua_free(broker->lua);
        free(broker);
        return NULL;
    }
    (void)pthread_mutex_init(&broker->lock, NULL);
    return broker;
}

static void unmake(fila_broker *broker)
{
    fb_faults_clear(broker);
    fb_commit_free(broker->commit);
    fq_free(broker->engine);
    fb_lua_free(broker->lua);
    (void)pthread_cond_destroy(&broker->changed);
    (void)pthread_mutex_destroy(&broker->lock);
    free(broker);
}

static bool start_threads(fila_broker *broker)
{
    if (broker->commit && !fb_commit_start(broker->commit)) {
        return false;
    }
    if (fb_start_thread(&broker->ticker, tick, broker, "fila-broker")) {
        return true;
    }
    if (broker->commit) {
        fb_commit_stop(broker->commit);
    }
    return false;
}

fila_status fila_broker_open(
    const fila_broker_options *given,
    fila_broker **ret_broker,
    fila_error *reterr)
{
    struct fq_config config = FQ_CONFIG_INIT;
    fila_broker_options options;
    fila_broker *broker;
    fila_status status = fb_options_read(given, &options, reterr);
    if (status != FILA_OK) {
        return status;
    }
    broker = make(&options, &config);
    if (!broker) {
        return fila_fail(reterr, FILA_NO_MEMORY, "no memory for a broker");
    }
    if (options.path) {
        status = fb_commit_open(broker, &options, &config, reterr);
    }
    if (status == FILA_OK && !start_threads(broker)) {
        status = fila_fail(reterr, FILA_NO_MEMORY, "cannot start a thread");
    }
    if (status != FILA_OK) {
        unmake(broker);
        return status;
    }
    if (options.chaos) {
        status = fila_broker_add_chaos(broker, options.chaos, &broker->chaos_seed, reterr);
        if (status != FILA_OK) {
            fila_broker_free(broker);
            return status;
        }
    }
    if (options.listen) {
        status = fb_server_start(broker, options.listen, &broker->server, reterr);
        if (status != FILA_OK) {
            fila_broker_free(broker);
            return status;
        }
    }
    *ret_broker = broker;
    return FILA_OK;
}

uint64_t fila_broker_chaos_seed(const fila_broker *broker)
{
    return broker->chaos_seed;
}

uint16_t fila_broker_port(const fila_broker *broker)
{
    return broker->server ? fb_server_port(broker->server) : 0;
}

/* ---- Close ---- */

void fila_broker_close(fila_broker *broker)
{
    atomic_store(&broker->closing, true);
    (void)pthread_mutex_lock(&broker->lock);
    if (!broker->closed) {
        broker->closed = true;
        fb_streams_end(broker);
        (void)pthread_cond_signal(&broker->changed);
    }
    (void)pthread_mutex_unlock(&broker->lock);
    if (broker->server) {
        fb_server_stop(broker->server);
    }
}

bool fila_broker_drain(fila_broker *broker, int timeout_ms)
{
    if (!broker->server) {
        return true;
    }
    fb_server_drain(broker->server);
    return fb_server_wait(broker->server, timeout_ms);
}

void fila_broker_free(fila_broker *broker)
{
    if (!broker) {
        return;
    }
    fila_broker_close(broker);
    (void)pthread_join(broker->ticker, NULL);
    if (broker->commit) {
        fb_commit_stop(broker->commit);
    }
    fb_server_free(broker->server);
    unmake(broker);
}

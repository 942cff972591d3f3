/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * A durable broker is killed at its nth write, sync, truncation or deletion, for one n after
 * another, while calls are in flight; then the same file is opened again, and all that was
 * confirmed is in it: no message lost, none that was acked back, none handed out whose lease is not
 * there, no queue or setting otherwise than was answered. Then it goes on with the same file.
 *
 *     store_crash [--kills N] [--seed S] [--file PATH] [--sync full|normal]
 *
 * A child does the work and tells of it through a pipe, of a call before it is made and of its
 * answer when it comes; the parent keeps the account, and looks at the file with the store and the
 * engine alone.
 */
#include "base/clock.h"
#include "broker/service.h"
#include "broker/store.h"
#include "faulty_vfs.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#define MESSAGES   400000
#define IN_FLIGHT  16
#define RUN_CALLS  400 /* of a child that is not killed before */
#define SETTINGS   4
#define SIDE_QUEUE 3
#define VISIBILITY 86400000 /* ms: no lease ends while this runs */

/* ---- What the child tells ---- */

enum told {
    TOLD_ENQUEUE,   /* a call is about to be made: `n` */
    TOLD_ENQUEUED,  /* and was confirmed: `n`, `id` */
    TOLD_DELIVERED, /* n, id, value = attempt count */
    TOLD_ACK,
    TOLD_ACKED,
    TOLD_NACK,
    TOLD_NACKED,
    TOLD_SET, /* n = which, value */
    TOLD_SET_DONE,
    TOLD_CREATE, /* n = which */
    TOLD_CREATED,
    TOLD_DELETE,
    TOLD_DELETED,
    TOLD_FAILED /* an answer that must not be: value = its code */
};

struct told_event {
    uint32_t kind;
    uint32_t n;
    uint32_t value;
    char id[FQ_ID_SIZE];
};

static void must(bool holds, const char *what)
{
    if (!holds) {
        fprintf(stderr, "store_crash: %s\n", what);
        abort();
    }
}

static uint32_t number_in(fila_view text)
{
    uint32_t number = 0;
    for (size_t i = 0; i < text.len; i++) {
        number = number * 10 + (uint32_t)(text.data[i] - '0');
    }
    return number;
}

/* ---- The child ---- */

static int out = -1;
static fila_broker *broker;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t news = PTHREAD_COND_INITIALIZER;
static int in_flight;
static bool is_ready;
static uint64_t random_state;

struct asked {
    struct told_event event; /* told when the answer is good */
    char id[FQ_ID_SIZE];
};

static uint32_t pick(uint32_t below)
{
    random_state = random_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)((random_state >> 33) % below);
}

static void tell(enum told kind, uint32_t n, uint32_t value, const char *id)
{
    struct told_event event;
    memset(&event, 0, sizeof event);
    event.kind = kind;
    event.n = n;
    event.value = value;
    if (id) {
        memcpy(event.id, id, FQ_ID_SIZE);
    }
    must(write(out, &event, sizeof event) == (ssize_t)sizeof event, "the pipe");
}

static void on_reply(void *user, const fila_reply *reply, const fila_error *error)
{
    struct asked *asked = user;
    if (error->code != FILA_OK) {
        fprintf(stderr, "store_crash: call %u: %s\n", asked->event.kind, error->text);
        tell(TOLD_FAILED, asked->event.n, (uint32_t)error->code, NULL);
    } else if (asked->event.kind == TOLD_ENQUEUED) {
        fila_view id = reply->as.enqueue.message_id;
        memcpy(asked->id, id.data, id.len);
        asked->id[id.len] = '\0';
        tell(TOLD_ENQUEUED, asked->event.n, 0, asked->id);
    } else {
        tell((enum told)asked->event.kind, asked->event.n, asked->event.value, asked->id);
    }
    free(asked);
    pthread_mutex_lock(&lock);
    in_flight--;
    pthread_cond_signal(&news);
    pthread_mutex_unlock(&lock);
}

static void call(
    const fila_request *request,
    enum told good,
    uint32_t n,
    uint32_t value,
    const char *id)
{
    struct asked *asked = calloc(1, sizeof *asked);
    must(asked != NULL, "memory");
    asked->event.kind = good;
    asked->event.n = n;
    asked->event.value = value;
    if (id) {
        memcpy(asked->id, id, FQ_ID_SIZE);
    }
    pthread_mutex_lock(&lock);
    while (in_flight >= IN_FLIGHT) {
        pthread_cond_wait(&news, &lock);
    }
    in_flight++;
    pthread_mutex_unlock(&lock);
    fb_call(broker, request, on_reply, asked);
}

static void enqueue(uint32_t n)
{
    static char payload[20000];
    fila_header header = {fila_view_of("number"), {NULL, 0}};
    fila_request request = {.call = FILA_CALL_ENQUEUE};
    char text[16];
    (void)snprintf(text, sizeof text, "%u", n);
    header.value = fila_view_of(text);
    request.as.enqueue.queue = fila_view_of(pick(8) ? "q" : "q.dlq");
    request.as.enqueue.headers = &header;
    request.as.enqueue.header_count = 1;
    request.as.enqueue.payload = (fila_view){payload, pick(6) ? pick(600) : pick(sizeof payload)};
    tell(TOLD_ENQUEUE, n, 0, NULL);
    call(&request, TOLD_ENQUEUED, n, 0, NULL);
}

static void settle(const struct fb_delivery *delivery, bool ack, uint32_t n)
{
    fila_request request = {.call = ack ? FILA_CALL_ACK : FILA_CALL_NACK};
    char id[FQ_ID_SIZE];
    memcpy(id, delivery->fields.id.data, FQ_ID_SIZE - 1);
    id[FQ_ID_SIZE - 1] = '\0';
    request.as.settle.queue = delivery->fields.queue;
    request.as.settle.message_id = delivery->fields.id;
    tell(ack ? TOLD_ACK : TOLD_NACK, n, 0, id);
    call(&request, ack ? TOLD_ACKED : TOLD_NACKED, n, 0, id);
}

static void handle(const struct fb_delivery *delivery)
{
    uint32_t n = number_in(delivery->fields.headers[0].value);
    char id[FQ_ID_SIZE];
    uint32_t what = pick(20);
    memcpy(id, delivery->fields.id.data, FQ_ID_SIZE - 1);
    id[FQ_ID_SIZE - 1] = '\0';
    tell(TOLD_DELIVERED, n, delivery->fields.attempt_count, id);
    if (what > 0) {
        settle(delivery, what > 4, n);
    }
}

static void take_all(struct fb_consumer *consumer)
{
    struct fb_delivery delivery;
    fila_error end;
    pthread_mutex_lock(&lock);
    is_ready = false;
    pthread_mutex_unlock(&lock);
    while (fb_consumer_take(consumer, &delivery, &end) == FB_TAKE_MESSAGE) {
        handle(&delivery);
        fb_delivery_release(&delivery);
    }
}

static void set_config(bool *changed)
{
    fila_request request = {.call = FILA_CALL_SET_CONFIG};
    uint32_t which = pick(SETTINGS);
    uint32_t value = pick(1000);
    char key[16];
    char text[16];
    if (changed[which]) {
        return;
    }
    changed[which] = true; /* once a run: there are two values that it can have after it */
    (void)snprintf(key, sizeof key, "key-%u", which);
    (void)snprintf(text, sizeof text, "%u", value);
    request.as.config.key = fila_view_of(key);
    request.as.config.value = fila_view_of(text);
    tell(TOLD_SET, which, value, NULL);
    call(&request, TOLD_SET_DONE, which, value, NULL);
}

static void redrive(void)
{
    fila_request request = {.call = FILA_CALL_REDRIVE};
    request.as.redrive.dlq_queue = fila_view_of("q.dlq");
    call(&request, TOLD_FAILED + 1, 0, 0, NULL);
}

static void side_queue(const bool *exists, bool *changed)
{
    uint32_t which = pick(SIDE_QUEUE);
    char name[16];
    fila_request request = {
        .call = exists[which] ? FILA_CALL_DELETE_QUEUE : FILA_CALL_CREATE_QUEUE};
    (void)snprintf(name, sizeof name, "side-%u", which);
    if (changed[which]) {
        return;
    }
    changed[which] = true; /* once a run: so that its answer is certain to be good */
    if (exists[which]) {
        request.as.queue.queue = fila_view_of(name);
    } else {
        request.as.create_queue.name = fila_view_of(name);
    }
    tell(exists[which] ? TOLD_DELETE : TOLD_CREATE, which, 0, NULL);
    call(&request, exists[which] ? TOLD_DELETED : TOLD_CREATED, which, 0, NULL);
}

static void on_ready(void *user)
{
    (void)user;
    pthread_mutex_lock(&lock);
    is_ready = true;
    pthread_cond_signal(&news);
    pthread_mutex_unlock(&lock);
}

static void wait_until_quiet(void)
{
    pthread_mutex_lock(&lock);
    while (in_flight > 0) {
        pthread_cond_wait(&news, &lock);
    }
    pthread_mutex_unlock(&lock);
}

struct job {
    const char *path;
    fila_sync sync;
    bool has_queue;
    bool sides[SIDE_QUEUE];
    uint32_t first; /* number of the first message */
    enum faulty_kind kind;
    uint64_t nth;
    uint64_t seed;
    int pipe;
};

static void work(const struct job *job, struct fb_consumer *consumer)
{
    bool changed[SIDE_QUEUE] = {false};
    bool set[SETTINGS] = {false};
    for (uint32_t i = 0; i < RUN_CALLS; i++) {
        uint32_t what = pick(40);
        if (what == 0) {
            set_config(set);
        } else if (what == 1) {
            redrive();
        } else if (what == 2) {
            side_queue(job->sides, changed);
        } else {
            enqueue(job->first + i);
        }
        pthread_mutex_lock(&lock);
        bool ready = is_ready;
        pthread_mutex_unlock(&lock);
        if (ready) {
            take_all(consumer);
        }
    }
    wait_until_quiet();
    take_all(consumer);
    wait_until_quiet();
}

static int child(const struct job *job)
{
    static const struct fb_consumer_events events = {on_ready};
    fila_broker_options options = FILA_BROKER_OPTIONS_INIT;
    struct fb_consumer *consumer;
    fila_error error;
    out = job->pipe;
    random_state = job->seed;
    must(faulty_install(), "the VFS");
    faulty_plan(job->kind, job->nth);
    options.path = job->path;
    options.sync = job->sync;
    if (fila_broker_open(&options, &broker, &error) != FILA_OK) {
        fprintf(stderr, "store_crash: open: %s\n", error.text);
        return 1;
    }
    if (!job->has_queue) {
        fila_request create = {.call = FILA_CALL_CREATE_QUEUE};
        create.as.create_queue.name = fila_view_of("q");
        create.as.create_queue.visibility_timeout_ms = VISIBILITY;
        call(&create, TOLD_CREATED, SIDE_QUEUE, 0, NULL);
        wait_until_quiet();
    }
    must(
        fb_consumer_open(broker, fila_view_of("q"), &events, NULL, &consumer, &error) == FILA_OK,
        "a consumer");
    work(job, consumer);
    fb_consumer_close(consumer);
    fila_broker_free(broker);
    return 0;
}

/* ---- The account ---- */

struct account {
    char id[FQ_ID_SIZE]; /* "" = not known */
    bool sent;
    bool confirmed;
    bool held;     /* delivered, and no answer to its settlement was asked for yet */
    bool ack_sent; /* in this run */
    bool acked;
    uint32_t nacks_sent;
    uint32_t nacks;
};

static struct account *accounts;
static uint32_t account_count;
static uint32_t setting[SETTINGS];      /* confirmed; 0xffffffff = none */
static uint32_t setting_sent[SETTINGS]; /* a later one, unconfirmed */
static bool side[SIDE_QUEUE + 1];
static bool side_unsure[SIDE_QUEUE + 1];
static uint64_t events_read;

static void take_event(const struct told_event *event)
{
    struct account *a = event->kind <= TOLD_NACKED ? &accounts[event->n] : NULL;
    events_read++;
    switch (event->kind) {
    case TOLD_ENQUEUE:
        a->sent = true;
        account_count = event->n >= account_count ? event->n + 1 : account_count;
        break;
    case TOLD_ENQUEUED:
        a->confirmed = true;
        memcpy(a->id, event->id, FQ_ID_SIZE);
        break;
    case TOLD_DELIVERED:
        must(a->sent, "a message is delivered that nobody sent");
        must(!a->acked, "a message comes back that was acked");
        must(!a->id[0] || !a->confirmed || strcmp(a->id, event->id) == 0, "an id has changed");
        must(
            event->value >= a->nacks && event->value <= a->nacks_sent,
            "the attempt count is wrong");
        memcpy(a->id, event->id, FQ_ID_SIZE);
        a->confirmed = true; /* as good as */
        a->held = true;
        break;
    case TOLD_ACK:
        a->ack_sent = true;
        a->held = false;
        break;
    case TOLD_ACKED:
        a->acked = true;
        break;
    case TOLD_NACK:
        a->nacks_sent++;
        a->held = false;
        break;
    case TOLD_NACKED:
        a->nacks++;
        break;
    case TOLD_SET:
        setting_sent[event->n] = event->value;
        break;
    case TOLD_SET_DONE:
        setting[event->n] = event->value;
        break;
    case TOLD_CREATE:
    case TOLD_DELETE:
        side_unsure[event->n] = true;
        break;
    case TOLD_CREATED:
    case TOLD_DELETED:
        side[event->n] = event->kind == TOLD_CREATED;
        side_unsure[event->n] = false;
        break;
    case TOLD_FAILED:
        must(false, "a call failed");
        break;
    default:
        break; /* an answer that leaves nothing to be checked */
    }
}

static void read_events(int from)
{
    struct told_event event;
    ssize_t got;
    while ((got = read(from, &event, sizeof event)) == (ssize_t)sizeof event ||
           (got < 0 && errno == EINTR)) {
        if (got > 0) {
            take_event(&event);
        }
    }
    must(got == 0, "a whole event");
}

/* ---- What the file says ---- */

static void check_message(struct fq_engine *engine, struct account *a, uint64_t *ret_there)
{
    struct fq_found found;
    enum fq_state state = fq_find(engine, fila_view_of(a->id), &found);
    *ret_there += state != FQ_GONE;
    if (a->acked) {
        must(state == FQ_GONE, "a message is back that was acked");
        return;
    }
    if (state == FQ_GONE) {
        must(a->ack_sent, "a confirmed message is lost");
        a->acked = true;
        return;
    }
    must(!a->held || state == FQ_LEASED, "a delivered message has no lease");
    must(
        found.attempt_count >= a->nacks && found.attempt_count <= a->nacks_sent,
        "a stored attempt count is wrong");
    a->nacks = found.attempt_count; /* what was unsure is settled now */
    a->nacks_sent = found.attempt_count;
    a->ack_sent = false;
    a->held = state == FQ_LEASED;
}

static void check_settings(struct fq_engine *engine)
{
    for (uint32_t i = 0; i < SETTINGS; i++) {
        char key[16];
        fila_view value;
        uint32_t found;
        (void)snprintf(key, sizeof key, "key-%u", i);
        value = fq_get_config(engine, fila_now(), fila_view_of(key));
        found = value.len ? number_in(value) : UINT32_MAX;
        must(found == setting[i] || found == setting_sent[i], "a setting is neither old nor new");
        setting[i] = found;
        setting_sent[i] = found;
    }
}

/* Whether the queue is there; also counts what it has. */
static bool stats(struct fq_engine *engine, const char *name, uint64_t *ret_depth)
{
    fila_reply reply;
    void *block = NULL;
    fila_status status = fq_get_stats(engine, fila_now(), fila_view_of(name), &reply, &block);
    *ret_depth = status == FILA_OK ? reply.as.stats.depth : 0;
    free(block);
    return status == FILA_OK;
}

static void check_sides(struct fq_engine *engine)
{
    for (uint32_t i = 0; i < SIDE_QUEUE; i++) {
        uint64_t depth;
        char name[16];
        bool there;
        (void)snprintf(name, sizeof name, "side-%u", i);
        there = stats(engine, name, &depth);
        must(there == side[i] || side_unsure[i], "a queue is neither as answered nor as asked");
        side[i] = there;
        side_unsure[i] = false;
    }
}

static int64_t to_wall(void)
{
    return fila_wall_ms() * FILA_MS - fila_now();
}

static void check_file(const char *path, fila_sync sync)
{
    struct fq_config config = FQ_CONFIG_INIT;
    struct fq_engine *engine = fq_new(&config, fila_now());
    struct fb_store_load load = {.engine = engine, .now = fila_now(), .to_wall = to_wall()};
    struct fb_store *store;
    fila_error error;
    uint64_t there = 0;
    uint64_t unknown = 0;
    uint64_t depth;
    uint64_t dlq_depth;
    must(engine != NULL, "memory");
    if (fb_store_open(path, sync, &store, &error) != FILA_OK ||
        fb_store_load(store, &load, &error) != FILA_OK) {
        fprintf(stderr, "store_crash: %s\n", error.text);
        must(false, "the file opens again");
    }
    fb_store_close(store);
    must(!fq_check(engine), "the engine's own invariants");
    for (uint32_t i = 0; i < account_count; i++) {
        if (accounts[i].confirmed) {
            check_message(engine, &accounts[i], &there);
        } else {
            unknown += accounts[i].sent;
        }
    }
    check_settings(engine);
    check_sides(engine);
    side[SIDE_QUEUE] = stats(engine, "q", &depth) && stats(engine, "q.dlq", &dlq_depth);
    (void)stats(engine, "q", &depth);
    (void)stats(engine, "q.dlq", &dlq_depth);
    must(
        depth + dlq_depth >= there && depth + dlq_depth <= there + unknown,
        "there is more or less than can be");
    fq_free(engine);
}

static int run_child(struct job *job)
{
    int ends[2];
    int status = 0;
    pid_t pid;
    must(pipe(ends) == 0, "a pipe");
    pid = fork();
    must(pid >= 0, "a child");
    if (pid == 0) {
        (void)close(ends[0]);
        job->pipe = ends[1];
        _exit(child(job));
    }
    (void)close(ends[1]);
    read_events(ends[0]);
    (void)close(ends[0]);
    must(waitpid(pid, &status, 0) == pid, "the child's end");
    must(WIFEXITED(status), "the child dies of a signal");
    return WEXITSTATUS(status);
}

static void remove_files(const char *path)
{
    char name[4096];
    (void)unlink(path);
    (void)snprintf(name, sizeof name, "%s-wal", path);
    (void)unlink(name);
    (void)snprintf(name, sizeof name, "%s-journal", path);
    (void)unlink(name);
}

/* A new file, and nothing known. */
static void begin_anew(struct job *job)
{
    remove_files(job->path);
    memset(accounts, 0, MESSAGES * sizeof *accounts);
    account_count = 0;
    memset(setting, 0xff, sizeof setting);
    memset(setting_sent, 0xff, sizeof setting_sent);
    memset(side, 0, sizeof side);
    memset(side_unsure, 0, sizeof side_unsure);
}

/* Runs a child to its nth operation, and looks at what it left; false if it came to its end. */
static bool kill_at(struct job *job, enum faulty_kind kind, uint64_t nth)
{
    int status;
    job->kind = kind;
    job->nth = nth;
    job->first = account_count;
    job->seed++;
    job->has_queue = side[SIDE_QUEUE];
    memcpy(job->sides, side, sizeof job->sides);
    status = run_child(job);
    must(status == 0 || status == FAULTY_STATUS, "the child's exit status");
    check_file(job->path, job->sync);
    return status == FAULTY_STATUS;
}

static uint32_t read_arguments(int argc, char **argv, struct job *job)
{
    uint32_t kills = 36;
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--kills") == 0) {
            kills = (uint32_t)strtoul(argv[i + 1], NULL, 10);
        } else if (strcmp(argv[i], "--seed") == 0) {
            job->seed = strtoull(argv[i + 1], NULL, 10);
        } else if (strcmp(argv[i], "--file") == 0) {
            job->path = argv[i + 1];
        } else if (strcmp(argv[i], "--sync") == 0) {
            job->sync = strcmp(argv[i + 1], "normal") == 0 ? FILA_SYNC_NORMAL : FILA_SYNC_FULL;
        }
    }
    return kills;
}

int main(int argc, char **argv)
{
    static const enum faulty_kind KINDS[] = {FAULTY_EXIT, FAULTY_EXIT_HALF, FAULTY_EXIT_AFTER};

    /* In memory where there is such a place: what a kill leaves is the same, and syncs cost
     * nothing. */
    static char made[64];
    struct job job = {.path = NULL, .sync = FILA_SYNC_FULL, .seed = 1};
    uint32_t kills = read_arguments(argc, argv, &job);
    uint32_t killed = 0;
    uint32_t ended = 0;
    uint64_t nth = 1;
    if (!job.path) {
        int fd;
        (void)snprintf(
            made, sizeof made, "%s/store_crash_XXXXXX",
            access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
        fd = mkstemp(made);
        must(fd >= 0, "a file");
        (void)close(fd);
        job.path = made;
    }
    accounts = calloc(MESSAGES, sizeof *accounts);
    must(accounts != NULL, "memory");
    for (uint32_t i = 0; i < 24 * 3; i++) { /* while a file is made: each operation, in each way */
        begin_anew(&job);
        must(kill_at(&job, KINDS[i % 3], 1 + i / 3), "a child that is killed early");
        check_file(job.path, job.sync); /* the first look has changed nothing for the worse */
    }
    begin_anew(&job);
    /* Then one file for all: the first operations one by one, while it is opened and read; then in
     * steps that the number of kills decides, to the end of a run, where the log is moved into the
     * file. */
    while (killed < kills && account_count + RUN_CALLS < MESSAGES) {
        bool was_killed = kill_at(&job, KINDS[killed % 3], nth);
        killed += was_killed;
        ended += !was_killed;
        nth = was_killed ? nth + 1 + (nth > 24 ? 2200 / kills : 0) : 1;
    }
    remove_files(job.path);
    printf(
        "72 kills while a file is made, %u after, %u runs to the end, %u messages, %llu events: "
        "nothing lost\n",
        killed, ended, account_count, (unsigned long long)events_read);
    free(accounts);
    return 0;
}

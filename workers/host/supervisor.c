/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "base/clock.h"
#include "embedded.h"
#include "host.h"
#include "http/http.h"
#include "orders.h"
#include "precheck.h"
#include "served.h"
#include "status/dump.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

/* Flow-control bytes that a stream may run ahead of its reader: small, because all of it is leased
 * (contract A5, I2). */
enum {
    STREAM_WINDOW = 16384
};

#define REQUIRE_BROKER_WITHIN (10 * FILA_S)
#define STUCK_GRACE                                                               \
    FILA_S /* how long a stop waits for handlers that ran over the drain deadline \
            */
#define LEAST_GRACE (100 * FILA_MS) /* for threads that only have to end */
#define BEAT_WITHIN \
    (60 * FILA_S) /* /livez: a reload may load slow handlers, a stop waits for stuck ones */
#define DUMP_WITHIN (5 * FILA_S)
#define HURRY       (2 * FILA_S) /* a second TERM: this long for returning what is held */

/* What the HTTP thread may know of the supervisor. */
struct published {
    _Atomic int64_t start_took;     /* 0 = not ready yet */
    _Atomic int64_t drain_deadline; /* 0 = not draining */
    atomic_uint_fast64_t reloads_done;
    atomic_uint_fast64_t reloads_refused;
    _Atomic uint64_t config_hash;
    _Atomic int64_t beat_asked; /* when; 0 = no question is open */
};

struct host {
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
    struct fw_http *http;
    struct fw_orders orders;
    struct published published;
    struct fw_status_source source;

    struct {
        pthread_mutex_t lock;
        struct fw_queue *drained; /* let go by the I/O thread, not yet retired */
    } locked;
};

/* ---- News from the I/O thread ---- */

static void ring(struct host *h)
{
    uint64_t one = 1;
    ssize_t n = write(h->event_fd, &one, sizeof one);
    (void)n; /* a full counter is news enough */
}

static void ring_host(void *user)
{
    ring(user);
}

static void on_stream_up(void *user)
{
    struct host *h = user;
    if (!atomic_exchange(&h->stream_up, true)) {
        ring(h);
    }
}

static void on_missing(void *user, struct fw_queue *queue)
{
    struct host *h = user;
    (void)queue;
    atomic_store(&h->queue_missing, true);
    ring(h);
}

static void on_failed(void *user, const fila_error *why)
{
    struct host *h = user;
    FW_LOG(FW_EVENT_INTERNAL, "the I/O thread cannot go on", fw_str("error", why->text));
    atomic_store(&h->io_failed, true);
    ring(h);
}

static void on_drained(void *user, struct fw_queue *queue)
{
    struct host *h = user;
    (void)pthread_mutex_lock(&h->locked.lock);
    *fw_queue_link(queue) = h->locked.drained;
    h->locked.drained = queue;
    (void)pthread_mutex_unlock(&h->locked.lock);
    ring(h);
}

/* The log has counted a repeated line: the loop must not sleep past the second. */
static void on_log_wait(void *user)
{
    ring(user);
}

static const struct fw_io_events IO_EVENTS = {on_stream_up, on_missing, on_drained, on_failed};

/* ---- Answers for the HTTP thread ---- */

static struct fw_snapshot *take_snapshot(void *user, unsigned what, int64_t patience)
{
    struct host *h = user;
    struct fw_snapshot *s = fw_io_look(h->io, what, patience);
    if (!s) {
        return NULL;
    }
    s->started_at = h->started_at;
    s->start_took = atomic_load(&h->published.start_took);
    s->drain_deadline = atomic_load(&h->published.drain_deadline);
    s->draining = s->drain_deadline != 0;
    s->reloads_done = atomic_load(&h->published.reloads_done);
    s->reloads_refused = atomic_load(&h->published.reloads_refused);
    s->config_file = fw_snapshot_text(s, fila_view_of(h->first_config->config->file), 1024);
    (void)snprintf(
        s->config_hash, sizeof s->config_hash, "%016" PRIx64,
        atomic_load(&h->published.config_hash));
    return s;
}

/* Leaves a question that the loop answers when it comes round; while handlers are loaded at the
 * start there is no loop yet. */
static bool supervisor_beats(void *user)
{
    struct host *h = user;
    int64_t now = fila_now();
    int64_t none = 0;
    if (!atomic_load(&h->published.start_took)) {
        return true;
    }
    if (atomic_compare_exchange_strong(&h->published.beat_asked, &none, now)) {
        ring(h);
        return true;
    }
    return now - none < BEAT_WITHIN;
}

/* FNV-1a over the config as understood, with its secrets masked. */
static uint64_t hash_config(const struct fw_config *config)
{
    char *text = NULL;
    size_t len = 0;
    uint64_t hash = UINT64_C(1469598103934665603);
    FILE *out = open_memstream(&text, &len);
    bool ok = out && fw_config_explain(out, config, false);
    if (out) {
        ok = fclose(out) == 0 && ok;
    }
    for (size_t i = 0; ok && i < len; i++) {
        hash = (hash ^ (unsigned char)text[i]) * UINT64_C(1099511628211);
    }
    free(text);
    return ok ? hash : 0;
}

/* ---- Start ---- */

static void log_diagnostics(const struct fw_diagnostics *diagnostics)
{
    for (size_t i = 0; i < diagnostics->count; i++) {
        const struct fw_diagnostic *d = &diagnostics->items[i];
        FW_LOG(
            d->is_error ? FW_EVENT_CONFIG_INVALID : FW_EVENT_CONFIG_WARNING, d->text,
            fw_str("file", d->file), fw_int("line", d->line), fw_str("key", d->key));
    }
}

/* The file to read: a reload stays with the one that the worker was started with. */
static const char *config_path(const struct host *h)
{
    return h->config ? h->config->config->file : fw_config_find(h->options->config_path);
}

/* A first load may wait for a file that hangs, and nobody reads signals yet: a stop ends the
 * process.
 */
static bool read_config(
    const struct host *h,
    const char *path,
    struct fw_config **ret_config,
    struct fw_diagnostics *diagnostics)
{
    sigset_t stops;
    (void)sigemptyset(&stops);
    (void)sigaddset(&stops, SIGTERM);
    (void)sigaddset(&stops, SIGINT);
    if (!h->config) {
        (void)pthread_sigmask(SIG_UNBLOCK, &stops, NULL);
    }
    bool ok = fw_config_load(path, &h->options->overrides, ret_config, diagnostics);
    (void)pthread_sigmask(SIG_BLOCK, &stops, NULL);
    return ok;
}

static struct fw_config_ref *load_config(const struct host *h)
{
    const char *path = config_path(h);
    struct fw_config *config = NULL;
    struct fw_diagnostics diagnostics = {0};
    if (!path) {
        FW_LOG(
            FW_EVENT_CONFIG_INVALID,
            "no config file: give --config FILE or FILA_WORKER_CONFIG, or make ./fila-worker.cfg",
            fw_str("file", h->options->config_path ? h->options->config_path : ""));
        return NULL;
    }
    bool ok = read_config(h, path, &config, &diagnostics);
    if (ok && !h->config) { /* a reload's holds once it is accepted */
        fw_log_init(config->log_level, config->log_format);
    }
    log_diagnostics(&diagnostics);
    fw_diagnostics_free(&diagnostics);
    return ok ? fw_config_ref_new(config) : NULL;
}

static int open_signals(void)
{
    sigset_t set;
    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGTERM);
    (void)sigaddset(&set, SIGINT);
    (void)sigaddset(&set, SIGHUP);
    (void)sigaddset(&set, SIGCONT);
    (void)sigaddset(&set, SIGUSR1);
    if (!isatty(STDIN_FILENO)) { /* Ctrl-Z keeps its meaning on a terminal */
        (void)sigaddset(&set, SIGTSTP);
    }
    (void)pthread_sigmask(SIG_BLOCK, &set, NULL);
    (void)signal(
        SIGCHLD, SIG_DFL); /* who started us may have ignored it: no child could be waited for */
    (void)signal(SIGPIPE, SIG_IGN);
    (void)signal(SIGXFSZ, SIG_IGN); /* a file at its limit is a full disk, no reason to die */
    return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

static bool open_broker(struct host *h)
{
    fila_error error = FILA_ERROR_INIT;
    const char *url = h->config->config->brokers[0];
    if (!fw_embedded_url(url)) {
        return true;
    }
    if (fw_embedded_open(url, &h->broker, &error) != FILA_OK) {
        FW_LOG(FW_EVENT_CONFIG_INVALID, error.text, fw_str("key", "broker"), fw_str("broker", url));
        return false;
    }
    FW_LOG(
        FW_EVENT_BROKER_READY,
        fw_embedded_has_file(url) ? "the embedded broker serves, from its file"
                                  : "the embedded broker serves, in memory",
        fw_str("broker", url), fw_int("port", fila_broker_port(h->broker)));
    return true;
}

static bool open_io(struct host *h)
{
    fila_error error = FILA_ERROR_INIT;
    struct fw_io_options options = {
        .config = h->config->config,
        .broker = h->broker,
        .window = STREAM_WINDOW,
        .state = &h->state,
        .events = &IO_EVENTS,
        .user = h,
    };
    if (fw_io_start(&options, &h->io, &error) != FILA_OK) {
        FW_LOG(
            FW_EVENT_CONFIG_INVALID, error.text, fw_str("key", "broker"),
            fw_str("broker", h->config->config->brokers[0]));
        return false;
    }
    h->first_config = h->config;
    h->first_config->users++;
    return true;
}

/* ---- Signals while a handler's init takes its time ---- */

static void note_signal(struct host *h, int number)
{
    switch (number) {
    case SIGUSR1: /* nothing is held yet that a dump could show, or a reload is on */
        break;
    case SIGHUP:
        h->reload_asked = true;
        break;
    case SIGTSTP:
        fw_io_pause(h->io, true);
        break;
    case SIGCONT:
        fw_io_pause(h->io, false);
        break;
    default:
        h->stop_signals[h->stop_signals[0] != 0] = number;
        break;
    }
}

static bool next_signal(const struct host *h, int *ret_number)
{
    struct signalfd_siginfo info;
    if (read(h->signal_fd, &info, sizeof info) != (ssize_t)sizeof info) {
        return false;
    }
    *ret_number = (int)info.ssi_signo;
    return true;
}

/* What it notes is done as soon as the loading has ended. */
static bool go_on(void *user)
{
    struct host *h = user;
    int number = 0;
    while (next_signal(h, &number)) {
        note_signal(h, number);
    }
    fw_log_tick();
    atomic_store(&h->published.beat_asked, 0);
    return h->stop_signals[0] == 0;
}

static struct fw_served_source source_of(struct host *h, struct fw_config_ref *ref)
{
    return (struct fw_served_source){h->io, ref, h->broker != NULL, go_on, h};
}

/* A build without it says so; the messages do not wait for it. */
static bool open_http(struct host *h)
{
    fila_error error = FILA_ERROR_INIT;
    const struct fw_http_options options = {
        .listen = h->config->config->http_listen, .source = &h->source};
    if (!options.listen[0]) {
        return true;
    }
    switch (fw_http_start(&options, &h->http, &error)) {
    case FILA_OK:
        return true;
    case FILA_UNSUPPORTED:
        FW_LOG(FW_EVENT_HTTP_OFF, error.text, fw_str("listen", options.listen));
        return true;
    default:
        FW_LOG(FW_EVENT_CONFIG_INVALID, error.text, fw_str("key", "http.listen"));
        return false;
    }
}

static bool serve(struct host *h)
{
    const struct fw_config *config = h->config->config;
    struct fw_served_source source = source_of(h, h->config);
    for (size_t i = config->queue_count; i-- > 0;) {
        struct fw_served *served = fw_served_load(&source, &config->queues[i], NULL);
        if (!served) {
            return false;
        }
        served->next = h->served;
        h->served = served;
    }
    for (struct fw_served *s = h->served; s; s = s->next) {
        s->state = FW_SERVED_ACTIVE;
        fw_io_add(h->io, s->queue);
    }
    FW_LOG(
        FW_EVENT_WORKER_READY, "handlers are ready, streams are asked for",
        fw_int("queues", (int64_t)config->queue_count), fw_str("broker", fw_io_url(h->io)),
        fw_int("start_ms", (fila_now() - h->started_at) / FILA_MS));
    h->ready = true;
    fw_orders_start(&h->orders, config, &h->source, h->io, ring_host, h);
    atomic_store(&h->published.start_took, fila_now() - h->started_at);
    return true;
}

/* ---- Stop ---- */

static void drain(struct host *h, const char *why)
{
    int64_t timeout = h->config->config->drain_timeout;
    int64_t now = fila_now();
    if (!h->draining) {
        FW_LOG(
            FW_EVENT_DRAIN_START, "stopping", fw_str("why", why),
            fw_int("drain_timeout_ms", timeout / FILA_MS));
        h->draining = true;
        h->drain_deadline = now + timeout;
    } else { /* never later than it was */
        FW_LOG(FW_EVENT_DRAIN_HURRY, "returning everything, then exiting", fw_str("why", why));
        h->drain_deadline = now + HURRY < h->drain_deadline ? now + HURRY : h->drain_deadline;
    }
    atomic_store(&h->published.drain_deadline, h->drain_deadline);
    fw_io_drain(h->io, NULL, h->drain_deadline);
    for (struct fw_served *s = h->served; s; s = s->next) {
        s->state = FW_SERVED_DRAINING;
    }
}

static void stop_with(struct host *h, int exit_status, const char *why)
{
    if (!h->exit_status) {
        h->exit_status = exit_status;
    }
    if (!h->draining) {
        drain(h, why);
    }
}

static struct fw_served *take_served(struct host *h, const struct fw_queue *queue)
{
    struct fw_served **at = &h->served;
    while (*at && (*at)->queue != queue) {
        at = &(*at)->next;
    }
    struct fw_served *found = *at;
    if (found) {
        *at = found->next;
    }
    return found;
}

/* All that a stop had to cut off have the same grace. */
static int64_t stuck_deadline(const struct host *h)
{
    int64_t now = fila_now();
    int64_t together = h->drain_deadline + STUCK_GRACE;
    if (!h->draining) {
        return now + STUCK_GRACE;
    }
    return together > now + LEAST_GRACE ? together : now + LEAST_GRACE;
}

/* What a reload had to cut off is no part of how the stop ended. */
static void retire(struct host *h, struct fw_served *served)
{
    struct fw_account before = h->account;
    fw_served_retire(served, h->io, &h->account, stuck_deadline(h));
    if (!h->draining) {
        h->account.cut_off = before.cut_off;
        h->account.stuck = before.stuck;
        h->account.not_returned = before.not_returned;
    }
}

static void retire_drained(struct host *h)
{
    (void)pthread_mutex_lock(&h->locked.lock);
    struct fw_queue *queue = h->locked.drained;
    h->locked.drained = NULL;
    (void)pthread_mutex_unlock(&h->locked.lock);
    while (queue) {
        struct fw_queue *next = *fw_queue_link(queue);
        struct fw_served *served = take_served(h, queue);
        if (served) {
            retire(h, served);
        }
        queue = next;
    }
}

static int final_status(const struct host *h)
{
    if (h->exit_status) {
        return h->exit_status;
    }
    if (!h->account.cut_off && !h->account.stuck) {
        return FW_EXIT_OK;
    }
    return h->account.not_returned ? FW_EXIT_LATE_LEFT : FW_EXIT_LATE;
}

/* The account, in one line: also where Kubernetes shows why a container ended. */
static void last_words(const struct host *h, int status)
{
    const struct fw_account *a = &h->account;
    char line[512];
    int n = snprintf(
        line, sizeof line, "fila-worker ended with %d: received=%" PRIu64, status, a->received);
    for (int i = 0; i < FW_OUTCOME_COUNT && n > 0 && (size_t)n < sizeof line; i++) {
        n += snprintf(
            line + n, sizeof line - (size_t)n, " %s=%" PRIu64, fw_outcome_name((enum fw_outcome)i),
            a->finished[i]);
    }
    fw_log_flush(); /* what was folded comes before the last line */
    FW_LOG(
        FW_EVENT_WORKER_STOP, line, fw_int("exit_status", status),
        fw_int("received", (int64_t)a->received), fw_int("acked", (int64_t)a->finished[FW_ACKED]),
        fw_int("retried", (int64_t)a->finished[FW_RETRIED]),
        fw_int("dead_lettered", (int64_t)a->finished[FW_DEAD_LETTERED]),
        fw_int("dropped", (int64_t)a->finished[FW_DROPPED]),
        fw_int("returned", (int64_t)a->finished[FW_RETURNED]),
        fw_int("left", (int64_t)a->finished[FW_LEFT]),
        fw_int("lease_lost", (int64_t)a->finished[FW_LEASE_LOST]),
        fw_int("duplicate", (int64_t)a->finished[FW_DUPLICATE]));
    int fd = open("/dev/termination-log", O_WRONLY | O_CLOEXEC);
    if (fd >= 0) {
        ssize_t written = write(fd, line, strlen(line));
        (void)written;
        (void)close(fd);
    }
}

/* ---- Reload ---- */

static void reload_refused(struct host *h, const char *why)
{
    atomic_fetch_add(&h->published.reloads_refused, 1);
    fw_orders_reloaded(&h->orders, why);
    FW_LOG(FW_EVENT_RELOAD_REFUSED, "the old config stays in force", fw_str("error", why));
}

static bool same_brokers(const struct fw_config *a, const struct fw_config *b)
{
    bool same = a->broker_count == b->broker_count && strcmp(a->api_key, b->api_key) == 0 &&
                strcmp(a->tls_ca, b->tls_ca) == 0 && strcmp(a->tls_cert, b->tls_cert) == 0 &&
                strcmp(a->tls_key, b->tls_key) == 0;
    for (size_t i = 0; same && i < a->broker_count; i++) {
        same = strcmp(a->brokers[i], b->brokers[i]) == 0;
    }
    return same;
}

/* What the worker was started with and cannot change while it runs; NULL = nothing of it differs.
 */
static const char *fixed_difference(const struct fw_config *a, const struct fw_config *b)
{
    if (!same_brokers(a, b)) {
        return "broker, api_key and tls cannot change while running: restart the worker";
    }
    if (strcmp(a->state_dir, b->state_dir) != 0) {
        return "state_dir cannot change while running: restart the worker";
    }
    return NULL;
}

static void use_config(struct host *h, struct fw_config_ref *ref)
{
    struct fw_reload_result result = {0};
    fila_error error = FILA_ERROR_INIT;
    int64_t deadline = fila_now() + ref->config->drain_timeout;
    struct fw_served_source source = source_of(h, ref);
    const char *fixed = fixed_difference(h->first_config->config, ref->config);
    if (fixed) {
        reload_refused(h, fixed);
    } else if (!fw_served_reload(&h->served, &source, deadline, &result, &error)) {
        reload_refused(h, h->stop_signals[0] ? "the worker is stopping" : error.text);
    } else {
        fw_log_init(ref->config->log_level, ref->config->log_format);
        fw_io_limit(h->io, ref->config->max_running);
        uint64_t hash = hash_config(ref->config);
        char hash_text[20];
        (void)snprintf(hash_text, sizeof hash_text, "%016" PRIx64, hash);
        FW_LOG(
            FW_EVENT_RELOAD_DONE, "the new config is in force", fw_str("file", ref->config->file),
            fw_str("config_hash", hash_text), fw_int("queues_kept", result.changed),
            fw_int("queues_added", result.added), fw_int("queues_restarted", result.restarted),
            fw_int("queues_removed", result.removed));
        atomic_fetch_add(&h->published.reloads_done, 1);
        fw_orders_reloaded(&h->orders, NULL);
        atomic_store(&h->published.config_hash, hash);
        fw_config_ref_release(h->config);
        h->config = ref;
        return;
    }
    fw_config_ref_release(ref);
}

static void reload(struct host *h)
{
    char why[1024];
    if (h->draining) {
        reload_refused(h, "the worker is stopping");
        return;
    }
    const struct fw_waiting waiting = {go_on, h};
    if (!fw_precheck(h->config->config->file, &h->options->overrides, &waiting, why, sizeof why)) {
        reload_refused(h, h->stop_signals[0] ? "the worker is stopping" : why);
        return;
    }
    struct fw_config_ref *ref = load_config(h);
    if (ref) {
        use_config(h, ref);
    } else {
        reload_refused(h, "see the lines before this one");
    }
}

/* ---- The loop ---- */

static void dump(struct host *h)
{
    struct fw_snapshot *s = take_snapshot(h, FW_SNAPSHOT_LISTS, DUMP_WITHIN);
    if (s) {
        fw_status_dump(s);
    } else {
        FW_LOG(
            FW_EVENT_INTERNAL, "no dump: the I/O thread does not answer", fw_int("pid", getpid()));
    }
    fw_snapshot_free(s);
}

static void on_signal(struct host *h, int number)
{
    switch (number) {
    case SIGHUP:
        reload(h);
        break;
    case SIGTSTP:
        fw_io_pause(h->io, true);
        break;
    case SIGCONT:
        fw_io_pause(h->io, false);
        break;
    case SIGUSR1:
        dump(h);
        break;
    default:
        drain(h, number == SIGTERM ? "SIGTERM" : "SIGINT");
        break;
    }
}

/* Those that came while something was loaded, in an order that loses nothing: a stop refuses the
 * reload. */
static void obey_noted(struct host *h)
{
    while (h->stop_signals[0] || h->reload_asked) {
        int number = h->stop_signals[0] ? h->stop_signals[0] : SIGHUP;
        if (h->stop_signals[0]) {
            h->stop_signals[0] = h->stop_signals[1];
            h->stop_signals[1] = 0;
        } else {
            h->reload_asked = false;
        }
        on_signal(h, number);
    }
}

static void read_signals(struct host *h)
{
    int number = 0;
    while (next_signal(h, &number)) {
        on_signal(h, number);
        obey_noted(h);
    }
}

/* What was asked for on the control socket. */
static void obey_orders(struct host *h)
{
    if (atomic_exchange(&h->orders.drain_asked, false)) {
        drain(h, "fila-worker ctl drain");
    }
    if (atomic_exchange(&h->orders.reload_asked, false)) {
        reload(h);
        obey_noted(h);
    }
}

static void read_news(struct host *h)
{
    uint64_t count = 0;
    if (read(h->event_fd, &count, sizeof count) < 0) {
        return;
    }
    atomic_store(&h->published.beat_asked, 0);
    retire_drained(h);
    obey_orders(h);
    if (atomic_load(&h->queue_missing)) {
        stop_with(h, FW_EXIT_CONFIG, "a queue does not exist");
    }
    if (atomic_load(&h->io_failed)) {
        stop_with(h, FW_EXIT_INTERNAL, "the I/O thread failed");
    }
}

/* Milliseconds until the broker must have answered, -1 = no matter. */
static int broker_patience(struct host *h)
{
    if (!h->options->require_broker || h->draining || atomic_load(&h->stream_up)) {
        return -1;
    }
    int64_t left = h->started_at + REQUIRE_BROKER_WITHIN - fila_now();
    if (left <= 0) {
        FW_LOG(
            FW_EVENT_BROKER_UNREACHABLE, "no stream opened in time (--require-broker)",
            fw_str("broker", fw_io_url(h->io)));
        stop_with(h, FW_EXIT_UNREACHABLE, "no broker");
        return -1;
    }
    return (int)(left / FILA_MS) + 1;
}

/* Milliseconds to sleep at most, -1 = until something happens. */
static int patience(struct host *h)
{
    int broker = broker_patience(h);
    int log = fw_log_wait_ms();
    return broker < 0 || (log >= 0 && log < broker) ? log : broker;
}

static void supervise(struct host *h)
{
    obey_noted(h);
    while (h->served) {
        struct pollfd fds[] = {
            {.fd = h->signal_fd, .events = POLLIN}, {.fd = h->event_fd, .events = POLLIN}};
        if (poll(fds, 2, patience(h)) < 0 && errno != EINTR) {
            stop_with(h, FW_EXIT_INTERNAL, "poll failed");
        }
        if (fds[0].revents) {
            read_signals(h);
        }
        if (fds[1].revents) {
            read_news(h);
        }
        fw_log_tick();
    }
}

static int start(struct host *h)
{
    h->config = load_config(h);
    if (!h->config) {
        return FW_EXIT_CONFIG;
    }
    FW_LOG(
        FW_EVENT_WORKER_START, "fila-worker starts", fw_str("file", h->config->config->file),
        fw_int("pid", getpid()));
    atomic_store(&h->published.config_hash, hash_config(h->config->config));
    h->source = (struct fw_status_source){take_snapshot, supervisor_beats, h};
    if (!fw_state_open(h->config->config->state_dir, &h->state) || !open_broker(h) || !open_io(h) ||
        !open_http(h)) {
        return FW_EXIT_CONFIG;
    }
    return serve(h) || h->stop_signals[0] ? FW_EXIT_OK : FW_EXIT_PLUGIN;
}

static void release(struct host *h)
{
    struct fw_account nothing = {0};
    fw_orders_stop(&h->orders);
    fw_http_stop(h->http);
    while (h->served) { /* loaded, but never handed over */
        struct fw_served *s = h->served;
        h->served = s->next;
        fw_served_retire(s, h->io, &nothing, fila_now() + STUCK_GRACE);
    }
    fw_io_stop(h->io);
    fw_state_close(&h->state);
    fila_broker_free(h->broker);
    fw_config_ref_release(h->config);
    fw_config_ref_release(h->first_config);
    (void)pthread_mutex_destroy(&h->locked.lock);
    fw_log_on_wait(NULL, NULL);
    (void)close(h->event_fd);
    (void)close(h->signal_fd);
}

int fw_host_run(const struct fw_host_options *options)
{
    struct host h = {.options = options, .started_at = fila_now(), .state = {.lock = -1}};
    (void)pthread_mutex_init(&h.locked.lock, NULL);
    fw_log_init(FW_LOG_INFO, FW_LOG_AUTO);
    h.signal_fd = open_signals();
    h.event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    fw_log_start_thread();
    fw_log_on_wait(on_log_wait, &h);
    int status = h.signal_fd < 0 || h.event_fd < 0 ? FW_EXIT_INTERNAL : start(&h);
    if (status == FW_EXIT_OK && h.ready) { /* else a signal ended the start */
        supervise(&h);
        status = final_status(&h);
    }
    release(&h);
    last_words(&h, status);
    fw_log_stop_thread();
    if (fw_served_abandoned()) { /* threads of handlers run on: nothing may be torn down under them
                                  */
        _exit(status);
    }
    return status;
}

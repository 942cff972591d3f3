/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "supervisor.h"

#include "embedded.h"
#include "http/http.h"
#include "plugin/stacks.h"
#include "status/dump.h"
#include "threads.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

/* Flow-control bytes that a stream may run ahead of its reader: small, because all of it is leased
 * (contract A5, I2). */
enum {
    STREAM_WINDOW = 16384
};

#define REQUIRE_BROKER_WITHIN (10 * FILA_S)
#define BEAT_WITHIN \
    (60 * FILA_S) /* /livez: a reload may load slow handlers, a stop waits for stuck ones */
#define DUMP_WITHIN (5 * FILA_S)

/* ---- News from the I/O thread ---- */

static void ring(struct fw_host *h)
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
    struct fw_host *h = user;
    if (!atomic_exchange(&h->stream_up, true)) {
        ring(h);
    }
}

static void on_missing(void *user, struct fw_queue *queue)
{
    struct fw_host *h = user;
    (void)queue;
    atomic_store(&h->queue_missing, true);
    ring(h);
}

static void on_failed(void *user, const fila_error *why)
{
    struct fw_host *h = user;
    FW_LOG(FW_EVENT_INTERNAL, "the I/O thread cannot go on", fw_str("error", why->text));
    atomic_store(&h->io_failed, true);
    ring(h);
}

static void on_drained(void *user, struct fw_queue *queue)
{
    struct fw_host *h = user;
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
    struct fw_host *h = user;
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
    struct fw_host *h = user;
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

/* ---- Start ---- */

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

static bool open_broker(struct fw_host *h)
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

static bool open_io(struct fw_host *h)
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

static void note_signal(struct fw_host *h, int number)
{
    switch (number) {
    case SIGUSR1: /* where a handler's init hangs, say */
        fw_threads_dump(1 + atomic_fetch_add(&h->dumps, 1));
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

static bool next_signal(const struct fw_host *h, int *ret_number)
{
    struct signalfd_siginfo info;
    if (read(h->signal_fd, &info, sizeof info) != (ssize_t)sizeof info) {
        return false;
    }
    *ret_number = (int)info.ssi_signo;
    return true;
}

/* What it notes is done as soon as the loading has ended. */
bool fw_host_go_on(void *user)
{
    struct fw_host *h = user;
    int number = 0;
    while (next_signal(h, &number)) {
        note_signal(h, number);
    }
    fw_log_tick();
    atomic_store(&h->published.beat_asked, 0);
    return h->stop_signals[0] == 0;
}

struct fw_served_source fw_host_source(struct fw_host *h, struct fw_config_ref *ref)
{
    return (struct fw_served_source){h->io, ref, h->broker != NULL, fw_host_go_on, h};
}

/* A build without it says so; the messages do not wait for it. */
static bool open_http(struct fw_host *h)
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

/* The threads first: they say why, when the I/O thread does not answer. Any thread. */
static bool dump(void *user)
{
    struct fw_host *h = user;
    int64_t number = 1 + atomic_fetch_add(&h->dumps, 1);
    fw_threads_dump(number);
    struct fw_snapshot *s = take_snapshot(h, FW_SNAPSHOT_LISTS, DUMP_WITHIN);
    if (s) {
        fw_status_dump(s, number);
    } else {
        FW_LOG(
            FW_EVENT_INTERNAL, "what is held is not in the dump: the I/O thread does not answer",
            fw_int("pid", getpid()));
    }
    fw_snapshot_free(s);
    return s != NULL;
}

static bool serve(struct fw_host *h)
{
    const struct fw_config *config = h->config->config;
    struct fw_served_source source = fw_host_source(h, h->config);
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
    const struct fw_orders_host orders = {ring_host, dump, h};
    fw_orders_start(&h->orders, config, &h->source, h->io, &orders);
    atomic_store(&h->published.start_took, fila_now() - h->started_at);
    return true;
}

/* ---- The loop ---- */

static void on_signal(struct fw_host *h, int number)
{
    switch (number) {
    case SIGHUP:
        fw_host_reload(h);
        break;
    case SIGTSTP:
        fw_io_pause(h->io, true);
        break;
    case SIGCONT:
        fw_io_pause(h->io, false);
        break;
    case SIGUSR1:
        (void)dump(h);
        break;
    default:
        fw_host_drain(h, number == SIGTERM ? "SIGTERM" : "SIGINT");
        break;
    }
}

/* Those that came while something was loaded, in an order that loses nothing: a stop refuses the
 * reload. */
static void obey_noted(struct fw_host *h)
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

static void read_signals(struct fw_host *h)
{
    int number = 0;
    while (next_signal(h, &number)) {
        on_signal(h, number);
        obey_noted(h);
    }
}

/* What was asked for on the control socket. */
static void obey_orders(struct fw_host *h)
{
    if (atomic_exchange(&h->orders.drain_asked, false)) {
        fw_host_drain(h, "fila-worker ctl drain");
    }
    if (atomic_exchange(&h->orders.reload_asked, false)) {
        fw_host_reload(h);
        obey_noted(h);
    }
}

static void read_news(struct fw_host *h)
{
    uint64_t count = 0;
    if (read(h->event_fd, &count, sizeof count) < 0) {
        return;
    }
    atomic_store(&h->published.beat_asked, 0);
    fw_host_retire_drained(h);
    obey_orders(h);
    if (atomic_load(&h->queue_missing)) {
        fw_host_stop_with(h, FW_EXIT_CONFIG, "a queue does not exist");
    }
    if (atomic_load(&h->io_failed)) {
        fw_host_stop_with(h, FW_EXIT_INTERNAL, "the I/O thread failed");
    }
}

/* Milliseconds until the broker must have answered, -1 = no matter. */
static int broker_patience(struct fw_host *h)
{
    if (!h->options->require_broker || h->draining || atomic_load(&h->stream_up)) {
        return -1;
    }
    int64_t left = h->started_at + REQUIRE_BROKER_WITHIN - fila_now();
    if (left <= 0) {
        FW_LOG(
            FW_EVENT_BROKER_UNREACHABLE, "no stream opened in time (--require-broker)",
            fw_str("broker", fw_io_url(h->io)));
        fw_host_stop_with(h, FW_EXIT_UNREACHABLE, "no broker");
        return -1;
    }
    return (int)(left / FILA_MS) + 1;
}

/* Milliseconds to sleep at most, -1 = until something happens. */
static int patience(struct fw_host *h)
{
    int broker = broker_patience(h);
    int log = fw_log_wait_ms();
    return broker < 0 || (log >= 0 && log < broker) ? log : broker;
}

static void supervise(struct fw_host *h)
{
    obey_noted(h);
    while (h->served) {
        struct pollfd fds[] = {
            {.fd = h->signal_fd, .events = POLLIN}, {.fd = h->event_fd, .events = POLLIN}};
        if (poll(fds, 2, patience(h)) < 0 && errno != EINTR) {
            fw_host_stop_with(h, FW_EXIT_INTERNAL, "poll failed");
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

static int start(struct fw_host *h)
{
    h->config = fw_host_load_config(h);
    if (!h->config) {
        return FW_EXIT_CONFIG;
    }
    FW_LOG(
        FW_EVENT_WORKER_START, "fila-worker starts", fw_str("file", h->config->config->file),
        fw_int("pid", getpid()));
    atomic_store(&h->published.config_hash, fw_host_hash_config(h->config->config));
    h->source = (struct fw_status_source){take_snapshot, supervisor_beats, h};
    if (!fw_state_open(h->config->config->state_dir, &h->state) || !open_broker(h) || !open_io(h) ||
        !open_http(h)) {
        return FW_EXIT_CONFIG;
    }
    return serve(h) || h->stop_signals[0] ? FW_EXIT_OK : FW_EXIT_PLUGIN;
}

static void release(struct fw_host *h)
{
    struct fw_account nothing = {0};
    fw_orders_stop(&h->orders);
    fw_http_stop(h->http);
    while (h->served) { /* loaded, but never handed over */
        struct fw_served *s = h->served;
        h->served = s->next;
        fw_served_retire(s, h->io, &nothing, fila_now() + FW_HOST_STUCK_GRACE);
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
    struct fw_host h = {.options = options, .started_at = fila_now(), .state = {.lock = -1}};
    (void)pthread_mutex_init(&h.locked.lock, NULL);
    fw_log_init(FW_LOG_INFO, FW_LOG_AUTO);
    fw_stacks_install();
    h.signal_fd = open_signals();
    h.event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    fw_log_start_thread();
    fw_log_on_wait(on_log_wait, &h);
    int status = h.signal_fd < 0 || h.event_fd < 0 ? FW_EXIT_INTERNAL : start(&h);
    if (status == FW_EXIT_OK && h.ready) { /* else a signal ended the start */
        supervise(&h);
        status = fw_host_final_status(&h);
    }
    release(&h);
    fw_host_last_words(&h, status);
    fw_log_stop_thread();
    if (fw_served_abandoned()) { /* threads of handlers run on: nothing may be torn down under them
                                  */
        _exit(status);
    }
    return status;
}

/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "base/error.h"
#include "precheck.h"
#include "supervisor.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* FNV-1a over the config as understood, with its secrets masked. */
uint64_t fw_host_hash_config(const struct fw_config *config)
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

/* ---- The file ---- */

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
static const char *config_path(const struct fw_host *h)
{
    return h->config ? h->config->config->file : fw_config_find(h->options->config_path);
}

/* A first load may wait for a file that hangs, and nobody reads signals yet: a stop ends the
 * process.
 */
static bool read_config(
    const struct fw_host *h,
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

struct fw_config_ref *fw_host_load_config(const struct fw_host *h)
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

/* ---- Reload ---- */

static void reload_refused(struct fw_host *h, const char *why)
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

static void use_config(struct fw_host *h, struct fw_config_ref *ref)
{
    struct fw_reload_result result = {0};
    fila_error error = FILA_ERROR_INIT;
    int64_t deadline = fila_now() + ref->config->drain_timeout;
    struct fw_served_source source = fw_host_source(h, ref);
    const char *fixed = fixed_difference(h->first_config->config, ref->config);
    if (fixed) {
        reload_refused(h, fixed);
    } else if (!fw_served_reload(&h->served, &source, deadline, &result, &error)) {
        reload_refused(h, h->stop_signals[0] ? "the worker is stopping" : error.text);
    } else {
        fw_log_init(ref->config->log_level, ref->config->log_format);
        fw_io_limit(h->io, ref->config->max_running);
        uint64_t hash = fw_host_hash_config(ref->config);
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

void fw_host_reload(struct fw_host *h)
{
    char why[1024];
    if (h->draining) {
        reload_refused(h, "the worker is stopping");
        return;
    }
    const struct fw_waiting waiting = {fw_host_go_on, h};
    if (!fw_precheck(h->config->config->file, &h->options->overrides, &waiting, why, sizeof why)) {
        reload_refused(h, h->stop_signals[0] ? "the worker is stopping" : why);
        return;
    }
    struct fw_config_ref *ref = fw_host_load_config(h);
    if (ref) {
        use_config(h, ref);
    } else {
        reload_refused(h, "see the lines before this one");
    }
}

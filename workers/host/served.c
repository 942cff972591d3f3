/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "served.h"

#include "base/clock.h"
#include "base/error.h"
#include "crash.h"
#include "plugin/loader.h"

#include <stdlib.h>

struct fw_config_ref *fw_config_ref_new(struct fw_config *config)
{
    struct fw_config_ref *ref = malloc(sizeof *ref);
    if (!ref) {
        fw_config_free(config);
        return NULL;
    }
    ref->config = config;
    ref->users = 1;
    return ref;
}

void fw_config_ref_release(struct fw_config_ref *ref)
{
    if (ref && --ref->users == 0) {
        fw_config_free(ref->config);
        free(ref);
    }
}

/* ---- One queue ---- */

static void refused(
    const struct fw_queue_config *config,
    const char *key,
    unsigned line,
    const char *why)
{
    FW_LOG(
        FW_EVENT_PLUGIN_REFUSED, "the handler cannot be used", fw_str("queue", config->queue),
        fw_str("handler", config->handler_plugin), fw_str("file", config->file),
        fw_int("line", line ? line : config->line), fw_str("key", key), fw_str("error", why));
}

static void unload(struct fw_served *served)
{
    fw_plugin_free(served->plugin);
    fw_plugin_close(served->file);
    fw_config_ref_release(served->ref);
    free(served);
}

static struct fw_served *abandoned;

/* A thread of its handler is still at it, and may use plugin, config and queue as long as the
 * process lives: they are kept, and found by whoever looks for leaks. */
static void abandon(struct fw_served *served)
{
    served->next = abandoned;
    abandoned = served;
}

bool fw_served_abandoned(void)
{
    return abandoned != NULL;
}

static fila_status bind(struct fw_served *served, fila_error *error)
{
    const struct fw_config *all = served->ref->config;
    const struct fw_queue_config *config = served->config;
    struct fw_plugin_problems problems = {0};
    struct fw_plugin_binding binding = {
        .options = config->handler_options,
        .option_count = config->handler_option_count,
        .secret_variables = all->secret_variables,
        .secret_variable_count = all->secret_variable_count,
    };
    fila_status status = fw_plugin_bind(served->file, &binding, &served->plugin, &problems);
    for (size_t i = 0; i < problems.count; i++) {
        const struct fw_diagnostic *d = &problems.items[i];
        refused(config, d->key, d->line, d->text);
    }
    if (status != FILA_OK) {
        (void)fila_fail(
            error, status, "its options are wrong: %s%s%s",
            problems.count ? problems.items[0].key : "", problems.count ? ": " : "",
            problems.count ? problems.items[0].text : fila_status_name(status));
    }
    fw_plugin_problems_free(&problems);
    return status;
}

static void on_problem(void *user, const struct fw_diagnostic *problem)
{
    refused(user, problem->key, problem->line, problem->text);
}

/* Threads run the plugin here; children load it by themselves, and this process never does. */
static fila_status load(
    struct fw_served *served,
    const struct fw_served_source *source,
    fila_error *error)
{
    struct fw_queue_config config = *served->config;
    const struct fw_config *all = served->ref->config;
    fila_status status = FILA_OK;
    if (served->config->isolation == FW_ISOLATION_THREADS) {
        status = fw_plugin_open(served->config->handler_plugin, &served->file, error);
        if (status == FILA_OK) {
            status = bind(served, error);
        }
    }
    if (status == FILA_OK) {
        struct fw_queue_options options = {
            .config = served->config,
            .broker = fw_io_url(source->io),
            .plugin = served->plugin,
            .secret_variables = all->secret_variables,
            .secret_variable_count = all->secret_variable_count,
            .problem = on_problem,
            .problem_user = &config,
            .done = fw_io_done_list(source->io),
            .journal = fw_io_journal(source->io),
            .create = source->own_broker,
            .go_on = source->go_on,
            .user = source->user,
        };
        status = fw_queue_new(&options, &served->queue, error);
    }
    return status;
}

struct fw_served *fw_served_load(
    const struct fw_served_source *source,
    const struct fw_queue_config *config,
    fila_error *reterr)
{
    fila_error error = FILA_ERROR_INIT;
    struct fw_served *served = calloc(1, sizeof *served);
    if (!served) {
        refused(config, "", 0, "no memory");
        (void)fila_fail(reterr, FILA_NO_MEMORY, "no memory");
        return NULL;
    }
    served->config = config;
    served->ref = source->ref;
    source->ref->users++;
    fila_status status = load(served, source, &error);
    if (status != FILA_OK) {
        (void)fila_fail(reterr, status, "queue \"%s\": %s", config->queue, error.text);
    }
    if (status == FILA_TIMEOUT || status == FILA_CANCELLED) {
        refused(config, "handler", 0, error.text);
        abandon(served);
        return NULL;
    }
    if (status != FILA_OK) {
        refused(config, "handler", 0, error.text);
        unload(served);
        return NULL;
    }
    FW_LOG(
        FW_EVENT_PLUGIN_LOADED, "the handler is ready", fw_str("queue", config->queue),
        fw_str("handler", config->handler_plugin), fw_int("concurrency", config->concurrency));
    return served;
}

static void account_for(struct fw_account *account, const struct fw_queue *queue)
{
    struct fw_delivery_stats stats = fw_queue_stats(queue);
    account->received += stats.received;
    for (int i = 0; i < FW_OUTCOME_COUNT; i++) {
        account->finished[i] += stats.finished[i];
    }
    account->not_returned += fw_queue_not_returned(queue);
    account->cut_off = account->cut_off || fw_queue_cut_off(queue);
}

void fw_served_retire(
    struct fw_served *served,
    struct fw_io *io,
    struct fw_account *account,
    int64_t deadline)
{
    if (served->state != FW_SERVED_NEW) {
        account_for(account, served->queue);
    }
    if (!fw_queue_stop(served->queue, deadline)) {
        account->stuck = true;
        FW_LOG(
            FW_EVENT_HANDLER_STUCK, "a handler did not return: its thread is abandoned",
            fw_str("queue", served->config->queue),
            fw_str("handler", served->config->handler_plugin));
        abandon(served);
        return;
    }
    fw_io_sync(io); /* the last results may still be on the done list */
    fw_queue_free(served->queue);
    unload(served);
}

/* ---- Reload ---- */

static bool same_option(const struct fw_handler_option *a, const struct fw_handler_option *b)
{
    bool same = a->is_list == b->is_list && a->count == b->count && strcmp(a->name, b->name) == 0;
    for (size_t i = 0; same && i < a->count; i++) {
        same = strcmp(a->values[i], b->values[i]) == 0;
    }
    return same;
}

/* Whether a running queue can go on under the new settings without a new executor or other streams.
 */
static bool same_handler(const struct fw_queue_config *a, const struct fw_queue_config *b)
{
    bool same = strcmp(a->queue, b->queue) == 0 &&
                strcmp(a->handler_plugin, b->handler_plugin) == 0 &&
                a->handler_option_count == b->handler_option_count &&
                a->isolation == b->isolation && a->concurrency == b->concurrency &&
                a->recycle_messages == b->recycle_messages && a->recycle_rss == b->recycle_rss &&
                a->streams == b->streams;
    for (size_t i = 0; same && i < a->handler_option_count; i++) {
        same = same_option(&a->handler_options[i], &b->handler_options[i]);
    }
    return same;
}

/* One that has given up its handler is started anew. */
static bool is_stopped(const struct fw_served *served)
{
    struct fw_executor_state state;
    fw_queue_executor_state(served->queue, &state);
    return state.stopped;
}

static struct fw_served *find_same(struct fw_served *list, const struct fw_queue_config *config)
{
    for (struct fw_served *s = list; s; s = s->next) {
        if (s->state == FW_SERVED_ACTIVE && same_handler(s->config, config) &&
            !(s->file && fw_plugin_replaced(s->file)) && !is_stopped(s)) {
            return s;
        }
    }
    return NULL;
}

/* What a reload will do, before it does anything: new[i] is the freshly loaded queue, or kept[i]
 * the running one. */
struct plan {
    struct fw_served **fresh;
    struct fw_served **kept;
    size_t count;
};

static void plan_fini(struct plan *plan)
{
    free(plan->fresh);
    free(plan->kept);
}

static bool planned(const struct plan *plan, const struct fw_served *served)
{
    for (size_t i = 0; i < plan->count; i++) {
        if (plan->kept[i] == served) {
            return true;
        }
    }
    return false;
}

static bool prepare(
    struct plan *plan,
    struct fw_served *list,
    const struct fw_served_source *source,
    fila_error *reterr)
{
    const struct fw_config *all = source->ref->config;
    for (plan->count = 0; plan->count < all->queue_count; plan->count++) {
        const struct fw_queue_config *config = &all->queues[plan->count];
        struct fw_served *same = find_same(list, config);
        if (same && !planned(plan, same)) {
            plan->kept[plan->count] = same;
            continue;
        }
        plan->fresh[plan->count] = fw_served_load(source, config, reterr);
        if (!plan->fresh[plan->count]) {
            return false;
        }
    }
    return true;
}

static void undo(const struct plan *plan, struct fw_io *io)
{
    struct fw_account nothing = {0};
    for (size_t i = 0; i < plan->count; i++) {
        if (plan->fresh[i]) {
            fw_served_retire(plan->fresh[i], io, &nothing, fila_now() + FILA_S);
        }
    }
}

static bool named_again(const struct fw_config *config, const char *queue)
{
    for (size_t i = 0; i < config->queue_count; i++) {
        if (strcmp(config->queues[i].queue, queue) == 0) {
            return true;
        }
    }
    return false;
}

static void keep(
    struct fw_served *served,
    struct fw_io *io,
    struct fw_config_ref *ref,
    size_t index)
{
    served->config = &ref->config->queues[index];
    ref->users++;
    fw_queue_refresh(served->queue);
    fw_io_reconfigure(io, served->queue, served->config);
    fw_io_sync(io); /* from here on nothing reads the old config through this queue */
    fw_config_ref_release(served->ref);
    served->ref = ref;
}

static void commit(
    const struct plan *plan,
    struct fw_served **list,
    struct fw_io *io,
    struct fw_config_ref *ref,
    int64_t deadline,
    struct fw_reload_result *ret_result)
{
    struct fw_reload_result result = {0};
    for (struct fw_served *s = *list; s; s = s->next) {
        if (s->state == FW_SERVED_ACTIVE && !planned(plan, s)) {
            bool again = named_again(ref->config, s->config->queue);
            result.restarted += again;
            result.removed += !again;
            s->state = FW_SERVED_DRAINING;
            fw_io_drain(io, s->queue, deadline);
        }
    }
    FW_CRASH(AMID_RELOAD);
    for (size_t i = 0; i < plan->count; i++) {
        if (plan->kept[i]) {
            result.changed++;
            keep(plan->kept[i], io, ref, i);
        } else {
            plan->fresh[i]->state = FW_SERVED_ACTIVE;
            plan->fresh[i]->next = *list;
            *list = plan->fresh[i];
            result.added++;
            fw_io_add(io, plan->fresh[i]->queue);
        }
    }
    result.added -= result.restarted < result.added ? result.restarted : result.added;
    *ret_result = result;
}

bool fw_served_reload(
    struct fw_served **list,
    const struct fw_served_source *source,
    int64_t deadline,
    struct fw_reload_result *ret_result,
    fila_error *reterr)
{
    size_t count = source->ref->config->queue_count;
    struct plan plan = {
        .fresh = calloc(count + 1, sizeof(struct fw_served *)),
        .kept = calloc(count + 1, sizeof(struct fw_served *)),
    };
    bool ok = plan.fresh && plan.kept;
    if (!ok) {
        (void)fila_fail(reterr, FILA_NO_MEMORY, "no memory");
    }
    ok = ok && prepare(&plan, *list, source, reterr);
    if (ok) {
        FW_CRASH(BEFORE_RELOAD);
        commit(&plan, list, source->io, source->ref, deadline, ret_result);
    } else if (plan.fresh) {
        undo(&plan, source->io);
    }
    plan_fini(&plan);
    return ok;
}

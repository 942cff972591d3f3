/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "plugin/instance.h"

#include "base/clock.h"
#include "base/error.h"
#include "log/log.h"
#include "plugin/counters.h"
#include "plugin/lastwords.h"

#include <string.h>

static const struct fw_instance *instance_of(const fila_services *services)
{
    return services->host;
}

static const fila_option_value *service_option(const fila_services *services, const char *name)
{
    const struct fw_plugin *plugin = instance_of(services)->plugin;
    for (uint32_t i = 0; i < plugin->table.option_count; i++) {
        if (!strcmp(plugin->table.options[i].name, name)) {
            return &plugin->values[i];
        }
    }
    return NULL;
}

static enum fw_log_level log_level(int level)
{
    switch (level) {
    case FILA_LOG_DEBUG:
        return FW_LOG_DEBUG;
    case FILA_LOG_WARN:
        return FW_LOG_WARN;
    case FILA_LOG_ERROR:
        return FW_LOG_ERROR;
    default:
        return FW_LOG_INFO;
    }
}

static void service_log(
    const fila_services *services,
    const fila_delivery *delivery,
    int level,
    const char *text)
{
    static const enum fw_event EVENTS[] = {
        [FW_LOG_DEBUG] = FW_EVENT_HANDLER_DEBUG,
        [FW_LOG_INFO] = FW_EVENT_HANDLER_LOG,
        [FW_LOG_WARN] = FW_EVENT_HANDLER_WARN,
        [FW_LOG_ERROR] = FW_EVENT_HANDLER_ERROR,
    };
    const struct fw_instance *instance = instance_of(services);
    enum fw_log_level at = log_level(level);
    struct fw_field fields[4];
    size_t count = 0;

    if (!fw_log_enabled(at)) {
        return;
    }
    if (instance->queue) {
        fields[count++] = fw_str("queue", instance->queue);
    }
    fields[count++] = fw_str("handler", instance->plugin->table.name);
    if (delivery) {
        fields[count++] = fw_text("message_id", (fila_view){delivery->id, delivery->id_len});
        fields[count++] = fw_int("attempt", delivery->attempt);
    }
    fw_log(EVENTS[at], fields, count, "%s", text ? text : "");
}

static void service_reason(
    const fila_services *services,
    const fila_delivery *delivery,
    const char *text)
{
    struct fw_instance *instance = services->host;
    (void)delivery;
    (void)strncpy(instance->reason, text ? text : "", sizeof instance->reason - 1);
}

static int service_counter(const fila_services *services, const char *name, uint64_t delta)
{
    return fw_counters_add(instance_of(services)->plugin->counters, name, delta) ? 0 : -1;
}

static const char *const *service_environment(const fila_services *services)
{
    return instance_of(services)->plugin->environment;
}

void fw_instance_prepare(
    struct fw_instance *instance,
    const struct fw_plugin *plugin,
    const char *queue)
{
    *instance = (struct fw_instance){.plugin = plugin, .queue = queue};
    instance->services = (fila_services){
        .size = sizeof(fila_services),
        .abi_minor = FILA_PLUGIN_ABI_MINOR,
        .host = instance,
        .option = service_option,
        .log = service_log,
        .reason = service_reason,
        .environment = service_environment,
        .counter = service_counter,
    };
}

static const char *plugin_name(const struct fw_plugin *plugin)
{
    return plugin->path && *plugin->path ? plugin->path : plugin->table.name;
}

fila_status fw_instance_open(struct fw_instance *instance, fila_error *reterr)
{
    const fila_plugin *table = &instance->plugin->table;
    const struct fw_doing doing = {
        .what = "init",
        .plugin = plugin_name(instance->plugin),
        .queue = instance->queue,
        .since = fila_now()};
    fw_last_words_doing(&doing);
    bool failed = table->init && table->init(&instance->services, &instance->self) != 0;
    fw_last_words_doing(NULL);
    if (!failed) {
        return FILA_OK;
    }
    return fila_fail(
        reterr, FILA_INVALID_ARGUMENT, "handler %s: %s", table->name,
        instance->reason[0] ? instance->reason : "its init failed and gave no reason");
}

void fw_instance_close(struct fw_instance *instance)
{
    const struct fw_doing doing = {
        .what = "close",
        .plugin = plugin_name(instance->plugin),
        .queue = instance->queue,
        .since = fila_now()};
    fw_last_words_doing(&doing);
    if (instance->plugin->table.close) {
        instance->plugin->table.close(instance->self);
    }
    fw_last_words_doing(NULL);
    instance->self = NULL;
}

/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "leak.h"
#include "plugin/instance.h"
#include "state.h"

#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

#define CYCLES 100u

/* Once: a probe may take its time. */
static void ask_probe(struct fw_verify_page *page, const struct fw_instance *instance)
{
    sigset_t mask;
    if (!instance->plugin->table.probe) {
        return;
    }
    (void)pthread_sigmask(SIG_BLOCK, NULL, &mask);
    fw_verify_stage(page, "probe");
    int answer = instance->plugin->table.probe(instance->self, &instance->services);
    if (getpid() != page->pid) {
        fw_verify_note(page, FW_VERIFY_FORKED, "probe returns in a process that it has made");
        _exit(0);
    }
    fw_verify_thread_compare(page, &mask, "probe");
    if (answer != 0 && answer != 1) {
        fw_verify_note(page, FW_VERIFY_PROBE, "it returns %d", answer);
    }
}

/* False: init failed. */
static bool cycle(struct fw_verify_page *page, const struct fw_plugin *plugin, unsigned nth)
{
    struct fw_instance instance;
    fila_error error = FILA_ERROR_INIT;
    fw_instance_prepare(&instance, plugin, "verify");
    fw_verify_stage(page, "init, time %u", nth);
    if (fw_instance_open(&instance, &error)) {
        fw_verify_note(page, FW_VERIFY_INIT_FAILS, "time %u: %s", nth, error.text);
        page->stop = true;
        return false;
    }
    if (nth == 1) {
        ask_probe(page, &instance);
    }
    fw_verify_stage(page, "close, time %u", nth);
    fw_instance_close(&instance);
    return true;
}

void fw_verify_life(struct fw_verify_page *page, const struct fw_verify_options *options)
{
    struct fw_verify_state before;
    struct fw_verify_leak leak = {.name = "init and close"};
    struct fw_plugin *plugin = fw_verify_open(page, options);
    if (!plugin) {
        return;
    }
    if (!cycle(page, plugin, 1)) { /* what a library does once is not counted */
        fw_plugin_free(plugin);
        return;
    }
    fw_verify_state_take(&before);
    fw_verify_leak_begin(&leak);
    for (unsigned i = 0; i < CYCLES && cycle(page, plugin, i + 2); i++) {
        fw_verify_leak_step(&leak);
    }
    fw_verify_leak_end(&leak, page);
    fw_verify_stage(page, "after the last close");
    fw_verify_state_compare(page, &before, "init and close");
    (void)snprintf(page->note, sizeof page->note, "%u times init and close", CYCLES + 1);
    fw_plugin_free(plugin);
}

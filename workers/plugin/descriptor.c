/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "plugin/elf.h"

#include <assert.h>
#include <stdio.h>

/* The head is the start of fila_plugin. */
static_assert(offsetof(fila_plugin, options) == sizeof(struct fw_descriptor_head), "ABI 1");

/* Where the structs of ABI 1.0, the oldest that there is, ended. Fields are only ever added after
 * these. */
#define PLUGIN_SIZE_MIN   (offsetof(fila_plugin, probe) + sizeof(void (*)(void)))
#define OPTION_SIZE_MIN   (offsetof(fila_option, help) + sizeof(const char *))
#define DELIVERY_SIZE_MIN (offsetof(fila_delivery, host) + sizeof(void *))
#define SERVICES_SIZE_MIN (offsetof(fila_services, environment) + sizeof(void (*)(void)))
#define OPTIONS_MAX       1000

static bool check_size(const char *field, uint32_t is, size_t least, size_t ours, char *reterr)
{
    if (is >= least && is <= ours) {
        return true;
    }
    (void)snprintf(
        reterr, FW_ELF_ERROR_SIZE, "%s: it is %u, this host's is %zu (accepted: %zu to %zu)", field,
        is, ours, least, ours);
    return false;
}

bool fw_descriptor_check(const struct fw_descriptor_head *head, char reterr[FW_ELF_ERROR_SIZE])
{
    if (head->magic != FILA_PLUGIN_MAGIC) {
        (void)snprintf(
            reterr, FW_ELF_ERROR_SIZE, "magic: it is 0x%08x, this host's is 0x%08x", head->magic,
            FILA_PLUGIN_MAGIC);
        return false;
    }
    if (head->abi_major != FILA_PLUGIN_ABI_MAJOR) {
        (void)snprintf(
            reterr, FW_ELF_ERROR_SIZE,
            "abi_major: it is %u, this host's is %u; build it with this host's fila/plugin.h",
            head->abi_major, FILA_PLUGIN_ABI_MAJOR);
        return false;
    }
    if (head->abi_minor > FILA_PLUGIN_ABI_MINOR) {
        (void)snprintf(
            reterr, FW_ELF_ERROR_SIZE,
            "abi_minor: it is %u, this host's is %u; it needs a newer fila-worker", head->abi_minor,
            FILA_PLUGIN_ABI_MINOR);
        return false;
    }
    return check_size(
               "plugin_size", head->plugin_size, PLUGIN_SIZE_MIN, sizeof(fila_plugin), reterr) &&
           check_size(
               "option_size", head->option_size, OPTION_SIZE_MIN, sizeof(fila_option), reterr) &&
           check_size(
               "delivery_size", head->delivery_size, DELIVERY_SIZE_MIN, sizeof(fila_delivery),
               reterr) &&
           check_size(
               "services_size", head->services_size, SERVICES_SIZE_MIN, sizeof(fila_services),
               reterr) &&
           check_size("option_count", head->option_count, 0, OPTIONS_MAX, reterr);
}

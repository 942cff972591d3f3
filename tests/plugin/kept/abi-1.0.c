/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * A plugin of ABI 1.0, kept as a binary (abi-1.0.x86_64.so): it must run on every later host of
 * major 1. It uses all that 1.0 has, and says in its reason what it saw.
 *
 * The binary is never made again. It was made with gcc 12.2 on Debian 12 by
 *
 *     gcc -O2 -shared -fPIC -fvisibility=hidden -s -I1.0 -Wl,--no-undefined \
 *         -o abi-1.0.x86_64.so abi-1.0.c
 *
 * where 1.0/fila/plugin.h is plugin-1.0.h beside it.
 */
#include <fila/plugin.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct kept {
    const char *word;
    long long pause;
    int environment; /* it has variables, and none of them is a secret */
};

static int kept_init(const fila_services *services, void **ret_self)
{
    struct kept *kept = calloc(1, sizeof *kept);
    const char *const *variable = services->environment(services);
    if (!kept || services->size < sizeof *services || services->option(services, "no-such")) {
        services->reason(services, NULL, "the services are not those of 1.0");
        free(kept);
        return 1;
    }
    kept->word = services->option(services, "word")->string;
    kept->pause = services->option(services, "pause")->integer;
    kept->environment = variable[0] != NULL;
    for (; *variable; variable++) {
        kept->environment &= strncmp(*variable, "FILA_API_KEY", 12) != 0;
    }
    *ret_self = kept;
    return 0;
}

static int kept_handle(void *self, const fila_delivery *d, const fila_services *services)
{
    const struct kept *kept = self;
    const char *key = NULL;
    const char *value = NULL;
    size_t key_len = 0;
    size_t value_len = 0;
    size_t cursor = 0;
    char text[512];
    if (!services->next_header(d, &cursor, &key, &key_len, &value, &value_len)) {
        services->log(services, d, FILA_LOG_INFO, "no header: completed at once");
        return services->complete(d, FILA_ACK, NULL) == 0 ? FILA_DEFER : FILA_REJECT;
    }
    (void)snprintf(
        text, sizeof text, "%s %lld %d, %.*s=%.*s, %.*s of %.*s try %u key %.*s, %d %d %d",
        kept->word, kept->pause, kept->environment, (int)key_len, key, (int)value_len, value,
        (int)d->payload_len, (const char *)d->payload, (int)d->queue_len, d->queue,
        (unsigned)d->attempt, (int)d->fairness_key_len, d->fairness_key,
        services->deadline_ms(d) > 0, services->cancelled(d), services->cancel_fd(d) >= 0);
    services->reason(services, d, text);
    services->retry_after(d, 1500);
    services->cause(d, FILA_CAUSE_CRASH);
    return FILA_RETRY;
}

static int kept_probe(void *self, const fila_services *services)
{
    return self && services->abi_minor < 1000;
}

static const fila_option OPTIONS[] = {
    {"word", FILA_OPTION_STRING, FILA_OPTION_REQUIRED, NULL, 0, 0, "A word."},
    {"pause", FILA_OPTION_DURATION, 0, "5s", 100, 60000, "A pause."},
};

FILA_PLUGIN_DEFINE({
    FILA_PLUGIN_HEAD,
    .name = "kept",
    .version = "1.0",
    .description = "Uses all that ABI 1.0 has.",
    .options = OPTIONS,
    .option_count = FILA_COUNT(OPTIONS),
    .init = kept_init,
    .handle = kept_handle,
    .close = free,
    .probe = kept_probe,
})

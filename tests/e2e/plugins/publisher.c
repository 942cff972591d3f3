/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * A plugin for the end-to-end tests of services->publish: the payload is "VERDICT QUEUE COUNT", and
 * COUNT messages "0", "1", ... are published to QUEUE. With the option `gate` it first waits for a
 * file of that name.
 */
#include <fila/plugin.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct words {
    char verdict[16];
    char queue[64];
    int count;
};

static int read_words(const fila_delivery *d, struct words *ret_words)
{
    char text[128];
    size_t len = d->payload_len < sizeof text ? d->payload_len : sizeof text - 1;
    memcpy(text, d->payload, len);
    text[len] = '\0';
    return sscanf(text, "%15s %63s %d", ret_words->verdict, ret_words->queue, &ret_words->count) ==
           3;
}

static void pass_gate(const fila_delivery *d, const fila_services *s)
{
    const struct timespec pause = {0, 5000000};
    const char *gate = s->option(s, "gate")->string;
    if (!*gate) {
        return;
    }
    s->log(s, d, FILA_LOG_INFO, "at the gate");
    while (access(gate, F_OK) != 0 && !s->cancelled(d)) {
        (void)nanosleep(&pause, NULL);
    }
}

static int handle(void *self, const fila_delivery *d, const fila_services *s)
{
    const fila_publication_header header = {FILA_TEXT("from"), d->id, d->id_len};
    struct words words;
    (void)self;
    if (!read_words(d, &words)) {
        s->reason(s, d, "not VERDICT QUEUE COUNT");
        return FILA_REJECT;
    }
    pass_gate(d, s);
    for (int i = 0; i < words.count; i++) {
        char payload[16];
        fila_publication p = FILA_PUBLICATION_INIT;
        p.queue = words.queue;
        p.queue_len = strlen(words.queue);
        p.headers = &header;
        p.header_count = 1;
        p.payload = (const uint8_t *)payload;
        p.payload_len = (size_t)snprintf(payload, sizeof payload, "%d", i);
        if (s->publish(d, &p) != FILA_PUBLISH_TAKEN) {
            s->reason(s, d, "not taken");
            return FILA_REJECT;
        }
        (void)s->counter(s, "published", 1);
    }
    s->reason(s, d, "as told");
    return !strcmp(words.verdict, "ack") ? FILA_ACK : FILA_REJECT;
}

static const fila_option OPTIONS[] = {
    {"gate", FILA_OPTION_STRING, 0, "", 0, 0, "A file to wait for."},
};

FILA_PLUGIN_DEFINE({
    FILA_PLUGIN_HEAD,
    .name = "publisher",
    .version = "1.0",
    .description = "Publishes what the payload says.",
    .options = OPTIONS,
    .option_count = FILA_COUNT(OPTIONS),
    .handle = handle,
})

/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * A plugin for the end-to-end tests that does to its process what the payload says.
 *
 *     ok          ack
 *     crash       writes to nowhere
 *     hang        does not return
 *     spin        neither, and works all the time on memory that is gone once the process ends in
 *                 order
 *     build       rejects, with the name of this build as its reason
 *     publish Q   publishes "copy" to the queue Q, and counts it
 *     eat         takes memory until it is ended for it
 *     leak        takes 8 MiB, and keeps them
 *     wait F      makes the file F, waits until it is gone, and then as "build"
 *     litter F    starts a process that stays, writes its id to F, and crashes
 *
 * Its init fails while the file named by the option `unless` exists.
 */
#include <fila/plugin.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#ifndef UNSTABLE_BUILD
#    define UNSTABLE_BUILD "one"
#endif

static volatile int *volatile nowhere;
static unsigned char *memory;

static void doze(void)
{
    const struct timespec time = {0, 1000000};
    (void)nanosleep(&time, NULL);
}

/* Long enough for whoever still works on it to see. */
__attribute__((destructor)) static void end(void)
{
    if (memory) {
        (void)munmap(memory, 4096);
        for (int i = 0; i < 100; i++) {
            doze();
        }
    }
}

static void spin(void)
{
    memory = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (volatile unsigned char *byte = memory; memory != MAP_FAILED;) {
        *byte = 1;
        doze();
    }
}

static int is(const fila_delivery *d, const char *word)
{
    size_t len = strlen(word);
    return d->payload_len >= len && !memcmp(d->payload, word, len);
}

static int publish(const fila_delivery *d, const fila_services *s)
{
    fila_publication publication = FILA_PUBLICATION_INIT;
    publication.queue = (const char *)d->payload + 8;
    publication.queue_len = d->payload_len - 8;
    publication.payload = (const uint8_t *)"copy";
    publication.payload_len = 4;
    (void)s->counter(s, "published", 1);
    return s->publish(d, &publication) == FILA_PUBLISH_TAKEN ? FILA_ACK : FILA_REJECT;
}

/* Memory that is really there. */
static void take_memory(size_t size)
{
    static char *volatile kept; /* for the leak checkers: all is reachable */
    char *volatile *next = malloc(size);
    if (next) {
        memset((void *)(uintptr_t)next, 1, size);
        *next = kept;
        kept = (char *)(uintptr_t)next;
    }
}

static void pass(void)
{
    const struct timespec pause = {0, 10000000};
    (void)nanosleep(&pause, NULL);
}

static void write_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");
    if (file) {
        (void)fputs(text, file);
        (void)fclose(file);
    }
}

static void wait_for_go(const char *path)
{
    write_file(path, "");
    while (!access(path, F_OK)) {
        pass();
    }
}

static void litter(const char *path)
{
    char text[32];
    pid_t pid = fork();
    while (pid == 0) {
        pass();
    }
    (void)snprintf(text, sizeof text, "%d\n", (int)pid);
    write_file(path, text);
    *nowhere = 1;
}

static int use_file(const fila_delivery *d, const fila_services *s)
{
    char path[512];
    size_t word = is(d, "wait ") ? 5 : 7;
    (void)snprintf(
        path, sizeof path, "%.*s", (int)(d->payload_len - word), (const char *)d->payload + word);
    if (word == 7) {
        litter(path);
    }
    wait_for_go(path);
    s->reason(s, d, "build " UNSTABLE_BUILD);
    return FILA_REJECT;
}

static int handle(void *self, const fila_delivery *d, const fila_services *s)
{
    (void)self;
    if (is(d, "crash")) {
        *nowhere = 1;
    }
    while (is(d, "hang")) {
        (void)sleep(1);
    }
    if (is(d, "spin")) {
        spin();
    }
    if (is(d, "build")) {
        s->reason(s, d, "build " UNSTABLE_BUILD);
        return FILA_REJECT;
    }
    while (is(d, "eat")) {
        take_memory(1 << 20);
    }
    if (is(d, "leak")) {
        take_memory(8 << 20);
    }
    if (is(d, "wait ") || is(d, "litter ")) {
        return use_file(d, s);
    }
    return is(d, "publish ") ? publish(d, s) : FILA_ACK;
}

static int init(const fila_services *s, void **ret_self)
{
    (void)ret_self;
#ifdef UNSTABLE_BROKEN
    s->reason(s, NULL, "this build cannot start");
    return 1;
#else
    const fila_option_value *unless = s->option(s, "unless");
    if (unless->type && !access(unless->string, F_OK)) {
        s->reason(s, NULL, "the file that forbids it is there");
        return 1;
    }
    return 0;
#endif
}

static const fila_option OPTIONS[] = {
    {"unless", FILA_OPTION_STRING, 0, NULL, 0, 0, "A file that makes init fail."},
};

FILA_PLUGIN_DEFINE({
    FILA_PLUGIN_HEAD,
    .name = "unstable",
    .version = "1.0",
    .description = "Does to its process what the payload says.",
    .options = OPTIONS,
    .option_count = FILA_COUNT(OPTIONS),
    .init = init,
    .handle = handle,
})

/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * One plugin with a defect, chosen with -DDEFECT=... (CMakeLists.txt has the list). NONE is sound.
 */
#include <fila/plugin.h>

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define NONE         0
#define NO_SYMBOL    1
#define WRONG_MAGIC  2
#define OTHER_MAJOR  3
#define NEWER_MINOR  4
#define SMALL_SIZE   5
#define BIG_SIZE     6
#define SMALL_OPTION 7
#define NO_HANDLE    8
#define NO_NAME      9
#define BAD_DEFAULT  10
#define SAME_OPTION  11
#define BAD_TYPE     12
#define NULL_OPTIONS 13
#define NOT_CONSTANT 14
#define UNDEFINED    15
#define INIT_FAILS   16
#define RUBBISH      17
#define NEVER        18
#define TWICE        19
#define LATE         20
#define SHORT_OBJECT 21
#define BIG_SERVICES 22

#if DEFECT == UNDEFINED
void fila_symbol_that_nobody_has(void);
#endif

static int init(const fila_services *services, void **ret_self)
{
    (void)ret_self;
#if DEFECT == INIT_FAILS
    services->reason(services, NULL, "no connection to the moon");
    return 1;
#elif DEFECT == UNDEFINED
    (void)services;
    fila_symbol_that_nobody_has();
    return 0;
#else
    (void)services;
    return 0;
#endif
}

#if DEFECT == LATE
struct late {
    const fila_delivery *delivery;
    const fila_services *services;
};

static void *complete_late(void *arg)
{
    struct late late = *(struct late *)arg;
    struct timespec step = {0, 5000000};
    free(arg);
    while (late.services->deadline_ms(late.delivery) > -30) {
        (void)nanosleep(&step, NULL);
    }
    if (late.services->complete(late.delivery, FILA_ACK, NULL) != -1) {
        abort();
    }
    return NULL;
}
#endif

static int handle(void *self, const fila_delivery *delivery, const fila_services *services)
{
    (void)self;
    (void)delivery;
    (void)services;
#if DEFECT == RUBBISH
    return 1234;
#elif DEFECT == NEVER
    return FILA_DEFER;
#elif DEFECT == TWICE
    if (services->complete(delivery, FILA_REJECT, "the first") ||
        services->complete(delivery, FILA_ACK, "the second") != -1) {
        abort();
    }
    return FILA_DEFER;
#elif DEFECT == LATE
    pthread_t thread;
    struct late *late = malloc(sizeof *late);
    if (!late) {
        abort();
    }
    *late = (struct late){delivery, services};
    (void)pthread_create(&thread, NULL, complete_late, late);
    (void)pthread_detach(thread);
    return FILA_DEFER;
#else
    const fila_option_value *answer = services->option(services, "answer");
    return answer && answer->type == FILA_OPTION_INT ? (int)answer->integer : FILA_ACK;
#endif
}

static const fila_option OPTIONS[] = {
#if DEFECT == BAD_DEFAULT
    {"answer", FILA_OPTION_INT, 0, "nine", 0, 3, "The verdict."},
#elif DEFECT == BAD_TYPE
    {"answer", 99, 0, "0", 0, 3, "The verdict."},
#else
    {"answer", FILA_OPTION_INT, 0, "0", 0, 3, "The verdict."},
#endif
#if DEFECT == SAME_OPTION
    {"answer", FILA_OPTION_INT, 0, "0", 0, 3, "The verdict."},
#else
    {"must", FILA_OPTION_STRING, FILA_OPTION_REQUIRED, NULL, 0, 0, "Must be there."},
#endif
    {"wait", FILA_OPTION_DURATION, 0, "5s", 100, 60000, "A duration."},
    {"room", FILA_OPTION_SIZE, 0, "64KiB", 0, 1 << 20, "A size."},
    {"share", FILA_OPTION_FLOAT, 0, "0.5", 0, 1, "A number."},
    {"flag", FILA_OPTION_BOOL, 0, "false", 0, 0, "Yes or no."},
    {"words", FILA_OPTION_STRINGS, 0, NULL, 0, 0, "Some words."},
    {"secret", FILA_OPTION_STRING, FILA_OPTION_SECRET, NULL, 0, 0, "Not shown."},
};

#if DEFECT == NO_SYMBOL
FILA_PLUGIN_EXPORT const fila_option *const some_other_symbol = OPTIONS;
FILA_PLUGIN_EXPORT int (*const some_init)(const fila_services *, void **) = init;
FILA_PLUGIN_EXPORT int (*const some_handle)(void *, const fila_delivery *, const fila_services *) =
    handle;
#elif DEFECT == SHORT_OBJECT
struct short_object {
    uint32_t magic;
};
extern const struct short_object short_object __asm__(FILA_PLUGIN_SYMBOL);
FILA_PLUGIN_EXPORT const struct short_object short_object = {FILA_PLUGIN_MAGIC};
FILA_PLUGIN_EXPORT const fila_option *const some_other_symbol = OPTIONS;
FILA_PLUGIN_EXPORT int (*const some_init)(const fila_services *, void **) = init;
FILA_PLUGIN_EXPORT int (*const some_handle)(void *, const fila_delivery *, const fila_services *) =
    handle;
#elif DEFECT == NOT_CONSTANT
extern fila_plugin not_constant __asm__(FILA_PLUGIN_SYMBOL);
FILA_PLUGIN_EXPORT fila_plugin not_constant; /* filled when it is loaded: too late */

__attribute__((constructor)) static void fill(void)
{
    fila_plugin *volatile at = &not_constant; /* or clang would make a constant of it */
    *at = (fila_plugin){FILA_PLUGIN_HEAD, .name = "defect", .handle = handle};
    at->init = init;
    at->options = OPTIONS;
}
#else
FILA_PLUGIN_DEFINE({
    .magic = FILA_PLUGIN_MAGIC + (DEFECT == WRONG_MAGIC),
    .abi_major = FILA_PLUGIN_ABI_MAJOR + (DEFECT == OTHER_MAJOR),
    .abi_minor = FILA_PLUGIN_ABI_MINOR + (DEFECT == NEWER_MINOR),
    .plugin_size = sizeof(fila_plugin) - 8u * (DEFECT == SMALL_SIZE) + 8u * (DEFECT == BIG_SIZE),
    .option_size = sizeof(fila_option) - 8u * (DEFECT == SMALL_OPTION),
    .delivery_size = sizeof(fila_delivery),
    .services_size = sizeof(fila_services) + 8u * (DEFECT == BIG_SERVICES),
    .option_count = FILA_COUNT(OPTIONS),
    .options = DEFECT == NULL_OPTIONS ? NULL : OPTIONS,
    .name = DEFECT == NO_NAME ? NULL : "defect",
    .version = "1.0",
    .init = init,
    .handle = DEFECT == NO_HANDLE ? NULL : handle,
})
#endif

/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * One plugin with a defect, chosen with -DDEFECT=... (CMakeLists.txt has the list). NONE is sound.
 */
#include <fila/plugin.h>

#include <dirent.h>
#include <locale.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

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

/* What goes wrong, and where: HANG + IN_INIT and the like. */
#define CRASH          100
#define HANG           200
#define IN_LOAD        1
#define IN_CONSTRUCTOR 2
#define IN_INIT        3
#define IN_HANDLE      4
#define IN_CLOSE       5
#define IN_THREAD      6

#define CRASH_LOAD        101
#define CRASH_CONSTRUCTOR 102
#define CRASH_INIT        103
#define CRASH_HANDLE      104
#define CRASH_CLOSE       105
#define CRASH_THREAD      106
#define HANG_LOAD         201
#define HANG_CONSTRUCTOR  202
#define HANG_INIT         203
#define HANG_HANDLE       204
#define HANG_CLOSE        205
#define HANG_THREAD       206

#define HANG_DEAF 300 /* in handle, and it ignores SIGTERM */
#define WRITES    301
#define FORKS     302
#define MASK      303
#define LOCALE    304
#define FOLDER    305
#define EXITS     306
#define EXITS_NOW 307
#define LEAKS     308
#define CLOSES    309
#define PRINTS    310
#define THROWS    311
#define OVERFLOWS 312
#define ABORTS    313
#define SPEAKS    314 /* writes rubbish to the socket of its process */
#define SEES      315 /* says which descriptors it has, what its signal mask is, ... */

#if DEFECT == UNDEFINED
void fila_symbol_that_nobody_has(void);
#endif

/* ---- What goes wrong ---- */

static volatile int *volatile nowhere;

static inline void go_wrong_in(int place)
{
#if DEFECT == HANG_DEAF
    if (place == IN_HANDLE) {
        (void)signal(SIGTERM, SIG_IGN);
        (void)fprintf(stderr, "deaf\n");
        for (;;) {
            (void)sleep(1);
        }
    }
#endif
    if (DEFECT == CRASH + place) {
        *nowhere = 1;
    }
    while (DEFECT == HANG + place) {
        (void)sleep(1);
    }
}

#if DEFECT == CRASH_LOAD || DEFECT == HANG_LOAD
/* Runs while the file is being relocated, before any constructor: nothing is bound yet. */
static int plain(void)
{
    return 0;
}

__attribute__((no_sanitize("address", "thread", "undefined"))) static int (*resolve(void))(void)
{
#    if DEFECT == CRASH_LOAD
    *(volatile int *)nowhere = 1;
#    else
    for (volatile int forever = 1; forever;) {
    }
#    endif
    return plain;
}

int fila_resolved(void) __attribute__((ifunc("resolve")));
int (*const fila_keep)(void) = fila_resolved;
#endif

__attribute__((constructor)) static void construct(void)
{
    go_wrong_in(IN_CONSTRUCTOR);
}

static void *own_thread(void *arg)
{
    (void)arg;
    go_wrong_in(IN_THREAD);
    return NULL;
}

__attribute__((unused)) static void start_thread(void)
{
    pthread_t thread;
    if (pthread_create(&thread, NULL, own_thread, NULL)) {
        abort();
    }
    (void)pthread_detach(thread);
}

#if DEFECT == THROWS
void defect_throw(void); /* throws.cpp */
#endif

#if DEFECT == OVERFLOWS
static int deeper(volatile char *above)
{
    volatile char here[4096];
    here[0] = *above;
    return deeper(here) + here[0];
}
#endif

#if DEFECT == SEES
static void see_descriptors(char *text, size_t size)
{
    size_t len = 0;
    DIR *folder = opendir("/proc/self/fd");
    for (struct dirent *entry; folder && (entry = readdir(folder));) {
        char link[64];
        char target[256];
        int fd = atoi(entry->d_name);
        (void)snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        ssize_t got = readlink(link, target, sizeof target - 1);
        if (entry->d_name[0] == '.' || fd == dirfd(folder) || got < 0) {
            continue;
        }
        target[strcspn(target, ":")] = '\0';
        target[got < 12 ? got : 12] = '\0';
        target[strcspn(target, ":")] = '\0';
        len += (size_t)snprintf(text + len, size - len, "%d=%s ", fd, target);
    }
    if (folder) {
        (void)closedir(folder);
    }
}

static int see(const fila_delivery *delivery, const fila_services *services)
{
    char text[2048] = "";
    char score[16] = "";
    sigset_t mask;
    int blocked = 0;
    int ignored = 0;
    see_descriptors(text, sizeof text);
    (void)pthread_sigmask(SIG_SETMASK, NULL, &mask);
    for (int i = 1; i < 32; i++) {
        struct sigaction action;
        blocked += sigismember(&mask, i) == 1;
        ignored += !sigaction(i, NULL, &action) && action.sa_handler == SIG_IGN;
    }
    FILE *file = fopen("/proc/self/oom_score_adj", "r");
    if (file) {
        (void)!fgets(score, sizeof score, file);
        (void)fclose(file);
    }
    size_t len = strlen(text);
    (void)snprintf(
        text + len, sizeof text - len, "blocked=%d ignored=%d oom=%d key=%s group=%d", blocked,
        ignored, atoi(score), getenv("FILA_API_KEY") ? "seen" : "hidden", getpgrp() == getpid());
    services->reason(services, delivery, text);
    return FILA_REJECT;
}
#endif

/* What a handler does that it should not. */
__attribute__((unused)) static int misbehave(
    const fila_delivery *delivery,
    const fila_services *services)
{
    (void)delivery;
    (void)services;
#if DEFECT == WRITES
    memset((char *)(uintptr_t)delivery->payload + delivery->payload_len - 1, 'w', 16);
#elif DEFECT == FORKS
    if (fork() == 0) {
        return FILA_REJECT; /* the copy answers, too */
    }
#elif DEFECT == MASK
    sigset_t all;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, NULL);
#elif DEFECT == LOCALE
    (void)setlocale(LC_ALL, "C.UTF-8");
#elif DEFECT == FOLDER
    (void)!chdir("/");
#elif DEFECT == EXITS
    exit(3);
#elif DEFECT == EXITS_NOW
    (void)fprintf(stderr, "leaving\n");
    _exit(4);
#elif DEFECT == LEAKS
    static char *volatile kept;
    char *volatile *next = malloc(1 << 20);
    if (next) {
        memset((void *)(uintptr_t)next, 1, 1 << 20);
        *next = kept;
        kept = (char *)(uintptr_t)next;
    }
#elif DEFECT == CLOSES
    (void)close(3);
#elif DEFECT == PRINTS
    static char noise[1 << 16];
    memset(noise, 'n', sizeof noise);
    for (size_t i = 99; i < sizeof noise; i += 100) {
        noise[i] = '\n';
    }
    const char *megabytes = getenv("DEFECT_PRINTS_MB");
    for (int i = 0; i < 16 * (megabytes ? atoi(megabytes) : 64); i++) {
        (void)!write(i % 2 ? STDOUT_FILENO : STDERR_FILENO, noise, sizeof noise);
    }
#elif DEFECT == THROWS
    defect_throw();
#elif DEFECT == OVERFLOWS
    return deeper((volatile char[]){0});
#elif DEFECT == ABORTS
    (void)fprintf(stderr, "assertion failed: the moon is full\n");
    abort();
#elif DEFECT == SPEAKS
    for (int fd = 3; fd < 256; fd++) {
        (void)send(fd, "I am the child", 14, MSG_NOSIGNAL | MSG_DONTWAIT);
    }
#elif DEFECT == SEES
    return see(delivery, services);
#endif
    return FILA_ACK;
}

static void close_instance(void *self)
{
    (void)self;
    go_wrong_in(IN_CLOSE);
}

static int init(const fila_services *services, void **ret_self)
{
    (void)ret_self;
    go_wrong_in(IN_INIT);
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
#elif DEFECT == CRASH_THREAD || DEFECT == HANG_THREAD
    start_thread();
    for (int i = 0; DEFECT == CRASH_THREAD && i < 100; i++) {
        (void)sleep(1); /* until it has happened */
    }
    return FILA_ACK;
#elif DEFECT >= HANG_DEAF
    go_wrong_in(IN_HANDLE);
    return misbehave(delivery, services);
#else
    go_wrong_in(IN_HANDLE);
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
    .close = close_instance,
})
#endif

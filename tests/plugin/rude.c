/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * One plugin with bad manners, chosen with -DRUDE=... (CMakeLists.txt has the list): what the
 * loader cannot see, and `plugin verify` must. POLITE has none.
 */
/* NOLINTBEGIN(*): its faults are what it is for */
#include <fila/plugin.h>

#include <fcntl.h>
#include <locale.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define POLITE          0
#define CRASH_LOAD      1
#define CRASH_INIT      2
#define CRASH_HANDLE    3
#define CRASH_CLOSE     4
#define CRASH_THREAD    5
#define HANG_LOAD       6
#define HANG_INIT       7
#define HANG_HANDLE     8
#define HANG_CLOSE      9
#define EXIT            10
#define QUICK_EXIT      11
#define ABORT           12
#define FORK            13
#define CHILD           14
#define MASK            15
#define SIGNAL          16
#define LOCALE          17
#define FOLDER          18
#define UMASK           19
#define ENVIRONMENT     20
#define LEAK            21
#define LEAK_INIT       22
#define LEAK_MIB        23
#define OPEN            24
#define CLOSE           25
#define PRINT           26
#define WRITE_VIEW      27
#define READ_BEYOND     28
#define STACK           29
#define THREAD          30
#define SLOW            31
#define DEAF            32
#define RACE            33
#define EXPORT          34
#define ACCIDENT        35
#define NO_HELP         36
#define USELESS_DEFAULT 37
#define DEFER           38
#define SECOND_INIT     39
#define PROBE_CRASH     40
#define PROBE_HANG      41
#define PROBE_ANSWER    42
#define PROBE_FORK      43
/* With FILA_PLUGIN_THREAD_SAFE, from here on. */
#define SHARED_POLITE 50
#define SHARED_WRITE  51 /* into its view */
#define SHARED_RACE   52 /* in the instance */
#define SHARED_MIX    53 /* a static buffer for all reasons */
#define SHARED_STRAY  54 /* another verdict when it is not alone */

static void pause_ms(long ms)
{
    struct timespec left = {ms / 1000, ms % 1000 * 1000000};
    while (nanosleep(&left, &left)) {
    }
}

static void *volatile kept;

static void hang(void)
{
    for (;;) {
        pause_ms(60000);
    }
}

static void crash(void)
{
    volatile int *volatile nowhere = NULL;
    *nowhere = 1;
}

#if RUDE == CRASH_LOAD || RUDE == HANG_LOAD
__attribute__((constructor)) static void construct(void)
{
    (RUDE == CRASH_LOAD ? crash : hang)();
}
#endif

#if RUDE == ACCIDENT
extern const char *jansson_version_str(void); /* the host has it; this does not link it */
#endif

#if RUDE == EXPORT
FILA_PLUGIN_EXPORT int rude_helper(void);

int rude_helper(void)
{
    return 1;
}
#endif

static void *in_a_thread(void *arg)
{
    if (RUDE == CRASH_THREAD) {
        crash();
    }
    hang();
    return arg;
}

static void start_thread(void)
{
    pthread_t thread;
    if (!pthread_create(&thread, NULL, in_a_thread, NULL)) {
        (void)pthread_detach(thread);
    }
}

static int recurse(int depth)
{
    volatile char room[4096];
    room[0] = (char)depth;
    return depth > 0 ? recurse(depth + 1) + room[0] : 0;
}

static void no_handler(int number)
{
    (void)number;
}

/* What an instance is, so that closing twice or never is seen by malloc. */
static int rude_init(const fila_services *services, void **ret_self)
{
    static int times;
    (void)times;
    *ret_self = malloc(64);
#if RUDE == SECOND_INIT
    if (++times > 1) {
        services->reason(services, NULL, "only once");
        free(*ret_self);
        return 1;
    }
#elif RUDE == ACCIDENT
    services->log(services, NULL, FILA_LOG_DEBUG, jansson_version_str());
#else
    (void)services;
#endif
    switch (RUDE) {
    case CRASH_INIT:
        crash();
        break;
    case HANG_INIT:
        hang();
        break;
    case LEAK_INIT:
        kept = malloc(64);
        break;
    case SIGNAL:
        (void)signal(SIGUSR1, no_handler);
        break;
    case THREAD:
        start_thread();
        break;
    default:
        break;
    }
    return 0;
}

static void rude_close(void *self)
{
    if (RUDE == CRASH_CLOSE) {
        crash();
    }
    if (RUDE == HANG_CLOSE) {
        hang();
    }
    free(self);
}

static int rude_probe(void *self, const fila_services *services)
{
    (void)self;
    (void)services;
    switch (RUDE) {
    case PROBE_CRASH:
        crash();
        break;
    case PROBE_HANG:
        hang();
        break;
    case PROBE_FORK:
        (void)!fork();
        break;
    default:
        break;
    }
    return RUDE == PROBE_ANSWER ? 7 : 1;
}

/* ---- In handle ---- */

static void change_the_process(void)
{
    sigset_t set;
    switch (RUDE) {
    case MASK:
        (void)sigemptyset(&set);
        (void)sigaddset(&set, SIGUSR2);
        (void)pthread_sigmask(SIG_UNBLOCK, &set, NULL);
        break;
    case LOCALE:
        (void)setlocale(LC_NUMERIC, "C.UTF-8");
        break;
    case FOLDER:
        (void)!chdir("/");
        break;
    case UMASK:
        (void)umask(0);
        break;
    case ENVIRONMENT:
        (void)setenv("RUDE", "yes", 1);
        break;
    case OPEN:
        (void)!open("/dev/null", O_RDONLY);
        break;
    case CLOSE:
        (void)close(3);
        break;
    default:
        break;
    }
}

static void spread(void)
{
    switch (RUDE) {
    case FORK:
        (void)!fork();
        break;
    case CHILD:
        if (fork() == 0) {
            (void)setsid();
            hang();
        }
        break;
    case CRASH_THREAD:
        start_thread();
        pause_ms(2000);
        break;
    case EXIT:
        exit(0);
    case QUICK_EXIT:
        _exit(3);
    case ABORT:
        abort();
    default:
        break;
    }
}

static void use_memory(const fila_delivery *delivery)
{
    static const char LINE[4096] = "all work and no play makes a dull plugin\n";
    volatile uint8_t *view = (volatile uint8_t *)(uintptr_t)delivery->payload;
    switch (RUDE) {
    case LEAK:
        kept = malloc(100);
        break;
    case LEAK_MIB:
        kept = malloc((size_t)1 << 20);
        break;
    case WRITE_VIEW:
    case SHARED_WRITE:
        if (delivery->payload_len) {
            view[0] = 0;
        }
        break;
    case READ_BEYOND:
        (void)view[delivery->payload_len];
        break;
    case STACK:
        (void)recurse(1);
        break;
    case PRINT:
        for (int i = 0; i < 4; i++) {
            (void)!write(STDOUT_FILENO, LINE, sizeof LINE);
        }
        break;
    default:
        break;
    }
}

static void *complete(void *arg)
{
    const fila_delivery *const *pair = arg;
    const fila_services *services = (const fila_services *)(const void *)pair[1];
    (void)services->complete(pair[0], FILA_ACK, NULL);
    free(arg);
    return NULL;
}

static int defer(const fila_delivery *delivery, const fila_services *services)
{
    pthread_t thread;
    const void **pair = malloc(2 * sizeof *pair);
    if (!pair) {
        return FILA_RETRY;
    }
    pair[0] = delivery;
    pair[1] = services;
    if (pthread_create(&thread, NULL, complete, pair)) {
        free(pair);
        return FILA_RETRY;
    }
    (void)pthread_detach(thread);
    return FILA_DEFER;
}

/* What is meant for one message at a time, in an instance that serves several. */
static int share(const fila_delivery *delivery, const fila_services *services)
{
    static char text[64];
    static volatile int inside;
    int alone = __atomic_fetch_add(&inside, 1, __ATOMIC_SEQ_CST) == 0;
    if (RUDE == SHARED_MIX) {
        (void)snprintf(text, sizeof text, "%zu bytes are not liked", delivery->payload_len);
    }
    pause_ms(2);
    if (RUDE == SHARED_MIX) {
        services->reason(services, delivery, text);
    }
    (void)__atomic_fetch_sub(&inside, 1, __ATOMIC_SEQ_CST);
    if (RUDE == SHARED_RACE && !alone) {
        abort();
    }
    return RUDE == SHARED_STRAY && !alone ? FILA_RETRY : FILA_REJECT;
}

/* The first few of a process; all of them would take too long. */
static void be_deaf(const fila_delivery *delivery, const fila_services *services)
{
    static int times;
    if (services->deadline_ms(delivery) < 1000 || ++times > 4) {
        return;
    }
    for (int i = 0; i < 200 && !services->cancelled(delivery); i++) {
        pause_ms(1);
    }
    pause_ms(services->cancelled(delivery) ? 3500 : 0);
}

static int rude_handle(void *self, const fila_delivery *delivery, const fila_services *services)
{
    static volatile int inside; /* of all instances: what a static variable is */
    (void)self;
    change_the_process();
    spread();
    use_memory(delivery);
    switch (RUDE) {
    case CRASH_HANDLE:
        crash();
        break;
    case HANG_HANDLE:
        hang();
        break;
    case SLOW:
        pause_ms((long)services->deadline_ms(delivery) + 600);
        break;
    case DEAF:
        be_deaf(delivery, services);
        break;
    case RACE:
        if (__atomic_fetch_add(&inside, 1, __ATOMIC_SEQ_CST)) {
            abort();
        }
        pause_ms(2);
        (void)__atomic_fetch_sub(&inside, 1, __ATOMIC_SEQ_CST);
        break;
    case DEFER:
        return defer(delivery, services);
    case SHARED_RACE:
    case SHARED_MIX:
    case SHARED_STRAY:
        return share(delivery, services);
    default:
        break;
    }
    return FILA_ACK;
}

static const fila_option OPTIONS[] = {
    {"plain", FILA_OPTION_STRING, 0, "", 0, 0, RUDE == NO_HELP ? NULL : "An option."},
#if RUDE == USELESS_DEFAULT
    {"must", FILA_OPTION_STRING, FILA_OPTION_REQUIRED, "x", 0, 0, "An option."},
#endif
};

FILA_PLUGIN_DEFINE({
    FILA_PLUGIN_HEAD,
    .name = "rude",
    .version = "1.0",
    .flags = RUDE >= SHARED_POLITE ? FILA_PLUGIN_THREAD_SAFE : 0,
    .options = OPTIONS,
    .option_count = FILA_COUNT(OPTIONS),
    .init = rude_init,
    .handle = rude_handle,
    .close = rude_close,
    .probe = RUDE >= PROBE_CRASH ? rude_probe : NULL,
})
/* NOLINTEND(*) */

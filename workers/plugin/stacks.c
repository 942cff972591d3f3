/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "plugin/stacks.h"

#include "base/clock.h"
#include "plugin/lastwords.h"

#include <errno.h>
#include <execinfo.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

/* The kernel's, the C library's and valgrind's own are elsewhere. */
#define ASK (SIGRTMIN + 5)

enum {
    OWN_FRAMES = 4, /* of the signal handler, at most */
    CLAIMED = -1
};

/* A thread that may be asked; in its own memory, until it leaves. */
struct entry {
    struct entry *next;
    pid_t thread;
};

static struct {
    pthread_mutex_t lock; /* of `first`; and who asks has it, so that nobody leaves meanwhile */
    struct entry *first;
    _Atomic pid_t wanted; /* who is asked; 0 = nobody; CLAIMED: the answer is being written */
    struct fw_stack answer;
    sem_t answered;
    bool installed;
} stacks = {.lock = PTHREAD_MUTEX_INITIALIZER};

static _Thread_local struct entry own;

/* ---- On the thread that is asked ---- */

static uintptr_t where(const ucontext_t *context)
{
#if defined(__x86_64__)
    return (uintptr_t)context->uc_mcontext.gregs[REG_RIP];
#elif defined(__aarch64__)
    return (uintptr_t)context->uc_mcontext.pc;
#else
    (void)context;
    return 0;
#endif
}

static void copy_text(char ret_text[FW_STACK_TEXT], const char *text, size_t len)
{
    len = len < FW_STACK_TEXT ? len : FW_STACK_TEXT - 1;
    if (len) {
        memcpy(ret_text, text, len);
    }
    ret_text[len] = '\0';
}

static void write_doing(struct fw_stack *stack)
{
    const struct fw_doing *doing = fw_last_words_now();
    stack->doing[0] = stack->plugin[0] = stack->queue[0] = stack->message_id[0] = '\0';
    stack->since = 0;
    if (!doing || !doing->what) {
        return;
    }
    size_t len = strnlen(doing->what, sizeof stack->doing - 1);
    memcpy(stack->doing, doing->what, len);
    stack->doing[len] = '\0';
    copy_text(stack->plugin, doing->plugin, strlen(doing->plugin));
    copy_text(stack->queue, doing->queue, doing->queue ? strlen(doing->queue) : 0);
    copy_text(stack->message_id, doing->message_id.data, doing->message_id.len);
    stack->since = doing->since;
}

/* From the place where the signal came outwards. */
static void write_frames(struct fw_stack *stack, uintptr_t place)
{
    void *found[FW_STACK_FRAMES + OWN_FRAMES];
    int count = backtrace(found, FW_STACK_FRAMES + OWN_FRAMES);
    int first = 0;
    while (first < count && (uintptr_t)found[first] != place) {
        first++;
    }
    stack->frame_count = 0;
    if (first == count) { /* the signal's own frame was not recognized */
        first = count < 2 ? count : 2;
        stack->frames[stack->frame_count++] = place;
    }
    for (int i = first; i < count && stack->frame_count < FW_STACK_FRAMES; i++) {
        stack->frames[stack->frame_count++] = (uintptr_t)found[i];
    }
}

static void on_ask(int number, siginfo_t *info, void *context)
{
    int error = errno;
    pid_t self = gettid();
    (void)number;
    (void)info;
    if (atomic_compare_exchange_strong(&stacks.wanted, &self, CLAIMED)) {
        write_doing(&stacks.answer);
        write_frames(&stacks.answer, where(context));
        atomic_store(&stacks.wanted, 0);
        (void)sem_post(&stacks.answered);
    }
    errno = error;
}

/* ---- Who may be asked ---- */

void fw_stacks_install(void)
{
    void *frame[1];
    struct sigaction action = {
        .sa_sigaction = on_ask, .sa_flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK};
    (void)backtrace(frame, 1); /* loads what it needs now, not in the handler */
    (void)sem_init(&stacks.answered, 0, 0);
    (void)sigfillset(&action.sa_mask);
    (void)pthread_mutex_lock(&stacks.lock);
    stacks.installed = sigaction(ASK, &action, NULL) == 0;
    (void)pthread_mutex_unlock(&stacks.lock);
}

static void mask(int how)
{
    sigset_t set;
    (void)sigemptyset(&set);
    (void)sigaddset(&set, ASK);
    (void)pthread_sigmask(how, &set, NULL);
}

void fw_stacks_enter(void)
{
    if (own.thread) {
        return;
    }
    own.thread = gettid();
    (void)pthread_mutex_lock(&stacks.lock);
    own.next = stacks.first;
    stacks.first = &own;
    (void)pthread_mutex_unlock(&stacks.lock);
    mask(SIG_UNBLOCK);
}

void fw_stacks_leave(void)
{
    if (!own.thread) {
        return;
    }
    (void)pthread_mutex_lock(&stacks.lock);
    struct entry **at = &stacks.first;
    while (*at && *at != &own) {
        at = &(*at)->next;
    }
    if (*at) {
        *at = own.next;
    }
    (void)pthread_mutex_unlock(&stacks.lock);
    own.thread = 0;
    mask(SIG_BLOCK);
}

/* ---- Asking ---- */

static bool has_entered(pid_t thread)
{
    const struct entry *e = stacks.first;
    while (e && e->thread != thread) {
        e = e->next;
    }
    return e;
}

/* False: nobody has answered by then. */
static bool wait_for_answer(int64_t patience)
{
    struct timespec until;
    (void)clock_gettime(CLOCK_MONOTONIC, &until);
    int64_t end = (int64_t)until.tv_sec * FILA_S + until.tv_nsec + patience;
    until = (struct timespec){.tv_sec = end / FILA_S, .tv_nsec = end % FILA_S};
    int failed = 0;
    do {
        failed = sem_clockwait(&stacks.answered, CLOCK_MONOTONIC, &until);
    } while (failed && errno == EINTR);
    /* What was answered comes before what reads `wanted`, also for tools that do not know this way
     * of waiting for a semaphore. */
    return !failed && atomic_load(&stacks.wanted) == 0;
}

/* Who has begun to answer when we give up ends it, which takes no time to speak of. */
static bool give_up(pid_t thread)
{
    if (atomic_compare_exchange_strong(&stacks.wanted, &thread, 0)) {
        return true;
    }
    while (sem_wait(&stacks.answered) && errno == EINTR) {
    }
    return false;
}

enum fw_stack_answer fw_stack_take(pid_t thread, int64_t patience, struct fw_stack *ret_stack)
{
    enum fw_stack_answer answer = FW_STACK_NOT_ASKED;
    (void)pthread_mutex_lock(&stacks.lock);
    if (stacks.installed && has_entered(thread)) {
        atomic_store(&stacks.wanted, thread);
        bool sent = tgkill(getpid(), thread, ASK) == 0;
        bool taken = (sent && wait_for_answer(patience)) || !give_up(thread);
        answer = taken ? FW_STACK_TAKEN : FW_STACK_SILENT;
        if (taken) {
            *ret_stack = stacks.answer;
        }
    }
    (void)pthread_mutex_unlock(&stacks.lock);
    return answer;
}

/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "plugin/lastwords.h"

#include "plugin/stacks.h"

#include <dlfcn.h>
#include <link.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#define STACK_SIZE ((size_t)64 * 1024)

static const int SIGNALS[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGSYS, SIGTRAP};

enum {
    SIGNAL_COUNT = sizeof SIGNALS / sizeof *SIGNALS
};

static struct {
    struct sigaction before[SIGNAL_COUNT];
    atomic_flag told;
} words = {.told = ATOMIC_FLAG_INIT};

static _Thread_local const struct fw_doing *doing;
static _Thread_local void *stack;

/* ---- A line, made without what is not safe in a signal handler ---- */

struct line {
    char text[1024];
    size_t len;
};

static void add(struct line *line, const char *text, size_t len)
{
    size_t room = sizeof line->text - line->len;
    len = len < room ? len : room;
    memcpy(line->text + line->len, text, len);
    line->len += len;
}

static void say(struct line *line, const char *text)
{
    add(line, text, strlen(text));
}

static void say_hex(struct line *line, uintptr_t number)
{
    char digits[2 * sizeof number];
    size_t at = sizeof digits;
    do {
        digits[--at] = "0123456789abcdef"[number & 15];
        number >>= 4;
    } while (number);
    say(line, "0x");
    add(line, digits + at, sizeof digits - at);
}

static void say_doing(struct line *line)
{
    const struct fw_doing *now = doing;
    if (!now || !now->what) {
        say(line, " on a thread that is none of the worker's handlers'");
        return;
    }
    say(line, " in ");
    say(line, now->what);
    say(line, " of the plugin ");
    say(line, now->plugin);
    if (now->queue) {
        say(line, ", queue ");
        say(line, now->queue);
    }
    if (now->message_id.len) {
        say(line, ", message ");
        add(line, now->message_id.data, now->message_id.len);
    }
}

/* The file that the code is from: of a plugin's own thread it is all that is known. */
static void say_place(struct line *line, uintptr_t pc)
{
    struct dl_find_object found;
    /* NOLINTNEXTLINE(performance-no-int-to-ptr): an address of code */
    if (pc && !_dl_find_object((void *)pc, &found) && found.dlfo_link_map) {
        const char *name = found.dlfo_link_map->l_name;
        say(line, ", at ");
        say(line, *name ? name : "fila-worker");
        say(line, "+");
        say_hex(line, pc - found.dlfo_link_map->l_addr);
    }
}

static void write_line(struct line *line)
{
    if (line->len == sizeof line->text) {
        line->len--;
    }
    line->text[line->len++] = '\n';
    (void)!write(STDERR_FILENO, line->text, line->len);
}

/* ---- The signals ---- */

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

static const char *signal_name(int number)
{
    const char *name = sigabbrev_np(number); /* a constant table */
    return name ? name : "?";
}

/* What was there before takes over: a sanitizer's handler, or the end. */
static void restore(int number)
{
    for (int i = 0; i < SIGNAL_COUNT; i++) {
        if (SIGNALS[i] == number) {
            (void)sigaction(number, &words.before[i], NULL);
        }
    }
}

static void on_crash(int number, siginfo_t *info, void *context)
{
    (void)info;
    if (!atomic_flag_test_and_set(&words.told)) {
        struct line line = {.len = 0};
        say(&line, "fila-worker: last words: SIG");
        say(&line, signal_name(number));
        say_doing(&line);
        say_place(&line, where(context));
        write_line(&line);
    }
    restore(number);
    (void)raise(number); /* once this handler has returned */
}

/* A plugin that calls exit() takes the worker with it, and every message that it holds. */
static void on_exit_called(void)
{
    if (doing && doing->what && !atomic_flag_test_and_set(&words.told)) {
        struct line line = {.len = 0};
        say(&line, "fila-worker: last words: exit() was called");
        say_doing(&line);
        write_line(&line);
    }
}

void fw_last_words_install(void)
{
    struct sigaction action = {.sa_sigaction = on_crash, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    (void)sigemptyset(&action.sa_mask);
    for (int i = 0; i < SIGNAL_COUNT; i++) {
        (void)sigaction(SIGNALS[i], &action, &words.before[i]);
    }
    (void)atexit(on_exit_called);
    fw_last_words_thread();
}

void fw_last_words_thread(void)
{
    stack_t use = {.ss_size = STACK_SIZE};
    fw_stacks_enter();
    if (stack) {
        return;
    }
    use.ss_sp = mmap(
        NULL, STACK_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    if (use.ss_sp != MAP_FAILED) {
        stack = use.ss_sp;
        (void)sigaltstack(&use, NULL);
    }
}

void fw_last_words_thread_end(void)
{
    const stack_t none = {.ss_flags = SS_DISABLE};
    fw_stacks_leave(); /* before its stack goes */
    if (stack) {
        (void)sigaltstack(&none, NULL);
        (void)munmap(stack, STACK_SIZE);
        stack = NULL;
    }
    doing = NULL;
}

void fw_last_words_doing(const struct fw_doing *now)
{
    atomic_signal_fence(memory_order_release); /* what it points to is written */
    doing = now;
}

const struct fw_doing *fw_last_words_now(void)
{
    return doing;
}

/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * The last words of a child of verify.
 */
#include "page.h"

#include <dlfcn.h>
#include <execinfo.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define STACK_SIZE ((size_t)128 * 1024)
#define DEPTH      48

static const int SIGNALS[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGSYS};

static struct fw_verify_page
    *crash_page; /* a child's one page: a signal handler gets no argument */

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static bool is_program(const char *file)
{
    Dl_info own;
    return dladdr(SIGNALS, &own) && !strcmp(own.dli_fname, file); /* any address of ours */
}

/* The ways into abort, throw and threads, which say nothing of the plugin. */
static bool is_runtime(const char *file)
{
    static const char *const LIBRARIES[] = {
        "libc.so", "libstdc++.so", "libc++", "libgcc_s.so", "ld-linux"};
    for (size_t i = 0; i < sizeof LIBRARIES / sizeof LIBRARIES[0]; i++) {
        if (!strncmp(base_name(file), LIBRARIES[i], strlen(LIBRARIES[i]))) {
            return true;
        }
    }
    return false;
}

/* Frames from the fault down to the host's own; not those of this handler. */
static void write_frames(void)
{
    void *frames[DEPTH];
    int count = backtrace(frames, DEPTH);
    bool below = false; /* past the frames of this handler and the kernel's way into it */
    for (int i = 0; i < count && crash_page->crash.frame_count < FW_VERIFY_FRAMES; i++) {
        Dl_info info;
        if (!dladdr(frames[i], &info)) {
            continue;
        }
        bool ours = is_program(info.dli_fname);
        if (ours && below) {
            return;
        }
        if (ours || !below) {
            below = !ours;
            continue;
        }
        if (is_runtime(info.dli_fname)) {
            continue;
        }
        size_t offset = (size_t)((char *)frames[i] - (char *)info.dli_fbase);
        char *text = crash_page->crash.frames[crash_page->crash.frame_count++];
        (void)snprintf(
            text, sizeof crash_page->crash.frames[0], "%s+0x%zx%s%s%s", base_name(info.dli_fname),
            offset, info.dli_sname ? " (" : "", info.dli_sname ? info.dli_sname : "",
            info.dli_sname ? ")" : "");
    }
}

static enum fw_verify_place place_of(const void *address)
{
    const char *at = address;
    const char *view = crash_page->message.view;
    if (!view) {
        return FW_VERIFY_ELSEWHERE;
    }
    const char *end = view + crash_page->message.view_len;
    if (at >= view && at < end) {
        return FW_VERIFY_IN_VIEW;
    }
    return at >= end && at < end + crash_page->message.guard_len ? FW_VERIFY_BEYOND_VIEW
                                                                 : FW_VERIFY_ELSEWHERE;
}

static void on_crash(int number, siginfo_t *info, void *context)
{
    (void)context;
    static _Atomic pid_t first;
    pid_t none = 0;
    bool ours = getpid() == crash_page->pid;
    if (ours && !atomic_compare_exchange_strong(&first, &none, gettid()) && none != gettid()) {
        (void)poll(NULL, 0, 10000); /* another thread writes its frames, and then ends us all */
    } else if (ours && !crash_page->crash.signal) {
        crash_page->crash.signal = number;
        if (number == SIGSEGV || number == SIGBUS) {
            crash_page->crash.place = place_of(info->si_addr);
        }
        write_frames();
    }
    (void)signal(number, SIG_DFL);
    (void)raise(number);
}

void fw_verify_crash_stack(void)
{
    stack_t stack = {.ss_size = STACK_SIZE};
    sigset_t set;
    (void)sigemptyset(&set);
    for (size_t i = 0; i < sizeof SIGNALS / sizeof SIGNALS[0]; i++) {
        (void)sigaddset(&set, SIGNALS[i]);
    }
    (void)pthread_sigmask(SIG_UNBLOCK, &set, NULL); /* worker threads block all */
    if (!sigaltstack(NULL, &stack) && !(stack.ss_flags & SS_DISABLE)) {
        return;
    }
    stack = (stack_t){.ss_size = STACK_SIZE};
    stack.ss_sp =
        mmap(NULL, STACK_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (stack.ss_sp != MAP_FAILED) {
        (void)sigaltstack(&stack, NULL);
    }
}

void fw_verify_catch_crashes(struct fw_verify_page *page)
{
    void *frame;
    struct sigaction action = {.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
    action.sa_sigaction = on_crash;
    (void)sigemptyset(&action.sa_mask);
    crash_page = page;
    (void)backtrace(&frame, 1); /* loads what it needs now, not in the handler */
    fw_verify_crash_stack();
    for (size_t i = 0; i < sizeof SIGNALS / sizeof SIGNALS[0]; i++) {
        (void)sigaction(SIGNALS[i], &action, NULL);
    }
}

/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * The last words of a child: which signal, where, and how it came there. The signal handler runs on
 * a stack of its own, so that it also works when the other one is used up, and calls only what may
 * be called there: backtrace (called once before, so that its library is loaded), _dl_find_object,
 * send. Then the signal takes its course. Names are looked up by the worker, from the plugin's
 * file.
 */
#include "handler.h"

#include <dlfcn.h>
#include <execinfo.h>
#include <link.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#define STACK_SIZE ((size_t)128 * 1024)

static const int SIGNALS[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGSYS, SIGTRAP};

static struct {
    struct fw_handler *handler;
    pthread_t thread; /* that `handle` runs on */
    atomic_flag told;
} crash = {.told = ATOMIC_FLAG_INIT};

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

static void add_frame(struct fw_packet *packet, uintptr_t address)
{
    struct dl_find_object found;
    struct fw_frame *frame = &packet->crash.frames[packet->crash.frame_count++];
    *frame = (struct fw_frame){.offset = address, .module = {"", 0}};
    /* NOLINTNEXTLINE(performance-no-int-to-ptr): an address of code */
    if (!_dl_find_object((void *)address, &found) && found.dlfo_link_map) {
        frame->offset = address - found.dlfo_link_map->l_addr;
        frame->module = fila_view_of(found.dlfo_link_map->l_name);
    }
}

/* From the place of the signal outwards. A return address is after its call: one less is in it. */
static void add_frames(struct fw_packet *packet, uintptr_t pc)
{
    void *addresses[2 * FW_FRAMES_MAX];
    int count = backtrace(addresses, (int)(2 * FW_FRAMES_MAX));
    int first = 0;
    while (first < count && (uintptr_t)addresses[first] != pc) {
        first++;
    }
    bool found = first < count;
    if (pc) {
        add_frame(packet, pc);
    }
    for (int i = found ? first + 1 : 2; i < count && packet->crash.frame_count < FW_FRAMES_MAX;
         i++) {
        add_frame(packet, (uintptr_t)addresses[i] - 1);
    }
}

static void tell(int number, const siginfo_t *info, const ucontext_t *context)
{
    struct fw_packet packet = {.type = FW_PACKET_CRASH, .id = atomic_load(&crash.handler->current)};
    packet.crash.number = number;
    packet.crash.code = info->si_code;
    packet.crash.address = (uintptr_t)info->si_addr;
    packet.crash.other_thread = !pthread_equal(pthread_self(), crash.thread);
    add_frames(&packet, where(context));
    fw_handler_send(crash.handler, &packet);
}

static void on_crash(int number, siginfo_t *info, void *context)
{
    struct timespec rest = {1, 0};
    if (getpid() != crash.handler->pid) {
        /* a fork of ours */
    } else if (!atomic_flag_test_and_set(&crash.told)) {
        tell(number, info, context);
    } else {
        (void)nanosleep(&rest, NULL); /* another thread tells its own */
    }
    (void)signal(number, SIG_DFL);
    (void)raise(number); /* once this handler has returned */
}

void fw_handler_crashes(struct fw_handler *handler)
{
    void *addresses[2];
    struct sigaction action = {.sa_sigaction = on_crash, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    stack_t stack = {.ss_size = STACK_SIZE};
    crash.handler = handler;
    crash.thread = pthread_self();
    (void)backtrace(addresses, 2);
    stack.ss_sp = mmap(
        NULL, STACK_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    if (stack.ss_sp != MAP_FAILED) {
        (void)sigaltstack(&stack, NULL);
    }
    (void)sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < sizeof SIGNALS / sizeof *SIGNALS; i++) {
        (void)sigaction(SIGNALS[i], &action, NULL);
    }
}

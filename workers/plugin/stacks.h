/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * Where a thread of this process is: its stack and what it does for a plugin, for a dump. The
 * thread itself is asked, by a signal: it writes down its frames and goes on.
 *
 * Properties. Only threads that have called fw_stacks_enter are asked: those that libraries start
 * are left alone. A thread that runs the code of a plugin may see one system call end with EINTR
 * (most are begun again: SA_RESTART), once for each dump.
 *
 * Operation. One question at a time. A thread that does not answer in time (it blocks all signals,
 * or the kernel does not let go of it) is given up; an answer that comes later goes nowhere.
 *
 * Safety. The signal handler allocates nothing and takes no lock: backtrace (called once before, so
 * that its library is loaded) finds its tables by _dl_find_object, which takes none either.
 */
#ifndef FW_PLUGIN_STACKS_H
#define FW_PLUGIN_STACKS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum {
    FW_STACK_FRAMES = 32,
    FW_STACK_TEXT = 256
};

struct fw_stack {
    uintptr_t frames[FW_STACK_FRAMES]; /* the place itself, then return addresses */
    uint32_t frame_count;
    int64_t since;              /* when it began what it does, CLOCK_BOOTTIME ns; 0 = not known */
    char doing[16];             /* as fw_doing.what; "" = nothing for a plugin */
    char plugin[FW_STACK_TEXT]; /* cut, as the next two */
    char queue[FW_STACK_TEXT];
    char message_id[FW_STACK_TEXT];
};

enum fw_stack_answer {
    FW_STACK_TAKEN,
    FW_STACK_NOT_ASKED, /* none that has entered */
    FW_STACK_SILENT     /* no answer in time */
};

/* For the process, once, before the first question. */
void fw_stacks_install(void);
/* For each thread that may be asked, on it; the second before it ends. */
void fw_stacks_enter(void);
void fw_stacks_leave(void);

/* Waits at most `patience` ns. Any thread; of the caller's own too. */
enum fw_stack_answer fw_stack_take(pid_t thread, int64_t patience, struct fw_stack *ret_stack);

#endif

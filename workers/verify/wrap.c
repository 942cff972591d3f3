/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * Our slots around a plugin's: what is on the thread before and after, and how `complete` is used.
 */
#include "base/clock.h"
#include "executor/run.h"
#include "runner.h"
#include "state.h"

#include <pthread.h>
#include <unistd.h>

static struct fw_verify_runner *subject; /* a child has one: `complete` brings no context */

static void leave_if_forked(const char *slot)
{
    if (getpid() != subject->page->pid) {
        fw_verify_note(
            subject->page, FW_VERIFY_FORKED, "%s returns in a process that it has made", slot);
        _exit(0);
    }
}

static int wrapped_complete(const fila_delivery *delivery, int verdict, const char *reason)
{
    struct fw_verify_page *page = subject->page;
    int64_t left = atomic_load(&fw_run_of(delivery)->deadline) - fila_now();
    int result = fw_run_complete(delivery, verdict, reason);
    if (verdict < FILA_ACK || verdict > FILA_UNAVAILABLE) {
        fw_verify_note(page, FW_VERIFY_VERDICT, "complete is given %d", verdict);
    }
    if (result && left > 0) {
        fw_verify_note(
            page, FW_VERIFY_COMPLETE_TWICE,
            "complete is called for a delivery that is over or was not deferred");
    } else if (result) {
        fw_verify_note(
            page, FW_VERIFY_DEFER_LATE, "complete is called after the delivery's deadline");
    }
    return result;
}

static int wrapped_init(const fila_services *services, void **ret_self)
{
    struct fw_instance *instance = services->host;
    sigset_t mask;
    fw_verify_crash_stack();
    instance->services.complete = wrapped_complete;
    if (!subject->theirs.init) {
        return 0;
    }
    (void)pthread_sigmask(SIG_BLOCK, NULL, &mask);
    int result = subject->theirs.init(services, ret_self);
    leave_if_forked("init");
    fw_verify_thread_compare(subject->page, &mask, "init");
    return result;
}

static int wrapped_handle(void *self, const fila_delivery *delivery, const fila_services *services)
{
    struct fw_verify_letter *letter = fw_run_of(delivery)->job->user;
    struct fw_verify_page *page = subject->page;
    sigset_t mask;
    if (subject->threads == 1) {
        page->message.view = letter->room; /* what is before the payload is no less wrong */
        page->message.view_len = letter->room_len - letter->guard_len;
        page->message.guard_len = letter->guard_len;
    }
    fw_verify_crash_stack();
    (void)pthread_sigmask(SIG_BLOCK, NULL, &mask);
    atomic_store(&letter->entered, fila_now());
    int verdict = subject->theirs.handle(self, delivery, services);
    leave_if_forked("handle");
    fw_verify_thread_compare(page, &mask, "handle");
    if (verdict == FILA_DEFER) {
        (void)atomic_fetch_add(&subject->deferred, 1);
    } else if (verdict < FILA_ACK || verdict > FILA_DEFER) {
        fw_verify_note(page, FW_VERIFY_VERDICT, "handle returns %d", verdict);
    }
    atomic_store(&letter->verdict, verdict);
    atomic_store(&letter->returned, fila_now());
    return verdict;
}

void fw_verify_wrap(struct fw_verify_runner *runner)
{
    subject = runner;
    runner->theirs = runner->plugin->table;
    runner->plugin->table.init = wrapped_init;
    runner->plugin->table.handle = wrapped_handle;
}

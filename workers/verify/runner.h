/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * Messages through a plugin in a child of verify: by the worker's own executor, with what a plugin
 * must not do watched around each slot. Internal to workers/verify.
 */
#ifndef FW_VERIFY_RUNNER_H
#define FW_VERIFY_RUNNER_H

#include "executor/executor.h"
#include "page.h"

enum fw_verify_kind {
    FW_VERIFY_EMPTY,
    FW_VERIFY_BYTE,
    FW_VERIFY_JSON,
    FW_VERIFY_BINARY,
    FW_VERIFY_OWN, /* --message */
    FW_VERIFY_KINDS
};

struct fw_verify_runner {
    struct fw_verify_page *page;
    const struct fw_verify_options *options;
    struct fw_plugin *plugin; /* bound, its slots wrapped */
    fila_plugin theirs;       /* its own slots */
    struct fw_executor *executor;
    unsigned threads; /* of the executor */
    struct fw_done_list done;
    atomic_uint deferred; /* how often handle returned FILA_DEFER */
    int woken;            /* eventfd; made before the process is looked at */
};

/* A message: its payload is read-only memory with a page behind it that cannot be read. */
struct fw_verify_letter {
    struct fw_job job;
    struct fw_verify_runner *runner;
    void *room;
    size_t room_len;
    size_t guard_len;
    fila_view payload;
    int64_t cancelled_at;
    _Atomic int64_t entered;
    _Atomic int64_t returned;
    _Atomic int verdict;
    bool done;
};

/* NULL: page says why. One at a time in a process. */
struct fw_verify_runner *fw_verify_runner_new(
    struct fw_verify_page *page,
    const struct fw_verify_options *options);
void fw_verify_runner_free(struct fw_verify_runner *runner); /* takes NULL */
bool fw_verify_runner_start(struct fw_verify_runner *runner, unsigned threads);
bool fw_verify_runner_stop(struct fw_verify_runner *runner);

const char *fw_verify_kind_name(enum fw_verify_kind kind);
bool fw_verify_kind_exists(const struct fw_verify_runner *runner, enum fw_verify_kind kind);
enum fw_verify_kind fw_verify_kind_of(const struct fw_verify_runner *runner, unsigned number);

struct fw_verify_letter *fw_verify_letter_new(
    struct fw_verify_runner *runner,
    enum fw_verify_kind kind);
void fw_verify_letter_free(struct fw_verify_letter *letter);
void fw_verify_submit(
    struct fw_verify_runner *runner,
    struct fw_verify_letter *letter,
    int64_t timeout);
/* Waits until `handle` has begun, then cancels. */
void fw_verify_cancel(struct fw_verify_runner *runner, struct fw_verify_letter *letter);
/* Waits for the verdict. False: the handler does not return (noted); its thread is lost, and
 * nothing of the runner may be freed. */
bool fw_verify_await(struct fw_verify_runner *runner, struct fw_verify_letter *letter);
/* Notes what is wrong with a verdict. */
void fw_verify_judge(
    struct fw_verify_runner *runner,
    const struct fw_verify_letter *letter,
    const char *name);

/* wrap.c. Puts our slots around the plugin's. */
void fw_verify_wrap(struct fw_verify_runner *runner);

#endif

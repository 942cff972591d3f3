/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * `plugin verify`: what can be said of a plugin before it meets a worker. What can be read from its
 * file is read; whatever runs its code does so in a child process of its own, so that a crash, a
 * hang or an exit there is a finding and not the end.
 *
 * Operation. fw_verify goes through the checks in order; one that fails so that the next ones make
 * no sense ends it (`skipped`). The child and this process share one page (page.h) that says where
 * it is and what it found.
 *
 * Thread: main, single-threaded (it forks); the children have threads.
 */
#ifndef FW_VERIFY_H
#define FW_VERIFY_H

#include "plugin/loader.h"
#include "verify/findings.h"

#define FW_VERIFY_TEXT 480

struct fw_verify_options {
    const char *name; /* as fw_plugin_open */
    /* Binds the handler's options; false: why in `ret_why`. Called in children. */
    bool (*bind)(
        void *user,
        const struct fw_plugin_file *file,
        struct fw_plugin **ret_plugin,
        char ret_why[FW_VERIFY_TEXT]);
    void *user;
    fila_view message; /* a payload of the user's, besides those of verify; NULL data = none */
    int64_t timeout;   /* of one message, ns */
    int64_t limit;     /* ns after which a step is taken to hang */
};

enum fw_verify_check {
    FW_VERIFY_FILE,     /* owner, mode, descriptor, symbols */
    FW_VERIFY_LOAD,     /* constructors, undefined references, table of options */
    FW_VERIFY_LIFE,     /* init and close, again and again */
    FW_VERIFY_MESSAGES, /* verdicts, leaks, views */
    FW_VERIFY_TIME,     /* deadline and cancellation */
    FW_VERIFY_THREADS,  /* many at once, in one instance if it says so */
    FW_VERIFY_CHECK_COUNT
};

enum fw_verify_result {
    FW_VERIFY_SKIPPED,
    FW_VERIFY_OK,
    FW_VERIFY_WARNED,
    FW_VERIFY_FAILED
};

struct fw_verify_item {
    enum fw_verify_check check;
    enum fw_verify_finding finding;
    char what[FW_VERIFY_TEXT];
};

#define FW_VERIFY_ITEMS 64

struct fw_verify_report {
    char path[4096];
    char name[64];
    char version[64];
    char build_id[80];
    enum fw_verify_result results[FW_VERIFY_CHECK_COUNT];
    char notes[FW_VERIFY_CHECK_COUNT][96]; /* what was done */
    struct fw_verify_item items[FW_VERIFY_ITEMS];
    unsigned count;
    unsigned errors;
    unsigned warnings;
};

/* FILA_NO_MEMORY when not even a page can be had; else the report says it all. */
FILA_NODISCARD fila_status fw_verify(
    const struct fw_verify_options *options,
    struct fw_verify_report *ret_report,
    fila_error *reterr);

const char *fw_verify_check_name(enum fw_verify_check check);

#endif

/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * The page that a child of `plugin verify` shares with its parent, and running such a child.
 * Internal to workers/verify.
 */
#ifndef FW_VERIFY_PAGE_H
#define FW_VERIFY_PAGE_H

#include "verify/verify.h"

#include <signal.h>
#include <stdatomic.h>
#include <sys/types.h>

#define FW_VERIFY_FRAMES 6

/* Where a fault was, if it was about a message. */
enum fw_verify_place {
    FW_VERIFY_ELSEWHERE,
    FW_VERIFY_IN_VIEW,
    FW_VERIFY_BEYOND_VIEW
};

struct fw_verify_page {
    pid_t pid;
    char stage[120];      /* what the child is about */
    atomic_uint progress; /* goes up with each step */
    atomic_bool finished;
    atomic_uint count;
    struct fw_verify_item items[FW_VERIFY_ITEMS];
    char note[96];
    char name[64];
    char version[64];
    bool stop; /* nothing after this check makes sense */

    struct {
        const char *view; /* of the message in work, read-only memory */
        size_t view_len;
        size_t guard_len; /* of the page without access behind it */
    } message;

    struct {
        int signal;
        enum fw_verify_place place;
        unsigned frame_count;
        char frames[FW_VERIFY_FRAMES][160];
    } crash;
};

typedef void fw_verify_body(struct fw_verify_page *page, const struct fw_verify_options *options);

/* In the child. Where it is now: shown when it hangs or dies there. */
FILA_PRINTF(2, 3) void fw_verify_stage(struct fw_verify_page *page, const char *format, ...);
void fw_verify_progress(struct fw_verify_page *page);
/* A finding; the same one only once. Any thread of the child. */
FILA_PRINTF(3, 4)
void fw_verify_note(
    struct fw_verify_page *page,
    enum fw_verify_finding finding,
    const char *format,
    ...);

/* crash.c. In the child: faults are written to the page, then end it. Any thread that runs plugin
 * code calls the second one, for a stack of its own to do that on, and to have the signals let
 * through; again is harmless. */
void fw_verify_catch_crashes(struct fw_verify_page *page);
void fw_verify_crash_stack(void);

/* child.c. Runs `body` in a child, and puts what it found into the report. */
void fw_verify_child(
    const struct fw_verify_options *options,
    enum fw_verify_check check,
    fw_verify_body *body,
    struct fw_verify_page *page,
    struct fw_verify_report *report);

/* report.c */
FILA_PRINTF(4, 5)
void fw_verify_add(
    struct fw_verify_report *report,
    enum fw_verify_check check,
    enum fw_verify_finding finding,
    const char *format,
    ...);

/* file.c. What is read from the file alone. False: the rest makes no sense. */
bool fw_verify_file(const struct fw_verify_options *options, struct fw_verify_report *report);
/* load.c, life.c, messages.c: bodies. */
fw_verify_body fw_verify_load;
fw_verify_body fw_verify_life;
fw_verify_body fw_verify_messages;
fw_verify_body fw_verify_time;
fw_verify_body fw_verify_threads;

/* load.c. Opens and binds; NULL: it has been noted why, and page->stop is set. */
struct fw_plugin *fw_verify_open(
    struct fw_verify_page *page,
    const struct fw_verify_options *options);

#endif

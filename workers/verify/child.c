/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "base/clock.h"
#include "log/log.h"
#include "page.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define CANARY_LAST 12 /* descriptors up to this one are open, so that closing any is seen */
#define OUTPUT_KEPT 120
#define FLOOD       ((size_t)16 << 20)
#define ORPHAN_TIME (500 * FILA_MS) /* for ending by themselves */
#define PERTURB     0x5a            /* what freed memory is filled with */

/* ---- In the child ---- */

void fw_verify_stage(struct fw_verify_page *page, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    (void)vsnprintf(page->stage, sizeof page->stage, format, args);
    va_end(args);
    fw_verify_progress(page);
}

void fw_verify_progress(struct fw_verify_page *page)
{
    (void)atomic_fetch_add(&page->progress, 1);
}

void fw_verify_note(
    struct fw_verify_page *page,
    enum fw_verify_finding finding,
    const char *format,
    ...)
{
    struct fw_verify_item item = {.finding = finding};
    va_list args;
    va_start(args, format);
    (void)vsnprintf(item.what, sizeof item.what, format, args);
    va_end(args);
    unsigned count = atomic_load(&page->count);
    for (unsigned i = 0; i < count && i < FW_VERIFY_ITEMS; i++) {
        if (page->items[i].finding == finding && !strcmp(page->items[i].what, item.what)) {
            return;
        }
    }
    unsigned at = atomic_fetch_add(&page->count, 1);
    if (at < FW_VERIFY_ITEMS) {
        page->items[at] = item;
    }
}

/* Before what the program itself does at its end: that is not what is looked for. */
static void leave(int status, void *user)
{
    (void)user;
    _exit(status);
}

static void arrange(int output)
{
    int null = open("/dev/null", O_RDWR);
    (void)setsid();
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    (void)dup2(null, STDIN_FILENO);
    (void)dup2(output, STDOUT_FILENO);
    (void)dup2(output, STDERR_FILENO);
    for (int fd = STDERR_FILENO + 1; fd <= CANARY_LAST; fd++) {
        if (fd != null) {
            (void)dup2(null, fd);
        }
    }
    if (output > CANARY_LAST) {
        (void)close(output);
    }
    if (null > CANARY_LAST) {
        (void)close(null);
    }
    (void)signal(SIGPIPE, SIG_IGN); // NOLINT(concurrency-mt-unsafe): as in the worker; one thread
    (void)on_exit(leave, NULL);
    fw_log_init(FW_LOG_OFF, FW_LOG_TEXT);
    (void)mallopt(M_PERTURB, PERTURB); // NOLINT(concurrency-mt-unsafe): one thread
}

static _Noreturn void be_child(
    const struct fw_verify_options *options,
    fw_verify_body *body,
    struct fw_verify_page *page,
    int output)
{
    page->pid = getpid();
    arrange(output);
    fw_verify_catch_crashes(page);
    body(page, options);
    atomic_store(&page->finished, getpid() == page->pid);
    _exit(0);
}

/* ---- In the parent ---- */

struct watch {
    struct fw_verify_page *page;
    pid_t pid;
    int output;
    int64_t limit;
    unsigned progress;
    int64_t progressed;
    bool hung;
    bool flooded;
    int status;
    size_t printed;
    char first[OUTPUT_KEPT + 1];
};

static void read_output(struct watch *w)
{
    char bytes[65536];
    ssize_t got;
    while ((got = read(w->output, bytes, sizeof bytes)) > 0) {
        if (w->printed < OUTPUT_KEPT) {
            size_t room = OUTPUT_KEPT - w->printed;
            size_t kept = (size_t)got < room ? (size_t)got : room;
            memcpy(w->first + w->printed, bytes, kept);
        }
        w->printed += (size_t)got;
        if (w->printed > FLOOD) {
            return; /* it does not end by itself */
        }
    }
}

static void look_at_time(struct watch *w)
{
    unsigned progress = atomic_load(&w->page->progress);
    int64_t now = fila_now();
    if (progress != w->progress) {
        w->progress = progress;
        w->progressed = now;
    } else if (now - w->progressed > w->limit) {
        w->hung = true;
        (void)kill(w->pid, SIGKILL);
    }
    if (w->printed > FLOOD) {
        w->flooded = true;
        (void)kill(w->pid, SIGKILL);
    }
}

static void await(struct watch *w)
{
    w->progressed = fila_now();
    while (waitpid(w->pid, &w->status, WNOHANG) == 0) {
        struct pollfd fd = {.fd = w->output, .events = POLLIN};
        (void)poll(&fd, 1, 20);
        read_output(w);
        look_at_time(w);
    }
    read_output(w);
}

/* What the child has left behind is ours now (we are its reaper). Those that have ended are reaped;
 * the others are counted, and killed if so. */
static unsigned reap_orphans(bool kill_them)
{
    char path[64];
    char text[4096];
    unsigned count = 0;
    (void)snprintf(path, sizeof path, "/proc/self/task/%d/children", (int)getpid());
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t len = fd >= 0 ? read(fd, text, sizeof text - 1) : 0;
    if (fd >= 0) {
        (void)close(fd);
    }
    text[len > 0 ? len : 0] = '\0';
    char *rest = text;
    for (char *word; (word = strtok_r(rest, " ", &rest));) {
        pid_t pid = (pid_t)strtol(word, NULL, 10);
        if (pid > 0 && waitpid(pid, NULL, WNOHANG) == 0) {
            count++;
            if (kill_them) {
                (void)kill(pid, SIGKILL);
                (void)waitpid(pid, NULL, 0);
            }
        }
    }
    return count;
}

/* A moment for those that are about to end; the rest is killed and counted. */
static unsigned kill_orphans(void)
{
    int64_t until = fila_now() + ORPHAN_TIME;
    unsigned count = 0;
    while (reap_orphans(false) && fila_now() < until) {
        (void)poll(NULL, 0, 10);
    }
    for (unsigned killed = 1; killed;) {
        killed = reap_orphans(true);
        count += killed;
    }
    return count;
}

static void add_crash(
    struct fw_verify_report *report,
    enum fw_verify_check check,
    const struct fw_verify_page *page,
    int number)
{
    char frames[360] = "";
    for (unsigned i = 0; i < page->crash.frame_count && i < FW_VERIFY_FRAMES; i++) {
        size_t len = strlen(frames);
        (void)snprintf(
            frames + len, sizeof frames - len, "%s%.150s", i ? ", " : "; at ",
            page->crash.frames[i]);
    }
    enum fw_verify_finding finding = FW_VERIFY_CRASH;
    if (page->crash.signal && page->crash.place == FW_VERIFY_IN_VIEW) {
        finding = FW_VERIFY_WRITES_VIEW;
    } else if (page->crash.signal && page->crash.place == FW_VERIFY_BEYOND_VIEW) {
        finding = FW_VERIFY_READS_BEYOND;
    }
    const char *name = sigabbrev_np(number);
    fw_verify_add(
        report, check, finding, "%.119s: ended by SIG%s%s", page->stage, name ? name : "?", frames);
}

static void add_end(
    struct fw_verify_report *report,
    enum fw_verify_check check,
    struct watch *w,
    struct fw_verify_page *page)
{
    if (w->flooded) {
        fw_verify_add(
            report, check, FW_VERIFY_FLOODS, "%.119s: ended after %zu MiB of output", page->stage,
            FLOOD >> 20);
    } else if (w->hung) {
        fw_verify_add(
            report, check, FW_VERIFY_HANGS, "%.119s: no end after %lld ms", page->stage,
            (long long)(w->limit / FILA_MS));
    } else if (WIFSIGNALED(w->status)) {
        add_crash(report, check, page, WTERMSIG(w->status));
    } else if (!atomic_load(&page->finished)) {
        fw_verify_add(
            report, check, FW_VERIFY_EXITS, "%.119s: the process exited with status %d",
            page->stage, WEXITSTATUS(w->status));
    } else {
        return;
    }
    page->stop = true;
}

static void add_output(struct fw_verify_report *report, enum fw_verify_check check, struct watch *w)
{
    for (char *at = w->first; *at; at++) {
        if ((unsigned char)*at < ' ') {
            *at = ' ';
        }
    }
    if (w->printed) {
        fw_verify_add(
            report, check, FW_VERIFY_OUTPUT, "it prints: %s%s", w->first,
            w->printed > OUTPUT_KEPT ? "..." : "");
    }
}

static void collect(
    struct fw_verify_report *report,
    enum fw_verify_check check,
    struct watch *w,
    struct fw_verify_page *page)
{
    unsigned count = atomic_load(&page->count);
    for (unsigned i = 0; i < count && i < FW_VERIFY_ITEMS; i++) {
        page->items[i].what[FW_VERIFY_TEXT - 1] = '\0';
        fw_verify_add(report, check, page->items[i].finding, "%s", page->items[i].what);
    }
    add_end(report, check, w, page);
    add_output(report, check, w);
    (void)snprintf(report->notes[check], sizeof report->notes[check], "%s", page->note);
    if (*page->name) {
        (void)snprintf(report->name, sizeof report->name, "%s", page->name);
        (void)snprintf(report->version, sizeof report->version, "%s", page->version);
    }
}

void fw_verify_child(
    const struct fw_verify_options *options,
    enum fw_verify_check check,
    fw_verify_body *body,
    struct fw_verify_page *page,
    struct fw_verify_report *report)
{
    int ends[2];
    struct watch watch = {.page = page, .limit = options->limit};
    memset(page, 0, sizeof *page);
    report->results[check] = FW_VERIFY_OK;
    (void)fflush(NULL);
    (void)prctl(PR_SET_CHILD_SUBREAPER, 1);
    if (pipe2(ends, O_CLOEXEC) || (watch.pid = fork()) < 0) {
        fw_verify_add(
            report, check, FW_VERIFY_EXITS, "no child can be made: %s", strerrordesc_np(errno));
        page->stop = true;
        return;
    }
    if (watch.pid == 0) {
        (void)close(ends[0]);
        be_child(options, body, page, ends[1]);
    }
    (void)close(ends[1]);
    watch.output = ends[0];
    (void)fcntl(watch.output, F_SETFL, O_NONBLOCK);
    await(&watch);
    unsigned left = kill_orphans();
    collect(report, check, &watch, page);
    if (left && !page->crash.signal && !watch.hung) {
        fw_verify_add(
            report, check, FW_VERIFY_PROCESSES_LEFT, "%u still run after the plugin's end", left);
    }
    (void)close(watch.output);
}

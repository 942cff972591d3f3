/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * Bad plugins: a row for each defect (defect.c) and isolation, with what becomes of a message, how
 * the host ends, and what the log says. Each row is run by a process of its own, this program
 * again, since in threads mode some of them bring it down.
 *
 *     bad_plugins [--gigabyte] DEFECTS BAD [DEFECT]    all rows, or those of one; with the two
 *                                                      folders of plugins. PRINTS prints 64 MB, or
 *                                                      as it is told
 *
 * Rows mostly wait: LANES processes run each a part of them.
 *
 * Not in the table, because a process cannot survive it and there is nothing to see: a plugin that
 * hangs while it is loaded in threads mode, or writes where it likes.
 */
#include "base/clock.h"
#include "executor/executor.h"
#include "executor/process/handler.h"
#include "log/log.h"
#include "plugin/lastwords.h"
#include "plugin/loader.h"
#include "wire/message.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <locale.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    LANES = 3
};

enum mode {
    THREADS,
    PROCESS
};

struct row {
    const char *defect;
    enum mode mode;
    const char
        *outcome;      /* of the (last) message: "KIND/CAUSE", or "refused"; NULL = the host dies */
    int ends;          /* the host: 0, an exit status, or -SIGNAL */
    const char *event; /* in the log; NULL = none asked for */
    const char *says;  /* in the reason, or the last words */
    const char *also;  /* the same */
    int timeout_ms;    /* of the message; 0 = 60 s */
    int start_ms;      /* of the start; 0 = 60 s */
    int messages;      /* 0 = 1 */
    int payload;       /* bytes; 0 = 5 */
    int recycle_mb;
};

#define WORDS "fila-worker: last words: "

static const struct row ROWS[] = {
    /* Not loaded at all: the same words in both modes. */
    {"NONE", THREADS, "ack/none", 0, NULL, "stop: clean"},
    {"NONE", PROCESS, "ack/none", 0, NULL, "ends: stop=1 recycle=0 timeout=0 crash=0"},
    {"NO_SYMBOL", THREADS, "refused", 0, NULL, "it exports no fila_plugin_descriptor"},
    {"NO_SYMBOL", PROCESS, "refused", 0, NULL, "it exports no fila_plugin_descriptor"},
    {"WRONG_MAGIC", THREADS, "refused", 0, NULL,
     "magic: it is 0x414c4947, this host's is 0x414c4946"},
    {"WRONG_MAGIC", PROCESS, "refused", 0, NULL,
     "magic: it is 0x414c4947, this host's is 0x414c4946"},
    {"OTHER_MAJOR", THREADS, "refused", 0, NULL, "abi_major: it is 2, this host's is 1"},
    {"OTHER_MAJOR", PROCESS, "refused", 0, NULL, "abi_major: it is 2, this host's is 1"},
    {"OTHER_MACHINE", THREADS, "refused", 0, NULL, "ELF machine: it is 4660, this host's is"},
    {"OTHER_MACHINE", PROCESS, "refused", 0, NULL, "ELF machine: it is 4660, this host's is"},
    {"WRITABLE", THREADS, "refused", 0, NULL,
     "the file may be written by everybody: its mode is 0666"},
    {"WRITABLE", PROCESS, "refused", 0, NULL,
     "the file may be written by everybody: its mode is 0666"},
    {"OPEN_FOLDER/NONE", THREADS, "refused", 0, NULL,
     "the folder may be written by everybody: its mode is 0777"},
    {"OPEN_FOLDER/NONE", PROCESS, "refused", 0, NULL,
     "the folder may be written by everybody: its mode is 0777"},
    {"UNDEFINED", THREADS, "refused", 0, NULL, "undefined symbol: fila_symbol_that_nobody_has"},
    {"UNDEFINED", PROCESS, "refused", 0, NULL, "undefined symbol: fila_symbol_that_nobody_has"},
    {"INIT_FAILS", THREADS, "refused", 0, NULL, "no connection to the moon"},
    {"INIT_FAILS", PROCESS, "refused", 0, NULL, "no connection to the moon"},
    /* Crashes. */
    {"CRASH_LOAD", THREADS, NULL, -SIGSEGV, NULL, WORDS "SIGSEGV in load of the plugin",
     "/CRASH_LOAD.so"},
    {"CRASH_LOAD", PROCESS, "refused", 0, NULL, "the handler crashed: SIGSEGV at address 0x0",
     "plugin CRASH_LOAD.so"},
    {"CRASH_CONSTRUCTOR", THREADS, NULL, -SIGSEGV, NULL, WORDS "SIGSEGV in load of the plugin",
     "/CRASH_CONSTRUCTOR.so"},
    {"CRASH_CONSTRUCTOR", PROCESS, "refused", 0, NULL,
     "the handler crashed: SIGSEGV at address 0x0", "construct+0x"},
    {"CRASH_INIT", THREADS, NULL, -SIGSEGV, NULL, WORDS "SIGSEGV in init of the plugin",
     "/CRASH_INIT.so, queue orders"},
    {"CRASH_INIT", PROCESS, "refused", 0, NULL, "the handler crashed: SIGSEGV at address 0x0",
     "init+0x"},
    {"CRASH_HANDLE", THREADS, NULL, -SIGSEGV, NULL, WORDS "SIGSEGV in handle of the plugin",
     "/CRASH_HANDLE.so, queue orders, message 019a0000-0000-7000-8000-000000000001"},
    {"CRASH_HANDLE", PROCESS, "retry/crash", 0, "CHILD-CRASHED",
     "the handler crashed: SIGSEGV at address 0x0, in handle+0x",
     "plugin CRASH_HANDLE.so, build id "},
    {"CRASH_CLOSE", THREADS, NULL, -SIGSEGV, NULL, WORDS "SIGSEGV in close of the plugin",
     "/CRASH_CLOSE.so"},
    {"CRASH_CLOSE", PROCESS, "ack/none", 0, "CHILD-CRASHED", "close_instance+0x"},
    {"CRASH_THREAD", THREADS, NULL, -SIGSEGV, NULL,
     WORDS "SIGSEGV on a thread that is none of the worker's", "/CRASH_THREAD.so+0x"},
    {"CRASH_THREAD", PROCESS, "retry/crash", 0, "CHILD-CRASHED",
     "SIGSEGV at address 0x0 in a thread of the plugin's own", "own_thread+0x"},
    {"OVERFLOWS", THREADS, NULL, -SIGSEGV, NULL, WORDS "SIGSEGV in handle of the plugin",
     "/OVERFLOWS.so"},
    {"OVERFLOWS", PROCESS, "retry/crash", 0, "CHILD-CRASHED", "the handler crashed: SIGSEGV",
     "deeper+0x"},
    {"ABORTS", THREADS, NULL, -SIGABRT, NULL, WORDS "SIGABRT in handle of the plugin",
     "/ABORTS.so"},
    {"ABORTS", PROCESS, "retry/crash", 0, "CHILD-CRASHED", "the handler crashed: SIGABRT",
     "its last output: assertion failed: the moon is full"},
#ifdef TEST_THROWS
    {"THROWS", THREADS, NULL, -SIGABRT, NULL, WORDS "SIGABRT in handle of the plugin",
     "/THROWS.so"},
    {"THROWS", PROCESS, "retry/crash", 0, "CHILD-CRASHED", "the handler crashed: SIGABRT",
     "nobody catches this"},
#endif
    {"EXITS", THREADS, NULL, 3, NULL, WORDS "exit() was called in handle of the plugin",
     "/EXITS.so"},
    {"EXITS", PROCESS, "retry/crash", 0, "CHILD-CRASHED",
     "the handler's process ended itself with status 3"},
    {"EXITS_NOW", THREADS, NULL, 4}, /* nobody is asked */
    {"EXITS_NOW", PROCESS, "retry/crash", 0, "CHILD-CRASHED",
     "the handler's process ended itself with status 4", "its last output: leaving"},
    /* Hangs. */
    {"HANG_LOAD", PROCESS, "refused", 0, NULL, "load or its init did not return within 1500 ms",
     NULL, 0, 1500},
    {"HANG_CONSTRUCTOR", PROCESS, "refused", 0, NULL,
     "load or its init did not return within 1500 ms", NULL, 0, 1500},
    {"HANG_INIT", THREADS, "refused", 0, NULL,
     "its init has not returned after 500 ms (start_timeout)", NULL, 0, 500},
    {"HANG_INIT", PROCESS, "refused", 0, NULL, "load or its init did not return within 1500 ms",
     NULL, 0, 1500},
    {"HANG_HANDLE", THREADS, "retry/timeout", 0, "HANDLER-STUCK", "no verdict by its deadline of ",
     "stop: abandoned", 300},
    {"HANG_HANDLE", PROCESS, "retry/timeout", 0, "CHILD-KILLED", "no verdict by its deadline of ",
     "SIGTERM", 300},
    {"HANG_DEAF", PROCESS, "retry/timeout", 0, "CHILD-KILLED", "no verdict by its deadline of ",
     "SIGKILL", 1000},
    {"HANG_CLOSE", THREADS, "ack/none", 0, "HANDLER-STUCK", "the handler's close does not return",
     "stop: abandoned"},
    {"HANG_CLOSE", PROCESS, "ack/none", 0, "CHILD-KILLED", "stop: clean", "timeout=1"},
    {"HANG_THREAD", THREADS, "ack/none", 0, NULL, "stop: clean"},
    {"HANG_THREAD", PROCESS, "ack/none", 0, NULL, "stop: clean", "ends: stop=1"},
    /* Wrong answers. */
    {"RUBBISH", THREADS, "retry/retry", 0, "HANDLER-VERDICT", "verdict=1234"},
    {"RUBBISH", PROCESS, "retry/retry", 0, "HANDLER-VERDICT", "verdict=1234"},
    {"TWICE", THREADS, "reject/reject", 0, NULL, "the first"},
    {"TWICE", PROCESS, "reject/reject", 0, NULL, "the first", "ends: stop=1"},
    {"LATE", THREADS, "retry/timeout", 0, NULL, "no verdict by its deadline of ", NULL, 300},
    {"LATE", PROCESS, "retry/timeout", 0, NULL, "no verdict by its deadline of ", "ends: stop=1",
     300},
    {"NEVER", THREADS, "retry/timeout", 0, NULL, "no verdict by its deadline of ",
     "stop: abandoned", 300},
    {"NEVER", PROCESS, "retry/timeout", 0, "CHILD-KILLED", "no verdict by its deadline of ",
     "timeout=1", 300},
    {"SPEAKS", PROCESS, "retry/crash", 0, "CHILD-RUBBISH",
     "the handler's process was killed: it sent a packet of 14 bytes"},
    /* What does not belong to it. */
    {"WRITES", PROCESS, "ack/none", 0, NULL, "ends: stop=1"},
    {"WRITES", PROCESS, "retry/crash", 0, "CHILD-CRASHED", "the handler crashed: SIGSEGV",
     "plugin WRITES.so", 0, 0, 1, 200000},
    {"FORKS", THREADS, "ack/none", 0, NULL, "stop: clean", NULL, 0, 0, 20},
    {"FORKS", PROCESS, "ack/none", 0, NULL, "stop: clean", "crash=0 oom=0 rubbish=0", 0, 0, 20},
    {"MASK", THREADS, "ack/none", 0, NULL, "stop: clean", NULL, 0, 0, 3},
    {"MASK", PROCESS, "ack/none", 0, NULL, "ends: stop=1", NULL, 0, 0, 3},
    {"LOCALE", THREADS, "ack/none", 0, NULL, "stop: clean", NULL, 0, 0, 3},
    {"LOCALE", PROCESS, "ack/none", 0, NULL, "locale: C\n", "ends: stop=1", 0, 0, 3},
    {"FOLDER", THREADS, "ack/none", 0, NULL, "stop: clean", NULL, 0, 0, 3},
    {"FOLDER", PROCESS, "ack/none", 0, NULL, "folder: same", "ends: stop=1", 0, 0, 3},
    {"CLOSES", PROCESS, "ack/none", 0, NULL, "ends: stop=1", "crash=0", 0, 0, 3},
    {"LEAKS", THREADS, "ack/none", 0, NULL, "stop: clean", NULL, 0, 0, 20},
    {"LEAKS", PROCESS, "ack/none", 0, "CHILD-RECYCLED", "crash=0 oom=0", NULL, 0, 0, 300, 5, 128},
    {"PRINTS", THREADS, "ack/none", 0, NULL, "stop: clean"},
    {"PRINTS", PROCESS, "ack/none", 0, "CHILD-OUTPUT", "lines_left_out", "ends: stop=1"},
    {"SEES", PROCESS, "reject/reject", 0, NULL,
     "0=/dev/null 1=pipe 2=pipe 200=socket 201=socket blocked=0 ignored=0 oom=500 key=hidden group=1"},
};

/* ---- One row, in a process of its own ---- */

static sem_t woken;

static void wake(void *user)
{
    (void)user;
    (void)sem_post(&woken);
}

static const char *const KINDS[] = {"ack", "retry", "reject", "unavailable"};

static struct fw_job *await(struct fw_done_list *done)
{
    struct fw_job *job;
    while (!(job = fw_done_take(done))) {
        if (fw_done_sleep_begin(done)) {
            (void)sem_wait(&woken);
        }
        fw_done_sleep_end(done);
    }
    return job;
}

static void run_message(
    const struct row *row,
    struct fw_executor *executor,
    struct fw_done_list *done)
{
    int len = row->payload ? row->payload : 5;
    char *payload = calloc(1, (size_t)len);
    struct fila_message_fields fields = {
        .id = fila_view_of("019a0000-0000-7000-8000-000000000001"),
        .queue = fila_view_of("orders"),
        .payload = {payload, (size_t)len},
    };
    struct fw_job job = {
        .message = fila_message_make(&fields, free, payload),
        .attempt = 1,
        .deadline = fila_now() + (row->timeout_ms ? row->timeout_ms : 60000) * FILA_MS,
    };
    if (!job.message) {
        abort();
    }
    fw_executor_submit(executor, &job);
    (void)await(done);
    (void)printf(
        "outcome: %s/%s\nreason: %s\n", KINDS[job.verdict.kind], fw_cause_name(job.verdict.cause),
        job.reason ? job.reason : "");
    (void)fflush(stdout);
    fw_job_free_message(&job);
    free(job.reason);
}

static const struct fw_handler_option MUST = {
    .name = "must",
    .values = (const char *const[]){"be there"},
    .count = 1,
    .is_string = true,
    .file = "",
};

static fila_status bind(const char *path, struct fw_plugin **ret_plugin, fila_error *reterr)
{
    struct fw_plugin_file *file = NULL;
    struct fw_plugin_problems problems = {0};
    const struct fw_plugin_binding binding = {.options = &MUST, .option_count = 1};
    fila_status status = fw_plugin_open(path, &file, reterr);
    if (!status) {
        status = fw_plugin_bind(file, &binding, ret_plugin, &problems);
        fw_plugin_problems_free(&problems);
    }
    fw_plugin_close(file);
    return status;
}

static void print_ends(struct fw_executor *executor)
{
    struct fw_executor_state state;
    fw_executor_get_state(executor, &state);
    (void)printf("so far:");
    for (int i = 0; i < FW_CHILD_END_COUNT; i++) {
        (void)printf(" %s=%d", fw_child_end_name((enum fw_child_end)i), (int)state.child_ends[i]);
    }
    (void)printf("\n");
}

static void on_ends(void *user, const uint64_t ends[])
{
    (void)user;
    (void)printf("ends:");
    for (int i = 0; i < FW_CHILD_END_COUNT; i++) {
        (void)printf(" %s=%d", fw_child_end_name((enum fw_child_end)i), (int)ends[i]);
    }
    (void)printf("\n");
}

static void print_host(const char *before)
{
    char after[PATH_MAX];
    bool same = getcwd(after, sizeof after) && !strcmp(before, after);
    (void)printf("folder: %s\n", same ? "same" : "changed");
    (void)printf("locale: %s\n", setlocale(LC_ALL, NULL));
}

static int run_row(const struct row *row, const char *path)
{
    char folder[PATH_MAX];
    struct fw_done_list done = {.wake = wake};
    struct fw_executor *executor = NULL;
    struct fw_plugin *plugin = NULL;
    fila_error error = FILA_ERROR_INIT;
    const struct fw_process_options process = {
        .handler = path,
        .options = &MUST,
        .option_count = 1,
        .grace = row->timeout_ms ? 2 * FILA_S : 60 * FILA_S,
        .recycle_rss = (uint64_t)row->recycle_mb << 20,
        .ends = on_ends,
    };
    struct fw_executor_options options = {
        .queue = "orders",
        .process = row->mode == PROCESS ? &process : NULL,
        .concurrency = 1,
        .done = &done,
        .stuck_after = 200 * FILA_MS,
        .start_timeout = row->start_ms * FILA_MS,
    };
    (void)sem_init(&woken, 0, 0);
    fw_log_init(FW_LOG_DEBUG, FW_LOG_TEXT);
    fw_last_words_install();
    fila_status status = row->mode == THREADS ? bind(path, &plugin, &error) : FILA_OK;
    options.plugin = plugin;
    status = status ? status : fw_executor_start(&options, &executor, &error);
    if (status) {
        (void)printf("outcome: refused\nreason: %s\nends: refused\n", error.text);
        return 0;
    }
    (void)!getcwd(folder, sizeof folder);
    for (int i = 0; i < (row->messages ? row->messages : 1); i++) {
        run_message(row, executor, &done);
    }
    print_host(folder);
    print_ends(executor);
    bool stopped = fw_executor_stop(executor, fila_now() + (row->timeout_ms ? FILA_S : 2 * FILA_S));
    (void)printf("stop: %s\n", stopped ? "clean" : "abandoned");
    (void)fflush(stdout);
    fw_log_flush();
    if (!stopped) {
        _exit(0); /* its thread is somewhere in the plugin */
    }
    fw_plugin_free(plugin);
    return 0;
}

/* ---- All of them ---- */

static const char *const NO_HANDLING =
    "handle_segv=0:handle_abort=0:handle_sigbus=0:handle_sigill=0:handle_sigfpe=0:detect_leaks=0:"
    "use_sigaltstack=0:allocator_may_return_null=1";

/* A sanitizer would report as a fault what is one on purpose. */
static void leave_signals_alone(const char *name)
{
    char value[4096];
    const char *before = getenv(name);
    (void)snprintf(
        value, sizeof value, "%s%s%s", before ? before : "", before ? ":" : "", NO_HANDLING);
    (void)setenv(name, value, 1);
}

static void copy_file(const char *from, const char *to, bool other_machine)
{
    char command[2 * PATH_MAX + 16];
    (void)snprintf(command, sizeof command, "cp '%s' '%s'", from, to);
    if (system(command)) {
        abort();
    }
    int fd = open(to, O_WRONLY);
    if (other_machine && pwrite(fd, (const uint8_t[]){0x34, 0x12}, 2, 18) != 2) {
        abort();
    }
    (void)close(fd);
}

static void prepare(const char *defects, const char *folder)
{
    char none[PATH_MAX];
    char to[PATH_MAX];
    (void)snprintf(none, sizeof none, "%s/NONE.so", defects);
    (void)snprintf(to, sizeof to, "%s/OTHER_MACHINE.so", folder);
    copy_file(none, to, true);
    (void)snprintf(to, sizeof to, "%s/WRITABLE.so", folder);
    copy_file(none, to, false);
    (void)chmod(to, 0666);
    (void)snprintf(to, sizeof to, "%s/OPEN_FOLDER", folder);
    (void)mkdir(to, 0777);
    (void)chmod(to, 0777);
    (void)snprintf(to, sizeof to, "%s/OPEN_FOLDER/NONE.so", folder);
    copy_file(none, to, false);
}

/* Its last 64 KiB and more are what counts. */
static char *read_all(int fd)
{
    static char text[1 << 20];
    char rest[1 << 16];
    size_t len = 0;
    for (;;) {
        ssize_t got = read(fd, rest, sizeof rest);
        if (got <= 0) {
            break;
        }
        if (len + (size_t)got >= sizeof text) { /* of what was too much, the second half */
            memmove(text, text + sizeof text / 2, len - sizeof text / 2);
            len -= sizeof text / 2;
        }
        memcpy(text + len, rest, (size_t)got);
        len += (size_t)got;
    }
    text[len] = '\0';
    for (size_t i = 0; i < len; i++) {
        text[i] = text[i] ? text[i] : ' ';
    }
    return text;
}

static int end_of(int status)
{
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static const char *last_outcome(const char *text)
{
    const char *last = NULL;
    for (const char *at = text; (at = strstr(at, "outcome: ")); at++) {
        last = at + strlen("outcome: ");
    }
    return last;
}

static bool check(const struct row *row, const char *text, int status, char *why, size_t size)
{
    const char *outcome = last_outcome(text);
    const char *needed[] = {row->says, row->also, row->event};
    if (end_of(status) != row->ends) {
        (void)snprintf(why, size, "the host ended with %d, not %d", end_of(status), row->ends);
        return false;
    }
    if (row->outcome && (!outcome || strncmp(outcome, row->outcome, strlen(row->outcome)) != 0)) {
        (void)snprintf(why, size, "the outcome is not %s", row->outcome);
        return false;
    }
    for (size_t i = 0; i < sizeof needed / sizeof *needed; i++) {
        if (needed[i] && !strstr(text, needed[i])) {
            (void)snprintf(why, size, "nothing says \"%s\"", needed[i]);
            return false;
        }
    }
    return true;
}

static bool run_apart(char *const folders[2], size_t index)
{
    const struct row *row = &ROWS[index];
    char path[PATH_MAX];
    char number[16];
    char why[512] = "";
    int ends[2];
    int status = 0;
    (void)snprintf(path, sizeof path, "%s/%s.so", folders[1], row->defect);
    if (access(path, F_OK)) {
        (void)snprintf(path, sizeof path, "%s/%s.so", folders[0], row->defect);
    }
    (void)snprintf(number, sizeof number, "%zu", index);
    if (pipe2(ends, O_CLOEXEC)) {
        abort();
    }
    int64_t began = fila_now();
    pid_t pid = fork();
    if (pid == 0) {
        (void)dup2(ends[1], STDOUT_FILENO);
        (void)dup2(ends[1], STDERR_FILENO);
        (void)execl("/proc/self/exe", "bad_plugins", "--row", number, path, (char *)NULL);
        _exit(127);
    }
    (void)close(ends[1]);
    const char *text = read_all(ends[0]);
    (void)close(ends[0]);
    (void)waitpid(pid, &status, 0);
    bool right = check(row, text, status, why, sizeof why);
    (void)printf(
        "%-4s %-18s %-8s %-14s %5d ms %s\n", right ? "ok" : "BAD", row->defect,
        row->mode == PROCESS ? "process" : "threads", row->outcome ? row->outcome : "host dies",
        (int)((fila_now() - began) / FILA_MS), why);
    if (!right) {
        size_t len = strlen(text);
        (void)printf("%s\n", len > 6000 ? text + len - 6000 : text);
    }
    (void)fflush(stdout);
    return right;
}

/* Every LANES-th row; how many were wrong. */
static int run_lane(char *const folders[2], const char *defect, size_t lane)
{
    int wrong = 0;
    for (size_t i = lane; i < sizeof ROWS / sizeof *ROWS; i += LANES) {
        if (!defect || !strcmp(defect, ROWS[i].defect)) {
            wrong += !run_apart(folders, i);
        }
    }
    return wrong;
}

static int run_lanes(char *const folders[2], const char *defect)
{
    pid_t lanes[LANES];
    int wrong = 0;
    for (size_t i = 0; i < LANES; i++) {
        lanes[i] = fork();
        if (lanes[i] < 0) {
            abort();
        }
        if (lanes[i] == 0) {
            exit(run_lane(folders, defect, i));
        }
    }
    for (size_t i = 0; i < LANES; i++) {
        int status = 0;
        (void)waitpid(lanes[i], &status, 0);
        wrong += WIFEXITED(status) ? WEXITSTATUS(status) : 1;
    }
    return wrong;
}

int main(int argc, char **argv)
{
    size_t count = sizeof ROWS / sizeof *ROWS;
    int wrong = 0;
    int ran = 0;
    if (argc > 1 && !strcmp(argv[1], "__handler")) {
        return fw_handler_main(argc - 1, argv + 1);
    }
    if (argc == 4 && !strcmp(argv[1], "--row")) {
        (void)alarm(getenv("DEFECT_PRINTS_MB") ? 600 : 120);
        return run_row(&ROWS[strtoul(argv[2], NULL, 10)], argv[3]);
    }
    if (argc > 1 && !strcmp(argv[1], "--gigabyte")) {
        (void)setenv("DEFECT_PRINTS_MB", "1024", 1);
        argc--;
        argv++;
    }
    if (argc < 3) {
        (void)fprintf(stderr, "usage: bad_plugins [--gigabyte] DEFECTS BAD [DEFECT]\n");
        return 64;
    }
    (void)setenv("FILA_API_KEY", "secret", 1);
    leave_signals_alone("ASAN_OPTIONS");
    leave_signals_alone("TSAN_OPTIONS");
    prepare(argv[1], argv[2]);
    for (size_t i = 0; i < count; i++) {
        ran += argc < 4 || !strcmp(argv[3], ROWS[i].defect);
    }
    wrong = run_lanes(&argv[1], argc < 4 ? NULL : argv[3]);
    (void)printf("%d rows, %d wrong\n", ran, wrong);
    return wrong != 0 || ran == 0;
}

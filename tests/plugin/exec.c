/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "executor/testlog.h"
#include "plugin/one.h"

#include <criterion/criterion.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define EXEC TEST_PLUGINS "/exec.so"
#define MIB  (1024 * 1024)

static char folder[] = "/tmp/fila-exec-XXXXXX";

static void make_folder(void)
{
    cr_assert_not_null(mkdtemp(folder));
    cr_assert_eq(setenv("T", folder, 1), 0); /* where commands leave files */
}

static void remove_folder(void)
{
    char command[128];
    (void)snprintf(command, sizeof command, "rm -rf '%s'", folder);
    cr_assert_eq(system(command), 0);
}

TestSuite(exec, .timeout = 60, .init = make_folder, .fini = remove_folder);

static void open_exec(const one_options options)
{
    fila_error error = FILA_ERROR_INIT;
    cr_assert_eq(one_open(EXEC, options, &error), FILA_OK, "%s", error.text);
}

/* One message "hello" through `sh -c SCRIPT`. */
static struct one_result run_script(const char *script)
{
    char word[1024];
    (void)snprintf(word, sizeof word, "command[]=%s", script);
    const one_options options = {"command[]=sh", "command[]=-c", word};
    open_exec(options);
    struct one_result result = one_run(&(struct one_message){.payload = "hello", .payload_len = 5});
    one_close();
    return result;
}

/* What a command left in $T/NAME; terminated. */
static size_t read_left(const char *name, char *ret_text, size_t size)
{
    char path[PATH_MAX];
    (void)snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "rb");
    cr_assert_not_null(file, "%s", path);
    size_t len = fread(ret_text, 1, size - 1, file);
    (void)fclose(file);
    ret_text[len] = '\0';
    return len;
}

/* ---- The table of scripts: how it ends, and what comes of it ---- */

struct row {
    const char *script;
    enum fw_verdict_kind kind;
    enum fw_cause cause;
    const char *reason;
};

Test(exec, exit_statuses_and_signals)
{
    static const struct row ROWS[] = {
        {"exit 0", FW_ACK, FW_CAUSE_NONE, ""},
        {"echo no use >&2; exit 0", FW_ACK, FW_CAUSE_NONE, ""},
        {"exit 75", FW_RETRY, FW_CAUSE_RETRY, "exit status 75"},
        {"exit 1", FW_RETRY, FW_CAUSE_RETRY, "exit status 1"},
        {"exit 255", FW_RETRY, FW_CAUSE_RETRY, "exit status 255"},
        {"exit 65", FW_REJECT, FW_CAUSE_REJECT, "exit status 65"},
        {"exit 69", FW_UNAVAILABLE, FW_CAUSE_UNAVAILABLE, "exit status 69"},
        {"echo bad input >&2; exit 65", FW_REJECT, FW_CAUSE_REJECT, "exit status 65: bad input"},
        {"printf 'a\\n\\nb\\n\\n' >&2; exit 2", FW_RETRY, FW_CAUSE_RETRY, "exit status 2: a\n\nb"},
        {"printf 'a\\000b' >&2; exit 2", FW_RETRY, FW_CAUSE_RETRY, "exit status 2: a?b"},
        {"no-such-command-at-all 2>/dev/null", FW_RETRY, FW_CAUSE_RETRY, "exit status 127"},
        {"kill -KILL $$", FW_RETRY, FW_CAUSE_CRASH, "ended by signal 9 (SIGKILL)"},
        {"echo oh >&2; kill -TERM $$", FW_RETRY, FW_CAUSE_CRASH,
         "ended by signal 15 (SIGTERM): oh"},
        {"test \"$(cat)\" = hello", FW_ACK, FW_CAUSE_NONE, ""},
        {"test \"$(cat /dev/stdin)\" = hello", FW_ACK, FW_CAUSE_NONE, ""},
        {"exec <&-; exit 0", FW_ACK, FW_CAUSE_NONE, ""},
        {"exec 2>&-; exit 3", FW_RETRY, FW_CAUSE_RETRY, "exit status 3"},
        {"ulimit -c 0; kill -SEGV $$", FW_RETRY, FW_CAUSE_CRASH, "ended by signal 11 (SIGSEGV)"},
    };
    for (size_t i = 0; i < sizeof ROWS / sizeof ROWS[0]; i++) {
        struct one_result result = run_script(ROWS[i].script);
        cr_expect_eq(result.kind, ROWS[i].kind, "%s: %d", ROWS[i].script, result.kind);
        cr_expect_eq(result.cause, ROWS[i].cause, "%s: %d", ROWS[i].script, result.cause);
        cr_expect_str_eq(result.reason, ROWS[i].reason, "%s: %s", ROWS[i].script, result.reason);
    }
}

/* ---- Commands that cannot be used: the worker does not start ---- */

static void make_file(const char *name, const char *text, mode_t mode)
{
    char path[PATH_MAX];
    (void)snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "w");
    cr_assert_not_null(file);
    cr_assert_geq(fputs(text, file), 0);
    (void)fclose(file);
    cr_assert_eq(chmod(path, mode), 0);
}

Test(exec, refuses_to_start_with_what_cannot_work)
{
    static const struct {
        one_options options;
        const char *text;
    } ROWS[] = {
        {{"shell=true"}, "command: it is missing; the handler exec needs it"},
        {{"command[]"}, "command: the list is empty; it takes at least one string"},
        {{"command[]=no-such-program"},
         "handler exec: command: cannot use \"no-such-program\": there is no such file"},
        {{"command[]=/no/such/program"},
         "handler exec: command: cannot use \"/no/such/program\": there is no such file"},
        {{"command[]="}, "handler exec: command: cannot use \"\": there is no such file"},
        {{"command[]=./plain", "directory=${T}"},
         "handler exec: command: cannot use \"./plain\": it is not executable"},
        {{"command[]=/tmp"}, "handler exec: command: cannot use \"/tmp\": it is not executable"},
        {{"command[]=true", "directory=/no/such"},
         "handler exec: directory: cannot use \"/no/such\": there is no such file"},
        {{"command[]=true", "directory=/etc/passwd"},
         "handler exec: directory: cannot use \"/etc/passwd\": Not a directory"},
        {{"command[]=true", "environment[]=NONSENSE"},
         "handler exec: environment: \"NONSENSE\" is not of the form NAME=VALUE"},
        {{"command[]=true", "environment[]==x"},
         "handler exec: environment: \"=x\" is not of the form NAME=VALUE"},
        {{"command[]=true", "stdout=file"},
         "handler exec: stdout: \"file\" is neither \"discard\" nor \"log\""},
        {{"command[]=true", "kill_after=2min"}, "kill_after: 2min is out of range"},
        {{"command[]=true", "comand[]=x"},
         "comand: the handler exec has no such option; did you mean command?"},
    };

    make_file("plain", "text", 0644);
    for (size_t i = 0; i < sizeof ROWS / sizeof ROWS[0]; i++) {
        fila_error error = FILA_ERROR_INIT;
        one_options options;
        char directory[PATH_MAX];
        memcpy(options, ROWS[i].options, sizeof options);
        if (options[1] && !strcmp(options[1], "directory=${T}")) {
            (void)snprintf(directory, sizeof directory, "directory=%s", folder);
            options[1] = directory;
        }
        cr_expect_eq(one_open(EXEC, options, &error), FILA_INVALID_ARGUMENT, "row %zu", i);
        cr_expect_eq(
            strncmp(error.text, ROWS[i].text, strlen(ROWS[i].text)), 0, "row %zu: %s", i,
            error.text);
    }
}

Test(exec, a_program_that_goes_away_is_unavailable)
{
    char word[64];
    char path[48];
    make_file("here", "#!/bin/sh\nexit 0\n", 0755);
    (void)snprintf(path, sizeof path, "%s/here", folder);
    (void)snprintf(word, sizeof word, "command[]=%s", path);
    const one_options options = {word};
    const struct one_message message = {.payload = "x", .payload_len = 1};
    open_exec(options);
    cr_expect_eq(one_run(&message).kind, FW_ACK);
    cr_assert_eq(unlink(path), 0);
    struct one_result result = one_run(&message);
    cr_expect_eq(result.kind, FW_UNAVAILABLE);
    cr_expect_not_null(
        strstr(result.reason, "/here: No such file or directory"), "%s", result.reason);

    make_file("here", "exit 0\n", 0755);
    result = one_run(&message);
    cr_expect_eq(result.kind, FW_UNAVAILABLE);
    cr_expect_not_null(strstr(result.reason, "a script needs a first line"), "%s", result.reason);

    make_file("here", "#!/bin/sh\nexit 0\n", 0755);
    cr_expect_eq(one_run(&message).kind, FW_ACK, "and it is back");
    one_close();
}

/* ---- Payloads ---- */

static void run_payload(const char *script, const char *payload, size_t len)
{
    char word[1024];
    (void)snprintf(word, sizeof word, "command[]=%s", script);
    const one_options options = {"command[]=sh", "command[]=-c", word};
    open_exec(options);
    struct one_result result =
        one_run(&(struct one_message){.payload = payload, .payload_len = len});
    cr_expect_eq(result.kind, FW_ACK, "%s with %zu bytes: %s", script, len, result.reason);
    one_close();
}

Test(exec, payloads_of_any_size_and_bytes)
{
    static const size_t SIZES[] = {0, 1, 255, 65536, 65537, MIB, 17 * MIB};
    static char payload[17 * MIB];
    char path[PATH_MAX];
    for (size_t i = 0; i < sizeof payload; i++) {
        payload[i] = (char)(i * 31 + i / 251);
    }
    (void)snprintf(path, sizeof path, "%s/whole", folder);
    for (size_t i = 0; i < sizeof SIZES / sizeof SIZES[0]; i++) {
        FILE *file = fopen(path, "wb");
        cr_assert_not_null(file);
        cr_assert_eq(fwrite(payload, 1, SIZES[i], file), SIZES[i]);
        (void)fclose(file);
        run_payload("cmp - $T/whole >&2", payload, SIZES[i]);
        run_payload("exit 0", payload, SIZES[i]); /* does not read it */
        run_payload("head -c 1 > /dev/null", payload, SIZES[i]);
    }
}

/* ---- Output ---- */

Test(exec, keeps_the_last_4_KiB_of_a_flood)
{
    struct one_result result =
        run_script("head -c 30000000 /dev/zero | tr '\\0' x >&2; echo the end >&2; exit 1");
    cr_expect_eq(result.kind, FW_RETRY);
    size_t len = strlen(result.reason);
    cr_expect_gt(len, 4000);
    cr_expect_lt(len, 4200);
    cr_expect_eq(strncmp(result.reason, "exit status 1: xxxx", 19), 0);
    cr_expect_str_eq(result.reason + len - 8, "xthe end");

    result = run_script("head -c 200000000 /dev/zero; exit 0");
    cr_expect_eq(result.kind, FW_ACK, "%s", result.reason);
}

Test(exec, cuts_at_a_whole_character)
{
    /* 4,098 bytes, so that the cut is in the middle of the first euro sign. */
    struct one_result result = run_script(
        "i=0; while [ $i -lt 1366 ]; do printf '\\342\\202\\254' >&2; i=$((i+1)); done; exit 1");
    cr_expect_eq(strncmp(result.reason, "exit status 1: \xe2\x82\xac", 18), 0);
    cr_expect_eq(strlen(result.reason), 15 + 1365 * 3);
}

Test(exec, output_goes_to_the_log_when_asked)
{
    const one_options options = {
        "command[]=sh", "command[]=-c", "command[]=echo one; printf two; echo no >&2; exit 0",
        "stdout=log"};
    open_exec(options);
    const struct one_message message = {.payload = "x", .payload_len = 1};
    cr_expect_eq(one_run(&message).kind, FW_ACK);
    cr_expect_eq(testlog_count(FW_EVENT_HANDLER_DEBUG), 2);
    cr_expect_eq(strncmp(testlog_last(FW_EVENT_HANDLER_DEBUG), "two queue=orders", 16), 0);
    one_close();

    const one_options flood = {
        "command[]=sh", "command[]=-c", "command[]=yes | head -c 50000000; exit 0", "stdout=log"};
    open_exec(flood);
    cr_expect_eq(one_run(&message).kind, FW_ACK);
    cr_expect_eq(testlog_count(FW_EVENT_HANDLER_DEBUG), 2 + 32768 + 1, "64 KiB of it");
    one_close();
}

/* ---- Time ---- */

static struct one_result run_timed(const char *script, const char *kill_after, int64_t timeout_ms)
{
    char word[1024];
    (void)snprintf(word, sizeof word, "command[]=%s", script);
    const one_options options = {"command[]=sh", "command[]=-c", word, kill_after};
    open_exec(options);
    struct one_result result =
        one_run(&(struct one_message){.payload = "x", .payload_len = 1, .timeout_ms = timeout_ms});
    one_close();
    return result;
}

static bool starts_and_ends(const char *text, const char *start, const char *end)
{
    size_t len = strlen(text);
    return !strncmp(text, start, strlen(start)) && len >= strlen(end) &&
           !strcmp(text + len - strlen(end), end);
}

Test(exec, deadlines)
{
    static const struct {
        const char *script;
        enum fw_verdict_kind kind;
        enum fw_cause cause;
        const char *start;
        const char *end;
    } ROWS[] = {
        {"sleep 60", FW_RETRY, FW_CAUSE_TIMEOUT, "no result after ", " ms, ended with SIGTERM"},
        {"echo why >&2; exec sleep 60", FW_RETRY, FW_CAUSE_TIMEOUT, "no result after ",
         "ended with SIGTERM: why"},
        {"trap '' TERM; while :; do sleep 0.1; done", FW_RETRY, FW_CAUSE_TIMEOUT,
         "no result after ", "ended with SIGKILL"},
        {"trap 'exit 0' TERM; while :; do sleep 0.1; done 2>/dev/null", FW_RETRY, FW_CAUSE_TIMEOUT,
         "no result after ", ""},
        {"trap 'exit 65' TERM; while :; do sleep 0.1; done", FW_REJECT, FW_CAUSE_REJECT,
         "exit status 65", ""},
        {"while :; do echo x; echo y >&2; done", FW_RETRY, FW_CAUSE_TIMEOUT, "no result after ",
         "y"},
        {"kill -STOP $$", FW_RETRY, FW_CAUSE_TIMEOUT, "no result after ", "ended with SIGKILL"},
    };

    for (size_t i = 0; i < sizeof ROWS / sizeof ROWS[0]; i++) {
        struct one_result result = run_timed(ROWS[i].script, "kill_after=100ms", 700);
        cr_expect_eq(result.kind, ROWS[i].kind, "%s: %d", ROWS[i].script, result.kind);
        cr_expect_eq(result.cause, ROWS[i].cause, "%s: %d", ROWS[i].script, result.cause);
        cr_expect(
            starts_and_ends(result.reason, ROWS[i].start, ROWS[i].end), "%s: %s", ROWS[i].script,
            result.reason);
        cr_expect_geq(result.took_ms, 400, "%s: %d ms", ROWS[i].script, (int)result.took_ms);
    }
    cr_expect_eq(testlog_count(FW_EVENT_HANDLER_STUCK), 0);
}

static bool is_gone(const char *pid_text)
{
    char path[64];
    char state[256] = "";
    (void)snprintf(path, sizeof path, "/proc/%d/stat", atoi(pid_text));
    FILE *file = fopen(path, "r");
    if (!file) {
        return true;
    }
    (void)!fgets(state, sizeof state, file);
    (void)fclose(file);
    return strstr(state, ") Z ") != NULL || !*state;
}

static bool goes_away(const char *pid_text)
{
    for (int i = 0; i < 500 && !is_gone(pid_text); i++) {
        (void)usleep(10000);
    }
    return is_gone(pid_text);
}

Test(exec, the_whole_group_is_ended)
{
    char pid[32];
    struct one_result result = run_timed(
        "(trap '' TERM; exec sleep 60) & echo $! > $T/pid; exec sleep 60", "kill_after=100ms", 700);
    cr_expect_eq(result.cause, FW_CAUSE_TIMEOUT);
    (void)read_left("pid", pid, sizeof pid);
    cr_expect(goes_away(pid));
}

Test(exec, a_background_child_that_holds_the_pipes_does_not_hold_us)
{
    char pid[32];
    struct one_result result = run_script("sleep 60 & echo $! > $T/pid; echo x >&2; exit 3");
    cr_expect_eq(result.kind, FW_RETRY);
    cr_expect_str_eq(result.reason, "exit status 3: x");
    cr_expect_lt(result.took_ms, 10000);
    (void)read_left("pid", pid, sizeof pid);
    cr_expect(goes_away(pid), "what a command leaves behind in its group goes with it");

    result = run_script("(setsid sh -c 'while :; do echo x >&2; done' &) ; exit 0");
    cr_expect_eq(result.kind, FW_ACK, "also when it floods");
}

Test(exec, cancel_ends_it_at_once)
{
    char path[PATH_MAX];
    (void)snprintf(path, sizeof path, "%s/started", folder);
    cr_assert_eq(mkfifo(path, 0600), 0);
    const one_options options = {
        "command[]=sh", "command[]=-c", "command[]=: > $T/started; exec sleep 60", "kill_after=1s"};
    open_exec(options);
    for (int i = 0; i < 3; i++) {
        one_submit(&(struct one_message){.payload = "x", .payload_len = 1, .timeout_ms = 40000});
        int fd = open(path, O_RDONLY); /* until the command opens it too */
        cr_assert_geq(fd, 0);
        (void)close(fd);
        one_cancel();
        struct one_result result = one_await();
        cr_expect_eq(result.kind, FW_RETRY);
        cr_expect_eq(result.cause, FW_CAUSE_RETRY, "no timeout, no crash");
        cr_expect(starts_and_ends(result.reason, "stopped by the worker after ", "SIGTERM"));
        cr_expect_lt(result.took_ms, 10000);
    }
    one_close();
}

/* ---- Environment ---- */

static char environment[1 << 20];

static void run_env(const one_options more, const struct one_message *message)
{
    one_options options = {"command[]=sh", "command[]=-c", "command[]=/usr/bin/env -0 > $T/env"};
    for (int i = 0; more && more[i]; i++) {
        options[3 + i] = more[i];
    }
    open_exec(options);
    struct one_result result = one_run(message);
    cr_assert_eq(result.kind, FW_ACK, "%s", result.reason);
    one_close();
    environment[0] = '\0';
    (void)read_left("env", environment + 1, sizeof environment - 1);
}

/* The value of a variable as the command saw it, or NULL. */
static const char *seen(const char *name)
{
    size_t len = strlen(name);
    for (const char *at = environment + 1; *at; at += strlen(at) + 1) {
        if (!strncmp(at, name, len) && at[len] == '=') {
            return at + len + 1;
        }
    }
    return NULL;
}

#define EXPECT_SEEN(name, value)                                                   \
    do {                                                                           \
        cr_expect_not_null(seen(name), "%s is not there", name);                   \
        if (seen(name)) {                                                          \
            cr_expect_str_eq(seen(name), value, "%s is \"%s\"", name, seen(name)); \
        }                                                                          \
    } while (0)

static fila_header header(const char *key, const char *value)
{
    return (fila_header){fila_view_of(key), fila_view_of(value)};
}

Test(exec, shows_the_message_and_hides_the_secrets)
{
    const fila_header headers[] = {
        header("traceparent", "00-abc-def-01"), header("X-Trace.Id", "first"),
        header("x_trace id", "last"),           header("empty", ""),
        header("\xc3\xa9t\xc3\xa9", "summer"),
    };
    static const char *const SECRETS[] = {
        "FILA_API_KEY", "FILA_API_KEY_FILE", "FILA_TLS_KEY", "SECRET_OF_CONFIG"};
    for (size_t i = 0; i < 4; i++) {
        (void)setenv(SECRETS[i], "secret", 1);
    }
    (void)setenv("FILA_HEADER_OLD", "of another message", 1);
    (void)setenv("FILA_QUEUE", "of another message", 1);
    (void)setenv("KEPT", "yes", 1);
    static const one_options MORE = {"environment[]=ADDED=1", "environment[]=KEPT=changed"};
    run_env(
        MORE, &(struct one_message){
                  .payload = "x",
                  .payload_len = 1,
                  .headers = headers,
                  .header_count = 5,
                  .fairness_key = "tenant 7",
                  .attempt = 3,
                  .timeout_ms = 15000,
              });
    EXPECT_SEEN("FILA_QUEUE", "orders");
    EXPECT_SEEN("FILA_MESSAGE_ID", "019a0000-0000-7000-8000-000000000001");
    EXPECT_SEEN("FILA_ATTEMPT", "3");
    EXPECT_SEEN("FILA_FAIRNESS_KEY", "tenant 7");
    EXPECT_SEEN("FILA_HEADER_TRACEPARENT", "00-abc-def-01");
    EXPECT_SEEN("FILA_HEADER_X_TRACE_ID", "last");
    EXPECT_SEEN("FILA_HEADER_EMPTY", "");
    EXPECT_SEEN("FILA_HEADER___T__", "summer");
    EXPECT_SEEN("ADDED", "1");
    EXPECT_SEEN("KEPT", "changed");
    cr_expect_not_null(seen("PATH"));
    int left = seen("FILA_DEADLINE_MS") ? atoi(seen("FILA_DEADLINE_MS")) : -1;
    cr_expect(left > 12000 && left <= 13800, "15 s less kill_after and the margin: %d", left);
    cr_expect_null(seen("FILA_HEADERS_TRUNCATED"));
    cr_expect_null(seen("FILA_HEADER_OLD"));
    for (size_t i = 0; i < 4; i++) {
        cr_expect_null(seen(SECRETS[i]), "%s", SECRETS[i]);
    }
}

Test(exec, can_clear_the_environment)
{
    char home[PATH_MAX];
    (void)snprintf(home, sizeof home, "environment[]=T=%s", folder);
    const one_options more = {"clear_environment:=true", home};
    run_env(more, &(struct one_message){.payload = "x", .payload_len = 1});
    size_t count = 0;
    for (const char *at = environment + 1; *at; at += strlen(at) + 1) {
        bool known = !strncmp(at, "FILA_", 5) || !strncmp(at, "T=", 2) || !strncmp(at, "_=", 2) ||
                     !strncmp(at, "PWD=", 4); /* the last two are the shell's own */
        cr_expect(known, "%s", at);
        count++;
    }
    cr_expect_geq(count, 6);
}

static size_t header_bytes(void)
{
    size_t sum = 0;
    for (const char *at = environment + 1; *at; at += strlen(at) + 1) {
        sum += !strncmp(at, "FILA_HEADER_", 12) ? strlen(at) + 1 : 0;
    }
    return sum;
}

Test(exec, headers_are_bounded)
{
    static fila_header headers[10000];
    static char keys[10000][16];
    for (int i = 0; i < 10000; i++) {
        (void)snprintf(keys[i], sizeof keys[i], "h%d", i);
        headers[i] = header(keys[i], "0123456789");
    }
    run_env(
        NULL, &(struct one_message){
                  .payload = "x", .payload_len = 1, .headers = headers, .header_count = 10000});
    EXPECT_SEEN("FILA_HEADERS_TRUNCATED", "1");
    EXPECT_SEEN("FILA_HEADER_H0", "0123456789");
    EXPECT_SEEN("FILA_HEADER_H1000", "0123456789");
    cr_expect_null(seen("FILA_HEADER_H9999"));
    cr_expect_leq(header_bytes(), 65536);
    cr_expect_gt(header_bytes(), 65000, "as much as fits");
}

Test(exec, headers_to_the_last_byte)
{
    static char value[65536];
    const size_t fits = 65536 - sizeof "FILA_HEADER_A=";
    memset(value, 'v', sizeof value);
    for (size_t more = 0; more < 2; more++) {
        const fila_header one = {{"a", 1}, {value, fits + more}};
        run_env(
            NULL, &(struct one_message){
                      .payload = "x", .payload_len = 1, .headers = &one, .header_count = 1});
        cr_expect_eq(seen("FILA_HEADER_A") != NULL, more == 0);
        cr_expect_eq(seen("FILA_HEADERS_TRUNCATED") != NULL, more == 1);
        cr_expect_eq(header_bytes(), more ? 0 : 65536);
    }
}

Test(exec, a_header_with_a_zero_byte_is_left_out)
{
    const fila_header headers[] = {{{"a", 1}, {"x\0y", 3}}, {{"b", 1}, {"z", 1}}};
    run_env(
        NULL, &(struct one_message){
                  .payload = "x", .payload_len = 1, .headers = headers, .header_count = 2});
    cr_expect_null(seen("FILA_HEADER_A"));
    EXPECT_SEEN("FILA_HEADER_B", "z");
    EXPECT_SEEN("FILA_HEADERS_TRUNCATED", "1");
}

/* ---- What a command inherits ---- */

Test(exec, only_three_descriptors_and_no_signal_state)
{
    char text[4096];
    int leak = dup(STDERR_FILENO); /* not close-on-exec: somebody's mistake */
    cr_assert_eq(dup2(leak, 57), 57);
    cr_assert_neq(signal(SIGPIPE, SIG_IGN), SIG_ERR);
    cr_assert_neq(signal(SIGUSR1, SIG_IGN), SIG_ERR);
    struct one_result result =
        run_script("ls /proc/self/fd > $T/fds; grep '^Sig' /proc/self/status > $T/signals; exit 0");
    cr_assert_eq(result.kind, FW_ACK, "%s", result.reason);
    (void)read_left("fds", text, sizeof text);
    cr_expect_str_eq(text, "0\n1\n2\n3\n", "3 is ls's own: %s", text);
    (void)read_left("signals", text, sizeof text);
    cr_expect_not_null(strstr(text, "SigBlk:\t0000000000000000"), "%s", text);
    /* glibc's posix_spawn may leave its two internal signals, 32 and 33, ignored. */
    const char *ignored = strstr(text, "SigIgn:");
    cr_assert_not_null(ignored);
    cr_expect_eq(strtoull(ignored + 8, NULL, 16) & ~0x180000000ULL, 0, "%s", text);
}

Test(exec, works_with_standard_descriptors_closed)
{
    char text[64];
    (void)close(STDIN_FILENO);
    struct one_result result = run_script("cat > $T/got; echo err >&2; exit 3");
    (void)read_left("got", text, sizeof text);
    cr_expect_str_eq(text, "hello");
    cr_expect_str_eq(result.reason, "exit status 3: err");
}

Test(exec, shell_and_directory)
{
    char text[PATH_MAX];
    char directory[PATH_MAX];
    (void)snprintf(directory, sizeof directory, "directory=%s", folder);
    const one_options shell = {
        "shell=true", "command[]=echo \"$1:$2:$(pwd):$(cat)\" > out", "command[]=a b",
        "command[]=c", directory};
    open_exec(shell);
    cr_expect_eq(one_run(&(struct one_message){.payload = "P", .payload_len = 1}).kind, FW_ACK);
    one_close();
    (void)read_left("out", text, sizeof text);
    (void)snprintf(directory, sizeof directory, "a b:c:%s:P\n", folder);
    cr_expect_str_eq(text, directory);

    (void)snprintf(directory, sizeof directory, "directory=%s", folder);
    make_file("tool", "#!/bin/sh\necho \"$0\" > out\n", 0755);
    const one_options relative = {"command[]=./tool", directory};
    open_exec(relative);
    cr_expect_eq(one_run(&(struct one_message){.payload = "P", .payload_len = 1}).kind, FW_ACK);
    one_close();
    (void)read_left("out", text, sizeof text);
    cr_expect_not_null(strstr(text, "/tool\n"), "%s", text);
}

static int open_descriptors(void)
{
    int count = 0;
    DIR *stream = opendir("/proc/self/fd");
    cr_assert_not_null(stream);
    while (readdir(stream)) {
        count++;
    }
    (void)closedir(stream);
    return count;
}

Test(exec, leaks_no_descriptor)
{
    const one_options options = {"command[]=true", "stdout=log"};
    const struct one_message message = {.payload = "x", .payload_len = 1};
    open_exec(options);
    (void)one_run(&message);
    int before = open_descriptors();
    for (int i = 0; i < 20; i++) {
        cr_assert_eq(one_run(&message).kind, FW_ACK);
    }
    cr_assert_eq(open_descriptors(), before);
    one_close();
}

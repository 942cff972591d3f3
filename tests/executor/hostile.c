/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * Children that do what no plugin may make a child do: this program stands in for fila-worker's
 * __handler, and speaks to the executor by hand. Whatever it does costs its own message a try; the
 * next one is handled by another child, and the host has neither memory, descriptors nor time to
 * lose.
 *
 *     test_hostile PLUGIN.so [ROUNDS]    ROUNDS of random packets (20)
 */
#include "base/clock.h"
#include "executor/executor.h"
#include "executor/outbox.h"
#include "executor/process/handler.h"
#include "log/log.h"
#include "wire/message.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define CHECK(condition) \
    ((condition)         \
         ? (void)0       \
         : ((void)fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition), exit(1)))

/* ---- The child ---- */

enum when {
    AT_START, /* in place of READY */
    AT_RUN    /* in place of a RESULT */
};

struct child {
    uint64_t id; /* of the message */
    unsigned seed;
    uint8_t bytes[FW_PACKET_SIZE + 4096];
};

static void send_bytes(const void *bytes, size_t len)
{
    (void)send(FW_HANDLER_SOCKET, bytes, len, MSG_NOSIGNAL);
}

static void send_packet(struct child *child, const struct fw_packet *packet)
{
    send_bytes(child->bytes, fw_packet_write(packet, child->bytes));
}

static void send_result(struct child *child, uint64_t id, int verdict, const char *reason)
{
    struct fw_packet packet = {.type = FW_PACKET_RESULT, .id = id};
    packet.result.verdict = verdict;
    packet.result.reason = reason ? fila_view_of(reason) : (fila_view){NULL, 0};
    send_packet(child, &packet);
}

static void send_ready(struct child *child)
{
    struct fw_packet packet = {.type = FW_PACKET_READY};
    packet.ready.name = fila_view_of("hostile");
    packet.ready.version = fila_view_of("1");
    send_packet(child, &packet);
}

/* A sound packet, with one field of its head changed. */
static void send_head(struct child *child, size_t at, uint16_t value)
{
    const struct fw_packet packet = {.type = FW_PACKET_PROBED, .id = child->id};
    size_t len = fw_packet_write(&packet, child->bytes);
    memcpy(child->bytes + at, &value, sizeof value);
    send_bytes(child->bytes, len);
}

static void do_empty(struct child *child)
{
    (void)child;
    send_bytes("", 0);
}

static void do_short(struct child *child)
{
    (void)child;
    send_bytes("abc", 3);
}

static void do_long(struct child *child)
{
    send_bytes(child->bytes, FW_PACKET_SIZE + 1);
}

static void do_version(struct child *child)
{
    send_head(child, 0, 7);
}

static void do_type(struct child *child)
{
    send_head(child, 2, 99);
}

static void do_size(struct child *child)
{
    send_head(child, 4, 9999);
}

static void do_workers(struct child *child)
{
    send_packet(child, &(struct fw_packet){.type = FW_PACKET_CLOSE});
}

static void do_other_id(struct child *child)
{
    send_result(child, child->id + 1, FW_ACK, NULL);
}

static void do_no_id(struct child *child)
{
    send_result(child, 0, FW_ACK, NULL);
}

static void do_verdict(struct child *child)
{
    send_result(child, child->id, 77, NULL);
}

static void do_probed(struct child *child)
{
    send_packet(child, &(struct fw_packet){.type = FW_PACKET_PROBED, .id = child->id + 1});
}

static void do_twice(struct child *child)
{
    send_result(child, child->id, FW_ACK, NULL);
    send_result(child, child->id, FW_REJECT, "the second");
}

static void do_event(struct child *child)
{
    struct fw_packet packet = {.type = FW_PACKET_LOG};
    packet.log.event = FW_EVENT_WORKER_STOP;
    send_packet(child, &packet);
}

/* Which is seen by the test: fw_log writes to standard error. */
static void do_log(struct child *child)
{
    static const char TEXT[] =
        "before\0after \033[31mred\033[0m \r\n{\"event\":\"WORKER-STOP\"} \xff";
    struct fw_packet packet = {.type = FW_PACKET_LOG, .id = child->id};
    packet.log.event = FW_EVENT_HANDLER_ERROR;
    packet.log.text = (fila_view){TEXT, sizeof TEXT - 1};
    send_packet(child, &packet);
    (void)!write(STDOUT_FILENO, "zero\0one \033[2J\n", 14);
    send_result(child, child->id, FW_REJECT, "\033[31mred\n\xff");
}

static void do_part(struct child *child, uint32_t total, uint32_t offset, size_t len)
{
    static char zeros[FW_PUBLISH_PART];
    struct fw_packet packet = {.type = FW_PACKET_PUBLISH, .id = child->id};
    packet.publish.total = total;
    packet.publish.offset = offset;
    packet.publish.part = (fila_view){zeros, len};
    send_packet(child, &packet);
}

static void do_gap(struct child *child)
{
    do_part(child, 1000, 0, 100);
    do_part(child, 1000, 200, 100);
}

static void do_too_large(struct child *child)
{
    do_part(child, 6u << 20, 0, 100);
}

static void do_past_the_end(struct child *child)
{
    do_part(child, 100, 0, 101);
}

static void do_half(struct child *child)
{
    do_part(child, 1000, 0, 100);
    send_result(child, child->id, FW_ACK, NULL);
}

static void do_no_message(struct child *child)
{
    do_part(child, 100, 0, 100);
}

static void do_too_much(struct child *child)
{
    struct fw_buffer buffer = {0};
    uint8_t *payload = calloc(1, 3u << 20);
    const struct fw_outgoing outgoing = {
        .queue = fila_view_of("copies"),
        .payload = {(const char *)payload, 3u << 20},
    };
    fw_outgoing_write(&buffer, &outgoing);
    for (int i = 0; i < 3; i++) {
        for (size_t at = 0, len = 0; at < buffer.len; at += len) {
            struct fw_packet packet = {.type = FW_PACKET_PUBLISH, .id = child->id};
            len = buffer.len - at < FW_PUBLISH_PART ? buffer.len - at : FW_PUBLISH_PART;
            packet.publish.total = (uint32_t)buffer.len;
            packet.publish.offset = (uint32_t)at;
            packet.publish.part = (fila_view){(const char *)buffer.bytes + at, len};
            send_packet(child, &packet);
        }
    }
    free(payload);
    fw_buffer_fini(&buffer);
}

static void do_count(struct child *child)
{
    struct fw_packet packet = {.type = FW_PACKET_COUNT};
    packet.count.name = fila_view_of("no name\n");
    packet.count.delta = UINT64_MAX;
    send_packet(child, &packet);
}

/* More descriptors than the host has left; it must not take one. */
static void do_descriptors(struct child *child)
{
    const struct fw_packet packet = {.type = FW_PACKET_COUNT, .count = {{"sent", 4}, 1}};
    size_t len = fw_packet_write(&packet, child->bytes);
    struct iovec part = {child->bytes, len};
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(50 * sizeof(int))] = {0};
    struct msghdr message = {
        .msg_iov = &part,
        .msg_iovlen = 1,
        .msg_control = control,
        .msg_controllen = sizeof control,
    };
    struct cmsghdr *head = CMSG_FIRSTHDR(&message);
    *head = (struct cmsghdr){CMSG_LEN(50 * sizeof(int)), SOL_SOCKET, SCM_RIGHTS};
    memset(CMSG_DATA(head), 0, 50 * sizeof(int)); /* 50 times /dev/null */
    for (int i = 0; i < 40; i++) {
        (void)sendmsg(FW_HANDLER_SOCKET, &message, MSG_NOSIGNAL);
    }
    send_result(child, child->id, FW_ACK, NULL);
}

static void do_stop(struct child *child)
{
    (void)child;
    (void)raise(SIGSTOP);
}

static void do_exit(struct child *child)
{
    (void)child;
    _exit(5);
}

/* What it leaves behind is in a session of its own, holds all that it had, and never stops. */
static void do_flood(struct child *child)
{
    struct fw_packet packet = {.type = FW_PACKET_LOG};
    packet.log.event = FW_EVENT_HANDLER_DEBUG;
    size_t len = fw_packet_write(&packet, child->bytes);
    for (int i = 0; i < 2; i++) {
        if (fork() == 0) {
            (void)setsid();
            while (send(FW_HANDLER_SOCKET, child->bytes, len, MSG_NOSIGNAL) >= 0) {
                (void)!write(STDERR_FILENO, i ? "flood\n" : "", i ? 6 : 0);
            }
            _exit(0);
        }
    }
    (void)poll(NULL, 0, 50);
    _exit(6);
}

/* Before any message, it says; so another child gets it. Until its deadline. */
static void do_lie(struct child *child)
{
    struct fw_packet packet = {.type = FW_PACKET_CRASH};
    packet.crash.number = SIGSEGV;
    packet.crash.frame_count = 1;
    packet.crash.frames[0].module = (fila_view){"no\0where", 8};
    send_packet(child, &packet);
    (void)signal(SIGSEGV, SIG_DFL); /* a sanitizer's */
    (void)raise(SIGSEGV);
}

/* All that could be written to. */
static void do_area(struct child *child)
{
    bool sealed = mmap(NULL, FW_AREA_SIZE, PROT_WRITE, MAP_SHARED, FW_HANDLER_AREA, 0) ==
                      MAP_FAILED &&
                  pwrite(FW_HANDLER_AREA, "x", 1, 0) < 0 && ftruncate(FW_HANDLER_AREA, 0) != 0 &&
                  pwrite(FW_HANDLER_PLUGIN, "x", 1, 0) < 0;
    send_result(child, child->id, FW_REJECT, sealed ? "sealed" : "writable");
}

/* As much as goes in, whatever its flags were; the host is to write to it at the deadline. */
static void do_cancel(struct child *child)
{
    uint64_t most = UINT64_MAX - 1;
    (void)child;
    (void)fcntl(FW_HANDLER_CANCEL, F_SETFL, 0);
    (void)fcntl(FW_HANDLER_SOCKET, F_SETFL, 0);
    (void)!write(FW_HANDLER_CANCEL, &most, sizeof most);
    (void)lseek(FW_HANDLER_PLUGIN, 1000, SEEK_SET);
    for (;;) {
        (void)pause();
    }
}

static void do_nothing(struct child *child)
{
    (void)child;
    (void)poll(NULL, 0, 60000);
}

static void do_problems(struct child *child)
{
    struct fw_packet packet = {.type = FW_PACKET_PROBLEM};
    packet.problem.text = fila_view_of("a problem");
    for (int i = 0; i < 1000; i++) {
        send_packet(child, &packet);
    }
}

static unsigned next_random(struct child *child)
{
    child->seed = child->seed * 1664525u + 1013904223u;
    return child->seed >> 8;
}

/* Sound packets of all types, with some bytes changed. */
static void do_random(struct child *child)
{
    static const char TEXT[] = "some text to be found in packets";
    for (int i = 0; i < 50; i++) {
        struct fw_packet packet;
        memset(&packet, 0, sizeof packet);
        packet.type = (enum fw_packet_type)(1 + next_random(child) % FW_PACKET_TYPE_COUNT);
        packet.id = child->id - next_random(child) % 2;
        switch (packet.type) {
        case FW_PACKET_LOG:
            packet.log.event = FW_EVENT_HANDLER_DEBUG;
            packet.log.text = fila_view_of(TEXT);
            break;
        case FW_PACKET_PUBLISH:
            packet.publish.total = next_random(child) % 64;
            packet.publish.part = (fila_view){TEXT, next_random(child) % sizeof TEXT};
            break;
        case FW_PACKET_COUNT:
            packet.count.name = fila_view_of("random");
            break;
        case FW_PACKET_CRASH:
            packet.crash.frame_count = 1;
            packet.crash.frames[0].module = fila_view_of(TEXT);
            break;
        default:
            break;
        }
        size_t len = fw_packet_write(&packet, child->bytes);
        for (unsigned changes = next_random(child) % 3; changes; changes--) {
            child->bytes[next_random(child) % len] = (uint8_t)next_random(child);
        }
        send_bytes(child->bytes, len - (next_random(child) % 16 == 0));
    }
    send_result(child, child->id, FW_ACK, NULL);
}

/* ---- What is expected of it ---- */

enum outcome {
    ACK,
    REJECT,
    CRASH,
    TIMEOUT,
    LATE,    /* with a child, or waiting for one */
    REFUSED, /* the start fails */
    ANY
};

static const struct row {
    const char *name;
    void (*act)(struct child *child);
    enum when when;
    enum outcome outcome;
    const char *says; /* part of the reason, or of the start's error */
    int timeout_ms;   /* 0 = 60 s */
} ROWS[] = {
    {"empty", do_empty, AT_RUN, CRASH, "it closed its connection to the worker", 0},
    {"short", do_short, AT_RUN, CRASH, "it sent a packet of 3 bytes", 0},
    {"long", do_long, AT_RUN, CRASH, "it sent a packet over the limit", 0},
    {"version", do_version, AT_RUN, CRASH, "it sent a packet of version 7, not 1", 0},
    {"type", do_type, AT_RUN, CRASH, "it sent a packet of the unknown type 99", 0},
    {"size", do_size, AT_RUN, CRASH, "bytes that says it has 9999", 0},
    {"the worker's", do_workers, AT_RUN, CRASH, "it sent a packet that only the worker sends", 0},
    {"other id", do_other_id, AT_RUN, CRASH, "it answered a message that it was never given", 0},
    {"no id", do_no_id, AT_RUN, CRASH, "it answered a message that it was never given", 0},
    {"verdict", do_verdict, AT_RUN, CRASH, "whose fields do not fit its", 0},
    {"probed", do_probed, AT_RUN, CRASH, "it answered a probe that it was never asked", 0},
    {"twice", do_twice, AT_RUN, ACK, NULL, 0},
    {"ready again", send_ready, AT_RUN, CRASH, "it reported its start twice", 0},
    {"event", do_event, AT_RUN, CRASH, "it logged an event that is none of a handler's", 0},
    {"log", do_log, AT_RUN, REJECT, "red", 0},
    {"gap", do_gap, AT_RUN, CRASH, "it published parts that do not fit", 0},
    {"too large", do_too_large, AT_RUN, CRASH, "it published parts that do not fit", 0},
    {"past the end", do_past_the_end, AT_RUN, CRASH, "it published parts that do not fit", 0},
    {"half", do_half, AT_RUN, CRASH, "it published parts that do not fit", 0},
    {"no message", do_no_message, AT_RUN, CRASH, "it published what is no message", 0},
    {"too much", do_too_much, AT_RUN, CRASH, "it published more than a handler may", 0},
    {"count", do_count, AT_RUN, CRASH, "it counted what is no counter", 0},
    {"descriptors", do_descriptors, AT_RUN, ACK, NULL, 0},
    {"stop", do_stop, AT_RUN, TIMEOUT, "no verdict by its deadline of ", 300},
    {"exit", do_exit, AT_RUN, CRASH, "the handler's process ended itself with status 5", 0},
    {"flood", do_flood, AT_RUN, CRASH, "the handler's process ended itself with status 6", 0},
    {"lie", do_lie, AT_RUN, LATE, NULL, 300},
    {"area", do_area, AT_RUN, REJECT, "sealed", 0},
    {"cancel", do_cancel, AT_RUN, TIMEOUT, "no verdict by its deadline of ", 300},
    {"short at start", do_short, AT_START, REFUSED, "it sent a packet of 3 bytes", 0},
    {"exit at start", do_exit, AT_START, REFUSED, "ended itself with status 5", 0},
    {"result at start", do_other_id, AT_START, REFUSED, "a message that it was never given", 0},
    {"stop at start", do_stop, AT_START, REFUSED, "init did not return within 500 ms", 0},
    {"problems", do_problems, AT_START, REFUSED, "more problems than a plugin can have", 0},
    {"random", do_random, AT_RUN, ANY, NULL, 0},
};

enum {
    ROW_COUNT = sizeof ROWS / sizeof *ROWS
};

/* Behaves, until it meets the payload "bad". */
static int hostile_main(char **argv)
{
    static struct child child;
    const struct row *row = &ROWS[strtoul(getenv("FILA_HOSTILE"), NULL, 10)];
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != (pid_t)strtol(argv[2], NULL, 10)) {
        return 1;
    }
    child.seed = (unsigned)strtoul(getenv("FILA_SEED"), NULL, 10);
    (void)recv(FW_HANDLER_SOCKET, child.bytes, sizeof child.bytes, 0); /* START */
    if (row->when == AT_START) {
        row->act(&child);
        do_nothing(&child);
    }
    send_ready(&child);
    for (;;) {
        struct fw_packet packet;
        char why[128];
        ssize_t len = recv(FW_HANDLER_SOCKET, child.bytes, sizeof child.bytes, 0);
        if (len <= 0 || !fw_packet_read(child.bytes, (size_t)len, &packet, why, sizeof why)) {
            return 1;
        }
        if (packet.type == FW_PACKET_CLOSE) {
            return 0;
        }
        child.id = packet.id;
        fila_view body = packet.run.body;
        if (body.len >= 3 && !memcmp(body.data + body.len - 3, "bad", 3)) {
            row->act(&child);
        } else {
            send_result(&child, child.id, FW_ACK, NULL);
        }
    }
}

/* ---- The host ---- */

static struct {
    const char *plugin;
    struct fw_executor *executor;
    struct fw_done_list done;
    sem_t woken;
} test;

static void wake(void *user)
{
    (void)user;
    (void)sem_post(&test.woken);
}

static int open_descriptors(void)
{
    int count = 0;
    DIR *folder = opendir("/proc/self/fd");
    while (folder && readdir(folder)) {
        count++;
    }
    (void)closedir(folder);
    return count;
}

static bool start(const struct row *row)
{
    fila_error error = FILA_ERROR_INIT;
    const struct fw_process_options process = {
        .handler = test.plugin,
        .grace = row->timeout_ms ? FILA_S / 5 : 60 * FILA_S,
        .first_backoff = 20 * FILA_MS,
    };
    const struct fw_executor_options options = {
        .queue = "orders",
        .process = &process,
        .concurrency = 1,
        .done = &test.done,
        .start_timeout = row->act == do_stop && row->when == AT_START ? FILA_S / 2 : 0,
    };
    if (!fw_executor_start(&options, &test.executor, &error)) {
        CHECK(row->outcome != REFUSED);
        return true;
    }
    if (row->outcome != REFUSED || !strstr(error.text, row->says)) {
        (void)fprintf(stderr, "%s: %s\n", row->name, error.text);
        exit(1);
    }
    return false;
}

static void run(const char *payload, int timeout_ms, struct fw_job *ret_job)
{
    const struct fila_message_fields fields = {
        .id = fila_view_of("019a0000-0000-7000-8000-000000000001"),
        .queue = fila_view_of("orders"),
        .payload = fila_view_of(payload),
    };
    *ret_job = (struct fw_job){
        .message = fila_message_make(&fields, NULL, NULL),
        .attempt = 1,
        .deadline = fila_now() + (timeout_ms ? timeout_ms : 60000) * FILA_MS,
    };
    CHECK(ret_job->message);
    fw_executor_submit(test.executor, ret_job);
    while (!fw_done_take(&test.done)) {
        if (fw_done_sleep_begin(&test.done)) {
            while (sem_wait(&test.woken) && errno == EINTR) {
            }
        }
        fw_done_sleep_end(&test.done);
    }
    fw_job_free_message(ret_job);
}

static bool is_as(enum outcome outcome, const struct fw_job *job)
{
    switch (outcome) {
    case ACK:
        return job->verdict.kind == FW_ACK;
    case REJECT:
        return job->verdict.kind == FW_REJECT;
    case CRASH:
        return job->verdict.kind == FW_RETRY && job->verdict.cause == FW_CAUSE_CRASH;
    case TIMEOUT:
        return job->verdict.kind == FW_RETRY && job->verdict.cause == FW_CAUSE_TIMEOUT;
    case LATE:
        return job->verdict.started == 0 || job->verdict.cause == FW_CAUSE_TIMEOUT;
    default:
        return true;
    }
}

static void run_row(size_t index, unsigned seed)
{
    const struct row *row = &ROWS[index];
    char number[16];
    struct fw_job job;
    (void)snprintf(number, sizeof number, "%zu", index);
    (void)setenv("FILA_HOSTILE", number, 1);
    (void)snprintf(number, sizeof number, "%u", seed);
    (void)setenv("FILA_SEED", number, 1);
    int before = open_descriptors();
    if (start(row)) {
        run("good", 0, &job);
        CHECK(job.verdict.kind == FW_ACK);
        free(job.reason);
        int idle = open_descriptors();
        run("bad", row->timeout_ms, &job);
        const char *reason = job.reason ? job.reason : "";
        if (!is_as(row->outcome, &job) || (row->says && !strstr(reason, row->says))) {
            (void)fprintf(
                stderr, "%s: verdict %d, cause %d: %s\n", row->name, (int)job.verdict.kind,
                (int)job.verdict.cause, reason);
            exit(1);
        }
        CHECK(row->outcome != ACK || open_descriptors() == idle);
        do { /* one that answered early, and goes on with its nonsense, has it first */
            free(job.reason);
            run("good", 0, &job);
        } while (row->outcome == ANY && job.verdict.cause == FW_CAUSE_CRASH);
        CHECK(job.verdict.kind == FW_ACK);
        free(job.reason);
        CHECK(fw_executor_stop(test.executor, fila_now() + 30 * FILA_S));
    }
    CHECK(open_descriptors() == before);
}

/* What it logged and printed, as one line each, with nothing that a terminal or a parser obeys. */
static void check_log(const char *path)
{
    char text[65536];
    FILE *file = fopen(path, "r");
    CHECK(file);
    size_t len = fread(text, 1, sizeof text - 1, file);
    text[len] = '\0';
    (void)fclose(file);
    CHECK(strlen(text) == len && !strchr(text, '\033') && !strchr(text, '\r'));
    CHECK(strstr(
        text, "before\xef\xbf\xbd"
              "after \\u001b[31mred"));
    CHECK(strstr(text, "zero\xef\xbf\xbdone \\u001b[2J"));
    CHECK(!strstr(text, "\n{\"event\""));
}

int main(int argc, char **argv)
{
    char path[] = "/tmp/fila-hostile-XXXXXX";
    if (argc == 3 && !strcmp(argv[1], "__handler")) {
        return hostile_main(argv);
    }
    CHECK(argc >= 2);
    unsigned rounds = argc > 2 ? (unsigned)strtoul(argv[2], NULL, 10) : 20;
    test.plugin = argv[1];
    test.done.wake = wake;
    (void)sem_init(&test.woken, 0, 0);
    int errors = dup(STDERR_FILENO);
    int log = mkstemp(path);
    CHECK(errors >= 0 && log >= 0);
    fw_log_init(FW_LOG_INFO, FW_LOG_JSON);
    for (size_t i = 0; i < ROW_COUNT; i++) {
        int64_t began = fila_now();
        bool logs = ROWS[i].act == do_log;
        (void)dup2(logs ? log : errors, STDERR_FILENO);
        fw_log_set_level(logs ? FW_LOG_INFO : FW_LOG_OFF);
        for (unsigned seed = 0; seed < (ROWS[i].act == do_random ? rounds : 1); seed++) {
            run_row(i, seed);
        }
        fw_log_flush();
        (void)printf("%-16s %5d ms\n", ROWS[i].name, (int)((fila_now() - began) / FILA_MS));
        (void)fflush(stdout);
    }
    check_log(path);
    (void)unlink(path);
    (void)printf("%d rows\n", (int)ROW_COUNT);
    return 0;
}

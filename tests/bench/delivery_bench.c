/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * What the delivery engine costs a message: read, run, verdict, ack, answer, with 64 acks under
 * way. Prints nanoseconds and, where the machine counts them, instructions a message; fails if it
 * takes memory in its steady state.
 */
#include "base/clock.h"
#include "delivery/delivery.h"

#include <linux/perf_event.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
    MESSAGES = 1000000,
    WARM_UP = 100000,
    SLOTS = 8,
    UNDER_WAY = 64
};

struct bench {
    struct fw_delivery *engine;
    int64_t now;
    uint64_t next_id;
    uint64_t read;
    uint64_t done;
    uint32_t credits;
    uint32_t free_users;
    char *users[512];
    char *running[SLOTS * 2];
    uint32_t run_count;
    char *acking[512];
    uint32_t ack_head;
    uint32_t ack_tail;
};

static int open_counter(void)
{
    struct perf_event_attr attr = {
        .type = PERF_TYPE_HARDWARE,
        .size = sizeof(attr),
        .config = PERF_COUNT_HW_INSTRUCTIONS,
        .exclude_kernel = 1,
        .exclude_hv = 1,
    };
    return (int)syscall(SYS_perf_event_open, &attr, 0, -1, -1, 0);
}

static uint64_t count_of(int fd)
{
    uint64_t count = 0;
    if (fd < 0 || read(fd, &count, sizeof(count)) != (ssize_t)sizeof(count)) {
        return 0;
    }
    return count;
}

static void obey(struct bench *b, const struct fw_command *command)
{
    switch (command->kind) {
    case FW_COMMAND_RUN:
        b->running[b->run_count++] = command->user;
        break;
    case FW_COMMAND_ACK:
        b->acking[b->ack_tail++ % 512] = command->user;
        break;
    case FW_COMMAND_GRANT:
        b->credits += command->credits;
        break;
    case FW_COMMAND_FINISH:
        b->users[b->free_users++] = command->user;
        b->done++;
        break;
    default:
        break;
    }
}

static void take(struct bench *b)
{
    struct fw_command command;
    while (fw_delivery_next(b->engine, &command)) {
        obey(b, &command);
    }
}

static void read_one(struct bench *b)
{
    char id[] = "01890000-0000-7000-8000-000000000000";
    for (size_t i = sizeof(id) - 2, n = b->next_id; n > 0; n /= 16, i--) {
        id[i] = "0123456789abcdef"[n % 16];
    }
    b->next_id++;
    struct fw_arrival arrival = {
        .user = b->users[--b->free_users],
        .queue = "orders",
        .queue_len = 6,
        .id = id,
        .id_len = sizeof(id) - 1,
        .size = 1024,
        .wire_size = 1024,
        .waiting_since = b->now,
    };
    b->credits--;
    b->read++;
    fw_delivery_message(b->engine, b->now, 0, &arrival);
    take(b);
}

static void run_all(struct bench *b)
{
    struct fw_verdict verdict = {.kind = FW_ACK, .started = b->now - FILA_MS, .ended = b->now};
    while (b->run_count > 0) {
        fw_delivery_verdict(b->engine, b->now, b->running[--b->run_count], &verdict);
        take(b);
    }
}

static void answer_all(struct bench *b)
{
    while (b->ack_tail - b->ack_head > UNDER_WAY) {
        char *user = b->acking[b->ack_head++ % 512];
        fw_delivery_settled(b->engine, b->now, user, FW_SETTLED_OK, FILA_MS);
        take(b);
    }
}

static void work(struct bench *b, uint64_t messages)
{
    uint64_t until = b->done + messages;
    while (b->done < until) {
        b->now += 20 * FILA_US;
        while (b->credits > 0) {
            read_one(b);
        }
        run_all(b);
        answer_all(b);
        if (fw_delivery_wake_at(b->engine) <= b->now) {
            fw_delivery_timer(b->engine, b->now);
            take(b);
        }
    }
}

int main(int argc, char **argv)
{
    uint64_t messages = argc > 1 ? strtoull(argv[1], NULL, 10) : MESSAGES;
    struct fw_delivery_config config = {
        .visibility_timeout = 30 * FILA_S,
        .concurrency = SLOTS,
        .streams = 1,
        .retry_attempts = 5,
        .retry_first = FILA_S,
        .retry_max = 60 * FILA_S,
        .breaker_failures = 10,
        .breaker_probe = 5 * FILA_S,
        .breaker_max = 120 * FILA_S,
        .seed = 1,
    };
    struct fw_pipe pipe = {.slots = 130, .bytes = 65536, .window = 16384, .round_trip = FILA_MS};
    static char memory[512];
    static struct bench b;
    b.now = 1000 * FILA_S;
    for (size_t i = 0; i < sizeof(memory); i++) {
        b.users[b.free_users++] = &memory[i];
    }
    b.engine = fw_delivery_new(&config, b.now);
    if (b.engine == NULL) {
        return 1;
    }
    take(&b);
    fw_delivery_stream_open(b.engine, b.now, 0, &pipe);
    take(&b);
    work(&b, WARM_UP);

    size_t memory_before = mallinfo2().uordblks;
    int counter = open_counter();
    uint64_t instructions = count_of(counter);
    int64_t start = fila_now();
    work(&b, messages);
    int64_t took = fila_now() - start;
    instructions = count_of(counter) - instructions;
    size_t memory_after = mallinfo2().uordblks;

    printf("delivery engine: %.0f ns a message", (double)took / (double)messages);
    if (counter >= 0) {
        printf(", %.0f instructions", (double)instructions / (double)messages);
    }
    printf(", %zd bytes taken in the steady state\n", (ssize_t)(memory_after - memory_before));
    fw_delivery_free(b.engine);
    return memory_after > memory_before ? 1 : 0;
}

/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * A client that keeps to the rules beside others that flood, stall or send rubbish: each of its
 * calls is done, none refused. (What share it gets of the server: test_abuse.c.)
 */
#include "server/h2_socket.h"
#include "server/raw_client.h"

#include <fila/broker.h>

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

/* With an empty SETTINGS frame; the server may have closed the connection by then. */
static const char PREFACE[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0";
static const char ENQUEUE[] = "/fila.v1.FilaService/Enqueue";

enum {
    POLITE_IN_FLIGHT = 16,
    POLITE_CALLS = 300
};

#define MUST(holds, ...)                                          \
    do {                                                          \
        if (!(holds)) {                                           \
            (void)fprintf(stderr, "%s:%d: ", __FILE__, __LINE__); \
            (void)fprintf(stderr, __VA_ARGS__);                   \
            (void)fputc('\n', stderr);                            \
            abort();                                              \
        }                                                         \
    } while (0)

static fila_broker *broker;
static struct raw_client *polite;
static atomic_bool over;

static fila_request enqueue_request(const char *queue)
{
    return (fila_request){
        .call = FILA_CALL_ENQUEUE,
        .timeout_ms = 300000,
        .as.enqueue = {.queue = fila_view_of(queue), .payload = {"0123456789", 10}}};
}

static void create(const char *queue)
{
    fila_request request = {
        .call = FILA_CALL_CREATE_QUEUE, .as.create_queue.name = fila_view_of(queue)};
    struct raw_end end = raw_request(polite, &request);
    MUST(end.code == 0, "CreateQueue: %d %s", end.code, end.text);
    raw_end_free(&end);
}

static void open_broker(void)
{
    fila_broker_options options = FILA_BROKER_OPTIONS_INIT;
    fila_error error;
    options.listen = "127.0.0.1:0";
    MUST(fila_broker_open(&options, &broker, &error) == FILA_OK, "%s", error.text);
    atomic_store(&over, false);
    polite = raw_open_lean(fila_broker_port(broker));
    create("polite");
    create("greedy");
}

static void close_broker(void)
{
    raw_close(polite);
    fila_broker_free(broker);
}

/* ---- The others ---- */

/* Keeps 1,000 calls in flight. */
static void *flood(void *arg)
{
    (void)arg;
    const size_t in_flight = 1000;
    struct raw_client *client = raw_open_lean(fila_broker_port(broker));
    struct raw_call **calls = calloc(in_flight, sizeof(struct raw_call *));
    fila_request request = enqueue_request("greedy");
    size_t at = 0;
    for (; calls && !atomic_load(&over); at = (at + 1) % in_flight) {
        if (calls[at]) {
            struct raw_end end = raw_finish(calls[at]);
            raw_end_free(&end);
        }
        calls[at] = raw_start_request(client, &request);
    }
    for (size_t i = 0; calls && i < in_flight; i++) {
        if (calls[i]) {
            raw_cancel(calls[i]);
            struct raw_end end = raw_finish(calls[i]);
            raw_end_free(&end);
        }
    }
    raw_close(client);
    free(calls);
    return NULL;
}

/* Sends requests and reads no answer, on a few connections, one after the other. */
static void *flood_blindly(void *arg)
{
    (void)arg;
    for (int round = 0; round < 4 && !atomic_load(&over); round++) {
        int fd = tcp_connect(fila_broker_port(broker));
        struct pollfd writable = {.fd = fd, .events = POLLOUT};
        (void)!send(fd, PREFACE, sizeof PREFACE - 1, MSG_NOSIGNAL);
        for (uint32_t i = 0; i < 10000 && !atomic_load(&over); i++) {
            if (poll(&writable, 1, 100) == 1 &&
                !h2_request(fd, 2 * i + 1, ENQUEUE, "\x0a\x06greedy", 8)) {
                break;
            }
        }
        (void)close(fd);
    }
    return NULL;
}

/* Opens streams and never reads. */
static void *stall(void *arg)
{
    enum {
        STREAMS = 100
    };

    struct raw_call *calls[STREAMS];
    struct raw_client *client = raw_open_window(fila_broker_port(broker), 0);
    (void)arg;
    for (int i = 0; i < STREAMS; i++) {
        calls[i] = raw_consume(client, "greedy");
    }
    while (!atomic_load(&over)) {
        struct timespec pause = {.tv_nsec = 10000000};
        (void)nanosleep(&pause, NULL);
    }
    for (int i = 0; i < STREAMS; i++) {
        raw_cancel(calls[i]);
        struct raw_end end = raw_finish(calls[i]);
        raw_end_free(&end);
    }
    raw_close(client);
    return NULL;
}

/* Other protocols, broken frames, undecodable bodies, and connections broken off. */
static void *send_rubbish(void *arg)
{
    static const char *const noise[] = {
        "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        "\x16\x03\x01\x02\x03\x01\x02\x03\xfc\x03\x03"};
    (void)arg;
    for (unsigned round = 0; round < 100 && !atomic_load(&over); round++) {
        const char *text = noise[round % 3];
        int fd = tcp_connect(fila_broker_port(broker));
        (void)!send(fd, text, strlen(text), MSG_NOSIGNAL);
        (void)close(fd);
        fd = tcp_connect(fila_broker_port(broker));
        (void)!send(fd, PREFACE, sizeof PREFACE - 1, MSG_NOSIGNAL);
        for (uint32_t i = 0; i < 50; i++) {
            if (!h2_request(fd, 2 * i + 1, ENQUEUE, "\xff\xff\xff\xff", 4)) {
                break;
            }
        }
        (void)close(fd);
    }
    return NULL;
}

/* ---- The one who keeps to the rules ---- */

static void be_polite(void)
{
    struct raw_call *calls[POLITE_IN_FLIGHT] = {NULL};
    fila_request request = enqueue_request("polite");
    for (int i = 0; i < POLITE_CALLS + POLITE_IN_FLIGHT; i++) {
        struct raw_call **call = &calls[i % POLITE_IN_FLIGHT];
        if (*call) {
            struct raw_end end = raw_finish(*call);
            MUST(end.code == 0, "call %d: %d %s", i, end.code, end.text);
            raw_end_free(&end);
        }
        *call = i < POLITE_CALLS ? raw_start_request(polite, &request) : NULL;
    }
}

/* Each call must be done, none refused: during it, and after. */
static void beside(void *(*other)(void *), int count)
{
    pthread_t threads[4];
    open_broker();
    for (int i = 0; i < count; i++) {
        MUST(pthread_create(&threads[i], NULL, other, NULL) == 0, "no thread");
    }
    be_polite();
    atomic_store(&over, true);
    for (int i = 0; i < count; i++) {
        (void)pthread_join(threads[i], NULL);
    }
    be_polite();
    close_broker();
}

int main(void)
{
    (void)setvbuf(stdout, NULL, _IOLBF, 0);
    (void)puts("beside two who keep 1,000 calls in flight");
    beside(flood, 2);
    (void)puts("beside two who read no answer");
    beside(flood_blindly, 2);
    (void)puts("beside 200 stalled streams");
    beside(stall, 2);
    (void)puts("beside two who send rubbish");
    beside(send_rubbish, 2);
    return 0;
}

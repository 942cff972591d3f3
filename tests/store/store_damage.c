/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * A broker's file with bytes changed at random, cut, or made longer, together with its log or
 * without: it is opened, and then all is in order, or it is refused with what to do, and then no
 * byte of it has changed. Never does the broker crash or hang.
 *
 *     store_damage [ROUNDS [SEED]]
 */
#include "base/clock.h"
#include "broker/store.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[] = "/tmp/store_damage_XXXXXX";
static char path[2][64]; /* the file and its log */
static uint64_t random_state;

struct bytes {
    char *data;
    size_t len;
};

static void must(bool holds, const char *what)
{
    if (!holds) {
        fprintf(stderr, "store_damage: %s\n", what);
        abort();
    }
}

static uint32_t pick(uint32_t below)
{
    random_state = random_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)((random_state >> 33) % below);
}

static struct bytes read_all(const char *name)
{
    struct stat about;
    struct bytes bytes = {NULL, 0};
    int fd = open(name, O_RDONLY);
    if (fd < 0) {
        return bytes;
    }
    must(fstat(fd, &about) == 0, "stat");
    bytes.len = (size_t)about.st_size;
    bytes.data = malloc(bytes.len + 8192);
    must(bytes.data && read(fd, bytes.data, bytes.len) == (ssize_t)bytes.len, "read");
    (void)close(fd);
    return bytes;
}

static void write_all(const char *name, const struct bytes *bytes)
{
    int fd = open(name, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    must(fd >= 0 && write(fd, bytes->data, bytes->len) == (ssize_t)bytes->len, "write");
    (void)close(fd);
}

static int64_t to_wall(void)
{
    return fila_wall_ms() * FILA_MS - fila_now();
}

/* ---- The broker, without its threads ---- */

static struct fq_engine *engine_new(void)
{
    struct fq_config config = FQ_CONFIG_INIT;
    struct fq_engine *engine = fq_new(&config, fila_now());
    must(engine != NULL, "memory");
    fq_journal_start(engine);
    return engine;
}

static void commit(struct fb_store *store, struct fq_engine *engine)
{
    struct fq_group group = FQ_GROUP_INIT;
    fila_error error;
    if (fq_journal_take(engine, &group)) {
        must(fb_store_write(store, &group, to_wall(), &error) == FILA_OK, "a group");
        fq_journal_durable(engine, group.number);
    }
    fq_group_free(&group);
}

static void work(struct fb_store *store, struct fq_engine *engine)
{
    static char payload[6000];
    fila_header header = {fila_view_of("key"), fila_view_of("value")};
    struct fq_enqueue in = {fila_view_of("q"), &header, 1, {payload, 0}};
    struct fq_consumer *consumer;
    struct fq_delivery delivery;
    must(fq_create_queue(engine, fila_now(), in.queue, NULL) == FILA_OK, "a queue");
    must(
        fq_set_config(engine, fila_now(), fila_view_of("throttle.a"), fila_view_of("1,2")) ==
            FILA_OK,
        "a setting");
    for (int i = 0; i < 400; i++) {
        in.payload.len = i % 40 ? pick(300) : sizeof payload;
        must(fq_enqueue(engine, fila_now(), fila_wall_ms(), &in, NULL) == FILA_OK, "a message");
        if (i % 50 == 0) {
            commit(store, engine);
        }
    }
    must(fq_consumer_open(engine, fila_now(), in.queue, NULL, &consumer) == FILA_OK, "a stream");
    commit(store, engine);
    for (int i = 0; i < 60 && fq_take(consumer, &delivery); i++) {
        if (i % 3 == 0) {
            must(fq_ack(engine, fila_now(), in.queue, delivery.fields.id) == FILA_OK, "an ack");
        }
        fq_delivery_release(&delivery);
    }
    commit(store, engine);
}

/* Makes a good file, and a copy of it from before it was closed: with its log. */
static void make(struct bytes good[2], struct bytes with_log[2])
{
    struct fq_engine *engine = engine_new();
    struct fb_store_load load = {.engine = engine, .now = fila_now(), .to_wall = to_wall()};
    struct fb_store *store;
    fila_error error;
    must(fb_store_open(path[0], FILA_SYNC_NORMAL, &store, &error) == FILA_OK, error.text);
    must(fb_store_load(store, &load, &error) == FILA_OK, error.text);
    work(store, engine);
    with_log[0] = read_all(path[0]);
    with_log[1] = read_all(path[1]);
    fb_store_close(store);
    fq_free(engine);
    good[0] = read_all(path[0]);
    good[1] = read_all(path[1]);
    must(good[0].len > 4096 * 20 && good[1].len == 0, "a file of some size, without a log");
    must(with_log[1].len > 4096 * 20, "a log of some size");
}

/* ---- Damage ---- */

static void damage(struct bytes *bytes)
{
    uint32_t at = pick((uint32_t)bytes->len);
    switch (pick(5)) {
    case 0: /* one byte */
        bytes->data[at] = (char)pick(256);
        break;
    case 1: /* some here and there */
        for (uint32_t n = pick(30); n > 0; n--) {
            bytes->data[pick((uint32_t)bytes->len)] ^= (char)(1 << pick(8));
        }
        break;
    case 2: /* a stretch of nothing */
        at = at / 512 * 512;
        memset(bytes->data + at, 0, bytes->len - at < 2048 ? bytes->len - at : 2048);
        break;
    case 3: /* cut */
        bytes->len = at;
        break;
    default: /* something behind it */
        memset(bytes->data + bytes->len, (int)pick(256), 8192);
        bytes->len += 1 + pick(8191);
        break;
    }
}

/* Opens it; true if that worked. */
static bool try_open(void)
{
    struct fq_engine *engine = engine_new();
    struct fb_store_load load = {.engine = engine, .now = fila_now(), .to_wall = to_wall()};
    struct fb_store *store = NULL;
    fila_error error;
    bool opened;
    memset(&error, 0, sizeof error);
    opened = fb_store_open(path[0], FILA_SYNC_NORMAL, &store, &error) == FILA_OK &&
             fb_store_load(store, &load, &error) == FILA_OK;
    must(opened || strstr(error.text, path[0]), "a refusal names the file");
    must(!opened || !fq_check(engine), "what was opened is in order");
    fb_store_close(store);
    fq_free(engine);
    return opened;
}

static void check_unchanged(const struct bytes now[2])
{
    for (int i = 0; i < 2; i++) {
        struct bytes after = read_all(path[i]);
        must(after.len == now[i].len, "a refused file has another length");
        must(
            after.len == 0 || memcmp(after.data, now[i].data, after.len) == 0,
            "a refused file was changed");
        free(after.data);
    }
}

static bool one_round(const struct bytes from[2])
{
    struct bytes now[2];
    bool opened;
    int hurt = from[1].len && pick(2) ? 1 : 0;
    for (int i = 0; i < 2; i++) {
        now[i].len = from[i].len;
        now[i].data = malloc(now[i].len + 8192);
        must(now[i].data != NULL, "memory");
        if (now[i].len) {
            memcpy(now[i].data, from[i].data, now[i].len);
        }
    }
    damage(&now[hurt]);
    for (int i = 0; i < 2; i++) {
        (void)unlink(path[i]);
        if (now[i].len || i == 0) {
            write_all(path[i], &now[i]);
        }
    }
    opened = try_open();
    if (!opened) {
        check_unchanged(now);
    }
    free(now[0].data);
    free(now[1].data);
    return opened;
}

int main(int argc, char **argv)
{
    unsigned long rounds = argc > 1 ? strtoul(argv[1], NULL, 10) : 200;
    unsigned long opened = 0;
    struct bytes good[2];
    struct bytes with_log[2];
    random_state = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;
    must(mkdtemp(folder) != NULL, "a folder");
    (void)snprintf(path[0], sizeof path[0], "%s/broker.db", folder);
    (void)snprintf(path[1], sizeof path[1], "%s/broker.db-wal", folder);
    make(good, with_log);
    for (unsigned long i = 0; i < rounds; i++) {
        opened += one_round(i % 2 ? with_log : good);
    }
    for (int i = 0; i < 2; i++) {
        (void)unlink(path[i]);
        free(good[i].data);
        free(with_log[i].data);
    }
    (void)rmdir(folder);
    printf("%lu rounds: %lu opened, %lu refused\n", rounds, opened, rounds - opened);
    return 0;
}

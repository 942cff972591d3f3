/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "journal/crash.h"

#include "base/error.h"
#include "journal/boot.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <zlib.h>

enum {
    SLOTS = FW_CRASH_RUNS + FW_CRASH_SUSPECTS,
    FILE_SIZE = FW_CRASH_HEAD + SLOTS * FW_CRASH_SLOT
};

static const char MAGIC[8] = "FILARUN1";

/* Of a slot; any other number is damage. */
enum {
    FREE = 0,
    RUNNING = 0x52554e31,
    ALONE = 0x414c4f31,
    SUSPECT = 0x53555331
};

struct slot {
    _Atomic(uint32_t) state; /* written last, cleared first */
    uint32_t sum;            /* crc32 of what follows */
    uint32_t crashes;
    uint16_t served;
    uint16_t queue;
    uint16_t id;
    uint16_t unused;
    char names[FW_CRASH_NAMES];
};

_Static_assert(sizeof(struct slot) == FW_CRASH_SLOT, "slots fill the file");

struct head {
    char magic[8];
    uint8_t boot[FW_BOOT_SIZE];
};

struct fw_crash {
    uint8_t *file; /* FILE_SIZE bytes, mapped */
    struct slot *slots;
    uint32_t free_count;
    uint32_t suspects;               /* left */
    uint16_t free[FW_CRASH_RUNS];    /* a stack */
    uint16_t accused[FW_CRASH_RUNS]; /* by run: 1 + the suspect that it is, 0 = none */
};

static uint32_t sum_of(const struct slot *slot)
{
    const unsigned char *from = (const unsigned char *)&slot->crashes;
    return (uint32_t)crc32(
        crc32(0, NULL, 0), from, FW_CRASH_SLOT - (unsigned)offsetof(struct slot, crashes));
}

static bool fill(struct slot *slot, uint32_t state, const struct fw_crash_suspect *s)
{
    if (s->served.len + s->queue.len + s->id.len > FW_CRASH_NAMES) {
        return false;
    }
    slot->crashes = s->crashes;
    slot->served = (uint16_t)s->served.len;
    slot->queue = (uint16_t)s->queue.len;
    slot->id = (uint16_t)s->id.len;
    slot->unused = 0;
    memset(slot->names, 0, sizeof(slot->names));
    char *at = slot->names;
    const fila_view names[] = {s->served, s->queue, s->id};
    for (size_t i = 0; i < 3; i++) {
        if (names[i].len > 0) {
            memcpy(at, names[i].data, names[i].len);
        }
        at += names[i].len;
    }
    slot->sum = sum_of(slot);
    atomic_store_explicit(&slot->state, state, memory_order_release);
    return true;
}

/* False: it is not what fill wrote. */
static bool read_slot(const struct slot *slot, struct fw_crash_suspect *ret)
{
    size_t names = (size_t)slot->served + slot->queue + slot->id;
    if (names > FW_CRASH_NAMES || slot->sum != sum_of(slot)) {
        return false;
    }
    const char *at = slot->names;
    *ret = (struct fw_crash_suspect){
        .served = {at, slot->served},
        .queue = {at + slot->served, slot->queue},
        .id = {at + slot->served + slot->queue, slot->id},
        .crashes = slot->crashes,
    };
    return true;
}

static bool same_text(fila_view a, fila_view b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

static bool same(const struct fw_crash_suspect *a, const struct fw_crash_suspect *b)
{
    return same_text(a->id, b->id) && same_text(a->queue, b->queue) &&
           same_text(a->served, b->served);
}

/* ---- What the last process left ---- */

struct findings {
    struct fw_crash_suspect *suspects;
    uint32_t count;
    uint32_t room;
    struct fw_crash_report *report;
};

static void accuse(struct findings *f, const struct fw_crash_suspect *found)
{
    for (uint32_t i = 0; i < f->count; i++) {
        if (same(&f->suspects[i], found)) {
            f->suspects[i].crashes += found->crashes;
            return;
        }
    }
    if (f->count == f->room) {
        f->report->dropped++;
        return;
    }
    f->suspects[f->count++] = *found;
}

/* A run's own number of crashes in its slot is 0: the suspect that it is has them. */
static void look_at(struct findings *f, const struct slot *slot, bool same_boot)
{
    struct fw_crash_suspect found;
    uint32_t state = atomic_load_explicit(&slot->state, memory_order_acquire);
    if (state == FREE) {
        return;
    }
    if ((state != RUNNING && state != ALONE && state != SUSPECT) || !read_slot(slot, &found)) {
        f->report->dropped++;
        return;
    }
    bool runs = state != SUSPECT;
    f->report->running += runs;
    if (runs && !same_boot) { /* the machine went down, and took it along */
        return;
    }
    found.crashes = runs ? state == ALONE : found.crashes;
    accuse(f, &found);
}

uint32_t fw_crash_parse(
    const uint8_t *data,
    size_t size,
    const uint8_t boot[FW_BOOT_SIZE],
    struct fw_crash_suspect *ret_suspects,
    uint32_t room,
    struct fw_crash_report *ret_report)
{
    *ret_report = (struct fw_crash_report){0};
    const struct head *head = (const struct head *)(const void *)data;
    if (size < FILE_SIZE || memcmp(head->magic, MAGIC, sizeof(MAGIC)) != 0) {
        ret_report->dropped = size > 0;
        return 0;
    }
    struct findings f = {.suspects = ret_suspects, .room = room, .report = ret_report};
    const struct slot *slots = (const struct slot *)(const void *)(data + FW_CRASH_HEAD);
    bool same_boot = memcmp(head->boot, boot, FW_BOOT_SIZE) == 0;
    for (uint32_t i = 0; i < FW_CRASH_SUSPECTS; i++) {
        look_at(&f, &slots[FW_CRASH_RUNS + i], same_boot);
    }
    for (uint32_t i = 0; i < FW_CRASH_RUNS; i++) {
        look_at(&f, &slots[i], same_boot);
    }
    for (uint32_t i = 0; i < f.count; i++) {
        ret_report->convicted += ret_suspects[i].crashes >= FW_CRASHES_ENOUGH;
    }
    ret_report->suspects = f.count;
    return f.count;
}

/* ---- Opening ---- */

/* The bytes of the old file; NULL when there is none that can be read. */
static uint8_t *read_old(const char *path, size_t *ret_size)
{
    uint8_t *data = NULL;
    *ret_size = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return NULL;
    }
    if (posix_memalign((void **)&data, 64, FILE_SIZE) == 0) {
        memset(data, 0, FILE_SIZE);
        ssize_t n;
        while (*ret_size < FILE_SIZE &&
               (n = read(fd, data + *ret_size, FILE_SIZE - *ret_size)) > 0) {
            *ret_size += (size_t)n;
        }
    }
    (void)close(fd);
    return data;
}

static fila_status map_new(const char *path, uint8_t **ret_file, fila_error *reterr)
{
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0) {
        return fila_fail(
            reterr, FILA_INVALID_ARGUMENT, "cannot make \"%s\": %s", path, strerrordesc_np(errno));
    }
    int wrong = posix_fallocate(fd, 0, FILE_SIZE);
    void *file = MAP_FAILED;
    if (wrong == 0) {
        file = mmap(NULL, FILE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        wrong = file == MAP_FAILED ? errno : 0;
    }
    (void)close(fd);
    if (wrong != 0) {
        return fila_fail(
            reterr, FILA_INVALID_ARGUMENT, "cannot make \"%s\": %s", path, strerrordesc_np(wrong));
    }
    *ret_file = file;
    return FILA_OK;
}

static void write_suspects(
    struct fw_crash *crash,
    const struct fw_crash_suspect *suspects,
    uint32_t count)
{
    struct head *head = (struct head *)(void *)crash->file;
    struct fw_boot boot = fw_boot_now();
    if (head == NULL) {
        return;
    }
    memcpy(head->boot, boot.id, sizeof(head->boot));
    for (uint32_t i = 0; i < count; i++) {
        (void)fill(&crash->slots[FW_CRASH_RUNS + i], SUSPECT, &suspects[i]);
    }
    memcpy(head->magic, MAGIC, sizeof(MAGIC));
    crash->suspects = count;
    for (uint32_t i = 0; i < FW_CRASH_RUNS; i++) {
        crash->free[i] = (uint16_t)(FW_CRASH_RUNS - 1 - i);
    }
    crash->free_count = FW_CRASH_RUNS;
}

/* The new file takes the place of the old one when it has all that counts. */
static fila_status make_new(
    struct fw_crash *crash,
    const char *dir,
    const struct fw_crash_suspect *suspects,
    uint32_t count,
    fila_error *reterr)
{
    char path[PATH_MAX];
    char new_path[PATH_MAX];
    if (snprintf(path, sizeof(path), "%s/running", dir) >= (int)sizeof(path) ||
        snprintf(new_path, sizeof(new_path), "%s/running.new", dir) >= (int)sizeof(new_path)) {
        return fila_fail(reterr, FILA_INVALID_ARGUMENT, "the path of state_dir is too long");
    }
    fila_status status = map_new(new_path, &crash->file, reterr);
    if (status != FILA_OK) {
        (void)unlink(new_path);
        return status;
    }
    crash->slots = (struct slot *)(void *)(crash->file + FW_CRASH_HEAD);
    write_suspects(crash, suspects, count);
    if (msync(crash->file, FILE_SIZE, MS_SYNC) != 0 || rename(new_path, path) != 0) {
        status = fila_fail(
            reterr, FILA_INVALID_ARGUMENT, "cannot write \"%s\": %s", path, strerrordesc_np(errno));
        (void)unlink(new_path);
        (void)munmap(crash->file, FILE_SIZE);
    }
    return status;
}

fila_status fw_crash_open(
    const char *dir,
    struct fw_crash **ret_crash,
    struct fw_crash_report *ret_report,
    fila_error *reterr)
{
    char path[PATH_MAX];
    size_t size = 0;
    struct fw_boot boot = fw_boot_now();
    struct fw_crash_suspect *suspects = calloc(FW_CRASH_SUSPECTS, sizeof(*suspects));
    struct fw_crash *crash = calloc(1, sizeof(*crash));
    *ret_report = (struct fw_crash_report){0};
    if (suspects == NULL || crash == NULL ||
        snprintf(path, sizeof(path), "%s/running", dir) >= (int)sizeof(path)) {
        free(suspects);
        free(crash);
        return fila_fail(reterr, FILA_NO_MEMORY, "no memory for the crash record");
    }
    uint8_t *old = read_old(path, &size);
    uint32_t count =
        old == NULL ? 0
                    : fw_crash_parse(old, size, boot.id, suspects, FW_CRASH_SUSPECTS, ret_report);
    fila_status status = make_new(crash, dir, suspects, count, reterr);
    free(old);
    free(suspects);
    if (status != FILA_OK) {
        free(crash);
        return status;
    }
    *ret_crash = crash;
    return FILA_OK;
}

void fw_crash_close(struct fw_crash *crash)
{
    if (crash == NULL) {
        return;
    }
    for (uint32_t i = 0; i < FW_CRASH_RUNS; i++) {
        atomic_store_explicit(&crash->slots[i].state, FREE, memory_order_release);
    }
    (void)munmap(crash->file, FILE_SIZE);
    free(crash);
}

/* ---- Runs ---- */

bool fw_crash_next(const struct fw_crash *crash, uint32_t *at, struct fw_crash_suspect *ret_suspect)
{
    while (crash->suspects > 0 && *at < FW_CRASH_SUSPECTS) {
        const struct slot *slot = &crash->slots[FW_CRASH_RUNS + (*at)++];
        if (atomic_load_explicit(&slot->state, memory_order_relaxed) == SUSPECT &&
            read_slot(slot, ret_suspect)) {
            return true;
        }
    }
    return false;
}

/* 1 + its place among the suspects, 0 = it is none. */
static uint16_t find(const struct fw_crash *crash, const struct fw_crash_suspect *wanted)
{
    struct fw_crash_suspect suspect;
    uint32_t at = 0;
    while (fw_crash_next(crash, &at, &suspect)) {
        if (same(&suspect, wanted)) {
            return (uint16_t)at;
        }
    }
    return 0;
}

static void acquit(struct fw_crash *crash, uint16_t place)
{
    if (place != 0) {
        struct slot *slot = &crash->slots[FW_CRASH_RUNS + place - 1];
        atomic_store_explicit(&slot->state, FREE, memory_order_release);
        crash->suspects--;
    }
}

uint32_t fw_crash_begin(
    struct fw_crash *crash,
    fila_view served,
    fila_view queue,
    fila_view id,
    bool alone)
{
    struct fw_crash_suspect run = {.served = served, .queue = queue, .id = id};
    if (crash->free_count == 0) {
        return 0;
    }
    uint16_t slot = crash->free[crash->free_count - 1];
    if (!fill(&crash->slots[slot], alone ? ALONE : RUNNING, &run)) {
        return 0;
    }
    crash->free_count--;
    crash->accused[slot] = alone ? find(crash, &run) : 0;
    return slot + UINT32_C(1);
}

void fw_crash_company(struct fw_crash *crash, uint32_t run)
{
    if (run != 0) {
        atomic_store_explicit(&crash->slots[run - 1].state, RUNNING, memory_order_release);
    }
}

void fw_crash_cut(struct fw_crash *crash, uint32_t run)
{
    if (run != 0) {
        atomic_store_explicit(&crash->slots[run - 1].state, FREE, memory_order_release);
        crash->accused[run - 1] = 0;
        crash->free[crash->free_count++] = (uint16_t)(run - 1);
    }
}

void fw_crash_end(struct fw_crash *crash, uint32_t run)
{
    if (run != 0) {
        acquit(crash, crash->accused[run - 1]);
        fw_crash_cut(crash, run);
    }
}

void fw_crash_acquit(struct fw_crash *crash, fila_view served, fila_view queue, fila_view id)
{
    struct fw_crash_suspect wanted = {.served = served, .queue = queue, .id = id};
    acquit(crash, find(crash, &wanted));
}

/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "journal/journal.h"

#include "base/clock.h"
#include "base/error.h"
#include "journal/file.h"
#include "journal/record.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum {
    DEFAULT_LIMIT = 65536,
    MOST_BYTES = 64 << 20,
    LEAST_FILE = 1 << 20,
    HANDED_LIMIT = 16 << 20, /* bytes that may wait for a disk that hangs */
    BUFFER = 65536
};

#define GATHER (5 * FILA_MS)
#define RETRY  (5 * FILA_S)

/* Records one after the other. */
struct buffer {
    uint8_t *data;
    size_t size;
    size_t capacity;
    uint64_t lost; /* that there was no room for */
};

struct fw_journal {
    struct fw_journal_options options;
    pthread_t thread;
    struct buffer filling;       /* the owner's */
    struct fw_journal_file file; /* the thread's */
    int64_t retry_at;

    struct {
        pthread_mutex_t lock;
        struct fw_journal_table *rows; /* changed by the thread alone */
    } table;

    struct {
        pthread_mutex_t lock;
        pthread_cond_t work;
        pthread_cond_t done;
        struct buffer handed;
        struct fw_journal_stats stats;
        uint64_t syncs_asked;
        uint64_t syncs_done;
        bool asleep; /* the thread waits for work */
        bool stop;
    } locked;
};

/* ---- The owner ---- */

static bool make_room(struct buffer *buffer, size_t size)
{
    if (buffer->capacity - buffer->size >= size) {
        return true;
    }
    size_t capacity = buffer->capacity > 0 ? buffer->capacity : BUFFER;
    while (capacity - buffer->size < size) {
        capacity *= 2;
    }
    if (capacity > 2 * (size_t)HANDED_LIMIT) {
        return false;
    }
    uint8_t *data = realloc(buffer->data, capacity);
    if (data == NULL) {
        return false;
    }
    buffer->data = data;
    buffer->capacity = capacity;
    return true;
}

void fw_journal_put(struct fw_journal *journal, const struct fw_journal_entry *entry)
{
    struct buffer *filling = &journal->filling;
    size_t size = fw_record_size(entry);
    if (size == 0 || !make_room(filling, size)) {
        filling->lost++;
        return;
    }
    fw_record_put(entry, filling->data + filling->size);
    filling->size += size;
}

/* The thread has not yet taken the last ones: behind those. */
static void append(struct buffer *handed, struct buffer *filling)
{
    if (handed->size + filling->size > HANDED_LIMIT || !make_room(handed, filling->size)) {
        handed->lost++;
        return;
    }
    memcpy(handed->data + handed->size, filling->data, filling->size);
    handed->size += filling->size;
}

void fw_journal_commit(struct fw_journal *journal)
{
    struct buffer *filling = &journal->filling;
    struct buffer *handed = &journal->locked.handed;
    if (filling->size == 0 && filling->lost == 0) {
        return;
    }
    (void)pthread_mutex_lock(&journal->locked.lock);
    handed->lost += filling->lost;
    if (handed->size == 0) {
        struct buffer empty = {.data = handed->data, .capacity = handed->capacity};
        filling->lost = handed->lost;
        *handed = *filling;
        *filling = empty;
    } else {
        append(handed, filling);
    }
    filling->size = 0;
    filling->lost = 0;
    bool asleep = journal->locked.asleep;
    journal->locked.asleep = false;
    (void)pthread_mutex_unlock(&journal->locked.lock);
    if (asleep) {
        (void)pthread_cond_signal(&journal->locked.work);
    }
}

/* ---- The thread ---- */

static void tell(struct fw_journal *journal, enum fw_journal_event event, int64_t value)
{
    if (journal->options.on_event != NULL) {
        journal->options.on_event(journal->options.user, event, value);
    }
}

static void wait_until(struct fw_journal *journal, int64_t until)
{
    if (until == FILA_NEVER) {
        (void)pthread_cond_wait(&journal->locked.work, &journal->locked.lock);
        return;
    }
    int64_t left = until - fila_now();
    if (left <= 0) {
        return;
    }
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    int64_t at = t.tv_nsec + left;
    t.tv_sec += (time_t)(at / FILA_S);
    t.tv_nsec = (long)(at % FILA_S);
    (void)pthread_cond_timedwait(&journal->locked.work, &journal->locked.lock, &t);
}

static bool urgent(const struct fw_journal *journal)
{
    return journal->locked.stop || journal->locked.syncs_asked > journal->locked.syncs_done;
}

/* Sleeps until there is something to do, then as long as a group is collected. Returns with the
 * lock held. */
static void wait_for_work(struct fw_journal *journal)
{
    (void)pthread_mutex_lock(&journal->locked.lock);
    while (!urgent(journal) && journal->locked.handed.size == 0 &&
           journal->locked.handed.lost == 0 && fila_now() < journal->retry_at) {
        journal->locked.asleep = true;
        wait_until(journal, journal->retry_at);
    }
    journal->locked.asleep = false;
    int64_t until = fila_now() + journal->options.gather;
    while (!urgent(journal) && fila_now() < until) {
        wait_until(journal, until);
    }
}

/* Into the table: what is put and taken back within a group leaves no change. */
static void apply(struct fw_journal *journal, const struct buffer *buffer, uint64_t *lost)
{
    struct fw_journal_entry entry;
    size_t used;
    size_t at = 0;
    *lost += buffer->lost;
    while (at < buffer->size &&
           fw_record_get(buffer->data + at, buffer->size - at, &entry, &used) == FW_RECORD_GOOD) {
        *lost += !fw_journal_table_put(journal->table.rows, &entry);
        at += used;
    }
}

static void went_down(struct fw_journal *journal, struct fw_journal_stats *stats, int why)
{
    journal->retry_at = fila_now() + journal->options.retry;
    if (!stats->down) {
        stats->down = true;
        tell(journal, FW_JOURNAL_DOWN, why);
    }
}

static void rewrite_file(struct fw_journal *journal, struct fw_journal_stats *stats)
{
    int why = fw_journal_file_rewrite(&journal->file, journal->table.rows);
    if (why != 0) {
        went_down(journal, stats, why);
        return;
    }
    stats->rewrites++;
    stats->bytes += journal->file.size;
    journal->retry_at = FILA_NEVER;
    if (stats->down) {
        stats->down = false;
        tell(journal, FW_JOURNAL_UP, fw_journal_table_count(journal->table.rows));
    }
}

static bool is_large(const struct fw_journal *journal)
{
    uint64_t wanted = FW_JOURNAL_HEAD + 2 * fw_journal_table_bytes(journal->table.rows);
    return journal->file.size > journal->options.least_file && journal->file.size > wanted;
}

static void write_changes(struct fw_journal *journal, struct fw_journal_stats *stats)
{
    if (stats->down) {
        if (fila_now() >= journal->retry_at) {
            rewrite_file(journal, stats);
        }
        return;
    }
    uint64_t bytes = 0;
    int why = fw_journal_file_append(&journal->file, journal->table.rows, &bytes);
    if (why != 0) {
        went_down(journal, stats, why);
        return;
    }
    stats->groups += bytes > 0;
    stats->bytes += bytes;
    if (is_large(journal)) {
        rewrite_file(journal, stats);
    }
}

/* One group; the lock of `locked` is held at the start and not at the end. True: that was all. */
static bool do_work(struct fw_journal *journal, struct buffer *taken)
{
    struct buffer empty = {.data = taken->data, .capacity = taken->capacity};
    struct fw_journal_stats stats = journal->locked.stats;
    uint64_t asked = journal->locked.syncs_asked;
    bool stop = journal->locked.stop;
    *taken = journal->locked.handed;
    journal->locked.handed = empty;
    (void)pthread_mutex_unlock(&journal->locked.lock);

    uint64_t lost = 0;
    (void)pthread_mutex_lock(&journal->table.lock);
    apply(journal, taken, &lost);
    write_changes(journal, &stats);
    stats.file_bytes = journal->file.size;
    (void)pthread_mutex_unlock(&journal->table.lock);
    taken->size = 0;
    taken->lost = 0;
    stats.lost += lost;
    if (lost > 0) {
        tell(journal, FW_JOURNAL_LOST, (int64_t)lost);
    }

    (void)pthread_mutex_lock(&journal->locked.lock);
    journal->locked.stats = stats;
    journal->locked.syncs_done = asked;
    (void)pthread_cond_broadcast(&journal->locked.done);
    (void)pthread_mutex_unlock(&journal->locked.lock);
    return stop;
}

static void *journal_main(void *arg)
{
    struct fw_journal *journal = arg;
    struct buffer taken = {0};
    bool over = false;
    while (!over) {
        wait_for_work(journal);
        over = do_work(journal, &taken);
    }
    free(taken.data);
    return NULL;
}

/* ---- Life ---- */

static void release(struct fw_journal *journal)
{
    fw_journal_file_fini(&journal->file);
    fw_journal_table_free(journal->table.rows);
    free(journal->filling.data);
    free(journal->locked.handed.data);
    (void)pthread_mutex_destroy(&journal->table.lock);
    (void)pthread_mutex_destroy(&journal->locked.lock);
    (void)pthread_cond_destroy(&journal->locked.work);
    (void)pthread_cond_destroy(&journal->locked.done);
    free(journal);
}

static void init_locks(struct fw_journal *journal)
{
    pthread_condattr_t monotonic;
    (void)pthread_mutex_init(&journal->table.lock, NULL);
    (void)pthread_mutex_init(&journal->locked.lock, NULL);
    (void)pthread_condattr_init(&monotonic);
    (void)pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&journal->locked.work, &monotonic);
    (void)pthread_cond_init(&journal->locked.done, NULL);
    (void)pthread_condattr_destroy(&monotonic);
}

static void fill_options(struct fw_journal *journal, const struct fw_journal_options *options)
{
    struct fw_journal_options *o = &journal->options;
    *o = *options;
    o->limit = o->limit > 0 ? o->limit : DEFAULT_LIMIT;
    o->most_bytes = o->most_bytes > 0 ? o->most_bytes : MOST_BYTES;
    o->gather = o->gather > 0 ? o->gather : GATHER;
    o->retry = o->retry > 0 ? o->retry : RETRY;
    o->least_file = o->least_file > 0 ? o->least_file : LEAST_FILE;
}

/* What is there, and a new file of it: with this boot in its head, and without a torn tail. */
static void read_and_rewrite(struct fw_journal *journal, struct fw_journal_report *ret_report)
{
    struct fw_journal_stats *stats = &journal->locked.stats;
    int why = fw_journal_file_read(&journal->file, fila_now(), journal->table.rows, ret_report);
    if (why != 0) {
        went_down(journal, stats, why);
    } else {
        rewrite_file(journal, stats);
    }
}

fila_status fw_journal_open(
    const struct fw_journal_options *options,
    struct fw_journal **ret_journal,
    struct fw_journal_report *ret_report,
    fila_error *reterr)
{
    struct fw_journal *journal = calloc(1, sizeof(*journal));
    if (journal == NULL) {
        return fila_fail(reterr, FILA_NO_MEMORY, "no memory for the journal");
    }
    fill_options(journal, options);
    init_locks(journal);
    journal->retry_at = FILA_NEVER;
    journal->file.fd = -1;
    fila_status status = FILA_OK;
    journal->table.rows = fw_journal_table_new(journal->options.limit, journal->options.most_bytes);
    if (journal->table.rows == NULL) {
        status = fila_fail(reterr, FILA_NO_MEMORY, "no memory for the journal");
    } else if (!fw_journal_file_init(&journal->file, options->dir)) {
        status = fila_fail(reterr, FILA_INVALID_ARGUMENT, "the path of state_dir is too long");
    }
    if (status == FILA_OK) {
        read_and_rewrite(journal, ret_report);
        if (pthread_create(&journal->thread, NULL, journal_main, journal) != 0) {
            status = fila_fail(reterr, FILA_NO_MEMORY, "cannot start the journal's thread");
        }
    }
    if (status != FILA_OK) {
        release(journal);
        return status;
    }
    (void)pthread_setname_np(journal->thread, "fila-journal");
    *ret_journal = journal;
    return FILA_OK;
}

void fw_journal_close(struct fw_journal *journal)
{
    if (journal == NULL) {
        return;
    }
    (void)pthread_mutex_lock(&journal->locked.lock);
    journal->locked.stop = true;
    (void)pthread_cond_signal(&journal->locked.work);
    (void)pthread_mutex_unlock(&journal->locked.lock);
    (void)pthread_join(journal->thread, NULL);
    release(journal);
}

void fw_journal_sync(struct fw_journal *journal)
{
    (void)pthread_mutex_lock(&journal->locked.lock);
    uint64_t mine = ++journal->locked.syncs_asked;
    (void)pthread_cond_signal(&journal->locked.work);
    while (journal->locked.syncs_done < mine) {
        (void)pthread_cond_wait(&journal->locked.done, &journal->locked.lock);
    }
    (void)pthread_mutex_unlock(&journal->locked.lock);
}

struct fw_journal_entry *fw_journal_load(
    struct fw_journal *journal,
    fila_view served,
    size_t *ret_count)
{
    (void)pthread_mutex_lock(&journal->table.lock);
    struct fw_journal_entry *entries =
        fw_journal_table_copy(journal->table.rows, served, ret_count);
    (void)pthread_mutex_unlock(&journal->table.lock);
    return entries;
}

struct fw_journal_stats fw_journal_stats(struct fw_journal *journal)
{
    (void)pthread_mutex_lock(&journal->locked.lock);
    struct fw_journal_stats stats = journal->locked.stats;
    (void)pthread_mutex_unlock(&journal->locked.lock);
    return stats;
}

/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "writer.h"

#include "base/clock.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

/* What is copied out of the ring at once: the lock is not held while writing. */
#define CHUNK 16384

static struct {
    pthread_t thread;
    atomic_bool runs;
    pthread_mutex_t lock;
    pthread_cond_t changed;

    struct {
        size_t first; /* where the oldest byte is */
        size_t used;
        bool waiting; /* the thread sleeps */
        bool stop;
        bool ended;
        bool given_up; /* nobody read for as long as somebody waited: nobody waits again */
    } locked;

    char ring[FW_WRITER_SIZE];
} writer = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

/* All of it, however long the reader takes; what cannot be written at all is gone. */
static void write_all(const char *data, size_t len)
{
    while (len > 0) {
        ssize_t n = write(STDERR_FILENO, data, len);
        if (n > 0) {
            data += n;
            len -= (size_t)n;
        } else if (n < 0 && errno == EAGAIN) {
            struct pollfd fd = {.fd = STDERR_FILENO, .events = POLLOUT};
            (void)poll(&fd, 1, -1);
        } else if (n == 0 || errno != EINTR) {
            return;
        }
    }
}

/* Under the lock. */
static size_t copy_out(char chunk[CHUNK])
{
    size_t len = writer.locked.used < CHUNK ? writer.locked.used : CHUNK;
    size_t straight = FW_WRITER_SIZE - writer.locked.first;
    straight = len < straight ? len : straight;
    memcpy(chunk, writer.ring + writer.locked.first, straight);
    memcpy(chunk + straight, writer.ring, len - straight);
    return len;
}

static void *writer_main(void *arg)
{
    char chunk[CHUNK];
    (void)arg;
    (void)pthread_mutex_lock(&writer.lock);
    while (!writer.locked.stop || writer.locked.used) {
        if (!writer.locked.used) {
            writer.locked.waiting = true;
            (void)pthread_cond_wait(&writer.changed, &writer.lock);
            writer.locked.waiting = false;
            continue;
        }
        size_t len = copy_out(chunk);
        (void)pthread_mutex_unlock(&writer.lock);
        write_all(chunk, len);
        (void)pthread_mutex_lock(&writer.lock);
        writer.locked.first = (writer.locked.first + len) % FW_WRITER_SIZE;
        writer.locked.used -= len;
        (void)pthread_cond_broadcast(&writer.changed);
    }
    writer.locked.ended = true;
    (void)pthread_cond_broadcast(&writer.changed);
    (void)pthread_mutex_unlock(&writer.lock);
    return NULL;
}

bool fw_writer_start(void)
{
    sigset_t all;
    sigset_t before;
    if (atomic_load(&writer.runs)) {
        return true;
    }
    (void)pthread_mutex_lock(&writer.lock);
    writer.locked.stop = false;
    writer.locked.ended = false;
    (void)pthread_mutex_unlock(&writer.lock);
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(&writer.thread, NULL, writer_main, NULL);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error) {
        return false;
    }
    (void)pthread_setname_np(writer.thread, "fila-log");
    atomic_store(&writer.runs, true);
    return true;
}

bool fw_writer_runs(void)
{
    return atomic_load_explicit(&writer.runs, memory_order_acquire);
}

bool fw_writer_put(const char *line, size_t len)
{
    (void)pthread_mutex_lock(&writer.lock);
    bool fits = len <= FW_WRITER_SIZE - writer.locked.used;
    if (fits) {
        size_t at = (writer.locked.first + writer.locked.used) % FW_WRITER_SIZE;
        size_t straight = FW_WRITER_SIZE - at < len ? FW_WRITER_SIZE - at : len;
        memcpy(writer.ring + at, line, straight);
        memcpy(writer.ring, line + straight, len - straight);
        writer.locked.used += len;
        if (writer.locked.waiting) {
            (void)pthread_cond_broadcast(&writer.changed);
        }
    }
    (void)pthread_mutex_unlock(&writer.lock);
    return fits;
}

/* Under the lock, for a change; false after `deadline`. */
static bool wait_for_change(int64_t deadline)
{
    int64_t left = deadline - fila_now();
    struct timespec at;
    if (left <= 0) {
        return false;
    }
    (void)clock_gettime(CLOCK_REALTIME, &at); /* a step of it makes the wait longer or shorter */
    at.tv_sec += (time_t)((at.tv_nsec + left) / FILA_S);
    at.tv_nsec = (long)((at.tv_nsec + left) % FILA_S);
    (void)pthread_cond_timedwait(&writer.changed, &writer.lock, &at);
    return true;
}

void fw_writer_flush(int64_t deadline)
{
    if (!fw_writer_runs()) {
        return;
    }
    (void)pthread_mutex_lock(&writer.lock);
    while (writer.locked.used && !writer.locked.given_up) {
        writer.locked.given_up = !wait_for_change(deadline);
    }
    (void)pthread_mutex_unlock(&writer.lock);
}

void fw_writer_stop(int64_t deadline)
{
    if (!fw_writer_runs()) {
        return;
    }
    (void)pthread_mutex_lock(&writer.lock);
    writer.locked.stop = true;
    (void)pthread_cond_broadcast(&writer.changed);
    while (!writer.locked.ended && !writer.locked.given_up) {
        writer.locked.given_up = !wait_for_change(deadline);
    }
    bool ended = writer.locked.ended;
    (void)pthread_mutex_unlock(&writer.lock);
    if (ended) {
        (void)pthread_join(writer.thread, NULL);
        atomic_store(&writer.runs, false);
    }
}

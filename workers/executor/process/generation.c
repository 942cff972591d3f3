/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "base/error.h"
#include "plugin/loader.h"
#include "process.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

static int64_t mtime_of(const struct stat *st)
{
    return (int64_t)st->st_mtim.tv_sec * FILA_S + st->st_mtim.tv_nsec;
}

static bool open_file(struct fw_generation *generation)
{
    struct stat st;
    generation->fd = open(generation->path, O_RDONLY | O_CLOEXEC);
    if (generation->fd < 0 || fstat(generation->fd, &st)) {
        return false;
    }
    generation->device = st.st_dev;
    generation->inode = st.st_ino;
    generation->size = st.st_size;
    generation->mtime_ns = mtime_of(&st);
    fw_file_build_id(generation->fd, generation->build_id);
    return true;
}

fila_status fw_generation_new(
    const char *handler,
    uint64_t number,
    struct fw_generation **ret_generation,
    fila_error *reterr)
{
    struct fw_generation *generation = calloc(1, sizeof *generation);
    if (!generation) {
        return fila_fail(reterr, FILA_NO_MEMORY, "out of memory");
    }
    generation->refs = 1;
    generation->number = number;
    generation->fd = -1;
    fila_status status = fw_plugin_inspect(handler, generation->path, reterr);
    if (!status && !open_file(generation)) {
        status = fila_fail(
            reterr, FILA_INVALID_ARGUMENT, "plugin refused: %s (%s)", strerrordesc_np(errno),
            generation->path);
    }
    if (status) {
        fw_generation_release(generation);
        return status;
    }
    *ret_generation = generation;
    return FILA_OK;
}

void fw_generation_release(struct fw_generation *generation)
{
    if (generation && --generation->refs == 0) {
        if (generation->fd >= 0) {
            (void)close(generation->fd);
        }
        free(generation);
    }
}

bool fw_generation_is_current(const struct fw_generation *generation)
{
    struct stat st;
    return !stat(generation->path, &st) && st.st_dev == generation->device &&
           st.st_ino == generation->inode && st.st_size == generation->size &&
           mtime_of(&st) == generation->mtime_ns;
}

/* ---- Notice ---- */

int fw_generation_watch(const struct fw_generation *generation)
{
    char folder[PATH_MAX];
    int len = (int)(strrchr(generation->path, '/') - generation->path); /* it is absolute */
    int fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    if (fd < 0) {
        return -1;
    }
    (void)snprintf(folder, sizeof folder, "%.*s", len ? len : 1, generation->path);
    if (inotify_add_watch(fd, folder, IN_CLOSE_WRITE | IN_MOVED_TO) < 0) {
        (void)close(fd);
        return -1;
    }
    return fd;
}

bool fw_generation_noticed(const struct fw_generation *generation, int inotify)
{
    _Alignas(struct inotify_event) char events[4096];
    const char *name = strrchr(generation->path, '/') + 1;
    bool found = false;
    ssize_t len;
    while ((len = read(inotify, events, sizeof events)) > 0) {
        for (ssize_t at = 0; at < len;) {
            const struct inotify_event *event = (const struct inotify_event *)(events + at);
            found = found || (event->mask & IN_Q_OVERFLOW) ||
                    (event->len && !strcmp(event->name, name));
            at += (ssize_t)(sizeof *event + event->len);
        }
    }
    return found;
}

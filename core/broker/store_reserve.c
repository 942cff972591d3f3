/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "store_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- The file without a name ---- */

void fb_reserve_open(struct fb_store *store)
{
    char *name = NULL;
    store->reserve = -1;
    if (asprintf(&name, "%s-reserve", store->path) < 0) {
        return;
    }
    store->reserve = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (store->reserve >= 0) {
        (void)unlink(name);
    }
    free(name);
}

void fb_reserve_close(struct fb_store *store)
{
    if (store->reserve >= 0) {
        (void)close(store->reserve);
        store->reserve = -1;
    }
}

/* What moving the log to its place may need, and a little. */
static int64_t wanted(const struct fb_store *store)
{
    int64_t bytes = (int64_t)store->wal_pages * FB_PAGE_BYTES + FB_RESERVE_BYTES;
    return (bytes + FB_RESERVE_BYTES - 1) / FB_RESERVE_BYTES * FB_RESERVE_BYTES;
}

/* False if the disk has not so much. Where a file system cannot reserve, there is no reserve. */
static bool reserve(struct fb_store *store, int64_t bytes)
{
    int error;
    if (store->reserve < 0 || bytes <= store->reserved) {
        return true;
    }
    error = posix_fallocate(store->reserve, store->reserved, bytes - store->reserved);
    if (error == 0) {
        store->reserved = bytes;
        return true;
    }
    (void)!ftruncate(store->reserve, store->reserved);
    if (error == ENOSPC || error == EDQUOT) {
        return false;
    }
    fb_reserve_close(store);
    return true;
}

static void give_up(struct fb_store *store, int64_t rest)
{
    if (store->reserve >= 0 && ftruncate(store->reserve, rest) == 0) {
        store->reserved = rest;
    }
}

/* ---- The disk is full, and is not ---- */

void fb_reserve_use(struct fb_store *store)
{
    store->low = true;
    give_up(store, 0);
    (void)fb_store_checkpoint(store);
}

void fb_reserve_keep(struct fb_store *store)
{
    if (store->low || reserve(store, wanted(store))) {
        return;
    }
    if (!fb_store_checkpoint(store) || !reserve(store, wanted(store))) {
        fb_reserve_use(store);
    }
}

/* What the log's file holds, which is written over and over. */
static int64_t log_bytes(const struct fb_store *store)
{
    struct stat about;
    return stat(store->log_path, &about) == 0 ? about.st_size : 0;
}

int64_t fb_store_room(struct fb_store *store)
{
    int64_t in_file;
    int64_t in_log;
    if (!store->low) {
        return INT64_MAX;
    }
    if (reserve(store, wanted(store) + FB_RESERVE_BYTES)) { /* some more, or it is full at once */
        give_up(store, wanted(store));
        store->low = false;
        return INT64_MAX;
    }
    in_file = fb_store_number(store, "PRAGMA freelist_count", 0) * FB_PAGE_BYTES - FB_RESERVE_BYTES;
    in_log = log_bytes(store) / 2;
    in_file = in_file < in_log ? in_file : in_log;
    return in_file > 0 ? in_file : 0;
}

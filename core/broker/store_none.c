/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "base/error.h"
#include "store.h"

fila_status fb_store_open(
    const char *path,
    fila_sync sync,
    struct fb_store **ret_store,
    fila_error *reterr)
{
    (void)sync;
    (void)ret_store;
    return fila_fail(
        reterr, FILA_UNSUPPORTED,
        "%s: this build keeps messages in memory only, because SQLite was not there when it was made",
        path);
}

/* What cannot be called, since nothing can be opened. */

fila_status fb_store_load(
    struct fb_store *store,
    const struct fb_store_load *load,
    fila_error *reterr)
{
    (void)store;
    (void)load;
    return fila_fail(reterr, FILA_UNSUPPORTED, "no store");
}

fila_status fb_store_write(
    struct fb_store *store,
    const struct fq_group *group,
    int64_t to_wall,
    fila_error *reterr)
{
    (void)store;
    (void)group;
    (void)to_wall;
    return fila_fail(reterr, FILA_UNSUPPORTED, "no store");
}

fila_status fb_store_probe(struct fb_store *store, fila_error *reterr)
{
    (void)store;
    return fila_fail(reterr, FILA_UNSUPPORTED, "no store");
}

int64_t fb_store_room(struct fb_store *store)
{
    (void)store;
    return INT64_MAX;
}

void fb_store_rest(struct fb_store *store)
{
    (void)store;
}

void fb_store_close(struct fb_store *store)
{
    (void)store;
}

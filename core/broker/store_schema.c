/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "base/error.h"
#include "store_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* The steps from nothing to FB_SCHEMA_VERSION: UPGRADES[n] makes version n + 1 of version n. What
 * is here was released and stays as it is; a change is a new step. */
static const char *const UPGRADES[FB_SCHEMA_VERSION] = {
    "CREATE TABLE queue("
    "  number INTEGER PRIMARY KEY,"      /* what messages name it by; not used twice */
    "  name TEXT NOT NULL,"              /* several rows may have one; one of them is present */
    "  present INTEGER NOT NULL,"        /* 0 = deleted */
    "  visibility_ns INTEGER NOT NULL);" /* the visibility timeout */
    "CREATE TABLE setting(key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;"
    "CREATE TABLE message("
    "  seq INTEGER PRIMARY KEY,"    /* the order of enqueuing */
    "  queue INTEGER NOT NULL,"     /* queue.number */
    "  id BLOB NOT NULL,"           /* 16 bytes */
    "  attempts INTEGER NOT NULL,"  /* where there is no row in state */
    "  lease_end INTEGER NOT NULL," /* the same; wall clock, ns; 0 = pending */
    "  weight INTEGER NOT NULL,"
    "  fairness_key TEXT,"  /* NULL = default */
    "  throttle_keys BLOB," /* texts, each after its length (32 bits, little endian) */
    "  headers BLOB,"       /* the same: key, value, key, value ... */
    "  payload BLOB NOT NULL);"
    "CREATE TABLE state(" /* of a message that was leased or tried since it was put */
    "  seq INTEGER PRIMARY KEY, attempts INTEGER NOT NULL, lease_end INTEGER NOT NULL);",

    "ALTER TABLE queue ADD COLUMN on_enqueue TEXT;" /* scripts; NULL = none */
    "ALTER TABLE queue ADD COLUMN on_failure TEXT;",
};

/* ---- Before SQLite ---- */

#define HEADER_SIZE 100

static uint32_t big_endian(const uint8_t *at, int bytes)
{
    uint32_t value = 0;
    for (int i = 0; i < bytes; i++) {
        value = value << 8 | at[i];
    }
    return value;
}

/* The size of what lies beside the file under its name with that ending; 0 without it. */
static off_t size_beside(const char *path, const char *ending)
{
    char *name = NULL;
    struct stat about;
    off_t size = 0;
    if (asprintf(&name, "%s%s", path, ending) > 0) {
        size = stat(name, &about) == 0 ? about.st_size : 0;
        free(name);
    }
    return size;
}

/* Whether the header is SQLite's, and the file as long as it says; the latter only where it is
 * `alone`, without a log, which may have what is missing. */
static fila_status look_at_header(
    const char *path,
    const uint8_t header[HEADER_SIZE],
    off_t size,
    bool alone,
    fila_error *reterr)
{
    uint32_t page = big_endian(header + 16, 2);
    off_t wanted;
    if (memcmp(header, "SQLite format 3", 16) != 0) {
        return fila_fail(
            reterr, FILA_BROKER_UNAVAILABLE,
            "%s is no broker file (nor any SQLite file) and was left alone: name another", path);
    }
    page = page == 1 ? 65536 : page;
    wanted = (off_t)page * big_endian(header + 28, 4);
    if (alone && size < wanted) {
        return fila_fail(
            reterr, FILA_BROKER_UNAVAILABLE,
            "%s is cut off: %lld bytes of %lld are there; it was left alone. Restore a copy of it, or "
            "salvage the rest into a new file with \"sqlite3 FILE .recover\"",
            path, (long long)size, (long long)wanted);
    }
    return FILA_OK;
}

static fila_status look_inside(
    const char *path,
    int file,
    off_t size,
    bool alone,
    fila_error *reterr)
{
    uint8_t header[HEADER_SIZE] = {0};
    ssize_t got = pread(file, header, sizeof header, 0);
    if (got < 0) {
        return fila_fail(
            reterr, FILA_BROKER_UNAVAILABLE, "%s: cannot read: %s", path, strerrordesc_np(errno));
    }
    return look_at_header(path, header, size, alone, reterr);
}

fila_status fb_schema_look(const char *path, fila_error *reterr)
{
    struct stat about = {.st_size = 0};
    off_t wal = size_beside(path, "-wal");
    off_t journal = size_beside(path, "-journal"); /* of a file that was being made */
    int file = open(path, O_RDONLY | O_CLOEXEC);
    bool there = file >= 0 && fstat(file, &about) == 0;
    fila_status status = FILA_OK;
    if (file < 0 && errno != ENOENT) {
        return fila_fail(
            reterr, FILA_BROKER_UNAVAILABLE, "%s: cannot open: %s", path, strerrordesc_np(errno));
    }
    if (there && !S_ISREG(about.st_mode)) {
        status = fila_fail(
            reterr, FILA_BROKER_UNAVAILABLE, "%s is no file: name one in a folder of its own",
            path);
    } else if (about.st_size == 0 && wal > 0) {
        status = fila_fail(
            reterr, FILA_BROKER_UNAVAILABLE,
            "%s is %s, but its log %s-wal is there: restore the file that the log belongs to, or move "
            "the log away to start anew",
            path, there ? "empty" : "missing", path);
    } else if (about.st_size > 0) {
        status = look_inside(path, file, about.st_size, wal == 0 && journal == 0, reterr);
    }
    if (file >= 0) {
        (void)close(file);
    }
    return status;
}

/* ---- Versions ---- */

static bool upgrade(struct fb_store *store, int64_t from)
{
    char pragma[64];
    for (int64_t version = from; version < FB_SCHEMA_VERSION; version++) {
        if (!fb_store_exec(store, UPGRADES[version])) {
            return false;
        }
    }
    (void)snprintf(
        pragma, sizeof pragma, "PRAGMA application_id=%d; PRAGMA user_version=%d",
        FB_APPLICATION_ID, FB_SCHEMA_VERSION);
    return fb_store_exec(store, pragma);
}

fila_status fb_schema_prepare(struct fb_store *store, fila_error *reterr)
{
    int64_t application = fb_store_number(store, "PRAGMA application_id", -1);
    int64_t version = fb_store_number(store, "PRAGMA user_version", -1);
    int64_t tables = fb_store_number(store, "SELECT count(*) FROM sqlite_schema", -1);
    bool new = application == 0 && version == 0 && tables == 0;
    if (tables < 0) {
        return fb_store_fail(store, "read", reterr);
    }
    if (!new &&application != FB_APPLICATION_ID) {
        return fila_fail(
            reterr, FILA_BROKER_UNAVAILABLE,
            "%s is a database of another program and was left alone: name another file",
            store->path);
    }
    if (version > FB_SCHEMA_VERSION) {
        return fila_fail(
            reterr, FILA_BROKER_UNAVAILABLE,
            "%s was written by a newer fila-worker (format %lld; this one knows up to %d) and was left "
            "alone: use that version",
            store->path, (long long)version, FB_SCHEMA_VERSION);
    }
    if (version < FB_SCHEMA_VERSION && !upgrade(store, version)) {
        return fb_store_fail(store, new ? "make the tables" : "upgrade", reterr);
    }
    return FILA_OK;
}

/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "base/error.h"
#include "store_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

static const char *const STATEMENTS[FB_STATEMENT_COUNT] = {
    [FB_BEGIN] = "BEGIN IMMEDIATE",
    [FB_COMMIT] = "COMMIT",
    [FB_ROLLBACK] = "ROLLBACK",
    [FB_PUT] = ("INSERT INTO message(seq,queue,id,attempts,lease_end,weight,fairness_key,"
                "throttle_keys,headers,payload) VALUES(?1,?2,?3,?4,?5,?6,?7,?8,?9,?10)"),
    [FB_RESTATE] = "REPLACE INTO state(seq,attempts,lease_end) VALUES(?1,?2,?3)",
    [FB_MOVE] = "UPDATE message SET queue=?2 WHERE seq=?1",
    [FB_DROP_MESSAGE] = "DELETE FROM message WHERE seq=?1",
    [FB_DROP_STATE] = "DELETE FROM state WHERE seq=?1",
    [FB_PUT_QUEUE] = ("REPLACE INTO queue(number,name,present,visibility_ns,on_enqueue,on_failure) "
                      "VALUES(?1,?2,1,?3,?4,?5)"),
    [FB_DROP_QUEUE] = "UPDATE queue SET present=0,on_enqueue=NULL,on_failure=NULL WHERE number=?1",
    [FB_PUT_SETTING] = "REPLACE INTO setting(key,value) VALUES(?1,?2)",
    [FB_DROP_SETTING] = "DELETE FROM setting WHERE key=?1",
    [FB_PRUNE_QUEUE] = "DELETE FROM queue WHERE number=?1 AND present=0",
};

/* ---- Helpers ---- */

fila_status fb_store_fail(struct fb_store *store, const char *what, fila_error *reterr)
{
    int code = sqlite3_extended_errcode(store->db);
    const char *text = sqlite3_errmsg(store->db);
    int cause = sqlite3_system_errno(store->db);
    switch (code & 0xff) {
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return fila_fail(
            reterr, FILA_BROKER_UNAVAILABLE,
            "%s is in use by another process: stop that, or name another file", store->path);
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return fila_fail(
            reterr, FILA_BROKER_UNAVAILABLE,
            "%s is damaged (%s) and was left alone. Restore a copy of it, or salvage what is left "
            "into a new file with \"sqlite3 FILE .recover\"",
            store->path, text);
    case SQLITE_FULL:
        return fila_fail(
            reterr, FILA_INTERNAL, "%s: cannot %s: the disk is full", store->path, what);
    case SQLITE_NOMEM:
        return fila_fail(reterr, FILA_NO_MEMORY, "%s: no memory to %s", store->path, what);
    case SQLITE_CANTOPEN:
    case SQLITE_READONLY:
        return fila_fail(
            reterr, FILA_BROKER_UNAVAILABLE,
            "%s: cannot %s: %s%s%s; the file and its folder must be writable", store->path, what,
            text, cause ? ": " : "", cause ? strerrordesc_np(cause) : "");
    default:
        return fila_fail(
            reterr, FILA_INTERNAL, "%s: cannot %s: %s (%d)%s%s", store->path, what, text, code,
            cause ? ": " : "", cause ? strerrordesc_np(cause) : "");
    }
}

bool fb_store_exec(struct fb_store *store, const char *sql)
{
    return sqlite3_exec(store->db, sql, NULL, NULL, NULL) == SQLITE_OK;
}

int64_t fb_store_number(struct fb_store *store, const char *sql, int64_t otherwise)
{
    sqlite3_stmt *statement = NULL;
    int64_t number = otherwise;
    if (sqlite3_prepare_v2(store->db, sql, -1, &statement, NULL) == SQLITE_OK &&
        sqlite3_step(statement) == SQLITE_ROW) {
        number = sqlite3_column_int64(statement, 0);
    }
    (void)sqlite3_finalize(statement);
    return number;
}

static int on_wal(void *user, sqlite3 *db, const char *name, int pages)
{
    struct fb_store *store = user;
    (void)db;
    (void)name;
    store->wal_pages = pages;
    return SQLITE_OK;
}

/* ---- Where it is ---- */

static struct fb_place place_of(const char *path)
{
    struct stat about;
    if (stat(path, &about) != 0) {
        return (struct fb_place){0, 0};
    }
    return (struct fb_place){about.st_dev, about.st_ino};
}

static bool is_at(const char *path, struct fb_place place)
{
    struct fb_place now = place_of(path);
    return now.device == place.device && now.number == place.number;
}

fila_status fb_store_check_place(struct fb_store *store, fila_error *reterr)
{
    if (store->log_place.number == 0) { /* SQLite had not made it yet */
        store->log_place = place_of(store->log_path);
    }
    const char *gone = !is_at(store->path, store->place)           ? store->path
                       : !is_at(store->log_path, store->log_place) ? store->log_path
                                                                   : NULL;
    if (!gone) {
        return FILA_OK;
    }
    return fila_fail(
        reterr, FILA_INTERNAL,
        "%s was moved or deleted while it was in use: put it back where it was", gone);
}

/* ---- Open and close ---- */

/* Until the file is known to be good, closing it must not move the log into it. */
static void keep_log(struct fb_store *store, int keep)
{
    (void)sqlite3_db_config(store->db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, keep, NULL);
}

static bool set_up(struct fb_store *store, fila_sync sync)
{
    char pragmas[256];
    (void)snprintf(
        pragmas, sizeof pragmas,
        "PRAGMA locking_mode=EXCLUSIVE; PRAGMA synchronous=%s; PRAGMA wal_autocheckpoint=0;"
        "PRAGMA cache_size=-%d; PRAGMA cell_size_check=ON; PRAGMA temp_store=MEMORY;"
        "PRAGMA journal_size_limit=67108864",
        sync == FILA_SYNC_NORMAL ? "NORMAL" : "FULL", FB_CACHE_KIB);
    return fb_store_exec(store, pragmas);
}

static bool use_log(struct fb_store *store)
{
    if (!fb_store_exec(store, "PRAGMA journal_mode=WAL")) {
        return false;
    }
    (void)sqlite3_wal_hook(store->db, on_wal, store);
    return true;
}

static bool prepare_statements(struct fb_store *store)
{
    for (int i = 0; i < FB_STATEMENT_COUNT; i++) {
        if (sqlite3_prepare_v3(
                store->db, STATEMENTS[i], -1, SQLITE_PREPARE_PERSISTENT, &store->statements[i],
                NULL) != SQLITE_OK) {
            return false;
        }
    }
    return true;
}

static fila_status prepare(struct fb_store *store, fila_sync sync, fila_error *reterr)
{
    fila_status status;
    if (!set_up(store, sync) || !fb_store_exec(store, "BEGIN EXCLUSIVE")) {
        return fb_store_fail(store, "open", reterr);
    }
    status = fb_schema_prepare(store, reterr);
    if (status != FILA_OK) {
        (void)fb_store_exec(store, "ROLLBACK");
        return status;
    }
    if (!fb_store_exec(store, "COMMIT") || !use_log(store) || !prepare_statements(store)) {
        return fb_store_fail(store, "open", reterr);
    }
    return FILA_OK;
}

static int open_database(struct fb_store *store)
{
    const int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX;
    char *plain = NULL; /* "./:memory:" is a file */
    int code = SQLITE_NOMEM;
    if (asprintf(&plain, "%s%s", store->path[0] == '/' ? "" : "./", store->path) > 0) {
        code = sqlite3_open_v2(plain, &store->db, flags, NULL);
        free(plain);
    }
    return code;
}

fila_status fb_store_open(
    const char *path,
    fila_sync sync,
    struct fb_store **ret_store,
    fila_error *reterr)
{
    struct fb_store *store;
    fila_status status = fb_schema_look(path, reterr);
    if (status != FILA_OK) {
        return status;
    }
    store = calloc(1, sizeof *store);
    if (!store || !(store->path = strdup(path)) || asprintf(&store->log_path, "%s-wal", path) < 0) {
        free(store ? store->path : NULL);
        free(store);
        return fila_fail(reterr, FILA_NO_MEMORY, "no memory for a store");
    }
    store->reserve = -1;
    if (open_database(store) != SQLITE_OK) {
        status = store->db ? fb_store_fail(store, "open", reterr)
                           : fila_fail(reterr, FILA_NO_MEMORY, "no memory for a store");
    } else {
        (void)sqlite3_extended_result_codes(store->db, 1);
        keep_log(store, 1);
        status = prepare(store, sync, reterr);
    }
    if (status != FILA_OK) {
        fb_store_close(store);
        return status;
    }
    *ret_store = store;
    return FILA_OK;
}

void fb_store_trust(struct fb_store *store)
{
    keep_log(store, 0);
    store->place = place_of(store->path);
    store->log_place = place_of(store->log_path);
    if (store->reserve < 0) {
        fb_reserve_open(store);
        fb_reserve_keep(store);
    }
}

void fb_store_close(struct fb_store *store)
{
    if (!store) {
        return;
    }
    for (int i = 0; i < FB_STATEMENT_COUNT; i++) {
        (void)sqlite3_finalize(store->statements[i]);
    }
    (void)sqlite3_close(store->db);
    fb_reserve_close(store);
    free(store->scratch);
    free(store->path);
    free(store->log_path);
    free(store);
}

/* ---- Housekeeping ---- */

bool fb_store_checkpoint(struct fb_store *store)
{
    int pages = 0;
    int moved = -1;
    bool done = sqlite3_wal_checkpoint_v2(
                    store->db, NULL, SQLITE_CHECKPOINT_PASSIVE, &pages, &moved) == SQLITE_OK &&
                moved == pages;
    store->wal_pages = done ? 0 : store->wal_pages;
    return done;
}

void fb_store_rest(struct fb_store *store)
{
    fb_reserve_keep(store);
    if (store->wal_pages >= FB_WAL_PAGES) {
        (void)fb_store_checkpoint(store);
    }
}

fila_status fb_store_probe(struct fb_store *store, fila_error *reterr)
{
    char sql[128];
    fila_status status = fb_store_check_place(store, reterr);
    if (status != FILA_OK) {
        return status;
    }
    /* No user's key is empty. */
    (void)snprintf(
        sql, sizeof sql, "REPLACE INTO setting(key,value) VALUES('',zeroblob(%d))",
        store->low ? FB_PAGE_BYTES : FB_PROBE_BYTES);
    if (!sqlite3_get_autocommit(store->db)) {
        (void)fb_store_exec(store, "ROLLBACK");
    }
    if (!fb_store_exec(store, sql) || !fb_store_exec(store, "DELETE FROM setting WHERE key=''")) {
        return fb_store_fail(store, "write", reterr);
    }
    return FILA_OK;
}

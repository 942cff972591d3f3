/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "faulty_vfs.h"

#include <sqlite3.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

/* What sqlite3_vfs.xOpen fills: its methods, then the real file behind it. */
struct faulty_file {
    sqlite3_file base;
    _Alignas(8) unsigned char real[]; /* as SQLite aligns a file */
};

static sqlite3_vfs faulty;
static sqlite3_vfs *under;
static _Atomic(enum faulty_kind) planned;
static _Atomic(uint64_t) left; /* operations until it happens */
static _Atomic(uint64_t) seen;
static _Atomic(uint64_t) failures;
static atomic_bool failing;

static sqlite3_file *real(sqlite3_file *file)
{
    return (sqlite3_file *)(void *)((struct faulty_file *)(void *)file)->real;
}

void faulty_plan(enum faulty_kind kind, uint64_t nth)
{
    atomic_store(&failing, false);
    atomic_store(&planned, kind);
    atomic_store(&left, nth);
}

void faulty_heal(void)
{
    atomic_store(&planned, FAULTY_NOTHING);
    atomic_store(&failing, false);
}

uint64_t faulty_count(void)
{
    return atomic_load(&seen);
}

uint64_t faulty_failures(void)
{
    return atomic_load(&failures);
}

/* Counts an operation; what happens to it. */
static enum faulty_kind meet(void)
{
    atomic_fetch_add(&seen, 1);
    if (atomic_load(&planned) == FAULTY_NOTHING) {
        return FAULTY_NOTHING;
    }
    if (atomic_load(&failing)) {
        return atomic_load(&planned);
    }
    if (atomic_load(&left) == 0 || atomic_fetch_sub(&left, 1) != 1) {
        return FAULTY_NOTHING;
    }
    return atomic_load(&planned);
}

static int refuse(int code)
{
    atomic_store(&failing, true);
    atomic_fetch_add(&failures, 1);
    return code;
}

/* An operation that has no halves. SQLITE_OK: to be done. */
static int meet_whole(bool is_sync, enum faulty_kind *ret_kind)
{
    *ret_kind = meet();
    switch (*ret_kind) {
    case FAULTY_EXIT:
    case FAULTY_EXIT_HALF:
        _exit(FAULTY_STATUS);
    case FAULTY_FULL:
    case FAULTY_FULL_HALF:
        return is_sync ? SQLITE_OK : refuse(SQLITE_FULL);
    case FAULTY_ERROR:
        return refuse(is_sync ? SQLITE_IOERR_FSYNC : SQLITE_IOERR);
    case FAULTY_SYNC_ERROR:
        return is_sync ? refuse(SQLITE_IOERR_FSYNC) : refuse(SQLITE_OK);
    default:
        return SQLITE_OK;
    }
}

static int done(enum faulty_kind kind, int code)
{
    if (kind == FAULTY_EXIT_AFTER) {
        _exit(FAULTY_STATUS);
    }
    return code;
}

/* ---- Files ---- */

static int on_write(sqlite3_file *file, const void *data, int amount, sqlite3_int64 offset)
{
    bool was_failing = atomic_load(&failing);
    enum faulty_kind kind = meet();
    if (kind == FAULTY_EXIT_HALF || (kind == FAULTY_FULL_HALF && !was_failing)) {
        (void)real(file)->pMethods->xWrite(real(file), data, amount / 2, offset);
    }
    switch (kind) {
    case FAULTY_EXIT:
    case FAULTY_EXIT_HALF:
        _exit(FAULTY_STATUS);
    case FAULTY_FULL:
    case FAULTY_FULL_HALF:
        return refuse(SQLITE_FULL);
    case FAULTY_ERROR:
        return refuse(SQLITE_IOERR_WRITE);
    case FAULTY_SYNC_ERROR:
        atomic_store(&failing, true);
        break;
    default:
        break;
    }
    return done(kind, real(file)->pMethods->xWrite(real(file), data, amount, offset));
}

static int on_truncate(sqlite3_file *file, sqlite3_int64 size)
{
    enum faulty_kind kind;
    int code = meet_whole(false, &kind);
    return code ? code : done(kind, real(file)->pMethods->xTruncate(real(file), size));
}

static int on_sync(sqlite3_file *file, int flags)
{
    enum faulty_kind kind;
    int code = meet_whole(true, &kind);
    return code ? code : done(kind, real(file)->pMethods->xSync(real(file), flags));
}

static int on_close(sqlite3_file *file)
{
    return real(file)->pMethods->xClose(real(file));
}

static int on_read(sqlite3_file *file, void *data, int amount, sqlite3_int64 offset)
{
    return real(file)->pMethods->xRead(real(file), data, amount, offset);
}

static int on_size(sqlite3_file *file, sqlite3_int64 *size)
{
    return real(file)->pMethods->xFileSize(real(file), size);
}

static int on_lock(sqlite3_file *file, int level)
{
    return real(file)->pMethods->xLock(real(file), level);
}

static int on_unlock(sqlite3_file *file, int level)
{
    return real(file)->pMethods->xUnlock(real(file), level);
}

static int on_check(sqlite3_file *file, int *reserved)
{
    return real(file)->pMethods->xCheckReservedLock(real(file), reserved);
}

static int on_control(sqlite3_file *file, int what, void *arg)
{
    return real(file)->pMethods->xFileControl(real(file), what, arg);
}

static int on_sector(sqlite3_file *file)
{
    return real(file)->pMethods->xSectorSize(real(file));
}

static int on_device(sqlite3_file *file)
{
    return real(file)->pMethods->xDeviceCharacteristics(real(file));
}

/* Version 1: no shared memory and no mapping, neither of which the store uses. (SQLite allows WAL
 * without shared memory in exclusive mode alone.) */
static const sqlite3_io_methods METHODS = {
    .iVersion = 1,
    .xClose = on_close,
    .xRead = on_read,
    .xWrite = on_write,
    .xTruncate = on_truncate,
    .xSync = on_sync,
    .xFileSize = on_size,
    .xLock = on_lock,
    .xUnlock = on_unlock,
    .xCheckReservedLock = on_check,
    .xFileControl = on_control,
    .xSectorSize = on_sector,
    .xDeviceCharacteristics = on_device,
};

static int on_open(
    sqlite3_vfs *vfs,
    const char *name,
    sqlite3_file *file,
    int flags,
    int *ret_flags)
{
    int code = under->xOpen(under, name, real(file), flags, ret_flags);
    (void)vfs;
    file->pMethods = code == SQLITE_OK ? &METHODS : NULL;
    return code;
}

static int on_delete(sqlite3_vfs *vfs, const char *name, int sync)
{
    enum faulty_kind kind;
    int code = meet_whole(false, &kind);
    (void)vfs;
    return code ? code : done(kind, under->xDelete(under, name, sync));
}

bool faulty_install(void)
{
    under = sqlite3_vfs_find(NULL);
    if (!under) {
        return false;
    }
    faulty = *under;
    faulty.pNext = NULL;
    faulty.zName = "faulty";
    faulty.szOsFile = (int)offsetof(struct faulty_file, real) + under->szOsFile;
    faulty.xOpen = on_open;
    faulty.xDelete = on_delete;
    return sqlite3_vfs_register(&faulty, 1) == SQLITE_OK;
}

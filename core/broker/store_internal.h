/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * What is inside the SQLite store, shared by store_*.c alone.
 *
 *   store_sqlite.c   open, close, housekeeping
 *   store_schema.c   what a file must be; tables; upgrades
 *   store_write.c    groups
 *   store_load.c     reading everything
 *   store_codec.c    headers and throttle keys in a blob
 *   store_reserve.c  what is kept free for a full disk
 *
 * Layout. `message` is appended to and deleted from by its rowid, the engine's sequence number, and
 * has no other index: the engine knows where everything is. What changes while a message lives is
 * in `state`, a row of a few bytes by the same number, so that a lease does not rewrite a payload;
 * a message that is leased in the group that puts it needs none. A message names its queue by
 * number; a deleted queue keeps its row for as long as messages do.
 *
 * The file is in WAL mode and locked for this process alone, which also spares the shared memory
 * beside it. What is written goes to FILE-wal, and from there to its place when FB_WAL_PAGES have
 * piled up.
 *
 * Reserve. Deleting takes room too: in the log, and in the file when the log is moved there. So a
 * file without a name holds as much as the log does and FB_RESERVE_BYTES. When the disk is full it
 * is given up, the log is moved, and its file, which never shrinks then, is written over and over:
 * what makes no message more goes on, and messages do as far as others left pages behind.
 */
#ifndef FILA_BROKER_STORE_INTERNAL_H
#define FILA_BROKER_STORE_INTERNAL_H

#include "broker/store.h"

#include <sqlite3.h>

#define FB_APPLICATION_ID 0x46696c61 /* "Fila" */
#define FB_SCHEMA_VERSION 2
#define FB_WAL_PAGES      4000 /* 16 MiB */
#define FB_CACHE_KIB      8192
#define FB_PAGE_BYTES     4096
#define FB_PROBE_BYTES    262144
#define FB_RESERVE_BYTES  262144

enum fb_statement {
    FB_BEGIN,
    FB_COMMIT,
    FB_ROLLBACK,
    FB_PUT,
    FB_RESTATE,
    FB_MOVE,
    FB_DROP_MESSAGE,
    FB_DROP_STATE,
    FB_PUT_QUEUE,
    FB_DROP_QUEUE,
    FB_PUT_SETTING,
    FB_DROP_SETTING,
    FB_PRUNE_QUEUE,
    FB_STATEMENT_COUNT
};

/* Which file a name meant. */
struct fb_place {
    uint64_t device;
    uint64_t number;
};

struct fb_store {
    sqlite3 *db;
    char *path;
    char *log_path;
    struct fb_place place; /* of the file, and of its log */
    struct fb_place log_place;
    int wal_pages; /* since the last checkpoint */
    int reserve;   /* its descriptor; -1 = none can be had here */
    int64_t reserved;
    bool low; /* the disk is full, and the reserve in use */
    sqlite3_stmt *statements[FB_STATEMENT_COUNT];
    uint8_t *scratch; /* store_write.c: an encoded blob */
    size_t scratch_size;
};

/* ---- store_sqlite.c ---- */

/* What SQLite last said, with what to do, after "PATH: cannot `what`: ". Returns the code. */
fila_status fb_store_fail(struct fb_store *store, const char *what, fila_error *reterr);
/* The file is good: closing it may move the log into it. */
void fb_store_trust(struct fb_store *store);
/* Runs statements that return nothing that matters; false on an error. */
bool fb_store_exec(struct fb_store *store, const char *sql);
/* The first column of the first row; `otherwise` without one. */
int64_t fb_store_number(struct fb_store *store, const char *sql, int64_t otherwise);

/* Moves the log to where it stays, so that the next write begins it anew; false if that was not
 * possible, as the next write may find out too. */
bool fb_store_checkpoint(struct fb_store *store);

/* FILA_OK while the names mean the files that were opened. SQLite would go on writing to what was
 * deleted, and nobody would ever read it. */
FILA_NODISCARD fila_status fb_store_check_place(struct fb_store *store, fila_error *reterr);

/* ---- store_reserve.c ---- */

void fb_reserve_open(struct fb_store *store);
void fb_reserve_close(struct fb_store *store);
/* After a write: sees to it that it is large enough, or finds that the disk is full. */
void fb_reserve_keep(struct fb_store *store);
/* The disk is full: gives it up. Not within a transaction. */
void fb_reserve_use(struct fb_store *store);

/* ---- store_schema.c ---- */

/* Looks at the file before SQLite does: what SQLite would silently make a new one of is refused. */
FILA_NODISCARD fila_status fb_schema_look(const char *path, fila_error *reterr);
/* Makes the tables of a new file, upgrades an older one, refuses others. Within a transaction. */
FILA_NODISCARD fila_status fb_schema_prepare(struct fb_store *store, fila_error *reterr);

/* ---- store_write.c ---- */

/* Runs it to its end and resets it; false on an error. */
bool fb_store_step(struct fb_store *store, enum fb_statement which);

/* ---- store_codec.c: texts in a row, each after its length (32 bits, little endian) ---- */

/* Bytes that `count` texts take; 0 where there are none. */
size_t fb_texts_size(const fila_view *texts, size_t count);
void fb_texts_write(const fila_view *texts, size_t count, uint8_t *to);
/* Views into `bytes`; *ret_count of them. False where the blob is damaged or has more than `room`.
 */
bool fb_texts_read(
    const uint8_t *bytes,
    size_t len,
    fila_view *texts,
    size_t room,
    size_t *ret_count);
/* How many texts a blob has; SIZE_MAX where it is damaged. */
size_t fb_texts_count(const uint8_t *bytes, size_t len);

#endif

/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * Files that a broker does not open: it says why and what to do, and leaves every byte as it is.
 */
#include "store_rig.h"

#include <fcntl.h>
#include <sqlite3.h>
#include <sys/stat.h>
#include <unistd.h>

#define SALVAGE                                                                                \
    " and was left alone. Restore a copy of it, or salvage what is left into a new file with " \
    "\"sqlite3 FILE .recover\""

static const char *file;

static void set_up(void)
{
    file = new_path();
}

TestSuite(refusals, .init = set_up, .fini = remove_path);

/* ---- Files as they are on disk ---- */

static size_t read_file(const char *name, char **ret_bytes)
{
    struct stat about;
    int fd = open(name, O_RDONLY);
    cr_assert(fd >= 0 && fstat(fd, &about) == 0);
    *ret_bytes = malloc((size_t)about.st_size + 1);
    cr_assert(read(fd, *ret_bytes, (size_t)about.st_size) == about.st_size);
    (void)close(fd);
    return (size_t)about.st_size;
}

static void write_file(const char *name, const char *bytes, size_t len)
{
    int fd = open(name, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    cr_assert(fd >= 0 && write(fd, bytes, len) == (ssize_t)len);
    (void)close(fd);
}

static const char *in_file(const char *format)
{
    static char text[512];
    (void)snprintf(text, sizeof text, format, file, file);
    return text;
}

/* Opens it, and expects this refusal and the same bytes. */
static void expect_refusal(fila_status code, const char *text)
{
    char *before;
    char *after;
    size_t len = read_file(file, &before);
    fila_status status;
    const char *said = refusal(file, &status);
    cr_expect(eq(int, status, code), "%s", said);
    cr_expect(eq(str, (char *)(uintptr_t)said, (char *)(uintptr_t)text));
    cr_assert(eq(sz, read_file(file, &after), len));
    cr_expect(memcmp(before, after, len) == 0, "the file was changed");
    free(before);
    free(after);
}

static void exec_sql(const char *sql)
{
    sqlite3 *db;
    char *error = NULL;
    cr_assert(eq(int, sqlite3_open(file, &db), SQLITE_OK));
    cr_assert(eq(int, sqlite3_exec(db, sql, NULL, NULL, &error), SQLITE_OK), "%s", error);
    (void)sqlite3_close(db);
}

/* A good file with some thousand messages, closed in good order. */
static void make_file(void)
{
    fila_broker *broker = must_open(file, 100);
    must_create(broker, "q", 60000);
    for (int i = 0; i < 2000; i++) {
        must_enqueue(
            broker, "q", "a payload of some length, so that there are pages enough to harm");
    }
    fila_broker_free(broker);
}

/* ---- What it may be ---- */

Test(refusals, rubbish)
{
    char bytes[5000];
    memset(bytes, 'r', sizeof bytes);
    write_file(file, bytes, sizeof bytes);
    expect_refusal(
        FILA_BROKER_UNAVAILABLE,
        in_file("%s is no broker file (nor any SQLite file) and was left alone: name another"));
    write_file(file, "short", 5);
    expect_refusal(
        FILA_BROKER_UNAVAILABLE,
        in_file("%s is no broker file (nor any SQLite file) and was left alone: name another"));
}

Test(refusals, cut_off)
{
    char *bytes;
    size_t len;
    char text[400];
    make_file();
    len = read_file(file, &bytes);
    write_file(file, bytes, len - 4096);
    (void)snprintf(
        text, sizeof text,
        "%s is cut off: %zu bytes of %zu are there; it was left alone. Restore a copy of it, or "
        "salvage the rest into a new file with \"sqlite3 FILE .recover\"",
        file, len - 4096, len);
    expect_refusal(FILA_BROKER_UNAVAILABLE, text);
    free(bytes);
}

Test(refusals, a_page_of_rubbish)
{
    char *bytes;
    size_t len;
    fila_status status;
    make_file();
    len = read_file(file, &bytes);
    cr_assert(gt(sz, len, 40 * 4096));
    for (size_t page = 2; page < len / 4096; page += 9) {
        char *hurt = malloc(len);
        memcpy(hurt, bytes, len);
        memset(hurt + page * 4096, 0x5a, 4096);
        write_file(file, hurt, len);
        expect_refusal(
            FILA_BROKER_UNAVAILABLE,
            in_file("%s is damaged (database disk image is malformed)" SALVAGE));
        free(hurt);
    }
    write_file(file, bytes, len);
    cr_expect(eq(str, (char *)(uintptr_t)refusal(file, &status), "opened"));
    free(bytes);
}

Test(refusals, rows_that_make_no_sense)
{
    make_file();
    exec_sql("UPDATE message SET queue=77 WHERE seq=5");
    expect_refusal(
        FILA_BROKER_UNAVAILABLE, in_file("%s is damaged (a message has no queue)" SALVAGE));
    exec_sql("UPDATE message SET queue=1, id=x'0102' WHERE seq=5");
    exec_sql("UPDATE message SET queue=(SELECT number FROM queue WHERE name='q')");
    expect_refusal(FILA_BROKER_UNAVAILABLE, in_file("%s is damaged (a message has no id)" SALVAGE));
    exec_sql("UPDATE message SET id=zeroblob(16), headers=x'ff000000ee' WHERE seq=5");
    expect_refusal(
        FILA_BROKER_UNAVAILABLE,
        in_file("%s is damaged (a message's headers cannot be read)" SALVAGE));
    exec_sql("UPDATE message SET headers=NULL WHERE seq=5");
    exec_sql("INSERT INTO setting VALUES('throttle.x','many')");
    expect_refusal(
        FILA_BROKER_UNAVAILABLE, in_file("%s is damaged (a setting is no valid one)" SALVAGE));
}

Test(refusals, another_programs_database)
{
    exec_sql("CREATE TABLE address(name, street)");
    expect_refusal(
        FILA_BROKER_UNAVAILABLE,
        in_file("%s is a database of another program and was left alone: name another file"));
}

Test(refusals, a_newer_format)
{
    make_file();
    exec_sql("PRAGMA user_version=99");
    expect_refusal(
        FILA_BROKER_UNAVAILABLE,
        in_file("%s was written by a newer fila-worker (format 99; this one knows up to 2) and was "
                "left alone: use that version"));
}

Test(refusals, scripts_without_what_runs_them)
{
    make_file();
    exec_sql("UPDATE queue SET on_enqueue='x = 1' WHERE name='q'");
    fila_status status;
    const char *said = refusal(file, &status);
    if (status != FILA_OK) { /* a build without scripts */
        cr_expect(eq(int, status, FILA_UNSUPPORTED));
        cr_expect(
            eq(str, (char *)(uintptr_t)said,
               (char *)(uintptr_t)in_file(
                   "%s: queue \"q\" has scripts, and this build runs none: use one with Lua")));
    }
}

Test(refusals, in_use)
{
    fila_broker *broker = must_open(file, 100);
    fila_status status;
    cr_expect(
        eq(str, (char *)(uintptr_t)refusal(file, &status),
           (char *)(uintptr_t)in_file(
               "%s is in use by another process: stop that, or name another file")));
    cr_expect(eq(int, status, FILA_BROKER_UNAVAILABLE));
    must_create(broker, "q", 0);
    fila_broker_free(broker);
    cr_expect(eq(str, (char *)(uintptr_t)refusal(file, &status), "opened"));
}

Test(refusals, a_log_without_its_file)
{
    char wal[160];
    char *bytes;
    fila_status status;
    (void)snprintf(wal, sizeof wal, "%s-wal", file);
    write_file(wal, "a log", 5);
    cr_expect(eq(
        str, (char *)(uintptr_t)refusal(file, &status),
        (char *)(uintptr_t)in_file(
            "%s is missing, but its log %s-wal is there: restore the file that the log belongs to, "
            "or move the log away to start anew")));
    cr_expect(eq(int, status, FILA_BROKER_UNAVAILABLE));
    write_file(file, "", 0);
    cr_expect(eq(
        str, (char *)(uintptr_t)refusal(file, &status),
        (char *)(uintptr_t)in_file(
            "%s is empty, but its log %s-wal is there: restore the file that the log belongs to, "
            "or move the log away to start anew")));
    cr_expect(eq(sz, read_file(wal, &bytes), 5));
    free(bytes);
}

Test(refusals, places_where_no_file_can_be)
{
    fila_status status;
    cr_expect(
        eq(str, (char *)(uintptr_t)refusal("/", &status),
           "/ is no file: name one in a folder of its own"));
    cr_expect(eq(int, status, FILA_BROKER_UNAVAILABLE));
    cr_expect(
        eq(str, (char *)(uintptr_t)refusal("/proc/no/such/folder.db", &status),
           "/proc/no/such/folder.db: cannot open: unable to open database file: No such file or "
           "directory; the file and its folder must be writable"));
    cr_expect(eq(int, status, FILA_BROKER_UNAVAILABLE));
}

Test(refusals, an_empty_file_is_a_new_one)
{
    fila_status status;
    write_file(file, "", 0);
    cr_expect(eq(str, (char *)(uintptr_t)refusal(file, &status), "opened"));
    cr_expect(eq(str, (char *)(uintptr_t)refusal(file, &status), "opened"));
}

/* ---- Upgrades ---- */

/* The file as the first version wrote it, kept as SQL. */
Test(refusals, an_older_format_is_brought_up_to_date)
{
    char *sql;
    size_t len = read_file(STORE_TEST_DATA "/version_1.sql", &sql);
    fila_broker *broker;
    struct reader *reader;
    struct got got;
    sql[len] = '\0';
    exec_sql(sql);
    free(sql);
    for (int time = 0; time < 2; time++) { /* and it stays good */
        broker = must_open(file, 100);
        cr_expect(eq(u64, depth_of(broker, "orders"), 3));
        cr_expect(eq(u64, in_flight_of(broker, "orders"), 1));
        cr_expect(eq(u64, depth_of(broker, "orders.dlq"), 1));
        expect_config(broker, "color", "blue");
        fila_broker_free(broker);
    }
    broker = must_open(file, 100);
    reader = reader_open(broker, "orders");
    must_get(reader, "nacked", &got);
    cr_expect(eq(u32, got.attempts, 2));
    cr_expect(eq(str, got.id, "01a20492-bf67-79e2-8055-84e15dba6e22"));
    must_get(reader, "keyed", &got);
    cr_expect(eq(str, got.key, "red"));
    cr_expect(eq(str, got.header, "k=v"));
    must_settle(broker, FILA_CALL_ACK, "orders", "01a20492-bf59-70ab-9e66-2e0d83302d27");
    reader_close(reader);
    fila_broker_free(broker);
}

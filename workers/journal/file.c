/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "journal/file.h"

#include "base/clock.h"
#include "journal/record.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

static const char MAGIC[8] = "FILAJRN1";

/* A wait carried over a reboot by wall clock is no longer than this: the clock may be wrong. */
#define LONGEST_WAIT (INT64_C(3600) * FILA_S)
/* More than any journal becomes; what is larger is none. */
#define LONGEST_FILE (INT64_C(1) << 30)

bool fw_journal_file_init(struct fw_journal_file *file, const char *dir)
{
    int size = (int)sizeof(file->path);
    *file = (struct fw_journal_file){.fd = -1, .boot = fw_boot_now()};
    return snprintf(file->dir, sizeof(file->dir), "%s", dir) < size &&
           snprintf(file->path, sizeof(file->path), "%s/journal", dir) < size &&
           snprintf(file->new_path, sizeof(file->new_path), "%s/journal.new", dir) < size;
}

static void close_file(struct fw_journal_file *file)
{
    if (file->fd >= 0) {
        (void)close(file->fd);
        file->fd = -1;
    }
}

void fw_journal_file_fini(struct fw_journal_file *file)
{
    close_file(file);
}

/* ---- Reading ---- */

static void put_head(uint8_t head[FW_JOURNAL_HEAD], const struct fw_boot *boot)
{
    uint64_t offset = htole64((uint64_t)boot->wall_offset);
    memcpy(head, MAGIC, sizeof(MAGIC));
    memcpy(head + 8, boot->id, FW_BOOT_SIZE);
    memcpy(head + 24, &offset, sizeof(offset));
    uint32_t sum = htole32((uint32_t)crc32(crc32(0, NULL, 0), head, 32));
    memcpy(head + 32, &sum, sizeof(sum));
}

static bool get_head(const uint8_t *data, size_t size, struct fw_boot *ret_boot)
{
    uint64_t offset;
    uint32_t sum;
    if (size < FW_JOURNAL_HEAD || memcmp(data, MAGIC, sizeof(MAGIC)) != 0) {
        return false;
    }
    memcpy(&sum, data + 32, sizeof(sum));
    if (le32toh(sum) != (uint32_t)crc32(crc32(0, NULL, 0), data, 32)) {
        return false;
    }
    memcpy(ret_boot->id, data + 8, FW_BOOT_SIZE);
    memcpy(&offset, data + 24, sizeof(offset));
    ret_boot->wall_offset = (int64_t)le64toh(offset);
    return true;
}

/* One that is not known may be any. */
static bool same_boot(const struct fw_boot *a, const struct fw_boot *b)
{
    static const uint8_t UNKNOWN[FW_BOOT_SIZE];
    return memcmp(a->id, b->id, FW_BOOT_SIZE) == 0 && memcmp(a->id, UNKNOWN, FW_BOOT_SIZE) != 0;
}

/* A time of an earlier boot in this one's clock; 0 when it has passed. */
static int64_t carry_over(
    int64_t at,
    const struct fw_boot *from,
    const struct fw_boot *to,
    int64_t now)
{
    int64_t moved;
    if (__builtin_add_overflow(at, from->wall_offset, &moved) ||
        __builtin_sub_overflow(moved, to->wall_offset, &moved) || moved <= now) {
        return 0;
    }
    return moved - now < LONGEST_WAIT ? moved : now + LONGEST_WAIT;
}

void fw_journal_file_parse(
    const uint8_t *data,
    size_t size,
    const struct fw_boot *boot,
    int64_t now,
    struct fw_journal_table *table,
    struct fw_journal_report *ret_report)
{
    struct fw_boot from;
    struct fw_journal_entry entry;
    size_t used;
    *ret_report = (struct fw_journal_report){0};
    if (size == 0) {
        return;
    }
    if (!get_head(data, size, &from)) {
        ret_report->cut_bytes = size;
        return;
    }
    ret_report->rebooted = !same_boot(&from, boot);
    size_t at = FW_JOURNAL_HEAD;
    while (fw_record_get(data + at, size - at, &entry, &used) == FW_RECORD_GOOD) {
        if (ret_report->rebooted && entry.not_before != 0) {
            entry.not_before = carry_over(entry.not_before, &from, boot, now);
        }
        (void)fw_journal_table_put(table, &entry); /* without memory less is known */
        at += used;
    }
    ret_report->cut_bytes = size - at;
    ret_report->messages = fw_journal_table_count(table);
}

static int read_all(int fd, uint8_t **ret_data, size_t *ret_size)
{
    struct stat info;
    if (fstat(fd, &info) != 0) {
        return errno;
    }
    if (info.st_size > LONGEST_FILE) {
        return EFBIG;
    }
    size_t size = (size_t)info.st_size;
    uint8_t *data = malloc(size + 1);
    size_t got = 0;
    if (data == NULL) {
        return ENOMEM;
    }
    while (got < size) {
        ssize_t n = read(fd, data + got, size - got);
        if (n == 0) {
            break;
        }
        if (n < 0 && errno != EINTR) {
            int wrong = errno;
            free(data);
            return wrong;
        }
        got += n > 0 ? (size_t)n : 0;
    }
    *ret_data = data;
    *ret_size = got;
    return 0;
}

int fw_journal_file_read(
    struct fw_journal_file *file,
    int64_t now,
    struct fw_journal_table *table,
    struct fw_journal_report *ret_report)
{
    uint8_t *data = NULL;
    size_t size = 0;
    *ret_report = (struct fw_journal_report){0};
    int fd = open(file->path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return errno == ENOENT ? 0 : errno;
    }
    int wrong = read_all(fd, &data, &size);
    (void)close(fd);
    if (wrong == 0) {
        fw_journal_file_parse(data, size, &file->boot, now, table, ret_report);
    }
    free(data);
    return wrong;
}

/* ---- Writing ---- */

static int write_all(int fd, const uint8_t *data, size_t size)
{
    size_t done = 0;
    while (done < size) {
        ssize_t n = write(fd, data + done, size - done);
        if (n < 0 && errno != EINTR) {
            return errno;
        }
        done += n > 0 ? (size_t)n : 0;
    }
    return fdatasync(fd) == 0 ? 0 : errno;
}

/* The rename is on the disk when its folder is. */
static int sync_dir(const char *dir)
{
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int wrong = fd >= 0 && fsync(fd) == 0 ? 0 : errno;
    if (fd >= 0) {
        (void)close(fd);
    }
    return wrong;
}

static int replace(struct fw_journal_file *file, const uint8_t *data, size_t size)
{
    int fd = open(file->new_path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0) {
        return errno;
    }
    int wrong = write_all(fd, data, size);
    if (wrong == 0 && rename(file->new_path, file->path) != 0) {
        wrong = errno;
    }
    if (wrong == 0) {
        wrong = sync_dir(file->dir);
    }
    if (wrong != 0) {
        (void)close(fd);
        (void)unlink(file->new_path);
        return wrong;
    }
    close_file(file);
    file->fd = fd;
    file->size = size;
    return 0;
}

int fw_journal_file_rewrite(struct fw_journal_file *file, struct fw_journal_table *table)
{
    size_t size = FW_JOURNAL_HEAD + fw_journal_table_bytes(table);
    uint8_t *data = malloc(size);
    if (data == NULL) {
        return ENOMEM;
    }
    put_head(data, &file->boot);
    fw_journal_table_write_all(table, data + FW_JOURNAL_HEAD);
    int wrong = replace(file, data, size);
    free(data);
    return wrong;
}

int fw_journal_file_append(
    struct fw_journal_file *file,
    struct fw_journal_table *table,
    uint64_t *ret_bytes)
{
    size_t size = fw_journal_table_changed(table);
    *ret_bytes = size;
    if (size == 0) {
        return 0;
    }
    uint8_t *data = malloc(size);
    if (data == NULL) {
        return ENOMEM;
    }
    fw_journal_table_write_changed(table, data);
    int wrong = write_all(file->fd, data, size);
    free(data);
    if (wrong != 0) {
        close_file(file); /* what follows a torn record would be lost */
        return wrong;
    }
    file->size += size;
    return 0;
}

/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "loader.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

const char *fw_relative_path(struct fw_arena *arena, const char *from, const char *path)
{
    const char *slash = strrchr(from, '/');
    if (*path == '/' || !slash) {
        return path;
    }
    return fw_arena_print(arena, "%.*s%s", (int)(slash + 1 - from), from, path);
}

/* Reads to the end of `fd`; -1 with errno, or more than `limit`. */
static ssize_t read_all(int fd, char *buffer, size_t limit)
{
    size_t len = 0;
    while (len <= limit) {
        ssize_t n = read(fd, buffer + len, limit + 1 - len);
        if (n < 0 && errno != EINTR) {
            return -1;
        }
        if (n == 0) {
            break;
        }
        len += n > 0 ? (size_t)n : 0;
    }
    return (ssize_t)len;
}

static const char *read_open_file(
    struct fw_arena *arena,
    int fd,
    char *buffer,
    size_t *ret_len,
    char reterr[FW_FILE_ERROR_SIZE])
{
    struct stat st;
    ssize_t len = -1;
    if (fstat(fd, &st) == 0 && S_ISDIR(st.st_mode)) {
        (void)snprintf(reterr, FW_FILE_ERROR_SIZE, "it is a folder");
        return NULL;
    }
    len = read_all(fd, buffer, FW_FILE_LIMIT);
    if (len < 0) {
        (void)snprintf(reterr, FW_FILE_ERROR_SIZE, "%s", strerrordesc_np(errno));
        return NULL;
    }
    if ((size_t)len > FW_FILE_LIMIT) {
        (void)snprintf(reterr, FW_FILE_ERROR_SIZE, "it is larger than 1 MiB");
        return NULL;
    }
    if (memchr(buffer, '\0', (size_t)len)) {
        (void)snprintf(reterr, FW_FILE_ERROR_SIZE, "it has zero bytes, so it is no text");
        return NULL;
    }
    *ret_len = (size_t)len;
    return fw_arena_copy(arena, buffer, (size_t)len);
}

const char *fw_read_file(
    struct fw_arena *arena,
    const char *path,
    size_t *ret_len,
    char reterr[FW_FILE_ERROR_SIZE])
{
    char *buffer = malloc(FW_FILE_LIMIT + 2);
    if (!buffer) {
        arena->failed = true;
        (void)snprintf(reterr, FW_FILE_ERROR_SIZE, "out of memory");
        return NULL;
    }
    const char *text = NULL;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (fd >= 0) {
        text = read_open_file(arena, fd, buffer, ret_len, reterr);
        (void)close(fd);
    } else {
        (void)snprintf(reterr, FW_FILE_ERROR_SIZE, "%s", strerrordesc_np(errno));
    }
    free(buffer);
    return text;
}

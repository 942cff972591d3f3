/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "journal/lock.h"

#include "base/error.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

/* Who has it wrote their process id into the file. */
static fila_status taken(int fd, const char *dir, fila_error *reterr)
{
    char who[32] = "";
    ssize_t n = pread(fd, who, sizeof(who) - 1, 0);
    who[n > 0 ? n : 0] = '\0';
    return fila_fail(
        reterr, FILA_DENIED,
        "\"%s\" is in use by another fila-worker (process %s): each worker needs a state_dir of its "
        "own",
        dir, who[0] != '\0' ? who : "unknown");
}

static void sign(int fd)
{
    char text[32];
    int length = snprintf(text, sizeof(text), "%ld", (long)getpid());
    if (ftruncate(fd, 0) == 0 && length > 0) {
        ssize_t n = pwrite(fd, text, (size_t)length, 0);
        (void)n; /* only for the error text of others */
    }
}

fila_status fw_state_lock(const char *dir, int *ret_fd, fila_error *reterr)
{
    char path[PATH_MAX];
    if (snprintf(path, sizeof(path), "%s/lock", dir) >= (int)sizeof(path)) {
        return fila_fail(reterr, FILA_INVALID_ARGUMENT, "the path of state_dir is too long");
    }
    if (mkdir(dir, 0700) != 0 && errno != EEXIST) {
        return fila_fail(
            reterr, FILA_INVALID_ARGUMENT, "cannot make state_dir \"%s\": %s", dir,
            strerrordesc_np(errno));
    }
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) {
        return fila_fail(
            reterr, FILA_INVALID_ARGUMENT, "cannot write in state_dir \"%s\": %s", dir,
            strerrordesc_np(errno));
    }
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        fila_status status = errno == EWOULDBLOCK
                                 ? taken(fd, dir, reterr)
                                 : fila_fail(
                                       reterr, FILA_INVALID_ARGUMENT, "cannot lock \"%s\": %s",
                                       path, strerrordesc_np(errno));
        (void)close(fd);
        return status;
    }
    sign(fd);
    *ret_fd = fd;
    return FILA_OK;
}

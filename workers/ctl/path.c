/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "ctl/path.h"

#include <stdio.h>
#include <stdlib.h>

#define NAME "fila-worker.ctl"

/* The first of a list that systemd separates by colons. */
static bool in_folder(const char *folder, size_t len, char ret_path[FW_CTL_PATH_SIZE])
{
    int n = snprintf(ret_path, FW_CTL_PATH_SIZE, "%.*s/" NAME, (int)len, folder);
    return n > 0 && n < FW_CTL_PATH_SIZE;
}

bool fw_ctl_path(const struct fw_config *config, char ret_path[FW_CTL_PATH_SIZE])
{
    const char *own = getenv("RUNTIME_DIRECTORY"); /* NOLINT(concurrency-mt-unsafe): at start */
    const char *user = getenv("XDG_RUNTIME_DIR");  /* NOLINT(concurrency-mt-unsafe): at start */
    ret_path[0] = '\0';
    if (strcmp(config->ctl_socket, "auto") != 0) {
        int n = snprintf(ret_path, FW_CTL_PATH_SIZE, "%s", config->ctl_socket);
        return n >= 0 && n < FW_CTL_PATH_SIZE;
    }
    if (own && *own) {
        return in_folder(own, strcspn(own, ":"), ret_path);
    }
    if (config->state_dir[0]) {
        return in_folder(config->state_dir, strlen(config->state_dir), ret_path);
    }
    return !user || !*user || in_folder(user, strlen(user), ret_path);
}

/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "readfile.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

char *fw_cli_read_file(const char *path, size_t max, size_t *ret_len)
{
    FILE *file = fopen(path, "re");
    char *text = file ? malloc(max + 2) : NULL;
    if (text) {
        size_t n = fread(text, 1, max + 1, file);
        if (ferror(file) || n > max) {
            free(text);
            text = NULL;
            errno = n > max ? EFBIG : EIO;
        } else {
            text[n] = '\0';
            *ret_len = n;
        }
    }
    if (file) {
        int saved = errno;
        (void)fclose(file);
        errno = saved;
    }
    return text;
}

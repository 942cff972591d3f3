/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * Holds the committed reference against the property table: `FILE` compares, `--write FILE` writes
 * it (the target `reference`).
 */
#include "config/config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char *generated(size_t *ret_size)
{
    char *text = NULL;
    FILE *out = open_memstream(&text, ret_size);
    if (!out || !fw_config_reference(out) || fclose(out)) {
        perror("reference");
        exit(1);
    }
    return text;
}

static int compare(const char *path, const char *text, size_t size)
{
    FILE *file = fopen(path, "r");
    if (!file) {
        perror(path);
        return 1;
    }
    for (size_t i = 0, line = 1; i <= size; i++) {
        int c = fgetc(file);
        if (c != (i < size ? (unsigned char)text[i] : EOF)) {
            (void)fprintf(
                stderr, "%s:%zu differs from the property table: run `ninja reference`\n", path,
                line);
            (void)fclose(file);
            return 1;
        }
        line += c == '\n';
    }
    (void)fclose(file);
    return 0;
}

static int write_to(const char *path, const char *text, size_t size)
{
    FILE *file = fopen(path, "w");
    if (!file || fwrite(text, 1, size, file) != size || fclose(file)) {
        perror(path);
        return 1;
    }
    return 0;
}

int main(int argc, char **argv)
{
    size_t size = 0;
    bool write = argc == 3 && strcmp(argv[1], "--write") == 0;
    if (argc != 2 && !write) {
        (void)fprintf(stderr, "usage: %s [--write] FILE\n", argv[0]);
        return 64;
    }
    char *text = generated(&size);
    int status = write ? write_to(argv[2], text, size) : compare(argv[1], text, size);
    free(text);
    return status;
}

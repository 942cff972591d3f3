/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "plugin/search.h"

#include "plugin/loader.h"

#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FOLDERS_SIZE (4 * PATH_MAX)

static void program_folder(char *ret_folder, size_t size)
{
    ssize_t len = readlink("/proc/self/exe", ret_folder, size - 1);
    ret_folder[len > 0 ? len : 0] = '\0';
    char *slash = strrchr(ret_folder, '/');
    if (slash) {
        *slash = '\0';
    }
}

void fw_plugin_search_path(char *ret_path, size_t size)
{
    char program[PATH_MAX];
    const char *given = getenv("FILA_WORKER_PLUGIN_PATH"); // NOLINT(concurrency-mt-unsafe)
    program_folder(program, sizeof program);
    (void)snprintf(
        ret_path, size, "%s%s%s/plugins:%s/../lib/fila-worker:%s/../" FW_LIBDIR "/fila-worker:%s",
        given ? given : "", given && *given ? ":" : "", program, program, program,
        FW_PLUGIN_FOLDER);
}

/* The next folder of a list; empty ones are skipped. False at its end. */
static bool next_folder(const char **list, char *ret_folder, size_t size)
{
    size_t len;
    do {
        *list += **list == ':';
        len = strcspn(*list, ":");
        (void)snprintf(ret_folder, size, "%.*s", (int)len, *list);
        *list += len;
    } while (!len && **list);
    return len > 0;
}

bool fw_plugin_search(const char *name, char *ret_path, size_t size)
{
    char folders[FOLDERS_SIZE];
    char folder[PATH_MAX];
    const char *list = folders;
    fw_plugin_search_path(folders, sizeof folders);
    while (next_folder(&list, folder, sizeof folder)) {
        int len = snprintf(ret_path, size, "%s/%s.so", folder, name);
        if (len > 0 && (size_t)len < size && !access(ret_path, F_OK)) {
            return true;
        }
    }
    return false;
}

/* ---- All of them ---- */

struct names {
    char **items;
    size_t count;
};

static bool known(const struct names *names, const char *name)
{
    for (size_t i = 0; i < names->count; i++) {
        if (!strcmp(names->items[i], name)) {
            return true;
        }
    }
    return false;
}

static void add_name(struct names *names, const char *file)
{
    size_t len = strlen(file);
    if (len <= 3 || strcmp(file + len - 3, ".so") != 0) {
        return;
    }
    char *name = strndup(file, len - 3);
    char **items = realloc(names->items, (names->count + 1) * sizeof *items);
    if (items) {
        names->items = items;
    }
    if (name && items && !known(names, name)) {
        names->items[names->count++] = name;
    } else {
        free(name);
    }
}

static void add_folder(struct names *names, const char *folder)
{
    DIR *stream = opendir(folder);
    if (!stream) {
        return;
    }
    for (struct dirent *entry; (entry = readdir(stream));) { // NOLINT(concurrency-mt-unsafe)
        add_name(names, entry->d_name);
    }
    (void)closedir(stream);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

void fw_plugin_each(void (*found)(void *user, const char *name, const char *path), void *user)
{
    char folders[FOLDERS_SIZE];
    char folder[PATH_MAX];
    char path[PATH_MAX];
    const char *list = folders;
    struct names names = {0};

    fw_plugin_search_path(folders, sizeof folders);
    while (next_folder(&list, folder, sizeof folder)) {
        add_folder(&names, folder);
    }
    if (names.count) {
        qsort(names.items, names.count, sizeof *names.items, by_name);
    }
    for (size_t i = 0; i < names.count; i++) {
        if (fw_plugin_search(names.items[i], path, sizeof path)) {
            found(user, names.items[i], path);
        }
        free(names.items[i]);
    }
    free(names.items);
}

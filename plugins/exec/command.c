/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "exec.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* 0, or why this file cannot be run. */
static int executable(const char *path)
{
    struct stat st;
    if (stat(path, &st)) {
        return errno;
    }
    if (!S_ISREG(st.st_mode)) {
        return EACCES;
    }
    return access(path, X_OK) ? errno : 0;
}

static int find_in_path(const char *name, const char *path_variable, char ret_path[PATH_MAX])
{
    int error = ENOENT;
    const char *at = path_variable ? path_variable : "/usr/local/bin:/usr/bin:/bin";
    while (*at) {
        size_t len = strcspn(at, ":");
        int written = snprintf(ret_path, PATH_MAX, "%.*s/%s", (int)len, at, name);
        if (len && written > 0 && written < PATH_MAX) {
            int why = executable(ret_path);
            if (!why) {
                return 0;
            }
            error = why == EACCES ? EACCES : error;
        }
        at += len + (at[len] == ':');
    }
    return error;
}

/* A path with a '/' is seen from `directory`, as the command itself will see it. */
static int find_program(
    const char *name,
    const char *directory,
    const char *path_variable,
    char ret_path[PATH_MAX])
{
    char here[PATH_MAX];
    int written;
    if (!strchr(name, '/')) {
        return find_in_path(name, path_variable, ret_path);
    }
    if (*name == '/') {
        written = snprintf(ret_path, PATH_MAX, "%s", name);
    } else if (!getcwd(here, sizeof here)) {
        return errno;
    } else if (*directory == '/' || !*directory) {
        written = snprintf(ret_path, PATH_MAX, "%s/%s", *directory ? directory : here, name);
    } else {
        written = snprintf(ret_path, PATH_MAX, "%s/%s/%s", here, directory, name);
    }
    return written < 0 || written >= PATH_MAX ? ENAMETOOLONG : executable(ret_path);
}

/* {"/bin/sh", "-c", SCRIPT, "sh", WORD...}: the words are the script's $1, $2, ... */
static char **make_argv(const fila_option_value *words, bool shell)
{
    static const char *const SHELL[] = {"sh", "-c", NULL, "sh"};
    size_t extra = shell ? 3 : 0;
    const char **argv = calloc(words->count + extra + 1, sizeof *argv);
    if (!argv) {
        return NULL;
    }
    for (uint32_t i = 0; i < words->count; i++) {
        argv[i + extra] = words->strings[i];
    }
    if (shell) {
        for (size_t i = 0; i < 4; i++) {
            argv[i] = i == 2 ? words->strings[0] : SHELL[i];
        }
    }
    /* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): command_free frees it */
    return exec_words(argv);
}

static bool say(char *ret_why, size_t size, const char *what, const char *value, int error)
{
    char text[128];
    const char *why = error == EACCES   ? "it is not executable"
                      : error == ENOENT ? "there is no such file"
                                        : strerror_r(error, text, sizeof text);
    (void)snprintf(ret_why, size, "%s: cannot use \"%s\": %s", what, value, why);
    return false;
}

static int check_directory(const char *directory)
{
    struct stat st;
    if (!*directory) {
        return 0;
    }
    if (stat(directory, &st)) {
        return errno;
    }
    return S_ISDIR(st.st_mode) ? 0 : ENOTDIR;
}

bool command_find(
    struct command *command,
    const struct command_request *request,
    char *ret_why,
    size_t size)
{
    char path[PATH_MAX];
    const char *directory = request->directory;
    const char *program = request->shell ? "/bin/sh" : request->words->strings[0];
    int error = check_directory(directory);
    if (error) {
        return say(ret_why, size, "directory", directory, error);
    }
    error = *program ? find_program(program, directory, request->path_variable, path) : ENOENT;
    if (error) {
        return say(ret_why, size, "command", program, error);
    }
    command->directory = directory;
    command->path = strdup(path);
    command->argv = make_argv(request->words, request->shell);
    if (!command->path || !command->argv) {
        (void)snprintf(ret_why, size, "out of memory");
        return false;
    }
    return true;
}

void command_free(struct command *command)
{
    free(command->path);
    free(command->argv);
}

/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "cli.h"
#include "try.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Set for the second of the two programs: its words are the same. */
#define DEBUGGED "FILA_WORKER_TRY_DEBUGGED"

static const char *const GDB[] = {
    "gdb",    "-q",
    "-ex",    "set breakpoint pending on",
    "-ex",    "tbreak fw_try_handle",
    "-ex",    "run",
    "-ex",    "echo The handler is called next: step goes into it.\\n",
    "--args", NULL};

static const char *const VALGRIND[] = {
    "valgrind",
    "-q",
    "--leak-check=full",
    "--show-leak-kinds=definite",
    "--errors-for-leak-kinds=definite",
    "--error-exitcode=70",
    NULL};

char **fw_try_copy_words(int argc, char **argv)
{
    char **words = calloc((size_t)argc + 1, sizeof *words);
    for (int i = 0; words && i < argc; i++) {
        words[i] = strdup(argv[i]);
        if (!words[i]) {
            fw_try_free_words(words);
            return NULL;
        }
    }
    return words;
}

void fw_try_free_words(char **words)
{
    for (char **word = words; word && *word; word++) {
        free(*word);
    }
    free(words);
}

int fw_try_debug(const struct fw_try *request, int argc, char **words)
{
    char program[PATH_MAX];
    const char *const *tool = request->debugger == FW_TRY_GDB ? GDB : VALGRIND;
    size_t n = 0;
    if (getenv(DEBUGGED)) { // NOLINT(concurrency-mt-unsafe): main thread
        return -1;
    }
    if (request->debugger == FW_TRY_GDB && !strcmp(request->file, "-")) {
        return fw_cli_usage("try", "--gdb needs a FILE: standard input is the debugger's");
    }
    ssize_t len = readlink("/proc/self/exe", program, sizeof program - 1);
    char **command = calloc((size_t)argc + 16, sizeof *command);
    if (len < 0 || !command) {
        free(command);
        return fw_cli_fail("try", FW_EXIT_INTERNAL, "out of memory");
    }
    program[len] = '\0';
    for (; tool[n]; n++) {
        command[n] = strdup(tool[n]);
    }
    command[n++] = program;
    memcpy(command + n, words, (size_t)argc * sizeof *command);
    (void)setenv(DEBUGGED, "1", 1); // NOLINT(concurrency-mt-unsafe): main thread
    (void)execvp(command[0], command);
    int status =
        fw_cli_fail("try", FW_EXIT_PLUGIN, "cannot start %s: %s", tool[0], strerrordesc_np(errno));
    for (size_t i = 0; tool[i]; i++) {
        free(command[i]);
    }
    free(command);
    return status;
}

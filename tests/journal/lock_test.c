/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * One process at a time in a state folder.
 */
#include "journal/lock.h"

#include <criterion/criterion.h>

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static char dir[] = "/tmp/fila-lock-XXXXXX";

static void setup(void)
{
    cr_assert_not_null(mkdtemp(dir));
}

static void teardown(void)
{
    char path[128];
    (void)snprintf(path, sizeof(path), "%s/lock", dir);
    (void)unlink(path);
    (void)rmdir(dir);
}

TestSuite(lock, .init = setup, .fini = teardown);

Test(lock, one_process_a_folder)
{
    int fd = -1;
    int second = -1;
    char expected[256];
    fila_error error = FILA_ERROR_INIT;
    cr_assert_eq(fw_state_lock(dir, &fd, &error), FILA_OK);
    cr_assert_eq(fw_state_lock(dir, &second, &error), FILA_DENIED);
    (void)snprintf(
        expected, sizeof(expected),
        "\"%s\" is in use by another fila-worker (process %ld): each worker needs a state_dir of "
        "its own",
        dir, (long)getpid());
    cr_assert_str_eq(error.text, expected);
    (void)close(fd);
    cr_assert_eq(fw_state_lock(dir, &second, &error), FILA_OK);
    (void)close(second);
}

Test(lock, a_folder_that_cannot_be_made_is_refused)
{
    int fd = -1;
    fila_error error = FILA_ERROR_INIT;
    cr_assert_eq(fw_state_lock("/proc/nothing/here", &fd, &error), FILA_INVALID_ARGUMENT);
    cr_assert_str_eq(
        error.text, "cannot make state_dir \"/proc/nothing/here\": No such file or directory");
    char path[128];
    char made[160];
    (void)snprintf(path, sizeof(path), "%s/made", dir);
    (void)snprintf(made, sizeof(made), "%s/lock", path);
    cr_assert_eq(fw_state_lock(path, &fd, &error), FILA_OK);
    struct stat info;
    cr_assert_eq(stat(path, &info), 0);
    cr_assert_eq(info.st_mode & 0777, 0700);
    (void)close(fd);
    (void)unlink(made);
    (void)rmdir(path);
}

/* A folder that may not be written in: said with the reason, and nothing is begun. */
Test(lock, a_folder_that_cannot_be_written_is_refused)
{
    int fd = -1;
    fila_error error = FILA_ERROR_INIT;
    cr_assert_eq(fw_state_lock("/proc/self", &fd, &error), FILA_INVALID_ARGUMENT);
    cr_assert_eq(
        strncmp(error.text, "cannot write in state_dir \"/proc/self\": ", 40), 0, "%s", error.text);
    cr_assert_eq(fd, -1);
}

/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * A config as a row of a test: its text, what surrounds it, and what is said about it.
 */
#ifndef TEST_CONFIG_ROWS_H
#define TEST_CONFIG_ROWS_H

#include "config/config.h"

#include <stdlib.h>

struct config_row {
    const char *what;
    const char *text; /* of main.cfg */
    const char *expected;
    const char *env;   /* NAME=VALUE lines */
    const char *other; /* a second file beside it */
    const char *other_text;
    const char *sets[4];
};

/* Loads the row from a folder of its own, with no FILA_ variable but the row's, and returns what
 * was said: "[FILE:]LINE:COLUMN error|warning KEY: TEXT" a line. The caller frees both. */
char *config_row_load(const struct config_row *row, struct fw_config **ret_config);

/* The same for a text alone; exits the test when it does not load. */
struct fw_config *config_of(const char *text);

#endif

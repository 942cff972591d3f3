/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * The first step of a reload: the new config is read in a process of its own, because libconfig can
 * end the process that parses a bad file (design.md chapter 9). Thread: supervisor; waits for at
 * most 10 s.
 */
#ifndef FW_HOST_PRECHECK_H
#define FW_HOST_PRECHECK_H

#include "config/config.h"

/* What else is to be done meanwhile: called about every 50 ms; false = wait no longer. */
struct fw_waiting {
    bool (*go_on)(void *user);
    void *user;
};

/* Runs `fila-worker check --offline --config PATH` with the same overrides. False with what it said
 * in ret_why (one line). */
bool fw_precheck(
    const char *path,
    const struct fw_config_overrides *overrides,
    const struct fw_waiting *waiting,
    char *ret_why,
    size_t size);

#endif

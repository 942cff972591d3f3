/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * A queue's scripts in a test's hand: compiled, and run as the engine does, without an engine. The
 * clock stands still until the test moves it.
 */
#ifndef TESTS_BROKER_SCRIPT_RIG_H
#define TESTS_BROKER_SCRIPT_RIG_H

#include "base/clock.h"
#include "broker/lua.h"

struct script_rig {
    struct fb_lua *lua;
    struct fq_hooks hooks;
    struct fb_scripts *scripts;
    uint32_t failures; /* runs that failed */
    bool bypassed;     /* as the last one said */
    char failure[512]; /* what it said: "hook: text" */
    char answer[4096];
};

/* What fila.get answers to "limit" is "7", to "empty" nothing, and nothing to all else. */
struct script_rig *script_rig_open(void);
void script_rig_close(struct script_rig *rig);
void script_rig_clock(int64_t at);

/* Replaces the scripts. NULL = none. False: `failure` says why they do not compile. */
bool script_rig_compile(struct script_rig *rig, const char *on_enqueue, const char *on_failure);

/* Runs on_enqueue for a message of 5 bytes in queue "orders" with the headers tenant=acme and
 * n=12: "key/weight/throttle keys with commas between them". */
const char *script_rig_enqueue(struct script_rig *rig);
/* The same of on_failure, for the third attempt and the error "no way": "retry" or "dlq". */
const char *script_rig_fail(struct script_rig *rig);
const char *script_rig_fail_with(struct script_rig *rig, uint32_t attempts, const char *error);

#endif

/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * A log in memory in place of workers/log, for tests that assert what was logged. Thread: any.
 */
#ifndef TESTLOG_H
#define TESTLOG_H

#include "log/log.h"

int testlog_count(enum fw_event event);
/* The text and the fields ("name=value ") of the last line of that event; "" if there is none. */
const char *testlog_last(enum fw_event event);

#endif

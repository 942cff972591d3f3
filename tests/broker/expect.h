/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * Shorthands of the engine's suites.
 */
#ifndef TESTS_BROKER_EXPECT_H
#define TESTS_BROKER_EXPECT_H

#include "rig.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#define EXPECT_TEXT(got, wanted) \
    cr_expect(eq(str, (char *)(uintptr_t)(got), (char *)(uintptr_t)(wanted)))
/* All that waits for the consumer, as rig_take writes it. */
#define EXPECT_TAKES(rig, consumer, letters) EXPECT_TEXT(rig_take(rig, consumer), letters)
#define EXPECT_STATS(rig, queue, text)       EXPECT_TEXT(rig_stats(rig, queue), text)
#define EXPECT_OK(status)                    cr_expect(eq(int, (status), FILA_OK))

#endif

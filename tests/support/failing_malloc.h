/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * Allocations that fail when a test says so. For programs linked with FILA_FAILING_MALLOC (see
 * tests/support/CMakeLists.txt): those of the project's own code, not of other libraries.
 */
#ifndef TESTS_SUPPORT_FAILING_MALLOC_H
#define TESTS_SUPPORT_FAILING_MALLOC_H

#include <stdbool.h>

/* The nth allocation of this thread from now on fails (1 = the next), once; 0 = none does. */
void fail_nth_allocation(unsigned nth);

/* Whether it has come to that; and none fails any more. */
bool allocation_failed(void);

#endif

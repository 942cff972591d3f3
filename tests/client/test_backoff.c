/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "fila/client.h"

#include <criterion/criterion.h>

Test(backoff, doubles_to_the_longest_without_jitter)
{
    const uint32_t want[] = {200, 400, 800, 1600, 2000, 2000};
    fila_backoff backoff;
    fila_backoff_init(&backoff, 200, 2000, 0, 1);
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        cr_expect_eq(fila_backoff_next(&backoff), want[i], "pause %zu", i);
    }
    fila_backoff_reset(&backoff);
    cr_expect_eq(fila_backoff_next(&backoff), 200);
}

Test(backoff, jitter_stays_in_its_range_and_fills_it)
{
    const uint32_t percents[] = {100, 50, 10, 1000};
    for (size_t i = 0; i < sizeof percents / sizeof *percents; i++) {
        uint32_t percent = percents[i] > 100 ? 100 : percents[i];
        uint32_t low = 1000 - 1000 * percent / 100;
        uint32_t least = UINT32_MAX;
        uint32_t most = 0;
        fila_backoff backoff;
        fila_backoff_init(&backoff, 1000, 1000, percents[i], 42);
        for (int n = 0; n < 2000; n++) {
            uint32_t pause = fila_backoff_next(&backoff);
            least = pause < least ? pause : least;
            most = pause > most ? pause : most;
        }
        cr_expect(least >= low && most <= 1000, "%u%%: [%u, %u]", percent, least, most);
        cr_expect(least <= low + 10 && most >= 990, "%u%%: [%u, %u]", percent, least, most);
    }
}

Test(backoff, a_seed_gives_the_same_pauses_again)
{
    fila_backoff a;
    fila_backoff b;
    fila_backoff other;
    unsigned same = 0;
    fila_backoff_init(&a, 1000, 60000, 100, 7);
    fila_backoff_init(&b, 1000, 60000, 100, 7);
    fila_backoff_init(&other, 1000, 60000, 100, 8);
    for (int i = 0; i < 100; i++) {
        uint32_t pause = fila_backoff_next(&a);
        cr_expect_eq(pause, fila_backoff_next(&b));
        same += pause == fila_backoff_next(&other);
    }
    cr_expect(same < 10);
}

Test(backoff, two_without_a_seed_differ)
{
    fila_backoff a;
    fila_backoff b;
    unsigned same = 0;
    fila_backoff_init(&a, 1u << 20, 1u << 20, 100, 0);
    fila_backoff_init(&b, 1u << 20, 1u << 20, 100, 0);
    for (int i = 0; i < 100; i++) {
        same += fila_backoff_next(&a) == fila_backoff_next(&b);
    }
    cr_expect(same < 10);
}

Test(backoff, odd_limits)
{
    fila_backoff backoff;
    fila_backoff_init(&backoff, 500, 100, 0, 1);
    cr_expect_eq(fila_backoff_next(&backoff), 500);
    cr_expect_eq(fila_backoff_next(&backoff), 500);
    fila_backoff_init(&backoff, 0, 3, 0, 1);
    cr_expect_eq(fila_backoff_next(&backoff), 0);
    cr_expect_eq(fila_backoff_next(&backoff), 1);
    cr_expect_eq(fila_backoff_next(&backoff), 2);
    cr_expect_eq(fila_backoff_next(&backoff), 3);
    fila_backoff_init(&backoff, UINT32_MAX, UINT32_MAX, 100, 1);
    for (int i = 0; i < 100; i++) {
        (void)fila_backoff_next(&backoff);
    }
    cr_expect_eq(backoff.next_ms, UINT32_MAX);
}

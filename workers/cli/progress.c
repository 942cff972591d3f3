/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "progress.h"

#include "base/clock.h"

#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

enum {
    BAR = 30
};

void fw_progress_start(struct fw_progress *progress, const char *what, uint64_t total)
{
    *progress = (struct fw_progress){.what = what, .total = total, .started = fila_now()};
    progress->on = isatty(STDERR_FILENO) == 1;
}

static void draw(const struct fw_progress *p, int64_t now)
{
    char bar[BAR + 1];
    double seconds = (double)(now - p->started) / 1e9;
    double rate = seconds > 0 ? (double)p->done / seconds : 0;
    if (p->total) {
        uint64_t filled = p->done * BAR / p->total;
        for (uint64_t i = 0; i < BAR; i++) {
            bar[i] = i < filled ? '#' : '.';
        }
        bar[BAR] = '\0';
        (void)fprintf(
            stderr, "\r\033[K[%s] %" PRIu64 "/%" PRIu64 " %s, %.0f/s", bar, p->done, p->total,
            p->what, rate);
    } else {
        (void)fprintf(stderr, "\r\033[K%" PRIu64 " %s, %.0f/s", p->done, p->what, rate);
    }
    (void)fflush(stderr);
}

void fw_progress_set(struct fw_progress *progress, uint64_t done)
{
    progress->done = done;
    if (!progress->on) {
        return;
    }
    int64_t now = fila_now();
    if (now - progress->drawn >= FILA_S / 10) {
        progress->drawn = now;
        draw(progress, now);
    }
}

void fw_progress_end(struct fw_progress *progress)
{
    if (progress->on && progress->drawn) {
        (void)fputs("\r\033[K", stderr);
        (void)fflush(stderr);
    }
}

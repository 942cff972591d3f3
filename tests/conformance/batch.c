/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "conformance/conformance.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    MOST_JOBS = 16,
    ROW_SECONDS = 180 /* without a word from a batch, under the slowest of tools */
};

/* A process that runs rows. */
struct batch {
    pid_t pid;
    int results;    /* the reading end of its pipe */
    size_t *rows;   /* those that it has not told about */
    size_t count;   /* of them */
    size_t done;    /* of them */
    int64_t silent; /* since when */
};

struct result CURRENT;
static int told = -1;

void report(const struct result *result)
{
    if (write(told, result, sizeof *result) != (ssize_t)sizeof *result) {
        _exit(2);
    }
}

/* ---- In the batch's process ---- */

static void run_row(struct world *w, const struct row *row)
{
    w->row = row;
    w->q = row->id;
    row->run(w);
    world_tidy(w);
}

_Noreturn static void run_batch(const struct plan *plan, const struct batch *batch)
{
    struct world world;
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (size_t i = 0; i < batch->count; i++) {
        const struct row *row = plan->rows[batch->rows[i]];
        CURRENT = (struct result){.row = batch->rows[i]};
        if (i == 0) {
            world_open(&world, plan->target, row);
        }
        run_row(&world, row);
        CURRENT.outcome = OUTCOME_PASS;
        report(&CURRENT);
    }
    world_close(&world);
    exit(0);
}

/* ---- In the runner ---- */

static bool start(const struct plan *plan, struct batch *batch)
{
    int ends[2];
    batch->done = 0;
    (void)fflush(stdout);
    if (pipe(ends) || (batch->pid = fork()) < 0) {
        perror("conformance: pipe, fork");
        batch->pid = 0;
        return false;
    }
    if (batch->pid == 0) {
        (void)close(ends[0]);
        told = ends[1];
        run_batch(plan, batch);
    }
    (void)close(ends[1]);
    batch->results = ends[0];
    batch->silent = fila_now();
    return true;
}

static void lost(struct result *result, const char *got)
{
    result->outcome = OUTCOME_DIFFERS;
    (void)snprintf(result->expected, sizeof result->expected, "an end of the row");
    (void)snprintf(result->got, sizeof result->got, "%s", got);
}

static void end(const struct plan *plan, struct batch *batch)
{
    char text[80];
    int status = 0;
    (void)close(batch->results);
    (void)waitpid(batch->pid, &status, 0);
    batch->pid = 0;
    bool explained = batch->done > 0 &&
                     plan->results[batch->rows[batch->done - 1]].outcome != OUTCOME_PASS;
    if ((WIFEXITED(status) && WEXITSTATUS(status) == 0) || explained) {
        return;
    }
    (void)snprintf(text, sizeof text, "its process ended with wait status %#x", (unsigned)status);
    if (batch->done == batch->count) { /* a leak, or a crash of the end */
        batch->done--;
    }
    lost(&plan->results[batch->rows[batch->done++]], text);
}

static void take_result(const struct plan *plan, struct batch *batch)
{
    struct result result;
    ssize_t n = read(batch->results, &result, sizeof result);
    batch->silent = fila_now();
    if (n == (ssize_t)sizeof result) {
        const struct row *row = plan->rows[result.row];
        if (row->deviates && (plan->target != TARGET_SERVER || getenv("FILA_STAND_IN"))) {
            bool differed = result.outcome == OUTCOME_DIFFERS;
            result.outcome = differed ? OUTCOME_DEVIATES : OUTCOME_DIFFERS;
            if (!differed) {
                (void)snprintf(result.expected, sizeof result.expected, "the listed deviation");
                (void)snprintf(result.got, sizeof result.got, "none");
            }
        }
        plan->results[result.row] = result;
        batch->done++;
        return;
    }
    size_t left = batch->count;
    end(plan, batch);
    left -= batch->done;
    if (left) { /* the rest, in a new process */
        batch->rows += batch->done;
        batch->count = left;
        (void)start(plan, batch);
    }
}

static void check_time(const struct plan *plan, struct batch *batch)
{
    if (batch->pid && fila_now() - batch->silent > ROW_SECONDS * FILA_S) {
        (void)kill(batch->pid, SIGKILL);
    }
    (void)plan;
}

/* The rows that share a broker come in `shares` batches, each other one alone. */
static size_t divide(const struct plan *plan, struct batch *batches, size_t shares, size_t *places)
{
    size_t count = shares;
    for (size_t i = 0; i < shares; i++) {
        batches[i] = (struct batch){.rows = places + i * plan->count};
    }
    size_t turn = 0;
    size_t *alone = places + shares * plan->count;
    for (size_t i = 0; i < plan->count; i++) {
        const struct row *row = plan->rows[i];
        if (!plan->chosen[i] || !row->run || not_here(row, plan->target)) {
            continue;
        }
        if (row->flags & (ROW_OWN | ROW_PROCESS) || row->wishes.command_capacity ||
            row->wishes.quantum || row->wishes.idle_timeout_ms) {
            *alone = i;
            batches[count++] = (struct batch){.rows = alone++, .count = 1};
        } else {
            struct batch *shared = &batches[turn++ % shares];
            shared->rows[shared->count++] = i;
        }
    }
    return count;
}

static void run_batches(const struct plan *plan, struct batch *batches, size_t count)
{
    struct batch *running[MOST_JOBS];
    struct pollfd polls[MOST_JOBS];
    size_t active = 0;
    size_t at = 0;
    size_t jobs = plan->jobs < MOST_JOBS ? (size_t)plan->jobs : MOST_JOBS;
    while (at < count || active) {
        while (active < jobs && at < count) {
            if (batches[at].count && start(plan, &batches[at])) {
                running[active++] = &batches[at];
            }
            at++;
        }
        for (size_t i = 0; i < active; i++) {
            polls[i] = (struct pollfd){.fd = running[i]->results, .events = POLLIN};
        }
        (void)poll(polls, active, 1000);
        for (size_t i = active; i-- > 0;) {
            if (polls[i].revents) {
                take_result(plan, running[i]);
            }
            check_time(plan, running[i]);
            if (!running[i]->pid) {
                running[i] = running[--active];
            }
        }
    }
}

void run_plan(const struct plan *plan)
{
    size_t shares = plan->jobs > 2 ? 3 : 1;
    struct batch *batches = calloc(plan->count + shares, sizeof *batches);
    size_t *places = calloc((shares + 1) * plan->count + 1, sizeof *places);
    if (!batches || !places) {
        abort();
    }
    run_batches(plan, batches, divide(plan, batches, shares, places));
    free(places);
    free(batches);
}

/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * The model of a worker's state folder: the journal as far as it had reached the disk, and the
 * crash record, which is always up to date.
 */
#include "sim/world.h"

#include <stdlib.h>
#include <string.h>

bool sim_state_init(struct sim_state *state, uint32_t messages)
{
    state->known = calloc(messages, sizeof(*state->known));
    state->crashes = calloc(messages, sizeof(*state->crashes));
    return state->known != NULL && state->crashes != NULL;
}

void sim_state_fini(struct sim_state *state)
{
    free(state->log);
    free(state->known);
    free(state->crashes);
    *state = (struct sim_state){0};
}

void sim_state_record(struct sim_worker *worker, const struct fw_command *command)
{
    struct sim_state *state = &worker->state;
    const struct sim_delivery *d = command->user;
    if (state->count == state->capacity) {
        state->capacity = state->capacity == 0 ? 256 : 2 * state->capacity;
        state->log = realloc(state->log, state->capacity * sizeof(*state->log));
        if (state->log == NULL) {
            abort();
        }
    }
    state->log[state->count++] = (struct sim_record){
        .at = worker->world->now,
        .message = d->message,
        .tries = command->attempt,
        .seen = command->seen,
        .not_before = command->deadline,
        .doomed = command->cause,
        .done = command->done,
        .done_as = command->outcome,
    };
}

/* What ran is suspected; what ran alone is guilty of one crash more. */
static void accuse(struct sim_worker *worker)
{
    for (const struct sim_delivery *d = worker->deliveries; d != NULL; d = d->next) {
        uint8_t *crashes = &worker->state.crashes[d->message];
        if (d->run != 0) {
            *crashes = (uint8_t)((*crashes > 0 ? *crashes : 1) + d->alone);
        }
    }
}

void sim_state_keep(struct sim_worker *worker, bool killed)
{
    struct world *w = worker->world;
    struct sim_state *state = &worker->state;
    int64_t reached = killed ? w->now - sim_between(w, 0, w->config.journal_lag) : w->now;
    for (size_t i = 0; i < state->count && state->log[i].at <= reached; i++) {
        state->known[state->log[i].message] = state->log[i];
    }
    state->count = 0;
    if (killed) {
        accuse(worker);
    }
}

static bool says(const struct sim_record *r)
{
    return r->tries > 0 || r->not_before > 0 || r->doomed != FW_CAUSE_NONE || r->done;
}

static void restore(struct sim_worker *worker, const struct sim_record *r)
{
    struct world *w = worker->world;
    struct sim_message *m = &w->messages[r->message];
    struct sim_seen *seen = &worker->seen[r->message];
    struct fw_restored restored = {
        .queue = "q",
        .queue_len = SIM_QUEUE_LEN,
        .id = m->id,
        .id_len = strlen(m->id),
        .tries = r->tries,
        .seen = r->seen,
        .not_before = r->not_before,
        .doomed = r->doomed,
        .done = r->done,
        .done_as = r->done_as,
    };
    fw_delivery_restore(worker->engine, w->now, &restored);
    seen->tries = r->tries;
    seen->spaced_until = r->not_before;
    seen->rejected = r->doomed == FW_CAUSE_REJECT || (r->done && r->done_as == FW_DROPPED);
    seen->succeeded = r->done && r->done_as == FW_ACKED;
    seen->published = r->done && r->done_as == FW_DEAD_LETTERED;
    w->figures.runs_spared += r->done;
}

static void suspect(struct sim_worker *worker, uint32_t message, uint32_t crashes)
{
    struct world *w = worker->world;
    struct sim_message *m = &w->messages[message];
    struct sim_seen *seen = &worker->seen[message];
    struct fw_restored restored = {
        .queue = "q",
        .queue_len = SIM_QUEUE_LEN,
        .id = m->id,
        .id_len = strlen(m->id),
    };
    fw_delivery_suspect(worker->engine, w->now, &restored, crashes);
    seen->crashes = crashes;
    seen->suspect = true;
    sim_trace(w, "suspect", worker->index, message, crashes);
}

void sim_state_restore(struct sim_worker *worker)
{
    const struct world *w = worker->world;
    for (uint32_t i = 0; i < w->config.messages; i++) {
        if (says(&worker->state.known[i])) {
            restore(worker, &worker->state.known[i]);
        }
        if (worker->state.crashes[i] > 0) {
            suspect(worker, i, worker->state.crashes[i] - UINT32_C(1));
        }
    }
}

void sim_state_ran(struct sim_delivery *d, const struct fw_verdict *verdict)
{
    bool cut = d->cancelled && verdict->kind != FW_ACK && verdict->kind != FW_REJECT;
    if (d->suspect && !cut) {
        d->worker->state.crashes[d->message] = 0;
        d->worker->seen[d->message].suspect = false;
        d->worker->seen[d->message].crashes = 0;
    }
}

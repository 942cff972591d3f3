/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * The engine's journal under random commands, seed after seed, without a disk: groups are applied
 * to a table of rows, as a store would. Whenever all is applied, the rows are what the engine has;
 * a message is handed out only with its lease in the rows; and now and then the engine is dropped
 * with what is not applied, as by a crash, and made again from the rows: then it has what they say.
 * `journal_random SEED` replays one seed.
 */
#include "base/clock.h"
#include "broker/queue_journal.h"

#include <stdio.h>
#include <stdlib.h>

#define QUEUES    3
#define NAMES     (2 * QUEUES)
#define CONSUMERS 4
#define ROWS      3000
#define STEPS     4000
#define HELD      64
#define SEEDS     12

static const char *const NAME[NAMES] = {"a", "b", "c", "a.dlq", "b.dlq", "c.dlq"};
static const char *const KEY[] = {"red", "green", "blue"};

struct row {
    bool there;
    bool hidden; /* pending when its queue was deleted: the engine has forgotten it */
    bool restated;
    uint64_t queue;
    uint8_t id[16];
    char text[FQ_ID_SIZE];
    char key[8];
    uint32_t weight;
    uint32_t attempts;
    int64_t lease_end;
    char payload[16];
};

struct queue_row {
    bool there; /* numbers are not used twice */
    bool present;
    char name[8];
    int64_t visibility;
};

struct rig {
    uint64_t seed;
    uint64_t random;
    uint64_t step;
    int64_t now;
    struct fq_engine *engine;
    struct fq_group group;
    struct row rows[ROWS];
    uint64_t row_count;
    struct queue_row queues[ROWS];
    char setting[3][8];
    struct fq_consumer *consumers[CONSUMERS];
    char held[HELD][2][FQ_ID_SIZE]; /* queue, id */
    uint32_t held_count;
    uint32_t counter;
    uint64_t crashes;
    uint64_t taken;
};

static void require(const struct rig *r, bool holds, const char *what)
{
    if (!holds) {
        fprintf(
            stderr, "seed %llu step %llu: %s\n", (unsigned long long)r->seed,
            (unsigned long long)r->step, what);
        abort();
    }
}

static uint32_t pick(struct rig *r, uint32_t below)
{
    r->random = r->random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)((r->random >> 33) % below);
}

/* ---- Hooks: keys and dead letters ---- */

static void on_enqueue(
    void *user,
    void *scripts,
    const struct fila_message_fields *message,
    struct fq_plan *plan)
{
    struct rig *r = user;
    (void)scripts;
    (void)message;
    plan->fairness_key = fila_view_of(KEY[pick(r, 3)]);
    plan->weight = 1 + pick(r, 3);
}

static enum fq_failure on_failure(
    void *user,
    void *scripts,
    const struct fila_message_fields *message,
    fila_view error)
{
    (void)scripts;
    (void)message;
    (void)error;
    return pick(user, 3) ? FQ_FAILURE_RETRY : FQ_FAILURE_DEAD_LETTER;
}

/* ---- The rows ---- */

static void put_text(char *to, size_t room, fila_view text)
{
    (void)snprintf(to, room, "%.*s", (int)text.len, text.data);
}

static void apply_message(struct rig *r, const struct fq_change *change)
{
    struct row *row = &r->rows[change->seq];
    require(r, change->seq < ROWS, "a sequence number is out of range");
    require(r, change->put != row->there, "a message is put twice, or changed before it was put");
    require(r, change->put == (change->message != NULL), "a reference is kept without need");
    if (change->settled) {
        require(r, change->was_restated || !row->restated, "it is not told that a state is stored");
        memset(row, 0, sizeof *row);
        return;
    }
    if (change->put) {
        struct fila_message_fields fields;
        fq_stored_fields(change->message, &fields);
        row->there = true;
        memcpy(row->id, fq_stored_id(change->message), sizeof row->id);
        fq_id_format(row->id, row->text);
        put_text(row->key, sizeof row->key, fields.fairness_key);
        put_text(row->payload, sizeof row->payload, fields.payload);
        row->weight = fields.weight;
        row->queue = change->queue;
        r->row_count = change->seq >= r->row_count ? change->seq + 1 : r->row_count;
    }
    if (change->put || change->restated) {
        row->attempts = change->attempt_count;
        row->lease_end = change->lease_end;
        row->restated = row->restated || change->restated;
    }
    if (change->moved) {
        row->queue = change->queue;
    }
}

static void apply(struct rig *r, const struct fq_change *change)
{
    switch (change->kind) {
    case FQ_CHANGE_MESSAGE:
        apply_message(r, change);
        break;
    case FQ_CHANGE_QUEUE: {
        struct queue_row *queue = &r->queues[change->queue];
        require(r, change->queue < ROWS, "a queue's number is out of range");
        require(r, change->settled == queue->present, "a queue is made twice or deleted twice");
        queue->there = true;
        queue->present = !change->settled;
        put_text(queue->name, sizeof queue->name, change->admin->name);
        queue->visibility = change->admin->visibility_timeout;
        break;
    }
    case FQ_CHANGE_SETTING: {
        char *value = r->setting[change->admin->name.data[0] - '0'];
        put_text(value, sizeof r->setting[0], change->admin->value);
        require(r, change->settled == (*value == '\0'), "an empty value deletes");
        break;
    }
    default:
        break;
    }
}

static void commit(struct rig *r)
{
    if (fq_journal_take(r->engine, &r->group)) {
        require(r, !r->group.incomplete, "memory");
        for (size_t i = 0; i < r->group.count; i++) {
            apply(r, &r->group.list[i]);
        }
        fq_journal_durable(r->engine, r->group.number);
    }
    require(r, !fq_journal_dirty(r->engine), "a group is left over");
}

static bool name_is_there(const struct rig *r, const char *name)
{
    for (uint64_t i = 0; i < ROWS; i++) {
        if (r->queues[i].present && strcmp(r->queues[i].name, name) == 0) {
            return true;
        }
    }
    return false;
}

/* ---- Rows and engine are the same ---- */

static void compare(struct rig *r, bool restored)
{
    require(r, !fq_check(r->engine), fq_check(r->engine));
    for (uint64_t i = 0; i < r->row_count; i++) {
        struct row *row = &r->rows[i];
        struct fq_found found;
        enum fq_state state;
        bool present;
        if (!row->there) {
            continue;
        }
        state = fq_find(r->engine, fila_view_of(row->text), &found);
        present = name_is_there(r, r->queues[row->queue].name);
        if (restored) {
            row->hidden = !present && row->lease_end == 0;
        }
        if (state == FQ_GONE) {
            require(r, row->lease_end == 0, "a leased message is not in the engine");
            require(r, row->hidden || (!restored && !present), "a pending message is lost");
            row->hidden = true;
            continue;
        }
        require(r, !row->hidden, "a hidden message is there");
        require(
            r,
            found.queue.len == strlen(r->queues[row->queue].name) &&
                memcmp(found.queue.data, r->queues[row->queue].name, found.queue.len) == 0,
            "it is in another queue");
        require(r, found.attempt_count == row->attempts, "the attempts differ");
        require(r, (state == FQ_LEASED) == (row->lease_end != 0), "leased and pending differ");
        require(r, state != FQ_LEASED || found.lease_end == row->lease_end, "the leases differ");
    }
    for (int digit = 0; digit < 3; digit++) {
        char name = (char)('0' + digit);
        fila_view value = fq_get_config(r->engine, r->now, (fila_view){&name, 1});
        const char *wanted = r->setting[digit];
        require(
            r,
            value.len == strlen(wanted) &&
                (!value.len || memcmp(value.data, wanted, value.len) == 0),
            "a setting differs");
    }
}

/* ---- Restart ---- */

static struct fq_config config_of(struct rig *r)
{
    struct fq_config config = FQ_CONFIG_INIT;
    config.seed = r->random;
    config.hooks = (struct fq_hooks){r, on_enqueue, on_failure, NULL};
    return config;
}

/* What restoring does to a row whose lease has ended. */
static void expire_rows(struct rig *r)
{
    for (uint64_t i = 0; i < r->row_count; i++) {
        if (r->rows[i].there && r->rows[i].lease_end && r->rows[i].lease_end <= r->now) {
            r->rows[i].lease_end = 0;
            r->rows[i].attempts++;
            r->rows[i].hidden = false;
        }
    }
}

static void restore(struct rig *r)
{
    struct fq_config config = config_of(r);
    r->engine = fq_new(&config, r->now);
    require(r, r->engine != NULL, "memory");
    fq_journal_start(r->engine);
    for (uint64_t i = 0; i < ROWS; i++) {
        const struct queue_row *queue = &r->queues[i];
        struct fq_stored_queue stored = {
            .number = i,
            .name = fila_view_of(queue->name),
            .exists = queue->present,
            .options = {.visibility_timeout = queue->visibility},
        };
        require(r, !queue->there || fq_restore_queue(r->engine, &stored) == FILA_OK, "a queue");
    }
    for (int digit = 0; digit < 3; digit++) {
        char name = (char)('0' + digit);
        fila_view value = fila_view_of(r->setting[digit]);
        require(
            r, fq_restore_setting(r->engine, r->now, (fila_view){&name, 1}, value) == FILA_OK,
            "a setting");
    }
    for (uint64_t i = 0; i < r->row_count; i++) {
        const struct row *row = &r->rows[i];
        struct fq_stored_message stored = {
            .seq = i,
            .queue = fila_view_of(r->queues[row->queue].name),
            .payload = fila_view_of(row->payload),
            .plan = {.fairness_key = fila_view_of(row->key), .weight = row->weight},
            .attempt_count = row->attempts,
            .lease_end = row->lease_end,
            .restated = row->restated,
        };
        memcpy(stored.id, row->id, sizeof stored.id);
        require(
            r, !row->there || fq_restore_message(r->engine, r->now, &stored) == FILA_OK,
            "a message");
    }
    fq_restore_end(r->engine, r->row_count);
}

static void crash(struct rig *r)
{
    struct row *before = malloc(sizeof r->rows);
    require(r, before != NULL, "memory");
    fq_free(r->engine);
    memset(r->consumers, 0, sizeof r->consumers);
    r->now += (int64_t)pick(r, 3) * 20 * FILA_S;
    restore(r);
    memcpy(before, r->rows, sizeof r->rows);
    for (uint64_t i = 0; i < r->row_count; i++) { /* for the comparison: as just before */
        r->rows[i].hidden = r->rows[i].there && r->rows[i].lease_end == 0 &&
                            !name_is_there(r, r->queues[r->rows[i].queue].name);
    }
    expire_rows(r);
    for (uint64_t i = 0; i < r->row_count; i++) {
        struct fq_found found;
        const struct row *row = &r->rows[i];
        enum fq_state state = row->there ? fq_find(r->engine, fila_view_of(row->text), &found)
                                         : FQ_GONE;
        require(
            r, !row->there || row->hidden == (state == FQ_GONE),
            "what is hidden is what is pending in no queue");
        require(
            r, state == FQ_GONE || found.attempt_count == row->attempts,
            "an ended lease counts as an attempt");
    }
    for (uint64_t i = 0; i < r->row_count; i++) {
        bool hidden = r->rows[i].hidden;
        r->rows[i] = before[i];
        r->rows[i].hidden = hidden;
    }
    free(before);
    commit(r); /* the ends of leases are in the journal */
    compare(r, false);
    r->crashes++;
}

/* ---- Commands ---- */

static void enqueue(struct rig *r)
{
    char payload[16];
    struct fq_enqueue in = {fila_view_of(NAME[pick(r, NAMES)]), NULL, 0, {NULL, 0}};
    if (r->row_count >= ROWS - 100) {
        return;
    }
    (void)snprintf(payload, sizeof payload, "%u", r->counter++);
    in.payload = fila_view_of(payload);
    (void)!fq_enqueue(r->engine, r->now, r->now / FILA_MS, &in, NULL);
}

static void open_or_close(struct rig *r)
{
    struct fq_consumer **consumer = &r->consumers[pick(r, CONSUMERS)];
    if (*consumer) {
        fq_consumer_close(r->engine, r->now, *consumer);
        *consumer = NULL;
        return;
    }
    require(
        r,
        fq_consumer_open(r->engine, r->now, fila_view_of(NAME[pick(r, NAMES)]), NULL, consumer) ==
            FILA_OK,
        "a consumer");
}

/* A message that is handed out: its lease, if it is still the one, is in the rows. */
static void check_taken(struct rig *r, const struct fq_delivery *delivery)
{
    struct fq_found found;
    if (fq_find(r->engine, delivery->fields.id, &found) != FQ_LEASED ||
        found.lease_end != delivery->lease_end ||
        found.attempt_count != delivery->fields.attempt_count) {
        return; /* stale: another has it, or nobody */
    }
    for (uint64_t i = 0; i < r->row_count; i++) {
        if (r->rows[i].there && memcmp(r->rows[i].text, delivery->fields.id.data, 36) == 0) {
            require(r, r->rows[i].lease_end == delivery->lease_end, "handed out before its lease");
            return;
        }
    }
    require(r, false, "handed out before it was stored");
}

static void take(struct rig *r)
{
    struct fq_consumer *consumer = r->consumers[pick(r, CONSUMERS)];
    struct fq_delivery delivery;
    for (uint32_t n = pick(r, 20); consumer && n > 0 && fq_take(consumer, &delivery); n--) {
        char(*held)[FQ_ID_SIZE] = r->held[r->held_count++ % HELD];
        check_taken(r, &delivery);
        put_text(held[0], FQ_ID_SIZE, delivery.fields.queue);
        put_text(held[1], FQ_ID_SIZE, delivery.fields.id);
        fq_delivery_release(&delivery);
        r->taken++;
    }
}

static void settle(struct rig *r)
{
    char(*held)[FQ_ID_SIZE] = r->held[pick(r, HELD)];
    fila_view queue = fila_view_of(held[0]);
    fila_view id = fila_view_of(held[1]);
    if (pick(r, 3)) {
        (void)!fq_ack(r->engine, r->now, queue, id);
    } else {
        (void)!fq_nack(r->engine, r->now, queue, id, fila_view_of(""));
    }
}

static void manage(struct rig *r)
{
    uint64_t moved;
    char key = (char)('0' + pick(r, 3));
    char value[8];
    fila_view name = fila_view_of(NAME[pick(r, NAMES)]);
    struct fq_queue_options options = {
        .visibility_timeout = (int64_t)(1 + pick(r, 4)) * 5 * FILA_S};
    switch (pick(r, 4)) {
    case 0:
        (void)!fq_create_queue(r->engine, r->now, name, &options);
        break;
    case 1:
        if (pick(r, 3) == 0) {
            commit(r); /* what is hidden is then known from the rows */
            (void)!fq_delete_queue(r->engine, r->now, name);
            commit(r);
            compare(r, false);
        }
        break;
    case 2:
        (void)!fq_redrive(r->engine, r->now, name, pick(r, 5), &moved);
        break;
    default:
        (void)snprintf(value, sizeof value, "%.*s", (int)pick(r, 4), "abc");
        (void)!fq_set_config(r->engine, r->now, (fila_view){&key, 1}, fila_view_of(value));
        break;
    }
}

static void step(struct rig *r)
{
    uint32_t what = pick(r, 100);
    r->now += (int64_t)pick(r, 1000) * FILA_US;
    if (what < 35) {
        enqueue(r);
    } else if (what < 50) {
        take(r);
    } else if (what < 72) {
        settle(r);
    } else if (what < 76) {
        open_or_close(r);
    } else if (what < 80) {
        manage(r);
    } else if (what < 82) {
        r->now += (int64_t)pick(r, 10) * FILA_S;
        fq_tick(r->engine, r->now);
    } else {
        commit(r);
        if (what == 99) {
            compare(r, false);
        }
    }
    if (pick(r, 300) == 0) {
        crash(r);
    }
}

static void run(uint64_t seed)
{
    struct rig *r = calloc(1, sizeof *r);
    struct fq_config config;
    if (!r) {
        abort();
    }
    r->seed = seed;
    r->random = seed * 77 + 1;
    r->now = 1000 * FILA_S;
    config = config_of(r);
    r->engine = fq_new(&config, r->now);
    require(r, r->engine != NULL, "memory");
    fq_journal_start(r->engine);
    for (int i = 0; i < QUEUES; i++) {
        require(
            r, fq_create_queue(r->engine, r->now, fila_view_of(NAME[i]), NULL) == FILA_OK,
            "a queue");
    }
    for (r->step = 0; r->step < STEPS; r->step++) {
        step(r);
    }
    commit(r);
    compare(r, false);
    require(r, r->crashes > 0 && r->taken > 50, "this seed did too little");
    fq_free(r->engine);
    fq_group_free(&r->group);
    free(r);
}

/* Keys come back in the order of their names, whatever the order of enqueuing. */
static void keys_in_order(void)
{
    static const char *const ORDER[] = {"blue", "green", "red"};
    static struct rig rig = {.seed = 0, .now = 1000 * FILA_S};
    struct rig *r = &rig;
    struct fq_config config = config_of(r);
    struct fq_stored_queue queue = {.number = 0, .name = fila_view_of("q"), .exists = true};
    struct fq_consumer *consumer;
    r->engine = fq_new(&config, r->now);
    require(r, fq_restore_queue(r->engine, &queue) == FILA_OK, "a queue");
    for (uint64_t i = 0; i < 6; i++) {
        struct fq_stored_message stored = {
            .seq = i,
            .queue = fila_view_of("q"),
            .id = {(uint8_t)i},
            .plan = {.fairness_key = fila_view_of(KEY[i % 3]), .weight = 1},
        };
        require(r, fq_restore_message(r->engine, r->now, &stored) == FILA_OK, "a message");
    }
    fq_restore_end(r->engine, 6);
    require(
        r, fq_consumer_open(r->engine, r->now, fila_view_of("q"), NULL, &consumer) == FILA_OK,
        "a consumer");
    for (int i = 0; i < 6; i++) {
        struct fq_delivery delivery;
        require(r, fq_take(consumer, &delivery), "a delivery");
        require(
            r,
            delivery.fields.fairness_key.len == strlen(ORDER[i % 3]) &&
                memcmp(delivery.fields.fairness_key.data, ORDER[i % 3], strlen(ORDER[i % 3])) == 0,
            "keys are not in order");
        fq_delivery_release(&delivery);
    }
    fq_free(r->engine);
}

int main(int argc, char **argv)
{
    keys_in_order();
    if (argc > 1) {
        run(strtoull(argv[1], NULL, 10));
        return 0;
    }
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        run(seed);
    }
    printf("%d seeds\n", SEEDS);
    return 0;
}

/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "queue_internal.h"

#include <locale.h>
#include <math.h>

#define THROTTLE     "throttle."
#define THROTTLE_LEN 9
#define ONE_TOKEN    (1.0 - 1e-9) /* what a refill in steps makes of 1.0 */

/* ---- Throttle buckets ---- */

void fq_bucket_fill(struct fq_bucket *bucket, int64_t now)
{
    double tokens = bucket->tokens + bucket->rate * (double)(now - bucket->filled_at) / 1e9;
    bucket->tokens = tokens < bucket->burst ? tokens : bucket->burst;
    bucket->filled_at = now;
}

static struct fq_bucket *bucket_find(const struct fq_engine *engine, fila_view name)
{
    struct fb_node *node;
    if (engine->buckets.count == 0) {
        return NULL;
    }
    node = fb_table_find(&engine->buckets, fb_hash(engine->hash_seed, name.data, name.len));
    for (; node; node = fb_table_find_next(node)) {
        struct fq_bucket *bucket = (struct fq_bucket *)node;
        if (fq_equal(fq_view(bucket->name, bucket->name_len), name)) {
            return bucket;
        }
    }
    return NULL;
}

static int64_t token_at(const struct fq_bucket *bucket, int64_t now)
{
    double wait;
    if (bucket->tokens >= ONE_TOKEN) {
        return now;
    }
    if (bucket->burst < ONE_TOKEN || bucket->rate <= 0) {
        return FILA_NEVER;
    }
    wait = ceil((1.0 - bucket->tokens) / bucket->rate * 1e9);
    return wait < 1e18 ? now + (int64_t)wait : FILA_NEVER;
}

int64_t fq_throttled_until(struct fq_engine *engine, const struct fq_message *message, int64_t now)
{
    const struct fq_extra *extra = message->extra;
    int64_t until = now;
    for (size_t i = 0; extra && i < extra->throttle_key_count; i++) {
        struct fq_bucket *bucket = bucket_find(engine, extra->throttle_keys[i]);
        if (bucket) {
            int64_t at;
            fq_bucket_fill(bucket, now);
            at = token_at(bucket, now);
            until = at > until ? at : until;
        }
    }
    return until;
}

void fq_throttle_spend(struct fq_engine *engine, const struct fq_message *message)
{
    const struct fq_extra *extra = message->extra;
    uint64_t delivery = 0;
    for (size_t i = 0; extra && i < extra->throttle_key_count; i++) {
        struct fq_bucket *bucket = bucket_find(engine, extra->throttle_keys[i]);
        delivery = delivery ? delivery : ++engine->deliveries_throttled;
        if (bucket && bucket->spent_for != delivery) {
            bucket->spent_for = delivery;
            bucket->tokens = bucket->tokens > 1.0 ? bucket->tokens - 1.0 : 0.0;
        }
    }
}

static void unpark_all(struct fq_engine *engine)
{
    struct fq_queue *queue;
    DL_FOREACH(engine->parked, queue)
    {
        fq_unpark(engine, queue);
    }
}

static bool is_blank(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

/* A float as Rust reads one, except that what is not finite is refused here already. */
static bool parse_number(fila_view text, double *ret_number)
{
    char digits[64];
    char *end;
    locale_t plain;
    while (text.len && is_blank(text.data[0])) {
        text = fq_view(text.data + 1, text.len - 1);
    }
    while (text.len && is_blank(text.data[text.len - 1])) {
        text.len--;
    }
    if (text.len == 0 || text.len >= sizeof digits) {
        return false;
    }
    memcpy(digits, text.data, text.len);
    digits[text.len] = '\0';
    if (strspn(digits, "0123456789+-.eE") != text.len) {
        return false;
    }
    plain = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    if (!plain) {
        return false;
    }
    *ret_number = strtod_l(digits, &end, plain);
    freelocale(plain);
    return *end == '\0' && isfinite(*ret_number) && *ret_number >= 0;
}

static bool parse_throttle(fila_view value, double *ret_rate, double *ret_burst)
{
    const char *comma = value.len ? memchr(value.data, ',', value.len) : NULL;
    size_t first = comma ? (size_t)(comma - value.data) : 0;
    return comma && parse_number(fq_view(value.data, first), ret_rate) &&
           parse_number(fq_view(comma + 1, value.len - first - 1), ret_burst);
}

static fila_status set_throttle(
    struct fq_engine *engine,
    int64_t now,
    fila_view name,
    double rate,
    double burst)
{
    struct fq_bucket *bucket = bucket_find(engine, name);
    if (!bucket) {
        bucket = malloc(sizeof *bucket + name.len);
        if (!bucket) {
            return FILA_NO_MEMORY;
        }
        *bucket = (struct fq_bucket){
            .tokens = burst, .burst = burst, .filled_at = now, .name_len = name.len};
        memcpy(bucket->name, name.data, name.len);
        fb_table_insert(
            &engine->buckets, &bucket->by_name, fb_hash(engine->hash_seed, name.data, name.len));
    }
    fq_bucket_fill(bucket, now);
    bucket->rate = rate;
    bucket->burst = burst;
    bucket->tokens = bucket->tokens < burst ? bucket->tokens : burst;
    return FILA_OK;
}

static void remove_throttle(struct fq_engine *engine, fila_view name)
{
    struct fq_bucket *bucket = bucket_find(engine, name);
    if (bucket) {
        fb_table_remove(&engine->buckets, &bucket->by_name);
        free(bucket);
    }
}

static fila_status apply_throttle(
    struct fq_engine *engine,
    int64_t now,
    fila_view key,
    fila_view value)
{
    fila_view name;
    double rate;
    double burst;
    if (key.len < THROTTLE_LEN || memcmp(key.data, THROTTLE, THROTTLE_LEN) != 0) {
        return FILA_OK;
    }
    name = fq_view(key.data + THROTTLE_LEN, key.len - THROTTLE_LEN);
    unpark_all(engine);
    if (value.len == 0) {
        remove_throttle(engine, name);
        return FILA_OK;
    }
    if (!parse_throttle(value, &rate, &burst)) {
        return FILA_INVALID_ARGUMENT;
    }
    return set_throttle(engine, now, name, rate, burst);
}

/* ---- The store ---- */

static fila_view setting_key(const struct fq_setting *setting)
{
    return fq_view(setting->text, setting->key_len);
}

static fila_view setting_value(const struct fq_setting *setting)
{
    return fq_view(setting->text + setting->key_len, setting->value_len);
}

static struct fq_setting *setting_find(const struct fq_engine *engine, fila_view key)
{
    struct fb_node *node =
        fb_table_find(&engine->settings, fb_hash(engine->hash_seed, key.data, key.len));
    for (; node; node = fb_table_find_next(node)) {
        struct fq_setting *setting = (struct fq_setting *)node;
        if (fq_equal(setting_key(setting), key)) {
            return setting;
        }
    }
    return NULL;
}

static struct fq_setting *setting_new(fila_view key, fila_view value)
{
    struct fq_setting *setting = malloc(sizeof *setting + key.len + value.len);
    if (setting) {
        setting->key_len = key.len;
        setting->value_len = value.len;
        if (key.len) {
            memcpy(setting->text, key.data, key.len);
        }
        memcpy(setting->text + key.len, value.data, value.len);
    }
    return setting;
}

static fila_status store(struct fq_engine *engine, int64_t now, fila_view key, fila_view value)
{
    struct fq_setting *made = value.len ? setting_new(key, value) : NULL;
    struct fq_setting *old = setting_find(engine, key);
    fila_status status = made || !value.len ? apply_throttle(engine, now, key, value)
                                            : FILA_NO_MEMORY;
    if (status != FILA_OK) {
        free(made);
        return status;
    }
    if (old) {
        fb_table_remove(&engine->settings, &old->by_key);
        free(old);
    }
    if (made) {
        fb_table_insert(
            &engine->settings, &made->by_key, fb_hash(engine->hash_seed, key.data, key.len));
    }
    return FILA_OK;
}

fila_status fq_set_config(struct fq_engine *engine, int64_t now, fila_view key, fila_view value)
{
    fila_status status = store(engine, now, key, value);
    if (status == FILA_OK) {
        fq_note_setting(engine, key, value);
    }
    fq_turn(engine, now);
    return status;
}

fila_view fq_peek_config(const struct fq_engine *engine, fila_view key)
{
    const struct fq_setting *setting = setting_find(engine, key);
    return setting ? setting_value(setting) : fq_view(NULL, 0);
}

fila_view fq_get_config(struct fq_engine *engine, int64_t now, fila_view key)
{
    fila_view value = fq_peek_config(engine, key);
    fq_turn(engine, now);
    return value;
}

static int by_setting(const void *left, const void *right)
{
    return fq_compare(
        setting_key(*(struct fq_setting *const *)left),
        setting_key(*(struct fq_setting *const *)right));
}

static bool has_prefix(const struct fq_setting *setting, fila_view prefix)
{
    return setting->key_len >= prefix.len && fq_equal(fq_view(setting->text, prefix.len), prefix);
}

/* All settings with that prefix in byte order; NULL without memory. */
static const struct fq_setting **find_settings(
    const struct fq_engine *engine,
    fila_view prefix,
    size_t *ret_count)
{
    const struct fq_setting **list = malloc((engine->settings.count + 1) * sizeof *list);
    const struct fb_node *node = fb_table_next(&engine->settings, NULL);
    size_t count = 0;
    if (!list) {
        return NULL;
    }
    for (; node; node = fb_table_next(&engine->settings, node)) {
        const struct fq_setting *setting = (const struct fq_setting *)node;
        if (has_prefix(setting, prefix)) {
            list[count++] = setting;
        }
    }
    qsort(list, count, sizeof *list, by_setting);
    *ret_count = count < FQ_LIST_CONFIG_MAX ? count : FQ_LIST_CONFIG_MAX;
    return list;
}

static fila_config_entry *copy_settings(const struct fq_setting **list, size_t count)
{
    size_t text = 0;
    fila_config_entry *rows;
    char *at;
    for (size_t i = 0; i < count; i++) {
        text += list[i]->key_len + list[i]->value_len;
    }
    rows = malloc(count * sizeof *rows + text + 1);
    if (!rows) {
        return NULL;
    }
    at = (char *)&rows[count];
    for (size_t i = 0; i < count; i++) {
        size_t len = list[i]->key_len + list[i]->value_len;
        memcpy(at, list[i]->text, len);
        rows[i].key = fq_view(at, list[i]->key_len);
        rows[i].value = fq_view(at + list[i]->key_len, list[i]->value_len);
        at += len;
    }
    return rows;
}

fila_status fq_list_config(
    struct fq_engine *engine,
    int64_t now,
    fila_view prefix,
    fila_reply *ret_reply,
    void **ret_block)
{
    size_t count = 0;
    const struct fq_setting **list = find_settings(engine, prefix, &count);
    fila_config_entry *rows = list ? copy_settings(list, count) : NULL;
    if (rows) {
        ret_reply->as.list_config.entries = rows;
        ret_reply->as.list_config.count = count;
        ret_reply->as.list_config.total_count = (uint32_t)count;
        *ret_block = rows;
    }
    free(list);
    fq_turn(engine, now);
    return rows ? FILA_OK : FILA_NO_MEMORY;
}

/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * Faults as text:
 *
 *     spec  = rule { ";" rule }
 *     rule  = "seed=" N
 *           | call [ "/" queue ] ":" fault [ "=" value ] [ ",after=" N ] { "@" when }
 *     when  = N | N "-" | N "-" N | P "%"
 *
 * Blanks around any part are skipped, and so are empty rules. `fila-worker broker --help` lists the
 * words.
 */
#include "base/error.h"
#include "broker.h"

#include <stdarg.h>
#include <stdio.h>

#define LIST_MAX 200

struct parser {
    const char *spec;
    const char *at;
    fila_error *reterr;
};

/* What a fault's value is. */
enum value {
    VALUE_NONE,
    VALUE_CODE,      /* required */
    VALUE_CODE_14,   /* 14 without one */
    VALUE_CODE_0_14, /* the same; may be 0 */
    VALUE_TIME,
    VALUE_TIME_0, /* the same; need not be given */
    VALUE_RANGE
};

struct word {
    const char *text;
    int number; /* a call, a fault kind, or a code */
    enum value value;
};

static const struct word CALLS[] = {
    {"any", FILA_ANY_CALL, VALUE_NONE},
    {"enqueue", FILA_CALL_ENQUEUE, VALUE_NONE},
    {"consume", FILA_CALL_CONSUME, VALUE_NONE},
    {"ack", FILA_CALL_ACK, VALUE_NONE},
    {"nack", FILA_CALL_NACK, VALUE_NONE},
    {"create-queue", FILA_CALL_CREATE_QUEUE, VALUE_NONE},
    {"delete-queue", FILA_CALL_DELETE_QUEUE, VALUE_NONE},
    {"set-config", FILA_CALL_SET_CONFIG, VALUE_NONE},
    {"get-config", FILA_CALL_GET_CONFIG, VALUE_NONE},
    {"list-config", FILA_CALL_LIST_CONFIG, VALUE_NONE},
    {"stats", FILA_CALL_GET_STATS, VALUE_NONE},
    {"redrive", FILA_CALL_REDRIVE, VALUE_NONE},
    {"list-queues", FILA_CALL_LIST_QUEUES, VALUE_NONE},
    {NULL, 0, VALUE_NONE},
};

static const struct word FAULTS[] = {
    {"error", FILA_FAULT_ERROR, VALUE_CODE},
    {"lose", FILA_FAULT_LOSE_REPLY, VALUE_CODE_14},
    {"delay", FILA_FAULT_DELAY, VALUE_TIME},
    {"hang", FILA_FAULT_HANG, VALUE_NONE},
    {"stall", FILA_FAULT_STALL, VALUE_TIME},
    {"crash", FILA_FAULT_CRASH, VALUE_NONE},
    {"crash-after", FILA_FAULT_CRASH_AFTER, VALUE_NONE},
    {"half-open", FILA_FAULT_HALF_OPEN, VALUE_TIME_0},
    {"cut", FILA_FAULT_CUT, VALUE_CODE_0_14},
    {"freeze", FILA_FAULT_FREEZE, VALUE_NONE},
    {"late", FILA_FAULT_LATE, VALUE_RANGE},
    {NULL, 0, VALUE_NONE},
};

static const struct word CODES[] = {
    {"ok", 0, VALUE_NONE},
    {"cancelled", 1, VALUE_NONE},
    {"unknown", 2, VALUE_NONE},
    {"invalid-argument", 3, VALUE_NONE},
    {"deadline-exceeded", 4, VALUE_NONE},
    {"not-found", 5, VALUE_NONE},
    {"already-exists", 6, VALUE_NONE},
    {"permission-denied", 7, VALUE_NONE},
    {"resource-exhausted", 8, VALUE_NONE},
    {"failed-precondition", 9, VALUE_NONE},
    {"aborted", 10, VALUE_NONE},
    {"out-of-range", 11, VALUE_NONE},
    {"unimplemented", 12, VALUE_NONE},
    {"internal", 13, VALUE_NONE},
    {"unavailable", 14, VALUE_NONE},
    {"data-loss", 15, VALUE_NONE},
    {"unauthenticated", 16, VALUE_NONE},
    {NULL, 0, VALUE_NONE},
};

/* ---- Pieces ---- */

FILA_PRINTF(3, 4)

static bool refuse(struct parser *p, const char *at, const char *format, ...)
{
    char text[FILA_ERROR_TEXT];
    va_list args;
    va_start(args, format);
    /* NOLINTNEXTLINE(clang-analyzer-valist.Uninitialized): the analyzer loses va_start's effect */
    (void)vsnprintf(text, sizeof text, format, args);
    va_end(args);
    p->at = at;
    (void)fila_fail(
        p->reterr, FILA_INVALID_ARGUMENT, "at character %zu: %s", (size_t)(at - p->spec) + 1, text);
    return false;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static void skip_blanks(struct parser *p)
{
    while (is_blank(*p->at)) {
        p->at++;
    }
}

/* Takes `c`, with the blanks around it, if it is there. */
static bool take(struct parser *p, char c)
{
    skip_blanks(p);
    if (*p->at != c) {
        return false;
    }
    p->at++;
    skip_blanks(p);
    return true;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static fila_view peek_word(const struct parser *p)
{
    size_t len = 0;
    while ((p->at[len] >= 'a' && p->at[len] <= 'z') || (len && p->at[len] == '-')) {
        len++;
    }
    return (fila_view){p->at, len};
}

static const struct word *find(const struct word *words, fila_view text)
{
    for (; words->text; words++) {
        if (strlen(words->text) == text.len && memcmp(words->text, text.data, text.len) == 0) {
            return words;
        }
    }
    return NULL;
}

/* Takes one of the words; NULL: refused, with the list of them. */
static const struct word *take_word(struct parser *p, const struct word *words, const char *what)
{
    fila_view text = peek_word(p);
    const struct word *found = find(words, text);
    char list[LIST_MAX] = "";
    size_t len = 0;
    if (found) {
        p->at += text.len;
        return found;
    }
    for (; words->text && len < sizeof list; words++) {
        len +=
            (size_t)snprintf(list + len, sizeof list - len, "%s%s", len ? ", " : "", words->text);
    }
    (void)refuse(p, p->at, "no %s; there are: %s", what, list);
    return NULL;
}

/* A number up to `max`. */
static bool take_number(struct parser *p, uint64_t max, uint64_t *ret)
{
    const char *start = p->at;
    uint64_t n = 0;
    if (!is_digit(*p->at)) {
        return refuse(p, start, "a number is missing");
    }
    for (; is_digit(*p->at); p->at++) {
        uint64_t digit = (uint64_t)(*p->at - '0');
        if (n > (max - digit) / 10) {
            return refuse(p, start, "at most %llu", (unsigned long long)max);
        }
        n = n * 10 + digit;
    }
    *ret = n;
    return true;
}

static bool take_time(struct parser *p, uint32_t *ret_ms)
{
    static const struct word units[] = {
        {"ms", 1, VALUE_NONE},
        {"s", 1000, VALUE_NONE},
        {"min", 60000, VALUE_NONE},
        {NULL, 0, VALUE_NONE},
    };
    const char *start = p->at;
    const struct word *unit;
    uint64_t n = 0;
    if (!is_digit(*p->at)) {
        return refuse(p, start, "a time is missing, such as 200ms, 5s or 1min");
    }
    if (!take_number(p, 3600000, &n)) {
        return false;
    }
    unit = take_word(p, units, "unit of time");
    if (!unit) {
        return false;
    }
    if (n * (uint64_t)unit->number > 3600000) {
        return refuse(p, start, "at most 60min");
    }
    *ret_ms = (uint32_t)(n * (uint64_t)unit->number);
    return true;
}

/* ---- Values ---- */

static bool take_code(struct parser *p, int least, int *ret_code)
{
    const char *start = p->at;
    uint64_t n = 0;
    if (is_digit(*p->at)) {
        if (!take_number(p, 16, &n)) {
            return false;
        }
    } else {
        const struct word *word = take_word(p, CODES, "code: 0 to 16, or its name");
        if (!word) {
            return false;
        }
        n = (uint64_t)word->number;
    }
    *ret_code = (int)n;
    return (int)n >= least || refuse(p, start, "0 is no error");
}

static bool take_range(struct parser *p, fila_fault *fault)
{
    const char *start = p->at;
    uint32_t last = 0;
    if (!take_time(p, &fault->delay_ms)) {
        return false;
    }
    if (p->at[0] != '.' || p->at[1] != '.') {
        return true;
    }
    p->at += 2;
    if (!take_time(p, &last)) {
        return false;
    }
    if (last < fault->delay_ms) {
        return refuse(p, start, "the range ends before it begins");
    }
    fault->jitter_ms = last - fault->delay_ms;
    return true;
}

static bool take_value(struct parser *p, const struct word *word, fila_fault *fault)
{
    const char *end = p->at;
    bool given = take(p, '=');
    int least = word->value == VALUE_CODE_0_14 ? 0 : 1;
    fault->wire_code = word->value == VALUE_CODE_14 || word->value == VALUE_CODE_0_14 ? 14 : 0;
    if (given && word->value == VALUE_NONE) {
        return refuse(p, end, "%s takes no value", word->text);
    }
    if (!given && word->value == VALUE_CODE) {
        return refuse(p, end, "%s needs a code, as in %s=unavailable", word->text, word->text);
    }
    if (!given && (word->value == VALUE_TIME || word->value == VALUE_RANGE)) {
        return refuse(p, end, "%s needs a time, as in %s=200ms", word->text, word->text);
    }
    if (!given) {
        return true;
    }
    switch (word->value) {
    case VALUE_TIME:
    case VALUE_TIME_0:
        return take_time(p, &fault->delay_ms);
    case VALUE_RANGE:
        return take_range(p, fault);
    default:
        return take_code(p, least, &fault->wire_code);
    }
}

static bool take_after(struct parser *p, fila_fault *fault)
{
    static const struct word after[] = {{"after", 0, VALUE_NONE}, {NULL, 0, VALUE_NONE}};
    const char *start = p->at;
    uint64_t n = 0;
    if (!take(p, ',')) {
        return true;
    }
    if (!take_word(p, after, "such option")) {
        return false;
    }
    if (fault->call != FILA_CALL_CONSUME ||
        (fault->kind != FILA_FAULT_CUT && fault->kind != FILA_FAULT_FREEZE &&
         fault->kind != FILA_FAULT_HALF_OPEN)) {
        return refuse(p, start, "only cut, freeze and half-open of consume take after=");
    }
    if (!take(p, '=')) {
        return refuse(p, p->at, "after needs a number of messages, as in after=10");
    }
    if (!take_number(p, UINT32_MAX, &n)) {
        return false;
    }
    fault->after_messages = (uint32_t)n;
    return true;
}

/* ---- When ---- */

/* The rest of a percentage whose whole part is read. */
static bool take_percent(struct parser *p, const char *start, uint64_t whole, fila_fault *fault)
{
    uint64_t million = whole * 10000;
    uint64_t place = 1000;
    if (*p->at == '.') {
        for (p->at++; is_digit(*p->at); p->at++) {
            million += (uint64_t)(*p->at - '0') * place;
            place /= 10;
        }
    }
    if (*p->at != '%') {
        return refuse(p, p->at, "a %% is missing");
    }
    p->at++;
    if (million == 0 || million > 1000000) {
        return refuse(p, start, "a share must be from 0.0001%% to 100%%");
    }
    fault->chance = (uint32_t)million;
    return true;
}

/* The rest of a range of uses whose first is read. */
static bool take_uses(struct parser *p, const char *start, uint64_t first, fila_fault *fault)
{
    uint64_t last = first;
    if (first == 0) {
        return refuse(p, start, "uses count from 1");
    }
    fault->nth = (uint32_t)first;
    fault->count = 1;
    if (!take(p, '-')) {
        return true;
    }
    fault->count = 0;
    if (!is_digit(*p->at)) {
        return true;
    }
    if (!take_number(p, UINT32_MAX - 1, &last)) {
        return false;
    }
    if (last < first) {
        return refuse(p, start, "the range ends before it begins");
    }
    fault->count = (uint32_t)(last - first + 1);
    return true;
}

static bool take_when(struct parser *p, fila_fault *fault, bool *uses_given)
{
    const char *start = p->at;
    uint64_t n = 0;
    if (!is_digit(*p->at)) {
        return refuse(p, start, "a number of uses is missing, as in @3, @3-, @3-9 or @10%%");
    }
    if (!take_number(p, UINT32_MAX - 1, &n)) {
        return false;
    }
    if (*p->at == '%' || *p->at == '.') {
        return fault->chance ? refuse(p, start, "a share is given twice")
                             : take_percent(p, start, n, fault);
    }
    if (*uses_given) {
        return refuse(p, start, "uses are given twice");
    }
    *uses_given = true;
    return take_uses(p, start, n, fault);
}

/* ---- Rules ---- */

static bool take_queue(struct parser *p, fila_view *ret_queue)
{
    const char *start = p->at;
    size_t len;
    if (*p->at != '/') {
        return true;
    }
    start++;
    len = strcspn(start, ":;");
    if (len == 0) {
        return refuse(p, start, "the name of a queue is missing");
    }
    *ret_queue = (fila_view){start, len};
    p->at = start + len;
    return true;
}

static bool take_rule(struct parser *p, struct fb_chaos_rule *rule)
{
    const struct word *word = take_word(p, CALLS, "such call");
    fila_fault *fault = &rule->fault;
    const char *start;
    bool uses_given = false;
    if (!word || !take_queue(p, &rule->queue)) {
        return false;
    }
    fault->call = (fila_call)word->number;
    if (!take(p, ':')) {
        return refuse(p, p->at, "a : and a fault are missing, as in ack:error=unavailable");
    }
    start = p->at;
    word = take_word(p, FAULTS, "such fault");
    if (!word) {
        return false;
    }
    fault->kind = (fila_fault_kind)word->number;
    if (fault->call != FILA_CALL_CONSUME &&
        (fault->kind == FILA_FAULT_CUT || fault->kind == FILA_FAULT_FREEZE ||
         fault->kind == FILA_FAULT_LATE)) {
        return refuse(p, start, "only consume has %s", word->text);
    }
    if (!take_value(p, word, fault) || !take_after(p, fault)) {
        return false;
    }
    while (take(p, '@')) {
        if (!take_when(p, fault, &uses_given)) {
            return false;
        }
    }
    skip_blanks(p);
    return *p->at == ';' || *p->at == '\0' ||
           refuse(p, p->at, "a rule ends here: write ; and the next one");
}

static bool is_seed(const struct parser *p)
{
    return strncmp(p->at, "seed", 4) == 0;
}

static bool take_seed(struct parser *p, uint64_t *ret_seed)
{
    const char *start = p->at;
    p->at += 4;
    if (!take(p, '=')) {
        return refuse(p, p->at, "seed needs a number, as in seed=7");
    }
    if (!take_number(p, UINT64_MAX, ret_seed)) {
        return false;
    }
    skip_blanks(p);
    if (*p->at != ';' && *p->at != '\0') {
        return refuse(p, p->at, "a rule ends here: write ; and the next one");
    }
    return *ret_seed != 0 || refuse(p, start, "a seed is at least 1");
}

bool fb_chaos_next(
    const char *spec,
    size_t *at,
    struct fb_chaos_rule *ret_rule,
    uint64_t *ret_seed,
    fila_error *reterr)
{
    struct parser p = {spec, spec + *at, reterr};
    bool found = false;
    *ret_rule = (struct fb_chaos_rule){.fault = {.size = sizeof(fila_fault), .nth = 1}};
    for (;;) {
        while (take(&p, ';')) {
        }
        if (*p.at == '\0') {
            break;
        }
        if (!is_seed(&p)) {
            found = take_rule(&p, ret_rule);
            break;
        }
        if (!take_seed(&p, ret_seed)) {
            break;
        }
    }
    *at = (size_t)(p.at - spec);
    return found;
}

/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "units.h"

#include "base/clock.h"

#include <inttypes.h>
#include <stdio.h>
#include <strings.h>

struct unit {
    const char *name;
    int64_t factor;
};

static const struct unit DURATIONS[] =
    {{"h", 3600 * FILA_S}, {"min", 60 * FILA_S}, {"s", FILA_S}, {"ms", FILA_MS}, {NULL, 0}};
static const struct unit SIZES[] =
    {{"GiB", INT64_C(1) << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}, {NULL, 0}};

/* What people write for a unit, and what they mean. Compared without regard to case. */
static const char *const MEANT[][2] = {
    {"m", "min"},    {"mins", "min"}, {"minute", "min"}, {"minutes", "min"}, {"sec", "s"},
    {"secs", "s"},   {"second", "s"}, {"seconds", "s"},  {"hr", "h"},        {"hrs", "h"},
    {"hour", "h"},   {"hours", "h"},  {"msec", "ms"},    {"msecs", "ms"},    {"millis", "ms"},
    {"us", "ms"},    {"ns", "ms"},    {"d", "h"},        {"day", "h"},       {"days", "h"},
    {"byte", "B"},   {"bytes", "B"},  {"k", "KiB"},      {"kb", "KiB"},      {"ki", "KiB"},
    {"mb", "MiB"},   {"mi", "MiB"},   {"g", "GiB"},      {"gb", "GiB"},      {"gi", "GiB"},
    {"megs", "MiB"},
};

struct kind {
    const char *what;    /* "a duration" */
    const char *example; /* the unit of the example, and of a number that has none */
    const char *list;
    const struct unit *units;
};

static const struct kind DURATION = {"a duration", "s", "ms, s, min or h", DURATIONS};
static const struct kind SIZE = {"a size", "MiB", "B, KiB, MiB or GiB", SIZES};

struct number {
    bool negative;
    uint64_t whole;
    uint64_t fraction; /* digits after the point ... */
    uint64_t scale;    /* ... of that power of ten */
    const char *end;
};

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static const char *skip_blanks(const char *text)
{
    while (is_blank(*text)) {
        text++;
    }
    return text;
}

/* Length of `text` without the blanks at its end. */
static size_t trimmed(const char *text)
{
    size_t len = strlen(text);
    while (len > 0 && is_blank(text[len - 1])) {
        len--;
    }
    return len;
}

/* Reads [-]digits[.digits]; false when there is none, or it is beyond what 64 bits hold. */
static bool read_number(const char *text, struct number *n)
{
    memset(n, 0, sizeof *n);
    n->scale = 1;
    n->negative = *text == '-';
    text += n->negative;
    if (!is_digit(*text)) {
        return false;
    }
    for (; is_digit(*text); text++) {
        if (__builtin_mul_overflow(n->whole, 10U, &n->whole) ||
            __builtin_add_overflow(n->whole, (uint64_t)(*text - '0'), &n->whole) ||
            n->whole > INT64_MAX) {
            return false;
        }
    }
    if (*text == '.' && is_digit(text[1])) {
        for (text++; is_digit(*text); text++) {
            if (n->scale < UINT64_C(1000000000000000)) {
                n->fraction = n->fraction * 10 + (uint64_t)(*text - '0');
                n->scale *= 10;
            } else if (*text != '0') {
                return false;
            }
        }
    }
    n->end = text;
    return true;
}

static uint64_t common_divisor(uint64_t a, uint64_t b)
{
    while (b != 0) {
        uint64_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

/* whole.fraction x factor, when that is a whole number that fits. */
static bool scaled(const struct number *n, int64_t factor, int64_t *ret_value)
{
    uint64_t common = common_divisor((uint64_t)factor, n->scale);
    uint64_t scale = n->scale / common;
    int64_t all = 0;
    if (scale == 0 || n->fraction % scale != 0 ||
        __builtin_mul_overflow((int64_t)n->whole, factor, &all)) {
        return false;
    }
    uint64_t part = n->fraction / scale * ((uint64_t)factor / common); /* below factor */
    if (__builtin_add_overflow(all, (int64_t)part, &all)) {
        return false;
    }
    *ret_value = n->negative ? -all : all;
    return true;
}

static const char *meant(const struct kind *kind, const char *unit)
{
    for (const struct unit *u = kind->units; u->name; u++) {
        if (strcasecmp(u->name, unit) == 0) {
            return u->name;
        }
    }
    if (kind == &SIZE && strcasecmp(unit, "m") == 0) {
        return "MiB";
    }
    for (size_t i = 0; i < sizeof MEANT / sizeof *MEANT; i++) {
        for (const struct unit *u = kind->units; u->name; u++) {
            if (strcasecmp(MEANT[i][0], unit) == 0 && strcmp(MEANT[i][1], u->name) == 0) {
                return u->name;
            }
        }
    }
    return NULL;
}

static void unknown_unit(const struct kind *kind, const char *unit, char *reterr)
{
    const char *guess = meant(kind, unit);
    (void)snprintf(
        reterr, FW_UNIT_ERROR_SIZE, "unknown unit \"%.40s\": %s takes %s%s%s%s", unit, kind->what,
        kind->list, guess ? "; did you mean \"" : "", guess ? guess : "", guess ? "\"?" : "");
}

static bool parse(const struct kind *kind, const char *text, int64_t *ret_value, char *reterr)
{
    struct number n;
    char unit[48];
    text = skip_blanks(text);
    size_t len = trimmed(text);
    if (!read_number(text, &n)) {
        (void)snprintf(
            reterr, FW_UNIT_ERROR_SIZE,
            "\"%.60s\" is not %s: write a number and a unit, such as \"30%s\" (%s)", text,
            kind->what, kind->example, kind->list);
        return false;
    }
    const char *rest = skip_blanks(n.end);
    size_t unit_len = len - (size_t)((rest < text + len ? rest : text + len) - text);
    if (unit_len == 0) {
        (void)snprintf(
            reterr, FW_UNIT_ERROR_SIZE, "%.*s has no unit: write \"%.*s%s\" (%s)",
            (int)(n.end - text), text, (int)(n.end - text), text, kind->example, kind->list);
        return false;
    }
    (void)snprintf(unit, sizeof unit, "%.*s", (int)(unit_len < 45 ? unit_len : 45), rest);
    for (const struct unit *u = kind->units; u->name; u++) {
        if (strcmp(u->name, unit) != 0) {
            continue;
        }
        if (scaled(&n, u->factor, ret_value)) {
            return true;
        }
        (void)snprintf(
            reterr, FW_UNIT_ERROR_SIZE, "\"%.60s\" is too large or too fine for %s", text,
            kind->what);
        return false;
    }
    unknown_unit(kind, unit, reterr);
    return false;
}

bool fw_parse_duration(const char *text, int64_t *ret_ns, char reterr[FW_UNIT_ERROR_SIZE])
{
    return parse(&DURATION, text, ret_ns, reterr);
}

bool fw_parse_size(const char *text, int64_t *ret_bytes, char reterr[FW_UNIT_ERROR_SIZE])
{
    return parse(&SIZE, text, ret_bytes, reterr);
}

bool fw_parse_integer(const char *text, int64_t *ret_value, char reterr[FW_UNIT_ERROR_SIZE])
{
    struct number n;
    text = skip_blanks(text);
    if (read_number(text, &n) && n.scale == 1 && n.end == text + trimmed(text)) {
        *ret_value = n.negative ? -(int64_t)n.whole : (int64_t)n.whole;
        return true;
    }
    (void)snprintf(reterr, FW_UNIT_ERROR_SIZE, "\"%.60s\" is not a whole number", text);
    return false;
}

bool fw_parse_real(const char *text, double *ret_value, char reterr[FW_UNIT_ERROR_SIZE])
{
    struct number n;
    text = skip_blanks(text);
    if (read_number(text, &n) && n.end == text + trimmed(text)) {
        double value = (double)n.whole + (double)n.fraction / (double)n.scale;
        *ret_value = n.negative ? -value : value;
        return true;
    }
    (void)snprintf(reterr, FW_UNIT_ERROR_SIZE, "\"%.60s\" is not a number such as 5 or 0.5", text);
    return false;
}

static void format(const struct unit *units, int64_t value, const char *zero, char *ret_text)
{
    if (value == 0) {
        (void)snprintf(ret_text, FW_UNIT_TEXT_SIZE, "0%s", zero);
        return;
    }
    for (const struct unit *u = units; u->name; u++) {
        if (value % u->factor == 0) {
            (void)snprintf(
                ret_text, FW_UNIT_TEXT_SIZE, "%" PRId64 "%s", value / u->factor, u->name);
            return;
        }
    }
    int64_t rest = value % FILA_MS;
    (void)snprintf(
        ret_text, FW_UNIT_TEXT_SIZE, "%s%" PRId64 ".%06" PRId64, value < 0 ? "-" : "",
        value < 0 ? -(value / FILA_MS) : value / FILA_MS, rest < 0 ? -rest : rest);
    size_t len = strlen(ret_text);
    while (ret_text[len - 1] == '0') {
        len--;
    }
    (void)snprintf(ret_text + len, FW_UNIT_TEXT_SIZE - len, "ms");
}

void fw_format_duration(int64_t ns, char ret_text[FW_UNIT_TEXT_SIZE])
{
    format(DURATIONS, ns, "s", ret_text);
}

void fw_format_size(int64_t bytes, char ret_text[FW_UNIT_TEXT_SIZE])
{
    format(SIZES, bytes, "B", ret_text);
}

void fw_format_real(double value, char ret_text[FW_UNIT_TEXT_SIZE])
{
    char error[FW_UNIT_ERROR_SIZE];
    double back = 0;
    for (int digits = 0; digits <= 15; digits++) {
        (void)snprintf(ret_text, FW_UNIT_TEXT_SIZE, "%.*f", digits, value);
        char *comma = strchr(ret_text, ',');
        if (comma) {
            *comma = '.';
        }
        if (fw_parse_real(ret_text, &back, error) && back == value) {
            return;
        }
    }
}

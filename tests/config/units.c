/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * Durations, sizes and numbers: a row each, with the exact value or the exact objection.
 */
#include "config/units.h"

#include "base/clock.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#define MIB INT64_C(1048576)

struct row {
    char kind; /* d, s, i */
    const char *text;
    int64_t value;
    const char *error; /* NULL: it parses to `value` */
};

static const struct row ROWS[] = {
    {'d', "30s", 30 * FILA_S, NULL},
    {'d', "250ms", 250 * FILA_MS, NULL},
    {'d', "2min", 120 * FILA_S, NULL},
    {'d', "1h", 3600 * FILA_S, NULL},
    {'d', "0s", 0, NULL},
    {'d', "  1.5 s\n", 1500 * FILA_MS, NULL},
    {'d', "0.000001ms", 1, NULL},
    {'d', "-5s", -5 * FILA_S, NULL},
    {'d', "0.1h", 360 * FILA_S, NULL},
    {'d', "2562047h", INT64_C(2562047) * 3600 * FILA_S, NULL},
    {'d', "2562048h", 0, "\"2562048h\" is too large or too fine for a duration"},
    {'d', "0.0000001ms", 0, "\"0.0000001ms\" is too large or too fine for a duration"},
    {'d', "30", 0, "30 has no unit: write \"30s\" (ms, s, min or h)"},
    {'d', "0", 0, "0 has no unit: write \"0s\" (ms, s, min or h)"},
    {'d', "2.5", 0, "2.5 has no unit: write \"2.5s\" (ms, s, min or h)"},
    {'d', "5m", 0, "unknown unit \"m\": a duration takes ms, s, min or h; did you mean \"min\"?"},
    {'d', "5S", 0, "unknown unit \"S\": a duration takes ms, s, min or h; did you mean \"s\"?"},
    {'d', "5 seconds", 0,
     "unknown unit \"seconds\": a duration takes ms, s, min or h; did you mean \"s\"?"},
    {'d', "1d", 0, "unknown unit \"d\": a duration takes ms, s, min or h; did you mean \"h\"?"},
    {'d', "5us", 0, "unknown unit \"us\": a duration takes ms, s, min or h; did you mean \"ms\"?"},
    {'d', "5MiB", 0, "unknown unit \"MiB\": a duration takes ms, s, min or h"},
    {'d', "1min30s", 0, "unknown unit \"min30s\": a duration takes ms, s, min or h"},
    {'d', "5.s", 0, "unknown unit \".s\": a duration takes ms, s, min or h"},
    {'d', "", 0,
     "\"\" is not a duration: write a number and a unit, such as \"30s\" (ms, s, min or h)"},
    {'d', "soon", 0,
     "\"soon\" is not a duration: write a number and a unit, such as \"30s\" (ms, s, min or h)"},
    {'d', "99999999999999999999s", 0,
     "\"99999999999999999999s\" is not a duration: write a number and a unit, such as \"30s\" "
     "(ms, s, min or h)"},
    {'s', "64MiB", 64 * MIB, NULL},
    {'s', "1GiB", 1024 * MIB, NULL},
    {'s', "1.5KiB", 1536, NULL},
    {'s', "0B", 0, NULL},
    {'s', "17B", 17, NULL},
    {'s', "0.3B", 0, "\"0.3B\" is too large or too fine for a size"},
    {'s', "64", 0, "64 has no unit: write \"64MiB\" (B, KiB, MiB or GiB)"},
    {'s', "64MB", 0, "unknown unit \"MB\": a size takes B, KiB, MiB or GiB; did you mean \"MiB\"?"},
    {'s', "64m", 0, "unknown unit \"m\": a size takes B, KiB, MiB or GiB; did you mean \"MiB\"?"},
    {'s', "64k", 0, "unknown unit \"k\": a size takes B, KiB, MiB or GiB; did you mean \"KiB\"?"},
    {'s', "1gib", 0,
     "unknown unit \"gib\": a size takes B, KiB, MiB or GiB; did you mean \"GiB\"?"},
    {'s', "5s", 0, "unknown unit \"s\": a size takes B, KiB, MiB or GiB"},
    {'s', "x", 0,
     "\"x\" is not a size: write a number and a unit, such as \"30MiB\" (B, KiB, MiB or GiB)"},
    {'i', "12", 12, NULL},
    {'i', " -3 ", -3, NULL},
    {'i', "9223372036854775807", INT64_MAX, NULL},
    {'i', "9223372036854775808", 0, "\"9223372036854775808\" is not a whole number"},
    {'i', "1.0", 0, "\"1.0\" is not a whole number"},
    {'i', "12x", 0, "\"12x\" is not a whole number"},
    {'i', "1 2", 0, "\"1 2\" is not a whole number"},
    {'i', "", 0, "\"\" is not a whole number"},
};

Test(units, rows)
{
    for (size_t i = 0; i < sizeof ROWS / sizeof *ROWS; i++) {
        const struct row *row = &ROWS[i];
        int64_t value = 4711;
        char error[FW_UNIT_ERROR_SIZE] = "";
        bool ok = row->kind == 'd'   ? fw_parse_duration(row->text, &value, error)
                  : row->kind == 's' ? fw_parse_size(row->text, &value, error)
                                     : fw_parse_integer(row->text, &value, error);
        cr_expect(eq(int, ok, row->error == NULL), "%s", row->text);
        cr_expect(eq(i64, value, row->error ? 4711 : row->value), "%s", row->text);
        cr_expect(eq(str, error, (char *)(row->error ? row->error : "")), "%s", row->text);
    }
}

Test(units, reals)
{
    double value = 0;
    char error[FW_UNIT_ERROR_SIZE] = "";
    cr_expect(all(eq(int, fw_parse_real("0.5", &value, error), 1), eq(dbl, value, 0.5)));
    cr_expect(all(eq(int, fw_parse_real("-12.25", &value, error), 1), eq(dbl, value, -12.25)));
    cr_expect(all(eq(int, fw_parse_real("0.1", &value, error), 1), eq(dbl, value, 0.1)));
    cr_expect(eq(int, fw_parse_real("1e5", &value, error), 0));
    cr_expect(eq(str, error, "\"1e5\" is not a number such as 5 or 0.5"));
    cr_expect(eq(int, fw_parse_real("", &value, error), 0));
    cr_expect(eq(int, fw_parse_real("1,5", &value, error), 0));
}

Test(units, formats_read_back_exactly)
{
    const int64_t values[] = {0,         1,           999,         FILA_MS,     1500 * FILA_MS,
                              FILA_S,    25 * FILA_S, 60 * FILA_S, 90 * FILA_S, 7200 * FILA_S,
                              123456789, -5 * FILA_S, -1500001};
    char text[FW_UNIT_TEXT_SIZE];
    char error[FW_UNIT_ERROR_SIZE];
    int64_t back = -1;
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        fw_format_duration(values[i], text);
        cr_expect(eq(int, fw_parse_duration(text, &back, error), 1), "%s: %s", text, error);
        cr_expect(eq(i64, back, values[i]));
        fw_format_size(values[i] < 0 ? 0 : values[i], text);
        cr_expect(eq(int, fw_parse_size(text, &back, error), 1), "%s: %s", text, error);
        cr_expect(eq(i64, back, values[i] < 0 ? 0 : values[i]));
    }
    fw_format_duration(1500 * FILA_MS, text);
    cr_expect(eq(str, text, "1500ms"));
    fw_format_duration(1500001, text);
    cr_expect(eq(str, text, "1.500001ms"));
    fw_format_size(64 * MIB, text);
    cr_expect(eq(str, text, "64MiB"));
    const double reals[] = {0, 0.5, 0.1, 100, 12345.678, 1.0 / 3};
    for (size_t i = 0; i < sizeof reals / sizeof *reals; i++) {
        double real = -1;
        fw_format_real(reals[i], text);
        cr_expect(eq(int, fw_parse_real(text, &real, error), 1), "%s", text);
        cr_expect(epsilon_eq(dbl, real, reals[i], 1e-14));
    }
}

/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * Values as people write them: "30s", "64MiB", "12", "0.5". Shared by the config file, its
 * overrides and the options of handlers. Thread: any; no locale has any influence.
 *
 * Each parser takes all of a text (blanks around it are ignored) and writes *ret only on success;
 * else `reterr` says what is wrong with the value, what is taken instead, and what was probably
 * meant.
 */
#ifndef FW_CONFIG_UNITS_H
#define FW_CONFIG_UNITS_H

#include "fila/client.h"

#define FW_UNIT_ERROR_SIZE 256
#define FW_UNIT_TEXT_SIZE  40

/* A number and ms, s, min or h. In nanoseconds, exact. A number alone is refused, also 0. */
FILA_NODISCARD bool fw_parse_duration(
    const char *text,
    int64_t *ret_ns,
    char reterr[FW_UNIT_ERROR_SIZE]);
/* A number and B, KiB, MiB or GiB. In bytes. A number alone is refused, also 0. */
FILA_NODISCARD bool fw_parse_size(
    const char *text,
    int64_t *ret_bytes,
    char reterr[FW_UNIT_ERROR_SIZE]);
FILA_NODISCARD bool fw_parse_integer(
    const char *text,
    int64_t *ret_value,
    char reterr[FW_UNIT_ERROR_SIZE]);
/* Decimal, without exponent. */
FILA_NODISCARD bool fw_parse_real(
    const char *text,
    double *ret_value,
    char reterr[FW_UNIT_ERROR_SIZE]);

/* The reverse: the shortest form that the parser reads back exactly. */
void fw_format_duration(int64_t ns, char ret_text[FW_UNIT_TEXT_SIZE]);
void fw_format_size(int64_t bytes, char ret_text[FW_UNIT_TEXT_SIZE]);
void fw_format_real(double value, char ret_text[FW_UNIT_TEXT_SIZE]);

#endif

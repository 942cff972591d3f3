/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * The tokens of libconfig 1.5's language, with positions. Internal to syntax.c.
 */
#ifndef FW_CONFIG_LEXER_H
#define FW_CONFIG_LEXER_H

#include "source.h"

enum fw_token_kind {
    FW_TOKEN_END,
    FW_TOKEN_NAME,
    FW_TOKEN_STRING,
    FW_TOKEN_BOOL,
    FW_TOKEN_INTEGER,   /* decimal or hexadecimal */
    FW_TOKEN_INTEGER64, /* with an L */
    FW_TOKEN_FLOAT,
    FW_TOKEN_SIGN,         /* one of = : , ; { } [ ] ( ), in `sign` */
    FW_TOKEN_GARBAGE,      /* any other character */
    FW_TOKEN_OPEN_STRING,  /* runs to the end of the file */
    FW_TOKEN_OPEN_COMMENT, /* the same */
    FW_TOKEN_NO_TEXT       /* a string with a \x00 escape */
};

struct fw_token {
    enum fw_token_kind kind;
    char sign; /* '=' also for ':' */
    struct fw_position at;
    const char *start;
    size_t len;
    unsigned last_line; /* the line on which it ends */
};

struct fw_lexer {
    const char *at;
    const char *end;
    const char *line_start;
    unsigned line;
};

struct fw_token fw_lexer_next(struct fw_lexer *lexer);

#endif

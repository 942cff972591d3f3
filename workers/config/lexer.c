/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "lexer.h"

#include <strings.h>

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_hex_digit(char c)
{
    return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

static bool is_name_start(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '*';
}

static bool is_name(char c)
{
    return is_name_start(c) || is_digit(c) || c == '-' || c == '_';
}

/* The text is terminated, and has no other zero: looking one or two ahead is always safe. */
static void step(struct fw_lexer *x)
{
    if (*x->at++ == '\n') {
        x->line++;
        x->line_start = x->at;
    }
}

static bool is_comment_start(const struct fw_lexer *x)
{
    return *x->at == '#' || (*x->at == '/' && (x->at[1] == '/' || x->at[1] == '*'));
}

/* False: a comment that is never closed. */
static bool skip_comment(struct fw_lexer *x)
{
    if (x->at[0] != '/' || x->at[1] != '*') {
        while (x->at < x->end && *x->at != '\n') {
            x->at++;
        }
        return true;
    }
    x->at += 2;
    while (x->at < x->end) {
        if (x->at[0] == '*' && x->at[1] == '/') {
            x->at += 2;
            return true;
        }
        step(x);
    }
    return false;
}

static enum fw_token_kind lex_string(struct fw_lexer *x)
{
    enum fw_token_kind kind = FW_TOKEN_STRING;
    x->at++;
    while (x->at < x->end) {
        if (*x->at == '"') {
            x->at++;
            return kind;
        }
        if (*x->at == '\\' && (x->at[1] == '\\' || x->at[1] == '"')) {
            x->at++;
        } else if (
            *x->at == '\\' && (x->at[1] == 'x' || x->at[1] == 'X') && x->at[2] == '0' &&
            x->at[3] == '0') {
            kind = FW_TOKEN_NO_TEXT;
        }
        step(x);
    }
    return FW_TOKEN_OPEN_STRING;
}

static enum fw_token_kind lex_name(struct fw_lexer *x)
{
    const char *start = x->at;
    while (is_name(*x->at)) {
        x->at++;
    }
    size_t len = (size_t)(x->at - start);
    bool is_bool = (len == 4 && strncasecmp(start, "true", 4) == 0) ||
                   (len == 5 && strncasecmp(start, "false", 5) == 0);
    return is_bool ? FW_TOKEN_BOOL : FW_TOKEN_NAME;
}

static enum fw_token_kind skip_long_mark(struct fw_lexer *x)
{
    if (*x->at != 'L') {
        return FW_TOKEN_INTEGER;
    }
    x->at += x->at[1] == 'L' ? 2 : 1;
    return FW_TOKEN_INTEGER64;
}

/* Length of an exponent at `at`, 0 without one. */
static size_t exponent(const char *at)
{
    size_t len = 1;
    if (*at != 'e' && *at != 'E') {
        return 0;
    }
    len += at[1] == '+' || at[1] == '-';
    if (!is_digit(at[len])) {
        return 0;
    }
    while (is_digit(at[len])) {
        len++;
    }
    return len;
}

/* A number, or GARBAGE with nothing taken. */
static enum fw_token_kind lex_number(struct fw_lexer *x)
{
    const char *at = x->at;
    if (at[0] == '0' && (at[1] == 'x' || at[1] == 'X') && is_hex_digit(at[2])) {
        for (x->at += 2; is_hex_digit(*x->at);) {
            x->at++;
        }
        return skip_long_mark(x);
    }
    at += *at == '-' || *at == '+';
    const char *digits = at;
    while (is_digit(*at)) {
        at++;
    }
    bool has_digits = at > digits;
    if (*at != '.' && !has_digits) {
        return FW_TOKEN_GARBAGE;
    }
    bool is_float = *at == '.';
    if (is_float) {
        for (at++; is_digit(*at);) {
            at++;
        }
    }
    size_t power = exponent(at);
    x->at = at + power;
    return is_float || power ? FW_TOKEN_FLOAT : skip_long_mark(x);
}

static enum fw_token_kind lex(struct fw_lexer *x)
{
    char c = *x->at;
    if (x->at >= x->end) {
        return FW_TOKEN_END;
    }
    if (c == '"') {
        return lex_string(x);
    }
    if (is_name_start(c)) {
        return lex_name(x);
    }
    if (strchr("=:,;{}[]()", c)) {
        x->at++;
        return FW_TOKEN_SIGN;
    }
    enum fw_token_kind kind = lex_number(x);
    if (kind == FW_TOKEN_GARBAGE) {
        x->at++;
    }
    return kind;
}

struct fw_token fw_lexer_next(struct fw_lexer *lexer)
{
    struct fw_lexer *x = lexer;
    for (;;) {
        while (x->at < x->end && strchr(" \t\n\r\f", *x->at)) {
            step(x);
        }
        struct fw_token token = {
            .at = {x->line, (unsigned)(x->at - x->line_start) + 1}, .start = x->at};
        if (x->at < x->end && is_comment_start(x)) {
            if (!skip_comment(x)) {
                token.kind = FW_TOKEN_OPEN_COMMENT;
                return token;
            }
            continue;
        }
        token.kind = lex(x);
        token.len = (size_t)(x->at - token.start);
        if (token.kind == FW_TOKEN_SIGN) {
            token.sign = *token.start;
            if (token.sign == ':') {
                token.sign = '=';
            }
        }
        token.last_line = x->line;
        return token;
    }
}

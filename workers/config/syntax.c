/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "lexer.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define MAX_DEPTH 32
/* A missing quote turns all that follows inside out: text over several lines, then one word, then
 * text again. So trouble within that many tokens after a text over several lines began with it. */
#define MEANS_CHAIN 2
/* Within that many after a text with a word right behind its closing quote: surer, so further. */
#define MEANS_STUCK 4

/* An open bracket, or the whole file (sign 0). */
struct level {
    char sign;
    struct fw_position at;
    size_t first_node; /* of its own settings */
    unsigned count;
    enum fw_token_kind items; /* of an array: what its first item was */
};

struct parser {
    struct fw_lexer lexer;
    struct fw_token token;    /* the current one */
    struct fw_token previous; /* the two before it: the likely cause is often there */
    struct fw_token before_previous;
    struct fw_token chain; /* the first of the last strings that stood next to each other */
    unsigned chain_age;    /* tokens since */
    bool suspicious;       /* that chain had a string over several lines */
    bool sticks;           /* a word followed it without a blank between */
    struct fw_source *source;
    struct fw_arena *arena;
    struct fw_report *report;
    struct level levels[MAX_DEPTH];
    size_t *parents; /* for each node: the level's serial number */
    unsigned depth;
    size_t serial;
    size_t serials[MAX_DEPTH];
};

static struct fw_where where(const struct parser *p, struct fw_position at)
{
    return (struct fw_where){.name = p->source->path, .at = at};
}

static bool is_number(enum fw_token_kind kind)
{
    return kind == FW_TOKEN_INTEGER || kind == FW_TOKEN_INTEGER64 || kind == FW_TOKEN_FLOAT;
}

static bool is_adjacent(const struct fw_token *first, const struct fw_token *second)
{
    return first->start && first->start + first->len == second->start;
}

/* What cannot follow a text at once. */
static bool is_word(enum fw_token_kind kind)
{
    return is_number(kind) || kind == FW_TOKEN_NAME || kind == FW_TOKEN_BOOL ||
           kind == FW_TOKEN_GARBAGE;
}

static void advance(struct parser *p)
{
    p->before_previous = p->previous;
    p->previous = p->token;
    p->token = fw_lexer_next(&p->lexer);
    p->chain_age++;
    if (p->token.kind != FW_TOKEN_STRING) {
        p->sticks = p->sticks || (p->previous.kind == FW_TOKEN_STRING && is_word(p->token.kind) &&
                                  is_adjacent(&p->previous, &p->token));
        return;
    }
    if (p->previous.kind != FW_TOKEN_STRING &&
        !((p->suspicious || p->sticks) && p->chain_age <= MEANS_CHAIN)) {
        p->chain = p->token;
        p->suspicious = false;
        p->sticks = false;
    }
    p->suspicious = p->suspicious || p->token.last_line != p->token.at.line;
    p->chain_age = 0;
}

static bool is_sign(const struct parser *p, char sign)
{
    return p->token.kind == FW_TOKEN_SIGN && p->token.sign == sign;
}

static char closing(char sign)
{
    switch (sign) {
    case '{':
        return '}';
    case '[':
        return ']';
    default:
        return ')';
    }
}

/* ---- What is wrong, and why: each reports one error and returns false ---- */

/* The word that starts at `token` as a person sees it: up to a blank or a sign that ends values. */
static int word_len(const struct parser *p, const struct fw_token *token)
{
    size_t len = strcspn(token->start, " \t\r\n;,(){}[]\"'");
    size_t left = (size_t)(p->lexer.end - token->start);
    len = len < left ? len : left;
    return len == 0 ? 1 : (int)(len < 60 ? len : 60);
}

static bool no_quotes(struct parser *p, const struct fw_token *token)
{
    fw_report_error(
        p->report, where(p, token->at), "", "text is written in quotes: \"%.*s\"%s",
        word_len(p, token), token->start,
        is_number(token->kind) ? " (a number with a unit is text)" : "");
    return false;
}

/* Causes that lie before the place where libconfig gives up. True when one was reported. */
static bool earlier_cause(struct parser *p)
{
    if (p->token.kind == FW_TOKEN_OPEN_COMMENT) {
        fw_report_error(p->report, where(p, p->token.at), "", "this comment is never closed");
        return true;
    }
    if (p->suspicious && p->chain_age <= MEANS_CHAIN) {
        fw_report_error(
            p->report, where(p, p->chain.at), "",
            "the text that starts here is not closed on its line: a quote is missing");
        return true;
    }
    if (p->sticks && p->chain_age <= MEANS_STUCK) {
        fw_report_error(
            p->report, where(p, p->chain.at), "",
            "a quote is missing in or after the text that starts here");
        return true;
    }
    if (p->token.kind == FW_TOKEN_OPEN_STRING) {
        fw_report_error(
            p->report, where(p, p->token.at), "",
            "the text that starts here is never closed: a quote is missing");
        return true;
    }
    if (p->token.kind == FW_TOKEN_NO_TEXT) {
        fw_report_error(p->report, where(p, p->token.at), "", "\\x00 would end the text");
        return true;
    }
    if (p->token.kind == FW_TOKEN_GARBAGE && strncmp(p->token.start, "@include", 8) == 0) {
        fw_report_error(
            p->report, where(p, p->token.at), "",
            "@include is not taken; write include = \"conf.d/*.cfg\"; each file that it names adds "
            "its queues");
        return true;
    }
    if (p->token.kind == FW_TOKEN_GARBAGE && *p->token.start == '\'') {
        fw_report_error(
            p->report, where(p, p->token.at), "", "text takes double quotes, not single ones");
        return true;
    }
    if (p->previous.kind == FW_TOKEN_NAME && is_adjacent(&p->before_previous, &p->previous) &&
        is_number(p->before_previous.kind)) {
        (void)no_quotes(p, &p->before_previous);
        return true;
    }
    return false;
}

static const char *describe(const struct fw_token *token, char text[64])
{
    switch (token->kind) {
    case FW_TOKEN_END:
        return "the end of the file";
    case FW_TOKEN_STRING:
        return "a text in quotes";
    case FW_TOKEN_GARBAGE:
        if ((unsigned char)*token->start < 0x20 || (unsigned char)*token->start >= 0x7f) {
            (void)snprintf(text, 64, "the byte 0x%02x", (unsigned char)*token->start);
            return text;
        }
        break;
    default:
        break;
    }
    (void)snprintf(text, 64, "`%.*s`", (int)(token->len < 40 ? token->len : 40), token->start);
    return text;
}

static bool unexpected(struct parser *p, const char *expected)
{
    char text[64];
    struct fw_position at = p->token.at;
    if (p->token.kind == FW_TOKEN_END && p->previous.last_line == p->previous.at.line) {
        at = p->previous.at; /* where something should follow */
        at.column += (unsigned)p->previous.len;
    }
    if (!earlier_cause(p)) {
        fw_report_error(
            p->report, where(p, at), "", "syntax error: expected %s, found %s", expected,
            describe(&p->token, text));
    }
    return false;
}

static bool not_closed(struct parser *p)
{
    const struct level *level = &p->levels[p->depth];
    char text[64];
    if (earlier_cause(p)) {
        return false;
    }
    if (p->token.kind == FW_TOKEN_END) {
        fw_report_error(
            p->report, where(p, level->at), "", "this `%c` is never closed: a `%c` is missing",
            level->sign, closing(level->sign));
    } else {
        fw_report_error(
            p->report, where(p, p->token.at), "",
            "syntax error: found %s where the `%c` of line %u needs its `%c`",
            describe(&p->token, text), level->sign, level->at.line, closing(level->sign));
    }
    return false;
}

/* ---- The grammar ---- */

static struct fw_node *add_node(struct parser *p)
{
    size_t count = p->source->node_count;
    struct fw_node *nodes = fw_arena_grow(p->arena, p->source->nodes, count, sizeof *nodes);
    size_t *parents = fw_arena_grow(p->arena, p->parents, count, sizeof *parents);
    if (!nodes || !parents) {
        fw_report_error(p->report, where(p, p->token.at), "", "out of memory");
        return NULL;
    }
    p->source->nodes = nodes;
    p->parents = parents;
    p->source->node_count++;
    nodes[count] = (struct fw_node){.key = p->token.at, .value = p->token.at};
    parents[count] = p->serials[p->depth];
    return &nodes[count];
}

static bool enter(struct parser *p)
{
    if (p->depth + 1 == MAX_DEPTH) {
        fw_report_error(
            p->report, where(p, p->token.at), "", "more than %d brackets inside each other",
            MAX_DEPTH - 1);
        return false;
    }
    p->levels[++p->depth] =
        (struct level){.sign = p->token.sign, .at = p->token.at, .items = FW_TOKEN_END};
    p->levels[p->depth].first_node = p->source->node_count;
    p->serials[p->depth] = ++p->serial;
    advance(p);
    return true;
}

static void leave(struct parser *p)
{
    p->depth--;
    advance(p);
}

/* libconfig keeps 32 bits of a number without L, and 63 of one with. */
static bool fits(struct parser *p)
{
    const struct fw_token *t = &p->token;
    char text[80];
    bool is_hex = t->len > 1 && (t->start[1] == 'x' || t->start[1] == 'X');
    (void)snprintf(
        text, sizeof text, "%.*s", (int)(t->len < sizeof text ? t->len : sizeof text - 1),
        t->start);
    errno = 0;
    long long value = strtoll(text, NULL, is_hex ? 16 : 10);
    if (errno != 0) {
        fw_report_error(p->report, where(p, t->at), "", "%s does not fit 64 bits", text);
        return false;
    }
    if (t->kind == FW_TOKEN_INTEGER && (value > INT32_MAX || value < INT32_MIN)) {
        fw_report_error(
            p->report, where(p, t->at), "", "%s does not fit 32 bits: write %sL", text, text);
        return false;
    }
    return true;
}

static bool check_item(struct parser *p)
{
    struct level *level = &p->levels[p->depth];
    if (level->sign != '[') {
        return true;
    }
    if (level->items == FW_TOKEN_END) {
        level->items = p->token.kind;
    }
    if (level->items != p->token.kind) {
        fw_report_error(
            p->report, where(p, p->token.at), "",
            "the items of [ ] must be of one type; ( ) takes a mixed list");
        return false;
    }
    return true;
}

static void joined(struct parser *p, const struct fw_token *first)
{
    fw_report_warning(
        p->report, where(p, p->token.at), "",
        "no comma between %.*s and %.*s: they are read as one text",
        (int)(first->len < 40 ? first->len : 40), first->start,
        (int)(p->token.len < 40 ? p->token.len : 40), p->token.start);
}

static bool parse_string(struct parser *p)
{
    struct fw_token first = p->token;
    bool in_list = p->levels[p->depth].sign == '(' || p->levels[p->depth].sign == '[';
    advance(p);
    while (p->token.kind == FW_TOKEN_STRING) {
        if (in_list) {
            joined(p, &first);
        }
        first = p->token;
        advance(p);
    }
    return true;
}

static bool take_scalar(struct parser *p)
{
    if (!check_item(p)) {
        return false;
    }
    advance(p);
    return true;
}

/* NOLINTBEGIN(misc-no-recursion): MAX_DEPTH bounds it */
static bool parse_items(struct parser *p);
static bool parse_settings(struct parser *p);

static bool no_value(struct parser *p)
{
    char in = p->levels[p->depth].sign;
    if (earlier_cause(p)) {
        return false;
    }
    if (p->token.kind == FW_TOKEN_NAME) {
        return no_quotes(p, &p->token);
    }
    if (p->previous.sign == ',' && (in == '(' || in == '[') && is_sign(p, closing(in))) {
        fw_report_error(
            p->report, where(p, p->previous.at), "",
            "remove this comma: the last item of a list has none after it");
        return false;
    }
    if (in == '[' && p->token.kind == FW_TOKEN_SIGN && strchr("{[(", p->token.sign)) {
        fw_report_error(
            p->report, where(p, p->token.at), "",
            "[ ] takes plain values only; a list of groups is written ( { ... }, { ... } )");
        return false;
    }
    if (is_sign(p, ';') && p->previous.sign == '=') {
        fw_report_error(p->report, where(p, p->token.at), "", "the value is missing");
        return false;
    }
    return unexpected(p, "a value");
}

/* The value of the node that was added last. */
static bool parse_value(struct parser *p)
{
    struct fw_node *node = &p->source->nodes[p->source->node_count - 1];
    bool in_array = p->levels[p->depth].sign == '[';
    node->value = p->token.at;
    node->raw = p->token.start;
    node->raw_len = p->token.len;
    switch (p->token.kind) {
    case FW_TOKEN_STRING:
        return check_item(p) && parse_string(p);
    case FW_TOKEN_INTEGER:
    case FW_TOKEN_INTEGER64:
        return fits(p) && take_scalar(p);
    case FW_TOKEN_FLOAT:
    case FW_TOKEN_BOOL:
        return take_scalar(p);
    case FW_TOKEN_SIGN:
        if (p->token.sign == '{' && !in_array) {
            return enter(p) && parse_settings(p);
        }
        if ((p->token.sign == '(' || p->token.sign == '[') && !in_array) {
            return enter(p) && parse_items(p);
        }
        return no_value(p);
    default:
        return no_value(p);
    }
}

static bool starts_value(const struct fw_token *token)
{
    return token->kind == FW_TOKEN_STRING || token->kind == FW_TOKEN_BOOL ||
           is_number(token->kind) || (token->sign && strchr("{[(", token->sign));
}

static bool no_separator(struct parser *p)
{
    if (earlier_cause(p)) {
        return false;
    }
    if (is_number(p->previous.kind) && is_adjacent(&p->previous, &p->token)) {
        return no_quotes(p, &p->previous);
    }
    if (starts_value(&p->token)) {
        fw_report_error(
            p->report, where(p, p->token.at), "", "a comma is missing before this item");
        return false;
    }
    if (is_sign(p, ';')) {
        fw_report_error(
            p->report, where(p, p->token.at), "",
            "remove this semicolon: the items of a list have commas between them");
        return false;
    }
    return not_closed(p);
}

/* The items of a list or array and its closing bracket. */
static bool parse_items(struct parser *p)
{
    char end = closing(p->levels[p->depth].sign);
    if (is_sign(p, end)) {
        leave(p);
        return true;
    }
    for (;;) {
        if (p->token.kind == FW_TOKEN_END) {
            return not_closed(p);
        }
        if (!add_node(p) || !parse_value(p)) {
            return false;
        }
        if (is_sign(p, end)) {
            leave(p);
            return true;
        }
        if (!is_sign(p, ',')) {
            return no_separator(p);
        }
        advance(p);
    }
}

/* Looks for an earlier setting of that name in the same group. */
static bool is_new(struct parser *p, const struct fw_token *name)
{
    struct level *level = &p->levels[p->depth];
    if (++level->count > 1000) {
        fw_report_error(p->report, where(p, name->at), "", "more than 1000 settings in one group");
        return false;
    }
    for (size_t i = level->first_node; i < p->source->node_count; i++) {
        const struct fw_node *node = &p->source->nodes[i];
        if (p->parents[i] == p->serials[p->depth] && node->name_len == name->len &&
            memcmp(node->name, name->start, name->len) == 0) {
            fw_report_error(
                p->report, where(p, name->at), "",
                "\"%.*s\" is set a second time; first on line %u",
                (int)(name->len < 60 ? name->len : 60), name->start, node->key.line);
            return false;
        }
    }
    return true;
}

static bool no_name(struct parser *p)
{
    if (earlier_cause(p)) {
        return false;
    }
    if (is_sign(p, ';') || is_sign(p, ',')) {
        fw_report_error(p->report, where(p, p->token.at), "", "one `%c` too many", p->token.sign);
        return false;
    }
    if (is_number(p->previous.kind) && is_adjacent(&p->previous, &p->token)) {
        return no_quotes(p, &p->previous);
    }
    if (p->token.kind == FW_TOKEN_STRING) {
        struct fw_token text = p->token;
        advance(p);
        if (is_sign(p, '=')) {
            fw_report_error(
                p->report, where(p, text.at), "", "the name of a key is written without quotes");
            return false;
        }
        p->token = text;
    }
    if (p->depth > 0 && (p->token.kind == FW_TOKEN_END || p->token.kind == FW_TOKEN_SIGN)) {
        return not_closed(p);
    }
    if (p->token.kind == FW_TOKEN_SIGN && strchr("}])", p->token.sign)) {
        fw_report_error(
            p->report, where(p, p->token.at), "", "this `%c` closes nothing", p->token.sign);
        return false;
    }
    return unexpected(p, "the name of a key");
}

static bool parse_setting(struct parser *p)
{
    struct fw_token name = p->token;
    if (!is_new(p, &name)) {
        return false;
    }
    struct fw_node *node = add_node(p);
    if (!node) {
        return false;
    }
    node->name = name.start;
    node->name_len = name.len;
    advance(p);
    if (!is_sign(p, '=')) {
        char expected[96];
        (void)snprintf(
            expected, sizeof expected, "`=` after \"%.*s\"", (int)(name.len < 60 ? name.len : 60),
            name.start);
        return unexpected(p, expected);
    }
    advance(p);
    if (!parse_value(p)) {
        return false;
    }
    if (is_sign(p, ';') || is_sign(p, ',')) {
        advance(p);
    }
    return true;
}

/* The settings of a group and its closing bracket, or of the file to its end. */
static bool parse_settings(struct parser *p)
{
    while (p->token.kind == FW_TOKEN_NAME) {
        if (!parse_setting(p)) {
            return false;
        }
    }
    if (p->depth == 0 && p->token.kind == FW_TOKEN_END) {
        return true;
    }
    if (p->depth > 0 && is_sign(p, '}')) {
        leave(p);
        return true;
    }
    return no_name(p);
}

/* NOLINTEND(misc-no-recursion) */

bool fw_syntax_check(struct fw_source *source, struct fw_arena *arena, struct fw_report *report)
{
    struct parser p = {.source = source, .arena = arena, .report = report, .chain_age = 9};
    p.lexer = (struct fw_lexer){source->text, source->text + source->len, source->text, 1};
    advance(&p);
    return parse_settings(&p);
}

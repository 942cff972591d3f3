/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * Lua's patterns (reference manual 6.4.1) with a bound: Lua's own matcher may search for longer
 * than the universe lasts, inside one call, where no hook counts. This one charges its steps.
 */
#include "lua_internal.h"

#include <ctype.h>
#include <string.h>

#define STEPS_PER_INSTRUCTION 16
#define DEPTH_MAX             200
#define CAPTURES_MAX          32
#define POSITION              (-1) /* length of a capture that is a position */
#define OPEN                  (-2)

struct capture {
    const char *at;
    ptrdiff_t len;
};

struct matcher {
    lua_State *state;
    const char *text;
    const char *text_end;
    const char *pattern_end;
    unsigned depth;
    unsigned steps;
    int captures;
    struct capture capture[CAPTURES_MAX];
};

static const char *match_here(struct matcher *m, const char *s, const char *p);

static void step(struct matcher *m)
{
    if (++m->steps == 16 * STEPS_PER_INSTRUCTION) {
        m->steps = 0;
        fb_charge(m->state, 16);
    }
}

/* ---- Single characters ---- */

static unsigned char byte(char c)
{
    return (unsigned char)c;
}

static bool in_class(int c, int class)
{
    bool is;
    switch (tolower(class)) {
    case 'a':
        is = isalpha(c) != 0;
        break;
    case 'c':
        is = iscntrl(c) != 0;
        break;
    case 'd':
        is = isdigit(c) != 0;
        break;
    case 'g':
        is = isgraph(c) != 0;
        break;
    case 'l':
        is = islower(c) != 0;
        break;
    case 'p':
        is = ispunct(c) != 0;
        break;
    case 's':
        is = isspace(c) != 0;
        break;
    case 'u':
        is = isupper(c) != 0;
        break;
    case 'w':
        is = isalnum(c) != 0;
        break;
    case 'x':
        is = isxdigit(c) != 0;
        break;
    default:
        return class == c;
    }
    return isupper(class) ? !is : is;
}

/* The end of the single-character item at `p`. */
static const char *item_end(struct matcher *m, const char *p)
{
    char first = *p++;
    if (first == '%') {
        if (p == m->pattern_end) {
            luaL_error(m->state, "malformed pattern (ends with '%%')");
        }
        return p + 1;
    }
    if (first != '[') {
        return p;
    }
    p += *p == '^';
    do { /* a ']' that comes first is one of the set */
        if (p == m->pattern_end) {
            luaL_error(m->state, "malformed pattern (missing ']')");
        }
        if (*p++ == '%' && p < m->pattern_end) {
            p++;
        }
    } while (*p != ']'); /* at the pattern's end is a zero */
    return p + 1;
}

/* `p` is at the '[', `end` at its ']'. */
static bool in_set(struct matcher *m, int c, const char *p, const char *end)
{
    bool wanted = true;
    if (p[1] == '^') {
        wanted = false;
        p++;
    }
    while (++p < end) {
        step(m);
        if (*p == '%') {
            p++;
            if (in_class(c, byte(*p))) {
                return wanted;
            }
        } else if (p[1] == '-' && p + 2 < end) {
            p += 2;
            if (byte(p[-2]) <= c && c <= byte(*p)) {
                return wanted;
            }
        } else if (byte(*p) == c) {
            return wanted;
        }
    }
    return !wanted;
}

static bool is_single(struct matcher *m, const char *s, const char *p, const char *end)
{
    step(m);
    if (s >= m->text_end) {
        return false;
    }
    switch (*p) {
    case '.':
        return true;
    case '%':
        return in_class(byte(*s), byte(p[1]));
    case '[':
        return in_set(m, byte(*s), p, end - 1);
    default:
        return *p == *s;
    }
}

/* NOLINTBEGIN(misc-no-recursion): DEPTH_MAX bounds it */
/* ---- Items ---- */

static const char *match_balance(struct matcher *m, const char *s, const char *p)
{
    unsigned open = 1;
    if (p + 1 >= m->pattern_end) {
        luaL_error(m->state, "malformed pattern (missing arguments to '%%b')");
    }
    if (s >= m->text_end || *s != *p) {
        return NULL;
    }
    while (++s < m->text_end) {
        step(m);
        if (*s == p[1]) {
            if (--open == 0) {
                return s + 1;
            }
        } else if (*s == p[0]) {
            open++;
        }
    }
    return NULL;
}

/* The end of the item; NULL when there is no frontier at `s`. */
static const char *match_frontier(struct matcher *m, const char *s, const char *p)
{
    const char *end;
    int before = s == m->text ? 0 : byte(s[-1]);
    int after = s < m->text_end ? byte(*s) : 0;
    if (*p != '[') {
        luaL_error(m->state, "missing '[' after '%%f' in pattern");
    }
    end = item_end(m, p);
    if (in_set(m, before, p, end - 1) || !in_set(m, after, p, end - 1)) {
        return NULL;
    }
    return end;
}

static const char *match_back_reference(struct matcher *m, const char *s, char digit)
{
    int n = byte(digit) - '1';
    size_t len;
    if (n < 0 || n >= m->captures || m->capture[n].len == OPEN) {
        luaL_error(m->state, "invalid capture index %%%d", n + 1);
    }
    len = (size_t)m->capture[n].len;
    fb_charge(m->state, m->capture[n].len > 0 ? len / 256 : 0);
    if ((size_t)(m->text_end - s) < len) {
        return NULL;
    }
    /* NOLINTNEXTLINE(clang-analyzer-core.NonNullParamChecker): what is captured has a place */
    if (memcmp(m->capture[n].at, s, len) != 0) {
        return NULL;
    }
    return s + len;
}

static const char *open_capture(struct matcher *m, const char *s, const char *p, ptrdiff_t what)
{
    const char *end;
    if (m->captures >= CAPTURES_MAX) {
        luaL_error(m->state, "too many captures");
    }
    m->capture[m->captures].at = s;
    m->capture[m->captures].len = what;
    m->captures++;
    end = match_here(m, s, p);
    m->captures -= end == NULL;
    return end;
}

static const char *close_capture(struct matcher *m, const char *s, const char *p)
{
    int n = m->captures - 1;
    const char *end;
    while (n >= 0 && m->capture[n].len != OPEN) {
        n--;
    }
    if (n < 0) {
        luaL_error(m->state, "invalid pattern capture");
    }
    m->capture[n].len = s - m->capture[n].at;
    end = match_here(m, s, p);
    if (!end) {
        m->capture[n].len = OPEN;
    }
    return end;
}

static const char *match_longest(
    struct matcher *m,
    const char *s,
    const char *p,
    const char *end,
    ptrdiff_t least)
{
    ptrdiff_t n = 0;
    while (is_single(m, s + n, p, end)) {
        n++;
    }
    for (; n >= least; n--) {
        const char *rest = match_here(m, s + n, end + 1);
        if (rest) {
            return rest;
        }
    }
    return NULL;
}

static const char *match_shortest(struct matcher *m, const char *s, const char *p, const char *end)
{
    for (;;) {
        const char *rest = match_here(m, s, end + 1);
        if (rest) {
            return rest;
        }
        if (!is_single(m, s, p, end)) {
            return NULL;
        }
        s++;
    }
}

/* A single-character item with what follows it. True: the match goes on at *s and *p; false: it is
 * over, with *s (NULL = no match). */
static bool match_single(struct matcher *m, const char **s, const char **p)
{
    const char *item = *p;
    const char *end = item_end(m, item);
    const char *rest;
    if (!is_single(m, *s, item, end)) {
        *p = end + 1;
        *s = *end == '*' || *end == '-' || *end == '?' ? *s : NULL;
        return *s != NULL;
    }
    switch (*end) {
    case '*':
    case '+':
        *s = match_longest(m, *s, item, end, *end == '+');
        return false;
    case '-':
        *s = match_shortest(m, *s, item, end);
        return false;
    case '?':
        rest = match_here(m, *s + 1, end + 1);
        *p = end + 1;
        *s = rest ? rest : *s;
        return !rest;
    default:
        (*s)++;
        *p = end;
        return true;
    }
}

/* What begins with '%' and is no class. As match_single; *is_item tells whether it was one. */
static bool match_special(struct matcher *m, const char **s, const char **p, bool *is_item)
{
    const char *at = *p;
    *is_item = true;
    if (at[1] == 'b') {
        *s = match_balance(m, *s, at + 2);
        *p = at + 4;
        return *s != NULL;
    }
    if (at[1] == 'f') {
        *p = match_frontier(m, *s, at + 2);
        *s = *p ? *s : NULL;
        return *s != NULL;
    }
    if (isdigit(byte(at[1]))) {
        *s = match_back_reference(m, *s, at[1]);
        *p = at + 2;
        return *s != NULL;
    }
    *is_item = false;
    return true;
}

/* One item at *p. As match_single. */
static bool match_item(struct matcher *m, const char **s, const char **p)
{
    const char *at = *p;
    bool goes_on;
    bool is_item;
    switch (*at) {
    case '(':
        *s = at[1] == ')' ? open_capture(m, *s, at + 2, POSITION)
                          : open_capture(m, *s, at + 1, OPEN);
        return false;
    case ')':
        *s = close_capture(m, *s, at + 1);
        return false;
    case '$':
        if (at + 1 == m->pattern_end) {
            *s = *s == m->text_end ? *s : NULL;
            return false;
        }
        break;
    case '%':
        goes_on = match_special(m, s, p, &is_item);
        if (is_item) {
            return goes_on;
        }
        break;
    default:
        break;
    }
    return match_single(m, s, p);
}

/* Where the match of the pattern from `p` on that begins at `s` ends; NULL when there is none. */
static const char *match_here(struct matcher *m, const char *s, const char *p)
{
    if (++m->depth > DEPTH_MAX) {
        luaL_error(m->state, "pattern too complex");
    }
    while (p != m->pattern_end && match_item(m, &s, &p)) {
        step(m);
    }
    m->depth--;
    return s;
}

static const char *match_at(struct matcher *m, const char *s, const char *p)
{
    m->captures = 0;
    m->depth = 0;
    step(m);
    return match_here(m, s, p);
}

/* NOLINTEND(misc-no-recursion) */

/* ---- Captures ---- */

/* Pushes a capture; of a pattern without any, the first is the whole match from `s` to `e`. */
static void push_capture(struct matcher *m, int n, const char *s, const char *e)
{
    if (n >= m->captures) {
        if (n != 0) {
            luaL_error(m->state, "invalid capture index %%%d", n + 1);
        }
        lua_pushlstring(m->state, s, (size_t)(e - s));
    } else if (m->capture[n].len == OPEN) {
        luaL_error(m->state, "unfinished capture");
    } else if (m->capture[n].len == POSITION) {
        lua_pushinteger(m->state, m->capture[n].at - m->text + 1);
    } else {
        lua_pushlstring(m->state, m->capture[n].at, (size_t)m->capture[n].len);
    }
}

/* `s` NULL: not the whole match where there are no captures. */
static int push_captures(struct matcher *m, const char *s, const char *e)
{
    int count = m->captures == 0 && s ? 1 : m->captures;
    luaL_checkstack(m->state, count, "too many captures");
    for (int n = 0; n < count; n++) {
        push_capture(m, n, s, e);
    }
    return count;
}

static struct matcher matcher_of(lua_State *state, fila_view text, fila_view pattern)
{
    return (struct matcher){
        .state = state,
        .text = text.data,
        .text_end = text.data + text.len,
        .pattern_end = pattern.data + pattern.len,
    };
}

static fila_view check_text(lua_State *state, int at)
{
    fila_view text;
    text.data = luaL_checklstring(state, at, &text.len);
    return text;
}

/* ---- find and match ---- */

/* The argument `init` as an offset from 0; SIZE_MAX when it is behind the text's end. */
static size_t start_of(lua_State *state, int at, size_t len)
{
    lua_Integer init = luaL_optinteger(state, at, 1);
    if (init < 0) {
        init = -(lua_Unsigned)init > len ? 1 : (lua_Integer)len + init + 1;
    }
    init = init > 0 ? init - 1 : 0;
    return (lua_Unsigned)init > len ? SIZE_MAX : (size_t)init;
}

static bool is_plain(fila_view pattern)
{
    for (size_t i = 0; i < pattern.len; i++) {
        if (pattern.data[i] != '\0' && strchr("^$*+?.([%-", pattern.data[i])) {
            return false;
        }
    }
    return true;
}

static int find_plain(lua_State *state, fila_view text, size_t start, fila_view wanted)
{
    const char *found;
    fb_charge(state, (text.len - start) / 256);
    found = memmem(text.data + start, text.len - start, wanted.data, wanted.len);
    if (!found) {
        lua_pushnil(state);
        return 1;
    }
    lua_pushinteger(state, found - text.data + 1);
    lua_pushinteger(state, found - text.data + (lua_Integer)wanted.len);
    return 2;
}

static int search(lua_State *state, fila_view text, size_t start, fila_view pattern, bool find)
{
    struct matcher m = matcher_of(state, text, pattern);
    const char *p = pattern.data;
    const char *s = text.data + start;
    bool anchored = pattern.len && *p == '^';
    p += anchored;
    do {
        const char *e = match_at(&m, s, p);
        if (e && find) {
            lua_pushinteger(state, s - text.data + 1);
            lua_pushinteger(state, e - text.data);
            return push_captures(&m, NULL, NULL) + 2;
        }
        if (e) {
            return push_captures(&m, s, e);
        }
    } while (s++ < m.text_end && !anchored);
    lua_pushnil(state);
    return 1;
}

static int find_or_match(lua_State *state, bool find)
{
    fila_view text = check_text(state, 1);
    fila_view pattern = check_text(state, 2);
    size_t start = start_of(state, 3, text.len);
    if (start == SIZE_MAX) {
        lua_pushnil(state);
        return 1;
    }
    if (find && (lua_toboolean(state, 4) || is_plain(pattern))) {
        return find_plain(state, text, start, pattern);
    }
    return search(state, text, start, pattern, find);
}

static int string_find(lua_State *state)
{
    return find_or_match(state, true);
}

static int string_match(lua_State *state)
{
    return find_or_match(state, false);
}

/* ---- gmatch ---- */

/* Upvalues: text, pattern, where to go on, where the last match ended (0 = nowhere). */
static int next_match(lua_State *state)
{
    fila_view text = check_text(state, lua_upvalueindex(1));
    fila_view pattern = check_text(state, lua_upvalueindex(2));
    struct matcher m = matcher_of(state, text, pattern);
    const char *s = text.data + lua_tointeger(state, lua_upvalueindex(3));
    lua_Integer last = lua_tointeger(state, lua_upvalueindex(4));
    for (; s <= m.text_end; s++) {
        const char *e = match_at(&m, s, pattern.data);
        if (e && e - text.data + 1 != last) {
            lua_pushinteger(state, e - text.data);
            lua_replace(state, lua_upvalueindex(3));
            lua_pushinteger(state, e - text.data + 1);
            lua_replace(state, lua_upvalueindex(4));
            return push_captures(&m, s, e);
        }
    }
    return 0;
}

static int string_gmatch(lua_State *state)
{
    fila_view text = check_text(state, 1);
    size_t start = start_of(state, 3, text.len);
    (void)check_text(state, 2);
    lua_settop(state, 2);
    lua_pushinteger(state, (lua_Integer)(start == SIZE_MAX ? text.len + 1 : start));
    lua_pushinteger(state, 0);
    lua_pushcclosure(state, next_match, 4);
    return 1;
}

/* ---- gsub ---- */

/* A replacement text with its %0 to %9. */
static void add_text(struct matcher *m, luaL_Buffer *out, const char *s, const char *e)
{
    size_t len = 0;
    const char *text = lua_tolstring(m->state, 3, &len);
    const char *end = text + len;
    while (text < end) {
        const char *percent = memchr(text, '%', (size_t)(end - text));
        luaL_addlstring(out, text, (size_t)((percent ? percent : end) - text));
        if (!percent) {
            return;
        }
        text = percent + 2;
        step(m);
        if (percent[1] == '%') {
            luaL_addchar(out, '%');
        } else if (percent[1] == '0') {
            luaL_addlstring(out, s, (size_t)(e - s));
        } else if (isdigit(byte(percent[1]))) {
            push_capture(m, percent[1] - '1', s, e);
            luaL_addvalue(out);
        } else {
            luaL_error(m->state, "invalid use of '%%' in replacement string");
        }
    }
}

static void add_value(struct matcher *m, luaL_Buffer *out, const char *s, const char *e)
{
    lua_State *state = m->state;
    switch (lua_type(state, 3)) {
    case LUA_TFUNCTION:
        lua_pushvalue(state, 3);
        lua_call(state, push_captures(m, s, e), 1);
        break;
    case LUA_TTABLE:
        push_capture(m, 0, s, e);
        (void)lua_gettable(state, 3);
        break;
    default:
        add_text(m, out, s, e);
        return;
    }
    if (!lua_toboolean(state, -1)) {
        lua_pop(state, 1);
        luaL_addlstring(out, s, (size_t)(e - s));
        return;
    }
    if (!lua_isstring(state, -1)) {
        luaL_error(state, "invalid replacement value (a %s)", luaL_typename(state, -1));
    }
    luaL_addvalue(out);
}

static int string_gsub(lua_State *state)
{
    fila_view text = check_text(state, 1);
    fila_view pattern = check_text(state, 2);
    int kind = lua_type(state, 3);
    lua_Integer most = luaL_optinteger(state, 4, (lua_Integer)text.len + 1);
    struct matcher m = matcher_of(state, text, pattern);
    const char *s = text.data;
    const char *p = pattern.data;
    const char *last = NULL;
    bool anchored = pattern.len && *p == '^';
    lua_Integer count = 0;
    luaL_Buffer out;
    luaL_argexpected(
        state,
        kind == LUA_TNUMBER || kind == LUA_TSTRING || kind == LUA_TFUNCTION || kind == LUA_TTABLE,
        3, "string/function/table");
    p += anchored;
    luaL_buffinit(state, &out);
    while (count < most) {
        const char *e = match_at(&m, s, p);
        if (e && e != last) {
            count++;
            add_value(&m, &out, s, e);
            s = last = e;
        } else if (s < m.text_end) {
            luaL_addchar(&out, *s); /* NOLINT(clang-analyzer-core.NullDereference): of a text */
            s++;
        } else {
            break;
        }
        if (anchored) {
            break;
        }
    }
    luaL_addlstring(&out, s, (size_t)(m.text_end - s));
    luaL_pushresult(&out);
    lua_pushinteger(state, count);
    return 2;
}

void fb_pattern_open(lua_State *state)
{
    static const luaL_Reg functions[] = {
        {"find", string_find},
        {"match", string_match},
        {"gmatch", string_gmatch},
        {"gsub", string_gsub},
        {NULL, NULL},
    };
    luaL_setfuncs(state, functions, 0);
}

/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * The list of every event of the log (config/EVENTS.md), from events.h: `FILE` compares and looks
 * at the events themselves, `--write FILE` writes it (the target `events`).
 */
#include "log/log.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const LEVELS[] = {"debug", "info", "warn", "error"};

static void cell(FILE *out, const char *text)
{
    for (; *text; text++) {
        if (*text == '|') {
            (void)fputc('\\', out);
        }
        (void)fputc(*text, out);
    }
}

enum group {
    ACT_NOW,
    TODAY,
    WHEN_RARE,
    FOR_THE_RECORD,
    GROUP_COUNT
};

static enum group group_of(enum fw_event event)
{
    bool calm = strncmp(fw_event_remedy(event), "None", 4) == 0;
    switch (fw_event_level(event)) {
    case FW_LOG_ERROR:
        return ACT_NOW;
    case FW_LOG_WARN:
        return calm ? WHEN_RARE : TODAY;
    default:
        return FOR_THE_RECORD;
    }
}

static void print_group(FILE *out, enum group group)
{
    static const char *const TITLES[GROUP_COUNT] = {
        "Act now\n\nLevel `error`: messages fail, or stand still, until somebody does something.",
        "Look at it today\n\nLevel `warn`: the worker copes, but not for ever, or not as was meant.",
        "Fine when rare\n\nLevel `warn`: it happens in good order too; alert on many.",
        "For the record\n\nLevels `info` and `debug`: what was done."};
    (void)fprintf(
        out, "\n## %s\n\n| Event | Level | Meaning | What to do |\n|---|---|---|---|\n",
        TITLES[group]);
    for (int i = 0; i < FW_EVENT_COUNT; i++) {
        enum fw_event event = (enum fw_event)i;
        if (group_of(event) != group) {
            continue;
        }
        (void)fprintf(out, "| `%s` | %s | ", fw_event_id(event), LEVELS[fw_event_level(event)]);
        cell(out, fw_event_meaning(event));
        (void)fputs(" | ", out);
        cell(out, fw_event_remedy(event));
        (void)fputs(" |\n", out);
    }
}

static void print(FILE *out)
{
    (void)fputs(
        "# Events of the log\n"
        "\n"
        "Every line of the worker's log has one of these ids in its field `event`. They are stable: alert on them. The level is\n"
        "the one it is logged at; `fila-worker ctl loglevel debug` shows all of them until the next reload. Lines that say the\n"
        "same within a second are written once and counted (`repeated 17 times: ...`, field `repeated`). What belongs to a\n"
        "message has `queue`, `message_id`, `attempt`, and `trace_id` when the message has a W3C `traceparent` header.\n"
        "\n"
        "The events stand by what they ask of you: [act now](#act-now), [look at it today](#look-at-it-today),\n"
        "[fine when rare](#fine-when-rare), [for the record](#for-the-record). The operator's guide has them\n"
        "[by what to do](guide/watch.md#events-by-action). This page is made from `workers/log/events.h` by `ninja events`.\n",
        out);
    for (int g = 0; g < GROUP_COUNT; g++) {
        print_group(out, (enum group)g);
    }
}

static int complain(const char *id, const char *what)
{
    (void)fprintf(stderr, "events.h: %s %s\n", id, what);
    return 1;
}

static bool is_sentence(const char *text)
{
    size_t len = strlen(text);
    return len > 4 && (isupper((unsigned char)text[0]) || text[0] == '`') && text[len - 1] == '.';
}

/* What a person who is woken at night must be able to rely on. */
static int check(enum fw_event event)
{
    const char *id = fw_event_id(event);
    int bad = 0;
    if (strspn(id, "ABCDEFGHIJKLMNOPQRSTUVWXYZ-") != strlen(id) || id[0] == '-') {
        bad |= complain(id, "is not written in capitals and hyphens");
    }
    if (!is_sentence(fw_event_meaning(event))) {
        bad |= complain(id, "has no sentence as its meaning");
    }
    if (!is_sentence(fw_event_remedy(event))) {
        bad |= complain(id, "has no sentence as its remedy");
    }
    if (fw_event_level(event) == FW_LOG_ERROR && strcmp(fw_event_remedy(event), "None.") == 0) {
        bad |= complain(id, "is an error that nothing is to be done about");
    }
    for (int other = 0; other < (int)event; other++) {
        if (strcmp(fw_event_id((enum fw_event)other), id) == 0) {
            bad |= complain(id, "is there twice");
        }
    }
    return bad;
}

static int compare(const char *path, const char *text, size_t size)
{
    FILE *file = fopen(path, "r");
    char *found = malloc(size + 2);
    size_t len = file && found ? fread(found, 1, size + 1, file) : 0;
    bool same = file && found && len == size && memcmp(found, text, size) == 0;
    if (file) {
        (void)fclose(file);
    }
    free(found);
    if (!same) {
        (void)fprintf(stderr, "%s is not what events.h says: run `ninja events`\n", path);
    }
    return !same;
}

int main(int argc, char **argv)
{
    char *text = NULL;
    size_t size = 0;
    bool write = argc == 3 && strcmp(argv[1], "--write") == 0;
    FILE *out = open_memstream(&text, &size);
    if (!out || (argc != 2 && !write)) {
        (void)fprintf(stderr, "usage: %s [--write] FILE\n", argv[0]);
        return 2;
    }
    print(out);
    (void)fclose(out);
    int bad = 0;
    for (int i = 0; i < FW_EVENT_COUNT; i++) {
        bad |= check((enum fw_event)i);
    }
    if (write) {
        FILE *file = fopen(argv[2], "w");
        bad |= !file || fwrite(text, 1, size, file) != size || fclose(file) != 0;
    } else {
        bad |= compare(argv[1], text, size);
    }
    free(text);
    return bad;
}

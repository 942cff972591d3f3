/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "cli.h"
#include "connect.h"
#include "plugin/loader.h"
#include "template.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define NAME_MAX_LEN 48u

static const char HELP[] =
    "usage: fila-worker new plugin NAME [--lang c|c++]\n"
    "       fila-worker new config NAME\n"
    "\n"
    "  plugin   makes a folder NAME with a handler, a Makefile, tests and a config, and prints the one command that\n"
    "           builds, tests and runs it\n"
    "  config   makes NAME.cfg, for a worker of the queue NAME\n"
    "\n"
    "  --lang c|c++   of the handler (default c)\n"
    "\n"
    "Nothing that is there is overwritten. Exit status: 0; 64 usage; 66 a file cannot be made.\n";

enum {
    OPT_LANG = FW_OPT_FIRST_OWN
};

static const struct option OPTIONS[] = {
    {"lang", required_argument, NULL, OPT_LANG},
    {"help", no_argument, NULL, FW_OPT_HELP},
    {NULL, 0, NULL, 0},
};

/* What stands for each @WORD@ of a template. */
struct word {
    const char *word;
    const char *value;
};

struct words {
    char ident[NAME_MAX_LEN + 1];
    char source[NAME_MAX_LEN + 8];
    struct word items[7];
};

static struct words words_of(const char *name, bool cpp)
{
    struct words words;
    (void)snprintf(words.ident, sizeof words.ident, "%s", name);
    for (char *c = words.ident; *c; c++) {
        if (*c == '-') {
            *c = '_';
        }
    }
    (void)snprintf(words.source, sizeof words.source, "%s.%s", name, cpp ? "cc" : "c");
    return words;
}

static void point(struct words *words, const char *name, bool cpp)
{
    const struct word items[] = {
        {"@NAME@", name},
        {"@IDENT@", words->ident},
        {"@SOURCE@", words->source},
        {"@COMPILER@", cpp ? "CXX" : "CC"},
        {"@STANDARD@", cpp ? "c++17" : "c11"},
        {"@FLAGS@", cpp ? "CXXFLAGS" : "CFLAGS"},
        {NULL, NULL},
    };
    memcpy(words->items, items, sizeof items);
}

/* A line of the template with its words replaced; the licence line is ours, not the copy's. */
static void write_line(FILE *out, const char *line, size_t len, const struct words *words)
{
    static const char LICENCE[] = "SPDX-License-Identifier";
    if (memmem(line, len, LICENCE, sizeof LICENCE - 1)) {
        return;
    }
    while (len) {
        const struct word *word = words->items;
        size_t size = 1;
        while (word->word &&
               (len < strlen(word->word) || memcmp(line, word->word, strlen(word->word)) != 0)) {
            word++;
        }
        if (word->word) {
            size = strlen(word->word);
            (void)fputs(word->value, out);
        } else {
            (void)fputc(*line, out);
        }
        line += size;
        len -= size;
    }
}

static int make_file(const char *path, const char *template, mode_t mode, const struct words *words)
{
    const struct fw_template *t = FW_TEMPLATES;
    while (strcmp(t->name, template) != 0) {
        t++;
    }
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
    FILE *out = fd >= 0 ? fdopen(fd, "w") : NULL;
    if (!out) {
        return errno == EEXIST
                   ? fw_cli_fail("new", FW_EXIT_PLUGIN, "%s: it is there already", path)
                   : fw_cli_fail("new", FW_EXIT_PLUGIN, "%s: %s", path, strerrordesc_np(errno));
    }
    for (const char *line = t->text; *line;) {
        size_t len = strcspn(line, "\n");
        len += line[len] == '\n';
        write_line(out, line, len, words);
        line += len;
    }
    if (ferror(out) | fclose(out)) {
        return fw_cli_fail("new", FW_EXIT_PLUGIN, "%s: it cannot be written", path);
    }
    return FW_EXIT_OK;
}

static int make_folder(const char *name)
{
    char path[PATH_MAX];
    struct stat st;
    /* `make install` would take its place. */
    if (lstat(name, &st) && !fw_plugin_inspect(name, path, NULL)) {
        return fw_cli_usage(
            "new", "there is a handler \"%s\" already, %s: choose another name", name, path);
    }
    if (!mkdir(name, 0755)) {
        return FW_EXIT_OK;
    }
    return errno == EEXIST ? fw_cli_fail("new", FW_EXIT_PLUGIN, "%s: it is there already", name)
                           : fw_cli_fail(
                                 "new", FW_EXIT_PLUGIN, "%s: the folder cannot be made: %s", name,
                                 strerrordesc_np(errno));
}

static int new_plugin(const char *name, bool cpp)
{
    struct words words = words_of(name, cpp);
    char config[NAME_MAX_LEN + 8];

    const struct {
        const char *name;
        const char *template;
        mode_t mode;
    } files[] = {
        {words.source, cpp ? "plugin.cc" : "plugin.c", 0644},
        {"Makefile", "Makefile", 0644},
        {"test.sh", "test.sh", 0755},
        {config, "plugin.cfg", 0644},
    };

    (void)snprintf(config, sizeof config, "%s.cfg", name);
    point(&words, name, cpp);
    int status = make_folder(name);
    for (size_t i = 0; !status && i < sizeof files / sizeof files[0]; i++) {
        char path[PATH_MAX];
        (void)snprintf(path, sizeof path, "%s/%s", name, files[i].name);
        status = make_file(path, files[i].template, files[i].mode, &words);
        if (!status) {
            (void)printf("made %s\n", path);
        }
    }
    if (status) {
        return status;
    }
    (void)printf("\nBuild, test and run it with\n\n    make -C %s run\n", name);
    return FW_EXIT_OK;
}

static int new_config(const char *name)
{
    struct words words = words_of(name, false);
    char path[NAME_MAX_LEN + 8];
    point(&words, name, false);
    (void)snprintf(path, sizeof path, "%s.cfg", name);
    int status = make_file(path, "config.cfg", 0644, &words);
    if (!status) {
        (void)printf("made %s\n\nCheck it, with the broker running, and run it with\n\n", path);
        (void)printf(
            "    fila-worker check --config %s && fila-worker run --config %s\n", path, path);
    }
    return status;
}

static bool name_is_sound(const char *name)
{
    static const char LETTERS[] = "abcdefghijklmnopqrstuvwxyz0123456789_-";
    size_t len = strspn(name, LETTERS);
    return name[0] >= 'a' && name[0] <= 'z' && !name[len] && len <= NAME_MAX_LEN;
}

static int make(const char *what, const char *name, const char *language)
{
    bool config = !strcmp(what, "config");
    bool cpp = language && !strcmp(language, "c++");
    if (!config && strcmp(what, "plugin") != 0) {
        return fw_cli_usage("new", "it takes plugin or config, and a name: not \"%s\"", what);
    }
    if (language && (config || (!cpp && strcmp(language, "c") != 0))) {
        return fw_cli_usage("new", "--lang is c or c++, of a plugin");
    }
    if (!name_is_sound(name)) {
        return fw_cli_usage(
            "new",
            "a name is of a-z 0-9 _ -, begins with a letter, and has at most %u of them: "
            "\"%s\"",
            NAME_MAX_LEN, name);
    }
    return config ? new_config(name) : new_plugin(name, cpp);
}

int fw_cli_new(int argc, char **argv)
{
    const char *language = NULL;
    opterr = 0;
    /* NOLINTNEXTLINE(concurrency-mt-unsafe): main thread */
    for (int option; (option = getopt_long(argc, argv, ":", OPTIONS, NULL)) != -1;) {
        switch (option) {
        case OPT_LANG:
            language = optarg;
            break;
        case FW_OPT_HELP:
            (void)fputs(HELP, stdout);
            return fw_cli_finish("new", FW_EXIT_OK);
        default:
            return fw_cli_bad_option("new", option, argv);
        }
    }
    if (argc - optind != 2) {
        return fw_cli_usage("new", "it takes plugin or config, and a name");
    }
    return fw_cli_finish("new", make(argv[optind], argv[optind + 1], language));
}

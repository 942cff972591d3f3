/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "plugin/loader.h"

#include "executor/testlog.h"
#include "plugin/one.h"

#include <criterion/criterion.h>

#include <elf.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

TestSuite(loader, .timeout = 60);

static char folder[] = "/tmp/fila-loader-XXXXXX";

static void make_folder(void)
{
    cr_assert_not_null(mkdtemp(folder));
}

static void remove_folder(void)
{
    char command[128];
    (void)snprintf(command, sizeof command, "rm -rf '%s'", folder);
    cr_assert_eq(system(command), 0);
}

static void defect_path(const char *name, char *ret_path)
{
    (void)snprintf(ret_path, PATH_MAX, TEST_DEFECTS "/%s.so", name);
}

/* ---- Files that are refused before any of their code runs, and after ---- */

struct refusal {
    const char *defect;
    fila_status status;
    const char *text;
};

Test(loader, refuses_every_defect_by_field_and_value)
{
    static const struct refusal ROWS[] = {
        {"NO_SYMBOL", FILA_INVALID_ARGUMENT, "it exports no fila_plugin_descriptor"},
        {"WRONG_MAGIC", FILA_INVALID_ARGUMENT,
         "magic: it is 0x414c4947, this host's is 0x414c4946"},
        {"OTHER_MAJOR", FILA_INVALID_ARGUMENT, "abi_major: it is 2, this host's is 1"},
        {"NEWER_MINOR", FILA_INVALID_ARGUMENT, "abi_minor: it is 2, this host's is 1"},
        {"SMALL_SIZE", FILA_INVALID_ARGUMENT, "plugin_size: it is 88, this host's is 96"},
        {"BIG_SIZE", FILA_INVALID_ARGUMENT,
         "plugin_size: it is 104, the size of fila_plugin_descriptor is 96"},
        {"SMALL_OPTION", FILA_INVALID_ARGUMENT, "option_size: it is 40, this host's is 48"},
        {"BIG_SERVICES", FILA_INVALID_ARGUMENT, "services_size: it is 128, this host's is 120"},
        {"SHORT_OBJECT", FILA_INVALID_ARGUMENT,
         "fila_plugin_descriptor: its size is 4, the least is 32"},
        {"NOT_CONSTANT", FILA_INVALID_ARGUMENT, "fila_plugin_descriptor is not in the file's data"},
        {"NO_HANDLE", FILA_INVALID_ARGUMENT, "handle: it is NULL, and required"},
        {"NO_NAME", FILA_INVALID_ARGUMENT, "name: it is missing"},
        {"NULL_OPTIONS", FILA_INVALID_ARGUMENT, "options: it is NULL, and option_count is not 0"},
        {"BAD_DEFAULT", FILA_INVALID_ARGUMENT, "options: the default of answer: "},
        {"BAD_TYPE", FILA_INVALID_ARGUMENT,
         "options: the type of answer: it is 99, known are 1 to 7"},
        {"SAME_OPTION", FILA_INVALID_ARGUMENT, "options: answer is there twice"},
        {"UNDEFINED", FILA_INVALID_ARGUMENT, "fila_symbol_that_nobody_has"},
    };
    for (size_t i = 0; i < sizeof ROWS / sizeof ROWS[0]; i++) {
        char path[PATH_MAX];
        fila_error error = FILA_ERROR_INIT;
        struct fw_plugin_file *file = NULL;
        defect_path(ROWS[i].defect, path);
        cr_expect_eq(fw_plugin_open(path, &file, &error), ROWS[i].status, "%s", ROWS[i].defect);
        cr_expect_not_null(strstr(error.text, ROWS[i].text), "%s: %s", ROWS[i].defect, error.text);
        cr_expect_not_null(strstr(error.text, ROWS[i].defect), "it names the file: %s", error.text);
        cr_expect_null(file);
    }
}

/* A copy of the sound plugin of which `size` bytes are kept and one is changed. */
static void make_copy(const char *name, long keep, long at, int byte, char *ret_path)
{
    char from[PATH_MAX];
    static char bytes[1 << 22];
    defect_path("NONE", from);
    FILE *in = fopen(from, "rb");
    cr_assert_not_null(in);
    size_t len = fread(bytes, 1, sizeof bytes, in);
    (void)fclose(in);
    if (at >= 0) {
        bytes[at] = (char)byte;
    }
    len = keep >= 0 && (size_t)keep < len ? (size_t)keep : len;
    (void)snprintf(ret_path, PATH_MAX, "%s/%s.so", folder, name);
    FILE *out = fopen(ret_path, "wb");
    cr_assert_not_null(out);
    cr_assert_eq(fwrite(bytes, 1, len, out), len);
    (void)fclose(out);
}

Test(loader, refuses_foreign_and_broken_files, .init = make_folder, .fini = remove_folder)
{
    static const struct {
        const char *name;
        long keep;
        long at;
        int byte;
        const char *text;
    } ROWS[] = {
        {"empty", 0, -1, 0, "it is no shared object"},
        {"not-elf", -1, 0, '#', "it is no shared object"},
        {"class", -1, EI_CLASS, ELFCLASS32, "ELF class: it is 1, this host's is 2"},
        {"order", -1, EI_DATA, ELFDATA2MSB, "ELF byte order: it is 2, this host's is 1"},
        {"machine", -1, offsetof(Elf64_Ehdr, e_machine), EM_ARM, "ELF machine: it is 40,"},
        {"type", -1, offsetof(Elf64_Ehdr, e_type), ET_REL, "ELF type: it is 1,"},
        {"segments", -1, offsetof(Elf64_Ehdr, e_phentsize), 8, "ELF program headers: "},
        {"no-segments", -1, offsetof(Elf64_Ehdr, e_phnum), 0, "it has no dynamic section"},
        {"ident-only", 16, -1, 0, "it is cut short: 16 bytes"},
        {"header-only", 64, -1, 0, "it is cut short: 64 bytes"},
        {"first-page", 600, -1, 0, "cut short"},
    };

    for (size_t i = 0; i < sizeof ROWS / sizeof ROWS[0]; i++) {
        char path[PATH_MAX];
        fila_error error = FILA_ERROR_INIT;
        struct fw_plugin_file *file = NULL;
        make_copy(ROWS[i].name, ROWS[i].keep, ROWS[i].at, ROWS[i].byte, path);
        cr_expect_eq(fw_plugin_open(path, &file, &error), FILA_INVALID_ARGUMENT, "%s", path);
        cr_expect_not_null(strstr(error.text, ROWS[i].text), "%s: %s", ROWS[i].name, error.text);
        cr_expect_not_null(strstr(error.text, path), "%s", error.text);
    }
}

Test(loader, refuses_what_others_may_write, .init = make_folder, .fini = remove_folder)
{
    char path[PATH_MAX];
    fila_error error = FILA_ERROR_INIT;
    struct fw_plugin_file *file = NULL;
    make_copy("open", -1, -1, 0, path);
    cr_assert_eq(chmod(path, 0666), 0);
    cr_assert_eq(fw_plugin_open(path, &file, &error), FILA_DENIED);
    cr_assert_not_null(
        strstr(error.text, "the file may be written by everybody: its mode is 0666"), "%s",
        error.text);
    cr_assert_not_null(strstr(error.text, path));

    cr_assert_eq(chmod(path, 0644), 0);
    cr_assert_eq(chmod(folder, 0777), 0);
    cr_assert_eq(fw_plugin_open(path, &file, &error), FILA_DENIED);
    cr_assert_not_null(
        strstr(error.text, "the folder may be written by everybody: its mode is 0777"), "%s",
        error.text);

    cr_assert_eq(chmod(folder, 0755), 0);
    cr_assert_eq(fw_plugin_open(path, &file, &error), FILA_OK, "%s", error.text);
    fw_plugin_close(file);
}

Test(loader, refuses_what_is_no_file, .init = make_folder, .fini = remove_folder)
{
    char fifo[PATH_MAX];
    (void)snprintf(fifo, sizeof fifo, "%s/fifo.so", folder);
    cr_assert_eq(mkfifo(fifo, 0600), 0);
    const struct refusal rows[] = {
        {"./no/such.so", FILA_INVALID_ARGUMENT, "No such file"},
        {"no-such", FILA_INVALID_ARGUMENT, "there is no handler of the name \"no-such\""},
        {"defect.so", FILA_INVALID_ARGUMENT, "as in \"./defect.so\""},
        {"", FILA_INVALID_ARGUMENT, "there is no handler of the name \"\""},
        {"/usr/lib", FILA_INVALID_ARGUMENT, "it is no regular file"},
        {fifo, FILA_INVALID_ARGUMENT, "it is no regular file"},
        {"/proc/self/exe", FILA_INVALID_ARGUMENT, "it exports no fila_plugin_descriptor"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        fila_error error = FILA_ERROR_INIT;
        struct fw_plugin_file *file = NULL;
        cr_expect_eq(fw_plugin_open(rows[i].defect, &file, &error), rows[i].status);
        cr_expect_not_null(strstr(error.text, rows[i].text), "%s: %s", rows[i].defect, error.text);
    }
}

/* ---- What is found and accepted ---- */

Test(loader, opens_by_path)
{
    char path[PATH_MAX];
    fila_error error = FILA_ERROR_INIT;
    struct fw_plugin_file *file = NULL;
    defect_path("NONE", path);
    cr_assert_eq(fw_plugin_open(path, &file, &error), FILA_OK, "%s", error.text);
    const fila_plugin *table = fw_plugin_table(file);
    cr_expect_str_eq(table->name, "defect");
    cr_expect_str_eq(table->version, "1.0");
    cr_expect_str_eq(table->description, "", "missing texts are empty, not NULL");
    cr_expect_eq(table->option_count, 8);
    cr_expect_str_eq(table->options[1].name, "must");
    cr_expect_str_eq(fw_plugin_path(file), path);
    fw_plugin_close(file);
    fw_plugin_close(NULL);
}

static void note_found(void *user, const char *name, const char *path)
{
    char *all = user;
    (void)snprintf(all + strlen(all), 4096 - strlen(all), "%s=%s;", name, path);
}

Test(loader, searches_the_path_in_order, .init = make_folder, .fini = remove_folder)
{
    char here[PATH_MAX];
    char search[2 * PATH_MAX];
    char all[4096] = "";
    char wanted[PATH_MAX + 16];
    fila_error error = FILA_ERROR_INIT;
    struct fw_plugin_file *file = NULL;
    make_copy("NONE", -1, -1, 0, here);
    (void)snprintf(search, sizeof search, "/no/such/folder::%s:%s", folder, TEST_DEFECTS);
    cr_assert_eq(setenv("FILA_WORKER_PLUGIN_PATH", search, 1), 0);
    cr_assert_eq(fw_plugin_open("NONE", &file, &error), FILA_OK, "%s", error.text);
    cr_assert_str_eq(fw_plugin_path(file), here, "the first folder that has it");
    fw_plugin_close(file);

    cr_assert_eq(fw_plugin_open("NOONE", &file, &error), FILA_INVALID_ARGUMENT);
    cr_assert_not_null(strstr(error.text, "did you mean NONE?"), "%s", error.text);

    fw_plugin_each(note_found, all);
    (void)snprintf(wanted, sizeof wanted, "NONE=%s;", here);
    cr_assert_not_null(strstr(all, wanted), "%s", all);
    cr_assert_null(strstr(strstr(all, "NONE=") + 1, ";NONE="), "each name once: %s", all);
    cr_assert_not_null(strstr(all, "LATE=" TEST_DEFECTS "/LATE.so;"));
    cr_assert_lt(strstr(all, "LATE="), strstr(all, "NONE="), "sorted");
}

/* What a plugin of this ABI's first version looks like: nothing is read past its own sizes. */
Test(loader, takes_descriptors_that_are_compiled_in)
{
    struct fw_plugin_file *file = NULL;
    fila_error error = FILA_ERROR_INIT;
    fila_plugin mine = FILA_PLUGIN_INIT;
    cr_assert_eq(fw_plugin_adopt(&mine, &file, &error), FILA_INVALID_ARGUMENT);
    cr_assert_not_null(strstr(error.text, "name: "), "%s", error.text);
    mine.abi_major++;
    cr_assert_eq(fw_plugin_adopt(&mine, &file, &error), FILA_INVALID_ARGUMENT);
    cr_assert_not_null(strstr(error.text, "abi_major: it is 2"), "%s", error.text);
}

/* ---- Options ---- */

struct binding_row {
    one_options options;
    const char *problem; /* NULL: it is fine */
};

static const struct binding_row BINDINGS[] = {
    {{"must=x"}, NULL},
    {{"answer=1"}, "must: it is missing; the handler defect needs it (string: Must be there.)"},
    {{"must=x", "anwser=1"}, "anwser: the handler defect has no such option; did you mean answer?"},
    {{"must=x", "elephant=1"},
     "elephant: the handler defect has no such option; `fila-worker handlers defect` lists them"},
    {{"must=x", "must=y"}, "must: it is given twice"},
    {{"must:=5"}, "must: 5 is no string; write it in quotes: \"5\""},
    {{"must[]=a", "must[]=b"}, "must: it is a list; it takes one string"},
    {{"must=x", "answer:=3"}, NULL},
    {{"must=x", "answer=4"}, "answer: 4 is out of range; it takes 0 to 3"},
    {{"must=x", "answer=-1"}, "answer: -1 is out of range; it takes 0 to 3"},
    {{"must=x", "answer=one"}, "answer: "},
    {{"must=x", "answer=1.5"}, "answer: "},
    {{"must=x", "wait=99ms"}, "wait: 99ms is out of range; it takes 100ms to 1min"},
    {{"must=x", "wait=100ms"}, NULL},
    {{"must=x", "wait:=5"}, "wait: "},
    {{"must=x", "room=2MiB"}, "room: 2MiB is out of range; it takes 0B to 1MiB"},
    {{"must=x", "room:=1024"}, "room: "},
    {{"must=x", "share=1.01"}, "share: 1.01 is out of range; it takes 0"},
    {{"must=x", "flag:=true"}, NULL},
    {{"must=x", "flag=maybe"}, "flag: \"maybe\" is neither true nor false"},
    {{"must=x", "words=one"}, NULL},
    {{"must=x", "words[]"}, NULL},
};

Test(loader, binds_options)
{
    char path[PATH_MAX];
    defect_path("NONE", path);
    for (size_t i = 0; i < sizeof BINDINGS / sizeof BINDINGS[0]; i++) {
        fila_error error = FILA_ERROR_INIT;
        fila_status status = one_open(path, BINDINGS[i].options, &error);
        if (BINDINGS[i].problem) {
            cr_expect_eq(status, FILA_INVALID_ARGUMENT, "row %zu", i);
            cr_expect_eq(
                strncmp(error.text, BINDINGS[i].problem, strlen(BINDINGS[i].problem)), 0,
                "row %zu: %s", i, error.text);
        } else {
            cr_expect_eq(status, FILA_OK, "row %zu: %s", i, error.text);
            one_close();
        }
    }
}

Test(loader, values_and_defaults)
{
    static const char *const TWO[] = {"a", "b"};
    static const char *const WAIT[] = {"1.5s"};
    static const char *const MUST[] = {"here"};
    const struct fw_handler_option given[] = {
        {.name = "words", .values = TWO, .count = 2, .is_list = true, .is_string = true},
        {.name = "wait", .values = WAIT, .count = 1, .is_string = true},
        {.name = "must", .values = MUST, .count = 1, .is_string = true},
    };
    const struct fw_plugin_binding binding = {.options = given, .option_count = 3};
    struct fw_plugin_file *file = NULL;
    struct fw_plugin_problems problems;
    struct fw_plugin *plugin = NULL;
    fila_error error = FILA_ERROR_INIT;
    char path[PATH_MAX];
    defect_path("NONE", path);
    cr_assert_eq(fw_plugin_open(path, &file, &error), FILA_OK, "%s", error.text);
    cr_assert_eq(fw_plugin_bind(file, &binding, &plugin, &problems), FILA_OK);
    fw_plugin_close(file);
    const fila_option_value *values = plugin->values;
    cr_expect_eq(values[0].type, FILA_OPTION_INT);
    cr_expect_eq(values[0].integer, 0);
    cr_expect_str_eq(values[1].string, "here");
    cr_expect_eq(values[2].integer, 1500, "in milliseconds");
    cr_expect_eq(values[3].integer, 65536, "in bytes");
    cr_expect_eq(values[4].real, 0.5);
    cr_expect_eq(values[5].integer, 0);
    cr_expect_eq(values[6].count, 2);
    cr_expect_str_eq(values[6].strings[1], "b");
    cr_expect_eq(values[7].type, 0, "not set, and no default");
    fw_plugin_free(plugin);
    fw_plugin_problems_free(&problems);
}

Test(loader, reports_all_problems_with_their_place)
{
    static const char *const ONE[] = {"x"};
    const struct fw_handler_option given[] = {
        {.name = "wait", .values = ONE, .count = 1, .file = "a.cfg", .line = 7},
        {.name = "nonsense", .values = ONE, .count = 1, .file = "a.cfg", .line = 8},
    };
    const struct fw_plugin_binding binding = {.options = given, .option_count = 2};
    struct fw_plugin_file *file = NULL;
    struct fw_plugin_problems problems;
    struct fw_plugin *plugin = NULL;
    char path[PATH_MAX];
    defect_path("NONE", path);
    cr_assert_eq(fw_plugin_open(path, &file, NULL), FILA_OK);
    cr_assert_eq(fw_plugin_bind(file, &binding, &plugin, &problems), FILA_INVALID_ARGUMENT);
    cr_assert_eq(problems.count, 3);
    cr_expect_str_eq(problems.items[0].key, "wait");
    cr_expect_str_eq(problems.items[0].file, "a.cfg");
    cr_expect_eq(problems.items[0].line, 7);
    cr_expect_eq(problems.items[1].line, 8);
    cr_expect_str_eq(problems.items[2].key, "must");
    cr_expect_null(plugin);
    fw_plugin_problems_free(&problems);
    fw_plugin_close(file);
}

Test(loader, children_do_not_see_secrets)
{
    static const char *const MUST[] = {"x"};
    static const char *const SECRETS[] = {"DB_PASSWORD"};
    const struct fw_handler_option given[] = {
        {.name = "must", .values = MUST, .count = 1, .is_string = true}};
    const struct fw_plugin_binding binding = {given, 1, SECRETS, 1};
    struct fw_plugin_file *file = NULL;
    struct fw_plugin_problems problems;
    struct fw_plugin *plugin = NULL;
    char path[PATH_MAX];
    char all[65536] = "\n";
    (void)setenv("FILA_API_KEY", "1", 1);
    (void)setenv("FILA_API_KEY_FILE", "1", 1);
    (void)setenv("FILA_TLS_KEY", "1", 1);
    (void)setenv("FILA_TLS_CA", "1", 1);
    (void)setenv("DB_PASSWORD", "1", 1);
    (void)setenv("DB_PASSWORD_HINT", "1", 1);
    defect_path("NONE", path);
    cr_assert_eq(fw_plugin_open(path, &file, NULL), FILA_OK);
    cr_assert_eq(fw_plugin_bind(file, &binding, &plugin, &problems), FILA_OK);
    for (size_t i = 0; plugin->environment[i]; i++) {
        (void)snprintf(
            all + strlen(all), sizeof all - strlen(all), "%.200s\n", plugin->environment[i]);
    }
    cr_expect_null(strstr(all, "\nFILA_API_KEY"));
    cr_expect_null(strstr(all, "\nFILA_TLS_KEY="));
    cr_expect_null(strstr(all, "\nDB_PASSWORD="));
    cr_expect_not_null(strstr(all, "\nFILA_TLS_CA=1\n"));
    cr_expect_not_null(strstr(all, "\nDB_PASSWORD_HINT=1\n"));
    cr_expect_not_null(strstr(all, "\nPATH="));
    fw_plugin_free(plugin);
    fw_plugin_close(file);
}

/* ---- Defects that show when it runs ---- */

Test(loader, init_that_fails_is_its_own_reason)
{
    static const one_options OPTIONS = {"must=x"};
    char path[PATH_MAX];
    fila_error error = FILA_ERROR_INIT;
    defect_path("INIT_FAILS", path);
    cr_assert_eq(one_open(path, OPTIONS, &error), FILA_INVALID_ARGUMENT);
    cr_assert_str_eq(error.text, "handler defect: no connection to the moon");
}

Test(loader, defects_of_running)
{
    static const struct {
        const char *defect;
        int64_t timeout_ms;
        enum fw_verdict_kind kind;
        enum fw_cause cause;
        const char *reason;
        enum fw_event event;
    } ROWS[] = {
        {"NONE", 0, FW_ACK, FW_CAUSE_NONE, "", FW_EVENT_COUNT},
        {"RUBBISH", 0, FW_RETRY, FW_CAUSE_RETRY, "", FW_EVENT_HANDLER_VERDICT},
        {"NEVER", 100, FW_RETRY, FW_CAUSE_TIMEOUT, "no verdict by its deadline of ",
         FW_EVENT_COUNT},
        {"TWICE", 0, FW_REJECT, FW_CAUSE_REJECT, "the first", FW_EVENT_COUNT},
        {"LATE", 100, FW_RETRY, FW_CAUSE_TIMEOUT, "no verdict by its deadline of ", FW_EVENT_COUNT},
    };

    static const one_options OPTIONS = {"must=x"};
    for (size_t i = 0; i < sizeof ROWS / sizeof ROWS[0]; i++) {
        char path[PATH_MAX];
        fila_error error = FILA_ERROR_INIT;
        struct one_message message = {
            .payload = "hello", .payload_len = 5, .timeout_ms = ROWS[i].timeout_ms};
        int before = ROWS[i].event < FW_EVENT_COUNT ? testlog_count(ROWS[i].event) : 0;
        defect_path(ROWS[i].defect, path);
        cr_assert_eq(one_open(path, OPTIONS, &error), FILA_OK, "%s", error.text);
        struct one_result result = one_run(&message);
        cr_expect_eq(result.kind, ROWS[i].kind, "%s", ROWS[i].defect);
        cr_expect_eq(result.cause, ROWS[i].cause, "%s", ROWS[i].defect);
        cr_expect_eq(
            strncmp(result.reason, ROWS[i].reason, strlen(ROWS[i].reason)), 0, "%s: %s",
            ROWS[i].defect, result.reason);
        if (ROWS[i].event < FW_EVENT_COUNT) {
            cr_expect_eq(testlog_count(ROWS[i].event), before + 1, "%s", ROWS[i].defect);
        }
        one_close();
    }
}

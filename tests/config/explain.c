/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * `explain`: the golden text of a config that touches every kind of value, the same as JSON, and
 * the promise that what it prints reads back as the same config.
 */
#include "config/loader.h"
#include "rows.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include <jansson.h>

static const struct config_row ROW = {
    .text =
        "broker = ( \"grpc://a:1\", \"grpc://b:2\" );\n"
        "api_key = \"very-secret\";\n"
        "http = { listen = \"\"; };\n"
        "queues = ( {\n"
        "  queue = \"say \\\"x\\\" $$ \\\\ \\x07\";\n"
        "  concurrency = 2; rate = 0.5; retry = { max = \"90s\"; };\n"
        "  handler = { plugin = \"exec\"; command = [ \"a b\", \"$$1\" ]; shell = false; limit = 5;\n"
        "    password = \"also-secret\"; certificate = \"${file:cert}\"; };\n"
        "}, { queue = \"b\"; handler = { plugin = \"log\"; }; concurrency = 1; } );\n",
    .env = "FILA_WORKER_LOG_LEVEL=warn",
    .other = "cert",
    .other_text = "secret-too",
    .sets = {"max_running=7"},
};

static char *golden(void)
{
    size_t len = 0;
    char *text = calloc(1, 1 << 16);
    FILE *file = fopen(EXPLAIN_GOLDEN, "r");
    cr_assert(file != NULL && text != NULL);
    len = fread(text, 1, (1 << 16) - 1, file);
    cr_assert(gt(sz, len, 0));
    (void)fclose(file);
    return text;
}

static struct fw_config *load(const struct config_row *row)
{
    struct fw_config *config = NULL;
    char *said = config_row_load(row, &config);
    cr_assert(eq(str, said, ""));
    free(said);
    return config;
}

static char *explained(const struct fw_config *config, bool json)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    cr_assert(eq(int, fw_config_explain(out, config, json), 1));
    (void)fclose(out);
    return text;
}

Test(explain, golden)
{
    struct fw_config *config = load(&ROW);
    char *text = explained(config, false);
    char *expected = golden();
    cr_expect(eq(str, text, expected));
    cr_expect(strstr(text, "secret") == NULL);
    free(expected);
    free(text);
    fw_config_free(config);
}

Test(explain, json)
{
    struct fw_config *config = load(&ROW);
    char *text = explained(config, true);
    json_t *all = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
    cr_assert(all != NULL, "%s", text);
    json_t *c = json_object_get(all, "config");
    json_t *q = json_array_get(json_object_get(c, "queues"), 0);
    json_t *handler = json_object_get(q, "handler");
    json_t *origins = json_object_get(all, "origins");

    const struct {
        json_t *object;
        const char *key;
        const char *value;
    } rows[] = {
        {all, "file", "\"main.cfg\""},
        {c, "broker", "[\"grpc://a:1\", \"grpc://b:2\"]"},
        {c, "api_key", "\"***\""},
        {c, "max_running", "7"},
        {c, "http", "{\"listen\": \"\"}"},
        {c, "log", "{\"level\": \"warn\", \"format\": \"auto\"}"},
        {c, "drain_timeout", "\"25s\""},
        {q, "queue", "\"say \\\"x\\\" $ \\\\ \\u0007\""},
        {q, "rate", "0.5"},
        {q, "retry", "{\"attempts\": 5, \"first\": \"1s\", \"max\": \"90s\"}"},
        {handler, "command", "[\"a b\", \"$1\"]"},
        {handler, "shell", "false"},
        {handler, "limit", "5"},
        {handler, "password", "\"***\""},
        {handler, "certificate", "\"***\""},
        {origins, "api_key", "\"main.cfg:2\""},
        {origins, "log.level", "\"environment FILA_WORKER_LOG_LEVEL\""},
        {origins, "max_running", "\"command line --set max_running\""},
        {origins, "queues[0].retry.max", "\"main.cfg:6\""},
        {origins, "queues[0].handler.password", "\"main.cfg:8\""},
        {origins, "queues[1].retry.max", "\"default\""},
    };

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char *value = json_dumps(json_object_get(rows[i].object, rows[i].key), JSON_ENCODE_ANY);
        cr_expect(eq(str, value, (char *)rows[i].value), "%s", rows[i].key);
        free(value);
    }
    cr_expect(strstr(text, "secret") == NULL);
    json_decref(all);
    free(text);
    fw_config_free(config);
}

/* What is printed is a config file, and says the same. */
Test(explain, reads_back_the_same)
{
    struct fw_config *config = load(&ROW);
    char *once = explained(config, true);
    char *text = explained(config, false);
    struct fw_config *again = config_of(text);
    char *twice = explained(again, true);
    json_t *a = json_loads(once, 0, NULL);
    json_t *b = json_loads(twice, 0, NULL);
    json_t *x = json_object_get(a, "config");
    json_t *y = json_object_get(b, "config");
    cr_assert(eq(int, json_equal(x, y), 1), "%s\n%s", once, twice);
    json_decref(a);
    json_decref(b);
    free(once);
    free(twice);
    free(text);
    fw_config_free(config);
    fw_config_free(again);
}

Test(explain, what_the_handler_calls_a_secret_is_masked)
{
    struct fw_config *config = config_of(
        "queues = ( { queue = \"a\"; handler = { plugin = \"x\"; url = \"hidden\"; user = \"u\"; }; } );");
    fw_config_mask(config, 0, "url");
    fw_config_mask(config, 0, "not there");
    char *text = explained(config, false);
    cr_expect(strstr(text, "hidden") == NULL, "%s", text);
    cr_expect(strstr(text, "url = \"***\";") != NULL, "%s", text);
    cr_expect(strstr(text, "user = \"u\";") != NULL, "%s", text);
    free(text);
    fw_config_free(config);
}

Test(explain, an_unset_secret_looks_unset)
{
    struct fw_config *config =
        config_of("queues = ( { queue = \"a\"; handler = { plugin = \"log\"; }; } );");
    char *text = explained(config, false);
    cr_expect(strstr(text, "\napi_key = \"\";  ") != NULL, "%s", text);
    free(text);
    fw_config_free(config);
}

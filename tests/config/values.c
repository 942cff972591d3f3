/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * What a config is understood to say: values, defaults, overrides, includes, expansion, origins.
 */
#include "base/clock.h"
#include "config/cgroup.h"
#include "config/loader.h"
#include "rows.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include <jansson.h>
#include <sys/stat.h>
#include <unistd.h>

#define QUEUE(name, keys) "{ queue = \"" name "\"; handler = { plugin = \"log\"; }; " keys " }"
#define Q                 "queues = ( " QUEUE("a", "") " );\n"
#define MIB               (UINT64_C(1) << 20)

static struct fw_config *load(const struct config_row *row)
{
    struct fw_config *config = NULL;
    char *said = config_row_load(row, &config);
    cr_assert(eq(str, said, ""));
    free(said);
    return config;
}

Test(values, defaults)
{
    struct fw_config *c = config_of(Q);
    cr_expect(eq(sz, c->broker_count, 1));
    cr_expect(eq(str, (char *)c->brokers[0], "grpc://localhost:5555"));
    cr_expect(eq(str, (char *)c->api_key, ""));
    cr_expect(eq(str, (char *)c->tls_ca, ""));
    cr_expect(eq(str, (char *)c->state_dir, ""));
    cr_expect(eq(str, (char *)c->http_listen, "127.0.0.1:8080"));
    cr_expect(eq(u32, c->max_running, 0));
    cr_expect(eq(i64, c->drain_timeout, 25 * FILA_S));
    cr_expect(eq(int, c->log_level, FW_LOG_INFO));
    cr_expect(eq(int, c->log_format, FW_LOG_AUTO));
    cr_assert(eq(sz, c->queue_count, 1));
    const struct fw_queue_config *q = &c->queues[0];
    cr_expect(eq(str, (char *)q->queue, "a"));
    cr_expect(eq(str, (char *)q->file, "main.cfg"));
    cr_expect(eq(u32, q->line, 1));
    cr_expect(eq(str, (char *)q->handler_plugin, "log"));
    cr_expect(eq(sz, q->handler_option_count, 0));
    cr_expect(eq(int, q->isolation, FW_ISOLATION_THREADS));
    cr_expect(eq(i64, q->start_timeout, 60 * FILA_S));
    cr_expect(eq(u32, q->concurrency, fw_cpus_granted("")));
    cr_expect(eq(u32, q->streams, 1));
    cr_expect(eq(u32, q->prefetch, q->concurrency > 2 ? 2 * q->concurrency : 4));
    cr_expect(eq(u64, q->prefetch_bytes, 64 * MIB));
    cr_expect(eq(i64, q->visibility_timeout, 30 * FILA_S));
    cr_expect(eq(i64, q->timeout, 15 * FILA_S));
    cr_expect(eq(int, q->lane, FW_LANE_NONE));
    cr_expect(eq(dbl, q->rate, 0.0));
    cr_expect(eq(u32, q->retry_attempts, 5));
    cr_expect(eq(i64, q->retry_first, FILA_S));
    cr_expect(eq(i64, q->retry_max, 60 * FILA_S));
    cr_expect(eq(u32, q->max_deliveries, 0));
    cr_expect(eq(int, q->dead_letter, FW_DEAD_LETTER_WORKER));
    cr_expect(eq(str, (char *)q->dead_letter_queue, "a.dlq"));
    cr_expect(eq(int, q->surplus, FW_SURPLUS_NACK));
    cr_expect(eq(int, q->unsure_lease, FW_UNSURE_RUN));
    cr_expect(eq(u32, q->breaker_failures, 10));
    cr_expect(eq(i64, q->breaker_probe, 5 * FILA_S));
    cr_expect(eq(i64, q->breaker_max, 120 * FILA_S));
    cr_expect(eq(int, q->missing_queue, FW_MISSING_WAIT));
    cr_expect(eq(str, (char *)q->on_failure_script, ""));
    fw_config_free(c);
}

Test(values, every_key_of_a_queue)
{
    struct fw_config *c = config_of(
        "queues = ( { queue = \"a\"; handler = { plugin = \"./x.so\"; };\n"
        "isolation = \"threads\"; concurrency = 3; streams = 2; prefetch = 9; prefetch_bytes = "
        "\"1MiB\"; visibility_timeout = \"2min\"; timeout = \"20s\"; one_at_a_time_per = "
        "\"header:user id\"; rate = 2.5; retry = { attempts = 0; first = \"250ms\"; max = \"10s\"; "
        "}; max_deliveries = 7; dead_letter = \"broker\"; unsure_lease = \"skip\"; breaker = { "
        "failures = 3; probe = \"1s\"; max = \"4s\"; }; missing_queue = \"create\"; "
        "on_enqueue_script = \"e\"; on_failure_script = \"f\"; } );");
    const struct fw_queue_config *q = &c->queues[0];
    cr_expect(eq(int, q->isolation, FW_ISOLATION_THREADS));
    cr_expect(eq(u32, q->concurrency, 3));
    cr_expect(eq(u32, q->prefetch, 9));
    cr_expect(eq(u64, q->prefetch_bytes, MIB));
    cr_expect(eq(i64, q->timeout, 20 * FILA_S));
    cr_expect(eq(int, q->lane, FW_LANE_HEADER));
    cr_expect(eq(str, (char *)q->lane_header, "user id"));
    cr_expect(eq(dbl, q->rate, 2.5));
    cr_expect(eq(u32, q->retry_attempts, 0));
    cr_expect(eq(i64, q->retry_first, 250 * FILA_MS));
    cr_expect(eq(int, q->surplus, FW_SURPLUS_EXPIRE), "the default with the broker's script");
    cr_expect(eq(int, q->missing_queue, FW_MISSING_CREATE));
    cr_expect(eq(str, (char *)q->on_enqueue_script, "e"));
    const struct fw_delivery_config d = fw_config_delivery(q);
    cr_expect(eq(i64, d.visibility_timeout, 120 * FILA_S));
    cr_expect(eq(i64, d.timeout, 20 * FILA_S));
    cr_expect(eq(u32, d.concurrency, 3));
    cr_expect(eq(u32, d.streams, 2));
    cr_expect(eq(u32, d.prefetch, 9));
    cr_expect(eq(u64, d.prefetch_bytes, MIB));
    cr_expect(eq(u32, d.retry_attempts, 0));
    cr_expect(eq(i64, d.retry_first, 250 * FILA_MS));
    cr_expect(eq(i64, d.retry_max, 10 * FILA_S));
    cr_expect(eq(u32, d.max_deliveries, 7));
    cr_expect(eq(int, d.dead_letter, FW_DEAD_LETTER_BROKER));
    cr_expect(eq(int, d.surplus, FW_SURPLUS_EXPIRE));
    cr_expect(eq(int, d.unsure_lease, FW_UNSURE_SKIP));
    cr_expect(eq(int, d.lanes, 1));
    cr_expect(eq(dbl, d.rate, 2.5));
    cr_expect(eq(u32, d.breaker_failures, 3));
    cr_expect(eq(i64, d.breaker_probe, FILA_S));
    cr_expect(eq(i64, d.breaker_max, 4 * FILA_S));
    cr_expect(eq(u32, d.settle_in_flight, 256));
    fw_config_free(c);
}

Test(values, handler_options_stay_as_written)
{
    struct fw_config *c = config_of(
        "queues = ( { queue = \"a\"; handler = { plugin = \"x\"; text = \"a$$b\"; int = 010; hex = "
        "0x1F; big = 99999999999L; real = 0.10; yes = TRUE; list = ( \"a\", 5, 1.50, false ); words "
        "= [ \"a\", \"b c\" ]; none = ( ); api_token = \"s\"; }; } );");
    const char *const expected[][3] = {
        {"text", "a$b", "s"},
        {"int", "010", ""},
        {"hex", "0x1F", ""},
        {"big", "99999999999L", ""},
        {"real", "0.10", ""},
        {"yes", "true", ""},
        {"list", "a|5|1.50|false", "l"},
        {"words", "a|b c", "ls"},
        {"none", "", "ls"},
        {"api_token", "s", "sS"},
    };
    const struct fw_queue_config *q = &c->queues[0];
    cr_assert(eq(sz, q->handler_option_count, sizeof expected / sizeof *expected));
    for (size_t i = 0; i < q->handler_option_count; i++) {
        const struct fw_handler_option *o = &q->handler_options[i];
        char values[64] = "";
        for (size_t k = 0; k < o->count; k++) {
            (void)strcat(strcat(values, k ? "|" : ""), o->values[k]);
        }
        cr_expect(eq(str, (char *)o->name, (char *)expected[i][0]));
        cr_expect(eq(str, values, (char *)expected[i][1]));
        cr_expect(eq(int, o->is_list, strchr(expected[i][2], 'l') != NULL), "%s", o->name);
        cr_expect(eq(int, o->is_string, strchr(expected[i][2], 's') != NULL), "%s", o->name);
        cr_expect(eq(int, o->is_secret, strchr(expected[i][2], 'S') != NULL), "%s", o->name);
        cr_expect(eq(str, (char *)o->file, "main.cfg"));
        cr_expect(eq(u32, o->line, 1));
    }
    fw_config_free(c);
}

/* ---- Expansion ---- */

static const char *const EXPANSIONS[][2] = {
    {"${T_A}", "alpha"},
    {"<${T_A}${T_A}>", "<alphaalpha>"},
    {"${T_EMPTY}", ""},
    {"${T_EMPTY:-x}", "x"},
    {"${T_NONE:-}", ""},
    {"${T_NONE:-a b}", "a b"},
    {"${T_NONE:-${T_A}}", "alpha"},
    {"${T_NONE:-${T_NONE:-{}}}", "{}"},
    {"${T_A:?must be}", "alpha"},
    {"${T_A:-x}", "alpha"},
    {"$$", "$"},
    {"$${T_A}", "${T_A}"},
    {"$$${T_A}", "$alpha"},
    {"$T_A $", "$T_A $"},
    {"cost: 5$ each", "cost: 5$ each"},
    {"${T_DOLLAR}", "${T_A}"}, /* what comes in is not expanded again */
    {"${file:key}|${file:./key}", "line one\nline two|line one\nline two"},
};

Test(values, expansion)
{
    for (size_t i = 0; i < sizeof EXPANSIONS / sizeof *EXPANSIONS; i++) {
        char text[256];
        (void)snprintf(text, sizeof text, "state_dir = \"%s\";\n" Q, EXPANSIONS[i][0]);
        const struct config_row row = {
            .text = text,
            .env = "T_A=alpha\nT_EMPTY=\nT_DOLLAR=${T_A}",
            .other = "key",
            .other_text = "line one\nline two\r\n\n"};
        struct fw_config *c = load(&row);
        cr_expect(eq(str, (char *)c->state_dir, (char *)EXPANSIONS[i][1]), "%s", EXPANSIONS[i][0]);
        fw_config_free(c);
    }
}

static bool is_secret_variable(const struct fw_config *config, const char *name)
{
    size_t found = 0;
    for (size_t i = 0; i < config->secret_variable_count; i++) {
        found += strcmp(config->secret_variables[i], name) == 0;
    }
    cr_assert(le(sz, found, 1), "%s is listed once", name);
    return found == 1;
}

Test(values, variables_that_children_do_not_get)
{
    struct fw_config *c = load(&(struct config_row){
        .text = "api_key = \"${T_A}${T_B:-x}\"; state_dir = \"${HOME}/${T_A}\";\n" Q,
        .env = "T_A=alpha\nHOME=/h"});
    const char *const secret[] = {
        "T_A", "T_B", "FILA_API_KEY", "FILA_API_KEY_FILE", "FILA_WORKER_API_KEY", "FILA_TLS_KEY"};
    for (size_t i = 0; i < sizeof secret / sizeof *secret; i++) {
        cr_expect(eq(int, is_secret_variable(c, secret[i]), 1), "%s", secret[i]);
    }
    cr_expect(eq(int, is_secret_variable(c, "HOME"), 0));
    cr_expect(eq(int, is_secret_variable(c, "STATE_DIRECTORY"), 0));
    fw_config_free(c);
}

Test(values, state_directory_is_the_default_of_state_dir)
{
    struct fw_config *c = load(&(struct config_row){.text = Q, .env = "STATE_DIRECTORY=/s"});
    cr_expect(eq(str, (char *)c->state_dir, "/s"));
    fw_config_free(c);
    c = load(&(struct config_row){.text = "state_dir = \"/f\";\n" Q, .env = "STATE_DIRECTORY=/s"});
    cr_expect(eq(str, (char *)c->state_dir, "/f"));
    fw_config_free(c);
}

/* ---- Overrides ---- */

/* Every key outside of `queues` has its variable, and the variable goes before the file. */
Test(values, every_key_has_a_variable)
{
    static const struct {
        const char *path;
        const char *written;
        const char *read;
    } rows[] = {
        {"broker", " grpcs://x:1 ,grpcs://y:2", NULL},
        {"api_key", "k", "k"},
        {"tls.ca", "/ca", "/ca"},
        {"tls.cert", "/c", "/c"},
        {"tls.key", "/k", "/k"},
        {"max_running", "12", "12"},
        {"drain_timeout", "9s", "9s"},
        {"state_dir", "/s", "/s"},
        {"http.listen", "", ""},
        {"ctl.socket", "/run/w.ctl", "/run/w.ctl"},
        {"log.level", "error", "error"},
        {"log.format", "json", "json"},
    };

    size_t checked = 0;
    for (size_t i = 0; i < fw_root_table.count; i++) {
        const struct fw_property *row = &fw_root_table.rows[i];
        if (!fw_property_has_variable(row)) {
            continue;
        }
        size_t r = 0;
        while (strcmp(rows[r].path, row->path) != 0) {
            r++;
            cr_assert(lt(sz, r, sizeof rows / sizeof *rows), "%s has no row here", row->path);
        }
        char variable[64];
        char env[256];
        fw_property_variable(row, variable, sizeof variable);
        (void)snprintf(
            env, sizeof env,
            "%s=%s\nFILA_WORKER_TLS_KEY=/k\nFILA_WORKER_TLS_CERT=/c\n"
            "FILA_WORKER_BROKER=grpcs://a:1\n%s=%s",
            variable, rows[r].written, variable, rows[r].written);
        struct fw_config *c = load(&(struct config_row){
            .text =
                "broker = \"grpc://file:1\"; api_key = \"f\"; tls = { ca = \"f\"; cert = \"f\"; "
                "key = \"f\"; }; max_running = 1; drain_timeout = \"3s\"; state_dir = \"f\"; "
                "http = { listen = \":1\"; }; log = { level = \"warn\"; format = \"text\"; };\n" Q,
            .env = env});
        struct fw_arena arena = {NULL, false};
        if (rows[r].read) {
            cr_expect(
                eq(str, (char *)fw_value_text(&arena, row, c), (char *)rows[r].read), "%s",
                variable);
        } else {
            cr_assert(eq(sz, c->broker_count, 2));
            cr_expect(eq(str, (char *)c->brokers[0], "grpcs://x:1"));
            cr_expect(eq(str, (char *)c->brokers[1], "grpcs://y:2"));
        }
        fw_arena_free(&arena);
        fw_config_free(c);
        checked++;
    }
    cr_assert(eq(sz, checked, sizeof rows / sizeof *rows));
}

Test(values, order_of_overrides)
{
    struct fw_config *c = load(&(struct config_row){
        .text = "api_key = \"file\"; log = { level = \"warn\"; };\n" Q,
        .env = "FILA_API_KEY=short\nFILA_WORKER_LOG_LEVEL=error",
        .sets = {"log.level=debug"}});
    cr_expect(eq(str, (char *)c->api_key, "short"));
    cr_expect(eq(int, c->log_level, FW_LOG_DEBUG));
    fw_config_free(c);
    c = load(&(struct config_row){
        .text = Q, .env = "FILA_API_KEY=short\nFILA_WORKER_API_KEY=long\nFILA_API_KEY_FILE=/x"});
    cr_expect(eq(str, (char *)c->api_key, "long"));
    fw_config_free(c);
    c = load(&(struct config_row){
        .text = "api_key = \"file\";\n" Q,
        .env = "FILA_API_KEY_FILE=secret",
        .other = "secret",
        .other_text = "from-a-file\n"});
    cr_expect(eq(str, (char *)c->api_key, "from-a-file"));
    fw_config_free(c);
    c = load(
        &(struct config_row){.text = "max_running = 5;\n" Q, .env = "FILA_WORKER_MAX_RUNNING="});
    cr_expect(eq(u32, c->max_running, 5), "an empty variable is none, but for texts");
    fw_config_free(c);
}

Test(values, options_go_before_everything)
{
    struct fw_config *c = NULL;
    struct fw_diagnostics d;
    char path[] = "/tmp/fila-config-XXXXXX";
    int fd = mkstemp(path);
    cr_assert(eq(sz, (size_t)write(fd, Q, strlen(Q)), strlen(Q)));
    (void)close(fd);
    (void)setenv("FILA_WORKER_LOG_LEVEL", "error", 1);
    const char *const sets[] = {"log.level=warn", "broker=grpc://set:1"};
    const struct fw_config_overrides overrides = {
        .broker = "grpc://x:1,grpc://y:1",
        .log_level = "debug",
        .log_format = "json",
        .sets = sets,
        .set_count = 2};
    cr_assert(eq(int, fw_config_load(path, &overrides, &c, &d), 1));
    cr_expect(eq(sz, d.count, 0));
    cr_expect(eq(int, c->log_level, FW_LOG_DEBUG));
    cr_expect(eq(int, c->log_format, FW_LOG_JSON));
    cr_expect(eq(sz, c->broker_count, 2));
    fw_diagnostics_free(&d);
    fw_config_free(c);
    (void)unlink(path);
}

/* ---- Files ---- */

Test(values, included_queues_come_after_the_files_own)
{
    struct fw_config *c = load(&(struct config_row){
        .text = "include = [ \"conf*.cfg\", \"none*\" ];\n" Q,
        .other = "conf1.cfg",
        .other_text = "queues = ( " QUEUE("b", "") ",\n" QUEUE("c", "") " );"});
    cr_assert(eq(sz, c->queue_count, 3));
    cr_expect(eq(str, (char *)c->queues[0].queue, "a"));
    cr_expect(eq(str, (char *)c->queues[1].queue, "b"));
    cr_expect(eq(str, (char *)c->queues[2].queue, "c"));
    cr_expect(eq(str, (char *)c->queues[2].file, "conf1.cfg"));
    cr_expect(eq(u32, c->queues[2].line, 2));
    fw_config_free(c);
}

Test(values, a_missing_file)
{
    struct fw_config *c = NULL;
    struct fw_diagnostics d;
    cr_assert(eq(int, fw_config_load("/nowhere.cfg", NULL, &c, &d), 0));
    cr_assert(eq(sz, d.errors, 1));
    cr_expect(eq(str, (char *)d.items[0].file, "/nowhere.cfg"));
    cr_expect(eq(str, (char *)d.items[0].text, "cannot read it: No such file or directory"));
    fw_diagnostics_free(&d);
    cr_assert(eq(int, fw_config_load(NULL, NULL, &c, &d), 0));
    cr_expect(eq(
        str, (char *)d.items[0].text,
        "no config file: give --config FILE or $FILA_WORKER_CONFIG, or have ./fila-worker.cfg or "
        "/etc/fila-worker/fila-worker.cfg"));
    fw_diagnostics_free(&d);
    cr_assert(eq(int, fw_config_load("/", NULL, &c, &d), 0));
    cr_expect(eq(str, (char *)d.items[0].text, "cannot read it: it is a folder"));
    fw_diagnostics_free(&d);
}

Test(values, only_so_many_diagnostics_are_kept)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    for (int i = 0; i < 300; i++) {
        (void)fprintf(out, "k%d = 1;\n", i);
    }
    (void)fclose(out);
    char path[] = "/tmp/fila-config-XXXXXX";
    int fd = mkstemp(path);
    cr_assert(eq(sz, (size_t)write(fd, text, size), size));
    (void)close(fd);
    struct fw_config *c = NULL;
    struct fw_diagnostics d;
    cr_assert(eq(int, fw_config_load(path, NULL, &c, &d), 0));
    cr_expect(eq(sz, d.count, 200));
    cr_expect(eq(sz, d.errors, 300));
    cr_expect(eq(sz, d.left_out, 100));
    fw_diagnostics_free(&d);
    free(text);
    (void)unlink(path);
}

Test(values, where_the_file_is_looked_for)
{
    char folder[] = "/tmp/fila-config-XXXXXX";
    cr_assert(mkdtemp(folder) != NULL);
    cr_assert(eq(int, chdir(folder), 0));
    (void)unsetenv("FILA_WORKER_CONFIG");
    cr_expect(eq(str, (char *)fw_config_find("given"), "given"));
    const char *system = fw_config_find(NULL);
    cr_expect(system == NULL || strncmp(system, "/etc/", 5) == 0);
    FILE *file = fopen("fila-worker.cfg", "w");
    cr_assert(file != NULL);
    (void)fclose(file);
    cr_expect(eq(str, (char *)fw_config_find(NULL), "./fila-worker.cfg"));
    (void)setenv("FILA_WORKER_CONFIG", "/named", 1);
    cr_expect(eq(str, (char *)fw_config_find(NULL), "/named"));
    (void)setenv("FILA_WORKER_CONFIG", "", 1);
    cr_expect(eq(str, (char *)fw_config_find(NULL), "./fila-worker.cfg"));
    (void)unlink("fila-worker.cfg");
    (void)rmdir(folder);
}

/* Names go to the broker, which a longer one than 65,535 bytes stops altogether. */
Test(values, names_that_are_too_long)
{
    static char text[70000];
    static char name[65537];
    for (size_t len = 65531; len <= 65536; len++) {
        memset(name, 'n', len);
        name[len] = '\0';
        (void)snprintf(
            text, sizeof text, "queues = ( { queue = \"%s\"; handler = { plugin = \"log\"; }; } );",
            name);
        struct fw_config *config = NULL;
        const struct config_row row = {.text = text};
        char *said = config_row_load(&row, &config);
        const char *expected =
            len == 65536
                ? "1:22 error queues[0].queue: a name of 65536 bytes: the broker takes up to 65535\n"
            : len > 65531 ? "dead_letter_queue: a name of"
                          : "";
        cr_expect(
            strncmp(said, expected, strlen(expected)) == 0 || strstr(said, expected), "%zu: %s",
            len, said);
        cr_expect(eq(int, config != NULL, len == 65531));
        free(said);
        fw_config_free(config);
    }
}

/* ---- The reference config ---- */

/* config/fila-worker.cfg writes every key of the table, with its default, and nothing in it is
 * worth a warning. */
Test(values, the_reference_config_has_every_key_with_its_default)
{
    struct fw_config *written = NULL;
    struct fw_diagnostics d;
    (void)unsetenv("FILA_API_KEY");
    cr_assert(eq(int, fw_config_load(REFERENCE_CONFIG, NULL, &written, &d), 1));
    cr_expect(eq(sz, d.count, 0));
    fw_diagnostics_free(&d);
    struct fw_config *defaults = config_of(
        "queues = ( { queue = \"orders\"; handler = { plugin = \"exec\"; command = [ \"./handle.sh\" "
        "]; }; } );");
    struct fw_arena arena = {NULL, false};

    const struct {
        const struct fw_table *table;
        const void *written;
        const void *fallback;
        const struct fw_origin *origins;
    } parts[] = {
        {&fw_root_table, written, defaults,
         ((const struct fw_config_memory *)written->arena)->root_origins},
        {&fw_queue_table, written->queues, defaults->queues,
         ((const struct fw_config_memory *)written->arena)->queue_origins[0]}};

    for (size_t p = 0; p < 2; p++) {
        for (size_t i = 0; i < parts[p].table->count; i++) {
            const struct fw_property *row = &parts[p].table->rows[i];
            if (row->kind == FW_KIND_GROUPS || row->kind == FW_KIND_HANDLER ||
                row->kind == FW_KIND_FILES) {
                continue;
            }
            cr_expect(eq(int, parts[p].origins[i].kind, FW_ORIGIN_FILE), "%s", row->path);
            cr_expect(
                eq(str, (char *)fw_value_text(&arena, row, parts[p].written),
                   (char *)fw_value_text(&arena, row, parts[p].fallback)),
                "%s", row->path);
        }
    }
    cr_expect(eq(str, (char *)written->brokers[0], (char *)defaults->brokers[0]));
    fw_arena_free(&arena);
    fw_config_free(written);
    fw_config_free(defaults);
}

/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "table.h"

#include "base/clock.h"

#include <ctype.h>
#include <stdio.h>
#include <strings.h>

#define HOUR     (3600 * FILA_S)
#define KIB      INT64_C(1024)
#define GIB      (KIB * KIB * KIB)
#define MILLION  1000000
#define ROOT(m)  offsetof(struct fw_config, m)
#define QUEUE(m) offsetof(struct fw_queue_config, m)

const struct fw_choice fw_log_levels[] = {{"debug", FW_LOG_DEBUG}, {"info", FW_LOG_INFO},
                                          {"warn", FW_LOG_WARN},   {"error", FW_LOG_ERROR},
                                          {"off", FW_LOG_OFF},     {NULL, 0}};
const struct fw_choice fw_log_formats[] =
    {{"auto", FW_LOG_AUTO}, {"text", FW_LOG_TEXT}, {"json", FW_LOG_JSON}, {NULL, 0}};
static const struct fw_choice ISOLATIONS[] = {
    {"threads", FW_ISOLATION_THREADS},
    {"process", FW_ISOLATION_PROCESS},
    {NULL, 0}};
static const struct fw_choice DEAD_LETTERS[] = {
    {"worker", FW_DEAD_LETTER_WORKER},
    {"broker", FW_DEAD_LETTER_BROKER},
    {"drop", FW_DEAD_LETTER_DROP},
    {"none", FW_DEAD_LETTER_NONE},
    {NULL, 0}};
static const struct fw_choice SURPLUSES[] = {
    {"nack", FW_SURPLUS_NACK},
    {"expire", FW_SURPLUS_EXPIRE},
    {NULL, 0}};
static const struct fw_choice UNSURE_LEASES[] = {
    {"run", FW_UNSURE_RUN},
    {"skip", FW_UNSURE_SKIP},
    {NULL, 0}};
static const struct fw_choice MISSING_QUEUES[] = {
    {"wait", FW_MISSING_WAIT},
    {"fail", FW_MISSING_FAIL},
    {"create", FW_MISSING_CREATE},
    {NULL, 0}};

/* clang-format off */
static const struct fw_property ROOT_ROWS[] = {
    {.path = "broker", .kind = FW_KIND_URLS, .offset = ROOT(brokers),
     .count_offset = ROOT(broker_count), .fallback = "grpc://localhost:5555",
     .help = "Where the broker is: one URL, or a list of them, tried in turn. `grpc://HOST:PORT`, `grpcs://HOST:PORT` (TLS), "
             "`fila://`, `filas://` (newer servers), `embedded:` (a broker inside the worker, in memory), `embedded:FILE` "
             "(kept in that SQLite file); `?listen=HOST:PORT` lets others reach an embedded one, `?sync=normal` (or `&sync=normal`) "
             "trades the last moments before a loss of power for speed."},
    {.path = "api_key", .kind = FW_KIND_TEXT, .offset = ROOT(api_key), .fallback = "",
     .flags = FW_PROPERTY_SECRET, .variable = "FILA_API_KEY",
     .help = "The key that the broker knows this worker by; empty = none. `FILA_API_KEY_FILE` names a file that holds it."},
    {.path = "tls.ca", .kind = FW_KIND_TEXT, .offset = ROOT(tls_ca), .flags = FW_PROPERTY_PLANNED, .fallback = "", .variable = "FILA_TLS_CA",
     .help = "PEM file of the certificate authorities to trust; empty = the system's."},
    {.path = "tls.cert", .kind = FW_KIND_TEXT, .offset = ROOT(tls_cert), .flags = FW_PROPERTY_PLANNED, .fallback = "", .variable = "FILA_TLS_CERT",
     .help = "PEM file of this worker's own certificate; needs `tls.key`."},
    {.path = "tls.key", .kind = FW_KIND_TEXT, .offset = ROOT(tls_key), .flags = FW_PROPERTY_PLANNED, .fallback = "", .variable = "FILA_TLS_KEY",
     .help = "PEM file of the key to `tls.cert`."},
    {.path = "queues", .kind = FW_KIND_GROUPS, .flags = FW_PROPERTY_REQUIRED, .fallback = "",
     .help = "The list of queues to consume, one group each; their keys are in the next table."},
    {.path = "max_running", .kind = FW_KIND_COUNT, .offset = ROOT(max_running), .fallback = "0", .max = MILLION,
     .help = "Messages run at once over all queues, which take turns; 0 = no limit."},
    {.path = "drain_timeout", .kind = FW_KIND_DURATION, .offset = ROOT(drain_timeout), .fallback = "25s", .max = 24 * HOUR,
     .help = "How long a stop may take; the last 2 s of it are for returning what is left, so it must be over `2s`. "
             "Keep it under the time after which the supervisor kills (30 s in Kubernetes)."},
    {.path = "state_dir", .kind = FW_KIND_TEXT, .offset = ROOT(state_dir), .fallback = "${STATE_DIRECTORY:-}",
     .help = "Folder of the crash record and the journal, for this worker alone; empty = off. With it a killed worker does not "
             "run again what it had finished, as far as the journal had reached the disk (some ms), keeps count of tries, and finds "
             "out a message that crashes it."},
    {.path = "http.listen", .kind = FW_KIND_TEXT, .offset = ROOT(http_listen), .fallback = "127.0.0.1:8080",
     .help = "Address of the health, metrics and status pages: `HOST:PORT`, `[IPv6]:PORT` or `:PORT` (every address); port 0 = any free "
             "one; empty = off. A port in use does not stop the worker: it warns (HTTP-OFF) and tries again every 5 s."},
    {.path = "ctl.socket", .kind = FW_KIND_TEXT, .offset = ROOT(ctl_socket), .fallback = "auto",
     .help = "The unix socket that `fila-worker ctl` gives its orders to (mode 0600; this user and root may). `auto` = `fila-worker.ctl` in "
             "`$RUNTIME_DIRECTORY`, `state_dir` or `$XDG_RUNTIME_DIR`, the first that there is; empty = off."},
    {.path = "log.level", .kind = FW_KIND_CHOICE, .offset = ROOT(log_level), .fallback = "info", .choices = fw_log_levels,
     .help = "The least important lines that are written."},
    {.path = "log.format", .kind = FW_KIND_CHOICE, .offset = ROOT(log_format), .fallback = "auto", .choices = fw_log_formats,
     .help = "`auto` = text on a terminal, JSON otherwise."},
    {.path = "include", .kind = FW_KIND_FILES, .fallback = "",
     .help = "A pattern such as `conf.d/*.cfg`, or a list of them, relative to this file. Each match is a file of its own that "
             "holds `queues` only, which are appended."},
};

static const struct fw_property QUEUE_ROWS[] = {
    {.path = "queue", .kind = FW_KIND_TEXT, .offset = QUEUE(queue), .fallback = "",
     .flags = FW_PROPERTY_REQUIRED | FW_PROPERTY_NOT_EMPTY | FW_PROPERTY_NAME,
     .help = "Name of the queue to consume."},
    {.path = "handler", .kind = FW_KIND_HANDLER, .flags = FW_PROPERTY_REQUIRED, .fallback = "",
     .help = "What handles its messages: a group with `plugin` (the name of a shipped handler, see `fila-worker handlers`, or the "
             "path of a shared object) and the handler's own options."},
    {.path = "isolation", .kind = FW_KIND_CHOICE, .offset = QUEUE(isolation), .fallback = "threads", .choices = ISOLATIONS,
     .help = "Where handlers run: on `threads` of the worker, or each in a child `process`, whose crash or hang costs one message "
             "a try and nothing else."},
    {.path = "start_timeout", .kind = FW_KIND_DURATION, .offset = QUEUE(start_timeout), .fallback = "60s", .min = FILA_S, .max = HOUR,
     .help = "How long a handler may take to get ready; one that takes longer is refused, at start and at a reload."},
    {.path = "recycle_messages", .kind = FW_KIND_COUNT, .offset = QUEUE(recycle_messages), .fallback = "0", .max = INT64_C(1000) * MILLION,
     .help = "With `isolation = \"process\"`: a child is replaced by a new one after so many messages; 0 = never."},
    {.path = "recycle_rss", .kind = FW_KIND_SIZE, .offset = QUEUE(recycle_rss), .fallback = "0B", .max = 1024 * GIB,
     .help = "With `isolation = \"process\"`: a child whose resident memory is over this (it is looked at after each eighth "
             "message) is replaced by a new one; 0 = never."},
    {.path = "stuck_limit", .kind = FW_KIND_COUNT, .offset = QUEUE(stuck_limit), .fallback = "0", .max = 100000,
     .help = "With `isolation = \"threads\"`: how many handlers may be stuck, each with the thread it hangs in, before `/livez` says that a "
             "restart would help; 0 = the larger of 8 and 2 x `concurrency`."},
    {.path = "concurrency", .kind = FW_KIND_COUNT, .offset = QUEUE(concurrency), .fallback = "0", .max = 4096,
     .help = "Messages of this queue that run at once; 0 = the CPUs that the cgroup grants."},
    {.path = "streams", .kind = FW_KIND_COUNT, .offset = QUEUE(streams), .fallback = "1", .min = 1, .max = 64,
     .help = "Consume streams of this queue; each makes the broker lease a pipe of messages ahead."},
    {.path = "prefetch", .kind = FW_KIND_COUNT, .offset = QUEUE(prefetch), .fallback = "0", .max = 100000,
     .help = "Messages read and not yet handled; 0 = the larger of 4 and 2 x `concurrency`."},
    {.path = "prefetch_bytes", .kind = FW_KIND_SIZE, .offset = QUEUE(prefetch_bytes), .fallback = "64MiB",
     .min = 64 * KIB, .max = 64 * GIB, .help = "And their bytes."},
    {.path = "visibility_timeout", .kind = FW_KIND_DURATION, .offset = QUEUE(visibility_timeout), .fallback = "30s",
     .min = 100 * FILA_MS, .max = 168 * HOUR,
     .help = "Must equal the queue's own: the broker does not tell it. After it the broker gives the message to another."},
    {.path = "timeout", .kind = FW_KIND_DURATION, .offset = QUEUE(timeout), .fallback = "0s", .max = 168 * HOUR,
     .help = "Of one run of a handler; 0 = half of `visibility_timeout`."},
    {.path = "one_at_a_time_per", .kind = FW_KIND_LANE, .offset = QUEUE(lane), .count_offset = QUEUE(lane_header), .fallback = "none",
     .help = "`none`, `fairness_key` or `header:NAME`: messages of one key run one after the other, in this process."},
    {.path = "rate", .kind = FW_KIND_REAL, .offset = QUEUE(rate), .fallback = "0", .max = MILLION,
     .help = "Runs started a second; 0 = no limit."},
    {.path = "retry.attempts", .kind = FW_KIND_COUNT, .offset = QUEUE(retry_attempts), .fallback = "5", .max = MILLION,
     .help = "Failed runs until a message is a dead letter; 0 = for ever."},
    {.path = "retry.first", .kind = FW_KIND_DURATION, .offset = QUEUE(retry_first), .fallback = "1s", .min = FILA_MS, .max = HOUR,
     .help = "Pause after the first failed run; it doubles with each further one, and is cut by a random part of up to half."},
    {.path = "retry.max", .kind = FW_KIND_DURATION, .offset = QUEUE(retry_max), .fallback = "60s", .min = FILA_MS, .max = 24 * HOUR,
     .help = "The longest pause."},
    {.path = "max_deliveries", .kind = FW_KIND_COUNT, .offset = QUEUE(max_deliveries), .fallback = "0", .max = MILLION,
     .help = "A net over the broker's own attempt count, which also counts returns and expiries; 0 = off."},
    {.path = "dead_letter", .kind = FW_KIND_CHOICE, .offset = QUEUE(dead_letter), .fallback = "worker", .choices = DEAD_LETTERS,
     .help = "What becomes of a message that was rejected or has used up its attempts: the `worker` puts it into "
             "`dead_letter_queue`, the `broker`'s on_failure script decides, `drop` it, or `none`: retry for ever."},
    {.path = "dead_letter_queue", .kind = FW_KIND_TEXT, .offset = QUEUE(dead_letter_queue), .fallback = "the queue's name and `.dlq`",
     .flags = FW_PROPERTY_NAME | FW_PROPERTY_COMPUTED,
     .help = "Where `dead_letter = \"worker\"` puts dead letters."},
    {.path = "surplus", .kind = FW_KIND_CHOICE, .offset = QUEUE(surplus),
     .fallback = "`nack`; `expire` with `dead_letter = \"broker\"`", .choices = SURPLUSES, .flags = FW_PROPERTY_COMPUTED,
     .help = "What becomes of messages leased to this worker that it cannot start in time: given back at once, or left to expire."},
    {.path = "unsure_lease", .kind = FW_KIND_CHOICE, .offset = QUEUE(unsure_lease), .fallback = "run", .choices = UNSURE_LEASES,
     .help = "Whether to run a message whose lease may have ended already (it may then run twice)."},
    {.path = "breaker.failures", .kind = FW_KIND_COUNT, .offset = QUEUE(breaker_failures), .fallback = "10", .min = 1, .max = MILLION,
     .help = "Answers \"unavailable\" in a row that pause the queue."},
    {.path = "breaker.probe", .kind = FW_KIND_DURATION, .offset = QUEUE(breaker_probe), .fallback = "5s", .min = 100 * FILA_MS, .max = HOUR,
     .help = "Pause before the first trial; it doubles with each that fails."},
    {.path = "breaker.max", .kind = FW_KIND_DURATION, .offset = QUEUE(breaker_max), .fallback = "2min", .min = 100 * FILA_MS, .max = 24 * HOUR,
     .help = "The longest pause between trials."},
    {.path = "missing_queue", .kind = FW_KIND_CHOICE, .offset = QUEUE(missing_queue), .fallback = "wait", .choices = MISSING_QUEUES,
     .help = "When the broker has no such queue: `wait` for it, `fail` (stop the worker), or `create` it with `visibility_timeout` "
             "and the two scripts."},
    {.path = "on_enqueue_script", .kind = FW_KIND_TEXT, .offset = QUEUE(on_enqueue_script), .fallback = "",
     .help = "Lua text for `missing_queue = \"create\"`, e.g. `${file:on_enqueue.lua}`."},
    {.path = "on_failure_script", .kind = FW_KIND_TEXT, .offset = QUEUE(on_failure_script), .fallback = "",
     .help = "The same; decides with `dead_letter = \"broker\"`."},
};
/* clang-format on */

const struct fw_table fw_root_table = {ROOT_ROWS, sizeof ROOT_ROWS / sizeof *ROOT_ROWS};
const struct fw_table fw_queue_table = {QUEUE_ROWS, sizeof QUEUE_ROWS / sizeof *QUEUE_ROWS};

const struct fw_property *fw_table_find(const struct fw_table *table, const char *path)
{
    for (size_t i = 0; i < table->count; i++) {
        if (strcmp(table->rows[i].path, path) == 0) {
            return &table->rows[i];
        }
    }
    return NULL;
}

bool fw_table_is_group(const struct fw_table *table, const char *path)
{
    size_t len = strlen(path);
    for (size_t i = 0; i < table->count; i++) {
        if (strncmp(table->rows[i].path, path, len) == 0 && table->rows[i].path[len] == '.') {
            return true;
        }
    }
    return false;
}

unsigned fw_distance(const char *a, const char *b)
{
    unsigned rows[3][64] = {{0}};
    size_t m = strlen(a);
    size_t n = strlen(b);
    if (m > 63 || n > 63) {
        return 1000;
    }
    for (unsigned j = 0; j <= n; j++) {
        rows[0][j] = j;
    }
    for (size_t i = 1; i <= m; i++) {
        const unsigned *above = rows[(i - 1) % 3];
        const unsigned *two_above = rows[(i + 1) % 3];
        unsigned *row = rows[i % 3];
        row[0] = (unsigned)i;
        for (size_t j = 1; j <= n; j++) {
            int x = tolower((unsigned char)a[i - 1]);
            int y = tolower((unsigned char)b[j - 1]);
            unsigned best = above[j - 1] + (x != y);
            best = above[j] + 1 < best ? above[j] + 1 : best;
            best = row[j - 1] + 1 < best ? row[j - 1] + 1 : best;
            if (i > 1 && j > 1 && x == tolower((unsigned char)b[j - 2]) &&
                y == tolower((unsigned char)a[i - 2])) {
                best = two_above[j - 2] + 1 < best ? two_above[j - 2] + 1 : best;
            }
            row[j] = best;
        }
    }
    return rows[m % 3][n];
}

bool fw_is_near(const char *written, const char *known)
{
    size_t len = strlen(known);
    return fw_distance(written, known) <= (len < 4 ? 1 : len < 10 ? 2 : 3);
}

static const char *last_part(const char *path)
{
    const char *point = strrchr(path, '.');
    return point ? point + 1 : path;
}

static size_t group_len(const char *path)
{
    return (size_t)(last_part(path) - path);
}

/* How far `path` is from `known`; 1000 when it is no slip. The right name in another group is near.
 */
static unsigned slip(const char *path, const char *known)
{
    const char *name = last_part(known);
    bool same_group = group_len(known) == group_len(path) &&
                      strncmp(known, path, group_len(path)) == 0;
    bool same_name = strcasecmp(last_part(path), name) == 0;
    if (!same_name && !(same_group && fw_is_near(last_part(path), name)) &&
        !fw_is_near(path, known)) {
        return 1000;
    }
    return 2 * fw_distance(last_part(path), name) + (same_group ? 0 : same_name ? 1 : 2);
}

bool fw_table_nearest(const struct fw_table *table, const char *path, char ret_path[FW_PATH_SIZE])
{
    unsigned least = 1000;
    ret_path[0] = '\0';
    for (size_t i = 0; i < table->count; i++) {
        char known[FW_PATH_SIZE];
        (void)snprintf(known, sizeof known, "%s", table->rows[i].path);
        for (;;) {
            if (slip(path, known) < least) {
                least = slip(path, known);
                memcpy(ret_path, known, sizeof known);
            }
            char *point = strrchr(known, '.');
            if (!point) {
                break;
            }
            *point = '\0'; /* the group itself */
        }
    }
    return least < 1000;
}

bool fw_property_has_variable(const struct fw_property *property)
{
    return property->kind != FW_KIND_FILES && property->kind != FW_KIND_GROUPS &&
           property->kind != FW_KIND_HANDLER;
}

void fw_property_variable(const struct fw_property *property, char *ret_name, size_t size)
{
    int len = snprintf(ret_name, size, "FILA_WORKER_%s", property->path);
    for (int i = 0; i < len && (size_t)i < size - 1; i++) {
        if (ret_name[i] == '.') {
            ret_name[i] = '_';
        }
        ret_name[i] = (char)toupper((unsigned char)ret_name[i]);
    }
}

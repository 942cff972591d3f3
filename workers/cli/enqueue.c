/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "base/error.h"
#include "cli.h"
#include "connect.h"
#include "progress.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>

static const char HELP[] =
    "usage: fila-worker enqueue QUEUE [FILE|-]... [options]\n"
    "\n"
    "Puts messages into a queue: each FILE is one message (none, or -, is standard input); with --lines each line is one.\n"
    "Prints the id of each message that the broker confirmed.\n"
    "\n"
    "  --lines          one message a line\n"
    "  --header K=V     a header of every message; may be repeated\n"
    "  --file-header K  a header K with the file's name\n"
    "  --quiet          no ids, only the count\n"
    "  --json           one object: {\"queue\":...,\"ids\":[...],\"enqueued\":N,\"failed\":N}\n"
    "\n"
    "The first message that the broker refuses ends it: what comes after is not sent.\n" FW_CLI_TARGET_HELP;

enum {
    OPT_LINES = FW_OPT_FIRST_OWN,
    OPT_HEADER,
    OPT_FILE_HEADER,
    OPT_QUIET
};

static const struct option OPTIONS[] = {
    {"lines", no_argument, NULL, OPT_LINES},
    {"header", required_argument, NULL, OPT_HEADER},
    {"file-header", required_argument, NULL, OPT_FILE_HEADER},
    {"quiet", no_argument, NULL, OPT_QUIET},
    {"json", no_argument, NULL, FW_OPT_JSON},
    {"help", no_argument, NULL, FW_OPT_HELP},
    FW_CLI_TARGET_OPTIONS,
    {NULL, 0, NULL, 0},
};

enum {
    IN_FLIGHT = 64,
    TRIES = 20,
    /* A bound for memory: far above what any broker takes (4 MiB), which says so itself. */
    MESSAGE_MAX = 64 << 20
};

struct sender {
    fila_client *client;
    fila_view queue;
    fila_header *headers;
    size_t header_count; /* without the file's */
    const char *file_header;
    bool lines;
    bool quiet;
    bool json;
    struct fw_progress progress;

    struct {
        pthread_mutex_t lock;
        pthread_cond_t changed;
        unsigned in_flight;
        uint64_t confirmed;
        uint64_t failed;
        fila_error error; /* the first */
    } locked;
};

/* One message under way: kept until confirmed, because the broker may refuse it for now. */
struct parcel {
    struct sender *sender;
    unsigned tries;
    size_t len;
    char *file; /* NULL = none */
    char payload[];
};

static void start(struct parcel *parcel);

static void print_id(struct sender *s, fila_view id)
{
    if (s->json && !s->quiet) {
        (void)printf("%s\"%.*s\"", s->locked.confirmed > 1 ? "," : "", (int)id.len, id.data);
    } else if (!s->quiet) {
        (void)printf("%.*s\n", (int)id.len, id.data);
    }
}

static void finish(struct parcel *parcel, const fila_reply *reply, const fila_error *error)
{
    struct sender *s = parcel->sender;
    (void)pthread_mutex_lock(&s->locked.lock);
    s->locked.in_flight--;
    if (error) {
        if (s->locked.failed++ == 0) {
            s->locked.error = *error;
        }
    } else {
        s->locked.confirmed++;
        print_id(s, reply->as.enqueue.message_id);
    }
    (void)pthread_cond_signal(&s->locked.changed);
    (void)pthread_mutex_unlock(&s->locked.lock);
    free(parcel->file);
    free(parcel);
}

/* Refused unseen: the same again. Anything else of unknown outcome is not retried, it could put the
 * message in twice. */
static void on_reply(void *user, const fila_reply *reply, const fila_error *error)
{
    struct parcel *parcel = user;
    if (error && error->code == FILA_OVERLOADED && ++parcel->tries < TRIES) {
        struct timespec pause = {0, 5000000L * (long)parcel->tries};
        (void)nanosleep(
            &pause, NULL); /* holds up this client only, which is what the broker asks for */
        start(parcel);
        return;
    }
    finish(parcel, reply, error);
}

/* The headers of one message: all messages share theirs, but for the file's name. NULL without
 * memory. */
static fila_header *with_file(const struct sender *s, const char *file)
{
    fila_header *headers = malloc((s->header_count + 1) * sizeof *headers);
    if (headers) {
        memcpy(headers, s->headers, s->header_count * sizeof *headers);
        headers[s->header_count] = (fila_header){fila_view_of(s->file_header), fila_view_of(file)};
    }
    return headers;
}

static void start(struct parcel *parcel)
{
    struct sender *s = parcel->sender;
    bool named = s->file_header && parcel->file;
    fila_header *own = named ? with_file(s, parcel->file) : NULL;
    fila_error error = FILA_ERROR_INIT;
    fila_request request = {
        .call = FILA_CALL_ENQUEUE,
        .as.enqueue =
            {.queue = s->queue,
             .headers = own ? own : s->headers,
             .header_count = s->header_count + (own ? 1 : 0),
             .payload = {parcel->payload, parcel->len}},
    };
    if (named && !own) {
        error.code = FILA_NO_MEMORY;
        finish(parcel, NULL, &error);
    } else if (fila_call_start(s->client, &request, on_reply, parcel, &error) != FILA_OK) {
        finish(parcel, NULL, &error);
    }
    free(own);
}

static void no_memory(struct sender *s)
{
    (void)pthread_mutex_lock(&s->locked.lock);
    if (s->locked.failed++ == 0) {
        (void)fila_fail(&s->locked.error, FILA_NO_MEMORY, "no memory for the message");
    }
    (void)pthread_mutex_unlock(&s->locked.lock);
}

static bool send_one(struct sender *s, const char *payload, size_t len, const char *file)
{
    struct parcel *parcel = malloc(sizeof *parcel + len);
    char *name = parcel && file ? strdup(file) : NULL;
    if (!parcel || (file && !name)) {
        free(parcel);
        no_memory(s);
        return false;
    }
    *parcel = (struct parcel){.sender = s, .len = len, .file = name};
    if (len) {
        memcpy(parcel->payload, payload, len);
    }
    (void)pthread_mutex_lock(&s->locked.lock);
    while (s->locked.in_flight >= IN_FLIGHT) {
        (void)pthread_cond_wait(&s->locked.changed, &s->locked.lock);
    }
    s->locked.in_flight++;
    fw_progress_set(&s->progress, s->locked.confirmed);
    bool go_on = s->locked.failed == 0;
    (void)pthread_mutex_unlock(&s->locked.lock);
    start(parcel);
    return go_on;
}

static int unreadable(const char *path)
{
    return fw_cli_fail("enqueue", FW_EXIT_PLUGIN, "%s: cannot be read to its end", path);
}

struct line {
    char *data;
    size_t len;
    size_t size;
};

enum line_end {
    LINE_READ,
    LINE_NONE, /* the file's end, or an error of it */
    LINE_TOO_LONG,
    LINE_NO_MEMORY
};

static bool make_room(struct line *line)
{
    if (line->len < line->size) {
        return true;
    }
    size_t size = line->size ? line->size * 2 : 4096;
    char *more = realloc(line->data, size);
    if (more) {
        line->data = more;
        line->size = size;
    }
    return more != NULL;
}

/* The next line without its newline. */
static enum line_end read_line(FILE *in, struct line *line)
{
    int c = 0;
    line->len = 0;
    /* NOLINTNEXTLINE(concurrency-mt-unsafe): main thread */
    while ((c = getc_unlocked(in)) != EOF && c != '\n') {
        if (line->len == MESSAGE_MAX) {
            return LINE_TOO_LONG;
        }
        if (!make_room(line)) {
            return LINE_NO_MEMORY;
        }
        line->data[line->len++] = (char)c;
    }
    return c == EOF && (line->len == 0 || ferror(in)) ? LINE_NONE : LINE_READ;
}

static int send_lines(
    struct sender *s,
    FILE *in,
    const char *path,
    const char *name,
    bool *ret_go_on)
{
    struct line line = {NULL, 0, 0};
    uint64_t number = 1;
    enum line_end end = LINE_READ;
    bool ok = true;
    for (; ok && (end = read_line(in, &line)) == LINE_READ; number++) {
        ok = send_one(s, line.data, line.len, name);
    }
    free(line.data);
    *ret_go_on = ok && end == LINE_NONE;
    if (end == LINE_NO_MEMORY) {
        no_memory(s);
    }
    if (end == LINE_TOO_LONG) {
        return fw_cli_fail(
            "enqueue", FW_EXIT_FAILED,
            "%s, line %" PRIu64 ": more than %d MiB, no broker takes that as one message", path,
            number, MESSAGE_MAX >> 20);
    }
    return ferror(in) ? unreadable(path) : 0;
}

/* Nothing is sent of a file that cannot be read to its end: half a message is none. 0, or the exit
 * status. */
static int send_whole(
    struct sender *s,
    FILE *in,
    const char *path,
    const char *name,
    bool *ret_go_on)
{
    char *data = NULL;
    size_t used = 0;
    size_t size = 0;
    bool ok = true;
    for (size_t n = 1; n > 0 && ok && used <= MESSAGE_MAX;) {
        if (used == size) {
            size = size ? size * 2 : 65536;
            char *more = realloc(data, size);
            ok = more != NULL;
            data = ok ? more : data;
        }
        n = ok ? fread(data + used, 1, size - used, in) : 0;
        used += n;
    }
    int status = 0;
    if (!ok) {
        no_memory(s);
        *ret_go_on = false;
    } else if (ferror(in)) {
        status = unreadable(path);
    } else if (used > MESSAGE_MAX) {
        status = fw_cli_fail(
            "enqueue", FW_EXIT_FAILED, "%s: more than %d MiB, no broker takes that as one message",
            path, MESSAGE_MAX >> 20);
    } else {
        *ret_go_on = send_one(s, data, used, name);
    }
    free(data);
    return status;
}

/* 0, or the exit status when the file cannot be read. */
static int send_file(struct sender *s, const char *path, bool *ret_go_on)
{
    bool standard = strcmp(path, "-") == 0;
    FILE *in = standard ? stdin : fopen(path, "re");
    struct stat st;
    if (!in) {
        return fw_cli_fail("enqueue", FW_EXIT_PLUGIN, "%s: %s", path, strerrordesc_np(errno));
    }
    if (fstat(fileno(in), &st) == 0 && S_ISDIR(st.st_mode)) {
        (void)fclose(in);
        return fw_cli_fail("enqueue", FW_EXIT_PLUGIN, "%s is a folder", path);
    }
    const char *name = standard ? NULL : path;
    const char *what = standard ? "standard input" : path;
    int status = s->lines ? send_lines(s, in, what, name, ret_go_on)
                          : send_whole(s, in, what, name, ret_go_on);
    if (!standard) {
        (void)fclose(in);
    }
    return status;
}

static int add_header(struct sender *s, char *text)
{
    char *equals = strchr(text, '=');
    if (!equals || equals == text) {
        return fw_cli_usage("enqueue", "--header \"%s\" is not KEY=VALUE", text);
    }
    s->headers[s->header_count++] =
        (fila_header){{text, (size_t)(equals - text)}, fila_view_of(equals + 1)};
    return -1;
}

static int parse(int argc, char **argv, struct sender *s, struct fw_cli_target *target)
{
    int option = 0;
    opterr = 0;
    /* NOLINTNEXTLINE(concurrency-mt-unsafe): main thread */
    while ((option = getopt_long(argc, argv, ":", OPTIONS, NULL)) != -1) {
        int status = -1;
        if (fw_cli_target_option(target, option)) {
            continue;
        }
        switch (option) {
        case OPT_LINES:
            s->lines = true;
            break;
        case OPT_HEADER:
            status = add_header(s, optarg);
            break;
        case OPT_FILE_HEADER:
            s->file_header = optarg;
            break;
        case OPT_QUIET:
            s->quiet = true;
            break;
        case FW_OPT_JSON:
            s->json = true;
            break;
        case FW_OPT_HELP:
            (void)fputs(HELP, stdout);
            return fw_cli_finish("enqueue", FW_EXIT_OK);
        default:
            return fw_cli_bad_option("enqueue", option, argv);
        }
        if (status >= 0) {
            return status;
        }
    }
    return optind < argc ? -1 : fw_cli_usage("enqueue", "which queue?");
}

static int send_all(struct sender *s, char **files, int count)
{
    int status = 0;
    bool go_on = true;
    static char standard_input[] = "-";
    char *standard = standard_input;
    if (count == 0) {
        files = &standard;
        count = 1;
    }
    fw_progress_start(&s->progress, "enqueued", s->lines || count == 1 ? 0 : (uint64_t)count);
    if (s->json) {
        json_t *name = json_stringn(s->queue.data, s->queue.len);
        (void)printf("{\"queue\":");
        (void)json_dumpf(name ? name : json_null(), stdout, JSON_COMPACT | JSON_ENCODE_ANY);
        (void)printf(",\"ids\":[");
        json_decref(name);
    }
    for (int i = 0; i < count && go_on && status == 0; i++) {
        status = send_file(s, files[i], &go_on);
    }
    (void)pthread_mutex_lock(&s->locked.lock);
    while (s->locked.in_flight) {
        (void)pthread_cond_wait(&s->locked.changed, &s->locked.lock);
        fw_progress_set(&s->progress, s->locked.confirmed);
    }
    (void)pthread_mutex_unlock(&s->locked.lock);
    fw_progress_end(&s->progress);
    return status;
}

static int report(struct sender *s, int status)
{
    char what[256];
    if (s->json) {
        (void)printf(
            "],\"enqueued\":%" PRIu64 ",\"failed\":%" PRIu64 "}\n", s->locked.confirmed,
            s->locked.failed);
    } else if (s->quiet) {
        (void)printf("%" PRIu64 "\n", s->locked.confirmed);
    }
    if (status == 0 && s->locked.failed) {
        (void)snprintf(
            what, sizeof what, "queue \"%.*s\": %" PRIu64 " confirmed, %" PRIu64 " not; the first",
            (int)(s->queue.len < 100 ? s->queue.len : 100), s->queue.data, s->locked.confirmed,
            s->locked.failed);
        status = fw_cli_call_failed("enqueue", what, &s->locked.error);
    }
    return fw_cli_finish("enqueue", status);
}

static int enqueue(struct sender *s, int argc, char **argv)
{
    struct fw_cli_target target = {0};
    int status = parse(argc, argv, s, &target);
    if (status >= 0) {
        return status;
    }
    s->queue = fila_view_of(argv[optind]);
    status = fw_cli_connect("enqueue", &target, &s->client);
    if (status) {
        return status;
    }
    status = send_all(s, argv + optind + 1, argc - optind - 1);
    status = report(s, status);
    fila_client_free(s->client);
    return status;
}

int fw_cli_enqueue(int argc, char **argv)
{
    struct sender s = {.headers = malloc((size_t)argc * sizeof(fila_header))};
    if (!s.headers) {
        return fw_cli_fail("enqueue", FW_EXIT_INTERNAL, "no memory");
    }
    (void)pthread_mutex_init(&s.locked.lock, NULL);
    (void)pthread_cond_init(&s.locked.changed, NULL);
    int status = enqueue(&s, argc, argv);
    (void)pthread_cond_destroy(&s.locked.changed);
    (void)pthread_mutex_destroy(&s.locked.lock);
    free(s.headers);
    return status;
}

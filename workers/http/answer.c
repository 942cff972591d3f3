/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "answer.h"

#include "fila/plugin.h"
#include "page.h"
#include "status/health.h"
#include "status/metrics.h"
#include "status/status_json.h"

#include <stdio.h>
#include <stdlib.h>

#define PATIENCE      (2 * FILA_S)
#define LIVE_PATIENCE (5 * FILA_S)
#define TEXT          "text/plain; charset=utf-8"
#define JSON          "application/json"

/* A page's text, as it is made. */
struct text {
    char *data;
    size_t len;
    unsigned status;
};

struct row {
    const char *path;
    const char *type;
    void (*make)(struct fw_answers *answers, struct text *ret_text);
    bool lasting; /* made once */
};

/* ---- Pages ---- */

static void make_text(struct text *ret_text, bool good, struct fw_writer *out)
{
    ret_text->status = good ? MHD_HTTP_OK : MHD_HTTP_SERVICE_UNAVAILABLE;
    ret_text->data = fw_writer_take(out, &ret_text->len);
}

static struct fw_snapshot *take(struct fw_answers *answers, unsigned what, int64_t patience)
{
    return answers->source->take(answers->source->user, what, patience);
}

static void make_livez(struct fw_answers *answers, struct text *ret_text)
{
    struct fw_writer out = {0};
    struct fw_snapshot *s = take(answers, 0, LIVE_PATIENCE);
    bool supervisor = answers->source->beats(answers->source->user);
    make_text(ret_text, fw_health_live(s, supervisor, &out), &out);
    fw_snapshot_free(s);
}

static void make_readyz(struct fw_answers *answers, struct text *ret_text)
{
    struct fw_writer out = {0};
    struct fw_snapshot *s = take(answers, 0, PATIENCE);
    make_text(ret_text, fw_health_ready(s, &out), &out);
    fw_snapshot_free(s);
}

static void make_startupz(struct fw_answers *answers, struct text *ret_text)
{
    struct fw_writer out = {0};
    struct fw_snapshot *s = take(answers, 0, PATIENCE);
    make_text(ret_text, fw_health_startup(s, &out), &out);
    fw_snapshot_free(s);
}

static void no_answer(struct text *ret_text)
{
    struct fw_writer out = {0};
    fw_write_text(&out, "the I/O thread does not answer\n");
    make_text(ret_text, false, &out);
}

static void make_metrics(struct fw_answers *answers, struct text *ret_text)
{
    struct fw_process_figures process;
    struct fw_snapshot *s = take(answers, 0, PATIENCE);
    if (!s) {
        no_answer(ret_text);
        return;
    }
    fw_process_read(&process);
    ret_text->status = MHD_HTTP_OK;
    ret_text->data = fw_metrics_page(s, &process, &ret_text->len);
    fw_snapshot_free(s);
}

static void make_status(struct fw_answers *answers, struct text *ret_text)
{
    struct fw_snapshot *s = take(answers, FW_SNAPSHOT_LISTS, PATIENCE);
    if (!s) {
        no_answer(ret_text);
        return;
    }
    ret_text->status = MHD_HTTP_OK;
    ret_text->data = fw_status_page(s, &ret_text->len);
    fw_snapshot_free(s);
}

static void make_version(struct fw_answers *answers, struct text *ret_text)
{
    struct fw_writer out = {0};
    (void)answers;
    fw_write_text(&out, "{\"version\":\"" FILA_WORKER_VERSION "\",\"plugin_abi\":\"");
    fw_write_unsigned(&out, FILA_PLUGIN_ABI_MAJOR);
    fw_write(&out, ".", 1);
    fw_write_unsigned(&out, FILA_PLUGIN_ABI_MINOR);
    fw_write_text(&out, "\"}\n");
    make_text(ret_text, true, &out);
}

static void make_people(struct fw_answers *answers, struct text *ret_text)
{
    struct fw_writer out = {0};
    (void)answers;
    fw_write(&out, (const char *)fw_page_data, fw_page_len);
    make_text(ret_text, true, &out);
}

static const struct row ROWS[FW_PAGE_COUNT] = {
    [FW_PAGE_LIVEZ] = {"/livez", TEXT, make_livez, false},
    [FW_PAGE_READYZ] = {"/readyz", TEXT, make_readyz, false},
    [FW_PAGE_STARTUPZ] = {"/startupz", TEXT, make_startupz, false},
    [FW_PAGE_METRICS] = {"/metrics", FW_METRICS_TYPE, make_metrics, false},
    [FW_PAGE_STATUS] = {"/status", JSON, make_status, false},
    [FW_PAGE_VERSION] = {"/version", JSON, make_version, true},
    [FW_PAGE_PEOPLE] = {"/", "text/html; charset=utf-8", make_people, true},
};

/* ---- Sending ---- */

/* What a response shares with all who read it. */
struct body {
    size_t *bytes;
    size_t len;
    char *data;
};

static void free_body(void *user)
{
    struct body *body = user;
    *body->bytes -= body->len;
    free(body->data);
    free(body);
}

static void add_headers(struct MHD_Response *response, const char *type, bool people)
{
    (void)MHD_add_response_header(response, "Content-Type", type);
    (void)MHD_add_response_header(response, "Cache-Control", "no-store");
    (void)MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
    (void)MHD_add_response_header(response, "Referrer-Policy", "no-referrer");
    (void)MHD_add_response_header(response, "Cross-Origin-Resource-Policy", "same-origin");
    (void)MHD_add_response_header(
        response, "Content-Security-Policy",
        people ? fw_page_policy : "default-src 'none'; frame-ancestors 'none'");
}

/* Takes text->data. NULL without memory. */
static struct MHD_Response *new_response(
    struct fw_answers *answers,
    const struct text *text,
    const struct row *row)
{
    struct body *body = malloc(sizeof *body);
    if (!body) {
        free(text->data);
        return NULL;
    }
    *body = (struct body){&answers->bytes, text->len, text->data};
    struct MHD_Response *response = MHD_create_response_from_buffer_with_free_callback_cls(
        text->len, text->data, free_body, body);
    if (!response) {
        free(body->data);
        free(body);
        return NULL;
    }
    answers->bytes += text->len;
    add_headers(response, row->type, row == &ROWS[FW_PAGE_PEOPLE]);
    return response;
}

static bool is_fresh(const struct fw_answers *answers, const struct row *row, int64_t now)
{
    const struct fw_kept_page *page = &answers->pages[row - ROWS];
    return page->response &&
           (row->lasting || now - page->made_at < FW_PAGE_FRESH || answers->bytes > FW_PAGES_BYTES);
}

static void refresh(struct fw_answers *answers, const struct row *row)
{
    struct fw_kept_page *page = &answers->pages[row - ROWS];
    struct text text = {0};
    int64_t now = fila_now();
    if (is_fresh(answers, row, now)) {
        return;
    }
    row->make(answers, &text);
    struct MHD_Response *response = text.data ? new_response(answers, &text, row) : NULL;
    if (response) {
        if (page->response) {
            MHD_destroy_response(page->response);
        }
        *page = (struct fw_kept_page){response, text.status, fila_now()};
    }
}

static enum MHD_Result refuse(
    struct MHD_Connection *connection,
    unsigned status,
    const char *text,
    const char *allow)
{
    char copy[256];
    int len = snprintf(copy, sizeof copy, "%s", text);
    struct MHD_Response *response =
        MHD_create_response_from_buffer((size_t)len, copy, MHD_RESPMEM_MUST_COPY);
    if (!response) {
        return MHD_NO;
    }
    add_headers(response, TEXT, false);
    if (allow) {
        (void)MHD_add_response_header(response, "Allow", allow);
    }
    enum MHD_Result result = MHD_queue_response(connection, status, response);
    MHD_destroy_response(response);
    return result;
}

/* "localhost", or an address in digits: what no web site can make a browser send here. */
static bool is_own_name(const char *host)
{
    size_t len = strcspn(host, ":");
    if (host[0] == '[') {
        return true;
    }
    return (len == 9 && strncasecmp(host, "localhost", len) == 0) ||
           (len > 0 && strspn(host, "0123456789.") == len);
}

enum MHD_Result fw_answer(
    struct fw_answers *answers,
    struct MHD_Connection *connection,
    const char *path,
    const char *method)
{
    const char *host = MHD_lookup_connection_value(connection, MHD_HEADER_KIND, "Host");
    if (strcmp(method, "GET") != 0 && strcmp(method, "HEAD") != 0) {
        return refuse(
            connection, MHD_HTTP_METHOD_NOT_ALLOWED,
            "only GET and HEAD: nothing can be changed here\n", "GET, HEAD");
    }
    if (answers->loopback && host && !is_own_name(host)) {
        return refuse(
            connection, MHD_HTTP_MISDIRECTED_REQUEST,
            "this port listens on the loopback address and answers to localhost only\n", NULL);
    }
    for (size_t i = 0; i < FW_PAGE_COUNT; i++) {
        if (strcmp(path, ROWS[i].path) == 0) {
            refresh(answers, &ROWS[i]);
            const struct fw_kept_page *page = &answers->pages[i];
            return page->response ? MHD_queue_response(connection, page->status, page->response)
                                  : refuse(
                                        connection, MHD_HTTP_SERVICE_UNAVAILABLE,
                                        "no memory for the page\n", NULL);
        }
    }
    return refuse(
        connection, MHD_HTTP_NOT_FOUND,
        "not found; there are / /livez /readyz /startupz /metrics /status /version\n", NULL);
}

void fw_answers_fini(struct fw_answers *answers)
{
    for (size_t i = 0; i < FW_PAGE_COUNT; i++) {
        if (answers->pages[i].response) {
            MHD_destroy_response(answers->pages[i].response);
        }
    }
}

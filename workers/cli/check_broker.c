/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "base/clock.h"
#include "check.h"
#include "src/transport.h"

#define TIME_LIMIT (3 * FILA_S)

static bool is_embedded(const char *url)
{
    return strncmp(url, "embedded:", 9) == 0;
}

static fila_client_options options_of(const struct fw_config *config, const char *url)
{
    fila_client_options options = FILA_CLIENT_OPTIONS_INIT;
    options.url = url;
    options.api_key = *config->api_key ? config->api_key : NULL;
    options.tls_ca = *config->tls_ca ? config->tls_ca : NULL;
    options.tls_cert = *config->tls_cert ? config->tls_cert : NULL;
    options.tls_key = *config->tls_key ? config->tls_key : NULL;
    return options;
}

/* Opening a transport looks at the URL and the options, and connects to nothing. */
static bool is_usable(struct fw_findings *findings, const struct fw_config *config, const char *url)
{
    struct fila_transport *transport = NULL;
    fila_client_options options = options_of(config, url);
    fila_error error = FILA_ERROR_INIT;
    if (is_embedded(url)) {
        return true;
    }
    if (fila_transport_open(&options, &transport, &error) != FILA_OK) {
        fw_findings_add(findings, true, config->file, 0, "broker", "%s", error.text);
        return false;
    }
    transport->ops->free(transport);
    return true;
}

static bool has_queue(const fila_reply *reply, const char *name)
{
    size_t len = strlen(name);
    for (size_t i = 0; i < reply->as.list_queues.count; i++) {
        fila_view found = reply->as.list_queues.queues[i].name;
        if (found.len == len && memcmp(found.data, name, len) == 0) {
            return true;
        }
    }
    return false;
}

static void check_queue(
    struct fw_findings *findings,
    const struct fw_queue_config *queue,
    const fila_reply *reply)
{
    static const char *const consequences[] = {
        [FW_MISSING_WAIT] = "the worker will wait for it",
        [FW_MISSING_FAIL] = "the worker will not start"};
    const char *key = fw_arena_print(&findings->arena, "queue \"%s\"", queue->queue);
    bool is_there = has_queue(reply, queue->queue);
    if (!is_there && queue->missing_queue != FW_MISSING_CREATE) {
        fw_findings_add(
            findings, false, queue->file, queue->line, key,
            "the broker has no such queue: %s (create it: fila-worker queue create)",
            consequences[queue->missing_queue]);
    }
    if (is_there && queue->dead_letter == FW_DEAD_LETTER_WORKER &&
        !has_queue(reply, queue->dead_letter_queue)) {
        fw_findings_add(
            findings, false, queue->file, queue->line, key,
            "the broker has no dead-letter queue \"%s\": messages that never work cannot be put "
            "away (create it: fila-worker queue create)",
            queue->dead_letter_queue);
    }
}

/* Asks for the list of queues; what comes back says whether it is a broker, and ours. */
static fila_status ask_for_queues(
    const struct fw_config *config,
    const char *url,
    int64_t time,
    fila_reply **ret_reply,
    fila_error *reterr)
{
    const fila_request request = {
        .call = FILA_CALL_LIST_QUEUES, .timeout_ms = (uint32_t)(time / FILA_MS)};
    fila_client_options options = options_of(config, url);
    fila_client *client = NULL;
    fila_status status = fila_client_open(&options, &client, reterr);
    if (status == FILA_OK) {
        status = fila_call_wait(client, &request, ret_reply, reterr);
    }
    fila_client_free(client);
    return status;
}

static void report_failure(
    struct fw_findings *findings,
    const struct fw_config *config,
    const char *url,
    const fila_error *error)
{
    const char *text = error->code == FILA_UNAUTHENTICATED
                           ? "answers, but refuses the API key (api_key, FILA_API_KEY)"
                       : error->code == FILA_DENIED
                           ? "answers, but the API key may not list queues (admin on \"*\"), so "
                             "whether they exist is not known"
                       : error->code == FILA_BROKER_UNAVAILABLE || error->code == FILA_TIMEOUT
                           ? "does not answer"
                           : "answers, but not as a broker should";
    fw_findings_add(
        findings, false, config->file, 0, "broker", "%s %s: %s%s%s", url, text,
        fila_status_name(error->code), *error->text ? ": " : "", error->text);
}

static void ask(
    struct fw_findings *findings,
    const struct fw_config *config,
    const char *url,
    bool *queues_checked)
{
    fila_reply *reply = NULL;
    fila_error error = FILA_ERROR_INIT;
    int64_t time = TIME_LIMIT / (int64_t)config->broker_count;
    if (ask_for_queues(config, url, time, &reply, &error) != FILA_OK) {
        report_failure(findings, config, url, &error);
        return;
    }
    for (size_t i = 0; i < config->queue_count && !*queues_checked; i++) {
        check_queue(findings, &config->queues[i], reply);
    }
    *queues_checked = true;
    fila_reply_free(reply);
}

void fw_check_brokers(struct fw_findings *findings, const struct fw_config *config, bool do_ask)
{
    bool answered = false;
    bool is_asked = false;
    for (size_t i = 0; i < config->broker_count; i++) {
        const char *url = config->brokers[i];
        if (is_usable(findings, config, url) && do_ask && !is_embedded(url)) {
            is_asked = true;
            ask(findings, config, url, &answered);
        }
    }
    findings->broker_state = is_embedded(config->brokers[0]) ? "the broker is embedded"
                             : !is_asked                     ? "the broker was not asked"
                             : answered                      ? "the broker answers"
                                                             : "the broker could not be asked";
}

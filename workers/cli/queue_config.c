/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "cli.h"
#include "queue.h"

#include <stdio.h>

static int list(struct queue_verb *v)
{
    fila_reply *reply = NULL;
    fila_request request = {
        .call = FILA_CALL_LIST_CONFIG,
        .as.config = {.key = fila_view_of(v->word_count > 1 ? v->words[1] : "")}};
    int status = fw_cli_queue_call(v, &request, &reply);
    json_t *rows = status == 0 && v->json ? json_array() : NULL;
    if (status) {
        return status;
    }
    for (size_t i = 0; i < reply->as.list_config.count; i++) {
        const fila_config_entry *entry = &reply->as.list_config.entries[i];
        if (v->json) {
            (void)json_array_append_new(
                rows, json_pack(
                          "{s:o,s:o}", "key", fw_cli_queue_text(entry->key), "value",
                          fw_cli_queue_text(entry->value)));
            continue;
        }
        fw_cli_print_text(stdout, entry->key);
        (void)printf(" = ");
        fw_cli_print_text(stdout, entry->value);
        (void)putchar('\n');
    }
    fw_cli_queue_json(rows);
    fila_reply_free(reply);
    return 0;
}

/* A broker tells nothing apart from an empty value (contract A2): so that is what is not set. */
static int get(struct queue_verb *v)
{
    fila_reply *reply = NULL;
    fila_request request = {
        .call = FILA_CALL_GET_CONFIG, .as.config = {.key = fila_view_of(v->words[1])}};
    int status = fw_cli_queue_call(v, &request, &reply);
    fila_view value;
    if (status) {
        return status;
    }
    value = reply->as.get_config.value;
    if (v->json) {
        fw_cli_queue_json(json_pack(
            "{s:s,s:o}", "key", v->words[1], "value",
            value.len ? fw_cli_queue_text(value) : json_null()));
    } else if (value.len) {
        fw_cli_print_text(stdout, value);
        (void)putchar('\n');
    } else {
        (void)fprintf(stderr, "fila-worker queue: \"%s\" is not set\n", v->words[1]);
    }
    status = value.len ? 0 : FW_EXIT_FAILED;
    fila_reply_free(reply);
    return status;
}

static int set(struct queue_verb *v)
{
    fila_request request = {
        .call = FILA_CALL_SET_CONFIG,
        .as.config = {.key = fila_view_of(v->words[1]), .value = fila_view_of(v->words[2])}};
    int status = fw_cli_queue_call(v, &request, NULL);
    if (status == 0) {
        (void)(v->json ? printf("{\"set\":true}\n") : printf(*v->words[2] ? "set\n" : "removed\n"));
    }
    return status;
}

int fw_cli_queue_config(struct queue_verb *v)
{
    static const struct {
        const char *name;
        int (*run)(struct queue_verb *v);
        int least; /* words behind it */
        int most;
        const char *wants;
    } verbs[] = {
        {"ls", list, 0, 1, "a prefix, or nothing"},
        {"get", get, 1, 1, "a key"},
        {"set", set, 2, 2, "a key and a value"},
    };

    int count = v->word_count - 1;
    for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++) {
        if (strcmp(verbs[i].name, v->words[0]) != 0) {
            continue;
        }
        if (count < verbs[i].least || count > verbs[i].most) {
            return fw_cli_usage("queue", "config %s takes %s", verbs[i].name, verbs[i].wants);
        }
        return verbs[i].run(v);
    }
    return fw_cli_usage("queue", "config \"%s\" is none of: ls, get, set", v->words[0]);
}

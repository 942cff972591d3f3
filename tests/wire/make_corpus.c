/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * Writes the seed corpora of the fuzzers: make_corpus FOLDER makes FOLDER/corpus-{request,reply,
 * message}. Run by hand when the contract grows; the files are committed.
 */
#include "pairs.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

static FILE *create(const char *folder, const char *kind, const char *name)
{
    char path[4096];
    (void)snprintf(path, sizeof path, "%s/corpus-%s", folder, kind);
    (void)mkdir(path, 0777);
    (void)snprintf(path, sizeof path, "%s/corpus-%s/%s", folder, kind, name);
    FILE *file = fopen(path, "wb");
    if (!file) {
        perror(path);
        exit(1);
    }
    return file;
}

static void save(const char *folder, const char *kind, const struct pair *pair, fila_call call)
{
    FILE *file = create(folder, kind, pair->name);
    (void)fputc((int)call, file);
    (void)fwrite(pair->bytes, 1, pair->len, file);
    (void)fclose(file);
}

static void save_message(
    const char *folder,
    const char *name,
    const struct fila_message_fields *fields,
    unsigned times)
{
    size_t len = fila_delivery_head_size(fields);
    uint8_t *head = malloc(len);
    FILE *file = create(folder, "message", name);
    fila_delivery_head_write(fields, head);
    for (unsigned i = 0; i < times; i++) {
        (void)fwrite(head, 1, len, file);
        (void)fwrite(fields->payload.data, 1, fields->payload.len, file);
    }
    (void)fclose(file);
    free(head);
}

int main(int argc, char **argv)
{
    static struct pair pairs[PAIRS_MAX];
    static const fila_header headers[] = {{{"a", 1}, {"1", 1}}, {{"b", 1}, {NULL, 0}}};
    static const fila_view throttles[] = {{"api", 3}};
    const struct fila_message_fields small = {.id = {"i", 1}};
    const struct fila_message_fields full = {
        {"0190d2f0-7c1e-7a3b-8f00-0123456789ab", 36},
        {"orders", 6},
        {"default", 7},
        {"payload", 7},
        1,
        300,
        throttles,
        1,
        headers,
        2};
    if (argc != 2) {
        (void)fprintf(stderr, "usage: make_corpus FOLDER\n");
        return 64;
    }
    size_t count = make_request_pairs(pairs);
    for (size_t i = 0; i < count; i++) {
        save(argv[1], "request", &pairs[i], pairs[i].request.call);
    }
    free_pairs(pairs, count);
    count = make_reply_pairs(pairs);
    for (size_t i = 0; i < count; i++) {
        save(argv[1], "reply", &pairs[i], pairs[i].reply.call);
    }
    free_pairs(pairs, count);
    save_message(argv[1], "small", &small, 1);
    save_message(argv[1], "full", &full, 1);
    save_message(argv[1], "merged", &full, 2);
    return 0;
}

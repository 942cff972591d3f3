/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * Any bytes as a config file: it is loaded or refused with a reason; what the syntax check lets
 * through libconfig takes, in the same order; and what `explain` prints of a config reads back as
 * the same config.
 */
#include "config/config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void fail(const char *what, const char *text)
{
    (void)fprintf(stderr, "%s: %s\n", what, text);
    abort();
}

/* References to files and folders would leave the test's own ground. */
static bool stays_here(const uint8_t *data, size_t size)
{
    return !memmem(data, size, "include", 7) && !memmem(data, size, "file:", 5) &&
           !(memmem(data, size, "${", 2) && memmem(data, size, "\\", 1));
}

static void check_diagnostics(const struct fw_diagnostics *d, bool ok)
{
    static const char *const impossible[] = {
        "syntax error", "mismatched element type in array", "duplicate setting name",
        "libconfig reads this file in another way than it is written", "out of memory"};
    size_t errors = 0;
    for (size_t i = 0; i < d->count; i++) {
        errors += d->items[i].is_error;
        for (size_t k = 0; k < sizeof impossible / sizeof *impossible; k++) {
            if (strcmp(d->items[i].text, impossible[k]) == 0) {
                fail("the syntax check and libconfig differ", impossible[k]);
            }
        }
    }
    if (ok != (d->errors == 0) || (d->left_out == 0 && errors != d->errors)) {
        fail("errors", "wrong count");
    }
}

static struct fw_config *load(const void *data, size_t size)
{
    char path[32];
    struct fw_config *config = NULL;
    struct fw_diagnostics diagnostics;
    int fd = memfd_create("config", MFD_CLOEXEC);
    if (fd < 0 || write(fd, data, size) != (ssize_t)size) {
        fail("memfd", "cannot write");
    }
    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    bool ok = fw_config_load(path, NULL, &config, &diagnostics);
    check_diagnostics(&diagnostics, ok);
    for (size_t i = 0; i < diagnostics.count; i++) {
        FILE *nowhere = fopen("/dev/null", "w");
        if (nowhere) {
            fw_diagnostic_print(nowhere, &diagnostics.items[i]);
            (void)fclose(nowhere);
        }
    }
    fw_diagnostics_free(&diagnostics);
    (void)close(fd);
    return ok ? config : NULL;
}

static char *explained(const struct fw_config *config, bool json, size_t *ret_size)
{
    char *text = NULL;
    FILE *out = open_memstream(&text, ret_size);
    if (!out || !fw_config_explain(out, config, json) || fclose(out)) {
        fail("explain", "failed");
    }
    return text;
}

static bool has_secrets(const char *text)
{
    return strstr(text, "\"***\"") != NULL;
}

/* The origins, after the config itself, are bound to differ. */
static size_t without_origins(const char *json)
{
    const char *origins = strstr(json, "\n  \"origins\": {");
    return origins ? (size_t)(origins - json) : strlen(json);
}

static void check_round(const struct fw_config *config)
{
    size_t size = 0;
    size_t json_size = 0;
    char *text = explained(config, false, &size);
    char *json = explained(config, true, &json_size);
    struct fw_config *again = size < 1 << 20 ? load(text, size) : NULL;
    if (!again && size < 1 << 20) {
        fail("explain printed what does not load", text);
    }
    if (again && !has_secrets(text)) {
        char *json_again = explained(again, true, &json_size);
        const char *a = strstr(json, "\"config\"");
        const char *b = strstr(json_again, "\"config\"");
        size_t len = without_origins(a);
        if (len != without_origins(b) || memcmp(a, b, len) != 0) {
            fail("explain printed another config", text);
        }
        free(json_again);
    }
    fw_config_free(again);
    free(json);
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!stays_here(data, size)) {
        return 0;
    }
    struct fw_config *config = load(data, size);
    if (config) {
        check_round(config);
        fw_config_free(config);
    }
    return 0;
}

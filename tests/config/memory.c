/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * Loads one config again and again, each time with another allocation failing (the linker puts this
 * file's malloc and calloc before the code under test): each time it is refused for want of memory,
 * nothing crashes, nothing leaks; when none failed it loads.
 */
#include "config/config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);

static long countdown = -1;
static bool from_then_on;
static bool failed;

static bool fails(void)
{
    if (countdown < 0 || countdown-- > 0) {
        return false;
    }
    countdown = from_then_on ? 0 : -1;
    failed = true;
    return true;
}

void *__wrap_malloc(size_t size)
{
    return fails() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
    return fails() ? NULL : __real_calloc(count, size);
}

static void write_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");
    if (!file || fputs(text, file) < 0 || fclose(file)) {
        perror(path);
        exit(1);
    }
}

/* Loads with the nth allocation failing; false when none was left to fail. */
static bool load_once(const char *path, long nth, bool all_after, size_t expected_errors)
{
    struct fw_config *config = NULL;
    struct fw_diagnostics d;
    failed = false;
    from_then_on = all_after;
    countdown = nth;
    bool ok = fw_config_load(path, NULL, &config, &d);
    countdown = -1;
    bool no_memory = d.count == 1 && strcmp(d.items[0].text, "out of memory") == 0;
    if (failed ? ok || !no_memory : ok != (expected_errors == 0) || d.errors != expected_errors) {
        (void)printf(
            "%s, allocation %ld: loaded %d, %zu errors, \"%s\"\n", path, nth, ok, d.errors,
            d.count ? d.items[0].text : "");
        exit(1);
    }
    if (ok) {
        fw_config_free(config);
    }
    fw_diagnostics_free(&d);
    return failed;
}

int main(void)
{
    char folder[] = "/tmp/fila-memory-XXXXXX";
    long allocations = 0;
    if (!mkdtemp(folder) || chdir(folder)) {
        perror(folder);
        return 1;
    }
    FILE *file = fopen("good.cfg", "w");
    if (!file) {
        return 1;
    }
    (void)fputs(
        "broker = ( \"grpc://a:1\", \"grpc://${T_NONE:-b}:2\" );\ninclude = \"more*.cfg\";\n"
        "api_key = \"${file:more.cfg:-}\";\nqueues = ( ",
        file);
    for (int i = 0; i < 100; i++) {
        (void)fprintf(
            file,
            "%s{ queue = \"q%d\"; one_at_a_time_per = \"header:x\"; handler = { plugin = \"log\"; "
            "list = ( \"a\", 1, true ); text = \"${HOME}\"; }; }\n",
            i ? ", " : "", i);
    }
    (void)fputs(" );\n", file);
    (void)fclose(file);
    write_file("more1.cfg", "queues = ( { queue = \"z\"; handler = { plugin = \"log\"; }; } );");
    write_file("more.cfg:-", "key");
    write_file("bad.cfg", "x = 1; max_running = \"many\"; queues = ( { a = { }; }, 5 );\n");
    for (int all_after = 0; all_after < 2; all_after++) {
        for (allocations = 0; load_once("good.cfg", allocations, all_after, 0);) {
            allocations++;
        }
        for (long nth = 0; load_once("bad.cfg", nth, all_after, 6);) {
            nth++;
        }
    }
    (void)printf("%ld allocations, each failed once\n", allocations);
    return allocations < 20 || unlink("good.cfg") || unlink("bad.cfg") || unlink("more1.cfg") ||
           unlink("more.cfg:-") || chdir("/") || rmdir(folder);
}

/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "state.h"

#include "base/clock.h"

#include <dirent.h>
#include <fcntl.h>
#include <locale.h>
#include <malloc.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

uint64_t fw_verify_allocated(void)
{
    struct mallinfo2 info = mallinfo2();
    return (uint64_t)info.uordblks + info.hblkhd;
}

/* ---- Looking ---- */

static void read_status(const char *field, char *ret_text, size_t size)
{
    char line[256];
    size_t len = strlen(field);
    FILE *file = fopen("/proc/self/status", "re");
    *ret_text = '\0';
    while (file && fgets(line, sizeof line, file)) {
        if (!strncmp(line, field, len)) {
            line[strcspn(line, "\n")] = '\0';
            (void)snprintf(ret_text, size, "%s", line + len + strspn(line + len, ": \t"));
            break;
        }
    }
    if (file) {
        (void)fclose(file);
    }
}

static unsigned count_threads(void)
{
    char text[16];
    read_status("Threads", text, sizeof text);
    return (unsigned)strtoul(text, NULL, 10);
}

static uint64_t hash_environment(void)
{
    uint64_t hash = UINT64_C(1469598103934665603);
    for (char **variable = environ; variable && *variable; variable++) {
        for (const char *c = *variable; *c; c++) {
            hash = (hash ^ (unsigned char)*c) * UINT64_C(1099511628211);
        }
        hash = (hash ^ '\n') * UINT64_C(1099511628211);
    }
    return hash;
}

static void list_descriptors(struct fw_verify_state *state)
{
    DIR *folder = opendir("/proc/self/fd");
    state->descriptor_count = 0;
    for (struct dirent *entry;
         folder && (entry = readdir(folder));) { // NOLINT(concurrency-mt-unsafe)
        int fd = (int)strtol(entry->d_name, NULL, 10);
        if (*entry->d_name == '.' || fd == dirfd(folder) ||
            state->descriptor_count == FW_VERIFY_DESCRIPTORS) {
            continue;
        }
        char path[32];
        unsigned at = state->descriptor_count++;
        (void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        char *link = state->descriptors[at].link;
        ssize_t len = readlink(path, link, sizeof state->descriptors[at].link - 1);
        link[len > 0 ? len : 0] = '\0';
        state->descriptors[at].fd = fd;
    }
    if (folder) {
        (void)closedir(folder);
    }
}

void fw_verify_state_take(struct fw_verify_state *state)
{
    memset(state, 0, sizeof *state);
    (void)pthread_sigmask(SIG_BLOCK, NULL, &state->mask);
    for (int number = 1; number < FW_VERIFY_SIGNALS; number++) {
        (void)sigaction(number, NULL, &state->actions[number]);
    }
    const char *locale = setlocale(LC_ALL, NULL); // NOLINT(concurrency-mt-unsafe)
    (void)snprintf(state->locale, sizeof state->locale, "%s", locale ? locale : "");
    if (!getcwd(state->folder, sizeof state->folder)) {
        state->folder[0] = '\0';
    }
    read_status("Umask", state->umask, sizeof state->umask);
    state->environment = hash_environment();
    state->threads = count_threads();
    list_descriptors(state);
}

/* ---- Comparing ---- */

static const char *link_of(const struct fw_verify_state *state, int fd)
{
    for (unsigned i = 0; i < state->descriptor_count; i++) {
        if (state->descriptors[i].fd == fd) {
            return state->descriptors[i].link;
        }
    }
    return NULL;
}

static void compare_descriptors(
    struct fw_verify_page *page,
    const struct fw_verify_state *before,
    const struct fw_verify_state *now,
    const char *after)
{
    for (unsigned i = 0; i < before->descriptor_count; i++) {
        const char *link = link_of(now, before->descriptors[i].fd);
        if (!link || strcmp(link, before->descriptors[i].link) != 0) {
            fw_verify_note(
                page, FW_VERIFY_DESCRIPTOR_CLOSED, "after %s descriptor %d, the host's, is %s",
                after, before->descriptors[i].fd, link ? "another file" : "closed");
        }
    }
    unsigned more = 0;
    const char *example = "";
    for (unsigned i = 0; i < now->descriptor_count; i++) {
        if (!link_of(before, now->descriptors[i].fd)) {
            more++;
            example = now->descriptors[i].link;
        }
    }
    if (more) {
        fw_verify_note(
            page, FW_VERIFY_DESCRIPTOR_LEAK, "after %s %u more are open, e.g. %s", after, more,
            example);
    }
}

static bool same_mask(const sigset_t *a, const sigset_t *b)
{
    for (int number = 1; number < FW_VERIFY_SIGNALS; number++) {
        if (sigismember(a, number) != sigismember(b, number)) {
            return false;
        }
    }
    return true;
}

void fw_verify_thread_compare(struct fw_verify_page *page, const sigset_t *mask, const char *after)
{
    sigset_t now;
    (void)pthread_sigmask(SIG_BLOCK, NULL, &now);
    if (!same_mask(mask, &now)) {
        fw_verify_note(page, FW_VERIFY_SIGNAL_MASK, "%s leaves another one", after);
        (void)pthread_sigmask(SIG_SETMASK, mask, NULL);
    }
    if (uselocale((locale_t)0) != LC_GLOBAL_LOCALE) {
        fw_verify_note(page, FW_VERIFY_LOCALE, "%s leaves the thread in another one", after);
        (void)uselocale(LC_GLOBAL_LOCALE);
    }
}

static void compare_signals(
    struct fw_verify_page *page,
    const struct fw_verify_state *before,
    const struct fw_verify_state *now,
    const char *after)
{
    for (int number = 1; number < FW_VERIFY_SIGNALS; number++) {
        if (before->actions[number].sa_handler != now->actions[number].sa_handler) {
            const char *name = sigabbrev_np(number);
            fw_verify_note(
                page, FW_VERIFY_SIGNAL_HANDLER, "after %s that of SIG%s is another", after,
                name ? name : "RT");
        }
    }
}

static void compare_threads(
    struct fw_verify_page *page,
    const struct fw_verify_state *before,
    const char *after)
{
    int64_t until = fila_now() + FILA_S;
    unsigned now = count_threads();
    while (now > before->threads && fila_now() < until) {
        (void)poll(NULL, 0, 5);
        now = count_threads();
    }
    if (now > before->threads) {
        fw_verify_note(
            page, FW_VERIFY_THREADS_LEFT, "after %s %u more run", after, now - before->threads);
    }
}

void fw_verify_state_compare(
    struct fw_verify_page *page,
    const struct fw_verify_state *before,
    const char *after)
{
    struct fw_verify_state now;
    compare_threads(page, before, after);
    fw_verify_thread_compare(page, &before->mask, after);
    fw_verify_state_take(&now);
    compare_signals(page, before, &now, after);
    compare_descriptors(page, before, &now, after);
    if (strcmp(before->locale, now.locale) != 0) {
        fw_verify_note(
            page, FW_VERIFY_LOCALE, "after %s it is \"%s\", not \"%s\"", after, now.locale,
            before->locale);
    }
    if (strcmp(before->folder, now.folder) != 0) {
        fw_verify_note(
            page, FW_VERIFY_FOLDER, "after %s the working directory is %.300s", after, now.folder);
    }
    if (strcmp(before->umask, now.umask) != 0) {
        fw_verify_note(
            page, FW_VERIFY_UMASK, "after %s it is %s, not %s", after, now.umask, before->umask);
    }
    if (before->environment != now.environment) {
        fw_verify_note(page, FW_VERIFY_ENVIRONMENT, "after %s it is another", after);
    }
}

/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "cgroup.h"

#include <limits.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PATH_SIZE 4608
#define LINE_SIZE 128
#define NO_LIMIT  UINT64_MAX

/* What a control group may limit, and how its two versions say it. */
struct controller {
    const char *name;
    bool nearest; /* not the least of all groups above, but what the first says that says something
                   */
    uint64_t (*v1)(const char *folder);
    uint64_t (*v2)(const char *folder);
};

static uint32_t by_affinity(void)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    int count = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
    return count > 0 ? (uint32_t)count : 1;
}

static bool read_line(const char *folder, const char *name, char line[LINE_SIZE])
{
    char path[PATH_SIZE];
    (void)snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "re");
    bool ok = file && fgets(line, LINE_SIZE, file);
    if (file) {
        (void)fclose(file);
    }
    return ok;
}

/* CPUs of a quota, rounded up. */
static uint64_t of_quota(long long quota, long long period)
{
    if (quota <= 0 || period <= 0) {
        return NO_LIMIT;
    }
    return (uint64_t)(quota / period) + (quota % period != 0);
}

/* "max 100000" or "150000 100000". */
static uint64_t cpus_v2(const char *folder)
{
    char line[LINE_SIZE];
    char *end = NULL;
    if (!read_line(folder, "cpu.max", line) || strncmp(line, "max", 3) == 0) {
        return NO_LIMIT;
    }
    long long quota = strtoll(line, &end, 10);
    return of_quota(quota, strtoll(end, NULL, 10));
}

static uint64_t cpus_v1(const char *folder)
{
    char quota[LINE_SIZE];
    char period[LINE_SIZE];
    if (!read_line(folder, "cpu.cfs_quota_us", quota) ||
        !read_line(folder, "cpu.cfs_period_us", period)) {
        return NO_LIMIT;
    }
    return of_quota(strtoll(quota, NULL, 10), strtoll(period, NULL, 10));
}

static uint64_t memory_of(const char *folder, const char *name)
{
    char line[LINE_SIZE];
    if (!read_line(folder, name, line) || line[0] < '0' || line[0] > '9') {
        return NO_LIMIT; /* "max" */
    }
    return strtoull(line, NULL, 10);
}

/* "oom_kill 3", in one of several lines. */
static uint64_t kills_of(const char *folder, const char *name)
{
    char path[PATH_SIZE];
    char line[LINE_SIZE];
    uint64_t kills = NO_LIMIT;
    (void)snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "re");
    while (file && kills == NO_LIMIT && fgets(line, sizeof line, file)) {
        if (strncmp(line, "oom_kill ", 9) == 0) {
            kills = strtoull(line + 9, NULL, 10);
        }
    }
    if (file) {
        (void)fclose(file);
    }
    return kills;
}

static uint64_t kills_v2(const char *folder)
{
    return kills_of(folder, "memory.events");
}

static uint64_t kills_v1(const char *folder)
{
    return kills_of(folder, "memory.oom_control");
}

static uint64_t memory_v2(const char *folder)
{
    return memory_of(folder, "memory.max");
}

static uint64_t memory_v1(const char *folder)
{
    return memory_of(folder, "memory.limit_in_bytes");
}

/* The least limit of `group` and of all above it, up to the mount, or the nearest. In a container
 * without a cgroup namespace the path is the host's and nothing but the mount itself is there: it
 * counts then. */
static uint64_t walk(
    const char *mount,
    const char *group,
    uint64_t (*limit)(const char *folder),
    bool nearest)
{
    char folder[PATH_SIZE - 32];
    uint64_t least = NO_LIMIT;
    int len = snprintf(folder, sizeof folder, "%s%s", mount, group);
    if (len < 0 || (size_t)len >= sizeof folder) {
        return least;
    }
    size_t stop = strlen(mount);
    for (;;) {
        uint64_t here = limit(folder);
        least = here < least ? here : least;
        char *slash = strrchr(folder, '/');
        bool found = nearest && least != NO_LIMIT;
        if (found || !slash || (size_t)(slash - folder) < stop) {
            return least;
        }
        *slash = '\0';
    }
}

static bool has_word(const char *list, size_t len, const char *word)
{
    size_t word_len = strlen(word);
    for (size_t at = 0; at < len;) {
        size_t part = strcspn(list + at, ",:");
        if (part == word_len && strncmp(list + at, word, word_len) == 0) {
            return true;
        }
        at += part + 1;
    }
    return false;
}

/* A line of /proc/self/cgroup: "ID:CONTROLLERS:PATH"; version 2 has no controllers. */
static uint64_t by_line(const char *root, const char *line, const struct controller *controller)
{
    char mount[256];
    const char *controllers = strchr(line, ':');
    const char *group = controllers ? strchr(controllers + 1, ':') : NULL;
    if (!group) {
        return NO_LIMIT;
    }
    controllers++;
    size_t len = (size_t)(group - controllers);
    group++;
    if (len == 0) {
        (void)snprintf(mount, sizeof mount, "%s/sys/fs/cgroup", root);
        return walk(mount, group, controller->v2, controller->nearest);
    }
    if (!has_word(controllers, len, controller->name) || len > 100) {
        return NO_LIMIT;
    }
    (void)snprintf(mount, sizeof mount, "%s/sys/fs/cgroup/%.*s", root, (int)len, controllers);
    uint64_t joint = walk(mount, group, controller->v1, controller->nearest);
    (void)snprintf(mount, sizeof mount, "%s/sys/fs/cgroup/%s", root, controller->name);
    uint64_t single = walk(mount, group, controller->v1, controller->nearest);
    return joint < single ? joint : single;
}

static uint64_t granted(const char *root, const struct controller *controller)
{
    char path[256];
    char line[4200];
    uint64_t least = NO_LIMIT;
    (void)snprintf(path, sizeof path, "%s/proc/self/cgroup", root);
    FILE *file = fopen(path, "re");
    while (file && fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = '\0';
        uint64_t here = by_line(root, line, controller);
        least = here < least ? here : least;
    }
    if (file) {
        (void)fclose(file);
    }
    return least;
}

uint32_t fw_cpus_granted(const char *root)
{
    static const struct controller CPU = {"cpu", false, cpus_v1, cpus_v2};
    uint64_t quota = granted(root, &CPU);
    uint32_t least = by_affinity();
    least = quota < least ? (uint32_t)quota : least;
    return least > 0 ? least : 1;
}

uint64_t fw_memory_granted(const char *root)
{
    static const struct controller MEMORY = {"memory", false, memory_v1, memory_v2};
    uint64_t least = granted(root, &MEMORY);
    long pages = sysconf(_SC_PHYS_PAGES);
    long page = sysconf(_SC_PAGESIZE);
    uint64_t physical = pages > 0 && page > 0 ? (uint64_t)pages * (uint64_t)page : NO_LIMIT;
    return physical < least ? physical : least;
}

int64_t fw_oom_kills(const char *root)
{
    static const struct controller KILLS = {"memory", true, kills_v1, kills_v2};
    uint64_t kills = granted(root, &KILLS);
    return kills < INT64_MAX ? (int64_t)kills : -1;
}

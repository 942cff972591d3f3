/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "loader.h"

#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>

#define PATH_SIZE 4608

static uint32_t by_affinity(void)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    int count = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
    return count > 0 ? (uint32_t)count : 1;
}

static bool read_line(const char *path, char *line, size_t size)
{
    FILE *file = fopen(path, "re");
    bool ok = file && fgets(line, (int)size, file);
    if (file) {
        (void)fclose(file);
    }
    return ok;
}

/* CPUs of a quota, rounded up; UINT32_MAX = no limit. */
static uint32_t of_quota(long long quota, long long period)
{
    if (quota <= 0 || period <= 0) {
        return UINT32_MAX;
    }
    long long cpus = quota / period + (quota % period != 0);
    return cpus < UINT32_MAX ? (uint32_t)cpus : UINT32_MAX;
}

/* "max 100000" or "150000 100000". */
static uint32_t quota_v2(const char *folder)
{
    char path[PATH_SIZE];
    char line[128];
    char *end = NULL;
    (void)snprintf(path, sizeof path, "%s/cpu.max", folder);
    if (!read_line(path, line, sizeof line) || strncmp(line, "max", 3) == 0) {
        return UINT32_MAX;
    }
    long long quota = strtoll(line, &end, 10);
    return of_quota(quota, strtoll(end, NULL, 10));
}

static uint32_t quota_v1(const char *folder)
{
    char path[PATH_SIZE];
    char quota[64];
    char period[64];
    (void)snprintf(path, sizeof path, "%s/cpu.cfs_quota_us", folder);
    if (!read_line(path, quota, sizeof quota)) {
        return UINT32_MAX;
    }
    (void)snprintf(path, sizeof path, "%s/cpu.cfs_period_us", folder);
    if (!read_line(path, period, sizeof period)) {
        return UINT32_MAX;
    }
    return of_quota(strtoll(quota, NULL, 10), strtoll(period, NULL, 10));
}

/* The least quota of `group` and of all above it, up to the mount. In a container without a cgroup
 * namespace the path is the host's and nothing but the mount itself is there: it counts then. */
static uint32_t walk(const char *mount, const char *group, uint32_t (*quota)(const char *folder))
{
    char folder[PATH_SIZE - 32];
    uint32_t least = UINT32_MAX;
    int len = snprintf(folder, sizeof folder, "%s%s", mount, group);
    if (len < 0 || (size_t)len >= sizeof folder) {
        return least;
    }
    size_t stop = strlen(mount);
    for (;;) {
        uint32_t cpus = quota(folder);
        least = cpus < least ? cpus : least;
        char *slash = strrchr(folder, '/');
        if (!slash || (size_t)(slash - folder) < stop) {
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
static uint32_t by_line(const char *root, const char *line)
{
    char mount[256];
    const char *controllers = strchr(line, ':');
    const char *group = controllers ? strchr(controllers + 1, ':') : NULL;
    if (!group) {
        return UINT32_MAX;
    }
    controllers++;
    size_t len = (size_t)(group - controllers);
    group++;
    if (len == 0) {
        (void)snprintf(mount, sizeof mount, "%s/sys/fs/cgroup", root);
        return walk(mount, group, quota_v2);
    }
    if (!has_word(controllers, len, "cpu") || len > 100) {
        return UINT32_MAX;
    }
    (void)snprintf(mount, sizeof mount, "%s/sys/fs/cgroup/%.*s", root, (int)len, controllers);
    uint32_t cpus = walk(mount, group, quota_v1);
    (void)snprintf(mount, sizeof mount, "%s/sys/fs/cgroup/cpu", root);
    uint32_t others = walk(mount, group, quota_v1);
    return cpus < others ? cpus : others;
}

uint32_t fw_cpus_granted(const char *root)
{
    char path[256];
    char line[4200];
    uint32_t least = by_affinity();
    (void)snprintf(path, sizeof path, "%s/proc/self/cgroup", root);
    FILE *file = fopen(path, "re");
    while (file && fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = '\0';
        uint32_t cpus = by_line(root, line);
        least = cpus < least ? cpus : least;
    }
    if (file) {
        (void)fclose(file);
    }
    return least > 0 ? least : 1;
}

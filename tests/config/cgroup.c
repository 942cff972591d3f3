/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "config/cgroup.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static void put(const char *root, const char *path, const char *text)
{
    char name[512];
    (void)snprintf(name, sizeof name, "%s%s", root, path);
    for (char *slash = strchr(name + strlen(root) + 1, '/'); slash;
         slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        (void)mkdir(name, 0700);
        *slash = '/';
    }
    FILE *file = fopen(name, "w");
    cr_assert(file != NULL, "%s", name);
    (void)fputs(text, file);
    (void)fclose(file);
}

struct cpu_row {
    const char *what;
    uint32_t cpus; /* UINT32_MAX: as many as the affinity mask has */
    const char *files[4][2];
};

static const struct cpu_row CPU_ROWS[] = {
    {"no cgroup at all", UINT32_MAX, {{NULL}}},
    {"version 2, no limit",
     UINT32_MAX,
     {{"/proc/self/cgroup", "0::/a\n"}, {"/sys/fs/cgroup/a/cpu.max", "max 100000\n"}}},
    {"version 2, one CPU",
     1,
     {{"/proc/self/cgroup", "0::/a\n"}, {"/sys/fs/cgroup/a/cpu.max", "100000 100000\n"}}},
    {"half a CPU is one",
     1,
     {{"/proc/self/cgroup", "0::/a\n"}, {"/sys/fs/cgroup/a/cpu.max", "50000 100000\n"}}},
    {"one and a half are two",
     2,
     {{"/proc/self/cgroup", "0::/a\n"}, {"/sys/fs/cgroup/a/cpu.max", "150000 100000\n"}}},
    {"the limit is above",
     1,
     {{"/proc/self/cgroup", "0::/a/b/c\n"},
      {"/sys/fs/cgroup/a/cpu.max", "20000 100000\n"},
      {"/sys/fs/cgroup/a/b/c/cpu.max", "max 100000\n"}}},
    {"the path is the host's, only the mount is there",
     1,
     {{"/proc/self/cgroup", "0::/kubepods/pod1/x\n"}, {"/sys/fs/cgroup/cpu.max", "1000 100000\n"}}},
    {"version 1",
     1,
     {{"/proc/self/cgroup", "3:memory:/m\n2:cpu,cpuacct:/a\n0::/\n"},
      {"/sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_quota_us", "30000\n"},
      {"/sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_period_us", "100000\n"}}},
    {"version 1, no limit",
     UINT32_MAX,
     {{"/proc/self/cgroup", "2:cpu:/a\n"},
      {"/sys/fs/cgroup/cpu/a/cpu.cfs_quota_us", "-1\n"},
      {"/sys/fs/cgroup/cpu/a/cpu.cfs_period_us", "100000\n"}}},
    {"more than there are",
     UINT32_MAX,
     {{"/proc/self/cgroup", "0::/a\n"}, {"/sys/fs/cgroup/a/cpu.max", "99999900000 100000\n"}}},
    {"nonsense",
     UINT32_MAX,
     {{"/proc/self/cgroup", "what\n0::\n1:cpu\n"}, {"/sys/fs/cgroup/cpu.max", "\n"}}},
};

struct memory_row {
    const char *what;
    uint64_t bytes; /* 0: what the machine has */
    const char *files[4][2];
};

static const struct memory_row MEMORY_ROWS[] = {
    {"no cgroup at all", 0, {{NULL}}},
    {"version 2, no limit",
     0,
     {{"/proc/self/cgroup", "0::/a\n"}, {"/sys/fs/cgroup/a/memory.max", "max\n"}}},
    {"version 2, the limit is above",
     65536,
     {{"/proc/self/cgroup", "0::/a/b\n"},
      {"/sys/fs/cgroup/a/memory.max", "65536\n"},
      {"/sys/fs/cgroup/a/b/memory.max", "131072\n"}}},
    {"version 1",
     262144,
     {{"/proc/self/cgroup", "4:cpu:/c\n3:memory:/m\n0::/\n"},
      {"/sys/fs/cgroup/memory/m/memory.limit_in_bytes", "262144\n"}}},
    {"version 1, no limit",
     0,
     {{"/proc/self/cgroup", "3:memory:/m\n"},
      {"/sys/fs/cgroup/memory/m/memory.limit_in_bytes", "9223372036854771712\n"}}},
};

struct kills_row {
    const char *what;
    int64_t kills; /* -1: not known */
    const char *files[4][2];
};

static const struct kills_row KILLS_ROWS[] = {
    {"no cgroup at all", -1, {{NULL}}},
    {"version 2: not oom, not oom_group_kill",
     3,
     {{"/proc/self/cgroup", "0::/a\n"},
      {"/sys/fs/cgroup/a/memory.events",
       "low 0\nhigh 9\nmax 8\noom 7\noom_kill 3\noom_group_kill 1\n"}}},
    {"version 2: what is above counts others, too",
     0,
     {{"/proc/self/cgroup", "0::/a/b\n"},
      {"/sys/fs/cgroup/a/memory.events", "oom 5\noom_kill 5\n"},
      {"/sys/fs/cgroup/a/b/memory.events", "oom 0\noom_kill 0\n"}}},
    {"the path is the host's, only the mount is there",
     2,
     {{"/proc/self/cgroup", "0::/kubepods/pod1/x\n"},
      {"/sys/fs/cgroup/memory.events", "oom 2\noom_kill 2\n"}}},
    {"version 1, beside a version 2 that has no memory",
     4,
     {{"/proc/self/cgroup", "4:memory:/m\n2:cpu,cpuacct:/c\n0::/u\n"},
      {"/sys/fs/cgroup/memory/m/memory.oom_control",
       "oom_kill_disable 0\nunder_oom 0\noom_kill 4\n"}}},
    {"a kernel that does not count",
     -1,
     {{"/proc/self/cgroup", "4:memory:/m\n"},
      {"/sys/fs/cgroup/memory/m/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\n"}}},
};

static void lay_out(const char *folder, const char *const files[4][2])
{
    (void)mkdir(folder, 0700);
    for (size_t f = 0; f < 4 && files[f][0]; f++) {
        put(folder, files[f][0], files[f][1]);
    }
}

static void throw_away(const char *root)
{
    char command[96];
    (void)snprintf(command, sizeof command, "rm -r %s", root);
    cr_expect(eq(int, system(command), 0));
}

Test(cgroup, memory)
{
    char root[64] = "/tmp/fila-memory-XXXXXX";
    cr_assert(mkdtemp(root) != NULL);
    uint64_t all = fw_memory_granted(root);
    cr_assert(gt(u64, all, 1 << 20));
    for (size_t i = 0; i < sizeof MEMORY_ROWS / sizeof *MEMORY_ROWS; i++) {
        const struct memory_row *row = &MEMORY_ROWS[i];
        char folder[80];
        (void)snprintf(folder, sizeof folder, "%s/%zu", root, i);
        lay_out(folder, row->files);
        cr_expect(
            eq(u64, fw_memory_granted(folder), row->bytes ? row->bytes : all), "%s", row->what);
    }
    throw_away(root);
}

Test(cgroup, cpus)
{
    char root[64];
    (void)snprintf(root, sizeof root, "/tmp/fila-cpus-XXXXXX");
    cr_assert(mkdtemp(root) != NULL);
    uint32_t all = fw_cpus_granted(root);
    cr_assert(ge(u32, all, 1));
    for (size_t i = 0; i < sizeof CPU_ROWS / sizeof *CPU_ROWS; i++) {
        char folder[80];
        (void)snprintf(folder, sizeof folder, "%s/%zu", root, i);
        lay_out(folder, CPU_ROWS[i].files);
        uint32_t expected = CPU_ROWS[i].cpus < all ? CPU_ROWS[i].cpus : all;
        cr_expect(eq(u32, fw_cpus_granted(folder), expected), "%s", CPU_ROWS[i].what);
    }
    throw_away(root);
}

Test(cgroup, kills_for_lack_of_memory)
{
    char root[64] = "/tmp/fila-kills-XXXXXX";
    cr_assert(mkdtemp(root) != NULL);
    for (size_t i = 0; i < sizeof KILLS_ROWS / sizeof *KILLS_ROWS; i++) {
        char folder[80];
        (void)snprintf(folder, sizeof folder, "%s/%zu", root, i);
        lay_out(folder, KILLS_ROWS[i].files);
        cr_expect(eq(i64, fw_oom_kills(folder), KILLS_ROWS[i].kills), "%s", KILLS_ROWS[i].what);
    }
    throw_away(root);
}

/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * What the handler exec costs: CPU time per message (this process and its children) over a bare
 * loop of posix_spawn and waitpid of the same command, alternating in one run.
 *
 *     bench_exec EXEC.so [MESSAGES]
 */
#include "base/clock.h"
#include "plugin/one.h"

#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static char payload[1024];

static double seconds(const struct timeval *t)
{
    return (double)t->tv_sec + (double)t->tv_usec / 1e6;
}

static double cpu(void)
{
    struct rusage self;
    struct rusage children;
    (void)getrusage(RUSAGE_SELF, &self);
    (void)getrusage(RUSAGE_CHILDREN, &children);
    return seconds(&self.ru_utime) + seconds(&self.ru_stime) + seconds(&children.ru_utime) +
           seconds(&children.ru_stime);
}

static void bare(int messages)
{
    static char program[] = "/bin/true";
    char *const argv[] = {program, NULL};
    for (int i = 0; i < messages; i++) {
        pid_t pid = 0;
        int status = 0;
        if (posix_spawn(&pid, program, NULL, NULL, argv, environ) ||
            waitpid(pid, &status, 0) != pid || status) {
            abort();
        }
    }
}

static void handled(int messages)
{
    for (int i = 0; i < messages; i++) {
        if (one_run(&(struct one_message){.payload = payload, .payload_len = sizeof payload})
                .kind != FW_ACK) {
            abort();
        }
    }
}

int main(int argc, char **argv)
{
    static const one_options OPTIONS = {"command[]=/bin/true"};
    int messages = argc > 2 ? atoi(argv[2]) : 500; // NOLINT(cert-err34-c)
    fila_error error = FILA_ERROR_INIT;
    double sums[2] = {0, 0};
    if (argc < 2 || one_open(argv[1], OPTIONS, &error)) {
        (void)fprintf(stderr, "%s\n", error.text);
        return 1;
    }
    for (int round = 0; round < 4; round++) {
        double start = cpu();
        bare(messages);
        double middle = cpu();
        handled(messages);
        sums[0] += middle - start;
        sums[1] += cpu() - middle;
    }
    one_close();
    (void)printf(
        "bare %.0f us, exec %.0f us of CPU a message\nexec/bare CPU ratio: %.2f\n",
        sums[0] * 1e6 / 4 / messages, sums[1] * 1e6 / 4 / messages, sums[1] / sums[0]);
    return 0;
}

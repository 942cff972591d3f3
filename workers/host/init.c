/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "init.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

static int status_of(int wait_status)
{
    return WIFEXITED(wait_status) ? WEXITSTATUS(wait_status) : 128 + WTERMSIG(wait_status);
}

/* Reaps all that has ended. True when the worker was among them. */
static bool reap(pid_t worker, int *ret_status)
{
    bool over = false;
    int wait_status = 0;
    pid_t pid;
    while ((pid = waitpid(-1, &wait_status, WNOHANG)) > 0) {
        if (pid == worker) {
            *ret_status = status_of(wait_status);
            over = true;
        }
    }
    return over;
}

static int stand_by(pid_t worker, const sigset_t *all)
{
    int status = 0;
    for (;;) {
        siginfo_t info;
        int number = sigwaitinfo(all, &info);
        if (number == SIGCHLD && reap(worker, &status)) {
            return status;
        }
        if (number > 0 && number != SIGCHLD) {
            (void)kill(worker, number);
        }
    }
}

bool fw_init_stood_by(int *ret_status)
{
    sigset_t all;
    sigset_t before;
    if (getpid() != 1) {
        return false;
    }
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_BLOCK, &all, &before);
    pid_t worker = fork();
    if (worker <= 0) {
        if (worker == 0) {
            (void)setpgid(0, 0); /* a terminal's Ctrl-C comes once: through us */
        }
        (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
        return false;
    }
    *ret_status = stand_by(worker, &all);
    return true;
}

/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "support/real_server.h"

#include "fila/client.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

bool real_server_wanted(void)
{
    const char *program = getenv("FILA_SERVER_BIN");
    return program && program[0];
}

/* Bound and let go: another program may take it before the server does, and the start then fails.
 */
static uint16_t free_port(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t len = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, len) ||
        getsockname(fd, (struct sockaddr *)&address, &len)) {
        address.sin_port = 0;
    }
    if (fd >= 0) {
        (void)close(fd);
    }
    return ntohs(address.sin_port);
}

static bool write_config(const char *folder, uint16_t port, const char *more)
{
    char path[128];
    (void)snprintf(path, sizeof path, "%s/fila.toml", folder);
    FILE *file = fopen(path, "w");
    if (!file) {
        return false;
    }
    (void)fprintf(
        file, "[server]\nlisten_addr = \"127.0.0.1:%u\"\n[telemetry]\notlp_endpoint = \"\"\n%s",
        port, more ? more : "");
    return fclose(file) == 0;
}

static void exec_worker(const struct real_server *server)
{
    char listen[32];
    (void)snprintf(listen, sizeof listen, "127.0.0.1:%u", server->port);
    (void)execl(
        server->program, server->program, "broker", "--listen", listen,
        server->durable ? "--data" : (char *)NULL, "data.db", (char *)NULL);
}

/* In the child: becomes the server, or exits with 127. */
static void become_server(const struct real_server *server)
{
    char data[128];
    (void)snprintf(data, sizeof data, "%s/data", server->folder);
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    int log = -1;
    if (!chdir(server->folder) && (log = open("log", O_WRONLY | O_CREAT | O_APPEND, 0666)) >= 0 &&
        dup2(log, STDOUT_FILENO) >= 0 && dup2(log, STDERR_FILENO) >= 0 &&
        (server->is_worker ||
         (!setenv("FILA_DATA_DIR", data, 1) && !setenv("RUST_LOG", "warn", 1)))) {
        if (server->is_worker) {
            exec_worker(server);
        } else {
            (void)execl(server->program, server->program, (char *)NULL);
        }
    }
    _exit(127);
}

static bool answers(const char *url)
{
    fila_client_options options = FILA_CLIENT_OPTIONS_INIT;
    fila_request request = {.call = FILA_CALL_LIST_QUEUES, .timeout_ms = 1000};
    fila_client *client = NULL;
    options.url = url;
    if (fila_client_open(&options, &client, NULL)) {
        return false;
    }
    bool answered = fila_call_wait(client, &request, NULL, NULL) == FILA_OK;
    fila_client_free(client);
    return answered;
}

static bool wait_until_up(struct real_server *server, char *why, size_t size)
{
    const struct timespec pause = {0, 50 * 1000 * 1000};
    int status = 0;
    for (int i = 0; i < 300; i++) {
        if (waitpid(server->pid, &status, WNOHANG) == server->pid) {
            (void)snprintf(why, size, "it ended with wait status %#x", (unsigned)status);
            server->pid = 0;
            return false;
        }
        if (answers(server->url)) {
            return true;
        }
        (void)nanosleep(&pause, NULL); /* of a process that has no other way to tell */
    }
    (void)snprintf(why, size, "no answer at %s within 15 s", server->url);
    return false;
}

/* Starts what `server` describes, and waits until it serves. */
static bool launch(struct real_server *server, char *why, size_t size)
{
    server->pid = fork();
    if (server->pid == 0) {
        become_server(server);
    }
    if (server->pid < 0) {
        (void)snprintf(why, size, "fork: %s", strerror(errno));
        server->pid = 0;
        return false;
    }
    return wait_until_up(server, why, size);
}

/* A server's folder and port. */
static bool prepare(struct real_server *server, const char *program, char *why, size_t size)
{
    *server = (struct real_server){.folder = "/tmp/fila-server-XXXXXX"};
    if (!program || !realpath(program, server->program)) {
        (void)snprintf(why, size, "%s is no program", program ? program : "(nothing)");
        return false;
    }
    server->port = free_port();
    if (!server->port || !mkdtemp(server->folder)) {
        (void)snprintf(why, size, "no port or no folder: %s", strerror(errno));
        return false;
    }
    (void)snprintf(server->url, sizeof server->url, "grpc://127.0.0.1:%u", server->port);
    return true;
}

bool real_server_start(struct real_server *ret_server, const char *more, char *why, size_t size)
{
    struct real_server server;
    if (!real_server_wanted()) {
        (void)snprintf(why, size, "FILA_SERVER_BIN names no program");
        return false;
    }
    if (!prepare(&server, getenv("FILA_SERVER_BIN"), why, size)) {
        return false;
    }
    if (!write_config(server.folder, server.port, more)) {
        (void)snprintf(why, size, "%s: %s", server.folder, strerror(errno));
        real_server_stop(&server);
        return false;
    }
    if (!launch(&server, why, size)) {
        real_server_stop(&server);
        return false;
    }
    *ret_server = server;
    return true;
}

bool real_server_start_worker(
    struct real_server *ret_server,
    const char *worker,
    bool durable,
    char *why,
    size_t size)
{
    struct real_server server;
    if (!prepare(&server, worker, why, size)) {
        return false;
    }
    server.is_worker = true;
    server.durable = durable;
    if (!launch(&server, why, size)) {
        real_server_stop(&server);
        return false;
    }
    *ret_server = server;
    return true;
}

int real_server_wait(struct real_server *server, int ms)
{
    const struct timespec pause = {0, 10 * 1000 * 1000};
    int status = 0;
    for (int waited = 0; waited <= ms; waited += 10) {
        if (waitpid(server->pid, &status, WNOHANG) == server->pid) {
            server->pid = 0;
            return status;
        }
        (void)nanosleep(&pause, NULL); /* of a process that has no other way to tell */
    }
    return -1;
}

bool real_server_restart(struct real_server *server, char *why, size_t size)
{
    return launch(server, why, size);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

void real_server_stop(struct real_server *server)
{
    if (server->pid > 0) {
        (void)kill(server->pid, SIGKILL);
        (void)waitpid(server->pid, NULL, 0);
        server->pid = 0;
    }
    if (server->folder[0]) {
        (void)nftw(server->folder, remove_one, 8, FTW_DEPTH | FTW_PHYS);
        server->folder[0] = '\0';
    }
}

/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * Where the gRPC server listens, and what it says when it cannot.
 */
#include "broker/server.h"
#include "server/h2_socket.h"
#include "server/rig.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include <netinet/in.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static void check_refused(const char *address, const char *text)
{
    struct fb_server *server;
    fila_error error;
    cr_assert(eq(int, fb_server_start(NULL, address, &server, &error), FILA_BROKER_UNAVAILABLE));
    cr_expect(eq(str, error.text, (char *)text));
}

static void check_enqueue(const char *target)
{
    struct raw_client *client = raw_open(target);
    fila_request request = rig_enqueue("q", "x", 1);
    struct raw_end end = raw_request(client, &request);
    cr_expect(eq(int, end.code, 0), "%s: %s", target, end.text);
    raw_end_free(&end);
    raw_close(client);
}

Test(server_listen, malformed_addresses_are_refused)
{
    static const char *const rows[] = {
        "",       "localhost", "127.0.0.1", "127.0.0.1:",       "127.0.0.1:http", "127.0.0.1:-1",
        "::1:80", "[::1]80",   "[::1]",     "127.0.0.1:123456",
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char text[256];
        (void)snprintf(
            text, sizeof text,
            "cannot listen on %s: it must be HOST:PORT, [V6]:PORT, :PORT or unix:PATH", rows[i]);
        check_refused(rows[i], text);
    }
    check_refused("127.0.0.1:70000", "cannot listen on 127.0.0.1:70000: a port is at most 65535");
}

Test(server_listen, a_taken_port_is_named_with_its_cause)
{
    struct rig rig = rig_open();
    char address[32];
    char text[128];
    (void)snprintf(address, sizeof address, "127.0.0.1:%u", fb_server_port(rig.server));
    (void)snprintf(text, sizeof text, "cannot listen on %s: Address already in use", address);
    check_refused(address, text);
    (void)snprintf(address, sizeof address, ":%u", fb_server_port(rig.server));
    (void)snprintf(text, sizeof text, "cannot listen on %s: Address already in use", address);
    check_refused(address, text);
    rig_close(&rig);
}

Test(server_listen, an_address_of_another_machine_is_refused)
{
    check_refused(
        "192.0.2.1:5555", "cannot listen on 192.0.2.1:5555: Cannot assign requested address");
}

Test(server_listen, a_port_can_be_used_again_at_once)
{
    struct rig rig = rig_open();
    char address[32];
    struct fb_server *again;
    fila_error error;
    (void)snprintf(address, sizeof address, "127.0.0.1:%u", fb_server_port(rig.server));
    check_enqueue(address);
    fb_server_free(rig.server);
    cr_assert(eq(int, fb_server_start(rig.fake, address, &again, &error), 0), "%s", error.text);
    check_enqueue(address);
    rig.server = again;
    rig_close(&rig);
}

Test(server_listen, without_a_host_it_takes_a_free_port_on_all_addresses)
{
    struct fila_broker *fake = fake_new();
    struct fb_server *server;
    fila_error error;
    char target[32];
    cr_assert(eq(int, fb_server_start(fake, ":0", &server, &error), 0), "%s", error.text);
    cr_assert(gt(u16, fb_server_port(server), 0));
    (void)snprintf(target, sizeof target, "127.0.0.1:%u", fb_server_port(server));
    check_enqueue(target);
    fb_server_free(server);
    fake_free(fake);
}

Test(server_listen, unix_sockets)
{
    char folder[] = "/tmp/fila-server-XXXXXX";
    char address[64];
    char text[160];
    struct fila_broker *fake = fake_new();
    struct fb_server *server;
    fila_error error;
    cr_assert(ne(ptr, mkdtemp(folder), NULL));
    (void)snprintf(address, sizeof address, "unix:%s/socket", folder);
    for (int round = 0; round < 2; round++) {
        cr_assert(eq(int, fb_server_start(fake, address, &server, &error), 0), "%s", error.text);
        cr_expect(eq(u16, fb_server_port(server), 0));
        check_enqueue(address);
        (void)snprintf(text, sizeof text, "cannot listen on %s: Address already in use", address);
        check_refused(address, text);
        check_enqueue(address);
        fb_server_free(server);
    }
    cr_expect(eq(int, access(address + 5, F_OK), -1), "the socket was left behind");
    FILE *file = fopen(address + 5, "w");
    cr_assert(ne(ptr, file, NULL));
    (void)fclose(file);
    (void)snprintf(
        text, sizeof text, "cannot listen on %s: it exists and is not a socket", address);
    check_refused(address, text);
    (void)unlink(address + 5);
    (void)rmdir(folder);
    fake_free(fake);
}

Test(server_listen, a_stale_unix_socket_is_taken_over)
{
    char folder[] = "/tmp/fila-server-XXXXXX";
    char address[64];
    struct fila_broker *fake = fake_new();
    struct fb_server *server;
    fila_error error;
    cr_assert(ne(ptr, mkdtemp(folder), NULL));
    (void)snprintf(address, sizeof address, "unix:%s/socket", folder);
    cr_assert(eq(int, mknod(address + 5, S_IFSOCK | 0600, 0), 0));
    cr_assert(eq(int, fb_server_start(fake, address, &server, &error), 0), "%s", error.text);
    check_enqueue(address);
    fb_server_free(server);
    fake_free(fake);
    (void)rmdir(folder);
}

Test(server_listen, unix_paths_that_cannot_be)
{
    char address[160];
    char text[256];
    check_refused("unix:", "cannot listen on unix:: no path");
    check_refused(
        "unix:/nonexistent/socket",
        "cannot listen on unix:/nonexistent/socket: No such file or directory");
    memset(address, 'a', sizeof address);
    memcpy(address, "unix:/", 6);
    address[5 + 108] = '\0';
    (void)snprintf(text, sizeof text, "cannot listen on %s: the path is over 107 bytes", address);
    check_refused(address, text);
}

/* ---- File descriptors; each test has a process of its own ---- */

static void allow_descriptors(rlim_t count)
{
    struct rlimit limit;
    cr_assert(eq(int, getrlimit(RLIMIT_NOFILE, &limit), 0));
    limit.rlim_cur = count;
    cr_assert(eq(int, setrlimit(RLIMIT_NOFILE, &limit), 0));
}

/* gRPC would abort. */
Test(server_listen, too_few_descriptors_are_told_of_at_the_start)
{
    struct fb_server *server;
    fila_error error;
    allow_descriptors(40);
    cr_assert(
        eq(int, fb_server_start(NULL, "127.0.0.1:0", &server, &error), FILA_BROKER_UNAVAILABLE));
    cr_expect(
        ne(ptr, strstr(error.text, "cannot listen on 127.0.0.1:0: "), NULL), "%s", error.text);
    cr_expect(
        ne(ptr,
           strstr(
               error.text,
               " file descriptors are left of 40 allowed (RLIMIT_NOFILE), and 64 are needed"),
           NULL),
        "%s", error.text);
}

static void check_served(struct raw_client *client)
{
    fila_request request = rig_enqueue("q", "x", 1);
    struct raw_end end = raw_request(client, &request);
    cr_expect(eq(int, end.code, 0), "%s", end.text);
    raw_end_free(&end);
}

static void check_newcomer_is_served(struct rig *rig)
{
    struct raw_client *client = raw_open_port(fb_server_port(rig->server));
    check_served(client);
    raw_close(client);
}

/* How many of the connections the server closes without a word, and closes all. */
static int count_refused(const int *fds, int count)
{
    int refused = 0;
    for (int i = 0; i < count; i++) {
        struct h2_frame frame;
        refused += !h2_read(fds[i], &frame);
    }
    for (int i = 0; i < count; i++) {
        (void)close(fds[i]);
    }
    return refused;
}

/* The last descriptors are the program's, not for connections. */
Test(server_listen, connections_beyond_the_reserve_are_refused_and_the_others_served)
{
    enum {
        FLOOD = 200
    };

    int fds[FLOOD];
    struct rig rig = rig_open();
    check_served(rig.client);
    rig.server->listener.highest = 160; /* as a limit of 192 would have it */
    for (int i = 0; i < FLOOD; i++) {
        fds[i] = tcp_connect(fb_server_port(rig.server)); /* the server speaks first */
    }
    cr_expect(gt(int, count_refused(fds, FLOOD), FLOOD / 2));
    check_served(rig.client);
    rig.server->listener.highest = 100000;
    check_newcomer_is_served(&rig);
    rig_close(&rig);
}

/* And when there is none left at all, who comes is refused, not left waiting; nothing stops for
 * good. */
Test(server_listen, no_descriptor_is_left)
{
    enum {
        FLOOD = 40,
        LEFT = 10
    };

    int fds[FLOOD];
    struct rig rig = rig_open();
    struct sockaddr_in address = {.sin_family = AF_INET};
    address.sin_port = htons(fb_server_port(rig.server));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    check_served(rig.client);
    for (int i = 0; i < FLOOD; i++) {
        fds[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    }
    rig.server->listener.highest = UINT64_MAX;
    allow_descriptors((rlim_t)fds[FLOOD - 1] + 1 + LEFT);
    for (int i = 0; i < FLOOD; i++) {
        cr_assert(eq(int, connect(fds[i], (struct sockaddr *)&address, sizeof address), 0));
    }
    cr_expect(ge(int, count_refused(fds, FLOOD), FLOOD - LEFT));
    check_served(rig.client);
    check_newcomer_is_served(&rig);
    rig_close(&rig);
}

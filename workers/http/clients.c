/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "clients.h"

#include <stdlib.h>
#include <sys/socket.h>

static void end(struct fw_clients *clients, struct fw_client *client)
{
    client->ended = true;
    clients->count--;
    (void)shutdown(client->fd, SHUT_RDWR);
}

static struct fw_client *oldest(const struct fw_clients *clients)
{
    struct fw_client *c = clients->first;
    while (c && c->ended) {
        c = c->next;
    }
    return c;
}

struct fw_client *fw_client_add(struct fw_clients *clients, int fd, int64_t now)
{
    struct fw_client *client = malloc(sizeof *client);
    if (!client) {
        return NULL;
    }
    struct fw_client *first = oldest(clients);
    if (clients->count >= FW_CLIENTS_WANTED && first) {
        end(clients, first);
    }
    *client = (struct fw_client){.prev = clients->last, .fd = fd, .since = now};
    if (clients->last) {
        clients->last->next = client;
    } else {
        clients->first = client;
    }
    clients->last = client;
    clients->count++;
    return client;
}

void fw_client_remove(struct fw_clients *clients, struct fw_client *client)
{
    if (client->prev) {
        client->prev->next = client->next;
    } else {
        clients->first = client->next;
    }
    if (client->next) {
        client->next->prev = client->prev;
    } else {
        clients->last = client->prev;
    }
    clients->count -= !client->ended;
    free(client);
}

int64_t fw_clients_tick(struct fw_clients *clients, int64_t now)
{
    for (;;) {
        struct fw_client *c = oldest(clients);
        if (!c) {
            return FILA_NEVER;
        }
        if (now < c->since + FW_CLIENT_AGE) {
            return c->since + FW_CLIENT_AGE;
        }
        end(clients, c);
    }
}

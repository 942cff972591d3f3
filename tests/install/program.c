/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * A program of somebody else's, in the common part of C11 and C++17: sends itself a message through
 * a broker of its own.
 */
#include <fila/broker.h>
#include <fila/client.h>

#include <stdio.h>

static int failed(const char *what, const fila_error *error)
{
    fprintf(stderr, "%s: %s: %s\n", what, fila_status_name(error->code), error->text);
    return 1;
}

static int send_and_receive(fila_client *client)
{
    const fila_view queue = fila_view_of("q");
    fila_error error = FILA_ERROR_INIT;
    fila_consumer *consumer = NULL;
    fila_message *message = NULL;
    fila_request create;
    char id[FILA_ID_SIZE];
    memset(&create, 0, sizeof create);
    create.call = FILA_CALL_CREATE_QUEUE;
    create.as.create_queue.name = queue;
    if (fila_call_wait(client, &create, NULL, &error)) {
        return failed("create", &error);
    }
    if (fila_enqueue(client, queue, NULL, 0, fila_view_of("hello"), id, &error)) {
        return failed("enqueue", &error);
    }
    if (fila_consumer_open(client, queue, NULL, NULL, &consumer, &error)) {
        return failed("consume", &error);
    }
    if (fila_consumer_next(consumer, 10000, &message, &error)) {
        return failed("next", &error);
    }
    if (fila_ack(client, fila_message_queue(message), fila_message_id(message), &error)) {
        return failed("ack", &error);
    }
    printf("%.*s\n", (int)fila_message_payload(message).len, fila_message_payload(message).data);
    fila_message_free(message);
    fila_consumer_free(consumer);
    return 0;
}

int main(void)
{
    fila_client_options options = FILA_CLIENT_OPTIONS_INIT;
    fila_client *client = NULL;
    fila_error error = FILA_ERROR_INIT;
    options.url = "embedded:";
    if (fila_client_open(&options, &client, &error)) {
        return failed("open", &error);
    }
    int status = send_and_receive(client);
    fila_client_free(client);
    return status;
}

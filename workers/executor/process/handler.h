/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * The child's side of isolation "process": `fila-worker __handler`, exec'ed by the worker. It loads
 * the plugin, makes one instance, and hands it one message after the other, as the packets that it
 * gets say (packet.h). One thread; a plugin may start others.
 *
 * Descriptors as it starts: 0 is /dev/null, 1 and 2 a pipe to the worker, and those below; nothing
 * else. The socket and the cancel descriptor are moved out of the way of plugins that close what
 * they think is theirs.
 *
 * What is shared by main.c, services.c and crash.c is in struct fw_handler.
 */
#ifndef FW_PROCESS_HANDLER_H
#define FW_PROCESS_HANDLER_H

#include "area.h"
#include "executor/run.h"
#include "packet.h"

/* As exec'ed. */
enum {
    FW_HANDLER_SOCKET = 3,
    FW_HANDLER_CANCEL = 4, /* a socket: the ids of runs that are cancelled */
    FW_HANDLER_AREA = 5,
    FW_HANDLER_PLUGIN = 6 /* the plugin's file */
};

struct fw_handler {
    int socket;
    int cancel_fd;
    uint64_t cancelled; /* the last that the area said when cancel_fd was emptied */
    struct fw_area area;
    struct fw_instance instance;
    struct fw_plugin *plugin;
    struct fw_runs runs;
    struct fw_run *run;
    struct fw_done_list done;
    struct fw_job job;
    _Atomic uint64_t current; /* the id of the run that is under way; 0 = none */
    struct fw_header_list headers;
    uint64_t counted[FILA_COUNTERS_MAX]; /* what the worker knows of each counter */
    struct fw_buffer buffer;             /* of a message that is published */
    pid_t pid;
};

/* The verb. argv[1] is the worker's process id. Returns an exit status, if at all. */
int fw_handler_main(int argc, char **argv);

/* main.c. Sends one packet; ends the process when the worker is gone, or when this is a fork of it.
 * Thread: any. */
void fw_handler_send(struct fw_handler *handler, const struct fw_packet *packet);

/* services.c. Those of run.h, less what the worker does: cancelling. */
void fw_handler_services(struct fw_handler *handler, fila_services *services);
/* services.c. Before a run: what is left on cancel_fd about earlier ones. */
void fw_handler_forget_cancels(struct fw_handler *handler, uint64_t id);
/* services.c. Before a result: what the handler has published, and counted; and what it counted
 * since then, at its end. */
void fw_handler_publish(struct fw_handler *handler, uint64_t id, const struct fw_outgoing *list);
void fw_handler_count(struct fw_handler *handler);
/* services.c. Sends what this process logs to the worker. */
void fw_handler_log(struct fw_handler *handler);

/* crash.c. From now on a crash of this process is told to the worker. */
void fw_handler_crashes(struct fw_handler *handler);

#endif

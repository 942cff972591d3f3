/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * The handler `exec`: runs a command for each message. What its files share.
 *
 *   exec.c         options, the descriptor, from exit status to verdict
 *   command.c      which program is run, found and checked before the worker starts
 *   environment.c  what the command sees of a message
 *   child.c        starting it and looking after it until it is gone
 *   output.c       what it says: bounded, however much it is
 *
 * Threads: one instance per worker thread, so nothing here is locked. The thread sleeps in poll(2)
 * while the command runs.
 */
#ifndef EXEC_H
#define EXEC_H

#include <fila/plugin.h>

#include <stdbool.h>
#include <sys/types.h>

#define REASON_SIZE 4352 /* as much as the host takes */
#define TAIL_SIZE   4096 /* of standard error */

/* execve's strings are not const, for no reason but its age. */
static inline char **exec_words(const char **words)
{
    union {
        const char **from;
        char **to;
    } both = {words};

    return both.to;
}

/* ---- command.c ---- */

struct command {
    char *path;  /* absolute */
    char **argv; /* ended by NULL; the strings are those of the options, or constants */
    const char *directory;
};

struct command_request {
    const fila_option_value *words;
    bool shell;
    const char *directory;     /* "" = the worker's */
    const char *path_variable; /* where programs are searched; NULL = the usual places */
};

/* False: `ret_why` says what is wrong. */
bool command_find(
    struct command *command,
    const struct command_request *request,
    char *ret_why,
    size_t size);
void command_free(struct command *command);

/* ---- environment.c ---- */

#define HEADERS_SIZE 65536 /* of FILA_HEADER_... in all, their zeroes included */
#define FACTS_SIZE \
    ((size_t)4 * 65536) /* of the other FILA_...: names and keys have up to 65,535 bytes */
#define HEADERS_MAX 4096
#define HASH_SLOTS  8192 /* over HEADERS_MAX, a power of two */
#define FACTS_MAX   8

struct environment {
    const char **variables; /* `fixed` that are the same for all messages, then the message's */
    size_t fixed;
    size_t count;
    size_t header_first;
    char facts[FACTS_SIZE];
    size_t facts_len;
    char headers[HEADERS_SIZE];
    size_t headers_len;
    uint16_t slots[HASH_SLOTS]; /* of the names of headers: 1 + index of the variable's */
};

/* `own` are NAME=VALUE words that go over those of `inherited` (NULL = nothing is inherited).
 * False: `ret_why`. */
bool environment_init(
    struct environment *environment,
    const char *const *inherited,
    const fila_option_value *own,
    char *ret_why,
    size_t size);
void environment_fini(struct environment *environment);
/* The value of a variable among the fixed ones, or NULL. */
const char *environment_get(const struct environment *environment, const char *name);

/* The environment for one message; valid until the next one. `left_ms` is FILA_DEADLINE_MS. */
char *const *environment_of(
    struct environment *environment,
    const fila_delivery *delivery,
    const fila_services *services,
    int64_t left_ms);

/* ---- output.c ---- */

/* The end of what went through. */
struct tail {
    char bytes[TAIL_SIZE];
    size_t at; /* where the next byte goes */
    bool full;
};

void tail_add(struct tail *tail, const char *bytes, size_t len);
/* The text without blanks at its end, zero bytes shown as '?', and no half character at its start,
 * terminated. Returns its length. */
size_t tail_text(const struct tail *tail, char *ret_text, size_t size);

/* Standard output, line by line into the log at debug. */
#define LINE_SIZE       1024
#define LINES_TOTAL_MAX 65536

struct lines {
    const fila_services *services;
    const fila_delivery *delivery;
    char line[LINE_SIZE];
    size_t len;
    size_t total;
};

void lines_add(struct lines *lines, const char *bytes, size_t len);
void lines_end(struct lines *lines);

/* ---- child.c ---- */

enum child_end {
    CHILD_EXITED,   /* `status` is the exit status */
    CHILD_SIGNALLED /* `status` is the signal */
};

struct child_result {
    enum child_end end;
    int status;
    bool dumped_core;
    bool ended_by_us; /* SIGTERM was sent before it ended */
    bool late;        /* because its time was over; else it was cancelled */
    bool killed;      /* and SIGKILL */
};

struct child_task {
    const struct command *command;
    char *const *environment;
    const fila_delivery *delivery;
    const fila_services *services;
    int64_t term_at; /* when so many ms are left until the deadline */
    int64_t kill_at;
    bool log_output;
    struct tail *tail;
    struct lines *lines;
};

/* Runs the command to its end. 0, or the errno with which it could not be started. */
int child_run(const struct child_task *task, struct child_result *ret_result);

#endif

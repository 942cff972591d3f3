/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * Inside of the `process` executor: handlers run in children, exec'ed copies of this program with
 * the verb __handler (handler.h), which load the plugin; this process never runs its code.
 *
 * Properties. One child, one message: a crash costs that message, and no other. What a child says
 * is checked (packet.h); one that talks nonsense is killed. A message that is over its deadline is
 * cancelled, then its child gets SIGTERM, then SIGKILL at deadline + grace; its verdict follows at
 * once, with the cause. Half-way to SIGTERM another child is started for its place, so that one is
 * there when the verdict is given; if it does return, it goes, or has its place back. A child that
 * died after it had handled a message is replaced at once; one that had not, after 0.1 s, doubling
 * up to 30 s while no message comes through; five failed starts within 60 s stop all. There are at
 * most twice `concurrency` children, and one more while a new file is tried.
 *
 * Operation. submit (I/O thread) sends to an idle child itself. One manager thread per executor
 * (manager.c) starts children, waits on their sockets, pidfds and output by epoll, hands results to
 * the done list and the next message to the child, and does what time demands. It starts the
 * children since they are tied to the life of the thread that did (PR_SET_PDEATHSIG).
 *
 * Safety. All of a child but `locked` and the sending of a message belongs to the manager. Whoever
 * takes an idle child and gives it a job (under locked.mutex) may send to it; `sending` keeps its
 * descriptors open until that is done. No lock is held while sending, logging or calling out.
 */
#ifndef FW_PROCESS_H
#define FW_PROCESS_H

#include "area.h"
#include "base/clock.h"
#include "config/arena.h"
#include "config/config.h"
#include "executor/implementation.h"
#include "packet.h"
#include "symbols.h"

#include <limits.h>
#include <pthread.h>
#include <sys/types.h>

/* ---- A plugin's file, as it was when it was looked at (generation.c) ---- */

struct fw_generation {
    unsigned refs; /* manager's */
    uint64_t number;
    int fd; /* keeps it, also once it was replaced */
    uint64_t device;
    uint64_t inode;
    int64_t size;
    int64_t mtime_ns;
    char path[PATH_MAX];
    char build_id[FW_BUILD_ID_SIZE]; /* "" = it has none */
};

/* Looks at the file that `handler` names now. Errors as fw_plugin_inspect. */
FILA_NODISCARD fila_status fw_generation_new(
    const char *handler,
    uint64_t number,
    struct fw_generation **ret_generation,
    fila_error *reterr);
void fw_generation_release(struct fw_generation *generation); /* takes NULL */
/* Whether its path still leads to it. */
bool fw_generation_is_current(const struct fw_generation *generation);

/* An inotify descriptor for the folder of the file; -1 without one. */
int fw_generation_watch(const struct fw_generation *generation);
/* Reads what it says. Whether it is about the file: written and closed, or put in its place. */
bool fw_generation_noticed(const struct fw_generation *generation, int inotify);

/* ---- What a child writes to standard output and error (output.c) ---- */

#define FW_TAIL_SIZE  2048
#define FW_CHUNK_SIZE 65536

struct fw_output {
    int fd;       /* -1 = closed */
    uint64_t run; /* `tail` is of this run */
    size_t tail_len;
    size_t line_len;
    int64_t second;    /* of `lines` */
    unsigned lines;    /* logged in it */
    uint64_t left_out; /* lines, since the last that was logged */
    char tail[FW_TAIL_SIZE];
    char line[1024];
};

struct fw_child;

/* Reads what there is, up to some bound; logs lines. False at the end. */
bool fw_output_read(struct fw_child *child);
/* Logs what is left, and closes it. */
void fw_output_end(struct fw_child *child);
/* Zeros, at which a line would end, become bytes that the log shows as what they are: no text. */
void fw_output_clean(char *text, size_t len);

/* ---- A child (child.c) ---- */

enum fw_child_state {
    FW_CHILD_STARTING,
    FW_CHILD_IDLE,
    FW_CHILD_BUSY,    /* has a job or a probe */
    FW_CHILD_CLOSING, /* was told to end */
    FW_CHILD_DYING,   /* was sent SIGKILL, or its socket is closed */
    FW_CHILD_DEAD,
    FW_CHILD_STATE_COUNT
};

/* How far a job that is over its deadline was pushed. */
enum fw_step {
    FW_STEP_NONE,
    FW_STEP_CANCELLED,
    FW_STEP_TERM,
    FW_STEP_KILL
};

enum fw_source_kind {
    FW_SOURCE_WAKE,
    FW_SOURCE_FOLDER,
    FW_SOURCE_SOCKET,
    FW_SOURCE_EXIT,
    FW_SOURCE_OUTPUT
};

/* What epoll tells. */
struct fw_source {
    enum fw_source_kind kind;
    struct fw_child *child;
};

struct fw_process_probe {
    struct fw_process_probe *next;
    void (*answer)(void *user, bool healthy);
    void *user;
};

struct fw_slot;

struct fw_child {
    struct fw_process *process;
    struct fw_child *next; /* of `children` or `graveyard` */
    struct fw_slot *slot;  /* NULL: it will not be replaced */
    struct fw_slot *lost;  /* the one it had until it was late, while it is */
    struct fw_generation *generation;
    pid_t pid;
    int pidfd;
    int socket;
    int cancel_fd;
    int statm; /* /proc/PID/statm; -1 = not looked at */
    struct fw_area area;
    struct fw_source sources[3];
    struct fw_output output;
    struct fw_buffer buffer; /* of whoever sends */
    struct fw_buffer part;   /* what has come of a published message */
    uint32_t part_total;
    struct fw_outgoing *outbox; /* published by the run under way, */
    struct fw_outgoing **outbox_end;
    uint32_t outbox_count;
    size_t outbox_bytes;
    atomic_bool sending;
    int64_t act_at; /* STARTING, CLOSING, DYING: when it is pushed on */
    uint32_t messages;
    uint32_t problems; /* that it reported as it started */
    bool was_ready;
    bool retire; /* close it as soon as it is idle */
    bool recycled;
    bool exited; /* seen on pidfd */
    bool dead;   /* and waited for */
    bool kill_tried;
    bool rubbish;
    bool overdue;    /* ended for its slowness */
    bool told_crash; /* `crash` is valid */
    uint64_t crash_id;
    int crash_signal;
    char crash[1024]; /* what it said of its crash, in words */
    char fault[512];  /* FAILED's text; or what was rubbish, or hung, in words */

    struct { /* under process->locked.mutex */
        enum fw_child_state state;
        struct fw_child *next_idle;
        struct fw_job *job;
        struct fw_process_probe *probe;
        uint64_t id; /* of the last run or probe */
        int64_t deadline;
        int64_t started;
        enum fw_step step;
        bool unsent; /* BUSY with nothing: its message could not be sent; the manager frees it */
    } locked;
};

/* A place for a child: `concurrency` of them. */
struct fw_slot {
    struct fw_child *child;     /* NULL: to be started at `start_at` */
    struct fw_child *successor; /* of a newer generation, on its way */
    int64_t start_at;
    uint32_t deaths; /* in a row, of children that had handled no message */
};

#define FW_FAILED_STARTS 5

struct fw_process {
    struct fw_executor base;
    const char *queue;
    const char *handler; /* as the config names it */
    const char *program;
    const char *const *environment;
    struct fw_arena memory; /* of the above */
    const struct fw_handler_option *options;
    size_t option_count;
    struct fw_done_list *done;
    struct fw_counters *counters; /* the handler's, of all children */
    uint32_t concurrency;
    int64_t grace;
    int64_t probe_timeout;
    int64_t start_timeout;
    int64_t first_backoff;
    uint32_t recycle_messages;
    uint64_t recycle_rss;
    void (*problem)(void *problem_user, const struct fw_diagnostic *problem);
    void *problem_user;
    void (*on_stopped)(void *stopped_user);
    void *stopped_user;
    void (*on_ends)(void *ends_user, const uint64_t ends[]);
    void *ends_user;

    /* The manager's. */
    pthread_t thread;
    pid_t parent;
    int epoll;
    int wake_fd;
    int folder; /* inotify of the plugin's folder; -1 = it is not watched */
    struct fw_source wake_source;
    struct fw_source folder_source;
    int64_t notice_at; /* when to look at the plugin's file; 0 = it has not changed */
    struct fw_slot *slots;
    struct fw_child *children;
    struct fw_child *graveyard; /* dead; freed at the end of a turn */
    struct fw_generation *generation;
    struct fw_generation *fresh;   /* being tried */
    struct fw_child *candidate;    /* the first child with it */
    struct fw_generation *refused; /* the last that failed */
    uint64_t generations;
    uint32_t starting;
    uint32_t late; /* children whose place is another's, at most `concurrency` */
    int64_t failed_starts[FW_FAILED_STARTS]; /* a ring */
    uint32_t failed_start;
    int64_t oom_kills; /* of our cgroup, as seen last; -1 = not known */
    int64_t oom_spare; /* of them, seen a moment ago, and of no child that has been looked at */
    int64_t oom_spare_until;            /* so long; later it is taken for someone else's */
    bool is_up;                         /* all have started once */
    bool look_again;                    /* something has changed */
    uint8_t packet[FW_PACKET_SIZE + 1]; /* as received */
    char chunk[FW_CHUNK_SIZE];          /* of output */

    _Atomic int64_t until; /* when the manager looks next; what is due earlier pokes it */
    atomic_bool has_probe;
    atomic_bool refresh; /* asked for */

    struct {
        pthread_mutex_t mutex;
        pthread_cond_t changed; /* for start */
        struct fw_job *first;
        struct fw_job *last;
        struct fw_process_probe *probes;
        struct fw_child *idle;
        uint32_t counts[FW_CHILD_STATE_COUNT];
        uint64_t ends[FW_CHILD_END_COUNT];
        uint64_t generation;
        char name[64]; /* of the plugin that runs */
        char version[64];
        char build_id[FW_BUILD_ID_SIZE];
        uint32_t ready; /* first starts that were successful */
        int64_t stop_deadline;
        bool stopping;
        bool stopped;     /* gave up */
        char reason[512]; /* why; or why the start failed */
    } locked;
};

/* child.c. Starts one; errno. */
int fw_child_start(
    struct fw_process *process,
    struct fw_generation *generation,
    struct fw_child **ret_child);
/* Frees it; its process has been waited for. */
void fw_child_free(struct fw_child *child);
void fw_child_signal(const struct fw_child *child, int number);
/* Changes its state, and the counts; under locked.mutex. */
void fw_child_set_state(struct fw_child *child, enum fw_child_state state);
/* Sends without a body. False: it is dead or dying. */
bool fw_child_send(struct fw_child *child, const struct fw_packet *packet);

enum fw_sent {
    FW_SENT,
    FW_SENT_DEAD,     /* nobody there */
    FW_SENT_TOO_LARGE /* for the area, or for the memory that there is */
};
/* Whoever gave it the job; clears `sending` as the last thing. */
enum fw_sent fw_child_send_job(struct fw_child *child, const struct fw_job *job, uint64_t id);
/* Resident memory in bytes, 0 = not known. */
uint64_t fw_child_rss(struct fw_child *child);

/* reason.c. Why a child ended, in words: `status` as waitid has it (CLD_... in `code`). */
void fw_reason_crash(struct fw_child *child, const struct fw_packet *packet);
void fw_reason_end(
    const struct fw_child *child,
    int code,
    int status,
    bool oom,
    char *ret_text,
    size_t size);
/* process.c. Hands out what waits to those that are idle. */
void fw_process_dispatch(struct fw_process *process);
void fw_process_poke(struct fw_process *process);

/* ---- The manager's (all on its thread) ---- */

/* publish.c: what handlers publish and count. Parts come in order, and only of the run that is
 * under way; what does not fit is rubbish. */
void fw_publish_part(struct fw_child *child, const struct fw_packet *packet);
void fw_publish_count(struct fw_child *child, const struct fw_packet *packet);
/* What the run has published; the caller's. False: a part is missing. */
bool fw_publish_take(struct fw_child *child, struct fw_outgoing **ret_list);
void fw_publish_drop(struct fw_child *child);

/* manager.c: the loop, what children say, and what time demands. */
void *fw_manager_main(void *arg);

/* life.c: starts, ends, generations. */
/* A child has said READY. */
void fw_life_ready(struct fw_child *child);
/* Its process has ended. False: someone is still sending to it; try again soon. */
bool fw_life_ended(struct fw_child *child);
/* Forgets one that SIGKILL does not end (it waits inside the kernel). */
void fw_life_abandon(struct fw_child *child);
/* Makes it take work, or lets it go: it has become free. */
void fw_life_free(struct fw_child *child);
/* It is late, and may never return: its place is another's from now on. False: too many are. */
bool fw_life_replace(struct fw_child *child);
/* Tells it to end, by CLOSE; it is idle. Under locked.mutex, and not in the list of idle ones. */
void fw_life_close(struct fw_child *child);
/* SIGKILL. */
void fw_life_kill(struct fw_child *child);
/* It made no sense: SIGKILL; `fault` says what it did. */
void fw_life_rubbish(struct fw_child *child, const char *fault);
/* Starts what is missing; the time when there is more to start. */
int64_t fw_life_maintain(struct fw_process *process, int64_t now);
/* The pause before another one is started, after so many in a row that handled nothing: doubles, up
 * to 30 s. Pure. */
int64_t fw_life_backoff(int64_t first, uint32_t deaths);
/* Looks whether the file is a new one. */
void fw_life_refresh(struct fw_process *process);

/* Under locked.mutex: takes it out of the list of idle ones, if it is there. */
void fw_child_unlist(struct fw_child *child);

#define FW_LOG_CHILD(child, event, text, ...)                  \
    FW_LOG(                                                    \
        event, text, fw_str("queue", (child)->process->queue), \
        fw_str("handler", (child)->process->handler), fw_int("pid", (child)->pid), __VA_ARGS__)

#endif

/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * Handler plugins: finding and loading a shared object, and binding the options of one queue to it.
 * Called by the supervisor at start and reload, by `check`, `handlers` and `try`; never on the path
 * of a message.
 *
 * A file is looked at before it is loaded: its ELF headers and its descriptor are read from the
 * bytes (elf.h), so that a foreign, broken or newer file is refused, with the field and both values
 * named, before any code of it runs. Files stay loaded for the life of the process; a file that
 * took the place of a loaded one (by rename, as mv, install and linkers do) is loaded beside it,
 * under a longer spelling of its path. One that was written over in place is refused: the code that
 * runs has changed under it.
 *
 * Thread: any; the objects are immutable once made.
 */
#ifndef FW_LOADER_H
#define FW_LOADER_H

#include "config/arena.h"
#include "config/config.h"
#include "fila/client.h"
#include "fila/plugin.h"

/* A loaded shared object. */
struct fw_plugin_file;

struct fw_counters;

/* A handler with its options bound: what an executor runs. Read-only for everyone else. */
struct fw_plugin {
    fila_plugin table; /* this host's layout: what an older plugin does not have is zero */
    const char *path;  /* "" for one that is compiled in */
    const fila_option_value *values; /* one for each of table.options */
    const char *const *environment;  /* for children of the handler; ended by NULL */
    struct fw_counters *counters;    /* counters.h: those of its own; any thread */
    struct fw_arena *memory;
};

/* Opens a plugin. `name` with a '/' is a path; else a shipped handler's name, searched as NAME.so
 * in the folders of fw_plugin_search_path. Errors, all with the path, the field and both values
 * where there are such: FILA_INVALID_ARGUMENT; FILA_DENIED (file or folder writable by others, or
 * owned by a stranger); FILA_NO_MEMORY. */
FILA_NODISCARD fila_status
fw_plugin_open(const char *name, struct fw_plugin_file **ret_file, fila_error *reterr);

/* As fw_plugin_open, but nothing is loaded and no code of the file runs: whether it may be used,
 * and its path (PATH_MAX bytes). */
FILA_NODISCARD fila_status fw_plugin_inspect(const char *name, char *ret_path, fila_error *reterr);

/* As fw_plugin_open of the file that descriptor `fd` has open, which may have been replaced or
 * deleted since; `path` is where it was. `fd` stays the caller's. */
FILA_NODISCARD fila_status fw_plugin_open_descriptor(
    int fd,
    const char *path,
    struct fw_plugin_file **ret_file,
    fila_error *reterr);

/* The same of a descriptor in this program (tests, handlers that are compiled in); it outlives the
 * file. */
FILA_NODISCARD fila_status fw_plugin_adopt(
    const fila_plugin *descriptor,
    struct fw_plugin_file **ret_file,
    fila_error *reterr);

/* Whether another file is in its place by now (by device, inode, size and time of change); not one
 * that is gone. What is opened then is the new file, loaded beside the old one, which stays. */
bool fw_plugin_replaced(const struct fw_plugin_file *file);

/* Frees the object; takes NULL. The code stays loaded. Plugins bound from it stay valid. */
void fw_plugin_close(struct fw_plugin_file *file);

/* Its descriptor in this host's layout, options included; and its path, "" for one that is compiled
 * in. They live as long as the file. */
const fila_plugin *fw_plugin_table(const struct fw_plugin_file *file);
const char *fw_plugin_path(const struct fw_plugin_file *file);

/* The folders that shipped handlers are searched in, joined by ':': $FILA_WORKER_PLUGIN_PATH, then
 * `plugins` and `../lib/fila-worker` beside this program, then where it was to be installed. */
void fw_plugin_search_path(char *ret_path, size_t size);

/* Calls `found` with the name and the path of each shipped handler, sorted by name; of several of
 * one name the one that fw_plugin_open would take. */
void fw_plugin_each(void (*found)(void *user, const char *name, const char *path), void *user);

/* What is wrong with the options of one handler; all of it, not only the first. `key` of an item is
 * the option's name, `file` may be "". */
struct fw_plugin_problems {
    struct fw_diagnostic *items;
    size_t count;
    struct fw_arena arena;
};

void fw_plugin_problems_free(struct fw_plugin_problems *problems);

struct fw_plugin_binding {
    const struct fw_handler_option *options;
    size_t option_count;
    /* Names of environment variables that the handler's children must not see, besides
     * FILA_API_KEY*, FILA_WORKER_API_KEY and FILA_TLS_KEY. */
    const char *const *secret_variables;
    size_t secret_variable_count;
};

/* Checks options against the plugin's table and makes a handler of it. FILA_INVALID_ARGUMENT with
 * at least one problem; FILA_NO_MEMORY. The option named "plugin" is not to be among them. */
FILA_NODISCARD fila_status fw_plugin_bind(
    const struct fw_plugin_file *file,
    const struct fw_plugin_binding *binding,
    struct fw_plugin **ret_plugin,
    struct fw_plugin_problems *ret_problems);
void fw_plugin_free(struct fw_plugin *plugin); /* takes NULL */

/* "string", "bool", "duration", ... as `handlers` prints it; "unknown" for others. */
const char *fw_option_type_name(uint32_t type);
/* "1 to 100", "100ms to 10s"; "" when it has no range. */
void fw_option_range(const fila_option *option, char *ret_text, size_t size);

#endif

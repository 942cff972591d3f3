/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "plugin/loader.h"

#include "base/error.h"
#include "config/table.h"
#include "plugin/elf.h"
#include "plugin/lastwords.h"
#include "plugin/options.h"
#include "plugin/search.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_LIMIT (INT64_C(1) << 29)

/* Which file it was, to see that it is another by now. */
struct identity {
    dev_t device;
    ino_t inode;
    off_t size;
    struct timespec modified;
};

struct fw_plugin_file {
    struct identity identity;
    fila_plugin table;
    fila_option *options;
    char *path;
};

/* Every refusal ends with the path, the longest part and the first to be cut off. */
static fila_status refuse(
    fila_error *reterr,
    fila_status status,
    const char *what,
    const char *path)
{
    return fila_fail(reterr, status, "plugin refused: %s (%s)", what, path);
}

static const char *errno_text(int error, char *ret_text, size_t size)
{
    return strerror_r(error, ret_text, size); /* GNU's */
}

/* ---- Before it is loaded ---- */

/* Whoever may write a file that we load may do all that we may. */
static fila_status check_owner(const struct stat *st, const char *path, fila_error *reterr)
{
    char text[FW_ELF_ERROR_SIZE];
    const char *kind = S_ISDIR(st->st_mode) ? "folder" : "file";
    if (st->st_mode & S_IWOTH) {
        (void)snprintf(
            text, sizeof text, "the %s may be written by everybody: its mode is %04o", kind,
            (unsigned)st->st_mode & 07777u);
        return refuse(reterr, FILA_DENIED, text, path);
    }
    if (st->st_uid != 0 && st->st_uid != geteuid()) {
        (void)snprintf(
            text, sizeof text, "the %s belongs to user %u, neither root nor this one, %u", kind,
            (unsigned)st->st_uid, (unsigned)geteuid());
        return refuse(reterr, FILA_DENIED, text, path);
    }
    return FILA_OK;
}

static fila_status check_folder(const char *path, fila_error *reterr)
{
    char folder[PATH_MAX];
    struct stat st;
    int len = (int)(strrchr(path, '/') - path); /* it is absolute */
    (void)snprintf(folder, sizeof folder, "%.*s", len ? len : 1, path);
    if (stat(folder, &st)) {
        return refuse(reterr, FILA_INVALID_ARGUMENT, "its folder cannot be read", path);
    }
    return check_owner(&st, folder, reterr);
}

static fila_status read_all(int fd, size_t size, uint8_t **ret_bytes, size_t *ret_len)
{
    uint8_t *bytes = malloc(size ? size : 1);
    size_t len = 0;
    ssize_t got = 1;
    if (!bytes) {
        return FILA_NO_MEMORY;
    }
    while (len < size && (got = read(fd, bytes + len, size - len)) != 0) {
        if (got < 0 && errno != EINTR) {
            break;
        }
        len += got > 0 ? (size_t)got : 0;
    }
    *ret_bytes = bytes;
    *ret_len = len;
    return FILA_OK;
}

static struct identity identity_of(const struct stat *st)
{
    return (struct identity){st->st_dev, st->st_ino, st->st_size, st->st_mtim};
}

static bool same_file(const struct identity *a, const struct identity *b)
{
    return a->device == b->device && a->inode == b->inode;
}

static bool same_content(const struct identity *a, const struct identity *b)
{
    return same_file(a, b) && a->size == b->size && a->modified.tv_sec == b->modified.tv_sec &&
           a->modified.tv_nsec == b->modified.tv_nsec;
}

static fila_status read_file(
    const char *path,
    uint8_t **ret_bytes,
    size_t *ret_len,
    struct identity *ret_identity,
    fila_error *reterr)
{
    struct stat st;
    char text[FW_ELF_ERROR_SIZE];
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0 || fstat(fd, &st)) {
        const char *why = errno_text(errno, text, sizeof text);
        if (fd >= 0) {
            (void)close(fd);
        }
        return refuse(reterr, FILA_INVALID_ARGUMENT, why, path);
    }
    fila_status status = FILA_OK;
    if (!S_ISREG(st.st_mode)) {
        status = refuse(reterr, FILA_INVALID_ARGUMENT, "it is no regular file", path);
    } else if (st.st_size > FILE_LIMIT) {
        status = refuse(reterr, FILA_INVALID_ARGUMENT, "it is over 512 MiB", path);
    } else {
        status = check_owner(&st, path, reterr);
    }
    if (!status && read_all(fd, (size_t)st.st_size, ret_bytes, ret_len)) {
        status = refuse(reterr, FILA_NO_MEMORY, "out of memory", path);
    }
    *ret_identity = identity_of(&st);
    (void)close(fd);
    return status;
}

static fila_status inspect(
    const char *path,
    struct fw_descriptor_head *ret_head,
    struct identity *ret_identity,
    fila_error *reterr)
{
    uint8_t *bytes = NULL;
    size_t len = 0;
    char text[FW_ELF_ERROR_SIZE] = "";
    fila_status status = read_file(path, &bytes, &len, ret_identity, reterr);
    if (status) {
        return status;
    }
    if (!fw_elf_descriptor(bytes, len, ret_head, text) || !fw_descriptor_check(ret_head, text)) {
        status = refuse(reterr, FILA_INVALID_ARGUMENT, text, path);
    }
    free(bytes);
    return status;
}

/* ---- From its layout to ours ---- */

static fila_status copy_options(
    const fila_plugin *theirs,
    struct fw_plugin_file *file,
    fila_error *reterr)
{
    const char *from = (const char *)theirs->options;
    uint32_t count = theirs->option_count;
    file->options = calloc(count ? count : 1, sizeof *file->options);
    if (!file->options) {
        return refuse(reterr, FILA_NO_MEMORY, "out of memory", file->path);
    }
    if (count && !from) {
        return refuse(
            reterr, FILA_INVALID_ARGUMENT, "options: it is NULL, and option_count is not 0",
            file->path);
    }
    for (uint32_t i = 0; i < count; i++) {
        memcpy(&file->options[i], from + (size_t)i * theirs->option_size, theirs->option_size);
    }
    file->table.options = file->options;
    return FILA_OK;
}

static fila_status check_table(const fila_plugin *table, const char *path, fila_error *reterr)
{
    char text[FW_ELF_ERROR_SIZE];
    if (!table->name || !*table->name || strchr(table->name, '/')) {
        return refuse(reterr, FILA_INVALID_ARGUMENT, "name: it is missing or has a '/'", path);
    }
    if (!table->handle) {
        return refuse(reterr, FILA_INVALID_ARGUMENT, "handle: it is NULL, and required", path);
    }
    for (uint32_t i = 0; i < table->option_count; i++) {
        if (!fw_option_check(table, i, text, sizeof text)) {
            return refuse(reterr, FILA_INVALID_ARGUMENT, text, path);
        }
    }
    return FILA_OK;
}

/* `theirs` has passed fw_descriptor_check. */
static fila_status make_file(
    const fila_plugin *theirs,
    const char *path,
    struct fw_plugin_file **ret_file,
    fila_error *reterr)
{
    fila_status status = FILA_NO_MEMORY;
    struct fw_plugin_file *file = calloc(1, sizeof *file);
    if (file) {
        file->path = strdup(path);
    }
    if (!file || !file->path) {
        (void)refuse(reterr, status, "out of memory", path);
        goto cleanup;
    }
    memcpy(&file->table, theirs, theirs->plugin_size);
    file->table.plugin_size = sizeof(fila_plugin);
    file->table.option_size = sizeof(fila_option);
    file->table.version = file->table.version ? file->table.version : "";
    file->table.description = file->table.description ? file->table.description : "";
    status = copy_options(theirs, file, reterr);
    status = status ? status : check_table(&file->table, path, reterr);
    if (!status) {
        *ret_file = file;
        file = NULL;
    }
cleanup:
    fw_plugin_close(file);
    return status;
}

/* ---- Loading ---- */

/* What this process has loaded, for good: the dynamic loader knows a file by its path, so one that
 * took the place of another is loaded under a longer spelling of the same path. */
struct generation {
    struct generation *next;
    struct identity identity;
    unsigned number; /* of its path; 0 = the first */
    char path[];
};

static struct {
    pthread_mutex_t lock;
    struct generation *newest;
} loaded = {PTHREAD_MUTEX_INITIALIZER, NULL};

/* "/a/b.so" as "/a/././b.so": the third file of that path. */
static char *spell(const char *path, unsigned number)
{
    size_t folder = (size_t)(strrchr(path, '/') - path) + 1;
    char *spelled = malloc(strlen(path) + 2 * (size_t)number + 1);
    if (spelled) {
        char *at = mempcpy(spelled, path, folder);
        for (unsigned i = 0; i < number; i++) {
            *at++ = '.';
            *at++ = '/';
        }
        memcpy(at, path + folder, strlen(path + folder) + 1);
    }
    return spelled;
}

/* Under the lock. FILA_DENIED: what is loaded was written over. */
static fila_status find_generation(
    const char *path,
    const struct identity *identity,
    unsigned *ret_number,
    bool *ret_known)
{
    *ret_number = 0;
    *ret_known = false;
    for (const struct generation *g = loaded.newest; g; g = g->next) {
        if (strcmp(g->path, path) != 0) {
            continue;
        }
        if (same_file(&g->identity, identity)) {
            *ret_number = g->number;
            *ret_known = true;
            return same_content(&g->identity, identity) ? FILA_OK : FILA_DENIED;
        }
        *ret_number = g->number >= *ret_number ? g->number + 1 : *ret_number;
    }
    return FILA_OK;
}

static fila_status remember(const char *path, const struct identity *identity, unsigned number)
{
    struct generation *g = malloc(sizeof *g + strlen(path) + 1);
    if (!g) {
        return FILA_NO_MEMORY;
    }
    g->identity = *identity;
    g->number = number;
    memcpy(g->path, path, strlen(path) + 1);
    g->next = loaded.newest;
    loaded.newest = g;
    return FILA_OK;
}

/* Under the lock. */
static fila_status load_generation(
    const char *path,
    const struct identity *identity,
    void **ret_handle,
    fila_error *reterr)
{
    unsigned number = 0;
    bool known = false;
    if (find_generation(path, identity, &number, &known)) {
        return refuse(
            reterr, FILA_INVALID_ARGUMENT,
            "it was written over while it is loaded; put a new file in its place (mv, install)",
            path);
    }
    char *spelled = spell(path, number);
    if (!spelled) {
        return refuse(reterr, FILA_NO_MEMORY, "out of memory", path);
    }
    /* For good: its threads may be anywhere, and its strings are in our tables. */
    const struct fw_doing doing = {.what = "load", .plugin = path};
    fw_last_words_doing(&doing);
    *ret_handle = dlopen(spelled, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    fw_last_words_doing(NULL);
    free(spelled);
    if (!*ret_handle) {
        const char *why = dlerror(); // NOLINT(concurrency-mt-unsafe): per thread in glibc
        return refuse(reterr, FILA_INVALID_ARGUMENT, why ? why : "it cannot be loaded", path);
    }
    if (!known && remember(path, identity, number)) {
        return refuse(reterr, FILA_NO_MEMORY, "out of memory", path);
    }
    return FILA_OK;
}

static fila_status load(
    const char *path,
    const struct identity *identity,
    const struct fw_descriptor_head *head,
    struct fw_plugin_file **ret_file,
    fila_error *reterr)
{
    void *handle = NULL;
    (void)pthread_mutex_lock(&loaded.lock);
    fila_status status = load_generation(path, identity, &handle, reterr);
    (void)pthread_mutex_unlock(&loaded.lock);
    if (status) {
        return status;
    }
    const fila_plugin *theirs = dlsym(handle, FILA_PLUGIN_SYMBOL);
    if (!theirs || memcmp(theirs, head, sizeof *head) != 0) {
        return refuse(
            reterr, FILA_INVALID_ARGUMENT,
            "its descriptor is not what its file says; was it replaced while it is loaded?", path);
    }
    status = make_file(theirs, path, ret_file, reterr);
    if (!status) {
        (*ret_file)->identity = *identity;
    }
    return status;
}

bool fw_plugin_replaced(const struct fw_plugin_file *file)
{
    struct stat st;
    if (!*file->path || stat(file->path, &st)) {
        return false;
    }
    struct identity now = identity_of(&st);
    return !same_content(&file->identity, &now);
}

struct guess {
    const char *name;
    char near[64];
};

static void compare(void *user, const char *name, const char *path)
{
    struct guess *guess = user;
    (void)path;
    if (!*guess->near && fw_is_near(guess->name, name)) {
        (void)snprintf(guess->near, sizeof guess->near, "%s", name);
    }
}

static fila_status not_found(const char *name, fila_error *reterr)
{
    struct guess guess = {.name = name};
    fw_plugin_each(compare, &guess);
    if (*guess.near) {
        return fila_fail(
            reterr, FILA_INVALID_ARGUMENT,
            "there is no handler of the name \"%s\"; did you mean %s?", name, guess.near);
    }
    return fila_fail(
        reterr, FILA_INVALID_ARGUMENT,
        "there is no handler of the name \"%s\"; `fila-worker handlers` lists them, and a file needs "
        "a '/' in its path, as in \"./%s\"",
        name, name);
}

static fila_status find(const char *name, char ret_path[PATH_MAX], fila_error *reterr)
{
    char found[PATH_MAX];
    char text[FW_ELF_ERROR_SIZE];
    if (!strchr(name, '/')) {
        if (!fw_plugin_search(name, found, sizeof found)) {
            return not_found(name, reterr);
        }
        name = found;
    }
    if (!realpath(name, ret_path)) {
        return refuse(reterr, FILA_INVALID_ARGUMENT, errno_text(errno, text, sizeof text), name);
    }
    return FILA_OK;
}

fila_status fw_plugin_open(const char *name, struct fw_plugin_file **ret_file, fila_error *reterr)
{
    char path[PATH_MAX];
    struct fw_descriptor_head head;
    struct identity identity = {0};
    fila_status status = find(name, path, reterr);
    status = status ? status : check_folder(path, reterr);
    status = status ? status : inspect(path, &head, &identity, reterr);
    return status ? status : load(path, &identity, &head, ret_file, reterr);
}

fila_status fw_plugin_inspect(const char *name, char *ret_path, fila_error *reterr)
{
    struct fw_descriptor_head head;
    struct identity identity = {0};
    fila_status status = find(name, ret_path, reterr);
    status = status ? status : check_folder(ret_path, reterr);
    return status ? status : inspect(ret_path, &head, &identity, reterr);
}

fila_status fw_plugin_open_descriptor(
    int fd,
    const char *path,
    struct fw_plugin_file **ret_file,
    fila_error *reterr)
{
    char name[32];
    struct fw_descriptor_head head;
    struct identity identity = {0};
    (void)snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
    fila_status status = inspect(name, &head, &identity, reterr);
    status = status ? status : load(name, &identity, &head, ret_file, reterr);
    if (!status) {
        char *known = strdup(path);
        if (known) {
            free((*ret_file)->path);
            (*ret_file)->path = known;
        }
    }
    return status;
}

fila_status fw_plugin_adopt(
    const fila_plugin *descriptor,
    struct fw_plugin_file **ret_file,
    fila_error *reterr)
{
    struct fw_descriptor_head head;
    char text[FW_ELF_ERROR_SIZE] = "";
    memcpy(&head, descriptor, sizeof head);
    if (!fw_descriptor_check(&head, text)) {
        return refuse(reterr, FILA_INVALID_ARGUMENT, text, "compiled in");
    }
    return make_file(descriptor, "", ret_file, reterr);
}

void fw_plugin_close(struct fw_plugin_file *file)
{
    if (file) {
        free(file->options);
        free(file->path);
        free(file);
    }
}

const fila_plugin *fw_plugin_table(const struct fw_plugin_file *file)
{
    return &file->table;
}

const char *fw_plugin_path(const struct fw_plugin_file *file)
{
    return file->path;
}

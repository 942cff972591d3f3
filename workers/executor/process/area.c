/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "area.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef F_SEAL_FUTURE_WRITE
#    define F_SEAL_FUTURE_WRITE 0x0010 /* Linux 5.1 */
#endif

static void set_parts(struct fw_area *area, void *base)
{
    area->control = base;
    area->body = (uint8_t *)base + FW_AREA_BODY;
}

int fw_area_new(struct fw_area *ret_area)
{
    struct fw_area area = {.fd = memfd_create("fila-payload", MFD_CLOEXEC | MFD_ALLOW_SEALING)};
    void *base = MAP_FAILED;
    if (area.fd >= 0 && !ftruncate(area.fd, (off_t)FW_AREA_SIZE)) {
        base = mmap(NULL, FW_AREA_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, area.fd, 0);
    }
    if (base == MAP_FAILED) {
        int error = errno;
        if (area.fd >= 0) {
            (void)close(area.fd);
        }
        return error;
    }
    set_parts(&area, base);
    int seals = F_SEAL_SHRINK | F_SEAL_GROW;
    if (fcntl(area.fd, F_ADD_SEALS, seals | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL)) {
        (void)fcntl(area.fd, F_ADD_SEALS, seals | F_SEAL_SEAL); /* an older kernel */
    }
    *ret_area = area;
    return 0;
}

bool fw_area_map(int fd, struct fw_area *ret_area)
{
    void *base = mmap(NULL, FW_AREA_SIZE, PROT_READ, MAP_SHARED, fd, 0);
    if (base == MAP_FAILED) {
        return false;
    }
    ret_area->fd = -1;
    set_parts(ret_area, base);
    return true;
}

void fw_area_fini(struct fw_area *area)
{
    if (area->control) {
        (void)munmap(area->control, FW_AREA_SIZE);
        area->control = NULL;
    }
    if (area->fd >= 0) {
        (void)close(area->fd);
        area->fd = -1;
    }
}

/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "journal/boot.h"

#include "base/clock.h"

#include <ctype.h>
#include <fcntl.h>
#include <unistd.h>

static uint8_t digit(char c)
{
    return (uint8_t)(isdigit((unsigned char)c) ? c - '0' : (c | 0x20) - 'a' + 10);
}

/* Hexadecimal digits, with anything between them. */
static void parse(const char *text, uint8_t ret_id[FW_BOOT_SIZE])
{
    int digits = 0;
    for (; *text != '\0' && digits < 2 * FW_BOOT_SIZE; text++) {
        if (isxdigit((unsigned char)*text)) {
            uint8_t *byte = &ret_id[digits / 2];
            *byte = (uint8_t)(*byte << 4 | digit(*text));
            digits++;
        }
    }
}

struct fw_boot fw_boot_now(void)
{
    struct fw_boot boot = {.wall_offset = fila_wall_ms() * FILA_MS - fila_now()};
    char text[64] = "";
    int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        ssize_t n = read(fd, text, sizeof(text) - 1);
        text[n > 0 ? n : 0] = '\0';
        (void)close(fd);
    }
    parse(text, boot.id);
    return boot;
}

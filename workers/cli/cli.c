/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "cli.h"

#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>

FILA_PRINTF(2, 0) static void complain(const char *verb, const char *format, va_list args)
{
    (void)fprintf(stderr, "fila-worker %s: ", verb);
    (void)vfprintf(stderr, format, args);
    (void)fputc('\n', stderr);
}

int fw_cli_usage(const char *verb, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    complain(verb, format, args);
    va_end(args);
    (void)fprintf(stderr, "Try: fila-worker %s --help\n", verb);
    return FW_EXIT_USAGE;
}

int fw_cli_fail(const char *verb, int status, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    complain(verb, format, args);
    va_end(args);
    return status;
}

int fw_cli_bad_option(const char *verb, int answer, char **argv)
{
    if (answer == ':') {
        return fw_cli_usage(verb, "option %s needs a value", argv[optind - 1]);
    }
    if (optopt != 0 && argv[optind - 1][1] != '-') {
        return fw_cli_usage(verb, "unknown option -%c", optopt);
    }
    if (optopt != 0) {
        return fw_cli_usage(verb, "option %s takes no value", argv[optind - 1]);
    }
    return fw_cli_usage(verb, "unknown or ambiguous option %s", argv[optind - 1]);
}

int fw_cli_finish(const char *verb, int status)
{
    if (fflush(stdout) == 0 && ferror(stdout) == 0) {
        return status;
    }
    if (errno == EPIPE) {
        return status != 0 ? status : FW_EXIT_FAILED;
    }
    return fw_cli_fail(verb, FW_EXIT_FAILED, "cannot write the output: %s", strerrordesc_np(errno));
}

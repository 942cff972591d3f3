/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * The files of plugins/template, inside the program, so that `new` works wherever that is.
 */
#ifndef FW_CLI_TEMPLATE_H
#define FW_CLI_TEMPLATE_H

struct fw_template {
    const char *name; /* NULL ends the list */
    const char *text;
};

extern const struct fw_template FW_TEMPLATES[];

#endif

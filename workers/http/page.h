/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * The page for people, made from page/ by embed.cmake, and its Content-Security-Policy.
 */
#ifndef FW_HTTP_PAGE_H
#define FW_HTTP_PAGE_H

#include <stddef.h>

extern const unsigned char fw_page_data[];
extern const size_t fw_page_len;
extern const char fw_page_policy[];

#endif

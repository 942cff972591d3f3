/* SPDX-License-Identifier: AGPL-3.0-or-later */
#include "base/error.h"
#include "grpc_url.h"

#include <stdio.h>
#include <stdlib.h>

/* Redirects in a row that are followed. */
#define MOST_REDIRECTS 3

struct endpoint {
    char *url;
    bool failed;
    int64_t again_at; /* of a failed one */
    fila_backoff backoff;
};

struct fila_endpoints {
    struct endpoint *all;
    size_t count;
    size_t turn; /* where to look first */
    unsigned redirects;
    char leader[FILA_LEADER_TEXT + 16]; /* a URL; "" = none was named */
};

void fila_endpoints_free(fila_endpoints *endpoints)
{
    if (endpoints) {
        for (size_t i = 0; endpoints->all && i < endpoints->count; i++) {
            free(endpoints->all[i].url);
        }
        free(endpoints->all);
        free(endpoints);
    }
}

static fila_status check_urls(const char *const *urls, size_t count, fila_error *reterr)
{
    if (!count) {
        return fila_fail(reterr, FILA_INVALID_ARGUMENT, "no broker URL");
    }
    for (size_t i = 0; i < count; i++) {
        if (!urls[i] || !urls[i][0]) {
            return fila_fail(
                reterr, FILA_INVALID_ARGUMENT, "broker URL %zu of %zu is empty", i + 1, count);
        }
    }
    return FILA_OK;
}

/* NOLINTNEXTLINE(readability-function-size): options of a small object */
fila_status fila_endpoints_new(
    const char *const *urls,
    size_t count,
    uint32_t first_ms,
    uint32_t max_ms,
    uint64_t seed,
    fila_endpoints **ret_endpoints,
    fila_error *reterr)
{
    fila_status status = check_urls(urls, count, reterr);
    if (status) {
        return status;
    }
    fila_endpoints *endpoints = calloc(1, sizeof *endpoints);
    bool complete = endpoints && (endpoints->all = calloc(count, sizeof *endpoints->all));
    for (size_t i = 0; complete && i < count; i++) {
        struct endpoint *endpoint = &endpoints->all[i];
        endpoints->count = i + 1;
        fila_backoff_init(&endpoint->backoff, first_ms, max_ms, 50, seed ? seed + i : 0);
        complete = (endpoint->url = strdup(urls[i])) != NULL;
    }
    if (!complete) {
        fila_endpoints_free(endpoints);
        return fila_fail(reterr, FILA_NO_MEMORY, "%zu broker URLs", count);
    }
    *ret_endpoints = endpoints;
    return FILA_OK;
}

static uint32_t wait_of(const struct endpoint *endpoint, int64_t now_ms)
{
    if (!endpoint->failed || endpoint->again_at <= now_ms) {
        return 0;
    }
    int64_t wait = endpoint->again_at - now_ms;
    return wait < UINT32_MAX ? (uint32_t)wait : UINT32_MAX;
}

const char *fila_endpoints_pick(fila_endpoints *endpoints, int64_t now_ms, uint32_t *ret_wait_ms)
{
    const struct endpoint *best = &endpoints->all[endpoints->turn];
    uint32_t least = wait_of(best, now_ms);
    if (endpoints->leader[0]) {
        *ret_wait_ms = 0;
        return endpoints->leader;
    }
    for (size_t i = 1; i < endpoints->count; i++) {
        const struct endpoint *endpoint = &endpoints->all[(endpoints->turn + i) % endpoints->count];
        uint32_t wait = wait_of(endpoint, now_ms);
        if (wait < least) {
            best = endpoint;
            least = wait;
        }
    }
    *ret_wait_ms = least;
    return best->url;
}

static struct endpoint *find(const fila_endpoints *endpoints, const char *url)
{
    for (size_t i = 0; i < endpoints->count; i++) {
        if (!strcmp(endpoints->all[i].url, url)) {
            return &endpoints->all[i];
        }
    }
    return NULL;
}

/* The leader stays picked while it works; of the list, the one that worked has its turn first. */
void fila_endpoints_worked(fila_endpoints *endpoints, const char *url)
{
    struct endpoint *endpoint = find(endpoints, url);
    endpoints->redirects = 0;
    if (strcmp(url, endpoints->leader) != 0) {
        endpoints->leader[0] = '\0';
    }
    if (endpoint) {
        endpoint->failed = false;
        fila_backoff_reset(&endpoint->backoff);
        endpoints->turn = (size_t)(endpoint - endpoints->all);
    }
}

void fila_endpoints_failed(fila_endpoints *endpoints, const char *url, int64_t now_ms)
{
    struct endpoint *endpoint = find(endpoints, url);
    endpoints->redirects = 0;
    if (endpoint) {
        endpoint->failed = true;
        endpoint->again_at = now_ms + fila_backoff_next(&endpoint->backoff);
        endpoints->turn = ((size_t)(endpoint - endpoints->all) + 1) % endpoints->count;
    }
    if (!strcmp(url, endpoints->leader)) { /* after the last use of url, which may be this */
        endpoints->leader[0] = '\0';
    }
}

bool fila_endpoints_redirect(fila_endpoints *endpoints, const char *from_url, const char *leader)
{
    const char *slashes = strstr(from_url, "://");
    char url[sizeof endpoints->leader];
    if (!slashes || endpoints->redirects >= MOST_REDIRECTS ||
        !fg_is_host_port(fila_view_of(leader))) {
        return false;
    }
    int len = snprintf(url, sizeof url, "%.*s%s", (int)(slashes + 3 - from_url), from_url, leader);
    if (len < 0 || (size_t)len >= sizeof url || !strcmp(url, from_url)) {
        return false;
    }
    endpoints->redirects++;
    memcpy(endpoints->leader, url, sizeof url);
    return true;
}

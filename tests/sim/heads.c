/* SPDX-License-Identifier: MIT */
/* The lines of heads that the core tells: those that were sent, in order, once each, but for what lets somebody in. */
#include "sim.h"

#include <string.h>
#include <strings.h>

#if MINIPROXY_WITH_HEADS

#define MARK "[...]"

static bool begins(const char *line, size_t len, const char *name)
{
    return len >= strlen(name) && strncasecmp(line, name, strlen(name)) == 0;
}

static void see_request_line(struct exchange *ex, const char *line, size_t len)
{
    const char *sent = ex->head + ex->told, *end = ex->head + ex->head_len, *next;
    bool hides = len >= sizeof MARK - 1 && memcmp(line + len - (sizeof MARK - 1), MARK, sizeof MARK - 1) == 0;
    if (hides) len -= sizeof MARK - 1;
    while (ex->told == 0 && end - sent >= 2 && sent[0] == '\r' && line[0] != '\r') sent += 2;
    REQUIRE(PROPERTY_HEADS, len <= (size_t)(end - sent) && memcmp(line, sent, len) == 0,
            "request %u: %.*s is told, which was not sent there", ex->id, (int)len, line);
    REQUIRE(PROPERTY_HEADS, !begins(sent, (size_t)(end - sent), "Proxy-Authorization:") || hides || len <= 22,
            "request %u: a login is told", ex->id);
    next = memchr(sent + (len > 0 ? len - 1 : 0), '\n', (size_t)(end - sent) - (len > 0 ? len - 1 : 0));
    if (next == NULL) next = end - 1;
    ex->told_hidden += hides;
    ex->told_part = !hides && (size_t)(next - 1 - sent) != len;
    ex->told = (uint32_t)(next + 1 - ex->head);
}

static void see_response_line(struct exchange *ex, const char *line, size_t len)
{
    unsigned status;
    REQUIRE(PROPERTY_HEADS, !begins(line, len, "Set-Cookie") || len <= 12 || memcmp(line + 12, MARK, len - 12) == 0,
            "request %u: a cookie is told: %.*s", ex->id, (int)len, line);
    if (len >= 12 && sscanf(line, "HTTP/1.%*1u %3u", &status) == 1) ex->told_status = (uint16_t)status;
}

static void on_head(void *app, const struct miniproxy_event *e, enum miniproxy_side side, const char *line, size_t len)
{
    struct client *cl = client_at(e->client);
    struct exchange *ex = cl != NULL ? current_exchange(cl) : NULL;
    REQUIRE(PROPERTY_HEADS, app == &world && ex != NULL, "a line for an unknown client");
    trace("%s of request %u: %.*s", side == MINIPROXY_OF_CLIENT ? "line" : "line of a response", ex->id, (int)len, line);
    if (side == MINIPROXY_OF_ORIGIN) {
        see_response_line(ex, line, len);
        return;
    }
    REQUIRE(PROPERTY_HEADS, !cl->socks, "request %u: SOCKS5 has no lines", ex->id);
    REQUIRE(PROPERTY_HEADS, !ex->told_whole && !ex->told_part, "request %u: a line behind the last one", ex->id);
    if (len > 0) {
        see_request_line(ex, line, len);
        return;
    }
    ex->told_whole = true;
    if (ex->causes[0] != 0) return;
    REQUIRE(PROPERTY_HEADS, ex->head_len - ex->told == 2, "request %u: %u octets of it are not told", ex->id,
            ex->head_len - ex->told);
    REQUIRE(PROPERTY_HEADS, ex->told_hidden == (ex->login != LOGIN_NONE), "request %u: %u lines are hidden", ex->id,
            ex->told_hidden);
}

void heads_start(void)
{
    world.config.head = on_head;
}

void heads_check_event(const struct exchange *ex, const struct miniproxy_event *e)
{
    if (e->source != MINIPROXY_BY_ORIGIN) return;
    REQUIRE(PROPERTY_HEADS, ex->told_whole || ex->client->socks, "request %u: not all of its head was told", ex->id);
    REQUIRE(PROPERTY_HEADS, ex->told_status == e->status, "request %u: status %u is told of %u", ex->id,
            ex->told_status, e->status);
}

#else

void heads_start(void)
{
}

void heads_check_event(const struct exchange *ex, const struct miniproxy_event *e)
{
    (void)ex, (void)e;
}

#endif

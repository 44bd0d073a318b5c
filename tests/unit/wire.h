/* SPDX-License-Identifier: MIT
 *
 * A client and an origin in memory around one instance, for tests of what a configuration does. Included behind
 * miniproxy.c. say() lets the client send, the origin answers every head it receives with wire.answer.
 */
#ifndef WIRE_H
#define WIRE_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef WIRE_MAX
#define WIRE_MAX 4096
#endif

struct wire_text {
    char data[WIRE_MAX];
    size_t len, read;
};

static struct {
    struct miniproxy proxy;
    struct miniproxy_conn *client, *server;
    struct wire_text to_proxy, to_client; /* the client's side */
    struct wire_text to_origin, from_origin;
    const char *answer; /* NULL: the origin is silent */
    bool pending, closed, reset, answered; /* reset: closed hard */
    bool is_full; /* the client takes nothing */
    bool at_end;  /* the client has closed */
    size_t at_most; /* octets that the client takes at once, 0: all */
    int resolve_error, connect_error;
    uint8_t listener;
    struct miniproxy_addr meant; /* family 0: its client was not diverted */
    uint32_t now_ms;
    char host[300]; /* that was resolved last */
    struct miniproxy_addr to; /* that was connected last */
    size_t offered; /* octets in the last send to it */
    unsigned connects;
    struct miniproxy_event event;
    unsigned events;
} wire;

static void wire_put(struct wire_text *t, const void *data, size_t len)
{
    if (len > sizeof t->data - 1 - t->len) abort();
    memcpy(t->data + t->len, data, len);
    t->len += len;
    t->data[t->len] = '\0';
}

static int wire_accept(void *port, struct miniproxy_conn *c, struct miniproxy_addr *peer)
{
    (void)port;
    if (!wire.pending) return MINIPROXY_AGAIN;
    wire.pending = false;
    wire.client = c;
    memset(peer, 0, sizeof *peer);
    c->listener = wire.listener;
    peer->ip[0] = 127;
    peer->family = 4;
    return MINIPROXY_OK;
}

static int wire_resolve(void *port, struct miniproxy_conn *c, const char *host, struct miniproxy_addr *out, int max)
{
    (void)port, (void)c, (void)max;
    snprintf(wire.host, sizeof wire.host, "%s", host);
    if (wire.resolve_error != 0) return wire.resolve_error;
    memset(out, 0, sizeof *out);
    out->ip[0] = 198;
    out->ip[1] = 50;
    out->family = 4;
    return 1;
}

static int wire_connect(void *port, struct miniproxy_conn *c, const struct miniproxy_addr *to)
{
    (void)port;
    wire.to = *to;
    if (wire.connect_error != 0) return wire.connect_error;
    wire.server = c;
    wire.connects++;
    wire.answered = false;
    return MINIPROXY_OK;
}

static int wire_recv(void *port, struct miniproxy_conn *c, void *buf, size_t len)
{
    struct wire_text *t = c == wire.client ? &wire.to_proxy : &wire.from_origin;
    size_t n = t->len - t->read < len ? t->len - t->read : len;
    (void)port;
    if (n == 0) return c == wire.client && wire.at_end ? MINIPROXY_EOF : MINIPROXY_AGAIN;
    memcpy(buf, t->data + t->read, n);
    t->read += n;
    return (int)n;
}

static int wire_send(void *port, struct miniproxy_conn *c, const void *buf, size_t len)
{
    (void)port;
    if (c == wire.client) wire.offered = len;
    if (c == wire.client && wire.is_full) return MINIPROXY_AGAIN;
    if (c == wire.client && wire.at_most != 0 && len > wire.at_most) len = wire.at_most;
    wire_put(c == wire.client ? &wire.to_client : &wire.to_origin, buf, len);
    if (c == wire.client || wire.answer == NULL || strstr(wire.to_origin.data, "\r\n\r\n") == NULL) return (int)len;
    wire_put(&wire.from_origin, wire.answer, strlen(wire.answer));
    miniproxy_wake(c, MINIPROXY_RD);
    return (int)len;
}

static int wire_finish(void *port, struct miniproxy_conn *c)
{
    (void)port, (void)c;
    return MINIPROXY_OK;
}

static void wire_close(void *port, struct miniproxy_conn *c, bool hard)
{
    (void)port;
    if (c == wire.client) wire.closed = true;
    if (c == wire.client) wire.reset = hard;
    else wire.from_origin.read = wire.from_origin.len;
}

#if MINIPROXY_WITH_INTERCEPTION
static int wire_meant(void *port, struct miniproxy_conn *c, struct miniproxy_addr *to)
{
    (void)port, (void)c;
    *to = wire.meant;
    return to->family != 0 ? MINIPROXY_OK : MINIPROXY_EFAIL;
}
#endif

static const struct miniproxy_port wire_port = {.accept = wire_accept,
                                                .resolve = wire_resolve,
                                                .connect = wire_connect,
                                                .recv = wire_recv,
                                                .send = wire_send,
                                                .finish = wire_finish,
#if MINIPROXY_WITH_INTERCEPTION
                                                .meant = wire_meant,
#endif
                                                .close = wire_close};

static void wire_event(void *app, const struct miniproxy_event *e)
{
    (void)app;
    wire.event = *e;
    wire.events++;
}

/* A new proxy and a new client. */
static void wire_start(struct miniproxy_config config)
{
    static const struct miniproxy_rule rules[] = {{.verdict = MINIPROXY_ALLOW}};
    static const struct miniproxy_policy policy = {.rules = rules, .rule_count = 1};
    memset(&wire, 0, sizeof wire);
    config.port = &wire_port;
    if (config.policy == NULL) config.policy = &policy;
    config.event = wire_event;
    if (!miniproxy_init(&wire.proxy, &config)) abort();
    wire.pending = true;
}

/* All that can happen now happens. */
static void wire_run(void)
{
    for (unsigned i = 0; i < 20 && miniproxy_poll(&wire.proxy, 1 + wire.now_ms) == 0; i++) {
    }
}

/* The client sends, and all that follows happens. What was sent before is forgotten. */
static void say_octets(const void *octets, size_t len)
{
    wire.to_client.len = wire.to_origin.len = 0;
    wire.to_client.data[0] = wire.to_origin.data[0] = '\0';
    wire_put(&wire.to_proxy, octets, len);
    if (wire.client != NULL) miniproxy_wake(wire.client, MINIPROXY_RD);
    wire_run();
}

static void say(const char *text)
{
    say_octets(text, strlen(text));
}

#endif

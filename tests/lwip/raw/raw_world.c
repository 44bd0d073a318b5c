/* SPDX-License-Identifier: MIT */
#include "raw_world.h"

#include <string.h>

struct miniproxy_lwip_raw raw;

static uint16_t listens; /* on all addresses */

static uint32_t now_ms(struct conformance_world *w)
{
    (void)w;
    return wire_now_ms();
}

static void wait_ms(struct conformance_world *w, uint32_t ms)
{
    (void)w;
    wire_run_us(ms > 0 ? ms * 1000u : 100u);
}

uint16_t raw_world_port(void)
{
    return listens;
}

static struct miniproxy_addr host(int family, unsigned last, uint16_t port)
{
    struct miniproxy_addr a = {.ip = {10}, .port = port, .family = (uint8_t)family};

    if (family == 6) a.ip[0] = 0xfd;
    a.ip[family == 6 ? MINIPROXY_IP_LEN - 1 : 3] = (uint8_t)last;
    return a;
}

struct miniproxy_addr raw_world_peer_at(int family, uint16_t port)
{
    return host(family, 2, port);
}

static int listen_peer(struct conformance_world *w, int family, struct miniproxy_addr *at)
{
    uint16_t port;
    int peer = peer_listen(family, &port);

    (void)w;
    *at = host(family, 2, port);
    return peer;
}

static int accept_peer(struct conformance_world *w, int listener)
{
    (void)w;
    return peer_accept(listener);
}

static int last_family = 4; /* of the peer that connected last */

static int connect_peer(struct conformance_world *w, int family)
{
    (void)w;
    last_family = family;
    return peer_connect(family, listens);
}

static struct miniproxy_addr peer_address(struct conformance_world *w, int peer)
{
    (void)w;
    return host(last_family, 2, peer_port(peer));
}

static int send_peer(struct conformance_world *w, int peer, const void *data, size_t len)
{
    (void)w;
    return peer_send(peer, data, len);
}

static int recv_peer(struct conformance_world *w, int peer, void *data, size_t len)
{
    (void)w;
    return peer_recv(peer, data, len);
}

static void finish_peer(struct conformance_world *w, int peer)
{
    (void)w;
    peer_finish(peer);
}

static void reset_peer(struct conformance_world *w, int peer)
{
    (void)w;
    peer_reset(peer);
}

static void clear(struct conformance_world *w)
{
    (void)w;
    peer_clear();
    wire_run_us(20000);
}

static struct miniproxy_addr refusing(struct conformance_world *w, int family)
{
    (void)w;
    return host(family, 2, 9);
}

static struct miniproxy_addr silent(struct conformance_world *w)
{
    (void)w;
    return host(4, 99, 80);
}

static bool own(struct conformance_world *w, unsigned index, struct miniproxy_addr *at)
{
    const struct miniproxy_addr all[] = {
        host(4, 1, listens),
        {.ip = {127, 0, 0, 1}, .port = listens, .family = 4},
        {.ip = {127, 9, 8, 7}, .port = listens, .family = 4},
        {.ip = {0}, .port = listens, .family = 4},
#if MINIPROXY_WITH_IPV6
        host(6, 1, listens),
        {.ip = {0}, .port = listens, .family = 6},
        {.ip = {[15] = 1}, .port = listens, .family = 6},
        {.ip = {[10] = 0xff, 0xff, 10, 0, 0, 1}, .port = listens, .family = 6},
        {.ip = {[10] = 0xff, 0xff, 127, 0, 0, 1}, .port = listens, .family = 6},
#endif
    };

    (void)w;
    if (index < sizeof all / sizeof all[0]) *at = all[index];
    return index < sizeof all / sizeof all[0];
}

static void hold_names(struct conformance_world *w, bool on)
{
    (void)w;
    peer_hold_names(on);
}

struct conformance_world raw_world = {
    .port = &miniproxy_lwip_raw_port,
    .port_data = &raw,
    .ipv4 = true,
    .ipv6 = MINIPROXY_WITH_IPV6,
    .many = 8,
    .room_max = 65536,
    .now_ms = now_ms,
    .wait = wait_ms,
    .peer_connect = connect_peer,
    .peer_listen = listen_peer,
    .peer_accept = accept_peer,
    .peer_address = peer_address,
    .peer_send = send_peer,
    .peer_recv = recv_peer,
    .peer_finish = finish_peer,
    .peer_reset = reset_peer,
    .clear = clear,
    .refusing = refusing,
    .silent = silent,
    .own = own,
    .known = {.host = "known.test", .address = {.ip = {10, 0, 0, 2}, .family = 4}},
    .other = {.host = "other.test", .address = {.ip = {10, 0, 0, 4}, .family = 4}},
    .missing = "missing.test",
    .failing = "failing.test",
    .both = MINIPROXY_LWIP_RAW_BOTH_FAMILIES ? "both.test" : NULL,
    .hold_names = hold_names,
    .slow = {.host = "slow.test", .address = {.ip = {10, 0, 0, 5}, .family = 4}},
};

bool raw_world_begin(uint32_t seed)
{
    const struct miniproxy_addr any = {.family = 0};
    static int proxy; /* conformance.c has no struct miniproxy */
    int port;

    wire_begin(seed);
    miniproxy_lwip_raw_init(&raw, (struct miniproxy *)(void *)&proxy);
    port = miniproxy_lwip_raw_listen(&raw, &any);
    if (port < 0) return false;
    listens = (uint16_t)port;
    return true;
}

/* SPDX-License-Identifier: MIT */
#include "conformance.h"

#include <string.h>

/* ---- In place of the core ---- */

static struct miniproxy_conn conns[MINIPROXY_CONNS];
static bool used[MINIPROXY_CONNS];
static struct conformance_world *world;
static bool accept_woken;
static const char *why; /* the first expectation of the test that was not met */
static uint8_t chunk[CONFORMANCE_CHUNK], got[CONFORMANCE_CHUNK];

bool conformance_check(bool condition, const char *expected)
{
    if (!condition && why == NULL) why = expected;
    return condition;
}

static bool check(bool condition, const char *expected)
{
    return conformance_check(condition, expected);
}

const char *conformance_why(void)
{
    return why;
}

/* The table, without its first argument. */

static int call_accept(struct miniproxy_conn *c, struct miniproxy_addr *peer)
{
    return world->port->accept(world->port_data, c, peer);
}

static int call_resolve(struct miniproxy_conn *c, const char *host, struct miniproxy_addr *out, int max)
{
    return world->port->resolve(world->port_data, c, host, out, max);
}

static int call_connect(struct miniproxy_conn *c, const struct miniproxy_addr *to)
{
    return world->port->connect(world->port_data, c, to);
}

static int call_recv(struct miniproxy_conn *c, void *data, size_t len)
{
    return world->port->recv(world->port_data, c, data, len);
}

static int call_send(struct miniproxy_conn *c, const void *data, size_t len)
{
    return world->port->send(world->port_data, c, data, len);
}

static int call_finish(struct miniproxy_conn *c)
{
    return world->port->finish(world->port_data, c);
}

void miniproxy_wake(struct miniproxy_conn *c, unsigned ready)
{
    size_t index = (size_t)(c - conns);

    check(index < MINIPROXY_CONNS && used[index], "no wake for a connection that is closed");
    check(ready != 0 && ready <= (MINIPROXY_RD | MINIPROXY_WR | MINIPROXY_BROKEN), "wakes of known bits");
    c->ready |= (uint8_t)ready;
}

void miniproxy_wake_accept(struct miniproxy *proxy)
{
    (void)proxy;
    accept_woken = true;
}

struct miniproxy_conn *conformance_take(void)
{
    for (uint16_t i = 0; i < MINIPROXY_CONNS; i++) {
        if (used[i]) continue;
        used[i] = true;
        conns[i] = (struct miniproxy_conn){.id = i, .generation = conns[i].generation, .listener = UINT8_MAX};
        return &conns[i];
    }
    return NULL;
}

void conformance_give(struct miniproxy_conn *c, bool hard)
{
    world->port->close(world->port_data, c, hard);
    c->generation++;
    used[c->id] = false;
}

bool conformance_await(const struct miniproxy_conn *c, unsigned ready)
{
    uint32_t start_ms = world->now_ms(world);

    while ((c->ready & ready) == 0) {
        if (world->now_ms(world) - start_ms > CONFORMANCE_LIMIT_MS) return false;
        world->wait(world, 10);
    }
    return true;
}

bool conformance_accept_woken(void)
{
    bool woken = accept_woken;

    accept_woken = false;
    return woken;
}

bool conformance_await_accept(void)
{
    uint32_t start_ms = world->now_ms(world);

    while (!accept_woken) {
        if (world->now_ms(world) - start_ms > CONFORMANCE_LIMIT_MS) return false;
        world->wait(world, 10);
    }
    return true;
}

int conformance_accept(struct miniproxy_conn *c, struct miniproxy_addr *peer)
{
    int result;

    do {
        accept_woken = false;
        result = call_accept(c, peer);
    } while (result == MINIPROXY_AGAIN && conformance_await_accept());
    return result == MINIPROXY_AGAIN ? CONFORMANCE_NO_WAKE : result;
}

/* Like the core: no try before a wake. */
static bool may_try(struct miniproxy_conn *c, unsigned ready, bool refused)
{
    if (refused) c->ready &= (uint8_t)~ready;
    return conformance_await(c, ready);
}

int conformance_connect(struct miniproxy_conn *c, const struct miniproxy_addr *to)
{
    int result = call_connect(c, to);

    while (result == MINIPROXY_AGAIN && may_try(c, MINIPROXY_WR, true))
        result = call_connect(c, to);
    return result == MINIPROXY_AGAIN ? CONFORMANCE_NO_WAKE : result;
}

int conformance_resolve(struct miniproxy_conn *c, const char *host, struct miniproxy_addr *out, int max)
{
    int result = call_resolve(c, host, out, max);

    while (result == MINIPROXY_AGAIN && may_try(c, MINIPROXY_WR, true))
        result = call_resolve(c, host, out, max);
    return result == MINIPROXY_AGAIN ? CONFORMANCE_NO_WAKE : result;
}

int conformance_recv(struct miniproxy_conn *c, void *data, size_t len)
{
    int result = MINIPROXY_AGAIN;
    bool refused = false;

    while (result == MINIPROXY_AGAIN && may_try(c, MINIPROXY_RD, refused)) {
        result = call_recv(c, data, len);
        refused = true;
    }
    check(result != 0 && result <= (int)len, "recv returns 1..len or a negative result");
    return result == MINIPROXY_AGAIN ? CONFORMANCE_NO_WAKE : result;
}

int conformance_send(struct miniproxy_conn *c, const void *data, size_t len)
{
    int result = MINIPROXY_AGAIN;
    bool refused = false;

    while (result == MINIPROXY_AGAIN && may_try(c, MINIPROXY_WR, refused)) {
        result = call_send(c, data, len);
        refused = true;
    }
    check(result != 0 && result <= (int)len, "send returns 1..len or a negative result");
    return result == MINIPROXY_AGAIN ? CONFORMANCE_NO_WAKE : result;
}

int conformance_peer_recv(int peer, void *data, size_t len)
{
    uint32_t start_ms = world->now_ms(world);
    int result;

    while ((result = world->peer_recv(world, peer, data, len)) == MINIPROXY_AGAIN) {
        if (world->now_ms(world) - start_ms > CONFORMANCE_LIMIT_MS) return CONFORMANCE_NO_WAKE;
        world->wait(world, 1);
    }
    return result;
}

/* Connections that an earlier test left in the queue do not count. */
void conformance_begin(struct conformance_world *w)
{
    int result = MINIPROXY_OK;

    world = w;
    why = NULL;
    for (size_t i = 0; i < MINIPROXY_CONNS; i++)
        if (used[i]) conformance_give(&conns[i], true);
    w->clear(w);
    w->wait(w, 0);
    for (int i = 0; i < 1000 && result != MINIPROXY_AGAIN; i++) {
        struct miniproxy_conn *c = conformance_take();
        struct miniproxy_addr peer;

        result = call_accept(c, &peer);
        conformance_give(c, true);
    }
    accept_woken = false;
}

bool conformance_end(void)
{
    for (size_t i = 0; i < MINIPROXY_CONNS; i++)
        if (used[i]) conformance_give(&conns[i], true);
    world->clear(world);
    world->wait(world, 0);
    return why == NULL;
}

static int peer_accept(int listener)
{
    uint32_t start_ms = world->now_ms(world);
    int peer;

    while ((peer = world->peer_accept(world, listener)) == MINIPROXY_AGAIN) {
        if (world->now_ms(world) - start_ms > CONFORMANCE_LIMIT_MS) return CONFORMANCE_NO_WAKE;
        world->wait(world, 1);
    }
    return peer;
}

static bool same_host(const struct miniproxy_addr *a, const struct miniproxy_addr *b)
{
    return a->family == b->family && memcmp(a->ip, b->ip, a->family == 4 ? 4 : MINIPROXY_IP_LEN) == 0;
}

static bool pair_accepted(struct conformance_pair *p, int family)
{
    struct miniproxy_addr from, peer;

    p->peer = world->peer_connect(world, family);
    if (!check(p->peer >= 0, "a peer connects")) return false;
    if (!check(conformance_accept(p->c, &from) == MINIPROXY_OK, "accept: OK after a wake")) return false;
    if (!check(p->c->listener == world->listener[family == 6], "accept tells the listener")) return false;
    peer = world->peer_address(world, p->peer);
    return check(same_host(&from, &peer) && from.port == peer.port, "accept reports the peer's address");
}

static bool pair_connected(struct conformance_pair *p, int family)
{
    struct miniproxy_addr at;
    int listener = world->peer_listen(world, family, &at);

    if (!check(listener >= 0, "a peer listens")) return false;
    if (!check(conformance_connect(p->c, &at) == MINIPROXY_OK, "connect: OK after a wake")) return false;
    p->peer = peer_accept(listener);
    return check(p->peer >= 0, "the connection reaches the peer");
}

static int family_of(enum conformance_kind kind)
{
    return kind == CONFORMANCE_ACCEPTED_6 || kind == CONFORMANCE_CONNECTED_6 ? 6 : 4;
}

static enum conformance_kind connected_by(int family)
{
    return family == 4 ? CONFORMANCE_CONNECTED_4 : CONFORMANCE_CONNECTED_6;
}

bool conformance_pair(struct conformance_pair *p, enum conformance_kind kind)
{
    bool accepted = kind == CONFORMANCE_ACCEPTED_4 || kind == CONFORMANCE_ACCEPTED_6;

    p->c = conformance_take();
    if (!check(p->c != NULL, "MINIPROXY_CONNS is large enough for the test")) return false;
    return accepted ? pair_accepted(p, family_of(kind)) : pair_connected(p, family_of(kind));
}

/* ---- Streams: octet `at` of the stream named by key ---- */

static uint8_t octet(unsigned key, uint32_t at)
{
    uint32_t x = (at + 1u) * 2654435761u + key * 40503u;

    return (uint8_t)(x >> 23 ^ x >> 11);
}

static void fill(uint8_t *data, size_t len, unsigned key, uint32_t at)
{
    for (size_t i = 0; i < len; i++) data[i] = octet(key, at + (uint32_t)i);
}

static bool matches(const uint8_t *data, int len, unsigned key, uint32_t at)
{
    for (int i = 0; i < len; i++)
        if (data[i] != octet(key, at + (uint32_t)i)) return check(false, "octets arrive as they were sent");
    return true;
}

/* The peer sends the octets at..at+len-1 of a stream. */
static bool peer_sends(int peer, unsigned key, uint32_t at, uint32_t len)
{
    uint32_t start_ms = world->now_ms(world), sent = 0;

    while (sent < len) {
        uint32_t part = len - sent < sizeof chunk ? len - sent : (uint32_t)sizeof chunk;
        int n;

        fill(chunk, part, key, at + sent);
        n = world->peer_send(world, peer, chunk, part);
        if (n > 0) sent += (uint32_t)n;
        else if (n != MINIPROXY_AGAIN || world->now_ms(world) - start_ms > CONFORMANCE_LIMIT_MS) break;
        else world->wait(world, 1);
    }
    return check(sent == len, "a peer sends");
}

static bool peer_gets(int peer, unsigned key, uint32_t at, uint32_t len)
{
    for (uint32_t end = at + len; at < end;) {
        int n = conformance_peer_recv(peer, got, end - at < sizeof got ? end - at : sizeof got);

        if (!check(n > 0, "the peer gets what was sent") || !matches(got, n, key, at)) return false;
        at += (uint32_t)n;
    }
    return true;
}

static bool peer_ends(int peer, int result, const char *expected)
{
    return check(conformance_peer_recv(peer, got, sizeof got) == result, expected);
}

/* The port receives the octets at..at+len-1, asking for as many as `ask` at once. */
static bool port_gets(struct miniproxy_conn *c, unsigned key, uint32_t at, uint32_t len, size_t ask)
{
    for (uint32_t end = at + len; at < end;) {
        int n = conformance_recv(c, got, ask);

        if (!check(n > 0, "recv gets what the peer sent") || !matches(got, n, key, at)) return false;
        at += (uint32_t)n;
    }
    return true;
}

static bool port_ends(struct miniproxy_conn *c, int result, const char *expected)
{
    return check(conformance_recv(c, got, sizeof got) == result, expected);
}

static bool port_sends(struct miniproxy_conn *c, unsigned key, uint32_t at, uint32_t len)
{
    for (uint32_t end = at + len; at < end;) {
        uint32_t part = end - at < sizeof chunk ? end - at : (uint32_t)sizeof chunk;
        int n;

        fill(chunk, part, key, at);
        n = conformance_send(c, chunk, part);
        if (!check(n > 0, "send takes octets")) return false;
        at += (uint32_t)n;
    }
    return true;
}

/* Send until AGAIN. The number of octets taken. */
static uint32_t stuff(struct miniproxy_conn *c, unsigned key)
{
    uint32_t at = 0;
    int n;

    do {
        if (!check(conformance_await(c, MINIPROXY_WR), "a connection becomes writable")) return 0;
        fill(chunk, sizeof chunk, key, at);
        n = call_send(c, chunk, sizeof chunk);
        if (n > 0) at += (uint32_t)n;
        /* After a short send a port may have taken the bit away. */
    } while (n > 0 && (c->ready & MINIPROXY_WR) && at < world->room_max);
    if (n == MINIPROXY_AGAIN) c->ready &= (uint8_t)~MINIPROXY_WR;
    check((c->ready & MINIPROXY_WR) == 0, "a peer that does not read stops the sender");
    return at;
}

static void pass_time(uint32_t ms)
{
    uint32_t start_ms = world->now_ms(world);

    while (world->now_ms(world) - start_ms < ms) world->wait(world, 5);
}

/* ---- Tests of one connection; each runs for every kind of it ---- */

static bool test_again_then_wake(struct conformance_pair *p)
{
    pass_time(20);
    return check(call_recv(p->c, got, sizeof got) == MINIPROXY_AGAIN,
                             "recv says AGAIN while nothing has come") &&
           peer_sends(p->peer, 1, 0, 100) && port_gets(p->c, 1, 0, 100, sizeof got);
}

/* Each recv asks for more than there is, so each further message needs its own wake. */
static bool test_ping_pong(struct conformance_pair *p)
{
    for (uint32_t i = 0; i < 60; i++)
        if (!peer_sends(p->peer, 2, i * 7, 7) || !port_gets(p->c, 2, i * 7, 7, sizeof got) ||
            !port_sends(p->c, 3, i * 5, 5) || !peer_gets(p->peer, 3, i * 5, 5))
            return false;
    return true;
}

static bool test_single_octets(struct conformance_pair *p)
{
    if (!peer_sends(p->peer, 4, 0, 50) || !port_gets(p->c, 4, 0, 50, 1)) return false;
    for (uint32_t i = 0; i < 50; i++)
        if (!port_sends(p->c, 5, i, 1)) return false;
    return peer_gets(p->peer, 5, 0, 50);
}

static bool test_eof(struct conformance_pair *p)
{
    bool ok = check(call_recv(p->c, got, sizeof got) == MINIPROXY_AGAIN,
                                "recv says AGAIN before a FIN");

    world->peer_finish(world, p->peer);
    return ok && port_ends(p->c, MINIPROXY_EOF, "recv says EOF after a FIN, and a wake") &&
           port_ends(p->c, MINIPROXY_EOF, "EOF stays") &&
           port_sends(p->c, 6, 0, 3000) && peer_gets(p->peer, 6, 0, 3000);
}

static bool test_octets_before_eof(struct conformance_pair *p)
{
    if (!peer_sends(p->peer, 7, 0, 1000)) return false;
    world->peer_finish(world, p->peer);
    pass_time(20); /* both are there when recv begins, and may have been told by one event */
    return port_gets(p->c, 7, 0, 300, 300) && port_gets(p->c, 7, 300, 700, sizeof got) &&
           port_ends(p->c, MINIPROXY_EOF, "EOF follows the last octet");
}

static bool test_eof_between(struct conformance_pair *p)
{
    bool ok = peer_sends(p->peer, 8, 0, 10) && port_gets(p->c, 8, 0, 10, sizeof got);

    world->peer_finish(world, p->peer);
    return ok && port_ends(p->c, MINIPROXY_EOF, "a FIN after a recv has a wake");
}

static bool test_octets_before_reset(struct conformance_pair *p)
{
    if (!peer_sends(p->peer, 9, 0, 1000) || !check(conformance_await(p->c, MINIPROXY_RD), "a wake"))
        return false;
    pass_time(20);
    world->peer_reset(world, p->peer);
    pass_time(20);
    return port_gets(p->c, 9, 0, 400, 400) && port_gets(p->c, 9, 400, 600, sizeof got) &&
           port_ends(p->c, MINIPROXY_ERESET, "ERESET follows the last octet") &&
           port_ends(p->c, MINIPROXY_ERESET, "ERESET stays and never becomes EOF");
}

static bool test_reset_met_by_recv(struct conformance_pair *p)
{
    world->peer_reset(world, p->peer);
    return port_ends(p->c, MINIPROXY_ERESET, "recv says ERESET after a wake");
}

/* A send may be taken before the reset is noticed. Afterwards recv must not take it for a proper end. */
static bool test_reset_met_by_send(struct conformance_pair *p)
{
    int n;

    world->peer_reset(world, p->peer);
    pass_time(20);
    fill(chunk, 100, 10, 0);
    do n = conformance_send(p->c, chunk, 100);
    while (n > 0);
    return check(n == MINIPROXY_ERESET, "send says ERESET") &&
           port_ends(p->c, MINIPROXY_ERESET, "recv says ERESET, not EOF, after send has met the reset");
}

/* The contract allows the retry of a send at another address and with more behind. */
static bool test_full(struct conformance_pair *p)
{
    static uint8_t elsewhere[CONFORMANCE_CHUNK + 101];
    uint32_t taken = stuff(p->c, 11), read = 0;
    int n = MINIPROXY_AGAIN;

    pass_time(30);
    for (unsigned tries = 0; taken > 0 && tries < 100000 && n == MINIPROXY_AGAIN; tries++) {
        size_t len = tries == 0 ? CONFORMANCE_CHUNK : CONFORMANCE_CHUNK + 100; /* rule 3: never less than was refused */

        if (read < taken) {
            uint32_t part = taken - read < 1000 ? taken - read : 1000;
            if (!peer_gets(p->peer, 11, read, part)) return false;
            read += part;
        }
        fill(elsewhere + tries % 2, len, 11, taken);
        if (!(p->c->ready & MINIPROXY_WR)) {
            if (read < taken) continue;
            if (!check(conformance_await(p->c, MINIPROXY_WR), "a wake once the peer has read all")) return false;
        }
        n = call_send(p->c, elsewhere + tries % 2, len);
        if (n == MINIPROXY_AGAIN) p->c->ready &= (uint8_t)~MINIPROXY_WR;
    }
    if (!check(n > 0, "a retried send takes octets")) return false;
    return peer_gets(p->peer, 11, read, taken - read + (uint32_t)n);
}

/* Much in both directions at once. */
static bool test_bulk(struct conformance_pair *p)
{
    uint32_t total = world->room_max < 300000 ? world->room_max : 300000, start_ms = world->now_ms(world);
    uint32_t down_sent = 0, down_got = 0, up_sent = 0, up_got = 0;

    while (down_got < total || up_got < total) {
        int n;

        if (!check(world->now_ms(world) - start_ms < 6 * CONFORMANCE_LIMIT_MS, "bulk goes on")) return false;
        fill(chunk, sizeof chunk, 12, up_sent);
        n = up_sent < total ? world->peer_send(world, p->peer, chunk, sizeof chunk) : 0;
        if (n > 0) up_sent += (uint32_t)n;
        n = down_got < down_sent ? world->peer_recv(world, p->peer, got, 3000) : 0;
        if (n > 0 && !matches(got, n, 13, down_got)) return false;
        if (n > 0) down_got += (uint32_t)n;
        world->wait(world, 0);
        n = p->c->ready & MINIPROXY_RD ? call_recv(p->c, got, 2500) : 0;
        if (n == MINIPROXY_AGAIN) p->c->ready &= (uint8_t)~MINIPROXY_RD;
        if (n > 0 && !matches(got, n, 12, up_got)) return false;
        if (n > 0) up_got += (uint32_t)n;
        fill(chunk, sizeof chunk, 13, down_sent);
        n = (p->c->ready & MINIPROXY_WR) && down_sent < total ? call_send(p->c, chunk, 2000) : 0;
        if (n == MINIPROXY_AGAIN) p->c->ready &= (uint8_t)~MINIPROXY_WR;
        if (n > 0) down_sent += (uint32_t)n;
    }
    return true;
}

static bool test_close_delivers(struct conformance_pair *p)
{
    uint32_t taken = stuff(p->c, 14);

    if (taken == 0) return false;
    conformance_give(p->c, false);
    pass_time(20);
    return peer_gets(p->peer, 14, 0, taken) && peer_ends(p->peer, MINIPROXY_EOF, "FIN follows the last octet");
}

static bool test_close_resets(struct conformance_pair *p)
{
    if (!port_sends(p->c, 15, 0, 10)) return false;
    conformance_give(p->c, true);
    for (int n = 1; n > 0;) {
        n = conformance_peer_recv(p->peer, got, sizeof got);
        if (n <= 0) check(n == MINIPROXY_ERESET, "a hard close is seen as a reset");
    }
    return true;
}

static bool test_finish(struct conformance_pair *p)
{
    int n;

    if (!port_sends(p->c, 16, 0, 500)) return false;
    while ((n = call_finish(p->c)) == MINIPROXY_AGAIN && may_try(p->c, MINIPROXY_WR, true)) continue;
    if (!check(n == MINIPROXY_OK, "finish: OK") || !peer_gets(p->peer, 16, 0, 500) ||
        !peer_ends(p->peer, MINIPROXY_EOF, "the peer sees the FIN"))
        return false;
    for (uint32_t i = 0; i < 10; i++)
        if (!peer_sends(p->peer, 17, i * 300, 300) || !port_gets(p->c, 17, i * 300, 300, sizeof got)) return false;
    world->peer_finish(world, p->peer);
    return port_ends(p->c, MINIPROXY_EOF, "EOF after finish");
}

static bool test_finish_full(struct conformance_pair *p)
{
    uint32_t taken = stuff(p->c, 18), read = 0;
    int n = call_finish(p->c);

    while (n == MINIPROXY_AGAIN && read < taken) {
        uint32_t part = taken - read < 1000 ? taken - read : 1000;
        if (!peer_gets(p->peer, 18, read, part)) return false;
        read += part;
        n = call_finish(p->c);
    }
    while (n == MINIPROXY_AGAIN && may_try(p->c, MINIPROXY_WR, true)) n = call_finish(p->c);
    return check(n == MINIPROXY_OK, "finish: OK while octets are queued") &&
           peer_gets(p->peer, 18, read, taken - read) &&
           peer_ends(p->peer, MINIPROXY_EOF, "FIN follows the last octet");
}

/* A slot is used again: what belonged to its connection before is gone. */
static bool test_slot_again(struct conformance_pair *p, enum conformance_kind kind)
{
    uint16_t id = p->c->id;
    struct conformance_pair next;

    if (!peer_sends(p->peer, 19, 0, 200)) return false;
    conformance_give(p->c, true);
    if (!conformance_pair(&next, kind)) return false;
    return check(next.c->id == id, "the same slot") && peer_sends(next.peer, 20, 0, 200) &&
           port_gets(next.c, 20, 0, 200, sizeof got);
}

static bool test_close_at_once(struct conformance_pair *p, enum conformance_kind kind)
{
    conformance_give(p->c, false);
    return peer_ends(p->peer, MINIPROXY_EOF, "FIN") && conformance_pair(p, kind);
}

/* ---- Tests of relay: between a connection that was accepted and one that was connected ---- */

struct relayed {
    struct conformance_pair from, to; /* from.peer sends, to.peer gets */
    uint32_t sent;
};

static bool relayed_begin(struct relayed *r, int family, bool backwards)
{
    struct conformance_pair accepted, connected;

    if (!conformance_pair(&accepted, family == 4 ? CONFORMANCE_ACCEPTED_4 : CONFORMANCE_ACCEPTED_6) ||
        !conformance_pair(&connected, connected_by(family)))
        return false;
    r->from = backwards ? connected : accepted;
    r->to = backwards ? accepted : connected;
    return true;
}

/* Once, where both are ready; what AGAIN must have cleared is checked. */
static int try_relay(struct relayed *r, size_t max)
{
    struct miniproxy_conn *from = r->from.c, *to = r->to.c;
    int n;

    if ((from->ready & MINIPROXY_RD) == 0 || (to->ready & MINIPROXY_WR) == 0) return MINIPROXY_AGAIN;
    n = world->port->relay(world->port_data, from, to, max);
    check(n != 0 && n <= (int)max, "relay returns 1..max or a negative result");
    if (n == MINIPROXY_AGAIN)
        check((from->ready & MINIPROXY_RD) == 0 || (to->ready & MINIPROXY_WR) == 0,
              "relay clears what it waits for when it says AGAIN");
    return n;
}

static int wait_relay(struct relayed *r, size_t max)
{
    uint32_t start_ms = world->now_ms(world);
    int n;

    while ((n = try_relay(r, max)) == MINIPROXY_AGAIN) {
        if (world->now_ms(world) - start_ms > CONFORMANCE_LIMIT_MS) return CONFORMANCE_NO_WAKE;
        world->wait(world, 5);
    }
    return n;
}

/* Pass on exactly len octets, at most max at once. */
static bool relays(struct relayed *r, uint32_t len, size_t max)
{
    while (len > 0) {
        int n = wait_relay(r, len < max ? len : max);

        if (!check(n > 0, "relay passes on what has come")) return false;
        len -= (uint32_t)n;
    }
    return true;
}

static bool test_relay(int family)
{
    struct relayed r;

    return relayed_begin(&r, family, false) && peer_sends(r.from.peer, 40, 0, 1000) && relays(&r, 1, 1) &&
           relays(&r, 299, 7) && relays(&r, 700, 4096) && peer_gets(r.to.peer, 40, 0, 1000);
}

/* What was sent before and after by the core keeps its place. */
static bool test_relay_mixed(int family)
{
    struct relayed r;

    if (!relayed_begin(&r, family, true)) return false;
    for (uint32_t at = 0; at < 3000; at += 300)
        if (!peer_sends(r.from.peer, 41, at + 50, 200) || !port_sends(r.to.c, 41, at, 50) ||
            !port_gets(r.from.c, 41, at + 50, 70, 70) || !port_sends(r.to.c, 41, at + 50, 70) || !relays(&r, 130, 64) ||
            !port_sends(r.to.c, 41, at + 250, 50))
            return false;
    return peer_gets(r.to.peer, 41, 0, 3000);
}

/* Both directions at once, much, each peer reading and sending as it can; then the ends. */
static bool test_relay_bulk(int family)
{
    uint32_t total = world->room_max < 200000 ? world->room_max : 200000, start_ms = world->now_ms(world);
    uint32_t sent[2] = {0, 0}, come[2] = {0, 0}, moved[2] = {0, 0};
    struct relayed r[2];

    if (!relayed_begin(&r[0], family, false)) return false;
    r[1] = (struct relayed){.from = r[0].to, .to = r[0].from};
    while (come[0] < total || come[1] < total) {
        if (!check(world->now_ms(world) - start_ms < 6 * CONFORMANCE_LIMIT_MS, "bulk goes on")) return false;
        for (unsigned i = 0; i < 2; i++) {
            uint32_t part = total - sent[i] < sizeof chunk ? total - sent[i] : (uint32_t)sizeof chunk;
            int n;

            fill(chunk, part, 42 + i, sent[i]);
            n = part > 0 ? world->peer_send(world, r[i].from.peer, chunk, part) : 0;
            if (n > 0) sent[i] += (uint32_t)n;
            n = try_relay(&r[i], 100 + moved[i] % 3000);
            if (n > 0) moved[i] += (uint32_t)n;
            else if (!check(n == MINIPROXY_AGAIN, "relay takes octets or says AGAIN")) return false;
            n = come[i] < moved[i] ? world->peer_recv(world, r[i].to.peer, got, 3000) : 0;
            if (n > 0 && !matches(got, n, 42 + i, come[i])) return false;
            if (n > 0) come[i] += (uint32_t)n;
        }
        world->wait(world, 0);
    }
    world->peer_finish(world, r[0].from.peer);
    world->peer_finish(world, r[1].from.peer);
    return check(wait_relay(&r[0], 100) == MINIPROXY_EOF, "relay says EOF after the last octet") &&
           check(wait_relay(&r[1], 100) == MINIPROXY_EOF, "relay says EOF after the last octet") &&
           check(moved[0] == total && moved[1] == total, "no octet more");
}

/* Pass on until the sink is full. The number of octets. */
static uint32_t relay_until_full(struct relayed *r, unsigned key)
{
    uint32_t moved = 0, quiet_ms = world->now_ms(world);

    r->sent = 0;
    while (world->now_ms(world) - quiet_ms < 300) {
        int n;

        fill(chunk, sizeof chunk, key, r->sent);
        n = r->sent < 2 * world->room_max ? world->peer_send(world, r->from.peer, chunk, sizeof chunk) : 0;
        if (n > 0) r->sent += (uint32_t)n;
        n = try_relay(r, 5000);
        if (n > 0) {
            moved += (uint32_t)n;
            quiet_ms = world->now_ms(world);
        }
        world->wait(world, n > 0 ? 0 : 1);
    }
    check(try_relay(r, 1) == MINIPROXY_AGAIN, "a sink that does not read stops the relay");
    return moved;
}

static bool test_relay_full(int family)
{
    struct relayed r;
    uint32_t moved, read = 0;
    int n = MINIPROXY_AGAIN;

    if (!relayed_begin(&r, family, false)) return false;
    moved = relay_until_full(&r, 44);
    while (n == MINIPROXY_AGAIN && read < moved) {
        uint32_t part = moved - read < 1000 ? moved - read : 1000;

        if (!peer_gets(r.to.peer, 44, read, part)) return false;
        read += part;
        n = try_relay(&r, 3000);
    }
    if (n == MINIPROXY_AGAIN) n = wait_relay(&r, 3000);
    return check(n > 0, "a wake once the sink has room") && peer_gets(r.to.peer, 44, read, moved - read + (uint32_t)n);
}

/* What was taken is delivered, whatever becomes of where it came from. */
static bool test_relay_source_closed(int family)
{
    struct relayed r;
    uint32_t moved;

    if (!relayed_begin(&r, family, true)) return false;
    moved = relay_until_full(&r, 45);
    conformance_give(r.from.c, true);
    if (!peer_gets(r.to.peer, 45, 0, moved) || !port_sends(r.to.c, 45, moved, 100)) return false;
    conformance_give(r.to.c, false);
    return peer_gets(r.to.peer, 45, moved, 100) && peer_ends(r.to.peer, MINIPROXY_EOF, "FIN follows the last octet");
}

static bool test_relay_sink_closed(int family)
{
    struct relayed r;
    uint32_t moved;

    if (!relayed_begin(&r, family, false)) return false;
    moved = relay_until_full(&r, 46);
    conformance_give(r.to.c, false);
    pass_time(20);
    return peer_gets(r.to.peer, 46, 0, moved) && peer_ends(r.to.peer, MINIPROXY_EOF, "FIN follows the last octet");
}

/* What a dead sink still held is given back: the source goes on, to another sink. */
static bool test_relay_sink_reset(int family)
{
    struct conformance_pair next;
    struct relayed r;
    uint32_t moved;
    int n;

    if (!relayed_begin(&r, family, false)) return false;
    moved = relay_until_full(&r, 47);
    world->peer_reset(world, r.to.peer);
    if (!check(conformance_await(r.to.c, MINIPROXY_WR), "a wake when the sink is reset") ||
        !check(wait_relay(&r, 100) == MINIPROXY_ESINK, "relay says ESINK") || !conformance_pair(&next, connected_by(family)))
        return false;
    conformance_give(r.to.c, true);
    r.to = next;
    if (r.sent == moved && !peer_sends(r.from.peer, 47, moved, 100)) return false;
    n = wait_relay(&r, 100);
    return check(n > 0, "the source goes on") && peer_gets(r.to.peer, 47, moved, (uint32_t)n);
}

static bool test_relay_source_reset(int family)
{
    struct relayed r;

    if (!relayed_begin(&r, family, false) || !peer_sends(r.from.peer, 48, 0, 500) ||
        !check(conformance_await(r.from.c, MINIPROXY_RD), "a wake"))
        return false;
    pass_time(20);
    world->peer_reset(world, r.from.peer);
    pass_time(20);
    return relays(&r, 500, 200) && check(wait_relay(&r, 200) == MINIPROXY_ERESET, "ERESET follows the last octet") &&
           peer_gets(r.to.peer, 48, 0, 500);
}

/* ---- Tests of accept and connect ---- */

static bool test_accept_wakes(int family)
{
    struct miniproxy_conn *c = conformance_take();
    struct miniproxy_addr from;

    if (!check(call_accept(c, &from) == MINIPROXY_AGAIN,
                           "accept says AGAIN while nobody comes"))
        return false;
    for (int i = 0; i < 5; i++) {
        if (world->peer_connect(world, family) < 0 || conformance_accept(c, &from) != MINIPROXY_OK)
            return check(false, "each connection is accepted, after a wake");
        check(call_accept(conformance_take(), &from) == MINIPROXY_AGAIN,
                          "accept says AGAIN after the last");
        c = conformance_take();
    }
    return true;
}

/* The core stops asking while it has no session to spare. What came meanwhile is there when it asks again. */
static bool test_accept_pauses(int family)
{
    struct miniproxy_addr from;

    for (int i = 0; i < 4; i++) check(world->peer_connect(world, family) >= 0, "a peer connects");
    check(conformance_await_accept(), "a wake");
    pass_time(50);
    for (int i = 0; i < 4; i++)
        check(call_accept(conformance_take(), &from) == MINIPROXY_OK,
                          "accept goes on without another wake");
    return true;
}

static bool test_many(int family)
{
    static struct conformance_pair pairs[MINIPROXY_CONNS];
    enum conformance_kind accepted = family == 4 ? CONFORMANCE_ACCEPTED_4 : CONFORMANCE_ACCEPTED_6;
    enum conformance_kind connected = connected_by(family);
    unsigned n;

    for (n = 0; n < world->many; n++)
        if (!conformance_pair(&pairs[n], n % 2 == 0 ? accepted : connected)) return false;
    for (n = 0; n < world->many; n++)
        if (!peer_sends(pairs[n].peer, n, 0, 64) || !port_sends(pairs[n].c, n + 1, 0, 64)) return false;
    for (n = world->many; n-- > 0;)
        if (!port_gets(pairs[n].c, n, 0, 64, sizeof got) || !peer_gets(pairs[n].peer, n + 1, 0, 64)) return false;
    for (n = 0; n < world->many; n += 3) conformance_give(pairs[n].c, n % 2 == 0);
    for (n = 0; n < world->many; n++) {
        if (n % 3 == 0) continue;
        if (!peer_sends(pairs[n].peer, n, 64, 64) || !port_gets(pairs[n].c, n, 64, 64, sizeof got)) return false;
    }
    return true;
}

/* Send octets in small pieces until AGAIN, len at most. The number taken. */
static uint32_t sends_pieces(struct miniproxy_conn *c, unsigned key, uint32_t len)
{
    uint32_t at = 0;

    while (at < len && (c->ready & MINIPROXY_WR)) {
        uint32_t part = len - at < 300 ? len - at : 300;
        int n;

        fill(chunk, part, key, at);
        n = call_send(c, chunk, part);
        if (n == MINIPROXY_AGAIN) c->ready &= (uint8_t)~MINIPROXY_WR;
        if (n <= 0) break;
        at += (uint32_t)n;
        world->wait(world, 1);
    }
    return at;
}

/* Peers that do not read for a while, each with more unread than the one before. Of some the window ends within the last
 * segment: a stack then takes it in two, and the FIN belongs to the second part. Closed, or finished. */
static bool test_small_windows(int family)
{
    enum { FIRST = 3000, LAST = 15000, STEP = 300 };
    static struct conformance_pair pairs[MINIPROXY_CONNS];
    static uint32_t taken[MINIPROXY_CONNS];
    static int result[MINIPROXY_CONNS]; /* of finish */
    enum conformance_kind accepted = family == 4 ? CONFORMANCE_ACCEPTED_4 : CONFORMANCE_ACCEPTED_6;
    enum conformance_kind connected = connected_by(family);

    for (uint32_t len = FIRST; len < LAST;) {
        unsigned n, count;

        for (n = 0; n < world->many && len < LAST; n++, len += STEP) {
            if (!conformance_pair(&pairs[n], n % 4 < 2 ? accepted : connected)) return false;
            taken[n] = sends_pieces(pairs[n].c, n, len);
            result[n] = n % 2 == 0 ? MINIPROXY_OK : call_finish(pairs[n].c);
            if (n % 2 == 0) conformance_give(pairs[n].c, false);
            else if (result[n] == MINIPROXY_AGAIN) pairs[n].c->ready &= (uint8_t)~MINIPROXY_WR;
        }
        count = n;
        pass_time(2500); /* lwIP has a look at such a window after a second and a half */
        for (n = 0; n < count; n++) {
            if (!peer_gets(pairs[n].peer, n, 0, taken[n])) return false;
            for (bool refused = false; result[n] == MINIPROXY_AGAIN; refused = true) {
                if (!may_try(pairs[n].c, MINIPROXY_WR, refused)) break;
                result[n] = call_finish(pairs[n].c);
            }
            if (!check(result[n] == MINIPROXY_OK, "finish: OK") ||
                !peer_ends(pairs[n].peer, MINIPROXY_EOF, "FIN follows the last octet"))
                return false;
            if (n % 2 == 1) conformance_give(pairs[n].c, false);
        }
        world->clear(world);
    }
    return true;
}

static bool test_refused(int family)
{
    struct miniproxy_addr to = world->refusing(world, family);
    struct miniproxy_conn *c = conformance_take();
    struct conformance_pair p = {.c = c};

    if (!check(conformance_connect(c, &to) == MINIPROXY_EREFUSED, "EREFUSED")) return false;
    conformance_give(c, true);
    return conformance_pair(&p, connected_by(family));
}

/* connect may be called without a wake, too. */
static bool test_connect_impatient(int family)
{
    struct miniproxy_conn *c = conformance_take();
    struct miniproxy_addr to;
    int result = MINIPROXY_AGAIN;
    uint32_t start_ms = world->now_ms(world);

    if (!check(world->peer_listen(world, family, &to) >= 0, "a peer listens")) return false;
    while (result == MINIPROXY_AGAIN && world->now_ms(world) - start_ms < CONFORMANCE_LIMIT_MS) {
        for (int i = 0; i < 3 && result == MINIPROXY_AGAIN; i++) result = call_connect(c, &to);
        if (result == MINIPROXY_AGAIN) world->wait(world, 5);
    }
    return check(result == MINIPROXY_OK, "OK");
}

static bool test_self(int family)
{
    struct miniproxy_addr to;

    (void)family;
    for (unsigned i = 0; world->own(world, i, &to); i++) {
        struct miniproxy_conn *c = conformance_take();
        if (!check(conformance_connect(c, &to) == MINIPROXY_ESELF, "ESELF")) return false;
        conformance_give(c, false);
    }
    return true;
}

static bool test_connect_cancelled(int family)
{
    struct miniproxy_addr to = world->silent(world);
    struct miniproxy_conn *c = conformance_take();
    uint16_t id = c->id;
    struct conformance_pair p;

    if (!check(call_connect(c, &to) == MINIPROXY_AGAIN, "AGAIN while under way"))
        return false;
    pass_time(30);
    c->ready = 0;
    pass_time(30);
    if (!check(call_connect(c, &to) == MINIPROXY_AGAIN, "AGAIN, still")) return false;
    conformance_give(c, true);
    return conformance_pair(&p, connected_by(family)) &&
           check(p.c->id == id, "the same slot") && peer_sends(p.peer, 21, 0, 100) &&
           port_gets(p.c, 21, 0, 100, sizeof got);
}

static bool test_starved_accept(int family)
{
    struct miniproxy_conn *c = conformance_take();
    struct miniproxy_addr from;
    int peer = world->peer_connect(world, family);
    bool ok = check(conformance_await_accept(), "a wake");

    world->starve(world, true);
    for (int i = 0; i < 3; i++)
        ok = ok && check(call_accept(c, &from) == MINIPROXY_ERESOURCES, "ERESOURCES");
    world->starve(world, false);
    /* No wake need come: the core tries again after a time. */
    return ok && check(call_accept(c, &from) == MINIPROXY_OK, "OK afterwards") &&
           peer_sends(peer, 22, 0, 10) && port_gets(c, 22, 0, 10, sizeof got);
}

static bool test_starved_connect(int family)
{
    struct miniproxy_conn *c = conformance_take();
    struct miniproxy_addr to;
    bool ok = check(world->peer_listen(world, family, &to) >= 0, "a peer listens");

    world->starve(world, true);
    for (int i = 0; i < 3; i++) {
        ok = ok && check(conformance_connect(c, &to) == MINIPROXY_ERESOURCES, "ERESOURCES");
        conformance_give(c, true);
        c = conformance_take();
    }
    world->starve(world, false);
    return ok && check(conformance_connect(c, &to) == MINIPROXY_OK, "OK afterwards");
}

/* ---- Tests of resolve ---- */

static bool contains(const struct miniproxy_addr *list, int count, const struct miniproxy_addr *a)
{
    for (int i = 0; i < count; i++)
        if (same_host(&list[i], a)) return true;
    return false;
}

static bool resolves(struct miniproxy_conn *c, const struct conformance_name *name)
{
    struct miniproxy_addr list[MINIPROXY_ADDRESSES];
    int count = conformance_resolve(c, name->host, list, MINIPROXY_ADDRESSES);

    return check(count >= 1 && count <= MINIPROXY_ADDRESSES, "resolve returns 1..max") &&
           check(contains(list, count, &name->address), "the address of the name that was asked for");
}

static bool test_resolve(int family)
{
    (void)family;
    return resolves(conformance_take(), &world->known) && resolves(conformance_take(), &world->other) &&
           resolves(conformance_take(), &world->known);
}

static bool test_resolve_then_connect(int family)
{
    struct miniproxy_conn *c = conformance_take();
    struct miniproxy_addr to;

    return resolves(c, &world->known) && check(world->peer_listen(world, family, &to) >= 0, "a peer listens") &&
           check(conformance_connect(c, &to) == MINIPROXY_OK, "the same connection connects");
}

static bool fails_twice(const char *host, int result, const char *expected)
{
    struct miniproxy_addr list[MINIPROXY_ADDRESSES];

    return check(conformance_resolve(conformance_take(), host, list, MINIPROXY_ADDRESSES) == result, expected) &&
           check(conformance_resolve(conformance_take(), host, list, MINIPROXY_ADDRESSES) == result, expected);
}

static bool test_resolve_missing(int family)
{
    (void)family;
    return fails_twice(world->missing, MINIPROXY_ENAME, "ENAME");
}

static bool test_resolve_failing(int family)
{
    (void)family;
    return fails_twice(world->failing, MINIPROXY_EDNS, "EDNS");
}

/* Who asks for it later may share the end of the first one's wait. */
static bool test_resolve_failing_later(int family)
{
    struct miniproxy_conn *first = conformance_take(), *later = conformance_take();
    struct miniproxy_addr list[MINIPROXY_ADDRESSES];
    int result;

    (void)family;
    result = call_resolve(first, world->failing, list, MINIPROXY_ADDRESSES);
    if (!check(result == MINIPROXY_AGAIN || result == MINIPROXY_EDNS, "AGAIN, or EDNS")) return false;
    pass_time(1500);
    return check(conformance_resolve(later, world->failing, list, MINIPROXY_ADDRESSES) == MINIPROXY_EDNS, "EDNS, later") &&
           check(conformance_resolve(first, world->failing, list, MINIPROXY_ADDRESSES) == MINIPROXY_EDNS, "EDNS");
}

static bool test_resolve_max(int family)
{
    struct miniproxy_addr list[3] = {{.family = 0}};
    bool ok = check(conformance_resolve(conformance_take(), world->both, list, 1) == 1, "one of one") &&
              check(list[1].family == 0, "nothing is written beyond max") &&
              check(conformance_resolve(conformance_take(), world->both, list, 2) == 2, "two of two");

    (void)family;
    return ok && check(list[0].family + list[1].family == 10, "both families are kept") &&
           check(list[2].family == 0, "nothing is written beyond max");
}

static bool test_resolve_beside(int family)
{
    struct miniproxy_conn *slow = conformance_take();
    struct miniproxy_addr list[MINIPROXY_ADDRESSES];
    struct conformance_pair p;
    bool ok;

    (void)family;
    world->hold_names(world, true);
    ok = check(call_resolve(slow, world->slow.host, list, MINIPROXY_ADDRESSES) ==
                           MINIPROXY_AGAIN, "AGAIN") &&
         resolves(conformance_take(), &world->known) &&
         conformance_pair(&p, connected_by(world->ipv4 ? 4 : 6)) &&
         peer_sends(p.peer, 23, 0, 100) && port_gets(p.c, 23, 0, 100, sizeof got) &&
         check(call_resolve(slow, world->slow.host, list, MINIPROXY_ADDRESSES) ==
                           MINIPROXY_AGAIN, "AGAIN, still");
    world->hold_names(world, false);
    return ok && resolves(slow, &world->slow);
}

/* The answer comes when the slot asks for another name, and when it has become a connection. */
static bool test_resolve_cancelled(int family)
{
    struct miniproxy_conn *c = conformance_take();
    struct miniproxy_addr list[MINIPROXY_ADDRESSES];
    uint16_t id = c->id;
    bool ok;

    (void)family;
    world->hold_names(world, true);
    ok = check(call_resolve(c, world->slow.host, list, MINIPROXY_ADDRESSES) ==
                           MINIPROXY_AGAIN, "AGAIN");
    conformance_give(c, true);
    c = conformance_take();
    ok = ok && check(c->id == id, "the same slot");
    world->hold_names(world, false);
    ok = ok && resolves(c, &world->other);
    pass_time(50);
    conformance_give(c, false);
    return ok && resolves(conformance_take(), &world->slow);
}

static bool test_resolve_left(int family)
{
    struct miniproxy_conn *c = conformance_take();
    struct miniproxy_addr list[MINIPROXY_ADDRESSES];
    bool ok;

    (void)family;
    world->hold_names(world, true);
    ok = check(call_resolve(c, world->slow.host, list, MINIPROXY_ADDRESSES) ==
                           MINIPROXY_AGAIN, "AGAIN");
    conformance_give(c, false);
    world->hold_names(world, false);
    pass_time(100); /* a wake now would be noticed: the slot is not in use */
    return ok;
}

static bool test_resolve_many(int family)
{
    struct miniproxy_conn *asking[8];
    struct miniproxy_addr list[MINIPROXY_ADDRESSES];
    bool ok = true;

    (void)family;
    world->hold_names(world, true);
    for (int i = 0; i < 8; i++) {
        asking[i] = conformance_take();
        ok = ok && check(call_resolve(asking[i], world->slow.host, list,
                                                          MINIPROXY_ADDRESSES) == MINIPROXY_AGAIN, "AGAIN");
    }
    conformance_give(asking[0], true);
    conformance_give(asking[4], true);
    conformance_give(asking[7], true);
    world->hold_names(world, false);
    for (int i = 1; i < 7; i++)
        if (i != 4) ok = ok && resolves(asking[i], &world->slow);
    return ok;
}

/* ---- All of them ---- */

static const struct {
    const char *name, *ids;
    bool (*run)(struct conformance_pair *p);
    bool (*run_kind)(struct conformance_pair *p, enum conformance_kind kind);
} pair_tests[] = {
    {"recv says AGAIN, then wakes", "-", test_again_then_wake, NULL},
    {"each message has its wake", "-", test_ping_pong, NULL},
    {"single octets", "-", test_single_octets, NULL},
    {"EOF is not AGAIN, stays, and send goes on", "P12", test_eof, NULL},
    {"octets before a FIN come before EOF", "P12", test_octets_before_eof, NULL},
    {"a FIN after the last octet was read has a wake", "P12", test_eof_between, NULL},
    {"octets before a reset come before ERESET", "-", test_octets_before_reset, NULL},
    {"recv meets a reset", "-", test_reset_met_by_recv, NULL},
    {"send meets a reset, recv does not call it EOF", "-", test_reset_met_by_send, NULL},
    {"a full connection wakes, a retried send loses nothing", "-", test_full, NULL},
    {"bulk in both directions", "-", test_bulk, NULL},
    {"close delivers what send has taken", "P11", test_close_delivers, NULL},
    {"hard close resets", "-", test_close_resets, NULL},
    {"recv goes on after finish", "P11,P12", test_finish, NULL},
    {"finish follows what send has taken", "P11,P12", test_finish_full, NULL},
    {"a slot used again sees only its own connection", "-", NULL, test_slot_again},
    {"close at once", "-", NULL, test_close_at_once},
};

enum need { NEED_NONE, NEED_REFUSING, NEED_SILENT, NEED_OWN, NEED_STARVE, NEED_NAMES, NEED_MISSING, NEED_FAILING,
            NEED_BOTH, NEED_HOLD, NEED_RELAY };

static const struct {
    const char *name, *ids;
    bool (*run)(int family);
    enum need need;
    bool once; /* not for each family */
} tests[] = {
    {"accept says AGAIN, then wakes", "-", test_accept_wakes, NEED_NONE, false},
    {"accept goes on after a pause", "Z08", test_accept_pauses, NEED_NONE, false},
    {"many connections", "-", test_many, NEED_NONE, false},
    {"the end comes behind the last octet with any window", "K07", test_small_windows, NEED_NONE, false},
    {"connect without a wake", "-", test_connect_impatient, NEED_NONE, false},
    {"connect is refused", "-", test_refused, NEED_REFUSING, false},
    {"connect to itself", "R04", test_self, NEED_OWN, true},
    {"connect is cancelled", "D05", test_connect_cancelled, NEED_SILENT, false},
    {"accept without resources, and recovery", "Z08", test_starved_accept, NEED_STARVE, false},
    {"connect without resources, and recovery", "Z08", test_starved_connect, NEED_STARVE, false},
    {"resolve", "D01", test_resolve, NEED_NAMES, true},
    {"resolve, then connect", "D01", test_resolve_then_connect, NEED_NAMES, false},
    {"resolve: no such name", "-", test_resolve_missing, NEED_MISSING, true},
    {"resolve: failure", "-", test_resolve_failing, NEED_FAILING, true},
    {"resolve: failure of a name that is already asked for", "-", test_resolve_failing_later, NEED_FAILING, true},
    {"resolve: max", "-", test_resolve_max, NEED_BOTH, true},
    {"a slow name holds up nobody else", "D01", test_resolve_beside, NEED_HOLD, true},
    {"a late answer is not taken for another name's", "D01", test_resolve_cancelled, NEED_HOLD, true},
    {"a late answer wakes nobody", "D01", test_resolve_left, NEED_HOLD, true},
    {"many wait for one name", "D01", test_resolve_many, NEED_HOLD, true},
    {"relay passes on", "-", test_relay, NEED_RELAY, false},
    {"relay keeps the order among send and recv", "-", test_relay_mixed, NEED_RELAY, false},
    {"relay of much, both ways, then EOF", "P12", test_relay_bulk, NEED_RELAY, false},
    {"relay to a full connection wakes, and loses nothing", "-", test_relay_full, NEED_RELAY, false},
    {"relayed octets arrive although their source is closed", "-", test_relay_source_closed, NEED_RELAY, false},
    {"relayed octets arrive although their sink is closed", "-", test_relay_sink_closed, NEED_RELAY, false},
    {"relay to a reset connection says ESINK, its source goes on", "-", test_relay_sink_reset, NEED_RELAY, false},
    {"relay hands over octets before a reset", "-", test_relay_source_reset, NEED_RELAY, false},
};

static bool has(const struct conformance_world *w, enum need need)
{
    switch (need) {
    case NEED_REFUSING:
        return w->refusing != NULL;
    case NEED_SILENT:
        return w->silent != NULL;
    case NEED_OWN:
        return w->own != NULL;
    case NEED_STARVE:
        return w->starve != NULL;
    case NEED_NAMES:
        return w->known.host != NULL && w->other.host != NULL;
    case NEED_MISSING:
        return w->missing != NULL;
    case NEED_FAILING:
        return w->failing != NULL;
    case NEED_BOTH:
        return w->both != NULL;
    case NEED_HOLD:
        return w->hold_names != NULL && w->known.host != NULL && w->other.host != NULL;
    default:
        return true;
    }
}

/* "name, addition" */
static const char *titled(const char *name, const char *addition)
{
    static char title[160];
    size_t len = strlen(name), more = strlen(addition);

    if (len + more >= sizeof title) return name;
    memcpy(title, name, len);
    memcpy(title + len, addition, more + 1);
    return title;
}

static bool run_pair_tests(struct conformance_world *w)
{
    static const char *const additions[CONFORMANCE_KINDS] = {
        ", accepted, IPv4", ", accepted, IPv6", ", connected, IPv4", ", connected, IPv6"};
    bool all = true;

    for (size_t i = 0; i < sizeof pair_tests / sizeof pair_tests[0]; i++)
        for (enum conformance_kind kind = 0; kind < CONFORMANCE_KINDS; kind++) {
            struct conformance_pair p;
            bool ok;

            if (!(family_of(kind) == 4 ? w->ipv4 : w->ipv6)) continue;
            conformance_begin(w);
            ok = conformance_pair(&p, kind);
            if (ok && pair_tests[i].run != NULL) ok = pair_tests[i].run(&p);
            else if (ok) ok = pair_tests[i].run_kind(&p, kind);
            ok = conformance_end() && ok;
            w->report(w, ok ? "pass" : "fail", titled(pair_tests[i].name, additions[kind]), pair_tests[i].ids, why);
            all = all && ok;
        }
    return all;
}

static bool run_tests(struct conformance_world *w)
{
    bool all = true;

    for (size_t i = 0; i < sizeof tests / sizeof tests[0]; i++) {
        bool once = tests[i].once;

        for (int family = 4; family <= 6; family += 2) {
            const char *title = once ? tests[i].name : titled(tests[i].name, family == 4 ? ", IPv4" : ", IPv6");
            bool ok;

            if (!(family == 4 ? w->ipv4 : w->ipv6)) continue;
            if (tests[i].need == NEED_RELAY && w->port->relay == NULL) continue; /* it is not asked for */
            if (!has(w, tests[i].need)) {
                w->report(w, "skip", title, tests[i].ids, NULL);
            } else {
                conformance_begin(w);
                ok = tests[i].run(family);
                ok = conformance_end() && ok;
                w->report(w, ok ? "pass" : "fail", title, tests[i].ids, why);
                all = all && ok;
            }
            if (once) break;
        }
    }
    return all;
}

bool conformance_run(struct conformance_world *w)
{
    bool pairs = run_pair_tests(w);

    return run_tests(w) && pairs;
}

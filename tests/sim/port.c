/* SPDX-License-Identifier: MIT */
/* The port: the simulated network as the core sees it, and a check of the core's side of the contract. */
#include "sim.h"

#include <stdlib.h>
#include <string.h>

/* What a connection of the core is to the port. */
enum slot_state { SLOT_CLOSED, SLOT_RESOLVING, SLOT_ANSWERED, SLOT_CONNECTING, SLOT_FAILED, SLOT_OPEN };

struct slot {
    struct miniproxy_conn *c;
    struct conn *v;
    const struct host *host;
    struct miniproxy_addr to;
    uint64_t due_ms, token;
    uint32_t generation;
    uint8_t state;
    bool closed_before;
};

static struct slot slots[MINIPROXY_CONNS];
static uint64_t tokens;

void port_reset(void)
{
    memset(slots, 0, sizeof slots);
    tokens = 0;
}

unsigned port_open_slots(void)
{
    unsigned n = 0;
    for (unsigned i = 0; i < MINIPROXY_CONNS; i++)
        n += slots[i].state == SLOT_OPEN || slots[i].state == SLOT_CONNECTING || slots[i].state == SLOT_RESOLVING;
    return n;
}

/* Every call comes through here. */
static struct slot *enter(const struct miniproxy_conn *c, const char *name)
{
    struct slot *s;
    REQUIRE(PROPERTY_CONTRACT, world.in_poll || world.stopped || strcmp(name, "close") == 0,
            "%s is called outside miniproxy_poll", name);
    REQUIRE(PROPERTY_CONTRACT, c->id < MINIPROXY_CONNS, "%s: id %u is out of range", name, c->id);
    s = &slots[c->id];
    REQUIRE(PROPERTY_CONTRACT, s->c == NULL || s->c == c, "%s: connection %u has moved", name, c->id);
    s->c = (struct miniproxy_conn *)(uintptr_t)c;
    world.calls++;
    world.calls_in_poll++;
    REQUIRE(PROPERTY_TIME, world.calls_in_poll < 200000, "one poll makes 200000 calls");
    return s;
}

static struct slot *enter_fresh(const struct miniproxy_conn *c, const char *name)
{
    struct slot *s = enter(c, name);
    REQUIRE(PROPERTY_CONTRACT, s->state == SLOT_CLOSED || s->state == SLOT_ANSWERED || s->state == SLOT_FAILED,
            "%s on connection %u, which is in use", name, c->id);
    REQUIRE(PROPERTY_CONTRACT, c->handle == 0 && c->port_flags == 0,
            "%s on connection %u: handle or port_flags is not 0", name, c->id);
    REQUIRE(PROPERTY_CONTRACT, !s->closed_before || s->generation != c->generation,
            "%s on connection %u: the generation is the old one", name, c->id);
    s->closed_before = false;
    s->generation = c->generation;
    return s;
}

static struct slot *enter_open(const struct miniproxy_conn *c, const char *name)
{
    struct slot *s = enter(c, name);
    REQUIRE(PROPERTY_CONTRACT, s->state == SLOT_OPEN, "%s on connection %u, which is not open", name, c->id);
    REQUIRE(PROPERTY_CONTRACT, s->v->c == c && s->generation == c->generation && c->handle == s->v->number + 1,
            "%s on connection %u: the core changed handle or generation", name, c->id);
    return s;
}

static bool injected(int *error)
{
    if (world.mood.fail_at_call == 0 || world.calls != world.mood.fail_at_call) return false;
    *error = world.mood.fail_with;
    return true;
}

static void whim(struct conn *v)
{
    if (one_in(world.mood.spurious_one_in)) miniproxy_wake(v->c, between(1, 3));
}

static uint32_t amount(uint32_t possible)
{
    if (world.mood.amounts == 0) return 1;
    return world.mood.amounts == 1 ? 1 + spread(possible - 1) : possible;
}

/* ---- accept ---- */

static void take_client(struct slot *s, struct miniproxy_conn *c, struct client *cl)
{
    struct conn *v = cl->conn;
    v->state = CONN_OPEN;
    world.open_clients++;
    tie_accept(cl, c);
    v->c = c;
    v->generation = c->generation;
    v->slot = c->id;
    c->handle = v->number + 1;
    s->v = v;
    s->state = SLOT_OPEN;
    step_after(&cl->actor, 0);
}

static int port_accept(void *port, struct miniproxy_conn *c, struct miniproxy_addr *peer)
{
    struct slot *s = enter_fresh(c, "accept");
    struct client *cl;
    int error;
    (void)port;
    REQUIRE(PROPERTY_DRAIN, !world.drained && !world.stopped, "accept is called after drain or stop");
    if (one_in(world.mood.resources_one_in)) {
        world.resources_failed = true;
        return MINIPROXY_ERESOURCES;
    }
    if (world.queue_len == 0 || (one_in(world.mood.again_one_in) && !world.accept_wake_due)) {
        world.accept_wanted = true;
        if (world.queue_len > 0) {
            world.accept_wake_due = true;
            after(below(world.mood.wake_delay_ms + 1), EVENT_WAKE_ACCEPT, 0, 0);
        }
        return MINIPROXY_AGAIN;
    }
    cl = &world.clients[world.queue[0]];
    memmove(world.queue, world.queue + 1, --world.queue_len * sizeof world.queue[0]);
    if (injected(&error)) {
        cl->happened |= CLIENT_FAULT;
        cl->conn->state = CONN_CLOSED;
        cl->conn->in.taken = cl->conn->in.written;
        after(0, EVENT_RESET_OUT, cl->conn->number, 1);
        return MINIPROXY_EFAIL;
    }
    *peer = cl->addr;
    c->listener = cl->listener;
    take_client(s, c, cl);
    trace("accept client %u as connection %u, session %u", cl->actor.number, c->id, cl->session);
    return MINIPROXY_OK;
}

/* ---- resolve ---- */

static int answer_name(struct slot *s, struct miniproxy_addr *out, int max)
{
    const struct host *h = s->host;
    int n = h->result;
    s->state = SLOT_ANSWERED;
    trace("resolve %s -> %d", h->name, n);
    if (n <= 0) return n;
    if (n > max) n = max;
    for (int i = 0; i < n; i++) {
        out[i] = world.machines[h->machines[i]].addr;
        out[i].port = (uint16_t)below(65536);
    }
    return n;
}

static void start_resolution(struct slot *s, struct miniproxy_conn *c, const struct host *host)
{
    s->state = SLOT_RESOLVING;
    s->host = host;
    s->token = ++tokens;
    s->due_ms = host->delay_ms == UINT32_MAX ? UINT64_MAX : world.now_ms + host->delay_ms;
    if (s->due_ms != UINT64_MAX && s->due_ms > world.now_ms) at(s->due_ms, EVENT_SLOT, c->id, s->token);
    c->handle = (intptr_t)(1000000 + s->token);
}

static int resolve(struct miniproxy_conn *c, const char *name, struct miniproxy_addr *out, int max)
{
    struct slot *s = enter(c, "resolve");
    const struct host *host;
    struct exchange *ex = tie_resolve(c, name, &host);
    int error;
    REQUIRE(PROPERTY_CONTRACT, max >= 1, "resolve with room for %d addresses", max);
    if (s->state != SLOT_RESOLVING) {
        s = enter_fresh(c, "resolve");
        if (one_in(world.mood.resources_one_in) || injected(&error)) {
            ex->happened |= HAPPENED_RESOURCES;
            s->state = SLOT_ANSWERED;
            return MINIPROXY_ERESOURCES;
        }
        start_resolution(s, c, host);
        ex->resolved = true;
        if (s->due_ms == world.now_ms && one_in(world.mood.again_one_in)) {
            s->due_ms = world.now_ms + 1;
            at(s->due_ms, EVENT_SLOT, c->id, s->token);
        }
    }
    REQUIRE(PROPERTY_CONTRACT, s->generation == c->generation, "resolve: generation changed without close");
    if (world.now_ms < s->due_ms) return MINIPROXY_AGAIN;
    c->handle = 0;
    return answer_name(s, out, max);
}

static int port_resolve(void *port, struct miniproxy_conn *c, const char *host, struct miniproxy_addr *out, int max)
{
    int result = resolve(c, host, out, max);
    (void)port;
    tie_seen(c, SEEN_RESOLVE, NULL, result);
    return result;
}

/* ---- connect ---- */

static const struct machine *machine_at(const struct miniproxy_addr *a)
{
    for (unsigned i = 0; i < MACHINES_ALL; i++) {
        const struct machine *m = &world.machines[i];
        if (i >= world.machine_count && i < MACHINES_MAX) continue;
        if (m->addr.family == a->family && memcmp(m->addr.ip, a->ip, a->family == 4 ? 4 : MINIPROXY_IP_LEN) == 0)
            return m;
    }
    return NULL;
}

static int start_attempt(struct slot *s, struct miniproxy_conn *c, const struct miniproxy_addr *to)
{
    const struct machine *m = machine_at(to);
    struct exchange *ex = tie_connect(c, to, m);
    static const int results[] = {MINIPROXY_OK,    MINIPROXY_OK,     MINIPROXY_EREFUSED, MINIPROXY_EUNREACHABLE,
                                  MINIPROXY_AGAIN, MINIPROXY_ERESET, MINIPROXY_ESELF};
    int error;
    s->to = *to;
    s->token = ++tokens;
    if (one_in(world.mood.resources_one_in) || injected(&error)) {
        ex->happened |= HAPPENED_RESOURCES;
        s->state = SLOT_FAILED;
        return MINIPROXY_ERESOURCES;
    }
    if (ex == world.check && world.conn_count > CONNS_MAX / 2) { /* they go on for as long as anybody does */
        s->state = SLOT_FAILED;
        return MINIPROXY_EREFUSED;
    }
    s->v = conn_new(false);
    s->v->c = c;
    s->v->exchange = ex;
    s->v->machine = m;
    s->v->parent = parent_of(m);
    s->v->is_check = ex == world.check;
    s->v->slot = c->id;
    s->v->generation = c->generation;
    s->v->connect_result = results[m->kind];
    s->v->state = CONN_CONNECTING;
    c->handle = s->v->number + 1;
    s->state = SLOT_CONNECTING;
    s->due_ms = m->kind == MACHINE_BLACKHOLE ? UINT64_MAX : world.now_ms + m->delay_ms;
    if (s->due_ms > world.now_ms && s->due_ms != UINT64_MAX) at(s->due_ms, EVENT_SLOT, c->id, s->token);
    return MINIPROXY_AGAIN;
}

static int connect_to(struct miniproxy_conn *c, const struct miniproxy_addr *to)
{
    struct slot *s = enter(c, "connect");
    int result;
    if (s->state != SLOT_CONNECTING) {
        s = enter_fresh(c, "connect");
        result = start_attempt(s, c, to);
        if (result != MINIPROXY_AGAIN) return result;
    }
    REQUIRE(PROPERTY_CONTRACT, s->generation == c->generation && c->handle == s->v->number + 1,
            "connect: handle or generation changed without close");
    REQUIRE(PROPERTY_CONTRACT,
            memcmp(s->to.ip, to->ip, to->family == 4 ? 4 : MINIPROXY_IP_LEN) == 0 && s->to.port == to->port,
            "connect is repeated with another address");
    if (world.now_ms < s->due_ms) return MINIPROXY_AGAIN;
    trace("connect %u for request %u -> %d", c->id, s->v->exchange->id, s->v->connect_result);
    if (s->v->connect_result != MINIPROXY_OK) {
        result = s->v->connect_result;
        s->state = SLOT_FAILED;
        s->v->state = CONN_CLOSED;
        s->v->c = NULL;
        s->v = NULL;
        return result;
    }
    s->state = SLOT_OPEN;
    s->v->state = CONN_OPEN;
    s->v->exchange->connected = true;
    world.connected(s->v);
    return MINIPROXY_OK;
}

static int port_connect(void *port, struct miniproxy_conn *c, const struct miniproxy_addr *to)
{
    int result = connect_to(c, to);
    (void)port;
    tie_seen(c, SEEN_CONNECT, NULL, result);
    return result;
}

void port_slot_due(uint32_t slot, uint64_t token)
{
    struct slot *s = &slots[slot];
    if (s->token != token || (s->state != SLOT_RESOLVING && s->state != SLOT_CONNECTING)) return;
    world.woken = true;
    miniproxy_wake(s->c, MINIPROXY_WR);
}

/* ---- recv and send ---- */

/* An error at exactly this call, as the mood has it. */
static int break_now(struct conn *v, int error)
{
    trace("injected error %d on connection %u", error, v->slot);
    tie_fault(v);
    link_break(v);
    return error;
}

static bool whimsical_again(struct conn *v, unsigned bit)
{
    if (!one_in(world.mood.again_one_in) || (v->wake_due & bit) != 0) return false;
    v->wanted |= (uint8_t)bit;
    link_wake_later(v, bit);
    return true;
}

static int ended(const struct conn *v, const char *call, int result)
{
    trace("%s %u (%s %u) -> %s", call, v->slot, v->of_client ? "client" : "origin", v->number,
          result == MINIPROXY_EOF ? "EOF" : "reset");
    return result;
}

static int receive(struct miniproxy_conn *c, void *buf, size_t len)
{
    struct conn *v = enter_open(c, "recv")->v;
    uint32_t n = conn_readable(v);
    int error;
    REQUIRE(PROPERTY_CONTRACT, len > 0, "recv of 0 octets");
    whim(v);
    if (injected(&error)) return break_now(v, error);
    if (n == 0 && v->broken) return ended(v, "recv", MINIPROXY_ERESET);
    if (n == 0 && v->in.fin_arrived && v->in.arrived == v->in.written) return ended(v, "recv", MINIPROXY_EOF);
    if (n == 0 || whimsical_again(v, MINIPROXY_RD)) {
        v->wanted |= MINIPROXY_RD;
        return MINIPROXY_AGAIN;
    }
    n = amount(n < len ? n : (uint32_t)len);
    memset(buf, 0xA5, len); /* what lies behind the result must not matter */
    link_take(v, buf, n);
    tie_taken(v, n);
    trace("recv %u (%s %u) -> %u", c->id, v->of_client ? "client" : "origin", v->number, n);
    if (world.mood.clears_rd && conn_readable(v) == 0 && !v->in.fin_arrived && !v->broken) {
        c->ready &= (uint8_t)~MINIPROXY_RD;
        v->wanted |= MINIPROXY_RD;
    }
    return (int)n;
}

static int port_recv(void *port, struct miniproxy_conn *c, void *buf, size_t len)
{
    int result = receive(c, buf, len);
    (void)port;
    tie_seen(c, SEEN_RECV, buf, result);
    return result;
}

static void remember_refused(struct conn *v, const void *buf, size_t len)
{
    if (v->refused_size < len) {
        free(v->refused);
        v->refused = malloc(len);
        if (v->refused == NULL) abort();
        v->refused_size = len;
    }
    memcpy(v->refused, buf, len);
    v->refused_len = len;
}

static int transmit(struct miniproxy_conn *c, const void *buf, size_t len)
{
    struct conn *v = enter_open(c, "send")->v;
    uint32_t n = conn_room(v);
    int error;
    REQUIRE(PROPERTY_CONTRACT, len > 0, "send of 0 octets");
    REQUIRE(PROPERTY_CONTRACT, !v->finished && !v->finish_again, "send after finish on connection %u", c->id);
    if (v->refused_len > 0) {
        REQUIRE(PROPERTY_SEND_REPEATS, len >= v->refused_len && memcmp(buf, v->refused, v->refused_len) == 0,
                "connection %u: a send that got AGAIN is repeated with other bytes", c->id);
        v->refused_len = 0;
    }
    whim(v);
    if (injected(&error)) return break_now(v, error);
    if (v->broken) return ended(v, "send", MINIPROXY_ERESET);
    if (n == 0 || whimsical_again(v, MINIPROXY_WR)) {
        v->wanted |= MINIPROXY_WR;
        remember_refused(v, buf, len);
        return MINIPROXY_AGAIN;
    }
    n = amount(n < len ? n : (uint32_t)len);
    link_put(v, buf, n);
    trace("send %u (%s %u) %zu -> %u", c->id, v->of_client ? "client" : "origin", v->number, len, n);
    return (int)n;
}

static int port_send(void *port, struct miniproxy_conn *c, const void *buf, size_t len)
{
    int result = transmit(c, buf, len);
    (void)port;
    tie_seen(c, SEEN_SEND, buf, result);
    return result;
}

/* The call that is to fail does so on either side. */
static int break_relay(struct conn *from, struct conn *to, int error)
{
    if (one_in(2)) return break_now(from, error);
    break_now(to, error);
    return MINIPROXY_ESINK;
}

static int port_relay(void *port, struct miniproxy_conn *from, struct miniproxy_conn *to, size_t max)
{
    static uint8_t data[65536];
    struct conn *f = enter_open(from, "relay")->v, *t = enter_open(to, "relay")->v;
    uint32_t n = conn_readable(f), room = conn_room(t);
    int error;
    (void)port;
    REQUIRE(PROPERTY_CONTRACT, max > 0, "relay of 0 octets");
    REQUIRE(PROPERTY_CONTRACT, !t->finished && !t->finish_again, "relay after finish on connection %u", to->id);
    REQUIRE(PROPERTY_SEND_REPEATS, t->refused_len == 0,
            "connection %u: a send that got AGAIN is followed by relay", to->id);
    whim(f);
    whim(t);
    if (injected(&error)) return break_relay(f, t, error);
    if (t->broken) return ended(t, "relay to", MINIPROXY_ESINK);
    if (n == 0 && f->broken) return ended(f, "relay", MINIPROXY_ERESET);
    if (n == 0 && f->in.fin_arrived && f->in.arrived == f->in.written) return ended(f, "relay", MINIPROXY_EOF);
    if (n == 0 || whimsical_again(f, MINIPROXY_RD)) {
        f->wanted |= MINIPROXY_RD;
        from->ready &= (uint8_t)~MINIPROXY_RD;
    }
    if (room == 0 || whimsical_again(t, MINIPROXY_WR)) {
        t->wanted |= MINIPROXY_WR;
        to->ready &= (uint8_t)~MINIPROXY_WR;
    }
    if ((from->ready & MINIPROXY_RD) == 0 || (to->ready & MINIPROXY_WR) == 0) return MINIPROXY_AGAIN;
    if (n > max) n = (uint32_t)max;
    if (n > room) n = room;
    n = amount(n < sizeof data ? n : (uint32_t)sizeof data);
    link_take(f, data, n);
    tie_taken(f, n);
    link_put(t, data, n);
    trace("relay %u -> %u: %u", from->id, to->id, n);
    return (int)n;
}

static int port_finish(void *port, struct miniproxy_conn *c)
{
    struct conn *v = enter_open(c, "finish")->v;
    int error;
    (void)port;
    REQUIRE(PROPERTY_CONTRACT, !v->finished, "finish twice on connection %u", c->id);
    whim(v);
    if (injected(&error)) return break_now(v, error);
    if (v->broken) return ended(v, "send", MINIPROXY_ERESET);
    if (whimsical_again(v, MINIPROXY_WR)) {
        v->finish_again = true;
        return MINIPROXY_AGAIN;
    }
    trace("finish %u (%s %u)", c->id, v->of_client ? "client" : "origin", v->number);
    v->finished = true;
    link_fin(v);
    return MINIPROXY_OK;
}

static void port_close(void *port, struct miniproxy_conn *c, bool hard)
{
    struct slot *s = enter(c, "close");
    (void)port;
    REQUIRE(PROPERTY_CONTRACT, s->state != SLOT_CLOSED || c == world.unborn, "close of connection %u, which is not open", c->id);
    trace("close %u%s", c->id, hard ? " hard" : "");
    if (s->state != SLOT_CLOSED && s->state != SLOT_FAILED) tie_seen(c, SEEN_CLOSE, NULL, 0);
    world.unborn = NULL;
    if (s->state == SLOT_OPEN || s->state == SLOT_CONNECTING) {
        if (s->v->of_client) world.open_clients--;
        link_close(s->v, hard);
    }
    s->closed_before = true;
    s->state = SLOT_CLOSED;
    s->v = NULL;
    s->token = ++tokens;
}

const struct miniproxy_port sim_port = {
    .accept = port_accept,
    .resolve = port_resolve,
    .connect = port_connect,
    .recv = port_recv,
    .send = port_send,
    .finish = port_finish,
    .close = port_close,
};

/* The same, passing on by itself what needs no looking at. */
const struct miniproxy_port sim_port_relay = {
    .accept = port_accept,
    .resolve = port_resolve,
    .connect = port_connect,
    .recv = port_recv,
    .send = port_send,
    .finish = port_finish,
    .close = port_close,
    .relay = port_relay,
};

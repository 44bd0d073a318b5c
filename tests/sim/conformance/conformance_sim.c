/* SPDX-License-Identifier: MIT
 *
 * Does the simulated port keep the contract that the core is tested with? conformance_sim [RESULTS.tsv]
 * The rules of tests/port/conformance.h, in networks of several moods. ties.c and world.c are not part of it: no core
 * and no client is here, only this file's peers at the other ends of the links.
 */
#include "../../port/conformance.h"
#include "../sim.h"

#include <stdlib.h>
#include <string.h>

enum { SEEDS = 36, PEERS_MAX = 256, INBOX_SIZE = 4096, ROWS_MAX = 200, HOLD_MS = 60000 };

static const uint16_t ports_from = 30000; /* the first listener's port; the others follow */

/* The other end of a connection, or one that listens. */
struct peer {
    struct conn *v; /* NULL: it listens */
    const struct client *client;
    int listener;   /* that it has come from; -1: none, or it has been accepted */
    uint32_t inbox_len;
    uint8_t inbox[INBOX_SIZE]; /* a peer that reads late: what it has not asked for yet */
};

static struct peer peers[PEERS_MAX];
static int peer_count;
static uint16_t clients; /* of world.clients that have begun a connection since the last clear */
static uint16_t aimed[MINIPROXY_CONNS]; /* port that a connection goes to */
static bool begun[MINIPROXY_CONNS];     /* something is there to be closed */

enum name { NAME_KNOWN, NAME_OTHER, NAME_MISSING, NAME_FAILING, NAME_BOTH, NAME_SLOW, NAME_COUNT };
enum place { PLACE_OPEN_4, PLACE_OPEN_6, PLACE_REFUSED_4, PLACE_REFUSED_6, PLACE_SILENT, PLACE_SELF, PLACE_COUNT };

/* ---- In place of ties.c: every name may be asked for, every address connected ---- */

void tie_accept(struct client *cl, const struct miniproxy_conn *c)
{
    (void)c;
    cl->accepted = true;
}

struct exchange *tie_resolve(const struct miniproxy_conn *c, const char *name, const struct host **host)
{
    struct exchange *ex = &world.exchanges[c->id];

    for (unsigned i = 0; i < world.host_count; i++)
        if (strcmp(world.hosts[i].name, name) == 0) *host = &world.hosts[i];
    return ex;
}

struct exchange *tie_connect(const struct miniproxy_conn *c, const struct miniproxy_addr *to, const struct machine *m)
{
    REQUIRE(PROPERTY_CONTRACT, m != NULL, "an address is connected that nobody has");
    aimed[c->id] = to->port;
    return &world.exchanges[c->id];
}

void tie_taken(const struct conn *v, uint32_t octets)
{
    (void)v, (void)octets;
}

void tie_fault(struct conn *v)
{
    violation(PROPERTY_CONTRACT, "connection %u has an error, and none was to be injected", v->number);
}

void tie_seen(const struct miniproxy_conn *c, enum seen_call what, const void *data, int result)
{
    (void)c, (void)what, (void)data, (void)result;
}

struct parent *parent_of(const struct machine *m)
{
    (void)m;
    return NULL;
}

void checked(enum property p)
{
    (void)p;
}

/* ---- The port, called as the core would ---- */

static int call_accept(void *port, struct miniproxy_conn *c, struct miniproxy_addr *peer)
{
    uint32_t again_one_in = world.mood.again_one_in;
    int result;

    /* Some of the tests expect at once what they know to be waiting. */
    world.mood.again_one_in = 0;
    result = sim_port.accept(port, c, peer);
    world.mood.again_one_in = again_one_in;
    if (result != MINIPROXY_OK) return result;
    begun[c->id] = true;
    c->ready |= MINIPROXY_RD | MINIPROXY_WR;
    return result;
}

static int call_resolve(void *port, struct miniproxy_conn *c, const char *host, struct miniproxy_addr *out, int max)
{
    begun[c->id] = true;
    return sim_port.resolve(port, c, host, out, max);
}

static int call_connect(void *port, struct miniproxy_conn *c, const struct miniproxy_addr *to)
{
    int result = sim_port.connect(port, c, to);

    begun[c->id] = true;
    if (result == MINIPROXY_OK) c->ready |= MINIPROXY_RD | MINIPROXY_WR;
    return result;
}

/* Two of the tests ask for the first part of what there is, and count on getting it at once. */
static int call_recv(void *port, struct miniproxy_conn *c, void *data, size_t len)
{
    uint8_t amounts = world.mood.amounts;
    int result;

    if (len < conn_readable(world.conns[c->handle - 1])) world.mood.amounts = 2;
    result = sim_port.recv(port, c, data, len);
    world.mood.amounts = amounts;
    return result;
}

/* A whim must not keep the first octets from being taken, and a test may repeat less of a refused send than the core
 * ever does. */
static int call_send(void *port, struct miniproxy_conn *c, const void *data, size_t len)
{
    uint32_t again_one_in = world.mood.again_one_in;
    struct conn *v = world.conns[c->handle - 1];
    int result;

    if (len < v->refused_len) v->refused_len = len;
    if (v->produced == 0) world.mood.again_one_in = 0;
    result = sim_port.send(port, c, data, len);
    world.mood.again_one_in = again_one_in;
    return result;
}

/* The tests also close what has never been more than a record. The core does not, and the port would say so. */
static void call_close(void *port, struct miniproxy_conn *c, bool hard)
{
    if (begun[c->id]) sim_port.close(port, c, hard);
    begun[c->id] = false;
}

static struct miniproxy_port called;

/* ---- Time ---- */

static uint32_t now_ms(struct conformance_world *w)
{
    (void)w;
    return (uint32_t)world.now_ms;
}

static void pump(struct peer *p)
{
    if (p->v == NULL) return;
    p->inbox_len += (uint32_t)peer_read(p->v, p->inbox + p->inbox_len, INBOX_SIZE - p->inbox_len);
}

static void play_until(uint64_t end_ms)
{
    while (next_event_ms() <= end_ms) {
        struct event e = pop_event();

        if (e.when_ms > world.now_ms) world.now_ms = e.when_ms;
        if (e.kind != EVENT_STEP) play_network(&e); /* these peers are driven by the tests */
        for (int i = 0; i < peer_count; i++) pump(&peers[i]);
    }
    world.now_ms = end_ms;
}

/* Some time passes in any case: it would stand still for who polls without a pause. */
static void wait_ms(struct conformance_world *w, uint32_t ms)
{
    (void)w;
    world.calls_in_poll = 0;
    play_until(world.now_ms + (ms == 0 ? 1 : ms));
}

/* ---- Peers ---- */

/* One send of a peer must be taken in the end, even if nobody receives. */
static void widen(struct lane *l)
{
    if (l->size >= CONFORMANCE_CHUNK) return;
    free(l->data);
    l->size = CONFORMANCE_CHUNK;
    l->data = malloc(l->size);
    if (l->data == NULL) abort();
}

static int add_peer(struct conn *v, const struct client *cl, int listener)
{
    if (peer_count == PEERS_MAX) violation(PROPERTY_LIVENESS, "more than %d peers", PEERS_MAX);
    if (v != NULL) widen(&v->in);
    peers[peer_count] = (struct peer){.v = v, .client = cl, .listener = listener};
    return peer_count++;
}

static int peer_connect(struct conformance_world *w, int family)
{
    struct client *cl = &world.clients[clients];

    (void)w;
    if (clients == CLIENTS_MAX) return MINIPROXY_ERESOURCES;
    memset(cl, 0, sizeof *cl);
    cl->actor.number = clients++;
    cl->addr = (struct miniproxy_addr){.family = (uint8_t)family, .port = (uint16_t)between(1, 65535)};
    for (int i = 0; i < (family == 4 ? 4 : MINIPROXY_IP_LEN); i++) cl->addr.ip[i] = (uint8_t)below(256);
    cl->conn = conn_new(true);
    cl->conn->state = CONN_QUEUED;
    world.queue[world.queue_len++] = cl->actor.number;
    if ((world.accept_wanted || world.mood.edge_wakes) && !world.accept_wake_due) {
        world.accept_wake_due = true;
        after(below(world.mood.wake_delay_ms + 1), EVENT_WAKE_ACCEPT, 0, 0);
    }
    return add_peer(cl->conn, cl, -1);
}

static int peer_listen(struct conformance_world *w, int family, struct miniproxy_addr *at)
{
    struct machine *m = &world.machines[family == 4 ? PLACE_OPEN_4 : PLACE_OPEN_6];
    int peer = add_peer(NULL, NULL, -1);

    (void)w;
    m->delay_ms = below(world.mood.latency_ms + 1);
    *at = m->addr;
    at->port = (uint16_t)(ports_from + peer);
    return peer;
}

/* The port has connected. */
static void connected(struct conn *v)
{
    add_peer(v, NULL, aimed[v->slot] - ports_from);
}

static int peer_accept(struct conformance_world *w, int listener)
{
    (void)w;
    for (int i = 0; i < peer_count; i++) {
        if (peers[i].v == NULL || peers[i].listener != listener) continue;
        peers[i].listener = -1;
        return i;
    }
    return MINIPROXY_AGAIN;
}

static struct miniproxy_addr peer_address(struct conformance_world *w, int peer)
{
    (void)w;
    return peers[peer].client->addr;
}

static int peer_send(struct conformance_world *w, int peer, const void *data, size_t len)
{
    struct conn *v = peers[peer].v;
    size_t n;

    (void)w;
    if (peer_was_reset(v)) return MINIPROXY_ERESET;
    n = peer_write(v, data, len);
    return n > 0 ? (int)n : MINIPROXY_AGAIN;
}

static int peer_recv(struct conformance_world *w, int peer, void *data, size_t len)
{
    struct peer *p = &peers[peer];

    (void)w;
    pump(p);
    if (p->inbox_len > 0) {
        if (len > p->inbox_len) len = p->inbox_len;
        memcpy(data, p->inbox, len);
        p->inbox_len -= (uint32_t)len;
        memmove(p->inbox, p->inbox + len, p->inbox_len);
        return (int)len;
    }
    if (peer_was_reset(p->v)) return MINIPROXY_ERESET;
    return peer_eof(p->v) ? MINIPROXY_EOF : MINIPROXY_AGAIN;
}

static void finish_peer(struct conformance_world *w, int peer)
{
    (void)w;
    peer_fin(peers[peer].v);
}

static void reset_peer(struct conformance_world *w, int peer)
{
    (void)w;
    peer_reset(peers[peer].v);
}

/* ---- Names, addresses, resources ---- */

static struct miniproxy_addr place(enum place p)
{
    struct miniproxy_addr at = world.machines[p].addr;

    at.port = (uint16_t)between(1, 1000);
    return at;
}

static struct miniproxy_addr refusing(struct conformance_world *w, int family)
{
    (void)w;
    return place(family == 4 ? PLACE_REFUSED_4 : PLACE_REFUSED_6);
}

static struct miniproxy_addr silent(struct conformance_world *w)
{
    (void)w;
    return place(PLACE_SILENT);
}

static bool own(struct conformance_world *w, unsigned index, struct miniproxy_addr *at)
{
    (void)w;
    *at = place(PLACE_SELF);
    return index == 0;
}

static void starve(struct conformance_world *w, bool on)
{
    (void)w;
    world.mood.resources_one_in = on ? 1 : 0;
}

static uint64_t held_until_ms; /* 0: not held */

/* What is asked for now is answered long after; in the end this goes on until just before. */
static void hold_names(struct conformance_world *w, bool on)
{
    (void)w;
    if (!on && held_until_ms != 0) play_until(held_until_ms - 1);
    held_until_ms = on ? world.now_ms + HOLD_MS : 0;
    world.hosts[NAME_SLOW].delay_ms = on ? HOLD_MS : 10;
}

static void clear(struct conformance_world *w)
{
    starve(w, false);
    hold_names(w, false);
    for (int i = 0; i < peer_count; i++)
        if (peers[i].v != NULL) peer_reset(peers[i].v);
    peer_count = 0;
    clients = world.queue_len = 0;
}

/* ---- The network of a seed ---- */

static void make_machines(void)
{
    static const uint8_t kinds[] = {MACHINE_OK,      MACHINE_OK,        MACHINE_REFUSED,
                                    MACHINE_REFUSED, MACHINE_BLACKHOLE, MACHINE_SELF};

    for (unsigned i = 0; i < PLACE_COUNT; i++) {
        struct machine *m = &world.machines[i];

        *m = (struct machine){.kind = kinds[i], .delay_ms = below(world.mood.latency_ms + 1)};
        m->addr.family = i == PLACE_OPEN_6 || i == PLACE_REFUSED_6 ? 6 : 4;
        m->addr.ip[0] = 11;
        m->addr.ip[3] = (uint8_t)(i + 1);
    }
    world.machine_count = PLACE_COUNT;
}

static void make_hosts(void)
{
    static const struct host hosts[NAME_COUNT] = {
        [NAME_KNOWN] = {"known.test", {PLACE_OPEN_4}, 1, 1, 0},
        [NAME_OTHER] = {"other.test", {PLACE_OPEN_6}, 1, 1, 7},
        [NAME_MISSING] = {"missing.test", {0}, 0, MINIPROXY_ENAME, 3},
        [NAME_FAILING] = {"failing.test", {0}, 0, MINIPROXY_EDNS, 0},
        [NAME_BOTH] = {"both.test", {PLACE_OPEN_6, PLACE_OPEN_4, PLACE_REFUSED_6}, 3, 3, 1},
        [NAME_SLOW] = {"slow.test", {PLACE_REFUSED_4}, 1, 1, 10},
    };

    memcpy(world.hosts, hosts, sizeof hosts);
    world.host_count = NAME_COUNT;
}

/* The first half of the seeds is of a plain mood in all but amounts and capacities. */
static void make_mood(uint64_t seed)
{
    static const uint32_t capacities[] = {1, 7, 100, 1500, 16384, 65536};
    struct mood *m = &world.mood;

    m->amounts = (uint8_t)(seed / 6 % 3);
    m->capacity_max = capacities[seed % 6];
    if (m->amounts == 0 && m->capacity_max > 1500) m->capacity_max = 1500; /* octet by octet */
    m->small = m->capacity_max < 600;
    m->edge_wakes = one_in(2);
    m->clears_rd = one_in(2);
    m->broken_hint = one_in(2);
    if (seed <= SEEDS / 2) return;
    m->again_one_in = one_in(3) ? 0 : between(2, 20);
    m->spurious_one_in = one_in(3) ? 0 : between(1, 20);
    m->latency_ms = between(0, 12);
    m->wake_delay_ms = between(0, 6);
}

static struct conformance_name name_of(enum name n)
{
    return (struct conformance_name){world.hosts[n].name, world.machines[world.hosts[n].machines[0]].addr};
}

/* ---- Results: each test once, for all seeds ---- */

struct row {
    char name[160];
    const char *ids, *result;
};

static struct row rows[ROWS_MAX];
static unsigned row_count;
static bool all_well = true;

static void report(struct conformance_world *w, const char *result, const char *name, const char *ids, const char *why)
{
    unsigned i = 0;

    (void)w;
    while (i < row_count && strcmp(rows[i].name, name) != 0) i++;
    if (i == ROWS_MAX) abort();
    if (i == row_count) {
        snprintf(rows[i].name, sizeof rows[i].name, "%s", name);
        rows[i].ids = ids;
        rows[i].result = strcmp(result, "fail") == 0 ? "pass" : result;
        row_count++;
    }
    if (strcmp(result, "fail") != 0 || strcmp(rows[i].result, "fail") == 0) return;
    rows[i].result = result;
    all_well = false;
    fprintf(stderr, "FAIL %s: expected: %s (seed %llu)\n", name, why, (unsigned long long)world.seed);
}

static bool write_results(const char *path)
{
    FILE *f = path != NULL ? fopen(path, "w") : stdout;

    if (f == NULL) return false;
    for (unsigned i = 0; i < row_count; i++)
        fprintf(f, "%s\tport-sim\t%s\t%s\n", rows[i].result, rows[i].name, rows[i].ids);
    return fclose(f) == 0;
}

static void make_world(uint64_t seed)
{
    clear_network(seed);
    peer_count = clients = 0;
    held_until_ms = 0;
    world.in_poll = true;
    world.connected = connected;
    make_mood(seed);
    make_machines();
    make_hosts();
}

static void run_seed(uint64_t seed)
{
    struct conformance_world w = {
        .port = &called, .ipv4 = true, .ipv6 = MINIPROXY_WITH_IPV6, .now_ms = now_ms, .wait = wait_ms,
        .peer_connect = peer_connect, .peer_listen = peer_listen, .peer_accept = peer_accept,
        .peer_address = peer_address, .peer_send = peer_send, .peer_recv = peer_recv, .peer_finish = finish_peer,
        .peer_reset = reset_peer, .clear = clear, .refusing = refusing, .silent = silent, .own = own,
        .starve = starve, .missing = "missing.test", .failing = "failing.test", .both = "both.test",
        .hold_names = hold_names, .report = report,
    };

    make_world(seed);
    w.many = MINIPROXY_CONNS / 2;
    w.room_max = (world.mood.capacity_max < 600 ? 600 : world.mood.capacity_max) + 2 * INBOX_SIZE;
    w.known = name_of(NAME_KNOWN);
    w.other = name_of(NAME_OTHER);
    w.slow = name_of(NAME_SLOW);
    conformance_run(&w);
    report(&w, port_open_slots() == 0 ? "pass" : "fail", "no connection is left", "-", "all slots closed");
}

int main(int argc, char **argv)
{
    static const char rules[] = "no call breaks a rule that the port checks";

    called = sim_port_relay;
    called.accept = call_accept;
    called.resolve = call_resolve;
    called.connect = call_connect;
    called.recv = call_recv;
    called.send = call_send;
    called.close = call_close;
    /* After a violation the port's state is of no use for what would follow. */
    if (setjmp(world.escape) == 0) {
        for (uint64_t seed = 1; seed <= SEEDS && all_well; seed++) run_seed(seed);
        report(NULL, "pass", rules, "-", NULL);
    } else {
        report(NULL, "fail", rules, "-", world.message);
    }
    conn_free_all();
    return write_results(argc > 1 ? argv[1] : NULL) && all_well ? 0 : 1;
}

/* SPDX-License-Identifier: MIT */
/* Whose connections these are: the clients and exchanges behind what the core asks of the port. */
#include "sim.h"

#include <string.h>
#include <strings.h>

static unsigned session_of(const struct miniproxy_conn *c)
{
    return (unsigned)((size_t)((const char *)c - (const char *)world.proxy.sessions) / sizeof world.proxy.sessions[0]);
}

static struct client *find_client(unsigned session)
{
    for (unsigned i = 0; i < world.client_count; i++) {
        struct client *cl = &world.clients[i];
        if (cl->accepted && cl->session == session && cl->conn->state != CONN_CLOSED) return cl;
    }
    return NULL;
}

static struct client *client_of(const struct miniproxy_conn *c)
{
    struct client *cl = find_client(session_of(c));
    if (cl == NULL)
        violation(PROPERTY_CONTRACT, "a connection of session %u is used, which has no client", session_of(c));
    return cl;
}

/* What it is for: a client's request, or a health check. */
static struct exchange *exchange_of(const struct miniproxy_conn *c)
{
    struct client *cl = find_client(session_of(c));
    return MINIPROXY_WITH_ROUTES && cl == NULL ? world.check : current_exchange(client_of(c));
}

static unsigned sessions_of_address(const struct miniproxy_addr *a)
{
    unsigned n = 0;
    for (unsigned i = 0; i < world.client_count; i++) {
        const struct client *cl = &world.clients[i];
        n += cl->accepted && cl->conn->state == CONN_OPEN && memcmp(cl->addr.ip, a->ip, 4) == 0;
    }
    return n;
}

void tie_accept(struct client *cl, const struct miniproxy_conn *c)
{
    unsigned cap =
        world.config.sessions_per_client != 0 ? world.config.sessions_per_client : MINIPROXY_SESSIONS_PER_CLIENT;
    cl->accepted = true;
    cl->session = (uint16_t)session_of(c);
    cl->surplus = world.open_clients > MINIPROXY_SESSIONS || sessions_of_address(&cl->addr) > cap;
    if (cl->surplus) world.ever_full = true;
}

struct exchange *tie_resolve(const struct miniproxy_conn *c, const char *name, const struct host **host)
{
    struct exchange *ex = exchange_of(c);
    struct parent *q = parent_named(name);
    bool allowed = false;
    if (q != NULL && ex != NULL) {
        try_hop(c, ex, q);
        *host = &q->host;
        return ex;
    }
    REQUIRE(PROPERTY_CONTRACT, ex != NULL && ex->host != NULL && strcasecmp(name, ex->host->name) == 0,
            "resolve of \"%s\", which is not the host of the request", name);
    for (unsigned i = 0; i < ex->policy_count; i++)
        allowed = allowed || rules_may_allow(ex->policies[i], ex, login_groups(ex->policies[i], ex));
    REQUIRE(PROPERTY_POLICY_CONNECT, allowed, "\"%s\" is resolved although no address of it is allowed", name);
    limits_check_way(ex);
    *host = ex->host;
    /* Just when its way is open is the time for another policy. */
    if (MINIPROXY_WITH_ROUTES && one_in(12)) after(below(30), EVENT_POLICY, 0, 0);
    return ex;
}

struct exchange *tie_secure(const struct miniproxy_conn *c, const char *host)
{
    struct exchange *ex = current_exchange(client_of(c));
    char text[MINIPROXY_ADDR_TEXT];
    REQUIRE(PROPERTY_CONTRACT, ex != NULL && ex->kind != EXCHANGE_MALFORMED && ex->https,
            "TLS with \"%s\" for no https request", host);
    if (ex->host == NULL) miniproxy_addr_format(&ex->literal->addr, text);
    REQUIRE(PROPERTY_CONTRACT, strcasecmp(host, ex->host != NULL ? ex->host->name : text) == 0,
            "request %u: TLS with \"%s\"", ex->id, host);
    return ex;
}

static void check_address(const struct exchange *ex, const struct miniproxy_addr *to, const struct machine *m)
{
    bool listed = ex->literal == m, allowed = false;
    if (ex->host != NULL && ex->host->result > 0)
        for (int i = 0; i < ex->host->result; i++) listed = listed || &world.machines[ex->host->machines[i]] == m;
    REQUIRE(PROPERTY_POLICY_CONNECT, listed, "request %u: an address is connected that is not the host's", ex->id);
    REQUIRE(PROPERTY_POLICY_CONNECT, to->port == ex->port, "request %u: port %u is connected instead of %u", ex->id,
            to->port, ex->port);
    for (unsigned i = 0; i < ex->policy_count; i++)
        allowed = allowed || rules_allow(ex->policies[i], ex, &m->addr, m->special, login_groups(ex->policies[i], ex));
    REQUIRE(PROPERTY_POLICY_CONNECT, allowed, "request %u: a denied address is connected", ex->id);
    REQUIRE(PROPERTY_POLICY_CONNECT, ex->kind != EXCHANGE_MALFORMED || ex->bad_body,
            "malformed request %u is connected", ex->id);
}

struct exchange *tie_connect(const struct miniproxy_conn *c, const struct miniproxy_addr *to, const struct machine *m)
{
    struct exchange *ex = exchange_of(c);
    struct parent *q = m != NULL ? parent_of(m) : NULL;
    REQUIRE(PROPERTY_POLICY_CONNECT, ex != NULL && m != NULL, "a connection is made for no request");
    if (q != NULL) {
        try_hop(c, ex, q);
        REQUIRE(PROPERTY_POLICY_CONNECT, to->port == 3000 + q->index, "a hop is connected at port %u", to->port);
        return ex;
    }
    REQUIRE(PROPERTY_POLICY_CONNECT, ex != world.check || !MINIPROXY_WITH_ROUTES, "a check goes to an origin");
    check_address(ex, to, m);
    limits_check_way(ex);
    routes_direct(ex, to);
    return ex;
}

void tie_fault(struct conn *v)
{
    struct client *cl = MINIPROXY_WITH_ROUTES && v->is_check ? NULL : client_of(v->c);
    if (cl == NULL) return;
    cl->happened |= v->of_client ? CLIENT_FAULT : HAPPENED_FAULT;
    if (!v->of_client && v->exchange != NULL) v->exchange->happened |= HAPPENED_FAULT;
}

void tie_taken(const struct conn *v, uint32_t octets)
{
    const struct exchange *ex = exchange_of(v->c);
    if (ex != NULL) limits_check_taken(ex, v->of_client, octets);
}

void tie_seen(const struct miniproxy_conn *c, enum seen_call what, const void *data, int result)
{
    if (MINIPROXY_WITH_ROUTES) routes_seen(session_of(c), c, what, data, result);
}

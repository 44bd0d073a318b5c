/* SPDX-License-Identifier: MIT */
/* What must hold: for each event, and when the world has come to rest. */
#include "sim.h"

#include <string.h>
#include <strings.h>

struct exchange *current_exchange(struct client *cl)
{
    return cl->events < cl->count ? cl->exchanges[cl->events] : NULL;
}

struct client *client_at(const struct miniproxy_addr *a)
{
    struct client *cl =
        a->port >= 20000 && a->port < 20000 + world.client_count ? &world.clients[a->port - 20000] : NULL;
    return cl != NULL && cl->accepted && memcmp(cl->addr.ip, a->ip, 4) == 0 ? cl : NULL;
}

/* ---- Why an exchange may have been refused ---- */

static unsigned candidates(const struct exchange *ex, const struct machine *out[MINIPROXY_ADDRESSES])
{
    unsigned n = 0;
    if (ex->literal != NULL) out[n++] = ex->literal;
    if (ex->host == NULL || ex->host->result <= 0) return n;
    while (n < (unsigned)ex->host->result && n < MINIPROXY_ADDRESSES) {
        out[n] = &world.machines[ex->host->machines[n]];
        n++;
    }
    return n;
}

static bool has_machine(const struct exchange *ex, enum machine_kind kind)
{
    const struct machine *m[MINIPROXY_ADDRESSES];
    unsigned n = candidates(ex, m);
    for (unsigned i = 0; i < n; i++)
        if (m[i]->kind == kind) return true;
    return false;
}

/* Some policy of its time denies all its addresses. */
static bool denied(const struct exchange *ex)
{
    const struct machine *m[MINIPROXY_ADDRESSES];
    unsigned n = candidates(ex, m), allowed;
    for (unsigned p = 0; p < ex->policy_count; p++) {
        const struct miniproxy_policy *policy = ex->policies[p];
        uint16_t groups = login_groups(policy, ex);
        if (!rules_may_allow(policy, ex, groups) || routes_deny(policy, ex, groups)) return true;
        allowed = 0;
        for (unsigned i = 0; i < n; i++) allowed += rules_allow(policy, ex, &m[i]->addr, m[i]->special, groups);
        if (n > 0 && allowed == 0) return true;
    }
    return false;
}

static bool has_users(const struct exchange *ex)
{
    for (unsigned p = 0; p < ex->policy_count; p++)
        if (ex->policies[p] != NULL && ex->policies[p]->user_count > 0) return true;
    return false;
}

/* Nobody was asked for a login, or, before a request by SOCKS5, one was not looked at: there were no users just then. */
static bool has_no_login(const struct exchange *ex)
{
    if (ex->login == LOGIN_NONE) return true;
    for (unsigned p = 0; p < ex->policy_count && ex->client->socks; p++)
        if (ex->policies[p] == NULL || ex->policies[p]->user_count == 0) return true;
    return false;
}

/* Some policy of its time knows nobody who has made it. */
static bool is_nobodys(const struct exchange *ex)
{
    for (unsigned p = 0; p < ex->policy_count; p++)
        if (login_groups(ex->policies[p], ex) == 0) return true;
    return false;
}

static bool listed(const struct exchange *ex, uint8_t cause)
{
    for (unsigned i = 0; i < CAUSES_MAX && ex->causes[i] != 0; i++)
        if (ex->causes[i] == cause) return true;
    return false;
}

static bool excused_request(const struct exchange *ex, uint8_t cause, uint32_t h)
{
    const struct mood *m = &world.mood;
    switch (cause) {
    case MINIPROXY_CAUSE_CHUNK:
    case MINIPROXY_CAUSE_FIELD:
    case MINIPROXY_CAUSE_TRAILER_SIZE:
        return ex->bad_body;
    case MINIPROXY_CAUSE_HEAD_CUT:
    case MINIPROXY_CAUSE_BODY_CUT:
        return (h & (CLIENT_ABORTED | CLIENT_FIN | CLIENT_FAULT)) != 0;
    case MINIPROXY_CAUSE_LOGIN_MISSING:
        return has_users(ex) && has_no_login(ex) && is_nobodys(ex) && denied(ex);
    case MINIPROXY_CAUSE_LOGIN_FAILED:
        return has_users(ex) && (ex->login == LOGIN_WRONG || ex->login == LOGIN_JUNK);
    case MINIPROXY_CAUSE_LOGIN_THROTTLED:
        return world.login_failures[ex->client->addr.ip[3]] >= MINIPROXY_THROTTLE_FAILURES && ex->login != LOGIN_NONE;
    case MINIPROXY_CAUSE_LOGIN_QUEUE:
        return MINIPROXY_WITH_PBKDF2 && has_users(ex) && ex->login != LOGIN_NONE && m->slice_ms > 0;
    case MINIPROXY_CAUSE_POLICY:
    case MINIPROXY_CAUSE_ADDRESS:
        return denied(ex);
    case MINIPROXY_CAUSE_CONNECT_PORT:
        return denied(ex) && ex->kind == EXCHANGE_CONNECT && ex->port != MINIPROXY_CONNECT_PORT;
    case MINIPROXY_CAUSE_HEAD_TIMEOUT:
        return (h & CLIENT_SLOW) != 0 ||
               ex->head_len * (m->latency_ms + m->wake_delay_ms + 1) * 2 > world.timeout_ms[MINIPROXY_TIMEOUT_HEAD];
    case MINIPROXY_CAUSE_BODY_TIMEOUT:
        return (h & CLIENT_SLOW) != 0;
    case MINIPROXY_CAUSE_BODY_SIZE:
        return world.config.body_max != 0 && ex->req_len > world.config.body_max;
    default:
        return false;
    }
}

static bool excused_connect(const struct exchange *ex, uint8_t cause, uint32_t h)
{
    const struct host *host = ex->host;
    switch (cause) {
    case MINIPROXY_CAUSE_LOOP:
        return has_machine(ex, MACHINE_SELF);
    case MINIPROXY_CAUSE_RESOURCES:
        return (h & HAPPENED_RESOURCES) != 0;
    case MINIPROXY_CAUSE_DNS_NAME:
        return host != NULL && host->result == MINIPROXY_ENAME;
    case MINIPROXY_CAUSE_DNS_FAILED:
        return host != NULL && host->result == MINIPROXY_EDNS;
    case MINIPROXY_CAUSE_DNS_TIMEOUT:
        return host != NULL && host->delay_ms + UINT64_C(100) >= world.timeout_ms[MINIPROXY_TIMEOUT_DNS];
    case MINIPROXY_CAUSE_REFUSED:
        return has_machine(ex, MACHINE_REFUSED);
    case MINIPROXY_CAUSE_UNREACHABLE:
        return has_machine(ex, MACHINE_UNREACHABLE);
    case MINIPROXY_CAUSE_CONNECT_RESET:
        return has_machine(ex, MACHINE_RESETS);
    case MINIPROXY_CAUSE_CONNECT_TIMEOUT:
        return has_machine(ex, MACHINE_BLACKHOLE) || has_machine(ex, MACHINE_SLOW);
    default:
        return false;
    }
}

static bool excused_origin(const struct exchange *ex, uint8_t cause, uint32_t h)
{
    uint32_t broken = HAPPENED_RESET | HAPPENED_CUT | HAPPENED_STALE | HAPPENED_FAULT;
    switch (cause) {
    case MINIPROXY_CAUSE_FIRST_BYTE_TIMEOUT: /* a long head over a slow network takes its time, too */
        return (h & (HAPPENED_SLOW | HAPPENED_BIG_HEAD)) != 0 ||
               (ex->expect && (h & CLIENT_SLOW) != 0); /* neither sends a word: the origin has the first */
    case MINIPROXY_CAUSE_WRITE_TIMEOUT:
    case MINIPROXY_CAUSE_READ_TIMEOUT:
        return (h & HAPPENED_SLOW) != 0;
    case MINIPROXY_CAUSE_RESPONSE_RESET:
    case MINIPROXY_CAUSE_RESPONSE_CUT:
        return (h & broken) != 0;
    case MINIPROXY_CAUSE_RESPONSE_EMPTY:
        return (h & (broken | HAPPENED_EMPTY)) != 0;
    case MINIPROXY_CAUSE_RESPONSE_INVALID:
        return (h & (HAPPENED_GARBAGE | HAPPENED_BAD_FIELD)) != 0;
    case MINIPROXY_CAUSE_RESPONSE_LENGTH:
        return (h & HAPPENED_CONFLICT) != 0;
    case MINIPROXY_CAUSE_RESPONSE_CODING:
        return (h & (HAPPENED_BAD_CHUNK | HAPPENED_CONFLICT)) != 0;
    case MINIPROXY_CAUSE_RESPONSE_TRAILER_SIZE:
        return (h & HAPPENED_BAD_CHUNK) != 0;
    case MINIPROXY_CAUSE_RESPONSE_HEAD_SIZE:
        return (h & HAPPENED_BIG_HEAD) != 0;
    case MINIPROXY_CAUSE_RESPONSE_INTERIM:
        return ex->interims_sent > MINIPROXY_INTERIM_MAX;
    case MINIPROXY_CAUSE_UPGRADE:
        return (h & HAPPENED_SWITCH) != 0;
    default:
        return false;
    }
}

static bool excused_world(const struct exchange *ex, uint8_t cause, uint32_t h)
{
    switch (cause) {
    case MINIPROXY_CAUSE_SESSIONS_FULL:
    case MINIPROXY_CAUSE_CLIENT_LIMIT:
        checked(PROPERTY_BUSY);
        return world.ever_full;
    case MINIPROXY_CAUSE_BUFFERS_FULL:
        checked(PROPERTY_BUSY);
        return MINIPROXY_BUFFERS < 2 * MINIPROXY_SLOTS;
    case MINIPROXY_CAUSE_CLIENT_GONE:
        return (h & (CLIENT_ABORTED | CLIENT_FIN | CLIENT_FAULT)) != 0;
    case MINIPROXY_CAUSE_CLIENT_WRITE_TIMEOUT:
        return (h & (CLIENT_SLOW | CLIENT_STOPS_READING)) != 0;
    case MINIPROXY_CAUSE_TUNNEL_TIMEOUT:
        return (ex->up.on || ex->down.on) &&
               (world.timeout_ms[MINIPROXY_TIMEOUT_TUNNEL_TOTAL] != 0 ||
                (h & (HAPPENED_SLOW | CLIENT_SLOW | CLIENT_STOPS_READING | CLIENT_FIN)) != 0);
    case MINIPROXY_CAUSE_TOTAL_TIMEOUT:
        return world.timeout_ms[MINIPROXY_TIMEOUT_TOTAL] != 0;
    case MINIPROXY_CAUSE_STOPPED:
        return world.stopped;
    default:
        return false;
    }
}

static bool excused(const struct exchange *ex, uint8_t cause)
{
    uint32_t h = ex->happened | ex->client->happened;
    return listed(ex, cause) || excused_request(ex, cause, h) || (!ex->by_hops && excused_connect(ex, cause, h)) ||
           routes_excuse(ex, cause) || limits_excuse(ex, cause) || excused_origin(ex, cause, h) ||
           excused_world(ex, cause, h) || secure_excuses(ex, cause);
}

/* ---- Events ---- */

static bool same_text(const char *a, size_t len, const char *b, size_t limit)
{
    size_t n = strlen(b);
    return len == (n < limit ? n : limit) && memcmp(a, b, len) == 0;
}

void on_begin(void *app, const struct miniproxy_event *e)
{
    struct client *cl = client_at(e->client);
    struct exchange *ex;
    REQUIRE(PROPERTY_EVENTS, app == &world && cl != NULL, "begin for an unknown client");
    ex = current_exchange(cl);
    REQUIRE(PROPERTY_EVENTS, ex != NULL, "client %u: begin of a request that was never made", cl->actor.number);
    REQUIRE(PROPERTY_EVENTS, cl->begins == cl->events, "request %u: begin without an event before it", ex->id);
    REQUIRE(PROPERTY_EVENTS, e->session == cl->session, "request %u: begin in another session", ex->id);
    trace("begin of request %u", ex->id);
    secure_check_begin(ex);
    cl->begins++;
    ex->begun_ms = world.now_ms;
    /* Each may become a failed one long before its event, or be broken off. */
    if (MINIPROXY_WITH_PBKDF2 && ex->login != LOGIN_NONE && !cl->socks) world.login_failures[cl->addr.ip[3]]++;
    if (ex->kind != EXCHANGE_MALFORMED) {
        REQUIRE(PROPERTY_EVENTS,
                same_text(e->method, e->method_len, ex->method, 1000) &&
                    same_text(e->target, e->target_len, ex->sent_target, 1000),
                "request %u: begin says %.*s %.*s", ex->id, e->method_len, e->method, e->target_len, e->target);
    }
    if (ex->policy_count == 0) ex->policies[ex->policy_count++] = world.policy;
    limits_check_begin(ex);
    ex->began_ms = world.now_ms;
}

/* Its refusal is that of a parent, whose status says why. */
static bool told_by_parent(const struct exchange *ex, const struct miniproxy_event *e)
{
#if MINIPROXY_WITH_ROUTES
    uint16_t s = ex->parent_status;
    if (e->cause != MINIPROXY_CAUSE_HOP_REFUSED) return false;
    if (ex->socks_reply == 2) return e->status == 403;
    return e->status == (s == 403 || s == 429 || s == 503 || s == 504 ? s : 502);
#else
    (void)ex, (void)e;
    return false;
#endif
}

static void check_result(const struct exchange *ex, const struct miniproxy_event *e)
{
    bool local =
        ex->kind == EXCHANGE_CONNECT && ex->connected && (e->cause == MINIPROXY_CAUSE_NONE || e->status == 200);
    if (e->source == MINIPROXY_BY_PROXY)
        REQUIRE(PROPERTY_EVENTS,
                local ? e->status == 200
                      : e->status == miniproxy_cause_status((enum miniproxy_cause)e->cause) || told_by_parent(ex, e),
                "request %u: cause %s with status %u", ex->id, miniproxy_cause_token((enum miniproxy_cause)e->cause),
                e->status);
    if (e->source == MINIPROXY_BY_ORIGIN)
        REQUIRE(PROPERTY_EVENTS, (e->status == ex->answer.status || ex->kind == EXCHANGE_CONNECT) && ex->connected,
                "request %u: status %u by the origin", ex->id, e->status);
    if (e->source == MINIPROXY_BY_NOBODY)
        REQUIRE(PROPERTY_EVENTS, e->status == 0, "request %u: status %u by nobody", ex->id, e->status);
    if (e->cause == MINIPROXY_CAUSE_NONE) {
        REQUIRE(PROPERTY_EVENTS, e->status != 0, "request %u: it went well, without a status", ex->id);
        REQUIRE(PROPERTY_MALFORMED, ex->causes[0] == 0, "malformed request %u goes well", ex->id);
    }
    if (e->user != NULL && ex->login != LOGIN_NONE)
        REQUIRE(PROPERTY_LOGIN, ex->login == LOGIN_GOOD && strcmp(e->user, "kiosk") == 0, "request %u: user %s", ex->id,
                e->user);
    if (e->user != NULL && ex->login == LOGIN_NONE)
        REQUIRE(PROPERTY_LOGIN,
                strcmp(e->user, "badge") == 0 && secure_name(ex->client) != NULL &&
                    strcmp(secure_name(ex->client), "badge") == 0,
                "request %u: user %s without a login", ex->id, e->user);
    secure_check_event(ex, e);
    socks_check_event(ex, e);
    heads_check_event(ex, e);
}

static void count_event(struct client *cl, const struct miniproxy_event *e)
{
    cl->event_up += e->bytes_up;
    cl->event_down += e->bytes_down;
    world.counted_up += e->bytes_up;
    world.counted_down += e->bytes_down;
    world.events++;
    world.counted_status[e->status / 100]++;
    world.counted_cause[e->cause]++;
    reached(e->cause);
    if (e->cause == MINIPROXY_CAUSE_LOGIN_FAILED && !MINIPROXY_WITH_PBKDF2) world.login_failures[cl->addr.ip[3]]++;
}

void on_event(void *app, const struct miniproxy_event *e)
{
    struct client *cl = client_at(e->client);
    struct exchange *ex, *last;
    const char *token = miniproxy_cause_token((enum miniproxy_cause)e->cause);
    REQUIRE(PROPERTY_EVENTS, app == &world && cl != NULL, "an event for an unknown client");
    trace("event client %u: %u %s, up %llu down %llu", cl->actor.number, e->status, token,
          (unsigned long long)e->bytes_up, (unsigned long long)e->bytes_down);
    ex = current_exchange(cl);
    if (ex == NULL && e->bytes_up == 0 &&
        excused_world(cl->exchanges[0], e->cause, 0)) { /* nothing is left to learn that it has gone */
        count_event(cl, e);
        return;
    }
    REQUIRE(PROPERTY_EVENTS, ex != NULL, "client %u: an event (%u %s) for no request", cl->actor.number, e->status,
            token);
    REQUIRE(PROPERTY_EVENTS, e->session == cl->session, "request %u: event in another session", ex->id);
    REQUIRE(PROPERTY_EVENTS, e->status < 600 && e->cause < MINIPROXY_CAUSE_COUNT, "request %u: event with status %u",
            ex->id, e->status);
    if (cl->begins == cl->events) cl->begins++;
    cl->events++;
    if (ex->policy_count == 0) ex->policies[ex->policy_count++] = world.policy;
    last = ex->index > 0 ? cl->exchanges[ex->index - 1] : NULL;
    REQUIRE(PROPERTY_CLOSES, last == NULL || !(last->http10 || last->says_close || last->kind == EXCHANGE_CONNECT),
            "request %u: handled after one that ends the connection", ex->id);
    if (e->method_len > 0 && ex->kind != EXCHANGE_MALFORMED)
        REQUIRE(PROPERTY_EVENTS,
                same_text(e->method, e->method_len, ex->method, 1000) && e->target_len <= strlen(ex->sent_target) &&
                    memcmp(e->target, ex->sent_target, e->target_len) == 0,
                "request %u: the event says %.*s %.*s", ex->id, e->method_len, e->method, e->target_len, e->target);
    REQUIRE(PROPERTY_CAUSE, e->cause == MINIPROXY_CAUSE_NONE || excused(ex, e->cause),
            "request %u: %u %s without a reason", ex->id, e->status, token);
    check_result(ex, e);
    routes_check_event(ex, e);
    ex->evented = true;
    ex->ended_ms = world.now_ms;
    ex->line_unread = e->method_len == 0;
    ex->event_status = e->status;
    ex->event_cause = e->cause;
    ex->event_source = e->source;
    count_event(cl, e);
}

/* ---- At every step ---- */

void check_step(void)
{
    const struct miniproxy_counters *c = miniproxy_counters(&world.proxy);
    unsigned active = miniproxy_active(&world.proxy);
    REQUIRE(PROPERTY_COUNTERS, c->active == active && active <= MINIPROXY_SLOTS && c->active_peak >= active,
            "%u sessions are active", active);
    REQUIRE(PROPERTY_COUNTERS, active == world.open_clients, "%u sessions for %u connections", active,
            world.open_clients);
    REQUIRE(PROPERTY_COUNTERS, c->buffers <= MINIPROXY_BUFFERS && c->buffers_peak >= c->buffers,
            "%u buffers are borrowed", c->buffers);
    REQUIRE(PROPERTY_COUNTERS, c->requests == world.events, "%u requests, but %u events", c->requests, world.events);
}

/* ---- At rest ---- */

static bool troubled(const struct exchange *ex)
{
    return ((ex->happened | ex->client->happened) &
            (CLIENT_ABORTED | CLIENT_FIN | CLIENT_SLOW | CLIENT_FAULT | CLIENT_STOPS_READING)) != 0 ||
           world.stopped;
}

static void check_tunnel(const struct exchange *ex)
{
    uint32_t h = ex->happened | ex->client->happened;
    if (h != 0 || world.stopped || ex->event_cause != MINIPROXY_CAUSE_NONE || !ex->up.on) return;
    REQUIRE(PROPERTY_TUNNEL, ex->down.got == ex->down.get_len,
            "request %u: the origin got %llu of %u octets of the tunnel", ex->id, (unsigned long long)ex->down.got,
            ex->down.get_len);
    REQUIRE(PROPERTY_TUNNEL, ex->up.got == ex->up.get_len, "request %u: the client got %llu of %u octets of the tunnel",
            ex->id, (unsigned long long)ex->up.got, ex->up.get_len);
    REQUIRE(PROPERTY_TUNNEL, ex->up.eof && ex->down.eof, "request %u: no FIN at an end of the tunnel", ex->id);
}

/* A tunnel or a response that is broken off closes at once. Where octets of the client are unread that is a reset,
 * which also takes what the client has not read yet of earlier responses. */
static bool broken_off(const struct client *cl)
{
    const struct exchange *last = cl->events > 0 ? cl->exchanges[cl->events - 1] : NULL;
    bool tunnel = last != NULL && (last->kind == EXCHANGE_CONNECT || last->kind == EXCHANGE_UPGRADE);
    return last != NULL && last->connected && last->event_cause != MINIPROXY_CAUSE_NONE &&
           (tunnel || last->event_source == MINIPROXY_BY_ORIGIN);
}

static void check_exchange(const struct exchange *ex)
{
    socks_check_end(ex);
    if (ex->client_status != 0 && !(ex->client->socks && ex->by_proxy)) {
        REQUIRE(PROPERTY_EVENTS, ex->evented && ex->event_status == ex->client_status,
                "request %u: the client saw %u, the event says %u", ex->id, ex->client_status, ex->event_status);
        REQUIRE(PROPERTY_EVENTS,
                ex->by_proxy == (ex->event_source == MINIPROXY_BY_PROXY && ex->kind != EXCHANGE_CONNECT) ||
                    ex->kind == EXCHANGE_CONNECT,
                "request %u: the event names the wrong source", ex->id);
    }
    if (!ex->evented || troubled(ex)) return;
    if (broken_off(ex->client) || world.timeout_ms[MINIPROXY_TIMEOUT_TOTAL] != 0) return;
    /* Said in one send, cut short to make a place for the next one, or on its way when the idle connection was closed.
     */
    if (miniproxy_counters(&world.proxy)->evicted > 0 || world.drained || ex->client->surplus ||
        ex->event_cause == MINIPROXY_CAUSE_BUFFERS_FULL)
        return;
    if (ex->event_status != 0 && (ex->event_source == MINIPROXY_BY_PROXY || ex->event_cause == MINIPROXY_CAUSE_NONE))
        REQUIRE(PROPERTY_REPLY_READABLE, ex->client_status != 0 && ex->client_complete,
                "request %u: the client does not get the whole %u", ex->id, ex->event_status);
    if (ex->event_status == 0)
        REQUIRE(PROPERTY_NO_SILENCE, world.ever_full, "request %u ends without a status", ex->id);
    check_tunnel(ex);
}

/* The first request without an event: has the core read any of it, and had no reason to give it up? */
static void check_silence(const struct client *cl)
{
    const struct exchange *ex = cl->events < cl->count ? cl->exchanges[cl->events] : NULL;
    const struct exchange *last = cl->events > 0 ? cl->exchanges[cl->events - 1] : NULL;
    if (ex == NULL || ex->head_end_at == 0 || troubled(ex) || world.drained) return;
    if (last != NULL && (last->event_cause != MINIPROXY_CAUSE_NONE || last->client_close || last->up.on)) return;
    REQUIRE(PROPERTY_NO_SILENCE, core_received(cl->conn) <= ex->start_at, "request %u was read, but nothing came of it",
            ex->id);
}

static void check_client(const struct client *cl)
{
    if (!cl->accepted) {
        REQUIRE(PROPERTY_LIVENESS, world.drained || world.stopped || cl->happened & CLIENT_FAULT,
                "client %u is never accepted", cl->actor.number);
        return;
    }
    REQUIRE(PROPERTY_LEAK, cl->conn->state == CONN_CLOSED, "the connection of client %u is never closed",
            cl->actor.number);
    REQUIRE(PROPERTY_EVENTS, cl->begins == cl->events, "client %u: a begin without an event", cl->actor.number);
    REQUIRE(PROPERTY_COUNTERS, cl->event_down <= cl->conn->produced && cl->event_up <= cl->conn->consumed,
            "client %u: events count %llu up and %llu down of %llu and %llu octets", cl->actor.number,
            (unsigned long long)cl->event_up, (unsigned long long)cl->event_down,
            (unsigned long long)cl->conn->consumed, (unsigned long long)cl->conn->produced);
    for (unsigned i = 0; i < cl->count; i++) check_exchange(cl->exchanges[i]);
    check_silence(cl);
}

static void check_counters(void)
{
    const struct miniproxy_counters *c = miniproxy_counters(&world.proxy);
    for (unsigned i = 0; i < 6; i++)
        REQUIRE(PROPERTY_COUNTERS, c->status[i] == world.counted_status[i], "status[%u] is %u instead of %u", i,
                c->status[i], world.counted_status[i]);
#if MINIPROXY_WITH_CAUSE_COUNTERS
    for (unsigned i = 0; i < MINIPROXY_CAUSE_COUNT; i++)
        REQUIRE(PROPERTY_COUNTERS, c->cause[i] == world.counted_cause[i], "cause[%u] is %u instead of %u", i,
                c->cause[i], world.counted_cause[i]);
#endif
    REQUIRE(PROPERTY_COUNTERS, c->bytes_down >= world.counted_down && c->bytes_up >= world.counted_up,
            "bytes: %llu up, %llu down, events say %llu, %llu", (unsigned long long)c->bytes_up,
            (unsigned long long)c->bytes_down, (unsigned long long)world.counted_up,
            (unsigned long long)world.counted_down);
}

/* No password that was decoded is left, nor anything of a login. */
static void check_logins(void)
{
    static const char credentials[] = "kiosk:secret";
    REQUIRE(PROPERTY_LOGIN, memmem(&world.proxy, sizeof world.proxy, credentials, sizeof credentials - 1) == NULL,
            "a password is left in memory");
#if MINIPROXY_WITH_PBKDF2
    static const struct miniproxy_login none;
    REQUIRE(PROPERTY_LEAK, world.proxy.logins.head == 0 && world.proxy.logins.tail == 0,
            "a login is left in its queue");
    REQUIRE(PROPERTY_LOGIN, memcmp(&world.proxy.login, &none, sizeof none) == 0, "something is left of a login");
#endif
}

void check_rest(void)
{
    const struct miniproxy_counters *c = miniproxy_counters(&world.proxy);
    REQUIRE(PROPERTY_LEAK, miniproxy_active(&world.proxy) == 0, "%u sessions are left", miniproxy_active(&world.proxy));
    REQUIRE(PROPERTY_LEAK, c->buffers == 0, "%u buffers are left", c->buffers);
    REQUIRE(PROPERTY_LEAK, port_open_slots() == 0, "%u connections are left", port_open_slots());
    for (unsigned i = 0; i < policy_count; i++)
        REQUIRE(PROPERTY_LEAK,
                policies[i] == NULL || policies[i] == world.policy ||
                    !miniproxy_policy_in_use(&world.proxy, policies[i]),
                "an old policy is still in use");
    if (world.drained || world.stopped) checked(PROPERTY_DRAIN);
    for (unsigned i = 0; i < world.client_count; i++) check_client(&world.clients[i]);
    secure_check_rest();
    limits_check_rest();
    check_counters();
    check_logins();
    routes_poll(UINT64_MAX);
    checked(PROPERTY_LIVENESS);
    checked(PROPERTY_ASSERTION);
}

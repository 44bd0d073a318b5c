/* SPDX-License-Identifier: MIT */
/* Parents and groups: which there are and what becomes of them, which way a request has to go, and a model of their
 * health that knows only what the port has told the core. */
#include "sim.h"

#include <string.h>

#if MINIPROXY_WITH_ROUTES

enum { ROUTES_EACH = 4, DIRECT = -1, OPEN = -2 };

/* Where sessions wait for buffers nobody outside knows what is tried when: then the model follows the core. */
_Static_assert(MINIPROXY_ATTEMPTS >= HOP_ADDRESSES, "an attempt must not give way to another one");
enum { IS_EXACT = MINIPROXY_BUFFERS >= 2 * (MINIPROXY_SLOTS - 1) };

static struct parent parents[ROUTED * HOPS_EACH];
static struct miniproxy_hop hops[ROUTED][HOPS_EACH];
static struct miniproxy_route routes[ROUTED][ROUTES_EACH];
static struct miniproxy_health healths[ROUTED][HOPS_EACH];
static struct client nobody;
static struct exchange check_exchange;

/* What a session does with a hop. */
enum phase { PHASE_NONE, PHASE_REACHES, PHASE_SOCKS, PHASE_OPEN };
enum { SOCKS_METHOD, SOCKS_LOGIN, SOCKS_REPLY };

static struct
try {
    struct parent *parent;
    struct exchange *ex;            /* of a client, or world.check */
    const struct miniproxy_conn *c; /* once connected */
    uint64_t began_ms;
    uint8_t phase, addresses, failed, socks;
    uint8_t text[300]; /* what was received of SOCKS5, or of a status line */
    unsigned len;
    uint32_t last; /* octets of a head */
    bool reused, answered, silent;
    uint32_t stuck_at; /* call by which a send has failed */
}
tries[MINIPROXY_SLOTS];

static unsigned checks_running;
static uint64_t places_free_ms, policy_ms;

struct parent *parent_at(unsigned number)
{
    return &parents[number];
}

struct parent *parent_named(const char *name)
{
    for (unsigned i = 0; i < ROUTED * HOPS_EACH; i++)
        if (name[0] == 'p' && strcmp(parents[i].host.name, name) == 0) return &parents[i];
    return NULL;
}

struct parent *parent_of(const struct machine *m)
{
    size_t i = (size_t)(m - world.machines);
    return i < MACHINES_MAX ? NULL : &parents[(i - MACHINES_MAX) / HOP_ADDRESSES];
}

static const struct miniproxy_hop *hop_at(const struct parent *q)
{
    return &hops[q->policy][q->index];
}

static bool has_checks(const struct parent *q)
{
    return hop_at(q)->check_s != 0;
}

/* ---- The plan ---- */

const char *encode(char *out, const char *text)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char *w = out;
    unsigned bits = 0, n = 0;
    for (; *text != '\0'; text++) {
        bits = bits << 8 | (unsigned char)*text;
        for (n += 8; n >= 6; n -= 6) *w++ = digits[bits >> (n - 6) & 63];
    }
    if (n > 0) *w++ = digits[bits << (6 - n) & 63];
    while ((w - out) % 4 != 0) *w++ = '=';
    *w = '\0';
    return out;
}

static void make_parent(struct parent *q, unsigned policy, unsigned index, enum miniproxy_hop_kind kind)
{
    struct miniproxy_hop *hop = &hops[policy][index];
    bool literal = one_in(3);
    unsigned first = (unsigned)(q - parents) * HOP_ADDRESSES;
    q->policy = (uint16_t)policy;
    q->index = (uint16_t)index;
    q->kind = (uint8_t)kind;
    for (unsigned i = 0; i < HOP_ADDRESSES; i++) {
        q->machines[i] = &world.machines[MACHINES_MAX + first + i];
        q->machines[i]->addr.family = 4;
        memcpy(q->machines[i]->addr.ip, (uint8_t[]){10, 9, (uint8_t)policy, (uint8_t)(index * 2 + i + 1)}, 4);
        q->machines[i]->delay_ms = one_in(2) ? 0 : below(30);
        q->host.machines[i] = (uint8_t)(MACHINES_MAX + first + i);
    }
    q->host.count = (uint8_t)(literal || one_in(2) ? 1 : HOP_ADDRESSES);
    q->host.delay_ms = one_in(2) ? 0 : below(50);
    if (literal) snprintf(q->host.name, sizeof q->host.name, "10.9.%u.%u", policy, index * 2 + 1);
    else snprintf(q->host.name, sizeof q->host.name, "p%u-%u.sim", policy, index);
    if (kind != MINIPROXY_HOP_ORIGIN && one_in(2)) {
        snprintf(q->login, sizeof q->login, "u%u-%u:pw%u%0*u", policy, index, policy * 10 + index,
                 (int)(one_in(4) ? between(60, 80) : 1 + below(4)), index);
        memcpy(q->encoded, "Basic ", 6);
        encode(q->encoded + 6, q->login);
    }
    if (one_in(2)) snprintf(q->check, sizeof q->check, "http://check.sim/%u?%u", policy, index);
    memset(hop, 0, sizeof *hop);
    hop->host = q->host.name;
    hop->login = q->login[0] != '\0' ? q->login : NULL;
    hop->check = q->check[0] != '\0' ? q->check : NULL;
    hop->port = (uint16_t)(3000 + index);
    hop->check_s = (uint16_t)(one_in(2) ? 0 : one_in(3) ? between(1, 10) : between(10, 200));
    hop->kind = q->kind;
    hop->rise = (uint8_t)below(4);
    hop->fall = (uint8_t)below(4);
    q->turn_unknown = false;
}

static void make_route(struct miniproxy_route *r, bool last, unsigned parent_count, unsigned group_count)
{
    static const struct miniproxy_net4 near[] = {{{10, 0, 0, 2}, 31}}, far[] = {{{9, 9, 0, 0}, 16}, {{10, 0, 0, 0}, 8}},
                                       eleven[] = {{{11, 0, 0, 0}, 29}};
    static const struct miniproxy_nets neighbours = {.v4 = near, .v4_count = 1}, others = {.v4 = far, .v4_count = 2},
                                       elevens = {.v4 = eleven, .v4_count = 1};
    static const char *const h0[] = {"h0.sim"}, *const h1[] = {"h1.sim"}, *const h2[] = {".h2.sim", "h3.sim"};
    static const struct miniproxy_hosts hosts[] = {
        {.names = h0, .count = 1}, {.names = h1, .count = 1}, {.names = h2, .count = 2}};
    unsigned kind = below(8);
    memset(r, 0, sizeof *r);
    if (!last || one_in(3)) {
        if (one_in(2)) r->hosts = &hosts[below(3)];
        if (one_in(5)) r->clients = &neighbours;
        if (one_in(6)) r->users = one_in(2) ? 1 : MINIPROXY_AUTHENTICATED;
        if (one_in(4)) r->to = one_in(2) ? &others : &elevens;
    }
    r->order = one_in(3) ? MINIPROXY_IN_TURN : MINIPROXY_IN_ORDER;
    r->resolve = one_in(5);
    if (kind == 0) return;
    if (kind < 4 && group_count > 0) {
        r->first = (uint16_t)(parent_count + below(group_count));
        r->count = (uint8_t)between(1, parent_count + group_count - r->first);
    } else {
        r->first = (uint16_t)(one_in(2) ? 0 : below(parent_count));
        r->count = (uint8_t)(one_in(2) ? parent_count - r->first : between(1, parent_count - r->first));
    }
}

static void plan_policy(unsigned p, uint32_t rush_ms)
{
    unsigned parent_count = between(1, 4), group_count = below(4), route_count = between(1, ROUTES_EACH),
             mix = below(4);
    for (unsigned i = 0; i < parent_count + group_count; i++) {
        struct parent *q = &parents[p * HOPS_EACH + i];
        enum miniproxy_hop_kind kind = mix == 0   ? MINIPROXY_HOP_SOCKS5
                                       : mix == 1 ? (enum miniproxy_hop_kind)below(2)
                                                  : MINIPROXY_HOP_PROXY;
        make_parent(q, p, i, i < parent_count ? kind : MINIPROXY_HOP_ORIGIN);
        q->mode = MODE_UP;
        for (unsigned n = world.mood.host_trouble_one_in == 0 || one_in(3) ? 0 : between(1, 8); n > 0; n--)
            after(one_in(3) ? below(rush_ms + 2000) : below(2 * rush_ms + 60000), EVENT_HOP, p * HOPS_EACH + i, 0);
        if (world.mood.host_trouble_one_in != 0 && one_in(5)) q->mode = (uint8_t)between(MODE_REFUSES, MODE_COUNT - 1);
        routes_event(q);
    }
    for (unsigned i = 0; i < route_count; i++)
        make_route(&routes[p][i], i + 1 == route_count, parent_count, group_count);
    routed[p] = *unrouted[p];
    routed[p].routes = routes[p];
    routed[p].hops = hops[p];
    routed[p].health = healths[p];
    routed[p].route_count = (uint16_t)route_count;
    routed[p].hop_count = (uint16_t)(parent_count + group_count);
}

void routes_plan(uint32_t rush_ms)
{
    memset(parents, 0, sizeof parents);
    memset(healths, 0, sizeof healths);
    memset(tries, 0, sizeof tries);
    memset(&check_exchange, 0, offsetof(struct exchange, head));
    memset(&nobody, 0, offsetof(struct client, outbox));
    checks_running = 0;
    places_free_ms = policy_ms = 0;
    world.check = &check_exchange;
    check_exchange.client = &nobody;
    check_exchange.id = 9999;
    check_exchange.method = "HEAD";
    for (unsigned p = 0; p < ROUTED; p++) plan_policy(p, rush_ms);
}

/* ---- What becomes of them ---- */

static void apply_mode(struct parent *q)
{
    static const uint8_t kinds[MODE_COUNT] = {[MODE_REFUSES] = MACHINE_REFUSED,
                                              [MODE_UNREACHABLE] = MACHINE_UNREACHABLE,
                                              [MODE_HANGS] = MACHINE_BLACKHOLE,
                                              [MODE_RESETS] = MACHINE_RESETS};
    q->mode_since_ms = world.now_ms;
    for (unsigned i = 0; i < HOP_ADDRESSES; i++) q->machines[i]->kind = kinds[q->mode];
    if (q->host.count > 1 && one_in(3))
        q->machines[below(2)]->kind = (uint8_t)(one_in(2) ? MACHINE_REFUSED : MACHINE_BLACKHOLE);
    q->host.result = q->host.count;
    if (q->host.delay_ms == UINT32_MAX) q->host.delay_ms = below(50);
    if (q->mode == MODE_NAMELESS) {
        q->host.result = one_in(2) ? MINIPROXY_ENAME : MINIPROXY_EDNS;
        if (one_in(3)) q->host.delay_ms = UINT32_MAX;
    }
}

/* At the beginning it has its mode; later on it gets another one. */
void routes_event(struct parent *q)
{
    if (world.proxy.config.port != NULL) {
        q->mode = (uint8_t)(q->mode != MODE_UP && !one_in(3) ? MODE_UP : between(MODE_UP, MODE_COUNT - 1));
        trace("hop %u of policy %u: mode %u", q->index, q->policy, q->mode);
        if (!one_in(3)) origin_break(q);
    }
    apply_mode(q);
}

/* ---- Which way: an own reading of the routes ---- */

static int find(const struct miniproxy_policy *p, const struct exchange *ex, const struct miniproxy_addr *a)
{
    uint16_t groups = login_groups(p, ex);
    for (int i = 0; p != NULL && i < p->route_count; i++) {
        const struct miniproxy_route *r = &p->routes[i];
        if (r->clients != NULL && !nets_have(r->clients, &ex->client->addr)) continue;
        if (r->users != 0 && (r->users & groups) == 0) continue;
        if (r->hosts != NULL && !hosts_have(r->hosts, ex)) continue;
        if (r->to != NULL && a == NULL) return OPEN;
        if (r->to != NULL && !nets_have(r->to, a)) continue;
        return r->count == 0 ? DIRECT : i;
    }
    return DIRECT;
}

/* The first address that the policy allows; NULL: none. */
static const struct miniproxy_addr *first_address(const struct miniproxy_policy *p, const struct exchange *ex)
{
    uint16_t groups = login_groups(p, ex);
    for (int i = 0; i < ex->host->result && i < MINIPROXY_ADDRESSES; i++) {
        const struct machine *m = &world.machines[ex->host->machines[i]];
        if (rules_allow(p, ex, &m->addr, m->special, groups)) return &m->addr;
    }
    return NULL;
}

static bool tells_names(const struct miniproxy_policy *p, int route)
{
    return !p->routes[route].resolve || p->hops[p->routes[route].first].kind == MINIPROXY_HOP_ORIGIN;
}

/* The route under this policy, and whether the policy allows it to go there. */
static int way(const struct miniproxy_policy *p, const struct exchange *ex, bool *allowed)
{
    const struct miniproxy_addr *a = ex->host == NULL ? &ex->literal->addr : NULL;
    uint16_t groups = login_groups(p, ex);
    int r = find(p, ex, a);
    if (a != NULL) *allowed = rules_allow(p, ex, a, ex->literal->special, groups);
    else if (r == DIRECT) *allowed = rules_may_allow(p, ex, groups);
    else if (r >= 0 && tells_names(p, r))
        *allowed = rules_may_allow(p, ex, groups) && rules_allow_remote(p, ex, groups);
    else {
        a = first_address(p, ex);
        *allowed = a != NULL;
        if (a != NULL) r = find(p, ex, a);
    }
    return r;
}

/* Does the policy deny it because of the way that it would go? */
bool routes_deny(const struct miniproxy_policy *p, const struct exchange *ex, uint16_t groups)
{
    bool allowed = true;
    (void)groups;
    if (p == NULL || (ex->host == NULL && ex->literal == NULL)) return false;
    (void)way(p, ex, &allowed);
    return !allowed;
}

static bool route_has(const struct miniproxy_route *r, const struct parent *q)
{
    return q->index >= r->first && q->index < r->first + r->count;
}

static bool in_force(const struct exchange *ex, const struct parent *q)
{
    for (unsigned i = 0; i < ex->policy_count; i++)
        if (ex->policies[i] == &routed[q->policy]) return true;
    return false;
}

bool routes_leads(const struct exchange *ex, const struct parent *q)
{
    bool allowed = false;
    int r = in_force(ex, q) ? way(&routed[q->policy], ex, &allowed) : DIRECT;
    return r >= 0 && allowed && route_has(&routes[q->policy][r], q);
}

/* It goes to its origin itself. */
void routes_direct(struct exchange *ex, const struct miniproxy_addr *address)
{
    bool good = false, allowed;
    for (unsigned i = 0; i < ex->policy_count; i++) {
        if (ex->policies[i] == NULL) continue;
        good = good || (way(ex->policies[i], ex, &allowed) == DIRECT && find(ex->policies[i], ex, address) == DIRECT);
    }
    REQUIRE(PROPERTY_ROUTE, good, "request %u goes past the hops of its route", ex->id);
    REQUIRE(PROPERTY_ROUTE, !ex->by_hops, "request %u leaves its route", ex->id);
}

/* ---- The model of health ---- */

static unsigned rise_of(const struct parent *q)
{
    return !has_checks(q) ? 1 : hop_at(q)->rise != 0 ? hop_at(q)->rise : 2;
}

static void turn(struct parent *q, bool down)
{
    q->down = down;
    q->turns++;
    q->streak = q->trials = 0;
    q->due_ms = world.now_ms + 1000;
    q->up_since_ms = down ? UINT64_MAX : world.now_ms;
    trace("model: hop %u of policy %u is %s", q->index, q->policy, down ? "down" : "up");
}

static void note_bad(struct parent *q, bool checked_it)
{
    unsigned fall = hop_at(q)->fall != 0 ? hop_at(q)->fall : 2;
    q->failed++;
    if (q->down) {
        q->streak = 0;
    } else if (++q->streak == fall) {
        tally(checked_it ? TALLY_CHECK_DOWN : TALLY_DOWN);
        turn(q, true);
    }
}

/* That a member of a group has not answered in time, or not in HTTP, is seen by the core before it can be seen here. */
static void follow_member(struct parent *q)
{
    while (q->kind == MINIPROXY_HOP_ORIGIN && healths[q->policy][q->index].failed > q->failed) {
        tally(TALLY_MEMBER);
        note_bad(q, false);
    }
}

static void follow_members(void)
{
    for (unsigned i = 0; IS_EXACT && i < ROUTED * HOPS_EACH; i++)
        if (i % HOPS_EACH < routed[i / HOPS_EACH].hop_count) follow_member(&parents[i]);
}

static void note_good(struct parent *q, bool checked_it)
{
    if (!q->down) {
        q->streak = 0;
        return;
    }
    if (has_checks(q) && !checked_it) return;
    if (++q->streak < rise_of(q)) return;
    tally(checked_it ? TALLY_CHECK_UP : TALLY_TRIAL_GOOD);
    turn(q, false);
}

/* One request tries a hop that is down. */
static void note_trial(struct parent *q)
{
    REQUIRE(PROPERTY_ROUTE, !has_checks(q) || !IS_EXACT,
            "hop %u of policy %u is used though its checks say that it is down", q->index, q->policy);
    REQUIRE(PROPERTY_HEALTH, world.now_ms >= q->due_ms || !IS_EXACT,
            "hop %u of policy %u is tried again %llu ms too early", q->index, q->policy,
            (unsigned long long)(q->due_ms - world.now_ms));
    q->trials++;
    q->due_ms = world.now_ms + (q->trials < 6 ? 1000u << q->trials : 60000u);
    tally(q->trials > 3 ? TALLY_TRIAL_LATE : TALLY_TRIAL);
}

void routes_told(void *app, const struct miniproxy_policy *policy, unsigned hop)
{
    size_t p = (size_t)(policy - routed);
    struct parent *q;
    (void)app;
    REQUIRE(PROPERTY_HEALTH, p < ROUTED && hop < policy->hop_count, "a hop is told that does not exist");
    q = &parents[p * HOPS_EACH + hop];
    q->told++;
    REQUIRE(PROPERTY_HEALTH, (healths[p][hop].down != 0) == (q->told % 2 == 1),
            "hop %u of policy %zu: %u is told twice", hop, p, healths[p][hop].down);
}

/* ---- Checks ---- */

static uint64_t check_due_ms(const struct parent *q)
{
    return q->checked ? q->check_ended_ms + hop_at(q)->check_s * 1000u : 0;
}

enum { RETRY_MS = 100 }; /* when there is no place for it */

static void begin_check(struct parent *q)
{
    uint64_t could_ms = check_due_ms(q);
    REQUIRE(PROPERTY_CHECKS, &routed[q->policy] == world.policy && has_checks(q),
            "a hop is checked that nobody asked for");
    REQUIRE(PROPERTY_CHECKS, !q->in_check && checks_running < MINIPROXY_CHECKS, "%u checks at once",
            checks_running + 1);
    REQUIRE(PROPERTY_CHECKS, world.now_ms >= could_ms, "hop %u is checked %llu ms too early", q->index,
            (unsigned long long)(could_ms - world.now_ms));
    if (places_free_ms > could_ms && q->checked) tally(TALLY_CHECK_QUEUED);
    if (could_ms < places_free_ms) could_ms = places_free_ms;
    if (could_ms < policy_ms) could_ms = policy_ms;
    REQUIRE(PROPERTY_CHECKS, could_ms <= 1 || world.now_ms <= could_ms + RETRY_MS || !IS_EXACT,
            "hop %u is checked %llu ms too late", q->index, (unsigned long long)(world.now_ms - could_ms));
    q->in_check = true;
    checks_running++;
}

enum result { BAD, GOOD, NOTHING };

static void end_check(struct try *t, enum result result)
{
    struct parent *q = t->parent;
    bool stopped = world.drained || world.stopped, asked = q->check[0] != '\0', good = result == GOOD;
    t->phase = PHASE_NONE;
    q->in_check = false;
    q->checked = true;
    q->check_ended_ms = world.now_ms;
    if (checks_running-- == MINIPROXY_CHECKS) places_free_ms = world.now_ms;
    if (result == NOTHING) {
        tally(TALLY_CHECK_LAPSED);
        return;
    }
    if (stopped && !good) {
        tally(world.stopped ? TALLY_CHECK_STOPPED : TALLY_CHECK_DRAINED);
        return;
    }
    if (&routed[q->policy] != world.policy) tally(TALLY_CHECK_OLD);
    if (good) tally(asked ? TALLY_CHECK_REQUEST_GOOD : TALLY_CHECK_CONNECT_GOOD);
    else tally(asked ? TALLY_CHECK_REQUEST_BAD : TALLY_CHECK_CONNECT_BAD);
    if (good) note_good(q, true);
    else note_bad(q, true);
}

/* ---- Tries: a session goes to a hop ---- */

/* Could it be sent once more by another hop? */
static bool is_safe(const struct exchange *ex)
{
    static const char *const methods[] = {"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"};
    bool safe = false;
    for (unsigned i = 0; i < 6; i++) safe = safe || strcmp(ex->method, methods[i]) == 0;
    if (ex->req_framing == FRAMING_CHUNKED || (ex->req_framing == FRAMING_LENGTH && ex->req_len > 0)) safe = false;
    return safe || ex->kind == EXCHANGE_CONNECT;
}

/* Is there another hop for it that is up? */
static bool has_other(const struct exchange *ex, const struct parent *than)
{
    const struct miniproxy_route *r = &routes[than->policy][ex->routes];
    for (unsigned i = r->first; i < (unsigned)r->first + r->count; i++) {
        const struct parent *q = &parents[than->policy * HOPS_EACH + i];
        if (q != than && !q->down && (ex->hops_tried >> i & 1) == 0) return true;
    }
    return false;
}

/* May this hop be chosen by the request now? */
static bool eligible(const struct exchange *ex, const struct parent *q)
{
    if ((ex->hops_tried >> q->index & 1) != 0) return false;
    if (q->down && (has_checks(q) || world.now_ms < q->due_ms)) return false;
    if (q->down && !is_safe(ex) && has_other(ex, q)) return false;
    return !ex->written || ex->by == NULL || (ex->by->kind == MINIPROXY_HOP_PROXY) == (q->kind == MINIPROXY_HOP_PROXY);
}

/* By which routes can it have come to this hop? */
static void note_route(struct exchange *ex, const struct parent *q)
{
    bool allowed = false;
    int r;
    REQUIRE(PROPERTY_ROUTE, ex->kind != EXCHANGE_MALFORMED || ex->bad_body, "malformed request %u goes to a hop",
            ex->id);
    REQUIRE(PROPERTY_ROUTE, in_force(ex, q), "request %u goes to a hop of a policy that is not its own", ex->id);
    REQUIRE(PROPERTY_ROUTE, ex->by == NULL || ex->by->policy == q->policy, "request %u changes its policy", ex->id);
    r = way(&routed[q->policy], ex, &allowed);
    REQUIRE(PROPERTY_ROUTE, r >= 0 && route_has(&routes[q->policy][r], q),
            "request %u goes to hop %u, which is not of its route %d", ex->id, q->index, r);
    REQUIRE(PROPERTY_POLICY_CONNECT, allowed, "request %u goes to a hop though the policy denies it", ex->id);
    if (find(&routed[q->policy], ex, ex->host == NULL ? &ex->literal->addr : NULL) == OPEN) tally(TALLY_BY_ADDRESS);
    ex->routes = (uint32_t)r;
    ex->by_hops = true;
}

static void check_order(struct exchange *ex, struct parent *q)
{
    const struct miniproxy_route *r = &routes[q->policy][ex->routes];
    struct parent *first = &parents[q->policy * HOPS_EACH + r->first];
    if (!IS_EXACT) {
        if (r->order == MINIPROXY_IN_TURN && r->count > 1) tally(TALLY_TURN);
        return;
    }
    unsigned start = r->order == MINIPROXY_IN_TURN ? first->turn % r->count : 0;
    REQUIRE(PROPERTY_ROUTE, (ex->hops_tried >> q->index & 1) == 0, "request %u goes to hop %u again", ex->id, q->index);
    REQUIRE(PROPERTY_ROUTE, !q->down || is_safe(ex) || !has_other(ex, q),
            "request %u, which cannot be sent again, tries hop %u, which is down, though another one is up", ex->id,
            q->index);
    for (unsigned k = 0; k < r->count; k++) {
        unsigned i = (start + k) % r->count;
        struct parent *other = first + i;
        if (other == q) {
            if (r->order == MINIPROXY_IN_TURN) first->turn = i + 1;
            if (r->order == MINIPROXY_IN_TURN && r->count > 1) tally(TALLY_TURN);
            return;
        }
        REQUIRE(PROPERTY_ROUTE, !eligible(ex, other), "request %u goes to hop %u, passing over hop %u", ex->id,
                q->index, other->index);
    }
}

/* The request chooses this hop. */
static void pick(struct exchange *ex, struct parent *q)
{
    note_route(ex, q);
    follow_members();
    check_order(ex, q);
    if (ex->by != NULL)
        tally(ex->by == q ? TALLY_AGAIN_SAME : ex->times_at_origin > 0 ? TALLY_FAILOVER_SENT : TALLY_FAILOVER_FIRST);
    ex->by = q;
    ex->hops_tried |= (uint8_t)(1u << q->index);
    if (q->down) note_trial(q);
}

static void begin_try(struct try *t, struct exchange *ex, struct parent *q)
{
    REQUIRE(PROPERTY_ROUTE, t->phase == PHASE_NONE, "a session goes to hop %u before it has left another one",
            q->index);
    memset(t, 0, offsetof(struct try, text));
    t->parent = q;
    t->ex = ex;
    t->phase = PHASE_REACHES;
    t->began_ms = world.now_ms;
    t->addresses = 1;
    t->reused = t->answered = false;
    t->stuck_at = 0;
    if (ex == world.check) begin_check(q);
    else pick(ex, q);
}

static unsigned session_of(const struct miniproxy_conn *c)
{
    return c->id / (1 + MINIPROXY_ATTEMPTS);
}

void try_hop(const struct miniproxy_conn *c, struct exchange *ex, struct parent *q)
{
    struct try *t = &tries[session_of(c)];
    if (t->phase == PHASE_REACHES && t->parent == q && t->ex == ex) return; /* another call for it */
    begin_try(t, ex, q);
}

/* The try has failed by what the hop did. */
static void failed(struct try *t)
{
    if (t->ex == world.check) {
        end_check(t, BAD);
        return;
    }
    t->phase = PHASE_NONE;
    note_bad(t->parent, false);
}

/* It has ended without telling anything of the hop. */
static void abandoned(struct try *t)
{
    if (t->ex == world.check) end_check(t, NOTHING);
    t->phase = PHASE_NONE;
}

static void opened(struct try *t)
{
    t->phase = PHASE_OPEN;
    t->silent = true;
    t->len = 0;
    t->last = 0;
    t->ex->written = true;
    if (!t->reused) t->parent->used++;
    t->answered = t->ex->kind == EXCHANGE_CONNECT && t->parent->kind != MINIPROXY_HOP_PROXY;
}

static void see_resolve(struct try *t, int result)
{
    if (result == MINIPROXY_AGAIN) return;
    if (result > 0) t->addresses = (uint8_t)(result < MINIPROXY_ADDRESSES ? result : MINIPROXY_ADDRESSES);
    else if (result == MINIPROXY_ERESOURCES) abandoned(t);
    else failed(t);
}

static void see_connect(struct try *t, const struct miniproxy_conn *c, int result)
{
    if (result == MINIPROXY_AGAIN) return;
    if (result != MINIPROXY_OK) {
        if (++t->failed < t->addresses) return;
        if (result == MINIPROXY_ERESOURCES) abandoned(t);
        else failed(t);
        return;
    }
    t->c = c;
    if (t->ex == world.check && t->parent->check[0] == '\0') {
        end_check(t, GOOD);
        return;
    }
    if (t->parent->kind != MINIPROXY_HOP_SOCKS5) {
        opened(t);
        return;
    }
    t->phase = PHASE_SOCKS;
    t->socks = SOCKS_METHOD;
    t->len = 0;
}

static void socks_failed(struct try *t, enum tally why)
{
    tally(why);
    failed(t);
}

/* What a SOCKS5 server has said so far. */
static void see_socks(struct try *t)
{
    const uint8_t *a = t->text;
    unsigned need = t->len < 5 ? 5 : a[3] == 1 ? 10 : a[3] == 4 ? 22 : a[3] == 3 ? 7u + a[4] : 5;
    if (t->len < 2) return;
    if (t->socks != SOCKS_LOGIN && a[0] != 5 && (t->socks == SOCKS_METHOD || a[1] != 0)) {
        socks_failed(t, TALLY_SOCKS_INVALID);
    } else if (t->socks == SOCKS_METHOD) {
        bool login = t->parent->login[0] != '\0';
        if (a[1] == 0xff) socks_failed(t, TALLY_SOCKS_LOGIN);
        else if (a[1] != 0 && !(a[1] == 2 && login)) socks_failed(t, TALLY_SOCKS_INVALID);
        else t->socks = a[1] == 2 ? SOCKS_LOGIN : SOCKS_REPLY;
        t->len = 0;
    } else if (t->socks == SOCKS_LOGIN) {
        if (a[1] != 0) socks_failed(t, TALLY_SOCKS_LOGIN);
        t->socks = SOCKS_REPLY;
        t->len = 0;
    } else if (a[1] != 0) {
        tally(TALLY_SOCKS_REFUSED);
        if (t->ex == world.check) {
            end_check(t, BAD);
            return;
        }
        note_good(t->parent, false);
        t->phase = PHASE_NONE;
    } else if (t->len == need) {
        if (a[0] != 5 || need == 5) {
            socks_failed(t, TALLY_SOCKS_INVALID);
            return;
        }
        if (t->ex != world.check) note_good(t->parent, false);
        opened(t);
    }
}

/* It has a field that makes the whole head no good, with nothing said about its hop. */
static bool is_misstated(const struct exchange *ex)
{
    if (ex->answer.fault == ANSWER_BAD_FIELD) return true;
    return (ex->happened & HAPPENED_CONFLICT) != 0 && ex->answer.framing != FRAMING_CHUNKED;
}

/* The head of a response has come. */
static void see_answer(struct try *t)
{
    unsigned status = 0;
    bool valid = t->len >= 12 && memcmp(t->text, "HTTP/1.", 7) == 0;
    for (unsigned i = 9; valid && i < 12; i++) {
        valid = t->text[i] >= '0' && t->text[i] <= '9';
        status = status * 10 + t->text[i] - '0';
    }
    if (!valid || (status >= 200 && t->ex->kind != EXCHANGE_CONNECT && is_misstated(t->ex))) {
        t->answered = true;
        if (t->ex == world.check) end_check(t, BAD);
        return;
    }
    t->len = 0;
    if (t->ex == world.check) {
        if (status >= 200) end_check(t, status < 400 ? GOOD : BAD);
        return;
    }
    t->answered = status >= 200 || status == 101;
    if (status == 407 && t->parent->kind == MINIPROXY_HOP_PROXY) {
        tally(TALLY_PARENT_LOGIN);
        t->ex->parent_status = 407;
        if (t->ex->kind == EXCHANGE_CONNECT) note_bad(t->parent, false); /* else an origin may have said it */
    } else {
        note_good(t->parent, false);
    }
}

static void see_octets(struct try *t, const uint8_t *data, unsigned n)
{
    for (unsigned i = 0; i < n && t->phase == PHASE_OPEN && !t->answered; i++) {
        if (t->len < sizeof t->text) t->text[t->len++] = data[i];
        t->last = t->last << 8 | data[i];
        if (t->last == 0x0d0a0d0a) see_answer(t);
    }
}

static void see_recv(struct try *t, const uint8_t *data, int result)
{
    if (result == MINIPROXY_AGAIN) return;
    if (t->phase == PHASE_SOCKS) {
        if (result < 0) {
            if (t->socks != SOCKS_REPLY || t->ex == world.check) failed(t);
            else t->ex->socks_cut = true, abandoned(t);
            return;
        }
        REQUIRE(PROPERTY_CONTRACT, t->len + (unsigned)result <= sizeof t->text, "too much is read of a SOCKS5 server");
        memcpy(t->text + t->len, data, (size_t)result);
        t->len += (unsigned)result;
        see_socks(t);
        return;
    }
    if (result > 0) {
        t->silent = false;
        see_octets(t, data, (unsigned)result);
        return;
    }
    if (t->ex == world.check) {
        end_check(t, BAD);
        return;
    }
    if (t->answered || !t->silent || t->reused || t->parent->kind == MINIPROXY_HOP_SOCKS5) return;
    tally(TALLY_SILENCE);
    note_bad(t->parent, false);
    t->silent = false; /* that is all of it */
}

/* A request begins on a kept connection. */
static void begin_reuse(struct try *t, struct exchange *ex)
{
    note_route(ex, t->parent);
    REQUIRE(PROPERTY_ROUTE, !t->parent->down || !IS_EXACT,
            "request %u goes over a kept connection to hop %u, which is down", ex->id, t->parent->index);
    REQUIRE(PROPERTY_REUSE, ex->kind != EXCHANGE_CONNECT, "request %u: a tunnel on a kept connection", ex->id);
    tally(TALLY_KEPT_BY_HOP);
    if (t->ex->host != ex->host || t->ex->literal != ex->literal || t->ex->port != ex->port) tally(TALLY_OTHER_ORIGIN);
    ex->by = t->parent;
    t->ex = ex;
    t->reused = true;
    opened(t);
}

static void see_send(struct try *t, unsigned session, int result)
{
    struct client *cl = t->ex->client;
    struct exchange *ex = cl == &nobody ? t->ex : current_exchange(cl);
    (void)session;
    if (t->phase == PHASE_OPEN && ex != t->ex && ex != NULL) begin_reuse(t, ex);
    if (result > 0 || result == MINIPROXY_AGAIN) return;
    if (t->phase == PHASE_SOCKS) failed(t);
    else t->stuck_at = world.calls;
}

static void see_close(struct try *t)
{
    uint32_t limit_ms = world.timeout_ms[MINIPROXY_TIMEOUT_HOP];
    bool late = world.now_ms - t->began_ms >= limit_ms;
    if (t->ex == world.check) {
        end_check(t, BAD);
    } else if (!world.in_poll) {
        abandoned(t);
    } else if (t->phase == PHASE_REACHES || (t->phase == PHASE_SOCKS && t->socks != SOCKS_REPLY)) {
        if (late) tally(TALLY_HOP_TIMEOUT), failed(t);
        else abandoned(t);
    } else {
        bool repeats = t->stuck_at != 0 && world.calls == t->stuck_at + 1;
        if (repeats && !t->answered && t->silent && !t->reused && t->parent->kind != MINIPROXY_HOP_SOCKS5) failed(t);
        else abandoned(t);
    }
}

void routes_seen(unsigned session, const struct miniproxy_conn *c, enum seen_call what, const void *data, int result)
{
    struct try *t = &tries[session];
    if (c->id % (1 + MINIPROXY_ATTEMPTS) == 0 || t->phase == PHASE_NONE) return;
    if (t->phase > PHASE_REACHES && c != t->c) return;
    switch (what) {
    case SEEN_RESOLVE: see_resolve(t, result); return;
    case SEEN_CONNECT: see_connect(t, c, result); return;
    case SEEN_RECV: see_recv(t, data, result); return;
    case SEEN_SEND: see_send(t, session, result); return;
    case SEEN_CLOSE: see_close(t); return;
    }
}

/* May a request that has been sent come again? No whole head had come back then. */
bool routes_repeat(const struct exchange *ex, const struct conn *before)
{
    static const char *const methods[] = {"GET", "HEAD", "OPTIONS", "PUT", "DELETE"};
    bool safe = ex->kind == EXCHANGE_CONNECT;
    for (unsigned i = 0; i < 5; i++) safe = safe || strcmp(ex->method, methods[i]) == 0;
    if (ex->req_framing == FRAMING_CHUNKED || (ex->req_framing == FRAMING_LENGTH && ex->req_len > 0)) safe = false;
    if (before->parent == NULL || !safe) return false;
    return ex->reused || before->parent->kind != MINIPROXY_HOP_SOCKS5;
}

/* ---- Ends ---- */

/* There was a hop that would have done, and has not been asked. */
static const struct parent *unasked(const struct exchange *ex)
{
    const struct miniproxy_route *r = &routes[ex->by->policy][ex->routes];
    for (unsigned i = r->first; i < (unsigned)r->first + r->count; i++) {
        const struct parent *q = &parents[ex->by->policy * HOPS_EACH + i];
        if ((ex->hops_tried >> i & 1) != 0 || q->down || q->up_since_ms >= ex->began_ms) continue;
        if (ex->written && (ex->by->kind == MINIPROXY_HOP_PROXY) != (q->kind == MINIPROXY_HOP_PROXY)) continue;
        return q;
    }
    return NULL;
}

/* All hops of its route have been tried, or were down at some time since it began. */
static bool had_none(const struct exchange *ex)
{
    if (ex->by != NULL) return unasked(ex) == NULL;
    for (unsigned p = 0; p < ex->policy_count; p++) {
        const struct miniproxy_policy *policy = ex->policies[p];
        bool allowed = false, none = true;
        int r = policy != NULL ? way(policy, ex, &allowed) : DIRECT;
        if (r < 0) continue;
        for (unsigned i = 0; i < policy->routes[r].count; i++) {
            const struct parent *q = &parents[(size_t)(policy - routed) * HOPS_EACH + policy->routes[r].first + i];
            none = none && (q->down || q->up_since_ms >= ex->began_ms);
        }
        if (none) return true;
    }
    return false;
}

bool routes_excuse(const struct exchange *ex, uint8_t cause)
{
    uint16_t s = ex->parent_status;
    switch (cause) {
    case MINIPROXY_CAUSE_HOPS_DOWN:
        follow_members();
        REQUIRE(PROPERTY_NO_PARENT, had_none(ex) || !IS_EXACT, "request %u: no_parent, but there was one", ex->id);
        tally(TALLY_NONE_LEFT);
        return true;
    case MINIPROXY_CAUSE_HOP_LOGIN: return s == 407;
    case MINIPROXY_CAUSE_HOP_REFUSED:
        return (s != 0 && s != 407 && s != 101) ||
               (ex->socks_reply != 0 && (ex->socks_reply < 3 || ex->socks_reply > 6));
    case MINIPROXY_CAUSE_HOP_INVALID: return s == 101;
    case MINIPROXY_CAUSE_UNREACHABLE: return ex->socks_reply == 3 || ex->socks_reply == 4;
    case MINIPROXY_CAUSE_REFUSED: return ex->socks_reply == 5;
    case MINIPROXY_CAUSE_CONNECT_RESET: return ex->socks_cut;
    case MINIPROXY_CAUSE_CONNECT_TIMEOUT:
        return ex->socks_reply == 6 || ex->parent_mute ||
               (ex->by != NULL && ex->by->kind == MINIPROXY_HOP_SOCKS5 && world.mood.small);
    case MINIPROXY_CAUSE_HEAD_SIZE: /* with the parent's login and the target it gets longer */
        return ex->by != NULL && ex->by->kind == MINIPROXY_HOP_PROXY && ex->head_len + 300 > MINIPROXY_HEAD_MAX;
    case MINIPROXY_CAUSE_RESOURCES:
        return ex->by_hops && ((ex->happened | ex->client->happened) & HAPPENED_RESOURCES) != 0;
    default: return false;
    }
}

/* An idempotent request without a body has failed by its hop, though another one would have done. */
static void check_lost(const struct exchange *ex, const struct miniproxy_event *e)
{
    bool sent = e->cause == MINIPROXY_CAUSE_RESPONSE_EMPTY || e->cause == MINIPROXY_CAUSE_RESPONSE_RESET ||
                e->cause == MINIPROXY_CAUSE_RESPONSE_CUT;
    const struct parent *other;
    if (!sent || e->source == MINIPROXY_BY_ORIGIN || ex->attempt == NULL || ex->attempt->parent != ex->by) return;
    if (ex->times_at_origin == 0 || ex->by->kind == MINIPROXY_HOP_SOCKS5) return;
    if (core_received(ex->attempt) - ex->received_before >= ex->answer_head) return;
    if (!routes_repeat(ex, ex->attempt) || ex->down.on) return;
    other = unasked(ex);
    tally(TALLY_LOST);
    REQUIRE(PROPERTY_FAILOVER, other == NULL, "request %u is lost at hop %u, though hop %u is there", ex->id,
            ex->by->index, other->index);
}

static void count_ways(const struct exchange *ex)
{
    bool tunnel = ex->kind == EXCHANGE_CONNECT;
    if (!ex->by_hops) tally(TALLY_AROUND);
    else if (ex->by->kind == MINIPROXY_HOP_PROXY) tally(tunnel ? TALLY_TUNNEL_BY_PROXY : TALLY_BY_PROXY);
    else if (ex->by->kind == MINIPROXY_HOP_SOCKS5) tally(tunnel ? TALLY_TUNNEL_BY_SOCKS : TALLY_BY_SOCKS);
    else tally(tunnel ? TALLY_TUNNEL_BY_GROUP : TALLY_BY_GROUP);
}

void routes_check_event(struct exchange *ex, const struct miniproxy_event *e)
{
    const struct miniproxy_hop *hop = ex->by != NULL ? hop_at(ex->by) : NULL;
    for (unsigned i = ex->index; e->hop != NULL && hop == NULL && i-- > 0;) /* or that of the connection that is kept */
        if (ex->client->exchanges[i]->by != NULL) hop = hop_at(ex->client->exchanges[i]->by);
    if (e->hop != hop && e->hop != NULL && e->cause == MINIPROXY_CAUSE_CLIENT_GONE) {
        pick(ex, &parents[e->hop - hops[0]]);
        return; /* which was as far as it came */
    }
    REQUIRE(PROPERTY_EVENTS, e->hop == hop, "request %u: the event names another hop", ex->id);
    if (e->cause == MINIPROXY_CAUSE_HOP_REFUSED && ex->parent_status != 0) tally(TALLY_TUNNEL_REFUSED);
    if (e->cause == MINIPROXY_CAUSE_NONE && e->status != 0) count_ways(ex);
    if (ex->by_hops) check_lost(ex, e);
}

/* ---- At every poll ---- */

static void check_health(struct parent *q)
{
    const struct miniproxy_health *h = &healths[q->policy][q->index];
    follow_member(q);
    if (!IS_EXACT) {
        if (q->down != (h->down != 0)) turn(q, h->down != 0);
        q->streak = h->streak;
        q->failed = h->failed;
        q->turns = q->told;
        return;
    }
    REQUIRE(PROPERTY_HEALTH, (h->down != 0) == q->down && h->streak == q->streak && h->failed == q->failed,
            "hop %u of policy %u: down %u, streak %u, failed %u instead of %u, %u, %u", q->index, q->policy, h->down,
            h->streak, h->failed, q->down, q->streak, q->failed);
    REQUIRE(PROPERTY_HEALTH, h->used == q->used, "hop %u of policy %u: used %u times instead of %u", q->index,
            q->policy, h->used, q->used);
    REQUIRE(PROPERTY_HEALTH, q->told == q->turns, "hop %u of policy %u: told %u times instead of %u", q->index,
            q->policy, q->told, q->turns);
    REQUIRE(PROPERTY_HEALTH, !q->down || has_checks(q) || h->due_ms == world.base_ms + (uint32_t)q->due_ms,
            "hop %u of policy %u is to be tried again at another time", q->index, q->policy);
}

void routes_poll(uint64_t due_ms)
{
    bool checks = world.policy != NULL && !world.drained && !world.stopped && checks_running < MINIPROXY_CHECKS;
    for (unsigned p = 0; p < ROUTED; p++)
        for (unsigned i = 0; i < routed[p].hop_count; i++) {
            struct parent *q = &parents[p * HOPS_EACH + i];
            uint64_t check_ms = check_due_ms(q);
            check_health(q);
            if (!checks || &routed[p] != world.policy || !has_checks(q) || q->in_check) continue;
            if (check_ms < world.now_ms) check_ms = world.now_ms;
            REQUIRE(PROPERTY_CHECKS, due_ms <= check_ms + RETRY_MS, "nobody is going to check hop %u", i);
        }
    if (world.drained || world.stopped)
        REQUIRE(PROPERTY_DRAIN, checks_running == 0 || !world.drained, "a check goes on after the drain");
}

bool routes_over(void)
{
    if (world.drained || world.stopped || world.queue_len > 0 || world.open_clients > 0) return false;
    for (unsigned i = 0; i < world.client_count; i++)
        if (!world.clients[i].started) return false;
    return true;
}

void routes_stop(void)
{
    unsigned how = below(3);
    if (world.drained || world.stopped) return;
    trace("the end: %u", how);
    world.woken = true;
    if (how == 0) {
        world.policy = NULL;
        REQUIRE(PROPERTY_CHECKS, miniproxy_set_policy(&world.proxy, NULL), "no policy is refused");
    } else if (how == 1) {
        world.drained = true;
        miniproxy_drain(&world.proxy);
    } else {
        world.stopped = true;
        miniproxy_stop(&world.proxy);
    }
}

void routes_policy(void)
{
    policy_ms = world.now_ms;
}

#else

void routes_policy(void)
{
}

void routes_plan(uint32_t rush_ms)
{
    (void)rush_ms;
}

void routes_event(struct parent *q)
{
    (void)q;
}

void routes_poll(uint64_t due_ms)
{
    (void)due_ms;
}

bool routes_over(void)
{
    return false;
}

void routes_stop(void)
{
}

struct parent *parent_at(unsigned number)
{
    (void)number;
    return NULL;
}

struct parent *parent_named(const char *name)
{
    (void)name;
    return NULL;
}

struct parent *parent_of(const struct machine *m)
{
    (void)m;
    return NULL;
}

void try_hop(const struct miniproxy_conn *c, struct exchange *ex, struct parent *q)
{
    (void)c, (void)ex, (void)q;
}

void routes_direct(struct exchange *ex, const struct miniproxy_addr *address)
{
    (void)ex, (void)address;
}

void routes_seen(unsigned session, const struct miniproxy_conn *c, enum seen_call what, const void *data, int result)
{
    (void)session, (void)c, (void)what, (void)data, (void)result;
}

bool routes_deny(const struct miniproxy_policy *p, const struct exchange *ex, uint16_t groups)
{
    (void)p, (void)ex, (void)groups;
    return false;
}

bool routes_excuse(const struct exchange *ex, uint8_t cause)
{
    (void)ex, (void)cause;
    return false;
}

void routes_check_event(struct exchange *ex, const struct miniproxy_event *e)
{
    (void)ex, (void)e;
}

bool routes_repeat(const struct exchange *ex, const struct conn *before)
{
    (void)ex, (void)before;
    return false;
}

bool routes_leads(const struct exchange *ex, const struct parent *q)
{
    (void)ex, (void)q;
    return false;
}

#endif

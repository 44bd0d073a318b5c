/* SPDX-License-Identifier: MIT */
/* Limits: others in each world, and accounts of what they allow. */
#include "sim.h"

#include <string.h>

#if MINIPROXY_WITH_LIMITS

enum { ACCOUNTS_MAX = 200 };

/* What one owner has had of one limit since the policy was set. */
struct account {
    const struct miniproxy_limit *limit;
    uint32_t owner, swaps;
    uint64_t since_ms, octets[2]; /* down, up: but for heads, which may be owed */
    uint32_t requests;
};

static struct account accounts[ACCOUNTS_MAX];
static unsigned account_count;

struct miniproxy_limit sim_limits[SIM_POLICIES][SIM_LIMITS];

static uint32_t some_rate(void)
{
    return one_in(2) ? 0 : (200u << below(10)) + below(100);
}

static void make_limit(struct miniproxy_limit *l)
{
    static const struct miniproxy_net4 near[] = {{{10, 0, 0, 2}, 31}};
    static const struct miniproxy_nets neighbours = {.v4 = near, .v4_count = 1};
    memset(l, 0, sizeof *l);
    if (one_in(2)) {
        l->users = 1u << 14; /* nobody */
        return;
    }
    l->share = (uint8_t)below(3);
    if (one_in(4)) l->clients = &neighbours;
    if (one_in(4)) l->users = (uint16_t)(one_in(2) ? 1 : MINIPROXY_AUTHENTICATED);
    if (one_in(4)) l->at_once = (uint16_t)between(1, 4);
    if (one_in(4)) l->requests_a_minute = (uint16_t)(1u << below(10));
    if (one_in(2)) l->request_burst = (uint16_t)between(1, 5);
    l->down_per_s = some_rate();
    l->up_per_s = some_rate();
    if (one_in(3)) l->burst = 1 + spread(20000);
}

void make_limits(void)
{
    account_count = 0;
    for (unsigned i = 0; i < SIM_POLICIES; i++)
        for (unsigned j = 0; j < SIM_LIMITS; j++) make_limit(&sim_limits[i][j]);
}

static bool holds(const struct miniproxy_limit *l, const struct exchange *ex, uint16_t groups)
{
    if (l->clients != NULL && (ex->client->addr.ip[3] | 1) != 3) return false;
    if (l->share == MINIPROXY_EACH_USER && groups == 0) return false;
    return l->users == 0 || (l->users & groups) != 0;
}

static uint32_t owner_of(const struct miniproxy_limit *l, const struct exchange *ex, uint16_t groups)
{
    if (l->share == MINIPROXY_EACH_CLIENT) return ex->client->addr.ip[3];
    return l->share == MINIPROXY_EACH_USER ? groups : 0;
}

static struct account *account_for(const struct miniproxy_limit *l, uint32_t owner)
{
    struct account *a = accounts;
    for (; a < accounts + account_count; a++)
        if (a->limit == l && a->owner == owner && a->swaps == world.swaps) return a;
    if (account_count == ACCOUNTS_MAX) violation(PROPERTY_LIMITS, "the world has too many accounts");
    memset(a, 0, sizeof *a);
    a->limit = l;
    a->owner = owner;
    a->swaps = world.swaps;
    a->since_ms = world.now_ms;
    account_count++;
    return a;
}

/* The accounts of an exchange, if it is certain by which policy it was decided. */
static unsigned accounts_of(const struct exchange *ex, struct account *out[MINIPROXY_LIMITS_EACH])
{
    const struct miniproxy_policy *p = ex->policies[0];
    uint16_t groups;
    unsigned n = 0;
    if (ex->policy_count != 1 || p == NULL) return 0;
    groups = login_groups(p, ex);
    for (unsigned i = 0; i < p->limit_count && n < MINIPROXY_LIMITS_EACH; i++)
        if (holds(&p->limits[i], ex, groups)) out[n++] = account_for(&p->limits[i], owner_of(&p->limits[i], ex, groups));
    return n;
}

static uint32_t requests_at_once(const struct miniproxy_limit *l)
{
    if (l->request_burst != 0) return l->request_burst;
    return l->requests_a_minute >= 20 ? l->requests_a_minute / 10u : 1;
}

/* Exchanges besides ex of the same owner that may use the same limit; at once: that were not over when it began. */
static unsigned others(const struct exchange *ex, const struct miniproxy_policy *p, const struct miniproxy_limit *l,
                       bool at_once)
{
    uint32_t owner = owner_of(l, ex, login_groups(p, ex));
    unsigned n = 0;
    for (unsigned i = 0; i < world.exchange_count; i++) {
        const struct exchange *other = &world.exchanges[i];
        uint16_t groups = login_groups(p, other);
        if (other == ex || other->policy_count == 0 || (at_once && other->evented && other->ended_ms < ex->begun_ms)) continue;
        n += holds(l, other, groups) && owner_of(l, other, groups) == owner;
    }
    return n;
}

void limits_check_begin(const struct exchange *ex)
{
    struct account *a[MINIPROXY_LIMITS_EACH];
    accounts_of(ex, a);
}

/* A way to the origin is looked for: the exchange has begun. */
void limits_check_way(struct exchange *ex)
{
    struct account *a[MINIPROXY_LIMITS_EACH];
    unsigned n = accounts_of(ex, a);
    if (ex->on_its_way) return;
    ex->on_its_way = true;
    for (unsigned i = 0; i < n; i++) {
        const struct miniproxy_limit *l = a[i]->limit;
        unsigned count = 1;
        if (l->requests_a_minute != 0)
            REQUIRE(PROPERTY_LIMITS,
                    ++a[i]->requests <= requests_at_once(l) +
                                            (world.now_ms - a[i]->since_ms) * l->requests_a_minute / 60000,
                    "request %u: one too many, the %uth of %u", ex->id, a[i]->requests, a[i]->owner);
        for (unsigned j = 0; j < world.exchange_count; j++) {
            const struct exchange *other = &world.exchanges[j];
            struct account *b[MINIPROXY_LIMITS_EACH];
            unsigned m = other != ex && other->on_its_way && !other->evented ? accounts_of(other, b) : 0;
            while (m > 0) count += b[--m] == a[i];
        }
        if (l->at_once != 0)
            REQUIRE(PROPERTY_LIMITS, count <= l->at_once, "request %u: %u are under way, %u may be", ex->id, count,
                    l->at_once);
    }
}

/* The core has taken octets from a client or from an origin. */
void limits_check_taken(const struct exchange *ex, bool from_client, uint32_t octets)
{
    struct account *a[MINIPROXY_LIMITS_EACH];
    unsigned n = ex->connected || ex->times_at_origin > 0 ? accounts_of(ex, a) : 0;
    for (unsigned i = 0; i < n; i++) {
        const struct miniproxy_limit *l = a[i]->limit;
        uint64_t rate = from_client ? l->up_per_s : l->down_per_s, burst = l->burst != 0 ? l->burst : rate / 10;
        a[i]->octets[from_client] += octets;
        if (rate == 0) continue;
        REQUIRE(PROPERTY_LIMITS,
                a[i]->octets[from_client] * 1000 <= (burst == 0 ? 1 : burst) * 1000 + rate * (world.now_ms - a[i]->since_ms),
                "request %u: %llu octets in %llu ms with a rate of %u and a burst of %u", ex->id,
                (unsigned long long)a[i]->octets[from_client], (unsigned long long)(world.now_ms - a[i]->since_ms),
                (unsigned)rate, (unsigned)burst);
    }
}

bool limits_excuse(const struct exchange *ex, uint8_t cause)
{
    for (unsigned i = 0; i < ex->policy_count; i++) {
        const struct miniproxy_policy *p = ex->policies[i];
        for (unsigned j = 0; p != NULL && j < p->limit_count; j++) {
            const struct miniproxy_limit *l = &p->limits[j];
            if (!holds(l, ex, login_groups(p, ex))) continue;
            if (cause == MINIPROXY_CAUSE_REQUEST_RATE && l->requests_a_minute != 0 &&
                others(ex, p, l, false) >= requests_at_once(l))
                return true;
            if (cause == MINIPROXY_CAUSE_AT_ONCE && l->at_once != 0 && others(ex, p, l, true) >= l->at_once)
                return true;
        }
    }
    return false;
}

void limits_check_rest(void)
{
    const struct miniproxy_limits *l = &world.proxy.limits;
    REQUIRE(PROPERTY_LEAK, l->waiting == 0, "somebody still waits for a limit");
    for (unsigned i = 0; i < l->used; i++)
        REQUIRE(PROPERTY_LEAK, l->buckets[i].limit == NULL || l->buckets[i].holders == 0, "a bucket is still held");
}

#else

void make_limits(void)
{
}

void limits_check_begin(const struct exchange *ex)
{
    (void)ex;
}

void limits_check_way(struct exchange *ex)
{
    (void)ex;
}

void limits_check_taken(const struct exchange *ex, bool from_client, uint32_t octets)
{
    (void)ex, (void)from_client, (void)octets;
}

bool limits_excuse(const struct exchange *ex, uint8_t cause)
{
    (void)ex, (void)cause;
    return false;
}

void limits_check_rest(void)
{
}

#endif

/* SPDX-License-Identifier: MIT
 *
 * compare POLICY REQUESTS: are the tables that `miniproxy policy compile` wrote, linked in as `compiled_policy`, those
 * that the policy's text becomes now? Every member is compared, then the verdicts on random requests made of what
 * stands in the tables.
 */
#include "examples/desktop/policy.h"

#include <stdlib.h>
#include <string.h>

extern const struct miniproxy_policy compiled_policy;

static void differ(const char *what, unsigned rule)
{
    printf("rule or user %u differs: %s\n", rule, what);
    exit(1);
}

static bool same_texts(const struct miniproxy_texts *a, const struct miniproxy_texts *b)
{
    if (a == NULL || b == NULL) return a == b;
    if (a->count != b->count) return false;
    for (unsigned i = 0; i < a->count; i++)
        if (strcmp(a->list[i], b->list[i]) != 0) return false;
    return true;
}

static bool same_nets(const struct miniproxy_nets *a, const struct miniproxy_nets *b)
{
    if (a == NULL || b == NULL) return a == b;
    return a->v4_count == b->v4_count && a->v6_count == b->v6_count &&
           (a->v4_count == 0 || memcmp(a->v4, b->v4, a->v4_count * sizeof *a->v4) == 0) &&
           (a->v6_count == 0 || memcmp(a->v6, b->v6, a->v6_count * sizeof *a->v6) == 0);
}

static bool same_hosts(const struct miniproxy_hosts *a, const struct miniproxy_hosts *b)
{
    struct miniproxy_texts x, y;
    if (a == NULL || b == NULL) return a == b;
    x = (struct miniproxy_texts){a->names, a->count};
    y = (struct miniproxy_texts){b->names, b->count};
    return same_texts(&x, &y) && a->blob_len == b->blob_len &&
           (a->blob_len == 0 || memcmp(a->blob, b->blob, a->blob_len) == 0);
}

static bool same_ranges(const struct miniproxy_ranges *a, const struct miniproxy_ranges *b)
{
    if (a == NULL || b == NULL) return a == b;
    return a->count == b->count && memcmp(a->list, b->list, a->count * sizeof *a->list) == 0;
}

static bool same_times(const struct miniproxy_times *a, const struct miniproxy_times *b)
{
    if (a == NULL || b == NULL) return a == b;
    if (a->count != b->count) return false;
    for (unsigned i = 0; i < a->count; i++) {
        const struct miniproxy_time *x = a->list + i, *y = b->list + i;
        if (x->from != y->from || x->to != y->to || x->days != y->days) return false;
    }
    return true;
}

static void compare_rules(const struct miniproxy_rule *a, const struct miniproxy_rule *b, unsigned i)
{
    static const struct miniproxy_also none;
    const struct miniproxy_also *x = a->also != NULL ? a->also : &none, *y = b->also != NULL ? b->also : &none;
    if (a->verdict != b->verdict || a->special_purpose != b->special_purpose) differ("verdict", i);
    if (a->literal != b->literal || a->either != b->either) differ("literal, either", i);
    if (a->methods != b->methods || a->users != b->users) differ("methods, users", i);
    if (a->port[0] != b->port[0] || a->port[1] != b->port[1]) differ("port", i);
    if (!same_nets(a->clients, b->clients)) differ("clients", i);
    if (!same_nets(a->to, b->to)) differ("to", i);
    if (!same_hosts(a->hosts, b->hosts)) differ("hosts", i);
    if (!same_ranges(x->ports, y->ports)) differ("ports", i);
    if (!same_texts(x->paths, y->paths) || !same_texts(x->agents, y->agents)) differ("paths, agents", i);
    if (!same_texts(x->types, y->types) || !same_times(x->times, y->times)) differ("types, times", i);
}

static void compare_users(const struct miniproxy_user *a, const struct miniproxy_user *b, unsigned i)
{
    if (strcmp(a->name, b->name) != 0 || a->rounds != b->rounds || a->groups != b->groups) differ("user", i);
    if ((a->digest == NULL) != (b->digest == NULL)) differ("digest", i);
    if (a->digest != NULL && memcmp(a->digest, b->digest, MINIPROXY_SALT_LEN + MINIPROXY_DIGEST_LEN) != 0)
        differ("digest", i);
    if ((a->password == NULL) != (b->password == NULL)) differ("password", i);
    if (a->password != NULL && strcmp(a->password, b->password) != 0) differ("password", i);
}

static bool same_text(const char *a, const char *b)
{
    return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

static void compare_hops(const struct miniproxy_hop *a, const struct miniproxy_hop *b, unsigned i)
{
    if (!same_text(a->host, b->host) || !same_text(a->login, b->login) || !same_text(a->check, b->check))
        differ("host, login, check of a hop", i);
    if (a->port != b->port || a->check_s != b->check_s || a->kind != b->kind || a->secure != b->secure ||
        a->rise != b->rise || a->fall != b->fall)
        differ("numbers of a hop", i);
}

static void compare_routes(const struct miniproxy_route *a, const struct miniproxy_route *b, unsigned i)
{
    if (!same_nets(a->clients, b->clients) || !same_nets(a->to, b->to) || !same_hosts(a->hosts, b->hosts))
        differ("sets of a route", i);
    if (a->users != b->users || a->first != b->first || a->count != b->count || a->order != b->order ||
        a->resolve != b->resolve)
        differ("numbers of a route", i);
}

static void compare_limits(const struct miniproxy_limit *a, const struct miniproxy_limit *b, unsigned i)
{
    if (!same_nets(a->clients, b->clients) || a->users != b->users || a->share != b->share) differ("who of a limit", i);
    if (a->at_once != b->at_once || a->requests_a_minute != b->requests_a_minute ||
        a->request_burst != b->request_burst || a->down_per_s != b->down_per_s || a->up_per_s != b->up_per_s ||
        a->burst != b->burst)
        differ("numbers of a limit", i);
}

static void compare_ways(const struct miniproxy_policy *a, const struct miniproxy_policy *b)
{
    if ((a->maintenance == NULL) != (b->maintenance == NULL) ||
        (a->maintenance != NULL && strcmp(a->maintenance, b->maintenance) != 0))
        differ("maintenance", 0);
    if (a->route_count != b->route_count || a->hop_count != b->hop_count || a->limit_count != b->limit_count)
        differ("number of routes, hops or limits", 0);
    for (unsigned i = 0; i < a->hop_count; i++) compare_hops(a->hops + i, b->hops + i, i);
    for (unsigned i = 0; i < a->route_count; i++) compare_routes(a->routes + i, b->routes + i, i);
    for (unsigned i = 0; i < a->limit_count; i++) compare_limits(a->limits + i, b->limits + i, i);
    for (unsigned i = 0; i < b->hop_count; i++) b->health[i].used++; /* it can be written to, and is long enough */
}

/* ---- Requests */

static uint32_t pick(uint32_t below)
{
    static uint64_t state = 88172645463325252u;
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)(state >> 33) % below;
}

/* An address of a set of the tables, or any. */
static void pick_address(const struct miniproxy_policy *p, struct miniproxy_addr *a)
{
    const struct miniproxy_rule *r = p->rules + pick(p->rule_count);
    const struct miniproxy_nets *nets = pick(2) != 0 ? r->clients : r->to;
    for (unsigned i = 0; i < sizeof a->ip; i++) a->ip[i] = (uint8_t)pick(256);
    a->family = pick(4) == 0 ? 6 : 4;
    if (nets == NULL || pick(4) == 0) return;
    if (nets->v4_count > 0 && (nets->v6_count == 0 || pick(2) != 0)) {
        a->family = 4;
        memcpy(a->ip, nets->v4[pick(nets->v4_count)].ip, 4);
        a->ip[3] ^= (uint8_t)pick(3);
    } else if (nets->v6_count > 0) {
        a->family = 6;
        memcpy(a->ip, nets->v6[pick(nets->v6_count)].ip, 16);
        a->ip[15] ^= (uint8_t)pick(3);
    }
}

static const char *pick_host(const struct miniproxy_policy *p, char out[300])
{
    const struct miniproxy_hosts *hosts = p->rules[pick(p->rule_count)].hosts;
    const char *name = hosts != NULL && hosts->count > 0 ? hosts->names[pick(hosts->count)] : "other.example";
    snprintf(out, 300, "%s%s", pick(3) == 0 ? "x." : "", name[0] == '.' ? name + 1 : name);
    return out;
}

static const char *pick_text(const struct miniproxy_texts *texts, const char *other)
{
    return texts != NULL && pick(2) != 0 ? texts->list[pick(texts->count)] : other;
}

static void compare_verdicts(const struct miniproxy_policy *a, const struct miniproxy_policy *b, uint32_t count)
{
    static const struct miniproxy_also none;
    for (uint32_t i = 0; i < count; i++) {
        const struct miniproxy_rule *r = a->rules + pick(a->rule_count);
        const struct miniproxy_also *also = r->also != NULL ? r->also : &none;
        struct miniproxy_addr client, address;
        struct miniproxy_question q = {.client = &client};
        enum miniproxy_verdict x, y;
        char host[300];
        int at_a, at_b;
        uint32_t user = pick(a->user_count + 1u);
        pick_address(a, &client);
        pick_address(a, &address);
        q.address = pick(5) == 0 ? NULL : &address;
        q.literal = q.address != NULL && pick(5) == 0;
        q.host = q.literal ? "literal" : pick_host(a, host);
        q.method = (uint16_t)(1u << pick(10)); /* pages too */
        q.path = q.method == MINIPROXY_CONNECT ? NULL : pick_text(also->paths, "/other");
        q.path_len = q.path != NULL ? strlen(q.path) : 0;
        q.port = also->ports != NULL ? also->ports->list[pick(also->ports->count)].last : r->port[0];
        if (q.port == 0 || pick(3) == 0) q.port = (uint16_t)(pick(2) != 0 ? 443 : 1 + pick(65535));
        q.agent = pick_text(also->agents, "other");
        q.agent_len = strlen(q.agent);
        q.type = pick(5) == 0 ? NULL : pick_text(also->types, "x/y");
        q.type_len = q.type != NULL ? strlen(q.type) : 0;
        q.minute_of_week = (int)pick(10081) - 1;
        q.user = user < a->user_count ? a->users + user : NULL;
        x = miniproxy_decide(a, &q, &at_a);
        q.user = user < a->user_count ? b->users + user : NULL;
        y = miniproxy_decide(b, &q, &at_b);
        if (x != y || at_a != at_b) differ("a verdict", (unsigned)at_a);
    }
}

int main(int argc, char **argv)
{
    struct compiled *c = argc == 3 ? policy_read(argv[1], stderr) : NULL;
    const struct miniproxy_policy *a = c != NULL ? &c->policy : NULL, *b = &compiled_policy;
    if (c == NULL) return 2;
    if (miniproxy_check_policy(b) >= 0) differ("the core refuses it", (unsigned)miniproxy_check_policy(b));
    if (a->rule_count != b->rule_count || a->user_count != b->user_count) differ("number of rules or users", 0);
    for (unsigned i = 0; i < a->rule_count; i++) compare_rules(a->rules + i, b->rules + i, i);
    for (unsigned i = 0; i < a->user_count; i++) compare_users(a->users + i, b->users + i, i);
    compare_ways(a, b);
    if (a->rule_count > 0) compare_verdicts(a, b, (uint32_t)strtoul(argv[2], NULL, 10));
    printf("%u rules, %u users, %u routes by %u hops and %u limits are the same; hits: %s\n", a->rule_count,
           a->user_count, a->route_count, a->hop_count, a->limit_count, b->hits != NULL ? "yes" : "no");
    policy_free(c);
    return 0;
}

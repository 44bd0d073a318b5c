/* SPDX-License-Identifier: MIT */
/* The policies of the simulation, and a second opinion on what they say. */
#include "sim.h"

#include <string.h>
#include <strings.h>

#define GROUP_KIOSK 1u
#define GROUP_ADMIN 2u

#if MINIPROXY_WITH_PBKDF2
static uint8_t kiosk_entry[MINIPROXY_SALT_LEN + MINIPROXY_DIGEST_LEN];
#define KIOSK_PASSWORD .digest = kiosk_entry, .rounds = KIOSK_ROUNDS

void make_users(void)
{
    sim_entry(kiosk_entry, "secret", KIOSK_ROUNDS);
}
#else
#define KIOSK_PASSWORD .password = "secret"

void make_users(void)
{
}
#endif

static const struct miniproxy_user users[] = {
    {.name = "kiosk", KIOSK_PASSWORD, .groups = GROUP_KIOSK},
    {.name = "admin", .password = "a:b", .groups = GROUP_ADMIN},
    {.name = "badge", .groups = GROUP_ADMIN}, /* who proves it beneath HTTP only */
};

static const struct miniproxy_net4 nine[] = {{{9, 9, 0, 0}, 16}}, ten[] = {{{10, 0, 0, 0}, 8}},
                                   near[] = {{{10, 0, 0, 2}, 31}}, eleven[] = {{{11, 0, 0, 0}, 30}};
static const struct miniproxy_net6 six[] = {{{0x26, 0x00, 0, 9}, 32}};
static const struct miniproxy_nets denied_nets = {.v4 = nine, .v4_count = 1, .v6 = six, .v6_count = 1};
static const struct miniproxy_nets eleven_first = {.v4 = eleven, .v4_count = 1};
static const struct miniproxy_nets lan = {.v4 = ten, .v4_count = 1};
static const struct miniproxy_nets neighbours = {.v4 = near, .v4_count = 1};
static const char *const one_names[] = {"h1.sim"}, *const two_names[] = {".h2.sim", "h3.sim"};
static const struct miniproxy_hosts one = {.names = one_names, .count = 1},
                                    two = {.names = two_names, .count = 2};

static const struct miniproxy_rule open_rules[] = {{.verdict = MINIPROXY_ALLOW, .port = {1, 65535}}};
static const struct miniproxy_rule plain_rules[] = {{.verdict = MINIPROXY_ALLOW}};
static const struct miniproxy_rule block_rules[] = {
    {.verdict = MINIPROXY_DENY, .hosts = &one},
    {.verdict = MINIPROXY_DENY, .to = &denied_nets, .methods = MINIPROXY_POST | MINIPROXY_CONNECT | MINIPROXY_OTHER},
    {.verdict = MINIPROXY_DENY, .to = &eleven_first, .methods = MINIPROXY_HEAD | MINIPROXY_PUT},
    {.verdict = MINIPROXY_DENY, .literal = 1, .methods = MINIPROXY_CONNECT},
    {.verdict = MINIPROXY_ALLOW, .port = {80, 8080}},
    {.verdict = MINIPROXY_ALLOW, .methods = MINIPROXY_CONNECT},
};
static const struct miniproxy_rule login_rules[] = {
    {.verdict = MINIPROXY_DENY, .also = &(const struct miniproxy_also){.paths = &(const struct miniproxy_texts){(const char *const[]){"/no"}, 1}}},
    {.verdict = MINIPROXY_ALLOW, .users = GROUP_KIOSK, .port = {1, 65535}},
    {.verdict = MINIPROXY_ALLOW, .users = GROUP_ADMIN, .methods = MINIPROXY_GET | MINIPROXY_HEAD | MINIPROXY_CONNECT},
    {.verdict = MINIPROXY_ALLOW, .hosts = &two, .methods = MINIPROXY_GET},
};
static const struct miniproxy_rule lan_rules[] = {
    {.verdict = MINIPROXY_ALLOW, .special_purpose = 1, .to = &lan, .port = {1, 65535}},
    {.verdict = MINIPROXY_DENY, .hosts = &one, .users = MINIPROXY_AUTHENTICATED},
    {.verdict = MINIPROXY_ALLOW, .clients = &neighbours, .port = {1, 65535}},
    {.verdict = MINIPROXY_ALLOW, .methods = MINIPROXY_OTHER | MINIPROXY_POST | MINIPROXY_GET},
};

#if MINIPROXY_WITH_LIMITS
#define LIMITS(i) , .limits = sim_limits[i], .limit_count = SIM_LIMITS
#else
#define LIMITS(i)
#endif
#define POLICY(i, r, u, n)                                                                                             \
    {                                                                                                                  \
        .rules = (r), .rule_count = sizeof(r) / sizeof(r)[0], .users = (u), .user_count = (n)LIMITS(i)                 \
    }
static const struct miniproxy_policy plain_policy = POLICY(0, plain_rules, NULL, 0);
static const struct miniproxy_policy open_policy = POLICY(1, open_rules, NULL, 0),
                                     block_policy = POLICY(2, block_rules, users, 3),
                                     login_policy = POLICY(3, login_rules, users, 3),
                                     lan_policy = POLICY(4, lan_rules, users, 1);

#define ALL_POLICIES(X) X(0, open) X(1, block) X(2, login) X(3, lan) X(4, plain)
#if MINIPROXY_WITH_ROUTES
struct miniproxy_policy routed[ROUTED]; /* the same with routes: see routes_plan */
#define X(i, name) &name##_policy,
const struct miniproxy_policy *const unrouted[ROUTED] = {ALL_POLICIES(X)};
#undef X
#define X(i, name) &routed[i],
#else
#define X(i, name) &name##_policy,
#endif
const struct miniproxy_policy *const policies[] = {ALL_POLICIES(X) NULL};
#undef X
const unsigned policy_count = sizeof policies / sizeof policies[0];

uint16_t login_groups(const struct miniproxy_policy *p, const struct exchange *ex)
{
    const char *name = ex->login == LOGIN_NONE ? secure_name(ex->client) : NULL;
    if (p == NULL || p->user_count == 0) return 0;
    if (p->user_count == 3 && name != NULL && strcmp(name, "badge") == 0) return MINIPROXY_AUTHENTICATED | GROUP_ADMIN;
    return ex->login == LOGIN_GOOD ? MINIPROXY_AUTHENTICATED | GROUP_KIOSK : 0;
}

unsigned method_bit(const char *method)
{
    static const char *const names[] = {"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "CONNECT"};
    for (unsigned i = 0; i < 8; i++)
        if (strcmp(method, names[i]) == 0) return 1u << i;
    return MINIPROXY_OTHER;
}

static bool in_net(const uint8_t *ip, const uint8_t *net, unsigned bits)
{
    for (unsigned i = 0; i < bits; i++)
        if (((ip[i / 8] ^ net[i / 8]) >> (7 - i % 8) & 1) != 0) return false;
    return true;
}

bool nets_have(const struct miniproxy_nets *nets, const struct miniproxy_addr *a)
{
    for (unsigned i = 0; a->family == 4 && i < nets->v4_count; i++)
        if (in_net(a->ip, nets->v4[i].ip, nets->v4[i].bits)) return true;
    for (unsigned i = 0; a->family == 6 && i < nets->v6_count; i++)
        if (in_net(a->ip, nets->v6[i].ip, nets->v6[i].bits)) return true;
    return false;
}

bool hosts_have(const struct miniproxy_hosts *hosts, const struct exchange *ex)
{
    if (ex->host == NULL) return false;
    for (unsigned i = 0; i < hosts->count; i++) {
        const char *n = hosts->names[i], *h = ex->host->name;
        if (n[0] != '.' && strcasecmp(n, h) == 0) return true;
        if (n[0] != '.') continue;
        if (strcasecmp(n + 1, h) == 0) return true;
        if (strlen(h) > strlen(n) && strcasecmp(h + strlen(h) - strlen(n), n) == 0) return true;
    }
    return false;
}

/* Everything of a rule but the address. */
static bool rule_fits(const struct miniproxy_rule *r, const struct exchange *ex, uint16_t groups)
{
    bool connect = ex->kind == EXCHANGE_CONNECT;
    const char *path = connect ? NULL : ex->target;
    if (r->methods != 0 && (r->methods & method_bit(ex->method)) == 0) return false;
    if (r->users != 0 && (r->users & groups) == 0) return false;
    if (r->port[1] != 0 && (ex->port < r->port[0] || ex->port > r->port[1])) return false;
    if (r->port[1] == 0 && connect && r->verdict == MINIPROXY_ALLOW && ex->port != MINIPROXY_CONNECT_PORT) return false;
    if (r->literal && ex->host != NULL) return false;
    if (r->clients != NULL && !nets_have(r->clients, &ex->client->addr)) return false;
    if (r->hosts != NULL && !hosts_have(r->hosts, ex)) return false;
    if (r->also != NULL && (path == NULL || strncmp(path, r->also->paths->list[0], strlen(r->also->paths->list[0])) != 0))
        return false;
    return true;
}

bool rules_allow(const struct miniproxy_policy *p, const struct exchange *ex, const struct miniproxy_addr *address,
                 bool special, uint16_t groups)
{
    for (unsigned i = 0; p != NULL && i < p->rule_count; i++) {
        const struct miniproxy_rule *r = &p->rules[i];
        if (!rule_fits(r, ex, groups)) continue;
        if (r->to != NULL && !nets_have(r->to, address)) continue;
        if (r->verdict == MINIPROXY_ALLOW && special && !r->special_purpose) continue;
        return r->verdict == MINIPROXY_ALLOW;
    }
    return false;
}

bool rules_allow_remote(const struct miniproxy_policy *p, const struct exchange *ex, uint16_t groups)
{
    for (unsigned i = 0; p != NULL && i < p->rule_count; i++)
        if (p->rules[i].to == NULL && rule_fits(&p->rules[i], ex, groups))
            return p->rules[i].verdict == MINIPROXY_ALLOW;
    return false;
}

bool rules_may_allow(const struct miniproxy_policy *p, const struct exchange *ex, uint16_t groups)
{
    for (unsigned i = 0; p != NULL && i < p->rule_count; i++) {
        const struct miniproxy_rule *r = &p->rules[i];
        if (!rule_fits(r, ex, groups)) continue;
        if (r->verdict == MINIPROXY_ALLOW) return true;
        if (r->to == NULL) return false;
    }
    return false;
}

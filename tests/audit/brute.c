/* SPDX-License-Identifier: MIT
 *
 * Small random policies, of which every request is tried with the core: what the audit proves must be what the trial
 * finds, no more and no less.
 *
 *   brute FIRST-SEED POLICIES RESULTS.tsv
 */
#define _GNU_SOURCE
#include "examples/desktop/policy_space.h"

#include <stdlib.h>
#include <string.h>

enum { ROUTES_MAX = 4, LIMITS_MAX = 4, HOPS = 3 };
enum { RULES_MAX = 6, REQUESTS_MAX = 60000, USERS = 3, OUTCOMES = 3 * (RULES_MAX + 1) };

static uint64_t state = 88172645463325252u;

static unsigned below(unsigned n)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (unsigned)((state >> 32) % n);
}

/* ---- What policies are made of. The values that requests are tried with reach every corner of them. */

static const struct miniproxy_net4 ten4[] = {{{10}, 8}}, sub4[] = {{{10, 1}, 16}, {{192, 168}, 16}},
                                   odd4[] = {{{10, 1, 2, 3}, 32}, {{93, 184}, 16}}, half4[] = {{{128}, 1}};
static const struct miniproxy_net6 ula6[] = {{{0xfd}, 8}}, nat6[] = {{{0, 0x64, 0xff, 0x9b, [12] = 10, 1}, 112}};
static const struct miniproxy_nets nets[] = {
    {.v4 = ten4, .v4_count = 1}, {.v4 = sub4, .v4_count = 2, .v6 = ula6, .v6_count = 1},  {.v4 = odd4, .v4_count = 2},
    {.v6 = nat6, .v6_count = 1}, {.v4 = half4, .v4_count = 1, .v6 = ula6, .v6_count = 1},
};
static const char *const addresses[] = {"10.1.2.3",         "10.1.9.9",
                                        "10.9.9.9",         "192.168.1.1",
                                        "93.184.1.1",       "1.1.1.1",
                                        "200.1.1.1",        "fd00::1",
                                        "2600::1",          "64:ff9b::a01:203",
                                        "64:ff9b::a01:909", "64:ff9b::a09:909",
                                        "64:ff9b::101:101", "64:ff9b::c8c8:c8c8",
                                        "2002:a01:203::1",  "2002:a09:909::1",
                                        "224.1.1.1",        "64:ff9b::5db8:101",
                                        "127.0.0.1"};

static const char *const names1[] = {"a.example"}, *const names2[] = {".a.example", "b.example"},
                         *const names3[] = {".b.a.example", ".c.example"}, *const names4[] = {".example"};
static const struct miniproxy_hosts hosts[] = {{.names = names1, .count = 1},
                                               {.names = names2, .count = 2},
                                               {.names = names3, .count = 2},
                                               {.names = names4, .count = 1}};
static const char *const host_texts[] = {"a.example", "x.a.example", "b.a.example", "x.b.a.example",
                                         "b.example", "x.b.example", "c.example",   "y.c.example",
                                         "z.example", "www.test",    "localhost",   "x.localhost"};

enum { LOCALHOST = 10 /* in host_texts */ };

static const struct miniproxy_range ranges1[] = {{80, 90}, {443, 443}}, ranges2[] = {{1, 65535}},
                                    ranges3[] = {{85, 500}};
static const struct miniproxy_ranges ranges[] = {{ranges1, 2}, {ranges2, 1}, {ranges3, 1}};
static const uint16_t last_ports[] = {84, 200, 460};
static const uint16_t ports[] = {79, 82, 87, 150, 300, 443, 450, 480, 8080};

static const char *const paths1[] = {"/a"}, *const paths2[] = {"/ab", "/c"}, *const paths3[] = {"/", "/a"};
static const struct miniproxy_texts path_sets[] = {{paths1, 1}, {paths2, 2}, {paths3, 2}};
static const char *const paths[] = {"/", "/a", "/abc", "/c/d", "/x"};

static const char *const agents1[] = {"curl"}, *const agents2[] = {"curl/8", "msie"}, *const agents3[] = {"url"};
static const struct miniproxy_texts agent_sets[] = {{agents1, 1}, {agents2, 2}, {agents3, 1}};
static const char *const agents[] = {NULL, "x", "a url", "Curl/7", "curl/8", "MSIE", "MSIE url", "MSIE curl"};

static const char *const types1[] = {"text/"}, *const types2[] = {"text/html", "video/"},
                         *const types3[] = {"video/mp4"}, *const types4[] = {"multipart/", "text/html"};
static const struct miniproxy_texts type_sets[] = {{types1, 1}, {types2, 2}, {types3, 1}, {types4, 2}};
static const char *const types[] = {NULL, "", "text/html", "text/css", "video/mp4", "video/ogg", "image/png",
                                   "multipart/mixed", "multipart/byteranges", "text/html, video/mp4"};

static const struct miniproxy_time times1[] = {{480, 1080, 31}}, times2[] = {{1320, 360, 16}},
                                   times3[] = {{600, 600, 1}};
static const struct miniproxy_times time_sets[] = {{times1, 1}, {times2, 1}, {times3, 1}};
static const int times[] = {
    -1, 60, 540, 660, 1200, 1440 + 300, 4 * 1440 + 700, 4 * 1440 + 1380, 5 * 1440 + 100, 6 * 1440 + 720};

static const uint16_t methods[] = {MINIPROXY_GET, MINIPROXY_HEAD, MINIPROXY_CONNECT, MINIPROXY_POST, MINIPROXY_OTHER};
static const uint16_t method_sets[] = {MINIPROXY_GET, MINIPROXY_CONNECT, MINIPROXY_GET | MINIPROXY_HEAD,
                                       0x1ff & ~MINIPROXY_CONNECT, MINIPROXY_HEAD, MINIPROXY_PAGES, MINIPROXY_PAGES,
                                       MINIPROXY_PAGES | MINIPROXY_GET, 0x1ff, 0x3ff & ~MINIPROXY_CONNECT};

#define COUNT(list) ((unsigned)(sizeof(list) / sizeof *(list)))
#define ANY(list) (&(list)[below(COUNT(list))])

enum part {
    CLIENT = 1,
    USER = 2,
    METHOD = 4,
    PORT = 8,
    HOST = 16,
    TO = 32,
    PATH = 64,
    AGENT = 128,
    TYPE = 256,
    TIME = 512
};

static const struct miniproxy_hop hops[HOPS] = {{.host = "one.example", .port = 1},
                                                {.host = "two.example", .port = 2},
                                                {.host = "10.0.0.3", .port = 3, .kind = MINIPROXY_HOP_SOCKS5}};
static struct hop_origin hop_origins[HOPS] = {
    {"one", {"random", 1, 1}}, {"two", {"random", 2, 1}}, {"three", {"random", 3, 1}}};

struct made {
    struct compiled compiled;
    struct miniproxy_route routes[ROUTES_MAX];
    struct miniproxy_limit limits[LIMITS_MAX];
    struct rule_origin route_origins[ROUTES_MAX], limit_origins[LIMITS_MAX];
    struct miniproxy_rule rules[RULES_MAX];
    struct miniproxy_also also[RULES_MAX];
    struct miniproxy_user users[USERS];
    struct rule_origin origins[RULES_MAX];
};

static bool has(unsigned properties, enum part p)
{
    return (properties & p) != 0 && below(5) < 3;
}

static void make_rule(struct miniproxy_rule *r, struct miniproxy_also *also, unsigned properties)
{
    memset(r, 0, sizeof *r);
    memset(also, 0, sizeof *also);
    r->verdict = below(2) & 1;
    r->special_purpose = below(2) & 1;
    if (has(properties, CLIENT)) r->clients = ANY(nets);
    if (has(properties, USER)) r->users = (uint16_t)(below(4) == 0 ? MINIPROXY_AUTHENTICATED : 1u << below(3));
    r->either = below(4) == 0;
    if (has(properties, METHOD)) r->methods = (unsigned)*ANY(method_sets) & 0xfffu;
    if (has(properties, PORT) && below(2)) also->ports = ANY(ranges);
    else if (has(properties, PORT)) r->port[0] = 80, r->port[1] = last_ports[below(COUNT(last_ports))];
    if (has(properties, HOST) && below(4) > 0) r->hosts = ANY(hosts);
    else if (has(properties, HOST)) r->literal = 1;
    if (has(properties, TO)) r->to = ANY(nets);
    if (has(properties, PATH)) also->paths = ANY(path_sets);
    if (has(properties, AGENT)) also->agents = ANY(agent_sets);
    if (has(properties, TYPE)) also->types = ANY(type_sets);
    if (has(properties, TIME)) also->times = ANY(time_sets);
    if (also->ports != NULL || also->paths != NULL || also->agents != NULL || also->types != NULL ||
        also->times != NULL)
        r->also = also;
}

static uint16_t make_groups(unsigned properties)
{
    if (!has(properties, USER)) return 0;
    return (uint16_t)(below(4) == 0 ? MINIPROXY_AUTHENTICATED : 1u << below(3));
}

static void make_route(struct miniproxy_route *r, unsigned properties)
{
    memset(r, 0, sizeof *r);
    if (has(properties, CLIENT)) r->clients = ANY(nets);
    if (has(properties, TO) && below(2) == 0) r->to = ANY(nets);
    if (has(properties, HOST)) r->hosts = ANY(hosts);
    r->users = make_groups(properties);
    r->count = (uint8_t)below(3);
    r->first = (uint16_t)below(HOPS - r->count);
    r->order = below(2) == 0 ? MINIPROXY_IN_ORDER : MINIPROXY_IN_TURN;
    r->resolve = below(3) == 0;
}

/* Half of the policies have none. */
static void make_ways(struct made *m, unsigned properties, const struct made *like)
{
    struct miniproxy_policy *p = &m->compiled.policy;
    if (like != NULL && below(2) == 0) {
        memcpy(m->routes, like->routes, sizeof m->routes);
        memcpy(m->limits, like->limits, sizeof m->limits);
        p->route_count = like->compiled.policy.route_count;
        p->limit_count = like->compiled.policy.limit_count;
        if (p->route_count > 0) make_route(&m->routes[below(p->route_count)], properties);
    } else if (below(2) == 0) {
        p->route_count = (uint16_t)below(ROUTES_MAX + 1);
        p->limit_count = (uint16_t)below(LIMITS_MAX + 1);
        for (unsigned i = 0; i < p->route_count; i++) make_route(&m->routes[i], properties);
        for (unsigned i = 0; i < p->limit_count; i++) {
            struct miniproxy_limit *l = &m->limits[i];
            *l = (struct miniproxy_limit){.users = make_groups(properties), .share = (uint8_t)below(3), .at_once = 1};
            if (has(properties, CLIENT)) l->clients = ANY(nets);
        }
    }
    p->routes = m->routes;
    p->limits = m->limits;
    p->hops = hops;
    p->hop_count = HOPS;
    m->compiled.hop_origins = hop_origins;
    m->compiled.route_origins = m->route_origins;
    m->compiled.limit_origins = m->limit_origins;
    for (unsigned i = 0; i < ROUTES_MAX; i++)
        m->route_origins[i] = (struct rule_origin){{"random", i + 1, 2}, "a route"};
    for (unsigned i = 0; i < LIMITS_MAX; i++)
        m->limit_origins[i] = (struct rule_origin){{"random", i + 1, 3}, "a limit"};
}

static void make_policy(struct made *m, unsigned properties, const struct made *like)
{
    static const char *const names[USERS] = {"anna", "ben", "eva"};
    unsigned count = 1 + below(RULES_MAX);
    memset(m, 0, sizeof *m);
    if (like != NULL && below(2) == 0) { /* the same but for one rule */
        count = like->compiled.policy.rule_count;
        memcpy(m->rules, like->rules, sizeof m->rules);
        memcpy(m->also, like->also, sizeof m->also);
        for (unsigned i = 0; i < count; i++)
            if (m->rules[i].also != NULL) m->rules[i].also = &m->also[i];
        make_rule(&m->rules[below(count)], &m->also[RULES_MAX - 1], 0);
    } else {
        for (unsigned i = 0; i < count; i++) make_rule(&m->rules[i], &m->also[i], properties);
    }
    for (unsigned i = 0; i < USERS; i++) {
        m->users[i] = (struct miniproxy_user){.name = names[i], .password = "x", .groups = (uint16_t)below(8)};
        if (below(2) == 0) m->users[i].password = NULL; /* comes by a certificate; in both policies, or it is two users */
        if (like != NULL) m->users[i].password = like->users[i].password;
    }
    m->compiled.policy = (struct miniproxy_policy){.rules = m->rules, .rule_count = (uint16_t)count};
    m->compiled.policy.users = m->users;
    m->compiled.file = "random";
    m->compiled.origins = m->origins;
    for (unsigned i = 0; i < RULES_MAX; i++) m->origins[i] = (struct rule_origin){{"random", i + 1, 1}, "a rule"};
    if ((properties & USER) != 0) m->compiled.policy.user_count = USERS;
    make_ways(m, properties, like);
}

/* ---- Every request */

struct request {
    struct miniproxy_addr client, address;
    char literal[MINIPROXY_ADDR_TEXT];
    struct miniproxy_question q;
    int user;
};

static struct request *requests;
static unsigned request_count;

static unsigned choices(unsigned properties, enum part p, unsigned count)
{
    return (properties & p) != 0 ? count : 1;
}

static bool fill_request(struct request *r, unsigned n, unsigned properties)
{
    struct miniproxy_question *q = &r->q;
    unsigned address, host, type;
#define CHOOSE(p, list)                                \
    list[(properties & p) != 0 ? n % COUNT(list) : 0]; \
    if ((properties & p) != 0) n /= COUNT(list)
    const char *client = CHOOSE(CLIENT, addresses);
    q->path = CHOOSE(PATH, paths);
    q->agent = CHOOSE(AGENT, agents);
    q->minute_of_week = CHOOSE(TIME, times);
#undef CHOOSE
    /* CONNECT and its port matter to rules that say nothing about them */
    q->method = (properties & METHOD) != 0 ? methods[n % COUNT(methods)]
                : n % 2 == 0               ? MINIPROXY_GET
                                           : MINIPROXY_CONNECT;
    n /= (properties & METHOD) != 0 ? COUNT(methods) : 2;
    q->port = (properties & PORT) != 0 ? ports[n % COUNT(ports)] : n % 2 == 0 ? 80 : 443;
    n /= (properties & PORT) != 0 ? COUNT(ports) : 2;
    r->user = (properties & USER) != 0 ? (int)(n % (USERS + 1)) - 1 : -1;
    if ((properties & USER) != 0) n /= USERS + 1;
    address = (properties & TO) != 0 ? n % COUNT(addresses) : n % 2 == 0 ? 5 : 2; /* a public and a special one */
    n /= (properties & TO) != 0 ? COUNT(addresses) : 2;
    /* that a target is a literal, or localhost, matters to routes */
    host = n % ((properties & HOST) != 0 ? COUNT(host_texts) + 1 : 3);
    n /= (properties & HOST) != 0 ? COUNT(host_texts) + 1 : 3;
    if ((properties & HOST) == 0 && host > 0) host = host == 1 ? COUNT(host_texts) : LOCALHOST;
    type = (properties & TYPE) != 0 ? n % COUNT(types) : 0;
    miniproxy_addr_parse(&r->client, client, strlen(client));
    miniproxy_addr_parse(&r->address, addresses[address], strlen(addresses[address]));
    miniproxy_addr_format(&r->address, r->literal);
    q->client = &r->client;
    q->address = &r->address;
    q->literal = host == COUNT(host_texts);
    q->host = q->literal ? r->literal : host_texts[host];
    q->agent_len = q->agent != NULL ? strlen(q->agent) : 0;
    q->type = types[type];
    q->type_len = q->type != NULL ? strlen(q->type) : 0;
    if ((q->method == MINIPROXY_CONNECT || q->method == MINIPROXY_HEAD) && q->type != NULL) return false;
    if (q->method == MINIPROXY_CONNECT && q->path != paths[0]) return false;
    if (q->method == MINIPROXY_CONNECT) q->path = NULL;
    q->path_len = q->path != NULL ? strlen(q->path) : 0;
    return true;
}

/* A page of the proxy's own, which has no target. */
static void fill_page(struct request *r, unsigned n, unsigned properties)
{
    struct miniproxy_question *q = &r->q;
    const char *client = addresses[(properties & CLIENT) != 0 ? n % COUNT(addresses) : 0];
    n /= choices(properties, CLIENT, COUNT(addresses));
    memset(q, 0, sizeof *q);
    q->path = paths[(properties & PATH) != 0 ? n % COUNT(paths) : 0];
    n /= choices(properties, PATH, COUNT(paths));
    q->agent = agents[(properties & AGENT) != 0 ? n % COUNT(agents) : 0];
    n /= choices(properties, AGENT, COUNT(agents));
    q->minute_of_week = times[(properties & TIME) != 0 ? n % COUNT(times) : 0];
    n /= choices(properties, TIME, COUNT(times));
    r->user = (properties & USER) != 0 ? (int)n - 1 : -1;
    miniproxy_addr_parse(&r->client, client, strlen(client));
    q->client = &r->client;
    q->host = "";
    q->method = MINIPROXY_PAGES;
    q->path_len = strlen(q->path);
    q->agent_len = q->agent != NULL ? strlen(q->agent) : 0;
}

static bool is_page(const struct request *r)
{
    return r->q.method == MINIPROXY_PAGES;
}

static bool make_requests(unsigned properties)
{
    const unsigned pages = choices(properties, CLIENT, COUNT(addresses)) * choices(properties, PATH, COUNT(paths)) *
                           choices(properties, AGENT, COUNT(agents)) * choices(properties, TIME, COUNT(times)) *
                           choices(properties, USER, USERS + 1);
    unsigned all = choices(properties, CLIENT, COUNT(addresses)) * choices(properties, USER, USERS + 1) *
                   ((properties & METHOD) != 0 ? COUNT(methods) : 2) * ((properties & PORT) != 0 ? COUNT(ports) : 2) *
                   ((properties & HOST) != 0 ? COUNT(host_texts) + 1 : 3) *
                   ((properties & TO) != 0 ? COUNT(addresses) : 2) * choices(properties, PATH, COUNT(paths)) *
                   choices(properties, AGENT, COUNT(agents)) * choices(properties, TYPE, COUNT(types)) *
                   choices(properties, TIME, COUNT(times));
    if (all + pages > REQUESTS_MAX) return false;
    request_count = 0;
    for (unsigned n = 0; n < all; n++) request_count += fill_request(&requests[request_count], n, properties);
    for (unsigned n = 0; n < pages; n++) fill_page(&requests[request_count++], n, properties);
    return true;
}

/* The request as a policy gets to see it, and its route: a name that is left to a parent has no address. */
static struct miniproxy_question seen_by(const struct made *m, const struct request *r, int *route)
{
    struct miniproxy_question q = r->q;
    if (r->user >= 0) q.user = &m->users[r->user];
    *route = -1;
    if (is_page(r)) return q;
    if (!q.literal) {
        q.address = NULL;
        *route = miniproxy_find_route(&m->compiled.policy, &q);
        q.remote = *route >= 0 && m->routes[*route].count > 0 && !m->routes[*route].resolve;
        if (q.remote) return q;
        q.address = &r->address;
    }
    *route = miniproxy_find_route(&m->compiled.policy, &q);
    return q;
}

/* The outcome by the core. */
static struct outcome try_request(const struct made *m, const struct request *r)
{
    int route;
    struct miniproxy_question q = seen_by(m, r, &route);
    struct outcome o = {.rule = -1};
    o.verdict = miniproxy_decide(&m->compiled.policy, &q, &o.rule);
    return o;
}

/* ---- Comparing */

static unsigned long failures, policies_tried, requests_tried, differences_seen, dead_seen, explained, dead_ways_seen,
    ways_seen;

static void blame(const char *what, uint64_t seed, int rule)
{
    if (failures++ < 20) printf("seed %llu: %s, rule %d\n", (unsigned long long)seed, what, rule);
}

static void check_rules(struct space *s, const struct made *m, unsigned properties, uint64_t seed)
{
    bool decides[RULES_MAX] = {false};
    const struct miniproxy_policy *policy = &m->compiled.policy;
    for (unsigned i = 0; i < request_count; i++) {
        struct outcome o = try_request(m, &requests[i]);
        if (o.rule >= 0 && o.verdict != MINIPROXY_NEEDS_USER) decides[o.rule] = true;
    }
    /* who is refused may first have been asked for a login, and is then told another rule */
    for (unsigned i = 0; i < policy->rule_count; i++) {
        const uint64_t *in[1] = {space_matches(s, 0, i)}, *out[2 * RULES_MAX];
        struct witness w;
        unsigned n = 0;
        enum found found;
        int rule = -1;
        for (unsigned j = 0; j < i; j++) {
            out[n++] = space_matches(s, 0, j);
            if (policy->rules[i].verdict == MINIPROXY_DENY) out[n++] = space_asks(s, 0, j);
        }
        found = space_find(s, in, 1, out, n, NULL, &w);
        if (found == FOUND_TOO_MUCH) blame("not decided", seed, (int)i);
        if (found == FOUND_NONE && decides[i]) blame("decides, although proven not to", seed, (int)i);
        if (found == FOUND_NONE) dead_seen++;
        if (found != FOUND) continue;
        if (space_verdict(s, 0, &w, &rule) != (policy->rules[i].verdict ? MINIPROXY_ALLOWED : MINIPROXY_DENIED))
            blame("example has another verdict", seed, (int)i);
        if (rule != (int)i) blame("example is another rule's", seed, (int)i);
        if (!decides[i] && (properties & TYPE) == 0) blame("example, where no request was found", seed, (int)i);
    }
}

/* The first rule that matches, each taken alone; -1: none. */
static int first_match(const struct made *m, const struct request *r)
{
    int route;
    struct miniproxy_question q = seen_by(m, r, &route);
    for (int i = 0; i < m->compiled.policy.rule_count; i++) {
        struct miniproxy_policy one = {.rules = m->rules + i, .rule_count = 1};
        int rule = -1;
        enum miniproxy_verdict verdict = miniproxy_decide(&one, &q, &rule);
        if (verdict == MINIPROXY_ALLOWED || verdict == MINIPROXY_NEEDS_TYPE ||
            (verdict == MINIPROXY_DENIED && rule == 0))
            return i;
    }
    return -1;
}

static char output[1 << 20];

static FILE *begin_output(void)
{
    memset(output, 0, sizeof output);
    return fmemopen(output, sizeof output - 1, "w");
}

/* Whether lint says of one, "WHAT NUMBER: never", what the trial says. */
static void check_said(const char *what, int number, bool ever, uint64_t seed)
{
    char said[64];
    bool never;
    snprintf(said, sizeof said, ": error: %s %d: never", what, number);
    never = strstr(output, said) != NULL;
    dead_ways_seen += never;
    if (never == ever)
        blame(never ? "lint says never of a way" : "lint misses a way that is never taken", seed, number);
}

/* Routes that no request takes, limits that hold for none. */
static void check_lint_of_ways(const struct made *m, uint64_t seed)
{
    const struct miniproxy_policy *p = &m->compiled.policy;
    bool taken[ROUTES_MAX] = {false}, holds[LIMITS_MAX] = {false};
    for (unsigned i = 0; i < request_count; i++) {
        const struct request *r = &requests[i];
        const unsigned groups = r->user >= 0 ? m->users[r->user].groups | MINIPROXY_AUTHENTICATED : 0;
        unsigned before = 0;
        int route;
        seen_by(m, r, &route);
        if (route >= 0) taken[route] = true;
        for (unsigned k = 0; k < p->limit_count; k++) {
            const struct miniproxy_limit *l = &m->limits[k];
            const struct miniproxy_rule rule = {.clients = l->clients};
            const struct miniproxy_policy one = {.rules = &rule, .rule_count = 1};
            int at = -1;
            miniproxy_decide(&one, &r->q, &at);
            if (at < 0 || (l->users != 0 && (l->users & groups) == 0)) continue;
            if (l->share == MINIPROXY_EACH_USER && groups == 0) continue;
            if (before++ < MINIPROXY_LIMITS_EACH) holds[k] = true;
        }
    }
    for (int i = 0; i < p->route_count; i++) check_said("route", i, taken[i], seed);
    for (int i = 0; i < p->limit_count; i++) check_said("limit", i, holds[i], seed);
}

/* Rules that lint says never match are those that no request finds first. */
static void check_lint(const struct made *m, uint64_t seed)
{
    bool found[RULES_MAX + 1] = {false};
    FILE *out = begin_output();
    for (unsigned i = 0; i < request_count; i++) found[first_match(m, &requests[i]) + 1] = true;
    policy_lint(&m->compiled, out);
    fclose(out);
    if (strstr(output, "not decided") != NULL) blame("lint could not decide", seed, -1);
    for (int i = 0; i < m->compiled.policy.rule_count; i++) {
        char said[64], *line;
        bool never = false;
        snprintf(said, sizeof said, "rule %d: never matches", i);
        for (line = output; (line = strstr(line, said)) != NULL; line++) never = true;
        if (never == found[i + 1]) blame(never ? "lint says never" : "lint misses a rule that never matches", seed, i);
    }
    check_lint_of_ways(m, seed);
}

/* explain has the verdict of the core, and shows the rule that matches first. */
static void check_explain(const struct made *m, const struct request *r, uint64_t seed)
{
    static const char days[] = "montuewedthufrisatsun";
    struct outcome o = try_request(m, r);
    char client[MINIPROXY_ADDR_TEXT], url[200], time[16] = "-";
    const struct miniproxy_question *q = &r->q;
    bool allowed = false, brackets = q->literal && strchr(q->host, ':') != NULL;
    struct request_text text = {.client = client, .url = url, .method = "?", .time = time};
    static const char *const names[] = {"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "CONNECT", "BREW"};
    int first = first_match(m, r), route;
    char said[64], *at;
    FILE *out = begin_output();
    for (unsigned i = 0; i < COUNT(names); i++)
        if (q->method == 1u << i) text.method = names[i];
    miniproxy_addr_format(q->client, client);
    snprintf(url, sizeof url, "%s%s%s%s:%u%s", q->path != NULL ? "http://" : "", brackets ? "[" : "", q->host,
             brackets ? "]" : "", q->port, q->path != NULL ? q->path : "");
    if (is_page(r)) {
        text.method = "GET";
        snprintf(url, sizeof url, "%s", q->path);
    }
    text.user = r->user >= 0 ? m->users[r->user].name : "-";
    text.address = q->literal || is_page(r) ? NULL : r->literal;
    text.agent = q->agent;
    text.type = q->type == NULL ? "-" : q->type;
    if (q->minute_of_week >= 0)
        snprintf(time, sizeof time, "%.3s %02d:%02d", days + 3 * (q->minute_of_week / 1440),
                 q->minute_of_week / 60 % 24, q->minute_of_week % 60);
    if (!policy_explain(&m->compiled, &text, out, &allowed)) {
        fputc('\n', out);
        allowed = !(o.verdict == MINIPROXY_ALLOWED || o.verdict == MINIPROXY_NEEDS_TYPE);
    }
    fclose(out);
    if (allowed != (o.verdict == MINIPROXY_ALLOWED || o.verdict == MINIPROXY_NEEDS_TYPE)) {
        blame("explain has another verdict", seed, o.rule);
        if (failures < 5) printf("%s", output);
    }
    seen_by(m, r, &route);
    if (route >= 0) {
        snprintf(said, sizeof said, "  route %d, random:%d: a route\n      matches:", route, route + 1);
        if (strstr(output, said) == NULL) blame("explain does not show the route", seed, route);
    } else if (m->compiled.policy.route_count > 0 && !is_page(r) && strstr(output, "No route matches, it goes directly") == NULL) {
        blame("explain shows a route", seed, route);
    }
    snprintf(said, sizeof said, "  rule %d, random:", first);
    at = strstr(output, "      matches, and ");
    if ((first >= 0) != (at != NULL)) blame("explain shows no rule that matches, or one that does not", seed, first);
    if (first < 0 || at == NULL) return;
    for (*at = '\0'; at > output && *at != '\n'; at--) {
    }
    for (at--; at > output && at[-1] != '\n'; at--) {
    }
    if (strncmp(at, said, strlen(said)) != 0) blame("explain shows another rule", seed, first);
    explained++;
}

struct groups {
    bool seen[OUTCOMES][OUTCOMES];
    const struct made *made[2];
    struct space *s;
    uint64_t seed;
};

static unsigned number_of(const struct outcome *o)
{
    unsigned kind = o->verdict == MINIPROXY_ALLOWED ? 0 : o->verdict == MINIPROXY_DENIED ? 1 : 2;
    return kind * (RULES_MAX + 1) + (unsigned)(o->rule + 1);
}

static void tell(void *data, const struct difference *d)
{
    struct groups *g = data;
    unsigned a = number_of(&d->outcome[0]), b = number_of(&d->outcome[1]);
    if (d->found != FOUND) blame("comparison not decided", g->seed, d->outcome[0].rule);
    if (g->seen[a][b]) blame("told twice", g->seed, d->outcome[0].rule);
    g->seen[a][b] = true;
    for (unsigned p = 0; p < 2; p++) {
        int rule = -1;
        enum miniproxy_verdict verdict = space_verdict(g->s, p, &d->witness, &rule);
        if (verdict != d->outcome[p].verdict || rule != d->outcome[p].rule)
            blame("example of a difference is none", g->seed, rule);
    }
}

/* With types, what the core says to a request without content names no rule: then only the verdicts are compared. */
static void check_differences(struct groups *g, unsigned properties)
{
    bool tried[OUTCOMES][OUTCOMES] = {{false}}, verdicts[2][3][3] = {{{false}}};
    for (unsigned i = 0; i < request_count; i++) {
        struct outcome o[2] = {try_request(g->made[0], &requests[i]), try_request(g->made[1], &requests[i])};
        for (unsigned p = 0; p < 2; p++)
            if (o[p].verdict == MINIPROXY_NEEDS_TYPE) o[p].verdict = MINIPROXY_ALLOWED;
        if (o[0].verdict != o[1].verdict) tried[number_of(&o[0])][number_of(&o[1])] = true;
    }
    for (unsigned a = 0; a < OUTCOMES; a++)
        for (unsigned b = 0; b < OUTCOMES; b++) {
            if (g->seen[a][b]) verdicts[0][a / (RULES_MAX + 1)][b / (RULES_MAX + 1)] = true;
            if (tried[a][b]) verdicts[1][a / (RULES_MAX + 1)][b / (RULES_MAX + 1)] = true;
            differences_seen += g->seen[a][b];
            if ((properties & TYPE) == 0 && g->seen[a][b] != tried[a][b])
                blame(tried[a][b] ? "difference missed" : "difference that no request shows", g->seed,
                      (int)(100 * a + b));
        }
    if (memcmp(verdicts[0], verdicts[1], sizeof verdicts[0]) != 0) blame("other verdicts differ", g->seed, -1);
}

static bool same_ways(const struct made *m, int a, const struct made *n, int b)
{
    static const struct miniproxy_route direct;
    const struct miniproxy_route *x = a >= 0 ? &m->routes[a] : &direct, *y = b >= 0 ? &n->routes[b] : &direct;
    if (x->count != y->count) return false;
    if (x->count > 0 && (x->first != y->first || x->resolve != y->resolve)) return false;
    return x->count < 2 || x->order == y->order;
}

/* diff tells each pair of ways that an allowed request takes before and now. */
static void check_diff_of_ways(const struct made *m, const struct made *n, uint64_t seed)
{
    bool tried[ROUTES_MAX + 1][ROUTES_MAX + 1] = {{false}};
    FILE *out = begin_output();
    policy_diff(&m->compiled, &n->compiled, out);
    fclose(out);
    for (unsigned i = 0; i < request_count; i++) {
        int a, b, first = first_match(n, &requests[i]);
        if (first < 0 || n->rules[first].verdict == MINIPROXY_DENY) continue;
        seen_by(m, &requests[i], &a);
        seen_by(n, &requests[i], &b);
        if (!same_ways(m, a, n, b)) tried[a + 1][b + 1] = true;
    }
    for (const char *p = output; (p = strstr(p, "goes another way:")) != NULL; p++) {
        const char *before = strstr(p, "before:"), *now = strstr(p, "now:"), *end = strstr(p, "try:");
        const char *x = strstr(before, ", route "), *y = strstr(now, ", route ");
        int a = x != NULL && x < now ? atoi(x + 8) : -1, b = y != NULL && y < end ? atoi(y + 8) : -1;
        ways_seen++;
        if (!tried[a + 1][b + 1]) blame("diff tells a way that no request takes", seed, 10 * a + b);
        tried[a + 1][b + 1] = false;
    }
    for (int a = -1; a < ROUTES_MAX; a++)
        for (int b = -1; b < ROUTES_MAX; b++)
            if (tried[a + 1][b + 1]) blame("diff misses another way", seed, 10 * a + b);
}

static void try_one(uint64_t seed)
{
    static struct made a, b;
    static struct groups g;
    const struct compiled *both[2] = {&a.compiled, &b.compiled};
    const char *problem;
    unsigned properties;
    struct space *s;
    state = seed * 0x9e3779b97f4a7c15u + 88172645463325252u;
    for (unsigned i = 0; i < 5; i++) below(2);
    do properties = below(1024) & below(1024);
    while (properties == 0 || !make_requests(properties));
    make_policy(&a, properties, NULL);
    make_policy(&b, properties, &a);
    policies_tried++;
    requests_tried += request_count;
    s = space_new(both, 1, &problem);
    if (s == NULL) {
        blame(problem, seed, -1);
        return;
    }
    check_rules(s, &a, properties, seed);
    space_free(s);
    check_lint(&a, seed);
    for (unsigned i = 0; i < 3; i++) check_explain(&a, &requests[below(request_count)], seed);
    memset(&g, 0, sizeof g);
    g.made[0] = &a, g.made[1] = &b, g.seed = seed;
    g.s = space_new(both, 2, &problem);
    if (g.s == NULL) {
        blame(problem, seed, -1);
        return;
    }
    if (!space_compare(g.s, tell, &g)) blame("no memory", seed, -1);
    check_differences(&g, properties);
    space_free(g.s);
    check_diff_of_ways(&a, &b, seed);
}

int main(int argc, char **argv)
{
    unsigned long first = argc > 1 ? strtoul(argv[1], NULL, 10) : 1,
                  count = argc > 2 ? strtoul(argv[2], NULL, 10) : 1000;
    FILE *out = argc > 3 ? fopen(argv[3], "a") : stdout;
    requests = calloc(REQUESTS_MAX, sizeof *requests);
    if (requests == NULL || out == NULL) return 2;
    for (unsigned long i = 0; i < count; i++) try_one(first + i);
    printf(
        "%lu policies, %lu requests, %lu rules and %lu ways proven dead, %lu differences, %lu of ways, %lu explained, "
        "%lu failures\n",
        policies_tried, requests_tried, dead_seen, dead_ways_seen, differences_seen, ways_seen, explained, failures);
    fprintf(out, "%s\taudit\twhat is proven of %lu random policies is what trying all their requests finds\t-\n",
            failures == 0 && dead_seen > 0 && differences_seen > 0 && dead_ways_seen > 0 && ways_seen > 0 ? "pass"
                                                                                                          : "fail",
            policies_tried);
    return failures != 0;
}

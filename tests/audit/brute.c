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
static const char *const host_texts[] = {"a.example",   "x.a.example", "b.a.example", "x.b.a.example", "b.example",
                                         "x.b.example", "c.example",   "y.c.example", "z.example",     "www.test"};

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
                         *const types3[] = {"video/mp4"};
static const struct miniproxy_texts type_sets[] = {{types1, 1}, {types2, 2}, {types3, 1}};
static const char *const types[] = {NULL, "", "text/html", "text/css", "video/mp4", "video/ogg", "image/png"};

static const struct miniproxy_time times1[] = {{480, 1080, 31}}, times2[] = {{1320, 360, 16}},
                                   times3[] = {{600, 600, 1}};
static const struct miniproxy_times time_sets[] = {{times1, 1}, {times2, 1}, {times3, 1}};
static const int times[] = {
    -1, 60, 540, 660, 1200, 1440 + 300, 4 * 1440 + 700, 4 * 1440 + 1380, 5 * 1440 + 100, 6 * 1440 + 720};

static const uint16_t methods[] = {MINIPROXY_GET, MINIPROXY_HEAD, MINIPROXY_CONNECT, MINIPROXY_POST, MINIPROXY_OTHER};
static const uint16_t method_sets[] = {MINIPROXY_GET, MINIPROXY_CONNECT, MINIPROXY_GET | MINIPROXY_HEAD,
                                       0x1ff & ~MINIPROXY_CONNECT, MINIPROXY_HEAD};

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

struct made {
    struct compiled compiled;
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
    host = (properties & HOST) != 0 ? n % (COUNT(host_texts) + 1) : 0;
    if ((properties & HOST) != 0) n /= COUNT(host_texts) + 1;
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

static bool make_requests(unsigned properties)
{
    unsigned all = choices(properties, CLIENT, COUNT(addresses)) * choices(properties, USER, USERS + 1) *
                   ((properties & METHOD) != 0 ? COUNT(methods) : 2) * ((properties & PORT) != 0 ? COUNT(ports) : 2) *
                   choices(properties, HOST, COUNT(host_texts) + 1) * ((properties & TO) != 0 ? COUNT(addresses) : 2) *
                   choices(properties, PATH, COUNT(paths)) * choices(properties, AGENT, COUNT(agents)) *
                   choices(properties, TYPE, COUNT(types)) * choices(properties, TIME, COUNT(times));
    if (all > REQUESTS_MAX) return false;
    request_count = 0;
    for (unsigned n = 0; n < all; n++) request_count += fill_request(&requests[request_count], n, properties);
    return true;
}

/* The outcome by the core; the rule of one without content that depends on types is not known to it. */
static struct outcome try_request(const struct made *m, const struct request *r)
{
    struct miniproxy_question q = r->q;
    struct outcome o = {.rule = -1};
    if (r->user >= 0) q.user = &m->users[r->user];
    o.verdict = miniproxy_decide(&m->compiled.policy, &q, &o.rule);
    return o;
}

/* ---- Comparing */

static unsigned long failures, policies_tried, requests_tried, differences_seen, dead_seen, explained;

static void blame(const char *what, uint64_t seed, int rule)
{
    if (failures++ < 20) printf("seed %llu: %s, rule %d\n", (unsigned long long)seed, what, rule);
}

/* Rules with types decide on responses without content too, which the core does not tell. */
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
        if (rule != (int)i && !(w.atom[PROPERTY_TYPE] == TYPE_NOTHING && (properties & TYPE) != 0))
            blame("example is another rule's", seed, (int)i);
        if (!decides[i] && (properties & TYPE) == 0) blame("example, where no request was found", seed, (int)i);
    }
}

/* The first rule that matches, each taken alone; -1: none. */
static int first_match(const struct made *m, const struct request *r)
{
    struct miniproxy_question q = r->q;
    if (r->user >= 0) q.user = &m->users[r->user];
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
    int first = first_match(m, r);
    char said[64], *at;
    FILE *out = begin_output();
    for (unsigned i = 0; i < COUNT(names); i++)
        if (q->method == 1u << i) text.method = names[i];
    miniproxy_addr_format(q->client, client);
    snprintf(url, sizeof url, "%s%s%s%s:%u%s", q->path != NULL ? "http://" : "", brackets ? "[" : "", q->host,
             brackets ? "]" : "", q->port, q->path != NULL ? q->path : "");
    text.user = r->user >= 0 ? m->users[r->user].name : "-";
    text.address = q->literal ? NULL : r->literal;
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
        bool knows = rule == d->outcome[p].rule || d->witness.atom[PROPERTY_TYPE] == TYPE_NOTHING;
        if (verdict != d->outcome[p].verdict || !knows) blame("example of a difference is none", g->seed, rule);
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
}

int main(int argc, char **argv)
{
    unsigned long first = argc > 1 ? strtoul(argv[1], NULL, 10) : 1,
                  count = argc > 2 ? strtoul(argv[2], NULL, 10) : 1000;
    FILE *out = argc > 3 ? fopen(argv[3], "a") : stdout;
    requests = calloc(REQUESTS_MAX, sizeof *requests);
    if (requests == NULL || out == NULL) return 2;
    for (unsigned long i = 0; i < count; i++) try_one(first + i);
    printf("%lu policies, %lu requests, %lu rules proven dead, %lu differences, %lu explained, %lu failures\n",
           policies_tried, requests_tried, dead_seen, differences_seen, explained, failures);
    fprintf(out, "%s\taudit\twhat is proven of %lu random policies is what trying all their requests finds\t-\n",
            failures == 0 && dead_seen > 0 && differences_seen > 0 ? "pass" : "fail", policies_tried);
    return failures != 0;
}

/* SPDX-License-Identifier: MIT
 *
 * Policy: tables of single rules, then a second, naive evaluator against which random policies are compared.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <strings.h>

#include "../../miniproxy.c"
#include "unit.h"

/* What verdict a policy must give. The first four are one enum miniproxy_verdict each. */
static const char *const verdict_names[] = {"denied", "allowed", "needs address", "needs user"};

static struct miniproxy_addr address(const char *text)
{
    struct miniproxy_addr a = {.family = 0};
    if (!miniproxy_addr_parse(&a, text, strlen(text))) fail_msg("not an address: %s", text);
    return a;
}

/* A question in short: everything that is not given is the usual. */
struct ask {
    const char *client, *host, *path, *address;
    const struct miniproxy_user *user;
    uint16_t port, method;
    bool literal;
};

static enum miniproxy_verdict decide(const struct miniproxy_policy *policy, struct ask ask, int *rule)
{
    struct miniproxy_addr client = address(ask.client != NULL ? ask.client : "192.168.1.20"), to;
    struct miniproxy_question q = {.client = &client, .user = ask.user, .literal = ask.literal};
    q.host = ask.host != NULL ? ask.host : "www.example.com";
    q.method = ask.method != 0 ? ask.method : MINIPROXY_GET;
    q.port = ask.port != 0 ? ask.port : q.method == MINIPROXY_CONNECT ? 443 : 80;
    q.path = q.method == MINIPROXY_CONNECT ? NULL : ask.path != NULL ? ask.path : "/";
    q.path_len = q.path != NULL ? strlen(q.path) : 0;
    if (ask.address != NULL) {
        to = address(ask.address);
        q.address = &to;
    }
    return miniproxy_decide(policy, &q, rule);
}

static void check(int line, const struct miniproxy_policy *policy, struct ask ask, enum miniproxy_verdict expected,
                  int expected_rule)
{
    int rule = -7;
    enum miniproxy_verdict verdict = decide(policy, ask, &rule);
    if (verdict != expected) fail_msg("line %d: %s, not %s", line, verdict_names[verdict], verdict_names[expected]);
    if (rule != expected_rule) fail_msg("line %d: rule %d, not %d", line, rule, expected_rule);
}

#define CHECK_VERDICT(policy, expected, rule, ...) \
    check(__LINE__, policy, (struct ask){__VA_ARGS__}, MINIPROXY_##expected, rule)
#define POLICY(...)                                                       \
    &(const struct miniproxy_policy)                                      \
    {                                                                     \
        .rules = (const struct miniproxy_rule[]){__VA_ARGS__},            \
        .rule_count = sizeof((const struct miniproxy_rule[]){__VA_ARGS__}) / sizeof(struct miniproxy_rule), \
        .users = people, .user_count = PEOPLE                             \
    }
#define ALLOW .verdict = MINIPROXY_ALLOW
#define DENY .verdict = MINIPROXY_DENY

static const struct miniproxy_net4 lan4[] = {{{10, 1, 2, 3}, 32}, {{192, 168, 1, 0}, 24}};
static const struct miniproxy_net4 world4[] = {{{0}, 0}};
static const struct miniproxy_net4 google4[] = {{{8, 8, 0, 0}, 16}};
static const struct miniproxy_net6 odd6[] = {{{0x20, 0x01, 0x0d, 0xb8, 0x80}, 33}, {{0xfd}, 8}};
static const struct miniproxy_net6 world6[] = {{{0}, 0}};
static const struct miniproxy_nets lan = {.v4 = lan4, .v4_count = 2, .v6 = odd6, .v6_count = 2};
static const struct miniproxy_nets google = {.v4 = google4, .v4_count = 1};
static const struct miniproxy_nets all4 = {.v4 = world4, .v4_count = 1};
static const struct miniproxy_nets all6 = {.v6 = world6, .v6_count = 1};
static const char *const names[] = {"exact.example", ".below.example", "xn--bcher-kva.example"};
static const struct miniproxy_hosts hosts = {.names = names, .count = 3};
static const struct miniproxy_user staff = {.name = "ann", .password = "x", .groups = 1};
static const struct miniproxy_user guest = {.name = "bob", .password = "x", .groups = 2};
static const uint8_t digest[MINIPROXY_SALT_LEN + MINIPROXY_DIGEST_LEN];
static const struct miniproxy_user sensor = {.name = "sensor", .groups = 8}; /* has a certificate, and no password */
enum { PEOPLE = 4 };
static const struct miniproxy_user people[PEOPLE] = {
    {.name = "ann", .password = "x", .groups = 1}, {.name = "bob", .password = "", .groups = 2},
    {.name = "cecil", .digest = digest, .groups = 4}, {.name = "sensor", .groups = 8}};

static void nothing_is_allowed_by_default(const void *data)
{
    (void)data;
    CHECK_VERDICT(NULL, DENIED, -1, .address = "8.8.8.8");
    CHECK_VERDICT(&(const struct miniproxy_policy){.rule_count = 0}, DENIED, -1, .address = "8.8.8.8");
    CHECK_VERDICT(POLICY({ALLOW, .port = {81, 81}}), DENIED, -1, .address = "8.8.8.8");
    assert_int_equal(decide(NULL, (struct ask){.host = "a"}, NULL), MINIPROXY_DENIED);
}

static void the_first_match_decides(const void *data)
{
    const struct miniproxy_policy *p = POLICY({DENY, .hosts = &hosts}, {ALLOW, .port = {80, 90}}, {DENY},
                                              {ALLOW, .special_purpose = 1});
    (void)data;
    CHECK_VERDICT(p, DENIED, 0, .host = "exact.example", .address = "8.8.8.8");
    CHECK_VERDICT(p, ALLOWED, 1, .port = 85, .address = "8.8.8.8");
    CHECK_VERDICT(p, DENIED, 2, .port = 91, .address = "8.8.8.8");
    CHECK_VERDICT(p, DENIED, 2, .port = 85, .address = "127.0.0.1");
}

static void special_addresses_need_an_opening(const void *data)
{
    const struct miniproxy_policy *shut = POLICY({ALLOW}), *open = POLICY({ALLOW, .special_purpose = 1});
    const struct miniproxy_policy *part = POLICY({ALLOW, .special_purpose = 1, .to = &lan}, {ALLOW});
    (void)data;
    CHECK_VERDICT(shut, ALLOWED, 0, .address = "8.8.8.8");
    CHECK_VERDICT(shut, DENIED, -1, .address = "127.0.0.1");
    CHECK_VERDICT(shut, DENIED, -1, .address = "169.254.169.254");
    CHECK_VERDICT(open, ALLOWED, 0, .address = "127.0.0.1");
    CHECK_VERDICT(part, ALLOWED, 0, .address = "192.168.1.255");
    CHECK_VERDICT(part, DENIED, -1, .address = "192.168.2.1");
    CHECK_VERDICT(part, ALLOWED, 1, .address = "1.1.1.1");
    CHECK_VERDICT(shut, DENIED, -1, .method = MINIPROXY_CONNECT, .address = "10.0.0.1");
    CHECK_VERDICT(POLICY({ALLOW, .special_purpose = 1, .to = &miniproxy_special_purpose}), ALLOWED, 0,
                  .address = "10.0.0.1");
}

#if MINIPROXY_WITH_IPV6
static void addresses_are_unwrapped_for_rules(const void *data)
{
    const struct miniproxy_policy *shut = POLICY({ALLOW}), *part = POLICY({ALLOW, .special_purpose = 1, .to = &lan});
    const struct miniproxy_policy *clients = POLICY({ALLOW, .clients = &lan});
    const struct miniproxy_policy *no6 = POLICY({DENY, .to = &all6}, {ALLOW});
    const struct miniproxy_policy *no4 = POLICY({DENY, .to = &all4}, {ALLOW});
    (void)data;
    CHECK_VERDICT(shut, DENIED, -1, .address = "::ffff:127.0.0.1");
    CHECK_VERDICT(shut, DENIED, -1, .address = "64:ff9b::10.0.0.1");
    CHECK_VERDICT(shut, DENIED, -1, .address = "2002:a00:1::1");
    CHECK_VERDICT(shut, DENIED, -1, .address = "::1");
    CHECK_VERDICT(part, ALLOWED, 0, .address = "::ffff:192.168.1.7");
    CHECK_VERDICT(part, ALLOWED, 0, .address = "64:ff9b::192.168.1.7");
    CHECK_VERDICT(part, DENIED, -1, .address = "64:ff9b::192.168.2.7");
    CHECK_VERDICT(clients, ALLOWED, 0, .client = "::ffff:192.168.1.7", .address = "8.8.8.8");
    CHECK_VERDICT(clients, DENIED, -1, .client = "::ffff:192.168.2.7", .address = "8.8.8.8");
    CHECK_VERDICT(clients, ALLOWED, 0, .client = "2001:db8:8000::1", .address = "8.8.8.8");
    CHECK_VERDICT(clients, DENIED, -1, .client = "2001:db8:7fff::1", .address = "8.8.8.8");
    /* An IPv6 network sees what travels as IPv6, and nothing that does not. */
    CHECK_VERDICT(no6, DENIED, 0, .address = "64:ff9b::8.8.8.8");
    CHECK_VERDICT(no6, DENIED, 0, .address = "2606:4700::1");
    CHECK_VERDICT(no6, ALLOWED, 1, .address = "::ffff:8.8.8.8");
    CHECK_VERDICT(no4, DENIED, 0, .address = "::ffff:8.8.8.8");
    CHECK_VERDICT(no4, DENIED, 0, .address = "64:ff9b::8.8.8.8");
    CHECK_VERDICT(no4, ALLOWED, 1, .address = "2606:4700::1");
}
#endif

static void connect_has_one_port(const void *data)
{
    const struct miniproxy_policy *plain = POLICY({ALLOW}), *deny = POLICY({DENY}, {ALLOW});
    const struct miniproxy_policy *ports = POLICY({ALLOW, .port = {22, 8443}});
    (void)data;
    CHECK_VERDICT(plain, ALLOWED, 0, .method = MINIPROXY_CONNECT, .address = "8.8.8.8");
    CHECK_VERDICT(plain, DENIED, -1, .method = MINIPROXY_CONNECT, .port = 22, .address = "8.8.8.8");
    CHECK_VERDICT(plain, DENIED, -1, .method = MINIPROXY_CONNECT, .port = 25);
    CHECK_VERDICT(plain, ALLOWED, 0, .port = 22, .address = "8.8.8.8");
    CHECK_VERDICT(ports, ALLOWED, 0, .method = MINIPROXY_CONNECT, .port = 22, .address = "8.8.8.8");
    CHECK_VERDICT(ports, ALLOWED, 0, .method = MINIPROXY_CONNECT, .port = 8443, .address = "8.8.8.8");
    CHECK_VERDICT(ports, DENIED, -1, .method = MINIPROXY_CONNECT, .port = 21, .address = "8.8.8.8");
    CHECK_VERDICT(ports, DENIED, -1, .method = MINIPROXY_CONNECT, .port = 8444, .address = "8.8.8.8");
    CHECK_VERDICT(deny, DENIED, 0, .method = MINIPROXY_CONNECT, .port = 25, .address = "8.8.8.8");
}

static void hosts_match_by_label(const void *data)
{
    static const struct {
        const char *host;
        bool matches;
    } cases[] = {{"exact.example", true},          {"EXACT.Example", true},      {"exact.example.", true},
                 {"exact.example..", false},       {"a.exact.example", false},   {"xexact.example", false},
                 {"exact.exampl", false},          {"exact.examplex", false},    {"below.example", true},
                 {"a.below.example", true},        {"a.b.BELOW.example", true},  {"a.below.example.", true},
                 {"badbelow.example", false},      {"below.example.org", false}, {".below.example", true},
                 {"example", false},               {"", false},                  {".", false},
                 {"XN--BCHER-KVA.example", true},  {"b\xc3\xbc" "cher.example", false}};
    (void)data;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        if (hosts_match(&hosts, cases[i].host) != cases[i].matches) fail_msg("host %s", cases[i].host);
}

static void literals_match_no_name(const void *data)
{
    static const char *const number[] = {"8.8.8.8", ".8"};
    static const struct miniproxy_hosts as_host = {.names = number, .count = 2};
    const struct miniproxy_policy *p = POLICY({ALLOW, .hosts = &as_host}), *named = POLICY({ALLOW, .hosts = &hosts});
    const struct miniproxy_policy *only = POLICY({DENY, .literal = 1}, {ALLOW});
    (void)data;
    CHECK_VERDICT(p, DENIED, -1, .host = "8.8.8.8", .address = "8.8.8.8", .literal = true);
    CHECK_VERDICT(named, DENIED, -1, .host = "8.8.8.8", .address = "8.8.8.8", .literal = true);
    CHECK_VERDICT(only, DENIED, 0, .host = "8.8.8.8", .address = "8.8.8.8", .literal = true);
    CHECK_VERDICT(only, ALLOWED, 1, .host = "dns.google", .address = "8.8.8.8");
    CHECK_VERDICT(only, NEEDS_ADDRESS, -1, .host = "dns.google");
}

static void methods_paths_clients(const void *data)
{
    const struct miniproxy_policy *reads = POLICY({ALLOW, .methods = MINIPROXY_GET | MINIPROXY_HEAD});
    const struct miniproxy_policy *path = POLICY({ALLOW, .also = &(const struct miniproxy_also){.paths = &(const struct miniproxy_texts){(const char *const[]){"/api/"}, 1}}});
    const struct miniproxy_policy *from = POLICY({ALLOW, .clients = &lan});
    (void)data;
    CHECK_VERDICT(reads, ALLOWED, 0, .method = MINIPROXY_HEAD, .address = "8.8.8.8");
    CHECK_VERDICT(reads, DENIED, -1, .method = MINIPROXY_POST, .address = "8.8.8.8");
    CHECK_VERDICT(reads, DENIED, -1, .method = MINIPROXY_OTHER, .address = "8.8.8.8");
    CHECK_VERDICT(reads, DENIED, -1, .method = MINIPROXY_CONNECT, .address = "8.8.8.8");
    CHECK_VERDICT(POLICY({ALLOW, .methods = MINIPROXY_OTHER}), ALLOWED, 0, .method = MINIPROXY_OTHER,
                  .address = "8.8.8.8");
    CHECK_VERDICT(path, ALLOWED, 0, .path = "/api/", .address = "8.8.8.8");
    CHECK_VERDICT(path, ALLOWED, 0, .path = "/api/x?y", .address = "8.8.8.8");
    CHECK_VERDICT(path, DENIED, -1, .path = "/api", .address = "8.8.8.8");
    CHECK_VERDICT(path, DENIED, -1, .path = "/API/", .address = "8.8.8.8");
    CHECK_VERDICT(path, DENIED, -1, .method = MINIPROXY_CONNECT, .address = "8.8.8.8");
    CHECK_VERDICT(from, ALLOWED, 0, .address = "8.8.8.8");
    CHECK_VERDICT(from, ALLOWED, 0, .client = "10.1.2.3", .address = "8.8.8.8");
    CHECK_VERDICT(from, DENIED, -1, .client = "10.1.2.4", .address = "8.8.8.8");
    CHECK_VERDICT(from, DENIED, -1, .client = "192.168.2.1", .address = "8.8.8.8");
}

#if MINIPROXY_WITH_AUTH
static void users_and_groups(const void *data)
{
    const struct miniproxy_policy *p = POLICY({ALLOW, .users = 1});
    const struct miniproxy_policy *any = POLICY({ALLOW, .users = MINIPROXY_AUTHENTICATED});
    const struct miniproxy_policy *mixed = POLICY({DENY, .users = 2}, {ALLOW, .users = 4, .port = {80, 80}},
                                                  {DENY, .port = {80, 80}}, {ALLOW});
    (void)data;
    CHECK_VERDICT(p, NEEDS_USER, 0, .address = "8.8.8.8");
    CHECK_VERDICT(p, ALLOWED, 0, .user = &staff, .address = "8.8.8.8");
    CHECK_VERDICT(p, DENIED, -1, .user = &guest, .address = "8.8.8.8"); /* 403: another login does not help by itself */
    CHECK_VERDICT(any, ALLOWED, 0, .user = &guest, .address = "8.8.8.8");
    CHECK_VERDICT(any, NEEDS_USER, 0, .address = "8.8.8.8");
    CHECK_VERDICT(any, DENIED, -1, .address = "127.0.0.1"); /* no user could go there either */
    CHECK_VERDICT(mixed, DENIED, 0, .user = &guest, .address = "8.8.8.8");
    CHECK_VERDICT(mixed, NEEDS_USER, 1, .address = "8.8.8.8");
    CHECK_VERDICT(mixed, DENIED, 2, .user = &staff, .address = "8.8.8.8");
    CHECK_VERDICT(mixed, ALLOWED, 3, .port = 81, .address = "8.8.8.8");
    CHECK_VERDICT(POLICY({ALLOW, .users = 1}, {ALLOW}), ALLOWED, 1, .address = "8.8.8.8");
    CHECK_VERDICT(POLICY({DENY}, {ALLOW, .users = 1}), DENIED, 0, .address = "8.8.8.8");
}

/* Who has no password cannot log in: nobody is asked to. */
static void users_without_passwords(const void *data)
{
    const struct miniproxy_policy *p = POLICY({ALLOW, .users = 8});
    const struct miniproxy_policy *later = POLICY({ALLOW, .users = 8}, {DENY, .users = 2}, {ALLOW, .users = 12}, {DENY});
    const struct miniproxy_policy nobody = {.rules = p->rules, .rule_count = 1};
    const struct miniproxy_policy alone = {.rules = (const struct miniproxy_rule[]){{ALLOW, .users = 0x8000}},
                                           .rule_count = 1, .users = &sensor, .user_count = 1};
    (void)data;
    CHECK_VERDICT(p, DENIED, -1, .address = "8.8.8.8");
    CHECK_VERDICT(p, DENIED, -1, .port = 80); /* nor is a name resolved for it */
    CHECK_VERDICT(p, ALLOWED, 0, .user = &sensor, .address = "8.8.8.8");
    CHECK_VERDICT(p, DENIED, -1, .user = &staff, .address = "8.8.8.8");
    CHECK_VERDICT(later, NEEDS_USER, 2, .address = "8.8.8.8"); /* one of the two groups has somebody who can */
    CHECK_VERDICT(later, ALLOWED, 0, .user = &sensor, .address = "8.8.8.8");
    CHECK_VERDICT(&nobody, DENIED, -1, .address = "8.8.8.8");
    CHECK_VERDICT(&alone, DENIED, -1, .address = "8.8.8.8");
    CHECK_VERDICT(&alone, ALLOWED, 0, .user = &sensor, .address = "8.8.8.8");
}

static void users_are_asked_before_names_are_resolved(const void *data)
{
    (void)data;
    CHECK_VERDICT(POLICY({ALLOW, .users = 1}), NEEDS_USER, 0, .port = 80);
    CHECK_VERDICT(POLICY({DENY, .to = &lan}, {ALLOW, .users = 1}), NEEDS_USER, 1, .port = 80);
    CHECK_VERDICT(POLICY({ALLOW, .users = 1}), NEEDS_ADDRESS, -1, .user = &staff);
    CHECK_VERDICT(POLICY({ALLOW, .users = 1}, {ALLOW, .to = &google}), NEEDS_ADDRESS, -1, .port = 80);
    CHECK_VERDICT(POLICY({ALLOW, .users = 1}), DENIED, -1, .user = &guest);
}
#endif

static void what_is_known_before_resolution(const void *data)
{
    (void)data;
    CHECK_VERDICT(POLICY({ALLOW}), NEEDS_ADDRESS, -1, .port = 80);
    CHECK_VERDICT(POLICY({ALLOW, .special_purpose = 1}), ALLOWED, 0, .port = 80);
    CHECK_VERDICT(POLICY({ALLOW, .special_purpose = 1, .to = &google}), NEEDS_ADDRESS, -1, .port = 80);
    CHECK_VERDICT(POLICY({DENY, .to = &google}, {ALLOW, .special_purpose = 1}), NEEDS_ADDRESS, -1, .port = 80);
    CHECK_VERDICT(POLICY({DENY, .to = &google}), DENIED, -1, .port = 80);
    CHECK_VERDICT(POLICY({DENY, .to = &google}, {DENY}, {ALLOW}), DENIED, 1, .port = 80);
    CHECK_VERDICT(POLICY({DENY, .hosts = &hosts}, {ALLOW}), DENIED, 0, .host = "exact.example");
    CHECK_VERDICT(POLICY({ALLOW}, {DENY}), NEEDS_ADDRESS, -1, .port = 80);
    CHECK_VERDICT(POLICY({ALLOW, .port = {81, 81}}), DENIED, -1, .port = 80);
}

/* ---- The naive evaluator. It shares no code with the core: networks as text, outcomes as a set of worlds. ---- */

enum { WORLD_DENIES = 1, WORLD_ALLOWS = 2 };

struct naive_ip {
    unsigned char octets[16];
    bool v4;
};

static struct naive_ip naive_ip(const struct miniproxy_addr *a)
{
    struct naive_ip ip = {.v4 = a->family == 4};
    memcpy(ip.octets, a->ip, ip.v4 ? 4 : MINIPROXY_IP_LEN);
    return ip;
}

static bool naive_in(const unsigned char *ip, const unsigned char *net, unsigned bits)
{
    for (unsigned i = 0; i < bits; i++) {
        unsigned mask = 0x80u >> i % 8;
        if ((ip[i / 8] & mask) != (net[i / 8] & mask)) return false;
    }
    return true;
}

static bool naive_in_text(const struct naive_ip *ip, const char *net)
{
    unsigned char octets[16];
    char text[64];
    snprintf(text, sizeof text, "%s", net);
    char *slash = strchr(text, '/');
    *slash = '\0';
    bool v4 = strchr(text, ':') == NULL;
    assert_int_equal(inet_pton(v4 ? AF_INET : AF_INET6, text, octets), 1);
    return v4 == ip->v4 && naive_in(ip->octets, octets, (unsigned)atoi(slash + 1));
}

/* What stands inside an IPv6 address; false if nothing. */
static bool naive_inner(const struct naive_ip *ip, struct naive_ip *inner)
{
    static const struct {
        const char *net;
        unsigned at;
    } wraps[] = {{"::ffff:0:0/96", 12}, {"::/96", 12}, {"64:ff9b::/96", 12}, {"2002::/16", 2}};
    if (ip->v4 || naive_in_text(ip, "::/127")) return false;
    for (size_t i = 0; i < sizeof wraps / sizeof wraps[0]; i++) {
        if (!naive_in_text(ip, wraps[i].net)) continue;
        memset(inner, 0, sizeof *inner);
        memcpy(inner->octets, ip->octets + wraps[i].at, 4);
        inner->v4 = true;
        return true;
    }
    return false;
}

static bool naive_nets(const struct miniproxy_nets *nets, const struct miniproxy_addr *a)
{
    struct naive_ip ip = naive_ip(a), inner;
    bool wrapped = naive_inner(&ip, &inner), found = false;
    for (unsigned i = 0; i < nets->v4_count; i++) {
        if (ip.v4) found |= naive_in(ip.octets, nets->v4[i].ip, nets->v4[i].bits);
        if (wrapped) found |= naive_in(inner.octets, nets->v4[i].ip, nets->v4[i].bits);
    }
    if (ip.v4 || naive_in_text(&ip, "::ffff:0:0/96")) return found;
    for (unsigned i = 0; i < nets->v6_count; i++) found |= naive_in(ip.octets, nets->v6[i].ip, nets->v6[i].bits);
    return found;
}

static bool naive_special(const struct miniproxy_addr *a)
{
    static const char *const registry[] = {
        "0.0.0.0/8",      "10.0.0.0/8",      "100.64.0.0/10",  "127.0.0.0/8",   "169.254.0.0/16", "172.16.0.0/12",
        "192.0.0.0/24",   "192.0.2.0/24",    "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24",
        "203.0.113.0/24", "224.0.0.0/4",     "240.0.0.0/4",    "::/128",        "::1/128",        "64:ff9b:1::/48",
        "100::/64",       "100:0:0:1::/64",  "2001::/23",      "2001:db8::/32", "3fff::/20",      "5f00::/16",
        "fc00::/7",       "fe80::/10",       "fec0::/10",      "ff00::/8"};
    struct naive_ip ip = naive_ip(a), inner;
    if (naive_inner(&ip, &inner)) ip = inner;
    for (size_t i = 0; i < sizeof registry / sizeof registry[0]; i++)
        if (naive_in_text(&ip, registry[i])) return true;
    return false;
}

static bool naive_hosts(const struct miniproxy_hosts *set, const char *host)
{
    char name[300], listed[300];
    snprintf(name, sizeof name, ".%s", host);
    if (name[strlen(name) - 1] == '.') name[strlen(name) - 1] = '\0';
    for (unsigned i = 0; i < set->count; i++) {
        bool below = set->names[i][0] == '.';
        snprintf(listed, sizeof listed, "%s%s", below ? "" : ".", set->names[i]);
        size_t at = strlen(name) - strlen(listed);
        if (strlen(name) < strlen(listed) || (!below && at != 0)) continue;
        if (strcasecmp(name + at, listed) == 0) return true;
    }
    return false;
}

/* Does it match, everything but the address and the user? */
static bool naive_request(const struct miniproxy_rule *r, const struct miniproxy_question *q)
{
    bool no_ports = r->port[0] == 0 && r->port[1] == 0;
    bool method = r->methods == 0 || (r->methods & q->method) != 0;
    bool port = no_ports || (q->port >= r->port[0] && q->port <= r->port[1]);
    if (no_ports && r->verdict == MINIPROXY_ALLOW && q->method == MINIPROXY_CONNECT) port = q->port == 443;
    bool client = r->clients == NULL || naive_nets(r->clients, q->client);
    bool host = r->hosts == NULL || (!q->literal && naive_hosts(r->hosts, q->host));
    const char *prefix = r->also != NULL ? r->also->paths->list[0] : NULL;
    bool path = prefix == NULL ||
                (q->path != NULL && q->path_len >= strlen(prefix) && strncmp(q->path, prefix, strlen(prefix)) == 0);
    bool literal = !r->literal || q->literal;
    return method && port && client && host && path && literal;
}

static bool naive_login(const struct miniproxy_policy *policy, unsigned groups)
{
    for (unsigned i = 0; i < policy->user_count; i++) {
        const struct miniproxy_user *u = &policy->users[i];
        bool is_in = (groups & 0x8000u) != 0 || (groups & u->groups) != 0;
        if (is_in && !(u->password == NULL && u->digest == NULL)) return true;
    }
    return false;
}

/* All ways a request may end from rule `at` on, when an address that is not known may or may not be in any network.
 * `as_any` puts users into every group that an ALLOW rule asks for, if somebody in it can log in. */
static unsigned naive_worlds(const struct miniproxy_policy *policy, const struct miniproxy_question *q, unsigned at,
                             bool as_any)
{
    if (at == policy->rule_count) return WORLD_DENIES;
    const struct miniproxy_rule *r = &policy->rules[at];
    unsigned here = r->verdict == MINIPROXY_ALLOW ? WORLD_ALLOWS : WORLD_DENIES;
    unsigned groups = q->user != NULL ? q->user->groups | 0x8000u : 0;
    bool user = r->users == 0 || (groups & r->users) != 0 ||
                (as_any && r->verdict == MINIPROXY_ALLOW && naive_login(policy, r->users));
    bool picky = r->verdict == MINIPROXY_ALLOW && !r->special_purpose;
    if (!user || !naive_request(r, q)) return naive_worlds(policy, q, at + 1, as_any);
    if (r->to == NULL && !picky) return here;
    if (q->address == NULL) return here | naive_worlds(policy, q, at + 1, as_any);
    bool in = (r->to == NULL || naive_nets(r->to, q->address)) && !(picky && naive_special(q->address));
    return in ? here : naive_worlds(policy, q, at + 1, as_any);
}

static enum miniproxy_verdict naive_decide(const struct miniproxy_policy *policy, const struct miniproxy_question *q)
{
    unsigned worlds = naive_worlds(policy, q, 0, false);
    if (worlds == WORLD_ALLOWS) return MINIPROXY_ALLOWED;
    if ((worlds & WORLD_ALLOWS) != 0) return MINIPROXY_NEEDS_ADDRESS;
    if (!MINIPROXY_WITH_AUTH || q->user != NULL) return MINIPROXY_DENIED;
    return (naive_worlds(policy, q, 0, true) & WORLD_ALLOWS) != 0 ? MINIPROXY_NEEDS_USER : MINIPROXY_DENIED;
}

/* ---- Random policies and questions from a small world, so that rules meet requests often. ---- */

static const char *const some_addresses[] = {
    "8.8.8.8", "8.9.0.1", "127.0.0.1", "192.168.1.9", "10.1.2.3", "1.1.1.1",
#if MINIPROXY_WITH_IPV6
    "::1", "::", "::ffff:8.8.8.8", "::ffff:127.0.0.1", "64:ff9b::8.8.8.8", "64:ff9b::10.1.2.3", "2002:808:808::1",
    "2002:7f00:1::", "::192.168.1.1", "2001:db8:8000::1", "fd00::1", "2606:4700::1", "2001::1", "::2"
#endif
};
#define SOME(array) (array)[unit_random(sizeof(array) / sizeof((array)[0]))]

static struct miniproxy_rule random_rule(void)
{
    static const struct miniproxy_nets *const nets[] = {&lan, &google, &all4, &all6, &miniproxy_special_purpose};
    static const char *const prefixes[] = {"/", "/a", "/a/b"};
    static const struct miniproxy_texts texts[] = {{prefixes, 1}, {prefixes + 1, 1}, {prefixes + 2, 1}};
    static const struct miniproxy_also paths[] = {{.paths = &texts[0]}, {.paths = &texts[1]}, {.paths = &texts[2]}};
    struct miniproxy_rule r = {.verdict = unit_random(2) & 1u, .special_purpose = unit_random(4) == 0};
    r.literal = unit_random(6) == 0;
    if (unit_random(3) == 0) r.methods = (1u << unit_random(9) | 1u << unit_random(9)) & 0xfffu;
    if (unit_random(3) == 0) r.users = 1u << SOME(((const unsigned[]){0, 1, 15})) & 0xffffu;
    if (unit_random(3) == 0) {
        r.port[0] = (uint16_t)SOME(((const unsigned[]){80, 81, 443}));
        r.port[1] = (uint16_t)(r.port[0] + unit_random(2));
    }
    if (unit_random(4) == 0) r.clients = SOME(nets);
    if (unit_random(3) == 0) r.to = SOME(nets);
    if (unit_random(4) == 0) r.hosts = &hosts;
    if (unit_random(6) == 0) r.also = &SOME(paths);
    return r;
}

/* The first so many of those whom policies are about; one has no password, or all have one. */
static void random_users(struct miniproxy_policy *policy)
{
    static const struct miniproxy_user all[3][2] = {{{.name = "ann", .password = "x", .groups = 1}, {.name = "bob", .groups = 2}},
                                                    {{.name = "ann", .groups = 1}, {.name = "bob", .digest = digest, .groups = 2}},
                                                    {{.name = "ann", .groups = 1}, {.name = "bob", .groups = 2}}};
    policy->users = SOME(all);
    policy->user_count = (uint16_t)unit_random(3);
}

static struct miniproxy_question random_question(struct miniproxy_addr *client, struct miniproxy_addr *to)
{
    static const char *const some_hosts[] = {"exact.example", "a.BELOW.example", "other.example", "below.example."};
    static const char *const some_paths[] = {"/", "/a", "/a/b?c", "/x"};
    struct miniproxy_question q = {.client = client, .host = SOME(some_hosts), .path = SOME(some_paths)};
    *client = address(SOME(some_addresses));
    *to = address(SOME(some_addresses));
    q.user = SOME(((const struct miniproxy_user *const[]){NULL, NULL, &staff, &guest}));
    q.port = (uint16_t)SOME(((const unsigned[]){80, 81, 443, 444}));
    q.method = (uint16_t)(1u << unit_random(9));
    if (q.method == MINIPROXY_CONNECT) q.path = NULL;
    q.path_len = q.path != NULL ? strlen(q.path) : 0;
    q.literal = unit_random(5) == 0;
    if (q.literal || unit_random(2) == 0) q.address = to;
    return q;
}

static void random_policies_agree_with_a_naive_reading(const void *data)
{
    unsigned seen[4] = {0};
    (void)data;
    for (unsigned i = 0; i < 400000; i++) {
        struct miniproxy_rule rules[6];
        struct miniproxy_policy policy = {.rules = rules, .rule_count = (uint16_t)unit_random(7)};
        struct miniproxy_addr client, to;
        for (unsigned k = 0; k < policy.rule_count; k++) rules[k] = random_rule();
        random_users(&policy);
        struct miniproxy_question q = random_question(&client, &to);
        int rule = -7;
        enum miniproxy_verdict ours = miniproxy_decide(&policy, &q, &rule), naive = naive_decide(&policy, &q);
        seen[ours]++;
        /* An ALLOW that the address may or may not meet is asked about, even if all ways lead to another ALLOW. */
        bool cautious = ours == MINIPROXY_NEEDS_ADDRESS && naive == MINIPROXY_ALLOWED && q.address == NULL;
        if (ours != naive && !cautious)
            fail_msg("question %u: %s, not %s", i, verdict_names[ours], verdict_names[naive]);
        assert_true(rule >= -1 && rule < policy.rule_count);
        if (ours == MINIPROXY_ALLOWED) assert_true(rules[rule].verdict == MINIPROXY_ALLOW);
        if (ours == MINIPROXY_DENIED && rule >= 0) assert_true(rules[rule].verdict == MINIPROXY_DENY);
        if (ours == MINIPROXY_NEEDS_USER) assert_true(rules[rule].users != 0 && q.user == NULL);
        if (ours == MINIPROXY_NEEDS_ADDRESS) assert_true(rule == -1 && q.address == NULL);
    }
    for (unsigned i = 0; i < 3 + MINIPROXY_WITH_AUTH; i++)
        if (seen[i] < 1000) fail_msg("%s: only %u times", verdict_names[i], seen[i]);
}

/* What is said before resolution must hold for every address afterwards. */
static void early_verdicts_hold_for_every_address(const void *data)
{
    (void)data;
    for (unsigned i = 0; i < 100000; i++) {
        struct miniproxy_rule rules[5];
        struct miniproxy_policy policy = {.rules = rules, .rule_count = (uint16_t)(1 + unit_random(5))};
        struct miniproxy_addr client, to;
        for (unsigned k = 0; k < policy.rule_count; k++) rules[k] = random_rule();
        random_users(&policy);
        struct miniproxy_question q = random_question(&client, &to);
        q.literal = false;
        q.address = NULL;
        enum miniproxy_verdict early = miniproxy_decide(&policy, &q, NULL);
        q.address = &to;
        for (size_t k = 0; k < sizeof some_addresses / sizeof some_addresses[0]; k++) {
            to = address(some_addresses[k]);
            enum miniproxy_verdict late = miniproxy_decide(&policy, &q, NULL);
            assert_true(late != MINIPROXY_NEEDS_ADDRESS);
            if (early == MINIPROXY_ALLOWED) assert_true(late == MINIPROXY_ALLOWED);
            if (early == MINIPROXY_DENIED) assert_true(late == MINIPROXY_DENIED);
            if (early == MINIPROXY_NEEDS_USER) assert_true(late != MINIPROXY_ALLOWED);
        }
    }
}

int main(void)
{
    struct unit_test tests[] = {
        {.name = "nothing is allowed by default [R07]", .run = nothing_is_allowed_by_default},
        {.name = "the first match decides", .run = the_first_match_decides},
        {.name = "special-purpose addresses need an opening [R01,R02]", .run = special_addresses_need_an_opening},
#if MINIPROXY_WITH_IPV6
        {.name = "IPv4 rules see IPv4 inside IPv6 [R03]", .run = addresses_are_unwrapped_for_rules},
#endif
        {.name = "CONNECT reaches one port unless ports are named [K02]", .run = connect_has_one_port},
        {.name = "host names match by label, without case and trailing dot [R05]", .run = hosts_match_by_label},
        {.name = "an IP literal matches no host rule [R06]", .run = literals_match_no_name},
        {.name = "methods, paths and clients", .run = methods_paths_clients},
#if MINIPROXY_WITH_AUTH
        {.name = "users: 407 only where a login can help [A07,S02]", .run = users_and_groups},
        {.name = "users without passwords: no 407 for them [A07,S02]", .run = users_without_passwords},
        {.name = "users are asked for before resolving [K10]", .run = users_are_asked_before_names_are_resolved},
#endif
        {.name = "what is denied anyway is not resolved [K10]", .run = what_is_known_before_resolution},
        {.name = "random policies agree with a naive reading [R01,R02,R03,R05]",
         .run = random_policies_agree_with_a_naive_reading},
        {.name = "early verdicts hold for every address [R01]", .run = early_verdicts_hold_for_every_address},
    };
    return unit_run("policy", tests, sizeof tests / sizeof tests[0]);
}

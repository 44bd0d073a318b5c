/* SPDX-License-Identifier: MIT
 *
 * Who may see pages of the proxy's own: single rules, then random policies against a naive reading.
 */
#define MINIPROXY_WITH_PAGES 1
#define MINIPROXY_WITH_CONDITIONS 1
#include "../../miniproxy.c"
#include "unit.h"

#define TEXTS(...)                                                                                 \
    &(const struct miniproxy_texts)                                                                \
    {                                                                                              \
        (const char *const[]){__VA_ARGS__}, sizeof((const char *[]){__VA_ARGS__}) / sizeof(char *) \
    }
#define ALSO(...) .also = &(const struct miniproxy_also){__VA_ARGS__}
#define DENY .verdict = MINIPROXY_DENY
#define ALLOW .verdict = MINIPROXY_ALLOW
#define PAGES .methods = MINIPROXY_PAGES

static const struct miniproxy_addr inside = {.ip = {10, 1, 2, 3}, .family = 4};
static const struct miniproxy_addr outside = {.ip = {8, 8, 8, 8}, .family = 4};
static const struct miniproxy_net4 lan4[] = {{{10}, 8}}, world4[] = {{{0}, 0}};
static const struct miniproxy_nets lan = {.v4 = lan4, .v4_count = 1}, all4 = {.v4 = world4, .v4_count = 1};
static const char *const host_names[] = {".example"}, *const no_name[] = {""};
static const struct miniproxy_hosts hosts = {host_names, NULL, 0, 1}, empty_name = {no_name, NULL, 0, 1};
static const struct miniproxy_user people[] = {{.name = "ann", .password = "x", .groups = 1},
                                               {.name = "bob", .password = "x", .groups = 2}};
static const struct miniproxy_range any_ports[] = {{0, 65535}};
static const struct miniproxy_ranges port_set = {any_ports, 1};
static const char *const m_list[] = {"/m"}, *const log_list[] = {"/log"}, *const text_list[] = {"text/"};
static const struct miniproxy_texts below_m = {m_list, 1}, below_log = {log_list, 1}, text_types = {text_list, 1};
static const struct miniproxy_time night_list[] = {{.days = 0x7f, .from = 0, .to = 360}};
static const struct miniproxy_times night = {night_list, 1};

static struct miniproxy_question page(const struct miniproxy_addr *client, const char *path)
{
    return (struct miniproxy_question){.client = client,
                                       .host = "",
                                       .path = path,
                                       .path_len = strlen(path),
                                       .method = MINIPROXY_PAGES,
                                       .minute_of_week = 720};
}

static enum miniproxy_verdict decide_one(struct miniproxy_rule rule, const struct miniproxy_question *q)
{
    const struct miniproxy_policy policy = {
        .rules = (const struct miniproxy_rule[]){rule, {.methods = MINIPROXY_PAGES, .verdict = MINIPROXY_ALLOW}},
        .rule_count = rule.verdict == MINIPROXY_DENY ? 2 : 1,
        .users = people,
        .user_count = 2};
    int at = -7;
    enum miniproxy_verdict verdict = miniproxy_decide(&policy, q, &at);
    assert_true(verdict == MINIPROXY_ALLOWED || verdict == MINIPROXY_DENIED || verdict == MINIPROXY_NEEDS_USER);
    return verdict;
}

/* Behind a DENY, another rule allows. */
#define CHECK_PAGE(verdict, ...)                                                  \
    do {                                                                          \
        const struct miniproxy_question asked = page(&inside, "/metrics");        \
        assert_int_equal(decide_one((struct miniproxy_rule){__VA_ARGS__}, &asked), \
                         MINIPROXY_##verdict);                                    \
    } while (0)

static void an_allow_has_to_name_them(const void *data)
{
    (void)data;
    CHECK_PAGE(DENIED, ALLOW);
    CHECK_PAGE(DENIED, ALLOW, .special_purpose = 1);
    CHECK_PAGE(DENIED, ALLOW, .methods = MINIPROXY_PAGES - 1);
    CHECK_PAGE(ALLOWED, ALLOW, .methods = MINIPROXY_PAGES);
    CHECK_PAGE(ALLOWED, ALLOW, .methods = MINIPROXY_PAGES | MINIPROXY_GET);
    CHECK_PAGE(DENIED, DENY);
    CHECK_PAGE(DENIED, DENY, .methods = MINIPROXY_PAGES);
    CHECK_PAGE(ALLOWED, DENY, .methods = MINIPROXY_GET);
}

static void targets_are_not_about_pages(const void *data)
{
    (void)data;
    for (unsigned verdict = 0; verdict < 2; verdict++) {
        const struct miniproxy_question q = page(&inside, "/metrics");
        const enum miniproxy_verdict otherwise = verdict == MINIPROXY_DENY ? MINIPROXY_ALLOWED : MINIPROXY_DENIED;
#define CHECK_NOT(...)                                                                                            \
    assert_int_equal(decide_one((struct miniproxy_rule){.verdict = verdict & 1u, .methods = MINIPROXY_PAGES, __VA_ARGS__}, \
                                &q),                                                                              \
                     otherwise)
        CHECK_NOT(.hosts = &hosts);
        CHECK_NOT(.hosts = &empty_name);
        CHECK_NOT(.literal = 1);
        CHECK_NOT(.to = &all4);
        CHECK_NOT(.to = &all4, .special_purpose = 1);
        CHECK_NOT(.port = {1, 65535});
        CHECK_NOT(.port = {0, 65535});
        CHECK_NOT(ALSO(.ports = &port_set));
        CHECK_NOT(ALSO(.types = TEXTS("text/")));
    }
}

static void who_where_and_when(const void *data)
{
    struct miniproxy_question q = page(&outside, "/metrics?x");
    (void)data;
    CHECK_PAGE(ALLOWED, ALLOW, PAGES, .clients = &lan);
    CHECK_PAGE(DENIED, DENY, .clients = &lan);
    assert_int_equal(decide_one((struct miniproxy_rule){ALLOW, PAGES, .clients = &lan}, &q), MINIPROXY_DENIED);
    assert_int_equal(decide_one((struct miniproxy_rule){DENY, .clients = &lan}, &q), MINIPROXY_ALLOWED);
    CHECK_PAGE(ALLOWED, ALLOW, PAGES, ALSO(.paths = TEXTS("/metrics")));
    CHECK_PAGE(DENIED, ALLOW, PAGES, ALSO(.paths = TEXTS("/log", "/metrics?")));
    CHECK_PAGE(DENIED, DENY, ALSO(.paths = TEXTS("/")));
    CHECK_PAGE(DENIED, ALLOW, PAGES, ALSO(.times = &night));
    q.minute_of_week = 60;
    assert_int_equal(decide_one((struct miniproxy_rule){ALLOW, PAGES, ALSO(.times = &night)}, &q),
                     MINIPROXY_ALLOWED);
    CHECK_PAGE(DENIED, ALLOW, PAGES, ALSO(.agents = TEXTS("scraper")));
    q.agent = "Scraper/1";
    q.agent_len = 9;
    assert_int_equal(decide_one((struct miniproxy_rule){ALLOW, PAGES, ALSO(.agents = TEXTS("scraper"))}, &q),
                     MINIPROXY_ALLOWED);
    CHECK_PAGE(NEEDS_USER, ALLOW, PAGES, .users = 1);
    CHECK_PAGE(ALLOWED, ALLOW, PAGES, .users = 1, .either = 1, .clients = &lan);
    q.user = &people[0];
    assert_int_equal(decide_one((struct miniproxy_rule){ALLOW, PAGES, .users = 1}, &q), MINIPROXY_ALLOWED);
    q.user = &people[1];
    assert_int_equal(decide_one((struct miniproxy_rule){ALLOW, PAGES, .users = 1}, &q), MINIPROXY_DENIED);
}

static void other_requests_are_as_before(const void *data)
{
    const struct miniproxy_rule rule = {ALLOW, .methods = MINIPROXY_PAGES};
    const struct miniproxy_policy policy = {.rules = &rule, .rule_count = 1};
    (void)data;
    for (unsigned method = 1; method <= MINIPROXY_OTHER; method <<= 1) {
        struct miniproxy_question q = page(&inside, "/metrics");
        q.method = (uint16_t)method;
        q.host = "www.example";
        q.port = 80;
        assert_int_equal(miniproxy_decide(&policy, &q, NULL), MINIPROXY_DENIED);
        q.address = &outside;
        assert_int_equal(miniproxy_decide(&policy, &q, NULL), MINIPROXY_DENIED);
    }
}

/* ---- Random policies */

static unsigned chance(unsigned *seed, unsigned n)
{
    *seed = *seed * 1103515245u + 12345u;
    return (*seed >> 16) % n;
}

static bool naive_covers(const struct miniproxy_rule *r, const struct miniproxy_question *q)
{
    const struct miniproxy_also *also = r->also;
    const bool is_lan = q->client == &inside;
    if (r->verdict == MINIPROXY_ALLOW && (r->methods & MINIPROXY_PAGES) == 0) return false;
    if (r->methods != 0 && (r->methods & MINIPROXY_PAGES) == 0) return false;
    if (r->hosts != NULL || r->literal || r->to != NULL || r->port[1] != 0) return false;
    if (!r->either && r->clients == &lan && !is_lan) return false;
    if (also == NULL) return true;
    if (also->ports != NULL || also->types != NULL) return false;
    return also->paths == NULL || strncmp(q->path, also->paths->list[0], strlen(also->paths->list[0])) == 0;
}

static bool naive_user(const struct miniproxy_rule *r, const struct miniproxy_question *q)
{
    const unsigned groups = q->user != NULL ? q->user->groups | MINIPROXY_AUTHENTICATED : 0u;
    if (r->users == 0 || (r->users & groups) != 0) return true;
    return r->either && (r->clients == NULL || r->clients == &all4 || q->client == &inside);
}

static enum miniproxy_verdict naive(const struct miniproxy_policy *policy, const struct miniproxy_question *q)
{
    bool asked = false;
    for (unsigned i = 0; i < policy->rule_count; i++) {
        const struct miniproxy_rule *r = policy->rules + i;
        if (!naive_covers(r, q)) continue;
        if (naive_user(r, q)) {
            if (r->verdict == MINIPROXY_ALLOW) return MINIPROXY_ALLOWED;
            break;
        }
        asked |= r->verdict == MINIPROXY_ALLOW && q->user == NULL;
    }
    return asked ? MINIPROXY_NEEDS_USER : MINIPROXY_DENIED;
}

static struct miniproxy_rule random_rule(unsigned *seed, struct miniproxy_also *also)
{
    static const unsigned methods[] = {0, MINIPROXY_PAGES, MINIPROXY_PAGES | MINIPROXY_GET, MINIPROXY_GET,
                                       MINIPROXY_PAGES - 1, 2 * MINIPROXY_PAGES - 1};
    static const unsigned users[] = {0, 0, 0, 1, 2, 3, MINIPROXY_AUTHENTICATED};
    struct miniproxy_rule r = {.verdict = chance(seed, 2) & 1u};
    r.methods = methods[chance(seed, 6)] & 0xfffu;
    r.users = users[chance(seed, 7)] & 0xffffu;
    r.special_purpose = chance(seed, 2) & 1u;
    r.either = chance(seed, 4) == 0;
    r.literal = chance(seed, 8) == 0;
    if (chance(seed, 8) == 0) r.hosts = &hosts;
    if (chance(seed, 8) == 0) r.to = &all4;
    if (chance(seed, 8) == 0) r.port[1] = 443;
    if (chance(seed, 3) == 0) r.clients = chance(seed, 3) == 0 ? &all4 : &lan;
    *also = (struct miniproxy_also){0};
    if (chance(seed, 3) == 0) also->paths = chance(seed, 2) ? &below_m : &below_log;
    if (chance(seed, 8) == 0) also->types = &text_types;
    if (chance(seed, 8) == 0) also->ports = &port_set;
    if (chance(seed, 2) == 0) r.also = also;
    return r;
}

static void random_policies_agree_with_a_naive_reading(const void *data)
{
    static const char *const paths[] = {"/", "/metrics", "/log", "/log?id=7"};
    unsigned seed = 1, seen[4] = {0};
    (void)data;
    for (unsigned run = 0; run < 200000; run++) {
        struct miniproxy_rule rules[4];
        struct miniproxy_also also[4];
        const char *path = paths[chance(&seed, 4)];
        const unsigned who = chance(&seed, 3);
        const struct miniproxy_policy policy = {
            .rules = rules, .rule_count = (uint16_t)(chance(&seed, 4) + 1), .users = people, .user_count = 2};
        struct miniproxy_question q = page(chance(&seed, 2) ? &inside : &outside, path);
        enum miniproxy_verdict verdict, expected;
        for (unsigned i = 0; i < 4; i++) rules[i] = random_rule(&seed, &also[i]);
        q.user = who < 2 ? &people[who] : NULL;
        verdict = miniproxy_decide(&policy, &q, NULL);
        expected = naive(&policy, &q);
        if (verdict != expected) fail_msg("policy %u: %d, not %d", run, verdict, expected);
        seen[verdict]++;
    }
    assert_true(seen[MINIPROXY_ALLOWED] > 1000 && seen[MINIPROXY_DENIED] > 1000 && seen[MINIPROXY_NEEDS_USER] > 1000);
    assert_int_equal(seen[MINIPROXY_NEEDS_ADDRESS], 0);
}

int main(void)
{
    struct unit_test tests[] = {
        {.name = "an ALLOW has to name pages, a DENY has not [R07]", .run = an_allow_has_to_name_them},
        {.name = "rules about hosts, addresses, ports and types are not about pages", .run = targets_are_not_about_pages},
        {.name = "clients, users, paths, agents and times are", .run = who_where_and_when},
        {.name = "a rule for pages is for nothing else", .run = other_requests_are_as_before},
        {.name = "random policies agree with a naive reading", .run = random_policies_agree_with_a_naive_reading},
    };
    return unit_run("pages_policy", tests, sizeof tests / sizeof tests[0]);
}

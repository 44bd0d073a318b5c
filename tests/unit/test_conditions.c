/* SPDX-License-Identifier: MIT
 *
 * Rules that ask for more than a target: User-Agent, the type of the response, the time; and counters of rules.
 */
#define MINIPROXY_WITH_CONDITIONS 1
#define MINIPROXY_WITH_HITS 1
#include "../../miniproxy.c"
#include "unit.h"
#include "wire.h"

#define TEXTS(...)                                                                                 \
    &(const struct miniproxy_texts)                                                                \
    {                                                                                              \
        (const char *const[]){__VA_ARGS__}, sizeof((const char *[]){__VA_ARGS__}) / sizeof(char *) \
    }
#define ALSO(...)                          \
    .also = &(const struct miniproxy_also) \
    {                                      \
        __VA_ARGS__                        \
    }
enum { DENY = MINIPROXY_DENY, ALLOW = MINIPROXY_ALLOW };

static const struct miniproxy_addr public = {.ip = {8, 8, 8, 8}, .family = 4}, lan = {.ip = {10, 1, 2, 3}, .family = 4};

static struct miniproxy_question question(void)
{
    return (struct miniproxy_question){.client = &lan,
                                       .host = "h.example",
                                       .path = "/",
                                       .path_len = 1,
                                       .address = &public,
                                       .port = 80,
                                       .method = MINIPROXY_GET,
                                       .minute_of_week = -1};
}

static enum miniproxy_verdict decide(const struct miniproxy_rule *rules, unsigned count,
                                     const struct miniproxy_question *q)
{
    struct miniproxy_policy policy = {.rules = rules, .rule_count = (uint16_t)count};
    return miniproxy_decide(&policy, q, NULL);
}

static void agents(const void *data)
{
    static const struct {
        const char *agent;
        bool matches;
    } cases[] = {
        {NULL, false},  {"", false},     {"curl", false}, {"curl/", true},   {"curl/8.0", true},  {"a CURL/8", true},
        {"msi", false}, {"(MSIE", true}, {"xmsie", true}, {"cur l/", false}, {"curcurl/x", true},
    };
    struct miniproxy_rule rule = {.verdict = ALLOW, ALSO(.agents = TEXTS("curl/", "msie"))};
    (void)data;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct miniproxy_question q = question();
        q.agent = cases[i].agent;
        q.agent_len = q.agent != NULL ? strlen(q.agent) : 0;
        assert_int_equal(decide(&rule, 1, &q), cases[i].matches ? MINIPROXY_ALLOWED : MINIPROXY_DENIED);
    }
}

static void types(const void *data)
{
    static const struct {
        const char *type;
        bool matches;
    } cases[] = {
        {"", false},           {"text/html", true},           {"text/htm", false},
        {"text/html5", false}, {"TEXT/Html;charset=x", true}, {"text/html ;a", true},
        {"image/", true},      {"image/svg+xml", true},       {"image", false},
        {"ximage/png", false}, {"; text/html", false},
    };
    struct miniproxy_rule rule = {.verdict = ALLOW, ALSO(.types = TEXTS("text/html", "image/"))};
    struct miniproxy_question q = question();
    (void)data;
    assert_int_equal(decide(&rule, 1, &q), MINIPROXY_NEEDS_TYPE);
    q.address = NULL;
    assert_int_equal(decide(&rule, 1, &q), MINIPROXY_NEEDS_ADDRESS);
    q = question();
    q.method = MINIPROXY_CONNECT;
    q.port = 443;
    q.path = NULL;
    assert_int_equal(decide(&rule, 1, &q), MINIPROXY_DENIED);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        q = question();
        q.type = cases[i].type;
        q.type_len = strlen(q.type);
        assert_int_equal(decide(&rule, 1, &q), cases[i].matches ? MINIPROXY_ALLOWED : MINIPROXY_DENIED);
    }
}

/* Every minute of the week against a second reading of the same times. */
static void times(const void *data)
{
    static const struct miniproxy_time some[] = {{480, 1080, 0x1f}, {1320, 360, 0x11}, {0, 1440, 0x20},
                                                 {600, 600, 0x08},  {1439, 1, 0x40},   {5, 6, 0}};
    (void)data;
    for (unsigned which = 0; which < sizeof some / sizeof some[0]; which++) {
        const struct miniproxy_times set = {some + which, 1};
        struct miniproxy_rule rule = {.verdict = ALLOW, ALSO(.times = &set)};
        bool expected[7 * 1440] = {false};
        for (unsigned day = 0; day < 7; day++) {
            int len = some[which].to > some[which].from ? some[which].to - some[which].from
                                                        : 1440 + some[which].to - some[which].from;
            if ((some[which].days >> day & 1u) == 0) continue;
            for (int i = 0; i < len; i++) expected[((int)day * 1440 + some[which].from + i) % (7 * 1440)] = true;
        }
        for (int minute = 0; minute < 7 * 1440; minute++) {
            struct miniproxy_question q = question();
            q.minute_of_week = minute;
            if ((decide(&rule, 1, &q) == MINIPROXY_ALLOWED) != expected[minute])
                fail_msg("%u: minute %d", which, minute);
        }
    }
}

static void unknown_time(const void *data)
{
    static const struct miniproxy_time all = {0, 1440, 0x7f};
    static const struct miniproxy_times set = {&all, 1};
    struct miniproxy_rule rules[] = {{.verdict = DENY, ALSO(.times = &set)}, {.verdict = ALLOW}};
    struct miniproxy_question q = question();
    (void)data;
    assert_int_equal(decide(rules, 2, &q), MINIPROXY_DENIED);
    rules[0].verdict = ALLOW;
    assert_int_equal(decide(rules, 1, &q), MINIPROXY_DENIED);
}

/* ---- Through the proxy ---- */

#define POLICY(...)                                                                                        \
    {                                                                                                      \
        .rules = (const struct miniproxy_rule[]){__VA_ARGS__},                                             \
        .rule_count = sizeof((const struct miniproxy_rule[]){__VA_ARGS__}) / sizeof(struct miniproxy_rule) \
    }

static const char *answer(const char *type, const char *body)
{
    static char text[512];
    snprintf(text, sizeof text, "HTTP/1.1 200 OK\r\n%sContent-Length: %zu\r\n\r\n%s", type, strlen(body), body);
    return text;
}

static void start(const struct miniproxy_policy *policy)
{
    wire_start((struct miniproxy_config){0});
    if (!miniproxy_set_policy(&wire.proxy, policy)) fail_msg("the policy is refused");
}

static void expect(const char *request, const char *answered, unsigned status, int rule)
{
    unsigned before = wire.events;
    wire.answer = answered;
    say(request);
    if (wire.events != before + 1 || wire.event.status != status || wire.event.rule != rule)
        fail_msg("%u events, status %u, rule %d, instead of %u, %d", wire.events - before, wire.event.status,
                 wire.event.rule, status, rule);
}

static const char get[] = "GET http://h.example/ HTTP/1.1\r\nHost: h.example\r\n\r\n";

static void types_of_responses(const void *data)
{
    const struct miniproxy_policy policy = POLICY(
        {.verdict = DENY, ALSO(.types = TEXTS("video/"))}, {.verdict = DENY, .methods = MINIPROXY_POST},
        {.verdict = ALLOW, ALSO(.types = TEXTS("text/", "video/"))}, {.verdict = DENY, ALSO(.types = TEXTS("image/"))},
        {.verdict = ALLOW, .methods = MINIPROXY_GET | MINIPROXY_HEAD});
    (void)data;
    start(&policy);
    expect(get, answer("Content-Type: text/html\r\n", "abc"), 200, 2);
    expect(get, answer("Content-Type: font/woff\r\n", "abc"), 200, 4);
    expect(get, answer("", "abc"), 200, 4);
    expect(get, answer("Content-Type: image/png\r\n", "abc"), 403, 3);
    assert_non_null(strstr(wire.to_client.data, "(type_denied)"));
    assert_null(strstr(wire.to_client.data, "abc"));
    start(&policy);
    expect(get, answer("Content-Type: VIDEO/mp4; x=y\r\n", "abc"), 403, 0);
    assert_int_equal(wire.event.cause, MINIPROXY_CAUSE_CONTENT_TYPE);
    start(&policy); /* nothing comes that could be refused: the first rule that allows it by some type does */
    expect(get, answer("Content-Type: video/mp4\r\n", ""), 200, 2);
    expect("HEAD http://h.example/ HTTP/1.1\r\nHost: h.example\r\n\r\n",
           "HTTP/1.1 200 OK\r\nContent-Type: video/mp4\r\nContent-Length: 9\r\n\r\n", 200, 2);
    expect(get, "HTTP/1.1 304 Not Modified\r\nContent-Type: video/mp4\r\n\r\n", 200 + 104, 2);
    expect(get, "HTTP/1.1 204 No Content\r\n\r\n", 200 + 4, 2);
    expect(get, "HTTP/1.1 200 OK\r\nContent-Type: video/mp4\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
           403, 0);
    start(&policy);
    expect("POST http://h.example/ HTTP/1.1\r\nHost: h.example\r\nContent-Length: 0\r\n\r\n", NULL, 403, 1);
    assert_int_equal(wire.connects, 0);
    start(&policy); /* no rule without a type allows it */
    expect("PUT http://h.example/ HTTP/1.1\r\nHost: h.example\r\nContent-Length: 0\r\n\r\n",
           answer("Content-Type: font/woff\r\n", "abc"), 403, -1);
    start(&policy);
    expect("CONNECT h.example:443 HTTP/1.1\r\nHost: h.example:443\r\n\r\n", NULL, 403, -1);
}

/* Several types, which one a client goes by is not known, and byte ranges, whose parts have types of their own: what they
 * could be denied for denies them. */
static void responses_of_several_types(const void *data)
{
    static const struct {
        const char *fields;
        unsigned status[3]; /* by each of the policies below */
        int rule[3];
    } cases[] = {
        {"Content-Type: text/html\r\nX: y\r\nContent-Type: video/mp4\r\n", {403, 403, 403}, {0, -1, 1}},
        {"Content-Type: video/mp4\r\nContent-Type: text/html\r\n", {403, 403, 403}, {0, -1, 1}},
        {"Content-Type: text/html\r\nContent-Type: text/html\r\n", {403, 403, 403}, {0, -1, 1}},
        {"Content-Type: text/html, video/mp4\r\n", {403, 403, 403}, {0, -1, 1}},
        {"Content-Type: text/html , video/mp4\r\n", {403, 403, 403}, {0, -1, 1}},
        {"Content-Type: text/html;x=y,video/mp4\r\n", {403, 403, 403}, {0, -1, 1}},
        {"Content-Type: ,video/mp4\r\n", {403, 403, 403}, {0, -1, 1}},
        {"Content-Type: multipart/byteranges; boundary=x\r\n", {403, 403, 200}, {0, -1, 0}},
        {"Content-Type: Multipart/ByteRanges\r\n", {403, 403, 200}, {0, -1, 0}},
        {"Content-Type: multipart/mixed\r\n", {200, 403, 200}, {1, -1, 0}},
        {"Content-Type: text/html\r\n", {200, 200, 200}, {1, 0, 2}},
    };
    const struct miniproxy_policy policies[] = {
        POLICY({.verdict = DENY, ALSO(.types = TEXTS("video/"))}, {.verdict = ALLOW}),
        POLICY({.verdict = ALLOW, ALSO(.types = TEXTS("text/"))}),
        POLICY({.verdict = ALLOW, ALSO(.types = TEXTS("multipart/"))}, {.verdict = DENY, ALSO(.types = TEXTS("video/"))},
               {.verdict = ALLOW}),
    };
    const struct miniproxy_policy anything = POLICY({.verdict = ALLOW, ALSO(.types = TEXTS("text/"))}, {.verdict = ALLOW});
    (void)data;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        for (unsigned n = 0; n < 3; n++) {
            start(&policies[n]);
            expect(get, answer(cases[i].fields, "abc"), cases[i].status[n], cases[i].rule[n]);
            if (cases[i].status[n] == 403) assert_int_equal(wire.event.cause, MINIPROXY_CAUSE_CONTENT_TYPE);
        }
        start(&anything); /* nothing could be denied */
        wire.answer = answer(cases[i].fields, "abc");
        say(get);
        assert_int_equal(wire.event.status, 200);
    }
}

/* A tunnel has no type, whatever the head says that begins it: no rule with types is about it. */
static void types_and_websocket(const void *data)
{
    static const char ask[] =
        "GET http://h.example/ HTTP/1.1\r\nHost: h.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    static const char yes[] =
        "HTTP/1.1 101 Yes\r\nContent-Type: text/html\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    const struct miniproxy_policy by_type = POLICY({.verdict = ALLOW, ALSO(.types = TEXTS("text/"))}),
                                  denied = POLICY({.verdict = ALLOW, ALSO(.types = TEXTS("text/"))}, {.verdict = DENY}),
                                  allowed = POLICY({.verdict = DENY, ALSO(.types = TEXTS("text/"))}, {.verdict = ALLOW});
    (void)data;
    start(&by_type);
    expect(ask, yes, 403, -1);
    assert_int_equal(wire.event.cause, MINIPROXY_CAUSE_CONTENT_TYPE);
    start(&denied);
    expect(ask, yes, 403, 1);
    start(&by_type); /* asked for, and not given */
    expect(ask, answer("Content-Type: text/html\r\n", "abc"), 200, 0);
    start(&allowed);
    wire.answer = yes;
    say(ask);
    assert_non_null(strstr(wire.to_client.data, "HTTP/1.1 101 "));
}

/* The rule that decides is told and counted: without content the first that allows it by some type, also where no other
 * rule would; and nobody's only what no rule allows. */
static void rules_with_types_count(const void *data)
{
    static const char head[] = "HEAD http://h.example/ HTTP/1.1\r\nHost: h.example\r\n\r\n";
    static uint32_t counters[3];
    struct miniproxy_policy policy = POLICY({.verdict = DENY, ALSO(.types = TEXTS("video/"))},
                                            {.verdict = ALLOW, ALSO(.types = TEXTS("text/html"))});
    (void)data;
    policy.hits = counters;
    start(&policy);
    expect(get, answer("Content-Type: text/html\r\n", "abc"), 200, 1);
    expect(get, answer("Content-Type: font/woff\r\n", ""), 200, 1);
    expect(head, "HTTP/1.1 200 OK\r\nContent-Type: font/woff\r\nContent-Length: 9\r\n\r\n", 200, 1);
    expect(get, "HTTP/1.1 304 Not Modified\r\nContent-Type: font/woff\r\n\r\n", 304, 1);
    expect(get, "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", 502, 1);
    start(&policy);
    expect(get, answer("Content-Type: font/woff\r\n", "abc"), 403, -1);
    start(&policy);
    expect(get, answer("Content-Type: video/mp4\r\n", "abc"), 403, 0);
    assert_int_equal(counters[0], 1);
    assert_int_equal(counters[1], 5);
    assert_int_equal(counters[2], 1);
}

/* The next request of a connection is decided anew. */
static void types_and_a_kept_connection(const void *data)
{
    const struct miniproxy_policy policy =
        POLICY({.verdict = DENY, ALSO(.types = TEXTS("text/"), .paths = TEXTS("/no"))}, {.verdict = ALLOW});
    static const char no[] = "GET http://h.example/no HTTP/1.1\r\nHost: h.example\r\n\r\n";
    (void)data;
    start(&policy);
    expect(get, answer("Content-Type: text/html\r\n", "abc"), 200, 1);
    expect(no, answer("Content-Type: font/woff\r\n", "abc"), 200, 1);
    expect(get, answer("Content-Type: text/html\r\n", "abc"), 200, 1);
    assert_int_equal(wire.connects, 1);
    expect(no, answer("Content-Type: text/html\r\n", "abc"), 403, 0);
}

/* Rules with types that do not cover the request stand between those that do. */
static void only_rules_that_cover_the_request(const void *data)
{
    const struct miniproxy_policy policy =
        POLICY({.verdict = DENY, ALSO(.types = TEXTS("text/"), .paths = TEXTS("/no"))},
               {.verdict = ALLOW, ALSO(.types = TEXTS("text/", "font/"))},
               {.verdict = ALLOW, ALSO(.types = TEXTS("text/", "image/"), .paths = TEXTS("/no"))},
               {.verdict = DENY, ALSO(.types = TEXTS("image/"))}, {.verdict = ALLOW});
    (void)data;
    start(&policy);
    expect(get, answer("Content-Type: text/html\r\n", "abc"), 200, 1);
    expect(get, answer("Content-Type: video/mp4\r\n", "abc"), 200, 4);
    expect(get, answer("Content-Type: image/png\r\n", "abc"), 403, 3);
}

static void agents_of_requests(const void *data)
{
    const struct miniproxy_policy policy = POLICY({.verdict = DENY, ALSO(.agents = TEXTS("bad"))}, {.verdict = ALLOW});
    (void)data;
    for (unsigned at = 0; at < 4; at++) {
        for (unsigned bad = 0; bad < 2; bad++) {
            char request[512];
            snprintf(
                request, sizeof request,
                "%s HTTP/1.1\r\n%sHost: h.example\r\n%sProxy-Authorization: Basic eDp5\r\nTE: x\r\nUSER-Agent:   %s "
                "\r\n%s\r\n",
                at < 3 ? "GET http://h.example/" : "CONNECT h.example:443", at == 1 ? "A: b\r\n" : "",
                at == 2 ? "Connection: b, c\r\nB: c\r\n" : "", bad ? "Some BADness" : "Some goodness",
                at == 1 ? "C: bad\r\n" : "");
            start(&policy);
            if (at == 3 && bad == 0) {
                say(request);
                assert_non_null(strstr(wire.to_client.data, " 200 "));
                continue;
            }
            expect(request, bad ? NULL : answer("", "abc"), bad ? 403 : 200, bad ? 0 : 1);
            if (!bad) assert_non_null(strstr(wire.to_origin.data, "USER-Agent:   Some goodness \r\n"));
        }
    }
}

static int half_past_nine(void *app)
{
    (void)app;
    return 2 * 1440 + 9 * 60 + 30; /* Wednesday */
}

static void time_of_day(const void *data)
{
    static const struct miniproxy_time late = {600, 1440, 0x7f}, early = {540, 600, 0x04};
    static const struct miniproxy_times at_late = {&late, 1}, at_early = {&early, 1};
    const struct miniproxy_policy policy =
        POLICY({.verdict = DENY, ALSO(.times = &at_late)}, {.verdict = ALLOW, ALSO(.times = &at_early)});
    (void)data;
    wire_start((struct miniproxy_config){.minute_of_week = half_past_nine});
    miniproxy_set_policy(&wire.proxy, &policy);
    expect(get, answer("", "abc"), 200, 1);
    start(&policy); /* without a clock */
    expect(get, NULL, 403, 0);
}

static void hits(const void *data)
{
    static uint32_t counters[4];
    struct miniproxy_policy policy = POLICY({.verdict = DENY, ALSO(.paths = TEXTS("/no"))},
                                            {.verdict = ALLOW, .methods = MINIPROXY_GET}, {.verdict = DENY});
    const struct miniproxy_policy quiet = POLICY({.verdict = ALLOW});
    (void)data;
    policy.hits = counters;
    start(&policy);
    for (unsigned i = 0; i < 3; i++) expect(get, answer("", "abc"), 200, 1);
    expect("GET http://h.example/no HTTP/1.1\r\nHost: h.example\r\n\r\n", NULL, 403, 0);
    start(&policy);
    expect("POST http://127.0.0.1/ HTTP/1.1\r\nHost: h\r\n\r\n", NULL, 403, 2);
    start(&policy);
    policy.rule_count = 2;
    expect("POST http://127.0.0.1/ HTTP/1.1\r\nHost: h\r\n\r\n", NULL, 403, -1);
    start(&quiet);
    expect(get, answer("", "abc"), 200, 0);
    assert_int_equal(counters[0], 1);
    assert_int_equal(counters[1], 3);
    assert_int_equal(counters[2], 2); /* one of them as "no rule" of a policy of two */
    assert_int_equal(counters[3], 0);
}

/* ---- What miniproxy_check_policy refuses ---- */

static void unsound_tables(const void *data)
{
    static const struct miniproxy_net4 unsorted[] = {{{10, 0, 0, 0}, 8}, {{9, 0, 0, 0}, 8}},
                                       within[] = {{{10, 0, 0, 0}, 8}, {{10, 1, 0, 0}, 16}},
                                       twice[] = {{{10, 0, 0, 0}, 8}, {{10, 0, 0, 0}, 8}},
                                       rest[] = {{{10, 0, 0, 1}, 8}}, wide[] = {{{10, 0, 0, 0}, 33}},
                                       all[] = {{{0}, 0}, {{1, 0, 0, 0}, 8}},
                                       fine[] = {{{0, 0, 0, 0}, 1}, {{128, 0, 0, 0}, 2}, {{255, 255, 255, 255}, 32}};
    static const struct miniproxy_net6 unsorted6[] = {{{0xfd}, 8}, {{0x20}, 8}},
                                       within6[] = {{{0x20}, 8}, {{0x20, 1}, 16}}, rest6[] = {{{0x20, 0, 1}, 23}},
                                       wide6[] = {{{0}, 129}},
                                       fine6[] = {{{0}, 127}, {{0x20}, 9}, {{0xff, 0xff}, 15 + 1}};
    static const struct {
        struct miniproxy_nets nets;
        bool sound;
    } cases[] = {
        {{.v4 = unsorted, .v4_count = 2}, false}, {{.v4 = within, .v4_count = 2}, false},
        {{.v4 = twice, .v4_count = 2}, false},    {{.v4 = rest, .v4_count = 1}, false},
        {{.v4 = wide, .v4_count = 1}, false},     {{.v4 = all, .v4_count = 2}, false},
        {{.v4 = fine, .v4_count = 3}, true},      {{.v6 = unsorted6, .v6_count = 2}, false},
        {{.v6 = within6, .v6_count = 2}, false},  {{.v6 = rest6, .v6_count = 1}, false},
        {{.v6 = wide6, .v6_count = 1}, false},    {{.v6 = fine6, .v6_count = 3}, true},
    };
    (void)data;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const struct miniproxy_rule rules[] = {{.verdict = ALLOW}, {.verdict = ALLOW, .clients = &cases[i].nets}},
                                    to = {.verdict = ALLOW, .to = &cases[i].nets};
        const struct miniproxy_policy policy = {.rules = rules, .rule_count = 2},
                                      to_policy = {.rules = &to, .rule_count = 1};
        struct miniproxy_config config = {.port = &wire_port, .policy = &policy};
        if (miniproxy_check_policy(&policy) != (cases[i].sound ? -1 : 1)) fail_msg("case %zu", i);
        if (miniproxy_check_policy(&to_policy) != (cases[i].sound ? -1 : 0)) fail_msg("case %zu", i);
        memset(&wire, 0, sizeof wire);
        assert_true(miniproxy_init(&wire.proxy, &config) == cases[i].sound);
        wire_start((struct miniproxy_config){0});
        assert_true(miniproxy_set_policy(&wire.proxy, &policy) == cases[i].sound);
        wire.answer = answer("", "abc");
        say(get); /* refused or not, requests are decided */
        assert_int_equal(wire.event.status, 200);
    }
    assert_int_equal(miniproxy_check_policy(&(struct miniproxy_policy)POLICY({.to = &miniproxy_special_purpose})), -1);
}

static void too_many_types(const void *data)
{
    const struct miniproxy_also text = {.types = TEXTS("text/")}, font = {.types = TEXTS("font/")};
    struct miniproxy_rule rules[MINIPROXY_TYPE_RULES + 1];
    (void)data;
    for (size_t i = 0; i <= MINIPROXY_TYPE_RULES; i++)
        rules[i] = (struct miniproxy_rule){.verdict = ALLOW, .also = &text};
    struct miniproxy_policy policy = {.rules = rules, .rule_count = MINIPROXY_TYPE_RULES + 1};
    assert_true(miniproxy_check_policy(&policy) >= 0);
    policy.rule_count--;
    assert_int_equal(miniproxy_check_policy(&policy), -1);
    start(&policy); /* the last of them decides */
    rules[MINIPROXY_TYPE_RULES - 1].also = &font;
    expect(get, answer("Content-Type: font/woff\r\n", "abc"), 200, MINIPROXY_TYPE_RULES - 1);
}

int main(void)
{
    static struct unit_test tests[] = {
        {.name = "user agents are found within, in any case", .run = agents},
        {.name = "types of content, without their parameters", .run = types},
        {.name = "parts of the week, every minute", .run = times},
        {.name = "while the time is unknown DENY covers and ALLOW does not", .run = unknown_time},
        {.name = "responses are refused for their type", .run = types_of_responses},
        {.name = "several types, and byte ranges, are denied for what they may be", .run = responses_of_several_types},
        {.name = "a tunnel of websocket has no type", .run = types_and_websocket},
        {.name = "rules with types are told and counted [G06]", .run = rules_with_types_count},
        {.name = "types are asked for each request [P07]", .run = types_and_a_kept_connection},
        {.name = "types are asked of the rules that cover the request", .run = only_rules_that_cover_the_request},
        {.name = "user agents of requests, wherever the line stands", .run = agents_of_requests},
        {.name = "the time of day decides", .run = time_of_day},
        {.name = "rules count what they decided [G06]", .run = hits},
        {.name = "tables that cannot be searched are refused", .run = unsound_tables},
        {.name = "at most so many rules have types", .run = too_many_types},
    };
    return unit_run("conditions", tests, sizeof tests / sizeof tests[0]);
}

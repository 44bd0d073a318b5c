/* SPDX-License-Identifier: MIT
 *
 * Clients that speak SOCKS5 (RFC 1928, RFC 1929): what they say in whatever pieces, what they are told, what is logged.
 */
#include <stdlib.h>
#define MINIPROXY_ASSERT(condition) ((condition) ? (void)0 : abort())
#define MINIPROXY_WITH_SOCKS5 1
#define MINIPROXY_WITH_PBKDF2 1
#define MINIPROXY_SESSIONS 2
#define MINIPROXY_SESSIONS_PER_CLIENT 2
#define MINIPROXY_THROTTLE_FAILURES 3
#include "../../miniproxy.c"
#define wipe wipe_of_sha256 /* two files, one unit here */
#include "../../port/miniproxy_sha256.c"
#undef wipe
#include "unit.h"
#include "wire.h"

/* Octets as a string constant, which may hold NULs. */
struct octets {
    const char *data;
    size_t len;
};
#define O(text) {text, sizeof(text) - 1}

#define NO_LOGIN "\5\0"
#define DONE "\5\0\0\1\0\0\0\0\0\0"
#define FAILED(code) "\5" code "\0\1\0\0\0\0\0\0"

static struct wire_text heard, passed_on; /* by the client, to the origin */
static char begun[128];

static void note_begin(void *app, const struct miniproxy_event *e)
{
    (void)app;
    snprintf(begun, sizeof begun, "%.*s %.*s%s", e->method_len, e->method, e->target_len, e->target,
             e->socks ? " socks" : "");
}

static void begin_with(struct miniproxy_config config)
{
    config.begin = note_begin;
    config.sha256 = miniproxy_sha256;
    config.pbkdf2 = &miniproxy_sha256_pbkdf2;
    wire_start(config);
    memset(&heard, 0, sizeof heard);
    memset(&passed_on, 0, sizeof passed_on);
    begun[0] = '\0';
}

static void begin(void)
{
    begin_with((struct miniproxy_config){0});
}

static void feed(const char *data, size_t len)
{
    say_octets(data, len);
    wire_put(&heard, wire.to_client.data, wire.to_client.len);
    wire_put(&passed_on, wire.to_origin.data, wire.to_origin.len);
}

static void feed_each(const char *data, size_t len)
{
    for (size_t i = 0; i < len; i++) feed(data + i, 1);
}

static void check_heard(struct octets expected)
{
    if (heard.len == expected.len && memcmp(heard.data, expected.data, expected.len) == 0) return;
    for (size_t i = 0; i < heard.len; i++) fprintf(stderr, " %02x", (unsigned char)heard.data[i]);
    fail_msg("heard %zu octets instead of %zu", heard.len, expected.len);
}
#define HEARD(text) check_heard((struct octets)O(text))

/* No session and no buffer is left over when all ends. */
static void check_end(void)
{
    miniproxy_stop(&wire.proxy);
    assert_int_equal(wire.proxy.counters.active, 0);
    assert_int_equal(wire.proxy.counters.buffers, 0);
    assert_int_equal(wire.proxy.logins.head, 0);
}

/* ---- requests ---- */

static const struct {
    struct octets request;
    const char *target, *host; /* host NULL: not resolved */
} requests[] = {
    {O("\5\1\0\3\11h.example\1\273"), "h.example:443", "h.example"},
    {O("\5\1\0\3\12H.EXAMPLE.\1\273"), "H.EXAMPLE.:443", "H.EXAMPLE."},
    {O("\5\1\0\3\1h\1\273"), "h:443", "h"},
    {O("\5\1\0\1\306\62\0\1\1\273"), "198.50.0.1:443", NULL},
    {O("\5\1\0\3\12" "198.50.0.1\1\273"), "198.50.0.1:443", NULL},
    {O("\5\1\0\4\52\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1\1\273"), "[2a00::1]:443", NULL},
    {O("\5\1\0\4\52\21\42\63\104\125\146\167\210\231\252\273\314\335\356\377\1\273"),
     "[2a11:2233:4455:6677:8899:aabb:ccdd:eeff]:443", NULL},
};

static void check_tunnel(unsigned i, const char *early)
{
    char expected[128];
    if (heard.len != 12 || memcmp(heard.data, NO_LOGIN DONE, 12) != 0) fail_msg("request %u: heard %zu", i, heard.len);
    assert_int_equal(passed_on.len, strlen(early));
    assert_memory_equal(passed_on.data, early, strlen(early));
    assert_string_equal(wire.host, requests[i].host != NULL ? requests[i].host : "");
    assert_int_equal(wire.to.port, 443);
    assert_int_equal(wire.events, 0);
    snprintf(expected, sizeof expected, "CONNECT %s socks", requests[i].target);
    assert_string_equal(begun, expected);
    feed("more", 4);
    assert_memory_equal(passed_on.data + strlen(early), "more", 4);
    check_end();
    assert_int_equal(wire.events, 1);
    assert_int_equal(wire.event.status, 200);
    assert_true(wire.event.socks);
    assert_int_equal(wire.event.source, MINIPROXY_BY_PROXY);
    assert_int_equal(wire.event.method_len, 7);
    assert_int_equal(wire.event.target_len, strlen(requests[i].target));
    assert_memory_equal(wire.event.target, requests[i].target, wire.event.target_len);
    assert_int_equal(wire.event.bytes_up, 3 + requests[i].request.len + strlen(early) + 4);
    assert_int_equal(wire.event.bytes_down, 12);
}

static size_t whole(char *out, unsigned i, const char *early)
{
    memcpy(out, "\5\1\0", 3);
    memcpy(out + 3, requests[i].request.data, requests[i].request.len);
    memcpy(out + 3 + requests[i].request.len, early, strlen(early));
    return 3 + requests[i].request.len + strlen(early);
}

static void every_split(const void *data)
{
    static const char *const early[] = {"", "\5early"};
    char text[512];
    (void)data;
    for (unsigned i = 0; i < sizeof requests / sizeof requests[0]; i++) {
        for (unsigned e = 0; e < 2; e++) {
            size_t len = whole(text, i, early[e]);
            for (size_t at = 0; at <= len; at++) {
                begin();
                if (at > 0) feed(text, at);
                if (at < len) feed(text + at, len - at);
                check_tunnel(i, early[e]);
            }
            begin();
            feed_each(text, len);
            check_tunnel(i, early[e]);
        }
    }
}

/* More than a buffer holds follows the request at once, and belongs into the tunnel. */
static void full_buffers(const void *data)
{
    static char text[3000];
    char early[2500];
    size_t len;
    (void)data;
    for (unsigned i = 0; i < sizeof requests / sizeof requests[0]; i++) {
        for (size_t n = 640; n < 900; n++) { /* around what is received at once */
            memset(early, 'e', n);
            early[n] = '\0';
            len = whole(text, i, early);
            begin();
            feed(text, len);
            check_tunnel(i, early);
        }
    }
}

/* The client takes one octet at a time, or nothing for a while. */
static void slow_readers(const void *data)
{
    char text[512];
    size_t len = whole(text, 0, "early");
    (void)data;
    begin();
    wire.at_most = 1;
    feed(text, len);
    for (unsigned i = 0; i < 30 && heard.len < 12; i++) {
        miniproxy_wake(wire.client, MINIPROXY_WR);
        feed("", 0);
    }
    HEARD(NO_LOGIN DONE);
    begin();
    wire.is_full = true;
    feed(text, len);
    assert_int_equal(wire.connects, 0);
    wire.is_full = false;
    miniproxy_wake(wire.client, MINIPROXY_WR);
    feed("", 0);
    check_tunnel(0, "early");
}

/* ---- methods ---- */

static void methods(const void *data)
{
    static const struct miniproxy_rule rules[] = {{.verdict = MINIPROXY_ALLOW}};
    static const struct miniproxy_user users[] = {{.name = "anna", .password = "x"}};
    static const struct miniproxy_policy nobody = {.rules = rules, .rule_count = 1},
                                         somebody = {.rules = rules, .rule_count = 1, .users = users, .user_count = 1};
    static const struct {
        struct octets offer;
        unsigned char chosen, chosen_with_users;
    } cases[] = {
        {O("\5\1\0"), 0, 0},        {O("\5\2\0\2"), 0, 2},  {O("\5\2\2\0"), 0, 2},        {O("\5\3\1\0\2"), 0, 2},
        {O("\5\1\2"), 0xff, 2},     {O("\5\1\1"), 255, 255}, {O("\5\0"), 255, 255},       {O("\5\2\3\377"), 255, 255},
        {O("\5\4\200\201\0\1"), 0, 0},
    };
    char list[257] = "\5\377";
    (void)data;
    for (size_t i = 0; i < 2 * sizeof cases / sizeof cases[0]; i++) {
        unsigned char chosen = i % 2 != 0 ? cases[i / 2].chosen_with_users : cases[i / 2].chosen;
        begin_with((struct miniproxy_config){.policy = i % 2 != 0 ? &somebody : &nobody});
        feed(cases[i / 2].offer.data, cases[i / 2].offer.len);
        assert_int_equal(heard.len, 2);
        assert_int_equal(heard.data[0], 5);
        assert_int_equal((unsigned char)heard.data[1], chosen);
        assert_int_equal(wire.events, chosen == 255);
        if (chosen != 255) continue;
        assert_int_equal(wire.event.cause, i % 2 != 0 ? MINIPROXY_CAUSE_LOGIN_MISSING : MINIPROXY_CAUSE_SCHEME);
        assert_int_equal(wire.event.method_len, 0);
        assert_true(wire.event.socks);
        assert_int_equal(wire.proxy.sessions[0].state, STATE_LINGER);
    }
    for (unsigned i = 0; i < 255; i++) list[2 + i] = (char)(i + 3); /* 0 is among them, near the end; 2 is the last */
    begin_with((struct miniproxy_config){.policy = &somebody});
    feed_each(list, 256);
    assert_int_equal(heard.len, 0);
    feed(list + 256, 1);
    HEARD("\5\0");
    list[256] = 2;
    begin_with((struct miniproxy_config){.policy = &somebody});
    feed(list, 257);
    HEARD("\5\2");
}

/* ---- logins ---- */

enum { ANNA, BERT };
static uint8_t entry[MINIPROXY_SALT_LEN + MINIPROXY_DIGEST_LEN] = "saltsalt";
static struct miniproxy_user users[] = {{.name = "anna", .password = "secret", .groups = 1},
                                        {.name = "bert", .digest = entry, .rounds = 40}};
static const struct miniproxy_rule user_rules[] = {{.verdict = MINIPROXY_ALLOW, .users = MINIPROXY_AUTHENTICATED}};
static const struct miniproxy_policy user_policy = {
    .rules = user_rules, .rule_count = 1, .users = users, .user_count = 2};

static void begin_users(unsigned count)
{
    static struct miniproxy_policy policy;
    struct miniproxy_pbkdf2 state;
    miniproxy_sha256_pbkdf2.begin(&state, "bert's", 6, entry, MINIPROXY_SALT_LEN);
    miniproxy_sha256_pbkdf2.go_on(&state, 39);
    miniproxy_sha256_pbkdf2.conclude(&state, entry + MINIPROXY_SALT_LEN);
    policy = user_policy;
    policy.user_count = (uint16_t)count;
    begin_with((struct miniproxy_config){.policy = &policy});
}

/* A secret is nowhere in the instance. */
static bool is_in_memory(const char *secret)
{
    const char *at = (const char *)&wire.proxy, *end = at + sizeof wire.proxy - strlen(secret);
    for (; at < end; at++)
        if (memcmp(at, secret, strlen(secret)) == 0) return true;
    return false;
}

#define REQUEST "\5\1\0\3\11h.example\1\273"

static void right_logins(const void *data)
{
    static const struct octets texts[] = {O("\5\2\0\2" "\1\4anna\6secret" REQUEST "early"),
                                          O("\5\1\2" "\1\4bert\6bert's" REQUEST "early")};
    (void)data;
    for (unsigned i = 0; i < 2; i++) {
        for (unsigned count = i + 1; count <= 2; count++) { /* with passwords that take long, and without */
            for (size_t at = 0; at <= texts[i].len; at++) {
                begin_users(count);
                if (at > 0) feed(texts[i].data, at);
                if (at < texts[i].len) feed(texts[i].data + at, texts[i].len - at);
                HEARD("\5\2\1\0" DONE);
                assert_string_equal(passed_on.data, "early");
                assert_false(is_in_memory(i == ANNA ? "anna:secret" : "bert:bert's"));
                assert_false(is_in_memory(i == ANNA ? "\6secret" : "\6bert's"));
                check_end();
                assert_string_equal(wire.event.user, users[i].name);
                assert_int_equal(wire.event.rule, 0);
            }
            begin_users(count);
            feed_each(texts[i].data, texts[i].len);
            HEARD("\5\2\1\0" DONE);
            check_end();
        }
    }
}

static void wrong_logins(const void *data)
{
    static const struct octets texts[] = {
        O("\1\4anna\6Secret"), O("\1\4anna\7secret "),   O("\1\5annaa\6secret"), O("\1\0\0"),
        O("\1\4anna\0"),       O("\1\6anna:s\5ecret"),   O("\1\0\6secret"),      O("\1\5anna\0\6secret"),
        O("\1\4anna\7secret\n"), O("\1\4bert\6bert''"),  O("\1\13anna:secret\0"), O("\1\4none\6secret"),
    };
    (void)data;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        begin_users(1 + i % 2);
        feed("\5\1\2", 3);
        feed(texts[i].data, texts[i].len);
        feed(REQUEST, sizeof REQUEST - 1);
        HEARD("\5\2\1\1");
        assert_int_equal(wire.events, 1);
        assert_int_equal(wire.event.cause, MINIPROXY_CAUSE_LOGIN_FAILED);
        assert_int_equal(wire.event.status, 407);
        assert_null(wire.event.user);
        assert_int_equal(wire.connects, 0);
        assert_int_equal(wire.proxy.sessions[0].state, STATE_LINGER);
        assert_int_equal(wire.proxy.failures[0].count, 1);
        check_end();
    }
}

/* Failures count for every door together. */
static void throttle(const void *data)
{
    (void)data;
    begin_users(1);
    for (unsigned i = 0; i < MINIPROXY_THROTTLE_FAILURES; i++)
        note_failure(&wire.proxy, &(struct miniproxy_addr){.ip = {127}, .family = 4});
    feed("\5\1\2\1\4anna\6secret", 16);
    HEARD("\5\2\1\1");
    assert_int_equal(wire.event.cause, MINIPROXY_CAUSE_LOGIN_THROTTLED);
    assert_false(is_in_memory("\6secret"));
    check_end();
}

/* A login that is broken off, or takes too long, is as good as a failed one. */
static void broken_off_logins(const void *data)
{
    (void)data;
    begin_users(2);
    wire.proxy.config.timeout_ms[MINIPROXY_TIMEOUT_LOGIN] = 50;
    entry[MINIPROXY_SALT_LEN] ^= 1; /* nobody's password any more */
    users[BERT].rounds = 100000;
    feed("\5\1\2\1\4bert\6bert's", 16);
    HEARD("\5\2");
    assert_int_equal(wire.proxy.sessions[0].state, STATE_LOGIN);
    wire.now_ms = 60;
    feed("", 0);
    HEARD("\5\2\1\1");
    assert_int_equal(wire.event.cause, MINIPROXY_CAUSE_LOGIN_QUEUE);
    assert_false(is_in_memory("bert:bert's"));
    check_end();
    users[BERT].rounds = 40;
}

/* ---- refusals ---- */

static void check_refusal(const char *request, size_t len, unsigned char code, enum miniproxy_cause cause)
{
    char expected[12] = NO_LOGIN DONE;
    expected[3] = (char)code;
    feed("\5\1\0", 3);
    feed(request, len);
    if (heard.len != 12 || memcmp(heard.data, expected, 12) != 0)
        fail_msg("heard %zu octets, code %d instead of %d", heard.len, heard.data[3], code);
    assert_int_equal(wire.events, 1);
    assert_int_equal(wire.event.cause, cause);
    assert_int_equal(wire.event.status, miniproxy_cause_status(cause));
    assert_int_equal(wire.event.source, MINIPROXY_BY_PROXY);
    assert_true(wire.event.socks);
    assert_int_equal(wire.proxy.sessions[0].state, STATE_LINGER);
    check_end();
}
#define REFUSED(request, code, cause) check_refusal(request, sizeof(request) - 1, code, MINIPROXY_CAUSE_##cause)

static void refused_requests(const void *data)
{
    (void)data;
    begin(), REFUSED("\5\2" REQUEST, 1, REQUEST_LINE); /* reserved octet */
    begin(), REFUSED("\5\2\0\3\11h.example\1\273", 7, SCHEME);
    begin(), REFUSED("\5\3\0\1\0\0\0\0\0\0", 7, SCHEME);
    begin(), REFUSED("\5\0\0\3\11h.example\1\273", 7, SCHEME);
    begin(), REFUSED("\4\1\0\3\11h.example\1\273", 1, REQUEST_LINE);
    begin(), REFUSED("GET http://h/ HTTP/1.1\r\n\r\n", 1, REQUEST_LINE);
    begin(), REFUSED("\5\1\0\2\11h.example\1\273", 8, TARGET);
    begin(), REFUSED("\5\1\0\0\11h.example\1\273", 8, TARGET);
    begin(), REFUSED("\5\1\0\3\11h.example\0\0", 8, TARGET);
    begin(), REFUSED("\5\1\0\3\0\1\273", 8, TARGET);
    begin(), REFUSED("\5\1\0\3\11h.ex/mple\1\273", 8, TARGET);
    begin(), REFUSED("\5\1\0\3\15h.example:443\1\273", 8, TARGET);
    begin(), REFUSED("\5\1\0\3\12h.example:\1\273", 8, TARGET);
    begin(), REFUSED("\5\1\0\3\13u@h.example\1\273", 8, TARGET);
    assert_int_equal(wire.event.target_len, 0); /* might hold a password */
    begin(), REFUSED("\5\1\0\3\7" "127.1.1\1\273", 8, TARGET);
    begin(), REFUSED("\5\1\0\3\11h\r\nample.\1\273", 1, REQUEST_LINE);
    assert_int_equal(wire.event.method_len, 0); /* nothing of that goes to a log */
    begin(), REFUSED("\5\1\0\3\11h.exampl\0\1\273", 1, REQUEST_LINE);
    begin(), REFUSED("\5\1\0\3\11h.exampl\377\1\273", 1, REQUEST_LINE);
    begin(), REFUSED("\5\1\0\3\11h.example\0\120", 2, CONNECT_PORT);
    begin(), REFUSED("\5\1\0\1\177\0\0\1\1\273", 2, ADDRESS);
    begin(), REFUSED("\5\1\0\4\0\0\0\0\0\0\0\0\0\0\377\377\177\0\0\1\1\273", 2, ADDRESS);
    begin_users(1), REFUSED(REQUEST, 2, LOGIN_MISSING);
}

static void failed_connections(const void *data)
{
    static const struct {
        int resolve, connect;
        unsigned char code;
        enum miniproxy_cause cause;
    } cases[] = {
        {MINIPROXY_ENAME, 0, 4, MINIPROXY_CAUSE_DNS_NAME},
        {MINIPROXY_EDNS, 0, 4, MINIPROXY_CAUSE_DNS_FAILED},
        {MINIPROXY_ERESOURCES, 0, 1, MINIPROXY_CAUSE_RESOURCES},
        {MINIPROXY_EFAIL, 0, 1, MINIPROXY_CAUSE_INTERNAL},
        {0, MINIPROXY_EREFUSED, 5, MINIPROXY_CAUSE_REFUSED},
        {0, MINIPROXY_EUNREACHABLE, 3, MINIPROXY_CAUSE_UNREACHABLE},
        {0, MINIPROXY_ETIMEDOUT, 6, MINIPROXY_CAUSE_CONNECT_TIMEOUT},
        {0, MINIPROXY_ERESET, 1, MINIPROXY_CAUSE_CONNECT_RESET},
        {0, MINIPROXY_ESELF, 1, MINIPROXY_CAUSE_LOOP},
        {0, MINIPROXY_EFAIL, 1, MINIPROXY_CAUSE_INTERNAL},
    };
    (void)data;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        begin();
        wire.resolve_error = cases[i].resolve;
        wire.connect_error = cases[i].connect;
        check_refusal(REQUEST, sizeof REQUEST - 1, cases[i].code, cases[i].cause);
    }
    begin();
    wire.resolve_error = MINIPROXY_AGAIN;
    feed("\5\1\0" REQUEST, 3 + sizeof REQUEST - 1);
    wire.now_ms = 10000;
    feed("", 0);
    HEARD(NO_LOGIN FAILED("\6"));
    assert_int_equal(wire.event.cause, MINIPROXY_CAUSE_DNS_TIMEOUT);
    begin();
    wire.connect_error = MINIPROXY_AGAIN;
    feed("\5\1\0" REQUEST, 3 + sizeof REQUEST - 1);
    wire.now_ms = 10000;
    feed("", 0);
    HEARD(NO_LOGIN FAILED("\6"));
    assert_int_equal(wire.event.cause, MINIPROXY_CAUSE_CONNECT_TIMEOUT);
}

/* What is still missing when the time of a head is over, or the client goes, tells what can be said. */
static void deadlines(const void *data)
{
    static const struct {
        struct octets text, answer;
    } cases[] = {
        {O("\5"), O("\5\377")},
        {O("\5\2\0"), O("\5\377")},
        {O("\5\2\0\2"), O("\5\2\1\1")},
        {O("\5\2\0\2\1\4anna"), O("\5\2\1\1")},
        {O("\5\2\0\2\1\4anna\6secret"), O("\5\2\1\0" FAILED("\1"))},
        {O("\5\1\0\5\1\0\3\11h.ex"), O("\5\0" FAILED("\1"))},
    };
    (void)data;
    for (size_t i = 0; i < 2 * sizeof cases / sizeof cases[0]; i++) {
        begin_users(1);
        feed_each(cases[i / 2].text.data, cases[i / 2].text.len);
        assert_int_equal(wire.events, 0);
        if (i % 2 != 0) {
            wire.at_end = true;
        } else {
            wire.now_ms = 29998;
            feed("", 0);
            assert_int_equal(wire.events, 0); /* octets do not prolong it */
            wire.now_ms = 30000;
        }
        feed("", 0);
        check_heard(cases[i / 2].answer);
        assert_int_equal(wire.events, 1);
        assert_int_equal(wire.event.cause, i % 2 != 0 ? MINIPROXY_CAUSE_HEAD_CUT : MINIPROXY_CAUSE_HEAD_TIMEOUT);
        assert_false(is_in_memory("\4anna"));
        check_end();
    }
    begin();
    wire.is_full = true; /* part of what was due cannot be followed by anything else */
    feed("\5\1\0", 3);
    wire.is_full = false;
    wire.now_ms = 30000;
    feed("", 0);
    HEARD("");
    assert_int_equal(wire.event.cause, MINIPROXY_CAUSE_HEAD_TIMEOUT);
    check_end();
}

/* ---- the full house, and beside HTTP ---- */

static void next_client(void)
{
    wire.pending = true;
    wire.client = NULL;
    wire.to_proxy.len = wire.to_proxy.read = heard.len = 0;
    miniproxy_wake_accept(&wire.proxy);
}

/* All places are taken, and the next client comes. */
static void fill_house(const char *text, size_t len)
{
    for (unsigned i = 0; i < MINIPROXY_SESSIONS; i++) {
        feed(text, len);
        next_client();
    }
}

static void full_house(const void *data)
{
    (void)data;
    begin();
    fill_house("\5\1\0" REQUEST, 3 + sizeof REQUEST - 1);
    feed("\5\1\0", 3);
    HEARD("\5\0");
    feed(REQUEST, sizeof REQUEST - 1);
    HEARD("\5\0" FAILED("\1"));
    assert_int_equal(wire.event.cause, MINIPROXY_CAUSE_SESSIONS_FULL);
    assert_int_equal(wire.event.status, 503);
    check_end();
    begin();
    fill_house("\5\1\0" REQUEST, 3 + sizeof REQUEST - 1);
    feed("\5\1\0", 3);
    wire.now_ms = 1000;
    feed("", 0);
    HEARD("\5\0" FAILED("\1"));
    check_end();
    begin(); /* the next one makes it hurry */
    fill_house("\5\1\0" REQUEST, 3 + sizeof REQUEST - 1);
    feed("\5\1", 2);
    next_client();
    feed("", 0);
    assert_int_equal(wire.event.cause, MINIPROXY_CAUSE_SESSIONS_FULL);
    check_end();
    begin_users(1); /* nobody's password is looked at where there is no place */
    fill_house("\5\1\2\1\4anna\6secret" REQUEST, 16 + sizeof REQUEST - 1);
    feed("\5\1\2\1\4anna\6Secret", 16);
    HEARD("\5\2\1\1");
    assert_int_equal(wire.event.cause, MINIPROXY_CAUSE_SESSIONS_FULL);
    assert_int_equal(wire.proxy.failures[0].count, 0);
    assert_false(is_in_memory("\6Secret"));
    check_end();
}

static void beside_http(const void *data)
{
    (void)data;
    begin();
    wire.answer = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    feed("GET http://h.example/ HTTP/1.1\r\nHost: h.example\r\n\r\n", 51);
    assert_int_equal(strncmp(heard.data, "HTTP/1.1 200 OK\r\n", 17), 0);
    assert_false(wire.event.socks);
    heard.len = 0;
    feed("\5\1\0", 3); /* who has begun with HTTP goes on so */
    assert_int_equal(strncmp(heard.data, "HTTP/1.1 400 Bad Request\r\n", 26), 0);
    assert_int_equal(wire.event.cause, MINIPROXY_CAUSE_REQUEST_LINE);
    assert_false(wire.event.socks);
    check_end();
    begin();
    feed("\r\n\5\1\0", 5);
    assert_int_equal(strncmp(heard.data, "HTTP/1.1 400 Bad Request\r\n", 26), 0);
    check_end();
    begin();
    feed("\4\1\0", 3);
    assert_int_equal(strncmp(heard.data, "HTTP/1.1 400 Bad Request\r\n", 26), 0);
    check_end();
}

/* Whatever comes: one event at most, nothing left over, no assertion. */
static void any_octets(const void *data)
{
    static const struct octets good = O("\5\2\0\2\1\4bert\6bert's" REQUEST "early");
    char text[600];
    (void)data;
    for (unsigned round = 0; round < 20000; round++) {
        size_t len = good.len, at = 0;
        memcpy(text, good.data, good.len);
        for (unsigned i = unit_random(4); i > 0; i--) text[1 + unit_random((uint32_t)len - 1)] = (char)unit_random(256);
        if (unit_random(4) == 0)
            for (len = sizeof text; at < len; at++) text[at] = (char)(at == 0 ? 5 : unit_random(256));
        begin_users(unit_random(3));
        wire.at_most = unit_random(3);
        for (at = 0; at < len;) {
            size_t n = 1 + unit_random((uint32_t)(len - at));
            feed(text + at, n);
            at += n;
            miniproxy_wake(wire.client, MINIPROXY_WR);
        }
        for (unsigned i = 0; i < 20; i++) {
            miniproxy_wake(wire.client, MINIPROXY_WR);
            feed("", 0);
        }
        assert_true(heard.len <= 14);
        assert_true(wire.events <= 1);
        check_end();
        assert_int_equal(wire.events, 1);
    }
}

int main(void)
{
    static struct unit_test tests[] = {
        {"names and addresses, in all pieces [N02,N05]", every_split, NULL, false},
        {"a buffer full of octets behind the request [N05]", full_buffers, NULL, false},
        {"clients that take little at once [N05]", slow_readers, NULL, false},
        {"the method that is chosen [N01]", methods, NULL, false},
        {"logins, in all pieces, leave no password behind [N03,N05]", right_logins, NULL, false},
        {"failed logins [N03]", wrong_logins, NULL, false},
        {"failed logins are throttled [N03]", throttle, NULL, false},
        {"logins that end early [N03,N05]", broken_off_logins, NULL, false},
        {"requests that are refused, and how [N02,N03,N04]", refused_requests, NULL, false},
        {"connections that fail, and how that is told [N04]", failed_connections, NULL, false},
        {"deadlines and clients that go [N05]", deadlines, NULL, false},
        {"a full house answers in SOCKS [N04]", full_house, NULL, false},
        {"HTTP beside it is as it was [N01]", beside_http, NULL, false},
        {"any octets [N05]", any_octets, NULL, false},
    };
    return unit_run("socks", tests, sizeof tests / sizeof tests[0]);
}

/* SPDX-License-Identifier: MIT
 *
 * Pages of the proxy's own, what they say and to whom; maintenance.
 */
#include <stdlib.h>
#define MINIPROXY_ASSERT(condition) ((condition) ? (void)0 : abort())
#define MINIPROXY_WITH_PAGES 1
#define MINIPROXY_WITH_METRICS 1
#define MINIPROXY_WITH_STATUS 1
#define MINIPROXY_WITH_PAC 1
#define MINIPROXY_WITH_MAINTENANCE 1
#define MINIPROXY_WITH_HITS 1
#define MINIPROXY_WITH_ROUTES 1
#define MINIPROXY_WITH_INTERCEPTION 1
#define MINIPROXY_RECORDS 3
#define MINIPROXY_SESSIONS 4
#define MINIPROXY_SESSIONS_PER_CLIENT 4
#define MINIPROXY_BUFFER_SIZE 640
#define MINIPROXY_LINE_KEEP 64
#define WIRE_MAX 80000
#include "../../miniproxy.c"
#include "unit.h"
#include "wire.h"

enum { PLAIN, INTERCEPTING, SPEAKING_TLS }; /* listeners */

static const struct miniproxy_user users[] = {{.name = "ann", .password = "secret", .groups = 1}};
static const char *const metrics_path[] = {"/metrics"}, *const pac_path[] = {"/proxy.pac"};
static const struct miniproxy_texts metrics_paths = {metrics_path, 1}, pac_paths = {pac_path, 1};
static const struct miniproxy_also only_metrics = {.paths = &metrics_paths}, only_pac = {.paths = &pac_paths};
static const struct miniproxy_hop hops[] = {
    {.host = "up.example", .port = 3128}, {.host = "down.example", .port = 3128}, {.host = "192.0.2.1", .port = 80}};
static struct miniproxy_health health[3];
static uint32_t hits[4];

/* Pages for everybody, for those who log in, for nobody. */
static const struct miniproxy_rule open_rules[] = {{.verdict = MINIPROXY_ALLOW, .methods = MINIPROXY_PAGES},
                                                   {.verdict = MINIPROXY_ALLOW}};
static const struct miniproxy_rule login_rules[] = {
    {.verdict = MINIPROXY_ALLOW, .methods = MINIPROXY_PAGES, .users = 1, .also = &only_metrics},
    {.verdict = MINIPROXY_ALLOW, .methods = MINIPROXY_PAGES, .users = 1, .also = &only_pac},
    {.verdict = MINIPROXY_ALLOW}};
static const struct miniproxy_policy open_policy = {.rules = open_rules, .rule_count = 2, .hits = hits};
static const struct miniproxy_policy login_policy = {.rules = login_rules, .rule_count = 3, .users = users, .user_count = 1};
static const struct miniproxy_policy hop_policy = {
    .rules = open_rules, .rule_count = 2, .hits = hits, .hops = hops, .hop_count = 3, .health = health};

#define NAMED "Host: router.example:3128\r\n\r\n" /* one of the names that the configuration knows */
#define LOGIN "Basic YW5uOnNlY3JldA==" /* ann:secret */
#define WRONG "Basic YW5uOndyb25n"

static void begin_with(struct miniproxy_config config)
{
    static const char *const list[] = {"proxy.example", "router.example"};
    static const struct miniproxy_texts names = {list, 2};
    config.page_names = &names;
    memset(hits, 0, sizeof hits);
    memset(health, 0, sizeof health);
    if (config.policy == NULL) config.policy = &open_policy;
    config.intercepts = 1u << INTERCEPTING;
    wire_start(config);
}

static void begin(const struct miniproxy_policy *policy)
{
    begin_with((struct miniproxy_config){.policy = policy});
}

static void next_client(void)
{
    miniproxy_stop(&wire.proxy);
    assert_int_equal(wire.proxy.counters.active, 0);
    assert_int_equal(wire.proxy.counters.buffers, 0);
    wire.proxy.draining = 0;
    wire.client = NULL;
    wire.closed = false;
    wire.pending = true;
    miniproxy_wake_accept(&wire.proxy);
    wire.to_proxy.len = wire.to_proxy.read = 0;
}

static bool begins(const char *with)
{
    return strncmp(wire.to_client.data, with, strlen(with)) == 0;
}

static bool has(const char *text)
{
    return strstr(wire.to_client.data, text) != NULL;
}

static const char *body(void)
{
    const char *end = strstr(wire.to_client.data, "\r\n\r\n");
    assert_non_null(end);
    return end + 4;
}

static void check_length(void)
{
    const char *field = strstr(wire.to_client.data, "Content-Length: ");
    assert_non_null(field);
    assert_int_equal(strtoul(field + 16, NULL, 10), strlen(body()));
}

/* The content of chunks. */
static const char *chunks(void)
{
    static char text[sizeof wire.to_client.data];
    const char *at = body();
    size_t len = 0;
    assert_true(has("Transfer-Encoding: chunked\r\n"));
    assert_false(has("Content-Length"));
    for (;;) {
        char *end;
        size_t n = strtoul(at, &end, 16);
        assert_memory_equal(end, "\r\n", 2);
        memcpy(text + len, end + 2, n);
        len += n;
        at = end + 2 + n;
        assert_memory_equal(at, "\r\n", 2);
        at += 2;
        if (n == 0) break;
    }
    assert_string_equal(at, "");
    text[len] = '\0';
    return text;
}

/* ---- which and to whom ---- */

static void test_health(const void *data)
{
    (void)data;
    begin(&open_policy);
    say("GET /health HTTP/1.1\r\n" NAMED);
    assert_true(begins("HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nCache-Control: no-store\r\n"));
    assert_string_equal(body(), "ok\n");
    check_length();
    assert_int_equal(wire.event.status, 200);
    assert_int_equal(wire.event.rule, 0);
    assert_int_equal(wire.event.source, MINIPROXY_BY_PROXY);
    say("HEAD /health?x=1 HTTP/1.1\r\n" NAMED); /* on the same connection */
    assert_true(begins("HTTP/1.1 200 OK\r\n"));
    assert_true(has("Content-Length: 3\r\n"));
    assert_string_equal(body(), "");
    say("GET http://MiniProxy.Internal/health HTTP/1.1\r\nHost: miniproxy.internal\r\n\r\n");
    assert_string_equal(body(), "ok\n");
    say("GET http://miniproxy.internal:81/health HTTP/1.1\r\nHost: miniproxy.internal:81\r\n\r\n"); /* somebody else */
    assert_string_equal(wire.host, "miniproxy.internal");
    next_client();
    say("GET /health HTTP/1.0\r\n\r\n");
    assert_true(begins("HTTP/1.1 200 OK\r\n"));
    assert_true(has("Connection: close\r\n"));
    next_client();
    say("GET /health HTTP/1.1\r\n\r\n"); /* RFC 9112 section 3.2 */
    assert_true(begins("HTTP/1.1 400 "));
    next_client();
}

static void test_other_paths_and_methods(const void *data)
{
    static const char *const targets[] = {"/healthy", "/health/",   "/Health", "/metric", "/%68ealth",
                                          "//health", "/index.html", "/nothing"};
    char text[128];
    (void)data;
    for (unsigned i = 0; i < sizeof targets / sizeof *targets; i++) {
        begin(&open_policy);
        snprintf(text, sizeof text, "GET %s HTTP/1.1\r\n" NAMED, targets[i]);
        say(text);
        assert_true(begins("HTTP/1.1 400 Bad Request\r\n"));
        assert_string_equal(miniproxy_cause_token(wire.event.cause), "not_a_proxy_request");
        assert_false(wire.event.page);
        next_client();
        snprintf(text, sizeof text, "GET http://miniproxy.internal%s HTTP/1.1\r\n" NAMED, targets[i]);
        say(text);
        assert_true(begins("HTTP/1.1 404 Not Found\r\n"));
        assert_string_equal(miniproxy_cause_token(wire.event.cause), "no_such_page");
        assert_true(wire.event.page);
        check_length();
        next_client();
    }
    say("GET /proxy.pac HTTP/1.1\r\n" NAMED); /* W02: off */
    assert_true(begins("HTTP/1.1 404 "));
    say("DELETE /metrics HTTP/1.1\r\n" NAMED);
    assert_true(begins("HTTP/1.1 405 Method Not Allowed\r\n"));
    assert_true(has("\r\nAllow: GET, HEAD\r\n"));
    say("POST /metrics HTTP/1.1\r\nContent-Length: 5\r\n" NAMED);
    assert_true(begins("HTTP/1.1 405 "));
    assert_true(has("Connection: close\r\n")); /* its body was not read */
    next_client();
    say("TRACE http://h.example/ HTTP/1.1\r\nMax-Forwards: 0\r\nHost: h.example\r\n\r\n"); /* what others may */
    assert_true(has("Allow: GET, HEAD, POST"));
    next_client();
}

/* Who may see them is said by rules that name them. */
static void test_policy_decides(const void *data)
{
    static const struct miniproxy_rule rules[] = {{.verdict = MINIPROXY_ALLOW}};
    static const struct miniproxy_policy policy = {.rules = rules, .rule_count = 1};
    (void)data;
    begin(&policy);
    say("GET /health HTTP/1.1\r\n" NAMED);
    assert_true(begins("HTTP/1.1 403 "));
    say("GET http://miniproxy.internal/ HTTP/1.1\r\n" NAMED);
    assert_true(begins("HTTP/1.1 403 "));
    next_client();
}

static void test_logins(const void *data)
{
    (void)data;
    begin(&login_policy);
    say("GET /metrics HTTP/1.1\r\n" NAMED);
    assert_true(begins("HTTP/1.1 401 Unauthorized\r\n"));
    assert_true(has("\r\nWWW-Authenticate: Basic realm=\"proxy\", charset=\"UTF-8\"\r\n"));
    assert_false(has("Proxy-Authenticate"));
    say("GET /metrics HTTP/1.1\r\nAuthorization: " WRONG "\r\n" NAMED);
    assert_true(begins("HTTP/1.1 401 "));
    assert_string_equal(miniproxy_cause_token(wire.event.cause), "page_login_failed");
    assert_true(wire.event.page);
    say("GET /metrics HTTP/1.1\r\nProxy-Authorization: " WRONG "\r\nAuthorization: " LOGIN "\r\n" NAMED);
    assert_true(begins("HTTP/1.1 200 "));
    assert_string_equal(wire.event.user, "ann");
    say("GET /metrics HTTP/1.1\r\nAuthorization: " LOGIN "\r\nProxy-Authorization: " WRONG "\r\n" NAMED);
    assert_true(begins("HTTP/1.1 200 "));
    say("GET /log HTTP/1.1\r\nAuthorization: " LOGIN "\r\n" NAMED);
    assert_true(begins("HTTP/1.1 403 "));
    say("GET http://miniproxy.internal/metrics HTTP/1.1\r\nAuthorization: " LOGIN "\r\n" NAMED);
    assert_true(begins("HTTP/1.1 407 "));
    assert_true(has("Proxy-Authenticate: "));
    say("GET http://miniproxy.internal/metrics HTTP/1.1\r\nProxy-Authorization: " LOGIN "\r\n" NAMED);
    assert_true(begins("HTTP/1.1 200 "));
    /* W01: what fetches a PAC file cannot log in. */
    say("GET /proxy.pac HTTP/1.1\r\n" NAMED);
    assert_true(begins("HTTP/1.1 403 "));
    next_client();
}

/* To an origin Authorization is passed on, and is no login here. */
static void test_authorization_of_origins(const void *data)
{
    (void)data;
    begin(&login_policy);
    wire.answer = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    say("GET http://h.example/metrics HTTP/1.1\r\nHost: h.example\r\nAuthorization: " WRONG "\r\n\r\n");
    assert_non_null(strstr(wire.to_origin.data, "Authorization: " WRONG "\r\n"));
    assert_true(begins("HTTP/1.1 200 "));
    next_client();
}

/* What a router has diverted was meant for an origin. */
static void test_diverted(const void *data)
{
    (void)data;
    begin(&open_policy);
    wire.listener = INTERCEPTING;
    wire.meant = (struct miniproxy_addr){.ip = {198, 50}, .family = 4, .port = 80};
    say("GET /health HTTP/1.1\r\nHost: h.example\r\n\r\n");
    assert_string_equal(wire.host, "h.example");
    next_client();
}

static char too_long[MINIPROXY_PAGE_MAX + 2], long_type[600];

static const char *own_page(void *app, const char *path, size_t len, const char **type)
{
    (void)app;
    if (len == 6 && memcmp(path, "/about", 6) == 0) return "me\n";
    if (len == 5 && memcmp(path, "/long", 5) == 0) return too_long;
    if (len == 5 && memcmp(path, "/type", 5) == 0) *type = long_type;
    if (len == 5 && memcmp(path, "/type", 5) == 0) return "typed\n";
    if (len != 7 || memcmp(path, "/health", 7) != 0) return NULL;
    *type = "text/html";
    return "<p>fine";
}

static void test_pages_of_the_product(const void *data)
{
    (void)data;
    begin_with((struct miniproxy_config){.page = own_page});
    say("GET /about HTTP/1.1\r\n" NAMED);
    assert_string_equal(body(), "me\n");
    assert_true(has("Content-Type: text/plain; charset=utf-8\r\n"));
    say("GET /health HTTP/1.1\r\n" NAMED);
    assert_string_equal(body(), "<p>fine");
    assert_true(has("Content-Type: text/html\r\n"));
    say("GET /metrics HTTP/1.1\r\n" NAMED);
    assert_true(has("chunked"));
    memset(too_long, 'x', MINIPROXY_PAGE_MAX + 1);
    say("GET /long HTTP/1.1\r\n" NAMED);
    assert_true(begins("HTTP/1.1 404 "));
    memset(long_type, 't', MINIPROXY_PAGE_TYPE_MAX);
    say("GET /type HTTP/1.1\r\n" NAMED);
    assert_true(has(long_type));
    assert_string_equal(body(), "typed\n");
    memset(long_type, 't', MINIPROXY_PAGE_TYPE_MAX + 1);
    say("GET /type HTTP/1.1\r\n" NAMED);
    assert_true(begins("HTTP/1.1 404 "));
    memset(long_type, 't', sizeof long_type - 1);
    say("GET /type HTTP/1.1\r\n" NAMED);
    assert_true(begins("HTTP/1.1 404 "));
    next_client();
}

/* A browser that a foreign name has led here would show its scripts what it gets: DNS rebinding. */
static void test_foreign_names(const void *data)
{
    static const struct {
        const char *host;
        bool is_ours;
    } hosts[] = {{"127.0.0.1:3128", true},        {"[::1]", true},           {"router", true},
                 {"LOCALHOST:3128", true},        {"Router.Example", true},  {"proxy.example:80", true},
                 {"miniproxy.internal", true},    {"evil.example", false},   {"router.example.evil", false},
                 {"x.router.example:3128", false}, {"1.2.3.4.evil", false},  {"router.example.", false}};
    char text[128];
    (void)data;
    for (unsigned i = 0; i < sizeof hosts / sizeof hosts[0]; i++) {
        begin(&open_policy);
        snprintf(text, sizeof text, "GET /log HTTP/1.1\r\nHost: %s\r\n\r\n", hosts[i].host);
        say(text);
        assert_true(begins(hosts[i].is_ours ? "HTTP/1.1 200 " : "HTTP/1.1 400 "));
        if (!hosts[i].is_ours) assert_string_equal(miniproxy_cause_token(wire.event.cause), "not_a_proxy_request");
        snprintf(text, sizeof text, "GET /health HTTP/1.1\r\nHost: %s\r\n\r\n", hosts[i].host);
        say(text);
        assert_true(begins("HTTP/1.1 200 "));
        next_client();
    }
}

/* ---- metrics ---- */

static char metrics[32768];

/* All of it, by the C API. */
static void read_metrics(void)
{
    size_t len = 0, n;
    for (unsigned at = 0; (n = miniproxy_metrics(&wire.proxy, at, metrics + len, MINIPROXY_METRICS_GROUP)) > 0; at++) {
        assert_true(n < MINIPROXY_METRICS_GROUP);
        len += n;
        assert_int_equal(metrics[len - 1], '\n');
    }
    metrics[len] = '\0';
}

static long value_of(const char *sample)
{
    char line[128];
    const char *at;
    snprintf(line, sizeof line, "\n%s ", sample);
    at = strstr(metrics, line);
    if (at == NULL) print_message("no sample %s\n", sample);
    assert_non_null(at);
    return strtol(at + strlen(line), NULL, 10);
}

static void test_metrics_count(const void *data)
{
    (void)data;
    begin(&open_policy);
    wire.answer = "HTTP/1.1 204 No Content\r\n\r\n";
    say("GET http://h.example/ HTTP/1.1\r\nHost: h.example\r\n\r\n");
    say("GET http://h.example/ HTTP/1.1\r\nHost: h.example\r\n\r\n");
    say("GET http://miniproxy.internal/nothing HTTP/1.1\r\n" NAMED);
    next_client();
    wire.resolve_error = MINIPROXY_ENAME;
    say("GET http://h.example/ HTTP/1.1\r\nHost: h.example\r\n\r\n");
    read_metrics();
    assert_int_equal(value_of("miniproxy_requests_total"), 4);
    assert_int_equal(value_of("miniproxy_connections_total"), 2);
    assert_int_equal(value_of("miniproxy_reuses_total"), 1);
    assert_int_equal(value_of("miniproxy_codes_total{code=\"204\"}"), 2);
    assert_int_equal(value_of("miniproxy_codes_total{code=\"404\"}"), 1);
    assert_int_equal(value_of("miniproxy_responses_total{class=\"2xx\"}"), 2);
    assert_int_equal(value_of("miniproxy_causes_total{cause=\"name_not_found\",status=\"502\"}"), 1);
    assert_int_equal(value_of("miniproxy_causes_total{cause=\"no_such_page\",status=\"404\"}"), 1);
    assert_int_equal(value_of("miniproxy_dns_seconds_count"), 2);
    assert_int_equal(value_of("miniproxy_connect_seconds_count"), 1);
    assert_int_equal(value_of("miniproxy_first_byte_seconds_count"), 2);
    assert_int_equal(value_of("miniproxy_transaction_seconds_count"), 4);
    assert_int_equal(value_of("miniproxy_rule_hits_total{rule=\"0\"}"), 1);
    assert_int_equal(value_of("miniproxy_rule_hits_total{rule=\"1\"}"), 2);
    assert_int_equal(value_of("miniproxy_rule_hits_total{rule=\"none\"}"), 1); /* it would have depended on the address */
    assert_int_equal(value_of("miniproxy_sessions"), 1);
    assert_int_equal(value_of("miniproxy_sessions_limit"), 4);
    assert_int_equal(value_of("miniproxy_condition{miniproxy_condition=\"ok\"}"), 1);
    assert_int_equal(value_of("miniproxy_condition{miniproxy_condition=\"draining\"}"), 0);
    assert_int_equal(value_of("miniproxy_received_bytes_total"), (long)wire.proxy.counters.bytes_up);
    next_client();
}

/* A family is named once and its samples follow; the last line is the last. */
static void test_metrics_are_families(const void *data)
{
    char family[64] = "", seen[4096] = "", name[80], *line;
    unsigned samples = 1;
    (void)data;
    begin(&hop_policy);
    read_metrics();
    for (line = strtok(metrics, "\n"); line != NULL; line = strtok(NULL, "\n")) {
        assert_string_not_equal(family, "# EOF");
        if (strcmp(line, "# EOF") == 0) {
            snprintf(family, sizeof family, "# EOF");
        } else if (sscanf(line, "# TYPE %63s", family) == 1) {
            assert_true(samples > 0);
            samples = 0;
            snprintf(name, sizeof name, " %s ", family);
            assert_null(strstr(seen, name));
            strcat(seen, name);
        } else if (line[0] == '#') {
            assert_int_equal(sscanf(line, "# %*[A-Z] %79s", name), 1);
            assert_string_equal(name, family);
        } else {
            assert_memory_equal(line, family, strlen(family));
            assert_non_null(strchr(" _{", line[strlen(family)]));
            samples++;
        }
    }
    assert_string_equal(family, "# EOF");
    next_client();
}

static void test_metrics_of_hops(const void *data)
{
    (void)data;
    begin(&hop_policy);
    health[0].used = 7;
    health[1].down = 1;
    health[1].failed = 4;
    read_metrics();
    assert_int_equal(value_of("miniproxy_hop_up{name=\"up.example:3128\",kind=\"parent\",hop=\"0\"}"), 1);
    assert_int_equal(value_of("miniproxy_hop_up{name=\"down.example:3128\",kind=\"parent\",hop=\"1\"}"), 0);
    assert_int_equal(value_of("miniproxy_hop_uses_total{name=\"up.example:3128\",kind=\"parent\",hop=\"0\"}"), 7);
    assert_int_equal(value_of("miniproxy_hop_failures_total{name=\"down.example:3128\",kind=\"parent\",hop=\"1\"}"), 4);
    next_client();
}

static size_t own_metrics(void *app, unsigned at, char *out, size_t room)
{
    (void)app;
    return at < 2 ? (size_t)snprintf(out, room, "# TYPE own%u gauge\nown%u %u\n", at, at, at) : 0;
}

static struct miniproxy_counters sum = {.requests = 4711};

static const struct miniproxy_counters *totals(void *app)
{
    (void)app;
    return &sum;
}

static void test_metrics_of_the_product(const void *data)
{
    (void)data;
    begin_with((struct miniproxy_config){.metrics = own_metrics, .totals = totals});
    read_metrics();
    assert_int_equal(value_of("own1"), 1);
    assert_int_equal(value_of("miniproxy_requests_total"), 4711);
    assert_string_equal(strstr(metrics, "# TYPE own1"), "# TYPE own1 gauge\nown1 1\n# EOF\n");
    assert_int_equal(miniproxy_metrics(&wire.proxy, 10000, metrics, sizeof metrics), 0);
    assert_int_equal(miniproxy_metrics(&wire.proxy, 0, metrics, MINIPROXY_METRICS_GROUP - 1), 0);
    next_client();
}

static void test_numbers(const void *data)
{
    static const struct {
        uint64_t value;
        const char *text, *seconds;
    } numbers[] = {{0, "0", "0.000"},
                   {9, "9", "0.009"},
                   {10, "10", "0.010"},
                   {999, "999", "0.999"},
                   {1000, "1000", "1.000"},
                   {65535, "65535", "65.535"},
                   {65536, "65536", "65.536"},
                   {4294967296u, "4294967296", "4294967.296"},
                   {UINT64_MAX, "18446744073709551615", "18446744073709551.615"}};
    (void)data;
    for (unsigned i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        unsigned char text[32];
        *put_long(text, numbers[i].value) = '\0';
        assert_string_equal((char *)text, numbers[i].text);
        *put_seconds(text, numbers[i].value) = '\0';
        assert_string_equal((char *)text, numbers[i].seconds);
    }
}

/* ---- the last transactions ---- */

static void test_records(const void *data)
{
    const struct miniproxy_record *r;
    (void)data;
    begin(&open_policy);
    assert_null(miniproxy_recent(&wire.proxy, 0));
    wire.answer = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    say("GET http://h.example/a?token=1 HTTP/1.1\r\nHost: h.example\r\n\r\n");
    say("GET http://miniproxy.internal/nothing?secret=2 HTTP/1.1\r\n" NAMED);
    for (unsigned i = 0; i < 5; i++) {
        wire.now_ms += 10;
        say("GET http://h.example/b HTTP/1.1\r\nHost: h.example\r\n\r\n");
    }
    /* what does not go well is not pushed out by what does */
    for (unsigned i = 0; i < 3; i++) {
        r = miniproxy_recent(&wire.proxy, i);
        assert_non_null(r);
        assert_int_equal(r->id, 7 - i);
        assert_int_equal(r->status, 200);
        assert_int_equal(r->rule, 1);
    }
    r = miniproxy_recent(&wire.proxy, 3);
    assert_non_null(r);
    assert_int_equal(r->status, 404);
    assert_int_equal(r->id, 2);
    assert_int_equal(r->line_len, 37);
    assert_memory_equal(r->line, "GET http://miniproxy.internal/nothing", 37);
    assert_null(miniproxy_recent(&wire.proxy, 4));
    next_client();
}

static void test_records_keep_no_secrets(const void *data)
{
    static const struct {
        const char *target, *kept;
    } lines[] = {{"http://h.example/a?token=1", "http://h.example/a"},
                 {"http://h.example?token=1", "http://h.example"},
                 {"http://h.example/a@b?c", "http://h.example/a@b"},
                 {"http://h.example/?u=http://x:y@z/", "http://h.example/"},
                 {"/none?a=b", "/none"}};
    (void)data;
    wire.answer = NULL;
    for (unsigned i = 0; i < sizeof lines / sizeof *lines; i++) {
        char text[256];
        const struct miniproxy_record *r;
        begin(&open_policy);
        wire.resolve_error = MINIPROXY_EDNS;
        snprintf(text, sizeof text, "GET %s HTTP/1.1\r\nHost: h.example\r\n\r\n", lines[i].target);
        say(text);
        r = miniproxy_recent(&wire.proxy, 0);
        assert_non_null(r);
        snprintf(text, sizeof text, "GET %s", lines[i].kept);
        assert_int_equal(r->line_len, strlen(text));
        assert_memory_equal(r->line, text, strlen(text));
        next_client();
    }
}

/* Who watches the proxy does not change what he sees. */
static void test_pages_are_counted_apart(const void *data)
{
    const struct miniproxy_counters *c = miniproxy_counters(&wire.proxy);
    (void)data;
    begin(&open_policy);
    say("GET /health HTTP/1.1\r\n" NAMED);
    say("GET /metrics HTTP/1.1\r\n" NAMED);
    assert_int_equal(c->pages, 2);
    assert_int_equal(c->page_bytes_up, c->bytes_up);
    assert_int_equal(c->page_bytes_down, c->bytes_down);
    assert_true(c->page_bytes_down > 1000);
    assert_int_equal(c->requests, 0);
    assert_int_equal(c->status[2], 0);
    assert_int_equal(c->code[MINIPROXY_CODE_200], 0);
    assert_int_equal(c->total.count, 0);
    assert_int_equal(c->accepted, 1); /* what they are part of, and the text for it says so */
    assert_int_equal(hits[0], 2);
    read_metrics();
    assert_non_null(strstr(metrics, "Pages of the proxy's own; otherwise only in connections, octets and hits of rules.\n"));
    assert_null(miniproxy_recent(&wire.proxy, 0));
    say("PUT /health HTTP/1.1\r\n" NAMED);
    assert_int_equal(c->pages, 2);
    assert_int_equal(c->requests, 1);
    assert_int_equal(c->code[MINIPROXY_CODE_405], 1);
    assert_non_null(miniproxy_recent(&wire.proxy, 0));
    next_client();
}

static void test_log_page(const void *data)
{
    const char *text;
    (void)data;
    begin(&open_policy);
    say("GET http://miniproxy.internal/a\"b<c HTTP/1.1\r\n" NAMED);
    say("GET /log HTTP/1.1\r\n" NAMED);
    text = chunks();
    assert_string_equal(text, "{\"method\":\"GET\",\"user\":\"\",\"target\":\"http://miniproxy.internal/a\\u0022b<c\",\"by\":\"proxy\",\"cause\":"
                              "\"no_such_page\",\"id\":1,\"status\":404,\"ago_ms\":0,\"ms\":0,\"up\":75,\"down\":207,"
                              "\"client\":\"127.0.0.0\",\"rule\":0}\n");
    next_client();
}

/* An answer of the proxy's own has no address of an origin, whatever connection an earlier request left. */
static void test_log_of_answers_that_went_nowhere(const void *data)
{
    (void)data;
    begin(&open_policy);
    wire.answer = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    say("GET http://o.example/ HTTP/1.1\r\nHost: o.example\r\n\r\n");
    assert_int_equal(wire.event.address->family, 4);
    assert_int_equal(miniproxy_recent(&wire.proxy, 0)->address.family, 4);
    say("GET http://o.example/ HTTP/1.1\r\nHost: o.example\r\n\r\n");
    assert_true(wire.event.reused);
    assert_int_equal(wire.event.address->family, 4);
    say("OPTIONS * HTTP/1.1\r\n" NAMED);
    assert_int_equal(wire.event.status, 200);
    assert_int_equal(wire.event.address->family, 0);
    assert_int_equal(miniproxy_recent(&wire.proxy, 0)->address.family, 0);
    next_client();
}

/* Text is passed on; octets that are none are named, so that a line is text whatever was kept, or cut. */
static void test_log_is_text(const void *data)
{
    static const struct {
        const char *text, *json;
    } cases[] = {{"M\xc3\xbcller", "M\xc3\xbcller"},
                 {"\xe2\x82\xac\xf0\x9f\x98\x80", "\xe2\x82\xac\xf0\x9f\x98\x80"},
                 {"\xc2\xa0\xdf\xbf\xe0\xa0\x80", "\xc2\xa0\xdf\xbf\xe0\xa0\x80"},
                 {"\xed\x9f\xbf\xee\x80\x80", "\xed\x9f\xbf\xee\x80\x80"},
                 {"\xf0\x90\x80\x80\xf4\x8f\xbf\xbf", "\xf0\x90\x80\x80\xf4\x8f\xbf\xbf"},
                 {"\"\\\x1f\x7f", "\\u0022\\u005c\\u001f\\u007f"},
                 {"a\xc3", "a\\\\xc3"}, /* cut */
                 {"a\xf0\x9f\x98", "a\\\\xf0\\\\x9f\\\\x98"},
                 {"\xe4" "b", "\\\\xe4b"},
                 {"\x80", "\\\\x80"},
                 {"\xc1\xbf", "\\\\xc1\\\\xbf"}, /* too long */
                 {"\xe0\x9f\xbf", "\\\\xe0\\\\x9f\\\\xbf"},
                 {"\xf0\x8f\xbf\xbf", "\\\\xf0\\\\x8f\\\\xbf\\\\xbf"},
                 {"\xc2\x9b", "\\\\xc2\\\\x9b"}, /* a control character */
                 {"\xed\xa0\x80", "\\\\xed\\\\xa0\\\\x80"}, /* half of a pair of UTF-16 */
                 {"\xed\xbf\xbf", "\\\\xed\\\\xbf\\\\xbf"},
                 {"\xf4\x90\x80\x80", "\\\\xf4\\\\x90\\\\x80\\\\x80"}, /* above U+10FFFF */
                 {"\xf5\xff", "\\\\xf5\\\\xff"}};
    unsigned char out[2048];
    (void)data;
    begin(&open_policy);
    wire.proxy.records_at[1] = 1;
    for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct miniproxy_record *r = &wire.proxy.records[1][0];
        char want[128];
        memset(r, 0, sizeof *r);
        r->id = 1;
        r->user_len = (uint8_t)strlen(cases[i].text);
        assert_in_range(r->user_len, 1, sizeof r->user);
        memcpy(r->user, cases[i].text, r->user_len);
        out[log_piece(&wire.proxy, 0, out, sizeof out)] = '\0';
        snprintf(want, sizeof want, ",\"user\":\"%s\",", cases[i].json);
        if (strstr((char *)out, want) == NULL) fail_msg("%s %s", want, (char *)out);
        memset(r, 0, sizeof *r);
    }
    next_client();
}

/* The longest line there can be fits where it is allowed to, and is whole; the target has what is left. */
static void test_log_lines_know_their_room(const void *data)
{
    static unsigned char out[2048];
    struct miniproxy_record *r;
    (void)data;
    begin(&open_policy);
    r = &wire.proxy.records[1][0];
    memset(r, 0xff, sizeof *r);
    wire.proxy.records_at[1] = 1;
    wire.proxy.now_ms = r->ended_ms - 1; /* so long ago */
    memset(r->line, 'M', sizeof r->line);
    memset(r->line + MINIPROXY_METHOD_MAX, '"', sizeof r->line - MINIPROXY_METHOD_MAX);
    r->method_len = MINIPROXY_METHOD_MAX;
    r->line_len = sizeof r->line;
    r->user_len = sizeof r->user;
    r->source = MINIPROXY_BY_NOBODY;
    r->rule = INT16_MAX;
    r->client.family = r->address.family = 6;
    for (unsigned cause = 0; cause < MINIPROXY_CAUSE_COUNT; cause++) {
        r->cause = (uint8_t)cause;
        for (size_t room = MINIPROXY_METRICS_GROUP; room < 1200; room++) {
            size_t n;
            memset(out, 0, sizeof out);
            n = log_piece(&wire.proxy, 0, out, room);
            assert_in_range(n, 300, room);
            assert_int_equal(out[n], 0);
            assert_memory_equal(out, "{\"method\":\"MMMM", 15);
            assert_memory_equal(out + n - 15, ",\"rule\":32767}\n", 15);
            if (cause > 0) continue;
            memcpy(r->line + MINIPROXY_METHOD_MAX + 1, "\xf0\x9f\x98\x80\xf0\x9f\x98\x80\xf0\x9f\x98\x80", 12);
            assert_in_range(log_piece(&wire.proxy, 0, out, room), 300, room);
            memset(r->line + MINIPROXY_METHOD_MAX, '"', sizeof r->line - MINIPROXY_METHOD_MAX);
        }
    }
    memset(r, 0, sizeof *r);
    next_client();
}

/* ---- in pieces ---- */

static void let_it_read(void)
{
    for (unsigned i = 0; i < 4000; i++) {
        miniproxy_wake(wire.client, MINIPROXY_WR);
        wire_run();
    }
}

/* However little a client takes at once, and however small the buffers, it gets the same. */
static void test_pieces(const void *data)
{
    static char whole[sizeof wire.to_client.data];
    static const char *const targets[] = {"/log", "/", "/proxy.pac", "/health"};
    (void)data;
    for (unsigned i = 0; i < sizeof targets / sizeof *targets; i++) {
        for (unsigned at_most = 0; at_most < 40; at_most += 1 + at_most / 4) {
            static const struct miniproxy_pac pac = {.falls_back = true};
            char text[128];
            begin_with((struct miniproxy_config){.pac = &pac});
            wire.at_most = at_most;
            for (unsigned k = 0; k < 5; k++) {
                say("GET http://miniproxy.internal/nothing HTTP/1.1\r\n" NAMED);
                let_it_read();
            }
            snprintf(text, sizeof text, "GET %s HTTP/1.1\r\n" NAMED, targets[i]);
            say(text);
            let_it_read();
            if (at_most == 0) strcpy(whole, wire.to_client.data);
            else assert_string_equal(wire.to_client.data, whole);
            say("GET /health HTTP/1.1\r\n" NAMED);
            let_it_read();
            assert_string_equal(body(), "ok\n");
            next_client();
        }
    }
}

/* What begins with the rules of one policy does not end with those of another, nor does it look whole. */
static void test_metrics_while_the_policy_changes(const void *data)
{
    static const char *const versions[] = {"HTTP/1.1\r\n" NAMED, "HTTP/1.0\r\n\r\n"};
    (void)data;
    for (unsigned i = 0; i < 2; i++) {
        char text[96];
        begin(&hop_policy);
        snprintf(text, sizeof text, "GET /metrics %s", versions[i]);
        wire.at_most = 100;
        say(text);
        wire.is_full = true;
        wire_run();
        assert_true(has("# TYPE"));
        assert_true(miniproxy_set_policy(&wire.proxy, &login_policy)); /* which has fewer of them */
        wire.is_full = false;
        let_it_read();
        assert_true(wire.closed && wire.reset);
        assert_false(has("# EOF"));
        assert_false(has("\r\n0\r\n\r\n"));
        assert_string_equal(miniproxy_cause_token(wire.event.cause), "stopped");
        next_client();
    }
}

static void test_lists_for_old_clients(const void *data)
{
    (void)data;
    begin(&open_policy);
    say("GET http://miniproxy.internal/nothing HTTP/1.1\r\n" NAMED);
    next_client();
    say("GET /log HTTP/1.0\r\n\r\n");
    assert_false(has("chunked"));
    assert_false(has("Content-Length"));
    assert_true(has("Connection: close\r\n"));
    assert_int_equal(body()[0], '{');
    assert_string_equal(body() + strlen(body()) - 2, "}\n");
    next_client();
    say("HEAD /log HTTP/1.1\r\n" NAMED);
    assert_string_equal(body(), "");
    say("HEAD /metrics HTTP/1.1\r\n" NAMED);
    assert_string_equal(body(), "");
    next_client();
}

/* ---- PAC ---- */

static const struct miniproxy_pac from_host = {.falls_back = false};

static void test_pac(const void *data)
{
    (void)data;
    begin_with((struct miniproxy_config){.pac = &from_host});
    say("GET /wpad.dat HTTP/1.1\r\n" NAMED);
    assert_true(begins("HTTP/1.1 200 OK\r\nContent-Type: application/x-ns-proxy-autoconfig\r\nCache-Control: max-age=300\r\n"));
    check_length();
    assert_true(begins("HTTP/1.1 200 OK"));
    assert_true(has("return\"PROXY router.example:3128\";}\n"));
    say("GET /proxy.pac HTTP/1.1\r\nHost: wpad\r\n\r\n");
    assert_true(has("return\"PROXY wpad:80\";}\n"));
    say("GET /proxy.pac HTTP/1.1\r\nHost: wpad:\r\n\r\n");
    assert_true(has("return\"PROXY wpad:80\";}\n"));
    say("GET /proxy.pac HTTP/1.1\r\nHost: [2001:db8::1]\r\n\r\n");
    assert_true(has("return\"PROXY [2001:db8::1]:80\";}\n"));
    say("GET /proxy.pac HTTP/1.1\r\nHost: [2001:db8::1]:3128\r\n\r\n");
    assert_true(has("return\"PROXY [2001:db8::1]:3128\";}\n"));
    next_client();
    /* What is kept of the request is the shorter, not the script: */
    say("GET /proxy.pac?a-query-as-long-as-those-that-some-make-to-get-around-caches=1 HTTP/1.1\r\n" NAMED);
    assert_true(has("return\"PROXY router.example:3128\";}\n"));
    assert_int_equal(wire.event.target_len, 10);
    assert_memory_equal(wire.event.target, "/proxy.pac", 10);
    say("GET /proxy.pac?short HTTP/1.1\r\n" NAMED);
    assert_int_equal(wire.event.target_len, 16);
    say("GET /proxy.pac HTTP/1.1\r\nHost: a-name-that-is-long-but-fits-beside-a-line.example\r\n\r\n");
    assert_true(has("return\"PROXY a-name-that-is-long-but-fits-beside-a-line.example:80\";}\n"));
    say("GET /proxy.pac HTTP/1.1\r\nHost: a-name-that-is-longer-and-fits-not-beside-a.example\r\n\r\n");
    assert_true(begins("HTTP/1.1 404 "));
    next_client();
    say("GET /proxy.pac HTTP/1.0\r\n\r\n"); /* who does not say by which address it came */
    assert_true(begins("HTTP/1.1 404 "));
    next_client();
    say("GET http://miniproxy.internal/proxy.pac HTTP/1.1\r\n" NAMED);
    assert_true(begins("HTTP/1.1 404 "));
    next_client();
    begin(&open_policy); /* off by default */
    say("GET /wpad.dat HTTP/1.1\r\n" NAMED);
    assert_true(begins("HTTP/1.1 404 "));
    next_client();
}

/* A proxy is reached again as the script was. */
static void test_pac_by_listener(const void *data)
{
    static const struct miniproxy_pac all = {.speaks_tls = true}, some = {.tls_listeners = 1u << SPEAKING_TLS},
                                      named = {.proxy = "p.example:8080", .tls_listeners = 1u << SPEAKING_TLS};
    static const struct {
        const struct miniproxy_pac *pac;
        const char *host, *way;
        unsigned listener;
    } cases[] = {{&some, "wpad", "PROXY wpad:80", PLAIN},
                 {&some, "wpad", "HTTPS wpad:443", SPEAKING_TLS},
                 {&some, "wpad:", "HTTPS wpad:443", SPEAKING_TLS},
                 {&some, "[2001:db8::1]", "HTTPS [2001:db8::1]:443", SPEAKING_TLS},
                 {&some, "wpad:3129", "HTTPS wpad:3129", SPEAKING_TLS},
                 {&some, "wpad", "PROXY wpad:80", 34},
                 {&all, "wpad", "HTTPS wpad:443", PLAIN},
                 {&named, "wpad", "PROXY p.example:8080", SPEAKING_TLS}};
    (void)data;
    for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[128];
        begin_with((struct miniproxy_config){.pac = cases[i].pac});
        wire.listener = (uint8_t)cases[i].listener;
        snprintf(text, sizeof text, "GET /proxy.pac HTTP/1.1\r\nHost: %s\r\n\r\n", cases[i].host);
        say(text);
        snprintf(text, sizeof text, "return\"%s\";}\n", cases[i].way);
        if (!has(text)) fail_msg("case %u: %s", i, wire.to_client.data);
        check_length();
        next_client();
    }
}

/* W03, S13: nothing comes into the script that could end a string. */
static void test_pac_of_a_product(const void *data)
{
    static const char *const domains[] = {"corp.example", "b.example"};
    static const struct miniproxy_texts direct = {domains, 2};
    static const struct miniproxy_pac pac = {.proxy = "p.example:8080", .direct = &direct, .falls_back = true, .speaks_tls = true};
    static const char *const bad_domain[] = {"a\"b"};
    static const struct miniproxy_texts bad = {bad_domain, 1};
    static const struct miniproxy_pac wrong[] = {{.proxy = "p\";evil()//"}, {.proxy = ""}, {.direct = &bad}};
    struct miniproxy_config config = {.port = &wire_port};
    struct miniproxy *p = calloc(1, sizeof *p);
    (void)data;
    begin_with((struct miniproxy_config){.pac = &pac});
    say("GET http://miniproxy.internal/proxy.pac HTTP/1.1\r\n" NAMED);
    assert_true(has("d=[\"corp.example\",\"b.example\",\"local\"];"));
    assert_true(has("return\"HTTPS p.example:8080; DIRECT\";}\n"));
    check_length();
    say("GET /proxy.pac HTTP/1.1\r\nHost: x\";evil()\r\n\r\n");
    assert_true(begins("HTTP/1.1 400 "));
    next_client();
    for (unsigned i = 0; i < 3; i++) {
        config.pac = &wrong[i];
        assert_false(miniproxy_init(p, &config));
    }
    config.pac = &pac;
    assert_true(miniproxy_init(p, &config));
    free(p);
}

static void test_pac_of_many_domains(const void *data)
{
    enum { COUNT = 4000 };
    static const char *domains[COUNT];
    static const struct miniproxy_texts direct = {domains, COUNT};
    static const struct miniproxy_pac pac = {.proxy = "p.example:8080", .direct = &direct};
    (void)data;
    for (unsigned i = 0; i < COUNT; i++) domains[i] = "domain.example";
    begin_with((struct miniproxy_config){.pac = &pac});
    say("GET /proxy.pac HTTP/1.1\r\n" NAMED);
    check_length();
    assert_true(strlen(body()) > UINT16_MAX);
    assert_true(has("return\"PROXY p.example:8080\";}\n"));
    next_client();
}

/* ---- maintenance ---- */

static void test_maintenance(const void *data)
{
    (void)data;
    begin(&open_policy);
    say("CONNECT h.example:443 HTTP/1.1\r\nHost: h.example:443\r\n\r\n");
    assert_true(begins("HTTP/1.1 200"));
    miniproxy_maintain(&wire.proxy, "Back at noon.");
    assert_int_equal(miniproxy_condition(&wire.proxy), MINIPROXY_IN_MAINTENANCE);
    say("through the tunnel");
    assert_string_equal(wire.to_origin.data, "through the tunnel");
    wire.pending = true;
    miniproxy_wake_accept(&wire.proxy);
    wire.client = NULL;
    wire.to_proxy.len = wire.to_proxy.read = 0;
    say("GET http://h.example/ HTTP/1.1\r\nHost: h.example\r\n\r\n");
    assert_true(begins("HTTP/1.1 503 Service Unavailable\r\n"));
    assert_true(has("\r\nRetry-After: "));
    assert_true(has("Back at noon."));
    check_length();
    assert_string_equal(miniproxy_cause_token(wire.event.cause), "maintenance");
    assert_false(wire.event.page);
    say("CONNECT h.example:443 HTTP/1.1\r\nHost: h.example:443\r\n\r\n");
    assert_true(begins("HTTP/1.1 503 "));
    next_client();
    miniproxy_maintain(&wire.proxy, "Back at noon.");
    say("GET /health HTTP/1.1\r\n" NAMED);
    assert_true(begins("HTTP/1.1 503 "));
    assert_string_equal(body(), "maintenance\n");
    say("HEAD /metrics HTTP/1.1\r\n" NAMED);
    assert_true(begins("HTTP/1.1 200 "));
    miniproxy_maintain(&wire.proxy, NULL);
    say("GET /health HTTP/1.1\r\n" NAMED);
    assert_string_equal(body(), "ok\n");
    wire.answer = "HTTP/1.1 204 No Content\r\n\r\n";
    say("GET http://h.example/ HTTP/1.1\r\nHost: h.example\r\n\r\n");
    assert_true(begins("HTTP/1.1 204 "));
    next_client();
}

static void test_maintenance_by_policy(const void *data)
{
    static const struct miniproxy_policy policy = {.rules = open_rules, .rule_count = 2, .maintenance = "Not now."};
    (void)data;
    begin(&policy);
    say("GET http://h.example/ HTTP/1.1\r\nHost: h.example\r\n\r\n");
    assert_true(begins("HTTP/1.1 503 "));
    assert_true(has("Not now."));
    miniproxy_maintain(&wire.proxy, "Own words."); /* wins */
    say("GET http://h.example/ HTTP/1.1\r\nHost: h.example\r\n\r\n");
    assert_true(has("Own words."));
    miniproxy_maintain(&wire.proxy, NULL);
    assert_true(miniproxy_set_policy(&wire.proxy, &open_policy));
    assert_int_equal(miniproxy_condition(&wire.proxy), MINIPROXY_OK_TO_SERVE);
    next_client();
}

static void test_long_maintenance(const void *data)
{
    static char text[70001];
    (void)data;
    memset(text, 'm', sizeof text - 1);
    begin(&open_policy);
    miniproxy_maintain(&wire.proxy, text);
    say("GET http://h.example/ HTTP/1.1\r\nHost: h.example\r\n\r\n");
    check_length();
    assert_int_equal(strspn(body(), "m"), sizeof text - 1);
    next_client();
}

/* Longer than a buffer: the text is needed until the last of it has left, also when the policy is another one by then. */
static void test_maintenance_while_the_policy_changes(const void *data)
{
    static char text[1500];
    static const struct miniproxy_policy policy = {.rules = open_rules, .rule_count = 2, .maintenance = text};
    (void)data;
    memset(text, 'm', sizeof text - 1);
    begin(&policy);
    wire.is_full = true;
    say("GET http://h.example/ HTTP/1.1\r\nHost: h.example\r\n\r\n");
    assert_true(miniproxy_set_policy(&wire.proxy, &open_policy));
    assert_true(miniproxy_policy_in_use(&wire.proxy, &policy));
    wire.is_full = false;
    let_it_read();
    check_length();
    assert_int_equal(strspn(body(), "m"), sizeof text - 1);
    assert_false(miniproxy_policy_in_use(&wire.proxy, &policy));
    next_client();
}

static void test_conditions(const void *data)
{
    (void)data;
    begin(&open_policy);
    say("GET /health HTTP/1.1\r\n" NAMED);
    wire.proxy.counters.active = MINIPROXY_SESSIONS;
    assert_int_equal(miniproxy_condition(&wire.proxy), MINIPROXY_BUSY);
    say("GET /health HTTP/1.1\r\n" NAMED);
    assert_string_equal(body(), "busy\n");
    assert_true(begins("HTTP/1.1 200 "));
    wire.proxy.counters.active = 1;
    miniproxy_drain(&wire.proxy);
    assert_int_equal(miniproxy_condition(&wire.proxy), MINIPROXY_DRAINING);
    next_client();
}

int main(void)
{
    struct unit_test tests[] = {
        {"health, asked for in every way [G04,S09]", test_health, NULL, false},
        {"paths and methods that there are not [S09]", test_other_paths_and_methods, NULL, false},
        {"pages are for those whom a rule names them for", test_policy_decides, NULL, false},
        {"logins for pages, and none for PAC [W01]", test_logins, NULL, false},
        {"Authorization for an origin is no login here", test_authorization_of_origins, NULL, false},
        {"diverted requests are for origins [I01]", test_diverted, NULL, false},
        {"pages are told to nobody who was led here by a foreign name", test_foreign_names, NULL, false},
        {"pages of the product", test_pages_of_the_product, NULL, false},
        {"metrics count [G04]", test_metrics_count, NULL, false},
        {"metrics are families of samples [G04]", test_metrics_are_families, NULL, false},
        {"metrics of hops [G05]", test_metrics_of_hops, NULL, false},
        {"metrics of the product, of several instances", test_metrics_of_the_product, NULL, false},
        {"numbers of any size", test_numbers, NULL, false},
        {"the last that went well, and those that did not [G01]", test_records, NULL, false},
        {"no query, no userinfo [G02]", test_records_keep_no_secrets, NULL, false},
        {"pages are counted apart [G04]", test_pages_are_counted_apart, NULL, false},
        {"the last transactions as JSON [G01,S13]", test_log_page, NULL, false},
        {"answers of the proxy's own name no origin [G01]", test_log_of_answers_that_went_nowhere, NULL, false},
        {"lines of the log are text [G02,S13]", test_log_is_text, NULL, false},
        {"lines of the log know their room [Z06]", test_log_lines_know_their_room, NULL, false},
        {"in pieces of any size", test_pieces, NULL, false},
        {"lists for HTTP/1.0 and HEAD [S12]", test_lists_for_old_clients, NULL, false},
        {"metrics while the policy changes [G04]", test_metrics_while_the_policy_changes, NULL, false},
        {"PAC by the address of the request [W01,W02]", test_pac, NULL, false},
        {"PAC by the listener of the request [W01]", test_pac_by_listener, NULL, false},
        {"PAC of a product [W03,S13]", test_pac_of_a_product, NULL, false},
        {"PAC of many domains [W03]", test_pac_of_many_domains, NULL, false},
        {"maintenance [S07]", test_maintenance, NULL, false},
        {"maintenance by policy [S07]", test_maintenance_by_policy, NULL, false},
        {"maintenance, with a message of any length [S07]", test_long_maintenance, NULL, false},
        {"maintenance while the policy changes [S07]", test_maintenance_while_the_policy_changes, NULL, false},
        {"conditions [G04]", test_conditions, NULL, false},
    };
    return unit_run("pages", tests, sizeof tests / sizeof tests[0]);
}

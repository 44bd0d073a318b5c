/* SPDX-License-Identifier: MIT
 *
 * Lines of logs, to the octet: formats, dates, what is hostile, and rooms that are too small.
 */
#define _GNU_SOURCE
#include "port/miniproxy_log.h"
#include "unit.h"

#include <locale.h>
#include <time.h>
#include <wchar.h>

enum { ROOM = 20000 };

static struct miniproxy_addr v4, v6, none;
static const struct miniproxy_log_time noon = {.unix_s = 1795953600, .ms = 7, .zone_min = 0}; /* 2026-11-29 12:00 */
static char line[ROOM + 1];

static struct miniproxy_addr address(const char *text, uint16_t port)
{
    struct miniproxy_addr a = {.port = port};
    assert_true(miniproxy_addr_parse(&a, text, strlen(text)));
    return a;
}

static struct miniproxy_event event_of(const char *method, const char *target)
{
    v4 = address("192.0.2.7", 40000);
    v6 = address("2001:db8::1", 443);
    return (struct miniproxy_event){.client = &v4,
                                    .address = &none,
                                    .method = method,
                                    .method_len = (uint16_t)strlen(method),
                                    .target = target,
                                    .target_len = (uint16_t)strlen(target),
                                    .session = 3,
                                    .rule = -1};
}

static struct miniproxy_log style_of(const struct miniproxy_log_format *format)
{
    return (struct miniproxy_log){.format = format, .query = true, .host = "gate.example", .process = 42, .facility = 3};
}

static const char *told(const struct miniproxy_log_format *format, const struct miniproxy_event *e)
{
    struct miniproxy_log style = style_of(format);
    size_t len = miniproxy_log_event(&style, &noon, e, line, ROOM);
    assert_true(len > 0 && len < ROOM);
    line[len] = '\0';
    return line;
}

static struct miniproxy_event fetched(void)
{
    struct miniproxy_event e = event_of("GET", "http://a.example/x?y=1");
    e.address = &v6;
    e.status = 200;
    e.source = MINIPROXY_BY_ORIGIN;
    e.rule = 12;
    e.bytes_up = 100;
    e.bytes_down = UINT64_C(18446744073709551615);
    e.dns_ms = 1;
    e.connect_ms = 2;
    e.first_byte_ms = 3;
    e.total_ms = 4294967295u;
    return e;
}

static struct miniproxy_event refused(const char *method, const char *target, enum miniproxy_cause cause)
{
    struct miniproxy_event e = event_of(method, target);
    e.status = (uint16_t)miniproxy_cause_status(cause);
    e.source = e.status != 0 ? MINIPROXY_BY_PROXY : MINIPROXY_BY_NOBODY;
    e.cause = (uint8_t)cause;
    e.bytes_down = 300;
    return e;
}

/* ---- Formats */

static void clf(const void *data)
{
    struct miniproxy_event e = fetched();
    const struct miniproxy_hop hop = {.host = "proxy.example", .port = 3128}, hop6 = {.host = "fd00::1", .port = 1};
    (void)data;
    assert_string_equal(told(&miniproxy_log_clf, &e),
                        "192.0.2.7 - - [29/Nov/2026:12:00:00 +0000] \"GET http://a.example/x?y=1 HTTP/1.1\" 200 "
                        "18446744073709551615 - origin 4294967295 [2001:db8::1]:443 12");
    e = refused("CONNECT", "a.example:443", MINIPROXY_CAUSE_LOGIN_FAILED);
    e.user = "an \"na\\";
    e.socks = true;
    e.hop = &hop;
    e.id = 77;
    assert_string_equal(told(&miniproxy_log_clf, &e),
                        "192.0.2.7 - an\\x20\\x22na\\x5c [29/Nov/2026:12:00:00 +0000] \"CONNECT a.example:443 SOCKS5\" "
                        "407 300 login_failed proxy 0 - -1 via=proxy.example:3128 id=77");
    e = refused("", "", MINIPROXY_CAUSE_REQUEST_LINE);
    e.hop = &hop6;
    assert_string_equal(told(&miniproxy_log_clf, &e), "192.0.2.7 - - [29/Nov/2026:12:00:00 +0000] \"-\" 400 300 "
                                                      "bad_request_line proxy 0 - -1 via=[fd00::1]:1");
    e = refused("GET", "", MINIPROXY_CAUSE_CLIENT_GONE);
    assert_string_equal(told(&miniproxy_log_clf, &e), "192.0.2.7 - - [29/Nov/2026:12:00:00 +0000] \"GET - HTTP/1.1\" "
                                                      "000 300 client_gone - 0 - -1");
}

static void json(const void *data)
{
    struct miniproxy_event e = fetched();
    const struct miniproxy_hop hop = {.host = "proxy.example", .port = 3128};
    (void)data;
    assert_string_equal(
        told(&miniproxy_log_json, &e),
        "{\"time\":\"2026-11-29T12:00:00.007Z\",\"client\":\"192.0.2.7\",\"client_port\":40000,\"user\":null,"
        "\"method\":\"GET\",\"target\":\"http://a.example/x?y=1\",\"status\":200,\"by\":\"origin\",\"cause\":null,"
        "\"proxy_status\":null,\"bytes_up\":100,\"bytes_down\":18446744073709551615,\"dns_ms\":1,\"connect_ms\":2,"
        "\"first_byte_ms\":3,\"total_ms\":4294967295,\"address\":\"[2001:db8::1]:443\",\"rule\":12,\"reused\":false,"
        "\"session\":3}");
    e = refused("", "", MINIPROXY_CAUSE_HEAD_CUT);
    e.user = "\x01\"\\\xc3\xa4\xe4\x7f\xc2\x85";
    e.hop = &hop;
    e.reused = e.socks = true;
    e.id = 4294967295u;
    assert_string_equal(
        told(&miniproxy_log_json, &e),
        "{\"time\":\"2026-11-29T12:00:00.007Z\",\"client\":\"192.0.2.7\",\"client_port\":40000,"
        "\"user\":\"\\u0001\\\"\\\\\xc3\xa4\\\\xe4\\u007f\\u0085\",\"method\":null,\"target\":null,\"status\":400,"
        "\"by\":\"proxy\",\"cause\":\"head_cut\",\"proxy_status\":\"http_request_error\",\"bytes_up\":0,\"bytes_down\":300,"
        "\"dns_ms\":0,\"connect_ms\":0,\"first_byte_ms\":0,\"total_ms\":0,\"address\":null,\"via\":\"proxy.example:3128\","
        "\"rule\":null,\"socks\":true,\"reused\":true,\"session\":3,\"id\":4294967295}");
}

static void syslog_lines(const void *data)
{
    struct miniproxy_event e = fetched();
    struct miniproxy_log style = style_of(&miniproxy_log_syslog);
    const struct miniproxy_log_time unknown = {.ms = 5}, east = {.unix_s = 1795953600, .ms = 7, .zone_min = 330};
    (void)data;
    assert_string_equal(told(&miniproxy_log_syslog, &e),
                        "<30>1 2026-11-29T12:00:00.007Z gate.example miniproxy 42 transaction - transaction "
                        "client=192.0.2.7 client_port=40000 method=GET target=http://a.example/x?y=1 status=200 by=origin "
                        "bytes_up=100 bytes_down=18446744073709551615 dns_ms=1 connect_ms=2 first_byte_ms=3 "
                        "total_ms=4294967295 address=[2001:db8::1]:443 rule=12 reused=false session=3");
    style.host = "tw o\n";
    style.app = "a\xff";
    style.process = 0;
    style.facility = 99;
    line[miniproxy_log_event(&style, &unknown, &e, line, ROOM)] = '\0';
    assert_memory_equal(line, "<190>1 - tw?o? a? - transaction - transaction client=", 52);
    line[miniproxy_log_event(&style, &east, &e, line, ROOM)] = '\0';
    assert_memory_equal(line, "<190>1 2026-11-29T17:30:00.007+05:30 tw?o? a? - transaction", 58);
}

static void severities(const void *data)
{
    static const struct {
        enum miniproxy_cause cause;
        uint8_t source;
        uint16_t status;
        int severity;
    } rows[] = {{MINIPROXY_CAUSE_NONE, MINIPROXY_BY_ORIGIN, 200, 6},
                {MINIPROXY_CAUSE_NONE, MINIPROXY_BY_ORIGIN, 500, 6},
                {MINIPROXY_CAUSE_INTERNAL, MINIPROXY_BY_PROXY, 500, 3},
                {MINIPROXY_CAUSE_REFUSED, MINIPROXY_BY_PROXY, 502, 4},
                {MINIPROXY_CAUSE_SESSIONS_FULL, MINIPROXY_BY_PROXY, 503, 4},
                {MINIPROXY_CAUSE_LOGIN_MISSING, MINIPROXY_BY_PROXY, 407, 6},
                {MINIPROXY_CAUSE_LOGIN_FAILED, MINIPROXY_BY_PROXY, 407, 4},
                {MINIPROXY_CAUSE_LOGIN_THROTTLED, MINIPROXY_BY_PROXY, 429, 4},
                {MINIPROXY_CAUSE_POLICY, MINIPROXY_BY_PROXY, 403, 5},
                {MINIPROXY_CAUSE_CLIENT_GONE, MINIPROXY_BY_NOBODY, 0, 6}};
    (void)data;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct miniproxy_event e = event_of("GET", "http://a/");
        e.cause = (uint8_t)rows[i].cause;
        e.source = rows[i].source;
        e.status = rows[i].status;
        assert_int_equal(atoi(told(&miniproxy_log_syslog, &e) + 1), 3 * 8 + rows[i].severity);
    }
}

static void check_squid(struct miniproxy_event e, const char *expected)
{
    assert_string_equal(told(&miniproxy_log_squid, &e), expected);
}

static void squid(const void *data)
{
    struct miniproxy_event e = fetched();
    const struct miniproxy_hop hop = {.host = "proxy.example", .port = 3128};
    (void)data;
    check_squid(e, "1795953600.007 4294967295 192.0.2.7 TCP_MISS/200 18446744073709551615 GET http://a.example/x?y=1 - "
                   "HIER_DIRECT/2001:db8::1 -");
    e.hop = &hop;
    e.user = "an na%\"";
    e.total_ms = 45;
    e.bytes_down = 5;
    check_squid(e, "1795953600.007     45 192.0.2.7 TCP_MISS/200 5 GET http://a.example/x?y=1 an%20na%25%22 "
                   "FIRSTUP_PARENT/2001:db8::1 -");
    e.address = &none;
    e.cause = MINIPROXY_CAUSE_CLIENT_GONE;
    check_squid(e, "1795953600.007     45 192.0.2.7 TCP_MISS_ABORTED/200 5 GET http://a.example/x?y=1 an%20na%25%22 "
                   "FIRSTUP_PARENT/proxy.example -");
}

/* What becomes of which outcome; of refusals as Squid 5.7 writes of the like. */
static void squid_codes(const void *data)
{
    static const struct {
        const char *method;
        enum miniproxy_cause cause;
        uint8_t source;
        uint16_t status;
        bool sent;
        const char *code, *peer;
    } rows[] = {
        {"GET", MINIPROXY_CAUSE_NONE, MINIPROXY_BY_ORIGIN, 404, true, " TCP_MISS/404 ", " HIER_DIRECT/2001:db8::1 "},
        {"CONNECT", MINIPROXY_CAUSE_NONE, MINIPROXY_BY_PROXY, 200, true, " TCP_TUNNEL/200 ", " HIER_DIRECT/"},
        {"CONNECT", MINIPROXY_CAUSE_TUNNEL_TIMEOUT, MINIPROXY_BY_PROXY, 200, true, " TCP_TUNNEL_TIMEDOUT/200 ", " HIER_"},
        {"CONNECT", MINIPROXY_CAUSE_CLIENT_GONE, MINIPROXY_BY_PROXY, 200, true, " TCP_TUNNEL_ABORTED/200 ", " HIER_"},
        {"CONNECT", MINIPROXY_CAUSE_REFUSED, MINIPROXY_BY_PROXY, 502, true, " NONE_NONE/502 ", " HIER_DIRECT/"},
        {"CONNECT", MINIPROXY_CAUSE_POLICY, MINIPROXY_BY_PROXY, 403, false, " TCP_DENIED/403 ", " HIER_NONE/- "},
        {"GET", MINIPROXY_CAUSE_ADDRESS, MINIPROXY_BY_PROXY, 403, true, " TCP_DENIED/403 ", " HIER_NONE/- "},
        {"GET", MINIPROXY_CAUSE_LOGIN_MISSING, MINIPROXY_BY_PROXY, 407, false, " TCP_DENIED/407 ", " HIER_NONE/- "},
        {"GET", MINIPROXY_CAUSE_LOGIN_FAILED, MINIPROXY_BY_PROXY, 407, false, " TCP_DENIED/407 ", " HIER_NONE/- "},
        {"GET", MINIPROXY_CAUSE_LOGIN_THROTTLED, MINIPROXY_BY_PROXY, 429, false, " TCP_DENIED/429 ", " HIER_NONE/- "},
        {"GET", MINIPROXY_CAUSE_ORIGIN_FORM, MINIPROXY_BY_PROXY, 400, false, " NONE_NONE/400 ", " HIER_NONE/- "},
        {"GET", MINIPROXY_CAUSE_SESSIONS_FULL, MINIPROXY_BY_PROXY, 503, false, " NONE_NONE/503 ", " HIER_NONE/- "},
        {"GET", MINIPROXY_CAUSE_LOOP, MINIPROXY_BY_PROXY, 502, false, " NONE_NONE/502 ", " HIER_NONE/- "},
        {"GET", MINIPROXY_CAUSE_DNS_NAME, MINIPROXY_BY_PROXY, 502, false, " TCP_MISS/502 ", " HIER_NONE/- "},
        {"GET", MINIPROXY_CAUSE_REFUSED, MINIPROXY_BY_PROXY, 502, true, " TCP_MISS/502 ", " HIER_DIRECT/"},
        {"GET", MINIPROXY_CAUSE_CONNECT_TIMEOUT, MINIPROXY_BY_PROXY, 504, true, " TCP_MISS/504 ", " HIER_DIRECT/"},
        {"GET", MINIPROXY_CAUSE_TOTAL_TIMEOUT, MINIPROXY_BY_ORIGIN, 200, true, " TCP_MISS_TIMEDOUT/200 ", " HIER_"},
        {"GET", MINIPROXY_CAUSE_CLIENT_GONE, MINIPROXY_BY_NOBODY, 0, false, " TCP_MISS_ABORTED/000 ", " HIER_NONE/- "},
        {"GET", MINIPROXY_CAUSE_STOPPED, MINIPROXY_BY_ORIGIN, 200, true, " TCP_MISS_ABORTED/200 ", " HIER_DIRECT/"},
        {"", MINIPROXY_CAUSE_REQUEST_LINE, MINIPROXY_BY_PROXY, 400, false, " NONE_NONE/400 0 - error:invalid-request ",
         " HIER_NONE/- "},
        {"", MINIPROXY_CAUSE_CLIENT_GONE, MINIPROXY_BY_NOBODY, 0, false,
         " NONE_NONE/000 0 - error:transaction-end-before-headers ", " HIER_NONE/- "},
    };
    (void)data;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct miniproxy_event e = event_of(rows[i].method, rows[i].method[0] != '\0' ? "http://a/" : "");
        e.cause = (uint8_t)rows[i].cause;
        e.source = rows[i].source;
        e.status = rows[i].status;
        if (rows[i].sent) e.address = &v6;
        told(&miniproxy_log_squid, &e);
        if (strstr(line, rows[i].code) == NULL || strstr(line, rows[i].peer) == NULL)
            fail_msg("expected%sand%sin %s", rows[i].code, rows[i].peer, line);
    }
}

/* ---- What is told besides */

static const char *told_hop(const struct miniproxy_log_format *format, const struct miniproxy_hop *hop, bool down)
{
    struct miniproxy_log style = style_of(format);
    const struct miniproxy_health health = {.down = down, .cause = MINIPROXY_CAUSE_REFUSED};
    line[miniproxy_log_hop(&style, &noon, hop, &health, line, ROOM)] = '\0';
    return line;
}

static void hops(const void *data)
{
    const struct miniproxy_hop parent = {.host = "fd00::1", .port = 8080, .kind = MINIPROXY_HOP_PROXY},
                               member = {.host = "b.example", .port = 80, .kind = MINIPROXY_HOP_ORIGIN};
    (void)data;
    assert_string_equal(told_hop(&miniproxy_log_clf, &parent, true),
                        "- - - [29/Nov/2026:12:00:00 +0000] \"-\" 000 0 connection_refused parent 0 - -1 state=down "
                        "via=[fd00::1]:8080");
    assert_string_equal(told_hop(&miniproxy_log_clf, &member, false),
                        "- - - [29/Nov/2026:12:00:00 +0000] \"-\" 000 0 - member 0 - -1 state=up via=b.example:80");
    assert_string_equal(told_hop(&miniproxy_log_json, &member, true),
                        "{\"time\":\"2026-11-29T12:00:00.007Z\",\"by\":\"member\",\"cause\":\"connection_refused\","
                        "\"via\":\"b.example:80\",\"state\":\"down\"}");
    assert_string_equal(told_hop(&miniproxy_log_squid, &parent, false),
                        "# 2026-11-29T12:00:00.007Z parent via=[fd00::1]:8080 state=up");
    assert_string_equal(told_hop(&miniproxy_log_syslog, &parent, true),
                        "<28>1 2026-11-29T12:00:00.007Z gate.example miniproxy 42 parent - parent "
                        "cause=connection_refused via=[fd00::1]:8080 state=down");
    assert_string_equal(told_hop(&miniproxy_log_words, &parent, false), "parent via=[fd00::1]:8080 state=up");
}

static const char *told_tls(const struct miniproxy_log_format *format, const struct miniproxy_log_tls *tls)
{
    struct miniproxy_log style = style_of(format);
    line[miniproxy_log_tls(&style, &noon, tls, line, ROOM)] = '\0';
    return line;
}

static void tls(const void *data)
{
    struct miniproxy_log_tls client = {.client = &v4, .cause = "tls_alert", .error = "the peer sent alert 48"},
                             origin = {.address = &v6, .host = "a.example", .cause = "tls_expired", .error = ""};
    (void)data;
    event_of("", "");
    assert_string_equal(told_tls(&miniproxy_log_clf, &client),
                        "192.0.2.7 - - [29/Nov/2026:12:00:00 +0000] \"-\" 000 0 tls_alert tls 0 - -1 - \"the peer sent "
                        "alert 48\"");
    assert_string_equal(told_tls(&miniproxy_log_clf, &origin),
                        "- - - [29/Nov/2026:12:00:00 +0000] \"-\" 000 0 tls_expired tls 0 [2001:db8::1]:443 -1 a.example "
                        "\"\"");
    assert_string_equal(told_tls(&miniproxy_log_json, &client),
                        "{\"time\":\"2026-11-29T12:00:00.007Z\",\"client\":\"192.0.2.7\",\"client_port\":40000,"
                        "\"by\":\"tls\",\"cause\":\"tls_alert\",\"address\":null,\"host\":null,\"error\":\"the peer sent "
                        "alert 48\"}");
    assert_string_equal(told_tls(&miniproxy_log_squid, &origin),
                        "# 2026-11-29T12:00:00.007Z tls client_port=0 cause=tls_expired address=[2001:db8::1]:443 "
                        "host=a.example");
}

static void alerts(const void *data)
{
    struct miniproxy_log style = style_of(&miniproxy_log_clf);
    struct miniproxy_alert a = {.kind = MINIPROXY_ALERT_LOGINS, .value = 5, .limit = 5, .client = &v4};
    const struct miniproxy_hop hop = {.host = "b.example", .port = 80, .kind = MINIPROXY_HOP_ORIGIN};
    (void)data;
    event_of("", "");
    line[miniproxy_log_alert(&style, &noon, &a, line, ROOM)] = '\0';
    assert_string_equal(line, "# 2026-11-29T12:00:00.007Z alert threshold=failed_logins state=raised client=192.0.2.7 "
                              "value=5 limit=5");
    style = style_of(&miniproxy_log_json);
    line[miniproxy_log_alert(&style, &noon, &a, line, ROOM)] = '\0';
    assert_string_equal(line, "{\"time\":\"2026-11-29T12:00:00.007Z\",\"by\":\"alert\",\"threshold\":\"failed_logins\","
                              "\"state\":\"raised\",\"client\":\"192.0.2.7\",\"value\":5,\"limit\":5}");
    style = style_of(&miniproxy_log_syslog);
    a = (struct miniproxy_alert){.kind = MINIPROXY_ALERT_HOP, .over = true, .limit = 1, .hop = &hop};
    line[miniproxy_log_alert(&style, &noon, &a, line, ROOM)] = '\0';
    assert_string_equal(line, "<29>1 2026-11-29T12:00:00.007Z gate.example miniproxy 42 alert - alert "
                              "threshold=hop_down state=over member=b.example:80 value=0 limit=1");
}

static void heads(const void *data)
{
    static const char text[] = "X: \"a\" \\ \t\r\n\xe4# 2026";
    struct miniproxy_event e = event_of("GET", "http://a/");
    struct miniproxy_log style = style_of(&miniproxy_log_clf);
    (void)data;
    e.id = 9;
    line[miniproxy_log_head(&style, &noon, &e, MINIPROXY_OF_CLIENT, text, sizeof text - 1, line, ROOM)] = '\0';
    assert_string_equal(line, "# 2026-11-29T12:00:00.007Z head client=192.0.2.7 id=9 side=client "
                              "X: \"a\" \\x5c \\x09\\x0d\\x0a\\xe4# 2026");
    style.format = &miniproxy_log_json;
    line[miniproxy_log_head(&style, &noon, &e, MINIPROXY_OF_ORIGIN, "", 0, line, ROOM)] = '\0';
    assert_string_equal(line, "{\"time\":\"2026-11-29T12:00:00.007Z\",\"by\":\"head\",\"client\":\"192.0.2.7\","
                              "\"client_port\":40000,\"id\":9,\"side\":\"origin\",\"line\":\"\"}");
}

/* ---- Dates */

static void check_date(int64_t unix_s, int zone_min)
{
    struct miniproxy_event e = event_of("", "");
    const struct miniproxy_log_time now = {.unix_s = unix_s, .ms = 999, .zone_min = (int16_t)zone_min};
    struct miniproxy_log style = style_of(&miniproxy_log_clf);
    time_t local = (time_t)(unix_s + zone_min * 60), utc = (time_t)unix_s;
    char expected[96], zone[24];
    struct tm tm;
    strftime(expected, sizeof expected, "[%d/%b/%Y:%H:%M:%S ", gmtime_r(&local, &tm));
    snprintf(zone, sizeof zone, "%c%02d%02d]", zone_min < 0 ? '-' : '+', abs(zone_min) / 60, abs(zone_min) % 60);
    strcat(expected, zone);
    miniproxy_log_event(&style, &now, &e, line, ROOM);
    assert_memory_equal(line + 14, expected, strlen(expected));
    style.format = &miniproxy_log_json;
    strftime(expected, sizeof expected, "{\"time\":\"%Y-%m-%dT%H:%M:%S.999Z\"", gmtime_r(&utc, &tm));
    miniproxy_log_event(&style, &now, &e, line, ROOM);
    assert_memory_equal(line, expected, strlen(expected));
}

static void dates(const void *data)
{
    static const int64_t odd[] = {0,          1,           59,          951782399,   951782400,   951868799,  951868800,
                                  2147483647, 2147483648,  4107542399,  4107542400,  4294967295,  4294967296, 13574563199,
                                  1709164800, 1709251199,  1709251200,  1798761599,  1798761600,  253402300799};
    static const int zones[] = {0, 60, -60, 330, -210, 840, -720, 765};
    (void)data;
    for (size_t i = 0; i < sizeof odd / sizeof odd[0]; i++) check_date(odd[i], 0);
    for (size_t i = 1; i + 1 < sizeof odd / sizeof odd[0]; i++)
        for (size_t z = 0; z < sizeof zones / sizeof zones[0]; z++)
            if (odd[i] > 86400) check_date(odd[i], zones[z]);
    for (int64_t day = 0; day < INT64_C(253402300800) / 86400; day += day < 160000 ? 1 : 17)
        check_date(day * 86400 + unit_random(86400), day < 1 ? 0 : zones[day % 8]);
}

static void dates_that_nobody_has(const void *data)
{
    struct miniproxy_event e = event_of("", "");
    struct miniproxy_log style = style_of(&miniproxy_log_json);
    struct miniproxy_log_time now = {.unix_s = -1};
    (void)data;
    miniproxy_log_event(&style, &now, &e, line, ROOM);
    assert_memory_equal(line, "{\"time\":\"1970-01-01T00:00:00.000Z\"", 34);
    now.unix_s = INT64_MAX - 100000;
    miniproxy_log_event(&style, &now, &e, line, ROOM);
    assert_memory_equal(line, "{\"time\":\"9999-12-31T23:59:59.000Z\"", 34);
}

/* ---- Hostile text */

static const struct miniproxy_log_format *const formats[] = {&miniproxy_log_clf, &miniproxy_log_squid, &miniproxy_log_json,
                                                             &miniproxy_log_words, &miniproxy_log_syslog};
enum { FORMATS = sizeof formats / sizeof formats[0] };

/* The end of a JSON string that begins at s, which must be valid inside; NULL: it is not. */
static const char *string_end(const char *s, const char *end)
{
    if (s >= end || *s != '"') return NULL;
    for (s++; s < end && *s != '"'; s++) {
        if ((unsigned char)*s < 0x20 || *s == 0x7f) return NULL;
        if (*s != '\\') continue;
        s++;
        if (*s == 'u' && (s + 4 >= end || strspn(s + 1, "0123456789abcdef") < 4)) return NULL;
        if (*s == 'u') s += 4;
        else if (*s != '"' && *s != '\\') return NULL;
    }
    return s < end ? s + 1 : NULL;
}

static bool is_utf8(const char *s, size_t len)
{
    wchar_t wide;
    mbstate_t state = {0};
    while (len > 0) {
        size_t n = mbrtowc(&wide, s, len, &state);
        if (n == 0 || n > len) return false;
        s += n;
        len -= n;
    }
    return true;
}

/* A flat object: names, and values that are strings, numbers, true, false or null. */
static bool is_json(const char *s, size_t len)
{
    const char *end = s + len;
    if (len < 2 || *s++ != '{' || end[-1] != '}' || !is_utf8(s, len - 1)) return false;
    for (;; s++) {
        s = string_end(s, end);
        if (s == NULL || *s++ != ':') return false;
        if (*s == '"') s = string_end(s, end);
        else s += strspn(s, "0123456789truefalsn");
        if (s == NULL || (*s != ',' && *s != '}')) return false;
        if (*s == '}') return s == end - 1;
    }
}

/* What every line of a format must be, and how many blanks one has whatever is in it. */
static void check_line(unsigned f, const char *s, size_t len, unsigned blanks)
{
    unsigned found = 0;
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)s[i];
        if (c < 0x20 || c == 0x7f || (c > 0x7f && formats[f] != &miniproxy_log_json)) fail_msg("octet %u in a line", c);
        found += c == ' ';
    }
    if (formats[f] == &miniproxy_log_json && !is_json(s, len)) fail_msg("no JSON: %.*s", (int)len, s);
    if (blanks != 0 && found != blanks) fail_msg("%u blanks, not %u: %.*s", found, blanks, (int)len, s);
}

static unsigned blanks_of(const char *s)
{
    unsigned n = 0;
    for (; *s != '\0'; s++) n += *s == ' ';
    return n;
}

/* Any octets in every text: as many fields as with harmless ones, and no octet that could end the line. */
static void hostile_octets(const void *data)
{
    char target[65], user[33], method[9];
    (void)data;
    for (unsigned round = 0; round < 10000; round++) {
        struct miniproxy_event e;
        for (unsigned f = 0; f < FORMATS; f++) {
            unsigned blanks;
            e = event_of("G", "t");
            e.user = "u";
            blanks = formats[f] == &miniproxy_log_json ? 0 : blanks_of(told(formats[f], &e));
            for (unsigned i = 0; i < 64; i++) target[i] = (char)(round < 256 ? round : unit_random(256));
            for (unsigned i = 0; i < 32; i++) user[i] = (char)(round < 256 ? (round == 0 ? 1 : round) : 1 + unit_random(255));
            for (unsigned i = 0; i < 8; i++) method[i] = (char)(round < 256 ? round : unit_random(256));
            user[32] = '\0';
            if (formats[f] == &miniproxy_log_clf) /* parsed ones have none, and CLF shows them as they are */
                for (unsigned i = 0; i < 64; i++) target[i] = target[i] == ' ' ? '+' : target[i],
                                                  method[i % 8] = method[i % 8] == ' ' ? '+' : method[i % 8];
            e.user = user;
            e.target = target;
            e.target_len = 64;
            e.method = method;
            e.method_len = 8;
            told(formats[f], &e);
            check_line(f, line, strlen(line), blanks);
        }
    }
}

static void hostile_names(const void *data)
{
    struct miniproxy_event e = event_of("GET", "http://a/\r\n198.51.100.9 - - [29/Nov/2026:12:00:00 +0000] \"GET /");
    (void)data;
    e.user = "x\n# 2026-11-29T12:00:00.007Z alert threshold=failed_logins client=198.51.100.9";
    for (unsigned f = 0; f < FORMATS; f++) {
        told(formats[f], &e);
        assert_null(strchr(line, '\n'));
        assert_null(strchr(line, '\r'));
        if (formats[f] != &miniproxy_log_json) assert_null(strstr(line, " alert "));
        if (formats[f] != &miniproxy_log_json && formats[f] != &miniproxy_log_clf) assert_null(strstr(line, " client=198"));
    }
}

static void texts_of_peers(const void *data)
{
    char error[64], host[32];
    struct miniproxy_log_tls tls = {.client = &v4, .cause = "tls_alert", .host = host, .error = error};
    struct miniproxy_event e = event_of("GET", "http://a/");
    (void)data;
    for (unsigned round = 1; round < 20000; round++) {
        for (unsigned i = 0; i < sizeof error; i++) error[i] = (char)(round < 256 ? round : 1 + unit_random(255));
        memcpy(host, error, sizeof host);
        error[sizeof error - 1] = host[sizeof host - 1] = '\0';
        for (unsigned f = 0; f < FORMATS; f++) {
            struct miniproxy_log style = style_of(formats[f]);
            told_tls(formats[f], &tls);
            check_line(f, line, strlen(line), 0);
            line[miniproxy_log_head(&style, &noon, &e, MINIPROXY_OF_ORIGIN, error, sizeof error - 1, line, ROOM)] = '\0';
            check_line(f, line, strlen(line), 0);
        }
    }
}

static void userinfo(const void *data)
{
    static const struct {
        const char *target, *with_query, *without;
    } rows[] = {
        {"http://u:p@a/", "http://a/", "http://a/"},
        {"http://u:p@a", "http://a", "http://a"},
        {"http://u:p@x@a/?q=@", "http://a/?q=@", "http://a/"},
        {"http://u@a?q", "http://a?q", "http://a"},
        {"http://a/u:p@b", "http://a/u:p@b", "http://a/u:p@b"},
        {"http://a/?u:p@b", "http://a/?u:p@b", "http://a/"},
        {"http://a#u:p@b", "http://a#u:p@b", "http://a#u:p@b"},
        {"u:p@a:443", "a:443", "a:443"},
        {"https://u:p@[::1]:8/", "https://[::1]:8/", "https://[::1]:8/"},
        {"http://@", "http://", "http://"},
        {"?", "?", ""},
        {"*", "*", "*"},
        {"a:443", "a:443", "a:443"},
    };
    (void)data;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        for (unsigned f = 0; f < FORMATS; f++)
            for (unsigned query = 0; query < 2; query++) {
                struct miniproxy_event e = event_of("GET", rows[i].target);
                struct miniproxy_log style = style_of(formats[f]);
                char expected[64];
                style.query = query;
                line[miniproxy_log_event(&style, &noon, &e, line, ROOM)] = '\0';
                snprintf(expected, sizeof expected, "%s%s%s",
                         f == 0   ? "GET "
                         : f == 1 ? " GET "
                         : f == 2 ? "\"target\":\""
                                  : " target=",
                         query ? rows[i].with_query : rows[i].without, f == 2 ? "\"" : " ");
                if (strstr(line, expected) == NULL) fail_msg("expected %s in %s", expected, line);
            }
}

/* What the core has cut to what a session keeps: the @ behind a password may be missing. */
static void userinfo_that_is_cut(const void *data)
{
    char target[MINIPROXY_LINE_KEEP + 1];
    struct miniproxy_event e;
    (void)data;
    memset(target, 's', MINIPROXY_LINE_KEEP);
    memcpy(target, "http://anna:", 12);
    target[MINIPROXY_LINE_KEEP - 4] = '\0';
    e = event_of("GET", target);
    assert_int_equal(e.method_len + 1 + e.target_len, MINIPROXY_LINE_KEEP);
    for (unsigned f = 0; f < FORMATS; f++) {
        told(formats[f], &e);
        assert_null(strstr(line, "anna"));
        assert_null(strstr(line, "sss"));
        assert_non_null(strstr(line, "http://"));
    }
    target[MINIPROXY_LINE_KEEP - 5] = '\0'; /* whole */
    e = event_of("GET", target);
    assert_non_null(strstr(told(&miniproxy_log_clf, &e), "sss"));
}

/* ---- Rooms of every length */

static void check_rooms(size_t (*write)(const struct miniproxy_log *style, char *out, size_t room), const char *part)
{
    for (unsigned f = 0; f < FORMATS; f++) {
        struct miniproxy_log style = style_of(formats[f]);
        static char whole[ROOM], cut[ROOM];
        size_t full = write(&style, whole, sizeof whole), least = 0;
        const char *at;
        whole[full] = '\0';
        at = strstr(whole, part);
        assert_non_null(at);
        for (size_t room = 0; room <= full; room++) {
            size_t len;
            memset(cut, '~', full + 1);
            len = write(&style, cut, room);
            for (size_t i = room; i <= full; i++) assert_int_equal(cut[i], '~');
            if (len == 0 && room < full) continue;
            if (least == 0) least = room;
            assert_true(len <= room && len + 6 > room);
            check_line(f, cut, len, 0);
            assert_memory_equal(cut, whole, (size_t)(at - whole));
            for (size_t tail = 1; tail <= 8 && formats[f] != &miniproxy_log_syslog && part[0] != '<'; tail++)
                assert_int_equal(cut[len - tail], whole[full - tail]);
        }
        assert_true(least > 0 && least < full && least <= MINIPROXY_LOG_LEAST);
    }
}

static size_t write_long_event(const struct miniproxy_log *style, char *out, size_t room)
{
    struct miniproxy_event e = fetched();
    static char target[200];
    memset(target, 'a', sizeof target);
    memcpy(target, "http://u:p@a.example/", 21);
    for (unsigned i = 30; i + 8 < sizeof target; i += 9) memcpy(target + i, "\"\xc3\xa4\xe4\x01\xf0\x9f\x98\x80", 9);
    e.target = target;
    e.target_len = sizeof target;
    return miniproxy_log_event(style, &noon, &e, out, room);
}

static void rooms_of_events(const void *data)
{
    (void)data;
    check_rooms(write_long_event, "http://a.example/");
}

static size_t write_head(const struct miniproxy_log *style, char *out, size_t room)
{
    static const char text[] = "<Cookie: \"\xc3\xa4\xe4\x01\xf0\x9f\x98\x80 and so on and so forth, for a while";
    struct miniproxy_event e = event_of("GET", "http://a/");
    return miniproxy_log_head(style, &noon, &e, MINIPROXY_OF_CLIENT, text, sizeof text - 1, out, room);
}

static void rooms_of_heads(const void *data)
{
    (void)data;
    check_rooms(write_head, "<Cookie");
}

/* The longest that there can be of everything else fits into the least room. */
static void least_room(const void *data)
{
    char user[MINIPROXY_CREDENTIALS_MAX + 1], method[MINIPROXY_METHOD_MAX + 1], host[256];
    const struct miniproxy_hop hop = {.host = host, .port = 65535};
    struct miniproxy_event e = fetched();
    struct miniproxy_addr long6 = address("1111:2222:3333:4444:5555:6666:7777:8888", 65535);
    (void)data;
    memset(user, 1, sizeof user);
    memset(method, 1, sizeof method);
    memset(host, 'h', sizeof host);
    user[sizeof user - 1] = method[sizeof method - 1] = host[254] = '\0';
    e = refused(method, "", MINIPROXY_CAUSE_RESPONSE_TRAILER_SIZE);
    e.user = user;
    e.hop = &hop;
    e.client = e.address = &long6;
    e.bytes_down = e.bytes_up = UINT64_MAX;
    e.dns_ms = e.connect_ms = e.first_byte_ms = e.total_ms = e.id = UINT32_MAX;
    e.rule = INT32_MAX;
    e.session = UINT16_MAX;
    e.socks = true;
    for (unsigned f = 0; f < FORMATS; f++) {
        struct miniproxy_log style = style_of(formats[f]);
        style.host = host;
        assert_true(miniproxy_log_event(&style, &noon, &e, line, MINIPROXY_LOG_LEAST) > 0);
    }
}

int main(void)
{
    struct unit_test tests[] = {
        {"Common Log Format [G01,G02]", clf, NULL, false},
        {"JSON [G01,G02]", json, NULL, false},
        {"syslog [G01,G02]", syslog_lines, NULL, false},
        {"severities of syslog", severities, NULL, false},
        {"Squid's format [G01,G02]", squid, NULL, false},
        {"Squid's words for what became of a request", squid_codes, NULL, false},
        {"parents and members [G05]", hops, NULL, false},
        {"what TLS tells", tls, NULL, false},
        {"alerts", alerts, NULL, false},
        {"lines of heads [G02]", heads, NULL, false},
        {"every day of 430 years, every seventeenth until 9999, and odd seconds", dates, NULL, false},
        {"dates outside", dates_that_nobody_has, NULL, false},
        {"any octets in targets, users and methods [G02]", hostile_octets, NULL, false},
        {"names that contain a line [G02]", hostile_names, NULL, false},
        {"any octets in what peers say [G02]", texts_of_peers, NULL, false},
        {"userinfo is left out, and the query if asked for [G02]", userinfo, NULL, false},
        {"userinfo that was cut off before its @ [G02]", userinfo_that_is_cut, NULL, false},
        {"rooms of every length for a transaction [G02]", rooms_of_events, NULL, false},
        {"rooms of every length for a line of a head [G02]", rooms_of_heads, NULL, false},
        {"all but targets fits into the least room", least_room, NULL, false},
    };
    setlocale(LC_CTYPE, "C.UTF-8");
    return unit_run("log", tests, sizeof tests / sizeof tests[0]);
}

/* SPDX-License-Identifier: MIT
 *
 * Further doors in: the PROXY protocol of a balancer, connections that a router diverts; and the address that origins
 * are told.
 */
#include <stdlib.h>
#define MINIPROXY_ASSERT(condition) ((condition) ? (void)0 : abort())
#define MINIPROXY_WITH_FORWARDED 1
#define MINIPROXY_WITH_PROXY_PROTOCOL 1
#define MINIPROXY_WITH_INTERCEPTION 1
#define MINIPROXY_SESSIONS 4
#define MINIPROXY_SESSIONS_PER_CLIENT 2
#define MINIPROXY_LINE_KEEP 400
#define MINIPROXY_BUFFER_SIZE 1100
#include "../../miniproxy.c"
#include "unit.h"
#include "wire.h"

enum { PLAIN, BALANCED, INTERCEPTING }; /* listeners */

struct octets {
    const char *data;
    size_t len;
};
#define O(text) {text, sizeof(text) - 1}

static char client[64]; /* of the last event */
static char begun[512];

static void note_begin(void *app, const struct miniproxy_event *e)
{
    (void)app;
    snprintf(begun, sizeof begun, "%.*s %.*s", e->method_len, e->method, e->target_len, e->target);
}

static void begin(uint8_t listener, enum miniproxy_forwarded forwarded)
{
    static const struct miniproxy_rule rules[] = {{.verdict = MINIPROXY_ALLOW}};
    static const struct miniproxy_policy policy = {.rules = rules, .rule_count = 1};
    wire_start((struct miniproxy_config){.forwarded = (uint8_t)forwarded,
                                         .policy = &policy,
                                         .begin = note_begin,
                                         .name = "p",
                                         .proxy_protocol = 1u << BALANCED,
                                         .intercepts = 1u << INTERCEPTING});
    wire.listener = listener;
    begun[0] = '\0';
}

static void check_end(void)
{
    miniproxy_stop(&wire.proxy);
    assert_int_equal(wire.proxy.counters.active, 0);
    assert_int_equal(wire.proxy.counters.buffers, 0);
}

static const char *client_text(void)
{
    char address[MINIPROXY_ADDR_TEXT];
    const struct miniproxy_addr *a = &wire.proxy.sessions[0].client_addr;
    miniproxy_addr_format(a, address);
    snprintf(client, sizeof client, "%s %u", address, a->port);
    return client;
}

#define GET "GET http://h.example/x HTTP/1.1\r\nHost: h.example\r\n\r\n"
#define REWRITTEN(more) "GET /x HTTP/1.1\r\nHost: h.example\r\n" more "\r\n"

/* ---- the PROXY protocol ---- */

#define V2 "\r\n\r\n\0\r\nQUIT\n"

static const struct {
    struct octets header;
    const char *client;
} headers[] = {
    {O("PROXY TCP4 192.0.2.1 198.51.100.7 56324 443\r\n"), "192.0.2.1 56324"},
    {O("PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n"), "255.255.255.255 65535"},
    {O("PROXY TCP6 2001:db8::1 2001:db8::2 1 2\r\n"), "2001:db8::1 1"},
    {O("PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n"),
     "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535"},
    {O("PROXY UNKNOWN\r\n"), "127.0.0.0 0"},
    {O("PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n"), "127.0.0.0 0"},
    {O(V2 "\x21\x11\0\x0c\xc0\0\2\1\xc6\x33\x64\7\xdc\4\1\xbb"), "192.0.2.1 56324"},
    {O(V2 "\x21\x11\0\x11\xc0\0\2\1\xc6\x33\x64\7\xdc\4\1\xbb\4\0\2\r\n"), "192.0.2.1 56324"}, /* a TLV */
    {O(V2 "\x21\x21\0\x24\x20\1\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\1\x20\1\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\2\xdc\4\1\xbb"),
     "2001:db8::1 56324"},
    {O(V2 "\x20\0\0\0"), "127.0.0.0 0"},
    {O(V2 "\x20\x11\0\x0c\xc0\0\2\1\xc6\x33\x64\7\xdc\4\1\xbb"), "127.0.0.0 0"},
    {O(V2 "\x21\0\0\3abc"), "127.0.0.0 0"},
};

/* In every two pieces, and octet by octet; what follows is a request like any other. */
static void headers_in_pieces(const void *data)
{
    char text[300];
    (void)data;
    for (size_t i = 0; i < sizeof headers / sizeof headers[0]; i++) {
        size_t len = headers[i].header.len + sizeof GET - 1;
        memcpy(text, headers[i].header.data, headers[i].header.len);
        memcpy(text + headers[i].header.len, GET, sizeof GET - 1);
        for (size_t at = 0; at <= len + 1; at++) {
            begin(BALANCED, MINIPROXY_X_FORWARDED_FOR);
            if (at == len + 1) {
                for (size_t each = 0; each < len; each++) say_octets(text + each, 1);
            } else {
                if (at > 0) say_octets(text, at);
                if (at == headers[i].header.len) assert_int_equal(wire.proxy.counters.buffers, 0);
                if (at < len) say_octets(text + at, len - at);
            }
            assert_string_equal(client_text(), headers[i].client);
            assert_int_equal(wire.connects, 1);
            if (at <= headers[i].header.len) {
                char address[MINIPROXY_ADDR_TEXT], expected[300];
                miniproxy_addr_format(&wire.proxy.sessions[0].client_addr, address);
                snprintf(expected, sizeof expected, REWRITTEN("Via: 1.1 p\r\nX-Forwarded-For: %s\r\n"), address);
                assert_string_equal(wire.to_origin.data, expected);
            }
            check_end();
            assert_int_equal(wire.events, 1);
            assert_int_equal(wire.event.bytes_up, sizeof GET - 1);
        }
    }
}

static void broken_headers(const void *data)
{
    static const struct octets broken[] = {
        O(GET), O("\5\1\0"), O("X"), O("\r\n\r\n" GET), O("\r\n\r\n\1"), O("PROXY\r\n"), O("PROXY \r\n"), O("PROXI"),
        O("proxy TCP4 192.0.2.1 198.51.100.7 1 2\r\n"), O("PROXY TCP4 192.0.2.1 198.51.100.7 1\r\n"),
        O("PROXY TCP4 192.0.2.1 198.51.100.7 1 2 3\r\n"), O("PROXY TCP4 192.0.2.1 198.51.100.7 1 2 \r\n"),
        O("PROXY  TCP4 192.0.2.1 198.51.100.7 1 2\r\n"), O("PROXY TCP4 192.0.2.1  198.51.100.7 1 2\r\n"),
        O("PROXY TCP4 192.0.2.1 198.51.100.7 1 2\n"), O("PROXY TCP4 192.0.2.1 198.51.100.7 1 65536\r\n"),
        O("PROXY TCP4 192.0.2.1 198.51.100.7 -1 2\r\n"), O("PROXY TCP4 192.0.2.1 198.51.100.7 000001 2\r\n"),
        O("PROXY TCP4 192.0.2.256 198.51.100.7 1 2\r\n"), O("PROXY TCP4 192.0.2.1 h.example 1 2\r\n"),
        O("PROXY TCP4 2001:db8::1 2001:db8::2 1 2\r\n"), O("PROXY TCP6 192.0.2.1 198.51.100.7 1 2\r\n"),
        O("PROXY TCP6 2001:db8::1 198.51.100.7 1 2\r\n"), O("PROXY TCP5 192.0.2.1 198.51.100.7 1 2\r\n"),
        O("PROXY UDP4 192.0.2.1 198.51.100.7 1 2\r\n"), O("PROXY UNKNOWNS\r\n"), O("PROXY TCP4\r\n"),
        O("PROXY TCP4 192.0.2.1 198.51.100.7 1 2                                                                      "
          "                                        "),
        O(V2 "\x11\x11\0\x0c\xc0\0\2\1\xc6\x33\x64\7\xdc\4\1\xbb"),
        O(V2 "\x22\x11\0\x0c\xc0\0\2\1\xc6\x33\x64\7\xdc\4\1\xbb"),
        O(V2 "\x21\x11\0\x0b\xc0\0\2\1\xc6\x33\x64\7\xdc\4\1"),
        O(V2 "\x21\x12\0\x0c\xc0\0\2\1\xc6\x33\x64\7\xdc\4\1\xbb"),
        O(V2 "\x21\x31\0\xd8" "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567"
          "890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345"
          "67890123456789012345"), O(V2 "\x21\x11\xff\xff"), O(V2 "\x20\0\xff\xff"),
        O(V2 "\x21\x21\0\x0c\xc0\0\2\1\xc6\x33\x64\7\xdc\4\1\xbb"),
    };
    (void)data;
    for (size_t i = 0; i < 2 * sizeof broken / sizeof broken[0]; i++) {
        begin(BALANCED, MINIPROXY_FORWARDED_NOT);
        if (i % 2 == 0) say_octets(broken[i / 2].data, broken[i / 2].len);
        for (size_t at = 0; i % 2 != 0 && at < broken[i / 2].len; at++) say_octets(broken[i / 2].data + at, 1);
        if (!wire.closed) fail_msg("header %zu was taken", i / 2);
        assert_int_equal(wire.to_client.len, 0);
        assert_int_equal(wire.connects, 0);
        assert_int_equal(wire.events, 1);
        assert_int_equal(wire.event.cause, MINIPROXY_CAUSE_REQUEST_LINE);
        assert_int_equal(wire.event.status, 0);
        assert_int_equal(wire.event.method_len, 0);
        check_end();
    }
}

/* A header is one line of text elsewhere, and no second one is read here. */
static void only_where_it_is_due(const void *data)
{
    (void)data;
    for (size_t i = 0; i < sizeof headers / sizeof headers[0]; i++) {
        begin(PLAIN, MINIPROXY_FORWARDED_NOT);
        say_octets(headers[i].header.data, headers[i].header.len);
        assert_string_equal(client_text(), "127.0.0.0 0");
        assert_int_equal(wire.connects, 0);
        check_end();
    }
    begin(BALANCED, MINIPROXY_FORWARDED_NOT);
    say("PROXY TCP4 192.0.2.1 198.51.100.7 1 2\r\nPROXY TCP4 192.0.2.99 198.51.100.7 1 2\r\n");
    assert_string_equal(client_text(), "192.0.2.1 1");
    assert_int_equal(strncmp(wire.to_client.data, "HTTP/1.1 400 Bad Request\r\n", 26), 0);
    check_end();
    begin(BALANCED, MINIPROXY_FORWARDED_NOT); /* nor before a second request */
    wire.answer = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    say("PROXY TCP4 192.0.2.1 198.51.100.7 1 2\r\n" GET);
    assert_int_equal(strncmp(wire.to_client.data, "HTTP/1.1 200 OK\r\n", 17), 0);
    say("PROXY TCP4 192.0.2.99 198.51.100.7 1 2\r\n" GET);
    assert_int_equal(strncmp(wire.to_client.data, "HTTP/1.1 400 Bad Request\r\n", 26), 0);
    assert_string_equal(client_text(), "192.0.2.1 1");
    check_end();
}

static void deadline(const void *data)
{
    (void)data;
    for (unsigned i = 0; i < 3; i++) {
        static const char *const texts[] = {"", "PROXY TCP4 192.0", "PROXY TCP4 192.0.2.1 198.51.100.7 1 2\r\n"};
        begin(BALANCED, MINIPROXY_FORWARDED_NOT);
        say(texts[i]);
        wire.now_ms = 29990;
        say("");
        assert_false(wire.closed);
        wire.now_ms = 30000;
        say("");
        assert_true(wire.closed);
        assert_int_equal(wire.events, 0); /* nobody has asked for anything */
        check_end();
    }
    begin(BALANCED, MINIPROXY_FORWARDED_NOT);
    say("PROXY TCP4 192.0.2.1");
    wire.at_end = true;
    say("");
    assert_true(wire.closed);
    check_end();
}

static void next_client(void)
{
    wire.pending = true;
    wire.closed = false;
    wire.client = NULL;
    wire.to_proxy.len = wire.to_proxy.read = 0;
    miniproxy_wake_accept(&wire.proxy);
}

#define CONNECT_FROM(address) \
    "PROXY TCP4 " address " 198.51.100.7 1 2\r\nCONNECT h.example:443 HTTP/1.1\r\nHost: h\r\n\r\n"

/* The balancer may have many connections, each client as many as it may have. */
static void limits(const void *data)
{
    (void)data;
    begin(BALANCED, MINIPROXY_FORWARDED_NOT);
    say(CONNECT_FROM("192.0.2.1"));
    next_client();
    say(CONNECT_FROM("192.0.2.2"));
    next_client();
    say(CONNECT_FROM("192.0.2.1"));
    assert_int_equal(strncmp(wire.to_client.data, "HTTP/1.1 200 ", 13), 0);
    next_client();
    say(CONNECT_FROM("192.0.2.1"));
    assert_int_equal(strncmp(wire.to_client.data, "HTTP/1.1 503 ", 13), 0);
    assert_int_equal(wire.event.cause, MINIPROXY_CAUSE_CLIENT_LIMIT);
    assert_int_equal(wire.event.client->ip[3], 1);
    wire.at_end = true; /* and so it goes */
    say("");
    wire.at_end = false;
    next_client();
    say(CONNECT_FROM("192.0.2.3"));
    assert_int_equal(strncmp(wire.to_client.data, "HTTP/1.1 200 ", 13), 0);
    next_client(); /* the house is full */
    say(CONNECT_FROM("192.0.2.1"));
    assert_int_equal(strncmp(wire.to_client.data, "HTTP/1.1 503 ", 13), 0);
    assert_int_equal(wire.event.cause, MINIPROXY_CAUSE_CLIENT_LIMIT);
    next_client();
    say(CONNECT_FROM("192.0.2.4"));
    assert_int_equal(wire.event.cause, MINIPROXY_CAUSE_SESSIONS_FULL);
    check_end();
}

/* ---- interception ---- */

static void meant_for(const char *address, unsigned port)
{
    wire.meant.port = (uint16_t)port;
    assert_true(miniproxy_addr_parse(&wire.meant, address, strlen(address)));
}

static const struct {
    const char *request, *address;
    unsigned port;
    const char *target, *rewritten; /* in the log, for the origin */
} diverted[] = {
    {"GET /x HTTP/1.1\r\nHost: h.example\r\n\r\n", "198.50.9.9", 80, "http://h.example/x",
     "GET /x HTTP/1.1\r\nHost: h.example\r\nVia: 1.1 p\r\n\r\n"},
    {"GET /x HTTP/1.1\r\nA: b\r\nhOST:h.example\r\nC: d\r\n\r\n", "198.50.9.9", 80, "http://h.example/x",
     "GET /x HTTP/1.1\r\nHost: h.example\r\nA: b\r\nC: d\r\nVia: 1.1 p\r\n\r\n"},
    {"GET /x HTTP/1.1\r\nA: b\r\nHost:  \t    h.example    \t\r\n\r\n", "198.50.9.9", 80, "http://h.example/x",
     "GET /x HTTP/1.1\r\nHost: h.example\r\nA: b\r\nVia: 1.1 p\r\n\r\n"},
    {"GET / HTTP/1.1\r\nHost:h\r\n\r\n", "198.50.9.9", 65535, "http://h:65535/",
     "GET / HTTP/1.1\r\nHost: h:65535\r\nVia: 1.1 p\r\n\r\n"},
    {"GET / HTTP/1.1\r\nHost: h.example:8080\r\n\r\n", "198.50.9.9", 8080, "http://h.example:8080/",
     "GET / HTTP/1.1\r\nHost: h.example:8080\r\nVia: 1.1 p\r\n\r\n"},
    {"GET / HTTP/1.1\r\nHost: h.example:25\r\n\r\n", "198.50.9.9", 80, "http://h.example/",
     "GET / HTTP/1.1\r\nHost: h.example\r\nVia: 1.1 p\r\n\r\n"}, /* no port but that of the connection */
    {"GET //evil.example/?a=http://x/ HTTP/1.1\r\nHost: h.example\r\n\r\n", "198.50.9.9", 80,
     "http://h.example//evil.example/?a=http://x/",
     "GET //evil.example/?a=http://x/ HTTP/1.1\r\nHost: h.example\r\nVia: 1.1 p\r\n\r\n"},
    {"GET / HTTP/1.1\r\nHost: [2a00::1]\r\n\r\n", "2a00::9", 80, "http://[2a00::1]/",
     "GET / HTTP/1.1\r\nHost: [2a00::1]\r\nVia: 1.1 p\r\n\r\n"},
    {"GET / HTTP/1.1\r\nHost: [2a00::1]:99\r\n\r\n", "2a00::9", 81, "http://[2a00::1]:81/",
     "GET / HTTP/1.1\r\nHost: [2a00::1]:81\r\nVia: 1.1 p\r\n\r\n"},
    {"GET /x HTTP/1.0\r\n\r\n", "198.50.9.9", 80, "http://198.50.9.9/x",
     "GET /x HTTP/1.1\r\nHost: 198.50.9.9\r\nVia: 1.0 p\r\nConnection: close\r\n\r\n"},
    {"GET / HTTP/1.0\r\n\r\n", "2aff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", 65535,
     "http://[2aff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535/",
     "GET / HTTP/1.1\r\nHost: [2aff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535\r\n"
     "Via: 1.0 p\r\nConnection: close\r\n\r\n"},
    {"GET / HTTP/1.0\r\nA: b\r\nHost:\r\nC: d\r\n\r\n", "198.50.9.9", 8000, "http://198.50.9.9:8000/",
     "GET / HTTP/1.1\r\nHost: 198.50.9.9:8000\r\nA: b\r\nC: d\r\nVia: 1.0 p\r\nConnection: close\r\n\r\n"},
    {"POST /x HTTP/1.1\r\nContent-Length: 3, 3\r\nHost: h.example\r\nMax-Forwards: 10\r\n\r\nabc", "198.50.9.9", 80,
     "http://h.example/x",
     "POST /x HTTP/1.1\r\nHost: h.example\r\nContent-Length: 3\r\nMax-Forwards: 10\r\nVia: 1.1 p\r\n\r\nabc"},
    {"OPTIONS /x HTTP/1.1\r\nMax-Forwards: 10\r\nHost: h.example\r\n\r\n", "198.50.9.9", 80, "http://h.example/x",
     "OPTIONS /x HTTP/1.1\r\nHost: h.example\r\nMax-Forwards: 9\r\nVia: 1.1 p\r\n\r\n"},
    {"OPTIONS * HTTP/1.1\r\nHost: h.example\r\n\r\n", "198.50.9.9", 80, "http://h.example",
     "OPTIONS * HTTP/1.1\r\nHost: h.example\r\nVia: 1.1 p\r\n\r\n"}, /* about the origin, not about the proxy */
    {"OPTIONS * HTTP/1.1\r\nA: b\r\nHost: h\r\nC: d\r\n\r\n", "198.50.9.9", 65535, "http://h:65535",
     "OPTIONS * HTTP/1.1\r\nHost: h:65535\r\nA: b\r\nC: d\r\nVia: 1.1 p\r\n\r\n"},
    {"OPTIONS * HTTP/1.0\r\n\r\n", "2aff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", 65535,
     "http://[2aff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535",
     "OPTIONS * HTTP/1.1\r\nHost: [2aff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535\r\n"
     "Via: 1.0 p\r\nConnection: close\r\n\r\n"},
    {"GET /x HTTP/1.1\r\nConnection: a, close\r\nA: b\r\nHost: h.example\r\n\r\n", "198.50.9.9", 80,
     "http://h.example/x", "GET /x HTTP/1.1\r\nHost: h.example\r\nVia: 1.1 p\r\nConnection: close\r\n\r\n"},
    {"GET http://h.example/x HTTP/1.1\r\nHost: other\r\n\r\n", "198.50.9.9", 81, "http://h.example/x",
     "GET /x HTTP/1.1\r\nHost: h.example\r\nVia: 1.1 p\r\n\r\n"}, /* absolute as ever */
};

static void check_diverted(size_t i, const char *sent)
{
    char expected[512];
    if (strcmp(sent, diverted[i].rewritten) != 0)
        fail_msg("request %zu became\n%s (cause %u, begun %s)", i, sent, wire.event.cause, begun);
    snprintf(expected, sizeof expected, "%.*s %s", (int)strcspn(diverted[i].request, " "), diverted[i].request,
             diverted[i].target);
    assert_string_equal(begun, expected);
    assert_int_equal(wire.events, 0);
    check_end();
    assert_int_equal(wire.event.target_len, strlen(diverted[i].target));
    assert_memory_equal(wire.event.target, diverted[i].target, wire.event.target_len);
}

static void diverted_requests(const void *data)
{
    static struct wire_text sent;
    (void)data;
    for (size_t i = 0; i < sizeof diverted / sizeof diverted[0]; i++) {
        size_t len = strlen(diverted[i].request);
        for (size_t at = 1; at <= len + 1; at++) {
            begin(INTERCEPTING, MINIPROXY_FORWARDED_NOT);
            meant_for(diverted[i].address, diverted[i].port);
            memset(&sent, 0, sizeof sent);
            for (size_t from = 0, n; from < len; from += n) {
                n = at > len ? 1 : from == 0 ? at : len - from;
                say_octets(diverted[i].request + from, n);
                wire_put(&sent, wire.to_origin.data, wire.to_origin.len);
            }
            check_diverted(i, sent.data);
        }
    }
}

/* A head of every size up to what fits, with all that can be added, and octets behind it to the end of the buffer. */
static void large_heads(const void *data)
{
    static char text[3000];
    (void)data;
    for (unsigned kind = 0; kind < 3; kind++) {
        unsigned taken = 0, refused = 0;
        for (unsigned n = 500; n < 900; n++) {
            size_t len = (size_t)snprintf(text, sizeof text, "GET / HTTP/1.%u\r\n%sX: ", kind > 0,
                                          kind == 1 ? "Host: h\r\n" : "");
            memset(text + len, 'x', n);
            len += n;
            len += (size_t)sprintf(text + len, "\r\n%s\r\n", kind == 2 ? "Host:h\r\n" : "");
            memset(text + len, '\n', 1500);
            begin(INTERCEPTING, MINIPROXY_FORWARDED);
            meant_for("2aff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", 65535);
            say_octets(text, len + 1500);
            taken += wire.connects;
            refused += wire.event.cause == MINIPROXY_CAUSE_HEAD_SIZE;
            if (wire.connects > 0)
                assert_non_null(strstr(wire.to_origin.data, "\r\nForwarded: for=127.0.0.0\r\n\r\n"));
            check_end();
        }
        assert_true(taken > 50 && refused > 50 && taken + refused == 400);
    }
}

static void refused_diversions(const void *data)
{
    static const struct {
        const char *request;
        enum miniproxy_cause cause;
        bool meant;
    } cases[] = {
        {"GET / HTTP/1.1\r\n\r\n", MINIPROXY_CAUSE_HOST, true},
        {"GET / HTTP/1.1\r\nHost: h\r\nHost: h\r\n\r\n", MINIPROXY_CAUSE_HOST, true},
        {"GET / HTTP/1.1\r\nHost: h h\r\n\r\n", MINIPROXY_CAUSE_HOST, true},
        {"GET / HTTP/1.1\r\nHost: h/\r\n\r\n", MINIPROXY_CAUSE_HOST, true},
        {"GET / HTTP/1.1\r\nHost: u@h\r\n\r\n", MINIPROXY_CAUSE_HOST, true},
        {"GET / HTTP/1.1\r\nHost: 127.1\r\n\r\n", MINIPROXY_CAUSE_HOST, true},
        {"GET / HTTP/1.1\r\nHost: h:0\r\n\r\n", MINIPROXY_CAUSE_HOST, true},
        {"GET / HTTP/1.1\r\nHost : h\r\n\r\n", MINIPROXY_CAUSE_FIELD, true},
        {"GET / HTTP/1.1\r\n folded\r\nHost: h\r\n\r\n", MINIPROXY_CAUSE_FIELD, true},
        {"GET /#f HTTP/1.1\r\nHost: h\r\n\r\n", MINIPROXY_CAUSE_TARGET, true},
        {"GET / HTTP/1.1\r\nHost: h\r\nVia: 1.1 p\r\n\r\n", MINIPROXY_CAUSE_LOOP, true},
        {"GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip\r\n\r\n", MINIPROXY_CAUSE_CODING, true},
        {"GET / HTTP/1.1\r\nHost: h\r\n\r\n", MINIPROXY_CAUSE_ORIGIN_FORM, false},
        {"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", MINIPROXY_CAUSE_ADDRESS, true},
        {"\x16\3\1", MINIPROXY_CAUSE_TLS, true},
    };
    (void)data;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        begin(INTERCEPTING, MINIPROXY_FORWARDED_NOT);
        if (cases[i].meant) meant_for("198.50.9.9", 80);
        say(cases[i].request);
        if (wire.event.cause != cases[i].cause) fail_msg("%s: cause %u", cases[i].request, wire.event.cause);
        assert_int_equal(wire.events, 1);
        assert_int_equal(wire.connects, 0);
        check_end();
    }
    begin(PLAIN, MINIPROXY_FORWARDED_NOT);
    meant_for("198.50.9.9", 80);
    say("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_int_equal(wire.event.cause, MINIPROXY_CAUSE_ORIGIN_FORM);
    check_end();
}

/* Who knows of no proxy is not asked to log in with one. */
static void no_logins(const void *data)
{
    static const struct miniproxy_user users[] = {{.name = "anna", .password = "x", .groups = 1}};
    static const struct miniproxy_rule rules[] = {{.verdict = MINIPROXY_ALLOW, .users = 1}};
    static const struct miniproxy_policy policy = {.rules = rules, .rule_count = 1, .users = users, .user_count = 1};
    (void)data;
    begin(INTERCEPTING, MINIPROXY_FORWARDED_NOT);
    wire.proxy.config.policy = &policy;
    meant_for("198.50.9.9", 80);
    say("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_int_equal(wire.event.cause, MINIPROXY_CAUSE_POLICY);
    assert_null(strstr(wire.to_client.data, "Proxy-Authenticate"));
    say("GET http://h/ HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_int_equal(wire.event.cause, MINIPROXY_CAUSE_LOGIN_MISSING);
    check_end();
}

/* The next request of the connection may be for another host, which is asked of the policy for itself. */
static void kept_connections(const void *data)
{
    (void)data;
    begin(INTERCEPTING, MINIPROXY_FORWARDED_NOT);
    meant_for("198.50.9.9", 80);
    wire.answer = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    say("GET /1 HTTP/1.1\r\nHost: h.example\r\n\r\n");
    say("GET /2 HTTP/1.1\r\nHost: H.example\r\n\r\n");
    assert_int_equal(wire.connects, 1);
    assert_int_equal(wire.event.status, 200);
    assert_true(wire.event.reused);
    say("GET /3 HTTP/1.1\r\nHost: other.example\r\n\r\n");
    assert_int_equal(wire.connects, 2);
    assert_string_equal(wire.host, "other.example");
    say("GET /4 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
    assert_int_equal(wire.event.cause, MINIPROXY_CAUSE_ADDRESS);
    check_end();
}

/* ---- what origins are told ---- */

static void forwarded(const void *data)
{
    static const struct {
        enum miniproxy_forwarded kind;
        const char *header, *more;
    } cases[] = {
        {MINIPROXY_FORWARDED_NOT, "PROXY TCP4 192.0.2.1 198.51.100.7 1 2\r\n", ""},
        {MINIPROXY_X_FORWARDED_FOR, "PROXY TCP4 192.0.2.1 198.51.100.7 1 2\r\n", "X-Forwarded-For: 192.0.2.1\r\n"},
        {MINIPROXY_X_FORWARDED_FOR, "PROXY TCP6 2001:db8::1 2001:db8::2 1 2\r\n", "X-Forwarded-For: 2001:db8::1\r\n"},
        {MINIPROXY_FORWARDED, "PROXY TCP4 192.0.2.1 198.51.100.7 1 2\r\n", "Forwarded: for=192.0.2.1\r\n"},
        {MINIPROXY_FORWARDED, "PROXY TCP6 2001:db8::1 2001:db8::2 1 2\r\n", "Forwarded: for=\"[2001:db8::1]\"\r\n"},
    };
    char expected[300];
    (void)data;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        begin(BALANCED, cases[i].kind);
        say(cases[i].header);
        say(GET);
        snprintf(expected, sizeof expected, REWRITTEN("Via: 1.1 p\r\n%s"), cases[i].more);
        assert_string_equal(wire.to_origin.data, expected);
        check_end();
        begin(BALANCED, cases[i].kind); /* what comes along stays in front */
        say(cases[i].header);
        say("GET http://h.example/x HTTP/1.1\r\nHost: h.example\r\n"
            "X-Forwarded-For: 1.2.3.4\r\nForwarded: for=x\r\n\r\n");
        snprintf(expected, sizeof expected,
                 REWRITTEN("X-Forwarded-For: 1.2.3.4\r\nForwarded: for=x\r\nVia: 1.1 p\r\n%s"), cases[i].more);
        assert_string_equal(wire.to_origin.data, expected);
        check_end();
    }
    begin(PLAIN, MINIPROXY_FORWARDED);
    say("CONNECT h.example:443 HTTP/1.1\r\nHost: h\r\n\r\nabc");
    assert_string_equal(wire.to_origin.data, "abc");
    check_end();
}

/* The longest address, the shortest request that becomes longest. */
static void room(const void *data)
{
    (void)data;
    begin(BALANCED, MINIPROXY_FORWARDED);
    say("PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ::1 65535 65535\r\n");
    say("GET http://a HTTP/1.0\r\nTransfer-Encoding:,\r\n\r\n");
    check_end();
    begin(BALANCED, MINIPROXY_FORWARDED);
    say("PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ::1 65535 65535\r\n");
    say("GET http://[::2a]:65535 HTTP/1.1\r\nHost:\r\nConnection:upgrade\r\nUpgrade:websocket\r\n\r\n");
    assert_int_equal(wire.event.cause, MINIPROXY_CAUSE_ADDRESS);
    check_end();
    begin(BALANCED, MINIPROXY_FORWARDED);
    say("PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ::1 65535 65535\r\n");
    say("POST http://a:65535 HTTP/1.1\r\nHost:\r\nTransfer-Encoding:chunked\r\nConnection:close\r\n\r\n");
    assert_non_null(
        strstr(wire.to_origin.data, "Forwarded: for=\"[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]\"\r\n\r\n"));
    check_end();
}

/* Whatever comes: no assertion, nothing left over. */
static void any_octets(const void *data)
{
    char text[300];
    unsigned connects = 0, events = 0;
    (void)data;
    for (unsigned round = 0; round < 30000; round++) {
        uint8_t listener = (uint8_t)unit_random(3);
        const char *good = diverted[unit_random(sizeof diverted / sizeof diverted[0])].request;
        size_t from = unit_random(sizeof headers / sizeof headers[0]), len = 0, at;
        if (listener == BALANCED) memcpy(text, headers[from].header.data, len = headers[from].header.len);
        memcpy(text + len, good, strlen(good));
        len += strlen(good);
        for (unsigned i = unit_random(4); i > 0; i--)
            text[unit_random((uint32_t)len)] = "\r\n :/,\0PROXYHost"[unit_random(16)];
        begin(listener, (enum miniproxy_forwarded)unit_random(3));
        meant_for(round % 2 != 0 ? "198.50.9.9" : "2a00::1", 80);
        for (at = 0; at < len;) {
            size_t n = 1 + unit_random((uint32_t)(len - at));
            say_octets(text + at, n);
            at += n;
        }
        check_end();
        assert_true(wire.events <= 12);
        connects += wire.connects;
        events += wire.events;
    }
    assert_true(connects > 3000 && events > 20000);
}

int main(void)
{
    static struct unit_test tests[] = {
        {"headers of the PROXY protocol, in all pieces [F01,F03]", headers_in_pieces, NULL, false},
        {"broken headers of the PROXY protocol [F02]", broken_headers, NULL, false},
        {"no header where none is due [F01]", only_where_it_is_due, NULL, false},
        {"headers have to come in time [F02]", deadline, NULL, false},
        {"clients' limits are those of the clients told [F03]", limits, NULL, false},
        {"diverted requests, in all pieces [I01,I02]", diverted_requests, NULL, false},
        {"diverted heads as large as fits [I02,G03]", large_heads, NULL, false},
        {"diverted requests that are refused [I01,I03]", refused_diversions, NULL, false},
        {"no login is asked for where requests are diverted [I03]", no_logins, NULL, false},
        {"kept connections that were diverted [I01]", kept_connections, NULL, false},
        {"X-Forwarded-For and Forwarded, off by default [G03,V03]", forwarded, NULL, false},
        {"room for what is added [G03]", room, NULL, false},
        {"any octets [F02,I01]", any_octets, NULL, false},
    };
    return unit_run("doors", tests, sizeof tests / sizeof tests[0]);
}

/* SPDX-License-Identifier: MIT
 *
 * TLS as the core sees it: a port with `secure`, connections that must not be relayed, clients that speak in clear.
 */
#define MINIPROXY_WITH_TLS 1
#include "../../miniproxy.c"
#include "unit.h"
#include "wire.h"

/* What the port was asked for, in order: "secure HOST", "connect PORT" and "close" of connections to origins, "relay". */
static struct {
    char log[1024];
    int secure_result;
    int connect_results[8]; /* one after the other, then OK; they end with 0 */
    unsigned connects, addresses, relays;
    bool plain;             /* recv says once that this client speaks in clear */
    bool client_has_no_relay, server_has_no_relay;
    bool origin_is_gone;    /* until the next connect */
    char repeated[sizeof wire.to_origin.data];
} port;

static void note(const char *format, ...)
{
    size_t len = strlen(port.log);
    va_list args;
    va_start(args, format);
    vsnprintf(port.log + len, sizeof port.log - len, format, args);
    va_end(args);
}

static void is_fresh(const struct miniproxy_conn *c)
{
    assert_int_equal(c->handle, 0);
    assert_int_equal(c->port_flags, 0);
    assert_int_equal(c->no_relay, 0);
}

static int tls_accept(void *data, struct miniproxy_conn *c, struct miniproxy_addr *peer)
{
    is_fresh(c);
    if (!wire.pending) {
        c->no_relay = 1; /* it has tried */
        return MINIPROXY_AGAIN;
    }
    c->no_relay = port.client_has_no_relay;
    c->handle = 1;
    return wire_accept(data, c, peer);
}

static int tls_resolve(void *data, struct miniproxy_conn *c, const char *host, struct miniproxy_addr *out, int max)
{
    assert_true((int)port.addresses <= max);
    c->handle = 7;
    c->port_flags = 7;
    for (unsigned i = 0; i < port.addresses; i++) {
        wire_resolve(data, c, host, &out[i], 1);
        out[i].ip[3] = (uint8_t)i;
    }
    return (int)port.addresses;
}

static int tls_secure(void *data, struct miniproxy_conn *c, const char *host)
{
    (void)data;
    is_fresh(c);
    c->port_flags = 1;
    note("secure %s, ", host);
    return port.secure_result;
}

static int tls_connect(void *data, struct miniproxy_conn *c, const struct miniproxy_addr *to)
{
    int result = port.connect_results[port.connects];
    if (c->handle == 0) note("connect %u, ", to->port);
    if (result != 0) port.connects++;
    c->handle = 1;
    c->no_relay = port.server_has_no_relay;
    if (result != 0) return result;
    port.origin_is_gone = false;
    return wire_connect(data, c, to);
}

static int tls_recv(void *data, struct miniproxy_conn *c, void *buf, size_t len)
{
    if (c == wire.client && port.plain) {
        port.plain = false;
        return MINIPROXY_EPLAIN;
    }
    if (c != wire.client && port.origin_is_gone) return MINIPROXY_ERESET;
    return wire_recv(data, c, buf, len);
}

static int tls_send(void *data, struct miniproxy_conn *c, const void *buf, size_t len)
{
    if (c != wire.client && port.origin_is_gone) return MINIPROXY_ERESET;
    return wire_send(data, c, buf, len);
}

static void tls_close(void *data, struct miniproxy_conn *c, bool hard)
{
    if (c != wire.client) note("close, ");
    wire_close(data, c, hard);
}

static int tls_relay(void *data, struct miniproxy_conn *from, struct miniproxy_conn *to, size_t max)
{
    char some[64];
    int n = wire_recv(data, from, some, max < sizeof some ? max : sizeof some);
    port.relays++;
    if (n == MINIPROXY_AGAIN) from->ready &= (uint8_t)~MINIPROXY_RD;
    return n < 0 ? n : wire_send(data, to, some, (size_t)n);
}

static const struct miniproxy_port tls_port = {.accept = tls_accept,
                                               .resolve = tls_resolve,
                                               .connect = tls_connect,
                                               .recv = tls_recv,
                                               .send = tls_send,
                                               .finish = wire_finish,
                                               .close = tls_close,
                                               .relay = tls_relay,
                                               .secure = tls_secure};

static void start(void)
{
    memset(&port, 0, sizeof port);
    port.addresses = 1;
    wire_start((struct miniproxy_config){0});
    wire.proxy.config.port = &tls_port;
    wire.answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
}

static void wakes(struct miniproxy_conn *c, uint32_t now_ms)
{
    if (c != NULL) miniproxy_wake(c, MINIPROXY_WR);
    for (unsigned i = 0; i < 20 && miniproxy_poll(&wire.proxy, now_ms) == 0; i++) {
    }
}

static struct miniproxy_conn *attempt_number(unsigned i)
{
    return &wire.proxy.sessions[0].server[i];
}

static bool begins(const char *text, const char *with)
{
    return strncmp(text, with, strlen(with)) == 0;
}

/* The client has got a whole refusal for this cause. */
static void refused_for(unsigned status, const char *type, const char *token)
{
    char line[128];
    const char *got = wire.to_client.data;
    snprintf(line, sizeof line, "HTTP/1.1 %u ", status);
    if (!begins(got, line)) fail_msg("%s, got: %s", token, got);
    snprintf(line, sizeof line, "\r\nProxy-Status: miniproxy; error=%s\r\n", type);
    if (strstr(got, line) == NULL) fail_msg("%s, got: %s", token, got);
    snprintf(line, sizeof line, ". (%s)\n", token);
    if (strstr(got, line) == NULL) fail_msg("%s, got: %s", token, got);
    assert_int_equal(wire.events, 1);
    assert_int_equal(wire.event.status, status);
    assert_string_equal(miniproxy_cause_token((enum miniproxy_cause)wire.event.cause), token);
}

/* ---- Targets ---- */

static void targets(const void *data)
{
    static const struct {
        const char *target, *log, *head; /* as the origin gets it */
    } cases[] = {
        {"https://h.example/x?y", "secure h.example, connect 443, ", "GET /x?y HTTP/1.1\r\nHost: h.example\r\n"},
        {"https://h.example", "secure h.example, connect 443, ", "GET / HTTP/1.1\r\nHost: h.example\r\n"},
        {"https://h.example?q", "secure h.example, connect 443, ", "GET /?q HTTP/1.1\r\nHost: h.example\r\n"},
        {"HTTPS://H.Example./", "secure H.Example., connect 443, ", "GET / HTTP/1.1\r\nHost: H.Example.\r\n"},
        {"https://h.example:443/", "secure h.example, connect 443, ", "GET / HTTP/1.1\r\nHost: h.example\r\n"},
        {"https://h.example:/", "secure h.example, connect 443, ", "GET / HTTP/1.1\r\nHost: h.example\r\n"},
        {"https://h.example:80/", "secure h.example, connect 80, ", "GET / HTTP/1.1\r\nHost: h.example:80\r\n"},
        {"https://h.example:8443/", "secure h.example, connect 8443, ", "GET / HTTP/1.1\r\nHost: h.example:8443\r\n"},
        {"https://198.50.0.1/", "secure 198.50.0.1, connect 443, ", "GET / HTTP/1.1\r\nHost: 198.50.0.1\r\n"},
        {"https://[2600::1]/", "secure 2600::1, connect 443, ", "GET / HTTP/1.1\r\nHost: [2600::1]\r\n"},
        {"https://[2600::1]:81/", "secure 2600::1, connect 81, ", "GET / HTTP/1.1\r\nHost: [2600::1]:81\r\n"},
        {"http://h.example/", "connect 80, ", "GET / HTTP/1.1\r\nHost: h.example\r\n"},
        {"http://h.example:443/", "connect 443, ", "GET / HTTP/1.1\r\nHost: h.example:443\r\n"},
    };
    (void)data;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char request[256];
        start();
        snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: h.example\r\n\r\n", cases[i].target);
        say(request);
        assert_string_equal(port.log, cases[i].log);
        if (!begins(wire.to_origin.data, cases[i].head)) fail_msg("%s: %s", cases[i].target, wire.to_origin.data);
        assert_non_null(strstr(wire.to_origin.data, "\r\nVia: 1.1 miniproxy\r\n"));
        assert_true(begins(wire.to_client.data, "HTTP/1.1 200 OK\r\n"));
    }
}

static void not_taken(const void *data)
{
    static const struct {
        const char *target;
        bool has_secure;
        unsigned status;
        const char *type, *token;
    } cases[] = {
        {"https://h.example/", false, 501, "proxy_internal_response", "scheme_unsupported"},
        {"https://[2600::1]/", false, 501, "proxy_internal_response", "scheme_unsupported"},
        {"httpss://h.example/", true, 501, "proxy_internal_response", "scheme_unsupported"},
        {"wss://h.example/", true, 501, "proxy_internal_response", "scheme_unsupported"},
        {"https://", true, 400, "http_request_error", "bad_target"},
        {"https:/h.example/", true, 400, "http_request_error", "bad_target"},
        {"https://u:p@h.example/", true, 400, "http_request_error", "bad_target"},
        {"https://h.example:0/", true, 400, "http_request_error", "bad_target"},
    };
    (void)data;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct miniproxy_port without = tls_port;
        char request[256];
        start();
        without.secure = NULL;
        if (!cases[i].has_secure) wire.proxy.config.port = &without;
        snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: h.example\r\n\r\n", cases[i].target);
        say(request);
        refused_for(cases[i].status, cases[i].type, cases[i].token);
        assert_string_equal(port.log, "");
    }
}

/* CONNECT leads to a TLS server as well, but the client speaks to that itself. */
static void tunnels_are_not_secured(const void *data)
{
    (void)data;
    start();
    say("CONNECT https:443 HTTP/1.1\r\nHost: https:443\r\n\r\n");
    assert_string_equal(port.log, "connect 443, ");
}

/* ---- Attempts ---- */

static void once_an_attempt(const void *data)
{
    (void)data;
    start();
    port.connect_results[0] = port.connect_results[1] = port.connect_results[2] = MINIPROXY_AGAIN;
    say("GET https://h.example/ HTTP/1.1\r\nHost: h.example\r\n\r\n");
    assert_string_equal(port.log, "secure h.example, connect 443, ");
    for (unsigned i = 0; i < 3; i++) wakes(attempt_number(0), 2);
    assert_string_equal(port.log, "secure h.example, connect 443, ");
    assert_true(begins(wire.to_client.data, "HTTP/1.1 200 OK\r\n"));
}

/* One after the other in the same place, then two beside each other. */
static void each_attempt(const void *data)
{
    (void)data;
    start();
    port.addresses = 3;
    port.connect_results[0] = MINIPROXY_ETLS_NAME;
    port.connect_results[1] = MINIPROXY_AGAIN;
    port.connect_results[2] = MINIPROXY_AGAIN;
    say("GET https://h.example/ HTTP/1.1\r\nHost: h.example\r\n\r\n");
    assert_string_equal(port.log, "secure h.example, connect 443, close, secure h.example, connect 443, ");
    port.log[0] = '\0';
    wakes(NULL, 1000);
    assert_string_equal(port.log, "secure h.example, connect 443, ");
    port.log[0] = '\0';
    wakes(attempt_number(1), 1000);
    assert_string_equal(port.log, "close, ");
    assert_true(begins(wire.to_client.data, "HTTP/1.1 200 OK\r\n"));
    assert_true(begins(wire.to_origin.data, "GET / HTTP/1.1\r\nHost: h.example\r\n"));
}

static void secure_fails(const void *data)
{
    static const struct {
        int result;
        unsigned status;
        const char *type, *token;
    } cases[] = {
        {MINIPROXY_ERESOURCES, 503, "destination_unavailable", "no_resources"},
        {MINIPROXY_ETLS_CONFIG, 500, "proxy_configuration_error", "tls_not_configured"},
    };
    (void)data;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        start();
        port.secure_result = cases[i].result;
        say("GET https://h.example/ HTTP/1.1\r\nHost: h.example\r\n\r\n");
        refused_for(cases[i].status, cases[i].type, cases[i].token);
        assert_string_equal(port.log, "secure h.example, close, ");
        assert_int_equal(attempt_number(0)->generation, 1);
    }
}

static void errors(const void *data)
{
    static const struct {
        int result;
        unsigned status;
        const char *type, *token;
    } cases[] = {
        {MINIPROXY_ETLS_NAME, 502, "tls_certificate_error", "tls_wrong_name"},
        {MINIPROXY_ETLS_EXPIRED, 502, "tls_certificate_error", "tls_expired"},
        {MINIPROXY_ETLS_SELF_SIGNED, 502, "tls_certificate_error", "tls_self_signed"},
        {MINIPROXY_ETLS_ISSUER, 502, "tls_certificate_error", "tls_unknown_issuer"},
        {MINIPROXY_ETLS_CERTIFICATE, 502, "tls_certificate_error", "tls_bad_certificate"},
        {MINIPROXY_ETLS_ALERT, 502, "tls_alert_received", "tls_alert"},
        {MINIPROXY_ETLS_PROTOCOL, 502, "tls_protocol_error", "tls_protocol"},
        {MINIPROXY_ETLS_TIMEOUT, 504, "connection_timeout", "tls_timeout"},
        {MINIPROXY_ETLS_CONFIG, 500, "proxy_configuration_error", "tls_not_configured"},
        {MINIPROXY_EREFUSED, 502, "connection_refused", "connection_refused"},
        {MINIPROXY_EFAIL, 500, "proxy_internal_error", "internal_error"},
    };
    (void)data;
    for (unsigned i = 0; i < 2 * sizeof cases / sizeof cases[0]; i++) {
        start();
        port.connect_results[0] = i % 2 == 0 ? cases[i / 2].result : MINIPROXY_AGAIN;
        port.connect_results[1] = cases[i / 2].result;
        say("GET https://h.example/ HTTP/1.1\r\nHost: h.example\r\n\r\n");
        if (i % 2 == 1) wakes(attempt_number(0), 1);
        refused_for(cases[i / 2].status, cases[i / 2].type, cases[i / 2].token);
        assert_int_equal(wire.to_origin.len, 0);
    }
}

/* ---- Reuse ---- */

static void reuse(const void *data)
{
    static const struct {
        const char *first, *second;
        bool reused;
    } cases[] = {
        {"https://h.example/", "https://h.example/", true},
        {"https://h.example:443/", "HTTPS://H.example:443/", true},
        {"http://h.example:443/", "http://h.example:443/", true},
        {"http://h.example:443/", "https://h.example:443/", false},
        {"https://h.example:443/", "http://h.example:443/", false},
        {"http://h.example/", "https://h.example/", false},
        {"https://h.example/", "http://h.example/", false},
        {"https://h.example/", "https://i.example/", false},
    };
    (void)data;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char request[256];
        const char *log;
        start();
        snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: h.example\r\n\r\n", cases[i].first);
        say(request);
        assert_int_equal(wire.connects, 1);
        assert_int_equal(wire.event.reused, 0);
        port.log[0] = '\0';
        snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: h.example\r\n\r\n", cases[i].second);
        say(request);
        assert_int_equal(wire.event.status, 200);
        if (wire.event.reused != cases[i].reused) fail_msg("%s, then %s", cases[i].first, cases[i].second);
        log = cases[i].reused ? "" : strchr(cases[i].second, 's') == cases[i].second + 4 ? "close, secure " : "close, connect ";
        if (log[0] == '\0') assert_string_equal(port.log, "");
        else assert_true(begins(port.log, log));
    }
}

/* What is sent again over a new connection is what was sent before, and its host is told once more although nothing of
 * the plan is left. */
static void sent_again(const void *data)
{
    static const struct {
        const char *target, *log;
    } cases[] = {
        {"https://h.example/x", "close, secure h.example, connect 443, "},
        {"https://h.example:8443/", "close, secure h.example, connect 8443, "},
        {"https://198.50.0.1/", "close, secure 198.50.0.1, connect 443, "},
        {"https://[2600::1]/", "close, secure 2600::1, connect 443, "},
        {"https://[2600::1]:8443/", "close, secure 2600::1, connect 8443, "},
        {"http://h.example/x", "close, connect 80, "},
    };
    (void)data;
    for (unsigned i = 0; i < 2 * sizeof cases / sizeof cases[0]; i++) {
        char request[256];
        start();
        snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: h.example\r\nX: y\r\n\r\n", cases[i / 2].target);
        say(request);
        strcpy(port.repeated, wire.to_origin.data);
        port.origin_is_gone = true;
        port.log[0] = '\0';
        port.connects = 0;
        if (i % 2 == 1) port.connect_results[0] = MINIPROXY_AGAIN;
        say(request);
        if (i % 2 == 1) wakes(attempt_number(0), 1);
        assert_string_equal(port.log, cases[i / 2].log);
        assert_string_equal(wire.to_origin.data, port.repeated);
        assert_true(begins(wire.to_client.data, "HTTP/1.1 200 OK\r\n"));
        assert_int_equal(miniproxy_counters(&wire.proxy)->retried, 1);
    }
}

static void sent_again_in_vain(const void *data)
{
    (void)data;
    start();
    say("GET https://h.example/ HTTP/1.1\r\nHost: h.example\r\n\r\n");
    port.origin_is_gone = true;
    port.connect_results[0] = MINIPROXY_ETLS_EXPIRED;
    wire.events = 0;
    say("GET https://h.example/ HTTP/1.1\r\nHost: h.example\r\n\r\n");
    refused_for(502, "tls_certificate_error", "tls_expired");
    assert_null(strstr(wire.to_client.data, "Connection: close"));
    wire.events = 0;
    port.connect_results[0] = 0;
    say("GET https://h.example/ HTTP/1.1\r\nHost: h.example\r\n\r\n");
    assert_true(begins(wire.to_client.data, "HTTP/1.1 200 OK\r\n"));
}

/* ---- Clients in clear ---- */

static void refused_as_plain(void)
{
    refused_for(400, "http_request_error", "plain_on_tls_port");
    assert_non_null(strstr(wire.to_client.data, "\r\nConnection: close\r\n"));
    assert_non_null(strstr(wire.to_client.data, "use https:// in the proxy's address"));
    assert_int_equal(wire.event.method_len, 0);
    assert_int_equal(wire.event.target_len, 0);
    assert_string_equal(port.log, "");
}

static void plain(const void *data)
{
    (void)data;
    start();
    port.plain = true;
    say("GET http://h.example/ HTTP/1.1\r\nHost: h.example\r\n\r\n");
    refused_as_plain();
    assert_false(wire.closed); /* it lingers, and drops what it reads */
    assert_int_equal(wire.proxy.sessions[0].state, STATE_LINGER);
    say("GET http://h.example/ HTTP/1.1\r\nHost: h.example\r\n\r\n");
    assert_int_equal(wire.to_client.len, 0);
    assert_string_equal(port.log, "");
    wakes(NULL, 10000);
    assert_true(wire.closed);
    assert_int_equal(wire.events, 1);
}

/* It does not happen within a head, but if a port says so there that is an end too. */
static void plain_in_head(const void *data)
{
    (void)data;
    start();
    say("GE");
    assert_int_equal(wire.proxy.sessions[0].state, STATE_HEAD);
    port.plain = true;
    say("T http://h.example/ HTTP/1.1\r\nHost: h.example\r\n\r\n");
    refused_as_plain();
}

/* A look at an idle client must not lose what can be learnt only once. */
static void plain_while_draining(const void *data)
{
    (void)data;
    start();
    say("");
    port.plain = true;
    wire_put(&wire.to_proxy, "GET http://h.example/ HTTP/1.1\r\n\r\n", 34);
    miniproxy_drain(&wire.proxy);
    wakes(NULL, 1);
    refused_as_plain();
}

/* The other way round, all is as ever. */
static void tls_in_clear(const void *data)
{
    (void)data;
    start();
    say("\x16\x03\x01\x02");
    refused_for(400, "http_request_error", "tls_on_plain_port");
}

/* ---- Relay ---- */

static void relayed(const void *data)
{
    (void)data;
    for (unsigned i = 0; i < 4; i++) {
        start();
        port.client_has_no_relay = (i & 1) != 0;
        port.server_has_no_relay = (i & 2) != 0;
        wire.answer = NULL;
        say("CONNECT h.example:443 HTTP/1.1\r\nHost: h.example\r\n\r\n");
        say("up");
        assert_string_equal(wire.to_origin.data, "up");
        wire_put(&wire.from_origin, "down", 4);
        miniproxy_wake(wire.server, MINIPROXY_RD);
        wakes(NULL, 1);
        assert_string_equal(wire.to_client.data, "down");
        assert_int_equal(port.relays > 0, i == 0);
    }
}

/* Who comes next into the same place is relayed. */
static void relayed_again(const void *data)
{
    (void)data;
    start();
    port.client_has_no_relay = port.server_has_no_relay = true;
    wire.answer = NULL;
    say("CONNECT h.example:443 HTTP/1.1\r\nHost: h.example\r\n\r\n");
    miniproxy_stop(&wire.proxy);
    is_fresh(wire.client);
    is_fresh(wire.server);
    wire.proxy.draining = 0;
    wire.client = wire.server = NULL;
    port.client_has_no_relay = port.server_has_no_relay = false;
    wire.pending = true;
    miniproxy_wake_accept(&wire.proxy);
    say("CONNECT h.example:443 HTTP/1.1\r\nHost: h.example\r\n\r\n");
    say("up");
    assert_ptr_equal(wire.client, &wire.proxy.sessions[0].client);
    assert_string_equal(wire.to_origin.data, "up");
    assert_true(port.relays > 0);
}

static const char *proven;

static size_t tls_client_name(void *data, struct miniproxy_conn *c, char *name, size_t size)
{
    (void)data;
    assert_ptr_equal(c, wire.client);
    assert_true(size >= 16);
    memcpy(name, proven, strlen(proven));
    return strlen(proven);
}

/* A client of whom the port says that it is `name`. */
static void start_proven(const char *name, const struct miniproxy_policy *policy)
{
    static struct miniproxy_port with;
    with = tls_port;
    with.client_name = tls_client_name;
    start();
    proven = name;
    wire.proxy.config.port = &with;
    wire.proxy.config.policy = policy;
}

/* A client is who its certificate says, if that is a user without a password and it does not say otherwise. */
static void proven_users(const void *data)
{
    static const struct miniproxy_user users[] = {
        {.name = "sensor", .groups = 1}, {.name = "alice", .password = "secret", .groups = 1}};
    static const struct miniproxy_rule rules[] = {{.verdict = MINIPROXY_ALLOW, .users = 1}};
    static const struct miniproxy_policy policy = {.rules = rules, .rule_count = 1, .users = users, .user_count = 2};
    static const struct {
        const char *proven, *login, *user; /* user NULL: 407 */
    } cases[] = {
        {"sensor", "", "sensor"},
        {"", "", NULL},
        {"senso", "", NULL},
        {"sensor2", "", NULL},
        {"alice", "", NULL},
        {"sensor", "Proxy-Authorization: Basic YWxpY2U6c2VjcmV0\r\n", "alice"},
        {"sensor", "Proxy-Authorization: Basic YWxpY2U6d3Jvbmc=\r\n", NULL},
        {"sensor", "Proxy-Authorization: Basic c2Vuc29yOg==\r\n", NULL}, /* sensor, empty password */
    };
    (void)data;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char request[256];
        start_proven(cases[i].proven, &policy);
        snprintf(request, sizeof request, "GET http://h.example/ HTTP/1.1\r\nHost: h.example\r\n%s\r\n",
                 cases[i].login);
        say(request);
        assert_int_equal(wire.event.status, cases[i].user != NULL ? 200 : 407);
        if (cases[i].user != NULL) assert_string_equal(wire.event.user, cases[i].user);
        else assert_null(wire.event.user);
    }
}

/* Where no password could help, none is asked for: what is missing is a certificate. */
static void certificates_alone(const void *data)
{
    static const struct miniproxy_user users[] = {{.name = "sensor", .groups = 1},
                                                  {.name = "alice", .password = "secret", .groups = 2}};
    static const struct miniproxy_rule rules[] = {{.verdict = MINIPROXY_ALLOW, .users = 1, .special_purpose = 1},
                                                  {.verdict = MINIPROXY_ALLOW, .users = 2, .port = {81, 81}, .special_purpose = 1}};
    static const struct miniproxy_policy policy = {.rules = rules, .rule_count = 2, .users = users, .user_count = 2};
    static const struct {
        const char *proven, *target, *login;
        uint16_t status;
        uint8_t cause;
    } cases[] = {
        {"", "CONNECT h.example:443", "", 403, MINIPROXY_CAUSE_CERTIFICATE}, /* not: another port would do, for a login */
        {"", "CONNECT h.example:444", "", 403, MINIPROXY_CAUSE_CONNECT_PORT},
        {"sensor", "h.example", "", 200, MINIPROXY_CAUSE_NONE},
        {"", "h.example", "", 403, MINIPROXY_CAUSE_CERTIFICATE},
        {"stranger", "h.example", "", 403, MINIPROXY_CAUSE_CERTIFICATE},
        {"alice", "h.example", "", 403, MINIPROXY_CAUSE_CERTIFICATE},
        {"", "h.example", "Proxy-Authorization: Basic YWxpY2U6c2VjcmV0\r\n", 403, MINIPROXY_CAUSE_POLICY}, /* is alice */
        {"sensor", "h.example", "Proxy-Authorization: Basic YWxpY2U6c2VjcmV0\r\n", 403, MINIPROXY_CAUSE_POLICY},
        {"", "h.example:81", "", 407, MINIPROXY_CAUSE_LOGIN_MISSING}, /* either would do */
        {"sensor", "h.example:81", "", 200, MINIPROXY_CAUSE_NONE},
        {"", "192.0.2.7", "", 403, MINIPROXY_CAUSE_CERTIFICATE},
    };
    (void)data;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char request[256];
        start_proven(cases[i].proven, &policy);
        if (strncmp(cases[i].target, "CONNECT ", 8) == 0)
            snprintf(request, sizeof request, "%s HTTP/1.1\r\nHost: h.example\r\n\r\n", cases[i].target);
        else
            snprintf(request, sizeof request, "GET http://%s/ HTTP/1.1\r\nHost: %s\r\n%s\r\n", cases[i].target,
                     cases[i].target, cases[i].login);
        say(request);
        assert_int_equal(wire.event.status, cases[i].status);
        assert_int_equal(wire.event.cause, cases[i].cause);
    }
}

int main(void)
{
    static struct unit_test tests[] = {
        {"https targets are sent on over TLS [T20,L04]", targets, NULL, false},
        {"without secure, and other schemes, 501 [T20,S09]", not_taken, NULL, false},
        {"tunnels are not secured [T20]", tunnels_are_not_secured, NULL, false},
        {"secure comes once, before connect [L04]", once_an_attempt, NULL, false},
        {"secure comes for each attempt [L04,D05]", each_attempt, NULL, false},
        {"secure fails [L04,Q03]", secure_fails, NULL, false},
        {"what went wrong with TLS is told, and nothing is sent [L04,Q01,Q03,S05,S06]", errors, NULL, false},
        {"a connection is kept for its scheme only [P08]", reuse, NULL, false},
        {"a request is sent again over TLS [P08,L04]", sent_again, NULL, false},
        {"a request is sent again in vain [P08,L04]", sent_again_in_vain, NULL, false},
        {"HTTP in clear is refused in clear [S01,P11,Q03]", plain, NULL, false},
        {"HTTP in clear within a head [S01]", plain_in_head, NULL, false},
        {"HTTP in clear while the proxy drains [S01]", plain_while_draining, NULL, false},
        {"TLS where HTTP is spoken [S01]", tls_in_clear, NULL, false},
        {"no_relay keeps a connection out of relay", relayed, NULL, false},
        {"no_relay ends with its connection", relayed_again, NULL, false},
        {"who has a certificate needs no password", proven_users, NULL, false},
        {"where no password helps none is asked for [S02]", certificates_alone, NULL, false},
    };
    return unit_run("tls", tests, sizeof tests / sizeof tests[0]);
}

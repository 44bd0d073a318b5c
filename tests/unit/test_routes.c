/* SPDX-License-Identifier: MIT
 *
 * Ways to origins that lead through parents and groups: what is sent to them, what becomes of their answers, which one is
 * taken when others fail, and how their health is known.
 */
#include <assert.h>
#define MINIPROXY_ASSERT(condition) assert(condition)
#define MINIPROXY_WITH_ROUTES 1
#define MINIPROXY_WITH_TLS 1
#define MINIPROXY_WITH_SOCKS5 1
#define MINIPROXY_WITH_LIMITS 1
#define MINIPROXY_CHECKS 2
#define MINIPROXY_BUFFER_SIZE 2048
#include "../../miniproxy.c"
#include "unit.h"

/* ---- A net in memory: hosts that do as they are told, and one client */

enum behaviour { ANSWERS, REFUSES, LACKS, IS_SILENT, ENDS, BREAKS_OFF, SPEAKS_SOCKS };

struct host {
    const char *name; /* resolves to 198.51.100.(index + 1) */
    enum behaviour does;
    const char *answer; /* to every head */
    unsigned connects, heads;
    char got[4096]; /* by its connections, one behind the other */
    size_t got_len;
    const char *secure; /* the name that it had to prove */
    uint8_t socks_reply, socks_method;
    bool socks_cut; /* it ends in place of a reply */
};

enum { HOSTS = 8, LINKS = 64 };

struct link {
    struct miniproxy_conn *conn;
    struct host *host; /* NULL: the client */
    char out[8192];    /* on its way to the proxy */
    size_t out_len, out_read, head_at;
    unsigned step; /* of SOCKS */
    bool eof, in_tunnel, begun;
};

static struct {
    struct host hosts[HOSTS];
    struct link links[LINKS];
    unsigned link_count, crumbs; /* octets in one recv; 0: all */
    struct link *client;
    char said[16384]; /* by the proxy to the client */
    size_t said_len;
    bool pending, client_closed;
    struct miniproxy proxy;
    struct miniproxy_event event;
    char event_hop[64];
    unsigned events, resolved;
    struct miniproxy_conn *asks; /* for a name, and is to wait if names are slow */
    bool slow_names;
    uint32_t now_ms;
    unsigned turned;         /* hops that went down or up */
    struct miniproxy_health health[HOSTS];
} net;

static struct link *link_of(const struct miniproxy_conn *c)
{
    for (unsigned i = 0; i < net.link_count; i++)
        if (net.links[i].conn == c) return &net.links[i];
    return NULL;
}

static struct link *new_link(struct miniproxy_conn *c, struct host *host)
{
    struct link *l = link_of(c);
    for (unsigned i = 0; l == NULL && net.link_count == LINKS && i < LINKS; i++)
        if (net.links[i].conn == NULL) l = &net.links[i];
    if (l == NULL) l = &net.links[net.link_count++];
    assert(net.link_count <= LINKS);
    memset(l, 0, sizeof *l);
    l->conn = c;
    l->host = host;
    return l;
}

static void add(struct link *l, const void *data, size_t len)
{
    assert(l->out_len + len <= sizeof l->out);
    memcpy(l->out + l->out_len, data, len);
    l->out_len += len;
    miniproxy_wake(l->conn, MINIPROXY_RD);
}

static int net_accept(void *port, struct miniproxy_conn *c, struct miniproxy_addr *peer)
{
    (void)port;
    if (!net.pending) return MINIPROXY_AGAIN;
    net.pending = false;
    net.client = new_link(c, NULL);
    memset(peer, 0, sizeof *peer);
    peer->ip[0] = 127;
    peer->family = 4;
    return MINIPROXY_OK;
}

static int net_resolve(void *port, struct miniproxy_conn *c, const char *host, struct miniproxy_addr *out, int max)
{
    (void)port, (void)max;
    net.asks = c;
    if (net.slow_names) return MINIPROXY_AGAIN;
    net.resolved++;
    memset(out, 0, sizeof *out);
    out->family = 4;
    memcpy(out->ip, "\xc6\x33\x64\0", 4); /* 198.51.100.0, which special-purpose addresses are */
    for (unsigned i = 0; i < HOSTS; i++) {
        if (net.hosts[i].name == NULL || strcmp(net.hosts[i].name, host) != 0) continue;
        out->ip[3] = (uint8_t)(i + 1);
        return 1;
    }
    return MINIPROXY_ENAME;
}

static int net_connect(void *port, struct miniproxy_conn *c, const struct miniproxy_addr *to)
{
    struct host *h = &net.hosts[to->ip[3] - 1];
    (void)port;
    assert(to->family == 4 && to->ip[0] == 198 && to->ip[3] >= 1 && to->ip[3] <= HOSTS);
    if (h->does == IS_SILENT) return MINIPROXY_AGAIN;
    h->connects++;
    if (h->does == REFUSES) return MINIPROXY_EREFUSED;
    if (h->does == LACKS) return MINIPROXY_ERESOURCES;
    new_link(c, h);
    return MINIPROXY_OK;
}

static int net_recv(void *port, struct miniproxy_conn *c, void *buf, size_t len)
{
    struct link *l = link_of(c);
    size_t n = l->out_len - l->out_read;
    (void)port;
    if (n == 0) return l->eof ? MINIPROXY_EOF : MINIPROXY_AGAIN;
    if (n > len) n = len;
    if (net.crumbs != 0 && n > net.crumbs) n = net.crumbs;
    memcpy(buf, l->out + l->out_read, n);
    l->out_read += n;
    return (int)n;
}

/* A SOCKS5 server: RFC 1928 by the book, then a tunnel to an origin that answers like any host. */
static bool speak_socks(struct link *l, const unsigned char *got, size_t len)
{
    struct host *h = l->host;
    size_t need;
    switch (l->step) {
    case 0:
        if (len < 2 || len < 2u + got[1]) return false;
        add(l, h->socks_method == 2 ? "\5\2" : h->socks_method == 0 ? "\5\0" : "\5\xff", 2);
        l->step = h->socks_method == 2 ? 1 : 2;
        l->head_at += 2u + got[1];
        return true;
    case 1:
        if (len < 2 || len < 3u + got[1] || len < 3u + got[1] + got[2 + got[1]]) return false;
        add(l, memcmp(got, "\1\4user\4pass", 11) == 0 ? "\1\0" : "\1\1", 2);
        l->step = 2;
        l->head_at += 3u + got[1] + got[2 + got[1]];
        return true;
    case 2:
        if (len < 5) return false;
        need = got[3] == 1 ? 10 : got[3] == 4 ? 22 : 7u + got[4];
        if (len < need) return false;
        if (h->socks_cut) {
            l->eof = true;
            miniproxy_wake(l->conn, MINIPROXY_RD);
            return false;
        }
        add(l, (char[]){5, (char)h->socks_reply, 0, 1, 1, 2, 3, 4, 5, 6}, 10);
        l->step = 3;
        l->head_at += need;
        return true;
    default:
        return false;
    }
}

static int net_send(void *port, struct miniproxy_conn *c, const void *buf, size_t len)
{
    struct link *l = link_of(c);
    struct host *h = l->host;
    size_t begin;
    char *end;
    (void)port;
    if (net.crumbs != 0 && len > net.crumbs) len = net.crumbs;
    if (h == NULL) {
        assert(net.said_len + len < sizeof net.said);
        memcpy(net.said + net.said_len, buf, len);
        net.said_len += len;
        net.said[net.said_len] = '\0';
        return (int)len;
    }
    if (!l->begun) l->head_at = h->got_len;
    l->begun = true;
    if (l->eof) { /* it has gone, and nobody was told */
        miniproxy_wake(c, MINIPROXY_RD);
        return (int)len;
    }
    assert(h->got_len + len < sizeof h->got);
    memcpy(h->got + h->got_len, buf, len);
    h->got_len += len;
    h->got[h->got_len] = '\0';
    if (h->does == SPEAKS_SOCKS)
        while (speak_socks(l, (unsigned char *)h->got + l->head_at, h->got_len - l->head_at)) {}
    if (h->does == SPEAKS_SOCKS && l->step < 3) return (int)len;
    begin = l->head_at;
    end = strstr(h->got + begin, "\r\n\r\n");
    if (l->in_tunnel || end == NULL) return (int)len;
    l->head_at = (size_t)(end + 4 - h->got);
    h->heads++;
    l->in_tunnel = strncmp(h->got + begin, "CONNECT", 7) == 0;
    if (h->does == ENDS) {
        l->eof = true;
        miniproxy_wake(c, MINIPROXY_RD);
    } else if (h->answer != NULL) {
        add(l, h->answer, strlen(h->answer));
        l->eof = h->does == BREAKS_OFF;
    }
    return (int)len;
}

static int net_finish(void *port, struct miniproxy_conn *c)
{
    (void)port, (void)c;
    return MINIPROXY_OK;
}

static void net_close(void *port, struct miniproxy_conn *c, bool hard)
{
    struct link *l = link_of(c);
    (void)port, (void)hard;
    if (l == NULL) return;
    if (l == net.client) net.client_closed = true;
    l->conn = NULL;
}

static int net_secure(void *port, struct miniproxy_conn *c, const char *host)
{
    (void)port, (void)c;
    for (unsigned i = 0; i < HOSTS; i++)
        if (net.hosts[i].name != NULL && strcmp(net.hosts[i].name, host) == 0) net.hosts[i].secure = net.hosts[i].name;
    return MINIPROXY_OK;
}

static const struct miniproxy_port net_port = {.accept = net_accept,
                                               .resolve = net_resolve,
                                               .connect = net_connect,
                                               .recv = net_recv,
                                               .send = net_send,
                                               .finish = net_finish,
                                               .close = net_close,
                                               .secure = net_secure};

static void net_event(void *app, const struct miniproxy_event *e)
{
    (void)app;
    net.event = *e;
    net.events++;
    snprintf(net.event_hop, sizeof net.event_hop, "%s", e->hop != NULL ? e->hop->host : "-");
}

static void net_hop(void *app, const struct miniproxy_policy *policy, unsigned hop)
{
    (void)app;
    assert(policy->health == net.health && hop < policy->hop_count);
    net.turned++;
}

/* ---- What the tests say */

static void pass(uint32_t ms)
{
    uint32_t until_ms = net.now_ms + ms, wait_ms;
    for (unsigned i = 0; i < 100000; i++) {
        wait_ms = miniproxy_poll(&net.proxy, net.now_ms);
        if (wait_ms == 0) continue;
        if (net.now_ms == until_ms) return;
        net.now_ms = wait_ms < until_ms - net.now_ms ? net.now_ms + wait_ms : until_ms;
    }
    assert(!"it settles");
}

static struct miniproxy_policy policy;

static const struct miniproxy_rule allow_all[] = {{.verdict = MINIPROXY_ALLOW, .port = {1, 65535}}};

static const struct miniproxy_rule allow_special[] = {{.verdict = MINIPROXY_ALLOW, .special_purpose = 1}};

/* A proxy whose requests go by these hops in order, unless a test has other routes. */
static void start(const struct miniproxy_hop *hops, unsigned hop_count, const struct miniproxy_route *routes,
                  unsigned route_count)
{
    static struct miniproxy_route all;
    struct miniproxy_config config = {.port = &net_port, .event = net_event, .hop = net_hop, .policy = &policy};
    all = (struct miniproxy_route){.count = (uint8_t)hop_count};
    memset(&net, 0, sizeof net);
    net.now_ms = 5000;
    policy = (struct miniproxy_policy){.rules = allow_all,
                                       .rule_count = 1,
                                       .routes = routes != NULL ? routes : &all,
                                       .route_count = (uint16_t)(routes != NULL ? route_count : 1),
                                       .hops = hops,
                                       .hop_count = (uint16_t)hop_count,
                                       .health = net.health};
    assert_true(miniproxy_init(&net.proxy, &config));
    net.pending = true;
}

static struct host *host(unsigned i, const char *name, enum behaviour does, const char *answer)
{
    net.hosts[i].name = name;
    net.hosts[i].does = does;
    net.hosts[i].answer = answer;
    return &net.hosts[i];
}

static void hear(void)
{
    net.said_len = 0;
    net.said[0] = '\0';
    for (unsigned i = 0; i < HOSTS; i++) net.hosts[i].got[0] = '\0', net.hosts[i].got_len = 0;
    for (unsigned i = 0; i < net.link_count; i++) net.links[i].head_at = 0;
}

/* The client sends, and all that follows at once happens. */
static const char *say(const char *text)
{
    hear();
    if (net.client == NULL) pass(0);
    add(net.client, text, strlen(text));
    pass(0);
    return net.said;
}

/* On a connection of its own. */
static const char *anew(const char *text)
{
    if (net.client != NULL && !net.client_closed) {
        net.client->eof = true;
        miniproxy_wake(net.client->conn, MINIPROXY_RD);
        pass(0);
    }
    net.client = NULL;
    net.client_closed = false;
    net.pending = true;
    miniproxy_wake_accept(&net.proxy);
    return say(text);
}

#define OK200 "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
#define GET "GET http://www.example/x?y HTTP/1.1\r\nHost: www.example\r\n\r\n"
#define CONNECT "CONNECT www.example:443 HTTP/1.1\r\nHost: www.example:443\r\n\r\n"

static bool begins(const char *text, const char *with)
{
    return strncmp(text, with, strlen(with)) == 0;
}

#define assert_status(said, status) assert_true(begins(said, "HTTP/1.1 " status " "))

static const struct miniproxy_hop one[] = {{.host = "one", .port = 3128, .login = "Aladdin:open sesame"}};
static const struct miniproxy_hop two[] = {{.host = "one", .port = 3128, .login = "a:1"},
                                           {.host = "two", .port = 3128, .login = "somebody:long"}};

/* ---- Requests by an HTTP proxy */

static void absolute_form(const void *crumbs)
{
    struct host *h;
    start(one, 1, NULL, 0);
    net.crumbs = crumbs != NULL;
    h = host(0, "one", ANSWERS, OK200);
    assert_string_equal(
        strstr(say("GET http://WWW.example:8080/x?y HTTP/1.1\r\nHost: liar.example\r\nAccept: */*\r\n"
                   "Proxy-Authorization: Basic YTpi\r\nConnection: X-Me\r\nX-Me: 1\r\n\r\n"), "\r\n\r\n"), "\r\n\r\nok");
    assert_string_equal(h->got, "GET http://WWW.example:8080/x?y HTTP/1.1\r\nHost: WWW.example:8080\r\nAccept: */*\r\n"
                                "Via: 1.1 miniproxy\r\nProxy-Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n\r\n");
    assert_int_equal(net.resolved, 1); /* the parent's own name */
    assert_string_equal(net.event_hop, "one");
    assert_int_equal(net.event.status, 200);
    assert_int_equal(net.event.cause, MINIPROXY_CAUSE_NONE);
}

/* Whatever length host, login and fields have: a head is whole, or refused, and nothing is overwritten. */
static void every_length(const void *data)
{
    static char name[256], login[97], head[4096], expected[4096];
    struct miniproxy_hop hop = {.host = "one", .port = 3128};
    unsigned refused = 0, sent = 0;
    (void)data;
    for (unsigned i = 0; i < 3000; i++) {
        unsigned labels = unit_random(4), n = 0, fields = unit_random(100) < 30 ? unit_random(1900) : unit_random(80);
        unsigned login_len = unit_random(3) == 0 ? 0 : 2 + unit_random(94);
        bool has_host = unit_random(2) != 0;
        struct host *h;
        for (unsigned k = 0; k <= labels; k++) {
            unsigned len = 1 + unit_random(60);
            memset(name + n, 'a', len);
            n += len;
            name[n++] = '.';
        }
        name[n - 1] = '\0';
        memset(login, 'p', login_len);
        login[login_len] = '\0';
        if (login_len > 0) login[login_len / 2] = ':';
        hop.login = login_len > 0 ? login : NULL;
        start(&hop, 1, NULL, 0);
        h = host(0, "one", ANSWERS, OK200);
        n = (unsigned)snprintf(head, sizeof head, "GET http://%s/%u HTTP/1.%d\r\n", name, i, has_host);
        if (has_host) n += (unsigned)snprintf(head + n, sizeof head - n, "Host: %s\r\n", name);
        n += (unsigned)snprintf(head + n, sizeof head - n, "X: %0*u\r\n\r\n", (int)fields, 7u);
        if (begins(say(head), "HTTP/1.1 431 ")) {
            refused++;
            assert_int_equal(h->heads, 0);
            continue;
        }
        sent++;
        assert_status(net.said, "200");
        assert_int_equal(h->heads, 1);
        snprintf(expected, sizeof expected, "GET http://%s/%u HTTP/1.1\r\n", name, i);
        assert_true(begins(h->got, expected));
        snprintf(expected, sizeof expected, "\r\nHost: %s\r\n", name);
        assert_non_null(strstr(h->got, expected));
        snprintf(expected, sizeof expected, "\r\nX: %0*u\r\n", (int)fields, 7u);
        assert_non_null(strstr(h->got, expected));
        assert_non_null(strstr(h->got, has_host ? "\r\nVia: 1.1 miniproxy\r\n" : "\r\nVia: 1.0 miniproxy\r\n"));
        assert_true((strstr(h->got, "\r\nProxy-Authorization: Basic ") != NULL) == (login_len > 0));
        assert_string_equal(h->got + h->got_len - 4, "\r\n\r\n");
    }
    assert_true(refused > 100 && sent > 1000);
}

static void bodies(const void *data)
{
    struct host *h;
    (void)data;
    start(one, 1, NULL, 0);
    h = host(0, "one", ANSWERS, OK200);
    assert_status(say("POST http://www.example/ HTTP/1.1\r\nHost: www.example\r\nTransfer-Encoding: chunked\r\n\r\n"
                      "3\r\nabc\r\n0\r\n\r\n"), "200");
    assert_non_null(strstr(h->got, "Transfer-Encoding: chunked\r\n"));
    assert_non_null(strstr(h->got, "==\r\n\r\n3\r\nabc\r\n0\r\n\r\n"));
}

static void kept_for_every_origin(const void *data)
{
    struct host *h;
    (void)data;
    start(one, 1, NULL, 0);
    h = host(0, "one", ANSWERS, OK200);
    assert_status(say(GET), "200");
    assert_status(say("GET http://other.example/ HTTP/1.1\r\nHost: other.example\r\n\r\n"), "200");
    assert_true(net.event.reused);
    assert_int_equal(h->connects, 1);
    assert_int_equal(h->heads, 2);
    assert_true(begins(h->got, "GET http://other.example/ HTTP/1.1\r\n"));
}

static void its_own_407(const void *data)
{
    (void)data;
    start(one, 1, NULL, 0);
    host(0, "one", ANSWERS, "HTTP/1.1 407 No\r\nProxy-Authenticate: Basic realm=\"its\"\r\nContent-Length: 0\r\n\r\n");
    assert_status(say(GET), "502");
    assert_null(strstr(net.said, "Authenticate"));
    assert_int_equal(net.event.cause, MINIPROXY_CAUSE_HOP_LOGIN);
    for (unsigned i = 0; i < 3; i++) assert_status(anew(GET), "502");
    assert_int_equal(net.health[0].failed, 0); /* an origin may have said so */
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(net.health[0].down, 0);
        assert_status(anew(CONNECT), "502");
        assert_int_equal(net.event.cause, MINIPROXY_CAUSE_HOP_LOGIN);
    }
    assert_int_equal(net.health[0].down, 1);
    assert_status(anew(GET), "503");
}

/* ---- Tunnels */

static void tunnels(const void *crumbs)
{
    struct host *h;
    start(one, 1, NULL, 0);
    net.crumbs = crumbs != NULL;
    h = host(0, "one", ANSWERS, "HTTP/1.1 102 Wait\r\n\r\nHTTP/1.0 200 Fine\r\nContent-Length: 5\r\n\r\nserver first");
    assert_string_equal(say("CONNECT www.example:443 HTTP/1.1\r\nHost: liar:1\r\nUser-Agent: u\r\n\r\nclient first"),
                        "HTTP/1.1 200 Connection established\r\n\r\nserver first");
    assert_string_equal(h->got, "CONNECT www.example:443 HTTP/1.1\r\nHost: www.example:443\r\nUser-Agent: u\r\n"
                                "Via: 1.1 miniproxy\r\nProxy-Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n\r\n"
                                "client first");
    add(net.client, "more", 4);
    pass(0);
    assert_string_equal(h->got + h->got_len - 4, "more");
    net.client->eof = link_of(net.proxy.sessions[0].server)->eof = true;
    miniproxy_wake(net.client->conn, MINIPROXY_RD);
    miniproxy_wake(&net.proxy.sessions[0].server[0], MINIPROXY_RD);
    pass(0);
    assert_int_equal(net.event.status, 200);
    assert_int_equal(net.event.cause, MINIPROXY_CAUSE_NONE);
    assert_string_equal(net.event_hop, "one");
}

static const struct {
    const char *answer, *status;
    int cause;
} refusals[] = {
    {"HTTP/1.1 403 Forbidden\r\nContent-Length: 9\r\n\r\nforbidden", "403", MINIPROXY_CAUSE_HOP_REFUSED},
    {"HTTP/1.1 404 Not Found\r\n\r\n", "502", MINIPROXY_CAUSE_HOP_REFUSED},
    {"HTTP/1.1 503 Service Unavailable\r\n\r\n", "503", MINIPROXY_CAUSE_HOP_REFUSED},
    {"HTTP/1.1 504 Gateway Timeout\r\n\r\n", "504", MINIPROXY_CAUSE_HOP_REFUSED},
    {"HTTP/1.1 500 Oops\r\n\r\n", "502", MINIPROXY_CAUSE_HOP_REFUSED},
    {"HTTP/1.1 301 Moved\r\nLocation: http://x/\r\n\r\n", "502", MINIPROXY_CAUSE_HOP_REFUSED},
    {"HTTP/1.1 101 Switching\r\n\r\n", "502", MINIPROXY_CAUSE_HOP_INVALID},
    {"SSH-2.0-x\r\n\r\n", "502", MINIPROXY_CAUSE_RESPONSE_INVALID},
};

static void refused_tunnels(const void *data)
{
    (void)data;
    for (unsigned i = 0; i < sizeof refusals / sizeof refusals[0]; i++) {
        char status[32];
        start(one, 1, NULL, 0);
        host(0, "one", ANSWERS, refusals[i].answer);
        say("CONNECT www.example:443 HTTP/1.1\r\nHost: www.example:443\r\n\r\nsecret");
        snprintf(status, sizeof status, "HTTP/1.1 %s ", refusals[i].status);
        assert_true(begins(net.said, status));
        assert_int_equal(net.event.cause, refusals[i].cause);
        assert_null(strstr(net.hosts[0].got, "secret"));
    }
}

/* ---- Failing over */

static void to_the_next(const void *does)
{
    struct host *a, *b;
    start(two, 2, NULL, 0);
    a = host(0, "one", *(const enum behaviour *)does, NULL);
    b = host(1, "two", ANSWERS, OK200);
    say(GET);
    pass(a->does == IS_SILENT ? 3000 : 0);
    assert_status(net.said, "200");
    assert_string_equal(net.event_hop, "two");
    assert_non_null(strstr(b->got, "Proxy-Authorization: Basic c29tZWJvZHk6bG9uZw==\r\n\r\n"));
    assert_null(strstr(b->got, "YTox"));
    assert_int_equal(net.health[0].failed, 1);
    assert_int_equal(net.health[0].down, 0);
    anew(GET);
    pass(a->does == IS_SILENT ? 3000 : 0);
    assert_status(net.said, "200");
    assert_int_equal(net.health[0].down, 1);
    assert_int_equal(net.turned, 1);
    a->connects = 0;
    assert_status(anew(GET), "200");
    assert_int_equal(a->connects, 0); /* it is not asked any more */
    anew(CONNECT);
    assert_true(begins(b->got, "CONNECT "));
}

/* What may not be sent twice is not; what was not sent at all may go elsewhere. */
static void posts(const void *data)
{
    struct host *b;
    static const char post[] = "POST http://www.example/ HTTP/1.1\r\nHost: www.example\r\nContent-Length: 3\r\n\r\nabc";
    (void)data;
    start(two, 2, NULL, 0);
    host(0, "one", ENDS, NULL);
    b = host(1, "two", ANSWERS, OK200);
    assert_status(say(post), "502");
    assert_int_equal(net.event.cause, MINIPROXY_CAUSE_RESPONSE_EMPTY);
    assert_int_equal(b->connects, 0);
    net.hosts[0].does = REFUSES;
    assert_status(anew(post), "200");
    assert_string_equal(b->got + b->got_len - 3, "abc");
}

/* Nothing of a head goes to the client before it is complete: until then the request may go elsewhere. */
static void heads_that_break_off(const void *crumbs)
{
    struct host *a, *b;
    start(two, 2, NULL, 0);
    net.crumbs = crumbs != NULL;
    a = host(0, "one", BREAKS_OFF, "HTTP/1.1 200 OK\r\nContent-Le");
    b = host(1, "two", ANSWERS, OK200);
    for (unsigned i = 0; i < 3; i++) {
        assert_status(anew(GET), "200");
        assert_string_equal(net.event_hop, "two");
        assert_non_null(strstr(b->got, "Proxy-Authorization: Basic c29tZWJvZHk6bG9uZw==\r\n\r\n"));
    }
    assert_int_equal(net.health[0].failed, 0); /* that may be the origin's fault */
    assert_status(anew(CONNECT), "200");
    assert_int_equal(a->heads, 4);
    assert_int_equal(net.proxy.counters.retried, 4);
    assert_status(anew("POST http://www.example/ HTTP/1.1\r\nHost: www.example\r\nContent-Length: 3\r\n\r\nabc"), "502");
    assert_int_equal(net.event.cause, MINIPROXY_CAUSE_RESPONSE_CUT);
    b->does = BREAKS_OFF; /* there is nowhere to go */
    b->answer = a->answer;
    assert_status(anew(GET), "502");
    assert_int_equal(net.event.cause, MINIPROXY_CAUSE_RESPONSE_CUT);
    b->does = ANSWERS;
    b->answer = OK200;
    b->heads = 0;
    a->answer = "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 2"; /* the first of these has gone to the client */
    assert_status(anew(GET), "103");
    assert_non_null(strstr(net.said, "\r\n\r\nHTTP/1.1 502 "));
    assert_int_equal(b->heads, 0);
}

/* Nor is it risked for finding out whether a hop is up again, unless there is no other one. */
static void trials(const void *data)
{
    static const char post[] = "POST http://www.example/ HTTP/1.1\r\nHost: www.example\r\nContent-Length: 3\r\n\r\nabc";
    struct host *a, *b;
    (void)data;
    start(two, 2, NULL, 0);
    a = host(0, "one", ENDS, NULL);
    b = host(1, "two", ANSWERS, OK200);
    for (unsigned i = 0; i < 2; i++) assert_status(anew(GET), "200");
    assert_int_equal(net.health[0].down, 1);
    a->connects = 0;
    for (unsigned i = 0; i < 3; i++) {
        pass(70000);
        assert_status(anew(post), "200");
        assert_int_equal(a->connects, 0);
    }
    assert_status(anew(GET), "200");
    assert_int_equal(a->connects, 1);
    pass(70000);
    assert_status(anew(CONNECT), "200");
    assert_int_equal(a->connects, 2);
    b->does = ENDS;
    for (unsigned i = 0; i < 2; i++) anew(GET);
    assert_int_equal(net.health[1].down, 1);
    a->does = ANSWERS;
    a->answer = OK200;
    pass(70000);
    assert_status(anew(post), "200");
    assert_int_equal(net.health[0].down, 0);
}

static void all_down(const void *data)
{
    struct host *a;
    (void)data;
    start(one, 1, NULL, 0);
    a = host(0, "one", REFUSES, OK200);
    for (unsigned i = 0; i < 3; i++) {
        assert_status(anew(GET), "503");
        assert_non_null(strstr(net.said, "\r\nRetry-After: "));
        assert_int_equal(net.event.cause, MINIPROXY_CAUSE_HOPS_DOWN);
    }
    assert_int_equal(a->connects, 2);
    assert_int_equal(net.health[0].cause, MINIPROXY_CAUSE_REFUSED);
    /* tried again by one request after 1 s, 2 s, 4 s … 60 s */
    for (unsigned i = 0; i < 9; i++) {
        uint32_t wait_ms = i < 6 ? 1000u << i : 60000u;
        pass(wait_ms - 1);
        a->connects = 0;
        assert_status(anew(GET), "503");
        assert_int_equal(a->connects, 0);
        pass(1);
        assert_status(anew(GET), "503");
        assert_int_equal(a->connects, 1);
        assert_status(anew(GET), "503");
        assert_int_equal(a->connects, 1);
    }
    pass(60000);
    a->does = ANSWERS;
    assert_status(anew(GET), "200");
    assert_int_equal(net.turned, 2);
    assert_int_equal(net.health[0].down, 0);
    assert_status(anew(GET), "200");
}

/* However long nobody asks, which is longer than a signed difference of times can be. */
static void after_a_long_time(const void *data)
{
    static const uint32_t days[] = {1, 25, 40, 49};
    (void)data;
    for (unsigned i = 0; i < sizeof days / sizeof days[0]; i++) {
        start(one, 1, NULL, 0);
        host(0, "one", REFUSES, OK200);
        for (unsigned k = 0; k < 3; k++) assert_status(anew(GET), "503");
        assert_int_equal(net.health[0].down, 1);
        host(0, "one", ANSWERS, OK200);
        pass(days[i] * 86400000u);
        assert_status(anew(GET), "200");
        assert_int_equal(net.health[0].down, 0);
    }
}

/* What was rewritten for a parent by HTTP cannot go by SOCKS5: that is no hop which cannot be reached. */
static void other_kinds(const void *data)
{
    static const struct miniproxy_hop hops[] = {{.host = "one", .port = 3128},
                                                {.host = "two", .port = 1080, .kind = MINIPROXY_HOP_SOCKS5},
                                                {.host = "three", .port = 3128}};
    (void)data;
    for (unsigned count = 2; count <= 3; count++) {
        for (unsigned i = 0; i < 2; i++) {
            start(hops, count, NULL, 0);
            host(0, "one", ENDS, NULL);
            host(1, "two", SPEAKS_SOCKS, OK200);
            host(2, "three", ANSWERS, OK200);
            say(i == 0 ? GET : CONNECT);
            assert_true(begins(net.said, count == 2 ? "HTTP/1.1 502 " : "HTTP/1.1 200 "));
            if (count == 2) assert_int_equal(net.event.cause, MINIPROXY_CAUSE_RESPONSE_EMPTY);
            assert_int_equal(net.hosts[1].connects, 0);
        }
    }
}

static void missing_name(const void *data)
{
    (void)data;
    start(two, 2, NULL, 0);
    host(1, "two", ANSWERS, OK200);
    assert_status(say(GET), "200");
    assert_int_equal(net.health[0].cause, MINIPROXY_CAUSE_DNS_NAME);
}

/* A kept connection that is gone: the same parent is asked once more, over a new one. */
static void stale(const void *hops)
{
    struct host *h;
    start(hops, 1, NULL, 0);
    h = host(0, "one", ((const struct miniproxy_hop *)hops)->kind == MINIPROXY_HOP_SOCKS5 ? SPEAKS_SOCKS : ANSWERS, OK200);
    assert_status(say(GET), "200");
    assert_int_equal(h->connects, 1);
    for (unsigned i = 0; i < net.link_count; i++)
        if (net.links[i].host == h) net.links[i].eof = true; /* nobody is told */
    assert_status(say(GET), "200");
    assert_int_equal(h->connects, 2);
    assert_int_equal(net.health[0].failed, 0);
    assert_int_equal(net.events, 2);
}

static void in_turn(const void *data)
{
    static const struct miniproxy_route routes[] = {{.count = 2, .order = MINIPROXY_IN_TURN}};
    (void)data;
    start(two, 2, routes, 1);
    host(0, "one", ANSWERS, OK200);
    host(1, "two", ANSWERS, OK200);
    for (unsigned i = 0; i < 10; i++) assert_status(anew(GET), "200");
    assert_int_equal(net.hosts[0].connects, 5);
    assert_int_equal(net.hosts[1].connects, 5);
    net.hosts[0].does = REFUSES;
    for (unsigned i = 0; i < 10; i++) assert_status(anew(GET), "200");
    assert_int_equal(net.hosts[1].connects, 15);
}

/* ---- SOCKS5 */

static const struct miniproxy_hop socks[] = {{.host = "one", .port = 1080, .kind = MINIPROXY_HOP_SOCKS5}};
static const struct miniproxy_hop socks_login[] = {
    {.host = "one", .port = 1080, .kind = MINIPROXY_HOP_SOCKS5, .login = "user:pass"}};

static void by_socks(const void *crumbs)
{
    struct host *h;
    start(socks, 1, NULL, 0);
    net.crumbs = crumbs != NULL;
    h = host(0, "one", SPEAKS_SOCKS, OK200);
    assert_status(say(GET), "200");
    assert_memory_equal(h->got, "\5\1\0\5\1\0\3\13www.example\0\120GET /x?y HTTP/1.1\r\nHost: www.example\r\n", 57);
    assert_status(say(GET), "200");
    assert_int_equal(h->connects, 1);
    assert_status(anew("GET http://8.8.8.7:81/ HTTP/1.1\r\nHost: 8.8.8.7:81\r\n\r\n"), "200");
    h->got_len = 0;
    h->answer = "answer";
    assert_string_equal(anew("CONNECT [2606:4700::1]:443 HTTP/1.1\r\nHost: x\r\n\r\nhello\r\n\r\n"),
                        "HTTP/1.1 200 Connection established\r\n\r\nanswer");
    assert_memory_equal(h->got, "\5\1\0\5\1\0\4\x26\6\x47\0\0\0\0\0\0\0\0\0\0\0\0\1\1\xbbhello", 30);
    net.client->eof = true;
}

static void socks_logins(const void *crumbs)
{
    struct host *h;
    start(socks_login, 1, NULL, 0);
    net.crumbs = crumbs != NULL;
    h = host(0, "one", SPEAKS_SOCKS, OK200);
    h->socks_method = 2;
    assert_status(say(GET), "200");
    assert_memory_equal(h->got, "\5\2\0\2\1\4user\4pass\5\1\0\3\13www.example", 31);
    h->socks_method = 0;
    assert_status(anew(GET), "200");
    h->socks_method = 0xff;
    assert_status(anew(GET), "503");
    assert_int_equal(net.health[0].cause, MINIPROXY_CAUSE_HOP_LOGIN);
}

static void socks_refusals(const void *data)
{
    static const struct {
        uint8_t reply;
        const char *status;
        int cause;
    } rows[] = {{1, "502", MINIPROXY_CAUSE_HOP_REFUSED}, {2, "403", MINIPROXY_CAUSE_HOP_REFUSED},
                {3, "502", MINIPROXY_CAUSE_UNREACHABLE}, {4, "502", MINIPROXY_CAUSE_UNREACHABLE},
                {5, "502", MINIPROXY_CAUSE_REFUSED},     {6, "504", MINIPROXY_CAUSE_CONNECT_TIMEOUT},
                {7, "502", MINIPROXY_CAUSE_HOP_REFUSED}, {99, "502", MINIPROXY_CAUSE_HOP_REFUSED}};
    (void)data;
    start(socks, 1, NULL, 0);
    for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char status[32];
        host(0, "one", SPEAKS_SOCKS, OK200)->socks_reply = rows[i].reply;
        anew(GET);
        snprintf(status, sizeof status, "HTTP/1.1 %s ", rows[i].status);
        assert_true(begins(net.said, status));
        assert_int_equal(net.event.cause, rows[i].cause);
        assert_int_equal(net.health[0].failed, 0); /* that was not the parent's fault */
    }
}

/* Some servers end the connection where the target cannot be reached: that is no reason to leave them out. */
static void socks_ends(const void *data)
{
    static const struct miniproxy_hop hops[] = {{.host = "one", .port = 1080, .kind = MINIPROXY_HOP_SOCKS5},
                                                {.host = "two", .port = 1080, .kind = MINIPROXY_HOP_SOCKS5}};
    (void)data;
    for (unsigned count = 1; count <= 2; count++) {
        start(hops, count, NULL, 0);
        host(0, "one", SPEAKS_SOCKS, OK200)->socks_cut = true;
        host(1, "two", SPEAKS_SOCKS, OK200);
        for (unsigned i = 0; i < 6; i++) {
            anew(i % 2 == 0 ? GET : CONNECT);
            assert_true(begins(net.said, count == 1 ? "HTTP/1.1 502 " : "HTTP/1.1 200 "));
            if (count == 1) assert_int_equal(net.event.cause, MINIPROXY_CAUSE_CONNECT_RESET);
            assert_int_equal(net.hosts[0].connects, i + 1);
        }
        assert_int_equal(net.health[0].failed, 0);
    }
}

static void no_socks(const void *data)
{
    (void)data;
    start(socks, 1, NULL, 0);
    host(0, "one", ANSWERS, NULL);
    say(GET);
    add(&net.links[1], "HTTP/1.1 400 Bad\r\n\r\n", 20);
    pass(0);
    assert_status(net.said, "503");
    assert_int_equal(net.health[0].cause, MINIPROXY_CAUSE_HOP_INVALID);
    host(0, "one", ANSWERS, NULL);
    anew(GET);
    pass(2999);
    assert_string_equal(net.said, "");
    pass(1);
    assert_status(net.said, "503");
    assert_int_equal(net.health[0].cause, MINIPROXY_CAUSE_CONNECT_TIMEOUT);
}

/* ---- Groups of origins */

static void groups(const void *data)
{
    static const struct miniproxy_hop hops[] = {{.host = "one", .port = 8080, .kind = MINIPROXY_HOP_ORIGIN},
                                                {.host = "two", .port = 8081, .kind = MINIPROXY_HOP_ORIGIN}};
    static const char *const names[] = {"shop.local"};
    static const struct miniproxy_hosts shop = {.names = names, .count = 1};
    static const struct miniproxy_route routes[] = {{.hosts = &shop, .count = 2}};
    (void)data;
    start(hops, 2, routes, 1);
    host(0, "one", REFUSES, NULL);
    host(1, "two", ANSWERS, OK200);
    assert_status(say("GET http://shop.local/cart HTTP/1.1\r\nHost: shop.local\r\n\r\n"), "200");
    assert_true(begins(net.hosts[1].got, "GET /cart HTTP/1.1\r\nHost: shop.local\r\n"));
    assert_status(anew("GET https://shop.local/cart HTTP/1.1\r\nHost: shop.local\r\n\r\n"), "200");
    assert_true(begins(net.hosts[1].got + 0, "GET /cart HTTP/1.1\r\n"));
    assert_status(anew(GET), "502"); /* directly: there is no such name */
    assert_string_equal(net.event_hop, "-");
}

/* Members that take requests and answer nothing, or something else than HTTP; a parent may do that for its origin. */
static void groups_that_hang(const void *answer)
{
    static const struct miniproxy_hop hops[] = {{.host = "one", .port = 80, .kind = MINIPROXY_HOP_ORIGIN},
                                                {.host = "two", .port = 80, .kind = MINIPROXY_HOP_ORIGIN}};
    for (unsigned is_parent = 0; is_parent < 2; is_parent++) {
        start(is_parent != 0 ? two : hops, 2, NULL, 0);
        host(0, "one", ANSWERS, answer);
        host(1, "two", ANSWERS, OK200);
        for (unsigned i = 0; i < 2; i++) {
            assert_int_equal(net.health[0].down, 0);
            anew(GET);
            pass(answer != NULL ? 0 : 60000);
            assert_true(begins(net.said, answer != NULL ? "HTTP/1.1 502 " : "HTTP/1.1 504 "));
        }
        assert_int_equal(net.health[0].down, is_parent == 0);
        if (is_parent == 0) assert_status(anew(GET), "200");
    }
}

/* A group's member is reached by TLS where the target says so, and has to be who was asked for. */
static void secure_groups(const void *data)
{
    static const struct miniproxy_hop hops[] = {{.host = "198.51.100.1", .port = 8443, .kind = MINIPROXY_HOP_ORIGIN}};
    struct host *h;
    (void)data;
    start(hops, 1, NULL, 0);
    h = host(0, "www.example", ANSWERS, OK200);
    assert_status(say("GET https://www.example/ HTTP/1.1\r\nHost: www.example\r\n\r\n"), "200");
    assert_string_equal(h->secure, "www.example");
    for (unsigned i = 0; i < net.link_count; i++)
        if (net.links[i].host == h) net.links[i].eof = true;
    assert_status(say("GET https://www.example/ HTTP/1.1\r\nHost: www.example\r\n\r\n"), "200");
    assert_int_equal(h->connects, 2);
}

static void https_by_parents(const void *data)
{
    static const struct miniproxy_hop hops[] = {{.host = "one", .port = 3128},
                                                {.host = "one", .port = 3128, .kind = MINIPROXY_HOP_SOCKS5},
                                                {.host = "two", .port = 443, .secure = 1}};
    static const char get[] = "GET https://www.example/ HTTP/1.1\r\nHost: www.example\r\n\r\n";
    (void)data;
    start(hops, 2, NULL, 0);
    host(0, "one", ANSWERS, OK200);
    assert_status(say(get), "501");
    assert_int_equal(net.hosts[0].connects, 0);
    start(hops, 3, NULL, 0);
    host(0, "one", ANSWERS, OK200);
    host(1, "two", ANSWERS, OK200);
    assert_status(say(get), "200");
    assert_int_equal(net.hosts[0].connects, 0);
    assert_string_equal(net.hosts[1].secure, "two");
    assert_true(begins(net.hosts[1].got, "GET https://www.example/ HTTP/1.1\r\nHost: www.example\r\n"));
}

/* ---- Which way, and what the policy says of it */

static const struct miniproxy_net4 documentation[] = {{{198, 51, 100, 0}, 24}};
static const struct miniproxy_nets test_net = {.v4 = documentation, .v4_count = 1};

static void remote_names(const void *data)
{
    static const struct miniproxy_rule rules[] = {{.verdict = MINIPROXY_DENY, .to = &test_net},
                                                  {.verdict = MINIPROXY_ALLOW}};
    static const struct miniproxy_rule by_network[] = {
        {.verdict = MINIPROXY_ALLOW, .to = &test_net, .special_purpose = 1}, {.verdict = MINIPROXY_DENY}};
    static const struct miniproxy_route careful[] = {{.count = 1, .resolve = true}};
    (void)data;
    start(one, 1, NULL, 0);
    policy.rules = rules;
    policy.rule_count = 2;
    host(0, "one", ANSWERS, OK200);
    host(1, "www.example", ANSWERS, OK200);
    assert_status(say(GET), "200"); /* nobody here knows its address */
    assert_status(anew("GET http://localhost/ HTTP/1.1\r\nHost: localhost\r\n\r\n"), "403");
    assert_status(anew("GET http://a.LOCALHOST./ HTTP/1.1\r\nHost: x\r\n\r\n"), "403");
    assert_status(anew("GET http://127.0.0.1/ HTTP/1.1\r\nHost: x\r\n\r\n"), "403");
    assert_status(anew("GET http://198.51.100.77/ HTTP/1.1\r\nHost: x\r\n\r\n"), "403");
    assert_status(anew("CONNECT www.example:22 HTTP/1.1\r\nHost: x\r\n\r\n"), "403");
    assert_int_equal(net.event.cause, MINIPROXY_CAUSE_CONNECT_PORT);
    assert_status(anew("GET http://8.8.8.8/ HTTP/1.1\r\nHost: 8.8.8.8\r\n\r\n"), "200");
    assert_true(begins(net.hosts[0].got, "GET http"));
    policy.rules = by_network;
    assert_status(anew("CONNECT www.example:443 HTTP/1.1\r\nHost: x\r\n\r\n"), "403");
    assert_int_equal(net.event.cause, MINIPROXY_CAUSE_POLICY); /* no other port would do */
    policy.rules = rules;
    policy.routes = careful;
    assert_status(anew(GET), "403");
    assert_int_equal(net.event.cause, MINIPROXY_CAUSE_ADDRESS);
    assert_status(anew("GET http://nowhere.example/ HTTP/1.1\r\nHost: x\r\n\r\n"), "502");
    assert_int_equal(net.event.cause, MINIPROXY_CAUSE_DNS_NAME);
}

static void ways_by_address(const void *data)
{
    static const struct miniproxy_route routes[] = {{.to = &test_net}, {.first = 0, .count = 1}};
    (void)data;
    start(one, 1, routes, 2);
    policy.rules = allow_special;
    host(0, "one", ANSWERS, OK200);
    host(1, "www.example", ANSWERS, OK200);
    assert_status(say(GET), "200"); /* directly: its address is of that network */
    assert_string_equal(net.event_hop, "-");
    assert_int_equal(net.hosts[1].connects, 1);
    assert_status(say(GET), "200");
    assert_true(net.event.reused);
    assert_status(say("GET http://8.8.8.8/ HTTP/1.1\r\nHost: 8.8.8.8\r\n\r\n"), "200");
    assert_string_equal(net.event_hop, "one");
    assert_status(say("GET http://198.51.100.2/ HTTP/1.1\r\nHost: 198.51.100.2\r\n\r\n"), "200");
    assert_string_equal(net.event_hop, "-");
    assert_int_equal(net.hosts[1].connects, 2);
    assert_status(say("GET http://8.8.8.8/ HTTP/1.1\r\nHost: 8.8.8.8\r\n\r\n"), "200");
    assert_string_equal(net.event_hop, "one");
}

/* Where a kept connection leads says nothing of the next one, when that connection is gone. */
static void way_of_a_new_address(const void *data)
{
    static const struct miniproxy_net4 second4[] = {{{198, 51, 100, 2}, 32}};
    static const struct miniproxy_nets second = {.v4 = second4, .v4_count = 1};
    static const struct miniproxy_route routes[] = {{.to = &second}, {.first = 0, .count = 1}};
    (void)data;
    start(one, 1, routes, 2);
    policy.rules = allow_special;
    host(0, "one", ANSWERS, OK200);
    host(1, "www.example", ANSWERS, OK200);
    assert_status(say(GET), "200");
    assert_string_equal(net.event_hop, "-");
    for (unsigned i = 0; i < net.link_count; i++)
        if (net.links[i].host == &net.hosts[1]) net.links[i].eof = true; /* nobody is told */
    host(1, NULL, ANSWERS, OK200);
    host(2, "www.example", ANSWERS, OK200);
    assert_status(say("POST http://www.example/ HTTP/1.1\r\nHost: www.example\r\nContent-Length: 1\r\n\r\nx"), "200");
    assert_string_equal(net.event_hop, "one");
    assert_int_equal(net.hosts[2].connects, 0);
}

/* A parent that has said 102 and goes has not answered: the next one is asked. */
static void tunnel_after_interim(const void *data)
{
    (void)data;
    start(two, 2, NULL, 0);
    host(0, "one", ANSWERS, "HTTP/1.1 102 Wait\r\n\r\nHTTP/1.1 20");
    host(1, "two", ANSWERS, "HTTP/1.1 200 OK\r\n\r\n");
    assert_string_equal(say(CONNECT), "");
    for (unsigned i = 0; i < net.link_count; i++) {
        if (net.links[i].host != &net.hosts[0]) continue;
        net.links[i].eof = true;
        miniproxy_wake(net.links[i].conn, MINIPROXY_RD);
    }
    pass(0);
    assert_status(net.said, "200");
    assert_int_equal(net.hosts[1].heads, 1);
}

/* What else has been counted meanwhile does not change what a client that speaks SOCKS5 is told. */
static void socks_clients(const void *data)
{
    static const char hello[] = "\5\1\0\5\1\0\3\13www.example\1\xbb";
    static const struct miniproxy_limit limits[] = {{.requests_a_minute = 60, .request_burst = 1}};
    (void)data;
    start(one, 1, NULL, 0);
    host(0, "one", ANSWERS, "HTTP/1.1 102 Wait\r\n\r\nHTTP/1.1 103 Go\r\n\r\nHTTP/1.1 403 No\r\n\r\n");
    pass(0);
    add(net.client, hello, sizeof hello - 1);
    pass(0);
    assert_int_equal(net.said_len, 12);
    assert_memory_equal(net.said, "\5\0\5\1\0\1", 6);
    assert_int_equal(net.event.status, 403);
    assert_int_equal(net.event.cause, MINIPROXY_CAUSE_HOP_REFUSED);
    for (unsigned i = 0; i < 3; i++) {
        policy.limits = limits;
        policy.limit_count = 1;
        host(0, "one", ANSWERS, "HTTP/1.1 200 OK\r\n\r\n");
        anew("");
        add(net.client, hello, sizeof hello - 1);
        pass(0);
        assert_int_equal(net.said_len, 12);
        assert_memory_equal(net.said, i == 0 ? "\5\0\5\0" : "\5\0\5\2", 4);
    }
    assert_int_equal(net.event.cause, MINIPROXY_CAUSE_REQUEST_RATE);
}

/* A SOCKS5 request becomes a CONNECT that a parent understands, however long its name is. */
static void socks_by_parent(const void *data)
{
    char name[254], hello[300], expected[800];
    (void)data;
    for (unsigned len = 1; len <= 253; len++) {
        size_t n = 8;
        for (unsigned i = 0; i < len; i++) name[i] = i % 50 == 49 && i + 1 < len ? '.' : 'a';
        name[len] = '\0';
        start(one, 1, NULL, 0);
        host(0, "one", ANSWERS, "HTTP/1.1 200 OK\r\n\r\nserver");
        memcpy(hello, "\5\1\0\5\1\0\3", 7);
        hello[7] = (char)len;
        memcpy(hello + n, name, len);
        memcpy(hello + n + len, "\1\xbb" "early", 7);
        pass(0);
        add(net.client, hello, n + len + 7);
        pass(0);
        assert_int_equal(net.said_len, 18);
        assert_memory_equal(net.said, "\5\0\5\0\0\1", 6);
        assert_memory_equal(net.said + 12, "server", 6);
        snprintf(expected, sizeof expected, "CONNECT %s:443 HTTP/1.1\r\nHost: %s:443\r\nVia: 1.1 miniproxy\r\n"
                 "Proxy-Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n\r\nearly", name, name);
        assert_string_equal(net.hosts[0].got, expected);
    }
}

static void new_policy(const void *data)
{
    static struct miniproxy_policy next;
    (void)data;
    start(one, 1, NULL, 0);
    host(0, "one", ANSWERS, OK200);
    host(1, "www.example", ANSWERS, OK200);
    assert_status(say(GET), "200");
    next = policy;
    next.route_count = next.hop_count = 0;
    next.routes = NULL;
    next.hops = NULL;
    next.health = NULL;
    next.rules = allow_special;
    assert_true(miniproxy_set_policy(&net.proxy, &next));
    assert_false(miniproxy_policy_in_use(&net.proxy, &policy));
    assert_status(say(GET), "200");
    assert_string_equal(net.event_hop, "-");
    assert_int_equal(net.hosts[1].heads, 1);
    assert_false(net.event.reused);
    assert_true(miniproxy_set_policy(&net.proxy, &policy));
    assert_status(say(GET), "200");
    assert_string_equal(net.event_hop, "one");
}

/* The way of a request is found while another policy comes into force: nobody goes on by its connection. */
static void new_policy_meanwhile(const void *data)
{
    static const struct miniproxy_route careful[] = {{.count = 1, .resolve = true}}, simple[] = {{.count = 1}};
    static struct miniproxy_policy next;
    (void)data;
    start(one, 1, careful, 1);
    policy.rules = allow_special;
    host(0, "one", ANSWERS, OK200);
    host(1, "www.example", ANSWERS, OK200);
    host(2, "two", ANSWERS, OK200);
    net.slow_names = true;
    say(GET);
    assert_int_equal(net.said_len, 0);
    next = policy;
    next.routes = simple;
    next.hops = two + 1;
    assert_true(miniproxy_set_policy(&net.proxy, &next));
    net.slow_names = false;
    miniproxy_wake(net.asks, MINIPROXY_WR);
    pass(0);
    assert_status(net.said, "200");
    assert_string_equal(net.event_hop, "one");
    assert_status(say(GET), "200");
    assert_string_equal(net.event_hop, "two");
    assert_int_equal(net.hosts[0].heads, 1);
    assert_int_equal(net.hosts[2].heads, 1);
}

static void unsound(const void *data)
{
    static const struct miniproxy_hop hops[] = {
        {.host = "one", .port = 0},
        {.host = "", .port = 1},
        {.host = "one", .port = 1, .kind = 3},
        {.host = "one", .port = 1, .login = "nocolon"},
        {.host = "one", .port = 1, .login = ":x", .kind = MINIPROXY_HOP_SOCKS5},
        {.host = "one", .port = 1, .login = "x:", .kind = MINIPROXY_HOP_SOCKS5},
        {.host = "one", .port = 1, .login = "a:b", .kind = MINIPROXY_HOP_ORIGIN},
        {.host = "one", .port = 1, .secure = 1, .kind = MINIPROXY_HOP_SOCKS5},
    };
    static const struct miniproxy_hop mixed[] = {{.host = "one", .port = 1},
                                                 {.host = "one", .port = 1, .kind = MINIPROXY_HOP_ORIGIN}};
    static const struct miniproxy_route routes[] = {{.first = 1, .count = 1}, {.count = 17}, {.count = 2}};
    (void)data;
    start(one, 1, NULL, 0);
    assert_int_equal(miniproxy_check_policy(&policy), -1);
    policy.health = NULL;
    assert_int_equal(miniproxy_check_policy(&policy), 0);
    policy.health = net.health;
    for (unsigned i = 0; i < sizeof hops / sizeof hops[0]; i++) {
        policy.hops = hops + i;
        assert_int_equal(miniproxy_check_policy(&policy), 0);
    }
    policy.hops = mixed;
    for (unsigned i = 0; i < 3; i++) {
        policy.hop_count = i == 2 ? 2 : 1;
        policy.routes = routes + i;
        assert_int_equal(miniproxy_check_policy(&policy), 0);
    }
}

/* ---- Checks */

static void connections_checked(const void *data)
{
    static const struct miniproxy_hop hops[] = {{.host = "one", .port = 3128, .check_s = 10, .rise = 3, .fall = 2},
                                                {.host = "two", .port = 3128, .check_s = 10}};
    struct host *a;
    (void)data;
    start(hops, 2, NULL, 0);
    net.pending = false;
    a = host(0, "one", ANSWERS, OK200);
    host(1, "two", ANSWERS, OK200);
    pass(0);
    assert_int_equal(a->connects, 1); /* at once, then every 10 s */
    pass(9999);
    assert_int_equal(a->connects, 1);
    pass(1);
    assert_int_equal(a->connects, 2);
    assert_int_equal(net.events, 0);
    assert_int_equal(miniproxy_active(&net.proxy), 0);
    a->does = REFUSES;
    pass(10000);
    assert_int_equal(net.health[0].down, 0);
    pass(10000);
    assert_int_equal(net.health[0].down, 1);
    assert_int_equal(net.turned, 1);
    a->connects = 0;
    assert_status(anew(GET), "200");
    assert_string_equal(net.event_hop, "two");
    assert_int_equal(a->connects, 0);
    a->does = LACKS; /* of something on this side: nobody is to blame */
    pass(10000);
    assert_int_equal(net.health[0].failed, 2);
    a->does = ANSWERS;
    pass(29999);
    assert_int_equal(net.health[0].down, 1);
    pass(1);
    assert_int_equal(net.health[0].down, 0);
    assert_int_equal(net.turned, 2);
    assert_status(anew(GET), "200");
    assert_string_equal(net.event_hop, "one");
}

static void requests_checked(const void *crumbs)
{
    static const struct miniproxy_hop hops[] = {
        {.host = "one", .port = 3128, .check = "http://www.example/up", .check_s = 5, .rise = 1, .fall = 1, .login = "a:b"}};
    struct host *a;
    start(hops, 1, NULL, 0);
    net.crumbs = crumbs != NULL;
    a = host(0, "one", ANSWERS, "HTTP/1.1 100 Go\r\n\r\nHTTP/1.1 204 Fine\r\n\r\n");
    pass(0);
    assert_string_equal(a->got, "HEAD http://www.example/up HTTP/1.1\r\nHost: www.example\r\nVia: 1.0 miniproxy\r\n"
                                "Connection: close\r\nProxy-Authorization: Basic YTpi\r\n\r\n");
    assert_int_equal(net.health[0].down, 0);
    a->answer = "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n";
    pass(5000);
    assert_int_equal(net.health[0].down, 1);
    assert_int_equal(net.health[0].cause, MINIPROXY_CAUSE_HOP_REFUSED);
    a->answer = OK200;
    pass(5000);
    assert_int_equal(net.health[0].down, 0);
    a->does = IS_SILENT;
    pass(9999);
    assert_int_equal(net.health[0].down, 0);
    pass(1);
    assert_int_equal(net.health[0].down, 1);
    assert_int_equal(net.health[0].cause, MINIPROXY_CAUSE_CONNECT_TIMEOUT);
    a->does = ANSWERS;
    a->answer = "HTTP/1.1 407 Login\r\nContent-Length: 0\r\n\r\n";
    pass(5000);
    assert_int_equal(net.health[0].cause, MINIPROXY_CAUSE_HOP_LOGIN);
    assert_int_equal(net.events, 0);
    assert_int_equal(net.proxy.counters.buffers, 0);
}

/* More hops than checks at once: each gets its turn, silent ones do not keep the others from it; and pools that are in
 * use do not. */
static void many_checks(const void *data)
{
    static struct miniproxy_hop hops[HOSTS];
    static const char *const names[HOSTS] = {"a", "b", "c", "d", "e", "f", "g", "h"};
    (void)data;
    for (unsigned i = 0; i < HOSTS; i++) hops[i] = (struct miniproxy_hop){.host = names[i], .port = 1, .check_s = 60};
    start(hops, HOSTS, NULL, 0);
    for (unsigned i = 0; i < HOSTS; i++) host(i, names[i], i < 2 ? IS_SILENT : ANSWERS, OK200);
    pass(5000);
    for (unsigned i = 2; i < HOSTS; i++) assert_int_equal(net.hosts[i].connects, 1);
    miniproxy_stop(&net.proxy);
    assert_int_equal(net.proxy.counters.buffers, 0);
    pass(100000);
    for (unsigned i = 2; i < HOSTS; i++) assert_int_equal(net.hosts[i].connects, 1);
}

/* Hops whose checks hang take turns with the others, however often they are checked. */
static void hanging_checks(const void *data)
{
    static struct miniproxy_hop hops[HOSTS];
    static const char *const names[HOSTS] = {"a", "b", "c", "d", "e", "f", "g", "h"};
    (void)data;
    for (unsigned i = 0; i < HOSTS; i++)
        hops[i] = (struct miniproxy_hop){.host = names[i], .port = 1, .check = "http://a.example/", .check_s = 1};
    start(hops, HOSTS, NULL, 0);
    for (unsigned i = 0; i < HOSTS; i++) host(i, names[i], ANSWERS, i < HOSTS - 1 ? NULL : OK200);
    pass(200000);
    for (unsigned i = 0; i < HOSTS; i++) assert_true(net.hosts[i].connects >= 3);
    for (unsigned i = 0; i < HOSTS; i++) assert_int_equal(net.health[i].down, i < HOSTS - 1);
    hear();
    net.hosts[HOSTS - 2].answer = OK200;
    pass(200000);
    assert_int_equal(net.health[HOSTS - 2].down, 0);
}

/* A check is under way when there is nothing more to check. */
static void checks_left(const void *how)
{
    static const struct miniproxy_hop hops[] = {{.host = "one", .port = 3128, .check = "http://a/", .check_s = 5}};
    (void)how;
    start(hops, 1, NULL, 0);
    host(0, "one", ANSWERS, NULL);
    net.pending = false;
    pass(0);
    assert_int_equal(net.hosts[0].heads, 1);
    assert_non_null(net.links[0].conn);
    if (how != NULL) {
        miniproxy_drain(&net.proxy);
        pass(0);
        assert_null(net.links[0].conn);
        assert_int_equal(net.health[0].failed, 0);
    } else {
        assert_true(miniproxy_set_policy(&net.proxy, NULL));
        pass(5000);
        assert_null(net.links[0].conn);
        assert_int_equal(net.health[0].failed, 1);
    }
    pass(100000);
    assert_int_equal(net.hosts[0].heads, 1);
    assert_int_equal(net.proxy.counters.buffers, 0);
}

int main(void)
{
    static const enum behaviour refuses = REFUSES, is_silent = IS_SILENT, ends = ENDS;
#define TEST(name, test, data) {name, test, data, false}
    static struct unit_test tests[] = {
        TEST("a parent gets the absolute form, Host, Via and its own login [T03,H06]", absolute_form, NULL),
        TEST("the same octet by octet [T03,H06]", absolute_form, "crumbs"),
        TEST("heads for a parent are whole or refused, whatever their lengths [T03]", every_length, NULL),
        TEST("bodies go by a parent [T03]", bodies, NULL),
        TEST("a kept connection to a parent serves every origin", kept_for_every_origin, NULL),
        TEST("a parent's 407 is not the client's [H07]", its_own_407, NULL),
        TEST("a tunnel by a parent [K11,K03]", tunnels, NULL),
        TEST("the same octet by octet [K11,K03]", tunnels, "crumbs"),
        TEST("a tunnel that the parent refuses is never half built [K11]", refused_tunnels, NULL),
        TEST("a parent that refuses connections is passed over [G05]", to_the_next, &refuses),
        TEST("one that is silent too [G05]", to_the_next, &is_silent),
        TEST("one that takes requests and ends too [G05]", to_the_next, &ends),
        TEST("one that ends inside a head too [G05]", heads_that_break_off, NULL),
        TEST("the same octet by octet [G05]", heads_that_break_off, "crumbs"),
        TEST("what may not be sent twice is not sent twice", posts, NULL),
        TEST("what may not be sent twice tries no hop that is down [G05]", trials, NULL),
        TEST("all parents down: 503, then tried again ever more seldom [S07,G05]", all_down, NULL),
        TEST("one that is down is tried after any time without requests [G05]", after_a_long_time, NULL),
        TEST("a parent that ends, and others of another kind [S05]", other_kinds, NULL),
        TEST("a parent whose name does not resolve is passed over", missing_name, NULL),
        TEST("a kept connection to a parent that is gone", stale, one),
        TEST("a kept connection by a SOCKS5 server that is gone", stale, socks),
        TEST("parents in turn", in_turn, NULL),
        TEST("requests and tunnels by a SOCKS5 server", by_socks, NULL),
        TEST("the same octet by octet", by_socks, "crumbs"),
        TEST("logins of SOCKS5", socks_logins, NULL),
        TEST("the same octet by octet", socks_logins, "crumbs"),
        TEST("refusals of SOCKS5", socks_refusals, NULL),
        TEST("a SOCKS5 server that ends in place of a reply [G05]", socks_ends, NULL),
        TEST("what is no SOCKS5 server", no_socks, NULL),
        TEST("a group of origins", groups, NULL),
        TEST("a group's member that does not answer [G05]", groups_that_hang, NULL),
        TEST("a group's member that does not speak HTTP [G05]", groups_that_hang, "SSH-2.0-x\r\n"),
        TEST("a group of https origins [L04]", secure_groups, NULL),
        TEST("https requests go by TLS to a parent, or not at all [L04]", https_by_parents, NULL),
        TEST("names that a parent resolves, and the policy", remote_names, NULL),
        TEST("ways by address", ways_by_address, NULL),
        TEST("the way of a new address", way_of_a_new_address, NULL),
        TEST("a parent that goes behind an interim response to a CONNECT [K11]", tunnel_after_interim, NULL),
        TEST("clients that speak SOCKS5 go by a parent, too [K11]", socks_by_parent, NULL),
        TEST("clients that speak SOCKS5 are refused in SOCKS5 [N04]", socks_clients, NULL),
        TEST("another policy, other ways", new_policy, NULL),
        TEST("another policy while a way is found", new_policy_meanwhile, NULL),
        TEST("tables that make no sense are refused", unsound, NULL),
        TEST("checks by connections [G05]", connections_checked, NULL),
        TEST("checks by requests [G05]", requests_checked, NULL),
        TEST("the same octet by octet [G05]", requests_checked, "crumbs"),
        TEST("more to check than can be at once [G05]", many_checks, NULL),
        TEST("more checks that hang than can be at once [G05]", hanging_checks, NULL),
        TEST("checks under way when there is no policy any more", checks_left, NULL),
        TEST("checks under way when all is drained", checks_left, "drain"),
    };
    return unit_run("routes", tests, sizeof tests / sizeof tests[0]);
}

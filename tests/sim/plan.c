/* SPDX-License-Identifier: MIT */
/* The generator: from the seed to a world with machines, names, clients, requests and answers. */
#include "sim.h"

#include <stdarg.h>
#include <string.h>

/* Octets of the longest head that fits; two are kept free behind it. */
#define HEAD_LIMIT (MINIPROXY_HEAD_MAX - 2)

/* ---- Mood: how the network behaves ---- */

static void make_mood(void)
{
    struct mood *m = &world.mood;
    static const uint32_t capacities[] = {1, 100, 1500, 16384, 65536, 65536};
    static const int failures[] = {MINIPROXY_ERESET, MINIPROXY_ETIMEDOUT, MINIPROXY_EFAIL, MINIPROXY_ERESET};
    m->amounts = (uint8_t)(one_in(6) ? 0 : 1 + below(2));
    m->again_one_in = one_in(2) ? 0 : between(2, 20);
    m->spurious_one_in = one_in(2) ? 0 : between(1, 30);
    m->latency_ms = one_in(3) ? 0 : between(1, 20);
    m->wake_delay_ms = one_in(3) ? 0 : between(1, 10);
    m->capacity_max = capacities[below(6)];
    m->fail_at_call = one_in(5) ? 1 + spread(2000) : 0;
    m->fail_with = failures[below(4)];
    m->resources_one_in = one_in(8) ? between(3, 20) : 0;
    m->edge_wakes = one_in(2);
    m->clears_rd = one_in(2);
    m->relays = one_in(2);
    m->broken_hint = one_in(2);
    m->reset_drops = one_in(2);
    m->host_trouble_one_in = one_in(3) ? 0 : between(2, 6);
    m->client_trouble_one_in = one_in(3) ? 0 : between(2, 8);
    m->answer_trouble_one_in = one_in(3) ? 0 : between(2, 8);
    if (MINIPROXY_WITH_PBKDF2) m->slice_ms = one_in(3) ? 0 : one_in(3) ? between(1000, 5000) : between(1, 100);
    m->small = m->amounts == 0 || m->capacity_max <= 100 || m->again_one_in == 2;
}

static void make_timeouts(void)
{
    static const uint32_t defaults[] = {
#define X(NAME, name, ms, meaning) ms,
        MINIPROXY_TIMEOUTS(X)
#undef X
    };
    uint32_t half = one_in(4) && !world.mood.small ? 1 : 2;
    for (unsigned i = 0; i < MINIPROXY_TIMEOUT_COUNT; i++) world.timeout_ms[i] = defaults[i] / 2 * half;
    world.timeout_ms[MINIPROXY_TIMEOUT_LINGER] = defaults[MINIPROXY_TIMEOUT_LINGER] * 4;
    if ((MINIPROXY_WITH_TLS || MINIPROXY_WITH_ROUTES) &&
        world.mood.small) /* a handshake is some thousand octets, and each takes its time */
        for (unsigned i = 0; i < MINIPROXY_TIMEOUT_COUNT; i++) world.timeout_ms[i] *= 20;
    if (one_in(10)) world.timeout_ms[MINIPROXY_TIMEOUT_TOTAL] = between(5000, 200000);
    if (one_in(10)) world.timeout_ms[MINIPROXY_TIMEOUT_TUNNEL_TOTAL] = between(5000, 200000);
}

/* ---- Machines and names ---- */

static void make_machine(struct machine *m, unsigned n)
{
    static const uint8_t prefixes[][4] = {{11, 0, 0, 0}, {11, 0, 0, 0}, {11, 0, 0, 0}, {9, 9, 0, 0}, {10, 1, 0, 0}};
    unsigned which = below(6);
    memset(m, 0, sizeof *m);
    if (which == 5) {
        m->addr.family = 6;
        memcpy(m->addr.ip, (const uint8_t[]){0x26, 0, 0, 9}, 4);
        m->addr.ip[3] = (uint8_t)(one_in(3) ? 9 : 7);
        m->addr.ip[15] = (uint8_t)(n + 1);
    } else {
        m->addr.family = 4;
        memcpy(m->addr.ip, prefixes[which], 4);
        m->addr.ip[3] = (uint8_t)(n + 1);
        m->special = which == 4;
    }
    m->kind = MACHINE_OK;
    if (n > 0 && one_in(world.mood.host_trouble_one_in)) m->kind = (uint8_t)between(MACHINE_SLOW, MACHINE_SELF);
    m->delay_ms = one_in(2) ? 0 : below(40);
    if (m->kind == MACHINE_SLOW) m->delay_ms = between(200, 6000);
}

static void make_host(struct host *h, unsigned n)
{
    static const int failures[] = {MINIPROXY_ENAME, MINIPROXY_EDNS};
    memset(h, 0, sizeof *h);
    snprintf(h->name, sizeof h->name, n == 5 ? "a.h2.sim" : "h%u.sim", n);
    h->count = (uint8_t)(one_in(3) ? between(1, 6) : between(1, 2));
    for (unsigned i = 0; i < h->count; i++)
        h->machines[i] = (uint8_t)(i > 0 && one_in(2) ? below(world.machine_count) : (n + i) % world.machine_count);
    h->result = h->count;
    h->delay_ms = one_in(2) ? 0 : below(80);
    if (n > 0 && one_in(world.mood.host_trouble_one_in)) {
        if (one_in(2)) h->result = failures[below(2)];
        else h->delay_ms = one_in(2) ? UINT32_MAX : between(1000, 15000);
    }
}

/* ---- Text ---- */

static void put(struct exchange *ex, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void put(struct exchange *ex, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    ex->head_len += (uint32_t)vsnprintf(ex->head + ex->head_len, sizeof ex->head - ex->head_len, format, args);
    va_end(args);
    if (ex->head_len >= sizeof ex->head) ex->head_len = sizeof ex->head - 1;
}

/* A field that may be there, if the head stays readable for the core with it. */
static void put_perhaps(struct exchange *ex, unsigned chance, const char *line)
{
    if (one_in(chance) && ex->head_len + strlen(line) + 160 < MINIPROXY_HEAD_MAX) put(ex, "%s", line);
}

static void put_login(struct exchange *ex)
{
    static const char *const good[] = {"Basic a2lvc2s6c2VjcmV0", "basic  a2lvc2s6c2VjcmV0"};
    /* kiosk:wrong, nobody:x, admin:a, badge: */
    static const char *const wrong[] = {"Basic a2lvc2s6d3Jvbmc=", "Basic bm9ib2R5Ong=", "Basic YWRtaW46YQ==",
                                        "Basic YmFkZ2U6"};
    static const char *const junk[] = {"Basic ", "Basic !!!", "Bearer abc", "Basic a2lvc2s"};
    if (ex->login == LOGIN_GOOD) put(ex, "Proxy-Authorization: %s\r\n", good[below(2)]);
    if (ex->login == LOGIN_WRONG) put(ex, "Proxy-Authorization: %s\r\n", wrong[below(4)]);
    if (ex->login == LOGIN_JUNK) put(ex, "Proxy-Authorization: %s\r\n", junk[below(4)]);
}

/* ---- Malformed requests: @ stands for a host, & for the number of the request ---- */

#define C(name) MINIPROXY_CAUSE_##name
#if MINIPROXY_WITH_TLS
#define OTHER_SCHEME "ftp"
#else
#define OTHER_SCHEME "https"
#endif

static const struct malformed {
    const char *text;
    uint8_t causes[CAUSES_MAX];
} malformed[] = {
    {"GET / HTTP/1.1\r\nHost: @\r\n\r\n", {C(ORIGIN_FORM)}},
    {"GET http://@/ HTTP/1.1\r\n\r\n", {C(HOST)}},
    {"GET http://@/ HTTP/1.1\r\nHost: @\r\nHost: @\r\n\r\n", {C(HOST)}},
    {"GET http://@/ HTTP/1.1\r\nHost: a, b\r\n\r\n", {C(HOST)}},
    {"GET http://@/ HTTP/1.1\nHost: @\r\n\r\n", {C(REQUEST_LINE), C(FIELD)}},
    {"GET http://@/ HTTP/1.1\r\nHost: @\nX: y\r\n\r\n", {C(FIELD), C(REQUEST_LINE)}},
    {"GET http://@/ HTTP/1.1\r\nHost: @\r\nX: a\rb\r\n\r\n", {C(FIELD)}},
    {"GET http://@/ HTTP/1.1\r\nHost: @\r\nX : y\r\n\r\n", {C(FIELD)}},
    {"GET http://@/ HTTP/1.1\r\n X: y\r\nHost: @\r\n\r\n", {C(FIELD)}},
    {"GET http://@/ HTTP/1.1\r\nHost: @\r\nX: y\r\n z\r\n\r\n", {C(FIELD)}},
    {"GET http://@/ HTTP/1.1\r\nHost: @\r\nno colon\r\n\r\n", {C(FIELD)}},
    {"GET  http://@/ HTTP/1.1\r\nHost: @\r\n\r\n", {C(REQUEST_LINE), C(TARGET)}},
    {"GET http://@/ x HTTP/1.1\r\nHost: @\r\n\r\n", {C(REQUEST_LINE), C(TARGET)}},
    {"GET http://@/ HTTP/2.0\r\nHost: @\r\n\r\n", {C(VERSION)}},
    {"GET http://@/ http/1.1\r\nHost: @\r\n\r\n", {C(REQUEST_LINE)}},
    {"GET " OTHER_SCHEME "://@/ HTTP/1.1\r\nHost: @\r\n\r\n", {C(SCHEME)}},
    {"GET http:///x HTTP/1.1\r\nHost: @\r\n\r\n", {C(TARGET)}},
    {"GET http://u:p@@/ HTTP/1.1\r\nHost: @\r\n\r\n", {C(TARGET)}},
    {"GET http://@/#f HTTP/1.1\r\nHost: @\r\n\r\n", {C(TARGET)}},
    {"GET http://@:0/ HTTP/1.1\r\nHost: @\r\n\r\n", {C(TARGET)}},
    {"GET http://@:65536/ HTTP/1.1\r\nHost: @\r\n\r\n", {C(TARGET)}},
    {"GET http://0x7f.1/ HTTP/1.1\r\nHost: @\r\n\r\n", {C(TARGET)}},
    {"CONNECT @ HTTP/1.1\r\nHost: @\r\n\r\n", {C(TARGET)}},
    {"CONNECT @:80x HTTP/1.1\r\nHost: @\r\n\r\n", {C(TARGET)}},
    {"CONNECT @:443 HTTP/1.1\r\nHost: @:443\r\nContent-Length: 3\r\n\r\nabc", {C(LENGTH), C(CODING), C(FIELD)}},
    {"POST http://@/ HTTP/1.1\r\nHost: @\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
     {C(LENGTH), C(CODING)}},
    {"POST http://@/ HTTP/1.1\r\nHost: @\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef", {C(LENGTH)}},
    {"POST http://@/ HTTP/1.1\r\nHost: @\r\nContent-Length: +5\r\n\r\nabcde", {C(LENGTH)}},
    {"POST http://@/ HTTP/1.1\r\nHost: @\r\nContent-Length: 18446744073709551621\r\n\r\nabcde",
     {C(LENGTH), C(BODY_SIZE)}},
    {"POST http://@/ HTTP/1.1\r\nHost: @\r\nContent-Length: \r\n\r\n", {C(LENGTH)}},
    {"POST http://@/ HTTP/1.1\r\nHost: @\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
     {C(CODING), C(UNKNOWN_CODING)}},
    {"POST http://@/ HTTP/1.1\r\nHost: @\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", {C(UNKNOWN_CODING)}},
    {"POST http://@/ HTTP/1.1\r\nHost: @\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
     {C(CODING)}},
    {"POST http://@/ HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", {C(CODING)}},
    {"TRACE http://@/ HTTP/1.1\r\nHost: @\r\nMax-Forwards: 0\r\n\r\n",
     {C(TRACE), C(LOGIN_MISSING), C(POLICY), C(ADDRESS)}},
    {"GET http://@/ HTTP/1.1\r\nHost: @\r\nExpect: magic\r\n\r\n", {C(EXPECTATION)}},
    {"GET http://@/ HTTP/1.1\r\nHost: @\r\nVia: 1.1 sim\r\n\r\n", {C(LOOP)}},
    {"AVERYLONGMETHODNAMETHATISNEVERENDING http://@/ HTTP/1.1\r\nHost: @\r\n\r\n", {C(METHOD_SIZE)}},
    {"\x16\x03\x01\x02\x05\x01\x01\xfc\x03\x03zzzzzzzzzzzzzzz\n", {C(TLS)}},
    {"\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n", {C(REQUEST_LINE)}},
    {"GET * HTTP/1.1\r\nHost: @\r\n\r\n", {C(TARGET), C(ORIGIN_FORM)}},
    {"connect @:443 HTTP/1.1\r\nHost: @:443\r\n\r\n", {C(TARGET), C(ORIGIN_FORM), C(SCHEME)}},
    {"hello\r\n\r\n", {C(REQUEST_LINE)}},
};

static void put_malformed(struct exchange *ex, const struct malformed *m)
{
    for (const char *p = m->text; *p != '\0'; p++) {
        if (*p == '@' && p[1] == '@') put(ex, "%c", *p);
        else if (*p == '@') put(ex, "%s", world.hosts[0].name);
        else put(ex, "%c", *p);
    }
    memcpy(ex->causes, m->causes, CAUSES_MAX);
}

/* A NUL, an endless head, too many fields: too long or too odd for a table. */
static void put_oversized(struct exchange *ex)
{
    unsigned kind = below(4);
    put(ex, "GET http://%s/", world.hosts[0].name);
    if (kind == 0) {
        for (unsigned i = 0; i < MINIPROXY_HEAD_MAX + 50; i++) put(ex, "a");
        ex->causes[0] = MINIPROXY_CAUSE_LINE_SIZE;
    }
    put(ex, " HTTP/1.1\r\nHost: %s\r\n", world.hosts[0].name);
    if (kind == 1) {
        for (unsigned i = 0; i < MINIPROXY_FIELDS_MAX + 5; i++) put(ex, "X:%u\r\n", i % 10);
        ex->causes[0] = MINIPROXY_CAUSE_HEAD_SIZE;
    } else if (kind == 2) {
        put(ex, "X-Long: ");
        for (unsigned i = 0; i < MINIPROXY_HEAD_MAX + 50; i++) put(ex, "b");
        put(ex, "\r\n");
        ex->causes[0] = MINIPROXY_CAUSE_HEAD_SIZE;
    } else if (kind == 3) {
        put(ex, "X-Nul: a?b\r\n");
        ex->head[ex->head_len - 4] = '\0';
        ex->causes[0] = MINIPROXY_CAUSE_FIELD;
    }
    put(ex, "\r\n");
}

/* ---- Requests ---- */

/* Another request for the origin of the last one, or with the other scheme for what looks like it. */
static bool goes_on(struct exchange *ex)
{
    const struct exchange *last = ex->index > 0 ? ex->client->exchanges[ex->index - 1] : NULL;
    if (last == NULL || !last->https || ex->kind == EXCHANGE_CONNECT || one_in(3)) return false;
    ex->host = last->host;
    ex->literal = last->literal;
    ex->port = last->port;
    ex->https = !one_in(6);
    return true;
}

static void choose_https(struct exchange *ex)
{
    static const uint16_t ports[] = {443, 443, 443, 443, 443, 8080, 80};
    if (!goes_on(ex)) {
        if (ex->kind == EXCHANGE_CONNECT || one_in(2)) return;
        ex->https = true;
        ex->port = ports[below(7)];
    }
    if (ex->https && one_in(world.mood.host_trouble_one_in))
        ex->secure_fault = (uint8_t)between(1, FAULT_COUNT - 1);
}

static void choose_target(struct exchange *ex)
{
    static const uint16_t ports[] = {80, 80, 80, 80, 80, 8080, 443};
    char text[MINIPROXY_ADDR_TEXT];
    char authority[80];
    ex->port = ex->kind == EXCHANGE_CONNECT && !one_in(5) ? 443 : ports[below(7)];
    if (MINIPROXY_WITH_TLS) choose_https(ex);
    if (ex->literal != NULL || (ex->host == NULL && one_in(5))) {
        if (ex->literal == NULL) ex->literal = &world.machines[below(world.machine_count)];
        if (ex->secure_fault != FLAW_NONE && one_in(2)) ex->secure_fault = FLAW_NAME; /* it is rare enough */
        miniproxy_addr_format(&ex->literal->addr, text);
        snprintf(authority, sizeof authority, ex->literal->addr.family == 6 ? "[%s]" : "%s", text);
    } else {
        if (ex->host == NULL) ex->host = &world.hosts[one_in(4) ? below(world.host_count) : 0];
        snprintf(authority, sizeof authority, "%s", ex->host->name);
        if (one_in(8)) authority[0] = 'H';
        if (ex->host->name[0] == 'a') authority[0] = 'a';
    }
    if (ex->port != (ex->https ? 443 : 80) || ex->kind == EXCHANGE_CONNECT || one_in(8))
        snprintf(authority + strlen(authority), 8, ":%u", ex->port);
    if (ex->kind == EXCHANGE_CONNECT) {
        snprintf(ex->sent_target, sizeof ex->sent_target, "%s", authority);
        return;
    }
    ex->options_star = strcmp(ex->method, "OPTIONS") == 0 && one_in(3);
    if (ex->options_star) snprintf(ex->target, sizeof ex->target, "*");
    else
        snprintf(ex->target, sizeof ex->target, "%s/%u%s", one_in(15) ? "/no" : "", ex->id,
                 one_in(4) ? "?a=%2f//.." : "");
    snprintf(ex->sent_target, sizeof ex->sent_target, "%s%s://%s%s", one_in(10) ? "HTTP" : "http",
             !ex->https  ? ""
             : one_in(9) ? "S"
                         : "s",
             authority, ex->options_star ? "" : ex->target);
}

static void put_request(struct exchange *ex)
{
    if (ex->client->socks) {
        socks_put(ex);
        return;
    }
    put(ex, "%s %s HTTP/1.%u\r\nHost: %s\r\nX-Id: %u\r\n", ex->method, ex->sent_target, ex->http10 ? 0 : 1,
        one_in(10)                     ? "other.sim"
        : ex->kind == EXCHANGE_CONNECT ? ex->sent_target
                                       : "h",
        ex->id);
    put_login(ex);
    if (ex->kind == EXCHANGE_UPGRADE) {
        put(ex, "Connection: Upgrade\r\nUpgrade: websocket\r\n");
    } else {
        ex->nominates = one_in(4) && ex->head_len + 160 < MINIPROXY_HEAD_MAX;
        put(ex, "%s",
            ex->nominates && ex->says_close ? "Connection: close, X-Hop\r\n"
            : ex->nominates                 ? "Connection: X-Hop, keep-alive\r\n"
            : ex->says_close                ? "Connection: close\r\n"
                                            : "");
        if (ex->nominates) put(ex, "X-Hop: secret\r\n");
    }
    if (ex->req_framing == FRAMING_LENGTH) put(ex, "Content-Length: %u\r\n", ex->req_len);
    if (ex->req_framing == FRAMING_CHUNKED) put(ex, "Transfer-Encoding: chunked\r\n");
    if (ex->expect) put(ex, "Expect: 100-continue\r\n");
    put_perhaps(ex, 8, "Proxy-Connection: keep-alive\r\n");
    put_perhaps(ex, 8, "TE: trailers\r\n");
    put_perhaps(ex, 8, "Keep-Alive: 5\r\n");
    put_perhaps(ex, 8, "Via: 1.0 other\r\n");
    put_perhaps(ex, 3, "User-Agent: simulation\r\n");
    if (MINIPROXY_WITH_HTML) put_perhaps(ex, 2, "Accept: text/html, */*;q=0.5\r\n");
    if (!world.mood.small && one_in(MINIPROXY_WITH_ROUTES ? 8 : 20)) { /* up to the last octet that fits */
        put(ex, "X-Pad: ");
        while (ex->head_len + 4 < HEAD_LIMIT) put(ex, "p");
        put(ex, "\r\n");
    }
    put(ex, "\r\n");
    if (ex->head_len > HEAD_LIMIT) ex->causes[0] = MINIPROXY_CAUSE_HEAD_SIZE;
}

static void choose_body(struct exchange *ex)
{
    uint32_t max = world.mood.small ? 600 : one_in(10) ? 150000 : 8000;
    bool has = strcmp(ex->method, "POST") == 0 || strcmp(ex->method, "PUT") == 0 || one_in(12);
    ex->req_framing = FRAMING_NONE;
    if (!has) return;
    ex->req_framing = (uint8_t)(ex->http10 || one_in(2) ? FRAMING_LENGTH : FRAMING_CHUNKED);
    ex->req_len = spread(max);
    ex->req_chunk_max = one_in(3) ? 16 : one_in(2) ? 700 : 5000;
    if (world.mood.small && ex->req_chunk_max < 60) ex->req_chunk_max = 60;
    ex->req_trailers = ex->req_framing == FRAMING_CHUNKED && one_in(4);
    ex->bad_body = ex->req_framing == FRAMING_CHUNKED && one_in(15);
    ex->expect = !ex->http10 && one_in(4);
}

/* ---- Answers ---- */

static void choose_fault(struct exchange *ex, struct answer *a)
{
    unsigned kind = below(8);
    a->fault = (uint8_t)(kind < 2   ? ANSWER_EXTRA
                         : kind < 4 ? between(ANSWER_CUT, ANSWER_RESET)
                                    : between(ANSWER_GARBAGE, ANSWER_SWITCH));
    /* Somewhere in the body, or anywhere. */
    a->fault_at = one_in(2) ? 200 + below(a->len + 1) : spread(a->len + 250);
    a->pause_ms = one_in(2) ? between(500, 20000) : between(60000, 200000);
    if (MINIPROXY_WITH_UPGRADE && ex->kind == EXCHANGE_UPGRADE && a->fault == ANSWER_SWITCH) a->fault = ANSWER_GOOD;
    if (MINIPROXY_WITH_ROUTES && a->fault == ANSWER_INTERIMS) a->fault = ANSWER_GOOD;
}

static void choose_answer(struct exchange *ex)
{
    static const uint16_t statuses[] = {200, 200, 200, 200, 204, 304, 206, 301, 404, 401, 500, 503};
    struct answer *a = &ex->answer;
    uint32_t max = world.mood.small ? 600 : one_in(10) ? 200000 : 6000;
    a->status = statuses[below(12)];
    a->len = spread(max);
    a->http10 = one_in(8);
    a->framing = (uint8_t)(one_in(6) ? FRAMING_EOF : a->http10 || one_in(2) ? FRAMING_LENGTH : FRAMING_CHUNKED);
    a->close = a->http10 || a->framing == FRAMING_EOF || one_in(8);
    a->trailers = a->framing == FRAMING_CHUNKED && one_in(3);
    a->chunk_max = one_in(3) ? 16 : one_in(2) ? 900 : 5000;
    if (world.mood.small && a->chunk_max < 60) a->chunk_max = 60;
    a->interims = (uint8_t)(one_in(5) ? between(1, 3) : 0);
    /* The model of health has to know when a head is looked at: at once, if nothing waits in front of it. */
    if (MINIPROXY_WITH_ROUTES && ex->kind != EXCHANGE_CONNECT) a->interims = 0;
    a->when = (uint8_t)(ex->expect  ? (one_in(3) ? WHEN_HEAD : WHEN_END)
                        : one_in(8) ? between(WHEN_HEAD, WHEN_PART)
                                    : WHEN_END);
    a->part = spread(ex->req_len);
    a->deaf = a->when != WHEN_END && one_in(3);
    a->delay_ms = one_in(2) ? 0 : below(60);
    a->idle_ms = one_in(4) ? below(200) : 0;
    if ((ex->https || MINIPROXY_WITH_ROUTES) && one_in(3))
        a->idle_ms = 1 + below(25); /* about when the next request comes */
    a->pad = one_in(30) ? 1 : 0;
    if (MINIPROXY_WITH_UPGRADE && ex->kind == EXCHANGE_UPGRADE && !one_in(3)) a->status = 101;
    if (one_in(world.mood.answer_trouble_one_in)) choose_fault(ex, a);
}

static void choose_tunnel(struct exchange *ex)
{
    uint32_t max = world.mood.small ? 500 : one_in(8) ? 100000 : 4000;
    struct tunnel_end *up = &ex->up, *down = &ex->down;
    up->send_len = down->get_len = spread(max);
    down->send_len = up->get_len = spread(max);
    up->send_key = down->get_key = ex->id * 2;
    down->send_key = up->get_key = ex->id * 2 + 1;
    switch (below(8)) {
    case 0:
        up->kind = down->kind = TUNNEL_SILENT;
        ex->happened |= HAPPENED_SLOW;
        break;
    case 1:
        up->kind = down->kind = TUNNEL_FIN_FIRST;
        break;
    case 2:
    case 3:
    case 4:
        up->kind = TUNNEL_FIN_FIRST;
        down->kind = TUNNEL_FIN_LAST;
        break;
    default:
        up->kind = TUNNEL_FIN_LAST;
        down->kind = TUNNEL_FIN_FIRST;
        break;
    }
}

struct exchange *exchange_new(struct client *cl)
{
    struct exchange *ex = &world.exchanges[world.exchange_count];
    memset(ex, 0, offsetof(struct exchange, head));
    ex->id = world.exchange_count++;
    ex->client = cl;
    ex->index = cl->count;
    cl->exchanges[cl->count++] = ex;
    return ex;
}

static void make_exchange(struct client *cl)
{
    static const char *const methods[] = {"GET", "GET",     "GET",      "HEAD", "POST",  "POST",
                                          "PUT", "OPTIONS", "PROPFIND", "get",  "DELETE"};
    struct exchange *ex = exchange_new(cl);
    unsigned kind = below(20);
    ex->kind = kind < 3 || cl->socks ? EXCHANGE_CONNECT
               : kind < 5 ? EXCHANGE_UPGRADE
               : kind < 6 ? EXCHANGE_MALFORMED
                          : EXCHANGE_FORWARD;
    ex->method = ex->kind == EXCHANGE_CONNECT ? "CONNECT" : ex->kind == EXCHANGE_UPGRADE ? "GET" : methods[below(11)];
    ex->login = (uint8_t)(one_in(3) ? LOGIN_GOOD : one_in(6) ? between(LOGIN_WRONG, LOGIN_JUNK) : LOGIN_NONE);
    if (world.mood.slice_ms >= 1000 && ex->login == LOGIN_NONE) ex->login = LOGIN_WRONG; /* a long queue */
    if (ex->kind == EXCHANGE_MALFORMED) {
        ex->method = "GET"; /* whatever it says: not HEAD */
        ex->login = LOGIN_NONE;
        if (one_in(6)) put_oversized(ex);
        else put_malformed(ex, &malformed[below(sizeof malformed / sizeof malformed[0])]);
        return;
    }
    ex->http10 = ex->kind == EXCHANGE_FORWARD && one_in(10);
    ex->says_close = ex->kind == EXCHANGE_FORWARD && one_in(10);
    if (ex->kind == EXCHANGE_FORWARD) choose_body(ex);
    choose_target(ex);
    choose_answer(ex);
    choose_tunnel(ex);
    ex->early = one_in(2);
    put_request(ex);
}

/* ---- Clients ---- */

static void choose_trouble(struct client *cl)
{
    struct trouble *t = &cl->trouble;
    unsigned slow = below(10);
    t->kind = (uint8_t)between(TROUBLE_PAUSE, TROUBLE_FIN);
    t->reading = one_in(3);
    t->at = spread(1500);
    t->ms = one_in(2) ? between(500, 20000) : between(30000, 200000);
    if (t->kind <= TROUBLE_STALL) cl->happened |= CLIENT_SLOW;
    if (slow > 1) return;
    t->kind = TROUBLE_NONE;
    cl->happened |= CLIENT_SLOW;
    if (slow == 0) {
        cl->burst = 1 + below(8);
        cl->gap_ms = between(200, 3000);
    } else {
        cl->read_burst = 1 + below(30);
        cl->read_gap_ms = between(200, 3000);
    }
}

static void make_client(uint16_t number, uint32_t rush_ms)
{
    struct client *cl = &world.clients[number];
    unsigned n = one_in(2) ? between(2, EXCHANGES_EACH) : between(1, 2);
    memset(cl, 0, offsetof(struct client, outbox));
    cl->outbox.at = cl->outbox.len = 0;
    cl->actor.number = number;
    cl->addr.family = 4;
    memcpy(cl->addr.ip, (const uint8_t[]){10, 0, 0, 1}, 4);
    cl->addr.ip[3] = (uint8_t)(1 + below(4));
    cl->addr.port = (uint16_t)(20000 + number);
    cl->pipelines = one_in(3);
    cl->ending = (uint8_t)below(3);
    cl->stops_at_close = one_in(2);
    cl->burst = one_in(4) ? 1 + below(400) : OUTBOX_MAX;
    cl->read_burst = one_in(4) ? 1 + below(400) : OUTBOX_MAX;
    if (world.mood.small) cl->burst = cl->read_burst = OUTBOX_MAX;
    cl->gap_ms = cl->read_gap_ms = 1;
    if (one_in(world.mood.client_trouble_one_in)) choose_trouble(cl);
    cl->socks = MINIPROXY_WITH_SOCKS5 && one_in(2);
    while (cl->count < (cl->socks ? 1 : n)) make_exchange(cl);
    if (MINIPROXY_WITH_TLS) { /* and some are mistaken about what is spoken where */
        cl->listener = one_in(5) ? LISTENER_PLAIN : LISTENER_TLS;
        cl->speaks_tls = one_in(30) ? cl->listener == LISTENER_PLAIN : cl->listener == LISTENER_TLS;
    }
    after(below(rush_ms + 1), EVENT_START, number, 0);
}

void make_plan(void)
{
    unsigned crowd = MINIPROXY_WITH_TLS ? CLIENTS_MAX / 2 : CLIENTS_MAX; /* handshakes cost */
    unsigned clients = one_in(6) ? between(10, crowd) : between(1, 8);
    uint32_t rush_ms = one_in(3) ? 5 : one_in(2) ? 500 : 90000;
    world.connected = origin_new;
    make_mood();
    make_timeouts();
    make_limits();
    world.base_ms = one_in(3) ? UINT32_MAX - below(60000) : (uint32_t)random_next();
    world.policy = policies[one_in(2) ? 0 : below(policy_count)];
    if (world.mood.slice_ms >= 1000) world.policy = policies[1 + below(2)]; /* with users */
    world.machine_count = (uint16_t)between(2, MACHINES_MAX);
    for (unsigned i = 0; i < world.machine_count; i++) make_machine(&world.machines[i], i);
    world.host_count = (uint16_t)between(2, HOSTS_MAX);
    for (unsigned i = 0; i < world.host_count; i++) make_host(&world.hosts[i], i);
    world.config.sessions_per_client = (uint16_t)(one_in(4) ? between(1, 4) : one_in(2) ? 100 : 0);
    world.config.body_max = one_in(15) ? 2000 : 0;
    routes_plan(rush_ms);
    world.client_count = (uint16_t)clients;
    for (uint16_t i = 0; i < clients; i++) make_client(i, rush_ms);
    for (unsigned i = one_in(MINIPROXY_WITH_ROUTES ? 3 : 6) ? between(1, 3) : 0; i > 0; i--)
        after(below(2 * rush_ms), EVENT_POLICY, 0, 0);
    if (one_in(12)) after(below(2 * rush_ms), EVENT_DRAIN, 0, 0);
    if (one_in(15)) after(below(2 * rush_ms), EVENT_STOP, 0, 0);
}

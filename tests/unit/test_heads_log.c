/* SPDX-License-Identifier: MIT
 *
 * The lines of heads that are told for a log: which, when, once each, and nothing in them that lets somebody in.
 */
#include <stdlib.h>
#define MINIPROXY_ASSERT(condition) ((condition) ? (void)0 : abort())
#define MINIPROXY_WITH_HEADS 1
#define MINIPROXY_WITH_INTERCEPTION 1
#define MINIPROXY_WITH_SOCKS5 1
#define MINIPROXY_WITH_ROUTES 1
#define MINIPROXY_BUFFER_SIZE 1100
#define MINIPROXY_FIELDS_MAX 8
#include "../../miniproxy.c"
#include "unit.h"
#include "wire.h"

#define MARK "[...]"

static struct {
    char lines[16384]; /* "C line" of the client, "O line" of the origin, "C." and "O." at the end of a head */
    size_t len;
    unsigned told;
    bool methodless; /* an event without a method */
} heard;

static bool origin_ends;

static void note_head(void *app, const struct miniproxy_event *e, enum miniproxy_side side, const char *line, size_t len)
{
    const char who = side == MINIPROXY_OF_CLIENT ? 'C' : 'O';
    bool in_buffer = false;
    (void)app;
    for (const struct miniproxy_buffer *b = wire.proxy.buffers; b < wire.proxy.buffers + MINIPROXY_BUFFERS; b++) {
        const char *data = (const char *)b->u.data;
        if (line >= data + MINIPROXY_HEADROOM && line + len <= data + MINIPROXY_BUFFER_SIZE) in_buffer = true;
    }
    assert_true(len == 0 || in_buffer);
    assert_int_equal(e->client->family, 4);
    assert_int_equal(e->session, 0);
    assert_true(heard.len + len + 4 < sizeof heard.lines);
    heard.told++;
    if (e->method_len == 0) heard.methodless = true;
    heard.lines[heard.len++] = who;
    heard.lines[heard.len++] = len > 0 ? ' ' : '.';
    for (size_t i = 0; i < len; i++) heard.lines[heard.len++] = line[i] != '\0' ? line[i] : '0';
    heard.lines[heard.len++] = '\n';
    heard.lines[heard.len] = '\0';
}

static int recv_until_end(void *port, struct miniproxy_conn *c, void *buf, size_t len)
{
    int n = wire_recv(port, c, buf, len);
    return n == MINIPROXY_AGAIN && c != wire.client && origin_ends ? MINIPROXY_EOF : n;
}

/* A new proxy and client; nothing has been told. */
static void begin_with(struct miniproxy_config config)
{
    static struct miniproxy_port port;
    memset(&heard, 0, sizeof heard);
    origin_ends = false;
    wire_start(config);
    port = wire_port;
    port.recv = recv_until_end;
    wire.proxy.config.port = &port;
}

static void begin(void)
{
    begin_with((struct miniproxy_config){.head = note_head, .name = "p"});
}

static void end(void)
{
    miniproxy_stop(&wire.proxy);
    assert_int_equal(wire.proxy.counters.active, 0);
    assert_int_equal(wire.proxy.counters.buffers, 0);
}

static void answer(const char *octets, size_t len)
{
    wire_put(&wire.from_origin, octets, len);
    miniproxy_wake(wire.server, MINIPROXY_RD);
    wire_run();
}

static void pass(uint32_t ms)
{
    wire.now_ms += ms;
    wire_run();
}

#define GET "GET http://h.example/x HTTP/1.1\r\nHost: h.example\r\n\r\n"
#define GET_TOLD "C GET http://h.example/x HTTP/1.1\nC Host: h.example\nC.\n"
#define OK200 "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
#define OK_TOLD "O HTTP/1.1 200 OK\nO Content-Length: 2\nO.\n"

/* ---- whole heads, and those that are refused ---- */

struct told {
    const char *head, *lines;
};

static const struct told requests[] = {
    {GET, GET_TOLD},
    {"\r\n\r\n" GET, GET_TOLD},
    {"GET http://h.example/a?b=c@d HTTP/1.0\r\n\r\n", "C GET http://h.example/a?b=c@d HTTP/1.0\nC.\n"},
    {"POST http://h.example/ HTTP/1.1\r\nHost:\t h.example \r\nX:\r\nConnection: close, X-Me\r\nX-Me: 1\r\n"
     "Content-Length: 2, 2\r\nTE: trailers\r\n\r\nok",
     "C POST http://h.example/ HTTP/1.1\nC Host:\t h.example \nC X:\nC Connection: close, X-Me\nC X-Me: 1\n"
     "C Content-Length: 2, 2\nC TE: trailers\nC.\n"},
    {"POST http://h.example/ HTTP/1.1\r\nHost: h.example\r\nTransfer-Encoding: chunked\r\n\r\n"
     "1\r\nx\r\n0\r\nTrailer: t\r\n\r\n",
     "C POST http://h.example/ HTTP/1.1\nC Host: h.example\nC Transfer-Encoding: chunked\nC.\n"},
    {"OPTIONS http://h.example/ HTTP/1.1\r\nHost: h.example\r\nMax-Forwards: 10\r\n\r\n",
     "C OPTIONS http://h.example/ HTTP/1.1\nC Host: h.example\nC Max-Forwards: 10\nC.\n"},
    {"CONNECT h.example:443 HTTP/1.1\r\nHost: h.example:443\r\nUser-Agent: u\r\n\r\nnot: this\r\n\r\n",
     "C CONNECT h.example:443 HTTP/1.1\nC Host: h.example:443\nC User-Agent: u\nC.\n"},
    {GET "GET http://h.example/2 HTTP/1.1\r\nHost: h.example\r\n\r\n", GET_TOLD}, /* the next is not yet looked at */
    /* of those that are refused the last line is the faulty one, until the octet that is wrong */
    {"GET  http://h.example/ HTTP/1.1\r\nHost: h\r\n\r\n", "C GET  \n"},
    {"GET http://h.example/\thttp HTTP/1.1\r\nHost: h\r\n\r\n", "C GET http://h.example/\t\n"},
    {"GET http://h.example/ http/1.1\r\nHost: h\r\n\r\n", "C GET http://h.example/ h\n"},
    {"GET http://h.example/ HTTP/1.1 \r\nHost: h\r\n\r\n", "C GET http://h.example/ HTTP/1.1 \n"},
    {"GET http://h.example/ HTTP/1.1\nHost: h\r\n\r\n", "C GET http://h.example/ HTTP/1.1\n\n"},
    {"GET http://h.example/ HTTP/1.1\rHost: h\r\n\r\n", "C GET http://h.example/ HTTP/1.1\rH\n"},
    {"GET /x HTTP/1.1\r\nHost: h\r\n\r\n", "C GET /x HTTP/1.1\n"},
    {"GET http://h.example/#x HTTP/1.1\r\nHost: h\r\n\r\n", "C GET http://h.example/#x HTTP/1.1\n"},
    {"ftp://h.example/ x\r\n\r\n", "C " MARK "\n"},
    {"GET\thttp://h.example/ HTTP/1.1\r\n\r\n", "C GET\t\n"},
    {"\x16\x03\x01\x02whatever\r\n", "C \x16\n"},
    {GET_TOLD "\r\n", "C C " MARK "\n"},
    {"GET http://h.example/ HTTP/1.1\r\nHost: h.example\r\nX : y\r\nZ: z\r\n\r\n",
     "C GET http://h.example/ HTTP/1.1\nC Host: h.example\nC X \n"},
    {"GET http://h.example/ HTTP/1.1\r\nHost: h.example\r\nX: y\r\n folded: z\r\n\r\n",
     "C GET http://h.example/ HTTP/1.1\nC Host: h.example\nC X: y\nC  \n"},
    {"GET http://h.example/ HTTP/1.1\r\nHost: h.example\r\nX: y\x01z\r\nZ: z\r\n\r\n",
     "C GET http://h.example/ HTTP/1.1\nC Host: h.example\nC X: y\x01\n"},
    {"GET http://h.example/ HTTP/1.1\r\nHost: h.example\r\nX: y\nZ: z\r\n\r\n",
     "C GET http://h.example/ HTTP/1.1\nC Host: h.example\nC X: y\n\n"},
    {"GET http://h.example/ HTTP/1.1\r\nHost: h.example\r\n\rZ: z\r\n\r\n",
     "C GET http://h.example/ HTTP/1.1\nC Host: h.example\nC \rZ\n"},
    {"GET http://h.example/ HTTP/1.1\r\nContent-Length: 5, 6\r\nHost: h.example\r\n\r\n",
     "C GET http://h.example/ HTTP/1.1\nC Content-Length: 5, 6\n"},
    {"GET http://h.example/ HTTP/1.1\r\nHost: h.example\r\nHost: i.example\r\nX: y\r\n\r\n",
     "C GET http://h.example/ HTTP/1.1\nC Host: h.example\nC Host: i.example\n"},
    {"GET http://h.example/ HTTP/1.0\r\nA:1\r\nA:2\r\nA:3\r\nA:4\r\nA:5\r\nA:6\r\nA:7\r\nA:8\r\nA:9\r\nA:10\r\n\r\n",
     "C GET http://h.example/ HTTP/1.0\nC A:1\nC A:2\nC A:3\nC A:4\nC A:5\nC A:6\nC A:7\nC A:8\nC A:9\n"},
};

static const struct told responses[] = {
    {OK200, OK_TOLD},
    {"HTTP/1.1 103 Early Hints\r\nLink: </x>; rel=preload\r\n\r\nHTTP/1.1 100\r\n\r\n" OK200,
     "O HTTP/1.1 103 Early Hints\nO Link: </x>; rel=preload\nO.\nO HTTP/1.1 100\nO.\n" OK_TOLD},
    {"HTTP/1.0 200 OK\r\nContent-Length: 2\r\nX \t: y \r\nContent-Length: 2\r\nDate : x\r\n\r\nok",
     "O HTTP/1.0 200 OK\nO Content-Length: 2\nO X \t: y \nO Content-Length: 2\nO Date : x\nO.\n"},
    {"HTTP/1.1 407 No\r\nProxy-Authenticate: Basic realm=\"r\"\r\nWWW-Authenticate: Digest nonce=n\r\n"
     "Content-Length: 0\r\n\r\n",
     "O HTTP/1.1 407 No\nO Proxy-Authenticate: Basic realm=\"r\"\nO WWW-Authenticate: Digest nonce=n\n"
     "O Content-Length: 0\nO.\n"},
    {"HTTP/1.1 204 at http://u:p@h.example/\r\n\r\n", "O HTTP/1.1 204 at http://" MARK "\nO.\n"},
    {"<html>nothing else", "O <\n"},
    {"HTTP/1.1 2000 OK\r\n\r\n", "O HTTP/1.1 2000\n"},
    {"HTTP/1.1  200 OK\r\n\r\n", "O HTTP/1.1  \n"},
    {"HTTP/1.1 200 O\x01K\r\n\r\n", "O HTTP/1.1 200 O\x01\n"},
    {"HTTP/1.1 200 OK\nX: y\r\n\r\n", "O HTTP/1.1 200 OK\n\n"},
    {"HTTP/1.1 200 OK\r\nX: y\r\n z\r\nX: z\r\n\r\n", "O HTTP/1.1 200 OK\nO X: y\nO  \n"},
    {"HTTP/1.1 200 OK\r\nContent-Length: x\r\nX: z\r\n\r\n", "O HTTP/1.1 200 OK\nO Content-Length: x\n"},
    {"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", "O HTTP/1.1 101 Switching Protocols\nO Upgrade: x\nO.\n"},
};

static void expect_lines(const char *lines, const char *of, size_t split)
{
    if (strcmp(heard.lines, lines) != 0)
        fail_msg("split at %zu:\n%s\nis told as\n%s\ninstead of\n%s", split, of, heard.lines, lines);
}

/* Whole, cut in two everywhere, and octet by octet (split 0). */
static void every_split_of_requests(const void *data)
{
    (void)data;
    for (size_t i = 0; i < sizeof requests / sizeof requests[0]; i++) {
        const struct told *t = &requests[i];
        size_t len = strlen(t->head);
        for (size_t split = 0; split <= len; split++) {
            size_t step = split == 0 ? 1 : split;
            begin();
            for (size_t at = 0; at < len; at += step, step = split == 0 || at > 0 ? step : len) {
                size_t n = len - at < step ? len - at : step;
                say_octets(t->head + at, n);
            }
            expect_lines(t->lines, t->head, split);
            assert_false(strstr(t->lines, "C.\n") != NULL && heard.methodless);
            end();
        }
    }
}

static void every_split_of_responses(const void *data)
{
    (void)data;
    for (size_t i = 0; i < sizeof responses / sizeof responses[0]; i++) {
        const struct told *t = &responses[i];
        size_t len = strlen(t->head);
        for (size_t split = 0; split <= len; split++) {
            size_t step = split == 0 ? 1 : split;
            begin();
            say(GET);
            assert_string_equal(heard.lines, GET_TOLD);
            heard.len = 0;
            for (size_t at = 0; at < len; at += step, step = split == 0 || at > 0 ? step : len)
                answer(t->head + at, len - at < step ? len - at : step);
            expect_lines(t->lines, t->head, split);
            end();
        }
    }
}

static void a_kept_connection(const void *data)
{
    (void)data;
    begin();
    wire.answer = OK200;
    say(GET GET);
    say(GET);
    assert_string_equal(heard.lines, GET_TOLD OK_TOLD GET_TOLD OK_TOLD GET_TOLD OK_TOLD);
    assert_int_equal(wire.connects, 1);
    end();
}

static void nobody_listens(const void *data)
{
    (void)data;
    begin_with((struct miniproxy_config){.name = "p"});
    wire.answer = OK200;
    say(GET);
    assert_int_equal(wire.event.status, 200);
    assert_int_equal(heard.told, 0);
    end();
}

/* ---- what is left out ---- */

static const struct told hidden[] = {
    {"Authorization: Basic Zm9v", "Authorization: " MARK},
    {"aUTHORIZATION:Basic Zm9v", "aUTHORIZATION:" MARK},
    {"Authorization:\t \tBasic Zm9v  ", "Authorization:\t \t" MARK},
    {"Authorization: x", "Authorization: " MARK},
    {"Authorization:", "Authorization:"},
    {"Authorization: \t", "Authorization: \t"},
    {"Authorization:: Basic Zm9v", "Authorization:: " MARK},
    {"Proxy-Authorization: Basic Zm9v", "Proxy-Authorization: " MARK},
    {"Cookie: a=b; c=d", "Cookie: " MARK},
    {"Cookie2: $Version=1", "Cookie2: " MARK},
    {"Set-Cookie: a=b; Secure", "Set-Cookie: " MARK},
    {"Set-Cookie2: a=b", "Set-Cookie2: " MARK},
    {"Authentication-Info: rspauth=x", "Authentication-Info: " MARK},
    {"Proxy-Authentication-Info: rspauth=x", "Proxy-Authentication-Info: " MARK},
    {"X-Forwarded-Authorization: x", "X-Forwarded-Authorization: " MARK},
    {"X-Auth-Token: x", "X-Auth-Token: " MARK},
    {"X-API-Key: x", "X-API-Key: " MARK},
    {"Api_Key: x", "Api_Key: " MARK},
    {"X-Auth: x", "X-Auth: " MARK},
    {"X-Auth-Key: x", "X-Auth-Key: " MARK},
    {"Auth-Key: x", "Auth-Key: " MARK},
    {"X-Session-Id: x", "X-Session-Id: " MARK},
    {"X-Passwd: x", "X-Passwd: " MARK},
    {"X-Password: x", "X-Password: " MARK},
    {"X-Amz-Credential: x", "X-Amz-Credential: " MARK},
    {"DPoP: x", "DPoP: " MARK},
    {"Sec-WebSocket-Protocol: bearer, x", "Sec-WebSocket-Protocol: " MARK},
    {"Referer: http://user:pass@h.example/x", "Referer: http://" MARK},
    {"Location: //user@h.example/x", "Location: //" MARK},
    {"X: a https://h.example/ ftp://u:p@f.example:21/x", "X: a https://h.example/ ftp://" MARK},
    {"X: http://h.example/?u=http://u:p@i.example/", "X: http://h.example/?u=http://" MARK},
    {"X: http:// u:p@i.example/", "X: http://" MARK},
    {"X: http://u :p@i.example/", "X: http://" MARK},
    {"X: http://u:p", "X: http://" MARK}, /* it might go on */
    {"Referer: u:pw@h.example/", "Referer: " MARK},
    {"Content-Location:u:pw@h.example", "Content-Location:" MARK},
    {"Location: h.example u:pw@h.example", "Location: " MARK},
    /* and what is not */
    {"Referer: about:blank", "Referer: about:blank"},
    {"Content-Location: /a:b?c", "Content-Location: /a:b?c"},
    {"Location: /u@h", "Location: /u@h"},
    {"Locations: u:pw@h", "Locations: u:pw@h"},
    {"X: mailto:u@h.example", "X: mailto:u@h.example"},
    {"WWW-Authenticate: Basic realm=x", "WWW-Authenticate: Basic realm=x"},
    {"Sec-WebSocket-Version: 13", "Sec-WebSocket-Version: 13"},
    {"Referer: http://h.example:80/@user?a@b", "Referer: http://h.example:80/@user?a@b"},
    {"Link: <https://h.example>; rel=x", "Link: <https://h.example>; rel=x"},
    {"From: user@h.example", "From: user@h.example"},
    {"Referer: http://[2001:db8::1]:80/", "Referer: http://[2001:db8::1]:80/"},
    {"X: a // b, //, http://*.example", "X: a // b, //, http://*.example"},
    {"Authoriz: x", "Authoriz: x"},
    {"Sec-WebSocket-Key: x", "Sec-WebSocket-Key: x"},
};

static void values(const void *data)
{
    char head[512], lines[512];
    (void)data;
    for (size_t i = 0; i < sizeof hidden / sizeof hidden[0]; i++) {
        const struct told *t = &hidden[i];
        begin();
        snprintf(head, sizeof head, "GET http://h.example/ HTTP/1.1\r\n%s\r\nHost: h.example\r\n\r\n", t->head);
        snprintf(lines, sizeof lines, "C GET http://h.example/ HTTP/1.1\nC %s\nC Host: h.example\nC.\n", t->lines);
        say(head);
        expect_lines(lines, head, 0);
        heard.len = 0;
        if (wire.closed || wire.server == NULL) continue;
        snprintf(head, sizeof head, "HTTP/1.1 204 No\r\n%s\r\nX: y\r\n\r\n", t->head);
        snprintf(lines, sizeof lines, "O HTTP/1.1 204 No\nO %s\nO X: y\nO.\n", t->lines);
        answer(head, strlen(head));
        expect_lines(lines, head, 0);
        snprintf(head, sizeof head, "\r\n%s\r\n", t->head);
        if (strncmp(t->head, "Proxy-", 6) != 0) assert_non_null(strstr(wire.to_client.data, head)); /* as it came */
        end();
    }
}

static const struct told broken[] = { /* behind a request line, or instead of one */
    {"X: y\r\nAuthorization : Basic Zm9v", "C X: y\nC Authorization \n"},
    {"Proxy-Authorization\t: Basic Zm9v", "C Proxy-Authorization\t\n"},
    {"Authorization Basic Zm9v", "C Authorization \n"},
    {"Authorization=Basic Zm9v", "C Authorization" MARK "\n"},
    {" Authorization: Basic Zm9v", "C  \n"},
    {"Authorization: Basic\r\n Zm9v", "C Authorization: " MARK "\nC " MARK "\n"},
    {"Authorization:\r\n Zm9v", "C Authorization:\nC " MARK "\n"},
    {"Cookie: a\r\nZm9v", "C Cookie: " MARK "\nC " MARK "\n"},
    {"Cookie: a\r\nZm9v=", "C Cookie: " MARK "\nC " MARK "\n"},
    {"Cookie: a\r\nX: y\r\nZm9v=", "C Cookie: " MARK "\nC X: y\nC Zm9v=\n"},
    {"Cookie: a\x01" "b", "C Cookie: " MARK "\n"},
    {"Cookie: a\nb", "C Cookie: " MARK "\n"},
    {"Cookie: a\rb", "C Cookie: " MARK "\n"},
    {"Coo\x01kie: a", "C Coo\x01\n"},
    {"Set Cookie: a", "C Set \n"},
    {"X: y\nAuthorization: Basic Zm9v", "C X: y\n\n"},
    {"X: y\rAuthorization: Basic Zm9v", "C X: y\rA\n"},
    {"X: http://u:p\x01@h/", "C X: http://" MARK "\n"},
    {"Referer: u:p\x01@h/", "C Referer: " MARK "\n"},
    {"X: http://us\x01:p@h/", "C X: http://" MARK "\n"},
    {"X: http://u:p\r\nss@h/", "C X: http://" MARK "\nC " MARK "\n"},
};

static const struct told broken_lines[] = {
    {"GET http://user:pass@h.example/ HTTP/1.1", "C GET http://" MARK "\n"},
    {"GET http://user@h.example/ HTTP/1.1", "C GET http://" MARK "\n"},
    {"GET http://user:pa ss@h.example/ HTTP/1.1", "C GET http://" MARK "\n"},
    {"GET http://user:12 34@h.example/ HTTP/1.1", "C GET http://" MARK "\n"},
    {"GET http://user:p\x01@h.example/ HTTP/1.1", "C GET http://" MARK "\n"},
    {"GET http://user:p/ss@h.example/ HTTP/1.1", "C GET http://" MARK "\n"},
    {"GET http:/user:pass@h.example/ HTTP/1.1", "C GET " MARK "\n"},
    {"GET user:pass@h.example/ HTTP/1.1", "C GET " MARK "\n"},
    {"CONNECT user:pass@h.example:443 HTTP/1.1", "C CONNECT " MARK "\n"},
    {"CONNECT user:pa ss@h.example:443 HTTP/1.1", "C CONNECT " MARK "\n"},
    {"GET /x@y HTTP/1.1", "C GET /x@y HTTP/1.1\n"},
    {"GET //user:pass@h.example/ HTTP/1.1", "C GET //" MARK "\n"},
    {"GET http://h.example/ HTTP/2.0", "C GET http://h.example/ HTTP/2.0\n"},
    {"CONNECT h.example HTTP/1.1", "C CONNECT h.example HTTP/1.1\n"},
    {"Authorization: Basic Zm9v", "C " MARK "\n"},
    {"user=me&password=Zm9v", "C " MARK "\n"}, /* a body whose request was misunderstood */
};

static void broken_heads(const void *data)
{
    char head[512], lines[512];
    (void)data;
    for (size_t i = 0; i < sizeof broken / sizeof broken[0]; i++) {
        begin();
        snprintf(head, sizeof head, "GET http://h.example/ HTTP/1.1\r\n%s\r\n\r\n", broken[i].head);
        snprintf(lines, sizeof lines, "C GET http://h.example/ HTTP/1.1\n%s", broken[i].lines);
        for (const char *p = head; *p != '\0'; p++) say_octets(p, 1);
        expect_lines(lines, head, 0);
        assert_int_equal(wire.event.status, 400);
        end();
    }
    for (size_t i = 0; i < sizeof broken_lines / sizeof broken_lines[0]; i++) {
        begin();
        snprintf(head, sizeof head, "%s\r\nHost: h.example\r\n\r\n", broken_lines[i].head);
        say(head);
        expect_lines(broken_lines[i].lines, head, 0);
        end();
    }
}

/* ---- heads that are too large, or end too early ---- */

static const char *fill_with(char *text, size_t size, const char *head)
{
    size_t len = strlen(head);
    memcpy(text, head, len);
    memset(text + len, 'x', size - 1 - len);
    text[size - 1] = '\0';
    return text;
}

static const struct {
    const char *head, *lines;
    unsigned status;
} large[] = {
    {"GET http://h.example/ HTTP/1.1\r\nX: y\r\nCookie: ", "C GET http://h.example/ HTTP/1.1\nC X: y\nC Cookie: " MARK "\n",
     431},
    {"GET http://h.example/ HTTP/1.1\r\nX: http://", "C GET http://h.example/ HTTP/1.1\nC X: http://" MARK "\n", 431},
    {"GET http://h.example/ HTTP/1.1\r\nX: ", "C GET http://h.example/ HTTP/1.1\nC X: xxx", 431},
    {"GET http://h.example/", "C GET http://h.example/xxx", 414},
    {"GET http://", "C GET http://" MARK "\n", 414},
    {"CONNECT ", "C CONNECT " MARK "\n", 414},
    {"", "C " MARK "\n", 501},
};

static void too_large(const void *data)
{
    static char head[MINIPROXY_BUFFER_SIZE * 2];
    (void)data;
    for (size_t i = 0; i < sizeof large / sizeof large[0]; i++) {
        for (size_t step = 1; step <= 1500; step += 499) {
            begin();
            fill_with(head, sizeof head, large[i].head);
            for (size_t at = 0; at + step <= 1500; at += step) say_octets(head + at, step);
            if (strncmp(heard.lines, large[i].lines, strlen(large[i].lines)) != 0)
                fail_msg("%s is told as\n%s", large[i].head, heard.lines);
            assert_int_equal(wire.event.status, large[i].status);
            end();
        }
    }
}

/* However much of the buffer is left for the mark. */
static void a_secret_at_the_end(const void *data)
{
    static char head[MINIPROXY_BUFFER_SIZE * 2];
    (void)data;
    for (size_t before = MINIPROXY_HEAD_MAX - 80; before < MINIPROXY_HEAD_MAX; before++) {
        begin();
        fill_with(head, before + 1, "GET http://h.example/ HTTP/1.0\r\nX: ");
        strcat(head, "\r\nCookie: canary-canary-canary\r\n\r\n");
        say(head);
        assert_null(strstr(heard.lines, "can"));
        assert_int_equal(wire.event.cause, wire.connects == 0 ? MINIPROXY_CAUSE_HEAD_SIZE : MINIPROXY_CAUSE_NONE);
        end();
    }
}

static void too_large_a_response(const void *data)
{
    static char head[MINIPROXY_BUFFER_SIZE * 2];
    (void)data;
    begin();
    say(GET);
    heard.len = 0;
    fill_with(head, sizeof head, "HTTP/1.1 200 OK\r\nX: y\r\nSet-Cookie: ");
    answer(head, strlen(head));
    assert_string_equal(heard.lines, "O HTTP/1.1 200 OK\nO X: y\nO Set-Cookie: " MARK "\n");
    assert_int_equal(wire.event.status, 502);
    end();
}

static const struct told parts[] = {
    {"GET http://h.example/x HTT", "C GET http://h.example/x HTT\n"},
    {"GET http://h.exa", "C GET http://" MARK "\n"},
    {"GET http://user:pa", "C GET http://" MARK "\n"},
    {"GET http://h.example/ HTTP/1.1\r\nX: y\r", "C GET http://h.example/ HTTP/1.1\nC X: y\r\n"},
    {"GET http://h.example/ HTTP/1.1\r\nX: y\r\n", "C GET http://h.example/ HTTP/1.1\nC X: y\n"},
    {"GET http://h.example/ HTTP/1.1\r\nX: y\r\n\r", "C GET http://h.example/ HTTP/1.1\nC X: y\nC \r\n"},
    {"GET http://h.example/ HTTP/1.1\r\nCookie: a", "C GET http://h.example/ HTTP/1.1\nC Cookie: " MARK "\n"},
    {"GET http://h.example/ HTTP/1.1\r\nCookie: a\r\nb", "C GET http://h.example/ HTTP/1.1\nC Cookie: " MARK "\nC " MARK "\n"},
    {"GET http://h.example/ HTTP/1.1\r\nCoo", "C GET http://h.example/ HTTP/1.1\nC Coo\n"},
};

static void cut_requests(const void *by_time)
{
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        begin();
        say(parts[i].head);
        if (by_time != NULL) {
            pass(3600000);
        } else {
            wire.at_end = true;
            miniproxy_wake(wire.client, MINIPROXY_RD);
            wire_run();
        }
        expect_lines(parts[i].lines, parts[i].head, 0);
        assert_int_equal(wire.event.cause, by_time != NULL ? MINIPROXY_CAUSE_HEAD_TIMEOUT : MINIPROXY_CAUSE_HEAD_CUT);
        end();
    }
}

static void cut_responses(const void *by_time)
{
    static const struct told heads[] = {
        {"HTTP/1.1 20", "O HTTP/1.1 20\n"},
        {"HTTP/2.0", "O HTTP/2.0\n"}, /* wrong, but not at any octet */
        {"HTTP/1.1 200 OK\r\nX: y\r\nSet-Cookie: a", "O HTTP/1.1 200 OK\nO X: y\nO Set-Cookie: " MARK "\n"},
        {"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 2", "O HTTP/1.1 100 Continue\nO.\nO HTTP/1.1 2\n"},
        {"HTTP/1.1 100 Continue\r\n\r\n", "O HTTP/1.1 100 Continue\nO.\n"},
        {"", ""},
    };
    for (size_t i = 0; i < sizeof heads / sizeof heads[0]; i++) {
        begin();
        say(GET);
        heard.lines[heard.len = 0] = '\0';
        answer(heads[i].head, strlen(heads[i].head));
        if (by_time != NULL) {
            pass(3600000);
        } else {
            origin_ends = true;
            answer("", 0);
        }
        expect_lines(heads[i].lines, heads[i].head, 0);
        assert_int_equal(wire.events, 1);
        end();
    }
}

/* ---- other doors and ways ---- */

static void diverted(const void *data)
{
    static const char head[] = "GET /x HTTP/1.1\r\nX: y\r\nHost: h.example\r\nCookie: a\r\nZ: z\r\n\r\n";
    static const struct told others[] = {
        {"GET /x HTTP/1.1\r\nX: y\r\nHost: user:pass@h\r\n\r\n", "C GET /x HTTP/1.1\nC X: y\nC Host: user:pass@h\nC.\n"},
        {"GET /x HTTP/1.1\r\nX: y\r\nHost : h\r\n\r\n", "C GET /x HTTP/1.1\nC X: y\nC Host \n"},
        {"GET /x HTTP/1.1\r\nX: y\r\nCookie: h", "C GET /x HTTP/1.1\nC X: y\nC Cookie: " MARK "\n"},
        {"GET /x HTTP/1.1\r\nHost: h\r\nContent-Length: x\r\nX: y\r\n\r\n",
         "C GET /x HTTP/1.1\nC Host: h\nC Content-Length: x\nC X: y\nC.\n"},
    };
    (void)data;
    for (size_t split = 1; split < sizeof head - 1; split++) {
        begin_with((struct miniproxy_config){.head = note_head, .intercepts = 1});
        wire.meant = (struct miniproxy_addr){.family = 4, .ip = {192, 0, 2, 7}, .port = 80};
        wire.answer = OK200;
        say_octets(head, split);
        say_octets(head + split, sizeof head - 1 - split);
        assert_string_equal(heard.lines, "C GET /x HTTP/1.1\nC X: y\nC Host: h.example\nC Cookie: " MARK "\nC Z: z\nC.\n" OK_TOLD);
        assert_non_null(strstr(wire.to_origin.data, "\r\nCookie: a\r\n"));
        say(GET); /* as a proxy is asked */
        assert_non_null(strstr(heard.lines, OK_TOLD GET_TOLD OK_TOLD));
        end();
    }
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        begin_with((struct miniproxy_config){.head = note_head, .intercepts = 1});
        wire.meant = (struct miniproxy_addr){.family = 4, .ip = {192, 0, 2, 7}, .port = 80};
        say(others[i].head);
        wire.at_end = true;
        miniproxy_wake(wire.client, MINIPROXY_RD);
        wire_run();
        expect_lines(others[i].lines, others[i].head, 0);
        end();
    }
}

/* Everything goes by a parent, which is checked every so many seconds. */
static const struct miniproxy_policy *via_parent(uint16_t check_s)
{
    static const struct miniproxy_rule rules[] = {{.verdict = MINIPROXY_ALLOW}};
    static const struct miniproxy_route route = {.count = 1};
    static struct miniproxy_hop hop;
    static struct miniproxy_health health;
    static struct miniproxy_policy policy;
    hop = (struct miniproxy_hop){.host = "parent.example",
                                 .port = 3128,
                                 .login = "canary:canary",
                                 .check = "http://check.example/",
                                 .check_s = check_s};
    policy = (struct miniproxy_policy){.rules = rules,
                                       .rule_count = 1,
                                       .routes = &route,
                                       .route_count = 1,
                                       .hops = &hop,
                                       .hop_count = 1,
                                       .health = &health};
    memset(&health, 0, sizeof health);
    return &policy;
}

static void parents(const void *data)
{
    (void)data;
    begin_with((struct miniproxy_config){.head = note_head, .policy = via_parent(0)});
    wire.answer = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 Connected\r\nSet-Cookie: a\r\n\r\nHTTP/1.1 not: a head\r\n";
    say("CONNECT h.example:443 HTTP/1.1\r\nHost: h.example:443\r\n\r\n");
    assert_non_null(strstr(wire.to_origin.data, "Proxy-Authorization: Basic Y2FuYXJ5"));
    assert_string_equal(heard.lines, "C CONNECT h.example:443 HTTP/1.1\nC Host: h.example:443\nC.\n"
                                     "O HTTP/1.1 100 Continue\nO.\nO HTTP/1.1 200 Connected\nO Set-Cookie: " MARK "\nO.\n");
    end();
    begin_with((struct miniproxy_config){.head = note_head, .policy = via_parent(0)});
    wire.answer = "HTTP/1.1 407 Log in\r\nProxy-Authenticate: Basic realm=x\r\nContent-Length: 0\r\n\r\n";
    say(GET);
    assert_string_equal(heard.lines, GET_TOLD "O HTTP/1.1 407 Log in\nO Proxy-Authenticate: Basic realm=x\n"
                                              "O Content-Length: 0\nO.\n");
    end();
}

static void socks(const void *data)
{
    (void)data;
    begin_with((struct miniproxy_config){.head = note_head, .policy = via_parent(0)});
    wire.answer = "HTTP/1.1 200 Connected\r\n\r\n";
    say_octets("\5\1\0", 3);
    say_octets("\5\1\0\3\x09h.example\1\xbb", 16);
    assert_non_null(strstr(wire.to_origin.data, "CONNECT h.example:443"));
    assert_string_equal(heard.lines, "O HTTP/1.1 200 Connected\nO.\n");
    end();
    begin();
    say_octets("\5\1\0", 3);
    say_octets("\5\1\0\3\x09h.exa", 10);
    pass(3600000);
    assert_int_equal(wire.events, 1);
    assert_int_equal(heard.told, 0);
    end();
}

static void checks(const void *data)
{
    (void)data;
    begin_with((struct miniproxy_config){.head = note_head, .policy = via_parent(5)});
    wire.answer = OK200;
    wire.pending = false;
    pass(1);
    pass(60000);
    assert_non_null(strstr(wire.to_origin.data, "HEAD http://check.example/"));
    assert_int_equal(heard.told, 0);
    end();
}

/* ---- nothing of a secret is told, whatever is done to the head that it stands in ---- */

#define CANARY "qZ7wKx4VbN2mJ9tR"

/* A head, and where it may be changed: from the first '{' on to the last '}', which are not part of it. A name may be
 * broken, but not become another one. */
static const char *const nests[] = {
    "GET http://h.example/ HTTP/1.1\r\nX: y\r\n{Authorization: Basic " CANARY "\r\n}Host: h.example\r\n\r\n",
    "GET http://h.example/ HTTP/1.1\r\nX: y\r\n{Proxy-Authorization: " CANARY "\r\n}\r\n",
    "GET http://h.example/ HTTP/1.1\r\n{Cookie: a=b; c=" CANARY "; d=\r\n}Host: h.example\r\n\r\n",
    "GET http://h.example/ HTTP/1.1\r\nReferer: http://u{:" CANARY "@h.example/x\r\n}Host: h.example\r\n\r\n",
    "{GET http://u:" CANARY "@h.example/x HTTP/1.1\r\n}Host: h.example\r\n\r\n",
    "{CONNECT u:" CANARY "@h.example:443 HTTP/1.1\r\n}Host: h.example\r\n\r\n",
};

static const struct octets {
    const char *data;
    size_t len;
} changes[] = {{" ", 1}, {"\t", 1}, {"\r", 1},   {"\n", 1},    {"\0", 1},  {"\v", 1},     {"\x7f", 1}, {"\x80", 1},
               {"(", 1}, {"@", 1},  {"\r\n", 2}, {"\r\n ", 3}, {"\n\t", 2}, {"\r\n\r\n", 4}, {"\\", 1},   {"\"", 1},
               {"", 0}};

static void check_canary(const char *of, size_t len)
{
    for (size_t at = 0; at + 4 < sizeof CANARY; at++) {
        char part[5] = {0};
        memcpy(part, CANARY + at, 4);
        if (strstr(heard.lines, part) != NULL) fail_msg("%s\nof\n%.*s", heard.lines, (int)len, of);
    }
}

/* Is an octet that may be taken out, so that a name or a URI does not become another one? */
static bool may_go(char c)
{
    return strchr("\r\n ", c) != NULL;
}

static unsigned tried; /* lines that were told */

/* What became of it with and without somebody who listens. */
static void try_head(const char *head, size_t len, bool is_response)
{
    static char sent[2][sizeof wire.to_origin.data];
    for (int listens = 0; listens < 2; listens++) {
        begin_with((struct miniproxy_config){.head = listens ? note_head : NULL, .name = "p"});
        if (is_response) {
            say(GET);
            answer(head, len);
            tried += heard.told;
            memcpy(sent[listens], wire.to_client.data, sizeof sent[0]);
        } else {
            wire.answer = OK200;
            say_octets(head, len);
            tried += heard.told;
            memcpy(sent[listens], wire.to_origin.data, sizeof sent[0]);
        }
        if (listens) check_canary(head, len);
        if (len % 3 == 0) pass(3600000);
        if (listens) check_canary(head, len);
        end();
    }
    assert_string_equal(sent[0], sent[1]);
}

static void canary(const void *is_response)
{
    char head[256], changed[300];
    tried = 0;
    for (size_t i = 0; i < sizeof nests / sizeof nests[0]; i++) {
        const char *open = strchr(nests[i], '{'), *shut = strrchr(nests[i], '}'), *behind = strstr(nests[i], "\r\n") + 2;
        size_t from, to, len;
        if (is_response != NULL && open < behind) continue;
        snprintf(head, sizeof head, "%s%.*s%.*s%s", is_response != NULL ? "HTTP/1.1 200 OK\r\n" : "",
                 (int)(open - (is_response != NULL ? behind : nests[i])), is_response != NULL ? behind : nests[i],
                 (int)(shut - open - 1), open + 1, shut + 1);
        len = strlen(head);
        from = (size_t)(strlen(head) - strlen(shut + 1) - (size_t)(shut - open - 1));
        to = len - strlen(shut + 1);
        for (size_t at = from; at < to; at++) {
            for (size_t k = 0; k < sizeof changes / sizeof changes[0]; k++) {
                for (size_t gone = 0; gone < 2; gone++) {
                    size_t n = at;
                    if (gone == 1 && !may_go(head[at])) continue;
                    memcpy(changed, head, at);
                    memcpy(changed + n, changes[k].data, changes[k].len);
                    n += changes[k].len;
                    memcpy(changed + n, head + at + gone, len - at - gone);
                    n += len - at - gone;
                    try_head(changed, n, is_response != NULL);
                }
            }
            try_head(head, at + 1, is_response != NULL);
        }
    }
    assert_true(tried > 10000);
}

int main(void)
{
    struct unit_test tests[] = {
        {"lines of requests are told once each, whole or until the octet that is wrong, however they arrive [G02]",
         every_split_of_requests, NULL, false},
        {"lines of responses, interim ones too", every_split_of_responses, NULL, false},
        {"each request of a kept connection", a_kept_connection, NULL, false},
        {"nobody has to listen", nobody_listens, NULL, false},
        {"values that let somebody in are left out [G02]", values, NULL, false},
        {"and so they are of broken heads [G02]", broken_heads, NULL, false},
        {"heads that are too large are told as far as they are there", too_large, NULL, false},
        {"a secret at the end of the buffer", a_secret_at_the_end, NULL, false},
        {"a response that is too large", too_large_a_response, NULL, false},
        {"a request that ends too early", cut_requests, NULL, false},
        {"a request that comes too slowly", cut_requests, "", false},
        {"a response that ends too early", cut_responses, NULL, false},
        {"a response that comes too slowly", cut_responses, "", false},
        {"diverted requests are told as they came", diverted, NULL, false},
        {"responses by parents", parents, NULL, false},
        {"SOCKS5 has no heads", socks, NULL, false},
        {"nothing is told of health checks", checks, NULL, false},
        {"nothing of a secret is told, however a request is broken [G02]", canary, NULL, false},
        {"nothing of a secret is told, however a response is broken [G02]", canary, "", false},
    };
    return unit_run("heads_log", tests, sizeof tests / sizeof tests[0]);
}

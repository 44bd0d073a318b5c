/* SPDX-License-Identifier: MIT */
/* Canonical exchanges, delivered with every split of both byte streams and octet by octet: the result is always the
 * same. */
#include "sim.h"

#include <stdlib.h>
#include <string.h>

enum { SEEN_MAX = 16384, ORIGINS_EACH = 4, GAP_MS = 3 };

struct canonical {
    const char *name, *ids;
    const char *request;
    const char *answers[3]; /* one for each request that reaches an origin; FIN behind the last when it ends in \1 */
    const char *expected;   /* status and cause of each event */
};

#define OK(body_len, body) "HTTP/1.1 200 OK\r\nContent-Length: " #body_len "\r\n\r\n" body

static const struct canonical canonicals[] = {
    {"GET",
     "T01,T03,V01,V02",
     "GET http://h0.sim/a?b=c HTTP/1.1\r\nHost: x\r\nUser-Agent: t\r\nConnection: X-A\r\nX-A: 1\r\n\r\n",
     {OK(5, "hello")},
     "200 - "},
    {"HEAD",
     "B01",
     "HEAD http://h0.sim/ HTTP/1.1\r\nHost: h0.sim\r\nConnection: close\r\n\r\n",
     {"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n"},
     "200 - "},
    {"POST by length",
     "B17",
     "POST http://h0.sim/ HTTP/1.1\r\nHost: h0.sim\r\nContent-Length: 11\r\n\r\nhello world",
     {OK(2, "ok")},
     "200 - "},
    {"POST chunked",
     "C01,C05,C06",
     "POST http://h0.sim/ HTTP/1.1\r\nHost: h0.sim\r\nTransfer-Encoding: chunked\r\n\r\n"
     "5;a=\"b\\\"\"\r\nhello\r\n00A\r\n0123456789\r\n0\r\nX-Trail: t\r\nHost: evil\r\n\r\n",
     {OK(2, "ok")},
     "200 - "},
    {"chunked response",
     "C01,C08,H02",
     "GET http://h0.sim/ HTTP/1.1\r\nHost: h0.sim\r\n\r\n",
     {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nKeep-Alive: "
      "5\r\n\r\n5\r\nhello\r\n1;x=y\r\n!\r\nB\r\n0123456789a\r\n0\r\nX-Trail: 1\r\n\r\n"},
     "200 - "},
    {"close-delimited response",
     "B16",
     "GET http://h0.sim/ HTTP/1.1\r\nHost: h0.sim\r\n\r\n",
     {"HTTP/1.1 200 OK\r\nServer: s\r\n\r\nuntil the end\1"},
     "200 - "},
    {"close-delimited response to HTTP/1.0",
     "B16,B19,P03",
     "GET http://h0.sim/ HTTP/1.0\r\n\r\n",
     {"HTTP/1.0 200 OK\r\nServer: s\r\n\r\nuntil the end\1"},
     "200 - "},
    {"chunked response to HTTP/1.0",
     "B19,E07",
     "GET http://h0.sim/ HTTP/1.0\r\n\r\n",
     {"HTTP/1.1 103 Early\r\nLink: a\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: "
      "chunked\r\n\r\n3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n"},
     "200 - "},
    {"interim responses",
     "E06",
     "GET http://h0.sim/ HTTP/1.1\r\nHost: h0.sim\r\n\r\n",
     {"HTTP/1.1 103 Early\r\nLink: a\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n" OK(3, "abc")},
     "200 - "},
    {"204",
     "B01,B18",
     "DELETE http://h0.sim/ HTTP/1.1\r\nHost: h0.sim\r\n\r\n",
     {"HTTP/1.1 204 No Content\r\nX: y\r\n\r\n"},
     "204 - "},
    {"304",
     "B01",
     "GET http://h0.sim/ HTTP/1.1\r\nHost: h0.sim\r\n\r\n",
     {"HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n"},
     "304 - "},
    {"three pipelined requests",
     "P06,P08",
     "GET http://h0.sim/1 HTTP/1.1\r\nHost: h0.sim\r\n\r\nPOST http://h0.sim/2 HTTP/1.1\r\nHost: "
     "h0.sim\r\nContent-Length: 3\r\n\r\nabc"
     "GET http://h0.sim/3 HTTP/1.1\r\nHost: h0.sim\r\nConnection: close\r\n\r\n",
     {OK(1, "1"), OK(2, "22"), OK(3, "333")},
     "200 - 200 - 200 - "},
    {"CONNECT with early octets",
     "K04,K05",
     "CONNECT h0.sim:443 HTTP/1.1\r\nHost: h0.sim:443\r\n\r\nearly octets",
     {"reply octets\1"},
     "200 - "},
    {"websocket",
     "U01,U02",
     "GET http://h0.sim/ HTTP/1.1\r\nHost: h0.sim\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nframes",
     {"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nmore frames\1"},
     "101 - "},
    {"obs-text and odd blanks",
     "M01,M09",
     "GET http://h0.sim/ HTTP/1.1\r\nHost:\th0.sim \r\nX: \xff\xfe \r\n\r\n",
     {"HTTP/1.1 200 \r\nX : y\r\nContent-Length:  3 \r\n\r\nabc"},
     "200 - "},
    {"leading empty line", "M02", "\r\nGET http://h0.sim/ HTTP/1.1\r\nHost: h0.sim\r\n\r\n", {OK(3, "abc")}, "200 - "},
    {"conflicting lengths",
     "B02,B03",
     "POST http://h0.sim/ HTTP/1.1\r\nHost: h0.sim\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
     {NULL},
     "400 bad_"},
    {"lone LF", "M03", "GET http://h0.sim/ HTTP/1.1\r\nHost: h0.sim\nX: y\r\n\r\n", {NULL}, "400 bad_field "},
    {"bare CR", "M04", "GET http://h0.sim/ HTTP/1.1\r\nHost: h0.sim\r\nX: a\rb\r\n\r\n", {NULL}, "400 bad_field "},
    {"bad chunk",
     "C02",
     "POST http://h0.sim/ HTTP/1.1\r\nHost: h0.sim\r\nTransfer-Encoding: "
     "chunked\r\n\r\n3\r\nabc\r\n0x1\r\nd\r\n0\r\n\r\n",
     {NULL},
     "400 bad_chunk "},
    {"policy",
     "S02",
     "GET http://h0.sim:1/ HTTP/1.1\r\nHost: h0.sim\r\nConnection: close\r\n\r\n",
     {NULL},
     "403 policy_denied "},
    {"OPTIONS *",
     "T04",
     "OPTIONS http://h0.sim HTTP/1.1\r\nHost: h0.sim\r\nMax-Forwards: 5\r\n\r\n",
     {"HTTP/1.1 200 OK\r\nAllow: GET\r\nContent-Length: 0\r\n\r\n"},
     "200 - "},
    {"garbage from the origin",
     "M17",
     "GET http://h0.sim/ HTTP/1.1\r\nHost: h0.sim\r\nConnection: close\r\n\r\n",
     {"ICY 200 OK\r\n\r\nstream"},
     "502 origin_invalid "},
    {"response cut in its head",
     "B22",
     "GET http://h0.sim/ HTTP/1.1\r\nHost: h0.sim\r\nConnection: close\r\n\r\n",
     {"HTTP/1.1 200 OK\r\nContent-Le\1"},
     "502 origin_cut "},
    {"response cut in its body",
     "B14",
     "GET http://h0.sim/ HTTP/1.1\r\nHost: h0.sim\r\n\r\n",
     {"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc\1"},
     "200 origin_cut "},
    {"response cut in a chunk",
     "B15",
     "GET http://h0.sim/ HTTP/1.1\r\nHost: h0.sim\r\n\r\n",
     {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1\1"},
     "200 origin_cut "},
    {"octets behind the response",
     "B20",
     "GET http://h0.sim/1 HTTP/1.1\r\nHost: h0.sim\r\n\r\nGET http://h0.sim/2 HTTP/1.1\r\nHost: h0.sim\r\nConnection: "
     "close\r\n\r\n",
     {OK(1, "1") "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil", OK(1, "2")},
     "200 - 200 - "},
};

/* ---- The peers ---- */

struct script { /* one side's octets and where they are split */
    const char *text;
    size_t len, at, split;
    bool octets;
    uint64_t next_ms;
};

struct seen {
    size_t len;
    uint8_t data[SEEN_MAX];
};

static const struct canonical *now;
static struct script client_script, origin_script[ORIGINS_EACH];
static struct seen client_seen, origin_seen;
static struct actor origin_actors[ORIGINS_EACH];
static struct conn *origin_conns[ORIGINS_EACH];
static struct message origin_messages[ORIGINS_EACH];
static unsigned origins, answered;
static size_t answer_split;
static bool by_octets;
static char events[256];

static void remember(struct seen *s, const uint8_t *data, size_t len)
{
    if (len > sizeof s->data - s->len) violation(PROPERTY_DOWN_CONTENT, "%s: too many octets", now->name);
    memcpy(s->data + s->len, data, len);
    s->len += len;
}

/* Write up to the split, later the rest. */
static void play(struct script *s, struct conn *v, struct actor *a)
{
    while (s->at < s->len && world.now_ms >= s->next_ms) {
        size_t n = s->octets ? 1 : s->at < s->split ? s->split - s->at : s->len - s->at;
        size_t taken = peer_write(v, s->text + s->at, n);
        if (taken == 0) return;
        s->at += taken;
        if (s->octets || s->at == s->split) s->next_ms = world.now_ms + GAP_MS;
        if (s->at == s->len && s->text[s->len] == '\1') peer_fin(v);
    }
    if (s->at < s->len) step_after(a, s->next_ms - world.now_ms);
}

static void load(struct script *s, const char *text, size_t split)
{
    memset(s, 0, sizeof *s);
    s->text = text;
    s->len = strcspn(text, "\1");
    s->split = split < s->len ? split : 0;
    s->octets = by_octets;
}

static void client_steps(struct actor *a)
{
    struct client *cl = &world.clients[0];
    uint8_t data[2048];
    size_t n;
    (void)a;
    while ((n = peer_read(cl->conn, data, sizeof data)) > 0) remember(&client_seen, data, n);
    play(&client_script, cl->conn, &cl->actor);
    if (peer_eof(cl->conn) || peer_was_reset(cl->conn)) peer_leave(cl->conn);
}

static void answer(unsigned i)
{
    const char *text = answered < 3 ? now->answers[answered] : NULL;
    if (text == NULL) return;
    load(&origin_script[i], text, answer_split);
    answered++;
}

static void origin_steps(struct actor *a)
{
    unsigned i = (unsigned)(a - origin_actors);
    struct conn *v = origin_conns[i];
    struct message *m = &origin_messages[i];
    uint8_t data[2048];
    size_t n, used;
    enum message_event e;
    while ((n = peer_read(v, data, sizeof data)) > 0) {
        remember(&origin_seen, data, n);
        if (strncmp(now->request, "CONNECT", 7) == 0) continue;
        for (used = 0; (e = message_next(m, data, n, &used)) != MESSAGE_MORE;) {
            if (e == MESSAGE_BAD) violation(PROPERTY_UP_WELL_FORMED, "%s: an origin gets %s", now->name, m->error);
            if (e != MESSAGE_END) continue;
            answer(i);
            message_start(m, true);
        }
    }
    if (origin_script[i].text != NULL) play(&origin_script[i], v, a);
    if (peer_eof(v) || peer_was_reset(v)) peer_leave(v);
}

static void take_connection(struct conn *v)
{
    unsigned i = origins++;
    if (i == ORIGINS_EACH) violation(PROPERTY_REUSE, "%s: too many connections", now->name);
    memset(&origin_actors[i], 0, sizeof origin_actors[i]);
    memset(&origin_script[i], 0, sizeof origin_script[i]);
    origin_actors[i].step = origin_steps;
    origin_actors[i].number = (uint16_t)(CLIENTS_MAX + i);
    origin_conns[i] = v;
    v->peer = &origin_actors[i];
    message_start(&origin_messages[i], true);
    if (strncmp(now->request, "CONNECT", 7) == 0) answer(i);
    step_after(&origin_actors[i], 0);
}

struct actor *split_actor(uint32_t number)
{
    return &origin_actors[number];
}

static void see_event(void *app, const struct miniproxy_event *e)
{
    size_t n = strlen(events);
    (void)app;
    world.events++;
    world.clients[0].events++;
    snprintf(events + n, sizeof events - n, "%u %s ", e->status, miniproxy_cause_token((enum miniproxy_cause)e->cause));
}

/* ---- One run ---- */

static void make_world(void)
{
    struct client *cl = &world.clients[0];
    struct exchange *ex;
    world.connected = take_connection;
    world.mood.amounts = 2;
    world.mood.capacity_max = 65536;
    world.policy = policies[0];
    if (strcmp(now->name, "policy") == 0) world.policy = policies[1];
    world.machine_count = world.host_count = 1;
    memset(&world.machines[0], 0, sizeof world.machines[0]);
    world.machines[0].addr.family = 4;
    memcpy(world.machines[0].addr.ip, (const uint8_t[]){11, 0, 0, 1}, 4);
    memset(&world.hosts[0], 0, sizeof world.hosts[0]);
    snprintf(world.hosts[0].name, sizeof world.hosts[0].name, "h0.sim");
    world.hosts[0].count = 1;
    world.hosts[0].result = 1;
    memset(cl, 0, offsetof(struct client, outbox));
    cl->addr.family = 4;
    memcpy(cl->addr.ip, (const uint8_t[]){10, 0, 0, 1}, 4);
    cl->addr.port = 20000;
    world.client_count = 1;
    while (cl->count < EXCHANGES_EACH) {
        ex = exchange_new(cl);
        ex->method = "GET";
        ex->host = &world.hosts[0];
        ex->port = strncmp(now->request, "CONNECT", 7) == 0 ? 443 : 80;
        ex->policies[ex->policy_count++] = world.policy;
    }
    cl->actor.step = client_steps;
    cl->conn = conn_new(true);
    cl->conn->peer = &cl->actor;
    world.queue[world.queue_len++] = 0;
    step_after(&cl->actor, 0);
}

/* What was seen, with the framing of chunks taken out: that may differ. */
static void normalize(struct seen *out, const struct seen *in, bool request)
{
    static struct message m;
    size_t used = 0, message_at = 0;
    enum message_event e;
    out->len = 0;
    message_start(&m, request);
    for (;;) {
        e = message_next(&m, in->data, in->len, &used);
        if (e == MESSAGE_HEAD) {
            remember(out, (const uint8_t *)m.head, m.head_len);
            if (!request)
                message_body(&m, m.status < 200 || m.status == 204 || m.status == 304 || now->request[0] == 'H'
                                     ? FRAMING_NONE
                                 : m.framing == FRAMING_NONE ? FRAMING_EOF
                                                             : (enum framing)m.framing);
        } else if (e == MESSAGE_BODY) {
            remember(out, m.body, m.body_len);
        } else if (e == MESSAGE_END) {
            remember(out, (const uint8_t *)"|END|", 5);
            if (m.trailer_count > 0) remember(out, (const uint8_t *)"T", 1);
            message_at = used;
            message_start(&m, request);
        } else {
            break;
        }
    }
    if (e == MESSAGE_BAD) remember(out, in->data + message_at, in->len - message_at); /* a tunnel */
}

static bool run_once(const struct canonical *c, size_t request_split, size_t response_split, bool octets,
                     uint8_t amounts, struct seen *up, struct seen *down)
{
    static const struct miniproxy_config none;
    if (setjmp(world.escape) != 0) return false;
    clear_world(1);
    now = c;
    by_octets = octets;
    answer_split = response_split;
    origins = answered = 0;
    client_seen.len = origin_seen.len = 0;
    events[0] = '\0';
    load(&client_script, c->request, request_split);
    make_world();
    world.mood.amounts = amounts;
    world.config = none;
    start_core(NULL, see_event);
    settle();
    normalize(up, &origin_seen, true);
    normalize(down, &client_seen, false);
    REQUIRE(PROPERTY_LEAK,
            miniproxy_active(&world.proxy) == 0 && port_open_slots() == 0 &&
                miniproxy_counters(&world.proxy)->buffers == 0,
            "%s: something is left", c->name);
    return true;
}

static bool same(const struct seen *a, const struct seen *b)
{
    return a->len == b->len && memcmp(a->data, b->data, a->len) == 0;
}

/* ---- All runs of one exchange ---- */

struct run_result {
    struct seen up, down;
    char events[sizeof events];
};

static struct run_result first, other;

static bool compare(const struct canonical *c, size_t request_split, size_t response_split, bool octets,
                    uint8_t amounts)
{
    bool good = run_once(c, request_split, response_split, octets, amounts, &other.up, &other.down);
    if (!good) {
        printf("%s: %s\n", c->name, world.message);
    } else if ((c->expected[0] != '4' && !same(&first.up, &other.up)) || /* a refused one may have been on its way */
               !same(&first.down, &other.down) || strcmp(first.events, events) != 0) {
        printf("%s: differs\n--- event %s: origin and client saw\n%.*s\n%.*s\n--- event %s: instead of\n%.*s\n%.*s\n",
               c->name, events, (int)other.up.len, (char *)other.up.data, (int)other.down.len, (char *)other.down.data,
               first.events, (int)first.up.len, (char *)first.up.data, (int)first.down.len, (char *)first.down.data);
        good = false;
    }
    if (!good)
        printf("  request split at %zu, response at %zu%s, amounts %u\n", request_split, response_split,
               octets ? ", octet by octet" : "", amounts);
    return good;
}

static bool run_canonical(const struct canonical *c, unsigned *runs)
{
    size_t longest = 0;
    if (!run_once(c, 0, 0, false, 2, &first.up, &first.down)) {
        printf("%s: %s\n", c->name, world.message);
        return false;
    }
    strcpy(first.events, events);
    if (strncmp(events, c->expected, strlen(c->expected)) != 0) {
        printf("%s: %sinstead of %s\n%.*s\n", c->name, events, c->expected, (int)first.down.len,
               (char *)first.down.data);
        return false;
    }
    for (unsigned i = 0; i < 3 && c->answers[i] != NULL; i++)
        if (strlen(c->answers[i]) > longest) longest = strlen(c->answers[i]);
    for (size_t at_octet = 1; at_octet < strlen(c->request); at_octet++, ++*runs)
        if (!compare(c, at_octet, 0, false, 2)) return false;
    for (size_t at_octet = 1; at_octet < longest; at_octet++, ++*runs)
        if (!compare(c, 0, at_octet, false, 2)) return false;
    for (size_t at_octet = 1; at_octet < strlen(c->request) && at_octet < longest; at_octet++, ++*runs)
        if (!compare(c, at_octet, longest - at_octet, false, 2)) return false;
    *runs += 2;
    return compare(c, 0, 0, true, 2) && compare(c, 0, 0, false, 0);
}

int split_main(const char *results)
{
    FILE *f = results != NULL ? fopen(results, "w") : NULL;
    unsigned runs = 0, failed = 0, count = sizeof canonicals / sizeof canonicals[0];
    for (unsigned i = 0; i < count; i++) {
        bool good = run_canonical(&canonicals[i], &runs);
        failed += !good;
        if (f != NULL)
            fprintf(f, "%s\tsim\t%s: every split of %s\t%s\n", good ? "pass" : "fail", SIM_VARIANT, canonicals[i].name,
                    canonicals[i].ids);
    }
    if (f != NULL) fclose(f);
    printf("%s: %u exchanges, %u runs, %u failed\n", SIM_VARIANT, count, runs, failed);
    return failed == 0 ? 0 : 1;
}

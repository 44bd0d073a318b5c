/* SPDX-License-Identifier: MIT */
/* Origins: read requests strictly, and answer each as its plan says. */
#include "sim.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum origin_phase {
    ORIGIN_READS,
    ORIGIN_DELAYS,
    ORIGIN_HEAD,
    ORIGIN_BODY,
    ORIGIN_SENDS_LAST,
    ORIGIN_STALLED,
    ORIGIN_TUNNEL
};

struct origin {
    struct actor actor;
    struct conn *v;
    struct exchange *ex;    /* the request under way, or the last one */
    struct exchange *first; /* of this connection */
    uint64_t answer_at, answer_from, written, body_sent, resume_at, idle_until;
    uint8_t phase;
    uint16_t served;
    bool over, busy, request_done, answered, deaf, paused, closing, extra;
    uint8_t socks; /* what a SOCKS5 server waits for */
    uint16_t asked_len, hello_len, hello_at;
    uint8_t asked[600], hello[320]; /* before it is like an origin: what has come, and what is to be said */
    struct message message;
    struct outbox outbox;
};

static struct origin *origins[CONNS_MAX];
static unsigned origins_made;

void origin_reset(void)
{
    world.origin_count = 0;
}

struct actor *origin_actor(uint32_t number)
{
    return &origins[number]->actor;
}

/* ---- The request ---- */

static bool is_at_proxy(const struct origin *o)
{
    return MINIPROXY_WITH_ROUTES && o->v->parent != NULL && o->v->parent->kind == 0;
}

#if MINIPROXY_WITH_ROUTES
#define PROPERTY_LOGINS PROPERTY_HOP_LOGIN
#else
#define PROPERTY_LOGINS PROPERTY_UP_HOP
#endif

/* The login of the parent, and no other. */
static void check_login(const struct origin *o, const struct message *m)
{
    const struct field *f = message_field(m, "Proxy-Authorization");
    const char *want = is_at_proxy(o) ? o->v->parent->encoded : "";
    if (*want == '\0')
        REQUIRE(PROPERTY_LOGINS, f == NULL, "request %u: Proxy-Authorization reaches the origin", o->v->exchange->id);
    else
        REQUIRE(PROPERTY_LOGINS,
                message_count(m, "Proxy-Authorization") == 1 && f->value_len == strlen(want) &&
                    memcmp(f->value, want, f->value_len) == 0,
                "request %u: the login of a parent is not its own", o->v->exchange->id);
}

static void check_fields(const struct origin *o, const struct exchange *ex, const struct message *m)
{
    static const char *const hop[] = {"Proxy-Connection", "Keep-Alive", "X-Hop", "TE"};
    bool upgrade = MINIPROXY_WITH_UPGRADE && ex->kind == EXCHANGE_UPGRADE;
    for (unsigned i = 0; i < sizeof hop / sizeof hop[0]; i++)
        REQUIRE(PROPERTY_UP_HOP, message_field(m, hop[i]) == NULL, "request %u: %s reaches the origin", ex->id, hop[i]);
    check_login(o, m);
    REQUIRE(PROPERTY_UP_HOP, message_lists(m, "Via", ex->http10 ? "1.0 sim" : "1.1 sim"), "request %u: Via is wrong",
            ex->id);
    REQUIRE(PROPERTY_UPGRADE,
            (message_field(m, "Upgrade") != NULL) == upgrade && message_lists(m, "Connection", "upgrade") == upgrade,
            "request %u: Upgrade is wrong", ex->id);
    REQUIRE(PROPERTY_INTERIM, (message_field(m, "Expect") != NULL) == ex->expect, "request %u: Expect is wrong",
            ex->id);
}

static void check_line(const struct origin *o, const struct exchange *ex, const struct message *m)
{
    const char *target = is_at_proxy(o) ? ex->sent_target : ex->target;
    const struct field *host = message_field(m, "Host");
    char text[MINIPROXY_ADDR_TEXT], want[80];
    if (ex->host != NULL) {
        snprintf(want, sizeof want, "%s", ex->host->name);
    } else {
        miniproxy_addr_format(&ex->literal->addr, text);
        snprintf(want, sizeof want, ex->literal->addr.family == 6 ? "[%s]" : "%s", text);
    }
    if (ex->port != (ex->https ? 443 : 80) || (is_at_proxy(o) && host != NULL && host->value_len > strlen(want)))
        snprintf(want + strlen(want), 8, ":%u", ex->port);
    REQUIRE(PROPERTY_UP_WELL_FORMED, strcmp(m->method, ex->method) == 0, "request %u: method %s", ex->id, m->method);
    REQUIRE(PROPERTY_UP_WELL_FORMED, strcmp(m->target, target) == 0, "request %u: target %s instead of %s", ex->id,
            m->target, target);
    REQUIRE(PROPERTY_UP_WELL_FORMED,
            message_count(m, "Host") == 1 && host->value_len == strlen(want) &&
                strncasecmp(host->value, want, host->value_len) == 0,
            "request %u: Host is not %s", ex->id, want);
    REQUIRE(PROPERTY_UP_WELL_FORMED, m->framing == ex->req_framing, "request %u: framed in another way", ex->id);
    REQUIRE(PROPERTY_UP_WELL_FORMED, m->framing != FRAMING_LENGTH || m->length == ex->req_len,
            "request %u: another length", ex->id);
}

static bool idempotent(const struct exchange *ex)
{
    static const char *const safe[] = {"GET", "HEAD", "OPTIONS", "PUT", "DELETE"};
    for (unsigned i = 0; i < 5; i++)
        if (strcmp(ex->method, safe[i]) == 0) return true;
    return false;
}

static void check_reuse(const struct origin *o, const struct exchange *ex)
{
    bool allowed = false;
    REQUIRE(PROPERTY_REUSE, MINIPROXY_WITH_REUSE || o->served == 0, "request %u: on a kept connection", ex->id);
    if (o->served == 0) return;
    REQUIRE(PROPERTY_REUSE, o->first->client == ex->client, "request %u: on the connection of another client", ex->id);
    REQUIRE(PROPERTY_REUSE,
            is_at_proxy(o) || (o->first->host == ex->host && o->first->literal == ex->literal &&
                               o->first->port == ex->port && o->first->https == ex->https),
            "request %u: on a connection to another host", ex->id);
    REQUIRE(PROPERTY_REUSE, !o->closing, "request %u: on a connection that said close", ex->id);
    REQUIRE(PROPERTY_REUSE, !o->extra, "request %u: on a connection that brought octets behind a response", ex->id);
    for (unsigned i = 0; i < ex->policy_count && o->v->parent == NULL; i++)
        allowed = allowed || rules_allow(ex->policies[i], ex, &o->v->machine->addr, o->v->machine->special,
                                         login_groups(ex->policies[i], ex));
    if (o->v->parent != NULL) allowed = routes_leads(ex, o->v->parent);
    REQUIRE(PROPERTY_LOGIN, allowed, "request %u: the policy is not asked on a kept connection", ex->id);
}

/* ---- A parent, or a member of a group, that does not do what it should ---- */

static void hang_up(struct origin *o)
{
    o->v->exchange->happened |= HAPPENED_CUT | HAPPENED_RESET;
    o->over = true;
    if (one_in(2)) peer_leave(o->v);
    else peer_reset(o->v);
}

/* True: nothing more comes of this request. */
static bool spoil(struct origin *o)
{
    static const uint16_t own[] = {403, 407, 407, 502, 503};
    struct exchange *ex = o->ex;
    o->phase = ORIGIN_READS;
    switch (o->v->parent->mode) {
    case MODE_MUTE:
        ex->happened |= HAPPENED_SLOW;
        o->phase = ORIGIN_STALLED;
        o->deaf = true;
        return true;
    case MODE_ENDS:
    case MODE_SWALLOWS: hang_up(o); return true;
    case MODE_NONSENSE: ex->answer.fault = ANSWER_GARBAGE; return false;
    default: break;
    }
    if (is_at_proxy(o) && ex->kind != EXCHANGE_CONNECT && ex->answer.fault == ANSWER_GOOD &&
        (o->v->parent->mode == MODE_REJECTS || one_in(12)))
        ex->answer.status = o->v->parent->mode == MODE_REJECTS ? 407 : own[below(5)];
    return false;
}

static void say(struct origin *o, const void *data, size_t len)
{
    memcpy(o->hello + o->hello_len, data, len);
    o->hello_len += (uint16_t)len;
}

/* The request of a health check. */
static void see_check(struct origin *o)
{
    static const uint16_t good[] = {200, 204, 301, 399}, bad[] = {400, 404, 500, 503};
    const struct message *m = &o->message;
    const struct parent *q = o->v->parent;
    const struct field *host = message_field(m, "Host");
    const char *target = q->check, *path = strchr(q->check + 7, '/');
    char text[64];
    int len;
    if (!is_at_proxy(o)) target = path;
    REQUIRE(PROPERTY_UP_WELL_FORMED, strcmp(m->method, "HEAD") == 0 && strcmp(m->target, target) == 0,
            "a check asks for %s %s", m->method, m->target);
    REQUIRE(PROPERTY_UP_WELL_FORMED,
            message_count(m, "Host") == 1 && host->value_len == 9 && memcmp(host->value, "check.sim", 9) == 0,
            "a check of another host");
    REQUIRE(PROPERTY_UP_WELL_FORMED, m->framing == FRAMING_NONE, "a check with a body");
    check_login(o, m);
    if (q->mode == MODE_MUTE) return;
    if (q->mode == MODE_ENDS || q->mode == MODE_SWALLOWS) {
        hang_up(o);
        return;
    }
    if (one_in(5)) say(o, "HTTP/1.1 100 Continue\r\n\r\n", 25);
    len = snprintf(text, sizeof text, q->mode == MODE_NONSENSE ? "220 nothing %u\r\n\r\n" : "HTTP/1.1 %u Text\r\n\r\n",
                   q->mode == MODE_REJECTS ? 407
                   : one_in(8)             ? bad[below(4)]
                                           : good[below(4)]);
    say(o, text, (size_t)len);
}

static void see_head(struct origin *o)
{
    struct message *m = &o->message;
    const struct field *id = message_field(m, "X-Id");
    struct exchange *ex;
    unsigned number = 0;
    if (o->v->is_check) {
        see_check(o);
        return;
    }
    REQUIRE(PROPERTY_UP_WELL_FORMED, id != NULL && id->value_len < 8, "a request without its number: %s %s", m->method,
            m->target);
    for (unsigned i = 0; i < id->value_len; i++) number = number * 10 + (unsigned)(id->value[i] - '0');
    REQUIRE(PROPERTY_UP_WELL_FORMED, number < world.exchange_count, "a request of a number that was never made");
    ex = &world.exchanges[number];
    trace("origin %u: %s %s of request %u", o->actor.number, m->method, m->target, ex->id);
    REQUIRE(PROPERTY_UP_WELL_FORMED, !o->busy, "request %u comes before the last one is answered", ex->id);
    REQUIRE(PROPERTY_UP_WELL_FORMED, current_exchange(ex->client) == ex || o->v->state == CONN_CLOSED,
            "request %u is sent out of turn", ex->id);
    REQUIRE(PROPERTY_MALFORMED, ex->kind != EXCHANGE_MALFORMED, "malformed request %u reaches an origin", ex->id);
#if MINIPROXY_WITH_TLS
    REQUIRE(PROPERTY_SECURE, ex->https == (o->v->secure != NULL), "request %u: with TLS, or without", ex->id);
#endif
    check_line(o, ex, m);
    check_fields(o, ex, m);
    check_reuse(o, ex);
    REQUIRE(PROPERTY_RETRY,
            ex->times_at_origin == 0 || (ex->times_at_origin == 1 && idempotent(ex) && ex->reused &&
                                         core_received(ex->attempt) == ex->received_before) ||
                (core_received(ex->attempt) - ex->received_before < ex->answer_head && routes_repeat(ex, ex->attempt)),
            "request %u is sent again", ex->id);
    ex->times_at_origin++;
    ex->interims_sent = 0;
    ex->interim_octets = 0;
    ex->answer_head = UINT32_MAX;
    ex->attempt = o->v;
    ex->received_before = core_received(o->v);
    ex->connected = true;
    ex->reused = o->served > 0;
    if (o->first == NULL) o->first = ex;
    o->ex = o->v->exchange = ex;
    if (o->v->parent != NULL && spoil(o)) return;
    o->busy = true;
    o->request_done = o->answered = false;
    o->phase = ORIGIN_READS;
    if (ex->answer.when == WHEN_HEAD || ex->answer.interims > 0) o->answer_at = world.now_ms + ex->answer.delay_ms;
    if (ex->answer.deaf) {
        o->deaf = true; /* for good: later requests on this connection suffer too */
        ex->client->happened |= HAPPENED_SLOW;
    }
}

static void begin_answer(struct origin *o)
{
    if (o->phase == ORIGIN_READS) o->phase = ORIGIN_DELAYS;
    if (o->phase == ORIGIN_DELAYS && o->answer_at == 0) o->answer_at = world.now_ms + o->ex->answer.delay_ms;
}

static void see_body(struct origin *o)
{
    struct message *m = &o->message;
    struct exchange *ex = o->ex;
    uint64_t from = m->body_at - m->body_len;
    for (size_t i = 0; i < m->body_len; i++)
        REQUIRE(PROPERTY_UP_CONTENT,
                (ex->bad_body && from + i >= ex->req_len / 2) ||
                    (from + i < ex->req_len && m->body[i] == pattern(ex->id * 2, from + i)),
                "request %u: octet %llu of its body is wrong", ex->id, (unsigned long long)(from + i));
    if (ex->answer.when == WHEN_PART && m->body_at >= ex->answer.part && !o->answered) begin_answer(o);
}

static void see_end(struct origin *o)
{
    struct message *m = &o->message;
    struct exchange *ex = o->ex;
    trace("origin %u: request %u is complete", o->actor.number, ex->id);
    REQUIRE(PROPERTY_TRUNCATION, m->body_at == ex->req_len || ex->req_framing == FRAMING_NONE,
            "request %u: complete with %llu of %u octets", ex->id, (unsigned long long)m->body_at, ex->req_len);
    REQUIRE(PROPERTY_TRUNCATION, ex->written_all, "request %u: complete before the client has written it", ex->id);
    REQUIRE(PROPERTY_UP_WELL_FORMED, !ex->bad_body, "request %u: its malformed body reaches the origin as a good one",
            ex->id);
    ex->origin_got_all = true;
    o->request_done = true;
    if (o->answered) o->busy = false;
    else begin_answer(o);
    message_start(m, true);
}

static void take(struct origin *o, const uint8_t *data, size_t len)
{
    size_t used = 0;
    for (;;) {
        if (o->phase == ORIGIN_TUNNEL) {
            REQUIRE(PROPERTY_TUNNEL, used == len || o->outbox.at == o->outbox.len || o->ex->kind == EXCHANGE_UPGRADE,
                    "request %u: octets for the tunnel before the parent has said that there is one", o->ex->id);
            tunnel_take(&o->ex->down, data + used, len - used, o->ex);
            return;
        }
        switch (message_next(&o->message, data, len, &used)) {
        case MESSAGE_HEAD:
            see_head(o);
            if (o->over || o->deaf) return;
            if (o->v->is_check) break;
            if (o->ex->answer.when == WHEN_HEAD) begin_answer(o);
            break;
        case MESSAGE_BODY:
            see_body(o);
            break;
        case MESSAGE_END:
            if (o->v->is_check) message_start(&o->message, true);
            else see_end(o);
            break;
        case MESSAGE_BAD:
            violation(PROPERTY_UP_WELL_FORMED, "an origin gets a malformed request: %s", o->message.error);
        case MESSAGE_MORE:
            if (used == len) return;
            break;
        }
    }
}

/* ---- The answer ---- */

static void out(struct origin *o, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void out(struct origin *o, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    o->outbox.len += (uint32_t)vsnprintf((char *)o->outbox.data + o->outbox.len, sizeof o->outbox.data - o->outbox.len,
                                         format, args);
    va_end(args);
}

static void out_interims(struct origin *o)
{
    static const char *const texts[] = {"103 Early Hints", "102 Processing", "199 Odd"};
    struct exchange *ex = o->ex;
    unsigned n = ex->answer.fault == ANSWER_INTERIMS ? MINIPROXY_INTERIM_MAX + 3 : ex->answer.interims;
    size_t before = o->outbox.len;
    for (unsigned i = ex->interims_sent; i < n; i++) {
        out(o, "HTTP/1.1 %s\r\nX-Sim: %u\r\nConnection: X-Hop-Down\r\nX-Hop-Down: 1\r\n\r\n",
            i == 0 && ex->expect ? "100 Continue" : texts[i % 3], ex->id);
        ex->interims_sent++;
    }
    ex->interim_octets += (uint32_t)(o->outbox.len - before);
}

static bool bodiless(const struct exchange *ex)
{
    uint16_t s = ex->answer.status;
    return strcmp(ex->method, "HEAD") == 0 || s == 204 || s == 304 || s == 101;
}

void origin_cut(struct exchange *ex)
{
    if (ex->answer.framing != FRAMING_EOF || bodiless(ex)) return;
    ex->origin_done = false;
    ex->origin_cut = true;
}

/* Heads that are wrong on purpose. True: nothing else follows. */
static bool out_faulty(struct origin *o)
{
    struct exchange *ex = o->ex;
    struct answer *a = &ex->answer;
    switch (a->fault) {
    case ANSWER_GARBAGE:
        ex->happened |= HAPPENED_GARBAGE;
        out(o, "%s", ex->id % 2 ? "SSH-2.0-nothing\r\n\r\n" : "HTTP/1.1 2x0 OK\r\nContent-Length: 0\r\n\r\n");
        return true;
    case ANSWER_EMPTY:
        ex->happened |= HAPPENED_EMPTY;
        return true;
    case ANSWER_SWITCH:
        ex->happened |= HAPPENED_SWITCH;
        out(o, "HTTP/1.1 101 Switching Protocols\r\nX-Sim: %u\r\nUpgrade: odd\r\nConnection: upgrade\r\n\r\nabc",
            ex->id);
        return true;
    case ANSWER_BIG_HEAD:
        ex->happened |= HAPPENED_BIG_HEAD;
        out(o, "HTTP/1.1 200 OK\r\nX-Big: ");
        for (unsigned i = 0; i < MINIPROXY_HEAD_MAX; i++) out(o, "b");
        out(o, "\r\nContent-Length: 0\r\n\r\n");
        return true;
    case ANSWER_BAD_FIELD:
        ex->happened |= HAPPENED_BAD_FIELD;
        out(o, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n%s\r\n\r\n", ex->id % 2 ? "no colon" : ": no name");
        return true;
    default:
        return false;
    }
}

static void out_lengths(struct origin *o)
{
    struct exchange *ex = o->ex;
    struct answer *a = &ex->answer;
    if (a->status == 101 || a->status == 204) return;
    if (a->fault == ANSWER_CONFLICT && !bodiless(ex)) {
        ex->happened |= HAPPENED_CONFLICT;
        if (a->framing == FRAMING_CHUNKED) out(o, "Content-Length: 5\r\n");
        else out(o, "Content-Length: 5\r\nContent-Length: %u\r\n", a->len + 6);
    }
    if (a->framing == FRAMING_LENGTH) out(o, "Content-Length: %u\r\n", a->len);
    if (a->framing == FRAMING_CHUNKED) out(o, "Transfer-Encoding: chunked\r\n");
}

static void out_end(struct origin *o)
{
    struct exchange *ex = o->ex;
    struct answer *a = &ex->answer;
    if (a->framing == FRAMING_CHUNKED && !bodiless(ex))
        out(o, "0\r\n%s\r\n", a->trailers ? "X-Trail: t\r\nContent-Length: 3\r\nX-Hop-Down: 2\r\n" : "");
    /* Octets behind the end, which arrive together with it: where they come later no proxy could know. */
    if (a->fault == ANSWER_EXTRA && (a->framing != FRAMING_EOF || bodiless(ex)) && world.mood.again_one_in == 0 &&
        peer_room(o->v) >= o->outbox.len + 100) {
        ex->origin_done = o->extra = true; /* what follows does not belong to it */
        out(o, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nbad");
    }
    o->phase = ORIGIN_SENDS_LAST;
}

/* Another hop may have done so before, and nobody has learnt of it. */
static void begin_tunnel(struct exchange *ex)
{
    struct tunnel_end *t = &ex->down;
    t->sent = t->got = 0;
    t->fin_sent = t->eof = false;
    t->on = true;
}

/* What a proxy answers to CONNECT. */
static void out_tunnel_answer(struct origin *o)
{
    static const uint16_t refusals[] = {403, 407, 429, 500, 502, 503, 504, 302, 404, 101};
    static const char *const agreed[] = {"200 OK\r\n", "200 OK\r\nContent-Length: 5\r\n", "204 Odd\r\n",
                                         "200 OK\r\nTransfer-Encoding: chunked\r\n"};
    struct exchange *ex = o->ex;
    if (o->v->parent->mode != MODE_REJECTS && !one_in(5)) {
        out(o, "HTTP/1.1 %s\r\n", agreed[below(4)]);
        o->phase = ORIGIN_TUNNEL;
        begin_tunnel(ex);
        return;
    }
    ex->parent_status = o->v->parent->mode == MODE_REJECTS ? 407 : refusals[below(10)];
    out(o, "HTTP/1.1 %u Text\r\nContent-Length: 5\r\n\r\nnever", ex->parent_status);
    o->phase = ORIGIN_SENDS_LAST;
}

static void out_head(struct origin *o)
{
    struct exchange *ex = o->ex;
    struct answer *a = &ex->answer;
    ex->origin_began = true;
    o->body_sent = 0;
    if (ex->kind == EXCHANGE_CONNECT && a->fault != ANSWER_GARBAGE && a->fault != ANSWER_EMPTY) {
        out_tunnel_answer(o);
        return;
    }
    if (out_faulty(o)) {
        o->phase = ORIGIN_SENDS_LAST;
        o->closing = true;
        return;
    }
    out(o, "HTTP/1.%u %u Text\r\nX-Sim: %u\r\n", a->http10 ? 0 : 1, a->status, ex->id);
    out_lengths(o);
    out(o, "%s",
        a->status == 101         ? "Connection: X-Hop-Down, upgrade\r\nUpgrade: websocket\r\n"
        : a->close && !a->http10 ? "Connection: close, X-Hop-Down\r\n"
                                 : "Connection: X-Hop-Down\r\n");
    out(o, "X-Hop-Down: 1\r\nKeep-Alive: 9\r\nProxy-Authenticate: no\r\n");
    if (a->status != 101) out(o, "Set-Cookie: a\r\nSet-Cookie: b\r\n");
    out(o, "\r\n");
    o->closing = a->close || (ex->happened & HAPPENED_CONFLICT) != 0;
    if (a->status == 101) {
        o->phase = ORIGIN_TUNNEL;
        ex->down.on = true;
    } else {
        o->phase = ORIGIN_BODY;
        /* One write, so that what is behind the end arrives together with it. */
        if (bodiless(ex) || (a->len == 0 && a->fault == ANSWER_EXTRA)) out_end(o);
    }
}

static void out_whole_head(struct origin *o)
{
    const char *from = (const char *)o->outbox.data + o->outbox.len, *end;
    out_head(o);
    end = strstr(from, "\r\n\r\n");
    if (end != NULL) o->ex->answer_head = o->ex->interim_octets + (uint32_t)(end + 4 - from);
}

static void out_body(struct origin *o)
{
    struct exchange *ex = o->ex;
    struct answer *a = &ex->answer;
    uint32_t left = bodiless(ex) ? 0 : a->len - (uint32_t)o->body_sent, n = left;
    if (a->fault == ANSWER_BAD_CHUNK && a->framing == FRAMING_CHUNKED && !bodiless(ex) && o->body_sent >= a->len / 2) {
        ex->happened |= HAPPENED_BAD_CHUNK;
        if (ex->id % 3 == 0) { /* or a trailer section that is too large */
            out(o, "0\r\n");
            for (unsigned i = 0; i <= MINIPROXY_TRAILER_MAX / 50; i++)
                out(o, "X-Trail: 0123456789012345678901234567890123456789\r\n");
        } else {
            out(o, "%s", ex->id % 2 ? "zz\r\nabc\r\n" : "3\r\nabcde\r\n");
        }
        o->phase = ORIGIN_SENDS_LAST;
        o->closing = true;
        return;
    }
    if (left == 0) {
        out_end(o);
        return;
    }
    if (n > 4096) n = 4096;
    if (a->framing == FRAMING_CHUNKED) {
        n = 1 + spread(a->chunk_max - 1);
        if (n > left) n = left;
        out(o, one_in(2) ? "%x%s\r\n" : "00%X%s\r\n", n,
            ex->extensions < 20 && one_in(12) ? (ex->extensions++, ";a=b") : "");
    }
    for (uint32_t i = 0; i < n; i++) o->outbox.data[o->outbox.len++] = pattern(ex->id * 2 + 1, o->body_sent + i);
    o->body_sent += n;
    if (a->framing == FRAMING_CHUNKED) out(o, "\r\n");
    if (n == left && a->fault != ANSWER_BAD_CHUNK) out_end(o);
}

/* All of the answer has been written. */
static void finish_answer(struct origin *o)
{
    struct exchange *ex = o->ex;
    uint32_t broken = HAPPENED_GARBAGE | HAPPENED_EMPTY | HAPPENED_SWITCH | HAPPENED_BIG_HEAD | HAPPENED_BAD_FIELD |
                      HAPPENED_BAD_CHUNK;
    if ((ex->happened & broken) == 0 &&
        !((ex->happened & HAPPENED_CONFLICT) != 0 && ex->answer.framing != FRAMING_CHUNKED))
        ex->origin_done = true;
    if (!secure_tells_end(o->v)) origin_cut(ex);
    trace("origin %u: answer to request %u is written", o->actor.number, ex->id);
    o->answered = true;
    o->busy = !o->request_done;
    o->served++;
    o->answer_at = 0;
    o->phase = ORIGIN_READS;
    if (o->closing) {
        if (!o->request_done) ex->happened |= HAPPENED_RESET;
        if (o->busy) peer_leave(o->v);
        else peer_fin(o->v);
        o->over = o->busy;
    } else if (ex->answer.idle_ms > 0 && o->request_done) {
        o->idle_until = world.now_ms + ex->answer.idle_ms;
        step_after(&o->actor, ex->answer.idle_ms);
    }
}

/* ---- Trouble ---- */

/* The last octet of the answer is out: what happens now cannot harm it any more. */
static bool all_out(const struct origin *o)
{
    const struct answer *a = &o->ex->answer;
    if (o->outbox.at < o->outbox.len || o->phase < ORIGIN_BODY || (a->framing == FRAMING_EOF && !bodiless(o->ex)))
        return false;
    return o->phase == ORIGIN_SENDS_LAST || bodiless(o->ex) || (a->framing == FRAMING_LENGTH && o->body_sent == a->len);
}

static bool meet_fault(struct origin *o)
{
    struct exchange *ex = o->ex;
    struct answer *a = &ex->answer;
    uint64_t position = o->written - o->answer_from;
    if (a->fault < ANSWER_CUT || a->fault > ANSWER_PAUSE || position < a->fault_at || o->paused || all_out(o))
        return false;
    trace("origin %u: fault %u in the answer to request %u", o->actor.number, a->fault, ex->id);
    ex->origin_began = ex->origin_began || position > 0;
    o->paused = true;
    switch (a->fault) {
    case ANSWER_PAUSE:
        ex->happened |= HAPPENED_SLOW;
        o->resume_at = world.now_ms + a->pause_ms;
        return true;
    case ANSWER_STALL:
        ex->happened |= HAPPENED_SLOW;
        o->phase = ORIGIN_STALLED;
        return true;
    case ANSWER_RESET:
        ex->happened |= HAPPENED_RESET;
        o->over = true;
        peer_reset(o->v);
        return true;
    default:
        ex->happened |= position == 0 ? HAPPENED_EMPTY | HAPPENED_CUT : HAPPENED_CUT;
        if (o->phase >= ORIGIN_BODY && a->framing == FRAMING_EOF && !bodiless(ex)) { /* that is how such a body ends */
            a->len = (uint32_t)o->body_sent - (o->outbox.len - o->outbox.at);
            ex->origin_done = true;
            if (!secure_tells_end(o->v)) origin_cut(ex);
        }
        o->over = true;
        peer_leave(o->v);
        return true;
    }
}

static uint64_t until_fault(const struct origin *o, uint64_t n)
{
    const struct answer *a = &o->ex->answer;
    uint64_t position = o->written - o->answer_from;
    if (a->fault < ANSWER_CUT || a->fault > ANSWER_PAUSE || o->paused || position > a->fault_at) return n;
    return n < a->fault_at - position ? n : a->fault_at - position;
}

/* ---- Steps ---- */

static bool fill(struct origin *o)
{
    o->outbox.at = o->outbox.len = 0;
    switch (o->phase) {
    case ORIGIN_DELAYS:
        o->phase = ORIGIN_HEAD;
        o->answer_from = o->written;
        o->paused = false;
        out_interims(o);
        return true;
    case ORIGIN_HEAD:
        out_whole_head(o);
        return true;
    case ORIGIN_BODY:
        out_body(o);
        return true;
    case ORIGIN_SENDS_LAST:
        finish_answer(o);
        return false;
    default:
        return false;
    }
}

static void step_write(struct origin *o)
{
    struct outbox *b = &o->outbox;
    size_t taken;
    uint64_t n;
    if (o->ex == NULL || o->phase == ORIGIN_STALLED) return;
    if (o->phase == ORIGIN_READS && o->answer_at != 0 && world.now_ms >= o->answer_at &&
        o->ex->interims_sent < o->ex->answer.interims && o->ex->answer.fault < ANSWER_GARBAGE) {
        b->at = b->len = 0; /* interim responses while the request is still coming */
        o->ex->origin_began = true;
        out_interims(o);
    }
    for (;;) {
        if (o->phase >= ORIGIN_DELAYS && world.now_ms < o->answer_at) {
            step_after(&o->actor, o->answer_at - world.now_ms);
            return;
        }
        if (world.now_ms < o->resume_at) {
            step_after(&o->actor, o->resume_at - world.now_ms);
            return;
        }
        if ((o->phase == ORIGIN_HEAD || o->phase == ORIGIN_BODY || o->phase == ORIGIN_SENDS_LAST) && meet_fault(o)) {
            if (o->over || o->phase == ORIGIN_STALLED) return;
            continue;
        }
        if (b->at == b->len && !fill(o)) break;
        n = b->len - b->at;
        if (o->phase == ORIGIN_HEAD || o->phase == ORIGIN_BODY || o->phase == ORIGIN_SENDS_LAST) n = until_fault(o, n);
        taken = n > 0 ? peer_write(o->v, b->data + b->at, (size_t)n) : 0;
        if (taken > 0) o->ex->origin_began = true;
        b->at += (uint32_t)taken;
        o->written += taken;
        if (taken == 0 && n > 0) return;
    }
    if (o->phase == ORIGIN_TUNNEL) {
        struct tunnel_end *t = &o->ex->down;
        struct answer *a = &o->ex->answer;
        uint64_t limit = OUTBOX_MAX;
        if ((a->fault == ANSWER_RESET || a->fault == ANSWER_STALL) && t->sent + limit >= a->fault_at) {
            limit = a->fault_at > t->sent ? a->fault_at - t->sent : 0;
            if (limit == 0) o->ex->happened |= a->fault == ANSWER_RESET ? HAPPENED_RESET : HAPPENED_SLOW;
            if (limit == 0 && a->fault == ANSWER_RESET) {
                o->over = true;
                peer_reset(o->v);
            }
            if (limit == 0) return;
        }
        if (tunnel_step(t, o->v, (uint32_t)limit, o->ex)) step_after(&o->actor, 0);
    }
}

static void step_end(struct origin *o)
{
    if (o->over) return;
    if (peer_was_reset(o->v)) {
        trace("origin %u: reset", o->actor.number);
        o->over = true;
        return;
    }
    if (o->phase == ORIGIN_TUNNEL) {
        struct tunnel_end *t = &o->ex->down;
        if (peer_eof(o->v) && !t->eof) {
            trace("origin %u: EOF in the tunnel", o->actor.number);
            t->eof = true;
            step_after(&o->actor, 0);
        } else if (t->eof && (t->fin_sent || t->kind == TUNNEL_SILENT)) {
            peer_leave(o->v);
            o->over = true;
        }
        return;
    }
    if (peer_eof(o->v) && (!o->busy || !o->request_done) && o->phase != ORIGIN_STALLED && o->phase <= ORIGIN_DELAYS) {
        trace("origin %u: EOF", o->actor.number);
        peer_leave(o->v);
        o->over = true;
        return;
    }
    if (o->idle_until != 0 && !o->busy && world.now_ms >= o->idle_until) {
        trace("origin %u: closes the idle connection", o->actor.number);
        o->ex->client->happened |= HAPPENED_STALE;
        if (one_in(3)) peer_reset(o->v);
        else peer_leave(o->v);
        o->over = true;
    }
}

/* ---- SOCKS5 (RFC 1928, RFC 1929) ---- */

enum { SOCKS_NONE, SOCKS_METHODS, SOCKS_LOGIN, SOCKS_REQUEST };

/* What has to come now, octet for octet; a name in any case. */
static size_t socks_expects(const struct origin *o, uint8_t want[300])
{
    const struct parent *q = o->v->parent;
    const struct exchange *ex = o->v->exchange;
    const char *colon = strchr(q->login, ':'), *name = o->v->is_check     ? "check.sim"
                                                       : ex->host != NULL ? ex->host->name
                                                                          : NULL;
    const struct miniproxy_addr *a = name == NULL ? &ex->literal->addr : NULL;
    uint16_t port = o->v->is_check ? 80 : ex->port;
    size_t n = 0, len = name != NULL ? strlen(name) : a->family == 4 ? 4 : 16;
    if (o->socks == SOCKS_METHODS) {
        memcpy(want, colon != NULL ? "\5\2\0\2" : "\5\1\0", 4);
        return colon != NULL ? 4 : 3;
    }
    if (o->socks == SOCKS_LOGIN)
        return (size_t)sprintf((char *)want, "\1%c%.*s%c%s", (char)(colon - q->login), (int)(colon - q->login),
                               q->login, (char)strlen(colon + 1), colon + 1);
    memcpy(want, "\5\1\0", 3);
    n = 3;
    want[n++] = name != NULL ? 3 : a->family == 4 ? 1 : 4;
    if (name != NULL) want[n++] = (uint8_t)len;
    memcpy(want + n, name != NULL ? (const void *)name : (const void *)a->ip, len);
    n += len;
    want[n++] = (uint8_t)(port >> 8);
    want[n++] = (uint8_t)port;
    return n;
}

static void socks_connects(struct origin *o)
{
    struct exchange *ex = o->v->exchange;
    unsigned reply = one_in(6) ? 1 + below(8) : 0, kind = below(3);
    uint8_t text[300] = {(uint8_t)(one_in(40) ? 4 : 5), (uint8_t)reply, 0,
                         (uint8_t)(kind == 0   ? 1
                                   : kind == 1 ? 4
                                               : 3),
                         0};
    size_t len = kind == 0 ? 10 : kind == 1 ? 22 : 7 + (text[4] = (uint8_t)below(200));
    if (one_in(40)) text[3] = 9;
    if (one_in(40)) { /* it does not come to an end */
        ex->parent_mute = true;
        return;
    }
    say(o, text, len);
    if (!o->v->is_check) ex->socks_reply = (uint8_t)reply;
    o->socks = SOCKS_NONE;
    if (reply != 0 || text[0] != 5 || text[3] == 9) {
        o->deaf = true;
    } else if (ex->kind == EXCHANGE_CONNECT && !o->v->is_check) {
        o->ex = o->first = ex;
        o->phase = ORIGIN_TUNNEL;
        begin_tunnel(ex);
    }
}

static void socks_answers(struct origin *o)
{
    const struct parent *q = o->v->parent;
    bool login = *q->login != '\0';
    o->asked_len = 0;
    if (q->mode == MODE_MUTE) {
        o->v->exchange->parent_mute = true;
        o->deaf = true;
    } else if (q->mode == MODE_SWALLOWS || q->mode == MODE_ENDS) {
        hang_up(o);
    } else if (q->mode == MODE_NONSENSE) {
        say(o, "HTTP/1.1 400 Bad Request\r\n\r\n", 28);
        o->deaf = true;
    } else if (o->socks == SOCKS_METHODS) {
        bool rejects = q->mode == MODE_REJECTS && (!login || one_in(2)), asks = login && !one_in(4);
        say(o, rejects ? "\5\xff" : asks ? "\5\2" : !login && one_in(40) ? "\5\2" : "\5\0", 2);
        o->socks = asks ? SOCKS_LOGIN : SOCKS_REQUEST;
    } else if (o->socks == SOCKS_LOGIN) {
        say(o, q->mode == MODE_REJECTS ? "\1\1" : "\1\0", 2);
        o->socks = SOCKS_REQUEST;
    } else {
        socks_connects(o);
    }
}

static void take_socks(struct origin *o, const uint8_t *data, size_t len)
{
    uint8_t want[300];
    size_t n = socks_expects(o, want);
    for (size_t i = 0; i < len; i++) {
        unsigned at = o->asked_len;
        REQUIRE(o->socks == SOCKS_LOGIN ? PROPERTY_LOGINS : PROPERTY_UP_WELL_FORMED,
                at < n &&
                    (data[i] == want[at] || (o->socks == SOCKS_REQUEST && at > 4 && (data[i] | 32) == (want[at] | 32))),
                "a SOCKS5 server gets something else (step %u, octet %u) than it should", o->socks, at);
        o->asked[o->asked_len++] = data[i];
    }
    if (o->asked_len == n) socks_answers(o);
}

/* All that was to be said has been. */
static bool has_said(struct origin *o)
{
    while (o->hello_at < o->hello_len) {
        size_t n = peer_write(o->v, o->hello + o->hello_at, (size_t)(o->hello_len - o->hello_at));
        if (n == 0) return false;
        o->hello_at += (uint16_t)n;
    }
    o->hello_at = o->hello_len = 0;
    return true;
}

/* A hop goes down, or its operator restarts it: what it has under way is cut off, some of it. */
void origin_break(struct parent *q)
{
    for (unsigned i = 0; i < world.origin_count; i++) {
        struct origin *o = origins[i];
        if (o->v->parent != q || o->over || one_in(3) || (o->busy && o->phase >= ORIGIN_HEAD && all_out(o))) continue;
        trace("origin %u: breaks off", o->actor.number);
        o->v->exchange->client->happened |= HAPPENED_STALE;
        if (o->ex == NULL || o->busy || o->phase == ORIGIN_TUNNEL) o->v->exchange->happened |= HAPPENED_RESET;
        if (o->ex == NULL) o->v->exchange->happened |= HAPPENED_CUT;
        o->over = true;
        if (o->busy || o->phase == ORIGIN_TUNNEL || one_in(2)) peer_reset(o->v);
        else peer_leave(o->v);
    }
}

static void origin_step(struct actor *a)
{
    struct origin *o = origins[a->number - CLIENTS_MAX];
    static uint8_t data[8192];
    size_t n;
    secure_step(o->v);
    if (o->over) return;
    if (!o->deaf) {
        n = peer_read(o->v, data, sizeof data);
        if (n > 0) {
            trace("origin %u reads %zu", a->number, n);
            if (o->socks != SOCKS_NONE) take_socks(o, data, n);
            else take(o, data, n);
            step_after(a, 0);
        }
    }
    if (!o->over && has_said(o)) step_write(o);
    step_end(o);
}

void origin_new(struct conn *v)
{
    struct origin *o;
    unsigned number = world.origin_count++;
    if (number == origins_made) {
        origins[origins_made++] = calloc(1, sizeof *o);
        if (origins[number] == NULL) abort();
    }
    o = origins[number];
    memset(o, 0, offsetof(struct origin, message));
    o->outbox.at = o->outbox.len = 0;
    message_start(&o->message, true);
    o->v = v;
    o->actor.step = origin_step;
    o->actor.number = (uint16_t)(CLIENTS_MAX + number);
    v->peer = &o->actor;
    trace("origin %u accepts", o->actor.number);
    secure_start_origin(v);
    if (v->parent != NULL && v->parent->kind == 1) o->socks = SOCKS_METHODS;
    if (v->exchange->kind == EXCHANGE_CONNECT && !v->is_check && !is_at_proxy(o) && o->socks == SOCKS_NONE) {
        o->ex = o->first = v->exchange;
        o->phase = ORIGIN_TUNNEL;
        begin_tunnel(v->exchange);
    }
    if (v->parent != NULL && v->parent->mode == MODE_ENDS) hang_up(o);
    step_after(&o->actor, 0);
}

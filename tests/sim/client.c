/* SPDX-License-Identifier: MIT */
/* Clients: write their requests as planned, and check every octet of what comes back. */
#include "sim.h"

#include <stdarg.h>
#include <string.h>
#include <strings.h>

/* ---- What comes back ---- */

static bool has_text(const struct field *f, const char *text)
{
    return f != NULL && f->value_len == strlen(text) && strncasecmp(f->value, text, f->value_len) == 0;
}

static void check_from_origin(const struct exchange *ex, const struct message *m)
{
    static const char *const hop[] = {"X-Hop-Down", "Proxy-Authenticate", "Keep-Alive", "Proxy-Connection", "TE"};
    char id[12];
    snprintf(id, sizeof id, "%u", ex->id);
    REQUIRE(PROPERTY_ORDER, has_text(message_field(m, "X-Sim"), id),
            "request %u is answered by the response of another", ex->id);
    for (unsigned i = 0; i < sizeof hop / sizeof hop[0]; i++)
        REQUIRE(PROPERTY_DOWN_HOP, message_field(m, hop[i]) == NULL, "request %u: %s of the origin reaches the client",
                ex->id, hop[i]);
    REQUIRE(PROPERTY_DOWN_HOP, message_lists(m, "Via", "1.1 sim") || message_lists(m, "Via", "1.0 sim"),
            "request %u: no Via in the response", ex->id);
    REQUIRE(PROPERTY_DOWN_HOP, message_count(m, "Set-Cookie") == (m->status >= 200 && m->status != 101 ? 2u : 0u),
            "request %u: a field of the origin is lost or merged", ex->id);
}

static void check_from_proxy(const struct exchange *ex, const struct message *m)
{
    REQUIRE(PROPERTY_CAUSE, m->status >= 200, "request %u: the proxy invents a %d", ex->id, m->status);
    REQUIRE(PROPERTY_DOWN_WELL_FORMED, m->has_length, "request %u: a reply of the proxy has no length", ex->id);
    REQUIRE(PROPERTY_LOGIN, m->status != 407 || message_field(m, "Proxy-Authenticate") != NULL,
            "request %u: 407 without Proxy-Authenticate", ex->id);
    REQUIRE(PROPERTY_BUSY, m->status != 503 || message_field(m, "Retry-After") != NULL,
            "request %u: 503 without Retry-After", ex->id);
}

static void see_interim(struct client *cl, struct exchange *ex, const struct message *m)
{
    trace("client %u: interim %d", cl->actor.number, m->status);
    REQUIRE(PROPERTY_DOWN_WELL_FORMED, !ex->http10, "request %u: an HTTP/1.0 client gets an interim response", ex->id);
    REQUIRE(PROPERTY_DOWN_WELL_FORMED, m->framing == FRAMING_NONE, "request %u: an interim response with a length",
            ex->id);
    REQUIRE(PROPERTY_INTERIM, ex->interims_seen < ex->interims_sent, "request %u: an interim response nobody sent",
            ex->id);
    check_from_origin(ex, m);
    ex->interims_seen++;
    message_start(&cl->message, false);
}

static void enter_tunnel(struct client *cl, struct exchange *ex, const struct message *m)
{
    trace("client %u: tunnel", cl->actor.number);
    REQUIRE(PROPERTY_DOWN_WELL_FORMED, m->framing == FRAMING_NONE, "request %u: %d with a length", ex->id, m->status);
    REQUIRE(PROPERTY_TUNNEL, ex->connected, "request %u: a tunnel without a connection", ex->id);
    if (ex->kind == EXCHANGE_UPGRADE) {
        check_from_origin(ex, m);
        REQUIRE(PROPERTY_UPGRADE,
                has_text(message_field(m, "Upgrade"), "websocket") && message_lists(m, "Connection", "upgrade"),
                "request %u: 101 without its fields", ex->id);
    }
    client_tunnel(cl);
}

void client_tunnel(struct client *cl)
{
    struct exchange *ex = cl->exchanges[cl->reading++];
    ex->client_complete = true;
    ex->up.on = true;
    cl->phase = CLIENT_TUNNEL;
}

static enum framing framing_of(const struct exchange *ex, const struct message *m)
{
    if (strcmp(ex->method, "HEAD") == 0 || m->status == 204 || m->status == 304) return FRAMING_NONE;
    if (m->framing == FRAMING_NONE) return FRAMING_EOF;
    return (enum framing)m->framing;
}

static void see_final(struct client *cl, struct exchange *ex, struct message *m)
{
    enum framing framing = framing_of(ex, m);
    bool close = message_lists(m, "Connection", "close");
    trace("client %u: request %u gets %d%s%s", cl->actor.number, ex->id, m->status, ex->by_proxy ? " by proxy" : "",
          close ? ", close" : "");
    REQUIRE(PROPERTY_DOWN_WELL_FORMED, m->status != 204 || m->framing == FRAMING_NONE, "request %u: 204 with a length",
            ex->id);
    REQUIRE(PROPERTY_DOWN_WELL_FORMED, !ex->http10 || !m->chunked, "request %u: chunked to an HTTP/1.0 client", ex->id);
    REQUIRE(PROPERTY_CLOSES, framing != FRAMING_EOF || close, "request %u: ends at the close without saying so",
            ex->id);
    REQUIRE(PROPERTY_CLOSES, close || !(ex->http10 || ex->says_close), "request %u: the response does not say close",
            ex->id);
    if (ex->by_proxy) {
        check_from_proxy(ex, m);
    } else {
        check_from_origin(ex, m);
        REQUIRE(PROPERTY_INTERIM, ex->interims_sent <= MINIPROXY_INTERIM_MAX,
                "request %u: %u interim responses are passed on", ex->id, ex->interims_sent);
        REQUIRE(PROPERTY_ORDER, m->status == ex->answer.status, "request %u: %d instead of %u", ex->id, m->status,
                ex->answer.status);
    }
    ex->client_close = close;
    /* Refused before its method could be read: a client that asked for HEAD cannot tell what follows, but for the
     * close. */
    cl->blind = ex->by_proxy && close && strcmp(ex->method, "HEAD") == 0 &&
                (ex->evented ? ex->line_unread : core_received(cl->conn) < ex->head_end_at);
    message_body(m, framing);
}

static void see_head(struct client *cl)
{
    struct message *m = &cl->message;
    struct exchange *ex;
    const struct field *status;
    if (cl->reading == cl->count && m->status == 503 &&
        message_lists(m, "Connection", "close")) { /* no place for it any more */
        cl->blind = cl->saw_close = true;
        return;
    }
    REQUIRE(PROPERTY_ORDER, cl->reading < cl->count, "client %u: a response to no request", cl->actor.number);
    ex = cl->exchanges[cl->reading];
    REQUIRE(PROPERTY_CLOSES, !cl->saw_close, "request %u: a response after one that said close", ex->id);
    REQUIRE(PROPERTY_ORDER, cl->written > ex->start_at || m->status == 408 || m->status == 503,
            "request %u is answered before it was sent", ex->id);
    status = message_field(m, "Proxy-Status");
    ex->by_proxy = (status != NULL && status->value_len > 4 && memcmp(status->value, "sim;", 4) == 0) ||
                   (m->status == 503 && message_field(m, "X-Sim") == NULL); /* the bare one, for want of a buffer */
    if (m->status < 200 && m->status != 101) {
        see_interim(cl, ex, m);
        return;
    }
    ex->client_status = (uint16_t)m->status;
    if (m->status == 101)
        REQUIRE(PROPERTY_UPGRADE, ex->kind == EXCHANGE_UPGRADE && ex->answer.status == 101, "request %u: 101 unasked",
                ex->id);
    if (m->status == 101 || (ex->kind == EXCHANGE_CONNECT && m->status < 300)) enter_tunnel(cl, ex, m);
    else see_final(cl, ex, m);
}

static void see_body(struct client *cl)
{
    struct message *m = &cl->message;
    struct exchange *ex = cl->exchanges[cl->reading];
    uint64_t from = m->body_at - m->body_len;
    if (ex->by_proxy) return;
    for (size_t i = 0; i < m->body_len; i++)
        REQUIRE(PROPERTY_DOWN_CONTENT,
                ((ex->happened & HAPPENED_BAD_CHUNK) != 0 && from + i >= ex->answer.len / 2) ||
                    (from + i < ex->answer.len && m->body[i] == pattern(ex->id * 2 + 1, from + i)),
                "request %u: octet %llu of the response is wrong", ex->id, (unsigned long long)(from + i));
    ex->body_seen = m->body_at;
}

static void see_end(struct client *cl)
{
    struct message *m = &cl->message;
    struct exchange *ex = cl->exchanges[cl->reading];
    trace("client %u: response to request %u is complete", cl->actor.number, ex->id);
    ex->client_complete = true;
    if (!ex->by_proxy) {
        REQUIRE(PROPERTY_TRUNCATION, ex->origin_done, "request %u: looks complete, but the origin has not completed it",
                ex->id);
        if (m->framing != FRAMING_NONE)
            REQUIRE(PROPERTY_TRUNCATION, m->body_at == ex->answer.len, "request %u: complete with %llu of %u octets",
                    ex->id, (unsigned long long)m->body_at, ex->answer.len);
        REQUIRE(PROPERTY_INTERIM, ex->http10 || ex->interims_seen == ex->interims_sent,
                "request %u: interim responses are lost", ex->id);
        REQUIRE(PROPERTY_DOWN_HOP, m->trailer_count <= ex->answer.trailers, "request %u: trailers nobody sent", ex->id);
    }
    cl->saw_close = ex->client_close;
    cl->reading++;
    message_start(m, false);
}

static void take(struct client *cl, const uint8_t *data, size_t len)
{
    size_t used = 0;
    enum message_event e;
    cl->read += len;
    for (;;) {
        if (cl->blind && cl->saw_close) return;
        if (cl->socks && cl->reading == 0) {
            used += socks_take(cl, data + used, len - used);
            if (used == len) return;
            continue;
        }
        if (cl->reading > 0 && cl->exchanges[cl->reading - 1]->up.on) {
            tunnel_take(&cl->exchanges[cl->reading - 1]->up, data + used, len - used, cl->exchanges[cl->reading - 1]);
            return;
        }
        e = message_next(&cl->message, data, len, &used);
        switch (e) {
        case MESSAGE_HEAD:
            see_head(cl);
            break;
        case MESSAGE_BODY:
            see_body(cl);
            break;
        case MESSAGE_END:
            see_end(cl);
            break;
        case MESSAGE_BAD:
            violation(PROPERTY_DOWN_WELL_FORMED, "client %u gets a malformed response: %s", cl->actor.number,
                      cl->message.error);
        case MESSAGE_MORE:
            REQUIRE(PROPERTY_CLOSES, !cl->saw_close || used == len, "client %u: octets behind the last response",
                    cl->actor.number);
            if (used == len) return;
            break;
        }
    }
}

/* ---- What is written ---- */

static void out(struct client *cl, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void out(struct client *cl, const char *format, ...)
{
    struct outbox *o = &cl->outbox;
    va_list args;
    va_start(args, format);
    o->len += (uint32_t)vsnprintf((char *)o->data + o->len, sizeof o->data - o->len, format, args);
    va_end(args);
}

static void out_pattern(struct client *cl, const struct exchange *ex, uint32_t len)
{
    struct outbox *o = &cl->outbox;
    for (uint32_t i = 0; i < len; i++) o->data[o->len++] = pattern(ex->id * 2, cl->body_sent + i);
    cl->body_sent += len;
}

static void end_request(struct client *cl, struct exchange *ex)
{
    ex->written_all = true;
    cl->writing++;
    cl->phase = CLIENT_HEAD;
}

static bool fill_head(struct client *cl)
{
    struct exchange *ex;
    if (cl->writing == cl->count) {
        cl->phase = CLIENT_DONE;
        return false;
    }
    if (cl->reading < cl->writing && !cl->pipelines) return false;
    if (cl->saw_close) return false;
    if (cl->socks) return socks_fill(cl);
    ex = cl->exchanges[cl->writing];
    ex->start_at = cl->written;
    ex->head_end_at = cl->written + ex->head_len;
    memcpy(cl->outbox.data, ex->head, ex->head_len);
    cl->outbox.len = ex->head_len;
    trace("client %u writes request %u: %.60s %s", cl->actor.number, ex->id,
          ex->kind == EXCHANGE_MALFORMED ? ex->head : ex->method, ex->sent_target);
    cl->body_sent = 0;
    if (ex->kind == EXCHANGE_MALFORMED || ex->req_framing == FRAMING_NONE) {
        if (ex->kind == EXCHANGE_CONNECT && ex->early) cl->phase = CLIENT_TUNNEL;
        else if (ex->kind == EXCHANGE_CONNECT || ex->kind == EXCHANGE_UPGRADE) cl->phase = CLIENT_WAIT_SWITCH;
        ex->written_all = true; /* the head is all there is */
        if (cl->phase == CLIENT_HEAD) end_request(cl, ex);
        return true;
    }
    ex->written_all = ex->req_framing == FRAMING_LENGTH && ex->req_len == 0;
    cl->phase = ex->expect ? CLIENT_WAIT_CONTINUE : CLIENT_BODY;
    cl->continue_at = world.now_ms + between(500, 3000);
    return true;
}

static bool fill_body(struct client *cl)
{
    struct exchange *ex = cl->exchanges[cl->writing];
    uint32_t left = ex->req_len - (uint32_t)cl->body_sent, n;
    if (ex->req_framing == FRAMING_LENGTH) {
        n = left < 4096 ? left : 4096;
        out_pattern(cl, ex, n);
        if (n == left) end_request(cl, ex);
        return true;
    }
    if (ex->bad_body && cl->body_sent >= ex->req_len / 2) {
        static const char *const bad[] = {
            "zz\r\nabc\r\n", "0x5\r\nabcde\r\n",      "5\r\nabcdefg\r\n", "-1\r\n", "fffffffffffffffff\r\n",
            "\r\n",          "0\r\nno colon\r\n\r\n", "5\nabcde\r\n"};
        if (one_in(5)) { /* or a trailer section that is too large */
            out(cl, "0\r\n");
            for (unsigned i = 0; i <= MINIPROXY_TRAILER_MAX / 50; i++)
                out(cl, "X-Trail: 0123456789012345678901234567890123456789\r\n");
        } else {
            out(cl, "%s", bad[below(8)]);
        }
        cl->writing = cl->count; /* nothing sensible can follow */
        cl->phase = CLIENT_DONE;
        cl->ending = 2;
        return true;
    }
    if (left == 0) {
        out(cl, "%s\r\n%s\r\n", one_in(3) ? "000;last" : "0",
            ex->req_trailers ? "X-Trail: t\r\nContent-Length: 9\r\nX-Trail: u\r\n" : "");
        end_request(cl, ex);
        return true;
    }
    n = 1 + spread(ex->req_chunk_max - 1);
    if (n > left) n = left;
    out(cl, one_in(2) ? "%x%s\r\n" : "0%X%s\r\n", n,
        ex->extensions < 10 && one_in(12) ? (ex->extensions++, ";a=\"b;\\\"\"") : "");
    out_pattern(cl, ex, n);
    out(cl, "\r\n");
    return true;
}

static bool fill(struct client *cl)
{
    struct exchange *ex = cl->writing < cl->count ? cl->exchanges[cl->writing] : NULL;
    cl->outbox.at = cl->outbox.len = 0;
    switch (cl->phase) {
    case CLIENT_HEAD:
        return fill_head(cl);
    case CLIENT_WAIT_CONTINUE:
        if (ex->interims_seen == 0 && ex->client_status == 0 && world.now_ms < cl->continue_at) {
            step_after(&cl->actor, cl->continue_at - world.now_ms);
            return false;
        }
        cl->phase = CLIENT_BODY;
        return fill_body(cl);
    case CLIENT_BODY:
        return fill_body(cl);
    case CLIENT_WAIT_SWITCH:
        if (cl->reading <= cl->writing) return false;
        end_request(cl, ex);
        return fill_head(cl);
    default:
        return false;
    }
}

/* ---- Steps ---- */

static void leave(struct client *cl, bool reset)
{
    if (reset) peer_reset(cl->conn);
    else peer_leave(cl->conn);
    cl->over = true;
}

/* The stream has come to the octet where the plan has trouble. True: nothing more now. */
static bool meet_trouble(struct client *cl)
{
    struct trouble *t = &cl->trouble;
    uint64_t at_octet = t->reading ? cl->read : cl->written;
    if (t->kind == TROUBLE_NONE || t->done || at_octet < t->at) return false;
    trace("client %u: trouble %u while %s", cl->actor.number, t->kind, t->reading ? "reading" : "writing");
    t->done = true;
    switch (t->kind) {
    case TROUBLE_PAUSE:
        if (t->reading) cl->next_read_at = world.now_ms + t->ms;
        else cl->next_write_at = world.now_ms + t->ms;
        return true;
    case TROUBLE_STALL:
        if (t->reading) cl->deaf = true;
        else cl->stopped_writing = true;
        cl->happened |= t->reading ? (uint32_t)CLIENT_STOPS_READING : 0u;
        return true;
    case TROUBLE_RESET:
        cl->happened |= CLIENT_ABORTED;
        leave(cl, true);
        return true;
    default:
        cl->happened |= CLIENT_FIN;
        cl->stopped_writing = cl->fin_sent = true;
        peer_fin(cl->conn);
        return true;
    }
}

static uint64_t until_trouble(const struct client *cl, bool reading, uint64_t n)
{
    const struct trouble *t = &cl->trouble;
    uint64_t at_octet = reading ? cl->read : cl->written;
    if (t->kind == TROUBLE_NONE || t->done || t->reading != reading || t->at < at_octet) return n;
    return n < t->at - at_octet ? n : t->at - at_octet;
}

static void step_read(struct client *cl)
{
    static uint8_t data[OUTBOX_MAX];
    size_t n, budget;
    if (cl->deaf) return;
    if (world.now_ms < cl->next_read_at) {
        step_after(&cl->actor, cl->next_read_at - world.now_ms);
        return;
    }
    if (cl->trouble.reading && meet_trouble(cl)) {
        if (!cl->over && !cl->deaf)
            step_after(&cl->actor, cl->next_read_at > world.now_ms ? cl->next_read_at - world.now_ms : 0);
        return;
    }
    budget = (size_t)until_trouble(cl, true, cl->read_burst);
    n = peer_read(cl->conn, data, budget);
    if (n == 0) return;
    trace("client %u reads %zu", cl->actor.number, n);
    take(cl, data, n);
    cl->next_read_at = world.now_ms + (cl->read_burst < OUTBOX_MAX ? cl->read_gap_ms : 0);
    step_after(&cl->actor, cl->next_read_at - world.now_ms);
}

static void step_write(struct client *cl)
{
    struct outbox *o = &cl->outbox;
    uint64_t n;
    size_t taken;
    bool paced = cl->burst < OUTBOX_MAX;
    if (cl->stopped_writing || cl->over) return;
    if (world.now_ms < cl->next_write_at) {
        step_after(&cl->actor, cl->next_write_at - world.now_ms);
        return;
    }
    for (;;) {
        if (!cl->trouble.reading && meet_trouble(cl)) {
            if (!cl->over && !cl->stopped_writing) step_after(&cl->actor, cl->next_write_at - world.now_ms);
            return;
        }
        if (o->at == o->len && !fill(cl)) break;
        n = until_trouble(cl, false, o->len - o->at < cl->burst ? o->len - o->at : cl->burst);
        taken = peer_write(cl->conn, o->data + o->at, (size_t)n);
        o->at += (uint32_t)taken;
        cl->written += taken;
        if (taken == 0 && o->at < o->len && n > 0) return;
        if (paced && taken > 0) {
            cl->next_write_at = world.now_ms + cl->gap_ms;
            step_after(&cl->actor, cl->gap_ms);
            return;
        }
    }
    if (cl->phase == CLIENT_TUNNEL) {
        struct exchange *ex = cl->exchanges[cl->writing];
        uint64_t sent = ex->up.sent;
        bool more = tunnel_step(&ex->up, cl->conn, (uint32_t)until_trouble(cl, false, cl->burst), ex);
        cl->written += ex->up.sent - sent;
        if (paced) cl->next_write_at = world.now_ms + cl->gap_ms;
        if (more) step_after(&cl->actor, paced ? cl->gap_ms : 0);
    }
}

/* What to do when there is nothing to read or write. */
static void step_end(struct client *cl)
{
    struct exchange *last = cl->reading > 0 ? cl->exchanges[cl->reading - 1] : NULL;
    bool tunnel = last != NULL && last->up.on;
    if (cl->over) return;
    if (peer_was_reset(cl->conn)) {
        trace("client %u: reset", cl->actor.number);
        cl->saw_reset = cl->over = true;
        return;
    }
    if (peer_eof(cl->conn) && !cl->deaf && !cl->saw_eof) {
        trace("client %u: EOF", cl->actor.number);
        cl->saw_eof = true;
        if (tunnel) last->up.eof = true;
        else if (cl->message.framing == FRAMING_EOF && cl->message.head_len > 0 && cl->message.state != 0) see_end(cl);
        if (tunnel) step_after(&cl->actor, 0);
        else leave(cl, false);
        return;
    }
    if (tunnel) {
        if (last->up.eof && (last->up.fin_sent || last->up.kind == TUNNEL_SILENT)) leave(cl, false);
        return;
    }
    if (cl->saw_close && cl->stops_at_close) cl->stopped_writing = true;
    if (cl->phase != CLIENT_DONE || cl->outbox.at < cl->outbox.len || cl->fin_sent || cl->stopped_writing) return;
    if (cl->ending == 0) {
        cl->fin_sent = true;
        peer_fin(cl->conn);
    } else if (cl->ending == 1 && cl->reading == cl->count) {
        leave(cl, false);
    }
}

static void client_step(struct actor *a)
{
    struct client *cl = &world.clients[a->number];
    if (cl->conn == NULL) return;
    secure_step(cl->conn);
    if (cl->over) return;
    step_read(cl);
    step_write(cl);
    step_end(cl);
}

void client_start(struct client *cl)
{
    trace("client %u connects from 10.0.0.%u", cl->actor.number, cl->addr.ip[3]);
    cl->actor.step = client_step;
    cl->started = true;
    cl->conn = conn_new(true);
    cl->conn->peer = &cl->actor;
    cl->conn->state = CONN_QUEUED;
    secure_start_client(cl);
    message_start(&cl->message, false);
    world.queue[world.queue_len++] = cl->actor.number;
    if ((world.accept_wanted || world.mood.edge_wakes) && !world.accept_wake_due) {
        world.accept_wake_due = true;
        after(below(world.mood.wake_delay_ms + 1), EVENT_WAKE_ACCEPT, 0, 0);
    }
    step_after(&cl->actor, 0);
}

/* SPDX-License-Identifier: MIT */
/* Clients that speak SOCKS5 with the proxy: what they write, and what may be said to them. */
#include "sim.h"

#include <string.h>

enum { WRITES_METHODS, WRITES_LOGIN, WRITES_REQUEST, WRITES_NOTHING }; /* socks_write; NOTHING: it waits for an answer */
enum { TOLD_METHOD, TOLD_LOGIN, TOLD_RESULT };                         /* socks_read */
enum { NO_CODE = 255 };                                                /* refused without one */

/* ---- What is written ---- */

static void put_octets(struct outbox *o, const void *octets, size_t len)
{
    memcpy(o->data + o->len, octets, len);
    o->len += (uint32_t)len;
}

/* The request: numbers as numbers, or as text, which is a name that looks like one. */
void socks_put(struct exchange *ex)
{
    uint8_t *w = (uint8_t *)ex->head;
    size_t len = strlen(ex->sent_target);
    const struct miniproxy_addr *a = ex->literal != NULL ? &ex->literal->addr : NULL;
    while (ex->sent_target[len - 1] != ':') len--;
    len--; /* of the host */
    memcpy(w, (const uint8_t[]){5, 1, 0}, 3);
    w += 3;
    if (a != NULL && !one_in(4)) {
        *w++ = a->family == 4 ? 1 : 4;
        memcpy(w, a->ip, a->family == 4 ? 4 : 16);
        w += a->family == 4 ? 4 : 16;
    } else {
        *w++ = 3;
        *w++ = (uint8_t)len;
        memcpy(w, ex->sent_target, len);
        w += len;
    }
    *w++ = (uint8_t)(ex->port >> 8);
    *w++ = (uint8_t)ex->port;
    ex->head_len = (uint32_t)(w - (uint8_t *)ex->head);
}

static void put_login(struct client *cl, const struct exchange *ex)
{
    static const char *const texts[][2] = {
        {"kiosk", "wrong"}, {"nobody", "x"}, {"admin", "a"}, {"badge", ""}, {"kiosk:secret", ""}, {"", "secret"},
        {"kiosk", "secret\n"}};
    const char *name = "kiosk", *password = "secret";
    uint8_t len;
    if (ex->login != LOGIN_GOOD) {
        unsigned i = below(7);
        name = texts[i][0];
        password = texts[i][1];
    }
    put_octets(&cl->outbox, "\1", 1);
    len = (uint8_t)strlen(name);
    put_octets(&cl->outbox, &len, 1);
    put_octets(&cl->outbox, name, len);
    len = (uint8_t)strlen(password);
    put_octets(&cl->outbox, &len, 1);
    put_octets(&cl->outbox, password, len);
}

static void put_request(struct client *cl, struct exchange *ex)
{
    put_octets(&cl->outbox, ex->head, ex->head_len);
    ex->written_all = true;
    cl->socks_write = WRITES_NOTHING;
    cl->phase = ex->early ? CLIENT_TUNNEL : CLIENT_WAIT_SWITCH;
}

bool socks_fill(struct client *cl)
{
    struct exchange *ex = cl->exchanges[0];
    bool login = ex->login != LOGIN_NONE;
    switch (cl->socks_write) {
    case WRITES_METHODS:
        trace("client %u speaks SOCKS5: request %u, %s", cl->actor.number, ex->id, ex->sent_target);
        put_octets(&cl->outbox, login ? "\5\3\1\0\2" : "\5\2\3\0", login ? 5 : 4);
        ex->start_at = 0;
        ex->head_end_at = cl->outbox.len;
        cl->socks_write = WRITES_NOTHING;
        if (!login && cl->pipelines) put_request(cl, ex); /* it knows what it will be told */
        return true;
    case WRITES_LOGIN:
        put_login(cl, ex);
        if (ex->policy_count == 0) ex->policies[ex->policy_count++] = world.policy;
        if (MINIPROXY_WITH_PBKDF2) world.login_failures[cl->addr.ip[3]]++; /* it may become one */
        cl->socks_write = WRITES_NOTHING;
        return true;
    case WRITES_REQUEST:
        put_request(cl, ex);
        return true;
    default:
        return false;
    }
}

/* ---- What comes back ---- */

static void refused(struct client *cl, uint8_t code)
{
    struct exchange *ex = cl->exchanges[0];
    trace("client %u: refused by SOCKS5, code %u", cl->actor.number, code);
    cl->socks_code = code;
    cl->saw_close = true;
    cl->reading++;
    cl->writing = cl->count;
    cl->phase = CLIENT_DONE;
    ex->by_proxy = ex->client_complete = true;
    ex->client_status = 1;
}

static void see_method(struct client *cl, uint8_t method)
{
    struct exchange *ex = cl->exchanges[0];
    REQUIRE(PROPERTY_SOCKS, method == 0 || method == 255 || (method == 2 && ex->login != LOGIN_NONE),
            "request %u: method %u was not offered", ex->id, method);
    cl->socks_read = method == 2 ? TOLD_LOGIN : TOLD_RESULT;
    if (method == 255) refused(cl, NO_CODE);
    else if (method == 2) cl->socks_write = WRITES_LOGIN;
    else if (ex->written_all) return; /* it has not waited */
    else cl->socks_write = WRITES_REQUEST;
    if (method == 0) ex->login = LOGIN_NONE; /* nobody wants one */
}

static void see_login(struct client *cl, uint8_t status)
{
    cl->socks_read = TOLD_RESULT;
    if (status == 0) cl->socks_write = WRITES_REQUEST;
    else refused(cl, NO_CODE);
}

static void see_result(struct client *cl)
{
    struct exchange *ex = cl->exchanges[0];
    const uint8_t *a = cl->socks_answer;
    REQUIRE(PROPERTY_SOCKS, a[2] == 0 && a[3] == 1 && a[1] <= 8, "request %u: a malformed answer", ex->id);
    if (a[1] != 0) {
        refused(cl, a[1]);
        return;
    }
    REQUIRE(PROPERTY_TUNNEL, ex->connected, "request %u: a tunnel without a connection", ex->id);
    ex->client_status = 200;
    client_tunnel(cl);
}

/* How many of the octets are an answer. */
size_t socks_take(struct client *cl, const uint8_t *data, size_t len)
{
    size_t used = 0;
    while (used < len && cl->reading == 0) {
        size_t whole = cl->socks_read == TOLD_RESULT ? 10 : 2;
        cl->socks_answer[cl->socks_len++] = data[used++];
        if (cl->socks_read == TOLD_METHOD && cl->socks_answer[0] == 'H') { /* 503 before it was known what it speaks */
            refused(cl, NO_CODE);
            cl->blind = true;
            return len;
        }
        REQUIRE(PROPERTY_SOCKS, cl->socks_answer[0] == (cl->socks_read == TOLD_LOGIN ? 1 : 5),
                "client %u: %u instead of a version", cl->actor.number, cl->socks_answer[0]);
        if (cl->socks_len < whole) continue;
        cl->socks_len = 0;
        if (cl->socks_read == TOLD_METHOD) see_method(cl, cl->socks_answer[1]);
        else if (cl->socks_read == TOLD_LOGIN) see_login(cl, cl->socks_answer[1]);
        else see_result(cl);
    }
    return used;
}

/* ---- What must be true ---- */

void socks_check_event(const struct exchange *ex, const struct miniproxy_event *e)
{
#if MINIPROXY_WITH_SOCKS5
    REQUIRE(PROPERTY_SOCKS, !e->socks || ex->client->socks, "request %u: SOCKS5 that nobody speaks", ex->id);
    REQUIRE(PROPERTY_SOCKS, e->socks || !ex->client->socks || e->bytes_up == 0, "request %u was not taken for SOCKS5",
            ex->id);
#else
    (void)ex, (void)e;
#endif
}

static uint8_t code_of(uint8_t cause)
{
    switch (cause) {
    case MINIPROXY_CAUSE_POLICY:
    case MINIPROXY_CAUSE_CONNECT_PORT:
    case MINIPROXY_CAUSE_ADDRESS:
    case MINIPROXY_CAUSE_LOGIN_MISSING: return 2;
    case MINIPROXY_CAUSE_UNREACHABLE: return 3;
    case MINIPROXY_CAUSE_DNS_NAME:
    case MINIPROXY_CAUSE_DNS_FAILED: return 4;
    case MINIPROXY_CAUSE_REFUSED: return 5;
    case MINIPROXY_CAUSE_DNS_TIMEOUT:
    case MINIPROXY_CAUSE_CONNECT_TIMEOUT:
    case MINIPROXY_CAUSE_TOTAL_TIMEOUT: return 6;
    default: return 1;
    }
}

void socks_check_end(const struct exchange *ex)
{
    const struct client *cl = ex->client;
    if (!cl->socks || !ex->by_proxy) return;
    REQUIRE(PROPERTY_SOCKS, ex->evented && ex->event_status >= 400 && ex->event_source == MINIPROXY_BY_PROXY,
            "request %u is refused, the event says %u", ex->id, ex->event_status);
    REQUIRE(PROPERTY_SOCKS, cl->socks_code == NO_CODE || cl->socks_code == code_of(ex->event_cause),
            "request %u: code %u for cause %u", ex->id, cl->socks_code, ex->event_cause);
}

/* SPDX-License-Identifier: MIT */
/* TLS: the port of it between the core and the simulated port, and clients' and origins' own between them and their
 * links. So whatever happens on the network happens to records and handshakes, and what is checked is checked on what
 * is inside. */
#define below below_random /* the port has a function of that name */
#include "sim.h"
#undef below

#if MINIPROXY_WITH_TLS

#ifndef SIM_TLS_PORT
#define SIM_TLS_PORT "../../port/miniproxy_tls.c"
#endif
#include SIM_TLS_PORT

#include "papers.h"

#include <stdlib.h>
#include <strings.h>
#include <time.h>

enum {
    PAPERS_HEAP = 6 << 20,
    PEERS_HEAP = 64 << 10,
    PEER_HEAP = 160 << 10,
    QUEUE_MAX = 24 << 10,
    HANDSHAKE_OCTETS = 6000,
    CLOCK_BEGINS_S = 1800000000, /* in 2027 */
    TICKET_MS = 86400000
};

/* What a client shows for itself. */
enum proof { PROOF_NONE, PROOF_CERTIFICATE, PROOF_SECRET, PROOF_BAD_SECRET, PROOF_NO_SECRET };

/* What the proxy wants to know of its clients. Only where it wants nothing are there tickets. */
enum wish { WISH_NOTHING, WISH_SECRET, WISH_CERTIFICATE };

/* What it does about https. */
enum outbound { OUT_TRUSTS_ROOT, OUT_TRUSTS_NOBODY, OUT_NOT_AT_ALL };

/* How a peer says that it has nothing more to say. */
enum farewell { FAREWELL_BOTH, FAREWELL_NOTIFY, FAREWELL_FIN };

struct secure {
    mbedtls_ssl_context ssl;
    mbedtls_ssl_config config;
    struct conn *v;
    struct client *client; /* NULL: an origin's */
    struct miniproxy_tls_region region;
    struct trouble trouble; /* at an octet on the wire */
    uint64_t sent, got;     /* on the wire */
    uint64_t ticket_ms;     /* when the last ticket was made for it, */
    uint64_t offered_ms;    /* and the one that it offers; 0: none */
    unsigned char *queue;   /* written by mbedTLS, not taken by the network: a client that waited for that would read
                             * nothing either (a ticket makes it) */
    size_t queue_at, queue_len;
    uint32_t record_max;
    size_t offered;      /* octets of a send by the core that could not be done, */
    uint32_t offered_sum; /* and what they were */
    uint8_t farewell, version, proof, flaw; /* of a client's certificate */
    uint8_t fault;                          /* of an origin */
    const char *name;                       /* that a client proves, or NULL */
    bool used, done, broken, ended, notified, wants_fin, wants_leave, left, mute, deaf, turned_away, failed, late;
};

/* The last session that could be resumed: of TLS 1.2, of TLS 1.3. */
struct ticket {
    mbedtls_ssl_session session;
    uint64_t made_ms; /* 0: none */
};

static struct secure secures[CLIENTS_MAX], origin_secures[CONNS_MAX]; /* the latter by connection */
static struct miniproxy_tls tls, peers, papers; /* of the last two only memory and randomness */
static uint64_t papers_heap[PAPERS_HEAP / 8], peers_heap[PEERS_HEAP / 8];
static struct ticket tickets[2];
static mbedtls_ssl_ticket_context origin_tickets;
static uint64_t random_state; /* apart from the world's: what mbedTLS asks for must not change what happens else */
static uint64_t ahead_s;      /* of the clock of certificates and tickets: a simulated day has few events */
static uint8_t wish, outbound;
static const uint8_t psk_key[16] = "sixteen octets.", wrong_key[16] = "sixteen others.";
static const struct miniproxy_tls_psk psks[] = {{"kiosk", psk_key, sizeof psk_key}, {"badge", psk_key, sizeof psk_key}};
static const int8_t result_of_fault[] = {
    [FLAW_NAME] = MINIPROXY_ETLS_NAME,       [FLAW_EXPIRED] = MINIPROXY_ETLS_EXPIRED,
    [FLAW_FUTURE] = MINIPROXY_ETLS_EXPIRED,  [FLAW_SELF_SIGNED] = MINIPROXY_ETLS_SELF_SIGNED,
    [FLAW_ISSUER] = MINIPROXY_ETLS_ISSUER,   [FLAW_PURPOSE] = MINIPROXY_ETLS_CERTIFICATE,
    [FAULT_ALERT] = MINIPROXY_ETLS_ALERT,    [FAULT_PLAIN] = MINIPROXY_ETLS_PROTOCOL,
    [FAULT_EMPTY] = MINIPROXY_ERESET,
};

/* ---- What mbedTLS runs on ---- */

int miniproxy_tls_entropy(void *out, size_t len)
{
    for (unsigned char *p = out; len-- > 0; p++) {
        random_state = random_state * 6364136223846793005u + 1442695040888963407u;
        *p = (unsigned char)(random_state >> 56);
    }
    return 0;
}

static int peer_random(void *context, unsigned char *out, size_t len)
{
    (void)context;
    return miniproxy_tls_entropy(out, len);
}

/* The linker puts these in place of the real ones: a handshake tells the time, and its signatures differ in length by
 * it. */
static uint64_t clock_ms(void)
{
    return (CLOCK_BEGINS_S + ahead_s) * 1000 + world.now_ms;
}

time_t __wrap_time(time_t *t);
time_t __wrap_time(time_t *t)
{
    time_t now = (time_t)(clock_ms() / 1000);
    if (t != NULL) *t = now;
    return now;
}

mbedtls_ms_time_t __wrap_mbedtls_ms_time(void);
mbedtls_ms_time_t __wrap_mbedtls_ms_time(void)
{
    return (mbedtls_ms_time_t)clock_ms();
}

/* What they have in common, */
static void enter_peers(void)
{
    enter(&peers, &peers.keys[0].region);
}

/* and what is one's own: many that look for room in the same memory would look for long. */
static void enter_peer(struct secure *s)
{
    enter(&peers, &s->region);
}

static void must(int error, const char *what)
{
    if (error != 0) violation(PROPERTY_ASSERTION, "mbedTLS: %s fails with -0x%04x", what, (unsigned)-error);
}

/* Once in a process, and always the same. */
static void enter_papers(void)
{
    bool first = papers.keys[0].region.memory == NULL;
    if (first) region_start(&papers.keys[0].region, papers_heap, sizeof papers_heap);
    enter(&papers, &papers.keys[0].region);
    if (first) papers_make();
}

static void show(struct secure *s, const char *name, enum secure_fault flaw)
{
    mbedtls_x509_crt *crt;
    enter_papers();
    crt = papers_of(name, s->client != NULL, flaw);
    enter_peer(s);
    must(mbedtls_ssl_conf_own_cert(&s->config, crt, &papers_key), "own certificate");
}

static void begin_config(struct secure *s, int endpoint)
{
    mbedtls_ssl_config *c = &s->config;
    uint64_t *memory = malloc(PEER_HEAP);
    if (memory == NULL) abort();
    region_start(&s->region, memory, PEER_HEAP);
    enter_peer(s);
    mbedtls_ssl_config_init(c);
    must(mbedtls_ssl_config_defaults(c, endpoint, MBEDTLS_SSL_TRANSPORT_STREAM, MBEDTLS_SSL_PRESET_DEFAULT),
         "configuration");
    mbedtls_ssl_conf_rng(c, peer_random, NULL);
    s->version = (uint8_t)between(2, 3);
    if (s->version == 2) mbedtls_ssl_conf_max_tls_version(c, MBEDTLS_SSL_VERSION_TLS1_2);
}

/* ---- Who a client is ---- */

static void prove_by_secret(struct secure *s)
{
    static const int suites_of_secrets[] = {MBEDTLS_TLS_PSK_WITH_AES_128_GCM_SHA256, 0};
    const char *name = s->proof == PROOF_NO_SECRET ? "nobody" : one_in(4) ? "kiosk" : "badge";
    mbedtls_ssl_conf_max_tls_version(&s->config, MBEDTLS_SSL_VERSION_TLS1_2);
    mbedtls_ssl_conf_ciphersuites(&s->config, suites_of_secrets);
    must(mbedtls_ssl_conf_psk(&s->config, s->proof == PROOF_BAD_SECRET ? wrong_key : psk_key, sizeof psk_key,
                              (const unsigned char *)name, strlen(name)), "shared key");
    if (s->proof == PROOF_SECRET) s->name = name;
}

static void prove_by_certificate(struct secure *s)
{
    static const char *const names[] = {"badge", "badge", "badge", "kiosk", "stranger"};
    const char *name = names[between(0, 4)];
    s->flaw = (uint8_t)(one_in(5) ? between(FLAW_EXPIRED, FLAW_PURPOSE) : FLAW_NONE);
    show(s, name, (enum secure_fault)s->flaw);
    if (s->flaw == FLAW_NONE) s->name = name;
}

static void choose_proof(struct secure *s)
{
    if (s->client->listener != LISTENER_TLS || wish == WISH_NOTHING) return;
    if (one_in(3)) s->proof = PROOF_SECRET;
    else if (wish == WISH_CERTIFICATE && !one_in(10)) s->proof = PROOF_CERTIFICATE;
    if (one_in(16)) s->proof = (uint8_t)between(PROOF_BAD_SECRET, PROOF_NO_SECRET);
    if (s->proof == PROOF_CERTIFICATE) prove_by_certificate(s);
    else if (s->proof != PROOF_NONE) prove_by_secret(s);
}

/* What the handshake of a client ends with that does not prove what it is asked for, or OK. */
static int result_of_proof(const struct secure *s)
{
    switch (s->proof) {
    case PROOF_NONE: return wish == WISH_CERTIFICATE ? MINIPROXY_ETLS_CERTIFICATE : MINIPROXY_OK;
    case PROOF_CERTIFICATE:
        return s->flaw == FLAW_NONE ? MINIPROXY_OK : result_of_fault[s->flaw];
    case PROOF_BAD_SECRET:
    case PROOF_NO_SECRET: return MINIPROXY_ETLS_PROTOCOL;
    default: return MINIPROXY_OK;
    }
}

const char *secure_name(const struct client *cl)
{
    return secures[cl->actor.number].name;
}

static void tally_bad_proof(const struct secure *s)
{
    tally(s->proof == PROOF_BAD_SECRET    ? TALLY_BAD_SECRET
          : s->proof == PROOF_NO_SECRET   ? TALLY_NO_SECRET
          : s->proof == PROOF_CERTIFICATE ? TALLY_BAD_CERTIFICATE
                                          : TALLY_NO_CERTIFICATE);
}

/* ---- Tickets ---- */

static void offer_ticket(struct secure *s)
{
    struct ticket *t = &tickets[s->version - 2];
    if (s->client->listener != LISTENER_TLS || t->made_ms == 0 || one_in(4)) return;
    must(mbedtls_ssl_set_session(&s->ssl, &t->session), "session");
    s->offered_ms = t->made_ms;
}

static void keep_ticket(struct secure *s)
{
    struct ticket *t = &tickets[s->version - 2];
    if (s->ticket_ms == 0) return;
    enter_peers();
    mbedtls_ssl_session_free(&t->session);
    mbedtls_ssl_session_init(&t->session);
    must(mbedtls_ssl_get_session(&s->ssl, &t->session), "session");
    t->made_ms = s->ticket_ms;
    enter_peer(s);
}

/* The client whose handshake the port is in. */
static struct secure *handshaking(void)
{
    struct miniproxy_tls_session *session = (struct miniproxy_tls_session *)(void *)
        ((unsigned char *)region_now - offsetof(struct miniproxy_tls_session, region));
    return world.conns[session->conn->handle - 1]->secure;
}

static int seen_write(void *context, const mbedtls_ssl_session *session, unsigned char *begin, const unsigned char *end,
                      size_t *len, uint32_t *lifetime)
{
    handshaking()->ticket_ms = clock_ms();
    return write_ticket(context, session, begin, end, len, lifetime);
}

static int seen_parse(void *context, mbedtls_ssl_session *session, unsigned char *data, size_t len)
{
    struct secure *s = handshaking();
    const mbedtls_ssl_ticket_context *own = &tls.keys[0].tickets;
    const mbedtls_ssl_ticket_key *key;
    unsigned char name[4];
    bool fresh = clock_ms() - s->offered_ms <= TICKET_MS;
    int result;
    memcpy(name, data, sizeof name);
    result = parse_ticket(context, session, data, len);
    if (s->trouble.kind == TROUBLE_DAMAGE && s->trouble.done) return result;
    trace("client %u: a ticket, %llu ms old: -0x%04x", s->client->actor.number,
          (unsigned long long)(clock_ms() - s->offered_ms), (unsigned)-result);
    REQUIRE(PROPERTY_PROOF, s->offered_ms != 0 && (result == 0) == fresh, "client %u: a ticket is %s (-0x%04x)",
            s->client->actor.number, result == 0 ? "taken" : "not taken", (unsigned)-result);
    key = &own->MBEDTLS_PRIVATE(keys)[own->MBEDTLS_PRIVATE(active)];
    if (result != 0) tally(TALLY_OLD_TICKET);
    else tally(s->version == 2 ? TALLY_RESUMED_12 : TALLY_RESUMED_13);
    if (result == 0 && memcmp(key->MBEDTLS_PRIVATE(name), name, sizeof name) != 0) tally(TALLY_OLD_KEY);
    return result;
}

/* A world that a violation broke off has left memory in use, which nobody knows of any more. */
static void keep_memory(void *p)
{
    (void)p;
}

/* ---- Events of the port ---- */

static struct secure *secure_at(const struct miniproxy_addr *a)
{
    for (unsigned i = 0; i < world.client_count; i++)
        if (world.clients[i].addr.port == a->port) return world.clients[i].conn == NULL ? NULL : &secures[i];
    return NULL;
}

/* A handshake takes time on a slow network. */
static bool may_take(uint32_t limit_ms)
{
    uint32_t octet_ms = world.mood.latency_ms + world.mood.wake_delay_ms + 1, octets = HANDSHAKE_OCTETS;
    if (!world.mood.small) octets /= 20;
    return octets * octet_ms > limit_ms;
}

static bool is_damaged(const struct secure *s)
{
    return s->trouble.kind == TROUBLE_DAMAGE && s->trouble.done;
}

/* The core gives up a connection that is in its handshake, for whatever reason; its time in one that is up is another. */
static bool gives_up;

static bool excuses_core(const struct miniproxy_tls_event *e, bool late)
{
    return gives_up && e->error == 0 && (e->result == MINIPROXY_ERESET || (e->result == MINIPROXY_ETLS_TIMEOUT && late));
}

/* Why may a client's handshake have failed? */
static bool excuses_client(const struct secure *s, int result)
{
    const struct client *cl = s->client;
    if (cl->speaks_tls && result_of_proof(s) == result) return true;
    switch (result) {
    case MINIPROXY_ERESET:
        return (cl->happened & (CLIENT_ABORTED | CLIENT_FIN | CLIENT_FAULT)) != 0;
    case MINIPROXY_ETLS_TIMEOUT:
        return (cl->happened & (CLIENT_SLOW | CLIENT_FIN | CLIENT_STOPS_READING)) != 0 ||
               may_take(tls.config.handshake_ms);
    case MINIPROXY_ETLS_PROTOCOL:
        if (!cl->speaks_tls && cl->exchanges[0]->kind == EXCHANGE_MALFORMED) return true; /* begins with no letter */
        return is_damaged(s);
    case MINIPROXY_ETLS_EXPIRED:
    case MINIPROXY_ETLS_SELF_SIGNED:
    case MINIPROXY_ETLS_ISSUER:
    case MINIPROXY_ETLS_CERTIFICATE:
    case MINIPROXY_ETLS_ALERT:
        return is_damaged(s);
    default: /* an injected error */
        return (cl->happened & CLIENT_FAULT) != 0;
    }
}

/* And an origin's? */
static bool excuses_origin(const struct secure *s, int result)
{
    const struct trouble *t = &s->trouble;
    if (s->fault != FLAW_NONE && result == result_of_fault[s->fault]) return true;
    if (is_damaged(s) && (result <= MINIPROXY_ETLS_NAME || result == MINIPROXY_ERESET)) return true;
    if ((s->v->exchange->happened & HAPPENED_FAULT) != 0 &&
        (result == world.mood.fail_with || result == MINIPROXY_ERESET)) return true;
    if (result == MINIPROXY_ERESET) return t->done && (t->kind == TROUBLE_RESET || t->kind == TROUBLE_FIN);
    return result == MINIPROXY_ETLS_TIMEOUT && (s->late || may_take(tls.config.handshake_ms));
}

static struct conn *conn_of(const struct miniproxy_conn *c)
{
    return world.conns[c->handle - 1];
}

static void tally_failure(const struct secure *s, int result)
{
    static const enum tally tallies[] = {
        [FLAW_NAME] = TALLY_NAME,         [FLAW_EXPIRED] = TALLY_EXPIRED, [FLAW_FUTURE] = TALLY_FUTURE,
        [FLAW_SELF_SIGNED] = TALLY_SELF_SIGNED, [FLAW_ISSUER] = TALLY_ISSUER,   [FLAW_PURPOSE] = TALLY_PURPOSE,
        [FAULT_ALERT] = TALLY_ALERT,      [FAULT_PLAIN] = TALLY_PLAIN,    [FAULT_EMPTY] = TALLY_EMPTY,
    };
    if (result == MINIPROXY_ETLS_TIMEOUT) tally(TALLY_LATE);
    else if (s->fault != FLAW_NONE && result == result_of_fault[s->fault]) tally(tallies[s->fault]);
    else if (s->trouble.done) tally(TALLY_BROKEN);
}

static void on_origin_event(const struct miniproxy_tls_event *e)
{
    struct conn *v = conn_of(tls.sessions[tls.session_of[e->conn] - 1].conn);
    struct secure *s = v->secure;
    struct exchange *ex = v->exchange;
    char text[MINIPROXY_ADDR_TEXT];
    trace("event of TLS, origin of request %u: %u, result %d, error -0x%04x, alert %d, %s", ex->id, e->what, e->result,
          (unsigned)-e->error, e->alert, e->version != NULL ? e->version : "-");
    if (ex->host == NULL) miniproxy_addr_format(&ex->literal->addr, text);
    REQUIRE(PROPERTY_EVENTS, s != NULL && strcasecmp(e->host, ex->host != NULL ? ex->host->name : text) == 0,
            "request %u: an event of TLS for %s", ex->id, e->host);
    REQUIRE(PROPERTY_EVENTS, e->what == MINIPROXY_TLS_DONE || e->what == MINIPROXY_TLS_FAILED,
            "request %u: the origin's TLS is %u", ex->id, e->what);
    if (e->what == MINIPROXY_TLS_DONE) {
        REQUIRE(PROPERTY_SECURE, s->fault == FLAW_NONE, "request %u: an origin with fault %u is accepted", ex->id,
                s->fault);
        return;
    }
    REQUIRE(PROPERTY_CAUSE,
            excuses_origin(s, e->result) || excuses_core(e, may_take(world.timeout_ms[MINIPROXY_TIMEOUT_CONNECT])),
            "request %u: the handshake with its origin fails (%d, -0x%04x, fault %u)", ex->id, e->result,
            (unsigned)-e->error, s->fault);
    s->failed = true;
    ex->tls_results |= 1u << -e->result;
    tally_failure(s, e->result);
}

static void on_client_event(const struct miniproxy_tls_event *e)
{
    struct secure *s = secure_at(e->peer);
    const struct client *cl = s != NULL ? &world.clients[s - secures] : NULL;
    REQUIRE(PROPERTY_EVENTS, s != NULL, "an event of TLS for an unknown client");
    trace("event of TLS, client %u: %u, result %d, error -0x%04x, alert %d, %s", cl->actor.number, e->what, e->result,
          (unsigned)-e->error, e->alert, e->version != NULL ? e->version : "-");
    REQUIRE(PROPERTY_EVENTS, cl->listener == LISTENER_TLS, "client %u does not use TLS", cl->actor.number);
    switch (e->what) {
    case MINIPROXY_TLS_DONE:
        REQUIRE(PROPERTY_EVENTS, cl->speaks_tls && e->version != NULL, "client %u: no TLS", cl->actor.number);
        REQUIRE(PROPERTY_PROOF, result_of_proof(s) == MINIPROXY_OK, "client %u is accepted without proof",
                cl->actor.number);
        break;
    case MINIPROXY_TLS_FULL:
        REQUIRE(PROPERTY_BUSY, miniproxy_tls_active(&tls) == MINIPROXY_TLS_SESSIONS, "client %u is turned away",
                cl->actor.number);
        s->turned_away = true;
        break;
    case MINIPROXY_TLS_PLAIN:
        REQUIRE(PROPERTY_EVENTS, !cl->speaks_tls, "client %u speaks TLS", cl->actor.number);
        break;
    case MINIPROXY_TLS_FAILED:
        REQUIRE(PROPERTY_CAUSE,
                excuses_client(s, e->result) || excuses_core(e, may_take(world.timeout_ms[MINIPROXY_TIMEOUT_HEAD])),
                "client %u: a handshake fails (%d, -0x%04x)",
                cl->actor.number, e->result, (unsigned)-e->error);
        s->failed = s->failed || !gives_up;
        if (cl->speaks_tls && e->result == result_of_proof(s)) tally_bad_proof(s);
        break;
    }
}

static void on_tls_event(void *app, const struct miniproxy_tls_event *e)
{
    REQUIRE(PROPERTY_EVENTS, app == &world, "an event of TLS for somebody else");
    if (e->host != NULL) on_origin_event(e);
    else on_client_event(e);
}

/* ---- The port on top of it: what the core receives ---- */

static uint32_t retried; /* requests, when something was last received or sent */

static int top_recv(void *port, struct miniproxy_conn *c, void *buf, size_t len)
{
    struct conn *v = conn_of(c);
    int n;
    memset(buf, 0xA5, len);
    n = miniproxy_tls_port.recv(port, c, buf, len);
    REQUIRE(PROPERTY_CONTRACT, n != 0 && n <= (int)len && n >= MINIPROXY_EPLAIN, "recv through TLS gives %d", n);
    if (n > 0) v->received += (uint64_t)n;
    retried = miniproxy_counters(&world.proxy)->retried;
    if (tls.session_of[c->id] != 0) trace("recv %u through TLS -> %d", c->id, n);
    return n;
}

static uint32_t sum_of(const uint8_t *data, size_t len)
{
    uint32_t sum = 2166136261u;
    for (size_t i = 0; i < len; i++) sum = (sum ^ data[i]) * 16777619u;
    return sum;
}

/* What could not be sent is sent again as it was, even if the port below has been offered nothing. */
static int top_send(void *port, struct miniproxy_conn *c, const void *buf, size_t len)
{
    struct secure *s = conn_of(c)->secure;
    int n = miniproxy_tls_port.send(port, c, buf, len);
    if (s != NULL && s->offered > 0)
        REQUIRE(PROPERTY_SEND_REPEATS, len >= s->offered && sum_of(buf, s->offered) == s->offered_sum,
                "connection %u: a send that got AGAIN is repeated with other octets", c->id);
    if (s != NULL) s->offered = n == MINIPROXY_AGAIN ? len : 0;
    if (s != NULL) s->offered_sum = sum_of(buf, s->offered);
    REQUIRE(PROPERTY_CONTRACT, n != 0 && n <= (int)len, "send of %zu octets through TLS gives %d", len, n);
    retried = miniproxy_counters(&world.proxy)->retried;
    if (tls.session_of[c->id] != 0) trace("send %u through TLS %zu -> %d", c->id, len, n);
    return n;
}

static int top_relay(void *port, struct miniproxy_conn *from, struct miniproxy_conn *to, size_t max)
{
    int n;
    REQUIRE(PROPERTY_CONTRACT, tls.session_of[from->id] == 0 && tls.session_of[to->id] == 0, "relay of TLS");
    n = miniproxy_tls_port.relay(port, from, to, max);
    if (n > 0) conn_of(from)->received += (uint64_t)n;
    return n;
}

static int top_secure(void *port, struct miniproxy_conn *c, const char *host)
{
    struct exchange *ex = tie_secure(c, host);
    int result = miniproxy_tls_port.secure(port, c, host);
    trace("secure %u with %s -> %d", c->id, host, result);
    if (miniproxy_counters(&world.proxy)->retried > retried) tally(TALLY_AGAIN);
    if (result != MINIPROXY_OK) world.unborn = c;
    if (result == MINIPROXY_ERESOURCES) {
        REQUIRE(PROPERTY_BUSY, miniproxy_tls_active(&tls) == MINIPROXY_TLS_SESSIONS, "request %u gets no TLS", ex->id);
        ex->happened |= HAPPENED_RESOURCES;
        tally(TALLY_FULL);
        return result;
    }
    REQUIRE(PROPERTY_CAUSE, result == (outbound == OUT_TRUSTS_NOBODY ? MINIPROXY_ETLS_CONFIG : MINIPROXY_OK),
            "request %u: secure gives %d", ex->id, result);
    if (result != MINIPROXY_OK) tally(TALLY_UNTRUSTING);
    return result;
}

static size_t top_client_name(void *port, struct miniproxy_conn *c, char *name, size_t size)
{
    size_t len = miniproxy_tls_port.client_name(port, c, name, size);
    const struct conn *v = conn_of(c);
    const char *want = v->secure != NULL ? v->secure->name : NULL;
    REQUIRE(PROPERTY_PROOF, v->of_client && len == (want != NULL ? strlen(want) : 0) &&
                (len == 0 || memcmp(name, want, len) == 0),
            "a client who is %s is said to be %.*s", want != NULL ? want : "nobody", (int)len, name);
    return len;
}

static void top_close(void *port, struct miniproxy_conn *c, bool hard)
{
    gives_up = true;
    miniproxy_tls_port.close(port, c, hard);
    gives_up = false;
}

static struct miniproxy_port top;

static void start_peers(void)
{
    region_start(&peers.keys[0].region, peers_heap, sizeof peers_heap);
    enter_peers();
    mbedtls_ctr_drbg_init(&peers.random);
    must(mbedtls_ctr_drbg_seed(&peers.random, seed, NULL, NULL, 0), "seed");
    memset(tickets, 0, sizeof tickets);
    mbedtls_ssl_session_init(&tickets[0].session);
    mbedtls_ssl_session_init(&tickets[1].session);
    mbedtls_ssl_ticket_init(&origin_tickets);
    must(mbedtls_ssl_ticket_setup(&origin_tickets, peer_random, NULL, MBEDTLS_CIPHER_AES_128_GCM, 0), "tickets");
}

void secure_start_port(void)
{
    struct miniproxy_tls_config config = {
        .below = world.config.port, .listeners = 1u << LISTENER_TLS, .key = papers_key_der, .event = on_tls_event,
        .app = &world};
    const char *wrong;
    mbedtls_x509_crt *own;
    mbedtls_platform_set_calloc_free(take_memory, give_memory);
    enter_papers();
    own = papers_of("proxy.sim", false, FLAW_NONE);
    wish = (uint8_t)between(WISH_NOTHING, WISH_CERTIFICATE);
    outbound = (uint8_t)(one_in(20) ? between(OUT_TRUSTS_NOBODY, OUT_NOT_AT_ALL) : OUT_TRUSTS_ROOT);
    config.cert = own->raw.p;
    config.cert_len = own->raw.len;
    config.key_len = papers_key_len;
    if (wish == WISH_CERTIFICATE) config.client_ca = papers_root.raw.p, config.client_ca_len = papers_root.raw.len;
    if (wish != WISH_NOTHING) config.psks = psks, config.psk_count = 2;
    if (outbound != OUT_TRUSTS_NOBODY) config.ca = papers_root.raw.p, config.ca_len = papers_root.raw.len;
    config.handshake_ms = world.mood.small ? 600000 : one_in(2) ? between(300, 3000) : 0;
    if (wish != WISH_NOTHING && one_in(2)) world.policy = policies[between(1, 2)]; /* which has users */
    mbedtls_platform_set_calloc_free(take_memory, keep_memory);
    mbedtls_psa_crypto_free();
    random_state = world.seed;
    ahead_s = 0;
    memset(&tls, 0, offsetof(struct miniproxy_tls, sessions));
    memset(secures, 0, sizeof secures);
    wrong = miniproxy_tls_init(&tls, &config, NULL);
    if (wrong != NULL) violation(PROPERTY_ASSERTION, "miniproxy_tls_init: %s", wrong);
    if (wish == WISH_NOTHING)
        mbedtls_ssl_conf_session_tickets_cb(&tls.keys[0].server, seen_write, seen_parse, &tls.keys[0]);
    miniproxy_tls_poll(&tls, world.base_ms + (uint32_t)world.now_ms);
    start_peers();
    top = miniproxy_tls_port;
    top.recv = top_recv;
    top.send = top_send;
    top.close = top_close;
    top.relay = top_relay;
    top.secure = outbound == OUT_NOT_AT_ALL ? NULL : top_secure;
    top.client_name = top_client_name;
    world.config.port = &top;
    world.config.port_data = &tls;
}

uint32_t secure_poll(uint32_t wait_ms)
{
    uint32_t own_ms = miniproxy_tls_poll(&tls, world.base_ms + (uint32_t)world.now_ms);
    return own_ms < wait_ms ? own_ms : wait_ms;
}

/* ---- A peer's octets on the wire ---- */

static const char *kind_of(const struct secure *s)
{
    return s->client != NULL ? "client" : "origin";
}

static void met_by_client(struct secure *s)
{
    switch (s->trouble.kind) {
    case TROUBLE_RESET:
        s->client->happened |= CLIENT_ABORTED;
        s->client->over = s->left = true;
        peer_reset(s->v);
        break;
    case TROUBLE_FIN:
        s->client->happened |= CLIENT_FIN;
        s->mute = true;
        wire_fin(s->v);
        break;
    case TROUBLE_DAMAGE:
        s->client->happened |= CLIENT_ABORTED | CLIENT_SLOW | CLIENT_STOPS_READING;
        break;
    default:
        s->client->happened |= CLIENT_SLOW | (s->trouble.reading ? (uint32_t)CLIENT_STOPS_READING : 0u);
        if (s->trouble.reading) s->deaf = true;
        else s->mute = true;
        break;
    }
}

/* Something has happened to the exchange that is under way, and if it may have begun, to that which is next. */
static void harm(struct secure *s, uint32_t what)
{
    s->v->exchange->happened |= what;
    if (s->done) s->v->exchange->client->happened |= what;
}

static void met_by_origin(struct secure *s)
{
    if (!s->notified && s->v->exchange->attempt == s->v) origin_cut(s->v->exchange);
    switch (s->trouble.kind) {
    case TROUBLE_RESET:
        harm(s, HAPPENED_RESET);
        s->broken = s->left = true;
        peer_reset(s->v);
        break;
    case TROUBLE_FIN:
        harm(s, HAPPENED_RESET | HAPPENED_CUT);
        s->broken = s->left = true;
        wire_leave(s->v);
        break;
    default:
        harm(s, s->trouble.kind == TROUBLE_DAMAGE ? HAPPENED_RESET | HAPPENED_SLOW : (uint32_t)HAPPENED_SLOW);
        s->late = true;
        s->v->exchange->happened |= HAPPENED_LATE_HANDSHAKE; /* over for the origin, perhaps, but not for the proxy */
        if (s->trouble.kind == TROUBLE_DAMAGE) break;
        if (s->trouble.reading) s->deaf = true;
        else s->mute = true;
        break;
    }
}

static void meet(struct secure *s)
{
    trace("%s %u: trouble %u while %s on the wire", kind_of(s), s->v->peer->number, s->trouble.kind,
          s->trouble.reading ? "reading" : "writing");
    s->trouble.done = true;
    if (s->client != NULL) met_by_client(s);
    else met_by_origin(s);
}

/* How many of so many octets pass before trouble comes. */
static size_t until_trouble(struct secure *s, bool reading, size_t len)
{
    struct trouble *t = &s->trouble;
    uint64_t at_octet = reading ? s->got : s->sent;
    if (t->kind == TROUBLE_NONE || t->done || t->reading != reading || len == 0) return len;
    if (at_octet < t->at) return t->at - at_octet < len ? (size_t)(t->at - at_octet) : len;
    meet(s);
    return t->kind == TROUBLE_DAMAGE ? 1 : 0;
}

static bool is_to_be_damaged(const struct secure *s, bool reading)
{
    const struct trouble *t = &s->trouble;
    return t->kind == TROUBLE_DAMAGE && t->done && t->reading == reading && t->at == (reading ? s->got : s->sent);
}

static int wire_out(void *context, const unsigned char *data, size_t len)
{
    struct secure *s = context;
    size_t room = QUEUE_MAX - s->queue_len;
    if (len > room) len = room;
    if (len == 0) return MBEDTLS_ERR_SSL_WANT_WRITE;
    memcpy(s->queue + s->queue_len, data, len);
    s->queue_len += len;
    return (int)len;
}

/* True: all is on its way. */
static bool flush(struct secure *s)
{
    while (s->queue_at < s->queue_len) {
        const unsigned char *data = s->queue + s->queue_at;
        size_t n = s->mute || s->left ? 0 : until_trouble(s, false, s->queue_len - s->queue_at);
        unsigned char other = *data ^ (unsigned char)(1u << (s->sent & 7));
        if (n > 0) n = wire_write(s->v, is_to_be_damaged(s, false) ? &other : data, n);
        if (n == 0) return false;
        s->sent += n;
        s->queue_at += n;
    }
    s->queue_at = s->queue_len = 0;
    return true;
}

static int wire_in(void *context, unsigned char *data, size_t len)
{
    struct secure *s = context;
    size_t n = s->deaf || s->left ? 0 : until_trouble(s, true, len);
    if (n == 0) return MBEDTLS_ERR_SSL_WANT_READ;
    n = wire_read(s->v, data, n);
    if (n > 0 && is_to_be_damaged(s, true)) data[0] ^= (unsigned char)(1u << (s->got & 7));
    s->got += n;
    if (n > 0) return (int)n;
    return wire_eof(s->v) || wire_was_reset(s->v) ? 0 : MBEDTLS_ERR_SSL_WANT_READ;
}

/* ---- A peer's TLS ---- */

static bool is_wait(int error)
{
    return error == MBEDTLS_ERR_SSL_WANT_READ || error == MBEDTLS_ERR_SSL_WANT_WRITE;
}

/* TLS has come to a bad end at the peer. Is nobody else to blame than the peer and the network? */
static bool is_own_fault(const struct secure *s, int error)
{
    const struct client *cl = s->client;
    if (cl == NULL)
        return s->fault != FLAW_NONE || s->trouble.done || s->v->state == CONN_CLOSED ||
               (s->v->exchange->happened & HAPPENED_FAULT) != 0;
    return cl->listener != LISTENER_TLS || s->failed ||
           (cl->happened & (CLIENT_ABORTED | CLIENT_FIN | CLIENT_FAULT)) != 0 ||
           (s->turned_away && error == MBEDTLS_ERR_SSL_FATAL_ALERT_MESSAGE);
}

static void give_up(struct secure *s, int error)
{
    trace("%s %u: TLS fails with -0x%04x", kind_of(s), s->v->peer->number, (unsigned)-error);
    s->broken = true;
    if (error != MBEDTLS_ERR_SSL_CONN_EOF && error != 0)
        REQUIRE(s->client != NULL ? PROPERTY_DOWN_WELL_FORMED : PROPERTY_SECURE, is_own_fault(s, error),
                "%s %u: TLS fails with -0x%04x", kind_of(s), s->v->peer->number, (unsigned)-error);
    flush(s); /* an alert, if it can be sent now */
    if (s->left) return;
    s->left = true;
    wire_leave(s->v);
}

static void shake_hands(struct secure *s)
{
    int error;
    if (s->done || s->broken) return;
    if (s->client != NULL && (s->client->over || s->client->deaf || s->client->stopped_writing)) return;
    do error = mbedtls_ssl_handshake(&s->ssl);
    while (error == MBEDTLS_ERR_SSL_CRYPTO_IN_PROGRESS);
    if (error == 0) {
        trace("%s %u: handshake done", kind_of(s), s->v->peer->number);
        REQUIRE(PROPERTY_SECURE, s->fault == FLAW_NONE, "origin %u is accepted with fault %u", s->v->peer->number,
                s->fault);
        s->done = true;
        if (s->client != NULL && s->version == 2) keep_ticket(s);
    } else if (!is_wait(error)) {
        give_up(s, error);
    }
}

/* True: more can be written. */
static bool push(struct secure *s)
{
    return flush(s) && s->done && !s->broken;
}

static void say_farewell(struct secure *s)
{
    if (s->farewell == FAREWELL_FIN || s->notified) return;
    s->notified = mbedtls_ssl_close_notify(&s->ssl) != MBEDTLS_ERR_SSL_WANT_WRITE;
}

/* An origin that does not get as far as to TLS. What it reads may be records of a handshake, but nothing else. */
static void step_stranger(struct secure *s)
{
    static const char *const texts[] = {[FAULT_ALERT] = "\x15\x03\x03\0\x02\x02\x28",
                                        [FAULT_PLAIN] = "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n",
                                        [FAULT_EMPTY] = ""};
    const char *text = texts[s->fault];
    size_t n, len = s->fault == FAULT_ALERT ? 7 : strlen(text);
    uint8_t data[1024];
    while ((n = wire_read(s->v, data, sizeof data)) > 0) {
        REQUIRE(PROPERTY_SECURE, (s->got > 0 || data[0] == 22) && memmem(data, n, "X-Id", 4) == NULL,
                "origin %u gets a request in clear", s->v->peer->number);
        s->got += n;
    }
    if (s->got == 0 && !wire_eof(s->v) && !wire_was_reset(s->v)) return;
    while (s->sent < len && (n = wire_write(s->v, text + s->sent, len - s->sent)) > 0) s->sent += n;
    if (s->fault == FAULT_EMPTY) wire_fin(s->v);
    if (!wire_eof(s->v) && !wire_was_reset(s->v)) return;
    s->broken = s->left = true;
    wire_leave(s->v);
}

static void say_end(struct secure *s)
{
    say_farewell(s);
    if (flush(s) && s->farewell != FAREWELL_NOTIFY) wire_fin(s->v);
}

static void release(struct secure *s)
{
    enter_peer(s);
    mbedtls_ssl_free(&s->ssl);
    mbedtls_free(s->queue);
    mbedtls_ssl_config_free(&s->config);
    REQUIRE(PROPERTY_ASSERTION, s->region.used == 0, "%zu octets of a peer are left", s->region.used);
    free(s->region.memory);
    s->used = false;
    s->broken = true;
}

void secure_step(struct conn *v)
{
    struct secure *s = v->secure;
    if (s == NULL || !s->used) return;
    enter_peer(s);
    if (v->peer_gone) s->left = true; /* a reset of its own */
    if (s->left && s->client == NULL) release(s); /* there may be many */
    if (s->left) return;
    if (s->fault >= FAULT_ALERT) {
        step_stranger(s);
        return;
    }
    shake_hands(s);
    push(s);
    if (s->left) return;
    if (s->wants_fin && push(s) && !v->in.fin_sent) say_end(s);
    if (!s->wants_leave || (s->done && !push(s) && !s->mute)) return;
    if (s->left) return;
    if (s->done) say_farewell(s); /* if it can be sent now */
    flush(s);
    if (s->left) return;
    s->left = true;
    wire_leave(v);
    step_after(v->peer, 0);
}

static size_t secure_write(struct conn *v, const void *data, size_t len)
{
    struct secure *s = v->secure;
    int n;
    enter_peer(s);
    if (s->left || !push(s) || s->left || s->notified || len == 0) return 0;
    if (len > s->record_max) len = s->record_max;
    while ((n = mbedtls_ssl_write(&s->ssl, data, len)) == MBEDTLS_ERR_SSL_RECEIVED_NEW_SESSION_TICKET) keep_ticket(s);
    if (n < 0 && !is_wait(n)) give_up(s, n);
    flush(s);
    return n > 0 ? (size_t)n : 0;
}

/* TLS 1.3 tells of a ticket in two steps. */
static bool sees_ticket(struct secure *s, int error)
{
    if (error == MBEDTLS_ERR_SSL_RECEIVED_NEW_SESSION_TICKET) keep_ticket(s);
    return error == MBEDTLS_ERR_SSL_RECEIVED_NEW_SESSION_TICKET ||
           (error == MBEDTLS_ERR_SSL_WANT_READ && s->client != NULL &&
            s->ssl.MBEDTLS_PRIVATE(state) == MBEDTLS_SSL_TLS1_3_NEW_SESSION_TICKET);
}

static size_t secure_read(struct conn *v, uint8_t *data, size_t len)
{
    struct secure *s = v->secure;
    int n;
    if (!s->done || s->broken || s->ended || s->left || len == 0) return 0;
    enter_peer(s);
    do n = mbedtls_ssl_read(&s->ssl, data, len);
    while (sees_ticket(s, n));
    flush(s); /* what is written while reading */
    if (n > 0) return (size_t)n;
    if (n == MBEDTLS_ERR_SSL_PEER_CLOSE_NOTIFY) s->ended = true;
    else if (!is_wait(n)) give_up(s, n);
    return 0;
}

/* An origin ends a connection in a way that may have been anybody's. */
static void tell_cut(struct secure *s)
{
    if (s->client == NULL && s->farewell == FAREWELL_FIN) s->v->exchange->happened |= HAPPENED_CUT | HAPPENED_RESET;
}

static void secure_fin(struct conn *v)
{
    v->secure->wants_fin = true;
    tell_cut(v->secure);
    if (!v->secure->done) wire_fin(v);
    step_after(v->peer, 0);
}

static void secure_leave(struct conn *v)
{
    static uint8_t lost[4096];
    if (v->secure->left) return;
    tell_cut(v->secure);
    if (secure_read(v, lost, sizeof lost) > 0) {
        peer_reset(v);
        return;
    }
    v->secure->wants_leave = true;
    secure_step(v);
}

/* An end without close_notify is none: what came may have been cut by anybody. */
static bool secure_eof(const struct conn *v)
{
    return v->secure->ended;
}

static bool secure_was_reset(const struct conn *v)
{
    const struct secure *s = v->secure;
    if (s->broken) return true;
    return (!s->done || mbedtls_ssl_get_bytes_avail(&s->ssl) == 0) && !s->ended && wire_was_reset(v);
}

static const struct peer_end secure_end = {secure_write, secure_read,  secure_fin,
                                           secure_leave, secure_eof, secure_was_reset};

static void choose_wire_trouble(struct secure *s, uint32_t chance)
{
    struct trouble *t = &s->trouble;
    if (!one_in(chance)) return;
    t->kind = (uint8_t)between(TROUBLE_STALL, TROUBLE_DAMAGE);
    t->reading = (t->kind == TROUBLE_STALL || t->kind == TROUBLE_DAMAGE) && one_in(2);
    t->at = one_in(2) ? between(0, 600) : between(600, 4000);
}

static void begin(struct secure *s)
{
    s->used = true;
    s->record_max = one_in(4) && !world.mood.small ? between(1, 300) : MBEDTLS_SSL_OUT_CONTENT_LEN;
    s->queue = mbedtls_calloc(1, QUEUE_MAX);
    mbedtls_ssl_init(&s->ssl);
    must(mbedtls_ssl_setup(&s->ssl, &s->config), "setup");
    mbedtls_ssl_set_bio(&s->ssl, s, wire_out, wire_in, NULL);
    s->v->secure = s;
    s->v->end = &secure_end;
}

void secure_start_client(struct client *cl)
{
    struct secure *s = &secures[cl->actor.number];
    s->v = cl->conn;
    s->client = cl;
    if (!cl->speaks_tls) return;
    if (cl->listener != LISTENER_TLS) cl->happened |= CLIENT_ABORTED; /* it cannot read what it is told */
    if (one_in(3)) ahead_s += between(1, 60000);
    s->farewell = (uint8_t)(one_in(2) ? FAREWELL_BOTH : between(FAREWELL_NOTIFY, FAREWELL_FIN));
    if (cl->trouble.kind == TROUBLE_NONE) choose_wire_trouble(s, 2 * world.mood.client_trouble_one_in);
    begin_config(s, MBEDTLS_SSL_IS_CLIENT);
    mbedtls_ssl_conf_authmode(&s->config, one_in(4) ? MBEDTLS_SSL_VERIFY_REQUIRED : MBEDTLS_SSL_VERIFY_NONE);
    mbedtls_ssl_conf_ca_chain(&s->config, &papers_root, NULL);
    mbedtls_ssl_conf_tls13_enable_signal_new_session_tickets(&s->config,
                                                             MBEDTLS_SSL_TLS1_3_SIGNAL_NEW_SESSION_TICKETS_ENABLED);
    choose_proof(s);
    if (result_of_proof(s) != MINIPROXY_OK) cl->happened |= CLIENT_ABORTED; /* it does not get far */
    begin(s);
    must(mbedtls_ssl_set_hostname(&s->ssl, "proxy.sim"), "name");
    offer_ticket(s);
}

/* The name that is asked for has to be the host's. */
static int see_name(void *context, mbedtls_ssl_context *ssl, const unsigned char *name, size_t len)
{
    const struct secure *s = context;
    const struct host *host = s->v->exchange->host;
    (void)ssl;
    if (is_damaged(s)) return 0;
    REQUIRE(PROPERTY_SECURE, host != NULL && strlen(host->name) == len &&
                strncasecmp(host->name, (const char *)name, len) == 0,
            "request %u: the origin is asked for %.*s", s->v->exchange->id, (int)len, (const char *)name);
    return 0;
}

void secure_start_origin(struct conn *v)
{
    struct secure *s = &origin_secures[v->number];
    const struct exchange *ex = v->exchange;
    char text[MINIPROXY_ADDR_TEXT];
    if (!ex->https) return;
    memset(s, 0, sizeof *s);
    s->v = v;
    s->fault = one_in(4) ? (uint8_t)FLAW_NONE : ex->secure_fault;
    s->farewell = (uint8_t)(one_in(6) ? FAREWELL_FIN : one_in(4) ? FAREWELL_NOTIFY : FAREWELL_BOTH);
    if (s->fault < FAULT_ALERT) choose_wire_trouble(s, 2 * world.mood.host_trouble_one_in);
    if (s->trouble.kind != TROUBLE_NONE && one_in(3)) s->trouble.kind = TROUBLE_STALL, s->trouble.at /= 8;
    if (ex->literal != NULL) miniproxy_addr_format(&ex->literal->addr, text);
    begin_config(s, MBEDTLS_SSL_IS_SERVER);
    show(s, ex->literal != NULL ? text : ex->host->name,
         s->fault < FAULT_ALERT ? (enum secure_fault)s->fault : FLAW_NONE);
    mbedtls_ssl_conf_sni(&s->config, see_name, s);
    if (one_in(2))
        mbedtls_ssl_conf_session_tickets_cb(&s->config, mbedtls_ssl_ticket_write, mbedtls_ssl_ticket_parse,
                                            &origin_tickets);
    begin(s);
}

/* ---- For the checks ---- */

uint64_t core_received(const struct conn *v)
{
    return v->received;
}

bool secure_tells_end(const struct conn *v)
{
    const struct secure *s = v->secure;
    return s == NULL || (s->farewell != FAREWELL_FIN && !s->mute && !s->broken && !is_damaged(s));
}

static bool has_failed(const struct exchange *ex, int result)
{
    return (ex->tls_results >> -result & 1u) != 0;
}

static bool excuses_origins_cause(const struct exchange *ex, uint8_t cause)
{
    switch (cause) {
    case MINIPROXY_CAUSE_SCHEME: return outbound == OUT_NOT_AT_ALL;
    case MINIPROXY_CAUSE_TLS_CONFIG: return outbound == OUT_TRUSTS_NOBODY;
    case MINIPROXY_CAUSE_TLS_NAME: return has_failed(ex, MINIPROXY_ETLS_NAME);
    case MINIPROXY_CAUSE_TLS_EXPIRED: return has_failed(ex, MINIPROXY_ETLS_EXPIRED);
    case MINIPROXY_CAUSE_TLS_SELF_SIGNED: return has_failed(ex, MINIPROXY_ETLS_SELF_SIGNED);
    case MINIPROXY_CAUSE_TLS_ISSUER: return has_failed(ex, MINIPROXY_ETLS_ISSUER);
    case MINIPROXY_CAUSE_TLS_CERTIFICATE: return has_failed(ex, MINIPROXY_ETLS_CERTIFICATE);
    case MINIPROXY_CAUSE_TLS_ALERT: return has_failed(ex, MINIPROXY_ETLS_ALERT);
    case MINIPROXY_CAUSE_TLS_PROTOCOL: return has_failed(ex, MINIPROXY_ETLS_PROTOCOL);
    case MINIPROXY_CAUSE_TLS_TIMEOUT: return has_failed(ex, MINIPROXY_ETLS_TIMEOUT);
    case MINIPROXY_CAUSE_CONNECT_RESET: return has_failed(ex, MINIPROXY_ERESET);
    case MINIPROXY_CAUSE_INTERNAL: return has_failed(ex, MINIPROXY_EFAIL);
    case MINIPROXY_CAUSE_CONNECT_TIMEOUT:
        return has_failed(ex, MINIPROXY_ETIMEDOUT) || (ex->happened & HAPPENED_LATE_HANDSHAKE) != 0 ||
               may_take(world.timeout_ms[MINIPROXY_TIMEOUT_CONNECT]);
    default: return false;
    }
}

bool secure_excuses(const struct exchange *ex, uint8_t cause)
{
    const struct client *cl = ex->client;
    if (ex->https && excuses_origins_cause(ex, cause)) return true;
    switch (cause) {
    case MINIPROXY_CAUSE_PLAIN:
        return cl->listener == LISTENER_TLS && !cl->speaks_tls;
    case MINIPROXY_CAUSE_TLS:
        return cl->listener == LISTENER_PLAIN && cl->speaks_tls;
    case MINIPROXY_CAUSE_HEAD_TIMEOUT: /* the handshake and records take time as well */
        return cl->speaks_tls && HANDSHAKE_OCTETS * (world.mood.latency_ms + world.mood.wake_delay_ms + 1) >
                                     world.timeout_ms[MINIPROXY_TIMEOUT_HEAD];
    default:
        return false;
    }
}

void secure_check_begin(const struct exchange *ex)
{
    const struct secure *s = &secures[ex->client->actor.number];
    REQUIRE(PROPERTY_PROOF, !s->used || ex->client->listener != LISTENER_TLS || result_of_proof(s) == MINIPROXY_OK,
            "request %u is read from a client without proof", ex->id);
}

static void check_user(const struct exchange *ex, const struct miniproxy_event *e)
{
    const struct secure *s = &secures[ex->client->actor.number];
    uint16_t groups;
    if (s->name == NULL || ex->policy_count != 1 || e->cause != MINIPROXY_CAUSE_NONE || ex->login != LOGIN_NONE) return;
    groups = login_groups(ex->policies[0], ex);
    REQUIRE(PROPERTY_LOGIN, (e->user != NULL) == (groups != 0), "request %u: user %s", ex->id,
            e->user != NULL ? e->user : "none");
    tally(groups == 0 ? TALLY_NO_USER : s->proof == PROOF_SECRET ? TALLY_BY_SECRET : TALLY_BY_CERTIFICATE);
}

void secure_check_event(const struct exchange *ex, const struct miniproxy_event *e)
{
    check_user(ex, e);
    if (!ex->https) return;
    REQUIRE(PROPERTY_TRUNCATION, !ex->origin_cut || e->cause != MINIPROXY_CAUSE_NONE,
            "request %u: its end was not told, and it went well", ex->id);
    if (ex->origin_cut && e->source == MINIPROXY_BY_ORIGIN) tally(TALLY_CUT);
    if (e->cause != MINIPROXY_CAUSE_NONE || e->source != MINIPROXY_BY_ORIGIN) return;
    tally(ex->up.on || e->status == 101 ? TALLY_WEBSOCKET : TALLY_HTTPS);
    if (e->reused) tally(TALLY_KEPT);
}

/* Who does everything right has a TLS connection. */
static void check_handshake(const struct client *cl)
{
    const struct secure *s = &secures[cl->actor.number];
    uint32_t trouble = CLIENT_ABORTED | CLIENT_FIN | CLIENT_SLOW | CLIENT_FAULT | CLIENT_STOPS_READING;
    if (!s->used || !cl->accepted || s->turned_away || s->failed || (cl->happened & trouble) != 0) return;
    if (world.drained || world.stopped || cl->surplus || miniproxy_counters(&world.proxy)->evicted > 0) return;
    REQUIRE(PROPERTY_LIVENESS, s->done, "client %u: the handshake was never done", cl->actor.number);
}

void secure_check_rest(void)
{
    mbedtls_psa_stats_t keys;
    REQUIRE(PROPERTY_LEAK, miniproxy_tls_active(&tls) == 0, "%u TLS connections are left", miniproxy_tls_active(&tls));
    for (unsigned i = 0; i < world.client_count; i++) check_handshake(&world.clients[i]);
    for (unsigned i = 0; i < CLIENTS_MAX; i++)
        if (secures[i].used) release(&secures[i]);
    for (unsigned i = 0; i < world.conn_count; i++)
        if (world.conns[i]->secure == &origin_secures[i] && origin_secures[i].used) release(&origin_secures[i]);
    enter_peers();
    mbedtls_psa_get_stats(&keys);
    REQUIRE(PROPERTY_LEAK, keys.MBEDTLS_PRIVATE(volatile_slots) == 0, "%zu keys of handshakes are left",
            keys.MBEDTLS_PRIVATE(volatile_slots));
    mbedtls_ssl_session_free(&tickets[0].session);
    mbedtls_ssl_session_free(&tickets[1].session);
    mbedtls_ssl_ticket_free(&origin_tickets);
    REQUIRE(PROPERTY_ASSERTION, peers.keys[0].region.used == 0, "%zu octets of all peers are left",
            peers.keys[0].region.used);
    miniproxy_tls_end(&tls);
    REQUIRE(PROPERTY_LEAK, tls.keys[0].region.used == 0, "%zu octets of the common memory are left", tls.keys[0].region.used);
}

#else

void secure_start_port(void)
{
}

uint32_t secure_poll(uint32_t wait_ms)
{
    return wait_ms;
}

void secure_start_client(struct client *cl)
{
    (void)cl;
}

void secure_start_origin(struct conn *v)
{
    (void)v;
}

void secure_step(struct conn *v)
{
    (void)v;
}

uint64_t core_received(const struct conn *v)
{
    return v->consumed;
}

bool secure_tells_end(const struct conn *v)
{
    (void)v;
    return true;
}

bool secure_excuses(const struct exchange *ex, uint8_t cause)
{
    (void)ex, (void)cause;
    return false;
}

const char *secure_name(const struct client *cl)
{
    (void)cl;
    return NULL;
}

void secure_check_begin(const struct exchange *ex)
{
    (void)ex;
}

void secure_check_event(const struct exchange *ex, const struct miniproxy_event *e)
{
    (void)ex, (void)e;
}

void secure_check_rest(void)
{
}

#endif

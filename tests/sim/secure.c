/* SPDX-License-Identifier: MIT */
/* TLS: the port of it between the core and the simulated port, and clients' own between them and their links. So whatever
 * happens on the network happens to records and handshakes, and what is checked is checked on what is inside. */
#define below below_random /* the port has a function of that name */
#include "sim.h"
#undef below

#if MINIPROXY_WITH_TLS

#ifndef SIM_TLS_PORT
#define SIM_TLS_PORT "../../port/miniproxy_tls.c"
#endif
#include SIM_TLS_PORT

#include <mbedtls/ecp.h>
#include <time.h>

enum { IDENTITY_HEAP = 1 << 18, PEERS_HEAP = 8 << 20, HANDSHAKE_OCTETS = 5000 };

enum kind { KIND_TLS13, KIND_TLS12, KIND_PSK, KIND_COUNT };

/* How a client says that it has nothing more to say. */
enum farewell { FAREWELL_BOTH, FAREWELL_NOTIFY, FAREWELL_FIN };

struct secure {
    mbedtls_ssl_context ssl;
    struct conn *v;
    struct client *client;
    struct trouble trouble; /* at an octet on the wire */
    uint64_t sent, got;     /* on the wire */
    size_t unsent;          /* octets in a record that is not out yet */
    uint8_t farewell;
    bool used, done, broken, ended, notified, wants_fin, wants_leave, left, mute, deaf, turned_away, failed;
};

static struct secure secures[CLIENTS_MAX];
static struct miniproxy_tls tls, peers, identity; /* of the last two only memory and randomness */
static uint64_t identity_heap[IDENTITY_HEAP / 8], peers_heap[PEERS_HEAP / 8];
static mbedtls_ssl_config configs[KIND_COUNT];
static mbedtls_x509_crt cert;
static unsigned char cert_der[1024], key_der[256];
static size_t cert_len, key_len;
static uint64_t random_state; /* apart from the world's: what mbedTLS asks for must not change what happens else */
static const uint8_t psk_key[16] = "sixteen octets.";
static const struct miniproxy_tls_psk psks[] = {{"kiosk", psk_key, sizeof psk_key}};

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

/* The linker puts it in place of time: a handshake tells the time, and its signatures differ in length by it. */
time_t __wrap_time(time_t *t);
time_t __wrap_time(time_t *t)
{
    time_t now = (time_t)(1800000000u + world.now_ms / 1000);
    if (t != NULL) *t = now;
    return now;
}

static void enter_peers(void)
{
    enter(&peers, &peers.keys[0].region);
}

static void must(int error, const char *what)
{
    if (error != 0) violation(PROPERTY_ASSERTION, "mbedTLS: %s fails with -0x%04x", what, (unsigned)-error);
}

static size_t to_front(unsigned char *buf, size_t size, int len)
{
    if (len <= 0) must(len, "writing");
    memmove(buf, buf + size - len, (size_t)len);
    return (size_t)len;
}

static void write_certificate(mbedtls_pk_context *pk)
{
    mbedtls_x509write_cert w;
    static unsigned char serial[] = {7};
    mbedtls_x509write_crt_init(&w);
    mbedtls_x509write_crt_set_version(&w, MBEDTLS_X509_CRT_VERSION_3);
    mbedtls_x509write_crt_set_md_alg(&w, MBEDTLS_MD_SHA256);
    mbedtls_x509write_crt_set_subject_key(&w, pk);
    mbedtls_x509write_crt_set_issuer_key(&w, pk);
    must(mbedtls_x509write_crt_set_subject_name(&w, "CN=proxy.sim"), "subject");
    must(mbedtls_x509write_crt_set_issuer_name(&w, "CN=proxy.sim"), "issuer");
    must(mbedtls_x509write_crt_set_validity(&w, "20200101000000", "20990101000000"), "validity");
    must(mbedtls_x509write_crt_set_serial_raw(&w, serial, sizeof serial), "serial");
    cert_len = to_front(cert_der, sizeof cert_der,
                        mbedtls_x509write_crt_der(&w, cert_der, sizeof cert_der, peer_random, NULL));
    mbedtls_x509write_crt_free(&w);
}

/* Once in a process, and always the same. */
static void make_identity(void)
{
    mbedtls_pk_context pk;
    if (cert_len > 0) return;
    random_state = 1;
    region_start(&identity.keys[0].region, identity_heap, sizeof identity_heap);
    mbedtls_platform_set_calloc_free(take_memory, give_memory);
    enter(&identity, &identity.keys[0].region);
    mbedtls_pk_init(&pk);
    must(mbedtls_pk_setup(&pk, mbedtls_pk_info_from_type(MBEDTLS_PK_ECKEY)), "key");
    must(mbedtls_ecp_gen_key(MBEDTLS_ECP_DP_SECP256R1, mbedtls_pk_ec(pk), peer_random, NULL), "key");
    key_len = to_front(key_der, sizeof key_der, mbedtls_pk_write_key_der(&pk, key_der, sizeof key_der));
    write_certificate(&pk);
    mbedtls_pk_free(&pk);
    mbedtls_x509_crt_init(&cert);
    must(mbedtls_x509_crt_parse_der(&cert, cert_der, cert_len), "certificate");
}

static void make_config(mbedtls_ssl_config *config, enum kind kind)
{
    static const int psk_suites[] = {MBEDTLS_TLS_PSK_WITH_AES_128_GCM_SHA256, 0};
    mbedtls_ssl_config_init(config);
    must(mbedtls_ssl_config_defaults(config, MBEDTLS_SSL_IS_CLIENT, MBEDTLS_SSL_TRANSPORT_STREAM,
                                     MBEDTLS_SSL_PRESET_DEFAULT), "configuration");
    mbedtls_ssl_conf_rng(config, peer_random, NULL);
    mbedtls_ssl_conf_authmode(config, MBEDTLS_SSL_VERIFY_REQUIRED);
    mbedtls_ssl_conf_ca_chain(config, &cert, NULL);
    if (kind != KIND_TLS13) mbedtls_ssl_conf_max_tls_version(config, MBEDTLS_SSL_VERSION_TLS1_2);
    if (kind != KIND_PSK) return;
    mbedtls_ssl_conf_ciphersuites(config, psk_suites);
    must(mbedtls_ssl_conf_psk(config, psk_key, sizeof psk_key, (const unsigned char *)"kiosk", 5), "shared key");
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

/* Why may a handshake have failed? */
static bool excuses_failure(const struct client *cl, int result)
{
    uint32_t octet_ms = world.mood.latency_ms + world.mood.wake_delay_ms + 1, octets = HANDSHAKE_OCTETS;
    uint32_t limit_ms = tls.config.handshake_ms;
    if (!world.mood.small) octets /= 20;
    switch (result) {
    case MINIPROXY_ERESET:
        return (cl->happened & (CLIENT_ABORTED | CLIENT_FIN | CLIENT_FAULT)) != 0;
    case MINIPROXY_ETLS_TIMEOUT:
        return (cl->happened & (CLIENT_SLOW | CLIENT_FIN | CLIENT_STOPS_READING)) != 0 || octets * octet_ms > limit_ms;
    case MINIPROXY_ETLS_PROTOCOL:
        if (!cl->speaks_tls && cl->exchanges[0]->kind == EXCHANGE_MALFORMED) return true; /* begins with no letter */
        return secures[cl->actor.number].trouble.kind == TROUBLE_DAMAGE;
    case MINIPROXY_ETLS_ALERT:
        return secures[cl->actor.number].trouble.kind == TROUBLE_DAMAGE;
    default: /* an injected error */
        return (cl->happened & CLIENT_FAULT) != 0;
    }
}

static void on_tls_event(void *app, const struct miniproxy_tls_event *e)
{
    struct secure *s = secure_at(e->peer);
    const struct client *cl = s != NULL ? &world.clients[s - secures] : NULL;
    REQUIRE(PROPERTY_EVENTS, app == &world && s != NULL, "an event of TLS for an unknown client");
    trace("event of TLS, client %u: %u, result %d, error -0x%04x, alert %d, %s", cl->actor.number, e->what, e->result,
          (unsigned)-e->error, e->alert, e->version != NULL ? e->version : "-");
    REQUIRE(PROPERTY_EVENTS, cl->listener == LISTENER_TLS, "client %u does not use TLS", cl->actor.number);
    switch (e->what) {
    case MINIPROXY_TLS_DONE:
        REQUIRE(PROPERTY_EVENTS, cl->speaks_tls && e->version != NULL, "client %u: no TLS", cl->actor.number);
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
        REQUIRE(PROPERTY_CAUSE, excuses_failure(cl, e->result), "client %u: a handshake fails (%d, -0x%04x)",
                cl->actor.number, e->result, (unsigned)-e->error);
        s->failed = true;
        break;
    }
}

/* ---- The port on top of it: what the core receives ---- */

static struct conn *conn_of(const struct miniproxy_conn *c)
{
    return world.conns[c->handle - 1];
}

static int top_recv(void *port, struct miniproxy_conn *c, void *buf, size_t len)
{
    struct conn *v = conn_of(c);
    int n;
    memset(buf, 0xA5, len);
    n = miniproxy_tls_port.recv(port, c, buf, len);
    REQUIRE(PROPERTY_CONTRACT, n != 0 && n <= (int)len && n >= MINIPROXY_EPLAIN, "recv through TLS gives %d", n);
    if (n > 0) v->received += (uint64_t)n;
    if (tls.session_of[c->id] != 0) trace("recv %u through TLS -> %d", c->id, n);
    return n;
}

static int top_send(void *port, struct miniproxy_conn *c, const void *buf, size_t len)
{
    int n = miniproxy_tls_port.send(port, c, buf, len);
    REQUIRE(PROPERTY_CONTRACT, n != 0 && n <= (int)len, "send of %zu octets through TLS gives %d", len, n);
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

static struct miniproxy_port top;

void secure_start_port(void)
{
    struct miniproxy_tls_config config = {
        .below = world.config.port, .listeners = 1u << LISTENER_TLS, .cert = cert_der, .key = key_der, .psks = psks,
        .psk_count = 1, .event = on_tls_event, .app = &world};
    const char *wrong;
    make_identity();
    config.cert_len = cert_len;
    config.key_len = key_len;
    config.handshake_ms = world.mood.small ? 600000 : one_in(5) ? between(300, 3000) : 0;
    mbedtls_platform_set_calloc_free(take_memory, keep_memory);
    mbedtls_psa_crypto_free();
    random_state = world.seed;
    memset(&tls, 0, offsetof(struct miniproxy_tls, sessions));
    memset(secures, 0, sizeof secures);
    wrong = miniproxy_tls_init(&tls, &config, NULL);
    if (wrong != NULL) violation(PROPERTY_ASSERTION, "miniproxy_tls_init: %s", wrong);
    miniproxy_tls_poll(&tls, world.base_ms + (uint32_t)world.now_ms);
    region_start(&peers.keys[0].region, peers_heap, sizeof peers_heap);
    enter_peers();
    mbedtls_ctr_drbg_init(&peers.random);
    must(mbedtls_ctr_drbg_seed(&peers.random, seed, NULL, NULL, 0), "seed");
    for (unsigned i = 0; i < KIND_COUNT; i++) make_config(&configs[i], (enum kind)i);
    top = miniproxy_tls_port;
    top.recv = top_recv;
    top.send = top_send;
    top.relay = top_relay;
    top.secure = NULL; /* all origins are plain */
    world.config.port = &top;
    world.config.port_data = &tls;
}

uint32_t secure_poll(uint32_t wait_ms)
{
    uint32_t own_ms = miniproxy_tls_poll(&tls, world.base_ms + (uint32_t)world.now_ms);
    return own_ms < wait_ms ? own_ms : wait_ms;
}

/* ---- A client's octets on the wire ---- */

static void meet(struct secure *s)
{
    struct trouble *t = &s->trouble;
    trace("client %u: trouble %u while %s on the wire", s->client->actor.number, t->kind,
          t->reading ? "reading" : "writing");
    t->done = true;
    switch (t->kind) {
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
        s->client->happened |= CLIENT_SLOW | (t->reading ? (uint32_t)CLIENT_STOPS_READING : 0u);
        if (t->reading) s->deaf = true;
        else s->mute = true;
        break;
    }
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
    size_t n = s->mute || s->left ? 0 : until_trouble(s, false, len);
    unsigned char other = data[0] ^ (unsigned char)(1u << (s->sent & 7));
    if (n == 0) return MBEDTLS_ERR_SSL_WANT_WRITE;
    n = wire_write(s->v, is_to_be_damaged(s, false) ? &other : data, n);
    s->sent += n;
    return n == 0 ? MBEDTLS_ERR_SSL_WANT_WRITE : (int)n;
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

/* ---- A client's TLS ---- */

static bool is_wait(int error)
{
    return error == MBEDTLS_ERR_SSL_WANT_READ || error == MBEDTLS_ERR_SSL_WANT_WRITE;
}

/* TLS has come to a bad end at the client. Is anybody else to blame than the client and the network? */
static void give_up(struct secure *s, int error)
{
    const struct client *cl = s->client;
    bool mistaken = cl->listener != LISTENER_TLS || (cl->happened & (CLIENT_ABORTED | CLIENT_FIN | CLIENT_FAULT)) != 0;
    trace("client %u: TLS fails with -0x%04x", cl->actor.number, (unsigned)-error);
    s->broken = true;
    if (error != MBEDTLS_ERR_SSL_CONN_EOF && error != 0)
        REQUIRE(PROPERTY_DOWN_WELL_FORMED, mistaken || s->failed ||
                    (s->turned_away && error == MBEDTLS_ERR_SSL_FATAL_ALERT_MESSAGE),
                "client %u: TLS fails with -0x%04x", cl->actor.number, (unsigned)-error);
    if (s->left) return;
    s->left = true;
    wire_leave(s->v);
}

static void shake_hands(struct secure *s)
{
    int error;
    if (s->done || s->broken || s->client->over || s->client->deaf || s->client->stopped_writing) return;
    do error = mbedtls_ssl_handshake(&s->ssl);
    while (error == MBEDTLS_ERR_SSL_CRYPTO_IN_PROGRESS);
    if (error == 0) {
        trace("client %u: handshake done", s->client->actor.number);
        s->done = true;
    } else if (!is_wait(error)) {
        give_up(s, error);
    }
}

/* True: nothing is left in between. */
static bool push(struct secure *s)
{
    unsigned char nothing[1] = {0};
    int n;
    if (!s->done || s->broken) return false;
    if (s->unsent == 0) return true;
    n = mbedtls_ssl_write(&s->ssl, nothing, s->unsent); /* it has them already */
    if (n > 0) s->unsent = 0;
    else if (!is_wait(n)) give_up(s, n);
    return n > 0;
}

static void say_farewell(struct secure *s)
{
    if (s->farewell == FAREWELL_FIN || s->notified) return;
    s->notified = mbedtls_ssl_close_notify(&s->ssl) != MBEDTLS_ERR_SSL_WANT_WRITE;
}

void secure_step(struct client *cl)
{
    struct secure *s = cl->conn->secure;
    if (s == NULL || s->left) return;
    if (s->v->peer_gone) { /* a reset of its own */
        s->left = true;
        return;
    }
    enter_peers();
    shake_hands(s);
    push(s);
    if (s->left) return;
    if (s->wants_fin && push(s) && !s->v->in.fin_sent) {
        say_farewell(s);
        if (s->farewell == FAREWELL_FIN || (s->notified && s->farewell == FAREWELL_BOTH)) wire_fin(s->v);
    }
    if (!s->wants_leave || (s->done && !push(s) && !s->mute)) return;
    if (s->left) return;
    if (s->done) say_farewell(s); /* if it can be sent now */
    s->left = true;
    wire_leave(s->v);
}

static size_t secure_write(struct conn *v, const void *data, size_t len)
{
    struct secure *s = v->secure;
    int n;
    enter_peers();
    if (!push(s) || s->left || s->notified || len == 0) return 0;
    n = mbedtls_ssl_write(&s->ssl, data, len);
    if (n > 0) return (size_t)n;
    if (n == MBEDTLS_ERR_SSL_WANT_WRITE) {
        s->unsent = len < MBEDTLS_SSL_OUT_CONTENT_LEN ? len : MBEDTLS_SSL_OUT_CONTENT_LEN;
        return s->unsent;
    }
    if (!is_wait(n)) give_up(s, n);
    return 0;
}

static size_t secure_read(struct conn *v, uint8_t *data, size_t len)
{
    struct secure *s = v->secure;
    int n;
    if (!s->done || s->broken || s->ended || s->left || len == 0) return 0;
    enter_peers();
    do n = mbedtls_ssl_read(&s->ssl, data, len);
    while (n == MBEDTLS_ERR_SSL_RECEIVED_NEW_SESSION_TICKET);
    if (n > 0) return (size_t)n;
    if (n == MBEDTLS_ERR_SSL_PEER_CLOSE_NOTIFY) s->ended = true;
    else if (!is_wait(n)) give_up(s, n);
    return 0;
}

static void secure_fin(struct conn *v)
{
    v->secure->wants_fin = true;
    if (!v->secure->done) wire_fin(v);
    step_after(&v->secure->client->actor, 0);
}

static void secure_leave(struct conn *v)
{
    static uint8_t lost[4096];
    if (v->secure->left) return;
    if (secure_read(v, lost, sizeof lost) > 0) {
        peer_reset(v);
        return;
    }
    v->secure->wants_leave = true;
    secure_step(v->secure->client);
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

static void choose_wire_trouble(struct secure *s)
{
    struct trouble *t = &s->trouble;
    if (!one_in(2 * world.mood.client_trouble_one_in) || s->client->trouble.kind != TROUBLE_NONE) return;
    t->kind = (uint8_t)between(TROUBLE_STALL, TROUBLE_DAMAGE);
    t->reading = (t->kind == TROUBLE_STALL || t->kind == TROUBLE_DAMAGE) && one_in(2);
    t->at = one_in(2) ? between(0, 600) : between(600, 4000);
}

void secure_start_client(struct client *cl)
{
    struct secure *s = &secures[cl->actor.number];
    s->v = cl->conn;
    s->client = cl;
    if (!cl->speaks_tls) return;
    if (cl->listener != LISTENER_TLS) cl->happened |= CLIENT_ABORTED; /* it cannot read what it is told */
    s->used = true;
    s->farewell = (uint8_t)(one_in(2) ? FAREWELL_BOTH : between(FAREWELL_NOTIFY, FAREWELL_FIN));
    choose_wire_trouble(s);
    enter_peers();
    mbedtls_ssl_init(&s->ssl);
    must(mbedtls_ssl_setup(&s->ssl, &configs[between(0, KIND_COUNT - 1)]), "setup");
    must(mbedtls_ssl_set_hostname(&s->ssl, "proxy.sim"), "name");
    mbedtls_ssl_set_bio(&s->ssl, s, wire_out, wire_in, NULL);
    cl->conn->secure = s;
    cl->conn->end = &secure_end;
}

/* ---- For the checks ---- */

uint64_t core_received(const struct client *cl)
{
    return cl->conn->received;
}

bool secure_excuses(const struct client *cl, uint8_t cause)
{
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
    REQUIRE(PROPERTY_LEAK, miniproxy_tls_active(&tls) == 0, "%u TLS connections are left", miniproxy_tls_active(&tls));
    for (unsigned i = 0; i < world.client_count; i++) check_handshake(&world.clients[i]);
    enter_peers();
    for (unsigned i = 0; i < CLIENTS_MAX; i++)
        if (secures[i].used) mbedtls_ssl_free(&secures[i].ssl);
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

void secure_step(struct client *cl)
{
    (void)cl;
}

uint64_t core_received(const struct client *cl)
{
    return cl->conn->consumed;
}

bool secure_excuses(const struct client *cl, uint8_t cause)
{
    (void)cl, (void)cause;
    return false;
}

void secure_check_rest(void)
{
}

#endif

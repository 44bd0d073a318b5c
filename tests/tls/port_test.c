/* SPDX-License-Identifier: MIT
 *
 * The TLS port over a wire in memory: the port below, and at the other end of each connection a peer of mbedTLS's own.
 * The wire passes as few octets at a time as a test wants, stops, ends or breaks wherever a test wants.
 *
 * In place of the core there is what the core may do and no more: a call only while ready says so, AGAIN takes the bit
 * away. A wake that is missing shows as a test that comes to a standstill.
 */
#include "../../port/miniproxy_tls.c"
#include "../unit/unit.h"

#include <mbedtls/ecp.h>
#include <mbedtls/oid.h>

enum { QUEUE = 65536, CONNS = 6, PEER_HEAP = 4 << 20, LIMIT = 200000 };

/* ---- What the port and its peers run on ---- */

int miniproxy_tls_entropy(void *out, size_t len)
{
    unsigned char *p = out;
    while (len-- > 0) *p++ = (unsigned char)unit_random(256);
    return 0;
}

struct queue {
    unsigned char data[QUEUE];
    size_t put, taken;   /* octets ever */
    size_t room;         /* octets that are under way at most */
    size_t stop_at;      /* so many pass, and then … */
    enum { STOP_NEVER, STOP_STALL, STOP_END, STOP_RESET } stop;
    bool ended;
};

struct wire {
    struct miniproxy_conn c;
    struct queue in, out; /* to the proxy, and from it */
    size_t most;          /* octets of one call */
    bool pending, closed, hard;
};

static struct wire wires[CONNS];
static struct miniproxy_tls tls, peer_tls;
static uint64_t peer_heap[PEER_HEAP / 8];
static struct miniproxy_tls_event last_event;
static unsigned events[MINIPROXY_TLS_FAILED + 1], relayed;
static uint32_t now_ms;

static struct wire *wire_of(struct miniproxy_conn *c)
{
    return (struct wire *)(void *)((unsigned char *)c - offsetof(struct wire, c));
}

void miniproxy_wake(struct miniproxy_conn *c, unsigned ready)
{
    assert_false(wire_of(c)->closed);
    c->ready |= (uint8_t)ready;
}

void miniproxy_wake_accept(struct miniproxy *proxy)
{
    (void)proxy;
}

bool miniproxy_addr_parse(struct miniproxy_addr *a, const char *text, size_t len)
{
    if (len != 9 || memcmp(text, "192.0.2.", 8) != 0) return false;
    *a = (struct miniproxy_addr){.ip = {192, 0, 2, (uint8_t)(text[8] - '0')}, .family = 4};
    return true;
}

/* A result of enum miniproxy_result, or octets. */
static int queue_put(struct queue *q, const void *data, size_t len, size_t most)
{
    size_t n = len < most ? len : most, under_way = q->put - q->taken;
    if (q->stop != STOP_NEVER && q->put == q->stop_at) return q->stop == STOP_RESET ? MINIPROXY_ERESET : MINIPROXY_AGAIN;
    if (n > q->room - under_way) n = q->room - under_way;
    if (q->stop != STOP_NEVER && n > q->stop_at - q->put) n = q->stop_at - q->put;
    if (n == 0) return MINIPROXY_AGAIN;
    for (size_t i = 0; i < n; i++) q->data[(q->put + i) % QUEUE] = ((const unsigned char *)data)[i];
    q->put += n;
    return (int)n;
}

static int queue_take(struct queue *q, void *data, size_t len, size_t most)
{
    size_t n = len < most ? len : most;
    if (n > q->put - q->taken) n = q->put - q->taken;
    if (n == 0) {
        bool is_at_stop = q->stop != STOP_NEVER && q->taken == q->stop_at;
        if (is_at_stop && q->stop == STOP_RESET) return MINIPROXY_ERESET;
        return q->ended || (is_at_stop && q->stop == STOP_END) ? MINIPROXY_EOF : MINIPROXY_AGAIN;
    }
    for (size_t i = 0; i < n; i++) ((unsigned char *)data)[i] = q->data[(q->taken + i) % QUEUE];
    q->taken += n;
    return (int)n;
}

static bool is_broken(const struct wire *w)
{
    return (w->in.stop == STOP_RESET && w->in.put == w->in.stop_at) ||
           (w->out.stop == STOP_RESET && w->out.put == w->out.stop_at);
}

/* ---- The port below ---- */

static int wire_accept(void *port, struct miniproxy_conn *c, struct miniproxy_addr *peer)
{
    (void)port;
    if (!wire_of(c)->pending) return MINIPROXY_AGAIN;
    wire_of(c)->pending = false;
    *peer = (struct miniproxy_addr){.ip = {192, 0, 2, 7}, .family = 4, .port = 1000};
    return MINIPROXY_OK;
}

static int wire_connect(void *port, struct miniproxy_conn *c, const struct miniproxy_addr *to)
{
    (void)port, (void)to;
    if (!wire_of(c)->pending) return MINIPROXY_OK;
    wire_of(c)->pending = false;
    miniproxy_wake(c, MINIPROXY_WR);
    return MINIPROXY_AGAIN;
}

static int wire_recv(void *port, struct miniproxy_conn *c, void *buf, size_t len)
{
    struct wire *w = wire_of(c);
    int n;
    (void)port;
    assert_false(w->closed);
    n = queue_take(&w->in, buf, len, w->most);
    if (n > 0 && w->in.put == w->in.taken && w->in.stop == STOP_NEVER && !w->in.ended)
        c->ready &= (uint8_t)~MINIPROXY_RD; /* as ports do that know it */
    return n;
}

static int wire_send(void *port, struct miniproxy_conn *c, const void *buf, size_t len)
{
    struct wire *w = wire_of(c);
    (void)port;
    assert_false(w->closed);
    return queue_put(&w->out, buf, len, w->most);
}

static int wire_finish(void *port, struct miniproxy_conn *c)
{
    (void)port;
    wire_of(c)->out.ended = true;
    return MINIPROXY_OK;
}

static void wire_close(void *port, struct miniproxy_conn *c, bool hard)
{
    (void)port;
    wire_of(c)->closed = true;
    wire_of(c)->hard = hard;
    wire_of(c)->out.ended = true;
}

static int wire_relay(void *port, struct miniproxy_conn *from, struct miniproxy_conn *to, size_t max)
{
    (void)port, (void)from, (void)to, (void)max;
    relayed++;
    return MINIPROXY_AGAIN;
}

static const struct miniproxy_port wire_port = {
    .accept = wire_accept, .connect = wire_connect, .recv = wire_recv, .send = wire_send,
    .finish = wire_finish, .close = wire_close, .relay = wire_relay,
};

/* ---- Certificates ---- */

struct identity {
    unsigned char cert[2048], key[2048];
    size_t cert_len, key_len;
    mbedtls_pk_context pk;
    mbedtls_x509_crt crt;
};

static struct identity root, stranger, good, expired, other_name, self_signed, foreign, rsa_root, rsa;
static mbedtls_ctr_drbg_context peer_random;

static void enter_peer(void)
{
    enter(&peer_tls, &peer_tls.keys[0].region);
}

/* The octets at the end of a buffer to its begin. */
static size_t to_front(unsigned char *buf, size_t size, int len)
{
    assert_true(len > 0);
    memmove(buf, buf + size - len, (size_t)len);
    return (size_t)len;
}

/* GeneralNames (RFC 5280 section 4.2.1.6): example.test, or another name, and 192.0.2.5. */
static void name_it(mbedtls_x509write_cert *w, const char *dns)
{
    unsigned char san[64];
    size_t len = strlen(dns);
    san[0] = 0x30;
    san[1] = (unsigned char)(len + 2 + 6);
    san[2] = 0x82;
    san[3] = (unsigned char)len;
    memcpy(san + 4, dns, len);
    memcpy(san + 4 + len, "\x87\x04\xc0\x00\x02\x05", 6);
    assert_int_equal(mbedtls_x509write_crt_set_extension(w, MBEDTLS_OID_SUBJECT_ALT_NAME,
                                                         MBEDTLS_OID_SIZE(MBEDTLS_OID_SUBJECT_ALT_NAME), 0, san,
                                                         len + 10), 0);
}

static void make(struct identity *id, const char *subject, const char *dns, struct identity *issuer,
                 const char *issuer_name, const char *from, const char *until)
{
    mbedtls_x509write_cert w;
    mbedtls_mpi serial;
    bool is_rsa = id == &rsa_root || id == &rsa;
    mbedtls_pk_init(&id->pk);
    assert_int_equal(mbedtls_pk_setup(&id->pk, mbedtls_pk_info_from_type(is_rsa ? MBEDTLS_PK_RSA : MBEDTLS_PK_ECKEY)), 0);
    if (is_rsa)
        assert_int_equal(mbedtls_rsa_gen_key(mbedtls_pk_rsa(id->pk), mbedtls_ctr_drbg_random, &peer_random, 2048, 65537),
                         0);
    else
        assert_int_equal(mbedtls_ecp_gen_key(MBEDTLS_ECP_DP_SECP256R1, mbedtls_pk_ec(id->pk), mbedtls_ctr_drbg_random,
                                             &peer_random), 0);
    mbedtls_x509write_crt_init(&w);
    mbedtls_x509write_crt_set_version(&w, MBEDTLS_X509_CRT_VERSION_3);
    mbedtls_x509write_crt_set_md_alg(&w, MBEDTLS_MD_SHA256);
    mbedtls_x509write_crt_set_subject_key(&w, &id->pk);
    mbedtls_x509write_crt_set_issuer_key(&w, issuer == NULL ? &id->pk : &issuer->pk);
    assert_int_equal(mbedtls_x509write_crt_set_subject_name(&w, subject), 0);
    assert_int_equal(mbedtls_x509write_crt_set_issuer_name(&w, issuer_name), 0);
    assert_int_equal(mbedtls_x509write_crt_set_validity(&w, from, until), 0);
    assert_int_equal(mbedtls_x509write_crt_set_basic_constraints(&w, dns == NULL, -1), 0);
    mbedtls_mpi_init(&serial);
    assert_int_equal(mbedtls_mpi_lset(&serial, 7), 0);
    assert_int_equal(mbedtls_x509write_crt_set_serial(&w, &serial), 0);
    if (dns != NULL) name_it(&w, dns);
    id->cert_len = to_front(id->cert, sizeof id->cert,
                            mbedtls_x509write_crt_der(&w, id->cert, sizeof id->cert, mbedtls_ctr_drbg_random,
                                                      &peer_random));
    id->key_len = to_front(id->key, sizeof id->key, mbedtls_pk_write_key_der(&id->pk, id->key, sizeof id->key));
    mbedtls_mpi_free(&serial);
    mbedtls_x509write_crt_free(&w);
    mbedtls_x509_crt_init(&id->crt);
    assert_int_equal(mbedtls_x509_crt_parse_der(&id->crt, id->cert, id->cert_len), 0);
}

static void make_all(void)
{
    static const char begin[] = "20200101000000", end[] = "20490101000000", past[] = "20210101000000";
    static bool made;
    if (made) return;
    made = true;
    region_start(&peer_tls.keys[0].region, peer_heap, sizeof peer_heap);
    mbedtls_platform_set_calloc_free(take_memory, give_memory);
    enter_peer();
    mbedtls_ctr_drbg_init(&peer_random);
    assert_int_equal(mbedtls_ctr_drbg_seed(&peer_random, seed, NULL, NULL, 0), 0);
    mbedtls_ctr_drbg_init(&peer_tls.random);
    assert_int_equal(mbedtls_ctr_drbg_seed(&peer_tls.random, seed, NULL, NULL, 0), 0);
#if defined MBEDTLS_PSA_CRYPTO_C
    assert_int_equal(psa_crypto_init(), 0);
#endif
    make(&root, "CN=root", NULL, NULL, "CN=root", begin, end);
    make(&stranger, "CN=stranger", NULL, NULL, "CN=stranger", begin, end);
    make(&good, "CN=good", "example.test", &root, "CN=root", begin, end);
    make(&expired, "CN=expired", "example.test", &root, "CN=root", begin, past);
    make(&other_name, "CN=other", "another.test", &root, "CN=root", begin, end);
    make(&self_signed, "CN=self", "example.test", NULL, "CN=self", begin, end);
    make(&foreign, "CN=foreign", "example.test", &stranger, "CN=stranger", begin, end);
    make(&rsa_root, "CN=rsa root", NULL, NULL, "CN=rsa root", begin, end);
    make(&rsa, "CN=rsa", "example.test", &rsa_root, "CN=rsa root", begin, end);
}

/* ---- Peers ---- */

struct peer {
    struct wire *wire;
    mbedtls_ssl_context ssl;
    mbedtls_ssl_config config;
    int error; /* that ended it */
    bool done;
};

static int peer_send_octets(void *context, const unsigned char *data, size_t len)
{
    struct wire *w = ((struct peer *)context)->wire;
    int n = queue_put(&w->in, data, len, w->most);
    if (n == MINIPROXY_AGAIN) return MBEDTLS_ERR_SSL_WANT_WRITE;
    return n > 0 ? n : MBEDTLS_ERR_SSL_CONN_EOF;
}

static int peer_recv_octets(void *context, unsigned char *data, size_t len)
{
    struct wire *w = ((struct peer *)context)->wire;
    int n = queue_take(&w->out, data, len, w->most);
    if (n == MINIPROXY_AGAIN) return MBEDTLS_ERR_SSL_WANT_READ;
    return n > 0 ? n : MBEDTLS_ERR_SSL_CONN_EOF;
}

/* id: whose certificate it shows; NULL: a client without one. v1_2: it speaks nothing newer. */
static void peer_start(struct peer *p, struct wire *w, struct identity *id, bool is_server, bool v1_2)
{
    memset(p, 0, sizeof *p);
    p->wire = w;
    enter_peer();
    mbedtls_ssl_config_init(&p->config);
    assert_int_equal(mbedtls_ssl_config_defaults(&p->config, is_server ? MBEDTLS_SSL_IS_SERVER : MBEDTLS_SSL_IS_CLIENT,
                                                 MBEDTLS_SSL_TRANSPORT_STREAM, MBEDTLS_SSL_PRESET_DEFAULT), 0);
    mbedtls_ssl_conf_rng(&p->config, mbedtls_ctr_drbg_random, &peer_random);
    mbedtls_ssl_conf_authmode(&p->config, is_server ? MBEDTLS_SSL_VERIFY_NONE : MBEDTLS_SSL_VERIFY_REQUIRED);
    root.crt.next = &rsa_root.crt; /* both are trusted */
    mbedtls_ssl_conf_ca_chain(&p->config, &root.crt, NULL);
#if MBEDTLS_VERSION_NUMBER >= 0x03000000
    if (v1_2) mbedtls_ssl_conf_max_tls_version(&p->config, MBEDTLS_SSL_VERSION_TLS1_2);
#else
    (void)v1_2;
#endif
    if (id != NULL) assert_int_equal(mbedtls_ssl_conf_own_cert(&p->config, &id->crt, &id->pk), 0);
    mbedtls_ssl_init(&p->ssl);
    assert_int_equal(mbedtls_ssl_setup(&p->ssl, &p->config), 0);
    if (!is_server) assert_int_equal(mbedtls_ssl_set_hostname(&p->ssl, "example.test"), 0);
    mbedtls_ssl_set_bio(&p->ssl, p, peer_send_octets, peer_recv_octets, NULL);
}

static bool is_wait(int error)
{
    return error == MBEDTLS_ERR_SSL_WANT_READ || error == MBEDTLS_ERR_SSL_WANT_WRITE;
}

static int whole_handshake(mbedtls_ssl_context *ssl)
{
    int error;
    do error = mbedtls_ssl_handshake(ssl);
    while (error == MBEDTLS_ERR_SSL_CRYPTO_IN_PROGRESS);
    return error;
}

static void peer_go_on(struct peer *p)
{
    int error;
    if (p->done || p->error != 0) return;
    enter_peer();
    error = whole_handshake(&p->ssl);
    if (error == 0) p->done = true;
    else if (!is_wait(error)) p->error = error;
}

static int peer_write(struct peer *p, const void *data, size_t len)
{
    int n;
    enter_peer();
    n = mbedtls_ssl_write(&p->ssl, data, len);
    return is_wait(n) ? MINIPROXY_AGAIN : n;
}

static int peer_read(struct peer *p, void *data, size_t len)
{
    int n;
    enter_peer();
    do n = mbedtls_ssl_read(&p->ssl, data, len);
#if defined MBEDTLS_ERR_SSL_RECEIVED_NEW_SESSION_TICKET
    while (n == MBEDTLS_ERR_SSL_RECEIVED_NEW_SESSION_TICKET);
#else
    while (false);
#endif
    return is_wait(n) ? MINIPROXY_AGAIN : n;
}

static void peer_end(struct peer *p)
{
    enter_peer();
    mbedtls_ssl_free(&p->ssl);
    mbedtls_ssl_config_free(&p->config);
}

/* ---- Time and wakes ---- */

static void on_event(void *app, const struct miniproxy_tls_event *e)
{
    (void)app;
    last_event = *e;
    events[e->what]++;
}

static void wire_start(struct wire *w, size_t most, size_t room)
{
    struct miniproxy_conn c = {.id = (uint16_t)(w - wires), .generation = w->c.generation};
    memset(w, 0, sizeof *w);
    w->c = c;
    w->most = most;
    w->in.room = w->out.room = room;
    w->pending = true;
}

/* What a stack below does: the bits that are true now, as edges after AGAIN. */
static void wake_below(struct wire *w)
{
    unsigned ready = 0;
    if (w->closed) return;
    if (w->in.put != w->in.taken || w->in.ended || is_broken(w) ||
        (w->in.stop == STOP_END && w->in.taken == w->in.stop_at))
        ready |= MINIPROXY_RD;
    if (is_broken(w) || (w->out.put - w->out.taken < w->out.room &&
                         (w->out.stop != STOP_STALL || w->out.put < w->out.stop_at)))
        ready |= MINIPROXY_WR;
    ready &= ~(unsigned)w->c.ready;
    if (ready != 0) miniproxy_wake(&w->c, ready);
}

static void tls_start_with(const struct miniproxy_tls_config *config)
{
    const char *wrong;
    make_all();
    memset(&tls, 0, offsetof(struct miniproxy_tls, sessions));
    memset(events, 0, sizeof events);
    wrong = miniproxy_tls_init(&tls, config, NULL);
    assert_null(wrong);
    miniproxy_tls_poll(&tls, now_ms);
}

static void tls_start(uint32_t listeners, const struct identity *id, bool with_ca)
{
    struct miniproxy_tls_config config;
    make_all();
    config = (struct miniproxy_tls_config){
        .below = &wire_port, .listeners = listeners, .cert = id->cert, .cert_len = id->cert_len, .key = id->key,
        .key_len = id->key_len, .event = on_event, .ca = with_ca ? root.cert : NULL, .ca_len = root.cert_len,
    };
    tls_start_with(&config);
}

/* Nothing of a connection is left, and the rest of memory is given back. */
static void tls_stop(void)
{
    assert_int_equal(miniproxy_tls_active(&tls), 0);
    assert_int_equal(tls.busy, 0);
    for (unsigned i = 0; i < tls.used; i++) assert_int_equal(tls.sessions[i].region.used, 0);
    miniproxy_tls_end(&tls);
    assert_int_equal(tls.keys[0].region.used, 0);
}

static void shut(struct wire *w, bool hard)
{
    miniproxy_tls_port.close(&tls, &w->c, hard);
    w->c.generation++;
}

static void accept_wire(struct wire *w)
{
    struct miniproxy_addr from;
    assert_int_equal(miniproxy_tls_port.accept(&tls, &w->c, &from), MINIPROXY_OK);
    assert_int_equal(from.port, 1000);
    w->c.ready = MINIPROXY_RD | MINIPROXY_WR;
}

/* What a core does with recv and send: only when ready, and AGAIN takes the bit away. */
static int core_recv(struct wire *w, void *data, size_t len)
{
    int n;
    if ((w->c.ready & MINIPROXY_RD) == 0) return MINIPROXY_AGAIN;
    n = miniproxy_tls_port.recv(&tls, &w->c, data, len);
    assert_true(n != 0 && n <= (int)len);
    if (n == MINIPROXY_AGAIN) w->c.ready &= (uint8_t)~MINIPROXY_RD;
    return n;
}

static int core_send(struct wire *w, const void *data, size_t len)
{
    int n;
    if ((w->c.ready & MINIPROXY_WR) == 0) return MINIPROXY_AGAIN;
    n = miniproxy_tls_port.send(&tls, &w->c, data, len);
    assert_true(n != 0 && n <= (int)len);
    if (n == MINIPROXY_AGAIN) w->c.ready &= (uint8_t)~MINIPROXY_WR;
    return n;
}

/* One round of everything but the core. */
static void turn(struct wire *w, struct peer *p)
{
    peer_go_on(p);
    wake_below(w);
    miniproxy_tls_poll(&tls, now_ms);
}

/* A client's handshake until recv says something else than AGAIN, or nothing moves any more. */
static int shake(struct wire *w, struct peer *p)
{
    unsigned char octet;
    int n = MINIPROXY_AGAIN;
    for (unsigned still = 0; still < 32 && n == MINIPROXY_AGAIN; still++) { /* a signature comes in slices */
        size_t before = w->in.taken + w->out.put;
        turn(w, p);
        n = core_recv(w, &octet, 1);
        if (w->in.taken + w->out.put != before) still = 0;
        if (p->done && session_of(&tls, &w->c)->state == STATE_OPEN) break;
    }
    return n;
}

/* ---- Tests ---- */

struct course {
    bool v1_2;
    size_t most, room;
};

/* Octets both ways through a client's connection, as many at a time as chance wants. */
static void echo(struct wire *w, struct peer *p, size_t total)
{
    static unsigned char up[40000], down[40000], got[40000];
    size_t sent = 0, up_got = 0, echoed = 0, back = 0;
    assert_true(total <= sizeof up);
    for (size_t i = 0; i < total; i++) up[i] = (unsigned char)unit_random(256);
    for (unsigned i = 0; back < total; i++) {
        int n;
        assert_true(i < LIMIT);
        turn(w, p);
        if (sent < total && p->done && (n = peer_write(p, up + sent, total - sent)) > 0) sent += (size_t)n;
        if ((n = core_recv(w, down + up_got, 1 + unit_random(3000))) > 0) up_got += (size_t)n;
        else assert_int_equal(n, MINIPROXY_AGAIN);
        if (echoed < up_got) {
            /* the same octets, with more behind them or not, at another address */
            size_t len = 1 + unit_random((uint32_t)(up_got - echoed));
            unsigned char *copy = malloc(len < 600 ? 600 : len);
            if (session_of(&tls, &w->c)->retry > len) len = session_of(&tls, &w->c)->retry;
            copy = realloc(copy, len);
            assert_non_null(copy);
            memcpy(copy, down + echoed, len);
            if ((n = core_send(w, copy, len)) > 0) echoed += (size_t)n;
            else assert_int_equal(n, MINIPROXY_AGAIN);
            free(copy);
        }
        if (p->done && (n = peer_read(p, got + back, sizeof got - back)) > 0) back += (size_t)n;
    }
    assert_memory_equal(got, up, total);
}

static void client_round(const void *data)
{
    const struct course *course = data;
    struct wire *w = &wires[0];
    struct peer p;
    tls_start(1, &good, false);
    wire_start(w, course->most, course->room);
    peer_start(&p, w, NULL, false, course->v1_2);
    accept_wire(w);
    assert_int_equal(w->c.no_relay, MINIPROXY_TLS_BEGUN);
    echo(w, &p, course->most < 10 ? 3000 : 40000);
    assert_int_equal(w->c.no_relay, MINIPROXY_TLS_MADE);
    assert_int_equal(events[MINIPROXY_TLS_DONE], 1);
    assert_null(mbedtls_ssl_get_alpn_protocol(&p.ssl)); /* it did not ask */
    assert_int_equal(miniproxy_tls_port.client_name(&tls, &w->c, (char[8]){0}, 8), 0);
    print_message("    peak of a client's connection: %zu octets of %d\n", miniproxy_tls_peak(&tls), MINIPROXY_TLS_ARENA);
    shut(w, false);
    peer_end(&p);
    tls_stop();
}

static void origin_round(const void *data)
{
    const struct course *course = data;
    const struct miniproxy_addr to = {.ip = {192, 0, 2, 5}, .family = 4, .port = 443};
    static const char *const hosts[] = {"example.test", "192.0.2.5"};
    struct wire *w = &wires[1];
    struct peer p;
    for (unsigned h = 0; h < 2; h++) {
        int result = MINIPROXY_AGAIN;
        tls_start(0, &good, true);
        wire_start(w, course->most, course->room);
        peer_start(&p, w, &good, true, course->v1_2);
        assert_int_equal(miniproxy_tls_port.secure(&tls, &w->c, hosts[h]), MINIPROXY_OK);
        w->c.ready = MINIPROXY_WR;
        for (unsigned i = 0; result == MINIPROXY_AGAIN; i++) {
            assert_true(i < LIMIT);
            if (w->c.ready != 0) {
                w->c.ready = 0; /* as the core does before each call */
                result = miniproxy_tls_port.connect(&tls, &w->c, &to);
            }
            turn(w, &p);
        }
        assert_int_equal(result, MINIPROXY_OK);
        w->c.ready |= MINIPROXY_RD | MINIPROXY_WR;
        echo(w, &p, course->most < 10 ? 3000 : 40000);
        if (h == 0) print_message("    peak of an origin's connection: %zu octets\n", miniproxy_tls_peak(&tls));
        shut(w, true);
        assert_true(w->hard);
        peer_end(&p);
        tls_stop();
    }
}

/* connect with an origin that shows `id`, as if it were `host`. It takes octets but once, if so: no alert either. */
static int connect_once(struct identity *id, const char *host, bool once)
{
    const struct miniproxy_addr to = {.ip = {192, 0, 2, 5}, .family = 4, .port = 443};
    struct wire *w = &wires[2];
    struct peer p;
    int result = MINIPROXY_AGAIN;
    tls_start(0, &good, true);
    wire_start(w, 5000, 5000);
    peer_start(&p, w, id, true, false);
    assert_int_equal(miniproxy_tls_port.secure(&tls, &w->c, host), MINIPROXY_OK);
    for (unsigned i = 0; result == MINIPROXY_AGAIN && i < 1000; i++) {
        w->c.ready = 0;
        result = miniproxy_tls_port.connect(&tls, &w->c, &to);
        turn(w, &p);
        if (!once || w->out.put == 0 || w->out.stop != STOP_NEVER) continue;
        w->out.stop = STOP_RESET;
        w->out.stop_at = w->out.put;
    }
    if (result != MINIPROXY_OK) {
        assert_int_equal(events[MINIPROXY_TLS_FAILED], 1);
        assert_int_equal(last_event.result, result);
        assert_int_not_equal(last_event.error, 0);
    }
    shut(w, true);
    peer_end(&p);
    tls_stop();
    return result;
}

static int connect_to(struct identity *id, const char *host)
{
    return connect_once(id, host, false);
}

static void certificates(const void *data)
{
    (void)data;
    assert_int_equal(connect_to(&good, "example.test"), MINIPROXY_OK);
    assert_int_equal(connect_to(&good, "Example.TEST."), MINIPROXY_OK);
    assert_int_equal(connect_to(&good, "192.0.2.5"), MINIPROXY_OK);
    assert_int_equal(connect_to(&good, "192.0.2.6"), MINIPROXY_ETLS_NAME);
    assert_int_equal(connect_to(&other_name, "example.test"), MINIPROXY_ETLS_NAME);
    assert_int_equal(connect_to(&good, "sub.example.test"), MINIPROXY_ETLS_NAME);
    assert_int_equal(connect_to(&expired, "example.test"), MINIPROXY_ETLS_EXPIRED);
    assert_int_equal(connect_to(&self_signed, "example.test"), MINIPROXY_ETLS_SELF_SIGNED);
    assert_int_equal(connect_to(&foreign, "example.test"), MINIPROXY_ETLS_ISSUER);
    assert_int_equal(connect_once(&self_signed, "example.test", true), MINIPROXY_ETLS_SELF_SIGNED);
}

/* RSA: its keys keep memory for the next signature, and no connection may be the one that it is taken from. One after the
 * other, beside each other, and gone in another order. */
static void rsa_keys(const void *data)
{
    const struct course *course = data;
    struct miniproxy_tls_config config = {
        .below = &wire_port, .listeners = 1, .event = on_event, .cert = rsa.cert, .key = rsa.key, .client_ca = NULL};
    struct peer p[3];
    make_all();
    config.cert_len = rsa.cert_len;
    config.key_len = rsa.key_len;
    config.client_ca = rsa_root.cert;
    config.client_ca_len = rsa_root.cert_len;
    tls_start_with(&config);
    for (unsigned round = 0; round < 6; round++) {
        for (unsigned i = 0; i < 3; i++) {
            wire_start(&wires[i], 5000, 5000);
            peer_start(&p[i], &wires[i], &rsa, false, course->v1_2);
            accept_wire(&wires[i]);
            assert_int_equal(shake(&wires[i], &p[i]), MINIPROXY_AGAIN);
        }
        for (unsigned i = 0; i < 3; i++) {
            unsigned which = (i + round) % 3;
            echo(&wires[which], &p[which], 500);
            shut(&wires[which], round % 2 == 0);
            peer_end(&p[which]);
        }
    }
    assert_int_equal(events[MINIPROXY_TLS_DONE], 18);
    print_message("    peak: %zu octets, common %zu\n", miniproxy_tls_peak(&tls), miniproxy_tls_common_peak(&tls));
    tls_stop();
}

/* And to origins whose certificates an RSA key has signed. */
static void rsa_origins(const void *data)
{
    const struct course *course = data;
    const struct miniproxy_addr to = {.ip = {192, 0, 2, 5}, .family = 4, .port = 443};
    struct miniproxy_tls_config config = {.below = &wire_port, .event = on_event};
    struct peer p[2];
    make_all();
    config.ca = rsa_root.cert;
    config.ca_len = rsa_root.cert_len;
    tls_start_with(&config);
    for (unsigned round = 0; round < 6; round++) {
        for (unsigned i = 0; i < 2; i++) {
            int result = MINIPROXY_AGAIN;
            wire_start(&wires[i], 5000, 5000);
            peer_start(&p[i], &wires[i], &rsa, true, course->v1_2);
            assert_int_equal(miniproxy_tls_port.secure(&tls, &wires[i].c, "example.test"), MINIPROXY_OK);
            for (unsigned n = 0; result == MINIPROXY_AGAIN && n < 1000; n++) {
                wires[i].c.ready = 0;
                result = miniproxy_tls_port.connect(&tls, &wires[i].c, &to);
                turn(&wires[i], &p[i]);
            }
            assert_int_equal(result, MINIPROXY_OK);
            wires[i].c.ready = MINIPROXY_RD | MINIPROXY_WR;
        }
        for (unsigned i = 0; i < 2; i++) {
            unsigned which = (i + round) % 2;
            echo(&wires[which], &p[which], 500);
            shut(&wires[which], true);
            peer_end(&p[which]);
        }
    }
    tls_stop();
}

static void nobody_is_trusted(const void *data)
{
    (void)data;
    tls_start(1, &good, false);
    wire_start(&wires[0], 100, 100);
    assert_int_equal(miniproxy_tls_port.secure(&tls, &wires[0].c, "example.test"), MINIPROXY_ETLS_CONFIG);
    shut(&wires[0], true);
    tls_stop();
}

static void assert_is_named(struct wire *w, const char *expected)
{
    char name[64];
    size_t len = miniproxy_tls_port.client_name(&tls, &w->c, name, sizeof name);
    assert_int_equal(len, strlen(expected));
    assert_memory_equal(name, expected, len);
    assert_int_equal(miniproxy_tls_port.client_name(&tls, &w->c, name, strlen(expected) - 1), 0);
}

/* Devices that share a key with the proxy need no certificates; no other key opens anything. */
static void shared_keys(const void *data)
{
    static const uint8_t key[] = "0123456789abcdef";
    static const struct miniproxy_tls_psk psks[] = {{"sensor-1", key, 16}, {"sensor-2", key + 1, 16}};
    static const struct {
        const char *identity;
        size_t at;
        bool fits;
    } cases[] = {{"sensor-1", 0, true}, {"sensor-2", 1, true}, {"sensor-1", 1, false}, {"sensor-3", 0, false},
                 {"sensor-", 0, false}, {"", 0, false}};
    (void)data;
    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct miniproxy_tls_config config = {.below = &wire_port, .listeners = 1, .event = on_event, .psks = psks,
                                              .psk_count = 2};
        struct wire *w = &wires[0];
        struct peer p;
        tls_start_with(&config);
        wire_start(w, 5000, 5000);
        peer_start(&p, w, NULL, false, true);
        if (*cases[i].identity != '\0')
            assert_int_equal(mbedtls_ssl_conf_psk(&p.config, key + cases[i].at, 16,
                                                  (const unsigned char *)cases[i].identity,
                                                  strlen(cases[i].identity)), 0);
        accept_wire(w);
        if (cases[i].fits) {
            echo(w, &p, 1000);
            assert_non_null(strstr(mbedtls_ssl_get_ciphersuite(&p.ssl), "PSK"));
            assert_is_named(w, cases[i].identity);
        } else {
            assert_int_equal(shake(w, &p), MINIPROXY_EOF);
            assert_int_equal(events[MINIPROXY_TLS_FAILED], 1);
            assert_int_equal(events[MINIPROXY_TLS_DONE], 0);
        }
        shut(w, false);
        peer_end(&p);
        tls_stop();
    }
}

/* Clients with a certificate of those who may issue them, and no others. */
static void client_certificates(const void *data)
{
    const struct course *course = data;
    struct identity *shown[] = {&good, NULL, &foreign, &self_signed, &expired};
    for (unsigned i = 0; i < sizeof shown / sizeof shown[0]; i++) {
        struct miniproxy_tls_config config = {
            .below = &wire_port, .listeners = 1, .event = on_event, .cert = good.cert, .cert_len = good.cert_len,
            .key = good.key, .key_len = good.key_len, .client_ca = root.cert, .client_ca_len = root.cert_len};
        struct wire *w = &wires[0];
        struct peer p;
        tls_start_with(&config);
        wire_start(w, 5000, 5000);
        peer_start(&p, w, shown[i], false, course->v1_2);
        accept_wire(w);
        if (i == 0) {
            echo(w, &p, 1000);
            assert_is_named(w, "good");
        } else {
            assert_int_equal(shake(w, &p), MINIPROXY_EOF);
            assert_int_equal(events[MINIPROXY_TLS_FAILED], 1);
            assert_int_equal(events[MINIPROXY_TLS_DONE], 0);
            assert_true(last_event.result == (shown[i] == NULL           ? MINIPROXY_ETLS_CERTIFICATE
                                              : shown[i] == &expired     ? MINIPROXY_ETLS_EXPIRED
                                              : shown[i] == &self_signed ? MINIPROXY_ETLS_SELF_SIGNED
                                                                         : MINIPROXY_ETLS_ISSUER));
        }
        shut(w, false);
        peer_end(&p);
        tls_stop();
    }
}

/* The octets that a handshake has in one direction. */
static size_t handshake_octets(bool v1_2, bool in)
{
    struct wire *w = &wires[0];
    struct peer p;
    size_t octets;
    tls_start(1, &good, false);
    wire_start(w, 5000, 5000);
    peer_start(&p, w, NULL, false, v1_2);
    accept_wire(w);
    shake(w, &p);
    assert_int_equal(events[MINIPROXY_TLS_DONE], 1);
    octets = in ? w->in.put : w->out.put;
    shut(w, true);
    peer_end(&p);
    tls_stop();
    return octets;
}

/* A stop at every octet of a handshake: the connection ends, nothing is left behind, and the next one is served. */
static void stops(const void *data)
{
    const struct course *course = data;
    for (unsigned direction = 0; direction < 2; direction++) {
        size_t octets = handshake_octets(course->v1_2, direction == 0);
        for (int stop = STOP_STALL; stop <= STOP_RESET; stop++) {
            if (direction == 1 && stop == STOP_END) continue; /* it is the peer that would end */
            tls_start(1, &good, false);
            for (size_t at = 0; at < octets; at++) {
                struct wire *w = &wires[0];
                struct queue *q;
                struct peer p;
                int n;
                wire_start(w, 5000, 5000);
                q = direction == 0 ? &w->in : &w->out;
                q->stop = (unsigned)stop;
                q->stop_at = at;
                peer_start(&p, w, NULL, false, course->v1_2);
                accept_wire(w);
                n = shake(w, &p);
                if (stop == STOP_STALL && n == MINIPROXY_AGAIN && miniproxy_tls_active(&tls) == 1 &&
                    session_of(&tls, &w->c)->state == STATE_HANDSHAKE) {
                    assert_true(miniproxy_tls_poll(&tls, now_ms + MINIPROXY_TLS_HANDSHAKE_MS - 1) <= 1);
                    assert_int_equal(core_recv(w, &n, 1), MINIPROXY_AGAIN);
                    now_ms += MINIPROXY_TLS_HANDSHAKE_MS;
                    miniproxy_tls_poll(&tls, now_ms);
                    n = core_recv(w, &n, 1);
                    assert_int_equal(n, MINIPROXY_EOF); /* a client has just gone; events tell why */
                    assert_int_equal(last_event.result, MINIPROXY_ETLS_TIMEOUT);
                    assert_int_equal(miniproxy_tls_port.recv(&tls, &w->c, &n, 1), MINIPROXY_EOF);
                } else if (stop != STOP_STALL) {
                    assert_true(n == MINIPROXY_ERESET || n == MINIPROXY_EOF || n == MINIPROXY_AGAIN);
                }
                shut(w, n < 0);
                peer_end(&p);
            }
            tls_stop();
        }
    }
}

/* Octets that are not what the peer sent: an error or, where nothing depends on them, none; never anything else. */
static void damage(const void *data)
{
    const struct course *course = data;
    size_t octets = handshake_octets(course->v1_2, true);
    unsigned failed = 0;
    tls_start(1, &good, false);
    for (size_t at = 0; at < octets; at++) {
        struct wire *w = &wires[0];
        struct peer p;
        unsigned char octet;
        bool damaged = false;
        int n = MINIPROXY_AGAIN;
        wire_start(w, 5000, 5000);
        peer_start(&p, w, NULL, false, course->v1_2);
        accept_wire(w);
        for (unsigned i = 0; i < 100 && n == MINIPROXY_AGAIN; i++) {
            peer_go_on(&p);
            if (!damaged && w->in.put > at && w->in.taken <= at) {
                w->in.data[at % QUEUE] ^= (unsigned char)(1u << unit_random(8));
                damaged = true;
            }
            turn(w, &p);
            n = core_recv(w, &octet, 1);
        }
        assert_true(damaged);
        failed += n != MINIPROXY_AGAIN;
        shut(w, false);
        peer_end(&p);
    }
    tls_stop();
    assert_true(failed > octets / 2);
}

static void garbage(const void *data)
{
    (void)data;
    tls_start(1, &good, false);
    for (unsigned round = 0; round < 3000; round++) {
        struct wire *w = &wires[0];
        unsigned char octets[300];
        unsigned len = 1 + unit_random(sizeof octets);
        int n = MINIPROXY_AGAIN;
        wire_start(w, 5000, 5000);
        accept_wire(w);
        for (unsigned i = 0; i < len; i++) octets[i] = (unsigned char)unit_random(256);
        if (unit_random(2) == 0) octets[0] = 22; /* a handshake */
        if (unit_random(2) == 0 && len > 3) octets[1] = 3, octets[2] = 1, octets[3] = 0;
        queue_put(&w->in, octets, len, len);
        w->in.ended = true;
        for (unsigned i = 0; i < 20 && n == MINIPROXY_AGAIN; i++) {
            wake_below(w);
            miniproxy_tls_poll(&tls, now_ms);
            n = core_recv(w, octets, 1);
        }
        assert_true(n < 0 && n != MINIPROXY_AGAIN);
        shut(w, false);
    }
    tls_stop();
}

static void plain_http(const void *data)
{
    struct wire *w = &wires[0];
    char buf[32];
    int n = MINIPROXY_AGAIN;
    (void)data;
    tls_start(1, &good, false);
    wire_start(w, 5000, 5000);
    accept_wire(w);
    queue_put(&w->in, "GET http://a/ HTTP/1.1\r\n\r\n", 26, 26);
    for (unsigned i = 0; i < 10 && n == MINIPROXY_AGAIN; i++) {
        wake_below(w);
        miniproxy_tls_poll(&tls, now_ms);
        n = core_recv(w, buf, sizeof buf);
    }
    assert_int_equal(n, MINIPROXY_EPLAIN);
    assert_int_equal(events[MINIPROXY_TLS_PLAIN], 1);
    assert_int_equal(core_send(w, "HTTP/1.1 400 \r\n\r\n", 17), 17);
    assert_int_equal(w->out.put, 17);
    assert_memory_equal(w->out.data, "HTTP/1.1 400 ", 13); /* in clear, and no alert in front of it */
    assert_int_equal(core_recv(w, buf, sizeof buf), 21); /* 5 have been looked at */
    assert_int_equal(miniproxy_tls_port.finish(&tls, &w->c), MINIPROXY_OK);
    shut(w, false);
    tls_stop();
}

static void all_in_use(const void *data)
{
    struct miniproxy_addr from;
    struct peer p[CONNS];
    unsigned char alert[16];
    (void)data;
    tls_start(1, &good, false);
    for (unsigned i = 0; i < MINIPROXY_TLS_SESSIONS; i++) {
        wire_start(&wires[i], 5000, 5000);
        peer_start(&p[i], &wires[i], NULL, false, false);
        accept_wire(&wires[i]);
    }
    shake(&wires[0], &p[0]);
    wire_start(&wires[CONNS - 1], 5000, 5000);
    assert_int_equal(miniproxy_tls_port.accept(&tls, &wires[CONNS - 1].c, &from), MINIPROXY_EFULL);
    assert_false(wires[CONNS - 1].closed);
    assert_int_equal(miniproxy_tls_port.accept(&tls, &wires[CONNS - 1].c, &from), MINIPROXY_ERESET); /* none has gone */
    assert_true(wires[CONNS - 1].closed);
    assert_int_equal(queue_take(&wires[CONNS - 1].out, alert, sizeof alert, sizeof alert), 7);
    assert_int_equal(alert[0], 21);
    assert_int_equal(events[MINIPROXY_TLS_FULL], 1);
    assert_int_equal(wires[CONNS - 1].c.no_relay, 0);
    echo(&wires[0], &p[0], 1000); /* the others are not disturbed */
    wire_start(&wires[CONNS - 1], 5000, 5000);
    assert_int_equal(miniproxy_tls_port.accept(&tls, &wires[CONNS - 1].c, &from), MINIPROXY_EFULL);
    shut(&wires[1], true); /* the core's answer: one that idles */
    peer_end(&p[1]);
    peer_start(&p[1], &wires[CONNS - 1], NULL, false, true);
    assert_int_equal(miniproxy_tls_port.accept(&tls, &wires[CONNS - 1].c, &from), MINIPROXY_OK);
    wires[CONNS - 1].c.ready = MINIPROXY_RD | MINIPROXY_WR;
    echo(&wires[CONNS - 1], &p[1], 1000);
    shut(&wires[CONNS - 1], true);
    peer_end(&p[1]);
    wire_start(&wires[1], 5000, 5000);
    peer_start(&p[1], &wires[1], NULL, false, true);
    accept_wire(&wires[1]);
    echo(&wires[1], &p[1], 1000);
    for (unsigned i = 0; i < MINIPROXY_TLS_SESSIONS; i++) {
        shut(&wires[i], false);
        peer_end(&p[i]);
    }
    tls_stop();
}

/* close_notify both ways, and what its absence means (RFC 9112 section 9.8). */
static void ends(const void *data)
{
    const struct course *course = data;
    struct wire *w = &wires[0];
    struct peer p;
    char buf[16];
    for (unsigned polite = 0; polite < 2; polite++) {
        tls_start(1, &good, false);
        wire_start(w, course->most, course->room);
        peer_start(&p, w, NULL, false, course->v1_2);
        accept_wire(w);
        echo(w, &p, 100);
        enter_peer();
        if (polite != 0)
            for (unsigned i = 0; mbedtls_ssl_close_notify(&p.ssl) != 0; i++) {
                int n = core_recv(w, buf, sizeof buf);
                assert_true(i < LIMIT && (n == MINIPROXY_AGAIN || n == MINIPROXY_EOF));
                turn(w, &p);
                enter_peer();
            }
        w->in.ended = true;
        wake_below(w);
        for (unsigned i = 0;; i++) {
            int n = core_recv(w, buf, sizeof buf);
            assert_true(i < LIMIT);
            if (n == MINIPROXY_EOF) break;
            assert_int_equal(n, MINIPROXY_AGAIN);
            turn(w, &p);
        }
        assert_int_equal(miniproxy_tls_port.recv(&tls, &w->c, buf, sizeof buf), MINIPROXY_EOF);
        for (unsigned i = 0; core_send(w, "late", 4) != 4; i++) {
            assert_true(i < LIMIT && peer_read(&p, buf, sizeof buf) == MINIPROXY_AGAIN);
            turn(w, &p);
        }
        for (unsigned i = 0, got = 0, finished = 0;; i++) {
            int n = peer_read(&p, buf, sizeof buf);
            assert_true(i < LIMIT);
            if (!finished) finished = miniproxy_tls_port.finish(&tls, &w->c) == MINIPROXY_OK;
            if (n == MBEDTLS_ERR_SSL_PEER_CLOSE_NOTIFY) {
                assert_int_equal(got, 4);
                break;
            }
            assert_true(n == MINIPROXY_AGAIN || (n > 0 && memcmp(buf, &"late"[got], (size_t)n) == 0));
            if (n > 0) got += (unsigned)n;
        }
        assert_true(w->out.ended);
        shut(w, false);
        peer_end(&p);
        tls_stop();
    }
}

/* An origin that ends without close_notify has been cut. */
static void cut_origin(const void *data)
{
    const struct miniproxy_addr to = {.ip = {192, 0, 2, 5}, .family = 4, .port = 443};
    struct wire *w = &wires[0];
    struct peer p;
    char buf[8];
    int result = MINIPROXY_AGAIN;
    (void)data;
    tls_start(0, &good, true);
    wire_start(w, 5000, 5000);
    peer_start(&p, w, &good, true, false);
    assert_int_equal(miniproxy_tls_port.secure(&tls, &w->c, "example.test"), MINIPROXY_OK);
    for (unsigned i = 0; result == MINIPROXY_AGAIN && i < 1000; i++) {
        w->c.ready = 0;
        result = miniproxy_tls_port.connect(&tls, &w->c, &to);
        turn(w, &p);
    }
    w->c.ready |= MINIPROXY_RD | MINIPROXY_WR;
    for (unsigned i = 0; !p.done; i++) {
        assert_true(i < 100);
        turn(w, &p);
    }
    assert_int_equal(peer_write(&p, "abc", 3), 3);
    w->in.ended = true;
    wake_below(w);
    assert_int_equal(core_recv(w, buf, 3), 3); /* data before its end */
    assert_int_equal(core_recv(w, buf, 3), MINIPROXY_ERESET);
    shut(w, true);
    peer_end(&p);
    tls_stop();
}

/* Take memory from the end of a region, of which it is not in use. */
static bool shrink(struct miniproxy_tls_region *r, size_t size)
{
    size_t at = 0;
    while (at + size_of(block_at(r->memory, at)) < r->size) at += size_of(block_at(r->memory, at));
    if ((block_at(r->memory, at)->size & BLOCK_USED) != 0 || at + BLOCK_LEAST > size) return false;
    block_at(r->memory, at)->size = (uint32_t)(size - at);
    r->size = size;
    return true;
}

/* An arena that is too small, by however much: no connection, and nothing lost. */
static void little_memory(const void *data)
{
    const struct course *course = data;
    size_t peak;
    unsigned told = 0, tried = 0;
    handshake_octets(course->v1_2, true);
    peak = tls.peak & ~(size_t)7;
    for (size_t size = peak - 8; size > 1024; size -= 128) {
        struct wire *w = &wires[0];
        struct peer p;
        tls_start(1, &good, false);
        wire_start(w, 5000, 5000);
        peer_start(&p, w, NULL, false, course->v1_2);
        accept_wire(w);
        if (shrink(&session_of(&tls, &w->c)->region, size)) {
            tried++;
            shake(w, &p);
            if (events[MINIPROXY_TLS_FAILED] == 1 && last_event.result == MINIPROXY_ERESOURCES) told++;
        } else {
            size = 0;
        }
        shut(w, false);
        peer_end(&p);
        tls_stop();
        if (size == 0) break;
    }
    print_message("    %u sizes\n", tried);
    assert_true(told == tried && tried > 10);
}

/* After an hour without a poll, and in the place of a connection that has been finished: neither that hour nor that end
 * is the new one's. */
static void nothing_is_inherited(const void *data)
{
    struct wire *w = &wires[0];
    struct peer p;
    (void)data;
    tls_start(1, &good, false);
    for (unsigned i = 0; i < 3; i++) {
        now_ms += 3600000;
        wire_start(w, 5000, 5000);
        peer_start(&p, w, NULL, false, false);
        accept_wire(w);
        echo(w, &p, 500);
        assert_int_equal(events[MINIPROXY_TLS_DONE], i + 1);
        while (miniproxy_tls_port.finish(&tls, &w->c) == MINIPROXY_AGAIN) turn(w, &p);
        shut(w, false);
        peer_end(&p);
    }
    assert_int_equal(tls.used, 1);
    tls_stop();
}

/* One step of a client's handshake: whether the signature was the reason for it. */
static bool is_signature_step(struct wire *w, struct peer *p)
{
    unsigned char octet;
    bool was;
    turn(w, p);
    was = session_of(&tls, &w->c)->ssl.MBEDTLS_PRIVATE(state) == MBEDTLS_SSL_SERVER_KEY_EXCHANGE;
    assert_int_equal(core_recv(w, &octet, 1), MINIPROXY_AGAIN);
    return was;
}

/* A signature of a server of TLS 1.2 takes several steps. Others are served in between, a connection that ends in its
 * midst leaves nothing behind, and two of them, with one key, do not disturb each other. */
static void slices(const void *data)
{
    struct peer p[2];
    unsigned all = 0;
    (void)data;
    tls_start(1, &good, false);
    for (unsigned stop = 0; stop <= all; stop++) { /* the first round finds how many there are */
        struct wire *w = &wires[0];
        unsigned steps = 0;
        wire_start(w, 5000, 5000);
        peer_start(&p[0], w, NULL, false, true);
        accept_wire(w);
        while (!p[0].done && (stop == 0 || steps < stop)) steps += is_signature_step(w, &p[0]);
        if (stop == 0) all = steps;
        shut(w, true);
        assert_int_equal(miniproxy_tls_active(&tls), 0);
        peer_end(&p[0]);
    }
    print_message("    %u steps\n", all);
    assert_true(all >= 4);
    for (unsigned i = 0; i < 2; i++) {
        wire_start(&wires[i], 5000, 5000);
        peer_start(&p[i], &wires[i], NULL, false, true);
        accept_wire(&wires[i]);
    }
    for (unsigned i = 0; !p[0].done || !p[1].done; i++) {
        assert_true(i < LIMIT);
        (void)is_signature_step(&wires[i % 2], &p[i % 2]);
    }
    for (unsigned i = 0; i < 2; i++) {
        echo(&wires[i], &p[i], 1000);
        shut(&wires[i], false);
        peer_end(&p[i]);
    }
    tls_stop();
}

/* An alert has no place behind the end: what still comes may be broken. */
static void no_alert_behind_the_end(const void *data)
{
    struct wire *w = &wires[0];
    struct peer p;
    size_t sent;
    char buf[8];
    (void)data;
    tls_start(1, &good, false);
    wire_start(w, 5000, 5000);
    peer_start(&p, w, NULL, false, false);
    accept_wire(w);
    echo(w, &p, 100);
    assert_int_equal(miniproxy_tls_port.finish(&tls, &w->c), MINIPROXY_OK);
    sent = w->out.put;
    assert_int_equal(peer_write(&p, "abc", 3), 3);
    w->in.data[(w->in.put - 1) % QUEUE] ^= 1;
    wake_below(w);
    assert_int_equal(core_recv(w, buf, sizeof buf), MINIPROXY_ERESET);
    assert_int_equal(w->out.put, sent);
    shut(w, false);
    peer_end(&p);
    tls_stop();
}

/* ---- Renewals ---- */

static struct miniproxy_tls_config config_of(const struct identity *id)
{
    return (struct miniproxy_tls_config){.below = &wire_port, .listeners = 1, .event = on_event, .cert = id->cert,
                                         .cert_len = id->cert_len, .key = id->key, .key_len = id->key_len,
                                         .ca = root.cert, .ca_len = root.cert_len};
}

static const char *renew(const struct miniproxy_tls_config *c)
{
    int error;
    const char *wrong = miniproxy_tls_renew(&tls, c, &error);
    if (wrong != NULL && strcmp(wrong, "busy") != 0) assert_int_not_equal(error, 0);
    return wrong;
}

static void meet(struct wire *w, struct peer *p, bool v1_2)
{
    wire_start(w, 5000, 5000);
    peer_start(p, w, NULL, false, v1_2);
    accept_wire(w);
}

static void part(struct wire *w, struct peer *p)
{
    shut(w, false);
    peer_end(p);
}

static bool has_seen(const struct peer *p, const struct identity *id)
{
    const mbedtls_x509_crt *cert = mbedtls_ssl_get_peer_cert(&p->ssl);
    return cert->raw.len == id->cert_len && memcmp(cert->raw.p, id->cert, id->cert_len) == 0;
}

/* A new connection gets the newest certificate, one within its handshake what it began with, and an open one goes on
 * while the keys it began with are gone. */
static void renewals(const void *data)
{
    const struct course *course = data;
    struct miniproxy_tls_config c;
    struct peer p[3];
    make_all();
    c = config_of(&good);
    tls_start_with(&c);
    meet(&wires[0], &p[0], course->v1_2);
    echo(&wires[0], &p[0], 3000);
    for (unsigned i = 0; i < 30; i++) {
        const struct identity *before = i % 2 == 0 ? &good : &rsa, *after = i % 2 == 0 ? &rsa : &good;
        unsigned old = tls.newest;
        char octet;
        meet(&wires[1], &p[1], course->v1_2);
        turn(&wires[1], &p[1]);
        assert_int_equal(core_recv(&wires[1], &octet, 1), MINIPROXY_AGAIN);
        c = config_of(after);
        assert_null(renew(&c));
        assert_true(miniproxy_tls_is_renewing(&tls));
        assert_string_equal(renew(&c), "busy");
        meet(&wires[2], &p[2], course->v1_2);
        echo(&wires[2], &p[2], 100);
        assert_true(has_seen(&p[2], after));
        if (i % 3 == 0) {
            echo(&wires[1], &p[1], 100);
            assert_true(has_seen(&p[1], before));
        } else {
            part(&wires[1], &p[1]); /* it ends as a handshake does that nobody goes on with */
        }
        assert_false(miniproxy_tls_is_renewing(&tls));
        assert_int_equal(tls.keys[old].region.used, 0);
        echo(&wires[0], &p[0], 300);
        if (i % 3 == 0) part(&wires[1], &p[1]);
        part(&wires[2], &p[2]);
    }
    part(&wires[0], &p[0]);
    tls_stop();
    assert_int_equal(tls.keys[1].region.used, 0);
}

/* What cannot be taken changes nothing, however much of it could. */
static void failed_renewals(const void *data)
{
    static const uint8_t broken[] = "\x30\x03\x02\x01";
    struct miniproxy_tls_config c, bad[4];
    static const char *const wrong[] = {"certificate", "key", "client_ca", "ca"};
    struct peer p;
    size_t size = 16, peak;
    (void)data;
    make_all();
    c = config_of(&good);
    tls_start_with(&c);
    for (unsigned i = 0; i < 4; i++) bad[i] = config_of(&rsa);
    bad[0].cert = bad[1].key = bad[2].client_ca = bad[3].ca = broken;
    bad[0].cert_len = bad[1].key_len = bad[2].client_ca_len = bad[3].ca_len = sizeof broken - 1;
    for (unsigned i = 0; i < 4; i++) {
        assert_string_equal(renew(&bad[i]), wrong[i]);
        assert_int_equal(tls.keys[1].region.used, 0);
        assert_false(miniproxy_tls_is_renewing(&tls));
        meet(&wires[0], &p, false);
        echo(&wires[0], &p, 100);
        assert_true(has_seen(&p, &good));
        part(&wires[0], &p);
    }
    c = config_of(&rsa);
    c.client_ca = rsa_root.cert;
    c.client_ca_len = rsa_root.cert_len;
    for (;; size += 64) {
        region_start(&tls.keys[1].region, tls.keys[1].arena, size);
        if (renew(&c) == NULL) break;
        assert_int_equal(tls.keys[1].region.used, 0);
        assert_int_equal(tls.newest, 0);
    }
    peak = tls.keys[1].region.peak;
    assert_true(size >= peak && size < peak + 64);
    tls_stop();
    assert_int_equal(tls.keys[1].region.used, 0);
}

/* Those of clients and of origins. An open connection stays open, whoever is trusted after it. */
static void renewed_authorities(const void *data)
{
    const struct course *course = data;
    struct miniproxy_tls_config c;
    struct peer p[2];
    char name[8];
    make_all();
    c = config_of(&good);
    c.client_ca = root.cert;
    c.client_ca_len = root.cert_len;
    tls_start_with(&c);
    wire_start(&wires[0], 5000, 5000);
    peer_start(&p[0], &wires[0], &good, false, course->v1_2);
    accept_wire(&wires[0]);
    echo(&wires[0], &p[0], 100);
    c.client_ca = stranger.cert;
    c.client_ca_len = stranger.cert_len;
    c.ca = NULL;
    assert_null(renew(&c));
    assert_false(miniproxy_tls_is_renewing(&tls));
    for (unsigned i = 0; i < 2; i++) {
        unsigned done = events[MINIPROXY_TLS_DONE];
        wire_start(&wires[1], 5000, 5000);
        peer_start(&p[1], &wires[1], i == 0 ? &good : &foreign, false, course->v1_2);
        accept_wire(&wires[1]);
        shake(&wires[1], &p[1]);
        assert_int_equal(events[MINIPROXY_TLS_DONE] - done, i);
        part(&wires[1], &p[1]);
    }
    assert_int_equal(miniproxy_tls_port.client_name(&tls, &wires[0].c, name, sizeof name), 4);
    assert_memory_equal(name, "good", 4);
    wire_start(&wires[2], 5000, 5000);
    assert_int_equal(miniproxy_tls_port.secure(&tls, &wires[2].c, "example.test"), MINIPROXY_ETLS_CONFIG);
    echo(&wires[0], &p[0], 3000);
    part(&wires[0], &p[0]);
    tls_stop();
}

/* How many octets of handshake a server sends to a client that may have a session. Those of an echo would count as well,
 * if they came in a known number of records. */
static size_t resume(const struct course *course, mbedtls_ssl_session *session, bool has_one)
{
    struct wire *w = &wires[0];
    struct peer p;
    size_t sent;
    wire_start(w, 5000, 5000);
    peer_start(&p, w, NULL, false, course->v1_2);
#if defined MBEDTLS_SSL_PROTO_TLS1_3 && defined MBEDTLS_SSL_TLS1_3_SIGNAL_NEW_SESSION_TICKETS_ENABLED
    mbedtls_ssl_conf_tls13_enable_signal_new_session_tickets(&p.config,
                                                             MBEDTLS_SSL_TLS1_3_SIGNAL_NEW_SESSION_TICKETS_ENABLED);
#endif
    if (has_one) assert_int_equal(mbedtls_ssl_set_session(&p.ssl, session), 0);
    accept_wire(w);
    assert_int_equal(shake(w, &p), MINIPROXY_AGAIN);
    sent = w->out.put;
    echo(w, &p, 100);
    enter_peer();
    if (!has_one) assert_int_equal(mbedtls_ssl_get_session(&p.ssl, session), 0);
    part(w, &p);
    return sent;
}

/* A ticket is good for as long as its generation is the newest; then its holder is taken for a stranger, and served. */
static void renewed_tickets(const void *data)
{
    const struct course *course = data;
    struct miniproxy_tls_config c;
    mbedtls_ssl_session session;
    size_t whole;
    make_all();
    c = config_of(&good);
    tls_start_with(&c);
    mbedtls_ssl_session_init(&session);
    whole = resume(course, &session, false);
    assert_true(resume(course, &session, true) < whole - good.cert_len / 2);
    assert_true(resume(course, &session, true) < whole - good.cert_len / 2);
    assert_null(renew(&c));
    assert_true(resume(course, &session, true) > whole - good.cert_len / 2);
    assert_int_equal(events[MINIPROXY_TLS_FAILED], 0);
    enter_peer();
    mbedtls_ssl_session_free(&session);
    tls_stop();
}

/* What is not TLS's passes through. */
static void plain_listener(const void *data)
{
    struct wire *w = &wires[0];
    char buf[8];
    (void)data;
    tls_start(2, &good, false);
    wire_start(w, 5000, 5000);
    accept_wire(w);
    assert_int_equal(w->c.no_relay, 0);
    queue_put(&w->in, "abc", 3, 3);
    assert_int_equal(core_recv(w, buf, sizeof buf), 3);
    assert_int_equal(core_send(w, "abc", 3), 3);
    relayed = 0;
    assert_int_equal(miniproxy_tls_port.relay(&tls, &w->c, &w->c, 1), MINIPROXY_AGAIN);
    assert_int_equal(relayed, 1);
    shut(w, false);
    wire_start(w, 5000, 5000);
    w->c.listener = 1;
    assert_int_equal(miniproxy_tls_port.accept(&tls, &w->c, &(struct miniproxy_addr){.family = 0}), MINIPROXY_OK);
    assert_int_equal(w->c.no_relay, MINIPROXY_TLS_BEGUN);
    shut(w, true);
    tls_stop();
}

int main(void)
{
    static const struct course wide = {.most = 20000, .room = 20000}, old = {.v1_2 = true, .most = 20000, .room = 20000},
                               single = {.most = 1, .room = 1}, old_single = {.v1_2 = true, .most = 1, .room = 1},
                               tight = {.most = 700, .room = 100};
    struct unit_test tests[] = {
        {.name = "a client's connection [L01]", .run = client_round, .data = &wide},
        {.name = "a client's connection, TLS 1.2", .run = client_round, .data = &old},
        {.name = "a client's connection, octet by octet", .run = client_round, .data = &single},
        {.name = "a client's connection, octet by octet, TLS 1.2", .run = client_round, .data = &old_single},
        {.name = "a client's connection through a narrow pipe", .run = client_round, .data = &tight},
        {.name = "an origin's connection [L04]", .run = origin_round, .data = &wide},
        {.name = "an origin's connection, TLS 1.2 [L04]", .run = origin_round, .data = &old},
        {.name = "an origin's connection, octet by octet", .run = origin_round, .data = &single},
        {.name = "an origin's connection, octet by octet, TLS 1.2", .run = origin_round, .data = &old_single},
        {.name = "each fault of a certificate is told [L04]", .run = certificates},
        {.name = "without trusted roots nobody is trusted [L04]", .run = nobody_is_trusted},
        {.name = "RSA keys", .run = rsa_keys, .data = &wide},
        {.name = "RSA keys, TLS 1.2", .run = rsa_keys, .data = &old},
        {.name = "origins with RSA keys", .run = rsa_origins, .data = &wide},
        {.name = "origins with RSA keys, TLS 1.2", .run = rsa_origins, .data = &old},
        {.name = "keys that client and proxy share", .run = shared_keys},
        {.name = "client certificates", .run = client_certificates, .data = &wide},
        {.name = "client certificates, TLS 1.2", .run = client_certificates, .data = &old},
        {.name = "stalls, ends and resets at every octet of a handshake [Z03,Z06]", .run = stops, .data = &wide},
        {.name = "stalls, ends and resets at every octet of a handshake, TLS 1.2 [Z03,Z06]", .run = stops, .data = &old},
        {.name = "a damaged octet anywhere in a handshake", .run = damage, .data = &wide},
        {.name = "a damaged octet anywhere in a handshake, TLS 1.2", .run = damage, .data = &old},
        {.name = "garbage", .run = garbage},
        {.name = "plain HTTP is told, and answered in clear", .run = plain_http},
        {.name = "when all sessions are in use clients are turned away [Z04]", .run = all_in_use},
        {.name = "close_notify both ways, and its absence [L01]", .run = ends, .data = &wide},
        {.name = "close_notify both ways, and its absence, octet by octet [L01]", .run = ends, .data = &old_single},
        {.name = "an origin that ends without close_notify is cut [L02]", .run = cut_origin},
        {.name = "an arena that is too small [Z06]", .run = little_memory, .data = &wide},
        {.name = "an arena that is too small, TLS 1.2 [Z06]", .run = little_memory, .data = &old},
        {.name = "a connection inherits nothing of the one before [Z03]", .run = nothing_is_inherited},
        {.name = "a signature comes in slices", .run = slices},
        {.name = "no alert behind the end", .run = no_alert_behind_the_end},
        {.name = "renewals", .run = renewals, .data = &wide},
        {.name = "renewals, TLS 1.2", .run = renewals, .data = &old},
        {.name = "renewals that fail", .run = failed_renewals},
        {.name = "renewed authorities", .run = renewed_authorities, .data = &wide},
        {.name = "renewed authorities, TLS 1.2", .run = renewed_authorities, .data = &old},
        {.name = "tickets and renewals", .run = renewed_tickets, .data = &wide},
        {.name = "tickets and renewals, TLS 1.2", .run = renewed_tickets, .data = &old},
        {.name = "listeners without TLS", .run = plain_listener},
    };
    return unit_run(TLS_GROUP, tests, sizeof tests / sizeof tests[0]);
}

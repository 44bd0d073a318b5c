/* SPDX-License-Identifier: MIT
 *
 * TLS by mbedTLS as a port on another port. Read from below: memory · what mbedTLS calls · sessions · handshakes · the
 * functions of the port · configuration.
 *
 * The connection that the core hands in is handed on: handle, port_flags and ready belong to the port below, whatever is
 * TLS's stands in a session that the connection's id leads to. The port below wakes the core directly; what a wake means
 * for TLS may be another thing (a handshake that waits until it can write has to be told to the core as something to
 * read), and that is what miniproxy_tls_poll sees to.
 */
#include "miniproxy_tls.h"

#include <string.h>

#include <mbedtls/error.h>
#include <mbedtls/oid.h>
#include <mbedtls/platform.h>
#if defined MBEDTLS_PSA_CRYPTO_C
#include <psa/crypto.h>
#endif

#if !MINIPROXY_WITH_TLS
#error "MINIPROXY_WITH_TLS is 0: the core would not know what to do with TLS; set it to 1 in your config header"
#endif
#if !MINIPROXY_TLS_HEAP && (!defined MBEDTLS_PLATFORM_MEMORY || defined MBEDTLS_PLATFORM_CALLOC_MACRO)
#error "mbedTLS cannot be given memory: build it with MBEDTLS_PLATFORM_MEMORY, or set MINIPROXY_TLS_HEAP to 1"
#endif
#if MINIPROXY_TLS_SESSIONS < 1 || MINIPROXY_TLS_SESSIONS > 65000
#error "MINIPROXY_TLS_SESSIONS must be 1..65000"
#endif
#if MINIPROXY_TLS_GENERATIONS < 1 || MINIPROXY_TLS_GENERATIONS > 8
#error "MINIPROXY_TLS_GENERATIONS must be 1..8"
#endif
#if defined MBEDTLS_SSL_IN_CONTENT_LEN && defined MBEDTLS_SSL_OUT_CONTENT_LEN
_Static_assert(MINIPROXY_TLS_HEAP ||
                   MINIPROXY_TLS_ARENA > MBEDTLS_SSL_IN_CONTENT_LEN + MBEDTLS_SSL_OUT_CONTENT_LEN + 4096,
               "MINIPROXY_TLS_ARENA has no room for a handshake: raise it, or lower mbedTLS's record buffers");
#endif

#ifndef MBEDTLS_PRIVATE
#define MBEDTLS_PRIVATE(member) member /* mbedTLS 2.28 hides nothing */
#endif

#ifndef MBEDTLS_ERR_SSL_BAD_CERTIFICATE
#define MBEDTLS_ERR_SSL_BAD_CERTIFICATE MBEDTLS_ERR_SSL_BAD_HS_CERTIFICATE /* 2.28's name */
#endif

#if MBEDTLS_VERSION_NUMBER >= 0x03000000
#define SIGNATURE_ROOM(out, size) out, size
#else
#define SIGNATURE_ROOM(out, size) ((void)(size), out) /* 2.28 takes it for granted */
#endif

#ifndef MBEDTLS_ERR_SSL_RECEIVED_NEW_SESSION_TICKET
#define MBEDTLS_ERR_SSL_RECEIVED_NEW_SESSION_TICKET INT32_MIN /* 2.28 has no TLS 1.3: never */
#endif

/* States of a session. */
enum { STATE_CONNECTING = 1, STATE_HANDSHAKE, STATE_OPEN, STATE_PLAIN, STATE_FAILED };

/* Flags of a session. */
enum {
    IS_ORIGIN = 1,      /* we are the client */
    IS_BUSY = 2,        /* in the list of miniproxy_tls_poll */
    GO_ON = 4,          /* the handshake has not come to its end, and waits for nobody */
    WAITS_READ = 8,     /* mbedTLS waits for octets to read */
    WAITS_WRITE = 16,   /* or for room to write, in a call in which the core does not expect it */
    NOTIFIED = 32,      /* close_notify is sent */
    ENDED = 64,         /* close_notify has come, or the connection's end */
    HAS_BEGUN = 128,    /* octets have come */
    IS_TIMED = 256,     /* due_ms is set */
    FINISHED = 512,     /* the port below is told to send no more */
    SELF_SIGNED = 1024  /* the peer's certificate is not trusted, and its own issuer */
};

/* How often a visit may ask the port below for octets. mbedTLS goes on by itself with some kinds of records (warnings,
 * ChangeCipherSpec), for as long as more of them come; who sends nothing else would never let go. A record takes two
 * calls, or some more where it comes in parts; one that is not complete is gone on with in the next visit. */
enum { READS_MAX = 16 };

/* ---- memory ----
 *
 * First fit in one region. Each block has a header, which says how long it and the one before it are; neighbours that
 * are free are one block.
 */

/* mbedTLS does not say for whom it asks. */
static MINIPROXY_TLS_THREAD struct miniproxy_tls_region *region_now;
static MINIPROXY_TLS_THREAD struct miniproxy_tls *tls_now;

static void enter(struct miniproxy_tls *tls, struct miniproxy_tls_region *region)
{
    tls_now = tls;
    region_now = region;
}

#if !MINIPROXY_TLS_HEAP

struct block {
    uint32_t size; /* with the header; lowest bit: in use */
    uint32_t prev; /* size of the block before, 0: it is the first */
};

enum { BLOCK_USED = 1, BLOCK_LEAST = 2 * sizeof(struct block) };

static struct block *block_at(unsigned char *memory, size_t at)
{
    return (struct block *)(void *)(memory + at);
}

static size_t size_of(const struct block *b)
{
    return b->size & ~(uint32_t)BLOCK_USED;
}

static void region_start(struct miniproxy_tls_region *r, void *memory, size_t size)
{
    struct block *b;
    r->memory = memory;
    r->size = size & ~(size_t)7;
    r->used = 0;
    r->peak = 0;
    r->exhausted = false;
    b = block_at(r->memory, 0);
    b->size = (uint32_t)r->size;
    b->prev = 0;
}

/* Tell the block behind how long the one at `at` is. */
static void tell_next(struct miniproxy_tls_region *r, size_t at)
{
    size_t size = size_of(block_at(r->memory, at));
    if (at + size < r->size) block_at(r->memory, at + size)->prev = (uint32_t)size;
}

static void *region_take(struct miniproxy_tls_region *r, size_t len)
{
    size_t need = (len + sizeof(struct block) + 7) & ~(size_t)7, at;
    if (len > r->size) return NULL;
    for (at = 0; at < r->size; at += size_of(block_at(r->memory, at))) {
        struct block *b = block_at(r->memory, at);
        if ((b->size & BLOCK_USED) != 0 || b->size < need) continue;
        if (b->size - need >= BLOCK_LEAST) {
            struct block *rest = block_at(r->memory, at + need);
            rest->size = b->size - (uint32_t)need;
            rest->prev = (uint32_t)need;
            tell_next(r, at + need);
            b->size = (uint32_t)need;
        }
        r->used += b->size;
        /* what lies below it counts as well, or a peak would not say how large a region must be */
        if (at + b->size > r->peak) r->peak = at + b->size;
        b->size |= BLOCK_USED;
        return memset(b + 1, 0, size_of(b) - sizeof *b);
    }
    return NULL;
}

static void region_give(struct miniproxy_tls_region *r, void *p)
{
    struct block *b = (struct block *)p - 1;
    size_t at = (size_t)((unsigned char *)b - r->memory), next;
    b->size &= ~(uint32_t)BLOCK_USED;
    r->used -= b->size;
    next = at + b->size;
    if (next < r->size && (block_at(r->memory, next)->size & BLOCK_USED) == 0) b->size += block_at(r->memory, next)->size;
    if (b->prev != 0 && (block_at(r->memory, at - b->prev)->size & BLOCK_USED) == 0) {
        at -= b->prev;
        block_at(r->memory, at)->size += b->size;
    }
    tell_next(r, at);
}

static bool is_in(const struct miniproxy_tls_region *r, const void *p)
{
    const unsigned char *at = p;
    return at >= r->memory && at < r->memory + r->size;
}

static void *take_memory(size_t count, size_t size)
{
    void *p;
    if (region_now == NULL || (size != 0 && count > UINT32_MAX / size)) return NULL;
    p = region_take(region_now, count * size);
    if (p == NULL) region_now->exhausted = true;
    return p;
}

static void give_memory(void *p)
{
    struct miniproxy_tls_region *r = region_now;
    if (p == NULL) return;
    for (unsigned i = 0; !is_in(r, p) && tls_now != NULL && i < MINIPROXY_TLS_GENERATIONS; i++)
        r = &tls_now->keys[i].region;
    MINIPROXY_ASSERT(is_in(r, p));
    region_give(r, p);
}

#endif

void miniproxy_tls_lend(struct miniproxy_tls_region *region, void *memory, size_t size)
{
#if !MINIPROXY_TLS_HEAP
    if (memory != NULL) region_start(region, memory, size);
#else
    (void)size;
#endif
    enter(NULL, memory != NULL ? region : NULL);
}

/* ---- randomness ---- */

static int seed(void *context, unsigned char *out, size_t len)
{
    (void)context;
    return miniproxy_tls_entropy(out, len) == 0 ? 0 : MBEDTLS_ERR_CTR_DRBG_ENTROPY_SOURCE_FAILED;
}

#if defined MBEDTLS_PSA_CRYPTO_EXTERNAL_RNG
psa_status_t mbedtls_psa_external_get_random(mbedtls_psa_external_random_context_t *context, uint8_t *out, size_t len,
                                             size_t *got)
{
    (void)context;
    for (*got = 0; *got < len;) {
        size_t part = len - *got < MBEDTLS_CTR_DRBG_MAX_REQUEST ? len - *got : MBEDTLS_CTR_DRBG_MAX_REQUEST;
        if (tls_now == NULL || mbedtls_ctr_drbg_random(&tls_now->random, out + *got, part) != 0)
            return PSA_ERROR_INSUFFICIENT_ENTROPY;
        *got += part;
    }
    return PSA_SUCCESS;
}
#endif

/* ---- what mbedTLS calls ---- */

static const struct miniproxy_port *below(const struct miniproxy_tls_session *s)
{
    return s->tls->config.below;
}

static int send_below(void *session, const unsigned char *from, size_t len)
{
    struct miniproxy_tls_session *s = session;
    int n;
    if ((s->flags & FINISHED) != 0) return MBEDTLS_ERR_SSL_CONN_EOF; /* an alert, for what still comes may be broken */
    n = below(s)->send(s->tls->config.below_data, s->conn, from, len);
    if (n > 0) return n;
    if (n == MINIPROXY_AGAIN) {
        s->conn->ready &= (uint8_t)~MINIPROXY_WR;
        s->flags |= WAITS_WRITE;
        return MBEDTLS_ERR_SSL_WANT_WRITE;
    }
    s->result = (int8_t)n;
    return MBEDTLS_ERR_SSL_CONN_EOF;
}

/* What a client sends first tells TLS from HTTP: a record of a handshake begins with 22, a method with a letter. */
static bool is_plain(const unsigned char *octets)
{
    unsigned char letter = octets[0] | 0x20;
    return letter >= 'a' && letter <= 'z';
}

static void watch(struct miniproxy_tls_session *s);

/* Enough for this visit: the next poll asks for another one, behind all others. */
static int come_back(struct miniproxy_tls_session *s)
{
    s->conn->ready &= (uint8_t)~MINIPROXY_RD;
    s->flags |= GO_ON;
    watch(s);
    return MBEDTLS_ERR_SSL_WANT_READ;
}

static int recv_below(void *session, unsigned char *to, size_t len)
{
    struct miniproxy_tls_session *s = session;
    int n;
    if (s->reads == 0) return come_back(s);
    s->reads--;
    n = below(s)->recv(s->tls->config.below_data, s->conn, to, len);
    if (n > 0) {
        bool first = (s->flags & (HAS_BEGUN | IS_ORIGIN)) == 0;
        s->flags |= HAS_BEGUN;
        if (!first || !is_plain(to)) return n;
        s->result = MINIPROXY_EPLAIN;
        return MBEDTLS_ERR_SSL_CONN_EOF;
    }
    if (n == MINIPROXY_AGAIN) {
        s->conn->ready &= (uint8_t)~MINIPROXY_RD;
        s->flags |= WAITS_READ;
        return MBEDTLS_ERR_SSL_WANT_READ;
    }
    if (n == MINIPROXY_EOF) s->flags |= ENDED;
    else s->result = (int8_t)n;
    return MBEDTLS_ERR_SSL_CONN_EOF;
}

static bool names_address(const mbedtls_x509_crt *cert, const struct miniproxy_addr *a)
{
    enum { IP_ADDRESS = MBEDTLS_ASN1_CONTEXT_SPECIFIC | 7 }; /* RFC 5280 section 4.2.1.6 */
    size_t len = a->family == 4 ? 4 : 16;
    for (const mbedtls_x509_sequence *name = &cert->subject_alt_names; name != NULL; name = name->next)
        if (name->buf.tag == IP_ADDRESS && name->buf.len == len && memcmp(name->buf.p, a->ip, len) == 0) return true;
    return false;
}

static bool is_own_issuer(const mbedtls_x509_crt *cert)
{
    size_t len = cert->subject_raw.len;
    return cert->issuer_raw.len == len && memcmp(cert->issuer_raw.p, cert->subject_raw.p, len) == 0;
}

/* mbedTLS knows these constraints (RFC 5280 section 4.2.1.10) only to refuse a certificate that says they are critical. */
static bool has_name_constraints(const mbedtls_x509_crt *cert)
{
    static const unsigned char oid[] = {MBEDTLS_ASN1_OID, 3, 0x55, 0x1d, 30};
    const unsigned char *at = cert->v3_ext.p;
    for (size_t left = cert->v3_ext.len; left >= sizeof oid; left--, at++)
        if (memcmp(at, oid, sizeof oid) == 0) return true;
    return false;
}

/* Who issues certificates for one purpose alone may not do it for another; mbedTLS looks at the peer's own only. */
static bool may_issue(const struct miniproxy_tls_session *s, const mbedtls_x509_crt *cert)
{
#if MBEDTLS_VERSION_NUMBER >= 0x03000000 || defined MBEDTLS_X509_CHECK_EXTENDED_KEY_USAGE
    const char *purpose = (s->flags & IS_ORIGIN) != 0 ? MBEDTLS_OID_SERVER_AUTH : MBEDTLS_OID_CLIENT_AUTH;
    if (mbedtls_x509_crt_check_extended_key_usage(cert, purpose, MBEDTLS_OID_SIZE(MBEDTLS_OID_SERVER_AUTH)) != 0)
        return false;
#endif
    return is_own_issuer(cert) || !has_name_constraints(cert); /* a root is trusted for what it is */
}

/* What mbedTLS does not look at. Of the peer's own certificate: is it its own issuer, and does an origin's name the
 * address? mbedTLS itself compares names of hosts. */
static int look_at_certificate(void *session, mbedtls_x509_crt *cert, int depth, uint32_t *flags)
{
    struct miniproxy_tls_session *s = session;
    struct miniproxy_addr literal;
    if (depth != 0) {
        if (!may_issue(s, cert)) *flags |= MBEDTLS_X509_BADCERT_EXT_KEY_USAGE;
        return 0;
    }
    if (cert->issuer_raw.len == 0) { /* in TLS 1.2 one that mbedTLS cannot read is empty, and by nobody */
        *flags = MBEDTLS_X509_BADCERT_OTHER;
        return 0;
    }
    if ((*flags & MBEDTLS_X509_BADCERT_NOT_TRUSTED) != 0 && is_own_issuer(cert)) s->flags |= SELF_SIGNED;
    if (s->host != NULL && miniproxy_addr_parse(&literal, s->host, strlen(s->host)) && !names_address(cert, &literal))
        *flags |= MBEDTLS_X509_BADCERT_CN_MISMATCH;
    return 0;
}

static struct miniproxy_tls_session *session_with(mbedtls_ssl_context *ssl)
{
    return (struct miniproxy_tls_session *)(void *)((unsigned char *)ssl - offsetof(struct miniproxy_tls_session, ssl));
}

#if defined MBEDTLS_KEY_EXCHANGE_SOME_PSK_ENABLED || defined MBEDTLS_SSL_HANDSHAKE_WITH_PSK_ENABLED
static int find_psk(void *context, mbedtls_ssl_context *ssl, const unsigned char *identity, size_t len)
{
    const struct miniproxy_tls *tls = context;
    for (unsigned i = 0; i < tls->config.psk_count; i++) {
        const struct miniproxy_tls_psk *psk = &tls->config.psks[i];
        if (strlen(psk->identity) != len || memcmp(psk->identity, identity, len) != 0) continue;
        session_with(ssl)->psk = psk; /* if it has the key, too: otherwise the handshake fails */
        return mbedtls_ssl_set_hs_psk(ssl, psk->key, psk->key_len);
    }
    return MBEDTLS_ERR_SSL_UNKNOWN_IDENTITY;
}
#endif

#if defined MBEDTLS_SSL_ASYNC_PRIVATE

/* The signature of a server of TLS 1.2: a step of its own, of which others have their turn before, and where mbedTLS has
 * MBEDTLS_ECP_RESTARTABLE as many steps as it takes with MINIPROXY_TLS_SLICE_OPS each. */
struct signature {
    mbedtls_md_type_t algorithm;
    unsigned char hash[64];
    size_t len;
    mbedtls_pk_restart_ctx *restart; /* NULL: all at once */
#if defined MBEDTLS_ECP_RESTARTABLE
    mbedtls_pk_restart_ctx slices;
#endif
};

static int start_signature(mbedtls_ssl_context *ssl, mbedtls_x509_crt *cert, mbedtls_md_type_t algorithm,
                           const unsigned char *hash, size_t len)
{
    struct signature *g = len > sizeof g->hash ? NULL : mbedtls_calloc(1, sizeof *g);
    (void)cert; /* there is only one */
    if (g == NULL) return MBEDTLS_ERR_PK_ALLOC_FAILED;
    g->algorithm = algorithm;
    memcpy(g->hash, hash, len);
    g->len = len;
#if defined MBEDTLS_ECP_RESTARTABLE
    g->restart = &g->slices;
    mbedtls_pk_restart_init(g->restart);
#endif
    mbedtls_ssl_set_async_operation_data(ssl, g);
    return MBEDTLS_ERR_SSL_ASYNC_IN_PROGRESS;
}

static void end_signature(mbedtls_ssl_context *ssl)
{
    struct signature *g = mbedtls_ssl_get_async_operation_data(ssl);
#if defined MBEDTLS_ECP_RESTARTABLE
    mbedtls_pk_restart_free(g->restart);
#endif
    mbedtls_free(g);
}

static int go_on_with_signature(mbedtls_ssl_context *ssl, unsigned char *out, size_t *len, size_t size)
{
    struct signature *g = mbedtls_ssl_get_async_operation_data(ssl);
    struct miniproxy_tls_session *s = session_with(ssl);
    int error = mbedtls_pk_sign_restartable(&s->tls->keys[s->keys].key, g->algorithm, g->hash, g->len,
                                            SIGNATURE_ROOM(out, size), len, mbedtls_ctr_drbg_random, &s->tls->random,
                                            g->restart);
#if defined MBEDTLS_ECP_RESTARTABLE
    if (error == MBEDTLS_ERR_ECP_IN_PROGRESS) return MBEDTLS_ERR_SSL_ASYNC_IN_PROGRESS;
#endif
    end_signature(ssl);
    return error;
}

#endif

/* ---- sessions ---- */

static struct miniproxy_tls_session *session_of(struct miniproxy_tls *tls, const struct miniproxy_conn *c)
{
    uint16_t number = tls->session_of[c->id];
    return number == 0 ? NULL : &tls->sessions[number - 1];
}

static uint16_t number_of(const struct miniproxy_tls_session *s)
{
    return (uint16_t)(s - s->tls->sessions + 1);
}

static void watch(struct miniproxy_tls_session *s)
{
    struct miniproxy_tls *tls = s->tls;
    if ((s->flags & IS_BUSY) != 0) return;
    s->flags |= IS_BUSY;
    s->busy_prev = 0;
    s->busy_next = tls->busy;
    if (tls->busy != 0) tls->sessions[tls->busy - 1].busy_prev = number_of(s);
    tls->busy = number_of(s);
}

static void unwatch(struct miniproxy_tls_session *s)
{
    struct miniproxy_tls *tls = s->tls;
    if ((s->flags & IS_BUSY) == 0) return;
    s->flags &= (uint16_t)~IS_BUSY;
    if (s->busy_prev != 0) tls->sessions[s->busy_prev - 1].busy_next = s->busy_next;
    else tls->busy = s->busy_next;
    if (s->busy_next != 0) tls->sessions[s->busy_next - 1].busy_prev = s->busy_prev;
}

/* An old generation goes as soon as nobody needs it, for there is a private key in it. */
static void free_keys(struct miniproxy_tls *tls, struct miniproxy_tls_keys *keys)
{
    enter(tls, &keys->region);
#if defined MBEDTLS_SSL_TICKET_C
    mbedtls_ssl_ticket_free(&keys->tickets);
#endif
    mbedtls_ssl_config_free(&keys->server);
    mbedtls_ssl_config_free(&keys->client);
    mbedtls_x509_crt_free(&keys->cert);
    mbedtls_x509_crt_free(&keys->client_ca);
    mbedtls_x509_crt_free(&keys->ca);
    mbedtls_pk_free(&keys->key);
}

static void leave_keys(struct miniproxy_tls_session *s)
{
    struct miniproxy_tls_keys *keys = &s->tls->keys[s->keys];
    keys->sessions--;
    if (keys->sessions == 0 && s->keys != s->tls->newest) free_keys(s->tls, keys);
}

/* Behind its handshake a connection needs nothing of certificates and keys any more, and what else stands in a
 * configuration is the same in all of them. So the newest one takes the place of the one it began with, which could
 * otherwise not go before the last of long tunnels does. */
static void take_newest(struct miniproxy_tls_session *s)
{
    struct miniproxy_tls *tls = s->tls;
    struct miniproxy_tls_keys *newest = &tls->keys[tls->newest];
    if (s->keys == tls->newest) return;
    s->ssl.MBEDTLS_PRIVATE(conf) = (s->flags & IS_ORIGIN) != 0 ? &newest->client : &newest->server;
    newest->sessions++;
    leave_keys(s);
    s->keys = tls->newest;
}

static void free_session(struct miniproxy_tls_session *s)
{
    struct miniproxy_tls *tls = s->tls;
    enter(tls, &s->region);
    mbedtls_ssl_free(&s->ssl);
    MINIPROXY_ASSERT(s->region.used == 0); /* nothing that was a connection's outlives it */
    if (s->region.peak > tls->peak) tls->peak = s->region.peak;
    leave_keys(s);
    unwatch(s);
    tls->session_of[s->conn->id] = 0;
    s->conn = NULL;
    s->busy_next = tls->free;
    tls->free = number_of(s);
    tls->active--;
}

/* A session for a connection, or NULL: all are in use, or mbedTLS cannot start one. */
static struct miniproxy_tls_session *take_session(struct miniproxy_tls *tls, struct miniproxy_conn *c, unsigned flags)
{
    struct miniproxy_tls_keys *keys = &tls->keys[tls->newest];
    struct miniproxy_tls_session *s;
    if (tls->free != 0) {
        s = &tls->sessions[tls->free - 1];
        tls->free = s->busy_next;
    } else if (tls->used < MINIPROXY_TLS_SESSIONS) {
        s = &tls->sessions[tls->used++];
    } else {
        return NULL;
    }
    s->tls = tls;
    s->conn = c;
    s->flags = (uint16_t)flags;
    s->keys = tls->newest;
    keys->sessions++;
    s->result = MINIPROXY_OK;
    s->retry = 0;
    s->host = NULL;
    s->psk = NULL;
    tls->session_of[c->id] = number_of(s);
    tls->active++;
    c->no_relay = MINIPROXY_TLS_MADE;
#if !MINIPROXY_TLS_HEAP
    region_start(&s->region, s->arena, sizeof s->arena);
#endif
    enter(tls, &s->region);
    mbedtls_ssl_init(&s->ssl);
    if (mbedtls_ssl_setup(&s->ssl, (flags & IS_ORIGIN) != 0 ? &keys->client : &keys->server) != 0) {
        free_session(s);
        return NULL;
    }
    mbedtls_ssl_set_bio(&s->ssl, s, send_below, recv_below, NULL);
    mbedtls_ssl_set_verify(&s->ssl, look_at_certificate, s);
    return s;
}

static void tell(const struct miniproxy_tls_session *s, enum miniproxy_tls_what what, int error, int alert)
{
    const struct miniproxy_tls_config *config = &s->tls->config;
    struct miniproxy_tls_event e = {.what = what, .peer = &s->peer, .host = s->host, .result = s->result,
                                    .error = error, .alert = alert, .conn = s->conn->id};
    if (config->event == NULL) return;
    if (what == MINIPROXY_TLS_DONE) {
        e.version = mbedtls_ssl_get_version(&s->ssl);
        e.suite = mbedtls_ssl_get_ciphersuite(&s->ssl);
    }
    config->event(config->app, &e);
}

/* ---- handshakes ---- */

/* What was wrong with a certificate, the most telling first. */
static int certificate_result(const struct miniproxy_tls_session *s)
{
    uint32_t flags = mbedtls_ssl_get_verify_result(&s->ssl);
    if ((flags & MBEDTLS_X509_BADCERT_NOT_TRUSTED) != 0)
        return (s->flags & SELF_SIGNED) != 0 ? MINIPROXY_ETLS_SELF_SIGNED : MINIPROXY_ETLS_ISSUER;
    if ((flags & (MBEDTLS_X509_BADCERT_EXPIRED | MBEDTLS_X509_BADCERT_FUTURE)) != 0) return MINIPROXY_ETLS_EXPIRED;
    if ((flags & MBEDTLS_X509_BADCERT_CN_MISMATCH) != 0) return MINIPROXY_ETLS_NAME;
    return MINIPROXY_ETLS_CERTIFICATE;
}

/* What the alert that has ended a handshake says (RFC 8446 section 6), or -1; mbedTLS has no function that tells it. A
 * client of TLS 1.3 that does not accept a certificate may say so in clear (OpenSSL does), which mbedTLS tries to decrypt. */
static int alert_of(const struct miniproxy_tls_session *s, int error)
{
    const unsigned char *record = s->ssl.MBEDTLS_PRIVATE(in_hdr);
    if (error == MBEDTLS_ERR_SSL_FATAL_ALERT_MESSAGE) return s->ssl.MBEDTLS_PRIVATE(in_msg)[1];
    if (error != MBEDTLS_ERR_SSL_INVALID_MAC || record[0] != MBEDTLS_SSL_MSG_ALERT) return -1;
    return record[3] == 0 && record[4] == 2 ? record[6] : -1; /* length, level, description */
}

/* mbedTLS's errors of its X.509, with those of ASN.1 in the lower octets. */
static bool is_unreadable_certificate(int error)
{
    int high = -error & 0xff80;
    return high >= -MBEDTLS_ERR_X509_FEATURE_UNAVAILABLE && high <= -MBEDTLS_ERR_X509_BUFFER_TOO_SMALL;
}

static int handshake_result(const struct miniproxy_tls_session *s, int error)
{
    /* mbedTLS's own error may say that a certificate is not trusted, for its signature could not be verified */
    if (s->region.exhausted) return MINIPROXY_ERESOURCES;
    /* BAD_CERTIFICATE: not for servers, or not for this key exchange */
    if (error == MBEDTLS_ERR_X509_CERT_VERIFY_FAILED || error == MBEDTLS_ERR_SSL_BAD_CERTIFICATE)
        return certificate_result(s);
    if (error == MBEDTLS_ERR_SSL_NO_CLIENT_CERTIFICATE) return MINIPROXY_ETLS_CERTIFICATE;
    if (alert_of(s, error) >= 0) return MINIPROXY_ETLS_ALERT;
    if (error == MBEDTLS_ERR_SSL_ALLOC_FAILED || error == MBEDTLS_ERR_X509_ALLOC_FAILED ||
        error == MBEDTLS_ERR_PK_ALLOC_FAILED || error == MBEDTLS_ERR_MPI_ALLOC_FAILED)
        return MINIPROXY_ERESOURCES;
    if (is_unreadable_certificate(error)) return MINIPROXY_ETLS_CERTIFICATE;
    if (s->result < 0) return s->result; /* the connection's */
    if ((s->flags & ENDED) != 0) return MINIPROXY_ERESET;
    return MINIPROXY_ETLS_PROTOCOL;
}

/* End a handshake that has failed. What it took is given back when the core closes the connection. */
static int fail(struct miniproxy_tls_session *s, int result, int error)
{
    int alert = alert_of(s, error);
    s->result = (int8_t)result;
    s->state = STATE_FAILED;
    unwatch(s);
    tell(s, result == MINIPROXY_EPLAIN ? MINIPROXY_TLS_PLAIN : MINIPROXY_TLS_FAILED, error, alert);
    if (result == MINIPROXY_EPLAIN) s->state = STATE_PLAIN;
    /* A client has been sent an alert, which a reset would destroy: for the core it has just gone. */
    else if ((s->flags & IS_ORIGIN) == 0 && result != MINIPROXY_ERESET) s->result = MINIPROXY_EOF;
    return s->result;
}

#if MBEDTLS_VERSION_NUMBER < 0x03000000
static int mbedtls_ssl_is_handshake_over(const mbedtls_ssl_context *ssl)
{
    return ssl->state == MBEDTLS_SSL_HANDSHAKE_OVER;
}
#endif

/* One step of a handshake, the smallest that mbedTLS can be asked for: others have their turn between two of them. OK:
 * it is done. */
static int go_on(struct miniproxy_tls_session *s)
{
    int error;
    s->flags &= (uint16_t)~(GO_ON | WAITS_READ | WAITS_WRITE);
    s->reads = READS_MAX;
    enter(s->tls, &s->region);
    error = mbedtls_ssl_handshake_step(&s->ssl);
    if (error == 0 && mbedtls_ssl_is_handshake_over(&s->ssl)) {
        s->state = STATE_OPEN;
        s->conn->no_relay = MINIPROXY_TLS_MADE;
        s->conn->ready |= MINIPROXY_RD | MINIPROXY_WR; /* whichever it waited for, the core has not tried it */
        unwatch(s);
        tell(s, MINIPROXY_TLS_DONE, 0, -1);
        take_newest(s);
        return MINIPROXY_OK;
    }
    if (error == MBEDTLS_ERR_SSL_WANT_READ || error == MBEDTLS_ERR_SSL_WANT_WRITE) return MINIPROXY_AGAIN;
    if (error == 0 || error == MBEDTLS_ERR_SSL_CRYPTO_IN_PROGRESS || error == MBEDTLS_ERR_SSL_ASYNC_IN_PROGRESS) {
        s->flags |= GO_ON;
        return MINIPROXY_AGAIN;
    }
    return fail(s, handshake_result(s, error), error);
}

/* The result of a call that needs an open connection: OK, AGAIN or what has become of it. */
static int open_or(struct miniproxy_tls_session *s)
{
    if (s->state == STATE_OPEN) return MINIPROXY_OK;
    return s->state == STATE_FAILED ? s->result : go_on(s);
}

/* ---- the functions of the port ---- */

/* All sessions are in use. It is said in a record that is not encrypted, the fatal alert internal_error (RFC 8446
 * section 6.2). */
static int turn_away(struct miniproxy_tls *tls, struct miniproxy_conn *c, const struct miniproxy_addr *peer)
{
    static const unsigned char alert[] = {21, 3, 3, 0, 2, 2, 80};
    const struct miniproxy_tls_config *config = &tls->config;
    struct miniproxy_tls_event e = {.what = MINIPROXY_TLS_FULL, .peer = peer, .result = MINIPROXY_ERESOURCES,
                                    .alert = -1, .conn = c->id};
    config->below->send(config->below_data, c, alert, sizeof alert);
    config->below->close(config->below_data, c, false);
    c->generation++;
    c->handle = 0;
    c->ready = 0;
    c->port_flags = 0;
    c->no_relay = 0;
    if (config->event != NULL) config->event(config->app, &e);
    return MINIPROXY_ERESET;
}

static void begin_handshake(struct miniproxy_tls_session *s, const struct miniproxy_addr *peer)
{
    s->state = STATE_HANDSHAKE;
    s->conn->no_relay = MINIPROXY_TLS_BEGUN;
    s->peer = *peer;
    watch(s); /* its time begins at the next poll: who is called here does not know how late it is */
}

static int port_accept(void *port, struct miniproxy_conn *c, struct miniproxy_addr *peer)
{
    struct miniproxy_tls *tls = port;
    struct miniproxy_tls_session *s;
    bool is_last = tls->newcomer == c; /* try: whoever idled has gone */
    int result = is_last ? MINIPROXY_OK : tls->config.below->accept(tls->config.below_data, c, peer);
    tls->newcomer = NULL;
    if (result != MINIPROXY_OK) return result;
    if (c->listener >= 32 || (tls->config.listeners >> c->listener & 1u) == 0) {
        c->no_relay = tls->config.below->relay == NULL;
        return MINIPROXY_OK;
    }
    s = take_session(tls, c, 0);
    if (s == NULL && is_last) return turn_away(tls, c, peer);
    if (s == NULL) {
        tls->newcomer = c;
        return MINIPROXY_EFULL;
    }
    begin_handshake(s, peer);
    return MINIPROXY_OK;
}

static int port_resolve(void *port, struct miniproxy_conn *c, const char *host, struct miniproxy_addr *out, int max)
{
    struct miniproxy_tls *tls = port;
    return tls->config.below->resolve(tls->config.below_data, c, host, out, max);
}

static int port_secure(void *port, struct miniproxy_conn *c, const char *host)
{
    struct miniproxy_tls *tls = port;
    struct miniproxy_tls_session *s;
    struct miniproxy_addr literal;
    bool is_literal = miniproxy_addr_parse(&literal, host, strlen(host));
    size_t len = strlen(host);
    char name[256]; /* without a trailing dot: certificates have none, nor may the server name (RFC 6066 section 3) */
    if (tls->config.ca == NULL) return MINIPROXY_ETLS_CONFIG;
    if (len > 0 && host[len - 1] == '.') len--;
    if (len >= sizeof name) return MINIPROXY_ETLS_NAME;
    memcpy(name, host, len);
    name[len] = '\0';
    s = take_session(tls, c, IS_ORIGIN);
    if (s == NULL) return MINIPROXY_ERESOURCES;
    s->state = STATE_CONNECTING;
    s->host = host;
    /* a literal is not asked for by that field; look_at_certificate compares it */
    if (mbedtls_ssl_set_hostname(&s->ssl, is_literal ? NULL : name) == 0) return MINIPROXY_OK;
    return MINIPROXY_ERESOURCES; /* close follows */
}

static int port_connect(void *port, struct miniproxy_conn *c, const struct miniproxy_addr *to)
{
    struct miniproxy_tls *tls = port;
    struct miniproxy_tls_session *s = session_of(tls, c);
    int result;
    if (s == NULL || s->state == STATE_CONNECTING) {
        result = tls->config.below->connect(tls->config.below_data, c, to);
        if (s == NULL) c->no_relay = tls->config.below->relay == NULL;
        if (s == NULL || result != MINIPROXY_OK) return result;
        begin_handshake(s, to);
    }
    result = open_or(s);
    if (result == MINIPROXY_OK) s->host = NULL; /* valid no longer */
    return result;
}

/* What came of a read. A connection to an origin that ends without close_notify is broken: what came may have been cut
 * by anybody (RFC 9112 section 9.8). From clients it is taken for an end. */
static int read_result(struct miniproxy_tls_session *s, int error)
{
    switch (error) {
    case MBEDTLS_ERR_SSL_WANT_READ:
        return MINIPROXY_AGAIN;
    case MBEDTLS_ERR_SSL_WANT_WRITE:
        watch(s);
        return MINIPROXY_AGAIN;
    case MBEDTLS_ERR_SSL_PEER_CLOSE_NOTIFY:
        s->flags |= ENDED;
        s->result = MINIPROXY_EOF;
        break;
    case 0:
    case MBEDTLS_ERR_SSL_CONN_EOF:
        if (s->result == MINIPROXY_OK)
            s->result = (s->flags & ENDED) != 0 && (s->flags & IS_ORIGIN) == 0 ? MINIPROXY_EOF : MINIPROXY_ERESET;
        break;
    default:
        s->result = MINIPROXY_ERESET;
    }
    return s->result;
}

static int port_recv(void *port, struct miniproxy_conn *c, void *buf, size_t len)
{
    struct miniproxy_tls *tls = port;
    struct miniproxy_tls_session *s = session_of(tls, c);
    int n;
    if (s == NULL || (s->state == STATE_PLAIN && s->result == MINIPROXY_OK))
        return tls->config.below->recv(tls->config.below_data, c, buf, len);
    if (s->state == STATE_PLAIN) {
        s->result = MINIPROXY_OK; /* said once */
        return MINIPROXY_EPLAIN;
    }
    n = open_or(s);
    if (n == MINIPROXY_EPLAIN) s->result = MINIPROXY_OK;
    if (n != MINIPROXY_OK) return n;
    if (s->result != MINIPROXY_OK) return s->result;
    s->flags &= (uint16_t)~(WAITS_READ | WAITS_WRITE);
    s->reads = READS_MAX;
    enter(tls, &s->region);
    /* a record can hold hundreds of tickets */
    while ((n = mbedtls_ssl_read(&s->ssl, buf, len)) == MBEDTLS_ERR_SSL_RECEIVED_NEW_SESSION_TICKET && s->reads > 0)
        s->reads--;
    if (n == MBEDTLS_ERR_SSL_RECEIVED_NEW_SESSION_TICKET) n = come_back(s);
    if (n <= 0) return read_result(s, n);
    /* The port below may have seen its last octet and taken RD away, and yet there is more here. */
    if (mbedtls_ssl_get_bytes_avail(&s->ssl) > 0) c->ready |= MINIPROXY_RD;
    return n;
}

static int port_send(void *port, struct miniproxy_conn *c, const void *buf, size_t len)
{
    struct miniproxy_tls *tls = port;
    struct miniproxy_tls_session *s = session_of(tls, c);
    int n;
    if (s == NULL || s->state == STATE_PLAIN) return tls->config.below->send(tls->config.below_data, c, buf, len);
    n = open_or(s);
    if (n != MINIPROXY_OK) return n;
    if (s->result != MINIPROXY_OK && s->result != MINIPROXY_EOF) return s->result;
    if (s->retry != 0 && len > s->retry) len = s->retry; /* mbedTLS has made a record of that many octets */
    s->reads = READS_MAX;
    enter(tls, &s->region);
    n = mbedtls_ssl_write(&s->ssl, buf, len);
    if (n == MBEDTLS_ERR_SSL_WANT_WRITE) {
        s->retry = (uint16_t)len;
        return MINIPROXY_AGAIN;
    }
    s->retry = 0;
    if (n > 0) return n;
    if (n == MBEDTLS_ERR_SSL_WANT_READ) {
        watch(s);
        return MINIPROXY_AGAIN;
    }
    if (s->result == MINIPROXY_OK || s->result == MINIPROXY_EOF) s->result = MINIPROXY_ERESET;
    return s->result;
}

/* close_notify (RFC 8446 section 6.1). False: not now. */
static bool notify(struct miniproxy_tls_session *s)
{
    if (s->state != STATE_OPEN || (s->flags & NOTIFIED) != 0) return true;
    enter(s->tls, &s->region);
    if (mbedtls_ssl_close_notify(&s->ssl) == MBEDTLS_ERR_SSL_WANT_WRITE) return false;
    s->flags |= NOTIFIED;
    return true;
}

static int port_finish(void *port, struct miniproxy_conn *c)
{
    struct miniproxy_tls *tls = port;
    struct miniproxy_tls_session *s = session_of(tls, c);
    if (s != NULL && !notify(s)) return MINIPROXY_AGAIN;
    if (s != NULL) s->flags |= FINISHED;
    return tls->config.below->finish(tls->config.below_data, c);
}

static void port_close(void *port, struct miniproxy_conn *c, bool hard)
{
    struct miniproxy_tls *tls = port;
    struct miniproxy_tls_session *s = session_of(tls, c);
    if (s != NULL) {
        if (s->state == STATE_HANDSHAKE) { /* it is not the port that ends it; told all the same */
            s->result = c->no_relay == MINIPROXY_TLS_LATE ? MINIPROXY_ETLS_TIMEOUT : MINIPROXY_ERESET;
            tell(s, MINIPROXY_TLS_FAILED, 0, -1);
        }
        if (!hard) notify(s); /* if it cannot be sent now, the peer does not read anyway */
        free_session(s);
    }
    tls->config.below->close(tls->config.below_data, c, hard);
}

/* The only common name of a subject: which of several is meant nobody can know. */
static const mbedtls_x509_buf *common_name(const mbedtls_x509_name *subject)
{
    const mbedtls_x509_buf *found = NULL;
    for (; subject != NULL; subject = subject->next) {
        if (MBEDTLS_OID_CMP(MBEDTLS_OID_AT_CN, &subject->oid) != 0) continue;
        if (found != NULL) return NULL;
        found = &subject->val;
    }
    return found;
}

static size_t port_client_name(void *port, struct miniproxy_conn *c, char *name, size_t size)
{
    struct miniproxy_tls_session *s = session_of(port, c);
    const mbedtls_x509_buf *found;
    const mbedtls_x509_crt *cert;
    if (s == NULL || s->state != STATE_OPEN) return 0;
    if (s->psk != NULL) {
        size_t len = strlen(s->psk->identity);
        if (len > size) return 0;
        memcpy(name, s->psk->identity, len);
        return len;
    }
#if defined MBEDTLS_SSL_KEEP_PEER_CERTIFICATE
    cert = mbedtls_ssl_get_peer_cert(&s->ssl);
#else
    cert = NULL;
#endif
    if (s->tls->config.client_ca == NULL || cert == NULL) return 0;
    found = common_name(&cert->subject);
    if (found == NULL || found->len > size || memchr(found->p, '\0', found->len) != NULL) return 0;
    memcpy(name, found->p, found->len);
    return found->len;
}

static int port_relay(void *port, struct miniproxy_conn *from, struct miniproxy_conn *to, size_t max)
{
    struct miniproxy_tls *tls = port;
    return tls->config.below->relay(tls->config.below_data, from, to, max);
}

#if MINIPROXY_WITH_INTERCEPTION
static int port_meant(void *port, struct miniproxy_conn *c, struct miniproxy_addr *to)
{
    struct miniproxy_tls *tls = port;
    if (tls->config.below->meant == NULL) return MINIPROXY_EFAIL;
    return tls->config.below->meant(tls->config.below_data, c, to);
}
#endif

const struct miniproxy_port miniproxy_tls_port = {
    .accept = port_accept,
    .resolve = port_resolve,
    .connect = port_connect,
    .recv = port_recv,
    .send = port_send,
    .finish = port_finish,
    .close = port_close,
    .relay = port_relay,
    .secure = port_secure,
    .client_name = port_client_name,
#if MINIPROXY_WITH_INTERCEPTION
    .meant = port_meant,
#endif
};

/* What mbedTLS waited for has come: let the core call again, for reading and for writing, since it does not know which
 * of the two leads on. */
static bool has_come(struct miniproxy_tls_session *s)
{
    unsigned ready = s->conn->ready, awaited = 0;
    if ((s->flags & WAITS_READ) != 0) awaited |= ready & (MINIPROXY_RD | MINIPROXY_BROKEN);
    if ((s->flags & WAITS_WRITE) != 0) awaited |= ready & (MINIPROXY_WR | MINIPROXY_BROKEN);
    if (awaited == 0 && (s->flags & GO_ON) == 0) return false;
    s->flags &= (uint16_t)~(GO_ON | WAITS_READ | WAITS_WRITE);
    if (s->state == STATE_OPEN) unwatch(s);
    miniproxy_wake(s->conn, MINIPROXY_RD | MINIPROXY_WR);
    return true;
}

uint32_t miniproxy_tls_poll(struct miniproxy_tls *tls, uint32_t now_ms)
{
    uint32_t wait_ms = MINIPROXY_FOREVER;
    for (uint16_t number = tls->busy, next; number != 0; number = next) {
        struct miniproxy_tls_session *s = &tls->sessions[number - 1];
        next = s->busy_next;
        if ((s->flags & IS_TIMED) == 0) s->due_ms = now_ms + tls->config.handshake_ms;
        s->flags |= IS_TIMED;
        if (s->state == STATE_HANDSHAKE && (int32_t)(now_ms - s->due_ms) >= 0) {
            fail(s, MINIPROXY_ETLS_TIMEOUT, 0);
            miniproxy_wake(s->conn, MINIPROXY_RD | MINIPROXY_WR);
            wait_ms = 0;
            continue;
        }
        if (has_come(s)) wait_ms = 0;
        else if (s->state == STATE_HANDSHAKE && s->due_ms - now_ms < wait_ms) wait_ms = s->due_ms - now_ms;
    }
    return wait_ms;
}

/* ---- configuration ---- */

/* Where it cannot, mbedTLS would choose them all the same. */
#if defined MBEDTLS_AES_ONLY_128_BIT_KEY_LENGTH
#define IF_AES_256(suite)
#else
#define IF_AES_256(suite) suite,
#endif

/* Forward secrecy and authenticated encryption only; pre-shared keys for devices that cannot do more. */
static const int suites[] = {
#if defined MBEDTLS_SSL_PROTO_TLS1_3
    MBEDTLS_TLS1_3_AES_128_GCM_SHA256,
    MBEDTLS_TLS1_3_CHACHA20_POLY1305_SHA256,
    IF_AES_256(MBEDTLS_TLS1_3_AES_256_GCM_SHA384)
    MBEDTLS_TLS1_3_AES_128_CCM_SHA256,
#endif
    MBEDTLS_TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    MBEDTLS_TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
    MBEDTLS_TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    MBEDTLS_TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
    IF_AES_256(MBEDTLS_TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384)
    IF_AES_256(MBEDTLS_TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384)
    MBEDTLS_TLS_ECDHE_ECDSA_WITH_AES_128_CCM,
    MBEDTLS_TLS_ECDHE_PSK_WITH_CHACHA20_POLY1305_SHA256,
    MBEDTLS_TLS_PSK_WITH_AES_128_GCM_SHA256,
    MBEDTLS_TLS_PSK_WITH_AES_128_CCM,
    MBEDTLS_TLS_PSK_WITH_AES_128_CCM_8,
    0,
};

#if defined MBEDTLS_SSL_PROTO_TLS1_3
/* mbedTLS offers RSA-PSS for the sake of TLS 1.3, and does not take it from a server that then chooses TLS 1.2. What it
 * takes from both stands first, in the hope that the server follows that. */
static const uint16_t signatures[] = {
    MBEDTLS_TLS1_3_SIG_ECDSA_SECP256R1_SHA256,
    MBEDTLS_TLS1_3_SIG_ECDSA_SECP384R1_SHA384,
    MBEDTLS_TLS1_3_SIG_RSA_PKCS1_SHA256,
    MBEDTLS_TLS1_3_SIG_RSA_PKCS1_SHA384,
    MBEDTLS_TLS1_3_SIG_RSA_PKCS1_SHA512,
    MBEDTLS_TLS1_3_SIG_RSA_PSS_RSAE_SHA256,
    MBEDTLS_TLS1_3_SIG_RSA_PSS_RSAE_SHA384,
    MBEDTLS_TLS1_3_SIG_RSA_PSS_RSAE_SHA512,
    MBEDTLS_TLS1_3_SIG_NONE,
};
#endif

#if defined MBEDTLS_SSL_ALPN
static const char *protocols[] = {"http/1.1", NULL};
#endif

/* Certificates from PEM or DER into a chain. 0, or mbedTLS's error. */
static int parse_certificates(mbedtls_x509_crt *chain, const uint8_t *data, size_t len)
{
#if defined MBEDTLS_PEM_PARSE_C
    if (len > 0 && data[len - 1] == '\0' && strstr((const char *)data, "-----BEGIN ") != NULL) {
        /* A number above 0 counts those it could not read: in a large set some always are of a kind that is not known
         * here. */
        int error = mbedtls_x509_crt_parse(chain, data, len);
        return error > 0 && chain->version != 0 ? 0 : error;
    }
#endif
    while (len > 0) {
        mbedtls_x509_crt *last = chain;
        int error = mbedtls_x509_crt_parse_der_nocopy(chain, data, len);
        if (error != 0) return error;
        while (last->next != NULL) last = last->next;
        data += last->raw.len;
        len -= last->raw.len;
    }
    return 0;
}

static int parse_key(struct miniproxy_tls *tls, mbedtls_pk_context *key, const uint8_t *data, size_t len)
{
#if MBEDTLS_VERSION_NUMBER >= 0x03000000
    return mbedtls_pk_parse_key(key, data, len, NULL, 0, mbedtls_ctr_drbg_random, &tls->random);
#else
    (void)tls;
    return mbedtls_pk_parse_key(key, data, len, NULL, 0);
#endif
}

/* Keys keep what they have worked out in their first operations for the next ones: RSA the constants of its modulus and
 * its blinding, which grows once more the second time. All connections share keys; so that memory has to be the common
 * one, and must be there before the first connection takes it for itself. Once for the certificates that others' are
 * verified with: the signature is wrong, but it is worked out. */
static int warm_key(struct miniproxy_tls *tls, mbedtls_pk_context *key)
{
    static const unsigned char hash[32] = "any";
    unsigned char signature[MBEDTLS_PK_SIGNATURE_MAX_SIZE];
    size_t len;
    int error = 0;
    for (unsigned i = 0; i < 2 && error == 0 && mbedtls_pk_can_do(key, MBEDTLS_PK_RSA); i++)
        error = mbedtls_pk_sign(key, MBEDTLS_MD_SHA256, hash, sizeof hash, SIGNATURE_ROOM(signature, sizeof signature),
                                &len, mbedtls_ctr_drbg_random, &tls->random);
    return error;
}

static void warm_certificates(mbedtls_x509_crt *chain)
{
    static const unsigned char hash[32] = "any";
    unsigned char signature[MBEDTLS_PK_SIGNATURE_MAX_SIZE];
    memset(signature, 1, sizeof signature);
    for (; chain != NULL; chain = chain->next) {
        size_t len = mbedtls_pk_get_len(&chain->pk);
        if (mbedtls_pk_can_do(&chain->pk, MBEDTLS_PK_RSA) && len <= sizeof signature)
            (void)mbedtls_pk_verify(&chain->pk, MBEDTLS_MD_SHA256, hash, sizeof hash, signature, len);
    }
}

/* What both sides have in common. */
static int set_defaults(struct miniproxy_tls *tls, mbedtls_ssl_config *config, int endpoint)
{
    int error = mbedtls_ssl_config_defaults(config, endpoint, MBEDTLS_SSL_TRANSPORT_STREAM, MBEDTLS_SSL_PRESET_DEFAULT);
    if (error != 0) return error;
#if MBEDTLS_VERSION_NUMBER >= 0x03000000
    mbedtls_ssl_conf_min_tls_version(config, MBEDTLS_SSL_VERSION_TLS1_2);
#else
    mbedtls_ssl_conf_min_version(config, MBEDTLS_SSL_MAJOR_VERSION_3, MBEDTLS_SSL_MINOR_VERSION_3);
#endif
#if defined MBEDTLS_SSL_RENEGOTIATION
    mbedtls_ssl_conf_renegotiation(config, MBEDTLS_SSL_RENEGOTIATION_DISABLED);
#endif
    mbedtls_ssl_conf_rng(config, mbedtls_ctr_drbg_random, &tls->random);
    mbedtls_ssl_conf_ciphersuites(config, suites);
#if defined MBEDTLS_SSL_ALPN
    return mbedtls_ssl_conf_alpn_protocols(config, protocols);
#else
    return 0;
#endif
}

#if defined MBEDTLS_SSL_TICKET_C

/* The key of tickets is replaced in the first call after its time, with memory that outlives the connection. Writing
 * leaves nothing else behind. Reading does; so a ticket that is none is read first: that replaces the key, and no more. */
static int write_ticket(void *context, const mbedtls_ssl_session *session, unsigned char *begin,
                        const unsigned char *end, size_t *len, uint32_t *lifetime)
{
    struct miniproxy_tls_keys *keys = context;
    struct miniproxy_tls_region *region = region_now;
    int error;
    enter(tls_now, &keys->region);
    error = mbedtls_ssl_ticket_write(&keys->tickets, session, begin, end, len, lifetime);
    enter(tls_now, region);
    return error;
}

static int parse_ticket(void *context, mbedtls_ssl_session *session, unsigned char *data, size_t len)
{
    struct miniproxy_tls_keys *keys = context;
    struct miniproxy_tls_region *region = region_now;
    unsigned char none[64] = {0};
    enter(tls_now, &keys->region);
    (void)mbedtls_ssl_ticket_parse(&keys->tickets, session, none, sizeof none);
    enter(tls_now, region);
    return mbedtls_ssl_ticket_parse(&keys->tickets, session, data, len);
}

#endif

static int set_tickets(struct miniproxy_tls *tls, struct miniproxy_tls_keys *keys, const struct miniproxy_tls_config *c)
{
#if defined MBEDTLS_SSL_TICKET_C
    enum { TICKET_S = 86400 };
    int error;
    /* A ticket does not tell who the client was. */
    if (c->client_ca != NULL || c->psk_count > 0) return 0;
    error = mbedtls_ssl_ticket_setup(&keys->tickets, mbedtls_ctr_drbg_random, &tls->random, MBEDTLS_CIPHER_AES_256_GCM,
                                     TICKET_S);
    if (error != 0) return error;
    mbedtls_ssl_conf_session_tickets_cb(&keys->server, write_ticket, parse_ticket, keys);
#else
    (void)tls, (void)keys, (void)c;
#endif
    return 0;
}

static const char *set_server(struct miniproxy_tls *tls, struct miniproxy_tls_keys *keys,
                              const struct miniproxy_tls_config *c, int *error)
{
    if (c->cert != NULL) {
        if ((*error = parse_certificates(&keys->cert, c->cert, c->cert_len)) != 0) return "certificate";
        if ((*error = parse_key(tls, &keys->key, c->key, c->key_len)) != 0) return "key";
        if ((*error = warm_key(tls, &keys->key)) != 0) return "key";
        if ((*error = mbedtls_ssl_conf_own_cert(&keys->server, &keys->cert, &keys->key)) != 0) return "memory";
    }
#if defined MBEDTLS_SSL_ASYNC_PRIVATE
    mbedtls_ssl_conf_async_private_cb(&keys->server, start_signature, NULL, go_on_with_signature, end_signature, NULL);
#endif
    mbedtls_ssl_conf_authmode(&keys->server, MBEDTLS_SSL_VERIFY_NONE);
    if (c->client_ca != NULL) {
        if ((*error = parse_certificates(&keys->client_ca, c->client_ca, c->client_ca_len)) != 0) return "client_ca";
        warm_certificates(&keys->client_ca);
        mbedtls_ssl_conf_ca_chain(&keys->server, &keys->client_ca, NULL);
        mbedtls_ssl_conf_authmode(&keys->server, MBEDTLS_SSL_VERIFY_REQUIRED);
    }
#if defined MBEDTLS_KEY_EXCHANGE_SOME_PSK_ENABLED || defined MBEDTLS_SSL_HANDSHAKE_WITH_PSK_ENABLED
    if (c->psk_count > 0) mbedtls_ssl_conf_psk_cb(&keys->server, find_psk, tls);
#endif
    return (*error = set_tickets(tls, keys, c)) != 0 ? "memory" : NULL;
}

static const char *set_client(struct miniproxy_tls *tls, struct miniproxy_tls_keys *keys,
                              const struct miniproxy_tls_config *c, int *error)
{
#if defined MBEDTLS_SSL_CLI_C
    if ((*error = set_defaults(tls, &keys->client, MBEDTLS_SSL_IS_CLIENT)) != 0) return "memory";
    if (c->ca == NULL) return NULL;
    if ((*error = parse_certificates(&keys->ca, c->ca, c->ca_len)) != 0) return "ca";
    warm_certificates(&keys->ca);
#if defined MBEDTLS_SSL_PROTO_TLS1_3
    mbedtls_ssl_conf_sig_algs(&keys->client, signatures);
#endif
    mbedtls_ssl_conf_ca_chain(&keys->client, &keys->ca, NULL);
    mbedtls_ssl_conf_authmode(&keys->client, MBEDTLS_SSL_VERIFY_REQUIRED);
#else
    (void)tls, (void)keys, (void)c, (void)error;
#endif
    return NULL;
}

static const char *set_keys(struct miniproxy_tls *tls, struct miniproxy_tls_keys *keys,
                            const struct miniproxy_tls_config *c, int *error)
{
    const char *wrong = NULL;
    enter(tls, &keys->region);
    mbedtls_ssl_config_init(&keys->server);
    mbedtls_ssl_config_init(&keys->client);
    mbedtls_x509_crt_init(&keys->cert);
    mbedtls_x509_crt_init(&keys->client_ca);
    mbedtls_x509_crt_init(&keys->ca);
    mbedtls_pk_init(&keys->key);
#if defined MBEDTLS_SSL_TICKET_C
    mbedtls_ssl_ticket_init(&keys->tickets);
#endif
    if ((*error = set_defaults(tls, &keys->server, MBEDTLS_SSL_IS_SERVER)) != 0) return "memory";
    if (c->listeners != 0) wrong = set_server(tls, keys, c, error);
    return wrong != NULL ? wrong : set_client(tls, keys, c, error);
}

const char *miniproxy_tls_init(struct miniproxy_tls *tls, const struct miniproxy_tls_config *config, int *error)
{
    int nobody;
    if (error == NULL) error = &nobody;
    tls->config = *config;
    if (tls->config.handshake_ms == 0) tls->config.handshake_ms = MINIPROXY_TLS_HANDSHAKE_MS;
#if !MINIPROXY_TLS_HEAP
    for (unsigned i = 0; i < MINIPROXY_TLS_GENERATIONS; i++)
        region_start(&tls->keys[i].region, tls->keys[i].arena, sizeof tls->keys[i].arena);
    mbedtls_platform_set_calloc_free(take_memory, give_memory);
#endif
#if defined MBEDTLS_ECP_RESTARTABLE
    mbedtls_ecp_set_max_ops(MINIPROXY_TLS_SLICE_OPS);
#endif
    enter(tls, &tls->keys[0].region); /* what of this lasts is never given back */
    mbedtls_ctr_drbg_init(&tls->random);
    if ((*error = mbedtls_ctr_drbg_seed(&tls->random, seed, NULL, NULL, 0)) != 0) return "random";
#if defined MBEDTLS_PSA_CRYPTO_C
    if ((*error = (int)psa_crypto_init()) != 0) return "random";
#endif
    return set_keys(tls, &tls->keys[0], &tls->config, error);
}

const char *miniproxy_tls_renew(struct miniproxy_tls *tls, const struct miniproxy_tls_config *config, int *error)
{
    struct miniproxy_tls_config c = tls->config;
    uint8_t next = 0;
    const char *wrong;
    int nobody;
    if (error == NULL) error = &nobody;
    *error = 0;
    while (next < MINIPROXY_TLS_GENERATIONS && (next == tls->newest || tls->keys[next].sessions > 0)) next++;
    if (next == MINIPROXY_TLS_GENERATIONS) return "busy";
    c.cert = config->cert;
    c.cert_len = config->cert_len;
    c.key = config->key;
    c.key_len = config->key_len;
    c.client_ca = config->client_ca;
    c.client_ca_len = config->client_ca_len;
    c.ca = config->ca;
    c.ca_len = config->ca_len;
    wrong = set_keys(tls, &tls->keys[next], &c, error);
    if (wrong != NULL) {
        free_keys(tls, &tls->keys[next]);
        return wrong;
    }
    tls->config = c;
    if (tls->keys[tls->newest].sessions == 0) free_keys(tls, &tls->keys[tls->newest]);
    tls->newest = next;
    for (unsigned i = 0; i < tls->used; i++) {
        struct miniproxy_tls_session *s = &tls->sessions[i];
        if (s->conn != NULL && s->state != STATE_CONNECTING && s->state != STATE_HANDSHAKE) take_newest(s);
    }
    return NULL;
}

bool miniproxy_tls_is_renewing(const struct miniproxy_tls *tls)
{
    for (unsigned i = 0; i < MINIPROXY_TLS_GENERATIONS; i++)
        if (i != tls->newest && tls->keys[i].sessions > 0) return true;
    return false;
}

size_t miniproxy_tls_peak(const struct miniproxy_tls *tls)
{
    size_t peak = tls->peak;
    for (unsigned i = 0; i < tls->used; i++)
        if (tls->sessions[i].conn != NULL && tls->sessions[i].region.peak > peak) peak = tls->sessions[i].region.peak;
    return peak;
}

size_t miniproxy_tls_common_peak(const struct miniproxy_tls *tls)
{
    size_t peak = 0;
    for (unsigned i = 0; i < MINIPROXY_TLS_GENERATIONS; i++)
        if (tls->keys[i].region.peak > peak) peak = tls->keys[i].region.peak;
    return peak;
}

unsigned miniproxy_tls_active(const struct miniproxy_tls *tls)
{
    return tls->active;
}

void miniproxy_tls_end(struct miniproxy_tls *tls)
{
    for (unsigned i = 0; i < MINIPROXY_TLS_GENERATIONS; i++) free_keys(tls, &tls->keys[i]);
    mbedtls_ctr_drbg_free(&tls->random);
}
